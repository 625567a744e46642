/* SPDX-License-Identifier: Apache-2.0
 *
 * A vCPU that keeps its 16 YMM registers full, to freeze, clone and fork. It does so in user mode:
 * where a KVM runs kernel mode through an instruction emulator there are no vector instructions,
 * but user mode runs as it is. It never comes back (such a KVM takes the ports from user mode), so
 * another vCPU tells how it goes.
 */
#include "guest.h"

#define CR0_MP	    (1ull << 1)
#define CR0_EM	    (1ull << 2)
#define CR0_TS	    (1ull << 3)
#define CR4_FXSR    (1ull << 9)
#define CR4_XMM	    (1ull << 10)
#define CR4_XSAVE   (1ull << 18)
#define CPUID_XSAVE (1u << 26) /* leaf 1, ecx */
#define CPUID_AVX   (1u << 28)
#define XCR0_AVX    7u /* with SSE and x87, which it needs */
#define PTE_USER    4ull

#define USER_DATA   0x1bu
#define USER_CODE64 0x23u

static const uint64_t gdt[] = {
	0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff,
};

volatile uint64_t vectors_rounds;
volatile bool vectors_changed;

static uint8_t stack[4096] __attribute__((aligned(16)));
static uint8_t in[16 * 32], out[16 * 32];

#define ALL(x)	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define FILL(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n"
#define DUMP(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n"

/* Most of a round is the loop between: that is where the vCPU is stopped. */
static void keep_registers(void)
{
	for (;;) {
		uint64_t turns = 1000000;

		for (unsigned int i = 0; i < sizeof(in); i++)
			in[i] = (uint8_t)(vectors_rounds * 31 + i * 7 + i / 32);
		memset(out, 0, sizeof(out));
		__asm__ volatile(ALL(FILL) "1: dec %[turns]\n"
					   "jnz 1b\n" ALL(DUMP)
				 : [turns] "+r"(turns)
				 : [in] "r"(in), [out] "r"(out)
				 : "memory", "cc");
		if (memcmp(in, out, sizeof(in)))
			vectors_changed = true;
		vectors_rounds = vectors_rounds + 1;
	}
}

bool vectors_possible(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return c & CPUID_XSAVE && c & CPUID_AVX;
}

static void allow_avx(void)
{
	uint64_t cr0, cr4;

	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %0, %%cr0" : : "r"((cr0 | CR0_MP) & ~(CR0_EM | CR0_TS)));
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_FXSR | CR4_XMM | CR4_XSAVE));
	__asm__ volatile("xsetbv" : : "c"(0), "a"(XCR0_AVX), "d"(0));
}

/* The first 2 MiB, where this guest lies. */
static void open_memory(void)
{
	uint64_t *table, cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	table = (uint64_t *)cr3;
	for (unsigned int level = 0; level < 3; level++) {
		table[0] |= PTE_USER;
		table = (uint64_t *)(table[0] & ~0xfffull);
	}
	__asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

void vectors_run(void *unused)
{
	const struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
	/* As a call leaves it. Flags: the bit that is always set. */
	const uint64_t frame[] = {(uint64_t)keep_registers, USER_CODE64, 2,
				  (uint64_t)(stack + sizeof(stack) - 8), USER_DATA};

	(void)unused;
	allow_avx();
	open_memory();
	__asm__ volatile("lgdt %0\n"
			 "mov %1, %%rsp\n"
			 "iretq"
			 :
			 : "m"(gdtr), "r"(frame), "m"(frame));
	__builtin_unreachable();
}
