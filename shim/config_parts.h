/* SPDX-License-Identifier: Apache-2.0
 *
 * config_parts: parts of config.json that have files of their own. For shim/config.c.
 */
#ifndef UVM_SHIM_CONFIG_PARTS_H
#define UVM_SHIM_CONFIG_PARTS_H

#include "shim/config.h"

/* Whether it is a path in the container: absolute, and leads nowhere but down. */
bool oci_path_ok(const char *path);

/* Each takes a part of v, the whole configuration, into c. Returns 0 or -errno with the message set. */

/* linux.devices, linux.resources.devices */
int oci_devices_parse(struct oci_config *c, const struct json *v, struct err *e);

/* linux.namespaces, linux.uidMappings and gidMappings */
int oci_namespaces_parse(struct oci_config *c, const struct json *v, struct err *e);

#endif
