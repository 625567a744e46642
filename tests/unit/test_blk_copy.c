/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of disks. The system calls that a kernel or a file system may do in part, or not at all,
 * are this program's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/blk_copy.h"
#include "devices/blk_file.h"
#include "devices/blk_overlay.h"
#include "tests/unit/util.h"

#define KIB	 1024u
#define MIB	 (1024u * KIB)
#define BIG	 (3 * MIB + 1536)
#define NO_LIMIT SIZE_MAX

static struct err e;

/* --- what the kernel does --- */

static bool clones;		     /* the file system has them */
static bool no_seek;		     /* SEEK_DATA and SEEK_HOLE are not known */
static int no_range;		     /* errno of copy_file_range from now on */
static size_t range_most = NO_LIMIT; /* that it moves in one call */
static unsigned int range_good;	     /* calls before no_range counts */
static bool range_ends;		     /* it says that the file has ended */
static size_t space = NO_LIMIT;	     /* bytes until the disk is full */
static unsigned int ranges, interruptions;
static size_t written; /* by pwritev */

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	int from;

	va_start(ap, request);
	from = va_arg(ap, int);
	va_end(ap);
	ck_that(request == FICLONE);
	if (clones) {
		const char *text;
		char link[64];
		size_t len;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", from);
		text = file_text(link, &len);
		ck_that(pwrite(fd, text, len, 0) == (ssize_t)len);
		return 0;
	}
	errno = EOPNOTSUPP;
	return -1;
}

off_t lseek(int fd, off_t offset, int whence)
{
	if (no_seek && (whence == SEEK_DATA || whence == SEEK_HOLE)) {
		errno = EINVAL;
		return -1;
	}
	return syscall(SYS_lseek, fd, offset, whence);
}

ssize_t copy_file_range(int from, off_t *in, int to, off_t *out, size_t len, unsigned int flags)
{
	ssize_t n;

	ranges++;
	errno = EINTR;
	if (interruptions && interruptions--)
		return -1;
	errno = space ? no_range : ENOSPC;
	if (!space || (no_range && ranges > range_good))
		return -1;
	if (range_ends)
		return 0;
	n = syscall(SYS_copy_file_range, from, in, to, out, MIN(MIN(len, range_most), space),
		    flags);
	if (n > 0 && space != NO_LIMIT)
		space -= (size_t)n;
	return n;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	size_t len = MIN(iov->iov_len, space);
	ssize_t done;

	if (n > 1) /* the test itself, to a layer */
		return syscall(SYS_pwritev, fd, iov, n, offset, 0);
	errno = ENOSPC;
	if (!len)
		return -1;
	done = pwrite(fd, iov->iov_base, len, offset);
	if (done > 0 && space != NO_LIMIT)
		space -= (size_t)done;
	written += (size_t)done;
	return done;
}

/* --- files --- */

static uint8_t content[BIG];

static int open_target(void)
{
	int fd;

	unlink(tmp_path("copy"));
	fd = open(tmp_path("copy"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_that(fd >= 0);
	return fd;
}

static uint64_t disk_use(int fd)
{
	struct stat st;

	ck_that(!fstat(fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* A file of content[0..size), with holes where that is zero, or with zeros written there. */
static int make_source(size_t size, bool holes)
{
	const size_t piece = 4 * KIB;
	int fd = open(tmp_path("source"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_that(fd >= 0 && !ftruncate(fd, (off_t)size));
	for (size_t at = 0; at < size; at += piece) {
		size_t len = MIN(piece, size - at);

		if (!holes || !all_bytes(content + at, len, 0))
			ck_that(pwrite(fd, content + at, len, (off_t)at) == (ssize_t)len);
	}
	return fd;
}

/* Data of 8 KiB at several places, the last of it in the last, short block; zeros between. */
static void make_content(void)
{
	static const size_t at[] = {0, 64 * KIB, 252 * KIB, 260 * KIB, MIB, BIG - 8 * KIB};

	memset(content, 0, sizeof(content));
	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++)
		fill_pattern(content + at[i], 8 * KIB, i + 1);
}

#define DATA_BYTES (6 * 8 * KIB)

static void check_copy(size_t size)
{
	size_t len;
	const char *text = file_text(tmp_path("copy"), &len);

	ck_that(len == size);
	ck_that(!memcmp(text, content, size));
}

/* Copies and compares. Returns the bytes that the copy takes on the disk. */
static uint64_t copy(size_t size, bool holes)
{
	int from = make_source(size, holes), to = open_target();
	uint64_t use;

	ranges = 0;
	written = 0;
	ck_ok(blk_copy_file(from, to, &e));
	check_copy(size);
	use = disk_use(to);
	close(from);
	close(to);
	return use;
}

/* --- files --- */

START_TEST(holes_by_the_kernel)
{
	make_content();
	ck_assert_uint_le(copy(BIG, true), DATA_BYTES + 64 * KIB);
	ck_assert_uint_ge(ranges, 4);
	ck_assert_uint_eq(written, 0);
}
END_TEST

START_TEST(holes_by_hand)
{
	make_content();
	no_range = EXDEV;
	ck_assert_uint_le(copy(BIG, true), DATA_BYTES + 64 * KIB);
	ck_assert_uint_le(written, DATA_BYTES + 6 * 4 * KIB);
}
END_TEST

START_TEST(zeros_are_not_written)
{
	make_content();
	no_range = EXDEV;
	ck_assert_uint_le(copy(BIG, false), DATA_BYTES + 64 * KIB);
	ck_assert_uint_le(written, DATA_BYTES + 6 * 4 * KIB);
}
END_TEST

START_TEST(file_system_without_seek)
{
	make_content();
	no_seek = true;
	copy(BIG, true);
	ck_assert_uint_eq(ranges, 1);
	no_range = EINVAL;
	ck_assert_uint_le(copy(BIG, true), DATA_BYTES + 64 * KIB);
	ck_assert_uint_le(written, DATA_BYTES + 6 * 4 * KIB);
}
END_TEST

START_TEST(file_system_with_clones)
{
	make_content();
	clones = true;
	copy(BIG, true);
	ck_assert_uint_eq(ranges, 0);
	ck_assert_uint_eq(written, 0);
}
END_TEST

START_TEST(all_sizes)
{
	static const size_t sizes[] = {0,
				       1,
				       511,
				       512,
				       4095,
				       4096,
				       4097,
				       256 * KIB - 1,
				       256 * KIB,
				       256 * KIB + 1,
				       512 * KIB + 4097};

	fill_pattern(content, BIG, 7);
	for (unsigned int by_hand = 0; by_hand < 2; by_hand++) {
		no_range = by_hand ? ENOSYS : 0;
		for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
			copy(sizes[i], true);
			ck_that(written == (by_hand ? sizes[i] : 0));
		}
	}
	/* Nothing but a hole. */
	memset(content, 0, BIG);
	ck_assert_uint_eq(copy(BIG, true), 0);
	ck_assert_uint_eq(ranges, 0);
}
END_TEST

/* The kernel moves what it likes, is interrupted, and gives up in the middle. */
START_TEST(kernel_copies_in_pieces)
{
	fill_pattern(content, BIG, 8);
	range_most = 100001;
	interruptions = 3;
	copy(BIG, true);
	ck_assert_uint_eq(ranges, 3 + (BIG + 100000) / 100001);
	ck_assert_uint_eq(written, 0);
	no_range = EXDEV;
	range_good = 5;
	copy(BIG, true);
	ck_assert_uint_eq(written, BIG - 5 * 100001);
	no_range = 0;
	range_ends = true; /* as a file system says that cannot do it */
	copy(BIG, true);
	ck_assert_uint_eq(written, BIG);
}
END_TEST

START_TEST(disk_full)
{
	fill_pattern(content, BIG, 9);
	for (unsigned int by_hand = 0; by_hand < 2; by_hand++) {
		int from = make_source(BIG, true), to = open_target();

		no_range = by_hand ? EXDEV : 0;
		space = MIB + 100;
		ck_refused(blk_copy_file(from, to, &e), ENOSPC,
			   "cannot copy it: No space left on device");
		close(from);
		close(to);
	}
}
END_TEST

START_TEST(larger_than_a_file_may_be)
{
	struct rlimit limit = {MIB, RLIM_INFINITY};
	int from, to = open_target();

	fill_pattern(content, BIG, 9);
	from = make_source(BIG, true);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	ck_refused(blk_copy_file(from, to, &e), EFBIG, "cannot copy it: File too large");
	close(from);
	close(to);
}
END_TEST

START_TEST(not_two_files)
{
	int from, to = open_target(), full, dir = open(tmp, O_RDONLY | O_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), write_only, read_only;

	fill_pattern(content, BIG, 9);
	from = make_source(BIG, true);
	full = open(tmp_file("full", "x", 1), O_RDWR | O_CLOEXEC);
	read_only = open(tmp_file("empty", "", 0), O_RDONLY | O_CLOEXEC);
	write_only = open(tmp_path("source"), O_WRONLY | O_CLOEXEC);
	ck_refused(blk_copy_file(from, full, &e), EINVAL, "the target is not an empty file");
	ck_assert_str_eq(file_text(tmp_path("full"), NULL), "x");
	ck_refused(blk_copy_file(from, null, &e), EINVAL, "the target is not an empty file");
	ck_refused(blk_copy_file(null, to, &e), EINVAL, "neither a regular file nor");
	ck_refused(blk_copy_file(dir, to, &e), EINVAL, "neither a regular file nor");
	ck_refused(blk_copy_file(-1, to, &e), EBADF, "cannot copy it");
	ck_refused(blk_copy_file(from, -1, &e), EBADF, "cannot copy it");
	ck_refused(blk_copy_file(from, read_only, &e), EINVAL, "cannot copy it");
	ck_refused(blk_copy_file(write_only, to, &e), EBADF, "cannot copy it");
	close(from), close(to), close(full), close(dir), close(null);
	close(read_only), close(write_only);
}
END_TEST

/* --- back ends --- */

static int shrunk_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		       uint64_t offset)
{
	(void)b, (void)n;
	memset(iov->iov_base, 1, iov->iov_len);
	return offset ? -EIO : 0;
}

START_TEST(chain_made_flat)
{
	static struct blk_overlay layer;
	struct blk_file base;
	struct iovec iov = {content + MIB - 1536, 12 * KIB};
	int fd, to = open_target();

	make_content();
	close(make_source(BIG, true));
	ck_ok(blk_file_open(&base, tmp_path("source"), true, &e));
	ck_ok(fd = blk_overlay_create(tmp_dir, "layer", BIG, &e));
	ck_ok(blk_overlay_open(&layer, fd, false, &base.backend, "layer", &e));
	fill_pattern(iov.iov_base, iov.iov_len, 20);
	ck_assert(!layer.backend.write(&layer.backend, &iov, 1, MIB - 1536));
	/* Zeros in the layer hide what is below. */
	iov.iov_base = memset(content + 64 * KIB, 0, 8 * KIB);
	iov.iov_len = 8 * KIB;
	ck_assert(!layer.backend.write(&layer.backend, &iov, 1, 64 * KIB));
	ck_ok(blk_copy_backend(&layer.backend, to, &e));
	check_copy(BIG);
	ck_assert_uint_le(disk_use(to), DATA_BYTES + 64 * KIB);
	ck_refused(blk_copy_backend(&layer.backend, to, &e), EINVAL, "not an empty file");
	close(to);
	to = open_target();
	space = 20 * KIB;
	ck_refused(blk_copy_backend(&layer.backend, to, &e), ENOSPC,
		   "cannot copy it: No space");
	blk_overlay_close(&layer);
	blk_file_close(&base);
	close(to);
}
END_TEST

/* The image is as long as the disk, whatever is at its end. */
START_TEST(zeros_at_the_end)
{
	struct blk_file base;
	int to = open_target();

	memset(content, 0, BIG);
	content[5000] = 1;
	close(make_source(BIG, true));
	ck_ok(blk_file_open(&base, tmp_path("source"), true, &e));
	ck_ok(blk_copy_backend(&base.backend, to, &e));
	check_copy(BIG);
	ck_assert_uint_le(disk_use(to), 8 * KIB);
	blk_file_close(&base);
	close(to);
}
END_TEST

START_TEST(back_end_that_fails)
{
	struct blk_backend b = {.read = shrunk_read, .size = BIG};
	int to = open_target();

	ck_refused(blk_copy_backend(&b, to, &e), EIO, "cannot copy it: Input/output error");
	close(to);
	to = open_target();
	blk_backend_empty(&b, true);
	ck_ok(blk_copy_backend(&b, to, &e));
	check_copy(0);
	close(to);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		holes_by_the_kernel,	   holes_by_hand,
		zeros_are_not_written,	   file_system_without_seek,
		file_system_with_clones,   all_sizes,
		kernel_copies_in_pieces,   disk_full,
		larger_than_a_file_may_be, not_two_files,
		chain_made_flat,	   zeros_at_the_end,
		back_end_that_fails,
	};

	return run_tests("blk_copy", tests, ARRAY_SIZE(tests), tmp_setup, tmp_teardown);
}
