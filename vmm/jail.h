/* SPDX-License-Identifier: Apache-2.0
 *
 * jail: what a VM's process can name of the host's files once its guest runs: nothing.
 *
 * Its root becomes a directory that has been removed, which is empty and stays so, as nothing can be made
 * in it. What it still needs are directories that it holds open: its run directory, which is also its
 * working directory, for the names of sockets; and those of the snapshots that it is a clone of. Each is
 * the root of a mount of its own (open_tree), so that ".." does not lead out of it, as it would from any
 * other descriptor. What goes by path is the keeper's to do (vmm/keeper.h).
 *
 * Root has the rights for this. An ordinary user's process gets them by a user namespace, where the host lets
 * users make these (user.max_user_namespaces, and no security module is against it). In there it is its user and
 * knows no other: a client that is root takes the user's place to reach it (client.c). Where the host does not let
 * them, there is no jail, and Landlock keeps the process from files (confine.h).
 *
 * A mount namespace of its own would add nothing: no call that could use one is in the process's table
 * (confine_calls.c), and it would cost a start more than all of this.
 */
#ifndef UVM_VMM_JAIL_H
#define UVM_VMM_JAIL_H

#include <stdbool.h>

#include "snapshot/snapshot.h"
#include "vmm/rundir.h"

/* Whether the keeper (vmm/keeper.h) could tell who asks: if /proc numbers processes as this one's PID namespace does.
 * It does not where an OCI container's namespaces are there and its root is not.
 */
bool jail_possible(void);

/* Another descriptor (O_PATH) of a directory, from which ".." does not lead. Returns it or -errno. */
int jail_detach(int dir);

/* The same, for reading (not O_PATH). */
int jail_detach_readable(int dir);

/* Puts such a one behind the descriptor dir, which keeps its number; mounts: with all that is mounted beneath.
 * Returns 0, or -errno with a message that says what it is.
 */
int jail_replace(int dir, bool mounts, const char *what, struct err *e);

/* Puts such ones behind the directories of a snapshot and its parents; from NULL: does nothing. Returns likewise. */
int jail_detach_snapshots(const struct snapshot *from, struct err *e);

/* Whether r, of one of these, says that the host does not let this process's user make namespaces: by a limit, a
 * security module, or its build.
 */
bool jail_refused(int r);

/* Whether this process could go into one: for "uvm check". */
bool jail_allowed(void);

/* Goes in. vm's directory and those of the snapshots are replaced, under the same numbers. Before
 * confine(), which takes away the rights that this needs, and while there is one thread. Returns 0 or -errno; in
 * tells whether it is in: not, without an error, where the host refuses namespaces to its users.
 */
int jail_enter(const struct rundir *vm, const struct snapshot *from, bool *in, struct err *e);

/* In a live fork of a process that is in one: its own directory takes the place of its parent's. */
int jail_move(const struct rundir *vm, struct err *e);

#endif
