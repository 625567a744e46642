/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands' examples: each command has one, and what it says can be parsed as it stands.
 */
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

int main(void)
{
	const TTest *const tests[] = {every_command_has_examples, every_command_is_there_once};

	return run_tests("help", tests, ARRAY_SIZE(tests), NULL, NULL);
}
