/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders about containers by their names, of container.h: messages that are complete, and those with more in
 * them.
 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/cgroup.h"
#include "guest/agent/contain.h"
#include "guest/agent/dump.h"
#include "guest/agent/plug.h"
#include "guest/agent/stats.h"
#include "guest/agent/text.h"

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
	error = container_limit(a, c, r, why);
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
	pid = container_fork_beside(a, a->config->freezer->home, c->own & AGENT_NS_PID ? c->pidfd : -1,
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
