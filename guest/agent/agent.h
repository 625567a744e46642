/* SPDX-License-Identifier: Apache-2.0
 *
 * agent: the state of the agent, for the files that serve its connections.
 *
 * Theory of operation. One thread, one epoll instance, every descriptor non-blocking and
 * registered once, edge-triggered (but the listening socket, see watch()): an event only says "try
 * again", so nothing keeps track of which event is wanted, a stale one does no harm, and an idle
 * guest never wakes.
 *
 *   serve.c    the loop: new connections, signals, reaping, the way down
 *   conn.c     a connection until it becomes a stream: messages in, messages out
 *   link.c     orders on the one connection that the agent made itself: freeze, thaw, identity
 *   session.c  one command: its streams, its process, its end
 *   container.c  containers, and orders about them
 *   request.c  what is in large requests
 *   spawn.c    what a process does before exec; with user.c
 *   contain.c  what makes it a container's; with mount.c
 *   prepare.c  a container that waits to be asked for
 *   own.c      programs of the agent's own; with archive.c, changes.c
 *   stats.c    figures of containers and the guest; dump.c: for people
 *   cgroup.c   the cgroups of containers; with devices.c
 *   pump.c     bytes
 *   freezer.c  stops all processes
 *   identity.c what tells this guest from others
 *   words.c    what the agent is told by a command line
 *   net.c      network interfaces
 *   plug.c     devices that come and go
 *
 * Memory is this one structure: fixed tables, no allocation. Pages of the request buffers are
 * touched only when a request needs them and are given back when it was a large one.
 *
 * A peer that has a slot and does not get on keeps it until somebody else needs one: then
 * whoever has stalled for longer than AGENT_HANDSHAKE_MS makes room. So there are no timers.
 */
#ifndef UVM_AGENT_AGENT_H
#define UVM_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/container.h"
#include "guest/agent/prepare.h"
#include "guest/agent/pump.h"
#include "guest/agent/serve.h"
#include "guest/agent/spawn.h"
#include "guest/protocol.h"

enum conn_state {
	CONN_FREE = 0,
	CONN_CALLING, /* the link, on which HELLO is still to be sent */
	CONN_OPEN,    /* messages come in */
	CONN_PARKED, /* has sent ATTACH for a session that is not known yet; what follows is data */
};

struct conn {
	enum conn_state state;
	int fd;
	uint32_t got; /* bytes received of the current message, header included */
	struct agent_header head;
	union {
		struct agent_attach attach;
		struct agent_signal signal;
		struct agent_resize resize;
		struct agent_shutdown shutdown;
		struct agent_name name;
		struct agent_wait wait;
		struct agent_kill kill;
	} body;			 /* those of other types go elsewhere, see payload_of() */
	struct session *session; /* that it hears of, as its control connection or not; or NULL */
	uint32_t tag;		 /* for all that it is told about that */
	bool starting;		 /* it waits for the program to run, and for no more */
	uint64_t since_ms;	 /* when it was accepted */
};

enum session_state {
	SESSION_FREE = 0,
	SESSION_RECEIVING, /* its request is coming in */
	SESSION_ATTACHING, /* its streams are coming in */
	SESSION_STARTING,  /* forked; the report will tell whether the program runs */
	SESSION_CREATED,   /* a container's, set up, and waiting for START */
	SESSION_RUNNING,
	SESSION_DRAINING, /* reaped; what it wrote is on its way out */
	SESSION_ENDED,	  /* and gone out; how it ended is kept for WAIT */
};

/* A terminal takes four: in and out, each through a pipe, because splice needs one. */
#define SESSION_PUMPS 4

/* Of an EXEC or a CREATE: a process. Other requests that are large, or take a process to be done, are
 * one for as long as they take.
 */
struct session {
	enum session_state state;
	uint16_t type;	      /* of its request */
	struct conn *control; /* whose loss is its end, unless it is kept; NULL: that is gone */
	uint32_t watchers;    /* other connections that hear of it */
	bool keep;	      /* it goes on without a client, and how it ended is for WAIT to ask */
	bool detached;	      /* from the clients of another guest */
	bool go;	      /* its process need not wait for START, or no longer */
	struct container *container; /* whose first process this is, or NULL */
	uint32_t length;	     /* of the request's payload */
	uint64_t since_ms;	     /* when that came */
	uint32_t missing;     /* streams that are still to be attached, 1 << enum agent_stream */
	int stream[AGENT_STREAMS]; /* attached and not yet pumped, or -1 */
	struct command command;	   /* from ATTACHING until the fork */
	pid_t pid;		   /* from STARTING until reaped; also its process group */
	int report;		   /* see spawn.h; -1 except in STARTING and CREATED */
	uint32_t started_pid;	   /* what STARTED says */
	int wait_status;
	bool tty;
	bool busy; /* stopped pumping only to let others have their turn */
	struct pump pump[SESSION_PUMPS];
};

struct agent {
	const struct serve_config *config;
	int cgroups; /* the home of containers' cgroups, or -1: there was none yet */
	int pid_ns;  /* the agent's PID namespace, or -1 likewise */
	char why[AGENT_TEXT_MAX + 1]; /* the text of an error that is not always the same */
	int epoll;
	int signals; /* signalfd */
	int null;    /* /dev/null */
	bool busy;   /* some session is */
	uint64_t ready_ns;
	enum agent_shutdown_mode stop;	/* 0: not asked to */
	pid_t stop_asker;		/* the process that asked for it by a signal, or 0 */
	unsigned int stop_step;		/* how far that has got: the next of the steps to take */
	uint64_t stop_deadline_ms;	/* when that is to be */
	struct conn *link;		/* the connection that the agent has made, or NULL */
	bool frozen;			/* nothing but the link is served */
	int priority; /* the agent's, when it is not frozen; getpriority(2) */
	struct agent_identity identity; /* the payload of an IDENTITY */
	char cmdline[AGENT_CMDLINE_MAX + 1]; /* ... of a CMDLINE */
	uint8_t prepare[AGENT_PREPARE_MAX];  /* ... of a PREPARE */
	struct prepared prepared;
	struct conn conns[AGENT_CONNECTIONS];
	struct session sessions[AGENT_SESSIONS];
	struct container containers[AGENT_CONTAINERS];
	/* One for each session: the payload of its request. */
	_Alignas(4096) uint8_t request[AGENT_SESSIONS][AGENT_EXEC_MAX];
};

/* What an event is about: the kind, an index into a table, and for sessions which descriptor. */
enum watch_kind { WATCH_LISTEN = 1, WATCH_SIGNALS, WATCH_CONN, WATCH_SESSION, WATCH_CONTAINER };
enum watch_part {
	PART_REPORT = 0,
	PART_PUMP_FROM = 1,			       /* + pump index */
	PART_PUMP_TO = PART_PUMP_FROM + SESSION_PUMPS, /* + pump index */
};

/* Registers fd, or gives it a new meaning. Returns 0 or -errno. */
int watch(struct agent *a, int fd, enum watch_kind kind, uint32_t index, uint32_t part);

/* Monotonic time, for ages. */
uint64_t now_ms(void);

/* Answers for INFO and HELLO. */
struct agent_info agent_info(const struct agent *a);

/* Begins the way down; the first mode that is asked for counts. asker is the process that did, or 0
 * when it was a message of the host's.
 */
void agent_stop(struct agent *a, enum agent_shutdown_mode mode, pid_t asker);

/* Takes over a new connection, or refuses and closes it. */
void conn_accept(struct agent *a, int fd);

/* Takes over the connection to the host as the link; greeted: HELLO was sent on it. */
void conn_link(struct agent *a, int fd, bool greeted);

/* Something happened on it: reads, acts, answers. It may be closed afterwards. */
void conn_event(struct agent *a, struct conn *c, uint32_t events);

/* Sends one message. A peer that takes no answers (they are small and few) loses the connection:
 * it is shut down here, and its end is dealt with when the event for it comes.
 */
void conn_send(struct conn *c, enum agent_type type, uint32_t tag, const void *payload,
	       uint32_t length);

/* The payload of an ERROR of kind AGENT_REFUSED: made of a positive errno and a text. Returns its
 * length.
 */
struct refusal {
	struct agent_error error;
	char text[AGENT_TEXT_MAX];
};
uint32_t refusal_make(struct refusal *m, int code, const char *text);

/* Sends ERROR with code (a positive errno). Only what fits of text is sent. */
void conn_error(struct conn *c, int code, const char *text);

/* Does so and closes. A session it controlled is abandoned. */
void conn_fail(struct agent *a, struct conn *c, int code, const char *text);

/* Closes it. A session it controlled is abandoned. */
void conn_close(struct agent *a, struct conn *c);

/* Frees its slot; the descriptor lives on with whoever took it over. */
void conn_release(struct conn *c);

/* A FREEZE, THAW, IDENTITY, CMDLINE or PREPARE is complete. */
void link_freeze(struct agent *a, struct conn *c);
void link_thaw(struct agent *a, struct conn *c);
void link_identity(struct agent *a, struct conn *c);
void link_cmdline(struct agent *a, struct conn *c);
void link_prepare(struct agent *a, struct conn *c);

/* Begins a session for a request whose header came on c. NULL: there are too many. */
struct session *session_begin(struct agent *a, struct conn *c);

/* Where the payload of its request goes: AGENT_EXEC_MAX bytes. */
void *session_buffer(struct agent *a, const struct session *s);

/* The request is complete. May end the session, and with it its control connection. */
void session_request(struct agent *a, struct session *s, uint32_t length);

/* The session that key names and that still waits for streams, or NULL. */
struct session *session_find(struct agent *a, const struct agent_key *key);

/* Takes over fd as one of its streams. Returns NULL, or why not (fd is the caller's then). */
const char *session_attach(struct agent *a, struct session *s, uint32_t stream, int fd);

/* Something happened on one of its descriptors; part is an enum watch_part. */
void session_event(struct agent *a, struct session *s, uint32_t part, uint32_t events);

/* Moves what can be moved. */
void session_pump(struct agent *a, struct session *s);

/* Process pid was reaped; does nothing when it is nobody's. */
void session_reaped(struct agent *a, pid_t pid, int wait_status);

/* Both do nothing unless the process runs. signo is valid. */
void session_signal(const struct session *s, const struct agent_signal *m);
void session_resize(const struct session *s, const struct agent_resize *m);

/* Its client is another guest's. A process that runs goes on: its input ends, its output is read
 * and dropped, how it ends is told to nobody. Does nothing to a session that has no process, or is
 * detached already.
 */
void session_detach(struct agent *a, struct session *s);

/* Its client is gone: unless it is kept, kills its process group and frees it. Leaves the control
 * connection.
 */
void session_abandon(struct agent *a, struct session *s);

/* From now on c hears of it, too, as if it had made it: STARTED, if that has been, now. */
void session_watch(struct agent *a, struct session *s, struct conn *c);

/* Its process, which is set up, begins; c hears of that and no more, unless it is NULL. */
void session_go(struct agent *a, struct session *s, struct conn *c);

/* c hears no more of it. */
void session_unwatch(struct conn *c);

/* The one that was kept and has this key, or NULL. */
struct session *session_kept(struct agent *a, const struct agent_key *key);

/* Ends it, whatever there is left to send. */
void session_end(struct agent *a, struct session *s);

/* Tells all who hear of it that it has failed, kills its process and ends it. */
void session_fail(struct agent *a, struct session *s, int code, const char *text);

/* For who forks a session's process: a socket for its reports, report[0] being the session's; and that
 * it is forked. They return 0, or -1 with errno and -errno.
 */
int session_open_report(struct session *s, int report[2]);
int session_forked(struct agent *a, struct session *s, pid_t pid);

/* Tells all who hear of it. */
void session_notice(struct agent *a, struct session *s, const struct agent_notice *m);

/* An exit status as it is told. */
struct agent_exited exited_of(int wait_status);

/* Identity for a guest that goes on: SET. Returns 0 or -errno, and *why. */
int identity_set(struct agent *a, const struct agent_identity *m, const char **why);

#endif
