/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's end of the link: HELLO, and the orders by which a guest is copied. Some tests stop
 * processes; on a host that has no cgroups of version 2 to give they do without.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/serve.h"
#include "tests/unit/agent_fixture.h"
#include "tests/unit/client_fixture.h"
#include "tests/unit/util.h"

static struct err e;
static uint32_t next_key;

/* --- the host's end --- */

static void send_message(int fd, enum agent_type type, const void *payload, size_t len)
{
	ck_ok(agent_send(fd, type, payload, len, now_ns() + PATIENCE_NS, &e));
}

static int receive(int fd, struct agent_message *m)
{
	int r = agent_await(fd, m, now_ns() + PATIENCE_NS, &e);

	ck_assert_msg(r != -ETIMEDOUT && r != -EPROTO, "%s", e.text);
	return r;
}

static void expect(int fd, enum agent_type type)
{
	struct agent_message m;

	ck_ok(receive(fd, &m));
	ck_assert_uint_eq(m.head.type, type);
}

static void expect_closed(int fd)
{
	struct agent_message m;

	ck_assert_int_eq(receive(fd, &m), -ECONNRESET);
	close(fd);
}

/* The answer to an order is OK, or an ERROR with this code, which leaves the link open. */
static void order(enum agent_type type, const void *payload, size_t len, int code)
{
	struct agent_message m;
	int r;

	send_message(link_fd, type, payload, len);
	r = receive(link_fd, &m);
	ck_assert_msg(r == -code, "order %d: %d, %s", type, r, r ? e.text : "");
	ck_assert(r || m.head.type == AGENT_OK);
}

static void freeze(int code)
{
	order(AGENT_FREEZE, NULL, 0, code);
}

static void thaw(void)
{
	order(AGENT_THAW, NULL, 0, 0);
}

static void identify(int code)
{
	struct agent_identity m = {.wall_ns = 1, .hostname = "clone"};

	order(AGENT_IDENTITY, &m, sizeof(m), code);
}

static int dial(void)
{
	int fd;

	ck_ok(dial_agent(NULL, &fd, 1, &e));
	return fd;
}

static void await_hello(void)
{
	struct agent_message m;

	ck_ok(receive(link_fd, &m));
	ck_assert_uint_eq(m.head.type, AGENT_HELLO);
	ck_assert_uint_eq(m.info.start_ns, 5);
	ck_assert(m.info.ready_ns > 5 && m.info.uptime_ns == m.info.ready_ns);
}

static void setup(void)
{
	tmp_setup();
	start_linked_agent();
	await_hello();
}

static void setup_freezable(void)
{
	tmp_setup();
	start_freezable_agent();
	await_hello();
}

static void teardown(void)
{
	stop_agent();
	if (link_fd >= 0)
		close(link_fd);
	tmp_teardown();
}

/* A command, by its connections. */
struct command {
	struct agent_key key;
	int control, in, out, tty;
};

static int attach(const struct command *c, uint32_t stream)
{
	struct agent_attach m = {.key = c->key, .stream = stream};
	int fd = dial();

	send_message(fd, AGENT_ATTACH, &m, sizeof(m));
	return fd;
}

/* Sends EXEC for a shell in the test's directory. */
static struct command exec_sh(uint32_t streams, const char *script)
{
	struct command c = {.in = -1, .out = -1, .tty = -1};
	struct agent_exec x = {.streams = streams, .argc = 3};
	char payload[2048];
	size_t n = sizeof(x);

	next_key++;
	memcpy(&x.key, &next_key, sizeof(next_key));
	memcpy(payload, &x, sizeof(x));
	n += (size_t)snprintf(payload + n, sizeof(payload) - n, "%s%csh%c-c%c%s", tmp, 0, 0, 0,
			      script) +
	     1;
	c.key = x.key;
	c.control = dial();
	send_message(c.control, AGENT_EXEC, payload, n);
	return c;
}

static struct command start_sh(uint32_t streams, const char *script)
{
	struct command c = exec_sh(streams, script);

	if (streams & 1u << AGENT_STDIN)
		c.in = attach(&c, AGENT_STDIN);
	if (streams & 1u << AGENT_STDOUT)
		c.out = attach(&c, AGENT_STDOUT);
	if (streams & 1u << AGENT_TTY)
		c.tty = attach(&c, AGENT_TTY);
	expect(c.control, AGENT_STARTED);
	return c;
}

static void await_byte(int fd)
{
	char byte;

	ck_assert_int_eq(read(fd, &byte, 1), 1);
}

/* Reads to the end. */
static void expect_end(int fd)
{
	char some[4096];
	ssize_t n;

	do
		n = read(fd, some, sizeof(some));
	while (n > 0);
	ck_assert(n == 0 || errno == ECONNRESET);
	close(fd);
}

/* Waits until a file that a command makes has this content. */
static void await_text(const char *name, const char *text)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;

	while (access(tmp_path(name), F_OK) || strcmp(file_text(tmp_path(name), NULL), text)) {
		ck_that(now_ns() < deadline);
		sched_yield();
	}
}

static bool answered(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* --- HELLO --- */

START_TEST(link_stays)
{
	struct agent_info i;

	ck_ok(ping_agent(&i, &e));
	ck_assert_uint_eq(i.connections, 2);
	ck_assert(!answered(link_fd));
	thaw();
	/* When it is gone the agent goes on without. */
	close(link_fd);
	link_fd = -1;
	do
		ck_ok(ping_agent(&i, &e));
	while (i.connections != 1);
}
END_TEST

START_TEST(hello_before_serving)
{
	int pair[2], single = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct agent_message m;

	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ck_assert_int_eq(hello_send(pair[1], 5), 0);
	ck_ok(receive(pair[0], &m));
	ck_assert_uint_eq(m.head.type, AGENT_HELLO);
	close(pair[0]);
	ck_assert_int_eq(hello_send(pair[1], 5), -EPIPE);
	close(pair[1]);
	ck_assert_int_eq(hello_send(single, 5), -EAGAIN);
	close(single);
}
END_TEST

/* --- what may be said where --- */

START_TEST(orders_on_another_connection)
{
	static const struct agent_identity id = {.wall_ns = 1};
	static const struct {
		enum agent_type type;
		size_t len;
	} orders[] = {{AGENT_FREEZE, 0}, {AGENT_THAW, 0}, {AGENT_IDENTITY, sizeof(id)}, {AGENT_CMDLINE, 1}};

	for (unsigned int i = 0; i < ARRAY_SIZE(orders); i++) {
		struct agent_message m;
		int fd = dial();

		send_message(fd, orders[i].type, &id, orders[i].len);
		ck_assert_int_eq(agent_await(fd, &m, now_ns() + PATIENCE_NS, &e), -EPROTO);
		ck_assert(strstr(e.text, "out of place") != NULL);
		expect_closed(fd);
	}
	ck_assert_uint_eq(identity_record->times, 0);
	thaw();
}
END_TEST

/* Each in an agent of its own: the link ends by it. */
static void refused_on_link(uint32_t magic, uint16_t version, uint16_t type, uint32_t len, int code)
{
	struct agent_header head = {magic, version, type, len, 9};
	static const char payload[sizeof(struct agent_identity) + 1];
	struct agent_message m = {0};
	int r;

	ck_assert(!write_all(link_fd, &head, sizeof(head)));
	write_all(link_fd, payload, MIN(len, sizeof(payload))); /* unless it has closed */
	do
		r = agent_receive(link_fd, &m, &e);
	while (!r);
	/* What was sent and not read may take the answer's place. */
	if (r != -ECONNRESET) {
		ck_assert_int_eq(r, 1);
		ck_assert_uint_eq(m.head.type, AGENT_ERROR);
		ck_assert_uint_eq(m.head.tag, 9);
		ck_assert_uint_eq(m.error.code, code);
	}
	m.got = 0;
	while (!agent_receive(link_fd, &m, &e))
		sched_yield();
	ck_assert_uint_eq(identity_record->times, 0);
	settle();
}

static const struct {
	uint32_t magic;
	uint16_t version, type;
	uint32_t len;
	int code;
} bad_orders[] = {
	{AGENT_MAGIC, AGENT_VERSION, AGENT_EXEC, sizeof(struct agent_exec), EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_ATTACH, sizeof(struct agent_attach), EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_SIGNAL, sizeof(struct agent_signal), EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_RESIZE, sizeof(struct agent_resize), EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_SHUTDOWN, sizeof(struct agent_shutdown), EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_PING, 0, EPROTO},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_HELLO, sizeof(struct agent_info), EOPNOTSUPP},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_OK, 0, EOPNOTSUPP},
	{AGENT_MAGIC + 1, AGENT_VERSION, AGENT_FREEZE, 0, EPROTO},
	{AGENT_MAGIC, AGENT_VERSION - 1, AGENT_FREEZE, 0, EPROTONOSUPPORT},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_FREEZE, 1, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_THAW, 1, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_IDENTITY, 0, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_IDENTITY, sizeof(struct agent_identity) - 1, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_IDENTITY, sizeof(struct agent_identity) + 1, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_IDENTITY, UINT32_MAX, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_CMDLINE, 0, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_CMDLINE, AGENT_CMDLINE_MAX + 1, EMSGSIZE},
	{AGENT_MAGIC, AGENT_VERSION, AGENT_PREPARE, AGENT_PREPARE_MAX + 1, EMSGSIZE},
};

START_TEST(bad_orders_on_the_link)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(bad_orders); i++) {
		if (i) {
			teardown();
			setup();
		}
		refused_on_link(bad_orders[i].magic, bad_orders[i].version, bad_orders[i].type,
				bad_orders[i].len, bad_orders[i].code);
	}
}
END_TEST

/* ... nor does it take one of them while it is frozen, and then it thaws. */
START_TEST(bad_order_while_frozen)
{
	freeze(0);
	refused_on_link(AGENT_MAGIC, AGENT_VERSION, AGENT_PING, 0, EPROTO);
}
END_TEST

START_TEST(truncated_identity)
{
	struct {
		struct agent_header head;
		struct agent_identity body;
	} m = {.head = {AGENT_MAGIC, AGENT_VERSION, AGENT_IDENTITY, sizeof(m.body), 0}};

	freeze(0);
	ck_assert(!write_all(link_fd, &m, sizeof(m) - 1));
	close(link_fd);
	link_fd = -1;
	settle();
	ck_assert_uint_eq(identity_record->times, 0);
}
END_TEST

/* Orders that come at once, and byte by byte. */
START_TEST(orders_in_a_row)
{
	struct agent_header m[] = {{AGENT_MAGIC, AGENT_VERSION, AGENT_FREEZE, 0, 1},
				   {AGENT_MAGIC, AGENT_VERSION, AGENT_FREEZE, 0, 2},
				   {AGENT_MAGIC, AGENT_VERSION, AGENT_THAW, 0, 3},
				   {AGENT_MAGIC, AGENT_VERSION, AGENT_THAW, 0, 4},
				   {AGENT_MAGIC, AGENT_VERSION, AGENT_FREEZE, 0, 5}};
	struct agent_message answer;

	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < sizeof(m) && round % 2; i++)
			ck_that(!write_all(link_fd, (const char *)m + i, 1));
		if (round % 2 == 0)
			ck_that(!write_all(link_fd, m, sizeof(m)));
		for (uint32_t i = 0; i < ARRAY_SIZE(m); i++) {
			ck_that(!receive(link_fd, &answer));
			ck_that(answer.head.type == AGENT_OK && answer.head.tag == m[i].tag);
		}
	}
	thaw();
}
END_TEST

/* --- frozen --- */

START_TEST(only_the_link_is_served)
{
	struct agent_message m;
	int before = dial(), after;

	send_message(before, AGENT_PING, NULL, 0);
	expect(before, AGENT_INFO);
	freeze(0);
	after = dial();
	send_message(before, AGENT_PING, NULL, 0);
	send_message(after, AGENT_PING, NULL, 0);
	freeze(0); /* its answer: the agent has been awake since they came */
	ck_assert(!answered(before) && !answered(after));
	thaw();
	expect(before, AGENT_INFO);
	expect(after, AGENT_INFO);
	/* The end of the link thaws as well. */
	freeze(0);
	send_message(before, AGENT_PING, NULL, 0);
	close(link_fd);
	link_fd = -1;
	ck_ok(receive(before, &m));
	close(before);
	close(after);
}
END_TEST

START_TEST(no_freezer_and_a_process)
{
	struct command c = start_sh(1u << AGENT_STDIN, "cat; echo done >file");

	freeze(ENOTSUP);
	ck_assert(strstr(e.text, "no freezer") != NULL);
	close(c.in);
	expect(c.control, AGENT_EXITED);
	expect_closed(c.control);
	await_text("file", "done\n");
	freeze(0);
	thaw();
}
END_TEST

START_TEST(frozen_on_the_way_down)
{
	struct agent_shutdown down = {.mode = AGENT_POWEROFF};
	struct command c = start_sh(1u << AGENT_STDOUT, "trap '' TERM; echo; while :; do :; done");
	int fd = dial();

	await_byte(c.out);
	send_message(fd, AGENT_SHUTDOWN, &down, sizeof(down));
	expect(fd, AGENT_OK);
	freeze(ESHUTDOWN);
	ck_assert_int_eq(agent_result(), AGENT_POWEROFF);
	close(fd);
	close(c.control);
	close(c.out);
}
END_TEST

/* --- identity --- */

START_TEST(identity_arrives)
{
	struct agent_identity m, left;

	fill_pattern(&m, sizeof(m), 1);
	m.flags = 0;
	memset(m.hostname, 0, sizeof(m.hostname));
	memset(m.hostname, 'n', AGENT_HOSTNAME_MAX);
	for (unsigned int i = 1; i <= 2; i++) { /* at any time; and when frozen */
		order(AGENT_IDENTITY, &m, sizeof(m), 0);
		ck_assert_uint_eq(identity_record->times, i);
		ck_assert(!memcmp(&identity_record->last, &m, sizeof(m)));
		read_agent_identity(&left);
		ck_assert(all_bytes(&left, sizeof(left), 0));
		freeze(0);
	}
	thaw();
}
END_TEST

static void words(const char *text, int code)
{
	order(AGENT_CMDLINE, text, strlen(text), code);
}

/* What the words say holds for the next command, and their mounts come with the IDENTITY. */
START_TEST(words_before_identity)
{
	char longest[AGENT_CMDLINE_MAX + 1];
	struct exec_request rq = {.argv = SH("echo $LATE $OWN $TERM"), .envp = ARGV("OWN=mine")};

	freeze(0);
	words("uvm.env=LATE=1 uvm.env=OWN=theirs uvm.env=TERM=dumb\n uvm.mount=/dev/vdb:/data:ext4:ro", 0);
	words("uvm.env=LATE=2", 0); /* as in a clone of a clone */
	ck_assert_uint_eq(identity_record->mounts, 0);
	identify(0);
	ck_assert_uint_eq(identity_record->mounts, 1);
	expect_run(&rq, "", 0, "2 mine dumb\n", "");
	memset(longest, ' ', sizeof(longest));
	order(AGENT_CMDLINE, longest, AGENT_CMDLINE_MAX, 0);
	identify(0);
	ck_assert_uint_eq(identity_record->mounts, 1);
}
END_TEST

/* The link stays, for whoever asks to know why; what does not hold a word is no word. */
START_TEST(nothing_is_prepared)
{
	struct agent_create c = {.name = "main", .new_namespaces = AGENT_NS_MOUNT};

	order(AGENT_PREPARE, NULL, 0, 0);
	order(AGENT_PREPARE, "main", 4, EINVAL);
	ck_assert(strstr(e.text, "too short") != NULL);
	order(AGENT_PREPARE, &c, sizeof(c), EINVAL);
	ck_assert(strstr(e.text, "no process") != NULL);
	identify(0);
}
END_TEST

START_TEST(words_that_are_refused)
{
	static const char nul[] = "uvm.env=A=1\0uvm.env=B=2";

	words("root=/dev/vda", EINVAL);
	ck_assert(strstr(e.text, "after boot: 'root=/dev/vda'") != NULL);
	words("uvm.hostname=x", EINVAL);
	words("uvm.env=A=1 uvm.what", EINVAL);
	words("uvm.mount=/dev/vdb", EINVAL);
	order(AGENT_CMDLINE, nul, sizeof(nul) - 1, EINVAL);
	words("uvm.mount=/dev/vdb:/data:ext4", 0);
	identity_record->mount_result = -ENXIO;
	identify(ENXIO);
	ck_assert(strstr(e.text, "no mounts here") != NULL);
	identity_record->mount_result = 0;
	identify(0);
	ck_assert_uint_eq(identity_record->mounts, 1);
}
END_TEST

START_TEST(identity_that_is_refused)
{
	struct agent_identity m = {.flags = 1}, left;

	order(AGENT_IDENTITY, &m, sizeof(m), EINVAL);
	m.flags = 0;
	memset(m.hostname, 'n', AGENT_HOSTNAME_MAX + 1);
	order(AGENT_IDENTITY, &m, sizeof(m), EINVAL);
	memset(m.hostname, 'n', sizeof(m.hostname));
	memset(m.entropy, 1, sizeof(m.entropy));
	order(AGENT_IDENTITY, &m, sizeof(m), EINVAL);
	ck_assert_uint_eq(identity_record->times, 0);
	read_agent_identity(&left);
	ck_assert(all_bytes(&left, sizeof(left), 0));
}
END_TEST

/* What has no identity of its own stays frozen. */
START_TEST(identity_that_fails)
{
	int fd = dial();

	freeze(0);
	send_message(fd, AGENT_PING, NULL, 0);
	identity_record->result = -EPERM;
	identify(EPERM);
	ck_assert(strstr(e.text, "as the test wants") != NULL);
	freeze(0);
	ck_assert(!answered(fd));
	identity_record->result = 0;
	identify(0);
	expect_closed(fd); /* and not answered: it was asked before */
}
END_TEST

/* --- what IDENTITY makes of connections and commands --- */

START_TEST(connections_are_closed)
{
	struct agent_exec x = {.streams = 1u << AGENT_STDOUT, .argc = 1};
	struct agent_header head = {AGENT_MAGIC, AGENT_VERSION, AGENT_EXEC, sizeof(x) + 10, 0};
	struct command attaching = exec_sh(3u, "echo ran >file");
	int in = attach(&attaching, AGENT_STDIN), idle = dial(), receiving = dial(), parked;

	ck_assert(!write_all(receiving, &head, sizeof(head)));
	parked = attach(&(struct command){.key = {{99}}}, AGENT_STDOUT);
	await_sessions(2);
	identify(0);
	expect_closed(attaching.control);
	expect_end(in);
	expect_closed(idle);
	expect_end(receiving);
	expect_end(parked);
	settle();
	ck_assert(access(tmp_path("file"), F_OK) != 0);
	expect(start_sh(0, "true").control, AGENT_EXITED);
}
END_TEST

/* A request that was on its way when the guest was frozen is the other's. */
START_TEST(waiting_requests_are_dropped)
{
	struct command c[3];

	freeze(0);
	for (int i = 0; i < 3; i++)
		c[i] = exec_sh(0, "echo ran >file");
	identify(0);
	for (int i = 0; i < 3; i++)
		expect_end(c[i].control);
	settle();
	ck_assert(access(tmp_path("file"), F_OK) != 0);
}
END_TEST

/* Not killed, not blocked, no SIGPIPE: input ends, and output goes nowhere. */
START_TEST(command_is_detached)
{
	struct command c = start_sh(1u << AGENT_STDIN | 1u << AGENT_STDOUT,
				    "trap 'echo pipe >broken' PIPE; echo; cat >input;"
				    "head -c 1000000 /dev/zero && echo wrote >file");

	await_byte(c.out);
	ck_assert(!write_all(c.in, "early", 5));
	await_text("input", "early");
	identify(0);
	expect_closed(c.control);
	expect_end(c.in);
	expect_end(c.out);
	await_text("file", "wrote\n");
	await_text("input", "early");
	ck_assert(access(tmp_path("broken"), F_OK) != 0);
	settle();
}
END_TEST

/* One that waits for a reader when it happens. */
START_TEST(blocked_writer_is_detached)
{
	struct command c =
		start_sh(1u << AGENT_STDOUT, "echo; head -c 4000000 /dev/zero && echo wrote >file");
	int some;

	await_byte(c.out);
	/* Nobody reads: until the socket takes no more, and a while for the pipe. */
	do {
		some = 0;
		for (int i = 0; i < 1000; i++)
			some += sched_yield() + answered(c.out);
	} while (!some);
	usleep(20000);
	ck_assert(access(tmp_path("file"), F_OK) != 0);
	identify(0);
	await_text("file", "wrote\n");
	expect_end(c.out);
	expect_closed(c.control);
	settle();
}
END_TEST

START_TEST(terminal_is_detached)
{
	struct command c =
		start_sh(1u << AGENT_TTY,
			 "trap 'echo >hup' HUP; stty raw -echo; stty -raw; echo;"
			 "cat >input; head -c 300000 /dev/zero && [ -t 1 ] && echo wrote >file");

	await_byte(c.tty);
	ck_assert(!write_all(c.tty, "line\n", 5));
	await_text("input", "line\n");
	identify(0);
	expect_closed(c.control);
	expect_end(c.tty);
	await_text("file", "wrote\n");
	await_text("input", "line\n");
	settle();
	ck_assert(access(tmp_path("hup"), F_OK) != 0);
}
END_TEST

/* The next IDENTITY finds it detached; so does a shutdown. */
START_TEST(detached_again)
{
	struct agent_shutdown down = {.mode = AGENT_REBOOT};
	struct command c = start_sh(1u << AGENT_STDOUT, "echo; sleep 1000");
	struct agent_info i;
	int fd;

	await_byte(c.out);
	identify(0);
	identify(0);
	expect_end(c.out);
	expect_closed(c.control);
	ck_ok(ping_agent(&i, &e));
	ck_assert_uint_eq(i.sessions, 1);
	expect_sh("echo hi", 0, "hi\n", "");
	fd = dial();
	send_message(fd, AGENT_SHUTDOWN, &down, sizeof(down));
	expect(fd, AGENT_OK);
	ck_assert_int_eq(agent_result(), AGENT_REBOOT);
	close(fd);
}
END_TEST

/* The process is gone, its output is not: there is nothing to go on. */
START_TEST(draining_is_ended)
{
	struct command c = start_sh(1u << AGENT_STDOUT, "echo; head -c 60000 /dev/zero");
	struct command big = start_sh(1u << AGENT_STDOUT, "echo; exec head -c 4000000 /dev/zero");

	await_byte(c.out);
	await_byte(big.out);
	identify(0);
	expect_end(c.out);
	expect_end(c.control);
	expect_end(big.out);
	expect_end(big.control);
	settle();
}
END_TEST

/* Whatever state they are in. Those that have a process finish. */
START_TEST(many_commands_at_any_time)
{
	for (int round = 0; round < 100; round++) {
		struct command c[8];

		for (int i = 0; i < 8; i++) {
			c[i] = exec_sh(1u << AGENT_STDOUT, "echo hi; cat /dev/null");
			if (i != 7)
				c[i].out = attach(&c[i], AGENT_STDOUT);
		}
		for (int i = 0; i < round % 10; i++) /* and it gets on */
			ck_ok(ping_agent(&(struct agent_info){0}, &e));
		identify(0);
		for (int i = 0; i < 8; i++) {
			expect_end(c[i].control);
			if (c[i].out >= 0)
				expect_end(c[i].out);
		}
	}
}
END_TEST

/* --- with processes that are really stopped --- */

/* A command that makes a file grow as long as it runs. */
static struct command start_growing(void)
{
	return start_sh(1u << AGENT_STDOUT, "while [ ! -e end ]; do echo >>file; done");
}

static off_t size_now(void)
{
	struct stat st = {0};

	stat(tmp_path("file"), &st);
	return st.st_size;
}

/* No time proves that it does not. This is long enough for one that does. */
static bool grows(void)
{
	off_t then = size_now();

	usleep(20000);
	return size_now() != then;
}

static void await_growing(void)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;

	while (!grows())
		ck_that(now_ns() < deadline);
}

START_TEST(processes_stop)
{
	struct command c;

	if (!has_freezer)
		ck_skip("no cgroup v2 that can be written to");
	c = start_growing();
	await_growing();
	for (int i = 0; i < 3; i++) {
		freeze(0);
		ck_assert(!grows());
		thaw();
		await_growing();
	}
	/* An identity that is refused keeps them so; the link's end lets them go. */
	freeze(0);
	identity_record->result = -EPERM;
	identify(EPERM);
	ck_assert(!grows());
	close(link_fd);
	link_fd = -1;
	await_growing();
	close(c.control);
	close(c.out);
}
END_TEST

START_TEST(identity_thaws)
{
	struct command c;

	if (!has_freezer)
		ck_skip("no cgroup v2 that can be written to");
	c = start_growing();
	await_growing();
	freeze(0);
	identify(0);
	await_growing();
	expect_end(c.out);
	expect_closed(c.control);
	tmp_file("end", "", 0);
}
END_TEST

int main(void)
{
	const TTest *const plain[] = {
		link_stays,
		hello_before_serving,
		orders_on_another_connection,
		bad_orders_on_the_link,
		bad_order_while_frozen,
		truncated_identity,
		orders_in_a_row,
		only_the_link_is_served,
		no_freezer_and_a_process,
		frozen_on_the_way_down,
		identity_arrives,
		identity_that_is_refused,
		identity_that_fails,
		connections_are_closed,
		waiting_requests_are_dropped,
		command_is_detached,
		blocked_writer_is_detached,
		terminal_is_detached,
		detached_again,
		draining_is_ended,
		words_before_identity,
		words_that_are_refused,
		nothing_is_prepared,
		many_commands_at_any_time,
	};
	const TTest *const freezable[] = {processes_stop, identity_thaws};
	const struct test_group groups[] = {
		{plain, ARRAY_SIZE(plain), setup, teardown},
		{freezable, ARRAY_SIZE(freezable), setup_freezable, teardown},
	};

	return run_groups("agent_link", groups, ARRAY_SIZE(groups));
}
