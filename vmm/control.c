/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/rundir.h"
#include "vmm/sock.h"

static void client_close(struct control_client *cl)
{
	loop_del(cl->control->loop, &cl->source);
	close(cl->source.fd);
	cl->source.fd = -1;
	loop_watch(cl->control->loop, &cl->control->listener, EPOLLIN);
}

/* Sends the answer. A client that does not read is not waited for: it is cut off. */
static bool answer(struct control_client *cl, const char *text, size_t n)
{
	if (send(cl->source.fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n)
		return true;
	client_close(cl);
	return false;
}

static void do_status(struct control_client *cl)
{
	char text[CONTROL_ANSWER] = "ok\n";
	size_t n = 3;

	n += cl->control->status(cl->control->ctx, text + n, sizeof(text) - n - 1);
	text[n++] = '\n';
	answer(cl, text, n);
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

static const struct {
	const char *name;
	void (*serve)(struct control_client *cl);
} requests[] = {
	{"status", do_status},
	{"poweroff", do_poweroff},
	{"console", do_console},
};

static void serve_line(struct control_client *cl, const char *line)
{
	static const char unknown[] = "error unknown request\n\n";

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (!strcmp(line, requests[i].name)) {
			requests[i].serve(cl);
			return;
		}
	}
	answer(cl, unknown, sizeof(unknown) - 1);
}

static void client_ready(struct loop_source *s, uint32_t events)
{
	struct control_client *cl = CONTAINER_OF(s, struct control_client, source);
	ssize_t n = recv(s->fd, cl->line + cl->len, sizeof(cl->line) - cl->len, MSG_DONTWAIT);
	char *end;

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
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
	while (i < CONTROL_CLIENTS && c->client[i].source.fd >= 0)
		i++;
	if (i == CONTROL_CLIENTS) {
		loop_watch(c->loop, l, 0); /* until one of them goes */
		return;
	}
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	c->client[i] =
		(struct control_client){.control = c, .source = {.fd = fd, .ready = client_ready}};
	if (loop_add(c->loop, &c->client[i].source, EPOLLIN)) {
		close(fd);
		c->client[i].source.fd = -1;
	}
}

int control_init(struct control *c, int dir, struct err *e)
{
	int r = sock_listen(dir, RUNDIR_CONTROL, e);

	if (r < 0)
		return r;
	for (unsigned int i = 0; i < CONTROL_CLIENTS; i++)
		c->client[i].source.fd = -1;
	c->listener = (struct loop_source){.fd = r, .ready = listener_ready};
	r = loop_add(c->loop, &c->listener, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch the control socket: %s", strerror(-r)) : 0;
}
