/* SPDX-License-Identifier: Apache-2.0
 *
 * blk_file: a disk in a raw image file, or a block device, through the page cache or beside it.
 *
 * Several requests go on at a time where the host has io_uring for us (uring.h).
 */
#ifndef UVM_DEVICES_BLK_FILE_H
#define UVM_DEVICES_BLK_FILE_H

#include "devices/uring.h"
#include "devices/virtio_blk.h"

struct blk_file {
	struct blk_backend backend;
	int fd;
	uint8_t *bounce; /* for what is not aligned for direct I/O; NULL: through the page cache */
	struct uring ring;
	struct blk_io *begun[BLK_IN_FLIGHT]; /* not yet set off, in order */
	unsigned int begun_count;
};

/* Opens path and locks it: for writing against every other user, read-only against writers, so
 * that two VMs cannot ruin one image (an open file description lock, gone with the process).
 * A last part shorter than a sector is not seen by the guest. Returns 0, or -errno with a message
 * that names the path.
 */
int blk_file_open(struct blk_file *f, const char *path, bool read_only, struct err *e);

/* The same for a file that is open already, for writing too unless read_only; with O_DIRECT as
 * after blk_file_direct. fd is f's from then on, also after a failure, which closes it. The message
 * calls the disk name.
 */
int blk_file_open_fd(struct blk_file *f, int fd, bool read_only, const char *name, struct err *e);

/* From now on transfers go beside the page cache (O_DIRECT): before the first. What the guest asks
 * for unaligned is copied, and written with what is around it. Returns 0; -EINVAL if the file's
 * size is not a multiple of BLK_FILE_ALIGN bytes or it is on a file system that cannot; or another
 * -errno. The message calls the disk name.
 */
#define BLK_FILE_ALIGN 4096u /* enough for all file systems and disks */
int blk_file_direct(struct blk_file *f, const char *name, struct err *e);

/* Nothing is on its way. On one that is closed it does nothing. */
void blk_file_close(struct blk_file *f);

#endif
