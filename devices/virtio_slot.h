/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_slot: a virtio-mmio device's place that may be empty, for what is attached to a running VM.
 *
 * An empty one has device ID 0, which a driver must leave alone (virtio 1.2, 4.2.2.2): Linux' probe ends
 * there, and can be asked again. The guest sees only what the registers say, so a device can come and go
 * without any other mechanism; that it is told, and has let go, is for others to see to.
 */
#ifndef UVM_DEVICES_VIRTIO_SLOT_H
#define UVM_DEVICES_VIRTIO_SLOT_H

#include "devices/virtio_mmio.h"

struct virtio_slot {
	/* NULL: empty. Read by vCPU threads without a lock: changed only while none runs. */
	struct virtio_dev *dev;
	struct irq irq; /* of whatever is in it; fd 0: not made yet */
};

extern const struct bus_ops virtio_slot_ops; /* dev is a struct virtio_slot */

#endif
