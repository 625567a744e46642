/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/several.h"

#include <stdio.h>

/* The first is always listed; what of it has no room is left out. */
void several_failed(struct several *s, const char *name, const char *why)
{
	size_t room = sizeof(s->text) - s->len;
	int n;

	s->failed++;
	if (s->listed + 1 < s->failed)
		return; /* one before had no room: those that are listed are the first ones */
	n = snprintf(s->text + s->len, room, "%s%s%s%s", s->listed ? "; " : "", name, *why ? ": " : "", why);
	if (s->listed && (size_t)n >= room) {
		s->text[s->len] = 0;
		return;
	}
	s->len += (size_t)n < room ? (size_t)n : room - 1;
	s->listed++;
}

void several_tell(const struct several *s, unsigned int started, unsigned int wanted, const char *what,
		  struct err *e)
{
	char more[32] = "";

	if (s->failed > s->listed)
		snprintf(more, sizeof(more), "; and %u more", s->failed - s->listed);
	err_set(e, 0, "%u of %u %s; failed: %s%s", started, wanted, what, s->text, more);
}
