/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/commands.h"

#include <string.h>

#include "shim/cli.h"
#include "vmm/util.h"

const struct cmd *const commands[] = {
	&cmd_run,    &cmd_exec,	    &cmd_ps,	&cmd_logs,    &cmd_stop,    &cmd_kill,
	&cmd_wait,   &cmd_cp,	    &cmd_diff,	&cmd_top,     &cmd_pause,   &cmd_resume,
	&cmd_update, &cmd_inspect,  &cmd_stats, &cmd_metrics, &cmd_events,  &cmd_rm,
	&cmd_image,  &cmd_template, &cmd_pool,   &cmd_check, &cmd_boot,    &cmd_console, &cmd_snapshot,
	&cmd_clone,  &cmd_fork,	    &cmd_trace, &cmd_dump,    &cmd_attach,  &cmd_detach,
	&cmd_version,
};
const size_t commands_count = ARRAY_SIZE(commands);

const struct cmd *command_find(const char *name)
{
	for (size_t i = 0; i < commands_count; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	for (size_t i = 0; i < shim_commands_count; i++)
		if (!strcmp(shim_commands[i]->name, name))
			return shim_commands[i];
	return NULL;
}
