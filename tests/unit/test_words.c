/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent takes of a command line. (That mounts are made is tested in a guest.)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "guest/agent/words.h"
#include "tests/unit/util.h"

static struct words w;

static void setup(void)
{
	memset(&w, 0, sizeof(w));
}

/* The variables beside those of envp, with blanks between. */
static const char *variables(char *const *envp)
{
	static char text[2 * WORDS_ENV_BYTES];
	char *more[WORDS_ENV_MAX + 1], **end = words_env(&w, envp, more);

	ck_assert(end - more <= WORDS_ENV_MAX);
	*text = '\0';
	for (char **v = more; v < end; v++) {
		strcat(text, v == more ? "" : " ");
		strcat(text, *v);
	}
	return text;
}

static char *const nothing[] = {NULL};

START_TEST(environment)
{
	static char b[] = "B=mine", aa[] = "AA=1", *const some[] = {b, aa, NULL};

	ck_assert_int_eq(words_take(&w, "uvm.env=A=1"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.env=B=x=y:z"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.env=EMPTY="), 0);
	ck_assert_str_eq(variables(nothing), "A=1 B=x=y:z EMPTY=");
	ck_assert_str_eq(variables(some), "A=1 EMPTY=");
	/* The last one counts. */
	ck_assert_int_eq(words_take(&w, "uvm.env=A=22"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.env=EMPTY=3"), 0);
	ck_assert_str_eq(variables(nothing), "B=x=y:z A=22 EMPTY=3");
	ck_assert_str_eq(w.why, "");
}
END_TEST

START_TEST(mounts)
{
	ck_assert_int_eq(words_take(&w, "uvm.mount=/dev/vdb:/data:ext4"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.mount=tag:/src:virtiofs:ro"), 0);
	ck_assert_uint_eq(w.mounts, 2);
	ck_assert_str_eq(w.mount[0].device, "/dev/vdb");
	ck_assert_str_eq(w.mount[0].path, "/data");
	ck_assert_str_eq(w.mount[0].type, "ext4");
	ck_assert(!w.mount[0].read_only);
	ck_assert_str_eq(w.mount[1].device, "tag");
	ck_assert_str_eq(w.mount[1].path, "/src");
	ck_assert_str_eq(w.mount[1].type, "virtiofs");
	ck_assert(w.mount[1].read_only);
}
END_TEST

START_TEST(words_that_are_none)
{
	static const char *const unknown[] = {
		"",	     "root=/dev/vda", "ro",	      "uvm.env",
		"uvm.mount", "uvm.envy=A=1",  " uvm.env=A=1", "UVM.ENV=A=1"};
	static const char *const bad[] = {
		"uvm.env=",
		"uvm.env==",
		"uvm.env==1",
		"uvm.env=A",
		"uvm.mount=",
		"uvm.mount=:",
		"uvm.mount=:::",
		"uvm.mount=/dev/vdb",
		"uvm.mount=/dev/vdb:",
		"uvm.mount=/dev/vdb:/d",
		"uvm.mount=/dev/vdb:/d:",
		"uvm.mount=/dev/vdb::ext4",
		"uvm.mount=:/d:ext4",
		"uvm.mount=/dev/vdb:d:ext4",
		"uvm.mount=/dev/vdb:/d:ext4:",
		"uvm.mount=/dev/vdb:/d:ext4:rw",
		"uvm.mount=/dev/vdb:/d:ext4:ro:",
		"uvm.mount=/dev/vdb:/d:ext4:ro:ro",
		"uvm.mount=/dev/vdb:/d:ext4::ro",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(unknown); i++)
		ck_assert_msg(words_take(&w, unknown[i]) == -ENOENT, "'%s'", unknown[i]);
	ck_assert_str_eq(w.why, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(words_take(&w, bad[i]) == -EINVAL, "'%s'", bad[i]);
		ck_assert(strstr(w.why, "uvm.") == w.why);
	}
	ck_assert_uint_eq(w.mounts, 0);
	ck_assert_str_eq(variables(nothing), "");
}
END_TEST

/* With a part of n bytes between these. */
static int take_long(const char *before, size_t n, const char *after)
{
	char part[6000], word[7000];

	memset(part, 'x', n);
	part[n] = '\0';
	snprintf(word, sizeof(word), "%s%s%s", before, part, after);
	return words_take(&w, word);
}

START_TEST(parts_that_are_too_long)
{
	ck_assert_int_eq(take_long("uvm.mount=", sizeof(w.mount[0].device) - 1, ":/d:t"), 0);
	ck_assert_int_eq(take_long("uvm.mount=", sizeof(w.mount[0].device), ":/d:t"), -EINVAL);
	ck_assert_int_eq(take_long("uvm.mount=d:/", sizeof(w.mount[0].path) - 2, ":t"), 0);
	ck_assert_int_eq(take_long("uvm.mount=d:/", sizeof(w.mount[0].path) - 1, ":t"), -EINVAL);
	ck_assert_int_eq(take_long("uvm.mount=d:/d:", sizeof(w.mount[0].type) - 1, ""), 0);
	ck_assert_int_eq(take_long("uvm.mount=d:/d:", sizeof(w.mount[0].type), ""), -EINVAL);
	ck_assert_int_eq(take_long("uvm.mount=", 5999, ""), -EINVAL);
	ck_assert_uint_eq(strlen(w.why), AGENT_TEXT_MAX); /* cut */
	ck_assert_uint_eq(w.mounts, 3);
	ck_assert_int_eq(take_long("uvm.env=A=", WORDS_ENV_BYTES - 2, ""), -E2BIG);
	ck_assert_int_eq(take_long("uvm.env=A=", WORDS_ENV_BYTES - 3, ""), 0);
	ck_assert_int_eq(words_take(&w, "uvm.env=B="), -E2BIG);
	ck_assert_uint_eq(strlen(variables(nothing)), WORDS_ENV_BYTES - 1);
}
END_TEST

START_TEST(too_many)
{
	char word[64];

	for (unsigned int i = 0; i < WORDS_ENV_MAX; i++) {
		snprintf(word, sizeof(word), "uvm.env=V%u=%u", i, i);
		ck_assert_int_eq(words_take(&w, word), 0);
	}
	ck_assert_int_eq(words_take(&w, "uvm.env=V=1"), -E2BIG);
	ck_assert(strstr(variables(nothing), "V63=63") != NULL);
	for (unsigned int i = 0; i < WORDS_MOUNTS; i++)
		ck_assert_int_eq(words_take(&w, "uvm.mount=a:/b:c"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.mount=a:/b:c"), -E2BIG);
	ck_assert_uint_eq(w.mounts, WORDS_MOUNTS);
}
END_TEST

START_TEST(networks)
{
	char text[AGENT_CMDLINE_MAX + 100] = "uvm.net=eth0,ip=10.0.0.2/24";

	ck_assert_int_eq(words_take(&w, "uvm.net=eth1,mac=02:00:00:00:00:01,ip=10.1.0.2/24,dns=10.1.0.1"), 0);
	ck_assert_uint_eq(w.nets, 1);
	ck_assert_str_eq(w.net[0].name, "eth1");
	ck_assert(w.net[0].has_mac && w.net[0].ips == 1 && w.net[0].ip[0].family == AF_INET);
	ck_assert_int_eq(words_take(&w, "uvm.net="), -EINVAL);
	ck_assert_int_eq(words_take(&w, "uvm.net=eth0,ip=x"), -EINVAL);
	ck_assert_int_eq(words_take(&w, "uvm.net=eth0,gw=10.0.0.1,none"), -EINVAL);
	memset(text + strlen(text), ',', AGENT_CMDLINE_MAX);
	text[sizeof(text) - 1] = 0;
	ck_assert_int_eq(words_take(&w, text), -EINVAL);
	ck_assert_uint_eq(w.nets, 1);
	while (w.nets < WORDS_NETS)
		ck_assert_int_eq(words_take(&w, "uvm.net=eth0"), 0);
	ck_assert_int_eq(words_take(&w, "uvm.net=eth0"), -E2BIG);
}
END_TEST

START_TEST(texts)
{
	char good[] = "  uvm.env=A=1\n\nuvm.mount=a:/b:c ", none[] = " \n ",
	     bad[] = "uvm.env=B=2 quiet uvm.env=C=3";

	ck_assert_int_eq(words_take_all(&w, good), 0);
	ck_assert_int_eq(words_take_all(&w, none), 0);
	ck_assert_int_eq(words_take_all(&w, bad), -EINVAL);
	ck_assert_str_eq(w.why, "the agent takes no such word after boot: 'quiet'");
	ck_assert_str_eq(variables(nothing), "A=1 B=2");
	ck_assert_uint_eq(w.mounts, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		environment, mounts, networks, words_that_are_none, parts_that_are_too_long, too_many, texts};

	return run_tests("words", tests, ARRAY_SIZE(tests), setup, NULL);
}
