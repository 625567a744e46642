/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_copy.h"

static unsigned int layers(const struct disk *d)
{
	return d->now.files ? d->now.files - 1 : 0;
}

static int file_fd(const struct disk *d, unsigned int i)
{
	return i ? d->layer[i - 1]->fd : d->image.fd;
}

struct blk_backend *disk_backend(struct disk *d)
{
	unsigned int n = layers(d);

	return n ? &d->layer[n - 1]->backend : &d->image.backend;
}

void disk_prepare(struct disk *d)
{
	struct blk_backend *b = disk_backend(d);

	if (d->now.files && b->async)
		(void)b->async->open(b); /* where there is none, transfers are done one by one */
}

/* --- files of the VM's own --- */

/* A new file without a name. make, given a free name in the run directory, returns a descriptor. */
static int nameless(const struct rundir *vm, int (*make)(int dir, const char *name, void *ctx,
							 struct err *e),
		    void *ctx, struct err *e)
{
	static const char name[] = "disk.new"; /* one thread makes them, and unlinks it at once */
	int fd = make(vm->dir, name, ctx, e);

	if (fd >= 0)
		unlinkat(vm->dir, name, 0);
	return fd;
}

static int make_plain(int dir, const char *name, void *ctx, struct err *e)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	(void)ctx;
	return fd < 0 ? err_sys(e, "cannot make a file for a disk") : fd;
}

static int make_layer(int dir, const char *name, void *ctx, struct err *e)
{
	return blk_overlay_create(dir, name, *(uint64_t *)ctx, e);
}

static int new_layer(const struct disk *d, const struct rundir *vm, struct err *e)
{
	uint64_t size = d->now.size;

	return nameless(vm, make_layer, &size, e);
}

/* Puts the layer in fd on top of the stack; fd is the disk's then. */
static int push(struct disk *d, int fd, bool read_only, const char *name, struct err *e)
{
	struct blk_overlay *o = calloc(1, sizeof(*o));
	int r;

	if (!o || d->now.files == SNAPSHOT_DISK_LAYERS) {
		free(o);
		close(fd);
		return o ? err_set(e, ELOOP, "disk %s has too many layers", name)
			 : err_set(e, ENOMEM, "out of memory");
	}
	r = blk_overlay_open(o, fd, read_only, disk_backend(d), name, e);
	if (r) {
		free(o);
		return r;
	}
	d->layer[layers(d)] = o;
	d->now.file[d->now.files++] = (struct snapshot_file){0};
	return 0;
}

static int push_new(struct disk *d, const struct rundir *vm, struct err *e)
{
	int fd = new_layer(d, vm, e);

	return fd < 0 ? fd : push(d, fd, false, "layer", e);
}

static int set_path(struct snapshot_file *f, const char *path, struct err *e)
{
	if (!realpath(path, f->path.s))
		return err_sys(e, "disk %s", path);
	f->path.len = (uint32_t)strlen(f->path.s);
	return 0;
}

static void placeholder(struct disk *d, bool read_only)
{
	d->image = (struct blk_file){.fd = -1, .ring.fd = -1};
	blk_backend_empty(&d->image.backend, read_only);
	d->now.read_only = read_only; /* the rest, much, is zero */
}

/* --- opening --- */

static bool stays_as_it_is(const struct disk_config *cfg)
{
	return cfg->read_only || cfg->layered;
}

/* The rest, once the image is open. */
static int opened(struct disk *d, const struct disk_config *cfg, const struct rundir *vm, struct err *e)
{
	int r = cfg->direct ? blk_file_direct(&d->image, cfg->path, e) : 0;

	if (r)
		return r;
	if (cfg->threads)
		d->image.backend.async = NULL;
	d->now.read_only = cfg->read_only;
	d->now.size = d->image.backend.size;
	return cfg->layered ? push_new(d, vm, e) : 0;
}

int disk_open(struct disk *d, const struct disk_config *cfg, const struct rundir *vm, struct err *e)
{
	int r;

	d->spare = -1;
	if (!strcmp(cfg->path, DISK_PLACEHOLDER)) {
		placeholder(d, cfg->read_only);
		return 0;
	}
	r = blk_file_open(&d->image, cfg->path, stays_as_it_is(cfg), e);
	if (r)
		return r;
	d->now.files = 1;
	if (stays_as_it_is(cfg))
		r = set_path(&d->now.file[0], cfg->path, e);
	return r ? r : opened(d, cfg, vm, e);
}

/* Whoever has it open can have it open for less than is wanted. */
static int check_access(int fd, const struct disk_config *cfg, struct err *e)
{
	int flags = fcntl(fd, F_GETFL), mode = flags & O_ACCMODE;

	if (flags < 0)
		return err_sys(e, "disk %s", cfg->path);
	return mode == O_RDWR || (mode == O_RDONLY && stays_as_it_is(cfg))
		       ? 0
		       : err_set(e, EACCES, "disk %s: its descriptor is not for %s", cfg->path,
				 stays_as_it_is(cfg) ? "reading" : "reading and writing");
}

int disk_open_fd(struct disk *d, const struct disk_config *cfg, int fd, const struct rundir *vm,
		 struct err *e)
{
	int r = check_access(fd, cfg, e);

	d->spare = -1;
	if (r) {
		close(fd);
		return r;
	}
	r = blk_file_open_fd(&d->image, fd, stays_as_it_is(cfg), cfg->path, e);
	if (r)
		return r;
	d->now.files = 1;
	/* Without a path a snapshot copies it; with another file's, too (disk_copy). */
	if (stays_as_it_is(cfg) && *cfg->path == '/' && strlen(cfg->path) < PATH_MAX) {
		d->now.file[0].path.len = (uint32_t)strlen(cfg->path);
		memcpy(d->now.file[0].path.s, cfg->path, d->now.file[0].path.len + 1);
	}
	r = opened(d, cfg, vm, e);
	if (r)
		disk_close_files(d);
	return r;
}

static void last_of_worker(struct worker *w)
{
	virtio_blk_drain(&CONTAINER_OF(w, struct disk, worker)->blk);
}

int disk_init(struct disk *d, const struct disk_config *cfg, unsigned int index, uint32_t cpus,
	      const struct mem *m, struct irq irq, struct err *e)
{
	char serial[BLK_SERIAL + 1];
	int r = worker_init(&d->worker, e);

	if (r)
		return r;
	d->worker.last = last_of_worker;
	if (*cfg->serial)
		memcpy(serial, cfg->serial, sizeof(serial));
	else
		snprintf(serial, sizeof(serial), "uvm-disk-%u", index);
	r = virtio_blk_init(&d->blk, m, disk_backend(d), serial, irq, &d->worker.loop, e);
	if (!r) {
		virtio_blk_set_queues(&d->blk, cfg->queues ? cfg->queues : MIN(cpus, BLK_QUEUES));
		r = virtio_blk_set_limits(&d->blk, &cfg->limits, e);
		if (r)
			virtio_blk_close(&d->blk);
	}
	if (r)
		loop_close(&d->worker.loop);
	return r;
}

int disk_fill(struct disk *d, const struct disk_config *cfg, struct disk_config *has,
	      const struct rundir *vm, struct err *e)
{
	struct disk_config as = *cfg;
	int r;

	if (cfg->queues)
		return err_set(e, EINVAL, "queues= is for a VM that boots");
	as.read_only |= d->now.read_only;
	r = cfg->fd ? disk_open_fd(d, &as, cfg->fd, vm, e) : disk_open(d, &as, vm, e);
	if (!r)
		r = virtio_blk_set_backend(&d->blk, disk_backend(d), e);
	if (!r && *cfg->serial) {
		memcpy(has->serial, cfg->serial, sizeof(has->serial));
		memcpy(d->blk.serial, cfg->serial, sizeof(d->blk.serial));
	}
	if (r || !(cfg->limits.bps || cfg->limits.iops))
		return r;
	has->limits = cfg->limits;
	return virtio_blk_set_limits(&d->blk, &has->limits, e);
}

/* Takes over the files of a snapshot's disk, all of them to read. */
static int open_files(struct disk *d, const struct snapshot *s, const struct snapshot_disk *from,
		      struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < from->files && !r; i++) {
		const struct snapshot_file *f = &from->file[i];
		int fd = snapshot_open_file(s, f, e);

		if (fd < 0)
			return fd;
		if (i) {
			r = push(d, fd, true, f->path.s, e);
		} else {
			r = blk_file_open_fd(&d->image, fd, true, f->path.s, e);
			d->now.files = 1;
		}
		d->now.file[i] = *f;
		d->now.file[i].sum_known = true;
		if (!r && f->path.s[0] != '/') {
			int n = snprintf(d->now.file[i].path.s, PATH_MAX, "%s/%s", s->path,
					 f->path.s);

			d->now.file[i].path.len = (uint32_t)n;
			if (n >= PATH_MAX)
				r = err_set(e, ENAMETOOLONG, "snapshot %s: its path is too long",
					    s->path);
		}
	}
	return r;
}

int disk_clone(struct disk *d, const struct snapshot *s, unsigned int index,
	       const struct rundir *vm, struct err *e)
{
	const struct snapshot_disk *from = &s->disk[index];
	int r;

	d->spare = -1;
	if (!from->files) {
		placeholder(d, from->read_only);
		return 0;
	}
	d->now.read_only = from->read_only;
	d->now.size = from->size;
	r = open_files(d, s, from, e);
	if (!r && disk_backend(d)->size != from->size)
		r = err_set(e, EINVAL, "snapshot %s: disk %u has another size than it had", s->path,
			    index);
	return r || from->read_only ? r : push_new(d, vm, e);
}

/* --- copying --- */

void disk_close_files(struct disk *d)
{
	while (layers(d)) {
		blk_overlay_close(d->layer[layers(d) - 1]);
		free(d->layer[layers(d) - 1]);
		d->now.files--;
	}
	if (d->now.files)
		blk_file_close(&d->image);
	d->now.files = 0;
}

void disk_close(struct disk *d)
{
	virtio_blk_close(&d->blk);
	loop_close(&d->worker.loop);
	disk_close_files(d);
}

static int new_file(const struct snapshot_draft *to, unsigned int index, unsigned int layer, struct snapshot_text *path,
		    struct err *e)
{
	int fd;

	path->len = (uint32_t)snprintf(path->s, sizeof(path->s), "disk-%u.%u", index, layer);
	fd = snapshot_draft_file(to, path->s, true);
	return fd < 0 ? err_set(e, -fd, "cannot make %s: %s", path->s, strerror(-fd)) : fd;
}

/* Closes fd, into which that disk was copied, and returns r, with why it is no success. */
static int copied(unsigned int index, int fd, int r, const struct err *why, struct err *e)
{
	close(fd);
	return r ? err_set(e, -r, "disk %u: %s", index, why->text) : 0;
}

int disk_flatten(const struct snapshot *s, unsigned int index, const struct snapshot_draft *to,
		 struct snapshot_disk *as, struct err *e)
{
	struct disk *d = calloc(1, sizeof(*d));
	struct err why;
	int fd, r = d ? 0 : err_set(e, ENOMEM, "out of memory");

	*as = s->disk[index];
	if (!r && as->files && !as->read_only) {
		d->now.size = as->size;
		r = open_files(d, s, as, e);
		*as = (struct snapshot_disk){.size = as->size, .files = 1};
		fd = r ? r : new_file(to, index, 0, &as->file[0].path, e);
		r = fd < 0 ? fd : copied(index, fd, blk_copy_backend(disk_backend(d), fd, &why), &why, e);
		disk_close_files(d);
	}
	free(d);
	return r;
}

/* Whether the file that the disk reads will stay what its path leads to: a snapshot can be replaced or
 * removed while clones of it run. A process in a jail cannot look where the path leads, but whether the file
 * is anywhere. One that was moved is missed by name, later.
 */
static bool stays(int fd, const struct snapshot_text *path, const struct snapshot *gone)
{
	size_t len = gone ? strlen(gone->path) : 0;
	struct stat st;

	if (!path->len || (gone && !strncmp(path->s, gone->path, len) && path->s[len] == '/'))
		return false;
	return !fstat(fd, &st) && st.st_nlink;
}

int disk_copy(struct disk *d, const struct snapshot_draft *to, unsigned int index, const struct snapshot *gone,
	      struct snapshot_disk *as, struct err *e)
{
	struct blk_backend *top = disk_backend(d);
	int r = 0;

	*as = d->now;
	if (d->now.files && !top->read_only) {
		r = top->flush(top);
		if (r)
			return err_set(e, -r, "disk %u cannot be flushed: %s", index, strerror(-r));
	}
	for (uint32_t i = 0; i < d->now.files && !r; i++) {
		struct snapshot_text *path = &as->file[i].path;
		struct err why;
		int fd;

		as->file[i].fd = file_fd(d, i);
		if (stays(as->file[i].fd, path, gone))
			continue;
		as->file[i].sum_known = false;
		fd = new_file(to, index, i, path, e);
		r = fd < 0 ? fd : copied(index, fd, blk_copy_file(file_fd(d, i), fd, &why), &why, e);
	}
	return r;
}

/* --- forking --- */

/* The stack as one raw image in a file of the VM's own. Returns its descriptor or -errno. */
static int flat_copy(struct disk *d, const struct rundir *vm, struct err *e)
{
	struct blk_backend *top = disk_backend(d);
	int fd = nameless(vm, make_plain, NULL, e), r;
	struct err why;

	if (fd < 0)
		return fd;
	r = layers(d) ? blk_copy_backend(top, fd, &why) : blk_copy_file(d->image.fd, fd, &why);
	if (!r)
		return fd;
	close(fd);
	return err_set(e, -r, "a disk of the VM: %s", why.text);
}

static bool stacked(const struct disk *d)
{
	return layers(d) && d->now.files < SNAPSHOT_DISK_LAYERS - 1;
}

/* Whether the top layer is still empty: then a child builds on what is below it. */
static bool unwritten(const struct disk *d)
{
	return layers(d) && !blk_overlay_blocks(d->layer[layers(d) - 1]);
}

/* An image that the guest writes to directly cannot be shared: children get a copy of it. So too
 * where the stack has become as high as it may. Else the top becomes one of those that stay as they
 * are, and the parent's next layer is made first, since nothing may fail after that.
 */
int disk_share(struct disk *d, const struct rundir *vm, struct err *e)
{
	int r;

	if (!d->now.files || d->now.read_only || unwritten(d))
		return 0;
	d->spare = stacked(d) ? new_layer(d, vm, e) : flat_copy(d, vm, e);
	if (d->spare < 0)
		return d->spare;
	r = stacked(d) ? blk_overlay_freeze(d->layer[layers(d) - 1], e) : 0;
	if (r) {
		close(d->spare);
		d->spare = -1;
	}
	return r;
}

void disk_continue(struct disk *d)
{
	struct err e;
	int spare = d->spare;

	if (spare < 0)
		return;
	d->spare = -1;
	if (!stacked(d))
		close(spare);
	else if (!push(d, spare, false, "layer", &e)) /* else: no memory, and writes will fail */
		d->blk.backend = disk_backend(d);
}

int disk_adopt(struct disk *d, const struct disk *parent, const struct rundir *vm, struct err *e)
{
	bool copied = parent->spare >= 0 && !stacked(parent);
	unsigned int n = copied ? 0 : layers(parent) - (!parent->now.read_only && unwritten(parent));
	int r = 0;

	d->spare = -1;
	if (!parent->now.files) {
		placeholder(d, parent->now.read_only);
		return 0;
	}
	d->now.read_only = parent->now.read_only;
	d->now.size = parent->now.size;
	d->now.files = 1;
	r = blk_file_open_fd(&d->image, dup(copied ? parent->spare : parent->image.fd), true,
			     "image", e);
	for (unsigned int i = 0; i < n && !r; i++)
		r = push(d, dup(parent->layer[i]->fd), true, "layer", e);
	for (uint32_t i = 0; i < d->now.files && !copied; i++)
		d->now.file[i] = parent->now.file[i];
	return r || d->now.read_only ? r : push_new(d, vm, e);
}
