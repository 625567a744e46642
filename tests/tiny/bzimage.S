/* SPDX-License-Identifier: Apache-2.0
 *
 * A bzImage around the tiny guest: one sector of boot code that is never run, the setup header
 * in its place (Documentation/arch/x86/boot.rst), one sector of setup, then the protected-mode
 * part, whose 64-bit entry lies 0x200 behind its start. GUEST is the guest as a flat binary
 * that runs at 1 MiB; the part is loaded at 2 MiB and moves it there.
 */
#define LOADED_AT 0x200000
#define GUEST_AT  0x100000

	.text
	.code64
image:
	.org	0x1f1
	.byte	1			/* setup_sects */
	.word	0
	.long	(payload_end - payload + 15) / 16 /* syssize */
	.word	0, 0, 0
	.word	0xaa55			/* boot_flag */
	.byte	0xeb, header_end - jump_end /* jump */
jump_end:
	.ascii	"HdrS"
	.word	0x020c			/* version: the first with a 64-bit entry */
	.org	0x211
	.byte	1			/* loadflags: LOADED_HIGH */
	.org	0x22c
	.long	0x7fffffff		/* initrd_addr_max */
	.long	0x200000		/* kernel_alignment */
	.byte	0, 21			/* relocatable_kernel, min_alignment */
	.word	1			/* xloadflags: XLF_KERNEL_64 */
	.long	0x7ff			/* cmdline_size */
	.org	0x258
	.quad	LOADED_AT		/* pref_address */
	.long	payload_end - payload + 4096 /* init_size */
	.long	0
header_end:
	.org	0x400
payload:
	.org	0x600
	mov	%rsi, %rdx
	lea	guest(%rip), %rsi
	mov	$GUEST_AT, %edi
	mov	$(guest_end - guest + 7) / 8, %ecx
	rep movsq
	mov	%rdx, %rsi
	mov	$GUEST_AT, %eax
	jmp	*%rax
	.balign 8
guest:	.incbin	GUEST
	.balign 16
guest_end:
payload_end:
	.section .note.GNU-stack, "", @progbits
