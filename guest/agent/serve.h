/* SPDX-License-Identifier: Apache-2.0
 *
 * serve: the agent's work, once the guest is set up: run commands for the host and reap.
 *
 * It knows nothing of PID 1, mounts or vsock, so that the tests drive the same code on a host over
 * UNIX sockets.
 */
#ifndef UVM_AGENT_SERVE_H
#define UVM_AGENT_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/agent/freezer.h"
#include "guest/agent/identity.h"
#include "guest/agent/words.h"
#include "guest/protocol.h"

struct agent; /* agent.h; static storage, all zero */

struct serve_config {
	int listen_fd; /* a listening stream socket of any family, non-blocking; -1: only reap */
	int link_fd;   /* a socket that is or will be connected to the host, taken over; or -1 */
	bool greeted;  /* HELLO was sent on it */
	uint64_t start_ns; /* see struct agent_info */
	/* Signals every process but the caller. Called with SIGTERM when a shutdown begins, and
	 * with SIGKILL for those that are left after a while.
	 */
	void (*signal_all)(int signo);
	struct freezer *freezer;
	/* identity_take, with identity; tests have no other machine to turn theirs into. */
	int (*take_identity)(const struct identity *id, const struct agent_identity *m,
			     const char **why);
	const struct identity *identity;
	struct words *words;
	int (*mount_words)(struct words *w); /* words_mount, but for tests */
};

/* CLOCK_BOOTTIME in nanoseconds. */
uint64_t boot_ns(void);

/* Sends HELLO on fd without waiting. Returns 0, -EAGAIN when the connection is not made yet, or
 * -errno when it never will be. Nobody listening is no error of the guest's: the host need not
 * care.
 */
int hello_send(int fd, uint64_t start_ns);

/* Serves until a shutdown is asked for, by message or by signal (as busybox' and systemd's tools
 * send it), and until the processes have ended or had their time. Returns the mode, or -errno when
 * it could not begin. The caller has descriptors 0 to 2 open and ignores SIGPIPE.
 */
int serve(struct agent *a, const struct serve_config *config);

#endif
