/* SPDX-License-Identifier: Apache-2.0
 *
 * vmgenid: tells a guest's kernel that it has become another VM ("Virtual Machine Generation ID",
 * Microsoft's specification, which Linux's vmgenid driver follows): 16 random bytes in guest memory,
 * whose address ACPI names, and an interrupt when they have changed. The kernel then reseeds its
 * random generator, whether there is an agent or not.
 */
#ifndef UVM_DEVICES_VMGENID_H
#define UVM_DEVICES_VMGENID_H

#include "vmm/irq.h"
#include "vmm/mem.h"

struct vmgenid {
	const struct mem *mem;
	gpa_t at;
	struct irq irq; /* of the generic event device (vmm/acpi.c) */
};

/* Writes a new id, for a guest that has not run yet as what it is now. Returns 0 or -errno. */
int vmgenid_renew(const struct vmgenid *v, struct err *e);

/* Tells the driver to look. */
void vmgenid_notify(const struct vmgenid *v);

#endif
