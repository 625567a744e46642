/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm clone: starts VMs from a snapshot. uvm fork: starts VMs from one that runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/clone.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/exec.h"
#include "vmm/json.h"
#include "vmm/machine_state.h"
#include "vmm/pool.h"
#include "vmm/several.h"
#include "vmm/util.h"

#define CLONES_MAX 1024u

struct clone_config {
	const char *id;
	uint32_t count;
	bool detach, tty;
	struct snapshot snapshot;
	struct clone clone;
};

static int set_fill(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->fills == MACHINE_MAX_DISKS)
		return err_set(e, EINVAL, "at most %u disks", MACHINE_MAX_DISKS);
	return disk_parse(&m->fill[m->fills++], value, e);
}

static int set_share(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->share_fills == SHARE_MAX)
		return err_set(e, EINVAL, "at most %u shares", SHARE_MAX);
	return share_parse(&m->share_fill[m->share_fills++], value, e);
}

static int set_net(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->nets == NET_MAX)
		return err_set(e, EINVAL, "at most %u networks", NET_MAX);
	return net_parse(&m->net[m->nets++], value, e);
}

static const struct opt clone_options[] = {
	{"name", 0, "NAME", "the clone's name (default: a random one)", opt_set_id,
	 offsetof(struct clone_config, id)},
	{"id", 0, "NAME", NULL, opt_set_id, offsetof(struct clone_config, id)},
	{"disk", 0, "IMG[,ro|,cow...]", "what the next placeholder disk stands for; may be repeated",
	 set_fill, offsetof(struct clone_config, clone.config)},
	{"cmdline", 0, "TEXT", "words for the agent: uvm.env=..., uvm.mount=...", opt_set_str,
	 offsetof(struct clone_config, clone.cmdline)},
	{"share", 0, "DIR:TAG[:ro]", "the directory of the share with that tag; may be repeated",
	 set_share, offsetof(struct clone_config, clone.config)},
	{"network", 0, "KIND[,NAME=VALUE...]",
	 "what the next network device is connected to, as with 'uvm boot'; may be repeated", set_net,
	 offsetof(struct clone_config, clone.config)},
	{"net", 0, "KIND[,NAME=VALUE...]", NULL, set_net, offsetof(struct clone_config, clone.config)},
	{"count", 'n', "N", "make N clones", opt_set_u32, offsetof(struct clone_config, count)},
	{"detach", 'd', NULL, "run in the background; print the id when it is ready", opt_set_flag,
	 offsetof(struct clone_config, detach)},
	{"tty", 't', NULL, "give the command a terminal", opt_set_flag,
	 offsetof(struct clone_config, tty)},
	CGROUP_OPTIONS(offsetof(struct clone_config, clone.config.cgroup)),
	{"sandbox", 0, "on|none|user=UID[:GID]",
	 "none: the VM's process keeps all rights of its user; user=: of root's VM, it is that user's (default on)",
	 confine_set, offsetof(struct clone_config, clone.config.confine)},
	{"timing", 0, NULL, "report when each step of the start was done", opt_set_flag,
	 offsetof(struct clone_config, clone.timing)},
	{0},
};

static void clone_defaults(void *to)
{
	struct clone_config *c = to;

	c->count = 1;
}

static int take_id(struct clone_config *c, struct err *e)
{
	int r = rundir_create(&c->clone.rundir, c->id, e);

	c->clone.config.console.dir = c->clone.rundir.dir;
	return r;
}

/* --- from a pool (vmm/pool.h) --- */

/* Returns the connection of one that was taken, or -errno: one is to be made. */
static int take(const struct clone_config *c, const char *path, bool held, struct rundir *vm)
{
	const struct machine_config *m = &c->clone.config;
	struct pool_request rq = {
		.id = c->id, .words = c->clone.cmdline, .held = held, .agent = held, .disks = m->fills};

	if (c->clone.timing || !pool_fits(m))
		return -EINVAL;
	memcpy(rq.disk, m->fill, rq.disks * sizeof(rq.disk[0]));
	return pool_take(path, &rq, vm, NULL);
}

/* Of the clones that are wanted. Returns how many. */
static uint32_t take_detached(const struct clone_config *c, const char *path)
{
	struct rundir vm;
	uint32_t n = 0;

	for (; n < c->count; n++) {
		int conn = take(c, path, false, &vm);

		if (conn < 0)
			break;
		close(conn);
		rundir_close(&vm);
		printf("%s\n", vm.id);
	}
	return n;
}

static char *no_env[] = {NULL};

/* Returns false if there is none. */
static bool take_for_command(const struct clone_config *c, const char *path, char **argv, int *status,
			     struct err *e)
{
	struct exec_request rq = {.argv = argv, .envp = no_env, .tty = c->tty};
	struct rundir vm;
	int conn = take(c, path, true, &vm);

	if (conn < 0)
		return false;
	rq.cancel = conn;
	exec_run(&rq, client_dial_agent, &vm, status, e);
	pool_end(conn);
	rundir_close(&vm);
	return true;
}

/* --- in the foreground, and for a command --- */

static int run_here(struct clone_config *c, struct err *e)
{
	if (take_id(c, e))
		return EXIT_FAIL;
	c->clone.launch.fd = -1;
	c->clone.config.console.mode = CONSOLE_STDIO;
	return clone_run(&c->clone, e);
}

/* The clone is this process's child: it is ended with the command, and nothing of it is left when
 * this process has ended, but for what the kernel then still takes apart.
 */
static int run_command(struct clone_config *c, char **argv, struct err *e)
{
	struct exec_request rq = {.argv = argv, .envp = no_env, .tty = c->tty};
	int r, status;

	if (take_id(c, e))
		return EXIT_FAIL;
	c->clone.config.console.mode = CONSOLE_LOG;
	c->clone.launch.held = true;
	r = launch_fork(&c->clone.launch, e);
	if (r > 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* a killed command takes its VM along */
		return clone_run(&c->clone, e);
	}
	if (r < 0) {
		rundir_remove(&c->clone.rundir);
		return EXIT_FAIL;
	}
	status = launch_await(&c->clone.launch, e);
	if (status)
		return status;
	exec_run(&rq, client_dial_agent, &c->clone.rundir, &status, e);
	kill(c->clone.launch.pid, SIGTERM);
	launch_await_over(&c->clone.launch);
	return status;
}

/* --- in the background, one or many --- */

struct started {
	struct launch launch;
	char id[RUNDIR_ID_MAX + 1];
};

/* What became of all that one command starts. */
struct outcome {
	unsigned int started;
	struct several lost;
	int status;
	struct err first; /* failure */
};

static void lose(struct outcome *o, const char *name, int status, const struct err *why)
{
	several_failed(&o->lost, name, why->text);
	if (!o->status) {
		o->status = status;
		o->first = *why;
	}
}

static void await(struct started *s, struct outcome *o)
{
	struct err why = {{0}};
	int status = launch_await(&s->launch, &why);

	if (status) {
		lose(o, s->id, status, &why);
		return;
	}
	o->started++;
	printf("%s\n", s->id);
}

/* Returns 0, or 1 in the clone's process, or -errno. */
static int start(struct clone_config *c, struct started *s, struct err *e)
{
	int r = take_id(c, e);

	if (r)
		return r;
	memcpy(s->id, c->clone.rundir.id, sizeof(s->id));
	r = launch_fork(&s->launch, e);
	if (r < 0)
		rundir_remove(&c->clone.rundir);
	if (!r)
		rundir_release(&c->clone.rundir);
	return r;
}

/* Starts them side by side, but only some more than there are CPUs: many at once would all wait for
 * the last, and a guest's agent must answer in time. None is begun after one has failed. taken: those that a pool
 * has given.
 */
static int run_detached(struct clone_config *c, uint32_t taken, struct err *e)
{
	struct started one = {0}; /* most are one, which allocates nothing */
	struct started *many = c->count > 1 ? calloc(c->count, sizeof(*many)) : NULL;
	struct started *started = many ? many : &one;
	uint32_t side_by_side = (uint32_t)MAX(2 * sysconf(_SC_NPROCESSORS_ONLN), 4);
	uint32_t n = 0, seen = 0;
	struct outcome o = {.started = taken};

	if (c->count > 1 && !many) {
		err_set(e, ENOMEM, "out of memory");
		return EXIT_FAIL;
	}
	while (n < c->count && !o.status) {
		struct err why;
		int r = start(c, &started[n], &why);

		if (r > 0) {
			for (uint32_t i = 0; i < n; i++) /* the starter's */
				close(started[i].launch.fd);
			c->clone.launch = started[n].launch;
			c->clone.config.console.mode = CONSOLE_LOG;
			free(many);
			return clone_run(&c->clone, e);
		}
		if (r < 0) {
			lose(&o, "the next one", EXIT_FAIL, &why);
			break;
		}
		n++;
		if (n - seen == side_by_side)
			await(&started[seen++], &o);
	}
	while (seen < n)
		await(&started[seen++], &o);
	free(many);
	*e = o.first;
	if (o.status && c->count + taken > 1)
		several_tell(&o.lost, o.started, c->count + taken, "clones started", e);
	return o.status;
}

static int run_clone(void *cfg, int argc, char **argv, struct err *e)
{
	struct clone_config *c = cfg;
	bool command;
	uint32_t taken = 0;
	int status;

	c->clone.started = now_ns();
	argc = cmd_drop_dashes(argc, argv);
	command = argc > 1;
	if (argc < 1)
		return cmd_usage(&cmd_clone, e);
	if (c->count < 1 || c->count > CLONES_MAX) {
		err_set(e, EINVAL, "--count: %u is outside 1 to %u", c->count, CLONES_MAX);
		return EXIT_USAGE;
	}
	if ((c->count > 1 && (c->id || !c->detach)) || (command && c->detach)) {
		err_set(e, EINVAL,
			"--count goes with --detach and without --name; a command without --detach");
		return EXIT_USAGE;
	}
	if (c->clone.cmdline && strlen(c->clone.cmdline) > AGENT_CMDLINE_MAX) {
		err_set(e, EINVAL, "--cmdline: more than %u bytes", AGENT_CMDLINE_MAX);
		return EXIT_USAGE;
	}
	if (command && take_for_command(c, argv[0], argv + 1, &status, e))
		return status;
	if (c->detach)
		taken = take_detached(c, argv[0]);
	c->count -= taken;
	if (!c->count)
		return EXIT_OK;
	if (snapshot_open(&c->snapshot, argv[0], SNAPSHOT_UNLESS_SEALED, e) || clone_prepare(&c->clone, &c->snapshot, e))
		return EXIT_FAIL;
	if (c->clone.cmdline && !c->clone.config.agent) {
		err_set(e, EINVAL, "snapshot %s has no agent in it that could take --cmdline", argv[0]);
		return EXIT_FAIL;
	}
	if (command && !c->clone.config.agent) {
		err_set(e, EINVAL, "snapshot %s has no agent in it that could run a command",
			argv[0]);
		return EXIT_FAIL;
	}
	if (command)
		return run_command(c, argv + 1, e);
	return c->detach ? run_detached(c, taken, e) : run_here(c, e);
}

const struct cmd cmd_clone = {
	.name = "clone",
	.args = "DIR [--] [CMD [ARG...]]",
	.summary = "Start a VM from a snapshot",
	.options = clone_options,
	.notes = "The clone goes on where the snapshot was taken, with memory and disks of its own,\n"
		 "and with a new identity (host name, machine id, boot id, random numbers, clock)\n"
		 "before any process in it runs on. With CMD it runs that, exits with its status,\n"
		 "and is gone. Without, it runs in the foreground as with 'uvm boot', or with\n"
		 "--detach in the background.\n\n"
		 "--cmdline takes what the agent also takes of 'uvm boot --cmdline':\n"
		 "  uvm.env=NAME=VALUE              a variable for commands without it\n"
		 "  uvm.mount=DEVICE:PATH:TYPE[:ro] mounted before the first command runs; a disk\n"
		 "                                  that --disk gives, too\n"
		 "A word that is none of these is an error, and no clone comes of it.\n\n"
		 "Exit status: CMD's, as with 'uvm exec'; else as 'uvm boot'.\n",
	.stop_at_operand = 0,
	.examples = "uvm clone web.snap -- uname -n\n"
		    "uvm clone web.snap --detach -n 10\n",
	.run = run_clone,
	.cfg_size = sizeof(struct clone_config),
	.defaults = clone_defaults,
};

/* --- fork --- */

struct fork_config {
	const char *id;
	uint32_t count;
	bool json;
};

static const struct opt fork_options[] = {
	{"name", 0, "NAME", "the fork's name (default: a random one)", opt_set_id,
	 offsetof(struct fork_config, id)},
	{"id", 0, "NAME", NULL, opt_set_id, offsetof(struct fork_config, id)},
	{"count", 'n', "N", "make N forks, of the same instant", opt_set_u32,
	 offsetof(struct fork_config, count)},
	{"json", 0, NULL, "print a JSON object", opt_set_flag, offsetof(struct fork_config, json)},
	{0},
};

static void fork_defaults(void *to)
{
	struct fork_config *c = to;

	c->count = 1;
}

/* The ids among the lines of an answer, into w or (NULL) a line each. */
static void print_ids(const char *answer, struct json_writer *w)
{
	for (const char *line = answer; line && *line; line = strchr(line, '\n')) {
		char id[RUNDIR_ID_MAX + 1];

		line += *line == '\n';
		if (strncmp(line, "id ", 3))
			continue;
		snprintf(id, sizeof(id), "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
		if (w)
			json_put_string(w, NULL, id);
		else
			printf("%s\n", id);
	}
}

static int run_fork(void *cfg, int argc, char **argv, struct err *e)
{
	struct fork_config *c = cfg;
	char request[CONTROL_LINE], answer[CONTROL_ANSWER], paused[24];
	struct json_writer w = {.out = stdout};
	struct rundir vm;
	int fd, r;

	if (argc != 1)
		return cmd_usage(&cmd_fork, e);
	if (c->count < 1 || c->count > FREEZE_FORKS || (c->id && c->count > 1)) {
		err_set(e, EINVAL, "--count: %u is outside 1 to %u (1 with --name)", c->count, FREEZE_FORKS);
		return EXIT_USAGE;
	}
	if (rundir_open(&vm, argv[0], e))
		return EXIT_FAIL;
	snprintf(request, sizeof(request), "fork %u%s%s", c->count, c->id ? " " : "",
		 c->id ? c->id : "");
	fd = client_control(&vm, e);
	r = fd < 0 ? fd : client_request_long(fd, request, -1, NULL, NULL, answer, sizeof(answer), e);
	if (fd >= 0)
		close(fd);
	rundir_close(&vm);
	if (r)
		return EXIT_FAIL;
	client_value(answer, "paused_us", paused, sizeof(paused));
	if (c->json) {
		json_put_open(&w, NULL, '{');
		json_put_open(&w, "ids", '[');
		print_ids(answer, &w);
		json_put_close(&w);
		json_put_uint(&w, "paused_us", strtoull(paused, NULL, 10));
		json_put_close(&w);
		putchar('\n');
	} else {
		print_ids(answer, NULL);
	}
	return EXIT_OK;
}

const struct cmd cmd_fork = {
	.name = "fork",
	.args = "ID",
	.summary = "Start a VM from a running one, at this instant",
	.options = fork_options,
	.notes = "Parent and fork go on from the same instant, each with memory and disks of its\n"
		 "own; nothing is written to files. The fork gets a new identity before any process\n"
		 "in it runs on; its vsock connections are reset, the parent's live on. A disk that\n"
		 "the VM writes to directly is copied, which takes its time; with ',cow' it is not.\n"
		 "The parent stands still for less if it was booted with --huge-pages.\n",
	.examples = "uvm fork web --name web2\n"
		    "uvm fork web -n 2 --json\n",
	.run = run_fork,
	.cfg_size = sizeof(struct fork_config),
	.defaults = fork_defaults,
};
