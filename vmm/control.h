/* SPDX-License-Identifier: Apache-2.0
 *
 * control: the monitor's control socket, control.sock in the run directory.
 *
 * A client sends one line and reads the answer: "ok" or "error <reason>" on a line, then for
 * some requests lines of the form "<key> <value>", then an empty line. Requests:
 *
 *   status     keys id, pid, state, agent, cpus, memory, uptime_ms, kernel, console
 *   poweroff   ends the VM at once, as if its power were cut, disks in order
 *   console    the connection becomes the serial console, both ways, after the empty line
 *
 * The connection stays open for further requests, each sent after the answer to the one before,
 * and closes when the VM ends, so that a client can wait for that by reading. The socket belongs to
 * the monitor's user only.
 */
#ifndef UVM_VMM_CONTROL_H
#define UVM_VMM_CONTROL_H

#include "vmm/console.h"
#include "vmm/end.h"
#include "vmm/loop.h"

#define CONTROL_CLIENTS 32
#define CONTROL_LINE	64   /* the longest request, newline included */
#define CONTROL_ANSWER	8192 /* the longest answer */

struct control_client {
	struct control *control;
	struct loop_source source; /* fd -1: free */
	char line[CONTROL_LINE];
	size_t len;
};

struct control {
	struct loop *loop;
	struct end *end;
	struct console *console;
	/* Writes the status lines, "<key> <value>\n" each, into text; returns their length. */
	size_t (*status)(void *ctx, char *text, size_t size);
	void *ctx;
	struct loop_source listener;
	struct control_client client[CONTROL_CLIENTS];
};

/* Listens in the run directory dir; the members above listener are set by the caller. */
int control_init(struct control *c, int dir, struct err *e);

#endif
