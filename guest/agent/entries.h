/* SPDX-License-Identifier: Apache-2.0
 *
 * entries: what is in a directory, without opendir, which takes memory from the heap.
 */
#ifndef UVM_AGENT_ENTRIES_H
#define UVM_AGENT_ENTRIES_H

#include <dirent.h>

struct entries {
	int dir;     /* read from where it stands */
	long n, at;  /* of what was read; n is 0 at the end, -1 with errno after an error */
	_Alignas(struct dirent) char text[2048];
};

/* Begins with an open directory, which stays the caller's. */
void entries_begin(struct entries *e, int dir);

/* The next one ("." and ".." are some), or NULL. Valid until the next call. */
const struct dirent *entries_next(struct entries *e);

#endif
