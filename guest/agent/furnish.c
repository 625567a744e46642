/* SPDX-License-Identifier: Apache-2.0
 *
 * mount.c keeps what the image says from leading out of the root. Nothing here follows a path of the
 * container's in any other way.
 */
#include "guest/agent/furnish.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/mount.h>

#include "guest/agent/identity.h"
#include "guest/agent/own.h"
#include "guest/agent/text.h"

struct mount furnish_mount_of(const struct record *r)
{
	const struct agent_mount *a = r->body;
	struct mount m = {.flags = a->flags, .source = record_string(r, sizeof(*a))};

	m.target = string_after(m.source);
	m.type = string_after(m.target);
	m.data = string_after(m.type);
	return m;
}

/* "cgroup" is what the OCI's configurations say. Without a namespace of its own the container sees its
 * own group there all the same.
 */
static void take_cgroup(struct mount *m, const struct create *c, char *path, size_t size)
{
	if (m->flags & MS_BIND || (strcmp(m->type, "cgroup") && strcmp(m->type, "cgroup2")))
		return;
	m->type = "cgroup2";
	m->data = "";
	if ((c->head.new_namespaces | c->head.pod_namespaces) & AGENT_NS_CGROUP)
		return;
	compose(path, size, "/sys/fs/cgroup/uvm/", c->head.name, NULL);
	m->source = path;
	m->flags |= MS_BIND;
}

/* A tmpfs is its root's, unless it says whose. */
static void own_tmpfs(struct mount *m, const struct userns *u, char *data, size_t size)
{
	char uid[NUMBER_SIZE], gid[NUMBER_SIZE];

	if (u->fd < 0 || strcmp(m->type, "tmpfs") || m->flags & MS_BIND)
		return;
	/* The later of two options counts. */
	compose(data, size, "uid=", number_text(uid, u->uid), ",gid=", number_text(gid, u->gid),
		*m->data ? "," : "", m->data, NULL);
	m->data = data;
}

/* Before it covers it. What is not there is nothing. */
static void copy_up(const struct spawn *s, int root, const char *path, int tree)
{
	int from = mount_open(root, path, O_DIRECTORY);

	if (from < 0)
		return;
	spawn_want(s, own_copy(from, tree), "cannot copy to a tmpfs what is in", path);
	close(from);
}

/* A copy of what the pod's container has at a path: a copy can be made only by who is in its mount namespace,
 * where links are resolved in its root.
 */
static int copy_of_pod(const struct spawn *s, const struct contain_create *x, const char *path)
{
	int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), root, from, tree;

	errno = EINVAL;
	if (own < 0 || !*x->create->head.pod || setns(x->pod, CLONE_NEWNS))
		spawn_refuse(s, "cannot look into the container to join for", path);
	root = spawn_open_dir(s, "/");
	from = mount_open(root, path, 0);
	tree = from < 0 ? from : mount_copy(from, "", false);
	if (from >= 0)
		close(from);
	close(root);
	if (setns(own, CLONE_NEWNS))
		spawn_refuse(s, "cannot go back to the container's own mounts", NULL);
	close(own);
	return tree;
}

/* The mount of a record, nowhere yet. */
static int make_mount(const struct spawn *s, const struct contain_create *x, const struct mount *m,
		      uint64_t options)
{
	int tree;

	if (!(options & AGENT_MOUNT_POD))
		return spawn_want(s, mount_make(m), "cannot make the mount for", m->target);
	tree = spawn_want(s, copy_of_pod(s, x, m->source), "the container to join has no", m->source);
	spawn_want(s, mount_flags(tree, m->flags), "cannot make the mount for", m->target);
	return tree;
}

void furnish_mounts(const struct spawn *s, const struct contain_create *x, struct records records,
			int root, const struct userns *u)
{
	const struct create *c = x->create;
	char path[64 + AGENT_NAME_MAX], data[PATH_MAX];
	struct record r;

	while (record_next(&records, AGENT_R_MOUNT, &r)) {
		uint64_t options = ((const struct agent_mount *)r.body)->options;
		struct mount m = furnish_mount_of(&r);
		int tree;

		take_cgroup(&m, c, path, sizeof(path));
		own_tmpfs(&m, u, data, sizeof(data));
		tree = make_mount(s, x, &m, options);
		if (options & AGENT_MOUNT_COPY_UP)
			copy_up(s, root, m.target, tree);
		spawn_want(s, mount_place(tree, root, &m), "cannot mount on", m.target);
	}
}

static bool is_kind(int fd, long magic)
{
	struct statfs fs;

	return fd >= 0 && !fstatfs(fd, &fs) && (long)fs.f_type == magic;
}

static void make_device(const struct spawn *s, int root, const struct agent_device *d,
			const char *path, const struct userns *u)
{
	mode_t kind = d->type == 'c' ? S_IFCHR : d->type == 'b' ? S_IFBLK : S_IFIFO;
	dev_t number = d->type == 'p' ? 0 : makedev(d->major, d->minor);
	const char *name;
	int dir = spawn_want(s, mount_parent(root, path, &name), "cannot make the directory of", path);

	if (is_kind(dir, PROC_SUPER_MAGIC)) {
		errno = EPERM;
		spawn_refuse(s, "cannot make the device", path);
	}
	unlinkat(dir, name, 0);
	if (mknodat(dir, name, kind | d->mode, number) || 
	    fchownat(dir, name, d->uid ? d->uid : u->uid, d->gid ? d->gid : u->gid, 0) ||
	    fchmodat(dir, name, d->mode, 0))
		spawn_refuse(s, "cannot make the device", path);
	close(dir);
}

static void make_devices(const struct spawn *s, const struct create *c, int root,
			 const struct userns *u)
{
	struct records records = c->records;
	struct record r;

	while (record_next(&records, AGENT_R_DEVICE, &r)) {
		const struct agent_device *d = r.body;

		make_device(s, root, d, record_string(&r, sizeof(*d)), u);
	}
}

/* What programs expect in a /dev, where the container has one of its own. Those that are there stay, but
 * a /dev/ptmx must be this devpts'.
 */
static void make_links(int root)
{
	static const struct {
		const char *name, *to;
	} links[] = {
		{"fd", "/proc/self/fd"},	   {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	};
	int dev = mount_open(root, "/dev", O_DIRECTORY);

	if (!is_kind(dev, TMPFS_MAGIC)) {
		if (dev >= 0)
			close(dev);
		return;
	}
	unlinkat(dev, "ptmx", 0);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)!symlinkat(links[i].to, dev, links[i].name);
	close(dev);
}

/* A copy of the guest has a boot_id of its own, which is not the kernel's. */
static void take_boot_id(int root)
{
	int target = mount_open(root, IDENTITY_BOOT_ID, 0);
	int tree = is_kind(target, PROC_SUPER_MAGIC)
			   ? mount_copy(AT_FDCWD, IDENTITY_BOOT_ID, false)
			   : -1;

	/* It is the guest's file, too: no container may write to it. */
	if (tree >= 0 && !mount_change(tree, "", MOUNT_ATTR_RDONLY, 0, false))
		mount_attach(tree, target, "");
	if (tree >= 0)
		close(tree);
	if (target >= 0)
		close(target);
}

/* Whether the file is one of a namespace: all others are the guest's, with every container in it. */
static bool is_namespaced(const char *path)
{
	static const char *const files[] = {
		"/proc/sys/kernel/msgmax",   "/proc/sys/kernel/msgmnb",
		"/proc/sys/kernel/msgmni",   "/proc/sys/kernel/sem",
		"/proc/sys/kernel/shmall",   "/proc/sys/kernel/shmmax",
		"/proc/sys/kernel/shmmni",   "/proc/sys/kernel/shm_rmid_forced",
		"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (!strcmp(path, files[i]))
			return true;
	return !strncmp(path, "/proc/sys/net/", 14) || !strncmp(path, "/proc/sys/fs/mqueue/", 20);
}

void furnish_sysctls(const struct spawn *s, const struct create *c)
{
	struct records records = c->records;
	char path[PATH_MAX];
	struct record r;

	while (record_next(&records, AGENT_R_SYSCTL, &r)) {
		const char *name = record_string(&r, 0), *value = string_after(name);
		ssize_t len = (ssize_t)strlen(value);
		int fd;

		errno = EPERM;
		if (!sysctl_path(name, path) || !is_namespaced(path))
			spawn_refuse(s, "a sysctl of the whole guest cannot be a container's:", name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, value, (size_t)len) != len)
			spawn_refuse(s, "cannot set the sysctl", name);
		close(fd);
	}
}

static void protect_paths(const struct spawn *s, const struct create *c, int root)
{
	struct records records = c->records;
	struct record r;

	while (record_next(&records, AGENT_R_READONLY, &r))
		spawn_want(s, mount_read_only(root, record_string(&r, 0)), "cannot make read-only",
		     record_string(&r, 0));
	records = c->records;
	while (record_next(&records, AGENT_R_MASKED, &r))
		spawn_want(s, mount_mask(root, record_string(&r, 0)), "cannot mask",
		     record_string(&r, 0));
}

void furnish_console(int root)
{
	int fd = mount_target(root, "/dev/console", false);

	if (fd >= 0)
		close(fd);
}

void furnish(const struct spawn *s, const struct contain_create *x, int root,
		    const struct userns *u)
{
	const struct create *c = x->create;

	furnish_mounts(s, x, c->records, root, u);
	make_devices(s, c, root, u);
	make_links(root);
	if (s->tty)
		furnish_console(root);
	take_boot_id(root);
	protect_paths(s, c, root);
}
