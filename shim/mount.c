/* SPDX-License-Identifier: Apache-2.0
 *
 * Through system calls, where the C library has none of them.
 */
#include "shim/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

/* linux/mount.h, which does not go together with sys/mount.h. */
#define TREE_CLONE	    1u
#define TREE_RECURSIVE	    0x8000u /* AT_RECURSIVE */
#define MOVE_FROM_FD	    0x04u
#define MOVE_TO_FD	    0x40u
#define ATTR_RDONLY	    0x01u
#define ATTR_NOSUID	    0x02u
#define ATTR_NODEV	    0x04u
#define ATTR_NOEXEC	    0x08u
#define RESOLVE_TRIES	    100

struct attributes { /* struct mount_attr */
	uint64_t set, clear, propagation, userns;
};

int oci_mount_open(int root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags),
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = -1;

	/* EAGAIN: somebody else renames things meanwhile. */
	for (int i = 0; i < RESOLVE_TRIES && (i == 0 || (fd < 0 && errno == EAGAIN)); i++)
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

int oci_mount_target(int root, const char *path, bool directory)
{
	char prefix[PATH_MAX];
	size_t len = 0, n;
	int fd = oci_mount_open(root, path, 0), at;

	if (fd != -ENOENT)
		return fd;
	at = oci_mount_open(root, "/", O_DIRECTORY);
	for (path += strspn(path, "/"); at >= 0 && *path; path += n + strspn(path + n, "/")) {
		bool last;
		int r;

		n = strcspn(path, "/");
		last = !path[n + strspn(path + n, "/")];
		if (len + n + 2 > sizeof(prefix) || n > NAME_MAX) {
			close(at);
			return -ENAMETOOLONG;
		}
		prefix[len++] = '/';
		memcpy(prefix + len, path, n);
		prefix[len += n] = 0;
		r = last && !directory ? mknodat(at, prefix + len - n, S_IFREG | 0644, 0)
				       : mkdirat(at, prefix + len - n, 0755);
		r = r && errno != EEXIST ? -errno : 0;
		close(at);
		at = r ? r : oci_mount_open(root, prefix, 0);
	}
	return at;
}

int oci_mount_set(int tree, uint64_t flags, bool all)
{
	struct attributes a = {
		.set = (flags & MS_RDONLY ? ATTR_RDONLY : 0) | (flags & MS_NOSUID ? ATTR_NOSUID : 0) |
		       (flags & MS_NODEV ? ATTR_NODEV : 0) | (flags & MS_NOEXEC ? ATTR_NOEXEC : 0),
		.propagation = MS_PRIVATE};

	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (all ? TREE_RECURSIVE : 0), &a,
		       sizeof(a))
		       ? -errno
		       : 0;
}

int oci_mount_allow_writes(int tree)
{
	struct attributes a = {.clear = ATTR_RDONLY};

	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) ? -errno : 0;
}

int oci_mount_copy(int dir, const char *path, bool all)
{
	long fd = syscall(SYS_open_tree, dir, path,
			  TREE_CLONE | O_CLOEXEC | (all ? TREE_RECURSIVE : 0) |
				  (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? -errno : (int)fd;
}

int oci_mount_put(int tree, int target)
{
	return syscall(SYS_move_mount, tree, "", target, "", MOVE_FROM_FD | MOVE_TO_FD) ? -errno
											: 0;
}

int oci_mount_empty(int dir)
{
	int fs = (int)syscall(SYS_fsopen, "tmpfs", 1u /* FSOPEN_CLOEXEC */), tree = -1, r;

	if (fs < 0)
		return -errno;
	if (!syscall(SYS_fsconfig, fs, 6u /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0))
		tree = (int)syscall(SYS_fsmount, fs, 1u /* FSMOUNT_CLOEXEC */, 0);
	r = tree < 0 ? -errno : oci_mount_put(tree, dir);
	close(fs);
	if (r && tree >= 0)
		close(tree);
	return r ? r : tree;
}
