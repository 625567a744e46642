/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory files: saved, layered and mapped again, against a model that knows every page.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/memfile.h"
#include "snapshot/sum.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define PAGE SUM_PAGE
#define SIZE (8ull << 20)
#define PAGES ((unsigned int)(SIZE / PAGE))

static struct err e;

/* --- a memory and what it should hold --- */

static struct mem mem;
static uint32_t model[PAGES]; /* of each page, 0: zeros, else what fills it */

static uint8_t *page_of(const struct mem *m, uint64_t page)
{
	uint64_t at = page * PAGE;

	for (unsigned int i = 0; i < m->count; i++) {
		if (at < m->region[i].size)
			return m->region[i].host + at;
		at -= m->region[i].size;
	}
	return NULL;
}

static void write_page(unsigned int page, uint32_t value)
{
	uint32_t *p = (void *)page_of(&mem, page);

	for (size_t i = 0; i < PAGE / sizeof(*p); i++)
		p[i] = value;
	model[page] = value;
}

static void check_model(void)
{
	for (unsigned int page = 0; page < PAGES; page++) {
		const uint32_t *p = (void *)page_of(&mem, page);

		for (size_t i = 0; i < PAGE / sizeof(*p); i++)
			if (p[i] != model[page])
				ck_abort_msg("page %u has 0x%x and not 0x%x", page, p[i],
					     model[page]);
	}
}

/* --- a chain of files --- */

static struct memfile_layer chain[MEMFILE_LAYERS];
static unsigned int layers;
static struct memfile_saved saved;

static int new_file(void)
{
	char name[32];

	snprintf(name, sizeof(name), "memory-%u", layers);
	return open(tmp_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	ck_that(!fstat(fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* Saves mem as what follows in the chain, checks what can be said of any file, and maps it. */
static void save(bool layer)
{
	int fd = new_file();
	uint64_t sum;

	ck_ok(memfile_save(fd, &mem, chain, layers, layer, true, NULL, NULL, &saved, &e));
	ck_that(lseek(fd, 0, SEEK_END) == (off_t)mem.size);
	ck_that(!sum_file(fd, mem.size, &sum));
	ck_that(sum == saved.sum);
	ck_that(bytes_of(fd) <= saved.stored);
	ck_that(!saved.extents == !layer);
	if (layer)
		ck_that(!memfile_check_extents(saved.extents, saved.count, mem.size));
	else
		layers = 0;
	chain[layers++] = (struct memfile_layer){fd, saved.extents, saved.count};
}

static void map(void)
{
	uint64_t size = mem.size;

	mem_free(&mem);
	ck_ok(memfile_map(&mem, size, chain, layers, &e));
}

static void setup(void)
{
	tmp_setup();
	ck_ok(mem_init(&mem, SIZE, &e));
	ck_assert(!madvise(mem.region[0].host, SIZE, MADV_NOHUGEPAGE));
}

static void teardown(void)
{
	mem_free(&mem);
	for (unsigned int i = 0; i < layers; i++) {
		close(chain[i].fd);
		free((void *)(uintptr_t)chain[i].extents);
	}
	tmp_teardown();
}

/* --- bases --- */

START_TEST(base_of_nothing)
{
	save(false);
	ck_assert_uint_eq(saved.stored, 0);
	ck_assert_uint_eq(saved.sum, 0);
	ck_assert_uint_eq(bytes_of(chain[0].fd), 0);
	map();
	check_model();
}
END_TEST

START_TEST(base)
{
	static const unsigned int at[] = {0, 1, 2, 255, 256, 257, 1000, PAGES - 1};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		write_page(at[i], 0x1000 + at[i]);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		sum += sum_page(page_of(&mem, at[i]), at[i]);
	write_page(500, 1);
	write_page(500, 0); /* touched, but zero */
	save(false);
	ck_assert_uint_eq(saved.stored, ARRAY_SIZE(at) * PAGE);
	ck_assert_uint_eq(saved.sum, sum);
	ck_assert_uint_le(bytes_of(chain[0].fd), ARRAY_SIZE(at) * PAGE);
	map();
	check_model();
}
END_TEST

/* Runs as long as, longer and shorter than what is written at once, one after the other. */
START_TEST(runs)
{
	for (unsigned int page = 0, run = 1, n; page + 2 < PAGES; page += run + 1, run = run * 2 + 1)
		for (n = 0; n < run && page + n < PAGES; n++)
			write_page(page + n, page + n + 1);
	save(false);
	map();
	check_model();
	/* All of it. */
	for (unsigned int page = 0; page < PAGES; page++)
		write_page(page, page * 3 + 1);
	save(false);
	ck_assert_uint_eq(saved.stored, SIZE);
	map();
	check_model();
}
END_TEST

/* One word anywhere in a page makes it one to keep. */
START_TEST(a_single_byte)
{
	for (unsigned int i = 0; i < PAGE; i += 61)
		page_of(&mem, i / 4)[i] = 1;
	save(false);
	map();
	for (unsigned int i = 0; i < PAGE; i += 61) {
		ck_that(page_of(&mem, i / 4)[i] == 1);
		ck_that(all_bytes(page_of(&mem, i / 4), i, 0));
		ck_that(all_bytes(page_of(&mem, i / 4) + i + 1, PAGE - i - 1, 0));
	}
}
END_TEST

/* What a clone writes is its own. */
START_TEST(file_stays_as_it_is)
{
	uint64_t sum;

	write_page(3, 33);
	save(false);
	map();
	write_page(3, 44);
	write_page(4, 55);
	ck_assert(!sum_file(chain[0].fd, SIZE, &sum));
	ck_assert_uint_eq(sum, saved.sum);
	map();
	model[3] = 33;
	model[4] = 0;
	check_model();
}
END_TEST

/* --- layers --- */

START_TEST(layer_of_nothing)
{
	write_page(3, 33);
	save(false);
	map();
	check_model(); /* reads all of it */
	save(true);
	ck_assert_uint_eq(saved.count, 0);
	ck_assert_uint_eq(saved.stored, 0);
	map();
	check_model();
}
END_TEST

START_TEST(layer)
{
	for (unsigned int page = 0; page < PAGES; page += 2)
		write_page(page, page + 1);
	save(false);
	map();
	write_page(100, 7);
	write_page(501, 8);
	write_page(PAGES - 1, 9);
	save(true);
	ck_assert_uint_eq(saved.count, 3);
	ck_assert_uint_eq(saved.extents[0].page, 100);
	ck_assert_uint_eq(saved.extents[1].page, 501);
	ck_assert_uint_eq(saved.extents[2].page, PAGES - 1);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(saved.extents[i].count, 1);
	ck_assert_uint_eq(saved.stored, 3 * PAGE);
	ck_assert_uint_le(bytes_of(chain[1].fd), 3 * PAGE);
	map();
	check_model();
}
END_TEST

/* A page that has become zero hides its parent's. */
START_TEST(zero_in_a_layer)
{
	write_page(10, 5);
	write_page(11, 6);
	save(false);
	map();
	write_page(10, 0);
	save(true);
	ck_assert_uint_eq(saved.count, 1);
	ck_assert_uint_eq(saved.stored, 0);
	map();
	check_model();
	write_page(11, 0);
	save(true);
	map();
	check_model();
}
END_TEST

/* Small gaps are written, with what the parent has there; large ones are not. */
START_TEST(gaps)
{
	for (unsigned int page = 0; page < 200; page++)
		write_page(page, page + 1);
	save(false);
	map();
	write_page(10, 1000);
	write_page(15, 1001); /* 4 between */
	write_page(100, 1002); /* many */
	write_page(102, 0); /* 1 */
	save(true);
	ck_assert_uint_eq(saved.count, 2);
	ck_assert_uint_eq(saved.extents[0].page, 10);
	ck_assert_uint_eq(saved.extents[0].count, 6);
	ck_assert_uint_eq(saved.extents[1].page, 100);
	ck_assert_uint_eq(saved.extents[1].count, 3);
	ck_assert_uint_eq(saved.stored, 8 * PAGE);
	map();
	check_model();
}
END_TEST

/* All of it, and not what differs, after layers: as it must be where the parent is gone. */
START_TEST(whole_again)
{
	write_page(10, 5);
	save(false);
	map();
	write_page(20, 6);
	save(true);
	map();
	write_page(30, 7); /* the file's, a layer's and its own */
	write_page(10, 0);
	save(false);
	ck_assert_uint_eq(saved.stored, 2 * PAGE);
	map();
	check_model();
}
END_TEST

START_TEST(chains)
{
	uint32_t random = 5;

	for (unsigned int i = 0; i < 300; i++)
		write_page(next_random(&random) % PAGES, i + 1);
	save(false);
	for (unsigned int depth = 1; depth <= 6; depth++) {
		map();
		check_model();
		for (unsigned int i = 0; i < 100; i++) {
			unsigned int first = next_random(&random) % PAGES;
			unsigned int n = 1 + next_random(&random) % 4 * (i % 5);

			for (unsigned int k = first; k < MIN(first + n, PAGES); k++)
				write_page(k, next_random(&random) % 3 ? depth << 16 | i : 0);
		}
		save(true);
		check_model(); /* saving changes nothing */
	}
	map();
	check_model();
	/* The same as one file. */
	save(false);
	map();
	check_model();
}
END_TEST

/* A clone that runs on after a snapshot, of which there is another: it is still its first parent's. */
START_TEST(saved_twice)
{
	unsigned int n;

	write_page(1, 1);
	save(false);
	map();
	write_page(2, 2);
	save(true);
	n = --layers; /* not mapped: memory remains as it was, a child of the base */
	close(chain[n].fd);
	free((void *)(uintptr_t)chain[n].extents);
	write_page(40, 3);
	save(true);
	ck_assert_uint_eq(saved.count, 2);
	map();
	check_model();
}
END_TEST

/* Ten pages apart, twice as many as extents may be, with something in the parent between them. */
START_TEST(gaps_grow)
{
	enum { APART = 10, N = 2 * MEMFILE_EXTENTS };
	uint64_t size = (uint64_t)N * APART * PAGE;

	mem_free(&mem);
	ck_ok(mem_init(&mem, size, &e));
	for (unsigned int i = 0; i < N; i += 7)
		*page_of(&mem, i * APART + 3) = (uint8_t)(1 + i % 255);
	save(false);
	map();
	for (unsigned int i = 0; i < N; i++)
		*page_of(&mem, i * APART) = (uint8_t)(1 + i % 254);
	save(true);
	ck_assert_uint_le(saved.count, MEMFILE_EXTENTS);
	map();
	for (unsigned int i = 0; i < N; i++) {
		ck_that(*page_of(&mem, i * APART) == (uint8_t)(1 + i % 254));
		ck_that(*page_of(&mem, i * APART + 3) == (i % 7 ? 0 : (uint8_t)(1 + i % 255)));
	}
}
END_TEST

/* --- memory above the hole --- */

#define BIG	(MEM_HOLE_START + (64ull << 20))
#define BORDER	(MEM_HOLE_START / PAGE)

START_TEST(two_regions)
{
	mem_free(&mem);
	ck_ok(mem_init(&mem, BIG, &e));
	for (uint64_t i = 0; i < 4; i++)
		memset(page_of(&mem, BORDER - 2 + i), (int)(1 + i), PAGE);
	memset(page_of(&mem, BIG / PAGE - 1), 9, PAGE);
	save(false);
	ck_assert_uint_eq(saved.stored, 5 * PAGE);
	map();
	ck_assert_uint_eq(mem.count, 2);
	for (uint64_t i = 0; i < 4; i++)
		ck_assert(all_bytes(page_of(&mem, BORDER - 2 + i), PAGE, (uint8_t)(1 + i)));
	ck_assert(all_bytes(mem_span(&mem, gpa(MEM_HOLE_END), PAGE), PAGE, 3));
	/* A layer with an extent across the hole. */
	memset(page_of(&mem, BORDER - 1), 20, PAGE);
	memset(page_of(&mem, BORDER), 0, PAGE);
	memset(page_of(&mem, BORDER + 3), 22, PAGE);
	save(true);
	ck_assert_uint_eq(saved.count, 1);
	ck_assert_uint_eq(saved.extents[0].page, BORDER - 1);
	ck_assert_uint_eq(saved.extents[0].count, 5);
	map();
	ck_assert(all_bytes(page_of(&mem, BORDER - 2), PAGE, 1));
	ck_assert(all_bytes(page_of(&mem, BORDER - 1), PAGE, 20));
	ck_assert(all_bytes(page_of(&mem, BORDER), PAGE, 0));
	ck_assert(all_bytes(page_of(&mem, BORDER + 1), PAGE, 4));
	ck_assert(all_bytes(page_of(&mem, BORDER + 3), PAGE, 22));
	ck_assert(all_bytes(page_of(&mem, BIG / PAGE - 1), PAGE, 9));
}
END_TEST

/* --- lists --- */

static int check_list(uint32_t n, const struct memfile_extent *x)
{
	return memfile_check_extents(x, n, SIZE);
}
#define LIST(...)                                                                                  \
	check_list(sizeof((struct memfile_extent[]){__VA_ARGS__}) / sizeof(struct memfile_extent), \
		   (struct memfile_extent[]){__VA_ARGS__})

START_TEST(lists)
{
	static struct memfile_extent most[MEMFILE_EXTENTS + 1];

	ck_assert(!check_list(0, NULL));
	ck_assert(!LIST({0, 1}));
	ck_assert(!LIST({0, PAGES}));
	ck_assert(!LIST({PAGES - 1, 1}));
	ck_assert(!LIST({0, 1}, {5, 2}, {7, 1}));
	ck_assert(LIST({0, 0}));
	ck_assert(LIST({0, PAGES + 1}));
	ck_assert(LIST({1, PAGES}));
	ck_assert(LIST({PAGES, 1}));
	ck_assert(LIST({UINT32_MAX, 1}));
	ck_assert(LIST({1, UINT32_MAX}));
	ck_assert(LIST({UINT32_MAX, UINT32_MAX}));
	ck_assert(LIST({5, 2}, {0, 1}));
	ck_assert(LIST({5, 2}, {6, 1}));
	ck_assert(LIST({5, 2}, {5, 2}));
	ck_assert(LIST({5, UINT32_MAX}, {4, 1}));
	for (uint32_t i = 0; i < ARRAY_SIZE(most); i++)
		most[i] = (struct memfile_extent){2 * i, 1};
	ck_assert(!memfile_check_extents(most, MEMFILE_EXTENTS, 1ull << 40));
	ck_assert(memfile_check_extents(most, MEMFILE_EXTENTS + 1, 1ull << 40));
}
END_TEST

/* --- errors --- */

static int save_to(int fd, memfile_progress *progress, void *ctx)
{
	return memfile_save(fd, &mem, chain, layers, layers > 0, true, progress, ctx, &saved, &e);
}

START_TEST(file_too_large)
{
	struct rlimit limit = {.rlim_cur = 64 * PAGE, .rlim_max = RLIM_INFINITY};
	int fd = new_file();

	signal(SIGXFSZ, SIG_IGN);
	write_page(63, 1);
	write_page(64, 1);
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	ck_refused(save_to(fd, NULL, NULL), EFBIG, "cannot save the guest's memory: File too large");
	ck_assert_ptr_null(saved.extents);
	close(fd);
}
END_TEST

START_TEST(cannot_be_written)
{
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC);

	write_page(1, 1);
	ck_refused(save_to(fd, NULL, NULL), EINVAL, "cannot save the guest's memory");
	close(fd);
	fd = open(tmp_file("memory", "", 0), O_RDONLY | O_CLOEXEC);
	ck_refused(save_to(fd, NULL, NULL), EINVAL, "cannot save the guest's memory");
	close(fd);
	/* As a layer: its list goes too. */
	save(false);
	map();
	write_page(1, 2);
	fd = open(tmp_file("memory", "", 0), O_RDONLY | O_CLOEXEC);
	ck_refused(save_to(fd, NULL, NULL), EINVAL, "cannot save the guest's memory");
	ck_assert_ptr_null(saved.extents);
	close(fd);
}
END_TEST

START_TEST(cannot_be_mapped)
{
	int fd = open(tmp_path("."), O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	struct memfile_extent one = {0, 1};
	struct memfile_layer bad = {fd, NULL, 0};
	struct mem m;

	ck_refused(memfile_map(&m, SIZE, &bad, 1, &e), ENODEV, "cannot map");
	ck_assert_uint_eq(m.count, 0);
	save(false);
	chain[layers++] = (struct memfile_layer){fd, &one, 1};
	ck_refused(memfile_map(&m, SIZE, chain, 2, &e), ENODEV, "cannot map a layer");
	ck_assert_uint_eq(m.count, 0);
	close(fd);
	layers--;
}
END_TEST

struct heard {
	unsigned int calls, stop_at;
	uint64_t done, all;
};

static int hear(void *ctx, uint64_t done, uint64_t all)
{
	struct heard *h = ctx;

	ck_that(done > h->done && done <= all && (!h->calls || all == h->all));
	h->done = done;
	h->all = all;
	return ++h->calls == h->stop_at ? -ECANCELED : 0;
}

START_TEST(progress)
{
	struct heard h = {0}, stopped = {.stop_at = 2};
	int fd = new_file();

	for (unsigned int page = 0; page < 1000; page++)
		write_page(page, page);
	ck_ok(save_to(fd, hear, &h));
	ck_assert_uint_eq(h.calls, 1000 / 256);
	ck_assert_uint_ge(h.all, 1000 * PAGE);
	close(fd);
	fd = new_file();
	ck_refused(save_to(fd, hear, &stopped), ECANCELED, "cannot save");
	ck_assert_uint_eq(stopped.calls, 2);
	close(fd);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		base_of_nothing, base, runs, a_single_byte, file_stays_as_it_is, layer_of_nothing,
		layer, zero_in_a_layer, gaps, whole_again, chains, saved_twice,
		gaps_grow, two_regions, lists, file_too_large,
		cannot_be_written, cannot_be_mapped, progress,
	};

	return run_tests("memfile", tests, ARRAY_SIZE(tests), setup, teardown);
}
