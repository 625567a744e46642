/* SPDX-License-Identifier: Apache-2.0
 *
 * plug: devices that come to a running guest, and go.
 *
 * Theory of operation. The guest was told of more virtio-mmio slots than it had devices for; the driver
 * found nothing in the empty ones (device ID 0) and left them. When the host has put a device into one, the
 * driver is asked to look again: by "bind" of the platform bus in sysfs, as by hand. "unbind" has it reset
 * the device, which is what the host waits for before it takes it away. The kernel numbers the devices of
 * one kind in the order in which ACPI describes them, which is that of the slots.
 */
#ifndef UVM_AGENT_PLUG_H
#define UVM_AGENT_PLUG_H

#include "guest/protocol.h"

/* PLUG: has the driver take the device, and sets up the interface if it is a network's. One that it has
 * already is only told of. Returns 0, or -errno and *why: the driver does not take it.
 */
int plug(const struct agent_plug *m, struct agent_plugged *answer, const char **why);

/* UNPLUG: has the driver let go of the device, with all that was written to a disk on it. One that no driver
 * has is only told of. Returns 0, or -errno and *why: -EBUSY while a disk or a part of it is mounted, or
 * otherwise claimed; -ENODEV for a name that is no such device's.
 */
int unplug(const struct agent_unplug *m, struct agent_plugged *answer, const char **why);

#endif
