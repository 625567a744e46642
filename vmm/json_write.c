/* SPDX-License-Identifier: Apache-2.0
 *
 * The writer of JSON.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/json.h"
#include "vmm/util.h"

static void put_text(FILE *out, const char *s)
{
	size_t left = strlen(s);

	putc('"', out);
	while (left) {
		unsigned char c = (unsigned char)*s;
		unsigned int n = utf8_length((const unsigned char *)s, left);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else if (n)
			fwrite(s, 1, n, out);
		else
			fputs("\xef\xbf\xbd", out);
		n = MAX(n, 1u);
		s += n;
		left -= n;
	}
	putc('"', out);
}

/* The comma and key before a value. */
static void begin(struct json_writer *w, const char *name)
{
	if (w->some)
		putc(',', w->out);
	w->some = true;
	if (!name)
		return;
	put_text(w->out, name);
	putc(':', w->out);
}

void json_put_open(struct json_writer *w, const char *name, char bracket)
{
	begin(w, name);
	putc(bracket, w->out);
	w->close[w->depth++ % JSON_DEPTH_MAX] = bracket == '{' ? '}' : ']';
	w->some = false;
}

void json_put_close(struct json_writer *w)
{
	putc(w->close[--w->depth % JSON_DEPTH_MAX], w->out);
	w->some = true;
}

void json_put_string(struct json_writer *w, const char *name, const char *s)
{
	begin(w, name);
	if (s)
		put_text(w->out, s);
	else
		fputs("null", w->out);
}

void json_put_uint(struct json_writer *w, const char *name, uint64_t n)
{
	begin(w, name);
	fprintf(w->out, "%" PRIu64, n);
}

void json_put_int(struct json_writer *w, const char *name, int64_t n)
{
	begin(w, name);
	fprintf(w->out, "%" PRId64, n);
}

void json_put_real(struct json_writer *w, const char *name, double n)
{
	char text[32];

	begin(w, name);
	snprintf(text, sizeof(text), "%.15g", n);
	if (strtod(text, NULL) < n || strtod(text, NULL) > n) /* some need all that a double has */
		snprintf(text, sizeof(text), "%.17g", n);
	fputs(text, w->out);
}

void json_put_bool(struct json_writer *w, const char *name, bool b)
{
	begin(w, name);
	fputs(b ? "true" : "false", w->out);
}

void json_put_strings(struct json_writer *w, const char *name, const char *const *s)
{
	json_put_open(w, name, '[');
	for (; s && *s; s++)
		json_put_string(w, NULL, *s);
	json_put_close(w);
}

void json_put(struct json_writer *w, const char *name, const struct json *v)
{
	switch (v->type) {
	case JSON_NULL: json_put_string(w, name, NULL); break;
	case JSON_BOOL: json_put_bool(w, name, v->boolean); break;
	case JSON_INTEGER:
		begin(w, name);
		fprintf(w->out, "%s%" PRIu64, v->negative ? "-" : "", v->magnitude);
		break;
	case JSON_REAL: json_put_real(w, name, v->real); break;
	case JSON_STRING:
		/* A NUL would end it; the whole is written as what is not UTF-8. */
		json_put_string(w, name, strlen(v->text) == v->len ? v->text : "\xff");
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		json_put_open(w, name, v->type == JSON_OBJECT ? '{' : '[');
		json_each(m, v) json_put(w, m->key, m);
		json_put_close(w);
		break;
	}
}
