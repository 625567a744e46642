/* SPDX-License-Identifier: Apache-2.0
 *
 * completion: what a shell needs to complete uvm's command lines, from the same tables that parse them.
 * A value or an operand is a file, the name of a container or VM, or one of the words that its help
 * names: an operand "ID" is a name, what is in small letters is to be typed as it is ("ls | build
 * ROOTFS", "host|baseline"), all else is left to the shell's own completion of files.
 */
#ifndef UVM_VMM_COMPLETION_H
#define UVM_VMM_COMPLETION_H

#include <stddef.h>

#include "vmm/cmd.h"

/* Prints the script for "bash", "zsh" or "fish" to standard output. Returns 0, or -EINVAL with the
 * message set for another shell.
 */
int completion_print(const char *shell, const struct cmd *const *commands, size_t n, struct err *e);

#endif
