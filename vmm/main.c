/* SPDX-License-Identifier: Apache-2.0
 *
 * The one place that dispatches commands, prints messages and decides the exit status.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "shim/cli.h"
#include "shim/config.h"
#include "vmm/cmd.h"
#include "vmm/commands.h"
#include "vmm/completion.h"
#include "vmm/help.h"
#include "vmm/log.h"
#include "vmm/man.h"
#include "vmm/util.h"

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

#define DESCRIPTORS 8192

static const struct opt no_options[] = {{0}};

static int run(const struct cmd *c, int argc, char **argv, struct err *e)
{
	void *cfg = calloc(1, c->cfg_size ? c->cfg_size : 1);
	int first, status;

	if (!cfg) {
		err_set(e, 0, "out of memory");
		return EXIT_FAIL;
	}
	if (c->defaults)
		c->defaults(cfg);
	first = opt_parse(c->options ? c->options : no_options, cfg, argc, argv, c->stop_at_operand,
			  e);
	if (first < 0) {
		err_append(e, "; see 'uvm help %s'", c->name);
		status = c->usage_status ? c->usage_status : EXIT_USAGE;
	} else {
		status = c->run(cfg, argc - first, argv + first, e);
	}
	free(cfg);
	return status;
}

/* "uvm help --man [COMMAND|oci|--list]" */
static int man(int argc, char **argv, struct err *e)
{
	const char *page = argc == 4 ? argv[3] : "";

	if (argc <= 4 && !strcmp(page, "--list"))
		man_list();
	else if (argc > 4 || man_print(page)) {
		err_set(e, 0, "no manual page '%s'; 'uvm help --man --list' lists them", page);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int help(int argc, char **argv, struct err *e)
{
	const struct cmd *c = argc > 2 ? command_find(argv[2]) : NULL;

	if (argc > 2 && !strcmp(argv[2], "--man"))
		return man(argc, argv, e);
	if (argc > 2 && !c) {
		err_set(e, 0, "no command '%s'; 'uvm help' lists them", argv[2]);
		return EXIT_USAGE;
	}
	if (c)
		help_command(c);
	else
		help_usage(stdout);
	return EXIT_OK;
}

static int completion(int argc, char **argv, struct err *e)
{
	if (argc != 3) {
		err_set(e, 0, "usage: uvm completion bash|zsh|fish");
		return EXIT_USAGE;
	}
	return completion_print(argv[2], commands, commands_count, e) ? EXIT_USAGE : EXIT_OK;
}

/* --- what may stand in front of a command --- */

struct front {
	const char *level, *format;
};

static const struct opt front_options[] = {
	{"log-level", 0, "LEVEL", "", opt_set_str, offsetof(struct front, level)},
	{"log-format", 0, "FORMAT", "", opt_set_str, offsetof(struct front, format)},
	{0},
};

static bool is_front(const char *arg)
{
	size_t n = strcspn(arg, "=");

	return (n == 11 && !strncmp(arg, "--log-level", n)) || (n == 12 && !strncmp(arg, "--log-format", n));
}

/* Takes them out of argv. The command line of an OCI runtime may begin with --log-format, too, which is the
 * form of its --log: where another option follows, all are the runtime's. Returns 0 or -EINVAL.
 */
static int take_front(int *argc, char **argv, struct err *e)
{
	struct front f = {getenv("UVM_LOG_LEVEL"), getenv("UVM_LOG_FORMAT")};
	int n = 1, r;

	while (n < *argc && is_front(argv[n]))
		n = MIN(n + 1 + !strchr(argv[n], '='), *argc);
	if (n < *argc && argv[n][0] == '-')
		n = 1;
	r = opt_parse(front_options, &f, n - 1, argv + 1, false, e);
	if (r < 0)
		return r;
	memmove(argv + 1, argv + n, (size_t)(*argc - n) * sizeof(*argv));
	*argc -= n - 1;
	argv[*argc] = NULL;
	r = log_set_level(f.level, e);
	return r ? r : log_set_format(f.format, e);
}

/* What other tools call a command of ours. */
static int no_command(const char *name, struct err *e)
{
	static const struct {
		const char *name, *ours;
	} others[] = {{"images", "image ls"}, {"rmi", "image rm"},	   {"import", "image build"}, {"unpause", "resume"},
		      {"info", "check"},      {"checkpoint", "snapshot"}, {"commit", "snapshot"},    {"shell", "exec"}};

	err_set(e, 0, "no command '%s'; 'uvm help' lists them", name);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!strcmp(name, others[i].name))
			err_set(e, 0, "no command '%s'; here it is 'uvm %s'", name, others[i].ours);
	return EXIT_USAGE;
}

static int dispatch(int argc, char **argv, struct err *e)
{
	const struct cmd *c;

	if (argc < 2) {
		help_usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(argc, argv, e);
	if (!strcmp(argv[1], "completion"))
		return completion(argc, argv, e);
	if (!strcmp(argv[1], "--version")) {
		printf("uvm version %s\nspec: " OCI_VERSION "\n", UVM_VERSION);
		return EXIT_OK;
	}
	if (shim_wanted(argc, argv))
		return shim_run(argc, argv, e);
	c = command_find(argv[1]);
	if (!c)
		return no_command(argv[1], e);
	if (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
		help_command(c);
		return EXIT_OK;
	}
	return run(c, argc - 2, argv + 2, e);
}

/* A VM may have many streams, each a descriptor; the usual soft limit of 1024 is for programs that
 * use select(2).
 */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)DESCRIPTORS);
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
	struct err e = {{0}};
	int status;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* what a guest writes beyond the limit of file sizes fails, and is no end */
	raise_descriptor_limit();
	status = take_front(&argc, argv, &e) ? EXIT_USAGE : dispatch(argc, argv, &e);
	if (*e.text)
		log_write(LOG_ERROR, "%s", e.text);
	/* A full buffer or a line may have been written, and lost, before. */
	if ((fflush(stdout) || ferror(stdout)) && !status) {
		log_write(LOG_ERROR, "cannot write to standard output");
		status = EXIT_FAIL;
	}
	return status;
}
