/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/limit.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define SECOND 1000000000ull

static struct limit l;

START_TEST(none)
{
	limit_init(&l, 0, 0, 5);
	for (unsigned int i = 0; i < 100; i++)
		ck_assert_uint_eq(limit_take(&l, 5, 1ull << 62), 0);
}
END_TEST

START_TEST(burst_then_rate)
{
	uint64_t now = 7 * SECOND;

	limit_init(&l, 10, 3, now);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(limit_take(&l, now, 1), 0);
	ck_assert_uint_eq(limit_take(&l, now, 1), SECOND / 10);
	ck_assert_uint_eq(limit_take(&l, now + SECOND / 20, 1), SECOND / 20);
	now += SECOND / 10;
	ck_assert_uint_eq(limit_take(&l, now, 0), 0); /* a question */
	ck_assert_uint_eq(limit_take(&l, now, 1), 0);
	ck_assert_uint_gt(limit_take(&l, now, 1), 0);
	now += 100 * SECOND; /* no more than the burst has been saved */
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(limit_take(&l, now, 1), 0);
	ck_assert_uint_gt(limit_take(&l, now, 1), 0);
}
END_TEST

START_TEST(more_than_the_burst)
{
	uint64_t now = 0, wait;

	limit_init(&l, 1000, 100, now);
	ck_assert_uint_eq(limit_take(&l, now, 5100), 0);
	wait = limit_take(&l, now, 1);
	ck_assert_uint_eq(wait, 5001 * SECOND / 1000);
	ck_assert_uint_eq(limit_take(&l, now + wait - 1, 1), 1);
	ck_assert_uint_eq(limit_take(&l, now + wait, 1), 0);
}
END_TEST

/* Whatever the steps, the sum is the rate's: no rounding adds up. */
START_TEST(average)
{
	static const uint64_t rates[] = {1, 7, 999, 1000003, 125000000, 12345678901ull};

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		uint64_t now = 1, taken = 0, end = 1 + 3 * SECOND;
		uint32_t seed = 1;

		limit_init(&l, rates[i], 1 + rates[i] / 20, now);
		while (now < end) {
			uint64_t n = 1 + rates[i] / 1000, wait = limit_take(&l, now, n);

			if (wait)
				now += MIN(wait, 1 + next_random(&seed) % 10000000);
			else
				taken += n;
		}
		ck_assert_uint_ge(taken + 1 + rates[i] / 1000, 3 * rates[i]);
		ck_assert_uint_le(taken, 3 * rates[i] + rates[i] / 20 + 2 + 2 * (rates[i] / 1000));
	}
}
END_TEST

START_TEST(extremes)
{
	limit_init(&l, UINT64_MAX, UINT64_MAX, UINT64_MAX);
	ck_assert_uint_eq(limit_take(&l, 0, 1ull << 62), 0); /* a clock that went back */
	ck_assert_uint_gt(limit_take(&l, 0, 1), 0);
	limit_init(&l, UINT64_MAX, UINT64_MAX, 0);
	ck_assert_uint_eq(limit_take(&l, 0, 1ull << 62), 0);
	ck_assert_uint_eq(limit_take(&l, UINT64_MAX, 1ull << 62), 0);
	limit_init(&l, 1, 0, 0);
	ck_assert_uint_eq(limit_take(&l, 0, 1ull << 62), 0);
	ck_assert_uint_eq(limit_take(&l, 0, 1), 3600 * SECOND);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {none, burst_then_rate, more_than_the_burst, average, extremes};

	return run_tests("limit", tests, ARRAY_SIZE(tests), NULL, NULL);
}
