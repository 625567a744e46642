/* SPDX-License-Identifier: Apache-2.0
 *
 * images: small valid kernel files, for the tests to spoil.
 */
#ifndef UVM_TESTS_IMAGES_H
#define UVM_TESTS_IMAGES_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stdint.h>

#define IMAGE_AT    0x100000u /* where both are loaded */
#define IMAGE_TEXT  256u      /* bytes of either's program */
#define IMAGE_MEM   0x3000u   /* the ELF file's memory there, zero behind the program */
#define IMAGE_ENTRY 0x100010u /* ELF e_entry */
#define IMAGE_PVH   0x100020u /* the note's entry */
#define BZ_MEM	    0x20000u  /* init_size */

/* A note that is not Xen's, then the one with the PVH entry. */
struct elf_notes {
	Elf64_Nhdr other;
	char other_name[8];
	uint8_t other_desc[8];
	Elf64_Nhdr pvh;
	char pvh_name[4];
	uint8_t pvh_entry[8];
} __attribute__((packed));

struct elf_image {
	Elf64_Ehdr h;
	Elf64_Phdr load, note, third; /* the third is of a type that means nothing here */
	struct elf_notes notes;
	uint8_t text[IMAGE_TEXT];
} __attribute__((packed));

struct bz_image {
	uint8_t sector[0x1f1];
	struct setup_header h;
	uint8_t rest[1024 - 0x1f1 - sizeof(struct setup_header)];
	uint8_t text[IMAGE_TEXT];
} __attribute__((packed));

struct elf_image elf_image(void);
struct bz_image bz_image(void);

#endif
