/* SPDX-License-Identifier: Apache-2.0
 *
 * tar: reads a tar archive as a stream of members, with pax and GNU extensions resolved. What is
 * hostile in the format itself ends here: numbers, lengths, checksums, names with a NUL. What a
 * name means is up to the caller (vmm/unpack.h).
 */
#ifndef UVM_VMM_TAR_H
#define UVM_VMM_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/err.h"

#define TAR_BLOCK	512u
#define TAR_EXTRA_MAX	(1u << 20) /* bytes of one extended header */
#define TAR_XATTRS_MAX	64u
#define TAR_EXTENTS_MAX (1u << 20) /* of one sparse file */

struct tar_xattr {
	const char *name; /* in full: "security.capability" */
	const char *value;
	size_t len;
};

struct tar_extent {
	uint64_t at, len;
};

struct tar_member {
	char *name, *link; /* never NULL, perhaps empty */
	char type; /* '0' file, '1' hard link, '2' link, '3' '4' devices, '5' directory, '6' fifo */
	mode_t mode; /* 07777 */
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	uint64_t size;	    /* of the file */
	uint64_t data_size; /* of what follows in the archive */
	uint32_t major, minor;
	struct tar_xattr xattr[TAR_XATTRS_MAX];
	unsigned int xattrs;
	bool sparse; /* only extents have data, one behind the other */
	struct tar_extent *extent;
	size_t extents;
};

struct tar {
	int fd;
	const char *what; /* for messages */
	struct tar_member m;
	uint64_t left; /* of the member's data */
	unsigned int padding;
	struct tar_extra *extra; /* extended headers of the member */
	uint8_t *buffer;
	size_t from, to; /* what is read and not used */
};

/* Whether a file begins as a tar archive does. */
bool tar_is(int fd);

/* Returns 0 or -ENOMEM. */
int tar_open(struct tar *t, int fd, const char *what, struct err *e);
void tar_close(struct tar *t);

/* Goes to the next member, whatever is left of the last one's data. Returns 1; 0 at the end, when
 * all of fd is read; or -errno. t->m is good until the next call.
 */
int tar_next(struct tar *t, struct err *e);

/* Up to `most` bytes of the member's data where they lie. Returns how many, 0 at their end, or
 * -errno. */
ssize_t tar_data(struct tar *t, const void **data, size_t most, struct err *e);

#endif
