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

static int apply_cgroup(struct agent *a, const struct container *c, struct records records,
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

/* Forks into a cgroup, with the PID namespace of a process unless that is -1: what the agent's children
 * are born in changes for this one.
 */
static pid_t fork_beside(struct agent *a, int group, int pidfd, uint64_t namespaces, int *child)
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
	c->pid = fork_beside(a, c->group,
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
		r = apply_cgroup(a, c, c->create.records, why);
		return r ? r : c->pid;
	}
	c->group = container_group(a, c->name.name, why);
	if (c->group < 0)
		return c->group;
	r = apply_cgroup(a, c, c->create.records, why);
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
	pid = fork_beside(a, group, c->own & AGENT_NS_PID ? c->pidfd : -1, 0, NULL);
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

/* --- orders --- */

static void ok(struct conn *c)
{
	conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
}

/* The container that a message names, or NULL after an ERROR. */
static struct container *named(struct agent *a, struct conn *c, const struct agent_name *name)
{
	struct container *k = name_valid(name->name) ? container_find(a, name->name) : NULL;

	if (!k)
		conn_fail(a, c, ENOENT, "there is no such container");
	return k;
}

void container_start(struct agent *a, struct conn *c)
{
	struct container *k;

	if (c->session) {
		k = c->session->container;
	} else {
		k = named(a, c, &c->body.name);
		if (!k)
			return;
	}
	if (!k || k->state != AGENT_CONTAINER_CREATED || k->session->go)
		conn_fail(a, c, EINVAL, "START of what has been started or was not created");
	else
		session_go(a, k->session, c->session ? NULL : c);
}

void container_wait(struct agent *a, struct conn *c)
{
	const struct agent_wait *m = &c->body.wait;
	struct agent_started started;
	struct container *k;
	struct session *s;

	if (!*m->container.name) {
		s = session_kept(a, &m->key);
		if (s)
			session_watch(a, s, c);
		else
			conn_fail(a, c, ESRCH, "there is no such command to wait for");
		return;
	}
	k = named(a, c, &m->container);
	if (!k)
		return;
	if (k->session) {
		session_watch(a, k->session, c);
		return;
	}
	started.pid = 0; /* it is gone */
	if (k->begun)
		conn_send(c, AGENT_STARTED, c->head.tag, &started, sizeof(started));
	conn_send(c, AGENT_EXITED, c->head.tag, &k->exited, sizeof(k->exited));
	conn_close(a, c);
}

void container_kill(struct agent *a, struct conn *c)
{
	const struct agent_kill *m = &c->body.kill;
	struct container *k;
	int r;

	if (m->signo < 1 || m->signo > 64 || m->scope > AGENT_KILL_ALL) {
		conn_fail(a, c, EINVAL, "KILL has no valid number or scope");
		return;
	}
	k = named(a, c, &m->container);
	if (!k)
		return;
	if (m->scope == AGENT_KILL_ALL && k->group >= 0)
		r = cgroup_kill(k->group, (int)m->signo);
	else if (k->pid > 0)
		r = syscall(SYS_pidfd_send_signal, k->pidfd, m->signo, NULL, 0) ? -errno : 0;
	else
		r = -ESRCH;
	if (r)
		conn_fail(a, c, -r, "cannot signal the container");
	else
		ok(c);
}

void container_delete(struct agent *a, struct conn *c)
{
	struct container *k = named(a, c, &c->body.name);

	if (!k)
		return;
	if (k->state != AGENT_CONTAINER_STOPPED) {
		conn_fail(a, c, EBUSY, "the container has not ended");
		return;
	}
	if (k->session)
		session_end(a, k->session);
	if (container_free(a, k))
		conn_fail(a, c, EBUSY, "there are processes of the container that do not end");
	else
		ok(c);
}

void container_pause(struct agent *a, struct conn *c)
{
	bool on = c->head.type == AGENT_PAUSE;
	enum agent_container_state from = on ? AGENT_CONTAINER_RUNNING : AGENT_CONTAINER_PAUSED;
	struct container *k = named(a, c, &c->body.name);
	int r;

	if (!k)
		return;
	if (k->state != from) {
		conn_fail(a, c, EINVAL,
			  on ? "the container is not running" : "the container is not paused");
		return;
	}
	r = cgroup_freeze(k->group, on);
	if (r) {
		conn_fail(a, c, -r, "the container's processes do not stop or go on");
		return;
	}
	k->state = on ? AGENT_CONTAINER_PAUSED : AGENT_CONTAINER_RUNNING;
	ok(c);
}

void container_stats(struct agent *a, struct conn *c)
{
	struct agent_properties p;
	struct container *k;

	if (!*c->body.name.name) {
		stats_of_guest(a->config->freezer->root, &p);
	} else {
		k = named(a, c, &c->body.name);
		if (!k)
			return;
		stats_of_group(k->group, &p);
	}
	conn_send(c, AGENT_PROPERTIES, c->head.tag, &p, sizeof(p));
}

void container_list(struct agent *a, struct conn *c)
{
	struct agent_container list[AGENT_CONTAINERS];
	uint32_t n = 0;

	for (struct container *k = a->containers; k < a->containers + AGENT_CONTAINERS; k++)
		if (k->state)
			list[n++] = (struct agent_container){.name = k->name,
							     .state = k->state,
							     .pid = (uint32_t)k->pid,
							     .exited = k->exited};
	conn_send(c, AGENT_CONTAINER_LIST, c->head.tag, list, n * (uint32_t)sizeof(list[0]));
}

/* --- orders with more in them --- */

static int update(struct agent *a, void *payload, uint32_t length, const char **why)
{
	struct container *c;
	struct records r;
	int error;

	*why = order_parse(&r, AGENT_R_CGROUP, payload, length);
	if (*why)
		return -EINVAL;
	c = container_find(a, payload);
	*why = "there is no such container, or it has ended";
	if (!c || c->group < 0 || c->state == AGENT_CONTAINER_STOPPED)
		return -ENOENT;
	error = apply_cgroup(a, c, r, why);
	return error ? error : CONTAINER_DONE;
}

static int list_processes(struct agent *a, struct session *s, void *payload, const char **why)
{
	const struct agent_name *name = payload;
	struct container *c = NULL;
	uint32_t n;

	*why = "there is no such container";
	if (*name->name && (!name_valid(name->name) || !(c = container_find(a, name->name))))
		return -ENOENT;
	_Static_assert(AGENT_PROCESSES_MAX * sizeof(struct agent_process) <= AGENT_EXEC_MAX,
		       "the list fits the session's buffer");
	n = !c || c->group >= 0 ? stats_processes(c ? c->group : -1, payload) : 0;
	s->length = AGENT_EXEC_MAX; /* of it that may have been used */
	conn_send(s->control, AGENT_PROCESS_LIST, s->control->tag, payload,
		  n * (uint32_t)sizeof(struct agent_process));
	return CONTAINER_ANSWERED;
}

/* By a process that goes in there: the agent itself stays where it is. */
static int change_mounts(struct agent *a, struct session *s, void *payload, uint32_t length,
			 const char **why)
{
	struct records r = {NULL, NULL};
	const char *path = NULL;
	struct container *c;
	struct spawn sp = {0};
	int report[2], error;
	pid_t pid;

	*why = s->type == AGENT_MOUNT ? order_parse(&r, AGENT_R_MOUNT, payload, length)
				      : unmount_parse(&path, payload, length);
	if (*why)
		return -EINVAL;
	error = container_check(a, payload, why);
	if (error)
		return error;
	c = container_find(a, payload);
	*why = "cannot make a process for the mounts";
	if (session_open_report(s, report))
		return -errno;
	pid = fork_beside(a, a->config->freezer->home, c->own & AGENT_NS_PID ? c->pidfd : -1,
			  CLONE_NEWNS, NULL);
	if (!pid) {
		sp.report = report[1];
		if (s->type == AGENT_MOUNT)
			contain_mount(&sp, c->pidfd, r);
		contain_unmount(&sp, c->pidfd, path);
	}
	error = errno;
	close(report[1]);
	return pid < 0 ? -error : session_forked(a, s, pid);
}

static int dump_all(struct agent *a, struct session *s, char *payload)
{
	struct conn *c = s->control;
	size_t n = dump(a, payload);

	s->length = AGENT_EXEC_MAX; /* of it that has been used */
	conn_send(c, AGENT_OK, c->tag, NULL, 0);
	/* A peer that takes no answers: as conn_send. */
	if (send(c->fd, payload, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
		shutdown(c->fd, SHUT_RDWR);
	return CONTAINER_OVER;
}

static int change_devices(struct session *s, void *payload, const char **why)
{
	struct agent_plugged answer;
	int r = s->type == AGENT_PLUG ? plug(payload, &answer, why) : unplug(payload, &answer, why);

	if (r)
		return r;
	conn_send(s->control, AGENT_PLUGGED, s->control->tag, &answer, sizeof(answer));
	return CONTAINER_ANSWERED;
}

int container_order(struct agent *a, struct session *s, void *payload, uint32_t length,
		    const char **why)
{
	int r;

	switch (s->type) {
	case AGENT_UPDATE: return update(a, payload, length, why);
	case AGENT_SET:
		r = identity_set(a, payload, why);
		return r ? r : CONTAINER_DONE;
	case AGENT_PROCESSES: return list_processes(a, s, payload, why);
	case AGENT_DUMP: return dump_all(a, s, payload);
	case AGENT_PLUG:
	case AGENT_UNPLUG: return change_devices(s, payload, why);
	default: return change_mounts(a, s, payload, length, why);
	}
}
