/* SPDX-License-Identifier: Apache-2.0
 *
 * kernel: reads a kernel file into guest memory. What it is, is told from its content:
 *
 *   ELF with a PVH note     entered there (Linux with CONFIG_PVH, and others)
 *   ELF without             entered at e_entry by the 64-bit boot protocol (an older vmlinux,
 *                           a tiny guest)
 *   bzImage                 the same protocol at its 64-bit entry; it unpacks itself
 *
 * The file is hostile input: every offset and size is checked against the file and against
 * guest memory before use.
 */
#ifndef UVM_VMM_KERNEL_H
#define UVM_VMM_KERNEL_H

#include <asm/bootparam.h>

#include "vmm/mem.h"
#include "vmm/vcpu.h"

struct kernel {
	enum boot_protocol protocol;
	uint64_t entry;		    /* GPA of the first instruction */
	uint64_t end;		    /* GPA behind all that the kernel needs to start */
	uint64_t initrd_max;	    /* highest GPA that the initrd's last byte may have */
	struct setup_header header; /* a bzImage's own, else zero but for the magic */
};

/* Loads path. Returns 0; -EINVAL for a file that is no kernel or does not fit into memory, or
 * another -errno from reading it. Nothing of the guest's memory outside the kernel's own ranges
 * is written.
 */
int kernel_load(struct kernel *k, const char *path, const struct mem *m, struct err *e);

#endif
