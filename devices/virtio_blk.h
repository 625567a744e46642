/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_blk: the block device (virtio 1.2, 5.2) over a back end that knows nothing of virtio.
 *
 * Theory of operation. All queues are served on the loop that the device is attached to, which is a
 * worker thread of the disk's own: a slow disk delays nobody else. A request that waits alone is
 * done at once, by a call that may block: nothing is quicker. As soon as a second one is seen
 * behind it, a back end that can (struct blk_async) is asked to have several on their way, and from
 * then on reads, writes and flushes are begun, and answered when they end, in any order. Everything
 * else is done at once, beside them.
 *
 * What is on its way uses guest memory and one of the device's request slots, so it is waited for
 * before anybody may take these back: at a reset (on the vCPU's thread), before the back end
 * changes, and before the loop's thread ends (virtio_blk_drain), so also before every pause,
 * snapshot and fork.
 */
#ifndef UVM_DEVICES_VIRTIO_BLK_H
#define UVM_DEVICES_VIRTIO_BLK_H

#include "devices/throttle.h"
#include "devices/virtio_mmio.h"

#define BLK_SECTOR	512u
#define BLK_QUEUES	VIRTIO_MAX_QUEUES
#define BLK_SERIAL	20u	   /* characters */
#define BLK_IN_FLIGHT	32u	   /* requests on their way at a time */
#define BLK_TRANSFER_MAX (256u << 20) /* bytes of a request, which cannot be ended before its end */
#define BLK_ROUND	 (64u << 20)  /* bytes of a queue's before a reset, a pause or others get in */
#define BLK_SEGMENTS	16u	   /* of a request to discard */
#define BLK_DISCARD_MAX (1u << 22) /* sectors in one of them */
#define BLK_ZEROES_MAX	(1u << 16) /* sectors of a request to write zeros, or it takes long */

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH };

/* A request that goes on beside others. The iovecs are its own, and the back end's to change. */
struct blk_io {
	enum blk_op op;
	struct iovec *iov;
	unsigned int n;
	uint64_t offset, len;			     /* bytes; len: of all iovecs together */
	bool alone;				     /* nothing else is on its way, or waits */
	void (*done)(struct blk_io *io, int result); /* 0 or -errno; it may use io for another */
};

struct blk_backend;

/* Requests that go on beside others; calls come under the device's lock. */
struct blk_async {
	/* Makes it possible. Returns a descriptor that is readable when reap has something to do,
	 * or -errno: then there is no more of this for the back end.
	 */
	int (*open)(struct blk_backend *b);
	/* Takes a request, which has been checked as for the calls below. Returns false if it is
	 * to be done by them.
	 */
	bool (*begin)(struct blk_backend *b, struct blk_io *io);
	/* Sets off what begin took. */
	void (*go)(struct blk_backend *b);
	/* Calls done for each that has ended; with wait: for all there are, when they have. */
	void (*reap)(struct blk_backend *b, bool wait);
};

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
	/* The range is not needed any more: it may be given back to the host, and reads as it did
	 * or as zeros then. -EOPNOTSUPP: cannot be. NULL, with zero: the device offers neither.
	 */
	int (*discard)(struct blk_backend *b, uint64_t offset, uint64_t len);
	/* The range reads as zeros from then on; unmap: it may be given back to the host, too. */
	int (*zero)(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap);
	const struct blk_async *async; /* or NULL */
	uint64_t size;		       /* bytes, a multiple of BLK_SECTOR */
	bool read_only;
};

struct blk_config { /* 5.2.4 */
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
#define BLK_CONFIG_LEN 60u
_Static_assert(offsetof(struct blk_config, unused1) + 3 == BLK_CONFIG_LEN, "virtio 1.2, 5.2.4");

/* What was asked and done since the device was made. Written by its thread, read by any (atomic).
 */
struct blk_stats {
	uint64_t reads, writes, flushes, errors; /* requests; errors: those answered with one */
	uint64_t read_bytes, written_bytes;
	uint64_t discards, zeroes; /* requests */
	uint64_t discarded_bytes, zeroed_bytes;
};

/* Limits in units each second (0: none), with the burst of limit_init. */
struct blk_limits {
	uint64_t bps, bps_burst;   /* bytes, of all that moves data */
	uint64_t iops, iops_burst; /* requests of any kind */
};

struct virtio_blk;

struct blk_request {
	struct blk_io io;
	struct virtio_blk *blk;
	unsigned int queue;
	uint16_t head;
	uint32_t type;
	uint64_t in_len;		  /* bytes for the driver, without the status */
	uint64_t written;		  /* of these, that it may look at */
	uint64_t bytes;			  /* that were asked for */
	uint8_t *status;		  /* in guest memory */
	struct iovec part[VIRTQUEUE_MAX]; /* the data of the chain, without header and status */
};

struct blk_segment { /* 5.2.6 */
	uint64_t sector;
	uint32_t sectors, flags;
};

struct virtio_blk {
	struct virtio_dev dev;
	struct blk_stats stats;
	struct blk_config config;
	struct blk_backend *backend;
	bool read_only;		     /* as the driver has been told, whatever the back end is now */
	char serial[BLK_SERIAL + 1]; /* answer to GET_ID, zero-terminated for us */
	struct limit bps, iops;
	struct throttle throttle;
	bool async_tried;
	struct loop_source ended; /* of the back end's requests; fd -1: none go on beside others */
	struct blk_request *slot; /* BLK_IN_FLIGHT of them, or NULL */
	struct blk_request *idle[BLK_IN_FLIGHT];
	unsigned int idle_count;
	struct vq_chain chain;
	struct blk_segment segment[BLK_SEGMENTS];
	struct blk_request alone; /* the one that is done at once */
};

/* Attaches the device to loop. backend and irq stay the caller's. serial: up to BLK_SERIAL
 * characters. A backend of size 0 makes a placeholder: a disk of capacity 0, which answers every
 * read and write with an error until it is given another back end. Returns 0 or -errno.
 */
int virtio_blk_init(struct virtio_blk *b, const struct mem *m, struct blk_backend *backend,
		    const char *serial, struct irq irq, struct loop *loop, struct err *e);

/* Before anybody uses the device: how many queues it has, 1 (as it has without this) to BLK_QUEUES.
 */
void virtio_blk_set_queues(struct virtio_blk *b, unsigned int queues);

/* The same for its limits. Returns 0, or -errno with e set. */
int virtio_blk_set_limits(struct virtio_blk *b, const struct blk_limits *limits, struct err *e);

/* Closes the device; the back end stays the caller's, with nothing on its way. */
void virtio_blk_close(struct virtio_blk *b);

/* Waits for all that is on its way, and answers it. Whoever ends the loop's thread calls it there
 * before.
 */
void virtio_blk_drain(struct virtio_blk *b);

/* The back end of a placeholder: no bytes. read_only is what the drive is declared to be. */
void blk_backend_empty(struct blk_backend *b, bool read_only);

/* For back ends: a call of zero by calls of write. Returns 0 or -errno. */
int blk_backend_write_zeros(struct blk_backend *b, uint64_t offset, uint64_t len);

/* Gives the device another back end, on its loop or while that stands still. Requests before the
 * call are done and refer to the old one, which the caller may close after it, requests after it go
 * to the new one; nothing is flushed. If the capacity changes, the driver is told. Whether a
 * disk is read-only is a feature that the driver has accepted, and stays as it was declared at
 * virtio_blk_init: a disk that was writable cannot get a read-only back end (-EROFS), one that was
 * read-only gets any and never writes to it. Returns 0, or -EROFS with e set and nothing changed.
 */
int virtio_blk_set_backend(struct virtio_blk *b, struct blk_backend *backend, struct err *e);

#endif
