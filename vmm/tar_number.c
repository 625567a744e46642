/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tar_number.h"

#include <stddef.h>

bool tar_number(const char *field, size_t len, int64_t *value)
{
	const uint8_t *p = (const uint8_t *)field;
	uint64_t v = 0;
	size_t i = 0;

	*value = 0;
	if (p[0] & 0x80) {
		/* The bit that marks it is not part of it; the next one is its sign. */
		bool negative = p[0] & 0x40;
		int64_t n = negative ? -1 : 0;

		for (; i < len; i++) {
			uint8_t byte = i ? p[i] : (uint8_t)(negative ? p[0] | 0x80 : p[0] & 0x7f);

			if (n > INT64_MAX >> 8 || n < INT64_MIN >> 8)
				return false;
			n = n * 256 + byte;
		}
		*value = n;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return false;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	for (; i < len; i++)
		if (p[i] && p[i] != ' ')
			return false;
	*value = (int64_t)v;
	return true;
}

bool tar_size(const char *field, size_t len, uint64_t *value)
{
	int64_t n;

	if (!tar_number(field, len, &n) || n < 0)
		return false;
	*value = (uint64_t)n;
	return true;
}

const char *tar_decimal(const char *s, uint64_t *value)
{
	uint64_t v = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v) || v > INT64_MAX)
			return NULL;
	*value = v;
	return p == s ? NULL : p;
}

bool tar_time(const char *s, struct timespec *to)
{
	bool negative = *s == '-';
	uint64_t seconds;
	long ns = 0, unit = 100000000;

	s = tar_decimal(s + negative, &seconds);
	if (!s)
		return false;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, unit /= 10)
			ns += unit * (*s - '0');
	if (*s)
		return false;
	*to = (struct timespec){(time_t)seconds, ns};
	if (negative) /* tv_nsec counts forward all the same */
		*to = (struct timespec){-(time_t)seconds - (ns > 0), ns ? 1000000000 - ns : 0};
	return true;
}
