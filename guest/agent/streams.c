/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/session.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Steps of a session's pumps before the others have their turn. */
#define TURN_STEPS 16

/* More than a terminal can hold of its process' output, wherever it has got to. */
#define TTY_REST_MAX 65536u

#define CTRL_D 4

void session_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_child_ends(struct plumbing *p)
{
	for (int i = 0; i < 3; i++)
		session_close_fd(&p->child[i]);
	session_close_fd(&p->report[1]);
}

void plumbing_close(struct plumbing *p)
{
	close_child_ends(p);
	for (int i = 0; i < 3; i++)
		session_close_fd(&p->ours[i]);
	session_close_fd(&p->report[0]);
}

/* A pipe whose end ours (0: read, 1: write) is non-blocking. Returns 0 or -1 with errno. */
static int make_pipe(int fds[2], int ours)
{
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	return fcntl(fds[ours], F_SETFL, O_NONBLOCK);
}

int plumbing_pipes(struct plumbing *p, uint32_t streams)
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

int session_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

int session_join_tty(struct agent *a, struct session *s, int master)
{
	int in[2], out[2], sock = fcntl(s->stream[AGENT_TTY], F_DUPFD_CLOEXEC, 3);
	int again = fcntl(master, F_DUPFD_CLOEXEC, 3);

	pump_open(&s->pump[3], -1, sock); /* owned from here on, whatever comes */
	pump_open(&s->pump[2], master, -1);
	pump_open(&s->pump[1], -1, again);
	if (sock < 0 || again < 0 || pipe2(in, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[0], session_take(&s->stream[AGENT_TTY]), in[1]);
	pump_open(&s->pump[1], in[0], again);
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
		return -1;
	pump_open(&s->pump[2], master, out[1]);
	pump_open(&s->pump[3], out[0], sock);
	/* A client that comes and goes hangs up nothing. */
	if (session_wants_keep(s))
		s->pump[3].sink = a->null;
	else
		s->pump[0].last = CTRL_D;
	return 0;
}

void session_join_pipes(struct agent *a, struct session *s, struct plumbing *p)
{
	if (s->stream[AGENT_STDIN] >= 0)
		pump_open(&s->pump[0], session_take(&s->stream[AGENT_STDIN]), session_take(&p->ours[0]));
	for (int i = AGENT_STDOUT; i <= AGENT_STDERR; i++) {
		if (s->stream[i] < 0)
			continue;
		pump_open(&s->pump[i], session_take(&p->ours[i]), session_take(&s->stream[i]));
		if (session_wants_keep(s))
			s->pump[i].sink = a->null;
	}
}

int session_watch_pumps(struct agent *a, struct session *s)
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

bool session_pumps(const struct session *s)
{
	for (int i = 0; i < SESSION_PUMPS; i++)
		if (pump_active(&s->pump[i]))
			return true;
	return false;
}

void session_pump_some(struct agent *a, struct session *s, int first, int last)
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
	session_pump_some(a, s, 0, SESSION_PUMPS - 1);
}

void session_drain(struct session *s)
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
