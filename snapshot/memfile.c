/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/sum.h"

#define PAGE SUM_PAGE

/* /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#define PM_FILE	   (1ull << 61)
#define PM_SWAPPED (1ull << 62)
#define PM_PRESENT (1ull << 63)
#define PM_BATCH   512u

#ifndef MADV_POPULATE_WRITE /* musl 1.2.3 has no name for it */
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGES 512u /* pages that one entry of an x86 page directory maps */

#define GAP_FIRST 8u   /* pages between two extents that are worth a mapping less */
#define STEP	  256u /* pages between two calls of progress; also the longest write */

int memfile_check_extents(const struct memfile_extent *x, uint32_t n, uint64_t size)
{
	uint64_t at = 0;

	if (n > MEMFILE_EXTENTS)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		if (!x[i].count || x[i].page < at)
			return -EINVAL;
		at = (uint64_t)x[i].page + x[i].count;
	}
	return at <= size / PAGE ? 0 : -EINVAL;
}

/* --- mapping --- */

static int map_extent(const struct mem *m, const struct memfile_layer *l,
		      const struct memfile_extent *x)
{
	uint64_t offset = (uint64_t)x->page * PAGE, left = (uint64_t)x->count * PAGE, start = 0;

	/* An extent may cross from one region into the next. */
	for (unsigned int i = 0; i < m->count && left; i++) {
		const struct mem_region *r = &m->region[i];
		uint64_t part;

		if (offset < start + r->size) {
			part = MIN(left, start + r->size - offset);
			if (mmap(r->host + (offset - start), part, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, l->fd,
				 (off_t)offset) == MAP_FAILED)
				return -errno;
			offset += part;
			left -= part;
		}
		start += r->size;
	}
	return 0;
}

static int map_layer(const struct mem *m, const struct memfile_layer *l)
{
	int r = 0;

	for (uint32_t i = 0; i < l->count && !r; i++)
		r = map_extent(m, l, &l->extents[i]);
	return r;
}

int memfile_map(struct mem *m, uint64_t size, const struct memfile_layer *layer, unsigned int n,
		struct err *e)
{
	int r = mem_init_file(m, size, layer[0].fd, e);

	if (r)
		return r;
	for (unsigned int i = 1; i < n && !r; i++)
		r = map_layer(m, &layer[i]);
	for (unsigned int i = 0; n > 1 && i < m->count; i++) /* extents are new mappings */
		madvise(m->region[i].host, m->region[i].size, MADV_DONTDUMP);
	if (!r)
		return 0;
	mem_free(m);
	return err_set(e, -r, "cannot map a layer of the snapshot's memory: %s", strerror(-r));
}

/* --- which pages to save --- */

static void mark(uint8_t *map, uint64_t page)
{
	map[page / 8] |= (uint8_t)(1u << page % 8);
}

static bool marked(const uint8_t *map, uint64_t page)
{
	return map[page / 8] >> page % 8 & 1;
}

static int open_pagemap(const struct mem *m)
{
	int fd = m->pagemap ? dup(m->pagemap) : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The entries of n pages. */
static int read_pagemap(int fd, const uint8_t *host, uint64_t n, uint64_t *entry)
{
	return pread_all(fd, entry, n * sizeof(*entry),
			 (off_t)((uintptr_t)host / PAGE * sizeof(*entry)));
}

/* Whether it is a page that is not the file's any more. */
static bool is_private(uint64_t entry)
{
	return entry & PM_SWAPPED || (entry & (PM_PRESENT | PM_FILE)) == PM_PRESENT;
}

/* Marks what the process has written itself. */
static int mark_private(uint8_t *map, const struct mem *m)
{
	int fd = open_pagemap(m);
	uint64_t entry[PM_BATCH], page = 0;
	int r = fd < 0 ? fd : 0;

	for (unsigned int i = 0; i < m->count && !r; i++) {
		uint64_t n = m->region[i].size / PAGE;

		for (uint64_t at = 0; at < n && !r; at += PM_BATCH) {
			uint64_t batch = MIN(n - at, PM_BATCH);

			r = read_pagemap(fd, m->region[i].host + at * PAGE, batch, entry);
			for (uint64_t k = 0; k < batch && !r; k++)
				if (is_private(entry[k]))
					mark(map, page + at + k);
		}
		page += n;
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* Marks what a file of the chain holds. */
static int mark_layer(uint8_t *map, const struct memfile_layer *l, uint64_t size)
{
	off_t data = 0, hole;

	for (uint32_t i = 0; i < l->count; i++)
		for (uint32_t k = 0; k < l->extents[i].count; k++)
			mark(map, (uint64_t)l->extents[i].page + k);
	if (l->extents)
		return 0;
	while ((data = lseek(l->fd, data, SEEK_DATA)) >= 0 && (uint64_t)data < size) {
		hole = lseek(l->fd, data, SEEK_HOLE);
		for (uint64_t at = (uint64_t)data / PAGE; at * PAGE < MIN((uint64_t)hole, size); at++)
			mark(map, at);
		data = hole;
	}
	return data < 0 && errno != ENXIO ? -errno : 0; /* ENXIO: no more data */
}

/* Fills gaps of up to `gap` pages between marked ones. Returns how many extents there are then. */
static uint32_t fill_gaps(uint8_t *map, uint64_t pages, uint64_t gap)
{
	uint64_t last = UINT64_MAX;
	uint32_t extents = 0;

	for (uint64_t p = 0; p < pages; p++) {
		if (!marked(map, p)) {
			/* Eight pages at a time through what is empty. */
			if (p % 8 == 0 && !map[p / 8])
				p += 7;
			continue;
		}
		if (last == UINT64_MAX || p - last - 1 > gap)
			extents++;
		else
			for (uint64_t k = last + 1; k < p; k++)
				mark(map, k);
		last = p;
	}
	return extents;
}

/* n: how many there are, from fill_gaps. */
static int list_extents(const uint8_t *map, uint64_t pages, uint32_t n, struct memfile_extent **list)
{
	struct memfile_extent *x = calloc(n ? n : 1, sizeof(*x));
	uint32_t k = 0;

	if (!x)
		return -ENOMEM;
	*list = x;
	for (uint64_t p = 0; p < pages; p++) {
		if (!marked(map, p))
			continue;
		if (k && p == (uint64_t)x[k - 1].page + x[k - 1].count)
			x[k - 1].count++;
		else
			x[k++] = (struct memfile_extent){(uint32_t)p, 1};
	}
	return 0;
}

/* --- the pages that a clone writes first --- */

int memfile_written(const struct mem *m, struct memfile_extent **x, uint32_t *n)
{
	uint64_t pages = m->size / PAGE;
	uint8_t *map = calloc(pages / 8 + 1, 1);
	int r = map ? mark_private(map, m) : -ENOMEM;

	if (!r) {
		*n = fill_gaps(map, pages, 0);
		r = list_extents(map, pages, *n, x);
	}
	free(map);
	return r;
}

#define USED (HUGE_PAGES / 8) /* pages; a start takes less time with one huge page than with so many small ones */

/* Whether enough of a block is used, and none of it written. */
static bool is_read(const uint64_t *entry)
{
	unsigned int present = 0;

	for (unsigned int k = 0; k < HUGE_PAGES; k++) {
		if (is_private(entry[k]))
			return false;
		present += !!(entry[k] & PM_PRESENT);
	}
	return present > USED;
}

void memfile_gather(const struct mem *m)
{
	uint64_t entry[HUGE_PAGES];
	int fd = open_pagemap(m);

	for (unsigned int i = 0; i < m->count && fd >= 0; i++) {
		const struct mem_region *r = &m->region[i];

		for (uint64_t at = 0; at + HUGE_PAGES * PAGE <= r->size; at += HUGE_PAGES * PAGE)
			if (!read_pagemap(fd, r->host + at, HUGE_PAGES, entry) && is_read(entry))
				(void)madvise(r->host + at, HUGE_PAGES * PAGE, MADV_COLLAPSE);
	}
	if (fd >= 0)
		close(fd);
}

void memfile_populate(const struct mem *m, const struct memfile_extent *x, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = (uint64_t)x[i].page * PAGE, len = (uint64_t)x[i].count * PAGE;
		const struct mem_region *r = m->region;

		if (at >= r->size && m->count > 1)
			at -= r++->size;
		/* EINVAL before Linux 5.14; an extent across both regions is left out. */
		if (at + len <= r->size && madvise(r->host + at, len, MADV_POPULATE_WRITE) &&
		    errno == EINVAL)
			break;
	}
}

/* --- saving --- */

struct save {
	int fd;
	const struct mem *m;
	const uint8_t *map;
	uint64_t pages, todo, done; /* pages: of all memory; marked; of those done */
	bool sum;
	memfile_progress *progress;
	void *ctx;
	struct memfile_saved *saved;
};

static int write_run(struct save *s, const uint8_t *from, uint64_t page, uint64_t n)
{
	uint64_t at = 0, len = n * PAGE;

	while (at < len) {
		ssize_t done = pwrite(s->fd, from + at, len - at, (off_t)(page * PAGE + at));

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		at += (uint64_t)done;
	}
	s->saved->stored += len;
	return 0;
}

static int tell(struct save *s)
{
	return s->progress && s->done % STEP == 0
		       ? s->progress(s->ctx, s->done * PAGE, s->todo * PAGE)
		       : 0;
}

/* A region, whose first page is page `first` of the file. Pages go out in runs, as long as they are
 * marked and not zero.
 */
static int save_region(struct save *s, const struct mem_region *region, uint64_t first)
{
	uint64_t n = region->size / PAGE, run = 0; /* pages before `at` that wait */
	int r = 0;

	for (uint64_t at = 0; at <= n && !r; at++) {
		const uint8_t *p = region->host + at * PAGE;
		bool take = at < n && marked(s->map, first + at);

		if (take) {
			s->done++;
			r = tell(s);
			take = !sum_is_zero(p, PAGE);
		}
		if (take && s->sum)
			s->saved->sum += sum_bytes(p, PAGE, first + at);
		if (run && (!take || run == STEP)) {
			r = r ? r : write_run(s, p - run * PAGE, first + at - run, run);
			run = 0;
		}
		run += take;
	}
	return r;
}

static int save_marked(struct save *s)
{
	uint64_t first = 0;
	int r = ftruncate(s->fd, (off_t)(s->pages * PAGE)) ? -errno : 0;

	for (uint64_t p = 0; p < s->pages; p++)
		s->todo += marked(s->map, p);
	for (unsigned int i = 0; i < s->m->count && !r; i++) {
		r = save_region(s, &s->m->region[i], first);
		first += s->m->region[i].size / PAGE;
	}
	return r;
}

int memfile_save(int fd, const struct mem *m, const struct memfile_layer *base, unsigned int n,
		 bool with_parent, bool sum, memfile_progress *progress, void *ctx,
		 struct memfile_saved *saved, struct err *e)
{
	uint64_t pages = m->size / PAGE, gap = GAP_FIRST;
	uint8_t *map = calloc(pages / 8 + 1, 1);
	struct save s = {.fd = fd,
			 .m = m,
			 .map = map,
			 .pages = pages,
			 .sum = sum,
			 .progress = progress,
			 .ctx = ctx,
			 .saved = saved};
	uint32_t extents;
	int r = map ? mark_private(map, m) : -ENOMEM;

	*saved = (struct memfile_saved){0};
	if (!r && with_parent) {
		while ((extents = fill_gaps(map, pages, gap)) > MEMFILE_EXTENTS)
			gap *= 2;
		r = list_extents(map, pages, extents, &saved->extents);
		saved->count = r ? 0 : extents;
	} else {
		for (unsigned int i = 0; i < n && !r; i++)
			r = mark_layer(map, &base[i], m->size);
	}
	if (!r)
		r = save_marked(&s);
	free(map);
	if (!r)
		return 0;
	free(saved->extents);
	saved->extents = NULL;
	return err_set(e, -r, "cannot save the guest's memory: %s", strerror(-r));
}
