/* SPDX-License-Identifier: Apache-2.0
 *
 * Theory of operation. A session has a control connection and one connection for each stream.
 * Nothing of the opening waits for an answer: all connections are made at once, EXEC and the
 * ATTACHes are sent, and the streams flow from then on; whether the command runs is told by the
 * first answer. One poll loop then moves the streams through a buffer each, so that a full one
 * stops no other, until the control connection has said how the command ended and the outputs
 * have come to their ends.
 *
 * The sockets are read and written with MSG_DONTWAIT. Descriptors 0 to 2 must not be set
 * non-blocking (that would happen to everybody who shares them), so they are used only when poll
 * says so, and are given no more at a time than what a pipe that polls as writable takes at once.
 */
#include "vmm/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/container.h"
#include "vmm/log.h"
#include "vmm/tty.h"
#include "vmm/util.h"

#define FLOW_BYTES 65536
#define TURN_MESSAGES 16 /* of the agent, between two looks at the clock */

/* Passed on to the command. */
static const int passed_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* One direction of a stream. Filled, then emptied. */
struct flow {
	int from; /* -1 when it has ended */
	int to;
	bool inward;	 /* to the guest: to is the socket; else from is */
	size_t to_chunk; /* the most to write at once */
	size_t start, end;
	uint8_t data[FLOW_BYTES];
};

struct exec {
	const struct exec_request *rq;
	int fd[3]; /* the standard descriptors here */
	struct agent_key key;
	uint32_t streams; /* wanted, 1 << enum agent_stream */
	int control;	  /* -1 when closed */
	int sock[AGENT_STREAMS];
	struct flow flow[3]; /* by standard descriptor */
	int signals;	     /* signalfd */
	sigset_t old_mask;
	struct sigaction old_pipe;
	struct tty tty;
	uint64_t deadline_ns; /* for the first answer, and between the end and its streams' */
	uint64_t kill_ns;     /* when it has had its time; 0: never */
	bool created; /* and waits to be started, for as long as that takes */
	bool started;
	bool exited;
	bool timed_out;
	uint64_t kills; /* for want of memory, as told so far */
	uint64_t held_signals; /* came before there was a process, 1 << number */
	struct agent_message message;
	int status;
};

/* ------ the connections ------ */

static void window_size(const struct exec *x, struct winsize *size)
{
	for (int i = 0; i < 3; i++)
		if (!ioctl(x->fd[i], TIOCGWINSZ, size))
			return;
	*size = (struct winsize){0};
}

/* EXEC, or CREATE. */
static int send_request(struct exec *x, struct err *e)
{
	const struct container_spec *create = x->rq->create;
	struct agent_exec head = {.key = x->key, .streams = x->streams};
	struct winsize ws;
	uint8_t *payload;
	size_t size;
	int r;

	window_size(x, &ws);
	head.rows = ws.ws_row;
	head.cols = ws.ws_col;
	r = create ? container_encode(create, x->rq, &head, &payload, &size, e)
		   : exec_encode(x->rq, &head, &payload, &size, e);
	if (r)
		return r;
	r = agent_send(x->control, create ? AGENT_CREATE : AGENT_EXEC, payload, size,
		       x->deadline_ns, e);
	free(payload);
	return r;
}

/* Whether the guest needs to hear from, or be heard on, descriptor fd. */
static bool is_wanted(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

static void open_flow(struct exec *x, int i, int sock)
{
	struct flow *f = &x->flow[i];
	struct stat st;

	if (x->fd[i] < 0)
		return;
	if (i == 0) {
		f->from = x->fd[0];
		f->to = sock;
		f->inward = true;
		f->to_chunk = FLOW_BYTES;
		return;
	}
	f->from = sock;
	f->to = x->fd[i];
	f->to_chunk = !fstat(f->to, &st) && S_ISREG(st.st_mode) ? FLOW_BYTES : PIPE_BUF;
}

static void choose_streams(struct exec *x)
{
	if (x->rq->tty) {
		x->streams = 1u << AGENT_TTY;
		return;
	}
	for (int i = 0; i < 3 && !x->rq->quiet; i++)
		if (is_wanted(x->fd[i]))
			x->streams |= 1u << i;
}

static int attach(struct exec *x, uint32_t stream, struct err *e)
{
	struct agent_attach m = {.key = x->key, .stream = stream};

	return agent_send(x->sock[stream], AGENT_ATTACH, &m, sizeof(m), x->deadline_ns, e);
}

/* Connects and sends all that opens the session. */
static int open_session(struct exec *x, agent_dial_fn *dial, void *ctx, struct err *e)
{
	int fds[1 + AGENT_STREAMS], r;
	unsigned int n = 1;

	if (getrandom(&x->key, sizeof(x->key), 0) != sizeof(x->key))
		return err_sys(e, "getrandom");
	choose_streams(x);
	r = dial(ctx, fds, 1 + (unsigned int)__builtin_popcount(x->streams), e);
	if (r)
		return r;
	x->control = fds[0];
	for (uint32_t i = 0; i < AGENT_STREAMS; i++)
		if (x->streams & 1u << i)
			x->sock[i] = fds[n++];
	x->deadline_ns = agent_deadline();
	r = send_request(x, e);
	for (uint32_t i = 0; i < AGENT_STREAMS && !r; i++)
		if (x->streams & 1u << i)
			r = attach(x, i, e);
	if (r)
		return r;
	for (int i = 0; i < 3; i++)
		if (x->sock[i] >= 0)
			open_flow(x, i, x->sock[i]);
	if (x->rq->tty) {
		open_flow(x, 0, x->sock[AGENT_TTY]);
		open_flow(x, 1, x->sock[AGENT_TTY]);
	}
	return 0;
}

/* ------ the streams ------ */

/* The reader or the writer is gone, or there is no more to move. */
static void end_flow(struct flow *f, int how)
{
	shutdown(f->inward ? f->to : f->from, how);
	f->from = f->to = -1;
}

static int flow_fill(struct flow *f, struct err *e)
{
	ssize_t n = f->inward ? read(f->from, f->data, FLOW_BYTES)
			      : recv(f->from, f->data, FLOW_BYTES, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0) {
		f->start = 0;
		f->end = (size_t)n;
		return 0;
	}
	/* A terminal that has hung up reads as EIO, and what is not open has no more to say. */
	if (n < 0 && f->inward && errno != EIO && errno != EBADF) {
		int r = err_sys(e, "cannot read standard input");

		end_flow(f, SHUT_WR);
		return r;
	}
	end_flow(f, f->inward ? SHUT_WR : SHUT_RDWR);
	return 0;
}

static ssize_t flow_write(const struct exec *x, const struct flow *f, size_t len)
{
	const uint8_t *data = f->data + f->start;

	if (f->inward)
		return send(f->to, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return x->rq->write ? x->rq->write(x->rq->ctx, f->to, data, len) : write(f->to, data, len);
}

static int flow_drain(const struct exec *x, struct flow *f, struct err *e)
{
	size_t len = MIN(f->end - f->start, f->to_chunk);
	ssize_t n = flow_write(x, f, len);
	int r = 0;

	if (n >= 0) {
		f->start += (size_t)n;
		return 0;
	}
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	/* The guest's process does not read any more, or nobody reads what it writes: then it
	 * must not believe otherwise.
	 */
	if (!f->inward && errno != EPIPE)
		r = err_sys(e, "cannot write standard %s",
			    f == &x->flow[1] ? "output" : "error");
	end_flow(f, SHUT_RDWR);
	return r;
}

/* ------ the control connection ------ */

static void send_control(struct exec *x, enum agent_type type, const void *m, size_t size)
{
	struct err ignored;

	/* Small and rare: if it does not fit now, the agent does not listen, and the answers or
	 * the end of the connection will tell.
	 */
	if (x->control >= 0)
		agent_send(x->control, type, m, size, 0, &ignored);
}

static void send_signal(struct exec *x, int signo, enum agent_signal_scope scope)
{
	struct agent_signal m = {.signo = (uint32_t)signo, .scope = scope};

	send_control(x, AGENT_SIGNAL, &m, sizeof(m));
}

static void pass_signal(struct exec *x, int signo)
{
	if (x->started)
		send_signal(x, signo, AGENT_SIGNAL_GROUP);
	else
		x->held_signals |= UINT64_C(1) << signo;
}

static void pass_window(struct exec *x)
{
	struct agent_resize m;
	struct winsize ws;

	window_size(x, &ws);
	m = (struct agent_resize){.rows = ws.ws_row, .cols = ws.ws_col};
	if (x->rq->tty)
		send_control(x, AGENT_RESIZE, &m, sizeof(m));
}

static void take_signals(struct exec *x)
{
	struct signalfd_siginfo info;

	while (read(x->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			pass_window(x);
		else
			pass_signal(x, (int)info.ssi_signo);
	}
}

static void process_started(struct exec *x)
{
	x->started = true;
	if (x->rq->timeout_ms)
		x->kill_ns = now_ns() + x->rq->timeout_ms * UINT64_C(1000000);
	if (x->rq->started)
		x->rq->started(x->rq->ctx);
	for (int signo = 1; signo < 64; signo++)
		if (x->held_signals & UINT64_C(1) << signo)
			pass_signal(x, signo);
}

static int process_exited(struct exec *x, struct err *e)
{
	const struct agent_exited *m = &x->message.exited;

	if (m->kind == AGENT_EXIT_STATUS && m->value < 256)
		x->status = (int)m->value;
	else if (m->kind == AGENT_EXIT_SIGNAL && m->value >= 1 && m->value <= 64)
		x->status = 128 + (int)m->value;
	else
		return err_set(e, EPROTO, "the guest's agent told an impossible exit status");
	if (x->timed_out)
		x->status = EXEC_TIMED_OUT;
	x->exited = true;
	x->deadline_ns = agent_deadline();
	close(x->control);
	x->control = -1;
	return 0;
}

/* A line for the first one only: there is no end to them if the guest likes. */
static void process_notice(struct exec *x, uint64_t kills)
{
	if (kills <= x->kills)
		return;
	if (!x->kills)
		log_warn("the container's memory limit has killed a process");
	x->kills = kills;
	if (x->rq->out_of_memory)
		x->rq->out_of_memory(x->rq->ctx, kills);
}

/* One message of the agent's. */
static int take_message(struct exec *x, struct err *e)
{
	const struct agent_message *m = &x->message;

	if (m->head.type == AGENT_ERROR) {
		if (m->error.kind == AGENT_NOT_RUN)
			x->status = m->error.code == ENOENT ? EXEC_NOT_FOUND : EXEC_NOT_EXECUTABLE;
		return agent_error(m, e);
	}
	if (m->head.type == AGENT_CREATED && x->rq->created && !x->created && !x->started) {
		x->created = true;
		x->rq->created(x->rq->ctx);
		return 0;
	}
	if (m->head.type == AGENT_STARTED && !x->started) {
		process_started(x);
		return 0;
	}
	if (m->head.type == AGENT_EXITED && (x->started || x->created))
		return process_exited(x, e);
	if (m->head.type == AGENT_NOTICE && x->rq->create) {
		if (m->notice.kind == AGENT_NOTICE_OOM)
			process_notice(x, m->notice.value);
		return 0;
	}
	return err_set(e, EPROTO, "the guest's agent sent a message out of place (type %u)",
		       m->head.type);
}

/* No more than some in a turn: there is no end to them if the guest likes, but to its time there is. */
static int take_messages(struct exec *x, struct err *e)
{
	for (int i = 0; i < TURN_MESSAGES && x->control >= 0; i++) {
		int r = agent_receive(x->control, &x->message, e);

		if (r <= 0)
			return r;
		x->message.got = 0;
		r = take_message(x, e);
		if (r)
			return r;
	}
	return 0;
}

/* ------ the loop ------ */

static bool finished(const struct exec *x)
{
	return x->exited && x->flow[1].from < 0 && x->flow[2].from < 0;
}

/* Whether something waits for one of our own descriptors, which may take its time. */
static bool waits_for_us(const struct exec *x)
{
	return x->flow[1].start < x->flow[1].end || x->flow[2].start < x->flow[2].end;
}

/* Milliseconds for poll, or -ETIMEDOUT. A process that has had its time is killed, and then its end
 * is waited for as that of any other: but no longer than for an answer.
 */
static int patience(struct exec *x, struct err *e)
{
	uint64_t now, until = x->started && !x->exited ? x->kill_ns
			      : x->created && !x->exited ? 0
							 : x->deadline_ns;

	if (!until || (x->exited && waits_for_us(x)))
		return -1;
	now = now_ns();
	if (now < until)
		return (int)MIN((until - now) / 1000000 + 1, INT_MAX);
	if (x->exited)
		return err_set(e, ETIMEDOUT, "the guest's agent does not end the streams");
	if (!x->started || x->timed_out)
		return err_set(e, ETIMEDOUT, "the guest's agent does not answer");
	x->timed_out = true;
	x->kill_ns = agent_deadline();
	send_signal(x, SIGKILL, x->rq->create ? AGENT_SIGNAL_PROCESS : AGENT_SIGNAL_GROUP);
	return 0;
}

/* Waits, and deals with what has happened. Errors of a local descriptor end its stream only; the
 * first is kept in *local and the command runs on.
 */
static int turn(struct exec *x, int *local, struct err *local_e, struct err *e)
{
	struct pollfd pfd[6] = {{.fd = x->control, .events = POLLIN},
				{.fd = x->signals, .events = POLLIN},
				{.fd = -1},
				{.fd = -1},
				{.fd = -1},
				{.fd = x->rq->cancel ? x->rq->cancel : -1, .events = POLLIN}};
	int timeout = patience(x, e);

	if (timeout < -1)
		return timeout;
	for (int i = 0; i < 3; i++) {
		const struct flow *f = &x->flow[i];
		bool full = f->start < f->end;

		/* Until then it may be an ERROR that waits there, see refused_stream(). */
		if (!f->inward && !x->started && !x->created)
			continue;
		pfd[2 + i] = (struct pollfd){.fd = full ? f->to : f->from,
					     .events = full ? POLLOUT : POLLIN};
	}
	if (poll(pfd, ARRAY_SIZE(pfd), timeout) < 0 && errno != EINTR)
		return err_sys(e, "poll");
	if (pfd[5].revents)
		return err_set(e, ECONNRESET, "the guest has ended");
	if (pfd[1].revents)
		take_signals(x);
	for (int i = 0; i < 3; i++) {
		struct flow *f = &x->flow[i];
		struct err why;
		int r = 0;

		if (pfd[2 + i].revents && x->exited)
			x->deadline_ns = agent_deadline();
		if (pfd[2 + i].revents)
			r = f->start < f->end ? flow_drain(x, f, &why) : flow_fill(f, &why);
		if (r && !*local) {
			*local = r;
			*local_e = why;
		}
	}
	return pfd[0].revents ? take_messages(x, e) : 0;
}

/* The command was not started and the control connection does not say why: perhaps one of the
 * streams was refused. r and *e are what is known; returns what is known better.
 */
static int refused_stream(struct exec *x, int r, struct err *e)
{
	for (int i = 0; i < AGENT_STREAMS; i++) {
		struct agent_message m = {0};
		struct err why;

		if (x->sock[i] >= 0 && agent_receive(x->sock[i], &m, &why) > 0 &&
		    m.head.type == AGENT_ERROR)
			return agent_error(&m, e);
	}
	return r;
}

static int run_session(struct exec *x, struct err *e)
{
	struct err local_e;
	int r = 0, local = 0;

	while (!r && !finished(x))
		r = turn(x, &local, &local_e, e);
	if (!r && local) {
		*e = local_e;
		x->status = 1;
		return local;
	}
	if ((r == -ETIMEDOUT || r == -ECONNRESET) && !x->started)
		r = refused_stream(x, r, e);
	return r;
}

/* ------ this process ------ */

static bool is_ignored(int signo)
{
	struct sigaction sa;

	return !sigaction(signo, NULL, &sa) && sa.sa_handler == SIG_IGN;
}

static int take_over(struct exec *x, struct err *e)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(passed_signals) && !x->rq->quiet; i++)
		if (!is_ignored(passed_signals[i]))
			sigaddset(&set, passed_signals[i]);
	sigaddset(&set, SIGWINCH);
	sigaction(SIGPIPE, &ignore, &x->old_pipe);
	sigprocmask(SIG_BLOCK, &set, &x->old_mask);
	x->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return x->signals < 0 ? err_sys(e, "signalfd") : 0;
}

static void give_back(struct exec *x)
{
	struct signalfd_siginfo late;

	tty_restore(&x->tty, x->fd[0]);
	/* What came too late was meant for the command, not for us. */
	if (x->signals >= 0) {
		while (read(x->signals, &late, sizeof(late)) > 0)
			continue;
		close(x->signals);
	}
	sigprocmask(SIG_SETMASK, &x->old_mask, NULL);
	sigaction(SIGPIPE, &x->old_pipe, NULL);
}

static struct exec *exec_new(const struct exec_request *rq)
{
	struct exec *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->rq = rq;
	for (int i = 0; i < 3; i++)
		x->fd[i] = rq->fds ? rq->fds[i] : i;
	x->control = x->signals = -1;
	x->status = 1;
	for (int i = 0; i < AGENT_STREAMS; i++)
		x->sock[i] = -1;
	for (int i = 0; i < 3; i++)
		x->flow[i].from = x->flow[i].to = -1;
	return x;
}

static void exec_free(struct exec *x)
{
	if (x->control >= 0)
		close(x->control);
	for (int i = 0; i < AGENT_STREAMS; i++)
		if (x->sock[i] >= 0)
			close(x->sock[i]);
	free(x);
}

int exec_run(const struct exec_request *rq, agent_dial_fn *dial, void *ctx, int *status,
	     struct err *e)
{
	struct exec *x;
	int r;

	*status = 1;
	x = exec_new(rq);
	if (!x)
		return err_set(e, ENOMEM, "out of memory");
	r = take_over(x, e);
	if (!r)
		r = open_session(x, dial, ctx, e);
	if (!r) {
		if (rq->tty)
			tty_raw(&x->tty, x->fd[0]);
		r = run_session(x, e);
	}
	give_back(x);
	*status = x->status;
	exec_free(x);
	return r;
}
