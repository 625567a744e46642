/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/limit.h"

#include "vmm/util.h"

#define SECOND 1000000000ull

/* Above it nothing is worth counting, and nothing below overflows. */
#define MOST (1ull << 62)

void limit_init(struct limit *l, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	l->rate = MIN(rate, MOST);
	l->burst = MIN(burst ? burst : MAX(rate / 10, 1), MOST);
	l->tokens = (int64_t)l->burst;
	l->last = now_ns;
}

/* Adds what time has brought since, in whole units; the time for a part of one stays uncounted. */
static void refill(struct limit *l, uint64_t now)
{
	uint64_t passed = now > l->last ? now - l->last : 0;
	unsigned __int128 units = (unsigned __int128)passed * l->rate / SECOND;
	uint64_t room = l->burst - (uint64_t)l->tokens; /* right for a debt, too */

	if (units >= room) {
		l->tokens = (int64_t)l->burst;
		l->last += passed;
		return;
	}
	l->tokens += (int64_t)units;
	l->last += (uint64_t)((units * SECOND + l->rate - 1) / l->rate);
}

uint64_t limit_take(struct limit *l, uint64_t now_ns, uint64_t n)
{
	unsigned __int128 wait;

	if (!l->rate)
		return 0;
	refill(l, now_ns);
	if (l->tokens > 0) {
		l->tokens -= (int64_t)n;
		return 0;
	}
	/* From l->last on, of which a part may have passed: less than the next unit takes. */
	wait = ((unsigned __int128)(uint64_t)(1 - l->tokens) * SECOND + l->rate - 1) / l->rate;
	if (now_ns > l->last)
		wait -= now_ns - l->last;
	return (uint64_t)MIN(wait, (unsigned __int128)3600 * SECOND);
}
