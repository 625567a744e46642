/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tarball.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tarball tarball(void)
{
	return (struct tarball){.mode = 0644};
}

void tarball_free(struct tarball *t)
{
	free(t->data);
	*t = tarball();
}

static uint8_t *grow(struct tarball *t, size_t by)
{
	uint8_t *at;

	t->data = realloc(t->data, t->len + by + 1);
	at = t->data + t->len;
	memset(at, 0, by);
	t->len += by;
	return at;
}

void tarball_seal(uint8_t *h)
{
	unsigned int sum = 0;
	char text[8];

	memset(h + 148, ' ', 8);
	for (unsigned int i = 0; i < 512; i++)
		sum += h[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(h + 148, text, 7);
}

static void octal(uint8_t *to, size_t len, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%0*llo", (int)len - 1, (unsigned long long)value);
	memcpy(to, text, len);
}

uint8_t *tar_add(struct tarball *t, char type, const char *name, const char *link, const void *data,
		 size_t len)
{
	size_t padded = (len + 511) / 512 * 512, n = strlen(name);
	uint8_t *h = grow(t, 512 + padded);

	t->pax_len = 0;
	memcpy(h, name, n < 100 ? n : 100);
	octal(h + 100, 8, t->mode);
	octal(h + 108, 8, t->uid);
	octal(h + 116, 8, t->gid);
	octal(h + 124, 12, len);
	octal(h + 136, 12, t->mtime);
	h[156] = (uint8_t)type;
	if (link)
		memcpy(h + 157, link, strlen(link) < 100 ? strlen(link) : 100);
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	octal(h + 329, 8, 0);
	octal(h + 337, 8, 0);
	tarball_seal(h);
	if (len)
		memcpy(h + 512, data, len);
	return h;
}

void tar_text(struct tarball *t, const char *name, const char *text)
{
	tar_add(t, '0', name, NULL, text, strlen(text));
}

void tar_dir(struct tarball *t, const char *name, unsigned int mode)
{
	unsigned int before = t->mode;

	t->mode = mode;
	tar_add(t, '5', name, NULL, NULL, 0);
	t->mode = before;
}

void tar_pax(struct tarball *t, const char *key, const void *value, size_t len)
{
	size_t body = strlen(key) + len + 3, whole = body + 1; /* blank, '=', newline; digits */
	size_t before = t->pax_len, at;
	char *text, digits[24];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", whole) + body != whole)
		whole++;
	text = malloc(before + whole + 1);
	if (before) {
		memcpy(text, t->data + t->pax + 512, before);
		t->len = t->pax;
	}
	sprintf(text + before, "%s %s=", digits, key);
	whole += before;
	if (len)
		memcpy(text + whole - 1 - len, value, len);
	text[whole - 1] = '\n';
	at = t->len;
	tar_add(t, 'x', "pax", NULL, text, whole);
	t->pax = at;
	t->pax_len = whole;
	free(text);
}

void tar_pax_text(struct tarball *t, const char *key, const char *value)
{
	tar_pax(t, key, value, strlen(value));
}

void tar_end(struct tarball *t)
{
	grow(t, 1024);
}
