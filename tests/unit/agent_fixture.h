/* SPDX-License-Identifier: Apache-2.0
 *
 * agent_fixture: the agent's real core in a child process, over a UNIX socket on this host; for
 * the tests of the agent and of its client. Every test has an agent of its own and ends by asking
 * that it holds nothing any more: no session, no connection, no descriptor, no process.
 */
#ifndef UVM_TESTS_AGENT_FIXTURE_H
#define UVM_TESTS_AGENT_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/agent.h"

/* What a test waits at the most for something that must come. */
#define PATIENCE_NS (UINT64_C(60) * 1000000000)

extern pid_t agent_pid; /* of the agent under test */

/* Fixture: starts the agent. */
void start_agent(void);

/* Fixtures: with a link, and with a freezer too where this host lets one be made (has_freezer). */
void start_linked_agent(void);
void start_freezable_agent(void);
extern int link_fd; /* the host's end; a test that closes it sets it to -1 */
extern bool has_freezer;

/* What IDENTITY has done: it does not touch this host. */
struct identity_record {
	unsigned int times;
	struct agent_identity last;
	int result; /* what the next one shall return; set by the test */
	unsigned int mounts;	/* that words have asked for; made are none */
	int mount_result;
};
extern struct identity_record *identity_record;

/* What the agent has in memory of the last IDENTITY. */
void read_agent_identity(struct agent_identity *m);

/* Makes a cgroup of version 2 for this test, below the root, and returns its path; NULL if this
 * host does not allow it. The other removes it with those below, whose processes have ended.
 */
const char *make_cgroup(void);
void remove_cgroup(void);

/* Fixture: waits as settle() does and then kills the agent, unless it has ended before. */
void stop_agent(void);

/* An agent_dial_fn to the agent under test; needs no ctx. */
int dial_agent(void *ctx, int *fds, unsigned int n, struct err *e);

/* Asks the agent how it is. Returns 0 or -errno. */
int ping_agent(struct agent_info *i, struct err *e);

/* Waits until the agent is as it was at the start, or has lost its link since. It must get there by
 * itself.
 */
void settle(void);

/* Waits until the agent has n sessions. */
void await_sessions(uint32_t n);

/* The agent's exit status, waited for; it is serve()'s result. */
int agent_result(void);

#endif
