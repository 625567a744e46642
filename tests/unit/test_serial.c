/* SPDX-License-Identifier: Apache-2.0
 *
 * The UART, register by register; its interrupt line is an eventfd that counts pulses.
 */
#include <string.h>
#include <unistd.h>

#include "devices/serial.h"
#include "tests/unit/util.h"
#include "vmm/loop.h"

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define DLAB	 0x80
#define RTS	 0x02
#define OUT2	 0x08
#define LOOPBACK 0x10

#define IIR_NONE 0x01
#define IIR_THR	 0x02
#define IIR_RX	 0x04
#define IIR_LINE 0x06

#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY   0x60

static struct serial serial;
static struct irq irq;
static struct err e;
static uint8_t sent[256];
static unsigned int sent_len, rooms;

static void take_sent(void *ctx, uint8_t byte)
{
	(void)ctx;
	ck_that(sent_len < sizeof(sent));
	sent[sent_len++] = byte;
}

static void take_room(void *ctx)
{
	(void)ctx;
	rooms++;
}

static void setup(void)
{
	ck_ok(irq.fd = event_new(&e));
	serial_init(&serial, irq, &(struct serial_host){.send = take_sent, .room = take_room});
}

static void teardown(void)
{
	close(irq.fd);
}

static uint8_t in(unsigned int reg)
{
	uint8_t v = 0;

	serial_ops.read(&serial, reg, &v, 1);
	return v;
}

static void out(unsigned int reg, uint8_t v)
{
	serial_ops.write(&serial, reg, &v, 1);
}

static uint64_t pulses(void)
{
	return event_count(irq.fd);
}

/* The cause without the FIFO bits. */
static uint8_t cause(void)
{
	return in(IIR)&0x0f;
}

/* What a driver does when it opens the port. */
static void open_port(uint8_t interrupts)
{
	out(FCR, 0x07);
	out(MCR, RTS | OUT2);
	out(IER, interrupts);
	pulses();
}

static size_t input(const char *text)
{
	return serial_input(&serial, (const uint8_t *)text, strlen(text));
}

/* --- registers --- */

START_TEST(after_reset)
{
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(IIR), IIR_NONE);
	ck_assert_uint_eq(in(LCR), 0);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	ck_assert_uint_eq(in(MSR), 0xb0);
	ck_assert_uint_eq(in(RBR), 0);
	ck_assert_uint_eq(pulses(), 0);
}
END_TEST

START_TEST(scratch_and_line_control)
{
	for (unsigned int v = 0; v < 256; v++) {
		out(SCR, (uint8_t)v);
		ck_that(in(SCR) == v);
		out(LCR, (uint8_t)v);
		ck_that(in(LCR) == v);
	}
}
END_TEST

/* Bits that do not exist read as zero. */
START_TEST(unused_bits)
{
	out(IER, 0xff);
	ck_assert_uint_eq(in(IER), 0x0f);
	out(MCR, 0xff);
	ck_assert_uint_eq(in(MCR), 0x1f);
}
END_TEST

START_TEST(read_only_registers)
{
	out(LSR, 0x9f);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	out(MSR, 0x0f);
	ck_assert_uint_eq(in(MSR), 0xb0);
}
END_TEST

START_TEST(divisor_latch)
{
	ck_assert_uint_eq(serial.divisor, 12);
	out(LCR, DLAB | 3);
	ck_assert_uint_eq(in(0), 12);
	ck_assert_uint_eq(in(1), 0);
	out(0, 0x34);
	out(1, 0x12);
	ck_assert_uint_eq(in(0), 0x34);
	ck_assert_uint_eq(in(1), 0x12);
	ck_assert_uint_eq(sent_len, 0);
	/* The registers behind it are as they were. */
	out(LCR, 3);
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(serial.divisor, 0x1234);
	out(THR, 'x');
	ck_assert_uint_eq(sent_len, 1);
}
END_TEST

START_TEST(fifo_is_told)
{
	ck_assert_uint_eq(in(IIR), IIR_NONE);
	out(FCR, 1);
	ck_assert_uint_eq(in(IIR), 0xc0 | IIR_NONE);
	out(FCR, 0);
	ck_assert_uint_eq(in(IIR), IIR_NONE);
}
END_TEST

/* --- sending --- */

START_TEST(sends_at_once)
{
	for (unsigned int v = 0; v < 256; v++) {
		out(THR, (uint8_t)v);
		ck_that(in(LSR) == LSR_EMPTY);
	}
	ck_assert_uint_eq(sent_len, 256);
	for (unsigned int v = 0; v < 256; v++)
		ck_that(sent[v] == v);
	ck_assert_uint_eq(pulses(), 0);
}
END_TEST

/* Linux starts to send by enabling the interrupt (8.6.1). */
START_TEST(enabling_raises_the_transmit_interrupt)
{
	out(IER, 2);
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), IIR_THR);
	ck_assert_uint_eq(cause(), IIR_NONE); /* reading it was the acknowledgement */
	out(IER, 2);			      /* no change */
	ck_assert_uint_eq(pulses(), 0);
	out(IER, 0);
	out(IER, 2); /* again, as after every burst */
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), IIR_THR);
}
END_TEST

/* One pulse for a burst; the next only after the driver has taken that one. */
START_TEST(pulses_while_sending)
{
	open_port(2);
	cause();
	for (unsigned int i = 0; i < 16; i++)
		out(THR, 'x');
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), IIR_THR);
	for (unsigned int i = 0; i < 16; i++)
		out(THR, 'y');
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), IIR_THR);
	ck_assert_uint_eq(cause(), IIR_NONE);
	ck_assert_uint_eq(sent_len, 32);
}
END_TEST

START_TEST(silent_without_enable)
{
	open_port(0);
	out(THR, 'x');
	input("y");
	ck_assert_uint_eq(pulses(), 0);
	ck_assert_uint_eq(cause(), IIR_NONE);
}
END_TEST

/* --- receiving --- */

START_TEST(receives)
{
	open_port(1);
	ck_assert_uint_eq(input("abc"), 3);
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), IIR_RX);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY | LSR_DATA);
	ck_assert_uint_eq(in(RBR), 'a');
	ck_assert_uint_eq(in(RBR), 'b');
	ck_assert_uint_eq(cause(), IIR_RX);
	ck_assert_uint_eq(in(RBR), 'c');
	ck_assert_uint_eq(cause(), IIR_NONE);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	ck_assert_uint_eq(in(RBR), 0);
}
END_TEST

/* More input makes another edge, or a driver that is leaving its handler would miss it. */
START_TEST(pulses_while_receiving)
{
	open_port(1);
	input("a");
	ck_assert_uint_eq(pulses(), 1);
	input("b");
	ck_assert_uint_eq(pulses(), 1);
	input("");
	ck_assert_uint_eq(pulses(), 0);
	/* Enabling it with bytes there is an edge too. */
	out(IER, 0);
	out(IER, 1);
	ck_assert_uint_eq(pulses(), 1);
}
END_TEST

/* What is typed before the guest raises "request to send" waits with the host. */
START_TEST(flow_control_by_rts)
{
	out(IER, 1);
	ck_assert_uint_eq(input("early"), 0);
	ck_assert_uint_eq(pulses(), 0);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	ck_assert_uint_eq(rooms, 0);
	out(MCR, RTS);
	ck_assert_uint_eq(rooms, 1); /* now it would be taken */
	ck_assert_uint_eq(input("early"), 5);
	out(MCR, 0);
	ck_assert_uint_eq(input("late"), 0);
	out(MCR, RTS | LOOPBACK); /* the line is cut */
	ck_assert_uint_eq(rooms, 1);
	ck_assert_uint_eq(input("late"), 0);
	out(MCR, RTS);
	ck_assert_uint_eq(rooms, 2);
}
END_TEST

START_TEST(queue_fills_and_makes_room)
{
	char many[200];

	memset(many, 'm', sizeof(many));
	many[sizeof(many) - 1] = 0;
	open_port(1);
	ck_assert_uint_eq(input(many), SERIAL_QUEUE);
	ck_assert_uint_eq(input(many), 0);
	ck_assert_uint_eq(rooms, 0);
	/* Called once, when half of it is free. */
	for (unsigned int left = SERIAL_QUEUE; left > 0; left--) {
		ck_that(rooms == (left <= SERIAL_QUEUE / 2));
		ck_that(in(RBR) == 'm');
	}
	ck_assert_uint_eq(rooms, 1);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY); /* nothing was lost: no overrun */
	/* What was all taken owes no call. */
	input("abc");
	while (in(LSR)&LSR_DATA)
		in(RBR);
	ck_assert_uint_eq(rooms, 1);
}
END_TEST

START_TEST(queue_goes_around)
{
	uint8_t next = 0, expected = 0;

	open_port(0);
	for (unsigned int i = 0; i < 1000; i++) {
		uint8_t some[7];

		for (unsigned int k = 0; k < sizeof(some); k++)
			some[k] = next++;
		ck_that(serial_input(&serial, some, sizeof(some)) == sizeof(some));
		for (unsigned int k = 0; k < sizeof(some); k++)
			ck_that(in(RBR) == expected++);
	}
}
END_TEST

START_TEST(fifo_clear)
{
	open_port(1);
	input("abc");
	pulses();
	out(FCR, 0x03);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	ck_assert_uint_eq(cause(), IIR_NONE);
	/* It makes room for who waits. */
	while (input("x"))
		;
	out(FCR, 0x03);
	ck_assert_uint_eq(rooms, 1);
}
END_TEST

/* 8.4: the change itself empties it, and without "enable" the other bits say nothing. */
START_TEST(fifo_is_switched)
{
	open_port(0);
	input("abc");
	out(FCR, 0x07 & ~0x02);
	ck_assert_uint_eq(in(RBR), 'a');
	out(FCR, 0);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
	input("abc");
	out(FCR, 0x02);
	ck_assert_uint_eq(in(RBR), 'a');
	out(FCR, 0x01);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
}
END_TEST

/* --- interrupts together --- */

START_TEST(priorities)
{
	open_port(7);
	cause();
	out(MCR, RTS | LOOPBACK);
	for (unsigned int i = 0; i <= SERIAL_QUEUE; i++)
		out(THR, (uint8_t)i); /* one too many */
	ck_assert_uint_eq(cause(), IIR_LINE);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY | LSR_DATA | LSR_OVERRUN);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY | LSR_DATA); /* reading it cleared the error */
	ck_assert_uint_eq(cause(), IIR_RX);
	ck_assert_uint_eq(cause(), IIR_RX); /* looking is no acknowledgement here */
	for (unsigned int i = 0; i < SERIAL_QUEUE; i++)
		ck_that(in(RBR) == i);
	ck_assert_uint_eq(cause(), IIR_THR);
	ck_assert_uint_eq(cause(), IIR_NONE);
}
END_TEST

START_TEST(disabled_causes_do_not_show)
{
	open_port(1);
	input("a");
	out(THR, 'b');
	out(IER, 2);
	ck_assert_uint_eq(cause(), IIR_THR);
	ck_assert_uint_eq(cause(), IIR_NONE);
	out(IER, 1);
	ck_assert_uint_eq(cause(), IIR_RX);
}
END_TEST

/* --- loopback --- */

START_TEST(loopback_data)
{
	out(MCR, LOOPBACK);
	out(THR, 'a');
	out(THR, 'b');
	ck_assert_uint_eq(sent_len, 0);
	ck_assert_uint_eq(in(RBR), 'a');
	ck_assert_uint_eq(in(RBR), 'b');
	ck_assert_uint_eq(input("x"), 0);
	out(MCR, RTS);
	out(THR, 'c');
	ck_assert_uint_eq(sent_len, 1);
}
END_TEST

/* 8.6.7: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. Linux tells a UART by that. */
START_TEST(loopback_modem_lines)
{
	static const uint8_t pairs[][2] = {{0x00, 0x00}, {0x01, 0x20}, {0x02, 0x10},
					   {0x04, 0x40}, {0x08, 0x80}, {0x0a, 0x90}};

	for (unsigned int i = 0; i < ARRAY_SIZE(pairs); i++) {
		out(MCR, LOOPBACK | pairs[i][0]);
		ck_assert_uint_eq(in(MSR)&0xf0, pairs[i][1]);
	}
	out(MCR, 0);
	ck_assert_uint_eq(in(MSR)&0xf0, 0xb0);
}
END_TEST

/* 8.8: which lines have changed since the last look; of the ring indicator its end only. */
START_TEST(modem_changes)
{
	static const struct {
		uint8_t mcr, msr;
	} steps[] = {{0x02, 0x11}, {0x02, 0x10}, {0x03, 0x32}, {0x07, 0x70}, {0x03, 0x34}, {0x0b, 0xb8}, {0x00, 0x0b}};

	out(MCR, LOOPBACK);
	in(MSR);
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		out(MCR, LOOPBACK | steps[i].mcr);
		ck_assert_uint_eq(in(MSR), steps[i].msr);
		ck_assert_uint_eq(in(MSR), steps[i].msr & 0xf0);
	}
	out(MCR, LOOPBACK | 1);
	out(MCR, LOOPBACK | 0);
	ck_assert_uint_eq(in(MSR), 0x02); /* there and back is a change */
}
END_TEST

/* The last of all causes; reading the lines is the acknowledgement. */
START_TEST(modem_interrupt)
{
	out(MCR, LOOPBACK);
	in(MSR);
	out(IER, 0x0f);
	cause();
	pulses();
	out(MCR, LOOPBACK | 1);
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), 0);
	ck_assert_uint_eq(cause(), 0);
	out(THR, 'x');
	ck_assert_uint_eq(cause(), IIR_RX);
	in(RBR);
	ck_assert_uint_eq(cause(), IIR_THR);
	ck_assert_uint_eq(cause(), 0);
	in(MSR);
	ck_assert_uint_eq(cause(), IIR_NONE);
	out(IER, 0);
	pulses();
	out(MCR, LOOPBACK);
	ck_assert_uint_eq(pulses(), 0);
	ck_assert_uint_eq(cause(), IIR_NONE);
	out(IER, 8); /* it has not been looked at yet */
	ck_assert_uint_eq(pulses(), 1);
	ck_assert_uint_eq(cause(), 0);
}
END_TEST

START_TEST(overrun_drops_the_new_byte)
{
	open_port(0);
	out(MCR, LOOPBACK);
	for (unsigned int i = 0; i < SERIAL_QUEUE + 10; i++)
		out(THR, (uint8_t)i);
	ck_assert_uint_eq(in(LSR)&LSR_OVERRUN, LSR_OVERRUN);
	for (unsigned int i = 0; i < SERIAL_QUEUE; i++)
		ck_that(in(RBR) == i);
	ck_assert_uint_eq(in(LSR), LSR_EMPTY);
}
END_TEST

/* --- wide and odd accesses --- */

START_TEST(wide_accesses_are_several)
{
	uint8_t v[4] = {'a', 3, 1, 3};

	serial_ops.write(&serial, 0, v, 4);
	ck_assert_uint_eq(sent_len, 1);
	ck_assert_uint_eq(in(IER), 3);
	ck_assert_uint_eq(in(LCR), 3);
	memset(v, 0, sizeof(v));
	serial_ops.read(&serial, 4, v, 4);
	ck_assert_uint_eq(v[0], OUT2);
	ck_assert_uint_eq(v[1], LSR_EMPTY);
	ck_assert_uint_eq(v[2], 0xb0);
	ck_assert_uint_eq(v[3], 0);
}
END_TEST

START_TEST(random_accesses)
{
	uint32_t seed = 5;

	for (unsigned int i = 0; i < 100000; i++) {
		uint32_t v = next_random(&seed);
		unsigned int len = 1u << (v & 1), at = (v >> 1 & 7) % (SERIAL_PORTS - len + 1);
		uint8_t data[2] = {(uint8_t)(v >> 4), (uint8_t)(v >> 12)};

		sent_len = 0;
		if (v & 0x100000)
			serial_ops.write(&serial, at, data, len);
		else
			serial_ops.read(&serial, at, data, len);
		ck_that(serial_input(&serial, data, v >> 21 & 1) <= 1);
		ck_that(serial.count <= SERIAL_QUEUE);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		after_reset,
		scratch_and_line_control,
		unused_bits,
		read_only_registers,
		divisor_latch,
		fifo_is_told,
		sends_at_once,
		enabling_raises_the_transmit_interrupt,
		pulses_while_sending,
		silent_without_enable,
		receives,
		pulses_while_receiving,
		flow_control_by_rts,
		queue_fills_and_makes_room,
		queue_goes_around,
		fifo_clear,
		fifo_is_switched,
		priorities,
		disabled_causes_do_not_show,
		loopback_data,
		loopback_modem_lines,
		modem_changes,
		modem_interrupt,
		overrun_drops_the_new_byte,
		wide_accesses_are_several,
		random_accesses,
	};

	return run_tests("serial", tests, ARRAY_SIZE(tests), setup, teardown);
}
