/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

struct boot boot;

/* --- what a compiler expects of a libc --- */

void *memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int v, size_t n)
{
	void *d = to;
	size_t words = n / 8, rest = n % 8;

	__asm__ volatile("rep stosq"
			 : "+D"(d), "+c"(words)
			 : "a"((uint8_t)v * 0x0101010101010101ull)
			 : "memory");
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(rest) : "a"(v) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	if (!n)
		return 0;
	__asm__ volatile("repe cmpsb" : "+S"(x), "+D"(y), "+c"(n) : : "memory", "cc");
	return x[-1] - y[-1];
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

bool starts_with(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

uint64_t read_width(uint64_t at, unsigned int width)
{
	switch (width) {
	case 1: return read8(at);
	case 2: return read16(at);
	case 4: return read32(at);
	default: return read64(at);
	}
}

void write_width(uint64_t at, unsigned int width, uint64_t v)
{
	switch (width) {
	case 1: write8(at, (uint8_t)v); break;
	case 2: write16(at, (uint16_t)v); break;
	case 4: write32(at, (uint32_t)v); break;
	default: write64(at, v);
	}
}

/* --- console --- */

/* Not waiting for the transmitter: uvm's is always empty, and each look costs an exit. */
void print_char(char c)
{
	outb(COM1, (uint8_t)c);
}

static void print_string(const char *s)
{
	size_t n = strlen(s);

	__asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(COM1) : "memory");
}

static void print_number(uint64_t v, unsigned int base)
{
	char text[24];
	unsigned int i = sizeof(text) - 1;

	text[i] = 0;
	do
		text[--i] = "0123456789abcdef"[v % base];
	while (v /= base);
	print_string(text + i);
}

static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		bool wide = false;
		uint64_t v;

		if (*fmt != '%') {
			print_char(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == 'l') {
			wide = true;
			fmt++;
		}
		switch (*fmt) {
		case 's': print_string(va_arg(ap, const char *)); break;
		case 'c': print_char((char)va_arg(ap, int)); break;
		case '%': print_char('%'); break;
		case 'd':
		case 'u':
		case 'x':
			v = wide ? va_arg(ap, uint64_t) : va_arg(ap, uint32_t);
			print_number(v, *fmt == 'x' ? 16 : 10);
			break;
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

bool serial_ready(void)
{
	return inb(COM1 + 5) & 1;
}

uint8_t serial_get(void)
{
	while (!serial_ready())
		;
	return inb(COM1);
}

/* --- ends --- */

void halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

void power_off(void)
{
	outb(PORT_SLEEP, 1 << 5 | 5 << 2);
	halt();
}

/* --- the boot protocol --- */

/* Offsets in struct boot_params (Documentation/arch/x86/zero-page.rst). */
#define BP_RSDP	       0x070
#define BP_E820_COUNT  0x1e8
#define BP_RAMDISK     0x218
#define BP_RAMDISK_LEN 0x21c
#define BP_CMDLINE     0x228
#define BP_E820	       0x2d0
#define BP_E820_SIZE   20

static void read_boot_params(const uint8_t *p)
{
	boot.cmdline = (const char *)(uint64_t) * (const uint32_t *)(p + BP_CMDLINE);
	boot.rsdp = *(const uint64_t *)(p + BP_RSDP);
	boot.initrd = *(const uint32_t *)(p + BP_RAMDISK);
	boot.initrd_size = *(const uint32_t *)(p + BP_RAMDISK_LEN);
	boot.map_count = MIN(p[BP_E820_COUNT], ARRAY_SIZE(boot.map));
	for (unsigned int i = 0; i < boot.map_count; i++) {
		const uint8_t *e = p + BP_E820 + i * BP_E820_SIZE;

		boot.map[i] = (struct e820){*(const uint64_t *)e, *(const uint64_t *)(e + 8),
					    *(const uint32_t *)(e + 16)};
	}
}

/* Offsets in struct hvm_start_info and what it points to (Xen's start_info.h). */
#define SI_MODULES   12
#define SI_MODLIST   16
#define SI_CMDLINE   24
#define SI_RSDP	     32
#define SI_MAP	     40
#define SI_MAP_COUNT 48
#define SI_MAP_SIZE  24

static void read_start_info(const uint8_t *p)
{
	boot.cmdline = (const char *)*(const uint64_t *)(p + SI_CMDLINE);
	boot.rsdp = *(const uint64_t *)(p + SI_RSDP);
	if (*(const uint32_t *)(p + SI_MODULES)) {
		const uint64_t *m = (const uint64_t *)*(const uint64_t *)(p + SI_MODLIST);

		boot.initrd = m[0];
		boot.initrd_size = m[1];
	}
	boot.map_count = MIN(*(const uint32_t *)(p + SI_MAP_COUNT), (uint32_t)ARRAY_SIZE(boot.map));
	for (unsigned int i = 0; i < boot.map_count; i++) {
		const uint8_t *e = (const uint8_t *)*(const uint64_t *)(p + SI_MAP) + i * SI_MAP_SIZE;

		boot.map[i] = (struct e820){*(const uint64_t *)e, *(const uint64_t *)(e + 8),
					    *(const uint32_t *)(e + 16)};
	}
}

/* What follows "name=" on the command line, the last one; or NULL. */
static const char *find_argument(const char *name)
{
	const char *found = NULL;
	size_t len = strlen(name);

	for (const char *p = boot.cmdline; *p; p++)
		if ((p == boot.cmdline || p[-1] == ' ') && starts_with(p, name) && p[len] == '=')
			found = p + len + 1;
	return found;
}

uint64_t argument(const char *name, uint64_t fallback)
{
	const char *p = find_argument(name);
	unsigned int base = 10;
	uint64_t v = 0;

	if (!p)
		return fallback;
	if (starts_with(p, "0x")) {
		base = 16;
		p += 2;
	}
	for (; *p && *p != ' '; p++)
		v = v * base + (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	return v;
}

static uint64_t ram_end(uint64_t from, uint64_t to)
{
	uint64_t end = 0;

	for (unsigned int i = 0; i < boot.map_count; i++) {
		const struct e820 *e = &boot.map[i];

		if (e->type == E820_RAM && e->start >= from && e->start < to &&
		    e->start + e->size > end)
			end = e->start + e->size;
	}
	return end;
}

uint64_t ram_end_low(void)
{
	return ram_end(0, HOLE_START);
}

uint64_t ram_end_high(void)
{
	return ram_end(HOLE_END, UINT64_MAX);
}

void map_gib(uint64_t at)
{
	static uint64_t pd[2][512] __attribute__((aligned(4096)));
	static unsigned int used;
	uint64_t *pml4, *pdpt;

	__asm__ volatile("mov %%cr3, %0" : "=r"(pml4));
	pdpt = (uint64_t *)(pml4[0] & ~0xfffull);
	at >>= 30;
	if (pdpt[at] & 1)
		return;
	for (uint64_t i = 0; i < 512; i++)
		pd[used][i] = at << 30 | i << 21 | 0x83; /* present, writable, 2 MiB */
	pdpt[at] = (uint64_t)pd[used++] | 3;
	__asm__ volatile("mov %0, %%cr3" : : "r"(pml4) : "memory");
}

/* --- waiting --- */

struct deadline deadline(void)
{
	return (struct deadline){rdtsc()};
}

bool expired(const struct deadline *d)
{
	return rdtsc() - d->start > 20000000000ull; /* 5 to 10 s on any CPU */
}

/* --- a second vCPU --- */

#define AP_PAGE	     0x70000ull /* free low memory, which a SIPI can reach */
#define ICR_LOW	     0x300
#define ICR_HIGH     0x310
#define ICR_PENDING  (1u << 12)
#define ICR_INIT     0x4500u
#define ICR_STARTUP  0x4600u
#define SPURIOUS     0xf0
#define APIC_ENABLED 0x1ffu

extern const uint8_t ap_start[], ap_end[];
extern uint32_t ap_cr3;
void ap_main(void);

static struct {
	void (*fn)(void *);
	void *arg;
	bool alive; /* atomic */
} second;

void ap_main(void)
{
	__atomic_store_n(&second.alive, true, __ATOMIC_RELEASE);
	second.fn(second.arg);
	halt();
}

static void send_ipi(uint8_t apic_id, uint32_t command)
{
	write32(LAPIC_BASE + ICR_HIGH, (uint32_t)apic_id << 24);
	write32(LAPIC_BASE + ICR_LOW, command);
	while (read32(LAPIC_BASE + ICR_LOW) & ICR_PENDING)
		;
}

bool start_cpu(uint8_t apic_id, void (*fn)(void *), void *arg)
{
	struct deadline d = deadline();
	uint64_t cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	ap_cr3 = (uint32_t)cr3;
	second.fn = fn;
	second.arg = arg;
	second.alive = false;
	memcpy((void *)AP_PAGE, ap_start, (size_t)(ap_end - ap_start));
	write32(LAPIC_BASE + SPURIOUS, APIC_ENABLED);
	send_ipi(apic_id, ICR_INIT);
	send_ipi(apic_id, ICR_STARTUP | AP_PAGE >> 12);
	while (!__atomic_load_n(&second.alive, __ATOMIC_ACQUIRE))
		if (expired(&d))
			return false;
	return true;
}

/* --- cases --- */

static struct {
	const char *pattern; /* of the command line, up to a blank */
	char name[64];	     /* of the current case; empty: none */
	enum { RUNNING, FAILED, SKIPPED } state;
	unsigned int count;
} run;

/* Formats a name: %s and %u. */
static void format_name(char *to, size_t size, const char *fmt, va_list ap)
{
	size_t n = 0;

	for (; *fmt; fmt++) {
		const char *s;

		if (fmt[0] != '%' || fmt[1] != 's') {
			if (n + 1 < size)
				to[n++] = *fmt;
			continue;
		}
		fmt++;
		for (s = va_arg(ap, const char *); *s && n + 1 < size; s++)
			to[n++] = *s;
	}
	to[n] = 0;
}

static void finish(void)
{
	if (*run.name && run.state == RUNNING)
		print("pass %s\n", run.name);
	*run.name = 0;
}

static bool chosen(const char *name)
{
	const char *p = run.pattern;

	for (; *p && *p != ' '; p++, name++) {
		if (*p == '*')
			return true;
		if (*p != *name)
			return false;
	}
	return !*name;
}

bool begin(const char *fmt, ...)
{
	char name[sizeof(run.name)];
	va_list ap;

	va_start(ap, fmt);
	format_name(name, sizeof(name), fmt, ap);
	va_end(ap);
	if (!chosen(name))
		return false;
	finish();
	memcpy(run.name, name, sizeof(name));
	run.state = RUNNING;
	run.count++;
	if (argument("verbose", 0))
		print("begin %s\n", name);
	return true;
}

bool failed(void)
{
	return run.state == FAILED;
}

void fail(const char *fmt, ...)
{
	va_list ap;

	if (run.state != RUNNING)
		return;
	run.state = FAILED;
	print("fail %s: ", run.name);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print_char('\n');
}

void skip(const char *fmt, ...)
{
	va_list ap;

	if (run.state != RUNNING)
		return;
	run.state = SKIPPED;
	print("skip %s: ", run.name);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print_char('\n');
}

bool expect(const char *what, uint64_t seen, uint64_t expected)
{
	if (seen != expected)
		fail("%s: expected 0x%lx, seen 0x%lx", what, expected, seen);
	return seen == expected;
}

static void run_table(const struct test_case *t)
{
	for (; t->name; t++)
		if (begin("%s", t->name))
			t->run();
}

/* The entry stubs' call. */
void guest_main(bool pvh, const uint8_t *info);
void guest_main(bool pvh, const uint8_t *info)
{
	boot.pvh = pvh;
	boot.raw = info;
	if (pvh)
		read_start_info(info);
	else
		read_boot_params(info);
	run.pattern = find_argument("case");
	if (!run.pattern)
		run.pattern = "hello";
	run_table(basic_cases);
	run_table(boot_cases);
	run_table(snapshot_cases);
	run_table(blk_cases);
	run_table(vsock_cases);
	run_table(balloon_cases);
	run_table(net_cases);
	run_table(interrupt_cases);
	packet_cases();
	ring_cases();
	finish();
	print("end %u\n", run.count);
	power_off();
}
