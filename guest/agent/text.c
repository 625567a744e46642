/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

size_t append(char *buf, size_t size, size_t n, const char *text)
{
	size_t len = strnlen(text, size - n);

	memcpy(buf + n, text, len);
	return n + len;
}

size_t compose(char *buf, size_t size, ...)
{
	const char *text;
	size_t n = 0;
	va_list texts;

	va_start(texts, size);
	while ((text = va_arg(texts, const char *)))
		n = append(buf, size - 1, n, text);
	va_end(texts);
	buf[n] = '\0';
	return n;
}

const char *number_text(char *buf, uint64_t number)
{
	char digits[NUMBER_SIZE], *at = digits + sizeof(digits);

	*--at = '\0';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	return memcpy(buf, at, (size_t)(digits + sizeof(digits) - at));
}

uint64_t number_of(const char *text, const char **end)
{
	uint64_t number = 0;
	bool fits = true;

	for (; *text >= '0' && *text <= '9'; text++)
		fits = fits && !__builtin_mul_overflow(number, 10, &number) &&
		       !__builtin_add_overflow(number, (uint64_t)(*text - '0'), &number);
	if (end)
		*end = text;
	return fits ? number : UINT64_MAX;
}

const char *find_text(const char *text, const char *what)
{
	size_t len = strlen(what);

	while ((text = strchr(text, *what)) && strncmp(text, what, len))
		text++;
	return text;
}
