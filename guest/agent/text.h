/* SPDX-License-Identifier: Apache-2.0
 *
 * text: putting texts together and taking them apart. The agent has no printf, strtoul or strstr: musl's
 * are a seventh of its size.
 */
#ifndef UVM_AGENT_TEXT_H
#define UVM_AGENT_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Digits of the largest number, and a NUL. */
#define NUMBER_SIZE 21

/* Appends what fits of text to the n bytes in buf; returns how many there are now. No NUL. */
size_t append(char *buf, size_t size, size_t n, const char *text);

/* Makes buf, of size bytes, the texts up to a NULL one after the other, and a NUL. What does not fit is
 * left out. Returns the length.
 */
size_t compose(char *buf, size_t size, ...) __attribute__((sentinel));

/* Writes a number's decimal digits to buf of NUMBER_SIZE bytes. Returns buf. */
const char *number_text(char *buf, uint64_t number);

/* The number whose decimal digits text begins with; 0 if there are none, UINT64_MAX if it is larger. end
 * gets what follows; it may be NULL.
 */
uint64_t number_of(const char *text, const char **end);

/* Where what, which is not empty, begins in text, or NULL. */
const char *find_text(const char *text, const char *what);

#endif
