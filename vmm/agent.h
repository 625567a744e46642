/* SPDX-License-Identifier: Apache-2.0
 *
 * agent: the host's side of the guest agent's protocol: messages out, messages in, and the orders
 * that need no session. exec.h runs commands, link.h holds the connection that the agent makes.
 *
 * The guest is taken as hostile: what it sends is bounded, checked against the one layout that its
 * type has, and waited for no longer than AGENT_HANDSHAKE_MS.
 */
#ifndef UVM_VMM_AGENT_H
#define UVM_VMM_AGENT_H

#include <stddef.h>
#include <stdint.h>

#include "guest/protocol.h"
#include "vmm/err.h"

/* Makes n connections to the agent's port, ready for its messages, and stores them at fds; they
 * become the caller's. All at once, because each costs a round trip through the guest: an
 * implementation sends every CONNECT before it reads the first OK. Returns 0, or -errno with the
 * message set and no descriptor left open.
 */
typedef int agent_dial_fn(void *ctx, int *fds, unsigned int n, struct err *e);

/* A message from the agent, complete or on its way in. Begins as all zero. */
struct agent_message {
	size_t got; /* bytes, the header included */
	struct agent_header head;
	union {
		struct agent_info info;
		struct agent_started started;
		struct agent_exited exited;
		struct agent_notice notice;
		struct agent_plugged plugged;
		struct {
			struct agent_error error;
			char text[AGENT_TEXT_MAX + 1]; /* ends in a NUL once complete */
		};
		uint8_t bytes[AGENT_ANSWER_MAX];
	};
};

/* Receives what is there of one message, never waits, and takes nothing that comes after it. m is
 * carried from call to call; set m->got to 0 for the next message. Returns 1 when it is complete
 * and what it should be, 0 when there is more to come, or -errno with the message set: -ECONNRESET
 * when the agent has closed, -EPROTO for what no agent sends.
 */
int agent_receive(int fd, struct agent_message *m, struct err *e);

/* Receives a whole message, waiting until the time deadline_ns (see now_ns()). Returns 0 or
 * -errno as above, -ETIMEDOUT among them. An ERROR becomes its own errno and text.
 */
int agent_await(int fd, struct agent_message *m, uint64_t deadline_ns, struct err *e);

/* Sends a message, waiting no longer than deadline_ns. Where the agent has refused before it took
 * everything, its reason is the error. Returns 0 or -errno with the message set.
 */
int agent_send(int fd, enum agent_type type, const void *payload, size_t length,
	       uint64_t deadline_ns, struct err *e);

/* What a complete ERROR says, as a message and -errno. */
int agent_error(const struct agent_message *m, struct err *e);

/* When an answer to a request that is sent now is overdue. */
uint64_t agent_deadline(void);

/* One request on a connection of its own, whose answer is OK. Returns 0 or -errno with the message
 * set: what the agent says as an error, or -ECONNRESET when it closed without a word.
 */
int agent_order(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
		size_t length, struct err *e);

/* The same of what may take longer: until deadline_ns. */
int agent_order_until(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
		      size_t length, uint64_t deadline_ns, struct err *e);

/* An answer that is longer than others: things of a kind, as many as there are. */
struct agent_list {
	enum agent_type type; /* of the answer */
	size_t unit;	      /* bytes of each */
	void *data;	      /* the caller's, of size bytes */
	size_t size;
	size_t count; /* what has come */
};

/* One request about a container ("": the guest) on a connection of its own, whose answer is a list.
 * What is in it is the guest's word. Returns 0 or -errno with the message set.
 */
int agent_fetch(agent_dial_fn *dial, void *ctx, enum agent_type type, const char *container,
		struct agent_list *l, uint64_t deadline_ns, struct err *e);

/* Sends a signal to a container's first process, or to all in it. As agent_order. */
int agent_kill(agent_dial_fn *dial, void *ctx, const char *container, int signo,
	       enum agent_kill_scope scope, struct err *e);

/* What a container, or with an empty name the guest, has used so far. As agent_fetch. */
int agent_stats(agent_dial_fn *dial, void *ctx, const char *container, uint64_t deadline_ns,
		struct agent_properties *to, struct err *e);

/* Tells the guest of a device in a virtio slot, with words for an interface (NULL: none); and that one will go,
 * as struct agent_unplug has it. `to` gets what the guest calls it, as a name of letters, digits and _.-, or
 * nothing. Returns 0 or -errno with the message set.
 */
int agent_plug(agent_dial_fn *dial, void *ctx, unsigned int slot, const char *words,
	       struct agent_plugged *to, struct err *e);
int agent_unplug(agent_dial_fn *dial, void *ctx, uint32_t slots, const char *name,
		 struct agent_plugged *to, struct err *e);

/* What the agent and the guest are doing, as a text: AGENT_DUMP_MAX bytes at the most at text. They are
 * the guest's: anything may be in it. Returns its length, or -errno with the message set.
 */
int agent_dump(agent_dial_fn *dial, void *ctx, char text[AGENT_DUMP_MAX], struct err *e);

/* Tells the guest to power off or reboot. 0: it was told so, not that it has done it. */
int agent_shutdown(agent_dial_fn *dial, void *ctx, enum agent_shutdown_mode mode, struct err *e);

#endif
