/* SPDX-License-Identifier: Apache-2.0
 *
 * limit: a token bucket: so many units (bytes, requests) each second, and a burst at once.
 *
 * Who takes is let in while there is anything in the bucket, and may take more than that: a request
 * that is larger than the burst gets through, and the next one waits until the debt is paid. So
 * the size of what comes need not be known before it is there: ask with 0, then take.
 */
#ifndef UVM_DEVICES_LIMIT_H
#define UVM_DEVICES_LIMIT_H

#include <stdint.h>

struct limit {
	uint64_t rate;	/* units each second; 0: no limit */
	uint64_t burst; /* units that an idle bucket has collected at most */
	int64_t tokens; /* units; below 0: debt */
	uint64_t last;	/* now_ns up to which tokens is right */
};

/* Fills the bucket. burst 0: a tenth of a second's worth. */
void limit_init(struct limit *l, uint64_t rate, uint64_t burst, uint64_t now_ns);

/* Takes n units and returns 0, or takes none and returns the ns (at least 1) after which to try
 * again. n is at most 2^62.
 */
uint64_t limit_take(struct limit *l, uint64_t now_ns, uint64_t n);

#endif
