/* SPDX-License-Identifier: Apache-2.0
 *
 * throttle: the alarm clock of a device whose work is limited (limit.h): what has to wait is left
 * in its queue, and the device is served again when the first of its limits lets more in. So a
 * limit holds up nobody else on the same loop.
 */
#ifndef UVM_DEVICES_THROTTLE_H
#define UVM_DEVICES_THROTTLE_H

#include "devices/limit.h"
#include "devices/virtio_mmio.h"

struct throttle {
	struct virtio_dev *dev;
	struct loop_source timer; /* fd -1: there is no limit */
	uint64_t alarm;		  /* ns until it is to ring, found in this round; 0: not */
};

/* A device has one from its initialisation on: without limits, until throttle_start. */
void throttle_init(struct throttle *t, struct virtio_dev *dev);
/* Makes its timer, on the device's loop, before that runs; again, it does nothing. Returns 0, or
 * -errno with e set.
 */
int throttle_start(struct throttle *t, struct err *e);
void throttle_close(struct throttle *t);

/* --- in a round of the device's service, under its lock --- */

/* At its beginning. */
void throttle_begin(struct throttle *t);
/* Whether l lets nothing in now: then the alarm is set by the round's end. */
bool throttle_holds(struct throttle *t, struct limit *l);
/* Takes n units from l, for what has been let in. */
void throttle_charge(struct limit *l, uint64_t n);
/* At its end. */
void throttle_end(struct throttle *t);

#endif
