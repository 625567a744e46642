/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config_parts.h"

#include <string.h>

#include "vmm/util.h"

#define NODE(name, major, minor) {"/dev/" name, {'c', 0666, major, minor, 0, 0}}

/* The specification's default devices. */
static const struct container_device own_devices[] = {
	NODE("null", 1, 3),   NODE("zero", 1, 5),    NODE("full", 1, 7),
	NODE("random", 1, 8), NODE("urandom", 1, 9), NODE("tty", 5, 0),
};

/* What is the same in every Linux can be the guest's; a device of the host's can't. */
static bool is_guests_device(const struct agent_device *d)
{
	static const struct {
		uint32_t major, minor;
	} more[] = {{1, 11}, {5, 1}, {5, 2}, {10, 229}}; /* kmsg, console, ptmx, fuse */

	if (d->type != 'c')
		return d->type == 'p';
	for (size_t i = 0; i < ARRAY_SIZE(own_devices); i++)
		if (own_devices[i].node.major == d->major && own_devices[i].node.minor == d->minor)
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		if (more[i].major == d->major && more[i].minor == d->minor)
			return true;
	return false;
}

static int parse_device(struct oci_config *c, const struct json *v, struct err *e)
{
	struct container_device *d = &c->device[c->spec.device_count];
	uint64_t major = 0, minor = 0, mode = 0666, uid = 0, gid = 0;
	const char *type = "", *path = "";
	int r = json_string(v, "path", &path, e);

	if (!r)
		r = json_string(v, "type", &type, e);
	if (!r)
		r = json_uint(v, "major", 0xfff, &major, e);
	if (!r)
		r = json_uint(v, "minor", 0xfffff, &minor, e);
	if (!r)
		r = json_uint(v, "fileMode", UINT32_MAX, &mode, e);
	if (!r)
		r = json_uint(v, "uid", UINT32_MAX - 1, &uid, e);
	if (!r)
		r = json_uint(v, "gid", UINT32_MAX - 1, &gid, e);
	if (r)
		return r;
	if (!oci_path_ok(path) || !path[strspn(path, "/")] || strlen(type) != 1 || !strchr("cubp", *type))
		return json_bad(e, v,
				"is no device: that has an absolute path without '..', and a type of c, u, b and p");
	*d = (struct container_device){path,
				       {(uint32_t)(*type == 'u' ? 'c' : *type), mode & 07777,
					(uint32_t)major, (uint32_t)minor, (uint32_t)uid,
					(uint32_t)gid}};
	if (!is_guests_device(&d->node))
		return json_bad(e, v, "is %s: a device of the host's cannot be in a virtual machine; leave it out",
				path);
	if (c->spec.device_count == OCI_DEVICES_MAX - 1)
		return json_bad(e, v->parent, "has more than %u devices", OCI_DEVICES_MAX - 1);
	c->spec.device_count++;
	return 0;
}

static int parse_nodes(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "linux.devices", &list, e);

	memcpy(c->device, own_devices, sizeof(own_devices));
	c->spec.devices = c->device;
	c->spec.device_count = ARRAY_SIZE(own_devices);
	json_each(d, list) {
		if (!r)
			r = parse_device(c, d, e);
	}
	return r;
}

static int parse_rule(struct oci_config *c, const struct json *v, struct err *e)
{
	int64_t major = -1, minor = -1;
	const char *type = "a", *access = "";
	struct agent_device_rule rule = {0};
	bool allow = false;
	int r = json_bool(v, "allow", &allow, e);

	if (!r)
		r = json_string(v, "type", &type, e);
	if (!r)
		r = json_string(v, "access", &access, e);
	if (!r)
		r = json_int(v, "major", -1, INT32_MAX, &major, e);
	if (!r)
		r = json_int(v, "minor", -1, INT32_MAX, &minor, e);
	if (r)
		return r;
	rule.allow = allow;
	rule.type = *type == 'u' ? 'c' : (uint32_t)*type;
	rule.major = (int32_t)major;
	rule.minor = (int32_t)minor;
	for (const char *p = access; *p; p++)
		rule.access |= *p == 'm' ? 1 : *p == 'r' ? 2 : *p == 'w' ? 4 : 8;
	if (!rule.access) /* as runc has it: all */
		rule.access = 7;
	if (!*type || type[1] || !strchr("acub", *type) || rule.access > 7)
		return json_bad(
			e, v, "is no rule about devices: that has a type of a, c, u and b, and an access of r, w, m");
	if (c->spec.rule_count == OCI_RULES_MAX)
		return json_bad(e, v->parent, "has more than %u rules", OCI_RULES_MAX);
	c->rule[c->spec.rule_count++] = rule;
	return 0;
}

/* The devices that every container has may be used, whatever the rules say before. */
static int add_own_rules(struct oci_config *c, const struct json *list, struct err *e)
{
	static const struct agent_device_rule more[] = {
		{1, 'c', 5, 1, 7, 0}, {1, 'c', 5, 2, 7, 0}, {1, 'c', 136, -1, 7, 0}};

	if (!c->spec.rule_count)
		return 0;
	if (c->spec.rule_count + ARRAY_SIZE(own_devices) + ARRAY_SIZE(more) > OCI_RULES_MAX)
		return json_bad(e, list, "has more than %u rules, with those for what every container has",
				OCI_RULES_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(own_devices); i++) {
		const struct agent_device *d = &own_devices[i].node;

		c->rule[c->spec.rule_count++] = (struct agent_device_rule){
			1, d->type, (int32_t)d->major, (int32_t)d->minor, 7, 0};
	}
	memcpy(c->rule + c->spec.rule_count, more, sizeof(more));
	c->spec.rule_count += ARRAY_SIZE(more);
	return 0;
}

static int parse_rules(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "linux.resources.devices", &list, e);

	c->spec.rules = c->rule;
	json_each(d, list) {
		if (!r)
			r = parse_rule(c, d, e);
	}
	return r ? r : add_own_rules(c, list, e);
}

int oci_devices_parse(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = parse_nodes(c, v, e);

	return r ? r : parse_rules(c, v, e);
}
