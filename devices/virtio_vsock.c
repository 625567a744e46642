/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "devices/virtio_vsock_conn.h"

#define VIRTIO_ID_VSOCK 19

enum { RX, TX, EVENT, QUEUES };

/* Packet header (5.10.6). */
struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct packet) == 44, "virtio 1.2, 5.10.6");

#define TYPE_STREAM 1

#define FIRST_HOST_PORT (1u << 30) /* away from the ports that services listen on */

/* Packets handled in a row before others get their turn. */
#define ROUND 256

/* How many packets that were taken from the guest, and for how long, it need not be told of. It has
 * their memory back later, and an interrupt less for each.
 */
#define LAZY_PACKETS 16u
#define LAZY_NS	     1000000

static struct virtio_vsock *vsock_of(struct virtio_dev *d)
{
	return CONTAINER_OF(d, struct virtio_vsock, dev);
}

/* --- from the guest to the stream --- */

/* A packet may be one that a reset answers, and there would be no place to remember that: it waits
 * in the queue until the guest gives receive buffers for those that are owed (5.10.6.3).
 */
static bool strays_full(const struct virtio_vsock *v)
{
	return v->strays >= VSOCK_STRAYS;
}

static void stray(struct virtio_vsock *v, const struct packet *p)
{
	if (p->op == OP_RST)
		return;
	v->stray[v->strays++] = (struct vsock_stray){p->dst_port, p->src_port};
}

/* Bytes from the guest: len of them behind the header in the chain that was popped. */
static void take_data(struct virtio_vsock *v, struct vsock_conn *c, uint32_t len)
{
	const struct vq_chain *ch = &v->chain;
	size_t done = 0;

	if (c->guest_shut & VSOCK_NO_SEND || len > c->alloc - (c->received - c->forwarded)) {
		vsock_owe(v, c, OWE_RST); /* sent after its end, or more than its credit */
		return;
	}
	c->received += len;
	v->received_bytes += len;
	if (c->host_closed) {
		vsock_forwarded(v, c, len);
		return;
	}
	if (!c->buffered) {
		unsigned int n =
			iov_slice(ch->iov, ch->readable, sizeof(struct packet), len, v->part);

		done = vsock_write(v, c, v->part, n);
		vsock_forwarded(v, c, (uint32_t)done);
	}
	if (done == len)
		return;
	if (c->host_closed) {
		vsock_forwarded(v, c, len - (uint32_t)done);
		return;
	}
	if (vsock_keep(c, ch, sizeof(struct packet) + done, len - (uint32_t)done)) {
		vsock_owe(v, c, OWE_RST);
		return;
	}
	vsock_flush(v, c); /* it may take more, as long as it has not said -EAGAIN */
}
static void guest_request(struct virtio_vsock *v, const struct packet *p)
{
	struct vsock_conn *c;

	if (vsock_find(v, p->dst_port, p->src_port) || v->conns == VSOCK_MAX_CONNS ||
	    v->host->connect(v->host, p->dst_port, &c)) {
		stray(v, p);
		return;
	}
	c->host_port = p->dst_port;
	c->guest_port = p->src_port;
	c->peer_alloc = p->buf_alloc;
	c->peer_forwarded = p->fwd_cnt;
	c->open = true;
	c->writable = c->readable = true; /* try and see */
	vsock_enter(v, c);
	vsock_owe(v, c, OWE_RESPONSE);
}

static void guest_accepts(struct virtio_vsock *v, struct vsock_conn *c)
{
	if (c->open) {
		vsock_owe(v, c, OWE_RST);
		return;
	}
	c->open = true;
	c->writable = c->readable = true;
	vsock_activate(v, c);
	v->host->accepted(v->host, c);
}

static void guest_shuts(struct virtio_vsock *v, struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & (VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	vsock_drained(v, c);
}

/* A packet of an existing connection. */
static void guest_packet(struct virtio_vsock *v, struct vsock_conn *c, const struct packet *p)
{
	c->peer_alloc = p->buf_alloc;
	c->peer_forwarded = p->fwd_cnt;
	if (!c->open && p->op != OP_RESPONSE && p->op != OP_RST) {
		vsock_owe(v, c, OWE_RST);
		return;
	}
	switch (p->op) {
	case OP_RESPONSE: guest_accepts(v, c); break;
	case OP_RST: vsock_drop(v, c); return;
	case OP_SHUTDOWN: guest_shuts(v, c, p->flags); break;
	case OP_RW: take_data(v, c, p->len); break;
	case OP_CREDIT_UPDATE: break;
	case OP_CREDIT_REQUEST: vsock_owe(v, c, OWE_CREDIT); break;
	default: vsock_owe(v, c, OWE_RST); break;
	}
	vsock_activate(v, c); /* new credit may let it send */
}

/* The chain that was popped from the transmit queue. Returns false if it is no packet. */
static bool take_packet(struct virtio_vsock *v)
{
	const struct vq_chain *ch = &v->chain;
	struct vsock_conn *c;
	struct packet p;

	if (ch->read_len < sizeof(p))
		return false;
	iov_read(ch->iov, ch->readable, 0, &p, sizeof(p));
	if (p.len > ch->read_len - sizeof(p) || (p.len && p.op != OP_RW))
		return false;
	if (p.src_cid != v->config.guest_cid || p.dst_cid != VSOCK_HOST_CID)
		return true; /* nobody there; not even a reset could be addressed to it */
	c = p.type == TYPE_STREAM ? vsock_find(v, p.dst_port, p.src_port) : NULL;
	if (c)
		guest_packet(v, c, &p);
	else if (p.op == OP_REQUEST && p.type == TYPE_STREAM)
		guest_request(v, &p);
	else
		stray(v, &p);
	return true;
}

/* Returns false when there may be more that can be taken. */
static bool serve_tx(struct virtio_vsock *v)
{
	struct virtqueue *q = &v->dev.queue[TX];

	for (unsigned int i = 0; i < ROUND && !strays_full(v); i++) {
		int r = virtqueue_pop(q, &v->chain);

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return true;
			continue;
		}
		if (r < 0 || !take_packet(v)) {
			virtio_fail(&v->dev, "malformed vsock packet or descriptor chain");
			return true;
		}
		virtqueue_push(q, v->chain.head, 0);
	}
	return strays_full(v);
}

/* --- from the stream to the guest --- */

static uint32_t peer_credit(const struct vsock_conn *c)
{
	uint32_t flying = c->sent - c->peer_forwarded;

	return flying < c->peer_alloc ? c->peer_alloc - flying : 0;
}

/* Whether the guest may be sent bytes, and there may be some. */
static bool wants_data(const struct vsock_conn *c)
{
	return c->open && c->readable && !c->host_eof && !(c->guest_shut & VSOCK_NO_RECEIVE) &&
	       peer_credit(c);
}

static void address(struct virtio_vsock *v, const struct vsock_conn *c, struct packet *p)
{
	p->src_cid = VSOCK_HOST_CID;
	p->dst_cid = v->config.guest_cid;
	p->type = TYPE_STREAM;
	if (c) {
		p->src_port = c->host_port;
		p->dst_port = c->guest_port;
		p->buf_alloc = c->alloc;
		p->fwd_cnt = c->forwarded;
	}
}

/* Writes a packet's header into the receive buffer that was popped; its data are there. */
static void put_packet(struct virtio_vsock *v, const struct vsock_conn *c, struct packet *p)
{
	const struct vq_chain *ch = &v->chain;

	address(v, c, p);
	iov_write(ch->iov + ch->readable, ch->writable, 0, p, sizeof(*p));
	virtqueue_push(&v->dev.queue[RX], ch->head, (uint32_t)sizeof(*p) + p->len);
}

/* What the host's side will not do any more, for a SHUTDOWN packet. */
static uint32_t host_shut(const struct vsock_conn *c)
{
	return (c->host_eof ? VSOCK_NO_SEND : 0) | (c->host_closed ? VSOCK_NO_RECEIVE : 0);
}

/* Sends the most urgent packet that is owed. c may be gone after it. */
static void send_owed(struct virtio_vsock *v, struct vsock_conn *c)
{
	struct packet p = {0};

	if (c->owed & OWE_RST) {
		p.op = OP_RST;
		put_packet(v, c, &p);
		vsock_drop(v, c);
		return;
	}
	if (c->owed & OWE_REQUEST)
		p.op = OP_REQUEST;
	else if (c->owed & OWE_RESPONSE)
		p.op = OP_RESPONSE;
	else if (c->owed & OWE_SHUTDOWN)
		p.op = OP_SHUTDOWN;
	else
		p.op = OP_CREDIT_UPDATE;
	c->owed &= ~((1u << p.op) | OWE_CREDIT); /* each of them carries the credit */
	c->told = c->forwarded;
	if (p.op == OP_SHUTDOWN)
		p.flags = c->host_shut = host_shut(c);
	put_packet(v, c, &p);
	if (p.op == OP_SHUTDOWN && !c->host_gone &&
	    c->host_shut == (VSOCK_NO_SEND | VSOCK_NO_RECEIVE)) {
		/* Nothing will pass any more; keep the ports until the guest's reset. */
		c->host_gone = true;
		v->host->hangup(v->host, c);
	}
	vsock_drained(v, c);
}

/* Pops further receive buffers for what the stream has beyond the first packet, up to credit. Their
 * room is added to the count parts of v->part. Returns how many were popped, into v->more. What
 * does not fit in here, well-formed or not, is left to be popped as the first of others.
 */
static unsigned int pop_more(struct virtio_vsock *v, size_t credit, unsigned int *parts)
{
	struct virtqueue *q = &v->dev.queue[RX];
	const struct vq_chain *ch = &v->next;
	unsigned int n = 0;

	for (; n < VSOCK_MORE && credit && virtqueue_pop(q, &v->next) > 0; n++) {
		const struct iovec *iov = ch->iov + ch->readable;
		struct vsock_more *m = &v->more[n];

		if (ch->write_len <= sizeof(struct packet) ||
		    iov->iov_len < sizeof(struct packet) ||
		    *parts + ch->writable > ARRAY_SIZE(v->part)) {
			virtqueue_unpop(q, 1);
			break;
		}
		*m = (struct vsock_more){
			.head = ch->head,
			.header = iov->iov_base,
			.room = (uint32_t)MIN(ch->write_len - sizeof(struct packet), credit)};
		*parts += iov_slice(iov, ch->writable, sizeof(struct packet), m->room,
				    v->part + *parts);
		credit -= m->room;
	}
	return n;
}

/* len bytes were read into the first n of v->more. */
static void put_more(struct virtio_vsock *v, struct vsock_conn *c, unsigned int n, uint32_t len)
{
	struct virtqueue *q = &v->dev.queue[RX];

	for (unsigned int i = 0; i < n; i++) {
		struct packet p = {.op = OP_RW, .len = MIN(v->more[i].room, len)};

		if (!p.len) {
			virtqueue_unpop(q, n - i);
			return;
		}
		len -= p.len;
		address(v, c, &p);
		memcpy(v->more[i].header, &p, sizeof(p));
		virtqueue_push(q, v->more[i].head, (uint32_t)sizeof(p) + p.len);
	}
}

/* Reads from the stream into the receive buffer that was popped, and into more of them where the
 * last packets were full and nobody else wants a turn. Returns false if it was not used.
 */
static bool send_data(struct virtio_vsock *v, struct vsock_conn *c)
{
	const struct vq_chain *ch = &v->chain;
	uint32_t credit = peer_credit(c);
	uint32_t first = (uint32_t)MIN(ch->write_len - sizeof(struct packet), credit);
	struct packet p = {.op = OP_RW};
	unsigned int more = 0,
		     n = iov_slice(ch->iov + ch->readable, ch->writable, sizeof(p), first, v->part);
	ssize_t done = -EAGAIN;

	if (n) {
		more = c->bulk && v->active_first == c ? pop_more(v, credit - first, &n) : 0;
		done = v->host->read(v->host, c, v->part, n);
	}
	if (done <= 0)
		virtqueue_unpop(&v->dev.queue[RX], more);
	if (done == -EAGAIN) {
		c->readable = c->bulk = false;
		return false;
	}
	if (done <= 0) {
		c->host_eof = true;
		vsock_owe(v, c, OWE_SHUTDOWN);
		if (done < 0)
			vsock_host_closed(v, c);
		return false;
	}
	c->sent += (uint32_t)done;
	v->sent_bytes += (uint32_t)done;
	c->told = c->forwarded;
	c->owed &= ~OWE_CREDIT;
	c->bulk = done >= first;
	p.len = MIN((uint32_t)done, first);
	put_packet(v, c, &p);
	put_more(v, c, more, (uint32_t)done - p.len);
	return true;
}

static void send_stray(struct virtio_vsock *v)
{
	struct packet p = {.op = OP_RST};

	v->strays--;
	p.src_port = v->stray[v->strays].host_port;
	p.dst_port = v->stray[v->strays].guest_port;
	put_packet(v, NULL, &p);
}

/* Puts one packet into the receive buffer that was popped. Returns false if none wanted it. */
static bool fill_one(struct virtio_vsock *v)
{
	struct vsock_conn *c;

	if (v->strays) {
		send_stray(v);
		return true;
	}
	while ((c = v->active_first)) {
		vsock_deactivate(v, c);
		if (c->owed) {
			vsock_activate(v, c); /* at the end of the list: others' turn comes first */
			send_owed(v, c);
			return true;
		}
		if (wants_data(c)) {
			vsock_activate(v, c);
			if (send_data(v, c))
				return true;
		}
	}
	return false;
}

/* Returns false when there may be more. */
static bool serve_rx(struct virtio_vsock *v)
{
	struct virtqueue *q = &v->dev.queue[RX];

	for (unsigned int i = 0; i < ROUND && (v->strays || v->active_first); i++) {
		int r = virtqueue_pop(q, &v->chain);

		if (r == 0) {
			virtqueue_notifications(q, true);
			if (!virtqueue_has_more(q))
				return true;
			continue;
		}
		if (r < 0 || v->chain.write_len <= sizeof(struct packet)) {
			virtio_fail(&v->dev, "malformed vsock receive buffer");
			return true;
		}
		if (!fill_one(v)) {
			virtqueue_unpop(q, 1);
			return true;
		}
	}
	return !v->strays && !v->active_first;
}

/* Interrupts the guest for what it received, and now and then for what was taken from it. */
static void tell(struct virtio_vsock *v)
{
	const struct itimerspec soon = {.it_value.tv_nsec = LAZY_NS};
	struct virtqueue *tx = &v->dev.queue[TX];
	unsigned int taken = virtqueue_untold(tx);

	if (virtqueue_untold(&v->dev.queue[RX]) || taken >= MIN(LAZY_PACKETS, tx->size / 4u)) {
		virtio_interrupt_all(&v->dev);
	} else if (taken && !v->alarm) {
		v->alarm = true;
		timerfd_settime(v->timer.fd, 0, &soon, NULL);
	}
}

static void timer_rang(struct loop_source *s, uint32_t events)
{
	struct virtio_vsock *v = CONTAINER_OF(s, struct virtio_vsock, timer);

	(void)events;
	event_take(s->fd);
	if (virtio_enter(&v->dev))
		virtio_interrupt_all(&v->dev);
	v->alarm = false;
	virtio_leave(&v->dev);
}

static void serve(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);
	bool tx_done = serve_tx(v), held = strays_full(v);
	bool rx_done = virtio_failed(d) || serve_rx(v);

	tx_done &= !held || strays_full(v);
	tell(v);
	if (!tx_done || !rx_done)
		virtio_again(d);
}

/* --- for the back end --- */

int vsock_connect(struct virtio_vsock *v, struct vsock_conn *c, uint32_t guest_port)
{
	if (v->conns == VSOCK_MAX_CONNS)
		return -EMFILE;
	do
		c->host_port = FIRST_HOST_PORT | (v->next_port++ & (FIRST_HOST_PORT - 1));
	while (vsock_find(v, c->host_port, guest_port));
	c->guest_port = guest_port;
	vsock_enter(v, c);
	vsock_owe(v, c, OWE_REQUEST);
	serve(&v->dev);
	return 0;
}

void vsock_stream_ready(struct virtio_vsock *v, struct vsock_conn *c, bool readable, bool writable)
{
	c->readable |= readable;
	if (writable) {
		c->writable = true;
		vsock_flush(v, c);
	}
	vsock_activate(v, c);
	serve(&v->dev);
}

static void reset(struct virtio_dev *d)
{
	vsock_drop_all(vsock_of(d));
}

static void close_timer(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);

	loop_del(d->loop, &v->timer);
	close(v->timer.fd);
}

static const struct virtio_ops vsock_ops = {
	.id = VIRTIO_ID_VSOCK,
	.name = "socket",
	.queues = QUEUES,
	.serve = serve,
	.reset = reset,
	.close = close_timer,
};

int virtio_vsock_init(struct virtio_vsock *v, const struct mem *m, uint32_t guest_cid,
		      struct vsock_host *host, struct irq irq, struct loop *loop, struct err *e)
{
	int r;

	memset(v, 0, offsetof(struct virtio_vsock, stray));
	v->config.guest_cid = guest_cid;
	v->host = host;
	v->dev.ops = &vsock_ops;
	v->dev.mem = m;
	v->dev.config = &v->config;
	v->dev.config_len = sizeof(v->config);
	r = virtio_init(&v->dev, irq, loop, e);
	if (r)
		return r;
	v->timer = (struct loop_source){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.ready = timer_rang};
	r = v->timer.fd < 0 ? -errno : loop_add(loop, &v->timer, EPOLLIN);
	if (!r)
		return 0;
	virtio_close(&v->dev);
	return err_set(e, -r, "cannot make a timer: %s", strerror(-r));
}
