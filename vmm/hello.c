/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hello.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/sock.h"

static void end_conn(struct hello *h)
{
	loop_del(h->loop, &h->conn);
	close(h->conn.fd);
	h->conn.fd = -1;
	loop_watch(h->loop, &h->listener, EPOLLIN);
}

static bool is_hello(const uint8_t *message)
{
	struct agent_header head;

	memcpy(&head, message, sizeof(head));
	return head.magic == AGENT_MAGIC && head.version == AGENT_VERSION &&
	       head.type == AGENT_HELLO && head.length == sizeof(struct agent_info);
}

static void conn_ready(struct loop_source *s, uint32_t events)
{
	struct hello *h = CONTAINER_OF(s, struct hello, conn);
	ssize_t n = recv(s->fd, h->message + h->got, sizeof(h->message) - h->got, MSG_DONTWAIT);

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	h->got += n > 0 ? (size_t)n : 0;
	if (n > 0 && h->got < sizeof(h->message))
		return;
	if (h->got == sizeof(h->message) && is_hello(h->message)) {
		if (!h->seen)
			h->ready(h->ctx);
		h->seen = true;
	} else if (!h->complained) {
		h->complained = true;
		log_line("the guest's agent says something else than HELLO of version %u",
			 AGENT_VERSION);
	}
	end_conn(h);
}

/* One at a time: the rest wait in the backlog. */
static void listener_ready(struct loop_source *l, uint32_t events)
{
	struct hello *h = CONTAINER_OF(l, struct hello, listener);

	(void)events;
	h->conn.fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (h->conn.fd < 0)
		return;
	h->got = 0;
	if (loop_add(h->loop, &h->conn, EPOLLIN)) {
		close(h->conn.fd);
		return;
	}
	loop_watch(h->loop, l, 0);
}

int hello_init(struct hello *h, int dir, const char *vsock_name, struct loop *loop, struct err *e)
{
	char name[64];
	int r;

	snprintf(name, sizeof(name), "%s_%u", vsock_name, AGENT_PORT);
	r = sock_listen(dir, name, e);
	if (r < 0)
		return r;
	h->loop = loop;
	h->seen = h->complained = false;
	h->conn = (struct loop_source){.fd = -1, .ready = conn_ready};
	h->listener = (struct loop_source){.fd = r, .ready = listener_ready};
	r = loop_add(loop, &h->listener, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch a socket: %s", strerror(-r)) : 0;
}
