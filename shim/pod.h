/* SPDX-License-Identifier: Apache-2.0
 *
 * pod: containers in the VM of another one, the sandbox, with whom they share namespaces.
 *
 * Theory of operation. config.json's annotations name the sandbox (containerd, CRI-O and podman write them),
 * which is a container of this runtime's like any other: its VM has the pod's network interfaces, and its
 * guest's first container the namespaces. A further container is one in that guest: "create" puts its tree into
 * the share that the VM has (shim/graft.h), and orders it from the agent. The namespaces that config.json names
 * by path must be those of the sandbox's process on the host; in the guest they are its container's.
 *
 * To its caller it is a process as the sandbox's is (shim/child.h), but one that runs the session with the guest
 * and nothing else, confined as a VM's process is. Whatever ends it ends the container: by its end the agent learns that its client has gone.
 * The end of the sandbox's process is the end of the VM, and so of all these.
 *
 * Its state is a run directory of its own, with the sandbox's id in it.
 */
#ifndef UVM_SHIM_POD_H
#define UVM_SHIM_POD_H

#include "shim/init.h"
#include "shim/state.h"

/* As oci_create, of a container whose configuration has a sandbox. */
int oci_pod_create(struct oci_create *c, pid_t *pid, struct err *e);

/* Removes what the sandbox's VM has of a container whose process has ended. If that is gone, there is nothing. */
void oci_pod_leave(const struct oci_state *s);

#endif
