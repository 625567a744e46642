/* SPDX-License-Identifier: Apache-2.0
 *
 * pause and resume: whether the CPUs of VMs run.
 */
#include <stdio.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/util.h"

struct pause_config {
	bool json;
};

static const struct opt options[] = {
	{"json", 0, NULL, "print a JSON array of what was done", opt_set_flag,
	 offsetof(struct pause_config, json)},
	{0},
};

static int request_one(const char *id, const char *request, struct err *e)
{
	char answer[CONTROL_ANSWER];
	struct rundir vm;
	int fd, r = rundir_open(&vm, id, e);

	if (r)
		return r;
	fd = r = client_control(&vm, e);
	rundir_close(&vm);
	if (fd < 0)
		return r;
	r = client_request(fd, request, answer, sizeof(answer), e);
	close(fd);
	return r;
}

/* Those before one that fails are told of as done. state: what they are then. */
static int request_each(const struct cmd *cmd, const struct pause_config *c, const char *state, int argc,
			char **argv, struct err *e)
{
	struct json_writer w = {.out = stdout};
	int r = 0;

	if (!argc)
		return cmd_usage(cmd, e);
	if (c->json)
		json_put_open(&w, NULL, '[');
	for (int i = 0; i < argc && !r; i++) {
		r = request_one(argv[i], cmd->name, e);
		if (r || !c->json)
			continue;
		json_put_open(&w, NULL, '{');
		json_put_string(&w, "id", argv[i]);
		json_put_string(&w, "state", state);
		json_put_close(&w);
	}
	if (c->json) {
		json_put_close(&w);
		putchar('\n');
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_pause(void *cfg, int argc, char **argv, struct err *e)
{
	return request_each(&cmd_pause, cfg, "paused", argc, argv, e);
}

const struct cmd cmd_pause = {
	.name = "pause",
	.args = "ID...",
	.summary = "Stop the CPUs of a VM, until 'uvm resume'",
	.options = options,
	.notes = "The guest keeps its memory and connections; its clocks go on with the host's, so "
		 "it\n"
		 "sees a leap afterwards. What speaks to it waits, or gives up.\n",
	.examples = "uvm pause web\n",
	.run = run_pause,
	.cfg_size = sizeof(struct pause_config),
};

static int run_resume(void *cfg, int argc, char **argv, struct err *e)
{
	return request_each(&cmd_resume, cfg, "running", argc, argv, e);
}

const struct cmd cmd_resume = {
	.name = "resume",
	.args = "ID...",
	.summary = "Let a paused VM go on",
	.options = options,
	.examples = "uvm resume web\n",
	.run = run_resume,
	.cfg_size = sizeof(struct pause_config),
};
