/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands through the real client and the real core of the agent.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "guest/agent/serve.h"
#include "tests/unit/agent_fixture.h"
#include "vmm/exec.h"
#include "vmm/util.h"

#define MIB	  ((size_t)1 << 20)
#define ARGV(...) ((char *const *)(const char *const[]){__VA_ARGS__, NULL})
#define SH(...)	  ARGV("sh", "-c", __VA_ARGS__)

struct result {
	int status;
	size_t out_len, err_len;
	char *out, *err; /* end in a NUL */
};

struct client {
	pid_t pid;
	int in, out, err; /* our ends of its standard descriptors */
};

/* The client in a process of its own; fds are its descriptors 0 to 2. */
static pid_t fork_client(const struct exec_request *rq, const int fds[3])
{
	pid_t pid = fork();

	ck_assert(pid >= 0);
	if (!pid) {
		struct err e = {{0}};
		int status;

		signal(SIGPIPE, SIG_DFL);
		for (int i = 0; i < 3; i++)
			if (fds[i] != i)
				dup2(fds[i], i);
		syscall(SYS_close_range, 3, ~0u, 0); /* the other ends of the pipes */
		if (exec_run(rq, dial_agent, NULL, &status, &e))
			dprintf(2, "uvm: %s\n", e.text);
		_exit(status);
	}
	return pid;
}

static struct client start_client(const struct exec_request *rq)
{
	int in[2], out[2], err[2];
	struct client c;

	ck_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
	c.pid = fork_client(rq, (int[]){in[0], out[1], err[1]});
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c.in = in[1];
	c.out = out[0];
	c.err = err[0];
	return c;
}

static int exit_status(pid_t pid)
{
	int ws;

	ck_assert_int_eq(waitpid(pid, &ws, 0), pid);
	return WIFEXITED(ws) ? WEXITSTATUS(ws) : 1000 + WTERMSIG(ws);
}

static bool slurp(int fd, char **buf, size_t *len)
{
	ssize_t n;

	*buf = realloc(*buf, *len + 65536 + 1);
	n = read(fd, *buf + *len, 65536);
	ck_assert(n >= 0);
	*len += (size_t)n;
	(*buf)[*len] = '\0';
	return n > 0;
}

/* Feeds and reads a client until it has ended. */
static struct result finish_client(struct client c, const char *in, size_t in_len)
{
	struct result r = {.out = calloc(1, 1), .err = calloc(1, 1)};

	fcntl(c.in, F_SETFL, O_NONBLOCK);
	while (c.out >= 0 || c.err >= 0) {
		struct pollfd p[] = {{c.in, POLLOUT, 0}, {c.out, POLLIN, 0}, {c.err, POLLIN, 0}};

		if (c.in >= 0 && !in_len) {
			close(c.in);
			p[0].fd = c.in = -1;
		}
		poll(p, 3, -1);
		if (p[0].revents) {
			ssize_t n = write(c.in, in, in_len);

			if (n < 0 && errno == EPIPE)
				in_len = 0;
			else if (n > 0)
				in += n, in_len -= (size_t)n;
		}
		if (p[1].revents && !slurp(c.out, &r.out, &r.out_len))
			close(c.out), c.out = -1;
		if (p[2].revents && !slurp(c.err, &r.err, &r.err_len))
			close(c.err), c.err = -1;
	}
	if (c.in >= 0)
		close(c.in);
	r.status = exit_status(c.pid);
	return r;
}

static void free_result(struct result *r)
{
	free(r->out);
	free(r->err);
}

static struct result run(const struct exec_request *rq, const char *in, size_t in_len)
{
	return finish_client(start_client(rq), in, in_len);
}

static void expect(const struct exec_request *rq, const char *in, int status, const char *out,
		   const char *err)
{
	struct result r = run(rq, in, strlen(in));

	ck_assert_msg(r.status == status, "status %d: %s", r.status, r.err);
	ck_assert_str_eq(r.out, out);
	ck_assert_str_eq(r.err, err);
	free_result(&r);
}

static void expect_sh(const char *script, int status, const char *out, const char *err)
{
	expect(&(struct exec_request){.argv = SH(script)}, "", status, out, err);
}

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
	expect(&(struct exec_request){.argv = SH("read x; echo $x")}, "hello\nrest", 0, "hello\n",
	       "");
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

	expect(&rq, "", 127, "", "uvm: cannot run 'no-such-command': No such file or directory\n");
	rq.argv = ARGV("/no/such");
	expect(&rq, "", 127, "", "uvm: cannot run '/no/such': No such file or directory\n");
	rq.argv = ARGV("");
	expect(&rq, "", 127, "", "uvm: cannot run '': No such file or directory\n");
	rq.argv = ARGV("/etc/passwd");
	expect(&rq, "", 126, "", "uvm: cannot run '/etc/passwd': Permission denied\n");
	rq.argv = ARGV("passwd");
	rq.envp = ARGV("PATH=/etc:/nowhere");
	expect(&rq, "", 126, "", "uvm: cannot run 'passwd': Permission denied\n");
	rq = (struct exec_request){.argv = ARGV("true"), .cwd = "/no\nwhere"};
	expect(&rq, "", 127, "",
	       "uvm: cannot change the directory to '/no?where': No such file or directory\n");
}
END_TEST

START_TEST(surroundings)
{
	struct exec_request rq = {.argv = ARGV("pwd"), .cwd = "/usr/lib"};
	static const uint32_t groups[] = {7, 9};

	expect(&rq, "", 0, "/usr/lib\n", "");
	rq = (struct exec_request){.argv = ARGV("env")};
	expect(&rq, "", 0,
	       "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
	       "HOME=/root\n",
	       "");
	rq.envp = ARGV("A=b c", "PATH=/usr/bin", "HOME=/x", "TERM=y");
	expect(&rq, "", 0, "A=b c\nPATH=/usr/bin\nHOME=/x\nTERM=y\n", "");
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
	expect(&rq, "", 0, "1234\n567\n567 7 9\n/\n\n", "");
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

/* ------ terminals ------ */

/* A client on a terminal of its own; returns its pid and the master. */
static pid_t client_on_tty(const struct exec_request *rq, int *master)
{
	struct winsize ws = {.ws_row = 33, .ws_col = 101};
	pid_t pid = forkpty(master, NULL, NULL, &ws);

	ck_assert(pid >= 0);
	if (!pid) {
		struct termios before = {0}, after = {0};
		struct err e = {{0}};
		int status;

		setenv("TERM", "vt220", 1);
		tcgetattr(0, &before);
		if (exec_run(rq, dial_agent, NULL, &status, &e))
			dprintf(2, "uvm: %s\n", e.text);
		tcgetattr(0, &after);
		_exit(memcmp(&before, &after, sizeof(before)) ? 99 : status);
	}
	return pid;
}

/* Reads the master until text has come, or its end if that is NULL. Returns all that was read. */
static char *read_until(int master, const char *text)
{
	char *buf = calloc(1, 65536);
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && !(text && strstr(buf, text))) {
		n = read(master, buf + len, 65535 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	ck_assert_msg(!text || strstr(buf, text), "no '%s' in '%s'", text, buf);
	return buf;
}

START_TEST(terminal)
{
	struct exec_request rq = {
		.argv = SH("test -t 0 && test -t 1 && test -t 2 && tty >/dev/null "
			   "</dev/tty && stty size && echo $TERM && exit 4"),
		.tty = true};
	pid_t pid;
	int master;
	char *out;

	pid = client_on_tty(&rq, &master);
	out = read_until(master, NULL);
	ck_assert_str_eq(out, "33 101\r\nvt220\r\n");
	ck_assert_int_eq(exit_status(pid), 4);
	free(out);
	close(master);

	/* ^C travels as a byte, and the line discipline in the guest makes the signal of it. */
	rq.argv = SH("trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.01; done");
	pid = client_on_tty(&rq, &master);
	free(read_until(master, "ready"));
	ck_assert_int_eq(write(master, "\003", 1), 1);
	free(read_until(master, "caught"));
	ck_assert_int_eq(exit_status(pid), 6);
	close(master);

	rq.argv = SH("echo ready; cat; seq 1 20000; exit 8");
	pid = client_on_tty(&rq, &master);
	free(read_until(master, "ready\r\n"));
	ck_assert_int_eq(write(master, "abc\r\004", 5), 5);
	out = calloc(1, 1);
	for (size_t len = 0; !strstr(out, "\n20000\r\n");)
		ck_assert(slurp(master, &out, &len));
	ck_assert_int_eq(strncmp(out, "abc\r\nabc\r\n1\r\n2\r\n", 16), 0);
	ck_assert_int_eq(exit_status(pid), 8);
	free(out);
	close(master);
}
END_TEST

START_TEST(terminal_resize)
{
	struct exec_request rq = {.argv = SH("trap 'stty size; exit 0' WINCH; echo ready; "
					     "while :; do sleep 0.01; done"),
				  .tty = true};
	struct winsize ws = {.ws_row = 55, .ws_col = 77};
	pid_t pid;
	int master;

	pid = client_on_tty(&rq, &master);
	free(read_until(master, "ready"));
	ck_assert(!ioctl(master, TIOCSWINSZ, &ws));
	free(read_until(master, "55 77"));
	ck_assert_int_eq(exit_status(pid), 0);
	close(master);
}
END_TEST

/* Standard input that is no terminal and ends: ^D for the command. */
START_TEST(terminal_without_one)
{
	struct exec_request rq = {.argv = SH("cat; exit 2"), .tty = true};

	expect(&rq, "x\n", 2, "x\r\nx\r\n", "");
}
END_TEST

/* ------ what the client refuses, on either side ------ */

START_TEST(request_too_long)
{
	static char big[AGENT_EXEC_MAX];
	const char *many[AGENT_STRINGS_MAX + 2];
	struct exec_request rq = {.argv = ARGV("true", big)};

	memset(big, 'x', sizeof(big) - 1);
	expect(&rq, "", 1, "", "uvm: the command and its environment are too long\n");
	big[AGENT_EXEC_MAX - 1000] = '\0';
	expect(&rq, "", 0, "", "");
	rq = (struct exec_request){.argv = ARGV("true"), .envp = (char *const *)many};
	for (size_t i = 0; i < AGENT_STRINGS_MAX; i++)
		many[i] = "a=";
	many[AGENT_STRINGS_MAX] = NULL;
	expect(&rq, "", 1, "", "uvm: the command and its environment are too long\n");
	many[AGENT_STRINGS_MAX - 1] = NULL;
	expect(&rq, "", 0, "", "");
}
END_TEST

/* An agent that sends these bytes on the control connection and closes everything. */
struct forged {
	const void *bytes;
	size_t len;
};

static int dial_forged(void *ctx, int *fds, unsigned int n, struct err *e)
{
	const struct forged *f = ctx;

	(void)e;
	for (unsigned int i = 0; i < n; i++) {
		int pair[2];

		ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
		if (!i)
			ck_assert(!write_all(pair[1], f->bytes, f->len));
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
	struct forged f = {bytes, len};
	struct exec_request rq = {.argv = ARGV("true")};
	struct err e = {{0}};
	int status = 0;

	ck_assert_int_eq(exec_run(&rq, dial_forged, &f, &status, &e), -code);
	ck_assert_int_eq(status, 1);
	ck_assert_msg(strstr(e.text, text) != NULL, "%s", e.text);
}

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

START_TEST(hello)
{
	struct agent_info info;
	struct err e;
	int pair[2];

	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ck_assert_int_eq(hello_send(pair[1], 5), 0);
	ck_assert_int_eq(agent_hello(pair[0], &info, &e), 0);
	ck_assert_uint_eq(info.start_ns, 5);
	ck_assert(info.ready_ns > 5 && info.uptime_ns == info.ready_ns);
	ck_assert_int_eq(agent_hello(pair[0], &info, &e), -ECONNRESET);
	close(pair[0]);
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
		surroundings,
		signals_pass_through,
		terminal,
		terminal_resize,
		terminal_without_one,
		request_too_long,
		hostile_agent,
		hello,
		shutdown_by_message,
		shutdown_by_signal,
	};
	Suite *suite = suite_create("exec");
	TCase *tc = tcase_create("exec");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, start_agent, stop_agent);
	tcase_set_timeout(tc, 120);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
