/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "shim/options.h"
#include "vmm/util.h"

#define VERSION_MAX 32u

static int no_memory(struct err *e)
{
	return err_set(e, ENOMEM, "out of memory");
}

/* --- what is refused --- */

static int refuse(const struct json *v, const char *path, const char *why, struct err *e)
{
	const struct json *m = json_get(v, path);

	if (!m || ((m->type == JSON_ARRAY || m->type == JSON_OBJECT) && !m->count))
		return 0;
	return json_bad(e, m, "is not supported: %s", why);
}

static int refuse_all(const struct json *v, struct err *e)
{
	static const struct {
		const char *path, *why;
	} table[] = {
		{"solaris", "this is Linux"},
		{"windows", "this is Linux"},
		{"vm", "the virtual machine is this runtime's own"},
		{"zos", "this is Linux"},
		{"linux.uidMappings", "user namespaces in the VM"},
		{"linux.gidMappings", "user namespaces in the VM"},
		{"linux.intelRdt", "the guest has no such controller"},
		{"linux.personality", "the guest's kernel knows one only"},
		{"hooks.createContainer", "hooks inside of the VM"},
		{"hooks.startContainer", "hooks inside of the VM"},
		{"hooks.prestart", "hooks"},
		{"hooks.createRuntime", "hooks"},
		{"hooks.poststart", "hooks"},
		{"hooks.poststop", "hooks"},
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table) && !r; i++)
		r = refuse(v, table[i].path, table[i].why, e);
	return r;
}

static int parse_version(const struct json *v, struct err *e)
{
	const char *version = "";
	int r = json_required(v, "ociVersion", e);

	if (!r)
		r = json_string(v, "ociVersion", &version, e);
	if (r)
		return r;
	if (strncmp(version, "1.", 2) || strlen(version) > VERSION_MAX)
		return json_bad(e, json_get(v, "ociVersion"), "is a version that is not known");
	return 0;
}

/* --- paths --- */

/* In the container: absolute, and leads nowhere but down. */
static bool path_ok(const char *p)
{
	if (*p != '/')
		return false;
	for (; p; p = strchr(p, '/')) {
		p += strspn(p, "/");
		if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/'))
			return false;
	}
	return true;
}

static int parse_paths(const struct json *v, const char *path, const char ***to, struct err *e)
{
	int r = json_strings(v, path, to, e);

	for (size_t i = 0; !r && *to && (*to)[i]; i++)
		if (!path_ok((*to)[i]))
			r = json_bad(e, json_get(v, path), "has '%s' in it, which is no path",
				     (*to)[i]);
	return r;
}

/* --- mounts --- */

/* What the guest's kernel makes. Everything else that a mount may be is the host's. */
static bool is_guests(const char *type)
{
	static const char *const types[] = {"proc",   "sysfs",	"cgroup", "cgroup2",
					    "devpts", "mqueue", "tmpfs"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

static int add_guests(struct oci_config *c, const char *source, const char *target,
		      const char *type, const struct mount_options *o, struct err *e)
{
	char *data = strdup(o->data);

	if (!data)
		return no_memory(e);
	c->mount[c->spec.mount_count++] = (struct container_mount){
		.source = source, .target = target, .type = type, .data = data, .flags = o->flags};
	return 0;
}

/* The host's shared memory stays the host's: the container has its own, in the guest. */
static int add_shm(struct oci_config *c, const struct mount_options *o, struct err *e)
{
	struct mount_options own = {.flags = o->flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC),
				    .data = "mode=1777"};

	return add_guests(c, "shm", "/dev/shm", "tmpfs", &own, e);
}

static int parse_mount(struct oci_config *c, const struct json *v, struct err *e)
{
	const char *source = NULL, *target = "", *type = "";
	const struct json *list = NULL;
	struct mount_options o;
	int r = json_required(v, "destination", e);

	if (!r)
		r = json_string(v, "destination", &target, e);
	if (!r)
		r = json_string(v, "source", &source, e);
	if (!r)
		r = json_string(v, "type", &type, e);
	if (!r)
		r = json_array(v, "options", &list, e);
	if (!r)
		r = mount_options_parse(&o, list, e);
	if (!r)
		r = refuse(v, "uidMappings", "mounts with ids of their own", e);
	if (!r)
		r = refuse(v, "gidMappings", "mounts with ids of their own", e);
	if (r)
		return r;
	if (!path_ok(target) || !target[strspn(target, "/")])
		return json_bad(e, v, "has the destination '%s', which is none", target);
	if (!strcmp(type, "bind"))
		o.flags |= MS_BIND;
	if (o.flags & MS_BIND && !strcmp(target, "/dev/shm"))
		return add_shm(c, &o, e);
	if (!(o.flags & MS_BIND)) {
		if (!is_guests(type))
			return json_bad(e, v, "is of the type '%s', which is not supported", type);
		return add_guests(c, source ? source : type, target, type, &o, e);
	}
	if (!source || !*source)
		return json_bad(e, v, "has no source");
	if (*o.data)
		return json_bad(e, v, "has options that a bind mount cannot have: '%s'", o.data);
	c->bind[c->binds++] = (struct oci_bind){source, target, o.flags};
	return 0;
}

/* Whether path is at or below dir. */
static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

/* The host's mounts are all below the guest's, which would hide them. */
static int check_order(const struct oci_config *c, const struct json *mounts, struct err *e)
{
	for (size_t i = 0; i < c->binds; i++)
		for (size_t k = 0; k < c->spec.mount_count; k++)
			if (below(c->bind[i].target, c->mount[k].target))
				return json_bad(e, mounts,
						"has %s of the host's on or below %s, which is the guest's: "
						"this is not supported",
						c->bind[i].target, c->mount[k].target);
	return 0;
}

static int parse_mounts(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "mounts", &list, e);
	size_t n = list ? list->count : 0;

	if (r)
		return r;
	c->mount = calloc(n + 1, sizeof(*c->mount));
	c->bind = calloc(n + 1, sizeof(*c->bind));
	if (!c->mount || !c->bind)
		return no_memory(e);
	c->spec.mounts = c->mount;
	json_each(m, list) {
		r = parse_mount(c, m, e);
		if (r)
			return r;
	}
	return check_order(c, list, e);
}

/* --- devices --- */

#define NODE(name, major, minor) {"/dev/" name, {'c', 0666, major, minor, 0, 0}}

/* The specification's default devices. What is the same in every Linux can be the guest's; a device of
 * the host's can't.
 */
static const struct container_device own_devices[] = {
	NODE("null", 1, 3),   NODE("zero", 1, 5),    NODE("full", 1, 7),
	NODE("random", 1, 8), NODE("urandom", 1, 9), NODE("tty", 5, 0),
};

static bool is_guests_device(const struct agent_device *d)
{
	if (d->type != 'c')
		return d->type == 'p';
	for (size_t i = 0; i < ARRAY_SIZE(own_devices); i++)
		if (own_devices[i].node.major == d->major && own_devices[i].node.minor == d->minor)
			return true;
	return d->major == 5 && d->minor <= 2; /* console, ptmx */
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
	if (!path_ok(path) || !path[strspn(path, "/")] || strlen(type) != 1 || !strchr("cubp", *type))
		return json_bad(e, v, "is no device");
	*d = (struct container_device){path,
				       {(uint32_t)(*type == 'u' ? 'c' : *type), mode & 07777,
					(uint32_t)major, (uint32_t)minor, (uint32_t)uid,
					(uint32_t)gid}};
	if (!is_guests_device(&d->node))
		return json_bad(e, v, "is %s: a device of the host's cannot be in a virtual machine",
				path);
	if (c->spec.device_count == OCI_DEVICES_MAX - 1)
		return json_bad(e, v->parent, "has more than %u devices", OCI_DEVICES_MAX - 1);
	c->spec.device_count++;
	return 0;
}

static int parse_devices(struct oci_config *c, const struct json *v, struct err *e)
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
		return json_bad(e, v, "is no rule about devices");
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
		return json_bad(e, list, "has too many rules");
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

/* --- namespaces --- */

static const struct {
	const char *name;
	uint32_t bit;
	bool must; /* be the container's own */
} namespaces[] = {
	{"mount", AGENT_NS_MOUNT, true},     {"pid", AGENT_NS_PID, true},
	{"network", AGENT_NS_NET, true},     {"ipc", AGENT_NS_IPC, true},
	{"uts", AGENT_NS_UTS, true},	     {"cgroup", AGENT_NS_CGROUP, false},
	{"time", AGENT_NS_TIME, false},
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

/* --- the rest --- */

static int parse_sysctls(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_object(v, "linux.sysctl", &list, e);

	if (r)
		return r;
	c->sysctl = calloc((list ? list->count : 0) + 1, sizeof(*c->sysctl));
	if (!c->sysctl)
		return no_memory(e);
	c->spec.sysctls = c->sysctl;
	json_each(s, list) {
		const char *value = "";

		r = json_string(s, "", &value, e);
		if (r)
			return r;
		c->sysctl[c->spec.sysctl_count++] = (struct container_value){s->key, value};
	}
	return 0;
}

static int parse_annotations(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = json_object(v, "annotations", &c->annotations, e);

	json_each(a, c->annotations) {
		const char *text = "";

		if (!r)
			r = json_string(a, "", &text, e);
	}
	return r;
}

static int check_propagation(const struct json *v, struct err *e)
{
	static const char *const known[] = {"",	      "private",  "rprivate", "slave",
					    "rslave", "shared",	  "rshared",  "unbindable",
					    "runbindable"};
	const char *word = "";
	int r = json_string(v, "linux.rootfsPropagation", &word, e);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(word, known[i]))
			return 0;
	return json_bad(e, json_get(v, "linux.rootfsPropagation"), "is not known");
}

static int parse_names(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = json_required(v, "root", e);

	if (!r)
		r = json_required(v, "root.path", e);
	if (!r)
		r = json_string(v, "root.path", &c->root, e);
	if (!r && !*c->root)
		r = json_bad(e, json_get(v, "root.path"), "is empty");
	if (!r)
		r = json_bool(v, "root.readonly", &c->read_only, e);
	if (!r)
		r = json_string(v, "hostname", &c->spec.hostname, e);
	if (!r)
		r = json_string(v, "domainname", &c->spec.domainname, e);
	if (!r)
		r = json_string(v, "linux.cgroupsPath", &c->cgroup, e);
	return r;
}

static int parse_process(struct oci_config *c, const struct json *v, struct err *e)
{
	const struct json *process = NULL;
	int r = json_required(v, "process", e);

	if (!r)
		r = json_object(v, "process", &process, e);
	if (!r)
		r = oci_process_parse(&c->process, process, e);
	return r ? r : oci_process_seccomp(&c->process, json_get(v, "linux.seccomp"), e);
}

static int parse(struct oci_config *c, const struct json *v, struct err *e)
{
	static int (*const parts[])(struct oci_config *c, const struct json *v, struct err *e) = {
		parse_names,   parse_process, parse_namespaces, parse_mounts,	  parse_devices,
		parse_rules,   parse_sysctls, parse_annotations,
	};
	int r = v->type == JSON_OBJECT ? parse_version(v, e)
				       : err_set(e, EINVAL, "config.json is no JSON object");

	if (!r)
		r = refuse_all(v, e);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && !r; i++)
		r = parts[i](c, v, e);
	if (!r)
		r = check_propagation(v, e);
	if (!r)
		r = parse_paths(v, "linux.maskedPaths", &c->masked, e);
	if (!r)
		r = parse_paths(v, "linux.readonlyPaths", &c->readonly, e);
	if (!r)
		r = oci_resources_parse(&c->resources, json_get(v, "linux.resources"), e);
	c->spec.masked = c->masked;
	c->spec.readonly = c->readonly;
	c->spec.cgroup = c->resources.value;
	c->spec.cgroup_count = c->resources.values;
	return r;
}

int oci_config_parse(struct oci_config *c, const char *text, size_t len, struct err *e)
{
	int r = json_parse(&c->doc, text, len, "config.json", e);

	return r ? r : parse(c, c->doc.root, e);
}

void oci_config_free(struct oci_config *c)
{
	for (size_t i = 0; c->mount && i < c->spec.mount_count; i++)
		free((char *)(uintptr_t)c->mount[i].data);
	free(c->mount);
	free(c->bind);
	free(c->masked);
	free(c->readonly);
	free(c->sysctl);
	oci_process_free(&c->process);
	json_free(&c->doc);
	*c = (struct oci_config){0};
}
