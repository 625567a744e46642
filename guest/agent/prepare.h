/* SPDX-License-Identifier: Apache-2.0
 *
 * prepare: a container that is made before anybody asks for it, as far as it can be without its root and
 * its program, so that a copy of the guest has less to do when somebody does.
 *
 * Theory of operation. PREPARE is answered when there is a process that has the namespaces, in the
 * cgroup of the name, and everything mounted that the container shall have beside its root (contain.h:
 * staged). It waits. A CREATE that wants exactly that, and whatever else, is sent to it with the
 * descriptors, and it goes on where a new process would have come to. For any other CREATE a process is
 * made as if there was none prepared; one of the same name takes its place.
 */
#ifndef UVM_AGENT_PREPARE_H
#define UVM_AGENT_PREPARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"
#include "guest/protocol.h"

struct agent;

struct prepared {
	pid_t pid; /* of the process that waits; 0: there is none, and nothing else counts */
	int pidfd;
	int group;
	int order; /* the socket on which it waits */
	int program, mounts; /* as a container has them, or -1 */
	struct create create; /* what it is prepared for, in request */
	_Alignas(8) uint8_t request[AGENT_PREPARE_MAX];
};

/* Makes what the payload of a PREPARE says, in place of what is there. No bytes: nothing. Returns 0 or
 * -errno with *why.
 */
int prepare_make(struct agent *a, const void *payload, uint32_t length, const char **why);

/* Whether the container that c describes can be what is prepared. */
bool prepare_fits(const struct prepared *p, const struct create *c);

/* Has it go on as the first process of the container. Returns its pid, and then it, its cgroup and its
 * pidfd are the caller's and nothing is prepared any more; or 0 if it is gone.
 */
pid_t prepare_order(struct prepared *p, const struct create *c, const struct spawn *s);

/* Ends it and removes its cgroup. */
void prepare_drop(struct agent *a);

#endif
