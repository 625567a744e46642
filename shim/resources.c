/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/resources.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "vmm/util.h"

__attribute__((format(printf, 3, 4))) static void put(struct oci_resources *r, const char *file,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->text[r->values], RESOURCES_TEXT, fmt, ap);
	va_end(ap);
	r->value[r->values] = (struct container_value){file, r->text[r->values]};
	r->values++;
}

/* A limit in bytes or of a number, where what is negative means that there is none. */
static void put_limit(struct oci_resources *r, const char *file, int64_t n)
{
	if (n < 0)
		put(r, file, "max");
	else
		put(r, file, "%" PRId64, n);
}

/* What is there and does not say that nothing is limited. */
static int refuse(const struct json *v, const char *path, struct err *e)
{
	const struct json *m = json_get(v, path);
	bool empty = !m || (m->type == JSON_ARRAY && !m->count) ||
		     (m->type == JSON_OBJECT && !m->count) || (m->type == JSON_STRING && !m->len) ||
		     (m->type == JSON_INTEGER && (m->negative || !m->magnitude)) ||
		     (m->type == JSON_BOOL && !m->boolean);

	return empty ? 0 : json_bad(e, m, "is not supported: the container is in a virtual machine");
}

static int parse_memory(struct oci_resources *r, const struct json *v, struct err *e)
{
	int64_t limit = 0, swap = 0, low = 0;
	int error = json_int(v, "memory.limit", -1, INT64_MAX, &limit, e);

	if (!error)
		error = json_int(v, "memory.swap", -1, INT64_MAX, &swap, e);
	if (!error)
		error = json_int(v, "memory.reservation", -1, INT64_MAX, &low, e);
	/* "kernel" and "kernelTCP" are gone from kernels; "swappiness" has nothing to swap to, and
	 * "useHierarchy" is how it always is.
	 */
	if (!error)
		error = refuse(v, "memory.disableOOMKiller", e);
	if (!error)
		error = refuse(v, "memory.checkBeforeUpdate", e);
	if (error)
		return error;
	if (swap > 0 && limit > 0 && swap < limit)
		return json_bad(e, json_get(v, "memory.swap"), "is less than the limit of memory");
	if (limit > 0)
		r->memory = (uint64_t)limit;
	if (limit)
		put_limit(r, "memory.max", limit);
	if (low)
		put_limit(r, "memory.low", MAX(low, 0));
	return 0; /* the guest has no swap, so that any limit of it holds */
}

static int parse_cpu(struct oci_resources *r, const struct json *v, struct err *e)
{
	uint64_t shares = 0, period = 0, burst = 0;
	int64_t quota = 0, idle = 0;
	int error = json_uint(v, "cpu.shares", UINT32_MAX, &shares, e);

	if (!error)
		error = json_int(v, "cpu.quota", INT64_MIN, INT64_MAX, &quota, e);
	if (!error)
		error = json_uint(v, "cpu.period", 1000000, &period, e);
	if (!error)
		error = json_string(v, "cpu.cpus", &r->cpus, e);
	if (!error)
		error = json_string(v, "cpu.mems", &r->mems, e);
	if (!error)
		error = json_uint(v, "cpu.burst", INT64_MAX, &burst, e);
	if (!error)
		error = json_int(v, "cpu.idle", 0, 1, &idle, e);
	if (!error)
		error = refuse(v, "cpu.realtimeRuntime", e);
	if (error)
		return error;
	/* 2 to 262144 becomes 1 to 10000. */
	if (shares) {
		shares = MIN(MAX(shares, 2u), 262144u);
		put(r, "cpu.weight", "%" PRIu64, 1 + (shares - 2) * 9999 / 262142);
	}
	if (!period)
		period = 100000;
	if (quota > 0) {
		put(r, "cpu.max", "%" PRId64 " %" PRIu64, quota, period);
		r->cpu_count = ((uint64_t)quota + period - 1) / period;
	} else if (quota < 0) {
		put(r, "cpu.max", "max %" PRIu64, period);
	}
	if (burst)
		put(r, "cpu.max.burst", "%" PRIu64, burst);
	if (json_get(v, "cpu.idle"))
		put(r, "cpu.idle", "%" PRId64, idle);
	return 0;
}

/* The guest has no pool of them, so that a limit of nothing holds. */
static int refuse_huge_pages(const struct json *v, struct err *e)
{
	const struct json *list = NULL;
	int error = json_array(v, "hugepageLimits", &list, e);

	json_each(l, list) {
		uint64_t limit = 0;

		if (!error)
			error = json_uint(l, "limit", UINT64_MAX, &limit, e);
		if (!error && limit)
			error = json_bad(e, l,
					 "is not supported: the virtual machine has no huge pages");
	}
	return error;
}

static int parse_pids(struct oci_resources *r, const struct json *v, struct err *e)
{
	int64_t limit = 0;
	int error = json_int(v, "pids.limit", INT64_MIN, INT64_MAX, &limit, e);

	if (!error && limit)
		put_limit(r, "pids.max", limit);
	return error;
}

/* Files of the cgroup by their names; the agent says which there are. */
static int parse_unified(struct oci_resources *r, const struct json *v, struct err *e)
{
	const struct json *files = NULL;
	int error = json_object(v, "unified", &files, e);

	if (error)
		return error;
	json_each(f, files) {
		const char *value = "";

		error = json_string(f, "", &value, e);
		if (error)
			return error;
		/* All others together are less than twelve. */
		if (r->values >= RESOURCES_VALUES - 12)
			return json_bad(e, files, "has too many members");
		r->value[r->values++] = (struct container_value){f->key, value};
	}
	return 0;
}

int oci_resources_parse(struct oci_resources *r, const struct json *v, struct err *e)
{
	static const char *const missing[] = {
		"blockIO.weight",
		"blockIO.leafWeight",
		"blockIO.weightDevice",
		"blockIO.throttleReadBpsDevice",
		"blockIO.throttleWriteBpsDevice",
		"blockIO.throttleReadIOPSDevice",
		"blockIO.throttleWriteIOPSDevice",
		"network.classID",
		"network.priorities",
		"rdma",
	};
	int error = parse_unified(r, v, e);

	if (!error)
		error = parse_memory(r, v, e);
	if (!error)
		error = parse_cpu(r, v, e);
	if (!error)
		error = parse_pids(r, v, e);
	if (!error)
		error = refuse_huge_pages(v, e);
	for (size_t i = 0; i < ARRAY_SIZE(missing) && !error; i++)
		error = refuse(v, missing[i], e);
	return error;
}
