/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>

#include "vmm/log.h"
#include "vmm/util.h"

/* Those of a thread that serves a share as root (devices/fuse_ids.c). */
#define BIT(cap) (1ull << (cap))
#define FILE_CAPS                                                                                  \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) |     \
	 BIT(CAP_FSETID) | BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP) | \
	 BIT(CAP_SETPCAP))

/* --- limits --- */

/* Who is to raise a limit again needs CAP_SYS_RESOURCE, and a call that is in no filter. */
static int set_limits(struct err *e)
{
	const struct rlimit none = {0, 0};

	return setrlimit(RLIMIT_CORE, &none) || setrlimit(RLIMIT_MSGQUEUE, &none)
		       ? err_sys(e, "cannot lower a limit")
		       : 0;
}

/* --- user --- */

/* The kernel forgets at that which signal is to come at the parent's end (prctl(2)). */
static int become_user(const struct confine_needs *n, struct err *e)
{
	const pid_t parent = getppid();
	int sig = 0;

	if (!n->as_user)
		return 0;
	if (prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0) || setgroups(0, NULL) ||
	    setresgid(n->gid, n->gid, n->gid) || setresuid(n->uid, n->uid, n->uid) ||
	    (sig && prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0)))
		return err_sys(e, "cannot become user %u", n->uid);
	return sig && getppid() != parent ? err_set(e, ECHILD, "who started it has ended") : 0;
}

/* --- privileges --- */

/* Gives up all but those, of the calling thread. The bounding set may stay: after no_new_privs, and without
 * execve, nothing is gained by it.
 */
static int keep_caps(uint64_t keep)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return -errno;
	for (unsigned int i = 0; i < 2; i++) {
		d[i].effective &= (uint32_t)(keep >> 32 * i);
		d[i].permitted &= (uint32_t)(keep >> 32 * i);
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) ? -errno : 0;
}

static int drop_privileges(const struct confine_needs *n, struct err *e)
{
	const bool is_root = !geteuid(); /* an ordinary user's process may have been root in its jail */
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_sys(e, "cannot set no_new_privs");
	r = keep_caps(n->runtime ? ~0ull : n->shares && is_root ? FILE_CAPS : 0);
	return r ? err_set(e, -r, "cannot give up capabilities: %s", strerror(-r)) : 0;
}

/* --- reach --- */

/* As of Landlock's version 6 (Linux 6.12); the headers may be older. */
struct landlock_attr {
	uint64_t fs, net, scoped;
};
#define LANDLOCK_LINKS	    2
#define LANDLOCK_TRUNCATES  3
#define LANDLOCK_TCP	    4
#define LANDLOCK_IOCTLS	    5
#define LANDLOCK_SCOPES	    6
#define FS_FIRST	    ((1ull << 13) - 1) /* of version 1 */
#define FS_TRUNCATE	    (1ull << 14)
#define FS_IOCTL_DEV	    (1ull << 15)
#define NET_TCP		    3u /* bind, connect */
#define SCOPE_ABSTRACT_UNIX 1u
#define SCOPE_SIGNALS	    2u
#define FS_READ		    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

int confine_landlock(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return (int)MAX(version, 0);
}

/* A right that the kernel does not know is not asked of it. */
static uint64_t all_of_files(int version)
{
	return FS_FIRST | (version < LANDLOCK_LINKS ? 0 : LANDLOCK_ACCESS_FS_REFER) |
	       (version < LANDLOCK_TRUNCATES ? 0 : FS_TRUNCATE) | (version < LANDLOCK_IOCTLS ? 0 : FS_IOCTL_DEV);
}

static int allow_in(int ruleset, int dir, uint64_t rights)
{
	struct landlock_path_beneath_attr a = {.allowed_access = rights, .parent_fd = dir};

	return dir < 0 ? -1 : (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
}

/* Links and renames from one directory to another are denied in every domain that has rules for files, unless
 * one allows them (version 2, Linux 5.19); a share's guest makes them. The root directory is enough without a jail;
 * in one it is not above the shares.
 */
static int allow_links(int ruleset, const struct confine_needs *n)
{
	int root = open("/", O_PATH | O_CLOEXEC), r = allow_in(ruleset, root, LANDLOCK_ACCESS_FS_REFER);

	for (unsigned int i = 0; i < n->dirs && !r; i++)
		r = allow_in(ruleset, n->dir[i].fd, LANDLOCK_ACCESS_FS_REFER);
	if (root >= 0)
		close(root);
	return r;
}

/* All but to execute, and to control devices. */
static int allow_dirs(int ruleset, const struct confine_needs *n, uint64_t all)
{
	const uint64_t rights = all & ~(LANDLOCK_ACCESS_FS_EXECUTE | FS_IOCTL_DEV);
	int r = 0;

	for (unsigned int i = 0; i < n->dirs && !r; i++)
		r = allow_in(ruleset, n->dir[i].fd, n->dir[i].read_only ? FS_READ : rights);
	return r;
}

static int make_domain(const struct landlock_attr *attr, const struct confine_needs *needs, struct err *e)
{
	int fd = (int)syscall(SYS_landlock_create_ruleset, attr, sizeof(*attr), 0), r = 0;

	if (fd >= 0 && (needs->files		       ? allow_dirs(fd, needs, attr->fs)
			: attr->fs & LANDLOCK_ACCESS_FS_REFER ? allow_links(fd, needs)
						       : 0))
		r = err_sys(e, "cannot make a Landlock rule");
	/* E2BIG: a fork of a fork of many, which is in enough domains. */
	if (!r && (fd < 0 || (syscall(SYS_landlock_restrict_self, fd, 0) && errno != E2BIG)))
		r = err_sys(e, "cannot make a Landlock domain");
	if (fd >= 0)
		close(fd);
	return r;
}

/* A Landlock domain of its own. Who is in one can look into no process outside of it (ptrace(2), and so
 * /proc/PID/mem, which no filter sees); newer kernels keep its signals and its abstract sockets in, too.
 *
 * Without a jail it denies all files but those of the directories that it needs. What a domain is told now is all
 * that a snapshot or a fork can reach later: the files of a snapshot are opened by the keeper then. In a jail files
 * are left alone, but that none is executed. An OCI runtime has mounts to make yet, which who has rules for
 * files must not; nor can a share be served on a kernel whose rules deny links.
 */
static int scope(struct confine *c, const struct confine_needs *needs, struct err *e)
{
	const int version = confine_landlock();
	struct confine_needs n = *needs;
	struct landlock_attr attr = {.scoped = version < LANDLOCK_SCOPES ? 0 : SCOPE_ABSTRACT_UNIX | SCOPE_SIGNALS};
	int r;

	if (!version || n.runtime || (version < LANDLOCK_LINKS && n.shares))
		n.files = false;
	else
		attr.fs = n.files ? all_of_files(version)
				  : all_of_files(version) & (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REFER);
	if (n.files && version >= LANDLOCK_TCP)
		attr.net = NET_TCP;
	if (needs->files && !n.files)
		log_warn("who takes over this VM's process reaches its user's files: the host lets users make no namespaces, "
			 "and its kernel has no Landlock that denies files ('uvm check' says more)");
	if (!(attr.fs | attr.scoped))
		return 0;
	r = make_domain(&attr, &n, e);
	if (!r)
		c->reach = n.files ? CONFINE_FILES : MAX(c->reach, CONFINE_PROCESSES);
	return r;
}

/* --- system calls --- */

/* Made of confine_calls.c's table when uvm is built: to compile them costs a start as much again as to
 * install them.
 */
struct filter {
	const struct sock_filter *code;
	unsigned short len;
};
#include "build/filters.inc"

static int install(const struct filter *f)
{
	struct sock_fprog p = {.len = f->len, .filter = (struct sock_filter *)(uintptr_t)f->code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) ? -errno : 0;
}

static int filter_calls(const struct confine_needs *n, struct err *e)
{
	const struct filter *f = n->runtime ? &filter_runtime
				 : n->shares ? &filter_shares
					     : &filter_main;
	int r = install(f);

	return r ? err_set(e, -r, "cannot filter system calls: %s", strerror(-r)) : 0;
}

/* --- all of it --- */

int confine(struct confine *c, const struct confine_needs *n, struct err *e)
{
	int r;

	if (n->none) {
		log_warn("this VM's process is not confined (--sandbox none)");
		return 0;
	}
	if (c->on)
		return scope(c, n, e);
	c->on = true;
	c->keeps = n->runtime;
	r = set_limits(e);
	if (!r)
		r = become_user(n, e);
	if (!r)
		r = drop_privileges(n, e);
	if (!r)
		r = scope(c, n, e);
	return r ? r : filter_calls(n, e);
}

static _Noreturn void give_up(int r)
{
	log_write(LOG_ERROR, "a thread cannot be confined: %s", strerror(-r));
	_exit(1);
}

void confine_thread(const struct confine *c, enum confine_role role)
{
	const struct filter *f = role == CONFINE_VCPU	? &filter_vcpu
				 : role == CONFINE_DISK ? &filter_disk
				 : role == CONFINE_NET	? &filter_net
							: &filter_share;
	int r = c->keeps ? keep_caps(role == CONFINE_SHARE ? FILE_CAPS : 0) : 0;

	if (!r && c->on)
		r = install(f);
	if (r)
		give_up(r);
}

void confine_settle(const struct confine *c)
{
	int r = c->keeps ? keep_caps(FILE_CAPS) : 0;

	if (r)
		give_up(r);
}

/* A number below (uint32_t)-1, which means "none" to the kernel. */
static const char *parse_id(const char *text, unsigned int *id)
{
	unsigned long long n = 0;

	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++) {
		n = n * 10 + (unsigned int)(*text - '0');
		if (n >= UINT32_MAX)
			return NULL;
	}
	*id = (unsigned int)n;
	return text;
}

static int set_user(struct confine_needs *n, const char *value, struct err *e)
{
	const char *end = parse_id(value, &n->uid);

	n->gid = n->uid;
	if (end && *end == ':')
		end = parse_id(end + 1, &n->gid);
	if (!end || *end)
		return err_set(e, EINVAL, "'user=%s' is not user=UID[:GID], of numbers", value);
	if (!n->uid || !n->gid)
		return err_set(e, EINVAL, "'user=%s': root is no other user or group", value);
	if (geteuid())
		return err_set(e, EPERM, "'user=%s': only root's VMs can be another user's", value);
	n->as_user = true;
	return 0;
}

int confine_set(void *to, const char *value, struct err *e)
{
	struct confine_needs *n = to;

	n->none = !strcmp(value, "none");
	n->as_user = false;
	if (!strncmp(value, "user=", 5))
		return set_user(n, value + 5, e);
	return n->none || !strcmp(value, "on")
		       ? 0
		       : err_set(e, EINVAL, "'%s' is none of 'on', 'none' and 'user=UID[:GID]'", value);
}
