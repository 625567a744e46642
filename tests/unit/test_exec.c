/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands through the real client and the real core of the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest/agent/serve.h"
#include "tests/unit/agent_fixture.h"
#include "tests/unit/client_fixture.h"
#include "tests/unit/util.h"
#include "vmm/container.h"
#include "vmm/util.h"

#define MIB ((size_t)1 << 20)

static char *noise(size_t len)
{
	uint32_t x = 2463534242u, *p = malloc(len);

	for (size_t i = 0; i < len / 4; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		p[i] = x;
	}
	return (char *)p;
}

START_TEST(output_and_status)
{
	expect_sh("echo out; echo err >&2; exit 7", 7, "out\n", "err\n");
	expect_sh("exit 0", 0, "", "");
	expect_sh("exit 255", 255, "", "");
	expect_sh("kill -9 $$", 137, "", "");
	expect_sh("kill -TERM $$", 143, "", "");
	expect_sh("cat /dev/stdin; echo a >/dev/stdout; echo b >/dev/stderr", 0, "a\n", "b\n");
	expect_run(&(struct exec_request){.argv = SH("read x; echo $x")}, "hello\nrest", 0,
		   "hello\n", "");
}
END_TEST

START_TEST(megabytes_both_ways)
{
	size_t len = 10 * MIB;
	char *in = noise(len);
	struct result r = run(&(struct exec_request){.argv = ARGV("cat")}, in, len);

	ck_assert_int_eq(r.status, 0);
	ck_assert_uint_eq(r.out_len, len);
	ck_assert(!memcmp(r.out, in, len));
	free_result(&r);
	r = run(&(struct exec_request){.argv = SH("tee /dev/stderr")}, in, len);
	ck_assert_int_eq(r.status, 0);
	ck_assert(r.out_len == len && r.err_len == len);
	ck_assert(!memcmp(r.out, in, len) && !memcmp(r.err, in, len));
	free_result(&r);
	free(in);
}
END_TEST

/* Regular files, at which poll is no help, and /dev/null, which needs no stream. */
START_TEST(files_as_standard_descriptors)
{
	char *in = noise(MIB), *back = malloc(MIB);
	int from = memfd_create("in", MFD_CLOEXEC), to = memfd_create("out", MFD_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct exec_request rq = {.argv = ARGV("cat")};

	ck_assert(!write_all(from, in, MIB) && !lseek(from, 0, SEEK_SET));
	ck_assert_int_eq(exit_status(fork_client(&rq, (int[]){from, to, null})), 0);
	ck_assert(!pread_all(to, back, MIB, 0) && !memcmp(in, back, MIB));
	rq.argv = SH("test /dev/stdin -ef /dev/null && test /dev/stderr -ef /dev/null");
	ck_assert_int_eq(exit_status(fork_client(&rq, (int[]){null, null, null})), 0);
	close(from);
	close(to);
	close(null);
	free(in);
	free(back);
}
END_TEST

START_TEST(command_that_reads_nothing)
{
	size_t len = 10 * MIB;
	char *in = noise(len);
	struct result r = run(&(struct exec_request){.argv = SH("exit 3")}, in, len);

	ck_assert_int_eq(r.status, 3);
	free_result(&r);
	r = run(&(struct exec_request){.argv = SH("exec <&-; echo closed")}, in, len);
	ck_assert_int_eq(r.status, 0);
	ck_assert_str_eq(r.out, "closed\n");
	free_result(&r);
	free(in);
}
END_TEST

START_TEST(children_that_keep_the_output)
{
	struct result r;

	/* Silent, and never silent. Each is gone when settle() says so. */
	r = run(&(struct exec_request){.argv = SH("sleep 1000 & echo $!")}, "", 0);
	ck_assert_int_eq(r.status, 0);
	ck_assert_int_eq(kill(atoi(r.out), SIGKILL), 0);
	free_result(&r);
	r = run(&(struct exec_request){.argv = SH("yes & exit 5")}, "", 0);
	ck_assert_int_eq(r.status, 5);
	free_result(&r);
	/* All that the command itself wrote arrives, however it ends. */
	for (int i = 0; i < 20; i++) {
		r = run(&(struct exec_request){.argv = SH("sleep 1000 & echo $!; head -c 60000 "
							  "/dev/zero; kill -9 $$")},
			"", 0);
		ck_assert_int_eq(r.status, 137);
		ck_assert_int_eq(kill(atoi(r.out), SIGKILL), 0);
		ck_assert_uint_eq(r.out_len, strcspn(r.out, "\n") + 1 + 60000);
		free_result(&r);
	}
}
END_TEST

START_TEST(slow_reader_stops_only_itself)
{
	struct exec_request rq = {
		.argv = SH("head -c 5000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait")};
	struct client c = start_client(&rq);
	char *err = NULL;
	size_t len = 0;
	struct result r;

	while (len < 3000000)
		ck_assert(slurp(c.err, &err, &len));
	r = finish_client(c, "", 0);
	ck_assert_uint_eq(r.out_len, 5000000);
	ck_assert_uint_eq(len + r.err_len, 3000000);
	ck_assert_int_eq(r.status, 0);
	free_result(&r);
	free(err);
}
END_TEST

START_TEST(reader_that_leaves)
{
	struct client c = start_client(&(struct exec_request){.argv = ARGV("yes")});
	struct result r;

	close(c.out);
	c.out = -1;
	r = finish_client(c, "", 0);
	ck_assert_int_eq(r.status, 128 + SIGPIPE);
	free_result(&r);
}
END_TEST

START_TEST(commands_that_cannot_run)
{
	struct exec_request rq = {.argv = ARGV("no-such-command")};

	expect_run(&rq, "", 127, "",
		   "uvm: cannot run 'no-such-command': No such file or directory\n");
	rq.argv = ARGV("/no/such");
	expect_run(&rq, "", 127, "", "uvm: cannot run '/no/such': No such file or directory\n");
	rq.argv = ARGV("");
	expect_run(&rq, "", 127, "", "uvm: cannot run '': No such file or directory\n");
	rq.argv = ARGV("/etc/passwd");
	expect_run(&rq, "", 126, "", "uvm: cannot run '/etc/passwd': Permission denied\n");
	rq.argv = ARGV("passwd");
	rq.envp = ARGV("PATH=/etc:/nowhere");
	expect_run(&rq, "", 126, "", "uvm: cannot run 'passwd': Permission denied\n");
	rq = (struct exec_request){.argv = ARGV("true"), .cwd = "/no\nwhere"};
	expect_run(&rq, "", 127, "",
		   "uvm: cannot change the directory to '/no?where': No such file or directory\n");
}
END_TEST

/* It has nothing of its client's, and ends with its time. */
START_TEST(quiet_and_limited)
{
	struct exec_request rq = {
		.argv = SH("echo out; echo err >&2; [ ! -t 0 ] && exec cat"), .quiet = true, .timeout_ms = 60000};

	expect_run(&rq, "in", 0, "", "");
	rq.timeout_ms = 300;
	rq.argv = ARGV("sleep", "1000");
	expect_run(&rq, "", EXEC_TIMED_OUT, "", "");
	rq.timeout_ms = 60000;
	rq.argv = ARGV("no-such-command");
	expect_run(&rq, "", 127, "",
		   "uvm: cannot run 'no-such-command': No such file or directory\n");
}
END_TEST

START_TEST(surroundings)
{
	struct exec_request rq = {.argv = ARGV("pwd"), .cwd = "/usr/lib"};
	static const uint32_t groups[] = {7, 9};

	expect_run(&rq, "", 0, "/usr/lib\n", "");
	rq = (struct exec_request){.argv = ARGV("env")};
	expect_run(&rq, "", 0,
		   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
		   "HOME=/root\n",
		   "");
	rq.envp = ARGV("A=b c", "PATH=/usr/bin", "HOME=/x", "TERM=y");
	expect_run(&rq, "", 0, "A=b c\nPATH=/usr/bin\nHOME=/x\nTERM=y\n", "");
	/* Descriptors 0 to 2 and the one that lists them; a session and group of its own; nothing
	 * blocked, SIGPIPE not ignored.
	 */
	expect_sh("ls /proc/self/fd", 0, "0\n1\n2\n3\n", "");
	expect_sh("set -- $(cat /proc/self/stat); test $4 = $6 && test $5 = $6", 0, "", "");
	expect_sh("grep SigBlk /proc/self/status; set -- $(grep SigIgn /proc/self/status); "
		  "echo $((0x$2 & 1 << 12))",
		  0, "SigBlk:\t0000000000000000\n0\n", "");
	if (getuid())
		return;
	rq = (struct exec_request){.argv = SH("id -u; id -g; id -G; echo $HOME; echo >/dev/stdout"),
				   .user = true,
				   .uid = 1234,
				   .gid = 567,
				   .groups = groups,
				   .group_count = 2};
	expect_run(&rq, "", 0, "1234\n567\n567 7 9\n/\n\n", "");
}
END_TEST

START_TEST(signals_pass_through)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		char script[256], *out = NULL;
		struct client c;
		struct result r;
		size_t len = 0;

		/* The group gets the signal, so the child ends by it and the parent sees it too. */
		snprintf(script, sizeof(script),
			 "trap 'x=9' %d; sh -c 'trap \"exit 0\" %d; echo up; "
			 "while :; do sleep 0.01; done'; exit $x",
			 signals[i], signals[i]);
		c = start_client(&(struct exec_request){.argv = SH(script)});
		while (len < 3)
			slurp(c.out, &out, &len);
		kill(c.pid, signals[i]);
		r = finish_client(c, "", 0);
		ck_assert_int_eq(r.status, 9);
		free_result(&r);
		free(out);
	}
}
END_TEST

/* ------ what the client refuses, on either side ------ */

START_TEST(request_too_long)
{
	static char big[AGENT_EXEC_MAX];
	const char *many[AGENT_STRINGS_MAX + 2];
	struct exec_request rq = {.argv = ARGV("true", big)};

	memset(big, 'x', sizeof(big) - 1);
	expect_run(&rq, "", 1, "", "uvm: the command and its environment are too long\n");
	big[AGENT_EXEC_MAX - 1000] = '\0';
	expect_run(&rq, "", 0, "", "");
	rq = (struct exec_request){.argv = ARGV("true"), .envp = (char *const *)many};
	for (size_t i = 0; i < AGENT_STRINGS_MAX; i++)
		many[i] = "a=";
	many[AGENT_STRINGS_MAX] = NULL;
	expect_run(&rq, "", 1, "", "uvm: the command and its environment are too long\n");
	many[AGENT_STRINGS_MAX - 1] = NULL;
	expect_run(&rq, "", 0, "", "");
}
END_TEST

/* An agent that sends these bytes on one of the connections and closes everything. */
struct forged {
	const void *bytes;
	size_t len;
	unsigned int connection; /* 0: control */
	bool open;		 /* nothing is closed */
};

static int dial_forged(void *ctx, int *fds, unsigned int n, struct err *e)
{
	const struct forged *f = ctx;

	(void)e;
	for (unsigned int i = 0; i < n; i++) {
		int pair[2];

		ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
		if (i == f->connection)
			ck_assert(!write_all(pair[1], f->bytes, f->len));
		if (!f->open)
			shutdown(pair[1], SHUT_WR);
		fds[i] = pair[0];
		/* The other end stays open, so that what the client sends is taken. */
	}
	return 0;
}

struct forged_message {
	struct agent_header head;
	uint32_t word[2];
};

static void expect_forged(const void *bytes, size_t len, int code, const char *text)
{
	struct forged f = {.bytes = bytes, .len = len};
	struct exec_request rq = {.argv = ARGV("true")};
	struct err e = {{0}};
	int status = 0;

	ck_assert_int_eq(exec_run(&rq, dial_forged, &f, &status, &e), -code);
	ck_assert_int_eq(status, 1);
	ck_assert_msg(strstr(e.text, text) != NULL, "%s", e.text);
}

/* Lists: as long as they say, in whole units, and no longer than there is room for. */
START_TEST(hostile_lists)
{
	struct {
		struct agent_header head;
		struct agent_process process[3];
	} m = {{AGENT_MAGIC, AGENT_VERSION, AGENT_PROCESS_LIST, 0, 0}, {{.pid = 7}}};
	struct forged_message answer = {{AGENT_MAGIC, AGENT_VERSION, AGENT_ERROR, 8, 0},
					{ENOENT, AGENT_REFUSED}};
	struct agent_process room[2];
	struct agent_list l = {AGENT_PROCESS_LIST, sizeof(room[0]), room, sizeof(room), 9};
	const size_t unit = sizeof(room[0]), head = sizeof(m.head);
	struct forged f = {.bytes = &m, .len = head};
	struct err e = {{0}};
#define FETCH agent_fetch(dial_forged, &f, AGENT_PROCESSES, "c", &l, now_ns() + PATIENCE_NS, &e)

	ck_ok(FETCH);
	ck_assert_uint_eq(l.count, 0);
	m.head.length = (uint32_t)(2 * unit);
	f.len = head + 2 * unit;
	ck_ok(FETCH);
	ck_assert(l.count == 2 && room[0].pid == 7);
	f.len--;
	ck_refused(FETCH, ECONNRESET, "closed the connection");
	m.head.length = (uint32_t)(3 * unit);
	f.len = sizeof(m);
	ck_refused(FETCH, EPROTO, "malformed");
	m.head.length = (uint32_t)unit + 1;
	ck_refused(FETCH, EPROTO, "malformed");
	m.head.length = UINT32_MAX;
	ck_refused(FETCH, EPROTO, "malformed");
	m.head.length = (uint32_t)unit;
	m.head.type = AGENT_PROPERTIES;
	ck_refused(FETCH, EPROTO, "malformed");
	m.head.type = AGENT_OK;
	ck_refused(FETCH, EPROTO, "malformed");
	m.head.length = 0;
	ck_refused(FETCH, EPROTO, "out of place");
	m.head.version = 9;
	ck_refused(FETCH, EPROTO, "version 9");
	f = (struct forged){.bytes = &answer, .len = sizeof(answer)};
	ck_refused(FETCH, ENOENT, "No such file");
	f.len = 3;
	ck_refused(FETCH, ECONNRESET, "closed the connection");
#undef FETCH
}
END_TEST

/* The figures of one container: there is room for those of one. */
START_TEST(hostile_figures)
{
	struct {
		struct agent_header head;
		struct agent_properties of[2];
	} m = {.head = {AGENT_MAGIC, AGENT_VERSION, AGENT_PROPERTIES, 0, 0}};
	struct {
		struct agent_properties is;
		uint8_t canary[16];
	} to = {.canary = "untouched"};
	struct forged f = {.bytes = &m, .len = sizeof(m)};
	struct err e = {{0}};
#define STATS agent_stats(dial_forged, &f, "c", now_ns() + PATIENCE_NS, &to.is, &e)

	memset(m.of, 0x5a, sizeof(m.of));
	ck_refused(STATS, EPROTO, "told no figures of 'c'");
	m.head.length = 2 * sizeof(m.of[0]);
	ck_refused(STATS, EPROTO, "malformed");
	m.head.length = sizeof(m.of[0]) - 1;
	ck_refused(STATS, EPROTO, "malformed");
	m.head.length = sizeof(m.of[0]);
	ck_ok(STATS);
	ck_assert(!memcmp(&to.is, m.of, sizeof(to.is)));
	ck_assert_str_eq((char *)to.canary, "untouched");
#undef STATS
}
END_TEST

/* Half an answer, and nothing more; no room for the question. */
START_TEST(agent_that_stops_halfway)
{
	struct forged_message m = {{AGENT_MAGIC, AGENT_VERSION, AGENT_PROCESS_LIST, 8, 0}, {0}};
	struct agent_process room[2];
	struct agent_list l = {AGENT_PROCESS_LIST, sizeof(room[0]), room, sizeof(room), 9};
	struct forged f = {.bytes = &m, .open = true};
	static const uint8_t long_text[1 << 20];
	struct err e = {{0}};
	int fd;

	for (f.len = 0; f.len < sizeof(m.head); f.len += 5)
		ck_refused(agent_fetch(dial_forged, &f, AGENT_PROCESSES, "c", &l, now_ns() + 3000000, &e),
			   ETIMEDOUT, "does not answer");
	m.head.length = sizeof(room[0]);
	f.len = sizeof(m.head) + 1;
	ck_refused(agent_fetch(dial_forged, &f, AGENT_PROCESSES, "c", &l, now_ns() + 3000000, &e), ETIMEDOUT,
		   "does not answer");
	ck_ok(dial_forged(&f, &fd, 1, &e));
	ck_refused(agent_send(fd, AGENT_EXEC, long_text, sizeof(long_text), now_ns() + 3000000, &e),
		   ETIMEDOUT, "does not answer");
	close(fd);
}
END_TEST

/* One that says why, and closes before it is asked. */
START_TEST(agent_that_has_refused_already)
{
	struct forged_message why = {{AGENT_MAGIC, AGENT_VERSION, AGENT_ERROR, 8, 0}, {EBUSY, AGENT_REFUSED}};
	struct err e = {{0}};
	int pair[2];

	for (size_t len = 0; len <= sizeof(why); len += sizeof(why) / 2) {
		ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
		ck_assert(!write_all(pair[1], &why, len));
		close(pair[1]);
		if (len == sizeof(why))
			ck_refused(agent_send(pair[0], AGENT_PING, NULL, 0, now_ns() + PATIENCE_NS, &e),
				   EBUSY, "busy");
		else
			ck_refused(agent_send(pair[0], AGENT_PING, NULL, 0, now_ns() + PATIENCE_NS, &e),
				   EPIPE, "cannot send to the guest's agent");
		close(pair[0]);
	}
	/* Something else is no reason. */
	why.head.type = AGENT_OK;
	why.head.length = 0;
	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ck_assert(!write_all(pair[1], &why.head, sizeof(why.head)));
	close(pair[1]);
	ck_refused(agent_send(pair[0], AGENT_PING, NULL, 0, now_ns() + PATIENCE_NS, &e), EPIPE,
		   "cannot send to the guest's agent");
	close(pair[0]);
}
END_TEST

START_TEST(hostile_agent)
{
	struct forged_message m[2] = {
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_STARTED, 4, 0}, {1}},
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_EXITED, 8, 0}, {AGENT_EXIT_STATUS, 0}},
	};
	struct {
		struct agent_header head;
		struct agent_error error;
		char text[AGENT_TEXT_MAX + 1];
	} error = {{AGENT_MAGIC, AGENT_VERSION, AGENT_ERROR, AGENT_ANSWER_MAX, 0},
		   {0, AGENT_REFUSED},
		   {0}};
	uint8_t both[64];
	size_t started = sizeof(struct agent_header) + 4;

	expect_forged("", 0, ECONNRESET, "closed the connection");
	expect_forged("SSH-2.0-OpenSSH_9.2\r\n", 21, EPROTO, "not uvm's agent");
	for (size_t len = 1; len < started; len++)
		expect_forged(&m[0], len, ECONNRESET, "closed the connection");
	expect_forged(&m[1], sizeof(m[1]), EPROTO, "out of place");
	m[0].head.version = 9;
	expect_forged(&m[0], started, EPROTO, "version 9");
	m[0].head.version = AGENT_VERSION;
	m[0].head.length = UINT32_MAX;
	expect_forged(&m[0], started, EPROTO, "malformed");
	m[0].head.length = 4;
	m[0].head.type = AGENT_EXEC;
	expect_forged(&m[0], started, EPROTO, "malformed");
	m[0].head.type = AGENT_STARTED;

	memcpy(both, &m[0], started);
	memcpy(both + started, &m[0], started);
	expect_forged(both, 2 * started, EPROTO, "out of place");
	m[1].word[1] = 256;
	memcpy(both + started, &m[1], sizeof(m[1]));
	expect_forged(both, started + sizeof(m[1]), EPROTO, "impossible");
	m[1].word[0] = AGENT_EXIT_SIGNAL;
	memcpy(both + started, &m[1], sizeof(m[1]));
	expect_forged(both, started + sizeof(m[1]), EPROTO, "impossible");

	/* An error that is none, as long as may be, and with what a terminal would obey. */
	memset(error.text, '\033', AGENT_TEXT_MAX);
	expect_forged(&error, sizeof(error) - 1, EPROTO, "?????");
	error.head.length++;
	expect_forged(&error, sizeof(error), EPROTO, "malformed");
}
END_TEST

/* --- time that passes as fast as nothing happens --- */

static bool hurry;
static int64_t skipped_ms;

int poll(struct pollfd *p, nfds_t count, int timeout)
{
	int r = (int)syscall(SYS_poll, p, count, hurry ? 0 : timeout);

	if (!r && hurry)
		skipped_ms += timeout < 0 ? INT_MAX : timeout;
	ck_that(skipped_ms < INT_MAX); /* else it would wait for ever */
	return r;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, id, t);

	t->tv_sec += skipped_ms / 1000;
	t->tv_nsec += skipped_ms % 1000 * 1000000;
	t->tv_sec += t->tv_nsec / 1000000000;
	t->tv_nsec %= 1000000000;
	return r;
}

/* An agent that takes everything and says nothing more. */
START_TEST(silent_agent)
{
	const struct forged_message m[2] = {
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_STARTED, 4, 0}, {1}},
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_EXITED, 8, 0}, {AGENT_EXIT_STATUS, 0}},
	};
	int file = memfd_create("output", MFD_CLOEXEC), fds[3] = {file, file, file};
	struct exec_request rq = {.argv = ARGV("true"), .timeout_ms = 86400000, .fds = fds};
	uint8_t both[64];
	size_t started = sizeof(struct agent_header) + 4;
	struct forged f = {.bytes = both, .open = true};
	struct err e = {{0}};
	int status;

	memcpy(both, &m[0], started);
	memcpy(both + started, &m[1], sizeof(m[1]));
	hurry = true;
	for (f.len = 0; f.len < started; f.len += 5)
		ck_refused(exec_run(&rq, dial_forged, &f, &status, &e), ETIMEDOUT, "does not answer");
	ck_assert_int_ge(skipped_ms, AGENT_HANDSHAKE_MS * 4);
	/* Time was up, and it does not say that the process is dead. */
	f.len = started;
	ck_refused(exec_run(&rq, dial_forged, &f, &status, &e), ETIMEDOUT, "does not answer");
	ck_assert_int_ge(skipped_ms, rq.timeout_ms);
	/* The process has ended, but its streams do not. */
	f.len = started + sizeof(m[1]);
	ck_refused(exec_run(&rq, dial_forged, &f, &status, &e), ETIMEDOUT, "does not end the streams");
	hurry = false;
}
END_TEST

/* An agent of which there is always more to read, a notice each millisecond, until it is told to kill. The
 * connection has a byte in it, so that it can be polled; what is read comes from here.
 */
static struct {
	int fd, agent; /* the connection's ends */
	uint8_t bytes[64];
	size_t at, len;
	unsigned int messages;
} flood;

static void say(enum agent_type type, const void *payload, size_t length)
{
	struct agent_header head = {AGENT_MAGIC, AGENT_VERSION, type, (uint32_t)length, 0};

	memcpy(flood.bytes, &head, sizeof(head));
	memcpy(flood.bytes + sizeof(head), payload, length);
	flood.at = 0;
	flood.len = sizeof(head) + length;
}

static bool told_to_kill(void)
{
	static uint8_t payload[AGENT_EXEC_MAX];
	struct agent_header head;

	while (read(flood.agent, &head, sizeof(head)) == sizeof(head)) {
		ck_that(read(flood.agent, payload, head.length) == (ssize_t)head.length);
		if (head.type == AGENT_SIGNAL)
			return true;
	}
	return false;
}

static void say_next(void)
{
	const struct agent_started started = {.pid = 1};
	const struct agent_exited exited = {AGENT_EXIT_SIGNAL, SIGKILL};
	const struct agent_notice notice = {.kind = AGENT_NOTICE_OOM, .value = flood.messages};

	skipped_ms++;
	ck_that(++flood.messages < 100000);
	if (flood.messages == 1)
		say(AGENT_STARTED, &started, sizeof(started));
	else if (told_to_kill())
		say(AGENT_EXITED, &exited, sizeof(exited));
	else
		say(AGENT_NOTICE, &notice, sizeof(notice));
}

ssize_t recv(int fd, void *to, size_t len, int flags)
{
	if (!flood.fd || fd != flood.fd)
		return syscall(SYS_recvfrom, fd, to, len, flags, NULL, NULL);
	if (flood.at == flood.len)
		say_next();
	len = MIN(len, flood.len - flood.at);
	memcpy(to, flood.bytes + flood.at, len);
	flood.at += len;
	return (ssize_t)len;
}

static int dial_flood(void *ctx, int *fds, unsigned int n, struct err *e)
{
	int pair[2];

	(void)ctx;
	(void)e;
	ck_assert(n == 1 && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	ck_assert_int_eq(write(pair[1], "", 1), 1);
	flood.fd = fds[0] = pair[0];
	flood.agent = pair[1];
	return 0;
}

/* Its time ends all the same. */
START_TEST(flood_of_notices)
{
	struct container_spec spec = {.name = "c", .start = true};
	struct exec_request rq = {
		.argv = ARGV("true"), .create = &spec, .quiet = true, .timeout_ms = 500};
	struct err e = {{0}};
	int status;

	ck_ok(exec_run(&rq, dial_flood, NULL, &status, &e));
	ck_assert_int_eq(status, EXEC_TIMED_OUT);
	ck_assert_uint_ge(flood.messages, rq.timeout_ms);
	ck_assert_uint_lt(flood.messages, rq.timeout_ms + 100);
}
END_TEST

static void count_created(void *ctx)
{
	++*(int *)ctx;
}

/* A container that waits to be started, and is killed before; and CREATED from who was not asked. */
START_TEST(created_and_killed)
{
	const struct forged_message m[2] = {
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_CREATED, 4, 0}, {1}},
		{{AGENT_MAGIC, AGENT_VERSION, AGENT_EXITED, 8, 0}, {AGENT_EXIT_SIGNAL, 9}},
	};
	const size_t len = sizeof(struct agent_header) + 4;
	int calls = 0, status = 0;
	struct exec_request rq = {.argv = ARGV("true"), .created = count_created, .ctx = &calls};
	uint8_t both[2 * sizeof(m)];
	struct forged f = {.bytes = both, .len = len + sizeof(m[1])};
	struct err e = {{0}};

	expect_forged(&m[0], len, EPROTO, "out of place");
	memcpy(both, &m[0], len);
	memcpy(both + len, &m[1], sizeof(m[1]));
	ck_ok(exec_run(&rq, dial_forged, &f, &status, &e));
	ck_assert_int_eq(status, 128 + 9);
	ck_assert_int_eq(calls, 1);
	memcpy(both + len, &m[0], len);
	f.len = 2 * len;
	ck_refused(exec_run(&rq, dial_forged, &f, &status, &e), EPROTO, "out of place");
}
END_TEST

/* A dump has no length but its limit, and its agent may stop anywhere. */
START_TEST(hostile_dump)
{
	static struct {
		struct agent_header head;
		char text[AGENT_DUMP_MAX + 1];
	} bytes = {.head = {.magic = AGENT_MAGIC, .version = AGENT_VERSION, .type = AGENT_OK}};
	struct forged f = {.bytes = &bytes, .len = sizeof(bytes.head) + sizeof(bytes.text)};
	static char text[AGENT_DUMP_MAX];
	struct err e;

	memset(bytes.text, 7, sizeof(bytes.text));
	ck_assert_int_eq(agent_dump(dial_forged, &f, text, &e), -EPROTO);
	f.len--;
	ck_assert_int_eq(agent_dump(dial_forged, &f, text, &e), (int)AGENT_DUMP_MAX);
	ck_assert_mem_eq(text, bytes.text, AGENT_DUMP_MAX);
	f.len = sizeof(bytes.head);
	ck_assert_int_eq(agent_dump(dial_forged, &f, text, &e), 0);
	f.len--;
	ck_assert_int_eq(agent_dump(dial_forged, &f, text, &e), -ECONNRESET);
	f.len++;
	bytes.head.type = AGENT_INFO;
	ck_assert_int_eq(agent_dump(dial_forged, &f, text, &e), -EPROTO);
}
END_TEST

/* Why a command does not start may be said on a stream's connection only. */
START_TEST(refused_stream)
{
	struct {
		struct agent_header head;
		struct agent_error error;
		char text[4];
	} error = {{AGENT_MAGIC, AGENT_VERSION, AGENT_ERROR, sizeof(error) - sizeof(error.head), 0},
		   {EAGAIN, AGENT_REFUSED},
		   "full"};
	struct forged f = {.bytes = &error, .len = sizeof(error), .connection = 1};
	struct exec_request rq = {.argv = ARGV("true"), .tty = true};
	struct err e = {{0}};
	int status;

	ck_assert_int_eq(exec_run(&rq, dial_forged, &f, &status, &e), -EAGAIN);
	ck_assert_str_eq(e.text, "full: Resource temporarily unavailable");
	ck_assert_int_eq(status, 1);
}
END_TEST

START_TEST(shutdown_by_message)
{
	struct client c =
		start_client(&(struct exec_request){.argv = SH("echo up; exec sleep 1000")});
	char *out = NULL;
	struct result r;
	size_t len = 0;
	struct err e;

	while (len < 3)
		slurp(c.out, &out, &len);
	ck_assert_int_eq(agent_shutdown(dial_agent, NULL, AGENT_REBOOT, &e), 0);
	r = finish_client(c, "", 0);
	ck_assert_int_eq(r.status, 128 + SIGTERM);
	ck_assert_int_eq(agent_result(), AGENT_REBOOT);
	free_result(&r);
	free(out);
}
END_TEST

/* SIGTERM is not obeyed: SIGKILL follows. */
START_TEST(shutdown_by_signal)
{
	struct client c = start_client(&(struct exec_request){
		.argv = SH("trap '' TERM; echo up; while :; do sleep 0.01; done")});
	char *out = NULL;
	struct result r;
	size_t len = 0;

	while (len < 3)
		slurp(c.out, &out, &len);
	kill(agent_pid, SIGUSR2); /* as busybox' poweroff */
	r = finish_client(c, "", 0);
	ck_assert_int_eq(r.status, 128 + SIGKILL);
	ck_assert_int_eq(agent_result(), AGENT_POWEROFF);
	free_result(&r);
	free(out);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		output_and_status,
		megabytes_both_ways,
		files_as_standard_descriptors,
		command_that_reads_nothing,
		children_that_keep_the_output,
		slow_reader_stops_only_itself,
		reader_that_leaves,
		commands_that_cannot_run,
		quiet_and_limited,
		surroundings,
		signals_pass_through,
		request_too_long,
		hostile_agent,
		silent_agent,
		flood_of_notices,
		created_and_killed,
		hostile_dump,
		hostile_lists, hostile_figures, agent_that_stops_halfway,
		agent_that_has_refused_already,
		refused_stream,
		shutdown_by_message,
		shutdown_by_signal,
	};

	setenv("CK_DEFAULT_TIMEOUT", "120", 0);
	return run_tests("exec", tests, ARRAY_SIZE(tests), start_agent, stop_agent);
}
