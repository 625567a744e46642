/* SPDX-License-Identifier: Apache-2.0
 *
 * freeze: what is done with a running VM at a standstill: a snapshot of it, or forks.
 *
 * Theory of operation. Both begin alike. The agent is told to freeze every process of the guest;
 * then the vCPUs and disks are stopped, the state is taken, and the process forks (fork(2)): the
 * child has the guest's memory as it was at that instant, copy-on-write, so the parent goes on at
 * once, whatever the memory's size. For a snapshot the child writes memory and state to files and
 * ends. For a fork it becomes the new VM: it makes another by /dev/kvm, since VMs belong to
 * the parent's address space, and puts the state into a VM of its own over the memory that it has
 * inherited.
 *
 * The child has one thread and a copy of everything; it closes what is the parent's (locks, sockets,
 * streams) before it does anything else. It reports through a socket, on which a fork is also told whether it
 * may stay: if one of several cannot be made, none is. One operation at a time.
 */
#ifndef UVM_VMM_FREEZE_H
#define UVM_VMM_FREEZE_H

#include "snapshot/snapshot.h"
#include "vmm/control.h"
#include "vmm/loop.h"
#include "vmm/rundir.h"
#include "vmm/several.h"
#include "vmm/warmup.h"

struct machine;

#define FREEZE_FORKS 64u /* of one request */

struct freeze_child {
	struct freeze *freeze;
	struct loop_source pipe; /* fd -1: none */
	char line[1024];	 /* what it said and was not yet understood */
	size_t len;
	bool good; /* it has said that all is well */
	bool failed;
};

struct freeze {
	struct machine *m;
	bool busy;
	bool thawing; /* the agent has been told to, and has not answered */
	struct control_ticket ticket; /* who asked */
	bool stop;		      /* a snapshot after which the VM ends */
	bool prepare;		      /* a container is prepared before */
	struct warmup warmup;
	bool snapshot;		      /* else forks */
	struct snapshot_draft draft;
	char name[RUNDIR_ID_MAX + 1]; /* of a fork; empty: a random one */
	unsigned int forks;	       /* wanted */
	unsigned int made, children;   /* children; those not yet heard to the end */
	struct freeze_child child[FREEZE_FORKS];
	struct state_writer state;
	char answer[CONTROL_ANSWER];
	size_t answer_len;
	struct several lost; /* of several forks */
	struct err failed; /* text empty: nothing has */
	uint64_t paused_ns; /* how long the vCPUs stood still */
};

void freeze_init(struct freeze *f, struct machine *m);

/* 0, or -EBUSY with a message: a snapshot or fork is being made, so the machine must stay as it is. */
int freeze_idle(const struct freeze *f, struct err *e);

/* Begins; the answer goes to the ticket's client. at: the directory in which the snapshot is to be
 * called name, taken over; place: its path, or empty. Returns 0, or -errno with a message if it was not begun.
 */
int freeze_snapshot(struct freeze *f, struct control_ticket ticket, int at, const char *place,
		    const char *name, enum control_snapshot how, struct err *e);
int freeze_fork(struct freeze *f, struct control_ticket ticket, const char *name, unsigned int n,
		struct err *e);

#endif
