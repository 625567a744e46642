/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/net_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct net_stream *stream_of(struct net_backend *b)
{
	return CONTAINER_OF(b, struct net_stream, backend);
}

static uint32_t load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be32(uint8_t *p, uint32_t v)
{
	for (unsigned int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void consume(struct net_stream *s, size_t n)
{
	s->at += n;
	s->len -= n;
}

/* Reads what the socket has, as far as there is room. Returns 0, -EAGAIN or -ENOTCONN. */
static int more(struct net_stream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->at, s->len);
	s->at = 0;
	n = recv(s->backend.fd, s->in + s->len, NET_STREAM_BUFFER - s->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0)
		return -ENOTCONN;
	s->len += (size_t)n;
	return 0;
}

/* What a frame with an impossible length says is its own. Returns whether all of it has come. */
static bool skipped(struct net_stream *s)
{
	size_t n = (size_t)MIN(s->skip, s->len);

	consume(s, n);
	s->skip -= n;
	return !s->skip;
}

static int stream_receive(struct net_backend *b, struct net_frame *f)
{
	struct net_stream *s = stream_of(b);
	uint32_t len;
	int r = 0;

	/* At most twice: then there is a part of a frame, and the socket is empty, or has given so
	 * much that another round is due.
	 */
	for (unsigned int i = 0; i < 2; i++) {
		if (skipped(s) && s->len >= NET_STREAM_PREFIX) {
			len = load_be32(s->in + s->at);
			if (len < NET_FRAME_MIN || len > NET_FRAME_MAX) {
				consume(s, NET_STREAM_PREFIX);
				s->skip = len;
				return -EBADMSG;
			}
			if (s->len >= NET_STREAM_PREFIX + len) {
				f->header = (struct net_header){0};
				f->data = s->in + s->at + NET_STREAM_PREFIX;
				f->len = len;
				consume(s, NET_STREAM_PREFIX + len);
				return 0;
			}
		}
		if (i == 0)
			r = more(s);
		if (r)
			return r;
	}
	return -EAGAIN;
}

/* Puts what the socket has not taken aside. */
static void keep_rest(struct net_stream *s, const struct iovec *iov, unsigned int n, size_t done,
		      size_t all)
{
	s->sent = 0;
	s->left = iov_read(iov, n, done, s->out, all - done);
	s->backend.backlog = s->left;
}

static int gone_or_full(void)
{
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? -EAGAIN : -ENOTCONN;
}

static int stream_flush(struct net_backend *b)
{
	struct net_stream *s = stream_of(b);

	while (s->left) {
		ssize_t n = send(b->fd, s->out + s->sent, s->left, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return gone_or_full();
		s->sent += (size_t)n;
		s->left -= (size_t)n;
	}
	b->backlog = false;
	return 0;
}

static int stream_send(struct net_backend *b, const struct net_header *h, struct iovec *iov,
		       unsigned int n, size_t len)
{
	struct net_stream *s = stream_of(b);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n + 1};
	ssize_t done;

	(void)h; /* all zeros, since nothing has been offered that it could ask for */
	if (b->backlog)
		return -EAGAIN;
	store_be32(s->prefix, (uint32_t)len);
	iov[0] = (struct iovec){s->prefix, NET_STREAM_PREFIX};
	done = sendmsg(b->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done < 0)
		return gone_or_full();
	if ((size_t)done < NET_STREAM_PREFIX + len)
		keep_rest(s, iov, n + 1, (size_t)done, NET_STREAM_PREFIX + len);
	return 0;
}

int net_stream_init(struct net_stream *s, int fd, struct err *e)
{
	*s = (struct net_stream){.backend = {.receive = stream_receive,
					     .send = stream_send,
					     .flush = stream_flush,
					     .fd = fd}};
	s->in = malloc(NET_STREAM_BUFFER);
	s->out = malloc(NET_STREAM_PREFIX + NET_FRAME_MAX);
	if (s->in && s->out)
		return 0;
	free(s->in);
	free(s->out);
	return err_set(e, ENOMEM, "out of memory");
}

void net_stream_close(struct net_stream *s)
{
	close(s->backend.fd);
	free(s->in);
	free(s->out);
}
