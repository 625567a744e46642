/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_control.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "vmm/attach.h"
#include "vmm/journal.h"

static size_t status(void *ctx, char *text, size_t size)
{
	struct machine *m = ctx;
	static const char *const console[] = {"stdio", "file", "log", "off"};
	static const char *const landlock[] = {"none", "processes", "files"};
	struct err none;
	pid_t pid = rundir_pid(m->rundir, &none); /* which others know us by */
	int n = snprintf(text, size,
			 "id %s\npid %d\nstate %s\nagent %s\ncpus %u\nmemory %" PRIu64
			 "\nuptime_ms %" PRIu64 "\nkernel %s\nconsole %s\nsandbox %s\njail %s\n"
			 "landlock %s\nseccomp %s\nuid %u\ngid %u\n",
			 m->rundir->id, (int)(pid > 0 ? pid : getpid()), m->paused ? "paused" : "running",
			 m->mark[MARK_READY] ? "ready" : "no",
			 m->config.cpus, m->config.memory,
			 (now_ns() - m->mark[MARK_RUN]) / 1000000u, m->config.kernel,
			 console[m->config.console.mode], m->confine.on ? "on" : "none",
			 m->jailed ? "on" : "none", landlock[m->confine.reach],
			 m->confine.on ? "on" : "none", (unsigned int)geteuid(), (unsigned int)getegid());
	size_t len = MIN((size_t)MAX(n, 0), size - 1);

	for (unsigned int i = 0; i < m->config.nets && size - len > NET_DESCRIBED; i++)
		len += net_describe(m->net[i], i, text + len, size - len);
	return len + attach_describe(m, text + len, size - len);
}

/* Asks the guest for new figures, too: the next answer has them. */
static size_t balloon_stats(struct virtio_balloon *b, char *text, size_t size)
{
	static const char *const key[BALLOON_STATS] = {
		[BALLOON_SWAP_IN] = "swap_in",
		[BALLOON_SWAP_OUT] = "swap_out",
		[BALLOON_MAJOR_FAULTS] = "major_faults",
		[BALLOON_MINOR_FAULTS] = "minor_faults",
		[BALLOON_FREE] = "free",
		[BALLOON_TOTAL] = "total",
		[BALLOON_AVAILABLE] = "available",
		[BALLOON_CACHES] = "caches",
		[BALLOON_HUGE_PAGES] = "huge_pages",
		[BALLOON_HUGE_FAILURES] = "huge_failures",
	};
	struct balloon_figures f;
	size_t n;

	virtio_balloon_figures(b, &f);
	n = (size_t)snprintf(text, size, "balloon_target %" PRIu64 "\nballoon_size %" PRIu64 "\n",
			     f.target, f.size);
	if (f.told_ns && n < size)
		n += (size_t)snprintf(text + n, size - n, "balloon_age_ms %" PRIu64 "\n",
				      (now_ns() - f.told_ns) / 1000000u);
	for (unsigned int i = 0; i < BALLOON_STATS && f.told_ns && n < size; i++)
		if (f.stat[i] != BALLOON_UNTOLD)
			n += (size_t)snprintf(text + n, size - n, "balloon_%s %" PRIu64 "\n", key[i],
					      f.stat[i]);
	return n;
}

static size_t stats(void *ctx, char *text, size_t size)
{
	struct machine *m = ctx;
	size_t n = 0;

	for (unsigned int i = 0; i < m->vcpus && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "exits.%u %" PRIu64 "\n", i,
				      stat_get(&m->vcpu[i].exits));
	for (unsigned int i = 0; i < m->config.disks && n < size; i++) {
		const struct blk_stats *s = &m->disk[i]->blk.stats;
		const struct {
			const char *key;
			const uint64_t *counter;
		} of[] = {{"reads", &s->reads},		  {"writes", &s->writes},
			  {"flushes", &s->flushes},	  {"errors", &s->errors},
			  {"read_bytes", &s->read_bytes}, {"written_bytes", &s->written_bytes},
			  {"discards", &s->discards},	  {"discarded_bytes", &s->discarded_bytes},
			  {"zeroes", &s->zeroes},	  {"zeroed_bytes", &s->zeroed_bytes}};

		for (unsigned int k = 0; k < ARRAY_SIZE(of) && n < size; k++)
			n += (size_t)snprintf(text + n, size - n, "%s.%u %" PRIu64 "\n", of[k].key,
					      i, stat_get(of[k].counter));
	}
	for (unsigned int i = 0; i < m->config.nets && n < size; i++) {
		const struct net_stats *s = &m->net[i]->dev.stats;

		n += (size_t)snprintf(text + n, size - n,
				      "rx_frames.%u %" PRIu64 "\nrx_bytes.%u %" PRIu64
				      "\nrx_dropped.%u %" PRIu64 "\ntx_frames.%u %" PRIu64
				      "\ntx_bytes.%u %" PRIu64 "\ntx_dropped.%u %" PRIu64 "\n",
				      i, stat_get(&s->rx_frames), i, stat_get(&s->rx_bytes), i,
				      stat_get(&s->rx_dropped), i, stat_get(&s->tx_frames), i,
				      stat_get(&s->tx_bytes), i, stat_get(&s->tx_dropped));
	}
	if (m->config.balloon && n < size)
		n += balloon_stats(&m->balloon, text + n, size - n);
	if (n < size)
		n += (size_t)snprintf(text + n, size - n,
				      "vsock_received_bytes %" PRIu64 "\nvsock_sent_bytes %" PRIu64
				      "\nvsock_connections %u\n",
				      m->vsock.received_bytes, m->vsock.sent_bytes,
				      m->vsock.conns);
	return MIN(n, size - 1);
}

static int set_paused(void *ctx, bool on, struct err *e)
{
	struct machine *m = ctx;
	int r = freeze_idle(&m->freeze, e);

	if (r || on == m->paused)
		return r;
	if (on && !machine_pause(m)) /* its end comes next on the loop */
		return err_set(e, ESRCH, "the VM has ended");
	if (!on)
		machine_resume(m);
	m->paused = on;
	journal_event(m->rundir, on ? "pause" : "resume");
	return 0;
}

static int set_balloon(void *ctx, uint64_t bytes, struct err *e)
{
	struct machine *m = ctx;

	return m->config.balloon ? virtio_balloon_set_target(&m->balloon, bytes, e)
				 : err_set(e, ENODEV, "its snapshot is from before there were balloons");
}

static int do_snapshot(void *ctx, struct control_ticket ticket, int at, const char *place,
		       const char *name, enum control_snapshot how, struct err *e)
{
	struct machine *m = ctx;

	return freeze_snapshot(&m->freeze, ticket, at, place, name, how, e);
}

static int do_fork(void *ctx, struct control_ticket ticket, const char *name, unsigned int n,
		   struct err *e)
{
	struct machine *m = ctx;

	return freeze_fork(&m->freeze, ticket, name, n, e);
}

static void device_name(void *ctx, unsigned int slot, char name[TRACE_NAME])
{
	const struct machine *m = ctx;

	*name = 0;
	for (unsigned int i = 0; i < m->config.disks; i++)
		if (machine_disk_slot(m, i) == slot)
			snprintf(name, TRACE_NAME, "disk%u", i);
	for (unsigned int i = 0; i < m->config.nets; i++)
		if (machine_net_slot(m, i) == slot)
			snprintf(name, TRACE_NAME, "net%u", i);
	for (unsigned int i = 0; i < m->config.shares; i++)
		if (machine_share_slot(m, i) == slot)
			snprintf(name, TRACE_NAME, "share%u", i);
	if (!slot)
		snprintf(name, TRACE_NAME, "vsock");
	else if (m->config.rng && slot == machine_rng_slot(m))
		snprintf(name, TRACE_NAME, "rng");
	else if (m->config.balloon && slot == machine_balloon_slot(m))
		snprintf(name, TRACE_NAME, "balloon");
}

static int do_trace(void *ctx, int fd, struct err *e)
{
	struct machine *m = ctx;

	return trace_begin(&m->trace, fd, device_name, m, e);
}

static void do_trace_end(void *ctx)
{
	struct machine *m = ctx;

	trace_end(&m->trace);
}

static int do_attach(void *ctx, const char *text, int fd, char *answer, size_t size, struct err *e)
{
	return attach_device(ctx, text, fd, answer, size, e);
}

static int do_detach(void *ctx, unsigned int slot, struct err *e)
{
	return attach_remove(ctx, slot, e);
}

int machine_open_control(struct machine *m, struct err *e)
{
	freeze_init(&m->freeze, m);
	m->control.snapshot = do_snapshot;
	m->control.fork = do_fork;
	m->control.trace = do_trace;
	m->control.trace_end = do_trace_end;
	m->control.attach = do_attach;
	m->control.detach = do_detach;
	m->control.loop = &m->loop;
	m->control.end = &m->end;
	m->control.console = &m->console;
	m->control.status = status;
	m->control.stats = stats;
	m->control.pause = set_paused;
	m->control.balloon = set_balloon;
	m->control.ctx = m;
	return control_init(&m->control, rundir_sockets(m->rundir), e);
}
