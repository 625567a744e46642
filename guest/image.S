/* SPDX-License-Identifier: Apache-2.0
 *
 * GUEST_IMAGE is the path of the archive, and GUEST_IMAGE_SUM a sum of it, given by the Makefile.
 */
	.section .rodata
	.balign 4096
	.globl guest_image, guest_image_end
guest_image:
	.incbin GUEST_IMAGE
guest_image_end:
	.balign 8
	.globl guest_image_sum
guest_image_sum:
	.quad GUEST_IMAGE_SUM

	.section .note.GNU-stack, "", @progbits
