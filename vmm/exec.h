/* SPDX-License-Identifier: Apache-2.0
 *
 * exec: runs a command in a guest, with this process' standard input, output and error as its own.
 */
#ifndef UVM_VMM_EXEC_H
#define UVM_VMM_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/agent.h"
#include "vmm/err.h"

/* What to run. Everything stays the caller's. */
struct exec_request {
	char *const *argv; /* at least one, NULL at the end; looked up in the guest's PATH */
	char *const *envp; /* NAME=value, NULL at the end; or NULL. The agent adds PATH and HOME */
	const char *cwd;   /* or NULL: / */
	bool tty;	   /* give it a terminal; TERM is passed on */
	bool quiet;	   /* nothing of this process is the command's: no streams, no signals */
	uint32_t limit_ms; /* how long all of it may take, then it is killed; 0: for ever */
	bool user;	   /* uid, gid and groups count; else it is root's */
	uint32_t uid;
	uint32_t gid;
	const uint32_t *groups; /* group_count of them, AGENT_GROUPS_MAX at most */
	size_t group_count;
};

/* What the process that called for the command should exit with when it could not be run; as
 * shells have it, and 1 for all other failures.
 */
#define EXEC_NOT_EXECUTABLE 126
#define EXEC_NOT_FOUND	    127

/* Runs it to its end. Descriptors 0 to 2 are open or were closed on purpose; those that are closed
 * or are /dev/null are so in the guest as well. They are never made non-blocking, because they
 * may be shared with others. With tty, a terminal at descriptor 0 is in raw mode meanwhile. SIGINT,
 * SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go to the command's process group unless they are
 * ignored here; terminal, signal mask and handlers are afterwards as they were. One call at a time
 * in a process of one thread.
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
