/* SPDX-License-Identifier: Apache-2.0
 *
 * The working set: recorded by one clone, followed by the next, and not trusted.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define SIZE  MEM_MIN
#define PAGES (SIZE / 4096)

#define BLOCK  (2ul << 20)
#define BLOCKS 4

static struct snapshot s;
static struct mem mem;
static struct err e;

static void map(void)
{
	mem_free(&mem);
	ck_ok(mem_init_file(&mem, SIZE, s.memory, &e));
}

static void setup(void)
{
	tmp_setup();
	memset(&s, 0, sizeof(s));
	s.memory = open(tmp_file("memory", "x", 1), O_RDWR | O_CLOEXEC);
	ck_assert(!ftruncate(s.memory, (off_t)SIZE));
	s.dir = open(tmp_path(""), O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(s.dir, 0);
	s.m.memory = SIZE;
	s.m.state_sum = 0x123456789abcdef0;
	map();
}

/* The pages that are the process's own are these. */
static void written_is(const struct memfile_extent *want, uint32_t n)
{
	struct memfile_extent *x = NULL;
	uint32_t got;

	ck_ok(memfile_written(&mem, &x, &got));
	ck_assert_uint_eq(got, n);
	ck_assert(!n || !memcmp(x, want, n * sizeof(*x)));
	free(x);
}

static const struct memfile_extent pages[] = {{0, 1}, {7, 2}, {PAGES - 1, 1}};

static void record(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		for (uint32_t k = 0; k < pages[i].count; k++)
			mem.region[0].host[(pages[i].page + k) * 4096ull] = 1;
	snapshot_record(&s, &mem);
	map();
	written_is(NULL, 0);
}

START_TEST(recorded_and_followed)
{
	ck_assert(!snapshot_populate(&s, &mem));
	record();
	ck_assert(snapshot_populate(&s, &mem));
	written_is(pages, ARRAY_SIZE(pages));
	ck_assert_uint_eq(mem.region[0].host[0], 'x'); /* the file's bytes all the same */
}
END_TEST

START_TEST(of_another_snapshot)
{
	record();
	s.m.state_sum++;
	ck_assert(!snapshot_populate(&s, &mem));
	s.m.state_sum--;
	s.m.memory -= 4096; /* a list that leads beyond the memory */
	ck_assert(!snapshot_populate(&s, &mem));
	written_is(NULL, 0);
}
END_TEST

/* The frame has a sum: a list with a wrong byte is none. */
START_TEST(each_byte)
{
	uint8_t *data;
	size_t len;

	record();
	ck_ok(snapshot_read_file(s.dir, FILE_WORKSET, &data, &len, &e));
	for (size_t i = 0; i < len; i++) {
		data[i] ^= 0x10;
		ck_ok(files_write(s.dir, FILE_WORKSET, data, len, &e));
		ck_that(!snapshot_populate(&s, &mem));
		data[i] ^= 0x10;
		ck_ok(files_write(s.dir, FILE_WORKSET, data, i, &e));
		ck_that(!snapshot_populate(&s, &mem));
	}
	free(data);
}
END_TEST

/* Frames that are right, with lists that are not: too short, out of order, too much. */
START_TEST(impossible_lists)
{
	static const struct {
		uint32_t n, word[6];
	} lists[] = {{0, {0}},
		     {1, {0}},
		     {4, {0, 0, 5, 0}},
		     {6, {0, 0, 5, 1, 4, 1}},
		     {4, {0, 0, 0, UINT32_MAX}},
		     {4, {0, 0, UINT32_MAX, 1}}};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		uint32_t word[6];
		struct state_writer w;

		memcpy(word, lists[i].word, sizeof(word));
		memcpy(word, &s.m.state_sum, 8);
		state_begin(&w, SNAPSHOT_WORKSET_KIND);
		state_save_array(&w, "written", 0, word, sizeof(*word), lists[i].n);
		ck_ok(state_finish(&w, &e));
		ck_ok(files_write(s.dir, FILE_WORKSET, w.data, w.len, &e));
		state_discard(&w);
		ck_that(!snapshot_populate(&s, &mem));
	}
	written_is(NULL, 0);
}
END_TEST

/* How many pages of a block of 2 MiB a mapping has, when one of them was read. */
static unsigned int mapped_by_one(unsigned int block)
{
	uint64_t entry[BLOCK / 4096];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	const uint8_t *at = mem.region[0].host + block * BLOCK;
	unsigned int n = 0;

	ck_assert_uint_eq(*at, 'x');
	ck_ok(pread_all(fd, entry, sizeof(entry), (off_t)((uintptr_t)at / 4096 * 8)));
	for (size_t i = 0; i < ARRAY_SIZE(entry); i++)
		n += entry[i] >> 63;
	close(fd);
	return n;
}

/* Blocks of which much is read and nothing written become huge pages of the file, where the kernel has
 * that for a memfd; what is in them stays.
 */
START_TEST(read_blocks_are_gathered)
{
	static uint8_t data[BLOCKS * BLOCK];
	int fd = memfd_create("memory", MFD_CLOEXEC);
	bool can;

	memset(data, 'x', sizeof(data));
	ck_assert_int_eq(pwrite(fd, data, sizeof(data), 0), sizeof(data));
	mem_free(&mem);
	ck_ok(mem_init_file(&mem, sizeof(data), fd, &e));
	can = !madvise(mem.region[0].host, BLOCK, 25); /* MADV_COLLAPSE */
	for (uint64_t at = 0; at < 3 * BLOCK; at += 4096)
		ck_that(mem.region[0].host[at] == 'x');
	mem.region[0].host[2 * BLOCK] = 'y';
	memfile_gather(&mem);
	mem_free(&mem);
	ck_ok(mem_init_file(&mem, sizeof(data), fd, &e));
	ck_assert(!can || mapped_by_one(1) == BLOCK / 4096);
	ck_assert_uint_lt(mapped_by_one(2), BLOCK / 4096); /* written */
	ck_assert_uint_lt(mapped_by_one(3), BLOCK / 4096); /* not used */
	ck_assert(!memcmp(mem.region[0].host, data, sizeof(data)));
	close(fd);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {recorded_and_followed, of_another_snapshot, each_byte,
				      impossible_lists, read_blocks_are_gathered};

	return run_tests("workset", tests, ARRAY_SIZE(tests), setup, tmp_teardown);
}
