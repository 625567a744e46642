/* SPDX-License-Identifier: Apache-2.0
 *
 * redirect: what arrives at one network interface leaves by another (tc-mirred(8)), before the network stack
 * of the host sees it. Queue, filter and action are the kernel's modules sch_ingress, cls_u32 and act_mirred.
 */
#ifndef UVM_SHIM_REDIRECT_H
#define UVM_SHIM_REDIRECT_H

#include "guest/netlink.h"

/* Interfaces by their indexes in n's namespace. One that redirect_make has been called for before, and whose
 * target is gone, is taken over. Returns 0 or -errno; -EBUSY: `from` has an ingress queue of somebody else's.
 */
int redirect_make(struct netlink *n, int from, int to);

/* Takes that back. Returns 0; -ENOENT if there is nothing of ours; or another -errno. */
int redirect_remove(struct netlink *n, int from);

#endif
