/* SPDX-License-Identifier: Apache-2.0
 *
 * The request for a VM of a pool, as its shells take it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/protocol.h"
#include "tests/unit/util.h"
#include "vmm/pool.h"

static uint8_t buf[POOL_REQUEST_MAX];
static struct pool_request rq;

/* What takes a copy of the bytes that is no longer than they are: the sanitizers see what is read behind it. */
static int take(size_t len, unsigned int fds)
{
	static uint8_t *copy;
	struct err e;

	free(copy);
	copy = malloc(len ? len : 1);
	memcpy(copy, buf, len);
	return pool_read_request(&rq, copy, len, fds, &e);
}

static const struct pool_request full = {
	.id = "web",
	.words = "uvm.env=A=1 uvm.env=B=2",
	.held = true,
	.session = true,
	.disks = 3,
	.disk = {{.path = "/srv/root.erofs", .read_only = true},
		 {.path = "/srv/a,b", .layered = true, .serial = "S-1", .threads = true},
		 {.path = "/srv/data", .direct = true}},
};

START_TEST(there_and_back)
{
	ssize_t len = pool_write_request(&full, buf);

	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(take((size_t)len, 3), 0);
	ck_assert_str_eq(rq.id, "web");
	ck_assert_str_eq(rq.words, full.words);
	ck_assert(rq.held && rq.session && !rq.agent);
	ck_assert_uint_eq(rq.disks, 3);
	ck_assert_str_eq(rq.disk[0].path, "/srv/root.erofs");
	ck_assert(rq.disk[0].read_only && !rq.disk[0].layered);
	ck_assert_str_eq(rq.disk[1].path, "given"); /* a comma would begin a word */
	ck_assert_str_eq(rq.disk[1].serial, "S-1");
	ck_assert(rq.disk[1].layered && rq.disk[1].threads && !rq.disk[1].direct);
	ck_assert_str_eq(rq.disk[2].path, "/srv/data");
	ck_assert(rq.disk[2].direct && !rq.disk[2].fd);
}
END_TEST

START_TEST(nothing_said)
{
	ssize_t len = pool_write_request(&(struct pool_request){0}, buf);

	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(take((size_t)len, 0), 0);
	ck_assert_ptr_null(rq.id);
	ck_assert_ptr_null(rq.words);
	ck_assert(!rq.held && !rq.agent && !rq.session && !rq.disks);
}
END_TEST

START_TEST(what_cannot_be_said)
{
	static char words[POOL_REQUEST_MAX + 1];
	struct pool_request r = {.disks = 1, .disk = {{.path = "/a", .limits.iops = 5}}};

	ck_assert_int_lt(pool_write_request(&r, buf), 0);
	r.disk[0] = (struct disk_config){.path = "/a", .queues = 2};
	ck_assert_int_lt(pool_write_request(&r, buf), 0);
	r.disk[0] = (struct disk_config){.path = "no/such/file"};
	ck_assert_int_lt(pool_write_request(&r, buf), 0);
	memset(words, 'w', sizeof(words) - 1);
	ck_assert_int_lt(pool_write_request(&(struct pool_request){.words = words}, buf), 0);
}
END_TEST

/* Every beginning of a good request but the whole, and what has a byte more. */
START_TEST(cut_anywhere)
{
	size_t len = (size_t)pool_write_request(&full, buf);

	for (size_t n = 0; n < len; n++)
		ck_assert_int_eq(take(n, 3), -EINVAL);
	buf[len] = 0;
	ck_assert_int_eq(take(len + 1, 3), -EINVAL);
}
END_TEST

START_TEST(descriptors_are_counted)
{
	size_t len = (size_t)pool_write_request(&full, buf);

	for (unsigned int fds = 0; fds < 3; fds++)
		ck_assert_int_eq(take(len, fds), -EINVAL);
	buf[12] = 255; /* the number of disks */
	ck_assert_int_eq(take(len, 255), -EINVAL);
}
END_TEST

START_TEST(another_version_or_flag)
{
	for (size_t at = 0; at < 12; at++) {
		size_t len = (size_t)pool_write_request(&full, buf);

		buf[at] ^= 0x80;
		ck_assert_int_eq(take(len, 3), -EINVAL);
	}
}
END_TEST

START_TEST(disks_that_are_none)
{
	static const char *const texts[] = {"", "placeholder", "/a,queues=2", "/a,no-such-word", ",ro"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct pool_request one = {.disks = 1, .disk = {{.path = "/"}}};
		size_t len = (size_t)pool_write_request(&one, buf) - sizeof("/");

		memcpy(buf + len, texts[i], strlen(texts[i]) + 1);
		ck_assert_int_eq(take(len + strlen(texts[i]) + 1, 1), -EINVAL);
	}
}
END_TEST

START_TEST(too_many_words)
{
	size_t len = (size_t)pool_write_request(&(struct pool_request){0}, buf) - 1;

	memset(buf + len, 'w', AGENT_CMDLINE_MAX + 1);
	buf[len + AGENT_CMDLINE_MAX] = 0;
	ck_assert_int_eq(take(len + AGENT_CMDLINE_MAX + 1, 0), 0);
	buf[len + AGENT_CMDLINE_MAX] = 'w';
	buf[len + AGENT_CMDLINE_MAX + 1] = 0;
	ck_assert_int_eq(take(len + AGENT_CMDLINE_MAX + 2, 0), -EINVAL);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {there_and_back, nothing_said, what_cannot_be_said, cut_anywhere,
				      descriptors_are_counted, another_version_or_flag, disks_that_are_none,
				      too_many_words};

	return run_tests("pool", tests, ARRAY_SIZE(tests), NULL, NULL);
}
