/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "devices/serial.h"
#include "devices/virtio_balloon.h"
#include "devices/virtio_fs.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_net.h"
#include "devices/virtio_vsock.h"
#include "snapshot/files.h"
#include "vmm/machine_state.h"
#include "vmm/util.h"
#include "vmm/vcpu_state.h"

const struct state_table *snapshot_table(const char *name)
{
	static const struct state_table *const all[] = {
		&manifest_table, &disk_table,	&disk_file_table, &seal_table,	    &stamp_table,
		&machine_table,	 &vcpu_table,	&pic_table,	  &ioapic_table,    &clock_table,
		&serial_table,	 &virtio_table, &virtqueue_table, &virtio_vsock_table,
		&virtio_balloon_table, &virtio_net_table, &virtio_fs_table};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	return NULL;
}
