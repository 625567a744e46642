/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_files: the FUSE server's operations on open files and directories (fuse_op.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/fuse_ids.h"
#include "devices/fuse_op.h"

/* Of one COPY_FILE_RANGE: others wait meanwhile. */
#define COPY_MAX (16u << 20)

static int64_t result(int64_t r)
{
	return r < 0 ? -errno : r;
}

uint32_t fuse_open_flags(const struct fuse_server *s, bool dir)
{
	if (s->cache == FUSE_CACHE_ALWAYS)
		return FOPEN_KEEP_CACHE | (dir ? FOPEN_CACHE_DIR : 0);
	return s->cache == FUSE_CACHE_NONE && !dir ? FOPEN_DIRECT_IO : 0;
}

/* A handle for the descriptor, which is taken over, or closed. */
static int64_t answer_open(struct fuse_server *s, int fd, bool dir, bool writable)
{
	struct fuse_open_out *out = (struct fuse_open_out *)s->out;
	int r;

	if (fd < 0)
		return fd;
	*out = (struct fuse_open_out){.open_flags = fuse_open_flags(s, dir)};
	r = fuse_handle_add(&s->table, fd, dir, writable, &out->fh);
	if (r)
		close(fd);
	return r ? r : (int64_t)sizeof(*out);
}

/* Of the flags only the access counts here, and whether the file is to be emptied; what the others
 * mean the guest's kernel does. O_APPEND is the WRITE's: pages that it writes back have their places.
 */
int64_t fuse_open(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_open_in *in = op->arg;
	int mode = (int)in->flags & O_ACCMODE, truncate = (int)in->flags & O_TRUNC, r;

	if (!S_ISREG(op->type))
		return S_ISDIR(op->type) ? -EISDIR : -ENXIO;
	if (mode == O_ACCMODE)
		return -EINVAL;
	if (s->read_only && (mode != O_RDONLY || truncate))
		return -EROFS;
	if (!fuse_table_room(&s->table, 0, 1))
		return -ENFILE;
	r = fuse_ids_keep_setid(!(in->open_flags & FUSE_OPEN_KILL_SUIDGID));
	if (r)
		return r;
	return answer_open(s, fuse_reopen(s, op->fd, mode | truncate), false, mode != O_RDONLY);
}

int64_t fuse_release(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_release_in *in = op->arg;

	return fuse_handle_close(&s->table, in->fh, false);
}

/* The part of iov from skip on, at most len bytes, in s->part. */
static int slice(struct fuse_server *s, const struct iovec *iov, unsigned int n, size_t skip,
		 size_t len)
{
	return (int)iov_slice(iov, n, skip, len, s->part);
}

int64_t fuse_read(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_read_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, false);
	const struct fs_request *rq = op->rq;
	size_t len = MIN(MIN(in->size, op->room), FUSE_IO_MAX);

	if (!h)
		return -EBADF;
	if (in->offset > INT64_MAX)
		return -EINVAL;
	op->direct = true;
	return result(preadv(h->fd, s->part,
			     slice(s, rq->out, rq->outs, sizeof(struct fuse_out_header), len),
			     (off_t)in->offset));
}

static ssize_t write_part(int fd, const struct iovec *iov, int n, off_t at, bool append)
{
	if (!append)
		return pwritev(fd, iov, n, at);
	/* The C library's pwritev2 is not everywhere; the position is in two halves of a long. */
	return syscall(SYS_pwritev2, fd, iov, n, at, 0L, RWF_APPEND);
}

int64_t fuse_write(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_write_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, false);
	const struct fs_request *rq = op->rq;
	size_t skip = sizeof(*op->in) + sizeof(*in);
	bool append = in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
	int64_t r;

	if (!h || !h->writable)
		return -EBADF;
	if (in->size != rq->in_len - skip || in->size > FUSE_IO_MAX || in->offset > INT64_MAX)
		return -EINVAL;
	r = fuse_ids_keep_setid(!(in->write_flags & FUSE_WRITE_KILL_SUIDGID));
	if (!r && in->size)
		r = result(write_part(h->fd, s->part, slice(s, rq->in, rq->ins, skip, in->size),
				      (off_t)in->offset, append));
	if (r < 0)
		return r;
	*(struct fuse_write_out *)s->out = (struct fuse_write_out){.size = (uint32_t)r};
	return sizeof(struct fuse_write_out);
}

static int64_t sync_handle(struct fuse_server *s, struct fuse_op *op, bool dir)
{
	const struct fuse_fsync_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, dir);

	if (!h)
		return -EBADF;
	return result(in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd));
}

int64_t fuse_fsync(struct fuse_server *s, struct fuse_op *op)
{
	return sync_handle(s, op, false);
}

int64_t fuse_fsyncdir(struct fuse_server *s, struct fuse_op *op)
{
	return sync_handle(s, op, true);
}

int64_t fuse_syncfs(struct fuse_server *s, struct fuse_op *op)
{
	int fd = fuse_reopen(s, s->root, O_RDONLY | O_DIRECTORY);
	int64_t r;

	(void)op;
	if (fd < 0)
		return fd;
	r = result(syncfs(fd));
	close(fd);
	return r;
}

int64_t fuse_fallocate(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_fallocate_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, false);

	if (!h || !h->writable)
		return -EBADF;
	if (in->mode & ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (in->offset > INT64_MAX || in->length > INT64_MAX)
		return -EFBIG;
	return result(fallocate(h->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length));
}

/* The descriptor's position is nobody's; every transfer names its own. */
int64_t fuse_lseek(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_lseek_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, false);
	off_t at;

	if (!h)
		return -EBADF;
	if ((in->whence != SEEK_DATA && in->whence != SEEK_HOLE) || in->offset > INT64_MAX)
		return -EINVAL;
	at = lseek(h->fd, (off_t)in->offset, (int)in->whence);
	if (at < 0)
		return -errno;
	*(struct fuse_lseek_out *)s->out = (struct fuse_lseek_out){.offset = (uint64_t)at};
	return sizeof(struct fuse_lseek_out);
}

int64_t fuse_copy_file_range(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_copy_file_range_in *in = op->arg;
	const struct fuse_handle *from = fuse_handle_get(&s->table, in->fh_in, false);
	const struct fuse_handle *to = fuse_handle_get(&s->table, in->fh_out, false);
	int64_t at = (int64_t)in->off_in, into = (int64_t)in->off_out, n;

	if (!from || !to || !to->writable)
		return -EBADF;
	if (at < 0 || into < 0 || in->flags)
		return -EINVAL;
	n = result(syscall(SYS_copy_file_range, from->fd, &at, to->fd, &into,
			   (size_t)MIN(in->len, COPY_MAX), 0));
	if (n < 0)
		return n;
	*(struct fuse_write_out *)s->out = (struct fuse_write_out){.size = (uint32_t)n};
	return sizeof(struct fuse_write_out);
}

/* --- directories --- */

int64_t fuse_opendir(struct fuse_server *s, struct fuse_op *op)
{
	if (!S_ISDIR(op->type))
		return -ENOTDIR;
	if (!fuse_table_room(&s->table, 0, 1))
		return -ENFILE;
	return answer_open(s, fuse_reopen(s, op->fd, O_RDONLY | O_DIRECTORY), true, false);
}

int64_t fuse_releasedir(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_release_in *in = op->arg;

	return fuse_handle_close(&s->table, in->fh, true);
}

struct linux_dirent { /* getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* The next entry of the directory, which stays where it is until dir->at moves. NULL at the end, or where
 * *r is -errno.
 */
static const struct linux_dirent *next_entry(const struct fuse_handle *h, int *r)
{
	struct fuse_dir *d = h->dir;

	if (d->at == d->end) {
		long n = syscall(SYS_getdents64, h->fd, d->buf, sizeof(d->buf));

		d->at = 0;
		d->end = (unsigned int)MAX(n, 0);
		*r = (int)result(MIN(n, 0));
		if (n <= 0)
			return NULL;
	}
	return (const struct linux_dirent *)(d->buf + d->at);
}

/* Goes to a place that the guest names, which is where it stopped, mostly. */
static int go_to(const struct fuse_handle *h, uint64_t offset)
{
	struct fuse_dir *d = h->dir;

	if (offset > INT64_MAX)
		return -EINVAL;
	if (d->next == (off_t)offset)
		return 0;
	d->at = d->end = 0;
	d->next = -1;
	if (lseek(h->fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	d->next = (off_t)offset;
	return 0;
}

/* Writes one entry. With plus it counts as looked up, unless that fails: then it is a name only. */
static size_t put_entry(struct fuse_server *s, int dir, uint8_t *to,
			const struct linux_dirent *from, size_t name_len, bool plus)
{
	struct fuse_direntplus *p = (struct fuse_direntplus *)to;
	struct fuse_dirent *e = plus ? &p->dirent : (struct fuse_dirent *)to;
	size_t len = FUSE_REC_ALIGN((size_t)((uint8_t *)e->name - to) + name_len);

	memset(to, 0, len);
	if (plus && strcmp(from->name, ".") && strcmp(from->name, "..") &&
	    fuse_enter(s, dir, from->name, fuse_inode_likely(&s->table, from->ino),
		       &p->entry_out))
		memset(&p->entry_out, 0, sizeof(p->entry_out));
	e->ino = from->ino;
	e->off = (uint64_t)from->off;
	e->namelen = (uint32_t)name_len;
	e->type = from->type;
	memcpy(e->name, from->name, name_len);
	return len;
}

static int64_t read_directory(struct fuse_server *s, struct fuse_op *op, bool plus)
{
	const struct fuse_read_in *in = op->arg;
	const struct fuse_handle *h = fuse_handle_get(&s->table, in->fh, true);
	size_t limit = MIN(MIN(in->size, op->room), sizeof(s->out)), done = 0;
	size_t fixed = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	const struct linux_dirent *entry;
	int r;

	if (!h)
		return -EBADF;
	r = go_to(h, in->offset);
	if (r)
		return r;
	while ((entry = next_entry(h, &r))) {
		size_t len = strlen(entry->name);

		if (done + FUSE_REC_ALIGN(fixed + len) > limit) {
			r = done ? 0 : -EINVAL; /* nothing is the end of the directory */
			break;
		}
		done += put_entry(s, h->fd, s->out + done, entry, len, plus);
		h->dir->at += entry->len;
		h->dir->next = entry->off;
	}
	return done ? (int64_t)done : r;
}

int64_t fuse_readdir(struct fuse_server *s, struct fuse_op *op)
{
	return read_directory(s, op, false);
}

int64_t fuse_readdirplus(struct fuse_server *s, struct fuse_op *op)
{
	return read_directory(s, op, true);
}
