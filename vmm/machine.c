/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "guest/image.h"
#include "vmm/boot.h"
#include "vmm/jail.h"
#include "vmm/journal.h"
#include "vmm/keeper.h"
#include "vmm/log.h"
#include "vmm/machine_control.h"
#include "vmm/machine_devices.h"
#include "vmm/machine_state.h"
#include "vmm/vcpu_state.h"

#define DOORS_NS 1000000 /* at the latest, from when the vCPUs are started */

/* Said to every kernel: the console, and what to do when it cannot go on: reset at once, which
 * ends the VM. Only what is worse than an error is shown, because each character costs an exit.
 */
#define CMDLINE_BASE "console=ttyS0 loglevel=3 panic=-1"

static void open_doors(struct machine *m);

static const char *const mark_name[MARKS] = {"start",      "kernel loaded", "VM created", "vCPUs run",
					     "first exit", "agent ready",   "end"};

static void mark(struct machine *m, enum machine_mark which)
{
	m->mark[which] = now_ns();
	log_debug("%s", mark_name[which]);
}

/* When nobody waits any more: to unmap something costs a process with a VM ten times what it costs others. */
static void free_loaded(struct machine *m)
{
	free(m->loaded);
	m->loaded = NULL;
}

void machine_ready(struct machine *m)
{
	open_doors(m);
	mark(m, MARK_READY);
	if (m->ready)
		m->ready(m->ready_ctx);
	free_loaded(m);
	journal_event(m->rundir, "ready");
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
		.virtio = machine_places(m),
	};
	int r = compose_cmdline(m, cmdline, sizeof(cmdline), e);

	if (m->config.agent && !src.initrd) {
		src.image = guest_image;
		src.image_size = guest_image_size();
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
	log_write(LOG_ERROR, MEM_LOST);
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
	journal_event(m->rundir, "start");
	r = vsock_unix_listen(&m->vsock_host, &e);
	if (!r)
		r = machine_open_control(m, &e);
	if (!r)
		r = rundir_write_pid(m->rundir, &e);
	if (r)
		end_set(&m->end, END_FAULT, "%s", e.text);
	else if (!m->config.agent && m->ready)
		m->ready(m->ready_ctx); /* nobody will say when that guest is */
	if (!m->config.agent)
		free_loaded(m);
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

/* Whether the VM's process is to be in a jail. An OCI runtime's has its container's root instead. */
static bool wants_jail(const struct machine_config *cfg)
{
	const struct confine_needs *c = &cfg->confine;

	return !c->none && !c->runtime && jail_possible();
}

/* What comes before the memory has its content; so the keeper is small. A fork has one already. */
static int begin(struct machine *m, const struct machine_config *cfg, struct rundir *rundir,
		 const struct machine_source *src, struct err *e)
{
	int r = 0;

	m->config = *cfg;
	m->rundir = rundir;
	log_set_id(rundir->id);
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
		r = keeper_start(rundir, src ? src->snapshot : NULL, &cfg->confine, e);
	} else if (cfg->confine.as_user) {
		r = err_set(e, ENOTSUP, "--sandbox user= needs a jail, which there is none where /proc is of another "
					"PID namespace");
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
		r = machine_add_devices(m, e);
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
		r = machine_open_devices(m, NULL, e);
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
		r = machine_connect_nets(m, e);
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
	if (!r) /* without an agent nobody says when it has started */
		m->recorded = !m->config.agent || snapshot_populate(src->snapshot, &m->mem);
	return r;
}

/* machine_init, and not this, has begin() without a source. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-null-dereference"
int machine_restore(struct machine *m, const struct machine_config *cfg,
		    const struct machine_source *src, struct rundir *rundir, struct err *e)
{
	int r;

	r = begin(m, cfg, rundir, src, e);
	if (!r)
		r = machine_open_devices(m, src, e);
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
		log_debug("devices made; loading the snapshot's state");
	if (!r)
		r = machine_load(m, src->state, src->check, e);
	m->loading = false;
	if (!r)
		r = machine_fill(m, e);
	if (!r)
		r = machine_connect_nets(m, e);
	return built(m, r);
}
#pragma GCC diagnostic pop

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

/* An OCI runtime's are the root of a mount already, in which others come. */
static int detach_shares(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.shares && !r; i++)
		r = share_detach(&m->share[i], !m->config.confine.runtime, e);
	return r;
}

/* Where the host refuses it to its user, the VM does without: Landlock is between it and files. */
static int go_to_jail(struct machine *m, struct err *e)
{
	int r = detach_shares(m, e);

	if (!r) {
		r = jail_enter(m->rundir, m->snapshot, &m->jailed, e);
	} else {
		m->jailed = false;
		r = jail_refused(r) ? 0 : r;
	}
	if (!r && !m->jailed) {
		*e->text = 0; /* why it was refused is no failure */
		r = keeper_stay_outside(m->rundir, e);
	}
	return r || m->jailed ? r : jail_move(m->rundir, e);
}

#define DIRS (SHARE_MAX + MEMFILE_LAYERS + 1)

/* A VM's and its forks' run directories are all in one directory; a clone is told of by what it is a clone of. */
static unsigned int own_dirs(const struct machine *m, struct confine_dir *dir, int runs)
{
	unsigned int n = 0;

	dir[n++] = (struct confine_dir){.fd = runs};
	for (const struct snapshot *s = m->snapshot; s && n <= MEMFILE_LAYERS; s = s->parent)
		dir[n++] = (struct confine_dir){.fd = s->dir};
	return n;
}

static int confine_with_dirs(struct machine *m, struct err *e)
{
	struct confine_needs needs = m->config.confine;
	struct confine_dir dir[DIRS];
	int fds, runs = -1, r;

	needs.shares = m->config.shares;
	needs.files = m->rundir->keeper >= 0 && !m->jailed && !m->confine.on;
	if (needs.files) {
		runs = openat(m->rundir->dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		needs.dirs = own_dirs(m, dir, runs);
	}
	for (unsigned int i = 0; i < m->config.shares; i++) {
		if (!m->share[i].server)
			continue;
		dir[needs.dirs].read_only = fuse_server_read_only(m->share[i].server);
		fuse_server_roots(m->share[i].server, &dir[needs.dirs++].fd, &fds);
	}
	needs.dir = dir;
	r = confine(&m->confine, &needs, e);
	if (runs >= 0)
		close(runs);
	return r;
}

/* Its directory is given away before its process has the user. A fork's was made so. */
static int give_to_user(struct machine *m, struct err *e)
{
	const struct confine_needs *n = &m->config.confine;

	if (!n->as_user || m->confine.on)
		return 0;
	for (unsigned int i = 0; i < m->config.shares; i++)
		if (m->share[i].server)
			return err_set(e, ENOTSUP, "--sandbox user= and a shared directory exclude each other: its "
						   "files are served as root");
	return rundir_give(m->rundir, n->uid, n->gid, e);
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
	/* Not before KVM_CREATE_VM, which is slower in some cgroups. */
	r = cgroup_join(&m->config.cgroup, e);
	if (!r)
		r = give_to_user(m, e);
	if (!r && m->config.confine.runtime)
		r = detach_shares(m, e);
	if (!r && m->rundir->keeper >= 0) {
		log_debug("devices are ready; going into the jail");
		r = m->confine.on ? jail_move(m->rundir, e) : go_to_jail(m, e);
	}
	if (!r)
		log_debug("giving up system calls");
	return r ? r : confine_with_dirs(m, e);
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

/* Whoever it waits for shall not wait for threads. */
static int wait_held(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->vcpus && !r; i++)
		r = vcpu_prepare(&m->vcpu[i], e);
	return r ? r : m->hold(m->ready_ctx, e);
}

int machine_run(struct machine *m, struct err *e)
{
	int r;

	r = give_up(m, e);
	if (!r && m->hold)
		r = wait_held(m, e);
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
	uint64_t before = m->mark[MARK_START];

	fprintf(out, "%-16s %12s %12s\n", "timing", "at (ms)", "took (ms)");
	for (unsigned int i = 0; i < MARKS; i++) {
		if (!m->mark[i])
			continue;
		fprintf(out, "%-16s %12.3f %12.3f\n", mark_name[i],
			(double)(m->mark[i] - m->mark[MARK_START]) / 1e6,
			(double)(m->mark[i] - before) / 1e6);
		before = m->mark[i];
	}
}
