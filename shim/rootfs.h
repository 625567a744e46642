/* SPDX-License-Identifier: Apache-2.0
 *
 * rootfs: the host's side of a container's root file system: the tree that the guest gets as a share,
 * and what others see who look into the VM's process. Likewise of one in another's VM (shim/pod.h).
 *
 * Theory of operation. The process has a mount namespace of its own, in which the bundle's root is
 * mounted upon itself and everything of the host's that the container shall have is mounted in it:
 * files and directories, read-only where it says so. A copy of that tree is
 * what the monitor serves by virtio-fs: one share, however many mounts. What the guest's kernel makes
 * by itself (/proc, /dev, tmpfs) it mounts there over it.
 *
 * When the container is made, the process changes its root to the tree, and gives it a /proc of its
 * PID namespace. That is for callers: podman cp and top enter the namespaces of the process they know
 * as the container's, and must find the container's files there, and no process of the host's. The
 * guest cannot see this /proc: it is not in the copy.
 *
 * The tree is hostile, an image's: its symbolic links are resolved in it (openat2, RESOLVE_IN_ROOT),
 * and a mount is put on the descriptor that came of it.
 */
#ifndef UVM_SHIM_ROOTFS_H
#define UVM_SHIM_ROOTFS_H

#include <limits.h>

#include "shim/config.h"

struct oci_rootfs {
	int root;	/* the tree's directory, O_PATH */
	int copy;	/* of the tree; while it is open it is there */
	char share[32]; /* its path */
};

/* The path of a bundle's root: an absolute one, or one that stays in the bundle, whatever links are in it.
 * Returns 0 or -errno with the message set.
 */
int oci_rootfs_path(char path[PATH_MAX], const char *bundle, const char *root, struct err *e);

/* Makes the tree of the root file system at path, in a new mount namespace of this process, which has
 * one thread. Returns 0, or -errno with the message set; then the process is expected to end.
 */
int oci_rootfs_make(struct oci_rootfs *r, const char *path, const struct oci_config *c,
		    struct err *e);

/* Makes the copy of what is mounted by now. Returns as above. */
int oci_rootfs_copy(struct oci_rootfs *r, const struct oci_config *c, struct err *e);

/* Puts the copy where it is out of sight, and where what is mounted in it later is in it as well: below the
 * /proc of oci_rootfs_enter. Its descriptor stays. Returns as above.
 */
int oci_rootfs_keep(struct oci_rootfs *r, struct err *e);

/* Changes the root of the process, all its threads, to the tree. */
int oci_rootfs_enter(struct oci_rootfs *r, struct err *e);

#endif
