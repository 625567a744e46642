/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/cgroup.h"
#include "guest/agent/contain.h"
#include "guest/agent/dump.h"
#include "guest/agent/plug.h"
#include "guest/agent/stats.h"
#include "guest/agent/text.h"

struct container *container_find(struct agent *a, const char *name)
{
	for (struct container *c = a->containers; c < a->containers + AGENT_CONTAINERS; c++)
		if (c->state && !strcmp(c->name.name, name))
			return c;
	return NULL;
}

static const char *explain(struct agent *a, const char *what, const char *name)
{
	compose(a->why, sizeof(a->why), what, " '", name, "'", NULL);
	return a->why;
}

/* --- its making --- */

static int check_features(const struct create *c, const char **why)
{
	struct records records = c->records;
	bool user = c->head.new_namespaces & AGENT_NS_USER;
	struct record r;

	*why = "a container cannot join another's user namespace";
	if (c->head.pod_namespaces & AGENT_NS_USER)
		return -EOPNOTSUPP;
	*why = "a new user namespace and maps of its ids belong together";
	return record_next(&records, AGENT_R_ID_MAP, &r) == user ? 0 : -EINVAL;
}

static int check_pod(struct agent *a, const struct create *c, const char **why)
{
	const struct container *pod;

	if (!*c->head.pod)
		return 0;
	pod = container_find(a, c->head.pod);
	*why = explain(a, "there is no container to join,", c->head.pod);
	if (!pod)
		return -ENOENT;
	*why = explain(a, "the container to join is not running:", c->head.pod);
	return pod->pidfd < 0 || pod->state == AGENT_CONTAINER_STOPPED ? -ESRCH : 0;
}

/* The rules about devices, in their order: the last that fits decides. Returns how many there are, or -errno
 * with *why.
 */
static int take_rules(struct agent *a, const struct create *c, struct agent_device_rule *rules,
		      const char **why)
{
	struct records records = c->records;
	struct record r;
	int n = 0;

	while (n < REQUEST_DEVICE_RULES && record_next(&records, AGENT_R_DEVICE_RULE, &r))
		memcpy(&rules[n++], r.body, sizeof(rules[0]));
	records = c->records;
	while (record_next(&records, AGENT_R_GUEST_DEVICE, &r)) {
		const struct agent_guest_device *d = r.body;
		const char *path = record_string(&r, sizeof(*d));

		*why = "too many rules about devices";
		if (n == REQUEST_DEVICE_RULES)
			return -E2BIG;
		if (cgroup_device_rule(path, d->access, &rules[n++])) {
			*why = explain(a, "the guest has no device", path);
			return -ENODEV;
		}
	}
	return n;
}

int container_begin(struct agent *a, struct session *s, void *payload, uint32_t length,
		    const char **why)
{
	struct agent_device_rule rules[REQUEST_DEVICE_RULES];
	struct container *c = a->containers;
	struct create create;
	int r;

	*why = create_parse(&create, payload, length);
	if (*why)
		return -EINVAL;
	r = check_features(&create, why);
	if (!r)
		r = check_pod(a, &create, why);
	if (!r)
		r = take_rules(a, &create, rules, why);
	if (r < 0)
		return r;
	*why = explain(a, "there is a container with this name already:", create.head.name);
	if (container_find(a, create.head.name))
		return -EEXIST;
	*why = "containers need the cgroups of version 2 that this guest does not have";
	if (a->config->freezer->home < 0)
		return -ENOTSUP;
	while (c < a->containers + AGENT_CONTAINERS && c->state)
		c++;
	*why = "too many containers";
	if (c == a->containers + AGENT_CONTAINERS)
		return -EAGAIN;
	*c = (struct container){.state = AGENT_CONTAINER_CREATING,
				.start = create.head.flags & AGENT_CREATE_START,
				.tied = create.head.flags & AGENT_CREATE_TIED,
				.own = create.head.new_namespaces | create.head.pod_namespaces,
				.pidfd = -1,
				.group = -1,
				.oom = -1,
				.lower = -1,
				.upper = -1,
				.program = -1,
				.mounts = -1,
				.limited_caps = create.process.exec.flags & AGENT_EXEC_CAPS,
				.caps = create.process.exec.caps,
				.session = s,
				.create = create};
	strcpy(c->name.name, create.head.name);
	s->container = c;
	s->command = create.process;
	return 0;
}

int container_limit(struct agent *a, const struct container *c, struct records records,
		    const char **why)
{
	struct record r;

	while (record_next(&records, AGENT_R_CGROUP, &r)) {
		const char *file = record_string(&r, 0);
		int error = cgroup_write(c->group, file, string_after(file));

		if (error) {
			*why = explain(a, "cannot set of the cgroup", file);
			return error;
		}
	}
	return 0;
}

int container_group(struct agent *a, const char *name, const char **why)
{
	*why = "cannot set up the cgroup of containers";
	if (a->cgroups < 0)
		a->cgroups = cgroup_open_home(a->config->freezer->root);
	if (a->cgroups < 0)
		return a->cgroups;
	*why = "cannot make the container's cgroup";
	return cgroup_make(a->cgroups, name);
}

/* What the agent's children are born in changes for this one. */
pid_t container_fork_beside(struct agent *a, int group, int pidfd, uint64_t namespaces, int *child)
{
	pid_t pid;

	if (pidfd < 0)
		return freezer_fork_into(group, namespaces, child);
	if (a->pid_ns < 0)
		a->pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (a->pid_ns < 0 || setns(pidfd, CLONE_NEWPID))
		return -1;
	pid = freezer_fork_into(group, namespaces, child);
	if (pid) {
		int code = errno;

		setns(a->pid_ns, CLONE_NEWPID);
		errno = code;
	}
	return pid;
}

static int fork_first(struct agent *a, struct container *c, struct spawn *sp, const char **why)
{
	static struct contain_create where; /* for the child, which has a copy */
	static char number[NUMBER_SIZE];
	const struct agent_create *head = &c->create.head;
	struct container *pod = *head->pod ? container_find(a, head->pod) : NULL;

	where = (struct contain_create){.create = &c->create, .pod = pod ? pod->pidfd : -1, .pid = number};
	contain_spawn(sp, &where);
	c->pid = container_fork_beside(a, c->group,
			     head->pod_namespaces & AGENT_NS_PID ? where.pod : -1,
			     contain_clone_flags(head->new_namespaces), &c->pidfd);
	*why = "cannot make the container's process";
	if (c->pid < 0) {
		c->pid = 0;
		c->pidfd = -1;
		return -errno;
	}
	return c->pid;
}

/* What is prepared becomes the container. Returns whether it does; if not, its name is free. */
static bool take_prepared(struct agent *a, struct container *c, const struct spawn *sp)
{
	struct prepared *p = &a->prepared;

	c->pid = prepare_fits(p, &c->create) ? prepare_order(p, &c->create, sp) : 0;
	if (c->pid) {
		c->group = p->group;
		c->pidfd = p->pidfd;
		c->program = p->program;
		c->mounts = p->mounts;
		c->prepared = true;
		return true;
	}
	if (p->pid && !strcmp(p->create.head.name, c->name.name))
		prepare_drop(a);
	return false;
}

pid_t container_fork(struct agent *a, struct container *c, struct spawn *sp, const char **why)
{
	int r = check_pod(a, &c->create, why); /* again: it may have ended */

	if (r)
		return r;
	if (take_prepared(a, c, sp)) {
		r = container_limit(a, c, c->create.records, why);
		return r ? r : c->pid;
	}
	c->group = container_group(a, c->name.name, why);
	if (c->group < 0)
		return c->group;
	r = container_limit(a, c, c->create.records, why);
	return r ? r : fork_first(a, c, sp, why);
}

int container_check(struct agent *a, const char *name, const char **why)
{
	const struct container *c = container_find(a, name);

	*why = explain(a, "there is no container", name);
	if (!c || c->state == AGENT_CONTAINER_CREATING)
		return -ENOENT;
	*why = explain(a, "the container is paused:", name);
	if (c->state == AGENT_CONTAINER_PAUSED)
		return -EBUSY;
	*why = explain(a, "the container has ended:", name);
	return c->state == AGENT_CONTAINER_STOPPED ? -ESRCH : 0;
}

pid_t container_fork_in(struct agent *a, const char *name, struct spawn *sp, const char **why)
{
	static struct contain_join where; /* for the child, which has a copy */
	int r = container_check(a, name, why);
	struct container *c;
	int group;
	pid_t pid;

	if (r)
		return r;
	c = container_find(a, name);
	group = c->group;
	sp->enter = contain_join;
	where = (struct contain_join){.pidfd = c->pidfd, .user = c->own & AGENT_NS_USER};
	sp->where = &where;
	if (sp->command->exec.flags & AGENT_EXEC_OWN) {
		/* Whatever the container may do and has used up. */
		sp->lower = c->lower;
		sp->upper = c->upper;
		group = a->config->freezer->home;
	} else {
		sp->denied = contain_denied(c->own);
		sp->caps = c->limited_caps ? &c->caps : NULL;
	}
	pid = container_fork_beside(a, group, c->own & AGENT_NS_PID ? c->pidfd : -1, 0, NULL);
	*why = "cannot make a process in the container";
	return pid < 0 ? -errno : pid;
}

/* The kernel tells of each change; until then nothing wakes. */
static void watch_memory(struct agent *a, struct container *c)
{
	struct epoll_event ev = {.events = EPOLLPRI | EPOLLET,
				 .data.u64 = (uint64_t)WATCH_CONTAINER << 48 |
					     (uint64_t)(c - a->containers)};

	c->oom = openat(c->group, "memory.events", O_RDONLY | O_CLOEXEC);
	if (c->oom >= 0)
		epoll_ctl(a->epoll, EPOLL_CTL_ADD, c->oom, &ev);
}

void container_event(struct agent *a, struct container *c)
{
	struct agent_notice m = {.kind = AGENT_NOTICE_OOM};
	char drop[256];

	if (!c->state || c->group < 0)
		return;
	(void)!pread(c->oom, drop, sizeof(drop), 0); /* so that it tells of the next */
	m.value = stats_oom_kills(c->group);
	if (m.value == UINT64_MAX || m.value <= c->oom_kills)
		return;
	c->oom_kills = m.value;
	if (c->session)
		session_notice(a, c->session, &m);
}

int container_program(struct agent *a, const struct create *c, int *program, const char **why)
{
	struct agent_device_rule rules[REQUEST_DEVICE_RULES];
	int n = take_rules(a, c, rules, why);

	*program = -1;
	if (n <= 0)
		return n;
	*why = "cannot set the rules about devices";
	n = cgroup_devices(rules, (size_t)n);
	if (n < 0)
		return n;
	*program = n;
	return 0;
}

int container_mounts(pid_t pid)
{
	char path[64], number[NUMBER_SIZE];

	compose(path, sizeof(path), "/proc/", number_text(number, (uint64_t)pid), "/ns/mnt", NULL);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int container_ready(struct agent *a, struct container *c, const char **why)
{
	int r = 0;

	watch_memory(a, c);
	if (!c->prepared) {
		r = container_program(a, &c->create, &c->program, why);
		c->mounts = container_mounts(c->pid);
	}
	if (r)
		return r;
	c->create = (struct create){0}; /* its memory may be given back */
	c->state = AGENT_CONTAINER_CREATED;
	if (c->program < 0)
		return 0;
	*why = "cannot set the rules about devices";
	r = cgroup_attach(c->group, c->program);
	close(c->program);
	c->program = -1;
	return r;
}

/* In a process of its own: until the agent has let go of what it holds, whose end is then this process's. */
static _Noreturn void outlast(int mounts, int hold)
{
	unsigned int low = (unsigned int)(mounts < hold ? mounts : hold);
	unsigned int high = (unsigned int)(mounts < hold ? hold : mounts);
	char byte;

	/* Connections, above all, whose ends somebody waits for. */
	if (low > 0)
		syscall(SYS_close_range, 0, low - 1, 0u);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0u);
	syscall(SYS_close_range, high + 1, ~0u, 0u);
	(void)!read(hold, &byte, 1);
	_exit(0);
}

/* Taking mounts down can mean writing back all that they have, which may not keep the agent. */
static void let_go_of_mounts(struct agent *a, int mounts)
{
	int hold[2] = {-1, -1};

	if (!pipe2(hold, O_CLOEXEC) && !freezer_fork(a->config->freezer))
		outlast(mounts, hold[0]);
	close(mounts); /* for good, if there is no such process */
	close(hold[0]);
	close(hold[1]);
}

void container_over(struct agent *a, struct container *c)
{
	c->session = NULL;
	if (c->mounts >= 0)
		let_go_of_mounts(a, c->mounts);
	c->mounts = -1;
}

void container_layer(struct container *c, int fd)
{
	int *layer = c->lower < 0 ? &c->lower : &c->upper;

	if (*layer >= 0)
		close(*layer); /* it says more than there is */
	*layer = fd;
}

bool container_sent(struct agent *a, pid_t pid)
{
	char path[64], text[256], number[NUMBER_SIZE];
	struct container *c = a->containers;

	while (c < a->containers + AGENT_CONTAINERS && (!c->state || c->own & AGENT_NS_PID))
		c++;
	if (c == a->containers + AGENT_CONTAINERS || pid <= 0)
		return false;
	compose(path, sizeof(path), "/proc/", number_text(number, (uint64_t)pid), "/cgroup", NULL);
	return cgroup_read(AT_FDCWD, path, text, sizeof(text)) <= 0 || find_text(text, ":/uvm/");
}

void container_ended(struct container *c, struct agent_exited how)
{
	c->state = AGENT_CONTAINER_STOPPED;
	c->exited = how;
	c->pid = 0;
	/* With a PID namespace of its own the kernel has done that. */
	if (c->group >= 0)
		cgroup_kill(c->group, SIGKILL);
}

int container_free(struct agent *a, struct container *c)
{
	int r = 0;

	if (c->group >= 0) {
		cgroup_write(c->group, "cgroup.freeze", "0");
		cgroup_kill(c->group, SIGKILL);
		if (!cgroup_await_empty(c->group, CONTAINER_END_MS))
			return -EBUSY;
		close(c->group);
		r = cgroup_remove(a->cgroups, c->name.name);
		c->group = -1;
	}
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->oom >= 0)
		close(c->oom);
	if (c->lower >= 0)
		close(c->lower);
	if (c->upper >= 0)
		close(c->upper);
	if (c->program >= 0)
		close(c->program);
	if (c->mounts >= 0)
		close(c->mounts);
	*c = (struct container){0};
	return r == -EBUSY ? r : 0;
}
