/* SPDX-License-Identifier: Apache-2.0
 *
 * meter: tells whoever waits at a terminal what takes longer than a second: one line on standard
 * error that changes in its place, ended by how long it took.
 */
#ifndef UVM_VMM_METER_H
#define UVM_VMM_METER_H

#include <stdbool.h>
#include <stdint.h>

struct meter {
	uint64_t began, shown; /* now_ns(); shown: 0 if it never was */
	char text[256];	       /* what the line says now */
};

void meter_begin(struct meter *m);

/* Sets the text, and shows it if it is time and standard error is a terminal. m may be NULL. */
__attribute__((format(printf, 2, 3))) void meter_set(struct meter *m, const char *fmt, ...);

/* Shows the text that is set, if it is time. */
void meter_tick(struct meter *m);

/* Ends the line, if there is one. */
void meter_end(struct meter *m);

/* A number with a comma for every thousand, for people, in text, which is returned. */
const char *meter_number(uint64_t n, char text[32]);

#endif
