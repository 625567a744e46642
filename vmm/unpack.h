/* SPDX-License-Identifier: Apache-2.0
 *
 * unpack: extracts tar archives below one directory, and nothing outside it, whatever they hold.
 *
 * Theory of operation. A member's name is cut into its parts; "." and a leading "/" are dropped,
 * ".." is refused. The directory that it goes into is opened by the kernel with that one directory
 * as its root (openat2, RESOLVE_IN_ROOT): links that members or layers have made lead where they
 * would in the container, and cannot lead out. What is made there is made new, by its last name,
 * never followed: what had the name is removed first, but for a directory that a directory lies
 * over. The same holds for the target of a hard link.
 *
 * With `layer`, archives are an OCI image's layers (image-spec, layer.md), the lowest first:
 * ".wh.NAME" removes NAME of those below, ".wh..wh..opq" all that is in its directory of those
 * below.
 *
 * Directories get their times and, where it would be in the way, their mode in unpack_end, after
 * everything in them is there.
 *
 * Formats: ustar and older, pax, GNU's long names, GNU's sparse files (old, and pax 1.0), numbers
 * in base 256. An archive that does not end with a block of zeros is cut off, and refused.
 *
 * With `guest`, the archive is a guest's and the directory one that others use, who asked for `only`
 * and no more: what is not that or in it is refused, and so is any path or hard link through a symbolic
 * link, which could lead beside it. There are no devices, set-ids, capabilities or other extended
 * attributes; files are this process's unless `keep_owners`, which keeps set-ids, too. What is there is
 * replaced by its kind only, and a directory stays as it is.
 *
 * An ordinary user's files belong to them, whatever the archive says; there are no devices then,
 * and what they could not read gets u+r (directories u+rx). What could not be kept is counted.
 */
#ifndef UVM_VMM_UNPACK_H
#define UVM_VMM_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/err.h"
#include "vmm/meter.h"

#define UNPACK_FILES_MAX (4u << 20)
#define UNPACK_BYTES_MAX (UINT64_C(256) << 30) /* of all files, as long as they say they are */

struct unpack {
	/* Set by the caller; the rest is zero at first. */
	int root;	     /* the directory; the caller's */
	bool layer;	     /* whiteouts count */
	bool user;	     /* do as an ordinary user can, see above */
	bool guest;	     /* what a guest says, see above */
	bool keep_owners;
	const char *only;    /* in normal form: no "." and no slash at its ends; "": all */
	struct meter *meter; /* or NULL */
	const char *what;    /* what the meter says that is being unpacked */

	uint64_t files, bytes;		  /* so far */
	uint64_t owners, devices, xattrs; /* what could not be kept: files that are not the user's,
					   * devices, extended attributes */
	struct unpack_dir *dirs, **last_dir;
	struct unpack_made *made; /* names that this layer has made */
	int parent;		  /* the directory last used, or -1; and its name */
	char *parent_name;
};

/* A member's name without what means nothing ("" is the root), in `to` of PATH_MAX bytes; refuses
 * "..". `what` is the archive's, for the message.
 */
int unpack_name(const char *what, const char *name, char *to, struct err *e);

/* Readies u, whose first part is set. Returns 0 or -errno. */
int unpack_begin(struct unpack *u, struct err *e);

/* Extracts the archive that can be read from fd (a file from its offset on, or a pipe, which is
 * read to its end). `name` is for messages. Returns 0 or -errno; what was extracted by then stays.
 */
int unpack_tar(struct unpack *u, int fd, const char *name, struct err *e);

/* Sets what was left to the end, and frees all (as unpack_free, if an error makes the tree
 * useless). */
int unpack_end(struct unpack *u, struct err *e);
void unpack_free(struct unpack *u);

#endif
