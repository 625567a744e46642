/* SPDX-License-Identifier: Apache-2.0
 *
 * serial: a 16550A UART (National Semiconductor PC16550D data sheet; section numbers below).
 *
 * What it sends goes to a callback at once, so the transmitter is always empty. What it
 * receives comes from a 64-byte queue that stands for the line and the 16-byte FIFO together:
 * the host's side fills it as far as there is room, once the guest has raised "request to send",
 * and hears through `room` when there is again. Line speed and the other modem lines are
 * registers without effect; loopback mode works, because Linux probes with it.
 */
#ifndef UVM_DEVICES_SERIAL_H
#define UVM_DEVICES_SERIAL_H

#include <pthread.h>
#include <stddef.h>

#include "snapshot/state.h"
#include "vmm/bus.h"
#include "vmm/irq.h"

#define SERIAL_PORTS 8
#define SERIAL_QUEUE 64

struct serial_host {
	/* A byte from the guest. On a vCPU thread, with the serial's lock held: must not block,
	 * nor call back.
	 */
	void (*send)(void *ctx, uint8_t byte);
	/* serial_input, which had not taken all, would take more now. As send. */
	void (*room)(void *ctx);
	void *ctx;
};

struct serial {
	pthread_mutex_t lock; /* vCPU threads and the thread that brings input */
	struct serial_host host;
	struct irq irq;
	uint8_t ier, lcr, mcr, lsr_errors, scr, fcr;
	uint8_t modem_changes; /* the low bits of MSR, since it was last read */
	uint16_t divisor;
	bool thr_event; /* transmitter-empty interrupt not yet taken (8.6.1) */
	bool pending;	/* as last signalled on the line */
	bool starved;	/* input was refused; host.room is owed */
	uint8_t queue[SERIAL_QUEUE];
	unsigned int head, count;
};

/* All registers as after a master reset (table II). irq's descriptor stays the caller's. */
void serial_init(struct serial *s, struct irq irq, const struct serial_host *host);

extern const struct bus_ops serial_ops; /* dev is a struct serial; SERIAL_PORTS long */

/* Saves or loads the registers and what has been received; nobody uses the port meanwhile. A
 * loaded port signals its interrupt again if it has a cause, for the signal itself may be lost.
 */
extern const struct state_table serial_table;
int serial_state(struct serial *s, struct state_visitor *v, struct err *e);

/* Input for the guest. Returns how many bytes were taken, 0 to len; any thread. */
size_t serial_input(struct serial *s, const uint8_t *data, size_t len);

#endif
