/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtqueue.h"

#include <errno.h>
#include <string.h>

/* Wire layout (2.7.5, 2.7.6, 2.7.8). The avail and used rings are used by offsets, because their
 * last field, the event index, follows an array as long as the queue.
 */
struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
_Static_assert(sizeof(struct vring_desc) == 16, "virtio 1.2, 2.7.5");

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

#define RING_FLAGS	   0
#define RING_IDX	   2
#define AVAIL_RING(i)	   (4 + 2 * (size_t)(i))
#define USED_RING(i)	   (4 + 8 * (size_t)(i))
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY	   1

int virtqueue_enable(struct virtqueue *q, const struct mem *m, uint64_t features)
{
	uint64_t n = q->size;

	if (n == 0 || n > VIRTQUEUE_MAX || n & (n - 1))
		return -EINVAL;
	if (q->desc_at.v % 16 || q->avail_at.v % 2 || q->used_at.v % 4)
		return -EINVAL;
	q->desc = mem_span(m, q->desc_at, n * sizeof(struct vring_desc));
	q->avail = mem_span(m, q->avail_at, AVAIL_RING(n) + 2);
	q->used = mem_span(m, q->used_at, USED_RING(n) + 2);
	if (!q->desc || !q->avail || !q->used)
		return -EINVAL;
	q->mem = m;
	q->indirect = features & VIRTIO_F_INDIRECT_DESC;
	q->event_idx = features & VIRTIO_F_EVENT_IDX;
	q->next_avail = q->next_used = q->signalled_used = 0;
	q->ready = true;
	return 0;
}

#define FIELD(m) STATE_SCALAR(struct virtqueue, m, 1)
const struct state_table virtqueue_table = {
	.name = "virtqueue",
	.version = 1,
	.fields = (const struct state_field[]){FIELD(size), FIELD(desc_at.v), FIELD(avail_at.v),
					       FIELD(used_at.v), FIELD(ready), FIELD(next_avail),
					       FIELD(next_used), FIELD(signalled_used), {0}}};
#undef FIELD

int virtqueue_resume(struct virtqueue *q, const struct mem *m, uint64_t features)
{
	struct virtqueue saved = *q;
	int r;

	if (!saved.ready)
		return saved.size > VIRTQUEUE_MAX ? -EINVAL : 0;
	r = virtqueue_enable(q, m, features);
	q->next_avail = saved.next_avail;
	q->next_used = saved.next_used;
	q->signalled_used = saved.signalled_used;
	return r;
}

void virtqueue_reset(struct virtqueue *q)
{
	*q = (struct virtqueue){.tap = q->tap};
}

static uint16_t avail_idx(const struct virtqueue *q)
{
	/* Acquire: the ring entries and descriptors were written before the index. */
	return __atomic_load_n((const uint16_t *)(q->avail + RING_IDX), __ATOMIC_ACQUIRE);
}

bool virtqueue_has_more(const struct virtqueue *q)
{
	return q->ready && avail_idx(q) != q->next_avail;
}

/* Adds one descriptor's buffer to the chain. */
static int add_buffer(const struct virtqueue *q, struct vq_chain *c, const struct vring_desc *d)
{
	unsigned int n = c->readable + c->writable;
	void *p;

	if (n == VIRTQUEUE_MAX)
		return -EINVAL;
	if (!(d->flags & DESC_WRITE) && c->writable)
		return -EINVAL; /* 2.7.4.2: readable ones come first */
	p = mem_span(q->mem, gpa(d->addr), d->len);
	if (!p)
		return -EINVAL; /* not RAM as a whole, or of length 0 */
	c->iov[n] = (struct iovec){p, d->len};
	if (d->flags & DESC_WRITE) {
		c->writable++;
		c->write_len += d->len;
	} else {
		c->readable++;
		c->read_len += d->len;
	}
	return 0;
}

/* One fetch; the driver may rewrite the descriptor while we look at it. */
static struct vring_desc fetch(const struct vring_desc *at)
{
	struct vring_desc d;

	memcpy(&d, at, sizeof(d));
	__asm__ volatile("" : "+m"(d)); /* keep the compiler from reading the original again */
	return d;
}

/* Follows a chain inside one table of count descriptors. limit bounds the steps, so that a loop
 * ends: a chain may not be longer than the queue (2.7.5.3.1 for indirect ones).
 */
static int follow(const struct virtqueue *q, const struct vring_desc *table, uint32_t count,
		  uint16_t first, bool nested, struct vq_chain *c)
{
	uint32_t i = first;

	for (unsigned int steps = 0; steps < q->size; steps++) {
		struct vring_desc d;
		int r;

		if (i >= count)
			return -EINVAL;
		d = fetch(&table[i]);
		if (d.flags & DESC_INDIRECT) {
			const struct vring_desc *inner;

			/* 2.7.5.3.1: negotiated, not nested, not together with NEXT. The
			 * specification lets direct descriptors precede one.
			 */
			if (!q->indirect || nested || d.flags & DESC_NEXT)
				return -EINVAL;
			if (d.len % sizeof(d) || d.len == 0)
				return -EINVAL;
			inner = mem_span(q->mem, gpa(d.addr), d.len);
			if (!inner)
				return -EINVAL;
			return follow(q, inner, d.len / sizeof(d), 0, true, c);
		}
		r = add_buffer(q, c, &d);
		if (r)
			return r;
		if (!(d.flags & DESC_NEXT))
			return 0;
		i = d.next;
	}
	return -EINVAL;
}

int virtqueue_pop(struct virtqueue *q, struct vq_chain *c)
{
	uint16_t idx, waiting;

	if (!q->ready)
		return 0;
	idx = avail_idx(q);
	waiting = (uint16_t)(idx - q->next_avail);
	if (!waiting)
		return 0;
	if (waiting > q->size)
		return -EINVAL; /* more than fit: the index jumped */
	c->head = mem_load_le16(q->avail + AVAIL_RING(q->next_avail & (q->size - 1)));
	c->readable = c->writable = 0;
	c->read_len = c->write_len = 0;
	if (follow(q, q->desc, q->size, c->head, false, c))
		return -EINVAL;
	q->next_avail++;
	if (trace_on(q->tap.trace))
		trace_put(q->tap.trace, TRACE_POP, q->tap.who, c->read_len, c->head, now_ns(), 0);
	return 1;
}

void virtqueue_unpop(struct virtqueue *q, unsigned int n)
{
	q->next_avail = (uint16_t)(q->next_avail - n);
}

void virtqueue_push_all(struct virtqueue *q, const struct vq_used *used, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *elem = q->used + USED_RING(q->next_used & (q->size - 1));

		mem_store_le32(elem, used[i].head);
		mem_store_le32(elem + 4, used[i].written);
		q->next_used++;
		if (trace_on(q->tap.trace))
			trace_put(q->tap.trace, TRACE_PUSH, q->tap.who, used[i].written, used[i].head,
				  now_ns(), 0);
	}
	__atomic_store_n((uint16_t *)(q->used + RING_IDX), q->next_used, __ATOMIC_RELEASE);
}

void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
	virtqueue_push_all(q, &(struct vq_used){head, written}, 1);
}

bool virtqueue_wants_interrupt(struct virtqueue *q)
{
	uint16_t old = q->signalled_used, now = q->next_used, event;

	if (!q->ready || old == now)
		return false;
	/* The driver's wish is read only after our index is visible to it; else both could look
	 * at the other's old value and wait for ever.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->signalled_used = now;
	if (!q->event_idx)
		return !(mem_load_le16(q->avail + RING_FLAGS) & AVAIL_NO_INTERRUPT);
	event = mem_load_le16(q->avail + AVAIL_RING(q->size));
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

uint16_t virtqueue_untold(const struct virtqueue *q)
{
	return (uint16_t)(q->next_used - q->signalled_used);
}

void virtqueue_notifications(struct virtqueue *q, bool wanted)
{
	if (!q->ready)
		return;
	if (q->event_idx) {
		/* Unwanted is said by leaving the event index behind. */
		if (wanted)
			mem_store_le16(q->used + USED_RING(q->size), q->next_avail);
	} else {
		mem_store_le16(q->used + RING_FLAGS, wanted ? 0 : USED_NO_NOTIFY);
	}
	if (wanted)
		__atomic_thread_fence(__ATOMIC_SEQ_CST); /* before the caller looks again */
}

bool virtqueue_waiting(struct virtqueue *q)
{
	if (virtqueue_has_more(q))
		return true;
	virtqueue_notifications(q, true);
	if (!virtqueue_has_more(q))
		return false;
	virtqueue_notifications(q, false);
	return true;
}

uint64_t iov_length(const struct iovec *iov, unsigned int n)
{
	uint64_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

unsigned int iov_slice(const struct iovec *iov, unsigned int n, size_t offset, size_t len,
		       struct iovec *out)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < n && len; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len);
		out[count++] = (struct iovec){(char *)iov[i].iov_base + offset, part};
		offset = 0;
		len -= part;
	}
	return count;
}

enum direction { FROM_IOV, TO_IOV };

static size_t iov_copy(const struct iovec *iov, unsigned int n, size_t offset, void *flat,
		       size_t len, enum direction direction)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < len; i++) {
		size_t part;
		char *p = iov[i].iov_base;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		if (direction == FROM_IOV)
			memcpy((char *)flat + done, p + offset, part);
		else
			memcpy(p + offset, (char *)flat + done, part);
		offset = 0;
		done += part;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *to, size_t len)
{
	return iov_copy(iov, n, offset, to, len, FROM_IOV);
}

size_t iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *from,
		 size_t len)
{
	return iov_copy(iov, n, offset, (void *)(uintptr_t)from, len, TO_IOV);
}
