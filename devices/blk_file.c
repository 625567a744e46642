/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
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

static int file_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset)
{
	return transfer(CONTAINER_OF(b, struct blk_file, backend)->fd, preadv, iov, n, offset);
}

static int file_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		      uint64_t offset)
{
	return transfer(CONTAINER_OF(b, struct blk_file, backend)->fd, pwritev, iov, n, offset);
}

static int file_flush(struct blk_backend *b)
{
	return fdatasync(CONTAINER_OF(b, struct blk_file, backend)->fd) ? -errno : 0;
}

static int check(struct blk_file *f, const char *path, struct err *e)
{
	struct flock lock = {.l_type = f->backend.read_only ? F_RDLCK : F_WRLCK,
			     .l_whence = SEEK_SET};
	struct stat st;
	off_t size;

	if (fstat(f->fd, &st))
		return err_sys(e, "disk %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "disk %s: neither a regular file nor a block device",
			       path);
	size = lseek(f->fd, 0, SEEK_END);
	if (size < 0)
		return err_sys(e, "disk %s", path);
	if (size < (off_t)BLK_SECTOR)
		return err_set(e, EINVAL, "disk %s: %s", path,
			       size ? "smaller than a sector" : "the file is empty");
	f->backend.size = (uint64_t)size & ~(uint64_t)(BLK_SECTOR - 1);
	if (fcntl(f->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, EBUSY, "disk %s: in use by another VM%s", path,
			       f->backend.read_only ? " for writing"
						    : " (share it by adding ',ro' to each)");
	/* A file system without locks: go on, as without this safety net. */
	return errno == EINVAL || errno == ENOLCK || errno == ENOTSUP
		       ? 0
		       : err_sys(e, "disk %s: cannot lock", path);
}

int blk_file_open(struct blk_file *f, const char *path, bool read_only, struct err *e)
{
	int r;

	*f = (struct blk_file){.backend = {.read = file_read,
					   .write = file_write,
					   .flush = file_flush,
					   .read_only = read_only}};
	f->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_sys(e, "cannot open disk %s", path);
	r = check(f, path, e);
	if (r)
		blk_file_close(f);
	return r;
}

void blk_file_close(struct blk_file *f)
{
	close(f->fd);
	f->fd = -1;
}
