/* SPDX-License-Identifier: Apache-2.0
 *
 * What a processor owes who turns interrupts off: none until they are on again, and, after an STI,
 * none before the instruction behind it has been executed. Kernels are built on both: the first
 * keeps a handler from waiting for a lock that the code under it holds, the second a processor from
 * going to sleep on an event that it has just been told of.
 *
 * Not for a KVM that runs kernel mode through an instruction emulator, which has no iretq.
 */
#include "guest.h"

#define VECTOR		0x40u
#define SPURIOUS_VECTOR 0xffu
#define GATE_PRESENT	0x8e00u /* an interrupt gate: entered with interrupts off */
#define APIC_ENABLED	0x100u
#define LAPIC_EOI	(LAPIC_BASE + 0xb0)
#define LAPIC_SPURIOUS	(LAPIC_BASE + 0xf0)
#define LAPIC_LVT_TIMER (LAPIC_BASE + 0x320)
#define LAPIC_INITIAL	(LAPIC_BASE + 0x380)
#define LAPIC_DIVIDE	(LAPIC_BASE + 0x3e0)
#define DIVIDE_BY_1	0xbu
/* Of the local APIC's clock, which KVM lets run at 1 GHz: 30 microseconds. */
#define PERIOD 30000u
/* Of a loop in the handler: interrupts are off most of the time. */
#define OFF_TURNS 40000u

static volatile uint64_t taken, inside, nested, shadowed, wanted;

extern const char behind_sti[];
void timer_entry(void);
void spurious_entry(void);
void timer_interrupt(const uint64_t *frame);

__asm__(".text\n"
	"timer_entry:\n"
	"push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n"
	"push %r8; push %r9; push %r10; push %r11\n"
	"lea 72(%rsp), %rdi\n"
	"mov %rsp, %rax\n"
	"and $-16, %rsp\n"
	"push %rax; push %rax\n"
	"call timer_interrupt\n"
	"pop %rsp\n"
	"pop %r11; pop %r10; pop %r9; pop %r8\n"
	"pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n"
	"spurious_entry:\n"
	"iretq\n");

/* frame: rip, cs, flags, rsp, ss. Until the timer is set anew there is no exit from the guest in
 * here, so what happens to the processor below it while this runs happens to a guest that has
 * interrupts off.
 */
void timer_interrupt(const uint64_t *frame)
{
	nested += inside;
	inside = 1;
	shadowed += frame[0] == (uint64_t)behind_sti;
	taken = taken + 1;
	for (volatile uint32_t i = 0; i < OFF_TURNS; i++)
		;
	inside = 0;
	if (taken < wanted && !nested)
		write32(LAPIC_INITIAL, PERIOD);
	write32(LAPIC_EOI, 0);
}

static void set_gate(uint64_t idt[512], unsigned int vector, void (*entry)(void))
{
	uint64_t at = (uint64_t)entry;
	uint16_t cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	idt[2 * vector] = (at & 0xffff) | (uint64_t)cs << 16 | (uint64_t)GATE_PRESENT << 32 |
			  (at >> 16 & 0xffff) << 48;
	idt[2 * vector + 1] = at >> 32;
}

static void start_timer(void)
{
	static uint64_t idt[512];
	const struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} idtr = {sizeof(idt) - 1, (uint64_t)idt};

	set_gate(idt, VECTOR, timer_entry);
	set_gate(idt, SPURIOUS_VECTOR, spurious_entry);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	write32(LAPIC_SPURIOUS, APIC_ENABLED | SPURIOUS_VECTOR);
	write32(LAPIC_DIVIDE, DIVIDE_BY_1);
	write32(LAPIC_LVT_TIMER, VECTOR);
	write32(LAPIC_INITIAL, PERIOD);
}

/* Interrupts are let in by STIs alone, one instruction at a time. */
static void open_and_close(void)
{
	__asm__ volatile("sti\n"
			 ".globl behind_sti\n"
			 "behind_sti: nop\n"
			 "nop\n"
			 "cli"
			 :
			 :
			 : "memory");
}

static void take_interrupts(void)
{
	struct deadline d = deadline();

	wanted = argument("count", 200);
	start_timer();
	while (taken < wanted && !nested && !expired(&d))
		open_and_close();
	if (!taken)
		fail("the timer does not interrupt");
}

static void off(void)
{
	take_interrupts();
	expect("interrupts taken while they were off", nested, 0);
}

static void shadow(void)
{
	take_interrupts();
	expect("interrupts taken right behind sti", shadowed, 0);
}

const struct test_case interrupt_cases[] = {
	{"interrupts-off", off}, {"interrupts-shadow", shadow}, {0}};
