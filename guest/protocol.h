/* SPDX-License-Identifier: Apache-2.0
 *
 * protocol: what the host and the guest's agent say to each other.
 *
 * The only header that both share. docs/agent-protocol.md explains it: who sends what when,
 * the limits, and what happens on errors. Everything is little-endian, naturally aligned and
 * without padding; the assertions below pin every offset, so a change that breaks an old peer
 * breaks the build. A payload's layout never changes within a version: new needs get new types.
 *
 * Includes nothing of ours.
 */
#ifndef UVM_GUEST_PROTOCOL_H
#define UVM_GUEST_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT    1024u	  /* vsock: the agent listens here; its link goes to the host's */
#define AGENT_MAGIC   0x416d7675u /* "uvmA" as bytes */
#define AGENT_VERSION 2u

/* Limits. A message beyond them is refused by its header alone. */
#define AGENT_EXEC_MAX	   (128u << 10) /* bytes of an EXEC's payload */
#define AGENT_STRINGS_MAX  4096u	/* argc + envc of an EXEC */
#define AGENT_GROUPS_MAX   64u		/* supplementary groups of an EXEC */
#define AGENT_TEXT_MAX	   240u		/* bytes of an ERROR's text */
#define AGENT_SESSIONS	   64u		/* commands at a time */
#define AGENT_CONNECTIONS  256u		/* connections that are not (yet) a stream of a session */
#define AGENT_HANDSHAKE_MS 10000u	/* how long either side may have to wait for an answer */
#define AGENT_FREEZE_MS	   2000u	/* how long the agent may take to stop every process */
#define AGENT_CMDLINE_MAX  2047u	/* bytes of a CMDLINE's text */
#define AGENT_HOSTNAME_MAX 64u		/* bytes of a host name, as Linux has it */

/* Opens every message; length bytes of payload follow. */
struct agent_header {
	uint32_t magic;	  /* AGENT_MAGIC */
	uint16_t version; /* AGENT_VERSION */
	uint16_t type;	  /* enum agent_type */
	uint32_t length;  /* bytes of payload */
	uint32_t tag;	  /* any number; an answer carries its request's */
};

enum agent_type {
	/* To the agent. */
	AGENT_EXEC = 1,	    /* struct agent_exec and what follows it; ends in EXITED or ERROR */
	AGENT_ATTACH = 2,   /* struct agent_attach; the connection becomes a stream */
	AGENT_SIGNAL = 3,   /* struct agent_signal, after EXEC; not answered */
	AGENT_RESIZE = 4,   /* struct agent_resize, after EXEC; not answered */
	AGENT_PING = 5,	    /* nothing; answered by INFO */
	AGENT_SHUTDOWN = 6, /* struct agent_shutdown; answered by OK, then the guest ends */

	/* To the agent, on the link only. Each is answered by OK or ERROR, which leaves it open. */
	AGENT_FREEZE = 7,   /* nothing; OK: no process but the agent runs any more */
	AGENT_THAW = 8,	    /* nothing; they run again */
	AGENT_IDENTITY = 9, /* struct agent_identity: who the guest is from now on; thaws, too */
	AGENT_CMDLINE = 10, /* a text: words of the command line, before an IDENTITY */

	/* From the agent. */
	AGENT_HELLO = 0x81,   /* struct agent_info, opens the link: exec works from now on */
	AGENT_INFO = 0x82,    /* struct agent_info */
	AGENT_OK = 0x83,      /* nothing */
	AGENT_ERROR = 0x84,   /* struct agent_error and a text; the agent closes after most */
	AGENT_STARTED = 0x85, /* struct agent_started: the program runs */
	AGENT_EXITED = 0x86,  /* struct agent_exited; the agent closes after it */
};

/* Names a session. The client makes it from a good random source, so that streams can be opened
 * and attached without waiting for an answer to EXEC, and so that guests which were cloned from
 * one memory image never hand out the same one twice.
 */
struct agent_key {
	uint8_t bytes[16];
};

/* Streams of a session. A terminal is one stream both ways and excludes the others. */
enum agent_stream {
	AGENT_STDIN = 0,
	AGENT_STDOUT = 1,
	AGENT_STDERR = 2,
	AGENT_TTY = 3,
	AGENT_STREAMS = 4,
};

enum agent_exec_flags {
	AGENT_EXEC_USER = 1u << 0, /* uid, gid and groups count; else the process is root's */
};

/* Followed by group_count supplementary group ids (uint32_t) and then by 1 + argc + envc
 * strings, each with its NUL, nothing in between and nothing after: the working directory
 * (empty: "/"), the arguments, and the environment as NAME=value.
 */
struct agent_exec {
	struct agent_key key;
	uint32_t streams; /* 1 << enum agent_stream of each that will be attached */
	uint32_t flags;	  /* enum agent_exec_flags */
	uint32_t uid;
	uint32_t gid;
	uint16_t rows; /* of the terminal, or 0 */
	uint16_t cols;
	uint32_t group_count;
	uint32_t argc; /* at least 1 */
	uint32_t envc;
};

struct agent_attach {
	struct agent_key key;
	uint32_t stream; /* enum agent_stream */
	uint32_t zero;
};

enum agent_signal_scope {
	AGENT_SIGNAL_PROCESS = 0,
	AGENT_SIGNAL_GROUP = 1, /* the session's process group, as a terminal's ^C */
};

struct agent_signal {
	uint32_t signo; /* Linux' number, 1 to 64 */
	uint32_t scope; /* enum agent_signal_scope */
};

struct agent_resize {
	uint16_t rows;
	uint16_t cols;
};

enum agent_shutdown_mode {
	AGENT_POWEROFF = 1,
	AGENT_REBOOT = 2,
};

struct agent_shutdown {
	uint32_t mode; /* enum agent_shutdown_mode */
};

/* What a guest that was cloned from a memory image must not share with the others. */
struct agent_identity {
	uint64_t wall_ns;	/* CLOCK_REALTIME of the host, now */
	uint8_t entropy[64];	/* from a good random source, for this guest alone */
	uint8_t machine_id[16]; /* as random; the agent makes UUIDs of version 4 of both */
	uint8_t boot_id[16];
	uint32_t flags;			       /* 0 */
	char hostname[AGENT_HOSTNAME_MAX + 4]; /* ends in a NUL; empty: as it was */
};

/* Times are CLOCK_BOOTTIME of the guest in nanoseconds. */
struct agent_info {
	uint32_t sessions;    /* in use */
	uint32_t connections; /* in use, this one included */
	uint64_t uptime_ns;   /* now */
	uint64_t start_ns;    /* when the agent began */
	uint64_t ready_ns;    /* when it could run commands */
};

enum agent_error_kind {
	AGENT_REFUSED = 1, /* the request was not understood or not accepted */
	AGENT_NOT_RUN = 2, /* the command could not be started */
};

/* Followed by a text of up to AGENT_TEXT_MAX bytes without a NUL that says what failed; why
 * is in code.
 */
struct agent_error {
	uint32_t code; /* Linux' errno, as on x86 */
	uint32_t kind; /* enum agent_error_kind */
};

struct agent_started {
	uint32_t pid; /* in the guest */
};

enum agent_exit_kind {
	AGENT_EXIT_STATUS = 1, /* value: the exit status, 0 to 255 */
	AGENT_EXIT_SIGNAL = 2, /* value: the signal's number */
};

struct agent_exited {
	uint32_t kind; /* enum agent_exit_kind */
	uint32_t value;
};

/* The payload of the largest message that the agent sends. */
#define AGENT_ANSWER_MAX (sizeof(struct agent_error) + AGENT_TEXT_MAX)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian");
_Static_assert(sizeof(struct agent_header) == 16, "header");
_Static_assert(offsetof(struct agent_header, type) == 6, "header.type");
_Static_assert(offsetof(struct agent_header, length) == 8, "header.length");
_Static_assert(offsetof(struct agent_header, tag) == 12, "header.tag");
_Static_assert(sizeof(struct agent_exec) == 48, "exec");
_Static_assert(offsetof(struct agent_exec, streams) == 16, "exec.streams");
_Static_assert(offsetof(struct agent_exec, uid) == 24, "exec.uid");
_Static_assert(offsetof(struct agent_exec, rows) == 32, "exec.rows");
_Static_assert(offsetof(struct agent_exec, group_count) == 36, "exec.group_count");
_Static_assert(offsetof(struct agent_exec, envc) == 44, "exec.envc");
_Static_assert(sizeof(struct agent_attach) == 24, "attach");
_Static_assert(offsetof(struct agent_attach, stream) == 16, "attach.stream");
_Static_assert(sizeof(struct agent_signal) == 8, "signal");
_Static_assert(sizeof(struct agent_resize) == 4, "resize");
_Static_assert(sizeof(struct agent_shutdown) == 4, "shutdown");
_Static_assert(sizeof(struct agent_identity) == 176, "identity");
_Static_assert(offsetof(struct agent_identity, entropy) == 8, "identity.entropy");
_Static_assert(offsetof(struct agent_identity, machine_id) == 72, "identity.machine_id");
_Static_assert(offsetof(struct agent_identity, boot_id) == 88, "identity.boot_id");
_Static_assert(offsetof(struct agent_identity, flags) == 104, "identity.flags");
_Static_assert(offsetof(struct agent_identity, hostname) == 108, "identity.hostname");
_Static_assert(sizeof(struct agent_info) == 32, "info");
_Static_assert(offsetof(struct agent_info, uptime_ns) == 8, "info.uptime_ns");
_Static_assert(sizeof(struct agent_error) == 8, "error");
_Static_assert(sizeof(struct agent_started) == 4, "started");
_Static_assert(sizeof(struct agent_exited) == 8, "exited");

#endif
