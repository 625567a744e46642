/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/entries.h"
#include "guest/agent/freezer.h"
#include "guest/agent/text.h"

#define HOME "uvm"

/* What containers leave to the agent and the kernel: an eighth, within these. */
#define RESERVE_MIN (UINT64_C(12) << 20)
#define RESERVE_MAX (UINT64_C(256) << 20)

/* Cgroups that containers make in theirs, one in the other, that a signal or a removal finds. */
#define DEPTH_MAX 8

int cgroup_write(int group, const char *file, const char *value)
{
	int fd = openat(group, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	size_t len = strlen(value);

	if (fd < 0)
		return -errno;
	if (write(fd, value, len) != (ssize_t)len)
		r = -errno;
	close(fd);
	return r;
}

int cgroup_read(int group, const char *file, char *text, size_t size)
{
	int fd = openat(group, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	int r = n < 0 ? -errno : (int)n;

	text[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
	return r;
}

static int open_group(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Has the groups below have the controllers that there are. */
static int enable(int group)
{
	static const char *const controllers[] = {"cpu", "cpuset", "io", "memory", "pids"};
	char there[256], text[64] = "";
	int r = cgroup_read(group, "cgroup.controllers", there + 1, sizeof(there) - 1);

	if (r < 0)
		return r;
	there[0] = ' ';
	for (char *p = there; *p; p++)
		if (*p == '\n')
			*p = ' ';
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
		char word[16];

		compose(word, sizeof(word), " ", controllers[i], " ", NULL);
		if (!find_text(there, word))
			continue;
		strcat(strcat(text, " +"), controllers[i]);
	}
	return *text ? cgroup_write(group, "cgroup.subtree_control", text + 1) : 0;
}

static uint64_t read_number(const char *file)
{
	char text[32];

	return cgroup_read(AT_FDCWD, file, text, sizeof(text)) > 0 ? number_of(text, NULL) : 0;
}

static void set_reserve(int home)
{
	uint64_t threads = read_number("/proc/sys/kernel/threads-max");
	uint64_t pids = read_number("/proc/sys/kernel/pid_max");
	struct sysinfo info;
	uint64_t memory, reserve;
	char text[NUMBER_SIZE];

	if (pids && pids < threads)
		threads = pids;
	if (threads)
		cgroup_write(home, "pids.max", number_text(text, threads - threads / 4));
	if (sysinfo(&info))
		return;
	memory = (uint64_t)info.totalram * info.mem_unit;
	reserve = memory / 8;
	if (reserve < RESERVE_MIN)
		reserve = RESERVE_MIN;
	if (reserve > RESERVE_MAX)
		reserve = RESERVE_MAX;
	if (reserve > memory / 2)
		reserve = memory / 2;
	cgroup_write(home, "memory.max", number_text(text, memory - reserve));
}

/* The kernel changes its own code when the first program about devices comes and when the last one goes.
 * With one that stays and allows everything, it does so once for a guest and all its copies.
 */
static void keep_program(int home)
{
	static const struct agent_device_rule all = {
		.allow = 1, .type = 'a', .major = -1, .minor = -1, .access = 7};
	int program = cgroup_devices(&all, 1);

	if (program < 0)
		return; /* a container's rules will fail, too, and say so */
	cgroup_attach(home, program);
	close(program);
}

int cgroup_open_home(int root)
{
	int r = enable(root), home;

	if (r)
		return r;
	if (mkdirat(root, HOME, 0755) && errno != EEXIST)
		return -errno;
	home = open_group(root, HOME);
	if (home < 0)
		return home;
	r = enable(home);
	if (r) {
		close(home);
		return r;
	}
	set_reserve(home);
	keep_program(home);
	return home;
}

int cgroup_make(int home, const char *name)
{
	if (mkdirat(home, name, 0755))
		return -errno;
	return open_group(home, name);
}

/* Calls fn for every group below this one, the deepest first, with its parent and its name. */
static void walk(int group, int depth, void (*fn)(int parent, const char *name, void *ctx),
		 void *ctx)
{
	const struct dirent *d;
	struct entries in;

	lseek(group, 0, SEEK_SET);
	entries_begin(&in, group);
	while ((d = entries_next(&in))) {
		int below;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		below = depth ? open_group(group, d->d_name) : -1;
		if (below >= 0) {
			walk(below, depth - 1, fn, ctx);
			close(below);
		}
		fn(group, d->d_name, ctx);
	}
}

static void remove_one(int parent, const char *name, void *ctx)
{
	(void)ctx;
	unlinkat(parent, name, AT_REMOVEDIR);
}

int cgroup_remove(int home, const char *name)
{
	int group;

	if (!unlinkat(home, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	group = open_group(home, name);
	if (group < 0)
		return group;
	walk(group, DEPTH_MAX, remove_one, NULL);
	close(group);
	return unlinkat(home, name, AT_REMOVEDIR) ? -errno : 0;
}

static void kill_members(int group, int signo)
{
	int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char text[1024];
	pid_t pid = 0;
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] != '\n') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			if (pid > 0)
				kill(pid, signo);
			pid = 0;
		}
	}
	close(fd);
}

static void kill_one(int parent, const char *name, void *ctx)
{
	int group = open_group(parent, name);

	if (group < 0)
		return;
	kill_members(group, *(int *)ctx);
	close(group);
}

int cgroup_kill(int group, int signo)
{
	if (signo == SIGKILL)
		return cgroup_write(group, "cgroup.kill", "1");
	kill_members(group, signo);
	walk(group, DEPTH_MAX, kill_one, &signo);
	return 0;
}

int cgroup_freeze(int group, bool on)
{
	int r = cgroup_write(group, "cgroup.freeze", on ? "1" : "0"), events;

	if (r || !on)
		return r;
	events = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (events < 0 || !freezer_await(events, now_ms() + AGENT_FREEZE_MS)) {
		r = -ETIMEDOUT;
		cgroup_write(group, "cgroup.freeze", "0");
	}
	if (events >= 0)
		close(events);
	return r;
}

bool cgroup_await_empty(int group, int ms)
{
	int events = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	uint64_t deadline = now_ms() + (uint64_t)ms, us = 0;
	bool empty = false;
	char text[128];

	while (events >= 0 && !empty) {
		ssize_t n = pread(events, text, sizeof(text) - 1, 0);

		if (n < 0)
			break;
		text[n] = '\0';
		empty = find_text(text, "populated 0");
		if (!empty && !freezer_wait(events, deadline, &us))
			break;
	}
	if (events >= 0)
		close(events);
	return empty;
}
