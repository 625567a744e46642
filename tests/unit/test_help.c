/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands' examples: each command has one, and what it says can be parsed as it stands.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/cli.h"
#include "tests/unit/util.h"
#include "vmm/commands.h"
#include "vmm/opt.h"

#define WORDS 32

static const struct opt no_options[] = {{0}};

/* The words of a command in a shell's line, up to what ends it (';', '|', '>' or the line), which are cut
 * in place. *rest is what follows. Quotes are not in examples.
 */
static int words(char *line, char *word[WORDS], char **rest)
{
	int n = 0;

	*rest = NULL;
	for (char *p = line; *p;) {
		p += strspn(p, " ");
		if (*p == '|' || *p == ';' || *p == '>') {
			*rest = p + 1;
			break;
		}
		if (!*p)
			break;
		ck_assert_int_lt(n, WORDS - 1);
		word[n++] = p;
		p += strcspn(p, " ;");
		if (*p == ';') {
			*p = 0;
			*rest = p + 1;
			break;
		}
		if (*p)
			*p++ = 0;
	}
	word[n] = NULL;
	return n;
}

static void parse(const struct cmd *c, int argc, char **argv)
{
	void *cfg = calloc(1, c->cfg_size + 1);
	struct err e = {{0}};
	int first;

	if (c->defaults)
		c->defaults(cfg);
	first = opt_parse(c->options ? c->options : no_options, cfg, argc, argv, c->stop_at_operand, &e);
	ck_assert_msg(first >= 0, "an example of %s: %s", c->name, e.text);
	free(cfg);
}

/* Returns whether the command itself is in the line. */
static bool try_line(const struct cmd *c, char *line)
{
	char *word[WORDS], *rest = line;
	bool found = false;

	while (rest) {
		int n = words(rest, word, &rest);

		if (!n || strcmp(word[0], "uvm"))
			continue;
		ck_assert_int_ge(n, 2);
		ck_assert_msg(command_find(word[1]) != NULL, "no command %s", word[1]);
		if (!strcmp(word[1], c->name)) {
			parse(c, n - 2, word + 2);
			found = true;
		}
	}
	return found;
}

static void try_command(const struct cmd *c)
{
	char *text, *line, *next;

	ck_assert_msg(c->examples != NULL, "%s has no example", c->name);
	ck_assert_msg(c->examples[strlen(c->examples) - 1] == '\n', "%s: the last line has no end", c->name);
	text = strdup(c->examples);
	for (line = text; *line; line = next) {
		next = strchr(line, '\n');
		*next++ = 0;
		ck_assert_msg(strlen(line) <= 100, "%s: too long: %s", c->name, line);
		ck_assert_msg(try_line(c, line), "an example of %s is of another command: %s", c->name, line);
	}
	free(text);
}

START_TEST(every_command_has_examples)
{
	for (size_t i = 0; i < commands_count; i++)
		try_command(commands[i]);
	for (size_t i = 0; i < shim_commands_count; i++)
		try_command(shim_commands[i]);
}
END_TEST

/* The table is long, and a name is found by the first. */
START_TEST(every_command_is_there_once)
{
	for (size_t i = 0; i < commands_count; i++) {
		ck_assert_ptr_eq(command_find(commands[i]->name), commands[i]);
		ck_assert(commands[i]->run && *commands[i]->summary);
	}
	ck_assert_ptr_null(command_find("such"));
}
END_TEST

/* --- one option, one meaning --- */

/* What is not the same everywhere, and why. docs/commands.md says the same to users. */
static struct exception {
	const char *what; /* an option's name, or a letter */
	const char *why;
	bool met;
} exceptions[] = {
	{"a", "all, and cp's archive, as docker has them", false},
	{"f", "follow and force, as docker has them", false},
	{"n", "logs' tail, as docker has it, and a number of clones", false},
	{"t", "tty, and the time of stop, as docker has them", false},
	{"cpus", "vCPUs of a VM; of a running one, update's, their time", false},
	{"output", "a snapshot is a directory, a dump a file", false},
};

static bool excepted(const char *what)
{
	for (size_t i = 0; i < ARRAY_SIZE(exceptions); i++)
		if (!strcmp(exceptions[i].what, what))
			return exceptions[i].met = true;
	return false;
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* Two options of one name are written alike; a letter stands for one name. */
static void compare(const struct cmd *c, const struct opt *o, const struct cmd *d, const struct opt *p)
{
	char letter[] = {o->letter, 0};

	if (!strcmp(o->name, p->name) && (o->letter != p->letter || !same(o->arg, p->arg)))
		ck_assert_msg(excepted(o->name), "--%s is '-%c %s' of %s, and '-%c %s' of %s", o->name,
			      o->letter ? o->letter : '?', o->arg ? o->arg : "", c->name,
			      p->letter ? p->letter : '?', p->arg ? p->arg : "", d->name);
	if (o->letter && o->letter == p->letter && strcmp(o->name, p->name))
		ck_assert_msg(excepted(letter), "-%c is --%s of %s, and --%s of %s", o->letter, o->name,
			      c->name, p->name, d->name);
}

START_TEST(one_option_has_one_meaning)
{
	for (size_t i = 0; i < commands_count; i++)
		for (size_t k = 0; k < i; k++)
			for (const struct opt *o = commands[i]->options; o && o->name; o++)
				for (const struct opt *p = commands[k]->options; p && p->name; p++)
					compare(commands[i], o, commands[k], p);
	for (size_t i = 0; i < ARRAY_SIZE(exceptions); i++)
		ck_assert_msg(exceptions[i].met, "%s is no exception any more", exceptions[i].what);
}
END_TEST

/* What help does not show is a second spelling: it sets what an option beside it sets. */
START_TEST(older_spellings_are_of_something)
{
	for (size_t i = 0; i < commands_count; i++)
		for (const struct opt *o = commands[i]->options; o && o->name; o++)
			if (!o->help) {
				ck_assert(o > commands[i]->options && o[-1].help && !o->letter);
				ck_assert(o->set == o[-1].set && o->offset == o[-1].offset);
				ck_assert(same(o->arg, o[-1].arg));
			}
}
END_TEST

/* docs/commands.md has a line for each command, and names each option. */
START_TEST(the_table_has_all)
{
	static char text[65536];
	FILE *f = fopen("docs/commands.md", "re");

	ck_assert_msg(f != NULL, "run from the repository's root");
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	for (size_t i = 0; i < commands_count; i++) {
		char row[64];

		snprintf(row, sizeof(row), "\n| `%s", commands[i]->name);
		ck_assert_msg(strstr(text, row) != NULL, "docs/commands.md has no line for %s", commands[i]->name);
		for (const struct opt *o = commands[i]->options; o && o->name; o++) {
			if (!o->help)
				continue;
			snprintf(row, sizeof(row), "--%s`", o->name);
			ck_assert_msg(strstr(text, row) != NULL, "docs/commands.md does not name --%s of %s",
				      o->name, commands[i]->name);
		}
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {every_command_has_examples, every_command_is_there_once,
				      one_option_has_one_meaning, older_spellings_are_of_something,
				      the_table_has_all};

	return run_tests("help", tests, ARRAY_SIZE(tests), NULL, NULL);
}
