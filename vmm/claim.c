/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int claim_dir(int at, const char *name, bool wait)
{
	struct stat locked, there;
	int fd, r;

	if (mkdirat(at, name, 0700) && errno != EEXIST)
		return -errno;
	fd = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	do
		r = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
	while (r && errno == EINTR);
	if (r)
		r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
	/* Another may have swept or renamed it before it was locked. */
	else if (fstat(fd, &locked) || fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) ||
		 locked.st_ino != there.st_ino || locked.st_dev != there.st_dev)
		r = -EAGAIN;
	if (!r)
		return fd;
	close(fd);
	return r;
}

void claim_sweep(int at, const char *prefix, void (*remove)(int at, const char *name))
{
	int fd = openat(at, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		int dir;

		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		dir = openat(at, entry->d_name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (dir >= 0 && !flock(dir, LOCK_EX | LOCK_NB))
			remove(at, entry->d_name);
		if (dir >= 0)
			close(dir);
	}
	if (d)
		closedir(d);
}
