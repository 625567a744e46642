/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/power.h"
#include "vmm/aml.h"
#include "vmm/layout.h"

/* Section numbers are those of ACPI 6.4. */

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct rsdp) == 36, "5.2.5.3");

struct header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 36, "5.2.6");

struct address { /* generic address structure, 5.2.3.2 */
	uint8_t space;
	uint8_t bits;
	uint8_t offset;
	uint8_t access;
	uint64_t address;
} __attribute__((packed));

#define SPACE_IO    1
#define ACCESS_BYTE 1

struct fadt { /* 5.2.9; what hardware-reduced machines leave zero is not named */
	struct header h;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t unused1[109 - 44];
	uint16_t boot_arch;
	uint8_t unused2;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct address unused3[8];
	struct address sleep_control;
	struct address sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "5.2.9");
_Static_assert(offsetof(struct fadt, reset) == 116, "5.2.9");
_Static_assert(offsetof(struct fadt, x_dsdt) == 140, "5.2.9");
_Static_assert(offsetof(struct fadt, sleep_control) == 244, "5.2.9");

#define FADT_RESET_REG	(1u << 10)
#define FADT_HW_REDUCED (1u << 20)
#define FADT_NO_VGA	(1u << 2) /* of boot_arch; the rest zero: no 8042, no RTC */
#define FADT_NO_RTC	(1u << 5)

struct madt { /* 5.2.12 */
	struct header h;
	uint32_t lapic;
	uint32_t flags;
} __attribute__((packed));

struct madt_lapic { /* 5.2.12.2 */
	uint8_t type, length, uid, id;
	uint32_t flags;
} __attribute__((packed));

struct madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

/* Tables are built one behind the other in guest memory that nobody else sees yet. */
struct writer {
	uint8_t *base;
	size_t used, size;
};

static uint8_t checksum(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (n--)
		sum += *p++;
	return (uint8_t)-sum;
}

static uint64_t writer_gpa(const struct writer *w)
{
	return LAYOUT_ACPI + w->used;
}

/* Starts a table of size bytes, zeroed but for its header; NULL if there is no room. */
static void *table_begin(struct writer *w, const char signature[4], uint8_t revision, size_t size)
{
	struct header *h = (struct header *)(w->base + w->used);

	if (size > w->size - w->used)
		return NULL;
	memset(h, 0, size);
	memcpy(h->signature, signature, 4);
	memcpy(h->oem_id, "UVM   ", 6);
	memcpy(h->oem_table_id, "UVM     ", 8);
	memcpy(h->creator_id, "UVM ", 4);
	h->length = (uint32_t)size;
	h->revision = revision;
	h->oem_revision = 1;
	h->creator_revision = 1;
	return h;
}

/* Ends the table that table_begin gave: its length may have changed. Returns its GPA. */
static uint64_t table_end(struct writer *w, struct header *h)
{
	uint64_t at = writer_gpa(w);

	h->checksum = 0;
	h->checksum = checksum(h, h->length);
	w->used += ALIGN_UP((size_t)h->length, 16);
	return at;
}

static void describe_com1(struct aml *a)
{
	struct aml_mark dev = aml_open_device(a, "COM1");

	aml_name_eisaid(a, "_HID", "PNP0501");
	aml_name_int(a, "_UID", 1);
	aml_crs(a, &(struct aml_resources){
			   .port = LAYOUT_COM1, .port_size = 8, .gsi = LAYOUT_COM1_GSI});
	aml_close(a, dev);
}

static void describe_pvpanic(struct aml *a)
{
	struct aml_mark dev = aml_open_device(a, "PVPN");

	aml_name_string(a, "_HID", "QEMU0001"); /* the id that Linux's driver knows */
	aml_crs(a, &(struct aml_resources){.port = LAYOUT_PVPANIC, .port_size = 1, .gsi = -1});
	aml_close(a, dev);
}

#define NOTIFY_CHANGED 0x80 /* as the specification of the generation id has it */

/* The generation id, and the generic event device (5.6.9) that passes its interrupt on: a
 * hardware-reduced machine has no other source of ACPI events. _EVT gets the number of the line,
 * of which there is one.
 */
static void describe_vmgenid(struct aml *a)
{
	static const uint32_t address[] = {LAYOUT_VMGENID, 0};
	struct aml_mark dev = aml_open_device(a, "VGEN"), method;

	aml_name_string(a, "_HID", "VMGENCTR"); /* the id that Linux's driver knows */
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_package(a, "ADDR", address, ARRAY_SIZE(address));
	aml_close(a, dev);

	dev = aml_open_device(a, "GED_");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_crs(a, &(struct aml_resources){.gsi = LAYOUT_EVENT_GSI});
	method = aml_open_method(a, "_EVT", 1);
	aml_notify(a, "VGEN", NOTIFY_CHANGED);
	aml_close(a, method);
	aml_close(a, dev);
}

static void describe_virtio(struct aml *a, unsigned int slot)
{
	struct aml_mark dev;
	char name[5];

	snprintf(name, sizeof(name), "V%03u", slot % 1000);
	dev = aml_open_device(a, name);
	aml_name_string(a, "_HID", "LNRO0005"); /* Linux: virtio-mmio */
	aml_name_int(a, "_UID", slot);
	aml_name_int(a, "_CCA", 1); /* DMA is cache coherent */
	aml_crs(a, &(struct aml_resources){.mmio = LAYOUT_VIRTIO + slot * LAYOUT_VIRTIO_SIZE,
					   .mmio_size = LAYOUT_VIRTIO_SIZE,
					   .gsi = (int)(LAYOUT_VIRTIO_GSI + slot)});
	aml_close(a, dev);
}

static uint64_t write_dsdt(struct writer *w, unsigned int virtio)
{
	static const uint32_t s5[] = {POWER_SLEEP_TYPE_OFF, 0, 0, 0};
	struct header *h = table_begin(w, "DSDT", 6, sizeof(*h));
	struct aml_mark scope;
	struct aml a;

	if (!h)
		return 0;
	a = (struct aml){.buf = (uint8_t *)(h + 1), .size = w->size - w->used - sizeof(*h)};
	scope = aml_open_scope(&a, "\\_SB_");
	describe_com1(&a);
	describe_pvpanic(&a);
	describe_vmgenid(&a);
	for (unsigned int i = 0; i < virtio; i++)
		describe_virtio(&a, i);
	aml_close(&a, scope);
	aml_name_package(&a, "_S5_", s5, ARRAY_SIZE(s5));
	if (a.full)
		return 0;
	h->length += (uint32_t)a.used;
	return table_end(w, h);
}

static struct address port(uint16_t at)
{
	return (struct address){SPACE_IO, 8, 0, ACCESS_BYTE, at};
}

static uint64_t write_fadt(struct writer *w, uint64_t dsdt)
{
	struct fadt *f = table_begin(w, "FACP", 6, sizeof(*f));

	if (!f)
		return 0;
	f->dsdt = (uint32_t)dsdt;
	f->x_dsdt = dsdt;
	f->minor_version = 4;
	f->boot_arch = FADT_NO_VGA | FADT_NO_RTC;
	f->flags = FADT_HW_REDUCED | FADT_RESET_REG;
	f->reset = port(LAYOUT_POWER + POWER_RESET);
	f->reset_value = POWER_RESET_VALUE;
	f->sleep_control = port(LAYOUT_POWER + POWER_SLEEP_CONTROL);
	f->sleep_status = port(LAYOUT_POWER + POWER_SLEEP_STATUS);
	memcpy(&f->hypervisor, "uvm     ", 8);
	return table_end(w, &f->h);
}

static uint64_t write_madt(struct writer *w, unsigned int cpus)
{
	size_t size =
		sizeof(struct madt) + cpus * sizeof(struct madt_lapic) + sizeof(struct madt_ioapic);
	struct madt *m = table_begin(w, "APIC", 5, size);
	struct madt_lapic *l;

	if (!m)
		return 0;
	m->lapic = LAYOUT_LAPIC;
	l = (struct madt_lapic *)(m + 1);
	for (unsigned int i = 0; i < cpus; i++, l++)
		*l = (struct madt_lapic){0, sizeof(*l), (uint8_t)i, (uint8_t)i, 1};
	*(struct madt_ioapic *)l =
		(struct madt_ioapic){1, sizeof(struct madt_ioapic), 0, 0, LAYOUT_IOAPIC, 0};
	return table_end(w, &m->h);
}

static uint64_t write_xsdt(struct writer *w, const uint64_t *tables, unsigned int n)
{
	struct header *h = table_begin(w, "XSDT", 1, sizeof(*h) + n * sizeof(*tables));

	if (!h)
		return 0;
	memcpy(h + 1, tables, n * sizeof(*tables));
	return table_end(w, h);
}

int acpi_write(const struct mem *m, unsigned int cpus, unsigned int virtio, struct err *e)
{
	struct writer w = {.size = LAYOUT_VMGENID - LAYOUT_ACPI};
	struct rsdp *rsdp;
	uint64_t dsdt, tables[2], xsdt = 0;

	w.base = mem_span(m, gpa(LAYOUT_ACPI), w.size);
	if (!w.base)
		return err_set(e, ENOSPC, "no memory for the ACPI tables");
	rsdp = (struct rsdp *)w.base;
	w.used = ALIGN_UP(sizeof(*rsdp), (size_t)16);
	dsdt = write_dsdt(&w, virtio);
	tables[0] = dsdt ? write_fadt(&w, dsdt) : 0;
	tables[1] = write_madt(&w, cpus);
	if (tables[0] && tables[1])
		xsdt = write_xsdt(&w, tables, 2);
	if (!xsdt)
		return err_set(e, ENOSPC, "the ACPI tables do not fit");
	*rsdp = (struct rsdp){.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
			      .oem_id = {'U', 'V', 'M', ' ', ' ', ' '},
			      .revision = 2,
			      .length = sizeof(*rsdp),
			      .xsdt = xsdt};
	rsdp->checksum = checksum(rsdp, 20); /* the part that ACPI 1.0 knew */
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	return 0;
}
