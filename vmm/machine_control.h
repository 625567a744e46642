/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_control: what a client of the control socket can ask of a machine, and what it is told.
 */
#ifndef UVM_VMM_MACHINE_CONTROL_H
#define UVM_VMM_MACHINE_CONTROL_H

#include "vmm/machine.h"

/* Makes the control socket in the VM's run directory and serves it on the main loop. Returns 0 or -errno. */
int machine_open_control(struct machine *m, struct err *e);

#endif
