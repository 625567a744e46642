/* SPDX-License-Identifier: Apache-2.0
 *
 * Guest memory and the buses: which addresses lead where.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/bus.h"
#include "vmm/mem.h"

#define SMALL (4ull << 20)
#define BIG   (5ull << 30)

#define AROUND (4ull << 20) /* what is reserved beside a region */

static struct mem mem;
static struct err e;

/* --- memory --- */

static void setup_small(void)
{
	ck_ok(mem_init(&mem, SMALL, &e));
}

static void setup_big(void)
{
	ck_ok(mem_init(&mem, BIG, &e)); /* nothing is touched, so it needs no memory */
}

static void teardown(void)
{
	mem_free(&mem);
	ck_assert_uint_eq(mem.count, 0);
	ck_assert_uint_eq(mem.size, 0);
}

static bool is_ram(uint64_t at, uint64_t len)
{
	return mem_span(&mem, gpa(at), len);
}

/* In the host as in the guest, or no huge page of the host could be one of the guest's. */
static void regions_aligned(void)
{
	for (unsigned int i = 0; i < mem.count; i++)
		ck_assert_uint_eq((uintptr_t)mem.region[i].host % (2u << 20), 0);
}

START_TEST(small_memory)
{
	ck_assert_uint_eq(mem.count, 1);
	ck_assert_uint_eq(mem.size, SMALL);
	ck_assert_ptr_eq(mem_span(&mem, gpa(0), 1), mem.region[0].host);
	ck_assert_ptr_eq(mem_span(&mem, gpa(12345), SMALL - 12345), mem.region[0].host + 12345);
	ck_assert(all_bytes(mem.region[0].host, SMALL, 0));
	regions_aligned();
}
END_TEST

/* Pages of address space that this process has. */
static unsigned long address_space(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	return pages;
}

/* What alignment took of the address space is given back, for sizes that are no multiple of it. */
/* Whether the kernel may read there for us. */
static bool can_be_read(const void *at)
{
	int pipes[2];
	bool read;

	ck_that(!pipe(pipes));
	read = write(pipes[1], at, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);
	return read;
}

START_TEST(nothing_beside_memory)
{
	for (unsigned int i = 0; i < mem.count; i++) {
		const struct mem_region *r = &mem.region[i];

		ck_assert(can_be_read(r->host) && can_be_read(r->host + r->size - 1));
		ck_assert(!can_be_read(r->host - 1) && !can_be_read(r->host - 4096));
		ck_assert(!can_be_read(r->host + r->size) &&
			  !can_be_read(r->host + r->size + 4095));
	}
}
END_TEST

START_TEST(odd_sizes)
{
	static const uint64_t sizes[] = {MEM_MIN, MEM_MIN + 4096, 3u << 20, 5u << 20};

	address_space(); /* its buffers are there before the count */
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned long before = address_space();

		ck_ok(mem_init(&mem, sizes[i], &e));
		ck_assert_uint_eq(address_space() - before, (sizes[i] + AROUND) / 4096);
		regions_aligned();
		ck_assert(all_bytes(mem.region[0].host, sizes[i], 0));
		mem_free(&mem);
		ck_assert_uint_eq(address_space(), before);
	}
}
END_TEST

/* How much of region 0 the host was asked to back by huge pages. */
static uint64_t asked_for_huge(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	uintptr_t from = 0, to = 0, start = (uintptr_t)mem.region[0].host;
	uint64_t sum = 0;
	char line[512];

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "%lx-%lx ", &from, &to);
		if (!strncmp(line, "VmFlags:", 8) && strstr(line, " hg") && from >= start &&
		    to <= start + mem.region[0].size)
			sum += to - from;
	}
	fclose(f);
	return sum;
}

START_TEST(expected_memory)
{
	mem_expect(&mem, gpa(SMALL), 1); /* none of it is RAM, or some, or it wraps */
	mem_expect(&mem, gpa(SMALL - 1), 2);
	mem_expect(&mem, gpa(UINT64_MAX), 2);
	mem_expect(&mem, gpa(0), 0);
	ck_assert_uint_eq(asked_for_huge(), 0);
	mem_expect(&mem, gpa((2u << 20) + 4096), 1);
	if (!asked_for_huge())
		return; /* this host has none */
	ck_assert_uint_eq(asked_for_huge(), 2u << 20);
	mem_expect(&mem, gpa((2u << 20) - 1), 2);
	ck_assert_uint_eq(asked_for_huge(), 4u << 20);
	ck_assert(all_bytes(mem.region[0].host, SMALL, 0));
}
END_TEST

/* The last huge page of a region whose size is odd is not whole. */
START_TEST(expected_memory_at_an_odd_end)
{
	ck_ok(mem_init(&mem, SMALL + 4096, &e));
	mem_expect(&mem, gpa(SMALL), 4096);
	if (asked_for_huge())
		ck_assert_uint_eq(asked_for_huge(), 4096);
	mem_free(&mem);
}
END_TEST

/* Whole pages only, of one region only. */
START_TEST(released_memory)
{
	uint8_t *p = mem.region[0].host;

	memset(p, 1, SMALL);
	ck_assert_int_eq(mem_release(&mem, p + 1, 2 * 4096 - 1), 0);
	ck_assert(all_bytes(p, 4096, 1) && all_bytes(p + 4096, 4096, 0));
	ck_assert(all_bytes(p + 8192, SMALL - 8192, 1));
	ck_assert_int_eq(mem_release(&mem, p + 8193, 4094), 0);
	ck_assert_int_eq(mem_release(&mem, p + 8193, 8190), 0);
	ck_assert_int_eq(mem_release(&mem, p + 8192, 4095), 0);
	ck_assert_int_eq(mem_release(&mem, p, 0), 0);
	ck_assert(all_bytes(p + 8192, SMALL - 8192, 1));
	ck_assert_int_eq(mem_release(&mem, p - 1, 8192), -EFAULT);
	ck_assert_int_eq(mem_release(&mem, p + SMALL - 4096, 4097), -EFAULT);
	ck_assert_int_eq(mem_release(&mem, p + SMALL, 4096), -EFAULT);
	ck_assert_int_eq(mem_release(&mem, p + 4096, UINT64_MAX - 4095), -EFAULT);
	ck_assert(all_bytes(p + 8192, SMALL - 8192, 1));
	ck_assert_int_eq(mem_release(&mem, p, SMALL), 0);
	ck_assert(all_bytes(p, SMALL, 0));
}
END_TEST

/* What was mapped from a file is the file's again. */
START_TEST(released_memory_of_a_file)
{
	static uint8_t content[SMALL];
	int fd = memfd_create("memory", MFD_CLOEXEC);

	fill_pattern(content, SMALL, 1);
	ck_assert_int_eq(write(fd, content, SMALL), SMALL);
	ck_ok(mem_init_file(&mem, SMALL, fd, &e));
	memset(mem.region[0].host + 4096, 1, 8192);
	ck_assert_int_eq(mem_release(&mem, mem.region[0].host + 4096, 4096), 0);
	memset(content + 8192, 1, 4096);
	ck_assert(!memcmp(mem.region[0].host, content, SMALL));
	mem_free(&mem);
	close(fd);
}
END_TEST

START_TEST(spans_at_the_end)
{
	ck_assert(is_ram(0, SMALL));
	ck_assert(!is_ram(0, SMALL + 1));
	ck_assert(is_ram(SMALL - 1, 1));
	ck_assert(!is_ram(SMALL - 1, 2));
	ck_assert(!is_ram(SMALL, 1));
	ck_assert(!is_ram(SMALL + 1, 1));
}
END_TEST

START_TEST(empty_spans)
{
	ck_assert(!is_ram(0, 0));
	ck_assert(!is_ram(SMALL, 0));
	ck_assert(!is_ram(UINT64_MAX, 0));
	ck_assert_int_eq(mem_read(&mem, gpa(0), NULL, 0), 0);
	ck_assert_int_eq(mem_write(&mem, gpa(UINT64_MAX), NULL, 0), 0);
}
END_TEST

START_TEST(spans_that_wrap)
{
	ck_assert(!is_ram(UINT64_MAX, 1));
	ck_assert(!is_ram(UINT64_MAX, 2));
	ck_assert(!is_ram(UINT64_MAX - 4095, 8192));
	ck_assert(!is_ram(1, UINT64_MAX));
	ck_assert(!is_ram(SMALL - 1, UINT64_MAX));
	ck_assert(!is_ram(0, UINT64_MAX));
	ck_assert(!is_ram(1ull << 63, 1ull << 63));
	ck_assert(!is_ram(0xffffffff, 2));
}
END_TEST

START_TEST(copies)
{
	char text[] = "0123456789";

	ck_assert_int_eq(mem_write(&mem, gpa(SMALL - 10), "0123456789", 10), 0);
	ck_assert_int_eq(mem_read(&mem, gpa(SMALL - 5), text, 5), 0);
	ck_assert(!memcmp(text, "5678956789", 10));
	ck_assert_int_eq(mem_write(&mem, gpa(SMALL - 5), "abcdef", 6), -EFAULT);
	ck_assert_int_eq(mem_read(&mem, gpa(SMALL - 5), text, 6), -EFAULT);
	ck_assert(!memcmp(text, "5678956789", 10)); /* nothing in part */
	ck_assert(!memcmp(mem.region[0].host + SMALL - 5, "56789", 5));
}
END_TEST

START_TEST(big_memory_has_a_hole)
{
	ck_assert_uint_eq(mem.count, 2);
	ck_assert_uint_eq(mem.size, BIG);
	ck_assert_uint_eq(mem.region[0].size, MEM_HOLE_START);
	ck_assert_uint_eq(mem.region[1].start.v, MEM_HOLE_END);
	ck_assert_uint_eq(mem.region[1].size, BIG - MEM_HOLE_START);
	ck_assert(is_ram(0, MEM_HOLE_START));
	ck_assert(!is_ram(0, MEM_HOLE_START + 1));
	ck_assert(!is_ram(MEM_HOLE_START - 1, 2));
	ck_assert(!is_ram(MEM_HOLE_START, 1));
	ck_assert(!is_ram(MEM_HOLE_END - 1, 1));
	ck_assert(!is_ram(MEM_HOLE_END - 1, 2));
	ck_assert(!is_ram(MEM_HOLE_START - 1, MEM_HOLE_END - MEM_HOLE_START + 2));
	ck_assert(is_ram(MEM_HOLE_END, BIG - MEM_HOLE_START));
	ck_assert(!is_ram(MEM_HOLE_END, BIG - MEM_HOLE_START + 1));
	ck_assert(is_ram(MEM_HOLE_END + BIG - MEM_HOLE_START - 1, 1));
	ck_assert(!is_ram(MEM_HOLE_END + BIG - MEM_HOLE_START, 1));
	ck_assert_ptr_eq(mem_span(&mem, gpa(MEM_HOLE_END + 77), 1), mem.region[1].host + 77);
}
END_TEST

START_TEST(sizes_around_the_hole)
{
	static const struct {
		uint64_t size;
		unsigned int regions;
	} good[] = {{MEM_MIN, 1},
		    {MEM_HOLE_START - 4096, 1},
		    {MEM_HOLE_START, 1},
		    {MEM_HOLE_START + 4096, 2}};

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		ck_ok(mem_init(&mem, good[i].size, &e));
		ck_assert_uint_eq(mem.count, good[i].regions);
		ck_assert_uint_eq(mem.size, good[i].size);
		mem_free(&mem);
	}
}
END_TEST

START_TEST(sizes_that_are_refused)
{
	static const uint64_t bad[] = {0,
				       4096,
				       MEM_MIN - 4096,
				       MEM_MIN + 1,
				       MEM_MIN + 4095,
				       MEM_MAX + 4096,
				       UINT64_MAX - 4095,
				       UINT64_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_refused(mem_init(&mem, bad[i], &e), EINVAL, "memory of");
		ck_assert_uint_eq(mem.count, 0);
	}
}
END_TEST

/* --- buses --- */

struct access {
	unsigned int reads, writes;
	uint64_t offset;
	unsigned int len;
	uint8_t data[8];
};

static void note_read(void *dev, uint64_t offset, uint8_t *data, unsigned int len)
{
	struct access *a = dev;

	ck_assert(all_bytes(data, len, 0)); /* zeroed for us */
	a->reads++;
	a->offset = offset;
	a->len = len;
	memset(data, 0x5a, len);
}

static void note_write(void *dev, uint64_t offset, const uint8_t *data, unsigned int len)
{
	struct access *a = dev;

	a->writes++;
	a->offset = offset;
	a->len = len;
	memcpy(a->data, data, len);
}

static const struct bus_ops ops = {.read = note_read, .write = note_write};
static struct bus bus;
static struct access dev[2];

static void setup_bus(void)
{
	ck_ok(bus_add(&bus, 0x100, 0x10, &ops, &dev[0], &e));
	ck_ok(bus_add(&bus, 0x110, 8, &ops, &dev[1], &e)); /* right behind it */
}

START_TEST(accesses_reach_their_device)
{
	uint8_t data[8] = "12345678";

	ck_assert(bus_write(&bus, 0x104, data, 4));
	ck_assert_uint_eq(dev[0].writes, 1);
	ck_assert_uint_eq(dev[0].offset, 4);
	ck_assert_uint_eq(dev[0].len, 4);
	ck_assert(!memcmp(dev[0].data, "1234", 4));
	ck_assert(bus_read(&bus, 0x110, data, 8));
	ck_assert_uint_eq(dev[1].reads, 1);
	ck_assert_uint_eq(dev[1].offset, 0);
	ck_assert(all_bytes(data, 8, 0x5a));
	ck_assert(bus_read(&bus, 0x10f, data, 1));
	ck_assert_uint_eq(dev[0].offset, 15);
}
END_TEST

START_TEST(nobody_answers)
{
	static const uint64_t where[] = {0, 0xff, 0x118, 0x1000, UINT32_MAX, UINT64_MAX};

	for (unsigned int i = 0; i < ARRAY_SIZE(where); i++) {
		for (unsigned int len = 1; len <= 8; len *= 2) {
			uint8_t data[9] = {0};

			ck_assert(!bus_read(&bus, where[i], data, len));
			ck_assert(all_bytes(data, len, 0xff));
			ck_assert_uint_eq(data[len], 0);
			ck_assert(!bus_write(&bus, where[i], data, len));
		}
	}
	ck_assert_uint_eq(dev[0].reads + dev[0].writes + dev[1].reads + dev[1].writes, 0);
}
END_TEST

/* An access that leaves its device, or enters it from below, is nobody's. */
START_TEST(accesses_that_straddle)
{
	uint8_t data[8];

	ck_assert(!bus_read(&bus, 0xff, data, 2));
	ck_assert(!bus_read(&bus, 0x10e, data, 4)); /* into the next device */
	ck_assert(!bus_write(&bus, 0x117, data, 2));
	ck_assert(!bus_write(&bus, 0x111, data, 8));
	ck_assert(bus_read(&bus, 0x108, data, 8));
	ck_assert(bus_read(&bus, 0x110, data, 8));
}
END_TEST

START_TEST(overlaps_are_refused)
{
	static const struct {
		uint64_t base, size;
	} bad[] = {{0x100, 0x10}, {0x100, 1}, {0x10f, 1},    {0xff, 2},
		   {0x0, 0x1000}, {0x117, 8}, {0x108, 0x10}, {0x114, 4}};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		ck_refused(bus_add(&bus, bad[i].base, bad[i].size, &ops, NULL, &e), EEXIST,
			   "is taken");
	ck_ok(bus_add(&bus, 0xff, 1, &ops, NULL, &e));
	ck_ok(bus_add(&bus, 0x118, 1, &ops, NULL, &e));
}
END_TEST

START_TEST(limit_of_devices)
{
	for (unsigned int i = bus.count; i < BUS_MAX_RANGES; i++)
		ck_ok(bus_add(&bus, 0x1000 + i, 1, &ops, &dev[0], &e));
	ck_refused(bus_add(&bus, 0x2000, 1, &ops, NULL, &e), ENOSPC, "more than 32");
}
END_TEST

START_TEST(values)
{
	uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	ck_assert_uint_eq(bus_value(data, 1), 1);
	ck_assert_uint_eq(bus_value(data, 2), 0x0201);
	ck_assert_uint_eq(bus_value(data, 4), 0x04030201);
	ck_assert_uint_eq(bus_value(data, 8), 0x0807060504030201);
	bus_answer(data, 2, 0x11223344);
	ck_assert_uint_eq(bus_value(data, 4), 0x04033344);
}
END_TEST

int main(void)
{
	const TTest *const small[] = {small_memory,    nothing_beside_memory, spans_at_the_end,
				      empty_spans,     spans_that_wrap,	      copies,
				      expected_memory, released_memory};
	const TTest *const big[] = {big_memory_has_a_hole, nothing_beside_memory};
	const TTest *const sizes[] = {sizes_around_the_hole, sizes_that_are_refused, odd_sizes,
				      expected_memory_at_an_odd_end, released_memory_of_a_file};
	const TTest *const buses[] = {
		accesses_reach_their_device, nobody_answers,   accesses_that_straddle,
		overlaps_are_refused,	     limit_of_devices, values,
	};
	const struct test_group groups[] = {
		{small, ARRAY_SIZE(small), setup_small, teardown},
		{big, ARRAY_SIZE(big), setup_big, teardown},
		{sizes, ARRAY_SIZE(sizes), NULL, NULL},
		{buses, ARRAY_SIZE(buses), setup_bus, NULL},
	};

	return run_groups("mem", groups, ARRAY_SIZE(groups));
}
