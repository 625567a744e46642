/* SPDX-License-Identifier: Apache-2.0
 *
 * A filter sees struct seccomp_data (seccomp(2)): the number, the architecture, the arguments.
 * Rules are sorted by number, and numbers that are treated alike without conditions become one
 * segment. Over the segments goes a bisection: "number >= middle?", the lower half behind the
 * question, the upper one further on. BPF's conditional jumps reach 255 instructions, so the far
 * side is reached by an unconditional one, which reaches everywhere.
 */
#include "vmm/seccomp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/audit.h>
#include <linux/seccomp.h>

#include "vmm/json.h"
#include "vmm/util.h"

#define X32_BIT 0x40000000u

/* --- the program --- */

struct program {
	struct sock_filter *at; /* SECCOMP_FILTER_MAX */
	unsigned int n;		/* counted on beyond that */
};

static unsigned int emit(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (p->n < SECCOMP_FILTER_MAX)
		p->at[p->n] = (struct sock_filter){code, jt, jf, k};
	return p->n++;
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void jump(struct program *p, uint16_t test, uint32_t k, uint8_t jt, uint8_t jf)
{
	emit(p, (uint16_t)(BPF_JMP | test | BPF_K), jt, jf, k);
}

static void ret(struct program *p, uint32_t action)
{
	emit(p, BPF_RET | BPF_K, 0, 0, action);
}

/* --- conditions --- */

/* Jumps of one rule to where the next begins; which of the two sides is. */
struct misses {
	unsigned int n;
	unsigned int at[SECCOMP_ARGS * 3];
	bool when_true[SECCOMP_ARGS * 3];
};

/* A jump that misses the rule on one side and goes on over `skip` instructions on the other. */
static void miss(struct program *p, struct misses *m, uint16_t test, uint32_t k, bool when_true,
		 uint8_t skip)
{
	m->at[m->n] = p->n;
	m->when_true[m->n++] = when_true;
	jump(p, test, k, when_true ? 0 : skip, when_true ? skip : 0);
}

static void resolve(struct program *p, const struct misses *m)
{
	for (unsigned int i = 0; i < m->n; i++) {
		unsigned int at = m->at[i];

		if (at >= SECCOMP_FILTER_MAX)
			return;
		*(m->when_true[i] ? &p->at[at].jt : &p->at[at].jf) = (uint8_t)(p->n - at - 1);
	}
}

/* 64 bits in two halves: the upper decides unless it is equal. */
static void condition(struct program *p, struct misses *m, const struct seccomp_condition *c)
{
	size_t low = offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t);
	uint32_t l = (uint32_t)c->value, h = (uint32_t)(c->value >> 32);
	bool greater = c->op == SECCOMP_GT || c->op == SECCOMP_GE;

	if (c->op == SECCOMP_MASKED_EQ && !(c->mask >> 32 | h)) { /* of the lower half alone */
		load(p, low);
		if ((uint32_t)c->mask != UINT32_MAX)
			emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)c->mask);
		miss(p, m, BPF_JEQ, l, false, 0);
		return;
	}
	load(p, low + 4);
	switch ((enum seccomp_op)c->op) {
	case SECCOMP_EQ:
		miss(p, m, BPF_JEQ, h, false, 0);
		load(p, low);
		miss(p, m, BPF_JEQ, l, false, 0);
		break;
	case SECCOMP_MASKED_EQ:
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)(c->mask >> 32));
		miss(p, m, BPF_JEQ, h, false, 0);
		load(p, low);
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)c->mask);
		miss(p, m, BPF_JEQ, l, false, 0);
		break;
	case SECCOMP_NE:
		jump(p, BPF_JEQ, h, 0, 2); /* differs already */
		load(p, low);
		miss(p, m, BPF_JEQ, l, true, 0);
		break;
	case SECCOMP_GT:
	case SECCOMP_GE:
	case SECCOMP_LT:
	case SECCOMP_LE:
		if (greater) {
			jump(p, BPF_JGT, h, 3, 0);
			miss(p, m, BPF_JEQ, h, false, 0);
		} else {
			miss(p, m, BPF_JGT, h, true, 0);
			jump(p, BPF_JEQ, h, 0, 2);
		}
		load(p, low);
		/* a <= b is not a > b, a < b is not a >= b */
		miss(p, m, c->op == SECCOMP_GT || c->op == SECCOMP_LE ? BPF_JGT : BPF_JGE, l,
		     !greater, 0);
		break;
	}
}

/* --- segments --- */

/* Numbers from here to where the next segment begins. rule: the first of those with conditions for
 * this one number, which end with another number's; NULL: the action alone.
 */
struct segment {
	uint32_t from;
	uint32_t action;
	const struct seccomp_rule *rule;
};

struct compiler {
	const struct seccomp_list *list;
	struct seccomp_rule *rule; /* sorted by number, in the list's order within one */
	struct segment *segment;
	size_t segments;
	struct program program;
};

static void leaf(struct compiler *c, const struct segment *s)
{
	const struct seccomp_rule *end = c->rule + c->list->rules;
	struct program *p = &c->program;

	for (const struct seccomp_rule *r = s->rule; r && r < end && r->nr == s->from; r++) {
		struct misses m = {0};

		for (unsigned int i = 0; i < r->conditions; i++)
			condition(p, &m, &r->condition[i]);
		ret(p, r->action);
		resolve(p, &m);
		if (!r->conditions)
			return; /* none behind it is ever reached */
	}
	ret(p, s->action);
}

static void tree(struct compiler *c, size_t first, size_t n)
{
	struct program *p = &c->program;
	unsigned int far;

	if (n == 1) {
		leaf(c, &c->segment[first]);
		return;
	}
	jump(p, BPF_JGE, c->segment[first + n / 2].from, 0, 1);
	far = emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
	tree(c, first, n / 2);
	if (far < SECCOMP_FILTER_MAX)
		p->at[far].k = p->n - far - 1;
	tree(c, first + n / 2, n - n / 2);
}

static void add_segment(struct compiler *c, uint32_t from, uint32_t action,
			const struct seccomp_rule *rule)
{
	struct segment *last = c->segments ? &c->segment[c->segments - 1] : NULL;

	if (last && last->from == from)
		c->segments--; /* an empty one */
	else if (last && !rule && !last->rule && last->action == action)
		return;
	c->segment[c->segments++] = (struct segment){from, action, rule};
}

static void make_segments(struct compiler *c)
{
	const struct seccomp_list *l = c->list;
	uint32_t next = 0;

	add_segment(c, 0, l->no_action, NULL);
	for (size_t i = 0; i < l->rules; i++) {
		const struct seccomp_rule *r = &c->rule[i];

		if (i && r->nr == r[-1].nr)
			continue;
		if (r->conditions)
			add_segment(c, r->nr, l->no_action, r);
		else
			add_segment(c, r->nr, r->action, NULL);
		next = r->nr + 1;
		/* Calls between two listed ones; behind the last it is a newer one's turn. */
		add_segment(c, next, l->no_action, NULL);
	}
	if (l->rules)
		add_segment(c, next, l->newer, NULL);
}

static int compare(const void *a, const void *b)
{
	const struct seccomp_rule *x = a, *y = b;

	return x->nr < y->nr ? -1 : x->nr > y->nr;
}

/* By insertion of what merge keeps in order: qsort may not keep equals as they were. */
static void sort(struct seccomp_rule *rule, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct seccomp_rule moved = rule[i];
		size_t at = i;

		while (at && compare(&rule[at - 1], &moved) > 0) {
			rule[at] = rule[at - 1];
			at--;
		}
		rule[at] = moved;
	}
}

static int check(const struct seccomp_list *l, struct err *e)
{
	if (l->rules > SECCOMP_RULES_MAX)
		return err_set(e, E2BIG, "a seccomp filter of more than %u rules",
			       SECCOMP_RULES_MAX);
	for (size_t i = 0; i < l->rules; i++) {
		const struct seccomp_rule *r = &l->rule[i];

		if (r->nr >= X32_BIT || r->conditions > SECCOMP_ARGS)
			return err_set(e, EINVAL, "a seccomp rule of no system call");
		for (unsigned int k = 0; k < r->conditions; k++)
			if (r->condition[k].arg >= SECCOMP_ARGS ||
			    r->condition[k].op > SECCOMP_MASKED_EQ)
				return err_set(e, EINVAL, "a seccomp rule of no argument");
	}
	return 0;
}

int seccomp_compile(const struct seccomp_list *list, struct sock_filter *filter, struct err *e)
{
	struct compiler c = {.list = list, .program.at = filter};
	struct program *p = &c.program;
	int r = check(list, e);

	if (r)
		return r;
	c.rule = malloc((list->rules + 1) * sizeof(*c.rule));
	c.segment = malloc((2 * list->rules + 2) * sizeof(*c.segment));
	if (!c.rule || !c.segment) {
		r = err_set(e, ENOMEM, "out of memory");
	} else {
		if (list->rules)
			memcpy(c.rule, list->rule, list->rules * sizeof(*c.rule));
		sort(c.rule, list->rules);
		make_segments(&c);
		load(p, offsetof(struct seccomp_data, arch));
		jump(p, BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
		ret(p, SECCOMP_RET_KILL_PROCESS);
		load(p, offsetof(struct seccomp_data, nr));
		jump(p, BPF_JGE, X32_BIT, 0, 1);
		ret(p, SECCOMP_RET_ERRNO | ENOSYS);
		tree(&c, 0, c.segments);
		r = p->n <= SECCOMP_FILTER_MAX
			    ? (int)p->n
			    : err_set(e, E2BIG,
				      "a seccomp filter of %u instructions; Linux takes %u", p->n,
				      SECCOMP_FILTER_MAX);
	}
	free(c.rule);
	free(c.segment);
	return r;
}

/* --- an OCI configuration --- */

int seccomp_number(const char *name)
{
	static const struct {
		const char *name;
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
