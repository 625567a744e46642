/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands for containers that run in the background, or have: logs, wait, inspect, rm.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/record.h"
#include "vmm/util.h"

#define WAIT_MS 1000000000

/* Opens a container, running or ended, and its record. */
static int open_container(struct rundir *vm, const char *id, bool *running, int *record,
			  struct err *e)
{
	struct err why;
	int r = rundir_open_any(vm, id, running, e);

	if (r)
		return r;
	*record = record_open(vm, &why);
	if (*record >= 0)
		return 0;
	rundir_close(vm);
	return *record == -ENOENT ? err_set(e, EINVAL, "VM '%s' is not a container's: this is for what 'uvm run' has started", id)
				  : err_set(e, -*record, "%s", why.text);
}

/* --- logs --- */

#define LINE_MAX_SHOWN 65536u /* bytes; a line that is longer comes in parts */

struct logs_config {
	bool follow, json;
	uint32_t tail;
	char line[LINE_MAX_SHOWN + 1]; /* for JSON, the beginning of one whose end has not come */
	size_t len;
};

#define TAIL_ALL UINT32_MAX

static void logs_defaults(void *to)
{
	((struct logs_config *)to)->tail = TAIL_ALL;
}

static const struct opt logs_options[] = {
	{"follow", 'f', NULL, "go on until the container has ended", opt_set_flag,
	 offsetof(struct logs_config, follow)},
	{"json", 0, NULL, "print a JSON object for each line", opt_set_flag, offsetof(struct logs_config, json)},
	{"tail", 'n', "N", "only the last N lines", opt_set_u32, offsetof(struct logs_config, tail)},
	{0},
};

static int open_log(const struct rundir *vm, const char *name)
{
	return openat(vm->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* What is in c->line; partial: its end has not come. The file says neither when a line was written nor to
 * which stream.
 */
static void print_line(struct logs_config *c, bool partial)
{
	struct json_writer w = {.out = stdout};

	for (char *p = c->line; (p = memchr(p, 0, c->len - (size_t)(p - c->line)));)
		*p = '\xff'; /* shown as what is no text */
	c->line[c->len] = 0;
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "time", NULL);
	json_put_string(&w, "stream", NULL);
	json_put_string(&w, "text", c->line);
	json_put_bool(&w, "partial", partial);
	json_put_close(&w);
	putchar('\n');
	c->len = 0;
}

static void print_lines(struct logs_config *c, const char *data, size_t n)
{
	while (n) {
		const char *end = memchr(data, '\n', n);
		size_t room = LINE_MAX_SHOWN - c->len, part = MIN(end ? (size_t)(end - data) : n, room);
		bool ends = end && part == (size_t)(end - data);

		memcpy(c->line + c->len, data, part);
		c->len += part;
		if (ends || c->len == LINE_MAX_SHOWN)
			print_line(c, !ends);
		data += part + ends;
		n -= part + ends;
	}
}

static int print_some(struct logs_config *c, const char *data, size_t n)
{
	if (!c->json)
		return write_all(STDOUT_FILENO, data, n) ? -EPIPE : 0;
	print_lines(c, data, n);
	return fflush(stdout) ? -EPIPE : 0;
}

/* Prints what there is from here on. Returns 0 or -errno. */
static int print_rest(struct logs_config *c, int fd)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (print_some(c, buf, (size_t)n))
			return -EPIPE;
	return n < 0 ? -errno : 0;
}

/* Counts, from the file's end, the newlines that are behind the last *lines lines, and sets the
 * position there; *lines becomes how many lines more are wanted before that.
 */
static void seek_tail(int fd, uint32_t *lines)
{
	char buf[4096];
	off_t end = lseek(fd, 0, SEEK_END), at = end;

	while (at > 0) {
		size_t n = (size_t)MIN(at, (off_t)sizeof(buf));

		at -= (off_t)n;
		if (pread_all(fd, buf, n, at))
			break;
		for (size_t i = n; i-- > 0;) {
			if (buf[i] != '\n' || at + (off_t)i + 1 == end)
				continue;
			if (!--*lines) {
				lseek(fd, at + (off_t)i + 1, SEEK_SET);
				return;
			}
		}
	}
	if (end > 0)
		--*lines; /* the first one */
	lseek(fd, 0, SEEK_SET);
}

/* The file before, if the last one has fewer lines than are wanted. */
static int print_logs(struct logs_config *c, const struct rundir *vm, int fd)
{
	int old = open_log(vm, RUNDIR_OUTPUT ".1"), r = 0;
	uint32_t tail = c->tail, lines = tail;

	if (tail != TAIL_ALL && lines)
		seek_tail(fd, &lines);
	if (!tail)
		lseek(fd, 0, SEEK_END);
	if (old >= 0 && lines) {
		if (tail != TAIL_ALL)
			seek_tail(old, &lines);
		r = print_rest(c, old);
	}
	if (old >= 0)
		close(old);
	return r ? r : print_rest(c, fd);
}

/* Whether the file at fd is the one of that name no more. */
static bool rotated(const struct rundir *vm, int fd)
{
	struct stat ours, now;

	return !fstat(fd, &ours) && !fstatat(vm->dir, RUNDIR_OUTPUT, &now, AT_SYMLINK_NOFOLLOW) &&
	       ours.st_ino != now.st_ino;
}

/* The VM's end closes `control`. Looks ten times a second: a file tells nobody that it grows. */
static int follow(struct logs_config *c, const struct rundir *vm, int control, int *fd)
{
	bool over = false;
	int r = 0;

	while (!r && !over) {
		over = control < 0 || client_wait_end(control, 100);
		r = print_rest(c, *fd);
		if (!r && rotated(vm, *fd)) {
			int next = open_log(vm, RUNDIR_OUTPUT);

			r = print_rest(c, *fd); /* what came between the two */
			if (next >= 0) {
				dup2(next, *fd);
				close(next);
				over = false;
			}
		}
	}
	return r;
}

static int run_logs(void *cfg, int argc, char **argv, struct err *e)
{
	struct logs_config *c = cfg;
	struct rundir vm;
	bool running;
	int record, fd, control = -1, r;

	if (argc != 1)
		return cmd_usage(&cmd_logs, e);
	if (open_container(&vm, argv[0], &running, &record, e))
		return EXIT_FAIL;
	close(record);
	fd = open_log(&vm, RUNDIR_OUTPUT);
	if (fd < 0) {
		err_set(e, 0, "container '%s' runs in the foreground: its output is there", vm.id);
		rundir_close(&vm);
		return EXIT_FAIL;
	}
	if (c->follow && running)
		control = client_control(&vm, e);
	r = print_logs(c, &vm, fd);
	if (!r && c->follow)
		r = follow(c, &vm, control, &fd);
	if (c->len)
		print_line(c, true);
	if (control >= 0)
		close(control);
	close(fd);
	rundir_close(&vm);
	*e->text = 0;
	if (r && r != -EPIPE)
		err_set(e, 0, "cannot read the output of '%s': %s", argv[0], strerror(-r));
	return r && r != -EPIPE ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_logs = {
	.name = "logs",
	.args = "ID",
	.summary = "Show what a container in the background has written",
	.options = logs_options,
	.notes = "Standard output and error are one. Of a long output the beginning is dropped: at\n"
		 "least the last 8 MiB are there. With --json each line is an object with its text; time and\n"
		 "stream are null, since neither is known; partial is true for a line whose end is not\n"
		 "there, or is in the next object because it is long.\n",
	.examples = "uvm logs web\n"
		    "uvm logs -f --tail 20 web\n",
	.run = run_logs,
	.cfg_size = sizeof(struct logs_config),
	.defaults = logs_defaults,
};

/* --- wait --- */

struct wait_config {
	bool json;
	struct json_writer out;
};

static const struct opt wait_options[] = {
	{"json", 0, NULL, "print a JSON array", opt_set_flag, offsetof(struct wait_config, json)},
	{0},
};

static void print_status(struct wait_config *c, const char *id, int status)
{
	if (!c->json) {
		printf("%d\n", status);
		return;
	}
	json_put_open(&c->out, NULL, '{');
	json_put_string(&c->out, "id", id);
	json_put_int(&c->out, "status", status);
	json_put_close(&c->out);
}

static int wait_one(struct wait_config *c, const char *id, struct err *e)
{
	struct rundir vm;
	struct record rec;
	bool running;
	int record, fd, r;

	if (open_container(&vm, id, &running, &record, e))
		return EXIT_FAIL;
	if (running) {
		fd = client_control(&vm, e); /* gone meanwhile: then its record is complete */
		while (fd >= 0 && !client_wait_end(fd, WAIT_MS))
			;
		if (fd >= 0)
			close(fd);
	}
	r = record_read(record, &rec, e);
	if (!r && rec.status < 0)
		r = err_set(e, ECHILD, "container '%s' was killed with its monitor; nobody knows its status",
			    id);
	else if (!r)
		print_status(c, id, rec.status);
	if (!r)
		*e->text = 0;
	record_free(&rec);
	close(record);
	rundir_close(&vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_wait(void *cfg, int argc, char **argv, struct err *e)
{
	struct wait_config *c = cfg;
	int status = EXIT_OK;

	if (argc < 1)
		return cmd_usage(&cmd_wait, e);
	c->out.out = stdout;
	if (c->json)
		json_put_open(&c->out, NULL, '[');
	for (int i = 0; i < argc && !status; i++)
		status = wait_one(c, argv[i], e);
	if (c->json) {
		json_put_close(&c->out);
		putchar('\n');
	}
	return status;
}

const struct cmd cmd_wait = {
	.name = "wait",
	.args = "ID...",
	.summary = "Wait until containers have ended, and print their exit statuses",
	.options = wait_options,
	.examples = "uvm wait job\n"
		    "uvm wait job1 job2\n",
	.run = run_wait,
	.cfg_size = sizeof(struct wait_config),
};

/* --- inspect --- */

/* What the monitor says, as members. */
static void put_status(struct json_writer *w, const char *answer)
{
	static const struct {
		const char *key;
		bool number;
	} keys[] = {{"pid", true},    {"agent", false},	   {"cpus", true},
		    {"memory", true}, {"uptime_ms", true}, {"kernel", false},
		    {"console", false}, {"sandbox", false}, {"jail", false}, {"landlock", false}, {"seccomp", false},
		    {"uid", true},    {"gid", true}};
	char value[4096];

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		client_value(answer, keys[i].key, value, sizeof(value));
		if (keys[i].number)
			json_put_uint(w, keys[i].key, strtoull(value, NULL, 10));
		else
			json_put_string(w, keys[i].key, value);
	}
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

static void put_record(struct json_writer *w, const struct record *rec)
{
	json_put_string(w, "image", rec->image);
	json_put(w, "command", rec->command);
	json_put_string(w, "scratch", rec->scratch);
	json_put_bool(w, "remove", rec->remove);
	json_put_string(w, "created", or_null(rec->created));
	json_put_string(w, "started", or_null(rec->started));
	json_put_string(w, "exited", or_null(rec->exited));
	if (rec->status >= 0)
		json_put_int(w, "status", rec->status);
	else
		json_put_string(w, "status", NULL);
}

static void print_all(const struct rundir *vm, bool running, const char *answer,
		      const struct record *rec)
{
	struct json_writer w = {.out = stdout};
	char path[64], dir[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", vm->dir);
	n = readlink(path, dir, sizeof(dir) - 1);
	dir[MAX(n, 0)] = 0;
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "id", vm->id);
	json_put_string(&w, "state", running ? "running" : "exited");
	json_put_string(&w, "directory", dir);
	if (running)
		put_status(&w, answer);
	if (rec->container)
		put_record(&w, rec);
	json_put_close(&w);
	putchar('\n');
}

static int run_inspect(void *cfg, int argc, char **argv, struct err *e)
{
	char answer[CONTROL_ANSWER] = "";
	struct record rec = {.status = -1};
	struct rundir vm;
	bool running;
	int fd = -1, r;

	(void)cfg;
	if (argc != 1)
		return cmd_usage(&cmd_inspect, e);
	if (rundir_open_any(&vm, argv[0], &running, e))
		return EXIT_FAIL;
	r = record_load(&vm, &rec, e);
	if (!r && running) {
		fd = client_control(&vm, e);
		r = fd < 0 ? fd : client_request(fd, "status", answer, sizeof(answer), e);
	}
	if (!r)
		print_all(&vm, running, answer, &rec);
	record_free(&rec);
	if (fd >= 0)
		close(fd);
	rundir_close(&vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_inspect = {
	.name = "inspect",
	.args = "ID",
	.summary = "Tell all about a container or a VM, as JSON",
	.examples = "uvm inspect web\n",
	.run = run_inspect,
};

/* --- rm --- */

struct rm_config {
	bool force;
};

static const struct opt rm_options[] = {
	{"force", 'f', NULL, "kill it if it runs", opt_set_flag, offsetof(struct rm_config, force)},
	{0},
};

static int remove_one(const char *id, bool force, struct err *e)
{
	struct rundir vm;
	bool running;
	int r = rundir_open_any(&vm, id, &running, e);

	if (r)
		return r;
	if (running && force) {
		r = cmd_kill_vm(&vm, e);
		rundir_close(&vm);
		if (r)
			return -EBUSY;
		/* Without a record that is to be kept nothing is left. */
		if (rundir_open_any(&vm, id, &running, e) == -ENOENT) {
			*e->text = 0;
			return 0;
		}
	}
	if (!running)
		return rundir_forget(&vm, e);
	rundir_close(&vm);
	return err_set(e, EBUSY, "'%s' is running; stop it first, or use --force", id);
}

static int run_rm(void *cfg, int argc, char **argv, struct err *e)
{
	struct rm_config *c = cfg;

	if (argc < 1)
		return cmd_usage(&cmd_rm, e);
	for (int i = 0; i < argc; i++)
		if (remove_one(argv[i], c->force, e))
			return EXIT_FAIL;
	return EXIT_OK;
}

const struct cmd cmd_rm = {
	.name = "rm",
	.args = "ID...",
	.summary = "Remove what is left of containers",
	.options = rm_options,
	.examples = "uvm rm job\n"
		    "uvm rm -f web\n",
	.run = run_rm,
	.cfg_size = sizeof(struct rm_config),
};
