/* SPDX-License-Identifier: Apache-2.0
 *
 * layout: where things lie in guest-physical memory. The first MiB holds what the guest needs
 * before it has its own; devices live in the hole below 4 GiB (vmm/mem.h).
 */
#ifndef UVM_VMM_LAYOUT_H
#define UVM_VMM_LAYOUT_H

/* Boot structures, all below the PC's traditional end of low memory. */
#define LAYOUT_GDT	    0x1000u /* 4 descriptors */
#define LAYOUT_PML4	    0x2000u /* then one PDPT and four PDs: the first 4 GiB, 2 MiB pages */
#define LAYOUT_PDPT	    0x3000u
#define LAYOUT_PD	    0x4000u  /* to 0x8000 */
#define LAYOUT_BOOT_PARAMS  0x8000u  /* struct boot_params, 4 KiB */
#define LAYOUT_START_INFO   0x9000u  /* hvm_start_info, its module and memory map, 4 KiB */
#define LAYOUT_CMDLINE	    0x10000u /* zero-terminated */
#define LAYOUT_CMDLINE_MAX  2048u    /* with the zero: x86 Linux's COMMAND_LINE_SIZE */
#define LAYOUT_LOW_END	    0x9fc00u /* above: where a PC has its EBDA and ROMs */
#define LAYOUT_ACPI	    0xe0000u /* RSDP on the first byte: inside the area that kernels scan */
#define LAYOUT_VMGENID	    0xfff00u /* 16 bytes, behind the ACPI tables */
#define LAYOUT_RESET_VECTOR 0xffff0u /* where a PC's firmware starts, in real mode */
#define LAYOUT_ACPI_END	    0x100000u
#define LAYOUT_KERNEL_MIN   0x100000u /* kernels load at 1 MiB or above */

/* Selectors of LAYOUT_GDT, as the 64-bit boot protocol wants them. */
#define LAYOUT_CODE 0x10
#define LAYOUT_DATA 0x18

/* Devices. Line n of the interrupt controller is ACPI's GSI n. */
#define LAYOUT_VIRTIO	   0xd0000000u /* one page for each virtio-mmio device */
#define LAYOUT_VIRTIO_SIZE 0x1000u
#define LAYOUT_VIRTIO_GSI  5u
#define LAYOUT_GSI_COUNT   24u /* pins of KVM's IOAPIC */
#define LAYOUT_VIRTIO_MAX  (LAYOUT_GSI_COUNT - LAYOUT_VIRTIO_GSI)
#define LAYOUT_IOAPIC	   0xfec00000u
#define LAYOUT_LAPIC	   0xfee00000u
#define LAYOUT_COM1	   0x3f8u
#define LAYOUT_COM1_GSI	   4u
#define LAYOUT_EVENT_GSI   3u /* ACPI events */
#define LAYOUT_POWER	   0x600u /* devices/power.h */
#define LAYOUT_PVPANIC	   0x505u
#define LAYOUT_I8042	   0x60u

#endif
