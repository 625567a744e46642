/* SPDX-License-Identifier: Apache-2.0
 *
 * process: the "process" of an OCI configuration, which is also all that an exec is given, as the
 * request that the agent gets.
 *
 * The JSON is hostile. A field that this runtime does not know is left alone, as the specification
 * says; one that it knows and cannot honour is an error that names it.
 */
#ifndef UVM_SHIM_PROCESS_H
#define UVM_SHIM_PROCESS_H

#include <linux/filter.h>

#include "guest/protocol.h"
#include "vmm/exec.h"
#include "vmm/json.h"

struct oci_process {
	struct exec_request request; /* points into the rest, and into the document */
	bool terminal;
	uint16_t rows, cols; /* of the terminal; 0: not said */
	const char **args, **env;
	uint32_t groups[AGENT_GROUPS_MAX];
	struct agent_rlimit rlimits[AGENT_RLIMITS_MAX];
	struct agent_caps caps;
	_Alignas(8) struct sock_filter filter[AGENT_FILTER_MAX];
};

/* Fills p, which is zeroed, from the object v, which outlives it. Returns 0, -EINVAL or -ENOMEM with
 * the message set. oci_process_free in any case.
 */
int oci_process_parse(struct oci_process *p, const struct json *v, struct err *e);

/* Compiles "linux.seccomp" of the container's configuration, or no filter for NULL. */
int oci_process_seccomp(struct oci_process *p, const struct json *seccomp, struct err *e);

/* Goes through the members of a process that are there and have no effect in a VM, *i being 0 at first.
 * Returns the next one, or NULL.
 */
const struct json *oci_process_ignored(const struct json *v, size_t *i);

void oci_process_free(struct oci_process *p);

#endif
