/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "snapshot/sum.h"
#include "vmm/claim.h"
#include "vmm/util.h"

/* musl has neither the call nor its flags. */
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1u << 1)
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1u << 0)
#endif

#define TEMP_PREFIX ".uvm-snapshot-"
#define DRAFT_TRIES 8u

int snapshot_removable(int at, const char *name, struct err *e)
{
	struct snapshot s = {.memory = -1};
	struct stat st;
	struct err why;
	int r;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return err_sys(e, "snapshot %s", name);
	s.dir = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	r = s.dir < 0 ? -errno : manifest_read(&s, &why);
	if (r)
		r = err_set(e, ENOTEMPTY,
			    "%s is there and is not a whole snapshot; it is left alone: remove it, or choose "
			    "another name",
			    name);
	else
		r = files_check_children(s.dir, s.m.uuid, name, e);
	snapshot_close(&s);
	return r;
}

/* -EAGAIN: another process that swept here took it for one that was left, before it was locked. */
static int make_temp(struct snapshot_draft *d, struct err *e)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys(e, "no random numbers");
	snprintf(d->temp, sizeof(d->temp), TEMP_PREFIX "%016llx", (unsigned long long)random);
	d->dir = claim_dir(d->at, d->temp, false);
	if (d->dir >= 0)
		return 0;
	*d->temp = 0;
	return err_set(e, -d->dir, "cannot make a directory for snapshot %s: %s", d->name,
		       strerror(-d->dir));
}

int snapshot_draft(struct snapshot_draft *d, int at, const char *place, const char *name,
		   struct err *e)
{
	int r;

	*d = (struct snapshot_draft){.at = at, .dir = -1};
	snprintf(d->place, sizeof(d->place), "%s", place);
	if (!*name || strlen(name) >= sizeof(d->name) || strchr(name, '/') || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return err_set(e, EINVAL, "'%s' is not a name for a snapshot: it is that of a new directory", name);
	snprintf(d->name, sizeof(d->name), "%s", name);
	r = snapshot_removable(at, name, e);
	if (r && r != -ENOENT)
		return r;
	claim_sweep(at, TEMP_PREFIX, files_remove_dir); /* those of processes that died */
	r = -EAGAIN;
	for (unsigned int i = 0; i < DRAFT_TRIES && r == -EAGAIN; i++)
		r = make_temp(d, e);
	return r;
}

void snapshot_drop(struct snapshot_draft *d)
{
	if (*d->temp)
		files_remove_dir(d->at, d->temp);
	if (d->dir >= 0)
		close(d->dir);
	*d = (struct snapshot_draft){.at = d->at, .dir = -1};
}

int snapshot_draft_file(const struct snapshot_draft *d, const char *name, bool make)
{
	int fd;

	if (d->file)
		return d->file(d->ctx, name, make);
	fd = openat(d->dir, name,
		    (make ? O_RDWR | O_CREAT | O_EXCL : O_RDONLY | O_NONBLOCK) | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

static int write_file(const struct snapshot_draft *d, const char *name, const struct state_writer *w, struct err *e)
{
	return files_put(snapshot_draft_file(d, name, true), name, w->data, w->len, e);
}

static int save_memory(const struct snapshot_draft *d, struct snapshot_manifest *m,
		       struct state_writer *state, const struct mem *mem,
		       const struct snapshot *parent, bool layer, memfile_progress *progress,
		       void *ctx, struct err *e)
{
	int fd = snapshot_draft_file(d, FILE_MEMORY, true);
	struct memfile_layer base[MEMFILE_LAYERS];
	unsigned int n = parent ? snapshot_layers(parent, base) : 0;
	struct memfile_saved saved;
	int r;

	if (fd < 0)
		return err_set(e, -fd, "cannot make the file " FILE_MEMORY ": %s", strerror(-fd));
	r = memfile_save(fd, mem, base, n, layer, !m->unsummed, progress, ctx, &saved, e);
	if (!r && fsync(fd))
		r = err_sys(e, "cannot save the guest's memory");
	close(fd);
	if (r)
		return r;
	m->memory_sum = saved.sum;
	m->memory_stored = saved.stored;
	if (layer)
		state_save_array(state, SNAPSHOT_MEMORY_MAP, 0, saved.extents, sizeof(uint32_t),
				 2 * saved.count);
	free(saved.extents);
	return 0;
}

/* Size and sum of a disk's file; one in the draft becomes durable. */
static int sum_disk_file(const struct snapshot_draft *d, struct snapshot_file *f, struct err *e)
{
	bool elsewhere = f->path.s[0] == '/';
	int fd = elsewhere ? fcntl(f->fd, F_DUPFD_CLOEXEC, 0) : snapshot_draft_file(d, f->path.s, false);
	off_t end;
	int r;

	if (fd < 0)
		return elsewhere ? err_sys(e, "disk %s", f->path.s)
				 : err_set(e, -fd, "disk %s: %s", f->path.s, strerror(-fd));
	end = lseek(fd, 0, SEEK_END);
	f->size = (uint64_t)MAX(end, 0);
	r = end < 0 ? -errno : sum_file(fd, f->size, &f->sum);
	if (!r && !elsewhere && fsync(fd))
		r = -errno;
	close(fd);
	return r ? err_set(e, -r, "disk %s: %s", f->path.s, strerror(-r)) : 0;
}

static int sum_disks(const struct snapshot_draft *d, struct snapshot_disk *disk, uint32_t n,
		     struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < n && !r; i++)
		for (uint32_t k = 0; k < disk[i].files && !r; k++)
			if (!disk[i].file[k].sum_known)
				r = sum_disk_file(d, &disk[i].file[k], e);
	return r;
}

bool snapshot_replaces(const struct snapshot_draft *d, const struct snapshot *s)
{
	struct stat there, its;

	return !fstatat(d->at, d->name, &there, AT_SYMLINK_NOFOLLOW) && !fstat(s->dir, &its) &&
	       there.st_ino == its.st_ino && there.st_dev == its.st_dev;
}

static int fill(const struct snapshot_draft *d, struct snapshot_manifest *m, struct snapshot_disk *disk,
		struct state_writer *state, const struct mem *mem, const struct snapshot *parent, bool layer,
		memfile_progress *progress, void *ctx, struct err *e)
{
	struct state_writer manifest = {0};
	int r;

	if (layer && (!*d->place || snapshot_replaces(d, parent)))
		layer = false; /* its parent could not be told, or goes when it gets its name */
	m->has_parent = layer;
	m->memory = mem->size;
	m->created = (uint64_t)time(NULL);
	m->version.len = (uint32_t)snprintf(m->version.s, sizeof(m->version.s), "%s", UVM_VERSION);
	if (getrandom(m->uuid, sizeof(m->uuid), 0) != sizeof(m->uuid))
		return err_sys(e, "no random numbers");
	if (layer) {
		memcpy(m->parent_uuid, parent->m.uuid, sizeof(m->parent_uuid));
		m->parent.len = (uint32_t)snprintf(m->parent.s, sizeof(m->parent.s), "%s",
						   parent->path);
	}
	r = save_memory(d, m, state, mem, parent, layer, progress, ctx, e);
	if (!r)
		r = sum_disks(d, disk, m->disks, e);
	if (!r)
		r = state_finish(state, e);
	if (r)
		return r;
	m->state_size = state->len;
	m->state_sum = state_sum(state->data);
	r = write_file(d, FILE_STATE, state, e);
	/* The manifest last: a directory with one is a whole snapshot. */
	if (!r)
		r = manifest_make(&manifest, m, disk, e);
	if (!r)
		r = write_file(d, FILE_MANIFEST, &manifest, e);
	state_discard(&manifest);
	if (!r && fsync(d->dir))
		r = err_sys(e, "cannot sync its directory");
	return r;
}

int snapshot_fill(const struct snapshot_draft *d, struct snapshot_manifest *m, struct snapshot_disk *disk,
		  struct state_writer *state, const struct mem *mem, const struct snapshot *parent, bool layer,
		  memfile_progress *progress, void *ctx, struct err *e)
{
	struct err why;
	int r = fill(d, m, disk, state, mem, parent, layer, progress, ctx, &why);

	if (!r)
		return 0;
	err_set(e, -r, "snapshot %s: %s", d->name, why.text);
	if (r == -ENOSPC || r == -EDQUOT)
		err_append(e,
			   "; it takes up to %llu MiB for memory, and its disks: free them, or choose another place",
			   (unsigned long long)mem->size >> 20);
	return r;
}

/* Makes the record that s, which is about to get its name, needs its parent; which may have been
 * removed while s was written: then it has no manifest any more.
 */
static int record_in_parent(const struct snapshot_draft *d, const struct snapshot *s,
			    const struct snapshot *parent, struct err *e)
{
	char path[2 * PATH_MAX];

	if (!snapshot_is_there(parent))
		return err_set(e, ESTALE, "snapshot %s was removed while what needs it was made; try again",
			       s->m.parent.s);
	snprintf(path, sizeof(path), "%s/%s", d->place, d->name);
	files_record_child(parent->dir, s->m.uuid, path);
	return 0;
}

static int record(const struct snapshot_draft *d, const struct snapshot *parent, struct err *e)
{
	struct snapshot s = {.dir = dup(d->dir), .memory = -1};
	int r = s.dir < 0 ? err_sys(e, "cannot open the snapshot") : manifest_read(&s, e);

	if (!r && s.m.has_parent)
		r = parent ? record_in_parent(d, &s, parent, e)
			   : err_set(e, EINVAL, "snapshot %s needs its parent %s, which is not there", d->name,
				     s.m.parent.s);
	snapshot_close(&s);
	return r;
}

static int rename2(int at, const char *from, const char *to, unsigned int flags)
{
	return (int)syscall(SYS_renameat2, at, from, at, to, flags);
}

/* Gives a directory a name that nothing has. EEXIST if something has it. Some file systems (9p, NFS,
 * FUSE) have no more than the plain rename and say EINVAL to the flags; there the look and the
 * rename are two steps, between which an empty directory of that name could come to be replaced.
 */
static int rename_new(int at, const char *from, const char *to)
{
	struct stat st;

	if (!rename2(at, from, to, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL)
		return -1;
	if (fstatat(at, to, &st, AT_SYMLINK_NOFOLLOW))
		return renameat(at, from, at, to);
	errno = EEXIST;
	return -1;
}

/* Lets two directories change places. Without RENAME_EXCHANGE there is a moment with nothing at b;
 * the old one, locked so that nobody sweeps it, comes back if the new one cannot go there.
 */
static int exchange(int at, const char *a, const char *b)
{
	char aside[NAME_MAX + 8];
	int lock, error = 0;

	if (!rename2(at, a, b, RENAME_EXCHANGE))
		return 0;
	if (errno != EINVAL)
		return -1;
	lock = openat(at, b, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (lock < 0)
		return -1;
	flock(lock, LOCK_EX | LOCK_NB);
	snprintf(aside, sizeof(aside), "%s-old", a);
	if (rename_new(at, b, aside)) {
		error = errno;
	} else if (renameat(at, a, at, b)) {
		error = errno;
		renameat(at, aside, at, b);
	} else {
		renameat(at, aside, at, a); /* else the next sweep finds it */
	}
	close(lock);
	errno = error;
	return error ? -1 : 0;
}

int snapshot_publish(struct snapshot_draft *d, const struct snapshot *parent, struct err *e)
{
	int r = record(d, parent, e);

	if (r)
		return r;
	if (!rename_new(d->at, d->temp, d->name)) {
		*d->temp = 0;
	} else if (errno == EEXIST) {
		/* Looked at again: it may have become a parent meanwhile. The two change places, and
		 * what was there goes with the draft.
		 */
		r = snapshot_removable(d->at, d->name, e);
		if (r)
			return r;
		if (exchange(d->at, d->temp, d->name))
			return err_sys(e, "cannot give snapshot %s its name", d->name);
		files_remove_dir(d->at, d->temp);
		*d->temp = 0;
	} else {
		return err_sys(e, "cannot give snapshot %s its name", d->name);
	}
	fsync(d->at);
	close(d->dir);
	d->dir = -1;
	return 0;
}

/* Out of sight first, as a whole. */
static int remove_dir(int at, const char *name)
{
	char temp[NAME_MAX];

	snprintf(temp, sizeof(temp), TEMP_PREFIX "removed-%d", (int)getpid());
	if (rename_new(at, name, temp))
		return -errno;
	files_remove_dir(at, temp);
	return 0;
}

int snapshot_remove(int at, const char *name, struct err *e)
{
	int r = snapshot_removable(at, name, e);

	if (!r && remove_dir(at, name))
		r = err_sys(e, "cannot remove snapshot %s", name);
	return r;
}

void snapshot_discard(int at, const char *name)
{
	remove_dir(at, name);
}
