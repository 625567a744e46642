/* SPDX-License-Identifier: Apache-2.0
 *
 * seccomp: a list of system calls becomes a seccomp filter (seccomp(2), SECCOMP_SET_MODE_FILTER).
 *
 * For x86-64 only: a call by another architecture's convention kills the process, one of x32's
 * fails with ENOSYS. A filter finds a call by bisection over the numbers, so its length does not
 * count, but its logarithm; or, where it is to be short, mostly by a table of bits.
 */
#ifndef UVM_VMM_SECCOMP_H
#define UVM_VMM_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/filter.h>

#include "vmm/err.h"

struct json;

#define SECCOMP_ARGS	   6u
#define SECCOMP_RULES_MAX  4096u
#define SECCOMP_FILTER_MAX 4096u /* instructions; BPF_MAXINSNS */

enum seccomp_op {
	SECCOMP_EQ, /* the argument is value */
	SECCOMP_NE,
	SECCOMP_LT, /* without sign, as all of these */
	SECCOMP_LE,
	SECCOMP_GT,
	SECCOMP_GE,
	SECCOMP_MASKED_EQ, /* the argument, and mask, is value */
};

struct seccomp_condition {
	uint8_t arg; /* 0 to SECCOMP_ARGS - 1 */
	uint8_t op;  /* enum seccomp_op */
	uint64_t value;
	uint64_t mask; /* of MASKED_EQ */
};

/* Applies when all conditions do. Of several rules for a call the first that applies decides. */
struct seccomp_rule {
	uint32_t nr;	 /* the call's number on x86-64 */
	uint32_t action; /* SECCOMP_RET_*, with its data */
	unsigned int conditions;
	struct seccomp_condition condition[SECCOMP_ARGS];
};

/* no_action: for every call without a rule that applies. newer: for calls with a number above that
 * of every rule, since a list can't have meant what it did not know. small: fewer instructions, so
 * that the kernel has it installed sooner; newer must be no_action. For programs that make few calls:
 * the kernel cannot foresee of any call that such a filter lets it pass, and runs it for each.
 */
struct seccomp_list {
	uint32_t no_action, newer;
	bool small;
	const struct seccomp_rule *rule;
	size_t rules;
};

/* Writes the filter for a list, SECCOMP_FILTER_MAX instructions at the most. Returns their number,
 * or -E2BIG (too long) or -EINVAL with the message set.
 */
int seccomp_compile(const struct seccomp_list *list, struct sock_filter *filter, struct err *e);

/* Compiles "linux.seccomp" of an OCI configuration, which is v. Names that are no system call of
 * x86-64 are skipped, as callers list those of all architectures. flags gets SECCOMP_FILTER_FLAG_*.
 * Returns as seccomp_compile.
 */
int seccomp_from_oci(const struct json *v, struct sock_filter *filter, uint32_t *flags,
		     struct err *e);

/* The same for a profile as docker and podman have them in files: entries that applies refuses are left
 * out. It looks at what only a profile has, "includes" and "excludes".
 */
int seccomp_from_profile(const struct json *v,
			 bool (*applies)(const struct json *entry, const void *ctx),
			 const void *ctx, struct sock_filter *filter, uint32_t *flags,
			 struct err *e);

/* The number of a system call on x86-64, or -1. */
int seccomp_number(const char *name);

#endif
