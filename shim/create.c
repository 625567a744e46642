/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that start processes: create and exec.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/commands.h"
#include "shim/init.h"
#include "shim/state.h"
#include "vmm/file.h"
#include "vmm/util.h"

#define AT(member) offsetof(struct shim, member)

/* --- what both need --- */

/* A pipe has no size. */
static int read_input(char **text, size_t *len)
{
	size_t room = 0;

	*text = NULL;
	*len = 0;
	for (;;) {
		ssize_t n;

		if (*len == room) {
			char *more = realloc(*text, room = room ? 2 * room : 16384);

			if (!more)
				return -ENOMEM;
			*text = more;
		}
		n = read(STDIN_FILENO, *text + *len, room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		*len += (size_t)n;
		if (*len > JSON_SIZE_MAX)
			return -E2BIG;
	}
}

int shim_read_file(const char *path, char **text, size_t *len, struct err *e)
{
	int r;

	if (strcmp(path, "-"))
		return file_load(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), path,
				 JSON_SIZE_MAX, text, len, e);
	r = read_input(text, len);
	if (!r)
		return 0;
	free(*text);
	return err_set(e, -r, "standard input: %s", strerror(-r));
}

int shim_write_pid(const char *path, pid_t pid, struct err *e)
{
	char text[16], part[PATH_MAX];
	int n = snprintf(text, sizeof(text), "%d", (int)pid), fd, r;

	/* Whoever watches for it finds it whole. */
	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return err_set(e, ENAMETOOLONG, "pid file %s: the path is too long", path);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_sys(e, "pid file %s", path);
	r = write_all(fd, text, (size_t)n);
	if (close(fd) && !r)
		r = -errno;
	if (!r && rename(part, path))
		r = -errno;
	if (r)
		unlink(part);
	return r ? err_set(e, -r, "pid file %s: %s", path, strerror(-r)) : 0;
}

/* What the caller has open beside the three is not ours, and the container's process would keep it. */
static int check_streams(const struct shim *s, struct err *e)
{
	if (s->preserve_fds)
		return err_set(e, EINVAL,
			       "--preserve-fds: descriptors 3 to %llu cannot be passed into a virtual "
			       "machine: what they are open on is this host's",
			       2ull + s->preserve_fds);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	return 0;
}

static int check_terminal(const struct shim *s, bool terminal, struct err *e)
{
	if (terminal && !s->console_socket)
		return err_set(e, EINVAL,
			       "cannot allocate tty if runc will detach without setting console socket: give "
			       "--console-socket, or no terminal");
	if (!terminal && s->console_socket)
		return err_set(e, EINVAL,
			       "cannot use console socket if runc will not detach or allocate tty: leave out "
			       "--console-socket, or set process.terminal");
	return 0;
}

static void warn(const struct shim *s, const struct json *field)
{
	struct err e;

	json_bad(&e, field, "has no effect in a virtual machine");
	shim_warn(s, &e);
}

/* Of a process. */
static void warn_ignored(const struct shim *s, const struct json *process)
{
	const struct json *field;

	for (size_t i = 0; (field = oci_process_ignored(process, &i));)
		warn(s, field);
}

/* --- create --- */

static const struct opt create_options[] = {
	{"bundle", 'b', "DIR", "the bundle (default: the working directory)", opt_set_str,
	 AT(bundle)},
	{"console-socket", 0, "SOCKET", "the terminal's master goes there", opt_set_str,
	 AT(console_socket)},
	{"pid-file", 0, "FILE", "write the id of the container's process there", opt_set_str,
	 AT(pid_file)},
	{"preserve-fds", 0, "N", "0: more than three descriptors cannot be passed", opt_set_u32,
	 AT(preserve_fds)},
	{"no-pivot", 0, NULL, "accepted", opt_set_flag, AT(ignored)},
	{"no-new-keyring", 0, NULL, "accepted: the guest has its own", opt_set_flag, AT(ignored)},
	{0},
};

static int load_config(struct oci_create *c, struct err *e)
{
	char path[PATH_MAX], *text;
	size_t len;
	int r;

	if (snprintf(path, sizeof(path), "%s/config.json", c->bundle) >= (int)sizeof(path))
		return err_set(e, ENAMETOOLONG, "bundle %s: the path is too long", c->bundle);
	r = shim_read_file(path, &text, &len, e);
	if (r == -ENOENT)
		err_append(e, "; --bundle names a directory with a config.json and what root.path in that names");
	if (r)
		return r;
	r = oci_config_parse(&c->config, text, len, e);
	free(text);
	return r;
}

/* mkdir -p of the directory of all containers, but for its last component. */
static void make_root(void)
{
	const char *root = getenv("UVM_RUN");
	char path[PATH_MAX], *p = path;

	snprintf(path, sizeof(path), "%s", root ? root : "");
	while (*p && (p = strchr(p + 1, '/'))) {
		*p = 0;
		mkdir(path, 0711);
		*p = '/';
	}
}

static int run_create(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *s = cfg;
	struct oci_create *c = calloc(1, sizeof(*c));
	char bundle[PATH_MAX];
	pid_t pid = 0;
	int r;

	if (argc != 1 || !c) {
		free(c);
		return cmd_usage(&shim_create, e);
	}
	c->id = argv[0];
	c->bundle = bundle;
	c->console = s->console_socket;
	r = check_streams(s, e);
	if (!r && !realpath(s->bundle ? s->bundle : ".", bundle))
		r = err_sys(e, "bundle %s", s->bundle ? s->bundle : ".");
	if (!r)
		r = load_config(c, e);
	if (!r)
		r = check_terminal(s, c->config.process.terminal, e);
	if (!r)
		warn_ignored(s, json_get(c->config.doc.root, "process"));
	if (!r && json_get(c->config.doc.root, "linux.mountLabel"))
		warn(s, json_get(c->config.doc.root, "linux.mountLabel"));
	if (!r && c->config.sandbox && (c->config.resources.cpus || c->config.resources.mems))
		warn(s, json_get(c->config.doc.root, "linux.resources.cpu"));
	make_root();
	if (!r)
		r = oci_create(c, &pid, e);
	if (!r && s->pid_file)
		r = shim_write_pid(s->pid_file, pid, e);
	oci_config_free(&c->config);
	free(c);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_create = {
	.name = "create",
	.args = "ID",
	.summary = "OCI runtime: make a container of a bundle, in a VM of its own",
	.options = create_options,
	.examples = "uvm create --bundle /run/bundle job\n",
	.run = run_create,
	.cfg_size = sizeof(struct shim),
};

/* --- exec --- */

static const struct opt exec_options[] = {
	{"console-socket", 0, "SOCKET", "the terminal's master goes there", opt_set_str,
	 AT(console_socket)},
	{"cwd", 0, "DIR", "its directory, if not the container's", opt_set_str, AT(cwd)},
	{"detach", 'd', NULL, "return when it runs", opt_set_flag, AT(detach)},
	{"pid-file", 0, "FILE", "write the id of its process here there", opt_set_str,
	 AT(pid_file)},
	{"process", 'p', "FILE", "what to run: the process of a config.json", opt_set_str,
	 AT(process)},
	{"preserve-fds", 0, "N", "0: more than three descriptors cannot be passed", opt_set_u32,
	 AT(preserve_fds)},
	{"tty", 't', NULL, "give it a terminal", opt_set_flag, AT(tty)},
	{"no-subreaper", 0, NULL, "accepted", opt_set_flag, AT(ignored)},
	{"user", 'u', "USER", "accepted with --process, which says it", opt_set_str,
	 AT(ignored_text)},
	{0},
};

/* The process of an exec: a file of its own, or the container's with other arguments. */
static int load_process(const struct shim *s, const struct oci_state *state, struct json_doc *doc,
			struct oci_process *p, char **argv, struct err *e)
{
	char path[PATH_MAX], *text = NULL;
	const struct json *v;
	size_t len;
	int r;

	if (s->process)
		snprintf(path, sizeof(path), "%s", s->process);
	else
		snprintf(path, sizeof(path), "%s/config.json", state->bundle);
	r = shim_read_file(path, &text, &len, e);
	if (r)
		return r;
	r = json_parse(doc, text, len, s->process ? s->process : "config.json", e);
	free(text);
	if (r)
		return r;
	v = s->process ? doc->root : json_get(doc->root, "process");
	if (!v || v->type != JSON_OBJECT)
		return err_set(e, EINVAL, s->process ? "%s: not a JSON object" : "%s: there is no process in it",
			       path);
	r = oci_process_parse(p, v, e);
	if (!r && s->process)
		warn_ignored(s, v);
	if (r || s->process)
		return r;
	p->request.argv = argv;
	p->terminal = p->request.tty = s->tty;
	if (s->cwd)
		p->request.cwd = s->cwd;
	return 0;
}

static int check_running(const struct oci_state *state, struct err *e)
{
	if (state->status == OCI_RUNNING || state->status == OCI_CREATED)
		return 0;
	if (state->status == OCI_PAUSED)
		return err_set(e, EBUSY, "cannot exec in a paused container: 'uvm resume %s' first", state->vm.id);
	return err_set(e, ESRCH, "cannot exec in a stopped container: '%s' is %s", state->vm.id,
		       oci_status_name(state->status));
}

static int start(const struct shim *s, struct oci_exec *x, int *status, struct err *e)
{
	pid_t pid = 0;
	int r;

	if (!s->detach)
		return oci_exec_here(x, status, e);
	r = check_terminal(s, x->process->terminal, e);
	if (!r)
		r = oci_exec_detached(x, &pid, e);
	if (!r && s->pid_file)
		r = shim_write_pid(s->pid_file, pid, e);
	return r;
}

/* As runc's, a failure's is one that no command is likely to have. */
#define EXEC_FAILED 255

static int run_exec(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *s = cfg;
	struct oci_process *p = calloc(1, sizeof(*p));
	struct json_doc doc = {0};
	struct oci_state state;
	struct oci_exec x = {.process = p, .console = s->console_socket};
	int status = 0, r;

	argc = cmd_drop_dashes(argc, argv);
	if (argc < 1 || (argc < 2 && !s->process) || !p) {
		free(p);
		return cmd_usage(&shim_exec, e);
	}
	r = check_streams(s, e);
	if (!r)
		r = oci_state_open(&state, argv[0], e);
	if (!r) {
		/* cppcheck-suppress uninitStructMember ; oci_state_open has set it */
		x.cgroup = state.cgroup;
		x.vm = oci_state_guest(&state);
		r = check_running(&state, e);
		if (!r)
			r = load_process(s, &state, &doc, p, argv + 1, e);
		p->request.container = oci_state_name(&state);
		if (!r)
			r = start(s, &x, &status, e);
		oci_state_close(&state);
	}
	oci_process_free(p);
	json_free(&doc);
	free(p);
	return r ? EXEC_FAILED : status;
}

const struct cmd shim_exec = {
	.name = "exec",
	.args = "ID [CMD [ARG...]]",
	.summary = "OCI runtime: run a process in a container",
	.options = exec_options,
	.stop_at_operand = 1,
	.examples = "uvm exec --process process.json --pid-file /run/job.pid job\n",
	.run = run_exec,
	.cfg_size = sizeof(struct shim),
};
