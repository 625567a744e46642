/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/stamp.h"

#include <time.h>

/* A file's times are those of the clock's last tick; the slowest has 100 a second. */
#define TICK_NS 20000000

struct stamp stamp_of(const struct stat *st)
{
	return (struct stamp){st->st_dev,
			      st->st_ino,
			      (uint64_t)st->st_size,
			      (uint64_t)st->st_mtim.tv_sec,
			      (uint64_t)st->st_mtim.tv_nsec,
			      (uint64_t)st->st_ctim.tv_sec,
			      (uint64_t)st->st_ctim.tv_nsec};
}

void stamp_settle(int64_t changed)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = now.tv_sec * INT64_C(1000000000) + now.tv_nsec - changed;
	if (age >= 0 && age < TICK_NS)
		nanosleep(&(struct timespec){.tv_nsec = TICK_NS - age}, NULL);
}
