/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of the tiny guests: the Linux 64-bit boot protocol, PVH (32-bit, no paging), and the
 * start of a second vCPU (real mode). All end in C on a stack of their own, in long mode with the
 * first 4 GiB mapped one to one.
 */
#define CR0_PE	 0x1
#define CR0_PG	 0x80000000
#define CR4_PAE	 0x20
#define EFER	 0xc0000080
#define EFER_LME 0x100
#define PD_LARGE 0x83 /* present, writable, 2 MiB */
#define CODE64	 0x08
#define CODE32	 0x10
#define DATA	 0x18

	.section .text.start, "ax"
	.code64
	.globl start64
start64:
	lea	stack_top(%rip), %rsp
	xor	%edi, %edi		/* not PVH */
	call	guest_main		/* rsi: boot_params */
1:	hlt
	jmp	1b

	.code32
	.globl start32
start32:
	mov	$stack_top, %esp
	mov	$pd, %edi		/* four page directories: 2048 pages of 2 MiB */
	mov	$PD_LARGE, %eax
	mov	$2048, %ecx
1:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	dec	%ecx
	jnz	1b
	movl	$pd + 0x0003, pdpt
	movl	$pd + 0x1003, pdpt + 8
	movl	$pd + 0x2003, pdpt + 16
	movl	$pd + 0x3003, pdpt + 24
	movl	$pdpt + 3, pml4
	call	enter_long_mode
	ljmp	$CODE64, $2f
	.code64
2:	lea	stack_top(%rip), %rsp
	mov	%ebx, %esi		/* hvm_start_info */
	mov	$1, %edi
	call	guest_main
3:	hlt
	jmp	3b

	/* Paging on, with pml4; keeps ebx. */
	.code32
enter_long_mode:
	lgdt	gdt_pointer
	mov	$pml4, %eax
	jmp	4f
	/* The same with the tables whose address is in eax. */
enter_long_mode_with:
	lgdt	gdt_pointer
4:	pop	%esi			/* the stack is good for nothing more */
	mov	%eax, %cr3
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0_PE | CR0_PG, %eax
	mov	%eax, %cr0
	jmp	*%esi

	/* A second vCPU begins here, copied to a page below 640 KiB: real mode, cs = page >> 4.
	 * ap_cr3 says which tables to use.
	 */
	.code16
	.globl ap_start, ap_end
ap_start:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_start
	mov	$CR0_PE, %eax
	mov	%eax, %cr0
	ljmpl	$CODE32, $ap_32
	.balign 4
ap_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_end:

	.code32
ap_32:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$ap_stack_top, %esp
	mov	ap_cr3, %eax
	call	enter_long_mode_with
	ljmp	$CODE64, $5f
	.code64
5:	lea	ap_stack_top(%rip), %rsp
	call	ap_main
6:	hlt
	jmp	6b

	.section .data
	.balign 8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* CODE64 */
	.quad	0x00cf9b000000ffff	/* CODE32 */
	.quad	0x00cf93000000ffff	/* DATA */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
	.balign 4
	.globl ap_cr3
ap_cr3:	.long	0

	.section .bss
	.balign 4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4 * 4096
	.skip	16384
stack_top:
	.skip	8192
ap_stack_top:
	.section .note.GNU-stack, "", @progbits
