/* SPDX-License-Identifier: Apache-2.0
 *
 * stamp: what tells, without reading it, that nobody has touched a file since.
 */
#ifndef UVM_VMM_STAMP_H
#define UVM_VMM_STAMP_H

#include <stdint.h>
#include <sys/stat.h>

struct stamp {
	uint64_t device, inode, size, mtime_s, mtime_ns, ctime_s, ctime_ns;
};

struct stamp stamp_of(const struct stat *st);

/* Waits for the clock's tick in which a file was last changed (ctime, nanoseconds since 1970) to
 * pass: a further change within the same one would leave no mark. Before a stamp is taken that is
 * to count.
 */
void stamp_settle(int64_t changed);

#endif
