/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to VMs and containers, as it happens.
 *
 * Theory of operation. Every VM writes a journal into its run directory (vmm/journal.h). inotify tells
 * of directories that come, and of journals that come and grow; what is open can be read to its end
 * also when it has been removed. A VM whose process was killed has written no end: a pidfd tells of
 * that, and the event is made here. No VM is asked for anything, so none can hold this up.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/journal.h"
#include "vmm/rundir.h"
#include "vmm/util.h"

#define VMS_MAX 4096 /* that are watched at a time */

struct seen {
	struct rundir vm; /* dir: the directory, or -1 when this place is free */
	ino_t inode;		   /* of the directory: who comes later may have the same name */
	int dir_watch, file_watch; /* of inotify, or -1 */
	int journal;		   /* or -1: there is none yet */
	int process;		   /* pidfd, or -1 */
	bool ended;		   /* its last event was read */
	char line[JOURNAL_LINE];
	size_t len;
};

struct events_config {
	bool json, no_stream;
	uint64_t since; /* seconds */
	const char *only; /* this VM; NULL: all */

	uint64_t from_ns; /* events before are not printed */
	int root, inotify, root_watch;
	struct seen **vm; /* a table that only grows */
	size_t vms;
};

static const struct opt events_options[] = {
	{"json", 0, NULL, "print lines of JSON", opt_set_flag, offsetof(struct events_config, json)},
	{"since", 0, "DURATION", "also what has happened since then (10m, 24h)", opt_set_duration,
	 offsetof(struct events_config, since)},
	{"no-stream", 0, NULL, "print what has happened so far, and end", opt_set_flag,
	 offsetof(struct events_config, no_stream)},
	{0},
};

/* --- printing --- */

static void print_text(const char *text)
{
	char plain[1024];

	snprintf(plain, sizeof(plain), "%s", text);
	text_plain(plain);
	fputs(plain, stdout);
}

/* "time id event key=value ...". An exit's reason may quote the guest, and all of it may be a monitor's that has
 * been taken over.
 */
static void print_line(const struct json *root)
{
	const char *time = "?", *id = "?", *event = "?";
	struct err ignored;

	json_string(root, "time", &time, &ignored);
	json_string(root, "id", &id, &ignored);
	json_string(root, "event", &event, &ignored);
	print_text(time);
	putchar(' ');
	print_text(id);
	putchar(' ');
	print_text(event);
	json_each(v, root) {
		if (!strncmp(v->key, "time", 4) || !strcmp(v->key, "id") || !strcmp(v->key, "event"))
			continue;
		if (v->type != JSON_INTEGER && v->type != JSON_STRING)
			continue;
		putchar(' ');
		print_text(v->key);
		if (v->type == JSON_INTEGER) {
			printf("=%s%" PRIu64, v->negative ? "-" : "", v->magnitude);
			continue;
		}
		fputs("=\"", stdout);
		print_text(v->text);
		putchar('"');
	}
	putchar('\n');
}

/* A line that is none is of no interest: the journal of another version. */
static void take_line(struct events_config *c, struct seen *s, const char *line, size_t len)
{
	const char *event = "";
	struct json_doc doc;
	uint64_t time = 0;
	struct err ignored;

	if (json_parse(&doc, line, len, RUNDIR_JOURNAL, &ignored))
		return;
	json_uint(doc.root, "time_ns", UINT64_MAX, &time, &ignored);
	json_string(doc.root, "event", &event, &ignored);
	s->ended |= !strcmp(event, "exit");
	if (time >= c->from_ns) {
		if (c->json)
			printf("%.*s\n", (int)len, line);
		else
			print_line(doc.root);
	}
	json_free(&doc);
}

/* Reads what has been added. */
static void read_journal(struct events_config *c, struct seen *s)
{
	ssize_t n;

	while (s->journal >= 0 &&
	       (n = read(s->journal, s->line + s->len, sizeof(s->line) - s->len)) > 0) {
		char *end, *at = s->line;

		s->len += (size_t)n;
		while ((end = memchr(at, '\n', s->len - (size_t)(at - s->line)))) {
			take_line(c, s, at, (size_t)(end - at));
			at = end + 1;
		}
		s->len -= (size_t)(at - s->line);
		memmove(s->line, at, s->len);
		if (s->len == sizeof(s->line))
			s->len = 0; /* longer than any line of ours */
	}
	fflush(stdout);
}

/* --- VMs that come and go --- */

static void open_journal(struct events_config *c, struct seen *s)
{
	char path[80];

	if (s->journal >= 0)
		return;
	s->journal = openat(s->vm.dir, RUNDIR_JOURNAL, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->journal < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->journal);
	s->file_watch = inotify_add_watch(c->inotify, path, IN_MODIFY);
}

/* Its process, as soon as its number is there. */
static void open_process(struct seen *s)
{
	struct err ignored;
	pid_t pid;

	if (s->process >= 0)
		return;
	pid = rundir_pid(&s->vm, &ignored);
	if (pid > 0)
		s->process = (int)syscall(SYS_pidfd_open, pid, 0);
}

static void forget(struct events_config *c, struct seen *s)
{
	if (s->file_watch >= 0)
		inotify_rm_watch(c->inotify, s->file_watch);
	if (s->dir_watch >= 0)
		inotify_rm_watch(c->inotify, s->dir_watch);
	if (s->journal >= 0)
		close(s->journal);
	if (s->process >= 0)
		close(s->process);
	close(s->vm.dir);
	s->vm.dir = -1;
}

static struct seen *free_place(struct events_config *c)
{
	struct seen **more;

	for (size_t i = 0; i < c->vms; i++)
		if (c->vm[i]->vm.dir < 0)
			return c->vm[i];
	more = c->vms < VMS_MAX ? realloc(c->vm, (c->vms + 1) * sizeof(*more)) : NULL;
	if (!more)
		return NULL;
	c->vm = more;
	more[c->vms] = malloc(sizeof(**more));
	return more[c->vms] ? more[c->vms++] : NULL;
}

/* The one of this name that is watched, and has this inode, unless that is 0. */
static struct seen *find(struct events_config *c, const char *id, ino_t inode)
{
	for (size_t i = 0; i < c->vms; i++) {
		struct seen *s = c->vm[i];

		if (s->vm.dir >= 0 && !strcmp(s->vm.id, id) && (!inode || s->inode == inode))
			return s;
	}
	return NULL;
}

/* A directory is there: reads its journal, and watches it. */
static void look_at(struct events_config *c, const char *id)
{
	struct seen *s;
	struct stat st;
	char path[80];
	int dir;

	if (!rundir_id_valid(id) || (c->only && strcmp(id, c->only)))
		return;
	dir = openat(c->root, id, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	s = dir < 0 || fstat(dir, &st) || find(c, id, st.st_ino) ? NULL : free_place(c);
	if (!s) {
		if (dir >= 0)
			close(dir);
		return;
	}
	*s = (struct seen){.vm = {.root = c->root, .dir = dir, .lock = -1},
			   .inode = st.st_ino,
			   .dir_watch = -1,
			   .file_watch = -1,
			   .journal = -1,
			   .process = -1};
	strcpy(s->vm.id, id);
	/* Watched before it is looked for: so it is found in any case. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	s->dir_watch = inotify_add_watch(c->inotify, path, IN_CREATE | IN_ONLYDIR);
	open_journal(c, s);
	read_journal(c, s);
	open_process(s);
	if (s->ended)
		forget(c, s);
}

/* Its process has ended; if that has not said so, its end was none of its own. */
static void ended(struct events_config *c, struct seen *s)
{
	struct timespec now;
	char text[JOURNAL_TIME], line[JOURNAL_LINE];
	int n;

	open_journal(c, s);
	read_journal(c, s);
	if (!s->ended) {
		clock_gettime(CLOCK_REALTIME, &now);
		journal_time(now, text);
		n = snprintf(line, sizeof(line),
			     "{\"time\":\"%s\",\"time_ns\":%" PRIu64
			     ",\"id\":\"%s\",\"event\":\"exit\",\"status\":-1,"
			     "\"reason\":\"its process was killed\"}",
			     text, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
			     s->vm.id);
		take_line(c, s, line, (size_t)n);
		fflush(stdout);
	}
	forget(c, s);
}

static void take_event(struct events_config *c, const struct inotify_event *ev)
{
	if (ev->wd == c->root_watch) {
		struct seen *gone = ev->mask & IN_DELETE ? find(c, ev->name, 0) : NULL;

		if (gone)
			ended(c, gone);
		else if (ev->mask & IN_CREATE)
			look_at(c, ev->name);
		return;
	}
	for (size_t i = 0; i < c->vms; i++) {
		struct seen *s = c->vm[i];

		if (s->vm.dir < 0 || (ev->wd != s->dir_watch && ev->wd != s->file_watch))
			continue;
		open_journal(c, s);
		open_process(s);
		read_journal(c, s);
		if (s->ended)
			forget(c, s);
		return;
	}
}

static int take_events(struct events_config *c, struct err *e)
{
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n = read(c->inotify, buf, sizeof(buf));

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_sys(e, "inotify");
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *ev = (const void *)(buf + at);

		take_event(c, ev);
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
	return 0;
}

static int turn(struct events_config *c, struct err *e)
{
	struct pollfd *p = calloc(c->vms + 1, sizeof(*p));
	size_t n = c->vms;
	int r = 0;

	if (!p)
		return err_set(e, ENOMEM, "out of memory");
	p[n] = (struct pollfd){.fd = c->inotify, .events = POLLIN};
	for (size_t i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = c->vm[i]->vm.dir < 0 ? -1 : c->vm[i]->process,
				       .events = POLLIN};
	if (poll(p, n + 1, -1) < 0 && errno != EINTR)
		r = err_sys(e, "poll");
	/* What was written before the end comes before it. */
	if (!r && p[n].revents)
		r = take_events(c, e);
	for (size_t i = 0; i < n && !r; i++)
		if (p[i].revents && c->vm[i]->vm.dir >= 0 && c->vm[i]->process == p[i].fd)
			ended(c, c->vm[i]);
	free(p);
	return r;
}

static int visit(void *ctx, const char *id)
{
	look_at(ctx, id);
	return 0;
}

static int begin(struct events_config *c, struct err *e)
{
	struct timespec now;
	char path[64];
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	c->from_ns = c->since < (uint64_t)now.tv_sec ? ns - c->since * 1000000000u : 0;
	if (c->no_stream && !c->since)
		c->from_ns = 0;
	c->root = rundir_open_all(e);
	if (c->root < 0)
		return c->root;
	c->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (c->inotify < 0)
		return err_sys(e, "inotify");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->root);
	c->root_watch = inotify_add_watch(c->inotify, path, IN_CREATE | IN_DELETE | IN_ONLYDIR);
	if (c->root_watch < 0)
		return err_sys(e, "inotify");
	return rundir_each(true, visit, c, e);
}

static int run_events(void *cfg, int argc, char **argv, struct err *e)
{
	struct events_config *c = cfg;
	int r;

	if (argc > 1)
		return cmd_usage(&cmd_events, e);
	c->only = argc ? argv[0] : NULL;
	c->root = c->inotify = -1;
	r = begin(c, e);
	while (!r && !c->no_stream && !ferror(stdout))
		r = turn(c, e);
	for (size_t i = 0; i < c->vms; i++) {
		if (c->vm[i]->vm.dir >= 0)
			forget(c, c->vm[i]);
		free(c->vm[i]);
	}
	free(c->vm);
	if (c->inotify >= 0)
		close(c->inotify);
	if (c->root >= 0)
		close(c->root);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_events = {
	.name = "events",
	.args = "[ID]",
	.summary = "Show what happens to containers and VMs, as it happens",
	.options = events_options,
	.notes = "Events: start; ready (the agent answers); running (the container's process has begun);\n"
		 "oom (kills: processes that its memory limit has killed so far); pause; resume; snapshot\n"
		 "(paused_us); fork (fork: the new VM's id); exit (status, reason; -1: it was killed). Goes\n"
		 "on until it is interrupted. Those of the past are known while a VM runs, and of\n"
		 "containers until 'uvm rm'.\n",
	.examples = "uvm events\n"
		    "uvm events --json web\n",
	.run = run_events,
	.cfg_size = sizeof(struct events_config),
};
