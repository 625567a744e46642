/* SPDX-License-Identifier: Apache-2.0
 *
 * Files as a tar stream, out and in, in the one form that both sides write and read: GNU's, with long
 * names (types L and K), sparse files (S) and numbers in base 256 where octal has no room.
 *
 * Others may be at work in the directories meanwhile. Out, no link is followed below the source. In, a
 * member's path is resolved with the destination as its root, and what is made is made new.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "guest/agent/mount.h"
#include "guest/agent/own.h"
#include "guest/agent/text.h"

#define BLOCK	 512u
#define EXTENTS	 84u   /* of a sparse file; what is behind the last is no hole */
#define IN_HEAD	 4u    /* extents in a header, and in each block behind it */
#define IN_BLOCK 21u
#define LINKS	 1024u /* files with several names that are known; the others are copied for each */
#define NAMES	 65536u

struct extent {
	char at[12], len[12];
};

struct head {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[8], user[32], group[32], major[8], minor[8];
	char unused[41];
	struct extent map[IN_HEAD];
	char more, real[12], end[17];
};
_Static_assert(sizeof(struct head) == BLOCK, "a header is a block");

/* Behind the header of a sparse file with more extents. */
struct more {
	struct extent map[IN_BLOCK];
	char more, unused[7];
};
_Static_assert(sizeof(struct more) == BLOCK, "so is what follows it");

static void put_number(char *field, size_t len, int64_t v)
{
	bool octal = v >= 0 && !(v >> 3 * (len - 1));

	for (size_t i = octal ? len - 1 : len; i--; v >>= octal ? 3 : 8)
		field[i] = (char)(octal ? '0' + (v & 7) : v);
	if (!octal)
		field[0] |= (char)0x80;
}

static int64_t number(const char *field, size_t len)
{
	int64_t v = field[0] & 0x40 ? -1 : 0;

	if (field[0] & 0x80) {
		for (size_t i = 1; i < len; i++)
			v = (int64_t)((uint64_t)v << 8 | (uint8_t)field[i]);
		return v;
	}
	v = 0;
	for (size_t i = 0; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (field[i] - '0');
	return v;
}

/* --- out --- */

static void put_head(struct own *o, struct head *h)
{
	uint32_t sum = 0;

	memcpy(h->magic, "ustar  ", 8);
	memset(h->sum, ' ', sizeof(h->sum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((uint8_t *)h)[i];
	put_number(h->sum, 7, sum);
	own_write(o, h, sizeof(*h));
}

static void put_padding(struct own *o, uint64_t size)
{
	static uint8_t zeros[BLOCK]; /* not constant: those take room in the agent's file */

	own_write(o, zeros, -size % BLOCK);
}

/* In the header; and if it has no room there, in a member of its own before. */
static void put_name(struct own *o, char *field, char type, const char *name)
{
	struct head h = {.name = "././@LongLink", .type = type};
	size_t len = strlen(name);

	memcpy(field, name, len < 100 ? len : 100);
	if (len <= 100)
		return;
	put_number(h.size, sizeof(h.size), (int64_t)len + 1);
	put_head(o, &h);
	own_write(o, name, len + 1);
	put_padding(o, len + 1);
}

/* A range of a file: what is not there any more is zeros. */
static void put_data(struct own *o, int fd, int64_t at, int64_t len)
{
	uint8_t data[8192];

	while (len > 0) {
		size_t most = len < (int64_t)sizeof(data) ? (size_t)len : sizeof(data);
		ssize_t n = pread(fd, data, most, at);

		if (n <= 0) {
			if (n < 0)
				own_complain(o, "cannot read");
			memset(data, 0, most);
			n = (ssize_t)most;
		}
		own_write(o, data, (size_t)n);
		at += n;
		len -= n;
	}
}

struct map {
	struct {
		int64_t at, len;
	} extent[EXTENTS];
	uint32_t count;
	int64_t data; /* in all */
};

/* Where a file has data. Returns false if it has no holes, or they cannot be found. */
static bool find_data(struct map *m, int fd, const struct stat *st)
{
	int64_t at = 0, hole;

	*m = (struct map){0};
	if (st->st_blocks * 512 >= st->st_size)
		return false;
	while (at < st->st_size && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < st->st_size) {
		hole = m->count == EXTENTS - 2 ? st->st_size : lseek(fd, at, SEEK_HOLE);
		if (hole <= at)
			return false;
		if (hole > st->st_size)
			hole = st->st_size;
		m->extent[m->count].at = at;
		m->extent[m->count++].len = hole - at;
		m->data += hole - at;
		at = hole;
	}
	if (at < 0 && errno != ENXIO) /* which is: only a hole is left */
		return false;
	m->extent[m->count++].at = st->st_size; /* by which tar(1) makes the last hole */
	return true;
}

static void put_map(struct extent *to, uint32_t n, const struct map *m, uint32_t *from)
{
	for (uint32_t i = 0; i < n && *from < m->count; i++, ++*from) {
		put_number(to[i].at, sizeof(to[i].at), m->extent[*from].at);
		put_number(to[i].len, sizeof(to[i].len), m->extent[*from].len);
	}
}

static void put_file(struct own *o, struct head *h, int fd, const struct stat *st)
{
	uint32_t from = 0;
	struct map m;

	if (!find_data(&m, fd, st)) {
		put_head(o, h);
		put_data(o, fd, 0, st->st_size);
		put_padding(o, (uint64_t)st->st_size);
		return;
	}
	h->type = 'S';
	put_number(h->size, sizeof(h->size), m.data);
	put_number(h->real, sizeof(h->real), st->st_size);
	put_map(h->map, IN_HEAD, &m, &from);
	h->more = from < m.count;
	put_head(o, h);
	while (from < m.count) {
		struct more block = {0};

		put_map(block.map, IN_BLOCK, &m, &from);
		block.more = from < m.count;
		own_write(o, &block, sizeof(block));
	}
	for (uint32_t i = 0; i < m.count; i++)
		put_data(o, fd, m.extent[i].at, m.extent[i].len);
	put_padding(o, (uint64_t)m.data);
}

/* The name under which a file has gone out already; if it has not, o->path is noted. */
static const char *first_name(const struct own *o, const struct stat *st)
{
	static struct {
		dev_t dev;
		ino_t ino;
		uint32_t name;
	} links[LINKS];
	static char names[NAMES];
	static uint32_t count, used;
	size_t size = strlen(o->path) + 1;

	for (uint32_t i = 0; i < count; i++)
		if (links[i].ino == st->st_ino && links[i].dev == st->st_dev)
			return names + links[i].name;
	if (count < LINKS && size <= NAMES - used) {
		links[count].dev = st->st_dev;
		links[count].ino = st->st_ino;
		links[count++].name = used;
		memcpy(names + used, o->path, size);
		used += (uint32_t)size;
	}
	return NULL;
}

/* Whether what is in there is the kernel's and no file of anybody's. */
static bool is_kernels(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) &&
	       (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
		fs.f_type == CGROUP2_SUPER_MAGIC);
}

static void put_member(struct own *o, int dir, const char *name, unsigned int depth);

/* What is in the directory fd of dir, unless that is where the kernel's files begin. */
static void put_entries(struct own *o, int dir, int fd, unsigned int depth)
{
	if (!is_kernels(fd) || !depth || is_kernels(dir))
		own_list(fd, put_member, o, depth + 1);
}

static void put_member(struct own *o, int dir, const char *name, unsigned int depth)
{
	int nofollow = o->follow && !depth ? 0 : O_NOFOLLOW, fd = -1;
	char type = '0', target[PATH_MAX] = "";
	const char *link = NULL;
	struct head h = {.name = ""};
	struct stat st;

	errno = 0;
	if (fstatat(dir, name, &st, nofollow ? AT_SYMLINK_NOFOLLOW : 0)) {
		own_complain(o, "cannot find");
		return;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFREG: break;
	case S_IFDIR: type = '5'; break;
	case S_IFCHR: type = '3'; break;
	case S_IFBLK: type = '4'; break;
	case S_IFIFO: type = '6'; break;
	case S_IFLNK:
		type = '2';
		if (readlinkat(dir, name, target, sizeof(target) - 1) > 0)
			link = target;
		break;
	default: return; /* a socket is nothing without who listens */
	}
	if (type == '0' || type == '5') {
		fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | nofollow | O_CLOEXEC |
					       (type == '5' ? O_DIRECTORY : 0));
		if (fd < 0 || fstat(fd, &st) || (type == '0' && !S_ISREG(st.st_mode))) {
			own_complain(o, "cannot open");
			goto out;
		}
	}
	if (type != '5' && st.st_nlink > 1) {
		const char *first = first_name(o, &st);

		if (first) {
			type = '1';
			link = first;
		}
	}
	put_name(o, h.name, 'L', o->path);
	if (link)
		put_name(o, h.link, 'K', link);
	h.type = type;
	put_number(h.mode, sizeof(h.mode), st.st_mode & 07777);
	put_number(h.uid, sizeof(h.uid), st.st_uid);
	put_number(h.gid, sizeof(h.gid), st.st_gid);
	put_number(h.size, sizeof(h.size), type == '0' ? st.st_size : 0);
	put_number(h.mtime, sizeof(h.mtime), st.st_mtime);
	put_number(h.major, sizeof(h.major), major(st.st_rdev));
	put_number(h.minor, sizeof(h.minor), minor(st.st_rdev));
	if (type == '0') {
		put_file(o, &h, fd, &st);
	} else {
		put_head(o, &h);
		if (type == '5')
			put_entries(o, dir, fd, depth);
	}
out:
	if (fd >= 0)
		close(fd);
}

int own_export(struct own *o)
{
	static uint8_t end[2 * BLOCK]; /* likewise */

	put_member(o, AT_FDCWD, o->source, 0);
	own_write(o, end, sizeof(end));
	return o->status;
}

/* --- in --- */

/* Reads all of it, or ends: whoever wrote it has gone. */
static void get(void *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(STDIN_FILENO, (uint8_t *)to + done, len - done);

		if (n <= 0)
			_exit(1);
		done += (size_t)n;
	}
}

/* Data to a place in a file; fd -1: nowhere. */
static void get_data(struct own *o, int fd, int64_t at, int64_t len)
{
	while (len > 0) {
		size_t n = len < (int64_t)sizeof(o->out) ? (size_t)len : sizeof(o->out);

		get(o->out, n);
		if (fd >= 0 && pwrite(fd, o->out, n, at) != (ssize_t)n) {
			own_complain(o, "cannot write");
			fd = -1;
		}
		at += (int64_t)n;
		len -= (int64_t)n;
	}
}

static void get_sparse(struct own *o, int fd, const struct head *h)
{
	/* The map comes before all of the data. More than it has room for is not what we write. */
	struct extent map[EXTENTS];
	struct more block;
	uint32_t n = IN_HEAD;

	memcpy(map, h->map, sizeof(h->map));
	for (char more = h->more; more; more = block.more) {
		get(&block, sizeof(block));
		if (n + IN_BLOCK > EXTENTS)
			_exit(1);
		memcpy(map + n, block.map, sizeof(block.map));
		n += IN_BLOCK;
	}
	for (uint32_t i = 0; i < n && map[i].at[0]; i++)
		get_data(o, fd, number(map[i].at, sizeof(map[i].at)),
			 number(map[i].len, sizeof(map[i].len)));
	if (fd >= 0 && ftruncate(fd, number(h->real, sizeof(h->real))))
		own_complain(o, "cannot set the size of");
}

/* The name of a member as a path below o->root, in to of PATH_MAX bytes. */
static void put_below(const struct own *o, char *to, const char *name)
{
	size_t n = append(to, PATH_MAX - 1, 0, o->prefix);

	if (*name && strcmp(name, ".")) {
		n = append(to, PATH_MAX - 1, n, "/");
		n = append(to, PATH_MAX - 1, n, name);
	}
	to[n] = '\0';
}

/* The name that a hard link is to have, too. */
static int make_link(struct own *o, int dir, const char *last)
{
	char path[PATH_MAX];
	const char *name;
	int at, r;

	put_below(o, path, o->link);
	at = mount_parent(o->root, path, &name);
	if (at < 0) {
		errno = -at;
		return -1;
	}
	r = linkat(at, name, dir, last, 0);
	close(at);
	return r;
}

/* Makes what the header says, and gives it what it has but for data. Returns a file's descriptor, or
 * -1, after a complaint if something went wrong.
 */
static int make(struct own *o, const struct head *h, int dir, const char *last)
{
	mode_t mode = (mode_t)number(h->mode, sizeof(h->mode)) & 07777;
	dev_t device = makedev(number(h->major, sizeof(h->major)), number(h->minor, sizeof(h->minor)));
	int fd = -1, r = 0;

	if (h->type != '5' && unlinkat(dir, last, 0) && errno != ENOENT) {
		own_complain(o, "cannot replace");
		return -1;
	}
	switch (h->type) {
	case '1': r = make_link(o, dir, last); break;
	case '2': r = symlinkat(o->link, dir, last); break;
	case '3': r = mknodat(dir, last, S_IFCHR | 0600, device); break;
	case '4': r = mknodat(dir, last, S_IFBLK | 0600, device); break;
	case '5':
		/* One that is there stays; what is none is found out below. */
		r = mkdirat(dir, last, 0700) && errno != EEXIST ? -1 : 0;
		fd = r ? -1 : openat(dir, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -1 : 0;
		if (fd >= 0)
			close(fd);
		fd = -1;
		break;
	case '6': r = mknodat(dir, last, S_IFIFO | 0600, 0); break;
	default:
		fd = openat(dir, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = fd < 0 ? -1 : 0;
	}
	if (!r && h->type != '1')
		r = fchownat(dir, last, (uid_t)number(h->uid, sizeof(h->uid)),
			     (gid_t)number(h->gid, sizeof(h->gid)), AT_SYMLINK_NOFOLLOW);
	if (!r && h->type != '1' && h->type != '2')
		r = fchmodat(dir, last, mode, 0);
	if (r)
		own_complain(o, "cannot make");
	return fd;
}

static void get_member(struct own *o, const struct head *h, int64_t size)
{
	const struct timespec mtime = {.tv_sec = number(h->mtime, sizeof(h->mtime))};
	const struct timespec times[2] = {mtime, mtime};
	char path[PATH_MAX];
	const char *last;
	int dir, fd = -1;

	put_below(o, path, o->path);
	/* The destination itself, when what is in the archive is to be in it. */
	dir = *path ? mount_parent(o->root, path, &last) : -EEXIST;
	if (dir >= 0) {
		fd = make(o, h, dir, last);
	} else if (*path) {
		errno = -dir;
		own_complain(o, "cannot find the directory of");
	}
	if (h->type == 'S')
		get_sparse(o, fd, h);
	else
		get_data(o, fd, 0, size);
	if (fd >= 0)
		close(fd);
	if (dir >= 0) {
		/* musl's function is twenty times as large. */
		if (h->type != '1')
			syscall(SYS_utimensat, dir, last, times, AT_SYMLINK_NOFOLLOW);
		close(dir);
	}
}

/* A name, from a member of its own or from the header. */
static void get_name(char *to, const char *field)
{
	if (*to)
		return;
	memcpy(to, field, 100);
	to[100] = '\0';
}

int own_import(struct own *o)
{
	struct head h;

	for (;;) {
		int64_t size;
		char *name;

		get(&h, sizeof(h));
		if (!h.name[0]) /* the block of zeros that ends it */
			break;
		size = number(h.size, sizeof(h.size));
		name = h.type == 'L' ? o->path : h.type == 'K' ? o->link : NULL;
		if (size < 0 || (name && size > PATH_MAX))
			_exit(1);
		if (name) {
			get(name, (size_t)size);
			name[size - 1] = '\0';
		} else {
			get_name(o->path, h.name);
			get_name(o->link, h.link);
			get_member(o, &h, size);
			*o->path = *o->link = '\0';
		}
		get_data(o, -1, 0, -size & (BLOCK - 1));
	}
	/* What is behind the end, so that nobody writes it in vain. */
	while (read(STDIN_FILENO, o->out, sizeof(o->out)) > 0)
		continue;
	return o->status;
}
