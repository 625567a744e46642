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

/* Steps of a session's pumps before the others have their turn. */
#define TURN_STEPS 16

/* More than a terminal can hold of its process' output, wherever it has got to. */
#define TTY_REST_MAX 65536u

/* A request larger than this gives its memory back when it is done with. */
#define REQUEST_KEEP 16384u

#define CTRL_D 4

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

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Gives back what a large request took. */
static void drop_request(struct agent *a, struct session *s)
{
	if (s->length > REQUEST_KEEP)
		madvise(session_buffer(a, s), AGENT_EXEC_MAX, MADV_DONTNEED);
	s->length = 0;
}

static void session_free(struct agent *a, struct session *s)
{
	struct container *c = s->container;

	for (int i = 0; i < AGENT_STREAMS; i++)
		close_fd(&s->stream[i]);
	for (int i = 0; i < SESSION_PUMPS; i++)
		pump_close(&s->pump[i]);
	close_fd(&s->report);
	drop_request(a, s);
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

static void tell(struct agent *a, struct session *s, enum agent_type type, const void *payload,
		 uint32_t length)
{
	const struct told t = {type, payload, length};

	each_conn(a, s, tell_one, &t);
}

static void tell_started(struct agent *a, struct session *s)
{
	const struct agent_started m = {.pid = s->started_pid};

	tell(a, s, AGENT_STARTED, &m, sizeof(m));
}

void session_fail(struct agent *a, struct session *s, int code, const char *text)
{
	struct refusal m;
	uint32_t length = refusal_make(&m, code, text);

	tell(a, s, AGENT_ERROR, &m, length);
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

/* Whether it will not end with its client. */
static bool wants_keep(const struct session *s)
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
		close_fd(&s->report);
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

/* Both ends of what connects a process with the agent. */
struct plumbing {
	int child[3];
	int ours[3]; /* the other end of the pipes */
	int report[2];
};

static void close_child_ends(struct plumbing *p)
{
	for (int i = 0; i < 3; i++)
		close_fd(&p->child[i]);
	close_fd(&p->report[1]);
}

static void close_plumbing(struct plumbing *p)
{
	close_child_ends(p);
	for (int i = 0; i < 3; i++)
		close_fd(&p->ours[i]);
	close_fd(&p->report[0]);
}

/* A pipe whose end ours (0: read, 1: write) is non-blocking. Returns 0 or -1 with errno. */
static int make_pipe(int fds[2], int ours)
{
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	return fcntl(fds[ours], F_SETFL, O_NONBLOCK);
}

/* Pipes for the streams that are wanted and /dev/null for the rest. */
static int plumb_pipes(struct plumbing *p, uint32_t streams)
{
	for (int i = 0; i < 3; i++) {
		int ours = i == AGENT_STDIN ? 1 : 0, fds[2];

		if (!(streams & 1u << i)) {
			p->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (p->child[i] < 0)
				return -1;
			continue;
		}
		if (make_pipe(fds, ours))
			return -1;
		p->ours[i] = fds[ours];
		p->child[i] = fds[!ours];
	}
	return 0;
}

/* Moves a descriptor to a new owner. */
static int take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* socket -> pipe -> master, and master -> pipe -> socket. Takes over master. Returns 0 or -1. */
static int join_tty(struct agent *a, struct session *s, int master)
{
	int in[2], out[2], sock = fcntl(s->stream[AGENT_TTY], F_DUPFD_CLOEXEC, 3);
	int again = fcntl(master, F_DUPFD_CLOEXEC, 3);

	pump_open(&s->pump[3], -1, sock); /* owned from here on, whatever comes */
	pump_open(&s->pump[2], master, -1);
	pump_open(&s->pump[1], -1, again);
	if (sock < 0 || again < 0 || pipe2(in, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[0], take(&s->stream[AGENT_TTY]), in[1]);
	pump_open(&s->pump[1], in[0], again);
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[2], master, out[1]);
	pump_open(&s->pump[3], out[0], sock);
	/* A client that comes and goes hangs up nothing. */
	if (wants_keep(s))
		s->pump[3].sink = a->null;
	else
		s->pump[0].last = CTRL_D;
	return 0;
}

/* Joins the streams with the plumbing. */
static void join_pipes(struct agent *a, struct session *s, struct plumbing *p)
{
	if (s->stream[AGENT_STDIN] >= 0)
		pump_open(&s->pump[0], take(&s->stream[AGENT_STDIN]), take(&p->ours[0]));
	for (int i = AGENT_STDOUT; i <= AGENT_STDERR; i++) {
		if (s->stream[i] < 0)
			continue;
		pump_open(&s->pump[i], take(&p->ours[i]), take(&s->stream[i]));
		if (wants_keep(s))
			s->pump[i].sink = a->null;
	}
}

static int watch_pumps(struct agent *a, struct session *s)
{
	uint32_t index = (uint32_t)(s - a->sessions);
	int r = 0;

	for (uint32_t i = 0; i < SESSION_PUMPS && !r; i++) {
		if (!pump_active(&s->pump[i]))
			continue;
		r = watch(a, s->pump[i].from, WATCH_SESSION, index, PART_PUMP_FROM + i);
		if (!r)
			r = watch(a, s->pump[i].to, WATCH_SESSION, index, PART_PUMP_TO + i);
	}
	return r;
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

	if ((!s->tty && plumb_pipes(&p, s->command.exec.streams)) ||
	    session_open_report(s, p.report)) {
		int code = errno;

		close_plumbing(&p);
		session_fail(a, s, code, "cannot make the command's pipes");
		return;
	}
	p.report[0] = -1; /* the session's */
	if (!s->tty)
		join_pipes(a, s, &p);
	memcpy(sp.fd, p.child, sizeof(sp.fd));
	sp.report = p.report[1];
	pid = fork_process(a, s, &sp, &why);
	if (!pid)
		spawn_run(&sp);
	close_plumbing(&p);
	if (pid < 0)
		session_fail(a, s, -pid, why);
	else if (session_forked(a, s, pid) || watch_pumps(a, s))
		session_fail(a, s, ENOMEM, "out of memory");
	else if (!s->container)
		drop_request(a, s); /* the child has a copy */
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

/* An order is done: its connection is free for the next one. */
static void order_done(struct agent *a, struct session *s, bool answered)
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
			order_done(a, s, r == CONTAINER_ANSWERED);
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

/* The process' program runs. */
static void report_started(struct agent *a, struct session *s)
{
	close_fd(&s->report);
	s->state = SESSION_RUNNING;
	s->started_pid = (uint32_t)s->pid;
	s->keep |= wants_keep(s);
	if (s->container) {
		s->container->state = AGENT_CONTAINER_RUNNING;
		s->container->begun = true;
	}
	tell_started(a, s);
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
	close_fd(&s->report);
	s->state = SESSION_RUNNING;
}

static void report_ready(struct agent *a, struct session *s)
{
	struct agent_started m = {.pid = (uint32_t)s->pid};
	const char *why;
	int r;

	if (!s->container) {
		order_done(a, s, false);
		return;
	}
	if (s->state != SESSION_STARTING || s->go)
		return;
	r = container_ready(a, s->container, &why);
	drop_request(a, s);
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
		tell(a, s, AGENT_CREATED, &m, sizeof(m));
}

static void report_terminal(struct agent *a, struct session *s, int master)
{
	int number;

	if (!s->tty || s->stream[AGENT_TTY] < 0 || ioctl(master, TIOCGPTN, &number)) {
		close(master);
		session_fail(a, s, EIO, "the command's terminal is none");
	} else if (join_tty(a, s, master) || watch_pumps(a, s)) {
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
	tell(a, s, AGENT_ERROR, error, n);
	session_end(a, s);
}

/* Something came from the process that is on its way to its program. */
static void session_report(struct agent *a, struct session *s)
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
			container_layer(s->container, take(&fd));
		close_fd(&fd);
		if (n >= (ssize_t)sizeof(struct agent_error))
			report_error(a, s, m, (uint32_t)n);
		else if (n == 1 && *m == SPAWN_READY)
			report_ready(a, s);
		else if (n <= 0)
			report_end(a, s);
	}
}

void session_notice(struct agent *a, struct session *s, const struct agent_notice *m)
{
	tell(a, s, AGENT_NOTICE, m, sizeof(*m));
}

struct agent_exited exited_of(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return (struct agent_exited){AGENT_EXIT_SIGNAL, (uint32_t)WTERMSIG(wait_status)};
	return (struct agent_exited){AGENT_EXIT_STATUS, (uint32_t)WEXITSTATUS(wait_status)};
}

/* All that it wrote has gone out. */
static void session_finish(struct agent *a, struct session *s)
{
	const struct agent_exited m = exited_of(s->wait_status);
	/* Its client may be gone without that being known here. Whoever waits has asked for it. */
	bool asked = s->watchers;

	tell(a, s, AGENT_EXITED, &m, sizeof(m));
	if (asked || s->container || !s->keep || s->detached) {
		session_end(a, s);
		return;
	}
	each_conn(a, s, let_go, NULL);
	s->control = NULL;
	s->state = SESSION_ENDED;
}

static bool session_pumps(const struct session *s)
{
	for (int i = 0; i < SESSION_PUMPS; i++)
		if (pump_active(&s->pump[i]))
			return true;
	return false;
}

/* Steps the pumps first to last until nothing moves or their turn is over. */
static void pump_some(struct agent *a, struct session *s, int first, int last)
{
	bool moved = true;

	for (int step = 0; step < TURN_STEPS && moved; step++) {
		moved = false;
		for (int i = first; i <= last; i++)
			moved |= pump_step(&s->pump[i]);
	}
	s->busy |= moved;
	a->busy |= moved;
	if (s->state == SESSION_DRAINING && !session_pumps(s)) {
		session_finish(a, s);
	}
}

void session_pump(struct agent *a, struct session *s)
{
	s->busy = false;
	pump_some(a, s, 0, SESSION_PUMPS - 1);
}

/* The process is gone: input is of no use any more, and output ends with what it has written,
 * though a child that it left behind may hold the pipe open.
 */
static void session_drain(struct session *s)
{
	if (s->tty) {
		pump_close(&s->pump[0]);
		pump_close(&s->pump[1]);
		pump_limit(&s->pump[2], TTY_REST_MAX);
		return;
	}
	pump_close(&s->pump[AGENT_STDIN]);
	for (int i = AGENT_STDOUT; i <= AGENT_STDERR; i++) {
		int n = 0;

		if (pump_active(&s->pump[i]) && ioctl(s->pump[i].from, FIONREAD, &n))
			n = 0;
		pump_limit(&s->pump[i], (uint64_t)n);
	}
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
		pump_some(a, s, i, i);
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
