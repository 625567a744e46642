/* SPDX-License-Identifier: Apache-2.0
 *
 * unpack_path: the directories that the members of an archive go into: opened with the one below
 * which everything stays as their root, and made where the archive does not mention them. For
 * unpack.c, see unpack.h.
 */
#ifndef UVM_VMM_UNPACK_PATH_H
#define UVM_VMM_UNPACK_PATH_H

#include <sys/stat.h>

#include "vmm/tar.h"
#include "vmm/unpack.h"
#include "vmm/util.h"

/* A directory that is to get its mode and time, by its name in the archive and what it was. */
struct unpack_dir {
	struct unpack_dir *next;
	dev_t device;
	ino_t inode;
	mode_t mode;
	struct timespec mtime;
	char name[];
};

/* One archive being extracted. */
struct unpack_job {
	struct unpack *u;
	struct tar tar;
	struct err *e;
	const char *name; /* of the member, in its normal form; "" is the root */
};

/* Set the job's error, which they return: that of a call (errno), and what is wrong with a member.
 */
int unpack_error(const struct unpack_job *j, const char *doing);
int unpack_bad(const struct unpack_job *j, const char *why);

/* Notes what a directory is to get in unpack_end. Returns 0 or -ENOMEM. */
int unpack_later(struct unpack *u, const char *name, const struct stat *st, mode_t mode,
		 struct timespec mtime, struct err *e);

/* Where the last part of a path begins. */
const char *unpack_last_part(const char *path);

/* Opens a directory with u->root as its root, whatever links lead there; flags: of open, beside
 * O_PATH. Returns a descriptor, or -1 with errno.
 */
int unpack_open_dir(const struct unpack *u, const char *path, uint64_t flags);

/* The directory that `path` is in, and with `make` those above it made; kept in u->parent. Returns
 * 0, 1 if it is not there and not to be made, or -errno.
 */
int unpack_enter(const struct unpack_job *j, const char *path, bool make);

/* Lets go of it. */
void unpack_leave(struct unpack *u);

#endif
