/* SPDX-License-Identifier: Apache-2.0
 *
 * net: a network device whose other end sends back what it gets (tool.c's echo).
 */
#ifndef TINY_NET_H
#define TINY_NET_H

#include "virtio.h"

enum { NET_RX, NET_TX, NET_QUEUES };

#define F_MRG_RXBUF (1ull << 15)
#define NET_HEADER  12u
#define NET_FRAME   60u /* bytes of a small frame */

struct net_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

struct net {
	struct vdev dev;
	struct vq q[NET_QUEUES];
};

/* Finds the first device and starts it. Returns false, with a report, if it does not. */
bool net_start(struct net *n, uint64_t features);

/* Sends one frame of len bytes, by descriptors 0 and 1, and waits until it has been taken. The
 * header is zero.
 */
bool net_send(struct net *n, const uint8_t *frame, uint32_t len);

/* Makes descriptor i of the receive queue a buffer, and available. */
void net_offer(struct net *n, unsigned int i, void *buffer, uint32_t len);

#endif
