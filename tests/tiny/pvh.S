/* SPDX-License-Identifier: Apache-2.0
 *
 * The note that makes an ELF file a PVH kernel: its 32-bit entry.
 */
	.section .note.xen, "a", @note
	.balign 4
	.long	4			/* name size */
	.long	4			/* descriptor size */
	.long	18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	start32
	.section .note.GNU-stack, "", @progbits
