/* SPDX-License-Identifier: Apache-2.0
 *
 * Through system calls, where the C library has none of them.
 */
#include "shim/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "vmm/util.h"

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

static int open_in(int root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags),
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = -1;

	/* EAGAIN: somebody else renames things meanwhile. */
	for (int i = 0; i < RESOLVE_TRIES && (i == 0 || (fd < 0 && errno == EAGAIN)); i++)
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* Makes what is missing of a path, component by component. */
static int make_target(int root, const char *path, bool directory)
{
	char prefix[PATH_MAX];
	size_t len = 0, n;
	int fd = open_in(root, path, 0), at;

	if (fd != -ENOENT)
		return fd;
	at = open_in(root, "/", O_DIRECTORY);
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
		at = r ? r : open_in(root, prefix, 0);
	}
	return at;
}

static int set_attributes(int tree, uint64_t flags, bool all)
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

static int copy_tree(int dir, const char *path, bool all)
{
	long fd = syscall(SYS_open_tree, dir, path,
			  TREE_CLONE | O_CLOEXEC | (all ? TREE_RECURSIVE : 0) |
				  (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? -errno : (int)fd;
}

static int put_tree(int tree, int target)
{
	return syscall(SYS_move_mount, tree, "", target, "", MOVE_FROM_FD | MOVE_TO_FD) ? -errno
											: 0;
}

/* --- the bundle's root --- */

int oci_rootfs_path(char path[PATH_MAX], const char *bundle, const char *root, struct err *e)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int dir = open(*root == '/' ? "/" : bundle, O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;
	long fd = -1;

	if (dir < 0)
		return err_sys(e, "bundle %s", bundle);
	if (*root == '/') /* which is the caller's to say */
		how.resolve = 0;
	fd = syscall(SYS_openat2, dir, root, &how, sizeof(how));
	if (fd < 0)
		r = errno == EXDEV ? err_set(e, EXDEV, "root.path %s leads out of the bundle", root)
				   : err_sys(e, "root.path %s", root);
	else if (snprintf(path, PATH_MAX, "%s%s%s", *root == '/' ? "" : bundle,
			  *root == '/' ? "" : "/", root) >= PATH_MAX)
		r = err_set(e, ENAMETOOLONG, "root.path is too long");
	if (fd >= 0)
		close((int)fd);
	close(dir);
	return r;
}

/* --- the tree --- */

static int make_bind(int root, const struct oci_bind *b)
{
	int tree = copy_tree(AT_FDCWD, b->source, b->flags & MS_REC), target, r;
	struct stat st;

	if (tree < 0)
		return tree;
	r = set_attributes(tree, b->flags, false);
	if (!r && fstat(tree, &st))
		r = -errno;
	target = r ? r : make_target(root, b->target, S_ISDIR(st.st_mode));
	if (target >= 0) {
		r = put_tree(tree, target);
		close(target);
	}
	close(tree);
	return target < 0 ? target : r;
}

/* An empty file system, over dir. */
static int put_empty(int dir)
{
	int fs = (int)syscall(SYS_fsopen, "tmpfs", 1u /* FSOPEN_CLOEXEC */), tree = -1, r;

	if (fs < 0)
		return -errno;
	if (!syscall(SYS_fsconfig, fs, 6u /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0))
		tree = (int)syscall(SYS_fsmount, fs, 1u /* FSMOUNT_CLOEXEC */, 0);
	r = tree < 0 ? -errno : put_tree(tree, dir);
	close(fs);
	if (r && tree >= 0)
		close(tree);
	return r ? r : tree;
}

/* Where the root is an image, the share has only what is bound into it, at its path in the container. */
static int copy_binds(struct oci_rootfs *r, const struct oci_config *c, struct err *e)
{
	int tree = put_empty(r->root), error = tree < 0 ? tree : 0;
	char path[32];

	for (size_t i = 0; i < c->binds && !error; i++)
		error = make_bind(tree, &c->bind[i]);
	r->copy = error ? error : copy_tree(tree, "", true);
	if (tree >= 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
		umount2(path, MNT_DETACH);
		close(tree);
	}
	if (r->copy < 0)
		return err_set(e, -r->copy, "cannot copy the mounts of config.json: %s",
			       strerror(-r->copy));
	snprintf(r->share, sizeof(r->share), "/proc/self/fd/%d", r->copy);
	return 0;
}

/* Whether path is below dir, or is it. */
static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

/* Whether a mount of the guest's covers what the n-th of them is mounted on. */
static bool is_covered(const struct oci_config *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (below(c->mount[n].target, c->mount[i].target))
			return true;
	return false;
}

/* So that the guest finds them in a root that it cannot write to. */
static void make_targets(int root, const struct oci_config *c)
{
	for (size_t i = 0; i < c->spec.mount_count; i++) {
		int fd = is_covered(c, i) ? -1 : make_target(root, c->mount[i].target, true);

		if (fd >= 0)
			close(fd);
	}
}

/* The root upon itself: the root of a mount is what a process can change its root to. */
static int open_root(const char *path, struct err *e)
{
	int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), tree, r;

	if (dir < 0)
		return err_sys(e, "root.path %s", path);
	tree = copy_tree(dir, "", true);
	if (tree < 0) {
		close(dir);
		return err_set(e, -tree, "root.path %s: cannot be mounted: %s", path,
			       strerror(-tree));
	}
	r = set_attributes(tree, 0, true);
	if (!r)
		r = put_tree(tree, dir);
	close(dir);
	if (!r)
		return tree; /* which is there now */
	close(tree);
	return err_set(e, -r, "root.path %s: cannot be mounted: %s", path, strerror(-r));
}

int oci_rootfs_make(struct oci_rootfs *r, const char *path, const struct oci_config *c,
		    struct err *e)
{
	int error = 0;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return err_sys(e, "cannot make a mount namespace");
	r->root = open_root(path, e);
	if (r->root < 0)
		return r->root;
	for (size_t i = 0; i < c->binds && !error; i++) {
		error = make_bind(r->root, &c->bind[i]);
		if (error)
			err_set(e, -error, "cannot mount %s on %s: %s", c->bind[i].source,
				c->bind[i].target, strerror(-error));
	}
	return error;
}

int oci_rootfs_copy(struct oci_rootfs *r, const struct oci_config *c, struct err *e)
{
	int error = 0;

	if (c->image)
		return copy_binds(r, c, e);
	make_targets(r->root, c);
	r->copy = copy_tree(r->root, "", true);
	if (r->copy >= 0 && c->read_only)
		error = set_attributes(r->copy, MS_RDONLY, false);
	if (r->copy < 0 || error)
		return err_set(e, r->copy < 0 ? -r->copy : -error, "cannot copy the root's mounts");
	snprintf(r->share, sizeof(r->share), "/proc/self/fd/%d", r->copy);
	return 0;
}

int oci_rootfs_enter(struct oci_rootfs *r, struct err *e)
{
	char proc[32];
	int target = make_target(r->root, "/proc", true);

	if (target < 0)
		return err_set(e, -target, "the root has no /proc and none can be made: %s",
			       strerror(-target));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", target);
	if (mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return err_sys(e, "cannot mount a /proc");
	close(target);
	if (fchdir(r->root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
	    chdir("/"))
		return err_sys(e, "cannot change the root");
	close(r->root);
	r->root = -1;
	return 0;
}
