/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases for what a kernel finds at its start: boot structures, memory, ACPI, other vCPUs.
 */
#include "guest.h"

/* --- boot structures --- */

/* Arguments: pvh=, initrd_size=, initrd_sum= (of its bytes, modulo 2^32), memory= (bytes). */
static void boot_info(void)
{
	uint64_t size = argument("initrd_size", 0);
	uint32_t sum = 0;

	expect("entered by PVH", boot.pvh, argument("pvh", 0));
	if (boot.pvh) {
		expect("start_info magic", *(const uint32_t *)boot.raw, 0x336ec578);
		expect("start_info version", *(const uint32_t *)(boot.raw + 4), 1);
	} else {
		expect("boot flag", *(const uint16_t *)(boot.raw + 0x1fe), 0xaa55);
		expect("header magic", *(const uint32_t *)(boot.raw + 0x202), 0x53726448);
		expect("loader type", boot.raw[0x210], 0xff);
	}
	if (!starts_with(boot.cmdline, "console=ttyS0"))
		fail("the command line begins with \"%s\"", boot.cmdline);
	if (!memcmp((const void *)boot.rsdp, "RSD PTR ", 8))
		expect("the RSDP's alignment", boot.rsdp % 16, 0);
	else
		fail("no RSDP at 0x%lx", boot.rsdp);
	if (!expect("size of the initrd", boot.initrd_size, size) || !size)
		return;
	expect("alignment of the initrd", boot.initrd % PAGE, 0);
	for (uint64_t i = 0; i < size; i++)
		sum += ((const uint8_t *)boot.initrd)[i];
	expect("sum of the initrd's bytes", sum, argument("initrd_sum", 0));
}

/* Prints the command line as it came, for the host to compare. */
static void cmdline(void)
{
	print("cmdline %s|\n", boot.cmdline);
}

/* --- memory --- */

static void probe_memory(uint64_t at)
{
	uint64_t before = read64(at);

	write64(at, 0x0123456789abcdef ^ at);
	expect("what was written to memory", read64(at), 0x0123456789abcdef ^ at);
	write64(at, before);
}

static void memory(void)
{
	uint64_t size = argument("memory", 256 << 20), sum = 0;
	uint64_t low = MIN(size, HOLE_START), high = size - low;

	for (unsigned int i = 0; i < boot.map_count; i++) {
		const struct e820 *e = &boot.map[i];

		for (unsigned int k = 0; k < i; k++)
			if (e->start < boot.map[k].start + boot.map[k].size &&
			    boot.map[k].start < e->start + e->size)
				fail("entries %u and %u of the memory map overlap", k, i);
		if (e->type == E820_RAM)
			sum += e->size;
	}
	/* All but the legacy area between 0x9fc00 and 1 MiB. */
	expect("RAM in the map", sum, size - (0x100000 - 0x9fc00));
	expect("end of the low RAM", ram_end_low(), low);
	expect("end of the high RAM", ram_end_high(), high ? HOLE_END + high : 0);
	probe_memory(low - 8);
	write8(low - 1, 0x5a);
	expect("the last byte of low RAM", read8(low - 1), 0x5a);
	if (!high) {
		if (low < HOLE_START)
			expect("behind the last byte", read32(low), 0xffffffff);
		return;
	}
	map_gib(HOLE_END);
	map_gib(HOLE_END + high - 1);
	probe_memory(HOLE_END);
	probe_memory(HOLE_END + high - 8);
	write8(HOLE_END + high - 1, 0xa5);
	expect("the last byte of high RAM", read8(HOLE_END + high - 1), 0xa5);
	expect("the last byte of low RAM, still", read8(low - 1), 0x5a);
}

/* --- ACPI --- */

static uint8_t sum_of(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum += *p++;
	return sum;
}

static uint32_t table_length(const uint8_t *t)
{
	return *(const uint32_t *)(t + 4);
}

static void check_table(const uint8_t *t, const char *signature)
{
	if (memcmp(t, signature, 4))
		fail("expected a table %s at 0x%lx", signature, (uint64_t)t);
	else
		expect(signature, sum_of(t, table_length(t)), 0);
}

/* Counts the names "LNRO0005" in the DSDT: one for each virtio-mmio slot. */
static unsigned int count_virtio(const uint8_t *dsdt)
{
	unsigned int n = 0;

	for (uint32_t i = 36; i + 8 < table_length(dsdt); i++)
		if (dsdt[i] == 'L' && !memcmp(dsdt + i, "LNRO0005", 8))
			n++;
	return n;
}

static void check_madt(const uint8_t *t)
{
	uint64_t cpus = argument("cpus", 1), seen = 0, ioapics = 0;
	uint32_t id = 0;

	check_table(t, "APIC");
	expect("local APIC address", *(const uint32_t *)(t + 36), LAPIC_BASE);
	for (uint32_t at = 44; at < table_length(t); at += t[at + 1]) {
		if (t[at + 1] < 2) {
			fail("an entry of the MADT has length %u", t[at + 1]);
			return;
		}
		if (t[at] == 0) {
			expect("APIC id", t[at + 3], id++);
			seen += *(const uint32_t *)(t + at + 4) & 1;
		}
		ioapics += t[at] == 1;
	}
	expect("enabled CPUs", seen, cpus);
	expect("IOAPICs", ioapics, 1);
}

static void check_fadt(const uint8_t *t)
{
	const uint8_t *dsdt = (const uint8_t *)*(const uint64_t *)(t + 140);

	check_table(t, "FACP");
	expect("hardware-reduced and reset register", *(const uint32_t *)(t + 112) >> 10 & 0x401,
	       0x401);
	expect("reset register's port", *(const uint64_t *)(t + 120), PORT_RESET);
	expect("sleep control's port", *(const uint64_t *)(t + 248), PORT_SLEEP);
	check_table(dsdt, "DSDT");
	expect("virtio devices in the DSDT", count_virtio(dsdt), argument("virtio", 2));
}

static void acpi(void)
{
	const uint8_t *rsdp = (const uint8_t *)boot.rsdp, *xsdt;
	unsigned int fadts = 0, madts = 0;

	if (memcmp(rsdp, "RSD PTR ", 8)) {
		fail("no RSDP at 0x%lx", boot.rsdp);
		return;
	}
	expect("the RSDP's checksum", sum_of(rsdp, 20), 0);
	expect("the RSDP's extended checksum", sum_of(rsdp, 36), 0);
	xsdt = (const uint8_t *)*(const uint64_t *)(rsdp + 24);
	check_table(xsdt, "XSDT");
	for (uint32_t at = 36; at < table_length(xsdt); at += 8) {
		const uint8_t *t = (const uint8_t *)*(const uint64_t *)(xsdt + at);

		if (!memcmp(t, "FACP", 4)) {
			fadts++;
			check_fadt(t);
		} else if (!memcmp(t, "APIC", 4)) {
			madts++;
			check_madt(t);
		}
	}
	expect("FADTs", fadts, 1);
	expect("MADTs", madts, 1);
}

/* --- vCPUs --- */

static uint32_t cpuid_ebx(uint32_t leaf, uint32_t *eax, uint32_t *ecx)
{
	uint32_t b, d;

	__asm__ volatile("cpuid" : "+a"(*eax), "=b"(b), "+c"(*ecx), "=d"(d) : "a"(leaf));
	return b;
}

static uint32_t apic_id(void)
{
	uint32_t a = 1, c = 0;

	return cpuid_ebx(1, &a, &c) >> 24;
}

static void note_id(void *arg)
{
	__atomic_store_n((uint32_t *)arg, apic_id(), __ATOMIC_RELEASE);
}

/* Every other vCPU starts by INIT and SIPI, one after the other, and knows its own number. */
static void smp(void)
{
	uint64_t cpus = argument("cpus", 1);

	expect("this CPU's APIC id", apic_id(), 0);
	for (uint8_t i = 1; i < cpus; i++) {
		struct deadline d = deadline();
		uint32_t seen = UINT32_MAX;

		if (!start_cpu(i, note_id, &seen)) {
			fail("vCPU %u did not start within some seconds", i);
			return;
		}
		while (__atomic_load_n(&seen, __ATOMIC_ACQUIRE) == UINT32_MAX && !expired(&d))
			;
		expect("APIC id of a started vCPU", seen, i);
	}
}

const struct test_case boot_cases[] = {
	{"boot-info", boot_info},
	{"cmdline", cmdline},
	{"memory", memory},
	{"acpi", acpi},
	{"smp", smp},
	{0},
};
