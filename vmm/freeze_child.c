/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/freeze_child.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/clone.h"
#include "vmm/keeper.h"
#include "vmm/log.h"
#include "vmm/machine.h"

#define PROGRESS_NS 100000000u

bool freeze_agent(const struct machine *m)
{
	return m->config.agent || m->mark[MARK_READY];
}

static void report(int fd, const char *what, const char *text)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "%s%s%s\n", what, *text ? " " : "", text);

	write_all(fd, line, MIN((size_t)n, sizeof(line) - 1));
}

/* Closes every descriptor but the standard ones and those to keep: the parent's locks, sockets and
 * VM would live on in this process.
 */
static void close_others(const struct machine *m, int *keep, size_t n)
{
	for (unsigned int i = 0; i < m->vcpus; i++)
		munmap(m->vcpu[i].run, m->kvm.run_size); /* it holds the whole VM */
	keep[n++] = m->rundir->keeper;
	fds_close_others(STDERR_FILENO + 1, keep, n);
}

static unsigned int keep_snapshot(const struct snapshot *s, int *keep)
{
	unsigned int n = 0;

	for (; s; s = s->parent) {
		keep[n++] = s->dir;
		keep[n++] = s->memory;
	}
	return n;
}

static unsigned int keep_disks(const struct machine *m, int *keep)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < m->config.disks; i++) {
		const struct disk *d = m->disk[i];

		keep[n++] = d->image.fd;
		keep[n++] = d->spare;
		for (uint32_t k = 1; k < d->now.files; k++)
			keep[n++] = d->layer[k - 1]->fd;
	}
	return n;
}

/* What the guest has open in shares, into keep (NULL: only counted). Returns how many. */
static size_t keep_shares(const struct machine *m, int *keep)
{
	size_t n = 0;

	for (unsigned int i = 0; i < m->config.shares; i++)
		if (m->share[i].server)
			n += fuse_server_fds(m->share[i].server, keep ? keep + n : NULL);
	return n;
}

/* Room for all that may be kept, and four more. */
static int *keep_room(const struct machine *m)
{
	size_t n = MACHINE_MAX_DISKS * (SNAPSHOT_DISK_LAYERS + 2) + 2 * MEMFILE_LAYERS + 4 +
		   keep_shares(m, NULL);

	return malloc(n * sizeof(int));
}

struct progress {
	int fd;
	uint64_t next; /* when the next report is due */
};

static int tell_progress(void *ctx, uint64_t done, uint64_t all)
{
	struct progress *p = ctx;
	uint64_t now = now_ns();
	char text[64];

	if (now < p->next)
		return 0;
	p->next = now + PROGRESS_NS;
	snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64, done, all);
	report(p->fd, "progress", text);
	return 0;
}

/* What the manifest says of the VM. */
static void describe(const struct machine *m, struct snapshot_manifest *out)
{
	const char *kernel = m->config.kernel ? m->config.kernel : "";

	out->source.len = (uint32_t)snprintf(out->source.s, sizeof(out->source.s), "%s",
					     m->rundir->id);
	out->kernel.len = (uint32_t)snprintf(out->kernel.s, sizeof(out->kernel.s), "%s", kernel);
	out->cpus = m->config.cpus;
	out->agent = m->mark[MARK_READY];
	out->has_root = m->config.has_root;
	out->disks = m->config.disks;
}

/* A process in a jail has it from its keeper. Each has its own. */
static int use_pagemap(struct machine *m, struct err *e)
{
	int fd = keeper_pagemap(m->rundir);

	m->mem.pagemap = MAX(fd, 0);
	return fd >= 0 || m->rundir->keeper < 0
		       ? 0
		       : err_set(e, -fd, "cannot find out what the guest has written: %s", strerror(-fd));
}

_Noreturn void freeze_save(struct freeze *f, struct snapshot_disk *disk, int fd)
{
	struct snapshot_manifest *manifest = calloc(1, sizeof(*manifest));
	const struct snapshot *parent = f->m->snapshot;
	int *keep = keep_room(f->m);
	struct progress progress = {.fd = fd, .next = now_ns() + PROGRESS_NS};
	struct err e;
	int r;

	size_t n = 0;

	if (!keep)
		_exit(1); /* no memory to say so in, either */
	keep[n++] = fd;
	keep[n++] = f->draft.at;
	keep[n++] = f->draft.dir;
	n += keep_snapshot(parent, keep + n);
	n += keep_disks(f->m, keep + n);
	close_others(f->m, keep, n);
	free(keep);
	r = use_pagemap(f->m, &e);
	if (!r && !manifest)
		r = err_set(&e, ENOMEM, "out of memory");
	if (!r) {
		describe(f->m, manifest);
		manifest->unsummed = f->stop && f->m->config.sum_later;
		r = snapshot_fill(&f->draft, manifest, disk, &f->state, &f->m->mem, parent,
				  parent && keeper_parents(f->m->rundir, parent), tell_progress, &progress, &e);
	}
	if (!r)
		r = keeper_replaceable(f->m->rundir, f->draft.at, f->draft.name, &e);
	if (!r)
		r = keeper_publish(f->m->rundir, &f->draft, parent, &e);
	report(fd, r ? "error" : "ok", r ? e.text : "");
	_exit(r ? 1 : 0);
}

/* A fork's configuration is its parent's; its console is a log of its own. */
static void become(struct clone *c, struct freeze *f, const struct state_reader *state)
{
	c->config = f->m->config;
	c->config.agent = freeze_agent(f->m);
	c->config.no_signals = false;
	c->config.cgroup = (struct cgroup_config){NULL}; /* it is in its parent's */
	c->config.fills = c->config.share_fills = 0; /* they are, if its parent was a clone */
	c->config.console = (struct console_config){.mode = CONSOLE_LOG};
	/* Its networks stay the parent's alone. */
	memset(c->config.net, 0, sizeof(c->config.net));
	c->source = (struct machine_source){
		.state = state, .snapshot = f->m->snapshot, .parent = f->m};
}

struct fork {
	struct clone clone;
	struct loop_source decision;
};

/* One byte: it may stay. */
static void decided(struct loop_source *s, uint32_t events)
{
	struct machine *m = CONTAINER_OF(s, struct fork, decision)->clone.machine;
	char byte;
	ssize_t n = read(s->fd, &byte, 1);

	(void)events;
	if (n < 0 && errno == EINTR)
		return;
	loop_del(&m->loop, s);
	close(s->fd);
	if (n != 1)
		end_set(&m->end, END_STOPPED, "it is one of several forks, of which one could not be made");
}

/* Says "id NAME" instead of the byte that a starter waits for. */
static void fork_ready(struct launch *l, const struct rundir *vm)
{
	struct fork *k = CONTAINER_OF(l, struct fork, clone.launch);

	report(l->fd, "id", vm->id);
	k->decision = (struct loop_source){.fd = l->fd, .ready = decided};
	l->fd = -1;
	if (loop_add(&k->clone.machine->loop, &k->decision, EPOLLIN))
		end_set(&k->clone.machine->end, END_FAULT, "out of memory");
}

_Noreturn void freeze_live_on(struct freeze *f, int fd)
{
	int *keep = keep_room(f->m);
	struct fork *k = calloc(1, sizeof(*k));
	struct clone *c = k ? &k->clone : NULL;
	struct state_reader state;
	size_t n = 0;
	struct err e;
	int status = EXIT_FAILURE, r;

	if (!keep) {
		report(fd, "error", "out of memory");
		_exit(status);
	}
	keep[n++] = fd;
	keep[n++] = f->m->kvm.dev;
	keep[n++] = f->m->null;
	n += keep_snapshot(f->m->snapshot, keep + n);
	n += keep_disks(f->m, keep + n);
	n += keep_shares(f->m, keep + n);
	close_others(f->m, keep, n);
	free(keep);
	r = launch_background(f->m->null < 0 ? -1 : dup(f->m->null), &e);
	if (!r)
		r = c ? state_open(&state, f->state.data, f->state.len, SNAPSHOT_STATE_KIND, "fork",
				   &e)
		      : err_set(&e, ENOMEM, "out of memory");
	if (!r)
		r = keeper_make(f->m->rundir, &c->rundir, *f->name ? f->name : NULL, &e);
	if (!r) {
		if (f->m->rundir->keeper >= 0)
			close(f->m->rundir->keeper);
		become(c, f, &state);
		c->config.console.dir = c->rundir.dir;
		c->launch = (struct launch){.fd = fd, .say = fork_ready};
		status = clone_run(c, &e);
		if (!status)
			_exit(0);
	}
	if (c && c->launch.fd < 0 && !r)
		log_warn("%s", e.text);
	else
		report(fd, "error", e.text);
	_exit(status);
}
