/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

void log_line(const char *fmt, ...)
{
	char line[512] = "uvm: ";
	va_list ap;
	size_t n = strlen(line);

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	text_plain(line);
	n = strlen(line);
	line[n] = '\n';
	write_all(STDERR_FILENO, line, n + 1);
}
