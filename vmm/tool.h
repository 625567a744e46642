/* SPDX-License-Identifier: Apache-2.0
 *
 * tool: programs of the host that do a part of the work: one that makes a file system, one that
 * decompresses. They are found in absolute directories only, get no descriptor but the three that
 * are meant for them, and end with us. What they say is shown when they fail.
 */
#ifndef UVM_VMM_TOOL_H
#define UVM_VMM_TOOL_H

#include <limits.h>
#include <sys/types.h>

#include "vmm/err.h"
#include "vmm/meter.h"

struct tool {
	const char *name;
	pid_t pid;
	int said; /* a descriptor: what it wrote to standard error */
};

/* Starts argv[0], which is in `package` of Debian (for the message when it is missing), with these
 * descriptors as standard input and output; -1 is /dev/null. argv lasts until tool_end. Returns 0
 * or -errno.
 */
int tool_start(struct tool *t, const char *const *argv, const char *package, int in, int out,
	       struct err *e);

/* Waits for its end, and shows the meter meanwhile (or NULL). Returns 0 if its exit status was 0,
 * else -EIO with its name, and what it said or how it ended, in e.
 */
int tool_end(struct tool *t, struct meter *m, struct err *e);

/* Ends it at once, if it still runs; also for a zeroed one. */
void tool_kill(struct tool *t);

#endif
