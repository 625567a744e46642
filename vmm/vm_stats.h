/* SPDX-License-Identifier: Apache-2.0
 *
 * vm_stats: what there is to know of a VM from outside, for the commands that show it.
 *
 * The monitor counts what only it sees (exits, requests of disks, bytes of sockets) and tells it over the
 * control socket; the kernel knows of the monitor's process; and the agent tells what the guest and its
 * container use, if it answers soon.
 */
#ifndef UVM_VMM_VM_STATS_H
#define UVM_VMM_VM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/agent.h"
#include "vmm/control.h"
#include "vmm/rundir.h"

struct vm_stats {
	char id[RUNDIR_ID_MAX + 1];
	char status[CONTROL_ANSWER], stats[CONTROL_ANSWER];
	uint64_t cpu_ms;		 /* of the monitor's process: guest, devices, kernel */
	uint64_t resident, proportional; /* bytes, guest memory included */
	unsigned int threads;
	bool has_guest, has_container; /* their figures are known, as the guest tells them */
	struct agent_properties guest, container;
};

/* The agent's figures. Times are microseconds there, and seconds in metrics. */
struct vm_figure {
	const char *name; /* in JSON */
	const char *metric, *type, *help;
	size_t at; /* in struct agent_properties */
};

/* The balloon, and what the guest's kernel tells by it of its memory. */
struct vm_balloon {
	const char *name; /* in JSON and in metrics */
	const char *key;  /* in the VM's stats */
	const char *type, *help;
};

/* Each ends with a NULL name. */
extern const struct vm_figure vm_figures[];
extern const struct vm_balloon vm_balloon[];

/* What nobody knows, or no limit. */
#define VM_STATS_UNKNOWN UINT64_MAX

/* Asks them all. The agent is waited for no longer than CLIENT_SOON_MS. Returns 0, or -errno with a message:
 * there is no such VM, or its monitor does not answer.
 */
int vm_stats_read(struct vm_stats *s, const char *id, struct err *e);

/* The memory of a process that is known to the kernel by this number: returns its proportional size, and sets
 * its resident one, in bytes; 0 where they cannot be had.
 */
uint64_t vm_stats_memory(uint64_t pid, uint64_t *resident);

/* A figure of the agent's. */
uint64_t vm_stats_figure(const struct vm_figure *f, const struct agent_properties *p);

/* The number of a key in an answer of the monitor's, 0 if it is not there; whether the stats have it; and both
 * for part n of several, "key.n".
 */
uint64_t vm_stats_value(const char *answer, const char *key);
bool vm_stats_has(const struct vm_stats *s, const char *key);
uint64_t vm_stats_part(const struct vm_stats *s, const char *key, unsigned int n);
bool vm_stats_has_part(const struct vm_stats *s, const char *key, unsigned int n);

#endif
