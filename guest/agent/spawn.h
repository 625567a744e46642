/* SPDX-License-Identifier: Apache-2.0
 *
 * spawn: an EXEC message becomes a process.
 */
#ifndef UVM_AGENT_SPAWN_H
#define UVM_AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/freezer.h"
#include "guest/agent/words.h"
#include "guest/protocol.h"

/* The command, as pointers into the payload of an EXEC. */
struct command {
	struct agent_exec exec;
	const uint32_t *groups; /* exec.group_count of them */
	char *strings;		/* the directory, argc arguments, envc variables */
};

/* Reads an EXEC's payload of length bytes into c, whose pointers lead into it. Returns NULL, or
 * what is wrong with it as a text that is never freed.
 */
const char *command_parse(struct command *c, void *payload, uint32_t length);

/* Where the new process' descriptors 0 to 2 come from, all close-on-exec and above 2. */
struct stdio {
	int fd[3];
	bool tty; /* they are a terminal, which becomes the controlling one */
};

/* Forks (f decides how). The child is the leader of a new session with default signals and nothing
 * of the agent's; it takes up its directory and user and runs the program, looked up in the PATH of
 * its own environment, to which the variables of w are added. When that fails, it writes the payload
 * of an ERROR message to report, a pipe that closes on exec, and is gone: so the end of file on
 * report says that the program runs.
 *
 * fork and not vfork: the agent would stand still while the program's file is read, which a
 * file system served from inside the guest could make last for ever.
 *
 * Returns the process id, or -errno.
 */
pid_t spawn(const struct command *c, const struct stdio *io, int report, struct freezer *f,
	    const struct words *w);

/* Appends what fits of text to the n bytes in buf; returns how many there are now. No NUL. */
size_t append(char *buf, size_t size, size_t n, const char *text);

#endif
