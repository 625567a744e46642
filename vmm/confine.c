/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/confine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/seccomp.h>

#include "vmm/log.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

/* Those of a thread that serves a share as root (devices/fuse_ids.c). */
#define BIT(cap) (1ull << (cap))
#define FILE_CAPS                                                                                  \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) |     \
	 BIT(CAP_FSETID) | BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP) | \
	 BIT(CAP_SETPCAP))

/* --- limits --- */

/* Who is to raise a limit again needs CAP_SYS_RESOURCE, and a call that is in no filter. */
static int set_limits(struct err *e)
{
	const struct rlimit none = {0, 0};

	return setrlimit(RLIMIT_CORE, &none) || setrlimit(RLIMIT_MSGQUEUE, &none)
		       ? err_sys(e, "cannot lower a limit")
		       : 0;
}

/* --- privileges --- */

/* The bounding set may stay: after no_new_privs, and without execve, nothing is gained by it. */
static int drop_privileges(const struct confine_needs *n, struct err *e)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	uint64_t keep = n->runtime ? ~0ull : n->shares ? FILE_CAPS : 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_sys(e, "cannot set no_new_privs");
	if (syscall(SYS_capget, &h, d))
		return err_sys(e, "cannot read capabilities");
	for (unsigned int i = 0; i < 2; i++) {
		d[i].effective &= (uint32_t)(keep >> 32 * i);
		d[i].permitted &= (uint32_t)(keep >> 32 * i);
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) ? err_sys(e, "cannot give up capabilities") : 0;
}

/* --- system calls --- */

static bool is_for(const struct confine_call *c, unsigned int who)
{
	return c->who & who;
}

static struct seccomp_rule rule_of(const struct confine_call *c)
{
	struct seccomp_rule r = {.nr = (uint32_t)c->nr,
				 .action = c->error ? SECCOMP_RET_ERRNO | (uint32_t)c->error
						    : SECCOMP_RET_ALLOW};

	for (unsigned int i = 0; i < CONFINE_CONDITIONS && c->when[i].used; i++)
		r.condition[r.conditions++] =
			(struct seccomp_condition){.arg = c->when[i].arg,
						   .op = SECCOMP_MASKED_EQ,
						   .mask = c->when[i].mask,
						   .value = c->when[i].value};
	return r;
}

int confine_compile(unsigned int who, struct sock_filter *filter, struct err *e)
{
	struct seccomp_list list = {.no_action = SECCOMP_RET_KILL_PROCESS,
				    .newer = SECCOMP_RET_KILL_PROCESS};
	struct seccomp_rule *rule = malloc(confine_call_count * sizeof(*rule));
	int r;

	if (!rule)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < confine_call_count; i++)
		if (is_for(&confine_calls[i], who))
			rule[list.rules++] = rule_of(&confine_calls[i]);
	list.rule = rule;
	r = seccomp_compile(&list, filter, e);
	free(rule);
	return r;
}

static int install(const struct sock_filter *code, unsigned short len)
{
	struct sock_fprog p = {.len = len, .filter = (struct sock_filter *)(uintptr_t)code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) ? -errno : 0;
}

static int make_filter(struct confine_filter *f, unsigned int who, struct err *e)
{
	int n;

	f->code = malloc(SECCOMP_FILTER_MAX * sizeof(*f->code));
	if (!f->code)
		return err_set(e, ENOMEM, "out of memory");
	n = confine_compile(who, f->code, e);
	f->len = (unsigned short)MAX(n, 0);
	return MIN(n, 0);
}

/* Threads' first, while memory can be had in any way. */
static int filter_calls(struct confine *c, const struct confine_needs *n, struct err *e)
{
	unsigned int who = CONFINE_MAIN | CONFINE_VCPU | CONFINE_DISK | CONFINE_NET |
			   (n->shares ? CONFINE_SHARE : 0) |
			   (n->runtime ? CONFINE_RUNTIME : 0);
	struct confine_filter own = {NULL, 0};
	int r = make_filter(&own, who, e);

	for (unsigned int i = 0; i < CONFINE_THREADS && !r; i++)
		if (who & 1u << i)
			r = make_filter(&c->thread[i], 1u << i, e);
	if (!r)
		r = install(own.code, own.len);
	free(own.code);
	return r ? err_set(e, -r, "cannot filter system calls: %s", strerror(-r)) : 0;
}

/* --- all of it --- */

int confine(struct confine *c, const struct confine_needs *n, struct err *e)
{
	int r;

	if (n->none) {
		log_line("this VM's process is not confined (--sandbox none)");
		return 0;
	}
	c->on = true;
	r = set_limits(e);
	if (!r)
		r = drop_privileges(n, e);
	return r ? r : filter_calls(c, n, e);
}

void confine_thread(const struct confine *c, enum confine_role role)
{
	const struct confine_filter *f = &c->thread[__builtin_ctz(role)];
	int r;

	if (!c->on)
		return;
	r = f->code ? install(f->code, f->len) : -EINVAL;
	if (!r)
		return;
	log_line("a thread cannot be confined: %s", strerror(-r));
	_exit(1);
}

int confine_set(void *to, const char *value, struct err *e)
{
	*(bool *)to = !strcmp(value, "none");
	return *(bool *)to || !strcmp(value, "on")
		       ? 0
		       : err_set(e, EINVAL, "'%s' is neither 'on' nor 'none'", value);
}
