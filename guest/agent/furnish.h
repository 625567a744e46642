/* SPDX-License-Identifier: Apache-2.0
 *
 * furnish: what is in a container's root beside its files: mounts, devices, what programs expect in a /dev,
 * paths that are masked or read-only. In the child, as the rest of contain.h; what fails ends it
 * (spawn_refuse). root is a descriptor of the root, where that is being put together.
 */
#ifndef UVM_AGENT_FURNISH_H
#define UVM_AGENT_FURNISH_H

#include "guest/agent/contain.h"
#include "guest/agent/mount.h"
#include "guest/agent/userns.h"

/* All of it, as the CREATE says. */
void furnish(const struct spawn *s, const struct contain_create *x, int root, const struct userns *u);

/* Of the records, those that mount. */
void furnish_mounts(const struct spawn *s, const struct contain_create *x, struct records records, int root,
		    const struct userns *u);

/* A record of a mount; its texts are the record's. */
struct mount furnish_mount_of(const struct record *r);

/* What the terminal will be put on, once there is one: see spawn.c. */
void furnish_console(int root);

/* Through the guest's /proc, which is the kernel's for sure; its files are those of the namespaces of who
 * opens them.
 */
void furnish_sysctls(const struct spawn *s, const struct create *c);

#endif
