/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON: what is accepted and what is refused, and where; numbers and strings to the last bit; every
 * truncation and bit flip of a document; what is written can be read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/util.h"
#include "vmm/json.h"
#include "vmm/util.h"

static struct err e;
static struct json_doc d;

static void teardown(void)
{
	json_free(&d);
}

/* Parses a text that must be right; its own copy, so that reading beyond it is found. */
static const struct json *parse(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len + !len);

	memcpy(copy, text, len);
	json_free(&d);
	ck_ok(json_parse(&d, copy, len, "doc", &e));
	free(copy);
	return d.root;
}

static void refused(const char *text, size_t len, const char *say)
{
	char *copy = malloc(len + !len);

	memcpy(copy, text, len);
	json_free(&d);
	ck_refused(json_parse(&d, copy, len, "doc", &e), EINVAL, say);
	ck_that(!d.root && !d.blocks);
	free(copy);
}

/* A document with everything in it. */
static const char whole[] =
	" {\"a\":{\"b\":[1,-2,3.5,\"x\\u00e9\\ud83d\\ude00\\n\",true,false,null,[],{}]},\r\n\t"
	"\"org.dotted.key\":\"value\", \"big\":18446744073709551615,\"low\":-9223372036854775808,"
	"\"\":{\"\\\"\":1e2}, \"euro\":\"\xe2\x82\xac\"} ";

START_TEST(everything)
{
	const struct json *v = parse(whole), *at = NULL;
	static const enum json_type types[] = {JSON_INTEGER, JSON_INTEGER, JSON_REAL,
					       JSON_STRING,  JSON_BOOL,	   JSON_BOOL,
					       JSON_NULL,    JSON_ARRAY,   JSON_OBJECT};
	const char *s = NULL;
	unsigned int n = 0;
	uint64_t u = 0;
	int64_t i = 0;

	ck_ok(json_array(v, "a.b", &at, &e));
	ck_assert_uint_eq(at->count, ARRAY_SIZE(types));
	json_each(item, at) ck_that(item->type == types[n++]);
	ck_ok(json_string(at->first->next->next->next, "", &s, &e));
	ck_assert_str_eq(s, "x\xc3\xa9\xf0\x9f\x98\x80\n");
	ck_ok(json_uint(v, "big", UINT64_MAX, &u, &e));
	ck_assert_uint_eq(u, UINT64_MAX);
	ck_ok(json_int(v, "low", INT64_MIN, INT64_MAX, &i, &e));
	ck_assert_int_eq(i, INT64_MIN);
	ck_assert(json_member(v, "org.dotted.key") && !json_get(v, "org.dotted.key"));
	ck_assert(!json_get(v, "a.b.c") && !json_get(v, "a.c") && !json_get(v, "a.b.0"));
	ck_ok(json_string(v, "euro", &s, &e));
	ck_assert_str_eq(s, "\xe2\x82\xac");
	ck_assert_uint_eq(json_member(v, "euro")->at, strstr(whole, "\"euro") - whole);
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		const char *text;
		enum json_type type;
		bool negative;
		uint64_t magnitude;
	} v[] = {
		{"0", JSON_INTEGER, false, 0},
		{"-0", JSON_INTEGER, false, 0},
		{"9223372036854775807", JSON_INTEGER, false, INT64_MAX},
		{"18446744073709551615", JSON_INTEGER, false, UINT64_MAX},
		{"18446744073709551616", JSON_REAL, false, 0},
		{"-9223372036854775808", JSON_INTEGER, true, (uint64_t)1 << 63},
		{"-9223372036854775809", JSON_REAL, false, 0},
		{"1e3", JSON_INTEGER, false, 1000},
		{"-1.50E+1", JSON_INTEGER, true, 15},
		{"100e-2", JSON_INTEGER, false, 1},
		{"1.0", JSON_INTEGER, false, 1},
		{"-0.0", JSON_INTEGER, false, 0},
		{"0e999999999999999999999", JSON_INTEGER, false, 0},
		{"9007199254740993.0", JSON_INTEGER, false, 9007199254740993},
		{"1844674407370955161.5e1", JSON_INTEGER, false, UINT64_MAX},
		{"1.00000000000000000000001", JSON_REAL, false, 0},
		{"4503599627370496.3", JSON_REAL, false, 0},
		{"1e-400", JSON_REAL, false, 0},
		{"1e20", JSON_REAL, false, 0},
		{"0.5", JSON_REAL, false, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		const struct json *n = parse(v[i].text);

		if (n->type != v[i].type ||
		    (n->type == JSON_INTEGER &&
		     (n->magnitude != v[i].magnitude || n->negative != v[i].negative)))
			ck_abort_msg("%s", v[i].text);
	}
	ck_assert(parse("-2.5e3") && d.root->negative && d.root->magnitude == 2500);
	ck_assert(parse("0.25")->real == 0.25); /* NOLINT: exact */
}
END_TEST

START_TEST(refuses)
{
	static const struct {
		const char *text, *say;
	} bad[] = {
		{"", "line 1, column 1: the text ends too early"},
		{"  ", "line 1, column 3: the text ends too early"},
		{"x", "line 1, column 1: a value was expected"},
		{"nul", "a value was expected"},
		{"nulll", "line 1, column 5: something follows"},
		{"1 2", "line 1, column 3: something follows"},
		{"{} {}", "something follows"},
		{"[1,]", "line 1, column 4: a value was expected"},
		{"[,1]", "line 1, column 2: a value was expected"},
		{"[1 2]", "line 1, column 4: ',' or ']'"},
		{"[1}", "',' or ']'"},
		{"{\"a\":1,}", "line 1, column 8: a key was expected"},
		{"{a:1}", "a key was expected"},
		{"{1:1}", "a key was expected"},
		{"{\"a\" 1}", "':' was expected"},
		{"{\"a\":}", "a value was expected"},
		{"{\"a\":1]", "',' or '}'"},
		{"{\"a\":1,\"b\":2,\"a\":3}", "doc: line 1, column 14: key 'a' a second time"},
		{"{\"a\":1,\"\\u0061\":3}", "key 'a' a second time"},
		{"{\"a\\u0000b\":1}", "line 1, column 2: a key has a NUL"},
		{"\"abc", "ends too early"},
		{"\"abc\\\"", "ends too early"},
		{"\"\\x41\"", "line 1, column 3: unknown escape"},
		{"\"\\u12\"", "four hexadecimal"},
		{"\"\\u12g4\"", "four hexadecimal"},
		{"\"\\ud800\"", "line 1, column 2: half of a surrogate"},
		{"\"\\ud800\\u0041\"", "half of a surrogate"},
		{"\"\\ud800\\ud800\"", "half of a surrogate"},
		{"\"\\udc00\"", "half of a surrogate"},
		{"\"\\ud800\\\\udc00\"", "half of a surrogate"},
		{"\"a\nb\"", "line 1, column 3: a control character"},
		{"\"\x80\"", "not UTF-8"},
		{"\"\xc0\x80\"", "not UTF-8"},
		{"\"\xc3\"", "not UTF-8"},
		{"\"\xe0\x80\x80\"", "not UTF-8"},
		{"\"\xed\xa0\x80\"", "not UTF-8"},
		{"\"\xf4\x90\x80\x80\"", "not UTF-8"},
		{"\"\xf8\x88\x80\x80\x80\"", "not UTF-8"},
		{"\"\xff\"", "not UTF-8"},
		{"\xef\xbb\xbf{}", "a value was expected"},
		{"01", "begins with 0"},
		{"-", "ends too early"},
		{"-a", "a digit was expected"},
		{"+1", "a value was expected"},
		{".5", "a value was expected"},
		{"1.", "ends too early"},
		{"1.e2", "a digit was expected"},
		{"1e", "ends too early"},
		{"1e+x", "a digit was expected"},
		{"1e999", "too large"},
		{"NaN", "a value was expected"},
		{"0x10", "something follows"},
		{"'a'", "a value was expected"},
		{"// c\n1", "a value was expected"},
		{"\v1", "a value was expected"},
		{"{\n\t\"a\": 1,\n\t\"b\": x\n}\n", "line 3, column 7: a value was expected"},
		{"[\"\u00e4\u20ac\" x", "line 1, column 7: ',' or ']'"},
		{"{\"a\":1,\n \"a\":2}", "line 2, column 2: key 'a'"},
		{"{\n\n", "line 3, column 1: the text ends too early"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused(bad[i].text, strlen(bad[i].text), bad[i].say);
	refused("1\0", 2, "line 1, column 2: something follows");
	refused("\"a\0b\"", 5, "a control character");
}
END_TEST

START_TEST(limits)
{
	char *text = malloc(JSON_SIZE_MAX + 2);

	memset(text, '[', 4096);
	refused(text, 4096, "line 1, column 65: nested too deeply");
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	ck_ok(json_parse(&d, text, 2 * JSON_DEPTH_MAX, "doc", &e));
	json_free(&d);
	memset(text, ' ', JSON_SIZE_MAX + 1);
	text[0] = '1';
	ck_refused(json_parse(&d, text, JSON_SIZE_MAX + 1, "doc", &e), E2BIG, "doc: 8388609 bytes");
	ck_ok(json_parse(&d, text, JSON_SIZE_MAX, "doc", &e));
	json_free(&d);
	text[0] = '[';
	for (unsigned int i = 0; i < JSON_COUNT_MAX; i++)
		memcpy(text + 1 + 2 * i, i ? ",1" : " 1", 2);
	text[1 + 2 * JSON_COUNT_MAX] = ']';
	ck_refused(json_parse(&d, text, 2 + 2 * JSON_COUNT_MAX, "doc", &e), E2BIG,
		   "more than 524288 values");
	text[1] = '0', text[2] = ',';
	memset(text + 1, ' ', 4); /* two values less */
	text[5] = ' ';
	ck_ok(json_parse(&d, text, 2 + 2 * JSON_COUNT_MAX, "doc", &e));
	ck_assert_uint_eq(d.root->count, JSON_COUNT_MAX - 2);
	free(text);
}
END_TEST

/* Not quadratic: this would take minutes. */
START_TEST(an_object_of_very_many_keys)
{
	unsigned int n = 200000;
	char *text = malloc(16 * n), *p = text;

	for (unsigned int i = 0; i < n; i++)
		p += sprintf(p, "%c\"k%07u\":0", i ? ',' : '{', i);
	*p++ = '}';
	ck_ok(json_parse(&d, text, (size_t)(p - text), "doc", &e));
	ck_assert_uint_eq(d.root->count, n);
	json_free(&d);
	memcpy(strstr(text, "k0199999"), "k0000007", 8);
	refused(text, (size_t)(p - text), "key 'k0000007' a second time");
	free(text);
}
END_TEST

START_TEST(accessors)
{
	const struct json *v = parse("{\"s\":\"x\",\"n\":300,\"m\":-1,\"b\":true,\"z\":null,"
				     "\"nul\":\"a\\u0000\",\"r\":1.5,\"h\":18446744073709551615,"
				     "\"l\":[\"a\",\"b\"],\"bad\":[\"a\",{\"x\":[1,\"y\"]},null],"
				     "\"o\":{\"p\":{\"q\":1}}}");
	const struct json *node = NULL;
	const char *s = "default", **list = NULL;
	uint64_t u = 7;
	int64_t i = 7;
	bool b = false;

	ck_ok(json_string(v, "none", &s, &e));
	ck_ok(json_string(v, "z", &s, &e));
	ck_ok(json_string(v, "o.p.none", &s, &e));
	ck_assert_str_eq(s, "default");
	ck_ok(json_string(v, "s", &s, &e));
	ck_assert_str_eq(s, "x");
	ck_ok(json_bool(v, "b", &b, &e));
	ck_assert(b);
	ck_ok(json_int(v, "m", -1, 0, &i, &e));
	ck_assert_int_eq(i, -1);
	ck_ok(json_uint(v, "n", 300, &u, &e));
	ck_assert_uint_eq(u, 300);
	ck_ok(json_strings(v, "l", &list, &e));
	ck_assert(!strcmp(list[0], "a") && !strcmp(list[1], "b") && !list[2]);
	free(list);
	ck_assert(json_first(json_get(v, "l")) && !json_first(json_get(v, "s")) && !json_first(NULL));
	ck_ok(json_object(v, "o.p", &node, &e));
	ck_ok(json_uint(node, "q", 1, &u, &e));
	ck_ok(json_required(v, "o.p.q", &e));

	ck_refused(json_string(v, "n", &s, &e), EINVAL, "doc: n is not a string");
	ck_refused(json_string(v, "nul", &s, &e), EINVAL, "doc: nul has a NUL in it");
	ck_refused(json_string(v, "s.t", &s, &e), EINVAL, "doc: s is not an object");
	ck_refused(json_bool(v, "o.p.q", &b, &e), EINVAL, "doc: o.p.q is not a boolean");
	ck_refused(json_int(v, "n", 0, 255, &i, &e), EINVAL, "doc: n is not between 0 and 255");
	ck_refused(json_int(v, "h", INT64_MIN, INT64_MAX, &i, &e), EINVAL, "h is not between");
	ck_refused(json_int(v, "r", 0, 255, &i, &e), EINVAL, "doc: r is not a whole number");
	ck_refused(json_uint(v, "m", 9, &u, &e), EINVAL, "doc: m is not between 0 and 9");
	ck_refused(json_array(v, "o", &node, &e), EINVAL, "doc: o is not an array");
	ck_refused(json_object(v, "l", &node, &e), EINVAL, "doc: l is not an object");
	ck_refused(json_strings(v, "bad", &list, &e), EINVAL, "doc: bad[1] is not a string");
	node = json_get(v, "bad")->first->next;
	ck_refused(json_strings(node, "x", &list, &e), EINVAL, "doc: bad[1].x[0] is not a string");
	ck_refused(json_string(node->next, "", &s, &e), EINVAL, "doc: bad[2] is not a string");
	ck_refused(json_required(v, "o.p.x", &e), EINVAL, "doc: o.p.x is missing");
	ck_refused(json_required(node, "y", &e), EINVAL, "doc: bad[1] has no 'y'");
	ck_refused(json_string(parse("[5]")->first, "", &s, &e), EINVAL,
		   "doc: [0] is not a string");
}
END_TEST

START_TEST(long_paths_in_messages)
{
	char *text = malloc(70000), *p = text;
	const char *s;

	*p++ = '{';
	*p++ = '"';
	memset(p, 'k', 60000);
	p += 60000;
	p += sprintf(p, "\":1}");
	parse((*p = 0, text));
	ck_refused(json_string(d.root->first, "", &s, &e), EINVAL, "doc: kkkk");
	ck_assert_uint_lt(strlen(e.text), sizeof(e.text));
	free(text);
}
END_TEST

START_TEST(every_truncation)
{
	for (size_t len = 0; len < sizeof(whole) - 2; len++)
		refused(whole, len, "doc: line ");
	parse(whole);
}
END_TEST

static char *write_out(const struct json *v)
{
	char *text;
	size_t len;
	struct json_writer w = {.out = open_memstream(&text, &len)};

	json_put(&w, NULL, v);
	fclose(w.out);
	return text;
}

/* What is accepted is written and read again, and comes out the same. */
static void round_trip(const char *text, size_t len)
{
	char *once, *twice, *copy = malloc(len + !len);

	memcpy(copy, text, len);
	json_free(&d);
	e.text[0] = 0;
	if (json_parse(&d, copy, len, "doc", &e)) {
		ck_that(*e.text);
	} else {
		once = write_out(d.root);
		for (unsigned int i = 0; i < 2; i++) { /* -2^63-1 is a double, then an integer */
			twice = once;
			json_free(&d);
			ck_ok(json_parse(&d, twice, strlen(twice), "again", &e));
			once = write_out(d.root);
			if (i)
				ck_that(!strcmp(once, twice));
			free(twice);
		}
		free(once);
	}
	free(copy);
}

START_TEST(every_bit_flip)
{
	char text[sizeof(whole)];

	for (size_t i = 0; i < 8 * (sizeof(whole) - 1); i++) {
		memcpy(text, whole, sizeof(text));
		text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
		round_trip(text, sizeof(whole) - 1);
	}
}
END_TEST

/* Bytes of the document replaced, moved and repeated, the same each time. */
START_TEST(mutations)
{
	static const char bytes[] = "{}[]\",:\\u0d81e-.+ tfn\x80\xff";
	uint32_t random = 1;

	for (unsigned int round = 0; round < 60000; round++) {
		char text[2 * sizeof(whole)];
		size_t len = sizeof(whole) - 1;

		memcpy(text, whole, len);
		for (unsigned int i = 0; i < 1 + round % 7; i++) {
			size_t a, b;

			random = random * 1664525 + 1013904223;
			a = (random >> 8) % len;
			random = random * 1664525 + 1013904223;
			b = (random >> 8) % len;
			if (random >> 30 == 0 && a < b)
				memmove(text + a, text + b, len - b), len -= b - a;
			else if (random >> 30 == 1)
				text[a] = text[b];
			else
				text[a] = bytes[b % (sizeof(bytes) - 1)];
		}
		round_trip(text, len);
	}
}
END_TEST

START_TEST(writes)
{
	static const char *const list[] = {"a", "b\"", NULL};
	struct json_writer w;
	const char *s = NULL;
	char *text;
	size_t len;

	w = (struct json_writer){.out = open_memstream(&text, &len)};
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "s\n", "a\"\\\x01\x7f\xc3\xa9\xff\xc3");
	json_put_string(&w, "none", NULL);
	json_put_uint(&w, "u", UINT64_MAX);
	json_put_int(&w, "i", INT64_MIN);
	json_put_bool(&w, "b", true);
	json_put_open(&w, "empty", '[');
	json_put_close(&w);
	json_put_strings(&w, "list", list);
	json_put_strings(&w, "nil", NULL);
	json_put_open(&w, "o", '{');
	json_put_open(&w, "p", '{');
	json_put_close(&w);
	json_put_close(&w);
	json_put_close(&w);
	fclose(w.out);
	ck_assert_str_eq(
		text, "{\"s\\u000a\":\"a\\\"\\\\\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\","
		      "\"none\":null,\"u\":18446744073709551615,"
		      "\"i\":-9223372036854775808,\"b\":true,\"empty\":[],"
		      "\"list\":[\"a\",\"b\\\"\"],\"nil\":[],\"o\":{\"p\":{}}}");
	ck_ok(json_string(parse(text), "s\n", &s, &e));
	free(text);
	json_free(&d);
	/* Every byte, alone and before another. */
	for (unsigned int i = 1; i < 65536; i++) {
		char bytes[3] = {(char)(i & 255 ? i & 255 : 1), (char)(i >> 8), 0};

		w = (struct json_writer){.out = open_memstream(&text, &len)};
		json_put_string(&w, NULL, bytes);
		fclose(w.out);
		ck_that(!json_parse(&d, text, len, "doc", &e));
		json_free(&d);
		free(text);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		everything,
		numbers,
		refuses,
		limits,
		an_object_of_very_many_keys,
		accessors,
		long_paths_in_messages,
		every_truncation,
		every_bit_flip,
		mutations,
		writes,
	};

	return run_tests("json", tests, ARRAY_SIZE(tests), NULL, teardown);
}
