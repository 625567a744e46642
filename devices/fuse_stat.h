/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_stat: what is known of a file by its name, with the mount that it was found in.
 *
 * A share may have a directory in it twice, mounted at two places and read-only at one of them. Then
 * device and inode number are the same, but not what the guest may do there, and a directory that is at
 * two places at once is one that its kernel moves from one to the other.
 */
#ifndef UVM_DEVICES_FUSE_STAT_H
#define UVM_DEVICES_FUSE_STAT_H

#include <stdint.h>
#include <sys/stat.h>

/* Of name in dir, which is not followed, or of the descriptor dir itself, for "". *mount: the id of the
 * mount; 0 if the host's kernel does not tell. Returns 0 or -errno.
 */
int fuse_stat(int dir, const char *name, struct stat *st, uint64_t *mount);

#endif
