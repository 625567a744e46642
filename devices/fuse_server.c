/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/fuse_server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/fuse_ids.h"
#include "devices/fuse_op.h"
#include "devices/fuse_stat.h"

#define MINOR_MIN 31u
#define MINOR	  36u

/* --- the session --- */

static void end_session(struct fuse_server *s)
{
	if (s->session)
		fuse_table_close(&s->table);
	s->session = false;
}

/* What is asked for of what the kernel offers. Not: FUSE_POSIX_LOCKS and FUSE_FLOCK_LOCKS (see
 * fuse_server.h), FUSE_POSIX_ACL, FUSE_WRITEBACK_CACHE (the host's processes write, too),
 * FUSE_EXPORT_SUPPORT (it looks up "." and "..").
 */
static uint32_t wanted_flags(const struct fuse_server *s)
{
	uint32_t flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
			 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS |
			 FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2;

	return s->cache == FUSE_CACHE_ALWAYS ? flags : flags | FUSE_AUTO_INVAL_DATA;
}

static int64_t init(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_init_in *in = op->arg;
	struct fuse_init_out *out = (struct fuse_init_out *)s->out;
	uint64_t mount;
	struct stat st;
	int r;

	*out = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION, .minor = MINOR};
	if (in->major > FUSE_KERNEL_VERSION)
		return sizeof(*out); /* it tries again with ours */
	if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_MIN || s->session)
		return -EPROTO;
	r = fuse_stat(s->root, "", &st, &mount);
	if (!r)
		r = fuse_table_init(&s->table, s->root, &st, mount, s->fds_max);
	if (r)
		return r;
	s->dev = st.st_dev;
	s->session = true;
	out->minor = MIN(in->minor, MINOR);
	out->flags = in->flags & wanted_flags(s);
	out->max_write = FUSE_IO_MAX;
	out->max_readahead = MIN(in->max_readahead, FUSE_IO_MAX);
	out->max_pages = FUSE_PAGES;
	out->time_gran = 1;
	return sizeof(*out);
}

static int64_t destroy(struct fuse_server *s, struct fuse_op *op)
{
	(void)op;
	end_session(s);
	return 0;
}

static int64_t forget(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_forget_in *in = op->arg;

	fuse_inode_forget(&s->table, op->in->nodeid, in->nlookup);
	return 0;
}

static int64_t batch_forget(struct fuse_server *s, struct fuse_op *op)
{
	const struct fuse_batch_forget_in *in = op->arg;
	const struct fuse_forget_one *one = (const struct fuse_forget_one *)op->data;

	for (size_t i = 0; i < in->count && i < op->data_len / sizeof(*one); i++)
		fuse_inode_forget(&s->table, one[i].nodeid, one[i].nlookup);
	return 0;
}

/* Requests are done one after the other: what it wants to interrupt is done already, or waits behind
 * it and will be.
 */
static int64_t interrupt(struct fuse_server *s, struct fuse_op *op)
{
	(void)s, (void)op;
	return 0;
}

/* --- requests --- */

#define NODE	1u  /* the header names an inode */
#define CHANGES 2u  /* refused where the share is read-only */
#define SILENT	4u  /* has no answer */
#define ALWAYS	8u  /* also without a session */
#define DATA	16u /* something may follow the names */
#define TEXT	32u /* the (last) name is no entry's: a link's target, an attribute */

static const struct operation {
	fuse_fn *fn;
	uint16_t arg;	/* length of the fixed part */
	uint16_t out;	/* of the answer, at least */
	uint8_t names;
	uint8_t flags;
} operations[] = {
#define ENTRY sizeof(struct fuse_entry_out)
#define ATTR  sizeof(struct fuse_attr_out)
#define OF(type) sizeof(struct type)
	[FUSE_INIT] = {init, 16, OF(fuse_init_out), 0, ALWAYS | DATA},
	[FUSE_DESTROY] = {destroy, 0, 0, 0, ALWAYS},
	[FUSE_FORGET] = {forget, OF(fuse_forget_in), 0, 0, SILENT},
	[FUSE_BATCH_FORGET] = {batch_forget, OF(fuse_batch_forget_in), 0, 0, SILENT | DATA},
	[FUSE_INTERRUPT] = {interrupt, OF(fuse_interrupt_in), 0, 0, SILENT},
	[FUSE_LOOKUP] = {fuse_lookup, 0, ENTRY, 1, NODE},
	[FUSE_GETATTR] = {fuse_getattr, OF(fuse_getattr_in), ATTR, 0, NODE},
	[FUSE_SETATTR] = {fuse_setattr, OF(fuse_setattr_in), ATTR, 0, NODE | CHANGES},
	[FUSE_READLINK] = {fuse_readlink, 0, 0, 0, NODE},
	[FUSE_SYMLINK] = {fuse_symlink, 0, ENTRY, 2, NODE | CHANGES | TEXT},
	[FUSE_MKNOD] = {fuse_mknod, OF(fuse_mknod_in), ENTRY, 1, NODE | CHANGES},
	[FUSE_MKDIR] = {fuse_mkdir, OF(fuse_mkdir_in), ENTRY, 1, NODE | CHANGES},
	[FUSE_UNLINK] = {fuse_unlink, 0, 0, 1, NODE | CHANGES},
	[FUSE_RMDIR] = {fuse_rmdir, 0, 0, 1, NODE | CHANGES},
	[FUSE_RENAME] = {fuse_rename, OF(fuse_rename_in), 0, 2, NODE | CHANGES},
	[FUSE_RENAME2] = {fuse_rename2, OF(fuse_rename2_in), 0, 2, NODE | CHANGES},
	[FUSE_LINK] = {fuse_link, OF(fuse_link_in), ENTRY, 1, NODE | CHANGES},
	[FUSE_OPEN] = {fuse_open, OF(fuse_open_in), OF(fuse_open_out), 0, NODE},
	[FUSE_READ] = {fuse_read, OF(fuse_read_in), 0, 0, NODE},
	[FUSE_WRITE] = {fuse_write, OF(fuse_write_in), OF(fuse_write_out), 0, NODE | CHANGES},
	[FUSE_STATFS] = {fuse_statfs, 0, OF(fuse_statfs_out), 0, NODE},
	[FUSE_RELEASE] = {fuse_release, OF(fuse_release_in), 0, 0, 0},
	[FUSE_FSYNC] = {fuse_fsync, OF(fuse_fsync_in), 0, 0, NODE},
	[FUSE_SETXATTR] = {fuse_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, 0, 1,
			   NODE | CHANGES | DATA | TEXT},
	[FUSE_GETXATTR] = {fuse_getxattr, OF(fuse_getxattr_in), 0, 1, NODE | TEXT},
	[FUSE_LISTXATTR] = {fuse_listxattr, OF(fuse_getxattr_in), 0, 0, NODE},
	[FUSE_REMOVEXATTR] = {fuse_removexattr, 0, 0, 1, NODE | CHANGES | TEXT},
	[FUSE_OPENDIR] = {fuse_opendir, OF(fuse_open_in), OF(fuse_open_out), 0, NODE},
	[FUSE_READDIR] = {fuse_readdir, OF(fuse_read_in), 0, 0, NODE},
	[FUSE_READDIRPLUS] = {fuse_readdirplus, OF(fuse_read_in), 0, 0, NODE},
	[FUSE_RELEASEDIR] = {fuse_releasedir, OF(fuse_release_in), 0, 0, 0},
	[FUSE_FSYNCDIR] = {fuse_fsyncdir, OF(fuse_fsync_in), 0, 0, NODE},
	[FUSE_ACCESS] = {fuse_access, OF(fuse_access_in), 0, 0, NODE},
	[FUSE_CREATE] = {fuse_create, OF(fuse_create_in), ENTRY + OF(fuse_open_out), 1,
			 NODE | CHANGES},
	[FUSE_FALLOCATE] = {fuse_fallocate, OF(fuse_fallocate_in), 0, 0, NODE | CHANGES},
	[FUSE_LSEEK] = {fuse_lseek, OF(fuse_lseek_in), OF(fuse_lseek_out), 0, NODE},
	[FUSE_COPY_FILE_RANGE] = {fuse_copy_file_range, OF(fuse_copy_file_range_in),
				  OF(fuse_write_out), 0, NODE | CHANGES},
	[FUSE_SYNCFS] = {fuse_syncfs, OF(fuse_syncfs_in), 0, 0, NODE},
#undef ENTRY
#undef ATTR
#undef OF
};

int fuse_check_name(const char *name)
{
	size_t len = strlen(name);

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (!len || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

/* The names behind the fixed part, each ended by a zero inside the request. */
static int take_names(struct fuse_op *op, const struct operation *o)
{
	for (unsigned int i = 0; i < o->names; i++) {
		size_t len = strnlen((const char *)op->data, op->data_len);
		int r = 0;

		if (len == op->data_len)
			return -EINVAL;
		op->name[i] = (const char *)op->data;
		op->data += len + 1;
		op->data_len -= len + 1;
		if (!(o->flags & TEXT && i + 1u == o->names))
			r = fuse_check_name(op->name[i]);
		if (r)
			return r;
	}
	return op->data_len && !(o->flags & DATA) ? -EINVAL : 0;
}

/* Copies the rest of the request, or of a WRITE what precedes the data, and takes it apart. */
static int decode(struct fuse_server *s, struct fuse_op *op, const struct operation *o)
{
	const struct fs_request *rq = op->rq;
	size_t header = sizeof(*op->in);
	size_t all = op->in->opcode == FUSE_WRITE ? header + o->arg : rq->in_len;

	if (op->in->len != rq->in_len || rq->in_len < header + o->arg || all > FUSE_BUFFER)
		return -EINVAL;
	iov_read(rq->in, rq->ins, header, s->in + header, all - header);
	op->arg = s->in + header;
	op->data = s->in + header + o->arg;
	op->data_len = all - header - o->arg;
	return take_names(op, o);
}

static int64_t perform(struct fuse_server *s, struct fuse_op *op, const struct operation *o)
{
	int r;

	if (!o->fn)
		return -ENOSYS;
	if (!s->session && !(o->flags & ALWAYS))
		return -EPROTO;
	r = decode(s, op, o);
	if (r)
		return r;
	if (o->flags & NODE) {
		const struct fuse_inode *i = fuse_inode_get(&s->table, op->in->nodeid);

		if (!i)
			return -ESTALE;
		op->fd = i->fd;
		op->type = i->type;
	}
	if (o->flags & CHANGES && s->read_only)
		return -EROFS;
	if (op->room < o->out)
		return -EINVAL;
	r = fuse_ids_enter(s->able);
	return r ? r : o->fn(s, op);
}

static int64_t serve(struct fs_backend *b, const struct fs_request *rq)
{
	struct fuse_server *s = CONTAINER_OF(b, struct fuse_server, backend);
	static const struct operation unknown;
	const struct operation *o = &unknown;
	struct fuse_op op = {.rq = rq, .in = (const struct fuse_in_header *)s->in, .fd = -1};
	struct fuse_out_header out = {0};
	int64_t r;

	if (iov_read(rq->in, rq->ins, 0, s->in, sizeof(*op.in)) < sizeof(*op.in))
		return -EINVAL;
	if (op.in->opcode < ARRAY_SIZE(operations))
		o = &operations[op.in->opcode];
	if (!(o->flags & SILENT) && rq->out_len < sizeof(out))
		return 0; /* nowhere to say anything */
	op.room = rq->out_len - MIN(rq->out_len, sizeof(out));
	r = perform(s, &op, o);
	if (o->flags & SILENT)
		return 0;
	if (r > (int64_t)op.room)
		r = -ERANGE;
	out = (struct fuse_out_header){.len = (uint32_t)(sizeof(out) + (size_t)MAX(r, 0)),
				       .error = (int32_t)MIN(r, 0),
				       .unique = op.in->unique};
	iov_write(rq->out, rq->outs, 0, &out, sizeof(out));
	if (r > 0 && !op.direct)
		iov_write(rq->out, rq->outs, sizeof(out), s->out, (size_t)r);
	return out.len;
}

static void reset(struct fs_backend *b)
{
	end_session(CONTAINER_OF(b, struct fuse_server, backend));
}

/* --- the server --- */

int fuse_server_open(struct fuse_server **to, const char *path, bool read_only,
		     enum fuse_cache cache, uint32_t fds_max, struct err *e)
{
	struct fuse_server *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ENOMEM, "out of memory");
	s->backend = (struct fs_backend){.serve = serve, .reset = reset};
	s->read_only = read_only;
	s->cache = cache;
	s->able = fuse_ids_able();
	s->uid = geteuid();
	s->gid = getegid();
	s->fds_max = fds_max;
	s->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->own_fds = s->root < 0 ? -1 : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->own_fds < 0) {
		err_sys(e, "cannot share %s", s->root < 0 ? path : "anything without /proc");
		fuse_server_close(s);
		return -EINVAL;
	}
	*to = s;
	return 0;
}

void fuse_server_close(struct fuse_server *s)
{
	end_session(s);
	if (s->root >= 0)
		close(s->root);
	if (s->own_fds >= 0)
		close(s->own_fds);
	free(s);
}

struct fs_backend *fuse_server_backend(struct fuse_server *s)
{
	return &s->backend;
}

bool fuse_server_mounted(const struct fuse_server *s)
{
	return s->session;
}

static size_t put_fd(int *to, size_t n, int fd)
{
	if (fd >= 0 && to)
		to[n] = fd;
	return n + (fd >= 0);
}

size_t fuse_server_fds(const struct fuse_server *s, int *fd)
{
	const struct fuse_table *t = &s->table;
	size_t n = put_fd(fd, 0, s->root);

	n = put_fd(fd, n, s->own_fds);
	for (uint32_t i = 1; i < t->inodes; i++)
		n = put_fd(fd, n, t->inode[i].fd);
	for (uint32_t i = 0; i < t->handles; i++)
		n = put_fd(fd, n, t->handle[i].fd);
	return n;
}

void fuse_server_roots(const struct fuse_server *s, int *root, int *own_fds)
{
	*root = s->root;
	*own_fds = s->own_fds;
}

bool fuse_server_read_only(const struct fuse_server *s)
{
	return s->read_only;
}

int fuse_server_forked(struct fuse_server *s, int own_fds, struct err *e)
{
	close(s->own_fds);
	s->own_fds = own_fds;
	for (uint32_t i = 0; i < s->table.handles; i++) {
		struct fuse_handle *h = &s->table.handle[i];
		int fd;

		if (h->fd < 0 || !h->dir)
			continue;
		fd = fuse_reopen(s, h->fd, O_RDONLY | O_DIRECTORY);
		if (fd < 0)
			return err_set(e, -fd, "a directory of a share cannot be opened again: %s",
				       strerror(-fd));
		close(h->fd);
		h->fd = fd;
		h->dir->next = -1;
	}
	return 0;
}
