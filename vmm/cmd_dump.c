/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm dump: what a guest and its agent are doing, for people who look for what is wrong in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/util.h"

struct dump_config {
	const char *output;
};

static const struct opt dump_options[] = {
	{"output", 'o', "FILE", "write it to a file, byte by byte as the guest says it", opt_set_str,
	 offsetof(struct dump_config, output)},
	{0},
};

/* agent_dump has filled what it says it has. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-use-of-uninitialized-value"
/* All of it is the guest's: nothing may reach a terminal that this takes for an order. */
static int print(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f && c != '\\'))
			putchar(c);
		else
			printf("\\x%02x", c);
	}
	return fflush(stdout) ? -errno : 0;
}
#pragma GCC diagnostic pop

/* Over what is there; a link is followed, as the shell's > does. */
static int save(const char *path, const char *text, size_t len, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r;

	if (fd < 0)
		return err_sys(e, "%s", path);
	r = write_all(fd, text, len);
	if (close(fd) && !r)
		r = -errno;
	return r ? err_set(e, -r, "%s: cannot write", path) : 0;
}

static int run_dump(void *cfg, int argc, char **argv, struct err *e)
{
	const struct dump_config *c = cfg;
	char *text = malloc(AGENT_DUMP_MAX);
	struct rundir vm;
	int n, r;

	if (!text) {
		err_set(e, ENOMEM, "out of memory");
		return EXIT_FAIL;
	}
	if (argc != 1) {
		free(text);
		return cmd_usage(&cmd_dump, e);
	}
	n = rundir_open(&vm, argv[0], e);
	if (!n) {
		n = agent_dump(client_dial_agent, &vm, text, e);
		rundir_close(&vm);
	}
	r = n < 0 ? n : c->output ? save(c->output, text, (size_t)n, e) : print(text, (size_t)n);
	free(text);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_dump = {
	.name = "dump",
	.args = "ID",
	.summary = "Tell what a VM's guest and its agent are doing",
	.options = dump_options,
	.notes = "The agent's containers, sessions and connections, the guest's memory, its processes, and\n"
		 "the kernel's last messages: at most 56 KiB of text, for people and not for programs.\n"
		 "Without --output, what a terminal could take for an order is written as \\xNN.\n",
	.examples = "uvm dump web\n"
		    "uvm dump -o web.txt web\n",
	.run = run_dump,
	.cfg_size = sizeof(struct dump_config),
};
