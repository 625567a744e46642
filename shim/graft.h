/* SPDX-License-Identifier: Apache-2.0
 *
 * graft: gives a VM that runs one more container's tree, in the share that its guest has already.
 *
 * Theory of operation. What the monitor serves is a tree in its own mount namespace (shim/rootfs.h), so
 * whoever enters that can mount in it, and the guest finds what is mounted there: nothing is asked of the
 * monitor, and nothing added to the machine. On the share's /proc, an empty directory that the guest's
 * container has its own /proc on, there is a file system with a directory for each tree. It is there
 * before the guest is, which may remember for a second what it has seen in the share; for that reason, too,
 * no two trees have the same name. The guest can write to none of it: the mount is read-only, and directories
 * are made through another mount of the same. Nor has it a say in where it is: the monitor holds a descriptor
 * of it, whose number, and of what it is, it has written down before the guest ran, where it cannot write later.
 *
 * All is gone with the monitor's process.
 */
#ifndef UVM_SHIM_GRAFT_H
#define UVM_SHIM_GRAFT_H

#include "vmm/err.h"
#include "vmm/rundir.h"

/* Where in the share a tree is: this, and its name. */
#define GRAFT_DIR  "/proc/"
#define GRAFT_NAME 16 /* characters */

/* In the VM's process: makes the place in the tree whose directory is share, which is mounted. Returns 0 or
 * -errno with the message set.
 */
int graft_make(const struct rundir *vm, int share, struct err *e);

/* A name that no other has. */
int graft_name(char name[GRAFT_NAME + 1], struct err *e);

/* Puts tree, a detached mount, into the share of the VM, whose process is pidfd. Returns likewise. */
int graft_add(const struct rundir *vm, int pidfd, const char *name, int tree, struct err *e);

/* Takes it out, if it is there. */
void graft_remove(const struct rundir *vm, int pidfd, const char *name);

#endif
