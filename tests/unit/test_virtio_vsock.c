/* SPDX-License-Identifier: Apache-2.0
 *
 * The socket device between a guest of the test's own, packet by packet, and host streams in
 * memory that take and give as much as the test lets them.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/util.h"
#include "tests/unit/vsock_guest.h"

#define NONE	UINT32_MAX
#define OUT_MAX (6 * VSOCK_BUFFER)

/* --- the host's streams --- */

/* What the test sees of a stream; outlives it, so that use after free is the device's alone. */
struct record {
	struct vsock_conn *conn;
	uint32_t port;	   /* that the guest asked for; of the test's own streams 0 */
	const uint8_t *in; /* to the guest */
	size_t in_len;	   /* bytes there now */
	size_t in_at;	   /* where it goes on */
	int in_end;	   /* 1: at its end after in_len, or -errno */
	uint8_t *out;	   /* from the guest, OUT_MAX */
	size_t out_len;
	size_t room; /* bytes that it takes until -EAGAIN */
	size_t each; /* at most this many in one call */
	int out_error;
	unsigned int accepted, shut, hung, freed, reads;
};

struct fake_stream {
	struct vsock_conn conn;
	struct record *record;
};

#define RECORDS (VSOCK_MAX_CONNS + 8)

static struct record record[RECORDS];
static unsigned int records, open_streams;
static uint32_t refused_port; /* that nobody listens on */

static struct record *record_of(struct vsock_conn *c)
{
	return CONTAINER_OF(c, struct fake_stream, conn)->record;
}

static struct record *new_stream(void)
{
	struct fake_stream *s = calloc(1, sizeof(*s));

	ck_that(records < RECORDS);
	s->record = &record[records++];
	s->record->conn = &s->conn;
	s->record->room = s->record->each = SIZE_MAX;
	open_streams++;
	return s->record;
}

static int host_connect(struct vsock_host *h, uint32_t port, struct vsock_conn **conn)
{
	struct record *r;

	(void)h;
	if (port == refused_port)
		return -ECONNREFUSED;
	r = new_stream();
	r->port = port;
	*conn = r->conn;
	return 0;
}

static void host_accepted(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	record_of(c)->accepted++;
}

static ssize_t host_read(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			 unsigned int n)
{
	struct record *r = record_of(c);
	size_t done;

	(void)h;
	ck_that(!r->hung && n);
	r->reads++;
	if (!r->in_len && r->in_end)
		return r->in_end > 0 ? 0 : r->in_end;
	if (!r->in_len)
		return -EAGAIN;
	done = iov_write(iov, n, 0, r->in + r->in_at, r->in_len);
	r->in_at += done;
	r->in_len -= done;
	return (ssize_t)done;
}

static ssize_t host_write(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			  unsigned int n)
{
	struct record *r = record_of(c);
	size_t done;

	(void)h;
	ck_that(!r->hung && !r->shut);
	if (r->out_error)
		return r->out_error;
	if (!r->room)
		return -EAGAIN;
	if (!r->out)
		r->out = malloc(OUT_MAX);
	done = iov_read(iov, n, 0, r->out + r->out_len,
			MIN(MIN(r->room, r->each), OUT_MAX - r->out_len));
	r->out_len += done;
	r->room -= done;
	return (ssize_t)done;
}

static void host_shutdown_write(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	ck_that(!record_of(c)->hung);
	record_of(c)->shut++;
}

static void host_hangup(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	record_of(c)->hung++;
}

static void host_free(struct vsock_host *h, struct vsock_conn *c)
{
	struct record *r = record_of(c);

	(void)h;
	ck_that(!r->freed);
	r->freed++;
	r->conn = NULL;
	open_streams--;
	free(CONTAINER_OF(c, struct fake_stream, conn));
}

static struct vsock_host host = {.connect = host_connect,
				 .accepted = host_accepted,
				 .read = host_read,
				 .write = host_write,
				 .shutdown_write = host_shutdown_write,
				 .hangup = host_hangup,
				 .free = host_free};

/* --- fixture --- */

static struct err e;

static void setup(void)
{
	refused_port = NONE;
	vsock_guest_init();
	ck_ok(virtio_vsock_init(&vsock, &d.guest.mem, CID, &host, d.irq, &d.loop, &e));
	vsock_guest_start();
}

static void teardown(void)
{
	vsock_guest_free();
	ck_assert_uint_eq(open_streams, 0);
	for (unsigned int i = 0; i < records; i++)
		free(record[i].out);
}

/* A connection by the guest to host port. */
static struct record *guest_connects(uint32_t guest_port, uint32_t port)
{
	send_op(REQUEST, guest_port, port);
	expect(RESPONSE, guest_port, port);
	return &record[records - 1];
}

static void ready(struct record *r, bool readable, bool writable)
{
	if (virtio_enter(&vsock.dev))
		vsock_stream_ready(&vsock, r->conn, readable, writable);
	virtio_leave(&vsock.dev);
	loop_settle(&d.loop);
}

/* The host begins to connect to the guest's port; *port gets its own. */
static struct record *host_begins(uint32_t guest_port, uint32_t *port)
{
	struct record *r = new_stream();

	ck_that(virtio_enter(&vsock.dev));
	ck_assert_int_eq(vsock_connect(&vsock, r->conn, guest_port), 0);
	*port = r->conn->host_port;
	virtio_leave(&vsock.dev);
	expect(REQUEST, guest_port, *port);
	return r;
}

static struct record *host_connects(uint32_t guest_port, uint32_t *port)
{
	struct record *r = host_begins(guest_port, port);

	send_op(RESPONSE, guest_port, *port);
	ck_assert_uint_eq(r->accepted, 1);
	return r;
}

/* Gives the stream bytes for the guest. */
static void give(struct record *r, const uint8_t *data, size_t len)
{
	r->in = data;
	r->in_at = 0;
	r->in_len = len;
	ready(r, true, false);
}

/* Has r use up all receive buffers, which are not given back. */
static void take_all_buffers(struct record *r)
{
	struct packet p;

	for (unsigned int i = 0; i < RX_BUFFERS; i++) {
		give(r, (const uint8_t *)"x", 1);
		ck_that(receive_only(&p, NULL));
	}
}

/* --- connecting --- */

START_TEST(configuration)
{
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 19);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), CID);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 4), 0);
}
END_TEST

START_TEST(guest_connects_and_closes)
{
	struct record *r = guest_connects(1000, 80);

	ck_assert_uint_eq(r->port, 80);
	send_shutdown(1000, 80, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
	ck_assert_uint_eq(vsock.conns, 0);
}
END_TEST

START_TEST(guest_is_refused)
{
	refused_port = 81;
	send_op(REQUEST, 1000, 81);
	expect(RST, 1000, 81);
	ck_assert_uint_eq(records, 0);
}
END_TEST

START_TEST(guest_resets)
{
	struct record *r = guest_connects(1000, 80);

	send_op(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
	expect_nothing();
}
END_TEST

START_TEST(host_connects_and_guest_accepts)
{
	uint32_t port;
	struct record *r = host_connects(22, &port);

	ck_assert_uint_ge(port, 1u << 30);
	send_shutdown(22, port, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	expect(RST, 22, port);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

START_TEST(guest_refuses_the_host)
{
	uint32_t port;
	struct record *r = host_begins(22, &port);

	send_op(RST, 22, port);
	ck_assert_uint_eq(r->freed, 1);
	ck_assert_uint_eq(r->accepted, 0);
}
END_TEST

START_TEST(host_ports_differ)
{
	uint32_t a, b, c;

	host_begins(22, &a);
	vsock.next_port--; /* as after 2^30 connections */
	host_begins(22, &b);
	host_begins(23, &c);
	ck_assert_uint_ne(a, b);
}
END_TEST

/* Until the guest has accepted, it can say nothing else. */
START_TEST(packets_before_the_response)
{
	static const enum op bad[] = {SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 0, 8, 65535};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t port;
		struct record *r = host_begins(22, &port);

		send_op(bad[i], 22, port);
		expect(RST, 22, port);
		ck_assert_uint_eq(r->freed, 1);
		ck_assert_uint_eq(r->accepted, 0);
	}
}
END_TEST

START_TEST(second_response)
{
	uint32_t port;
	struct record *r = host_connects(22, &port);

	send_op(RESPONSE, 22, port);
	expect(RST, 22, port);
	ck_assert_uint_eq(r->freed, 1);
	ck_assert_uint_eq(r->accepted, 1);
	r = guest_connects(1000, 80); /* and to a connection of its own */
	send_op(RESPONSE, 1000, 80);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

START_TEST(second_request)
{
	guest_connects(1000, 80);
	send_op(REQUEST, 1000, 80);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(records, 1);
}
END_TEST

START_TEST(unknown_ops)
{
	static const enum op bad[] = {0, 8, 9, 255, 65535};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct record *r = guest_connects(1000, 80);

		send_op(bad[i], 1000, 80);
		expect(RST, 1000, 80);
		ck_assert_uint_eq(r->freed, 1);
	}
}
END_TEST

/* --- bytes from the guest --- */

START_TEST(guest_sends)
{
	struct record *r = guest_connects(1000, 80);

	send_data(1000, 80, "hello", 5);
	send_data(1000, 80, " world", 6);
	ck_assert_uint_eq(r->out_len, 11);
	ck_assert(!memcmp(r->out, "hello world", 11));
	ck_assert_ptr_null(r->conn->buffer); /* straight through */
	send_data(1000, 80, "", 0);
	ck_assert_uint_eq(r->out_len, 11);
}
END_TEST

START_TEST(packet_in_many_buffers)
{
	struct record *r = guest_connects(1000, 80);
	struct packet p = packet(RW, 1000, 80);
	struct buffer b[30];
	uint8_t *tx = guest_ptr(&d.guest, tx_at, 256);
	struct used_elem u;

	p.len = 100;
	memcpy(tx, &p, sizeof(p));
	fill_pattern(tx + sizeof(p), 100, 1);
	for (unsigned int i = 0; i < 29; i++)
		b[i] = (struct buffer){tx_at + i * 5, 5, false};
	ring_add(&d.ring[TX], b, 29); /* 145 bytes: one more than the packet has */
	driver_kick(&d, TX);
	ck_assert(ring_take(&d.ring[TX], &u));
	ck_assert_uint_eq(r->out_len, 100);
	ck_assert(!memcmp(r->out, tx + sizeof(p), 100));
}
END_TEST

/* A slow host: bytes wait, in order, and the guest's credit says how many more may come. */
START_TEST(host_takes_little_by_little)
{
	static uint8_t data[VSOCK_BUFFER * 5];
	struct record *r = guest_connects(1000, 80);
	uint32_t sent = 0, forwarded = 0, seed = 1;

	fill_pattern(data, sizeof(data), 5);
	r->room = 0;
	while (r->out_len < sizeof(data)) {
		uint32_t len = 1 + next_random(&seed) % 9000;
		struct packet p;

		len = MIN(len, (uint32_t)sizeof(data) - sent);
		if (len && sent + len - forwarded <= VSOCK_BUFFER) {
			send_data(1000, 80, data + sent, len);
			sent += len;
		} else {
			r->room = 1 + next_random(&seed) % 20000;
			ready(r, false, true);
		}
		while (receive(&p, NULL)) {
			ck_that(p.op == CREDIT_UPDATE && p.buf_alloc == VSOCK_BUFFER);
			ck_that(p.fwd_cnt <= r->out_len && p.fwd_cnt >= forwarded);
			forwarded = p.fwd_cnt;
		}
		ck_that(r->conn->buffered == sent - r->out_len);
	}
	ck_assert(!memcmp(r->out, data, sizeof(data)));
	/* It heard in time that it may go on: no more than half of its credit is untold. */
	ck_assert_uint_le(sent - forwarded, VSOCK_BUFFER / 2);
}
END_TEST

/* A stream that takes less than it was given, and does not say -EAGAIN, is asked again. */
START_TEST(host_takes_in_small_pieces)
{
	static uint8_t data[10000];
	struct record *r = guest_connects(1000, 80);

	fill_pattern(data, sizeof(data), 5);
	r->each = 7;
	send_data(1000, 80, data, sizeof(data));
	ck_assert_uint_eq(r->out_len, sizeof(data));
	ck_assert(!memcmp(r->out, data, sizeof(data)));
}
END_TEST

START_TEST(guest_exceeds_its_credit)
{
	static uint8_t data[VSOCK_BUFFER + 1];
	struct record *r = guest_connects(1000, 80);

	r->room = 0;
	send_data(1000, 80, data, VSOCK_BUFFER); /* exactly what it has */
	ck_assert_uint_eq(r->conn->buffered, VSOCK_BUFFER);
	expect_nothing();
	send_data(1000, 80, data, 1);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
	r = guest_connects(1000, 80);
	send_data(1000, 80, data, VSOCK_BUFFER + 1); /* at once, though the host would take it */
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

/* Many connections, each unread, hold less than as many of the first. */
START_TEST(credit_is_less_for_the_many)
{
	static uint8_t data[VSOCK_BUFFER_SMALL + 1];
	struct record *r = NULL;
	struct packet p;

	for (uint32_t i = 0; i <= VSOCK_WIDE; i++) {
		send_op(REQUEST, 1000 + i, 80);
		ck_that(receive(&p, NULL) && p.op == RESPONSE);
		ck_assert_uint_eq(p.buf_alloc, i < VSOCK_WIDE ? VSOCK_BUFFER : VSOCK_BUFFER_SMALL);
		r = &record[records - 1];
	}
	r->room = 0;
	send_data(1000 + VSOCK_WIDE, 80, data, VSOCK_BUFFER_SMALL);
	ck_assert_uint_eq(r->conn->buffered, VSOCK_BUFFER_SMALL);
	send_data(1000 + VSOCK_WIDE, 80, data, 1);
	expect(RST, 1000 + VSOCK_WIDE, 80);
	/* One of the first goes, and the next is as good. */
	send_op(RST, 1000, 80);
	send_op(REQUEST, 999, 80);
	ck_that(receive(&p, NULL) && p.buf_alloc == VSOCK_BUFFER);
}
END_TEST

START_TEST(credit_request)
{
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	send_data(1000, 80, "abc", 3);
	send_op(CREDIT_REQUEST, 1000, 80);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.op, CREDIT_UPDATE);
	ck_assert_uint_eq(p.fwd_cnt, 3);
	ck_assert_uint_eq(p.buf_alloc, VSOCK_BUFFER);
	expect_nothing();
	r->room = 0;
	send_data(1000, 80, "defg", 4);
	send_op(CREDIT_REQUEST, 1000, 80);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.fwd_cnt, 3);
}
END_TEST

/* Byte counters are 32 bits wide and go around. */
START_TEST(counters_wrap)
{
	static uint8_t data[5000];
	struct record *r = guest_connects(1000, 80);
	struct packet p = packet(CREDIT_UPDATE, 1000, 80);
	uint32_t base = UINT32_MAX - 2000;

	r->conn->received = r->conn->forwarded = r->conn->told = base;
	r->conn->sent = base;
	p.fwd_cnt = base;
	p.buf_alloc = 3000;
	send_packet(&p, NULL);
	fill_pattern(data, sizeof(data), 2);
	send_data(1000, 80, data, sizeof(data));
	ck_assert_uint_eq(r->out_len, sizeof(data));
	p.fwd_cnt = base;
	send_packet(&p, NULL);
	give(r, data, sizeof(data));
	for (uint32_t got = 0; got < 3000; got += p.len) {
		ck_assert(receive(&p, NULL));
		ck_assert_uint_eq(p.op, RW);
		ck_assert_uint_eq(p.fwd_cnt, (uint32_t)(base + sizeof(data)));
	}
	expect_nothing();
	p = packet(CREDIT_UPDATE, 1000, 80);
	p.fwd_cnt = base + 3000;
	send_packet(&p, NULL);
	for (uint32_t got = 3000; got < sizeof(data); got += p.len)
		ck_assert(receive(&p, NULL));
	expect_nothing();
}
END_TEST

/* --- bytes to the guest --- */

START_TEST(host_sends)
{
	static uint8_t data[100000];
	struct record *r = guest_connects(1000, 80);
	const uint8_t *part;
	struct packet p;
	size_t got = 0;

	fill_pattern(data, sizeof(data), 8);
	give(r, data, sizeof(data));
	while (receive(&p, &part)) {
		ck_that(p.op == RW && p.dst_port == 1000 && p.src_port == 80);
		ck_that(p.len && p.len <= RX_SIZE - sizeof(p));
		ck_that(!memcmp(part, data + got, p.len));
		got += p.len;
	}
	ck_assert_uint_eq(got, sizeof(data));
}
END_TEST

/* What is more than a packet is read at once, as far as buffers and credit go. */
START_TEST(host_sends_in_bulk)
{
	static uint8_t data[VSOCK_MORE * RX_SIZE];
	const uint32_t room = RX_SIZE - sizeof(struct packet);
	struct record *r = guest_connects(1000, 80);
	struct packet p = packet(CREDIT_UPDATE, 1000, 80);
	const uint8_t *part;

	fill_pattern(data, sizeof(data), 8);
	r->reads = 0;
	give(r, data, sizeof(data));
	ck_assert_uint_le(r->reads, 3); /* the first, all others, and that there is no more */
	for (size_t got = 0; got < sizeof(data); got += p.len) {
		ck_that(receive(&p, &part));
		ck_that(p.op == RW && p.len == MIN(room, sizeof(data) - got));
		ck_that(!memcmp(part, data + got, p.len));
	}
	/* Credit ends in the midst of a packet. */
	p = packet(CREDIT_UPDATE, 1000, 80);
	p.fwd_cnt = sizeof(data);
	p.buf_alloc = 3 * room + 7;
	send_packet(&p, NULL);
	give(r, data, sizeof(data));
	for (unsigned int i = 0; i < 4; i++) {
		ck_that(receive(&p, &part));
		ck_that(p.len == (i < 3 ? room : 7) && !memcmp(part, data + i * room, p.len));
	}
	expect_nothing();
	ck_assert_uint_eq(r->in_len, sizeof(data) - 3 * room - 7);
}
END_TEST

/* Buffers end in the midst of it, or are such as have to be filled alone, or broken. */
START_TEST(host_sends_in_bulk_to_odd_buffers)
{
	static uint8_t data[20000];
	struct record *r;
	struct packet p;
	size_t got = 0;

	fill_pattern(data, sizeof(data), 8);
	driver_reset(&d);
	driver_start(&d, 0, QUEUES, RX_BUFFERS);
	for (unsigned int i = 0; i < 12; i++)
		ring_add(&d.ring[RX],
			 (struct buffer[]){{rx_at + i * RX_SIZE, i == 6 ? 20 : 44, true},
					   {rx_at + i * RX_SIZE + (i == 6 ? 20 : 44), 1000, true}},
			 2);
	send_op(REQUEST, 1000, 80);
	r = &record[records - 1];
	ck_assert(receive_only(&p, NULL));
	give(r, data, sizeof(data));
	for (unsigned int i = 1; i < 12; i++, got += p.len) {
		const uint8_t *part;

		ck_assert(receive_only(&p, &part));
		ck_assert_uint_eq(p.len, i == 6 ? 976 : 1000);
		ck_assert(!memcmp(part, data + got, p.len));
	}
	ck_assert_uint_eq(r->in_len, sizeof(data) - got);
	/* Two good ones, and one that lies outside. */
	for (unsigned int i = 0; i < 3; i++)
		ring_add(&d.ring[RX],
			 &(struct buffer){i < 2 ? rx_at + i * RX_SIZE : GUEST_MEMORY - 10, RX_SIZE,
					  true},
			 1);
	driver_kick(&d, RX);
	ck_assert(driver_sees_failure(&d));
	ck_assert_uint_eq(r->in_len, sizeof(data) - got - 2 * (RX_SIZE - sizeof(p)));
}
END_TEST

/* --- interrupts --- */

/* What was taken from the guest it hears of with the next thing that it has to hear, or when that
 * is much, or soon.
 */
START_TEST(taken_packets_are_told_of_later)
{
	struct pollfd soon = {.fd = vsock.timer.fd, .events = POLLIN};
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	event_take(d.irq.fd);
	for (unsigned int round = 0; round < 3; round++) {
		send_data(1000, 80, "x", 1); /* send_packet sees it as used */
		ck_assert_uint_eq(event_count(d.irq.fd), 0);
		ck_assert_int_eq(poll(&soon, 1, 10000), 1);
		loop_settle(&d.loop);
		ck_assert_uint_eq(event_count(d.irq.fd), 1);
	}
	send_data(1000, 80, "x", 1);
	give(r, (const uint8_t *)"y", 1);
	ck_assert_uint_eq(event_count(d.irq.fd), 1); /* both in one */
	ck_assert(receive(&p, NULL));
	poll(&soon, 1, 10000);
	loop_settle(&d.loop);
	ck_assert_uint_eq(event_count(d.irq.fd), 0); /* nothing is left to tell */
}
END_TEST

START_TEST(many_taken_packets_are_told_of_at_once)
{
	struct packet p = packet(RW, 1000, 80);

	guest_connects(1000, 80);
	event_take(d.irq.fd);
	p.len = 1;
	for (unsigned int i = 0; i < 40; i++)
		queue_packet(&p, "x");
	driver_kick(&d, TX);
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
}
END_TEST

/* A queue so short that its driver could wait for what it is not told of. */
START_TEST(a_short_queue_is_told_of_at_once)
{
	driver_reset(&d);
	driver_start(&d, 0, QUEUES, 4);
	event_take(d.irq.fd);
	send_op(RST, 1000, 80);
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
}
END_TEST

START_TEST(guest_has_little_credit)
{
	static uint8_t data[10000];
	struct record *r = guest_connects(1000, 80);
	struct packet p = packet(CREDIT_UPDATE, 1000, 80);
	uint32_t got = 0;

	fill_pattern(data, sizeof(data), 8);
	p.buf_alloc = 100;
	send_packet(&p, NULL);
	give(r, data, sizeof(data));
	while (got < sizeof(data)) {
		const uint8_t *part;
		struct packet in;

		ck_assert(receive(&in, &part));
		ck_that(in.op == RW && in.len == 100 && !memcmp(part, data + got, 100));
		got += in.len;
		expect_nothing();
		p.fwd_cnt = got;
		send_packet(&p, NULL);
	}
	ck_assert_uint_eq(r->in_len, 0);
}
END_TEST

/* A guest that says it took more than it was sent, or shrinks its buffer, gets nothing. */
START_TEST(guest_lies_about_credit)
{
	static uint8_t data[1000];
	struct record *r = guest_connects(1000, 80);
	struct packet p = packet(CREDIT_UPDATE, 1000, 80);

	p.fwd_cnt = 1;
	send_packet(&p, NULL);
	give(r, data, sizeof(data));
	expect_nothing();
	p.fwd_cnt = 0;
	p.buf_alloc = 0;
	send_packet(&p, NULL);
	expect_nothing();
	p.buf_alloc = UINT32_MAX;
	send_packet(&p, NULL);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.len, sizeof(data));
}
END_TEST

START_TEST(no_receive_buffers)
{
	static uint8_t data[1000];
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	take_all_buffers(r);
	give(r, data, sizeof(data));
	send_op(CREDIT_REQUEST, 1000, 80);
	for (unsigned int i = 0; i < 100; i++)
		send_op(REQUEST, 2000 + i, 80);
	ck_assert(!receive_only(&p, NULL));
	ck_assert_uint_eq(r->in_len, sizeof(data)); /* not read: the host's sender waits */
	/* All that is owed comes once there are buffers. */
	for (unsigned int responses = 0, bytes = 0; responses < 100 || bytes < sizeof(data);) {
		post_rx(1);
		driver_kick(&d, RX);
		ck_assert(receive_only(&p, NULL));
		responses += p.op == RESPONSE;
		bytes += p.len;
	}
}
END_TEST

/* Buffers of any layout; 45 bytes have room for one of data. */
START_TEST(receive_buffers_of_any_size)
{
	static const uint8_t data[] = "0123456789";
	struct record *r = guest_connects(1000, 80);
	struct ring *ring = &d.ring[RX];
	struct packet p;

	while (receive_only(&p, NULL))
		;
	driver_reset(&d);
	driver_start(&d, VIRTIO_F_INDIRECT_DESC, QUEUES, 16);
	r = NULL;
	for (unsigned int i = 0; i < 3; i++)
		ring_add(ring, &(struct buffer){rx_at + i * 64, 45, true}, 1);
	ring_add(ring,
		 (struct buffer[]){{rx_at + 256, 20, true},
				   {rx_at + 276, 26, true},
				   {rx_at + 302, 100, true}},
		 3);
	send_op(REQUEST, 1000, 80);
	r = &record[records - 1];
	give(r, data, 10);
	ck_assert(receive_only(&p, NULL));
	ck_assert_uint_eq(p.op, RESPONSE);
	for (unsigned int i = 0; i < 2; i++) {
		const uint8_t *one;

		ck_assert(receive_only(&p, &one));
		ck_assert_uint_eq(p.len, 1);
		ck_assert_uint_eq(*one, data[i]);
	}
	ck_assert(receive_only(&p, NULL));
	ck_assert_uint_eq(p.len, 8);
	ck_assert(!memcmp(guest_ptr(&d.guest, rx_at + 300, 8), data + 2, 8));
}
END_TEST

/* --- taking turns --- */

START_TEST(streams_take_turns)
{
	static uint8_t data[50 * RX_SIZE];
	struct record *a = guest_connects(1000, 80), *b = guest_connects(1001, 80);
	unsigned int last = 0, changes = 0, packets = 0;
	struct packet p;

	take_all_buffers(a);
	give(a, data, sizeof(data));
	give(b, data, sizeof(data));
	post_rx(RX_BUFFERS);
	driver_kick(&d, RX);
	while (receive(&p, NULL)) {
		packets++;
		changes += p.dst_port != last;
		last = p.dst_port;
	}
	ck_assert_uint_eq(a->in_len + b->in_len, 0);
	ck_assert_uint_eq(changes, packets); /* one each */
}
END_TEST

START_TEST(hundreds_of_connections)
{
	static uint8_t data[64 << 10];
	enum { N = 500 };

	fill_pattern(data, sizeof(data), 4);
	for (uint32_t i = 0; i < N; i++)
		guest_connects(5000 + i, 80);
	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < N; i++) {
			send_data(5000 + i, 80, data + i, 100);
			give(&record[i], data + i + round, 100 + i % 50);
		}
		for (uint32_t i = 0; i < N; i++) {
			const uint8_t *part;
			struct packet p;

			ck_that(receive(&p, &part));
			ck_that(p.op == RW && p.len == 100 + (p.dst_port - 5000) % 50);
			ck_that(!memcmp(part, data + (p.dst_port - 5000) + round, p.len));
		}
	}
	expect_nothing();
	for (uint32_t i = 0; i < N; i++) {
		ck_that(record[i].out_len == 400);
		ck_that(!memcmp(record[i].out + 300, data + i, 100));
		send_shutdown(5000 + i, 80, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
		expect(RST, 5000 + i, 80);
	}
	ck_assert_uint_eq(open_streams, 0);
}
END_TEST

START_TEST(connections_have_a_limit)
{
	struct record *extra;

	for (uint32_t i = 0; i < VSOCK_MAX_CONNS; i++)
		guest_connects(5000 + i, 80);
	send_op(REQUEST, 1, 80);
	expect(RST, 1, 80);
	extra = new_stream();
	ck_assert(virtio_enter(&vsock.dev));
	ck_assert_int_eq(vsock_connect(&vsock, extra->conn, 22), -EMFILE);
	virtio_leave(&vsock.dev);
	host_free(&host, extra->conn); /* still the caller's */
	send_op(RST, 5000, 80);
	guest_connects(1, 80);
}
END_TEST

/* --- closing --- */

START_TEST(guest_closes_its_sending_half)
{
	static const uint8_t answer[] = "answer";
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	send_data(1000, 80, "question", 8);
	send_shutdown(1000, 80, VSOCK_NO_SEND);
	ck_assert_uint_eq(r->shut, 1);
	ck_assert_uint_eq(r->freed, 0);
	give(r, answer, 6);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.len, 6);
	r->in_end = 1;
	ready(r, true, false);
	expect_shutdown(1000, 80, VSOCK_NO_SEND);
	expect(RST, 1000, 80); /* neither has anything more to say */
	ck_assert_uint_eq(r->freed, 1);
	ck_assert_uint_eq(r->shut, 1);
}
END_TEST

/* The end of the guest's bytes comes behind those that wait. */
START_TEST(shutdown_waits_for_buffered_bytes)
{
	struct record *r = guest_connects(1000, 80);

	r->room = 3;
	send_data(1000, 80, "abcdef", 6);
	send_shutdown(1000, 80, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
	ck_assert_uint_eq(r->shut, 0);
	expect_nothing();
	r->room = 100;
	ready(r, false, true);
	ck_assert(!memcmp(r->out, "abcdef", 6));
	ck_assert_uint_eq(r->shut, 1);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

START_TEST(data_after_the_end)
{
	struct record *r = guest_connects(1000, 80);

	send_shutdown(1000, 80, VSOCK_NO_SEND);
	send_data(1000, 80, "x", 1);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->out_len, 0);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

START_TEST(shutdown_flags_add_up)
{
	struct record *r = guest_connects(1000, 80);

	send_shutdown(1000, 80, 0);
	send_shutdown(1000, 80, 0xfffffffc);
	expect_nothing();
	send_shutdown(1000, 80, VSOCK_NO_RECEIVE);
	expect_nothing();
	send_shutdown(1000, 80, VSOCK_NO_SEND);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

/* A guest that will not receive gets nothing; the other direction goes on. */
START_TEST(guest_closes_its_receiving_half)
{
	static const uint8_t data[] = "lost";
	struct record *r = guest_connects(1000, 80);

	send_shutdown(1000, 80, VSOCK_NO_RECEIVE);
	give(r, data, 4);
	expect_nothing();
	send_data(1000, 80, "still", 5);
	ck_assert_uint_eq(r->out_len, 5);
}
END_TEST

START_TEST(host_closes_its_sending_half)
{
	struct record *r = guest_connects(1000, 80);

	r->in_end = 1;
	ready(r, true, false);
	expect_shutdown(1000, 80, VSOCK_NO_SEND);
	send_data(1000, 80, "more", 4);
	ck_assert_uint_eq(r->out_len, 4);
	send_shutdown(1000, 80, VSOCK_NO_SEND);
	ck_assert_uint_eq(r->shut, 1);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

/* Bytes that were there before the end come before it. */
START_TEST(host_sends_and_ends)
{
	static const uint8_t data[] = "last words";
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	r->in_end = 1;
	give(r, data, 10);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.op, RW);
	ck_assert_uint_eq(p.len, 10);
	expect_shutdown(1000, 80, VSOCK_NO_SEND);
}
END_TEST

/* The host's reader is gone: the guest hears so, and what it sends goes nowhere, with credit. */
START_TEST(host_closes_its_receiving_half)
{
	static uint8_t data[VSOCK_BUFFER];
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	r->out_error = -EPIPE;
	send_data(1000, 80, data, 10);
	expect_shutdown(1000, 80, VSOCK_NO_RECEIVE);
	for (unsigned int i = 0; i < 3; i++) {
		send_data(1000, 80, data, VSOCK_BUFFER);
		ck_assert(receive(&p, NULL));
		ck_assert_uint_eq(p.op, CREDIT_UPDATE);
		ck_assert_uint_eq(p.fwd_cnt, 10 + (i + 1) * VSOCK_BUFFER);
	}
	ck_assert_uint_eq(r->freed + r->hung, 0);
	/* Then the rest: hung up, while the ports wait for the guest's reset. */
	r->in_end = 1;
	ready(r, true, false);
	expect_shutdown(1000, 80, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	ck_assert_uint_eq(r->hung, 1);
	ck_assert_uint_eq(r->freed, 0);
	send_op(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
}
END_TEST

/* The reader goes while bytes wait for it. */
START_TEST(host_closes_with_bytes_waiting)
{
	static uint8_t data[VSOCK_BUFFER];
	struct record *r = guest_connects(1000, 80);
	struct packet p;

	r->room = 0;
	send_data(1000, 80, data, VSOCK_BUFFER);
	r->room = 1;
	r->out_error = -EPIPE;
	ready(r, false, true);
	ck_assert_uint_eq(r->conn->buffered, 0);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.op, SHUTDOWN);
	ck_assert_uint_eq(p.flags, VSOCK_NO_RECEIVE);
	ck_assert_uint_eq(p.fwd_cnt, VSOCK_BUFFER); /* the credit is back */
	expect_nothing();
}
END_TEST

START_TEST(broken_stream)
{
	struct record *r = guest_connects(1000, 80);

	r->in_end = -ECONNRESET;
	ready(r, true, true);
	expect_shutdown(1000, 80, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	ck_assert_uint_eq(r->hung, 1);
	/* The guest's own close, as Linux does it: shutdown, then a reset by us. */
	send_shutdown(1000, 80, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(r->freed, 1);
	ck_assert_uint_eq(r->shut, 0);
}
END_TEST

/* Host closes while its connection is still being asked for. */
START_TEST(host_closes_before_the_guest_accepts)
{
	uint32_t port;
	struct record *r = host_begins(22, &port);

	r->in_end = 1;
	r->out_error = -EPIPE;
	ready(r, true, true);
	expect_nothing();
	send_op(RESPONSE, 22, port);
	expect_shutdown(22, port, VSOCK_NO_SEND);
	send_data(22, port, "x", 1);
	expect_shutdown(22, port, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
	ck_assert_uint_eq(r->hung, 1);
}
END_TEST

START_TEST(bytes_before_the_guest_accepts)
{
	static const uint8_t data[] = "early";
	uint32_t port;
	struct record *r = host_begins(22, &port);
	struct packet p;

	give(r, data, 5);
	expect_nothing();
	send_op(RESPONSE, 22, port);
	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.op, RW);
	ck_assert_uint_eq(p.len, 5);
}
END_TEST

/* --- packets of nobody --- */

START_TEST(packets_without_connection)
{
	static const enum op ops[] = {RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 77};

	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		send_op(ops[i], 1000 + i, 80);
		expect(RST, 1000 + i, 80);
	}
	send_op(RST, 1000, 80); /* never answered: two could go on for ever */
	expect_nothing();
	ck_assert_uint_eq(records, 0);
}
END_TEST

START_TEST(wrong_type)
{
	struct packet p = packet(REQUEST, 1000, 80);

	for (uint16_t type = 0; type < 4; type++) {
		p.type = type;
		if (type == 1)
			continue;
		send_packet(&p, NULL);
		expect(RST, 1000, 80);
	}
	/* Nor is a stream's connection found by it. */
	guest_connects(1000, 80);
	p = packet(RST, 1000, 80);
	p.type = 2;
	send_packet(&p, NULL);
	ck_assert_uint_eq(open_streams, 1);
	ck_assert_uint_eq(records, 1);
}
END_TEST

START_TEST(wrong_cid)
{
	static const uint64_t cids[] = {0, 1, 4, UINT32_MAX, (1ull << 32) + CID, UINT64_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(cids); i++) {
		struct packet p = packet(REQUEST, 1000, 80);

		p.src_cid = cids[i];
		send_packet(&p, NULL);
		p = packet(REQUEST, 1000, 80);
		p.dst_cid = cids[i];
		send_packet(&p, NULL);
	}
	expect_nothing();
	ck_assert_uint_eq(records, 0);
	ck_assert(!driver_sees_failure(&d));
}
END_TEST

/* Resets for nobody are few: a guest cannot make the device remember more. */
/* The next n packets are resets, one for each guest port from first on, in any order. */
static void expect_resets(uint32_t first, unsigned int n)
{
	bool seen[RX_BUFFERS] = {false};
	struct packet p = {0};

	for (unsigned int i = 0; i < n; i++) {
		ck_assert_msg(receive(&p, NULL), "%u resets of %u", i, n);
		ck_that(p.op == RST && p.dst_port - first < n && !seen[p.dst_port - first]);
		seen[p.dst_port - first] = true;
	}
	expect_nothing();
}

/* A packet for each of the guest ports 1000 on, together; none is served yet. */
static void queue_strays(enum op op, uint32_t host_port, unsigned int n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = tx_at + i * sizeof(struct packet);
		struct packet *p = guest_ptr(&d.guest, at, sizeof(*p));

		*p = packet(op, 1000 + i, host_port);
		ring_add(&d.ring[TX], &(struct buffer){at, sizeof(*p), false}, 1);
	}
}

/* More of them than the device remembers: each learns of it. */
START_TEST(many_refused_in_one_batch)
{
	struct used_elem u;

	queue_strays(REQUEST, refused_port = 81, RX_BUFFERS);
	driver_kick(&d, TX);
	for (uint32_t i = 0; i < RX_BUFFERS; i++)
		ck_that(ring_take(&d.ring[TX], &u));
	expect_resets(1000, RX_BUFFERS);
}
END_TEST

/* Without receive buffers, what would be one too many to remember waits in the queue (5.10.6.3). */
START_TEST(strays_are_bounded)
{
	struct packet p;
	unsigned int taken = 0;
	struct used_elem u;

	while (receive_only(&p, NULL))
		;
	driver_reset(&d);
	driver_start(&d, 0, QUEUES, RX_BUFFERS);
	queue_strays(CREDIT_UPDATE, 80, RX_BUFFERS);
	for (unsigned int i = 0; i < 10; i++)
		driver_kick(&d, TX); /* and it rests: nothing can be done */
	while (ring_take(&d.ring[TX], &u))
		taken++;
	ck_assert_uint_eq(taken, VSOCK_STRAYS);
	ck_assert_uint_eq(vsock.strays, VSOCK_STRAYS);
	post_rx(1);
	driver_kick(&d, RX);
	ck_that(ring_take(&d.ring[TX], &u)); /* one for one */
	ck_that(!ring_take(&d.ring[TX], &u));
	post_rx(RX_BUFFERS - 1);
	driver_kick(&d, RX);
	expect_resets(1000, RX_BUFFERS);
	ck_assert(!driver_sees_failure(&d));
}
END_TEST

/* --- in another VM --- */

#define KIND	  "vs-state"
#define KEPT_PORT 1024u

static void save(struct state_writer *w)
{
	struct state_visitor v = {.w = w};

	*w = (struct state_writer){0};
	state_begin(w, KIND);
	ck_ok(virtio_vsock_state(&vsock, 1, KEPT_PORT, &v, &e));
	ck_ok(state_finish(w, &e));
}

/* Over the same guest memory; the streams of before are gone. */
static int try_load(const struct state_writer *w, uint32_t keep_port)
{
	struct state_reader r;
	struct state_visitor v = {.r = &r};
	int result;

	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(open_streams, 0);
	virtio_close(&vsock.dev);
	ck_ok(virtio_vsock_init(&vsock, &d.guest.mem, CID, &host, d.irq, &d.loop, &e));
	ck_ok(state_open(&r, w->data, w->len, KIND, "state", &e));
	result = virtio_vsock_state(&vsock, 1, keep_port, &v, &e);
	loop_settle(&d.loop);
	return result;
}

static void load(const struct state_writer *w)
{
	ck_ok(try_load(w, KEPT_PORT));
}

/* All but one are reset, however many; what the guest says meanwhile is not lost. */
START_TEST(hundreds_of_streams_over_a_snapshot)
{
	enum { N = 300 };
	bool seen[N] = {false};
	struct packet p = packet(RW, 4000, KEPT_PORT);
	struct state_writer w;
	struct used_elem u;
	struct record *kept;

	guest_connects(4000, KEPT_PORT);
	for (uint32_t i = 0; i < N; i++)
		guest_connects(5000 + i, 80);
	give(&record[1], (const uint8_t *)"on its way", 10);
	receive(&p, NULL);
	save(&w);
	load(&w);
	state_discard(&w);
	ck_assert_uint_eq(open_streams, 1);
	kept = &record[records - 1];
	p = packet(RW, 4000, KEPT_PORT);
	p.len = 5;
	queue_packet(&p, "hello");
	driver_kick(&d, TX);
	ck_that(!ring_take(&d.ring[TX], &u)); /* resets first */
	for (unsigned int i = 0; i < N; i++) {
		ck_assert_msg(receive(&p, NULL), "%u resets of %u", i, N);
		ck_that(p.op == RST && p.dst_port - 5000 < N && !seen[p.dst_port - 5000]);
		seen[p.dst_port - 5000] = true;
	}
	expect_nothing();
	ck_that(ring_take(&d.ring[TX], &u));
	ck_that(kept->out_len == 5 && !memcmp(kept->out, "hello", 5));
	give(kept, (const uint8_t *)"answer", 6);
	ck_that(receive(&p, NULL) && p.op == RW && p.len == 6 && p.dst_port == 4000);
}
END_TEST

/* A snapshot says which connection is kept: it is not to choose a service of the host's. */
START_TEST(kept_connection_that_may_not_be)
{
	struct state_writer w;

	ck_that(!virtio_vsock_kept(&vsock, KEPT_PORT));
	guest_connects(4000, KEPT_PORT);
	ck_that(virtio_vsock_kept(&vsock, KEPT_PORT));
	save(&w);
	ck_refused(try_load(&w, KEPT_PORT + 1), EINVAL,
		   "it has a connection of the guest's that is not the agent's");
	ck_assert_uint_eq(open_streams, 0);
	refused_port = KEPT_PORT;
	ck_refused(try_load(&w, KEPT_PORT), ECONNREFUSED,
		   "cannot make the agent's connection anew");
	ck_assert_uint_eq(open_streams, 0);
	refused_port = 0;
	load(&w);
	ck_assert_uint_eq(open_streams, 1);
	state_discard(&w);
}
END_TEST

/* --- what makes the device fail --- */

static void expect_failure(void)
{
	driver_kick(&d, TX);
	ck_assert(driver_sees_failure(&d));
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(open_streams, 0);
	vsock_guest_start();
	guest_connects(1000, 80);
}

START_TEST(packet_longer_than_its_chain)
{
	static const uint32_t lens[] = {1, 4096, 1u << 31, UINT32_MAX - 43, UINT32_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		struct packet p = packet(RW, 1000, 80);
		uint8_t *tx = guest_ptr(&d.guest, tx_at, sizeof(p));

		send_op(RST, 1000, 80);
		guest_connects(1000, 80);
		p.len = lens[i];
		memcpy(tx, &p, sizeof(p));
		ring_add(&d.ring[TX], &(struct buffer){tx_at, sizeof(p), false}, 1);
		expect_failure();
	}
}
END_TEST

START_TEST(packet_shorter_than_a_header)
{
	for (uint32_t len = 1; len < sizeof(struct packet); len += 6) {
		ring_add(&d.ring[TX], &(struct buffer){tx_at, len, false}, 1);
		expect_failure();
	}
}
END_TEST

START_TEST(packet_in_writable_memory)
{
	ring_add(&d.ring[TX], &(struct buffer){tx_at, 100, true}, 1);
	expect_failure();
}
END_TEST

START_TEST(bytes_with_another_op)
{
	struct packet p = packet(REQUEST, 1000, 80);

	p.len = 4;
	queue_packet(&p, "data");
	expect_failure();
}
END_TEST

START_TEST(malformed_transmit_chain)
{
	ring_add(&d.ring[TX], &(struct buffer){GUEST_MEMORY - 10, 44, false}, 1);
	expect_failure();
}
END_TEST

static void bad_receive_buffer(uint32_t len, bool write)
{
	struct packet p;

	while (receive_only(&p, NULL))
		;
	driver_reset(&d);
	driver_start(&d, 0, QUEUES, RX_BUFFERS);
	ring_add(&d.ring[RX], &(struct buffer){rx_at, len, write}, 1);
	send_op(REQUEST, 1, 80);
	ck_assert(driver_sees_failure(&d));
}

START_TEST(receive_buffer_too_small)
{
	bad_receive_buffer(1, true);
	bad_receive_buffer(sizeof(struct packet) - 1, true);
	bad_receive_buffer(sizeof(struct packet), true); /* never room for a byte */
}
END_TEST

START_TEST(receive_buffer_is_readable)
{
	bad_receive_buffer(RX_SIZE, false);
}
END_TEST

/* --- reset --- */

START_TEST(reset_in_the_middle_of_everything)
{
	static uint8_t data[VSOCK_BUFFER];
	struct packet full = packet(CREDIT_UPDATE, 1000, 80);
	uint32_t port;
	struct record *r;

	for (unsigned int i = 0; i < 10; i++) {
		r = guest_connects(1000, 80); /* with bytes waiting both ways */
		r->room = 0;
		full.buf_alloc = 0;
		send_packet(&full, NULL);
		send_data(1000, 80, data, 5000);
		send_packet(&full, NULL);
		give(r, data, sizeof(data));
		r = guest_connects(1001, 80); /* half closed */
		send_shutdown(1001, 80, VSOCK_NO_SEND);
		r->in_end = 1;
		host_begins(22, &port);	      /* not answered */
		r = guest_connects(1002, 80); /* broken */
		r->in_end = -EIO;
		ready(r, true, true);
		queue_packet(&(struct packet){.src_cid = 9}, NULL);
		reg_write(&d, REG_QUEUE_NOTIFY, TX);
		driver_reset(&d);
		if (i % 2)
			loop_settle(&d.loop); /* else the reset waits for the next start */
		d.guest.heap = tx_at + TX_SIZE;
		memset(guest_ptr(&d.guest, d.guest.heap, 64 << 10), 0, 64 << 10);
		vsock_guest_start();
		ck_assert_uint_eq(open_streams, 0);
	}
}
END_TEST

/* Random packets of a few ports, and a host that does anything. */
START_TEST(random_packets)
{
	static uint8_t data[VSOCK_BUFFER];
	uint32_t seed = 11;

	for (unsigned int i = 0; i < 30000; i++) {
		uint32_t v = next_random(&seed), w = next_random(&seed);
		struct packet p = packet(v % 9, 1000 + (v >> 4) % 4, 80 + (v >> 6) % 2);
		struct packet in;

		if (records == RECORDS)
			break;
		p.flags = w % 4;
		p.buf_alloc = w >> 2 & 1 ? GUEST_ALLOC : w % 5000;
		p.fwd_cnt = w >> 3 & 1 ? w : 0;
		p.len = p.op == RW ? (w >> 8) % (w & 16 ? 100 : VSOCK_BUFFER) : 0;
		send_packet(&p, data);
		if (records) {
			struct record *r = &record[records - 1 - (w >> 5) % MIN(records, 4u)];

			r->room = w & 32 ? w % 3000 : SIZE_MAX;
			r->out_error = (w & 0x700) == 0x700 ? -EPIPE : 0;
			r->in_end = (w & 0x3800) == 0x3800;
			r->out_len = 0;
			r->in_at = 0;
			r->in = data;
			r->in_len = w % sizeof(data);
			if (r->conn && !r->hung)
				ready(r, w & 64, w & 128);
		}
		for (unsigned int k = 0; k < w % 5; k++)
			receive(&in, NULL);
	}
	ck_assert(!driver_sees_failure(&d));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		configuration,
		guest_connects_and_closes,
		guest_is_refused,
		guest_resets,
		host_connects_and_guest_accepts,
		guest_refuses_the_host,
		host_ports_differ,
		packets_before_the_response,
		second_response,
		second_request,
		unknown_ops,
		guest_sends,
		packet_in_many_buffers,
		host_takes_little_by_little,
		host_takes_in_small_pieces,
		guest_exceeds_its_credit,
		credit_is_less_for_the_many,
		credit_request,
		counters_wrap,
		host_sends,
		host_sends_in_bulk,
		host_sends_in_bulk_to_odd_buffers,
		taken_packets_are_told_of_later,
		many_taken_packets_are_told_of_at_once,
		a_short_queue_is_told_of_at_once,
		guest_has_little_credit,
		guest_lies_about_credit,
		no_receive_buffers,
		receive_buffers_of_any_size,
		streams_take_turns,
		hundreds_of_connections,
		connections_have_a_limit,
		guest_closes_its_sending_half,
		shutdown_waits_for_buffered_bytes,
		data_after_the_end,
		shutdown_flags_add_up,
		guest_closes_its_receiving_half,
		host_closes_its_sending_half,
		host_sends_and_ends,
		host_closes_its_receiving_half,
		host_closes_with_bytes_waiting,
		broken_stream,
		host_closes_before_the_guest_accepts,
		bytes_before_the_guest_accepts,
		packets_without_connection,
		wrong_type,
		wrong_cid,
		many_refused_in_one_batch,
		strays_are_bounded,
		hundreds_of_streams_over_a_snapshot,
		kept_connection_that_may_not_be,
		packet_longer_than_its_chain,
		packet_shorter_than_a_header,
		packet_in_writable_memory,
		bytes_with_another_op,
		malformed_transmit_chain,
		receive_buffer_too_small,
		receive_buffer_is_readable,
		reset_in_the_middle_of_everything,
		random_packets,
	};

	return run_tests("virtio_vsock", tests, ARRAY_SIZE(tests), setup, teardown);
}
