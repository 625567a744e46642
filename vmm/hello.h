/* SPDX-License-Identifier: Apache-2.0
 *
 * hello: learns when the guest's agent is ready. The agent connects to the host's vsock port
 * AGENT_PORT once it can run commands and sends HELLO (guest/protocol.h); this listens there, on
 * a socket in the run directory like any program on the host would.
 */
#ifndef UVM_VMM_HELLO_H
#define UVM_VMM_HELLO_H

#include "guest/protocol.h"
#include "vmm/loop.h"

struct hello {
	struct loop *loop;
	struct loop_source listener, conn; /* fd -1: none */
	uint8_t message[sizeof(struct agent_header) + sizeof(struct agent_info)];
	size_t got;
	void (*ready)(void *ctx); /* called once, on the loop */
	void *ctx;
	bool seen;
	bool complained; /* of something else than HELLO; once is enough */
};

/* Listens in the directory dir for the vsock socket called vsock_name; ready and ctx are set by
 * the caller before. Returns 0 or -errno.
 */
int hello_init(struct hello *h, int dir, const char *vsock_name, struct loop *loop, struct err *e);

#endif
