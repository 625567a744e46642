/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/rundir.h"
#include "vmm/sock.h"

static void drop_passed(struct control_client *cl)
{
	if (cl->passed >= 0)
		close(cl->passed);
	cl->passed = -1;
}

static void client_close(struct control_client *cl)
{
	struct control *c = cl->control;

	loop_del(c->loop, &cl->source);
	drop_passed(cl);
	if (cl->traces)
		c->trace_end(c->ctx);
	cl->traces = false;
	cl->serial++;
	close(cl->source.fd);
	cl->source.fd = -1;
	cl->control = NULL;
	loop_watch(c->loop, &c->listener, EPOLLIN);
}

/* Sends the answer. A client that does not read is not waited for: it is cut off. */
static bool answer(struct control_client *cl, const char *text, size_t n)
{
	if (send(cl->source.fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n)
		return true;
	client_close(cl);
	return false;
}

static void tell(struct control_client *cl, size_t (*what)(void *ctx, char *text, size_t size))
{
	char text[CONTROL_ANSWER] = "ok\n";
	size_t n = 3;

	n += what(cl->control->ctx, text + n, sizeof(text) - n - 1);
	text[n++] = '\n';
	answer(cl, text, n);
}

static void do_status(struct control_client *cl)
{
	tell(cl, cl->control->status);
}

static void do_stats(struct control_client *cl)
{
	tell(cl, cl->control->stats);
}

static void do_poweroff(struct control_client *cl)
{
	if (answer(cl, "ok\n\n", 4))
		end_set(cl->control->end, END_STOPPED, "switched off by a control command");
}

static void do_console(struct control_client *cl)
{
	struct control *c = cl->control;
	int fd = dup(cl->source.fd);

	if (fd < 0 || !answer(cl, "ok\n\n", 4)) {
		if (fd >= 0)
			close(fd);
		return;
	}
	client_close(cl);
	console_attach(c->console, fd);
}

/* After a request that was done at once, or was not: r is an error then. */
static void conclude(struct control_client *cl, int r, const struct err *e)
{
	char text[sizeof(e->text) + 16] = "ok\n\n";

	if (r)
		snprintf(text, sizeof(text), "error %s\n\n", e->text);
	answer(cl, text, strlen(text));
}

static void set_paused(struct control_client *cl, bool on)
{
	struct err e;
	int r = cl->control->pause(cl->control->ctx, on, &e);

	conclude(cl, r, &e);
}

static void do_pause(struct control_client *cl)
{
	set_paused(cl, true);
}

static void do_resume(struct control_client *cl)
{
	set_paused(cl, false);
}

static void do_trace(struct control_client *cl)
{
	struct err e;
	int r = cl->control->trace(cl->control->ctx, cl->passed, &e);

	cl->traces |= !r;
	drop_passed(cl);
	conclude(cl, r, &e);
}

static void do_balloon(struct control_client *cl, const char *argument)
{
	struct control *c = cl->control;
	char *end;
	unsigned long long bytes = strtoull(argument, &end, 10);
	bool good = *argument >= '0' && *argument <= '9' && !*end;
	struct err e;
	int r = good ? c->balloon(c->ctx, bytes, &e)
		     : err_set(&e, EINVAL, "balloon takes a number of bytes");

	conclude(cl, r, &e);
}

static void do_attach(struct control_client *cl, const char *argument)
{
	struct control *c = cl->control;
	int fd = cl->passed, r;
	char lines[256] = "", text[sizeof(lines) + 8];
	struct err e;

	cl->passed = -1;
	r = c->attach(c->ctx, argument, fd, lines, sizeof(lines), &e);
	if (r) {
		conclude(cl, r, &e);
		return;
	}
	answer(cl, text, (size_t)snprintf(text, sizeof(text), "ok\n%s\n", lines));
}

static void do_detach(struct control_client *cl, const char *argument)
{
	struct control *c = cl->control;
	char *end;
	unsigned long slot = strtoul(argument, &end, 10);
	bool good = *argument >= '0' && *argument <= '9' && !*end && slot <= UINT32_MAX;
	struct err e;
	int r = good ? c->detach(c->ctx, (unsigned int)slot, &e)
		     : err_set(&e, EINVAL, "detach takes a slot's number");

	conclude(cl, r, &e);
}

static struct control_ticket ticket_of(const struct control_client *cl)
{
	return (struct control_ticket){(unsigned int)(cl - cl->control->client), cl->serial};
}

/* After a request whose answer comes by control_answer: it was not begun if r is an error. The
 * client waits from before it is begun, for the answer may come at once.
 */
static void refuse(struct control_client *cl, int r, const struct err *e)
{
	if (!r)
		return;
	cl->waiting = false;
	conclude(cl, r, e);
}

static void snapshot(struct control_client *cl, const char *name, enum control_snapshot how)
{
	struct control *c = cl->control;
	int at = cl->passed, r;
	struct err e;

	cl->passed = -1;
	cl->waiting = true;
	r = at < 0 ? err_set(&e, EINVAL, "no directory came with the request")
		   : c->snapshot(c->ctx, ticket_of(cl), at, cl->place, name, how, &e);
	refuse(cl, r, &e);
}

static void do_place(struct control_client *cl, const char *argument)
{
	struct err e;
	int r = *argument == '/' ? 0 : err_set(&e, EINVAL, "place takes an absolute path");

	if (!r)
		snprintf(cl->place, sizeof(cl->place), "%s", argument);
	conclude(cl, r, &e);
}

static void do_snapshot(struct control_client *cl, const char *argument)
{
	snapshot(cl, argument, CONTROL_GO_ON);
}

static void do_snapshot_stop(struct control_client *cl, const char *argument)
{
	snapshot(cl, argument, CONTROL_STOP);
}

static void do_template(struct control_client *cl, const char *argument)
{
	snapshot(cl, argument, CONTROL_TEMPLATE);
}

static void do_fork(struct control_client *cl, const char *argument)
{
	struct control *c = cl->control;
	struct err e;
	char *end;
	unsigned long n = strtoul(argument, &end, 10);
	bool good = end != argument && n <= UINT32_MAX && (!*end || *end == ' ');

	cl->waiting = true;
	refuse(cl,
	       good ? c->fork(c->ctx, ticket_of(cl), *end ? end + 1 : end, (unsigned int)n, &e)
		    : err_set(&e, EINVAL, "fork takes a number and a name"),
	       &e);
}

/* These many of them also a process that is no VM takes. */
#define REQUESTS_OF_ALL 2

static const struct {
	const char *name;
	void (*serve)(struct control_client *cl);
	void (*serve_argument)(struct control_client *cl, const char *argument);
} requests[] = {
	{"status", do_status, NULL},
	{"poweroff", do_poweroff, NULL},
	{"stats", do_stats, NULL},
	{"pause", do_pause, NULL},
	{"resume", do_resume, NULL},
	{"balloon", NULL, do_balloon},
	{"console", do_console, NULL},
	{"trace", do_trace, NULL},
	{"place", NULL, do_place},
	{"snapshot", NULL, do_snapshot},
	{"snapshot-stop", NULL, do_snapshot_stop},
	{"template", NULL, do_template},
	{"fork", NULL, do_fork},
	{"attach", NULL, do_attach},
	{"detach", NULL, do_detach},
};

static void serve_line(struct control_client *cl, const char *line)
{
	static const char unknown[] = "error unknown request\n\n";
	size_t len = strcspn(line, " ");
	const char *argument = line[len] ? line + len + 1 : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (strlen(requests[i].name) != len || memcmp(line, requests[i].name, len) ||
		    !argument != !requests[i].serve_argument ||
		    (!cl->control->console && i >= REQUESTS_OF_ALL))
			continue;
		if (argument)
			requests[i].serve_argument(cl, argument);
		else
			requests[i].serve(cl);
		return;
	}
	answer(cl, unknown, sizeof(unknown) - 1);
}

static struct control_client *holder(struct control *c, struct control_ticket ticket)
{
	struct control_client *cl = &c->client[ticket.client];

	return cl->control && cl->serial == ticket.serial && cl->waiting ? cl : NULL;
}

void control_answer(struct control *c, struct control_ticket ticket, const char *text, size_t n)
{
	struct control_client *cl = holder(c, ticket);

	if (!cl)
		return;
	cl->waiting = false;
	answer(cl, text, n);
}

void control_progress(struct control *c, struct control_ticket ticket, const char *line, size_t n)
{
	struct control_client *cl = holder(c, ticket);

	if (cl) /* a reader that is slow misses some */
		(void)!send(cl->source.fd, line, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* As recv; keeps a descriptor that comes along. */
static ssize_t receive(struct control_client *cl)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {cl->line + cl->len, sizeof(cl->line) - cl->len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(cl->source.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	if (!h || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
		return n;
	/* The space is rounded up, so there may be two. The last is kept. */
	for (size_t at = CMSG_LEN(0); at + sizeof(int) <= h->cmsg_len; at += sizeof(int)) {
		drop_passed(cl);
		memcpy(&cl->passed, (char *)h + at, sizeof(int));
	}
	return n;
}

static void client_ready(struct loop_source *s, uint32_t events)
{
	struct control_client *cl = CONTAINER_OF(s, struct control_client, source);
	ssize_t n = receive(cl);
	char *end;

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || cl->waiting) { /* who waits has nothing to say */
		client_close(cl);
		return;
	}
	cl->len += (size_t)n;
	end = memchr(cl->line, '\n', cl->len);
	if (!end) {
		if (cl->len == sizeof(cl->line))
			client_close(cl);
		return;
	}
	/* A client reads the answer before it asks again, so nothing is behind the line. */
	*end = 0;
	cl->len = 0;
	serve_line(cl, cl->line);
}

static void listener_ready(struct loop_source *l, uint32_t events)
{
	struct control *c = CONTAINER_OF(l, struct control, listener);
	unsigned int i = 0;
	int fd;

	(void)events;
	while (i < CONTROL_CLIENTS && c->client[i].control)
		i++;
	if (i == CONTROL_CLIENTS) {
		loop_watch(c->loop, l, 0); /* until one of them goes */
		return;
	}
	fd = sock_accept(l->fd);
	if (fd < 0)
		return;
	c->client[i] = (struct control_client){.control = c,
					       .source = {.fd = fd, .ready = client_ready},
					       .passed = -1,
					       .serial = c->client[i].serial};
	if (loop_add(c->loop, &c->client[i].source, EPOLLIN)) {
		close(fd);
		c->client[i].control = NULL;
	}
}

int control_init(struct control *c, int dir, struct err *e)
{
	int r = sock_listen(dir, RUNDIR_CONTROL, e);

	if (r < 0)
		return r;
	c->listener = (struct loop_source){.fd = r, .ready = listener_ready};
	r = loop_add(c->loop, &c->listener, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch the control socket: %s", strerror(-r)) : 0;
}
