/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "snapshot/sum.h"
#include "vmm/util.h"

#define REPLACED_TRIES 8u

static void clear(struct snapshot *s)
{
	memset(s, 0, offsetof(struct snapshot, m.kernel));
	s->m.kernel.len = s->m.parent.len = 0;
	s->m.kernel.s[0] = s->m.parent.s[0] = s->path[0] = 0;
	s->dir = s->memory = -1;
}

/* The absolute path of an open directory: realpath, in one system call. */
static int path_of(int dir, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, path, PATH_MAX - 1);
	path[MAX(n, 0)] = 0;
	if (n == PATH_MAX - 1) { /* cut off */
		errno = ENAMETOOLONG;
		n = -1;
	}
	return n < 0 ? -errno : 0;
}

/* What is wrong with the snapshot, and what its user can do. */
static int refused(const char *path, int r, const char *why, struct err *e)
{
	err_set(e, -r, "snapshot %s: %s", path, why);
	if (r == -EACCES || r == -EPERM)
		err_append(e, "; it is for the user who made it, and for root");
	else if (r == -EINVAL)
		err_append(e, "; put back what was there, or make the snapshot anew");
	return r;
}

int snapshot_read_manifest(struct snapshot *s, const char *path, struct err *e)
{
	struct err why;
	int r;

	clear(s);
	s->dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (s->dir < 0 || path_of(s->dir, s->path)) {
		r = -errno;
		return refused(path, r, strerror(-r), e);
	}
	r = manifest_read(s, &why);
	if (r == -ENOENT)
		return err_set(e, ENOENT,
			       "%s: not a snapshot (it has no manifest); 'uvm snapshot VM --output DIR' makes one",
			       path);
	return r ? refused(path, r, why.text, e) : 0;
}

bool snapshot_is_there(const struct snapshot *s)
{
	struct snapshot *now = malloc(sizeof(*now));
	struct err ignored;
	bool there = false;

	if (now) {
		clear(now);
		now->dir = dup(s->dir);
		there = now->dir >= 0 && !manifest_read(now, &ignored) &&
			!memcmp(now->m.uuid, s->m.uuid, sizeof(s->m.uuid));
		snapshot_close(now);
	}
	free(now);
	return there;
}

static int read_state(struct snapshot *s, struct err *e)
{
	size_t len;
	int r = snapshot_read_file(s->dir, FILE_STATE, &s->state_file, &len, e);

	if (!r)
		r = state_open(&s->state, s->state_file, len, SNAPSHOT_STATE_KIND, FILE_STATE, e);
	if (!r && (len != s->m.state_size || state_sum(s->state_file) != s->m.state_sum))
		r = err_set(e, EINVAL, FILE_STATE ": belongs to another snapshot than " FILE_MANIFEST);
	return r;
}

static int read_extents(struct snapshot *s, struct err *e)
{
	struct state_section section;
	const uint8_t *data;
	uint32_t n;
	int r = state_find(&s->state, SNAPSHOT_MEMORY_MAP, 0, &section, e);

	if (!r)
		r = state_load_array(&section, sizeof(uint32_t), &data, &n, e);
	if (r)
		return r;
	s->extents = calloc(n / 2 + 1, sizeof(*s->extents));
	if (!s->extents)
		return err_set(e, ENOMEM, "out of memory");
	s->extent_count = n / 2;
	memcpy(s->extents, data, s->extent_count * sizeof(*s->extents));
	return n % 2 || memfile_check_extents(s->extents, s->extent_count, s->m.memory)
		       ? err_set(e, EINVAL, FILE_STATE ": the map of the memory file is impossible")
		       : 0;
}

static int check_sum(int fd, const char *name, uint64_t size, uint64_t expected, struct err *e)
{
	uint64_t sum;
	int r = sum_file(fd, size, &sum);

	if (r)
		return err_set(e, -r, "%s: cannot be read: %s", name, strerror(-r));
	return sum == expected
		       ? 0
		       : err_set(e, EINVAL, "%s: changed or damaged: its checksum is wrong", name);
}

/* Where a file must be at least as long as it was, a shorter one is named as such. */
static int check_size(int fd, const char *name, uint64_t size, struct err *e)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return err_sys(e, "%s", name);
	if ((uint64_t)end == size)
		return 0;
	return err_set(e, EINVAL, "%s: has %" PRIu64 " bytes, but had %" PRIu64 " when the snapshot was made", name,
		       (uint64_t)end, size);
}

int snapshot_open_file(const struct snapshot *s, const struct snapshot_file *f, struct err *e)
{
	int fd;

	if (f->path.s[0] != '/')
		return files_open(s->dir, f->path.s, e);
	fd = open(f->path.s, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? err_sys(e, "disk %s, which the snapshot needs", f->path.s) : fd;
}

static int check_disk(const struct snapshot *s, const struct snapshot_disk *d, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < d->files && !r; i++) {
		const struct snapshot_file *f = &d->file[i];
		int fd = snapshot_open_file(s, f, e);

		if (fd < 0)
			return fd;
		r = check_size(fd, f->path.s, f->size, e);
		if (!r)
			r = check_sum(fd, f->path.s, f->size, f->sum, e);
		close(fd);
	}
	return r;
}

static int check_files(struct snapshot *s, enum snapshot_check check, struct err *e)
{
	int r = 0;

	s->memory = files_open(s->dir, FILE_MEMORY, e);
	if (s->memory < 0)
		return s->memory;
	s->sealed = seal_fits(s);
	/* Whatever the seal says: beyond a file's end there is nothing to map. */
	r = check_size(s->memory, FILE_MEMORY, s->m.memory, e);
	if (!r && s->m.unsummed && check != SNAPSHOT_JUST_SAVED)
		r = err_set(e, EBUSY,
			    "it is not complete: its memory has no checksum yet; wait for who makes it, or, where "
			    "that was killed, make it anew");
	if (r || (s->sealed && check != SNAPSHOT_READ_ALL))
		return r; /* each file is there and nobody has touched it */
	if (check == SNAPSHOT_JUST_SAVED)
		return 0;
	seal_begin(s);
	r = check_sum(s->memory, FILE_MEMORY, s->m.memory, s->m.memory_sum, e);
	for (uint32_t i = 0; i < s->m.disks && !r; i++)
		r = check_disk(s, &s->disk[i], e);
	return r;
}

static int open_one(struct snapshot *s, const char *path, const struct snapshot *child,
		    enum snapshot_check check, unsigned int depth, struct err *e);

static bool is_parent(const struct snapshot *s, const struct snapshot *parent)
{
	return !memcmp(parent->m.uuid, s->m.parent_uuid, 16) && parent->m.memory == s->m.memory;
}

/* The parent where it was, or, when both were moved together, beside the snapshot. */
static int open_parent(struct snapshot *s, enum snapshot_check check, unsigned int depth, struct err *e)
{
	const char *name = strrchr(s->m.parent.s, '/');
	char beside[2 * PATH_MAX];
	bool other;
	int r;

	if (depth + 1 == MEMFILE_LAYERS)
		return err_set(e, ELOOP, "snapshot %s has more than %u parents; 'uvm snapshot "
			       "flatten' makes one of them",
			       s->path, MEMFILE_LAYERS - 1);
	s->parent = calloc(1, sizeof(*s->parent));
	if (!s->parent)
		return err_set(e, ENOMEM, "out of memory");
	s->parent->dir = s->parent->memory = -1;
	snprintf(beside, sizeof(beside), "%s/..%s", s->path, name);
	r = open_one(s->parent, s->m.parent.s, s, check, depth + 1, e);
	other = r == -ESTALE;
	if (r == -ENOENT || other) {
		snapshot_close(s->parent);
		r = open_one(s->parent, beside, s, check, depth + 1, e);
		other |= r == -ESTALE;
	}
	if (r != -ENOENT && r != -ESTALE)
		return r;
	return err_set(e, EINVAL, "snapshot %s needs its parent %s, %s; put it back there, or beside the snapshot",
		       s->path, s->m.parent.s, other ? "but there is another one now" : "which is not there");
}

/* ESTALE, if it is not the parent of child. That is asked before its own parents are opened: each of them may have
 * another one where its parent was, and to open those, too, would be twice the work for each generation.
 */
static int open_one(struct snapshot *s, const char *path, const struct snapshot *child,
		    enum snapshot_check check, unsigned int depth, struct err *e)
{
	struct err why;
	int r = snapshot_read_manifest(s, path, e);

	if (r)
		return r;
	if (child && !is_parent(child, s))
		return err_set(e, ESTALE, "snapshot %s is another one", path);
	r = read_state(s, &why);
	if (!r && s->m.has_parent)
		r = read_extents(s, &why);
	if (!r)
		r = check_files(s, check, &why);
	if (r)
		return refused(path, r == -ENOENT || r == -ESTALE ? -EINVAL : r, why.text, e);
	return s->m.has_parent ? open_parent(s, check, depth, e) : 0;
}

/* Whether there is something else at path by now than what was opened. */
static bool replaced(const struct snapshot *s, const char *path)
{
	struct stat then, now;

	return s->dir >= 0 && !fstat(s->dir, &then) && !stat(path, &now) &&
	       (then.st_ino != now.st_ino || then.st_dev != now.st_dev);
}

int snapshot_open(struct snapshot *s, const char *path, enum snapshot_check check, struct err *e)
{
	bool again;
	int r;

	/* One that took this one's place has removed its files under our feet. */
	for (unsigned int i = 0; (r = open_one(s, path, NULL, check, 0, e)); i++) {
		again = i < REPLACED_TRIES && replaced(s, path);
		snapshot_close(s);
		if (!again)
			break;
	}
	return r;
}

void snapshot_close(struct snapshot *s)
{
	if (s->parent) {
		snapshot_close(s->parent);
		free(s->parent);
	}
	if (s->memory >= 0)
		close(s->memory);
	if (s->dir >= 0)
		close(s->dir);
	free(s->disk);
	free(s->state_file);
	free(s->extents);
	state_discard(&s->seal);
	clear(s);
}

unsigned int snapshot_layers(const struct snapshot *s, struct memfile_layer *layer)
{
	unsigned int n = s->parent ? snapshot_layers(s->parent, layer) : 0;

	layer[n] = (struct memfile_layer){s->memory, s->extents, s->extent_count};
	return n + 1;
}
