/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config_parts.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/util.h"

enum join {
	NEVER,
	POD,	 /* the sandbox's alone, by a container of its pod */
	SANDBOX, /* or by the sandbox, for which somebody has made it */
	ALWAYS,
};

static const struct {
	const char *name;
	uint32_t bit;
	bool must; /* be the container's own, or the pod's */
	enum join join;
	size_t path; /* in struct oci_config */
} namespaces[] = {
	{"mount", AGENT_NS_MOUNT, true, NEVER, 0},
	{"pid", AGENT_NS_PID, true, POD, offsetof(struct oci_config, pid)},
	{"network", AGENT_NS_NET, true, ALWAYS, offsetof(struct oci_config, network)},
	{"ipc", AGENT_NS_IPC, true, SANDBOX, offsetof(struct oci_config, ipc)},
	{"uts", AGENT_NS_UTS, true, SANDBOX, offsetof(struct oci_config, uts)},
	{"cgroup", AGENT_NS_CGROUP, false, POD, offsetof(struct oci_config, cgroup_ns)},
	{"time", AGENT_NS_TIME, false, NEVER, 0},
	{"user", AGENT_NS_USER, false, NEVER, 0},
};

static bool may_join(const struct oci_config *c, enum join join)
{
	return join == ALWAYS || (join >= POD && c->sandbox) || (join == SANDBOX && c->is_sandbox);
}

static int parse_namespace(struct oci_config *c, const struct json *v, struct err *e)
{
	const char *type = "", *path = NULL;
	int r = json_string(v, "type", &type, e);

	if (!r)
		r = json_string(v, "path", &path, e);
	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		if (strcmp(type, namespaces[i].name))
			continue;
		if (c->spec.new_namespaces & namespaces[i].bit)
			return json_bad(e, v, "is a second namespace of the type '%s'", type);
		c->spec.new_namespaces |= namespaces[i].bit;
		if (!path || !*path)
			return 0;
		if (!may_join(c, namespaces[i].join))
			return json_bad(e, v,
					"joins a namespace of the host's at %s: a virtual machine "
					"cannot; leave out the path",
					path);
		*(const char **)((char *)c + namespaces[i].path) = path;
		return 0;
	}
	return json_bad(e, v, "is of the type '%s', which is not supported; leave it out", type);
}

/* In the guest, those with a path are the sandbox's container's; but its network is the guest's own. One that
 * joins nothing needs no VM but its own.
 */
static void share_with_pod(struct oci_config *c)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		if (!namespaces[i].path || !*(const char **)((char *)c + namespaces[i].path))
			continue;
		any = true;
		c->spec.new_namespaces &= ~namespaces[i].bit;
		if (namespaces[i].bit != AGENT_NS_NET)
			c->spec.pod_namespaces |= namespaces[i].bit;
	}
	if (!any)
		c->sandbox = NULL;
	if (c->spec.pod_namespaces & AGENT_NS_UTS)
		c->spec.hostname = c->spec.domainname = NULL; /* it has them */
}

static int parse_namespaces(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "linux.namespaces", &list, e);

	json_each(n, list) {
		if (!r)
			r = parse_namespace(c, n, e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(namespaces) && !r; i++)
		if (namespaces[i].must && !(c->spec.new_namespaces & namespaces[i].bit))
			r = err_set(e, EINVAL,
				    "config.json: linux.namespaces has none of the type '%s': the host's cannot be "
				    "shared "
				    "with a virtual machine; add {\"type\": \"%s\"}",
				    namespaces[i].name, namespaces[i].name);
	if (!r && c->sandbox)
		share_with_pod(c);
	return r;
}

/* --- the ids of a user namespace --- */

static int parse_map(struct oci_config *c, const struct json *v, uint32_t gid, struct err *e)
{
	uint64_t inside = 0, outside = 0, count = 0;
	int r = json_uint(v, "containerID", UINT32_MAX - 1, &inside, e);

	if (!r)
		r = json_uint(v, "hostID", UINT32_MAX - 1, &outside, e);
	if (!r)
		r = json_uint(v, "size", UINT32_MAX, &count, e);
	if (r)
		return r;
	if (!count || inside + count > UINT32_MAX || outside + count > UINT32_MAX)
		return json_bad(e, v, "has no ids, or more than there are");
	if (c->spec.id_map_count == OCI_ID_MAPS_MAX)
		return json_bad(e, v->parent, "is more than %u ranges together", OCI_ID_MAPS_MAX);
	c->id_map[c->spec.id_map_count++] = (struct agent_id_map){
		(uint32_t)inside, (uint32_t)outside, (uint32_t)count, gid};
	return 0;
}

/* Whether one of them has id 0 in it, whom the container's making is for. */
static bool maps_root(const struct json *list)
{
	json_each(v, list) {
		const struct json *inside = json_get(v, "containerID");

		if (!inside || !inside->magnitude)
			return true;
	}
	return false;
}

static int parse_maps(struct oci_config *c, const struct json *v, const char *path, uint32_t gid,
		      struct err *e)
{
	bool wanted = c->spec.new_namespaces & AGENT_NS_USER;
	const struct json *list = NULL;
	int r = json_array(v, path, &list, e);

	json_each(m, list) {
		if (!r)
			r = parse_map(c, m, gid, e);
	}
	if (!r && json_first(list) && !wanted)
		r = json_bad(e, list,
			     "is there without a namespace of the type 'user'; add that to linux.namespaces");
	if (!r && wanted && !maps_root(list))
		r = err_set(e, EINVAL,
			    "config.json: %s has no entry with containerID 0, as the container's root needs it",
			    path);
	return r;
}

static int parse_ids(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = parse_maps(c, v, "linux.uidMappings", 0, e);

	c->spec.id_maps = c->id_map;
	return r ? r : parse_maps(c, v, "linux.gidMappings", 1, e);
}

int oci_namespaces_parse(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = parse_namespaces(c, v, e);

	return r ? r : parse_ids(c, v, e);
}
