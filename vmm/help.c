/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/help.h"

#include <string.h>

#include "shim/cli.h"
#include "vmm/commands.h"
#include "vmm/opt.h"

void help_usage(FILE *out)
{
	fprintf(out,
		"usage: uvm COMMAND [OPTIONS] [ARGUMENTS]\n\n"
		"A micro-VM monitor: boots Linux in a VM of its own and runs commands in it.\n\n");
	for (size_t i = 0; i < commands_count; i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nAs an OCI runtime, for podman, containerd and docker:\n ");
	for (size_t i = 0; i < shim_commands_count; i++)
		fprintf(out, " %s", shim_commands[i]->name);
	fprintf(out, "\n\n'uvm help COMMAND' tells more about each; 'uvm version' what it is made of.\n"
		     "'uvm --log-level debug COMMAND' tells what it does; '--log-format json' for programs.\n"
		     "'uvm completion bash|zsh|fish' prints what the shell completes uvm's "
		     "commands with.\n");
}

void help_command(const struct cmd *c)
{
	printf("usage: uvm %s%s%s%s\n\n%s.\n", c->name, c->options ? " [OPTIONS]" : "",
	       *c->args ? " " : "", c->args, c->summary);
	if (c->options) {
		printf("\noptions:\n");
		opt_help(c->options, stdout);
	}
	if (c->notes)
		printf("\n%s", c->notes);
	for (const char *line = c->examples, *end; line && *line; line = end + 1) {
		end = strchr(line, '\n');
		printf("%s  %.*s\n", line == c->examples ? "\nexamples:\n" : "", (int)(end - line), line);
	}
}
