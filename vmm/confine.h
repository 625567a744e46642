/* SPDX-License-Identifier: Apache-2.0
 *
 * confine: what a VM's process gives up before its guest runs.
 *
 * The guest is hostile; so is, once it has found a bug in the monitor, the monitor. All that a VM needs
 * is opened while it is made. Then it goes into a jail, if it may (jail.h), and then, in this order, each in a
 * function of its own:
 *
 *   limits        no core dumps, no message queues; those that stand cannot be raised
 *   user          root's process becomes another user's, if it was told to be one's
 *   privileges    none can be gained by a program (no_new_privs); every capability goes, but those for
 *                 files where a directory is shared
 *   reach         no other process can be looked into, and, from Linux 6.12 on, no abstract UNIX socket
 *                 be connected to (Landlock, where the host's kernel has it). Without a jail it denies all
 *                 files, too, but those of a few directories
 *   system calls  a seccomp filter for the process, and a stricter one for each kind of thread, which
 *                 the thread puts on itself (confine_calls.c has the table). What is not in it kills
 *                 the process
 *
 * A process that this one makes, a live fork, inherits all of it. docs/security.md says what it is good
 * for.
 */
#ifndef UVM_VMM_CONFINE_H
#define UVM_VMM_CONFINE_H

#include <stdbool.h>

#include <linux/filter.h>

#include "vmm/err.h"

/* Who makes a call. Bits, as a call may be many's. */
enum confine_role {
	CONFINE_VCPU = 1,
	CONFINE_DISK = 2,
	CONFINE_NET = 4,
	CONFINE_SHARE = 8,
	CONFINE_MAIN = 16,
	CONFINE_RUNTIME = 32, /* the main thread of an OCI runtime, which changes its root late */
	CONFINE_SANITIZER = 64, /* any thread of a build with sanitizers */
};

struct confine_dir {
	int fd;
	bool read_only;
};

struct confine_needs {
	bool none;    /* --sandbox none: nothing is given up */
	bool as_user; /* --sandbox user=UID[:GID]: root's process becomes that user's, with no other group */
	unsigned int uid, gid;
	bool shares;  /* directories are shared with the guest */
	bool files;   /* it is in no jail: all files are denied but those beneath these directories */
	const struct confine_dir *dir; /* the shares' at least, in which links are made; for the call of confine() */
	unsigned int dirs;
	bool runtime; /* it is an OCI runtime's container */
};

/* What Landlock keeps it from. */
enum confine_reach { CONFINE_NOTHING, CONFINE_PROCESSES, CONFINE_FILES /* and processes */ };

struct confine {
	bool on;
	enum confine_reach reach;
	bool keeps; /* an OCI runtime's: capabilities stay, until confine_settle */
};

/* Confines the process, which has one thread. c is zeroed before; or, of a live fork, its parent's: then
 * it is confined already, and gets out of its parent's reach besides.
 * Returns 0, or -errno with the message set: the VM must not run then.
 */
int confine(struct confine *c, const struct confine_needs *needs, struct err *e);

/* Confines the calling thread further; one role. Where that fails the process ends: nobody waits for an
 * answer of a thread that begins.
 */
void confine_thread(const struct confine *c, enum confine_role role);

/* Of an OCI runtime's: the calling thread gives up the capabilities that it had for the way to the container's
 * root, and keeps those for files. Each thread has its own. For any other VM it does nothing.
 */
void confine_settle(const struct confine *c);

/* The version of the host's Landlock, 0 if it has none. */
int confine_landlock(void);

/* An option's setter (vmm/opt.h): "on", "none", or "user=UID[:GID]", of root's [struct confine_needs]. */
int confine_set(void *to, const char *value, struct err *e);

/* --- the table; for tests, too --- */

struct seccomp_condition;

#define CONFINE_CONDITIONS 2

/* A system call, or a use of one. Several entries of one call are alternatives. */
struct confine_call {
	int nr;
	unsigned int who;     /* bits of enum confine_role */
	const char *name, *why;
	unsigned int rare;    /* those of who whom no test makes it, and why not (tests/calls) */
	const char *unmade;
	int error;	      /* 0: it is allowed; else it fails with this errno */
	struct confine_condition {
		unsigned char arg;
		unsigned char used;
		unsigned int mask, value; /* of the argument's lower 32 bits */
	} when[CONFINE_CONDITIONS];
};

extern const struct confine_call confine_calls[];
extern const unsigned int confine_call_count;

/* Compiles the filter for these roles, which the build does (tools/filters.c). Returns its length or -errno. */
int confine_compile(unsigned int who, struct sock_filter *filter, struct err *e);

#endif
