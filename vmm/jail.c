/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/mount.h>

#include "vmm/util.h"

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

#define ROOT "root" /* in the run directory, for a moment */

bool jail_possible(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	const uint32_t needed = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_CHROOT;

	return !syscall(SYS_capget, &h, d) && (d[0].effective & needed) == needed;
}

int jail_detach(int dir)
{
	int fd = (int)syscall(SYS_open_tree, dir, "",
			      AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd < 0 ? -errno : fd;
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

static int replace(int dir, const char *what, struct err *e)
{
	int fd = jail_detach(dir), r = 0;

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

	if (fd < 0 || unlinkat(vm->dir, ROOT, AT_REMOVEDIR) || fchdir(fd) || chroot("."))
		r = err_sys(e, "cannot leave the host's root directory");
	if (fd >= 0)
		close(fd);
	return r;
}

int jail_move(const struct rundir *vm, struct err *e)
{
	return fchdir(vm->dir) ? err_sys(e, "cannot go to the run directory") : 0;
}

int jail_enter(const struct rundir *vm, const struct snapshot *from, struct err *e)
{
	int r = replace(vm->dir, "the run directory", e);

	for (; from && !r; from = from->parent)
		r = replace(from->dir, "a snapshot's directory", e);
	if (!r)
		r = leave_root(vm, e);
	return r ? r : jail_move(vm, e);
}
