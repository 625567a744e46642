/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's announcement, and whatever else a guest may say in its place.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/hello.h"
#include "vmm/sock.h"

#define NAME "vsock.sock"

static struct hello hello;
static struct loop loop;
static struct err e;
static unsigned int ready;

struct announcement {
	struct agent_header head;
	struct agent_info info;
};

static const struct announcement good = {
	.head = {.magic = AGENT_MAGIC,
		 .version = AGENT_VERSION,
		 .type = AGENT_HELLO,
		 .length = sizeof(struct agent_info)},
};

static void count(void *ctx)
{
	ck_assert_ptr_eq(ctx, &ready);
	ready++;
}

static void setup(void)
{
	tmp_setup();
	ck_ok(loop_init(&loop, &e));
	hello.ready = count;
	hello.ctx = &ready;
	ck_ok(hello_init(&hello, tmp_dir, NAME, &loop, &e));
}

static int connect_agent(void)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), NAME "_%u", AGENT_PORT);
	fd = sock_connect(tmp_dir, name, 1);
	ck_that(fd >= 0);
	loop_settle(&loop);
	return fd;
}

static void say(int fd, const void *data, size_t n)
{
	ck_that(send(fd, data, n, MSG_NOSIGNAL) == (ssize_t)n);
	loop_settle(&loop);
}

static bool is_closed(int fd)
{
	char byte;

	loop_settle(&loop);
	return recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

START_TEST(announcement)
{
	int fd = connect_agent();

	ck_assert(!is_closed(fd));
	say(fd, &good, sizeof(good));
	ck_assert_uint_eq(ready, 1);
	ck_assert(is_closed(fd));
}
END_TEST

START_TEST(announcement_in_pieces)
{
	int fd = connect_agent();

	for (size_t i = 0; i < sizeof(good); i++) {
		ck_that(!ready);
		say(fd, (const char *)&good + i, 1);
	}
	ck_assert_uint_eq(ready, 1);
}
END_TEST

START_TEST(announcement_with_more_behind)
{
	struct announcement two[2] = {good, good};
	int fd = connect_agent();

	say(fd, two, sizeof(two));
	ck_assert_uint_eq(ready, 1);
}
END_TEST

/* A second agent, or the same once more: it is ready already. */
START_TEST(second_announcement)
{
	for (unsigned int i = 0; i < 3; i++) {
		int fd = connect_agent();

		say(fd, &good, sizeof(good));
		ck_assert(is_closed(fd));
		close(fd);
	}
	ck_assert_uint_eq(ready, 1);
}
END_TEST

static void expect_refused(const struct announcement *a)
{
	int fd = connect_agent();

	say(fd, a, sizeof(*a));
	ck_assert(is_closed(fd));
	ck_assert_uint_eq(ready, 0);
	close(fd);
}

START_TEST(other_messages)
{
	struct announcement a = good;

	a.head.magic++;
	expect_refused(&a);
	a = good;
	a.head.version++;
	expect_refused(&a);
	a = good;
	a.head.type = AGENT_INFO;
	expect_refused(&a);
	a = good;
	a.head.length--;
	expect_refused(&a);
	a.head.length = UINT32_MAX;
	expect_refused(&a);
	memset(&a, 0xff, sizeof(a));
	expect_refused(&a);
	/* And the right one is heard after all of them. */
	say(connect_agent(), &good, sizeof(good));
	ck_assert_uint_eq(ready, 1);
}
END_TEST

START_TEST(every_truncation)
{
	for (size_t n = 0; n < sizeof(good); n++) {
		int fd = connect_agent();

		if (n)
			say(fd, &good, n);
		close(fd);
		loop_settle(&loop);
		ck_that(!ready && hello.conn.fd == -1);
	}
	say(connect_agent(), &good, sizeof(good));
	ck_assert_uint_eq(ready, 1);
}
END_TEST

/* One at a time, so that a guest cannot take up descriptors: the others wait. */
START_TEST(one_connection_at_a_time)
{
	int silent = connect_agent(), second = connect_agent();

	say(second, &good, sizeof(good));
	ck_assert_uint_eq(ready, 0);
	close(silent);
	loop_settle(&loop);
	ck_assert_uint_eq(ready, 1);
	ck_assert(is_closed(second));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		announcement,
		announcement_in_pieces,
		announcement_with_more_behind,
		second_announcement,
		other_messages,
		every_truncation,
		one_connection_at_a_time,
	};

	return run_tests("hello", tests, ARRAY_SIZE(tests), setup, tmp_teardown);
}
