/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <linux/seccomp.h>

#include "vmm/file.h"
#include "vmm/json.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

#define PROFILE_MAX (1u << 20) /* bytes; docker's own has 12 KiB */

static const char *const caps[] = {
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
	"IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
};

static const char *const limits[AGENT_RLIMITS_MAX] = {
	"cpu",	   "fsize", "data",  "stack",	   "core",     "rss",  "nproc",	 "nofile",
	"memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
};

static int find(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(list[i], name))
			return (int)i;
	return -1;
}

int rights_cap(const char *name)
{
	return find(caps, ARRAY_SIZE(caps), name + (strncasecmp(name, "CAP_", 4) ? 0 : 4));
}

int rights_limit(const char *name)
{
	return find(limits, ARRAY_SIZE(limits), name);
}

int rights_take_cap(struct rights_caps *c, const char *name, bool add, struct err *e)
{
	int cap = rights_cap(name);

	if (!strcasecmp(name, "ALL"))
		*(add ? &c->add_all : &c->drop_all) = true;
	else if (cap < 0)
		return err_set(e, EINVAL, "'%s' is not a capability", name);
	else
		*(add ? &c->add : &c->drop) |= UINT64_C(1) << cap;
	return 0;
}

struct agent_caps rights_make_caps(const struct rights_caps *c, const struct agent_caps *usual)
{
	uint64_t all = (UINT64_C(1) << ARRAY_SIZE(caps)) - 1;
	uint64_t set = c->add_all ? all : c->drop_all ? 0 : usual->bounding;

	/* What is named counts more than ALL, and to lose more than to get. */
	set = (set | c->add) & ~c->drop;
	return (struct agent_caps){.bounding = set, .effective = set, .permitted = set};
}

/* Takes a value from *text, up to a colon or the end. */
static bool take_value(const char **text, uint64_t *value)
{
	size_t n = strcspn(*text, ":");
	const char *at = *text;
	char *end;

	*text += n;
	if ((n == 2 && !strncmp(at, "-1", n)) || (n == 9 && !strncmp(at, "unlimited", n))) {
		*value = UINT64_MAX;
		return true;
	}
	if (*at < '0' || *at > '9')
		return false;
	errno = 0;
	*value = strtoull(at, &end, 10);
	return end == *text && !errno;
}

int rights_take_limit(struct agent_rlimit list[AGENT_RLIMITS_MAX], size_t *n, const char *text,
		      struct err *e)
{
	const char *value = strchr(text, '=');
	struct agent_rlimit limit = {0};
	char name[16] = "";
	int number = -1;
	size_t i = 0;

	if (value && (size_t)(value - text) < sizeof(name)) {
		memcpy(name, text, (size_t)(value++ - text));
		number = rights_limit(name);
	}
	if (number < 0)
		return err_set(e, EINVAL, "'%s' is not NAME=SOFT[:HARD] with the name of a limit",
			       text);
	if (!take_value(&value, &limit.soft))
		return err_set(e, EINVAL, "'%s' has no number for the limit", text);
	limit.hard = limit.soft;
	if (*value) {
		value++;
		if (!take_value(&value, &limit.hard) || *value)
			return err_set(e, EINVAL, "'%s' has no number for the hard limit", text);
	}
	if (limit.soft > limit.hard)
		return err_set(e, EINVAL, "'%s': the soft limit is above the hard one", text);
	limit.resource = (uint32_t)number;
	while (i < *n && list[i].resource != limit.resource)
		i++;
	list[i] = limit;
	*n = MAX(*n, i + 1);
	return 0;
}

/* How many strings of a list fit the capabilities, or this architecture; *all: of how many. */
static size_t count(const struct json *list, const struct agent_caps *caps_or_arch, size_t *all)
{
	size_t n = 0;

	*all = 0;
	json_each(v, list)
	{
		const char *text = v->type == JSON_STRING ? v->text : "";
		int cap = rights_cap(text);

		++*all;
		n += caps_or_arch ? cap >= 0 && caps_or_arch->bounding & UINT64_C(1) << cap
				  : !strcmp(text, "amd64");
	}
	return n;
}

/* Kernel versions that an entry includes are the guest's, which is new enough. */
static bool applies(const struct json *entry, const void *ctx)
{
	const struct agent_caps *have = ctx;
	size_t all;

	if (count(json_get(entry, "includes.caps"), have, &all) < all ||
	    count(json_get(entry, "excludes.caps"), have, &all))
		return false;
	if (!count(json_get(entry, "includes.arches"), NULL, &all) && all)
		return false;
	return !count(json_get(entry, "excludes.arches"), NULL, &all);
}

void rights_set_filter(struct exec_request *rq, const struct sock_filter *filter, size_t n,
		       uint32_t flags)
{
	_Static_assert(sizeof(*filter) == sizeof(*rq->filter), "as numbers");
	rq->filter = (const uint64_t *)(const void *)filter;
	rq->filter_count = n;
	if (flags & SECCOMP_FILTER_FLAG_LOG)
		rq->flags |= AGENT_EXEC_LOG;
	if (flags & SECCOMP_FILTER_FLAG_SPEC_ALLOW)
		rq->flags |= AGENT_EXEC_SPEC;
}

int rights_load_profile(struct exec_request *rq, const char *file, struct err *e)
{
	struct sock_filter *filter = calloc(AGENT_FILTER_MAX, sizeof(*filter));
	struct json_doc doc;
	uint32_t flags = 0;
	size_t size;
	char *text;
	int r = file_load(open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), file, PROFILE_MAX, &text,
			  &size, e),
	    n;

	_Static_assert(SECCOMP_FILTER_MAX <= AGENT_FILTER_MAX, "it fits");
	if (!r && !filter)
		r = err_set(e, ENOMEM, "out of memory");
	if (!r)
		r = json_parse(&doc, text, size, file, e);
	free(text);
	if (r) {
		free(filter);
		return r;
	}
	n = seccomp_from_profile(doc.root, applies, rq->caps, filter, &flags, e);
	json_free(&doc);
	if (n < 0) {
		free(filter);
		return n;
	}
	rights_set_filter(rq, filter, (size_t)n, flags);
	return 0;
}
