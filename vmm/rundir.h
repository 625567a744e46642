/* SPDX-License-Identifier: Apache-2.0
 *
 * rundir: a running VM's directory, where its clients find it.
 *
 * $UVM_RUN, else $XDG_RUNTIME_DIR/uvm, else /run/uvm; in it a directory for each VM, named by its
 * id, with
 *   lock          locked by the monitor while it lives, which is what makes an id taken
 *   pid           the monitor's process id
 *   control.sock  vmm/control.h
 *   vsock.sock    devices/vsock_unix.h
 *   console.log   the serial console, of a detached VM
 *   log           the monitor's own messages, of a detached VM
 *   container     vmm/record.h, of a VM that is there for a container
 *   journal       vmm/journal.h
 *   output        what a detached container has written; output.1: what it wrote before that
 *   keep          if it is there: the directory stays after the VM's end
 * A VM in a jail has a keeper (keeper.h), which removes its directory also when it was killed. A directory whose
 * lock nobody holds is a dead VM's; whoever comes upon it removes it, unless it is to
 * be kept: then it holds what is known of a container that has ended, until that is removed.
 *
 * Beside it there may be its clients' own directory, .own-ID (rundir_own): what they believe, and a monitor that
 * was taken over must not write. It comes and goes with the VM's, and while it is there that is kept.
 *
 * Beside them are directories that are no VM's yet, or never, with hidden names: those of pools and their
 * shells (vmm/pool.h). They live and die by the same lock.
 */
#ifndef UVM_VMM_RUNDIR_H
#define UVM_VMM_RUNDIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "vmm/err.h"

#define RUNDIR_ID_MAX  64
#define RUNDIR_CONTROL "control.sock"
#define RUNDIR_VSOCK   "vsock.sock"
#define RUNDIR_CONSOLE "console.log"
#define RUNDIR_LOG     "log"
#define RUNDIR_RECORD  "container"
#define RUNDIR_JOURNAL "journal"
#define RUNDIR_OUTPUT  "output"

/* What hidden names begin with. No VM's can. */
#define RUNDIR_POOL  ".pool-"
#define RUNDIR_SHELL ".shell-"

struct rundir {
	int root, dir, lock; /* descriptors: all VMs' directory, this VM's, its lock file */
	int keeper; /* of a VM in a jail, which has no root: a socket (vmm/keeper.h); else -1 */
	char id[RUNDIR_ID_MAX + 1];
};

/* The directory of the VM's sockets, for vmm/sock.h: a process in a jail has it as its working directory,
 * and no /proc to name another by.
 */
int rundir_sockets(const struct rundir *r);

/* Whether id can name a VM: 1 to RUNDIR_ID_MAX letters, digits, '.', '_', '-', the first of them
 * a letter or digit.
 */
bool rundir_id_valid(const char *id);

/* Takes the id and makes its directory; id NULL picks a free random one. Returns 0; -EEXIST if a
 * VM of that id runs, or has ended and is kept; or another -errno. The lock goes with the process, or with rundir_remove.
 */
int rundir_create(struct rundir *r, const char *id, struct err *e);

/* The same with a hidden name: prefix, and id or, if that is NULL, a random number behind it. id is not
 * checked.
 */
int rundir_create_hidden(struct rundir *r, const char *prefix, const char *id, struct err *e);

/* Gives a hidden one the name of a VM, id NULL: a free random one. Returns 0; -EEXIST if there is a
 * directory of that name, whoever's it is or was; or another -errno.
 */
int rundir_show(struct rundir *r, const char *id, struct err *e);

/* Gives the directory and what is in it to another user. */
int rundir_give(const struct rundir *r, uid_t uid, gid_t gid, struct err *e);

/* Writes the process id for clients, once the process is the one that stays. */
int rundir_write_pid(const struct rundir *r, struct err *e);

/* Lets go of the descriptors: for the process that made the directory for a child, which holds the
 * lock too.
 */
void rundir_release(struct rundir *r);

/* From now on rundir_remove, and those who find the VM dead, leave what is known of its container. */
int rundir_keep(const struct rundir *r, struct err *e);

/* Opens the clients' own directory of one whose root is open, for what its monitor must not write, which has no
 * way to it; make: makes it, empty. Returns a descriptor or -errno; -ENOENT if there is none.
 */
int rundir_own(const struct rundir *r, bool make);

/* Opens a file in it, with flags beside those that every file here is opened with. Returns as rundir_own. */
int rundir_own_file(const struct rundir *r, const char *name, int flags);

/* Whether that was said, or there is such a directory, of a directory that is open. */
bool rundir_kept(const struct rundir *r);

/* Removes the directory with all in it, then the lock. */
void rundir_remove(struct rundir *r);

/* For clients: opens the directory of a running VM (or pool). Returns 0; -ENOENT if there is none, with a
 * message that says so; the leftovers of a dead VM are removed on the way.
 */
int rundir_open(struct rundir *r, const char *id, struct err *e);
void rundir_close(struct rundir *r);

/* The same, but also of a VM that has ended and is kept. */
int rundir_open_any(struct rundir *r, const char *id, bool *running, struct err *e);

/* Removes the directory of one that is kept. Closes r in any case. Returns 0, or -EBUSY while the VM
 * runs.
 */
int rundir_forget(struct rundir *r, struct err *e);

/* Opens the directory of all VMs, which is made if it is not there. Returns the descriptor or -errno.
 */
int rundir_open_all(struct err *e);

/* The process id of an open directory's VM, or -errno. */
pid_t rundir_pid(const struct rundir *r, struct err *e);

/* Calls visit with the id of each running VM (and, if kept, of those that are kept), in the order of
 * their names, until it returns something else than 0, and returns that. No directory at all is no VM:
 * 0.
 */
int rundir_each(bool kept, int (*visit)(void *ctx, const char *id), void *ctx, struct err *e);

/* The same with those whose hidden names begin with prefix. */
int rundir_each_hidden(const char *prefix, int (*visit)(void *ctx, const char *id), void *ctx,
		       struct err *e);

#endif
