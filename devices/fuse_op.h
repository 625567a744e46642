/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_op: what the parts of the FUSE server share: the server, a request that was decoded, and the
 * operations. fuse_server.c decodes and dispatches, fuse_names.c has what is done with names and
 * attributes, fuse_files.c what is done with open files and directories.
 */
#ifndef UVM_DEVICES_FUSE_OP_H
#define UVM_DEVICES_FUSE_OP_H

#include <linux/fuse.h>

#include "devices/fuse_server.h"
#include "devices/fuse_table.h"

/* The longest request beside WRITE is SETXATTR, with a value of XATTR_SIZE_MAX. */
#define FUSE_BUFFER (68u << 10)
#define FUSE_XATTR_MAX 65536u

/* Of a WRITE or READ: what fits a chain of VIRTQUEUE_MAX descriptors, with four for headers. */
#define FUSE_PAGES (VIRTQUEUE_MAX - 4)
#define FUSE_IO_MAX (FUSE_PAGES * 4096u)

struct fuse_server {
	struct fs_backend backend;
	int root, own_fds; /* O_PATH: the directory; /proc/self/fd */
	bool read_only;
	enum fuse_cache cache;
	bool able; /* to make files of others' */
	uid_t uid; /* if not */
	gid_t gid;
	uint32_t fds_max;
	dev_t dev; /* the root's */
	bool session;
	struct fuse_table table;
	uint8_t in[FUSE_BUFFER + 1] __attribute__((aligned(8)));
	uint8_t out[FUSE_BUFFER] __attribute__((aligned(8)));
	struct iovec part[VIRTQUEUE_MAX]; /* of a READ or WRITE */
};

/* A request, checked as its entry in the table of operations wants it. */
struct fuse_op {
	const struct fs_request *rq;
	const struct fuse_in_header *in;
	const void *arg;     /* the fixed part, or NULL */
	const char *name[2]; /* the first a single component, unless it is an attribute's */
	const uint8_t *data; /* what follows */
	size_t data_len;
	int fd;	     /* of the inode that the header names */
	mode_t type; /* and its */
	size_t room; /* for the answer, without its header */
	bool direct; /* set by an operation that has put its answer into rq->out itself */
};

/* An operation: returns the length of its answer, which is in s->out, or -errno. */
typedef int64_t fuse_fn(struct fuse_server *s, struct fuse_op *op);

fuse_fn fuse_lookup, fuse_getattr, fuse_setattr, fuse_readlink, fuse_symlink, fuse_mknod, fuse_mkdir,
	fuse_unlink, fuse_rmdir, fuse_rename, fuse_rename2, fuse_link, fuse_statfs, fuse_access,
	fuse_create, fuse_setxattr, fuse_getxattr, fuse_listxattr, fuse_removexattr;
fuse_fn fuse_open, fuse_read, fuse_write, fuse_release, fuse_fsync, fuse_opendir, fuse_readdir,
	fuse_readdirplus, fuse_releasedir, fuse_fsyncdir, fuse_fallocate, fuse_lseek,
	fuse_copy_file_range, fuse_syncfs;

/* 0, or -errno for what cannot be the name of an entry. */
int fuse_check_name(const char *name);

/* Looks name up in the directory: its entry, with one lookup more that the guest has to forget. likely:
 * it is probably known already. Returns 0 or -errno.
 */
int fuse_enter(struct fuse_server *s, int dir, const char *name, bool likely,
	       struct fuse_entry_out *out);

/* Opens what a descriptor is of, a regular file or directory (the caller has checked), again. */
int fuse_reopen(const struct fuse_server *s, int fd, int flags);

/* What the answer to an OPEN or CREATE says of caching. */
uint32_t fuse_open_flags(const struct fuse_server *s, bool dir);

#endif
