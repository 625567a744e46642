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

/* What was asked and done since the device was made. Written by its thread, read by any (atomic). */
struct blk_stats {
	uint64_t reads, writes, flushes, errors; /* requests; errors: those answered with one */
	uint64_t read_bytes, written_bytes;
};

struct virtio_blk {
	struct virtio_dev dev;
	struct blk_stats stats;
	struct blk_config config;
	struct blk_backend *backend;
	bool read_only;	 /* as the driver has been told, whatever the back end is now */
	char serial[21]; /* answer to GET_ID, zero-terminated for us */
	struct vq_chain chain;
	struct iovec part[VIRTQUEUE_MAX]; /* the data of the chain, without header and status */
};

/* Attaches the device to loop. backend and irq stay the caller's. serial: up to 20 characters.
 * A backend of size 0 makes a placeholder: a disk of capacity 0, which answers every read and write
 * with an error until it is given another back end. Returns 0 or -errno.
 */
int virtio_blk_init(struct virtio_blk *b, const struct mem *m, struct blk_backend *backend,
		    const char *serial, struct irq irq, struct loop *loop, struct err *e);

/* The back end of a placeholder: no bytes. read_only is what the drive is declared to be. */
void blk_backend_empty(struct blk_backend *b, bool read_only);

/* Gives the device another back end, on its loop or while that stands still. Requests before the
 * call are done and refer to the old one, which the caller may close after it, requests after it go
 * to the new one; nothing is flushed. If the capacity changes, the driver is told. Whether a
 * disk is read-only is a feature that the driver has accepted, and stays as it was declared at
 * virtio_blk_init: a disk that was writable cannot get a read-only back end (-EROFS), one that was
 * read-only gets any and never writes to it. Returns 0, or -EROFS with e set and nothing changed.
 */
int virtio_blk_set_backend(struct virtio_blk *b, struct blk_backend *backend, struct err *e);

#endif
