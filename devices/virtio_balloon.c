/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_balloon.h"

#include <string.h>

#define VIRTIO_ID_BALLOON 5

/* 5.5.3 */
#define F_REPORTING (1ull << 5)

/* 5.5.2 numbers all queues that there could be, and has reporting at 4. Linux's transports count
 * those that there are, up to today's, as does everybody who offers reporting to it; a queue that
 * nobody serves makes its driver wait for ever. So: without statistics and hints, 2.
 */
enum { INFLATE, DEFLATE, REPORTING, QUEUES };

#define PAGE	  4096u /* whatever the driver's own pages are (5.5.6) */
#define PFN_BATCH 256u

/* Gives back what lies in one piece, as far as this chain may. */
static void give_back(struct virtio_balloon *b, void *host, uint64_t len)
{
	len = MIN(len, b->left);
	mem_release(b->dev.mem, host, len); /* if it cannot, the guest still has the memory */
	b->left -= MIN(b->left, len + BALLOON_RANGE);
}

/* Pages in one piece, so far. */
struct run {
	uint8_t *at;
	uint64_t len;
};

static void end_run(struct virtio_balloon *b, struct run *r)
{
	if (r->len)
		give_back(b, r->at, r->len);
	r->len = 0;
}

/* An allocator hands out neighbours one after the other, upwards or downwards. */
static void add_page(struct virtio_balloon *b, struct run *r, uint8_t *page)
{
	bool above = r->len && page == r->at + r->len, below = r->len && page + PAGE == r->at;

	if (r->len >= b->left || !(above || below))
		end_run(b, r);
	if (!r->len || below)
		r->at = page;
	r->len += PAGE;
}

/* Page numbers in its readable part (5.5.6). False: the driver broke the rules. */
static bool inflate(struct virtio_balloon *b)
{
	const struct vq_chain *c = &b->chain;
	uint32_t pfn[PFN_BATCH];
	struct run run = {0};

	if (c->writable || c->read_len % sizeof(pfn[0]))
		return false;
	for (uint64_t at = 0; at < c->read_len && b->left; at += sizeof(pfn)) {
		size_t n = iov_read(c->iov, c->readable, at, pfn, sizeof(pfn)) / sizeof(pfn[0]);

		for (size_t i = 0; i < n; i++) {
			void *page = mem_span(b->dev.mem, gpa((uint64_t)pfn[i] * PAGE), PAGE);

			if (!page)
				return false;
			add_page(b, &run, page);
		}
	}
	end_run(b, &run);
	return true;
}

/* The pages come back by being touched; which they are is of no interest. */
static bool deflate(struct virtio_balloon *b)
{
	return !b->chain.writable;
}

/* The free memory itself is what the chain's writable part consists of (5.5.6.7). */
static bool report(struct virtio_balloon *b)
{
	const struct vq_chain *c = &b->chain;

	if (c->readable)
		return false;
	for (unsigned int i = 0; i < c->writable && b->left; i++)
		give_back(b, c->iov[i].iov_base, c->iov[i].iov_len);
	return true;
}

static bool (*const take[QUEUES])(struct virtio_balloon *b) = {
	[INFLATE] = inflate, [DEFLATE] = deflate, [REPORTING] = report};

/* Serves a queue for as long as this round may. Returns whether it came to the queue's end. */
static bool serve_queue(struct virtio_balloon *b, unsigned int index)
{
	struct virtio_dev *d = &b->dev;
	struct virtqueue *q = &d->queue[index];

	virtqueue_notifications(q, false);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX && b->spent < BALLOON_CHAIN; i++) {
		int r = virtqueue_pop(q, &b->chain);

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return true;
			continue;
		}
		b->left = BALLOON_CHAIN;
		if (r < 0 || !take[index](b)) {
			virtio_fail(d, r < 0 ? "malformed descriptor chain"
					     : "balloon request that is none");
			return true;
		}
		b->spent += BALLOON_CHAIN - b->left;
		virtqueue_push(q, b->chain.head, 0);
		virtio_interrupt(d, q);
	}
	return false;
}

static void serve(struct virtio_dev *d)
{
	struct virtio_balloon *b = CONTAINER_OF(d, struct virtio_balloon, dev);
	unsigned int queues = d->features & F_REPORTING ? QUEUES : REPORTING;
	bool done = true;

	b->spent = 0;
	for (unsigned int i = 0; i < queues && !virtio_failed(d); i++)
		done &= serve_queue(b, i);
	if (!done && !virtio_failed(d))
		virtio_again(d);
}

static const struct virtio_ops balloon_ops = {
	.id = VIRTIO_ID_BALLOON, .queues = QUEUES, .serve = serve};

int virtio_balloon_init(struct virtio_balloon *b, const struct mem *m, struct irq irq,
			struct loop *loop, struct err *e)
{
	memset(b, 0, sizeof(*b));
	b->dev.ops = &balloon_ops;
	b->dev.mem = m;
	b->dev.config = &b->config;
	b->dev.config_len = sizeof(b->config);
	b->dev.config_field = &b->config.actual;
	b->dev.offered = F_REPORTING;
	return virtio_init(&b->dev, irq, loop, e);
}

const struct state_table virtio_balloon_table = {
	.name = "balloon",
	.version = 1,
	.fields = (const struct state_field[]){
		STATE_SCALAR(struct virtio_balloon, config.actual, 1), {0}}};

int virtio_balloon_state(struct virtio_balloon *b, uint32_t instance, struct state_visitor *v,
			 struct err *e)
{
	int r = virtio_state(&b->dev, instance, v, e);

	return r ? r : state_visit(v, &virtio_balloon_table, instance, b, e);
}
