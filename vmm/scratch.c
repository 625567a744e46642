/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cache.h"
#include "vmm/opt.h"
#include "vmm/tool.h"
#include "vmm/util.h"

#define SCRATCH_DIR "scratch"
#define SIZE_MIN    (1ull << 20)
#define SIZE_FILE   (8ull << 30) /* of a file for which no size is said; it is sparse */

/* The superblock is the same place in both: 1024. Documentation/filesystems/{ext4,erofs}. */
#define SUPERBLOCK  1024
#define EXT4_MAGIC  0xef53u /* 16 bits at 56 of it */
#define EROFS_MAGIC 0xe0f5e1e2u

static const char *type_in(int fd, const char *path, struct err *e)
{
	uint8_t block[64];
	uint32_t first;
	uint16_t ext4;

	if (pread_all(fd, block, sizeof(block), SUPERBLOCK))
		memset(block, 0, sizeof(block));
	memcpy(&first, block, sizeof(first));
	memcpy(&ext4, block + 56, sizeof(ext4));
	if (first == EROFS_MAGIC)
		return "erofs";
	if (ext4 == EXT4_MAGIC)
		return "ext4";
	err_set(e, EINVAL, "%s: neither an ext4 nor an erofs file system", path);
	return NULL;
}

const char *scratch_type(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *type;

	if (fd < 0) {
		err_sys(e, "%s", path);
		return NULL;
	}
	type = type_in(fd, path, e);
	close(fd);
	return type;
}

/* Makes a file system in a new file beside path, and gives it that name: another process may do the
 * same at the same instant, and either file will do.
 */
static int make(const char *path, uint64_t size, bool journal, struct err *e)
{
	char temp[PATH_MAX + 16];
	const char *argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E",
			      "lazy_itable_init=1,nodiscard", "-O",
			      journal ? "has_journal" : "^has_journal", temp, NULL};
	struct tool tool;
	int fd, r = 0;

	snprintf(temp, sizeof(temp), "%s.%d", path, (int)getpid());
	fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, "cannot make %s", temp);
	if (ftruncate(fd, (off_t)size))
		r = err_sys(e, "cannot make %s", temp);
	close(fd);
	if (!r)
		r = tool_start(&tool, argv, "e2fsprogs", -1, -1, e);
	if (!r)
		r = tool_end(&tool, NULL, e);
	if (!r && rename(temp, path))
		r = err_sys(e, "cannot make %s", path);
	if (r)
		unlink(temp);
	return r;
}

static int check_size(uint64_t size, struct err *e)
{
	return size >= SIZE_MIN && size % 4096 == 0
		       ? 0
		       : err_set(e, EINVAL, "--scratch: whole pages from 1M, please");
}

/* A disk that goes with the VM. */
static int open_cached(struct scratch *s, struct err *e)
{
	char dir[PATH_MAX];
	int fd = cache_open_dir(SCRATCH_DIR, dir, e), r = 0;

	if (fd < 0)
		return fd;
	close(fd);
	if (snprintf(s->path, sizeof(s->path), "%s/%" PRIu64 ".ext4", dir, s->size) >=
			  PATH_MAX)
		r = err_set(e, ENAMETOOLONG, "the cache's path is too long");
	if (!r)
		r = check_size(s->size, e);
	if (!r && access(s->path, F_OK))
		r = make(s->path, s->size, false, e);
	s->disk = true;
	return r;
}

static int open_file(struct scratch *s, const char *option, struct err *e)
{
	const char *colon = strrchr(option, ':'), *type;
	char whole[PATH_MAX];
	struct err ignored;
	size_t len = strlen(option);
	int r;

	s->disk = s->kept = true;
	s->size = SIZE_FILE;
	if (colon && !opt_set_size(&s->size, colon + 1, &ignored))
		len = (size_t)(colon - option);
	if (!len || len >= sizeof(s->path))
		return err_set(e, EINVAL, "--scratch: '%s' is not a file's name", option);
	memcpy(s->path, option, len);
	s->path[len] = 0;
	if (access(s->path, F_OK) && errno == ENOENT) {
		r = check_size(s->size, e);
		if (!r)
			r = make(s->path, s->size, true, e);
		if (r)
			return r;
	}
	type = scratch_type(s->path, e);
	if (!type)
		return -EINVAL;
	if (!realpath(s->path, whole))
		return err_sys(e, "%s", s->path);
	strcpy(s->path, whole); /* "uvm inspect" tells it, wherever that is asked */
	return strcmp(type, "ext4") ? err_set(e, EINVAL, "%s: not an ext4 file system", s->path) : 0;
}

int scratch_open(struct scratch *s, const char *option, struct err *e)
{
	struct err ignored;

	*s = (struct scratch){.disk = false};
	if (!option || !strcmp(option, "tmpfs"))
		return 0;
	if (!strncmp(option, "tmpfs:", 6)) {
		struct err why;

		return opt_set_size(&s->size, option + 6, &why)
			       ? err_set(e, EINVAL, "--scratch: %s", why.text)
			       : 0;
	}
	if (!opt_set_size(&s->size, option, &ignored))
		return open_cached(s, e);
	return open_file(s, option, e);
}
