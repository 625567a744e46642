/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/log.h"

/* Arms the timer. Nobody disarms it: without a request its end means nothing, and the next request
 * arms it anew.
 */
static void set_timer(struct link *l, unsigned int ms)
{
	struct itimerspec t = {
		.it_value = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}};

	timerfd_settime(l->timer.fd, 0, &t, NULL);
}

/* Ends the request that is under way, if there is one. */
static void finish(struct link *l, int result, struct err *e)
{
	link_done_fn *done = l->done;

	if (!done)
		return;
	l->done = NULL;
	done(l->done_ctx, result, e);
}

static void end_conn(struct link *l)
{
	struct err e;

	if (l->conn.fd < 0)
		return;
	loop_del(l->loop, &l->conn);
	close(l->conn.fd);
	l->conn.fd = -1;
	finish(l, err_set(&e, ECONNRESET, "the guest's agent closed its connection"), &e);
}

static void greet(struct link *l)
{
	bool first = !l->seen;

	l->greeted = l->seen = true;
	if (first && l->ready)
		l->ready(l->ctx);
}

/* The answer to a request, if it is the one that is waited for and not to one that timed out. */
static void answer(struct link *l, struct err *e)
{
	if (l->in.head.tag == l->tag)
		finish(l, l->in.head.type == AGENT_ERROR ? agent_error(&l->in, e) : 0, e);
}

/* Takes a complete message. Returns 0, or -EPROTO with e set for one that no agent sends here. */
static int take(struct link *l, struct err *e)
{
	uint16_t type = l->in.head.type;

	if (!l->greeted && type == AGENT_HELLO)
		greet(l);
	else if (l->greeted && (type == AGENT_OK || type == AGENT_ERROR))
		answer(l, e);
	else
		return err_set(e, EPROTO, "the guest's agent sent a message out of place (type %u)",
			       type);
	return 0;
}

/* One message a turn, so that a guest that floods the link keeps nobody else waiting. */
static void conn_ready(struct loop_source *s, uint32_t events)
{
	struct link *l = CONTAINER_OF(s, struct link, conn);
	struct err e = {{0}};
	int r = agent_receive(s->fd, &l->in, &e);

	(void)events;
	if (!r)
		return;
	l->in.got = 0;
	if (r > 0)
		r = take(l, &e);
	if (r == -EPROTO && !l->complained) {
		l->complained = true;
		log_warn("%s", e.text);
	}
	if (r < 0)
		end_conn(l);
}

static void timed_out(struct loop_source *s, uint32_t events)
{
	struct link *l = CONTAINER_OF(s, struct link, timer);
	uint64_t times;
	struct err e;

	(void)events;
	if (read(s->fd, &times, sizeof(times)) == sizeof(times))
		finish(l, err_set(&e, ETIMEDOUT, "the guest's agent does not answer"), &e);
}

int link_init(struct link *l, struct loop *loop, struct err *e)
{
	int r;

	*l = (struct link){.loop = loop, .ready = l->ready, .ctx = l->ctx};
	l->conn = (struct loop_source){.fd = -1, .ready = conn_ready};
	l->timer = (struct loop_source){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.ready = timed_out};
	if (l->timer.fd < 0)
		return err_sys(e, "cannot make a timerfd");
	r = loop_add(loop, &l->timer, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch a timer: %s", strerror(-r)) : 0;
}

void link_close(struct link *l)
{
	end_conn(l);
	loop_del(l->loop, &l->timer);
	close(l->timer.fd);
	l->timer.fd = -1;
}

int link_connect(void *ctx)
{
	struct link *l = ctx;
	int pair[2], r;

	if (l->conn.fd >= 0)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	l->conn.fd = pair[0];
	l->in.got = 0;
	l->greeted = false;
	r = loop_add(l->loop, &l->conn, EPOLLIN);
	if (!r)
		return pair[1];
	l->conn.fd = -1;
	close(pair[0]);
	close(pair[1]);
	return r;
}

int link_restore(struct link *l, struct err *e)
{
	int r = link_connect(l);

	if (r < 0)
		return err_set(e, -r, "cannot connect to the guest's agent: %s", strerror(-r));
	l->greeted = l->seen = true;
	return r;
}

bool link_up(const struct link *l)
{
	return l->conn.fd >= 0 && l->greeted;
}

int link_request(struct link *l, enum agent_type type, const void *payload, size_t len,
		 unsigned int timeout_ms, link_done_fn *done, void *ctx, struct err *e)
{
	struct agent_header head = {.magic = AGENT_MAGIC,
				    .version = AGENT_VERSION,
				    .type = (uint16_t)type,
				    .length = (uint32_t)len,
				    .tag = l->tag + 1};
	struct iovec iov[] = {{&head, sizeof(head)}, {(void *)(uintptr_t)payload, len}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
	ssize_t n;

	if (!link_up(l))
		return err_set(e, ENOTCONN, "the guest's agent is not connected");
	if (l->done)
		return err_set(e, EBUSY, "the guest's agent has a request to answer already");
	n = sendmsg(l->conn.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return err_sys(e, "cannot send to the guest's agent");
	if (n != (ssize_t)(sizeof(head) + len)) {
		end_conn(l); /* what would follow could not be understood */
		return err_set(e, EIO, "cannot send a whole message to the guest's agent");
	}
	l->tag = head.tag;
	l->done = done;
	l->done_ctx = ctx;
	set_timer(l, timeout_ms);
	return 0;
}
