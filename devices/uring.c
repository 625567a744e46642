/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/loop.h"

static int enter(struct uring *u, unsigned int submit, unsigned int want, unsigned int flags)
{
	long r = syscall(SYS_io_uring_enter, u->fd, submit, want, flags, NULL, 0);

	return r < 0 ? -errno : (int)r;
}

/* The rings, and where their parts are. A child of fork(2) would take and submit in our place. */
static int map(struct uring *u, const struct io_uring_params *p)
{
	uint8_t *at;

	u->rings_len = MAX(p->sq_off.array + p->sq_entries * sizeof(uint32_t),
			   p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe));
	u->sqes_len = p->sq_entries * sizeof(struct io_uring_sqe);
	u->rings = mmap(NULL, u->rings_len, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd,
			(off_t)IORING_OFF_SQ_RING);
	u->sqe = mmap(NULL, u->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd,
		      (off_t)IORING_OFF_SQES);
	if (u->rings == MAP_FAILED || u->sqe == MAP_FAILED ||
	    madvise(u->rings, u->rings_len, MADV_DONTFORK) ||
	    madvise(u->sqe, u->sqes_len, MADV_DONTFORK))
		return -errno;
	at = u->rings;
	u->sq_tail = (uint32_t *)(void *)(at + p->sq_off.tail);
	u->sq_array = (uint32_t *)(void *)(at + p->sq_off.array);
	u->sq_mask = *(uint32_t *)(void *)(at + p->sq_off.ring_mask);
	u->cq_head = (uint32_t *)(void *)(at + p->cq_off.head);
	u->cq_tail = (uint32_t *)(void *)(at + p->cq_off.tail);
	u->cq_mask = *(uint32_t *)(void *)(at + p->cq_off.ring_mask);
	u->cqe = (const void *)(at + p->cq_off.cqes);
	return 0;
}

/* A ring does what it is told past every seccomp filter. So before it does anything it is told, once and
 * for all, to do these three only.
 */
static int restrict_to_transfers(const struct uring *u)
{
	static const uint8_t ops[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC};
	struct io_uring_restriction only[ARRAY_SIZE(ops)] = {{0}};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		only[i].opcode = IORING_RESTRICTION_SQE_OP;
		only[i].sqe_op = ops[i];
	}
	return syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_RESTRICTIONS, only,
		       ARRAY_SIZE(only)) ||
			       syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_ENABLE_RINGS,
				       NULL, 0)
		       ? -errno
		       : 0;
}

static int set_up(struct uring *u, unsigned int entries, struct err *e)
{
	struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED};

	u->fd = (int)syscall(SYS_io_uring_setup, entries, &p);
	if (u->fd < 0)
		return err_sys(e, "no io_uring");
	/* Older ones want more mappings, look at iovecs when they like (before Linux 5.5), or
	 * cannot be restricted (before 5.10). */
	if (!(p.features & IORING_FEAT_SINGLE_MMAP) || !(p.features & IORING_FEAT_SUBMIT_STABLE))
		return err_set(e, ENOSYS, "this kernel's io_uring is too old");
	u->entries = entries;
	u->event = event_new(e);
	if (u->event < 0)
		return u->event;
	if (map(u, &p) ||
	    syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_EVENTFD, &u->event, 1) ||
	    restrict_to_transfers(u))
		return err_sys(e, "no io_uring");
	return 0;
}

int uring_open(struct uring *u, unsigned int entries, struct err *e)
{
	int r;

	*u = (struct uring){.fd = -1, .event = -1, .rings = MAP_FAILED, .sqe = MAP_FAILED};
	r = set_up(u, entries, e);
	if (r)
		uring_close(u);
	return r;
}

void uring_close(struct uring *u)
{
	if (u->fd < 0)
		return;
	if (u->rings != MAP_FAILED)
		munmap(u->rings, u->rings_len);
	if (u->sqe != MAP_FAILED)
		munmap(u->sqe, u->sqes_len);
	if (u->event >= 0)
		close(u->event);
	close(u->fd);
	u->fd = u->event = -1;
}

bool uring_queue(struct uring *u, const struct uring_transfer *t)
{
	static const uint8_t opcode[] = {[URING_READ] = IORING_OP_READV,
					 [URING_WRITE] = IORING_OP_WRITEV,
					 [URING_SYNC] = IORING_OP_FSYNC};
	uint32_t tail = *u->sq_tail, i = tail & u->sq_mask;
	struct io_uring_sqe *s = &u->sqe[i];

	if (u->queued + u->in_flight == u->entries)
		return false;
	memset(s, 0, sizeof(*s));
	s->opcode = opcode[t->op];
	s->fd = t->fd;
	s->user_data = (uintptr_t)t->who;
	if (t->op == URING_SYNC) {
		s->fsync_flags = IORING_FSYNC_DATASYNC;
	} else {
		s->off = t->offset;
		s->addr = (uintptr_t)t->iov;
		s->len = t->n;
	}
	u->sq_array[i] = i;
	__atomic_store_n(u->sq_tail, tail + 1, __ATOMIC_RELEASE);
	u->queued++;
	return true;
}

unsigned int uring_submit(struct uring *u)
{
	unsigned int left;

	if (!u->queued)
		return 0;
	while (u->queued) {
		int n = enter(u, u->queued, 0, 0);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		u->queued -= (unsigned int)n;
		u->in_flight += (unsigned int)n;
	}
	left = u->queued;
	u->queued = 0;
	__atomic_store_n(u->sq_tail, *u->sq_tail - left, __ATOMIC_RELEASE);
	/* What has ended already is about to be taken. Not by switching the signal off meanwhile:
	 * the kernel reads that flag without a barrier behind its new tail.
	 */
	event_take(u->event);
	return left;
}

void *uring_take(struct uring *u, int32_t *result)
{
	uint32_t head = *u->cq_head;
	const struct io_uring_cqe *c = &u->cqe[head & u->cq_mask];
	void *who;

	if (!u->in_flight || head == __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE))
		return NULL;
	who = (void *)(uintptr_t)c->user_data;
	*result = c->res;
	__atomic_store_n(u->cq_head, head + 1, __ATOMIC_RELEASE);
	u->in_flight--;
	return who;
}

void uring_wait(struct uring *u)
{
	enter(u, 0, 1, IORING_ENTER_GETEVENTS); /* a signal: who waits looks, and waits again */
}
