/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_io.h"

#define BOUNCE (128u << 10) /* bytes */

static struct blk_file *file_of(struct blk_backend *b)
{
	return CONTAINER_OF(b, struct blk_file, backend);
}

/* --- direct I/O --- */

static bool is_aligned(const struct iovec *iov, unsigned int n, uint64_t offset)
{
	uint64_t bits = offset;

	for (unsigned int i = 0; i < n; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return bits % BLK_FILE_ALIGN == 0;
}

/* Through the buffer, in whole blocks. What is around a write's part of them is read first and
 * written back: nobody else writes there meanwhile, since all such requests are done here, one
 * after the other, and one on its way that covers the whole block would be at odds with this one
 * anyway.
 */
static int bounce(struct blk_file *f, bool write, const struct iovec *iov, unsigned int n,
		  uint64_t offset)
{
	const uint64_t mask = BLK_FILE_ALIGN - 1;
	uint64_t end = offset + iov_length(iov, n);
	int r = 0;

	for (uint64_t at = offset & ~mask, next; at < end && !r; at = next) {
		size_t len = MIN(BOUNCE, ALIGN_UP(end, (uint64_t)BLK_FILE_ALIGN) - at);
		uint64_t from = MAX(at, offset), to = MIN(at + len, end);
		const struct iovec part = {f->bounce, len};

		next = at + len;
		if (!write || from > at || to < next)
			r = blk_io_read(f->fd, &part, 1, at);
		if (!r && write) {
			iov_read(iov, n, from - offset, f->bounce + (from - at), to - from);
			r = blk_io_write(f->fd, &part, 1, at);
		} else if (!r) {
			iov_write(iov, n, from - offset, f->bounce + (from - at), to - from);
		}
	}
	return r;
}

/* --- one at a time --- */

static int transfer(struct blk_file *f, bool write, const struct iovec *iov, unsigned int n,
		    uint64_t offset)
{
	if (f->bounce && !is_aligned(iov, n, offset))
		return bounce(f, write, iov, n, offset);
	return write ? blk_io_write(f->fd, iov, n, offset) : blk_io_read(f->fd, iov, n, offset);
}

static int file_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		     uint64_t offset)
{
	return transfer(file_of(b), false, iov, n, offset);
}

static int file_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
		      uint64_t offset)
{
	if (b->read_only)
		return -EROFS; /* the descriptor of a frozen one could */
	return transfer(file_of(b), true, iov, n, offset);
}

static int file_flush(struct blk_backend *b)
{
	return blk_io_sync(file_of(b)->fd);
}

static int file_discard(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	int r = b->read_only ? -EROFS : blk_io_discard(file_of(b)->fd, offset, len);

	/* EINVAL: a device whose blocks are larger than this. A discard is no more than advice (5.2.6.2). */
	return r == -EINVAL ? 0 : r;
}

static int file_zero(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap)
{
	int r = b->read_only ? -EROFS : blk_io_zero(file_of(b)->fd, offset, len, unmap);

	/* EINVAL: a device whose blocks are larger than a sector. */
	return r == -EOPNOTSUPP || r == -EINVAL ? blk_backend_write_zeros(b, offset, len) : r;
}

/* --- several at a time --- */

static int file_open_async(struct blk_backend *b)
{
	struct blk_file *f = file_of(b);
	struct err why;
	int r = f->ring.fd < 0 ? uring_open(&f->ring, BLK_IN_FLIGHT, &why) : 0;

	return r ? r : f->ring.event;
}

static bool file_begin(struct blk_backend *b, struct blk_io *io)
{
	static const enum uring_op op[] = {
		[BLK_READ] = URING_READ, [BLK_WRITE] = URING_WRITE, [BLK_FLUSH] = URING_SYNC};
	struct blk_file *f = file_of(b);
	struct uring_transfer t = {.op = op[io->op],
				   .fd = f->fd,
				   .iov = io->iov,
				   .n = io->n,
				   .offset = io->offset,
				   .who = io};

	/* Linux gives a write to its page cache to a thread of its own. That costs more than the write, if
	 * there is nothing to do beside it.
	 */
	if (!f->bounce && io->op == BLK_WRITE && io->alone)
		return false;
	if ((f->bounce && !is_aligned(io->iov, io->n, io->offset)) || !uring_queue(&f->ring, &t))
		return false;
	f->begun[f->begun_count++] = io;
	return true;
}

/* The rest of a transfer of which done bytes were moved. */
static int do_rest(struct blk_file *f, struct blk_io *io, uint64_t done)
{
	unsigned int n;

	if (io->op == BLK_FLUSH)
		return blk_io_sync(f->fd);
	n = iov_slice(io->iov, io->n, done, io->len - done, io->iov);
	return transfer(f, io->op == BLK_WRITE, io->iov, n, io->offset + done);
}

/* The kernel may have moved a part only, or nothing for a passing reason: what is left is done at
 * once, and nothing twice.
 */
static void conclude(struct blk_file *f, struct blk_io *io, int32_t result)
{
	bool again = result == -EAGAIN || result == -EINTR || result == -ECANCELED;
	int r = result < 0 ? result : 0;

	if (again || (!r && io->op != BLK_FLUSH && (uint64_t)result < io->len))
		r = do_rest(f, io, again ? 0 : (uint64_t)result);
	io->done(io, r);
}

static void file_go(struct blk_backend *b)
{
	struct blk_file *f = file_of(b);
	unsigned int left = uring_submit(&f->ring), n = f->begun_count;

	f->begun_count = 0;
	for (unsigned int i = n - left; i < n; i++)
		conclude(f, f->begun[i], -EAGAIN);
}

static void file_reap(struct blk_backend *b, bool wait)
{
	struct blk_file *f = file_of(b);
	struct blk_io *io;
	int32_t result;

	for (;;) {
		while ((io = uring_take(&f->ring, &result)))
			conclude(f, io, result);
		if (!wait || !f->ring.in_flight)
			return;
		uring_wait(&f->ring);
	}
}

static const struct blk_async file_async = {
	.open = file_open_async, .begin = file_begin, .go = file_go, .reap = file_reap};

/* --- opening --- */

int blk_file_direct(struct blk_file *f, const char *name, struct err *e)
{
	int flags = fcntl(f->fd, F_GETFL);
	off_t size = lseek(f->fd, 0, SEEK_END);

	if (size % (off_t)BLK_FILE_ALIGN)
		return err_set(
			e, EINVAL,
			"disk %s: its size is not a multiple of %u bytes, as direct=on wants; 'truncate -s %%%u' "
			"makes it one",
			name, BLK_FILE_ALIGN, BLK_FILE_ALIGN);
	if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT))
		return err_set(e, errno, "disk %s: no direct I/O: %s; leave out direct=on", name, strerror(errno));
	f->bounce = aligned_alloc(BLK_FILE_ALIGN, BOUNCE);
	return f->bounce ? 0 : err_set(e, ENOMEM, "disk %s: out of memory", name);
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
			       size ? "smaller than a sector of 512 bytes"
				    : "the file is empty; 'truncate -s 1G' gives it a size");
	f->backend.size = (uint64_t)size & ~(uint64_t)(BLK_SECTOR - 1);
	r = blk_io_lock(f->fd, f->backend.read_only, name, e);
	if (r == -EBUSY && !f->backend.read_only)
		return err_set(e, EBUSY,
			       "disk %s: in use by another VM; end that first, or add ',ro' or ',cow' to both", name);
	if (!r && fcntl(f->fd, F_GETFL) & O_DIRECT)
		r = blk_file_direct(f, name, e);
	return r;
}

int blk_file_open_fd(struct blk_file *f, int fd, bool read_only, const char *name, struct err *e)
{
	int r;

	*f = (struct blk_file){.backend = {.read = file_read,
					   .write = file_write,
					   .flush = file_flush,
					   .discard = file_discard,
					   .zero = file_zero,
					   .async = &file_async,
					   .read_only = read_only},
			       .fd = fd,
			       .ring.fd = -1};
	r = check(f, name, e);
	if (r)
		blk_file_close(f);
	return r;
}

int blk_file_open(struct blk_file *f, const char *path, bool read_only, struct err *e)
{
	/* Of a device O_EXCL is the claim that file systems make, too; of a file it means nothing. */
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR | O_EXCL) | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		*f = (struct blk_file){.fd = -1, .ring.fd = -1};
		fd = err_sys(e, "cannot open disk %s", path);
		if (!read_only && (fd == -EACCES || fd == -EPERM || fd == -EROFS))
			err_append(e, "; ',ro' and ',cow' only read it");
		else if (!read_only && fd == -EBUSY)
			err_append(e, "; unmount it first, or add ',ro' or ',cow'");
		return fd;
	}
	return blk_file_open_fd(f, fd, read_only, path, e);
}

void blk_file_close(struct blk_file *f)
{
	if (f->fd < 0)
		return;
	uring_close(&f->ring);
	close(f->fd);
	f->fd = -1;
	free(f->bounce);
	f->bounce = NULL;
}
