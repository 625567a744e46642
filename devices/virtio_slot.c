/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_slot.h"

static void slot_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	const struct virtio_slot *s = dev;

	if (s->dev)
		virtio_mmio_ops.read(s->dev, offset, data, len);
	else
		virtio_empty_read(offset, data, len);
}

static void slot_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	const struct virtio_slot *s = dev;

	if (s->dev)
		virtio_mmio_ops.write(s->dev, offset, data, len);
}

const struct bus_ops virtio_slot_ops = {.read = slot_read, .write = slot_write};
