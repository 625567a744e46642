/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "guest/agent/agent.h"
#include "guest/agent/cgroup.h"
#include "guest/agent/contain.h"
#include "guest/agent/freezer.h"
#include "guest/agent/text.h"

#define ORDER	   3 /* the waiting process' end of the socket */
#define DESCRIPTORS 4 /* that come with an order: its report, and 0 to 2 unless there is a terminal */

/* --- what can be prepared, and what for --- */

static const char *target_of(const struct record *r)
{
	return string_after(record_string(r, sizeof(struct agent_mount)));
}

static bool is_below(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	return !strncmp(path, directory, len) && (!path[len] || path[len] == '/');
}

/* Whether a path lies in something that is mounted by these. */
static bool is_mounted(struct records mounts, const char *path)
{
	struct record r;

	while (record_next(&mounts, AGENT_R_MOUNT, &r))
		if (is_below(path, target_of(&r)))
			return true;
	return false;
}

static bool all_mounted(const struct create *c, uint32_t type, size_t size)
{
	struct records records = c->records;
	struct record r;

	while (record_next(&records, type, &r))
		if (!is_mounted(c->records, record_string(&r, size)))
			return false;
	return true;
}

static const char *check(const struct create *c)
{
	if (*c->head.pod || c->head.new_namespaces & AGENT_NS_USER)
		return "nothing is prepared in namespaces of others, or of users";
	return all_mounted(c, AGENT_R_DEVICE, sizeof(struct agent_device)) &&
			       all_mounted(c, AGENT_R_MASKED, 0) && all_mounted(c, AGENT_R_READONLY, 0)
		       ? NULL
		       : "nothing is prepared outside of what is mounted";
}

/* Whether b has a's records of this type, and then perhaps more, which are left in it. */
static bool begins_with(struct records *b, struct records a, uint32_t type)
{
	struct record ra, rb;

	while (record_next(&a, type, &ra))
		if (!record_next(b, type, &rb) || ra.length != rb.length ||
		    memcmp(ra.body, rb.body, ra.length))
			return false;
	return true;
}

static bool same(const struct create *a, const struct create *b, uint32_t type)
{
	struct records rest = b->records;
	struct record r;

	return begins_with(&rest, a->records, type) && !record_next(&rest, type, &r);
}

/* What is mounted beside that comes last, as it would have; but devices and masks would have come after
 * it. Where that makes a difference, it does not fit. Nor does what is bound from the guest: its mounts of
 * today (a resolv.conf for its network) are not seen where the prepared process is.
 */
static bool mounts_fit(const struct create *a, const struct create *b)
{
	struct records rest = b->records;
	struct record r;

	if (!begins_with(&rest, a->records, AGENT_R_MOUNT))
		return false;
	while (record_next(&rest, AGENT_R_MOUNT, &r)) {
		const char *path = target_of(&r);
		struct agent_mount m;

		memcpy(&m, r.body, sizeof(m));
		if (m.flags & MS_BIND)
			return false;
		if (find_text(path, "//") || find_text(path, "/.") || is_mounted(a->records, path))
			return false;
	}
	return true;
}

bool prepare_fits(const struct prepared *p, const struct create *c)
{
	const struct create *own = &p->create;

	/* Without a name it has the guest's, which was another one then. */
	if (c->head.new_namespaces & AGENT_NS_UTS && !*c->head.hostname)
		return false;
	return p->pid && !strcmp(own->head.name, c->head.name) && !*c->head.pod &&
	       own->head.new_namespaces == c->head.new_namespaces && mounts_fit(own, c) &&
	       same(own, c, AGENT_R_DEVICE) && same(own, c, AGENT_R_DEVICE_RULE) &&
	       same(own, c, AGENT_R_GUEST_DEVICE) && same(own, c, AGENT_R_MASKED) &&
	       same(own, c, AGENT_R_READONLY);
}

/* --- the process --- */

union descriptors {
	struct cmsghdr head;
	char space[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
};

/* Returns the length of the CREATE's payload; does not return when there will be none. */
static uint32_t await_order(void *buf, int fd[DESCRIPTORS])
{
	union descriptors control;
	struct iovec iov = {buf, AGENT_EXEC_MAX};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	ssize_t n;

	while ((n = recvmsg(ORDER, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		continue;
	if (n <= 0 || m.msg_controllen < CMSG_LEN(sizeof(int)) ||
	    control.head.cmsg_len > sizeof(control.space))
		_exit(0); /* it is wanted no more */
	memcpy(fd, CMSG_DATA(&control.head), control.head.cmsg_len - CMSG_LEN(0));
	return (uint32_t)n;
}

static _Noreturn void stand_by(struct agent *a, int order)
{
	struct spawn s = {.report = ORDER, .lower = -1, .upper = -1};
	char number[NUMBER_SIZE];
	struct contain_create where = {.create = &a->prepared.create, .pod = -1, .pid = number};
	int fd[DESCRIPTORS] = {-1, -1, -1, -1};
	struct create create;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* Streams of others must not stay open for as long as it waits. */
	if (dup3(order, ORDER, O_CLOEXEC) < 0 && errno != EINVAL)
		_exit(127);
	syscall(SYS_close_range, ORDER + 1, ~0u, 0u);
	contain_stage(&s, &where);
	spawn_ready(&s);
	if (create_parse(&create, a->request[0], await_order(a->request[0], fd)))
		_exit(127); /* the agent has checked it */
	s.command = &create.process;
	s.tty = create.process.exec.streams & 1u << AGENT_TTY;
	s.report = fd[0];
	memcpy(s.fd, fd + 1, sizeof(s.fd));
	where.create = &create;
	where.staged = &a->prepared.create;
	contain_spawn(&s, &where);
	spawn_run(&s);
}

/* --- the agent's side --- */

static void forget(struct prepared *p)
{
	close(p->order);
	p->pid = 0;
}

void prepare_drop(struct agent *a)
{
	struct prepared *p = &a->prepared;

	if (!p->pid)
		return;
	cgroup_kill(p->group, SIGKILL);
	if (cgroup_await_empty(p->group, CONTAINER_END_MS))
		cgroup_remove(a->cgroups, p->create.head.name);
	close(p->pidfd);
	close(p->group);
	if (p->program >= 0)
		close(p->program);
	if (p->mounts >= 0)
		close(p->mounts);
	forget(p);
}

/* Waits until it has come to the end of what can be done. Returns 0 or -errno with *why. */
static int await_ready(struct agent *a, const char **why)
{
	struct pollfd p = {.fd = a->prepared.order, .events = POLLIN};
	struct refusal m;
	ssize_t n;

	*why = "the process that is to be prepared does not get on";
	if (poll(&p, 1, AGENT_FREEZE_MS) <= 0)
		return -ETIMEDOUT;
	n = recv(p.fd, &m, sizeof(m), MSG_DONTWAIT);
	if (n == 1 && *(char *)&m == SPAWN_READY)
		return 0;
	*why = "the process that is to be prepared has ended";
	if (n < (ssize_t)sizeof(m.error))
		return -EIO;
	n -= (ssize_t)sizeof(m.error);
	memcpy(a->why, m.text, (size_t)n);
	a->why[n] = '\0';
	*why = a->why;
	return -(int)m.error.code;
}

/* What is begun when it fails is there to be dropped. */
static int begin(struct agent *a, const char **why)
{
	struct prepared *p = &a->prepared;
	int order[2], group = container_group(a, p->create.head.name, why), r = 0;

	if (group < 0)
		return group;
	p->group = group;
	p->pid = p->pidfd = p->order = p->program = p->mounts = -1;
	*why = "cannot make a process to be prepared";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, order))
		return -errno;
	p->order = order[0];
	p->pid = freezer_fork_into(group, contain_clone_flags(p->create.head.new_namespaces),
				   &p->pidfd);
	if (!p->pid)
		stand_by(a, order[1]);
	if (p->pid < 0)
		r = -errno;
	close(order[1]);
	return r;
}

int prepare_make(struct agent *a, const void *payload, uint32_t length, const char **why)
{
	struct prepared *p = &a->prepared;
	int r;

	prepare_drop(a);
	if (!length)
		return 0;
	memcpy(p->request, payload, length);
	*why = create_parse(&p->create, p->request, length);
	if (!*why)
		*why = check(&p->create);
	if (*why)
		return -EINVAL;
	*why = "there is a container with this name already";
	if (container_find(a, p->create.head.name))
		return -EEXIST;
	r = begin(a, why);
	if (!r)
		r = await_ready(a, why);
	if (!r)
		r = container_program(a, &p->create, &p->program, why);
	if (!r)
		p->mounts = container_mounts(p->pid);
	if (r)
		prepare_drop(a);
	return r;
}

pid_t prepare_order(struct prepared *p, const struct create *c, const struct spawn *s)
{
	const uint8_t *payload = c->records.at - sizeof(c->head);
	pid_t pid = p->pid;
	int fd[DESCRIPTORS] = {s->report, s->fd[0], s->fd[1], s->fd[2]};
	size_t size = (s->tty ? 1 : DESCRIPTORS) * sizeof(int);
	union descriptors control = {.head = {.cmsg_len = CMSG_LEN(size),
					      .cmsg_level = SOL_SOCKET,
					      .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {(void *)(uintptr_t)payload, (size_t)(c->records.end - payload)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = CMSG_SPACE(size)};

	memcpy(CMSG_DATA(&control.head), fd, size);
	if (sendmsg(p->order, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return 0;
	forget(p);
	return pid;
}
