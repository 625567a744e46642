/* SPDX-License-Identifier: Apache-2.0
 *
 * end: how a VM came to its end. Written once, by whoever sees it first (a vCPU at a triple
 * fault, the power device at a power-off, the control socket at a stop); it stops the main loop,
 * whose thread then reads it.
 */
#ifndef UVM_VMM_END_H
#define UVM_VMM_END_H

#include "vmm/loop.h"

enum end_reason {
	END_NONE,     /* still running */
	END_POWEROFF, /* the guest switched itself off */
	END_REBOOT,   /* the guest reset itself (a VM is not started again) */
	END_STOPPED,  /* the host ended it: a control command, a signal, the console's escape */
	END_PANIC,    /* the guest's kernel said that it panicked */
	END_FAULT,    /* KVM cannot go on with the guest; text says why */
	END_CLAIMED,  /* being written; never seen after the loop has stopped */
};

struct end {
	int reason; /* enum end_reason, atomic */
	struct loop *loop;
	char text[256]; /* set before reason is */
};

/* Ends the VM for this reason; fmt explains it in a line. Only the first call has an effect.
 * Any thread.
 */
__attribute__((format(printf, 3, 4))) void end_set(struct end *end, enum end_reason why,
						   const char *fmt, ...);

/* The reason; END_NONE while the VM runs. */
enum end_reason end_get(const struct end *end);

#endif
