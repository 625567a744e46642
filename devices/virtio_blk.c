/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_blk.h"

#include <errno.h>
#include <string.h>

#define VIRTIO_ID_BLOCK 2

/* Features (5.2.3). */
#define F_SEG_MAX (1ull << 2)
#define F_RO	  (1ull << 5)
#define F_FLUSH	  (1ull << 9)

/* Request types and status (5.2.6). */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct request { /* 5.2.6 */
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct request) == 16, "virtio 1.2, 5.2.6");

#define SERIAL_LEN 20

/* Whether the request stays inside the disk. */
static bool in_range(const struct virtio_blk *b, uint64_t sector, uint64_t len)
{
	uint64_t sectors = b->backend->size / BLK_SECTOR;

	return len && len % BLK_SECTOR == 0 && sector <= sectors &&
	       len / BLK_SECTOR <= sectors - sector;
}

/* Does the request, fills its data part. Returns the status byte; *written gets the number of
 * data bytes that the driver may look at.
 */
static uint8_t perform(struct virtio_blk *b, const struct request *rq, uint64_t *written)
{
	struct vq_chain *c = &b->chain;
	struct iovec *in = c->iov + c->readable;
	uint64_t out_len = c->read_len - sizeof(*rq), in_len = c->write_len - 1;
	unsigned int n;
	int r;

	switch (rq->type) {
	case T_IN:
		if (!in_range(b, rq->sector, in_len))
			return S_IOERR;
		n = iov_slice(in, c->writable, 0, in_len, b->part);
		r = b->backend->read(b->backend, b->part, n, rq->sector * BLK_SECTOR);
		*written = r ? 0 : in_len;
		return r ? S_IOERR : S_OK;
	case T_OUT:
		if (b->read_only || b->backend->read_only || !in_range(b, rq->sector, out_len))
			return S_IOERR;
		n = iov_slice(c->iov, c->readable, sizeof(*rq), out_len, b->part);
		r = b->backend->write(b->backend, b->part, n, rq->sector * BLK_SECTOR);
		return r ? S_IOERR : S_OK;
	case T_FLUSH: return b->backend->flush(b->backend) ? S_IOERR : S_OK;
	case T_GET_ID:
		*written = iov_write(in, c->writable, 0, b->serial, MIN(in_len, SERIAL_LEN));
		return S_OK;
	default: return S_UNSUPP;
	}
}

static void count(struct blk_stats *s, uint32_t type, uint8_t status, uint64_t in, uint64_t out)
{
	if (status != S_OK) {
		stat_add(&s->errors, 1);
	} else if (type == T_IN) {
		stat_add(&s->reads, 1);
		stat_add(&s->read_bytes, in);
	} else if (type == T_OUT) {
		stat_add(&s->writes, 1);
		stat_add(&s->written_bytes, out);
	} else if (type == T_FLUSH) {
		stat_add(&s->flushes, 1);
	}
}

/* One chain: request header, data, and the status in the last writable byte. Returns false if
 * the driver left out the first or the last.
 */
static bool serve_chain(struct virtio_blk *b)
{
	struct vq_chain *c = &b->chain;
	struct iovec *in = c->iov + c->readable;
	struct request rq;
	uint64_t written = 0;
	uint8_t status;

	if (c->read_len < sizeof(rq) || c->write_len < 1)
		return false;
	iov_read(c->iov, c->readable, 0, &rq, sizeof(rq));
	status = perform(b, &rq, &written);
	count(&b->stats, rq.type, status, written, c->read_len - sizeof(rq));
	iov_write(in, c->writable, c->write_len - 1, &status, 1);
	/* The count covers all that was written up to the status byte; where data stayed
	 * unwritten before it, the specification lets a device say so only by less.
	 */
	virtqueue_push(&b->dev.queue[0], c->head,
		       written == c->write_len - 1 ? (uint32_t)c->write_len
						   : (uint32_t)written + 1);
	return true;
}

static void serve(struct virtio_dev *d)
{
	struct virtio_blk *b = CONTAINER_OF(d, struct virtio_blk, dev);
	struct virtqueue *q = &d->queue[0];

	virtqueue_notifications(q, false);
	/* At most a queue's length in one round, so that a driver that adds without end still
	 * lets its own reset in.
	 */
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++) {
		int r = virtqueue_pop(q, &b->chain);

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return;
			continue;
		}
		if (r < 0) {
			virtio_fail(d, "malformed descriptor chain");
			return;
		}
		if (!serve_chain(b)) {
			virtio_fail(d, "block request without header or status byte");
			return;
		}
		virtio_interrupt(d, q);
	}
	virtio_again(d);
}

static const struct virtio_ops blk_ops = {.id = VIRTIO_ID_BLOCK, .queues = 1, .serve = serve};

int virtio_blk_init(struct virtio_blk *b, const struct mem *m, struct blk_backend *backend,
		    const char *serial, struct irq irq, struct loop *loop, struct err *e)
{
	memset(b, 0, sizeof(*b));
	b->backend = backend;
	b->read_only = backend->read_only;
	b->config.capacity = backend->size / BLK_SECTOR;
	b->config.seg_max = VIRTQUEUE_MAX - 2; /* header and status take a descriptor each */
	strncpy(b->serial, serial, SERIAL_LEN);
	b->dev.ops = &blk_ops;
	b->dev.mem = m;
	b->dev.config = &b->config;
	b->dev.config_len = sizeof(b->config);
	b->dev.offered = F_SEG_MAX | F_FLUSH | (b->read_only ? F_RO : 0);
	return virtio_init(&b->dev, irq, loop, e);
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

void blk_backend_empty(struct blk_backend *b, bool read_only)
{
	*b = (struct blk_backend){
		.read = refuse, .write = refuse, .flush = nothing_to_flush, .read_only = read_only};
}

int virtio_blk_set_backend(struct virtio_blk *b, struct blk_backend *backend, struct err *e)
{
	uint64_t capacity = backend->size / BLK_SECTOR;

	if (backend->read_only && !b->read_only)
		return err_set(e, EROFS,
			       "a drive that was made writable cannot get a read-only disk");
	virtio_enter(&b->dev);
	b->backend = backend;
	if (b->config.capacity != capacity) {
		b->config.capacity = capacity;
		virtio_config_changed(&b->dev);
	}
	virtio_leave(&b->dev);
	return 0;
}
