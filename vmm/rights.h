/* SPDX-License-Identifier: Apache-2.0
 *
 * rights: what a container's process may, as the options of docker and podman say it: capabilities,
 * limits, seccomp profiles. Names and numbers are those of capabilities(7) and getrlimit(2).
 */
#ifndef UVM_VMM_RIGHTS_H
#define UVM_VMM_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/filter.h>

#include "guest/protocol.h"
#include "vmm/err.h"
#include "vmm/exec.h"

/* The number of a capability ("CAP_NET_ADMIN", "net_admin") or limit ("nofile"), or -1. */
int rights_cap(const char *name);
int rights_limit(const char *name);

/* What --cap-add and --cap-drop say, in any order. */
struct rights_caps {
	uint64_t add, drop;
	bool add_all, drop_all;
};

/* Takes a name, or "ALL". Returns 0 or -EINVAL with the message set. */
int rights_take_cap(struct rights_caps *c, const char *name, bool add, struct err *e);

/* The capabilities of a process that has usual ones otherwise. */
struct agent_caps rights_make_caps(const struct rights_caps *c, const struct agent_caps *usual);

/* Takes NAME=SOFT[:HARD], -1 or "unlimited" being none, into list, which has *n. One of a name that is
 * there is replaced. Returns 0 or -EINVAL with the message set.
 */
int rights_take_limit(struct agent_rlimit list[AGENT_RLIMITS_MAX], size_t *n, const char *text,
		      struct err *e);

/* Gives a process the n instructions of a filter, which stay the caller's, with flags of seccomp(2). */
void rights_set_filter(struct exec_request *rq, const struct sock_filter *filter, size_t n,
		       uint32_t flags);

/* Compiles the seccomp profile in a file, as docker and podman have them, into rq, whose capabilities are
 * set and say which entries apply, and whose filter is malloc'ed and becomes the caller's. Returns 0 or
 * -errno with the message set.
 */
int rights_load_profile(struct exec_request *rq, const char *file, struct err *e);

#endif
