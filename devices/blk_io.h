/* SPDX-License-Identifier: Apache-2.0
 *
 * blk_io: what the back ends that keep a disk in a file share: its lock, and calls that move all of
 * a request or fail.
 */
#ifndef UVM_DEVICES_BLK_IO_H
#define UVM_DEVICES_BLK_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/err.h"

/* Locks the file: for writing against every other user, read-only against writers (an open file
 * description lock: inherited by fork, gone with the last copy of the descriptor). Again on the
 * same descriptor it changes the lock. Returns 0, also where the file system has no locks; -EBUSY
 * if it is taken; or another -errno. The message calls the disk name.
 */
int blk_io_lock(int fd, bool read_only, const char *name, struct err *e);

/* Move all bytes of the n iovecs from or to offset, however the kernel splits them. Return 0, or
 * -errno after some may have been moved; reading beyond the file's end is -EIO.
 */
int blk_io_read(int fd, const struct iovec *iov, unsigned int n, uint64_t offset);
int blk_io_write(int fd, const struct iovec *iov, unsigned int n, uint64_t offset);

/* Gives the range back to the host; it reads as zeros where it was given back. Returns 0 or -errno:
 * -EOPNOTSUPP where the file system or device has no such thing.
 */
int blk_io_discard(int fd, uint64_t offset, uint64_t len);

/* Makes the range read as zeros without writing them; with unmap it may be given back to the host,
 * without it the space stays the file's. Returns 0 or -errno: -EOPNOTSUPP where it takes a write.
 */
int blk_io_zero(int fd, uint64_t offset, uint64_t len, bool unmap);

/* Makes durable what was written. Returns 0 or -errno. */
int blk_io_sync(int fd);

#endif
