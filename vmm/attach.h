/* SPDX-License-Identifier: Apache-2.0
 *
 * attach: disks and networks that come to a running VM, and go again.
 *
 * Theory of operation. A VM has a few virtio-mmio slots that its guest was told of and that are empty
 * (devices/virtio_slot.h). Attaching makes a device, which a client's descriptor is behind, and puts it
 * into one of these while every vCPU stands still; whoever speaks to the guest's agent has its driver look
 * there then. Detaching is the reverse: the driver is told first and resets the device, and no device is
 * taken out before. So a guest that does not let go keeps what it has, and can do no more than that.
 *
 * The monitor opens no file for this. The client does, with its own rights, and sends the descriptor.
 */
#ifndef UVM_VMM_ATTACH_H
#define UVM_VMM_ATTACH_H

#include "vmm/machine.h"

/* Attaches what text says, "disk IMG[,...]" or "net KIND[,...]" as the options of boot have it, and fd is
 * (which is taken over, also after a failure). Writes the lines "slot N" and "serial TEXT", or "mac
 * ADDRESS" and "mtu N", to answer. Returns 0, or -errno with a message and nothing changed: -EBUSY while
 * the VM is paused or saved, -ENOSPC without an empty slot.
 */
int attach_device(struct machine *m, const char *text, int fd, char *answer, size_t size, struct err *e);

/* Takes out what was attached to this slot and closes it. Returns 0, or -errno with a message: -EBUSY while
 * a driver in the guest has it, or the VM is paused or saved; -ENODEV for a slot with nothing in it.
 */
int attach_remove(struct machine *m, unsigned int slot, struct err *e);

/* Lines "attached.SLOT disk SERIAL" and "attached.SLOT net MAC" of the status. Returns their length. */
size_t attach_describe(const struct machine *m, char *text, size_t size);

#endif
