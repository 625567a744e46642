/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/serial.h"

#include <string.h>

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX	    0x01
#define IER_THR	    0x02
#define IER_LINE    0x04
#define IER_MODEM   0x08
#define IER_ALL	    0x0f
#define IIR_MODEM   0x00
#define IIR_NONE    0x01
#define IIR_THR	    0x02
#define IIR_RX	    0x04
#define IIR_LINE    0x06
#define IIR_FIFO    0xc0
#define FCR_ENABLE  0x01
#define FCR_CLEAR   0x02
#define LCR_DLAB    0x80
#define MCR_ALL	    0x1f
#define MCR_RTS	    0x02
#define MCR_OUT2    0x08
#define MCR_LOOP    0x10
#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY   0x60 /* holding register and shift register */
#define MSR_RING    0x40
#define MSR_CHANGED 0x0b /* bits for the lines four bits further; of MSR_RING only the end is told */
#define MSR_READY   0xb0 /* carrier, data set ready, clear to send: a peer is there */

/* The highest-priority interrupt that is enabled and has a cause (table V). */
static uint8_t cause(const struct serial *s)
{
	if (s->ier & IER_LINE && s->lsr_errors)
		return IIR_LINE;
	if (s->ier & IER_RX && s->count)
		return IIR_RX;
	if (s->ier & IER_THR && s->thr_event)
		return IIR_THR;
	if (s->ier & IER_MODEM && s->modem_changes)
		return IIR_MODEM;
	return IIR_NONE;
}

/* Signals the line's rising edge. With the line wired as edge triggered, a new cause after the
 * handler read IIR must make a new edge, hence a pulse whenever a cause is there to be seen.
 * OUT2 gates the line on a PC, but guests without a real driver leave it clear and poll.
 */
static void update(struct serial *s, bool again)
{
	bool now = cause(s) != IIR_NONE;

	if (now && (!s->pending || again))
		irq_raise(&s->irq);
	s->pending = now;
}

static void queue_put(struct serial *s, uint8_t byte)
{
	if (s->count == SERIAL_QUEUE) {
		s->lsr_errors |= LSR_OVERRUN;
		return;
	}
	s->queue[(s->head + s->count++) % SERIAL_QUEUE] = byte;
}

/* Whether the guest is ready to receive: it raises "request to send" when it opens the port,
 * after it has cleared the FIFO. What a user typed before that waits on the host's side, as it
 * would in a modem.
 */
static bool receiving(const struct serial *s)
{
	return (s->mcr & (MCR_RTS | MCR_LOOP)) == MCR_RTS;
}

static void tell_room(struct serial *s)
{
	if (s->starved && receiving(s) && s->count <= SERIAL_QUEUE / 2) {
		s->starved = false;
		s->host.room(s->host.ctx);
	}
}

static uint8_t queue_get(struct serial *s)
{
	uint8_t byte;

	if (!s->count)
		return 0;
	byte = s->queue[s->head];
	s->head = (s->head + 1) % SERIAL_QUEUE;
	s->count--;
	tell_room(s);
	return byte;
}

static void queue_clear(struct serial *s)
{
	s->count = 0;
	tell_room(s);
}

static uint8_t modem_status(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_READY;
	/* Loopback ties the outputs to the inputs (8.6.7): DTR to DSR, RTS to CTS, OUT1 to RI,
	 * OUT2 to DCD.
	 */
	return (uint8_t)((s->mcr & 1) << 5 | (s->mcr & 2) << 3 | (s->mcr & 4) << 4 |
			 (s->mcr & 8) << 4);
}

static uint8_t read_reg(struct serial *s, uint64_t reg)
{
	uint8_t v;

	switch (reg) {
	case RBR_THR:
		if (s->lcr & LCR_DLAB)
			return (uint8_t)s->divisor;
		v = queue_get(s);
		update(s, false);
		return v;
	case IER: return s->lcr & LCR_DLAB ? (uint8_t)(s->divisor >> 8) : s->ier;
	case IIR_FCR:
		v = cause(s);
		if (v == IIR_THR)
			s->thr_event = false; /* reading it is the acknowledgement */
		update(s, false);
		return v | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case LCR: return s->lcr;
	case MCR: return s->mcr;
	case LSR:
		v = (uint8_t)(LSR_EMPTY | s->lsr_errors | (s->count ? LSR_DATA : 0));
		s->lsr_errors = 0;
		update(s, false);
		return v;
	case MSR:
		v = modem_status(s) | s->modem_changes;
		s->modem_changes = 0;
		update(s, false);
		return v;
	default: return s->scr;
	}
}

static void transmit(struct serial *s, uint8_t v)
{
	if (s->mcr & MCR_LOOP)
		queue_put(s, v);
	else
		s->host.send(s->host.ctx, v);
	/* Sent: the holding register is empty again. One edge covers a burst that fills the FIFO:
	 * the driver has not yet taken the event of its first byte.
	 */
	if (!s->thr_event) {
		s->thr_event = true;
		update(s, true);
	}
}

/* 8.4: other bits count only together with "enable", whose change empties the FIFO, too. */
static void set_fifo(struct serial *s, uint8_t v)
{
	bool changed = (v ^ s->fcr) & FCR_ENABLE;

	s->fcr = v;
	if (changed || (v & FCR_ENABLE && v & FCR_CLEAR))
		queue_clear(s);
	update(s, false);
}

/* In loopback these are the modem's lines, so they may change by it (8.8). */
static void set_modem(struct serial *s, uint8_t v)
{
	uint8_t before = modem_status(s), changes;

	s->mcr = v & MCR_ALL;
	changes = (uint8_t)((before ^ modem_status(s)) >> 4 & MSR_CHANGED);
	if (before & ~modem_status(s) & MSR_RING)
		changes |= MSR_RING >> 4;
	s->modem_changes |= changes;
	update(s, changes);
	tell_room(s);
}

static void write_reg(struct serial *s, uint64_t reg, uint8_t v)
{
	uint8_t before;

	switch (reg) {
	case RBR_THR:
		if (s->lcr & LCR_DLAB)
			s->divisor = (uint16_t)((s->divisor & 0xff00) | v);
		else
			transmit(s, v);
		break;
	case IER:
		if (s->lcr & LCR_DLAB) {
			s->divisor = (uint16_t)((s->divisor & 0xff) | v << 8);
			break;
		}
		before = s->ier;
		s->ier = v & IER_ALL;
		/* Enabling the interrupt with an empty transmitter raises it (8.6.1); Linux's
		 * driver starts to send by that.
		 */
		if (s->ier & ~before & IER_THR)
			s->thr_event = true;
		update(s, s->ier & ~before);
		break;
	case IIR_FCR: set_fifo(s, v); break;
	case LCR: s->lcr = v; break;
	case MCR: set_modem(s, v); break;
	case SCR: s->scr = v; break;
	default: break; /* LSR and MSR: factory test and read-only */
	}
}

/* Ports are a byte wide; a wider access is that many accesses to ports in a row. */
static void serial_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	struct serial *s = dev;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < len; i++)
		data[i] = read_reg(s, offset + i);
	pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	struct serial *s = dev;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < len; i++)
		write_reg(s, offset + i, data[i]);
	pthread_mutex_unlock(&s->lock);
}

const struct bus_ops serial_ops = {.read = serial_read, .write = serial_write};

void serial_init(struct serial *s, struct irq irq, const struct serial_host *host)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->irq = irq;
	s->host = *host;
	s->divisor = 12; /* 9600 baud, where firmware leaves it */
	s->mcr = MCR_OUT2;
}

size_t serial_input(struct serial *s, const uint8_t *data, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < len && receiving(s) && s->count < SERIAL_QUEUE)
		queue_put(s, data[n++]);
	s->starved = n < len;
	if (n)
		update(s, true);
	pthread_mutex_unlock(&s->lock);
	return n;
}

#define FIELD(m) STATE_SCALAR(struct serial, m, 1)
const struct state_table serial_table = {
	.name = "serial",
	.version = 2,
	.fields = (const struct state_field[]){
		FIELD(ier), FIELD(lcr), FIELD(mcr), FIELD(lsr_errors), FIELD(scr), FIELD(fcr),
		FIELD(divisor), FIELD(thr_event), STATE_ARRAY(struct serial, queue, 1), FIELD(head),
		FIELD(count), STATE_SCALAR(struct serial, modem_changes, 2), {0}}};
#undef FIELD

int serial_state(struct serial *s, struct state_visitor *v, struct err *e)
{
	int r = state_visit(v, &serial_table, 0, s, e);

	if (r || !state_loading(v))
		return r;
	if (s->head >= SERIAL_QUEUE || s->count > SERIAL_QUEUE || s->ier & ~IER_ALL ||
	    s->mcr & ~MCR_ALL || s->modem_changes & 0xf0)
		return state_invalid(v, &serial_table, 0, "no serial port is in such a state", e);
	s->pending = false;
	s->starved = true; /* the new host's side may have input waiting */
	update(s, true);
	tell_room(s);
	return 0;
}
