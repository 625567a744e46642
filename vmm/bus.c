/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/util.h"

int bus_add(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev,
	    struct err *e)
{
	for (unsigned int i = 0; i < b->count; i++) {
		const struct bus_range *r = &b->range[i];

		if (base < r->base + r->size && r->base < base + size)
			return err_set(e, EEXIST, "bus address 0x%" PRIx64 " is taken", base);
	}
	if (b->count == BUS_MAX_RANGES)
		return err_set(e, ENOSPC, "more than %d devices on a bus", BUS_MAX_RANGES);
	b->range[b->count++] = (struct bus_range){base, size, ops, dev};
	return 0;
}

static const struct bus_range *find(const struct bus *b, uint64_t addr, unsigned int len)
{
	for (unsigned int i = 0; i < b->count; i++) {
		const struct bus_range *r = &b->range[i];
		uint64_t offset = addr - r->base;

		if (offset < r->size)
			return len <= r->size - offset ? r : NULL;
	}
	return NULL;
}

bool bus_read(const struct bus *b, uint64_t addr, uint8_t *data, unsigned int len)
{
	const struct bus_range *r = find(b, addr, len);

	memset(data, r ? 0 : 0xff, len);
	if (r)
		r->ops->read(r->dev, addr - r->base, data, len);
	return r;
}

bool bus_write(const struct bus *b, uint64_t addr, const uint8_t *data, unsigned int len)
{
	const struct bus_range *r = find(b, addr, len);

	if (r)
		r->ops->write(r->dev, addr - r->base, data, len);
	return r;
}

uint64_t bus_value(const uint8_t *data, unsigned int len)
{
	uint64_t v = 0;

	memcpy(&v, data, MIN(len, 8u));
	return v;
}

void bus_answer(uint8_t *data, unsigned int len, uint64_t value)
{
	memcpy(data, &value, MIN(len, 8u));
}
