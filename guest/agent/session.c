/* SPDX-License-Identifier: Apache-2.0
 *
 * A session owns its process from the fork until it is reaped, and its streams until they have
 * carried what the process wrote. Two things can end it: its process' exit, after which the client
 * gets all of the output and then EXITED, or the loss of its control connection, after which the
 * process group is killed and nobody waits for anything. One that is kept does without a client: what
 * nobody reads any more is dropped. In a copy of the guest it is detached from all clients, and lasts
 * until the process has ended.
 *
 * A CREATE is the session of its container's first process. Other requests about containers that do not
 * fit a connection's buffer are sessions until they are done.
 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/cgroup.h"
#include "guest/agent/session.h"

/* A request larger than this gives its memory back when it is done with. */
#define REQUEST_KEEP 16384u

void *session_buffer(struct agent *a, const struct session *s)
{
	return a->request[s - a->sessions];
}

/* Makes room as conn.c does: a session whose client has not got as far as it could. */
static struct session *evict(struct agent *a, uint64_t now)
{
	struct session *oldest = NULL;

	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++) {
		if (s->state == SESSION_ENDED) { /* nobody has asked */
			session_end(a, s);
			return s;
		}
		if (s->state <= SESSION_ATTACHING && (!oldest || s->since_ms < oldest->since_ms))
			oldest = s;
	}
	if (!oldest || now - oldest->since_ms < AGENT_HANDSHAKE_MS)
		return NULL;
	conn_fail(a, oldest->control, ETIMEDOUT, "too slow");
	return oldest;
}

struct session *session_begin(struct agent *a, struct conn *c)
{
	uint64_t now = now_ms();
	struct session *s = a->sessions;

	while (s < a->sessions + AGENT_SESSIONS && s->state != SESSION_FREE)
		s++;
	if (s == a->sessions + AGENT_SESSIONS)
		s = evict(a, now);
	if (!s)
		return NULL;
	*s = (struct session){.state = SESSION_RECEIVING,
			      .type = c->head.type,
			      .control = c,
			      .length = c->head.length,
			      .since_ms = now,
			      .report = -1};
	c->tag = c->head.tag;
	for (int i = 0; i < AGENT_STREAMS; i++)
		s->stream[i] = -1;
	for (int i = 0; i < SESSION_PUMPS; i++)
		pump_open(&s->pump[i], -1, -1);
	return s;
}

void session_drop_request(struct agent *a, struct session *s)
{
	if (s->length > REQUEST_KEEP)
		madvise(session_buffer(a, s), AGENT_EXEC_MAX, MADV_DONTNEED);
	s->length = 0;
}

static void session_free(struct agent *a, struct session *s)
{
	struct container *c = s->container;

	for (int i = 0; i < AGENT_STREAMS; i++)
		session_close_fd(&s->stream[i]);
	for (int i = 0; i < SESSION_PUMPS; i++)
		pump_close(&s->pump[i]);
	session_close_fd(&s->report);
	session_drop_request(a, s);
	s->state = SESSION_FREE;
	s->control = NULL;
	s->container = NULL;
	s->pid = 0;
	if (!c)
		return;
	container_over(a, c);
	if (c->state == AGENT_CONTAINER_CREATING)
		container_free(a, c);
}

static void kill_process(const struct session *s)
{
	if (!s->pid)
		return;
	/* It may not have come to make its own group yet. */
	kill(s->pid, SIGKILL);
	kill(-s->pid, SIGKILL);
}

void session_abandon(struct agent *a, struct session *s)
{
	s->control = NULL;
	if (s->keep) {
		if (s->container && s->container->tied)
			cgroup_kill(s->container->group, SIGKILL);
		return;
	}
	kill_process(s);
	session_end(a, s);
}

/* Calls fn for each connection that hears of it, which may be closed meanwhile. */
static void each_conn(struct agent *a, struct session *s,
		      void (*fn)(struct agent *a, struct conn *c, const void *ctx), const void *ctx)
{
	struct conn *control = s->control;

	for (struct conn *c = a->conns; s->watchers && c < a->conns + AGENT_CONNECTIONS; c++)
		if (c->session == s && c != control)
			fn(a, c, ctx);
	if (control)
		fn(a, control, ctx);
}

void session_unwatch(struct conn *c)
{
	c->session->watchers--;
	c->session = NULL;
	c->starting = false;
}

static void let_go(struct agent *a, struct conn *c, const void *ctx)
{
	(void)ctx;
	if (c->session->control == c)
		c->session = NULL;
	else
		session_unwatch(c);
	conn_close(a, c);
}

/* Its clients, if there are some, have been told how it went. */
void session_end(struct agent *a, struct session *s)
{
	each_conn(a, s, let_go, NULL);
	session_free(a, s);
}

struct told {
	enum agent_type type;
	const void *payload;
	uint32_t length;
};

static void tell_one(struct agent *a, struct conn *c, const void *ctx)
{
	const struct told *t = ctx;

	(void)a;
	if (!c->starting || t->type == AGENT_ERROR)
		conn_send(c, t->type, c->tag, t->payload, t->length);
}

void session_tell(struct agent *a, struct session *s, enum agent_type type, const void *payload,
		 uint32_t length)
{
	const struct told t = {type, payload, length};

	each_conn(a, s, tell_one, &t);
}

void session_tell_started(struct agent *a, struct session *s)
{
	const struct agent_started m = {.pid = s->started_pid};

	session_tell(a, s, AGENT_STARTED, &m, sizeof(m));
}

void session_fail(struct agent *a, struct session *s, int code, const char *text)
{
	struct refusal m;
	uint32_t length = refusal_make(&m, code, text);

	session_tell(a, s, AGENT_ERROR, &m, length);
	kill_process(s);
	session_end(a, s);
}

void session_watch(struct agent *a, struct session *s, struct conn *c)
{
	const struct agent_started started = {.pid = s->started_pid};
	const struct agent_exited exited = exited_of(s->wait_status);

	c->session = s;
	c->tag = c->head.tag;
	s->watchers++;
	if (s->started_pid)
		conn_send(c, AGENT_STARTED, c->tag, &started, sizeof(started));
	if (s->state != SESSION_ENDED)
		return;
	conn_send(c, AGENT_EXITED, c->tag, &exited, sizeof(exited));
	session_end(a, s);
}

void session_go(struct agent *a, struct session *s, struct conn *c)
{
	const char go = SPAWN_GO;

	(void)a;
	if (c) {
		c->session = s;
		c->tag = c->head.tag;
		c->starting = true;
		s->watchers++;
	}
	s->go = true;
	s->state = SESSION_STARTING;
	(void)!send(s->report, &go, 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* its end will be seen */
}

struct session *session_kept(struct agent *a, const struct agent_key *key)
{
	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++)
		if (s->state != SESSION_FREE && s->keep && !s->container &&
		    !memcmp(&s->command.exec.key, key, sizeof(*key)))
			return s;
	return NULL;
}

bool session_wants_keep(const struct session *s)
{
	return s->container || s->command.exec.flags & AGENT_EXEC_KEEP;
}

void session_detach(struct agent *a, struct session *s)
{
	if (s->detached || s->state < SESSION_STARTING || s->state > SESSION_RUNNING ||
	    (s->type != AGENT_EXEC && s->type != AGENT_CREATE))
		return;
	if (s->container && !s->keep)
		return; /* half made: it ends with its client */
	if (!s->container) {
		session_close_fd(&s->report);
		s->state = SESSION_RUNNING;
	}
	s->detached = true;
	if (s->control)
		s->control->session = NULL;
	s->control = NULL;
	if (pump_active(&s->pump[0]))
		shutdown(s->pump[0].from, SHUT_RDWR); /* and the pump finds its end */
	for (int i = s->tty ? 3 : AGENT_STDOUT; i < SESSION_PUMPS; i++)
		if (pump_active(&s->pump[i]))
			dup3(a->null, s->pump[i].to, O_CLOEXEC); /* closes the socket, too */
	s->busy = a->busy = true; /* nothing holds the pumps back any more */
}

struct session *session_find(struct agent *a, const struct agent_key *key)
{
	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++)
		if (s->state == SESSION_ATTACHING &&
		    !memcmp(&s->command.exec.key, key, sizeof(*key)))
			return s;
	return NULL;
}

int session_open_report(struct session *s, int report[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report))
		return -1;
	s->report = report[0];
	return 0;
}

int session_forked(struct agent *a, struct session *s, pid_t pid)
{
	s->pid = pid;
	s->state = SESSION_STARTING;
	return watch(a, s->report, WATCH_SESSION, (uint32_t)(s - a->sessions), PART_REPORT);
}

/* Forks: the child is in its cgroup and namespaces. Returns as fork, or -errno with *why. */
static pid_t fork_process(struct agent *a, struct session *s, struct spawn *sp, const char **why)
{
	const char *name = s->command.exec.container;
	pid_t pid;

	if (s->container)
		return container_fork(a, s->container, sp, why);
	if (*name)
		return container_fork_in(a, name, sp, why);
	*why = "cannot make a process";
	pid = freezer_fork(a->config->freezer);
	return pid < 0 ? -errno : pid;
}

/* All streams are there: starts the process. */
static void session_start(struct agent *a, struct session *s)
{
	struct plumbing p = {.child = {-1, -1, -1}, .ours = {-1, -1, -1}, .report = {-1, -1}};
	/* A container's environment is what its owner says, and no more. */
	struct spawn sp = {.command = &s->command,
			   .tty = s->tty,
			   .lower = -1,
			   .upper = -1,
			   .words = s->container ? NULL : a->config->words};
	const char *why;
	pid_t pid;

	if ((!s->tty && plumbing_pipes(&p, s->command.exec.streams)) ||
	    session_open_report(s, p.report)) {
		int code = errno;

		plumbing_close(&p);
		session_fail(a, s, code, "cannot make the command's pipes");
		return;
	}
	p.report[0] = -1; /* the session's */
	if (!s->tty)
		session_join_pipes(a, s, &p);
	memcpy(sp.fd, p.child, sizeof(sp.fd));
	sp.report = p.report[1];
	pid = fork_process(a, s, &sp, &why);
	if (!pid)
		spawn_run(&sp);
	plumbing_close(&p);
	if (pid < 0)
		session_fail(a, s, -pid, why);
	else if (session_forked(a, s, pid) || session_watch_pumps(a, s))
		session_fail(a, s, ENOMEM, "out of memory");
	else if (!s->container)
		session_drop_request(a, s); /* the child has a copy */
}

const char *session_attach(struct agent *a, struct session *s, uint32_t stream, int fd)
{
	if (stream >= AGENT_STREAMS || !(s->missing & 1u << stream))
		return "ATTACH to a stream that is not wanted or is there already";
	s->stream[stream] = fd;
	s->missing &= ~(1u << stream);
	if (!s->missing)
		session_start(a, s);
	return NULL;
}

/* Attaches the streams that were faster than the EXEC. */
static void collect_parked(struct agent *a, struct session *s)
{
	struct conn *c = a->conns;

	for (; c < a->conns + AGENT_CONNECTIONS && s->state == SESSION_ATTACHING; c++) {
		const struct agent_attach *m = &c->body.attach;
		const char *why;

		if (c->state != CONN_PARKED ||
		    memcmp(&m->key, &s->command.exec.key, sizeof(m->key)))
			continue;
		why = session_attach(a, s, m->stream, c->fd);
		if (why)
			conn_fail(a, c, EINVAL, why);
		else
			conn_release(c);
	}
}

/* An EXEC or a CREATE has come. Returns 0 or -errno with *why. */
static int take_process(struct agent *a, struct session *s, uint32_t length, const char **why)
{
	const uint32_t tty = 1u << AGENT_TTY, all = (1u << AGENT_STREAMS) - 1;
	const struct agent_exec *x = &s->command.exec;
	void *payload = session_buffer(a, s);
	int r;

	if (s->type == AGENT_CREATE) {
		r = container_begin(a, s, payload, length, why);
	} else {
		*why = command_parse(&s->command, payload, length);
		r = *why ? -EINVAL : 0;
		if (!r && *x->container)
			r = container_check(a, x->container, why);
	}
	if (r)
		return r;
	*why = "streams are wanted that do not go together";
	if (x->streams & ~all || (x->streams & tty && x->streams != tty))
		return -EINVAL;
	*why = "the session's key is in use";
	return session_find(a, &x->key) || session_kept(a, &x->key) ? -EINVAL : 0;
}

void session_order_done(struct agent *a, struct session *s, bool answered)
{
	struct conn *c = s->control;

	session_free(a, s);
	c->session = NULL;
	if (!answered)
		conn_send(c, AGENT_OK, c->tag, NULL, 0);
}

void session_request(struct agent *a, struct session *s, uint32_t length)
{
	const char *why;
	int r;

	if (s->type != AGENT_EXEC && s->type != AGENT_CREATE) {
		r = container_order(a, s, session_buffer(a, s), length, &why);
		if (r == CONTAINER_OVER)
			session_end(a, s);
		else if (r > 0)
			session_order_done(a, s, r == CONTAINER_ANSWERED);
		else if (r < 0)
			session_fail(a, s, -r, why);
		return;
	}
	r = take_process(a, s, length, &why);
	if (r) {
		session_fail(a, s, -r, why);
		return;
	}
	s->state = SESSION_ATTACHING;
	s->missing = s->command.exec.streams;
	s->tty = s->missing & 1u << AGENT_TTY;
	if (s->missing)
		collect_parked(a, s);
	else
		session_start(a, s);
}

void session_notice(struct agent *a, struct session *s, const struct agent_notice *m)
{
	session_tell(a, s, AGENT_NOTICE, m, sizeof(*m));
}

struct agent_exited exited_of(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return (struct agent_exited){AGENT_EXIT_SIGNAL, (uint32_t)WTERMSIG(wait_status)};
	return (struct agent_exited){AGENT_EXIT_STATUS, (uint32_t)WEXITSTATUS(wait_status)};
}

void session_finish(struct agent *a, struct session *s)
{
	const struct agent_exited m = exited_of(s->wait_status);
	/* Its client may be gone without that being known here. Whoever waits has asked for it. */
	bool asked = s->watchers;

	session_tell(a, s, AGENT_EXITED, &m, sizeof(m));
	if (asked || s->container || !s->keep || s->detached) {
		session_end(a, s);
		return;
	}
	each_conn(a, s, let_go, NULL);
	s->control = NULL;
	s->state = SESSION_ENDED;
}

void session_reaped(struct agent *a, pid_t pid, int wait_status)
{
	struct session *s = a->sessions;

	while (s < a->sessions + AGENT_SESSIONS && s->pid != pid)
		s++;
	if (s == a->sessions + AGENT_SESSIONS)
		return;
	/* The exit may be seen before the report that was made first. */
	if (s->state == SESSION_STARTING || s->state == SESSION_CREATED)
		session_report(a, s);
	if (s->state != SESSION_RUNNING)
		return;
	s->pid = 0;
	s->wait_status = wait_status;
	s->state = SESSION_DRAINING;
	if (s->container) {
		container_event(a, s->container); /* why it has, before that it has */
		container_ended(s->container, exited_of(wait_status));
	}
	session_drain(s);
	session_pump(a, s);
}

/* Asked anew and not taken from the event, which may be about the slot's last owner. */
static bool broken(int fd)
{
	struct pollfd pfd = {.fd = fd};

	return fd >= 0 && poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLERR | POLLHUP));
}

void session_event(struct agent *a, struct session *s, uint32_t part, uint32_t events)
{
	int i = (int)(part - PART_PUMP_FROM) % SESSION_PUMPS;

	if (s->state < SESSION_STARTING)
		return;
	if (part == PART_REPORT) {
		session_report(a, s);
		return;
	}
	/* Nobody reads what this pump writes, and it may have nothing to write to notice. */
	if (part >= PART_PUMP_TO && events & (EPOLLERR | EPOLLHUP) && broken(s->pump[i].to))
		pump_lose(&s->pump[i]);
	/* A terminal's pumps feed each other. */
	if (s->tty)
		session_pump(a, s);
	else
		session_pump_some(a, s, i, i);
}

void session_signal(const struct session *s, const struct agent_signal *m)
{
	if (s->state == SESSION_RUNNING)
		kill(m->scope == AGENT_SIGNAL_GROUP ? -s->pid : s->pid, (int)m->signo);
}

void session_resize(const struct session *s, const struct agent_resize *m)
{
	struct winsize size = {.ws_row = m->rows, .ws_col = m->cols};

	if (s->tty && pump_active(&s->pump[2]))
		ioctl(s->pump[2].from, TIOCSWINSZ, &size);
}
