/* SPDX-License-Identifier: Apache-2.0
 *
 * init: the process that is a container to its caller, and one that is an exec's.
 *
 * Theory of operation. "create" forks the process that becomes the VM, a clone of a template, and
 * goes; so the process is left to the caller, which has made itself a subreaper, watches it, and takes
 * its exit for the container's. It is the first process of a PID namespace of its own, in which there
 * is nothing else, has its own mounts (shim/rootfs.h), is in the container's cgroup and, where there
 * is one, in its network namespace, and holds the standard descriptors that the caller has given, or a
 * terminal (shim/terminal.h). A thread of it runs the session with the guest (vmm/run.h): what happens
 * to the container's process is told there, and its end is the VM's. It exits with the container's
 * status, or 128 + n after signal n: the first process of a namespace cannot kill itself, and callers
 * make the same number of both.
 *
 * "create" waits on a pipe until the guest says that the container is made, or why not. If it is gone by
 * then the process ends as well, and leaves what it had made by then to "delete --force": the directory
 * is kept from before there is a process until then.
 *
 * An exec is a process with a session of its own with the same guest, likewise left to the caller.
 */
#ifndef UVM_SHIM_INIT_H
#define UVM_SHIM_INIT_H

#include <sys/types.h>

#include "shim/config.h"
#include "vmm/rundir.h"

struct oci_create {
	const char *id, *bundle; /* an absolute path */
	const char *console;	 /* socket, or NULL */
	struct oci_config config;
};

/* Makes the container. Its process waits to be started. Returns 0 and the process's id in *pid, or
 * -errno with the message set and nothing left.
 */
int oci_create(struct oci_create *c, pid_t *pid, struct err *e);

struct oci_exec {
	struct rundir *vm;
	const char *cgroup; /* the host's, or NULL */
	const char *console;
	struct oci_process *process;
};

/* Starts a process in the container, with one of ours that lives as long. Returns as oci_create. */
int oci_exec_detached(struct oci_exec *x, pid_t *pid, struct err *e);

/* The same, and this process is the one; *status is what it should exit with. */
int oci_exec_here(struct oci_exec *x, int *status, struct err *e);

#endif
