/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio.h"

#define SLOTS 19

bool vdev_find(struct vdev *v, uint32_t type, unsigned int nth)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		uint64_t base = VIRTIO_BASE + i * VIRTIO_SLOT;

		if (read32(base + R_MAGIC) != 0x74726976)
			break;
		if (read32(base + R_DEVICE_ID) == type && nth-- == 0) {
			*v = (struct vdev){.base = base};
			return true;
		}
	}
	return false;
}

uint32_t vdev_status(const struct vdev *v)
{
	return read32(v->base + R_STATUS);
}

void vdev_reset(struct vdev *v)
{
	struct deadline d = deadline();

	write32(v->base + R_STATUS, 0);
	while (vdev_status(v))
		if (expired(&d)) {
			fail("status after a reset is 0x%x", vdev_status(v));
			return;
		}
}

uint64_t vdev_offered(struct vdev *v)
{
	uint64_t low;

	write32(v->base + R_DEVICE_FEATURES_SEL, 0);
	low = read32(v->base + R_DEVICE_FEATURES);
	write32(v->base + R_DEVICE_FEATURES_SEL, 1);
	return (uint64_t)read32(v->base + R_DEVICE_FEATURES) << 32 | low;
}

bool vdev_negotiate(struct vdev *v, uint64_t features)
{
	v->features = features | F_VERSION_1;
	write32(v->base + R_STATUS, ST_ACKNOWLEDGE);
	write32(v->base + R_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	for (uint32_t half = 0; half < 2; half++) {
		write32(v->base + R_DRIVER_FEATURES_SEL, half);
		write32(v->base + R_DRIVER_FEATURES, (uint32_t)(v->features >> 32 * half));
	}
	write32(v->base + R_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	return vdev_status(v) & ST_FEATURES_OK;
}

void vq_init(struct vq *q, uint16_t size)
{
	memset(q, 0, sizeof(*q));
	q->size = size;
}

static void write_address(const struct vdev *v, unsigned int reg, uint64_t at)
{
	write32(v->base + reg, (uint32_t)at);
	write32(v->base + reg + 4, (uint32_t)(at >> 32));
}

void vq_place(struct vdev *v, unsigned int index, uint32_t size, uint64_t desc, uint64_t avail,
	      uint64_t used)
{
	write32(v->base + R_QUEUE_SEL, index);
	write32(v->base + R_QUEUE_NUM, size);
	write_address(v, R_QUEUE_DESC, desc);
	write_address(v, R_QUEUE_DRIVER, avail);
	write_address(v, R_QUEUE_DEVICE, used);
}

bool vq_attach(struct vdev *v, unsigned int index, struct vq *q)
{
	vq_place(v, index, q->size, (uint64_t)q->desc, (uint64_t)&q->avail, (uint64_t)&q->used);
	write32(v->base + R_QUEUE_READY, 1);
	return read32(v->base + R_QUEUE_READY) == 1;
}

void vdev_ok(struct vdev *v)
{
	write32(v->base + R_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}

bool vdev_start(struct vdev *v, uint64_t features, struct vq *q, unsigned int n)
{
	vdev_reset(v);
	if (!vdev_negotiate(v, features)) {
		fail("the device refuses features 0x%lx of 0x%lx", v->features, vdev_offered(v));
		return false;
	}
	for (unsigned int i = 0; i < n; i++) {
		vq_init(&q[i], QUEUE_SIZE);
		if (!vq_attach(v, i, &q[i])) {
			fail("queue %u does not become ready", i);
			return false;
		}
	}
	vdev_ok(v);
	return expect("status of a started device", vdev_status(v),
		      ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}

void vq_desc(struct vq *q, unsigned int i, const void *at, uint32_t len, uint16_t flags,
	     uint16_t next)
{
	q->desc[i] = (struct desc){(uint64_t)at, len, flags, next};
}

void vq_put(struct vq *q, uint16_t head)
{
	q->avail.ring[q->avail.idx % q->size] = head;
	__atomic_store_n(&q->avail.idx, (uint16_t)(q->avail.idx + 1), __ATOMIC_RELEASE);
	barrier();
}

void vdev_kick(const struct vdev *v, unsigned int index)
{
	write32(v->base + R_QUEUE_NOTIFY, index);
}

bool vq_wait(const struct vdev *v, struct vq *q, uint32_t *id, uint32_t *len)
{
	struct deadline d = deadline();

	while (__atomic_load_n(&q->used.idx, __ATOMIC_ACQUIRE) == q->seen)
		if (vdev_status(v) & ST_NEEDS_RESET || expired(&d))
			return false;
	if (id)
		*id = q->used.ring[q->seen % q->size].id;
	if (len)
		*len = q->used.ring[q->seen % q->size].len;
	q->seen++;
	return true;
}

bool vdev_wait_needs_reset(const struct vdev *v)
{
	struct deadline d = deadline();

	while (!(vdev_status(v) & ST_NEEDS_RESET))
		if (expired(&d))
			return false;
	return true;
}

unsigned int blk_request(struct vdev *v, struct vq *q, uint32_t type, uint64_t sector, void *data,
			 uint32_t len, uint32_t *written)
{
	static struct blk_header h;
	static volatile uint8_t status;
	uint16_t direction = type == BLK_OUT || type >= BLK_DISCARD ? 0 : D_WRITE;

	h = (struct blk_header){type, 0, sector};
	status = 0xee;
	vq_desc(q, 0, &h, sizeof(h), D_NEXT, len ? 1 : 2);
	vq_desc(q, 1, data, len, direction | D_NEXT, 2);
	vq_desc(q, 2, (const void *)&status, 1, D_WRITE, 0);
	vq_put(q, 0);
	vdev_kick(v, 0);
	if (!vq_wait(v, q, NULL, written))
		return BLK_NO_ANSWER;
	return status;
}
