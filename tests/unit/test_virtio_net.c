/* SPDX-License-Identifier: Apache-2.0
 *
 * The network device over a back end of the test's own, which counts what it is asked for.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio_net.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"

#define F_MRG_RXBUF (1ull << 15)
#define RX	    0u
#define TX	    1u
#define ECN	    0x80u

static const uint8_t address[6] = {2, 1, 2, 3, 4, 5};

static struct driver d;
static struct virtio_net net;
static struct err e;

/* --- the back end --- */

static uint8_t frame_data[NET_FRAME_MAX];

/* A socket pair stands for the descriptor: what the device polls is its end. */
static struct fake {
	struct net_backend backend;
	int other;
	struct net_header header; /* of what is received */
	size_t frame;		  /* length of the frames there */
	unsigned int frames;	  /* how many are there */
	int receive_error;	  /* instead of the next */
	unsigned int reads;	  /* calls of receive that gave one */
	unsigned int sends;
	int send_error; /* answers of send */
	struct net_header sent_header;
	uint8_t sent[NET_FRAME_MAX];
	size_t sent_len;
	unsigned int flushes;
	uint64_t offload;
} fake;

/* The descriptor is readable as long as there are frames, as a tap's is. */
static void set_frames(unsigned int n)
{
	char byte = 0;

	while (recv(fake.backend.fd, &byte, 1, MSG_DONTWAIT) == 1)
		;
	fake.frames = n;
	if (n)
		ck_that(write(fake.other, &byte, 1) == 1);
}

static int fake_receive(struct net_backend *b, struct net_frame *f)
{
	ck_that(b == &fake.backend);
	if (fake.receive_error)
		return fake.receive_error;
	if (!fake.frames)
		return -EAGAIN;
	set_frames(fake.frames - 1);
	fake.reads++;
	*f = (struct net_frame){.header = fake.header, .data = frame_data, .len = fake.frame};
	return 0;
}

static int fake_send(struct net_backend *b, const struct net_header *h, struct iovec *iov,
		     unsigned int n, size_t len)
{
	ck_that(b == &fake.backend);
	fake.sends++;
	if (fake.send_error)
		return fake.send_error;
	fake.sent_header = *h;
	fake.sent_len = iov_read(iov + 1, n, 0, fake.sent, sizeof(fake.sent));
	ck_that(fake.sent_len == len);
	return 0;
}

static int fake_flush(struct net_backend *b)
{
	fake.flushes++;
	b->backlog = false;
	return 0;
}

static void fake_offload(struct net_backend *b, uint64_t features)
{
	(void)b;
	fake.offload = features;
}

static void fake_init(bool offloads)
{
	int fd[2];

	ck_that(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	fake = (struct fake){.backend = {.receive = fake_receive,
					 .send = fake_send,
					 .flush = fake_flush,
					 .offload = fake_offload,
					 .offloads = offloads,
					 .fd = fd[0]},
			     .other = fd[1],
			     .frame = 100};
	fill_pattern(frame_data, sizeof(frame_data), 1);
}

/* --- the device and its driver --- */

static void device_init(bool offloads)
{
	driver_init(&d);
	fake_init(offloads);
	ck_ok(virtio_net_init(&net, &d.guest.mem, address, 1500, offloads, d.irq, &d.loop, &e));
	ck_ok(virtio_net_set_backend(&net, &fake.backend, &e));
	d.dev = &net.dev;
}

static void setup(void)
{
	device_init(false);
}

static void setup_offloads(void)
{
	device_init(true);
}

static void teardown(void)
{
	d.dev = &net.dev;
	if (net.throttle.timer.fd >= 0)
		close(net.throttle.timer.fd);
	driver_free(&d);
	close(fake.backend.fd);
	close(fake.other);
}

static void start(uint64_t features)
{
	driver_start(&d, features, 2, 8);
}

/* Makes a buffer for frames available; returns where. */
static uint64_t offer(uint32_t len)
{
	struct buffer b = {guest_alloc(&d.guest, len), len, true};

	ring_add(&d.ring[RX], &b, 1);
	return b.at;
}

static void frames_come(unsigned int n, size_t len)
{
	fake.frame = len;
	set_frames(n);
	driver_kick(&d, RX); /* for the buffers before */
}

/* The next used buffer of the receive queue, which is at `at`, has this header and frame. */
static void got_frame(uint64_t at, size_t len)
{
	const struct net_header *h = guest_ptr(&d.guest, at, NET_HEADER + len);
	struct used_elem u;

	ck_that(ring_take(&d.ring[RX], &u));
	ck_assert_uint_eq(u.len, NET_HEADER + len);
	ck_assert_uint_eq(h->num_buffers, 1);
	ck_assert_mem_eq(h + 1, frame_data, len);
}

static uint64_t make_frame(const struct net_header *h, size_t len)
{
	uint64_t at = guest_alloc(&d.guest, NET_HEADER + len);
	uint8_t *p = guest_ptr(&d.guest, at, NET_HEADER + len);

	memcpy(p, h, NET_HEADER);
	memcpy(p + NET_HEADER, frame_data, len);
	return at;
}

static void transmit(const struct net_header *h, size_t len)
{
	struct buffer b = {make_frame(h, len), NET_HEADER + (uint32_t)len, false};

	ring_add(&d.ring[TX], &b, 1);
	driver_kick(&d, TX);
}

static const struct net_header plain;

/* --- what it is --- */

START_TEST(configuration)
{
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 1);
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES) & 0xffffff, 0x18028);
	for (unsigned int i = 0; i < 4; i++) {
		reg_write(&d, REG_QUEUE_SEL, i);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), i < 2 ? VIRTQUEUE_MAX : 0);
	}
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x03020102);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 4), 0x10504);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 8), 1500 << 16 | 1);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 12), 0);
	reg_write(&d, REG_CONFIG, 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x03020102);
}
END_TEST

START_TEST(offloads_offered)
{
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES) & 0xffffff, 0x18028 | NET_OFFLOADS);
	start(F_MRG_RXBUF | NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
	ck_assert_uint_eq(fake.offload, NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4);
	driver_reset(&d);
	start(F_MRG_RXBUF);
	ck_assert_uint_eq(fake.offload, 0);
}
END_TEST

/* --- receive --- */

START_TEST(receives)
{
	uint64_t at[3];

	start(0);
	for (unsigned int i = 0; i < 3; i++)
		at[i] = offer(1526);
	frames_come(2, 60);
	got_frame(at[0], 60);
	got_frame(at[1], 60);
	ck_assert_uint_gt(event_count(d.irq.fd), 0);
	frames_come(1, 1514);
	got_frame(at[2], 1514);
	ck_assert_uint_eq(net.stats.rx_frames, 3);
	ck_assert_uint_eq(net.stats.rx_bytes, 2 * 60 + 1514);
}
END_TEST

/* Nothing is read without a buffer, and the loop does not turn for what it will not read. */
START_TEST(waits_for_buffers)
{
	uint64_t at;

	start(0);
	frames_come(5, 80);
	ck_assert_uint_eq(fake.reads, 0);
	at = offer(1526);
	driver_kick(&d, RX);
	ck_assert_uint_eq(fake.reads, 1);
	got_frame(at, 80);
	at = offer(1526);
	driver_kick(&d, RX);
	got_frame(at, 80);
	ck_assert_uint_eq(fake.frames, 3);
}
END_TEST

/* With event indexes a driver notifies only where it was asked to: a device that asks for the wrong
 * place never hears of new buffers (CVE-2020-16843 was of that kind).
 */
static void offer_and_notify(uint32_t len)
{
	struct ring *r = &d.ring[RX];
	uint16_t before = r->avail[1];

	offer(len);
	if (*ring_avail_event(r) == before)
		driver_kick(&d, RX);
	else
		loop_settle(&d.loop);
}

START_TEST(goes_on_with_event_index)
{
	struct used_elem u;

	start(VIRTIO_F_EVENT_IDX | F_MRG_RXBUF);
	frames_come(100, 1000);
	for (unsigned int i = 0; i < 100; i++) {
		offer_and_notify(1526);
		ck_that(ring_take(&d.ring[RX], &u));
	}
	ck_assert_uint_eq(fake.reads, 100);
}
END_TEST

/* One that is there and one that is not: the frame waits for both. */
START_TEST(goes_on_with_parts)
{
	struct used_elem u;

	start(VIRTIO_F_EVENT_IDX | F_MRG_RXBUF);
	frames_come(50, 2500);
	for (unsigned int i = 0; i < 50; i++) {
		offer_and_notify(1000);
		ck_assert_uint_eq(ring_used_index(&d.ring[RX]), 3 * i);
		offer_and_notify(1000);
		ck_assert_uint_eq(ring_used_index(&d.ring[RX]), 3 * i);
		offer_and_notify(1000);
		for (unsigned int k = 0; k < 3; k++) {
			ck_that(ring_take(&d.ring[RX], &u));
			ck_assert_uint_eq(u.len, k < 2 ? 1000 : 512);
		}
	}
	ck_assert_uint_eq(fake.reads, 50);
	ck_assert_uint_eq(net.stats.rx_dropped, 0);
}
END_TEST

START_TEST(merges_buffers)
{
	static const uint32_t lens[] = {100, 1, 100, 11};
	uint64_t at[4];
	struct used_elem u;
	uint8_t *p;

	start(F_MRG_RXBUF);
	for (unsigned int i = 0; i < 4; i++)
		at[i] = offer(i == 1 ? 1 : 100);
	frames_come(1, 200);
	p = guest_ptr(&d.guest, at[0], 100);
	ck_assert_uint_eq(((struct net_header *)(void *)p)->num_buffers, 4);
	ck_assert_mem_eq(p + 12, frame_data, 88);
	ck_assert_mem_eq(guest_ptr(&d.guest, at[1], 1), frame_data + 88, 1);
	ck_assert_mem_eq(guest_ptr(&d.guest, at[2], 100), frame_data + 89, 100);
	ck_assert_mem_eq(guest_ptr(&d.guest, at[3], 11), frame_data + 189, 11);
	for (unsigned int i = 0; i < 4; i++) {
		ck_that(ring_take(&d.ring[RX], &u));
		ck_assert_uint_eq(u.len, lens[i]);
	}
	ck_that(!ring_take(&d.ring[RX], &u));
}
END_TEST

/* A header that is cut in pieces, and a frame that is. */
START_TEST(buffers_of_any_shape)
{
	uint64_t at = guest_alloc(&d.guest, 4096);
	struct buffer b[] = {{at, 1, true}, {at + 1, 10, true}, {at + 11, 2, true}, {at + 13, 2000, true}};
	struct used_elem u;

	start(0);
	ring_add(&d.ring[RX], b, 4);
	frames_come(1, 1514);
	ck_that(ring_take(&d.ring[RX], &u));
	ck_assert_uint_eq(((struct net_header *)guest_ptr(&d.guest, at, 12))->num_buffers, 1);
	ck_assert_mem_eq(guest_ptr(&d.guest, at + 12, 1514), frame_data, 1514);
	/* The same to transmit. */
	for (unsigned int i = 0; i < 4; i++)
		b[i].write = false;
	b[3].len = 1513;
	memset(guest_ptr(&d.guest, at, 12), 0, 12);
	ring_add(&d.ring[TX], b, 4);
	driver_kick(&d, TX);
	ck_assert_uint_eq(fake.sent_len, 1514);
	ck_assert_mem_eq(fake.sent, frame_data, 1514);
}
END_TEST

START_TEST(largest_frame)
{
	uint64_t at;

	start(0);
	at = offer(NET_HEADER + NET_FRAME_MAX);
	frames_come(1, NET_FRAME_MAX);
	got_frame(at, NET_FRAME_MAX);
}
END_TEST

/* What can never be delivered is dropped, and does not hold up the next. */
START_TEST(frames_that_do_not_fit)
{
	uint64_t at;

	start(0);
	at = offer(100);
	frames_come(1, 89);
	ck_assert_uint_eq(net.stats.rx_dropped, 1);
	frames_come(1, 88);
	got_frame(at, 88);
	driver_reset(&d);
	start(F_MRG_RXBUF);
	for (unsigned int i = 0; i < 8; i++) /* the whole queue */
		at = offer(100);
	frames_come(1, 800);
	ck_assert_uint_eq(net.stats.rx_dropped, 2);
	frames_come(1, 788);
	ck_assert_uint_eq(ring_used_index(&d.ring[RX]), 8);
}
END_TEST

START_TEST(frames_that_cannot_be_used)
{
	uint64_t at;

	start(0);
	at = offer(1526);
	fake.receive_error = -EBADMSG;
	set_frames(1);
	reg_write(&d, REG_QUEUE_NOTIFY, RX);
	loop_turn(&d.loop);
	loop_turn(&d.loop);
	ck_assert_uint_gt(net.stats.rx_dropped, NET_ROUND - 1);
	fake.receive_error = 0;
	loop_settle(&d.loop);
	got_frame(at, 100);
}
END_TEST

/* Only what the driver has accepted, whatever the back end says. */
START_TEST(headers_to_the_guest)
{
	static const struct {
		struct net_header h;
		uint64_t needs;
	} t[] = {
		{{.flags = NET_NEEDS_CSUM}, NET_F_GUEST_CSUM},
		{{.flags = NET_DATA_VALID}, 0},
		{{.gso_type = NET_GSO_TCPV4, .gso_size = 1448}, NET_F_GUEST_TSO4},
		{{.gso_type = NET_GSO_TCPV6, .gso_size = 1428}, NET_F_GUEST_TSO6},
		{{.gso_type = NET_GSO_TCPV4 | ECN}, ~0ull},
		{{.gso_type = 3}, ~0ull},
		{{.gso_type = 5}, ~0ull},
	};
	static const uint64_t accepted[] = {0, NET_F_GUEST_CSUM, NET_F_GUEST_CSUM | NET_F_GUEST_TSO4,
					    NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6};

	for (size_t k = 0; k < ARRAY_SIZE(accepted); k++)
		for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
			uint64_t at, dropped = net.stats.rx_dropped;
			const struct net_header *h;

			start(accepted[k]);
			at = offer(1526);
			fake.header = t[i].h;
			frames_come(1, 60);
			if (t[i].needs & ~accepted[k]) {
				ck_assert_uint_eq(net.stats.rx_dropped, dropped + 1);
			} else {
				got_frame(at, 60);
				h = guest_ptr(&d.guest, at, NET_HEADER);
				ck_assert_uint_eq(h->flags, accepted[k] ? t[i].h.flags : 0);
				ck_assert_uint_eq(h->gso_type, t[i].h.gso_type);
				ck_assert_uint_eq(h->gso_size, t[i].h.gso_size);
			}
			driver_reset(&d);
			loop_settle(&d.loop);
		}
}
END_TEST

START_TEST(reset_drops_what_waits)
{
	uint64_t at;

	start(F_MRG_RXBUF);
	offer(20);
	frames_come(2, 300);
	ck_assert_uint_eq(fake.reads, 1);
	driver_reset(&d);
	loop_settle(&d.loop);
	start(0);
	fake.frame = 77;
	at = offer(1526);
	driver_kick(&d, RX);
	got_frame(at, 77);
	/* And without a driver nothing is read. */
	driver_reset(&d);
	frames_come(3, 60);
	ck_assert_uint_eq(fake.reads, 2);
}
END_TEST

/* --- transmit --- */

START_TEST(transmits)
{
	struct used_elem u;

	start(0);
	transmit(&plain, 60);
	ck_assert_uint_eq(fake.sends, 1);
	ck_assert_mem_eq(fake.sent, frame_data, 60);
	ck_that(ring_take(&d.ring[TX], &u));
	ck_assert_uint_eq(u.len, 0);
	ck_assert_uint_gt(event_count(d.irq.fd), 0);
	ck_assert_uint_eq(net.stats.tx_bytes, 60);
}
END_TEST

START_TEST(lengths)
{
	const size_t good[] = {14, 1514, NET_FRAME_MAX}, bad[] = {0, 1, 13, NET_FRAME_MAX + 1};
	uint64_t at = guest_alloc(&d.guest, 128u << 10);

	start(0);
	for (unsigned int i = 0; i < ARRAY_SIZE(good) + ARRAY_SIZE(bad); i++) {
		bool fits = i < ARRAY_SIZE(good);
		size_t len = fits ? good[i] : bad[i - ARRAY_SIZE(good)];
		struct buffer b = {at, NET_HEADER + (uint32_t)len, false};

		ring_add(&d.ring[TX], &b, 1);
		driver_kick(&d, TX);
		ck_assert_uint_eq(ring_used_index(&d.ring[TX]), i + 1);
		ck_assert_uint_eq(fake.sends, MIN(i + 1, ARRAY_SIZE(good)));
		if (fits)
			ck_assert_uint_eq(fake.sent_len, len);
	}
	ck_assert_uint_eq(net.stats.tx_dropped, ARRAY_SIZE(bad));
}
END_TEST

START_TEST(headers_from_the_guest)
{
	start(NET_F_CSUM | NET_F_HOST_TSO4);
	transmit(&(struct net_header){.flags = NET_NEEDS_CSUM | 0xf0, .csum_start = 34}, 60);
	ck_assert_uint_eq(fake.sent_header.flags, NET_NEEDS_CSUM);
	ck_assert_uint_eq(fake.sent_header.csum_start, 34);
	transmit(&(struct net_header){.gso_type = NET_GSO_TCPV4, .num_buffers = 7}, 60);
	ck_assert_uint_eq(fake.sent_header.gso_type, NET_GSO_TCPV4);
	ck_assert_uint_eq(fake.sent_header.num_buffers, 0);
	transmit(&(struct net_header){.gso_type = NET_GSO_TCPV6}, 60);
	transmit(&(struct net_header){.gso_type = 3}, 60);
	transmit(&(struct net_header){.gso_type = NET_GSO_TCPV4 | ECN}, 60);
	ck_assert_uint_eq(fake.sends, 2);
	driver_reset(&d);
	start(0);
	transmit(&(struct net_header){.flags = NET_NEEDS_CSUM}, 60);
	ck_assert_uint_eq(fake.sends, 2);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 1);
}
END_TEST

/* A back end that takes no more keeps the frame in the queue, once. */
START_TEST(back_end_is_full)
{
	char fill[4096] = {0};

	start(VIRTIO_F_EVENT_IDX);
	while (send(fake.backend.fd, fill, sizeof(fill), MSG_DONTWAIT) > 0)
		;
	fake.send_error = -EAGAIN;
	transmit(&plain, 60);
	ck_assert_uint_eq(fake.sends, 1);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 0);
	fake.send_error = 0;
	while (recv(fake.other, fill, sizeof(fill), MSG_DONTWAIT) > 0)
		;
	loop_settle(&d.loop);
	ck_assert_uint_eq(fake.sends, 2);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 1);
	/* It takes a part, and the rest later. */
	fake.backend.backlog = true;
	transmit(&plain, 61);
	ck_assert_uint_eq(fake.flushes, 1);
	ck_assert_uint_eq(fake.sent_len, 61);
	fake.send_error = -EIO;
	transmit(&plain, 62);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 3);
	ck_assert_uint_eq(net.stats.tx_dropped, 1);
}
END_TEST

START_TEST(bounded_rounds)
{
	struct buffer b;
	unsigned int before = 0;

	driver_start(&d, 0, 2, 256);
	b = (struct buffer){make_frame(&plain, 60), 72, false};
	for (unsigned int i = 0; i < 256; i++)
		ring_add(&d.ring[TX], &b, 1);
	for (unsigned int i = 0; i < 200; i++)
		offer(1526);
	set_frames(200);
	reg_write(&d, REG_QUEUE_NOTIFY, TX);
	while (fake.sends < 256 || fake.reads < 200) {
		unsigned int work = fake.sends + fake.reads;

		before = work;
		loop_turn(&d.loop); /* the doorbell and the descriptor: twice */
		ck_that(fake.sends + fake.reads - before <= 4 * NET_ROUND);
		ck_that(fake.sends + fake.reads > before);
	}
}
END_TEST

/* --- hostile drivers --- */

START_TEST(wrong_directions)
{
	uint64_t at = guest_alloc(&d.guest, 4096);
	const struct buffer t[][2] = {
		{{at, 100, false}, {at + 100, 100, true}},	/* to transmit: one may be written */
		{{at, 11, false}, {0}},				/* no header */
		{{at, 4, false}, {at + 4, 2000, true}},		/* to receive: one to read */
		{{at, 11, true}, {0}},				/* no room for a header */
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
		unsigned int q = i < 2 ? TX : RX;

		start(F_MRG_RXBUF);
		ring_add(&d.ring[q], t[i], t[i][1].len ? 2 : 1);
		set_frames(1);
		driver_kick(&d, q);
		ck_assert(driver_sees_failure(&d));
		ck_assert_uint_eq(ring_used_index(&d.ring[q]), 0);
		driver_reset(&d);
		loop_settle(&d.loop);
	}
	ck_assert_uint_eq(fake.sends, 0);
}
END_TEST

/* Chains that are bad in the middle of a frame: nothing of it is used. */
START_TEST(bad_second_buffer)
{
	struct buffer bad = {GUEST_MEMORY, 100, true};
	uint64_t at;

	start(F_MRG_RXBUF);
	offer(100);
	ring_add(&d.ring[RX], &bad, 1);
	frames_come(1, 300);
	ck_assert(driver_sees_failure(&d));
	ck_assert_uint_eq(ring_used_index(&d.ring[RX]), 0);
	set_frames(9); /* and the loop rests */
	loop_settle(&d.loop);
	driver_reset(&d);
	loop_settle(&d.loop);
	start(0);
	at = offer(1526);
	frames_come(1, 60);
	got_frame(at, 60);
}
END_TEST

START_TEST(index_too_far)
{
	for (unsigned int q = RX; q <= TX; q++) {
		start(0);
		d.ring[q].avail[1] = 100;
		set_frames(1);
		driver_kick(&d, q);
		ck_assert(driver_sees_failure(&d));
		driver_reset(&d);
		loop_settle(&d.loop);
	}
}
END_TEST

/* --- link --- */

#define STATUS (reg_read(&d, REG_CONFIG + 4) >> 16)

START_TEST(other_end_goes)
{
	start(0);
	ck_assert_uint_eq(STATUS, 1);
	ck_assert(virtio_net_link(&net));
	close(fake.other);
	fake.receive_error = -ENOTCONN;
	offer(1526);
	driver_kick(&d, RX);
	ck_assert_uint_eq(STATUS, 0);
	ck_assert(!virtio_net_link(&net));
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS) & 2, 2);
	/* What is sent vanishes. */
	transmit(&plain, 60);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 1);
	ck_assert_uint_eq(fake.sends, 0);
	fake.other = dup(fake.backend.fd);
}
END_TEST

/* Also while nothing is read, and by a failed send. */
START_TEST(other_end_goes_unseen)
{
	start(0);
	close(fake.other);
	loop_settle(&d.loop);
	ck_assert_uint_eq(STATUS, 0);
	fake.other = dup(fake.backend.fd);
}
END_TEST

START_TEST(send_finds_it_gone)
{
	start(0);
	fake.send_error = -ENOTCONN;
	transmit(&plain, 60);
	ck_assert_uint_eq(STATUS, 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[TX]), 1);
	transmit(&plain, 60);
	ck_assert_uint_eq(fake.sends, 1);
}
END_TEST

START_TEST(back_end_comes_later)
{
	static const uint8_t other[6] = {2, 9, 9, 9, 9, 9};
	uint32_t generation;
	uint64_t at;

	ck_ok(virtio_net_set_backend(&net, NULL, &e));
	start(0);
	ck_assert_uint_eq(STATUS, 0);
	at = offer(1526);
	driver_kick(&d, RX);
	generation = reg_read(&d, REG_CONFIG_GENERATION);
	reg_write(&d, REG_INTERRUPT_ACK, 3);
	virtio_net_set_mac(&net, other);
	ck_ok(virtio_net_set_backend(&net, &fake.backend, &e));
	ck_assert_uint_eq(STATUS, 1);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x09090902);
	ck_assert_uint_ne(reg_read(&d, REG_CONFIG_GENERATION), generation);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	frames_come(1, 60);
	got_frame(at, 60);
}
END_TEST

START_TEST(back_end_without_offloads)
{
	fake.backend.offloads = false;
	ck_refused(virtio_net_set_backend(&net, &fake.backend, &e), EINVAL, "offload=on needs a tap");
	ck_assert(virtio_net_link(&net));
}
END_TEST

/* --- limits --- */

START_TEST(limits)
{
	struct buffer b;

	ck_ok(virtio_net_set_rate(&net, 1, &e)); /* then the burst is 65550 bytes */
	driver_start(&d, 0, 2, 64);
	b = (struct buffer){make_frame(&plain, 10000), 10012, false};
	for (unsigned int i = 0; i < 60; i++) {
		ring_add(&d.ring[TX], &b, 1);
		offer(10012);
	}
	fake.frame = 10000;
	set_frames(60);
	driver_kick(&d, TX);
	ck_assert_uint_eq(fake.sends, 7);
	ck_assert_uint_eq(fake.reads, 7);
}
END_TEST

START_TEST(limit_ends)
{
	struct buffer b;

	ck_ok(virtio_net_set_rate(&net, 10000000, &e)); /* burst: 1 MB */
	driver_start(&d, 0, 2, 64);
	b = (struct buffer){make_frame(&plain, 50000), 50012, false};
	for (unsigned int i = 0; i < 24; i++)
		ring_add(&d.ring[TX], &b, 1);
	driver_kick(&d, TX);
	ck_assert_uint_ge(fake.sends, 20);
	ck_assert_uint_lt(fake.sends, 24);
	for (unsigned int i = 0; i < 1000 && fake.sends < 24; i++) {
		usleep(1000);
		loop_settle(&d.loop);
	}
	ck_assert_uint_eq(fake.sends, 24);
}
END_TEST

/* --- state --- */

#define KIND "network."

static int load(struct virtio_net *n, const struct state_writer *w)
{
	struct state_reader r;
	struct state_visitor v = {.r = &r};
	int error = state_open(&r, w->data, w->len, KIND, "state", &e);

	return error ? error : virtio_net_state(n, 3, &v, &e);
}

static void save(struct state_writer *w)
{
	struct state_visitor v = {.w = w};

	state_begin(w, KIND);
	ck_ok(virtio_net_state(&net, 3, &v, &e));
	ck_ok(state_finish(w, &e));
}

/* The loaded device is its guest's: address, MTU, what was offered. Its link is down, and said so. */
START_TEST(state_round_trip)
{
	static const uint8_t zero[6];
	struct state_writer w = {0};
	struct virtio_net other;
	uint64_t at;

	start(F_MRG_RXBUF | NET_F_GUEST_CSUM);
	at = offer(1526);
	reg_write(&d, REG_INTERRUPT_ACK, 3);
	save(&w);
	ck_ok(virtio_net_init(&other, &d.guest.mem, zero, 68, false, d.irq, &d.loop, &e));
	ck_ok(load(&other, &w));
	virtio_net_close(&net);
	d.dev = &other.dev;
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x03020102);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 8), 1500 << 16 | 1);
	ck_assert_uint_eq(STATUS, 0);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS) & 2, 2);
	loop_settle(&d.loop);
	ck_ok(virtio_net_set_backend(&other, &fake.backend, &e));
	ck_assert_uint_eq(STATUS, 1);
	frames_come(1, 60);
	got_frame(at, 60);
	ck_assert_uint_eq(fake.offload, NET_F_GUEST_CSUM);
	virtio_net_close(&other);
	state_discard(&w);
	ck_ok(virtio_net_init(&net, &d.guest.mem, address, 1500, false, d.irq, &d.loop, &e));
}
END_TEST

/* A link that was down stays so: no news. */
START_TEST(state_without_link)
{
	struct state_writer w = {0};
	struct virtio_net other;

	ck_ok(virtio_net_set_backend(&net, NULL, &e));
	start(0);
	reg_write(&d, REG_INTERRUPT_ACK, 3);
	save(&w);
	ck_ok(virtio_net_init(&other, &d.guest.mem, address, 68, false, d.irq, &d.loop, &e));
	ck_ok(load(&other, &w));
	virtio_net_close(&net);
	d.dev = &other.dev;
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	virtio_net_close(&other);
	state_discard(&w);
	ck_ok(virtio_net_init(&net, &d.guest.mem, address, 1500, false, d.irq, &d.loop, &e));
}
END_TEST

START_TEST(hostile_states)
{
	struct virtio_net other;

	start(NET_F_CSUM);
	for (unsigned int i = 0; i < 5; i++) {
		struct state_writer w = {0};
		struct virtio_net was = net;

		switch (i) {
		case 0: net.config.mtu = 67; break;
		case 1: net.config.mac[0] |= 1; break;
		case 2: net.config.status = 2; break;
		case 3: net.offloads = false; break;
		case 4: net.dev.queue[TX].used_at.v = GUEST_MEMORY; break;
		}
		save(&w);
		memcpy(&net, &was, sizeof(net));
		ck_ok(virtio_net_init(&other, &d.guest.mem, address, 1500, false, d.irq, &d.loop, &e));
		ck_refused(load(&other, &w), EINVAL, "");
		virtio_net_close(&other);
		state_discard(&w);
	}
}
END_TEST

int main(void)
{
	const TTest *const common[] = {
		configuration,		  receives,		 waits_for_buffers,
		goes_on_with_event_index, goes_on_with_parts,	 merges_buffers,
		buffers_of_any_shape,	  largest_frame,	 frames_that_do_not_fit,
		frames_that_cannot_be_used, reset_drops_what_waits, transmits,
		lengths,		  back_end_is_full,	 bounded_rounds,
		wrong_directions,	  bad_second_buffer,	 index_too_far,
		other_end_goes,		  other_end_goes_unseen, send_finds_it_gone,
		back_end_comes_later,	  limits,		 limit_ends,
		state_without_link};
	const TTest *const offloads[] = {offloads_offered, headers_to_the_guest,
					 headers_from_the_guest, back_end_without_offloads,
					 state_round_trip, hostile_states};
	const struct test_group groups[] = {
		{common, ARRAY_SIZE(common), setup, teardown},
		{offloads, ARRAY_SIZE(offloads), setup_offloads, teardown},
	};

	return run_groups("virtio_net", groups, ARRAY_SIZE(groups));
}
