/* SPDX-License-Identifier: Apache-2.0
 *
 * The balloon over real memory, with a madvise of the test's own, which counts and may fail.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/virtio_balloon.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"

#define PAGE	    4096u
#define F_STATS	    (1ull << 1)
#define F_OOM	    (1ull << 2)
#define F_REPORTING (1ull << 5)
#define BIG	    (5ull << 30)
#define CONFIG_WANT (REG_CONFIG + 0)
#define CONFIG_HAVE (REG_CONFIG + 4)

enum { INFLATE, DEFLATE, STATS, REPORT, QUEUES };

static struct driver d;
static struct virtio_balloon balloon;
static struct err e;
static uint64_t data; /* a guest address with DATA pages behind it */
#define DATA 64u

/* --- the host --- */

static struct {
	uint64_t calls, bytes;
	int error;
} released;

int madvise(void *at, size_t len, int advice)
{
	if (advice != MADV_DONTNEED)
		return (int)syscall(SYS_madvise, at, len, advice);
	ck_that((uintptr_t)at % PAGE == 0 && len && len % PAGE == 0);
	released.calls++;
	released.bytes += len;
	if (released.error) {
		errno = released.error;
		return -1;
	}
	return (int)syscall(SYS_madvise, at, len, advice);
}

/* --- the device and its driver --- */

static void device_init(uint64_t memory)
{
	memset(&released, 0, sizeof(released)); /* what counts coverage has released some before main() */
	driver_init(&d);
	mem_free(&d.guest.mem);
	ck_ok(mem_init(&d.guest.mem, memory, &e));
	ck_ok(virtio_balloon_init(&balloon, &d.guest.mem, d.irq, &d.loop, &e));
	d.dev = &balloon.dev;
	data = guest_alloc(&d.guest, DATA * PAGE);
	memset(guest_ptr(&d.guest, data, DATA * PAGE), 0x5a, DATA * PAGE);
}

static void setup(void)
{
	device_init(GUEST_MEMORY);
}

static void setup_big(void)
{
	device_init(BIG); /* nothing is touched, so it needs no memory */
}

static void teardown(void)
{
	driver_free(&d);
}

static void start(unsigned int size)
{
	driver_start(&d, F_STATS | F_REPORTING, QUEUES, size);
}

/* Has a chain served, which is used with no length. */
static void give(unsigned int queue, const struct buffer *b, unsigned int n)
{
	uint16_t head = ring_add(&d.ring[queue], b, n);
	struct used_elem u = {0};

	driver_kick(&d, queue);
	ck_that(ring_take(&d.ring[queue], &u));
	ck_that(u.id == head && u.len == 0);
	ck_that(!(reg_read(&d, REG_STATUS) & ST_NEEDS_RESET));
}

/* The same with a chain that the device refuses, of which it gives back nothing. */
static void refused(unsigned int queue, const struct buffer *b, unsigned int n)
{
	ring_add(&d.ring[queue], b, n);
	driver_kick(&d, queue);
	ck_that(ring_used_index(&d.ring[queue]) == 0);
	ck_that(driver_sees_failure(&d));
}

/* Pages from first on, n of them, are zeros; the rest of the data is as it was. */
static bool zeros(unsigned int first, unsigned int n)
{
	const uint8_t *p = guest_ptr(&d.guest, data, DATA * PAGE);

	return all_bytes(p, first * PAGE, 0x5a) && all_bytes(p + first * PAGE, n * PAGE, 0) &&
	       all_bytes(p + (first + n) * PAGE, (DATA - first - n) * PAGE, 0x5a);
}

/* Writes numbers of data's pages somewhere; returns where. */
static uint64_t pfns(const unsigned int *page, unsigned int n)
{
	uint64_t at = guest_alloc(&d.guest, n * sizeof(uint32_t));
	uint32_t *to = guest_ptr(&d.guest, at, n * sizeof(*to));

	for (unsigned int i = 0; i < n; i++)
		to[i] = (uint32_t)(data / PAGE) + page[i];
	return at;
}

/* --- what it is --- */

START_TEST(configuration)
{
	uint8_t wide[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 5);
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES) & 0xff, F_STATS | F_OOM | F_REPORTING);
	for (unsigned int i = 0; i < 8; i++) {
		reg_write(&d, REG_QUEUE_SEL, i);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), i < QUEUES ? VIRTQUEUE_MAX : 0);
	}
	reg_write(&d, CONFIG_HAVE, 12345);
	reg_write(&d, CONFIG_WANT, 1);
	for (unsigned int len = 1; len <= 8; len *= 2)
		for (uint64_t at = CONFIG_WANT; at < CONFIG_HAVE + 8; at++)
			if (len != 4 || at != CONFIG_HAVE)
				virtio_mmio_ops.write(d.dev, at, wide, len);
	ck_assert_uint_eq(reg_read(&d, CONFIG_WANT), 0);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 12345);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE + 4), 0);
	driver_reset(&d);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 0);
	/* Before the loop has heard of the reset, the next driver may write. */
	reg_write(&d, CONFIG_HAVE, 7);
	loop_settle(&d.loop);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 7);
}
END_TEST

/* --- what it gives back --- */

START_TEST(reports)
{
	const struct buffer b[] = {{data + 3 * PAGE, 2 * PAGE, true},
				   {data + 5 * PAGE, PAGE, true}};

	start(8);
	give(REPORT, b, 2);
	ck_assert(zeros(3, 3));
	ck_assert_uint_eq(released.calls, 2);
	ck_assert_uint_gt(event_count(d.irq.fd), 0);
	memset(guest_ptr(&d.guest, data, DATA * PAGE), 0x5a, DATA * PAGE);
	ck_assert(zeros(0, 0));
	give(REPORT, b, 1);
	ck_assert(zeros(3, 2));
}
END_TEST

START_TEST(reports_in_parts)
{
	const struct buffer b[] = {{data + 1, 3 * PAGE - 2, true},    /* page 1 */
				   {data + 9 * PAGE + 1, 4094, true}, /* none */
				   {data + 10 * PAGE, 1, true}};

	start(8);
	give(REPORT, b, 3);
	ck_assert(zeros(1, 1));
	ck_assert_uint_eq(released.bytes, PAGE);
}
END_TEST

START_TEST(inflates)
{
	static const unsigned int up[] = {4, 5, 6, 7}, down[] = {11, 10, 9, 8},
				  mixed[] = {13, 15, 14, 12};
	struct buffer b = {pfns(up, 4), 16, false};

	start(8);
	give(INFLATE, &b, 1);
	ck_assert(zeros(4, 4));
	ck_assert_uint_eq(released.calls, 1);
	b.at = pfns(down, 4);
	give(INFLATE, &b, 1);
	ck_assert(zeros(4, 8));
	ck_assert_uint_eq(released.calls, 2);
	b.at = pfns(mixed, 4);
	give(INFLATE, &b, 1);
	ck_assert(zeros(4, 12));
	give(DEFLATE, &b, 1);
	ck_assert(zeros(4, 12));
	ck_assert_uint_eq(released.bytes, 12 * PAGE);
}
END_TEST

/* Numbers that are cut in two by buffers' ends, and more than are looked at in one go. */
START_TEST(inflates_by_long_lists)
{
	static uint32_t want[1000];
	uint64_t at = guest_alloc(&d.guest, sizeof(want));
	struct buffer b[] = {
		{at, 1, false}, {at + 1, 2046, false}, {at + 2047, sizeof(want) - 2047, false}};

	for (unsigned int i = 0; i < ARRAY_SIZE(want); i++)
		want[i] = (uint32_t)(data / PAGE) + 5 + 2 * (i % 20);
	memcpy(guest_ptr(&d.guest, at, sizeof(want)), want, sizeof(want));
	start(8);
	give(INFLATE, b, 3);
	for (unsigned int i = 0; i < DATA; i++)
		ck_assert_uint_eq(*(uint8_t *)guest_ptr(&d.guest, data + i * PAGE, 1),
				  i >= 5 && i < 45 && i % 2 ? 0 : 0x5a);
	ck_assert_uint_eq(released.calls, ARRAY_SIZE(want));
}
END_TEST

START_TEST(host_cannot)
{
	const struct buffer b = {data, PAGE, true};

	released.error = EINVAL;
	start(8);
	give(REPORT, &b, 1);
	ck_assert_uint_eq(released.calls, 1);
	ck_assert(zeros(0, 0));
}
END_TEST

/* --- what the host wants, and what the driver tells --- */

START_TEST(target)
{
	struct balloon_figures f;

	ck_ok(virtio_balloon_set_target(&balloon, 3 * PAGE, &e)); /* nobody is there yet */
	start(8);
	ck_assert_uint_eq(reg_read(&d, CONFIG_WANT), 3);
	reg_write(&d, REG_INTERRUPT_ACK, reg_read(&d, REG_INTERRUPT_STATUS));
	ck_ok(virtio_balloon_set_target(&balloon, 8 * PAGE - 1, &e));
	ck_assert_uint_eq(reg_read(&d, CONFIG_WANT), 7);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	reg_write(&d, CONFIG_HAVE, 5);
	ck_assert_int_eq(virtio_balloon_set_target(&balloon, GUEST_MEMORY + 1, &e), -EINVAL);
	ck_assert_int_eq(virtio_balloon_set_target(&balloon, UINT64_MAX, &e), -EINVAL);
	ck_ok(virtio_balloon_set_target(&balloon, GUEST_MEMORY, &e));
	virtio_balloon_figures(&balloon, &f);
	ck_assert_uint_eq(f.target, GUEST_MEMORY);
	ck_assert_uint_eq(f.size, 5 * PAGE);
	ck_assert(!f.told_ns);
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(reg_read(&d, CONFIG_WANT), GUEST_MEMORY / PAGE);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 0);
}
END_TEST

/* Writes pairs of tag and value to data's page 60; returns them as a buffer. */
static struct buffer figures(const uint64_t (*pair)[2], unsigned int n)
{
	uint64_t at = data + 60 * PAGE;
	uint8_t *to = guest_ptr(&d.guest, at, n * 10);

	for (unsigned int i = 0; i < n; i++) {
		memcpy(to + i * 10, &pair[i][0], 2);
		memcpy(to + i * 10 + 2, &pair[i][1], 8);
	}
	return (struct buffer){at, n * 10, false};
}

/* Fills the driver's buffer anew, as it does when it has got it back. */
static void tell_again(const uint64_t (*pair)[2], unsigned int n)
{
	struct used_elem u;

	figures(pair, n);
	ck_that(ring_take(&d.ring[STATS], &u) && u.len == 0);
	ring_offer(&d.ring[STATS], (uint16_t)u.id);
	driver_kick(&d, STATS);
}

START_TEST(tells_when_asked)
{
	static const uint64_t first[][2] = {{BALLOON_FREE, 111}, {BALLOON_TOTAL, UINT64_MAX - 1},
					    {BALLOON_STATS, 9},	 {UINT16_MAX, 9},
					    {BALLOON_FREE, 222}};
	static const uint64_t second[][2] = {{BALLOON_SWAP_IN, 7}};
	struct buffer b = figures(first, 5), split[] = {{b.at, 3, false}, {b.at + 3, 47, false}};
	struct ring *r = &d.ring[STATS];
	struct balloon_figures f;

	start(8);
	virtio_balloon_figures(&balloon, &f);
	ck_assert(!f.told_ns);
	ring_add(r, split, 2);
	driver_kick(&d, STATS);
	driver_kick(&d, INFLATE); /* it looks at all of them */
	ck_assert_uint_eq(ring_used_index(r), 0);
	virtio_balloon_figures(&balloon, &f);
	ck_assert(f.told_ns);
	ck_assert_uint_eq(f.stat[BALLOON_FREE], 222);
	ck_assert_uint_eq(f.stat[BALLOON_TOTAL], UINT64_MAX - 1);
	ck_assert_uint_eq(f.stat[BALLOON_SWAP_IN], BALLOON_UNTOLD);
	virtio_balloon_figures(&balloon, &f); /* asks no more than once */
	ck_assert_uint_eq(ring_used_index(r), 1);
	ck_assert_uint_eq(f.stat[BALLOON_FREE], 222);
	tell_again(second, 1);
	ck_assert_uint_eq(ring_used_index(r), 1);
	virtio_balloon_figures(&balloon, &f);
	ck_assert_uint_eq(f.stat[BALLOON_SWAP_IN], 7);
	ck_assert_uint_eq(ring_used_index(r), 2);
	driver_reset(&d);
	start(8);
	virtio_balloon_figures(&balloon, &f);
	ck_assert(!f.told_ns);
	ring_add(r, &b, 1);
	driver_kick(&d, STATS);
	virtio_balloon_figures(&balloon, &f);
	ck_assert(f.told_ns);
}
END_TEST

/* With event indexes a device that waits for the wrong one is never told. */
START_TEST(tells_with_event_index)
{
	static const uint64_t pair[][2] = {{BALLOON_FREE, 1}};
	struct buffer b = figures(pair, 1);
	struct ring *r = &d.ring[STATS];
	struct balloon_figures f;

	driver_start(&d, F_STATS | F_REPORTING | VIRTIO_F_EVENT_IDX, QUEUES, 8);
	ring_add(r, &b, 1);
	driver_kick(&d, STATS);
	for (uint16_t i = 1; i < 20; i++) {
		struct used_elem u;

		virtio_balloon_figures(&balloon, &f);
		ck_that(ring_take(r, &u));
		ck_assert_uint_eq(*ring_avail_event(r), i);
		ring_offer(r, (uint16_t)u.id);
		driver_kick(&d, STATS);
	}
}
END_TEST

/* --- hostile drivers --- */

START_TEST(figures_that_are_none)
{
	const struct buffer bad[] = {{data, 10, true}, {data, 9, false}, {data, 11, false}, {data, 1, false}};
	const struct buffer mixed[] = {{data, 10, false}, {data, 10, true}};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		start(8);
		refused(STATS, &bad[i], 1);
		driver_reset(&d);
	}
	start(8);
	refused(STATS, mixed, 2);
	driver_reset(&d);
	start(8);
	ring_add(&d.ring[STATS], &(struct buffer){0, GUEST_MEMORY / 10 * 10, false}, 1);
	driver_kick(&d, STATS);
	ck_that(!(reg_read(&d, REG_STATUS) & ST_NEEDS_RESET));
}
END_TEST

/* The buffer that the device has read is spoiled before it goes back. */
START_TEST(figures_spoiled_later)
{
	static const uint64_t pair[][2] = {{BALLOON_FREE, 1}};
	struct buffer b = figures(pair, 1);
	struct ring *r = &d.ring[STATS];
	struct balloon_figures f;

	for (unsigned int i = 0; i < 3; i++) {
		uint16_t *avail, head;

		start(8);
		head = ring_add(r, &b, 1);
		driver_kick(&d, STATS);
		avail = guest_ptr(&d.guest, r->avail_at, 20);
		switch (i) {
		case 0: avail[2] = 8; break;					      /* its head */
		case 1: *(uint64_t *)guest_ptr(&d.guest, r->desc_at + head * 16u, 8) = UINT64_MAX; break;
		case 2: avail[1] = 0x8000; break;				      /* the index */
		}
		virtio_balloon_figures(&balloon, &f);
		ck_assert(driver_sees_failure(&d));
		ck_assert_uint_eq(ring_used_index(r), 0);
		virtio_balloon_figures(&balloon, &f);
		driver_reset(&d);
	}
	start(8);
	ring_add(r, &b, 1);
	driver_kick(&d, STATS);
	((uint16_t *)guest_ptr(&d.guest, r->avail_at, 20))[1] = 0; /* it takes the buffer back */
	virtio_balloon_figures(&balloon, &f);
	virtio_balloon_figures(&balloon, &f);
	ck_that(!(reg_read(&d, REG_STATUS) & ST_NEEDS_RESET));
	ck_assert_uint_eq(ring_used_index(r), 0);
}
END_TEST

START_TEST(wrong_directions)
{
	static const unsigned int pages[] = {1, 2};
	const uint64_t list = pfns(pages, 2);
	const struct buffer report[] = {{data, PAGE, false}, {data + PAGE, PAGE, true}};
	const struct buffer inflate[] = {{list, 4, false}, {list + 4, 4, true}};

	for (unsigned int i = 0; i < 5; i++) {
		start(8);
		switch (i) {
		case 0: refused(REPORT, report, 1); break;
		case 1: refused(REPORT, report, 2); break;
		case 2: refused(INFLATE, inflate, 2); break;
		case 3: refused(INFLATE, inflate + 1, 1); break;
		case 4: refused(DEFLATE, inflate, 2); break;
		}
		driver_reset(&d);
		loop_settle(&d.loop);
	}
	ck_assert_uint_eq(released.calls, 0);
	ck_assert(zeros(0, 0));
}
END_TEST

START_TEST(pages_that_are_none)
{
	static const uint32_t bad[] = {GUEST_MEMORY / PAGE, 0x000fffff, 0x00100000, 0x80000000,
				       UINT32_MAX};
	uint64_t at = guest_alloc(&d.guest, PAGE);
	const struct buffer b = {at, 4, false};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		start(8);
		memcpy(guest_ptr(&d.guest, at, 4), &bad[i], 4);
		refused(INFLATE, &b, 1);
		driver_reset(&d);
		loop_settle(&d.loop);
	}
	for (uint32_t len = 1; len < 8; len++) {
		const struct buffer odd = {at, len, false};

		if (len == 4)
			continue;
		start(8);
		refused(INFLATE, &odd, 1);
		driver_reset(&d);
		loop_settle(&d.loop);
	}
	ck_assert_uint_eq(released.calls, 0);
}
END_TEST

START_TEST(ranges_that_are_none)
{
	static const struct buffer bad[] = {{GUEST_MEMORY, PAGE, true},
					    {GUEST_MEMORY - PAGE, 2 * PAGE, true},
					    {UINT64_MAX - PAGE + 1, PAGE, true},
					    {0, UINT32_MAX, true},
					    {PAGE, 0, true}};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		start(8);
		refused(REPORT, &bad[i], 1);
		driver_reset(&d);
		loop_settle(&d.loop);
	}
	ck_assert_uint_eq(released.calls, 0);
	start(8);
	give(REPORT, &(struct buffer){data, PAGE, true}, 1);
	ck_assert(zeros(0, 1));
}
END_TEST

/* The queue itself, all of it: the device then sees an index that went back, and says so. */
START_TEST(its_own_queue)
{
	struct ring *r = &d.ring[REPORT];

	start(8);
	give(REPORT, &(struct buffer){data, PAGE, true}, 1);
	ring_add(r,
		 (struct buffer[]){{r->desc_at, PAGE, true},
				   {r->avail_at, PAGE, true},
				   {r->used_at, PAGE, true}},
		 3);
	driver_kick(&d, REPORT);
	ck_assert(driver_sees_failure(&d));
	driver_reset(&d);
	start(8);
	give(REPORT, &(struct buffer){data + PAGE, PAGE, true}, 1);
}
END_TEST

/* A queue there is for each feature that the driver has accepted, in their order, and no other. */
START_TEST(feature_not_accepted)
{
	const struct buffer b = {data, PAGE, true}, figures = {data, 10, false};

	driver_start(&d, 0, QUEUES, 8);
	for (unsigned int i = STATS; i <= REPORT; i++) {
		ring_add(&d.ring[i], &b, 1);
		driver_kick(&d, i);
		ck_assert_uint_eq(ring_used_index(&d.ring[i]), 0);
	}
	ck_assert_uint_eq(released.calls, 0);
	driver_reset(&d);
	driver_start(&d, F_STATS, QUEUES, 8);
	ring_add(&d.ring[STATS], &figures, 1);
	ring_add(&d.ring[REPORT], &b, 1);
	driver_kick(&d, REPORT);
	ck_assert_uint_eq(ring_used_index(&d.ring[REPORT]), 0);
	ck_assert(balloon.told_ns);
	driver_reset(&d);
	driver_start(&d, F_REPORTING, QUEUES, 8);
	give(STATS, &b, 1);
	ck_assert(zeros(0, 1));
}
END_TEST

/* --- bounds --- */

#define GIB (1ull << 30)

/* A full queue of chains, each with all memory in all of its descriptors. */
START_TEST(bounded_reports)
{
	struct buffer b[16];
	struct ring *r = &d.ring[REPORT];
	uint64_t before;
	unsigned int rounds = 0;

	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){GIB, (uint32_t)GIB, true};
	start(256);
	for (unsigned int i = 0; i < 16; i++)
		ring_add(r, b, ARRAY_SIZE(b));
	reg_write(&d, REG_QUEUE_NOTIFY, REPORT);
	do {
		before = released.bytes;
		loop_turn(&d.loop);
		rounds++;
		ck_that(released.bytes - before <= 2 * BALLOON_CHAIN);
	} while (ring_used_index(r) < 16 && rounds < 100);
	ck_assert_uint_eq(ring_used_index(r), 16);
	ck_assert_uint_eq(released.bytes, 16 * BALLOON_CHAIN);
	ck_assert_uint_eq(rounds, 16);
}
END_TEST

/* Small ranges are no cheaper than their calls. */
START_TEST(bounded_calls)
{
	struct buffer b[16];
	struct ring *r = &d.ring[REPORT];
	const uint64_t most = BALLOON_CHAIN / (BALLOON_RANGE + PAGE) + 1;
	uint16_t head;

	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){data, PAGE, true};
	start(256);
	head = ring_chain(r, b, ARRAY_SIZE(b));
	for (unsigned int i = 0; i < 256; i++)
		ring_offer(r, head);
	reg_write(&d, REG_QUEUE_NOTIFY, REPORT);
	loop_turn(&d.loop);
	ck_assert_uint_le(released.calls, most + ARRAY_SIZE(b));
	ck_assert_uint_gt(released.calls, most / 2);
	loop_settle(&d.loop);
	ck_assert_uint_eq(ring_used_index(r), 256);
}
END_TEST

/* A list of half a billion pages, which is all the same one. */
START_TEST(bounded_list)
{
	const struct buffer b = {GIB, 0x7ffffffc, false};

	start(8);
	give(INFLATE, &b, 1);
	ck_assert_uint_le(released.calls, BALLOON_CHAIN / (BALLOON_RANGE + PAGE) + 1);
	ck_assert_uint_gt(released.calls, 1000);
}
END_TEST

/* Of a list of neighbours as much as of a range. */
START_TEST(bounded_run)
{
	const uint32_t n = 100000, first = 2 * GIB / PAGE;
	uint32_t *p = guest_ptr(&d.guest, GIB, n * sizeof(*p));
	const struct buffer b = {GIB, n * (uint32_t)sizeof(*p), false};

	for (uint32_t i = 0; i < n; i++)
		p[i] = first + i;
	start(8);
	give(INFLATE, &b, 1);
	ck_assert_uint_eq(released.bytes, BALLOON_CHAIN);
	ck_assert_uint_eq(released.calls, 1);
}
END_TEST

/* Chains as long as Linux's are given back as a whole, whatever came before them. */
START_TEST(as_much_as_linux_reports)
{
	struct buffer b[32];

	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){GIB + i * (4u << 20), 4u << 20, true};
	start(256);
	for (unsigned int i = 1; i <= 4; i++) {
		give(REPORT, b, ARRAY_SIZE(b));
		ck_assert_uint_eq(released.bytes, i * (128ull << 20));
	}
}
END_TEST

/* Both sides of the hole. */
START_TEST(memory_above_the_hole)
{
	const uint64_t high = MEM_HOLE_END + (1u << 20);
	uint8_t *p = guest_ptr(&d.guest, high, 2 * PAGE);
	uint32_t *list = guest_ptr(&d.guest, data, 4);

	start(8);
	memset(p, 1, 2 * PAGE);
	give(REPORT, &(struct buffer){high, PAGE, true}, 1);
	ck_assert(all_bytes(p, PAGE, 0) && all_bytes(p + PAGE, PAGE, 1));
	*list = (uint32_t)(high / PAGE + 1);
	give(INFLATE, &(struct buffer){data, 4, false}, 1);
	ck_assert(all_bytes(p, 2 * PAGE, 0));
}
END_TEST

/* --- state --- */

#define KIND "balloon."

static int load(struct virtio_balloon *b, const struct state_writer *w)
{
	struct state_reader r;
	struct state_visitor v = {.r = &r};
	int error = state_open(&r, w->data, w->len, KIND, "state", &e);

	return error ? error : virtio_balloon_state(b, 3, &v, &e);
}

static void save(struct virtio_balloon *b, struct state_writer *w)
{
	struct state_visitor v = {.w = w};

	state_begin(w, KIND);
	ck_ok(virtio_balloon_state(b, 3, &v, &e));
	ck_ok(state_finish(w, &e));
}

static struct virtio_balloon other, third;

/* The driver goes on with b, which loads the state. */
static void go_on(struct virtio_balloon *b, struct state_writer *w)
{
	ck_ok(virtio_balloon_init(b, &d.guest.mem, d.irq, &d.loop, &e));
	ck_ok(load(b, w));
	state_discard(w);
	virtio_close(d.dev);
	d.dev = &b->dev;
}

/* A report that was not served when the state was taken is served by who loads it. */
START_TEST(state_round_trip)
{
	static const uint64_t pair[][2] = {{BALLOON_FREE, 77}};
	const struct buffer b = {data, PAGE, true}, told = figures(pair, 1);
	struct balloon_figures f;
	struct state_writer w;

	start(8);
	ring_add(&d.ring[STATS], &told, 1);
	give(REPORT, &b, 1);
	ck_ok(virtio_balloon_set_target(&balloon, 9 * PAGE, &e));
	reg_write(&d, CONFIG_HAVE, 4321);
	memset(guest_ptr(&d.guest, data, PAGE), 0x5a, PAGE);
	ring_add(&d.ring[REPORT], &b, 1);
	save(&balloon, &w);
	ck_that(*(uint8_t *)guest_ptr(&d.guest, data, 1) == 0x5a);
	go_on(&other, &w);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 4321);
	ck_assert_uint_eq(reg_read(&d, CONFIG_WANT), 9);
	loop_settle(&d.loop);
	ck_that(*(uint8_t *)guest_ptr(&d.guest, data, 1) == 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[REPORT]), 2);
	ck_assert_uint_eq(ring_used_index(&d.ring[STATS]), 0);
	virtio_balloon_figures(&other, &f);
	ck_assert_uint_eq(f.stat[BALLOON_FREE], 77);
	ck_assert_uint_eq(f.target, 9 * PAGE);
	ck_assert_uint_eq(ring_used_index(&d.ring[STATS]), 1);
}
END_TEST

/* As the first version of the table had it: three queues, and no features beside reporting. */
static const struct state_table before = {
	.name = "balloon",
	.version = 1,
	.fields = (const struct state_field[]){
		STATE_SCALAR(struct virtio_balloon, config.actual, 1), {0}}};

START_TEST(state_from_before_statistics)
{
	const struct buffer b = {data, PAGE, true};
	struct state_writer w;
	struct state_visitor v = {.w = &w};

	balloon.dev.queues = 3;
	driver_start(&d, F_REPORTING, 3, 8);
	reg_write(&d, CONFIG_HAVE, 5);
	ring_add(&d.ring[2], &b, 1);
	state_begin(&w, KIND);
	ck_ok(state_visit(&v, &before, 3, &balloon, &e));
	ck_ok(virtio_state(&balloon.dev, 3, &v, &e));
	ck_ok(state_finish(&w, &e));
	go_on(&other, &w);
	loop_settle(&d.loop);
	ck_assert(zeros(0, 1));
	save(&other, &w); /* and what is saved of it now is the same again */
	go_on(&third, &w);
	ck_assert_uint_eq(reg_read(&d, CONFIG_HAVE), 5);
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES) & 0xff, F_REPORTING);
	ck_assert_uint_eq(third.dev.queues, 3);
}
END_TEST

START_TEST(state_that_is_none)
{
	struct state_writer w;

	for (unsigned int i = 0; i < 4; i++) {
		balloon.dev.queues = i == 0 ? 2 : i == 1 ? 0 : i == 2 ? 5 : QUEUES;
		balloon.config.num_pages = i == 3 ? GUEST_MEMORY / PAGE + 1 : 0;
		w = (struct state_writer){0};
		state_begin(&w, KIND);
		state_save(&w, &virtio_balloon_table, 3, &balloon);
		balloon.dev.queues = QUEUES;
		ck_ok(virtio_state(&balloon.dev, 3, &(struct state_visitor){.w = &w}, &e));
		ck_ok(state_finish(&w, &e));
		ck_ok(virtio_balloon_init(&other, &d.guest.mem, d.irq, &d.loop, &e));
		ck_assert_int_eq(load(&other, &w), -EINVAL);
		ck_assert(strstr(e.text, "no balloon is like that"));
		ck_assert_uint_eq(other.dev.queues, QUEUES);
		virtio_close(&other.dev);
		state_discard(&w);
	}
}
END_TEST

START_TEST(reset_before_service)
{
	const struct buffer b = {data, PAGE, true};

	start(8);
	ring_add(&d.ring[REPORT], &b, 1);
	reg_write(&d, REG_QUEUE_NOTIFY, REPORT);
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(released.calls, 0);
	ck_assert(zeros(0, 0));
}
END_TEST

int main(void)
{
	const TTest *const small[] = {
		configuration,		reports,       reports_in_parts,     inflates,
		inflates_by_long_lists, host_cannot,   wrong_directions,     pages_that_are_none,
		ranges_that_are_none,	its_own_queue, feature_not_accepted, state_round_trip,
		reset_before_service,	target,	       tells_when_asked,     tells_with_event_index,
		figures_that_are_none,	figures_spoiled_later, state_from_before_statistics,
		state_that_is_none};
	const TTest *const big[] = {
		bounded_reports,	  bounded_calls,	bounded_list, bounded_run,
		as_much_as_linux_reports, memory_above_the_hole};
	const struct test_group groups[] = {
		{small, ARRAY_SIZE(small), setup, teardown},
		{big, ARRAY_SIZE(big), setup_big, teardown},
	};

	return run_groups("virtio_balloon", groups, ARRAY_SIZE(groups));
}
