/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util.h"

void journal_time(struct timespec t, char text[JOURNAL_TIME])
{
	struct tm tm;
	size_t n;

	gmtime_r(&t.tv_sec, &tm);
	n = strftime(text, JOURNAL_TIME, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, JOURNAL_TIME - n, ".%03ldZ", t.tv_nsec / 1000000);
}

int journal_begin(struct journal_line *l)
{
	*l = (struct journal_line){.text = NULL};
	l->w.out = open_memstream(&l->text, &l->size);
	if (!l->w.out)
		return -ENOMEM;
	json_put_open(&l->w, NULL, '{');
	return 0;
}

int journal_add(struct journal_line *l, const struct rundir *vm, const char *file)
{
	int fd, r;

	json_put_close(&l->w);
	fputc('\n', l->w.out);
	r = fclose(l->w.out) ? -ENOMEM : 0;
	/* A client does it, too, in a directory where a taken-over monitor may have put a fifo. */
	fd = openat(vm->dir, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (!r)
		r = fd < 0 ? -errno : write_all(fd, l->text, l->size);
	if (fd >= 0)
		close(fd);
	free(l->text);
	return r;
}

static int begin_event(struct journal_line *l, const struct rundir *vm, const char *event)
{
	char text[JOURNAL_TIME];
	struct timespec now;
	int r = journal_begin(l);

	if (r)
		return r;
	clock_gettime(CLOCK_REALTIME, &now);
	journal_time(now, text);
	json_put_string(&l->w, "time", text);
	json_put_uint(&l->w, "time_ns",
		      (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	json_put_string(&l->w, "id", vm->id);
	json_put_string(&l->w, "event", event);
	return 0;
}

static bool is_full(const struct rundir *vm)
{
	struct stat st;

	return !fstatat(vm->dir, RUNDIR_JOURNAL, &st, AT_SYMLINK_NOFOLLOW) &&
	       st.st_size > (off_t)JOURNAL_MAX;
}

void journal_event(const struct rundir *vm, const char *event)
{
	struct journal_line l;

	if (!is_full(vm) && !begin_event(&l, vm, event))
		journal_add(&l, vm, RUNDIR_JOURNAL);
}

void journal_number(const struct rundir *vm, const char *event, const char *key, uint64_t value)
{
	struct journal_line l;

	if (is_full(vm) || begin_event(&l, vm, event))
		return;
	json_put_uint(&l.w, key, value);
	journal_add(&l, vm, RUNDIR_JOURNAL);
}

void journal_text(const struct rundir *vm, const char *event, const char *key, const char *value)
{
	struct journal_line l;

	if (is_full(vm) || begin_event(&l, vm, event))
		return;
	json_put_string(&l.w, key, value);
	journal_add(&l, vm, RUNDIR_JOURNAL);
}

void journal_exit(const struct rundir *vm, int status, const char *reason)
{
	struct journal_line l;

	if (begin_event(&l, vm, "exit"))
		return;
	json_put_int(&l.w, "status", status);
	json_put_string(&l.w, "reason", reason);
	journal_add(&l, vm, RUNDIR_JOURNAL);
}
