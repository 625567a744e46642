/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/request.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include <linux/mount.h>

#include "guest/agent/text.h"

#define ALPHANUMERIC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

#define NAMESPACES_ALL                                                                             \
	(AGENT_NS_MOUNT | AGENT_NS_PID | AGENT_NS_NET | AGENT_NS_IPC | AGENT_NS_UTS |              \
	 AGENT_NS_CGROUP | AGENT_NS_USER | AGENT_NS_TIME)

#define EXEC_FLAGS_ALL ((AGENT_EXEC_OWN << 1) - 1)

#define PROPAGATIONS (MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE)

/* What a mount may ask for. Not MS_REMOUNT and MS_MOVE, which are no mounts. */
#define MOUNT_OPTIONS (AGENT_MOUNT_COPY_UP | AGENT_MOUNT_POD)
#define MOUNT_FLAGS                                                                                \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK |             \
	 MS_DIRSYNC | MS_NOSYMFOLLOW | MS_NOATIME | MS_NODIRATIME | MS_BIND | MS_REC | MS_SILENT | \
	 MS_POSIXACL | PROPAGATIONS | MS_RELATIME | MS_I_VERSION | MS_STRICTATIME | MS_LAZYTIME)

const char *string_after(const char *s)
{
	return s + strlen(s) + 1;
}

const char *record_string(const struct record *r, size_t size)
{
	return (const char *)r->body + size;
}

bool name_valid(const char name[AGENT_NAME_MAX + 8])
{
	size_t len = strnlen(name, AGENT_NAME_MAX + 8);

	return len && len <= AGENT_NAME_MAX && strspn(name, ALPHANUMERIC "_.-") == len &&
	       !strchr("_.-", name[0]);
}

/* Whether the bytes from at to end are exactly n strings. */
static bool are_strings(const char *at, const char *end, uint64_t n)
{
	uint64_t counted = 0;

	if (at == end || end[-1])
		return at == end && !n;
	for (; at < end; at += strlen(at) + 1)
		counted++;
	return counted == n;
}

/* Absolute, short enough, and never up: what follows it component by component stays below. */
static bool path_ok(const char *path)
{
	if (*path != '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *p = path; (p = find_text(p, "/..")); p += 3)
		if (!p[3] || p[3] == '/')
			return false;
	return true;
}

/* The last component is one: there is something to be made. */
static bool file_path_ok(const char *path)
{
	const char *name = strrchr(path, '/');

	return path_ok(path) && name[1] && strcmp(name, "/.") && strlen(name) <= NAME_MAX;
}

/* Takes n bytes. Returns whether they are there. */
static bool take(char **at, const char *end, uint64_t n)
{
	if ((uint64_t)(end - *at) < n)
		return false;
	*at += n;
	return true;
}

const char *command_parse(struct command *c, void *payload, uint32_t length)
{
	static const char too_short[] = "the process is too short for what it counts";
	struct agent_exec *x = &c->exec;
	char *at = payload, *end = at + length;
	bool named;

	if (length < sizeof(*x))
		return "the process is too short";
	memcpy(x, payload, sizeof(*x));
	at += sizeof(*x);
	named = x->flags & AGENT_EXEC_NAMED;
	if (x->flags & ~EXEC_FLAGS_ALL || (named && x->flags & AGENT_EXEC_USER))
		return "the process has unknown flags, or two users";
	if (x->group_count > AGENT_GROUPS_MAX || x->rlimit_count > AGENT_RLIMITS_MAX ||
	    x->filter_count > AGENT_FILTER_MAX)
		return "the process has too many groups, limits or instructions of a filter";
	if (x->argc < 1 || x->argc > AGENT_STRINGS_MAX || x->envc > AGENT_STRINGS_MAX - x->argc)
		return "the process has no argument or too many strings";
	if (x->umask > 0777 || x->oom_score_adj < -1000 || x->oom_score_adj > 1000)
		return "the process has no valid umask or oom_score_adj";
	if (*x->container && !name_valid(x->container))
		return "the process is in a container whose name cannot be";

	c->rlimits = (const void *)at;
	if (!take(&at, end, x->rlimit_count * sizeof(*c->rlimits)))
		return too_short;
	c->filter = (const void *)at;
	if (!take(&at, end, x->filter_count * sizeof(*c->filter)))
		return too_short;
	c->groups = (const void *)at;
	if (!take(&at, end, x->group_count * sizeof(*c->groups)))
		return too_short;
	for (uint32_t i = 0; i < x->rlimit_count; i++)
		if (c->rlimits[i].resource >= AGENT_RLIMITS_MAX ||
		    c->rlimits[i].soft > c->rlimits[i].hard)
			return "the process has a limit that cannot be";

	if (!are_strings(at, end, UINT64_C(1) + named + x->argc + x->envc))
		return "the process' strings do not match their count";
	c->cwd = at;
	at += strlen(at) + 1;
	c->user = named ? at : NULL;
	c->strings = named ? at + strlen(at) + 1 : at;
	return NULL;
}

/* --- records, each by its type --- */

static const char *check_root(const struct record *r)
{
	const struct agent_root *root = r->body;
	const char *lower, *type, *upper;

	if (!are_strings(record_string(r, sizeof(*root)), record_string(r, r->length), 3))
		return "a root without its three strings";
	lower = record_string(r, sizeof(*root));
	type = string_after(lower);
	upper = string_after(type);
	if (root->flags & ~AGENT_ROOT_READONLY || root->propagation & ~PROPAGATIONS ||
	    __builtin_popcount(root->propagation) > 1)
		return "a root with unknown flags or propagation";
	if ((!path_ok(lower) && (!*lower || strcmp(type, "virtiofs"))) || !*type || strlen(type) > NAME_MAX ||
	    (*upper && strcmp(upper, "tmpfs") && !path_ok(upper)))
		return "a root without a device, or a type, or what is above it";
	return NULL;
}

static const char *check_mount(const struct record *r)
{
	const struct agent_mount *m = r->body;
	const char *s = record_string(r, sizeof(*m));

	if (!are_strings(s, record_string(r, r->length), 4))
		return "a mount without its four strings";
	if (m->flags & ~(uint64_t)MOUNT_FLAGS || m->options & ~(uint64_t)MOUNT_OPTIONS ||
	    __builtin_popcountll(m->flags & PROPAGATIONS) > 1)
		return "a mount with unknown flags";
	if (strlen(s) >= PATH_MAX || (m->flags & MS_BIND && *s != '/'))
		return "a mount of no valid source";
	s = string_after(s);
	if (!path_ok(s) || !s[strspn(s, "/")])
		return "a mount's target is no absolute path, is the root, or has .. in it";
	s = string_after(s);
	if (strlen(s) > NAME_MAX || (!*s && !(m->flags & MS_BIND)) ||
	    strlen(string_after(s)) >= PATH_MAX)
		return "a mount has no type, or too long options";
	if (m->options & AGENT_MOUNT_COPY_UP && (m->flags & MS_BIND || strcmp(s, "tmpfs")))
		return "a mount that begins with what is there is no tmpfs";
	if (m->options & AGENT_MOUNT_POD && !(m->flags & MS_BIND))
		return "a mount of the pod's is no bind mount";
	return NULL;
}

static const char *check_device(const struct record *r)
{
	const struct agent_device *d = r->body;
	const char *path = record_string(r, sizeof(*d));

	if (!are_strings(path, record_string(r, r->length), 1) || !file_path_ok(path))
		return "a device without a path";
	if ((d->type != 'c' && d->type != 'b' && d->type != 'p') || d->mode > 07777 ||
	    d->major > 0xfff || d->minor > 0xfffff)
		return "a device that cannot be";
	return NULL;
}

static const char *check_device_rule(const struct record *r)
{
	const struct agent_device_rule *d = r->body;

	if (d->allow > 1 || (d->type != 'c' && d->type != 'b' && d->type != 'a') || d->major < -1 ||
	    d->minor < -1 || !d->access || d->access > 7 || d->zero)
		return "a rule about devices that cannot be";
	return NULL;
}

static const char *check_guest_device(const struct record *r)
{
	const struct agent_guest_device *d = r->body;
	const char *path = record_string(r, sizeof(*d));

	if (!are_strings(path, record_string(r, r->length), 1) || !file_path_ok(path) || !d->access ||
	    d->access > 7 || d->zero)
		return "a device of the guest's that cannot be";
	return NULL;
}

static const char *check_path(const struct record *r)
{
	const char *path = record_string(r, 0);

	return are_strings(path, record_string(r, r->length), 1) && path_ok(path)
		       ? NULL
		       : "a masked or read-only path that is none";
}

bool sysctl_path(const char *name, char *path)
{
	static const char prefix[] = "/proc/sys/";
	/* As sysctl(8): whichever of the two comes first separates, and the other is the other. */
	char first = name[strcspn(name, "./")], *at = path + sizeof(prefix) - 1;
	size_t len = strlen(name);

	if (!len || len > 255 || strspn(name, ALPHANUMERIC "_-:./") != len)
		return false;
	memcpy(path, prefix, sizeof(prefix));
	memcpy(at, name, len + 1);
	for (char *p = at; first == '.' && *p; p++)
		*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	return path_ok(path) && !find_text(path, "//") && !find_text(path, "/./") &&
	       path[strlen(path) - 1] != '/';
}

static const char *check_sysctl(const struct record *r)
{
	char path[PATH_MAX];
	const char *s = record_string(r, 0);

	return are_strings(s, record_string(r, r->length), 2) && sysctl_path(s, path)
		       ? NULL
		       : "a sysctl without a name and a value";
}

static const char *check_cgroup(const struct record *r)
{
	static const char *const controllers[] = {"cpu.", "cpuset.", "io.", "memory.", "pids."};
	const char *s = record_string(r, 0);

	if (!are_strings(s, record_string(r, r->length), 2))
		return "a file of the cgroup without a name and a value";
	if (strlen(s) > 64 || strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen(s))
		return "a file of the cgroup that cannot be";
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
		if (!strncmp(s, controllers[i], strlen(controllers[i])))
			return NULL;
	return "a file of the cgroup that is no controller's";
}

static const char *check_id_map(const struct record *r)
{
	const struct agent_id_map *m = r->body;

	return m->count && m->gid <= 1 ? NULL : "a map of ids that cannot be";
}

static const char *check_hook(const struct record *r)
{
	const struct agent_hook *h = r->body;
	const char *s = record_string(r, sizeof(*h));

	if (h->argc < 1 || h->argc > AGENT_STRINGS_MAX || h->envc > AGENT_STRINGS_MAX ||
	    !are_strings(s, record_string(r, r->length), UINT64_C(1) + h->argc + h->envc) ||
	    !path_ok(s))
		return "a hook without its program and strings";
	return h->stage == AGENT_HOOK_CREATE || h->stage == AGENT_HOOK_START
		       ? NULL
		       : "a hook of an unknown stage";
}

static const char *check_text(const struct record *r)
{
	return are_strings(record_string(r, 0), record_string(r, r->length), 1)
		       ? NULL
		       : "a state for hooks that is no text";
}

static const struct record_type {
	uint32_t min, max; /* bytes, and how many there may be */
	bool exact;	   /* the length is min */
	const char *(*check)(const struct record *r);
} record_types[] = {
	[AGENT_R_PROCESS] = {sizeof(struct agent_exec), 1, false, NULL},
	[AGENT_R_ROOT] = {sizeof(struct agent_root), 1, false, check_root},
	[AGENT_R_MOUNT] = {sizeof(struct agent_mount), UINT32_MAX, false, check_mount},
	[AGENT_R_DEVICE] = {sizeof(struct agent_device), UINT32_MAX, false, check_device},
	[AGENT_R_DEVICE_RULE] = {sizeof(struct agent_device_rule), REQUEST_DEVICE_RULES, true,
				 check_device_rule},
	[AGENT_R_MASKED] = {2, UINT32_MAX, false, check_path},
	[AGENT_R_READONLY] = {2, UINT32_MAX, false, check_path},
	[AGENT_R_SYSCTL] = {2, UINT32_MAX, false, check_sysctl},
	[AGENT_R_CGROUP] = {2, UINT32_MAX, false, check_cgroup},
	[AGENT_R_ID_MAP] = {sizeof(struct agent_id_map), UINT32_MAX, true, check_id_map},
	[AGENT_R_HOOK] = {sizeof(struct agent_hook), UINT32_MAX, false, check_hook},
	[AGENT_R_HOOK_STATE] = {1, 1, false, check_text},
	[AGENT_R_GUEST_DEVICE] = {sizeof(struct agent_guest_device), REQUEST_DEVICE_RULES, false,
				  check_guest_device},
};

#define RECORD_TYPES (sizeof(record_types) / sizeof(record_types[0]))

/* Takes one record from *at, which has a header. Returns NULL, or what is wrong with it. */
static const char *take_record(const uint8_t **at, const uint8_t *end, struct record *r)
{
	struct agent_record head;
	const struct record_type *t;
	uint32_t padded;

	if ((size_t)(end - *at) < sizeof(head))
		return "a record is cut short";
	memcpy(&head, *at, sizeof(head));
	*at += sizeof(head);
	if (head.type >= RECORD_TYPES || !record_types[head.type].max)
		return "a record of unknown type";
	t = &record_types[head.type];
	if (head.length > (size_t)(end - *at))
		return "a record is cut short";
	padded = (head.length + 7) & ~7u;
	if (padded > (size_t)(end - *at))
		return "a record is not filled up to a multiple of 8";
	for (uint32_t i = head.length; i < padded; i++)
		if ((*at)[i])
			return "a record is not filled up with zeros";
	if (head.length < t->min || (t->exact && head.length != t->min))
		return "a record is too short or too long for its type";
	*r = (struct record){.type = head.type, .length = head.length, .body = *at};
	*at += padded;
	return t->check ? t->check(r) : NULL;
}

bool record_next(struct records *r, uint32_t type, struct record *out)
{
	while (r->at < r->end && !take_record(&r->at, r->end, out))
		if (out->type == type)
			return true;
	return false;
}

static const char *check_head(const struct agent_create *c)
{
	if (!name_valid(c->name) || (*c->pod && !name_valid(c->pod)))
		return "CREATE has no valid name";
	if (strnlen(c->hostname, sizeof(c->hostname)) > AGENT_HOSTNAME_MAX ||
	    strnlen(c->domainname, sizeof(c->domainname)) > AGENT_HOSTNAME_MAX)
		return "CREATE's host or domain name is too long";
	if (c->flags & ~(AGENT_CREATE_START | AGENT_CREATE_TIED) || c->zero)
		return "CREATE has unknown flags";
	if ((c->new_namespaces | c->pod_namespaces) & ~NAMESPACES_ALL ||
	    c->new_namespaces & c->pod_namespaces || c->pod_namespaces & AGENT_NS_MOUNT ||
	    !*c->pod != !c->pod_namespaces)
		return "CREATE's namespaces do not go together";
	if ((*c->hostname || *c->domainname) && !(c->new_namespaces & AGENT_NS_UTS))
		return "CREATE has a host name, but no namespace for it";
	return NULL;
}

const char *create_parse(struct create *c, void *payload, uint32_t length)
{
	uint32_t count[RECORD_TYPES] = {0};
	uint8_t *bytes = payload;
	struct record r;
	const char *why;

	if (length < sizeof(c->head))
		return "CREATE is too short";
	memcpy(&c->head, payload, sizeof(c->head));
	why = check_head(&c->head);
	c->records = (struct records){bytes + sizeof(c->head), bytes + length};
	for (const uint8_t *at = c->records.at; !why && at < c->records.end;) {
		why = take_record(&at, c->records.end, &r);
		if (!why && ++count[r.type] > record_types[r.type].max)
			why = "CREATE has too many records of a type";
		if (!why && r.type == AGENT_R_PROCESS)
			why = command_parse(&c->process,
					    bytes + ((const uint8_t *)r.body - bytes), r.length);
	}
	if (!why && !count[AGENT_R_PROCESS])
		why = "CREATE has no process";
	if (!why && *c->process.exec.container)
		why = "CREATE's process is in another container";
	return why;
}

const char *order_parse(struct records *r, uint32_t type, void *payload, uint32_t length)
{
	const uint8_t *bytes = payload;
	struct record record;
	const char *why = NULL;

	if (length < sizeof(struct agent_name) || !name_valid(payload))
		return "no valid name";
	*r = (struct records){bytes + sizeof(struct agent_name), bytes + length};
	for (const uint8_t *at = r->at; !why && at < r->end;) {
		why = take_record(&at, r->end, &record);
		if (!why && record.type != type)
			why = "a record out of place";
	}
	return why;
}

const char *unmount_parse(const char **path, void *payload, uint32_t length)
{
	char *bytes = payload;

	if (length < sizeof(struct agent_name) || !name_valid(payload))
		return "no valid name";
	*path = bytes + sizeof(struct agent_name);
	return are_strings(*path, bytes + length, 1) && path_ok(*path) ? NULL
								       : "UNMOUNT has no path";
}
