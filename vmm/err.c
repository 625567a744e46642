/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/util.h"

static void set_text(struct err *e, const char *fmt, va_list ap)
{
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	text_plain(e->text);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_text(e, fmt, ap);
	va_end(ap);
	return -code;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int code = errno;
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	set_text(e, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(code));
	return -code;
}

void err_append(struct err *e, const char *fmt, ...)
{
	size_t n = strlen(e->text);
	va_list ap;
	int more;

	va_start(ap, fmt);
	more = vsnprintf(e->text + n, sizeof(e->text) - n, fmt, ap);
	va_end(ap);
	if (more < 0 || (size_t)more >= sizeof(e->text) - n)
		e->text[n] = 0;
}
