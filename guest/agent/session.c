/* SPDX-License-Identifier: Apache-2.0
 *
 * A session owns its process from the fork until it is reaped, and its streams until they have
 * carried what the process wrote. Two things can end it: its process' exit, after which the client
 * gets all of the output and then EXITED, or the loss of its control connection, after which the
 * process group is killed and nobody waits for anything. In a copy of the guest it is detached from
 * both, and lasts until the process has ended.
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

	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++)
		if (s->state <= SESSION_ATTACHING && (!oldest || s->since_ms < oldest->since_ms))
			oldest = s;
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
			      .control = c,
			      .tag = c->head.tag,
			      .length = c->head.length,
			      .since_ms = now,
			      .report = -1};
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

static void session_free(struct agent *a, struct session *s)
{
	for (int i = 0; i < AGENT_STREAMS; i++)
		close_fd(&s->stream[i]);
	for (int i = 0; i < SESSION_PUMPS; i++)
		pump_close(&s->pump[i]);
	close_fd(&s->report);
	if (s->length > REQUEST_KEEP)
		madvise(session_buffer(a, s), AGENT_EXEC_MAX, MADV_DONTNEED);
	s->state = SESSION_FREE;
	s->control = NULL;
	s->pid = 0;
}

void session_abandon(struct agent *a, struct session *s)
{
	if (s->pid) {
		/* It may not have come to make its own group yet. */
		kill(s->pid, SIGKILL);
		kill(-s->pid, SIGKILL);
	}
	session_free(a, s);
}

/* Ends a session whose client, if there is one, has been told how it went. */
static void session_end(struct agent *a, struct session *s)
{
	struct conn *c = s->control;

	session_free(a, s);
	if (!c)
		return;
	c->session = NULL;
	conn_close(a, c);
}

void session_detach(struct agent *a, struct session *s)
{
	if (!s->control || (s->state != SESSION_STARTING && s->state != SESSION_RUNNING))
		return;
	close_fd(&s->report);
	s->state = SESSION_RUNNING;
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
	struct stdio child;
	int ours[3]; /* the other end of the pipes, or the terminal's master and copies of it */
	int report[2];
};

static void close_child_ends(struct plumbing *p)
{
	for (int i = 0; i < 3; i++)
		close_fd(&p->child.fd[i]);
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
			p->child.fd[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (p->child.fd[i] < 0)
				return -1;
			continue;
		}
		if (make_pipe(fds, ours))
			return -1;
		p->ours[i] = fds[ours];
		p->child.fd[i] = fds[!ours];
	}
	return 0;
}

/* A new terminal. ours[0] and ours[1] are its master, for each direction. */
static int plumb_tty(struct plumbing *p, const struct agent_exec *x)
{
	struct winsize size = {.ws_row = x->rows, .ws_col = x->cols};
	int unlock = 0;

	p->child.tty = true;
	p->ours[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (p->ours[0] < 0 || ioctl(p->ours[0], TIOCSPTLCK, &unlock))
		return -1;
	ioctl(p->ours[0], TIOCSWINSZ, &size);
	p->ours[1] = fcntl(p->ours[0], F_DUPFD_CLOEXEC, 3);
	p->child.fd[0] = ioctl(p->ours[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	p->child.fd[1] = fcntl(p->child.fd[0], F_DUPFD_CLOEXEC, 3);
	p->child.fd[2] = fcntl(p->child.fd[0], F_DUPFD_CLOEXEC, 3);
	return p->ours[1] < 0 || p->child.fd[1] < 0 || p->child.fd[2] < 0 ? -1 : 0;
}

/* Moves a descriptor to a new owner. */
static int take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* socket -> pipe -> master, and master -> pipe -> socket. */
static int join_tty(struct session *s, struct plumbing *p)
{
	int in[2], out[2], sock = fcntl(s->stream[AGENT_TTY], F_DUPFD_CLOEXEC, 3);

	if (sock < 0)
		return -1;
	pump_open(&s->pump[3], -1, sock); /* owned from here on, whatever comes */
	if (pipe2(in, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[0], take(&s->stream[AGENT_TTY]), in[1]);
	s->pump[0].last = CTRL_D;
	pump_open(&s->pump[1], in[0], take(&p->ours[0]));
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[2], take(&p->ours[1]), out[1]);
	pump_open(&s->pump[3], out[0], sock);
	return 0;
}

/* Joins the streams with the plumbing. */
static int join(struct session *s, struct plumbing *p)
{
	if (s->tty)
		return join_tty(s, p);
	if (s->stream[AGENT_STDIN] >= 0)
		pump_open(&s->pump[0], take(&s->stream[AGENT_STDIN]), take(&p->ours[0]));
	for (int i = AGENT_STDOUT; i <= AGENT_STDERR; i++)
		if (s->stream[i] >= 0)
			pump_open(&s->pump[i], take(&p->ours[i]), take(&s->stream[i]));
	return 0;
}

static int watch_session(struct agent *a, struct session *s)
{
	uint32_t index = (uint32_t)(s - a->sessions);
	int r = watch(a, s->report, WATCH_SESSION, index, PART_REPORT);

	for (uint32_t i = 0; i < SESSION_PUMPS && !r; i++) {
		if (!pump_active(&s->pump[i]))
			continue;
		r = watch(a, s->pump[i].from, WATCH_SESSION, index, PART_PUMP_FROM + i);
		if (!r)
			r = watch(a, s->pump[i].to, WATCH_SESSION, index, PART_PUMP_TO + i);
	}
	return r;
}

/* All streams are there: starts the process. */
static void session_start(struct agent *a, struct session *s)
{
	struct plumbing p = {.child.fd = {-1, -1, -1}, .ours = {-1, -1, -1}, .report = {-1, -1}};
	const struct agent_exec *x = &s->command.exec;
	pid_t pid;

	if ((s->tty ? plumb_tty(&p, x) : plumb_pipes(&p, x->streams)) || make_pipe(p.report, 0) ||
	    join(s, &p)) {
		int code = errno;

		close_plumbing(&p);
		conn_fail(a, s->control, code, "cannot make the command's pipes or terminal");
		return;
	}
	s->report = take(&p.report[0]);
	pid = spawn(&s->command, &p.child, p.report[1], a->config->freezer,
		    a->config->words);
	close_plumbing(&p);
	if (pid < 0) {
		conn_fail(a, s->control, -pid, "cannot make a process");
		return;
	}
	s->pid = pid;
	s->state = SESSION_STARTING;
	if (watch_session(a, s))
		conn_fail(a, s->control, ENOMEM, "out of memory");
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

void session_request(struct agent *a, struct session *s, uint32_t length)
{
	const uint32_t tty = 1u << AGENT_TTY, all = (1u << AGENT_STREAMS) - 1;
	const char *why = command_parse(&s->command, session_buffer(a, s), length);
	uint32_t streams = s->command.exec.streams;

	if (!why && (streams & ~all || (streams & tty && streams != tty)))
		why = "EXEC wants streams that do not go together";
	if (!why && session_find(a, &s->command.exec.key))
		why = "EXEC's key is in use";
	if (why) {
		conn_fail(a, s->control, EINVAL, why);
		return;
	}
	s->state = SESSION_ATTACHING;
	s->missing = streams;
	s->tty = streams & tty;
	if (streams)
		collect_parked(a, s);
	else
		session_start(a, s);
}

/* The report pipe has ended or holds the ERROR. */
static void session_report(struct agent *a, struct session *s)
{
	struct agent_started started = {.pid = (uint32_t)s->pid};
	uint8_t error[AGENT_ANSWER_MAX];
	ssize_t n = read(s->report, error, sizeof(error));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		/* Its process is gone or about to be; whoever reaps it will find no session. */
		conn_send(s->control, AGENT_ERROR, s->tag, error, (uint32_t)n);
		session_end(a, s);
		return;
	}
	close_fd(&s->report);
	s->state = SESSION_RUNNING;
	conn_send(s->control, AGENT_STARTED, s->tag, &started, sizeof(started));
}

static void send_exited(const struct session *s)
{
	struct agent_exited m = {.kind = AGENT_EXIT_STATUS,
				 .value = (uint32_t)WEXITSTATUS(s->wait_status)};

	if (WIFSIGNALED(s->wait_status)) {
		m.kind = AGENT_EXIT_SIGNAL;
		m.value = (uint32_t)WTERMSIG(s->wait_status);
	}
	if (s->control)
		conn_send(s->control, AGENT_EXITED, s->tag, &m, sizeof(m));
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
		send_exited(s);
		session_end(a, s);
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
	if (s->state == SESSION_STARTING)
		session_report(a, s);
	if (s->state != SESSION_RUNNING)
		return;
	s->pid = 0;
	s->wait_status = wait_status;
	s->state = SESSION_DRAINING;
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
		if (s->state == SESSION_STARTING)
			session_report(a, s);
		return;
	}
	/* Nobody reads what this pump writes, and it may have nothing to write to notice. */
	if (part >= PART_PUMP_TO && events & (EPOLLERR | EPOLLHUP) && broken(s->pump[i].to))
		pump_close(&s->pump[i]);
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
