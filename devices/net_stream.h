/* SPDX-License-Identifier: Apache-2.0
 *
 * net_stream: a network's back end that is a stream socket, by the convention of QEMU and passt: each
 * frame is preceded by its length, 32 bits, big-endian, and nothing else.
 *
 * The peer may be anybody. A frame of an impossible length is skipped, as many bytes as it says. A
 * frame that the socket takes a part of only is finished from a buffer before the next is begun.
 */
#ifndef UVM_DEVICES_NET_STREAM_H
#define UVM_DEVICES_NET_STREAM_H

#include "devices/virtio_net.h"

#define NET_STREAM_PREFIX 4u
/* Room for any frame, and for many small ones from one call. */
#define NET_STREAM_BUFFER (128u << 10)

struct net_stream {
	struct net_backend backend;
	uint8_t *in; /* NET_STREAM_BUFFER bytes, of which [at, at+len) are to be looked at */
	size_t at, len;
	uint64_t skip; /* bytes of a frame that nobody wants, still to come */
	uint8_t *out;  /* the rest of a frame, while there is a backlog: [sent, left) */
	size_t sent, left;
	uint8_t prefix[NET_STREAM_PREFIX];
};

/* Uses a connected socket, which is s's on success, and non-blocking. Returns 0 or -errno. */
int net_stream_init(struct net_stream *s, int fd, struct err *e);
void net_stream_close(struct net_stream *s);

#endif
