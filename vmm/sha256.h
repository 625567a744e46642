/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256: SHA-256 (FIPS 180-4), by which OCI images name their parts. Leaf.
 */
#ifndef UVM_VMM_SHA256_H
#define UVM_VMM_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 64u /* digits */

struct sha256 {
	uint32_t h[8];
	uint64_t len; /* bytes so far */
	uint8_t block[64];
};

void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);

/* The digest in lower case, and a NUL. */
void sha256_end(struct sha256 *s, char hex[SHA256_HEX + 1]);

/* Of the whole file, from its start, wherever its offset is. *size gets how much that was. Returns
 * 0 or -errno.
 */
int sha256_file(int fd, char hex[SHA256_HEX + 1], uint64_t *size);

#endif
