/* SPDX-License-Identifier: Apache-2.0 */
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

#include "shim/mount.h"
#include "vmm/util.h"

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
		r = errno == EXDEV ? err_set(e, EXDEV,
					     "config.json: root.path %s leads out of the bundle; an absolute path "
					     "may",
					     root)
				   : err_set(e, errno, "config.json: root.path %s: %s%s%s", root, strerror(errno),
					     *root == '/' ? "" : "; it is looked for in the bundle ",
					     *root == '/' ? "" : bundle);
	else if (snprintf(path, PATH_MAX, "%s%s%s", *root == '/' ? "" : bundle,
			  *root == '/' ? "" : "/", root) >= PATH_MAX)
		r = err_set(e, ENAMETOOLONG, "config.json: root.path is too long");
	if (fd >= 0)
		close((int)fd);
	close(dir);
	return r;
}

/* --- the tree --- */

static int make_bind(int root, const struct oci_bind *b)
{
	int tree = oci_mount_copy(AT_FDCWD, b->source, b->flags & MS_REC), target, r;
	struct stat st;

	if (tree < 0)
		return tree;
	r = oci_mount_set(tree, b->flags, false);
	if (!r && fstat(tree, &st))
		r = -errno;
	target = r ? r : oci_mount_target(root, b->target, S_ISDIR(st.st_mode));
	if (target >= 0) {
		r = oci_mount_put(tree, target);
		close(target);
	}
	close(tree);
	return target < 0 ? target : r;
}

/* Where the root is an image, the share has only what is bound into it, at its path in the container. */
static int copy_binds(struct oci_rootfs *r, const struct oci_config *c, struct err *e)
{
	int tree = oci_mount_empty(r->root), error = tree < 0 ? tree : 0;
	char path[32];

	for (size_t i = 0; i < c->binds && !error; i++)
		error = make_bind(tree, &c->bind[i]);
	r->copy = error ? error : oci_mount_copy(tree, "", true);
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
		int fd = is_covered(c, i) ? -1 : oci_mount_target(root, c->mount[i].target, true);

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
	tree = oci_mount_copy(dir, "", true);
	if (tree < 0) {
		close(dir);
		return err_set(e, -tree, "root.path %s: cannot be mounted: %s", path,
			       strerror(-tree));
	}
	r = oci_mount_set(tree, 0, true);
	if (!r)
		r = oci_mount_put(tree, dir);
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
	r->copy = oci_mount_copy(r->root, "", true);
	if (r->copy >= 0 && c->read_only)
		error = oci_mount_set(r->copy, MS_RDONLY, false);
	if (r->copy < 0 || error)
		return err_set(e, r->copy < 0 ? -r->copy : -error, "cannot copy the mounts of root.path: %s",
			       strerror(r->copy < 0 ? -r->copy : -error));
	snprintf(r->share, sizeof(r->share), "/proc/self/fd/%d", r->copy);
	return 0;
}

int oci_rootfs_keep(struct oci_rootfs *r, struct err *e)
{
	int target = oci_mount_target(r->root, "/proc", true);
	int error = target < 0 ? target : oci_mount_put(r->copy, target);

	if (target >= 0)
		close(target);
	return error ? err_set(e, -error, "root.path has no directory /proc and none can be made there: %s",
			       strerror(-error))
		     : 0;
}

int oci_rootfs_enter(struct oci_rootfs *r, struct err *e)
{
	char proc[32];
	int target = oci_mount_target(r->root, "/proc", true);

	if (target < 0)
		return err_set(e, -target, "root.path has no directory /proc and none can be made there: %s",
			       strerror(-target));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", target);
	/* Who is root needs no capability to write to /proc/sys, core_pattern for one. */
	if (mount("proc", proc, "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return err_sys(e, "cannot mount a /proc");
	close(target);
	if (fchdir(r->root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
	    chdir("/"))
		return err_sys(e, "cannot change the root");
	close(r->root);
	r->root = -1;
	return 0;
}
