/* SPDX-License-Identifier: Apache-2.0
 *
 * virtqueue: the split virtqueue (virtio 1.2, 2.7), and the one place that follows descriptors.
 *
 * A device pops a chain, which is checked as a whole and translated to iovecs there; beyond this
 * file nobody sees a descriptor, an index or a guest address. Whatever the driver's memory says,
 * a pop does a bounded amount of work: at most as many descriptors as the queue is long.
 *
 * A queue is used by one thread at a time; the driver runs beside it, so each shared field is
 * loaded once.
 */
#ifndef UVM_DEVICES_VIRTQUEUE_H
#define UVM_DEVICES_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "snapshot/state.h"
#include "vmm/mem.h"
#include "vmm/trace.h"

#define VIRTQUEUE_MAX 256 /* entries; also the longest chain */

/* Feature bits that the queues serve for every device (6). */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)

struct vring_desc;

struct virtqueue {
	/* Set by the transport while the queue is not ready. */
	uint16_t size; /* a power of two up to VIRTQUEUE_MAX */
	gpa_t desc_at, avail_at, used_at;
	/* Since virtqueue_enable. */
	bool ready;
	bool indirect, event_idx; /* as negotiated */
	const struct mem *mem;
	const struct vring_desc *desc;
	uint8_t *avail, *used;
	uint16_t next_avail, next_used;
	uint16_t signalled_used; /* next_used when the driver was last told */
	struct trace_tap tap;	 /* stays over a reset */
};

/* A chain: first what the device may read, then what it may write (2.7.4.2). */
struct vq_chain {
	uint16_t head;
	unsigned int readable, writable; /* iov[0..readable), iov[readable..readable+writable) */
	uint64_t read_len, write_len;	 /* bytes in each part */
	struct iovec iov[VIRTQUEUE_MAX];
};

/* Checks the three areas (2.7: alignment; each in RAM as a whole) and starts at index 0.
 * Returns 0 or -EINVAL.
 */
int virtqueue_enable(struct virtqueue *q, const struct mem *m, uint64_t features);

/* Forgets everything but its maximum. */
void virtqueue_reset(struct virtqueue *q);

/* What of a queue is saved, and how a loaded one starts where it was: checks as virtqueue_enable. */
extern const struct state_table virtqueue_table;
int virtqueue_resume(struct virtqueue *q, const struct mem *m, uint64_t features);

/* Takes the next chain. Returns 1 with it, 0 if there is none, or -EINVAL if the driver broke a
 * rule (an index too far ahead or out of range, a loop, a buffer outside RAM, a readable
 * descriptor after a writable one, a bad indirect table): the device then needs a reset (2.1.2).
 */
int virtqueue_pop(struct virtqueue *q, struct vq_chain *c);

/* Puts back the n chains that were popped last, for want of something else. A driver that is to
 * notify of further ones is asked before (virtqueue_notifications): where they begin is lost here.
 */
void virtqueue_unpop(struct virtqueue *q, unsigned int n);

/* Returns a chain with written bytes of its writable part filled. */
void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);

/* The same for n chains, which the driver sees all at once or not yet. */
struct vq_used { /* 2.7.8 */
	uint32_t head, written;
};
void virtqueue_push_all(struct virtqueue *q, const struct vq_used *used, unsigned int n);

/* Whether the driver wants an interrupt for what was pushed since the last call (2.7.7). */
bool virtqueue_wants_interrupt(struct virtqueue *q);

/* How many chains were pushed since that was last asked. */
uint16_t virtqueue_untold(const struct virtqueue *q);

/* Whether a chain is waiting. */
bool virtqueue_has_more(const struct virtqueue *q);

/* Asks the driver to notify (or not to, as far as it heeds that) when it adds chains (2.7.10).
 * After asking for it, look again: virtqueue_has_more.
 */
void virtqueue_notifications(struct virtqueue *q, bool wanted);

/* Whether a chain is waiting, for who goes on without notifications: if not, the driver has been
 * asked to notify of the next.
 */
bool virtqueue_waiting(struct virtqueue *q);

/* Copies between a flat buffer and iovecs, from offset bytes into them. Return the bytes copied,
 * fewer than len only at the iovecs' end.
 */
size_t iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *to, size_t len);
size_t iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *from,
		 size_t len);

/* The bytes in all of them. */
uint64_t iov_length(const struct iovec *iov, unsigned int n);

/* The part [offset, offset+len) of iov[0..n), as iovecs in out (room for n; may be iov).
 * Returns how many. */
unsigned int iov_slice(const struct iovec *iov, unsigned int n, size_t offset, size_t len,
		       struct iovec *out);

#endif
