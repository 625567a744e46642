/* SPDX-License-Identifier: Apache-2.0
 *
 * The source of random numbers, with a getrandom of the test's own, which counts and may fail.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "devices/virtio_rng.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"

static struct driver d;
static struct virtio_rng rng;
static struct err e;
static uint64_t data;
#define DATA (1u << 20)

static struct {
	uint64_t bytes;
	size_t at_most; /* in one call */
	int fail_after; /* calls; 0: never */
} host;

ssize_t getrandom(void *to, size_t len, unsigned int flags)
{
	ck_that(!flags && len);
	if (host.fail_after && !--host.fail_after) {
		errno = EINTR;
		return -1;
	}
	len = MIN(len, host.at_most);
	memset(to, 0xab, len);
	host.bytes += len;
	return (ssize_t)len;
}

static void setup(void)
{
	memset(&host, 0, sizeof(host));
	host.at_most = SIZE_MAX;
	driver_init(&d);
	ck_ok(virtio_rng_init(&rng, &d.guest.mem, d.irq, &d.loop, &e));
	d.dev = &rng.dev;
	data = guest_alloc(&d.guest, DATA);
	driver_start(&d, 0, 1, 256);
}

static void teardown(void)
{
	d.dev = NULL;
	virtio_rng_close(&rng);
	driver_free(&d);
}

static uint8_t *bytes(void)
{
	return guest_ptr(&d.guest, data, DATA);
}

/* Has a chain served. Returns the bytes that it got. */
static uint32_t take(const struct buffer *b, unsigned int n)
{
	uint16_t head = ring_add(&d.ring[0], b, n);
	struct used_elem u = {0};

	driver_kick(&d, 0);
	ck_that(ring_take(&d.ring[0], &u) && u.id == head);
	return u.len;
}

START_TEST(fills)
{
	const struct buffer b[] = {{data, 10, true}, {data + 20, 1, true}, {data + 30, 100, true}};

	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 4);
	host.at_most = 7;
	ck_assert_uint_eq(take(b, 3), 111);
	ck_assert(all_bytes(bytes(), 10, 0xab) && all_bytes(bytes() + 10, 10, 0));
	ck_assert(bytes()[20] == 0xab && all_bytes(bytes() + 21, 9, 0));
	ck_assert(all_bytes(bytes() + 30, 100, 0xab) && !bytes()[130]);
	ck_assert_uint_gt(event_count(d.irq.fd), 0);
}
END_TEST

/* What the host does not have now is not claimed. */
START_TEST(less_than_asked)
{
	host.at_most = 7;
	host.fail_after = 3;
	ck_assert_uint_eq(take(&(struct buffer){data, 100, true}, 1), 14);
	host.fail_after = 1;
	ck_assert_uint_eq(take(&(struct buffer){data, 100, true}, 1), 0);
	ck_assert_uint_eq(take(&(struct buffer){data, 100, true}, 1), 100);
}
END_TEST

/* However much memory a chain names, and however often. */
START_TEST(huge_chain)
{
	struct buffer b[200];

	for (unsigned int i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = (struct buffer){data, DATA, true};
	ck_assert_uint_eq(take(b, ARRAY_SIZE(b)), RNG_CHAIN);
	ck_assert_uint_eq(host.bytes, RNG_CHAIN);
}
END_TEST

/* A queue full of them gets the burst of the limit, and no more than one chain's more. */
START_TEST(limited)
{
	for (unsigned int i = 0; i < 100; i++)
		ring_add(&d.ring[0], &(struct buffer){data, DATA, true}, 1);
	reg_write(&d, REG_QUEUE_NOTIFY, 0);
	loop_turn(&d.loop);
	ck_assert_uint_eq(host.bytes, RNG_CHAIN); /* a round */
	loop_settle(&d.loop);
	ck_assert_uint_lt(ring_used_index(&d.ring[0]), 100);
	/* The rest comes by itself. */
	for (uint16_t n = ring_used_index(&d.ring[0]); ring_used_index(&d.ring[0]) == n;)
		loop_turn(&d.loop);
	/* A driver that goes meanwhile is no harm. */
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert(!virtio_failed(&rng.dev));
}
END_TEST

static void refused(const struct buffer *b, unsigned int n)
{
	ring_add(&d.ring[0], b, n);
	driver_kick(&d, 0);
	ck_assert(driver_sees_failure(&d));
	ck_assert_uint_eq(host.bytes, 0);
	driver_reset(&d);
	driver_start(&d, 0, 1, 256);
}

START_TEST(bad_chains)
{
	refused((struct buffer[]){{data, 10, false}}, 1);
	refused((struct buffer[]){{data, 10, false}, {data, 10, true}}, 2);
	refused((struct buffer[]){{GUEST_MEMORY - 4, 10, true}}, 1);
	refused((struct buffer[]){{UINT64_MAX - 4, 10, true}}, 1);
	ck_assert_uint_eq(take(&(struct buffer){data, 10, true}, 1), 10);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {fills, less_than_asked, huge_chain, limited, bad_chains};

	return run_tests("virtio_rng", tests, ARRAY_SIZE(tests), setup, teardown);
}
