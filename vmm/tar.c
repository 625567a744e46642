/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tar.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/tar_number.h"
#include "vmm/util.h"

#define BUFFER (256u << 10)

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[6], version[2], uname[32], gname[32], major[8], minor[8];
	union {
		char prefix[155]; /* POSIX */
		struct {
			char atime[12], ctime[12], offset[12], longnames[4], unused;
			char map[4][24];
			char more, size[12];
		} gnu;
	};
	char end[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a tar header is a block");

struct sparse_block { /* of an old GNU sparse file, behind its header */
	char map[21][24];
	char more, unused[7];
};
_Static_assert(sizeof(struct sparse_block) == TAR_BLOCK, "so is what follows it");

/* The records of a pax header, and GNU's names. Texts that they refer to are in the buffers. */
struct tar_extra {
	char *pax, *long_name, *long_link;
	const char *path, *link, *sparse_name;
	bool has_size, has_uid, has_gid, has_mtime, sparse;
	uint64_t size, real_size;
	int64_t uid, gid;
	struct timespec mtime;
};

static int bad(const struct tar *t, const char *why, struct err *e)
{
	return err_set(e, EINVAL, "%s: %s", t->what, why);
}

/* ... about a member. */
static int bad_member(const struct tar *t, const char *why, struct err *e)
{
	return err_set(e, EINVAL, "%s: '%.200s' %s", t->what, t->m.name, why);
}

/* --- the stream --- */

/* Up to `most` bytes that are in the buffer; reads if there are none. Returns 0 at the end. */
static ssize_t some(struct tar *t, const uint8_t **data, size_t most, struct err *e)
{
	size_t n;

	if (t->from == t->to) {
		ssize_t got;

		do
			got = read(t->fd, t->buffer, BUFFER);
		while (got < 0 && errno == EINTR);
		if (got < 0)
			return err_sys(e, "%s", t->what);
		t->from = 0;
		t->to = (size_t)got;
	}
	n = MIN(t->to - t->from, most);
	*data = t->buffer + t->from;
	t->from += n;
	return (ssize_t)n;
}

/* Exactly len bytes, into `to` (NULL: nowhere). */
static int take(struct tar *t, void *to, uint64_t len, struct err *e)
{
	while (len) {
		const uint8_t *data;
		ssize_t n = some(t, &data, MIN(len, (uint64_t)BUFFER), e);

		if (n < 0)
			return (int)n;
		if (!n)
			return bad(t, "the archive is cut off", e);
		if (to) {
			memcpy(to, data, (size_t)n);
			to = (char *)to + n;
		}
		len -= (uint64_t)n;
	}
	return 0;
}

ssize_t tar_data(struct tar *t, const void **data, size_t most, struct err *e)
{
	const uint8_t *p = NULL;
	ssize_t n;

	if (!t->left)
		return 0;
	n = some(t, &p, MIN(t->left, (uint64_t)most), e);
	if (!n)
		return bad_member(t, "is cut off", e);
	if (n > 0)
		t->left -= (uint64_t)n;
	*data = p;
	return n;
}

static bool checksum_fits(const struct header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	int64_t said, sum = 0, sum_signed = 0;

	for (size_t i = 0; i < sizeof(*h); i++) {
		bool itself =
			i >= offsetof(struct header, sum) && i < offsetof(struct header, type);

		sum += itself ? ' ' : p[i];
		sum_signed += itself ? ' ' : (int8_t)p[i]; /* as some old ones did */
	}
	return tar_number(h->sum, sizeof(h->sum), &said) && (said == sum || said == sum_signed);
}

/* --- extended headers --- */

static void free_extra(struct tar_extra *x)
{
	free(x->pax);
	free(x->long_name);
	free(x->long_link);
	*x = (struct tar_extra){0};
}

/* Reads data of `size` bytes, and its padding, as a text. */
static int extra_text(struct tar *t, uint64_t size, char **to, struct err *e)
{
	int r;

	if (size > TAR_EXTRA_MAX)
		return err_set(e, E2BIG, "%s: an extended header of %llu bytes", t->what,
			       (unsigned long long)size);
	if (*to)
		return bad(t, "two extended headers of a kind for one member", e);
	*to = malloc(size + 1);
	if (!*to)
		return err_set(e, ENOMEM, "out of memory");
	(*to)[size] = 0;
	r = take(t, *to, size, e);
	return r ? r : take(t, NULL, -size % TAR_BLOCK, e);
}

static int add_xattr(struct tar *t, const char *name, const char *value, size_t len, struct err *e)
{
	struct tar_member *m = &t->m;

	if (m->xattrs == TAR_XATTRS_MAX)
		return err_set(e, E2BIG, "%s: a member has more than %u extended attributes",
			       t->what, TAR_XATTRS_MAX);
	m->xattr[m->xattrs++] = (struct tar_xattr){name, value, len};
	return 0;
}

/* One record; key and value end in a NUL, where the format has '=' and a newline. */
static int record(struct tar *t, const char *key, const char *value, size_t len, struct err *e)
{
	static const char xattr[] = "SCHILY.xattr.";
	struct tar_extra *x = t->extra;
	uint64_t n = 0, id = 0;
	const char *end;
	bool fits = true;

	if (!strncmp(key, xattr, strlen(xattr)))
		return add_xattr(t, key + strlen(xattr), value, len, e);
	if (!*value)
		return 0; /* as if there was no such record */
	if (strlen(value) != len)
		return bad(t, "a pax record has a NUL in it", e);
	end = tar_decimal(value, &n);
	id = end && !*end && n < UINT32_MAX ? n : UINT64_MAX;
	if (!strcmp(key, "path"))
		x->path = value;
	else if (!strcmp(key, "linkpath"))
		x->link = value;
	else if (!strcmp(key, "GNU.sparse.name"))
		x->sparse_name = value;
	else if (!strcmp(key, "mtime"))
		x->has_mtime = fits = tar_time(value, &x->mtime);
	else if (!strcmp(key, "uid"))
		x->has_uid = true, x->uid = (int64_t)id, fits = id != UINT64_MAX;
	else if (!strcmp(key, "gid"))
		x->has_gid = true, x->gid = (int64_t)id, fits = id != UINT64_MAX;
	else if (!strcmp(key, "size"))
		x->has_size = true, x->size = n, fits = end && !*end;
	else if (!strcmp(key, "GNU.sparse.realsize"))
		x->real_size = n, fits = end && !*end;
	else if (!strcmp(key, "GNU.sparse.major"))
		x->sparse = true, fits = !strcmp(value, "1");
	else if (!strcmp(key, "GNU.sparse.minor"))
		fits = !strcmp(value, "0");
	else if (!strncmp(key, "GNU.sparse.", 11))
		fits = false; /* versions 0.0 and 0.1, which tar(1) writes only when asked to */
	return fits ? 0
		    : err_set(e, EINVAL, "%s: pax record %.64s=%.64s is wrong or not supported",
			      t->what, key, value);
}

/* "LENGTH KEY=VALUE\n", one after the other. */
static int records(struct tar *t, char *p, size_t left, struct err *e)
{
	while (left) {
		uint64_t len = 0;
		const char *key = tar_decimal(p, &len);
		char *value;
		size_t head;
		int r;

		if (!key || *key != ' ' || !len || len > left || p[len - 1] != '\n')
			return bad(t, "a pax record is malformed", e);
		key++;
		head = (size_t)(key - p);
		value = head < len ? memchr(key, '=', len - head) : NULL;
		if (!value || value == key)
			return bad(t, "a pax record is malformed", e);
		*value++ = 0;
		p[len - 1] = 0;
		if (strlen(key) != (size_t)(value - 1 - key))
			return bad(t, "a pax record has a NUL in it", e);
		r = record(t, key, value, (size_t)(p + len - 1 - value), e);
		if (r)
			return r;
		p += len;
		left -= len;
	}
	return 0;
}

/* --- members --- */

static char *field_text(const char *field, size_t len)
{
	return strndup(field, len);
}

static int name_of(struct tar *t, const struct header *h, struct err *e)
{
	struct tar_extra *x = t->extra;
	bool posix = !memcmp(h->magic, "ustar", 6);
	size_t prefix = posix ? strnlen(h->prefix, sizeof(h->prefix)) : 0;

	if (x->sparse_name || x->path)
		t->m.name = strdup(x->sparse_name ? x->sparse_name : x->path);
	else if (x->long_name)
		t->m.name = strdup(x->long_name);
	else if (!prefix)
		t->m.name = field_text(h->name, sizeof(h->name));
	else if (asprintf(&t->m.name, "%.*s/%.*s", (int)prefix, h->prefix, (int)sizeof(h->name),
			  h->name) < 0)
		t->m.name = NULL;
	t->m.link = x->link	   ? strdup(x->link)
		    : x->long_link ? strdup(x->long_link)
				   : field_text(h->link, sizeof(h->link));
	return t->m.name && t->m.link ? 0 : err_set(e, ENOMEM, "out of memory");
}

static int add_extent(struct tar *t, uint64_t at, uint64_t len, struct err *e)
{
	struct tar_member *m = &t->m;
	const struct tar_extent *last = m->extents ? &m->extent[m->extents - 1] : NULL;
	uint64_t end;

	if (m->extents == TAR_EXTENTS_MAX)
		return bad_member(t, "has too many extents", e);
	if (!(m->extents & (m->extents + 1))) { /* a power of two less one: room for as many more */
		struct tar_extent *more =
			realloc(m->extent, 2 * (m->extents + 1) * sizeof(*more));

		if (!more)
			return err_set(e, ENOMEM, "out of memory");
		m->extent = more;
		last = m->extents ? &m->extent[m->extents - 1] : NULL;
	}
	if (__builtin_add_overflow(at, len, &end) || end > m->size ||
	    (last && at < last->at + last->len))
		return bad_member(t, "has an impossible map of extents", e);
	m->extent[m->extents++] = (struct tar_extent){at, len};
	return 0;
}

/* Old GNU: the map is in the header, and in blocks behind it. An entry of zeros may end it. */
static int gnu_map(struct tar *t, const char (*map)[24], unsigned int n, struct err *e)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t at, len;
		int r;

		if (!map[i][0])
			break;
		if (!tar_size(map[i], 12, &at) || !tar_size(map[i] + 12, 12, &len))
			return bad_member(t, "has an impossible map of extents", e);
		r = add_extent(t, at, len, e);
		if (r)
			return r;
	}
	return 0;
}

static int gnu_sparse(struct tar *t, const struct header *h, struct err *e)
{
	struct sparse_block block;
	char more = h->gnu.more;
	int r;

	t->m.sparse = true;
	if (!tar_size(h->gnu.size, sizeof(h->gnu.size), &t->m.size))
		return bad_member(t, "has an impossible size", e);
	r = gnu_map(t, h->gnu.map, 4, e);
	while (!r && more) {
		r = take(t, &block, sizeof(block), e);
		if (!r)
			r = gnu_map(t, block.map, 21, e);
		more = block.more;
	}
	return r;
}

/* A number of pax 1.0's map, on a line of its own in the data. */
static int map_number(struct tar *t, uint64_t *used, uint64_t *value, struct err *e)
{
	char line[24] = "";

	for (unsigned int i = 0; i < sizeof(line) - 1; i++) {
		int r;

		if (*used == t->m.data_size)
			break;
		r = take(t, &line[i], 1, e);
		if (r)
			return r;
		(*used)++;
		if (line[i] == '\n') {
			const char *end = tar_decimal(line, value);

			if (end && *end == '\n')
				return 0;
			break;
		}
	}
	return bad_member(t, "has a malformed map of extents", e);
}

static int pax_sparse(struct tar *t, struct err *e)
{
	uint64_t used = 0, n = 0, at = 0, len = 0, padding;
	int r;

	t->m.sparse = true;
	t->m.size = t->extra->real_size;
	r = map_number(t, &used, &n, e);
	for (uint64_t i = 0; i < n && !r; i++) {
		r = map_number(t, &used, &at, e);
		if (!r)
			r = map_number(t, &used, &len, e);
		if (!r)
			r = add_extent(t, at, len, e);
	}
	if (r)
		return r;
	padding = -used % TAR_BLOCK;
	if (padding > t->m.data_size - used)
		return bad_member(t, "has a malformed map of extents", e);
	t->m.data_size -= used + padding;
	return take(t, NULL, padding, e);
}

static int sparse(struct tar *t, const struct header *h, struct err *e)
{
	uint64_t stored = 0;
	int r = h->type == 'S' ? gnu_sparse(t, h, e) : pax_sparse(t, e);

	for (size_t i = 0; i < t->m.extents && !r; i++)
		stored += t->m.extent[i].len; /* they do not overlap: no overflow */
	if (!r && stored != t->m.data_size)
		r = bad_member(t, "has a map that does not fit its data", e);
	return r;
}

static int numbers(struct tar *t, const struct header *h, struct err *e)
{
	struct tar_extra *x = t->extra;
	struct tar_member *m = &t->m;
	int64_t mode, uid, gid, mtime, major, minor;

	if (!tar_number(h->mode, sizeof(h->mode), &mode) ||
	    !tar_number(h->mtime, sizeof(h->mtime), &mtime) || !tar_number(h->uid, sizeof(h->uid), &uid) ||
	    !tar_number(h->gid, sizeof(h->gid), &gid) || !tar_number(h->major, sizeof(h->major), &major) ||
	    !tar_number(h->minor, sizeof(h->minor), &minor))
		return bad_member(t, "has a malformed number in its header", e);
	uid = x->has_uid ? x->uid : uid;
	gid = x->has_gid ? x->gid : gid;
	/* The last one is "nobody at all" to chown(2). */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return bad_member(t, "has an impossible owner", e);
	if (major < 0 || major > UINT32_MAX || minor < 0 || minor > UINT32_MAX)
		return bad_member(t, "is an impossible device", e);
	m->mode = (mode_t)(mode & 07777);
	m->uid = (uid_t)uid;
	m->gid = (gid_t)gid;
	m->major = (uint32_t)major;
	m->minor = (uint32_t)minor;
	m->mtime = x->has_mtime ? x->mtime : (struct timespec){.tv_sec = (time_t)mtime};
	return 0;
}

static int member(struct tar *t, const struct header *h, uint64_t size, struct err *e)
{
	struct tar_member *m = &t->m;
	uint64_t data;
	int r = name_of(t, h, e);
	size_t n;

	if (!r)
		r = numbers(t, h, e);
	if (r)
		return r;
	n = strlen(m->name);
	m->type = h->type;
	if (h->type == 0 || h->type == '7' || h->type == 'S')
		m->type = '0';
	if (m->type == '0' && n && m->name[n - 1] == '/')
		m->type = '5'; /* as before there was a type for it */
	if (m->type < '0' || m->type > '6')
		return err_set(e, EINVAL, "%s: '%.200s' is of a type that is not supported ('%c')",
			       t->what, m->name, m->type);
	if (t->extra->has_size)
		size = t->extra->size;
	/* Only files have data. Old archives state the file's size with a hard link, too. */
	data = m->type == '0' ? size : 0;
	m->size = m->data_size = data;
	if (m->type == '0' && (h->type == 'S' || t->extra->sparse)) {
		r = sparse(t, h, e);
		if (r)
			return r;
	}
	t->left = m->data_size;
	t->padding = (unsigned int)(-data % TAR_BLOCK);
	return 1;
}

static void end_member(struct tar *t)
{
	free(t->m.name);
	free(t->m.link);
	free(t->m.extent);
	t->m = (struct tar_member){0};
	free_extra(t->extra);
}

static bool all_zero(const void *block)
{
	static const uint8_t zeros[TAR_BLOCK];

	return !memcmp(block, zeros, TAR_BLOCK);
}

/* What is behind the end is of no interest; but whoever writes it into a pipe, or sums it, is to
 * come to its end.
 */
static int drain(struct tar *t, struct err *e)
{
	const uint8_t *data;
	ssize_t n;

	while ((n = some(t, &data, BUFFER, e)) > 0)
		;
	return (int)n;
}

int tar_next(struct tar *t, struct err *e)
{
	struct header h;
	bool extended = false;
	int r = take(t, NULL, t->left, e);

	if (!r)
		r = take(t, NULL, t->padding, e);
	t->left = t->padding = 0;
	end_member(t);
	while (!r) {
		uint64_t size;

		r = take(t, &h, sizeof(h), e);
		if (r)
			return r;
		if (all_zero(&h))
			return extended ? bad(t, "the archive ends within a member", e)
					: drain(t, e);
		if (!checksum_fits(&h))
			return bad(t, "not a tar archive, or damaged: a header's checksum is wrong",
				   e);
		if (!tar_size(h.size, sizeof(h.size), &size))
			return bad(t, "a member has an impossible size", e);
		if (!strchr("xgLKV", h.type) || !h.type)
			return member(t, &h, size, e);
		if (h.type == 'x') {
			r = extra_text(t, size, &t->extra->pax, e);
			if (!r)
				r = records(t, t->extra->pax, size, e);
		} else if (h.type == 'L') {
			r = extra_text(t, size, &t->extra->long_name, e);
		} else if (h.type == 'K') {
			r = extra_text(t, size, &t->extra->long_link, e);
		} else { /* a comment for all, a volume's label */
			char *ignored = NULL;

			r = extra_text(t, size, &ignored, e);
			free(ignored);
			continue;
		}
		extended = true;
	}
	return r;
}

bool tar_is(int fd)
{
	struct header h;

	return !pread_all(fd, &h, sizeof(h), 0) && (all_zero(&h) || checksum_fits(&h));
}

int tar_open(struct tar *t, int fd, const char *what, struct err *e)
{
	*t = (struct tar){.fd = fd, .what = what};
	t->buffer = malloc(BUFFER);
	t->extra = calloc(1, sizeof(*t->extra));
	if (t->buffer && t->extra)
		return 0;
	tar_close(t);
	return err_set(e, ENOMEM, "out of memory");
}

void tar_close(struct tar *t)
{
	if (t->extra)
		end_member(t);
	free(t->extra);
	free(t->buffer);
	*t = (struct tar){.fd = -1};
}
