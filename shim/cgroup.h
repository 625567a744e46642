/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup: the host's cgroup of a container: where callers look for its figures, and which the VM's
 * process and those of its execs are in. Version 2 only; where the host has none, or it belongs to
 * somebody else, a container goes without.
 *
 * What config.json limits is limited in the guest (shim/resources.h): on the host there is one process,
 * whose memory is the guest's. Only the host's CPUs are chosen here.
 */
#ifndef UVM_SHIM_CGROUP_H
#define UVM_SHIM_CGROUP_H

#include <limits.h>
#include <sys/types.h>

#include "shim/resources.h"
#include "vmm/err.h"

/* The directory that a "cgroupsPath" means: a path below the cgroups' root, or systemd's
 * "SLICE:PREFIX:NAME". Returns 0, or -EINVAL for what would lead elsewhere.
 */
int oci_cgroup_path(char path[PATH_MAX], const char *text, struct err *e);

/* Puts this process into it, which is made if it is missing. res: what it is to be restricted to, or
 * NULL; memory: bytes, or 0. Returns 0; -ENOTSUP where the host has no such cgroups; or another -errno.
 */
int oci_cgroup_join(const char *path, const struct oci_resources *res, uint64_t memory,
		    struct err *e);

/* Changes what one that is there is restricted to. */
int oci_cgroup_set(const char *path, const struct oci_resources *res, struct err *e);

/* The one that a process is in. Returns 0 or -errno. */
int oci_cgroup_of(pid_t pid, char path[PATH_MAX]);

/* Removes it, if nothing is in it. What cannot be removed stays. */
void oci_cgroup_remove(const char *path);

#endif
