/* SPDX-License-Identifier: Apache-2.0
 *
 * Theory of operation. The child is in its new namespaces from its first instruction, but for the
 * mounts it sees the guest: devices, /proc, /sys. In its own copy of them it puts the container's root
 * together at DIR, with everything that is mounted in it, and changes to it at the end, when there is
 * nothing left that it needs the guest's files for. What the guest had mounted is then gone for it.
 *
 * mount.c keeps what the image says from leading out of the root meanwhile. Nothing here follows a path
 * of the container's in any other way.
 */
#include "guest/agent/contain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/mount.h>

#include "guest/agent/boot.h"
#include "guest/agent/furnish.h"
#include "guest/agent/hook.h"
#include "guest/agent/identity.h"
#include "guest/agent/mount.h"
#include "guest/agent/own.h"
#include "guest/agent/text.h"
#include "guest/agent/userns.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define DIR   "/run/uvm"
#define LOWER DIR "/lower"
#define UPPER DIR "/upper"
#define ROOT  DIR "/root"
#define STAGE DIR "/stage"

#define UMOUNT_DETACH 2 /* MNT_DETACH; see mount.c for why there is no sys/mount.h */
#define UMOUNT_NOFOLLOW 8

static const struct {
	uint32_t ns;
	uint64_t flag;
} namespace_flags[] = {
	{AGENT_NS_MOUNT, CLONE_NEWNS},	   {AGENT_NS_PID, CLONE_NEWPID},
	{AGENT_NS_NET, CLONE_NEWNET},	   {AGENT_NS_IPC, CLONE_NEWIPC},
	{AGENT_NS_UTS, CLONE_NEWUTS},	   {AGENT_NS_CGROUP, CLONE_NEWCGROUP},
	{AGENT_NS_USER, CLONE_NEWUSER},	   {AGENT_NS_TIME, CLONE_NEWTIME},
};

uint64_t contain_flags(uint32_t namespaces)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < sizeof(namespace_flags) / sizeof(namespace_flags[0]); i++)
		if (namespaces & namespace_flags[i].ns)
			flags |= namespace_flags[i].flag;
	return flags;
}

/* A cgroup namespace made by clone3 would have the parent's cgroup as its root. */
uint64_t contain_clone_flags(uint32_t namespaces)
{
	uint32_t later = AGENT_NS_CGROUP;

	if (namespaces & AGENT_NS_USER)
		later |= AGENT_NS_USER | USERNS_INSIDE;
	return contain_flags((namespaces | AGENT_NS_MOUNT) & ~later);
}

static void join(const struct spawn *s, int pidfd, uint64_t flags)
{
	if (flags && setns(pidfd, (int)flags))
		spawn_refuse(s, "cannot join the container's namespaces", NULL);
}

static void take_names(const struct spawn *s, const struct agent_create *head)
{
	if (*head->hostname && sethostname(head->hostname, strlen(head->hostname)))
		spawn_refuse(s, "cannot set the host's name to", head->hostname);
	if (*head->domainname && setdomainname(head->domainname, strlen(head->domainname)))
		spawn_refuse(s, "cannot set the domain's name to", head->domainname);
}

/* --- the root --- */

/* What the root is made of cannot be reached any more when it is. */
static void hand_over(const struct spawn *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		spawn_refuse(s, "cannot open", path);
	spawn_layer(s, fd);
	close(fd);
}

/* Where the container's own files are on its upper device. Returns the options of the overlay. */
static void make_upper(const struct spawn *s, const char *name, char *options, size_t size)
{
	char base[sizeof(UPPER "/") + sizeof(struct agent_name)], path[sizeof(base) + 8];
	struct stat lower;

	compose(base, sizeof(base), UPPER "/", name, NULL);
	mkdir(base, 0700);
	compose(path, sizeof(path), base, "/work", NULL);
	mkdir(path, 0700);
	compose(path, sizeof(path), base, "/upper", NULL);
	/* The root directory is this one's, once it is there: it begins as the lower's. */
	if (!mkdir(path, 0755) &&
	    (stat(LOWER, &lower) || chown(path, lower.st_uid, lower.st_gid) ||
	     chmod(path, lower.st_mode & 07777)))
		spawn_refuse(s, "cannot set up the directory", path);
	compose(options, size, "lowerdir=" LOWER ",upperdir=", path, ",workdir=", base, "/work",
		NULL);
	hand_over(s, LOWER);
	hand_over(s, path);
}

static void mount_upper(const struct spawn *s, const struct agent_root *root, const char *upper)
{
	char size[40] = "mode=0700", number[NUMBER_SIZE];
	int tree;

	if (strcmp(upper, "tmpfs")) {
		tree = mount_new("ext4", upper, "", 0);
	} else {
		if (root->upper_size)
			compose(size, sizeof(size), "mode=0700,size=",
				number_text(number, root->upper_size), NULL);
		tree = mount_new("tmpfs", "tmpfs", size, 0);
	}
	spawn_want(s, tree, "cannot mount", upper);
	spawn_want(s, mount_attach(tree, AT_FDCWD, UPPER), "cannot place", upper);
	close(tree);
}

/* Its files belong to whom the user namespace says. Those of a directory of the host's (virtiofs) belong to
 * whom the host says: it has made them for that namespace, and the file system knows no other way.
 */
static int map_ids(const struct spawn *s, const struct userns *u, const char *type, int tree)
{
	if (u->fd >= 0 && strcmp(type, "virtiofs"))
		spawn_want(s, mount_map_ids(tree, u->fd), "cannot map the ids of the root's files", NULL);
	return tree;
}

/* The root as a detached mount. */
static int make_root(const struct spawn *s, const struct create *c, const struct userns *u)
{
	struct records records = c->records;
	char options[3 * (sizeof(UPPER) + sizeof(struct agent_name)) + 64];
	const struct agent_root *root;
	const char *device, *type, *upper;
	struct mount from;
	struct record r;
	bool written;
	int tree;

	if (!record_next(&records, AGENT_R_ROOT, &r))
		return map_ids(s, u, "", spawn_want(s, mount_copy(AT_FDCWD, "/", false),
					  "cannot copy the mount", "/"));
	root = r.body;
	device = record_string(&r, sizeof(*root));
	type = string_after(device);
	upper = string_after(type);
	written = !*upper && !strcmp(type, "virtiofs") && !(root->flags & AGENT_ROOT_READONLY);
	from = (struct mount){.source = device, .type = type, .data = "", .flags = written ? 0 : MS_RDONLY};
	tree = map_ids(s, u, type, spawn_want(s, mount_make(&from), "cannot mount", device));
	if (!*upper)
		return tree;
	spawn_want(s, mount_attach(tree, AT_FDCWD, LOWER), "cannot place", device);
	close(tree);
	mount_upper(s, root, upper);
	make_upper(s, c->head.name, options, sizeof(options));
	return spawn_want(s, mount_new("overlay", "overlay", options, 0), "cannot mount", "overlay");
}

/* Returns the root with O_PATH. */
static int place_root(const struct spawn *s, const struct create *c, const struct userns *u)
{
	int tree;

	mkdir(DIR, 0700);
	mkdir(LOWER, 0700);
	mkdir(UPPER, 0700);
	mkdir(ROOT, 0700);
	mkdir(MOUNT_SCRATCH, 0700);
	tree = make_root(s, c, u);
	spawn_want(s, mount_attach(tree, AT_FDCWD, ROOT), "cannot place the root at", ROOT);
	close(tree);
	return spawn_open_dir(s, ROOT);
}

static void change_root(const struct spawn *s, int root)
{
	if (fchdir(root))
		spawn_refuse(s, "cannot change to the root", NULL);
	/* Old and new at one place; the old one is on top. */
	if (!syscall(SYS_pivot_root, ".", ".")) {
		if (syscall(SYS_umount2, ".", UMOUNT_DETACH))
			spawn_refuse(s, "cannot leave the guest's root", NULL);
	} else if (errno != EINVAL || syscall(SYS_mount, ".", "/", NULL, MS_MOVE, NULL) ||
		   chroot(".")) {
		/* EINVAL: the guest's root is the initramfs, which cannot be moved away. It has nothing
		 * but the agent in it, and stays below.
		 */
		spawn_refuse(s, "cannot change the root", NULL);
	}
	if (chdir("/"))
		spawn_refuse(s, "cannot change to the root", NULL);
}

/* The root's own mount, when nothing is to be made in it any more. */
static void finish_root(const struct spawn *s, const struct create *c)
{
	struct records records = c->records;
	const struct agent_root *root;
	struct record r;

	if (!record_next(&records, AGENT_R_ROOT, &r))
		return;
	root = r.body;
	spawn_want(s,
	     mount_change(AT_FDCWD, "/", root->flags & AGENT_ROOT_READONLY ? MOUNT_ATTR_RDONLY : 0,
			  root->propagation == MS_PRIVATE ? 0 : root->propagation, false),
	     "cannot change the root's mount", NULL);
}

/* --- in stages --- */

static void enter(const struct spawn *s, const struct contain_create *x)
{
	const struct agent_create *head = &x->create->head;

	join(s, x->pod, contain_flags(head->pod_namespaces & ~(uint32_t)AGENT_NS_PID));
	if (head->new_namespaces & AGENT_NS_CGROUP && unshare(CLONE_NEWCGROUP))
		spawn_refuse(s, "cannot make a cgroup namespace", NULL);
	if (head->new_namespaces & AGENT_NS_NET)
		boot_loopback();
	spawn_want(s, mount_change(AT_FDCWD, "/", 0, MS_PRIVATE, true), "cannot make mounts private",
	     NULL);
}

void contain_stage(const struct spawn *s, const struct contain_create *x)
{
	static const struct userns none = {.fd = -1, .pidfd = -1};
	int stage;

	umask(0);
	enter(s, x);
	mkdir(DIR, 0700);
	mkdir(STAGE, 0700);
	stage = spawn_open_dir(s, STAGE);
	furnish(s, x, stage, &none);
	close(stage);
}

/* Moves what was mounted there, each with all that is in it, to where it belongs; then mounts what comes
 * beside it.
 */
static void take_stage(const struct spawn *s, const struct contain_create *x, int root,
		       const struct userns *u)
{
	struct records staged = x->staged->records, rest = x->create->records;
	int stage = spawn_open_dir(s, STAGE);
	struct record r;

	while (record_next(&staged, AGENT_R_MOUNT, &r)) {
		struct mount m = furnish_mount_of(&r);
		int tree = mount_open(stage, m.target, 0);

		record_next(&rest, AGENT_R_MOUNT, &r); /* the same */
		if (tree == -ENOENT) /* it went along with another */
			continue;
		spawn_want(s, tree, "cannot find the mount for", m.target);
		spawn_want(s, mount_place(tree, root, &m), "cannot mount on", m.target);
	}
	close(stage);
	furnish_mounts(s, x, rest, root, u);
	if (s->tty)
		furnish_console(root);
}

static void contain_create(const struct spawn *s, const void *where)
{
	const struct contain_create *x = where;
	const struct create *c = x->create;
	struct userns user;
	ssize_t n;
	int root;

	umask(0);
	userns_make(&user, s, c);
	if (!x->staged)
		enter(s, x);
	take_names(s, &c->head);
	root = place_root(s, c, &user);
	if (x->staged)
		take_stage(s, x, root, &user);
	else
		furnish(s, x, root, &user);
	furnish_sysctls(s, c);
	n = readlink("/proc/self", x->pid, NUMBER_SIZE - 1);
	x->pid[n > 0 ? n : 0] = '\0';
	hooks_run(s, c, AGENT_HOOK_CREATE, x->pid);
	change_root(s, root);
	close(root);
	finish_root(s, c);
	userns_enter(&user, s);
	/* A session keyring that is not shared with the guest's. 1: KEYCTL_JOIN_SESSION_KEYRING */
	syscall(SYS_keyctl, 1, c->head.name);
}

static void contain_begin(const struct spawn *s, const void *where)
{
	const struct contain_create *x = where;

	hooks_run(s, x->create, AGENT_HOOK_START, x->pid);
}

uint64_t contain_denied(uint32_t own)
{
	return own & AGENT_NS_PID ? 0 : UINT64_C(1) << CAP_SYS_PTRACE;
}

void contain_spawn(struct spawn *s, const struct contain_create *x)
{
	const struct agent_create *head = &x->create->head;

	s->enter = contain_create;
	s->begin = contain_begin;
	s->where = x;
	s->denied = contain_denied(head->new_namespaces | head->pod_namespaces);
	s->wait = true;
}

#define NAMESPACES_JOINED                                                                          \
	(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWTIME)

/* The PID namespace is what it was born in. */
void contain_join(const struct spawn *s, const void *where)
{
	const struct contain_join *x = where;

	userns_join(s, x->pidfd, NAMESPACES_JOINED | (x->user ? CLONE_NEWUSER : 0));
}

/* --- what changes while it runs --- */

/* What the guest has, a device or a directory, is mounted as the guest sees it. Anything else belongs to
 * a namespace.
 */
static bool is_guests(const struct mount *m)
{
	return m->flags & MS_BIND || *m->source == '/';
}

static void mount_in(const struct spawn *s, int pidfd, const struct mount *m)
{
	int tree = -1, root;

	if (is_guests(m))
		tree = spawn_want(s, mount_make(m), "cannot make the mount for", m->target);
	join(s, pidfd, NAMESPACES_JOINED);
	if (tree < 0)
		tree = spawn_want(s, mount_make(m), "cannot make the mount for", m->target);
	root = spawn_open_dir(s, "/");
	spawn_want(s, mount_place(tree, root, m), "cannot mount on", m->target);
	close(root);
}

_Noreturn void contain_mount(const struct spawn *s, int pidfd, struct records mounts)
{
	int guest = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	struct record r;

	/* A copy of a mount can be made only by who has the mount in a namespace of its own. */
	while (record_next(&mounts, AGENT_R_MOUNT, &r)) {
		struct mount m = furnish_mount_of(&r);

		errno = EINVAL;
		if (((const struct agent_mount *)r.body)->options)
			spawn_refuse(s, "only of a container that is made: an option of the mount on", m.target);
		mount_in(s, pidfd, &m);
		if (guest < 0 || setns(guest, CLONE_NEWNS))
			spawn_refuse(s, "cannot go back to the guest's mounts", NULL);
	}
	spawn_ready(s);
	_exit(0);
}

_Noreturn void contain_unmount(const struct spawn *s, int pidfd, const char *path)
{
	join(s, pidfd, NAMESPACES_JOINED); /* and its root is this process' now */
	if (syscall(SYS_umount2, path, UMOUNT_DETACH | UMOUNT_NOFOLLOW))
		spawn_refuse(s, "cannot unmount", path);
	spawn_ready(s);
	_exit(0);
}
