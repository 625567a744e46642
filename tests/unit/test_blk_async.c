/* SPDX-License-Identifier: Apache-2.0
 *
 * The file back end over a ring of the test's own, which does as much of each transfer as the test
 * wants: what the kernel does with the real one (test_uring.c) cannot be had to order.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/blk_file.h"
#include "tests/unit/util.h"

#define DISK 65536u

static struct err e;

/* --- the ring --- */

static struct fake {
	struct uring_transfer t[BLK_IN_FLIGHT];
	unsigned int n, taken, submitted;
	int refuse;		/* to open: errno */
	unsigned int unwilling; /* how many of the last are not submitted */
	size_t at_most;		/* bytes of each that are moved */
	int result;		/* instead */
	uint64_t moved;		/* bytes, by the ring */
} fake;

int uring_open(struct uring *u, unsigned int entries, struct err *why)
{
	if (fake.refuse)
		return err_set(why, fake.refuse, "refused");
	*u = (struct uring){.fd = open("/dev/null", O_RDWR | O_CLOEXEC), .entries = entries};
	u->event = u->fd;
	return 0;
}

void uring_close(struct uring *u)
{
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}

bool uring_queue(struct uring *u, const struct uring_transfer *t)
{
	if (fake.n == u->entries)
		return false;
	fake.t[fake.n++] = *t;
	return true;
}

unsigned int uring_submit(struct uring *u)
{
	unsigned int left = MIN(fake.unwilling, fake.n - fake.submitted);

	fake.n -= left;
	u->in_flight += fake.n - fake.submitted;
	fake.submitted = fake.n;
	return left;
}

void *uring_take(struct uring *u, int32_t *result)
{
	struct uring_transfer *t = &fake.t[fake.taken];
	struct iovec part[VIRTQUEUE_MAX];
	unsigned int n;

	if (fake.taken == fake.submitted)
		return NULL;
	fake.taken++;
	u->in_flight--;
	*result = fake.result;
	if (fake.result < 0 || t->op == URING_SYNC)
		return t->who;
	n = iov_slice(t->iov, t->n, 0, fake.at_most, part);
	*result = (int32_t)syscall(t->op == URING_READ ? SYS_preadv : SYS_pwritev, t->fd, part, n,
				   t->offset, 0);
	fake.moved += (uint64_t)*result;
	return t->who;
}

void uring_wait(struct uring *u)
{
	(void)u;
	ck_abort_msg("everything has ended");
}

/* --- what is done at once --- */

static uint64_t direct_bytes;
static unsigned int syncs;

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
	ssize_t r = syscall(SYS_preadv, fd, iov, n, offset, 0);

	direct_bytes += (uint64_t)MAX(r, 0);
	return r;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	ssize_t r = syscall(SYS_pwritev, fd, iov, n, offset, 0);

	direct_bytes += (uint64_t)MAX(r, 0);
	return r;
}

int fdatasync(int fd)
{
	(void)fd;
	syncs++;
	return 0;
}

/* --- requests --- */

static struct blk_file file;
static uint8_t bytes[DISK], model[DISK];
static unsigned int ended;
static int last_result;

static void done(struct blk_io *io, int result)
{
	(void)io;
	ended++;
	last_result = result;
}

static void setup(void)
{
	tmp_setup();
	fake = (struct fake){0};
	fill_pattern(model, DISK, 1);
	ck_ok(blk_file_open(&file, tmp_file("disk", model, DISK), false, &e));
	ck_assert(file.backend.async);
	ck_ok(file.backend.async->open(&file.backend));
	ck_ok(file.backend.async->open(&file.backend)); /* again: the same */
}

static void teardown(void)
{
	blk_file_close(&file);
	blk_file_close(&file); /* again: nothing */
	tmp_teardown();
}

/* One of 10000 bytes at 4096 in pieces; the disk is of bytes here. Returns its result. */
static int transfer(enum blk_op op)
{
	struct iovec iov[] = {
		{bytes, 1}, {bytes + 1, 4095}, {bytes + 4096, 5000}, {bytes + 9096, 904}};
	struct blk_io io = {
		.op = op, .iov = iov, .n = 4, .offset = 4096, .len = 10000, .done = done};

	fake.n = fake.taken = fake.submitted = 0;
	fake.moved = direct_bytes = 0;
	ended = 0;
	ck_that(file.backend.async->begin(&file.backend, &io));
	ck_that(!ended);
	file.backend.async->go(&file.backend);
	file.backend.async->reap(&file.backend, true);
	ck_that(ended == 1 && !file.ring.in_flight && !file.begun_count);
	return last_result;
}

static void check_disk(void)
{
	size_t len;
	const char *text = file_text(tmp_path("disk"), &len);

	ck_that(len == DISK && !memcmp(text, model, DISK));
}

/* Wherever the kernel stops, each byte is moved once, to its place. */
START_TEST(in_parts)
{
	static const size_t most[] = {1,    2,	  511,	512,  4095,  4096, 4097,
				      9095, 9096, 9097, 9999, 10000, 20000};

	for (unsigned int i = 0; i < ARRAY_SIZE(most); i++) {
		fake.at_most = most[i];
		fill_pattern(bytes, 10000, i + 2);
		memcpy(model + 4096, bytes, 10000);
		ck_that(transfer(BLK_WRITE) == 0);
		ck_that(fake.moved == MIN(most[i], 10000u));
		ck_that(fake.moved + direct_bytes == 10000);
		check_disk();
		memset(bytes, 0, sizeof(bytes));
		ck_that(transfer(BLK_READ) == 0);
		ck_that(fake.moved + direct_bytes == 10000);
		ck_that(!memcmp(bytes, model + 4096, 10000));
	}
}
END_TEST

START_TEST(passing_errors)
{
	static const int again[] = {-EAGAIN, -EINTR, -ECANCELED};

	for (unsigned int i = 0; i < ARRAY_SIZE(again); i++) {
		fake.result = again[i];
		fill_pattern(bytes, 10000, i + 7);
		memcpy(model + 4096, bytes, 10000);
		ck_assert_int_eq(transfer(BLK_WRITE), 0);
		ck_assert_uint_eq(direct_bytes, 10000);
		check_disk();
		ck_assert_int_eq(transfer(BLK_FLUSH), 0);
		ck_assert_uint_eq(syncs, i + 1);
	}
}
END_TEST

START_TEST(lasting_errors)
{
	fake.result = -EIO;
	ck_assert_int_eq(transfer(BLK_WRITE), -EIO);
	ck_assert_int_eq(transfer(BLK_READ), -EIO);
	ck_assert_int_eq(transfer(BLK_FLUSH), -EIO);
	ck_assert_uint_eq(direct_bytes + syncs, 0);
	check_disk();
	/* The file has become shorter: what is not there is an error, and no zeros. */
	fake.result = 0;
	fake.at_most = SIZE_MAX;
	ck_assert(!truncate(tmp_path("disk"), 8192));
	ck_assert_int_eq(transfer(BLK_READ), -EIO);
	ck_assert(!truncate(tmp_path("disk"), 0));
	ck_assert_int_eq(transfer(BLK_READ), -EIO);
}
END_TEST

/* What the kernel does not take is done here, and the rest is not. */
START_TEST(unwilling)
{
	struct iovec iov[4] = {
		{bytes, 512}, {bytes + 512, 512}, {bytes + 1024, 512}, {bytes + 1536, 512}};
	struct blk_io io[4];

	fake.at_most = SIZE_MAX;
	fake.unwilling = 2;
	fill_pattern(bytes, 2048, 3);
	memcpy(model, bytes, 2048);
	direct_bytes = 0;
	for (unsigned int i = 0; i < 4; i++) {
		io[i] = (struct blk_io){.op = BLK_WRITE,
					.iov = &iov[i],
					.n = 1,
					.offset = 512 * i,
					.len = 512,
					.done = done};
		ck_assert(file.backend.async->begin(&file.backend, &io[i]));
	}
	file.backend.async->go(&file.backend);
	ck_assert_uint_eq(ended, 2);
	ck_assert_uint_eq(direct_bytes, 1024);
	file.backend.async->reap(&file.backend, true);
	ck_assert_uint_eq(ended, 4);
	ck_assert_uint_eq(direct_bytes, 1024);
	check_disk();
}
END_TEST

/* A write that has nothing beside it is the caller's to do: the kernel would start a thread for it. */
START_TEST(alone)
{
	struct iovec iov = {bytes, 512};
	struct blk_io io = {.op = BLK_WRITE, .iov = &iov, .n = 1, .len = 512, .alone = true, .done = done};

	ck_assert(!file.backend.async->begin(&file.backend, &io));
	ck_assert_uint_eq(ended, 0);
	io.op = BLK_FLUSH;
	io.len = 0;
	ck_assert(file.backend.async->begin(&file.backend, &io));
	file.backend.async->go(&file.backend);
	file.backend.async->reap(&file.backend, true);
	ck_assert_uint_eq(ended, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {in_parts, passing_errors, lasting_errors, unwilling, alone};

	return run_tests("blk_async", tests, ARRAY_SIZE(tests), setup, teardown);
}
