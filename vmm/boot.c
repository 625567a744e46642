/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/power.h"
#include "vmm/acpi.h"
#include "vmm/kernel.h"
#include "vmm/layout.h"

#define E820_MAX 5

/* Where the initrd was put; size 0: none. */
struct initrd {
	uint64_t at, size;
};

/* hvm_start_info version 1 and what it points to, from Xen's public header start_info.h. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct module_entry {
	uint64_t at, size, cmdline, reserved;
};

struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

struct pvh_page {
	struct start_info info;
	struct module_entry module;
	struct memmap_entry map[E820_MAX];
};
_Static_assert(sizeof(struct start_info) == 56, "start_info.h");
_Static_assert(sizeof(struct module_entry) == 32, "start_info.h");
_Static_assert(sizeof(struct memmap_entry) == 24, "start_info.h");

#define PVH_MAGIC 0x336ec578
#define E820_RAM  1
#define E820_ACPI 3

/* The memory map; both protocols number the types as E820 does. */
static unsigned int memory_map(const struct mem *m, struct memmap_entry map[E820_MAX])
{
	unsigned int n = 0;

	map[n++] = (struct memmap_entry){0, LAYOUT_LOW_END, E820_RAM, 0};
	map[n++] = (struct memmap_entry){LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, E820_ACPI, 0};
	map[n++] = (struct memmap_entry){LAYOUT_KERNEL_MIN, m->region[0].size - LAYOUT_KERNEL_MIN,
					 E820_RAM, 0};
	if (m->count > 1)
		map[n++] =
			(struct memmap_entry){m->region[1].start.v, m->region[1].size, E820_RAM, 0};
	return n;
}

/* As high as it may lie below 4 GiB, so that the kernel has the low memory in one piece. */
static void *place_initrd(const struct boot_source *src, const struct kernel *k,
			  const struct mem *m, uint64_t size, struct initrd *rd, struct err *e)
{
	uint64_t top = MIN(m->region[0].size, k->initrd_max + 1);
	const char *name = src->initrd ? src->initrd : "of the agent";

	if (size > top || ((top - size) & ~4095ull) < k->end) {
		err_set(e, EINVAL,
			"initrd %s: %" PRIu64 " KiB do not fit behind the kernel into %" PRIu64
			" MiB of memory; give the guest more with --memory",
			name, size >> 10, m->size >> 20);
		return NULL;
	}
	*rd = (struct initrd){(top - size) & ~4095ull, size};
	return mem_span(m, gpa(rd->at), size);
}

static int read_initrd(const struct boot_source *src, const struct kernel *k, const struct mem *m,
		       struct initrd *rd, struct err *e)
{
	int fd = open(src->initrd, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0;
	struct stat st;
	void *to;

	if (fd < 0)
		return err_sys(e, "cannot open initrd %s", src->initrd);
	if (fstat(fd, &st))
		r = err_sys(e, "initrd %s", src->initrd);
	else if (!S_ISREG(st.st_mode))
		r = err_set(e, EINVAL, "initrd %s: not a regular file", src->initrd);
	else if (!st.st_size)
		r = err_set(e, EINVAL, "initrd %s: the file is empty", src->initrd);
	if (!r) {
		to = place_initrd(src, k, m, (uint64_t)st.st_size, rd, e);
		r = to ? pread_all(fd, to, (size_t)st.st_size, 0) : -EINVAL;
		if (to && r)
			err_set(e, -r, "initrd %s: %s", src->initrd, strerror(-r));
	}
	close(fd);
	return r;
}

static int load_initrd(const struct boot_source *src, const struct kernel *k, const struct mem *m,
		       struct initrd *rd, struct err *e)
{
	void *to;

	*rd = (struct initrd){0};
	if (src->initrd)
		return read_initrd(src, k, m, rd, e);
	if (!src->image_size)
		return 0;
	to = place_initrd(src, k, m, src->image_size, rd, e);
	if (!to)
		return -EINVAL;
	memcpy(to, src->image, src->image_size);
	return 0;
}

static int write_cmdline(const struct boot_source *src, const struct mem *m, struct err *e)
{
	size_t size = strlen(src->cmdline) + 1;

	if (size > LAYOUT_CMDLINE_MAX)
		return err_set(e, EINVAL,
			       "the kernel command line has %zu characters, %u are the limit",
			       size - 1, LAYOUT_CMDLINE_MAX - 1);
	return mem_write(m, gpa(LAYOUT_CMDLINE), src->cmdline, size);
}

static int write_start_info(const struct mem *m, const struct initrd *rd)
{
	struct pvh_page p = {
		.info =
			{
				.magic = PVH_MAGIC,
				.version = 1,
				.nr_modules = rd->size ? 1 : 0,
				.modlist = LAYOUT_START_INFO + offsetof(struct pvh_page, module),
				.cmdline = LAYOUT_CMDLINE,
				.rsdp = LAYOUT_ACPI,
				.memmap = LAYOUT_START_INFO + offsetof(struct pvh_page, map),
			},
		.module = {.at = rd->at, .size = rd->size},
	};

	p.info.memmap_entries = memory_map(m, p.map);
	return mem_write(m, gpa(LAYOUT_START_INFO), &p, sizeof(p));
}

static int write_boot_params(const struct mem *m, const struct kernel *k, const struct initrd *rd)
{
	struct memmap_entry map[E820_MAX];
	struct boot_params p = {.hdr = k->header};

	p.e820_entries = (uint8_t)memory_map(m, map);
	for (unsigned int i = 0; i < p.e820_entries; i++)
		p.e820_table[i] = (struct boot_e820_entry){map[i].addr, map[i].size, map[i].type};
	p.acpi_rsdp_addr = LAYOUT_ACPI;
	p.hdr.type_of_loader = 0xff; /* one without a number of its own */
	p.hdr.loadflags |= LOADED_HIGH;
	p.hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	p.hdr.ramdisk_image = (uint32_t)rd->at;
	p.hdr.ramdisk_size = (uint32_t)rd->size;
	return mem_write(m, gpa(LAYOUT_BOOT_PARAMS), &p, sizeof(p));
}

/* Linux with CONFIG_EFI on a hardware-reduced machine without EFI reboots neither by ACPI nor by
 * the 8042, but by a jump to the firmware's entry in real mode (arch/x86/kernel/reboot.c). So
 * there is one, which writes to ACPI's reset register.
 */
static int write_reset_vector(const struct mem *m)
{
	enum { PORT = LAYOUT_POWER + POWER_RESET };
	/* mov dx, PORT; mov al, value; out dx, al; 1: hlt; jmp 1b */
	static const uint8_t code[] = {0xba, PORT & 0xff, PORT >> 8, 0xb0, POWER_RESET_VALUE,
				       0xee, 0xf4,	  0xeb,	     0xfd};

	return mem_write(m, gpa(LAYOUT_RESET_VECTOR), code, sizeof(code));
}

int boot_cpu_tables(const struct mem *m)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	enum { PRESENT = 1, WRITABLE = 2, LARGE = 0x80, GIBS = 4 };
	uint64_t table[512] = {LAYOUT_PDPT | PRESENT | WRITABLE};
	int r = mem_write(m, gpa(LAYOUT_GDT), gdt, sizeof(gdt));

	if (!r)
		r = mem_write(m, gpa(LAYOUT_PML4), table, sizeof(table));
	for (uint64_t i = 0; i < GIBS; i++)
		table[i] = (LAYOUT_PD + i * 4096) | PRESENT | WRITABLE;
	if (!r)
		r = mem_write(m, gpa(LAYOUT_PDPT), table, sizeof(table));
	for (uint64_t g = 0; !r && g < GIBS; g++) {
		for (uint64_t i = 0; i < ARRAY_SIZE(table); i++)
			table[i] = (g << 30) | (i << 21) | PRESENT | WRITABLE | LARGE;
		r = mem_write(m, gpa(LAYOUT_PD + g * 4096), table, sizeof(table));
	}
	return r;
}

int boot_load(const struct boot_source *src, const struct mem *m, struct boot_entry *entry,
	      struct err *e)
{
	struct initrd rd;
	struct kernel k;
	int r = kernel_load(&k, src->kernel, m, e);

	if (!r)
		r = load_initrd(src, &k, m, &rd, e);
	if (!r)
		r = write_cmdline(src, m, e);
	if (!r)
		r = acpi_write(m, src->cpus, src->virtio, e);
	if (r)
		return r;
	*entry = (struct boot_entry){.protocol = k.protocol, .ip = k.entry};
	if (k.protocol == BOOT_PVH) {
		entry->info = LAYOUT_START_INFO;
		r = write_start_info(m, &rd);
	} else {
		entry->info = LAYOUT_BOOT_PARAMS;
		r = write_boot_params(m, &k, &rd);
	}
	if (!r)
		r = write_reset_vector(m);
	if (!r)
		r = boot_cpu_tables(m);
	return r ? err_set(e, -r, "no memory for the boot structures") : 0;
}
