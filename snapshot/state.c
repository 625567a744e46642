/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/sum.h"
#include "vmm/util.h"

/* As they lie in the file: little-endian, packed by their own order. */
struct file_header {
	char magic[8]; /* what kind of file it is */
	uint32_t format;
	uint32_t zero;
	uint64_t length; /* of what follows */
	uint64_t sum;	 /* XXH64 of what follows, with the three numbers above as seed */
};
_Static_assert(sizeof(struct file_header) == 32, "docs/snapshot.md");

struct section_header { /* then name_len bytes of name, then the fields */
	uint32_t length;    /* of name and fields */
	uint32_t instance;
	uint32_t count; /* fields */
	uint16_t version;
	uint16_t name_len;
};
_Static_assert(sizeof(struct section_header) == 16, "docs/snapshot.md");

struct field_header { /* then name_len bytes of name, then count * size bytes */
	uint32_t count;
	uint16_t size;
	uint16_t name_len;
};
_Static_assert(sizeof(struct field_header) == 8, "docs/snapshot.md");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian");

/* The numbers of the header go into the sum, so that none of them can change unseen. */
static uint64_t file_sum(const struct file_header *h, const void *body)
{
	return sum_bytes(body, h->length, sum_bytes(h, offsetof(struct file_header, sum), 0));
}

/* --- writing --- */

static void *grow(struct state_writer *w, size_t n)
{
	void *at;

	if (!w->failed && w->room - w->len < n) {
		size_t room = MAX(w->room * 2, w->len + n + 4096);
		uint8_t *data = realloc(w->data, room);

		if (!data) {
			w->failed = true;
			return NULL;
		}
		w->data = data;
		w->room = room;
	}
	if (w->failed)
		return NULL;
	at = w->data + w->len;
	w->len += n;
	return at;
}

static void put(struct state_writer *w, const void *data, size_t n)
{
	void *at = n ? grow(w, n) : NULL;

	if (at)
		memcpy(at, data, n);
}

void state_begin(struct state_writer *w, const char kind[8])
{
	struct file_header h = {.format = STATE_FORMAT};

	*w = (struct state_writer){0};
	memcpy(h.magic, kind, sizeof(h.magic));
	put(w, &h, sizeof(h));
}

/* Returns where the section's header lies; its length and count are set by end_section. */
static size_t begin_section(struct state_writer *w, const char *name, uint16_t version,
			    uint32_t instance)
{
	struct section_header h = {
		.instance = instance, .version = version, .name_len = (uint16_t)strlen(name)};
	size_t at = w->len;

	put(w, &h, sizeof(h));
	put(w, name, h.name_len);
	return at;
}

static void end_section(struct state_writer *w, size_t at, uint32_t count)
{
	struct section_header h;

	if (w->failed)
		return;
	memcpy(&h, w->data + at, sizeof(h));
	h.length = (uint32_t)(w->len - at - sizeof(h));
	h.count = count;
	memcpy(w->data + at, &h, sizeof(h));
}

static void put_field(struct state_writer *w, const char *name, uint32_t size, uint32_t count,
		      const void *data)
{
	struct field_header h = {
		.count = count, .size = (uint16_t)size, .name_len = (uint16_t)strlen(name)};

	put(w, &h, sizeof(h));
	put(w, name, h.name_len);
	put(w, data, (size_t)size * count);
}

static uint32_t in_use(const struct state_field *f, const void *object)
{
	uint32_t n = f->count;

	if (f->used != STATE_FIXED)
		memcpy(&n, (const uint8_t *)object + f->used, sizeof(n));
	return MIN(n, f->count);
}

void state_save(struct state_writer *w, const struct state_table *t, uint32_t instance,
		const void *object)
{
	size_t at = begin_section(w, t->name, t->version, instance);
	uint32_t n = 0;

	for (const struct state_field *f = t->fields; f->name; f++, n++)
		put_field(w, f->name, f->size, in_use(f, object),
			  (const uint8_t *)object + f->offset);
	end_section(w, at, n);
}

void state_save_array(struct state_writer *w, const char *name, uint32_t instance, const void *data,
		      uint32_t size, uint32_t n)
{
	size_t at = begin_section(w, name, 1, instance);

	put_field(w, name, size, n, data);
	end_section(w, at, 1);
}

void state_copy(struct state_writer *w, const struct state_section *s)
{
	size_t at = begin_section(w, s->name, s->version, s->instance);

	put(w, s->fields, (size_t)(s->end - s->fields));
	end_section(w, at, s->count);
}

int state_finish(struct state_writer *w, struct err *e)
{
	struct file_header *h = (struct file_header *)(void *)w->data;

	if (w->failed || w->len > STATE_FILE_MAX) {
		state_discard(w);
		return err_set(e, w->failed ? ENOMEM : EFBIG, "the machine's state is too large");
	}
	h->length = w->len - sizeof(*h);
	h->sum = file_sum(h, h + 1);
	return 0;
}

void state_discard(struct state_writer *w)
{
	free(w->data);
	w->data = NULL;
	w->len = w->room = 0;
}

/* --- reading --- */

int state_open(struct state_reader *r, const void *file, size_t len, const char kind[8],
	       const char *what, struct err *e)
{
	struct file_header h;

	if (len < sizeof(h))
		return err_set(e, EINVAL, "%s: cut off (%zu bytes)", what, len);
	memcpy(&h, file, sizeof(h));
	if (memcmp(h.magic, kind, sizeof(h.magic)))
		return err_set(e, EINVAL, "%s: not uvm's, or damaged: it does not begin with '%.8s'",
			       what, kind);
	if (h.format != STATE_FORMAT)
		return err_set(e, ENOTSUP,
			       "%s: format %u, but this uvm reads format %u; use the uvm that wrote it, or make it "
			       "anew",
			       what, h.format, STATE_FORMAT);
	if (h.length != len - sizeof(h))
		return err_set(e, EINVAL, "%s: %zu bytes long, but should be %" PRIu64, what, len,
			       h.length + sizeof(h));
	*r = (struct state_reader){
		.at = (const uint8_t *)file + sizeof(h), .end = (const uint8_t *)file + len, .what = what};
	if (h.sum != file_sum(&h, r->at))
		return err_set(e, EINVAL, "%s: damaged: its checksum is wrong", what);
	return 0;
}

uint64_t state_sum(const void *file)
{
	struct file_header h;

	memcpy(&h, file, sizeof(h));
	return h.sum;
}

static int malformed(const char *what, const char *where, const char *why, struct err *e)
{
	return err_set(e, EINVAL, "%s: malformed%s%s: %s", what, *where ? " in section " : "", where,
		       why);
}

/* A name of len characters at `at`, of which `left` bytes are there. Printable, so that it can be
 * shown.
 */
static bool take_name(char name[STATE_NAME_MAX + 1], const uint8_t *at, size_t left, size_t len)
{
	if (len < 1 || len > STATE_NAME_MAX || len > left)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (at[i] <= ' ' || at[i] > '~')
			return false;
		name[i] = (char)at[i];
	}
	name[len] = 0;
	return true;
}

int state_next(struct state_reader *r, struct state_section *s, struct err *e)
{
	size_t left = (size_t)(r->end - r->at);
	struct section_header h;

	if (!left)
		return 0;
	if (left < sizeof(h))
		return malformed(r->what, "", "a section is cut off", e);
	memcpy(&h, r->at, sizeof(h));
	left -= sizeof(h);
	if (h.length > left)
		return malformed(r->what, "", "a section is longer than the file", e);
	*s = (struct state_section){.instance = h.instance,
				    .version = h.version,
				    .count = h.count,
				    .fields = r->at + sizeof(h) + h.name_len,
				    .end = r->at + sizeof(h) + h.length,
				    .what = r->what};
	if (!take_name(s->name, r->at + sizeof(h), h.length, h.name_len))
		return malformed(r->what, "", "a section has no proper name", e);
	r->at = s->end;
	return 1;
}

int state_find(const struct state_reader *r, const char *name, uint32_t instance,
	       struct state_section *s, struct err *e)
{
	struct state_reader look = *r;
	int found;

	while ((found = state_next(&look, s, e)) > 0)
		if (s->instance == instance && !strcmp(s->name, name))
			return 0;
	return found ? found
		     : err_set(e, ENOENT, "%s: has no section %s %u", r->what, name, instance);
}

struct field {
	const char *name; /* the expected one, or other */
	char other[STATE_NAME_MAX + 1];
	uint32_t size, count;
	const uint8_t *data;
};

static bool is_name(const char *name, const uint8_t *at, size_t left, size_t len)
{
	if (!name || len > left)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] != (char)at[i] || !name[i])
			return false;
	return !name[len];
}

/* The field at *at, which is moved behind it. A file has hundreds, nearly all with the name that is
 * expected (or NULL), so that one is compared where it lies.
 */
static int next_field(const struct state_section *s, const uint8_t **at, const char *expected,
		      struct field *f, struct err *e)
{
	size_t left = (size_t)(s->end - *at);
	struct field_header h;

	if (left < sizeof(h))
		return malformed(s->what, s->name, "a field is cut off", e);
	memcpy(&h, *at, sizeof(h));
	left -= sizeof(h);
	f->name = expected;
	if (!is_name(expected, *at + sizeof(h), left, h.name_len)) {
		f->name = f->other;
		if (!take_name(f->other, *at + sizeof(h), left, h.name_len))
			return malformed(s->what, s->name, "a field has no proper name", e);
	}
	left -= h.name_len;
	if (h.size != 1 && h.size != 2 && h.size != 4 && h.size != 8)
		return malformed(s->what, s->name, "a field has elements of no valid size", e);
	if (h.count > left / h.size)
		return malformed(s->what, s->name, "a field is longer than its section", e);
	f->size = h.size;
	f->count = h.count;
	f->data = *at + sizeof(h) + h.name_len;
	*at = f->data + (size_t)h.size * h.count;
	return 0;
}

static int field_error(const struct state_section *s, const char *name, const char *why,
		       struct err *e)
{
	return err_set(e, EINVAL, "%s: section %s %u, field %s: %s", s->what, s->name, s->instance,
		       name, why);
}

/* memcpy, which is slow to begin, for what is mostly a number. */
static void copy(uint8_t *to, const uint8_t *from, size_t n)
{
	switch (n) {
	case 1: *to = *from; break;
	case 2: memcpy(to, from, 2); break;
	case 4: memcpy(to, from, 4); break;
	case 8: memcpy(to, from, 8); break;
	default: memcpy(to, from, n);
	}
}

static int store(const struct state_section *s, const struct state_field *t, const struct field *f,
		 void *object, struct err *e)
{
	if (f->size != t->size)
		return field_error(s, f->name, "its elements have another size", e);
	if (f->count > t->count || (t->used == STATE_FIXED && f->count != t->count))
		return field_error(s, f->name, "it has another number of elements", e);
	for (uint32_t i = 0; t->boolean && i < f->count; i++)
		if (f->data[i] > 1)
			return field_error(s, f->name, "it is neither true nor false", e);
	copy((uint8_t *)object + t->offset, f->data, (size_t)f->size * f->count);
	if (t->used != STATE_FIXED)
		memcpy((uint8_t *)object + t->used, &f->count, sizeof(f->count));
	return 0;
}

/* Fields come in the order of the table, so one pass over both finds what is missing, unknown,
 * twice, or out of place.
 */
int state_load(const struct state_section *s, const struct state_table *t, void *object,
	       struct err *e)
{
	const struct state_field *expected = t->fields;
	const uint8_t *at = s->fields;

	if (s->version < 1 || s->version > t->version)
		return err_set(e, ENOTSUP,
			       "%s: section %s has version %u, but this uvm reads %u; use the newer uvm that wrote "
			       "it, or make it anew",
			       s->what, s->name, s->version, t->version);
	for (uint32_t i = 0; i < s->count; i++, expected++) {
		struct field f;
		int r;

		while (expected->name && expected->since > s->version)
			expected++;
		r = next_field(s, &at, expected->name, &f, e);
		if (!r && f.name != expected->name)
			r = field_error(s, f.name, "it is not expected there", e);
		if (!r)
			r = store(s, expected, &f, object, e);
		if (r)
			return r;
	}
	while (expected->name && expected->since > s->version)
		expected++;
	if (expected->name)
		return field_error(s, expected->name, "it is missing", e);
	return at == s->end ? 0 : malformed(s->what, s->name, "more follows its last field", e);
}

int state_load_array(const struct state_section *s, uint32_t size, const uint8_t **data, uint32_t *n,
		     struct err *e)
{
	const uint8_t *at = s->fields;
	struct field f;
	int r = s->count == 1 && s->version == 1
			? next_field(s, &at, s->name, &f, e)
			: malformed(s->what, s->name, "it is not a single array", e);

	if (r)
		return r;
	if (at != s->end || f.size != size || f.name != s->name)
		return malformed(s->what, s->name, "it is not the array that belongs there", e);
	*data = f.data;
	*n = f.count;
	return 0;
}

int state_visit(struct state_visitor *v, const struct state_table *t, uint32_t instance,
		void *object, struct err *e)
{
	struct state_section s;
	int r;

	if (!state_loading(v)) {
		state_save(v->w, t, instance, object);
		return 0;
	}
	r = state_find(v->r, t->name, instance, &s, e);
	return r ? r : state_load(&s, t, object, e);
}

int state_invalid(const struct state_visitor *v, const struct state_table *t, uint32_t instance,
		  const char *why, struct err *e)
{
	return err_set(e, EINVAL, "%s: section %s %u: %s", v->r->what, t->name, instance, why);
}

static uint64_t element(const struct field *f, uint32_t i)
{
	uint64_t v = 0;

	memcpy(&v, f->data + (size_t)f->size * i, f->size);
	return v;
}

#define PRINT_MAX 64u /* elements of a field */

/* Whether it is text: the file does not say what bytes are. */
static bool printable(const struct field *f)
{
	for (uint32_t i = 0; i < f->count; i++)
		if (f->data[i] < ' ' || f->data[i] > '~')
			return false;
	return f->size == 1 && f->count > 1;
}

static void print_field(const struct field *f, FILE *out)
{
	uint32_t shown = MIN(f->count, PRINT_MAX);

	fprintf(out, "  %-*s", (int)STATE_NAME_MAX, f->name);
	if (printable(f)) {
		fprintf(out, " \"%.*s\"\n", (int)f->count, (const char *)f->data);
		return;
	}
	for (uint32_t i = 0; i < shown; i++)
		fprintf(out, f->count > 1 && f->size == 1 ? "%s%02" PRIx64 : "%s0x%" PRIx64,
			f->size > 1 || f->count == 1 ? " " : "", element(f, i));
	if (shown < f->count)
		fprintf(out, " ... (%u)", f->count);
	fputc('\n', out);
}

int state_print(const struct state_section *s, const struct state_table *t, FILE *out,
		struct err *e)
{
	const struct state_field *expected = t ? t->fields : NULL;
	const uint8_t *at = s->fields;

	fprintf(out, "%s %u (version %u)%s\n", s->name, s->instance, s->version,
		t ? "" : ": no table reads this");
	for (uint32_t i = 0; i < s->count; i++) {
		struct field f;
		int r = next_field(s, &at, NULL, &f, e);

		if (r)
			return r;
		print_field(&f, out);
		while (expected && expected->name && expected->since > s->version)
			expected++;
		if (expected && (!expected->name || strcmp(expected->name, f.name)))
			fprintf(out, "  ^ the table expects %s here\n",
				expected->name ? expected->name : "no more fields");
		else if (expected)
			expected++;
	}
	return 0;
}
