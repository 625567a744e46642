/* SPDX-License-Identifier: Apache-2.0
 *
 * mount: mounts in a root directory that somebody else has filled.
 *
 * What is in it is hostile: a symbolic link must not lead anything out of it. So paths are resolved by
 * the kernel with that directory as their root (openat2, RESOLVE_IN_ROOT), and a mount is made
 * detached and then put on the descriptor that came of it, never on a path.
 *
 * All functions return 0 or a descriptor (close-on-exec), or -errno.
 */
#ifndef UVM_AGENT_MOUNT_H
#define UVM_AGENT_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

/* A directory of the guest's, which whoever makes mounts of shares has made. */
#define MOUNT_SCRATCH "/run/uvm/share"

struct mount {
	const char *source; /* a bind mount's is a path of the caller's, not below a root; a share's is its
			     * tag, or "tag/path" for what is in it
			     */
	const char *target;
	const char *type;
	const char *data;
	uint64_t flags; /* MS_* */
};

/* Opens path below root with O_PATH and flags. */
int mount_open(int root, const char *path, int flags);

/* Opens the directory that path's last component, *name, is in; makes it, and those above. */
int mount_parent(int root, const char *path, const char **name);

/* Opens path below root; makes a directory, or a file, where there is nothing. */
int mount_target(int root, const char *path, bool directory);

/* Makes a mount that is nowhere yet. A source in /dev may take a moment to appear. */
int mount_make(const struct mount *m);

/* Puts it on its target below root, or refuses: in a proc file system there is what the kernel
 * believes, and little of it may be covered. Closes tree.
 */
int mount_place(int tree, int root, const struct mount *m);

/* Puts a detached mount on a descriptor, or on a path of the caller's. */
int mount_attach(int tree, int target, const char *path);

/* Covers path with another mount of itself that cannot be written to. What is missing is well. */
int mount_read_only(int root, const char *path);

/* Covers it with nothing: an empty file or directory. What is missing is well. */
int mount_mask(int root, const char *path);

/* Mount attributes and propagation (MS_*, or 0) of the mount at path, below dir. recursive: and of all
 * below it.
 */
int mount_change(int dir, const char *path, uint64_t attributes, uint64_t propagation,
		 bool recursive);

/* Gives a detached mount those of the flags (MS_*) that are a mount's. */
int mount_flags(int tree, uint64_t flags);

/* The ids of a detached mount's files are those of this user namespace's map from then on. */
int mount_map_ids(int tree, int user);

/* A detached copy of what is mounted at path, below dir; all: with what is below it. */
int mount_copy(int dir, const char *path, bool all);

/* A detached file system of a type, from a source, with options as in mount(2)'s data; device: it is on
 * a block device, so that MS_RDONLY among the flags means the file system itself.
 */
int mount_new(const char *type, const char *source, const char *data, uint64_t flags);

#endif
