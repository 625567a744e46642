/* SPDX-License-Identifier: Apache-2.0
 *
 * The request for a VM of a pool.
 */
#include <stdlib.h>
#include <string.h>

#include "guest/protocol.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/pool.h"

/* The first byte: how many descriptors came. What is taken is used as a shell uses it. */
void fuzz_pool(const uint8_t *data, size_t len)
{
	struct pool_request rq;
	struct err e;
	uint8_t *copy;

	if (len < 1 || len > POOL_REQUEST_MAX)
		return;
	copy = malloc(len);
	memcpy(copy, data + 1, len - 1);
	if (!pool_read_request(&rq, copy, len - 1, data[0], &e)) {
		if ((rq.words && strlen(rq.words) > AGENT_CMDLINE_MAX) || rq.disks > POOL_DISKS)
			abort();
		if (rq.id)
			rundir_id_valid(rq.id);
		for (unsigned int i = 0; i < rq.disks; i++)
			if (!rq.disk[i].path || rq.disk[i].queues)
				abort();
	}
	free(copy);
}
