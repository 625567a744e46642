/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper: the small process beside a VM's that does for it, outside of its jail (vmm/jail.h), what goes by
 * path.
 *
 * Theory of operation. A VM's process has no way to the directory of all VMs once it is in its jail: with
 * that it could reach its neighbours' consoles and sockets. But its own directory has to go with it, and a
 * live fork needs a new one there. So it forks a keeper before anything of the guest's is in its memory.
 * The keeper waits for requests of a fixed size, or for the VM's end, upon which it removes the directory,
 * also that of a VM that was killed. What can be asked is in keeper.c's one table of requests; none takes a
 * path, and nothing that an answer tells is more than the VM's process knew when it began.
 *
 * Where the host refuses namespaces to its user the VM is in no jail, but denied all files besides those
 * directories (Landlock). The keeper is not, and does the same for it; descriptors that it gives away then lead on
 * by "..", which opens nothing.
 *
 * A request brings the socket on which it is answered, so the VM's process and the children that it makes
 * for snapshots and forks may ask at once.
 */
#ifndef UVM_VMM_KEEPER_H
#define UVM_VMM_KEEPER_H

#include <stdbool.h>

#include "snapshot/snapshot.h"
#include "vmm/confine.h"
#include "vmm/rundir.h"

/* Starts the keeper of vm; from: the snapshot that the VM is a clone of, or NULL; user: whose the directories of its
 * forks are to be, if confine_needs says so. From then on it has the
 * directory of all VMs, and vm->root is closed. Returns 0 or -errno.
 */
int keeper_start(struct rundir *vm, const struct snapshot *from, const struct confine_needs *user, struct err *e);

/* Tells it that there is no jail, which it looks at by itself. Before the guest runs. Returns 0 or -errno. */
int keeper_stay_outside(const struct rundir *vm, struct err *e);

/* Has the directory removed, and waits for that; or does it itself, if vm has no keeper. */
void keeper_remove(struct rundir *vm);

/* In a live fork: makes its directory, with a keeper of its own. id NULL: a random one; parent: who is
 * forked. Returns as rundir_create.
 */
int keeper_make(const struct rundir *parent, struct rundir *vm, const char *id, struct err *e);

/* Gives a shell's directory, which is hidden, its VM's name, once. Returns as rundir_show. */
int keeper_show(struct rundir *vm, const char *id, struct err *e);

/* Opens /proc/self/pagemap of the calling process. Returns a descriptor, or -errno; -1 without a keeper. */
int keeper_pagemap(const struct rundir *vm);

/* Opens (O_PATH) /proc/self/fd of the calling process; with a keeper, from there ".." does not lead. Returns a
 * descriptor or -errno.
 */
int keeper_own_fds(const struct rundir *vm);

/* Whether the snapshot that the VM is a clone of, and its parents, are where they were. */
bool keeper_parents(const struct rundir *vm, const struct snapshot *from);

/* Whether other snapshots need the one that is called name in the directory at, which a process in a jail
 * cannot find out. Without a keeper that is left to the draft. Returns 0, or -errno with a message.
 */
int keeper_replaceable(const struct rundir *vm, int at, const char *name, struct err *e);

/* snapshot_draft, snapshot_publish and snapshot_drop. by_keeper: the process may write to no directory of others
 * (CONFINE_FILES), so the keeper makes the draft and opens the files in it. Only a directory that was opened for
 * reading is taken, which such a process could not have done itself: so it comes from a client.
 */
int keeper_draft(const struct rundir *vm, bool by_keeper, struct snapshot_draft *d, int at, const char *place,
		 const char *name, struct err *e);
int keeper_publish(const struct rundir *vm, struct snapshot_draft *d, const struct snapshot *parent,
		   struct err *e);
void keeper_drop(const struct rundir *vm, struct snapshot_draft *d);

#endif
