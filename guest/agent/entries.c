/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/entries.h"

#include <sys/syscall.h>
#include <unistd.h>

void entries_begin(struct entries *e, int dir)
{
	e->dir = dir;
	e->n = e->at = 0;
}

const struct dirent *entries_next(struct entries *e)
{
	const struct dirent *d;

	if (e->at == e->n) {
		e->n = syscall(SYS_getdents64, e->dir, e->text, sizeof(e->text));
		e->at = 0;
		if (e->n <= 0) {
			e->at = e->n;
			return NULL;
		}
	}
	d = (const void *)(e->text + e->at);
	e->at += d->d_reclen;
	return d;
}
