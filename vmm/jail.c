/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/mount.h>

#include "vmm/util.h"

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

#define ROOT "root" /* in the run directory, for a moment */

/* Whether this process has what a jail needs, as root has. */
static bool has_rights(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	const uint32_t needed = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_CHROOT;

	return !syscall(SYS_capget, &h, d) && (d[0].effective & needed) == needed;
}

bool jail_possible(void)
{
	char self[16], own[16];
	ssize_t n = readlink("/proc/self", self, sizeof(self));
	int len = snprintf(own, sizeof(own), "%d", (int)getpid());

	return n == len && !memcmp(self, own, (size_t)len);
}

/* --- directories from which ".." does not lead --- */

static int open_tree(int dir, unsigned int flags)
{
	int fd = (int)syscall(SYS_open_tree, dir, "",
			      AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);

	return fd < 0 ? -errno : fd;
}

struct apart {
	char path[PATH_MAX];
	struct stat of;
	unsigned int flags;
	int fd; /* what came of it: a descriptor, or -errno */
};

/* In a mount namespace that is its own, where it may do that. A tree that was opened outside cannot be
 * detached in it, so the directory is looked up again, and must be the same.
 */
static int detach_there(void *ctx)
{
	struct apart *a = ctx;
	int dir = open(a->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat now;

	if (dir < 0)
		a->fd = -errno;
	else if (fstat(dir, &now) || now.st_dev != a->of.st_dev || now.st_ino != a->of.st_ino)
		a->fd = -ENOENT;
	else
		a->fd = open_tree(dir, a->flags);
	if (dir >= 0)
		close(dir);
	_exit(0);
}

/* As an ordinary user: by a process that shares everything but has a user and a mount namespace of its own,
 * 0.1 ms. This one stays where it is: a further mount namespace would cost each VM memory.
 */
static int detach_apart(int dir, unsigned int flags)
{
	static char stack[16384] __attribute__((aligned(16)));
	struct apart a = {.flags = flags, .fd = -EPERM};
	char link[32];
	ssize_t n;
	pid_t pid;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, a.path, sizeof(a.path) - 1);
	if (n < 0 || fstat(dir, &a.of))
		return -errno;
	a.path[n] = 0;
	pid = clone(detach_there, stack + sizeof(stack),
		    CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWUSER | CLONE_NEWNS, &a);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return a.fd;
}

static int detach(int dir, unsigned int flags)
{
	int fd = open_tree(dir, flags);

	return fd == -EPERM ? detach_apart(dir, flags) : fd;
}

int jail_detach(int dir)
{
	return detach(dir, 0);
}

int jail_detach_readable(int dir)
{
	int tree = jail_detach(dir), fd;

	if (tree < 0)
		return tree;
	fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = fd < 0 ? -errno : fd;
	close(tree);
	return fd;
}

/* --- going in --- */

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* chroot(2) takes a right that an ordinary user has in a user namespace of its own. Of the host's users only
 * this one is known by its number in there (user_namespaces(7)).
 */
static int get_rights(void)
{
	const unsigned int uid = geteuid(), gid = getegid();
	char users[32], groups[32];
	int r = 0;

	if (has_rights())
		return 0;
	snprintf(users, sizeof(users), "%u %u 1", uid, uid);
	snprintf(groups, sizeof(groups), "%u %u 1", gid, gid);
	if (unshare(CLONE_NEWUSER))
		return -errno;
	r = put("/proc/self/uid_map", users);
	if (!r)
		r = put("/proc/self/setgroups", "deny");
	return r ? r : put("/proc/self/gid_map", groups);
}

int jail_replace(int dir, bool mounts, const char *what, struct err *e)
{
	int fd = detach(dir, mounts ? AT_RECURSIVE : 0), r = 0;

	if (fd < 0)
		return err_set(e, -fd, "cannot detach %s: %s", what, strerror(-fd));
	if (dup3(fd, dir, O_CLOEXEC) < 0)
		r = err_sys(e, "cannot detach %s", what);
	close(fd);
	return r;
}

static int leave_root(const struct rundir *vm, struct err *e)
{
	int fd = mkdirat(vm->dir, ROOT, 0)
			 ? -1
			 : openat(vm->dir, ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r = 0;

	if (fd < 0 || unlinkat(vm->dir, ROOT, AT_REMOVEDIR))
		r = -errno;
	if (!r)
		r = get_rights();
	if (!r && (fchdir(fd) || chroot("."))) /* nobody may go there who has no rights of root's */
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r ? err_set(e, -r, "cannot leave the host's root directory: %s", strerror(-r)) : 0;
}

int jail_move(const struct rundir *vm, struct err *e)
{
	return fchdir(vm->dir) ? err_sys(e, "cannot go to the run directory") : 0;
}

bool jail_refused(int r)
{
	return (r == -EPERM || r == -ENOSPC || r == -EUSERS || r == -EINVAL || r == -EACCES) && !has_rights();
}

bool jail_allowed(void)
{
	int dir = open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC), fd; /* no file system is mounted in it */

	if (dir < 0)
		return has_rights();
	fd = jail_detach(dir);
	close(dir);
	if (fd >= 0)
		close(fd);
	return fd >= 0 && jail_possible();
}

int jail_detach_snapshots(const struct snapshot *from, struct err *e)
{
	int r = 0;

	for (; from && !r; from = from->parent)
		r = jail_replace(from->dir, false, "a snapshot's directory", e);
	return r;
}

int jail_enter(const struct rundir *vm, const struct snapshot *from, bool *in, struct err *e)
{
	int r = jail_replace(vm->dir, false, "the run directory", e);

	*in = false;
	if (jail_refused(r))
		return 0;
	if (!r)
		r = jail_detach_snapshots(from, e);
	if (!r)
		r = leave_root(vm, e);
	*in = !r;
	return r ? r : jail_move(vm, e);
}
