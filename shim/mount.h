/* SPDX-License-Identifier: Apache-2.0
 *
 * mount: mounts that are made before they are anywhere, and put on descriptors: what is in a tree may be
 * an image's, whose links must not lead a mount out of it.
 *
 * Functions return 0 or a descriptor (close-on-exec), or -errno.
 */
#ifndef UVM_SHIM_MOUNT_H
#define UVM_SHIM_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

/* Opens path with root as its root, and no other way out: O_PATH and flags. */
int oci_mount_open(int root, const char *path, int flags);

/* The same; makes what is missing of it, component by component: the last a directory, or a file. */
int oci_mount_target(int root, const char *path, bool directory);

/* A mount that is nowhere yet: a copy of what is at path below dir ("": dir itself), or all: with what is
 * mounted in it.
 */
int oci_mount_copy(int dir, const char *path, bool all);

/* Gives such a one (all: and those in it) the flags (MS_RDONLY, NOSUID, NODEV, NOEXEC), and makes it
 * private.
 */
int oci_mount_set(int tree, uint64_t flags, bool all);

/* Takes MS_RDONLY back. */
int oci_mount_allow_writes(int tree);

/* Puts it on a descriptor. */
int oci_mount_put(int tree, int target);

/* An empty file system, over dir. Returns it. */
int oci_mount_empty(int dir);

#endif
