/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases for streams between guest and host, by a driver that keeps the rules, and for packets that
 * do not. The host's side of the first is tests/tiny/tool.
 */
#include "vsock.h"

static struct vsock vs;

/* --- the driver --- */

static void offer(struct vsock *v, uint16_t i)
{
	vq_desc(&v->q[VS_RX], i, &v->rx[i], sizeof(v->rx[i]), D_WRITE, 0);
	vq_put(&v->q[VS_RX], i);
}

bool vs_start(struct vsock *v)
{
	if (!vdev_find(&v->dev, VIRTIO_VSOCK, 0)) {
		fail("there is no vsock device");
		return false;
	}
	if (!vdev_start(&v->dev, 0, v->q, VS_QUEUES))
		return false;
	for (uint16_t i = 0; i < VS_RX_BUFFERS; i++)
		offer(v, i);
	vdev_kick(&v->dev, VS_RX);
	return true;
}

bool vs_send_raw(struct vsock *v, const struct vs_packet *p, const void *data, uint32_t data_len)
{
	struct vq *q = &v->q[VS_TX];

	v->tx = *p;
	vq_desc(q, 0, &v->tx, sizeof(v->tx), data_len ? D_NEXT : 0, 1);
	vq_desc(q, 1, data, data_len, 0, 0);
	vq_put(q, 0);
	vdev_kick(&v->dev, VS_TX);
	return vq_wait(&v->dev, q, NULL, NULL);
}

struct vs_packet vs_packet(enum vs_op op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vs_packet){.src_cid = VS_GUEST_CID,
				  .dst_cid = VS_HOST_CID,
				  .src_port = guest_port,
				  .dst_port = host_port,
				  .type = VS_STREAM,
				  .op = (uint16_t)op,
				  .buf_alloc = VS_BUFFER};
}

struct vs_receive *vs_next(struct vsock *v)
{
	struct vq *q = &v->q[VS_RX];

	if (__atomic_load_n(&q->used.idx, __ATOMIC_ACQUIRE) == q->seen)
		return NULL;
	return &v->rx[q->used.ring[q->seen % q->size].id % VS_RX_BUFFERS];
}

struct vs_receive *vs_await(struct vsock *v)
{
	struct deadline d = deadline();
	struct vs_receive *r;

	while (!(r = vs_next(v)))
		if (expired(&d) || vdev_status(&v->dev) & ST_NEEDS_RESET)
			return NULL;
	return r;
}

void vs_recycle(struct vsock *v)
{
	struct vq *q = &v->q[VS_RX];

	offer(v, (uint16_t)q->used.ring[q->seen++ % q->size].id % VS_RX_BUFFERS);
	vdev_kick(&v->dev, VS_RX);
}

bool vs_expect(struct vsock *v, enum vs_op op, uint32_t guest_port, struct vs_packet *got)
{
	struct vs_receive *r = vs_await(v);

	if (!r) {
		fail("expected a packet with operation %u to port %u, none comes, status 0x%x", op,
		     guest_port, vdev_status(&v->dev));
		return false;
	}
	expect("a packet's sender", r->head.src_cid, VS_HOST_CID);
	expect("a packet's receiver", r->head.dst_cid, VS_GUEST_CID);
	expect("a packet's type", r->head.type, VS_STREAM);
	expect("a packet's port", r->head.dst_port, guest_port);
	expect("a packet's operation", r->head.op, op);
	if (got)
		*got = r->head;
	vs_recycle(v);
	return !failed();
}

/* --- a stream --- */

struct stream {
	uint32_t guest_port, host_port;
	uint32_t peer_alloc, peer_forwarded, sent; /* the credit that the host gives */
	uint32_t received, taken;		   /* and what we tell it */
	uint32_t told;				   /* taken, as last told */
	uint32_t peer_shut;			   /* VS_NO_*: what the host will not do any more */
	bool connected, reset;
	uint8_t buffer[VS_BUFFER]; /* received, not yet taken: a ring */
};

static struct stream stream;

static bool send_packet(struct stream *s, enum vs_op op, uint32_t flags, const void *data,
			uint32_t len)
{
	struct vs_packet p = vs_packet(op, s->guest_port, s->host_port);

	p.flags = flags;
	p.len = len;
	p.fwd_cnt = s->told = s->taken;
	s->sent += len;
	if (vs_send_raw(&vs, &p, data, len))
		return true;
	fail("a packet with operation %u is not taken, status 0x%x", op, vdev_status(&vs.dev));
	return false;
}

static uint32_t credit(const struct stream *s)
{
	uint32_t flying = s->sent - s->peer_forwarded;

	return flying < s->peer_alloc ? s->peer_alloc - flying : 0;
}

static void take_data(struct stream *s, const uint8_t *data, uint32_t len)
{
	uint32_t at = s->received % VS_BUFFER, first = MIN(len, VS_BUFFER - at);

	if (len > VS_BUFFER - (s->received - s->taken)) {
		fail("the host sends %u bytes, more than its credit", len);
		return;
	}
	memcpy(s->buffer + at, data, first);
	memcpy(s->buffer, data + first, len - first);
	s->received += len;
}

/* Serves the packets that have come. Returns whether there was one. */
static bool pump(struct stream *s)
{
	struct vs_receive *r = vs_next(&vs);

	if (!r)
		return false;
	if (r->head.dst_port != s->guest_port || r->head.src_port != s->host_port) {
		fail("a packet with operation %u for port %u from %u", r->head.op, r->head.dst_port,
		     r->head.src_port);
	} else {
		s->peer_alloc = r->head.buf_alloc;
		s->peer_forwarded = r->head.fwd_cnt;
		switch (r->head.op) {
		case VS_RESPONSE: s->connected = true; break;
		case VS_RST: s->reset = true; break;
		case VS_SHUTDOWN: s->peer_shut |= r->head.flags; break;
		case VS_RW: take_data(s, r->data, r->head.len); break;
		case VS_CREDIT_UPDATE: break;
		default: fail("operation %u from the host", r->head.op);
		}
	}
	vs_recycle(&vs);
	return true;
}

/* Pumps until the condition holds; reports what was waited for when it does not in time. */
#define PUMP_UNTIL(s, condition, what)                                                             \
	do {                                                                                       \
		struct deadline d_ = deadline();                                                   \
		while (!(condition) && !failed())                                                  \
			if (!pump(s) && expired(&d_))                                              \
				fail("waited in vain for " what);                                  \
	} while (0)

static bool connect_stream(struct stream *s, uint32_t guest_port, uint32_t host_port)
{
	memset(s, 0, sizeof(*s));
	s->guest_port = guest_port;
	s->host_port = host_port;
	if (!send_packet(s, VS_REQUEST, 0, NULL, 0))
		return false;
	PUMP_UNTIL(s, s->connected || s->reset, "an answer to a request");
	return s->connected;
}

/* Waits for the host's request to this port; answers with op. */
static bool accept_stream(struct stream *s, uint32_t guest_port, enum vs_op op)
{
	struct vs_packet p;

	if (!vs_expect(&vs, VS_REQUEST, guest_port, &p))
		return false;
	memset(s, 0, sizeof(*s));
	s->guest_port = guest_port;
	s->host_port = p.src_port;
	s->peer_alloc = p.buf_alloc;
	s->connected = true;
	return send_packet(s, op, 0, NULL, 0);
}

/* Sends back all that comes, until the host sends no more; then closes. */
static void echo_stream(struct stream *s)
{
	while (!failed() && !s->reset) {
		uint32_t at = s->taken % VS_BUFFER;
		uint32_t n = MIN(s->received - s->taken, VS_BUFFER - at);

		n = MIN(n, credit(s));
		if (n) {
			s->taken += n; /* told with the packet */
			send_packet(s, VS_RW, 0, s->buffer + at, n);
		} else if (s->received == s->taken && s->peer_shut & VS_NO_SEND) {
			break;
		} else {
			uint32_t seen = s->received + s->peer_forwarded + s->peer_shut;

			PUMP_UNTIL(s, s->reset || s->received + s->peer_forwarded + s->peer_shut != seen,
				   "data, credit or an end");
		}
	}
	if (s->reset)
		return;
	send_packet(s, VS_SHUTDOWN, VS_NO_RECEIVE | VS_NO_SEND, NULL, 0);
	PUMP_UNTIL(s, s->reset, "the reset that ends a stream");
}

/* --- cases with a host --- */

#define CASE_PORT 5000 /* where the guest listens, and the host's tool */

/* The host makes its listener when the VM is there: with wait=1 the guest waits for a byte on the
 * console.
 */
static void await_host(void)
{
	if (!argument("wait", 0))
		return;
	outb(COM1 + 4, 0x0b);
	print("waiting\n");
	serial_get();
}

static void vsock_config(void)
{
	if (!vdev_find(&vs.dev, VIRTIO_VSOCK, 0)) {
		fail("there is no vsock device");
		return;
	}
	expect("the guest's CID", read64(vs.dev.base + R_CONFIG), VS_GUEST_CID);
	expect("behind the configuration", read64(vs.dev.base + R_CONFIG + 8), 0);
}

/* count= connections from the host, one after the other, each echoed. */
static void vsock_listen(void)
{
	if (!vs_start(&vs))
		return;
	print("listening\n");
	for (uint64_t n = argument("count", 1); n && !failed(); n--)
		if (accept_stream(&stream, CASE_PORT, VS_RESPONSE))
			echo_stream(&stream);
}

static void vsock_refuse(void)
{
	if (!vs_start(&vs))
		return;
	print("listening\n");
	accept_stream(&stream, CASE_PORT, VS_RST);
}

static void vsock_no_listener(void)
{
	if (!vs_start(&vs))
		return;
	expect("a connection to a port that nobody listens on", connect_stream(&stream, 1234, 99),
	       false);
	expect("it is reset", stream.reset, true);
	expect("a second try", connect_stream(&stream, 1234, 99), false);
}

/* What the guest sends, a block over and over, each with its number in front: the cost of a byte is
 * that of a copy.
 */
static uint8_t block[4096] __attribute__((aligned(8)));

static void make_block(uint32_t offset)
{
	if (!block[5])
		for (unsigned int i = 4; i < sizeof(block); i++)
			block[i] = (uint8_t)(i * 7 + (i >> 8) + 1);
	*(uint32_t *)block = offset / (uint32_t)sizeof(block);
}

/* Compares the block that came back, which is whole in the stream's buffer. */
static void check_block(struct stream *s)
{
	make_block(s->taken);
	if (memcmp(s->buffer + s->taken % VS_BUFFER, block, sizeof(block)))
		fail("block %u came back different", *(uint32_t *)block);
	s->taken += (uint32_t)sizeof(block);
}

/* Sends blocks= blocks to the host's echo, while they come back, then closes its half. */
static void vsock_connect(void)
{
	uint32_t n = (uint32_t)argument("blocks", 32) * (uint32_t)sizeof(block);

	if (!vs_start(&vs))
		return;
	await_host();
	if (!connect_stream(&stream, 7000, CASE_PORT)) {
		fail("the host refuses the connection");
		return;
	}
	while ((stream.sent < n || stream.taken < n) && !failed() && !stream.reset) {
		if (stream.sent < n && credit(&stream) >= sizeof(block)) {
			make_block(stream.sent);
			send_packet(&stream, VS_RW, 0, block, sizeof(block));
			if (stream.sent == n)
				send_packet(&stream, VS_SHUTDOWN, VS_NO_SEND, NULL, 0);
		} else {
			uint32_t seen = stream.received + stream.peer_forwarded;

			PUMP_UNTIL(&stream,
				   stream.reset || stream.received + stream.peer_forwarded != seen,
				   "data or credit");
		}
		while (pump(&stream) && !failed())
			;
		while (stream.received - stream.taken >= sizeof(block))
			check_block(&stream);
		if (stream.taken - stream.told >= VS_BUFFER / 2)
			send_packet(&stream, VS_CREDIT_UPDATE, 0, NULL, 0);
	}
	if (stream.taken != n)
		fail("expected %u bytes back, seen %u; sent %u, reset %u, host's shutdown %u", n,
		     stream.taken, stream.sent, stream.reset, stream.peer_shut);
	PUMP_UNTIL(&stream, stream.reset || stream.peer_shut & VS_NO_SEND, "the host's end");
	if (!stream.reset)
		send_packet(&stream, VS_SHUTDOWN, VS_NO_RECEIVE | VS_NO_SEND, NULL, 0);
	PUMP_UNTIL(&stream, stream.reset, "the reset that ends a stream");
}

/* The host closes at once, in the middle of what the guest sends. */
static void vsock_dropped(void)
{
	static uint8_t out[4096];

	if (!vs_start(&vs))
		return;
	await_host();
	if (!connect_stream(&stream, 7001, CASE_PORT)) {
		fail("the host refuses the connection");
		return;
	}
	for (unsigned int i = 0; i < 200 && !failed() && !stream.reset; i++) {
		uint32_t part = MIN(credit(&stream), (uint32_t)sizeof(out));

		if (stream.peer_shut == (VS_NO_RECEIVE | VS_NO_SEND))
			break;
		if (part)
			send_packet(&stream, VS_RW, 0, out, part);
		else
			PUMP_UNTIL(&stream, stream.reset || stream.peer_shut || credit(&stream),
				   "credit or the host's end");
		pump(&stream);
	}
	PUMP_UNTIL(&stream,
		   stream.reset || stream.peer_shut == (VS_NO_RECEIVE | VS_NO_SEND),
		   "the host's end");
	if (!stream.reset)
		send_packet(&stream, VS_RST, 0, NULL, 0);
}

/* A reset of the device while a stream is open ends the stream, and the device can be used again. */
static void vsock_reset_device(void)
{
	for (unsigned int round = 0; round < 3; round++) {
		if (!vs_start(&vs))
			return;
		print("round\n");
		if (!accept_stream(&stream, CASE_PORT, VS_RESPONSE))
			return;
		send_packet(&stream, VS_RW, 0, "hello", 5);
		vdev_reset(&vs.dev);
	}
}

/* --- packets against the rules --- */

enum outcome {
	RESET,	     /* the packet is answered by a reset to its port */
	NOTHING,     /* it is taken and not answered */
	NEEDS_RESET, /* the device refuses the driver */
};

/* Port 1 of the host has no listener. Fields that are 0 here: as of a good packet. */
static const struct packet_case {
	const char *name;
	struct vs_packet p;
	uint32_t data;
	enum outcome want;
} packets[] = {
	{"request-no-listener", {.op = VS_REQUEST}, 0, RESET},
	{"response-no-request", {.op = VS_RESPONSE}, 0, RESET},
	{"shutdown-no-stream", {.op = VS_SHUTDOWN, .flags = 3}, 0, RESET},
	{"data-no-stream", {.op = VS_RW, .len = 100}, 100, RESET},
	{"no-data-no-stream", {.op = VS_RW}, 0, RESET},
	{"credit-update-no-stream", {.op = VS_CREDIT_UPDATE}, 0, RESET},
	{"credit-request-no-stream", {.op = VS_CREDIT_REQUEST}, 0, RESET},
	{"reset-no-stream", {.op = VS_RST}, 0, NOTHING},
	{"operation-8", {.op = 8}, 0, RESET},
	{"operation-65535", {.op = 0xffff}, 0, RESET},
	{"type-seqpacket", {.op = VS_REQUEST, .type = 2}, 0, RESET},
	{"type-65535", {.op = VS_REQUEST, .type = 0xffff}, 0, RESET},
	{"port-max", {.op = VS_REQUEST, .src_port = UINT32_MAX, .dst_port = UINT32_MAX}, 0, RESET},
	{"to-hypervisor", {.op = VS_REQUEST, .dst_cid = 1}, 0, NOTHING},
	{"to-itself", {.op = VS_REQUEST, .dst_cid = VS_GUEST_CID}, 0, NOTHING},
	{"to-cid-64-bits", {.op = VS_REQUEST, .dst_cid = 1ull << 32 | VS_HOST_CID}, 0, NOTHING},
	{"from-another", {.op = VS_REQUEST, .src_cid = 4}, 0, NOTHING},
	{"from-host", {.op = VS_REQUEST, .src_cid = VS_HOST_CID}, 0, NOTHING},
	{"from-cid-64-bits", {.op = VS_REQUEST, .src_cid = 1ull << 32 | VS_GUEST_CID}, 0, NOTHING},
	{"len-beyond-data", {.op = VS_RW, .len = 101}, 100, NEEDS_RESET},
	{"len-without-data", {.op = VS_RW, .len = 1}, 0, NEEDS_RESET},
	{"len-4G", {.op = VS_RW, .len = UINT32_MAX}, 100, NEEDS_RESET},
	{"len-wraps", {.op = VS_RW, .len = UINT32_MAX - 43}, 100, NEEDS_RESET},
	{"len-below-data", {.op = VS_RW, .len = 10}, 100, RESET},
	{"request-with-data", {.op = VS_REQUEST, .len = 100}, 100, NEEDS_RESET},
};

static void packet_case(const struct packet_case *c)
{
	static uint8_t data[128];
	struct vs_packet p = c->p, good = vs_packet(VS_REQUEST, 4321, 1);
	bool taken;

	p.src_cid = p.src_cid ? p.src_cid : good.src_cid;
	p.dst_cid = p.dst_cid ? p.dst_cid : good.dst_cid;
	p.src_port = p.src_port ? p.src_port : good.src_port;
	p.dst_port = p.dst_port ? p.dst_port : good.dst_port;
	p.type = p.type ? p.type : good.type;
	if (!vs_start(&vs))
		return;
	taken = vs_send_raw(&vs, &p, data, c->data);
	if (c->want == NEEDS_RESET) {
		expect("taken", taken, false);
		expect("NEEDS_RESET", vdev_wait_needs_reset(&vs.dev), true);
	} else {
		expect("taken", taken, true);
	}
	if (c->want == RESET)
		vs_expect(&vs, VS_RST, p.src_port, NULL);
	/* Nothing else comes: the next packet is the answer to the next request. */
	if (c->want == NEEDS_RESET && !vs_start(&vs))
		return;
	good.src_port = 99;
	vs_send_raw(&vs, &good, NULL, 0);
	vs_expect(&vs, VS_RST, 99, NULL);
}

/* More requests than the device remembers (STRAYS of them) while the guest takes no answer: the others
 * wait in the queue, and each is answered in the end.
 */
#define STRAYS 16u
#define MANY   (VS_RX_BUFFERS + STRAYS + QUEUE_SIZE)

static void many_refused(void)
{
	static struct vs_packet many[MANY];
	static bool seen[MANY];
	struct vq *q = &vs.q[VS_TX];

	if (!begin("vsock-packet-%s", "many-refused") || !vs_start(&vs))
		return;
	for (uint32_t i = 0; i < MANY; i++) {
		many[i] = vs_packet(VS_REQUEST, 10000 + i, 1);
		vq_desc(q, i % QUEUE_SIZE, &many[i], sizeof(many[i]), 0, 0);
		vq_put(q, (uint16_t)(i % QUEUE_SIZE));
		vdev_kick(&vs.dev, VS_TX);
		if (i < MANY - QUEUE_SIZE && !vq_wait(&vs.dev, q, NULL, NULL)) {
			fail("request %u is not taken", i);
			return;
		}
	}
	for (unsigned int i = 0; i < MANY; i++) {
		struct vs_receive *r = vs_await(&vs);
		uint32_t which = r ? r->head.dst_port - 10000 : 0;

		if (!r || r->head.op != VS_RST || which >= MANY || seen[which]) {
			fail("answer %u does not come, or is another", i);
			return;
		}
		seen[which] = true;
		vs_recycle(&vs);
	}
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		expect("taken", vq_wait(&vs.dev, q, NULL, NULL), true);
}

void packet_cases(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(packets); i++)
		if (begin("vsock-packet-%s", packets[i].name))
			packet_case(&packets[i]);
	many_refused();
}

const struct test_case vsock_cases[] = {
	{"vsock-config", vsock_config},
	{"vsock-no-listener", vsock_no_listener},
	{"host-vsock-listen", vsock_listen},
	{"host-vsock-refuse", vsock_refuse},
	{"host-vsock-connect", vsock_connect},
	{"host-vsock-dropped", vsock_dropped},
	{"host-vsock-reset-device", vsock_reset_device},
	{0},
};
