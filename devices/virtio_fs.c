/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_fs.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#define VIRTIO_ID_FS 26

enum { HIPRIO, REQUEST, QUEUES };

/* What a placeholder says to each request: that there is nothing. */
static int64_t refuse(const struct fs_request *rq)
{
	struct fuse_in_header in;
	struct fuse_out_header out = {.len = sizeof(out), .error = -ENODEV};

	if (iov_read(rq->in, rq->ins, 0, &in, sizeof(in)) < sizeof(in))
		return -EINVAL;
	if (in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET ||
	    in.opcode == FUSE_INTERRUPT || rq->out_len < sizeof(out))
		return 0;
	out.unique = in.unique;
	return (int64_t)iov_write(rq->out, rq->outs, 0, &out, sizeof(out));
}

static int64_t answer(struct virtio_fs *f)
{
	const struct vq_chain *c = &f->chain;
	struct fs_request rq = {.in = c->iov,
				.ins = c->readable,
				.out = c->iov + c->readable,
				.outs = c->writable,
				.in_len = c->read_len,
				.out_len = c->write_len};

	return f->backend ? f->backend->serve(f->backend, &rq) : refuse(&rq);
}

/* Serves a queue for as long as a round may take. Returns whether it came to the queue's end. */
static bool serve_queue(struct virtio_fs *f, unsigned int index)
{
	struct virtio_dev *d = &f->dev;
	struct virtqueue *q = &d->queue[index];

	virtqueue_notifications(q, false);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++) {
		int r = virtqueue_pop(q, &f->chain);
		int64_t written;

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return true;
			continue;
		}
		written = r < 0 ? r : answer(f);
		if (written < 0) {
			virtio_fail(d, r < 0 ? "malformed descriptor chain"
					     : "file system request without header");
			return true;
		}
		virtqueue_push(q, f->chain.head, (uint32_t)written);
		virtio_interrupt(d, q);
	}
	return false;
}

static void serve(struct virtio_dev *d)
{
	struct virtio_fs *f = CONTAINER_OF(d, struct virtio_fs, dev);
	bool done = true;

	for (unsigned int i = 0; i < QUEUES && !virtio_failed(d); i++)
		done &= serve_queue(f, i);
	if (!done && !virtio_failed(d))
		virtio_again(d);
}

static void reset(struct virtio_dev *d)
{
	struct virtio_fs *f = CONTAINER_OF(d, struct virtio_fs, dev);

	if (f->backend)
		f->backend->reset(f->backend);
}

static const struct virtio_ops fs_ops = {
	.id = VIRTIO_ID_FS, .name = "share", .queues = QUEUES, .serve = serve, .reset = reset};

bool virtio_fs_tag_valid(const char *tag, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (tag[i] <= ' ' || tag[i] > '~')
			return false;
	return len > 0 && len <= VIRTIO_FS_TAG;
}

int virtio_fs_init(struct virtio_fs *f, const struct mem *m, struct fs_backend *backend,
		   const char *tag, struct irq irq, struct loop *loop, struct err *e)
{
	memset(f, 0, sizeof(*f));
	f->backend = backend;
	if (tag)
		memcpy(f->config.tag, tag, strnlen(tag, VIRTIO_FS_TAG));
	f->config.num_request_queues = 1;
	f->dev.ops = &fs_ops;
	f->dev.mem = m;
	f->dev.config = &f->config;
	f->dev.config_len = sizeof(f->config);
	return virtio_init(&f->dev, irq, loop, e);
}

const struct state_table virtio_fs_table = {
	.name = "fs",
	.version = 1,
	.fields = (const struct state_field[]){STATE_ARRAY(struct virtio_fs, config.tag, 1), {0}}};

int virtio_fs_state(struct virtio_fs *f, uint32_t instance, struct state_visitor *v, struct err *e)
{
	int r;

	if (!state_loading(v)) { /* a reset that is owed is not in the state */
		virtio_enter(&f->dev);
		virtio_leave(&f->dev);
	}
	r = virtio_state(&f->dev, instance, v, e);
	if (!r)
		r = state_visit(v, &virtio_fs_table, instance, f, e);
	if (r || !state_loading(v))
		return r;
	if (!virtio_fs_tag_valid(f->config.tag, strnlen(f->config.tag, VIRTIO_FS_TAG)))
		return state_invalid(v, &virtio_fs_table, instance, "its tag is none", e);
	return 0;
}
