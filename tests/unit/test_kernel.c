/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel files, good ones and every kind of bad one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/images.h"
#include "tests/unit/util.h"
#include "vmm/kernel.h"

#define MEMORY (4ull << 20)

static struct mem mem;
static struct kernel kernel;
static struct elf_image elf;
static struct bz_image bz;
static struct err e;

static void setup(void)
{
	tmp_setup();
	ck_ok(mem_init(&mem, MEMORY, &e));
	elf = elf_image();
	bz = bz_image();
}

static void teardown(void)
{
	mem_free(&mem);
	tmp_teardown();
}

static const uint8_t *at(uint64_t where)
{
	return mem.region[0].host + where;
}

static int load(const void *image, size_t len)
{
	e.text[0] = 0;
	return kernel_load(&kernel, tmp_file("kernel", image, len), &mem, &e);
}

static int load_elf(void)
{
	return load(&elf, sizeof(elf));
}

static int load_bz(void)
{
	return load(&bz, sizeof(bz));
}

/* Both must be refused with -EINVAL, and a message that names the file and this reason. */
#define elf_refused(why)                                                                           \
	do {                                                                                       \
		ck_refused(load_elf(), EINVAL, why);                                               \
		ck_that(strstr(e.text, tmp));                                                      \
	} while (0)
#define bz_refused(why)                                                                            \
	do {                                                                                       \
		ck_refused(load_bz(), EINVAL, why);                                                \
		ck_that(strstr(e.text, tmp));                                                      \
	} while (0)

/* Nothing but [IMAGE_AT, IMAGE_AT + len) was written. */
static void expect_rest_untouched(size_t len)
{
	ck_assert(all_bytes(at(0), IMAGE_AT, 0));
	ck_assert(all_bytes(at(IMAGE_AT + len), MEMORY - IMAGE_AT - len, 0));
}

/* --- ELF --- */

START_TEST(elf_with_pvh_note)
{
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_PVH);
	ck_assert_uint_eq(kernel.entry, IMAGE_PVH);
	ck_assert_uint_eq(kernel.end, IMAGE_AT + IMAGE_MEM);
	ck_assert_uint_eq(kernel.initrd_max, UINT32_MAX);
	ck_assert(!memcmp(at(IMAGE_AT), elf.text, IMAGE_TEXT));
	expect_rest_untouched(IMAGE_TEXT);
}
END_TEST

START_TEST(elf_with_32_bit_note)
{
	elf.notes.pvh.n_descsz = 4;
	memset(elf.notes.pvh_entry + 4, 0xff, 4); /* not of the entry */
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_PVH);
	ck_assert_uint_eq(kernel.entry, IMAGE_PVH);
}
END_TEST

START_TEST(elf_without_note)
{
	elf.note.p_type = PT_NULL;
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(kernel.entry, IMAGE_ENTRY);
	ck_assert_uint_eq(kernel.header.header, 0x53726448);
	ck_assert_uint_eq(kernel.header.boot_flag, 0xaa55);
}
END_TEST

/* Notes that look much like it, each in one thing not. */
START_TEST(elf_with_other_notes)
{
	struct elf_image good = elf;

	elf.notes.pvh.n_type = 17;
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	elf = good;
	memcpy(elf.notes.pvh_name, "Xem", 4);
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	elf = good;
	memcpy(elf.notes.pvh_name, "XenX", 4); /* no zero at its end */
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	elf = good;
	elf.notes.pvh.n_descsz = 2;
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	elf = good;
	elf.note.p_filesz = 11; /* less than a note's header */
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	elf.note.p_filesz = 0;
	ck_ok(load_elf());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
}
END_TEST

START_TEST(elf_notes_that_overrun)
{
	static const uint32_t sizes[] = {12,	     0x1000,	 0x7fffffff,
					 0xfffffff0, 0xfffffffd, UINT32_MAX};
	struct elf_image good = elf;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		elf = good;
		elf.notes.pvh.n_descsz = sizes[i];
		elf_refused("note");
		elf = good;
		elf.notes.pvh.n_namesz = sizes[i];
		elf_refused("note");
		elf = good;
		elf.notes.other.n_namesz = elf.notes.other.n_descsz = sizes[i] | 0x80000000;
		elf_refused("note");
	}
	elf = good;
	elf.note.p_offset = UINT64_MAX - 7;
	elf_refused("truncated");
	elf.note.p_offset = sizeof(elf) - 4;
	elf_refused("truncated");
	elf.note.p_offset = 1ull << 63;
	elf_refused("truncated");
}
END_TEST

START_TEST(elf_every_truncation)
{
	for (size_t len = 0; len < sizeof(elf); len++) {
		ck_that(load(&elf, len) == -EINVAL);
		ck_that(strstr(e.text, len == 0	 ? "empty"
				       : len < 4 ? "shorter than any"
						 : "truncated"));
		ck_that(strstr(e.text, tmp));
	}
	ck_ok(load_elf());
}
END_TEST

static void expect_sane(int r)
{
	if (r) {
		ck_that(r < 0 && *e.text && !strchr(e.text, '\n'));
		return;
	}
	ck_that(kernel.entry >= IMAGE_AT && kernel.entry < MEMORY);
	ck_that(kernel.end >= IMAGE_AT && kernel.end <= MEMORY);
}

/* Each byte of the part that means something, with values that are often wrong. */
static void spoil_every_byte(void *image, size_t len, size_t from, size_t to)
{
	static const uint8_t with[] = {0x00, 0x80, 0xff};
	uint8_t *p = image;

	for (size_t i = from; i < to; i++) {
		uint8_t good = p[i];

		for (unsigned int k = 0; k < ARRAY_SIZE(with); k++) {
			p[i] = with[k];
			expect_sane(load(image, len));
		}
		p[i] = good;
	}
}

START_TEST(elf_every_byte)
{
	spoil_every_byte(&elf, sizeof(elf), 0, offsetof(struct elf_image, text));
	ck_ok(load_elf());
	ck_assert_uint_eq(kernel.entry, IMAGE_PVH);
}
END_TEST

START_TEST(elf_segment_places)
{
	static const struct {
		uint64_t paddr, memsz;
		const char *why;
	} bad[] = {
		{MEMORY, IMAGE_MEM, "does not fit"},
		{MEMORY - IMAGE_MEM + 1, IMAGE_MEM, "does not fit"},
		{MEMORY - IMAGE_MEM, IMAGE_MEM + 1, "does not fit"},
		{IMAGE_AT, UINT64_MAX, "does not fit"},
		{IMAGE_AT, UINT64_MAX - IMAGE_AT + 1, "does not fit"}, /* ends at 2^64 */
		{UINT64_MAX - 0xff, 0x200, "does not fit"},
		{0xfee00000, IMAGE_MEM, "does not fit"},
		{IMAGE_AT - 1, IMAGE_MEM, "below 1 MiB"},
		{0, IMAGE_MEM, "below 1 MiB"},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		elf.load.p_paddr = bad[i].paddr;
		elf.load.p_memsz = bad[i].memsz;
		elf_refused(bad[i].why);
	}
	expect_rest_untouched(0);
	/* Up to the last byte is fine. */
	elf.load.p_paddr = MEMORY - IMAGE_MEM;
	elf.load.p_memsz = IMAGE_MEM;
	elf.note.p_type = PT_NULL;
	elf.h.e_entry = MEMORY - 1;
	ck_ok(load_elf());
	ck_assert_uint_eq(kernel.end, MEMORY);
}
END_TEST

START_TEST(elf_segment_sizes)
{
	elf.load.p_filesz = IMAGE_MEM + 1;
	elf_refused("more bytes in the file than in memory");
	elf.load.p_filesz = IMAGE_TEXT + 1;
	elf_refused("truncated");
	elf.load.p_filesz = IMAGE_TEXT;
	elf.load.p_offset = UINT64_MAX;
	elf_refused("truncated");
	elf.load.p_offset = sizeof(elf) - IMAGE_TEXT + 1;
	elf_refused("truncated");
	elf.load.p_offset = 1ull << 63;
	elf_refused("truncated");
}
END_TEST

/* A segment without bytes in the file is memory; one without memory is nothing, wherever it is. */
START_TEST(elf_empty_segments)
{
	elf.third = elf.load;
	elf.third.p_filesz = 0;
	elf.third.p_offset = 0;
	elf.third.p_paddr = IMAGE_AT + 0x10000;
	ck_ok(load_elf());
	ck_assert_uint_eq(kernel.end, IMAGE_AT + 0x10000 + IMAGE_MEM);
	elf.third.p_memsz = 0;
	elf.third.p_paddr = UINT64_MAX;
	ck_ok(load_elf());
	ck_assert_uint_eq(kernel.end, IMAGE_AT + IMAGE_MEM);
}
END_TEST

START_TEST(elf_entry_outside)
{
	static const uint64_t bad[] = {0, IMAGE_AT - 1, IMAGE_AT + IMAGE_MEM, MEMORY, UINT64_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		memcpy(elf.notes.pvh_entry, &bad[i], 8);
		elf_refused("entry point");
	}
	elf.note.p_type = PT_NULL;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		elf.h.e_entry = bad[i];
		elf_refused("entry point");
	}
	elf.load.p_type = PT_NULL; /* nothing to load at all */
	elf.h.e_entry = IMAGE_ENTRY;
	elf_refused("entry point");
}
END_TEST

START_TEST(elf_of_another_kind)
{
	struct elf_image good = elf;

	elf.h.e_ident[EI_CLASS] = ELFCLASS32;
	elf_refused("not for 64-bit x86");
	elf = good;
	elf.h.e_ident[EI_DATA] = ELFDATA2MSB;
	elf_refused("not for 64-bit x86");
	elf = good;
	elf.h.e_machine = EM_AARCH64;
	elf_refused("not for 64-bit x86");
	elf.h.e_machine = EM_386;
	elf_refused("not for 64-bit x86");
	elf = good;
	for (uint16_t type = 0; type < 5; type++) {
		if (type == ET_EXEC)
			continue;
		elf.h.e_type = type;
		elf_refused("not an executable");
	}
}
END_TEST

START_TEST(elf_program_header_tables)
{
	static const uint64_t offsets[] = {sizeof(elf), sizeof(elf) - 56, 1ull << 32, UINT64_MAX,
					   UINT64_MAX - 167};
	static const uint16_t numbers[] = {0, 65, 0xfffe, 0xffff};
	struct elf_image good = elf;

	for (unsigned int i = 0; i < ARRAY_SIZE(numbers); i++) {
		elf.h.e_phnum = numbers[i];
		elf_refused("makes no sense");
	}
	elf.h.e_phnum = 64;
	elf_refused("truncated");
	elf = good;
	for (uint16_t size = 0; size < 130; size++) {
		elf.h.e_phentsize = size;
		if (size != sizeof(Elf64_Phdr))
			elf_refused("makes no sense");
	}
	elf = good;
	for (unsigned int i = 0; i < ARRAY_SIZE(offsets); i++) {
		elf.h.e_phoff = offsets[i];
		elf_refused("truncated");
	}
}
END_TEST

/* --- bzImage --- */

START_TEST(bzimage)
{
	ck_ok(load_bz());
	ck_assert_int_eq(kernel.protocol, BOOT_LINUX64);
	ck_assert_uint_eq(kernel.entry, IMAGE_AT + 0x200);
	ck_assert_uint_eq(kernel.end, IMAGE_AT + BZ_MEM);
	ck_assert_uint_eq(kernel.initrd_max, bz.h.initrd_addr_max);
	ck_assert(!memcmp(&kernel.header, &bz.h, sizeof(bz.h)));
	ck_assert(!memcmp(at(IMAGE_AT), bz.text, IMAGE_TEXT));
	expect_rest_untouched(IMAGE_TEXT);
	bz.h.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	ck_ok(load_bz());
	ck_assert_uint_eq(kernel.initrd_max, UINT32_MAX);
}
END_TEST

/* An older header is shorter; what lies behind it is code. */
START_TEST(bzimage_with_a_shorter_header)
{
	size_t end = offsetof(struct setup_header, handover_offset);

	bz.h.jump = (uint16_t)(0xeb | (0x1f1 + end - 0x202) << 8);
	bz.h.handover_offset = 0x12345678;
	ck_ok(load_bz());
	ck_assert_uint_eq(kernel.header.handover_offset, 0);
	ck_assert_uint_eq(kernel.header.init_size, BZ_MEM);
	bz.h.jump = 0xffeb; /* far behind what we know */
	ck_ok(load_bz());
	ck_assert_uint_eq(kernel.header.handover_offset, 0x12345678);
	bz.h.jump = 0x00eb; /* before every field */
	load_bz();
}
END_TEST

START_TEST(bzimage_too_old_or_32_bit)
{
	bz.h.version = 0x020b;
	bz_refused("without a 64-bit entry");
	bz.h.version = 0;
	bz_refused("without a 64-bit entry");
	bz.h.version = 0x020c;
	ck_ok(load_bz());
	bz.h.xloadflags = 0;
	bz_refused("without a 64-bit entry");
}
END_TEST

START_TEST(bzimage_setup_beyond_the_file)
{
	bz.h.setup_sects = 255;
	bz_refused("truncated");
	bz.h.setup_sects = 2; /* ends behind the file */
	bz_refused("truncated");
	bz.h.setup_sects = 0; /* means 4 */
	bz_refused("truncated");
}
END_TEST

START_TEST(bzimage_shorter_than_it_says)
{
	bz.h.syssize = IMAGE_TEXT / 16 + 1;
	bz_refused("truncated");
	bz.h.syssize = UINT32_MAX;
	bz_refused("truncated");
	bz.h.syssize = 0x10000000; /* 2^32 bytes */
	bz_refused("truncated");
}
END_TEST

START_TEST(bzimage_places)
{
	static const uint64_t high[] = {MEMORY,	    MEMORY - BZ_MEM + 1, 0xfee00000,
					1ull << 32, UINT64_MAX - 0x1000, UINT64_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(high); i++) {
		bz.h.pref_address = high[i];
		bz_refused("does not fit");
	}
	bz.h.pref_address = IMAGE_AT - 1;
	bz_refused("below 1 MiB");
	bz.h.pref_address = 0;
	bz_refused("below 1 MiB");
	bz.h.pref_address = IMAGE_AT;
	bz.h.init_size = UINT32_MAX;
	bz_refused("does not fit");
	bz.h.init_size = MEMORY - IMAGE_AT + 1;
	bz_refused("does not fit");
	bz.h.init_size = MEMORY - IMAGE_AT;
	ck_ok(load_bz());
	bz.h.init_size = 0; /* the file itself still counts */
	ck_ok(load_bz());
	ck_assert_uint_eq(kernel.end, IMAGE_AT + IMAGE_TEXT);
}
END_TEST

START_TEST(bzimage_every_truncation)
{
	for (size_t len = 0; len < sizeof(bz); len++) {
		ck_that(load(&bz, len) == -EINVAL);
		ck_that(strstr(e.text, tmp));
	}
	ck_ok(load_bz());
}
END_TEST

START_TEST(bzimage_every_byte)
{
	spoil_every_byte(&bz, sizeof(bz), offsetof(struct bz_image, h),
			 offsetof(struct bz_image, rest));
}
END_TEST

/* --- files that are no kernel --- */

START_TEST(foreign_files)
{
	static const char script[] = "#!/bin/sh\necho hello\n";
	uint8_t noise[4096];

	ck_refused(load(script, sizeof(script) - 1), EINVAL, "neither an ELF file nor a bzImage");
	fill_pattern(noise, sizeof(noise), 3);
	ck_refused(load(noise, sizeof(noise)), EINVAL, "neither an ELF file nor a bzImage");
	memset(noise, 0, sizeof(noise));
	ck_refused(load(noise, sizeof(noise)), EINVAL, "neither an ELF file nor a bzImage");
	noise[0x1fe] = 0x55; /* a boot sector */
	noise[0x1ff] = 0xaa;
	ck_refused(load(noise, sizeof(noise)), EINVAL, "neither an ELF file nor a bzImage");
	ck_refused(load("", 0), EINVAL, "empty");
}
END_TEST

START_TEST(no_regular_file)
{
	unsigned int fds = open_fds();

	ck_refused(kernel_load(&kernel, tmp_path("nothing"), &mem, &e), ENOENT, "nothing");
	ck_refused(kernel_load(&kernel, "", &mem, &e), ENOENT, "kernel");
	ck_refused(kernel_load(&kernel, tmp, &mem, &e), EINVAL, "not a regular file");
	ck_assert(!mkfifo(tmp_path("fifo"), 0600)); /* opening it must not wait for a writer */
	ck_refused(kernel_load(&kernel, tmp_path("fifo"), &mem, &e), EINVAL, "not a regular file");
	ck_refused(kernel_load(&kernel, "/dev/zero", &mem, &e), EINVAL, "not a regular file");
	ck_refused(kernel_load(&kernel, tmp_path("kernel/x"), &mem, &e), ENOENT, "kernel/x");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* Control characters of a file's name do not reach the terminal. */
START_TEST(name_with_control_characters)
{
	ck_refused(kernel_load(&kernel, "no\x1b[31m\nsuch", &mem, &e), ENOENT, "no?[31m?such");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		elf_with_pvh_note,
		elf_with_32_bit_note,
		elf_without_note,
		elf_with_other_notes,
		elf_notes_that_overrun,
		elf_every_truncation,
		elf_every_byte,
		elf_segment_places,
		elf_segment_sizes,
		elf_empty_segments,
		elf_entry_outside,
		elf_of_another_kind,
		elf_program_header_tables,
		bzimage,
		bzimage_with_a_shorter_header,
		bzimage_too_old_or_32_bit,
		bzimage_setup_beyond_the_file,
		bzimage_shorter_than_it_says,
		bzimage_places,
		bzimage_every_truncation,
		bzimage_every_byte,
		foreign_files,
		no_regular_file,
		name_with_control_characters,
	};

	return run_tests("kernel", tests, ARRAY_SIZE(tests), setup, teardown);
}
