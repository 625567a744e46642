/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup: the host's cgroup (v2) of a VM's process, and what bounds all that the process takes: its
 * vCPUs, the guest's memory as far as it is used, its threads, its disks.
 */
#ifndef UVM_VMM_CGROUP_H
#define UVM_VMM_CGROUP_H

#include <stdint.h>

#include "vmm/opt.h"

struct cgroup_config {
	const char *path; /* a directory, made if only its last name is missing; NULL: none */
	uint32_t cpu;	  /* thousandths of a CPU; 0: no limit, as below */
	uint64_t memory;  /* bytes */
	uint32_t pids;
	const char *io;	  /* a line of io.max */
};

int cgroup_set_cpu(void *to, const char *value, struct err *e); /* an option's setter [uint32_t] */

/* The options of all commands that start VMs; at: where the configuration is. */
#define CGROUP_OPTIONS(at)                                                                         \
	{"cgroup", 0, "DIR", "run in this cgroup (v2) of the host's, which is made if it is missing", \
	 opt_set_str, (at) + offsetof(struct cgroup_config, path)},                                \
	{"cpu-max", 0, "N", "limit of --cgroup: how many CPUs' time it may use, like 1.5",         \
	 cgroup_set_cpu, (at) + offsetof(struct cgroup_config, cpu)},                              \
	{"memory-max", 0, "SIZE", "limit of --cgroup: memory, the monitor's and the host's caches for it",            \
	 opt_set_size, (at) + offsetof(struct cgroup_config, memory)},                             \
	{"pids-max", 0, "N", "limit of --cgroup: processes and threads, of which a VM has one for each vCPU and device",                  \
	 opt_set_u32, (at) + offsetof(struct cgroup_config, pids)},                                \
	{"io-max", 0, "MAJ:MIN LIMITS", "limit of --cgroup: a block device's, as \"8:0 wbps=1048576\"", \
	 opt_set_str, (at) + offsetof(struct cgroup_config, io)}

/* Puts this process into it, with its limits. Returns 0 or -errno with the message set; then it may be
 * there with some of them only, and must not go on.
 */
int cgroup_join(const struct cgroup_config *c, struct err *e);

/* Writes a text to a file of the cgroup that dir is open on. Returns 0 or -errno, without a message. */
int cgroup_write(int dir, const char *name, const char *text);

#endif
