/* SPDX-License-Identifier: Apache-2.0
 *
 * own: programs that are part of the agent: what an EXEC with AGENT_EXEC_OWN runs in place of a file of
 * the container's, which need not have one that does it. docs/agent-protocol.md has their arguments.
 *
 * They run as a process of its own with the container's root and namespaces, so that a path means what
 * it means in there, and no link leads out. What goes wrong once they run they tell on standard error,
 * as records for a program to read: errno in decimal, a blank, a text, a NUL.
 */
#ifndef UVM_AGENT_OWN_H
#define UVM_AGENT_OWN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/spawn.h"

/* Descriptors that "changes" finds open: the directories that its container's root lies over. */
#define OWN_LOWER 4
#define OWN_UPPER 5

#define OWN_DEPTH 256 /* directories in each other */

struct own {
	int (*run)(struct own *o); /* returns the exit status */
	int root;		   /* import: where it goes */
	const char *source;	   /* export: what */
	char path[PATH_MAX];	   /* export, changes: of what is looked at; import: a member's */
	char link[PATH_MAX];	   /* import: a member's */
	char prefix[PATH_MAX];	   /* import: what goes before the members' names */
	bool follow;		   /* export: source may be a link, and what it leads to is meant */
	int status;
	size_t out_len;
	uint8_t out[32768];
};

/* In the child: readies the program argv[0], or tells the agent why not. */
void own_open(struct own *o, const struct spawn *s, char **argv);

/* Runs it, when there is nothing more to tell the agent. */
_Noreturn void own_run(struct own *o);

/* For the programs: what is wrong, with errno, of o->path. */
void own_complain(struct own *o, const char *what);

/* Writes to standard output, through o->out; own_flush what is left. */
void own_write(struct own *o, const void *data, size_t len);
void own_flush(struct own *o);

/* Calls fn for each name in a directory but "." and "..". */
void own_list(int dir, void (*fn)(struct own *o, int dir, const char *name, unsigned int depth),
	      struct own *o, unsigned int depth);

/* Appends "/" and the name to o->path. Returns false, after a complaint, if it is too long or too deep. */
bool own_enter(struct own *o, const char *name, unsigned int depth);

/* In a process of its own: copies what is in the directory from, a descriptor, into another. Returns 0 or
 * -errno.
 */
int own_copy(int from, int to);

int own_export(struct own *o);
int own_import(struct own *o);
int own_changes(struct own *o);

#endif
