/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util.h"

static int open_dir(int at, const char *name)
{
	return openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static bool dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* --- removal --- */

/* Removes what is in directory `name` but for directories, which go up into `top` under new names:
 * so that no depth is too deep.
 */
static int flatten(int top, const char *name, uint64_t *number)
{
	struct dirent *entry;
	DIR *d;
	int fd, r = 0;

	fchmodat(top, name, 0700, 0); /* an image's directories may forbid even their owner */
	fd = open_dir(top, name);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (errno = 0, entry = readdir(d))) {
		char up[32];

		if (dots(entry->d_name) || !unlinkat(fd, entry->d_name, 0))
			continue;
		if (errno != EISDIR) {
			r = -errno;
			break;
		}
		snprintf(up, sizeof(up), ".uvm-remove-%llu", (unsigned long long)(*number)++);
		fchmodat(fd, entry->d_name, 0700, 0); /* it gets another ".." */
		if (renameat(fd, entry->d_name, top, up))
			r = -errno;
	}
	closedir(d);
	return r;
}

/* One pass over the directories in `top`. Returns whether there was any, or -errno. */
static int pass(int top, uint64_t *number)
{
	int fd = open_dir(top, "."), any = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d) {
		any = -errno;
		if (fd >= 0)
			close(fd);
		return any;
	}
	while (any >= 0 && (entry = readdir(d))) {
		int r;

		if (dots(entry->d_name))
			continue;
		any = 1;
		if (!unlinkat(top, entry->d_name, 0))
			continue;
		r = errno == EISDIR ? flatten(top, entry->d_name, number)
						      : -errno;
		if (!r && unlinkat(top, entry->d_name, AT_REMOVEDIR))
			r = -errno;
		if (r)
			any = r;
	}
	closedir(d);
	return any;
}

int tree_remove(int at, const char *name)
{
	uint64_t number = 0;
	int top, r;

	if (!unlinkat(at, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	fchmodat(at, name, 0700, 0);
	top = open_dir(at, name);
	if (top < 0)
		return -errno;
	while ((r = pass(top, &number)) > 0)
		;
	close(top);
	return r ? r : unlinkat(at, name, AT_REMOVEDIR) ? -errno : 0;
}

/* --- digest --- */

struct walk {
	struct sha256 sum;
	uint64_t files;
	int64_t newest;
	dev_t device;
	unsigned int depth;
	char *path; /* PATH_MAX: of what is looked at, for messages */
	struct err *e;
};

static int walk_dir(struct walk *w, int dir);

static int64_t nanoseconds(struct timespec t)
{
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void add_stat(struct walk *w, const struct stat *st)
{
	uint64_t v[] = {st->st_mode,
			st->st_uid,
			st->st_gid,
			(uint64_t)st->st_size,
			st->st_ino,
			st->st_rdev,
			(uint64_t)nanoseconds(st->st_mtim),
			(uint64_t)nanoseconds(st->st_ctim)};

	sha256_add(&w->sum, v, sizeof(v));
	w->newest = MAX(w->newest, nanoseconds(st->st_ctim));
	w->files++;
}

static int walk_entry(struct walk *w, int dir, const char *name)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;
	int fd, r;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return err_sys(w->e, "%s", w->path);
	if (w->files >= TREE_FILES_MAX)
		return err_set(w->e, E2BIG, "%s: more than %u files", w->path, TREE_FILES_MAX);
	sha256_add(&w->sum, name, strlen(name) + 1);
	add_stat(w, &st);
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target));
		if (n < 0)
			return err_sys(w->e, "%s", w->path);
		sha256_add(&w->sum, target, (size_t)n);
	}
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (st.st_dev != w->device)
		return err_set(w->e, EXDEV, "%s: another file system is mounted there", w->path);
	fd = open_dir(dir, name);
	if (fd < 0)
		return err_sys(w->e, "%s", w->path);
	r = walk_dir(w, fd);
	close(fd);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t n)
{
	while (n)
		free(names[--n]);
	free(names);
}

/* free_names frees as many as there are; errno is above 0. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
/* The names in a directory, sorted, for free_names. Returns how many, or -errno. */
static ssize_t list(int dir, char ***names)
{
	int fd = open_dir(dir, ".");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t n = 0, room = 0;
	struct dirent *entry;

	*names = NULL;
	if (!d) {
		int error = -errno;

		if (fd >= 0)
			close(fd);
		return error;
	}
	while ((errno = 0, entry = readdir(d))) {
		if (dots(entry->d_name))
			continue;
		if (n == room) {
			char **more;

			room = 2 * room + 16;
			more = n < TREE_FILES_MAX ? realloc(*names, room * sizeof(**names)) : NULL;
			if (!more)
				break;
			*names = more;
		}
		(*names)[n] = strdup(entry->d_name);
		if (!(*names)[n])
			break;
		n++;
	}
	closedir(d);
	if (entry || errno) {
		int error = entry ? -ENOMEM : -errno;

		free_names(*names, n);
		return error;
	}
	if (n)
		qsort(*names, n, sizeof(**names), compare_names);
	return (ssize_t)n;
}
#pragma GCC diagnostic pop

/* Where there is a name, there are names. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-null-dereference"
static int walk_dir(struct walk *w, int dir)
{
	size_t len = strlen(w->path);
	char **names;
	ssize_t n;
	int r = 0;

	if (++w->depth > TREE_DEPTH_MAX)
		return err_set(w->e, ELOOP, "more than %u directories deep: %s", TREE_DEPTH_MAX,
			       w->path);
	n = list(dir, &names);
	if (n < 0)
		return err_set(w->e, (int)-n, "%s: %s", w->path, strerror((int)-n));
	for (ssize_t i = 0; i < n && !r; i++) {
		if (len + strlen(names[i]) + 2 > PATH_MAX) {
			r = err_set(w->e, ENAMETOOLONG, "%s: a path in it is too long", w->path);
			break;
		}
		sprintf(w->path + len, "/%s", names[i]);
		r = walk_entry(w, dir, names[i]);
		if (!r)
			w->path[len] = 0;
	}
	free_names(names, (size_t)n);
	sha256_add(&w->sum, "", 1); /* no name is empty: the end of the directory */
	w->depth--;
	return r;
}
#pragma GCC diagnostic pop

int tree_digest(int dir, const char *path, char hex[SHA256_HEX + 1], uint64_t *files,
		int64_t *newest, struct err *e)
{
	struct walk w = {.e = e, .path = malloc(PATH_MAX)};
	struct stat st;
	int r;

	if (!w.path)
		return err_set(e, ENOMEM, "out of memory");
	sha256_begin(&w.sum);
	snprintf(w.path, PATH_MAX, "%s", path);
	r = fstat(dir, &st) ? err_sys(e, "%s", path) : 0;
	if (!r) {
		w.device = st.st_dev;
		add_stat(&w, &st);
		r = walk_dir(&w, dir);
	}
	free(w.path);
	sha256_end(&w.sum, hex);
	*files = w.files;
	*newest = w.newest;
	return r;
}
