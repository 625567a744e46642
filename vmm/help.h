/* SPDX-License-Identifier: Apache-2.0
 *
 * help: what uvm says of itself on a terminal, from the tables that parse the command line.
 */
#ifndef UVM_VMM_HELP_H
#define UVM_VMM_HELP_H

#include <stdio.h>

#include "vmm/cmd.h"

/* What commands there are. */
void help_usage(FILE *out);

/* A command's options, notes and examples, on standard output. */
void help_command(const struct cmd *c);

#endif
