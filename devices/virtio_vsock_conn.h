/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_vsock_conn: the connections of the socket device (virtio_vsock.h): by their ports, those whose
 * turn it is, and what the guest has sent on its way to the stream. For the device's own files,
 * under its lock.
 */
#ifndef UVM_DEVICES_VIRTIO_VSOCK_CONN_H
#define UVM_DEVICES_VIRTIO_VSOCK_CONN_H

#include "devices/virtio_vsock.h"

/* Packets (virtio 1.2, 5.10.6). */
enum op {
	OP_REQUEST = 1,
	OP_RESPONSE,
	OP_RST,
	OP_SHUTDOWN,
	OP_RW,
	OP_CREDIT_UPDATE,
	OP_CREDIT_REQUEST
};

/* Packets owed to the guest, in the order of their urgency. */
#define OWE_REQUEST  (1u << OP_REQUEST)
#define OWE_RESPONSE (1u << OP_RESPONSE)
#define OWE_RST	     (1u << OP_RST)
#define OWE_SHUTDOWN (1u << OP_SHUTDOWN)
#define OWE_CREDIT   (1u << OP_CREDIT_UPDATE)

/* The connection of these ports, or NULL. */
struct vsock_conn *vsock_find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port);

/* Makes c, whose ports are set, known by them, and says what credit its guest has. The device owns
 * c. */
void vsock_enter(struct virtio_vsock *v, struct vsock_conn *c);

/* Has c's turn come around to look for something to send. */
void vsock_activate(struct virtio_vsock *v, struct vsock_conn *c);

/* It has had its turn, and nothing more to send. */
void vsock_deactivate(struct virtio_vsock *v, struct vsock_conn *c);

/* Has c's turn come around for packets that the device owes it: OWE_*. */
void vsock_owe(struct virtio_vsock *v, struct vsock_conn *c, uint32_t what);

/* Forgets c and frees the back end's stream. */
void vsock_drop(struct virtio_vsock *v, struct vsock_conn *c);

/* The same for all that there are, and what is owed to ports of none. */
void vsock_drop_all(struct virtio_vsock *v);

/* Writes to the stream. Returns bytes taken, 0 when it takes none now. */
size_t vsock_write(struct virtio_vsock *v, struct vsock_conn *c, const struct iovec *iov,
		   unsigned int n);

/* The stream takes nothing any more (its reader closed). The guest is told; what it sent and still
 * sends is dropped, while the other direction goes on to its own end.
 */
void vsock_host_closed(struct virtio_vsock *v, struct vsock_conn *c);

/* Keeps len bytes, which are within the guest's credit, at offset in the chain until the stream
 * takes them. Returns 0 or -ENOMEM.
 */
int vsock_keep(struct vsock_conn *c, const struct vq_chain *ch, size_t offset, uint32_t len);

/* Passes on what is kept, as far as the stream takes it. */
void vsock_flush(struct virtio_vsock *v, struct vsock_conn *c);

/* Counts bytes as gone from the guest's credit; tells it before that runs out. */
void vsock_forwarded(struct virtio_vsock *v, struct vsock_conn *c, uint32_t n);

/* What follows once all that the guest sent has been passed on. */
void vsock_drained(struct virtio_vsock *v, struct vsock_conn *c);

#endif
