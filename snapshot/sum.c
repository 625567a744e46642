/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/sum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

/* The specification's five primes. */
#define P1 0x9e3779b185ebca87ull
#define P2 0xc2b2ae3d27d4eb4full
#define P3 0x165667b19e3779f9ull
#define P4 0x85ebca77c2b2ae63ull
#define P5 0x27d4eb2f165667c5ull

#define CHUNK (64u * SUM_PAGE) /* read at a time */

static uint64_t rotate(uint64_t v, unsigned int by)
{
	return v << by | v >> (64 - by);
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t lane(uint64_t acc, uint64_t input)
{
	return rotate(acc + input * P2, 31) * P1;
}

static uint64_t merge(uint64_t h, uint64_t acc)
{
	return (h ^ lane(0, acc)) * P1 + P4;
}

/* The last up to 31 bytes, and the final mix. */
static uint64_t finish(uint64_t h, const uint8_t *p, size_t left)
{
	for (; left >= 8; p += 8, left -= 8)
		h = rotate(h ^ lane(0, load64(p)), 27) * P1 + P4;
	if (left >= 4) {
		uint32_t v;

		memcpy(&v, p, sizeof(v));
		h = rotate(h ^ v * P1, 23) * P2 + P3;
		p += 4;
		left -= 4;
	}
	for (; left; p++, left--)
		h = rotate(h ^ *p * P5, 11) * P1;
	h = (h ^ h >> 33) * P2;
	h = (h ^ h >> 29) * P3;
	return h ^ h >> 32;
}

uint64_t sum_bytes(const void *data, size_t len, uint64_t seed)
{
	/* Not an array: the compiler would keep that in memory, which takes twice the time. */
	uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1, h = seed + P5;
	const uint8_t *p = data;
	size_t left = len;

	if (len >= 32) {
		for (; left >= 32; p += 32, left -= 32) {
			a = lane(a, load64(p));
			b = lane(b, load64(p + 8));
			c = lane(c, load64(p + 16));
			d = lane(d, load64(p + 24));
		}
		h = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
		h = merge(merge(merge(merge(h, a), b), c), d);
	}
	return finish(h + len, p, left);
}

bool sum_is_zero(const void *data, size_t len)
{
	/* Two words, which every x86-64 reads and joins at once. */
	typedef uint64_t pair __attribute__((vector_size(16), aligned(8), may_alias));
	const uint64_t *p = data, *end = p + len / sizeof(*p);

	/* Most pages that are not zero differ early. */
	for (; end - p >= 16; p += 16) {
		const pair *v = (const void *)p;
		pair any = (v[0] | v[1]) | (v[2] | v[3]) | ((v[4] | v[5]) | (v[6] | v[7]));

		if (any[0] | any[1])
			return false;
	}
	for (; p < end; p++)
		if (*p)
			return false;
	return true;
}

uint64_t sum_page(const void *page, uint64_t number)
{
	return sum_is_zero(page, SUM_PAGE) ? 0 : sum_bytes(page, SUM_PAGE, number);
}

/* Where data begins at or after `from`; size if there is none. Without support it is all data. */
static uint64_t next_data(int fd, uint64_t from, uint64_t size)
{
	off_t at = lseek(fd, (off_t)from, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? size : from;
	return MIN((uint64_t)at & ~(uint64_t)(SUM_PAGE - 1), size);
}

int sum_file(int fd, uint64_t size, uint64_t *sum)
{
	uint8_t *buffer = aligned_alloc(SUM_PAGE, CHUNK);
	off_t end = lseek(fd, 0, SEEK_END);
	uint64_t at = 0;
	int r = 0;

	*sum = 0;
	if (!buffer)
		return -ENOMEM;
	if (end < 0 || (uint64_t)end < size)
		r = end < 0 ? -errno : -ENODATA;
	/* at stays on a page's beginning until it is at the size, which may be in a page's middle. */
	while (!r && at < size && (at = next_data(fd, at, size)) < size) {
		size_t n = (size_t)MIN(size - at, CHUNK), whole = ALIGN_UP(n, (size_t)SUM_PAGE);

		r = pread_all(fd, buffer, n, (off_t)at);
		memset(buffer + n, 0, whole - n);
		for (size_t i = 0; i < whole && !r; i += SUM_PAGE)
			*sum += sum_page(buffer + i, (at + i) / SUM_PAGE);
		at += n;
	}
	free(buffer);
	return r;
}
