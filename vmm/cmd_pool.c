/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm pool: VMs made ahead, for "uvm clone" and "uvm run".
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/pool.h"
#include "vmm/template.h"
#include "vmm/vm_stats.h"

#define POOL_SIZE 4u

struct pool_config {
	uint32_t size;
	bool foreground, json;
	struct json_writer out;
};

static const struct opt pool_options[] = {
	{"size", 0, "N", "create: how many VMs wait, 1 to 256 (default 4)", opt_set_u32,
	 offsetof(struct pool_config, size)},
	{"foreground", 0, NULL, "create: stay, as a service does", opt_set_flag,
	 offsetof(struct pool_config, foreground)},
	{"json", 0, NULL, "ls: print a JSON array", opt_set_flag, offsetof(struct pool_config, json)},
	{0},
};

static void pool_defaults(void *to)
{
	struct pool_config *c = to;

	c->size = POOL_SIZE;
}

/* --- create --- */

struct search {
	const char *key;
	char *path;
};

static int match_key(void *ctx, const char *key, const char *path)
{
	struct search *s = ctx;

	if (!strcmp(key, s->key))
		snprintf(s->path, PATH_MAX, "%s", path);
	return 0;
}

/* A template's key, or a directory. */
static int find(const char *template, char path[PATH_MAX], struct err *e)
{
	struct search s = {template, path};
	struct err ignored;

	*path = 0;
	if (!strchr(template, '/'))
		template_each(match_key, &s, &ignored); /* where there is no cache there are no templates */
	if (*path || realpath(template, path))
		return 0;
	return err_set(e, errno, "'%s' is no snapshot's directory and no key of 'uvm template ls': %s", template,
		       strerror(errno));
}

/* Whether there can be clones of it: said at once, not by a pool that stays empty. */
static int check(const char *path, struct err *e)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int r = s ? snapshot_open(s, path, SNAPSHOT_UNLESS_SEALED, e) : err_set(e, ENOMEM, "out of memory");

	if (!r)
		snapshot_close(s);
	free(s);
	return r;
}

static int create(struct pool_config *c, const char *template, struct err *e)
{
	struct launch l = {.fd = -1};
	char path[PATH_MAX];
	int r;

	if (c->size < 1 || c->size > POOL_SHELLS_MAX) {
		err_set(e, EINVAL, "--size: %u is outside 1 to %u", c->size, POOL_SHELLS_MAX);
		return EXIT_USAGE;
	}
	if (find(template, path, e) || check(path, e))
		return EXIT_FAIL;
	r = c->foreground ? 1 : launch_fork(&l, e);
	if (r > 0)
		return pool_serve(path, c->size, &l, e);
	return r ? EXIT_FAIL : launch_await(&l, e);
}

/* --- ls --- */

struct about {
	char status[CONTROL_ANSWER], template[PATH_MAX], state[16];
};

/* Connects to a pool's control socket and asks. Returns the connection or -errno. */
static int ask(const char *name, struct about *a, struct err *e)
{
	struct rundir vm;
	int fd, r = rundir_open(&vm, name, e);

	if (r)
		return r;
	fd = client_control(&vm, e);
	rundir_close(&vm);
	r = fd < 0 ? fd : client_request(fd, "status", a->status, sizeof(a->status), e);
	if (r) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	client_value(a->status, "template", a->template, sizeof(a->template));
	client_value(a->status, "state", a->state, sizeof(a->state));
	return fd;
}

static uint64_t value(const struct about *a, const char *key)
{
	return vm_stats_value(a->status, key);
}

static int show(void *ctx, const char *name)
{
	static const char *const numbers[] = {"size", "ready", "hits", "misses", "shell_memory"};
	struct pool_config *c = ctx;
	struct about a;
	struct err e;
	int fd = ask(name, &a, &e);

	if (fd < 0)
		return 0; /* it has just ended */
	close(fd);
	if (!c->json) {
		printf("%5" PRIu64 " %5" PRIu64 " %8" PRIu64 " %8" PRIu64 " %7.1fM  %-8s %s\n",
		       value(&a, "size"), value(&a, "ready"), value(&a, "hits"), value(&a, "misses"),
		       (double)value(&a, "shell_memory") / (1 << 20), a.state, a.template);
		return 0;
	}
	json_put_open(&c->out, NULL, '{');
	json_put_string(&c->out, "template", a.template);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		json_put_uint(&c->out, numbers[i], value(&a, numbers[i]));
	json_put_string(&c->out, "state", a.state);
	json_put_close(&c->out);
	return 0;
}

static int list(struct pool_config *c, struct err *e)
{
	int r;

	c->out.out = stdout;
	if (c->json)
		json_put_open(&c->out, NULL, '[');
	else
		printf("%5s %5s %8s %8s %8s  %-8s %s\n", "SIZE", "READY", "HITS", "MISSES", "MEMORY", "STATE",
		       "TEMPLATE");
	r = rundir_each_hidden(RUNDIR_POOL, show, c, e);
	if (c->json) {
		json_put_close(&c->out);
		putchar('\n');
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

/* --- rm --- */

struct removal {
	const char *template; /* as it was said */
	char path[PATH_MAX];  /* absolute; empty: it is not there any more */
	bool found;
	struct err *e;
};

/* Of a snapshot that is gone the pool knows its path still: by that, or by what it ends in. */
static bool means(const struct removal *rm, const char *path)
{
	const char *last = strrchr(path, '/');

	return !strcmp(rm->path, path) || !strcmp(rm->template, path) || (last && !strcmp(rm->template, last + 1));
}

static int remove_one(void *ctx, const char *name)
{
	struct removal *rm = ctx;
	char answer[CONTROL_ANSWER];
	struct about a;
	struct err ignored;
	int fd = ask(name, &a, &ignored), r = 0;

	if (fd < 0)
		return 0;
	if (means(rm, a.template)) {
		rm->found = true;
		r = client_request(fd, "poweroff", answer, sizeof(answer), rm->e);
		if (!r && !client_wait_end(fd, CLIENT_TIMEOUT_MS))
			r = err_set(rm->e, ETIMEDOUT, "the pool of %s does not end", a.template);
	}
	close(fd);
	return r;
}

static int remove_pools(int n, char **templates, struct err *e)
{
	int r = 0;

	for (int i = 0; i < n && !r; i++) {
		struct removal rm = {.template = templates[i], .e = e};
		struct err ignored;

		if (find(templates[i], rm.path, &ignored))
			*rm.path = 0;
		r = rundir_each_hidden(RUNDIR_POOL, remove_one, &rm, e);
		if (!r && !rm.found)
			r = err_set(e, ENOENT, "there is no pool of '%s'; 'uvm pool ls' lists them", templates[i]);
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_pool(void *cfg, int argc, char **argv, struct err *e)
{
	if (argc == 1 && !strcmp(argv[0], "ls"))
		return list(cfg, e);
	if (argc == 2 && !strcmp(argv[0], "create"))
		return create(cfg, argv[1], e);
	if (argc > 1 && !strcmp(argv[0], "rm"))
		return remove_pools(argc - 1, argv + 1, e);
	return cmd_usage(&cmd_pool, e);
}

const struct cmd cmd_pool = {
	.name = "pool",
	.args = "create TEMPLATE | ls | rm TEMPLATE...",
	.summary = "Keep VMs ready for 'uvm clone' and 'uvm run'",
	.options = pool_options,
	.notes = "TEMPLATE is a snapshot's directory, or a key of 'uvm template ls'. A pool keeps --size\n"
		 "clones of it that are made and have not run yet, and makes others for those that are taken.\n"
		 "'uvm clone' of that directory (with --detach or a command) and 'uvm run' (in the foreground)\n"
		 "of that template take one if there is one, and else make a clone as without a pool. Nothing\n"
		 "else is different: name, random numbers and clock are set when it is taken.\n\n"
		 "Taken is what brings nothing but up to three disks: with a network, a share, a limit of a\n"
		 "disk's, --cgroup, --sandbox none, --timing, or a disk that is kept (run) one is made. So it is\n"
		 "for 'uvm run --detach' and for podman: the VM's process has to be a child of who started it.\n"
		 "A VM of a pool is in the pool's cgroup, and its disks do one transfer after the other.\n\n"
		 "'ls' prints how often one was taken (HITS), how often there was none (MISSES), and what one\n"
		 "that waits takes of memory. 'rm' ends those that wait; VMs that were taken go on. As a service:\n"
		 "--foreground, with 'uvm pool rm' or SIGTERM for its end (Debian's package has the systemd\n"
		 "unit uvm-pool@NAME).\n",
	.examples = "uvm pool create --size 8 web.snap\n"
		    "uvm pool ls\n"
		    "uvm pool rm web.snap\n",
	.run = run_pool,
	.cfg_size = sizeof(struct pool_config),
	.defaults = pool_defaults,
};
