/* SPDX-License-Identifier: Apache-2.0
 *
 * json: reads JSON (RFC 8259) into a tree (json_parse.c), tells what is in it (json.c), and writes JSON
 * (json_write.c).
 *
 * The text is hostile: its size, depth and number of values are bounded, strings have to be UTF-8,
 * and what readers disagree about is refused: a key that an object has twice, a lone surrogate, a
 * number that is no number, anything behind the value. A refused text is told with line and column.
 *
 * Accessors take a value and a path of keys below it with dots between them ("process.user.uid";
 * "" is the value itself). What is absent, or null, leaves the result as the caller set it, which
 * is how defaults are given; what is of another type is an error that names the document and the
 * path: "config.json: process.args[2] is not a string".
 */
#ifndef UVM_VMM_JSON_H
#define UVM_VMM_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/err.h"

#define JSON_SIZE_MAX  (8u << 20) /* bytes of a text */
#define JSON_DEPTH_MAX 64u
#define JSON_COUNT_MAX (1u << 19) /* values of a text */

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_INTEGER, /* exact, -2^63 to 2^64-1, however it is written: 10, 1e1, 10.0 */
	JSON_REAL,    /* every other number */
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json {
	enum json_type type;
	uint32_t at;	     /* byte offset in the text */
	const char *key;     /* of an object's member; of the root: the document's name */
	struct json *parent; /* NULL: the root */
	struct json *next;   /* of the same array or object, in the text's order */
	union {
		bool boolean;
		struct {
			bool negative;
			uint64_t magnitude;
		};
		double real;
		struct {
			const char *text; /* with a NUL behind it, and perhaps some within */
			size_t len;
		};
		struct {
			struct json *first;
			size_t count;
		};
	};
};

struct json_doc {
	const struct json *root;
	struct json_block *blocks; /* where all of it is */
};

/* Parses text; `name` is for messages. Returns 0, -EINVAL or -E2BIG or -ENOMEM, and then there is
 * nothing to free. The document does not refer to the text.
 */
int json_parse(struct json_doc *d, const char *text, size_t len, const char *name, struct err *e);

/* Also of a zeroed one, or twice. */
void json_free(struct json_doc *d);

/* The value at a path, or NULL if there is none or it is null. */
const struct json *json_get(const struct json *v, const char *path);

/* The member of an object with this key, which may have dots in it; else as json_get. */
const struct json *json_member(const struct json *v, const char *name);

/* These return 0, or -EINVAL with the message set. json_string refuses a string with a NUL in it.
 * Strings live as long as the document.
 */
int json_bool(const struct json *v, const char *path, bool *to, struct err *e);
int json_int(const struct json *v, const char *path, int64_t min, int64_t max, int64_t *to,
	     struct err *e);
int json_uint(const struct json *v, const char *path, uint64_t max, uint64_t *to, struct err *e);
int json_string(const struct json *v, const char *path, const char **to, struct err *e);
int json_array(const struct json *v, const char *path, const struct json **to, struct err *e);
int json_object(const struct json *v, const char *path, const struct json **to, struct err *e);

/* An array of strings as a vector that ends in NULL, for the caller to free (and not the strings).
 * Also -ENOMEM.
 */
int json_strings(const struct json *v, const char *path, const char ***to, struct err *e);

/* For what must be there: 0, or -EINVAL with "NAME: PATH is missing". */
int json_required(const struct json *v, const char *path, struct err *e);

/* Sets the message "NAME: PATH.TO.V " and what fmt says, and returns -EINVAL: for what is of the
 * right type and wrong all the same.
 */
__attribute__((format(printf, 3, 4))) int json_bad(struct err *e, const struct json *v,
						   const char *fmt, ...);

/* The first value of an array or object; NULL of anything else, and of NULL. */
static inline const struct json *json_first(const struct json *v)
{
	return v && (v->type == JSON_ARRAY || v->type == JSON_OBJECT) ? v->first : NULL;
}

/* All of them. */
#define json_each(v, of) for (const struct json *v = json_first(of); v; v = v->next)

/* --- writing --- */

/* One value, and what is in it, is written as it comes: commas are the writer's job. Key is NULL in
 * an array and for the whole. Bytes of a string that are not UTF-8 become U+FFFD. Errors are the
 * stream's.
 */
struct json_writer {
	FILE *out;
	unsigned int depth;
	bool some;		    /* the innermost has a value already */
	char close[JSON_DEPTH_MAX]; /* what ends each that is open */
};

void json_put_open(struct json_writer *w, const char *name, char bracket); /* '{' or '[' */
void json_put_close(struct json_writer *w);
void json_put_string(struct json_writer *w, const char *name, const char *s); /* NULL: null */
void json_put_uint(struct json_writer *w, const char *name, uint64_t n);
void json_put_int(struct json_writer *w, const char *name, int64_t n);
void json_put_real(struct json_writer *w, const char *name, double n); /* finite */
void json_put_bool(struct json_writer *w, const char *name, bool b);
void json_put_strings(struct json_writer *w, const char *name,
		      const char *const *s); /* as json_strings */
void json_put(struct json_writer *w, const char *name,
	      const struct json *v); /* a value that was read */

#endif
