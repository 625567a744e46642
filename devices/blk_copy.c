/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/blk_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_io.h"

#define BUFFER (256u << 10) /* bytes in one read */
#define GRAIN  4096u	    /* zeros are looked for in pieces of this: what a hole is made of */

typedef int (*reader)(void *from, void *buf, size_t len, uint64_t offset);

static int cannot_copy(int r, struct err *e)
{
	if (!r)
		return 0;
	err_set(e, -r, "cannot copy it: %s", strerror(-r));
	if (r == -ENOSPC || r == -EDQUOT)
		err_append(e, "; free some of the file system that the copy goes to, or choose another");
	return r;
}

/* --- without holes or help from the kernel --- */

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && !memcmp(p, p + 1, len - 1);
}

/* The end of the grains from `at` on that are all zero, or all not. */
static size_t grains_end(const uint8_t *buf, size_t at, size_t len, bool zero)
{
	while (at < len && all_zero(buf + at, MIN(GRAIN, len - at)) == zero)
		at += MIN(GRAIN, len - at);
	return at;
}

/* Writes a buffer, except for its zeros, into a file that has a hole there. */
static int write_sparse(int to, uint8_t *buf, size_t len, uint64_t offset)
{
	size_t at = grains_end(buf, 0, len, true), end;

	for (; at < len; at = grains_end(buf, end, len, true)) {
		struct iovec iov = {buf + at, 0};
		int r;

		end = grains_end(buf, at, len, false);
		iov.iov_len = end - at;
		r = blk_io_write(to, &iov, 1, offset + at);
		if (r)
			return r;
	}
	return 0;
}

/* Copies [at, end) through a buffer. */
static int copy_through(reader read, void *from, int to, uint64_t at, uint64_t end)
{
	uint8_t *buf = aligned_alloc(GRAIN, BUFFER); /* as a file that is read directly wants it */
	int r = buf ? 0 : -ENOMEM;

	for (; !r && at < end; at += MIN(BUFFER, end - at)) {
		size_t len = MIN(BUFFER, end - at);

		r = read(from, buf, len, at);
		if (!r)
			r = write_sparse(to, buf, len, at);
	}
	free(buf);
	return r;
}

static int read_fd(void *from, void *buf, size_t len, uint64_t offset)
{
	struct iovec iov = {buf, len};

	return blk_io_read(*(int *)from, &iov, 1, offset);
}

static int read_backend(void *from, void *buf, size_t len, uint64_t offset)
{
	struct blk_backend *b = from;
	struct iovec iov = {buf, len};

	return b->read(b, &iov, 1, offset);
}

/* --- extents --- */

/* Copies [at, end), which is data, inside the kernel as far as that can be done. */
static int copy_extent(int from, int to, uint64_t at, uint64_t end)
{
	while (at < end) {
		off_t in = (off_t)at, out = (off_t)at;
		ssize_t n = copy_file_range(from, &in, to, &out, end - at, 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* A device, two file systems, an old kernel; if it is the disk that is full, the
		 * next write says so. 0 is the end of the file, or a file system that cannot.
		 */
		if (n <= 0)
			return copy_through(read_fd, &from, to, at, end);
		at += (uint64_t)n;
	}
	return 0;
}

static int copy_extents(int from, int to, uint64_t size)
{
	off_t end = (off_t)size, hole;
	int r = 0;

	for (off_t at = 0; !r && at < end; at = hole) {
		off_t data = lseek(from, at, SEEK_DATA);

		if ((data < 0 && errno == ENXIO) || data >= end)
			break;	      /* a hole up to the end */
		data = MAX(data, at); /* -1: a device or file system that cannot tell */
		hole = lseek(from, data, SEEK_HOLE);
		if (hole <= data || hole > end)
			hole = end;
		r = copy_extent(from, to, (uint64_t)data, (uint64_t)hole);
	}
	return r;
}

/* --- disks --- */

static int check_target(int to, struct err *e)
{
	struct stat st;

	if (fstat(to, &st))
		return err_sys(e, "cannot copy it");
	if (!S_ISREG(st.st_mode) || st.st_size)
		return err_set(e, EINVAL, "cannot copy it: the target is not an empty file");
	return 0;
}

/* Sets *size, in bytes. */
static int check_source(int from, uint64_t *size, struct err *e)
{
	struct stat st;
	off_t end;

	if (fstat(from, &st))
		return err_sys(e, "cannot copy it");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "cannot copy it: neither a regular file nor a block device");
	end = lseek(from, 0, SEEK_END);
	if (end < 0)
		return err_sys(e, "cannot copy it");
	*size = (uint64_t)end;
	return 0;
}

int blk_copy_file(int from, int to, struct err *e)
{
	uint64_t size = 0;
	int r = check_source(from, &size, e);

	if (!r)
		r = check_target(to, e);
	if (r || ioctl(to, FICLONE, from) == 0)
		return r;
	if (ftruncate(to, (off_t)size))
		return cannot_copy(-errno, e);
	return cannot_copy(copy_extents(from, to, size), e);
}

int blk_copy_backend(struct blk_backend *b, int to, struct err *e)
{
	int r = check_target(to, e);

	if (r)
		return r;
	if (ftruncate(to, (off_t)b->size))
		return cannot_copy(-errno, e);
	return cannot_copy(copy_through(read_backend, b, to, 0, b->size), e);
}
