/* SPDX-License-Identifier: Apache-2.0
 *
 * trace: what vCPUs and devices do, one entry each, into memory that a client reads ("uvm trace").
 *
 * Theory of operation. The client makes the ring, a sealed memfd, and sends its descriptor with the
 * request "trace"; the monitor maps it and writes entries as long as the connection lasts. It waits
 * for nobody: a client that is slow finds that entries were overwritten, by their numbers. Nothing
 * that the client writes into the ring is used but the next entry's number, of which any will do.
 *
 * Threads. Any may write: an entry's place is taken by an atomic addition, and its number is stored
 * last. A trace ends while others may be writing, so the mapping never goes away: anonymous memory
 * takes its place. Where nothing is traced it costs a load and a branch.
 *
 * A service: it knows neither KVM nor devices.
 */
#ifndef UVM_VMM_TRACE_H
#define UVM_VMM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/err.h"

#define TRACE_ENTRIES 65536u /* a power of two */
#define TRACE_DEVICES 64u
#define TRACE_NAME    16u

enum trace_kind {
	TRACE_EXIT = 1, /* who: vCPU. what: port or address. detail: KVM's exit reason, and below.
			 * took: until it is served
			 */
	TRACE_POP,  /* a device takes a request. who: TRACE_WHO. what: bytes to read. detail: the
		       chain's head */
	TRACE_PUSH, /* and has answered it. what: bytes written */
};

#define TRACE_WRITE	   (1u << 31) /* of an exit's detail: the guest writes */
#define TRACE_REASON(d)	   ((d)&0xffffu)
#define TRACE_SIZE(d)	   ((d) >> 16 & 0xffu) /* bytes of an access */
#define TRACE_WHO(slot, q) ((uint16_t)((slot) << 4 | (q)))

struct trace_entry {
	uint64_t at; /* CLOCK_MONOTONIC, ns */
	uint64_t what;
	uint32_t took; /* ns, as far as it is known */
	uint32_t detail;
	uint16_t kind, who;
	uint32_t number; /* of the entry + 1, its lower bits; stored last */
};

struct trace_ring {
	uint64_t next; /* number of the next entry; atomic */
	char device[TRACE_DEVICES]
		   [TRACE_NAME]; /* what stands in each slot, "disk0"; empty: nothing */
	char pad[56];
	struct trace_entry entry[TRACE_ENTRIES];
};

_Static_assert(sizeof(struct trace_entry) == 32, "entries do not cross cache lines");
_Static_assert(sizeof(struct trace_ring) == 1088 + 32 * TRACE_ENTRIES, "the ring is an interface");

struct trace {
	struct trace_ring *ring; /* NULL: nobody traces; atomic */
	struct trace_ring *place;
};

/* Where a queue's requests are told; trace NULL: nowhere. */
struct trace_tap {
	struct trace *trace;
	uint16_t who;
};

static inline bool trace_on(const struct trace *t)
{
	return t && __atomic_load_n(&t->ring, __ATOMIC_ACQUIRE);
}

/* An entry; nothing if nobody traces. */
void trace_put(struct trace *t, enum trace_kind kind, uint16_t who, uint64_t what, uint32_t detail,
	       uint64_t at, uint64_t took);

/* The ring's memory in fd, which stays the caller's: at least as long as the ring, and sealed
 * against shrinking. name tells what is in a slot ("" for nothing). Returns 0, -EBUSY if somebody
 * traces, or -errno, with a message.
 */
int trace_begin(struct trace *t, int fd,
		void (*name)(void *ctx, unsigned int slot, char name[TRACE_NAME]), void *ctx,
		struct err *e);
void trace_end(struct trace *t);

#endif
