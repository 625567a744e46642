/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: writes a tar archive: of files of this host's, or of another archive's members.
 *
 * The form is GNU's: long names as members of types L and K, sparse files as S with at most
 * PACK_EXTENTS extents, numbers in base 256 where octal has no room. Every tar reads it, and it is all
 * that the agent's reader knows. What it has no place for (extended attributes, parts of seconds) is
 * left out.
 */
#ifndef UVM_VMM_PACK_H
#define UVM_VMM_PACK_H

#include "vmm/tar.h"

#define PACK_EXTENTS 84u /* as the agent has room for */

struct pack {
	/* The caller's; the rest is zeroed. */
	int fd;		  /* a blocking descriptor */
	const char *what; /* of the archive, for messages */
	bool owners;	  /* else all is root's: user and group 0 */
	bool twice;	  /* a directory once more behind what is in it, for who sets its time then */

	uint8_t *buffer;
	size_t len;
	void *links; /* files with several names, by device and inode */
	uint64_t sockets; /* left out */
};

/* All return 0 or -errno with the message set; -EPIPE: nobody reads it any more. */
int pack_open(struct pack *p, struct err *e);

/* Adds the file or directory `path`, with all in it, and calls it `name`; ".": what is in it is called
 * by its own names. follow: the path may be a link, and what it leads to is meant; no link in it is
 * followed.
 */
int pack_tree(struct pack *p, const char *path, const char *name, bool follow, struct err *e);

/* Adds the members of an archive that can be read from fd. Their names are refused or put into normal
 * form as unpack does.
 */
int pack_tar(struct pack *p, int fd, const char *what, struct err *e);

/* Ends the archive. */
int pack_end(struct pack *p, struct err *e);
void pack_close(struct pack *p);

#endif
