/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/power.h"

#define SLEEP_ENABLE	   (1u << 5)
#define SLEEP_TYPE(v)	   ((v) >> 2 & 7)
#define PVPANIC_PANICKED   (1u << 0)
#define PVPANIC_CRASH_LOAD (1u << 1)
#define I8042_COMMAND	   4
#define I8042_PULSE_RESET  0xfe

static void power_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	(void)dev, (void)offset, (void)data, (void)len; /* zero: no wake status */
}

static void power_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	struct end *end = dev;
	uint8_t v = data[0];

	(void)len;
	if (offset == POWER_SLEEP_CONTROL && v & SLEEP_ENABLE &&
	    SLEEP_TYPE(v) == POWER_SLEEP_TYPE_OFF)
		end_set(end, END_POWEROFF, "the guest switched itself off");
	else if (offset == POWER_RESET && v == POWER_RESET_VALUE)
		end_set(end, END_REBOOT, "the guest reset itself");
}

const struct bus_ops power_ops = {.read = power_read, .write = power_write};

static void pvpanic_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	(void)dev, (void)offset, (void)len;
	data[0] = PVPANIC_PANICKED; /* the events that it takes */
}

static void pvpanic_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	(void)offset, (void)len;
	/* With a crash kernel loaded the guest goes on into that; not the end of it. */
	if (data[0] & PVPANIC_PANICKED && !(data[0] & PVPANIC_CRASH_LOAD))
		end_set(dev, END_PANIC, "the guest's kernel panicked");
}

const struct bus_ops pvpanic_ops = {.read = pvpanic_read, .write = pvpanic_write};

static void i8042_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	/* Status 0: the input buffer is empty, so a kernel that waits for that goes on at once. */
	(void)dev, (void)offset, (void)data, (void)len;
}

static void i8042_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	(void)len;
	if (offset == I8042_COMMAND && data[0] == I8042_PULSE_RESET)
		end_set(dev, END_REBOOT, "the guest reset itself");
}

const struct bus_ops i8042_ops = {.read = i8042_read, .write = i8042_write};
