/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_balloon: memory that the guest does not use goes back to the host (virtio 1.2, 5.5), so
 * that a guest which was large once does not stay so, nor does a snapshot of it.
 *
 * Two ways lead there. Free page reporting (5.5.6.7): the guest's kernel tells which of its free
 * memory it has not told yet, of its own accord, and goes on using it as it likes. And the balloon:
 * the guest hands over pages when the host sets a target, and asks for them back. The target is 0
 * here, so no driver inflates; the queues work all the same.
 *
 * What a page holds after it was given back is what mem_release says, which is neither what it held
 * nor always zeros. A driver may rely on nothing there as long as PAGE_POISON is not negotiated,
 * and it is not offered: with it a reported page would have to come back zeroed, or filled with
 * the guest's pattern. Linux then does not report at all where it wants that (init_on_free).
 */
#ifndef UVM_DEVICES_VIRTIO_BALLOON_H
#define UVM_DEVICES_VIRTIO_BALLOON_H

#include "devices/virtio_mmio.h"

/* Of one chain at most so many bytes are given back, each range beside its length counting as
 * BALLOON_RANGE more, and a round of service ends when it has done as much: the main loop is
 * not held up for long by a driver that reports all memory again and again. The rest of such a
 * chain stays with the guest. Linux's chains are of 128 MiB.
 */
#define BALLOON_CHAIN (256ull << 20)
#define BALLOON_RANGE (64ull << 10)

struct balloon_config {	    /* 5.5.4, as far as uvm's features reach */
	uint32_t num_pages; /* how many the host wants: 0 */
	uint32_t actual;    /* how many it has, as the driver says */
};

struct virtio_balloon {
	struct virtio_dev dev;
	struct balloon_config config;
	uint64_t left;	/* what the chain at hand may still give back, by the measure above */
	uint64_t spent; /* by this round */
	struct vq_chain chain;
};

/* Attaches the device to loop, on which it then gives back memory of m. irq stays the caller's.
 * Returns 0, or -errno with e set.
 */
int virtio_balloon_init(struct virtio_balloon *b, const struct mem *m, struct irq irq,
			struct loop *loop, struct err *e);

/* Saves or loads the device, as virtio_state and under its conditions. Returns 0, or -errno with e
 * set. instance: its slot.
 */
extern const struct state_table virtio_balloon_table;
int virtio_balloon_state(struct virtio_balloon *b, uint32_t instance, struct state_visitor *v,
			 struct err *e);

#endif
