/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define VIRTIO_ID_BALLOON 5

/* 5.5.3. MUST_TELL_HOST is not offered: a page that the guest uses again is there at once. */
#define F_STATS		 (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING	 (1ull << 5)

/* 5.5.2 numbers all queues that there could be, and has reporting at 4. Linux's transports count
 * those that there are, up to today's, as does everybody who offers reporting to it; a queue that
 * nobody serves makes its driver wait for ever. So: the queues of the features that the driver has
 * accepted, in this order, without gaps.
 */
enum { INFLATE, DEFLATE, STATS, REPORTING, QUEUES };

#define QUEUES_BEFORE_STATS 3u /* of states of version 1 */

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

/* What the driver tells (5.5.6.4): pairs of a tag and a value, of which unknown ones are left out. */
struct told {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));
_Static_assert(sizeof(struct told) == 10, "virtio 1.2, 5.5.6.4");

#define TOLD_MAX 64u /* of one buffer */

static bool tell(struct virtio_balloon *b)
{
	const struct vq_chain *c = &b->chain;
	struct told told[TOLD_MAX];
	size_t n;

	if (c->writable || c->read_len % sizeof(told[0]))
		return false;
	n = iov_read(c->iov, c->readable, 0, told, sizeof(told)) / sizeof(told[0]);
	memset(b->stat, 0xff, sizeof(b->stat));
	for (size_t i = 0; i < n; i++)
		if (told[i].tag < BALLOON_STATS)
			b->stat[told[i].tag] = told[i].value;
	b->told_ns = now_ns();
	return true;
}

static bool (*const take[QUEUES])(struct virtio_balloon *b) = {
	[INFLATE] = inflate, [DEFLATE] = deflate, [STATS] = tell, [REPORTING] = report};

/* What a queue is for, by what the driver has accepted; QUEUES: nothing. */
static unsigned int purpose(const struct virtio_dev *d, unsigned int index)
{
	if (index >= STATS && !(d->features & F_STATS))
		index++;
	return index == REPORTING && !(d->features & F_REPORTING) ? QUEUES : index;
}

/* Takes the next chain and does what it says. Returns 1, or 0 if there is none, or -EINVAL: the
 * device has failed.
 */
static int take_one(struct virtio_balloon *b, struct virtqueue *q, unsigned int what)
{
	int r = virtqueue_pop(q, &b->chain);

	b->left = BALLOON_CHAIN;
	if (r > 0 && take[what](b))
		return 1;
	if (r)
		virtio_fail(&b->dev, r < 0 ? "malformed descriptor chain"
					   : "balloon request that is none");
	return r ? -EINVAL : 0;
}

/* Serves a queue for as long as this round may. Returns whether it came to the queue's end. */
static bool serve_queue(struct virtio_balloon *b, struct virtqueue *q, unsigned int what)
{
	virtqueue_notifications(q, false);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX && b->spent < BALLOON_CHAIN; i++) {
		int r = take_one(b, q, what);

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return true;
			continue;
		}
		if (r < 0)
			return true;
		b->spent += BALLOON_CHAIN - b->left;
		virtqueue_push(q, b->chain.head, 0);
		virtio_interrupt(&b->dev, q);
	}
	return false;
}

/* Reads the figures that are there, and leaves them. */
static void hear(struct virtio_balloon *b, struct virtqueue *q)
{
	if (b->held || !virtqueue_waiting(q) || take_one(b, q, STATS) <= 0)
		return;
	virtqueue_unpop(q, 1);
	b->held = true;
}

/* Gives the buffer back that was read: the driver fills it anew (5.5.6.3). */
static void ask(struct virtio_balloon *b, struct virtqueue *q)
{
	if (!b->held)
		return;
	b->held = false;
	if (virtqueue_pop(q, &b->chain) > 0) { /* else the driver has spoiled it: hear says so */
		virtqueue_push(q, b->chain.head, 0);
		virtio_interrupt(&b->dev, q);
	}
	hear(b, q);
}

static void serve(struct virtio_dev *d)
{
	struct virtio_balloon *b = CONTAINER_OF(d, struct virtio_balloon, dev);
	bool done = true;

	b->spent = 0;
	for (unsigned int i = 0; i < d->queues && !virtio_failed(d); i++) {
		unsigned int what = purpose(d, i);

		if (what == STATS)
			hear(b, &d->queue[i]);
		else if (what < QUEUES)
			done &= serve_queue(b, &d->queue[i], what);
	}
	if (!done && !virtio_failed(d))
		virtio_again(d);
}

/* What the next driver has to tell is its own. */
static void reset(struct virtio_dev *d)
{
	struct virtio_balloon *b = CONTAINER_OF(d, struct virtio_balloon, dev);

	b->held = false;
	b->told_ns = 0;
}

static const struct virtio_ops balloon_ops = {
	.id = VIRTIO_ID_BALLOON, .name = "balloon", .queues = QUEUES, .serve = serve, .reset = reset};

int virtio_balloon_init(struct virtio_balloon *b, const struct mem *m, struct irq irq,
			struct loop *loop, struct err *e)
{
	memset(b, 0, sizeof(*b));
	b->dev.ops = &balloon_ops;
	b->dev.mem = m;
	b->dev.config = &b->config;
	b->dev.config_len = sizeof(b->config);
	b->dev.config_field = &b->config.actual;
	b->dev.offered = F_STATS | F_DEFLATE_ON_OOM | F_REPORTING;
	return virtio_init(&b->dev, irq, loop, e);
}

int virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes, struct err *e)
{
	uint64_t all = mem_size(b->dev.mem);

	if (bytes > all)
		return err_set(e, EINVAL, "a balloon of %" PRIu64 " MiB is more than the guest has: %" PRIu64 " MiB",
			       bytes >> 20, all >> 20);
	virtio_enter(&b->dev);
	b->config.num_pages = (uint32_t)(bytes / PAGE);
	virtio_config_changed(&b->dev);
	virtio_leave(&b->dev);
	return 0;
}

void virtio_balloon_figures(struct virtio_balloon *b, struct balloon_figures *f)
{
	bool live = virtio_enter(&b->dev);

	*f = (struct balloon_figures){.target = (uint64_t)b->config.num_pages * PAGE,
				      .size = (uint64_t)b->config.actual * PAGE,
				      .told_ns = b->told_ns};
	memcpy(f->stat, b->stat, sizeof(f->stat));
	if (live && purpose(&b->dev, STATS) == STATS)
		ask(b, &b->dev.queue[STATS]);
	virtio_leave(&b->dev);
}

#define FIELD(m, since) STATE_SCALAR(struct virtio_balloon, m, since)
const struct state_table virtio_balloon_table = {
	.name = "balloon",
	.version = 2,
	.fields = (const struct state_field[]){
		FIELD(config.actual, 1), FIELD(config.num_pages, 2), FIELD(dev.queues, 2), {0}}};
#undef FIELD

static bool possible(const struct virtio_balloon *b)
{
	return (b->dev.queues == QUEUES || b->dev.queues == QUEUES_BEFORE_STATS) &&
	       b->config.num_pages <= mem_size(b->dev.mem) / PAGE;
}

/* Its own part comes first, because it says how many queues there are. */
int virtio_balloon_state(struct virtio_balloon *b, uint32_t instance, struct state_visitor *v,
			 struct err *e)
{
	bool loading = state_loading(v);
	int r;

	if (loading)
		b->dev.queues = QUEUES_BEFORE_STATS;
	r = state_visit(v, &virtio_balloon_table, instance, b, e);
	if (!r && loading && !possible(b))
		r = state_invalid(v, &virtio_balloon_table, instance, "no balloon is like that", e);
	if (r) {
		b->dev.queues = QUEUES; /* whatever was loaded: a reset goes by it */
		return r;
	}
	/* Such a driver was not offered the rest, and is not now. */
	if (loading && b->dev.queues == QUEUES_BEFORE_STATS)
		b->dev.offered &= ~(F_STATS | F_DEFLATE_ON_OOM);
	return virtio_state(&b->dev, instance, v, e);
}
