/* SPDX-License-Identifier: Apache-2.0
 *
 * decompress: a file as what it was before it was compressed: gzip, zstd, xz or bzip2, as its first
 * bytes say, by the host's tool of that name.
 */
#ifndef UVM_VMM_DECOMPRESS_H
#define UVM_VMM_DECOMPRESS_H

#include <stdbool.h>

#include "vmm/tool.h"

struct decompress {
	int fd; /* what to read from; not to be closed */
	struct tool tool;
};

/* Whether a file is compressed in one of these ways. */
bool decompress_is(int fd);

/* Readies d->fd for the whole of file fd, which is at its start then and stays the caller's.
 * Returns 0 or -errno.
 */
int decompress_open(struct decompress *d, int fd, struct err *e);

/* Ends it, after all was read or `r` went wrong (with its message in e). Returns r, or what went
 * wrong with the tool, whose message then takes the place of the other, that it caused. `what` is
 * for it.
 */
int decompress_close(struct decompress *d, int r, const char *what, struct err *e);

#endif
