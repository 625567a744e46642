/* SPDX-License-Identifier: Apache-2.0
 *
 * state: how structures are described for a snapshot, written to a file, and read back.
 *
 * A table lists a structure's fields by name, once; saving, loading and printing all go by it. A
 * file is a header and sections; a section is one structure: a name, an instance number, the
 * table's version, and its fields, each with its name, element size and count. So a file can be
 * read, and refused, without knowing who wrote it. docs/snapshot.md has the bytes.
 *
 * What comes from a file is hostile. state_open checks the frame and its checksum, state_next the
 * section, state_load every field against the table: nothing is stored that does not fit, and a
 * field that is missing, unknown, of another size or there twice is an error. What a value means is
 * for its owner to check after loading.
 *
 * Compatibility: a field added later carries the table version that brought it; a section of an
 * older version lacks it and leaves the structure's value as it was. A newer version is refused.
 *
 * Leaf: includes only the monitor's smallest services.
 */
#ifndef UVM_SNAPSHOT_STATE_H
#define UVM_SNAPSHOT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/err.h"

#define STATE_FORMAT   1u	   /* version of the frame and of how fields are written */
#define STATE_NAME_MAX 31u	   /* characters of a section's or field's name */
#define STATE_FILE_MAX (64u << 20) /* bytes; more is no state file */

/* A field of a structure: size bytes an element, count elements at offset. With `used`, an array of
 * varying length: the uint32_t at that offset says how many of count are in use.
 */
struct state_field {
	const char *name; /* NULL ends the table */
	uint32_t offset;
	uint32_t size;	/* 1, 2, 4 or 8 */
	uint32_t count; /* 1, or an array's length */
	uint32_t used;	/* offset of the length, or STATE_FIXED */
	uint16_t since; /* version that brought it */
	bool boolean;	/* a bool: nothing but 0 and 1 may be stored in it */
};

#define STATE_FIXED UINT32_MAX

struct state_table {
	const char *name; /* of its sections */
	uint16_t version; /* from 1 */
	const struct state_field *fields;
};

/* Entries of a table for type's members, since version v. What an element is comes from the member
 * itself.
 */
#define STATE_ELEMENT(type, m, element, v)                                                         \
	.name = #m, .offset = offsetof(type, m), .size = sizeof(((type *)0)->element),             \
	.since = (v), .boolean = _Generic(((type *)0)->element, bool : true, default : false)
#define STATE_LENGTH(type, m) (sizeof(((type *)0)->m) / sizeof(((type *)0)->m[0]))

#define STATE_SCALAR(type, m, v)                                                                   \
	{                                                                                          \
		STATE_ELEMENT(type, m, m, v), .count = 1, .used = STATE_FIXED                      \
	}
#define STATE_ARRAY(type, m, v)                                                                    \
	{                                                                                          \
		STATE_ELEMENT(type, m, m[0], v), .count = STATE_LENGTH(type, m),                   \
		.used = STATE_FIXED                                                                \
	}
#define STATE_VARIABLE(type, m, length, v)                                                         \
	{                                                                                          \
		STATE_ELEMENT(type, m, m[0], v), .count = STATE_LENGTH(type, m),                   \
		.used = offsetof(type, length)                                                     \
	}

/* A section of a file that was opened. */
struct state_section {
	char name[STATE_NAME_MAX + 1];
	uint32_t instance;
	uint16_t version;
	uint32_t count; /* fields */
	const uint8_t *fields, *end;
	const char *what;
};

/* --- writing --- */

struct state_writer {
	uint8_t *data; /* grows; freed by state_discard */
	size_t len, room;
	bool failed; /* out of memory: state_finish says so */
};

/* Begins a file of this kind (8 characters). */
void state_begin(struct state_writer *w, const char kind[8]);
void state_save(struct state_writer *w, const struct state_table *t, uint32_t instance,
		const void *object);
/* A section of a single array, for what is too long for a structure: n elements of size bytes. */
void state_save_array(struct state_writer *w, const char *name, uint32_t instance, const void *data,
		      uint32_t size, uint32_t n);
/* A section as it is in another file. */
void state_copy(struct state_writer *w, const struct state_section *s);
/* Fills in the header. Returns 0, or -errno; data and len are then the whole file. */
int state_finish(struct state_writer *w, struct err *e);
void state_discard(struct state_writer *w);

/* --- reading --- */

struct state_reader {
	const uint8_t *at, *end;
	const char *what; /* for messages: a file's name */
};

/* Checks the frame of a file in memory, which stays the caller's while it is read. */
int state_open(struct state_reader *r, const void *file, size_t len, const char kind[8],
	       const char *what, struct err *e);

/* The checksum that the header of such a file carries: what names its content elsewhere. */
uint64_t state_sum(const void *file);

/* The next section: 1, 0 at the end, or -errno. */
int state_next(struct state_reader *r, struct state_section *s, struct err *e);

/* The section of that name and instance, looked for from the start. Returns 0, or -ENOENT, or
 * another -errno.
 */
int state_find(const struct state_reader *r, const char *name, uint32_t instance,
	       struct state_section *s, struct err *e);

/* Fills object from a section. Returns 0 or -errno. */
int state_load(const struct state_section *s, const struct state_table *t, void *object,
	       struct err *e);

/* The array of a state_save_array section, where it lies in the file (not aligned). */
int state_load_array(const struct state_section *s, uint32_t size, const uint8_t **data,
		     uint32_t *n, struct err *e);

/* --- both ways --- */

/* A pass over a machine's structures, which saves them (w) or loads them (r). Each structure's owner
 * has one function for both, so that the two cannot disagree; after loading it checks what it got.
 */
struct state_visitor {
	struct state_writer *w; /* NULL: loading */
	const struct state_reader *r;
};

static inline bool state_loading(const struct state_visitor *v)
{
	return !v->w;
}

/* Saves object, or loads it from the section of that name and instance. Returns 0 or -errno. */
int state_visit(struct state_visitor *v, const struct state_table *t, uint32_t instance,
		void *object, struct err *e);

/* For an owner whose check of a loaded structure failed: -EINVAL with a message that names it. */
int state_invalid(const struct state_visitor *v, const struct state_table *t, uint32_t instance,
		  const char *why, struct err *e);

/* Prints a section, a line for each field, by its table; by what the file says where t is NULL. */
int state_print(const struct state_section *s, const struct state_table *t, FILE *out,
		struct err *e);

#endif
