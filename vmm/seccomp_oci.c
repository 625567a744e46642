/* SPDX-License-Identifier: Apache-2.0
 *
 * A seccomp list as an OCI configuration has it ("linux.seccomp" of the runtime specification), and
 * as docker and podman have it in files.
 */
#include "vmm/seccomp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/seccomp.h>

#include "vmm/json.h"
#include "vmm/util.h"

int seccomp_number(const char *name)
{
	static const struct {
		char name[24]; /* a pointer would be one that is relocated at each start */
		int nr;
	} calls[] = {
#include "build/syscalls.inc"
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].nr;
	return -1;
}

static int oci_action(const struct json *v, const char *key, const char *data_key, uint32_t *to,
		      struct err *e)
{
	static const struct {
		const char *name;
		uint32_t action;
	} names[] = {
		{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
		{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
		{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
		{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
		{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
		{"SCMP_ACT_LOG", SECCOMP_RET_LOG},
		{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
		{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
	};
	const char *name = NULL;
	uint64_t data = EPERM;
	int r = json_required(v, key, e);

	if (!r)
		r = json_string(v, key, &name, e);
	if (!r)
		r = json_uint(v, data_key, SECCOMP_RET_DATA, &data, e);
	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i].name, name))
			continue;
		*to = names[i].action;
		if (*to == SECCOMP_RET_ERRNO || *to == SECCOMP_RET_TRACE)
			*to |= (uint32_t)data;
		return 0;
	}
	return json_bad(e, json_get(v, key), "is no action that uvm knows: '%s'", name);
}

static int oci_condition(const struct json *v, struct seccomp_condition *to, struct err *e)
{
	static const char *const ops[] = {"SCMP_CMP_EQ",       "SCMP_CMP_NE", "SCMP_CMP_LT",
					  "SCMP_CMP_LE",       "SCMP_CMP_GT", "SCMP_CMP_GE",
					  "SCMP_CMP_MASKED_EQ"};
	uint64_t index = 0, two = 0;
	const char *op = "";
	int r = json_uint(v, "index", SECCOMP_ARGS - 1, &index, e);

	*to = (struct seccomp_condition){0};
	if (!r)
		r = json_uint(v, "value", UINT64_MAX, &to->value, e);
	if (!r)
		r = json_uint(v, "valueTwo", UINT64_MAX, &two, e);
	if (!r)
		r = json_required(v, "op", e);
	if (!r)
		r = json_string(v, "op", &op, e);
	if (r)
		return r;
	to->arg = (uint8_t)index;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (strcmp(ops[i], op))
			continue;
		to->op = (uint8_t)i;
		if (i == SECCOMP_MASKED_EQ) { /* there, value is the mask */
			to->mask = to->value;
			to->value = two & to->mask;
		}
		return 0;
	}
	return json_bad(e, json_get(v, "op"), "is no comparison: '%s'", op);
}

struct oci {
	struct seccomp_rule *rule;
	size_t rules;
	uint32_t no_action;
};

static int add_rule(struct oci *o, const struct json *v, const struct seccomp_rule *r,
		    struct err *e)
{
	if (o->rules == SECCOMP_RULES_MAX)
		return json_bad(e, v, "has more than %u rules", SECCOMP_RULES_MAX);
	o->rule[o->rules++] = *r;
	return 0;
}

/* Conditions of one entry must all hold; but of several on one argument each is an alternative, as
 * libseccomp, which takes one for each, has made callers expect.
 */
static int oci_entry(struct oci *o, const struct json *v, struct err *e)
{
	struct seccomp_condition condition[SECCOMP_ARGS];
	const struct json *args = NULL, *names = NULL;
	bool twice = false;
	unsigned int n = 0, seen = 0;
	struct seccomp_rule rule = {0};
	int r = oci_action(v, "action", "errnoRet", &rule.action, e);

	if (!r)
		r = json_array(v, "args", &args, e);
	json_each(a, args)
	{
		if (!r && n == SECCOMP_ARGS)
			r = json_bad(e, args, "has more than %u", SECCOMP_ARGS);
		if (r || (r = oci_condition(a, &condition[n], e)))
			return r;
		twice |= seen & 1u << condition[n].arg;
		seen |= 1u << condition[n++].arg;
	}
	if (!r)
		r = json_required(v, "names", e);
	if (!r)
		r = json_array(v, "names", &names, e);
	if (r || rule.action == o->no_action)
		return r;
	json_each(name, names)
	{
		const char *text = "";
		int nr;

		r = json_string(name, "", &text, e);
		nr = r ? -1 : seccomp_number(text);
		if (nr < 0) {
			if (r)
				return r;
			continue;
		}
		rule.nr = (uint32_t)nr;
		for (unsigned int i = 0; i < (twice ? n : 1) && !r; i++) {
			rule.conditions = twice ? 1 : n;
			memcpy(rule.condition, condition + (twice ? i : 0),
			       rule.conditions * sizeof(*condition));
			r = add_rule(o, v, &rule, e);
		}
		if (r)
			return r;
	}
	return 0;
}

static int oci_flags(const struct json *v, uint32_t *flags, struct err *e)
{
	const struct json *list = NULL;
	int r = json_array(v, "flags", &list, e);

	*flags = 0;
	json_each(f, list)
	{
		const char *text = "";

		r = r ? r : json_string(f, "", &text, e);
		if (r)
			return r;
		if (!strcmp(text, "SECCOMP_FILTER_FLAG_LOG"))
			*flags |= SECCOMP_FILTER_FLAG_LOG;
		else if (!strcmp(text, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"))
			*flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
		else if (strcmp(text, "SECCOMP_FILTER_FLAG_TSYNC")) /* there is one thread */
			return json_bad(e, f, "is no flag that uvm knows: '%s'", text);
	}
	return r;
}

int seccomp_from_oci(const struct json *v, struct sock_filter *filter, uint32_t *flags,
		     struct err *e)
{
	return seccomp_from_profile(v, NULL, NULL, filter, flags, e);
}

int seccomp_from_profile(const struct json *v,
			 bool (*applies)(const struct json *entry, const void *ctx),
			 const void *ctx, struct sock_filter *filter, uint32_t *flags,
			 struct err *e)
{
	struct oci o = {0};
	struct seccomp_list list;
	const struct json *entries = NULL;
	int r = oci_action(v, "defaultAction", "defaultErrnoRet", &o.no_action, e);

	if (!r)
		r = oci_flags(v, flags, e);
	if (!r)
		r = json_array(v, "syscalls", &entries, e);
	if (r)
		return r;
	o.rule = malloc(SECCOMP_RULES_MAX * sizeof(*o.rule));
	if (!o.rule)
		return err_set(e, ENOMEM, "out of memory");
	json_each(entry, entries)
	{
		if (applies && !applies(entry, ctx))
			continue;
		r = oci_entry(&o, entry, e);
		if (r)
			break;
	}
	/* A program that probes for a call which its list is too old for takes ENOSYS for an
	 * answer. */
	list = (struct seccomp_list){.no_action = o.no_action,
				     .newer = (o.no_action & SECCOMP_RET_ACTION_FULL) ==
							      SECCOMP_RET_ERRNO
						      ? SECCOMP_RET_ERRNO | ENOSYS
						      : o.no_action,
				     .rule = o.rule,
				     .rules = o.rules};
	if (!r)
		r = seccomp_compile(&list, filter, e);
	free(o.rule);
	return r;
}
