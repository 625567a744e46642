/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/tree.h"
#include "vmm/unpack.h"
#include "vmm/util.h"

#define BUFFER (256u << 10)

struct extent_field {
	char at[12], len[12];
};

struct gnu_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[8], uname[32], gname[32], major[8], minor[8], times[41];
	struct extent_field map[4];
	char more, real[12], end[17];
};
_Static_assert(sizeof(struct gnu_header) == TAR_BLOCK, "a tar header is a block");

struct gnu_map {
	struct extent_field map[21];
	char more, unused[7];
};
_Static_assert(sizeof(struct gnu_map) == TAR_BLOCK, "so is what follows it");

/* --- the stream --- */

static int flush(struct pack *p, struct err *e)
{
	int r = write_all(p->fd, p->buffer, p->len);

	p->len = 0;
	return r ? err_set(e, -r, "cannot write %s: %s", p->what, strerror(-r)) : 0;
}

static int put(struct pack *p, const void *data, size_t len, struct err *e)
{
	while (len) {
		size_t n = MIN(len, BUFFER - p->len);

		memcpy(p->buffer + p->len, data, n);
		p->len += n;
		data = (const char *)data + n;
		len -= n;
		if (p->len == BUFFER) {
			int r = flush(p, e);

			if (r)
				return r;
		}
	}
	return 0;
}

static int put_zeros(struct pack *p, uint64_t len, struct err *e)
{
	static const uint8_t zeros[4096];
	int r = 0;

	while (len && !r) {
		size_t n = MIN(len, sizeof(zeros));

		r = put(p, zeros, n, e);
		len -= n;
	}
	return r;
}

/* --- headers --- */

static void field(char *to, size_t len, int64_t v)
{
	bool octal = v >= 0 && !(v >> 3 * (len - 1));

	to[len - 1] = 0;
	for (size_t i = octal ? len - 1 : len; i-- > 0; v >>= octal ? 3 : 8)
		to[i] = (char)(octal ? '0' + (v & 7) : v);
	if (!octal)
		to[0] |= (char)0x80;
}

#define FIELD(h, name, v) field((h)->name, sizeof((h)->name), (int64_t)(v))

static int put_header(struct pack *p, struct gnu_header *h, struct err *e)
{
	unsigned int sum = 0;

	memcpy(h->magic, "ustar  ", sizeof(h->magic));
	memset(h->sum, ' ', sizeof(h->sum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const uint8_t *)h)[i];
	field(h->sum, sizeof(h->sum) - 1, sum);
	return put(p, h, sizeof(*h), e);
}

/* Into its field, and whole in a member of its own before if it does not fit. */
static int put_name(struct pack *p, char to[100], char type, const char *name, struct err *e)
{
	struct gnu_header h = {.name = "././@LongLink", .type = type};
	size_t len = strlen(name);
	int r;

	memcpy(to, name, MIN(len, 100u));
	if (len <= 100)
		return 0;
	FIELD(&h, size, len + 1);
	r = put_header(p, &h, e);
	if (!r)
		r = put(p, name, len + 1, e);
	return r ? r : put_zeros(p, -(len + 1) % TAR_BLOCK, e);
}

static void put_map(struct extent_field *to, size_t n, const struct tar_member *m, size_t *from)
{
	for (size_t i = 0; i < n && *from < m->extents; i++, ++*from) {
		FIELD(&to[i], at, m->extent[*from].at);
		FIELD(&to[i], len, m->extent[*from].len);
	}
}

/* All that comes before the data. */
static int put_member(struct pack *p, const struct tar_member *m, struct err *e)
{
	struct gnu_header h = {.type = m->type};
	size_t from = 0;
	int r = put_name(p, h.name, 'L', m->name, e);

	if (!r)
		r = put_name(p, h.link, 'K', m->link, e);
	FIELD(&h, mode, m->mode);
	FIELD(&h, uid, p->owners ? m->uid : 0);
	FIELD(&h, gid, p->owners ? m->gid : 0);
	FIELD(&h, size, m->data_size);
	FIELD(&h, mtime, m->mtime.tv_sec);
	FIELD(&h, major, m->major);
	FIELD(&h, minor, m->minor);
	if (m->sparse) {
		h.type = 'S';
		FIELD(&h, real, m->size);
		put_map(h.map, ARRAY_SIZE(h.map), m, &from);
		h.more = from < m->extents;
	}
	if (!r)
		r = put_header(p, &h, e);
	while (!r && from < m->extents) {
		struct gnu_map block = {.more = 0};

		put_map(block.map, ARRAY_SIZE(block.map), m, &from);
		block.more = from < m->extents;
		r = put(p, &block, sizeof(block), e);
	}
	return r;
}

/* --- files --- */

struct link {
	dev_t dev;
	ino_t ino;
	char name[];
};

static int compare_links(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino == y->ino ? 0 : x->ino < y->ino ? -1 : 1;
}

/* The name under which a file has been added already, or NULL, and this one is noted. */
static const char *first_name(struct pack *p, const struct stat *st, const char *name)
{
	struct link *l = malloc(sizeof(*l) + strlen(name) + 1), **at;

	if (!l)
		return NULL; /* a copy more */
	*l = (struct link){.dev = st->st_dev, .ino = st->st_ino};
	strcpy(l->name, name);
	at = tsearch(l, &p->links, compare_links);
	if (at && *at == l)
		return NULL;
	free(l);
	return at ? (*at)->name : NULL;
}

/* Where the file has data, as m's extents of which there is room for PACK_EXTENTS; whether it has
 * holes.
 */
static void find_data(struct tar_member *m, int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, stored = 0;
	off_t at = 0, hole;

	if ((uint64_t)st->st_blocks * 512 >= size)
		return;
	while (m->extents < PACK_EXTENTS - 1 && (at = lseek(fd, at, SEEK_DATA)) >= 0 &&
	       at < st->st_size) {
		hole = m->extents == PACK_EXTENTS - 2 ? st->st_size : lseek(fd, at, SEEK_HOLE);
		hole = MIN(hole, st->st_size);
		if (hole <= at) {
			m->extents = 0;
			return;
		}
		m->extent[m->extents++] =
			(struct tar_extent){(uint64_t)at, (uint64_t)(hole - at)};
		stored += (uint64_t)(hole - at);
		at = hole;
	}
	if (at < 0 && errno != ENXIO) { /* which is: only a hole is left */
		m->extents = 0;
		return;
	}
	/* By an empty one at the end tar(1) makes the last hole. */
	m->extent[m->extents++] = (struct tar_extent){size, 0};
	m->sparse = true;
	m->data_size = stored;
}

/* A part of a file. It may be shorter by now: the rest is zeros then. */
static int put_range(struct pack *p, int fd, const char *path, uint64_t at, uint64_t len,
		     struct err *e)
{
	uint8_t data[65536];
	int r = 0;

	while (len && !r) {
		ssize_t n = pread(fd, data, MIN(len, sizeof(data)), (off_t)at);

		if (n < 0)
			return err_sys(e, "cannot read %s", path);
		if (!n)
			return put_zeros(p, len, e);
		r = put(p, data, (size_t)n, e);
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return r;
}

static int put_file(struct pack *p, struct tar_member *m, int fd, const char *path,
		    const struct stat *st, struct err *e)
{
	struct tar_extent extents[PACK_EXTENTS];
	int r;

	m->extent = extents;
	m->size = m->data_size = (uint64_t)st->st_size;
	find_data(m, fd, st);
	r = put_member(p, m, e);
	if (!m->sparse && !r)
		r = put_range(p, fd, path, 0, m->size, e);
	for (size_t i = 0; m->sparse && i < m->extents && !r; i++)
		r = put_range(p, fd, path, extents[i].at, extents[i].len, e);
	return r ? r : put_zeros(p, -m->data_size % TAR_BLOCK, e);
}

/* What the walk is at, on this host and in the archive. */
struct place {
	char path[PATH_MAX], name[PATH_MAX];
	unsigned int depth;
};

static int put_any(struct pack *p, struct place *at, int dir, const char *last, bool follow,
		   struct err *e);

static int put_entry(struct pack *p, struct place *at, int dir, const char *entry, struct err *e)
{
	size_t path = strlen(at->path), name = strlen(at->name), more = strlen(entry);
	int r;

	if (MAX(path, name) + more + 2 > PATH_MAX || at->depth == TREE_DEPTH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: a path in it is too long", at->path);
	sprintf(at->path + path, "/%s", entry);
	sprintf(at->name + name, "%s%s", name ? "/" : "", entry);
	at->depth++;
	r = put_any(p, at, dir, entry, false, e);
	at->depth--;
	if (!r)
		at->path[path] = 0;
	at->name[name] = 0;
	return r;
}

/* Takes over fd. */
static int put_entries(struct pack *p, struct place *at, int fd, struct err *e)
{
	DIR *d = fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!d) {
		r = err_sys(e, "%s", at->path);
		close(fd);
		return r;
	}
	while (!r && (errno = 0, entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			r = put_entry(p, at, fd, entry->d_name, e);
	if (!r && errno)
		r = err_sys(e, "%s", at->path);
	closedir(d);
	return r;
}

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return '0';
	case S_IFLNK: return '2';
	case S_IFCHR: return '3';
	case S_IFBLK: return '4';
	case S_IFDIR: return '5';
	case S_IFIFO: return '6';
	default: return 0;
	}
}

static int put_open(struct pack *p, struct place *at, struct tar_member *m, int fd,
		    const struct stat *st, struct err *e)
{
	int r;

	if (m->type == '0') {
		r = put_file(p, m, fd, at->path, st, e);
		close(fd);
		return r;
	}
	r = put_member(p, m, e);
	if (r)
		close(fd);
	else
		r = put_entries(p, at, fd, e);
	return r || !p->twice ? r : put_member(p, m, e);
}

static int put_any(struct pack *p, struct place *at, int dir, const char *last, bool follow,
		   struct err *e)
{
	char target[PATH_MAX] = "";
	struct tar_member m = {.name = *at->name ? at->name : (char[]){"."}, .link = target};
	const char *first = NULL;
	struct stat st;
	int fd = -1;

	if (fstatat(dir, last, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW))
		return err_sys(e, "%s", at->path);
	m.type = type_of(st.st_mode);
	if (m.type == '0' || m.type == '5') {
		fd = openat(dir, last, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
					       (follow ? 0 : O_NOFOLLOW));
		if (fd < 0 || fstat(fd, &st))
			return err_sys(e, "%s", at->path);
		if (type_of(st.st_mode) != m.type) {
			close(fd);
			return err_set(e, EAGAIN, "%s has changed meanwhile", at->path);
		}
	} else if (m.type == '2' && readlinkat(dir, last, target, sizeof(target) - 1) < 0) {
		return err_sys(e, "%s", at->path);
	}
	p->sockets += !m.type;
	if (!m.type)
		return 0;
	if (m.type != '5' && st.st_nlink > 1)
		first = first_name(p, &st, m.name);
	if (first) {
		m.type = '1';
		snprintf(target, sizeof(target), "%s", first);
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	m.mode = st.st_mode & 07777;
	m.uid = st.st_uid;
	m.gid = st.st_gid;
	m.mtime = st.st_mtim;
	m.major = major(st.st_rdev);
	m.minor = minor(st.st_rdev);
	return fd >= 0 ? put_open(p, at, &m, fd, &st, e) : put_member(p, &m, e);
}

int pack_tree(struct pack *p, const char *path, const char *name, bool follow, struct err *e)
{
	struct place at = {.depth = 0};

	if (strlen(path) >= sizeof(at.path) || strlen(name) >= sizeof(at.name))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", path);
	strcpy(at.path, path);
	strcpy(at.name, strcmp(name, ".") ? name : "");
	return put_any(p, &at, AT_FDCWD, path, follow, e);
}

/* --- another archive --- */

/* The data of a member as it is written: with what it has no room for in its map filled in. */
static int copy_data(struct pack *p, struct tar *from, uint64_t len, struct err *e)
{
	while (len) {
		const void *data;
		ssize_t n = tar_data(from, &data, MIN(len, BUFFER), e);
		int r;

		if (n <= 0)
			return n ? (int)n : err_set(e, EINVAL, "%s is cut off", from->what);
		r = put(p, data, (size_t)n, e);
		if (r)
			return r;
		len -= (uint64_t)n;
	}
	return 0;
}

static int copy_member(struct pack *p, struct tar *from, struct err *e)
{
	struct tar_member m = from->m;
	char name[PATH_MAX], link[PATH_MAX];
	bool fill = m.sparse && m.extents > PACK_EXTENTS;
	uint64_t at = 0;
	int r = unpack_name(from->what, m.name, name, e);

	if (!r && m.type == '1')
		r = unpack_name(from->what, m.link, link, e);
	if (r)
		return r;
	if (m.type == '1')
		m.link = link;
	else if (strlen(m.link) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: '%.100s...': its link is too long", from->what,
			       name);
	m.name = *name ? name : (char[]){"."};
	if (fill) {
		m.sparse = false;
		m.extents = 0;
		m.data_size = m.size;
	}
	r = put_member(p, &m, e);
	if (!fill && !r)
		r = copy_data(p, from, m.data_size, e);
	for (size_t i = 0; fill && !r && i < from->m.extents; i++) {
		r = put_zeros(p, from->m.extent[i].at - at, e);
		if (!r)
			r = copy_data(p, from, from->m.extent[i].len, e);
		at = from->m.extent[i].at + from->m.extent[i].len;
	}
	if (fill && !r)
		r = put_zeros(p, m.size - at, e);
	return r ? r : put_zeros(p, -m.data_size % TAR_BLOCK, e);
}

int pack_tar(struct pack *p, int fd, const char *what, struct err *e)
{
	struct tar from;
	int r = tar_open(&from, fd, what, e);

	if (r)
		return r;
	while ((r = tar_next(&from, e)) > 0) {
		r = copy_member(p, &from, e);
		if (r)
			break;
	}
	tar_close(&from);
	return r;
}

int pack_open(struct pack *p, struct err *e)
{
	p->buffer = malloc(BUFFER);
	return p->buffer ? 0 : err_set(e, ENOMEM, "out of memory");
}

int pack_end(struct pack *p, struct err *e)
{
	int r = put_zeros(p, (uint64_t)2 * TAR_BLOCK, e);

	return r ? r : flush(p, e);
}

void pack_close(struct pack *p)
{
	free(p->buffer);
	p->buffer = NULL;
	while (p->links) {
		struct link *l = *(struct link **)p->links;

		tdelete(l, &p->links, compare_links);
		free(l);
	}
}
