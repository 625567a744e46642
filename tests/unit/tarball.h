/* SPDX-License-Identifier: Apache-2.0
 *
 * tarball: tar archives made by hand, right or wrong.
 */
#ifndef UVM_TESTS_TARBALL_H
#define UVM_TESTS_TARBALL_H

#include <stddef.h>
#include <stdint.h>

struct tarball {
	uint8_t *data;
	size_t len;
	/* Of the members that follow. */
	unsigned int mode, uid, gid;
	uint64_t mtime;
	size_t pax; /* where the last member is, if it is a pax header; else 0, and see tar_pax */
	size_t pax_len;
};

struct tarball tarball(void); /* mode 0644, all else 0 */
void tarball_free(struct tarball *t);

/* Adds a member: type as in the header; link may be NULL. Returns where its header is, to be
 * spoilt; then tarball_seal makes the checksum anew.
 */
uint8_t *tar_add(struct tarball *t, char type, const char *name, const char *link, const void *data,
		 size_t len);
void tarball_seal(uint8_t *header);

/* A file with a text in it, a directory. */
void tar_text(struct tarball *t, const char *name, const char *text);
void tar_dir(struct tarball *t, const char *name, unsigned int mode);

/* A pax record for the next member; several in a row are in one header. */
void tar_pax(struct tarball *t, const char *key, const void *value, size_t len);
void tar_pax_text(struct tarball *t, const char *key, const char *value);

/* The two blocks of zeros. */
void tar_end(struct tarball *t);

#endif
