/* SPDX-License-Identifier: Apache-2.0
 *
 * The host's end of guests' streams over real sockets, between programs of the test's own and a
 * guest that speaks packets.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vsock_unix.h"
#include "tests/unit/util.h"
#include "tests/unit/vsock_guest.h"
#include "vmm/sock.h"

#define NAME "vsock.sock"
#define PERIOD ((1u << 20) + 4099u) /* of a long stream's bytes; no buffer's size fits into it */

static struct vsock_unix backend;
static struct err e;
static unsigned int fds_before;

static void setup_without_driver(void)
{
	tmp_setup();
	fds_before = open_fds();
	vsock_guest_init();
	vsock_unix_init(&backend, tmp_dir, NAME, &vsock, &d.loop);
	ck_ok(vsock_unix_listen(&backend, &e));
	ck_ok(virtio_vsock_init(&vsock, &d.guest.mem, CID, &backend.host, d.irq, &d.loop, &e));
}

static void setup(void)
{
	setup_without_driver();
	vsock_guest_start();
}

/* Nothing is left, whatever the test did: neither stream nor descriptor. Sockets of the test's own
 * are to be closed before.
 */
static void teardown(void)
{
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert_uint_eq(backend.streams, 0);
	vsock_unix_close(&backend);
	vsock_guest_free();
	ck_assert_uint_eq(open_fds(), fds_before);
	tmp_teardown();
}

/* A program on the host connects. */
static int connect_host(void)
{
	int fd = sock_connect(tmp_dir, NAME, 1);

	ck_that(fd >= 0);
	loop_settle(&d.loop);
	return fd;
}

static void put(int fd, const char *text)
{
	ck_that(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
	loop_settle(&d.loop);
}

/* As text_now. */
static const char *get(int fd)
{
	loop_settle(&d.loop);
	return text_now(fd);
}

/* Closes the program's socket and lets the device see it. */
static void end(int fd)
{
	close(fd);
	loop_settle(&d.loop);
}

/* The port of the request that the guest must have received for its port. */
static uint32_t expect_request(uint32_t guest_port)
{
	struct packet p = {0};

	ck_assert(receive(&p, NULL));
	ck_assert_uint_eq(p.op, REQUEST);
	ck_assert_uint_eq(p.dst_port, guest_port);
	return p.src_port;
}

/* A whole connection to the guest's port 22. */
static int connect_guest(uint32_t *port)
{
	int fd = connect_host();
	char ok[32];

	put(fd, "CONNECT 22\n");
	*port = expect_request(22);
	send_op(RESPONSE, 22, *port);
	snprintf(ok, sizeof(ok), "OK %u\n", *port);
	ck_assert_str_eq(get(fd), ok);
	return fd;
}

/* A program that listens on the host's port 80, and the guest's connection from port 1000 to it. */
static int listen_80(void)
{
	int fd = sock_listen(tmp_dir, NAME "_80", &e);

	ck_that(fd >= 0);
	return fd;
}

static int guest_connects(int listener, uint32_t guest_port)
{
	int fd;

	send_op(REQUEST, guest_port, 80);
	expect(RESPONSE, guest_port, 80);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_that(fd >= 0);
	return fd;
}

static void expect_data(const char *text)
{
	const uint8_t *data;
	struct packet p;

	ck_assert(receive(&p, &data));
	ck_assert_uint_eq(p.op, RW);
	ck_assert_uint_eq(p.len, strlen(text));
	ck_assert(!memcmp(data, text, p.len));
}

/* --- a program on the host connects --- */

START_TEST(socket_is_the_owners)
{
	struct stat st;

	ck_assert(!fstatat(tmp_dir, NAME, &st, 0));
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(connect_and_talk)
{
	uint32_t port;
	int fd = connect_guest(&port);

	put(fd, "ping");
	expect_data("ping");
	send_data(22, port, "pong", 4);
	ck_assert_str_eq(get(fd), "pong");
	end(fd);
	expect_shutdown(22, port, VSOCK_NO_SEND);
	send_shutdown(22, port, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
	expect(RST, 22, port);
	ck_assert_uint_eq(backend.streams, 0);
}
END_TEST

START_TEST(line_in_fragments)
{
	int fd = connect_host();
	const char line[] = "CONNECT 4294967295\n";

	for (const char *p = line; *p; p++) {
		expect_nothing();
		put(fd, (char[]){*p, 0});
	}
	expect_request(UINT32_MAX);
	end(fd);
}
END_TEST

START_TEST(bytes_behind_the_line)
{
	int fd = connect_host();
	uint32_t port;

	put(fd, "CONNECT 22\nCONNECT 23\nand more");
	port = expect_request(22);
	expect_nothing();
	send_op(RESPONSE, 22, port);
	expect_data("CONNECT 23\nand more");
	end(fd);
}
END_TEST

/* The guest's bytes come behind the OK, even if they came with its agreement. */
START_TEST(ok_comes_first)
{
	int fd = connect_host();
	struct packet p;
	char all[64];

	put(fd, "CONNECT 22\n");
	p = packet(RESPONSE, 22, expect_request(22));
	queue_packet(&p, NULL);
	tx_at += 4096; /* the first is still to be read */
	p.op = RW;
	p.len = 2;
	queue_packet(&p, "hi");
	driver_kick(&d, TX);
	snprintf(all, sizeof(all), "OK %u\nhi", p.dst_port);
	ck_assert_str_eq(get(fd), all);
	end(fd);
}
END_TEST

START_TEST(lines_that_are_refused)
{
	static const char *const bad[] = {
		"\n",
		"\r\n",
		"hello\n",
		"CONNECT\n",
		"CONNECT \n",
		"connect 22\n",
		"CONNECT  22\n",
		"CONNECT -1\n",
		"CONNECT +1\n",
		"CONNECT 22 \n",
		"CONNECT 22\r\n",
		"CONNECT 0x16\n",
		"CONNECT 4294967296\n",
		"CONNECT 9999999999\n",
		"CONNECT 22x\n",
		"CONNECT 00000000022\n", /* too long, though a number */
		"CONNECTCONNECTCONNECTCONNECT",
		"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = connect_host();

		put(fd, bad[i]);
		ck_assert_msg(!strcmp(get(fd), "(end)"), "case %u: %s", i, bad[i]);
		ck_assert_uint_eq(backend.streams, 0);
		end(fd);
	}
	expect_nothing();
}
END_TEST

START_TEST(line_with_a_nul)
{
	int fd = connect_host();

	ck_assert_int_eq(send(fd, "CONNECT 22\0\n", 12, MSG_NOSIGNAL), 12);
	ck_assert_str_eq(get(fd), "(end)");
	end(fd);
}
END_TEST

/* Whoever goes away before the line is complete leaves nothing behind. */
START_TEST(gone_before_the_line)
{
	const char line[] = "CONNECT 22";

	for (size_t n = 0; n <= strlen(line); n++) {
		int fd = connect_host();

		ck_that(send(fd, line, n, MSG_NOSIGNAL) == (ssize_t)n);
		loop_settle(&d.loop);
		ck_assert_uint_eq(backend.streams, 1);
		end(fd);
		ck_assert_msg(backend.streams == 0, "after %zu bytes", n);
	}
}
END_TEST

START_TEST(shut_before_the_line)
{
	int fd = connect_host();

	put(fd, "CONN");
	ck_assert(!shutdown(fd, SHUT_WR));
	ck_assert_str_eq(get(fd), "(end)");
	ck_assert_uint_eq(backend.streams, 0);
	end(fd);
}
END_TEST

/* Gone after the line: the guest hears of a connection and of its end. */
START_TEST(gone_after_the_line)
{
	int fd = sock_connect(tmp_dir, NAME, 1);
	uint32_t port;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(send(fd, "CONNECT 22\nlast", 15, 0), 15);
	end(fd);
	port = expect_request(22);
	send_op(RESPONSE, 22, port);
	expect_data("last");
	expect_shutdown(22, port, VSOCK_NO_SEND);
	send_op(RST, 22, port);
	ck_assert_uint_eq(backend.streams, 0);
}
END_TEST

START_TEST(guest_refuses)
{
	int fd = connect_host();

	put(fd, "CONNECT 22\n");
	send_op(RST, 22, expect_request(22));
	ck_assert_str_eq(get(fd), "(end)");
	end(fd);
}
END_TEST

/* There is no driver (yet): nobody to connect to. */
START_TEST(no_driver)
{
	int fd = connect_host();

	put(fd, "CONNECT 22\n");
	ck_assert_str_eq(get(fd), "(end)");
	end(fd);
	ck_assert_uint_eq(backend.streams, 0);
}
END_TEST

/* --- the guest connects --- */

START_TEST(guest_reaches_a_program)
{
	int listener = listen_80(), fd = guest_connects(listener, 1000);

	send_data(1000, 80, "ping", 4);
	ck_assert_str_eq(get(fd), "ping");
	put(fd, "pong");
	expect_data("pong");
	send_shutdown(1000, 80, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
	expect(RST, 1000, 80);
	ck_assert_str_eq(get(fd), "(end)");
	end(fd);
	close(listener);
}
END_TEST

START_TEST(nobody_listens)
{
	send_op(REQUEST, 1000, 80);
	expect(RST, 1000, 80);
	/* A socket that a dead program left; a file that is none. */
	close(listen_80());
	send_op(REQUEST, 1000, 80);
	expect(RST, 1000, 80);
	tmp_file(NAME "_81", "x", 1);
	send_op(REQUEST, 1000, 81);
	expect(RST, 1000, 81);
	ck_assert_uint_eq(backend.streams, 0);
}
END_TEST

/* A program that never accepts: its backlog fills, and the device does not wait. */
START_TEST(listener_does_not_accept)
{
	int listener = listen_80();
	unsigned int refused = 0;

	ck_assert(!listen(listener, 3));
	for (uint32_t i = 0; i < 10; i++) {
		struct packet p;

		send_op(REQUEST, 1000 + i, 80);
		ck_assert(receive(&p, NULL));
		refused += p.op == RST;
	}
	ck_assert_uint_gt(refused, 3);
	ck_assert_uint_eq(backend.streams, 10 - refused);
	close(listener);
}
END_TEST

/* --- a port inside the monitor --- */

static int served = -1; /* our end of the stream */

static int serve_port(void *ctx)
{
	int pair[2];

	ck_assert_ptr_eq(ctx, &served);
	if (served >= 0)
		return -EBUSY;
	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	served = pair[0];
	return pair[1];
}

START_TEST(guest_reaches_the_monitor)
{
	struct vsock_service s80 = {.port = 80, .connect = serve_port, .ctx = &served};
	struct vsock_service s82 = {.port = 82};
	int listener = listen_80();

	vsock_unix_serve(&backend, &s80);
	vsock_unix_serve(&backend, &s82);
	send_op(REQUEST, 1000, 80);
	expect(RESPONSE, 1000, 80);
	ck_assert_int_ge(served, 0);
	send_data(1000, 80, "ping", 4);
	ck_assert_str_eq(get(served), "ping");
	put(served, "pong");
	expect_data("pong");
	/* It may refuse; a socket of that name is not asked then. Other ports are as before. */
	send_op(REQUEST, 1001, 80);
	expect(RST, 1001, 80);
	ck_assert_int_eq(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), -1);
	ck_assert_uint_eq(backend.streams, 1);
	send_op(REQUEST, 1002, 81);
	expect(RST, 1002, 81);
	send_op(RST, 1000, 80);
	ck_assert_str_eq(get(served), "(end)");
	end(served);
	close(listener);
}
END_TEST

/* --- closing, a half at a time --- */

START_TEST(guest_shuts_its_half)
{
	int listener = listen_80(), fd = guest_connects(listener, 1000);

	send_data(1000, 80, "bye", 3);
	send_shutdown(1000, 80, VSOCK_NO_SEND);
	ck_assert_str_eq(get(fd), "bye");
	ck_assert_str_eq(get(fd), "(end)");
	put(fd, "answer");
	expect_data("answer");
	ck_assert(!shutdown(fd, SHUT_WR));
	loop_settle(&d.loop);
	expect_shutdown(1000, 80, VSOCK_NO_SEND);
	expect(RST, 1000, 80);
	ck_assert_uint_eq(backend.streams, 0);
	end(fd);
	close(listener);
}
END_TEST

START_TEST(program_shuts_its_half)
{
	int listener = listen_80(), fd = guest_connects(listener, 1000);

	put(fd, "request");
	ck_assert(!shutdown(fd, SHUT_WR));
	loop_settle(&d.loop);
	expect_data("request");
	expect_shutdown(1000, 80, VSOCK_NO_SEND);
	send_data(1000, 80, "answer", 6);
	ck_assert_str_eq(get(fd), "answer");
	send_shutdown(1000, 80, VSOCK_NO_SEND);
	expect(RST, 1000, 80);
	ck_assert_str_eq(get(fd), "(end)");
	end(fd);
	close(listener);
}
END_TEST

/* The program is gone; what the guest sends from then on ends the other half too. */
START_TEST(program_closes)
{
	int listener = listen_80(), fd = guest_connects(listener, 1000);

	send_data(1000, 80, "unread", 6);
	end(fd);
	expect_shutdown(1000, 80, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	send_op(RST, 1000, 80);
	ck_assert_uint_eq(backend.streams, 0);

	fd = guest_connects(listener, 1001);
	end(fd);
	expect_shutdown(1001, 80, VSOCK_NO_SEND);
	send_data(1001, 80, "x", 1);
	expect_shutdown(1001, 80, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
	send_op(RST, 1001, 80);
	ck_assert_uint_eq(backend.streams, 0);
	close(listener);
}
END_TEST

START_TEST(device_reset_ends_every_stream)
{
	int listener = listen_80(), fd[3];
	uint32_t port;

	fd[0] = guest_connects(listener, 1000);
	fd[1] = connect_guest(&port);
	fd[2] = connect_host();
	put(fd[2], "CONNE"); /* not the device's yet */
	driver_reset(&d);
	/* Bytes come before the loop has heard of the reset. */
	ck_assert_int_eq(send(fd[0], "x", 1, 0), 1);
	ck_assert_str_eq(get(fd[0]), "(end)");
	ck_assert_str_eq(get(fd[1]), "(end)");
	ck_assert_str_eq(get(fd[2]), "");
	ck_assert_uint_eq(backend.streams, 1);
	vsock_guest_start();
	put(fd[2], "CT 22\n");
	expect_request(22);
	for (unsigned int i = 0; i < 3; i++)
		end(fd[i]);
	close(listener);
}
END_TEST

/* --- megabytes --- */

static uint8_t *pattern;

/* How many bytes go each way: UVM_TEST_BULK MiB, below 4096. */
static uint32_t begin_bulk(void)
{
	const char *mib = getenv("UVM_TEST_BULK");

	pattern = malloc(PERIOD);
	fill_pattern(pattern, PERIOD, 1);
	return (uint32_t)(mib ? atoi(mib) : 16) << 20;
}

/* What of the stream at `at` lies in one piece in the pattern, of left bytes. */
static uint32_t piece(uint32_t at, uint32_t left)
{
	return MIN(PERIOD - at % PERIOD, left);
}

static void ck_pattern(const uint8_t *seen, uint32_t at, uint32_t len)
{
	while (len) {
		uint32_t n = piece(at, len);

		ck_that(!memcmp(seen, pattern + at % PERIOD, n));
		seen += n;
		at += n;
		len -= n;
	}
}

/* A program sends more than any buffer holds; all of it arrives in order. */
START_TEST(bulk_to_the_guest)
{
	uint32_t port, got = 0, sent = 0, bulk = begin_bulk();
	int fd = connect_guest(&port);
	struct packet credit = packet(CREDIT_UPDATE, 22, port);

	while (got < bulk) {
		ssize_t n = send(fd, pattern + sent % PERIOD, piece(sent, bulk - sent), MSG_DONTWAIT);
		const uint8_t *part;
		struct packet p;

		sent += n > 0 ? (uint32_t)n : 0;
		loop_settle(&d.loop);
		while (receive(&p, &part)) {
			ck_that(p.op == RW);
			ck_pattern(part, got, p.len);
			got += p.len;
		}
		credit.fwd_cnt = got;
		send_packet(&credit, NULL);
	}
	ck_assert_uint_eq(got, bulk);
	end(fd);
	free(pattern);
}
END_TEST

START_TEST(bulk_from_the_guest)
{
	static uint8_t in[VSOCK_BUFFER];
	int listener = listen_80(), fd = guest_connects(listener, 1000);
	uint32_t sent = 0, got = 0, forwarded = 0, bulk = begin_bulk();

	while (got < bulk) {
		uint32_t n = MIN(VSOCK_BUFFER - (sent - forwarded), piece(sent, bulk - sent));
		struct packet p;
		ssize_t r;

		n = MIN(n, 40000u);
		if (n) {
			send_data(1000, 80, pattern + sent % PERIOD, n);
			sent += n;
		} else {
			r = recv(fd, in, sizeof(in), MSG_DONTWAIT);
			ck_that(r > 0);
			ck_pattern(in, got, (uint32_t)r);
			got += (uint32_t)r;
			loop_settle(&d.loop);
		}
		while (receive(&p, NULL)) {
			ck_that(p.op == CREDIT_UPDATE);
			forwarded = p.fwd_cnt;
		}
	}
	ck_assert_uint_eq(got, bulk);
	end(fd);
	close(listener);
	free(pattern);
}
END_TEST

/* --- many --- */

START_TEST(hundreds_at_a_time)
{
	enum { N = 300 };
	int listener = listen_80(), fd[N];

	for (uint32_t i = 0; i < N; i++)
		fd[i] = guest_connects(listener, 1000 + i);
	for (uint32_t i = 0; i < N; i++) {
		char text[16];

		snprintf(text, sizeof(text), "stream %u", i);
		send_data(1000 + i, 80, text, (uint32_t)strlen(text));
		ck_that(!strcmp(get(fd[i]), text));
		put(fd[i], text);
		expect_data(text);
	}
	for (uint32_t i = 0; i < N; i++) {
		send_shutdown(1000 + i, 80, VSOCK_NO_SEND | VSOCK_NO_RECEIVE);
		expect(RST, 1000 + i, 80);
		ck_that(!strcmp(get(fd[i]), "(end)"));
		close(fd[i]);
	}
	ck_assert_uint_eq(backend.streams, 0);
	close(listener);
}
END_TEST

/* Streams have a limit, whoever made them; those above it wait, and come in when others go. */
START_TEST(limit_of_streams)
{
	static int fd[VSOCK_MAX_CONNS];
	struct rlimit limit;
	int listener, waiting[3];

	ck_assert(!getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	ck_assert(!setrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_max < 2 * VSOCK_MAX_CONNS + 64)
		return; /* this host lets a process have too few descriptors */
	listener = listen_80();
	for (uint32_t i = 0; i < VSOCK_MAX_CONNS; i++)
		fd[i] = guest_connects(listener, 1000 + i);
	for (unsigned int i = 0; i < 3; i++)
		waiting[i] = connect_host();
	ck_assert_uint_eq(backend.streams, VSOCK_MAX_CONNS);
	send_op(REQUEST, 1, 80);
	expect(RST, 1, 80);
	for (uint32_t i = 0; i < 3; i++) {
		send_op(RST, 1000 + i, 80);
		ck_assert_uint_eq(backend.streams, VSOCK_MAX_CONNS);
	}
	send_op(RST, 1003, 80);
	put(waiting[0], "CONNECT 22\n");
	expect_request(22);
	for (unsigned int i = 0; i < 3; i++)
		end(waiting[i]);
	for (uint32_t i = 0; i < VSOCK_MAX_CONNS; i++)
		close(fd[i]);
	close(listener);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		socket_is_the_owners,
		connect_and_talk,
		line_in_fragments,
		bytes_behind_the_line,
		ok_comes_first,
		lines_that_are_refused,
		line_with_a_nul,
		gone_before_the_line,
		shut_before_the_line,
		gone_after_the_line,
		guest_refuses,
		guest_reaches_a_program,
		nobody_listens,
		listener_does_not_accept,
		guest_reaches_the_monitor,
		guest_shuts_its_half,
		program_shuts_its_half,
		program_closes,
		device_reset_ends_every_stream,
		bulk_to_the_guest,
		bulk_from_the_guest,
		hundreds_at_a_time,
		limit_of_streams,
	};
	const TTest *const early[] = {no_driver};
	const struct test_group groups[] = {
		{tests, ARRAY_SIZE(tests), setup, teardown},
		{early, ARRAY_SIZE(early), setup_without_driver, teardown},
	};

	return run_groups("vsock_unix", groups, ARRAY_SIZE(groups));
}
