/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader of JSON: from a text to a tree.
 */
#include "vmm/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/util.h"

#define BLOCK 16384u

struct json_block {
	struct json_block *next;
	size_t used, size;
	max_align_t data[];
};

struct parser {
	struct json_doc *doc;
	const char *text, *name;
	size_t len, at;
	unsigned int depth, count;
	struct err *e;
};

/* --- memory --- */

static void *take(struct parser *p, size_t size)
{
	struct json_block *b = p->doc->blocks;
	void *mem;

	size = ALIGN_UP(size, sizeof(max_align_t));
	if (!b || b->size - b->used < size) {
		size_t room = MAX(size, BLOCK);

		b = malloc(sizeof(*b) + room);
		if (!b) {
			err_set(p->e, ENOMEM, "%s: out of memory", p->name);
			return NULL;
		}
		*b = (struct json_block){.next = p->doc->blocks, .size = room};
		p->doc->blocks = b;
	}
	mem = (char *)b->data + b->used;
	b->used += size;
	return mem;
}

void json_free(struct json_doc *d)
{
	while (d->blocks) {
		struct json_block *next = d->blocks->next;

		free(d->blocks);
		d->blocks = next;
	}
	d->root = NULL;
}

/* --- texts --- */

struct place {
	size_t line, column;
};

/* Where an editor shows it: both from 1, and a character of several bytes is one column. */
static struct place place_of(const struct parser *p, size_t at)
{
	struct place here = {1, 1};

	for (size_t i = 0; i < at; i++)
		if (p->text[i] == '\n')
			here = (struct place){here.line + 1, 1};
		else if (((unsigned char)p->text[i] & 0xc0) != 0x80)
			here.column++;
	return here;
}

static int bad_at(struct parser *p, size_t at, const char *why)
{
	struct place here = place_of(p, at);

	return err_set(p->e, EINVAL, "%s: line %zu, column %zu: %s", p->name, here.line, here.column, why);
}

static int bad(struct parser *p, const char *why)
{
	return bad_at(p, p->at, p->at < p->len ? why : "the text ends too early");
}

/* The next byte, or -1. */
static int peek(const struct parser *p)
{
	return p->at < p->len ? (unsigned char)p->text[p->at] : -1;
}

static void skip_blanks(struct parser *p)
{
	while (p->at < p->len && memchr(" \t\n\r", p->text[p->at], 4))
		p->at++;
}

static size_t put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Four hexadecimal digits. */
static int hex4(struct parser *p, uint32_t *value)
{
	*value = 0;
	for (unsigned int i = 0; i < 4; i++, p->at++) {
		int c = peek(p);
		uint32_t digit = c >= '0' && c <= '9'	? (uint32_t)c - '0'
				 : c >= 'a' && c <= 'f' ? (uint32_t)c - 'a' + 10
				 : c >= 'A' && c <= 'F' ? (uint32_t)c - 'A' + 10
							: 16;

		if (digit > 15)
			return bad(p, "\\u needs four hexadecimal digits");
		*value = *value << 4 | digit;
	}
	return 0;
}

/* What follows a backslash. */
static int escape(struct parser *p, char *to, size_t *n)
{
	static const char from[] = "\"\\/bfnrt", as[] = "\"\\/\b\f\n\r\t";
	size_t at = p->at - 1;
	int c = peek(p);
	const char *known = c > 0 ? strchr(from, c) : NULL;
	uint32_t high, low;

	if (known) {
		p->at++;
		to[(*n)++] = as[known - from];
		return 0;
	}
	if (c != 'u')
		return bad(p, "unknown escape in a string");
	p->at++;
	if (hex4(p, &high))
		return -EINVAL;
	if (high >= 0xd800 && high <= 0xdfff) {
		if (high > 0xdbff || p->len - p->at < 2 || memcmp(p->text + p->at, "\\u", 2))
			return bad_at(p, at, "half of a surrogate pair");
		p->at += 2;
		if (hex4(p, &low))
			return -EINVAL;
		if (low < 0xdc00 || low > 0xdfff)
			return bad_at(p, at, "half of a surrogate pair");
		high = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
	}
	*n += put_utf8(to + *n, high);
	return 0;
}

/* A string, whose opening quote is at p->at. What it becomes is never longer than it is. */
static int string(struct parser *p, const char **text, size_t *len)
{
	size_t end = ++p->at, n = 0;
	char *to;

	while (end < p->len && p->text[end] != '"')
		end += p->text[end] == '\\' ? 2 : 1;
	if (end >= p->len) {
		p->at = p->len;
		return bad(p, "");
	}
	to = take(p, end - p->at + 1);
	if (!to)
		return -ENOMEM;
	while (p->text[p->at] != '"') {
		unsigned int u = utf8_length((const unsigned char *)p->text + p->at, end - p->at);

		if (p->text[p->at] == '\\') {
			p->at++;
			if (escape(p, to, &n))
				return -EINVAL;
			continue;
		}
		if ((unsigned char)p->text[p->at] < 0x20)
			return bad(p, "a control character in a string");
		if (!u)
			return bad(p, "a string is not UTF-8");
		memcpy(to + n, p->text + p->at, u);
		n += u;
		p->at += u;
	}
	p->at++;
	to[n] = 0;
	*text = to;
	*len = n;
	return 0;
}

/* --- numbers --- */

static size_t digits(struct parser *p)
{
	size_t from = p->at;

	while (peek(p) >= '0' && peek(p) <= '9')
		p->at++;
	return p->at - from;
}

/* The value of decimal digits, if it is below 2^64. */
static bool whole(const char *s, size_t len, uint64_t *value)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	*value = v;
	return true;
}

/* Whether a number that is written with a fraction or exponent is an integer all the same: its
 * digits without the point, less the zeros at their end, times ten to some power that is not
 * negative.
 */
static bool whole_after_all(const char *s, char *scratch, uint64_t *value)
{
	size_t n = 0;
	long scale = 0;

	for (; *s && *s != 'e' && *s != 'E'; s++) {
		if (*s == '.')
			scale = -(long)strlen(s + 1) +
				(long)strlen(s + 1 + strspn(s + 1, "0123456789"));
		else if (n || *s != '0')
			scratch[n++] = *s;
	}
	if (*s) /* at most JSON_SIZE_MAX digits count */
		scale += MAX(MIN(strtol(s + 1, NULL, 10), 2l * JSON_SIZE_MAX), -2l * JSON_SIZE_MAX);
	for (; n && scratch[n - 1] == '0'; n--)
		scale++;
	if (!whole(scratch, n, value))
		return false;
	for (; *value && scale > 0; scale--)
		if (__builtin_mul_overflow(*value, 10, value))
			return false;
	return !*value || scale == 0;
}

static int real(struct parser *p, struct json *v, size_t from)
{
	size_t len = p->at - from;
	char *copy = take(p, 2 * len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, p->text + from, len);
	copy[len] = 0;
	if (whole_after_all(copy + v->negative, copy + len + 1, &v->magnitude) &&
	    (!v->negative || v->magnitude <= (uint64_t)1 << 63)) {
		v->negative = v->negative && v->magnitude;
		return 0;
	}
	v->type = JSON_REAL;
	v->real = strtod(copy, NULL);
	return isfinite(v->real) ? 0 : bad_at(p, from, "a number is too large");
}

static int number(struct parser *p, struct json *v)
{
	size_t from = p->at, first, n;
	bool minus = peek(p) == '-', plain = true;

	p->at += minus;
	first = p->at;
	n = digits(p);
	if (!n)
		return bad(p, "a digit was expected");
	if (n > 1 && p->text[first] == '0')
		return bad_at(p, first, "a number begins with 0");
	if (peek(p) == '.') {
		plain = false;
		p->at++;
		if (!digits(p))
			return bad(p, "a digit was expected");
	}
	if (peek(p) == 'e' || peek(p) == 'E') {
		plain = false;
		p->at++;
		if (peek(p) == '+' || peek(p) == '-')
			p->at++;
		if (!digits(p))
			return bad(p, "a digit was expected");
	}
	v->type = JSON_INTEGER;
	v->negative = minus;
	if (plain && whole(p->text + first, n, &v->magnitude) &&
	    (!minus || v->magnitude <= (uint64_t)1 << 63)) {
		v->negative = minus && v->magnitude;
		return 0;
	}
	return real(p, v, from);
}

/* --- values --- */

static int value(struct parser *p, struct json *v);

static struct json *node(struct parser *p, struct json *parent, const char *key)
{
	struct json *v;

	if (++p->count > JSON_COUNT_MAX) {
		err_set(p->e, E2BIG, "%s: more than %u values", p->name, JSON_COUNT_MAX);
		return NULL;
	}
	v = take(p, sizeof(*v));
	if (v)
		*v = (struct json){.at = (uint32_t)p->at, .key = key, .parent = parent};
	return v;
}

static int by_key(const void *a, const void *b)
{
	const struct json *x = *(const struct json *const *)a, *y = *(const struct json *const *)b;
	int r = strcmp(x->key, y->key);

	return r ? r : x->at < y->at ? -1 : 1;
}

/* Sorted, so that an object with very many members costs no more than it should. */
static int check_keys(struct parser *p, const struct json *object)
{
	const struct json **sorted, *m = object->first;
	char why[128];
	int r = 0;

	if (object->count < 2)
		return 0;
	sorted = malloc(object->count * sizeof(*sorted));
	if (!sorted)
		return err_set(p->e, ENOMEM, "%s: out of memory", p->name);
	for (size_t i = 0; i < object->count; i++, m = m->next)
		sorted[i] = m;
	qsort(sorted, object->count, sizeof(*sorted), by_key);
	for (size_t i = 1; i < object->count && !r; i++)
		if (!strcmp(sorted[i - 1]->key, sorted[i]->key)) {
			snprintf(why, sizeof(why), "key '%.64s' a second time", sorted[i]->key);
			r = bad_at(p, sorted[i]->at, why);
		}
	free(sorted);
	return r;
}

static int key(struct parser *p, const char **name)
{
	size_t at = p->at, len;
	int r;

	if (peek(p) != '"')
		return bad(p, "a key was expected");
	r = string(p, name, &len);
	if (r)
		return r;
	if (strlen(*name) != len)
		return bad_at(p, at, "a key has a NUL in it");
	skip_blanks(p);
	if (peek(p) != ':')
		return bad(p, "':' was expected");
	p->at++;
	skip_blanks(p);
	return 0;
}

/* What is between brackets, the first of which is at p->at. */
static int members(struct parser *p, struct json *v, bool object)
{
	char close = object ? '}' : ']';
	struct json **link = &v->first;

	if (++p->depth > JSON_DEPTH_MAX)
		return bad(p, "nested too deeply");
	v->type = object ? JSON_OBJECT : JSON_ARRAY;
	v->first = NULL;
	v->count = 0;
	p->at++;
	skip_blanks(p);
	while (peek(p) != close || v->count) {
		const char *name = NULL;
		size_t at = p->at;
		int r = object ? key(p, &name) : 0;

		if (r)
			return r;
		*link = node(p, v, name);
		if (!*link)
			return -E2BIG;
		if (object)
			(*link)->at = (uint32_t)at;
		r = value(p, *link);
		if (r)
			return r;
		link = &(*link)->next;
		v->count++;
		skip_blanks(p);
		if (peek(p) == close)
			break;
		if (peek(p) != ',')
			return bad(p,
				   object ? "',' or '}' was expected" : "',' or ']' was expected");
		p->at++;
		skip_blanks(p);
	}
	p->at++;
	p->depth--;
	return object ? check_keys(p, v) : 0;
}

static bool word(struct parser *p, const char *w)
{
	size_t n = strlen(w);

	if (p->len - p->at < n || memcmp(p->text + p->at, w, n))
		return false;
	p->at += n;
	return true;
}

static int value(struct parser *p, struct json *v)
{
	int c = peek(p);

	if (c == '{' || c == '[')
		return members(p, v, c == '{');
	if (c == '"') {
		v->type = JSON_STRING;
		return string(p, &v->text, &v->len);
	}
	if (c == '-' || (c >= '0' && c <= '9'))
		return number(p, v);
	v->type = JSON_BOOL;
	v->boolean = false;
	if (word(p, "false"))
		return 0;
	v->boolean = true;
	if (word(p, "true"))
		return 0;
	v->type = JSON_NULL;
	return word(p, "null") ? 0 : bad(p, "a value was expected");
}

int json_parse(struct json_doc *d, const char *text, size_t len, const char *name, struct err *e)
{
	struct parser p = {.doc = d, .text = text, .name = name, .len = len, .e = e};
	struct json *root;
	char *copy;
	int r = -ENOMEM;

	*d = (struct json_doc){0};
	if (len > JSON_SIZE_MAX)
		return err_set(e, E2BIG, "%s: %zu bytes of JSON are more than %u", name, len,
			       JSON_SIZE_MAX);
	copy = take(&p, strlen(name) + 1);
	root = copy ? node(&p, NULL, strcpy(copy, name)) : NULL;
	if (root) {
		skip_blanks(&p);
		r = value(&p, root);
	}
	skip_blanks(&p);
	if (!r && p.at < len)
		r = bad(&p, "something follows the value");
	if (r)
		json_free(d);
	else
		d->root = root;
	return r;
}
