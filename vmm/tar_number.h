/* SPDX-License-Identifier: Apache-2.0
 *
 * tar_number: numbers as archives have them, in a header's fields and in the texts of extended ones (tar.h).
 */
#ifndef UVM_VMM_TAR_NUMBER_H
#define UVM_VMM_TAR_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Octal digits, or with the first bit set a signed number in base 256. False if it is neither, or does not
 * fit.
 */
bool tar_number(const char *field, size_t len, int64_t *value);

/* The same, without a sign. */
bool tar_size(const char *field, size_t len, uint64_t *value);

/* The decimal number at the start of a text that ends in a NUL. Returns what is behind it, or NULL. */
const char *tar_decimal(const char *s, uint64_t *value);

/* Seconds with a fraction, of which nine digits count. */
bool tar_time(const char *s, struct timespec *to);

#endif
