/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands with a terminal, through the real client on a terminal of its own and the real core of
 * the agent.
 */
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "tests/unit/agent_fixture.h"
#include "tests/unit/client_fixture.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

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

	expect_run(&rq, "x\n", 2, "x\r\nx\r\n", "");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		terminal,
		terminal_resize,
		terminal_without_one,
	};

	return run_tests("terminal", tests, ARRAY_SIZE(tests), start_agent, stop_agent);
}
