/* SPDX-License-Identifier: Apache-2.0
 *
 * Hostile drivers: rings and registers that break the rules, on each queue of each kind of device.
 *
 * A target is a queue with a request that its device would serve, as a chain at descriptor 0. A
 * mutation spoils it in one way. For each pair:
 *
 *   1. the device starts afresh and gets the spoiled request;
 *   2. it does what the table says: refuses the driver (DEVICE_NEEDS_RESET, 2.1.2) without having
 *      used anything, or serves the request, or either;
 *   3. another disk, in use all the time and never reset, still reads right;
 *   4. after a reset the device serves the unspoiled request.
 *
 * Likewise with rings at impossible places, with what comes at the wrong time, with memory that a
 * second vCPU changes meanwhile, and, once for each device, with registers and features.
 *
 * Names: "hostile-TARGET-KIND-CASE". Adding a case, or a device, is adding a line to a table. The VM
 * has 4 GiB of memory, so that RAM ends at 3 GiB and at 5 GiB, disks as blk.c says, and two vCPUs.
 */
#include "net.h"
#include "vsock.h"

#define SECTOR	512u
#define HIGH_END 0x140000000ull

/* --- the healthy disk --- */

static struct {
	struct vdev dev;
	struct vq q;
	uint8_t buf[SECTOR];
	uint64_t sector;
} healthy;

static void expect_healthy(void)
{
	unsigned int status;
	uint64_t at;

	healthy.sector = (healthy.sector + 1) % 64;
	status = blk_request(&healthy.dev, &healthy.q, BLK_IN, healthy.sector, healthy.buf, SECTOR,
			     NULL);
	expect("status of a read from the disk beside it", status, BLK_OK);
	at = healthy.sector * SECTOR;
	expect("the first byte from the disk beside it", healthy.buf[0],
	       (uint8_t)(2 * 101 + at + (at >> 8) * 7));
}

/* --- targets --- */

static struct vsock vs;
static struct vq blk_queue;

/* What a mutation works on. */
struct ring {
	struct vdev *dev;
	struct vq *q;
	unsigned int index; /* of the queue in its device, whose queues lie in a row */
	unsigned int queues;
	unsigned int n;	    /* descriptors of the request */
	uint16_t head;	    /* what is made available */
};

struct target {
	const char *name;
	/* Starts the device, puts its request into descriptors 0 to r->n-1. */
	bool (*start)(struct ring *r, uint64_t features);
	/* Makes the device look at the queue; what is to be served is available. */
	void (*kick)(struct ring *r);
	/* What becomes of a good request. KEPT: the device looks at it, and has nothing to say yet.
	 * UNREAD: it never looks.
	 */
	enum { USED, KEPT, UNREAD } fate;
};

static struct blk_header blk_head;
static uint8_t blk_data[SECTOR];
static volatile uint8_t blk_status;

static struct vdev blk_dev;

/* Starts the first device of a type with all its queues. */
static bool start_device(struct vdev *dev, uint32_t type, uint64_t features, struct vq *q,
			 unsigned int queues)
{
	if (vdev_find(dev, type, 0))
		return vdev_start(dev, features, q, queues);
	fail("there is no device of type %u", type);
	return false;
}

static bool start_blk(struct ring *r, uint64_t features)
{
	if (!start_device(&blk_dev, VIRTIO_BLK, features, &blk_queue, 1))
		return false;
	*r = (struct ring){&blk_dev, &blk_queue, 0, 1, 3, 0};
	blk_head = (struct blk_header){BLK_IN, 0, 1};
	blk_status = 0xee;
	vq_desc(r->q, 0, &blk_head, sizeof(blk_head), D_NEXT, 1);
	vq_desc(r->q, 1, blk_data, sizeof(blk_data), D_NEXT | D_WRITE, 2);
	vq_desc(r->q, 2, (const void *)&blk_status, 1, D_WRITE, 0);
	return true;
}

static void kick_queue(struct ring *r)
{
	vdev_kick(r->dev, r->index);
}

/* Data for a stream that does not exist: answered by a reset. */
static struct vs_packet stray;

static bool start_vsock(struct ring *r, uint64_t features, unsigned int index)
{
	if (!start_device(&vs.dev, VIRTIO_VSOCK, features, vs.q, VS_QUEUES))
		return false;
	*r = (struct ring){&vs.dev, &vs.q[index], index, VS_QUEUES, 2, 0};
	stray = vs_packet(VS_RW, 1, 1);
	return true;
}

static bool start_tx(struct ring *r, uint64_t features)
{
	static const uint8_t data[4];

	if (!start_vsock(r, features, VS_TX))
		return false;
	stray.len = sizeof(data);
	vq_desc(r->q, 0, &stray, sizeof(stray), D_NEXT, 1);
	vq_desc(r->q, 1, data, sizeof(data), 0, 0);
	return true;
}

static bool start_rx(struct ring *r, uint64_t features)
{
	if (!start_vsock(r, features, VS_RX))
		return false;
	vq_desc(r->q, 0, &vs.rx[0], 64, D_NEXT | D_WRITE, 1);
	vq_desc(r->q, 1, &vs.rx[1], 1024, D_WRITE, 0);
	return true;
}

static bool start_event(struct ring *r, uint64_t features)
{
	if (!start_vsock(r, features, VS_EVENT))
		return false;
	vq_desc(r->q, 0, &vs.rx[0], 8, D_NEXT | D_WRITE, 1);
	vq_desc(r->q, 1, &vs.rx[1], 8, D_WRITE, 0);
	return true;
}

/* The receive queue is looked at when there is something to receive. */
static void kick_vsock(struct ring *r)
{
	struct vs_packet p = vs_packet(VS_REQUEST, 1, 1);

	vdev_kick(r->dev, r->index);
	vs_send_raw(&vs, &p, NULL, 0);
}

/* Memory of no use to the guest, and where it is. */
static uint8_t spare[3][PAGE] __attribute__((aligned(PAGE)));
static uint32_t spare_pfn[3];

static struct vdev balloon_dev;
/* The page in which the available ring of the last begins holds nothing of anybody else's. */
static struct {
	struct vq q[BALLOON_QUEUES];
	uint8_t rest[PAGE];
} balloon __attribute__((aligned(PAGE)));

static bool start_balloon(struct ring *r, uint64_t features, unsigned int index)
{
	if (!start_device(&balloon_dev, VIRTIO_BALLOON, features | F_STATS | F_REPORTING, balloon.q,
			  BALLOON_QUEUES))
		return false;
	*r = (struct ring){&balloon_dev, &balloon.q[index], index, BALLOON_QUEUES, 2, 0};
	return true;
}

static bool start_report(struct ring *r, uint64_t features)
{
	if (!start_balloon(r, features, BALLOON_REPORT))
		return false;
	vq_desc(r->q, 0, spare[0], PAGE, D_WRITE | D_NEXT, 1);
	vq_desc(r->q, 1, spare[1], 2 * PAGE, D_WRITE, 0);
	return true;
}

static bool start_pages(struct ring *r, uint64_t features, unsigned int index)
{
	if (!start_balloon(r, features, index))
		return false;
	for (unsigned int i = 0; i < ARRAY_SIZE(spare); i++)
		spare_pfn[i] = (uint32_t)((uint64_t)spare[i] / PAGE);
	vq_desc(r->q, 0, spare_pfn, 4, D_NEXT, 1);
	vq_desc(r->q, 1, spare_pfn + 1, 8, 0, 0);
	return true;
}

static bool start_inflate(struct ring *r, uint64_t features)
{
	return start_pages(r, features, BALLOON_INFLATE);
}

static bool start_deflate(struct ring *r, uint64_t features)
{
	return start_pages(r, features, BALLOON_DEFLATE);
}

/* Figures of memory: tag and value. */
static uint8_t figures[40] = {[0] = 4, [10] = 5, [20] = 0xff, 0xff, [30] = 4};

static bool start_stats(struct ring *r, uint64_t features)
{
	if (!start_balloon(r, features, BALLOON_STATS))
		return false;
	vq_desc(r->q, 0, figures, 15, D_NEXT, 1);
	vq_desc(r->q, 1, figures + 15, 25, 0, 0);
	return true;
}

/* The balloon's queues are served in their order: when a second chain of one has been used, what was in
 * the others before the first has been looked at.
 */
static void kick_stats(struct ring *r)
{
	struct vq *other = &balloon.q[BALLOON_DEFLATE];

	for (unsigned int i = 0; i < 2; i++) {
		vq_desc(other, 0, spare_pfn, 4, 0, 0);
		vq_put(other, 0);
		vdev_kick(r->dev, r->index);
		if (!vq_wait(r->dev, other, NULL, NULL))
			return;
	}
}

/* FUSE: the request that begins a session, and one without an answer. */
static struct {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, rest;
	union {
		uint32_t init[4]; /* version, readahead, flags */
		uint64_t lookups;
	};
} fuse_request;
static uint8_t fuse_answer[80];

static struct vdev fs_dev;
static struct vq fs_queue[2];

static bool start_fs(struct ring *r, uint64_t features)
{
	if (!start_device(&fs_dev, VIRTIO_FS, features, fs_queue, 2))
		return false;
	*r = (struct ring){&fs_dev, &fs_queue[1], 1, 2, 2, 0};
	memset(&fuse_request, 0, sizeof(fuse_request));
	fuse_request.len = sizeof(fuse_request);
	fuse_request.opcode = 26;
	fuse_request.init[0] = 7;
	fuse_request.init[1] = 31;
	vq_desc(r->q, 0, &fuse_request, sizeof(fuse_request), D_NEXT, 1);
	vq_desc(r->q, 1, fuse_answer, sizeof(fuse_answer), D_WRITE, 0);
	return true;
}

static bool start_forget(struct ring *r, uint64_t features)
{
	if (!start_fs(r, features))
		return false;
	*r = (struct ring){&fs_dev, &fs_queue[0], 0, 2, 2, 0};
	fuse_request.len = 48;
	fuse_request.opcode = 2;
	fuse_request.lookups = UINT64_MAX;
	vq_desc(r->q, 0, &fuse_request, 40, D_NEXT, 1);
	vq_desc(r->q, 1, &fuse_request.lookups, 8, 0, 0);
	return true;
}

/* What has been sent comes back, and has to go somewhere: else the way there is full some day. */
static struct net net;
static struct net_header net_head;
static uint8_t net_data[NET_FRAME], net_back[QUEUE_SIZE][128];

static bool start_net_tx(struct ring *r, uint64_t features)
{
	if (!net_start(&net, features))
		return false;
	*r = (struct ring){&net.dev, &net.q[NET_TX], NET_TX, NET_QUEUES, 2, 0};
	net_head = (struct net_header){0};
	vq_desc(r->q, 0, &net_head, sizeof(net_head), D_NEXT, 1);
	vq_desc(r->q, 1, net_data, sizeof(net_data), 0, 0);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		net_offer(&net, i, net_back[i], sizeof(net_back[i]));
	return true;
}

static bool start_net_rx(struct ring *r, uint64_t features)
{
	if (!net_start(&net, features))
		return false;
	*r = (struct ring){&net.dev, &net.q[NET_RX], NET_RX, NET_QUEUES, 2, 0};
	vq_desc(r->q, 0, net_back[0], NET_HEADER, D_NEXT | D_WRITE, 1);
	vq_desc(r->q, 1, net_back[1], 1526, D_WRITE, 0);
	return true;
}

/* As with vsock: it is looked at when there is something to receive. */
static void kick_net_rx(struct ring *r)
{
	vdev_kick(r->dev, NET_RX);
	net_send(&net, net_data, sizeof(net_data));
}

static struct vdev rng_dev;
static struct vq rng_queue;
static uint8_t rng_bytes[2][64];

static bool start_rng(struct ring *r, uint64_t features)
{
	if (!vdev_find(&rng_dev, VIRTIO_RNG, 0) || !vdev_start(&rng_dev, features, &rng_queue, 1))
		return false;
	*r = (struct ring){&rng_dev, &rng_queue, 0, 1, 2, 0};
	vq_desc(r->q, 0, rng_bytes[0], 64, D_NEXT | D_WRITE, 1);
	vq_desc(r->q, 1, rng_bytes[1], 64, D_WRITE, 0);
	return true;
}

static const struct target targets[] = {
	{"blk", start_blk, kick_queue, USED},
	{"vsock-tx", start_tx, kick_queue, USED},
	{"vsock-rx", start_rx, kick_vsock, USED},
	{"vsock-event", start_event, kick_vsock, UNREAD},
	{"report", start_report, kick_queue, USED},
	{"inflate", start_inflate, kick_queue, USED},
	{"deflate", start_deflate, kick_queue, USED},
	{"fs", start_fs, kick_queue, USED},
	{"forget", start_forget, kick_queue, USED},
	{"net-tx", start_net_tx, kick_queue, USED},
	{"net-rx", start_net_rx, kick_net_rx, USED},
	{"rng", start_rng, kick_queue, USED},
	{"stats", start_stats, kick_stats, KEPT},
};
/* Sets of targets: bits in that order. */
enum {
	BLK = 1 << 0,
	TX = 1 << 1,
	RX = 1 << 2,
	EVENT = 1 << 3,
	REPORT = 1 << 4,
	INFLATE = 1 << 5,
	DEFLATE = 1 << 6,
	FS = 1 << 7,
	FORGET = 1 << 8,
	NTX = 1 << 9,
	NRX = 1 << 10,
	RNG = 1 << 11,
	STATS = 1 << 12,
	EACH = (1 << ARRAY_SIZE(targets)) - 1,
	DEVICES = BLK | TX | REPORT | FS | NTX | RNG, /* one for each device */
};

/* --- mutations --- */

enum outcome { REFUSED, SERVED, EITHER };

struct mutation {
	const char *name;
	unsigned int targets;
	enum outcome want;
	void (*apply)(struct ring *r, uint64_t a, uint64_t b);
	uint64_t a, b;
	uint64_t features;
};

static struct desc *last(struct ring *r)
{
	return &r->q->desc[r->n - 1];
}

static void none(struct ring *r, uint64_t a, uint64_t b)
{
	(void)r, (void)a, (void)b;
}

static void first_buffer(struct ring *r, uint64_t at, uint64_t len)
{
	r->q->desc[0].addr = at;
	r->q->desc[0].len = (uint32_t)len;
}

static void last_buffer(struct ring *r, uint64_t at, uint64_t len)
{
	last(r)->addr = at;
	last(r)->len = (uint32_t)len;
}

static void first_len(struct ring *r, uint64_t len, uint64_t b)
{
	(void)b;
	r->q->desc[0].len = (uint32_t)len;
}

static void last_len(struct ring *r, uint64_t len, uint64_t b)
{
	(void)b;
	last(r)->len = (uint32_t)len;
}

static void first_flags(struct ring *r, uint64_t set, uint64_t clear)
{
	r->q->desc[0].flags = (uint16_t)((r->q->desc[0].flags | set) & ~clear);
}

static void last_flags(struct ring *r, uint64_t set, uint64_t clear)
{
	last(r)->flags = (uint16_t)((last(r)->flags | set) & ~clear);
}

static void all_flags(struct ring *r, uint64_t set, uint64_t clear)
{
	for (unsigned int i = 0; i < r->n; i++)
		r->q->desc[i].flags = (uint16_t)((r->q->desc[i].flags | set) & ~clear);
}

static void first_next(struct ring *r, uint64_t next, uint64_t b)
{
	(void)b;
	r->q->desc[0].next = (uint16_t)next;
}

/* The chain goes on behind its end, at descriptor a. */
static void last_next(struct ring *r, uint64_t next, uint64_t b)
{
	(void)b;
	last(r)->flags |= D_NEXT;
	last(r)->next = (uint16_t)next;
}

static void loop_self(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	last_next(r, r->n - 1, 0);
}

/* All of the table is one ring of descriptors like the last. */
static void loop_all(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	for (unsigned int i = r->n; i < r->q->size; i++)
		r->q->desc[i] = *last(r);
	for (unsigned int i = r->n - 1; i < r->q->size; i++) {
		r->q->desc[i].flags |= D_NEXT;
		r->q->desc[i].next = (uint16_t)((i + 1) % r->q->size);
	}
	r->q->desc[r->q->size - 1].next = (uint16_t)(r->n - 1);
}

static void head(struct ring *r, uint64_t value, uint64_t b)
{
	(void)b;
	r->head = (uint16_t)value;
}

/* Sets the available index at once and for good: a device that looks while it is on the way there would
 * take what it sees for what is meant.
 */
static bool index_is_set;

static void set_index(struct ring *r, uint16_t value)
{
	__atomic_store_n(&r->q->avail.idx, value, __ATOMIC_RELEASE);
	index_is_set = true;
}

/* The index is a when the request has been added (it is 1 then). */
static void index_is(struct ring *r, uint64_t value, uint64_t b)
{
	(void)b;
	r->q->avail.ring[0] = r->head;
	set_index(r, (uint16_t)value);
}

/* The request is n times in the ring. */
static void repeated(struct ring *r, uint64_t n, uint64_t b)
{
	(void)b;
	for (unsigned int i = 0; i < r->q->size; i++)
		r->q->avail.ring[i] = r->head;
	set_index(r, (uint16_t)n);
}

/* The request moves into an indirect table: a is its length in bytes, or 0 for the right one; b
 * are flags to set beside INDIRECT.
 */
static struct desc table[QUEUE_MAX + 16] __attribute__((aligned(16)));

static void indirect(struct ring *r, uint64_t len, uint64_t flags)
{
	memcpy(table, r->q->desc, r->n * sizeof(table[0]));
	len = len ? len : r->n * sizeof(table[0]);
	vq_desc(r->q, 0, table, (uint32_t)len, (uint16_t)(D_INDIRECT | flags), 1);
}

static void indirect_at(struct ring *r, uint64_t at, uint64_t len)
{
	indirect(r, len, 0);
	r->q->desc[0].addr = at;
}

static void indirect_unaligned(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	indirect(r, 0, 0);
	for (unsigned int i = r->n * sizeof(table[0]); i--;)
		((uint8_t *)table)[i + 1] = ((uint8_t *)table)[i];
	r->q->desc[0].addr = (uint64_t)table + 1;
}

static void indirect_nested(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	indirect(r, 0, 0);
	table[r->n - 1] = (struct desc){(uint64_t)table, 16, D_INDIRECT, 0};
}

static void indirect_next(struct ring *r, uint64_t next, uint64_t b)
{
	(void)b;
	indirect(r, 0, 0);
	table[r->n - 1].flags |= D_NEXT;
	table[r->n - 1].next = (uint16_t)next;
}

/* A chain in a table of a descriptors, each of a byte. */
static void indirect_long(struct ring *r, uint64_t count, uint64_t b)
{
	struct desc d = *last(r);

	(void)b;
	indirect(r, count * sizeof(table[0]), 0);
	for (unsigned int i = r->n - 1; i < count; i++)
		table[i] = (struct desc){d.addr, 1, (uint16_t)(d.flags | D_NEXT), (uint16_t)(i + 1)};
	table[count - 1].flags = d.flags;
}

/* Direct descriptors, then an indirect one with the rest: what 2.7.5.3 allows. */
static void indirect_behind_direct(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	memcpy(table, r->q->desc, r->n * sizeof(table[0]));
	for (unsigned int i = 1; i < r->n; i++) {
		table[i - 1] = r->q->desc[i];
		table[i - 1].next = (uint16_t)i;
	}
	vq_desc(r->q, 1, table, (r->n - 1) * (uint32_t)sizeof(table[0]), D_INDIRECT, 0);
}

/* --- of particular requests --- */

static void only(struct ring *r, uint64_t i, uint64_t b)
{
	(void)b;
	r->head = (uint16_t)i;
	r->q->desc[i].flags &= (uint16_t)~D_NEXT;
}

/* Of a vsock packet: one descriptor of this length; a header in two. */
static void alone(struct ring *r, uint64_t len, uint64_t b)
{
	(void)b;
	vq_desc(r->q, 0, (const void *)r->q->desc[0].addr, (uint32_t)len,
		(uint16_t)(r->q->desc[0].flags & ~D_NEXT), 0);
}

static void split_header(struct ring *r, uint64_t a, uint64_t b)
{
	struct desc data = *last(r);

	vq_desc(r->q, 0, &stray, (uint32_t)a, D_NEXT, 1);
	vq_desc(r->q, 1, (uint8_t *)&stray + a, (uint32_t)b, D_NEXT, 2);
	r->q->desc[2] = data;
}

/* Data into a part of the queue itself. */
static void data_into(struct ring *r, uint64_t offset, uint64_t b)
{
	(void)b;
	r->q->desc[1].addr = (uint64_t)r->q + offset;
}

static void status_into(struct ring *r, uint64_t offset, uint64_t b)
{
	(void)b;
	r->q->desc[2].addr = (uint64_t)r->q + offset;
}

static void data_buffer(struct ring *r, uint64_t at, uint64_t len)
{
	r->q->desc[1].addr = at;
	r->q->desc[1].len = (uint32_t)len;
}

/* Many times all RAM below the hole: more than 32 bits in all. */
static void data_sum(struct ring *r, uint64_t pieces, uint64_t type)
{
	struct desc status = r->q->desc[2];
	uint16_t flags = type == BLK_OUT ? D_NEXT : D_NEXT | D_WRITE;
	uint16_t i = 1;

	blk_head.type = (uint32_t)type;
	for (; i <= pieces; i++)
		vq_desc(r->q, i, NULL, 0xc0000000, flags, (uint16_t)(i + 1));
	r->q->desc[i] = status;
}

static void type_is(struct ring *r, uint64_t type, uint64_t data_flags)
{
	blk_head.type = (uint32_t)type;
	r->q->desc[1].flags = (uint16_t)(D_NEXT | data_flags);
}

/* n descriptors, all for the GiB at this address. */
static void again_and_again(struct ring *r, uint64_t n, uint64_t at)
{
	for (uint64_t i = 0; i < n; i++)
		vq_desc(r->q, (unsigned int)i, (const void *)at, 1u << 30, D_WRITE | D_NEXT,
			(uint16_t)(i + 1));
	r->q->desc[n - 1].flags = D_WRITE;
}

/* The device's own indices are in the memory that it is to give back. */
static void own_queue(struct ring *r, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	last_buffer(r, (uint64_t)&r->q->avail / PAGE * PAGE, PAGE);
}

static void pfn_is(struct ring *r, uint64_t pfn, uint64_t b)
{
	(void)r, (void)b;
	spare_pfn[2] = (uint32_t)pfn;
}

static void pfn_split(struct ring *r, uint64_t len, uint64_t b)
{
	(void)b;
	first_len(r, len, 0);
	last_buffer(r, (uint64_t)spare_pfn + len, sizeof(spare_pfn) - len);
}

#define AT(member) offsetof(struct vq, member)

static const struct mutation mutations[] = {
	{"none", EACH, SERVED, none, 0, 0, 0},
	{"none-event-idx", EACH, SERVED, none, 0, 0, F_EVENT_IDX},
	{"loop-self", EACH, REFUSED, loop_self, 0, 0, 0},
	{"loop-first", EACH, REFUSED, last_next, 0, 0, 0},
	{"loop-all", EACH, REFUSED, loop_all, 0, 0, 0},
	{"next-size", EACH, REFUSED, first_next, QUEUE_SIZE, 0, 0},
	{"next-32768", EACH, REFUSED, first_next, 0x8000, 0, 0},
	{"next-65535", EACH, REFUSED, first_next, 0xffff, 0, 0},
	{"last-next-size", EACH, REFUSED, last_next, QUEUE_SIZE, 0, 0},
	{"last-next-empty", EACH, REFUSED, last_next, QUEUE_SIZE - 1, 0, 0},
	{"head-size", EACH, REFUSED, head, QUEUE_SIZE, 0, 0},
	{"head-size-plus-1", EACH, REFUSED, head, QUEUE_SIZE + 1, 0, 0},
	{"head-32768", EACH, REFUSED, head, 0x8000, 0, 0},
	{"head-65535", EACH, REFUSED, head, 0xffff, 0, 0},
	{"head-empty", EACH, REFUSED, head, QUEUE_SIZE - 1, 0, 0},
	{"index-size-plus-1", EACH, REFUSED, index_is, QUEUE_SIZE + 1, 0, 0},
	{"index-32768", EACH, REFUSED, index_is, 0x8000, 0, 0},
	{"index-65535", EACH, REFUSED, index_is, 0xffff, 0, 0},
	{"repeated", EACH, SERVED, repeated, QUEUE_SIZE, 0, 0},
	{"repeated-too-often", EACH, REFUSED, repeated, QUEUE_SIZE + 1, 0, 0},

	{"first-len-0", EACH, REFUSED, first_len, 0, 0, 0},
	{"first-len-max", EACH, REFUSED, first_len, UINT32_MAX, 0, 0},
	{"first-len-3G", EACH, REFUSED, first_len, 0xc0000000, 0, 0},
	{"first-at-hole", EACH, REFUSED, first_buffer, HOLE_START, 64, 0},
	{"first-across-hole", EACH, REFUSED, first_buffer, HOLE_START - 1, 64, 0},
	{"first-at-device", EACH, REFUSED, first_buffer, VIRTIO_BASE, 64, 0},
	{"first-at-lapic", EACH, REFUSED, first_buffer, LAPIC_BASE, 64, 0},
	{"first-end-of-hole", EACH, REFUSED, first_buffer, HOLE_END - 16, 16, 0},
	{"first-out-of-hole", EACH, REFUSED, first_buffer, HOLE_END - 16, 64, 0},
	{"first-at-end", EACH, REFUSED, first_buffer, HIGH_END, 64, 0},
	{"first-across-end", EACH, REFUSED, first_buffer, HIGH_END - 16, 17, 0},
	{"first-1T", EACH, REFUSED, first_buffer, 1ull << 40, 64, 0},
	{"first-bit-63", EACH, REFUSED, first_buffer, 1ull << 63, 64, 0},
	{"first-wraps", EACH, REFUSED, first_buffer, UINT64_MAX - 15, 64, 0},
	{"first-wraps-to-0", EACH, REFUSED, first_buffer, UINT64_MAX - 15, 16, 0},
	{"first-max", EACH, REFUSED, first_buffer, UINT64_MAX, 1, 0},
	{"first-32-bit-wrap", EACH, REFUSED, first_buffer, 0x1000, 0xfffff000, 0},
	{"last-len-0", EACH, REFUSED, last_len, 0, 0, 0},
	{"last-len-max", EACH, REFUSED, last_len, UINT32_MAX, 0, 0},
	{"last-at-hole", EACH, REFUSED, last_buffer, HOLE_START, 1, 0},
	{"last-across-hole", EACH, REFUSED, last_buffer, HOLE_START - 1, 2, 0},
	{"last-at-device", EACH, REFUSED, last_buffer, VIRTIO_BASE, 4, 0},
	{"last-across-end", EACH, REFUSED, last_buffer, HIGH_END - 1, 2, 0},
	{"last-wraps", EACH, REFUSED, last_buffer, UINT64_MAX, 2, 0},
	{"last-high-bits", EACH, REFUSED, last_buffer, 1ull << 52 | 0x80000, 4, 0},

	{"unknown-flags", EACH, SERVED, all_flags, 0xfff8, 0, 0},
	{"direction-all-readable", BLK | RX | REPORT | NRX, REFUSED, all_flags, 0, D_WRITE, 0},
	{"direction-all-writable", BLK | TX | INFLATE | DEFLATE | FS | FORGET | NTX | STATS, REFUSED, all_flags, D_WRITE, 0, 0},
	{"direction-first-writable", BLK | TX | INFLATE | DEFLATE | FORGET | NTX | STATS, REFUSED, first_flags, D_WRITE, 0, 0},
	{"direction-last-readable", BLK | RX | REPORT | NRX, REFUSED, last_flags, 0, D_WRITE, 0},
	{"direction-first-readable", RX, SERVED, first_flags, 0, D_WRITE, 0},
	{"direction-last-writable", TX, EITHER, last_flags, D_WRITE, 0, 0},
	{"direction-first-readable", REPORT | NRX, REFUSED, first_flags, 0, D_WRITE, 0},
	{"direction-last-writable", INFLATE | DEFLATE | NTX | STATS, REFUSED, last_flags, D_WRITE, 0, 0},

	{"indirect", EACH, SERVED, indirect, 0, 0, F_INDIRECT},
	{"indirect-behind-direct", EACH, SERVED, indirect_behind_direct, 0, 0, F_INDIRECT},
	{"indirect-unaligned", EACH, SERVED, indirect_unaligned, 0, 0, F_INDIRECT},
	{"indirect-write-flag", EACH, SERVED, indirect, 0, D_WRITE, F_INDIRECT},
	{"indirect-not-negotiated", EACH, REFUSED, indirect, 0, 0, 0},
	{"indirect-with-next", EACH, REFUSED, indirect, 0, D_NEXT, F_INDIRECT},
	{"indirect-nested", EACH, REFUSED, indirect_nested, 0, 0, F_INDIRECT},
	{"indirect-len-0", EACH, REFUSED, indirect, 1ull << 32, 0, F_INDIRECT}, /* 32 bits of it */
	{"indirect-len-1", EACH, REFUSED, indirect, 1, 0, F_INDIRECT},
	{"indirect-len-15", EACH, REFUSED, indirect, 15, 0, F_INDIRECT},
	{"indirect-len-17", EACH, REFUSED, indirect, 17, 0, F_INDIRECT},
	{"indirect-len-short", EACH, REFUSED, indirect, 16, 0, F_INDIRECT},
	{"indirect-len-max", EACH, REFUSED, indirect, 0xfffffff0, 0, F_INDIRECT},
	{"indirect-len-1G", EACH, SERVED, indirect, 0x40000000, 0, F_INDIRECT},
	{"indirect-at-0", EACH, EITHER, indirect_at, 0, 48, F_INDIRECT},
	{"indirect-at-hole", EACH, REFUSED, indirect_at, HOLE_START, 48, F_INDIRECT},
	{"indirect-across-hole", EACH, REFUSED, indirect_at, HOLE_START - 16, 48, F_INDIRECT},
	{"indirect-at-device", EACH, REFUSED, indirect_at, VIRTIO_BASE, 48, F_INDIRECT},
	{"indirect-across-end", EACH, REFUSED, indirect_at, HIGH_END - 32, 48, F_INDIRECT},
	{"indirect-wraps", EACH, REFUSED, indirect_at, UINT64_MAX - 31, 48, F_INDIRECT},
	{"indirect-next-behind", EACH, REFUSED, indirect_next, 3, 0, F_INDIRECT},
	{"indirect-next-65535", EACH, REFUSED, indirect_next, 0xffff, 0, F_INDIRECT},
	{"indirect-loop", EACH, REFUSED, indirect_next, 0, 0, F_INDIRECT},
	{"indirect-longer-than-queue", EACH, REFUSED, indirect_long, QUEUE_SIZE + 1, 0, F_INDIRECT},
	{"indirect-257", EACH, REFUSED, indirect_long, 257, 0, F_INDIRECT},

	{"header-15", BLK, REFUSED, first_len, 15, 0, 0},
	{"header-1", BLK, REFUSED, first_len, 1, 0, 0},
	{"header-only", BLK, REFUSED, only, 0, 0, 0},
	{"status-only", BLK, REFUSED, only, 2, 0, 0},
	{"data-into-descriptors", BLK, SERVED, data_into, AT(desc), 0, 0},
	{"data-into-available", BLK, EITHER, data_into, AT(avail), 0, 0},
	{"data-into-used", BLK, SERVED, data_into, AT(used), 0, 0},
	{"status-into-index", BLK, EITHER, status_into, AT(avail.idx), 0, 0},
	{"status-into-used", BLK, SERVED, status_into, AT(used.ring), 0, 0},
	{"data-at-0", BLK, SERVED, data_buffer, 0, SECTOR, 0},
	{"data-all-ram", BLK, SERVED, data_buffer, 0, 0xc0000000, 0},
	{"data-end-of-hole", BLK, SERVED, data_buffer, HOLE_START - SECTOR, SECTOR, 0},
	{"data-end-of-ram", BLK, SERVED, data_buffer, HIGH_END - SECTOR, SECTOR, 0},
	{"data-start-of-high", BLK, SERVED, data_buffer, HOLE_END, SECTOR, 0},
	{"data-4G-in", BLK, SERVED, data_sum, 2, BLK_IN, 0},
	{"data-36G-in", BLK, SERVED, data_sum, 12, BLK_IN, 0},
	{"data-36G-out", BLK, SERVED, data_sum, 12, BLK_OUT, 0},
	{"data-36G-id", BLK, SERVED, data_sum, 12, 99, 0},
	{"write-from-writable", BLK, SERVED, type_is, BLK_OUT, D_WRITE, 0},
	{"read-into-readable", BLK, SERVED, type_is, BLK_IN, 0, 0},
	{"flush-with-data", BLK, SERVED, type_is, BLK_FLUSH, D_WRITE, 0},
	{"type-max", BLK, SERVED, type_is, UINT32_MAX, D_WRITE, 0},

	{"header-1", TX, REFUSED, alone, 1, 0, 0},
	{"header-43", TX, REFUSED, alone, 43, 0, 0},
	{"header-43-split", TX, REFUSED, first_len, 39, 0, 0},
	{"header-no-data", TX, REFUSED, alone, 44, 0, 0}, /* it names 4 bytes */
	{"header-split", TX, SERVED, split_header, 10, 34, 0},
	{"buffer-1", RX, REFUSED, alone, 1, 0, 0},
	{"buffer-44", RX, REFUSED, alone, 44, 0, 0},
	{"buffer-45", RX, SERVED, alone, 45, 0, 0},
	{"buffer-split", RX, SERVED, first_len, 10, 0, 0},
	{"buffer-3G", RX, SERVED, last_buffer, 0, 0xc0000000, 0},

	{"header-39", FS, REFUSED, first_len, 39, 0, 0},
	{"header-only", FS, SERVED, first_len, 40, 0, 0},
	{"header-1", FORGET, REFUSED, first_len, 1, 0, 0},
	{"no-answer", FS, SERVED, only, 0, 0, 0},
	{"no-request", FS, REFUSED, only, 1, 0, 0},
	{"all-readable", FS, SERVED, all_flags, 0, D_WRITE, 0},
	{"answer-1", FS, SERVED, last_len, 1, 0, 0},
	{"answer-16", FS, SERVED, last_len, 16, 0, 0},
	{"answer-3G", FS, SERVED, last_buffer, 0, 0xc0000000, 0},
	{"request-3G", FS, SERVED, first_buffer, 0, 0xc0000000, 0},
	{"answer-into-queue", FS, SERVED, data_into, AT(used.ring), 0, 0},
	{"answer", FORGET, SERVED, last_flags, D_WRITE, 0, 0},
	{"header-1", NTX, REFUSED, alone, 1, 0, 0},
	{"header-11", NTX, REFUSED, alone, 11, 0, 0},
	{"header-only", NTX, SERVED, alone, 12, 0, 0},
	{"data-3G", NTX, SERVED, last_buffer, 0, 0xc0000000, 0},
	{"buffer-1", NRX, REFUSED, alone, 1, 0, 0},
	{"buffer-11", NRX, REFUSED, alone, 11, 0, F_MRG_RXBUF},
	{"buffer-split", NRX, SERVED, first_len, 5, 0, 0},
	{"buffer-3G", NRX, SERVED, last_buffer, 0, 0xc0000000, 0},
	{"buffer-into-used", NRX, EITHER, data_into, AT(used), 0, 0},
	{"buffer-into-available", NRX, EITHER, data_into, AT(avail), 0, F_MRG_RXBUF},

	{"byte", REPORT, SERVED, first_len, 1, 0, 0},
	{"end-of-hole", REPORT, SERVED, last_buffer, HOLE_START - PAGE, PAGE, 0},
	{"end-of-ram", REPORT, SERVED, last_buffer, HIGH_END - PAGE, PAGE, 0},
	{"16G", REPORT, SERVED, again_and_again, 16, HOLE_END, 0},
	{"own-queue", REPORT, EITHER, own_queue, 0, 0, 0},
	{"pfn-0xffffffff", INFLATE, REFUSED, pfn_is, UINT32_MAX, 0, 0},
	{"pfn-hole", INFLATE, REFUSED, pfn_is, HOLE_START / PAGE, 0, 0},
	{"pfn-device", INFLATE, REFUSED, pfn_is, VIRTIO_BASE / PAGE, 0, 0},
	{"pfn-end", INFLATE, REFUSED, pfn_is, HIGH_END / PAGE, 0, 0},
	{"pfn-end-of-hole", INFLATE, SERVED, pfn_is, HOLE_START / PAGE - 1, 0, 0},
	{"pfn-end-of-ram", INFLATE, SERVED, pfn_is, HIGH_END / PAGE - 1, 0, 0},
	{"pfn-in-two", INFLATE, SERVED, pfn_split, 3, 0, 0},
	{"any-pages", DEFLATE, SERVED, pfn_is, UINT32_MAX, 0, 0},
	{"bytes-3", DEFLATE, SERVED, first_len, 3, 0, 0},
	{"pages-3G", DEFLATE, SERVED, last_buffer, 0, 0xc0000000, 0},
	{"bytes-3", INFLATE, REFUSED, first_len, 3, 0, 0},
	{"bytes-5", INFLATE, REFUSED, first_len, 5, 0, 0},
	{"bytes-14", STATS, REFUSED, first_len, 14, 0, 0},
	{"figures-1G", STATS, SERVED, last_buffer, 1ull << 30, 0x7fffffff - 0x7fffffff % 10 + 5, 0},
	{"pfn-0-half-a-billion-times", INFLATE, SERVED, last_buffer, 1ull << 30, 0x7ffffffc, 0},
};

/* Gives the device what is at r->head. Returns whether it does with it what it should: serve it. */
static bool serve(const struct target *t, struct ring *r)
{
	t->kick(r);
	if (t->fate != USED)
		return !r->q->used.idx && !(vdev_status(r->dev) & ST_NEEDS_RESET);
	return vq_wait(r->dev, r->q, NULL, NULL);
}

/* From the start, by a driver that does nothing wrong. */
static bool served_again(const struct target *t, struct ring *r)
{
	if (!t->start(r, 0))
		return false;
	vq_put(r->q, r->head);
	return expect("requests served after a reset", serve(t, r), true);
}

static void run_mutation(const struct target *t, const struct mutation *m)
{
	struct ring r;
	bool served;

	if (!t->start(&r, m->features))
		return;
	index_is_set = false;
	m->apply(&r, m->a, m->b);
	if (!index_is_set)
		vq_put(r.q, r.head);
	served = serve(t, &r);
	if (m->want == SERVED || t->fate == UNREAD) {
		expect("requests served", served, true);
		expect("NEEDS_RESET", vdev_status(r.dev) & ST_NEEDS_RESET, 0);
	} else if (m->want == REFUSED) {
		expect("requests served", served, false);
		expect("used index", r.q->used.idx, 0);
		expect("NEEDS_RESET", vdev_status(r.dev) >> 6 & 1, true);
		expect("interrupt for a change of configuration",
		       read32(r.dev->base + R_INTERRUPT_STATUS) & 2, 2);
	}
	expect_healthy();
	served_again(t, &r);
}

/* --- queues in impossible places --- */

static const struct place {
	const char *name;
	uint32_t size;
	uint64_t desc, avail, used; /* 0: where it should be */
} places[] = {
	{"size-0", 0, 0, 0, 0},
	{"size-3", 3, 0, 0, 0},
	{"size-257", 257, 0, 0, 0},
	{"size-512", 512, 0, 0, 0},
	{"size-32768", 32768, 0, 0, 0},
	{"size-65536", 65536, 0, 0, 0},
	{"size-65552", 65536 + 16, 0, 0, 0},
	{"size-max", UINT32_MAX, 0, 0, 0},
	{"desc-unaligned", 16, 0x200008, 0, 0},
	{"avail-unaligned", 16, 0, 0x200001, 0},
	{"used-unaligned", 16, 0, 0, 0x200002},
	{"desc-hole", 16, HOLE_START, 0, 0},
	{"avail-hole", 16, 0, HOLE_START, 0},
	{"used-hole", 16, 0, 0, HOLE_START},
	{"desc-across-hole", 16, HOLE_START - 240, 0, 0},
	{"avail-across-hole", 16, 0, HOLE_START - 36, 0}, /* only the event field is outside */
	{"used-across-hole", 16, 0, 0, HOLE_START - 132},
	{"desc-device", 16, VIRTIO_BASE, 0, 0},
	{"used-device", 16, 0, 0, VIRTIO_BASE},
	{"used-lapic", 16, 0, 0, LAPIC_BASE},
	{"desc-end", 16, HIGH_END, 0, 0},
	{"avail-end", 16, 0, HIGH_END, 0},
	{"used-end", 16, 0, 0, HIGH_END},
	{"desc-across-end", 256, HIGH_END - 4080, 0, 0},
	{"used-across-end", 256, 0, 0, HIGH_END - 2048},
	{"desc-wraps", 16, UINT64_MAX - 15, 0, 0},
	{"avail-wraps", 16, 0, UINT64_MAX - 1, 0},
	{"used-wraps", 16, 0, 0, UINT64_MAX - 3},
	{"desc-bit-63", 16, 1ull << 63, 0, 0},
	{"used-1T", 16, 0, 0, 1ull << 40},
};

/* As a driver that starts the device anew, with the rings and the requests that are there. */
static void start_over(struct ring *r)
{
	vdev_reset(r->dev);
	vdev_negotiate(r->dev, r->dev->features);
}

static void attach_all(struct ring *r)
{
	for (unsigned int i = 0; i < r->queues; i++)
		expect("queue ready", vq_attach(r->dev, i, r->q - r->index + i), true);
}

/* Such a queue does not become ready, or the device refuses the driver. */
static void run_place(const struct target *t, const struct place *p)
{
	struct ring r;

	if (!t->start(&r, 0))
		return;
	start_over(&r);
	vq_place(r.dev, r.index, p->size, p->desc ? p->desc : (uint64_t)r.q->desc,
		 p->avail ? p->avail : (uint64_t)&r.q->avail,
		 p->used ? p->used : (uint64_t)&r.q->used);
	write32(r.dev->base + R_QUEUE_READY, 1);
	if (!(vdev_status(r.dev) & ST_NEEDS_RESET))
		expect("queue ready", read32(r.dev->base + R_QUEUE_READY), 0);
	vdev_ok(r.dev);
	r.q->avail.idx = 1;
	vdev_kick(r.dev, r.index);
	expect_healthy();
	expect("used index", r.q->used.idx, 0);
	served_again(t, &r);
}

/* --- at the wrong time --- */

/* Kicks before DRIVER_OK are early, not wrong: the request is served once the driver is ready. */
static void kick_early(const struct target *t)
{
	struct ring r;

	if (!t->start(&r, 0))
		return;
	vdev_reset(r.dev);
	vq_put(r.q, r.head);
	for (unsigned int i = 0; i < 10; i++)
		kick_queue(&r);
	start_over(&r);
	kick_queue(&r);
	attach_all(&r);
	for (unsigned int i = 0; i < 10; i++)
		kick_queue(&r);
	expect_healthy(); /* time for a wrong device to serve it */
	expect("used index before DRIVER_OK", r.q->used.idx, 0);
	vdev_ok(r.dev);
	expect("served after DRIVER_OK", serve(t, &r), true);
	served_again(t, &r);
}

static void kick_no_queue(const struct target *t)
{
	struct ring r;

	if (!t->start(&r, 0))
		return;
	start_over(&r);
	vdev_ok(r.dev);
	for (uint32_t i = 0; i < 10; i++)
		vdev_kick(r.dev, i * 1000003);
	kick_queue(&r);
	expect_healthy();
	expect("NEEDS_RESET", vdev_status(r.dev) & ST_NEEDS_RESET, 0);
	served_again(t, &r);
}

/* After a reset the device leaves the old ring alone, whatever was under way. */
static void reset_in_flight(const struct target *t)
{
	struct ring r;

	for (unsigned int i = 0; i < 10 && !failed(); i++) {
		uint16_t used;

		if (!t->start(&r, 0))
			return;
		repeated(&r, QUEUE_SIZE, 0); /* a full ring */
		t->kick(&r);
		write32(r.dev->base + R_STATUS, 0);
		kick_queue(&r);
		used = __atomic_load_n(&r.q->used.idx, __ATOMIC_ACQUIRE);
		expect("status after a reset", vdev_status(r.dev), 0);
		expect_healthy();
		expect("used index after a reset", r.q->used.idx, used);
	}
	served_again(t, &r);
}

/* The same with the queue switched off and on by its register. */
static void unready_in_flight(const struct target *t)
{
	struct ring r;

	for (unsigned int i = 0; i < 10 && !failed(); i++) {
		if (!t->start(&r, 0))
			return;
		repeated(&r, QUEUE_SIZE, 0);
		t->kick(&r);
		write32(r.dev->base + R_QUEUE_SEL, r.index);
		write32(r.dev->base + R_QUEUE_READY, 0);
		write32(r.dev->base + R_QUEUE_READY, 1);
		kick_queue(&r);
		expect_healthy();
	}
	served_again(t, &r);
}

/* An index that goes back is one that jumps far ahead. */
static void index_back(const struct target *t)
{
	struct ring r;

	if (!served_again(t, &r))
		return;
	__atomic_store_n(&r.q->avail.idx, 0, __ATOMIC_RELEASE);
	t->kick(&r);
	expect("NEEDS_RESET", vdev_wait_needs_reset(r.dev), true);
	/* Refused is refused: nothing is served until the reset, kicked or not. */
	__atomic_store_n(&r.q->avail.idx, 2, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < 10; i++)
		kick_queue(&r);
	expect_healthy();
	expect("used index after NEEDS_RESET", r.q->used.idx, 1);
	vdev_ok(r.dev);
	expect("NEEDS_RESET after DRIVER_OK", vdev_status(r.dev) >> 6 & 1, 1);
	served_again(t, &r);
}

/* Both indexes pass 65535. */
static void index_wraps(const struct target *t)
{
	struct deadline d = deadline();
	struct ring r;

	if (!t->start(&r, 0))
		return;
	start_over(&r);
	r.q->size = QUEUE_MAX;
	attach_all(&r);
	vdev_ok(r.dev);
	blk_head.type = BLK_GET_ID; /* no work; the available ring is all zero: head 0 each time */
	for (unsigned int i = 1; i <= 0x10000 / QUEUE_MAX + 1; i++) {
		__atomic_store_n(&r.q->avail.idx, (uint16_t)(i * QUEUE_MAX), __ATOMIC_RELEASE);
		kick_queue(&r);
		while (__atomic_load_n(&r.q->used.idx, __ATOMIC_ACQUIRE) != (uint16_t)(i * QUEUE_MAX))
			if (vdev_status(r.dev) & ST_NEEDS_RESET || expired(&d)) {
				fail("stopped at used index %u, round %u", r.q->used.idx, i);
				return;
			}
	}
	served_again(t, &r);
}

/* --- registers --- */

/* Every width at every offset, of the registers and what lies behind them: written with these, read. */
static void access_all(const struct vdev *v)
{
	static const uint64_t values[] = {0xfffefdfcfbfaf9f8, UINT64_MAX, 1};

	for (uint32_t offset = 0; offset < 0x180; offset++)
		for (unsigned int width = 1; width <= 8; width *= 2) {
			write_width(v->base + offset, width, values[(offset + width) % 3]);
			read_width(v->base + offset, width);
		}
}

/* Before a driver is there, and while a request waits. */
static void registers(const struct target *t)
{
	struct ring r;

	if (!t->start(&r, 0))
		return;
	vdev_reset(r.dev);
	access_all(r.dev);
	expect("magic after wild accesses", read32(r.dev->base + R_MAGIC), 0x74726976);
	if (!served_again(t, &r))
		return;
	vq_put(r.q, r.head);
	access_all(r.dev);
	expect_healthy();
	vdev_reset(r.dev);
	/* Registers are 32 bits wide (4.2.2.2): other widths read nothing of them. */
	for (unsigned int width = 1; width <= 2; width *= 2)
		expect("a narrow read of the magic", read_width(r.dev->base + R_MAGIC, width), 0);
	expect("a read across two registers", read32(r.dev->base + R_MAGIC + 2), 0);
	write8(r.dev->base + R_STATUS, ST_ACKNOWLEDGE);
	write16(r.dev->base + R_STATUS, ST_ACKNOWLEDGE);
	write32(r.dev->base + R_STATUS + 1, ST_ACKNOWLEDGE);
	expect("status after narrow writes", vdev_status(r.dev), 0);
	read64(r.dev->base + VIRTIO_SLOT - 8);
	write64(r.dev->base + VIRTIO_SLOT - 8, UINT64_MAX);
	read64(r.dev->base + VIRTIO_SLOT - 4); /* half in the next device */
	write64(r.dev->base + VIRTIO_SLOT - 4, UINT64_MAX);
	expect_healthy();
	served_again(t, &r);
}

/* Each feature that was not offered refuses the whole, and is not had by going on (2.2.2). */
static void features(const struct target *t)
{
	struct ring r;
	uint64_t offered;

	if (!t->start(&r, 0))
		return;
	offered = vdev_offered(r.dev);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (offered >> bit & 1)
			continue;
		vdev_reset(r.dev);
		if (vdev_negotiate(r.dev, 1ull << bit))
			fail("FEATURES_OK with feature %u, which was not offered", bit);
		vdev_ok(r.dev);
		expect("DRIVER_OK without FEATURES_OK", vdev_status(r.dev) & ST_DRIVER_OK, 0);
		kick_queue(&r);
	}
	expect_healthy();
	served_again(t, &r);
}

static const struct moment {
	const char *name;
	unsigned int targets;
	void (*run)(const struct target *t);
} moments[] = {
	{"time-kick-early", EACH, kick_early},
	{"time-kick-no-queue", EACH, kick_no_queue},
	{"time-reset-in-flight", EACH, reset_in_flight},
	{"time-unready-in-flight", EACH, unready_in_flight},
	{"time-index-back", EACH & ~(EVENT | STATS), index_back},
	{"time-index-wraps", BLK, index_wraps},
	{"registers", DEVICES, registers},
	{"features", DEVICES, features},
};

/* --- memory that changes under the device's eyes --- */

/* The second vCPU writes good and bad in turn to *at while there is a job. */
static struct job {
	volatile uint64_t *at; /* NULL: none */
	uint64_t good, bad;
	uint64_t rounds; /* that have ended; atomic */
} job;

static void scribble(void *arg)
{
	(void)arg;
	for (;;) {
		volatile uint64_t *at = __atomic_load_n(&job.at, __ATOMIC_ACQUIRE);

		if (at) {
			*at = job.bad;
			*at = job.good;
		}
		__atomic_add_fetch(&job.rounds, 1, __ATOMIC_SEQ_CST);
	}
}

static void scribble_at(void *at, uint64_t bad)
{
	/* The eight bytes around it, so that one store changes a whole field. */
	job.good = *(uint64_t *)at;
	job.bad = bad;
	__atomic_store_n(&job.at, at, __ATOMIC_RELEASE);
}

/* The round that is under way may have seen the job; the one after it has not. */
static void scribble_stop(void)
{
	uint64_t round;

	__atomic_store_n(&job.at, NULL, __ATOMIC_SEQ_CST);
	round = __atomic_load_n(&job.rounds, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&job.rounds, __ATOMIC_SEQ_CST) - round < 2)
		;
}

#define LEN_FLAGS_NEXT(len, flags, next)                                                           \
	((uint64_t)(len) | (uint64_t)(flags) << 32 | (uint64_t)(next) << 48)
/* The available ring's flags, index and first two entries. */
#define AVAIL_HEAD(idx, e0, e1) ((uint64_t)(idx) << 16 | (uint64_t)(e0) << 32 | (uint64_t)(e1) << 48)

/* Offsets in struct vq of 8 bytes and what they flicker to. */
static const struct race {
	const char *name;
	unsigned int targets;
	size_t offset;
	uint64_t bad;
} races[] = {
	{"address-hole", EACH, AT(desc[1].addr), HOLE_START},
	{"address-max", EACH, AT(desc[1].addr), UINT64_MAX},
	{"first-address", EACH, AT(desc[0].addr), 1ull << 63},
	{"len-max", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(UINT32_MAX, 3, 2)},
	{"len-0", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(0, 3, 2)},
	{"direction", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(512, 1, 2)},
	{"next-65535", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(512, 3, 0xffff)},
	{"next-loop", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(512, 3, 1)},
	{"indirect", EACH, AT(desc[1].len), LEN_FLAGS_NEXT(512, 4, 1)},
	{"first-loop", EACH, AT(desc[0].len), LEN_FLAGS_NEXT(16, 1, 0)},
	{"index-jump", EACH, AT(avail), AVAIL_HEAD(0x8000, 0, 0)},
	{"index-0", EACH, AT(avail), AVAIL_HEAD(0, 0, 0)},
	{"head-65535", EACH, AT(avail), AVAIL_HEAD(1, 0xffff, 0xffff)},
	{"used", EACH, AT(used), UINT64_MAX},
};

static void run_race(const struct target *t, const struct race *c)
{
	struct ring r;

	for (unsigned int round = 0; round < 10 && !failed(); round++) {
		if (!t->start(&r, F_INDIRECT))
			return;
		vq_put(r.q, 0);
		scribble_at((uint8_t *)r.q + c->offset, c->bad);
		for (unsigned int i = 0; i < 10 && !(vdev_status(r.dev) & ST_NEEDS_RESET); i++)
			vdev_kick(r.dev, r.index);
		if (t->kick != kick_queue)
			t->kick(&r);
		scribble_stop();
	}
	expect_healthy();
	served_again(t, &r);
}

/* --- all of them --- */

static void start_once(void)
{
	static bool started;

	if (started)
		return;
	started = true;
	expect("end of the RAM below the hole", ram_end_low(), HOLE_START);
	expect("end of the RAM above the hole", ram_end_high(), HIGH_END);
	if (!vdev_find(&healthy.dev, VIRTIO_BLK, 1) || !vdev_start(&healthy.dev, 0, &healthy.q, 1))
		fail("the disk that is to stay healthy does not start");
}

static bool begin_case(const struct target *t, const char *kind, const char *name)
{
	if (!begin("hostile-%s-%s%s", t->name, kind, name))
		return false;
	start_once();
	return true;
}

static void run_races(const struct target *t, unsigned int bit)
{
	static enum { UNKNOWN, RUNS, ABSENT } second;

	for (size_t i = 0; i < ARRAY_SIZE(races); i++) {
		if (!(races[i].targets & bit) || !begin_case(t, "race-", races[i].name))
			continue;
		if (second == UNKNOWN)
			second = start_cpu(1, scribble, NULL) ? RUNS : ABSENT;
		if (second == RUNS)
			run_race(t, &races[i]);
		else
			skip("a second vCPU does not start");
	}
}

static void run_target(const struct target *t, unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(mutations); i++)
		if (mutations[i].targets & bit && begin_case(t, "ring-", mutations[i].name))
			run_mutation(t, &mutations[i]);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (begin_case(t, "queue-", places[i].name))
			run_place(t, &places[i]);
	for (size_t i = 0; i < ARRAY_SIZE(moments); i++)
		if (moments[i].targets & bit && begin_case(t, "", moments[i].name))
			moments[i].run(t);
	run_races(t, bit);
}

void ring_cases(void)
{
	for (size_t t = 0; t < ARRAY_SIZE(targets); t++)
		run_target(&targets[t], 1u << t);
}
