/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/opt.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/rundir.h"

int opt_set_flag(void *to, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	*(bool *)to = true;
	return 0;
}

int opt_set_str(void *to, const char *value, struct err *e)
{
	if (!*value)
		return err_set(e, EINVAL, "is empty");
	*(const char **)to = value;
	return 0;
}

int opt_set_id(void *to, const char *value, struct err *e)
{
	if (!rundir_id_valid(value))
		return err_set(e, EINVAL,
			       "'%s' is not a name: 1 to %d letters, digits, '.', '_' and '-', "
			       "beginning with a letter or digit",
			       value, RUNDIR_ID_MAX);
	*(const char **)to = value;
	return 0;
}

/* A decimal number and where it ended; no sign, no blank, no overflow. */
static int parse_number(const char *text, uint64_t *value, const char **end)
{
	uint64_t v = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	*value = v;
	*end = p;
	return p == text ? -EINVAL : 0;
}

int opt_set_u32(void *to, const char *value, struct err *e)
{
	const char *end;
	uint64_t v;

	if (parse_number(value, &v, &end) || *end || v > UINT32_MAX)
		return err_set(e, EINVAL, "'%s' is not a whole number", value);
	*(uint32_t *)to = (uint32_t)v;
	return 0;
}

int opt_set_size(void *to, const char *value, struct err *e)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	uint64_t v;

	if (parse_number(value, &v, &end))
		return err_set(e, EINVAL, "'%s' is not a size (use for example 512M or 2G)", value);
	if (*end) {
		unit = strchr(units, *end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end);
		if (!unit || end[1])
			return err_set(e, EINVAL, "'%s' is not a size (use for example 512M or 2G)",
				       value);
		if (__builtin_mul_overflow(v, 1ull << (10 * (unit - units + 1)), &v))
			return err_set(e, ERANGE, "'%s' is too large", value);
	}
	*(uint64_t *)to = v;
	return 0;
}

int opt_set_duration(void *to, const char *value, struct err *e)
{
	static const struct {
		char unit;
		unsigned int seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	const char *end;
	uint64_t v;

	if (!parse_number(value, &v, &end) && (!*end || !end[1]))
		for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
			if ((*end ? *end : 's') == units[i].unit && v <= INT32_MAX) { /* seconds may be signed */
				*(uint64_t *)to = v * units[i].seconds;
				return 0;
			}
	return err_set(e, EINVAL, "'%s' is not a duration (use for example 90s, 30m, 24h or 7d)",
		       value);
}

static const struct opt *find_long(const struct opt *table, const char *name, size_t len)
{
	for (; table->name; table++)
		if (strlen(table->name) == len && !memcmp(table->name, name, len))
			return table;
	return NULL;
}

static const struct opt *find_letter(const struct opt *table, char letter)
{
	for (; table->name; table++)
		if (table->letter && table->letter == letter)
			return table;
	return NULL;
}

static int apply(const struct opt *o, void *cfg, const char *value, struct err *e)
{
	struct err why = {{0}};

	if (o->set((char *)cfg + o->offset, value, &why))
		return err_set(e, EINVAL, "--%s: %s", o->name, why.text);
	return 0;
}

/* One argument that begins with "--". Returns how many arguments it took, or -EINVAL. */
static int parse_long(const struct opt *table, void *cfg, int left, char **argv, struct err *e)
{
	const char *name = argv[0] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find_long(table, name, len);

	if (!o)
		return err_set(e, EINVAL, "unknown option '--%.*s'", (int)len, name);
	if (!o->arg) {
		if (eq)
			return err_set(e, EINVAL, "--%s takes no value", o->name);
		return apply(o, cfg, NULL, e) ? -EINVAL : 1;
	}
	if (eq)
		return apply(o, cfg, eq + 1, e) ? -EINVAL : 1;
	if (left < 2)
		return err_set(e, EINVAL, "--%s needs %s", o->name, o->arg);
	return apply(o, cfg, argv[1], e) ? -EINVAL : 2;
}

/* One argument of short options, "-it" or "-n3" or "-n 3". As parse_long. */
static int parse_short(const struct opt *table, void *cfg, int left, char **argv, struct err *e)
{
	for (const char *p = argv[0] + 1; *p; p++) {
		const struct opt *o = find_letter(table, *p);

		if (!o)
			return err_set(e, EINVAL, "unknown option '-%c'", *p);
		if (!o->arg) {
			if (apply(o, cfg, NULL, e))
				return -EINVAL;
			continue;
		}
		if (p[1])
			return apply(o, cfg, p + 1, e) ? -EINVAL : 1;
		if (left < 2)
			return err_set(e, EINVAL, "-%c needs %s", *p, o->arg);
		return apply(o, cfg, argv[1], e) ? -EINVAL : 2;
	}
	return 1;
}

int opt_parse(const struct opt *table, void *cfg, int argc, char **argv, int stop_at_operand,
	      struct err *e)
{
	int operands = 0, i = 0;

	/* Operands met so far are kept in argv[0..operands); nothing there is looked at again. */
	while (i < argc) {
		int took;

		if (argv[i][0] != '-' || !argv[i][1]) {
			if (stop_at_operand)
				return i;
			argv[operands++] = argv[i++];
			continue;
		}
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		took = argv[i][1] == '-' ? parse_long(table, cfg, argc - i, argv + i, e)
					 : parse_short(table, cfg, argc - i, argv + i, e);
		if (took < 0)
			return took;
		i += took;
	}
	/* Move the operands up against those that follow "--" (or the end). */
	for (int k = operands; k > 0; k--)
		argv[i - operands + k - 1] = argv[k - 1];
	return i - operands;
}

static int unknown_word(const struct opt_word *word, size_t n, const char *text, struct err *e)
{
	char names[256] = "";
	size_t len = 0;

	for (size_t i = 0; i < n && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", i ? ", " : "",
					word[i].name);
	return err_set(e, EINVAL, "'%s' is none of %s", text, names);
}

int opt_words(const struct opt_word *word, size_t n, void *to, char *list, struct err *e)
{
	int r = 0;

	while (list && !r) {
		char *next = opt_cut(list);
		size_t i = 0, len = 0;

		for (; i < n; i++) {
			len = strlen(word[i].name);
			if (word[i].name[len - 1] == '=' ? !strncmp(list, word[i].name, len)
							 : !strcmp(list, word[i].name))
				break;
		}
		r = i < n ? word[i].set(to, list + len, e) : unknown_word(word, n, list, e);
		list = next;
	}
	return r;
}

char *opt_cut(const char *value)
{
	char *comma = strchr(value, ',');

	if (!comma)
		return NULL;
	*comma = 0;
	return comma + 1;
}

int opt_on_off(bool *on, const char *value, struct err *e)
{
	*on = !strcmp(value, "on");
	return *on || !strcmp(value, "off")
		       ? 0
		       : err_set(e, EINVAL, "'on' or 'off', please, and not '%s'", value);
}

void opt_help(const struct opt *table, FILE *out)
{
	for (; table->name; table++) {
		char left[48], letter[5] = "";

		if (!table->help)
			continue;
		if (table->letter)
			snprintf(letter, sizeof(letter), "-%c, ", table->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, table->name,
			 table->arg ? " " : "", table->arg ? table->arg : "");
		fprintf(out, "  %-30s %s\n", left, table->help);
	}
}
