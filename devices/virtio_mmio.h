/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_mmio: the transport of every virtio device (virtio 1.2, 4.2, version 2 registers): what
 * is common to them, with the state that the specification gives a device (2.1 to 2.5).
 *
 * Threads. The driver's register accesses come on vCPU threads, notifications on the loop that
 * the device is attached to, and the device's back end calls on that loop too. One lock orders
 * them; only the interrupt registers, which a guest touches at every interrupt, do without it. A
 * reset empties the queues at once, under the lock, on the vCPU's thread; what the device holds
 * beyond that (connections, requests) belongs to the loop, so ops->reset runs there, before
 * anything else of the device does: whoever enters on the loop takes the lock by virtio_enter.
 */
#ifndef UVM_DEVICES_VIRTIO_MMIO_H
#define UVM_DEVICES_VIRTIO_MMIO_H

#include <pthread.h>

#include "devices/virtqueue.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/loop.h"

#define VIRTIO_MMIO_SIZE   0x1000
#define VIRTIO_MMIO_NOTIFY 0x50 /* QueueNotify, where the doorbell is */
#define VIRTIO_MAX_QUEUES  4
#define VIRTIO_F_VERSION_1 (1ull << 32)

struct virtio_dev;

struct virtio_ops {
	uint32_t id;	     /* device type (5) */
	const char *name;    /* what messages call it */
	unsigned int queues; /* up to VIRTIO_MAX_QUEUES, unless the device says another number */
	/* The driver is ready, or has notified a queue, or there may be more to do: serve every
	 * queue. On the loop, under the lock, never after a failure (virtio_fail) until reset.
	 * Does a bounded amount of work; virtio_again asks for another round.
	 */
	void (*serve)(struct virtio_dev *d);
	/* Drop all that belongs to the driver before the reset. On the loop, under the lock; the
	 * next driver may have set the queues up already, so it does not touch them. May be NULL.
	 */
	void (*reset)(struct virtio_dev *d);
	/* A reset begins: return when nothing that was asked for touches guest memory any more, as
	 * the driver takes it back then (2.4). On a vCPU's thread, under the lock, while the
	 * queues are as they were. NULL where a request is over when serve returns.
	 */
	void (*quiesce)(struct virtio_dev *d);
	/* NULL, or gives back what the device has beside the transport. */
	void (*close)(struct virtio_dev *d);
};

struct virtio_dev {
	const struct virtio_ops *ops;
	const struct mem *mem;
	/* Device configuration space, read-only to the driver, the device's own; read under the
	 * lock. Whoever changes it calls virtio_config_changed.
	 */
	const void *config;
	size_t config_len;
	/* The field of it that the driver may write, as a whole, or NULL. 0 after a reset. */
	uint32_t *config_field;
	uint64_t offered;    /* feature bits */
	unsigned int queues; /* 0 before virtio_init: as many as ops says */

	pthread_mutex_t lock;
	uint64_t features; /* as the driver accepted them */
	uint32_t status;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	struct virtqueue queue[VIRTIO_MAX_QUEUES];
	bool reset_owed;     /* ops->reset is to run on the loop */
	unsigned int resets; /* how often it has; the loop's, no lock needed there */
	uint32_t config_generation;
	bool config_owed; /* the configuration has changed between a reset and DRIVER_OK */

	unsigned int failures;	   /* how often virtio_fail has been called for */
	uint32_t interrupt_status; /* atomic */
	struct irq irq;
	struct loop *loop;
	struct loop_source doorbell; /* eventfd, also KVM's ioeventfd */
};

/* Prepares d, whose ops, mem, config and offered (beside what the transport adds) are set, and
 * queues if it is another number than that of ops, and attaches its doorbell to loop, before that
 * runs. irq's descriptor stays the caller's.
 */
int virtio_init(struct virtio_dev *d, struct irq irq, struct loop *loop, struct err *e);
void virtio_close(struct virtio_dev *d);

extern const struct bus_ops virtio_mmio_ops; /* dev is a struct virtio_dev */

/* What is read where there is no device, but could be one: as bus_ops.read, with device ID 0. */
void virtio_empty_read(uint64_t offset, uint8_t *data, unsigned int len);

/* Whether no driver has the device, since the last reset. While no vCPU runs. */
bool virtio_idle(const struct virtio_dev *d);

/* For the device and its back end, on the loop: take the lock (and reset what is owed); give it
 * back. virtio_enter returns whether the device is live: the driver ready, no failure.
 */
bool virtio_enter(struct virtio_dev *d);
void virtio_leave(struct virtio_dev *d);

/* Under the lock: tell the driver of what was pushed to q, if it wants to hear. */
void virtio_interrupt(struct virtio_dev *d, struct virtqueue *q);
/* The same for all of its queues, with one interrupt. */
void virtio_interrupt_all(struct virtio_dev *d);

/* Under the lock, in which the configuration space has been changed: the driver reads another
 * generation (4.2.2.1) and is told, once it is ready.
 */
void virtio_config_changed(struct virtio_dev *d);

/* Under the lock: the driver broke the rules. DEVICE_NEEDS_RESET (2.1.2), nothing is served
 * until then; why is logged once per failure.
 */
void virtio_fail(struct virtio_dev *d, const char *why);
bool virtio_failed(const struct virtio_dev *d);

/* Saves or loads the transport's part of a device and its queues; the device's loop and the vCPUs
 * stand still. Whoever saves has let a reset that is owed happen before (virtio_enter). A loaded
 * device is served once before anything else (what was notified may have been lost), and raises its
 * interrupt again if the driver has not acknowledged it. instance: the device's slot.
 */
extern const struct state_table virtio_table;
int virtio_state(struct virtio_dev *d, uint32_t instance, struct state_visitor *v, struct err *e);

/* Serves the device here and now, while neither its loop nor a vCPU runs. */
void virtio_poll(struct virtio_dev *d);

/* Makes ops->serve run again soon. Any thread. */
void virtio_again(struct virtio_dev *d);

#endif
