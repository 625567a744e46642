/* SPDX-License-Identifier: Apache-2.0
 *
 * scratch: where a container's writes go: memory of the guest, or an ext4 file system in a file.
 *
 * A disk for one run is a copy-on-write layer over a file system that is made once for each size and
 * kept in the cache, so that no start waits for mke2fs; that runs only for what is not there yet.
 */
#ifndef UVM_VMM_SCRATCH_H
#define UVM_VMM_SCRATCH_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/err.h"

struct scratch {
	bool disk;     /* at path; else memory of the guest, `size` bytes at the most (0: its default) */
	bool kept;     /* what is written is to be found in path afterwards; else path stays as it is */
	uint64_t size; /* bytes */
	char path[PATH_MAX];
};

/* As an option has it: NULL or "tmpfs", "tmpfs:SIZE", "SIZE", "FILE" or "FILE:SIZE". A file that is not
 * there is made. Returns 0 or -errno.
 */
int scratch_open(struct scratch *s, const char *option, struct err *e);

/* The type of the file system in an image, "ext4" or "erofs", as mount(2) has it. NULL if it is another
 * or cannot be read.
 */
const char *scratch_type(const char *path, struct err *e);

#endif
