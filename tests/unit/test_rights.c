/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and numbers of rights, as options say them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/seccomp.h>

#include "tests/unit/util.h"
#include "vmm/rights.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

static struct err e;

static const struct agent_caps usual = {.bounding = 1u << CAP_CHOWN | 1u << CAP_KILL};

START_TEST(names)
{
	ck_assert_int_eq(rights_cap("CHOWN"), CAP_CHOWN);
	ck_assert_int_eq(rights_cap("cap_net_admin"), CAP_NET_ADMIN);
	ck_assert_int_eq(rights_cap("CAP_CHECKPOINT_RESTORE"), CAP_CHECKPOINT_RESTORE);
	ck_assert_int_eq(rights_cap("CAP_"), -1);
	ck_assert_int_eq(rights_cap(""), -1);
	ck_assert_int_eq(rights_cap("CHOWN "), -1);
	ck_assert_int_eq(rights_limit("nofile"), RLIMIT_NOFILE);
	ck_assert_int_eq(rights_limit("rttime"), RLIMIT_RTTIME);
	ck_assert_int_eq(rights_limit("files"), -1);
}
END_TEST

/* Words of "+NAME" and "-NAME". */
static uint64_t made(const char *words)
{
	struct rights_caps c = {0};
	char text[128], *rest;

	strcpy(text, words);
	for (char *w = strtok_r(text, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
		ck_assert_msg(!rights_take_cap(&c, w + 1, *w == '+', &e), "%s", e.text);
	return rights_make_caps(&c, &usual).permitted;
}

START_TEST(capabilities)
{
	const uint64_t chown = 1u << CAP_CHOWN, kill = 1u << CAP_KILL, admin = 1u << CAP_SYS_ADMIN;
	struct rights_caps c = {0};

	ck_assert_uint_eq(made(""), chown | kill);
	ck_assert_uint_eq(made("+SYS_ADMIN"), chown | kill | admin);
	ck_assert_uint_eq(made("-kill"), chown);
	ck_assert_uint_eq(made("-all"), 0);
	ck_assert_uint_eq(made("+sys_admin -ALL"), admin);
	ck_assert_uint_eq(made("+ALL"), (UINT64_C(1) << (CAP_LAST_CAP + 1)) - 1);
	ck_assert_uint_eq(made("+ALL -SYS_ADMIN"), ((UINT64_C(1) << (CAP_LAST_CAP + 1)) - 1) & ~admin);
	ck_assert_uint_eq(made("+SYS_ADMIN -SYS_ADMIN"), chown | kill);
	ck_assert_int_eq(rights_take_cap(&c, "ROOT", true, &e), -EINVAL);
}
END_TEST

START_TEST(limits)
{
	static const char *const bad[] = {"", "=", "nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=1:x",
					  "nofile=2:1", "nofile=-2", "nofile=-1:1", "nofile=1:2:3",
					  "nofile=99999999999999999999", "files=1", "nofile= 1",
					  "averyverylongnameofalimit=1"};
	struct agent_rlimit list[AGENT_RLIMITS_MAX];
	size_t n = 0;

	ck_assert(!rights_take_limit(list, &n, "nofile=10:20", &e));
	ck_assert(!rights_take_limit(list, &n, "core=-1", &e));
	ck_assert(!rights_take_limit(list, &n, "NOFILE=5:unlimited", &e));
	ck_assert_uint_eq(n, 2);
	ck_assert(list[0].resource == RLIMIT_NOFILE && list[0].soft == 5 &&
		  list[0].hard == UINT64_MAX);
	ck_assert(list[1].resource == RLIMIT_CORE && list[1].soft == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(rights_take_limit(list, &n, bad[i], &e) == -EINVAL, "'%s'", bad[i]);
	ck_assert_uint_eq(n, 2);
}
END_TEST

/* Loads a profile. Returns the number of instructions, or -errno. */
static int load(const char *text, const struct agent_caps *caps, struct exec_request *rq)
{
	char path[] = "/tmp/uvm-profile-XXXXXX";
	int fd = mkstemp(path), r;

	ck_assert(!write_all(fd, text, strlen(text)));
	close(fd);
	*rq = (struct exec_request){.caps = caps};
	r = rights_load_profile(rq, path, &e);
	unlink(path);
	if (r)
		return r;
	free((void *)(uintptr_t)rq->filter);
	return (int)rq->filter_count;
}

START_TEST(profiles)
{
	static const char plain[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],"
				    "\"syscalls\":[{\"names\":[\"chmod\"],\"action\":\"SCMP_ACT_ERRNO\"%s}]}";
	static const struct {
		const char *more;
		bool applies;
	} cases[] = {
		{",\"includes\":{\"caps\":[\"CAP_CHOWN\"]}", true},
		{",\"includes\":{\"caps\":[\"CAP_CHOWN\",\"CAP_SYS_ADMIN\"]}", false},
		{",\"includes\":{\"caps\":[\"CAP_OF_TOMORROW\"]}", false},
		{",\"excludes\":{\"caps\":[\"CAP_CHOWN\"]}", false},
		{",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}", true},
		{",\"includes\":{\"arches\":[\"arm\",\"amd64\"]}", true},
		{",\"includes\":{\"arches\":[\"s390\"]}", false},
		{",\"excludes\":{\"arches\":[\"amd64\"]}", false},
		{",\"includes\":{},\"excludes\":{}", true},
		{",\"includes\":{\"minKernel\":\"4.8\"}", true},
	};
	struct exec_request rq;
	char text[512];
	int with, without;

	snprintf(text, sizeof(text), plain, "");
	with = load(text, &usual, &rq);
	ck_assert_msg(with > 0, "%s", e.text);
	ck_assert_uint_eq(rq.flags, AGENT_EXEC_LOG);
	without = load("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}", &usual, &rq);
	ck_assert(without > 0 && without < with);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), plain, cases[i].more);
		ck_assert_int_eq(load(text, &usual, &rq), cases[i].applies ? with : without);
	}
	ck_assert_int_eq(load("", &usual, &rq), -EINVAL);
	ck_assert_int_eq(load("[]", &usual, &rq), -EINVAL);
	ck_assert_int_eq(load("{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", &usual, &rq), -EINVAL);
	ck_assert_int_eq(rights_load_profile(&rq, "/nothing", &e), -ENOENT);
	ck_assert_int_eq(rights_load_profile(&rq, "/dev/zero", &e), -EINVAL);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {names, capabilities, limits, profiles};

	return run_tests("rights", tests, ARRAY_SIZE(tests), NULL, NULL);
}
