/* SPDX-License-Identifier: Apache-2.0
 *
 * boot: everything in guest memory that a kernel finds at its first instruction: itself, its
 * initrd, its command line, the ACPI tables, and the structure of its boot protocol that points
 * to them.
 */
#ifndef UVM_VMM_BOOT_H
#define UVM_VMM_BOOT_H

#include "vmm/mem.h"
#include "vmm/vcpu.h"

struct boot_source {
	const char *kernel; /* path */
	const char *initrd; /* path, or NULL */
	/* An initrd that is in memory already (the agent's); size 0: none. Not with a path. */
	const void *image;
	size_t image_size;
	const char *cmdline;
	unsigned int cpus;
	unsigned int virtio; /* number of virtio-mmio devices */
};

/* Fills memory, which is new, and says where vCPU 0 starts. Returns 0, or -errno with a message
 * that names the file and the reason; memory may have been written then and is of no use.
 */
int boot_load(const struct boot_source *src, const struct mem *m, struct boot_entry *entry,
	      struct err *e);

/* Only the segments that both protocols begin with, and for the 64-bit one the first 4 GiB mapped
 * to themselves in 2 MiB pages. Returns 0 or -EFAULT if there is no memory there.
 */
int boot_cpu_tables(const struct mem *m);

#endif
