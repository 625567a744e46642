/* SPDX-License-Identifier: Apache-2.0
 *
 * memfile: a guest's memory in a sparse file, saved and mapped again.
 *
 * Theory of operation. The file is as long as the memory, the guest's RAM in order (mem.h's
 * regions one behind the other), pages of zeros left as holes. A clone maps it privately: clones
 * share what none of them has written through the host's page cache, and a page that a clone writes
 * becomes its own. Which those are, the kernel knows: in /proc/self/pagemap a page that is still
 * the file's has bit 61 (Documentation/admin-guide/mm/pagemap.rst). So a snapshot of a clone holds
 * only what differs from its parent, without a dirty log.
 *
 * Such a snapshot is a layer: its file has the same length, and a list of extents says which pages
 * count; the others are the parent's. To map a layer is to map each of its extents over the
 * parent's mapping, so extents are merged over small gaps: a gap costs its pages on disk, an extent
 * a mapping at every clone.
 */
#ifndef UVM_SNAPSHOT_MEMFILE_H
#define UVM_SNAPSHOT_MEMFILE_H

#include "vmm/mem.h"

#define MEMFILE_LAYERS	32u   /* the longest chain: a base and what differs from it */
#define MEMFILE_EXTENTS 4096u /* of one layer; each is a mapping of the process */

struct memfile_extent {
	uint32_t page, count; /* in pages of 4 KiB, counted through the file */
};

/* A file of a chain; extents NULL: the base, all of it. */
struct memfile_layer {
	int fd;
	const struct memfile_extent *extents;
	uint32_t count;
};

/* Checks a list from a file: in order, apart from each other, inside size bytes of memory. */
int memfile_check_extents(const struct memfile_extent *x, uint32_t n, uint64_t size);

/* Maps a chain, the base first, as a memory of size bytes. The descriptors may be closed after. Each
 * file is at least size long. Returns 0, or -errno with e set.
 */
int memfile_map(struct mem *m, uint64_t size, const struct memfile_layer *layer, unsigned int n,
		struct err *e);

/* The pages of a mapped chain that the process has written to, so that they are its own; x is the
 * caller's to free. Returns 0 or -errno.
 */
int memfile_written(const struct mem *m, struct memfile_extent **x, uint32_t *n);

/* Has the kernel keep what the process has used much of, and written nothing of, in huge pages of the
 * file: advice to it, for others who map the file. Where it can (the file on a tmpfs, or a kernel that
 * does it for any), a guest takes one nested page fault for 512 pages.
 */
void memfile_gather(const struct mem *m);

/* Makes pages the process's own already, as if it had written to them. Checked extents. */
void memfile_populate(const struct mem *m, const struct memfile_extent *x, uint32_t n);

/* What memfile_save did. */
struct memfile_saved {
	struct memfile_extent *extents; /* of a layer, the caller's to free; NULL for a base */
	uint32_t count;
	uint64_t sum;	 /* sum.h, over the whole file; 0 if not asked for */
	uint64_t stored; /* bytes that are not holes */
};

/* Called now and then with the bytes done and to do; may be NULL. Returns 0, or -errno to give up. */
typedef int memfile_progress(void *ctx, uint64_t done, uint64_t all);

/* Writes memory to the empty file fd. base: what m was mapped from, n layers, or n = 0 for memory
 * that began as zeros. with_parent: write only what differs from that, as a layer; else all. sum: whether
 * to sum it up, too. The guest stands still. Returns 0, or -errno with e set and the file in no
 * particular state.
 */
int memfile_save(int fd, const struct mem *m, const struct memfile_layer *base, unsigned int n,
		 bool with_parent, bool sum, memfile_progress *progress, void *ctx,
		 struct memfile_saved *saved, struct err *e);

#endif
