/* SPDX-License-Identifier: Apache-2.0
 *
 * blk_copy: whole disks into new files: an image as a template keeps it, a chain of layers made
 * into one image again. What is not there, holes and zeros, takes no space in the copy.
 */
#ifndef UVM_DEVICES_BLK_COPY_H
#define UVM_DEVICES_BLK_COPY_H

#include "devices/virtio_blk.h"

/* Makes `to`, an empty regular file open for writing, a copy of `from`, a regular file or block
 * device open for reading that nobody changes meanwhile: a clone, where the file system has clones,
 * else by copying what is not a hole. The offset of both descriptors is undefined after. Nothing is
 * synced. Returns 0, or -errno with a message, after which `to` may hold a part.
 */
int blk_copy_file(int from, int to, struct err *e);

/* Writes all that b reads to `to`, as above, as a raw image of b->size bytes. One thread at a time
 * uses a back end, this one for as long as the copy takes.
 */
int blk_copy_backend(struct blk_backend *b, int to, struct err *e);

#endif
