/* SPDX-License-Identifier: Apache-2.0
 *
 * The monitor's end of the agent's link: the announcement, requests and their answers, and whatever
 * else a guest may say in their place.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/link.h"

#define PATIENCE_MS 60000 /* for what must not time out */

static struct link lk;
static struct loop loop;
static struct err e;
static unsigned int ready, fds_before;
static int guest = -1; /* the device's end */

/* How the latest request ended. */
static struct {
	unsigned int times;
	int result;
	char text[512];
} done;

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
	fds_before = open_fds();
	ck_ok(loop_init(&loop, &e));
	lk.ready = count;
	lk.ctx = &ready;
	ck_ok(link_init(&lk, &loop, &e));
}

static void leave(void)
{
	if (guest >= 0)
		close(guest);
	guest = -1;
	loop_settle(&loop);
}

static void teardown(void)
{
	leave();
	ck_assert_int_eq(lk.conn.fd, -1);
	link_close(&lk);
	loop_close(&loop);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static void connect_guest(void)
{
	guest = link_connect(&lk);
	ck_that(guest >= 0);
	loop_settle(&loop);
}

static void say(const void *data, size_t n)
{
	ck_that(send(guest, data, n, MSG_NOSIGNAL) == (ssize_t)n);
	loop_settle(&loop);
}

static bool is_closed(void)
{
	char byte;

	loop_settle(&loop);
	return recv(guest, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

/* A connection on which HELLO has come. */
static void connect_agent(void)
{
	connect_guest();
	say(&good, sizeof(good));
	ck_assert(link_up(&lk));
}

static void note_done(void *ctx, int result, struct err *why)
{
	ck_assert_ptr_eq(ctx, &done);
	done.times++;
	done.result = result;
	if (result)
		snprintf(done.text, sizeof(done.text), "%s", why->text);
}

static int request(enum agent_type type, const void *payload, size_t len, unsigned int ms)
{
	return link_request(&lk, type, payload, len, ms, note_done, &done, &e);
}

/* Reads a request as the agent would; returns its tag. */
static uint32_t expect_request(enum agent_type type, const void *payload, size_t len)
{
	struct agent_header head;
	uint8_t body[512];

	ck_assert_int_eq(recv(guest, &head, sizeof(head), 0), sizeof(head));
	ck_assert_uint_eq(head.magic, AGENT_MAGIC);
	ck_assert_uint_eq(head.version, AGENT_VERSION);
	ck_assert_uint_eq(head.type, type);
	ck_assert_uint_eq(head.length, len);
	ck_assert(!len || recv(guest, body, sizeof(body), 0) == (ssize_t)len);
	ck_assert(!len || !memcmp(body, payload, len));
	return head.tag;
}

static void answer(enum agent_type type, uint32_t tag, const void *payload, size_t len)
{
	struct agent_header head = {.magic = AGENT_MAGIC,
				    .version = AGENT_VERSION,
				    .type = (uint16_t)type,
				    .length = (uint32_t)len,
				    .tag = tag};
	uint8_t all[sizeof(head) + AGENT_ANSWER_MAX];

	memcpy(all, &head, sizeof(head));
	if (len)
		memcpy(all + sizeof(head), payload, len);
	say(all, sizeof(head) + len);
}

static void answer_error(uint32_t tag, uint32_t code, const char *text)
{
	struct agent_error error = {.code = code, .kind = AGENT_REFUSED};
	uint8_t all[AGENT_ANSWER_MAX];

	memcpy(all, &error, sizeof(error));
	memcpy(all + sizeof(error), text, strlen(text));
	answer(AGENT_ERROR, tag, all, sizeof(error) + strlen(text));
}

/* Turns the loop until the request has ended. */
static void await_done(unsigned int times)
{
	while (done.times < times)
		loop_turn(&loop);
}

/* --- the announcement --- */

START_TEST(announcement)
{
	connect_guest();
	ck_assert(!is_closed() && !link_up(&lk));
	say(&good, sizeof(good));
	ck_assert_uint_eq(ready, 1);
	ck_assert(!is_closed() && link_up(&lk));
	leave();
	ck_assert(!link_up(&lk));
}
END_TEST

START_TEST(announcement_in_pieces)
{
	connect_guest();
	for (size_t i = 0; i < sizeof(good); i++) {
		ck_that(!ready && !link_up(&lk));
		say((const char *)&good + i, 1);
	}
	ck_assert_uint_eq(ready, 1);
	ck_assert(link_up(&lk));
}
END_TEST

/* Twice on one connection is no agent's doing. */
START_TEST(announcement_with_more_behind)
{
	struct announcement two[2] = {good, good};

	connect_guest();
	say(two, sizeof(two));
	ck_assert_uint_eq(ready, 1);
	ck_assert(is_closed() && !link_up(&lk));
}
END_TEST

/* A second agent, or the same once more: it is ready already. */
START_TEST(second_announcement)
{
	for (unsigned int i = 0; i < 3; i++) {
		connect_agent();
		leave();
	}
	ck_assert_uint_eq(ready, 1);
}
END_TEST

static void expect_refused(const struct announcement *a)
{
	connect_guest();
	say(a, sizeof(*a));
	ck_assert(is_closed());
	ck_assert_uint_eq(ready, 0);
	leave();
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
	a.head.type = AGENT_OK;
	a.head.length = 0;
	expect_refused(&a);
	a = good;
	a.head.length--;
	expect_refused(&a);
	a.head.length = UINT32_MAX;
	expect_refused(&a);
	memset(&a, 0xff, sizeof(a));
	expect_refused(&a);
	/* And the right one is heard after all of them. */
	connect_agent();
	ck_assert_uint_eq(ready, 1);
}
END_TEST

START_TEST(every_truncation)
{
	for (size_t n = 0; n < sizeof(good); n++) {
		connect_guest();
		if (n)
			say(&good, n);
		leave();
		ck_that(!ready && lk.conn.fd == -1);
	}
	connect_agent();
	ck_assert_uint_eq(ready, 1);
}
END_TEST

/* One at a time, so that a guest cannot take up descriptors. */
START_TEST(one_connection_at_a_time)
{
	connect_guest();
	ck_assert_int_eq(link_connect(&lk), -EBUSY);
	say(&good, sizeof(good));
	ck_assert_int_eq(link_connect(&lk), -EBUSY);
	ck_assert(link_up(&lk));
	leave();
	connect_agent();
}
END_TEST

/* --- requests --- */

START_TEST(request_and_ok)
{
	struct agent_identity id = {.wall_ns = 1, .hostname = "name"};

	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	ck_assert_uint_eq(done.times, 0);
	answer(AGENT_OK, expect_request(AGENT_FREEZE, NULL, 0), NULL, 0);
	ck_assert_uint_eq(done.times, 1);
	ck_assert_int_eq(done.result, 0);
	ck_ok(request(AGENT_IDENTITY, &id, sizeof(id), PATIENCE_MS));
	answer(AGENT_OK, expect_request(AGENT_IDENTITY, &id, sizeof(id)), NULL, 0);
	ck_assert_uint_eq(done.times, 2);
	ck_assert_int_eq(done.result, 0);
}
END_TEST

START_TEST(request_and_error)
{
	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	answer_error(expect_request(AGENT_FREEZE, NULL, 0), EBUSY, "too\nlively");
	ck_assert_int_eq(done.result, -EBUSY);
	ck_assert_str_eq(done.text, "too?lively: Device or resource busy");
	/* It leaves the link as it was. A number that is none does not become success. */
	ck_assert(link_up(&lk));
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	answer_error(expect_request(AGENT_FREEZE, NULL, 0), 0, "");
	ck_assert_int_eq(done.result, -EPROTO);
	ck_assert_uint_eq(done.times, 2);
}
END_TEST

START_TEST(requests_that_cannot_be)
{
	ck_refused(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS), ENOTCONN, "not connected");
	connect_guest();
	ck_refused(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS), ENOTCONN, "not connected");
	say(&good, sizeof(good));
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	ck_refused(request(AGENT_THAW, NULL, 0, PATIENCE_MS), EBUSY, "already");
	expect_request(AGENT_FREEZE, NULL, 0);
	ck_assert(!is_closed()); /* nothing of the second was sent */
	leave();
	ck_refused(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS), ENOTCONN, "not connected");
	ck_assert_uint_eq(done.times, 1);
}
END_TEST

START_TEST(link_ends_during_a_request)
{
	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	leave();
	ck_assert_uint_eq(done.times, 1);
	ck_assert_int_eq(done.result, -ECONNRESET);
	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
	answer(AGENT_OK, expect_request(AGENT_FREEZE, NULL, 0), NULL, 0);
	ck_assert_int_eq(done.result, 0);
	/* The monitor's own end of it. */
	ck_ok(request(AGENT_THAW, NULL, 0, PATIENCE_MS));
	link_close(&lk);
	ck_assert_uint_eq(done.times, 3);
	ck_assert_int_eq(done.result, -ECONNRESET);
	ck_ok(link_init(&lk, &loop, &e));
}
END_TEST

/* Nobody answers in time. The answer that comes too late is not taken for that to the next. */
START_TEST(timeout_and_late_answer)
{
	uint32_t tag;

	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, 1));
	await_done(1);
	ck_assert_int_eq(done.result, -ETIMEDOUT);
	ck_assert(link_up(&lk));
	tag = expect_request(AGENT_FREEZE, NULL, 0);
	answer(AGENT_OK, tag, NULL, 0); /* while there is none to take it for */
	ck_ok(request(AGENT_THAW, NULL, 0, PATIENCE_MS));
	answer(AGENT_OK, tag, NULL, 0);
	answer_error(tag, EIO, "");
	ck_assert_uint_eq(done.times, 1);
	answer(AGENT_OK, expect_request(AGENT_THAW, NULL, 0), NULL, 0);
	ck_assert_uint_eq(done.times, 2);
	ck_assert_int_eq(done.result, 0);
}
END_TEST

/* The timer of a request that was answered does not end the next. */
START_TEST(timer_of_the_last_request)
{
	connect_agent();
	ck_ok(request(AGENT_FREEZE, NULL, 0, 1));
	answer(AGENT_OK, expect_request(AGENT_FREEZE, NULL, 0), NULL, 0);
	await_done(1);
	ck_ok(request(AGENT_THAW, NULL, 0, PATIENCE_MS));
	usleep(2000);
	loop_settle(&loop);
	ck_assert_uint_eq(done.times, 1);
	answer(AGENT_OK, expect_request(AGENT_THAW, NULL, 0), NULL, 0);
	ck_assert_uint_eq(done.times, 2);
}
END_TEST

/* Instead of an answer. */
START_TEST(other_answers)
{
	static const uint16_t types[] = {AGENT_HELLO,  AGENT_INFO,     AGENT_STARTED, AGENT_EXITED,
					 AGENT_FREEZE, AGENT_IDENTITY, AGENT_ERROR,   0,
					 0xffff};
	static const uint8_t body[sizeof(struct agent_info)];

	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		size_t len = types[i] == AGENT_EXITED	 ? sizeof(struct agent_exited)
			     : types[i] == AGENT_STARTED ? sizeof(struct agent_started)
			     : types[i] == AGENT_ERROR	 ? 1 /* too short */
							 : sizeof(body);

		connect_agent();
		ck_ok(request(AGENT_FREEZE, NULL, 0, PATIENCE_MS));
		answer(types[i], expect_request(AGENT_FREEZE, NULL, 0), body, len);
		ck_assert_msg(is_closed(), "type %u", types[i]);
		ck_assert_uint_eq(done.times, i + 1);
		ck_assert_int_eq(done.result, -ECONNRESET);
		leave();
	}
}
END_TEST

static void freeze_again(void *ctx, int result, struct err *why)
{
	note_done(ctx, result, why);
	if (done.times < 3)
		ck_ok(link_request(&lk, AGENT_FREEZE, NULL, 0, PATIENCE_MS, freeze_again, ctx, &e));
}

START_TEST(request_from_the_last_ones_end)
{
	connect_agent();
	ck_ok(link_request(&lk, AGENT_FREEZE, NULL, 0, PATIENCE_MS, freeze_again, &done, &e));
	for (unsigned int i = 1; i <= 3; i++) {
		answer(AGENT_OK, expect_request(AGENT_FREEZE, NULL, 0), NULL, 0);
		ck_assert_uint_eq(done.times, i);
	}
}
END_TEST

/* A guest that reads nothing: requests time out, and in the end there is no room for more. */
START_TEST(guest_does_not_read)
{
	struct agent_identity id = {0};
	unsigned int n = 0;

	connect_agent();
	setsockopt(lk.conn.fd, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
	while (!request(AGENT_IDENTITY, &id, sizeof(id), 1)) {
		await_done(++n);
		ck_that(n < 100000 && done.result == -ETIMEDOUT);
	}
	ck_assert_uint_gt(n, 2);
	ck_assert(strstr(e.text, "cannot send") != NULL);
}
END_TEST

/* Answers without a question, as fast as they can be made. */
START_TEST(flood_of_answers)
{
	struct agent_header ok = {AGENT_MAGIC, AGENT_VERSION, AGENT_OK, 0, 1};

	connect_agent();
	for (unsigned int i = 0; i < 1000; i++)
		say(&ok, sizeof(ok));
	ck_assert(link_up(&lk));
	ck_assert_uint_eq(done.times, 0);
}
END_TEST

/* --- in a clone --- */

START_TEST(restored)
{
	struct agent_identity id = {.wall_ns = 7};

	guest = link_restore(&lk, &e);
	ck_ok(guest);
	ck_assert(link_up(&lk));
	ck_ok(request(AGENT_IDENTITY, &id, sizeof(id), PATIENCE_MS));
	answer(AGENT_OK, expect_request(AGENT_IDENTITY, &id, sizeof(id)), NULL, 0);
	ck_assert_int_eq(done.result, 0);
	ck_assert_uint_eq(done.times, 1);
	ck_assert_uint_eq(ready, 0);
	ck_refused(link_restore(&lk, &e), EBUSY, "cannot connect");
	/* HELLO has come, long ago: not again. */
	say(&good, sizeof(good));
	ck_assert(is_closed());
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
		request_and_ok,
		request_and_error,
		requests_that_cannot_be,
		link_ends_during_a_request,
		timeout_and_late_answer,
		timer_of_the_last_request,
		other_answers,
		request_from_the_last_ones_end,
		guest_does_not_read,
		flood_of_answers,
		restored,
	};

	return run_tests("link", tests, ARRAY_SIZE(tests), setup, teardown);
}
