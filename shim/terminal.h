/* SPDX-License-Identifier: Apache-2.0
 *
 * terminal: a terminal for a container's process. Its master goes to whoever listens on the console
 * socket (SCM_RIGHTS); the other end is this process's, which moves bytes between it and the guest.
 */
#ifndef UVM_SHIM_TERMINAL_H
#define UVM_SHIM_TERMINAL_H

#include <stdint.h>

#include "vmm/err.h"

/* Makes one of that size (0: of the default), sends its master to the socket at path, and makes the
 * other end the controlling terminal of this process, which leads a session without one: that is how
 * it hears of changes of the size. Returns the descriptor, or -errno with the message set.
 */
int oci_terminal(const char *path, uint16_t rows, uint16_t cols, struct err *e);

#endif
