/* SPDX-License-Identifier: Apache-2.0
 *
 * The network device, by a driver that keeps the rules; ring.c has those that break them.
 */
#include "net.h"

#define LARGEST 65550u

static struct net net;
static uint8_t frame[LARGEST + 1], back[2 * 65536];

bool net_start(struct net *n, uint64_t features)
{
	if (!vdev_find(&n->dev, VIRTIO_NET, 0)) {
		fail("there is no network device");
		return false;
	}
	return vdev_start(&n->dev, features, n->q, NET_QUEUES);
}

bool net_send(struct net *n, const uint8_t *data, uint32_t len)
{
	static struct net_header h;

	vq_desc(&n->q[NET_TX], 0, &h, sizeof(h), D_NEXT, 1);
	vq_desc(&n->q[NET_TX], 1, data, len, 0, 0);
	vq_put(&n->q[NET_TX], 0);
	vdev_kick(&n->dev, NET_TX);
	return vq_wait(&n->dev, &n->q[NET_TX], NULL, NULL);
}

void net_offer(struct net *n, unsigned int i, void *buffer, uint32_t len)
{
	vq_desc(&n->q[NET_RX], i, buffer, len, D_WRITE, 0);
	vq_put(&n->q[NET_RX], (uint16_t)i);
	vdev_kick(&n->dev, NET_RX);
}

static void fill(uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed * 31 + i + (i >> 8) * 7);
}

static void config(void)
{
	struct vdev v, none;

	if (!vdev_find(&v, VIRTIO_NET, 0)) {
		fail("there is no network device");
		return;
	}
	expect("a second one", vdev_find(&none, VIRTIO_NET, 1), true);
	expect("a third", vdev_find(&none, VIRTIO_NET, 2), false);
	vdev_reset(&v);
	expect("features", vdev_offered(&v) & 0xffffff, 0x18028);
	for (uint32_t q = 0; q < 8; q++) {
		write32(v.base + R_QUEUE_SEL, q);
		expect("largest queue", read32(v.base + R_QUEUE_NUM_MAX),
		       q < NET_QUEUES ? QUEUE_MAX : 0);
	}
	for (unsigned int i = 0; i < 6; i++)
		expect("address", read8(v.base + R_CONFIG + i), i ? i : 2);
	expect("link", read16(v.base + R_CONFIG + 6), 1);
	expect("MTU", read16(v.base + R_CONFIG + 10), 9000);
	expect("link of the second", read16(v.base + VIRTIO_SLOT + R_CONFIG + 6), 0);
	write32(v.base + R_CONFIG, 0);
	write16(v.base + R_CONFIG + 6, 0);
	expect("address after a write", read8(v.base + R_CONFIG), 2);
	expect("behind the configuration", read32(v.base + R_CONFIG + 12), 0);
}

/* A frame goes out and comes back as it was, in one buffer. */
static void expect_back(uint32_t len, uint32_t at)
{
	uint32_t written = 0;

	if (!expect("received", vq_wait(&net.dev, &net.q[NET_RX], NULL, &written), true))
		return;
	expect("length", written, NET_HEADER + len);
	expect("buffers", ((struct net_header *)(back + at))->num_buffers, 1);
	expect("header", back[at] | back[at + 1], 0);
	expect("other bytes", memcmp(back + at + NET_HEADER, frame, len) != 0, false);
}

static void loopback(void)
{
	static const uint32_t sizes[] = {14, 15, 60, 1514, 9014, 65535, LARGEST};

	if (!net_start(&net, 0))
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes) && !failed(); i++) {
		memset(back, 0xee, NET_HEADER + sizes[i]);
		fill(sizes[i], i);
		net_offer(&net, 0, back, NET_HEADER + LARGEST);
		expect("sent", net_send(&net, frame, sizes[i]), true);
		expect_back(sizes[i], 0);
	}
}

/* Frames come while there is no buffer, and none is lost or there twice. */
static void waits_for_buffers(void)
{
	if (!net_start(&net, 0))
		return;
	for (unsigned int i = 0; i < 8; i++) {
		fill(NET_FRAME + i, i);
		expect("sent", net_send(&net, frame, NET_FRAME + i), true);
	}
	for (unsigned int i = 0; i < 8 && !failed(); i++) {
		fill(NET_FRAME + i, i);
		net_offer(&net, i, back, 2048);
		expect_back(NET_FRAME + i, 0);
	}
	expect("used index", net.q[NET_RX].used.idx, 8);
}

/* One frame over many buffers, which come one by one. */
static void merges(void)
{
	uint32_t len = 0, at = 0;

	if (!net_start(&net, F_MRG_RXBUF))
		return;
	memset(back, 0, sizeof(back));
	fill(9000, 5);
	expect("sent", net_send(&net, frame, 9000), true);
	for (unsigned int i = 0; i < 7; i++)
		net_offer(&net, i, back + 1500 * i, 1500);
	for (unsigned int i = 0; i < 7; i++) {
		if (!expect("received", vq_wait(&net.dev, &net.q[NET_RX], NULL, &len), true))
			return;
		at += len;
		expect("length of a part", len, i < 6 ? 1500 : NET_HEADER + 9000 - 6 * 1500);
	}
	expect("buffers", ((struct net_header *)back)->num_buffers, 7);
	expect("other bytes", memcmp(back + NET_HEADER, frame, 9000) != 0, false);
}

/* What is no frame is taken and goes nowhere. */
static void lengths(void)
{
	static const uint32_t bad[] = {1, 13, LARGEST + 1};

	if (!net_start(&net, 0))
		return;
	net_offer(&net, 0, back, NET_HEADER + LARGEST);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		expect("sent", net_send(&net, frame, bad[i]), true);
	fill(77, 1);
	expect("sent", net_send(&net, frame, 77), true);
	expect_back(77, 0);
}

/* The link of the second device is down: what it sends is taken, and nothing comes. */
static void no_link(void)
{
	struct net n;

	if (!vdev_find(&n.dev, VIRTIO_NET, 1)) {
		fail("there is no second network device");
		return;
	}
	if (!vdev_start(&n.dev, 0, n.q, NET_QUEUES))
		return;
	net_offer(&n, 0, back, 2048);
	for (unsigned int i = 0; i < 40; i++)
		expect("sent", net_send(&n, frame, NET_FRAME), true);
	expect("received", n.q[NET_RX].used.idx, 0);
	expect("status", vdev_status(&n.dev) & ST_NEEDS_RESET, 0);
}

const struct test_case net_cases[] = {{"net-config", config},
				      {"net-loopback", loopback},
				      {"net-waits-for-buffers", waits_for_buffers},
				      {"net-merges", merges},
				      {"net-lengths", lengths},
				      {"net-no-link", no_link},
				      {0}};
