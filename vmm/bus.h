/* SPDX-License-Identifier: Apache-2.0
 *
 * bus: which device answers an address. One for port I/O, one for memory-mapped I/O.
 *
 * Filled while the machine is built, read-only from the first vCPU run on, so that vCPU threads
 * look things up without a lock. A device does its own locking.
 */
#ifndef UVM_VMM_BUS_H
#define UVM_VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/err.h"

struct bus_ops {
	/* Called on a vCPU thread, which waits for the answer: no blocking calls. offset is from
	 * the start of the device's range; len is 1, 2, 4 or 8, and [offset, offset+len) lies in
	 * the range. Nothing is promised about alignment or about which widths make sense.
	 * read fills data (len bytes, zeroed before the call).
	 */
	void (*read)(void *dev, uint64_t offset, uint8_t *data, unsigned int len);
	void (*write)(void *dev, uint64_t offset, const uint8_t *data, unsigned int len);
};

struct bus_range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *dev;
};

#define BUS_MAX_RANGES 32

struct bus {
	struct bus_range range[BUS_MAX_RANGES];
	unsigned int count;
};

/* Puts dev at [base, base+size). Returns 0, -EEXIST if that overlaps another device, or -ENOSPC. */
int bus_add(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *dev,
	    struct err *e);

/* An access by the guest. Where no device answers, a read gives all ones and a write does
 * nothing, as on a PC; these return false then.
 */
bool bus_read(const struct bus *b, uint64_t addr, uint8_t *data, unsigned int len);
bool bus_write(const struct bus *b, uint64_t addr, const uint8_t *data, unsigned int len);

/* The value of an access of len <= 8 bytes, and the other way. */
uint64_t bus_value(const uint8_t *data, unsigned int len);
void bus_answer(uint8_t *data, unsigned int len, uint64_t value);

#endif
