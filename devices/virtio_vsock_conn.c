/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_vsock_conn.h"

#include <errno.h>
#include <stdlib.h>

static struct vsock_conn **bucket_of(struct virtio_vsock *v, uint32_t host_port,
				     uint32_t guest_port)
{
	return &v->bucket[(host_port * 31 + guest_port) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = *bucket_of(v, host_port, guest_port);

	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = c->next_hashed;
	return c;
}

void vsock_enter(struct virtio_vsock *v, struct vsock_conn *c)
{
	struct vsock_conn **b = bucket_of(v, c->host_port, c->guest_port);

	c->next_hashed = *b;
	*b = c;
	c->hashed = true;
	c->alloc = v->conns < VSOCK_WIDE ? VSOCK_BUFFER : VSOCK_BUFFER_SMALL;
	v->conns++;
}

void vsock_activate(struct virtio_vsock *v, struct vsock_conn *c)
{
	if (c->active)
		return;
	c->active = true;
	c->next_active = NULL;
	if (v->active_last)
		v->active_last->next_active = c;
	else
		v->active_first = c;
	v->active_last = c;
}

void vsock_deactivate(struct virtio_vsock *v, struct vsock_conn *c)
{
	struct vsock_conn *before = NULL, *at = v->active_first;

	if (!c->active)
		return;
	while (at != c) {
		before = at;
		at = at->next_active;
	}
	if (before)
		before->next_active = c->next_active;
	else
		v->active_first = c->next_active;
	if (v->active_last == c)
		v->active_last = before;
	c->active = false;
}

void vsock_owe(struct virtio_vsock *v, struct vsock_conn *c, uint32_t what)
{
	c->owed |= what;
	vsock_activate(v, c);
}

void vsock_drop(struct virtio_vsock *v, struct vsock_conn *c)
{
	struct vsock_conn **p = bucket_of(v, c->host_port, c->guest_port);

	while (*p != c)
		p = &(*p)->next_hashed;
	*p = c->next_hashed;
	v->conns--;
	vsock_deactivate(v, c);
	free(c->buffer);
	v->host->free(v->host, c);
}

void vsock_drop_all(struct virtio_vsock *v)
{
	for (unsigned int i = 0; i < VSOCK_BUCKETS; i++)
		while (v->bucket[i])
			vsock_drop(v, v->bucket[i]);
	v->strays = 0;
}

static uint32_t buffer_room(const struct vsock_conn *c)
{
	return c->alloc - c->buffered;
}

/* The free part of the ring (which = 0), or its content (1), as up to two iovecs. */
static unsigned int buffer_iov(const struct vsock_conn *c, int content, struct iovec out[2])
{
	uint32_t start = (c->buffer_head + (content ? 0 : c->buffered)) % c->alloc;
	uint32_t len = content ? c->buffered : buffer_room(c);
	uint32_t first = MIN(len, c->alloc - start);

	out[0] = (struct iovec){c->buffer + start, first};
	out[1] = (struct iovec){c->buffer, len - first};
	return len > first ? 2 : 1;
}

void vsock_forwarded(struct virtio_vsock *v, struct vsock_conn *c, uint32_t n)
{
	c->forwarded += n;
	if (c->forwarded - c->told >= c->alloc / 2)
		vsock_owe(v, c, OWE_CREDIT);
}

void vsock_host_closed(struct virtio_vsock *v, struct vsock_conn *c)
{
	c->host_closed = true;
	vsock_forwarded(v, c, c->buffered);
	c->buffered = 0;
	vsock_owe(v, c, OWE_SHUTDOWN);
}

size_t vsock_write(struct virtio_vsock *v, struct vsock_conn *c, const struct iovec *iov,
		   unsigned int n)
{
	ssize_t done;

	if (!c->writable || c->host_closed)
		return 0;
	done = v->host->write(v->host, c, iov, n);
	if (done == -EAGAIN)
		c->writable = false;
	else if (done < 0)
		vsock_host_closed(v, c);
	return done > 0 ? (size_t)done : 0;
}

void vsock_drained(struct virtio_vsock *v, struct vsock_conn *c)
{
	if (c->buffered || !(c->guest_shut & VSOCK_NO_SEND))
		return;
	if (!c->write_shut && !c->host_gone) {
		c->write_shut = true;
		v->host->shutdown_write(v->host, c);
	}
	/* Both sides have said all they will: a reset is how the guest learns that its close is
	 * complete (5.10.6.6).
	 */
	if (c->guest_shut & VSOCK_NO_RECEIVE || c->host_shut & VSOCK_NO_SEND)
		vsock_owe(v, c, OWE_RST);
}

void vsock_flush(struct virtio_vsock *v, struct vsock_conn *c)
{
	while (c->buffered && c->writable && !c->host_closed) {
		struct iovec iov[2];
		size_t done = vsock_write(v, c, iov, buffer_iov(c, 1, iov));

		if (!done)
			break;
		c->buffer_head = (c->buffer_head + (uint32_t)done) % c->alloc;
		c->buffered -= (uint32_t)done;
		vsock_forwarded(v, c, (uint32_t)done);
	}
	vsock_drained(v, c);
}

/* The connection has the buffer, which the analyser loses sight of. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
int vsock_keep(struct vsock_conn *c, const struct vq_chain *ch, size_t offset, uint32_t len)
{
	if (!c->buffer)
		c->buffer = malloc(c->alloc);
	if (!c->buffer)
		return -ENOMEM;
	while (len) {
		struct iovec iov[2];
		size_t part;

		buffer_iov(c, 0, iov);
		part = iov_read(ch->iov, ch->readable, offset, iov[0].iov_base,
				MIN(len, iov[0].iov_len));
		c->buffered += (uint32_t)part;
		offset += part;
		len -= (uint32_t)part;
	}
	return 0;
}
#pragma GCC diagnostic pop
