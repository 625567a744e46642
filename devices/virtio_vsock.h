/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_vsock: the socket device (virtio 1.2, 5.10), stream sockets between guest and host, in
 * user space. A back end has the host's ends of the streams; here are packets, connections and
 * credit.
 *
 * Theory of operation. A connection is a pair of ports. The back end embeds a struct vsock_conn
 * in its stream and says when the stream became readable or writable (edges: it says so once,
 * the device remembers until an operation answers -EAGAIN). From the guest, a packet's bytes go
 * straight from its buffers into the stream; what the stream does not take waits in the
 * connection's buffer, whose size is the credit that the guest was given, so it always fits. To
 * the guest, the device reads from the stream straight into the guest's receive buffer, as much
 * as the guest's credit and the buffer allow. When there is no buffer or no credit it does not
 * read, and the host's sender waits: back-pressure end to end, a stream at a time.
 *
 * Packets that the device owes a connection (a response, a credit update) are bits, not a queue,
 * so a guest that sends without receiving costs no memory. Connections with something to send
 * take turns, one packet each.
 *
 * All of it runs on one loop, under the device's lock.
 */
#ifndef UVM_DEVICES_VIRTIO_VSOCK_H
#define UVM_DEVICES_VIRTIO_VSOCK_H

#include "devices/virtio_mmio.h"

#define VSOCK_HOST_CID	2u	    /* 5.10.4 */
#define VSOCK_MAX_CONNS 1024u
/* Credit that a guest gets for a connection, bytes, which the monitor may have to keep: enough that
 * a sender need not wait for more in the midst of a stream. The guest may have so many connections at
 * once; all beyond get less, or a thousand that nobody reads from would take 256 MiB.
 */
#define VSOCK_BUFFER	   (256u << 10)
#define VSOCK_WIDE	   64u
#define VSOCK_BUFFER_SMALL (64u << 10)
#define VSOCK_BUCKETS	256u

/* Which ends are shut (5.10.6.6's flags, seen from the guest). */
#define VSOCK_NO_RECEIVE 1u
#define VSOCK_NO_SEND	 2u

struct vsock_conn {
	struct vsock_conn *next_hashed;
	struct vsock_conn *next_active;
	bool active; /* in the list of those that may have something to send */
	bool hashed; /* known by its ports; false: not connected (yet), or gone */

	uint32_t host_port, guest_port;
	bool open;		 /* the other side has agreed */
	uint32_t owed;		 /* packets to send, bits */
	uint32_t guest_shut;	 /* VSOCK_NO_*: what the guest will not do any more */
	uint32_t host_shut;	 /* VSOCK_NO_* told to the guest: what the host will not do */
	bool readable, writable; /* until the stream says -EAGAIN */
	bool bulk;		 /* it has filled a packet: more may be had at once */
	bool host_eof;		 /* the stream was read to its end */
	bool host_closed;	 /* the stream takes no more bytes; the guest's are dropped */
	bool host_gone;	 /* both, and the stream has been let go: waits for the guest's reset */
	bool write_shut; /* the stream has been told the end of the guest's bytes */

	/* Credit (5.10.6.3), free-running byte counters. */
	uint32_t peer_alloc, peer_forwarded; /* the guest's buffer, what it took from it */
	uint32_t sent;			     /* to the guest */
	uint32_t received, forwarded;	     /* from the guest, and on to the stream */
	uint32_t told;			     /* forwarded, as the guest last heard */
	uint32_t alloc;			     /* credit, and bytes of buffer */

	uint8_t *buffer; /* made when first needed */
	uint32_t buffer_head, buffered;
};

/* The back end. Calls come on the loop, under the lock; none blocks. */
struct vsock_host {
	/* The guest asks for host port `port`. Makes a stream, with *conn zeroed. Returns 0, or
	 * -errno, which the guest sees as a refused connection.
	 */
	int (*connect)(struct vsock_host *h, uint32_t port, struct vsock_conn **conn);
	/* The guest has accepted the host's connection: bytes may flow. */
	void (*accepted)(struct vsock_host *h, struct vsock_conn *c);
	/* As readv and writev: bytes moved, 0 at the end (read), -EAGAIN, or -errno for a stream
	 * that is broken.
	 */
	ssize_t (*read)(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			unsigned int n);
	ssize_t (*write)(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			 unsigned int n);
	/* No more will be written. */
	void (*shutdown_write)(struct vsock_host *h, struct vsock_conn *c);
	/* Close the stream but keep c; the last call before free at most. */
	void (*hangup)(struct vsock_host *h, struct vsock_conn *c);
	/* Close the stream if need be and free it, with c. */
	void (*free)(struct vsock_host *h, struct vsock_conn *c);
};

struct vsock_config { /* 5.10.4 */
	uint64_t guest_cid;
};

/* Resets for packets of no connection: a few; until they are sent no more packets are taken. */
#define VSOCK_STRAYS 16
/* And for connections that a snapshot has and this VM has not, which are owed one each. */
#define VSOCK_RESETS (VSOCK_STRAYS + VSOCK_MAX_CONNS)

struct vsock_stray {
	uint32_t host_port, guest_port;
};

/* Receive buffers that are filled by one read, beside the first. */
#define VSOCK_MORE 15u

struct vsock_more {
	uint16_t head;
	uint32_t room; /* bytes of data */
	void *header;  /* room for a packet's */
};

struct virtio_vsock {
	struct virtio_dev dev;
	struct vsock_config config;
	struct vsock_host *host;
	struct vsock_conn *bucket[VSOCK_BUCKETS];
	struct vsock_conn *active_first, *active_last;
	unsigned int conns;
	uint64_t received_bytes, sent_bytes; /* from and to the guest, since the device was made */
	uint32_t next_port; /* for connections that the host makes */
	struct loop_source timer; /* the guest has packets that it is to be told of */
	bool alarm;		  /* the timer runs */
	unsigned int strays;
	struct vsock_stray stray[VSOCK_RESETS]; /* from here on nothing is cleared in advance */
	struct vq_chain chain, next;
	struct vsock_more more[VSOCK_MORE];
	struct iovec part[VIRTQUEUE_MAX];
};

/* Attaches the device to loop. Returns 0 or -errno. */
int virtio_vsock_init(struct virtio_vsock *v, const struct mem *m, uint32_t guest_cid,
		      struct vsock_host *host, struct irq irq, struct loop *loop, struct err *e);

/* Saves or loads the device, whose loop stands still. Of its connections only one lives on in
 * another VM: the guest's to host port keep_port, for whose other end the back end makes a new
 * stream by its connect. All others are reset by the loaded device, each by a packet of its own: so
 * no transport reset event is needed, which would end the one as well.
 */
int virtio_vsock_state(struct virtio_vsock *v, uint32_t instance, uint32_t keep_port,
		       struct state_visitor *visitor, struct err *e);
/* Whether the connection to keep_port is at rest: open both ways, nothing on its way. */
bool virtio_vsock_kept(struct virtio_vsock *v, uint32_t keep_port);
extern const struct state_table virtio_vsock_table;

/* For the back end, on the loop, between virtio_enter and virtio_leave. */

/* Asks the guest's port for a connection, with c zeroed. Returns 0, or -EMFILE at
 * VSOCK_MAX_CONNS. After 0 the device owns c, and may have freed it already.
 */
int vsock_connect(struct virtio_vsock *v, struct vsock_conn *c, uint32_t guest_port);

/* The stream became readable (or ended), or writable. c may be freed by the call. */
void vsock_stream_ready(struct virtio_vsock *v, struct vsock_conn *c, bool readable, bool writable);

#endif
