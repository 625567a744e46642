/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	  4096ull
#define HUGE_PAGE (2ull << 20) /* what one entry of an x86 page directory maps */
#define AROUND	  (2 * HUGE_PAGE)

/* A place for guest memory that begins at a multiple of a huge page's size in the host too, as it does
 * in the guest: only then can one entry of the nested page tables map a huge page, and a boot takes
 * tens of nested page faults instead of thousands. What lies around it, 4 KiB at least on either side,
 * stays reserved: whoever leaves guest memory by a wrong sum touches nothing of the monitor's, and a
 * start is spared the unmapping.
 */
static uint8_t *reserve(uint64_t size, void **reserved)
{
	uint8_t *at = mmap(NULL, size + AROUND, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	*reserved = at;
	at += PAGE;
	return at + -(uintptr_t)at % HUGE_PAGE;
}

/* fd -1: of zeros; else the file's bytes behind those of the regions before. */
static int add_region(struct mem *m, uint64_t start, uint64_t size, int fd, struct err *e)
{
	void *reserved, *host = reserve(size, &reserved);

	if (host && mmap(host, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0), fd,
			 fd < 0 ? 0 : (off_t)m->size) == MAP_FAILED) {
		int error = errno;

		munmap(reserved, size + AROUND);
		errno = error;
		host = NULL;
	}

	if (!host)
		return err_sys(e, "cannot map %" PRIu64 " MiB of guest memory", size >> 20);
	/* A core dump of the monitor is for the monitor's authors; the guest's secrets are not. */
	madvise(host, size, MADV_DONTDUMP);
	m->region[m->count++] = (struct mem_region){gpa(start), size, host, reserved};
	m->size += size;
	return 0;
}

int mem_init(struct mem *m, uint64_t size, struct err *e)
{
	return mem_init_file(m, size, -1, e);
}

int mem_init_file(struct mem *m, uint64_t size, int fd, struct err *e)
{
	uint64_t low = MIN(size, MEM_HOLE_START);
	int r;

	memset(m, 0, sizeof(*m));
	if (size % 4096)
		return err_set(e, EINVAL, "memory of %" PRIu64 " bytes is not whole pages", size);
	if (size < MEM_MIN || size > MEM_MAX)
		return err_set(e, EINVAL,
			       "memory of %" PRIu64 " KiB is outside %llu MiB to %llu GiB",
			       size >> 10, MEM_MIN >> 20, MEM_MAX >> 30);
	r = add_region(m, 0, low, fd, e);
	if (!r && size > low)
		r = add_region(m, MEM_HOLE_END, size - low, fd, e);
	if (r)
		mem_free(m);
	return r;
}

void mem_free(struct mem *m)
{
	while (m->count) {
		struct mem_region *r = &m->region[--m->count];

		munmap(r->reserved, r->size + AROUND);
	}
	m->size = 0;
}

void *mem_span(const struct mem *m, gpa_t at, uint64_t len)
{
	for (unsigned int i = 0; i < m->count; i++) {
		const struct mem_region *r = &m->region[i];
		uint64_t offset = at.v - r->start.v;

		/* An address below the start wraps to a huge offset and fails the same test. */
		if (offset < r->size)
			return len && len <= r->size - offset ? r->host + offset : NULL;
	}
	return NULL;
}

void mem_expect(const struct mem *m, gpa_t at, uint64_t len)
{
	for (unsigned int i = 0; i < m->count; i++) {
		const struct mem_region *r = &m->region[i];
		uint64_t from = at.v - r->start.v, to;

		if (from >= r->size || !len || len > r->size - from)
			continue;
		/* Outwards to whole huge pages; the region's last one may be none. */
		to = MIN(ALIGN_UP(from + len, HUGE_PAGE), r->size);
		from -= from % HUGE_PAGE;
		madvise(r->host + from, to - from, MADV_HUGEPAGE);
	}
}

int mem_release(const struct mem *m, void *host, uint64_t len)
{
	for (unsigned int i = 0; i < m->count; i++) {
		const struct mem_region *r = &m->region[i];
		uint64_t from = (uintptr_t)host - (uintptr_t)r->host, to;

		if (from >= r->size || len > r->size - from)
			continue;
		to = (from + len) / PAGE * PAGE;
		from = ALIGN_UP(from, PAGE);
		if (from >= to)
			return 0;
		return madvise(r->host + from, to - from, MADV_DONTNEED) ? -errno : 0;
	}
	return -EFAULT;
}

int mem_read(const struct mem *m, gpa_t at, void *to, uint64_t len)
{
	const void *p = mem_span(m, at, len);

	if (!p)
		return len ? -EFAULT : 0;
	memcpy(to, p, len);
	return 0;
}

int mem_write(const struct mem *m, gpa_t at, const void *from, uint64_t len)
{
	void *p = mem_span(m, at, len);

	if (!p)
		return len ? -EFAULT : 0;
	memcpy(p, from, len);
	return 0;
}
