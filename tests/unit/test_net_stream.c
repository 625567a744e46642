/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames in a stream, whose other end is the test.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_stream.h"
#include "tests/unit/util.h"

static struct net_stream s;
static struct net_frame f;
static struct err e;
static int peer;
static uint8_t data[256u << 10];

static void setup(void)
{
	int fd[2];

	ck_that(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	ck_ok(net_stream_init(&s, fd[0], &e));
	peer = fd[1];
	fill_pattern(data, sizeof(data), 3);
}

static void teardown(void)
{
	net_stream_close(&s);
	close(peer);
}

static int receive(void)
{
	return s.backend.receive(&s.backend, &f);
}

static void put_length(uint32_t len)
{
	uint8_t p[] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};

	ck_that(write(peer, p, 4) == 4);
}

static void put(const void *p, size_t len)
{
	ck_that(write(peer, p, len) == (ssize_t)len);
}

static void put_frame(uint32_t len, size_t at)
{
	put_length(len);
	put(data + at, len);
}

static void expect_frame(size_t len, size_t at)
{
	static const struct net_header zero;

	ck_assert_int_eq(receive(), 0);
	ck_assert_uint_eq(f.len, len);
	ck_assert_mem_eq(f.data, data + at, len);
	ck_assert_mem_eq(&f.header, &zero, sizeof(zero));
}

START_TEST(frames)
{
	ck_assert_int_eq(receive(), -EAGAIN);
	put_frame(14, 0);
	put_frame(1514, 5);
	put_frame(NET_FRAME_MAX, 7);
	put_frame(60, 9);
	expect_frame(14, 0);
	expect_frame(1514, 5);
	expect_frame(NET_FRAME_MAX, 7);
	expect_frame(60, 9);
	ck_assert_int_eq(receive(), -EAGAIN);
}
END_TEST

START_TEST(byte_by_byte)
{
	static const uint8_t length[4] = {0, 0, 0, 20};

	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int i = 0; i < 24; i++) {
			ck_assert_int_eq(receive(), -EAGAIN);
			put(i < 4 ? length + i : data + i - 4, 1);
			if (i == 23)
				expect_frame(20, 0);
		}
}
END_TEST

/* More than the buffer holds, in pieces of any size, read whenever. */
START_TEST(many)
{
	uint32_t seed = 7;
	unsigned int sent = 0, seen = 0;

	while (seen < 3000) {
		if (sent < seen + 1 + next_random(&seed) % 40) {
			put_frame(14 + sent % 1501, sent % 100);
			sent++;
		} else {
			while (seen < sent) {
				expect_frame(14 + seen % 1501, seen % 100);
				seen++;
			}
		}
	}
}
END_TEST

START_TEST(impossible_lengths)
{
	put_length(0);
	put_frame(13, 0);
	put_frame(60, 1);
	put_frame(NET_FRAME_MAX + 1, 0);
	put_frame(61, 2);
	ck_assert_int_eq(receive(), -EBADMSG);
	ck_assert_int_eq(receive(), -EBADMSG);
	expect_frame(60, 1);
	ck_assert_int_eq(receive(), -EBADMSG);
	expect_frame(61, 2);
	ck_assert_int_eq(receive(), -EAGAIN);
	/* One that never ends is read, in bounded pieces, and nothing comes of it. */
	put_length(UINT32_MAX);
	ck_assert_int_eq(receive(), -EBADMSG);
	for (unsigned int i = 0; i < 100; i++) {
		put(data, 100000);
		ck_assert_int_eq(receive(), -EAGAIN);
	}
}
END_TEST

START_TEST(end)
{
	put_frame(60, 0);
	put_length(100);
	close(peer);
	expect_frame(60, 0);
	ck_assert_int_eq(receive(), -ENOTCONN);
	peer = dup(s.backend.fd);
}
END_TEST

static int send_frame(size_t at, size_t len)
{
	static const struct net_header h;
	struct iovec iov[4] = {{0}, {data + at, 5}, {data + at + 5, 1}, {data + at + 6, len - 6}};

	return s.backend.send(&s.backend, &h, iov, 3, len);
}

/* What comes out, read at any speed, is each frame once and as a whole. */
static void drain(unsigned int *count, size_t len)
{
	static uint8_t in[NET_FRAME_MAX + 4];
	static size_t have;
	ssize_t n;

	while ((n = recv(peer, in + have, len + 4 - have, MSG_DONTWAIT)) > 0) {
		have += (size_t)n;
		if (have < len + 4)
			continue;
		ck_that((size_t)(in[0] << 24 | in[1] << 16 | in[2] << 8 | in[3]) == len);
		ck_that(!memcmp(in + 4, data + *count % 7, len));
		++*count;
		have = 0;
	}
}

START_TEST(a_slow_reader)
{
	const size_t len = 60001;
	unsigned int sent = 0, seen = 0, parts = 0;

	while (seen < 200) {
		int r = s.backend.backlog ? s.backend.flush(&s.backend) : 0;

		if (!r)
			r = send_frame(sent % 7, len);
		if (!r) {
			sent++;
			parts += s.backend.backlog;
			continue;
		}
		ck_assert_int_eq(r, -EAGAIN);
		drain(&seen, len);
	}
	ck_assert_uint_gt(parts, 0);
	ck_assert_uint_ge(sent, seen);
}
END_TEST

START_TEST(full_and_no_part)
{
	unsigned int n = 0;

	while (!send_frame(0, 14))
		n++;
	ck_assert_uint_gt(n, 10);
	ck_assert(!s.backend.backlog || s.left < 18);
}
END_TEST

START_TEST(nobody_reads)
{
	close(peer);
	ck_assert_int_eq(send_frame(0, 100), -ENOTCONN); /* and no SIGPIPE */
	peer = dup(s.backend.fd);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {frames, byte_by_byte,  many,	       impossible_lengths,
				      end,    a_slow_reader, full_and_no_part, nobody_reads};

	return run_tests("net_stream", tests, ARRAY_SIZE(tests), setup, teardown);
}
