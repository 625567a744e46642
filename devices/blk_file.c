/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_io.h"

static int file_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset)
{
	return blk_io_read(CONTAINER_OF(b, struct blk_file, backend)->fd, iov, n, offset);
}

static int file_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		      uint64_t offset)
{
	if (b->read_only)
		return -EROFS; /* the descriptor of a frozen one could */
	return blk_io_write(CONTAINER_OF(b, struct blk_file, backend)->fd, iov, n, offset);
}

static int file_flush(struct blk_backend *b)
{
	return blk_io_sync(CONTAINER_OF(b, struct blk_file, backend)->fd);
}

static int check(struct blk_file *f, const char *name, struct err *e)
{
	struct stat st;
	off_t size;
	int r;

	if (fstat(f->fd, &st))
		return err_sys(e, "disk %s", name);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "disk %s: neither a regular file nor a block device",
			       name);
	size = lseek(f->fd, 0, SEEK_END);
	if (size < 0)
		return err_sys(e, "disk %s", name);
	if (size < (off_t)BLK_SECTOR)
		return err_set(e, EINVAL, "disk %s: %s", name,
			       size ? "smaller than a sector" : "the file is empty");
	f->backend.size = (uint64_t)size & ~(uint64_t)(BLK_SECTOR - 1);
	r = blk_io_lock(f->fd, f->backend.read_only, name, e);
	if (r == -EBUSY && !f->backend.read_only)
		return err_set(e, EBUSY,
			       "disk %s: in use by another VM (share it by adding ',ro' to each)",
			       name);
	return r;
}

int blk_file_open_fd(struct blk_file *f, int fd, bool read_only, const char *name, struct err *e)
{
	int r;

	*f = (struct blk_file){.backend = {.read = file_read,
					   .write = file_write,
					   .flush = file_flush,
					   .read_only = read_only},
			       .fd = fd};
	r = check(f, name, e);
	if (r)
		blk_file_close(f);
	return r;
}

int blk_file_open(struct blk_file *f, const char *path, bool read_only, struct err *e)
{
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		f->fd = -1;
		return err_sys(e, "cannot open disk %s", path);
	}
	return blk_file_open_fd(f, fd, read_only, path, e);
}

void blk_file_close(struct blk_file *f)
{
	close(f->fd);
	f->fd = -1;
}
