/* SPDX-License-Identifier: Apache-2.0
 *
 * Checksums: XXH64 against its published vectors, and sums of files against a plain loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/sum.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

/* The input and seed of xxHash's own sanity check (cli/xsum_sanity_check.c). */
#define PRIME32 2654435761u
#define PRIME64 11400714785074694797ull

START_TEST(published_vectors)
{
	static const struct {
		size_t len;
		uint64_t seed, sum;
	} v[] = {
		{0, 0, 0xef46db3751d8e999},	   {0, PRIME32, 0xac75fda2929b17ef},
		{1, 0, 0xe934a84adb052768},	   {1, PRIME32, 0x5014607643a9b4c3},
		{4, 0, 0x9136a0dca57457ee},	   {14, 0, 0x8282dcc4994e35c8},
		{14, PRIME32, 0xc3bd6bf63deb6df0}, {222, 0, 0xb641ae8cb691c174},
		{222, PRIME32, 0x20cb8ab7ae10c14a},
	};
	uint64_t generator = PRIME32;
	uint8_t data[222];

	for (size_t i = 0; i < sizeof(data); i++, generator *= PRIME64)
		data[i] = (uint8_t)(generator >> 56);
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		ck_assert_uint_eq(sum_bytes(data, v[i].len, v[i].seed), v[i].sum);
	ck_assert_uint_eq(sum_bytes("a", 1, 0), 0xd24ec4f1a98c6e5b);
	ck_assert_uint_eq(sum_bytes("abc", 3, 0), 0x44bc2cf5ad770999);
}
END_TEST

START_TEST(alignment_does_not_matter)
{
	uint8_t data[300], moved[300 + 8];

	fill_pattern(data, sizeof(data), 1);
	for (size_t len = 0; len <= sizeof(data); len++)
		for (size_t by = 0; by < 8; by++) {
			memcpy(moved + by, data, len);
			ck_that(sum_bytes(moved + by, len, 7) == sum_bytes(data, len, 7));
		}
}
END_TEST

START_TEST(every_bit_counts)
{
	uint8_t data[100];
	uint64_t sum;

	fill_pattern(data, sizeof(data), 2);
	sum = sum_bytes(data, sizeof(data), 0);
	for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_that(sum_bytes(data, sizeof(data), 0) != sum);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	ck_assert_uint_ne(sum_bytes(data, sizeof(data), 1), sum);
	ck_assert_uint_ne(sum_bytes(data, sizeof(data) - 1, 0), sum);
}
END_TEST

static uint8_t page[SUM_PAGE] __attribute__((aligned(8)));

START_TEST(zeros)
{
	ck_assert(sum_is_zero(page, 0));
	for (size_t len = 8; len <= SUM_PAGE; len += 8)
		ck_that(sum_is_zero(page, len));
	for (size_t at = 0; at < SUM_PAGE; at++) {
		page[at] = 0x80;
		ck_that(!sum_is_zero(page, SUM_PAGE));
		ck_that(sum_is_zero(page, at & ~7ul));
		ck_that(sum_page(page, 3) == sum_bytes(page, SUM_PAGE, 3));
		page[at] = 0;
	}
	ck_assert_uint_eq(sum_page(page, 3), 0);
}
END_TEST

/* --- files --- */

/* By its definition. */
static uint64_t sum_of(const uint8_t *data, size_t size)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < size; at += SUM_PAGE) {
		memset(page, 0, sizeof(page));
		memcpy(page, data + at, MIN(size - at, (size_t)SUM_PAGE));
		sum += sum_page(page, at / SUM_PAGE);
	}
	return sum;
}

#define FILE_SIZE (70u * SUM_PAGE) /* more than one chunk of sum_file */

static uint8_t data[FILE_SIZE];

static int file_of(const void *bytes, size_t len)
{
	int fd = open(tmp_file("file", bytes, len), O_RDWR | O_CLOEXEC);

	ck_that(fd >= 0);
	return fd;
}

START_TEST(files)
{
	static const size_t sizes[] = {0,    1,	   511,	  4095, 4096,
				       4097, 8192, 65536, 64 * SUM_PAGE, 64 * SUM_PAGE + 1,
				       FILE_SIZE - 1, FILE_SIZE};

	fill_pattern(data, sizeof(data), 3);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int fd = file_of(data, sizes[i]);
		uint64_t sum = 1;

		ck_assert_int_eq(sum_file(fd, sizes[i], &sum), 0);
		ck_assert_uint_eq(sum, sum_of(data, sizes[i]));
		ck_assert_int_eq(sum_file(fd, sizes[i] + 1, &sum), -ENODATA);
		close(fd);
	}
}
END_TEST

/* A file that is longer counts up to the size alone, also in the middle of a page. */
START_TEST(only_up_to_the_size)
{
	int fd;

	fill_pattern(data, sizeof(data), 4);
	fd = file_of(data, sizeof(data));
	for (size_t size = 0; size <= 3 * SUM_PAGE; size += 512 + size % 3) {
		uint64_t sum;

		ck_assert_int_eq(sum_file(fd, size, &sum), 0);
		ck_assert_uint_eq(sum, sum_of(data, size));
	}
	close(fd);
}
END_TEST

START_TEST(holes_are_zeros)
{
	static const size_t at[] = {0, 5, 6, 63, 64, 69};
	uint64_t sparse, dense;
	int fd = file_of("", 0);
	struct stat st;

	ck_assert(!ftruncate(fd, FILE_SIZE));
	ck_assert_int_eq(sum_file(fd, FILE_SIZE, &sparse), 0);
	ck_assert_uint_eq(sparse, 0);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		fill_pattern(data + at[i] * SUM_PAGE, SUM_PAGE, (uint32_t)i);
		ck_assert(pwrite(fd, data + at[i] * SUM_PAGE, SUM_PAGE,
				 (off_t)(at[i] * SUM_PAGE)) == SUM_PAGE);
	}
	ck_assert_int_eq(sum_file(fd, FILE_SIZE, &sparse), 0);
	ck_assert(!fstat(fd, &st));
	ck_assert_uint_lt((uint64_t)st.st_blocks * 512, FILE_SIZE);
	close(fd);
	fd = file_of(data, FILE_SIZE);
	ck_assert_int_eq(sum_file(fd, FILE_SIZE, &dense), 0);
	ck_assert_uint_eq(sparse, dense);
	ck_assert_uint_eq(sparse, sum_of(data, FILE_SIZE));
	close(fd);
}
END_TEST

/* Two pages that change places change the sum, as does one that moves. */
START_TEST(places_count)
{
	uint64_t before;

	fill_pattern(data, 2 * SUM_PAGE, 5);
	before = sum_of(data, 3 * SUM_PAGE);
	memcpy(data + 2 * SUM_PAGE, data, SUM_PAGE);
	ck_assert_uint_ne(sum_of(data + SUM_PAGE, 2 * SUM_PAGE), before);
	memset(data, 0, SUM_PAGE);
	ck_assert_uint_ne(sum_of(data, 3 * SUM_PAGE), before);
}
END_TEST

START_TEST(what_cannot_be_read)
{
	uint64_t sum;
	int fd = open(tmp_file("file", "x", 1), O_WRONLY | O_CLOEXEC), fds[2];

	ck_assert_int_eq(sum_file(fd, 1, &sum), -EBADF);
	close(fd);
	ck_assert(!pipe(fds));
	ck_assert_int_eq(sum_file(fds[0], 1, &sum), -ESPIPE);
	ck_assert_int_eq(sum_file(-1, 1, &sum), -EBADF);
}
END_TEST

int main(void)
{
	const TTest *const bytes[] = {published_vectors, alignment_does_not_matter,
				      every_bit_counts, zeros};
	const TTest *const file[] = {files, only_up_to_the_size, holes_are_zeros, places_count,
				     what_cannot_be_read};
	const struct test_group groups[] = {
		{bytes, ARRAY_SIZE(bytes), NULL, NULL},
		{file, ARRAY_SIZE(file), tmp_setup, tmp_teardown},
	};

	return run_groups("sum", groups, ARRAY_SIZE(groups));
}
