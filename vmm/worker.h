/* SPDX-License-Identifier: Apache-2.0
 *
 * worker: a thread that runs a loop of its own, for what may block: a disk.
 *
 * A thread and its filter (vmm/confine.h) cost a clone 0.1 ms, and most clones never touch one of their
 * devices. So there is none before its loop has something to do.
 */
#ifndef UVM_VMM_WORKER_H
#define UVM_VMM_WORKER_H

#include <pthread.h>

#include "vmm/confine.h"
#include "vmm/end.h"
#include "vmm/loop.h"

struct worker {
	struct loop loop;
	pthread_t thread;
	bool running;
	struct loop *main; /* which waits for something to do; NULL: nobody does */
	struct loop_source needed;
	/* Called on the thread, as the last that it does. NULL after worker_init. */
	void (*last)(struct worker *w);
	const struct confine *confine; /* what it confines itself by, or NULL */
	enum confine_role role;
	struct end *end;
};

/* Sources are added to w->loop between worker_init and a start. */
int worker_init(struct worker *w, struct err *e);

/* What it confines itself by, and whom it tells when there can be no thread for what is to be done. */
void worker_confine(struct worker *w, const struct confine *c, enum confine_role role, struct end *end);

int worker_start(struct worker *w, struct err *e);

/* The same once there is something to do, as main finds; on the thread that runs main. */
int worker_start_when_needed(struct worker *w, struct loop *main, struct err *e);

/* Waits for what is in progress. On one that was not started it does nothing. May be started again. On the
 * thread that started it.
 */
void worker_stop(struct worker *w);

#endif
