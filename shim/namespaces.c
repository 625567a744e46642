/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config_parts.h"

#include <errno.h>
#include <string.h>

#include "vmm/util.h"

static const struct {
	const char *name;
	uint32_t bit;
	bool must; /* be the container's own */
} namespaces[] = {
	{"mount", AGENT_NS_MOUNT, true},     {"pid", AGENT_NS_PID, true},
	{"network", AGENT_NS_NET, true},     {"ipc", AGENT_NS_IPC, true},
	{"uts", AGENT_NS_UTS, true},	     {"cgroup", AGENT_NS_CGROUP, false},
	{"time", AGENT_NS_TIME, false},	     {"user", AGENT_NS_USER, false},
};

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
		if (namespaces[i].bit != AGENT_NS_NET)
			return json_bad(e, v,
					"joins a namespace of the host's at %s: a virtual machine "
					"cannot",
					path);
		c->network = path;
		return 0;
	}
	return json_bad(e, v, "is of the type '%s', which is not supported", type);
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
				    "config.json: linux.namespaces has none of the type '%s': the host's "
				    "cannot be shared with a virtual machine",
				    namespaces[i].name);
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
		r = json_bad(e, list, "is there without a namespace of the type 'user'");
	if (!r && wanted && !maps_root(list))
		r = err_set(e, EINVAL, "config.json: %s has no entry for the container's id 0", path);
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
