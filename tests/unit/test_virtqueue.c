/* SPDX-License-Identifier: Apache-2.0
 *
 * The virtqueue walker against good drivers and every kind of bad one.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/driver.h"
#include "tests/unit/util.h"

#define RAM_END GUEST_MEMORY
#define BOTH	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

static struct guest guest;
static struct ring ring;
static struct virtqueue vq;
static struct vq_chain chain;
static uint64_t page; /* 64 KiB for buffers */

static void enable(unsigned int size, uint64_t features)
{
	ring_init(&ring, &guest, size);
	vq = (struct virtqueue){.size = (uint16_t)size,
				.desc_at = gpa(ring.desc_at),
				.avail_at = gpa(ring.avail_at),
				.used_at = gpa(ring.used_at)};
	ck_that(virtqueue_enable(&vq, &guest.mem, features) == 0);
}

static void setup(void)
{
	guest_init(&guest);
	page = guest_alloc(&guest, 64 << 10);
	enable(8, BOTH);
}

static void teardown(void)
{
	guest_free(&guest);
}

/* Offers descriptor 0 as it was set up by hand. */
static int pop_first(void)
{
	ring_offer(&ring, 0);
	return virtqueue_pop(&vq, &chain);
}

/* --- what works --- */

START_TEST(empty_queue)
{
	ck_assert(!virtqueue_has_more(&vq));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 0);
}
END_TEST

START_TEST(chain_is_translated)
{
	struct buffer b[] = {{page, 16, false},
			     {page + 100, 1, false},
			     {page + 4000, 500, true},
			     {RAM_END - 1, 1, true}};
	uint16_t head = ring_add(&ring, b, 4);

	ck_assert(virtqueue_has_more(&vq));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.readable, 2);
	ck_assert_uint_eq(chain.writable, 2);
	ck_assert_uint_eq(chain.read_len, 17);
	ck_assert_uint_eq(chain.write_len, 501);
	for (unsigned int i = 0; i < 4; i++) {
		ck_assert_ptr_eq(chain.iov[i].iov_base, guest_ptr(&guest, b[i].at, b[i].len));
		ck_assert_uint_eq(chain.iov[i].iov_len, b[i].len);
	}
	ck_assert(!virtqueue_has_more(&vq));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 0);
}
END_TEST

START_TEST(push_fills_used_ring)
{
	struct buffer b = {page, 64, true};
	struct used_elem u;

	for (unsigned int i = 0; i < 20; i++) {
		uint16_t head = ring_add(&ring, &b, 1);

		ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
		ck_assert(!ring_take(&ring, &u));
		virtqueue_push(&vq, chain.head, i);
		ck_assert(ring_take(&ring, &u));
		ck_assert_uint_eq(u.id, head);
		ck_assert_uint_eq(u.len, i);
	}
	ck_assert_uint_eq(ring_used_index(&ring), 20);
}
END_TEST

START_TEST(unpop_gives_it_again)
{
	struct buffer b = {page, 64, true};
	uint16_t first = ring_add(&ring, &b, 1), second = ring_add(&ring, &b, 1);

	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	virtqueue_unpop(&vq, 1);
	ck_assert(virtqueue_has_more(&vq));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.head, first);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.head, second);
}
END_TEST

START_TEST(full_queue_and_longest_chain)
{
	struct buffer b[VIRTQUEUE_MAX];

	enable(VIRTQUEUE_MAX, BOTH);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		b[i] = (struct buffer){page + i, 1, i >= 100};
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		ring_add(&ring, &b[i], 1);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 0);
	ring_add(&ring, b, VIRTQUEUE_MAX);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.readable, 100);
	ck_assert_uint_eq(chain.writable, VIRTQUEUE_MAX - 100);
}
END_TEST

START_TEST(indices_wrap_at_65536)
{
	struct buffer b = {page, 4, true};
	struct used_elem u;

	for (unsigned int i = 0; i < 70000; i++) {
		uint16_t head = ring_add(&ring, &b, 1);

		ck_that(virtqueue_pop(&vq, &chain) == 1);
		ck_that(chain.head == head);
		virtqueue_push(&vq, chain.head, 4);
		ck_that(ring_take(&ring, &u) && u.id == head);
	}
	ck_that(ring_used_index(&ring) == (uint16_t)70000);
}
END_TEST

START_TEST(indirect_table)
{
	struct buffer b[] = {{page, 16, false}, {page + 64, 8, true}, {page + 128, 4, true}};
	uint16_t head = ring_indirect(&ring, b, 3);

	ring_offer(&ring, head);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.readable, 1);
	ck_assert_uint_eq(chain.writable, 2);
	ck_assert_uint_eq(chain.write_len, 12);
}
END_TEST

/* 2.7.5.3.1 lets direct descriptors come before the indirect one. */
START_TEST(indirect_behind_direct)
{
	struct buffer b[] = {{page + 64, 8, true}, {page + 128, 4, true}};
	uint16_t table = ring_indirect(&ring, b, 2);

	ring.desc[5] = (struct desc){page, 16, DESC_NEXT, table};
	ring_offer(&ring, 5);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.head, 5);
	ck_assert_uint_eq(chain.read_len, 16);
	ck_assert_uint_eq(chain.write_len, 12);
}
END_TEST

START_TEST(indirect_as_long_as_the_queue)
{
	struct buffer b[9];

	for (unsigned int i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){page + i, 1, false};
	ring_offer(&ring, ring_indirect(&ring, b, 8));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.readable, 8);
	ring_offer(&ring, ring_indirect(&ring, b, 9));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

/* --- interrupts and notifications --- */

static bool push_one(void)
{
	struct buffer b = {page, 4, true};

	ring_add(&ring, &b, 1);
	ck_that(virtqueue_pop(&vq, &chain) == 1);
	virtqueue_push(&vq, chain.head, 0);
	return virtqueue_wants_interrupt(&vq);
}

START_TEST(interrupt_by_flag)
{
	enable(8, 0);
	ck_assert(!virtqueue_wants_interrupt(&vq)); /* nothing was pushed */
	ck_assert(push_one());
	ck_assert(!virtqueue_wants_interrupt(&vq)); /* once */
	ring.avail[0] = 1;
	ck_assert(!push_one());
	ring.avail[0] = 0;
	ck_assert(push_one());
}
END_TEST

/* 2.7.7.2: an interrupt is due when the index passes the driver's event index. */
START_TEST(interrupt_by_event_index)
{
	*ring_used_event(&ring) = 2;
	ck_assert(!push_one()); /* index 0 */
	ck_assert(!push_one());
	ck_assert(push_one());
	ck_assert(!push_one());
	*ring_used_event(&ring) = 4;
	ck_assert(push_one());
	*ring_used_event(&ring) = 3; /* the past: not until the index has gone around */
	ck_assert(!push_one());
}
END_TEST

START_TEST(interrupt_at_every_index)
{
	/* Each time the driver asks for the next one, across the wrap; and in batches, where the
	 * event index lies anywhere in what was pushed.
	 */
	for (unsigned int i = 0; i < 66000; i++) {
		*ring_used_event(&ring) = (uint16_t)i;
		ck_that(push_one());
	}
	for (unsigned int i = 66000, n; i < 133000; i += n) {
		struct buffer b = {page, 4, true};

		n = 1 + i % 5;
		*ring_used_event(&ring) = (uint16_t)(i + i % n);
		for (unsigned int k = 0; k < n; k++) {
			ring_add(&ring, &b, 1);
			ck_that(virtqueue_pop(&vq, &chain) == 1);
			virtqueue_push(&vq, chain.head, 0);
		}
		ck_that(virtqueue_wants_interrupt(&vq));
	}
}
END_TEST

START_TEST(notifications_by_flag)
{
	enable(8, 0);
	virtqueue_notifications(&vq, false);
	ck_assert_uint_eq(ring.used[0], 1);
	virtqueue_notifications(&vq, true);
	ck_assert_uint_eq(ring.used[0], 0);
}
END_TEST

START_TEST(notifications_by_event_index)
{
	struct buffer b = {page, 4, true};

	for (unsigned int i = 0; i < 3; i++) {
		ring_add(&ring, &b, 1);
		ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	}
	virtqueue_notifications(&vq, true);
	ck_assert_uint_eq(*ring_avail_event(&ring), 3);
	ck_assert_uint_eq(ring.used[0], 0);
}
END_TEST

START_TEST(not_ready_does_nothing)
{
	virtqueue_reset(&vq);
	ck_assert(!virtqueue_has_more(&vq));
	ck_assert(!virtqueue_wants_interrupt(&vq));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 0);
	virtqueue_notifications(&vq, true);
	virtqueue_notifications(&vq, false);
}
END_TEST

/* --- bad queues --- */

static int enable_at(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	vq = (struct virtqueue){
		.size = size, .desc_at = gpa(desc), .avail_at = gpa(avail), .used_at = gpa(used)};
	return virtqueue_enable(&vq, &guest.mem, 0);
}

START_TEST(bad_sizes)
{
	static const uint16_t bad[] = {0, 3, 5, 7, 255, 257, 512, 32768, 65535};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(enable_at(bad[i], page, page + 0x4000, page + 0x8000), -EINVAL);
	for (uint16_t size = 1; size <= VIRTQUEUE_MAX; size = (uint16_t)(size * 2))
		ck_assert_int_eq(enable_at(size, page, page + 0x4000, page + 0x8000), 0);
}
END_TEST

START_TEST(bad_alignment)
{
	for (unsigned int i = 1; i < 16; i++)
		ck_assert_int_eq(enable_at(8, page + i, page + 0x1000, page + 0x2000), -EINVAL);
	ck_assert_int_eq(enable_at(8, page, page + 0x1001, page + 0x2000), -EINVAL);
	for (unsigned int i = 1; i < 4; i++)
		ck_assert_int_eq(enable_at(8, page, page + 0x1000, page + 0x2000 + i), -EINVAL);
	ck_assert_int_eq(enable_at(8, page + 16, page + 0x1002, page + 0x2004), 0);
}
END_TEST

/* Each area up to the last byte of RAM, a step beyond, and at places that wrap. */
START_TEST(areas_outside_ram)
{
	static const uint64_t far[] = {RAM_END,	   RAM_END + 16, 0xfffffff0,	   0xffffffff0,
				       1ull << 63, -16ull,	 (1ull << 63) - 16};
	const uint64_t a = page, b = page + 0x1000, c = page + 0x2000;

	ck_assert_int_eq(enable_at(8, RAM_END - 8 * 16, b, c), 0);
	ck_assert_int_eq(enable_at(8, RAM_END - 7 * 16, b, c), -EINVAL);
	ck_assert_int_eq(enable_at(8, a, RAM_END - 22, c), 0);
	ck_assert_int_eq(enable_at(8, a, RAM_END - 20, c), -EINVAL); /* no room for used_event */
	ck_assert_int_eq(enable_at(8, a, b, RAM_END - 72), 0);
	ck_assert_int_eq(enable_at(8, a, b, RAM_END - 68), -EINVAL); /* nor avail_event */
	for (unsigned int i = 0; i < ARRAY_SIZE(far); i++) {
		ck_assert_int_eq(enable_at(8, far[i], b, c), -EINVAL);
		ck_assert_int_eq(enable_at(8, a, far[i], c), -EINVAL);
		ck_assert_int_eq(enable_at(8, a, b, far[i]), -EINVAL);
	}
}
END_TEST

/* --- bad chains --- */

START_TEST(index_ahead_of_the_queue)
{
	struct buffer b = {page, 4, false};

	ring_chain(&ring, &b, 1);
	ring.avail[1] = 8; /* as many as fit */
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ring.avail[1] = 10; /* 9 waiting in a queue of 8 */
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
	ring.avail[1] = 0; /* backwards by one: 65535 waiting */
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

/* A descriptor that would do, where the table has ended. */
static void plant(struct desc *table, unsigned int i)
{
	table[i] = (struct desc){page, 4, 0, 0};
}

START_TEST(head_out_of_range)
{
	static const uint16_t bad[] = {8, 9, 255, 256, 32768, 65535};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		enable(8, BOTH);
		plant(ring.desc, 8);
		plant(ring.desc, 9);
		ring_offer(&ring, bad[i]);
		ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
	}
}
END_TEST

START_TEST(next_out_of_range)
{
	static const uint16_t bad[] = {8, 9, 256, 65535};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		enable(8, BOTH);
		plant(ring.desc, 8);
		plant(ring.desc, 9);
		ring.desc[0] = (struct desc){page, 4, DESC_NEXT, bad[i]};
		ck_assert_int_eq(pop_first(), -EINVAL);
	}
}
END_TEST

START_TEST(loops)
{
	/* To itself, to one before, and through all. */
	ring.desc[0] = (struct desc){page, 4, DESC_NEXT, 0};
	ck_assert_int_eq(pop_first(), -EINVAL);
	enable(8, BOTH);
	ring.desc[0] = (struct desc){page, 4, DESC_NEXT, 1};
	ring.desc[1] = (struct desc){page, 4, DESC_NEXT, 2};
	ring.desc[2] = (struct desc){page, 4, DESC_NEXT, 1};
	ck_assert_int_eq(pop_first(), -EINVAL);
	enable(VIRTQUEUE_MAX, BOTH);
	for (uint16_t i = 0; i < VIRTQUEUE_MAX; i++)
		ring.desc[i] =
			(struct desc){page, 4, DESC_NEXT, (uint16_t)((i + 1) % VIRTQUEUE_MAX)};
	ck_assert_int_eq(pop_first(), -EINVAL);
}
END_TEST

START_TEST(loop_in_an_indirect_table)
{
	struct buffer b[] = {{page, 4, false}, {page, 4, false}};
	uint16_t head = ring_indirect(&ring, b, 2);
	struct desc *table = guest_ptr(&guest, ring.desc[head].addr, 32);

	table[1].flags = DESC_NEXT;
	table[1].next = 0;
	ring_offer(&ring, head);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

START_TEST(buffers_outside_ram)
{
	static const struct {
		uint64_t at;
		uint32_t len;
	} bad[] = {
		{RAM_END, 1},
		{RAM_END - 1, 2},
		{RAM_END - 4096, 4097},
		{0, (uint32_t)RAM_END + 1},
		{0, UINT32_MAX},
		{1, UINT32_MAX}, /* ends at 2^32 */
		{RAM_END - 1, UINT32_MAX},
		{0xffffffff, 1},
		{0xffffffff, 2}, /* wraps at 32 bits */
		{1ull << 32, 4},
		{UINT64_MAX, 1},
		{UINT64_MAX, 2}, /* wraps at 64 bits */
		{UINT64_MAX - 0xfff, 0x1000},
		{UINT64_MAX - 0xfff, 0x2000},
		{UINT64_MAX - UINT32_MAX + 1, UINT32_MAX},
		{1ull << 63, 16},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		for (unsigned int write = 0; write < 2; write++) {
			enable(8, BOTH);
			ring.desc[0] =
				(struct desc){bad[i].at, bad[i].len, write ? DESC_WRITE : 0, 0};
			ck_assert_msg(pop_first() == -EINVAL, "case %u", i);
		}
	}
}
END_TEST

/* A buffer may lie at the end of the low memory or the start of the high, not across the hole. */
START_TEST(buffers_at_the_hole)
{
	struct mem big;
	struct err e;

	ck_ok(mem_init(&big, 5ull << 30, &e));
	vq.mem = &big;
	ring.desc[0] = (struct desc){MEM_HOLE_START - 16, 16, 0, 0};
	ck_assert_int_eq(pop_first(), 1);
	ring.desc[0] = (struct desc){MEM_HOLE_END, 16, 0, 0};
	ck_assert_int_eq(pop_first(), 1);
	ring.desc[0] = (struct desc){MEM_HOLE_START - 16, 17, 0, 0};
	ck_assert_int_eq(pop_first(), -EINVAL);
	ring.desc[0] = (struct desc){MEM_HOLE_START - 16, 0x40000020, 0, 0};
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
	ring.desc[0] = (struct desc){MEM_HOLE_END - 1, 2, 0, 0};
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
	mem_free(&big);
}
END_TEST

START_TEST(zero_length)
{
	ring.desc[0] = (struct desc){page, 0, 0, 0};
	ck_assert_int_eq(pop_first(), -EINVAL);
	enable(8, BOTH);
	ring.desc[0] = (struct desc){page, 4, DESC_NEXT, 1};
	ring.desc[1] = (struct desc){page, 0, DESC_WRITE, 0};
	ck_assert_int_eq(pop_first(), -EINVAL);
}
END_TEST

START_TEST(readable_behind_writable)
{
	ring.desc[0] = (struct desc){page, 4, DESC_NEXT | DESC_WRITE, 1};
	ring.desc[1] = (struct desc){page, 4, 0, 0};
	ck_assert_int_eq(pop_first(), -EINVAL);
}
END_TEST

/* Total lengths are 64 bits wide: they add up beyond 32 bits only in a host's view. */
START_TEST(huge_total_length)
{
	struct buffer b[8];

	for (unsigned int i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){0, (uint32_t)RAM_END, true};
	ring_add(&ring, b, 8);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), 1);
	ck_assert_uint_eq(chain.write_len, 8 * RAM_END);
}
END_TEST

START_TEST(indirect_not_negotiated)
{
	struct buffer b = {page, 4, false};

	enable(8, VIRTIO_F_EVENT_IDX);
	ring_offer(&ring, ring_indirect(&ring, &b, 1));
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

START_TEST(indirect_bad_tables)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags;
	} bad[] = {
		{0x1000, 0, DESC_INDIRECT},
		{0x1000, 8, DESC_INDIRECT},
		{0x1000, 15, DESC_INDIRECT},
		{0x1000, 17, DESC_INDIRECT},
		{0x1000, UINT32_MAX, DESC_INDIRECT},
		{0x1000, UINT32_MAX & ~15u, DESC_INDIRECT},
		{RAM_END - 8, 16, DESC_INDIRECT},
		{RAM_END, 16, DESC_INDIRECT},
		{UINT64_MAX - 7, 16, DESC_INDIRECT},
		{UINT64_MAX - 15, 32, DESC_INDIRECT},
		{0x1000, 16, DESC_INDIRECT | DESC_NEXT},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		enable(8, BOTH);
		ring.desc[0] = (struct desc){bad[i].at, bad[i].len, bad[i].flags, 1};
		ring.desc[1] = (struct desc){page, 4, 0, 0};
		ck_assert_msg(pop_first() == -EINVAL, "case %u", i);
	}
}
END_TEST

/* Tables need no alignment: 2.7.5.3 asks for none. */
START_TEST(indirect_unaligned)
{
	const struct desc one = {page, 4, 0, 0};

	memcpy(guest_ptr(&guest, page + 1001, sizeof(one)), &one, sizeof(one));
	ring.desc[0] = (struct desc){page + 1001, 16, DESC_INDIRECT, 0};
	ck_assert_int_eq(pop_first(), 1);
	ck_assert_uint_eq(chain.read_len, 4);
}
END_TEST

START_TEST(indirect_nested)
{
	struct buffer b = {page, 16, false};
	uint16_t head = ring_indirect(&ring, &b, 1);
	struct desc *table = guest_ptr(&guest, ring.desc[head].addr, 16);

	table->flags = DESC_INDIRECT;
	ring_offer(&ring, head);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

START_TEST(indirect_index_beyond_its_table)
{
	struct buffer b[] = {{page, 4, false}, {page, 4, false}};
	uint16_t head = ring_indirect(&ring, b, 2);
	struct desc *table = guest_ptr(&guest, ring.desc[head].addr, 32);

	table[0].next = 2; /* inside the queue's range, outside the table's */
	plant(table, 2);
	ring_offer(&ring, head);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

/* A direct part and an indirect one may each be as long as the queue; together no longer than
 * what a chain can hold.
 */
START_TEST(chain_longer_than_iovecs)
{
	struct buffer b[VIRTQUEUE_MAX];
	uint16_t table;

	enable(VIRTQUEUE_MAX, BOTH);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		b[i] = (struct buffer){page, 1, false};
	table = ring_indirect(&ring, b, VIRTQUEUE_MAX);
	ring.desc[9] = (struct desc){page, 1, DESC_NEXT, table};
	ring_offer(&ring, 9);
	ck_assert_int_eq(virtqueue_pop(&vq, &chain), -EINVAL);
}
END_TEST

/* Random memory as rings: nothing is read or written outside, and every pop ends. */
START_TEST(random_rings)
{
	uint32_t seed = 1;

	for (unsigned int round = 0; round < 20000; round++) {
		uint64_t heap = guest.heap;

		enable(1u << (round % 9), round % 3 ? BOTH : 0);
		for (unsigned int i = 0; i < ring.size; i++) {
			uint32_t v = next_random(&seed);

			ring.desc[i] = (struct desc){
				next_random(&seed) % (RAM_END + 0x1000), v & 0x1ff,
				v >> 10 & (round & 1 ? 7 : 3),
				(uint16_t)((v >> 13) % (ring.size + ring.size / 8 + 1))};
			ring.avail[2 + i] = (uint16_t)((v >> 4) % (ring.size + 1));
		}
		ring.avail[1] = (uint16_t)(next_random(&seed) % (ring.size + 2));
		while (virtqueue_pop(&vq, &chain) > 0) {
			ck_that(chain.readable + chain.writable <= VIRTQUEUE_MAX);
			for (unsigned int i = 0; i < chain.readable + chain.writable; i++)
				ck_that((uint8_t *)chain.iov[i].iov_base >=
						guest.mem.region[0].host &&
					(uint8_t *)chain.iov[i].iov_base + chain.iov[i].iov_len <=
						guest.mem.region[0].host + RAM_END);
		}
		guest.heap = heap;
	}
}
END_TEST

/* --- iovecs --- */

START_TEST(iov_copies)
{
	char a[] = "abc", b[] = "d", c[] = "efghi", out[16] = "", all[10];
	struct iovec iov[] = {{a, 3}, {b, 1}, {NULL, 0}, {c, 5}};

	for (size_t offset = 0; offset <= 10; offset++) {
		for (size_t len = 0; len <= 10; len++) {
			size_t want = offset < 9 ? MIN(len, 9 - offset) : 0;

			memset(out, '-', sizeof(out));
			ck_that(iov_read(iov, 4, offset, out, len) == want);
			ck_that(!memcmp(out, "abcdefghi" + MIN(offset, (size_t)9), want));
			ck_that(out[want] == '-');
		}
	}
	ck_that(iov_write(iov, 4, 2, "12345", 5) == 5);
	iov_read(iov, 4, 0, all, 9);
	ck_that(!memcmp(all, "ab12345hi", 9));
	ck_that(iov_write(iov, 4, 8, "xyz", 3) == 1);
	ck_that(c[4] == 'x');
	ck_that(iov_write(iov, 4, SIZE_MAX, "xyz", 3) == 0);
}
END_TEST

START_TEST(iov_slices)
{
	char text[] = "abcdefghi";
	struct iovec iov[] = {{text, 3}, {text + 3, 1}, {text + 4, 5}}, part[3];

	for (size_t offset = 0; offset <= 10; offset++) {
		for (size_t len = 0; len <= 10; len++) {
			unsigned int n = iov_slice(iov, 3, offset, len, part);
			size_t want = offset < 9 ? MIN(len, 9 - offset) : 0, have = 0;

			for (unsigned int i = 0; i < n; i++) {
				ck_that(part[i].iov_len > 0);
				ck_that(part[i].iov_base == text + offset + have);
				have += part[i].iov_len;
			}
			ck_that(have == want);
		}
	}
	ck_that(iov_slice(iov, 3, 0, SIZE_MAX, part) == 3);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		empty_queue,
		chain_is_translated,
		push_fills_used_ring,
		unpop_gives_it_again,
		full_queue_and_longest_chain,
		indices_wrap_at_65536,
		indirect_table,
		indirect_behind_direct,
		indirect_as_long_as_the_queue,
		interrupt_by_flag,
		interrupt_by_event_index,
		interrupt_at_every_index,
		notifications_by_flag,
		notifications_by_event_index,
		not_ready_does_nothing,
		bad_sizes,
		bad_alignment,
		areas_outside_ram,
		index_ahead_of_the_queue,
		head_out_of_range,
		next_out_of_range,
		loops,
		loop_in_an_indirect_table,
		buffers_outside_ram,
		buffers_at_the_hole,
		zero_length,
		readable_behind_writable,
		huge_total_length,
		indirect_not_negotiated,
		indirect_bad_tables,
		indirect_unaligned,
		indirect_nested,
		indirect_index_beyond_its_table,
		chain_longer_than_iovecs,
		random_rings,
		iov_copies,
		iov_slices,
	};

	return run_tests("virtqueue", tests, ARRAY_SIZE(tests), setup, teardown);
}
