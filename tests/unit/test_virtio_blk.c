/* SPDX-License-Identifier: Apache-2.0
 *
 * The block device over a disk in memory whose calls the test sees, and the file back end, with
 * preadv and pwritev of the test's own, which move as little as a kernel may.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/blk_file.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"

#define SECTORS	 64u
#define DISK	 (SECTORS * BLK_SECTOR)
#define F_RO	 (1ull << 5)
#define F_FLUSH	 (1ull << 9)
#define F_MQ	 (1ull << 12)
#define F_TRIM	 (3ull << 13) /* DISCARD, WRITE_ZEROES */
#define INDIRECT VIRTIO_F_INDIRECT_DESC

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_UNTOUCHED = 0xee };

/* --- a disk in memory --- */

static struct memory_disk {
	struct blk_backend backend;
	uint8_t bytes[DISK];
	unsigned int reads, writes, flushes, vectors, discards, zeroes, unmapped;
	int fail; /* -errno for every call */
} disk;

static void check_call(const struct iovec *iov, unsigned int n, uint64_t offset)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += iov[i].iov_len;
	ck_that(len && len % BLK_SECTOR == 0 && offset % BLK_SECTOR == 0);
	ck_that(offset <= DISK && len <= DISK - offset);
	disk.vectors += n;
}

static int disk_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset)
{
	(void)b;
	check_call(iov, n, offset);
	disk.reads++;
	if (!disk.fail)
		iov_write(iov, n, 0, disk.bytes + offset, DISK - offset);
	return disk.fail;
}

static int disk_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		      uint64_t offset)
{
	(void)b;
	check_call(iov, n, offset);
	ck_that(!b->read_only);
	disk.writes++;
	if (!disk.fail)
		iov_read(iov, n, 0, disk.bytes + offset, DISK - offset);
	return disk.fail;
}

static int disk_flush(struct blk_backend *b)
{
	(void)b;
	disk.flushes++;
	return disk.fail;
}

static int disk_discard(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	ck_that(!b->read_only && offset <= DISK && len && len <= DISK - offset);
	disk.discards++;
	if (!disk.fail)
		memset(disk.bytes + offset, 0xdd, len);
	return disk.fail;
}

static int disk_zero(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap)
{
	ck_that(!b->read_only && offset <= DISK && len && len <= DISK - offset);
	disk.zeroes++;
	disk.unmapped += unmap;
	if (!disk.fail)
		memset(disk.bytes + offset, 0, len);
	return disk.fail;
}

/* --- the device and its driver --- */

static struct driver d;
static struct virtio_blk blk;
static struct err e;
static uint64_t header, data, status; /* guest addresses; data has room for the whole disk */

static void device_init(struct blk_backend *backend)
{
	driver_init(&d);
	ck_ok(virtio_blk_init(&blk, &d.guest.mem, backend, "serial-0123456789", d.irq, &d.loop,
			      &e));
	d.dev = &blk.dev;
	header = guest_alloc(&d.guest, 4096);
	data = guest_alloc(&d.guest, DISK + 4096);
	status = guest_alloc(&d.guest, 4096);
}

static void setup(void)
{
	disk = (struct memory_disk){.backend = {.read = disk_read,
						.write = disk_write,
						.flush = disk_flush,
						.discard = disk_discard,
						.zero = disk_zero,
						.size = DISK}};
	fill_pattern(disk.bytes, DISK, 1);
	device_init(&disk.backend);
}

static void teardown(void)
{
	d.dev = NULL;
	virtio_blk_close(&blk);
	driver_free(&d);
}

static uint8_t *guest_data(void)
{
	return guest_ptr(&d.guest, data, DISK + 4096);
}

static void write_header(uint32_t type, uint64_t sector)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} h = {type, 0, sector};

	memcpy(guest_ptr(&d.guest, header, sizeof(h)), &h, sizeof(h));
	*(uint8_t *)guest_ptr(&d.guest, status, 1) = S_UNTOUCHED;
}

static uint8_t status_byte(void)
{
	return *(uint8_t *)guest_ptr(&d.guest, status, 1);
}

/* Adds a request of these buffers, has it served, and returns the status; *len gets the used
 * length.
 */
static uint8_t serve(const struct buffer *b, unsigned int n, uint32_t *len)
{
	struct used_elem u = {0};
	uint16_t head = ring_add(&d.ring[0], b, n);

	driver_kick(&d, 0);
	ck_that(ring_take(&d.ring[0], &u));
	ck_that(u.id == head);
	if (len)
		*len = u.len;
	return status_byte();
}

/* The usual request: header, len bytes of data if any, status. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t bytes, uint32_t *len)
{
	struct buffer b[] = {{header, 16, false},
			     {data, bytes, type < T_DISCARD && type != T_OUT},
			     {status, 1, true}};

	write_header(type, sector);
	if (!bytes)
		b[1] = b[2];
	return serve(b, bytes ? 3 : 2, len);
}

/* --- good requests --- */

START_TEST(configuration)
{
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 2);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), SECTORS);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 4), 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 12), VIRTQUEUE_MAX - 2); /* seg_max */
	ck_assert(blk.dev.offered & F_FLUSH);
	ck_assert(!(blk.dev.offered & F_RO));
}
END_TEST

START_TEST(reads)
{
	uint32_t len;

	driver_start(&d, 0, 1, 8);
	for (uint64_t sector = 0; sector < SECTORS; sector++) {
		uint32_t bytes = (uint32_t)(SECTORS - sector) * BLK_SECTOR;

		memset(guest_data(), 0, DISK + 1);
		ck_that(request(T_IN, sector, bytes, &len) == S_OK);
		ck_that(len == bytes + 1);
		ck_that(!memcmp(guest_data(), disk.bytes + sector * BLK_SECTOR, bytes));
		ck_that(guest_data()[bytes] == 0);
	}
	ck_assert_uint_gt(event_count(d.irq.fd), 0);
}
END_TEST

START_TEST(writes)
{
	uint8_t before[DISK];
	uint32_t len;

	memcpy(before, disk.bytes, DISK);
	driver_start(&d, 0, 1, 8);
	fill_pattern(guest_data(), DISK, 2);
	ck_assert_uint_eq(request(T_OUT, 5, 3 * BLK_SECTOR, &len), S_OK);
	ck_assert_uint_eq(len, 1);
	ck_assert(!memcmp(disk.bytes, before, 5 * BLK_SECTOR));
	ck_assert(!memcmp(disk.bytes + 5 * BLK_SECTOR, guest_data(), 3 * BLK_SECTOR));
	ck_assert(!memcmp(disk.bytes + 8 * BLK_SECTOR, before + 8 * BLK_SECTOR,
			  DISK - 8 * BLK_SECTOR));
	ck_assert_uint_eq(request(T_OUT, 0, DISK, &len), S_OK);
	ck_assert(!memcmp(disk.bytes, guest_data(), DISK));
	ck_assert_uint_eq(disk.writes, 2);
}
END_TEST

START_TEST(flush)
{
	uint32_t len;

	driver_start(&d, F_FLUSH, 1, 8);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, &len), S_OK);
	ck_assert_uint_eq(len, 1);
	ck_assert_uint_eq(disk.flushes, 1);
}
END_TEST

START_TEST(get_id)
{
	uint32_t len;

	driver_start(&d, 0, 1, 8);
	memset(guest_data(), 'x', 32);
	ck_assert_uint_eq(request(T_GET_ID, 0, 20, &len), S_OK);
	ck_assert_uint_eq(len, 21);
	ck_assert_str_eq((char *)guest_data(), "serial-0123456789");
	ck_assert_int_eq(guest_data()[20], 'x');
	/* Less room takes a part; more takes no more. */
	memset(guest_data(), 'x', 32);
	ck_assert_uint_eq(request(T_GET_ID, 0, 3, &len), S_OK);
	ck_assert(!memcmp(guest_data(), "serx", 4));
	ck_assert_uint_eq(request(T_GET_ID, 0, 512, &len), S_OK);
	ck_assert_uint_le(len, 513);
	ck_assert_int_eq(guest_data()[20], 'x');
}
END_TEST

START_TEST(longest_serial_number)
{
	struct virtio_blk other;

	ck_ok(virtio_blk_init(&other, &d.guest.mem, &disk.backend, "12345678901234567890+", d.irq,
			      &d.loop, &e));
	ck_assert_str_eq(other.serial, "12345678901234567890");
	virtio_blk_close(&other);
}
END_TEST

/* Header, data and status may be cut and joined anywhere (2.7.4). */
START_TEST(any_layout)
{
	driver_start(&d, INDIRECT, 1, 64);
	for (uint32_t cut = 1; cut < 16; cut++) {
		struct buffer b[] = {{header, cut, false},
				     {header + cut, 16 - cut, false},
				     {data, cut, true},
				     {data + cut, BLK_SECTOR, true},
				     {data + cut + BLK_SECTOR, BLK_SECTOR - cut, true},
				     {status, 1, true}};
		uint16_t head;
		struct used_elem u;

		memset(guest_data(), 0, DISK);
		write_header(T_IN, cut);
		ck_assert_uint_eq(serve(b, 6, NULL), S_OK);
		ck_assert(!memcmp(guest_data(), disk.bytes + cut * BLK_SECTOR, 2 * BLK_SECTOR));
		/* The same as an indirect table, which the queue shares with direct chains. */
		memset(guest_data(), 0, DISK);
		head = ring_indirect(&d.ring[0], b, 6);
		ring_offer(&d.ring[0], head);
		driver_kick(&d, 0);
		ck_assert(ring_take(&d.ring[0], &u) && u.id == head);
		ck_assert(!memcmp(guest_data(), disk.bytes + cut * BLK_SECTOR, 2 * BLK_SECTOR));
	}
}
END_TEST

START_TEST(status_shares_the_last_buffer)
{
	struct buffer b[] = {{header, 16, false}, {data, BLK_SECTOR + 1, true}};

	driver_start(&d, 0, 1, 8);
	write_header(T_IN, 0);
	guest_data()[BLK_SECTOR] = S_UNTOUCHED;
	serve(b, 2, NULL);
	ck_assert_uint_eq(guest_data()[BLK_SECTOR], S_OK);
	ck_assert(!memcmp(guest_data(), disk.bytes, BLK_SECTOR));
}
END_TEST

START_TEST(header_shares_the_data_buffer)
{
	struct buffer b[] = {{header, 16 + BLK_SECTOR, false}, {status, 1, true}};

	driver_start(&d, 0, 1, 8);
	fill_pattern(guest_ptr(&d.guest, header, 16 + BLK_SECTOR), 16 + BLK_SECTOR, 3);
	write_header(T_OUT, 9);
	ck_assert_uint_eq(serve(b, 2, NULL), S_OK);
	ck_assert(!memcmp(guest_ptr(&d.guest, header + 16, BLK_SECTOR), disk.bytes + 9 * BLK_SECTOR,
			  BLK_SECTOR));
}
END_TEST

START_TEST(as_many_segments_as_offered)
{
	struct buffer b[VIRTQUEUE_MAX];

	driver_start(&d, 0, 1, VIRTQUEUE_MAX);
	b[0] = (struct buffer){header, 16, false};
	for (unsigned int i = 1; i < VIRTQUEUE_MAX - 1; i++)
		b[i] = (struct buffer){data + 64 * i, 64, true};
	b[VIRTQUEUE_MAX - 2].len = 64 + 128; /* to whole sectors: 254 * 64 + 128 */
	b[VIRTQUEUE_MAX - 1] = (struct buffer){status, 1, true};
	write_header(T_IN, 0);
	ck_assert_uint_eq(serve(b, VIRTQUEUE_MAX, NULL), S_OK);
	ck_assert_uint_eq(disk.vectors, VIRTQUEUE_MAX - 2);
	ck_assert(!memcmp(guest_data() + 64, disk.bytes, 254 * 64 + 128));
}
END_TEST

START_TEST(queue_full_of_requests)
{
	struct ring *r = &d.ring[0];
	struct used_elem u;
	uint64_t headers, statuses;

	driver_start(&d, INDIRECT, 1, VIRTQUEUE_MAX);
	headers = guest_alloc(&d.guest, 16 * VIRTQUEUE_MAX);
	statuses = guest_alloc(&d.guest, VIRTQUEUE_MAX);
	memset(guest_ptr(&d.guest, statuses, VIRTQUEUE_MAX), S_UNTOUCHED, VIRTQUEUE_MAX);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++) {
		struct buffer b[] = {{headers + 16 * i, 16, false},
				     {data + i % SECTORS * BLK_SECTOR, BLK_SECTOR, true},
				     {statuses + i, 1, true}};

		write_header(T_IN, i % SECTORS);
		memcpy(guest_ptr(&d.guest, headers + 16 * i, 16), guest_ptr(&d.guest, header, 16),
		       16);
		ring_offer(r, ring_indirect(r, b, 3));
	}
	driver_kick(&d, 0);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		ck_assert(ring_take(r, &u) && u.len == BLK_SECTOR + 1);
	ck_assert(all_bytes(guest_ptr(&d.guest, statuses, VIRTQUEUE_MAX), VIRTQUEUE_MAX, S_OK));
	ck_assert(!memcmp(guest_data(), disk.bytes, DISK));
}
END_TEST

/* Random reads and writes against a model. */
START_TEST(random_requests)
{
	static uint8_t model[DISK];
	uint32_t seed = 3;

	memcpy(model, disk.bytes, DISK);
	driver_start(&d, VIRTIO_F_EVENT_IDX, 1, 16);
	for (unsigned int i = 0; i < 5000; i++) {
		uint32_t sector = next_random(&seed) % (SECTORS + 2);
		uint32_t n = next_random(&seed) % 10, bytes = n * BLK_SECTOR;
		bool write = next_random(&seed) & 1, good = n && sector + n <= SECTORS;
		uint8_t s;

		fill_pattern(guest_data(), bytes, i);
		s = request(write ? T_OUT : T_IN, sector, bytes, NULL);
		ck_that(s == (good ? S_OK : S_IOERR));
		if (good && write)
			memcpy(model + sector * BLK_SECTOR, guest_data(), bytes);
		if (good && !write)
			ck_that(!memcmp(model + sector * BLK_SECTOR, guest_data(), bytes));
	}
	ck_assert(!memcmp(model, disk.bytes, DISK));
}
END_TEST

/* --- requests that are refused, each completed with a status --- */

START_TEST(out_of_range)
{
	static const struct {
		uint64_t sector;
		uint32_t bytes;
	} bad[] = {
		{SECTORS, BLK_SECTOR},
		{SECTORS - 1, 2 * BLK_SECTOR},
		{0, DISK + BLK_SECTOR},
		{UINT64_MAX, BLK_SECTOR},
		{UINT64_MAX / BLK_SECTOR, BLK_SECTOR},
		{UINT64_MAX / BLK_SECTOR + 1, BLK_SECTOR}, /* 0, if multiplied in 64 bits */
		{1ull << 32, BLK_SECTOR},		   /* 0, in 32 bits */
		{1ull << 63, BLK_SECTOR},
	};

	driver_start(&d, 0, 1, 8);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t len;

		ck_assert_uint_eq(request(T_IN, bad[i].sector, bad[i].bytes, &len), S_IOERR);
		ck_assert_uint_eq(len, 1);
		ck_assert_uint_eq(request(T_OUT, bad[i].sector, bad[i].bytes, &len), S_IOERR);
	}
	ck_assert_uint_eq(disk.reads + disk.writes, 0);
}
END_TEST

START_TEST(not_whole_sectors)
{
	static const uint32_t bad[] = {1, 16, 511, 513, 1023};

	driver_start(&d, 0, 1, 8);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_uint_eq(request(T_IN, 0, bad[i], NULL), S_IOERR);
		ck_assert_uint_eq(request(T_OUT, 0, bad[i], NULL), S_IOERR);
	}
	ck_assert_uint_eq(request(T_IN, 0, 0, NULL), S_IOERR);
	ck_assert_uint_eq(request(T_OUT, 0, 0, NULL), S_IOERR);
	ck_assert_uint_eq(disk.reads + disk.writes, 0);
}
END_TEST

/* A sum of buffers that is 512 in 32 bits is not in 64. */
START_TEST(length_that_wraps)
{
	struct buffer b[] = {{header, 16, false},
			     {0, 1u << 31, true},
			     {0, 1u << 31, true},
			     {data, BLK_SECTOR, true},
			     {status, 1, true}};

	guest_free(&d.guest);
	ck_ok(mem_init(&d.guest.mem, 2ull << 30, &e));
	driver_start(&d, 0, 1, 8);
	write_header(T_IN, 0);
	ck_assert_uint_eq(serve(b, 5, NULL), S_IOERR);
	ck_assert_uint_eq(disk.reads, 0);
}
END_TEST

START_TEST(unknown_types)
{
	static const uint32_t unknown[] = {2, 3, 5, 7, 9, 11, 13, 14, 255, 1u << 31, UINT32_MAX};

	driver_start(&d, 0, 1, 8);
	for (unsigned int i = 0; i < ARRAY_SIZE(unknown); i++) {
		ck_assert_uint_eq(request(unknown[i], 0, BLK_SECTOR, NULL), S_UNSUPP);
		ck_assert_uint_eq(request(unknown[i], 0, 0, NULL), S_UNSUPP);
	}
}
END_TEST

START_TEST(read_only)
{
	disk.backend.read_only = true;
	teardown();
	device_init(&disk.backend);
	ck_assert(blk.dev.offered & F_RO);
	driver_start(&d, F_RO, 1, 8);
	ck_assert_uint_eq(request(T_OUT, 0, BLK_SECTOR, NULL), S_IOERR);
	ck_assert_uint_eq(disk.writes, 0);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, NULL), S_OK);
}
END_TEST

START_TEST(backend_errors)
{
	uint32_t len;

	driver_start(&d, 0, 1, 8);
	disk.fail = -EIO;
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, &len), S_IOERR);
	ck_assert_uint_eq(len, 1); /* no data to look at */
	ck_assert_uint_eq(request(T_OUT, 0, BLK_SECTOR, &len), S_IOERR);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, &len), S_IOERR);
	disk.fail = 0;
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, &len), S_OK);
}
END_TEST

/* The wrong direction: a read's data is readable, a write's writable. */
START_TEST(wrong_direction)
{
	struct buffer in[] = {{header, 16, false}, {data, BLK_SECTOR, false}, {status, 1, true}};
	struct buffer out[] = {{header, 16, false}, {data, BLK_SECTOR, true}, {status, 1, true}};

	driver_start(&d, 0, 1, 8);
	write_header(T_IN, 0);
	ck_assert_uint_eq(serve(in, 3, NULL), S_IOERR);
	write_header(T_OUT, 0);
	ck_assert_uint_eq(serve(out, 3, NULL), S_IOERR);
	ck_assert_uint_eq(disk.reads + disk.writes, 0);
}
END_TEST

/* --- requests that cannot be answered: the device needs a reset, and works after it --- */

static void expect_failure(const struct buffer *b, unsigned int n)
{
	struct used_elem u;

	driver_start(&d, 0, 1, 8);
	write_header(T_IN, 0);
	ring_add(&d.ring[0], b, n);
	driver_kick(&d, 0);
	ck_assert(driver_sees_failure(&d));
	ck_assert(!ring_take(&d.ring[0], &u));
	driver_reset(&d);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	driver_reset(&d);
}

START_TEST(no_status_byte)
{
	expect_failure((struct buffer[]){{header, 16, false}}, 1);
	expect_failure((struct buffer[]){{header, 16, false}, {data, BLK_SECTOR, false}}, 2);
}
END_TEST

START_TEST(short_header)
{
	expect_failure((struct buffer[]){{header, 15, false}, {status, 1, true}}, 2);
	expect_failure((struct buffer[]){{header, 1, false}, {data, 512, true}, {status, 1, true}},
		       3);
	expect_failure((struct buffer[]){{data, 512, true}, {status, 1, true}}, 2);
}
END_TEST

START_TEST(malformed_chain)
{
	expect_failure((struct buffer[]){{header, 16, false}, {GUEST_MEMORY, 1, true}}, 2);
	expect_failure((struct buffer[]){{header, 16, true}, {status, 1, false}}, 2);
}
END_TEST

/* A reset between the doorbell and its service: the requests are forgotten. */
START_TEST(reset_before_service)
{
	struct buffer b[] = {{header, 16, false}, {data, BLK_SECTOR, true}, {status, 1, true}};
	struct used_elem u;

	driver_start(&d, 0, 1, 8);
	write_header(T_IN, 0);
	ring_add(&d.ring[0], b, 3);
	reg_write(&d, REG_QUEUE_NOTIFY, 0);
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_assert(!ring_take(&d.ring[0], &u));
	ck_assert_uint_eq(disk.reads, 0);
	ck_assert_uint_eq(status_byte(), S_UNTOUCHED);
}
END_TEST

static struct blk_backend empty;

/* --- discard and write zeroes (5.2.6.2) --- */

struct segment {
	uint64_t sector;
	uint32_t sectors, flags;
};

static uint8_t segments(uint32_t type, const struct segment *s, unsigned int n, uint32_t *len)
{
	memcpy(guest_data(), s, n * sizeof(*s));
	return request(type, 0, (uint32_t)(n * sizeof(*s)), len);
}

START_TEST(discards)
{
	const struct segment s[] = {{3, 2, 0}, {60, 4, 0}};
	uint32_t len;

	driver_start(&d, F_TRIM, 1, 8);
	ck_assert_uint_eq(segments(T_DISCARD, s, 2, &len), S_OK);
	ck_assert_uint_eq(len, 1);
	ck_assert_uint_eq(disk.discards, 2);
	ck_assert(all_bytes(disk.bytes + 3 * BLK_SECTOR, 2 * BLK_SECTOR, 0xdd));
	ck_assert(all_bytes(disk.bytes + 60 * BLK_SECTOR, 4 * BLK_SECTOR, 0xdd));
	ck_assert_int_ne(disk.bytes[5 * BLK_SECTOR + 7], 0xdd);
	ck_assert_uint_eq(blk.stats.discards, 1);
	ck_assert_uint_eq(blk.stats.discarded_bytes, 6 * BLK_SECTOR);
	ck_assert_uint_eq(blk.stats.zeroes + blk.stats.errors, 0);
}
END_TEST

START_TEST(writes_zeroes)
{
	driver_start(&d, F_TRIM, 1, 8);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){63, 1, 0}, 1, NULL), S_OK);
	ck_assert_uint_eq(disk.unmapped, 0);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){0, 9, 1}, 1, NULL), S_OK);
	ck_assert_uint_eq(disk.unmapped, 1);
	ck_assert(all_bytes(disk.bytes, 9 * BLK_SECTOR, 0));
	ck_assert(all_bytes(disk.bytes + 63 * BLK_SECTOR, BLK_SECTOR, 0));
	ck_assert(!all_bytes(disk.bytes + 9 * BLK_SECTOR, 54 * BLK_SECTOR, 0));
	ck_assert_uint_eq(blk.stats.zeroes, 2);
	ck_assert_uint_eq(blk.stats.zeroed_bytes, 10 * BLK_SECTOR);
}
END_TEST

/* Each is refused as a whole, a good segment before a bad one included. */
START_TEST(bad_segments)
{
	static const struct {
		uint32_t type;
		struct segment s;
		uint8_t status;
	} bad[] = {
		{T_DISCARD, {SECTORS, 1, 0}, S_IOERR},
		{T_DISCARD, {SECTORS - 1, 2, 0}, S_IOERR},
		{T_DISCARD, {0, SECTORS + 1, 0}, S_IOERR},
		{T_DISCARD, {UINT64_MAX, 1, 0}, S_IOERR},
		{T_DISCARD, {UINT64_MAX, UINT32_MAX, 0}, S_IOERR},
		{T_DISCARD, {1ull << 55, 1, 0}, S_IOERR},		/* times 512: 0 */
		{T_DISCARD, {UINT64_MAX - 7, 8 + SECTORS, 0}, S_IOERR}, /* their sum: SECTORS */
		{T_DISCARD, {0, 0, 0}, S_IOERR},
		{T_DISCARD, {0, 1u << 23, 0}, S_IOERR}, /* times 512: 0 in 32 bits */
		{T_DISCARD, {0, 1, 1}, S_UNSUPP},
		{T_DISCARD, {0, 1, 2}, S_UNSUPP},
		{T_DISCARD, {0, 1, 1u << 31}, S_UNSUPP},
		{T_ZEROES, {SECTORS, 1, 1}, S_IOERR},
		{T_ZEROES, {0, SECTORS + 1, 0}, S_IOERR},
		{T_ZEROES, {UINT64_MAX, 1, 0}, S_IOERR},
		{T_ZEROES, {0, 0, 1}, S_IOERR},
		{T_ZEROES, {0, 1, 2}, S_UNSUPP},
		{T_ZEROES, {0, 1, 3}, S_UNSUPP},
	};
	static struct segment many[BLK_SEGMENTS + 1];

	driver_start(&d, F_TRIM, 1, 8);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct segment two[] = {{1, 1, 0}, bad[i].s};

		ck_that(segments(bad[i].type, &bad[i].s, 1, NULL) == bad[i].status);
		if (bad[i].type == T_DISCARD)
			ck_that(segments(T_DISCARD, two, 2, NULL) == bad[i].status);
	}
	for (unsigned int i = 0; i <= BLK_SEGMENTS; i++)
		many[i] = (struct segment){i, 1, 0};
	ck_assert_uint_eq(segments(T_DISCARD, many, BLK_SEGMENTS + 1, NULL), S_IOERR);
	ck_assert_uint_eq(segments(T_ZEROES, many, 2, NULL),
			  S_IOERR); /* more than max_write_zeroes_seg */
	for (uint32_t len = 0; len < 64; len++)
		if (len % 16)
			ck_that(request(T_DISCARD, 0, len, NULL) == S_IOERR);
	ck_assert_uint_eq(request(T_DISCARD, 0, 0, NULL), S_IOERR);
	ck_assert_uint_eq(request(T_DISCARD, 0, DISK, NULL), S_IOERR);
	ck_assert_uint_eq(disk.discards + disk.zeroes, 0);
	ck_assert_uint_eq(segments(T_DISCARD, many, BLK_SEGMENTS, NULL), S_OK);
	ck_assert_uint_eq(disk.discards, BLK_SEGMENTS);
}
END_TEST

/* A disk that is larger than what a request may ask for. */
START_TEST(segments_of_most_sectors)
{
	disk.backend.size = 1ull << 50;
	disk.fail = -ENOSPC;
	ck_ok(virtio_blk_set_backend(&blk, &(struct blk_backend){.size = 0, .read = disk_read},
				     &e));
	disk.backend.discard = NULL;
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	driver_start(&d, F_TRIM, 1, 8);
	ck_assert_uint_eq(
		segments(T_DISCARD, &(struct segment){0, BLK_DISCARD_MAX + 1, 0}, 1, NULL),
		S_IOERR);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){0, BLK_ZEROES_MAX + 1, 0}, 1, NULL),
			  S_IOERR);
	/* This back end cannot, whatever was offered. */
	ck_assert_uint_eq(segments(T_DISCARD, &(struct segment){0, BLK_DISCARD_MAX, 0}, 1, NULL),
			  S_UNSUPP);
}
END_TEST

START_TEST(segments_in_the_wrong_direction)
{
	struct buffer b[] = {{header, 16, false}, {data, 16, true}, {status, 1, true}};

	driver_start(&d, F_TRIM, 1, 8);
	for (unsigned int i = 0; i < 2; i++) {
		memcpy(guest_data(), &(struct segment){0, 1, 0}, 16);
		write_header(i ? T_ZEROES : T_DISCARD, 0);
		ck_assert_uint_eq(serve(b, 3, NULL), S_IOERR);
	}
	ck_assert_uint_eq(disk.discards + disk.zeroes, 0);
}
END_TEST

START_TEST(discard_errors)
{
	driver_start(&d, F_TRIM, 1, 8);
	disk.fail = -EOPNOTSUPP;
	ck_assert_uint_eq(segments(T_DISCARD, &(struct segment){0, 1, 0}, 1, NULL), S_UNSUPP);
	disk.fail = -EIO;
	ck_assert_uint_eq(segments(T_DISCARD, &(struct segment){0, 1, 0}, 1, NULL), S_IOERR);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){0, 1, 0}, 1, NULL), S_IOERR);
	ck_assert_uint_eq(blk.stats.errors, 3);
}
END_TEST

/* What was not negotiated is no request (5.2.6.2), and a read-only disk does not offer it. */
START_TEST(discard_not_offered)
{
	driver_start(&d, F_FLUSH, 1, 8);
	ck_assert_uint_eq(segments(T_DISCARD, &(struct segment){0, 1, 0}, 1, NULL), S_UNSUPP);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){0, 1, 0}, 1, NULL), S_UNSUPP);
	disk.backend.read_only = true;
	teardown();
	device_init(&disk.backend);
	ck_assert(!(blk.dev.offered & F_TRIM));
	driver_start(&d, F_RO, 1, 8);
	ck_assert_uint_eq(segments(T_DISCARD, &(struct segment){0, 1, 0}, 1, NULL), S_UNSUPP);
	ck_assert_uint_eq(disk.discards + disk.zeroes, 0);
}
END_TEST

/* --- several queues --- */

START_TEST(several_queues)
{
	struct used_elem u;

	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 32) >> 16, 1);
	ck_assert(!(blk.dev.offered & F_MQ));
	virtio_blk_set_queues(&blk, 3);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + 32) >> 16, 3);
	ck_assert(blk.dev.offered & F_MQ);
	for (unsigned int i = 0; i < 8; i++) {
		reg_write(&d, REG_QUEUE_SEL, i);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), i < 3 ? VIRTQUEUE_MAX : 0);
	}
	driver_start(&d, F_MQ, 3, 8);
	/* One request in each, and one doorbell. */
	for (unsigned int i = 0; i < 3; i++) {
		struct buffer b[] = {{header, 16, false},
				     {data + i * BLK_SECTOR, BLK_SECTOR, true},
				     {status + i, 1, true}};

		write_header(T_IN, 7);
		ring_add(&d.ring[i], b, 3);
	}
	driver_kick(&d, 0);
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert(ring_take(&d.ring[i], &u) && u.len == BLK_SECTOR + 1);
		ck_assert(!ring_take(&d.ring[i], &u));
		ck_assert(!memcmp(guest_data() + i * BLK_SECTOR, disk.bytes + 7 * BLK_SECTOR,
				  BLK_SECTOR));
	}
	/* A driver that uses one of them only, and a broken one in another. */
	driver_reset(&d);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	driver_reset(&d);
	driver_start(&d, F_MQ, 3, 8);
	ring_add(&d.ring[2], &(struct buffer){status, 1, true}, 1);
	driver_kick(&d, 2);
	ck_assert(driver_sees_failure(&d));
}
END_TEST

/* --- limits --- */

/* Adds reads of one sector without a doorbell. */
static void add_reads(unsigned int n)
{
	struct buffer b[] = {{header, 16, false}, {data, BLK_SECTOR, true}, {status, 1, true}};

	write_header(T_IN, 0);
	for (unsigned int i = 0; i < n; i++)
		ring_add(&d.ring[0], b, 3);
}

static unsigned int take_all(void)
{
	struct used_elem u;
	unsigned int n = 0;

	while (ring_take(&d.ring[0], &u))
		n++;
	return n;
}

/* One a second, so what comes now is the burst, and the third comes by the timer. */
/* A disk of a TiB, which counts what it is asked for. */
static uint64_t huge_bytes;

static int huge_read(struct blk_backend *b, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	(void)b, (void)offset;
	huge_bytes += iov_length(iov, n);
	return 0;
}

/* All of the guest's memory again and again: a round ends all the same. */
START_TEST(huge_requests)
{
	const uint32_t all = GUEST_MEMORY;
	struct blk_backend huge = {.read = huge_read, .size = 1ull << 40};
	struct buffer b[VIRTQUEUE_MAX];
	struct used_elem u;
	uint16_t small, large;

	teardown();
	huge_bytes = 0;
	device_init(&huge);
	driver_start(&d, 0, 1, VIRTQUEUE_MAX);
	write_header(T_IN, 0);
	b[0] = (struct buffer){header, 16, false};
	for (unsigned int i = 1; i < 66; i++)
		b[i] = (struct buffer){0, all, true};
	b[65] = (struct buffer){status, 1, true};
	large = ring_chain(&d.ring[0], b, 66); /* 256 MiB */
	b[9] = b[65];
	small = ring_chain(&d.ring[0], b, 10); /* 32 MiB */
	ring_offer(&d.ring[0], large);
	for (unsigned int i = 0; i < 9; i++)
		ring_offer(&d.ring[0], small);
	reg_write(&d, REG_QUEUE_NOTIFY, 0);
	loop_turn(&d.loop);
	ck_assert_uint_eq(huge_bytes, 64 * all);
	ck_assert_uint_eq(status_byte(), S_OK);
	for (unsigned int i = 1; i <= 4; i++) {
		loop_turn(&d.loop);
		ck_assert_uint_eq(huge_bytes, 64 * all + i * BLK_ROUND);
	}
	loop_settle(&d.loop);
	for (unsigned int i = 0; i < 10; i++)
		ck_that(ring_take(&d.ring[0], &u));
	b[9] = b[1];
	b[65] = (struct buffer){0, BLK_SECTOR, true};
	b[66] = (struct buffer){status, 1, true};
	ck_assert_uint_eq(serve(b, 67, NULL), S_IOERR);
	ck_assert_uint_eq(huge_bytes, (64 + 9 * 8) * (uint64_t)all);
}
END_TEST

START_TEST(requests_are_limited)
{
	const struct blk_limits limits = {.iops = 1, .iops_burst = 2};

	ck_ok(virtio_blk_set_limits(&blk, &limits, &e));
	driver_start(&d, 0, 1, 64);
	add_reads(3);
	driver_kick(&d, 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 2);
	driver_kick(&d, 0); /* a doorbell lets nobody in */
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 2);
	while (ring_used_index(&d.ring[0]) < 3)
		loop_turn(&d.loop);
	ck_assert_uint_eq(take_all(), 3);
	/* Requests that are refused count, too. */
	ck_ok(virtio_blk_set_limits(&blk, &limits, &e));
	for (unsigned int i = 0; i < 2; i++)
		ck_assert_uint_eq(request(T_IN, SECTORS, BLK_SECTOR, NULL), S_IOERR);
	add_reads(1);
	driver_kick(&d, 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 5);
	/* A reset forgets what waits, and not what was used up. */
	driver_reset(&d);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 0);
}
END_TEST

/* A request of more than the burst gets through, and what follows waits for all of it. */
START_TEST(bytes_are_limited)
{
	ck_ok(virtio_blk_set_limits(&blk, &(struct blk_limits){.bps = 1, .bps_burst = 600}, &e));
	driver_start(&d, F_TRIM, 1, 64);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, NULL), S_OK);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(segments(T_ZEROES, &(struct segment){0, 4, 0}, 1, NULL), S_OK);
	add_reads(1);
	driver_kick(&d, 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 3);
	ck_assert_uint_eq(disk.reads, 1);
}
END_TEST

/* --- requests beside each other --- */

#define MANY (BLK_IN_FLIGHT + 8)

/* A back end that keeps what it takes until the test lets it end. */
static struct slow_disk {
	unsigned int opened, goes, count, begun, alone; /* count: on their way */
	unsigned int may_end;
	int event;
	bool refuse_open, refuse;
	struct blk_io *io[BLK_IN_FLIGHT];
} slow;

static int slow_open(struct blk_backend *b)
{
	(void)b;
	slow.opened++;
	return slow.refuse_open ? -ENOSYS : slow.event;
}

static bool slow_begin(struct blk_backend *b, struct blk_io *io)
{
	ck_that(b == &disk.backend && io->len == (io->op == BLK_FLUSH ? 0 : BLK_SECTOR));
	if (slow.refuse)
		return false;
	ck_that(slow.count < BLK_IN_FLIGHT);
	slow.io[slow.count++] = io;
	slow.begun++;
	slow.alone += io->alone;
	return true;
}

static void slow_go(struct blk_backend *b)
{
	(void)b;
	slow.goes++;
}

/* Ends the i-th of those on their way. */
static void slow_end(unsigned int i, int result)
{
	struct blk_io *io = slow.io[i];

	if (io->op == BLK_READ && !result)
		disk_read(&disk.backend, io->iov, io->n, io->offset);
	slow.io[i] = slow.io[--slow.count];
	io->done(io, result);
}

static void slow_reap(struct blk_backend *b, bool wait)
{
	(void)b;
	while (slow.count && (wait || slow.may_end)) {
		slow.may_end -= !wait;
		slow_end(slow.count - 1, 0);
	}
}

static void let_one_end(void)
{
	slow.may_end = 1;
	event_post(slow.event);
	loop_settle(&d.loop);
}

static const struct blk_async slow_async = {
	.open = slow_open, .begin = slow_begin, .go = slow_go, .reap = slow_reap};

static void slow_setup(void)
{
	setup();
	slow = (struct slow_disk){0};
	ck_ok(slow.event = event_new(&e));
	disk.backend.async = &slow_async;
	driver_start(&d, VIRTIO_F_INDIRECT_DESC, 1, 256);
}

static void slow_teardown(void)
{
	teardown();
	close(slow.event);
}

/* Requests of one sector each, the i-th with its own header, data and status. */
static uint64_t headers, statuses;

static void add_many(uint32_t type, unsigned int n)
{
	headers = guest_alloc(&d.guest, 16 * n);
	statuses = guest_alloc(&d.guest, n);
	memset(guest_ptr(&d.guest, statuses, n), S_UNTOUCHED, n);
	for (unsigned int i = 0; i < n; i++) {
		struct buffer b[] = {{headers + 16 * i, 16, false},
				     {data + i % SECTORS * BLK_SECTOR, BLK_SECTOR, type == T_IN},
				     {statuses + i, 1, true}};

		write_header(type, i % SECTORS);
		memcpy(guest_ptr(&d.guest, headers + 16 * i, 16), guest_ptr(&d.guest, header, 16),
		       16);
		if (type == T_FLUSH)
			b[1] = b[2];
		ring_offer(&d.ring[0], ring_indirect(&d.ring[0], b, type == T_FLUSH ? 2 : 3));
	}
}

static unsigned int statuses_of(unsigned int n, uint8_t value)
{
	const uint8_t *s = guest_ptr(&d.guest, statuses, n);
	unsigned int count = 0;

	for (unsigned int i = 0; i < n; i++)
		count += s[i] == value;
	return count;
}

/* Who comes alone is served at once. */
START_TEST(alone_at_once)
{
	for (unsigned int i = 0; i < 10; i++)
		ck_assert_uint_eq(request(T_IN, i, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(slow.opened, 0);
	ck_assert_uint_eq(disk.reads, 10);
}
END_TEST

START_TEST(beside_each_other)
{
	memset(guest_data(), 0, DISK);
	add_many(T_IN, MANY);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.opened, 1);
	ck_assert_uint_eq(slow.count, BLK_IN_FLIGHT);
	ck_assert_uint_gt(slow.goes, 0);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 0);
	/* One ends, and the next is begun in its place. */
	let_one_end();
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 1);
	ck_assert_uint_eq(slow.begun, BLK_IN_FLIGHT + 1);
	while (slow.count)
		let_one_end();
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), MANY);
	ck_assert_uint_eq(statuses_of(MANY, S_OK), MANY);
	ck_assert(!memcmp(guest_data(), disk.bytes, MANY * BLK_SECTOR));
	ck_assert_uint_eq(blk.stats.reads, MANY);
	ck_assert_uint_eq(slow.alone, 0);
}
END_TEST

/* Back ends hear of who comes alone, once there may be several: not the first of two, nor the second. */
START_TEST(told_who_is_alone)
{
	add_many(T_IN, 2);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 2);
	ck_assert_uint_eq(slow.alone, 0);
	let_one_end();
	add_many(T_OUT, 1); /* beside the other */
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.alone, 0);
	while (slow.count)
		let_one_end();
	add_many(T_OUT, 1);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.alone, 1);
	let_one_end();
}
END_TEST

/* Each answer goes to its own request, in whichever order; errors too. */
START_TEST(in_any_order)
{
	struct used_elem u;

	add_many(T_OUT, 3);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 3);
	virtio_enter(&blk.dev);
	slow_end(1, -EIO);
	slow_end(0, 0);
	virtio_leave(&blk.dev);
	ck_assert(ring_take(&d.ring[0], &u) && ring_take(&d.ring[0], &u));
	ck_assert_uint_eq(statuses_of(3, S_IOERR), 1);
	ck_assert_uint_eq(*(uint8_t *)guest_ptr(&d.guest, statuses + 1, 1), S_IOERR);
	ck_assert_uint_eq(*(uint8_t *)guest_ptr(&d.guest, statuses, 1), S_OK);
	ck_assert_uint_eq(statuses_of(3, S_UNTOUCHED), 1);
	ck_assert_uint_eq(blk.stats.errors, 1);
	add_many(T_FLUSH, 2);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 3);
}
END_TEST

/* A reset gives the driver its memory back: nothing is written to it after. */
START_TEST(reset_waits)
{
	add_many(T_IN, 5);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 5);
	driver_reset(&d);
	ck_assert_uint_eq(slow.count, 0);
	ck_assert_uint_eq(statuses_of(5, S_OK), 5);
	memset(guest_data(), 0x11, DISK);
	driver_start(&d, 0, 1, 8);
	ck_assert(all_bytes(guest_data(), DISK, 0x11));
	add_reads(2);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 2); /* no place was lost */
	ck_assert_uint_eq(slow.opened, 1);
}
END_TEST

/* A driver that takes its queue away, or breaks a rule, while requests are on their way. */
START_TEST(queue_gone_meanwhile)
{
	add_many(T_IN, 4);
	driver_kick(&d, 0);
	reg_write(&d, REG_QUEUE_SEL, 0);
	reg_write(&d, REG_QUEUE_READY, 0);
	virtio_blk_drain(&blk);
	ck_assert_uint_eq(statuses_of(4, S_UNTOUCHED), 4);
	ck_assert_uint_eq(ring_used_index(&d.ring[0]), 0);
	driver_reset(&d);
	driver_start(&d, VIRTIO_F_INDIRECT_DESC, 1, 64);
	add_many(T_IN, 4);
	ring_add(&d.ring[0], &(struct buffer){status, 1, true}, 1);
	driver_kick(&d, 0);
	ck_assert(driver_sees_failure(&d));
	event_post(slow.event);
	loop_settle(&d.loop);
	virtio_blk_drain(&blk);
	ck_assert_uint_eq(slow.count, 0);
	driver_reset(&d);
	for (unsigned int i = 0; i < 2; i++) { /* with all places there */
		driver_start(&d, VIRTIO_F_INDIRECT_DESC, 1, 64);
		add_many(T_IN, BLK_IN_FLIGHT);
		driver_kick(&d, 0);
		ck_assert_uint_eq(slow.count, BLK_IN_FLIGHT);
		driver_reset(&d);
	}
}
END_TEST

START_TEST(backend_changes_meanwhile)
{
	add_many(T_IN, 4);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.count, 4);
	blk_backend_empty(&empty, false);
	ck_ok(virtio_blk_set_backend(&blk, &empty, &e));
	ck_assert_uint_eq(slow.count, 0);
	ck_assert_uint_eq(statuses_of(4, S_OK), 4);
	event_post(slow.event);
	loop_settle(&d.loop);
	ck_assert_uint_eq(take_all(), 4);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_IOERR);
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	add_many(T_IN, 4);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.opened, 2);
	event_take(slow.event);
}
END_TEST

/* A back end that cannot after all: all is done one after the other. */
START_TEST(nothing_beside)
{
	slow.refuse_open = true;
	add_many(T_IN, MANY);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.opened, 1);
	ck_assert_uint_eq(statuses_of(MANY, S_OK), MANY);
	driver_reset(&d);
	driver_start(&d, VIRTIO_F_INDIRECT_DESC, 1, 64);
	add_many(T_OUT, 3);
	driver_kick(&d, 0);
	ck_assert_uint_eq(slow.opened, 1); /* not asked again */
	ck_assert_uint_eq(statuses_of(3, S_OK), 3);
}
END_TEST

/* It takes some and not others. */
START_TEST(some_beside)
{
	slow.refuse = true;
	add_many(T_IN, MANY);
	driver_kick(&d, 0);
	ck_assert_uint_eq(statuses_of(MANY, S_OK), MANY);
	ck_assert_uint_eq(disk.reads, MANY);
	ck_assert_uint_eq(slow.begun, 0);
}
END_TEST

/* --- another back end --- */

static void placeholder_init(bool ro)
{
	teardown();
	blk_backend_empty(&empty, ro);
	device_init(&empty);
	driver_start(&d, 0, 1, 8);
	event_count(d.irq.fd);
}

static uint64_t capacity(void)
{
	return reg_read(&d, REG_CONFIG) | (uint64_t)reg_read(&d, REG_CONFIG + 4) << 32;
}

START_TEST(placeholder_without_disk)
{
	uint32_t len;

	placeholder_init(false);
	ck_assert_uint_eq(capacity(), 0);
	ck_assert(!(blk.dev.offered & F_RO));
	for (uint64_t sector = 0; sector < 2; sector++) {
		ck_assert_uint_eq(request(T_IN, sector, BLK_SECTOR, &len), S_IOERR);
		ck_assert_uint_eq(len, 1);
		ck_assert_uint_eq(request(T_OUT, sector, BLK_SECTOR, &len), S_IOERR);
	}
	ck_assert_uint_eq(request(T_IN, 0, 0, NULL), S_IOERR);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, NULL), S_OK);
	ck_assert_uint_eq(request(T_GET_ID, 0, 20, NULL), S_OK);
	ck_assert(!virtio_failed(&blk.dev));
	placeholder_init(true);
	ck_assert(blk.dev.offered & F_RO);
}
END_TEST

START_TEST(placeholder_gets_a_disk)
{
	placeholder_init(false);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_IOERR);
	reg_write(&d, REG_INTERRUPT_ACK, 3);
	event_count(d.irq.fd);
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 1);
	ck_assert_uint_eq(capacity(), SECTORS);
	ck_assert_uint_eq(request(T_IN, 0, DISK, NULL), S_OK);
	ck_assert(!memcmp(guest_data(), disk.bytes, DISK));
	ck_assert_uint_eq(request(T_OUT, SECTORS - 1, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, NULL), S_OK);
	ck_assert_uint_eq(disk.flushes, 1);
	/* And loses it again. */
	ck_ok(virtio_blk_set_backend(&blk, &empty, &e));
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 2);
	ck_assert_uint_eq(capacity(), 0);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_IOERR);
	ck_assert_uint_eq(disk.reads, 1);
}
END_TEST

/* A capacity of more than 32 bits is whole in both halves. */
START_TEST(large_capacity)
{
	placeholder_init(false);
	disk.backend.size = (0x100000000ull + 7) * BLK_SECTOR;
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	ck_assert_uint_eq(capacity(), 0x100000007ull);
}
END_TEST

/* What a live fork does: another back end for the same disk, of which the driver sees nothing. */
START_TEST(same_capacity)
{
	struct blk_backend other = disk.backend;

	other.read = NULL;
	teardown();
	device_init(&other);
	driver_start(&d, 0, 1, 8);
	event_count(d.irq.fd);
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	ck_assert_uint_eq(event_count(d.irq.fd), 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 0);
	ck_assert_uint_eq(request(T_IN, 1, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(disk.reads, 1);
}
END_TEST

/* The feature bit was fixed when the driver accepted it. */
START_TEST(read_only_stays_as_declared)
{
	placeholder_init(false);
	disk.backend.read_only = true;
	ck_refused(virtio_blk_set_backend(&blk, &disk.backend, &e), EROFS, "read-only");
	ck_assert_uint_eq(capacity(), 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 0);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_IOERR);
	ck_assert_uint_eq(disk.reads, 0);
	/* A disk that was declared read-only is not written to, even where that could be done. */
	placeholder_init(true);
	disk.backend.read_only = false;
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(request(T_OUT, 0, BLK_SECTOR, NULL), S_IOERR);
	ck_assert_uint_eq(disk.writes, 0);
	disk.backend.read_only = true;
	ck_ok(virtio_blk_set_backend(&blk, &disk.backend, &e));
}
END_TEST

/* --- the file back end --- */

/* The kernel may move less than it is asked for, and be interrupted. */
static size_t at_most = SIZE_MAX;
static unsigned int interruptions;

static ssize_t move(bool in, int fd, const struct iovec *iov, int n, off_t offset)
{
	struct iovec part[VIRTQUEUE_MAX];
	ssize_t done = 0;

	if (interruptions) {
		interruptions--;
		errno = EINTR;
		return -1;
	}
	n = (int)iov_slice(iov, (unsigned int)n, 0, at_most, part);
	for (int i = 0; i < n; i++) {
		ssize_t r = in ? pread(fd, part[i].iov_base, part[i].iov_len, offset + done)
			       : pwrite(fd, part[i].iov_base, part[i].iov_len, offset + done);

		if (r < 0)
			return r;
		done += r;
	}
	return done;
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
	return move(true, fd, iov, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return move(false, fd, iov, n, offset);
}

/* Ways that the file system does not have: bits of fallocate's mode. */
static int impossible;

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (mode & impossible) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

/* A block device that discards, instead of a file. */
static struct {
	bool there;
	int error;
	uint64_t offset, len;
} block;

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	uint64_t *range;

	va_start(ap, request);
	range = va_arg(ap, uint64_t *);
	va_end(ap);
	if (request != BLKDISCARD || !block.there)
		return (int)syscall(SYS_ioctl, fd, request, range);
	block.offset = range[0];
	block.len = range[1];
	errno = block.error;
	return block.error ? -1 : 0;
}

static struct blk_file file;

START_TEST(block_device_discards)
{
	struct blk_backend *b = &file.backend;

	ck_ok(blk_file_open(&file, tmp_file("image", disk.bytes, DISK), false, &e));
	block.there = true;
	ck_assert_int_eq(b->discard(b, 4096, 8192), 0);
	ck_assert_uint_eq(block.offset, 4096);
	ck_assert_uint_eq(block.len, 8192);
	block.error = EOPNOTSUPP;
	ck_assert_int_eq(b->discard(b, 0, 512), -EOPNOTSUPP);
	block.error = EIO;
	ck_assert_int_eq(b->discard(b, 0, 512), -EIO);
	ck_assert(!memcmp(file_text(tmp_path("image"), NULL), disk.bytes, DISK));
	blk_file_close(&file);
}
END_TEST

/* Zeros come in one of three ways, a discard in one. */
START_TEST(file_zeros)
{
	static const int without[] = {0, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE,
				      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE};
	struct blk_backend *b = &file.backend;
	struct stat st;

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(without); i++) {
		static uint8_t big[1 << 20], want[1 << 20];
		const char *path;

		fill_pattern(big, sizeof(big), i);
		memcpy(want, big, sizeof(want));
		path = tmp_file("image", big, sizeof(big));
		impossible = without[i / 2];
		ck_ok(blk_file_open(&file, path, false, &e));
		ck_assert_int_eq(b->zero(b, 512, 700 * 1024, i % 2), 0);
		memset(want + 512, 0, 700 * 1024);
		ck_assert_int_eq(b->zero(b, sizeof(big) - 512, 512, i % 2), 0);
		memset(want + sizeof(want) - 512, 0, 512);
		ck_assert(!memcmp(file_text(path, NULL), want, sizeof(want)));
		if (impossible & FALLOC_FL_PUNCH_HOLE) {
			ck_assert_int_eq(b->discard(b, 0, 8192), -EOPNOTSUPP);
		} else {
			ck_assert_int_eq(b->discard(b, 0, sizeof(big)), 0);
			ck_assert(all_bytes(file_text(path, NULL), sizeof(big), 0));
		}
		ck_assert(!stat(path, &st));
		ck_assert_int_eq(st.st_size, sizeof(big));
		file.backend.read_only = true;
		ck_assert_int_eq(b->discard(b, 0, 512), -EROFS);
		ck_assert_int_eq(b->zero(b, 0, 512, true), -EROFS);
		blk_file_close(&file);
	}
}
END_TEST

START_TEST(file_in_a_device)
{
	const char *path = tmp_file("image", disk.bytes, DISK);

	teardown();
	ck_ok(blk_file_open(&file, path, false, &e));
	ck_assert_uint_eq(file.backend.size, DISK);
	device_init(&file.backend);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(request(T_IN, 3, 5 * BLK_SECTOR, NULL), S_OK);
	ck_assert(!memcmp(guest_data(), disk.bytes + 3 * BLK_SECTOR, 5 * BLK_SECTOR));
	fill_pattern(guest_data(), BLK_SECTOR, 9);
	ck_assert_uint_eq(request(T_OUT, SECTORS - 1, BLK_SECTOR, NULL), S_OK);
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, NULL), S_OK);
	memcpy(disk.bytes + DISK - BLK_SECTOR, guest_data(), BLK_SECTOR);
	ck_assert(!memcmp(file_text(path, NULL), disk.bytes, DISK));
	/* Somebody cuts the file off below the device. */
	ck_assert(!truncate(path, BLK_SECTOR));
	ck_assert_uint_eq(request(T_IN, 0, 2 * BLK_SECTOR, NULL), S_IOERR);
	ck_assert_uint_eq(request(T_IN, 0, BLK_SECTOR, NULL), S_OK);
	blk_file_close(&file);
}
END_TEST

/* However little the kernel moves in one call, every byte comes to its place. */
START_TEST(file_moves_in_pieces)
{
	static uint8_t out[4 * BLK_SECTOR], in[4 * BLK_SECTOR];
	const char *path = tmp_file("image", disk.bytes, DISK);
	struct iovec from[] = {{out, 100}, {out + 100, 1}, {out + 101, 923}, {out + 1024, 1024}};
	struct iovec to[] = {{in, 1}, {in + 1, 1500}, {in + 1501, 546}, {in + 2047, 1}};

	ck_ok(blk_file_open(&file, path, false, &e));
	for (at_most = 1; at_most <= sizeof(in); at_most += at_most < 40 ? 1 : 97) {
		fill_pattern(out, sizeof(out), (uint32_t)at_most);
		memset(in, 0, sizeof(in));
		interruptions = at_most % 3;
		ck_assert_int_eq(file.backend.write(&file.backend, from, 4, BLK_SECTOR), 0);
		interruptions = at_most % 2;
		ck_assert_int_eq(file.backend.read(&file.backend, to, 4, BLK_SECTOR), 0);
		ck_assert(!memcmp(in, out, sizeof(in)));
	}
	blk_file_close(&file);
}
END_TEST

START_TEST(file_locks)
{
	const char *path = tmp_file("image", disk.bytes, DISK);
	struct blk_file other;

	ck_ok(blk_file_open(&file, path, false, &e));
	ck_refused(blk_file_open(&other, path, false, &e), EBUSY, "in use by another VM");
	ck_refused(blk_file_open(&other, path, true, &e), EBUSY, "in use by another VM");
	blk_file_close(&file);
	ck_ok(blk_file_open(&file, path, true, &e));
	ck_ok(blk_file_open(&other, path, true, &e)); /* readers share */
	blk_file_close(&other);
	ck_refused(blk_file_open(&other, path, false, &e), EBUSY, "in use by another VM");
	blk_file_close(&file);
	ck_ok(blk_file_open(&file, path, false, &e));
	blk_file_close(&file);
}
END_TEST

START_TEST(file_sizes)
{
	ck_refused(blk_file_open(&file, tmp_file("empty", "", 0), false, &e), EINVAL, "empty");
	ck_refused(blk_file_open(&file, tmp_file("small", disk.bytes, 511), false, &e), EINVAL,
		   "smaller than a sector");
	ck_ok(blk_file_open(&file, tmp_file("one", disk.bytes, 512), false, &e));
	ck_assert_uint_eq(file.backend.size, 512);
	blk_file_close(&file);
	ck_ok(blk_file_open(&file, tmp_file("odd", disk.bytes, 1535), true, &e));
	ck_assert_uint_eq(file.backend.size, 1024);
	ck_assert(file.backend.read_only);
	blk_file_close(&file);
}
END_TEST

START_TEST(files_that_are_none)
{
	unsigned int fds = open_fds();

	ck_refused(blk_file_open(&file, tmp_path("nothing"), false, &e), ENOENT, "nothing");
	ck_refused(blk_file_open(&file, tmp, true, &e), EINVAL, "neither");
	ck_refused(blk_file_open(&file, tmp, false, &e), EISDIR, tmp);
	ck_refused(blk_file_open(&file, "/dev/null", false, &e), EINVAL, "/dev/null");
	ck_assert(!mkfifo(tmp_path("fifo"), 0600));
	ck_refused(blk_file_open(&file, tmp_path("fifo"), true, &e), EINVAL, "neither");
	ck_refused(blk_file_open(&file, "", true, &e), ENOENT, "disk");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* An open descriptor is the back end's from then on, whatever comes of it. */
START_TEST(file_from_a_descriptor)
{
	const char *path = tmp_file("image", disk.bytes, DISK);
	struct blk_file other;
	struct iovec iov = {guest_data(), BLK_SECTOR};
	unsigned int fds = open_fds();

	ck_ok(blk_file_open_fd(&file, open(path, O_RDWR | O_CLOEXEC), false, "sda", &e));
	ck_assert_uint_eq(file.backend.size, DISK);
	ck_assert(!file.backend.read_only);
	ck_assert_int_eq(file.backend.read(&file.backend, &iov, 1, BLK_SECTOR), 0);
	ck_assert(!memcmp(guest_data(), disk.bytes + BLK_SECTOR, BLK_SECTOR));
	ck_refused(blk_file_open_fd(&other, open(path, O_RDONLY | O_CLOEXEC), true, "sda", &e),
		   EBUSY, "disk sda: in use by another VM for writing");
	ck_refused(blk_file_open_fd(&other, open(tmp, O_RDONLY | O_CLOEXEC), true, "sda", &e),
		   EINVAL, "disk sda: neither");
	ck_assert_uint_eq(open_fds(), fds + 1);
	blk_file_close(&file);
	ck_refused(blk_file_open_fd(&other, open(path, O_RDONLY | O_CLOEXEC), false, "sda", &e),
		   EBADF, "disk sda");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

static void file_setup(void)
{
	tmp_setup();
	setup();
}

static void file_teardown(void)
{
	teardown();
	tmp_teardown();
}

int main(void)
{
	const TTest *const device[] = {
		configuration,
		reads,
		writes,
		flush,
		get_id,
		longest_serial_number,
		any_layout,
		status_shares_the_last_buffer,
		header_shares_the_data_buffer,
		as_many_segments_as_offered,
		queue_full_of_requests,
		random_requests,
		out_of_range,
		not_whole_sectors,
		length_that_wraps,
		unknown_types,
		read_only,
		backend_errors,
		wrong_direction,
		no_status_byte,
		short_header,
		malformed_chain,
		reset_before_service,
		discards,
		writes_zeroes,
		bad_segments,
		segments_of_most_sectors,
		segments_in_the_wrong_direction,
		discard_errors,
		discard_not_offered,
		several_queues,
		requests_are_limited,	huge_requests,
		bytes_are_limited,
		placeholder_without_disk,
		placeholder_gets_a_disk,
		large_capacity,
		same_capacity,
		read_only_stays_as_declared,
	};
	const TTest *const beside[] = {
		alone_at_once,	      beside_each_other, told_who_is_alone, in_any_order, reset_waits,
		queue_gone_meanwhile, nothing_beside,	 some_beside,  backend_changes_meanwhile,
	};
	const TTest *const files[] = {
		file_in_a_device,    file_moves_in_pieces,   file_locks,
		file_zeros,	     block_device_discards,  file_sizes,
		files_that_are_none, file_from_a_descriptor,
	};
	const struct test_group groups[] = {
		{device, ARRAY_SIZE(device), setup, teardown},
		{beside, ARRAY_SIZE(beside), slow_setup, slow_teardown},
		{files, ARRAY_SIZE(files), file_setup, file_teardown},
	};

	return run_groups("virtio_blk", groups, ARRAY_SIZE(groups));
}
