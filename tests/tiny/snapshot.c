/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest to freeze, clone and fork: it answers letters on the console, so a test says when what
 * happens, and sees in the answers what the VM remembers.
 *
 *   c        adds one to a counter: "count N"
 *   t        the time stamp counter: "tsc N", and "tsc back" if it is less than it was
 *   mN.      writes to N pages of memory (N decimal), each other than before: "wrote N"
 *   s        the sum over what those pages hold: "sum N"
 *   wD.S.V.  writes the byte V to all of sector S of disk D, and flushes: "written D S V"
 *   rD.S.    reads that sector: "read D S V", V being -1 if its bytes are not all the same
 *   iD.      what disk D says that it is, and how many queues it has: "id D NAME QUEUES"
 *   zD.S.    makes sector S of disk D zeros: "zeroed D S"
 *   bD.V.    begins to write the byte V to sectors 32 to 36 of disk D, five requests at once: "begun"
 *   aD.      waits until they are answered: "answered D N", N of them well
 *   g        eight bytes from the source of random numbers: "random N", or "random none"
 *   o        the other vCPU, which counts for itself (argument other=1): "other N", once it has moved
 *   v        the other vCPU's vector registers (argument vectors=1): "vectors N", once it has looked
 *            at them again, or "vectors changed"; "vectors none" where there is no AVX
 *   l        the network's link and address: "link up|down XXXXXXXXXXXX", and whether the device has
 *            told of a change since the last time: "news"
 *   e        sends a frame, and waits a moment for it to come back: "echo" and its length, or "none"
 *   kN.      what is in virtio slot N: "slot N MAGIC VERSION ID STATUS", hexadecimal
 *   n        starts the disks and the network that have come meanwhile: "disks N", N there are
 *   xD.      resets disk D, which is the last: "let go D"; y: the network: "let go net"
 *   d        writes dots and nothing else, for ever
 *   h        stands still for good, and takes no CPU: "halted"
 *   q        switches off, without the report that a case ends with
 */
#include "guest.h"
#include "net.h"
#include "virtio.h"

#define PAGES_AT 0x800000ull /* free memory of a guest of 16 MiB and more */

#define SECTOR	 512u
#define DISKS	 4u
#define MANY	 5u /* requests in a queue of QUEUE_SIZE */

static uint64_t count, pages, last_tsc;
static volatile uint64_t other;

static struct {
	struct vdev dev;
	struct vq queue;
} disks[DISKS];
static uint8_t sector[SECTOR];

static uint64_t number(void)
{
	uint64_t n = 0;
	char c;

	while ((c = (char)serial_get()) >= '0' && c <= '9')
		n = n * 10 + (uint64_t)(c - '0');
	return n;
}

static void write_pages(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		write64(PAGES_AT + i * PAGE, count * 1000003 + i);
	pages = n;
	print("wrote %lu\n", n);
}

static uint64_t sum_pages(void)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < pages; i++)
		sum = sum * 31 + read64(PAGES_AT + i * PAGE);
	return sum;
}

static void tell_tsc(void)
{
	uint64_t now = rdtsc();

	if (now < last_tsc)
		print("tsc back from %lu to %lu\n", last_tsc, now);
	else
		print("tsc %lu\n", now);
	last_tsc = now;
}

static void disk_request(bool write)
{
	uint64_t disk = number() % DISKS, at = number(), value = write ? number() : 0;
	unsigned int r;

	if (write)
		memset(sector, (int)value, sizeof(sector));
	r = blk_request(&disks[disk].dev, &disks[disk].queue, write ? BLK_OUT : BLK_IN, at, sector,
			sizeof(sector), NULL);
	if (r == BLK_OK && write)
		r = blk_request(&disks[disk].dev, &disks[disk].queue, BLK_FLUSH, 0, sector, 0, NULL);
	if (r != BLK_OK)
		print("disk error %u\n", r);
	else if (write)
		print("written %lu %lu %lu\n", disk, at, value);
	else if (memcmp(sector, sector + 1, SECTOR - 1))
		print("read %lu %lu -1\n", disk, at);
	else
		print("read %lu %lu %u\n", disk, at, sector[0]);
}

static void tell_id(void)
{
	uint64_t disk = number() % DISKS;

	memset(sector, 0, 32);
	blk_request(&disks[disk].dev, &disks[disk].queue, BLK_GET_ID, 0, sector, 20, NULL);
	print("id %lu %s %u\n", disk, (const char *)sector,
	      read16(disks[disk].dev.base + R_CONFIG + 34));
}

static void make_zeros(void)
{
	uint64_t disk = number() % DISKS, at = number();
	struct blk_segment s = {at, 1, 1};
	unsigned int r = blk_request(&disks[disk].dev, &disks[disk].queue, BLK_ZEROES, 0, &s,
				     sizeof(s), NULL);

	if (r == BLK_OK)
		print("zeroed %lu %lu\n", disk, at);
	else
		print("disk error %u\n", r);
}

static uint8_t many[SECTOR];
static struct blk_header many_head[MANY];
static volatile uint8_t many_status[MANY];

static void begin_many(void)
{
	uint64_t disk = number() % DISKS, value = number();
	struct vq *q = &disks[disk].queue;

	memset(many, (int)value, sizeof(many));
	for (unsigned int i = 0; i < MANY; i++) {
		uint16_t at = (uint16_t)(3 * i);

		many_head[i] = (struct blk_header){BLK_OUT, 0, 32 + i};
		many_status[i] = 0xee;
		vq_desc(q, at, &many_head[i], sizeof(many_head[i]), D_NEXT, at + 1);
		vq_desc(q, at + 1u, many, sizeof(many), D_NEXT, at + 2);
		vq_desc(q, at + 2u, (const void *)&many_status[i], 1, D_WRITE, 0);
		vq_put(q, at);
	}
	vdev_kick(&disks[disk].dev, 0);
	print("begun\n");
}

static void await_many(void)
{
	uint64_t disk = number() % DISKS;
	unsigned int good = 0;

	for (unsigned int i = 0; i < MANY; i++)
		vq_wait(&disks[disk].dev, &disks[disk].queue, NULL, NULL);
	for (unsigned int i = 0; i < MANY; i++)
		good += many_status[i] == BLK_OK;
	print("answered %lu %u\n", disk, good);
}

static void tell_random(void)
{
	static struct vdev v;
	static struct vq q;
	static uint64_t n;

	if (!v.base && !(vdev_find(&v, VIRTIO_RNG, 0) && vdev_start(&v, 0, &q, 1))) {
		print("random none\n");
		return;
	}
	vq_desc(&q, 0, &n, sizeof(n), D_WRITE, 0);
	vq_put(&q, 0);
	vdev_kick(&v, 0);
	if (vq_wait(&v, &q, NULL, NULL))
		print("random %lu\n", n);
}

static struct net net;
static bool net_offered;
static uint8_t net_frame[NET_FRAME], net_back[2048];

static void tell_link(void)
{
	uint64_t at = net.dev.base + R_CONFIG;
	uint32_t cause = read32(net.dev.base + R_INTERRUPT_STATUS);

	print("link %s ", read16(at + 6) ? "up" : "down");
	for (unsigned int i = 0; i < 6; i++)
		print("%x%x", read8(at + i) >> 4, read8(at + i) & 15);
	print("%s\n", cause & 2 ? " news" : "");
	write32(net.dev.base + R_INTERRUPT_ACK, cause);
}

static void tell_echo(void)
{
	uint32_t len;

	memset(net_frame, (int)++count, sizeof(net_frame));
	if (!net_offered)
		net_offer(&net, 0, net_back, sizeof(net_back));
	net_offered = true;
	if (!net_send(&net, net_frame, sizeof(net_frame)) ||
	    (read16(net.dev.base + R_CONFIG + 6) == 0) ||
	    !vq_wait(&net.dev, &net.q[NET_RX], NULL, &len)) {
		print("echo none\n");
		return;
	}
	net_offered = false;
	print("echo %u%s\n", len,
	      memcmp(net_back + NET_HEADER, net_frame, sizeof(net_frame)) ? " of others" : "");
}

static void count_on(void *unused)
{
	(void)unused;
	for (;;)
		other = other + 1;
}

static void tell_other(void)
{
	struct deadline d = deadline();
	uint64_t before = other;

	while (other == before && !expired(&d))
		;
	print("other %lu\n", other == before ? 0 : other);
}

/* Twice: the round after a stop is not the one that was stopped. */
static void tell_vectors(void)
{
	struct deadline d = deadline();
	uint64_t before = vectors_rounds;

	if (!vectors_possible()) {
		print("vectors none\n");
		return;
	}
	while (vectors_rounds < before + 2 && !expired(&d))
		;
	if (vectors_changed)
		print("vectors changed\n");
	else
		print("vectors %lu\n", vectors_rounds < before + 2 ? 0 : vectors_rounds);
}

static void write_dots(void)
{
	for (;;)
		outb(COM1, '.');
}

#define SLOTS_AT 0xd0000000ull

static void tell_slot(void)
{
	uint64_t n = number(), at = SLOTS_AT + n * PAGE;

	print("slot %lu %x %x %x %x\n", n, read32(at + R_MAGIC), read32(at + R_VERSION),
	      read32(at + R_DEVICE_ID), read32(at + R_STATUS));
}

static unsigned int started;

static void start_disks(void)
{
	for (; started < DISKS && vdev_find(&disks[started].dev, VIRTIO_BLK, started); started++)
		vdev_start(&disks[started].dev, vdev_offered(&disks[started].dev) & F_BLK_TRIM,
			   &disks[started].queue, 1);
}

static void start_new(void)
{
	struct vdev v;

	start_disks();
	if (!net.dev.base && vdev_find(&v, VIRTIO_NET, 0))
		net_start(&net, 0);
	print("disks %u\n", started);
}

static void let_go_disk(void)
{
	uint64_t disk = number() % DISKS;

	vdev_reset(&disks[disk].dev);
	started = (unsigned int)disk;
	print("let go %lu\n", disk);
}

static void let_go_net(void)
{
	vdev_reset(&net.dev);
	net.dev.base = 0;
	net_offered = false;
	print("let go net\n");
}

static void answer(char c)
{
	switch (c) {
	case 'c': print("count %lu\n", ++count); break;
	case 't': tell_tsc(); break;
	case 'm': write_pages(number()); break;
	case 's': print("sum %lu\n", sum_pages()); break;
	case 'w': disk_request(true); break;
	case 'r': disk_request(false); break;
	case 'i': tell_id(); break;
	case 'z': make_zeros(); break;
	case 'b': begin_many(); break;
	case 'a': await_many(); break;
	case 'g': tell_random(); break;
	case 'o': tell_other(); break;
	case 'v': tell_vectors(); break;
	case 'l': tell_link(); break;
	case 'e': tell_echo(); break;
	case 'k': tell_slot(); break;
	case 'n': start_new(); break;
	case 'x': let_go_disk(); break;
	case 'y': let_go_net(); break;
	case 'd': write_dots(); break;
	case 'h': print("halted\n"); halt();
	case 'q': power_off();
	default: break;
	}
}

static void letters(void)
{
	outb(COM1 + 4, 3); /* ready to receive */
	start_disks();
	if (argument("net", 0))
		net_start(&net, 0);
	if (argument("other", 0))
		start_cpu(1, count_on, NULL);
	if (argument("vectors", 0) && vectors_possible())
		start_cpu(1, vectors_run, NULL);
	print("ready\n");
	for (;;)
		answer((char)serial_get());
}

const struct test_case snapshot_cases[] = {{"snapshot-letters", letters}, {0}};
