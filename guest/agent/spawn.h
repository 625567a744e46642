/* SPDX-License-Identifier: Apache-2.0
 *
 * spawn: what a new process does between fork and exec to become the program of an EXEC or CREATE.
 *
 * It talks with the agent over a socket that keeps messages apart (SOCK_SEQPACKET) and closes on exec:
 * so the end of file there says that the program runs. Before that come, as far as they apply and in
 * this order, the terminal's master, "ready", the agent's "go", and, instead of any of them, why it
 * went wrong.
 */
#ifndef UVM_AGENT_SPAWN_H
#define UVM_AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/request.h"
#include "guest/agent/words.h"
#include "guest/protocol.h"

/* Messages of one byte. An error is the payload of an ERROR message, and longer. */
#define SPAWN_TERMINAL 't' /* to the agent, with a descriptor: the terminal's master */
#define SPAWN_LAYER    'l' /* to the agent, with a descriptor: a directory that the container's root is
			    * made of; the lower one, then the upper */
#define SPAWN_READY    'r' /* to the agent: all is set up; or, of an order, done */
#define SPAWN_GO       'g' /* to the process: go on */

struct spawn {
	const struct command *command;
	int fd[3];  /* become descriptors 0 to 2. Close-on-exec and above 2; unless tty */
	bool tty;   /* a terminal is made where the process has come to, which it controls */
	int report; /* the process' end of the socket */
	bool wait;  /* says that it is ready, and waits for "go" */
	/* Brings the process to where it shall run, before anything else that could differ there; or
	 * says why not (spawn_fail). NULL: it is there.
	 */
	void (*enter)(const struct spawn *s, const void *where);
	const void *where;
	/* With wait: is called after that, with the rights of the program; NULL: there is nothing to do */
	void (*begin)(const struct spawn *s, const void *where);
	const struct words *words; /* variables for those that come without; or NULL */
	uint64_t denied; /* capabilities that it does not get, whatever else is said */
	const struct agent_caps *caps; /* of who says nothing about its own; NULL: all */
	int lower, upper; /* of a program of the agent's: what own.h says; upper -1: none */
};

/* In the child: becomes the program. It leads a new session, has default signals and nothing of the
 * agent's.
 */
_Noreturn void spawn_run(const struct spawn *s);

/* In the child: tells the agent that it goes no further, because of errno, and ends. kind is an enum
 * agent_error_kind. name may be NULL.
 */
_Noreturn void spawn_fail(const struct spawn *s, uint32_t kind, const char *what, const char *name);

/* In the child, the same of the kind AGENT_REFUSED: because of errno; if r is -errno, else it is returned; if
 * the directory cannot be opened (O_PATH), of which a descriptor is returned otherwise.
 */
_Noreturn void spawn_refuse(const struct spawn *s, const char *what, const char *name);
int spawn_want(const struct spawn *s, int r, const char *what, const char *name);
int spawn_open_dir(const struct spawn *s, const char *path);

/* In the child: signals as a program wants to find them. */
void spawn_reset_signals(void);

/* In the child: says that it is ready. */
void spawn_ready(const struct spawn *s);

/* In the child: hands the agent a directory. */
void spawn_layer(const struct spawn *s, int fd);

/* In the agent: takes the next message, into buf of size bytes; *fd is the descriptor that came with it,
 * or -1. Returns as recv(2), without waiting.
 */
ssize_t spawn_receive(int report, void *buf, size_t size, int *fd);

#endif
