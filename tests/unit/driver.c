/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/driver.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/util.h"

#define PAGE 4096u

void guest_init(struct guest *g)
{
	struct err e;

	ck_ok(mem_init(&g->mem, GUEST_MEMORY, &e));
	g->heap = PAGE;
}

void guest_free(struct guest *g)
{
	mem_free(&g->mem);
}

uint64_t guest_alloc(struct guest *g, uint64_t size)
{
	uint64_t at = g->heap;

	g->heap += ALIGN_UP(size, PAGE);
	ck_that(g->heap <= GUEST_MEMORY);
	return at;
}

void *guest_ptr(const struct guest *g, uint64_t at, uint64_t len)
{
	void *p = mem_span(&g->mem, gpa(at), len);

	ck_that(p);
	return p;
}

/* --- rings --- */

void ring_init(struct ring *r, struct guest *g, unsigned int size)
{
	*r = (struct ring){.guest = g, .size = size};
	r->desc_at = guest_alloc(g, size * sizeof(struct desc));
	r->avail_at = guest_alloc(g, 6 + 2ull * size);
	r->used_at = guest_alloc(g, 6 + 8ull * size);
	r->desc = guest_ptr(g, r->desc_at, size * sizeof(struct desc));
	r->avail = guest_ptr(g, r->avail_at, 6 + 2ull * size);
	r->used = guest_ptr(g, r->used_at, 6 + 8ull * size);
}

static struct desc describe(const struct buffer *b, bool last, unsigned int next)
{
	return (struct desc){b->at, b->len,
			     (uint16_t)((b->write ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT)),
			     last ? 0 : (uint16_t)next};
}

static unsigned int use_desc(struct ring *r)
{
	unsigned int i = r->free;

	r->free = (i + 1) % r->size;
	return i;
}

uint16_t ring_chain(struct ring *r, const struct buffer *b, unsigned int n)
{
	unsigned int head = r->free;

	for (unsigned int i = 0; i < n; i++) {
		unsigned int at = use_desc(r);

		r->desc[at] = describe(&b[i], i == n - 1, r->free);
	}
	return (uint16_t)head;
}

uint16_t ring_indirect(struct ring *r, const struct buffer *b, unsigned int n)
{
	uint64_t at = guest_alloc(r->guest, n * sizeof(struct desc));
	struct desc *table = guest_ptr(r->guest, at, n * sizeof(struct desc));
	unsigned int head = use_desc(r);

	for (unsigned int i = 0; i < n; i++)
		table[i] = describe(&b[i], i == n - 1, i + 1);
	r->desc[head] = (struct desc){at, n * (uint32_t)sizeof(struct desc), DESC_INDIRECT, 0};
	return (uint16_t)head;
}

void ring_offer(struct ring *r, uint16_t head)
{
	uint16_t index = r->avail[1];

	r->avail[2 + index % r->size] = head;
	__atomic_store_n(&r->avail[1], (uint16_t)(index + 1), __ATOMIC_RELEASE);
}

uint16_t ring_add(struct ring *r, const struct buffer *b, unsigned int n)
{
	uint16_t head = ring_chain(r, b, n);

	ring_offer(r, head);
	return head;
}

uint16_t ring_used_index(const struct ring *r)
{
	return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE);
}

bool ring_take(struct ring *r, struct used_elem *u)
{
	if (ring_used_index(r) == r->seen)
		return false;
	memcpy(u, r->used + 2 + 4 * (r->seen++ % r->size), sizeof(*u));
	return true;
}

uint16_t *ring_used_event(struct ring *r)
{
	return r->avail + 2 + r->size;
}

uint16_t *ring_avail_event(struct ring *r)
{
	return r->used + 2 + 4 * (size_t)r->size;
}

/* --- devices --- */

void driver_init(struct driver *d)
{
	struct err e;

	memset(d, 0, sizeof(*d));
	guest_init(&d->guest);
	ck_ok(loop_init(&d->loop, &e));
	ck_ok(d->irq.fd = event_new(&e));
}

void driver_free(struct driver *d)
{
	if (d->dev)
		virtio_close(d->dev);
	loop_close(&d->loop);
	close(d->irq.fd);
	guest_free(&d->guest);
}

uint32_t reg_read(struct driver *d, uint64_t reg)
{
	uint8_t data[4] = {0};

	virtio_mmio_ops.read(d->dev, reg, data, 4);
	return (uint32_t)bus_value(data, 4);
}

void reg_write(struct driver *d, uint64_t reg, uint32_t v)
{
	uint8_t data[4];

	bus_answer(data, 4, v);
	virtio_mmio_ops.write(d->dev, reg, data, 4);
}

void driver_reset(struct driver *d)
{
	reg_write(d, REG_STATUS, 0);
}

void driver_negotiate(struct driver *d, uint64_t features)
{
	reg_write(d, REG_STATUS, ST_ACKNOWLEDGE);
	reg_write(d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	for (uint32_t half = 0; half < 2; half++) {
		reg_write(d, REG_DRIVER_FEATURES_SEL, half);
		reg_write(d, REG_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
	}
	reg_write(d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	ck_assert_uint_eq(reg_read(d, REG_STATUS), ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
}

static void write_address(struct driver *d, uint64_t reg, uint64_t at)
{
	reg_write(d, reg, (uint32_t)at);
	reg_write(d, reg + 4, (uint32_t)(at >> 32));
}

void driver_set_queue(struct driver *d, unsigned int queue, const struct ring *r)
{
	reg_write(d, REG_QUEUE_SEL, queue);
	reg_write(d, REG_QUEUE_NUM, r->size);
	write_address(d, REG_QUEUE_DESC, r->desc_at);
	write_address(d, REG_QUEUE_DRIVER, r->avail_at);
	write_address(d, REG_QUEUE_DEVICE, r->used_at);
	reg_write(d, REG_QUEUE_READY, 1);
}

void driver_start(struct driver *d, uint64_t features, unsigned int queues, unsigned int size)
{
	driver_negotiate(d, features | VIRTIO_F_VERSION_1);
	for (unsigned int i = 0; i < queues; i++) {
		ring_init(&d->ring[i], &d->guest, size);
		driver_set_queue(d, i, &d->ring[i]);
		ck_assert_uint_eq(reg_read(d, REG_QUEUE_READY), 1);
	}
	reg_write(d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	loop_settle(&d->loop);
}

void driver_kick(struct driver *d, unsigned int queue)
{
	reg_write(d, REG_QUEUE_NOTIFY, queue);
	loop_settle(&d->loop);
}

bool driver_sees_failure(struct driver *d)
{
	return reg_read(d, REG_STATUS) & ST_NEEDS_RESET && reg_read(d, REG_INTERRUPT_STATUS) & 2;
}
