/* SPDX-License-Identifier: Apache-2.0
 *
 * Seccomp filters: against a reading of the same list that is too simple to be wrong, and in the
 * kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/seccomp.h>

#include "tests/unit/util.h"
#include "vmm/json.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

static struct sock_filter filter[SECCOMP_FILTER_MAX];
static struct err e;

/* --- a machine for the programs, as far as they go --- */

static uint32_t run(int n, const struct seccomp_data *d)
{
	uint32_t a = 0, x = 0;

	for (int pc = 0; pc < n; pc++) {
		const struct sock_filter *f = &filter[pc];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			ck_that(f->k % 4 == 0 && f->k <= sizeof(*d) - 4);
			memcpy(&a, (const char *)d + f->k, 4);
			break;
		case BPF_LD | BPF_IMM: a = f->k; break;
		case BPF_MISC | BPF_TAX: x = a; break;
		case BPF_ALU | BPF_AND | BPF_K: a &= f->k; break;
		case BPF_ALU | BPF_RSH | BPF_K: a >>= f->k; break;
		case BPF_ALU | BPF_LSH | BPF_X: a <<= x; break;
		case BPF_JMP | BPF_JA: pc += (int)f->k; break;
		case BPF_JMP | BPF_JEQ | BPF_K: pc += a == f->k ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JSET | BPF_X: pc += a & x ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JGT | BPF_K: pc += a > f->k ? f->jt : f->jf; break;
		case BPF_JMP | BPF_JGE | BPF_K: pc += a >= f->k ? f->jt : f->jf; break;
		case BPF_RET | BPF_K: return f->k;
		default: ck_abort_msg("instruction %d is unknown: 0x%x", pc, f->code);
		}
	}
	ck_abort_msg("the program runs over its end");
}

static uint32_t ask(int n, uint32_t nr, const uint64_t *args)
{
	struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64};

	if (args)
		memcpy(d.args, args, sizeof(d.args));
	return run(n, &d);
}

/* --- the list, read naively --- */

static bool holds(const struct seccomp_condition *c, uint64_t v)
{
	switch (c->op) {
	case SECCOMP_EQ: return v == c->value;
	case SECCOMP_NE: return v != c->value;
	case SECCOMP_LT: return v < c->value;
	case SECCOMP_LE: return v <= c->value;
	case SECCOMP_GT: return v > c->value;
	case SECCOMP_GE: return v >= c->value;
	default: return (v & c->mask) == c->value;
	}
}

static uint32_t expected(const struct seccomp_list *l, uint32_t nr, const uint64_t *args)
{
	uint32_t last = 0;

	for (size_t i = 0; i < l->rules; i++) {
		const struct seccomp_rule *r = &l->rule[i];
		bool all = r->nr == nr;

		last = MAX(last, r->nr);
		for (unsigned int k = 0; k < r->conditions && all; k++)
			all = holds(&r->condition[k], args[r->condition[k].arg]);
		if (all)
			return r->action;
	}
	return l->rules && nr > last ? l->newer : l->no_action;
}

/* Values that differ in one half only, so that both count. */
static uint64_t value(void)
{
	static const uint64_t some[] = {0,	     1,		 0xffffffff,	     0x100000000,
					0x100000001, UINT64_MAX, 0x8000000000000000, 0x80000000};

	return some[(unsigned int)rand() % ARRAY_SIZE(some)];
}

static void agree(bool small)
{
	static struct seccomp_rule rule[300];
	struct seccomp_list l = {.no_action = SECCOMP_RET_ERRNO | EPERM,
				 .newer = small ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_LOG,
				 .small = small,
				 .rule = rule};
	uint64_t args[6];
	int n;

	srand(1);
	for (int round = 0; round < 300; round++) {
		l.rules = (size_t)rand() % (round % 3 ? 12 : 300);
		for (size_t i = 0; i < l.rules; i++) {
			rule[i] = (struct seccomp_rule){
				.nr = (uint32_t)rand() % (round % 2 ? 20 : 520),
				.action = rand() % 3 ? SECCOMP_RET_ALLOW
						     : SECCOMP_RET_ERRNO | ((uint32_t)rand() % 4),
				.conditions = rand() % 4 ? 0 : (unsigned int)rand() % 7};
			for (unsigned int k = 0; k < rule[i].conditions; k++) {
				struct seccomp_condition *c = &rule[i].condition[k];

				*c = (struct seccomp_condition){.arg = (uint8_t)(rand() % 6),
								.op = (uint8_t)(rand() % 7),
								.mask = value(),
								.value = value()};
				if (c->op == SECCOMP_MASKED_EQ)
					c->value &= c->mask;
			}
		}
		n = seccomp_compile(&l, filter, &e);
		ck_assert_msg(n > 0, "%s", e.text);
		for (int i = 0; i < 600; i++) {
			uint32_t nr = (uint32_t)rand() % 550;

			for (int k = 0; k < 6; k++)
				args[k] = value();
			ck_that(ask(n, nr, args) == expected(&l, nr, args));
		}
	}
}

START_TEST(agrees_with_the_list)
{
	agree(false);
}
END_TEST

START_TEST(a_small_one_agrees_too)
{
	agree(true);
}
END_TEST

START_TEST(other_conventions)
{
	struct seccomp_list l = {.no_action = SECCOMP_RET_ALLOW, .newer = SECCOMP_RET_ALLOW};
	struct seccomp_data d = {.nr = 1, .arch = AUDIT_ARCH_I386};
	int n = seccomp_compile(&l, filter, &e);

	ck_assert_int_gt(n, 0);
	ck_assert_uint_eq(run(n, &d), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(n, 0x40000001, NULL), SECCOMP_RET_ERRNO | ENOSYS);
	ck_assert_uint_eq(ask(n, UINT32_MAX, NULL), SECCOMP_RET_ERRNO | ENOSYS);
	ck_assert_uint_eq(ask(n, 1, NULL), SECCOMP_RET_ALLOW);
}
END_TEST

/* Every call by itself: the search is short. */
START_TEST(few_instructions_each)
{
	static struct seccomp_rule rule[448];
	struct seccomp_list l = {
		.no_action = SECCOMP_RET_ERRNO | EPERM, .rule = rule, .rules = 448};
	int n;

	for (uint32_t i = 0; i < 448; i++)
		rule[i] = (struct seccomp_rule){
			.nr = i, .action = i % 2 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO};
	n = seccomp_compile(&l, filter, &e);
	ck_assert_int_gt(n, 0);
	for (uint32_t i = 0; i < 448; i++)
		ck_assert_uint_eq(ask(n, i, NULL), rule[i].action);
	ck_assert_int_le(n, 448 * 3 + 8); /* a leaf, a question and a jump for each */
}
END_TEST

START_TEST(too_much)
{
	struct seccomp_rule *rule = calloc(SECCOMP_RULES_MAX + 1, sizeof(*rule));
	struct seccomp_list l = {.rule = rule, .rules = SECCOMP_RULES_MAX + 1};

	ck_refused(seccomp_compile(&l, filter, &e), E2BIG, "more than 4096 rules");
	l.rules = SECCOMP_RULES_MAX;
	for (uint32_t i = 0; i < SECCOMP_RULES_MAX; i++) {
		rule[i] = (struct seccomp_rule){.nr = 3, .conditions = 1};
		rule[i].condition[0].value = i;
	}
	ck_refused(seccomp_compile(&l, filter, &e), E2BIG, "Linux takes 4096");
	l.rules = 1;
	rule->condition[0].arg = 6;
	ck_refused(seccomp_compile(&l, filter, &e), EINVAL, "no argument");
	rule->conditions = 0;
	rule->nr = 0x40000000;
	ck_refused(seccomp_compile(&l, filter, &e), EINVAL, "no system call");
	free(rule);
}
END_TEST

/* --- OCI --- */

static int from_oci(const char *text, uint32_t *flags)
{
	struct json_doc d;
	int r = json_parse(&d, text, strlen(text), "config.json", &e);

	ck_assert_msg(!r, "%s", e.text);
	r = seccomp_from_oci(d.root, filter, flags, &e);
	json_free(&d);
	return r;
}

START_TEST(oci_profile)
{
	static const char profile[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,"
		"\"architectures\":[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\"],"
		"\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],\"syscalls\":["
		"{\"names\":[\"read\",\"write\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38},"
		"{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
		"\"value\":2114060288,\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}]},"
		"{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
		"{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_EQ\"},"
		"{\"index\":0,\"value\":8,\"op\":\"SCMP_CMP_EQ\"}]},"
		"{\"names\":[\"socket\"],\"action\":\"SCMP_ACT_KILL_PROCESS\",\"args\":["
		"{\"index\":0,\"value\":40,\"op\":\"SCMP_CMP_EQ\"}]}]}";
	uint32_t flags = 7, no = SECCOMP_RET_ERRNO | 38;
	uint64_t args[6] = {0};
	int n = from_oci(profile, &flags);

	ck_assert_msg(n > 0, "%s", e.text);
	ck_assert_uint_eq(flags, SECCOMP_FILTER_FLAG_LOG);
	ck_assert_uint_eq(ask(n, SYS_read, args), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(ask(n, SYS_kill, args), no);
	ck_assert_uint_eq(ask(n, SYS_open, args), no);
	ck_assert_uint_eq(ask(n, SYS_clone, args), SECCOMP_RET_ALLOW);
	args[0] = 0x10000000;
	ck_assert_uint_eq(ask(n, SYS_clone, args), no);
	args[0] = 8;
	ck_assert_uint_eq(ask(n, SYS_personality, args), SECCOMP_RET_ALLOW);
	args[0] = 9;
	ck_assert_uint_eq(ask(n, SYS_personality, args), no);
	args[0] = 40;
	ck_assert_uint_eq(ask(n, SYS_socket, args), SECCOMP_RET_KILL_PROCESS);
	ck_assert_uint_eq(ask(n, 1000, args), SECCOMP_RET_ERRNO | ENOSYS);
}
END_TEST

START_TEST(oci_refused)
{
	uint32_t flags;

	ck_refused(from_oci("{}", &flags), EINVAL, "defaultAction is missing");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", &flags), EINVAL,
		   "defaultAction is no action that uvm knows: 'SCMP_ACT_NOTIFY'");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}", &flags),
		   EINVAL, "is no flag");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
			    "[\"read\"]}]}",
			    &flags),
		   EINVAL, "has no 'action'");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":"
			    "\"SCMP_ACT_KILL\"}]}",
			    &flags),
		   EINVAL, "has no 'names'");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
			    "[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":6,"
			    "\"op\":\"SCMP_CMP_EQ\"}]}]}",
			    &flags),
		   EINVAL, "args[0].index");
	ck_refused(from_oci("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
			    "[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":1,"
			    "\"op\":\"SCMP_CMP_IS\"}]}]}",
			    &flags),
		   EINVAL, "is no comparison");
}
END_TEST

START_TEST(names)
{
	ck_assert_int_eq(seccomp_number("read"), SYS_read);
	ck_assert_int_eq(seccomp_number("clone3"), SYS_clone3);
	ck_assert_int_eq(seccomp_number("socketcall"), -1);
	ck_assert_int_eq(seccomp_number(""), -1);
}
END_TEST

/* --- in the kernel --- */

START_TEST(kernel_takes_it)
{
	struct seccomp_rule rule[] = {
		{.nr = SYS_getppid, .action = SECCOMP_RET_ERRNO | ENOTTY},
		{.nr = SYS_dup,
		 .action = SECCOMP_RET_ERRNO | EXDEV,
		 .conditions = 1,
		 .condition = {{.arg = 0, .op = SECCOMP_GT, .value = 1000}}},
	};
	struct seccomp_list l = {.no_action = SECCOMP_RET_ALLOW,
				 .newer = SECCOMP_RET_ALLOW,
				 .rule = rule,
				 .rules = ARRAY_SIZE(rule)};
	int n = seccomp_compile(&l, filter, &e), status;
	struct sock_fprog program = {(unsigned short)n, filter};
	pid_t pid = fork();

	if (!pid) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			_exit(1);
		if (syscall(SYS_getppid) != -1 || errno != ENOTTY)
			_exit(2);
		if (syscall(SYS_dup, 2000) != -1 || errno != EXDEV)
			_exit(3);
		if (syscall(SYS_dup, 999) != -1 || errno != EBADF)
			_exit(4);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {agrees_with_the_list,
				      a_small_one_agrees_too,
				      other_conventions,
				      few_instructions_each,
				      too_much,
				      oci_profile,
				      oci_refused,
				      names,
				      kernel_takes_it};

	return run_tests("seccomp", tests, ARRAY_SIZE(tests), NULL, NULL);
}
