/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include "shim/config_parts.h"
#include "shim/options.h"
#include "vmm/template.h"
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
		{"linux.intelRdt", "the guest has no such controller"},
		{"linux.timeOffsets", "the guest's clocks are the VM's"},
		{"linux.netDevices", "devices of the host's are not the VM's"},
		{"linux.memoryPolicy", "the guest has one node"},
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
		return json_bad(e, json_get(v, "ociVersion"), "is '%s', but this runtime knows versions 1.x",
				version);
	return 0;
}

/* --- paths --- */

bool oci_path_ok(const char *p)
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
		if (!oci_path_ok((*to)[i]))
			r = json_bad(e, json_get(v, path), "has '%s' in it, which is no absolute path without '..'",
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
		.source = source, .target = target, .type = type, .data = data, .flags = o->flags,
		.copy_up = o->copy_up};
	return 0;
}

/* The host's shared memory stays the host's: the container has its own, in the guest, of the same size. */
static int add_shm(struct oci_config *c, const char *source, const struct mount_options *o,
		   struct err *e)
{
	struct mount_options own = {.flags = o->flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC),
				    .data = "mode=1777"};
	struct statfs fs;
	int r;

	/* What belongs to an IPC namespace is the pod's with that. */
	if (c->spec.pod_namespaces & AGENT_NS_IPC) {
		*own.data = '\0';
		own.flags |= MS_BIND;
		r = add_guests(c, "/dev/shm", "/dev/shm", "", &own, e);
		if (!r)
			c->mount[c->spec.mount_count - 1].of_pod = true;
		return r;
	}
	if (source && !statfs(source, &fs) && fs.f_type == TMPFS_MAGIC && fs.f_blocks)
		snprintf(own.data, sizeof(own.data), "mode=1777,size=%" PRIu64,
			 (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize);
	return add_guests(c, "shm", "/dev/shm", "tmpfs", &own, e);
}

static int add_bind(struct oci_config *c, const char *source, const char *target, uint64_t flags,
		    struct err *e)
{
	struct mount_options own = {.flags = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC |
						      MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME)};
	struct oci_bind *b = &c->bind[c->binds];

	*b = (struct oci_bind){.source = source, .target = target, .flags = flags};
	if (asprintf(&b->share, TEMPLATE_SHARE "%s", target) < 0) {
		b->share = NULL;
		return no_memory(e);
	}
	c->binds++;
	return add_guests(c, b->share, target, "virtiofs", &own, e);
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
	if (!oci_path_ok(target) || !target[strspn(target, "/")])
		return json_bad(e, v, "has the destination '%s', which is no absolute path without '..' below /",
				target);
	if (!strcmp(type, "bind"))
		o.flags |= MS_BIND;
	if (o.copy_up && (o.flags & MS_BIND || strcmp(type, "tmpfs")))
		return json_bad(e, v, "has the option 'tmpcopyup', but is no tmpfs");
	if (o.flags & MS_BIND && !strcmp(target, "/dev/shm"))
		return add_shm(c, source, &o, e);
	if (!(o.flags & MS_BIND)) {
		if (!is_guests(type))
			return json_bad(e, v,
					"is of the type '%s', which is not supported: there are bind, proc, sysfs, "
					"cgroup, cgroup2, devpts, mqueue and tmpfs",
					type);
		return add_guests(c, source ? source : type, target, type, &o, e);
	}
	if (!source || !*source)
		return json_bad(e, v, "has no source, as a bind mount needs it");
	if (o.flags & MS_SHARED)
		return json_bad(
			e, v,
			"is shared: what is mounted in a virtual machine cannot reach the host; use 'rprivate' or "
			"'rslave'");
	if (*o.data)
		return json_bad(e, v, "has options that a bind mount cannot have: '%s'", o.data);
	return add_bind(c, source, target, o.flags, e);
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
	return 0;
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

/* Who it shares a sandbox with, as containerd, and as CRI-O and podman write it. */
static void take_annotation(struct oci_config *c, const char *key, const char *text)
{
	if (!strcmp(key, "io.kubernetes.cri.sandbox-id") || !strcmp(key, "io.kubernetes.cri-o.SandboxID"))
		c->sandbox = text;
	else if (!strcmp(key, "io.kubernetes.cri.container-type") ||
		 !strcmp(key, "io.kubernetes.cri-o.ContainerType"))
		c->is_sandbox = !strcmp(text, "sandbox");
}

static int parse_annotations(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = json_object(v, "annotations", &c->annotations, e);

	json_each(a, c->annotations) {
		const char *text = "";

		if (!r)
			r = json_string(a, "", &text, e);
		if (!r)
			take_annotation(c, a->key, text);
	}
	if (c->is_sandbox || (c->sandbox && !*c->sandbox))
		c->sandbox = NULL; /* it is its own */
	return r;
}

static int parse_hooks(struct oci_config *c, const struct json *v, struct err *e)
{
	int r = json_object(v, "hooks", &c->hooks, e);

	if (!r)
		r = oci_hooks_check(c->hooks, e);
	if (!r)
		r = oci_hooks_guest(c->hooks, &c->hook, &c->spec.hook_count, e);
	c->spec.hooks = c->hook;
	return r;
}

/* Of the root's mount in the guest, where there is nobody else. */
static int parse_propagation(struct oci_config *c, const struct json *v, struct err *e)
{
	static const struct {
		const char *word;
		uint32_t flag;
	} known[] = {
		{"", MS_PRIVATE},	 {"private", MS_PRIVATE}, {"rprivate", MS_PRIVATE},
		{"slave", MS_SLAVE},	 {"rslave", MS_SLAVE},	  {"shared", MS_SHARED},
		{"rshared", MS_SHARED},	 {"unbindable", MS_UNBINDABLE},
		{"runbindable", MS_UNBINDABLE},
	};
	const char *word = "";
	int r = json_string(v, "linux.rootfsPropagation", &word, e);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(word, known[i].word))
			continue;
		c->spec.root.propagation = known[i].flag;
		return 0;
	}
	return json_bad(e, json_get(v, "linux.rootfsPropagation"),
			"is '%s', but there are private, slave, shared and unbindable, and each with an r before it",
			word);
}

static int check_personality(const struct json *v, struct err *e)
{
	const char *domain = "LINUX";
	int r = json_string(v, "linux.personality.domain", &domain, e);

	if (!r && strcmp(domain, "LINUX"))
		r = json_bad(e, json_get(v, "linux.personality.domain"),
			     "is not 'LINUX', which is the only one that the guest's kernel knows");
	return r ? r : refuse(v, "linux.personality.flags", "there are none", e);
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
		parse_names,  parse_process,	 parse_annotations, oci_namespaces_parse,
		parse_mounts, oci_devices_parse, parse_sysctls,	    parse_hooks,
	};
	int r = v->type == JSON_OBJECT ? parse_version(v, e) : err_set(e, EINVAL, "config.json: not a JSON object");

	if (!r)
		r = refuse_all(v, e);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && !r; i++)
		r = parts[i](c, v, e);
	if (!r)
		r = parse_propagation(c, v, e);
	if (!r)
		r = check_personality(v, e);
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

int oci_config_set_share(struct oci_config *c, const char *where, struct err *e)
{
	for (size_t i = 0; i < c->binds; i++) {
		struct oci_bind *b = &c->bind[i];
		char *old = b->share;

		if (asprintf(&b->share, "%s%s", where, b->target) < 0) {
			b->share = old;
			return no_memory(e);
		}
		for (size_t k = 0; k < c->spec.mount_count; k++)
			if (c->mount[k].source == old)
				c->mount[k].source = b->share;
		free(old);
	}
	return 0;
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
	for (size_t i = 0; i < c->binds; i++)
		free(c->bind[i].share);
	free(c->mount);
	free(c->bind);
	free(c->masked);
	free(c->readonly);
	free(c->sysctl);
	oci_hooks_free(c->hook, c->spec.hook_count);
	oci_process_free(&c->process);
	json_free(&c->doc);
	*c = (struct oci_config){0};
}
