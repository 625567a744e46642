/* SPDX-License-Identifier: Apache-2.0
 *
 * worker: a thread that runs a loop of its own, for what may block: a disk.
 */
#ifndef UVM_VMM_WORKER_H
#define UVM_VMM_WORKER_H

#include <pthread.h>

#include "vmm/confine.h"
#include "vmm/loop.h"

struct worker {
	struct loop loop;
	pthread_t thread;
	bool running;
	/* Called on the thread, as the last that it does. NULL after worker_init. */
	void (*last)(struct worker *w);
	const struct confine *confine; /* what it confines itself by, or NULL; set before it starts */
	enum confine_role role;
};

/* Sources are added to w->loop between the two. */
int worker_init(struct worker *w, struct err *e);
int worker_start(struct worker *w, struct err *e);

/* Waits for what is in progress. On one that was not started it does nothing. May be started again. */
void worker_stop(struct worker *w);

#endif
