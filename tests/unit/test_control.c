/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket with clients of any manners, and the client's side with monitors of any.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/protocol.h"
#include "tests/unit/util.h"
#include "vmm/client.h"
#include "vmm/control.h"
#include "vmm/sock.h"

static struct err e;

/* --- the monitor's side --- */

static struct control control;
static struct console console;
static struct serial serial;
static struct loop loop;
static struct end end;

/* What takes its time: here, until the test says so, or no time at all. */
static struct {
	struct control_ticket ticket;
	int at, result;
	enum control_snapshot how;
	char place[64];
	bool at_once;
	unsigned int n, calls;
	char name[CONTROL_LINE];
} begun;

static int begin(struct control_ticket ticket, const char *name)
{
	begun.ticket = ticket;
	begun.calls++;
	snprintf(begun.name, sizeof(begun.name), "%s", name);
	if (begun.at_once)
		control_answer(&control, ticket, "error at once\n\n", 15);
	return begun.result ? err_set(&e, -begun.result, "not today") : 0;
}

static int snapshot(void *ctx, struct control_ticket ticket, int at, const char *place,
		    const char *name, enum control_snapshot how, struct err *why)
{
	int r = begin(ticket, name);

	(void)ctx;
	*why = e;
	begun.at = at;
	snprintf(begun.place, sizeof(begun.place), "%s", place);
	begun.how = how;
	ck_that(fcntl(at, F_GETFD) == FD_CLOEXEC);
	close(at);
	return r;
}

static int make_fork(void *ctx, struct control_ticket ticket, const char *name, unsigned int n,
		     struct err *why)
{
	int r = begin(ticket, name);

	(void)ctx;
	*why = e;
	begun.n = n;
	return r;
}

static uint64_t ordered; /* bytes of a balloon */

static int set_balloon(void *ctx, uint64_t bytes, struct err *why)
{
	(void)ctx;
	ordered = bytes;
	return bytes > 4096 ? err_set(why, EINVAL, "too much") : 0;
}

static struct {
	char text[CONTROL_LINE];
	unsigned int slot, calls;
	int result;
	bool had_fd;
} changed;

static int attach(void *ctx, const char *text, int fd, char *answer, size_t size, struct err *why)
{
	(void)ctx;
	changed.calls++;
	changed.had_fd = fd >= 0;
	snprintf(changed.text, sizeof(changed.text), "%s", text);
	if (fd >= 0) {
		ck_that(fcntl(fd, F_GETFD) == FD_CLOEXEC);
		close(fd);
	}
	snprintf(answer, size, "slot 7\nserial x\n");
	return changed.result ? err_set(why, -changed.result, "not today") : 0;
}

static int detach(void *ctx, unsigned int slot, struct err *why)
{
	(void)ctx;
	changed.calls++;
	changed.slot = slot;
	return changed.result ? err_set(why, -changed.result, "not today") : 0;
}

static size_t status(void *ctx, char *text, size_t size)
{
	(void)ctx;
	return (size_t)snprintf(text, size, "id vm\nstate running\n");
}

static void setup(void)
{
	struct serial_host host;
	struct irq irq;

	tmp_setup();
	ck_ok(loop_init(&loop, &e));
	end.loop = &loop;
	ck_ok(console_init(&console, &(struct console_config){.mode = CONSOLE_OFF}, &serial, &loop,
			   &end, &e));
	host = console_host(&console);
	ck_ok(irq.fd = event_new(&e));
	serial_init(&serial, irq, &host);
	control =
		(struct control){.loop = &loop, .end = &end, .console = &console, .status = status,
				 .balloon = set_balloon, .snapshot = snapshot, .fork = make_fork,
				 .attach = attach, .detach = detach};
	ck_ok(control_init(&control, tmp_dir, &e));
}

static int connect_control(void)
{
	int fd = sock_connect(tmp_dir, RUNDIR_CONTROL, 1);

	ck_that(fd >= 0);
	loop_settle(&loop);
	return fd;
}

static void put(int fd, const char *text)
{
	ck_that(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
	loop_settle(&loop);
}

static const char *get(int fd)
{
	loop_settle(&loop);
	return text_now(fd);
}

static unsigned int clients(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < CONTROL_CLIENTS; i++)
		n += control.client[i].control != NULL;
	return n;
}

/* The socket's mode keeps others out; if somebody has changed it, the monitor does. */
START_TEST(others_are_hung_up_on)
{
	char byte, path[64];
	pid_t pid;
	int status, fd;

	if (geteuid())
		ck_skip("only root can be somebody else");
	ck_ok(fchmodat(tmp_dir, RUNDIR_CONTROL, 0777, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tmp_dir);
	ck_ok(chmod(path, 0711));
	pid = fork();
	if (!pid) {
		if (seteuid(65534))
			_exit(2);
		fd = sock_connect(tmp_dir, RUNDIR_CONTROL, 0);
		_exit(fd < 0 ? 3 : recv(fd, &byte, 1, 0) != 0); /* 0: it is hung up */
	}
	for (int i = 0; i < 500 && !waitpid(pid, &status, WNOHANG); i++) {
		loop_settle(&loop);
		usleep(10000);
	}
	ck_that(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	ck_assert_uint_eq(clients(), 0);
	fd = connect_control();
	put(fd, "status\n");
	ck_assert_str_eq(get(fd), "ok\nid vm\nstate running\n\n");
	close(fd);
}
END_TEST

START_TEST(status_again_and_again)
{
	int fd = connect_control();

	for (unsigned int i = 0; i < 100; i++) {
		put(fd, "status\n");
		ck_assert_str_eq(get(fd), "ok\nid vm\nstate running\n\n");
	}
	close(fd);
	loop_settle(&loop);
	ck_assert_uint_eq(clients(), 0);
}
END_TEST

START_TEST(socket_is_the_owners)
{
	struct stat st;

	ck_assert(!fstatat(tmp_dir, RUNDIR_CONTROL, &st, 0));
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(request_in_fragments)
{
	int fd = connect_control();

	for (const char *p = "status\n"; *p; p++) {
		ck_assert_str_eq(get(fd), "");
		put(fd, (char[]){*p, 0});
	}
	ck_assert(!strncmp(get(fd), "ok\n", 3));
}
END_TEST

START_TEST(poweroff)
{
	int fd = connect_control();

	put(fd, "poweroff\n");
	ck_assert_str_eq(get(fd), "ok\n\n");
	ck_assert_int_eq(end_get(&end), END_STOPPED);
}
END_TEST

START_TEST(connection_becomes_the_console)
{
	int fd = connect_control();
	uint8_t byte = 'x', rts = 2;

	put(fd, "console\n");
	ck_assert_str_eq(get(fd), "ok\n\n");
	ck_assert_uint_eq(clients(), 0); /* it is the console's now */
	serial_ops.write(&serial, 0, &byte, 1);
	ck_assert_str_eq(get(fd), "x");
	serial_ops.write(&serial, 4, &rts, 1);
	put(fd, "status\n"); /* typed, not asked */
	for (const char *p = "status\n"; *p; p++) {
		serial_ops.read(&serial, 0, &byte, 1);
		ck_assert_int_eq(byte, *p);
	}
	ck_assert_str_eq(get(fd), "");
}
END_TEST

START_TEST(balloons)
{
	static const char *const none[] = {"balloon \n", "balloon -1\n", "balloon 1M\n", "balloon  1\n",
					   "balloon 0x1\n"};
	int fd = connect_control();

	put(fd, "balloon 4096\n");
	ck_assert_str_eq(get(fd), "ok\n\n");
	ck_assert_uint_eq(ordered, 4096);
	put(fd, "balloon 18446744073709551616\n");
	ck_assert_str_eq(get(fd), "error too much\n\n");
	ck_assert_uint_eq(ordered, UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		put(fd, none[i]);
		ck_assert_str_eq(get(fd), "error balloon takes a number of bytes\n\n");
	}
	put(fd, "balloon\n");
	ck_assert_str_eq(get(fd), "error unknown request\n\n");
	close(fd);
}
END_TEST

START_TEST(unknown_requests)
{
	static const char *const bad[] = {"\n",	       " \n",	     "Status\n",
					  "status \n", "status\r\n", "statuss\n",
					  "stat\n",    "\x01\xff\n", "GET / HTTP/1.1\r\n"};
	int fd = connect_control();

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		put(fd, bad[i]);
		ck_assert_str_eq(get(fd), "error unknown request\n\n");
	}
	put(fd, "status\n");
	ck_assert(!strncmp(get(fd), "ok\n", 3));
}
END_TEST

START_TEST(lines_that_are_too_long)
{
	char line[CONTROL_LINE + 1];
	int fd = connect_control();

	memset(line, 'x', sizeof(line));
	line[CONTROL_LINE] = 0;
	line[CONTROL_LINE - 1] = '\n'; /* the longest */
	put(fd, line);
	ck_assert_str_eq(get(fd), "error unknown request\n\n");
	line[CONTROL_LINE - 1] = 'x';
	put(fd, line);
	ck_assert_str_eq(get(fd), "(end)");
	ck_assert_uint_eq(clients(), 0);
}
END_TEST

START_TEST(clients_that_leave)
{
	for (unsigned int i = 0; i < 10; i++) {
		int fd = connect_control();

		if (i % 2)
			put(fd, "stat");
		close(fd);
		loop_settle(&loop);
		ck_assert_uint_eq(clients(), 0);
	}
	/* With an answer on its way. */
	for (unsigned int i = 0; i < 3; i++) {
		static const char *const requests[] = {"status\n", "console\n", "poweroff\n"};
		int fd = sock_connect(tmp_dir, RUNDIR_CONTROL, 1);

		ck_that(send(fd, requests[i], strlen(requests[i]), 0) > 0);
		close(fd);
		loop_settle(&loop);
		ck_assert_uint_eq(clients(), 0);
	}
}
END_TEST

/* Those above the limit wait in the backlog until another goes. */
START_TEST(many_clients)
{
	int fd[CONTROL_CLIENTS + 20];

	for (unsigned int i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = connect_control();
	ck_assert_uint_eq(clients(), CONTROL_CLIENTS);
	for (unsigned int i = 0; i < CONTROL_CLIENTS; i++) {
		put(fd[i], "status\n");
		ck_assert(!strncmp(get(fd[i]), "ok\n", 3));
	}
	put(fd[CONTROL_CLIENTS], "status\n");
	ck_assert_str_eq(get(fd[CONTROL_CLIENTS]), "");
	for (unsigned int i = 0; i < 20; i++)
		close(fd[i]);
	ck_assert(!strncmp(get(fd[CONTROL_CLIENTS]), "ok\n", 3));
	ck_assert_uint_eq(clients(), CONTROL_CLIENTS);
}
END_TEST

/* A client that only asks is cut off when its answers do not fit any more. */
START_TEST(client_that_does_not_read)
{
	int fd = connect_control(), other = connect_control();
	unsigned int i;

	for (i = 0; i < 100000 && clients() == 2; i++) {
		if (send(fd, "status\n", 7, MSG_NOSIGNAL) < 0)
			break;
		loop_settle(&loop);
	}
	ck_assert_uint_eq(clients(), 1);
	put(other, "status\n");
	ck_assert(!strncmp(get(other), "ok\n", 3));
}
END_TEST

static void put_with(int fd, const char *text, const int *passed, size_t n)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} room = {0};
	struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &room,
			   .msg_controllen = CMSG_SPACE(n * sizeof(int))};

	room.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
				     .cmsg_len = CMSG_LEN(n * sizeof(int))};
	memcpy(CMSG_DATA(&room.head), passed, n * sizeof(int));
	ck_that(sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)strlen(text));
	loop_settle(&loop);
}

START_TEST(answer_that_comes_later)
{
	int fd = connect_control();
	unsigned int before = open_fds();

	put_with(fd, "snapshot a name\n", &tmp_dir, 1);
	ck_assert_str_eq(begun.name, "a name");
	ck_assert_int_eq(begun.how, CONTROL_GO_ON);
	ck_assert_str_eq(get(fd), "");
	control_progress(&control, begun.ticket, "progress 1 2\n", 13);
	ck_assert_str_eq(get(fd), "progress 1 2\n");
	control_answer(&control, begun.ticket, "ok\nx 1\n\n", 9);
	ck_assert_str_eq(get(fd), "ok\nx 1\n\n");
	control_answer(&control, begun.ticket, "ok\n\n", 4); /* once */
	control_progress(&control, begun.ticket, "progress 2 2\n", 13);
	ck_assert_str_eq(get(fd), "");
	ck_assert_str_eq(begun.place, "");
	put(fd, "place tmp\n");
	ck_assert_str_eq(get(fd), "error place takes an absolute path\n\n");
	put(fd, "place /a place\n");
	ck_assert_str_eq(get(fd), "ok\n\n");
	put_with(fd, "snapshot-stop b\n", &tmp_dir, 1);
	ck_assert_int_eq(begun.how, CONTROL_STOP);
	control_answer(&control, begun.ticket, "ok\n\n", 4);
	ck_assert_str_eq(get(fd), "ok\n\n");
	put_with(fd, "template c\n", &tmp_dir, 1);
	ck_assert_int_eq(begun.how, CONTROL_TEMPLATE);
	control_answer(&control, begun.ticket, "ok\n\n", 4);
	ck_assert_str_eq(get(fd), "ok\n\n");
	put(fd, "fork 7 child\n");
	ck_assert_uint_eq(begun.n, 7);
	ck_assert_str_eq(begun.name, "child");
	control_answer(&control, begun.ticket, "ok\n\n", 4);
	ck_assert_str_eq(get(fd), "ok\n\n");
	put(fd, "fork 7\n");
	ck_assert_str_eq(begun.name, "");
	ck_assert_uint_eq(open_fds(), before);
	close(fd);
	loop_settle(&loop);
	ck_assert_uint_eq(clients(), 0);
}
END_TEST

/* The answer that comes from within is one, and the client may ask again. */
START_TEST(answer_that_comes_at_once)
{
	int fd = connect_control();

	begun.at_once = true;
	put_with(fd, "snapshot x\n", &tmp_dir, 1);
	ck_assert_str_eq(get(fd), "error at once\n\n");
	put(fd, "fork 1\n");
	ck_assert_str_eq(get(fd), "error at once\n\n");
	put(fd, "status\n");
	ck_assert_str_eq(get(fd), "ok\nid vm\nstate running\n\n");
	close(fd);
}
END_TEST

START_TEST(what_is_not_begun)
{
	static const char *const bad[] = {"fork \n", "fork x\n", "fork 1x\n", "fork 4294967296\n",
					  "fork 99999999999999999999\n"};
	int fd = connect_control(), four[] = {tmp_dir, tmp_dir, tmp_dir, tmp_dir};
	unsigned int before = open_fds(), calls;

	begun.result = -EBUSY;
	put_with(fd, "snapshot x\n", &tmp_dir, 1);
	ck_assert_str_eq(get(fd), "error not today\n\n");
	put(fd, "fork 1\n");
	ck_assert_str_eq(get(fd), "error not today\n\n");
	calls = begun.calls;
	put(fd, "snapshot x\n");
	ck_assert_str_eq(get(fd), "error no directory came with the request\n\n");
	put(fd, "snapshot\n");
	ck_assert_str_eq(get(fd), "error unknown request\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(fd, bad[i]);
		ck_assert_str_eq(get(fd), "error fork takes a number and a name\n\n");
	}
	ck_assert_uint_eq(begun.calls, calls);
	/* Descriptors that nobody asked for. */
	put_with(fd, "status\n", four, 4);
	get(fd);
	put_with(fd, "snapshot x\n", four, 4);
	ck_assert_str_eq(get(fd), "error not today\n\n");
	ck_assert_uint_eq(open_fds(), before);
	close(fd);
}
END_TEST

/* Whoever waits and goes, or talks on, gets no answer, nor does the one who has its place then. */
/* The descriptor goes with the request that it came with, and with no other. */
START_TEST(devices)
{
	static const char *const bad[] = {"detach \n", "detach x\n", "detach 1x\n", "detach -1\n", "detach +1\n",
					  "detach 4294967296\n", "detach 99999999999999999999999\n"};
	int fd = connect_control(), pass = open("/dev/null", O_RDONLY | O_CLOEXEC);

	memset(&changed, 0, sizeof(changed));
	ck_ok(sock_send(fd, "attach disk /a b,ro\n", 20, &pass, pass >= 0));
	ck_assert_str_eq(get(fd), "ok\nslot 7\nserial x\n\n");
	ck_assert_str_eq(changed.text, "disk /a b,ro");
	ck_that(changed.had_fd);
	put(fd, "attach net tap=x\n");
	ck_assert_str_eq(get(fd), "ok\nslot 7\nserial x\n\n");
	ck_that(!changed.had_fd);
	put(fd, "detach 12\n");
	ck_assert_str_eq(get(fd), "ok\n\n");
	ck_assert_uint_eq(changed.slot, 12);
	ck_assert_uint_eq(changed.calls, 3);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(fd, bad[i]);
		ck_assert_str_eq(get(fd), "error detach takes a slot's number\n\n");
	}
	put(fd, "attach\n");
	ck_assert_str_eq(get(fd), "error unknown request\n\n");
	ck_assert_uint_eq(changed.calls, 3);
	changed.result = -EBUSY;
	ck_ok(sock_send(fd, "attach disk x\n", 14, &pass, pass >= 0));
	ck_assert_str_eq(get(fd), "error not today\n\n");
	put(fd, "detach 1\n");
	ck_assert_str_eq(get(fd), "error not today\n\n");
	close(pass);
	close(fd);
}
END_TEST

START_TEST(gone_before_the_answer)
{
	int fd = connect_control(), other;

	put_with(fd, "snapshot x\n", &tmp_dir, 1);
	close(fd);
	loop_settle(&loop);
	ck_assert_uint_eq(clients(), 0);
	other = connect_control();
	put_with(other, "status\n", &tmp_dir, 1);
	get(other);
	control_answer(&control, begun.ticket, "ok\n\n", 4);
	control_progress(&control, begun.ticket, "progress 1 2\n", 13);
	ck_assert_str_eq(get(other), "");
	put(other, "fork 1\n");
	put(other, "status\n");
	ck_assert_str_eq(get(other), "(end)");
	ck_assert_uint_eq(clients(), 0);
	control_answer(&control, begun.ticket, "ok\n\n", 4);
	close(other);
}
END_TEST

/* --- the client's side --- */

/* The client waits by poll: here it never waits, and the other side takes its step first. */
static void (*step)(void);

int poll(struct pollfd *p, nfds_t n, int timeout)
{
	if (timeout > 0 && step)
		step();
	return (int)syscall(SYS_poll, p, n, 0);
}

static int peer = -1;	   /* the monitor's end of a client's connection */
static const char *script; /* what it answers, a byte a step if `slowly` */
static bool slowly;
static char answer[512];

static void give_answer(void)
{
	size_t n = slowly && *script ? 1 : strlen(script);

	ck_that(!n || send(peer, script, n, MSG_NOSIGNAL) == (ssize_t)n);
	script += n;
}

static int request_size(const char *text, size_t size)
{
	int s[2], r;

	ck_that(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	peer = s[1];
	script = text;
	step = give_answer;
	r = client_request(s[0], "status", answer, size, &e);
	close(s[0]);
	close(s[1]);
	return r;
}

static int request(const char *text)
{
	return request_size(text, sizeof(answer));
}

START_TEST(good_answers)
{
	ck_ok(request("ok\nid vm\nstate running\n\n"));
	ck_assert_str_eq(answer, "id vm\nstate running\n\n");
	ck_ok(request("ok\n\n"));
	ck_assert_str_eq(answer, "\n");
	slowly = true;
	ck_ok(request("ok\nid vm\nstate running\n\n"));
	ck_assert_str_eq(answer, "id vm\nstate running\n\n");
}
END_TEST

START_TEST(malformed_answers)
{
	for (unsigned int i = 0; i < 2; i++) {
		slowly = i;
		ck_refused(request("error no such thing\n\n"), EPROTO,
			   "refuses 'status': no such thing");
		ck_refused(request("OK\n\n"), EPROTO, "makes no sense");
		ck_refused(request("\n\n"), EPROTO, "makes no sense");
		ck_refused(request("ok \n\n"), EPROTO, "makes no sense");
		ck_refused(request("\xff\xfe\x01\n\n"), EPROTO, "makes no sense");
		ck_refused(request(""), ETIMEDOUT, "does not answer 'status'");
		ck_refused(request("ok\nid vm\n"), ETIMEDOUT, "does not answer");
		ck_refused(request("ok\nid"), ETIMEDOUT, "does not answer");
	}
}
END_TEST

/* A monitor's refusal is one line, whatever it says. */
START_TEST(refusals_are_one_line)
{
	ck_refused(request("error a\x1b[1mb\nsecond line\n\n"), EPROTO, "a?[1mb");
	ck_assert_ptr_null(strchr(e.text, '\n'));
}
END_TEST

START_TEST(answers_that_are_too_long)
{
	char text[64];

	memset(text, 'x', sizeof(text));
	memcpy(text, "ok\n", 3);
	strcpy(text + sizeof(text) - 3, "\n\n");
	ck_ok(request_size(text, sizeof(text)));
	for (size_t size = 4; size < sizeof(text); size++)
		ck_that(request_size(text, size) == -EMSGSIZE);
}
END_TEST

static void hang_up(void)
{
	give_answer();
	shutdown(peer, SHUT_RDWR);
}

START_TEST(monitors_that_hang_up)
{
	int s[2];

	for (unsigned int i = 0; i < 2; i++) {
		ck_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
		peer = s[1];
		script = i ? "ok\nid v" : "";
		step = hang_up;
		ck_refused(client_request(s[0], "status", answer, sizeof(answer), &e), ECONNRESET,
			   "does not answer");
		close(s[0]);
		close(s[1]);
	}
	ck_refused(client_request(-1, "status", answer, sizeof(answer), &e), EBADF, "status");
}
END_TEST

/* What follows the empty line is the console's, and stays in the socket. */
START_TEST(bytes_behind_an_answer)
{
	char rest[16] = "";
	int s[2];

	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	peer = s[1];
	script = "ok\n\nlogin: ";
	step = give_answer;
	ck_ok(client_request(s[0], "console", answer, sizeof(answer), &e));
	ck_assert_int_eq(recv(s[0], rest, sizeof(rest) - 1, MSG_DONTWAIT), 7);
	ck_assert_str_eq(rest, "login: ");
}
END_TEST

START_TEST(values_of_an_answer)
{
	const char *text = "id vm\nstate running\nkernel /a b/c\nempty \nstates x\n\n";
	char value[16];

	client_value(text, "id", value, sizeof(value));
	ck_assert_str_eq(value, "vm");
	client_value(text, "state", value, sizeof(value));
	ck_assert_str_eq(value, "running");
	client_value(text, "kernel", value, sizeof(value));
	ck_assert_str_eq(value, "/a b/c");
	client_value(text, "kernel", value, 4);
	ck_assert_str_eq(value, "/a ");
	client_value(text, "empty", value, sizeof(value));
	ck_assert_str_eq(value, "");
	client_value(text, "states", value, sizeof(value));
	ck_assert_str_eq(value, "x");
	client_value(text, "vm", value, sizeof(value));
	ck_assert_str_eq(value, "");
	client_value(text, "stat", value, sizeof(value));
	ck_assert_str_eq(value, "");
	client_value("", "id", value, sizeof(value));
	ck_assert_str_eq(value, "");
	client_value("id", "id", value, sizeof(value)); /* cut off */
	ck_assert_str_eq(value, "");
}
END_TEST

START_TEST(waiting_for_the_end)
{
	int s[2];

	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	step = NULL;
	ck_assert(!client_wait_end(s[0], 1000));
	ck_assert_int_gt(send(s[1], "unasked", 7, 0), 0);
	ck_assert(!client_wait_end(s[0], 1000));
	close(s[1]);
	ck_assert(client_wait_end(s[0], 1000));
}
END_TEST

/* --- streams to the agent --- */

static int listener;
static struct rundir vm = {.keeper = -1, .id = "vm"};
static unsigned int streams;

/* A monitor that answers each CONNECT. */
static void answer_connects(void)
{
	int fd = accept(listener, NULL, NULL);
	char line[32] = "";

	if (fd < 0)
		return;
	streams++;
	ck_that(recv(fd, line, sizeof(line) - 1, 0) > 0);
	ck_that(atoi(line + strlen("CONNECT ")) == AGENT_PORT);
	peer = fd;
	give_answer();
	if (!*script)
		close(fd);
}

static void setup_agent(void)
{
	tmp_setup();
	vm.dir = tmp_dir;
	ck_ok(listener = sock_listen(tmp_dir, RUNDIR_VSOCK, &e));
	step = answer_connects;
}

static void answer_and_hello(void)
{
	static const char ok[] = "OK 1073741824\nthe agent's";

	script = ok;
	answer_connects();
}

START_TEST(dial_several)
{
	int fd[3];
	char rest[32] = "";

	step = answer_and_hello;
	ck_ok(client_dial_agent(&vm, fd, 3, &e));
	ck_assert_uint_eq(streams, 3);
	for (unsigned int i = 0; i < 3; i++) {
		memset(rest, 0, sizeof(rest));
		ck_assert_int_eq(recv(fd[i], rest, sizeof(rest) - 1, 0), 11);
		ck_assert_str_eq(rest, "the agent's"); /* not a byte too many was read */
		close(fd[i]);
	}
}
END_TEST

START_TEST(dial_refused)
{
	static const char *const bad[] = {"",
					  "OK",
					  "NO 1\n",
					  "OK\n",
					  "\n",
					  "OKAY\n",
					  "OK 1111111111111111111111111111111111111\n"};
	unsigned int fds = open_fds();
	int fd[2];

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		script = bad[i];
		ck_assert_int_lt(client_dial_agent(&vm, fd, 2, &e), 0);
		ck_assert(strstr(e.text, "no agent answers in VM 'vm'"));
		while (accept(listener, NULL, NULL) >= 0)
			fds++; /* that came after the first was refused */
		ck_assert_uint_le(open_fds(), fds);
	}
}
END_TEST

START_TEST(dial_nobody)
{
	unsigned int fds = open_fds();
	int fd[2];

	step = NULL; /* it listens, and never answers */
	ck_refused(client_dial_agent(&vm, fd, 2, &e), ETIMEDOUT, "no agent answers");
	ck_assert_uint_eq(open_fds(), fds);
	close(listener);
	ck_refused(client_dial_agent(&vm, fd, 2, &e), ECONNREFUSED, "no agent answers");
	ck_refused(client_control(&vm, &e), ENOENT, "cannot reach the monitor of VM 'vm'");
	ck_assert_uint_eq(open_fds(), fds - 1);
}
END_TEST

int main(void)
{
	const TTest *const monitor[] = {
		status_again_and_again,
		socket_is_the_owners,
		others_are_hung_up_on,
		request_in_fragments,
		poweroff,
		connection_becomes_the_console,
		unknown_requests,	balloons,
		lines_that_are_too_long,
		clients_that_leave,
		many_clients,
		client_that_does_not_read,
		answer_that_comes_later,
		answer_that_comes_at_once,
		what_is_not_begun,
		devices,
		gone_before_the_answer,
	};
	const TTest *const client[] = {
		good_answers,	       malformed_answers,
		refusals_are_one_line, answers_that_are_too_long,
		monitors_that_hang_up, bytes_behind_an_answer,
		values_of_an_answer,   waiting_for_the_end,
	};
	const TTest *const agent[] = {dial_several, dial_refused, dial_nobody};
	const struct test_group groups[] = {
		{monitor, ARRAY_SIZE(monitor), setup, tmp_teardown},
		{client, ARRAY_SIZE(client), NULL, NULL},
		{agent, ARRAY_SIZE(agent), setup_agent, tmp_teardown},
	};

	return run_groups("control", groups, ARRAY_SIZE(groups));
}
