/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_table: what a guest has looked up and opened in a share: inodes and handles by number.
 *
 * The numbers go through the guest and come back as whatever it likes, so they are an index and a
 * generation: one that was never given, or was given and taken back, leads nowhere. An inode is
 * an O_PATH descriptor, which keeps it from being another one of the same number; so (mount, device,
 * inode number) names it (fuse_stat.h). It lives as long as the guest has not forgotten every lookup of it.
 *
 * Descriptors are what runs out, and only the guest can give some back. Then the answer is
 * ENFILE; inodes may take three quarters, so that there are always some to open a file with.
 */
#ifndef UVM_DEVICES_FUSE_TABLE_H
#define UVM_DEVICES_FUSE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define FUSE_TABLE_DIRS 1024u /* directories open at a time: each has a buffer */
#define FUSE_DIR_BUFFER 4096u

struct fuse_inode {
	dev_t dev;
	ino_t ino;
	uint64_t mount;	  /* id, or 0 */
	uint64_t lookups; /* that the guest has not forgotten */
	int fd;		  /* O_PATH; -1: a free slot */
	uint32_t gen;
	uint32_t next; /* in its bucket, or of the free slots */
	mode_t type;   /* S_IFMT's bits, which never change */
};

/* Entries that were read ahead of what the guest has asked for. */
struct fuse_dir {
	off_t next; /* where the entry at `at` lies; -1: nowhere */
	unsigned int at, end;
	uint8_t buf[FUSE_DIR_BUFFER] __attribute__((aligned(8)));
};

struct fuse_handle {
	int fd; /* -1: a free slot */
	uint32_t gen;
	uint32_t next;
	bool writable;
	struct fuse_dir *dir; /* NULL: a file */
};

struct fuse_table {
	struct fuse_inode *inode; /* 0 is the root, whose descriptor is the caller's */
	uint32_t inodes, inode_free, inodes_used;
	uint32_t *bucket;
	uint32_t buckets; /* a power of two */
	struct fuse_handle *handle;
	uint32_t handles, handle_free, handles_used, dirs;
	uint32_t fds_max;
};

/* Begins with the root, which has the id FUSE_ROOT_ID. Returns 0 or -ENOMEM. */
int fuse_table_init(struct fuse_table *t, int root, const struct stat *st, uint64_t mount,
		    uint32_t fds_max);

/* Closes and frees all but the root's descriptor. On one of zeros it does nothing. */
void fuse_table_close(struct fuse_table *t);

/* Whether so many inodes and handles more would find room. */
bool fuse_table_room(const struct fuse_table *t, uint32_t inodes, uint32_t handles);

/* By the guest's number, or NULL. Valid until the next that is added. */
struct fuse_inode *fuse_inode_get(const struct fuse_table *t, uint64_t id);
/* By what it is, or NULL. */
struct fuse_inode *fuse_inode_find(const struct fuse_table *t, const struct stat *st,
				   uint64_t mount);
/* Whether there is one of that number, on whatever device. */
bool fuse_inode_likely(const struct fuse_table *t, ino_t ino);
uint64_t fuse_inode_id(const struct fuse_table *t, const struct fuse_inode *i);

/* Adds one that is not there, with no lookups yet, and takes fd over. Returns NULL with errno set,
 * and fd is still the caller's.
 */
struct fuse_inode *fuse_inode_add(struct fuse_table *t, int fd, const struct stat *st,
				  uint64_t mount);
/* The guest forgets n lookups. */
void fuse_inode_forget(struct fuse_table *t, uint64_t id, uint64_t n);

/* Handles, likewise. A directory's has a buffer; asked for as a file it is none, and the other way
 * round. fuse_handle_add returns 0, or -errno and fd is still the caller's.
 */
int fuse_handle_add(struct fuse_table *t, int fd, bool dir, bool writable, uint64_t *id);
struct fuse_handle *fuse_handle_get(const struct fuse_table *t, uint64_t id, bool dir);
int fuse_handle_close(struct fuse_table *t, uint64_t id, bool dir);

#endif
