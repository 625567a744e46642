/* SPDX-License-Identifier: Apache-2.0
 *
 * The one place that dispatches commands, prints messages and decides the exit status.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "shim/cli.h"
#include "shim/config.h"
#include "vmm/cmd.h"
#include "vmm/completion.h"
#include "vmm/man.h"
#include "vmm/util.h"

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

static const struct cmd *const commands[] = {
	&cmd_run,    &cmd_exec,	    &cmd_ps,	&cmd_logs,    &cmd_stop,    &cmd_kill,
	&cmd_wait,   &cmd_cp,	    &cmd_diff,	&cmd_top,     &cmd_pause,   &cmd_resume,
	&cmd_update, &cmd_inspect,  &cmd_stats, &cmd_metrics, &cmd_events,  &cmd_rm,
	&cmd_image,  &cmd_template, &cmd_pool, &cmd_check, &cmd_boot,    &cmd_console, &cmd_snapshot,
	&cmd_clone,  &cmd_fork,	    &cmd_trace, &cmd_dump,
	&cmd_attach, &cmd_detach,
};

#define DESCRIPTORS  8192
#define COMMANDS_MAX 64

static const struct opt no_options[] = {{0}};

static void print_usage(FILE *out)
{
	fprintf(out,
		"usage: uvm COMMAND [OPTIONS] [ARGUMENTS]\n\n"
		"A micro-VM monitor: boots Linux in a VM of its own and runs commands in it.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nAs an OCI runtime, for podman, containerd and docker:\n ");
	for (size_t i = 0; i < shim_commands_count; i++)
		fprintf(out, " %s", shim_commands[i]->name);
	fprintf(out, "\n\n'uvm help COMMAND' tells more about each; 'uvm --version' the version.\n"
		     "'uvm completion bash|zsh|fish' prints what the shell completes uvm's "
		     "commands with.\n");
}

static void print_help(const struct cmd *c)
{
	printf("usage: uvm %s%s%s%s\n\n%s.\n", c->name, c->options ? " [OPTIONS]" : "",
	       *c->args ? " " : "", c->args, c->summary);
	if (c->options) {
		printf("\noptions:\n");
		opt_help(c->options, stdout);
	}
	if (c->notes)
		printf("\n%s", c->notes);
}

static const struct cmd *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	for (size_t i = 0; i < shim_commands_count; i++)
		if (!strcmp(shim_commands[i]->name, name))
			return shim_commands[i];
	return NULL;
}

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
	if (first < 0)
		status = c->usage_status ? c->usage_status : EXIT_USAGE;
	else
		status = c->run(cfg, argc - first, argv + first, e);
	free(cfg);
	return status;
}

static void print_man(void)
{
	const struct cmd *all[COMMANDS_MAX];
	size_t n = ARRAY_SIZE(commands);

	memcpy(all, commands, sizeof(commands));
	for (size_t i = 0; i < shim_commands_count && n < COMMANDS_MAX; i++)
		all[n++] = shim_commands[i];
	man_print(all, n);
}

static int help(int argc, char **argv, struct err *e)
{
	const struct cmd *c = argc > 2 ? find(argv[2]) : NULL;

	if (argc == 3 && !strcmp(argv[2], "--man")) {
		print_man();
		return EXIT_OK;
	}
	if (argc > 2 && !c) {
		err_set(e, 0, "no command '%s'; 'uvm help' lists them", argv[2]);
		return EXIT_USAGE;
	}
	if (c)
		print_help(c);
	else
		print_usage(stdout);
	return EXIT_OK;
}

static int completion(int argc, char **argv, struct err *e)
{
	if (argc != 3) {
		err_set(e, 0, "usage: uvm completion bash|zsh|fish");
		return EXIT_USAGE;
	}
	return completion_print(argv[2], commands, ARRAY_SIZE(commands), e) ? EXIT_USAGE : EXIT_OK;
}

static int dispatch(int argc, char **argv, struct err *e)
{
	const struct cmd *c;

	if (argc < 2) {
		print_usage(stderr);
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
	c = find(argv[1]);
	if (!c) {
		err_set(e, 0, "no command '%s'; 'uvm help' lists them", argv[1]);
		return EXIT_USAGE;
	}
	if (argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
		print_help(c);
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
	status = dispatch(argc, argv, &e);
	if (*e.text)
		fprintf(stderr, "uvm: %s\n", e.text);
	/* A full buffer or a line may have been written, and lost, before. */
	if ((fflush(stdout) || ferror(stdout)) && !status) {
		fputs("uvm: cannot write to standard output\n", stderr);
		status = EXIT_FAIL;
	}
	return status;
}
