/* SPDX-License-Identifier: Apache-2.0
 *
 * file: files that are small enough to be read whole. What they may be is checked here once: somebody
 * else can have made them.
 */
#ifndef UVM_VMM_FILE_H
#define UVM_VMM_FILE_H

#include <stddef.h>

#include "vmm/err.h"

/* Reads the regular file that fd is open on, from its beginning, wherever its position is. *text gets its
 * *len bytes and a NUL behind them, is malloc'ed and becomes the caller's. fd stays open; what stands
 * for the file in messages. Returns 0, -EINVAL for what is no regular file, -EFBIG for one of more than
 * max bytes, or another -errno; *text is NULL then.
 */
int file_read(int fd, const char *what, size_t max, char **text, size_t *len, struct err *e);

/* The same of a descriptor that open() or the like has just returned: it is closed, and errno says why
 * if there is none. Open with O_NONBLOCK: a FIFO must not hold up the open.
 */
int file_load(int fd, const char *what, size_t max, char **text, size_t *len, struct err *e);

#endif
