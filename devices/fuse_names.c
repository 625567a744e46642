/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_names: the FUSE server's operations on names and attributes (fuse_op.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/fuse_ids.h"
#include "devices/fuse_op.h"
#include "devices/fuse_stat.h"

#define NOBODY 65534u

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

/* --- attributes --- */

/* Seconds that an answer stays valid. */
static uint64_t timeout(const struct fuse_server *s)
{
	return s->cache == FUSE_CACHE_NONE ? 0 : s->cache == FUSE_CACHE_AUTO ? 1 : 86400;
}

static void fill_attr(const struct fuse_server *s, const struct stat *st, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
		/* The guest sees one device: what is mounted inside gets other numbers. */
		.ino = st->st_dev == s->dev ? st->st_ino
					    : st->st_ino ^ st->st_dev * 0x9e3779b97f4a7c15ull,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = s->able ? st->st_uid : st->st_uid == s->uid ? 0 : NOBODY,
		.gid = s->able ? st->st_gid : st->st_gid == s->gid ? 0 : NOBODY,
		.rdev = (uint32_t)st->st_rdev,
		.blksize = (uint32_t)st->st_blksize,
	};
}

static int64_t answer_attr(struct fuse_server *s, int fd)
{
	struct fuse_attr_out *out = (struct fuse_attr_out *)s->out;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*out = (struct fuse_attr_out){.attr_valid = timeout(s)};
	fill_attr(s, &st, &out->attr);
	return sizeof(*out);
}

int64_t fuse_getattr(struct fuse_server *s, struct fuse_op *op)
{
	return answer_attr(s, op->fd);
}

static int set_owner(const struct fuse_server *s, const struct fuse_op *op,
		     const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	if (!s->able) {
		if ((uid && uid != (uid_t)-1) || (gid && gid != (gid_t)-1))
			return -EPERM;
		uid = uid ? uid : s->uid;
		gid = gid ? gid : s->gid;
	}
	return result(fchownat(op->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

static int set_mode(const struct fuse_server *s, const struct fuse_op *op, uint32_t mode)
{
	char path[32];

	if (S_ISLNK(op->type))
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "%d", op->fd);
	return result(fchmodat(s->own_fds, path, mode & 07777, 0));
}

static int set_size(struct fuse_server *s, const struct fuse_op *op,
		    const struct fuse_setattr_in *in)
{
	const struct fuse_handle *h =
		in->valid & FATTR_FH ? fuse_handle_get(&s->table, in->fh, false) : NULL;
	int fd, r;

	if (!S_ISREG(op->type))
		return S_ISDIR(op->type) ? -EISDIR : -EINVAL;
	if (in->size > INT64_MAX)
		return -EFBIG;
	r = fuse_ids_keep_setid(!(in->valid & FATTR_KILL_SUIDGID));
	if (r)
		return r;
	if (h && h->writable)
		return result(ftruncate(h->fd, (off_t)in->size));
	fd = fuse_reopen(s, op->fd, O_WRONLY);
	if (fd < 0)
		return fd;
	r = result(ftruncate(fd, (off_t)in->size));
	close(fd);
	return r;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t sec,
			       uint32_t nsec)
{
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	/* UTIME_NOW and UTIME_OMIT are values of nsec that are no nanoseconds. */
	return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = MIN(nsec, 999999999u)};
}

static int set_times(const struct fuse_op *op, const struct fuse_setattr_in *in)
{
	struct timespec ts[2] = {
		time_of(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_of(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};

	return result(utimensat(op->fd, "", ts, AT_EMPTY_PATH));
}

/* The owner before the mode, because chown takes set-ID bits away. */
int64_t fuse_setattr(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_setattr_in *in = op->arg;
	int r = 0;

	if (in->valid & (FATTR_UID | FATTR_GID))
		r = set_owner(s, op, in);
	if (!r && in->valid & FATTR_MODE) {
		r = fuse_ids_keep_setid(true);
		r = r ? r : set_mode(s, op, in->mode);
	}
	if (!r && in->valid & FATTR_SIZE)
		r = set_size(s, op, in);
	if (!r && in->valid & (FATTR_ATIME | FATTR_MTIME))
		r = set_times(op, in);
	return r ? r : answer_attr(s, op->fd);
}

int64_t fuse_statfs(struct fuse_server *s, struct fuse_op *op)
{
	struct fuse_statfs_out *out = (struct fuse_statfs_out *)s->out;
	struct statvfs v;

	if (fstatvfs(op->fd, &v))
		return -errno;
	*out = (struct fuse_statfs_out){.st = {.blocks = v.f_blocks,
					       .bfree = v.f_bfree,
					       .bavail = v.f_bavail,
					       .files = v.f_files,
					       .ffree = v.f_ffree,
					       .bsize = (uint32_t)v.f_bsize,
					       .namelen = (uint32_t)v.f_namemax,
					       .frsize = (uint32_t)v.f_frsize}};
	return sizeof(*out);
}

/* The guest's kernel has checked the mode's bits, or does not ask. */
int64_t fuse_access(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_access_in *in = op->arg;

	if (in->mask & ~(uint32_t)(R_OK | W_OK | X_OK))
		return -EINVAL;
	return s->read_only && in->mask & W_OK ? -EROFS : 0;
}

/* --- entries --- */

int fuse_reopen(const struct fuse_server *s, int fd, int flags)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "%d", fd);
	r = openat(s->own_fds, path, flags | O_CLOEXEC | O_NOCTTY);
	return r < 0 ? -errno : r;
}

/* The inode of a descriptor that is O_PATH, which is taken over, or closed. */
static struct fuse_inode *know(struct fuse_server *s, int fd, struct stat *st)
{
	struct fuse_inode *i = NULL;
	uint64_t mount;
	int error = -fuse_stat(fd, "", st, &mount);

	if (!error) {
		i = fuse_inode_find(&s->table, st, mount);
		if (!i) {
			i = fuse_inode_add(&s->table, fd, st, mount);
			fd = i ? -1 : fd;
		}
		error = errno;
	}
	if (fd >= 0)
		close(fd);
	errno = error;
	return i;
}

static void fill_entry(const struct fuse_server *s, struct fuse_inode *i, const struct stat *st,
		       struct fuse_entry_out *out)
{
	i->lookups++;
	*out = (struct fuse_entry_out){.nodeid = fuse_inode_id(&s->table, i),
				       .entry_valid = timeout(s),
				       .attr_valid = timeout(s)};
	fill_attr(s, st, &out->attr);
}

/* One that is known costs one call, another one three, or two where it was not thought to be known. */
int fuse_enter(struct fuse_server *s, int dir, const char *name, bool likely,
	       struct fuse_entry_out *out)
{
	struct fuse_inode *i = NULL;
	uint64_t mount;
	struct stat st;
	int fd, r;

	if (likely) {
		r = fuse_stat(dir, name, &st, &mount);
		if (r)
			return r;
		i = fuse_inode_find(&s->table, &st, mount);
	}
	if (!i) {
		fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		i = know(s, fd, &st);
		if (!i)
			return -errno;
	}
	fill_entry(s, i, &st, out);
	return 0;
}

static int64_t answer_entry(struct fuse_server *s, struct fuse_op *op, bool likely)
{
	struct fuse_entry_out *out = (struct fuse_entry_out *)s->out;
	int r = fuse_enter(s, op->fd, op->name[0], likely, out);

	return r ? r : (int64_t)sizeof(*out);
}

int64_t fuse_lookup(struct fuse_server *s, struct fuse_op *op)
{
	struct fuse_entry_out *out = (struct fuse_entry_out *)s->out;
	int64_t r = answer_entry(s, op, true);

	if (r == -ENOENT && s->cache == FUSE_CACHE_ALWAYS) { /* and it stays so */
		*out = (struct fuse_entry_out){.entry_valid = timeout(s)};
		return sizeof(*out);
	}
	return r;
}

int64_t fuse_readlink(struct fuse_server *s, struct fuse_op *op)
{
	ssize_t n;

	if (!S_ISLNK(op->type))
		return -EINVAL;
	n = readlinkat(op->fd, "", (char *)s->out, MIN(op->room, sizeof(s->out)));
	return n < 0 ? -errno : n;
}

/* --- new entries --- */

/* Whose they will be. Set-group-ID bits stay where the guest's root makes something; elsewhere the
 * host's kernel takes them off where it would for a user who is not in the group.
 */
static int prepare(const struct fuse_server *s, const struct fuse_op *op)
{
	int r;

	if (!fuse_table_room(&s->table, 1, 0))
		return -ENFILE;
	if (!s->able)
		return 0;
	r = fuse_ids_become(op->in->uid, op->in->gid);
	return r ? r : fuse_ids_keep_setid(!op->in->uid);
}

int64_t fuse_symlink(struct fuse_server *s, struct fuse_op *op)
{
	int r = prepare(s, op);

	if (!r)
		r = result(symlinkat(op->name[1], op->fd, op->name[0]));
	return r ? r : answer_entry(s, op, false);
}

/* Devices are not made: some process of the host's might open them. But one that is none, overlayfs's
 * mark for what was removed, cannot be opened.
 */
int64_t fuse_mknod(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_mknod_in *in = op->arg;
	int r;

	switch (in->mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK: break;
	case S_IFCHR:
		if (!in->rdev)
			break;
		return -EPERM;
	case S_IFBLK: return -EPERM;
	default: return -EINVAL;
	}
	r = prepare(s, op);
	if (!r)
		r = result(mknodat(op->fd, op->name[0], in->mode & (S_IFMT | 07777), 0));
	return r ? r : answer_entry(s, op, false);
}

int64_t fuse_mkdir(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_mkdir_in *in = op->arg;
	int r = prepare(s, op);

	if (!r)
		r = result(mkdirat(op->fd, op->name[0], in->mode & 07777));
	return r ? r : answer_entry(s, op, false);
}

/* Gives the new file a handle, and its entry; what fuse_create answers with. fd is taken over. */
static int64_t answer_create(struct fuse_server *s, int fd, bool writable)
{
	struct fuse_entry_out *entry = (struct fuse_entry_out *)s->out;
	struct fuse_open_out *open = (struct fuse_open_out *)(entry + 1);
	int path = fuse_reopen(s, fd, O_PATH), r;
	struct fuse_inode *i;
	struct stat st;

	if (path < 0) {
		close(fd);
		return path;
	}
	*open = (struct fuse_open_out){.open_flags = fuse_open_flags(s, false)};
	r = fuse_handle_add(&s->table, fd, false, writable, &open->fh);
	if (r) {
		close(path);
		close(fd);
		return r;
	}
	i = know(s, path, &st);
	if (!i) {
		r = -errno;
		fuse_handle_close(&s->table, open->fh, false);
		return r;
	}
	fill_entry(s, i, &st, entry);
	return sizeof(*entry) + sizeof(*open);
}

/* One that is there already, and was not when the guest looked. */
static int64_t open_existing(struct fuse_server *s, struct fuse_op *op,
			     const struct fuse_create_in *in)
{
	struct fuse_open_in as = {.flags = in->flags, .open_flags = in->open_flags};
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct fuse_op then = *op;
	int64_t r = fuse_enter(s, op->fd, op->name[0], true, &entry);

	if (r)
		return r;
	then.arg = &as;
	then.fd = fuse_inode_get(&s->table, entry.nodeid)->fd;
	then.type = entry.attr.mode & S_IFMT;
	r = fuse_open(s, &then);
	if (r < 0) {
		fuse_inode_forget(&s->table, entry.nodeid, 1);
		return r;
	}
	memcpy(&open, s->out, sizeof(open));
	memcpy(s->out, &entry, sizeof(entry));
	memcpy(s->out + sizeof(entry), &open, sizeof(open));
	return sizeof(entry) + sizeof(open);
}

int64_t fuse_create(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_create_in *in = op->arg;
	int mode = (int)in->flags & O_ACCMODE;
	int fd, r;

	if (mode == O_ACCMODE)
		return -EINVAL;
	if (!fuse_table_room(&s->table, 1, 1))
		return -ENFILE;
	r = prepare(s, op);
	if (r)
		return r;
	/* Only what this call makes is sure to be a file: opening a fifo would wait for ever. */
	fd = openat(op->fd, op->name[0], mode | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY,
		    in->mode & 07777);
	if (fd >= 0)
		return answer_create(s, fd, mode != O_RDONLY);
	if (errno == EEXIST && !(in->flags & O_EXCL))
		return open_existing(s, op, in);
	return -errno;
}

/* --- entries that go or move --- */

int64_t fuse_unlink(struct fuse_server *s, struct fuse_op *op)
{
	(void)s;
	return result(unlinkat(op->fd, op->name[0], 0));
}

int64_t fuse_rmdir(struct fuse_server *s, struct fuse_op *op)
{
	(void)s;
	return result(unlinkat(op->fd, op->name[0], AT_REMOVEDIR));
}

static int64_t move(struct fuse_server *s, struct fuse_op *op, uint64_t to, unsigned int flags)
{
	const struct fuse_inode *dir = fuse_inode_get(&s->table, to);

	if (!dir)
		return -ESTALE;
	return result((int)syscall(SYS_renameat2, op->fd, op->name[0], dir->fd, op->name[1], flags));
}

int64_t fuse_rename(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_rename_in *in = op->arg;

	return move(s, op, in->newdir, 0);
}

int64_t fuse_rename2(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_rename2_in *in = op->arg;

	if (in->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	return move(s, op, in->newdir, in->flags);
}

int64_t fuse_link(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_link_in *in = op->arg;
	const struct fuse_inode *i = fuse_inode_get(&s->table, in->oldnodeid);
	char path[32];

	if (!i)
		return -ESTALE;
	/* Follows the link in /proc, but not one that it leads to. */
	snprintf(path, sizeof(path), "%d", i->fd);
	if (linkat(s->own_fds, path, op->fd, op->name[0], AT_SYMLINK_FOLLOW))
		return -errno;
	return answer_entry(s, op, true);
}

/* --- extended attributes --- */

/* The user's, and a program's capabilities. Not trusted.*, which is the host's administrator's, nor
 * security labels; nor access control lists, which nobody would heed: the guest's kernel checks the
 * mode alone.
 */
static bool attribute_allowed(const char *name)
{
	return !strncmp(name, "user.", 5) || !strcmp(name, "security.capability");
}

/* Opens what has attributes, to use them. Returns a descriptor or -errno. */
static int open_attributes(const struct fuse_server *s, const struct fuse_op *op)
{
	if (op->name[0] && strlen(op->name[0]) > 255) /* XATTR_NAME_MAX */
		return -ERANGE;
	if ((op->name[0] && !attribute_allowed(op->name[0])) ||
	    (!S_ISREG(op->type) && !S_ISDIR(op->type)))
		return -EOPNOTSUPP;
	return fuse_reopen(s, op->fd, O_RDONLY);
}

int64_t fuse_setxattr(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_setxattr_in *in = op->arg;
	int fd, r;

	if (in->size > FUSE_XATTR_MAX)
		return -E2BIG;
	if (in->size != op->data_len || in->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	fd = open_attributes(s, op);
	if (fd < 0)
		return fd;
	r = result(fsetxattr(fd, op->name[0], op->data, in->size, (int)in->flags));
	close(fd);
	return r;
}

int64_t fuse_removexattr(struct fuse_server *s, struct fuse_op *op)
{
	int fd = open_attributes(s, op), r;

	if (fd < 0)
		return fd;
	r = result(fremovexattr(fd, op->name[0]));
	close(fd);
	return r;
}

/* n bytes that are in s->out, or -errno: the answer to a request that may have asked for the size only. */
static int64_t answer_xattr(struct fuse_server *s, const struct fuse_op *op, ssize_t n)
{
	const struct fuse_getxattr_in *in = op->arg;
	struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)s->out;

	if (n < 0)
		return n;
	if (in->size)
		return (size_t)n > in->size ? -ERANGE : n;
	*out = (struct fuse_getxattr_out){.size = (uint32_t)n};
	return sizeof(*out);
}

int64_t fuse_getxattr(struct fuse_server *s, struct fuse_op *op)
{
	int fd = open_attributes(s, op);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = fgetxattr(fd, op->name[0], s->out, sizeof(s->out));
	n = n < 0 ? -errno : n;
	close(fd);
	return answer_xattr(s, op, n);
}

/* Takes the names out that the guest is not to see. Returns how long the list is then. */
static ssize_t filter_names(char *list, ssize_t n)
{
	char *to = list;

	for (char *at = list; at < list + n;) {
		size_t len = strnlen(at, (size_t)(list + n - at)) + 1;

		if (at + len > list + n)
			break;
		if (attribute_allowed(at)) {
			memmove(to, at, len);
			to += len;
		}
		at += len;
	}
	return to - list;
}

int64_t fuse_listxattr(struct fuse_server *s, struct fuse_op *op)
{
	int fd = open_attributes(s, op);
	ssize_t n;

	if (fd == -EOPNOTSUPP) /* a link or the like: it has none */
		return answer_xattr(s, op, 0);
	if (fd < 0)
		return fd;
	n = flistxattr(fd, (char *)s->out, sizeof(s->out));
	n = n < 0 ? -errno : filter_names((char *)s->out, n);
	close(fd);
	return answer_xattr(s, op, n);
}
