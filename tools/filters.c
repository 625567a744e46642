/* SPDX-License-Identifier: Apache-2.0
 *
 * filters: prints the seccomp filters of a VM's process and threads as C, for vmm/confine.c; or, with
 * --list, the table that they are made of, for tests/calls.
 */
#include <stdio.h>
#include <string.h>

#include <linux/seccomp.h>

#include "vmm/confine.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

#define PROCESS (CONFINE_MAIN | CONFINE_VCPU | CONFINE_DISK | CONFINE_NET)

static int print(const char *name, unsigned int who)
{
	static struct sock_filter code[SECCOMP_FILTER_MAX];
	struct err e;
	int n = confine_compile(who, code, &e);

	if (n < 0) {
		fprintf(stderr, "filter %s: %s\n", name, e.text);
		return 1;
	}
	printf("static const struct sock_filter code_%s[] = {\n", name);
	for (int i = 0; i < n; i++)
		printf("\t{0x%x, %u, %u, 0x%x},\n", code[i].code, code[i].jt, code[i].jf, code[i].k);
	printf("};\nstatic const struct filter filter_%s = {code_%s, %d};\n", name, name, n);
	return 0;
}

static int print_all(unsigned int also)
{
	static const struct {
		const char *name;
		unsigned int who;
	} filters[] = {
		{"main", PROCESS},
		{"shares", PROCESS | CONFINE_SHARE},
		{"runtime", PROCESS | CONFINE_SHARE | CONFINE_RUNTIME},
		{"vcpu", CONFINE_VCPU},
		{"disk", CONFINE_DISK},
		{"net", CONFINE_NET},
		{"share", CONFINE_SHARE},
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
		r |= print(filters[i].name, filters[i].who | also);
	return r;
}

static void list_roles(unsigned int roles)
{
	static const char *const name[] = {"vcpu", "disk", "net", "share", "main", "runtime"};

	for (unsigned int i = 0; i < ARRAY_SIZE(name); i++)
		if (roles & 1u << i)
			printf("%s ", name[i]);
	printf("\t");
}

/* A row a line: its name, who may, under which conditions (argument:mask:value), why, whom no test makes it and
 * why not.
 */
static void list_row(const struct confine_call *c)
{
	printf("%s\t", c->name);
	list_roles(c->who);
	for (unsigned int i = 0; i < CONFINE_CONDITIONS && c->when[i].used; i++)
		printf("%u:%u:%u ", c->when[i].arg, c->when[i].mask, c->when[i].value);
	printf("\t%s\t", c->why);
	list_roles(c->rare);
	printf("%s\n", c->unmade ? c->unmade : "");
}

static int list(void)
{
	for (unsigned int i = 0; i < confine_call_count; i++)
		if (confine_calls[i].who != CONFINE_SANITIZER)
			list_row(&confine_calls[i]);
	return 0;
}

int main(int argc, char **argv)
{
	int r;

	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list();

	printf("#ifdef __SANITIZE_ADDRESS__\n");
	r = print_all(CONFINE_SANITIZER);
	printf("#else\n");
	r |= print_all(0);
	printf("#endif\n");
	return r;
}
