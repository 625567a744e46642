/* SPDX-License-Identifier: Apache-2.0
 *
 * driver: the guest's side of a virtio device, for the tests of queues, transport and devices.
 *
 * Guest memory is a heap without free. A ring can be driven by itself, over a struct virtqueue, or
 * as a queue of a device that a struct driver operates through its registers. Everything that a
 * good driver does is one call; what only a bad one does is written by hand, into the descriptors
 * and registers that are open here.
 */
#ifndef UVM_TESTS_DRIVER_H
#define UVM_TESTS_DRIVER_H

#include "devices/virtio_mmio.h"

struct guest {
	struct mem mem;
	uint64_t heap; /* next free address */
};

#define GUEST_MEMORY (4ull << 20)

void guest_init(struct guest *g);
void guest_free(struct guest *g);
uint64_t guest_alloc(struct guest *g, uint64_t size);		   /* page aligned, zeroed */
void *guest_ptr(const struct guest *g, uint64_t at, uint64_t len); /* must be RAM */

/* --- rings (virtio 1.2, 2.7) --- */

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct used_elem {
	uint32_t id, len;
};

struct ring {
	struct guest *guest;
	unsigned int size;
	uint64_t desc_at, avail_at, used_at;
	struct desc *desc;
	uint16_t *avail;   /* flags, index, ring[size], used event */
	uint16_t *used;	   /* flags, index, then struct used_elem[size], avail event */
	uint16_t seen;	   /* used elements that ring_take has given */
	unsigned int free; /* the next descriptor to use */
};

struct buffer {
	uint64_t at;
	uint32_t len;
	bool write;
};

void ring_init(struct ring *r, struct guest *g, unsigned int size);

/* Writes a chain of n descriptors, or an indirect table and the one that refers to it. Returns
 * the head; not yet available.
 */
uint16_t ring_chain(struct ring *r, const struct buffer *b, unsigned int n);
uint16_t ring_indirect(struct ring *r, const struct buffer *b, unsigned int n);

/* Makes a head available; both steps in one. */
void ring_offer(struct ring *r, uint16_t head);
uint16_t ring_add(struct ring *r, const struct buffer *b, unsigned int n);

/* The next used element. Returns false if there is none. */
bool ring_take(struct ring *r, struct used_elem *u);

uint16_t ring_used_index(const struct ring *r);
uint16_t *ring_used_event(struct ring *r);  /* the driver's: after which to interrupt */
uint16_t *ring_avail_event(struct ring *r); /* the device's: after which to notify */

/* --- devices --- */

#define REG_MAGIC		0x000
#define REG_VERSION		0x004
#define REG_DEVICE_ID		0x008
#define REG_DEVICE_FEATURES	0x010
#define REG_DEVICE_FEATURES_SEL 0x014
#define REG_DRIVER_FEATURES	0x020
#define REG_DRIVER_FEATURES_SEL 0x024
#define REG_QUEUE_SEL		0x030
#define REG_QUEUE_NUM_MAX	0x034
#define REG_QUEUE_NUM		0x038
#define REG_QUEUE_READY		0x044
#define REG_QUEUE_NOTIFY	0x050
#define REG_INTERRUPT_STATUS	0x060
#define REG_INTERRUPT_ACK	0x064
#define REG_STATUS		0x070
#define REG_QUEUE_DESC		0x080 /* low; high is 4 further */
#define REG_QUEUE_DRIVER	0x090
#define REG_QUEUE_DEVICE	0x0a0
#define REG_SHM_LEN		0x0b0
#define REG_CONFIG_GENERATION	0x0fc
#define REG_CONFIG		0x100

#define ST_ACKNOWLEDGE 1u
#define ST_DRIVER      2u
#define ST_DRIVER_OK   4u
#define ST_FEATURES_OK 8u
#define ST_NEEDS_RESET 64u
#define ST_FAILED      128u

struct driver {
	struct guest guest;
	struct loop loop;
	struct irq irq;
	struct virtio_dev *dev;
	struct ring ring[VIRTIO_MAX_QUEUES];
};

/* Makes memory, loop and interrupt line. The test then initialises its device with them and sets
 * d->dev.
 */
void driver_init(struct driver *d);
void driver_free(struct driver *d); /* closes the device too, unless d->dev is NULL */

uint32_t reg_read(struct driver *d, uint64_t reg);
void reg_write(struct driver *d, uint64_t reg, uint32_t v);

/* The steps of 3.1.1, one by one; each goes on from the one before. */
void driver_reset(struct driver *d);
void driver_negotiate(struct driver *d, uint64_t features); /* up to FEATURES_OK, which must hold */
void driver_set_queue(struct driver *d, unsigned int queue, const struct ring *r);
/* All of them, with `queues` new rings of this size. */
void driver_start(struct driver *d, uint64_t features, unsigned int queues, unsigned int size);

/* Notifies a queue and lets the device's loop come to rest. */
void driver_kick(struct driver *d, unsigned int queue);

/* Whether the device says that it needs a reset, with an interrupt. */
bool driver_sees_failure(struct driver *d);

#endif
