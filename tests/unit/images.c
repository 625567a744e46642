/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/images.h"

#include <stddef.h>
#include <string.h>

#include "tests/unit/util.h"

struct elf_image elf_image(void)
{
	struct elf_image i = {
		.h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				  EV_CURRENT},
		      .e_type = ET_EXEC,
		      .e_machine = EM_X86_64,
		      .e_version = EV_CURRENT,
		      .e_entry = IMAGE_ENTRY,
		      .e_phoff = offsetof(struct elf_image, load),
		      .e_ehsize = sizeof(Elf64_Ehdr),
		      .e_phentsize = sizeof(Elf64_Phdr),
		      .e_phnum = 3},
		.load = {.p_type = PT_LOAD,
			 .p_flags = PF_R | PF_X,
			 .p_offset = offsetof(struct elf_image, text),
			 .p_vaddr = 0xffffffff81000000,
			 .p_paddr = IMAGE_AT,
			 .p_filesz = IMAGE_TEXT,
			 .p_memsz = IMAGE_MEM,
			 .p_align = 4096},
		.note = {.p_type = PT_NOTE,
			 .p_offset = offsetof(struct elf_image, notes),
			 .p_filesz = sizeof(struct elf_notes),
			 .p_memsz = sizeof(struct elf_notes)},
		.third = {.p_type = PT_GNU_STACK},
		.notes = {.other = {.n_namesz = 6, .n_descsz = 5, .n_type = 18},
			  .other_name = "Other",
			  .pvh = {.n_namesz = 4, .n_descsz = 8, .n_type = 18},
			  .pvh_name = "Xen"},
	};
	const uint64_t entry = IMAGE_PVH;

	memcpy(i.notes.pvh_entry, &entry, sizeof(entry));
	fill_pattern(i.text, sizeof(i.text), 1);
	return i;
}

struct bz_image bz_image(void)
{
	struct bz_image i = {
		.h = {.setup_sects = 1,
		      .syssize = IMAGE_TEXT / 16,
		      .boot_flag = 0xaa55,
		      .jump = 0xeb | (0x1f1 + sizeof(struct setup_header) - 0x202) << 8,
		      .header = 0x53726448,
		      .version = 0x020f,
		      .loadflags = LOADED_HIGH,
		      .initrd_addr_max = 0x37ffffff,
		      .kernel_alignment = 0x200000,
		      .xloadflags = XLF_KERNEL_64,
		      .cmdline_size = 2047,
		      .pref_address = IMAGE_AT,
		      .init_size = BZ_MEM},
	};

	fill_pattern(i.text, sizeof(i.text), 2);
	return i;
}
