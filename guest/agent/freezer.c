/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/freezer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "guest/agent/agent.h"
#include "guest/agent/entries.h"
#include "guest/agent/text.h"

#define HOME "exec"

void freezer_open(struct freezer *f, const char *path)
{
	*f = (struct freezer){.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .home = -1};
	if (f->root < 0)
		return;
	mkdirat(f->root, HOME, 0755);
	/* Without the file it is no cgroup of version 2, or the kernel is older than its freezer.
	 */
	if (!faccessat(f->root, HOME "/cgroup.freeze", W_OK, 0))
		f->home = openat(f->root, HOME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

pid_t freezer_fork_into(int cgroup, uint64_t namespaces, int *pidfd)
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP | namespaces |
					   (pidfd ? (uint64_t)CLONE_PIDFD : 0),
				  .pidfd = (uint64_t)(uintptr_t)pidfd,
				  .exit_signal = SIGCHLD,
				  .cgroup = (uint64_t)cgroup};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t freezer_fork(struct freezer *f)
{
	pid_t pid;

	if (f->home < 0)
		return fork();
	pid = freezer_fork_into(f->home, 0, NULL);
	/* These two are a limit's word, which holds. */
	if (pid >= 0 || errno == EAGAIN || errno == ENOMEM)
		return pid;
	f->escaped = true;
	return fork();
}

/* Whether the agent is the only process. Every other one is its child or becomes that when its
 * parent ends, so then it has none; nor one that has ended but is not reaped yet.
 */
static bool alone(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* Who is in the root cgroup. */
struct census {
	bool self;
	bool others; /* processes; the kernel's own threads have no group */
};

static void count_one(struct census *c, pid_t pid)
{
	if (pid == getpid())
		c->self = true;
	else if (!pid || getpgid(pid) > 0) /* 0: of another namespace than ours */
		c->others = true;
}

static int take_census(const struct freezer *f, struct census *c)
{
	int fd = openat(f->root, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char text[1024];
	pid_t pid = 0;
	ssize_t n;

	*c = (struct census){0};
	if (fd < 0)
		return -errno;
	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] != '\n') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			count_one(c, pid);
			pid = 0;
		}
	}
	close(fd);
	return n < 0 ? -EIO : 0;
}

static int open_in(int dir, const char *name, const char *file, int flags)
{
	char path[NAME_MAX + 32];
	size_t len = strnlen(name, NAME_MAX);

	memcpy(path, name, len);
	memcpy(path + len, file, strlen(file) + 1);
	return openat(dir, path, flags | O_CLOEXEC);
}

/* Has a cgroup be frozen, unless somebody else did that. */
static int freeze_group(struct freezer *f, const char *name)
{
	int freeze = open_in(f->root, name, "/cgroup.freeze", O_RDWR), events;
	char now = '0';

	if (freeze < 0)
		return errno == ENOENT ? 0 : -errno; /* removed in the meantime */
	events = open_in(f->root, name, "/cgroup.events", O_RDONLY);
	if (events < 0 || pread(freeze, &now, 1, 0) < 0 || now == '1' || f->n == FREEZER_GROUPS) {
		close(freeze);
		if (events >= 0)
			close(events);
		return now == '1' ? 0 : -EMFILE;
	}
	f->group[f->n].freeze = freeze;
	f->group[f->n++].events = events;
	return pwrite(freeze, "1", 1, 0) == 1 ? 0 : -errno;
}

/* Every cgroup directly below the root. */
static int freeze_groups(struct freezer *f)
{
	const struct dirent *d;
	struct entries in;
	int r = 0;

	lseek(f->root, 0, SEEK_SET);
	entries_begin(&in, f->root);
	while (!r && (d = entries_next(&in)))
		if (d->d_type == DT_DIR && d->d_name[0] != '.')
			r = freeze_group(f, d->d_name);
	return r;
}

static bool is_frozen(int events)
{
	char text[128];
	ssize_t n = pread(events, text, sizeof(text) - 1, 0);

	if (n < 0)
		return errno == ENODEV; /* it was removed, so nobody is in it */
	text[n] = '\0';
	return find_text(text, "frozen 1");
}

bool freezer_wait(int events, uint64_t deadline_ms, uint64_t *us)
{
	struct pollfd p = {.fd = events, .events = POLLPRI};
	uint64_t now = now_ms(), wait = *us ? *us : 100;
	struct timespec ts;

	if (now >= deadline_ms)
		return false;
	*us = 2 * wait;
	if (wait > (deadline_ms - now) * 1000)
		wait = (deadline_ms - now) * 1000;
	ts = (struct timespec){.tv_sec = (time_t)(wait / 1000000), .tv_nsec = (long)(wait % 1000000) * 1000};
	ppoll(&p, 1, &ts, NULL);
	return true;
}

bool freezer_await(int events, uint64_t deadline_ms)
{
	uint64_t us = 0;

	while (!is_frozen(events))
		if (!freezer_wait(events, deadline_ms, &us))
			return false;
	return true;
}

static bool await_frozen(const struct freezer *f)
{
	uint64_t deadline = now_ms() + AGENT_FREEZE_MS;

	for (unsigned int i = 0; i < f->n; i++)
		if (!freezer_await(f->group[i].events, deadline))
			return false;
	return true;
}

static int freeze(struct freezer *f, const char **why)
{
	struct census c;

	*why = "cannot look at the cgroups";
	if (take_census(f, &c))
		return -EIO;
	*why = "the agent was moved to another cgroup, and would stop itself";
	if (!c.self)
		return -EBUSY;
	*why = "cannot freeze a cgroup, or there are too many";
	if (freeze_groups(f))
		return -EBUSY;
	*why = "there are processes that do not stop";
	if (!await_frozen(f))
		return -ETIMEDOUT;
	/* Now that nobody moves any more. */
	*why = "there are processes in the root cgroup, which cannot be stopped";
	return take_census(f, &c) || c.others ? -EBUSY : 0;
}

int freezer_freeze(struct freezer *f, const char **why)
{
	int r;

	*why = "processes run, and the kernel has no freezer for them (cgroup v2, Linux 5.7)";
	if (f->home < 0 || f->escaped)
		return alone() ? 0 : -ENOTSUP;
	r = freeze(f, why);
	if (r)
		freezer_thaw(f);
	return r;
}

void freezer_thaw(struct freezer *f)
{
	for (unsigned int i = 0; i < f->n; i++) {
		(void)!pwrite(f->group[i].freeze, "0", 1, 0);
		close(f->group[i].freeze);
		close(f->group[i].events);
	}
	f->n = 0;
}
