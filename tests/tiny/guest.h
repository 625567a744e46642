/* SPDX-License-Identifier: Apache-2.0
 *
 * guest: what a tiny guest stands on: ports, memory, a console, what the boot protocol told it,
 * and its way to report.
 *
 * A guest is one of a few ELF files with a table of cases. "case=NAME" on the kernel command line
 * chooses, "case=PREFIX*" chooses several. On the console each says "pass NAME" or "fail NAME:
 * expected ..., seen ...", and the guest switches itself off at the end. Where a KVM runs
 * kernel mode through an instruction emulator an instruction costs a microsecond: loops here are
 * short, long copies are string instructions, nothing needs interrupts or vector registers.
 */
#ifndef TINY_GUEST_H
#define TINY_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))

/* --- the machine, as the tests know it: a second description, on purpose not vmm/layout.h --- */

#define COM1		0x3f8
#define PORT_SLEEP	0x600 /* ACPI sleep control; SLP_EN and type 5 in one byte */
#define PORT_RESET	0x602
#define PORT_PVPANIC	0x505
#define PORT_KBD	0x64
#define VIRTIO_BASE	0xd0000000ull
#define VIRTIO_SLOT	0x1000ull
#define LAPIC_BASE	0xfee00000ull
#define HOLE_START	0xc0000000ull
#define HOLE_END	0x100000000ull
#define PAGE		4096ull

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

/* One load or store of exactly this width, with a plain mov, which every emulator has. */
#define DEFINE_MMIO(bits, constraint)                                                              \
	static inline uint##bits##_t read##bits(uint64_t at)                                       \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		__asm__ volatile("mov %1, %0"                                                      \
				 : "=" constraint(v)                                               \
				 : "m"(*(volatile uint##bits##_t *)at)                             \
				 : "memory");                                                      \
		return v;                                                                          \
	}                                                                                          \
	static inline void write##bits(uint64_t at, uint##bits##_t v)                              \
	{                                                                                          \
		__asm__ volatile("mov %1, %0"                                                      \
				 : "=m"(*(volatile uint##bits##_t *)at)                            \
				 : constraint(v)                                                   \
				 : "memory");                                                      \
	}
DEFINE_MMIO(8, "q")
DEFINE_MMIO(16, "r")
DEFINE_MMIO(32, "r")
DEFINE_MMIO(64, "r")

/* An access of a width that is known at run time: 1, 2, 4 or 8 bytes. */
uint64_t read_width(uint64_t at, unsigned int width);
void write_width(uint64_t at, unsigned int width, uint64_t v);

/* A locked operation orders loads and stores as mfence does, which emulators lack. */
static inline void barrier(void)
{
	__asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int v, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
bool starts_with(const char *s, const char *prefix);

/* --- console: the serial port, polled --- */

void print_char(char c);
__attribute__((format(printf, 1, 2))) void print(const char *fmt, ...); /* %s %c %u %d %x %lx %lu %% */
bool serial_ready(void); /* a byte has come in */
uint8_t serial_get(void);  /* waits for it */

/* --- ends --- */

__attribute__((noreturn)) void power_off(void);
__attribute__((noreturn)) void halt(void);

/* --- what the boot protocol told --- */

struct e820 {
	uint64_t start, size;
	uint32_t type;
};
#define E820_RAM 1

struct boot {
	bool pvh;
	const uint8_t *raw; /* boot_params or hvm_start_info */
	const char *cmdline;
	uint64_t rsdp, initrd, initrd_size;
	struct e820 map[16];
	unsigned int map_count;
};

extern struct boot boot;

/* The number of "name=N" on the command line (the last one counts), decimal or 0x; or fallback. */
uint64_t argument(const char *name, uint64_t fallback);

/* The end of RAM below the hole, and above it (0: none there). */
uint64_t ram_end_low(void), ram_end_high(void);

/* Maps the 1 GiB at this address one to one; the first 4 GiB are. */
void map_gib(uint64_t at);

/* --- waiting: bounded, for events only --- */

struct deadline {
	uint64_t start;
};
struct deadline deadline(void);
bool expired(const struct deadline *d); /* after some seconds */

/* --- a second vCPU --- */

/* Starts the vCPU of this APIC id, which runs fn(arg) once. Returns false if it does not come. */
bool start_cpu(uint8_t apic_id, void (*fn)(void *), void *arg);

/* --- vector registers, see vectors.c --- */

bool vectors_possible(void);
void vectors_run(void *unused); /* for start_cpu */
extern volatile uint64_t vectors_rounds;
extern volatile bool vectors_changed; /* a register was not as it had been left */

/* --- cases --- */

struct test_case {
	const char *name;
	void (*run)(void);
};

/* The tables, each ended by an empty name. */
extern const struct test_case basic_cases[], boot_cases[], blk_cases[], vsock_cases[],
	balloon_cases[], net_cases[], snapshot_cases[], interrupt_cases[];

/* Tables whose cases are not one function each; they call begin() for every case. */
void packet_cases(void), ring_cases(void);

/* Whether the command line chose this case; if so, it is the current one from here on, and the
 * one before is reported as passed if it has not failed.
 */
bool begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Reports the current case as failed (the first failure of a case counts) or skipped. */
__attribute__((format(printf, 1, 2))) void fail(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void skip(const char *fmt, ...);
bool failed(void);

/* Fails unless seen is what was expected; what names it. Returns whether it was. */
bool expect(const char *what, uint64_t seen, uint64_t expected);

#endif
