/* SPDX-License-Identifier: Apache-2.0
 *
 * State files: what is written is read back, and nothing else is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/state.h"
#include "snapshot/sum.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define KIND "testkind"

struct thing {
	uint8_t byte;
	uint16_t word;
	uint32_t dword;
	uint64_t qword;
	bool flag;
	uint8_t bytes[5];
	uint64_t qwords[3];
	bool flags[4];
	uint32_t len;
	uint32_t variable[6];
	uint32_t added; /* by version 2 */
	uint32_t tail;
};

#define T(m, v) STATE_SCALAR(struct thing, m, v)
#define A(m)	STATE_ARRAY(struct thing, m, 1)
static const struct state_table version2 = {
	"thing", 2,
	(const struct state_field[]){T(byte, 1), T(word, 1), T(dword, 1), T(qword, 1), T(flag, 1),
				     A(bytes), A(qwords), A(flags),
				     STATE_VARIABLE(struct thing, variable, len, 1), T(added, 2),
				     T(tail, 1), {0}}};
static const struct state_table version1 = {
	"thing", 1,
	(const struct state_field[]){T(byte, 1), T(word, 1), T(dword, 1), T(qword, 1), T(flag, 1),
				     A(bytes), A(qwords), A(flags),
				     STATE_VARIABLE(struct thing, variable, len, 1), T(tail, 1),
				     {0}}};
#undef T
#undef A

static const struct thing sample = {
	.byte = 0x12,
	.word = 0x3456,
	.dword = 0x789abcde,
	.qword = 0xf0123456789abcde,
	.flag = true,
	.bytes = {1, 2, 3, 4, 255},
	.qwords = {UINT64_MAX, 0, 1},
	.flags = {true, false, true, true},
	.len = 2,
	.variable = {7, 8},
	.added = 42,
	.tail = 99,
};

static struct err e;

/* --- files --- */

static struct state_writer file_of(const struct state_table *t, const struct thing *thing)
{
	struct state_writer w;

	state_begin(&w, KIND);
	state_save(&w, t, 3, thing);
	ck_ok(state_finish(&w, &e));
	return w;
}

/* A copy in memory of exactly its length, so that AddressSanitizer sees what is read behind it. */
static uint8_t *exactly(const void *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	ck_that(copy);
	memcpy(copy, data, len);
	return copy;
}

/* Makes length and sum of a changed file right, so that what is inside is looked at. */
static void mend(uint8_t *file, size_t len)
{
	const uint64_t body = len - 32;
	uint64_t sum;

	memcpy(file + 16, &body, sizeof(body));
	sum = sum_bytes(file + 32, len - 32, sum_bytes(file, 24, 0));
	memcpy(file + 24, &sum, sizeof(sum));
}

/* Opens a file and loads thing 3 from it. */
static int load(const void *file, size_t len, const struct state_table *t, struct thing *thing)
{
	struct state_reader r;
	struct state_section s;
	int error = state_open(&r, file, len, KIND, "file", &e);

	if (!error)
		error = state_find(&r, t->name, 3, &s, &e);
	return error ? error : state_load(&s, t, thing, &e);
}

static bool same(const struct thing *a, const struct thing *b)
{
	return a->byte == b->byte && a->word == b->word && a->dword == b->dword &&
	       a->qword == b->qword && a->flag == b->flag &&
	       !memcmp(a->bytes, b->bytes, sizeof(a->bytes)) &&
	       !memcmp(a->qwords, b->qwords, sizeof(a->qwords)) &&
	       !memcmp(a->flags, b->flags, sizeof(a->flags)) && a->len == b->len &&
	       !memcmp(a->variable, b->variable, a->len * sizeof(a->variable[0])) &&
	       a->added == b->added && a->tail == b->tail;
}

/* --- what is right --- */

START_TEST(round_trip)
{
	for (uint32_t len = 0; len <= ARRAY_SIZE(sample.variable); len++) {
		struct thing in = sample, out;
		struct state_writer w;

		in.len = len;
		memset(&out, 0x55, sizeof(out));
		w = file_of(&version2, &in);
		ck_ok(load(w.data, w.len, &version2, &out));
		ck_assert(same(&in, &out));
		state_discard(&w);
	}
}
END_TEST

/* A length that says more than there is does not make the writer read beyond. */
START_TEST(too_long_when_saved)
{
	struct thing in = sample, out = {0};
	struct state_writer w;

	in.len = UINT32_MAX;
	w = file_of(&version2, &in);
	ck_ok(load(w.data, w.len, &version2, &out));
	ck_assert_uint_eq(out.len, ARRAY_SIZE(in.variable));
	state_discard(&w);
}
END_TEST

START_TEST(many_sections)
{
	struct thing in = sample, out;
	struct state_writer w;
	struct state_reader r;
	struct state_section s;
	uint32_t n = 0;

	state_begin(&w, KIND);
	for (uint32_t i = 0; i < 500; i++) {
		in.dword = i * 7;
		state_save(&w, i % 2 ? &version1 : &version2, i, &in);
	}
	ck_ok(state_finish(&w, &e));
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	for (uint32_t i = 0; i < 500; i += 99) {
		ck_ok(state_find(&r, "thing", i, &s, &e));
		ck_ok(state_load(&s, &version2, &out, &e));
		ck_assert_uint_eq(out.dword, i * 7);
	}
	ck_refused(state_find(&r, "thing", 500, &s, &e), ENOENT, "file: has no section thing 500");
	ck_refused(state_find(&r, "thin", 0, &s, &e), ENOENT, "thin 0");
	while (state_next(&r, &s, &e) > 0)
		ck_that(s.instance == n++);
	ck_assert_uint_eq(n, 500);
	state_discard(&w);
}
END_TEST

START_TEST(no_sections)
{
	struct state_writer w;
	struct state_reader r;
	struct state_section s;

	state_begin(&w, KIND);
	ck_ok(state_finish(&w, &e));
	ck_assert_uint_eq(w.len, 32);
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	ck_assert_int_eq(state_next(&r, &s, &e), 0);
	state_discard(&w);
}
END_TEST

START_TEST(arrays)
{
	static const uint64_t in[] = {1, UINT64_MAX, 3};
	struct state_writer w;
	struct state_reader r;
	struct state_section s;
	const uint8_t *data;
	uint32_t n;

	state_begin(&w, KIND);
	state_save_array(&w, "array", 0, in, sizeof(in[0]), ARRAY_SIZE(in));
	state_save_array(&w, "empty", 0, NULL, 4, 0);
	ck_ok(state_finish(&w, &e));
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	ck_ok(state_find(&r, "array", 0, &s, &e));
	ck_ok(state_load_array(&s, 8, &data, &n, &e));
	ck_assert_uint_eq(n, ARRAY_SIZE(in));
	ck_assert(!memcmp(data, in, sizeof(in)));
	ck_refused(state_load_array(&s, 4, &data, &n, &e), EINVAL, "array");
	ck_ok(state_find(&r, "empty", 0, &s, &e));
	ck_ok(state_load_array(&s, 4, &data, &n, &e));
	ck_assert_uint_eq(n, 0);
	state_discard(&w);
	/* A structure is no array. */
	w = file_of(&version2, &sample);
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	ck_ok(state_next(&r, &s, &e));
	ck_refused(state_load_array(&s, 4, &data, &n, &e), EINVAL, "not a single array");
	state_discard(&w);
}
END_TEST

START_TEST(visits)
{
	struct thing in = sample, out = {0};
	struct state_writer w;
	struct state_reader r;
	struct state_visitor save = {.w = &w}, get = {.r = &r};

	state_begin(&w, KIND);
	ck_assert(!state_loading(&save) && state_loading(&get));
	ck_ok(state_visit(&save, &version2, 3, &in, &e));
	ck_ok(state_finish(&w, &e));
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	ck_ok(state_visit(&get, &version2, 3, &out, &e));
	ck_assert(same(&in, &out));
	ck_refused(state_visit(&get, &version2, 4, &out, &e), ENOENT, "thing 4");
	ck_refused(state_invalid(&get, &version2, 3, "too odd", &e), EINVAL,
		   "file: section thing 3: too odd");
	state_discard(&w);
}
END_TEST

START_TEST(too_large)
{
	void *big = calloc(1, 5 << 20);
	struct state_writer w;

	ck_that(big);
	state_begin(&w, KIND);
	for (uint32_t i = 0; i < 13; i++)
		state_save_array(&w, "big", i, big, 1, 5 << 20);
	ck_refused(state_finish(&w, &e), EFBIG, "too large");
	ck_assert_ptr_null(w.data);
	free(big);
}
END_TEST

/* --- versions --- */

START_TEST(older_version_loads)
{
	struct state_writer w = file_of(&version1, &sample);
	struct thing out = {.added = 1234}, expected = sample;

	expected.added = 1234; /* what version 1 lacks stays as it was */
	ck_ok(load(w.data, w.len, &version2, &out));
	ck_assert(same(&out, &expected));
	state_discard(&w);
}
END_TEST

START_TEST(newer_version_is_refused)
{
	struct state_writer w = file_of(&version2, &sample);
	struct thing out = {0};

	ck_refused(load(w.data, w.len, &version1, &out), ENOTSUP,
		   "file: section thing has version 2, but this uvm reads 1");
	state_discard(&w);
}
END_TEST

/* A section that says version 1 may not have what version 2 brought. */
START_TEST(field_of_a_later_version)
{
	struct state_table liar = version2;
	struct thing out = {0};
	struct state_writer w;

	liar.version = 1;
	w = file_of(&liar, &sample);
	ck_refused(load(w.data, w.len, &version2, &out), EINVAL, "added");
	state_discard(&w);
	liar.version = 0;
	w = file_of(&liar, &sample);
	ck_refused(load(w.data, w.len, &version2, &out), ENOTSUP, "version 0");
	state_discard(&w);
	/* And version 2 must have it. */
	liar = version1;
	liar.version = 2;
	w = file_of(&liar, &sample);
	ck_refused(load(w.data, w.len, &version2, &out), EINVAL, "not expected there");
	state_discard(&w);
}
END_TEST

START_TEST(newer_format_is_refused)
{
	struct state_writer w = file_of(&version2, &sample);
	struct thing out = {0};

	w.data[8]++;
	mend(w.data, w.len);
	ck_refused(load(w.data, w.len, &version2, &out), ENOTSUP,
		   "file: format 2, but this uvm reads format 1");
	state_discard(&w);
}
END_TEST

/* --- damage --- */

START_TEST(each_byte_flipped)
{
	struct state_writer w = file_of(&version2, &sample);
	struct state_reader r;

	for (size_t at = 0; at < w.len; at++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			w.data[at] ^= (uint8_t)(1u << bit);
			*e.text = 0;
			ck_that(state_open(&r, w.data, w.len, KIND, "file", &e) < 0);
			ck_that(!strncmp(e.text, "file: ", 6));
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	ck_ok(state_open(&r, w.data, w.len, KIND, "file", &e));
	state_discard(&w);
}
END_TEST

START_TEST(each_truncation)
{
	struct state_writer w = file_of(&version2, &sample);
	struct state_reader r;

	for (size_t len = 0; len < w.len; len++) {
		uint8_t *cut = exactly(w.data, len);

		*e.text = 0;
		ck_that(state_open(&r, cut, len, KIND, "file", &e) == -EINVAL);
		ck_that(!strncmp(e.text, "file: ", 6));
		free(cut);
	}
	state_discard(&w);
}
END_TEST

START_TEST(more_bytes)
{
	struct state_writer w = file_of(&version2, &sample);
	struct state_reader r;

	for (size_t more = 1; more < 100; more++) {
		uint8_t *longer = calloc(1, w.len + more);

		ck_that(longer);
		memcpy(longer, w.data, w.len);
		ck_that(state_open(&r, longer, w.len + more, KIND, "file", &e) == -EINVAL);
		free(longer);
	}
	ck_refused(state_open(&r, w.data, w.len, "otherone", "file", &e), EINVAL, "otherone");
	state_discard(&w);
}
END_TEST

/* Each cut again, with length and sum made right: the parser itself has to see it. */
START_TEST(each_truncation_inside)
{
	struct state_writer w = file_of(&version2, &sample);
	struct thing out;

	for (size_t len = 32; len < w.len; len++) {
		uint8_t *cut = exactly(w.data, len);

		mend(cut, len);
		ck_that(load(cut, len, &version2, &out) < 0);
		free(cut);
	}
	state_discard(&w);
}
END_TEST

/* --- sections that do not fit their table --- */

/* A section of fields given one by one. */
struct part {
	const char *name;
	uint16_t size;
	uint32_t count, bytes; /* said, and really there */
};

static int load_parts(const struct state_table *t, uint32_t said, const struct part *p, size_t n,
		      void *object)
{
	uint8_t file[4096], *at = file + 32, *copy;
	struct state_reader r;
	struct state_section s;
	uint16_t word = (uint16_t)strlen(t->name);
	uint32_t length;
	size_t len;
	int error;

	memset(file, 0, sizeof(file));
	memcpy(file, KIND, 8);
	file[8] = 1;
	memcpy(at + 8, &said, 4);
	memcpy(at + 12, &t->version, 2);
	memcpy(at + 14, &word, 2);
	memcpy(at + 16, t->name, word);
	at += 16 + word;
	for (size_t i = 0; i < n; i++) {
		word = (uint16_t)strlen(p[i].name);
		memcpy(at, &p[i].count, 4);
		memcpy(at + 4, &p[i].size, 2);
		memcpy(at + 6, &word, 2);
		memcpy(at + 8, p[i].name, word);
		at += 8 + word + p[i].bytes;
	}
	length = (uint32_t)(at - file - 32 - 16);
	memcpy(file + 32, &length, 4);
	len = (size_t)(at - file);
	mend(file, len);
	copy = exactly(file, len);
	ck_ok(state_open(&r, copy, len, KIND, "file", &e));
	error = state_next(&r, &s, &e);
	if (error > 0)
		error = state_load(&s, t, object, &e);
	free(copy);
	return error;
}

struct small {
	uint32_t a, b, len;
	uint8_t c[4];
	bool flag;
};
static const struct state_table small = {
	"small", 1,
	(const struct state_field[]){STATE_SCALAR(struct small, a, 1),
				     STATE_SCALAR(struct small, b, 1),
				     STATE_VARIABLE(struct small, c, len, 1),
				     STATE_SCALAR(struct small, flag, 1), {0}}};

#define GOOD_A {"a", 4, 1, 4}
#define GOOD_B {"b", 4, 1, 4}
#define GOOD_C {"c", 1, 2, 2}
#define GOOD_F {"flag", 1, 1, 1}
#define PARTS(...)                                                                                 \
	(const struct part[]){__VA_ARGS__},                                                        \
		sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part)

static void refused(uint32_t said, const struct part *p, size_t n, const char *say)
{
	struct small out[2];

	memset(out, 0x77, sizeof(out));
	ck_refused(load_parts(&small, said, p, n, &out[0]), EINVAL, say);
	ck_assert(all_bytes(&out[1], sizeof(out[1]), 0x77));
}

START_TEST(fields_that_do_not_fit)
{
	struct small out;

	ck_ok(load_parts(&small, 4, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F), &out));
	ck_assert_uint_eq(out.len, 2);
	refused(3, PARTS(GOOD_A, GOOD_B, GOOD_C), "field flag: it is missing");
	refused(3, PARTS(GOOD_B, GOOD_C, GOOD_F), "field b: it is not expected there");
	refused(3, PARTS(GOOD_A, GOOD_C, GOOD_F), "field c: it is not expected there");
	refused(0, NULL, 0, "field a: it is missing");
	refused(5, PARTS(GOOD_A, GOOD_A, GOOD_B, GOOD_C, GOOD_F), "field a: it is not expected");
	refused(5, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F, GOOD_F), "field flag: it is not expected");
	refused(4, PARTS(GOOD_B, GOOD_A, GOOD_C, GOOD_F), "field b: it is not expected there");
	refused(5, PARTS(GOOD_A, {"new", 4, 1, 4}, GOOD_B, GOOD_C, GOOD_F), "field new: it is not");
	refused(4, PARTS({"a", 8, 1, 8}, GOOD_B, GOOD_C, GOOD_F), "field a: its elements have");
	refused(4, PARTS({"a", 1, 4, 4}, GOOD_B, GOOD_C, GOOD_F), "field a: its elements have");
	refused(4, PARTS({"a", 4, 2, 8}, GOOD_B, GOOD_C, GOOD_F), "field a: it has another number");
	refused(4, PARTS({"a", 4, 0, 0}, GOOD_B, GOOD_C, GOOD_F), "field a: it has another number");
	refused(4, PARTS(GOOD_A, GOOD_B, {"c", 1, 5, 5}, GOOD_F), "field c: it has another number");
	for (uint16_t size = 0; size < 300; size++)
		if (size != 1 && size != 2 && size != 4 && size != 8)
			refused(4, PARTS({"a", size, 1, size}, GOOD_B, GOOD_C, GOOD_F),
				"no valid size");
	refused(1, PARTS({"a", 8, UINT32_MAX, 4}), "a field is longer than its section");
	refused(1, PARTS({"a", 4, 2, 4}), "a field is longer than its section");
	refused(4, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F, {"x", 1, 0, 0}), "more follows");
	refused(3, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F), "it is missing");
	refused(5, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F), "a field is cut off");
	refused(UINT32_MAX, PARTS(GOOD_A, GOOD_B, GOOD_C, GOOD_F), "a field is cut off");
	refused(1, PARTS({"", 4, 1, 4}), "no proper name");
	refused(1, PARTS({"a\n", 4, 1, 4}), "no proper name");
	refused(1, PARTS({"\x1b[2J", 4, 1, 4}), "no proper name");
	refused(1, PARTS({"a b", 4, 1, 4}), "no proper name");
	refused(1, PARTS({"\xff", 4, 1, 4}), "no proper name");
	refused(1, PARTS({"a-name-of-thirty-two-characters-", 4, 1, 4}), "no proper name");
}
END_TEST

START_TEST(neither_true_nor_false)
{
	struct thing thing = sample;

	for (unsigned int v = 0; v < 256; v++) {
		struct state_writer w = file_of(&version2, &sample);
		uint8_t *field;
		struct thing out;

		field = memmem(w.data, w.len, "\4\0flag", 6);
		ck_that(field);
		field[6] = (uint8_t)v;
		mend(w.data, w.len);
		if (v <= 1)
			ck_ok(load(w.data, w.len, &version2, &out));
		else
			ck_refused(load(w.data, w.len, &version2, &out), EINVAL,
				   "field flag: it is neither true nor false");
		state_discard(&w);
	}
	/* In an array too. */
	memset(thing.bytes, 0, sizeof(thing.bytes));
	for (unsigned int i = 0; i < 4; i++) {
		struct state_writer w = file_of(&version2, &thing);
		uint8_t *field = memmem(w.data, w.len, "flags", 5);

		ck_that(field);
		field[5 + i] = 2;
		mend(w.data, w.len);
		ck_refused(load(w.data, w.len, &version2, &thing), EINVAL, "field flags");
		state_discard(&w);
	}
}
END_TEST

/* --- mutations --- */

/* What everything that reads files does with this one. */
static void read_all(const uint8_t *file, size_t len, FILE *out)
{
	struct thing thing = {0};
	struct state_section s;
	struct state_reader r;
	const uint8_t *data;
	uint32_t n, sections = 0;

	if (state_open(&r, file, len, KIND, "file", &e))
		return;
	while (state_next(&r, &s, &e) > 0) {
		ck_that(sections++ <= len / 16);
		ck_that(strlen(s.name) >= 1 && strlen(s.name) <= STATE_NAME_MAX);
		if (!state_load(&s, &version2, &thing, &e)) {
			ck_that(thing.len <= ARRAY_SIZE(thing.variable));
			ck_that(*(uint8_t *)&thing.flag <= 1);
		}
		if (!state_load_array(&s, 4, &data, &n, &e))
			ck_that(data >= file && data + 4ul * n <= file + len);
		state_print(&s, &version2, out, &e);
		state_print(&s, NULL, out, &e);
	}
}

static void mutate(uint8_t *file, size_t *len, size_t room, uint32_t *random)
{
	size_t at = next_random(random) % *len, n = 1 + next_random(random) % 8;
	uint32_t v = next_random(random);

	switch (next_random(random) % 6) {
	case 0: file[at] ^= (uint8_t)(1u << v % 8); break;
	case 1: file[at] = (uint8_t)v; break;
	case 2: /* a number at the edge, of any width */
		v = (const uint32_t[]){0, 1, 0x7fffffff, 0x80000000, UINT32_MAX, UINT32_MAX - 15}[v % 6];
		n = 1ul << n % 3;
		memcpy(file + MIN(at, *len - 4), &v, n);
		break;
	case 3: /* bytes go */
		n = MIN(n, *len - at);
		memmove(file + at, file + at + n, *len - at - n);
		*len = MAX(*len - n, (size_t)32);
		break;
	case 4: /* bytes come */
		n = MIN(n, room - *len);
		memmove(file + at + n, file + at, *len - at);
		*len += n;
		break;
	default: /* a piece twice */
		n = MIN(4 * n, *len - at);
		memmove(file + next_random(random) % (*len - n + 1), file + at, n);
		break;
	}
}

START_TEST(mutations)
{
	enum { ROOM = 4096, ROUNDS = 40000 };
	uint8_t *file = malloc(ROOM), *copy;
	FILE *out = fopen("/dev/null", "w");
	struct state_writer w;
	uint32_t random = 1;

	ck_that(file && out);
	state_begin(&w, KIND);
	state_save(&w, &version2, 3, &sample);
	state_save(&w, &version1, 0, &sample);
	state_save_array(&w, "array", 0, "abcdefgh", 4, 2);
	ck_ok(state_finish(&w, &e));
	for (unsigned int round = 0; round < ROUNDS; round++) {
		size_t len = w.len;

		memcpy(file, w.data, len);
		for (uint32_t n = 1 + next_random(&random) % 4; n; n--)
			mutate(file, &len, ROOM, &random);
		memcpy(file, w.data, 16); /* of the right kind */
		mend(file, len);
		copy = exactly(file, len);
		read_all(copy, len, out);
		free(copy);
	}
	fclose(out);
	free(file);
	state_discard(&w);
}
END_TEST

/* --- printing --- */

static const char *printed(const struct state_writer *w, const struct state_table *t)
{
	static char text[65536];
	FILE *out = fmemopen(text, sizeof(text), "w");
	struct state_section s;
	struct state_reader r;

	ck_that(out);
	ck_ok(state_open(&r, w->data, w->len, KIND, "file", &e));
	ck_ok(state_next(&r, &s, &e));
	ck_ok(state_print(&s, t, out, &e));
	fclose(out);
	return text;
}

START_TEST(prints)
{
	struct state_writer w = file_of(&version2, &sample);
	const char *text = printed(&w, &version2);

	ck_assert_ptr_nonnull(strstr(text, "thing 3 (version 2)\n"));
	ck_assert_ptr_nonnull(strstr(text, " 0xf0123456789abcde\n"));
	ck_assert_ptr_nonnull(strstr(text, "01020304ff\n"));
	ck_assert_ptr_nonnull(strstr(text, " 0x7 0x8\n"));
	ck_assert_ptr_null(strstr(text, "expects"));
	text = printed(&w, NULL);
	ck_assert_ptr_nonnull(strstr(text, "no table reads this"));
	ck_assert_ptr_nonnull(strstr(text, " 0xf0123456789abcde\n"));
	text = printed(&w, &small);
	ck_assert_ptr_nonnull(strstr(text, "^ the table expects a here"));
	state_discard(&w);
	/* An older one by the newer table: nothing is odd about it. */
	w = file_of(&version1, &sample);
	ck_assert_ptr_null(strstr(printed(&w, &version2), "expects"));
	state_discard(&w);
}
END_TEST

START_TEST(prints_part_of_a_long_field)
{
	static uint8_t many[1000];
	struct state_writer w;
	const char *text;

	memset(many, 0xab, sizeof(many));
	state_begin(&w, KIND);
	state_save_array(&w, "many", 0, many, 1, sizeof(many));
	ck_ok(state_finish(&w, &e));
	text = printed(&w, NULL);
	ck_assert_ptr_nonnull(strstr(text, "abab ... (1000)\n"));
	ck_assert_uint_lt(strlen(text), 300);
	state_discard(&w);
}
END_TEST

int main(void)
{
	const TTest *const right[] = {round_trip, too_long_when_saved, many_sections, no_sections,
				      arrays,	  visits,	       too_large};
	const TTest *const versions[] = {older_version_loads, newer_version_is_refused,
					 field_of_a_later_version, newer_format_is_refused};
	const TTest *const damage[] = {
		each_byte_flipped,	each_truncation,	more_bytes,
		each_truncation_inside, fields_that_do_not_fit, neither_true_nor_false,
		mutations};
	const TTest *const printing[] = {prints, prints_part_of_a_long_field};
	const struct test_group groups[] = {
		{right, ARRAY_SIZE(right), NULL, NULL},
		{versions, ARRAY_SIZE(versions), NULL, NULL},
		{damage, ARRAY_SIZE(damage), NULL, NULL},
		{printing, ARRAY_SIZE(printing), NULL, NULL},
	};

	return run_groups("state", groups, ARRAY_SIZE(groups));
}
