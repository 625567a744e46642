/* SPDX-License-Identifier: Apache-2.0
 *
 * What a snapshot has of the socket device: virtio_vsock_state, virtio_vsock_kept.
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio_vsock_conn.h"

/* A device as it is saved: the connection that is kept, and the ports of those that are not. */
struct saved {
	uint32_t next_port;
	bool kept;
	struct vsock_conn conn;
	uint32_t resets;
	uint32_t host_port[VSOCK_RESETS], guest_port[VSOCK_RESETS];
};

#define CONN(m) STATE_SCALAR(struct saved, conn.m, 1)
const struct state_table virtio_vsock_table = {
	.name = "vsock",
	.version = 1,
	.fields = (const struct state_field[]){STATE_SCALAR(struct saved, next_port, 1),
					       STATE_SCALAR(struct saved, kept, 1),
					       CONN(host_port),
					       CONN(guest_port),
					       CONN(peer_alloc),
					       CONN(peer_forwarded),
					       CONN(sent),
					       CONN(received),
					       CONN(forwarded),
					       CONN(told),
					       CONN(owed),
					       STATE_VARIABLE(struct saved, host_port, resets, 1),
					       STATE_VARIABLE(struct saved, guest_port, resets, 1),
					       {0}}};
#undef CONN

static bool at_rest(const struct vsock_conn *c)
{
	return c->open && !c->guest_shut && !c->host_eof && !c->host_closed && !c->buffered &&
	       !(c->owed & ~OWE_CREDIT) && c->received == c->forwarded;
}

static struct vsock_conn *kept(struct virtio_vsock *v, uint32_t port)
{
	for (unsigned int i = 0; i < VSOCK_BUCKETS; i++)
		for (struct vsock_conn *c = v->bucket[i]; c; c = c->next_hashed)
			if (c->host_port == port && at_rest(c))
				return c;
	return NULL;
}

bool virtio_vsock_kept(struct virtio_vsock *v, uint32_t keep_port)
{
	return kept(v, keep_port);
}

static void pack(struct virtio_vsock *v, uint32_t keep_port, struct saved *s)
{
	struct vsock_conn *keep = kept(v, keep_port);

	s->next_port = v->next_port;
	s->kept = keep;
	if (keep)
		s->conn = *keep;
	for (unsigned int i = 0; i < v->strays; i++, s->resets++) {
		s->host_port[s->resets] = v->stray[i].host_port;
		s->guest_port[s->resets] = v->stray[i].guest_port;
	}
	for (unsigned int i = 0; i < VSOCK_BUCKETS; i++)
		for (struct vsock_conn *c = v->bucket[i]; c; c = c->next_hashed) {
			if (c == keep || s->resets == VSOCK_RESETS)
				continue;
			s->host_port[s->resets] = c->host_port;
			s->guest_port[s->resets++] = c->guest_port;
		}
}

static int restore_kept(struct virtio_vsock *v, uint32_t keep_port, const struct saved *s,
			struct err *e)
{
	struct vsock_conn *c;
	int r;

	if (s->conn.host_port != keep_port || s->conn.received != s->conn.forwarded)
		return err_set(e, EINVAL,
			       "the snapshot is damaged: it has a connection of the guest's that is not the agent's");
	r = v->host->connect(v->host, keep_port, &c);
	if (r)
		return err_set(e, -r, "cannot make the agent's connection anew: %s", strerror(-r));
	c->host_port = s->conn.host_port;
	c->guest_port = s->conn.guest_port;
	c->peer_alloc = s->conn.peer_alloc;
	c->peer_forwarded = s->conn.peer_forwarded;
	c->sent = s->conn.sent;
	c->received = s->conn.received;
	c->forwarded = s->conn.forwarded;
	c->told = s->conn.told;
	c->owed = s->conn.owed & OWE_CREDIT;
	c->open = c->writable = c->readable = true;
	vsock_enter(v, c);
	vsock_activate(v, c);
	return 0;
}

static int unpack(struct virtio_vsock *v, uint32_t keep_port, const struct saved *s, struct err *e)
{
	v->next_port = s->next_port;
	for (uint32_t i = 0; i < s->resets; i++)
		v->stray[v->strays++] = (struct vsock_stray){s->host_port[i], s->guest_port[i]};
	return s->kept ? restore_kept(v, keep_port, s, e) : 0;
}

int virtio_vsock_state(struct virtio_vsock *v, uint32_t instance, uint32_t keep_port,
		       struct state_visitor *visitor, struct err *e)
{
	struct saved s = {0};
	int r;

	if (!state_loading(visitor)) {
		virtio_enter(&v->dev); /* a reset that is owed drops connections */
		virtio_leave(&v->dev);
		pack(v, keep_port, &s);
	}
	r = virtio_state(&v->dev, instance, visitor, e);
	if (!r)
		r = state_visit(visitor, &virtio_vsock_table, instance, &s, e);
	if (!r && state_loading(visitor))
		r = unpack(v, keep_port, &s, e);
	return r;
}
