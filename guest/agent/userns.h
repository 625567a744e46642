/* SPDX-License-Identifier: Apache-2.0
 *
 * userns: a container's user namespace. In the child, as the rest of contain.h.
 *
 * All that a container is made of is made with the guest's rights; its first process enters the user
 * namespace when that is done. The namespaces in which its root shall have rights are made in the user
 * namespace, by a helper: network, IPC, host name; the mounts' is copied there at the end. The PID and
 * time namespaces stay the guest's.
 */
#ifndef UVM_AGENT_USERNS_H
#define UVM_AGENT_USERNS_H

#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"

/* Namespaces (enum agent_namespace) that are made in a new user namespace and not by clone3. */
#define USERNS_INSIDE (AGENT_NS_NET | AGENT_NS_IPC | AGENT_NS_UTS)

struct userns {
	pid_t helper;	/* holds it until somebody is in it; 0: there is none */
	int pidfd;	/* the helper's */
	int fd;		/* the namespace, for mounts; -1: there is none */
	uint32_t uid, gid; /* what its root is outside */
};

/* Makes what c wants, and joins those of USERNS_INSIDE. Does not return if it fails. */
void userns_make(struct userns *u, const struct spawn *s, const struct create *c);

/* Enters it as its root, with all capabilities in it and none outside. */
void userns_enter(const struct userns *u, const struct spawn *s);

/* Enters those of a process, its user namespace being one of flags (CLONE_*), likewise. */
void userns_join(const struct spawn *s, int pidfd, uint64_t flags);

#endif
