/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "vmm/tree.h"
#include "vmm/unpack_path.h"
#include "vmm/util.h"

#define DEPTH_MAX 512u /* of what an opaque directory hides */
#define WHITEOUT  ".wh."
#define META	  ".wh..wh."
#define OPAQUE	  ".wh..wh..opq"

/* The names that this layer has made: a hash set of directory and name. */
struct unpack_made {
	size_t used, room;
	struct made {
		ino_t dir;
		char *name; /* NULL: free */
	} * slot;
};

/* --- names --- */

int unpack_name(const char *what, const char *name, char *to, struct err *e)
{
	size_t len = 0;

	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return err_set(e, EINVAL, "%s: '%.200s' has a '..' in its name", what,
				       name);
		if (n && !(n == 1 && *p == '.')) {
			if (len + n + 2 > PATH_MAX || n > NAME_MAX)
				return err_set(e, ENAMETOOLONG,
					       "%s: a name of %zu bytes is too long: '%.100s...'",
					       what, strlen(name), name);
			if (len)
				to[len++] = '/';
			memcpy(to + len, p, n);
			len += n;
		}
		p += n + (p[n] == '/');
	}
	to[len] = 0;
	return 0;
}

/* The name in its normal form, if a member may have it. */
static int normalise(const struct unpack_job *j, const char *name, char *to)
{
	const char *only = j->u->guest ? j->u->only : "";
	size_t len = strlen(only);
	int r = unpack_name(j->tar.what, name, to, j->e);

	if (r || (!strncmp(to, only, len) && (!len || !to[len] || to[len] == '/')))
		return r;
	return err_set(j->e, EINVAL, "%s: '%.200s' was not asked for", j->tar.what, name);
}

/* --- what this layer has made --- */

static size_t slot_of(const struct unpack_made *m, ino_t dir, const char *name)
{
	uint64_t h = 0xcbf29ce484222325 ^ dir; /* FNV-1a; who makes it collide, waits */
	size_t i;

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3;
	for (i = (h ^ h >> 32) & (m->room - 1); m->slot[i].name; i = (i + 1) & (m->room - 1))
		if (m->slot[i].dir == dir && !strcmp(m->slot[i].name, name))
			break;
	return i;
}

static bool was_made(const struct unpack *u, ino_t dir, const char *name)
{
	return u->made->room && u->made->slot[slot_of(u->made, dir, name)].name;
}

static int grow(struct unpack_made *m)
{
	struct unpack_made more = {.room = m->room ? 2 * m->room : 1024};

	more.slot = calloc(more.room, sizeof(*more.slot));
	if (!more.slot)
		return -ENOMEM;
	more.used = m->used;
	for (size_t i = 0; i < m->room; i++)
		if (m->slot[i].name)
			more.slot[slot_of(&more, m->slot[i].dir, m->slot[i].name)] = m->slot[i];
	free(m->slot);
	*m = more;
	return 0;
}

/* Notes that `name` in the directory u->parent is of this layer. */
static int note_made(const struct unpack_job *j, const char *name)
{
	struct unpack_made *m = j->u->made;
	struct stat dir;
	size_t i;

	if (!j->u->layer)
		return 0;
	if (fstat(j->u->parent, &dir))
		return unpack_error(j, "cannot stat its directory");
	if (4 * (m->used + 1) > 3 * m->room && grow(m))
		return err_set(j->e, ENOMEM, "out of memory");
	i = slot_of(m, dir.st_ino, name);
	if (m->slot[i].name)
		return 0;
	m->slot[i] = (struct made){dir.st_ino, strdup(name)};
	if (!m->slot[i].name)
		return err_set(j->e, ENOMEM, "out of memory");
	m->used++;
	return 0;
}

static void forget_made(struct unpack *u)
{
	for (size_t i = 0; i < u->made->room; i++)
		free(u->made->slot[i].name);
	free(u->made->slot);
	*u->made = (struct unpack_made){0};
}

/* --- whiteouts --- */

static int hide_below(const struct unpack_job *j, int dir, unsigned int depth);

/* Removes `name` of the layers below; of a directory of this layer what is in it of those below.
 * Returns 0 or -errno.
 */
static int hide(const struct unpack_job *j, int at, ino_t at_inode, const char *name, unsigned int depth)
{
	bool ours = was_made(j->u, at_inode, name);
	struct stat st;
	int dir, r;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return ours || !unlinkat(at, name, 0) ? 0 : -errno;
	/* Something in it may be of this layer though itself is not. */
	dir = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return -errno;
	r = hide_below(j, dir, depth + 1);
	close(dir);
	if (!r && !ours && unlinkat(at, name, AT_REMOVEDIR) && errno != ENOTEMPTY &&
	    errno != EEXIST)
		r = -errno;
	return r;
}

static int hide_below(const struct unpack_job *j, int dir, unsigned int depth)
{
	int fd = depth > DEPTH_MAX ? (errno = ELOOP, -1)
				   : openat(dir, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;
	int r = 0;

	if (!d || fstat(dir, &st)) {
		r = -errno;
	} else {
		while (!r && (entry = readdir(d)))
			if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
				r = hide(j, dir, st.st_ino, entry->d_name, depth);
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	return r;
}

static int white_out(const struct unpack_job *j, const char *last)
{
	struct unpack *u = j->u;
	int dir, r = unpack_enter(j, j->name, false);
	struct stat st;

	if (r)
		return r < 0 ? r : 0; /* nothing there to be hidden */
	if (!strcmp(last, OPAQUE)) {
		dir = openat(u->parent, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		r = dir < 0 ? -errno : hide_below(j, dir, 0);
		if (dir >= 0)
			close(dir);
	} else {
		last += strlen(WHITEOUT);
		if (!*last || !strcmp(last, ".") || !strcmp(last, ".."))
			return unpack_bad(j, "is a whiteout of nothing");
		r = fstat(u->parent, &st) ? -errno : hide(j, u->parent, st.st_ino, last, 0);
	}
	unpack_leave(u);
	errno = -r;
	return r ? unpack_error(j, "cannot remove what it hides") : 0;
}

/* --- making --- */

/* What is there under the name goes. Returns 1 if it is a directory and may stay as one. */
static int make_place(const struct unpack_job *j, const char *last)
{
	struct unpack *u = j->u;
	struct stat st;
	int r;

	if (fstatat(u->parent, last, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : unpack_error(j, "cannot look what is there");
	if (S_ISDIR(st.st_mode) && j->tar.m.type == '5')
		return 1;
	if (u->guest && (S_ISDIR(st.st_mode) || j->tar.m.type == '5'))
		return unpack_bad(j, S_ISDIR(st.st_mode) ? "would replace a directory"
							 : "is a directory, but there is a file");
	r = tree_remove(u->parent, last);
	errno = -r;
	return r ? unpack_error(j, "cannot replace what is there") : 0;
}

static int write_at(const struct unpack_job *j, int fd, uint64_t at, uint64_t len)
{
	struct tar *t = (struct tar *)(uintptr_t)&j->tar;

	if (lseek(fd, (off_t)at, SEEK_SET) < 0)
		return unpack_error(j, "cannot seek");
	while (len) {
		const void *data;
		ssize_t n = tar_data(t, &data, MIN(len, (uint64_t)SSIZE_MAX), j->e);
		int r;

		if (n <= 0)
			return n ? (int)n : unpack_bad(j, "is cut off");
		r = write_all(fd, data, (size_t)n);
		errno = -r;
		if (r)
			return unpack_error(j, "cannot write");
		len -= (uint64_t)n;
		meter_tick(j->u->meter);
	}
	return 0;
}

static int make_file(const struct unpack_job *j, const char *last)
{
	const struct tar_member *m = &j->tar.m;
	int fd, r = 0;

	j->u->bytes += m->size;
	if (m->size > UNPACK_BYTES_MAX || j->u->bytes > UNPACK_BYTES_MAX)
		return err_set(j->e, EFBIG, "%s: '%.200s' makes it more than %u GiB", j->tar.what,
			       j->name, (unsigned int)(UNPACK_BYTES_MAX >> 30));
	fd = openat(j->u->parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return unpack_error(j, "cannot make it");
	if (!m->sparse)
		r = write_at(j, fd, 0, m->size);
	for (size_t i = 0; m->sparse && !r && i < m->extents; i++)
		r = write_at(j, fd, m->extent[i].at, m->extent[i].len);
	if (!r && m->sparse && ftruncate(fd, (off_t)m->size))
		r = unpack_error(j, "cannot make it as large as it is");
	close(fd);
	return r;
}

/* Returns 1 if the link is there already: to itself, or to another name of the same file. */
static int make_hard_link(const struct unpack_job *j, const char *last)
{
	char target[PATH_MAX];
	const char *name;
	struct stat st, there;
	int dir, r = normalise(j, j->tar.m.link, target);

	if (r)
		return r;
	if (!*target)
		return unpack_bad(j, "is a hard link to the root");
	name = unpack_last_part(target);
	if (name > target)
		target[name - target - 1] = 0;
	dir = unpack_open_dir(j->u, name > target ? target : "", 0);
	if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		r = unpack_error(j, "cannot find what it is a hard link to");
	else if (S_ISDIR(st.st_mode))
		r = unpack_bad(j, "is a hard link to a directory");
	else if (!fstatat(j->u->parent, last, &there, AT_SYMLINK_NOFOLLOW) &&
		 there.st_ino == st.st_ino && there.st_dev == st.st_dev)
		r = 1;
	if (!r)
		r = make_place(j, last);
	if (!r && linkat(dir, name, j->u->parent, last, 0))
		r = unpack_error(j, "cannot make the hard link");
	if (dir >= 0)
		close(dir);
	return r;
}

/* Returns 1 if there is none to be had. */
static int make_device(const struct unpack_job *j, const char *last)
{
	const struct tar_member *m = &j->tar.m;
	mode_t type = m->type == '3' ? S_IFCHR : S_IFBLK;

	if (!j->u->user && !j->u->guest && !mknodat(j->u->parent, last, type | 0600, makedev(m->major, m->minor)))
		return 0;
	if (!j->u->user && !j->u->guest && errno != EPERM)
		return unpack_error(j, "cannot make the device");
	j->u->devices++;
	return 1;
}

static int set_xattrs(const struct unpack_job *j, const char *path)
{
	const struct tar_member *m = &j->tar.m;

	if (j->u->guest) {
		j->u->xattrs += m->xattrs;
		return 0;
	}
	for (unsigned int i = 0; i < m->xattrs; i++) {
		const struct tar_xattr *x = &m->xattr[i];

		if (!lsetxattr(path, x->name, x->value, x->len, 0))
			continue;
		if (errno != EPERM && errno != ENOTSUP && errno != EACCES && errno != EINVAL)
			return unpack_error(j, "cannot set an extended attribute");
		/* Without this one a program would run, and fail far from here. */
		if (!j->u->user && !strcmp(x->name, "security.capability"))
			return unpack_error(j, "cannot set its capabilities");
		j->u->xattrs++;
	}
	return 0;
}

/* The attributes of what was made. `at` and `last` name it, "." for the root itself. */
static int set_attributes(const struct unpack_job *j, int at, const char *last)
{
	const struct tar_member *m = &j->tar.m;
	bool dir = m->type == '5', link = m->type == '2';
	bool own = j->u->user || (j->u->guest && !j->u->keep_owners);
	mode_t mode = m->mode | (!j->u->user ? 0 : dir ? 0500 : 0400);
	struct timespec times[2] = {m->mtime, m->mtime};
	char path[64 + NAME_MAX];
	struct stat st;
	int r;

	if (j->u->guest && !j->u->keep_owners)
		mode &= 01777;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", at, last);
	if (!own && fchownat(at, last, m->uid, m->gid, AT_SYMLINK_NOFOLLOW))
		return unpack_error(j, "cannot set its owner");
	if (j->u->user)
		j->u->owners += m->uid || m->gid;
	/* No link but those is made here under this name, so none is followed. */
	if (!link && fchmodat(at, last, mode | (dir && j->u->user ? 0700 : 0), 0))
		return unpack_error(j, "cannot set its mode");
	r = set_xattrs(j, path);
	if (r)
		return r;
	if (dir)
		return fstatat(at, last, &st, AT_SYMLINK_NOFOLLOW)
			       ? unpack_error(j, "cannot stat it")
			       : unpack_later(j->u, j->name, &st, mode, m->mtime, j->e);
	if (utimensat(at, last, times, AT_SYMLINK_NOFOLLOW))
		return unpack_error(j, "cannot set its time");
	return 0;
}

static int make(const struct unpack_job *j, const char *last)
{
	const struct tar_member *m = &j->tar.m;
	struct unpack *u = j->u;
	int r = m->type == '1' ? make_hard_link(j, last) : make_place(j, last);

	if (m->type == '1')
		return r < 0 ? r : 0; /* its attributes are its target's */
	if (r < 0)
		return r;
	if (r && u->guest)
		return 0;
	switch (m->type) {
	case '0': r = make_file(j, last); break;
	case '2':
		r = symlinkat(m->link, u->parent, last) ? unpack_error(j, "cannot make the link")
							: 0;
		break;
	case '3':
	case '4': r = make_device(j, last); break;
	case '5':
		r = !r && mkdirat(u->parent, last, 0700) ? unpack_error(j, "cannot make it") : 0;
		break;
	default: r = mkfifoat(u->parent, last, 0600) ? unpack_error(j, "cannot make it") : 0; break;
	}
	if (r)
		return r < 0 ? r : 0;
	return set_attributes(j, u->parent, last);
}

static int extract(struct unpack_job *j)
{
	const char *last = unpack_last_part(j->name);
	struct unpack *u = j->u;
	struct stat root;
	int r;

	if (++u->files > UNPACK_FILES_MAX)
		return err_set(j->e, E2BIG, "%s: more than %u files", j->tar.what,
			       UNPACK_FILES_MAX);
	if (!*j->name) {
		if (j->tar.m.type != '5')
			return err_set(j->e, EINVAL, "%s: the root is not a directory in it",
				       j->tar.what);
		if (u->guest)
			return 0;
		return fstat(u->root, &root) ? unpack_error(j, "cannot stat it")
					     : set_attributes(j, u->root, ".");
	}
	if (u->layer && !strncmp(last, WHITEOUT, strlen(WHITEOUT)) &&
	    (strncmp(last, META, strlen(META)) || !strcmp(last, OPAQUE)))
		return white_out(j, last);
	if (u->layer && (!strncmp(j->name, META, strlen(META)) || strstr(j->name, "/" META)))
		return 0; /* aufs's own book-keeping */
	r = unpack_enter(j, j->name, true);
	if (!r)
		r = make(j, last);
	return r ? r : note_made(j, last);
}

int unpack_tar(struct unpack *u, int fd, const char *name, struct err *e)
{
	struct unpack_job j = {.u = u, .e = e};
	char member[PATH_MAX], number[32];
	int r = tar_open(&j.tar, fd, name, e);

	if (r)
		return r;
	j.name = member;
	while ((r = tar_next(&j.tar, e)) > 0) {
		r = normalise(&j, j.tar.m.name, member);
		if (!r)
			r = extract(&j);
		if (r)
			break;
		if (u->meter && u->files % 64 == 0)
			meter_set(u->meter, "%s: %s files", u->what,
				  meter_number(u->files, number));
	}
	unpack_leave(u);
	forget_made(u);
	tar_close(&j.tar);
	return r;
}

int unpack_begin(struct unpack *u, struct err *e)
{
	struct stat st;

	u->parent = -1;
	u->last_dir = &u->dirs;
	u->made = calloc(1, sizeof(*u->made));
	if (!u->made)
		return err_set(e, ENOMEM, "out of memory");
	if (u->guest)
		return 0;
	return fstat(u->root, &st) ? err_sys(e, "cannot stat the directory to extract into")
				   : unpack_later(u, "", &st, st.st_mode & 07777, (struct timespec){0}, e);
}

void unpack_free(struct unpack *u)
{
	unpack_leave(u);
	while (u->dirs) {
		struct unpack_dir *next = u->dirs->next;

		free(u->dirs);
		u->dirs = next;
	}
	if (u->made)
		forget_made(u);
	free(u->made);
	u->made = NULL;
}

/* In the order of the archives, so that what was said last counts. What is no more what it was, a
 * later member or layer has replaced.
 */
int unpack_end(struct unpack *u, struct err *e)
{
	int r = 0;

	for (const struct unpack_dir *d = u->dirs; d && !r; d = d->next) {
		struct timespec times[2] = {d->mtime, d->mtime};
		int fd = unpack_open_dir(u, d->name, O_NOFOLLOW);
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fd >= 0 && !fstat(fd, &st) && st.st_ino == d->inode && st.st_dev == d->device &&
		    (chmod(path, d->mode) || utimensat(AT_FDCWD, path, times, 0)))
			r = err_sys(e, "directory '%.200s'", d->name);
		if (fd >= 0)
			close(fd);
	}
	unpack_free(u);
	return r;
}
