/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's protocol, byte by byte: what a client may do, and what it should not.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/agent_fixture.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define SEQUENCE    2000 /* commands, one after the other */
#define OUT_STREAMS (1u << AGENT_STDOUT | 1u << AGENT_STDERR)

static int connect_agent(void)
{
	struct err e;
	int fd;

	ck_assert_msg(!dial_agent(NULL, &fd, 1, &e), "%s", e.text);
	return fd;
}

static struct agent_key key_number(unsigned int n)
{
	struct agent_key key = {{0}};

	memcpy(&key, &n, sizeof(n));
	return key;
}

/* A whole EXEC message for a command without arguments. Returns its size. */
static size_t make_exec(uint8_t *buf, unsigned int key, uint32_t streams, const char *command)
{
	struct agent_exec exec = {.key = key_number(key), .streams = streams, .argc = 3};
	struct agent_header head = {
		.magic = AGENT_MAGIC, .version = AGENT_VERSION, .type = AGENT_EXEC, .tag = 77};
	size_t n = sizeof(head) + sizeof(exec);

	n += (size_t)sprintf((char *)buf + n, "/%csh%c-c%c%s", 0, 0, 0, command) + 1;
	head.length = (uint32_t)(n - sizeof(head));
	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), &exec, sizeof(exec));
	return n;
}

static int send_exec(unsigned int key, uint32_t streams, const char *command)
{
	uint8_t buf[512];
	int fd = connect_agent();

	ck_assert(!write_all(fd, buf, make_exec(buf, key, streams, command)));
	return fd;
}

static int send_attach(unsigned int key, uint32_t stream)
{
	struct agent_attach m = {.key = key_number(key), .stream = stream};
	int fd = connect_agent();
	struct err e;

	ck_assert(!agent_send(fd, AGENT_ATTACH, &m, sizeof(m), agent_deadline(), &e));
	return fd;
}

static void await_message(int fd, enum agent_type type, struct agent_message *m)
{
	struct err e;
	int r = agent_await(fd, m, now_ns() + PATIENCE_NS, &e);

	if (type == AGENT_ERROR && r)
		return;
	ck_assert_msg(!r, "%s", e.text);
	ck_assert_int_eq(m->head.type, type);
}

static void await_closed(int fd)
{
	struct agent_message m;
	struct err e;

	ck_assert_int_eq(agent_await(fd, &m, now_ns() + PATIENCE_NS, &e), -ECONNRESET);
}

static void expect_error(int fd, uint32_t code)
{
	struct agent_message m;

	await_message(fd, AGENT_ERROR, &m);
	ck_assert_int_eq(m.head.type, AGENT_ERROR);
	ck_assert_uint_eq(m.error.code, code);
	await_closed(fd);
	close(fd);
}

START_TEST(attach_may_come_first)
{
	int in = send_attach(1, AGENT_STDIN), out, control;
	struct agent_message m;
	char buf[16] = "";

	/* Data and its end may be there before the command is known. */
	ck_assert_int_eq(write(in, "early", 5), 5);
	shutdown(in, SHUT_WR);
	out = send_attach(1, AGENT_STDOUT);
	control = send_exec(1, 1u << AGENT_STDIN | 1u << AGENT_STDOUT, "cat");
	await_message(control, AGENT_STARTED, &m);
	ck_assert_uint_eq(m.head.tag, 77);
	ck_assert_int_eq(recv(out, buf, sizeof(buf), MSG_WAITALL), 5);
	ck_assert_str_eq(buf, "early");
	await_message(control, AGENT_EXITED, &m);
	ck_assert(m.exited.kind == AGENT_EXIT_STATUS && m.exited.value == 0);
	await_closed(control);
	close(in);
	close(out);
	close(control);
}
END_TEST

static void send_raw(uint32_t code, uint32_t magic, uint16_t version, uint16_t type,
		     uint32_t length)
{
	struct agent_header head = {
		.magic = magic, .version = version, .type = type, .length = length};
	int fd = connect_agent();

	ck_assert(!write_all(fd, &head, sizeof(head)));
	expect_error(fd, code);
}

START_TEST(bad_headers)
{
	send_raw(EPROTO, 0x12345678, AGENT_VERSION, AGENT_PING, 0);
	send_raw(EPROTONOSUPPORT, AGENT_MAGIC, AGENT_VERSION + 1, AGENT_PING, 0);
	send_raw(EOPNOTSUPP, AGENT_MAGIC, AGENT_VERSION, 0, 0);
	send_raw(EOPNOTSUPP, AGENT_MAGIC, AGENT_VERSION, AGENT_HELLO, 0);
	send_raw(EOPNOTSUPP, AGENT_MAGIC, AGENT_VERSION, 0xffff, 0);
	send_raw(EMSGSIZE, AGENT_MAGIC, AGENT_VERSION, AGENT_PING, 1);
	send_raw(EMSGSIZE, AGENT_MAGIC, AGENT_VERSION, AGENT_EXEC, sizeof(struct agent_exec) - 1);
	send_raw(EMSGSIZE, AGENT_MAGIC, AGENT_VERSION, AGENT_EXEC, AGENT_EXEC_MAX + 1);
	send_raw(EMSGSIZE, AGENT_MAGIC, AGENT_VERSION, AGENT_EXEC, UINT32_MAX);
	send_raw(EMSGSIZE, AGENT_MAGIC, AGENT_VERSION, AGENT_ATTACH, UINT32_MAX);
	send_raw(EPROTO, AGENT_MAGIC, AGENT_VERSION, AGENT_SIGNAL, sizeof(struct agent_signal));
	send_raw(EPROTO, AGENT_MAGIC, AGENT_VERSION, AGENT_RESIZE, sizeof(struct agent_resize));
}
END_TEST

/* Sends an EXEC with one field changed. */
static void bad_exec(size_t field, uint32_t value)
{
	uint8_t buf[512];
	size_t n = make_exec(buf, 1, OUT_STREAMS, "true");
	int fd = connect_agent();

	memcpy(buf + sizeof(struct agent_header) + field, &value, sizeof(value));
	ck_assert(!write_all(fd, buf, n));
	expect_error(fd, EINVAL);
}

START_TEST(bad_payloads)
{
	struct agent_shutdown down = {.mode = 3};
	struct agent_signal sig = {.signo = 65};
	struct agent_message m;
	struct err e;
	int fd, other;

	bad_exec(offsetof(struct agent_exec, argc), 0);
	bad_exec(offsetof(struct agent_exec, argc), 2);
	bad_exec(offsetof(struct agent_exec, argc), 4);
	bad_exec(offsetof(struct agent_exec, argc), UINT32_MAX);
	bad_exec(offsetof(struct agent_exec, envc), AGENT_STRINGS_MAX);
	bad_exec(offsetof(struct agent_exec, envc), UINT32_MAX);
	bad_exec(offsetof(struct agent_exec, group_count), 1);
	bad_exec(offsetof(struct agent_exec, group_count), AGENT_GROUPS_MAX + 1);
	bad_exec(offsetof(struct agent_exec, group_count), UINT32_MAX);
	bad_exec(offsetof(struct agent_exec, streams), 1u << AGENT_STREAMS);
	bad_exec(offsetof(struct agent_exec, streams), 1u << AGENT_TTY | 1u << AGENT_STDIN);

	fd = connect_agent();
	ck_assert(!agent_send(fd, AGENT_SHUTDOWN, &down, sizeof(down), agent_deadline(), &e));
	expect_error(fd, EINVAL);
	fd = send_exec(1, 0, "sleep 1000");
	await_message(fd, AGENT_STARTED, &m);
	ck_assert(!agent_send(fd, AGENT_SIGNAL, &sig, sizeof(sig), agent_deadline(), &e));
	expect_error(fd, EINVAL);

	/* A key that is in use; a stream that is not wanted, or twice. */
	fd = send_exec(5, OUT_STREAMS, "true");
	await_sessions(1);
	other = send_exec(5, OUT_STREAMS, "true");
	expect_error(other, EINVAL);
	expect_error(send_attach(5, AGENT_STDIN), EINVAL);
	expect_error(send_attach(5, 99), EINVAL);
	other = send_attach(5, AGENT_STDOUT);
	expect_error(send_attach(5, AGENT_STDOUT), EINVAL);
	close(other);
	close(fd);
}
END_TEST

/* Sends the first len bytes of a message and leaves. */
static void truncated(const uint8_t *message, size_t len)
{
	int fd = connect_agent();

	ck_assert(!write_all(fd, message, len));
	close(fd);
}

START_TEST(every_truncation)
{
	uint8_t exec[512];
	struct {
		struct agent_header head;
		struct agent_attach body;
	} attach = {.head = {AGENT_MAGIC, AGENT_VERSION, AGENT_ATTACH, sizeof(attach.body), 0}};
	size_t size = make_exec(exec, 1, OUT_STREAMS, "echo this must not run");

	for (size_t len = 0; len <= size; len++)
		truncated(exec, len);
	settle();
	for (size_t len = 0; len <= sizeof(attach); len++)
		truncated((const uint8_t *)&attach, len);
	settle();
	/* On the connection of a command that runs: it ends with it. */
	for (size_t len = 0; len < sizeof(attach.head); len++) {
		struct agent_message m;
		int fd = send_exec(1, 0, "exec sleep 1000");

		await_message(fd, AGENT_STARTED, &m);
		ck_assert(!write_all(fd, &attach, len));
		close(fd);
	}
}
END_TEST

START_TEST(byte_by_byte)
{
	uint8_t exec[512];
	size_t size = make_exec(exec, 1, 0, "exit 3");
	struct agent_message m;
	int fd = connect_agent();

	for (size_t i = 0; i < size; i++) {
		struct agent_info info;
		struct err e;

		ck_assert(!write_all(fd, exec + i, 1));
		/* Its answer says that the agent has had its turn with that byte. */
		ck_assert(!ping_agent(&info, &e));
	}
	await_message(fd, AGENT_STARTED, &m);
	await_message(fd, AGENT_EXITED, &m);
	ck_assert_uint_eq(m.exited.value, 3);
	close(fd);
}
END_TEST

/* Leaves at each step of a session's life; settle() is what is tested. */
START_TEST(leaving_at_every_state)
{
	struct agent_message m;
	int control, out, err;
	char c;

	control = send_exec(1, OUT_STREAMS, "exec sleep 1000"); /* nothing attached */
	await_sessions(1);
	close(control);
	settle();

	control = send_exec(1, OUT_STREAMS, "exec sleep 1000"); /* one of two */
	out = send_attach(1, AGENT_STDOUT);
	await_sessions(1);
	close(control);
	close(out);
	settle();

	out = send_attach(1, AGENT_STDOUT); /* parked */
	close(out);
	settle();

	/* Running, with children in the group; first only the control connection goes. */
	control = send_exec(1, OUT_STREAMS, "sleep 1000 & echo; wait");
	out = send_attach(1, AGENT_STDOUT);
	err = send_attach(1, AGENT_STDERR);
	await_message(control, AGENT_STARTED, &m);
	ck_assert_int_eq(read(out, &c, 1), 1);
	close(control);
	ck_assert_int_eq(read(out, &c, 1), 0);
	ck_assert_int_eq(read(err, &c, 1), 0);
	close(out);
	close(err);
	settle();

	/* Writing more than anybody reads, then exited with output that nobody reads. */
	control = send_exec(1, OUT_STREAMS, "yes");
	out = send_attach(1, AGENT_STDOUT);
	err = send_attach(1, AGENT_STDERR);
	ck_assert_int_eq(read(out, &c, 1), 1);
	close(control);
	close(out);
	close(err);
	settle();
	control = send_exec(1, OUT_STREAMS, "head -c 500000 /dev/zero; echo >&2; kill -9 $$");
	out = send_attach(1, AGENT_STDOUT);
	err = send_attach(1, AGENT_STDERR);
	close(err);
	close(control);
	close(out);
	settle();
	control = send_exec(1, 1u << AGENT_TTY, "yes");
	out = send_attach(1, AGENT_TTY);
	ck_assert_int_eq(read(out, &c, 1), 1);
	close(control);
	close(out);
}
END_TEST

START_TEST(closed_terminal_hangs_up)
{
	int control = send_exec(1, 1u << AGENT_TTY, "echo; exec cat");
	int tty = send_attach(1, AGENT_TTY);
	struct agent_message m;
	char c;

	await_message(control, AGENT_STARTED, &m);
	ck_assert_int_eq(read(tty, &c, 1), 1);
	close(tty);
	await_message(control, AGENT_EXITED, &m);
	close(control);
}
END_TEST

START_TEST(signal_and_its_scope)
{
	struct agent_signal kill9 = {.signo = SIGKILL, .scope = AGENT_SIGNAL_PROCESS};
	int control = send_exec(1, 1u << AGENT_STDOUT, "sleep 1000 & echo $!; wait");
	int out = send_attach(1, AGENT_STDOUT);
	struct agent_message m;
	char pid[32] = "";
	struct err e;

	await_message(control, AGENT_STARTED, &m);
	ck_assert(recv(out, pid, sizeof(pid) - 1, 0) > 0);
	ck_assert(!agent_send(control, AGENT_SIGNAL, &kill9, sizeof(kill9), agent_deadline(), &e));
	await_message(control, AGENT_EXITED, &m);
	ck_assert(m.exited.kind == AGENT_EXIT_SIGNAL && m.exited.value == SIGKILL);
	/* Its child was not meant, and lives on. */
	ck_assert_int_eq(kill(atoi(pid), SIGKILL), 0);
	close(control);
	close(out);
}
END_TEST

START_TEST(too_many_sessions)
{
	int fds[AGENT_SESSIONS];
	struct agent_message m;

	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < AGENT_SESSIONS; i++)
			fds[i] = send_exec(i, round ? OUT_STREAMS : 0, "exec sleep 1000");
		for (unsigned int i = 0; i < AGENT_SESSIONS && !round; i++)
			await_message(fds[i], AGENT_STARTED, &m);
		await_sessions(AGENT_SESSIONS);
		expect_error(send_exec(1000, 0, "true"), EAGAIN);
		for (unsigned int i = 0; i < AGENT_SESSIONS; i++)
			close(fds[i]);
		settle();
	}
}
END_TEST

START_TEST(too_many_connections)
{
	int fds[AGENT_CONNECTIONS], running = send_exec(1, 1u << AGENT_STDOUT, "read x; echo $x");
	struct agent_info info = {0};
	struct agent_message m;
	unsigned int n = 0;
	struct err e;

	await_sessions(1);
	/* All but the one of the command, idle or parked. */
	while (n < AGENT_CONNECTIONS - 1) {
		fds[n] = n % 2 ? connect_agent() : send_attach(n + 10, AGENT_STDOUT);
		n++;
	}
	while (!ping_agent(&info, &e))
		sched_yield();
	expect_error(connect_agent(), EAGAIN);
	close(fds[--n]);
	/* The room is for whoever comes next. */
	while (ping_agent(&info, &e))
		sched_yield();
	fds[n] = send_attach(1, AGENT_STDOUT);
	await_message(running, AGENT_STARTED, &m);
	await_message(running, AGENT_EXITED, &m);
	close(running);
	for (unsigned int i = 0; i <= n; i++)
		close(fds[i]);
}
END_TEST

/* Questions without end, whose answers nobody reads: it is the asker's connection that suffers. */
START_TEST(flood_of_pings)
{
	struct agent_header ping = {AGENT_MAGIC, AGENT_VERSION, AGENT_PING, 0, 1};
	int fd = connect_agent();

	while (send(fd, &ping, sizeof(ping), MSG_NOSIGNAL) == sizeof(ping))
		continue;
	ck_assert(errno == EPIPE || errno == ECONNRESET);
	close(fd);
}
END_TEST

START_TEST(many_commands)
{
	struct agent_message m;

	for (unsigned int i = 0; i < SEQUENCE; i++) {
		int control = send_exec(i, 1u << AGENT_STDOUT, "echo x");
		int out = send_attach(i, AGENT_STDOUT);
		char buf[4];

		ck_assert_int_eq(recv(out, buf, sizeof(buf), MSG_WAITALL), 2);
		await_message(control, AGENT_STARTED, &m);
		await_message(control, AGENT_EXITED, &m);
		close(out);
		close(control);
	}
}
END_TEST

START_TEST(information)
{
	struct agent_info info;
	struct err e;

	ck_assert(!ping_agent(&info, &e));
	ck_assert_uint_eq(info.sessions, 0);
	ck_assert(info.ready_ns > 0 && info.uptime_ns >= info.ready_ns);
}
END_TEST

/* What docs/agent-protocol.md shows. */
START_TEST(documented_exchange)
{
	static const uint8_t head[] = {
		0x75, 0x76, 0x6d, 0x41, 0x03, 0x00, 0x01, 0x00, 0xb9, 0x00, 0x00, 0x00, 0x07, 0x00,
		0x00, 0x00, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab,
		0xac, 0xad, 0xae, 0xaf, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};
	/* No capabilities, no container. */
	static const uint8_t strings[] = {0x00, 0x65, 0x63, 0x68, 0x6f, 0x00, 0x68, 0x69, 0x00};
	uint8_t exec[16 + 185] = {0};
	static const uint8_t attach[] = {
		0x75, 0x76, 0x6d, 0x41, 0x03, 0x00, 0x02, 0x00, 0x18, 0x00, 0x00, 0x00, 0x00, 0x00,
		0x00, 0x00, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab,
		0xac, 0xad, 0xae, 0xaf, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
	static const uint8_t started[] = {0x75, 0x76, 0x6d, 0x41, 0x03, 0x00, 0x85, 0x00,
					  0x04, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00};
	static const uint8_t exited[] = {0x75, 0x76, 0x6d, 0x41, 0x03, 0x00, 0x86, 0x00,
					 0x08, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00,
					 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
	int control = connect_agent(), out = connect_agent();
	uint8_t buf[64];

	memcpy(exec, head, sizeof(head));
	memcpy(exec + sizeof(exec) - sizeof(strings), strings, sizeof(strings));
	ck_assert(!write_all(control, exec, sizeof(exec)));
	ck_assert(!write_all(out, attach, sizeof(attach)));
	ck_assert_int_eq(recv(out, buf, sizeof(buf), MSG_WAITALL), 3);
	ck_assert(!memcmp(buf, "hi\n", 3));
	ck_assert_int_eq(recv(control, buf, sizeof(buf), MSG_WAITALL),
			 sizeof(started) + 4 + sizeof(exited));
	ck_assert(!memcmp(buf, started, sizeof(started)));
	ck_assert(!memcmp(buf + sizeof(started) + 4, exited, sizeof(exited)));
	close(control);
	close(out);
}
END_TEST

/* Kept: it goes on when its client has gone, and how it ends can be asked for once. */
START_TEST(kept_commands)
{
	uint32_t flags = AGENT_EXEC_KEEP;
	struct agent_wait wait = {.key = key_number(9)};
	struct agent_message m;
	uint8_t buf[512];
	struct err e;
	size_t n;
	int fd, out, other;

	n = make_exec(buf, 9, OUT_STREAMS, "echo x; read y <&1; echo more; exit 5");
	memcpy(buf + sizeof(struct agent_header) + offsetof(struct agent_exec, flags), &flags, 4);
	/* It ends by what it cannot read, but not by the loss of its output. */
	for (int round = 0; round < 2; round++) {
		fd = connect_agent();
		ck_assert(!write_all(fd, buf, n));
		out = send_attach(9, AGENT_STDOUT);
		other = send_attach(9, AGENT_STDERR);
		await_message(fd, AGENT_STARTED, &m);
		close(out);
		close(other);
		close(fd);
		fd = connect_agent();
		ck_assert(!agent_send(fd, AGENT_WAIT, &wait, sizeof(wait), agent_deadline(), &e));
		await_message(fd, AGENT_STARTED, &m);
		await_message(fd, AGENT_EXITED, &m);
		ck_assert(m.exited.kind == AGENT_EXIT_STATUS && m.exited.value == 5);
		await_closed(fd);
		close(fd);
		fd = connect_agent();
		ck_assert(!agent_send(fd, AGENT_WAIT, &wait, sizeof(wait), agent_deadline(), &e));
		expect_error(fd, ESRCH);
	}
	/* More of them than there is room for: those that nobody has asked for make it. */
	for (unsigned int i = 0; i < 2 * AGENT_SESSIONS; i++) {
		n = make_exec(buf, 100 + i, 0, "exit 1");
		memcpy(buf + sizeof(struct agent_header) + offsetof(struct agent_exec, flags), &flags, 4);
		fd = connect_agent();
		ck_assert(!write_all(fd, buf, n));
		await_message(fd, AGENT_STARTED, &m);
		close(fd);
	}
	settle();
}
END_TEST

struct bad_order {
	uint16_t type;
	const void *payload;
	size_t size;
	uint32_t code; /* of the agent's answer */
};

static void expect_errors(const struct bad_order *all, size_t n)
{
	struct err e;

	for (size_t i = 0; i < n; i++) {
		int fd = connect_agent();

		ck_assert(!agent_send(fd, all[i].type, all[i].payload, all[i].size,
				      agent_deadline(), &e));
		expect_error(fd, all[i].code);
	}
}

/* Where there are no cgroups there are no containers, and all that is said about them is refused. */
START_TEST(no_containers)
{
	struct {
		struct agent_create create;
		struct agent_record record;
		struct agent_exec exec;
		char strings[8];
	} create = {.create = {.name = "c"},
		    .record = {AGENT_R_PROCESS, sizeof(create.exec) + 3},
		    .exec = {.argc = 1},
		    .strings = "\0x"};
	struct agent_name name = {"c"};
	struct agent_kill kill = {.container = name, .signo = 9};
	struct agent_wait wait = {.container = name};
	const struct bad_order all[] = {
		{AGENT_CREATE, &create, sizeof(create), ENOTSUP},
		{AGENT_CREATE, &create, sizeof(create) - 8, EINVAL},
		{AGENT_CREATE, &create, 100, EMSGSIZE},
		{AGENT_START, &name, sizeof(name), ENOENT},
		{AGENT_START, NULL, 0, EMSGSIZE},
		{AGENT_WAIT, &wait, sizeof(wait), ENOENT},
		{AGENT_KILL, &kill, sizeof(kill), ENOENT},
		{AGENT_DELETE, &name, sizeof(name), ENOENT},
		{AGENT_PAUSE, &name, sizeof(name), ENOENT},
		{AGENT_RESUME, &name, sizeof(name), ENOENT},
		{AGENT_UPDATE, &name, sizeof(name), ENOENT},
		{AGENT_MOUNT, &name, sizeof(name), ENOENT},
		{AGENT_UNMOUNT, &name, sizeof(name), EINVAL},
		{AGENT_STATS, &name, sizeof(name), ENOENT},
		{AGENT_PROCESSES, &name, sizeof(name), ENOENT},
		{AGENT_DUMP, &name, sizeof(name), EMSGSIZE},
	};

	expect_errors(all, ARRAY_SIZE(all));
}
END_TEST

/* Orders about devices that cannot be, or are not there; the agent's limits are those of the host's side. */
START_TEST(devices)
{
	struct agent_plug beyond = {.slot = 32}, odd = {.zero = 1}, endless = {.slot = 31};
	struct agent_unplug none = {.name = "vdb"}, absent = {.slots = 1u << 31, .name = "no-such-disk"},
			    uneven = {.slots = 1u << 31, .zero = 1}, unnamed = {.slots = 1u << 31};
	const struct bad_order all[] = {
		{AGENT_PLUG, &beyond, sizeof(beyond), EINVAL},
		{AGENT_PLUG, &odd, sizeof(odd), EINVAL},
		{AGENT_PLUG, &endless, sizeof(endless), EINVAL},
		{AGENT_PLUG, &odd, sizeof(odd) - 1, EMSGSIZE},
		{AGENT_UNPLUG, &none, sizeof(none), EINVAL},
		{AGENT_UNPLUG, &uneven, sizeof(uneven), EINVAL},
		{AGENT_UNPLUG, &unnamed, sizeof(unnamed), EINVAL},
		{AGENT_UNPLUG, &absent, sizeof(absent), ENODEV},
		{AGENT_UNPLUG, &absent, sizeof(absent) - 1, EMSGSIZE},
	};
	struct agent_plugged to;
	char words[AGENT_PLUG_WORDS + 1];
	struct err e;

	memset(endless.words, 'x', sizeof(endless.words));
	memset(unnamed.name, 'x', sizeof(unnamed.name));
	expect_errors(all, ARRAY_SIZE(all));
	memset(words, 'x', sizeof(words));
	words[AGENT_PLUG_WORDS] = 0;
	ck_assert_int_eq(agent_plug(dial_agent, NULL, 0, words, &to, &e), -E2BIG);
	words[AGENT_DEVICE_NAME] = 0;
	ck_assert_int_eq(agent_unplug(dial_agent, NULL, 1, words, &to, &e), -EINVAL);
	ck_assert_int_eq(agent_unplug(dial_agent, NULL, 1u << 31, "none", &to, &e), -ENODEV);
	ck_assert_msg(!strncmp(e.text, "the guest has no such device", 28), "%s", e.text);
}
END_TEST

/* What an agent answers that is none: ctx is the name. */
static int dial_liar(void *ctx, int *fds, unsigned int n, struct err *e)
{
	struct {
		struct agent_header head;
		struct agent_plugged plugged;
	} m = {.head = {.magic = AGENT_MAGIC,
			.version = AGENT_VERSION,
			.type = AGENT_PLUGGED,
			.length = sizeof(m.plugged)}};
	int pair[2];

	(void)e;
	ck_assert_uint_eq(n, 1);
	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	memcpy(m.plugged.name, ctx, sizeof(m.plugged.name));
	ck_assert(!write_all(pair[1], &m, sizeof(m)));
	fds[0] = pair[0];
	dup2(pair[1], 200); /* open until the next */
	close(pair[1]);
	return 0;
}

/* A name is printed, and made a path of. */
START_TEST(names_of_devices)
{
	static const struct {
		char name[AGENT_DEVICE_NAME + 1];
		int result;
	} all[] = {{"", 0}, {"vdb", 0}, {"eth0.1_a-B", 0}, {"../etc/passwd", -EPROTO}, {"a b", -EPROTO},
		   {"\033[2J", -EPROTO}, {"a\n", -EPROTO}, {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0},
		   {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -EPROTO}};
	struct agent_plugged to;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		void *name = (void *)(uintptr_t)all[i].name;

		ck_assert_int_eq(agent_plug(dial_liar, name, 5, NULL, &to, &e), all[i].result);
		ck_assert_int_eq(agent_unplug(dial_liar, name, 32, "vdb", &to, &e), all[i].result);
		if (!all[i].result)
			ck_assert_str_eq(to.name, all[i].name);
	}
	close(200);
}
END_TEST

/* Of what the test knows; the rest is this host's. And the agent goes on, if nobody takes it. */
START_TEST(dumped)
{
	static char text[AGENT_DUMP_MAX + 1];
	int fd = send_exec(1, 0, "exec sleep 1000"), n;
	struct agent_message m;
	char line[32];
	struct err e;

	await_message(fd, AGENT_STARTED, &m);
	snprintf(line, sizeof(line), "running pid %u since ", m.started.pid);
	for (int i = 0; i < 3; i++) {
		int other = connect_agent();

		ck_assert(!agent_send(other, AGENT_DUMP, NULL, 0, agent_deadline(), &e));
		close(other);
	}
	n = agent_dump(dial_agent, NULL, text, &e);
	ck_assert_msg(n > 0, "%s", n < 0 ? e.text : "nothing");
	ck_assert_uint_eq(strlen(text), (size_t)n);
	ck_assert(!strncmp(text, "agent: protocol 3, up ", 22));
	ck_assert_msg(strstr(text, line) != NULL, "%s", text);
	ck_assert(strstr(text, "\nprocesses: ") && strstr(text, "\nkernel:\n"));
	ck_assert(strstr(text, "/proc/meminfo:\nMemTotal:") != NULL);
	close(fd);
}
END_TEST

/* Whatever comes, the agent goes on. Messages that are right but for a few bytes get furthest. */
START_TEST(random_messages)
{
	uint32_t x = 2463534242u;
	uint8_t buf[512];
	struct agent_info info;
	struct err e;

	for (int i = 0; i < 3000; i++) {
		size_t n = make_exec(buf, 1, 0, "exit");
		int fd = connect_agent();

		for (uint32_t k = 0, changes = i % 5; k < changes; k++) {
			x ^= x << 13, x ^= x >> 17, x ^= x << 5;
			buf[x % n] ^= (uint8_t)(x >> 16);
			if (x >> 31)
				buf[6] = 1 + (x >> 8) % 5; /* any type but SHUTDOWN */
		}
		if (buf[6] == AGENT_SHUTDOWN)
			buf[6] = 0;
		write_all(fd, buf, n);
		close(fd);
		if (i % 100 == 99)
			ck_assert(!ping_agent(&info, &e)); /* on a busy machine, too */
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		attach_may_come_first,
		bad_headers,
		bad_payloads,
		every_truncation,
		byte_by_byte,
		leaving_at_every_state,
		closed_terminal_hangs_up,
		signal_and_its_scope,
		too_many_sessions,
		too_many_connections,
		flood_of_pings,
		many_commands,
		information,
		documented_exchange,
		kept_commands,
		no_containers,
		devices,
		names_of_devices,
		dumped,
		random_messages,
	};

	setenv("CK_DEFAULT_TIMEOUT", "120", 0); /* many_commands, with sanitizers */
	return run_tests("agent", tests, ARRAY_SIZE(tests), start_agent, stop_agent);
}
