/* SPDX-License-Identifier: Apache-2.0
 *
 * What a container has changed of its root, from the overlay's upper directory: each name in there is
 * one that was changed, added or, as a whiteout, deleted; the lower one tells which. An opaque
 * directory hides what the lower one of that name has.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "guest/agent/own.h"

/* Nothing of a layer is followed: the paths are those of directories in it. */
static int open_below(int layer, const char *path)
{
	while (*path == '/')
		path++;
	return openat(layer, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_there(int layer, const char *path, struct stat *st)
{
	return !fstatat(layer, path + 1, st, AT_SYMLINK_NOFOLLOW);
}

static void tell(struct own *o, char how)
{
	own_write(o, &how, 1);
	own_write(o, o->path, strlen(o->path) + 1);
}

static void add_hidden(struct own *o, int dir, const char *name, unsigned int depth)
{
	struct stat st;

	(void)dir;
	(void)name;
	(void)depth;
	if (!is_there(OWN_UPPER, o->path, &st))
		tell(o, 'D');
}

static void add_change(struct own *o, int dir, const char *name, unsigned int depth)
{
	struct stat st, below;
	char opaque = 0;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	if (S_ISCHR(st.st_mode) && !st.st_rdev) {
		if (is_there(OWN_LOWER, o->path, &below))
			tell(o, 'D');
		return;
	}
	tell(o, is_there(OWN_LOWER, o->path, &below) ? 'C' : 'A');
	if (!S_ISDIR(st.st_mode))
		return;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		own_complain(o, "cannot open");
		return;
	}
	if (fgetxattr(fd, "trusted.overlay.opaque", &opaque, 1) == 1 && opaque == 'y') {
		int lower = open_below(OWN_LOWER, o->path);

		if (lower >= 0) {
			own_list(lower, add_hidden, o, depth + 1);
			close(lower);
		}
	}
	own_list(fd, add_change, o, depth + 1);
	close(fd);
}

int own_changes(struct own *o)
{
	int fd = open_below(OWN_UPPER, "");

	if (fd < 0)
		return 1;
	own_list(fd, add_change, o, 0);
	return o->status;
}
