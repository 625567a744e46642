/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "devices/power.h"
#include "guest/image.h"
#include "vmm/attach.h"
#include "vmm/boot.h"
#include "vmm/jail.h"
#include "vmm/journal.h"
#include "vmm/keeper.h"
#include "vmm/log.h"
#include "vmm/machine_state.h"
#include "vmm/vcpu_state.h"

#define GUEST_CID 3 /* the first that is free (virtio 1.2, 5.10.4) */

/* Said to every kernel: the console, and what to do when it cannot go on: reset at once, which
 * ends the VM. Only what is worse than an error is shown, because each character costs an exit.
 */
#define DOORS_NS 1000000 /* at the latest, from when the vCPUs are started */

#define CMDLINE_BASE "console=ttyS0 loglevel=3 panic=-1"

static void open_doors(struct machine *m);

static void mark(struct machine *m, enum machine_mark which)
{
	m->mark[which] = now_ns();
}

/* An interrupt line: an eventfd that KVM listens to. Its descriptor lives as long as the VM. */
static int new_line(struct machine *m, unsigned int gsi, struct irq *irq, struct err *e)
{
	irq->fd = event_new(e);
	return irq->fd < 0 ? irq->fd : kvm_bind_irq(&m->kvm, gsi, irq->fd, e);
}

/* Devices and places for some, as the guest is told of them. */
static unsigned int virtio_places(const struct machine *m)
{
	return machine_spare_slot(m) + m->config.spares;
}

static uint64_t slot_base(unsigned int slot)
{
	return LAYOUT_VIRTIO + (uint64_t)slot * LAYOUT_VIRTIO_SIZE;
}

/* Makes a virtio device reachable: its registers on the bus, not its doorbell in KVM, which for some would
 * cost each VM more at its start than it could save.
 */
static int plug_quiet(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	for (unsigned int i = 0; i < VIRTIO_MAX_QUEUES; i++)
		d->queue[i].tap = (struct trace_tap){&m->trace, TRACE_WHO(slot, i)};
	if (slot >= machine_spare_slot(m)) {
		m->spare[slot - machine_spare_slot(m)].dev = d;
		return 0;
	}
	return bus_add(&m->mmio, slot_base(slot), LAYOUT_VIRTIO_SIZE, &virtio_mmio_ops, d, e);
}

static int plug_virtio(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	int r = plug_quiet(m, d, slot, e);

	return r ? r : kvm_bind_doorbell(&m->kvm, slot_base(slot) + VIRTIO_MMIO_NOTIFY, d->doorbell.fd, e);
}

int machine_plug(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	return plug_virtio(m, d, slot, e);
}

int machine_unplug(struct machine *m, unsigned int slot, struct err *e)
{
	struct virtio_slot *s = &m->spare[slot - machine_spare_slot(m)];
	int fd = s->dev->doorbell.fd;

	s->dev = NULL;
	return kvm_unbind_doorbell(&m->kvm, slot_base(slot) + VIRTIO_MMIO_NOTIFY, fd, e);
}

int machine_spare_line(struct machine *m, unsigned int slot, struct irq *irq, struct err *e)
{
	struct virtio_slot *s = &m->spare[slot - machine_spare_slot(m)];
	int r = s->irq.fd ? 0 : new_line(m, LAYOUT_VIRTIO_GSI + slot, &s->irq, e);

	if (r)
		s->irq.fd = 0;
	*irq = s->irq;
	return r;
}

/* The line of any slot. */
static int slot_line(struct machine *m, unsigned int slot, struct irq *irq, struct err *e)
{
	return slot >= machine_spare_slot(m) ? machine_spare_line(m, slot, irq, e)
					     : new_line(m, LAYOUT_VIRTIO_GSI + slot, irq, e);
}

static int add_spares(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.spares && !r; i++)
		r = bus_add(&m->mmio, slot_base(machine_spare_slot(m) + i), LAYOUT_VIRTIO_SIZE,
			    &virtio_slot_ops, &m->spare[i], e);
	return r;
}

static int open_disk(struct machine *m, const struct machine_source *src, unsigned int i,
		     struct err *e)
{
	if (src && src->parent)
		return disk_adopt(m->disk[i], src->parent->disk[i], m->rundir, e);
	if (src)
		return disk_clone(m->disk[i], src->snapshot, i, m->rundir, e);
	return disk_open(m->disk[i], &m->config.disk[i], m->rundir, e);
}

/* src NULL: as the command line says. */
static int open_disks(struct machine *m, const struct machine_source *src, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	for (unsigned int i = 0; i < cfg->disks && !r; i++) {
		m->disk[i] = calloc(1, sizeof(*m->disk[i]));
		r = m->disk[i] ? open_disk(m, src, i, e) : err_set(e, ENOMEM, "out of memory");
	}
	return r;
}

/* Of a snapshot they are placeholders at first; src NULL: as the command line says. */
static int open_shares(struct machine *m, const struct machine_source *src, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	m->share = calloc(cfg->shares ? cfg->shares : 1, sizeof(*m->share));
	if (!m->share)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < cfg->shares && !r; i++) {
		if (!src)
			r = share_open(&m->share[i], &cfg->share[i], cfg->shares, e);
		else if (src->parent)
			r = share_adopt(&m->share[i], &src->parent->share[i], e);
	}
	return r;
}

static int add_disk(struct machine *m, unsigned int i, struct err *e)
{
	unsigned int slot = machine_disk_slot(m, i);
	struct disk *d = m->disk[i];
	struct irq irq;
	int r = slot_line(m, slot, &irq, e);

	if (!r)
		r = disk_init(d, &m->config.disk[i], i, m->config.cpus, &m->mem, irq, e);
	return r ? r : plug_virtio(m, &d->blk.dev, slot, e);
}

/* Its driver notifies a few times every two seconds at most. */
static int add_balloon(struct machine *m, struct err *e)
{
	unsigned int slot = machine_balloon_slot(m);
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);

	if (!r)
		r = virtio_balloon_init(&m->balloon, &m->mem, irq, &m->loop, e);
	return r ? r : plug_quiet(m, &m->balloon.dev, slot, e);
}

static int add_rng(struct machine *m, struct err *e)
{
	unsigned int slot = machine_rng_slot(m);
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);

	if (!r)
		r = virtio_rng_init(&m->rng, &m->mem, irq, &m->loop, e);
	return r ? r : plug_quiet(m, &m->rng.dev, slot, e);
}

static int add_share(struct machine *m, unsigned int i, struct err *e)
{
	struct share *s = &m->share[i];
	unsigned int slot = machine_share_slot(m, i);
	struct irq irq;
	int r = worker_init(&s->worker, e);

	if (!r)
		r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);
	if (!r)
		r = virtio_fs_init(&s->fs, &m->mem,
				   s->server ? fuse_server_backend(s->server) : NULL,
				   m->config.share[i].tag, irq, &s->worker.loop, e);
	return r ? r : plug_virtio(m, &s->fs.dev, slot, e);
}

static int open_nets(struct machine *m, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	for (unsigned int i = 0; i < cfg->nets && !r; i++) {
		m->net[i] = calloc(1, sizeof(*m->net[i]));
		r = m->net[i] ? net_open(m->net[i], &cfg->net[i], e)
			      : err_set(e, ENOMEM, "out of memory");
	}
	return r;
}

/* One that leads nowhere needs no doorbell in KVM. */
static int add_net(struct machine *m, unsigned int i, struct err *e)
{
	unsigned int slot = machine_net_slot(m, i);
	struct net *n = m->net[i];
	struct irq irq;
	int r = slot_line(m, slot, &irq, e);

	if (!r)
		r = net_init(n, &m->mem, irq, &m->loop, e);
	if (!r && n->backend)
		return plug_virtio(m, &n->dev.dev, slot, e);
	return r ? r : plug_quiet(m, &n->dev.dev, slot, e);
}

static int connect_nets(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = net_connect(m->net[i], e);
	return r;
}

void machine_ready(struct machine *m)
{
	open_doors(m);
	mark(m, MARK_READY);
	if (m->ready)
		m->ready(m->ready_ctx);
	journal_event(m->rundir, "ready");
}

static void first_hello(void *ctx)
{
	machine_ready(ctx);
}

/* A connection of the agent's: a new one, or, while a state is loaded, the one that is in it. */
static int agent_connects(void *ctx)
{
	struct machine *m = ctx;
	struct err e;

	return m->loading ? link_restore(&m->link, &e) : link_connect(&m->link);
}

static int add_vsock(struct machine *m, struct err *e)
{
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI, &irq, e);

	vsock_unix_init(&m->vsock_host, rundir_sockets(m->rundir), RUNDIR_VSOCK, &m->vsock, &m->loop);
	if (!r)
		r = virtio_vsock_init(&m->vsock, &m->mem, GUEST_CID, &m->vsock_host.host, irq,
				      &m->loop, e);
	if (!r)
		r = plug_virtio(m, &m->vsock.dev, 0, e);
	if (r)
		return r;
	m->link_service = (struct vsock_service){
		.port = AGENT_PORT, .connect = agent_connects, .ctx = m};
	vsock_unix_serve(&m->vsock_host, &m->link_service);
	m->link.ready = first_hello;
	m->link.ctx = m;
	return link_init(&m->link, &m->loop, e);
}

static int add_serial(struct machine *m, struct err *e)
{
	struct serial_host host;
	struct irq irq;
	int r = new_line(m, LAYOUT_COM1_GSI, &irq, e);

	if (r)
		return r;
	host = console_host(&m->console);
	serial_init(&m->serial, irq, &host);
	return bus_add(&m->pio, LAYOUT_COM1, SERIAL_PORTS, &serial_ops, &m->serial, e);
}

static int add_power(struct machine *m, struct err *e)
{
	int r = bus_add(&m->pio, LAYOUT_POWER, POWER_PORTS, &power_ops, &m->end, e);

	if (!r)
		r = bus_add(&m->pio, LAYOUT_PVPANIC, 1, &pvpanic_ops, &m->end, e);
	return r ? r : bus_add(&m->pio, LAYOUT_I8042, I8042_PORTS, &i8042_ops, &m->end, e);
}

/* Every VM gets an id of its own, also one that goes on from another's memory. */
static int add_vmgenid(struct machine *m, struct err *e)
{
	struct vmgenid *v = &m->vmgenid;
	int r = new_line(m, LAYOUT_EVENT_GSI, &v->irq, e);

	v->mem = &m->mem;
	v->at = gpa(LAYOUT_VMGENID);
	return r ? r : vmgenid_renew(v, e);
}

static int add_devices(struct machine *m, struct err *e)
{
	int r = add_power(m, e);

	if (!r)
		r = add_serial(m, e);
	if (!r)
		r = add_vmgenid(m, e);
	if (!r)
		r = add_vsock(m, e);
	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = add_disk(m, i, e);
	if (!r && m->config.balloon)
		r = add_balloon(m, e);
	if (!r && m->config.rng)
		r = add_rng(m, e);
	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = add_net(m, i, e);
	for (unsigned int i = 0; i < m->config.shares && !r; i++)
		r = add_share(m, i, e);
	return r ? r : add_spares(m, e);
}

static int add_vcpus(struct machine *m, const struct boot_entry *entry, struct err *e)
{
	struct kvm_cpuid2 *cpuid;
	int r = cpuid_make(&m->kvm, m->config.cpus, m->config.cpu_template, &cpuid, e);

	if (r)
		return r;
	for (unsigned int i = 0; i < m->config.cpus && !r; i++) {
		cpuid_number(cpuid, i);
		r = vcpu_init(&m->vcpu[i], i, &m->vcpu_host, cpuid, e);
		m->vcpus += !r;
	}
	free(cpuid);
	return r ? r : vcpu_set_entry(&m->vcpu[0], entry, e);
}

/* The command line: the machine's part, then the user's, so that the user's word is the last. */
static int compose_cmdline(const struct machine *m, char *text, size_t size, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	const char *root = "";
	int n;

	if (cfg->has_root)
		root = cfg->disk[0].read_only ? " root=/dev/vda ro" : " root=/dev/vda rw";
	n = snprintf(text, size, "%s%s uvm.hostname=%s%s%s", CMDLINE_BASE, root, m->rundir->id,
		     cfg->cmdline ? " " : "", cfg->cmdline ? cfg->cmdline : "");
	for (unsigned int i = 0; i < cfg->nets && n < (int)size; i++) {
		char words[LAYOUT_CMDLINE_MAX];

		if (net_words(&cfg->net[i], i, NULL, words, sizeof(words)))
			n += snprintf(text + n, size - (size_t)n, " uvm.net=%s", words);
	}
	if (n >= (int)size)
		return err_set(e, EINVAL, "the kernel command line is longer than %u characters",
			       LAYOUT_CMDLINE_MAX - 1);
	return 0;
}

static int load(struct machine *m, struct boot_entry *entry, struct err *e)
{
	char cmdline[LAYOUT_CMDLINE_MAX];
	struct boot_source src = {
		.kernel = m->config.kernel,
		.initrd = m->config.initrd,
		.cmdline = cmdline,
		.cpus = m->config.cpus,
		.virtio = virtio_places(m),
	};
	int r = compose_cmdline(m, cmdline, sizeof(cmdline), e);

	if (m->config.agent && !src.initrd) {
		src.image = guest_image;
		src.image_size = (size_t)(guest_image_end - guest_image);
	}
	return r ? r : boot_load(&src, &m->mem, entry, e);
}

/* Reading the guest's kernel is work, and making a VM mostly waiting, for an RCU grace period of
 * the host's. Who waits goes first, or on a busy host nobody would wait before the work is done.
 */
struct loading {
	struct machine *m;
	struct boot_entry *entry;
	struct err e;
	int result;
};

static void *load_thread(void *arg)
{
	struct loading *l = arg;

	l->result = load(l->m, l->entry, &l->e);
	mark(l->m, MARK_LOADED);
	return NULL;
}

static int create_and_load(struct machine *m, struct boot_entry *entry, struct err *e)
{
	struct loading l = {.m = m, .entry = entry};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, load_thread, &l);

	if (r)
		return err_set(e, r, "cannot start a thread: %s", strerror(r));
	r = kvm_create_vm(&m->kvm, &m->mem, true, e);
	pthread_join(thread, NULL);
	mark(m, MARK_VM);
	if (!l.result)
		return r;
	*e = l.e; /* what the user named goes before what the host lacks */
	return l.result;
}

static size_t status(void *ctx, char *text, size_t size)
{
	struct machine *m = ctx;
	static const char *const console[] = {"stdio", "file", "log", "off"};
	struct err none;
	pid_t pid = rundir_pid(m->rundir, &none); /* which others know us by */
	int n = snprintf(text, size,
			 "id %s\npid %d\nstate %s\nagent %s\ncpus %u\nmemory %" PRIu64
			 "\nuptime_ms %" PRIu64 "\nkernel %s\nconsole %s\nsandbox %s\njail %s\n",
			 m->rundir->id, (int)(pid > 0 ? pid : getpid()), m->paused ? "paused" : "running",
			 m->mark[MARK_READY] ? "ready" : "no",
			 m->config.cpus, m->config.memory,
			 (now_ns() - m->mark[MARK_RUN]) / 1000000u, m->config.kernel,
			 console[m->config.console.mode], m->confine.on ? "on" : "none",
			 m->jailed ? "on" : "none");
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

static void signalled(struct loop_source *s, uint32_t events)
{
	struct machine *m = CONTAINER_OF(s, struct machine, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(s->fd, &info, sizeof(info)) == sizeof(info))
		end_set(&m->end, END_STOPPED, "ended by signal %u", info.ssi_signo);
}

/* A device touched a page of the guest's, as a vCPU may (vcpu.c). Nothing can go on from there. */
static void bus_error(int sig)
{
	(void)sig;
	log_line(MEM_LOST);
	_exit(EXIT_FAILURE);
}

/* Before any thread is made, so that all inherit the mask and only the loop hears of them. */
static int watch_signals(struct machine *m, struct err *e)
{
	sigset_t set;
	int r;

	sigaction(SIGBUS, &(struct sigaction){.sa_handler = bus_error}, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	m->signals = (struct loop_source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
					  .ready = signalled};
	if (m->signals.fd < 0)
		return err_sys(e, "cannot make a signalfd");
	r = loop_add(&m->loop, &m->signals, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch signals: %s", strerror(-r)) : 0;
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

static int open_control(struct machine *m, struct err *e)
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

/* --- the doors: what clients need to reach the VM ---
 *
 * The guest does not need them, so they are opened a moment after it has run to its first exit; or
 * after a time, if it has none; or when its agent is ready. Who begins with them keeps a vCPU waiting on a
 * host that has no other CPU to spare, and a CPU that is only just idle counts as none.
 */

static void open_doors(struct machine *m)
{
	struct err e;
	int r;

	if (m->reachable)
		return;
	m->reachable = true;
	free(m->loaded);
	m->loaded = NULL;
	journal_event(m->rundir, "start");
	r = vsock_unix_listen(&m->vsock_host, &e);
	if (!r)
		r = open_control(m, &e);
	if (!r)
		r = rundir_write_pid(m->rundir, &e);
	if (r)
		end_set(&m->end, END_FAULT, "%s", e.text);
	else if (!m->config.agent && m->ready)
		m->ready(m->ready_ctx); /* nobody will say when that guest is */
}

static void doors_due(struct loop_source *s, uint32_t events)
{
	uint64_t times;

	(void)events;
	if (read(s->fd, &times, sizeof(times)) == sizeof(times))
		open_doors(CONTAINER_OF(s, struct machine, doors));
}

static int add_doors(struct machine *m, struct err *e)
{
	int r;

	m->doors = (struct loop_source){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = doors_due};
	if (m->doors.fd < 0)
		return err_sys(e, "cannot make a timer");
	m->vcpu_host.first_exit = m->doors.fd;
	r = loop_add(&m->loop, &m->doors, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch a timer: %s", strerror(-r)) : 0;
}

/* Whether the VM's process is to be in a jail. Not where its parts go by path yet: a share, an OCI runtime's
 * root, a template that completes itself.
 */
static bool wants_jail(const struct machine_config *cfg)
{
	const struct confine_needs *c = &cfg->confine;

	return !c->none && !c->runtime && !c->paths && !cfg->shares && jail_possible();
}

/* What comes before the memory has its content; so the keeper is small. A fork has one already. */
static int begin(struct machine *m, const struct machine_config *cfg, struct rundir *rundir,
		 const struct machine_source *src, struct err *e)
{
	int r = 0;

	m->config = *cfg;
	m->rundir = rundir;
	m->end.loop = &m->loop;
	m->console.out.fd = -1;
	if (!m->mark[MARK_START])
		mark(m, MARK_START);
	m->null = -1;
	if (src && src->parent) {
		m->jailed = src->parent->jailed;
		m->null = src->parent->null;
	} else if (wants_jail(cfg)) {
		m->jailed = true;
		m->null = open("/dev/null", O_RDWR | O_CLOEXEC);
		r = keeper_start(rundir, src ? src->snapshot : NULL, e);
	}
	return r;
}

/* What comes after the VM exists: its devices, which nobody has used yet. */
static int build(struct machine *m, struct err *e)
{
	int r = loop_init(&m->loop, e);

	if (!r && !m->config.no_signals)
		r = watch_signals(m, e);
	if (!r)
		r = console_init(&m->console, &m->config.console, &m->serial, &m->loop, &m->end, e);
	if (!r)
		r = add_devices(m, e);
	m->vcpu_host = (struct vcpu_host){
		.kvm = &m->kvm, .pio = &m->pio, .mmio = &m->mmio, .mem = &m->mem, .end = &m->end,
		.trace = &m->trace, .confine = &m->confine};
	return r ? r : add_doors(m, e);
}

/* What a failure leaves: the terminal as it was. */
static int built(struct machine *m, int r)
{
	if (r)
		console_close(&m->console);
	return r;
}

int machine_init(struct machine *m, const struct machine_config *cfg, struct rundir *rundir,
		 struct err *e)
{
	struct boot_entry entry;
	int r;

	r = begin(m, cfg, rundir, NULL, e);
	/* What the user named comes first, so that a wrong name is said before anything is made. */
	if (!r)
		r = open_disks(m, NULL, e);
	if (!r)
		r = open_shares(m, NULL, e);
	if (!r)
		r = open_nets(m, e);
	if (!r)
		r = kvm_open(&m->kvm, e);
	if (!r)
		r = mem_init(&m->mem, cfg->memory, e);
	for (unsigned int i = 0; i < m->mem.count && cfg->huge_pages; i++)
		mem_expect(&m->mem, m->mem.region[i].start, m->mem.region[i].size);
	if (!r)
		r = create_and_load(m, &entry, e);
	if (!r)
		r = build(m, e);
	if (!r)
		r = connect_nets(m, e);
	if (!r)
		r = add_vcpus(m, &entry, e);
	return built(m, r);
}

static int map_memory(struct machine *m, const struct machine_source *src, struct err *e)
{
	struct memfile_layer layer[MEMFILE_LAYERS];
	int r;

	m->snapshot = src->snapshot;
	if (src->parent) { /* inherited by fork(2), copy-on-write */
		m->mem = src->parent->mem;
		m->recorded = true;
		m->confine = src->parent->confine;
		return 0;
	}
	r = memfile_map(&m->mem, m->config.memory, layer, snapshot_layers(src->snapshot, layer), e);
	if (!r && m->config.agent)
		m->recorded = snapshot_populate(src->snapshot, &m->mem);
	return r;
}

static int fill_placeholders(struct machine *m, struct err *e)
{
	unsigned int filled = 0;
	int r = 0;

	for (unsigned int i = 0; i < m->config.disks && filled < m->config.fills && !r; i++)
		if (!m->disk[i]->now.files)
			r = disk_fill(m->disk[i], &m->config.fill[filled++], &m->config.disk[i],
				      m->rundir, e);
	return r || filled == m->config.fills
		       ? r
		       : err_set(e, EINVAL, "%u disks, but the snapshot has %u placeholders for them",
				 m->config.fills, filled);
}

int machine_restore(struct machine *m, const struct machine_config *cfg,
		    const struct machine_source *src, struct rundir *rundir, struct err *e)
{
	int r;

	r = begin(m, cfg, rundir, src, e);
	if (!r)
		r = open_disks(m, src, e);
	if (!r)
		r = open_shares(m, src, e);
	if (!r)
		r = open_nets(m, e);
	if (!r && src->parent)
		kvm_adopt(&m->kvm, &src->parent->kvm);
	else if (!r)
		r = kvm_open(&m->kvm, e);
	if (!r)
		r = map_memory(m, src, e);
	mark(m, MARK_LOADED);
	if (!r)
		r = kvm_create_vm(&m->kvm, &m->mem, false, e);
	mark(m, MARK_VM);
	if (!r)
		r = build(m, e);
	m->loading = true;
	if (!r)
		r = machine_load(m, src->state, src->check, e);
	m->loading = false;
	if (!r)
		r = fill_placeholders(m, e);
	for (unsigned int i = 0; i < cfg->share_fills && !r; i++)
		r = share_fill(m->share, m->config.shares, &cfg->share_fill[i], e);
	if (!r)
		r = connect_nets(m, e);
	return built(m, r);
}

static void stop_threads(struct machine *m)
{
	for (unsigned int i = 0; i < m->vcpus; i++)
		vcpu_stop(&m->vcpu[i]);
	for (unsigned int i = 0; i < m->config.disks; i++)
		worker_stop(&m->disk[i]->worker);
	for (unsigned int i = 0; i < m->config.nets; i++)
		net_stop(m->net[i]);
	for (unsigned int i = 0; i < m->config.shares; i++)
		worker_stop(&m->share[i].worker);
}

static int start_threads(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = worker_start_when_needed(&m->disk[i]->worker, &m->loop, e);
	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = net_start(m->net[i], &m->loop, e);
	for (unsigned int i = 0; i < m->config.shares && !r; i++)
		r = worker_start_when_needed(&m->share[i].worker, &m->loop, e);
	for (unsigned int i = 0; i < m->vcpus && !r; i++)
		r = vcpu_start(&m->vcpu[i], e);
	return r;
}

/* The last that is done before the guest runs. */
static int give_up(struct machine *m, struct err *e)
{
	int r;

	for (unsigned int i = 0; i < m->config.disks; i++) {
		if (!m->confine.on && !m->config.confine.none)
			disk_prepare(m->disk[i]);
		worker_confine(&m->disk[i]->worker, &m->confine, CONFINE_DISK, &m->end);
	}
	for (unsigned int i = 0; i < m->config.nets; i++)
		worker_confine(&m->net[i]->worker, &m->confine, CONFINE_NET, &m->end);
	for (unsigned int i = 0; i < m->config.shares; i++)
		worker_confine(&m->share[i].worker, &m->confine, CONFINE_SHARE, &m->end);
	m->config.confine.shares = m->config.shares;
	/* Not before KVM_CREATE_VM, which is slower in some cgroups. */
	r = cgroup_join(&m->config.cgroup, e);
	if (!r && m->jailed)
		r = m->confine.on ? jail_move(m->rundir, e) : jail_enter(m->rundir, m->snapshot, e);
	return r ? r : confine(&m->confine, &m->config.confine, e);
}

bool machine_pause(struct machine *m)
{
	stop_threads(m);
	return end_get(&m->end) == END_NONE;
}

void machine_resume(struct machine *m)
{
	struct err e;

	for (unsigned int i = 0; i < m->vcpus; i++)
		vcpu_stood_still(&m->vcpu[i]);
	if (start_threads(m, &e))
		end_set(&m->end, END_FAULT, "cannot go on after a pause: %s", e.text);
}

int machine_run(struct machine *m, struct err *e)
{
	int r;

	r = give_up(m, e);
	mark(m, MARK_RUN);
	timerfd_settime(m->doors.fd, 0, &(struct itimerspec){.it_value.tv_nsec = DOORS_NS}, NULL);
	if (!r)
		r = start_threads(m, e);
	if (!r) {
		r = loop_run(&m->loop);
		if (r)
			err_set(e, -r, "waiting for events failed: %s", strerror(-r));
	}
	mark(m, MARK_END);
	if (!m->reachable) /* a guest that ended at once */
		journal_event(m->rundir, "start");
	stop_threads(m);
	m->mark[MARK_EXIT] = m->vcpu[0].first_exit;
	console_close(&m->console);
	return r;
}

void machine_print_marks(const struct machine *m, FILE *out)
{
	static const char *const name[MARKS] = {"start",     "kernel loaded", "VM created",
						"vCPUs run", "first exit",    "agent ready",
						"end"};
	uint64_t before = m->mark[MARK_START];

	fprintf(out, "%-16s %12s %12s\n", "timing", "at (ms)", "took (ms)");
	for (unsigned int i = 0; i < MARKS; i++) {
		if (!m->mark[i])
			continue;
		fprintf(out, "%-16s %12.3f %12.3f\n", name[i],
			(double)(m->mark[i] - m->mark[MARK_START]) / 1e6,
			(double)(m->mark[i] - before) / 1e6);
		before = m->mark[i];
	}
}
