/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a container's files comes to the host: cp and diff.
 *
 * Theory of operation. Programs of the agent's (guest/protocol.h: AGENT_EXEC_OWN) write and read a tar
 * stream; exec_run moves it through a pipe, at whose other end a thread extracts it, or makes it. The
 * guest decides what is in the stream, so it is unpacked as unpack.h has it for guests, and what goes to
 * our standard output is a new archive of what was understood of the guest's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/exec.h"
#include "vmm/json.h"
#include "vmm/log.h"
#include "vmm/pack.h"
#include "vmm/record.h"
#include "vmm/unpack.h"
#include "vmm/util.h"

#define COMPLAINTS   20		  /* of the guest's that are shown */
#define CHANGES_SIZE (64u << 20) /* bytes of a list of changes */

/* --- a program of the agent's --- */

struct own {
	struct rundir vm;
	struct exec_request rq;
	int fds[3];
	char *argv[5];
	char complaint[PATH_MAX + 128]; /* what has come of it */
	size_t len;
	unsigned int complaints;
	/* Takes standard output in place of a descriptor; or NULL. */
	int (*take)(struct own *o, const void *data, size_t len);
	void *ctx;
};

/* "ERRNO TEXT": see docs/agent-protocol.md. */
static void complain(struct own *o)
{
	char *text;
	long code = strtol(o->complaint, &text, 10);

	if (o->complaints++ < COMPLAINTS)
		log_warn("in '%s':%s: %s", o->vm.id, text,
			 code > 0 && code < 4096 ? strerror((int)code) : "?");
}

static void take_complaints(struct own *o, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (o->len < sizeof(o->complaint) - 1)
			o->complaint[o->len++] = data[i];
		if (data[i])
			continue;
		complain(o);
		o->len = 0;
	}
}

static ssize_t write_output(void *ctx, int fd, const void *data, size_t len)
{
	struct own *o = ctx;

	if (fd == o->fds[2])
		take_complaints(o, data, len);
	else if (!o->take)
		return write(fd, data, len);
	else if (o->take(o, data, len)) {
		errno = EPIPE;
		return -1;
	}
	return (ssize_t)len;
}

/* Opens the VM and readies a request for the program argv[0], in its container if it has one. */
static int own_open(struct own *o, const char *id, struct err *e)
{
	int r = rundir_open(&o->vm, id, e);

	if (r)
		return r;
	o->fds[0] = o->fds[1] = -1;
	o->fds[2] = STDERR_FILENO;
	o->rq = (struct exec_request){.argv = o->argv,
				      .flags = AGENT_EXEC_OWN,
				      .container = record_is_container(&o->vm) ? RECORD_CONTAINER : NULL,
				      .fds = o->fds,
				      .write = write_output,
				      .ctx = o};
	return 0;
}

/* Runs it. Returns 0, or -errno with the message set. */
static int own_run(struct own *o, struct err *e)
{
	int status, r = exec_run(&o->rq, client_dial_agent, &o->vm, &status, e);

	if (!r && status)
		r = err_set(e, EIO, "in '%s': not all could be done", o->vm.id);
	return r;
}

/* --- cp --- */

struct cp_config {
	bool archive, follow;

	struct own own;
	int pipe;	      /* the thread's end */
	const char *path;     /* the host's, or "-" */
	char name[NAME_MAX + 1]; /* what the source is called in the archive */
	struct unpack unpack;
	struct pack pack;
	int result; /* of the thread */
	struct err e;
};

static const struct opt cp_options[] = {
	{"archive", 'a', NULL, "keep users and groups, and set-user-ID bits", opt_set_flag,
	 offsetof(struct cp_config, archive)},
	{"follow-link", 'L', NULL, "if SRC is a symbolic link, copy what it leads to", opt_set_flag,
	 offsetof(struct cp_config, follow)},
	{0},
};

/* The path behind "ID:", which is cut off there, or NULL for a path of the host's. */
static char *remote_path(char *arg)
{
	char *colon = strchr(arg, ':');

	if (*arg == '/' || *arg == '.' || !colon || strcspn(arg, "/") < (size_t)(colon - arg))
		return NULL;
	*colon = 0;
	return colon + 1;
}

/* Whether a path stands for what is in a directory. */
static bool means_contents(const char *path)
{
	size_t len = strlen(path);

	return !len || (len >= 1 && path[len - 1] == '.' && (len == 1 || path[len - 2] == '/')) ||
	       strspn(path, "/") == len;
}

/* Cuts a path at its last part: that goes to name, and what is before is returned. */
static int split(char *path, const char **dir, char name[NAME_MAX + 1], struct err *e)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = 0;
	slash = strrchr(path, '/');
	if (snprintf(name, NAME_MAX + 1, "%s", slash ? slash + 1 : path) > NAME_MAX)
		return err_set(e, ENAMETOOLONG, "%s: the name is too long", path);
	if (!strcmp(name, ".."))
		return err_set(e, EINVAL, "'%s' has no name at its end", path);
	*dir = !slash ? "." : slash == path ? "/" : path;
	if (slash && slash != path)
		*slash = 0;
	return 0;
}

/* What the source is called where it goes to a directory: by its last part, or not at all. */
static int source_name(struct cp_config *c, const char *path, struct err *e)
{
	char copy[PATH_MAX];
	const char *dir;

	strcpy(c->name, ".");
	if (means_contents(path))
		return 0;
	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", path);
	return split(copy, &dir, c->name, e);
}

static void *extract(void *ctx)
{
	struct cp_config *c = ctx;
	char what[RUNDIR_ID_MAX + 32];

	snprintf(what, sizeof(what), "what comes of '%s'", c->own.vm.id);
	c->result = unpack_tar(&c->unpack, c->pipe, what, &c->e);
	close(c->pipe); /* and who writes to it need not go on */
	return NULL;
}

static void *rewrite(void *ctx)
{
	struct cp_config *c = ctx;
	char what[RUNDIR_ID_MAX + 32];

	snprintf(what, sizeof(what), "what comes of '%s'", c->own.vm.id);
	c->result = pack_tar(&c->pack, c->pipe, what, &c->e);
	if (!c->result)
		c->result = pack_end(&c->pack, &c->e);
	close(c->pipe);
	return NULL;
}

static void *send_files(void *ctx)
{
	struct cp_config *c = ctx;
	bool input = !strcmp(c->path, "-");

	c->result = input ? pack_tar(&c->pack, STDIN_FILENO, "standard input", &c->e)
			  : pack_tree(&c->pack, c->path, ".", c->follow, &c->e);
	if (!c->result)
		c->result = pack_end(&c->pack, &c->e);
	close(c->pipe);
	return NULL;
}

/* Runs the agent's program with a thread at the other end of its descriptor fd. What went wrong first
 * is the error: who finds nobody at the other end has not gone wrong.
 */
static int run_both(struct cp_config *c, int fd, void *(*thread)(void *ctx), struct err *e)
{
	sigset_t all, old;
	pthread_t id;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC))
		return err_sys(e, "cannot make a pipe");
	c->own.fds[fd] = fds[fd];
	c->pipe = c->pack.fd = fds[!fd];
	if (thread == rewrite)
		c->pack.fd = STDOUT_FILENO;
	sigfillset(&all); /* they are for exec_run */
	sigprocmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&id, NULL, thread, c);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (r) {
		close(fds[0]);
		close(fds[1]);
		return err_set(e, r, "cannot start a thread: %s", strerror(r));
	}
	r = own_run(&c->own, e);
	close(fds[fd]);
	pthread_join(id, NULL);
	if (!c->result || (r && (r != -EIO || (!fd && c->result == -EPIPE))))
		return r;
	*e = c->e;
	return c->result;
}

/* Where it goes here: opens the directory, and decides on its name there and its kind. */
static int open_destination(struct cp_config *c, char *path, const char **kind, struct err *e)
{
	size_t len = strlen(path);
	bool slash = len && path[len - 1] == '/';
	const char *dir = path;
	struct stat st;
	int r, fd;

	*kind = "";
	r = stat(path, &st) ? errno : 0;
	if (r && r != ENOENT)
		return err_set(e, r, "%s: %s", path, strerror(r));
	if (r || !S_ISDIR(st.st_mode)) {
		*kind = !r ? "f" : slash || !strcmp(c->name, ".") ? "d" : "";
		r = split(path, &dir, c->name, e);
		if (r)
			return r;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, "%s", dir) : fd;
}

/* The agent's arguments. */
static void set_command(struct cp_config *c, const char *program, const char *path, const char *kind)
{
	const char *all[] = {program, path, c->name, kind, NULL};

	memcpy(c->own.argv, all, sizeof(all));
}

static void note(uint64_t n, const char *what)
{
	if (n)
		log_warn("%llu %s", (unsigned long long)n, what);
}

static int copy_out(struct cp_config *c, const char *source, char *to, struct err *e)
{
	struct unpack *u = &c->unpack;
	char kind[4] = "";
	const char *need = "";
	int r;

	if (!strcmp(to, "-")) {
		c->pack.what = "standard output";
		c->pack.owners = true;
		r = pack_open(&c->pack, e);
	} else {
		u->root = r = open_destination(c, to, &need, e);
	}
	if (r < 0)
		return r;
	snprintf(kind, sizeof(kind), "%s%s", need, c->follow ? "l" : "");
	set_command(c, "export", source, kind);
	if (!strcmp(to, "-"))
		return run_both(c, 1, rewrite, e);
	u->guest = true;
	u->keep_owners = c->archive;
	u->user = geteuid() != 0;
	u->only = strcmp(c->name, ".") ? c->name : "";
	r = unpack_begin(u, e);
	if (!r)
		r = run_both(c, 1, extract, e);
	if (r) {
		unpack_free(u);
		return r;
	}
	note(u->devices, "devices are left out");
	note(c->archive ? u->owners : 0, "files belong to you and not to their users");
	return unpack_end(u, e);
}

static int copy_in(struct cp_config *c, const char *to, struct err *e)
{
	const char *kind = "x";
	struct stat st;
	int r;

	c->pack.what = "to the guest";
	c->pack.twice = true;
	c->pack.owners = c->archive;
	if (strcmp(c->path, "-")) {
		if (c->follow ? stat(c->path, &st) : lstat(c->path, &st))
			return err_sys(e, "%s", c->path);
		kind = S_ISDIR(st.st_mode) ? "d" : "f";
	} else {
		strcpy(c->name, ".");
	}
	r = pack_open(&c->pack, e);
	if (r)
		return r;
	set_command(c, "import", to, kind);
	/* In the archive it has no name: where it goes decides on that. */
	r = run_both(c, 0, send_files, e);
	if (!r)
		note(c->pack.sockets, "sockets are left out");
	return r;
}

static int run_cp(void *cfg, int argc, char **argv, struct err *e)
{
	struct cp_config *c = cfg;
	char *from, *to, path[PATH_MAX];
	const char *remote;
	int r;

	if (argc != 2)
		return cmd_usage(&cmd_cp, e);
	from = remote_path(argv[0]);
	to = from ? NULL : remote_path(argv[1]);
	if (!from && !to) {
		err_set(e, 0, "neither '%s' nor '%s' is ID:PATH", argv[0], argv[1]);
		return EXIT_USAGE;
	}
	remote = from ? from : to;
	if (snprintf(path, sizeof(path), "%s%s", *remote == '/' ? "" : "/", remote) >=
	    (int)sizeof(path)) {
		err_set(e, 0, "%s: the path is too long", remote);
		return EXIT_FAIL;
	}
	c->path = from ? argv[1] : argv[0];
	c->unpack.root = -1;
	r = source_name(c, from ? path : argv[0], e);
	if (!r)
		r = own_open(&c->own, argv[from ? 0 : 1], e);
	if (r)
		return EXIT_FAIL;
	r = from ? copy_out(c, path, argv[1], e) : copy_in(c, path, e);
	if (c->unpack.root >= 0)
		close(c->unpack.root);
	pack_close(&c->pack);
	rundir_close(&c->own.vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_cp = {
	.name = "cp",
	.args = "ID:SRC DEST|-, or SRC|- ID:DEST",
	.summary = "Copy files between a container, or a VM, and the host",
	.options = cp_options,
	.notes = "Directories are copied with all in them; hard links, links and holes of files stay such.\n"
		 "If DEST is a directory that is there, SRC goes into it by its name, or, if it ends in\n"
		 "'/.', what is in it does; else DEST is the copy's name. What is there is replaced, but\n"
		 "no directory by a file nor a file by a directory.\n\n"
		 "'-' is a tar archive on standard output or input; in the latter case DEST is a directory.\n\n"
		 "Without -a, copies are yours on the host, and root's in the container. On the host there\n"
		 "are no devices, and set-user-ID bits with -a only.\n",
	.examples = "uvm cp web:/var/log/app .\n"
		    "uvm cp -a site/. web:/srv\n"
		    "uvm cp web:/etc - | tar tv\n",
	.run = run_cp,
	.cfg_size = sizeof(struct cp_config),
};

/* --- diff --- */

struct diff_config {
	bool json;

	struct own own;
	char *text;
	size_t len;
	bool full;
};

static const struct opt diff_options[] = {
	{"json", 0, NULL, "print a JSON array", opt_set_flag, offsetof(struct diff_config, json)},
	{0},
};

static int keep(struct own *o, const void *data, size_t len)
{
	struct diff_config *c = o->ctx;
	char *more = c->len + len < CHANGES_SIZE ? realloc(c->text, c->len + len + 1) : NULL;

	c->full |= !more;
	if (!more)
		return -ENOMEM;
	memcpy(more + c->len, data, len);
	c->text = more;
	c->len += len;
	more[c->len] = 0;
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

/* For people: a name may have anything in it. */
static void print_name(const char *name)
{
	for (; *name; name++) {
		unsigned char ch = (unsigned char)*name;

		if (ch < 0x20 || ch == 0x7f || ch == '\\')
			printf("\\%03o", ch);
		else
			putchar(ch);
	}
}

static void print_changes(const struct diff_config *c, char **line, size_t n)
{
	struct json_writer w = {.out = stdout};
	char kind[2] = "";

	if (c->json)
		json_put_open(&w, NULL, '[');
	for (size_t i = 0; i < n; i++) {
		kind[0] = *line[i];
		if (!c->json) {
			printf("%s ", kind);
			print_name(line[i] + 1);
			putchar('\n');
			continue;
		}
		json_put_open(&w, NULL, '{');
		json_put_string(&w, "kind", kind);
		json_put_string(&w, "path", line[i] + 1);
		json_put_close(&w);
	}
	if (c->json) {
		json_put_close(&w);
		putchar('\n');
	}
}

/* Records of a letter, a path and a NUL. */
static int sort_changes(struct diff_config *c, struct err *e)
{
	size_t n = 0, count = 0;
	char **line;
	bool good = !c->len || !c->text[c->len - 1];

	for (size_t i = 0; i < c->len; i++)
		count += !c->text[i];
	line = calloc(count + 1, sizeof(*line));
	if (!line)
		return err_set(e, ENOMEM, "out of memory");
	for (char *p = c->text; good && n < count; p += strlen(p) + 1) {
		good = *p && strchr("ACD", *p) && p[1] == '/';
		line[n++] = p;
	}
	if (good) {
		qsort(line, n, sizeof(*line), by_path);
		print_changes(c, line, n);
	}
	free(line);
	return good ? 0 : err_set(e, EPROTO, "'%s' told changes that make no sense", c->own.vm.id);
}

static int run_diff(void *cfg, int argc, char **argv, struct err *e)
{
	static char program[] = "changes";
	struct diff_config *c = cfg;
	int r;

	if (argc != 1)
		return cmd_usage(&cmd_diff, e);
	if (own_open(&c->own, argv[0], e))
		return EXIT_FAIL;
	c->own.argv[0] = program;
	c->own.take = keep;
	c->own.ctx = c;
	c->own.fds[1] = STDOUT_FILENO;
	r = own_run(&c->own, e);
	if (c->full)
		r = err_set(e, E2BIG, "'%s' has changed more than can be listed", argv[0]);
	if (!r)
		r = sort_changes(c, e);
	free(c->text);
	rundir_close(&c->own.vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_diff = {
	.name = "diff",
	.args = "ID",
	.summary = "List what a container has changed of its root file system",
	.options = diff_options,
	.notes = "A line for each path: A for added, C for changed, D for deleted. A control character of\n"
		 "a name is printed as a backslash and its octal number.\n",
	.examples = "uvm diff web\n"
		    "uvm diff --json web\n",
	.run = run_diff,
	.cfg_size = sizeof(struct diff_config),
};
