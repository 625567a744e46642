/* SPDX-License-Identifier: Apache-2.0
 *
 * contain: what makes a new process a container's: as its first one it makes what the CREATE says, as
 * another one, or to change something, it joins what is there. In the child, between fork and exec.
 */
#ifndef UVM_AGENT_CONTAIN_H
#define UVM_AGENT_CONTAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"

/* Namespaces (enum agent_namespace) as flags of clone3 and setns. */
uint64_t contain_flags(uint32_t namespaces);

/* Those that clone3 makes. The others the child makes itself, once it is where it belongs. */
uint64_t contain_clone_flags(uint32_t namespaces);

struct contain_create {
	const struct create *create;
	int pod; /* pidfd of the first process of the container whose namespaces it joins, or -1 */
	char *pid; /* NUMBER_SIZE bytes for what the guest's /proc calls the process */
	const struct create *staged; /* what contain_stage() has done before; NULL: nothing */
};

/* Does what can be done without the root and the program: namespaces, and the mounts with what belongs in
 * them, at a place of their own. Of the CREATE only its namespaces, mounts, devices, masked and read-only
 * paths count, and of those nothing may lie outside of the mounts.
 */
void contain_stage(const struct spawn *s, const struct contain_create *x);

/* Fills in what s is for the first process of a container. */
void contain_spawn(struct spawn *s, const struct contain_create *x);

struct contain_join {
	int pidfd; /* of the container's first process */
	bool user; /* it has a user namespace of its own */
};

/* For struct spawn, its enter, with a struct contain_join. */
void contain_join(const struct spawn *s, const void *where);

/* Capabilities (bits) that no process of a container with these namespaces of its own gets: the agent
 * is a process that it sees and must not trace.
 */
uint64_t contain_denied(uint32_t own);

/* Mounts into, or unmounts from, the running container whose first process is pidfd; says so to the
 * agent and ends.
 */
_Noreturn void contain_mount(const struct spawn *s, int pidfd, struct records mounts);
_Noreturn void contain_unmount(const struct spawn *s, int pidfd, const char *path);

#endif
