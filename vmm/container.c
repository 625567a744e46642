/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "vmm/exec.h"
#include "vmm/util.h"

/* --- defaults --- */

/* As docker's "oci/defaults.go" and podman's "pkg/specgen" agree on. */

#define NO_EXEC (MS_NOSUID | MS_NOEXEC | MS_NODEV)

#define MOUNT(source, target, type, data, flags) {source, target, type, data, flags, false, false}

static const struct container_mount default_mounts[] = {
	MOUNT("proc", "/proc", "proc", NULL, NO_EXEC),
	MOUNT("tmpfs", "/dev", "tmpfs", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME),
	MOUNT("devpts", "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
	      MS_NOSUID | MS_NOEXEC),
	MOUNT("sysfs", "/sys", "sysfs", NULL, NO_EXEC | MS_RDONLY),
	MOUNT("cgroup", "/sys/fs/cgroup", "cgroup2", NULL, NO_EXEC | MS_RDONLY),
	MOUNT("mqueue", "/dev/mqueue", "mqueue", NULL, NO_EXEC),
	MOUNT("shm", "/dev/shm", "tmpfs", "mode=1777,size=65536k", NO_EXEC),
};

#define NODE(name, major, minor) {"/dev/" name, {'c', 0666, major, minor, 0, 0}}

static const struct container_device default_devices[] = {
	NODE("null", 1, 3),   NODE("zero", 1, 5),    NODE("full", 1, 7),
	NODE("random", 1, 8), NODE("urandom", 1, 9), NODE("tty", 5, 0),
};

#define MKNOD 1u
#define RWM   7u

/* Any node may be made, and these may be opened: the six above, the console, and terminals. */
static const struct agent_device_rule default_rules[] = {
	{1, 'c', -1, -1, MKNOD, 0}, {1, 'b', -1, -1, MKNOD, 0}, {1, 'c', 1, 3, RWM, 0},
	{1, 'c', 1, 5, RWM, 0},	    {1, 'c', 1, 7, RWM, 0},	{1, 'c', 1, 8, RWM, 0},
	{1, 'c', 1, 9, RWM, 0},	    {1, 'c', 5, 0, RWM, 0},	{1, 'c', 5, 1, RWM, 0},
	{1, 'c', 5, 2, RWM, 0},	    {1, 'c', 136, -1, RWM, 0},
};

static const char *const default_masked[] = {
	"/proc/asound",	      "/proc/acpi",  "/proc/kcore",
	"/proc/keys",	      "/proc/scsi",  "/proc/latency_stats",
	"/proc/timer_list",   "/proc/timer_stats", "/proc/sched_debug",
	"/sys/firmware",      "/sys/devices/virtual/powercap",	NULL,
};

static const char *const default_readonly[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

/* CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
 * SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
 */
#define DEFAULT_CAPS                                                                               \
	(1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 7 |       \
	 1ull << 8 | 1ull << 10 | 1ull << 13 | 1ull << 18 | 1ull << 27 | 1ull << 29 | 1ull << 31)

const struct agent_caps container_caps = {
	.bounding = DEFAULT_CAPS, .effective = DEFAULT_CAPS, .permitted = DEFAULT_CAPS};

void container_defaults(struct container_spec *s, const char *name)
{
	*s = (struct container_spec){
		.name = name,
		.hostname = name,
		.new_namespaces = AGENT_NS_MOUNT | AGENT_NS_PID | AGENT_NS_IPC | AGENT_NS_UTS |
				  AGENT_NS_CGROUP,
		.mounts = default_mounts,
		.mount_count = ARRAY_SIZE(default_mounts),
		.devices = default_devices,
		.device_count = ARRAY_SIZE(default_devices),
		.rules = default_rules,
		.rule_count = ARRAY_SIZE(default_rules),
		.masked = default_masked,
		.readonly = default_readonly,
	};
}

/* --- the message --- */

struct message {
	uint8_t *data; /* AGENT_EXEC_MAX of them */
	size_t len;    /* more than that: it does not fit, and nothing is written */
	size_t record; /* where the open record begins */
};

static void put(struct message *m, const void *data, size_t size)
{
	if (size <= AGENT_EXEC_MAX && m->len + size <= AGENT_EXEC_MAX) {
		if (size)
			memcpy(m->data + m->len, data, size);
		m->len += size;
	} else {
		m->len = AGENT_EXEC_MAX + 1;
	}
}

static void put_string(struct message *m, const char *s)
{
	put(m, s ? s : "", s ? strlen(s) + 1 : 1);
}

static void begin(struct message *m, enum agent_record_type type)
{
	struct agent_record head = {.type = type};

	m->record = m->len;
	put(m, &head, sizeof(head));
}

static void end(struct message *m)
{
	static const uint8_t zeros[8];
	struct agent_record head;

	if (m->len > AGENT_EXEC_MAX)
		return;
	memcpy(&head, m->data + m->record, sizeof(head));
	head.length = (uint32_t)(m->len - m->record - sizeof(head));
	memcpy(m->data + m->record, &head, sizeof(head));
	put(m, zeros, ALIGN_UP(m->len, 8) - m->len);
}

static void put_struct(struct message *m, enum agent_record_type type, const void *data,
		       size_t size)
{
	begin(m, type);
	put(m, data, size);
	end(m);
}

static void put_text(struct message *m, enum agent_record_type type, const char *text)
{
	begin(m, type);
	put_string(m, text);
	end(m);
}

static void put_value(struct message *m, enum agent_record_type type,
		      const struct container_value *v)
{
	begin(m, type);
	put_string(m, v->name);
	put_string(m, v->value);
	end(m);
}

static void put_root(struct message *m, const struct container_root *root)
{
	const struct agent_root head = {.upper_size = root->upper_size,
					.flags = root->read_only ? AGENT_ROOT_READONLY : 0,
					.propagation = root->propagation};

	if (!root->device)
		return;
	begin(m, AGENT_R_ROOT);
	put(m, &head, sizeof(head));
	put_string(m, root->device);
	put_string(m, root->type);
	put_string(m, root->upper);
	end(m);
}

static void put_mount(struct message *m, const struct container_mount *mount)
{
	const struct agent_mount head = {.flags = mount->flags,
					 .options = (mount->copy_up ? AGENT_MOUNT_COPY_UP : 0) |
						    (mount->of_pod ? AGENT_MOUNT_POD : 0)};

	begin(m, AGENT_R_MOUNT);
	put(m, &head, sizeof(head));
	put_string(m, mount->source);
	put_string(m, mount->target);
	put_string(m, mount->type);
	put_string(m, mount->data);
	end(m);
}

static void put_device(struct message *m, const struct container_device *d)
{
	begin(m, AGENT_R_DEVICE);
	put(m, &d->node, sizeof(d->node));
	put_string(m, d->path);
	end(m);
}

static void put_guest_device(struct message *m, const struct container_guest_device *d)
{
	const struct agent_guest_device head = {.access = d->access};

	begin(m, AGENT_R_GUEST_DEVICE);
	put(m, &head, sizeof(head));
	put_string(m, d->path);
	end(m);
}

static void put_hook(struct message *m, const struct container_hook *hook)
{
	struct agent_hook head = {.stage = hook->stage, .timeout_ms = hook->timeout_ms};

	while (hook->argv && hook->argv[head.argc])
		head.argc++;
	while (hook->envp && hook->envp[head.envc])
		head.envc++;
	begin(m, AGENT_R_HOOK);
	put(m, &head, sizeof(head));
	put_string(m, hook->path);
	for (uint32_t i = 0; i < head.argc; i++)
		put_string(m, hook->argv[i]);
	for (uint32_t i = 0; i < head.envc; i++)
		put_string(m, hook->envp[i]);
	end(m);
}

static void put_records(struct message *m, const struct container_spec *s)
{
	put_root(m, &s->root);
	for (size_t i = 0; i < s->mount_count; i++)
		put_mount(m, &s->mounts[i]);
	for (size_t i = 0; i < s->device_count; i++)
		put_device(m, &s->devices[i]);
	for (size_t i = 0; i < s->rule_count; i++)
		put_struct(m, AGENT_R_DEVICE_RULE, &s->rules[i], sizeof(s->rules[i]));
	for (size_t i = 0; i < s->guest_device_count; i++)
		put_guest_device(m, &s->guest_devices[i]);
	for (const char *const *p = s->masked; p && *p; p++)
		put_text(m, AGENT_R_MASKED, *p);
	for (const char *const *p = s->readonly; p && *p; p++)
		put_text(m, AGENT_R_READONLY, *p);
	for (size_t i = 0; i < s->sysctl_count; i++)
		put_value(m, AGENT_R_SYSCTL, &s->sysctls[i]);
	for (size_t i = 0; i < s->cgroup_count; i++)
		put_value(m, AGENT_R_CGROUP, &s->cgroup[i]);
	for (size_t i = 0; i < s->id_map_count; i++)
		put_struct(m, AGENT_R_ID_MAP, &s->id_maps[i], sizeof(s->id_maps[i]));
	for (size_t i = 0; i < s->hook_count; i++)
		put_hook(m, &s->hooks[i]);
	if (s->hook_state)
		put_text(m, AGENT_R_HOOK_STATE, s->hook_state);
}

static int copy_name(char *to, size_t max, const char *name, const char *what, struct err *e)
{
	size_t len = name ? strlen(name) : 0;

	if (len > max)
		return err_set(e, EINVAL, "the container's %s is longer than %zu bytes", what, max);
	if (len)
		memcpy(to, name, len);
	return 0;
}

static int make_head(const struct container_spec *s, struct agent_create *c, struct err *e)
{
	int r;

	memset(c, 0, sizeof(*c));
	r = copy_name(c->name, AGENT_NAME_MAX, s->name, "name", e);
	if (!r)
		r = copy_name(c->hostname, AGENT_HOSTNAME_MAX, s->hostname, "host name", e);
	if (!r)
		r = copy_name(c->domainname, AGENT_HOSTNAME_MAX, s->domainname, "domain name", e);
	if (!r)
		r = copy_name(c->pod, AGENT_NAME_MAX, s->pod, "pod", e);
	c->flags = (s->start ? AGENT_CREATE_START : 0) | (s->tied ? AGENT_CREATE_TIED : 0);
	c->new_namespaces = s->new_namespaces;
	c->pod_namespaces = s->pod_namespaces;
	return r;
}

int container_encode(const struct container_spec *s, const struct exec_request *process,
		     struct agent_exec *head, uint8_t **payload, size_t *size, struct err *e)
{
	struct message m = {.data = NULL};
	struct agent_create create;
	size_t process_size;
	uint8_t *exec;
	int r = make_head(s, &create, e);

	if (!r)
		r = exec_encode(process, head, &exec, &process_size, e);
	if (r)
		return r;
	m.data = malloc(AGENT_EXEC_MAX);
	if (m.data) {
		put(&m, &create, sizeof(create));
		put_struct(&m, AGENT_R_PROCESS, exec, process_size);
		put_records(&m, s);
	}
	free(exec);
	if (!m.data)
		return err_set(e, ENOMEM, "out of memory");
	if (m.len > AGENT_EXEC_MAX) {
		free(m.data);
		return err_set(e, E2BIG, "the container's description is longer than %u bytes",
			       AGENT_EXEC_MAX);
	}
	*payload = m.data;
	*size = m.len;
	return 0;
}

/* Begins a message about a container. m's data is the caller's to free, also after an error. */
static int begin_named(struct message *m, const char *name, struct err *e)
{
	struct agent_name head = {{0}};
	int r;

	*m = (struct message){.data = malloc(AGENT_EXEC_MAX)};
	r = m->data ? copy_name(head.name, AGENT_NAME_MAX, name, "name", e)
		    : err_set(e, ENOMEM, "out of memory");
	if (!r)
		put(m, &head, sizeof(head));
	return r;
}

int container_encode_update(const char *name, const struct container_value *cgroup, size_t n,
			    uint8_t **payload, size_t *size, struct err *e)
{
	struct message m;
	int r = begin_named(&m, name, e);

	if (!r) {
		for (size_t i = 0; i < n; i++)
			put_value(&m, AGENT_R_CGROUP, &cgroup[i]);
		if (m.len > AGENT_UPDATE_MAX)
			r = err_set(e, E2BIG, "an update is longer than %u bytes",
				    AGENT_UPDATE_MAX);
	}
	if (r) {
		free(m.data);
		return r;
	}
	*payload = m.data;
	*size = m.len;
	return 0;
}

int container_update(agent_dial_fn *dial, void *ctx, const char *name,
		     const struct container_value *cgroup, size_t n, struct err *e)
{
	uint8_t *payload;
	size_t size;
	int r = container_encode_update(name, cgroup, n, &payload, &size, e);

	if (r)
		return r;
	r = agent_order(dial, ctx, AGENT_UPDATE, payload, size, e);
	free(payload);
	return r;
}

/* One order with a name and a mount or a path. */
static int order(agent_dial_fn *dial, void *ctx, enum agent_type type, const char *name,
		 const struct container_mount *mount, const char *path, struct err *e)
{
	struct message m;
	int r = begin_named(&m, name, e);

	if (!r) {
		if (mount)
			put_mount(&m, mount);
		else
			put_string(&m, path);
		r = m.len > AGENT_UPDATE_MAX
			    ? err_set(e, E2BIG, "a mount is longer than %u bytes", AGENT_UPDATE_MAX)
			    : agent_order(dial, ctx, type, m.data, m.len, e);
	}
	free(m.data);
	return r;
}

int container_mount(agent_dial_fn *dial, void *ctx, const char *name, const struct container_mount *mount,
		    struct err *e)
{
	return order(dial, ctx, AGENT_MOUNT, name, mount, NULL, e);
}

int container_unmount(agent_dial_fn *dial, void *ctx, const char *name, const char *path, struct err *e)
{
	return order(dial, ctx, AGENT_UNMOUNT, name, NULL, path, e);
}
