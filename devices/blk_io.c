/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/blk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Linux numbers these the same everywhere; musl shows them only with _GNU_SOURCE. */
#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

typedef ssize_t (*vector_io)(int fd, const struct iovec *iov, int n, off_t offset);

/* One call, again when interrupted. Returns the bytes moved, more than 0, or -errno. */
static ssize_t move_some(int fd, vector_io io, const struct iovec *iov, unsigned int n,
			 uint64_t offset)
{
	ssize_t done;

	do
		done = io(fd, iov, (int)n, (off_t)offset);
	while (done < 0 && errno == EINTR);
	if (done == 0)
		return -EIO; /* the file has become shorter than it was */
	return done < 0 ? -errno : done;
}

/* Moves all of the iovecs, however the kernel splits them. Where it stops inside a buffer, that one
 * is finished by itself, from a copy: the iovecs stay as they are.
 */
static int transfer(int fd, vector_io io, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	while (n) {
		ssize_t done = move_some(fd, io, iov, n, offset);

		if (done < 0)
			return (int)done;
		offset += (uint64_t)done;
		for (; n && (size_t)done >= iov->iov_len; iov++, n--)
			done -= (ssize_t)iov->iov_len;
		if (!n || !done)
			continue;
		for (size_t at = (size_t)done; at < iov->iov_len; at += (size_t)done) {
			struct iovec rest = {(char *)iov->iov_base + at, iov->iov_len - at};

			done = move_some(fd, io, &rest, 1, offset);
			if (done < 0)
				return (int)done;
			offset += (uint64_t)done;
		}
		iov++;
		n--;
	}
	return 0;
}

int blk_io_read(int fd, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	return transfer(fd, preadv, iov, n, offset);
}

int blk_io_write(int fd, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	return transfer(fd, pwritev, iov, n, offset);
}

int blk_io_sync(int fd)
{
	int r;

	do
		r = fdatasync(fd);
	while (r && errno == EINTR);
	return r ? -errno : 0;
}

static int allocate(int fd, int mode, uint64_t offset, uint64_t len)
{
	int r;

	do
		r = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	while (r && errno == EINTR);
	return !r ? 0 : errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int blk_io_discard(int fd, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = {offset, len};

	if (ioctl(fd, BLKDISCARD, range) == 0)
		return 0;
	/* What file systems say to a request that is not for them. */
	return errno == ENOTTY || errno == EINVAL || errno == ENOSYS
		       ? allocate(fd, FALLOC_FL_PUNCH_HOLE, offset, len)
		       : -errno;
}

int blk_io_zero(int fd, uint64_t offset, uint64_t len, bool unmap)
{
	int r = unmap ? allocate(fd, FALLOC_FL_PUNCH_HOLE, offset, len) : -EOPNOTSUPP;

	/* Of a block device this is what BLKZEROOUT does, as far as the device does it itself. */
	return r == -EOPNOTSUPP ? allocate(fd, FALLOC_FL_ZERO_RANGE, offset, len) : r;
}

int blk_io_lock(int fd, bool read_only, const char *name, struct err *e)
{
	struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, EBUSY, "disk %s: in use by another VM%s; end that first", name,
			       read_only ? " for writing" : "");
	/* A file system without locks: go on, as without this safety net. */
	return errno == EINVAL || errno == ENOLCK || errno == ENOTSUP
		       ? 0
		       : err_sys(e, "disk %s: cannot lock", name);
}
