/* SPDX-License-Identifier: Apache-2.0
 *
 * Targets that are a guest: accesses to registers, bytes in memory, notifications, in the order in
 * which the input has them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_stream.h"
#include "devices/serial.h"
#include "devices/virtio_balloon.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_vsock.h"
#include "snapshot/sum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define STEPS 2000u

static void must(bool good)
{
	if (!good)
		abort();
}

/* --- a disk: asks for nothing that its contract does not let it be asked --- */

#define DISK (64u << 10)

static uint8_t disk[DISK];

static void check_request(const struct blk_backend *b, const struct iovec *iov, unsigned int n,
			  uint64_t offset)
{
	uint64_t len = 0;

	must(n >= 1 && n <= VIRTQUEUE_MAX);
	for (unsigned int i = 0; i < n; i++)
		len += iov[i].iov_len;
	must(len && len % BLK_SECTOR == 0 && offset % BLK_SECTOR == 0 && offset <= b->size &&
	     len <= b->size - offset);
}

static int disk_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset)
{
	check_request(b, iov, n, offset);
	for (unsigned int i = 0; i < n; offset += iov[i++].iov_len)
		memcpy(iov[i].iov_base, disk + offset, iov[i].iov_len);
	return disk[0] == 0xee ? -EIO : 0;
}

static int disk_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		      uint64_t offset)
{
	check_request(b, iov, n, offset);
	for (unsigned int i = 0; i < n; offset += iov[i++].iov_len)
		memcpy(disk + offset, iov[i].iov_base, iov[i].iov_len);
	return 0;
}

static int disk_flush(struct blk_backend *b)
{
	(void)b;
	return 0;
}

static int disk_zero(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap)
{
	check_request(b, &(struct iovec){disk, len}, 1, offset);
	memset(disk + offset, unmap, len);
	return 0;
}

static int disk_discard(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	return disk_zero(b, offset, len, true);
}

/* --- the host's ends of sockets: take and give as the input's next bytes say --- */

struct stream {
	struct vsock_conn conn;
	bool hung;
};

static struct fuzz_input *input;
static unsigned int streams;

static struct stream *stream_of(struct vsock_conn *c)
{
	return CONTAINER_OF(c, struct stream, conn);
}

static int host_connect(struct vsock_host *h, uint32_t port, struct vsock_conn **conn)
{
	struct stream *s;

	(void)h;
	if (port % 7 == 6)
		return -ECONNREFUSED;
	s = calloc(1, sizeof(*s));
	must(s);
	streams++;
	*conn = &s->conn;
	return 0;
}

static void host_accepted(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	must(!stream_of(c)->hung);
}

static ssize_t host_read(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			 unsigned int n)
{
	uint64_t want = fuzz_take(input, 2);
	uint8_t byte = 'x';
	size_t done = 0;

	(void)h;
	must(!stream_of(c)->hung && n);
	if (!want)
		return fuzz_take(input, 1) % 3 ? -EAGAIN : 0;
	while (done < want && iov_write(iov, n, done, &byte, 1))
		done++;
	return (ssize_t)done;
}

static ssize_t host_write(struct vsock_host *h, struct vsock_conn *c, const struct iovec *iov,
			  unsigned int n)
{
	uint64_t take = fuzz_take(input, 2);
	size_t all = 0;

	(void)h;
	must(!stream_of(c)->hung);
	for (unsigned int i = 0; i < n; i++)
		all += iov[i].iov_len;
	if (!take)
		return fuzz_take(input, 1) % 3 ? -EAGAIN : -EPIPE;
	return (ssize_t)MIN(take, all);
}

static void host_shutdown_write(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	must(!stream_of(c)->hung);
}

static void host_hangup(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	stream_of(c)->hung = true;
}

static void host_free(struct vsock_host *h, struct vsock_conn *c)
{
	(void)h;
	streams--;
	free(stream_of(c));
}

/* --- a network, whose other end says what the input has --- */

static struct net_stream stream;
static int peer;

static int make_network(struct virtio_net *n, struct driver *d, bool offloads, struct err *e)
{
	static const uint8_t mac[6] = {2};
	int fd[2], r;

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd));
	must(!net_stream_init(&stream, fd[0], e));
	/* The socket's offers are none; with it the bits of a tap's are tried all the same. */
	stream.backend.offloads = offloads;
	peer = fd[1];
	r = virtio_net_init(n, &d->guest.mem, mac, 1500, offloads, d->irq, &d->loop, e);
	return r ? r : virtio_net_set_backend(n, &stream.backend, e);
}

/* What the guest sent is taken, so that there is room; bytes for it follow, a frame's or any. */
static void peer_says(struct fuzz_input *in)
{
	static uint8_t bytes[NET_STREAM_PREFIX + 2000];
	unsigned int what = (unsigned int)fuzz_take(in, 1);
	size_t len = fuzz_take(in, 2) % 2000, at = 0;

	if (what % 16 == 15) {
		shutdown(peer, SHUT_RDWR);
		return;
	}
	if (what % 4)
		while (read(peer, bytes, sizeof(bytes)) > 0)
			;
	if (what % 4 == 1) { /* a whole frame, of the input's first bytes again and again */
		uint64_t seed = fuzz_take(in, 8);

		memcpy(bytes, (uint8_t[]){0, 0, (uint8_t)(len >> 8), (uint8_t)len}, 4);
		for (at = 4; at < 4 + len; at++)
			bytes[at] = (uint8_t)(seed >> at % 8 * 8);
	}
	for (size_t raw = what % 4 == 1 ? 0 : len % 64; at < raw; at++)
		bytes[at] = (uint8_t)fuzz_take(in, 1);
	if (write(peer, bytes, at) < 0)
		must(errno == EAGAIN || errno == EPIPE);
}

/* --- the machine --- */

static struct driver d;
static union {
	struct virtio_blk blk;
	struct virtio_vsock vsock;
	struct virtio_balloon balloon;
	struct virtio_net net;
} device;
static struct blk_backend backend;
static struct vsock_host host = {.connect = host_connect,
				 .accepted = host_accepted,
				 .read = host_read,
				 .write = host_write,
				 .shutdown_write = host_shutdown_write,
				 .hangup = host_hangup,
				 .free = host_free};

enum kind { DISK_KIND, READ_ONLY_DISK, BALLOON, VSOCK, VIRTIO_KINDS, NET = VIRTIO_KINDS, NET_OFFLOADED };

static int make_device(enum kind kind, struct err *e)
{
	memset(disk, 0, sizeof(disk));
	backend = (struct blk_backend){.read = disk_read,
				       .write = disk_write,
				       .flush = disk_flush,
				       .discard = disk_discard,
				       .zero = disk_zero,
				       .size = DISK,
				       .read_only = kind == READ_ONLY_DISK};
	switch (kind) {
	case DISK_KIND:
	case READ_ONLY_DISK:
		d.dev = &device.blk.dev;
		return virtio_blk_init(&device.blk, &d.guest.mem, &backend, "fuzz", d.irq, &d.loop,
				       e);
	case BALLOON:
		d.dev = &device.balloon.dev;
		return virtio_balloon_init(&device.balloon, &d.guest.mem, d.irq, &d.loop, e);
	case NET:
	case NET_OFFLOADED:
		d.dev = &device.net.dev;
		return make_network(&device.net, &d, kind == NET_OFFLOADED, e);
	default:
		d.dev = &device.vsock.dev;
		return virtio_vsock_init(&device.vsock, &d.guest.mem, 3, &host, d.irq, &d.loop, e);
	}
}

/* Rings at known places, so that the bytes that follow can be about them: pages from here on, for
 * each queue a page of descriptors, one of the available and one of the used ring.
 */
#define RINGS 0x10000u

static void good_start(uint64_t features, unsigned int size)
{
	reg_write(&d, REG_STATUS, 0);
	loop_turn(&d.loop);
	reg_write(&d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	features = (features & d.dev->offered) | VIRTIO_F_VERSION_1;
	for (uint32_t half = 0; half < 2; half++) {
		reg_write(&d, REG_DRIVER_FEATURES_SEL, half);
		reg_write(&d, REG_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
	}
	reg_write(&d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	for (unsigned int q = 0; q < d.dev->queues; q++) {
		uint32_t at = RINGS + q * 0x3000;

		reg_write(&d, REG_QUEUE_SEL, q);
		reg_write(&d, REG_QUEUE_NUM, size);
		reg_write(&d, REG_QUEUE_DESC, at);
		reg_write(&d, REG_QUEUE_DRIVER, at + 0x1000);
		reg_write(&d, REG_QUEUE_DEVICE, at + 0x2000);
		reg_write(&d, REG_QUEUE_READY, 1);
	}
	reg_write(&d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}

static void access_register(struct fuzz_input *in)
{
	static const unsigned int width[] = {4, 1, 2, 8};
	unsigned int what = (unsigned int)fuzz_take(in, 1), len = width[what & 3];
	uint64_t offset = fuzz_take(in, 2) % (VIRTIO_MMIO_SIZE - 7);
	uint8_t bytes[8] = {0};

	if (what & 4) {
		virtio_mmio_ops.read(d.dev, offset, bytes, len);
		return;
	}
	bus_answer(bytes, 8, fuzz_take(in, len));
	virtio_mmio_ops.write(d.dev, offset, bytes, len);
}

static void write_memory(struct fuzz_input *in, bool rings)
{
	uint64_t at = rings ? RINGS + fuzz_take(in, 2) % 0xc000 : fuzz_take(in, 3) % GUEST_MEMORY;
	uint64_t len = 1 + fuzz_take(in, 1) % 64;
	uint8_t *to = guest_ptr(&d.guest, MIN(at, GUEST_MEMORY - 64), len);

	while (len--)
		*to++ = (uint8_t)fuzz_take(in, 1);
}

/* As loop_settle, but a device that has always more to do is no failure: its rounds are bounded. */
static void serve(void)
{
	for (unsigned int i = 0; i < 8; i++)
		loop_turn(&d.loop);
}

/* A stream of the host's own, or something new on one that there is. */
static void host_event(struct fuzz_input *in)
{
	unsigned int what = (unsigned int)fuzz_take(in, 1);
	struct virtio_vsock *v = &device.vsock;

	if (!virtio_enter(&v->dev)) {
		virtio_leave(&v->dev);
		return;
	}
	if (what & 1) {
		struct stream *s = calloc(1, sizeof(*s));

		must(s);
		streams++;
		if (vsock_connect(v, &s->conn, (uint32_t)fuzz_take(in, 2))) {
			streams--;
			free(s);
		}
	} else {
		struct vsock_conn *c = v->bucket[fuzz_take(in, 1) % VSOCK_BUCKETS];

		if (c && !stream_of(c)->hung)
			vsock_stream_ready(v, c, what & 2, what & 4);
	}
	virtio_leave(&v->dev);
}

/* The host orders pages, or wants to know. */
static void balloon_event(struct fuzz_input *in)
{
	struct balloon_figures f;
	struct err e;

	if (fuzz_take(in, 1) & 1)
		virtio_balloon_set_target(&device.balloon, fuzz_take(in, 4), &e);
	else
		virtio_balloon_figures(&device.balloon, &f);
}

/* The driver goes, and everything is given back. */
static void stop(enum kind kind)
{
	struct err e;

	reg_write(&d, REG_STATUS, 0);
	serve();
	if (kind >= NET)
		virtio_net_set_backend(&device.net, NULL, &e);
	virtio_close(d.dev);
	d.dev = NULL;
	if (kind >= NET) {
		net_stream_close(&stream);
		close(peer);
	}
	must(!streams);
}

/* --- states --- */

#define STATE_KIND   "fuzzing."
#define STATE_HEADER 32u /* docs/snapshot.md: its sum is the last of it */

static int visit_state(enum kind kind, struct state_visitor *v, struct err *e)
{
	switch (kind) {
	case DISK_KIND:
	case READ_ONLY_DISK: return virtio_state(&device.blk.dev, 0, v, e);
	case BALLOON: return virtio_balloon_state(&device.balloon, 0, v, e);
	case NET:
	case NET_OFFLOADED: return virtio_net_state(&device.net, 0, v, e);
	default: return virtio_vsock_state(&device.vsock, 0, 1024, v, e);
	}
}

static void change_bytes(struct state_writer *w, struct fuzz_input *in)
{
	unsigned int n = (unsigned int)fuzz_take(in, 1) % 16;
	uint64_t sum;

	while (n--) {
		uint64_t at = STATE_HEADER + fuzz_take(in, 2) % (w->len - STATE_HEADER);

		w->data[at] = (uint8_t)fuzz_take(in, 1);
	}
	sum = sum_bytes(w->data + STATE_HEADER, w->len - STATE_HEADER,
			sum_bytes(w->data, STATE_HEADER - sizeof(sum), 0));
	memcpy(w->data + STATE_HEADER - sizeof(sum), &sum, sizeof(sum));
}

/* Another device goes on from this one's state, into which the input has written; or refuses it. */
static bool reload(enum kind kind, struct fuzz_input *in)
{
	struct state_writer w;
	struct state_reader r;
	struct err e;
	bool good;

	state_begin(&w, STATE_KIND);
	must(!visit_state(kind, &(struct state_visitor){.w = &w}, &e) && !state_finish(&w, &e));
	change_bytes(&w, in);
	stop(kind);
	memset(&device, 0, sizeof(device));
	must(!make_device(kind, &e));
	must(!state_open(&r, w.data, w.len, STATE_KIND, "state", &e));
	good = !visit_state(kind, &(struct state_visitor){.r = &r}, &e);
	state_discard(&w);
	if (good)
		serve();
	return good;
}

static bool other_event(enum kind kind, struct fuzz_input *in)
{
	if (in->at < in->end && *in->at & 0x80) {
		in->at++;
		return reload(kind, in);
	}
	if (kind == VSOCK)
		host_event(in);
	else if (kind == BALLOON)
		balloon_event(in);
	else if (kind >= NET)
		peer_says(in);
	return true;
}

static void drive_device(enum kind kind, struct fuzz_input in)
{
	bool good = true;
	struct err e;

	input = &in;
	streams = 0;
	memset(&device, 0, sizeof(device));
	driver_init(&d);
	must(!make_device(kind, &e));
	for (unsigned int i = 0; i < STEPS && in.at < in.end && good; i++) {
		switch (fuzz_take(&in, 1) % 7) {
		case 0: access_register(&in); break;
		case 1: write_memory(&in, false); break;
		case 2:
		case 3: write_memory(&in, true); break;
		case 4:
			reg_write(&d, REG_QUEUE_NOTIFY, (uint32_t)fuzz_take(&in, 1) % 4);
			serve();
			break;
		case 5:
			good_start(fuzz_take(&in, 8), 1u << fuzz_take(&in, 1) % 9);
			serve();
			break;
		case 6: good = other_event(kind, &in); break;
		}
	}
	stop(kind);
	driver_free(&d);
}

void fuzz_virtio(const uint8_t *data, size_t len)
{
	struct fuzz_input in = {data, data + len};
	enum kind kind = fuzz_take(&in, 1) % VIRTIO_KINDS;

	drive_device(kind, in);
}

void fuzz_net(const uint8_t *data, size_t len)
{
	struct fuzz_input in = {data, data + len};
	enum kind kind = NET + fuzz_take(&in, 1) % 2;

	drive_device(kind, in);
}

/* --- the serial port --- */

static void take_byte(void *ctx, uint8_t byte)
{
	(void)ctx, (void)byte;
}

static void take_room(void *ctx)
{
	(void)ctx;
}

void fuzz_serial(const uint8_t *data, size_t len)
{
	static const struct serial_host nobody = {.send = take_byte, .room = take_room};
	struct fuzz_input in = {data, data + len};
	struct serial s;
	struct irq irq;
	struct err e;

	irq.fd = event_new(&e);
	must(irq.fd >= 0);
	serial_init(&s, irq, &nobody);
	while (in.at < in.end) {
		unsigned int what = (unsigned int)fuzz_take(&in, 1);
		uint8_t bytes[8] = {0};

		bus_answer(bytes, 8, fuzz_take(&in, 1));
		if (what & 0x10)
			must(serial_input(&s, bytes, 1 + what % 8) <= 8);
		else if (what & 8)
			serial_ops.write(&s, what % SERIAL_PORTS, bytes, 1);
		else
			serial_ops.read(&s, what % SERIAL_PORTS, bytes, 1);
		must(s.count <= SERIAL_QUEUE && s.head < SERIAL_QUEUE);
	}
	close(irq.fd);
}
