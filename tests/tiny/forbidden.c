/* SPDX-License-Identifier: Apache-2.0
 *
 * A monitor that has been taken over: uvm, with one function more. When its guest runs, and it is confined as
 * every VM's process is, it does the one thing that UVM_FORBIDDEN names and says on standard error, or in its
 * log, what came of it: "forbidden: done" or "forbidden: errno N". One that is killed says nothing.
 *
 * Linked with -Wl,--wrap=vsock_unix_listen (tiny.mk), which the monitor calls at that moment on its main
 * thread. An OCI container's does it later, when it has the container's root, on the thread of its session
 * (--wrap=confine_settle). It is no part of uvm.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vsock_unix.h"
#include "vmm/confine.h"

#define FDS 256

static int open_file(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }
static int make_file(const char *path) { return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }

static int write_file(const char *path) { return open(path, O_WRONLY | O_TRUNC | O_CLOEXEC); }

static int connect_to(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

/* Whether ".." of the directory leads to another one. */
static int leads_out(int dir)
{
	struct stat here, there;

	return !fstat(dir, &here) && S_ISDIR(here.st_mode) && !fstatat(dir, "..", &there, 0) &&
	       (here.st_dev != there.st_dev || here.st_ino != there.st_ino);
}

/* By the root, the working directory, and every descriptor that there is. */
static int climb(const char *unused)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), out = 0;

	(void)unused, (void)root, (void)cwd;
	for (int fd = 0; fd < FDS && !out; fd++)
		out = leads_out(fd);
	errno = EXDEV;
	return out ? 0 : -1;
}

/* Opens what is `name` in, or beside, any directory that there is. */
static int seek_with(const char *name, int flags)
{
	char path[512];

	for (int fd = 0; fd < FDS; fd++) {
		snprintf(path, sizeof(path), "../%s", name);
		if (openat(fd, name, flags | O_CLOEXEC) >= 0 || openat(fd, path, flags | O_CLOEXEC) >= 0)
			return 0;
	}
	errno = ENOENT;
	return -1;
}

static int seek_name(const char *name) { return seek_with(name, O_PATH); }
static int seek_writable(const char *name) { return seek_with(name, O_WRONLY); }

/* Writes to every file of that size that is open. */
static int write_disks(const char *size)
{
	struct stat st;
	int wrote = -1;

	for (int fd = 0; fd < FDS; fd++)
		if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == atoi(size) &&
		    pwrite(fd, "hostile", 7, 0) == 7)
			wrote = 0;
	errno = EBADF;
	return wrote;
}

/* Of what tells that it lives. */
static int unlock(const char *unused)
{
	(void)unused;
	for (int fd = 0; fd < FDS; fd++)
		flock(fd, LOCK_UN);
	return 0;
}

static int inet(const char *unused) { (void)unused; return socket(AF_INET, SOCK_STREAM, 0); }
static int run_it(const char *path) { return execl(path, path, NULL); }
static int trace_it(const char *pid) { return (int)ptrace(PTRACE_ATTACH, atoi(pid), 0, 0); }
static int kill_it(const char *pid) { return kill(atoi(pid), SIGKILL); }
static int end_it(const char *pid) { return kill(atoi(pid), SIGTERM); }
static int hold_it(const char *pid) { return (int)syscall(SYS_pidfd_open, atoi(pid), 0); }
static int mount_it(const char *path) { return mount("none", path, "tmpfs", 0, NULL); }
static int change_root(const char *path) { return chroot(path); }
static int leave_namespace(const char *unused) { (void)unused; return unshare(CLONE_NEWUSER); }
static int become_root(const char *unused) { (void)unused; return setuid(0); }

static int read_memory(const char *pid)
{
	char byte;
	struct iovec to = {&byte, 1}, from = {(void *)0x400000, 1};

	return (int)process_vm_readv(atoi(pid), &to, 1, &from, 1, 0);
}

/* A disk of the host's, which no capability is needed to open then. */
static int make_device(const char *path) { return mknodat(AT_FDCWD, path, S_IFBLK | 0600, makedev(7, 0)); }

static int raise_limit(const char *unused)
{
	(void)unused;
	return setrlimit(RLIMIT_NOFILE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
}

static const struct {
	const char *name;
	int (*does)(const char *argument);
} things[] = {
	{"open", open_file},	  {"create", make_file},   {"write", write_file},
	{"connect", connect_to},
	{"climb", climb},	  {"seek", seek_name},	   {"seek-writable", seek_writable},
		   {"write-disks", write_disks},
	{"inet", inet},		  {"exec", run_it},	   {"ptrace", trace_it},
	{"kill", kill_it},	  {"terminate", end_it},   {"pidfd", hold_it},
	{"mount", mount_it},	  {"chroot", change_root}, {"unshare", leave_namespace},
	{"setuid", become_root},  {"unlock", unlock},	   {"device", make_device},  {"vm-readv", read_memory}, {"rlimit", raise_limit},
};

static void obey(void)
{
	const char *order = getenv("UVM_FORBIDDEN");
	size_t len = order ? strcspn(order, " ") : 0;

	for (size_t i = 0; i < sizeof(things) / sizeof(*things) && len; i++) {
		if (strlen(things[i].name) != len || strncmp(order, things[i].name, len))
			continue;
		errno = 0;
		if (things[i].does(order + len + (order[len] == ' ')) < 0)
			dprintf(2, "forbidden: errno %d\n", errno);
		else
			dprintf(2, "forbidden: done\n");
	}
}

static bool runtime; /* it is an OCI container's */

int __real_confine(struct confine *c, const struct confine_needs *needs, struct err *e);
int __wrap_confine(struct confine *c, const struct confine_needs *needs, struct err *e);

int __wrap_confine(struct confine *c, const struct confine_needs *needs, struct err *e)
{
	runtime = needs->runtime;
	return __real_confine(c, needs, e);
}

int __real_vsock_unix_listen(struct vsock_unix *u, struct err *e);
int __wrap_vsock_unix_listen(struct vsock_unix *u, struct err *e);

int __wrap_vsock_unix_listen(struct vsock_unix *u, struct err *e)
{
	if (!runtime)
		obey();
	return __real_vsock_unix_listen(u, e);
}

void __real_confine_settle(const struct confine *c);
void __wrap_confine_settle(const struct confine *c);

void __wrap_confine_settle(const struct confine *c)
{
	__real_confine_settle(c);
	if (runtime && syscall(SYS_gettid) != getpid())
		obey();
}
