/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/util.h"

void trace_put(struct trace *t, enum trace_kind kind, uint16_t who, uint64_t what, uint32_t detail,
	       uint64_t at, uint64_t took)
{
	struct trace_ring *ring = __atomic_load_n(&t->ring, __ATOMIC_ACQUIRE);
	struct trace_entry *entry;
	uint64_t number;

	if (!ring)
		return;
	number = __atomic_fetch_add(&ring->next, 1, __ATOMIC_RELAXED);
	entry = &ring->entry[number & (TRACE_ENTRIES - 1)];
	/* Who reads meanwhile sees by the number that this is neither the old entry nor the new. */
	__atomic_store_n(&entry->number, 0, __ATOMIC_RELEASE);
	entry->at = at;
	entry->what = what;
	entry->took = (uint32_t)MIN(took, UINT32_MAX);
	entry->detail = detail;
	entry->kind = (uint16_t)kind;
	entry->who = who;
	__atomic_store_n(&entry->number, (uint32_t)number + 1, __ATOMIC_RELEASE);
}

/* A file that the client could shorten would take the monitor with it. */
static bool is_good(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && seals & F_SEAL_SHRINK && !fstat(fd, &st) &&
	       st.st_size >= (off_t)sizeof(struct trace_ring);
}

static void *map(void *at, int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;

	return mmap(at, sizeof(struct trace_ring), PROT_READ | PROT_WRITE,
		    flags | (at ? MAP_FIXED : 0), fd, 0);
}

int trace_begin(struct trace *t, int fd,
		void (*name)(void *ctx, unsigned int slot, char name[TRACE_NAME]), void *ctx,
		struct err *e)
{
	struct trace_ring *ring;

	if (t->ring)
		return err_set(e, EBUSY, "somebody traces this VM already");
	if (!is_good(fd))
		return err_set(e, EINVAL, "no memory for a trace came with the request");
	ring = map(t->place, fd);
	if (ring == MAP_FAILED)
		return err_sys(e, "cannot map the memory of the trace");
	t->place = ring;
	madvise(ring, sizeof(*ring), MADV_DONTFORK); /* a fork is traced by itself */
	for (unsigned int i = 0; i < TRACE_DEVICES; i++)
		name(ctx, i, ring->device[i]);
	__atomic_store_n(&t->ring, ring, __ATOMIC_RELEASE);
	return 0;
}

void trace_end(struct trace *t)
{
	if (!t->ring)
		return;
	__atomic_store_n(&t->ring, NULL, __ATOMIC_RELEASE);
	/* If there is no memory even for a mapping, the client's stays: it is a leak, not a fault.
	 */
	if (map(t->place, -1) != MAP_FAILED)
		madvise(t->place, sizeof(*t->place), MADV_DONTFORK);
}
