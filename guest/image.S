/* SPDX-License-Identifier: Apache-2.0
 *
 * GUEST_IMAGE is the path of the archive, given by the Makefile.
 */
	.section .rodata
	.balign 4096
	.globl guest_image, guest_image_end
guest_image:
	.incbin GUEST_IMAGE
guest_image_end:

	.section .note.GNU-stack, "", @progbits
