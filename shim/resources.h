/* SPDX-License-Identifier: Apache-2.0
 *
 * resources: the "linux.resources" of an OCI configuration, or of an update, as files of the
 * container's cgroup in the guest. Of version 1's numbers those that version 2 has another name for
 * are converted, as runc and crun do; what neither has is an error that names the field.
 *
 * Memory has a second meaning: it is what the VM is made for (oci_resources.memory).
 */
#ifndef UVM_SHIM_RESOURCES_H
#define UVM_SHIM_RESOURCES_H

#include "vmm/container.h"
#include "vmm/json.h"

#define RESOURCES_VALUES 36u /* files of the cgroup */
#define RESOURCES_TEXT	 48u

struct oci_resources {
	struct container_value value[RESOURCES_VALUES];
	size_t values;
	uint64_t memory;    /* limit in bytes; 0: none */
	uint64_t cpu_count; /* how many the quota is worth, rounded up; 0: no quota */
	const char *cpus, *mems; /* of the host, on which the VM may run; or NULL */
	char text[RESOURCES_VALUES][RESOURCES_TEXT];
};

/* Adds what v, which may be NULL and else outlives r, says. r is zeroed at first. Returns 0 or
 * -EINVAL with the message set.
 */
int oci_resources_parse(struct oci_resources *r, const struct json *v, struct err *e);

#endif
