/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts by which a guest is known. (That IDENTITY changes them is tested in a guest: it would
 * change this host.)
 */
#include <string.h>

#include "guest/agent/identity.h"
#include "tests/unit/util.h"

static void expect_text(uint8_t fill, bool dashes, const char *expected)
{
	uint8_t random[16];
	char text[IDENTITY_TEXT_MAX + 1];
	size_t n;

	memset(random, fill, sizeof(random));
	memset(text, 'x', sizeof(text));
	n = identity_text(text, random, dashes);
	ck_assert_uint_eq(n, strlen(expected));
	ck_assert(!memcmp(text, expected, n));
	ck_assert(text[n] == 'x');
}

START_TEST(texts)
{
	static const uint8_t count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	char text[IDENTITY_TEXT_MAX];

	expect_text(0, true, "00000000-0000-4000-8000-000000000000\n");
	expect_text(0, false, "00000000000040008000000000000000\n");
	expect_text(0xff, true, "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
	expect_text(0xff, false, "ffffffffffff4fffbfffffffffffffff\n");
	identity_text(text, count, true);
	ck_assert(!memcmp(text, "00010203-0405-4607-8809-0a0b0c0d0e0f\n", 37));
}
END_TEST

START_TEST(machine_ids)
{
	static const char good[] = "0123456789abcdef0123456789abcdef\n";
	char bad[sizeof(good)];

	ck_assert(identity_is_machine_id(good, 33));
	ck_assert(identity_is_machine_id(good, 32));
	ck_assert(!identity_is_machine_id(good, 31));
	ck_assert(!identity_is_machine_id(good, 0));
	ck_assert(!identity_is_machine_id(good, 34));
	ck_assert(!identity_is_machine_id("uninitialized\n", 14));
	for (size_t i = 0; i < 33; i++) {
		memcpy(bad, good, sizeof(good));
		bad[i] = 'A';
		ck_that(!identity_is_machine_id(bad, 33));
		bad[i] = '\0';
		ck_that(!identity_is_machine_id(bad, 33));
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {texts, machine_ids};

	return run_tests("identity", tests, ARRAY_SIZE(tests), NULL, NULL);
}
