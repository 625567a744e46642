/* SPDX-License-Identifier: Apache-2.0
 *
 * stats: figures of a container or of the guest, as the kernel has them.
 */
#ifndef UVM_AGENT_STATS_H
#define UVM_AGENT_STATS_H

#include <stdint.h>

#include "guest/protocol.h"

/* group: a container's cgroup. root: the one of the whole guest. What is not known is UINT64_MAX. */
void stats_of_group(int group, struct agent_properties *p);
void stats_of_guest(int root, struct agent_properties *p);

/* How many processes the memory limit of a cgroup has killed so far. */
uint64_t stats_oom_kills(int group);

/* The processes of a cgroup, or with group -1 of the guest, AGENT_PROCESSES_MAX at the most. Returns how
 * many.
 */
uint32_t stats_processes(int group, struct agent_process *list);

#endif
