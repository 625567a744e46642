/* SPDX-License-Identifier: Apache-2.0
 *
 * man: the manual page, from the same tables that parse the command line and print the help, so that
 * it cannot say anything else. "make" writes it to build/uvm.1, "make install" installs it.
 */
#ifndef UVM_VMM_MAN_H
#define UVM_VMM_MAN_H

#include <stddef.h>

#include "vmm/cmd.h"

/* Prints uvm(1) in man(7)'s macros to standard output. */
void man_print(const struct cmd *const *commands, size_t n);

#endif
