/* SPDX-License-Identifier: Apache-2.0
 *
 * warmup: what a guest does before it is frozen so that each of its copies need not.
 */
#ifndef UVM_VMM_WARMUP_H
#define UVM_VMM_WARMUP_H

#include <stdbool.h>

#include "vmm/link.h"

struct warmup { /* filled in by it; stays until done is called */
	struct link *link;
	link_done_fn *done;
	void *ctx;
};

/* Has the agent prepare a container: the one that "uvm run" makes of no options. keep: for the first one
 * in each copy; else it is dropped again, and only the way there is known. done as link_request has it.
 * Returns 0, or -errno with the message set when done will not be called.
 */
int warmup_container(struct warmup *w, struct link *l, bool keep, link_done_fn *done, void *ctx,
		     struct err *e);

#endif
