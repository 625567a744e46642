/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kernel finds in memory at its first instruction.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/images.h"
#include "tests/unit/util.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define MEMORY	  (64ull << 20)
#define E820_RAM  1u
#define E820_ACPI 3u

/* Xen's public header start_info.h. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct range { /* a memory map's entry */
	uint64_t addr, size;
	uint32_t type;
};

static struct mem mem;
static struct boot_source source;
static struct boot_entry entry;
static struct elf_image elf;
static struct bz_image bz;
static struct err e;

static void use_memory(uint64_t size)
{
	mem_free(&mem);
	ck_ok(mem_init(&mem, size, &e));
}

static void setup(void)
{
	tmp_setup();
	use_memory(MEMORY);
	elf = elf_image();
	bz = bz_image();
	source = (struct boot_source){.cmdline = "console=ttyS0", .cpus = 1, .virtio = 1};
}

static void teardown(void)
{
	mem_free(&mem);
	tmp_teardown();
}

static void *at(uint64_t where, uint64_t len)
{
	void *p = mem_span(&mem, gpa(where), len);

	ck_that(p);
	return p;
}

static int boot_elf(void)
{
	source.kernel = tmp_file("kernel", &elf, sizeof(elf));
	return boot_load(&source, &mem, &entry, &e);
}

static int boot_bz(void)
{
	source.kernel = tmp_file("kernel", &bz, sizeof(bz));
	return boot_load(&source, &mem, &entry, &e);
}

static const struct start_info *start_info(void)
{
	ck_assert_int_eq(entry.protocol, BOOT_PVH);
	return at(entry.info, sizeof(struct start_info));
}

static const struct boot_params *boot_params(void)
{
	ck_assert_int_eq(entry.protocol, BOOT_LINUX64);
	return at(entry.info, sizeof(struct boot_params));
}

/* --- each protocol's structure --- */

START_TEST(pvh_start_info)
{
	const struct start_info *info;

	ck_ok(boot_elf());
	ck_assert_uint_eq(entry.ip, IMAGE_PVH);
	info = start_info();
	ck_assert_uint_eq(info->magic, 0x336ec578);
	ck_assert_uint_eq(info->version, 1);
	ck_assert_uint_eq(info->nr_modules, 0);
	ck_assert_str_eq((char *)at(info->cmdline, 14), "console=ttyS0");
	ck_assert(!memcmp(at(info->rsdp, 8), "RSD PTR ", 8));
}
END_TEST

START_TEST(linux_boot_params)
{
	const struct boot_params *p;

	ck_ok(boot_bz());
	ck_assert_uint_eq(entry.ip, IMAGE_AT + 0x200);
	p = boot_params();
	ck_assert_uint_eq(p->hdr.header, 0x53726448);
	ck_assert_uint_eq(p->hdr.type_of_loader, 0xff);
	ck_assert(p->hdr.loadflags & LOADED_HIGH);
	ck_assert_uint_eq(p->hdr.init_size, BZ_MEM); /* the image's own header */
	ck_assert_uint_eq(p->hdr.ramdisk_size, 0);
	ck_assert_str_eq((char *)at(p->hdr.cmd_line_ptr, 14), "console=ttyS0");
	ck_assert(!memcmp(at(p->acpi_rsdp_addr, 8), "RSD PTR ", 8));
}
END_TEST

START_TEST(elf_by_the_linux_protocol)
{
	const struct boot_params *p;

	elf.note.p_type = PT_NULL;
	ck_ok(boot_elf());
	p = boot_params();
	ck_assert_uint_eq(p->hdr.header, 0x53726448);
	ck_assert_uint_eq(p->hdr.boot_flag, 0xaa55);
	ck_assert_uint_eq(p->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
}
END_TEST

/* --- the memory map --- */

/* Sorted, without overlap, inside RAM; and all of RAM but what lies below 1 MiB for other uses. */
static void expect_map(const struct range *r, unsigned int n, uint64_t memory)
{
	uint64_t end = 0, ram = 0;

	ck_assert_uint_gt(n, 0);
	for (unsigned int i = 0; i < n; i++) {
		ck_assert_uint_ge(r[i].addr, end);
		ck_assert_ptr_nonnull(mem_span(&mem, gpa(r[i].addr), r[i].size));
		end = r[i].addr + r[i].size;
		ck_assert(r[i].type == E820_RAM || r[i].type == E820_ACPI);
		if (r[i].type == E820_RAM)
			ram += r[i].size;
		else
			ck_assert_uint_eq(r[i].addr, LAYOUT_ACPI);
	}
	ck_assert_uint_eq(ram, memory - (LAYOUT_KERNEL_MIN - LAYOUT_LOW_END));
}

START_TEST(memory_maps)
{
	static const uint64_t sizes[] = {MEM_MIN, MEMORY, 3ull << 30, (3ull << 30) + 4096,
					 5ull << 30};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct boot_params *p;
		const struct start_info *s;
		struct range r[8];

		use_memory(sizes[i]);
		ck_ok(boot_bz());
		p = boot_params();
		ck_assert_uint_le(p->e820_entries, ARRAY_SIZE(r));
		for (unsigned int k = 0; k < p->e820_entries; k++)
			r[k] = (struct range){p->e820_table[k].addr, p->e820_table[k].size,
					      p->e820_table[k].type};
		expect_map(r, p->e820_entries, sizes[i]);

		use_memory(sizes[i]);
		ck_ok(boot_elf());
		s = start_info();
		ck_assert_uint_le(s->memmap_entries, ARRAY_SIZE(r));
		for (unsigned int k = 0; k < s->memmap_entries; k++)
			memcpy(&r[k], at(s->memmap + k * 24, 24), 20);
		expect_map(r, s->memmap_entries, sizes[i]);
	}
}
END_TEST

/* --- descriptor and page tables --- */

START_TEST(page_tables)
{
	const uint64_t *pml4, *pdpt;

	ck_ok(boot_bz());
	pml4 = at(LAYOUT_PML4, 4096);
	ck_assert_uint_eq(pml4[0], LAYOUT_PDPT | 3);
	ck_assert(all_bytes(pml4 + 1, 4096 - 8, 0));
	pdpt = at(LAYOUT_PDPT, 4096);
	for (unsigned int g = 0; g < 512; g++) {
		const uint64_t *pd;

		if (g >= 4) {
			ck_that(pdpt[g] == 0);
			continue;
		}
		ck_that((pdpt[g] & 0xfff) == 3);
		pd = at(pdpt[g] & ~0xfffull, 4096);
		for (uint64_t i = 0; i < 512; i++)
			ck_that(pd[i] == ((uint64_t)g << 30 | i << 21 | 0x83));
	}
}
END_TEST

START_TEST(segments)
{
	const uint64_t *gdt;

	ck_ok(boot_bz());
	gdt = at(LAYOUT_GDT, 32);
	ck_assert_uint_eq(gdt[0], 0);
	ck_assert_uint_eq(gdt[LAYOUT_CODE / 8] >> 40 & 0xff, 0x9b); /* present, code */
	ck_assert_uint_eq(gdt[LAYOUT_CODE / 8] >> 53 & 1, 1);	    /* 64 bit */
	ck_assert_uint_eq(gdt[LAYOUT_DATA / 8] >> 40 & 0xff, 0x93); /* present, writable data */
}
END_TEST

/* Nothing of all this lies in anything else of it. */
START_TEST(boot_structures_do_not_overlap)
{
	const struct range r[] = {
		{LAYOUT_GDT, 32, 0},
		{LAYOUT_PML4, 4096, 0},
		{LAYOUT_PDPT, 4096, 0},
		{LAYOUT_PD, 4 * 4096, 0},
		{LAYOUT_BOOT_PARAMS, sizeof(struct boot_params), 0},
		{LAYOUT_START_INFO, 4096, 0},
		{LAYOUT_CMDLINE, LAYOUT_CMDLINE_MAX, 0},
		{LAYOUT_LOW_END, LAYOUT_ACPI - LAYOUT_LOW_END, 0},
		{LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI, 0},
		{LAYOUT_KERNEL_MIN, 1, 0},
	};

	for (unsigned int i = 1; i < ARRAY_SIZE(r); i++)
		ck_assert_uint_ge(r[i].addr, r[i - 1].addr + r[i - 1].size);
}
END_TEST

/* --- the command line --- */

START_TEST(longest_command_line)
{
	char text[LAYOUT_CMDLINE_MAX + 1];

	memset(text, 'x', sizeof(text));
	text[LAYOUT_CMDLINE_MAX - 1] = 0;
	source.cmdline = text;
	ck_ok(boot_elf());
	ck_assert_str_eq((char *)at(LAYOUT_CMDLINE, LAYOUT_CMDLINE_MAX), text);
	text[LAYOUT_CMDLINE_MAX - 1] = 'x';
	text[LAYOUT_CMDLINE_MAX] = 0;
	ck_refused(boot_elf(), EINVAL, "command line has 2048 characters, 2047 are the limit");
}
END_TEST

/* --- initrd --- */

static uint8_t initrd[10000];

START_TEST(initrd_of_a_file)
{
	const struct boot_params *p;
	const struct start_info *s;
	const uint64_t *module;

	fill_pattern(initrd, sizeof(initrd), 4);
	source.initrd = tmp_file("initrd", initrd, sizeof(initrd));
	ck_ok(boot_bz());
	p = boot_params();
	ck_assert_uint_eq(p->hdr.ramdisk_size, sizeof(initrd));
	ck_assert(!memcmp(at(p->hdr.ramdisk_image, sizeof(initrd)), initrd, sizeof(initrd)));
	ck_assert_uint_eq(p->hdr.ramdisk_image, MEMORY - 3 * 4096); /* as high as it goes */

	ck_ok(boot_elf());
	s = start_info();
	ck_assert_uint_eq(s->nr_modules, 1);
	module = at(s->modlist, 32);
	ck_assert_uint_eq(module[1], sizeof(initrd));
	ck_assert(!memcmp(at(module[0], sizeof(initrd)), initrd, sizeof(initrd)));
}
END_TEST

START_TEST(initrd_of_memory)
{
	fill_pattern(initrd, sizeof(initrd), 4);
	source.image = initrd;
	source.image_size = sizeof(initrd);
	ck_ok(boot_bz());
	ck_assert(!memcmp(at(boot_params()->hdr.ramdisk_image, sizeof(initrd)), initrd,
			  sizeof(initrd)));
}
END_TEST

/* An old kernel says how high its initrd may end. */
START_TEST(initrd_below_the_kernels_limit)
{
	source.initrd = tmp_file("initrd", initrd, sizeof(initrd));
	bz.h.initrd_addr_max = 0x1ffffff;
	ck_ok(boot_bz());
	ck_assert_uint_eq(boot_params()->hdr.ramdisk_image, 0x2000000 - 3 * 4096);
	bz.h.initrd_addr_max = IMAGE_AT + BZ_MEM; /* no room behind the kernel */
	ck_refused(boot_bz(), EINVAL, "do not fit behind the kernel");
	bz.h.initrd_addr_max = 0;
	ck_refused(boot_bz(), EINVAL, "do not fit behind the kernel");
}
END_TEST

/* Below the hole, also with more memory than that: loaders' addresses are 32 bits wide. */
START_TEST(initrd_below_4_gib)
{
	source.initrd = tmp_file("initrd", initrd, sizeof(initrd));
	bz.h.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	use_memory(5ull << 30);
	ck_ok(boot_bz());
	ck_assert_uint_eq(boot_params()->hdr.ramdisk_image, MEM_HOLE_START - 3 * 4096);
}
END_TEST

START_TEST(initrd_that_fits_exactly)
{
	const uint64_t room = MEMORY - IMAGE_AT - BZ_MEM;
	const char *path = tmp_path("initrd");

	bz.h.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	source.initrd = tmp_file("initrd", "", 0);
	ck_assert(!truncate(path, (off_t)room));
	ck_ok(boot_bz());
	ck_assert_uint_eq(boot_params()->hdr.ramdisk_image, IMAGE_AT + BZ_MEM);
	ck_assert(!truncate(path, (off_t)room + 1));
	ck_refused(boot_bz(), EINVAL, "do not fit behind the kernel into 64 MiB of memory");
	ck_assert(!truncate(path, (off_t)MEMORY + 1));
	ck_refused(boot_bz(), EINVAL, "do not fit");
	ck_assert(!truncate(path, (off_t)1 << 40));
	ck_refused(boot_bz(), EINVAL, "do not fit");
}
END_TEST

START_TEST(initrds_that_are_none)
{
	unsigned int fds = open_fds();

	source.initrd = tmp_path("nothing");
	ck_refused(boot_bz(), ENOENT, "nothing");
	source.initrd = tmp;
	ck_refused(boot_bz(), EINVAL, "not a regular file");
	source.initrd = tmp_file("empty", "", 0);
	ck_refused(boot_bz(), EINVAL, "the file is empty");
	ck_assert(!mkfifo(tmp_path("fifo"), 0600));
	source.initrd = tmp_path("fifo");
	ck_refused(boot_bz(), EINVAL, "not a regular file");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

START_TEST(smallest_memory)
{
	use_memory(MEM_MIN);
	ck_ok(boot_elf());
	ck_ok(boot_bz());
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		pvh_start_info,
		linux_boot_params,
		elf_by_the_linux_protocol,
		memory_maps,
		page_tables,
		segments,
		boot_structures_do_not_overlap,
		longest_command_line,
		initrd_of_a_file,
		initrd_of_memory,
		initrd_below_the_kernels_limit,
		initrd_below_4_gib,
		initrd_that_fits_exactly,
		initrds_that_are_none,
		smallest_memory,
	};

	return run_tests("boot", tests, ARRAY_SIZE(tests), setup, teardown);
}
