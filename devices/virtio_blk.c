/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VIRTIO_ID_BLOCK 2

/* Features (5.2.3). */
#define F_SEG_MAX      (1ull << 2)
#define F_RO	       (1ull << 5)
#define F_FLUSH	       (1ull << 9)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Request types and status (5.2.6). */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

#define SEGMENT_UNMAP 1u

struct request { /* 5.2.6 */
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct request) == 16, "virtio 1.2, 5.2.6");
_Static_assert(sizeof(struct blk_segment) == 16, "virtio 1.2, 5.2.6");

/* --- checks --- */

/* Whether the request stays inside the disk. */
static bool in_range(const struct virtio_blk *b, uint64_t sector, uint64_t len)
{
	uint64_t sectors = b->backend->size / BLK_SECTOR;

	return len && len % BLK_SECTOR == 0 && sector <= sectors &&
	       len / BLK_SECTOR <= sectors - sector;
}

static bool writable(const struct virtio_blk *b)
{
	return !b->read_only && !b->backend->read_only;
}

/* Makes rq one of the back end's, if it can be one. */
static uint8_t check_transfer(struct virtio_blk *b, struct blk_request *rq, const struct request *h,
			      uint64_t out_len)
{
	const struct vq_chain *c = &b->chain;
	bool in = h->type == T_IN;
	uint64_t len = in ? rq->in_len : out_len;

	if ((!in && !writable(b)) || !in_range(b, h->sector, len) || len > BLK_TRANSFER_MAX)
		return S_IOERR;
	rq->bytes = len;
	rq->io.op = in ? BLK_READ : BLK_WRITE;
	rq->io.offset = h->sector * BLK_SECTOR;
	rq->io.len = len;
	rq->io.n = in ? iov_slice(c->iov + c->readable, c->writable, 0, len, rq->part)
		      : iov_slice(c->iov, c->readable, sizeof(*h), len, rq->part);
	return S_OK;
}

/* The segments of a request to discard or to write zeros (5.2.6.2), all of them before any is
 * touched. Their number is rq->io.n then.
 */
static uint8_t check_segments(struct virtio_blk *b, struct blk_request *rq, uint64_t out_len)
{
	const struct vq_chain *c = &b->chain;
	bool discard = rq->type == T_DISCARD;
	uint32_t most = discard ? BLK_DISCARD_MAX : BLK_ZEROES_MAX;
	uint64_t n = out_len / sizeof(b->segment[0]);

	if (!(b->dev.features & (discard ? F_DISCARD : F_WRITE_ZEROES)))
		return S_UNSUPP;
	if (!writable(b) || !n || out_len % sizeof(b->segment[0]) ||
	    n > (discard ? BLK_SEGMENTS : 1))
		return S_IOERR;
	rq->io.n = (unsigned int)n;
	iov_read(c->iov, c->readable, sizeof(struct request), b->segment, out_len);
	for (unsigned int i = 0; i < n; i++) {
		const struct blk_segment *s = &b->segment[i];

		if (s->flags & ~(discard ? 0 : SEGMENT_UNMAP))
			return S_UNSUPP;
		if (s->sectors > most || !in_range(b, s->sector, (uint64_t)s->sectors * BLK_SECTOR))
			return S_IOERR;
		rq->bytes += (uint64_t)s->sectors * BLK_SECTOR;
	}
	return S_OK;
}

static uint8_t check(struct virtio_blk *b, struct blk_request *rq, const struct request *h)
{
	uint64_t out_len = b->chain.read_len - sizeof(*h);

	switch (h->type) {
	case T_IN:
	case T_OUT: return check_transfer(b, rq, h, out_len);
	case T_FLUSH: rq->io.op = BLK_FLUSH; return S_OK;
	case T_GET_ID: return S_OK;
	case T_DISCARD:
	case T_WRITE_ZEROES: return check_segments(b, rq, out_len);
	default: return S_UNSUPP;
	}
}

/* --- doing it --- */

static int each_segment(struct virtio_blk *b, const struct blk_request *rq)
{
	struct blk_backend *to = b->backend;
	int r = to->discard && to->zero ? 0 : -EOPNOTSUPP;

	for (unsigned int i = 0; i < rq->io.n && !r; i++) {
		const struct blk_segment *s = &b->segment[i];
		uint64_t offset = s->sector * BLK_SECTOR, len = (uint64_t)s->sectors * BLK_SECTOR;

		r = rq->type == T_DISCARD ? to->discard(to, offset, len)
					  : to->zero(to, offset, len, s->flags & SEGMENT_UNMAP);
	}
	return r;
}

/* At once. Returns 0 or -errno. */
static int perform(struct virtio_blk *b, struct blk_request *rq)
{
	const struct vq_chain *c = &b->chain;
	struct blk_backend *to = b->backend;

	switch (rq->type) {
	case T_IN: return to->read(to, rq->part, rq->io.n, rq->io.offset);
	case T_OUT: return to->write(to, rq->part, rq->io.n, rq->io.offset);
	case T_FLUSH: return to->flush(to);
	case T_GET_ID:
		rq->written = iov_write(c->iov + c->readable, c->writable, 0, b->serial,
					MIN(rq->in_len, BLK_SERIAL));
		return 0;
	default: return each_segment(b, rq);
	}
}

static void count(struct blk_stats *s, const struct blk_request *rq)
{
	const struct {
		uint32_t type;
		uint64_t *requests, *bytes;
	} of[] = {{T_IN, &s->reads, &s->read_bytes},
		  {T_OUT, &s->writes, &s->written_bytes},
		  {T_FLUSH, &s->flushes, NULL},
		  {T_DISCARD, &s->discards, &s->discarded_bytes},
		  {T_WRITE_ZEROES, &s->zeroes, &s->zeroed_bytes}};

	for (unsigned int i = 0; i < ARRAY_SIZE(of); i++) {
		if (of[i].type != rq->type)
			continue;
		stat_add(of[i].requests, 1);
		if (of[i].bytes)
			stat_add(of[i].bytes, rq->bytes);
	}
}

/* Answers a request, in the queue that it came from, unless the driver has given that up. */
static void finish(struct blk_request *rq, uint8_t status)
{
	struct virtio_blk *b = rq->blk;
	struct virtqueue *q = &b->dev.queue[rq->queue];

	if (status == S_OK)
		count(&b->stats, rq);
	else
		stat_add(&b->stats.errors, 1);
	if (rq->type == T_IN)
		rq->written = status == S_OK ? rq->in_len : 0;
	if (rq != &b->alone)
		b->idle[b->idle_count++] = rq;
	if (!q->ready)
		return;
	*rq->status = status;
	/* The count covers all that was written up to the status byte; where data stayed
	 * unwritten before it, the specification lets a device say so only by less.
	 */
	virtqueue_push(q, rq->head, (uint32_t)rq->written + 1);
	virtio_interrupt(&b->dev, q);
}

static uint8_t status_of(int result)
{
	return !result ? S_OK : result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
}

static void ended(struct blk_io *io, int result)
{
	finish(CONTAINER_OF(io, struct blk_request, io), status_of(result));
}

/* --- several at a time --- */

static void reap(struct virtio_blk *b, bool wait)
{
	if (b->ended.fd >= 0)
		b->backend->async->reap(b->backend, wait);
}

static void quiesce(struct virtio_dev *d)
{
	reap(CONTAINER_OF(d, struct virtio_blk, dev), true);
}

static void serve(struct virtio_dev *d);

static void some_ended(struct loop_source *s, uint32_t events)
{
	struct virtio_blk *b = CONTAINER_OF(s, struct virtio_blk, ended);
	bool live;

	(void)events;
	event_take(s->fd);
	live = virtio_enter(&b->dev);
	reap(b, false);
	if (live && !virtio_failed(&b->dev))
		serve(&b->dev);
	virtio_leave(&b->dev);
}

/* If it cannot be, requests are done one after the other. */
static void start_async(struct virtio_blk *b)
{
	int fd;

	b->async_tried = true;
	b->slot = calloc(BLK_IN_FLIGHT, sizeof(*b->slot));
	fd = b->slot ? b->backend->async->open(b->backend) : -ENOMEM;
	b->ended = (struct loop_source){.fd = fd, .ready = some_ended};
	if (fd < 0 || loop_add(b->dev.loop, &b->ended, EPOLLIN)) {
		b->ended.fd = -1;
		free(b->slot);
		b->slot = NULL;
		return;
	}
	for (b->idle_count = 0; b->idle_count < BLK_IN_FLIGHT; b->idle_count++)
		b->idle[b->idle_count] = &b->slot[BLK_IN_FLIGHT - 1 - b->idle_count];
}

static void stop_async(struct virtio_blk *b)
{
	reap(b, true);
	if (b->ended.fd >= 0)
		loop_del(b->dev.loop, &b->ended);
	b->ended.fd = -1;
	free(b->slot);
	b->slot = NULL;
	b->async_tried = false;
}

static bool begin(struct virtio_blk *b, struct blk_request *rq)
{
	return rq != &b->alone && (rq->type == T_IN || rq->type == T_OUT || rq->type == T_FLUSH) &&
	       b->backend->async->begin(b->backend, &rq->io);
}

/* --- service --- */

/* One chain: request header, data, and the status in the last writable byte. Returns the bytes that
 * were asked for, or -EINVAL if the driver left out the first or the last.
 */
static int64_t serve_chain(struct virtio_blk *b, unsigned int queue)
{
	struct vq_chain *c = &b->chain;
	struct blk_request *rq = &b->alone;
	struct iovec last;
	struct request h;
	int64_t bytes;
	uint8_t status;

	if (c->read_len < sizeof(h) || c->write_len < 1)
		return -EINVAL;
	if (b->ended.fd >= 0)
		rq = b->idle[--b->idle_count];
	iov_read(c->iov, c->readable, 0, &h, sizeof(h));
	iov_slice(c->iov + c->readable, c->writable, c->write_len - 1, 1, &last);
	rq->io = (struct blk_io){.iov = rq->part,
				 .alone = b->idle_count == BLK_IN_FLIGHT - 1 &&
					  !virtqueue_has_more(&b->dev.queue[queue]),
				 .done = ended};
	rq->blk = b;
	rq->queue = queue;
	rq->head = c->head;
	rq->type = h.type;
	rq->in_len = c->write_len - 1;
	rq->written = rq->bytes = 0;
	rq->status = last.iov_base;
	status = check(b, rq, &h);
	throttle_charge(&b->iops, 1);
	throttle_charge(&b->bps, rq->bytes);
	bytes = (int64_t)rq->bytes;
	if (status != S_OK || !begin(b, rq))
		finish(rq, status == S_OK ? status_of(perform(b, rq)) : status);
	return bytes;
}

/* Whether a request may be taken from the queue now. If not, something brings the device back to
 * it: the driver, the throttle's timer, or the end of one that is on its way.
 */
static bool may_take(struct virtio_blk *b, struct virtqueue *q)
{
	return virtqueue_waiting(q) && !throttle_holds(&b->throttle, &b->iops) &&
	       !throttle_holds(&b->throttle, &b->bps) && (b->ended.fd < 0 || b->idle_count);
}

/* Returns whether there may be more to do at once: at most a queue's length in one round of all, and
 * BLK_ROUND, so that a driver that adds without end still lets its own reset in.
 */
static bool serve_queue(struct virtio_blk *b, unsigned int index)
{
	struct virtio_dev *d = &b->dev;
	struct virtqueue *q = &d->queue[index];

	uint64_t moved = 0;

	virtqueue_notifications(q, false);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX / d->queues && moved < BLK_ROUND; i++) {
		int64_t bytes;
		int r;

		if (!may_take(b, q))
			return false;
		r = virtqueue_pop(q, &b->chain);
		if (r == 0)
			continue; /* the driver has taken its index back */
		if (!b->async_tried && b->backend->async && virtqueue_has_more(q))
			start_async(b);
		if (r < 0) {
			virtio_fail(d, "malformed descriptor chain");
			return false;
		}
		bytes = serve_chain(b, index);
		if (bytes < 0) {
			virtio_fail(d, "block request without header or status byte");
			return false;
		}
		moved += (uint64_t)bytes;
	}
	return true;
}

static void serve(struct virtio_dev *d)
{
	struct virtio_blk *b = CONTAINER_OF(d, struct virtio_blk, dev);
	bool more = false, full;

	throttle_begin(&b->throttle);
	for (unsigned int i = 0; i < d->queues && !virtio_failed(d); i++)
		more |= serve_queue(b, i);
	full = b->ended.fd >= 0 && !b->idle_count;
	if (b->ended.fd >= 0) {
		b->backend->async->go(b->backend);
		reap(b, false); /* what ends at once tells nobody else */
	}
	throttle_end(&b->throttle);
	if ((more || (full && b->idle_count)) && !virtio_failed(d))
		virtio_again(d);
}

static const struct virtio_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK, .name = "disk", .queues = 1, .serve = serve, .quiesce = quiesce};

/* --- the device --- */

/* What is offered follows from the back end that it is made with; all others can do the same. */
static void describe(struct virtio_blk *b)
{
	const struct blk_backend *to = b->backend;
	struct blk_config *c = &b->config;

	c->capacity = to->size / BLK_SECTOR;
	c->seg_max = VIRTQUEUE_MAX - 2; /* header and status take a descriptor each */
	b->dev.offered = F_SEG_MAX | F_FLUSH | (b->read_only ? F_RO : 0);
	if (b->read_only || !to->discard || !to->zero)
		return;
	b->dev.offered |= F_DISCARD | F_WRITE_ZEROES;
	c->max_discard_sectors = BLK_DISCARD_MAX;
	c->max_discard_seg = BLK_SEGMENTS;
	c->discard_sector_alignment = 4096 / BLK_SECTOR; /* less gives nothing back */
	c->max_write_zeroes_sectors = BLK_ZEROES_MAX;
	c->max_write_zeroes_seg = 1;
	c->write_zeroes_may_unmap = 1;
}

int virtio_blk_init(struct virtio_blk *b, const struct mem *m, struct blk_backend *backend,
		    const char *serial, struct irq irq, struct loop *loop, struct err *e)
{
	memset(b, 0, offsetof(struct virtio_blk, chain)); /* what follows is filled before use */
	b->backend = backend;
	b->read_only = backend->read_only;
	strncpy(b->serial, serial, BLK_SERIAL);
	b->ended.fd = -1;
	throttle_init(&b->throttle, &b->dev);
	b->dev.ops = &blk_ops;
	b->dev.mem = m;
	b->dev.config = &b->config;
	b->dev.config_len = BLK_CONFIG_LEN;
	describe(b);
	virtio_blk_set_queues(b, 1);
	return virtio_init(&b->dev, irq, loop, e);
}

void virtio_blk_set_queues(struct virtio_blk *b, unsigned int queues)
{
	b->dev.queues = queues;
	b->config.num_queues = (uint16_t)queues;
	if (queues > 1)
		b->dev.offered |= F_MQ;
}

int virtio_blk_set_limits(struct virtio_blk *b, const struct blk_limits *limits, struct err *e)
{
	limit_init(&b->bps, limits->bps, limits->bps_burst, now_ns());
	limit_init(&b->iops, limits->iops, limits->iops_burst, now_ns());
	return limits->bps || limits->iops ? throttle_start(&b->throttle, e) : 0;
}

void virtio_blk_drain(struct virtio_blk *b)
{
	virtio_enter(&b->dev);
	reap(b, true);
	virtio_leave(&b->dev);
}

void virtio_blk_close(struct virtio_blk *b)
{
	stop_async(b);
	throttle_close(&b->throttle);
	virtio_close(&b->dev);
}

static int refuse(struct blk_backend *b, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	(void)b, (void)iov, (void)n, (void)offset;
	return -EIO;
}

static int nothing_to_flush(struct blk_backend *b)
{
	(void)b;
	return 0;
}

static int refuse_discard(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	return refuse(b, NULL, (unsigned int)len, offset);
}

static int refuse_zero(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap)
{
	return refuse(b, NULL, unmap + (unsigned int)len, offset);
}

void blk_backend_empty(struct blk_backend *b, bool read_only)
{
	*b = (struct blk_backend){.read = refuse,
				  .write = refuse,
				  .flush = nothing_to_flush,
				  .discard = refuse_discard,
				  .zero = refuse_zero,
				  .read_only = read_only};
}

int blk_backend_write_zeros(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	static const uint8_t zeros[4096] __attribute__((aligned(4096)));
	struct iovec iov[64];
	int r = 0;

	while (len && !r) {
		uint64_t some = MIN(len, sizeof(zeros) * ARRAY_SIZE(iov)), left = some;
		unsigned int n = 0;

		for (; left; left -= iov[n++].iov_len)
			iov[n] = (struct iovec){(void *)(uintptr_t)zeros, MIN(left, sizeof(zeros))};
		r = b->write(b, iov, n, offset);
		offset += some;
		len -= some;
	}
	return r;
}

int virtio_blk_set_backend(struct virtio_blk *b, struct blk_backend *backend, struct err *e)
{
	uint64_t capacity = backend->size / BLK_SECTOR;

	if (backend->read_only && !b->read_only)
		return err_set(
			e, EROFS,
			"a drive that was made writable cannot get a read-only disk; ',cow' leaves that as it is, "
			"too");
	virtio_enter(&b->dev);
	stop_async(b);
	b->backend = backend;
	if (b->config.capacity != capacity) {
		b->config.capacity = capacity;
		virtio_config_changed(&b->dev);
	}
	virtio_leave(&b->dev);
	return 0;
}
