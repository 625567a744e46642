/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/keeper.h"
#include "vmm/machine_state.h"
#include "vmm/util.h"

void clone_record(const struct clone *c)
{
	const struct machine *m = c->machine;
	struct mem mem = m->mem;
	int pagemap;

	if (m->recorded)
		return;
	pagemap = keeper_pagemap(&c->rundir);
	mem.pagemap = MAX(pagemap, 0);
	snapshot_record(m->snapshot, &mem);
	if (pagemap >= 0)
		close(pagemap);
}

static void ready(void *ctx)
{
	struct clone *c = ctx;

	if (c->ready) {
		c->ready(c->ctx);
		return;
	}
	clone_record(c); /* first: whoever waits for it may kill it at once */
	launch_ready(&c->launch, &c->rundir);
}

static void answered(void *ctx, int result, struct err *e)
{
	struct machine *m = ctx;

	if (result) {
		end_set(&m->end, END_FAULT, "the guest's agent has not taken its new identity: %s",
			e->text);
		return;
	}
	machine_ready(m);
	/* Its kernel may reseed once more, now that nobody waits for it. */
	vmgenid_notify(&m->vmgenid);
}

static int fill_identity(struct agent_identity *id, const char *hostname, struct err *e)
{
	struct {
		uint8_t entropy[sizeof(id->entropy)], machine_id[sizeof(id->machine_id)],
			boot_id[sizeof(id->boot_id)];
	} random;
	struct timespec now;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys(e, "no random numbers");
	*id = (struct agent_identity){0};
	memcpy(id->entropy, random.entropy, sizeof(random.entropy));
	memcpy(id->machine_id, random.machine_id, sizeof(random.machine_id));
	memcpy(id->boot_id, random.boot_id, sizeof(random.boot_id));
	explicit_bzero(&random, sizeof(random));
	snprintf(id->hostname, sizeof(id->hostname), "%s", hostname);
	clock_gettime(CLOCK_REALTIME, &now); /* last: it is to be right when it arrives */
	id->wall_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	return 0;
}

static int send_identity(struct machine *m, struct err *e)
{
	struct agent_identity id;
	int r = fill_identity(&id, m->rundir->id, e);

	if (!r)
		r = link_request(&m->link, AGENT_IDENTITY, &id, sizeof(id), CLONE_IDENTITY_MS,
				 answered, m, e);
	explicit_bzero(&id, sizeof(id));
	return r;
}

/* What the words say to mount is mounted by the IDENTITY. The two do not go out together: the link
 * takes one request at a time, and a clone without words loses nothing by that.
 */
static void words_taken(void *ctx, int result, struct err *e)
{
	struct machine *m = ctx;

	if (!result)
		result = send_identity(m, e);
	if (result)
		end_set(&m->end, END_FAULT, "the guest's agent has not taken its command line: %s",
			e->text);
}

/* A network that says what the guest's interface shall be says so with the address of its own. The devices
 * of templates take every MTU, so what theirs is must be said.
 */
static int compose_words(struct clone *c, const struct machine *m, struct err *e)
{
	size_t len = 0;

	text_append(c->words, sizeof(c->words), &len, "%s", c->cmdline ? c->cmdline : "");
	for (unsigned int i = 0; i < m->config.nets; i++) {
		const struct net *n = m->net[i];
		char text[AGENT_CMDLINE_MAX + 1];

		if (!net_words(&n->config, i, NULL, text, sizeof(text)) &&
		    (!n->backend || n->mtu == n->dev.config.mtu))
			continue;
		if (net_words(&n->config, i, n, text, sizeof(text)) >= sizeof(text))
			len = sizeof(c->words);
		text_append(c->words, sizeof(c->words), &len, "%suvm.net=%s", len ? " " : "", text);
	}
	return len < sizeof(c->words)
		       ? 0
		       : err_set(e, E2BIG, "more than %u bytes of words for the agent", AGENT_CMDLINE_MAX);
}

/* Puts the first order into the guest's receive queue: through the link's socket, from which the
 * device fetches it, while no vCPU runs.
 */
static int send_orders(struct machine *m, const char *cmdline, struct err *e)
{
	int r = cmdline ? link_request(&m->link, AGENT_CMDLINE, cmdline, strlen(cmdline),
				       CLONE_IDENTITY_MS, words_taken, m, e)
			: send_identity(m, e);

	if (!r)
		virtio_poll(&m->vsock.dev);
	return r;
}

static int tell_guest(struct clone *c, struct machine *m, struct err *e)
{
	int r;

	if (m->config.agent) {
		r = compose_words(c, m, e);
		return r ? r : send_orders(m, *c->words ? c->words : NULL, e);
	}
	vmgenid_notify(&m->vmgenid); /* taken before its first instruction */
	return 0;
}

/* What was set when the VM was made is of that instant: its time has gone on. */
static int hold(void *ctx, struct err *e)
{
	struct clone *c = ctx;
	int r = c->hold(c, e);

	if (!r)
		r = machine_load_clocks(c->machine, c->source.state, e);
	return r ? r : tell_guest(c, c->machine, e);
}

static int start(struct clone *c, struct machine *m, struct err *e)
{
	int r = machine_restore(m, &c->config, &c->source, &c->rundir, e);

	if (r)
		return r;
	if (c->source.snapshot && !c->source.parent && c->source.check)
		snapshot_seal(c->source.snapshot);
	return c->hold ? 0 : tell_guest(c, m, e);
}

int clone_prepare(struct clone *c, const struct snapshot *s, struct err *e)
{
	int r = machine_load_config(&s->state, &c->config, e);

	if (r)
		return r;
	if (c->config.memory != s->m.memory || c->config.disks != s->m.disks ||
	    c->config.cpus != s->m.cpus)
		return err_set(e, EINVAL, "snapshot %s: its state is another machine's", s->path);
	c->config.kernel = s->m.kernel.s;
	c->source = (struct machine_source){
		.state = &s->state, .snapshot = s, .check = !s->sealed};
	return 0;
}

int clone_run(struct clone *c, struct err *e)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(e, 0, "out of memory");
		keeper_remove(&c->rundir);
		return EXIT_FAIL;
	}
	m->mark[MARK_START] = c->started;
	m->ready = ready;
	m->hold = c->hold ? hold : NULL;
	m->ready_ctx = c;
	c->machine = m;
	return launch_run(&c->launch, m, start(c, m, e), c->timing, e);
}
