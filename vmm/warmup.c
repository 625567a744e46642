/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/warmup.h"

#include <stdlib.h>

#include "vmm/container.h"
#include "vmm/exec.h"
#include "vmm/record.h"

#define TIMEOUT_MS (AGENT_FREEZE_MS + 1000) /* the agent's own limit, and the way */

static void drop(void *ctx, int result, struct err *e)
{
	struct warmup *w = ctx;

	if (!result)
		result = link_request(w->link, AGENT_PREPARE, NULL, 0, TIMEOUT_MS, w->done, w->ctx, e);
	if (result)
		w->done(w->ctx, result, e);
}

int warmup_container(struct warmup *w, struct link *l, bool keep, link_done_fn *done, void *ctx,
		     struct err *e)
{
	static char program[] = "/", *argv[] = {program, NULL}; /* there must be one; it does not count */
	struct exec_request process = {.argv = argv, .quiet = true};
	struct agent_exec head = {0};
	struct container_spec spec;
	uint8_t *payload;
	size_t size;
	int r;

	container_defaults(&spec, RECORD_CONTAINER);
	spec.hostname = NULL;
	r = container_encode(&spec, &process, &head, &payload, &size, e);
	if (r)
		return r;
	*w = (struct warmup){l, done, ctx};
	r = keep ? link_request(l, AGENT_PREPARE, payload, size, TIMEOUT_MS, done, ctx, e)
		 : link_request(l, AGENT_PREPARE, payload, size, TIMEOUT_MS, drop, w, e);
	free(payload);
	return r;
}
