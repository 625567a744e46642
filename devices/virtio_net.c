/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio_net.h"

#include <errno.h>
#include <string.h>

#include "vmm/log.h"

#define VIRTIO_ID_NET 1

enum { RX, TX, QUEUES };

/* The other features (5.1.3). */
#define F_MTU	    (1ull << 3)
#define F_MAC	    (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS    (1ull << 16)

#define S_LINK_UP 1u

/* --- the back end's descriptor --- */

/* The back end is gone, or taken away: what it had to do with is forgotten. */
static void drop_backend(struct virtio_net *n)
{
	loop_del(n->dev.loop, &n->source);
	n->backend = NULL;
	n->holding = n->want_read = n->want_write = false;
}

/* Tells the driver, if it is news. */
static void set_link(struct virtio_net *n)
{
	uint16_t status = n->backend ? S_LINK_UP : 0;

	if (n->config.status == status)
		return;
	n->config.status = status;
	virtio_config_changed(&n->dev);
}

static void lost(struct virtio_net *n)
{
	const uint8_t *m = n->config.mac;

	log_warn("network %02x:%02x:%02x:%02x:%02x:%02x: its other end on the host is gone; the guest's link is down",
		 m[0], m[1], m[2], m[3], m[4], m[5]);
	drop_backend(n);
	set_link(n);
}

static void watch(struct virtio_net *n)
{
	if (n->backend)
		loop_watch(n->dev.loop, &n->source,
			   (n->want_read ? EPOLLIN : 0u) | (n->want_write ? EPOLLOUT : 0u));
}

/* --- both ways --- */

/* Whether a header asks for what has been negotiated only (5.1.6.2, 5.1.6.4): the guest's must, and
 * the guest must not get another one, though the back end may be a stranger.
 */
static bool header_allowed(const struct net_header *h, uint64_t features, uint64_t csum,
			   uint64_t tso4, uint64_t tso6)
{
	if (h->flags & NET_NEEDS_CSUM && !(features & csum))
		return false;
	switch (h->gso_type) {
	case NET_GSO_NONE: return true;
	case NET_GSO_TCPV4: return features & tso4;
	case NET_GSO_TCPV6: return features & tso6;
	default: return false;
	}
}

/* --- to the guest --- */

/* The bytes [at, at+len) of header and frame, to the start of a chain's buffers. */
static void fill(struct virtio_net *n, const struct vq_chain *c, size_t at, size_t len)
{
	const struct iovec *iov = c->iov + c->readable;
	size_t head = 0;

	if (at == 0) {
		head = NET_HEADER;
		iov_write(iov, c->writable, 0, &n->frame.header, head);
	}
	iov_write(iov, c->writable, head, n->frame.data + at + head - NET_HEADER, len - head);
}

/* Puts the frame into as many chains as it takes (5.1.6.3.2), or one. Returns 0 when it is there or
 * can never be, -EAGAIN when the driver has to add buffers first, -EINVAL when it broke a rule.
 * What was written to chains that are put back is nobody's.
 */
static int deliver(struct virtio_net *n)
{
	struct virtqueue *q = &n->dev.queue[RX];
	unsigned int most = n->dev.features & F_MRG_RXBUF ? q->size : 1, count = 0;
	size_t len = NET_HEADER + n->frame.len, done = 0;

	n->frame.header.num_buffers = 0;
	while (done < len && count < most) {
		struct vq_chain *c = count ? &n->chain : &n->first;
		int r = virtqueue_pop(q, c);

		if (r < 0 || (r && (c->readable || (!count && c->write_len < NET_HEADER))))
			return -EINVAL;
		if (r == 0) {
			/* Asked while the queue's end is known: else the driver's next buffer
			 * would be no news to it.
			 */
			if (virtqueue_waiting(q))
				continue;
			virtqueue_unpop(q, count);
			return -EAGAIN;
		}
		n->used[count] = (struct vq_used){c->head, (uint32_t)MIN(c->write_len, len - done)};
		fill(n, c, done, n->used[count].written);
		done += n->used[count++].written;
	}
	if (done < len) {
		virtqueue_unpop(q, count);
		stat_add(&n->stats.rx_dropped, 1);
		return 0;
	}
	n->frame.header.num_buffers = (uint16_t)count;
	iov_write(n->first.iov + n->first.readable, n->first.writable, 0, &n->frame.header,
		  NET_HEADER);
	virtqueue_push_all(q, n->used, count);
	stat_add(&n->stats.rx_frames, 1);
	stat_add(&n->stats.rx_bytes, n->frame.len);
	return 0;
}

/* Makes the back end's next frame the one at hand, if the guest can take it. Returns as its receive. */
static int fetch(struct virtio_net *n)
{
	struct net_header *h = &n->frame.header;
	int r = n->backend->receive(n->backend, &n->frame);

	if (!r && !header_allowed(h, n->dev.features, NET_F_GUEST_CSUM, NET_F_GUEST_TSO4,
				  NET_F_GUEST_TSO6))
		r = -EBADMSG;
	if (r == -EBADMSG)
		stat_add(&n->stats.rx_dropped, 1);
	if (r)
		return r;
	h->flags &= n->dev.features & NET_F_GUEST_CSUM ? NET_NEEDS_CSUM | NET_DATA_VALID : 0;
	throttle_charge(&n->rx_limit, n->frame.len);
	n->holding = true;
	return 0;
}

/* Returns whether there may be more to do at once. */
static bool receive(struct virtio_net *n)
{
	struct virtqueue *q = &n->dev.queue[RX];

	virtqueue_notifications(q, false);
	n->want_read = false;
	for (unsigned int i = 0; i < NET_ROUND; i++) {
		int r = 0;

		if (!n->holding) {
			if (!n->backend || !virtqueue_waiting(q) || throttle_holds(&n->throttle, &n->rx_limit))
				return false;
			r = fetch(n);
			n->want_read = r == -EAGAIN;
			if (r == -ENOTCONN)
				lost(n);
			if (r == -EAGAIN || r == -ENOTCONN)
				return false;
			if (r)
				continue;
		}
		r = deliver(n);
		if (r == -EINVAL)
			virtio_fail(&n->dev, "malformed receive buffer");
		if (r)
			return false;
		n->holding = false;
	}
	return true;
}

/* --- from the guest --- */

/* Returns as the back end's send. */
static int send_chain(struct virtio_net *n)
{
	const struct vq_chain *c = &n->first;
	size_t len = c->read_len - NET_HEADER;
	struct net_header h;
	unsigned int parts;

	if (!n->backend)
		return -EIO;
	iov_read(c->iov, c->readable, 0, &h, sizeof(h));
	if (c->read_len < NET_HEADER + NET_FRAME_MIN || c->read_len > NET_HEADER + NET_FRAME_MAX ||
	    !header_allowed(&h, n->dev.features, NET_F_CSUM, NET_F_HOST_TSO4, NET_F_HOST_TSO6))
		return -EIO;
	h.flags &= NET_NEEDS_CSUM;
	h.num_buffers = 0;
	parts = iov_slice(c->iov, c->readable, NET_HEADER, len, n->part + 1);
	return n->backend->send(n->backend, &h, n->part, parts, len);
}

/* One frame that is in the queue. Returns 0, -EAGAIN if it has to wait there, or -EINVAL. */
static int transmit_one(struct virtio_net *n)
{
	struct virtqueue *q = &n->dev.queue[TX];
	struct vq_chain *c = &n->first;
	int r = virtqueue_pop(q, c);

	if (r < 0 || (r && (c->writable || c->read_len < NET_HEADER)))
		return -EINVAL;
	if (!r)
		return 0; /* the driver has taken its index back */
	r = send_chain(n);
	if (r == -EAGAIN) {
		virtqueue_unpop(q, 1);
		return r;
	}
	if (!r) {
		stat_add(&n->stats.tx_frames, 1);
		stat_add(&n->stats.tx_bytes, c->read_len - NET_HEADER);
		throttle_charge(&n->tx_limit, c->read_len - NET_HEADER);
	} else {
		stat_add(&n->stats.tx_dropped, 1);
	}
	virtqueue_push(q, c->head, 0);
	if (r == -ENOTCONN)
		lost(n);
	return 0;
}

/* What the back end has of an earlier frame. Returns whether it is gone. */
static bool flush(struct virtio_net *n)
{
	int r = n->backend && n->backend->backlog ? n->backend->flush(n->backend) : 0;

	if (r == -ENOTCONN)
		lost(n);
	return r != -EAGAIN;
}

/* Returns whether there may be more to do at once. */
static bool transmit(struct virtio_net *n)
{
	struct virtqueue *q = &n->dev.queue[TX];

	virtqueue_notifications(q, false);
	n->want_write = !flush(n);
	for (unsigned int i = 0; i < NET_ROUND && !n->want_write; i++) {
		int r;

		if (!virtqueue_waiting(q) || throttle_holds(&n->throttle, &n->tx_limit))
			return false;
		r = transmit_one(n);
		if (r == -EINVAL) {
			virtio_fail(&n->dev, "malformed frame to transmit");
			return false;
		}
		n->want_write = r == -EAGAIN || (n->backend && n->backend->backlog);
	}
	return !n->want_write;
}

/* --- the device --- */

static void serve(struct virtio_dev *d)
{
	struct virtio_net *n = CONTAINER_OF(d, struct virtio_net, dev);
	bool more;

	if (n->backend && n->applied != d->features && n->backend->offload)
		n->backend->offload(n->backend, d->features & NET_OFFLOADS);
	n->applied = d->features;
	throttle_begin(&n->throttle);
	more = transmit(n);
	if (!virtio_failed(d))
		more |= receive(n);
	virtio_interrupt_all(d);
	if (virtio_failed(d))
		n->want_read = n->want_write = more = false;
	watch(n);
	throttle_end(&n->throttle);
	if (more)
		virtio_again(d);
}

/* A frame that the last driver had no buffer for may be one that the next cannot understand. */
static void reset(struct virtio_dev *d)
{
	struct virtio_net *n = CONTAINER_OF(d, struct virtio_net, dev);

	n->holding = n->want_read = n->want_write = false;
	n->applied = 0;
	watch(n);
}

static const struct virtio_ops net_ops = {
	.id = VIRTIO_ID_NET, .name = "network", .queues = QUEUES, .serve = serve, .reset = reset};

static void backend_ready(struct loop_source *s, uint32_t events)
{
	struct virtio_net *n = CONTAINER_OF(s, struct virtio_net, source);
	struct net_backend *b = n->backend;

	if (virtio_enter(&n->dev)) {
		serve(&n->dev);
	} else {
		n->want_read = n->want_write = false;
		watch(n);
	}
	if (events & (EPOLLHUP | EPOLLERR) && b && n->backend == b)
		lost(n);
	virtio_leave(&n->dev);
}

/* The configuration and what is offered follow from three values. */
static void describe(struct virtio_net *n)
{
	n->config.max_virtqueue_pairs = 1;
	n->dev.offered &= ~NET_OFFLOADS;
	n->dev.offered |= F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS | (n->offloads ? NET_OFFLOADS : 0);
}

int virtio_net_init(struct virtio_net *n, const struct mem *m, const uint8_t mac[6], uint16_t mtu,
		    bool offloads, struct irq irq, struct loop *loop, struct err *e)
{
	memset(n, 0, sizeof(*n));
	memcpy(n->config.mac, mac, sizeof(n->config.mac));
	n->config.mtu = mtu;
	n->offloads = offloads;
	throttle_init(&n->throttle, &n->dev);
	n->dev.ops = &net_ops;
	n->dev.mem = m;
	n->dev.config = &n->config;
	n->dev.config_len = sizeof(n->config);
	describe(n);
	return virtio_init(&n->dev, irq, loop, e);
}

void virtio_net_close(struct virtio_net *n)
{
	if (n->backend)
		drop_backend(n);
	throttle_close(&n->throttle);
	virtio_close(&n->dev);
}

int virtio_net_set_backend(struct virtio_net *n, struct net_backend *b, struct err *e)
{
	int r = 0;

	if (b && n->offloads && !b->offloads)
		return err_set(e, EINVAL,
			       "a network that was made with offload=on needs a tap device: use tap=NAME or fd=N");
	virtio_enter(&n->dev);
	if (n->backend)
		drop_backend(n);
	if (b) {
		n->source = (struct loop_source){.fd = b->fd, .ready = backend_ready};
		r = loop_add(n->dev.loop, &n->source, 0);
		n->backend = r ? NULL : b;
		n->applied = 0;
	}
	if (n->backend && b->offload)
		b->offload(b, 0);
	set_link(n);
	virtio_again(&n->dev);
	virtio_leave(&n->dev);
	return r ? err_set(e, -r, "cannot watch a network: %s", strerror(-r)) : 0;
}

void virtio_net_set_mac(struct virtio_net *n, const uint8_t mac[6])
{
	virtio_enter(&n->dev);
	memcpy(n->config.mac, mac, sizeof(n->config.mac));
	virtio_config_changed(&n->dev);
	virtio_leave(&n->dev);
}

int virtio_net_set_rate(struct virtio_net *n, uint64_t bytes, struct err *e)
{
	/* A burst is a tenth of a second, but not less than what a queue full of frames takes. */
	limit_init(&n->rx_limit, bytes, MAX(bytes / 10, NET_FRAME_MAX), now_ns());
	limit_init(&n->tx_limit, bytes, MAX(bytes / 10, NET_FRAME_MAX), now_ns());
	return bytes ? throttle_start(&n->throttle, e) : 0;
}

bool virtio_net_link(struct virtio_net *n)
{
	bool up;

	pthread_mutex_lock(&n->dev.lock);
	up = n->config.status & S_LINK_UP;
	pthread_mutex_unlock(&n->dev.lock);
	return up;
}

const struct state_table virtio_net_table = {
	.name = "net",
	.version = 1,
	.fields = (const struct state_field[]){STATE_ARRAY(struct virtio_net, config.mac, 1),
					       STATE_SCALAR(struct virtio_net, config.mtu, 1),
					       STATE_SCALAR(struct virtio_net, config.status, 1),
					       STATE_SCALAR(struct virtio_net, offloads, 1),
					       {0}}};

int virtio_net_state(struct virtio_net *n, uint32_t instance, struct state_visitor *v,
		     struct err *e)
{
	int r = state_visit(v, &virtio_net_table, instance, n, e);

	if (!r && state_loading(v)) {
		if (n->config.mtu < NET_MTU_MIN || n->config.mac[0] & 1 ||
		    n->config.status & ~S_LINK_UP)
			return state_invalid(v, &virtio_net_table, instance,
					     "no device has such a configuration", e);
		describe(n);
	}
	if (!r)
		r = virtio_state(&n->dev, instance, v, e);
	if (!r && state_loading(v))
		set_link(n);
	return r;
}
