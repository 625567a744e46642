/* SPDX-License-Identifier: Apache-2.0
 *
 * child: what the processes have in common that this runtime leaves to its caller: one for each container,
 * and for each exec.
 *
 * A container's is the first process of a PID namespace of its own, in which there is nothing else, has its
 * own mounts (shim/rootfs.h), is in the container's cgroup and its network, IPC and UTS namespaces, and holds
 * the standard descriptors that the caller has given, or a terminal (shim/terminal.h). "create" waits on a pipe
 * until it says that the container is made, or why not. If "create" is gone by then it ends as well, and leaves
 * what it had made by then to "delete --force": the directory is kept from before there is a process until then.
 */
#ifndef UVM_SHIM_CHILD_H
#define UVM_SHIM_CHILD_H

#include <limits.h>

#include "shim/init.h"
#include "shim/rootfs.h"
#include "shim/state.h"

/* Of a container's process; goes with it. */
struct oci_child {
	struct oci_create *create;
	struct rundir *dir;	/* the container's */
	uint64_t memory;	/* of the host's cgroup, in bytes; 0: no limit */
	bool cpus;		/* those of the host's are its own to be chosen */
	struct oci_rootfs rootfs;
	char rootfs_path[PATH_MAX], cgroup[PATH_MAX];
	struct oci_state state; /* for hooks; its vm is not open */
	int said, go;		/* pipes to "create", and from it; said -1: it has heard */
};

/* Finds the paths of the root and the cgroup, and fills the state of them and what config.json says. Returns 0
 * or -errno with the message set.
 */
int oci_child_open(struct oci_child *c, struct err *e);

/* In "create": makes the process, which calls be, and waits until the container is made. Returns likewise; *pid
 * is -1 if there was none, and else has ended after an error.
 */
int oci_child_start(struct oci_child *c, void (*be)(struct oci_child *c), pid_t *pid, struct err *e);

/* In the process: its session, streams (to fds), cgroup, namespaces (by enter), its tree, and hooks. Returns
 * likewise.
 */
int oci_child_settle(struct oci_child *c, int fds[3],
		     int (*enter)(struct oci_child *c, struct err *e), struct err *e);

/* Tells "create" that the container is made, or with failed (-errno) and a message why not. Returns 0, or
 * -errno when that is gone.
 */
int oci_child_say(struct oci_child *c, int failed, const struct err *e);

/* In "create": removes what there is of a container that has come to nothing, whose process has ended. */
void oci_child_discard(struct oci_child *c, pid_t pid);

/* Sets the message that there is such a container. Returns -EEXIST. */
int oci_exists(const char *id, struct err *e);

/* Opens the file for its messages. Returns a descriptor or -1. */
int oci_child_log(const struct rundir *dir);

/* --- also an exec's --- */

int oci_say(int fd, int failed, const struct err *e);

/* Waits for the process' word, or for its end. Returns 0, or what it has said. */
int oci_hear(int fd, pid_t pid, struct err *e);

/* Moves the standard descriptors of a process that leads a session out of the way of what this program prints,
 * which goes to log unless that is -1; fds: where they are then. A terminal takes the place of what the caller
 * has given.
 */
int oci_streams(int fds[3], int log, const struct oci_process *p, const char *console, struct err *e);

/* The agent's message as runc's, which callers read: they tell from the texts whether there is no such
 * program, or it is no program.
 */
int oci_explain(int status, const struct exec_request *rq, struct err *e);

#endif
