/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/claim.h"
#include "vmm/tree.h"
#include "vmm/util.h"

#define SYSTEM "/var/cache/uvm"
#define PREFIX ".uvm-"
#define TRIES  16u

/* --- the directories --- */

static int cache_path(char *path, size_t room, struct err *e)
{
	static const struct {
		const char *variable, *below;
	} places[] = {{"UVM_CACHE", ""}, {"XDG_CACHE_HOME", "/uvm"}, {"HOME", "/.cache/uvm"}};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const char *value = getenv(places[i].variable);

		/* XDG says that a relative one is none. */
		if (!value || !*value || (i && *value != '/'))
			continue;
		if (snprintf(path, room, "%s%s", value, places[i].below) >= (int)room)
			return err_set(e, ENAMETOOLONG, "$%s is too long", places[i].variable);
		return 0;
	}
	snprintf(path, room, SYSTEM);
	return 0;
}

/* mkdir -p. */
static int make_path(char *path)
{
	for (char *p = path + 1; *p; p++) {
		int r;

		if (*p != '/')
			continue;
		*p = 0;
		r = mkdir(path, 0755);
		*p = '/';
		if (r && errno != EEXIST)
			return -1;
	}
	return mkdir(path, 0700) && errno != EEXIST ? -1 : 0;
}

/* Opens a directory that has to be ours alone. */
static int open_own(int at, const char *name, bool make, const char *path, struct err *e)
{
	struct stat st;
	int fd;

	if (make && mkdirat(at, name, 0700) && errno != EEXIST)
		return err_sys(e, "cannot make cache directory %s", path);
	fd = openat(at, name,
		    O_DIRECTORY | O_RDONLY | O_CLOEXEC | (at == AT_FDCWD ? 0 : O_NOFOLLOW));
	if (fd < 0)
		return err_sys(e, "cannot open cache directory %s", path);
	if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & 022))
		return fd;
	close(fd);
	return err_set(e, EPERM,
		       "cache directory %s belongs to another user, or others can write to it; set "
		       "UVM_CACHE",
		       path);
}

int cache_open(struct cache *c, bool make, struct err *e)
{
	char path[sizeof(c->path)], whole[PATH_MAX];
	int top, r;

	*c = (struct cache){.images = -1, .files = -1};
	r = cache_path(path, sizeof(path), e);
	if (r)
		return r;
	if (make && make_path(path))
		return err_sys(e, "cannot make cache directory %s", path);
	top = open_own(AT_FDCWD, path, false, path, e);
	if (top < 0)
		return top;
	if (!realpath(path, whole) ||
	    snprintf(c->path, sizeof(c->path), "%s/images", whole) >= (int)sizeof(c->path)) {
		close(top);
		return err_set(e, ENAMETOOLONG, "cache directory %s has too long a path", path);
	}
	c->images = open_own(top, "images", make, c->path, e);
	r = c->images;
	if (r >= 0)
		r = c->files = open_own(top, CACHE_FILES, make, c->path, e);
	close(top);
	if (r < 0)
		cache_close(c);
	return r < 0 ? r : 0;
}

int cache_open_dir(const char *name, char path[PATH_MAX], struct err *e)
{
	char top[PATH_MAX];
	int r = cache_path(top, sizeof(top) - 1, e), fd;

	if (r)
		return r;
	if (snprintf(path, PATH_MAX, "%s/%s", top, name) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "cache directory %s has too long a path", top);
	fd = open_own(AT_FDCWD, path, false, path, e);
	if (fd != -ENOENT)
		return fd;
	if (make_path(top))
		return err_sys(e, "cannot make cache directory %s", top);
	return open_own(AT_FDCWD, path, true, path, e);
}

void cache_close(struct cache *c)
{
	if (c->images >= 0)
		close(c->images);
	if (c->files >= 0)
		close(c->files);
	c->images = c->files = -1;
}

/* --- entries --- */

static bool is_key(const char *name)
{
	return strlen(name) == SHA256_HEX && strspn(name, "0123456789abcdef") == SHA256_HEX;
}

static bool has_file(int dir, const char *name)
{
	struct stat st;

	return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode);
}

/* Opens a directory by its name and locks it. -EAGAIN: another's lock, or renamed meanwhile. */
static int open_locked(int at, const char *name, int how)
{
	int fd = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	struct stat locked, there;

	if (fd < 0)
		return -errno;
	if (flock(fd, how))
		r = errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
	else if (fstat(fd, &locked) || fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) ||
		 locked.st_ino != there.st_ino)
		r = -EAGAIN;
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* Out of sight first, as a whole. Its directory is locked. */
static int drop(const struct cache *c, const char *key)
{
	char aside[SHA256_HEX + 32];

	snprintf(aside, sizeof(aside), PREFIX "gone-%s", key);
	tree_remove(c->images, aside);
	if (renameat(c->images, key, c->images, aside))
		return -errno;
	return tree_remove(c->images, aside);
}

int cache_get(const struct cache *c, const char *key, struct err *e)
{
	int fd = -EAGAIN;

	/* Only who removes it has another lock on it, and not for long. */
	for (unsigned int i = 0; i < TRIES && fd == -EAGAIN; i++)
		fd = open_locked(c->images, key, LOCK_SH);
	if (fd < 0)
		return err_set(e, -fd, "cache entry %s/%s: %s", c->path, key, strerror(-fd));
	if (has_file(fd, CACHE_IMAGE) && has_file(fd, CACHE_ABOUT)) {
		utimensat(fd, CACHE_ABOUT, NULL, AT_SYMLINK_NOFOLLOW);
		return fd;
	}
	close(fd);
	/* Somebody was at work in the cache by hand. */
	return err_set(e, EBADF, "cache entry %s/%s is not whole; remove it", c->path, key);
}

static void sweep_one(int at, const char *name)
{
	tree_remove(at, name);
}

static int sync_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) ? -errno : 0;
	close(fd);
	return r;
}

/* Fills the claimed directory, which is empty, and gives it its name. */
static int make(const struct cache *c, const char *key, const char *temp, int dir, cache_fill *fill,
		void *ctx, struct err *e)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/%s", c->path, temp);
	r = fill(ctx, dir, path, e);
	if (r)
		return r;
	r = sync_file(dir, CACHE_IMAGE);
	if (!r)
		r = sync_file(dir, CACHE_ABOUT);
	if (!r)
		r = fsync(dir) ? -errno : 0;
	if (!r && renameat(c->images, temp, c->images, key))
		r = -errno;
	fsync(c->images);
	return r ? err_set(e, -r, "cannot keep image %s: %s", path, strerror(-r)) : 0;
}

static bool is_empty(int dir)
{
	struct stat st;

	return !has_file(dir, CACHE_IMAGE) && fstatat(dir, "tree", &st, AT_SYMLINK_NOFOLLOW) &&
	       fstatat(dir, "layout", &st, AT_SYMLINK_NOFOLLOW);
}

int cache_get_or_make(const struct cache *c, const char *key, cache_fill *fill, void *ctx,
		      bool *made, struct err *e)
{
	char temp[SHA256_HEX + sizeof(PREFIX)];
	int dir, r = -EAGAIN;

	*made = false;
	snprintf(temp, sizeof(temp), PREFIX "%s", key);
	for (unsigned int i = 0; i < TRIES; i++) {
		r = cache_get(c, key, e);
		if (r != -ENOENT)
			return r;
		*e->text = 0; /* that it is not there is no error */
		claim_sweep(c->images, PREFIX, sweep_one);
		dir = claim_dir(c->images, temp, true);
		if (dir == -EAGAIN)
			continue;
		if (dir < 0)
			return err_set(e, -dir, "cannot make cache entry %s/%s: %s", c->path, temp,
				       strerror(-dir));
		r = cache_get(c, key, e); /* made between the look and the claim? */
		if (r == -ENOENT)
			*e->text = 0;
		if (r == -ENOENT && is_empty(dir)) {
			r = make(c, key, temp, dir, fill, ctx, e);
			*made = !r;
			if (r)
				tree_remove(c->images, temp);
			close(dir);
			if (r)
				return r;
			continue;
		}
		tree_remove(c->images, temp); /* a dead process's, or not needed */
		close(dir);
		if (r != -ENOENT)
			return r;
	}
	return err_set(e, EAGAIN, "cache entry %s/%s goes away as often as it is made", c->path,
		       key);
}

int cache_remove(const struct cache *c, const char *key, struct err *e)
{
	int fd = open_locked(c->images, key, LOCK_EX | LOCK_NB), r;

	if (fd < 0)
		return fd == -EAGAIN ? err_set(e, EBUSY, "image %s is in use", key)
				     : err_set(e, -fd, "image %s: %s", key, strerror(-fd));
	r = drop(c, key);
	close(fd);
	return r ? err_set(e, -r, "cannot remove image %s: %s", key, strerror(-r)) : 0;
}

static int visit_one(const struct cache *c, const char *name,
		     int (*visit)(void *ctx, const struct cache_entry *entry), void *ctx)
{
	struct cache_entry entry = {0};
	struct stat image, about;
	int r;

	memcpy(entry.key, name, sizeof(entry.key));
	entry.dir = openat(c->images, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (entry.dir < 0)
		return 0; /* gone since, or not ours */
	if (!fstatat(entry.dir, CACHE_IMAGE, &image, AT_SYMLINK_NOFOLLOW))
		entry.bytes = (uint64_t)image.st_blocks * 512;
	if (!fstatat(entry.dir, CACHE_ABOUT, &about, AT_SYMLINK_NOFOLLOW))
		entry.used = about.st_mtime;
	r = visit(ctx, &entry);
	close(entry.dir);
	return r;
}

int cache_each(const struct cache *c, int (*visit)(void *ctx, const struct cache_entry *entry),
	       void *ctx, struct err *e)
{
	struct dirent **names;
	char path[64];
	int n, r = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->images);
	n = scandir(path, &names, NULL, alphasort);
	if (n < 0)
		return err_sys(e, "cannot read cache directory %s", c->path);
	for (int i = 0; i < n; i++) {
		if (!r && is_key(names[i]->d_name))
			r = visit_one(c, names[i]->d_name, visit, ctx);
		free(names[i]);
	}
	free(names);
	return r;
}

/* --- sums of files --- */

#define SUM_NAME 160

/* All of the stamp, so that no two files have one name. */
static void sum_name(const char *kind, const struct stamp *s, char name[SUM_NAME])
{
	snprintf(name, SUM_NAME,
		 "%s-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%" PRIx64 "-%" PRIx64
		 ".%" PRIx64,
		 kind, s->device, s->inode, s->size, s->mtime_s, s->mtime_ns, s->ctime_s,
		 s->ctime_ns);
}

bool cache_recall(int files, const char *kind, const struct stamp *stamp, char *sum, size_t len)
{
	char name[SUM_NAME];

	sum_name(kind, stamp, name);
	if (readlinkat(files, name, sum, len + 1) != (ssize_t)len)
		return false;
	sum[len] = 0;
	utimensat(files, name, NULL, AT_SYMLINK_NOFOLLOW);
	return strspn(sum, "0123456789abcdef") == len;
}

void cache_remember(int files, const char *kind, const struct stamp *stamp, const char *sum)
{
	char name[SUM_NAME];

	sum_name(kind, stamp, name);
	unlinkat(files, name, 0);
	(void)!symlinkat(sum, files, name); /* whole at once; without it the file is read again */
}

void cache_sweep(const struct cache *c, int64_t before)
{
	int fd = openat(c->files, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	claim_sweep(c->images, PREFIX, sweep_one);
	while (d && (entry = readdir(d)))
		if (!fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
		    S_ISLNK(st.st_mode) && st.st_mtime < before)
			unlinkat(fd, entry->d_name, 0);
	if (d)
		closedir(d);
}
