/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_state: a machine's state as the sections of a snapshot's state file: one walk over its
 * parts, in the order in which they can be put back.
 *
 * vCPUs first, since a pending interrupt of the IOAPIC goes to a local APIC that must be there; then
 * the clock and the interrupt controllers; devices last, whose interrupts may be raised again.
 */
#ifndef UVM_VMM_MACHINE_STATE_H
#define UVM_VMM_MACHINE_STATE_H

#include "vmm/machine.h"

/* Takes the state of a machine that stands still (machine_pause) into w, which state_begin began. */
int machine_save(struct machine *m, struct state_writer *w, struct err *e);

/* What the machine was, before there is one: memory, CPUs, disks go into cfg, whose nets may be fewer
 * and say what the first of the machine's devices are connected to.
 */
int machine_load_config(const struct state_reader *r, struct machine_config *cfg, struct err *e);

/* Makes the vCPUs of a machine whose VM and devices exist, and puts everything in that state. check:
 * also whether this host can run it.
 */
int machine_load(struct machine *m, const struct state_reader *r, bool check, struct err *e);

/* Sets what has gone on by itself since machine_load, with the same reader: the guest's time and timers. Before it
 * runs for the first time. Returns 0 or -errno.
 */
int machine_load_clocks(struct machine *m, const struct state_reader *r, struct err *e);

extern const struct state_table machine_table;

#endif
