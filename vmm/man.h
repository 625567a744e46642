/* SPDX-License-Identifier: Apache-2.0
 *
 * man: the manual pages of section 1, from the same tables that parse the command line and print the
 * help, so that they cannot say anything else: uvm(1), one page for each command, and uvm-oci(1) for the
 * OCI runtime's. "make" writes them to build/man/, "make install" installs them. Pages of file formats are
 * files in docs/man/.
 */
#ifndef UVM_VMM_MAN_H
#define UVM_VMM_MAN_H

/* Prints the page of a command in man(7)'s macros to standard output: "clone" or "uvm-clone"; "" or "uvm"
 * for the overview. Returns 0, or -ENOENT if there is none.
 */
int man_print(const char *page);

/* Prints the names of all pages, a line each. */
void man_list(void);

#endif
