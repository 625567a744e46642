/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/fuse_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

#define NONE  UINT32_MAX
#define FIRST 64u /* slots of a table that has any */

/* FUSE_ROOT_ID, 1, is slot 0 in its first generation. */
static uint64_t make_id(uint32_t index, uint32_t gen)
{
	return (uint64_t)gen << 32 | ((uint64_t)index + 1);
}

static uint32_t bucket_of(const struct fuse_table *t, ino_t ino)
{
	return (uint32_t)(((uint64_t)ino * 0x9e3779b97f4a7c15ull) >> 32) & (t->buckets - 1);
}

static void link_inode(struct fuse_table *t, uint32_t index)
{
	uint32_t *head = &t->bucket[bucket_of(t, t->inode[index].ino)];

	t->inode[index].next = *head;
	*head = index;
}

static void unlink_inode(struct fuse_table *t, uint32_t index)
{
	uint32_t *at = &t->bucket[bucket_of(t, t->inode[index].ino)];

	while (*at != index)
		at = &t->inode[*at].next;
	*at = t->inode[index].next;
}

/* Doubles the slots, and the buckets with them. */
static int grow_inodes(struct fuse_table *t)
{
	uint32_t n = t->inodes ? 2 * t->inodes : FIRST;
	struct fuse_inode *inode = realloc(t->inode, n * sizeof(*inode));
	uint32_t *bucket;

	if (!inode)
		return -ENOMEM;
	t->inode = inode;
	bucket = realloc(t->bucket, n * sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	t->bucket = bucket;
	t->buckets = n;
	memset(bucket, 0xff, n * sizeof(*bucket));
	for (uint32_t i = 0; i < t->inodes; i++) /* all are in use, or they would not have to grow */
		link_inode(t, i);
	for (uint32_t i = n; i-- > t->inodes;) {
		inode[i] = (struct fuse_inode){.fd = -1, .next = t->inode_free};
		t->inode_free = i;
	}
	t->inodes = n;
	return 0;
}

bool fuse_table_room(const struct fuse_table *t, uint32_t inodes, uint32_t handles)
{
	return t->inodes_used + inodes <= t->fds_max / 4 * 3 &&
	       t->inodes_used + t->handles_used + inodes + handles <= t->fds_max;
}

int fuse_table_init(struct fuse_table *t, int root, const struct stat *st, uint64_t mount,
		    uint32_t fds_max)
{
	memset(t, 0, sizeof(*t));
	t->fds_max = fds_max;
	t->inode_free = t->handle_free = NONE;
	if (!fuse_table_room(t, 1, 1) || !fuse_inode_add(t, root, st, mount)) {
		fuse_table_close(t);
		return -ENOMEM;
	}
	t->inode[0].lookups = 1;
	return 0;
}

void fuse_table_close(struct fuse_table *t)
{
	for (uint32_t i = 1; i < t->inodes; i++)
		if (t->inode[i].fd >= 0)
			close(t->inode[i].fd);
	for (uint32_t i = 0; i < t->handles; i++) {
		if (t->handle[i].fd >= 0)
			close(t->handle[i].fd);
		free(t->handle[i].dir);
	}
	free(t->inode);
	free(t->bucket);
	free(t->handle);
	memset(t, 0, sizeof(*t));
}

struct fuse_inode *fuse_inode_get(const struct fuse_table *t, uint64_t id)
{
	uint64_t index = (uint32_t)id - 1ull; /* 0 becomes too large */
	struct fuse_inode *i;

	if (index >= t->inodes)
		return NULL;
	i = &t->inode[index];
	return i->fd >= 0 && i->gen == id >> 32 ? i : NULL;
}

struct fuse_inode *fuse_inode_find(const struct fuse_table *t, const struct stat *st, uint64_t mount)
{
	if (!t->buckets)
		return NULL;
	for (uint32_t i = t->bucket[bucket_of(t, st->st_ino)]; i != NONE; i = t->inode[i].next)
		if (t->inode[i].ino == st->st_ino && t->inode[i].dev == st->st_dev &&
		    t->inode[i].mount == mount)
			return &t->inode[i];
	return NULL;
}

bool fuse_inode_likely(const struct fuse_table *t, ino_t ino)
{
	for (uint32_t i = t->bucket[bucket_of(t, ino)]; i != NONE; i = t->inode[i].next)
		if (t->inode[i].ino == ino)
			return true;
	return false;
}

uint64_t fuse_inode_id(const struct fuse_table *t, const struct fuse_inode *i)
{
	return make_id((uint32_t)(i - t->inode), i->gen);
}

struct fuse_inode *fuse_inode_add(struct fuse_table *t, int fd, const struct stat *st, uint64_t mount)
{
	struct fuse_inode *i;
	uint32_t index;
	int error = fuse_table_room(t, 1, 0) ? 0 : ENFILE;

	if (!error && t->inode_free == NONE)
		error = -grow_inodes(t);
	if (error) {
		errno = error;
		return NULL;
	}
	index = t->inode_free;
	i = &t->inode[index];
	t->inode_free = i->next;
	i->dev = st->st_dev;
	i->ino = st->st_ino;
	i->mount = mount;
	i->type = st->st_mode & S_IFMT;
	i->lookups = 0;
	i->fd = fd;
	link_inode(t, index);
	t->inodes_used++;
	return i;
}

void fuse_inode_forget(struct fuse_table *t, uint64_t id, uint64_t n)
{
	struct fuse_inode *i = fuse_inode_get(t, id);
	uint32_t index;

	if (!i || i == t->inode)
		return;
	i->lookups -= MIN(n, i->lookups);
	if (i->lookups)
		return;
	index = (uint32_t)(i - t->inode);
	unlink_inode(t, index);
	close(i->fd);
	i->fd = -1;
	i->gen++;
	i->next = t->inode_free;
	t->inode_free = index;
	t->inodes_used--;
}

static int grow_handles(struct fuse_table *t)
{
	uint32_t n = t->handles ? 2 * t->handles : FIRST;
	struct fuse_handle *handle = realloc(t->handle, n * sizeof(*handle));

	if (!handle)
		return -ENOMEM;
	t->handle = handle;
	for (uint32_t i = n; i-- > t->handles;) {
		handle[i] = (struct fuse_handle){.fd = -1, .next = t->handle_free};
		t->handle_free = i;
	}
	t->handles = n;
	return 0;
}

/* The table has it, which the analyser loses sight of. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
int fuse_handle_add(struct fuse_table *t, int fd, bool dir, bool writable, uint64_t *id)
{
	struct fuse_dir *d = NULL;
	struct fuse_handle *h;
	int r = 0;

	if (!fuse_table_room(t, 0, 1) || (dir && t->dirs == FUSE_TABLE_DIRS))
		r = -ENFILE;
	else if (t->handle_free == NONE)
		r = grow_handles(t);
	if (!r && dir) {
		d = malloc(sizeof(*d));
		r = d ? 0 : -ENOMEM;
	}
	if (r)
		return r;
	if (d)
		d->next = -1;
	h = &t->handle[t->handle_free];
	*id = make_id(t->handle_free, h->gen);
	t->handle_free = h->next;
	h->fd = fd;
	h->writable = writable;
	h->dir = d;
	t->handles_used++;
	t->dirs += dir;
	return 0;
}
#pragma GCC diagnostic pop

struct fuse_handle *fuse_handle_get(const struct fuse_table *t, uint64_t id, bool dir)
{
	uint64_t index = (uint32_t)id - 1ull;
	struct fuse_handle *h;

	if (index >= t->handles)
		return NULL;
	h = &t->handle[index];
	return h->fd >= 0 && h->gen == id >> 32 && !h->dir == !dir ? h : NULL;
}

int fuse_handle_close(struct fuse_table *t, uint64_t id, bool dir)
{
	struct fuse_handle *h = fuse_handle_get(t, id, dir);

	if (!h)
		return -EBADF;
	close(h->fd);
	free(h->dir);
	h->dir = NULL;
	h->fd = -1;
	h->gen++;
	h->next = t->handle_free;
	t->handle_free = (uint32_t)(h - t->handle);
	t->handles_used--;
	t->dirs -= dir;
	return 0;
}
