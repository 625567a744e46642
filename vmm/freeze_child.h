/* SPDX-License-Identifier: Apache-2.0
 *
 * freeze_child: what the processes do that a VM at a standstill makes of itself (vmm/freeze.h).
 */
#ifndef UVM_VMM_FREEZE_CHILD_H
#define UVM_VMM_FREEZE_CHILD_H

#include "vmm/freeze.h"

/* Whether the guest has an agent to be told: ours, or one that came with an initrd and has said HELLO. */
bool freeze_agent(const struct machine *m);

/* Writes the snapshot, of which disk has the disks, and gives it its name. What is to be said goes to fd, as
 * lines: "progress DONE ALL", then "ok" or "error TEXT".
 */
_Noreturn void freeze_save(struct freeze *f, struct snapshot_disk *disk, int fd);

/* Becomes a fork. Says "id NAME" when it lives, or "error TEXT"; ends if it is not told then, by a byte, that
 * it may stay.
 */
_Noreturn void freeze_live_on(struct freeze *f, int fd);

#endif
