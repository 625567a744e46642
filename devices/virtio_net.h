/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_net: the network device (virtio 1.2, 5.1), one pair of queues, over a back end that moves
 * frames and knows nothing of virtio.
 *
 * Theory of operation. Nothing is read from the back end while the guest has no buffers for it: what
 * comes then waits, or is dropped, where it comes from. A frame that was read and turns out larger
 * than the buffers that are there is kept, one at most, and delivered when there are more; so the
 * device drops only what the guest can never take. What is transmitted goes from the guest's
 * memory to the back end in one piece. When that takes no more, the chain stays in the queue.
 *
 * Without a back end the link is down (VIRTIO_NET_F_STATUS): what the guest sends vanishes.
 *
 * Both directions take turns on the loop that the device is attached to, each for a bounded number
 * of frames; a rate limit makes them wait for a timer.
 */
#ifndef UVM_DEVICES_VIRTIO_NET_H
#define UVM_DEVICES_VIRTIO_NET_H

#include "devices/throttle.h"

#define NET_HEADER    12u
#define NET_FRAME_MIN 14u    /* an Ethernet header */
#define NET_FRAME_MAX 65550u /* without the header of 5.1.6: 65562 bytes with it */
#define NET_MTU_MIN   68u
#define NET_MTU_MAX   65535u
#define NET_ROUND     64u /* frames each way before others have their turn */

struct net_header { /* 5.1.6 */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct net_header) == NET_HEADER, "virtio 1.2, 5.1.6");

#define NET_NEEDS_CSUM 1u /* flags */
#define NET_DATA_VALID 2u
#define NET_GSO_NONE   0u /* gso_type */
#define NET_GSO_TCPV4  1u
#define NET_GSO_TCPV6  4u

/* Features (5.1.3) that a back end has to do with. */
#define NET_F_CSUM	 (1ull << 0)
#define NET_F_GUEST_CSUM (1ull << 1)
#define NET_F_GUEST_TSO4 (1ull << 7)
#define NET_F_GUEST_TSO6 (1ull << 8)
#define NET_F_HOST_TSO4	 (1ull << 11)
#define NET_F_HOST_TSO6	 (1ull << 12)
#define NET_OFFLOADS                                                                               \
	(NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_HOST_TSO4 |   \
	 NET_F_HOST_TSO6)

/* A frame from the back end; data is the back end's and stays until the next call of receive. */
struct net_frame {
	struct net_header header; /* num_buffers is the device's to set */
	const uint8_t *data;
	size_t len;
};

/* Where frames come from and go to. Calls come on the device's loop, under its lock; none blocks. */
struct net_backend {
	/* The next frame, of NET_FRAME_MIN to NET_FRAME_MAX bytes. Returns 0, -EAGAIN: there is
	 * none, wait until fd is readable; -EBADMSG: there was one that cannot be used, it is
	 * gone; -ENOTCONN: there will be none any more.
	 */
	int (*receive)(struct net_backend *b, struct net_frame *f);
	/* Sends the len bytes in iov[1..n]; iov[0] is the back end's to use for what it puts before
	 * a frame. n at most VIRTQUEUE_MAX. Returns 0, also when the rest of it is in the backlog;
	 * -EAGAIN: nothing was taken, wait until fd is writable; -EIO: the frame is dropped;
	 * -ENOTCONN: nothing will be taken any more.
	 */
	int (*send)(struct net_backend *b, const struct net_header *h, struct iovec *iov,
		    unsigned int n, size_t len);
	/* Sends what is in the backlog. Returns as send. May be NULL. */
	int (*flush)(struct net_backend *b);
	/* What the driver can take from now on, of NET_OFFLOADS. May be NULL. */
	void (*offload)(struct net_backend *b, uint64_t features);
	bool backlog;	/* bytes of the last frame wait until fd is writable */
	bool offloads;	/* it can do NET_OFFLOADS */
	int fd;		/* what to poll */
};

struct virtio_net_config { /* 5.1.4, as far as uvm's features reach */
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;
};

struct net_stats { /* written on the loop, read by any thread (atomic) */
	uint64_t rx_frames, rx_bytes, rx_dropped; /* to the guest */
	uint64_t tx_frames, tx_bytes, tx_dropped; /* from it */
};

struct virtio_net {
	struct virtio_dev dev;
	struct virtio_net_config config;
	bool offloads;
	struct net_backend *backend; /* NULL: the link is down */
	struct loop_source source;   /* the back end's descriptor */
	struct limit rx_limit, tx_limit;
	struct throttle throttle;  /* for these */
	uint64_t applied;	   /* features that the back end knows of */
	bool want_read, want_write; /* what to wait for, found in this round */
	bool holding;		   /* frame waits for buffers */
	struct net_frame frame;
	struct net_stats stats;
	struct vq_chain first, chain;
	struct vq_used used[VIRTQUEUE_MAX];
	struct iovec part[VIRTQUEUE_MAX + 1];
};

/* Attaches the device to loop, with its link down. offloads: whether the driver is offered checksums
 * and segmentation; then it can only have back ends that can do them. mtu: NET_MTU_MIN to
 * NET_MTU_MAX. irq stays the caller's. Returns 0, or -errno with e set.
 */
int virtio_net_init(struct virtio_net *n, const struct mem *m, const uint8_t mac[6], uint16_t mtu,
		    bool offloads, struct irq irq, struct loop *loop, struct err *e);

/* Closes the device; the back end stays the caller's. */
void virtio_net_close(struct virtio_net *n);

/* On its loop or while that stands still: gives the device a back end, or takes it away (NULL); the
 * driver is told of the link. What came before is dropped. The back end stays the caller's. Returns
 * 0, or -EINVAL with e set and nothing changed if it cannot do what the driver was offered.
 */
int virtio_net_set_backend(struct virtio_net *n, struct net_backend *b, struct err *e);

/* The same for its address. A driver reads it when it starts; one that runs keeps what it has. */
void virtio_net_set_mac(struct virtio_net *n, const uint8_t mac[6]);

/* Bytes of frames each second, each way; 0: no limit. Before the loop runs. */
int virtio_net_set_rate(struct virtio_net *n, uint64_t bytes, struct err *e);

/* Any thread. */
bool virtio_net_link(struct virtio_net *n);

/* Saves or loads the device, as virtio_state and under its conditions. The back end is no part of
 * it: the driver of a loaded device is told of the link that it has there. instance: its slot.
 */
extern const struct state_table virtio_net_table;
int virtio_net_state(struct virtio_net *n, uint32_t instance, struct state_visitor *v,
		     struct err *e);

#endif
