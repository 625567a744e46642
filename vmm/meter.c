/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/meter.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

#define FIRST_NS UINT64_C(1000000000)
#define EACH_NS	 UINT64_C(100000000)

void meter_begin(struct meter *m)
{
	*m = (struct meter){.began = now_ns()};
}

void meter_tick(struct meter *m)
{
	uint64_t now = now_ns();

	if (!m || now - m->began < FIRST_NS || now - m->shown < EACH_NS || !*m->text ||
	    !isatty(STDERR_FILENO))
		return;
	m->shown = now;
	fprintf(stderr, "\r\x1b[Kuvm: %s ", m->text);
}

void meter_set(struct meter *m, const char *fmt, ...)
{
	va_list ap;

	if (!m)
		return;
	va_start(ap, fmt);
	vsnprintf(m->text, sizeof(m->text), fmt, ap);
	va_end(ap);
	text_plain(m->text); /* a file's name may hold anything */
	meter_tick(m);
}

void meter_end(struct meter *m)
{
	if (m->shown)
		fprintf(stderr, "\r\x1b[Kuvm: %s, %.1f s\n", m->text,
			(double)(now_ns() - m->began) / 1e9);
	m->shown = 0;
}

const char *meter_number(uint64_t n, char text[32])
{
	char digits[24], *to = text;
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = 0;
	return text;
}
