/* SPDX-License-Identifier: Apache-2.0
 *
 * blk_file: a disk in a raw image file, or a block device, through the page cache.
 */
#ifndef UVM_DEVICES_BLK_FILE_H
#define UVM_DEVICES_BLK_FILE_H

#include "devices/virtio_blk.h"

struct blk_file {
	struct blk_backend backend;
	int fd;
};

/* Opens path and locks it: for writing against every other user, read-only against writers, so
 * that two VMs cannot ruin one image (an open file description lock, gone with the process).
 * A last part shorter than a sector is not seen by the guest. Returns 0, or -errno with a message
 * that names the path.
 */
int blk_file_open(struct blk_file *f, const char *path, bool read_only, struct err *e);

/* The same for a file that is open already, for writing too unless read_only. fd is f's from then
 * on, also after a failure, which closes it. The message calls the disk name.
 */
int blk_file_open_fd(struct blk_file *f, int fd, bool read_only, const char *name, struct err *e);

void blk_file_close(struct blk_file *f);

#endif
