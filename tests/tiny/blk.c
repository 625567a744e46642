/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases for the virtio transport and the block device, by a driver that keeps the rules; ring.c has
 * those that break them.
 *
 * The host's disks, in order: 0 and 1 writable, whose sector n begins as a pattern that
 * tests/tiny/tool makes (seed 1 and 2); 2 read-only (seed 3). Sizes: argument disk_size=, bytes.
 */
#include "virtio.h"

#define SECTOR	512u
#define BUF	(64u << 10)

static struct vq queue;
static uint8_t buf[BUF] __attribute__((aligned(4096)));

/* The byte of the pattern at this offset; as in tool.c. */
static uint8_t pattern(uint32_t seed, uint64_t offset)
{
	return (uint8_t)(seed * 101 + offset + (offset >> 8) * 7 + (offset >> 16) * 13);
}

/* Looks at a few bytes of each sector: a look at all takes long where kernel mode is emulated. */
static void expect_pattern(const char *what, const uint8_t *p, uint32_t seed, uint64_t offset,
			   uint32_t len)
{
	for (uint32_t i = 0; i < len; i += i % SECTOR == SECTOR - 1 ? 1 : SECTOR / 2 - (i % 2))
		if (p[i] != pattern(seed, offset + i)) {
			fail("%s: at offset 0x%lx expected 0x%x, seen 0x%x", what, offset + i,
			     pattern(seed, offset + i), p[i]);
			return;
		}
}

static bool open_disk(struct vdev *v, unsigned int n, uint64_t features)
{
	if (!vdev_find(v, VIRTIO_BLK, n)) {
		fail("there is no disk %u", n);
		return false;
	}
	return vdev_start(v, features, &queue, 1);
}

/* --- the transport --- */

static void virtio_ids(void)
{
	static const struct {
		uint32_t type, queues;
	} devices[] = {{VIRTIO_VSOCK, 3}, {VIRTIO_BLK, 1}, {VIRTIO_BALLOON, 4}};

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		struct vdev v;

		if (!vdev_find(&v, devices[i].type, 0)) {
			fail("there is no device of type %u", devices[i].type);
			return;
		}
		expect("magic", read32(v.base + R_MAGIC), 0x74726976);
		expect("version", read32(v.base + R_VERSION), 2);
		if (!read32(v.base + R_VENDOR_ID))
			fail("the vendor id is 0");
		expect("status before the first use", vdev_status(&v), 0);
		expect("configuration generation", read32(v.base + R_CONFIG_GENERATION), 0);
		for (uint32_t q = 0; q < 8; q++) {
			write32(v.base + R_QUEUE_SEL, q);
			expect("largest queue", read32(v.base + R_QUEUE_NUM_MAX),
			       q < devices[i].queues ? QUEUE_MAX : 0);
			expect("queue ready", read32(v.base + R_QUEUE_READY), 0);
		}
		write32(v.base + R_QUEUE_SEL, UINT32_MAX);
		expect("size of queue 2^32 - 1", read32(v.base + R_QUEUE_NUM_MAX), 0);
	}
}

static void virtio_features(void)
{
	const uint64_t needed = F_VERSION_1 | F_INDIRECT | F_EVENT_IDX;
	struct vdev v;
	uint64_t offered;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	offered = vdev_offered(&v);
	expect("VERSION_1, INDIRECT_DESC and EVENT_IDX", offered & needed, needed);
	write32(v.base + R_DEVICE_FEATURES_SEL, 2);
	expect("features 64 to 95", read32(v.base + R_DEVICE_FEATURES), 0);
	write32(v.base + R_DEVICE_FEATURES_SEL, UINT32_MAX);
	expect("features far beyond", read32(v.base + R_DEVICE_FEATURES), 0);

	vdev_reset(&v);
	expect("FEATURES_OK with all that is offered", vdev_negotiate(&v, offered), true);
	/* Without VERSION_1 a modern device does not work (6.1). */
	vdev_reset(&v);
	write32(v.base + R_STATUS, ST_ACKNOWLEDGE);
	write32(v.base + R_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	write32(v.base + R_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	expect("status without VERSION_1", vdev_status(&v), ST_ACKNOWLEDGE | ST_DRIVER);
}

/* Steps left out, repeated, or taken back. */
static void virtio_status(void)
{
	const uint32_t all = ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK;
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	vdev_reset(&v);
	write32(v.base + R_STATUS, ST_DRIVER);
	expect("DRIVER before ACKNOWLEDGE", vdev_status(&v), 0);
	write32(v.base + R_STATUS, ST_DRIVER_OK);
	expect("DRIVER_OK first", vdev_status(&v) & ST_DRIVER_OK, 0);
	vdev_reset(&v);
	write32(v.base + R_STATUS, all);
	expect("all at once, without features", vdev_status(&v), ST_ACKNOWLEDGE | ST_DRIVER);
	vdev_reset(&v);
	vdev_negotiate(&v, 0);
	write32(v.base + R_DRIVER_FEATURES_SEL, 0);
	write32(v.base + R_DRIVER_FEATURES, UINT32_MAX);
	vdev_ok(&v);
	expect("features written after FEATURES_OK", vdev_status(&v), all);
	/* A driver cannot take bits back but by a reset (2.1.1). */
	write32(v.base + R_STATUS, ST_ACKNOWLEDGE);
	expect("bits taken back", vdev_status(&v), all);
	write32(v.base + R_STATUS, all | ST_NEEDS_RESET);
	expect("NEEDS_RESET from the driver", vdev_status(&v), all);
	vdev_reset(&v);
}

/* Queue registers outside the time when they may be written. */
static void virtio_queue_setup(void)
{
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	vdev_reset(&v);
	vq_init(&queue, QUEUE_SIZE);
	expect("a queue before FEATURES_OK", vq_attach(&v, 0, &queue), false);
	vdev_negotiate(&v, 0);
	expect("a queue in its time", vq_attach(&v, 0, &queue), true);
	vq_place(&v, 0, 8, 0, 0, 0); /* of no effect: it is ready */
	write32(v.base + R_QUEUE_READY, 1);
	vdev_ok(&v);
	expect("a request after that", blk_request(&v, &queue, BLK_IN, 0, buf, SECTOR, NULL),
	       BLK_OK);
	vq_place(&v, 0, 8, 0, 0, 0);
	write32(v.base + R_QUEUE_READY, 2);
	write32(v.base + R_QUEUE_NOTIFY, 77);
	write32(v.base + R_QUEUE_NOTIFY, UINT32_MAX);
	expect("a request after addresses of 0",
	       blk_request(&v, &queue, BLK_IN, 1, buf, SECTOR, NULL), BLK_OK);
	vdev_reset(&v);
	write32(v.base + R_QUEUE_SEL, 0);
	expect("queue ready after a reset", read32(v.base + R_QUEUE_READY), 0);
}

static void virtio_interrupt(void)
{
	struct vdev v;

	if (!open_disk(&v, 0, 0))
		return;
	expect("interrupt status at the start", read32(v.base + R_INTERRUPT_STATUS), 0);
	blk_request(&v, &queue, BLK_IN, 0, buf, SECTOR, NULL);
	for (struct deadline d = deadline();
	     !read32(v.base + R_INTERRUPT_STATUS) && !expired(&d);) /* set after the used index */
		;
	expect("interrupt status after a request", read32(v.base + R_INTERRUPT_STATUS), 1);
	write32(v.base + R_INTERRUPT_ACK, 2);
	expect("another bit acknowledged", read32(v.base + R_INTERRUPT_STATUS), 1);
	write32(v.base + R_INTERRUPT_ACK, 1);
	expect("acknowledged", read32(v.base + R_INTERRUPT_STATUS), 0);
}

/* --- disks --- */

static void blk_config(void)
{
	uint64_t size = argument("disk_size", 1 << 20);
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	expect("capacity, 64 bits", read64(v.base + R_CONFIG), size / SECTOR);
	expect("capacity, low 32 bits", read32(v.base + R_CONFIG), (uint32_t)(size / SECTOR));
	expect("capacity, high 32 bits", read32(v.base + R_CONFIG + 4), size / SECTOR >> 32);
	for (unsigned int i = 0; i < 8; i++)
		expect("capacity, by bytes", read8(v.base + R_CONFIG + i),
		       size / SECTOR >> 8 * i & 0xff);
	expect("behind the configuration", read32(v.base + R_CONFIG + 0x80), 0);
	write64(v.base + R_CONFIG, 12345);
	expect("capacity after a write to it", read64(v.base + R_CONFIG), size / SECTOR);
}

/* Reads all three disks; each has its own content. */
static void blk_read(void)
{
	struct vdev v;

	for (unsigned int disk = 0; disk < 3; disk++) {
		uint64_t sectors = argument("disk_size", 1 << 20) / SECTOR;
		uint32_t written = 0;

		if (!open_disk(&v, disk, 0))
			return;
		memset(buf, 0, SECTOR);
		expect("status of a read",
		       blk_request(&v, &queue, BLK_IN, 0, buf, BUF, &written), BLK_OK);
		expect("bytes written by a read", written, BUF + 1);
		expect_pattern("sectors 0 to 127", buf, disk + 1, 0, BUF);
		expect("status of a read of the last sector",
		       blk_request(&v, &queue, BLK_IN, sectors - 1, buf, SECTOR, NULL), BLK_OK);
		expect_pattern("the last sector", buf, disk + 1, (sectors - 1) * SECTOR, SECTOR);
	}
}

/* Writes the pattern of seed 9 to sectors 8 to 15 and to the last of disk 0, for the host to see;
 * the rest of the disk stays.
 */
static void blk_write(void)
{
	uint64_t last = argument("disk_size", 1 << 20) / SECTOR - 1;
	uint32_t written = 0;
	struct vdev v;

	if (!open_disk(&v, 0, 0))
		return;
	for (uint32_t i = 0; i < 8 * SECTOR; i++)
		buf[i] = pattern(9, 8 * SECTOR + i);
	expect("status of a write",
	       blk_request(&v, &queue, BLK_OUT, 8, buf, 8 * SECTOR, &written), BLK_OK);
	expect("bytes written into the guest by a write", written, 1);
	for (uint32_t i = 0; i < SECTOR; i++)
		buf[i] = pattern(9, last * SECTOR + i);
	expect("status of a write to the last sector",
	       blk_request(&v, &queue, BLK_OUT, last, buf, SECTOR, NULL), BLK_OK);
	expect("status of a flush", blk_request(&v, &queue, BLK_FLUSH, 0, NULL, 0, NULL), BLK_OK);
	memset(buf, 0, SECTOR);
	expect("status of reading it back",
	       blk_request(&v, &queue, BLK_IN, 8, buf, SECTOR, NULL), BLK_OK);
	expect_pattern("what was written", buf, 9, 8 * SECTOR, SECTOR);
}

static void blk_id(void)
{
	struct vdev v;

	for (unsigned int disk = 0; disk < 2; disk++) {
		uint32_t written = 0;

		if (!open_disk(&v, disk, 0))
			return;
		memset(buf, 0xee, 32);
		expect("status of GET_ID",
		       blk_request(&v, &queue, BLK_GET_ID, 0, buf, 20, &written), BLK_OK);
		expect("bytes written by GET_ID", written, 21);
		if (memcmp(buf, disk ? "uvm-disk-1\0\0\0\0\0\0\0\0\0\0"
				     : "uvm-disk-0\0\0\0\0\0\0\0\0\0\0", 20))
			fail("the id of disk %u is \"%s\"", disk, (const char *)buf);
		expect("behind the id", buf[20], 0xee);
		/* A shorter buffer gets as much as fits; a longer one the id only. */
		expect("status of GET_ID into 5 bytes",
		       blk_request(&v, &queue, BLK_GET_ID, 0, buf, 5, NULL), BLK_OK);
		expect("status of GET_ID into 4 KiB",
		       blk_request(&v, &queue, BLK_GET_ID, 0, buf, 4096, NULL), BLK_OK);
	}
}

/* Requests that are well formed but cannot be done: an error status, and the device goes on. */
static void blk_errors(void)
{
	uint64_t end = argument("disk_size", 1 << 20) / SECTOR;
	static const uint32_t unknown[] = {2, 3, 5, 6, 7, 9, 11, 13, 14, 99, 0x80000000, 0xffffffff};
	const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
	} bad[] = {
		{BLK_IN, end, SECTOR},
		{BLK_IN, end - 1, 2 * SECTOR},
		{BLK_IN, 0, SECTOR - 1},
		{BLK_IN, 0, SECTOR + 1},
		{BLK_IN, 0, 1},
		{BLK_IN, 0, 0},
		{BLK_IN, UINT64_MAX, SECTOR},
		{BLK_IN, UINT64_MAX - 1, 2 * SECTOR},
		{BLK_IN, 1ull << 55, SECTOR}, /* times 512: wraps to 0 */
		{BLK_IN, 1ull << 63, SECTOR},
		{BLK_OUT, end, SECTOR},
		{BLK_OUT, end - 1, 2 * SECTOR},
		{BLK_OUT, 0, 100},
		{BLK_OUT, 0, 0},
		{BLK_OUT, UINT64_MAX, SECTOR},
		{BLK_OUT, 1ull << 55, SECTOR},
	};
	struct vdev v;

	if (!open_disk(&v, 0, 0))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
		expect("status of an unknown type",
		       blk_request(&v, &queue, unknown[i], 0, buf, SECTOR, NULL), BLK_UNSUPP);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		unsigned int status = blk_request(&v, &queue, bad[i].type, bad[i].sector, buf,
						  bad[i].len, NULL);

		if (status != BLK_IOERR)
			fail("type %u, sector 0x%lx, %u bytes: expected status 1, seen 0x%x",
			     bad[i].type, bad[i].sector, bad[i].len, status);
	}
	expect("status of a read after them",
	       blk_request(&v, &queue, BLK_IN, 0, buf, SECTOR, NULL), BLK_OK);
	expect_pattern("sector 0", buf, 1, 0, SECTOR);
}

static void blk_readonly(void)
{
	struct vdev v;

	if (!open_disk(&v, 2, 0))
		return;
	expect("the feature RO of disk 2", vdev_offered(&v) >> 5 & 1, 1);
	memset(buf, 0x77, SECTOR);
	expect("status of a write to it", blk_request(&v, &queue, BLK_OUT, 0, buf, SECTOR, NULL),
	       BLK_IOERR);
	expect("status of a flush", blk_request(&v, &queue, BLK_FLUSH, 0, NULL, 0, NULL), BLK_OK);
	expect("status of a read", blk_request(&v, &queue, BLK_IN, 0, buf, SECTOR, NULL), BLK_OK);
	expect_pattern("sector 0", buf, 3, 0, SECTOR);
}

/* One request in as many descriptors as the queue has: the header in single bytes, the data in
 * 5 pieces, none of them a sector.
 */
static void blk_split(void)
{
	static struct blk_header h = {BLK_IN, 0, 3};
	static volatile uint8_t status;
	static const uint32_t len[] = {1, 511, 13, 1000, 11};
	unsigned int n = 0, at = 0;
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	vdev_reset(&v);
	vdev_negotiate(&v, 0);
	vq_init(&queue, 32);
	vq_attach(&v, 0, &queue);
	vdev_ok(&v);
	status = 0xee;
	for (; n < sizeof(h); n++)
		vq_desc(&queue, n, (uint8_t *)&h + n, 1, D_NEXT, (uint16_t)(n + 1));
	for (size_t i = 0; i < ARRAY_SIZE(len); i++, n++) {
		vq_desc(&queue, n, buf + at, len[i], D_NEXT | D_WRITE, (uint16_t)(n + 1));
		at += len[i];
	}
	vq_desc(&queue, n, (const void *)&status, 1, D_WRITE, 0);
	vq_put(&queue, 0);
	vdev_kick(&v, 0);
	expect("an answer to a split request", vq_wait(&v, &queue, NULL, NULL), true);
	expect("its status", status, BLK_OK);
	expect_pattern("sectors 3 to 5", buf, 1, 3 * SECTOR, at);
}

/* The queue and an indirect table at their longest: 254 pieces of 2 sectors' data. */
static void blk_chain(void)
{
	enum { PIECES = QUEUE_MAX - 2 };
	static struct blk_header h;
	static struct desc table[QUEUE_MAX] __attribute__((aligned(16)));
	static volatile uint8_t status;
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	for (unsigned int indirect = 0; indirect < 2; indirect++) {
		struct desc *d = indirect ? table : queue.desc;

		vdev_reset(&v);
		vdev_negotiate(&v, indirect ? F_INDIRECT : 0);
		vq_init(&queue, QUEUE_MAX);
		vq_attach(&v, 0, &queue);
		vdev_ok(&v);
		h = (struct blk_header){BLK_IN, 0, 64};
		status = 0xee;
		memset(buf, 0, 2 * SECTOR);
		d[0] = (struct desc){(uint64_t)&h, sizeof(h), D_NEXT, 1};
		for (uint16_t i = 0; i < PIECES; i++) /* the first 253 of 4 bytes, the last the rest */
			d[i + 1] = (struct desc){(uint64_t)buf + 4 * i,
						 i < PIECES - 1 ? 4 : 2 * SECTOR - 4 * (PIECES - 1),
						 D_NEXT | D_WRITE, (uint16_t)(i + 2)};
		d[PIECES + 1] = (struct desc){(uint64_t)&status, 1, D_WRITE, 0};
		if (indirect)
			vq_desc(&queue, 7, table, sizeof(table), D_INDIRECT, 0);
		vq_put(&queue, indirect ? 7 : 0);
		vdev_kick(&v, 0);
		expect("an answer to the longest chain", vq_wait(&v, &queue, NULL, NULL), true);
		expect("its status", status, BLK_OK);
		expect_pattern("sectors 64 and 65", buf, 1, 64 * SECTOR, 2 * SECTOR);
	}
}

/* A queue filled to the brim by one kick, twice around, with indirect tables and the event index,
 * in an order of heads that is not that of the descriptors.
 */
static void blk_batch(void)
{
	static struct blk_header h[QUEUE_SIZE];
	static struct desc table[QUEUE_SIZE][3] __attribute__((aligned(16)));
	static volatile uint8_t status[QUEUE_SIZE];
	struct vdev v;

	if (!open_disk(&v, 1, F_INDIRECT | F_EVENT_IDX))
		return;
	for (unsigned int round = 0; round < 3; round++) {
		uint32_t seen = 0, id = 0, len = 0;

		for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
			h[i] = (struct blk_header){BLK_IN, 0, i * 2 + round};
			status[i] = 0xee;
			table[i][0] = (struct desc){(uint64_t)&h[i], sizeof(h[i]), D_NEXT, 1};
			table[i][1] = (struct desc){(uint64_t)buf + i * SECTOR, SECTOR,
						    D_NEXT | D_WRITE, 2};
			table[i][2] = (struct desc){(uint64_t)&status[i], 1, D_WRITE, 0};
			vq_desc(&queue, i, table[i], sizeof(table[i]), D_INDIRECT, 0);
		}
		for (unsigned int i = 0; i < QUEUE_SIZE; i++)
			vq_put(&queue, (uint16_t)(i * 5 % QUEUE_SIZE));
		vdev_kick(&v, 0);
		for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
			if (!vq_wait(&v, &queue, &id, &len)) {
				fail("%u of %u requests were answered", i, QUEUE_SIZE);
				return;
			}
			expect("bytes written by a read", len, SECTOR + 1);
			seen |= 1u << id;
		}
		expect("the requests that were answered", seen, (1u << QUEUE_SIZE) - 1);
		for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
			expect("status", status[i], BLK_OK);
			expect_pattern("a sector", buf + i * SECTOR, 2, (i * 2 + round) * SECTOR,
				       SECTOR);
		}
	}
}

/* --- discard and write zeroes --- */

#define C_DISCARD (R_CONFIG + 36) /* most sectors, segments, alignment */
#define C_ZEROES  (R_CONFIG + 48) /* most sectors, segments, may unmap */

static unsigned int segments(struct vdev *v, uint32_t type, const struct blk_segment *s, unsigned int n)
{
	memcpy(buf, s, n * sizeof(*s));
	return blk_request(v, &queue, type, 0, buf, n * (uint32_t)sizeof(*s), NULL);
}

static void expect_zeros(struct vdev *v, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at++) {
		buf[0] = buf[SECTOR - 1] = 0x5a;
		expect("a read", blk_request(v, &queue, BLK_IN, at, buf, SECTOR, NULL), BLK_OK);
		if (buf[0] || buf[SECTOR - 1] || memcmp(buf, buf + 1, SECTOR - 1))
			fail("sector %lu does not read as zeros", at);
	}
}

/* Of disk 0: sectors 16 to 271 are discarded, 280 to 283 and 1000 made zeros, for the host to see. */
static void blk_discard(void)
{
	const struct blk_segment two[] = {{16, 8, 0}, {24, 248, 0}};
	struct vdev v;

	if (!open_disk(&v, 0, F_BLK_TRIM))
		return;
	if (!read32(v.base + C_DISCARD) || read32(v.base + C_DISCARD + 4) < 2 ||
	    !read32(v.base + C_DISCARD + 8))
		fail("the limits of discards are %u, %u and %u", read32(v.base + C_DISCARD),
		     read32(v.base + C_DISCARD + 4), read32(v.base + C_DISCARD + 8));
	if (!read32(v.base + C_ZEROES) || !read32(v.base + C_ZEROES + 4))
		fail("there is a limit of 0 to zeros");
	expect("write_zeroes_may_unmap", read8(v.base + C_ZEROES + 8), 1);
	expect("a discard", segments(&v, BLK_DISCARD, two, 2), BLK_OK);
	expect("zeros", segments(&v, BLK_ZEROES, &(struct blk_segment){280, 4, 0}, 1), BLK_OK);
	expect("zeros, with unmap", segments(&v, BLK_ZEROES, &(struct blk_segment){1000, 1, 1}, 1),
	       BLK_OK);
	expect_zeros(&v, 280, 284);
	expect_zeros(&v, 1000, 1001);
	expect_zeros(&v, 16, 18);
	expect_zeros(&v, 270, 272);
	blk_request(&v, &queue, BLK_IN, 272, buf, SECTOR, NULL);
	expect_pattern("sector 272", buf, 1, 272 * SECTOR, SECTOR);
	expect("a flush", blk_request(&v, &queue, BLK_FLUSH, 0, NULL, 0, NULL), BLK_OK);
}

/* Segments that lie outside, wrap around, are too many or too long, or say what there is not; each
 * behind one that is good, which must not be done either.
 */
static void blk_segments(void)
{
	uint64_t end = argument("disk_size", 1 << 20) / SECTOR;
	const struct {
		struct blk_segment s;
		unsigned int status;
	} bad[] = {
		{{end, 1, 0}, BLK_IOERR},
		{{end - 1, 2, 0}, BLK_IOERR},
		{{0, (uint32_t)end + 1, 0}, BLK_IOERR},
		{{UINT64_MAX, 1, 0}, BLK_IOERR},
		{{UINT64_MAX, UINT32_MAX, 0}, BLK_IOERR},
		{{UINT64_MAX - 1, 3, 0}, BLK_IOERR},
		{{1ull << 55, 1, 0}, BLK_IOERR}, /* times 512: 0 */
		{{1ull << 63, 1, 0}, BLK_IOERR},
		{{0, 1u << 23, 0}, BLK_IOERR}, /* times 512, in 32 bits: 0 */
		{{0, 0, 0}, BLK_IOERR},
		{{0, 1, 2}, BLK_UNSUPP},
		{{0, 1, 0x80000000}, BLK_UNSUPP},
	};
	static struct blk_segment many[BUF / sizeof(struct blk_segment)];
	struct vdev v;

	if (!open_disk(&v, 0, F_BLK_TRIM))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct blk_segment two[] = {{1, 1, 0}, bad[i].s};

		expect("a discard", segments(&v, BLK_DISCARD, two, 2), bad[i].status);
		expect("zeros", segments(&v, BLK_ZEROES, &bad[i].s, 1), bad[i].status);
	}
	expect("a discard with the flag of the other",
	       segments(&v, BLK_DISCARD, &(struct blk_segment){0, 1, 1}, 1), BLK_UNSUPP);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct blk_segment){i % end, 1, 0};
	for (uint32_t n = read32(v.base + C_DISCARD + 4) + 1; n <= ARRAY_SIZE(many); n *= 3)
		expect("too many segments", segments(&v, BLK_DISCARD, many, n), BLK_IOERR);
	expect("too many segments of zeros",
	       segments(&v, BLK_ZEROES, many, read32(v.base + C_ZEROES + 4) + 1), BLK_IOERR);
	for (uint32_t len = 0; len < 40; len++)
		if (len % 16)
			expect("a part of a segment",
			       blk_request(&v, &queue, BLK_DISCARD, 0, many, len, NULL), BLK_IOERR);
	expect("no segment", blk_request(&v, &queue, BLK_ZEROES, 0, NULL, 0, NULL), BLK_IOERR);
	for (uint64_t at = 0; at < 8; at++) {
		blk_request(&v, &queue, BLK_IN, at, buf, SECTOR, NULL);
		expect_pattern("what was there", buf, 1, at * SECTOR, SECTOR);
	}
	/* In the direction of a read. */
	many[0] = (struct blk_segment){0, 1, 0};
	for (unsigned int i = 0; i < 2; i++) {
		static struct blk_header h;
		static volatile uint8_t status;

		h = (struct blk_header){i ? BLK_ZEROES : BLK_DISCARD, 0, 0};
		status = 0xee;
		vq_desc(&queue, 0, &h, sizeof(h), D_NEXT, 1);
		vq_desc(&queue, 1, many, sizeof(many[0]), D_NEXT | D_WRITE, 2);
		vq_desc(&queue, 2, (const void *)&status, 1, D_WRITE, 0);
		vq_put(&queue, 0);
		vdev_kick(&v, 0);
		expect("an answer", vq_wait(&v, &queue, NULL, NULL), true);
		expect("segments that the device is to write", status, BLK_IOERR);
	}
	/* A read-only disk has none of it, and whoever has not negotiated it neither. */
	if (!open_disk(&v, 2, 0))
		return;
	expect("what the read-only disk offers", vdev_offered(&v) & F_BLK_TRIM, 0);
	expect("a discard there", segments(&v, BLK_DISCARD, many, 1), BLK_UNSUPP);
}

/* --- several queues --- */

static struct vq queues[4];

/* Every queue of disk 0 (argument queues=) at once, each with requests of its own. */
static void mq_read(void)
{
	static struct blk_header h[4][4];
	static volatile uint8_t status[4][4];
	uint32_t n = (uint32_t)argument("queues", 4);
	struct vdev v;

	if (!vdev_find(&v, VIRTIO_BLK, 0)) {
		fail("there is no disk");
		return;
	}
	expect("the feature MQ", !!(vdev_offered(&v) & F_BLK_MQ), n > 1);
	expect("num_queues", read16(v.base + R_CONFIG + 34), n);
	for (uint32_t q = 0; q < 8; q++) {
		write32(v.base + R_QUEUE_SEL, q);
		expect("largest queue", read32(v.base + R_QUEUE_NUM_MAX), q < n ? QUEUE_MAX : 0);
	}
	if (!vdev_start(&v, n > 1 ? F_BLK_MQ : 0, queues, n))
		return;
	memset(buf, 0, 16 * SECTOR);
	for (unsigned int i = 0; i < 4; i++)
		for (unsigned int q = 0; q < n; q++) {
			uint16_t at = (uint16_t)(3 * i);

			h[q][i] = (struct blk_header){BLK_IN, 0, q * 4 + i};
			status[q][i] = 0xee;
			vq_desc(&queues[q], at, &h[q][i], sizeof(h[q][i]), D_NEXT, at + 1);
			vq_desc(&queues[q], at + 1u, buf + (q * 4 + i) * SECTOR, SECTOR,
				D_NEXT | D_WRITE, at + 2);
			vq_desc(&queues[q], at + 2u, (const void *)&status[q][i], 1, D_WRITE, 0);
			vq_put(&queues[q], at);
		}
	for (unsigned int q = 0; q < n; q++)
		vdev_kick(&v, q);
	for (unsigned int q = 0; q < n; q++)
		for (unsigned int i = 0; i < 4; i++) {
			expect("an answer", vq_wait(&v, &queues[q], NULL, NULL), true);
			expect("its status", status[q][i], BLK_OK);
		}
	expect_pattern("what all have read", buf, 1, 0, 4 * n * SECTOR);
}

/* Disk 0 has a limit of one request a second, disk 1 none. */
static void limit_is_its_own(void)
{
	static struct blk_header h[3];
	static volatile uint8_t status[3];
	struct vdev v, w;

	if (!open_disk(&w, 0, 0) || !vdev_find(&v, VIRTIO_BLK, 1) ||
	    !vdev_start(&v, 0, &queues[1], 1))
		return;
	for (unsigned int i = 0; i < 3; i++) {
		uint16_t at = (uint16_t)(3 * i);

		h[i] = (struct blk_header){BLK_IN, 0, i};
		vq_desc(&queue, at, &h[i], sizeof(h[i]), D_NEXT, at + 1);
		vq_desc(&queue, at + 1u, buf + i * SECTOR, SECTOR, D_NEXT | D_WRITE, at + 2);
		vq_desc(&queue, at + 2u, (const void *)&status[i], 1, D_WRITE, 0);
		vq_put(&queue, at);
	}
	vdev_kick(&w, 0);
	for (unsigned int i = 0; i < 20; i++)
		expect("a read of the other disk",
		       blk_request(&v, &queues[1], BLK_IN, i, buf + 8 * SECTOR, SECTOR, NULL), BLK_OK);
	for (unsigned int i = 0; i < 2; i++)
		expect("an answer", vq_wait(&w, &queue, NULL, NULL), true);
	vdev_reset(&w); /* while one waits */
	expect("a read of the other disk",
	       blk_request(&v, &queues[1], BLK_IN, 0, buf, SECTOR, NULL), BLK_OK);
}

/* --- random numbers --- */

static bool open_rng(struct vdev *v)
{
	if (!vdev_find(v, VIRTIO_RNG, 0)) {
		fail("there is no source of random numbers");
		return false;
	}
	return vdev_start(v, 0, &queue, 1);
}

static uint32_t rng_take(struct vdev *v, uint16_t head)
{
	uint32_t len = 0;

	vq_put(&queue, head);
	vdev_kick(v, 0);
	expect("an answer", vq_wait(v, &queue, NULL, &len), true);
	return len;
}

static void rng_read(void)
{
	struct vdev v;

	if (!open_rng(&v))
		return;
	memset(buf, 0, 128);
	vq_desc(&queue, 0, buf, 32, D_WRITE | D_NEXT, 1);
	vq_desc(&queue, 1, buf + 40, 24, D_WRITE, 0);
	expect("bytes", rng_take(&v, 0), 56);
	if (read64((uint64_t)buf + 32) || read64((uint64_t)buf + 64))
		fail("what lies beside the buffers was written");
	for (unsigned int i = 0; i < 64; i += 8)
		if (i != 32 && !read64((uint64_t)buf + i))
			fail("eight bytes are zero");
	memcpy(buf + 64, buf, 64);
	expect("bytes", rng_take(&v, 0), 56);
	if (!memcmp(buf, buf + 64, 32))
		fail("the same numbers again");
}

/* A chain that names much memory again and again gets a part of it. */
static void rng_huge(void)
{
	struct vdev v;
	uint32_t len;

	if (!open_rng(&v))
		return;
	for (uint16_t i = 0; i < QUEUE_SIZE; i++)
		vq_desc(&queue, i, (const void *)0x800000, 4u << 20,
			D_WRITE | (i < QUEUE_SIZE - 1 ? D_NEXT : 0), (uint16_t)(i + 1));
	for (unsigned int i = 0; i < 3; i++) {
		len = rng_take(&v, 0);
		if (!len || len > BUF)
			fail("a chain of 64 MiB gets %u bytes", len);
	}
}

static void rng_refused(struct vdev *v, const char *what)
{
	vq_put(&queue, 0);
	vdev_kick(v, 0);
	if (!vdev_wait_needs_reset(v))
		fail("%s is not refused", what);
	if (open_rng(v)) {
		vq_desc(&queue, 0, buf, 8, D_WRITE, 0);
		expect("bytes after a reset", rng_take(v, 0), 8);
	}
}

static void rng_hostile(void)
{
	struct vdev v;

	if (!open_rng(&v))
		return;
	vq_desc(&queue, 0, buf, 8, D_WRITE | D_NEXT, 1);
	vq_desc(&queue, 1, buf, 8, D_WRITE | D_NEXT, 0);
	rng_refused(&v, "a loop");
	vq_desc(&queue, 0, buf, 8, 0, 0);
	rng_refused(&v, "a buffer to read");
	vq_desc(&queue, 0, buf, 8, D_NEXT, 1);
	vq_desc(&queue, 1, buf, 8, D_WRITE, 0);
	rng_refused(&v, "a buffer to read before one to write");
	vq_desc(&queue, 0, (const void *)0xd0000000, 8, D_WRITE, 0);
	rng_refused(&v, "a buffer outside RAM");
	vq_desc(&queue, 0, buf, 0, D_WRITE, 0);
	rng_refused(&v, "an empty buffer");
	vq_desc(&queue, 0, (const void *)UINT64_MAX, 8, D_WRITE, 0);
	rng_refused(&v, "a buffer that wraps around");
}

/* RAM above 4 GiB serves as a buffer, and its last bytes too. Needs memory of more than 3 GiB. */
static void blk_high_memory(void)
{
	uint64_t end = ram_end_high();
	uint8_t *high;
	struct vdev v;

	if (!end) {
		fail("the VM has no memory above 4 GiB");
		return;
	}
	map_gib(end - 1);
	high = (uint8_t *)(end - SECTOR);
	if (!open_disk(&v, 0, 0))
		return;
	expect("a read to the end of RAM", blk_request(&v, &queue, BLK_IN, 5, high, SECTOR, NULL),
	       BLK_OK);
	expect_pattern("sector 5", high, 1, 5 * SECTOR, SECTOR);
	expect("a read across the end of RAM",
	       blk_request(&v, &queue, BLK_IN, 5, high + 1, SECTOR, NULL), BLK_NO_ANSWER);
	expect("NEEDS_RESET after that", vdev_wait_needs_reset(&v), true);
}

const struct test_case blk_cases[] = {
	{"virtio-ids", virtio_ids},
	{"virtio-features", virtio_features},
	{"virtio-status", virtio_status},
	{"virtio-queue-setup", virtio_queue_setup},
	{"virtio-interrupt", virtio_interrupt},
	{"blk-config", blk_config},
	{"blk-read", blk_read},
	{"blk-id", blk_id},
	{"blk-errors", blk_errors},
	{"blk-readonly", blk_readonly},
	{"blk-split", blk_split},
	{"blk-chain", blk_chain},
	{"blk-batch", blk_batch},
	{"blk-segments", blk_segments},
	{"blk-write", blk_write},
	{"blk-discard", blk_discard},
	{"mq-read", mq_read},
	{"limit-is-its-own", limit_is_its_own},
	{"rng-read", rng_read},
	{"rng-huge", rng_huge},
	{"rng-hostile", rng_hostile},
	{"blk-high-memory", blk_high_memory},
	{0},
};
