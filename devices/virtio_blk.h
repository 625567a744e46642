/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_blk: the block device (virtio 1.2, 5.2) over a back end that knows nothing of virtio.
 *
 * One queue, served to its end on the loop that the device is attached to, which is a worker
 * thread of the disk's own: a slow disk delays nobody else.
 */
#ifndef UVM_DEVICES_VIRTIO_BLK_H
#define UVM_DEVICES_VIRTIO_BLK_H

#include "devices/virtio_mmio.h"

#define BLK_SECTOR 512u

/* What holds the bytes. The device checks a request against size and read_only before it calls;
 * offset and the length of all iovecs together are multiples of BLK_SECTOR, the length is more than
 * 0, n at most VIRTQUEUE_MAX. One thread at a time calls. Calls may block; each returns 0 or
 * -errno, after all of it is done.
 */
struct blk_backend {
	int (*read)(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		    uint64_t offset);
	int (*write)(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset);
	int (*flush)(struct blk_backend *b); /* what was written is durable after */
	uint64_t size;			     /* bytes, a multiple of BLK_SECTOR */
	bool read_only;
};

struct blk_config { /* 5.2.4, as far as uvm's features reach */
	uint64_t capacity;
	uint32_t size_max, seg_max;
};

struct virtio_blk {
	struct virtio_dev dev;
	struct blk_config config;
	struct blk_backend *backend;
	char serial[21]; /* answer to GET_ID, zero-terminated for us */
	struct vq_chain chain;
	struct iovec part[VIRTQUEUE_MAX]; /* the data of the chain, without header and status */
};

/* Attaches the device to loop. backend and irq stay the caller's. serial: up to 20 characters.
 * Returns 0 or -errno.
 */
int virtio_blk_init(struct virtio_blk *b, const struct mem *m, struct blk_backend *backend,
		    const char *serial, struct irq irq, struct loop *loop, struct err *e);

#endif
