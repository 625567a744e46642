/* SPDX-License-Identifier: Apache-2.0
 *
 * exec: runs a command in a guest, with this process' standard input, output and error as its own.
 */
#ifndef UVM_VMM_EXEC_H
#define UVM_VMM_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/agent.h"
#include "vmm/err.h"

struct container_spec;

/* What to run, and how. Everything stays the caller's; what is zero is left as it is usual. */
struct exec_request {
	char *const *argv; /* at least one, NULL at the end; looked up in the guest's PATH */
	char *const *envp; /* NAME=value, NULL at the end; or NULL. The agent adds PATH and HOME */
	const char *cwd;   /* or NULL: / */
	bool tty;	   /* give it a terminal; TERM is passed on */
	bool quiet;	   /* nothing of this process is the command's: no streams, no signals */
	bool user;	   /* uid, gid and groups count; else it is root's */
	uint32_t uid;
	uint32_t gid;
	const uint32_t *groups; /* group_count of them, AGENT_GROUPS_MAX at most */
	size_t group_count;
	const char *user_name; /* "user" or "user:group", looked up in the guest; not with user */
	const struct agent_caps *caps; /* or NULL: all */
	const struct agent_rlimit *rlimits;
	size_t rlimit_count;
	const uint64_t *filter; /* a seccomp filter: struct sock_filter as numbers */
	size_t filter_count;
	uint32_t flags; /* enum agent_exec_flags, but for USER, NAMED and CAPS */
	uint32_t umask; /* with AGENT_EXEC_UMASK */
	int32_t oom_score_adj;			/* with AGENT_EXEC_OOM */
	const char *container;			/* in which it runs; NULL: the guest itself */
	const struct container_spec *create;	/* it is the first process of this one, which is made */

	/* exec_run's alone. */
	const int *fds;	     /* its three standard descriptors here, -1: none; NULL: 0, 1 and 2 */
	uint64_t timeout_ms; /* after which it is killed and its status is EXEC_TIMED_OUT; 0: never */
	int cancel; /* once this descriptor can be read, the guest is gone; 0: none */
	/* In place of write(2) to a descriptor for output; returns as that does, and never waits. */
	ssize_t (*write)(void *ctx, int fd, const void *data, size_t len);
	void (*created)(void *ctx); /* with create that does not start it: it waits for START */
	void (*started)(void *ctx); /* it runs */
	/* create's memory limit has killed processes: how many so far, which has grown. Or NULL. */
	void (*out_of_memory)(void *ctx, uint64_t kills);
	void *ctx;
};

/* What the process that called for the command should exit with when it could not be run, as shells
 * have it, or not to its end, as timeout(1); and 1 for all other failures.
 */
#define EXEC_TIMED_OUT	    124
#define EXEC_NOT_EXECUTABLE 126
#define EXEC_NOT_FOUND	    127

/* Runs it to its end; a container lives on without it. Descriptors 0 to 2 are open or were closed on
 * purpose; those that are closed or are /dev/null are so in the guest as well. They are never made
 * non-blocking, because they may be shared with others. With tty, a terminal at the first is in raw
 * mode meanwhile. SIGINT,
 * SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go to the command's process group unless they are
 * ignored here; terminal, signal mask and handlers are afterwards as they were. One call at a time
 * in a process; its other threads, if there are any, have these signals blocked.
 *
 * *status is always set: the command's exit status, 128 + n when signal n ended it, or one of the
 * above. Returns 0, or -errno with the message set.
 */
int exec_run(const struct exec_request *rq, agent_dial_fn *dial, void *ctx, int *status,
	     struct err *e);

/* For exec_run: makes the payload of the EXEC for rq. head has the key, the streams and the window
 * size, and gets the rest. *payload is malloc'ed and becomes the caller's. Returns 0 or -errno with
 * the message set.
 */
int exec_encode(const struct exec_request *rq, struct agent_exec *head, uint8_t **payload,
		size_t *size, struct err *e);

#endif
