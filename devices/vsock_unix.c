/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/vsock_unix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/sock.h"

/* The longest request line, "CONNECT 4294967295\n". */
#define LINE_MAX_LEN 19

/* One UNIX socket. Until its CONNECT line is complete it is ours alone; then the device owns it
 * through conn and frees it by unix_free.
 */
struct stream {
	struct vsock_conn conn;
	struct loop_source source;
	struct vsock_unix *owner;
	bool connected; /* the device knows it */
};

static struct stream *stream_of(struct vsock_conn *c)
{
	return CONTAINER_OF(c, struct stream, conn);
}

static void stream_hangup(struct stream *s)
{
	if (s->source.fd < 0)
		return;
	loop_del(s->owner->loop, &s->source);
	close(s->source.fd);
	s->source.fd = -1;
}

static void stream_free(struct stream *s)
{
	struct vsock_unix *u = s->owner;

	stream_hangup(s);
	u->streams--;
	if (u->listener.fd >= 0)
		loop_watch(u->loop, &u->listener, EPOLLIN); /* room again for one that waits */
	free(s);
}

/* Edge triggered: the device remembers what it was told until an operation says -EAGAIN, so a
 * busy stream costs no epoll_ctl.
 */
static struct stream *stream_new(struct vsock_unix *u, int fd,
				 void (*ready)(struct loop_source *, uint32_t))
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->owner = u;
	s->source = (struct loop_source){.fd = fd, .ready = ready};
	if (loop_add(u->loop, &s->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)) {
		free(s);
		return NULL;
	}
	u->streams++;
	return s;
}

/* --- a program on the host connects --- */

/* Takes the line off the socket once it is there as a whole, and not a byte more: what follows
 * is the guest's. Returns its length without the newline, 0 if it is not complete, or -EPROTO.
 */
static int take_line(int fd, char line[LINE_MAX_LEN + 1])
{
	ssize_t n = recv(fd, line, LINE_MAX_LEN, MSG_PEEK | MSG_DONTWAIT);
	char *end;

	if (n < 0)
		return errno == EAGAIN ? 0 : -EPROTO;
	if (n == 0)
		return -EPROTO;
	end = memchr(line, '\n', (size_t)n);
	if (!end)
		return n == LINE_MAX_LEN ? -EPROTO : 0;
	n = end - line;
	if (recv(fd, line, (size_t)n + 1, MSG_DONTWAIT) != n + 1)
		return -EPROTO;
	line[n] = 0;
	return n && strlen(line) == (size_t)n ? (int)n : -EPROTO;
}

static int parse_connect(const char *line, uint32_t *port)
{
	static const char verb[] = "CONNECT ";
	char *end;
	unsigned long v;

	if (strncmp(line, verb, strlen(verb)))
		return -EPROTO;
	line += strlen(verb);
	if (*line < '0' || *line > '9')
		return -EPROTO;
	v = strtoul(line, &end, 10);
	if (*end || v > UINT32_MAX)
		return -EPROTO;
	*port = (uint32_t)v;
	return 0;
}

/* Events of a stream, for the line first, for the device then. */
static void stream_ready(struct loop_source *source, uint32_t events)
{
	struct stream *s = CONTAINER_OF(source, struct stream, source);
	struct virtio_vsock *dev = s->owner->dev;
	unsigned int resets = dev->dev.resets;
	bool connected = s->connected, live = virtio_enter(&dev->dev);
	char line[LINE_MAX_LEN + 1];
	uint32_t port;
	int n;

	if (connected) {
		if (live && resets == dev->dev.resets) /* else a reset has freed s */
			vsock_stream_ready(dev, &s->conn,
					   events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR),
					   events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
		virtio_leave(&dev->dev);
		return;
	}
	n = take_line(source->fd, line);
	if (!n && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		n = -EPROTO; /* and the rest of it never comes */
	if (n < 0 || (n > 0 && (!live || parse_connect(line, &port)))) {
		stream_free(s);
	} else if (n > 0) {
		s->connected = true;
		if (vsock_connect(dev, &s->conn, port))
			stream_free(s);
	}
	virtio_leave(&dev->dev);
}

static void listener_ready(struct loop_source *l, uint32_t events)
{
	struct vsock_unix *u = CONTAINER_OF(l, struct vsock_unix, listener);
	int fd;

	(void)events;
	if (u->streams >= VSOCK_MAX_CONNS) { /* the guest's own count too */
		loop_watch(u->loop, l, 0);
		return;
	}
	fd = sock_accept(l->fd);
	if (fd < 0)
		return;
	if (!stream_new(u, fd, stream_ready))
		close(fd);
}

/* --- what the device asks for --- */

/* A stream to whoever serves the port. Returns a descriptor or -errno. */
static int connect_port(struct vsock_unix *u, uint32_t port)
{
	char name[64];

	for (struct vsock_service *s = u->services; s; s = s->next)
		if (s->port == port)
			return s->connect(s->ctx);
	snprintf(name, sizeof(name), "%s_%u", u->name, port);
	return sock_connect(u->dir, name, 1);
}

static int unix_connect(struct vsock_host *h, uint32_t port, struct vsock_conn **conn)
{
	struct vsock_unix *u = CONTAINER_OF(h, struct vsock_unix, host);
	struct stream *s;
	int fd;

	if (u->streams >= VSOCK_MAX_CONNS)
		return -EMFILE;
	fd = connect_port(u, port);
	if (fd < 0)
		return fd;
	s = stream_new(u, fd, stream_ready);
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->connected = true;
	*conn = &s->conn;
	return 0;
}

static void unix_accepted(struct vsock_host *h, struct vsock_conn *c)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	(void)h;
	/* The first bytes on an empty socket always fit; a peer that is gone is noticed later. */
	if (send(stream_of(c)->source.fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
		return;
}

static ssize_t unix_read(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			 unsigned int n)
{
	ssize_t r;

	(void)h;
	do
		r = readv(stream_of(c)->source.fd, iov, (int)n);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t unix_write(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			  unsigned int n)
{
	struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (int)n};
	ssize_t r;

	(void)h;
	do
		r = sendmsg(stream_of(c)->source.fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void unix_shutdown_write(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	shutdown(stream_of(c)->source.fd, SHUT_WR);
}

static void unix_hangup(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	stream_hangup(stream_of(c));
}

static void unix_free(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	stream_free(stream_of(c));
}

void vsock_unix_init(struct vsock_unix *u, int dir, const char *name, struct virtio_vsock *dev,
		     struct loop *loop)
{
	*u = (struct vsock_unix){
		.host = {.connect = unix_connect,
			 .accepted = unix_accepted,
			 .read = unix_read,
			 .write = unix_write,
			 .shutdown_write = unix_shutdown_write,
			 .hangup = unix_hangup,
			 .free = unix_free},
		.dev = dev,
		.loop = loop,
		.listener = {.fd = -1, .ready = listener_ready},
		.dir = dir,
		.name = name,
	};
}

int vsock_unix_listen(struct vsock_unix *u, struct err *e)
{
	int r = sock_listen(u->dir, u->name, e);

	if (r < 0)
		return r;
	u->listener.fd = r;
	r = loop_add(u->loop, &u->listener, EPOLLIN);
	if (r) {
		close(u->listener.fd);
		u->listener.fd = -1;
	}
	return r ? err_set(e, -r, "cannot watch a socket: %s", strerror(-r)) : 0;
}

void vsock_unix_serve(struct vsock_unix *u, struct vsock_service *s)
{
	s->next = u->services;
	u->services = s;
}

void vsock_unix_close(struct vsock_unix *u)
{
	if (u->listener.fd < 0)
		return;
	loop_del(u->loop, &u->listener);
	close(u->listener.fd);
}
