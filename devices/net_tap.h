/* SPDX-License-Identifier: Apache-2.0
 *
 * net_tap: a network's back end that is a tap device of the host's kernel, which does checksums and
 * segmentation for both sides (the header of a frame, IFF_VNET_HDR, is virtio's own).
 */
#ifndef UVM_DEVICES_NET_TAP_H
#define UVM_DEVICES_NET_TAP_H

#include "devices/virtio_net.h"

struct net_tap {
	struct net_backend backend;
	uint8_t *buffer; /* one frame with its header, and a byte more */
};

/* Attaches to the tap device `name`, which must exist: who makes it decides to whom it leads. Returns
 * 0, or -errno with a message that names it. (-EBUSY: another process has it.)
 */
int net_tap_open(struct net_tap *t, const char *name, struct err *e);

/* Uses a descriptor that is attached to one already, with IFF_NO_PI and IFF_VNET_HDR; on success it
 * is t's, and non-blocking for everybody who has it.
 */
int net_tap_adopt(struct net_tap *t, int fd, struct err *e);

void net_tap_close(struct net_tap *t);

#endif
