/* SPDX-License-Identifier: Apache-2.0
 *
 * machine: one VM, put together: memory, CPUs, devices, and the threads that serve them.
 *
 * docs/architecture.md has the picture. In short: the calling thread runs the main loop (console,
 * control socket, vsock), each vCPU and each disk has a thread of its own, and the first to see
 * the VM's end stops the main loop.
 */
#ifndef UVM_VMM_MACHINE_H
#define UVM_VMM_MACHINE_H

#include <stdio.h>

#include "devices/blk_file.h"
#include "devices/serial.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_vsock.h"
#include "devices/vsock_unix.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/end.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/link.h"
#include "vmm/mem.h"
#include "vmm/rundir.h"
#include "vmm/vcpu.h"
#include "vmm/worker.h"

#define MACHINE_MAX_DISKS (LAYOUT_VIRTIO_MAX - 1) /* one slot is the vsock device's */

struct disk_config {
	const char *path;
	bool read_only;
};

struct machine_config {
	const char *kernel, *initrd; /* paths; initrd may be NULL */
	bool agent;		     /* start the agent that is in this program, if no initrd */
	bool has_root;		     /* disk 0 is the guest's root file system */
	const char *cmdline;	     /* added to what the machine itself says; or NULL */
	struct disk_config disk[MACHINE_MAX_DISKS];
	unsigned int disks;
	uint64_t memory; /* bytes */
	uint32_t cpus;
	struct console_config console;
};

/* Moments in the start of a VM, for --timing. */
enum machine_mark {
	MARK_START,  /* machine_init called */
	MARK_LOADED, /* kernel, initrd and tables in guest memory */
	MARK_VM,     /* the VM exists, with its memory and interrupt controllers */
	MARK_RUN,    /* vCPUs started */
	MARK_READY,  /* the agent answered */
	MARK_END,    /* the VM ended */
	MARKS,
};

struct disk {
	struct blk_file file;
	struct virtio_blk blk;
	struct worker worker;
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
	struct vsock_unix vsock_host;
	struct virtio_vsock vsock;
	struct link link;
	struct vsock_service link_service;
	struct control control;
	struct disk *disk; /* config.disks of them */
	struct vcpu_host vcpu_host;
	struct vcpu vcpu[VCPU_MAX];
	unsigned int vcpus;
	struct loop_source signals; /* SIGINT, SIGTERM, SIGHUP */
	uint64_t mark[MARKS];	    /* now_ns() at each, 0: not yet */
	/* Called on the main loop when the agent is ready; may be NULL. Set by the caller. */
	void (*ready)(void *ctx);
	void *ready_ctx;
};

/* Builds the VM of this configuration (strings stay the caller's and outlive it), without
 * running it. rundir is the caller's. m is zeroed but for ready. Returns 0 or -errno; after a
 * failure the process is expected to end: descriptors and memory are left to that.
 */
int machine_init(struct machine *m, const struct machine_config *cfg, struct rundir *rundir,
		 struct err *e);

/* Runs it to its end, which m->end tells, and stops every thread. Returns 0, or -errno if it
 * could not be started.
 */
int machine_run(struct machine *m, struct err *e);

/* Prints when each mark was reached and what came between, as lines. */
void machine_print_marks(const struct machine *m, FILE *out);

#endif
