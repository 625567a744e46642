/* SPDX-License-Identifier: Apache-2.0
 *
 * client_fixture: the real exec client (vmm/exec.c) in processes of its own, against the agent of
 * agent_fixture.
 */
#ifndef UVM_TESTS_CLIENT_FIXTURE_H
#define UVM_TESTS_CLIENT_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/exec.h"

/* Argument lists, as struct exec_request wants them; SH's is a shell's, with a script. */
#define ARGV(...) ((char *const *)(const char *const[]){__VA_ARGS__, NULL})
#define SH(...)	  ARGV("sh", "-c", __VA_ARGS__)

struct client {
	pid_t pid;
	int in, out, err; /* our ends of its standard descriptors */
};

/* What a client did. */
struct result {
	int status;
	size_t out_len, err_len;
	char *out, *err; /* malloc'ed, end in a NUL */
};

/* A client whose descriptors 0 to 2 are fds. */
pid_t fork_client(const struct exec_request *rq, const int fds[3]);

/* A client on three pipes. */
struct client start_client(const struct exec_request *rq);

/* Feeds a client in_len bytes and the end, and reads it until it has ended. */
struct result finish_client(struct client c, const char *in, size_t in_len);

/* Both. */
struct result run(const struct exec_request *rq, const char *in, size_t in_len);

void free_result(struct result *r);

/* Runs, and expects this status and these outputs; a client's own error message is on err. */
void expect_run(const struct exec_request *rq, const char *in, int status, const char *out,
		const char *err);
void expect_sh(const char *script, int status, const char *out, const char *err);

/* The exit status of a process, or 1000 + its signal. */
int exit_status(pid_t pid);

/* Reads once, appending to *buf, which is malloc'ed and kept NUL-terminated. False at the end. */
bool slurp(int fd, char **buf, size_t *len);

#endif
