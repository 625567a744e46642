/* SPDX-License-Identifier: Apache-2.0
 *
 * A command line: which command, then its arguments, each ended by a zero.
 */
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/cmd.h"
#include "vmm/util.h"

#define ARGS 64

#pragma weak __lsan_disable /* builds without the sanitizer replay the corpus, too */
#pragma weak __lsan_enable

static const struct cmd *const commands[] = {
	&cmd_boot,  &cmd_check, &cmd_clone,  &cmd_console, &cmd_exec,	  &cmd_fork,	 &cmd_image,
	&cmd_inspect, &cmd_kill, &cmd_logs,  &cmd_metrics, &cmd_pause,	  &cmd_ps,	 &cmd_resume,
	&cmd_rm,    &cmd_run,	&cmd_snapshot, &cmd_stats, &cmd_stop,	  &cmd_template, &cmd_wait};

static const struct opt no_options[] = {{0}};

/* Every argument is somewhere, once: in front those that were options, behind them the operands. */
static void check_operands(int first, int argc, char *const *argv, char *const *given)
{
	for (int i = first; i < argc; i++) {
		int found = 0;

		for (int k = 0; k < argc; k++)
			found += given[k] == argv[i];
		for (int k = i + 1; k < argc; k++)
			found += argv[k] == argv[i];
		if (found != 1)
			abort();
	}
}

void fuzz_options(const uint8_t *data, size_t len)
{
	const struct cmd *c = commands[len ? data[0] % ARRAY_SIZE(commands) : 0];
	char *argv[ARGS], *given[ARGS], *text = malloc(len + 1);
	void *cfg = calloc(1, c->cfg_size + 1);
	struct err e = {{0}};
	int argc = 0, first;

	if (!text || !cfg)
		abort();
	memcpy(text, data, len);
	text[len] = 0;
	for (char *p = text + 1; p < text + len && argc < ARGS; p += strlen(p) + 1)
		given[argc] = argv[argc] = p, argc++;
	if (c->defaults)
		c->defaults(cfg);
	if (__lsan_disable)
		__lsan_disable(); /* what a command was told is the process's, to its end */
	first = opt_parse(c->options ? c->options : no_options, cfg, argc, argv, c->stop_at_operand,
			  &e);
	if (__lsan_enable)
		__lsan_enable();
	if (first > argc || (first < 0 && !*e.text))
		abort();
	if (first >= 0)
		check_operands(first, argc, argv, given);
	free(cfg);
	free(text);
}
