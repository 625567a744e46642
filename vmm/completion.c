/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/completion.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/util.h"

#define NAMES "uvm ps -aq 2>/dev/null"

struct shell {
	const char *name;
	void (*print)(const struct cmd *const *commands, size_t n);
};

/* The alternatives in what stands for a value or for operands: "ls | build ROOTFS | rm KEY...".
 * Calls one for the first word of each that is in small letters. Returns whether there was one.
 */
static bool words(const char *text, void (*one)(const char *word, size_t len))
{
	bool any = false;

	for (const char *end; *text; text = end) {
		text += strspn(text, " |[");
		end = text + strcspn(text, "|");

		size_t len = strcspn(text, " |[,.:=");

		for (size_t i = 0; i < len; i++)
			if (!islower((unsigned char)text[i]) && text[i] != '-')
				len = 0;
		if (len && one)
			one(text, len);
		any |= len > 0;
	}
	return any;
}

static bool takes_name(const struct cmd *c)
{
	const char *at = strstr(c->args, "ID");

	return at && (at == c->args || at[-1] == '[');
}

static bool takes_file(const char *text)
{
	static const char *const kinds[] = {"DIR", "FILE", "IMG", "PATH", "PROGRAM", "ROOTFS"};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strstr(text, kinds[i]))
			return true;
	return false;
}

/* Text inside single quotes, with a backslash before each of the characters in special. */
static void quoted(const char *s, const char *special)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", stdout);
		else if (strchr(special, *s))
			printf("\\%c", *s);
		else
			putchar(*s);
	}
}

static void word(const char *s, size_t len)
{
	printf(" %.*s", (int)len, s);
}

/* --- bash --- */

static void bash_values(const struct cmd *c)
{
	for (const struct opt *o = c->options; o && o->name; o++) {
		if (!o->arg)
			continue;
		printf("\t'%s --%s'", c->name, o->name);
		if (o->letter)
			printf("|'%s -%c'", c->name, o->letter);
		printf(") words=\"");
		words(o->arg, word);
		printf("\" ;;\n");
	}
}

static void bash_options(const struct cmd *c)
{
	if (c->options) {
		printf("\t\t'%s -'*) words=\"", c->name);
		for (const struct opt *o = c->options; o->name; o++)
			if (o->help)
				printf(" --%s", o->name);
		printf("\" ;;\n");
	}
	printf("\t\t'%s '*) words=\"", c->name);
	words(c->args, word);
	printf("%s\" ;;\n", takes_name(c) ? " $(" NAMES ")" : "");
}

static void bash(const struct cmd *const *commands, size_t n)
{
	printf("# uvm's completion for bash, made by 'uvm completion bash'\n"
	       "_uvm()\n{\n"
	       "\tlocal words='' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tCOMPREPLY=()\n"
	       "\tcase \"${COMP_WORDS[1]} $prev\" in\n"
	       "\t\"$cur $prev\") words=\"");
	for (size_t i = 0; i < n; i++)
		printf(" %s", commands[i]->name);
	printf("\" ;;\n");
	for (size_t i = 0; i < n; i++)
		bash_values(commands[i]);
	printf("\t*)\n\t\tcase \"${COMP_WORDS[1]} $cur\" in\n");
	for (size_t i = 0; i < n; i++)
		bash_options(commands[i]);
	printf("\t\tesac ;;\n\tesac\n"
	       "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
	       "complete -o default -F _uvm uvm\n");
}

/* --- zsh --- */

static void zsh_value(const char *arg)
{
	putchar(':');
	quoted(arg, "\\:[]");
	putchar(':');
	if (takes_file(arg)) {
		printf("_files");
	} else if (words(arg, NULL)) {
		putchar('(');
		words(arg, word);
		printf(" )");
	} else {
		putchar(' '); /* says what it is, and offers nothing */
	}
}

static void zsh_command(const struct cmd *c)
{
	printf("\t%s)\n\t\t_arguments -s", c->name);
	for (const struct opt *o = c->options; o && o->name; o++) {
		const char *equals = o->arg ? "=" : "";

		if (!o->help)
			continue;
		if (o->letter)
			printf(" \\\n\t\t\t'*'{-%c,--%s%s}'[", o->letter, o->name, equals);
		else
			printf(" \\\n\t\t\t'*--%s%s[", o->name, equals);
		quoted(o->help, "\\[]");
		putchar(']');
		if (o->arg)
			zsh_value(o->arg);
		putchar('\'');
	}
	if (*c->args) {
		printf(" \\\n\t\t\t'*:");
		quoted(c->args, "\\:[]");
		printf(":_uvm_operand%s%s", takes_name(c) ? " names" : "",
		       takes_file(c->args) ? " files" : "");
		words(c->args, word);
		putchar('\'');
	}
	printf(" ;;\n");
}

static void zsh(const struct cmd *const *commands, size_t n)
{
	printf("#compdef uvm\n"
	       "# uvm's completion for zsh, made by 'uvm completion zsh'\n"
	       "_uvm_operand()\n{\n"
	       "\tlocal kind\n"
	       "\tfor kind; do\n"
	       "\t\tcase $kind in\n"
	       "\t\tnames) compadd -- ${(f)\"$(" NAMES ")\"} ;;\n"
	       "\t\tfiles) _files ;;\n"
	       "\t\t[a-z]*) compadd -- $kind ;;\n"
	       "\t\tesac\n"
	       "\tdone\n}\n\n"
	       "_uvm()\n{\n"
	       "\tlocal -a commands\n"
	       "\tcommands=(");
	for (size_t i = 0; i < n; i++) {
		printf("\n\t\t'%s:", commands[i]->name);
		quoted(commands[i]->summary, "\\:");
		putchar('\'');
	}
	printf(")\n"
	       "\tif ((CURRENT == 2)); then\n"
	       "\t\t_describe command commands\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tshift words\n"
	       "\t((CURRENT--))\n"
	       "\tcase $words[1] in\n");
	for (size_t i = 0; i < n; i++)
		zsh_command(commands[i]);
	/* Sourced, or loaded by the shell as the function's body when it is first called. */
	printf("\tesac\n}\n\n"
	       "if [ \"${funcstack[1]}\" = _uvm ]; then\n"
	       "\t_uvm \"$@\"\n"
	       "else\n"
	       "\tcompdef _uvm uvm\n"
	       "fi\n");
}

/* --- fish --- */

static void fish_command(const struct cmd *c)
{
	printf("complete -c uvm -n __fish_use_subcommand -f -a %s -d '", c->name);
	quoted(c->summary, "\\");
	printf("'\n");
	for (const struct opt *o = c->options; o && o->name; o++) {
		if (!o->help)
			continue;
		printf("complete -c uvm -n '__fish_seen_subcommand_from %s' -l %s", c->name,
		       o->name);
		if (o->letter)
			printf(" -s %c", o->letter);
		if (o->arg)
			printf(takes_file(o->arg) ? " -r" : " -x");
		if (o->arg && words(o->arg, NULL)) {
			printf(" -a '");
			words(o->arg, word);
			putchar('\'');
		}
		printf(" -d '");
		quoted(o->help, "\\");
		printf("'\n");
	}
	if (takes_name(c) || words(c->args, NULL)) {
		printf("complete -c uvm -n '__fish_seen_subcommand_from %s'%s -a '", c->name,
		       takes_file(c->args) ? "" : " -f");
		words(c->args, word);
		printf("%s'\n", takes_name(c) ? " (" NAMES ")" : "");
	}
}

static void fish(const struct cmd *const *commands, size_t n)
{
	printf("# uvm's completion for fish, made by 'uvm completion fish'\n");
	for (size_t i = 0; i < n; i++)
		fish_command(commands[i]);
}

static const struct shell shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

int completion_print(const char *shell, const struct cmd *const *commands, size_t n, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (!strcmp(shell, shells[i].name)) {
			shells[i].print(commands, n);
			return 0;
		}
	return err_set(e, EINVAL, "no completion for '%s'; there is one for bash, zsh and fish",
		       shell);
}
