/* SPDX-License-Identifier: Apache-2.0
 *
 * mem: the guest's physical memory, and the only way to reach it.
 *
 * A guest-physical address is a type of its own that the host cannot dereference. Every access
 * goes through a call that takes the whole range, checks it once without overflow, and gives
 * back a host pointer, or nothing. The mapping never moves or shrinks while the VM lives, so a
 * checked span stays valid for the VM's life.
 *
 * What is behind such a pointer may change at any moment under the reader's eyes: the guest's
 * other vCPUs write to it. Fetch a field once into a local (mem_load_le*), validate the local,
 * use the local.
 *
 * Layout (the same as every x86 PC's): RAM from 0 up to at most 3 GiB, a hole for devices up to
 * 4 GiB, the rest of the RAM above it.
 */
#ifndef UVM_VMM_MEM_H
#define UVM_VMM_MEM_H

#include <stdint.h>

#include "vmm/err.h"
#include "vmm/util.h"

typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){v};
}

#define MEM_HOLE_START 0xc0000000ull  /* 3 GiB */
#define MEM_HOLE_END   0x100000000ull /* 4 GiB */
#define MEM_MIN	       (2ull << 20)   /* room for the boot structures and a tiny guest */
#define MEM_MAX	       (1ull << 40) /* 1 TiB: the least physical address width that KVM hosts have */

struct mem_region {
	gpa_t start;
	uint64_t size; /* bytes */
	uint8_t *host;
	void *reserved; /* around host: what lies before and behind it cannot be touched */
};

struct mem {
	struct mem_region region[2]; /* below the hole; above it */
	unsigned int count;
	uint64_t size; /* of all regions together, bytes */
	int pagemap;   /* /proc/self/pagemap, for a process that cannot open it itself; 0: it can */
};

/* What the guest has, bytes. */
static inline uint64_t mem_size(const struct mem *m)
{
	return m->size;
}

/* Maps size bytes (a multiple of the page size, MEM_MIN to MEM_MAX) of zeroed, private,
 * anonymous memory that core dumps leave out, each region aligned to a huge page. Returns 0, or
 * -errno with e set.
 */
int mem_init(struct mem *m, uint64_t size, struct err *e);

/* The same, filled from a file at least that long, whose pages are the guest's own once written
 * (MAP_PRIVATE): the regions one behind the other from its start. fd may be closed after.
 */
int mem_init_file(struct mem *m, uint64_t size, int fd, struct err *e);

/* Unmaps it. Only after every user of its pointers is gone. */
void mem_free(struct mem *m);

/* The host address of guest memory [at, at+len), which lies in one region as a whole, or NULL.
 * len 0 gives NULL: there is nothing to point to.
 */
void *mem_span(const struct mem *m, gpa_t at, uint64_t len);

/* Tells the host that all of [at, at+len) is going to be used, so that huge pages are no waste
 * there, also where they are given to those only who ask. A hint: nothing depends on it.
 */
void mem_expect(const struct mem *m, gpa_t at, uint64_t len);

/* What to say where a page of the guest's cannot be had: it is a file's, and there was no room. */
#define MEM_LOST                                                                                   \
	"the guest's memory cannot be had: its snapshot's file system is full, or the file was "   \
	"made shorter"

/* Gives the whole pages inside [host, host+len), as mem_span gave it, back to this host. The guest
 * keeps the memory: what is touched again holds zeros, or, where the guest's memory was mapped from
 * a file (mem_init_file, a snapshot's layers), the file's page again. Whoever shares the old pages
 * by fork(2) keeps them. May run beside vCPUs; what they write to the range meanwhile may be lost.
 * Returns 0, -EFAULT if not all of the range lies in one region, or -errno of the host's, after
 * which the content of the range is as it was or as above.
 */
int mem_release(const struct mem *m, void *host, uint64_t len);

/* Copy out of and into guest memory. Return 0, or -EFAULT if not all of the range is RAM. */
int mem_read(const struct mem *m, gpa_t at, void *to, uint64_t len);
int mem_write(const struct mem *m, gpa_t at, const void *from, uint64_t len);

/* One load or store of a little-endian field that the guest shares; p as mem_span gave it.
 * Neither torn nor repeated by the compiler. Ordering against other fields is the caller's.
 */
static inline uint16_t mem_load_le16(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
}

static inline void mem_store_le16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_RELAXED);
}

static inline void mem_store_le32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, v, __ATOMIC_RELAXED);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "x86 only: fields are used as they lie");

#endif
