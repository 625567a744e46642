/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_rng: random numbers from the host (virtio 1.2, 5.4).
 *
 * The guest's buffers are filled in place, by getrandom(2), so the host keeps nothing; and each
 * only so far that neither one of them nor all together take long on the loop that others share.
 */
#ifndef UVM_DEVICES_VIRTIO_RNG_H
#define UVM_DEVICES_VIRTIO_RNG_H

#include "devices/throttle.h"
#include "devices/virtio_mmio.h"

#define RNG_CHAIN (64u << 10) /* bytes that one chain gets at most, and a round of service */
#define RNG_RATE  (1u << 20)  /* bytes each second */

struct virtio_rng {
	struct virtio_dev dev;
	struct limit limit;
	struct throttle throttle;
	struct vq_chain chain;
};

/* Attaches the device to loop. irq stays the caller's. Its state is virtio_state's. Returns 0, or
 * -errno with e set.
 */
int virtio_rng_init(struct virtio_rng *g, const struct mem *m, struct irq irq, struct loop *loop,
		    struct err *e);

void virtio_rng_close(struct virtio_rng *g);

#endif
