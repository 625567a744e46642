/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client_fixture.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/agent_fixture.h"

pid_t fork_client(const struct exec_request *rq, const int fds[3])
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

struct client start_client(const struct exec_request *rq)
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

int exit_status(pid_t pid)
{
	int ws;

	ck_assert_int_eq(waitpid(pid, &ws, 0), pid);
	return WIFEXITED(ws) ? WEXITSTATUS(ws) : 1000 + WTERMSIG(ws);
}

bool slurp(int fd, char **buf, size_t *len)
{
	ssize_t n;

	*buf = realloc(*buf, *len + 65536 + 1);
	n = read(fd, *buf + *len, 65536);
	ck_assert(n >= 0);
	*len += (size_t)n;
	(*buf)[*len] = '\0';
	return n > 0;
}

struct result finish_client(struct client c, const char *in, size_t in_len)
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

void free_result(struct result *r)
{
	free(r->out);
	free(r->err);
}

struct result run(const struct exec_request *rq, const char *in, size_t in_len)
{
	return finish_client(start_client(rq), in, in_len);
}

void expect_run(const struct exec_request *rq, const char *in, int status, const char *out,
		const char *err)
{
	struct result r = run(rq, in, strlen(in));

	ck_assert_msg(r.status == status, "status %d: %s", r.status, r.err);
	ck_assert_str_eq(r.out, out);
	ck_assert_str_eq(r.err, err);
	free_result(&r);
}

void expect_sh(const char *script, int status, const char *out, const char *err)
{
	expect_run(&(struct exec_request){.argv = SH(script)}, "", status, out, err);
}
