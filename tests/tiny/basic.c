/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases for the console, the ways in which a VM ends, and accesses to nothing.
 */
#include "guest.h"

static void hello(void)
{
	print("hello from a tiny guest\n");
}

/* --- ends: none of these returns to print "pass" --- */

/* The monitor stops a vCPU soon, not at the instruction. */
static void not_ended(const char *how)
{
	for (struct deadline d = deadline(); !expired(&d);)
		__asm__ volatile("pause");
	fail("%s did not end the VM", how);
}

static void reset_acpi(void)
{
	outb(PORT_RESET, 1);
	not_ended("the ACPI reset register");
}

static void reset_kbd(void)
{
	outb(PORT_KBD, 0xfe);
	not_ended("the keyboard controller's reset");
}

static void reset_triple(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) no_idt;

	__asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
	not_ended("a triple fault");
}

static void panic(void)
{
	outb(PORT_PVPANIC, 1);
	not_ended("the panic port");
}

/* Bits that are not "panicked", and a crash kernel's own event, end nothing. */
static void panic_other(void)
{
	expect("the panic port's events", inb(PORT_PVPANIC) & 1, 1);
	outb(PORT_PVPANIC, 0);
	outb(PORT_PVPANIC, 2);
	outb(PORT_PVPANIC, 3);
	outb(PORT_PVPANIC, 0xf0);
}

/* Sleep types other than S5's, and S5's without "enable". */
static void sleep_other(void)
{
	for (unsigned int type = 0; type < 8; type++)
		if (type != 5)
			outb(PORT_SLEEP, (uint8_t)(1 << 5 | type << 2));
	outb(PORT_SLEEP, 5 << 2);
	outb(PORT_RESET, 0);
	outb(PORT_RESET, 2);
	outb(PORT_KBD, 0xff);
	outb(PORT_KBD - 4, 0xfe);
}

/* What instruction emulators lack, and every kernel uses somewhere. */
static void emulation_cmpxchg(void)
{
	static uint64_t pair[2] __attribute__((aligned(16)));
	uint64_t a = 0, d = 0;

	__asm__ volatile("lock cmpxchg16b %0" : "+m"(pair), "+a"(a), "+d"(d) : "b"(1ull), "c"(2ull));
	skip("this KVM runs kernel mode natively");
}

/* Instructions cannot be fetched from where there is no memory, on any KVM. */
static void emulation_fetch(void)
{
	((void (*)(void))0xc8000000ull)();
	not_ended("running code where there is no memory");
}

/* --- nothing there --- */

static uint64_t ones(unsigned int width)
{
	return width == 8 ? UINT64_MAX : (1ull << 8 * width) - 1;
}

static void stray_mmio(void)
{
	static const uint64_t at[] = {
		HOLE_START,		     /* the hole's first byte */
		HOLE_START + 0x0fffffff,     /* odd, and wider accesses cross a page */
		VIRTIO_BASE - 4,	     /* in front of the first device, and into it */
		VIRTIO_BASE + 19 * VIRTIO_SLOT, /* behind the last slot */
		0xf0000000,
	};

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		for (unsigned int width = 1; width <= 8; width *= 2) {
			write_width(at[i], width, 0x1122334455667788);
			if (at[i] + width <= VIRTIO_BASE || at[i] > VIRTIO_BASE)
				expect("a read of no device", read_width(at[i], width),
				       ones(width));
		}
	}
}

static void stray_ports(void)
{
	static const uint16_t port[] = {0x0, 0x80, 0x2f8, 0x3f0, 0x500, 0x603, 0xcf8, 0xcfc, 0xfff8};

	for (size_t i = 0; i < ARRAY_SIZE(port); i++) {
		outb(port[i], 0x55);
		outw(port[i], 0x5555);
		outl(port[i], 0x55555555);
		expect("a byte from no device", inb(port[i]), 0xff);
		expect("a word from no device", inw(port[i]), 0xffff);
		expect("a long from no device", inl(port[i]), 0xffffffff);
	}
}

/* Ports that have a device, in widths that it does not expect. */
static void wide_ports(void)
{
	static const uint16_t port[] = {COM1, COM1 + 1, COM1 + 5, COM1 + 6, COM1 + 7, PORT_SLEEP + 1,
					PORT_PVPANIC, 0x60, 0x61};

	for (size_t i = 0; i < ARRAY_SIZE(port); i++) {
		inw(port[i]);
		inl(port[i]);
	}
	outw(COM1 + 7, 0x1234); /* half of it beside the port range */
	outl(COM1 + 6, 0);
	outl(0x3f6, 0);
	outw(PORT_SLEEP + 1, 0);
	outl(0x61, 0);
}

/* --- serial --- */

static void serial_loopback(void)
{
	const uint8_t line_in = 0xf0;

	outb(COM1 + 4, 0x10);
	expect("modem status, loopback, outputs low", inb(COM1 + 6) & line_in, 0);
	for (unsigned int i = 0; i < 4; i++) {
		/* DTR, RTS, OUT1, OUT2 appear as DSR, CTS, RI, DCD. */
		static const uint8_t appears[] = {0x20, 0x10, 0x40, 0x80};

		outb(COM1 + 4, (uint8_t)(0x10 | 1 << i));
		expect("modem status, loopback", inb(COM1 + 6) & line_in, appears[i]);
	}
	outb(COM1 + 2, 0x07); /* FIFOs on and empty */
	for (unsigned int i = 0; i < 16; i++)
		outb(COM1, (uint8_t)(0xa0 + i));
	for (unsigned int i = 0; i < 16; i++) {
		expect("data ready, loopback", inb(COM1 + 5) & 1, 1);
		expect("the byte, loopback", inb(COM1), 0xa0 + i);
	}
	expect("data ready, emptied", inb(COM1 + 5) & 1, 0);
	outb(COM1 + 4, 0x08);
}

static void serial_registers(void)
{
	expect("line status of an idle port", inb(COM1 + 5), 0x60);
	for (unsigned int v = 0; v < 256; v += 51) {
		outb(COM1 + 7, (uint8_t)v);
		expect("scratch register", inb(COM1 + 7), v);
	}
	outb(COM1 + 1, 0xff);
	expect("the interrupt enable register's bits", inb(COM1 + 1), 0x0f);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x83); /* divisor latch */
	outb(COM1, 0x34);
	outb(COM1 + 1, 0x12);
	expect("divisor, low", inb(COM1), 0x34);
	expect("divisor, high", inb(COM1 + 1), 0x12);
	outb(COM1 + 3, 0x03);
	expect("line control", inb(COM1 + 3), 0x03);
	expect("interrupt enable behind the latch", inb(COM1 + 1), 0);
	expect("no interrupt is pending", inb(COM1 + 2) & 1, 1);
	outb(COM1 + 1, 2);
	expect("transmitter empty, as a cause", inb(COM1 + 2) & 0x0f, 2);
	expect("that was its acknowledgement", inb(COM1 + 2) & 0x0f, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 5, 0xff);
	expect("line status after a write to it", inb(COM1 + 5), 0x60);
}

/* More input than the queue takes while loopback is on is an overrun, said once. */
static void serial_overrun(void)
{
	outb(COM1 + 4, 0x10);
	for (unsigned int i = 0; i < 100; i++)
		outb(COM1, (uint8_t)i);
	expect("line status after too much", inb(COM1 + 5) & 3, 3);
	expect("line status once it was read", inb(COM1 + 5) & 3, 1);
	expect("the first byte", inb(COM1), 0);
	outb(COM1 + 2, 0x02);
	expect("data ready after the FIFO was cleared", inb(COM1 + 5) & 1, 0);
	outb(COM1 + 4, 0x08);
}

/* Echoes bytes=N bytes of input, in lines as they come. */
static void echo(void)
{
	uint64_t n = argument("bytes", 6);

	outb(COM1 + 4, 0x0b); /* DTR, RTS, OUT2 */
	print("ready\n");
	while (n--)
		print_char((char)serial_get());
}

/* Input waits until the guest is ready for it. */
static void echo_late(void)
{
	for (unsigned int i = 0; i < 100; i++)
		if (serial_ready()) {
			fail("input came before the guest raised RTS");
			break;
		}
	outb(COM1 + 2, 0x07); /* a driver that opens the port clears the FIFO first */
	echo();
}

/* bytes=N bytes in blocks of 64, each different: "%07x" and filler. */
static void output(void)
{
	uint64_t n = argument("bytes", 4096) / 64;
	char block[64];

	memset(block, '.', sizeof(block));
	block[63] = '\n';
	for (uint64_t i = 0; i < n; i++) {
		const char *p = block;
		size_t count = sizeof(block);

		for (unsigned int digit = 0; digit < 7; digit++)
			block[6 - digit] = "0123456789abcdef"[i >> 4 * digit & 15];
		__asm__ volatile("rep outsb" : "+S"(p), "+c"(count) : "d"(COM1) : "memory");
	}
}

/* For control commands: says so and stays. */
static void idle(void)
{
	outb(COM1 + 4, 0x0b);
	print("idle\n");
	halt();
}

/* As idle, but never leaves the CPU. */
static void spin(void)
{
	print("spinning\n");
	for (;;)
		__asm__ volatile("pause");
}

const struct test_case basic_cases[] = {
	{"hello", hello},
	{"reset-acpi", reset_acpi},
	{"reset-kbd", reset_kbd},
	{"reset-triple", reset_triple},
	{"panic", panic},
	{"panic-other", panic_other},
	{"sleep-other", sleep_other},
	{"emulation-cmpxchg", emulation_cmpxchg},
	{"emulation-fetch", emulation_fetch},
	{"stray-mmio", stray_mmio},
	{"stray-ports", stray_ports},
	{"wide-ports", wide_ports},
	{"serial-loopback", serial_loopback},
	{"serial-registers", serial_registers},
	{"serial-overrun", serial_overrun},
	{"echo", echo},
	{"echo-late", echo_late},
	{"output", output},
	{"idle", idle},
	{"spin", spin},
	{0},
};
