/* SPDX-License-Identifier: Apache-2.0
 *
 * uring: transfers on files that go on beside the thread that asked for them: io_uring(7), as much
 * of it as disks need, by its two system calls.
 *
 * A transfer is queued, handed to the kernel with others by uring_submit, and at its end taken by
 * uring_take with its result. One thread at a time uses a ring; which one, its owner's lock says.
 * The thread that has submitted a transfer must not end before it: the kernel would cancel it. A
 * forked child has no part of the ring.
 */
#ifndef UVM_DEVICES_URING_H
#define UVM_DEVICES_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/err.h"

struct io_uring_sqe;
struct io_uring_cqe;

struct uring {
	int fd;			/* -1: closed */
	int event;		/* an eventfd, readable when there is something to take */
	unsigned int entries;	/* that may be on their way at a time */
	unsigned int queued;	/* not yet submitted */
	unsigned int in_flight; /* submitted, not yet taken */
	void *rings;
	size_t rings_len, sqes_len;
	struct io_uring_sqe *sqe;
	const struct io_uring_cqe *cqe;
	uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
};

enum uring_op { URING_READ, URING_WRITE, URING_SYNC /* fdatasync */ };

struct uring_transfer {
	enum uring_op op;
	int fd;
	const struct iovec *iov; /* stays, with what it names, until the transfer was taken */
	unsigned int n;		 /* at most IOV_MAX */
	uint64_t offset;	 /* bytes */
	void *who;		 /* what uring_take gives back */
};

/* Makes a ring for `entries` transfers (a power of two). Returns 0, or -errno (-ENOSYS, -EPERM:
 * this kernel or host has none for us) with e set and u closed.
 */
int uring_open(struct uring *u, unsigned int entries, struct err *e);

/* Closes it; nothing is in flight. On one that is closed it does nothing. */
void uring_close(struct uring *u);

/* Adds a transfer. Returns false if there is no room until others were taken. */
bool uring_queue(struct uring *u, const struct uring_transfer *t);

/* Hands over what is queued. Then take what has ended: the eventfd does not tell of that any more.
 * Returns how many of the last queued the kernel would not have: they are queued no more, and
 * nothing happens to them.
 */
unsigned int uring_submit(struct uring *u);

/* The next that has ended: who, and *result, what the system call would return, or -errno. NULL if
 * there is none.
 */
void *uring_take(struct uring *u, int32_t *result);

/* Waits until there is one to take; something is in flight. */
void uring_wait(struct uring *u);

#endif
