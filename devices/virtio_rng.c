/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_rng.h"

#include <sys/random.h>

#define VIRTIO_ID_ENTROPY 4

/* Fills the chain's buffers, RNG_CHAIN bytes at most (a driver makes do with less, 5.4.6.1).
 * Returns the bytes, 0 if the host has none.
 */
static uint32_t fill(const struct vq_chain *c)
{
	uint32_t done = 0;

	for (unsigned int i = 0; i < c->writable && done < RNG_CHAIN; i++) {
		const struct iovec *to = &c->iov[i];
		size_t want = MIN(to->iov_len, RNG_CHAIN - done), at = 0;

		while (at < want) {
			ssize_t n = getrandom((char *)to->iov_base + at, want - at, 0);

			if (n <= 0)
				return done;
			at += (size_t)n;
			done += (uint32_t)n;
		}
	}
	return done;
}

static void serve(struct virtio_dev *d)
{
	struct virtio_rng *g = CONTAINER_OF(d, struct virtio_rng, dev);
	struct virtqueue *q = &d->queue[0];
	uint32_t done = 0;

	throttle_begin(&g->throttle);
	virtqueue_notifications(q, false);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX && done < RNG_CHAIN; i++) {
		uint32_t n;
		int r;

		if (!virtqueue_waiting(q) || throttle_holds(&g->throttle, &g->limit)) {
			throttle_end(&g->throttle);
			return;
		}
		r = virtqueue_pop(q, &g->chain);
		if (r < 0 || (r && g->chain.readable)) {
			virtio_fail(d, "malformed buffer for random numbers");
			return;
		}
		if (!r)
			continue;
		n = fill(&g->chain);
		throttle_charge(&g->limit, n);
		done += n;
		virtqueue_push(q, g->chain.head, n);
		virtio_interrupt(d, q);
	}
	virtio_again(d);
}

static const struct virtio_ops rng_ops = {
	.id = VIRTIO_ID_ENTROPY, .name = "random number", .queues = 1, .serve = serve};

int virtio_rng_init(struct virtio_rng *g, const struct mem *m, struct irq irq, struct loop *loop,
		    struct err *e)
{
	int r;

	*g = (struct virtio_rng){.dev = {.ops = &rng_ops, .mem = m}};
	limit_init(&g->limit, RNG_RATE, 0, now_ns());
	throttle_init(&g->throttle, &g->dev);
	r = virtio_init(&g->dev, irq, loop, e);
	return r ? r : throttle_start(&g->throttle, e);
}

void virtio_rng_close(struct virtio_rng *g)
{
	throttle_close(&g->throttle);
	virtio_close(&g->dev);
}
