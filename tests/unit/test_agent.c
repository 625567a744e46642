/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's real core and the real exec client, over a UNIX socket on this host. Every test has
 * an agent of its own in a child process, and ends by asking that it holds nothing any more: no
 * session, no connection, no descriptor, no process.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "vmm/agent.h"
#include "vmm/exec.h"
#include "vmm/util.h"

#define MIB	    (1024 * 1024)
#define SEQUENCE    2000 /* commands, one after the other */
#define PATIENCE_NS (UINT64_C(20) * 1000000000)
#define ARGV(...)   ((char *const[]){__VA_ARGS__, NULL})
#define SH(script)                                                                                 \
	ARGV((char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)(script))
#define OUT_STREAMS	(1u << AGENT_STDOUT | 1u << AGENT_STDERR)
#define EXEC_PAYLOAD(s) ((const struct agent_exec *)(const void *)(s))

static pid_t agent_pid;
static int listener;
static int idle_fds; /* what the agent has open when nothing goes on */

/* ------ the agent under test ------ */

static struct sockaddr_un address(socklen_t *size)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	/* Abstract: works where the file system has no sockets, and leaves nothing behind. */
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1,
					     "uvm-test-agent-%d", getpid()));
	return a;
}

static int dial(void *ctx, int *fds, unsigned int n, struct err *e)
{
	const struct sockaddr_un *a = ctx;
	socklen_t size =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->sun_path + 1));

	for (unsigned int i = 0; i < n; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fds[i] < 0 || connect(fds[i], (const struct sockaddr *)a, size)) {
			int r = err_sys(e, "connect");

			for (unsigned int k = 0; k <= i; k++)
				close(fds[k]);
			return r;
		}
	}
	return 0;
}

static struct sockaddr_un the_address;

/* How many children pid has; with signo, each gets it. Zombies count: they are to be reaped. */
static int children(pid_t pid, int signo)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	int n = 0;

	while ((d = readdir(proc))) {
		char path[300], line[512] = "", state;
		int parent, fd;

		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		fd = atoi(d->d_name) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (read(fd, line, sizeof(line) - 1) > 0 && strrchr(line, ')') &&
		    sscanf(strrchr(line, ')') + 1, " %c %d", &state, &parent) == 2 &&
		    parent == pid) {
			n++;
			if (signo)
				kill(atoi(d->d_name), signo);
		}
		close(fd);
	}
	closedir(proc);
	return n;
}

static void signal_children(int signo)
{
	children(getpid(), signo);
}

static int count_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	ck_assert(dir != NULL);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void start_agent(void)
{
	static struct agent agent;
	struct err e;
	struct agent_info info;
	socklen_t size;
	struct serve_config config = {.hello_fd = -1, .signal_all = signal_children};

	signal(SIGPIPE, SIG_IGN);
	the_address = address(&size);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert(!bind(listener, (struct sockaddr *)&the_address, size));
	ck_assert(!listen(listener, 4096));
	agent_pid = fork();
	if (!agent_pid) {
		int r;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* As PID 1 it adopts orphans, and has no descriptors but its own. */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
		config.listen_fd = listener;
		r = serve(&agent, &config);
		_exit(r < 0 ? 100 : r);
	}
	ck_assert_int_eq(agent_ping(dial, &the_address, &info, &e), 0);
	ck_assert_int_eq(info.sessions, 0);
	do
		idle_fds = count_fds(agent_pid);
	while (!agent_ping(dial, &the_address, &info, &e) && info.connections > 1);
	idle_fds = count_fds(agent_pid);
}

/* Waits until the agent is as it was at the start; it must get there by itself. */
static void settle(void)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;
	struct agent_info info = {0};
	int fds = 0, kids = 0;
	struct err e;

	while (now_ns() < deadline) {
		ck_assert_msg(!agent_ping(dial, &the_address, &info, &e), "%s", e.text);
		if (!info.sessions && info.connections == 1 && !(kids = children(agent_pid, 0)) &&
		    (fds = count_fds(agent_pid)) <= idle_fds + 1)
			return;
		sched_yield();
	}
	ck_abort_msg("left behind: %u sessions, %u connections, %d processes, %d descriptors",
		     info.sessions, info.connections - 1, kids, fds - idle_fds);
}

static void stop_agent(void)
{
	settle();
	kill(agent_pid, SIGKILL);
	waitpid(agent_pid, NULL, 0);
	close(listener);
}

/* ------ commands through the real client ------ */

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
		if (exec_run(rq, dial, &the_address, &status, &e))
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

		/* The signal goes to the group, so to the child also. */
		snprintf(script, sizeof(script),
			 "(trap 'exit 0' %d; echo a; while :; do sleep 0.01; done) &"
			 "trap 'wait; exit 9' %d; echo b; while :; do sleep 0.01; done",
			 signals[i], signals[i]);
		c = start_client(&(struct exec_request){.argv = SH(script)});
		while (len < 4)
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
		struct termios before, after;
		struct err e = {{0}};
		int status;

		setenv("TERM", "vt220", 1);
		tcgetattr(0, &before);
		if (exec_run(rq, dial, &the_address, &status, &e))
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

	rq.argv = SH("cat; seq 1 20000; exit 8");
	pid = client_on_tty(&rq, &master);
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

/* ------ the protocol itself ------ */

static int connect_agent(void)
{
	struct err e;
	int fd;

	ck_assert_msg(!dial(&the_address, &fd, 1, &e), "%s", e.text);
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
settle_not:
	other = send_exec(5, OUT_STREAMS, "true");
	(void)&&settle_not;
	expect_error(other, EINVAL);
	expect_error(send_attach(5, AGENT_STDIN), EINVAL);
	expect_error(send_attach(5, 99), EINVAL);
	other = send_attach(5, AGENT_STDOUT);
	expect_error(send_attach(5, AGENT_STDOUT), EINVAL);
	close(other);
	close(fd);
}
END_TEST
