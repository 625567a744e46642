/* SPDX-License-Identifier: Apache-2.0
 *
 * claim: a directory that one process fills before it gets its final name. Its lock (flock) says
 * that the process lives; one whose lock is free was left by a dead one, and whoever comes next
 * removes it.
 */
#ifndef UVM_VMM_CLAIM_H
#define UVM_VMM_CLAIM_H

#include <stdbool.h>

/* Makes directory `name` in `at`, or takes one that is there, and locks it; with `wait` waits for
 * another process that has it. Returns its descriptor, whose end ends the lock; -EAGAIN if it was
 * taken from under us (renamed or removed; try again), or is another's; or another -errno.
 */
int claim_dir(int at, const char *name, bool wait);

/* Calls remove for each directory in `at` whose name begins with prefix and whose lock is free; it
 * is locked meanwhile.
 */
void claim_sweep(int at, const char *prefix, void (*remove)(int at, const char *name));

#endif
