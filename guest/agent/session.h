/* SPDX-License-Identifier: Apache-2.0
 *
 * session: what the files of a session know of each other: session.c, the session and its clients; streams.c,
 * what carries its process' input and output; report.c, what comes from the process until its program runs.
 * For others there is agent.h.
 */
#ifndef UVM_AGENT_SESSION_H
#define UVM_AGENT_SESSION_H

#include "guest/agent/agent.h"

/* --- session.c --- */

/* Sends a message to all that listen to it. */
void session_tell(struct agent *a, struct session *s, enum agent_type type, const void *payload, uint32_t length);
void session_tell_started(struct agent *a, struct session *s);

/* Whether it will not end with its client. */
bool session_wants_keep(const struct session *s);

/* Gives back what a large request took. */
void session_drop_request(struct agent *a, struct session *s);

/* An order is done: its connection is free for the next one. */
void session_order_done(struct agent *a, struct session *s, bool answered);

/* All that its process wrote has gone out. */
void session_finish(struct agent *a, struct session *s);

/* --- streams.c --- */

void session_close_fd(int *fd);

/* Moves a descriptor to a new owner. */
int session_take(int *fd);

/* Both ends of what connects a process with the agent. */
struct plumbing {
	int child[3];
	int ours[3]; /* the other end of the pipes */
	int report[2];
};

/* Pipes for the streams that are wanted and /dev/null for the rest. Returns 0 or -1 with errno. */
int plumbing_pipes(struct plumbing *p, uint32_t streams);

/* What is left of it. */
void plumbing_close(struct plumbing *p);

/* Joins the streams with the plumbing. */
void session_join_pipes(struct agent *a, struct session *s, struct plumbing *p);

/* Socket -> pipe -> master, and master -> pipe -> socket. Takes over master. Returns 0 or -1. */
int session_join_tty(struct agent *a, struct session *s, int master);

/* Has the loop look at what was joined. Returns 0, or other than 0 without memory. */
int session_watch_pumps(struct agent *a, struct session *s);

/* Whether there is more to carry. */
bool session_pumps(const struct session *s);

/* The process is gone: input is of no use any more, and output ends with what it has written, though a child
 * that it left behind may hold the pipe open.
 */
void session_drain(struct session *s);

/* Steps the pumps first to last until nothing moves or their turn is over. */
void session_pump_some(struct agent *a, struct session *s, int first, int last);

/* --- report.c --- */

/* Something came from the process that is on its way to its program. */
void session_report(struct agent *a, struct session *s);

#endif
