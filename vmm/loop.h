/* SPDX-License-Identifier: Apache-2.0
 *
 * loop: an event loop over epoll. The monitor's main thread runs one; so does each disk's
 * worker. A loop and its sources belong to the thread that runs it: only loop_stop may be called
 * from elsewhere.
 */
#ifndef UVM_VMM_LOOP_H
#define UVM_VMM_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "vmm/err.h"
#include "vmm/util.h"

#define LOOP_BATCH 16

struct loop_source {
	int fd;
	/* Called when any of events (EPOLLIN, EPOLLOUT; EPOLLHUP and EPOLLERR always) holds. It
	 * may add, change and remove any source, itself included, and free what holds it.
	 */
	void (*ready)(struct loop_source *s, uint32_t events);
	uint32_t events; /* what it waits for now; kept by loop_* */
};

struct loop {
	int epoll;
	struct loop_source wake; /* eventfd of loop_stop */
	bool stop;
	struct epoll_event batch[LOOP_BATCH]; /* of the round in progress */
	int batch_len;
};

int loop_init(struct loop *l, struct err *e);
void loop_close(struct loop *l);

/* Starts to watch s (fd and ready set by the caller, who owns both and removes s before it
 * closes fd). Returns 0 or -errno.
 */
int loop_add(struct loop *l, struct loop_source *s, uint32_t events);
/* Changes what s waits for; no system call if nothing changes. */
void loop_watch(struct loop *l, struct loop_source *s, uint32_t events);
void loop_del(struct loop *l, struct loop_source *s);

/* Runs until loop_stop. Returns 0, or -errno if waiting failed. */
int loop_run(struct loop *l);

/* Makes loop_run return after the source that is being served. Any thread; signal safe. */
void loop_stop(struct loop *l);

/* Makes an eventfd (non-blocking, close-on-exec), or -errno with e set. */
int event_new(struct err *e);
/* Adds one; takes all there is. event_take returns false when there was nothing. */
void event_post(int fd);
bool event_take(int fd);

#endif
