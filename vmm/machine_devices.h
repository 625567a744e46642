/* SPDX-License-Identifier: Apache-2.0
 *
 * machine_devices: the devices of a machine: which there are, where each one's registers and its interrupt
 * line are, and what is behind it.
 *
 * What a device needs of the host (images, directories, taps) is opened before the VM exists, so that a wrong
 * name is said before anything is made; the devices are made after it; a clone's placeholders get what
 * they stand for when its state has been loaded.
 */
#ifndef UVM_VMM_MACHINE_DEVICES_H
#define UVM_VMM_MACHINE_DEVICES_H

#include "vmm/machine.h"

/* Virtio slots that the guest is told of: with a device in them, or spare. */
unsigned int machine_places(const struct machine *m);

/* Opens what is behind the disks, shares and networks: of the source, or, src NULL, as the configuration
 * says. Returns 0 or -errno.
 */
int machine_open_devices(struct machine *m, const struct machine_source *src, struct err *e);

/* Makes all devices and puts them on the buses, in the VM's first state. Returns 0 or -errno. */
int machine_add_devices(struct machine *m, struct err *e);

/* Gives a clone's placeholder disks and shares what the configuration fills them with. Returns 0, or
 * -EINVAL if there are not as many.
 */
int machine_fill(struct machine *m, struct err *e);

/* Connects each network to its back end, now that its device has its state. Returns 0 or -errno. */
int machine_connect_nets(struct machine *m, struct err *e);

/* The line of a spare slot, made when it is first wanted. Returns 0 or -errno. */
int machine_spare_line(struct machine *m, unsigned int slot, struct irq *irq, struct err *e);

/* Makes a device reachable: its registers on the bus, or in a spare slot that is empty, and its doorbell in
 * KVM. No vCPU runs. Returns 0 or -errno.
 */
int machine_plug(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e);

/* Takes the device out of a spare slot; no vCPU runs. Returns 0 or -errno. */
int machine_unplug(struct machine *m, unsigned int slot, struct err *e);

#endif
