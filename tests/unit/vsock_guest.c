/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vsock_guest.h"

#include <string.h>

#include "tests/unit/util.h"

struct driver d;
struct virtio_vsock vsock;
uint64_t rx_at, tx_at;

void vsock_guest_init(void)
{
	driver_init(&d);
	d.dev = &vsock.dev;
	rx_at = guest_alloc(&d.guest, RX_BUFFERS * RX_SIZE);
	tx_at = guest_alloc(&d.guest, TX_SIZE);
}

void vsock_guest_start(void)
{
	driver_start(&d, 0, QUEUES, RX_BUFFERS);
	post_rx(RX_BUFFERS);
	driver_kick(&d, RX);
}

void vsock_guest_free(void)
{
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(vsock.conns, 0);
	ck_assert_ptr_null(vsock.active_first);
	driver_free(&d);
}

void post_rx(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t at = rx_at + d.ring[RX].free * RX_SIZE;

		ring_add(&d.ring[RX], &(struct buffer){at, RX_SIZE, true}, 1);
	}
}

struct packet packet(enum op op, uint32_t guest_port, uint32_t host_port)
{
	return (struct packet){.src_cid = CID,
			       .dst_cid = VSOCK_HOST_CID,
			       .src_port = guest_port,
			       .dst_port = host_port,
			       .type = 1,
			       .op = (uint16_t)op,
			       .buf_alloc = GUEST_ALLOC};
}

void queue_packet(const struct packet *p, const void *data)
{
	uint8_t *tx = guest_ptr(&d.guest, tx_at, sizeof(*p) + p->len);

	memcpy(tx, p, sizeof(*p));
	if (p->len)
		memcpy(tx + sizeof(*p), data, p->len);
	ring_add(&d.ring[TX], &(struct buffer){tx_at, (uint32_t)sizeof(*p) + p->len, false}, 1);
}

void send_packet(const struct packet *p, const void *data)
{
	struct used_elem u;

	queue_packet(p, data);
	driver_kick(&d, TX);
	ck_that(ring_take(&d.ring[TX], &u));
}

void send_op(enum op op, uint32_t guest_port, uint32_t host_port)
{
	struct packet p = packet(op, guest_port, host_port);

	send_packet(&p, NULL);
}

void send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct packet p = packet(SHUTDOWN, guest_port, host_port);

	p.flags = flags;
	send_packet(&p, NULL);
}

void send_data(uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len)
{
	struct packet p = packet(RW, guest_port, host_port);

	p.len = len;
	send_packet(&p, data);
}

bool receive_only(struct packet *p, const uint8_t **data)
{
	static uint8_t copy[RX_SIZE];
	struct used_elem u;
	const uint8_t *buffer;

	if (!ring_take(&d.ring[RX], &u))
		return false;
	buffer = guest_ptr(&d.guest, d.ring[RX].desc[u.id].addr, RX_SIZE);
	memcpy(p, buffer, sizeof(*p));
	ck_that(u.len == sizeof(*p) + p->len);
	ck_that(p->src_cid == VSOCK_HOST_CID && p->dst_cid == CID && p->type == 1);
	memcpy(copy, buffer + sizeof(*p), p->len);
	if (data)
		*data = copy;
	return true;
}

bool receive(struct packet *p, const uint8_t **data)
{
	if (!receive_only(p, data))
		return false;
	post_rx(1);
	driver_kick(&d, RX);
	return true;
}

static struct packet expect_any(enum op op, uint32_t guest_port, uint32_t host_port)
{
	struct packet p = {0};

	if (!receive(&p, NULL))
		ck_abort_msg("no packet, and op %d is due", op);
	if (p.op != op || p.dst_port != guest_port || p.src_port != host_port || p.len)
		ck_abort_msg("op %u of port %u to %u, and op %d of %u to %u is due", p.op,
			     p.src_port, p.dst_port, op, host_port, guest_port);
	return p;
}

void expect(enum op op, uint32_t guest_port, uint32_t host_port)
{
	expect_any(op, guest_port, host_port);
}

void expect_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct packet p = expect_any(SHUTDOWN, guest_port, host_port);

	ck_assert_uint_eq(p.flags, flags);
}

void expect_nothing(void)
{
	struct packet p = {0};

	if (receive(&p, NULL))
		ck_abort_msg("unexpected packet, op %u", p.op);
}
