/* SPDX-License-Identifier: Apache-2.0
 *
 * The balloon, by a driver that keeps the rules; ring.c has those that break them.
 */
#include "virtio.h"

#define F_OOM	    (1ull << 2)
#define F_HINT	    (1ull << 3)
#define F_POISON    (1ull << 4)
#define R_NUM_PAGES (R_CONFIG + 0)
#define R_ACTUAL    (R_CONFIG + 4)

#define AT    0x800000ull /* free memory of a guest of 16 MiB and more */
#define PAGES 6u

static struct vq queue[BALLOON_QUEUES];

#define ALL (F_STATS | F_REPORTING)

/* Queues 0 and 1, and one for each feature. */
static bool open_balloon(struct vdev *v, uint64_t features)
{
	if (!vdev_find(v, VIRTIO_BALLOON, 0)) {
		fail("there is no balloon");
		return false;
	}
	return vdev_start(v, features, queue, 2 + !!(features & F_STATS) + !!(features & F_REPORTING));
}

static void fill(void)
{
	memset((void *)AT, 0x5a, PAGES * PAGE);
}

/* Pages first to last of what fill() wrote are zero, and all other bytes as they were. */
static void expect_zeros(uint64_t first, uint64_t last)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		uint8_t want = page >= first && page <= last ? 0 : 0x5a;
		const uint8_t *p = (const uint8_t *)(AT + page * PAGE);

		if (p[0] != want || memcmp(p, p + 1, PAGE - 1)) {
			fail("page %lu: expected 0x%x, seen 0x%x", page, want, p[0]);
			return;
		}
	}
}

static void give(struct vdev *v, unsigned int index)
{
	uint32_t id = 99, len = 99;

	vq_put(&queue[index], 0);
	vdev_kick(v, index);
	expect("served", vq_wait(v, &queue[index], &id, &len), true);
	expect("chain", id, 0);
	expect("length", len, 0);
}

static void config(void)
{
	const uint64_t offered = F_STATS | F_OOM | F_REPORTING, not_offered = F_HINT | F_POISON;
	struct vdev v, other;

	if (!vdev_find(&v, VIRTIO_BALLOON, 0)) {
		fail("there is no balloon");
		return;
	}
	expect("a second balloon", vdev_find(&other, VIRTIO_BALLOON, 1), false);
	expect("behind it", read32(v.base + VIRTIO_SLOT), UINT32_MAX);
	vdev_reset(&v);
	expect("statistics, deflation, reporting", vdev_offered(&v) & offered, offered);
	expect("what needs more than this", vdev_offered(&v) & not_offered, 0);
	for (uint32_t q = 0; q < 8; q++) {
		write32(v.base + R_QUEUE_SEL, q);
		expect("largest queue", read32(v.base + R_QUEUE_NUM_MAX),
		       q < BALLOON_QUEUES ? QUEUE_MAX : 0);
	}
	write32(v.base + R_ACTUAL, 0x12345678);
	write32(v.base + R_NUM_PAGES, 7);
	write32(v.base + R_ACTUAL + 2, 0);
	write16(v.base + R_ACTUAL, 0);
	write8(v.base + R_ACTUAL + 3, 0);
	write64(v.base + R_NUM_PAGES, UINT64_MAX);
	write32(v.base + R_ACTUAL + 4, 7);
	expect("pages wanted", read32(v.base + R_NUM_PAGES), 0);
	expect("actual", read32(v.base + R_ACTUAL), 0x12345678);
	expect("behind the configuration", read32(v.base + R_ACTUAL + 4), 0);
	vdev_reset(&v);
	expect("actual after a reset", read32(v.base + R_ACTUAL), 0);
}

static void report_zeros(void)
{
	struct vdev v;

	if (!open_balloon(&v, ALL))
		return;
	fill();
	vq_desc(&queue[BALLOON_REPORT], 0, (void *)(AT + PAGE), PAGE, D_WRITE | D_NEXT, 1);
	vq_desc(&queue[BALLOON_REPORT], 1, (void *)(AT + 2 * PAGE), 2 * PAGE, D_WRITE, 0);
	give(&v, BALLOON_REPORT);
	expect_zeros(1, 3);
	fill(); /* it is memory as before */
	expect_zeros(1, 0);
}

/* Only whole pages. */
static void report_parts(void)
{
	struct vdev v;

	if (!open_balloon(&v, ALL))
		return;
	fill();
	vq_desc(&queue[BALLOON_REPORT], 0, (void *)(AT + 1), 3 * PAGE - 2, D_WRITE | D_NEXT, 1);
	vq_desc(&queue[BALLOON_REPORT], 1, (void *)(AT + 4 * PAGE + 1), PAGE, D_WRITE, 0);
	give(&v, BALLOON_REPORT);
	expect_zeros(1, 1);
}

/* Without statistics there is no queue for them: reports take its place, as Linux counts. */
static void report_alone(void)
{
	struct vdev v;

	if (!open_balloon(&v, F_REPORTING))
		return;
	fill();
	vq_desc(&queue[BALLOON_STATS], 0, (void *)(AT + PAGE), PAGE, D_WRITE, 0);
	give(&v, BALLOON_STATS);
	expect_zeros(1, 1);
}

/* A driver that did not accept the feature has no such queue. */
static void report_not_accepted(void)
{
	struct vq *q = &queue[BALLOON_REPORT];
	struct vdev v;

	if (!open_balloon(&v, 0))
		return;
	vdev_reset(&v);
	vdev_negotiate(&v, 0);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		vq_init(&queue[i], QUEUE_SIZE);
		vq_attach(&v, i, &queue[i]);
	}
	vdev_ok(&v);
	fill();
	vq_desc(q, 0, (void *)AT, PAGE, D_WRITE, 0);
	vq_put(q, 0);
	vdev_kick(&v, BALLOON_REPORT);
	queue[BALLOON_STATS].desc[0] = q->desc[0];
	vq_put(&queue[BALLOON_STATS], 0);
	vdev_kick(&v, BALLOON_STATS);
	vq_desc(&queue[BALLOON_DEFLATE], 0, (void *)AT, 0x10, 0, 0);
	give(&v, BALLOON_DEFLATE); /* time for a wrong device to serve it */
	expect("used index", q->used.idx, 0);
	expect("used index", queue[BALLOON_STATS].used.idx, 0);
	expect_zeros(1, 0);
}

static void inflate(void)
{
	static uint32_t pfn[4];
	struct vdev v;

	if (!open_balloon(&v, ALL))
		return;
	fill();
	for (unsigned int i = 0; i < 4; i++)
		pfn[i] = AT / PAGE + 4 - i; /* downwards, as Linux allocates */
	vq_desc(&queue[BALLOON_INFLATE], 0, pfn, 10, D_NEXT, 1);
	vq_desc(&queue[BALLOON_INFLATE], 1, (uint8_t *)pfn + 10, 6, 0, 0);
	give(&v, BALLOON_INFLATE);
	expect_zeros(1, 4);
	write32(v.base + R_ACTUAL, 4);
	vq_desc(&queue[BALLOON_DEFLATE], 0, pfn, sizeof(pfn), 0, 0);
	give(&v, BALLOON_DEFLATE);
	fill();
	expect_zeros(1, 0);
}

/* Figures stay with the device until it wants new ones: the monitor, asked for stats, says so. */
static struct {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed)) told[3] = {{4, 0x1000}, {5, 0x2000}, {999, 7}};

static bool stats_wanted(struct vq *q)
{
	if (__atomic_load_n(&q->used.idx, __ATOMIC_ACQUIRE) == q->seen)
		return false;
	expect("length", q->used.ring[q->seen % q->size].len, 0);
	q->seen++;
	return true;
}

/* Until the monitor has wanted two pages, and none. */
static void stats(void)
{
	struct vq *q = &queue[BALLOON_STATS];
	struct vdev v;

	if (!open_balloon(&v, ALL))
		return;
	vq_desc(q, 0, told, 1, D_NEXT, 1);
	vq_desc(q, 1, (uint8_t *)told + 1, sizeof(told) - 1, 0, 0);
	vq_put(q, 0);
	vdev_kick(&v, BALLOON_STATS);
	for (unsigned int i = 0; i < 2; i++) {
		vq_desc(&queue[BALLOON_DEFLATE], 0, (void *)AT, 0x10, 0, 0);
		give(&v, BALLOON_DEFLATE); /* time for a wrong device to give it back */
	}
	expect("used index", q->used.idx, 0);
	print("told\n");
	while (read32(v.base + R_NUM_PAGES) != 2) {
		if (!stats_wanted(q))
			continue;
		told[0].value += PAGE;
		vq_put(q, 0);
		vdev_kick(&v, BALLOON_STATS);
	}
	expect("change of configuration", read32(v.base + R_INTERRUPT_STATUS) & 2, 2);
	write32(v.base + R_ACTUAL, 2);
	print("inflated\n");
	while (read32(v.base + R_NUM_PAGES))
		;
}

const struct test_case balloon_cases[] = {{"balloon-config", config},
					  {"balloon-report-zeros", report_zeros},
					  {"balloon-report-parts", report_parts},
					  {"balloon-report-alone", report_alone},
					  {"balloon-report-not-accepted", report_not_accepted},
					  {"balloon-inflate", inflate},
					  {"told-figures", stats},
					  {0}};
