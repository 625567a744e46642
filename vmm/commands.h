/* SPDX-License-Identifier: Apache-2.0
 *
 * commands: the table of the subcommands, in the order of the usage: what dispatches them, and what help,
 * manual pages and completion are made of. Those of the OCI runtime are in shim/cli.h.
 */
#ifndef UVM_VMM_COMMANDS_H
#define UVM_VMM_COMMANDS_H

#include <stddef.h>

#include "vmm/cmd.h"

extern const struct cmd *const commands[];
extern const size_t commands_count;

/* The command of this name, the OCI runtime's last; or NULL. */
const struct cmd *command_find(const char *name);

#endif
