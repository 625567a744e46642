/* SPDX-License-Identifier: Apache-2.0
 *
 * control: the monitor's control socket, control.sock in the run directory.
 *
 * A client sends one line and reads the answer: "ok" or "error <reason>" on a line, then for
 * some requests lines of the form "<key> <value>", then an empty line. Requests:
 *
 *   status     keys id, pid, state, agent, cpus, memory, uptime_ms, kernel, console, sandbox,
 *              jail, landlock, seccomp, uid, gid, and net.N, mac.N, mtu.N, link.N (of network device N),
 *              attached.N (of slot N)
 *   stats      keys exits.N (of vCPU N), reads.N, writes.N, flushes.N, errors.N, read_bytes.N,
 *              written_bytes.N (of disk N), rx_frames.N, rx_bytes.N, rx_dropped.N, tx_frames.N,
 *              tx_bytes.N, tx_dropped.N (of network N, as the guest sees it),
 *              vsock_received_bytes, vsock_sent_bytes, vsock_connections, balloon_target,
 *              balloon_size, and, as the guest told when that was last asked for, balloon_age_ms
 *              and what docs/control-socket.md lists
 *   pause      no vCPU runs and no disk is served until "resume", which undoes it; both may come
 *   resume     twice. A VM that is paused cannot be saved or forked
 *   poweroff   ends the VM at once, as if its power were cut, disks in order
 *   balloon N  the guest is to have given N bytes of its memory back, by and by
 *   console    the connection becomes the serial console, both ways, after the empty line
 *   snapshot NAME        writes a snapshot called NAME into the directory whose descriptor came
 *   snapshot-stop NAME   along with the line (SCM_RIGHTS); the second ends the VM after it, and the
 *   template NAME        third has a container prepared before. Key paused_us. Lines "progress <bytes
 *                        done> <bytes in all>" come before "ok".
 *   place PATH the absolute path of that directory, said before on the same connection. It is needed for a
 *              snapshot that holds only what differs from its parent, which is told of it; else one holds
 *              everything
 *   trace      what vCPUs and devices do is written, as long as the connection lasts, into the memory
 *              whose descriptor came along (vmm/trace.h)
 *   fork N [NAME]        forks the VM N times. Keys id (of each fork), paused_us
 *   attach disk IMG[,...]     puts a device into a spare slot, in front of the file, tap device or
 *   attach net KIND[,...]     socket whose descriptor came along. Keys slot, serial or mac and mtu
 *   detach SLOT          takes it out, if no driver has it
 *
 * The connection stays open for further requests, each sent after the answer to the one before,
 * and closes when the VM ends, so that a client can wait for that by reading. Only the
 * monitor's user and root are served; others are hung up on.
 */
#ifndef UVM_VMM_CONTROL_H
#define UVM_VMM_CONTROL_H

#include "vmm/console.h"
#include "vmm/end.h"
#include "vmm/loop.h"

#define CONTROL_CLIENTS 32
#define CONTROL_LINE	512  /* the longest request, newline included */
#define CONTROL_ANSWER	16384 /* the longest answer: stats of as many disks as there can be */

struct control_client {
	struct control *control; /* NULL: free */
	struct loop_source source;
	int passed;		   /* a descriptor that came with the line; -1: none */
	bool waiting;		   /* for an answer that takes its time */
	bool traces;
	uint32_t serial;	   /* of those that had this place */
	char line[CONTROL_LINE];
	size_t len;
	char place[CONTROL_LINE]; /* as "place" said; empty: nothing */
};

/* A client that waits; it may be gone when the answer comes. */
struct control_ticket {
	unsigned int client;
	uint32_t serial;
};

/* What becomes of a VM that is saved. */
enum control_snapshot {
	CONTROL_GO_ON,
	CONTROL_STOP,	  /* it ends */
	CONTROL_TEMPLATE, /* so it does; a container was prepared in it before */
};

struct control {
	struct loop *loop;
	struct end *end;
	struct console *console; /* NULL: the process is no VM, and is asked for its status and its end only */
	/* Writes the status lines, "<key> <value>\n" each, into text; returns their length. */
	size_t (*status)(void *ctx, char *text, size_t size);
	size_t (*stats)(void *ctx, char *text, size_t size);
	/* Returns 0, or -errno with a message. */
	int (*pause)(void *ctx, bool on, struct err *e);
	int (*balloon)(void *ctx, uint64_t bytes, struct err *e);
	/* Begin what takes its time, and return 0; control_answer follows, or has been called from
	 * in here. Or -errno with a message, and no answer. at becomes theirs. place: the path of at, or
	 * empty.
	 */
	int (*snapshot)(void *ctx, struct control_ticket ticket, int at, const char *place,
			const char *name, enum control_snapshot how, struct err *e);
	int (*fork)(void *ctx, struct control_ticket ticket, const char *name, unsigned int n,
		    struct err *e);
	/* Begins a trace into the memory in fd (-1: none came), which stays the caller's; and ends it. */
	int (*trace)(void *ctx, int fd, struct err *e);
	void (*trace_end)(void *ctx);
	/* Attaches what text says, in front of fd, which becomes theirs (-1: none came), and writes the
	 * answer's lines; takes it out again. Return 0, or -errno with a message.
	 */
	int (*attach)(void *ctx, const char *text, int fd, char *answer, size_t size, struct err *e);
	int (*detach)(void *ctx, unsigned int slot, struct err *e);
	void *ctx;
	struct loop_source listener;
	struct control_client client[CONTROL_CLIENTS];
};

/* Listens in the run directory dir; the members above listener are set by the caller, the rest is
 * zeroed.
 */
int control_init(struct control *c, int dir, struct err *e);

/* Sends the answer to a client that waits, if it is still there; and a line before that. */
void control_answer(struct control *c, struct control_ticket ticket, const char *text, size_t n);
void control_progress(struct control *c, struct control_ticket ticket, const char *line, size_t n);

#endif
