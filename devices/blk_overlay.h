/* SPDX-License-Identifier: Apache-2.0
 *
 * blk_overlay: a copy-on-write layer over another back end, so that the disk of a clone or a fork
 * never changes the original.
 *
 * What the guest writes goes to the layer's own file; what the layer does not hold is read from
 * below: an image, or another layer. The theory of operation is in blk_overlay.c.
 */
#ifndef UVM_DEVICES_BLK_OVERLAY_H
#define UVM_DEVICES_BLK_OVERLAY_H

#include "devices/virtio_blk.h"

#define BLK_OVERLAY_BLOCK 4096u		/* bytes; the unit in which a layer holds its disk */
#define BLK_OVERLAY_MAX	  (16ull << 40) /* bytes, the largest disk */

struct blk_overlay {
	struct blk_backend backend;
	struct blk_backend *below;
	int fd;
	int broken; /* -errno of a sync that failed, after which none is believed */
	uint64_t data_offset;
	uint64_t blocks;    /* that the layer holds: bits set in bitmap */
	uint8_t *bitmap;    /* whole pages of it */
	bool *page_changed; /* of each page of bitmap, since it was written out */
	uint64_t pages;
	uint8_t head[BLK_OVERLAY_BLOCK], tail[BLK_OVERLAY_BLOCK]; /* from below, around a write */
	struct iovec part[VIRTQUEUE_MAX + 2];
};

/* Makes the file of a new, empty layer for a disk of size bytes (a multiple of BLK_SECTOR, from
 * one to BLK_OVERLAY_MAX), mode 0600, in the directory dir. Nothing is synced: before the layer's
 * first flush a power cut may leave a file that is none, and the directory is the caller's to sync.
 * Returns a descriptor for reading and writing, the caller's, or -errno (-EEXIST if there is
 * anything of that name, a symbolic link included) with a message that names the file, and no file.
 */
int blk_overlay_create(int dir, const char *name, uint64_t size, struct err *e);

/* Whether fd, open for reading, begins like a layer file. Never decide by this how a disk is opened
 * that a guest has been able to write as a raw image: it can have written this beginning.
 */
bool blk_overlay_is(int fd);

/* Opens the layer in fd, which is open for writing too unless read_only, over below, and locks it
 * as a blk_file does. fd is o's from then on, also after a failure, which closes it. below stays
 * the caller's and outlives o; it is read-only and as large as the layer's disk (else -EINVAL), its
 * content durable and never changed again. The file may hold anything: what does not pass as a
 * layer is -EINVAL, too. Memory is one bit for each block, of which untouched pages cost nothing.
 * Returns 0, or -errno with a message that calls the disk name.
 */
int blk_overlay_open(struct blk_overlay *o, int fd, bool read_only, struct blk_backend *below,
		     const char *name, struct err *e);

/* Writes the layer out, makes it read-only and lets others lock it so: it can be the below of new
 * layers, in this process and others. Until the device has its new back end, no request may be in
 * progress or come: a write would fail. On one that is read-only it does nothing. Returns 0, or -errno with the layer as writable as before.
 */
int blk_overlay_freeze(struct blk_overlay *o, struct err *e);

/* How many blocks of BLK_OVERLAY_BLOCK bytes the layer holds itself. */
uint64_t blk_overlay_blocks(const struct blk_overlay *o);

/* Closes the file. What was not flushed is lost, as with a disk that is unplugged. Does nothing on
 * one that is closed or was not opened with success.
 */
void blk_overlay_close(struct blk_overlay *o);

#endif
