/* SPDX-License-Identifier: Apache-2.0
 *
 * sum: checksums of a snapshot: XXH64, which any tool can repeat (xxhsum -H64), and on it a sum
 * over memory and disks that does not depend on the order of their pages or on how sparse a file
 * is. They find damage, not malice: whoever can write the files can write their sums.
 */
#ifndef UVM_SNAPSHOT_SUM_H
#define UVM_SNAPSHOT_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUM_PAGE 4096u

/* XXH64 of len bytes (xxHash specification, section "XXH64 algorithm description"). */
uint64_t sum_bytes(const void *data, size_t len, uint64_t seed);

/* Whether len bytes, a multiple of 8, are all zero. data is aligned to 8. */
bool sum_is_zero(const void *data, size_t len);

/* What page `number` (SUM_PAGE bytes) adds to the sum of a whole: XXH64 with its number as seed,
 * nothing for a page of zeros. A whole's sum is the sum of its pages', modulo 2^64.
 */
uint64_t sum_page(const void *page, uint64_t number);

/* The sum of [0, size) of a file or block device, whose last page is taken as filled up with zeros.
 * Holes are skipped. Returns 0 or -errno; -ENODATA if the file is shorter.
 */
int sum_file(int fd, uint64_t size, uint64_t *sum);

#endif
