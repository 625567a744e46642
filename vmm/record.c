/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/file.h"

static int begin(struct journal_line *l, char now[JOURNAL_TIME])
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	journal_time(t, now);
	return journal_begin(l);
}

int record_create(const struct rundir *vm, const char *image, char *const *argv,
		  const char *scratch, bool remove, struct err *e)
{
	struct journal_line l;
	char now[JOURNAL_TIME];
	int r = begin(&l, now);

	if (r)
		return err_set(e, ENOMEM, "out of memory");
	json_put_string(&l.w, "image", image);
	json_put_strings(&l.w, "command", (const char *const *)argv);
	json_put_string(&l.w, "scratch", scratch);
	json_put_bool(&l.w, "remove", remove);
	json_put_string(&l.w, "created", now);
	r = journal_add(&l, vm, RUNDIR_RECORD);
	return r ? err_set(e, -r, "cannot write the record of '%s': %s", vm->id, strerror(-r)) : 0;
}

/* A line with a time, and a status unless it is negative. */
static void add_event(const struct rundir *vm, const char *name, int status)
{
	struct journal_line l;
	char now[JOURNAL_TIME];

	if (begin(&l, now))
		return;
	json_put_string(&l.w, name, now);
	if (status >= 0)
		json_put_int(&l.w, "status", status);
	journal_add(&l, vm, RUNDIR_RECORD);
}

void record_started(const struct rundir *vm)
{
	add_event(vm, "started", -1);
}

void record_exited(const struct rundir *vm, int status)
{
	add_event(vm, "exited", status);
}

int record_open(const struct rundir *vm, struct err *e)
{
	int fd = openat(vm->dir, RUNDIR_RECORD, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? err_sys(e, "the record of '%s'", vm->id) : fd;
}

bool record_is_container(const struct rundir *vm)
{
	struct err ignored;
	int fd = record_open(vm, &ignored);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int copy_time(const struct json *v, const char *name, char to[JOURNAL_TIME], struct err *e)
{
	const char *text = NULL;
	int r = json_string(v, name, &text, e);

	if (text)
		snprintf(to, JOURNAL_TIME, "%s", text);
	return r;
}

/* The first line has what does not change. */
static int take_first(struct record *r, const char *line, size_t len, struct err *e)
{
	int error = json_parse(&r->doc, line, len, RUNDIR_RECORD, e);

	if (!error)
		error = json_required(r->doc.root, "image", e);
	if (!error)
		error = json_required(r->doc.root, "command", e);
	if (!error)
		error = json_string(r->doc.root, "image", &r->image, e);
	if (!error)
		error = json_array(r->doc.root, "command", &r->command, e);
	if (!error)
		error = json_string(r->doc.root, "scratch", &r->scratch, e);
	if (!error)
		error = json_bool(r->doc.root, "remove", &r->remove, e);
	if (!error)
		error = copy_time(r->doc.root, "created", r->created, e);
	return error;
}

static int take_event(struct record *r, const char *line, size_t len, struct err *e)
{
	struct json_doc doc;
	int64_t status = r->status;
	int error = json_parse(&doc, line, len, RUNDIR_RECORD, e);

	if (error)
		return error;
	error = copy_time(doc.root, "started", r->started, e);
	if (!error)
		error = copy_time(doc.root, "exited", r->exited, e);
	if (!error)
		error = json_int(doc.root, "status", 0, 255, &status, e);
	r->status = (int)status;
	json_free(&doc);
	return error;
}

int record_read(int fd, struct record *r, struct err *e)
{
	char *text;
	size_t len;
	int error = file_read(fd, "a container's record", JSON_SIZE_MAX, &text, &len, e);

	*r = (struct record){.container = true, .status = -1};
	if (error)
		return error;
	/* A line without its end is being written. */
	for (char *p = text, *end = text + len, *nl;
	     !error && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1)
		error = r->image ? take_event(r, p, (size_t)(nl - p), e)
				 : take_first(r, p, (size_t)(nl - p), e);
	free(text);
	if (!error && !r->image)
		error = err_set(e, EINVAL, "a record without its beginning");
	if (error)
		record_free(r);
	return error;
}

void record_free(struct record *r)
{
	json_free(&r->doc);
	*r = (struct record){.status = -1};
}

int record_load(const struct rundir *vm, struct record *r, struct err *e)
{
	int fd = record_open(vm, e), error;

	*r = (struct record){.status = -1};
	if (fd == -ENOENT) {
		*e->text = 0;
		return 0;
	}
	if (fd < 0)
		return fd;
	error = record_read(fd, r, e);
	close(fd);
	return error;
}
