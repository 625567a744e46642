/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's own few calls on texts.
 */
#include <stdio.h>
#include <string.h>

#include "guest/agent/text.h"
#include "tests/unit/util.h"

START_TEST(composed)
{
	char buf[8];

	ck_assert_uint_eq(compose(buf, sizeof(buf), "ab", "", "cd", NULL), 4);
	ck_assert_str_eq(buf, "abcd");
	ck_assert_uint_eq(compose(buf, sizeof(buf), "abcd", "efgh", "i", NULL), 7);
	ck_assert_str_eq(buf, "abcdefg");
	ck_assert_uint_eq(compose(buf, sizeof(buf), NULL), 0);
	ck_assert_str_eq(buf, "");
	ck_assert_uint_eq(compose(buf, 1, "x", NULL), 0);
	ck_assert_str_eq(buf, "");
}
END_TEST

START_TEST(appended)
{
	char buf[4] = "xxxx";

	ck_assert_uint_eq(append(buf, sizeof(buf), 1, "abcdef"), 4);
	ck_assert_mem_eq(buf, "xabc", 4);
	ck_assert_uint_eq(append(buf, sizeof(buf), 4, "abc"), 4);
}
END_TEST

START_TEST(numbers)
{
	static const uint64_t values[] = {0, 7, 10, 4294967295, 1ULL << 63, UINT64_MAX};
	char ours[NUMBER_SIZE], theirs[32];
	const char *end;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		snprintf(theirs, sizeof(theirs), "%llu", (unsigned long long)values[i]);
		ck_assert_str_eq(number_text(ours, values[i]), theirs);
		ck_assert_uint_eq(number_of(ours, &end), values[i]);
		ck_assert_ptr_eq(end, ours + strlen(ours));
	}
	ck_assert_uint_eq(number_of("", NULL), 0);
	ck_assert_uint_eq(number_of("-1", &end), 0);
	ck_assert_str_eq(end, "-1");
	ck_assert_uint_eq(number_of("007 8", &end), 7);
	ck_assert_str_eq(end, " 8");
	ck_assert_uint_eq(number_of("18446744073709551616", NULL), UINT64_MAX);
	ck_assert_uint_eq(number_of("99999999999999999999990x", &end), UINT64_MAX);
	ck_assert_str_eq(end, "x");
}
END_TEST

START_TEST(found)
{
	const char *text = "aab aac";

	ck_assert_ptr_eq(find_text(text, "aac"), text + 4);
	ck_assert_ptr_eq(find_text(text, "a"), text);
	ck_assert_ptr_null(find_text(text, "aacd"));
	ck_assert_ptr_null(find_text("", "a"));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {composed, appended, numbers, found};

	return run_tests("text", tests, ARRAY_SIZE(tests), NULL, NULL);
}
