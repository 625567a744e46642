/* SPDX-License-Identifier: Apache-2.0
 *
 * machine: one VM, put together: memory, CPUs, devices, and the threads that serve them.
 *
 * docs/architecture.md has the picture. In short: the calling thread runs the main loop (console,
 * control socket, vsock), each vCPU, disk, share and network has a thread of its own, and the first to
 * see the VM's end stops the main loop.
 */
#ifndef UVM_VMM_MACHINE_H
#define UVM_VMM_MACHINE_H

#include <stdio.h>

#include "devices/serial.h"
#include "devices/virtio_balloon.h"
#include "devices/virtio_rng.h"
#include "devices/virtio_slot.h"
#include "devices/virtio_vsock.h"
#include "devices/vmgenid.h"
#include "devices/vsock_unix.h"
#include "vmm/cgroup.h"
#include "vmm/confine.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/cpuid.h"
#include "vmm/disk.h"
#include "vmm/end.h"
#include "vmm/freeze.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/link.h"
#include "vmm/mem.h"
#include "vmm/net.h"
#include "vmm/rundir.h"
#include "vmm/share.h"
#include "snapshot/snapshot.h"
#include "vmm/vcpu.h"

/* One slot is the vsock device's, one the balloon's; all other devices share these. */
#define MACHINE_MAX_DISKS (LAYOUT_VIRTIO_MAX - 2)

/* Empty slots for what is attached later. A guest's kernel takes 270,000 instructions at boot for one,
 * copies of the guest none: so a template has some, and who boots a VM says how many.
 */
#define MACHINE_SPARES 4u

struct machine_config {
	const char *kernel, *initrd; /* paths; initrd may be NULL */
	bool agent;		     /* start the agent that is in this program, if no initrd */
	bool has_root;		     /* disk 0 is the guest's root file system */
	bool balloon;		     /* but in snapshots from before there was one */
	bool rng;
	const char *cmdline;	     /* added to what the machine itself says; or NULL */
	struct disk_config disk[MACHINE_MAX_DISKS];
	unsigned int disks;
	struct disk_config fill[MACHINE_MAX_DISKS]; /* of a clone: for its placeholders, in order */
	unsigned int fills;
	struct share_config share[SHARE_MAX];
	unsigned int shares;
	struct share_config share_fill[SHARE_MAX]; /* of a clone: for its placeholders, by tag */
	unsigned int share_fills;
	struct net_config net[NET_MAX]; /* of a clone: what its devices are connected to, in order */
	unsigned int nets;
	unsigned int spares; /* slots for what is attached; machine_slots counts them */
	/* Of what was attached: its virtio slot. 0: it was there from the start; those come first. */
	uint8_t disk_slot[MACHINE_MAX_DISKS], net_slot[NET_MAX];
	uint64_t memory; /* bytes */
	bool sum_later;	 /* a snapshot with which it ends is completed by whoever had it taken */
	bool huge_pages; /* ask the host for them, for all of it; of a VM that boots */
	uint32_t cpus;
	enum cpuid_template cpu_template;
	struct console_config console;
	struct cgroup_config cgroup;
	struct confine_needs confine; /* shares: machine_run knows */
	bool no_signals; /* SIGINT, SIGTERM and SIGHUP are taken elsewhere, and blocked already */
};

/* Moments in the start of a VM, for --timing. */
enum machine_mark {
	MARK_START,  /* the command began */
	MARK_LOADED, /* kernel, initrd and tables in guest memory */
	MARK_VM,     /* the VM exists, with its memory and interrupt controllers */
	MARK_RUN,    /* vCPUs started */
	MARK_EXIT,   /* the first of them has left the guest */
	MARK_READY,  /* the agent answered */
	MARK_END,    /* the VM ended */
	MARKS,
};

struct machine {
	struct machine_config config;
	struct rundir *rundir;
	struct loop loop;
	struct end end;
	struct mem mem;
	struct kvm kvm;
	struct bus pio, mmio;
	struct console console;
	struct serial serial;
	struct vmgenid vmgenid;
	struct vsock_unix vsock_host;
	struct virtio_vsock vsock;
	struct link link;
	struct vsock_service link_service;
	struct control control;
	struct trace trace;
	struct freeze freeze;
	struct confine confine;
	bool jailed; /* in a jail, or to be when it runs */
	int null;    /* then: /dev/null, for forks */
	struct disk *disk[MACHINE_MAX_DISKS]; /* config.disks of them */
	struct virtio_balloon balloon;
	struct virtio_rng rng;
	struct share *share; /* config.shares of them */
	struct net *net[NET_MAX]; /* config.nets of them */
	struct virtio_slot spare[MACHINE_MAX_DISKS]; /* config.spares of them */
	struct vcpu_host vcpu_host;
	struct vcpu vcpu[VCPU_MAX];
	unsigned int vcpus;
	bool paused;			 /* by a control command */
	bool loading;			 /* machine_restore is at work */
	struct vcpu_state *loaded;	 /* its working memory; NULL when it is freed */
	const struct snapshot *snapshot; /* what its memory was mapped from, or NULL */
	bool recorded;			 /* a clone's: what it writes first is known */
	struct loop_source signals; /* SIGINT, SIGTERM, SIGHUP */
	struct loop_source doors;   /* a timer: when sockets and pid file are due */
	bool reachable;		    /* they are there */
	uint64_t mark[MARKS];	    /* now_ns() at each, 0: not yet */
	/* Called on the main thread when the agent is ready, or, without one, when the guest runs; the
	 * VM can be reached then. May be NULL. Set by the caller.
	 */
	void (*ready)(void *ctx);
	/* Called when all is given up, before the guest runs for the first time: returns 0 when it is to
	 * run, or -errno with a message. NULL: at once. Set by the caller.
	 */
	int (*hold)(void *ctx, struct err *e);
	void *ready_ctx; /* both's */
};

/* What a VM goes on from instead of booting a kernel. */
struct machine_source {
	const struct state_reader *state;
	const struct snapshot *snapshot; /* memory and disks are mapped from it, or were (a fork's) */
	const struct machine *parent;	 /* a fork: the machine that this process had before */
	bool check;			 /* whether this host is good for it has to be found out */
};

/* Builds the VM of this configuration (strings stay the caller's and outlive it), without
 * running it. rundir is the caller's. m is zeroed but for ready. Returns 0 or -errno; after a
 * failure the process is expected to end: descriptors and memory are left to that.
 */
int machine_init(struct machine *m, const struct machine_config *cfg, struct rundir *rundir,
		 struct err *e);

/* The same, in the state of the source, whose frame gives cfg what a clone cannot choose
 * (machine_load_config). The source's parts outlive the machine.
 */
int machine_restore(struct machine *m, const struct machine_config *cfg,
		    const struct machine_source *src, struct rundir *rundir, struct err *e);

/* The guest is ready to be used: marks the moment and calls m->ready. */
void machine_ready(struct machine *m);

/* From the main loop: stops every vCPU between two instructions and every disk between two requests.
 * Returns false if the VM has come to its end. machine_resume lets all go on; if it cannot, the VM
 * ends with a fault.
 */
bool machine_pause(struct machine *m);
void machine_resume(struct machine *m);

/* Runs it to its end, which m->end tells, and stops every thread. Its sockets and its pid file are made
 * a moment after the vCPUs run, before it is ready. Returns 0, or -errno if it could not be started.
 */
int machine_run(struct machine *m, struct err *e);

/* How many of n devices were there from the start. */
static inline unsigned int machine_first(const uint8_t *slot, unsigned int n)
{
	unsigned int first = 0;

	while (first < n && !slot[first])
		first++;
	return first;
}

/* Slots that are needed, of which there are MACHINE_MAX_DISKS. */
static inline unsigned int machine_slots(const struct machine_config *c)
{
	return machine_first(c->disk_slot, c->disks) + c->rng + machine_first(c->net_slot, c->nets) +
	       c->shares + c->spares;
}

/* The virtio slots in their order: vsock, disks, balloon, rng, networks, shares, spare ones. */
static inline unsigned int machine_disk_slot(const struct machine *m, unsigned int i)
{
	return m->config.disk_slot[i] ? m->config.disk_slot[i] : i + 1;
}

/* Behind the disks: they have the same slots with it and without. */
static inline unsigned int machine_balloon_slot(const struct machine *m)
{
	return machine_first(m->config.disk_slot, m->config.disks) + 1;
}

static inline unsigned int machine_rng_slot(const struct machine *m)
{
	return machine_balloon_slot(m) + m->config.balloon;
}

static inline unsigned int machine_net_slot(const struct machine *m, unsigned int i)
{
	return m->config.net_slot[i] ? m->config.net_slot[i] : machine_rng_slot(m) + m->config.rng + i;
}

static inline unsigned int machine_share_slot(const struct machine *m, unsigned int i)
{
	return machine_rng_slot(m) + m->config.rng + machine_first(m->config.net_slot, m->config.nets) + i;
}

/* The first of the spare ones. */
static inline unsigned int machine_spare_slot(const struct machine *m)
{
	return machine_share_slot(m, m->config.shares);
}

/* Prints when each mark was reached and what came between, as lines. */
void machine_print_marks(const struct machine *m, FILE *out);

#endif
