/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands share. Not in main.c, so that tests of commands can be linked without it.
 */
#include "vmm/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void cmd_time(int64_t seconds, char text[CMD_TIME])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(text, CMD_TIME, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(text, "?");
}

int cmd_drop_dashes(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--")) {
		memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof(*argv));
		argc--;
	}
	argv[argc] = NULL;
	return argc;
}

int cmd_env(const char *text, const char **both, struct err *e)
{
	const char *value;
	char *made;

	*both = text;
	if (!*text || *text == '=')
		return err_set(e, EINVAL, "'%s' is neither NAME=VALUE nor the NAME of a variable of ours", text);
	if (strchr(text, '='))
		return 0;
	*both = NULL;
	value = getenv(text);
	if (!value)
		return 0;
	if (asprintf(&made, "%s=%s", text, value) < 0)
		return err_set(e, ENOMEM, "out of memory");
	*both = made;
	return 0;
}

int cmd_usage(const struct cmd *c, struct err *e)
{
	err_set(e, 0, "usage: uvm %s%s%s%s; see 'uvm help %s'", c->name,
		c->options ? " [OPTIONS]" : "", *c->args ? " " : "", c->args, c->name);
	return EXIT_USAGE;
}
