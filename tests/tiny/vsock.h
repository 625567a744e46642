/* SPDX-License-Identifier: Apache-2.0
 *
 * vsock: the guest's side of virtio-vsock streams (virtio 1.2, 5.10), polled, a few at a time.
 */
#ifndef TINY_VSOCK_H
#define TINY_VSOCK_H

#include "virtio.h"

enum { VS_RX, VS_TX, VS_EVENT, VS_QUEUES };

enum vs_op {
	VS_REQUEST = 1,
	VS_RESPONSE,
	VS_RST,
	VS_SHUTDOWN,
	VS_RW,
	VS_CREDIT_UPDATE,
	VS_CREDIT_REQUEST,
};

#define VS_HOST_CID   2
#define VS_GUEST_CID  3
#define VS_STREAM     1
#define VS_NO_RECEIVE 1u
#define VS_NO_SEND    2u
#define VS_BUFFER     16384u /* what a stream holds: the host's credit */

struct vs_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vs_packet) == 44, "virtio 1.2, 5.10.6");

#define VS_RX_SIZE    2048u
#define VS_RX_BUFFERS 8

struct vs_receive {
	struct vs_packet head;
	uint8_t data[VS_RX_SIZE - sizeof(struct vs_packet)];
};

struct vsock {
	struct vdev dev;
	struct vq q[VS_QUEUES];
	struct vs_receive rx[VS_RX_BUFFERS] __attribute__((aligned(16)));
	struct vs_packet tx;
};

/* Starts the device and gives it receive buffers. Returns false after a report. */
bool vs_start(struct vsock *v);

/* Sends a packet as it is (src_cid, dst_cid, type and all), with data; waits until it is taken. */
bool vs_send_raw(struct vsock *v, const struct vs_packet *p, const void *data, uint32_t data_len);

/* A packet between these ports, with nothing else in it. */
struct vs_packet vs_packet(enum vs_op op, uint32_t guest_port, uint32_t host_port);

/* The next packet that came, or NULL; vs_recycle gives its buffer back. vs_await waits for it. */
struct vs_receive *vs_next(struct vsock *v);
struct vs_receive *vs_await(struct vsock *v);
void vs_recycle(struct vsock *v);

/* A packet of this kind to this guest port comes next, and is taken; reports otherwise. */
bool vs_expect(struct vsock *v, enum vs_op op, uint32_t guest_port, struct vs_packet *got);

#endif
