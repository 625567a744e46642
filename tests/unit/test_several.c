/* SPDX-License-Identifier: Apache-2.0
 *
 * What is said when some of several VMs cannot be started.
 */
#include <stdio.h>
#include <string.h>

#include "tests/unit/util.h"
#include "vmm/several.h"

static struct err e;

START_TEST(names_those_that_failed)
{
	struct several s = {0};

	several_failed(&s, "a", "no room");
	several_tell(&s, 2, 3, "started", &e);
	ck_assert_str_eq(e.text, "2 of 3 started; failed: a: no room");
	several_failed(&s, "b", "");
	several_tell(&s, 1, 3, "started", &e);
	ck_assert_str_eq(e.text, "1 of 3 started; failed: a: no room; b");
}
END_TEST

START_TEST(counts_those_without_room)
{
	struct several s = {0};
	char name[16];

	for (unsigned int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "fork %u", i);
		several_failed(&s, name, "the reason is long, as reasons are");
	}
	several_failed(&s, "x", ""); /* it would have room, but behind others that had none */
	several_tell(&s, 0, 65, "started", &e);
	ck_that(strlen(e.text) < sizeof(e.text) - 1);
	snprintf(name, sizeof(name), "and %u more", 65 - s.listed);
	ck_that(strstr(e.text, name));
	ck_that(!strcmp(strstr(e.text, name), name));
	ck_that(strstr(e.text, "fork 0: the reason"));
	ck_that(!strstr(e.text, "x; "));
}
END_TEST

START_TEST(a_reason_that_is_too_long_is_cut)
{
	struct several s = {0};
	char why[sizeof(e.text)];

	memset(why, 'w', sizeof(why) - 1);
	why[sizeof(why) - 1] = 0;
	several_failed(&s, "a", why);
	several_failed(&s, "b", "");
	several_tell(&s, 0, 2, "started", &e);
	ck_that(strstr(e.text, "a: www"));
	ck_that(strstr(e.text, "and 1 more"));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {names_those_that_failed, counts_those_without_room,
					     a_reason_that_is_too_long_is_cut};

	return run_tests("several", tests, ARRAY_SIZE(tests), NULL, NULL);
}
