/* SPDX-License-Identifier: Apache-2.0
 *
 * acpi: the tables that describe the machine to any kernel, ours or another's.
 *
 * Hardware-reduced ACPI (ACPI 6.4, 4.1): no PIC, PIT, RTC, PM timer or SCI exist, so a kernel
 * neither probes nor waits for them. RSDP, XSDT, FADT, MADT and a DSDT with COM1, the panic
 * port and one device for each virtio-mmio slot. The only description of devices there is: no
 * MP table, no command-line devices.
 */
#ifndef UVM_VMM_ACPI_H
#define UVM_VMM_ACPI_H

#include "vmm/mem.h"

/* Writes the tables for cpus vCPUs and this many virtio devices (slot order, vmm/layout.h) to
 * LAYOUT_ACPI. Returns 0, or -ENOSPC if they do not fit. The RSDP is at LAYOUT_ACPI.
 */
int acpi_write(const struct mem *m, unsigned int cpus, unsigned int virtio, struct err *e);

#endif
