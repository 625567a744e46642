/* SPDX-License-Identifier: Apache-2.0
 *
 * tree: whole directory trees, as hostile as their makers like: removed, and looked at without
 * being read.
 */
#ifndef UVM_VMM_TREE_H
#define UVM_VMM_TREE_H

#include <stdint.h>

#include "vmm/err.h"
#include "vmm/sha256.h"

#define TREE_DEPTH_MAX 256u
#define TREE_FILES_MAX (4u << 20)

/* Removes `name` in directory `at`: a file, a link (not what it leads to), or a directory with all
 * in it, however deep, with two descriptors. Nobody else may be at work in it. Returns 0, also if
 * there is nothing, or -errno.
 */
int tree_remove(int at, const char *name);

/* A digest over all that tells one state of a tree from another without reading a file: each
 * entry's name, type, mode, owner, size, times, inode and link target, in the order of names. `dir`
 * is the directory, `path` how messages call it. *files gets how many entries there are, *newest
 * the latest change (nanoseconds since 1970). Refuses what is too deep or too large, and other file
 * systems that are mounted in it.
 */
int tree_digest(int dir, const char *path, char hex[SHA256_HEX + 1], uint64_t *files,
		int64_t *newest, struct err *e);

#endif
