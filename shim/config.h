/* SPDX-License-Identifier: Apache-2.0
 *
 * config: a bundle's config.json (OCI runtime specification 1.0 and 1.1) as what makes a VM and the
 * container in it. docs/oci-runtime.md has the table of what is honoured, mapped and refused.
 *
 * The JSON is hostile. Nothing here looks at a file system: what paths lead to is shim/rootfs.h's.
 */
#ifndef UVM_SHIM_CONFIG_H
#define UVM_SHIM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/hooks.h"
#include "shim/process.h"
#include "shim/resources.h"
#include "vmm/container.h"
#include "vmm/err.h"
#include "vmm/json.h"

#define OCI_VERSION	"1.0.2"
#define OCI_DEVICES_MAX 64u
#define OCI_RULES_MAX	128u
#define OCI_ID_MAPS_MAX 340u /* of users and groups; each can have as many lines as a page holds */

/* A mount of something of the host's: it is made on the host, in the tree that the guest sees, and once
 * more by the guest, of what is there in its share. So it is there too when the guest has mounted
 * something over it, and the guest's kernel knows whether it may be written to, or have programs.
 */
struct oci_bind {
	const char *source, *target;
	char *share;	/* the guest's source */
	uint64_t flags; /* MS_* */
};

struct oci_config {
	struct json_doc doc;
	const char *root;  /* path, perhaps relative to the bundle's */
	bool read_only;
	bool image; /* the caller's: the guest has an image of the root, and not the root itself */
	struct oci_process process;
	struct container_spec spec; /* all but what its root is */
	struct oci_bind *bind;	    /* in their order */
	size_t binds;
	const char *cgroup;  /* or NULL */
	/* Paths of namespaces; NULL: a new one. */
	const char *network, *ipc, *uts, *pid, *cgroup_ns;
	/* By annotations: the container in whose VM this one is to be, or NULL: in one of its own, which (for
	 * a sandbox) others will join.
	 */
	const char *sandbox;
	bool is_sandbox;
	struct oci_resources resources;
	const struct json *annotations; /* an object of strings, or NULL */
	const struct json *hooks;	/* checked, or NULL */

	struct container_mount *mount;
	const char **masked, **readonly;
	struct container_value *sysctl;
	struct container_hook *hook;
	struct container_device device[OCI_DEVICES_MAX];
	struct agent_device_rule rule[OCI_RULES_MAX];
	struct agent_id_map id_map[OCI_ID_MAPS_MAX];
};

/* Parses a text into c, which is zeroed. Returns 0, or -EINVAL, -E2BIG or -ENOMEM with the message set.
 * oci_config_free in any case.
 */
int oci_config_parse(struct oci_config *c, const char *text, size_t len, struct err *e);
void oci_config_free(struct oci_config *c);

/* The tree with the bind mounts is at this place in the guest's share, and not the share itself, which it is
 * else. Returns 0 or -ENOMEM with the message set.
 */
int oci_config_set_share(struct oci_config *c, const char *where, struct err *e);

#endif
