/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/end.h"

#include <stdarg.h>
#include <stdio.h>

void end_set(struct end *end, enum end_reason why, const char *fmt, ...)
{
	int none = END_NONE;
	va_list ap;

	if (!__atomic_compare_exchange_n(&end->reason, &none, END_CLAIMED, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		return;
	va_start(ap, fmt);
	vsnprintf(end->text, sizeof(end->text), fmt, ap);
	va_end(ap);
	__atomic_store_n(&end->reason, why, __ATOMIC_RELEASE);
	loop_stop(end->loop);
}

enum end_reason end_get(const struct end *end)
{
	return (enum end_reason)__atomic_load_n(&end->reason, __ATOMIC_ACQUIRE);
}
