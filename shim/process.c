/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/rights.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

/* The specification's names are capital letters behind a prefix. */
static bool is_name(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix)) &&
	       !text[strcspn(text, "abcdefghijklmnopqrstuvwxyz")];
}

static int find_cap(const char *text)
{
	return is_name(text, "CAP_") ? rights_cap(text) : -1;
}

static int find_limit(const char *text)
{
	return is_name(text, "RLIMIT_") ? rights_limit(text + strlen("RLIMIT_")) : -1;
}

/* Those that no kernel we know has are left out, as runc does: they cannot be had. */
static int parse_caps(const struct json *v, const char *path, uint64_t *set, struct err *e)
{
	const char **names = NULL;
	int r = json_strings(v, path, &names, e);

	for (size_t i = 0; !r && names && names[i]; i++) {
		int cap = find_cap(names[i]);

		if (cap >= 0)
			*set |= UINT64_C(1) << cap;
	}
	free(names);
	return r;
}

static int parse_user(struct oci_process *p, const struct json *v, struct err *e)
{
	struct exec_request *rq = &p->request;
	uint64_t uid = 0, gid = 0, mask = 0;
	const struct json *groups = NULL;
	int r = json_uint(v, "user.uid", UINT32_MAX - 1, &uid, e);

	if (!r)
		r = json_uint(v, "user.gid", UINT32_MAX - 1, &gid, e);
	if (!r)
		r = json_uint(v, "user.umask", 0777, &mask, e);
	if (!r)
		r = json_array(v, "user.additionalGids", &groups, e);
	rq->user = true;
	rq->uid = (uint32_t)uid;
	rq->gid = (uint32_t)gid;
	if (!r && json_get(v, "user.umask")) {
		rq->umask = (uint32_t)mask;
		rq->flags |= AGENT_EXEC_UMASK;
	}
	if (r)
		return r;
	json_each(g, groups) {
		uint64_t id = 0;

		if (rq->group_count == AGENT_GROUPS_MAX)
			return json_bad(e, groups, "has more than %u groups", AGENT_GROUPS_MAX);
		r = json_uint(g, "", UINT32_MAX - 1, &id, e);
		if (r)
			return r;
		p->groups[rq->group_count++] = (uint32_t)id;
	}
	rq->groups = p->groups;
	return 0;
}

static int parse_rlimits(struct oci_process *p, const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "rlimits", &list, e);

	if (r)
		return r;
	json_each(l, list) {
		struct agent_rlimit *limit = &p->rlimits[p->request.rlimit_count];
		const char *type = "";
		int number;

		r = json_string(l, "type", &type, e);
		if (!r)
			r = json_uint(l, "soft", UINT64_MAX, &limit->soft, e);
		if (!r)
			r = json_uint(l, "hard", UINT64_MAX, &limit->hard, e);
		if (r)
			return r;
		number = find_limit(type);
		if (number < 0)
			return json_bad(e, l, "has a type that is no limit: '%s' (one is RLIMIT_NOFILE)", type);
		limit->resource = (uint32_t)number;
		for (size_t i = 0; i < p->request.rlimit_count; i++)
			if (p->rlimits[i].resource == limit->resource)
				return json_bad(e, l, "sets %s once more", type);
		p->request.rlimit_count++;
	}
	p->request.rlimits = p->rlimits;
	return 0;
}

static int parse_rest(struct oci_process *p, const struct json *v, struct err *e)
{
	struct exec_request *rq = &p->request;
	int64_t score = 0;
	uint64_t rows = 0, cols = 0;
	bool forbid = false;
	int r = json_int(v, "oomScoreAdj", -1000, 1000, &score, e);

	if (!r)
		r = json_bool(v, "noNewPrivileges", &forbid, e);
	if (!r)
		r = json_uint(v, "consoleSize.height", UINT16_MAX, &rows, e);
	if (!r)
		r = json_uint(v, "consoleSize.width", UINT16_MAX, &cols, e);
	if (json_get(v, "oomScoreAdj"))
		rq->flags |= AGENT_EXEC_OOM;
	if (forbid)
		rq->flags |= AGENT_EXEC_NO_NEW_PRIVS;
	rq->oom_score_adj = (int32_t)score;
	p->rows = (uint16_t)rows;
	p->cols = (uint16_t)cols;
	return r;
}

static int parse_caps_sets(struct oci_process *p, const struct json *v, struct err *e)
{
	struct agent_caps *c = &p->caps;
	const struct json *object = NULL;
	int r = json_object(v, "capabilities", &object, e);

	if (!r)
		r = parse_caps(v, "capabilities.bounding", &c->bounding, e);
	if (!r)
		r = parse_caps(v, "capabilities.effective", &c->effective, e);
	if (!r)
		r = parse_caps(v, "capabilities.inheritable", &c->inheritable, e);
	if (!r)
		r = parse_caps(v, "capabilities.permitted", &c->permitted, e);
	if (!r)
		r = parse_caps(v, "capabilities.ambient", &c->ambient, e);
	p->request.caps = c; /* without the object: none */
	return r;
}

static int refuse(const struct json *v, struct err *e)
{
	static const struct {
		const char *name, *why;
	} table[] = {
		{"ioPriority", "the disks are the host's"},
		{"scheduler", "the guest's kernel has its default alone"},
		{"execCPUAffinity", "the guest's CPUs are the VM's"},
		{"commandLine", "this is Linux"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct json *m = json_get(v, table[i].name);

		if (m)
			return json_bad(e, m, "is not supported: %s", table[i].why);
	}
	return 0;
}

/* They have a meaning for a process of the host's alone, and are in configurations of every day. */
const struct json *oci_process_ignored(const struct json *v, size_t *i)
{
	static const char *const names[] = {"apparmorProfile", "selinuxLabel"};

	while (*i < ARRAY_SIZE(names)) {
		const struct json *m = json_get(v, names[(*i)++]);

		if (m && m->type == JSON_STRING && m->len)
			return m;
	}
	return NULL;
}

int oci_process_parse(struct oci_process *p, const struct json *v, struct err *e)
{
	const char *cwd = NULL;
	int r = json_required(v, "args", e);

	if (!r)
		r = json_required(v, "cwd", e);
	if (!r)
		r = json_string(v, "cwd", &cwd, e);
	if (!r && *cwd != '/')
		r = json_bad(e, json_get(v, "cwd"), "is not absolute");
	if (!r)
		r = json_strings(v, "args", &p->args, e);
	if (!r && !p->args[0])
		r = json_bad(e, json_get(v, "args"), "is empty");
	if (!r)
		r = json_strings(v, "env", &p->env, e);
	if (!r)
		r = json_bool(v, "terminal", &p->terminal, e);
	if (!r)
		r = parse_user(p, v, e);
	if (!r)
		r = parse_caps_sets(p, v, e);
	if (!r)
		r = parse_rlimits(p, v, e);
	if (!r)
		r = parse_rest(p, v, e);
	if (!r)
		r = refuse(v, e);
	p->request.argv = (char *const *)p->args;
	p->request.envp = (char *const *)p->env;
	p->request.cwd = cwd;
	p->request.tty = p->terminal;
	return r;
}

int oci_process_seccomp(struct oci_process *p, const struct json *seccomp, struct err *e)
{
	uint32_t flags = 0;
	int n;

	if (!seccomp)
		return 0;
	n = seccomp_from_oci(seccomp, p->filter, &flags, e);
	if (n < 0)
		return n;
	rights_set_filter(&p->request, p->filter, (size_t)n, flags);
	return 0;
}

void oci_process_free(struct oci_process *p)
{
	free(p->args);
	free(p->env);
	p->args = p->env = NULL;
}
