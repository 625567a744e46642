/* SPDX-License-Identifier: Apache-2.0
 *
 * several: what is said when some of several VMs that one command is to start cannot be.
 *
 * It is one line. It tells how many of how many have started, and names those that failed and why, as many as have
 * room in it.
 */
#ifndef UVM_VMM_SEVERAL_H
#define UVM_VMM_SEVERAL_H

#include <stddef.h>

#include "vmm/err.h"

struct several {
	unsigned int failed, listed;
	char text[320]; /* of those that are listed */
	size_t len;
};

/* One failed. why is empty where the VM's process has said it. s is zeroed before the first. */
void several_failed(struct several *s, const char *name, const char *why);

/* Sets the message, which begins "STARTED of WANTED WHAT". */
void several_tell(const struct several *s, unsigned int started, unsigned int wanted, const char *what,
		  struct err *e);

#endif
