/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/session.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The process' program runs. */
static void report_started(struct agent *a, struct session *s)
{
	session_close_fd(&s->report);
	s->state = SESSION_RUNNING;
	s->started_pid = (uint32_t)s->pid;
	s->keep |= session_wants_keep(s);
	if (s->container) {
		s->container->state = AGENT_CONTAINER_RUNNING;
		s->container->begun = true;
	}
	session_tell_started(a, s);
	for (struct conn *c = a->conns; s->watchers && c < a->conns + AGENT_CONNECTIONS; c++) {
		if (c->session != s || !c->starting)
			continue;
		session_unwatch(c);
		conn_send(c, AGENT_OK, c->tag, NULL, 0);
	}
}

/* The other end is closed, because the process has become its program or is gone. */
static void report_end(struct agent *a, struct session *s)
{
	if (s->type != AGENT_EXEC && s->type != AGENT_CREATE) {
		session_fail(a, s, EIO, "the process that was to do it has ended");
		return;
	}
	if (!s->container || s->go) {
		report_started(a, s);
		return;
	}
	/* A container's that was killed before its time. */
	if (s->state == SESSION_STARTING) {
		session_fail(a, s, EIO, "the container's process has ended while it was set up");
		return;
	}
	session_close_fd(&s->report);
	s->state = SESSION_RUNNING;
}

static void report_ready(struct agent *a, struct session *s)
{
	struct agent_started m = {.pid = (uint32_t)s->pid};
	const char *why;
	int r;

	if (!s->container) {
		session_order_done(a, s, false);
		return;
	}
	if (s->state != SESSION_STARTING || s->go)
		return;
	r = container_ready(a, s->container, &why);
	session_drop_request(a, s);
	if (r) {
		s->container->state = AGENT_CONTAINER_CREATING; /* and never becomes one */
		session_fail(a, s, -r, why);
		return;
	}
	s->keep = true;
	s->state = SESSION_CREATED;
	if (s->container->start)
		session_go(a, s, NULL);
	else
		session_tell(a, s, AGENT_CREATED, &m, sizeof(m));
}

static void report_terminal(struct agent *a, struct session *s, int master)
{
	int number;

	if (!s->tty || s->stream[AGENT_TTY] < 0 || ioctl(master, TIOCGPTN, &number)) {
		close(master);
		session_fail(a, s, EIO, "the command's terminal is none");
	} else if (session_join_tty(a, s, master) || session_watch_pumps(a, s)) {
		session_fail(a, s, ENOMEM, "out of memory");
	}
}

/* Its process goes no further, and is gone or about to be: whoever reaps it will find no session. */
static void report_error(struct agent *a, struct session *s, const void *error, uint32_t n)
{
	const struct agent_error *m = error;

	if (s->container && s->go && !s->container->start)
		container_ended(s->container, (struct agent_exited){
						      .kind = AGENT_EXIT_STATUS,
						      .value = m->code == ENOENT ? 127 : 126});
	else if (s->container)
		s->container->state = AGENT_CONTAINER_CREATING; /* and never becomes one */
	session_tell(a, s, AGENT_ERROR, error, n);
	session_end(a, s);
}

void session_report(struct agent *a, struct session *s)
{
	_Alignas(struct agent_error) uint8_t m[AGENT_ANSWER_MAX];

	while (s->state == SESSION_STARTING || s->state == SESSION_CREATED) {
		int fd;
		ssize_t n = spawn_receive(s->report, m, sizeof(m), &fd);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n == 1 && *m == SPAWN_TERMINAL && fd >= 0) {
			report_terminal(a, s, fd);
			continue;
		}
		if (n == 1 && *m == SPAWN_LAYER && s->container)
			container_layer(s->container, session_take(&fd));
		session_close_fd(&fd);
		if (n >= (ssize_t)sizeof(struct agent_error))
			report_error(a, s, m, (uint32_t)n);
		else if (n == 1 && *m == SPAWN_READY)
			report_ready(a, s);
		else if (n <= 0)
			report_end(a, s);
	}
}
