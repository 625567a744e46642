/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_balloon: memory that the guest does not use goes back to the host (virtio 1.2, 5.5), so
 * that a guest which was large once does not stay so, nor does a snapshot of it.
 *
 * Two ways lead there. Free page reporting (5.5.6.7): the guest's kernel tells which of its free
 * memory it has not told yet, of its own accord, and goes on using it as it likes. And the balloon:
 * the guest hands over pages when the host sets a target, and takes them back when that falls, or
 * when it would have to kill a process for want of memory (DEFLATE_ON_OOM, 5.5.6.1). Both are
 * the driver's good will: what bounds a guest is the memory that it was given.
 *
 * The driver also tells figures of its memory when the host asks for them (5.5.6.3). It puts them
 * into a buffer, which stays in the queue, read but not used, until new ones are wanted: so nothing
 * of a request that is under way is the device's, and a state has it all in the queue's indexes.
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
	uint32_t num_pages; /* how many the host wants */
	uint32_t actual;    /* how many it has, as the driver says */
};

/* What the driver tells (5.5.6.4), by its tags: bytes, but faults and huge pages, which are counted. */
enum balloon_stat {
	BALLOON_SWAP_IN,
	BALLOON_SWAP_OUT,
	BALLOON_MAJOR_FAULTS,
	BALLOON_MINOR_FAULTS,
	BALLOON_FREE,
	BALLOON_TOTAL,
	BALLOON_AVAILABLE,
	BALLOON_CACHES,
	BALLOON_HUGE_PAGES,
	BALLOON_HUGE_FAILURES,
	BALLOON_STATS
};
#define BALLOON_UNTOLD UINT64_MAX

struct balloon_figures {
	uint64_t target, size; /* bytes that the balloon is to have, and has, as the driver says */
	uint64_t told_ns;      /* now_ns() when the driver told the rest; 0: it has not */
	uint64_t stat[BALLOON_STATS]; /* or BALLOON_UNTOLD */
};

struct virtio_balloon {
	struct virtio_dev dev;
	struct balloon_config config;
	uint64_t told_ns; /* as in the figures */
	bool held;	  /* the buffer at hand has been read */
	uint64_t stat[BALLOON_STATS];
	uint64_t left;	/* what the chain at hand may still give back, by the measure above */
	uint64_t spent; /* by this round */
	struct vq_chain chain;
};

/* Attaches the device to loop, on which it then gives back memory of m. irq stays the caller's.
 * Returns 0, or -errno with e set.
 */
int virtio_balloon_init(struct virtio_balloon *b, const struct mem *m, struct irq irq,
			struct loop *loop, struct err *e);

/* How large the balloon is to be; the driver is told. On the loop. Returns 0, or -EINVAL with e set if
 * bytes is more than the guest has. The target is whole pages, and stays over the driver's resets.
 */
int virtio_balloon_set_target(struct virtio_balloon *b, uint64_t bytes, struct err *e);

/* What is known now; and asks the driver to tell its figures anew, for the next time. On the loop. */
void virtio_balloon_figures(struct virtio_balloon *b, struct balloon_figures *f);

/* Saves or loads the device, as virtio_state and under its conditions. Returns 0, or -errno with e
 * set. instance: its slot.
 */
extern const struct state_table virtio_balloon_table;
int virtio_balloon_state(struct virtio_balloon *b, uint32_t instance, struct state_visitor *v,
			 struct err *e);

#endif
