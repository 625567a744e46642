/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/unpack_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINKS_MAX 40u /* dangling ones in a row, as the kernel has it for others */

int unpack_error(const struct unpack_job *j, const char *doing)
{
	int code = errno;

	return err_set(j->e, code, "%s: '%.200s': %s: %s", j->tar.what, j->name, doing,
		       strerror(code));
}

int unpack_bad(const struct unpack_job *j, const char *why)
{
	return err_set(j->e, EINVAL, "%s: '%.200s' %s", j->tar.what, j->name, why);
}

int unpack_later(struct unpack *u, const char *name, const struct stat *st, mode_t mode,
		 struct timespec mtime, struct err *e)
{
	struct unpack_dir *d = malloc(sizeof(*d) + strlen(name) + 1);

	if (!d)
		return err_set(e, ENOMEM, "out of memory");
	*d = (struct unpack_dir){
		.device = st->st_dev, .inode = st->st_ino, .mode = mode, .mtime = mtime};
	strcpy(d->name, name);
	*u->last_dir = d;
	u->last_dir = &d->next;
	return 0;
}

const char *unpack_last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int unpack_open_dir(const struct unpack *u, const char *path, uint64_t flags)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC | flags,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
					  (u->guest ? RESOLVE_NO_SYMLINKS : 0)};
	long fd;

	do /* EAGAIN: the host renamed something elsewhere meanwhile */
		fd = syscall(SYS_openat2, u->root, *path ? path : ".", &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return (int)fd;
}

static int make_dirs(const struct unpack_job *j, const char *path, unsigned int links);

/* What is at `name` in `at` is no directory; if it is a link that leads nowhere, makes what it
 * leads to, as the container's own mkdir -p would. `path` is the whole path, for which it stands.
 */
static int make_target(const struct unpack_job *j, int at, const char *path, const char *name,
		       unsigned int links)
{
	size_t before = (size_t)(name - path);
	char target[PATH_MAX], *whole;
	ssize_t n = readlinkat(at, name, target, sizeof(target) - 1);
	int r = -ENOMEM;

	if (n < 0)
		return unpack_bad(j, "goes below something that is not a directory");
	target[n] = 0;
	if (links == LINKS_MAX)
		return unpack_bad(j, "goes through too many links");
	if (asprintf(&whole, "%.*s%s", *target == '/' ? 0 : (int)before, path, target) >= 0) {
		r = make_dirs(j, whole, links + 1);
		free(whole);
	}
	return r;
}

/* Makes a directory that the archive does not mention: with a fixed time, so that the same archive
 * makes the same tree.
 */
static int make_implied(const struct unpack_job *j, int at, const char *path, const char *name)
{
	struct stat st;

	if (fchmodat(at, name, 0755, 0) || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return unpack_error(j, "cannot make a directory in its path");
	return unpack_later(j->u, path, &st, 0755, (struct timespec){0}, j->e);
}

/* Makes the directories of a path that are not there. */
static int make_dirs(const struct unpack_job *j, const char *path, unsigned int links)
{
	const struct unpack *u = j->u;
	char part[PATH_MAX];
	int r = 0;

	if (strlen(path) >= sizeof(part))
		return unpack_bad(j, "goes through links to a path that is too long");
	for (size_t n = 0; !r && path[n];) {
		size_t from = n + strspn(path + n, "/"), end = from + strcspn(path + from, "/");
		int fd, at;

		n = end;
		if (end == from)
			break;
		memcpy(part, path, end);
		part[end] = 0;
		fd = unpack_open_dir(u, part, 0);
		if (fd >= 0) {
			close(fd);
			continue;
		}
		if (errno != ENOENT)
			return unpack_error(j, "cannot open a directory in its path");
		part[from] = 0;
		at = unpack_open_dir(u, part, 0);
		if (at < 0)
			return unpack_error(j, "cannot open a directory in its path");
		memcpy(part, path, end);
		if (!mkdirat(at, part + from, 0755))
			r = make_implied(j, at, part, part + from);
		else if (errno == EEXIST)
			r = make_target(j, at, part, part + from, links);
		else
			r = unpack_error(j, "cannot make a directory in its path");
		close(at);
	}
	return r;
}

void unpack_leave(struct unpack *u)
{
	if (u->parent >= 0)
		close(u->parent);
	u->parent = -1;
	free(u->parent_name);
	u->parent_name = NULL;
}

/* The job has the name, which forget_parent frees. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
int unpack_enter(const struct unpack_job *j, const char *path, bool make)
{
	const char *last = unpack_last_part(path);
	size_t len = last == path ? 0 : (size_t)(last - path - 1);
	struct unpack *u = j->u;
	int r = 0;

	if (u->parent >= 0 && strlen(u->parent_name) == len && !memcmp(u->parent_name, path, len))
		return 0;
	unpack_leave(u);
	u->parent_name = strndup(path, len);
	if (!u->parent_name)
		return err_set(j->e, ENOMEM, "out of memory");
	u->parent = unpack_open_dir(u, u->parent_name, 0);
	if (u->parent < 0 && errno == ENOENT && make) {
		r = make_dirs(j, u->parent_name, 0);
		if (!r)
			u->parent = unpack_open_dir(u, u->parent_name, 0);
	}
	if (r || u->parent >= 0)
		return r;
	if (!make && (errno == ENOENT || errno == ENOTDIR))
		return 1;
	return unpack_error(j, "cannot open the directory that it is in");
}
#pragma GCC diagnostic pop
