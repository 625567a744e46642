/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_mmio.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/log.h"

/* Registers (4.2.2). */
enum {
	MAGIC = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DEVICE_FEATURES = 0x010,
	DEVICE_FEATURES_SEL = 0x014,
	DRIVER_FEATURES = 0x020,
	DRIVER_FEATURES_SEL = 0x024,
	QUEUE_SEL = 0x030,
	QUEUE_NUM_MAX = 0x034,
	QUEUE_NUM = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = VIRTIO_MMIO_NOTIFY,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	QUEUE_DESC_LOW = 0x080,
	QUEUE_DESC_HIGH = 0x084,
	QUEUE_DRIVER_LOW = 0x090,
	QUEUE_DRIVER_HIGH = 0x094,
	QUEUE_DEVICE_LOW = 0x0a0,
	QUEUE_DEVICE_HIGH = 0x0a4,
	SHM_LEN_LOW = 0x0b0,
	SHM_BASE_HIGH = 0x0bc,
	CONFIG_GENERATION = 0x0fc,
	CONFIG = 0x100,
};

#define MAGIC_VALUE 0x74726976 /* "virt" */
#define VENDOR	    0x4d56552e /* ".UVM" */

/* Status bits (2.1). */
#define ST_ACKNOWLEDGE 1u
#define ST_DRIVER      2u
#define ST_DRIVER_OK   4u
#define ST_FEATURES_OK 8u
#define ST_NEEDS_RESET 64u
#define ST_FAILED      128u

#define FAILURES_TOLD 8u

#define INT_USED   1u
#define INT_CONFIG 2u

static bool live(const struct virtio_dev *d)
{
	return (d->status & (ST_DRIVER_OK | ST_NEEDS_RESET)) == ST_DRIVER_OK;
}

bool virtio_enter(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->reset_owed) {
		d->reset_owed = false;
		d->resets++;
		if (d->ops->reset)
			d->ops->reset(d);
	}
	return live(d);
}

void virtio_leave(struct virtio_dev *d)
{
	pthread_mutex_unlock(&d->lock);
}

void virtio_again(struct virtio_dev *d)
{
	event_post(d->doorbell.fd);
}

static void interrupt(struct virtio_dev *d, uint32_t cause)
{
	__atomic_fetch_or(&d->interrupt_status, cause, __ATOMIC_SEQ_CST);
	irq_raise(&d->irq);
}

void virtio_interrupt(struct virtio_dev *d, struct virtqueue *q)
{
	if (virtqueue_wants_interrupt(q))
		interrupt(d, INT_USED);
}

void virtio_interrupt_all(struct virtio_dev *d)
{
	bool wanted = false;

	for (unsigned int i = 0; i < d->ops->queues; i++)
		wanted |= virtqueue_wants_interrupt(&d->queue[i]);
	if (wanted)
		interrupt(d, INT_USED);
}

void virtio_config_changed(struct virtio_dev *d)
{
	d->config_generation++;
	/* A driver reads the configuration before it says that it is ready, and may have. */
	if (d->status & ST_DRIVER_OK)
		interrupt(d, INT_CONFIG);
	else
		d->config_owed = true;
}

bool virtio_failed(const struct virtio_dev *d)
{
	return d->status & ST_NEEDS_RESET;
}

void virtio_fail(struct virtio_dev *d, const char *why)
{
	if (d->status & ST_NEEDS_RESET)
		return;
	/* A driver may fail and reset for ever; the log must not grow with it. */
	if (d->failures++ < FAILURES_TOLD)
		log_warn("the guest's driver of a %s device broke the rules, and has to reset it: %s%s", d->ops->name,
			 why, d->failures == FAILURES_TOLD ? " (not told again)" : "");
	d->status |= ST_NEEDS_RESET;
	if (d->status & ST_DRIVER_OK)
		interrupt(d, INT_CONFIG);
}

void virtio_poll(struct virtio_dev *d)
{
	if (virtio_enter(d))
		d->ops->serve(d);
	virtio_leave(d);
}

static void doorbell(struct loop_source *s, uint32_t events)
{
	(void)events;
	event_take(s->fd);
	virtio_poll(CONTAINER_OF(s, struct virtio_dev, doorbell));
}

static void reset(struct virtio_dev *d)
{
	if (d->ops->quiesce)
		d->ops->quiesce(d);
	for (unsigned int i = 0; i < d->queues; i++)
		virtqueue_reset(&d->queue[i]);
	d->features = 0;
	d->status = 0;
	d->device_features_sel = d->driver_features_sel = d->queue_sel = 0;
	__atomic_store_n(&d->interrupt_status, 0, __ATOMIC_SEQ_CST);
	d->config_owed = false; /* the next driver reads it all */
	if (d->config_field)
		*d->config_field = 0;
	d->reset_owed = true;
	virtio_again(d);
}

/* DRIVER_OK. What came before it may wait to be told or served. */
static void driver_ready(struct virtio_dev *d)
{
	d->status |= ST_DRIVER_OK;
	if (d->config_owed)
		interrupt(d, INT_CONFIG);
	virtio_again(d);
}

/* The driver steps through ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK (3.1.1); bits are only
 * ever added, each only on top of the one before, and all go with a reset.
 */
static void set_status(struct virtio_dev *d, uint32_t v)
{
	uint32_t add = v & ~d->status;

	if (v == 0) {
		reset(d);
		return;
	}
	d->status |= add & (ST_ACKNOWLEDGE | ST_FAILED);
	if (add & ST_DRIVER && d->status & ST_ACKNOWLEDGE)
		d->status |= ST_DRIVER;
	if (add & ST_FEATURES_OK && d->status & ST_DRIVER && !(d->features & ~d->offered) &&
	    d->features & VIRTIO_F_VERSION_1)
		d->status |= ST_FEATURES_OK;
	if (add & ST_DRIVER_OK && d->status & ST_FEATURES_OK)
		driver_ready(d);
}

static struct virtqueue *selected(struct virtio_dev *d)
{
	return d->queue_sel < d->queues ? &d->queue[d->queue_sel] : NULL;
}

/* Queues are set up between FEATURES_OK and DRIVER_OK, while they are not ready (3.1.1). */
static struct virtqueue *configurable(struct virtio_dev *d)
{
	struct virtqueue *q = selected(d);

	if (!q || q->ready || (d->status & (ST_FEATURES_OK | ST_DRIVER_OK)) != ST_FEATURES_OK)
		return NULL;
	return q;
}

static void set_low(gpa_t *at, uint32_t v)
{
	at->v = (at->v & ~0xffffffffull) | v;
}

static void set_high(gpa_t *at, uint32_t v)
{
	at->v = (at->v & 0xffffffffull) | (uint64_t)v << 32;
}

static void set_queue_ready(struct virtio_dev *d, uint32_t v)
{
	struct virtqueue *q = selected(d);

	if (!q)
		return;
	if (v == 0)
		q->ready = false;
	else if (v == 1 && configurable(d) && virtqueue_enable(q, d->mem, d->features))
		virtio_fail(d, "a queue's size or address is impossible");
}

static void write_queue_reg(struct virtio_dev *d, uint64_t reg, uint32_t v)
{
	struct virtqueue *q = configurable(d);

	if (!q)
		return;
	switch (reg) {
	case QUEUE_NUM: q->size = v <= VIRTQUEUE_MAX ? (uint16_t)v : 0; break;
	case QUEUE_DESC_LOW: set_low(&q->desc_at, v); break;
	case QUEUE_DESC_HIGH: set_high(&q->desc_at, v); break;
	case QUEUE_DRIVER_LOW: set_low(&q->avail_at, v); break;
	case QUEUE_DRIVER_HIGH: set_high(&q->avail_at, v); break;
	case QUEUE_DEVICE_LOW: set_low(&q->used_at, v); break;
	case QUEUE_DEVICE_HIGH: set_high(&q->used_at, v); break;
	}
}

static void write_reg(struct virtio_dev *d, uint64_t reg, uint32_t v)
{
	switch (reg) {
	case DEVICE_FEATURES_SEL: d->device_features_sel = v; break;
	case DRIVER_FEATURES_SEL: d->driver_features_sel = v; break;
	case DRIVER_FEATURES:
		/* Fixed once FEATURES_OK is set (2.2). */
		if (d->status & ST_FEATURES_OK || d->driver_features_sel > 1)
			break;
		d->features &= d->driver_features_sel ? 0xffffffffull : ~0xffffffffull;
		d->features |= (uint64_t)v << (32 * d->driver_features_sel);
		break;
	case QUEUE_SEL: d->queue_sel = v; break;
	case QUEUE_READY: set_queue_ready(d, v); break;
	case QUEUE_NOTIFY: virtio_again(d); break; /* where KVM has no doorbell for it */
	case STATUS: set_status(d, v); break;
	default: write_queue_reg(d, reg, v);
	}
}

static uint32_t read_reg(struct virtio_dev *d, uint64_t reg)
{
	const struct virtqueue *q = selected(d);

	switch (reg) {
	case MAGIC: return MAGIC_VALUE;
	case VERSION: return 2;
	case DEVICE_ID: return d->ops->id;
	case VENDOR_ID: return VENDOR;
	case DEVICE_FEATURES:
		return d->device_features_sel > 1
			       ? 0
			       : (uint32_t)(d->offered >> (32 * d->device_features_sel));
	case QUEUE_NUM_MAX: return q ? VIRTQUEUE_MAX : 0;
	case QUEUE_READY: return q && q->ready;
	case STATUS: return d->status;
	case CONFIG_GENERATION: return d->config_generation;
	default:
		/* No shared memory region: length and base of all ones (4.2.2). */
		return reg >= SHM_LEN_LOW && reg <= SHM_BASE_HIGH ? UINT32_MAX : 0;
	}
}

static void read_config(struct virtio_dev *d, uint64_t offset, uint8_t *data, unsigned int len)
{
	/* data is zeroed, and so is what the driver sees behind the configuration's end. */
	if (offset >= d->config_len)
		return;
	pthread_mutex_lock(&d->lock);
	memcpy(data, (const uint8_t *)d->config + offset, MIN(len, d->config_len - offset));
	pthread_mutex_unlock(&d->lock);
}

/* 4.2.2.2: a field of 32 bits is written as such. */
static void write_config(struct virtio_dev *d, uint64_t offset, uint32_t v, unsigned int len)
{
	uint64_t field = (uintptr_t)d->config_field - (uintptr_t)d->config;

	if (!d->config_field || len != 4 || offset != field)
		return;
	pthread_mutex_lock(&d->lock);
	*d->config_field = v;
	pthread_mutex_unlock(&d->lock);
}

static void mmio_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	struct virtio_dev *d = dev;
	uint32_t v;

	if (offset >= CONFIG) {
		read_config(d, offset - CONFIG, data, len);
		return;
	}
	if (len != 4 || offset % 4) /* 4.2.2.2: registers are read as aligned 32 bits only */
		return;
	if (offset == INTERRUPT_STATUS) {
		v = __atomic_load_n(&d->interrupt_status, __ATOMIC_SEQ_CST);
	} else {
		pthread_mutex_lock(&d->lock);
		v = read_reg(d, offset);
		pthread_mutex_unlock(&d->lock);
	}
	bus_answer(data, len, v);
}

static void mmio_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	struct virtio_dev *d = dev;
	uint32_t v = (uint32_t)bus_value(data, len);

	if (offset >= CONFIG) {
		write_config(d, offset - CONFIG, v, len);
		return;
	}
	if (len != 4 || offset % 4)
		return;
	if (offset == INTERRUPT_ACK) {
		__atomic_fetch_and(&d->interrupt_status, ~v, __ATOMIC_SEQ_CST);
		return;
	}
	pthread_mutex_lock(&d->lock);
	write_reg(d, offset, v);
	pthread_mutex_unlock(&d->lock);
}

void virtio_empty_read(uint64_t offset, uint8_t *data, unsigned int len)
{
	if (len == 4 && offset == MAGIC)
		bus_answer(data, len, MAGIC_VALUE);
	else if (len == 4 && offset == VERSION)
		bus_answer(data, len, 2);
	else if (len == 4 && offset == VENDOR_ID)
		bus_answer(data, len, VENDOR);
}

bool virtio_idle(const struct virtio_dev *d)
{
	/* Linux says that it has seen the device when a driver has gone. */
	return !(d->status & ~ST_ACKNOWLEDGE);
}

const struct bus_ops virtio_mmio_ops = {.read = mmio_read, .write = mmio_write};

int virtio_init(struct virtio_dev *d, struct irq irq, struct loop *loop, struct err *e)
{
	int r = event_new(e);

	if (r < 0)
		return r;
	d->doorbell = (struct loop_source){.fd = r, .ready = doorbell};
	d->irq = irq;
	d->loop = loop;
	if (!d->queues)
		d->queues = d->ops->queues;
	d->offered |= VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	pthread_mutex_init(&d->lock, NULL);
	r = loop_add(loop, &d->doorbell, EPOLLIN);
	if (r)
		close(d->doorbell.fd);
	return r ? err_set(e, -r, "cannot watch a queue: %s", strerror(-r)) : 0;
}

void virtio_close(struct virtio_dev *d)
{
	if (d->ops->close)
		d->ops->close(d);
	loop_del(d->loop, &d->doorbell);
	close(d->doorbell.fd);
}

#define FIELD(m) STATE_SCALAR(struct virtio_dev, m, 1)
const struct state_table virtio_table = {
	.name = "virtio",
	.version = 2,
	.fields = (const struct state_field[]){FIELD(features), FIELD(status),
					       FIELD(device_features_sel), FIELD(driver_features_sel),
					       FIELD(queue_sel), FIELD(interrupt_status),
					       STATE_SCALAR(struct virtio_dev, config_generation, 2),
					       STATE_SCALAR(struct virtio_dev, config_owed, 2), {0}}};
#undef FIELD

#define ST_ALL                                                                                     \
	(ST_ACKNOWLEDGE | ST_DRIVER | ST_DRIVER_OK | ST_FEATURES_OK | ST_NEEDS_RESET | ST_FAILED)

/* Whether a driver can have brought the device there, step by step (set_status). */
static bool reachable(const struct virtio_dev *d)
{
	uint32_t st = d->status;

	if (st & ~ST_ALL || d->interrupt_status & ~(INT_USED | INT_CONFIG))
		return false;
	if (st & ST_DRIVER_OK && !(st & ST_FEATURES_OK))
		return false;
	if (st & ST_FEATURES_OK &&
	    (d->features & ~d->offered || !(d->features & VIRTIO_F_VERSION_1)))
		return false;
	return true;
}

/* Of a driver that has been asked to notify of the next there is nothing to serve. */
static bool is_waiting(struct virtio_dev *d)
{
	bool waiting = false;

	for (unsigned int i = 0; i < d->queues; i++)
		waiting |= virtqueue_waiting(&d->queue[i]);
	return waiting;
}

int virtio_state(struct virtio_dev *d, uint32_t instance, struct state_visitor *v, struct err *e)
{
	int r = state_visit(v, &virtio_table, instance, d, e);

	for (unsigned int i = 0; i < d->queues && !r; i++)
		r = state_visit(v, &virtqueue_table, instance * VIRTIO_MAX_QUEUES + i, &d->queue[i],
				e);
	if (r || !state_loading(v))
		return r;
	if (!reachable(d))
		return state_invalid(v, &virtio_table, instance, "no device of this kind is in such a state",
				     e);
	for (unsigned int i = 0; i < d->queues; i++)
		if (virtqueue_resume(&d->queue[i], d->mem, d->features))
			return state_invalid(v, &virtqueue_table, instance * VIRTIO_MAX_QUEUES + i,
					     "its size or address is impossible", e);
	if (d->interrupt_status)
		irq_raise(&d->irq);
	if (is_waiting(d))
		virtio_again(d);
	return 0;
}
