/* SPDX-License-Identifier: Apache-2.0
 *
 * link: the connection that the guest's agent keeps to the monitor for as long as the guest lives.
 *
 * Theory of operation. The agent connects to the host's vsock port AGENT_PORT as soon as it can run
 * commands and sends HELLO, which is how the monitor learns that the guest is ready. From then on
 * the monitor sends orders on it (guest/protocol.h: FREEZE, THAW, IDENTITY, CMDLINE), one at a time. Nothing
 * listens on a socket file: the guest's stream is a pair of sockets, whose one end the vsock device
 * moves bytes to and from (vsock_unix_serve, link_connect), and whose other end is here.
 *
 * It is the one connection that a clone inherits. The device's part of it is in the snapshot, and
 * link_restore makes the sockets anew; a request that is made then, before the guest runs, is what
 * the agent finds first.
 *
 * What comes from the guest is checked by agent.c. Whoever says something else than an agent would
 * loses the connection. An answer that comes too late is known by its tag, and dropped.
 */
#ifndef UVM_VMM_LINK_H
#define UVM_VMM_LINK_H

#include "vmm/agent.h"
#include "vmm/loop.h"

/* How a request ended: 0, or -errno with the message set. On the loop; may make the next one. */
typedef void link_done_fn(void *ctx, int result, struct err *e);

struct link {
	struct loop *loop;
	struct loop_source conn, timer; /* conn.fd is -1 when there is no connection */
	struct agent_message in;
	bool greeted;	    /* HELLO has come on this connection */
	bool seen;	    /* ... and on any: ready was called */
	bool complained;    /* of something that no agent says; once is enough */
	uint32_t tag;	    /* of the latest request */
	link_done_fn *done; /* of the request that is not answered yet, or NULL */
	void *done_ctx;
	void (*ready)(void *ctx); /* called once, on the loop, at the first HELLO; or NULL */
	void *ctx;
};

/* Begins without a connection; ready and ctx are set by the caller before, all else is overwritten.
 * Returns 0 or -errno.
 */
int link_init(struct link *l, struct loop *loop, struct err *e);

/* Ends a request with -ECONNRESET, and closes everything. */
void link_close(struct link *l);

/* The guest connects: for vsock_unix_serve, with the link as ctx. Returns the device's end of the
 * connection, which becomes the caller's; -EBUSY while there is one; or -errno.
 */
int link_connect(void *ctx);

/* The connection as a clone inherits it, after HELLO; ready is not called for it. Returns the
 * device's end or -errno.
 */
int link_restore(struct link *l, struct err *e);

/* Whether a request can be made, if none is under way. */
bool link_up(const struct link *l);

/* Sends a message whose answer is OK or ERROR. done is called with 0 for OK, the error that ERROR
 * names, -ETIMEDOUT, or -ECONNRESET when the connection ends before; never from in here. Returns 0
 * or, when done will not be called, -errno with the message set: -ENOTCONN without a link, -EBUSY
 * when a request is under way.
 */
int link_request(struct link *l, enum agent_type type, const void *payload, size_t len,
		 unsigned int timeout_ms, link_done_fn *done, void *ctx, struct err *e);

#endif
