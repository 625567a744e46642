/* SPDX-License-Identifier: Apache-2.0
 *
 * Through system calls: what the C library has of these differs, and clashes with the kernel's own
 * headers.
 */
#include "guest/agent/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>

#include "guest/agent/boot.h"

/* Something else has changed the tree meanwhile; a container that runs may do that on purpose. */
#define RESOLVE_TRIES 100

#define UMOUNT_DETACH 2 /* MNT_DETACH */

static int resolve(int root, const char *path, int flags, uint64_t how)
{
	struct open_how h = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags),
			     .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | how};
	long fd;

	for (int i = 0; i < RESOLVE_TRIES; i++) {
		fd = syscall(SYS_openat2, root, path, &h, sizeof(h));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

int mount_open(int root, const char *path, int flags)
{
	return resolve(root, path, flags, 0);
}

/* The directory prefix below root, made in dir under its last component's name if it is missing. */
static int open_or_make(int root, const char *prefix, int dir)
{
	int fd = mount_open(root, prefix, O_DIRECTORY);

	if (fd != -ENOENT)
		return fd;
	if (mkdirat(dir, strrchr(prefix, '/') + 1, 0755) && errno != EEXIST)
		return -errno;
	return mount_open(root, prefix, O_DIRECTORY);
}

int mount_parent(int root, const char *path, const char **name)
{
	char prefix[PATH_MAX];
	int dir = mount_open(root, "/", O_DIRECTORY);

	while (*path == '/')
		path++;
	for (size_t n = 0; dir >= 0;) {
		size_t len = strcspn(path, "/"), slashes = strspn(path + len, "/");
		int next;

		if (!path[len + slashes]) { /* what is left is the last one */
			*name = path;
			break;
		}
		prefix[n++] = '/';
		memcpy(prefix + n, path, len);
		prefix[n += len] = '\0';
		path += len + slashes;
		next = open_or_make(root, prefix, dir);
		close(dir);
		dir = next;
	}
	return dir;
}

int mount_target(int root, const char *path, bool directory)
{
	int fd = mount_open(root, path, 0), dir, r;
	char last[NAME_MAX + 1];
	const char *name;
	size_t len;

	if (fd != -ENOENT)
		return fd;
	dir = mount_parent(root, path, &name);
	if (dir < 0)
		return dir;
	len = strcspn(name, "/");
	if (!len || len > NAME_MAX) {
		close(dir);
		return -ENAMETOOLONG;
	}
	memcpy(last, name, len);
	last[len] = '\0';
	r = directory ? mkdirat(dir, last, 0755) : mknodat(dir, last, S_IFREG | 0644, 0);
	r = r && errno != EEXIST ? -errno : 0;
	close(dir);
	return r ? r : mount_open(root, path, 0);
}

/* --- detached mounts --- */

static uint64_t attributes_of(uint64_t flags)
{
	static const struct {
		uint64_t flag, attribute;
	} table[] = {
		{MS_RDONLY, MOUNT_ATTR_RDONLY},
		{MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NODEV, MOUNT_ATTR_NODEV},
		{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
		{MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
	};
	uint64_t attributes = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (flags & table[i].flag)
			attributes |= table[i].attribute;
	/* One of three, and relatime is 0. */
	if (flags & MS_NOATIME)
		attributes |= MOUNT_ATTR_NOATIME;
	else if (flags & MS_STRICTATIME)
		attributes |= MOUNT_ATTR_STRICTATIME;
	return attributes;
}

static int change(int dir, const char *path, uint64_t attributes, uint64_t propagation, int flags)
{
	struct mount_attr attr = {.attr_set = attributes, .propagation = propagation};

	if (attributes & MOUNT_ATTR__ATIME)
		attr.attr_clr = MOUNT_ATTR__ATIME;
	if (!attributes && !propagation)
		return 0;
	return syscall(SYS_mount_setattr, dir, path, flags, &attr, sizeof(attr)) ? -errno : 0;
}

int mount_change(int dir, const char *path, uint64_t attributes, uint64_t propagation,
		 bool recursive)
{
	return change(dir, path, attributes, propagation,
		      (*path ? 0 : AT_EMPTY_PATH) | (recursive ? AT_RECURSIVE : 0));
}

int mount_map_ids(int tree, int user)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user};

	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) ? -errno : 0;
}

int mount_copy(int dir, const char *path, bool all)
{
	long fd = syscall(SYS_open_tree, dir, path,
			  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (all ? AT_RECURSIVE : 0) |
				  (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? -errno : (int)fd;
}

/* One option; text is changed. */
static int set_option(int fs, char *text)
{
	char *value = strchr(text, '=');
	long r;

	if (!*text)
		return 0;
	if (value) {
		*value++ = '\0';
		r = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, text, value, 0);
	} else {
		r = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, text, NULL, 0);
	}
	return r ? -errno : 0;
}

static int set_options(int fs, const char *data)
{
	char text[PATH_MAX], *rest = NULL;
	size_t len = strlen(data);
	int r = 0;

	if (len >= sizeof(text))
		return -E2BIG;
	memcpy(text, data, len + 1);
	for (char *o = strtok_r(text, ",", &rest); o && !r; o = strtok_r(NULL, ",", &rest))
		r = set_option(fs, o);
	return r;
}

/* What is the file system's and not the mount's. Only one on a device is read-only by itself: others
 * are shared with mounts that are not.
 */
static int set_flags(int fs, uint64_t flags, bool device)
{
	static const struct {
		uint64_t flag;
		const char *option;
	} table[] = {{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_LAZYTIME, "lazytime"}};

	if (device && flags & MS_RDONLY &&
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0))
		return -errno;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (flags & table[i].flag &&
		    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, table[i].option, NULL, 0))
			return -errno;
	return 0;
}

int mount_new(const char *type, const char *source, const char *data, uint64_t flags)
{
	bool device = !strncmp(source, "/dev/", 5);
	long fs = syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), tree = -1;
	int r;

	if (fs < 0)
		return -errno;
	if (device)
		boot_wait_for(source);
	r = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", *source ? source : type, 0)
		    ? -errno
		    : 0;
	if (!r)
		r = set_flags((int)fs, flags, device);
	if (!r)
		r = set_options((int)fs, data);
	if (!r && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		r = -errno;
	if (!r) {
		tree = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes_of(flags));
		r = tree < 0 ? -errno : 0;
	}
	close((int)fs);
	return r ? r : (int)tree;
}

int mount_flags(int tree, uint64_t flags)
{
	return change(tree, "", attributes_of(flags), 0, AT_EMPTY_PATH);
}

/* With a mount's flags; closes it if they cannot be had. tree may be an error. */
static int with_flags(int tree, uint64_t flags)
{
	int r = tree < 0 ? tree : mount_flags(tree, flags);

	if (r && tree >= 0)
		close(tree);
	return r ? r : tree;
}

/* A copy of what is at path in a detached tree. A copy can be made only of what is mounted somewhere. */
static int copy_from(int tree, const char *path)
{
	int r = mount_attach(tree, AT_FDCWD, MOUNT_SCRATCH), root, from;

	if (r)
		return r;
	root = open(MOUNT_SCRATCH, O_PATH | O_DIRECTORY | O_CLOEXEC);
	from = root < 0 ? -errno : mount_open(root, path, 0);
	r = from < 0 ? from : mount_copy(from, "", false);
	if (from >= 0)
		close(from);
	if (root >= 0)
		close(root);
	syscall(SYS_umount2, MOUNT_SCRATCH, UMOUNT_DETACH);
	return r;
}

/* The path in a share is resolved in it. */
static int make_share(const char *source, uint64_t flags)
{
	size_t len = strcspn(source, "/");
	char tag[NAME_MAX + 1];
	int share, tree;

	if (!source[len])
		return mount_new("virtiofs", source, "", flags);
	if (len >= sizeof(tag))
		return -ENAMETOOLONG;
	memcpy(tag, source, len);
	tag[len] = '\0';
	share = mount_new("virtiofs", tag, "", 0);
	if (share < 0)
		return share;
	tree = copy_from(share, source + len);
	close(share);
	return with_flags(tree, flags);
}

int mount_make(const struct mount *m)
{
	if (m->flags & MS_BIND)
		return with_flags(mount_copy(AT_FDCWD, m->source, m->flags & MS_REC), m->flags);
	if (!strcmp(m->type, "virtiofs"))
		return make_share(m->source, m->flags);
	return mount_new(m->type, m->source, m->data, m->flags);
}

int mount_attach(int tree, int target, const char *path)
{
	long r = syscall(SYS_move_mount, tree, "", target, path,
			 MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH));

	return r ? -errno : 0;
}

/* --- on their targets --- */

static bool on_proc(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == PROC_SUPER_MAGIC;
}

/* What lxcfs and its like show in place of the kernel's. */
static bool may_be_covered(const char *target)
{
	static const char *const files[] = {
		"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg",   "/proc/meminfo",
		"/proc/net/dev", "/proc/slabinfo",  "/proc/stat",      "/proc/swaps",
		"/proc/uptime",	 "/proc/version",
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (!strcmp(target, files[i]))
			return true;
	return false;
}

static bool is_proc_directory(const char *target)
{
	return !strncmp(target, "/proc", 5) && !target[5 + strspn(target + 5, "/")];
}

/* Whether what is at tree may be mounted there. */
static bool allowed(int tree, int target, const struct mount *m)
{
	if (is_proc_directory(m->target))
		return on_proc(tree) && !on_proc(target);
	return !on_proc(target) || may_be_covered(m->target);
}

/* The kernel's own file systems go where their path says and nowhere else: what looks for them there
 * takes what it finds for the truth.
 */
static bool is_kernels(const char *type)
{
	return !strcmp(type, "proc") || !strcmp(type, "sysfs") || !strcmp(type, "cgroup2");
}

int mount_place(int tree, int root, const struct mount *m)
{
	struct stat st;
	int target, r;

	if (fstat(tree, &st)) {
		r = -errno;
		close(tree);
		return r;
	}
	target = mount_target(root, m->target, S_ISDIR(st.st_mode));
	r = target < 0 ? target : 0;
	if (!r && !(m->flags & MS_BIND) && is_kernels(m->type)) {
		close(target);
		target = resolve(root, m->target, O_DIRECTORY, RESOLVE_NO_SYMLINKS);
		r = target < 0 ? target : 0;
	}
	if (!r && !allowed(tree, target, m))
		r = -EPERM;
	if (!r)
		r = mount_attach(tree, target, "");
	if (!r)
		r = change(tree, "", 0,
			   m->flags & (MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE),
			   AT_EMPTY_PATH | (m->flags & MS_REC ? AT_RECURSIVE : 0));
	if (target >= 0)
		close(target);
	close(tree);
	return r;
}

/* Puts tree on target and closes both; either may be an error. */
static int cover(int tree, int target)
{
	int r = tree < 0 ? tree : target < 0 ? target : mount_attach(tree, target, "");

	if (tree >= 0)
		close(tree);
	if (target >= 0)
		close(target);
	return r;
}

int mount_read_only(int root, const char *path)
{
	int target = mount_open(root, path, 0), tree, r;

	if (target < 0)
		return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	tree = mount_copy(target, "", true);
	r = tree < 0 ? 0 : change(tree, "", MOUNT_ATTR_RDONLY, 0, AT_EMPTY_PATH | AT_RECURSIVE);
	if (r) {
		close(tree);
		tree = r;
	}
	return cover(tree, target);
}

int mount_mask(int root, const char *path)
{
	int target = mount_open(root, path, 0);
	struct stat st;

	if (target < 0)
		return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	if (fstat(target, &st))
		st.st_mode = 0;
	return cover(S_ISDIR(st.st_mode)
			     ? mount_new("tmpfs", "tmpfs", "size=4k,nr_inodes=2,mode=0555", MS_RDONLY)
			     : mount_copy(AT_FDCWD, "/dev/null", false),
		     target);
}
