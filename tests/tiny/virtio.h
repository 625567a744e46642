/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio: a driver for virtio-mmio devices that polls, in pieces, so that a case can put a wrong
 * one in any place (virtio 1.2, 4.2 and 2.7).
 */
#ifndef TINY_VIRTIO_H
#define TINY_VIRTIO_H

#include "guest.h"

#define VIRTIO_NET     1
#define VIRTIO_BLK     2
#define VIRTIO_RNG     4
#define VIRTIO_BALLOON 5
#define VIRTIO_VSOCK   19
#define VIRTIO_FS      26

/* The balloon's queues, without hints; of a driver that takes no statistics each one less from there. */
enum { BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_STATS, BALLOON_REPORT, BALLOON_QUEUES };
#define F_STATS	    (1ull << 1)
#define F_REPORTING (1ull << 5)

enum {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_VENDOR_ID = 0x00c,
	R_DEVICE_FEATURES = 0x010,
	R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020,
	R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_NUM_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050,
	R_INTERRUPT_STATUS = 0x060,
	R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC = 0x080,	/* low, high */
	R_QUEUE_DRIVER = 0x090, /* the available ring */
	R_QUEUE_DEVICE = 0x0a0, /* the used ring */
	R_CONFIG_GENERATION = 0x0fc,
	R_CONFIG = 0x100,
};

#define ST_ACKNOWLEDGE 1u
#define ST_DRIVER      2u
#define ST_DRIVER_OK   4u
#define ST_FEATURES_OK 8u
#define ST_NEEDS_RESET 64u

#define F_VERSION_1 (1ull << 32)
#define F_INDIRECT  (1ull << 28)
#define F_EVENT_IDX (1ull << 29)

#define D_NEXT	   1u
#define D_WRITE	   2u
#define D_INDIRECT 4u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

#define QUEUE_MAX  256 /* the longest that uvm offers */
#define QUEUE_SIZE 16  /* what the cases use unless they say otherwise */

struct avail {
	uint16_t flags, idx;
	uint16_t ring[QUEUE_MAX];
	uint16_t used_event;
};

struct used {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[QUEUE_MAX];
	uint16_t avail_event;
};

/* The memory of one queue. Unused at the end where the queue is shorter; the event fields are of
 * use at size QUEUE_MAX only.
 */
struct vq {
	struct desc desc[QUEUE_MAX] __attribute__((aligned(16)));
	struct avail avail __attribute__((aligned(16)));
	struct used used __attribute__((aligned(16)));
	uint16_t size;
	uint16_t seen; /* used entries that the driver has taken */
};

struct vdev {
	uint64_t base;
	uint64_t features; /* accepted */
};

/* The nth device of this type (0: the first). Returns false if there is none. */
bool vdev_find(struct vdev *v, uint32_t type, unsigned int nth);

/* Steps of the initialisation (3.1.1). vdev_reset waits until status reads 0. */
void vdev_reset(struct vdev *v);
bool vdev_negotiate(struct vdev *v, uint64_t features); /* to FEATURES_OK; VERSION_1 is added */
void vq_init(struct vq *q, uint16_t size);		/* memory only */
void vq_place(struct vdev *v, unsigned int index, uint32_t size, uint64_t desc, uint64_t avail,
	      uint64_t used); /* registers, all but ready */
bool vq_attach(struct vdev *v, unsigned int index, struct vq *q); /* vq_place and ready */
void vdev_ok(struct vdev *v);

/* All of them, with queues 0 to n-1 of QUEUE_SIZE; reports a failure. */
bool vdev_start(struct vdev *v, uint64_t features, struct vq *q, unsigned int n);

uint64_t vdev_offered(struct vdev *v);
uint32_t vdev_status(const struct vdev *v);

/* Descriptor i of q. */
void vq_desc(struct vq *q, unsigned int i, const void *at, uint32_t len, uint16_t flags,
	     uint16_t next);

/* Makes the chain at head available; tells the device; waits for one used entry. vq_wait returns
 * false, without a report, if none comes or the device needs a reset.
 */
void vq_put(struct vq *q, uint16_t head);
void vdev_kick(const struct vdev *v, unsigned int index);
bool vq_wait(const struct vdev *v, struct vq *q, uint32_t *id, uint32_t *len);

/* Waits until the device says that it needs a reset. */
bool vdev_wait_needs_reset(const struct vdev *v);

/* --- block requests --- */

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
#define F_BLK_MQ   (1ull << 12)
#define F_BLK_TRIM (3ull << 13) /* discard and write zeroes */
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2, BLK_NO_ANSWER = 0x100 };

struct blk_segment { /* of BLK_DISCARD and BLK_ZEROES */
	uint64_t sector;
	uint32_t sectors, flags;
};

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* One request of header, data (len 0: none) and status. Returns the status byte, or
 * BLK_NO_ANSWER. *written gets what the used ring says; may be NULL.
 */
unsigned int blk_request(struct vdev *v, struct vq *q, uint32_t type, uint64_t sector, void *data,
			 uint32_t len, uint32_t *written);

#endif
