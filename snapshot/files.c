/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util.h"

/* --- tables --- */

#define M(m)	STATE_SCALAR(struct snapshot_manifest, m, 1)
#define TEXT(m) STATE_VARIABLE(struct snapshot_manifest, m.s, m.len, 1)
const struct state_table manifest_table = {
	"snapshot", 2,
	(const struct state_field[]){
		TEXT(version), TEXT(source), TEXT(kernel), M(created),
		STATE_ARRAY(struct snapshot_manifest, uuid, 1), M(has_parent),
		STATE_ARRAY(struct snapshot_manifest, parent_uuid, 1), TEXT(parent), M(memory),
		M(cpus), M(agent), M(has_root), M(state_size), M(state_sum), M(memory_sum),
		M(memory_stored), M(disks), STATE_SCALAR(struct snapshot_manifest, unsummed, 2), {0}}};
#undef M
#undef TEXT

const struct state_table disk_table = {
	"disk", 1,
	(const struct state_field[]){STATE_SCALAR(struct snapshot_disk, read_only, 1),
				     STATE_SCALAR(struct snapshot_disk, size, 1),
				     STATE_SCALAR(struct snapshot_disk, files, 1), {0}}};

const struct state_table disk_file_table = {
	"disk.file", 1,
	(const struct state_field[]){STATE_VARIABLE(struct snapshot_file, path.s, path.len, 1),
				     STATE_SCALAR(struct snapshot_file, size, 1),
				     STATE_SCALAR(struct snapshot_file, sum, 1), {0}}};

/* --- small files --- */

int files_open(int dir, const char *name, struct err *e)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_sys(e, "%s", name);
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return err_set(e, EINVAL, "%s: not a regular file", name);
}

int files_read(int dir, const char *name, void *small, size_t room, uint8_t **data, size_t *len,
	       struct err *e)
{
	int fd = files_open(dir, name, e), r;
	struct stat st;

	if (fd < 0)
		return fd;
	r = fstat(fd, &st) ? err_sys(e, "%s", name) : 0;
	if (!r && (uint64_t)st.st_size > STATE_FILE_MAX)
		r = err_set(e, EFBIG, "%s: too large to be a snapshot's: damaged", name);
	*len = r ? 0 : (size_t)st.st_size;
	*data = r ? NULL : *len < room ? small : malloc(*len + 1);
	if (!r && !*data)
		r = err_set(e, ENOMEM, "out of memory");
	if (!r) {
		r = pread_all(fd, *data, *len, 0);
		if (r) {
			if (*data != small)
				free(*data);
			*data = NULL;
			err_set(e, -r, "%s: cannot be read: %s", name, strerror(-r));
		}
	}
	close(fd);
	return r;
}

int snapshot_read_file(int dir, const char *name, uint8_t **data, size_t *len, struct err *e)
{
	return files_read(dir, name, NULL, 0, data, len, e);
}

int files_put(int fd, const char *name, const void *data, size_t len, struct err *e)
{
	int r = fd < 0 ? fd : write_all(fd, data, len);

	if (!r && fsync(fd))
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r ? err_set(e, -r, "cannot write %s: %s", name, strerror(-r)) : 0;
}

int files_write(int dir, const char *name, const void *data, size_t len, struct err *e)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	return files_put(fd < 0 ? -errno : fd, name, data, len, e);
}

int files_replace(int dir, const char *name, const void *data, size_t len, struct err *e)
{
	char temp[64];
	int r;

	snprintf(temp, sizeof(temp), "%s.%d", name, (int)getpid());
	r = files_write(dir, temp, data, len, e);
	if (!r && renameat(dir, temp, dir, name))
		r = err_sys(e, "cannot write %s", name);
	if (r)
		unlinkat(dir, temp, 0);
	return r;
}

/* --- the manifest --- */

/* A text from a file: no zero inside, nothing that a terminal would obey. */
static bool text_ok(char *s, uint32_t len, size_t size)
{
	if (len >= size)
		return false;
	s[len] = 0;
	for (uint32_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return false;
	return true;
}
#define TEXT_OK(t) text_ok((t).s, (t).len, sizeof((t).s))

static int bad(const char *why, struct err *e)
{
	return err_set(e, EINVAL, FILE_MANIFEST ": %s", why);
}

static int load_disk(struct snapshot *s, const struct state_reader *r, uint32_t i, struct err *e)
{
	struct snapshot_disk *d = &s->disk[i];
	struct state_visitor v = {.r = r};
	int error = state_visit(&v, &disk_table, i, d, e);

	if (!error && (d->files > SNAPSHOT_DISK_LAYERS || !d->files != !d->size))
		error = bad("a disk consists of an impossible number of files", e);
	for (uint32_t k = 0; !error && k < d->files; k++) {
		struct snapshot_file *f = &d->file[k];

		error = state_visit(&v, &disk_file_table, i * SNAPSHOT_DISK_LAYERS + k, f, e);
		if (!error && (!TEXT_OK(f->path) || !f->path.len ||
			       (f->path.s[0] != '/' && strchr(f->path.s, '/')) ||
			       !strcmp(f->path.s, "..") || !strcmp(f->path.s, ".")))
			error = bad("a disk's file has no proper name", e);
	}
	return error;
}

static int check_manifest(struct snapshot_manifest *m, struct err *e)
{
	if (!TEXT_OK(m->version) || !TEXT_OK(m->source) || !TEXT_OK(m->kernel) ||
	    !TEXT_OK(m->parent))
		return bad("a text in it is malformed", e);
	if (m->memory < MEM_MIN || m->memory > MEM_MAX || m->memory % 4096)
		return bad("impossible size of memory", e);
	if (m->disks > SNAPSHOT_DISKS)
		return bad("too many disks", e);
	if (m->has_parent && m->parent.s[0] != '/')
		return bad("its parent has no absolute path", e);
	return 0;
}

int manifest_read(struct snapshot *s, struct err *e)
{
	struct state_reader reader;
	struct state_visitor v = {.r = &reader};
	uint8_t *data, small[FILES_SMALL];
	size_t len;
	int r = files_read(s->dir, FILE_MANIFEST, small, sizeof(small), &data, &len, e);

	if (r)
		return r;
	r = state_open(&reader, data, len, SNAPSHOT_MANIFEST_KIND, FILE_MANIFEST, e);
	if (!r)
		r = state_visit(&v, &manifest_table, 0, &s->m, e);
	if (!r)
		r = check_manifest(&s->m, e);
	if (!r && s->m.disks) {
		s->disk = calloc(s->m.disks, sizeof(*s->disk));
		r = s->disk ? 0 : err_set(e, ENOMEM, "out of memory");
	}
	for (uint32_t i = 0; !r && i < s->m.disks; i++)
		r = load_disk(s, &reader, i, e);
	if (data != small)
		free(data);
	return r;
}

int manifest_make(struct state_writer *w, struct snapshot_manifest *m, const struct snapshot_disk *disk,
		  struct err *e)
{
	state_begin(w, SNAPSHOT_MANIFEST_KIND);
	state_save(w, &manifest_table, 0, m);
	for (uint32_t i = 0; i < m->disks; i++) {
		state_save(w, &disk_table, i, &disk[i]);
		for (uint32_t k = 0; k < disk[i].files; k++)
			state_save(w, &disk_file_table, i * SNAPSHOT_DISK_LAYERS + k,
				   &disk[i].file[k]);
	}
	return state_finish(w, e);
}

int manifest_write(int dir, struct snapshot_manifest *m, const struct snapshot_disk *disk,
		   struct err *e)
{
	struct state_writer w;
	int r = manifest_make(&w, m, disk, e);

	if (!r)
		r = files_replace(dir, FILE_MANIFEST, w.data, w.len, e);
	state_discard(&w);
	return r;
}

/* --- who needs whom --- */

static void hex(const uint8_t uuid[16], char text[33])
{
	for (unsigned int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

void files_record_child(int dir, const uint8_t uuid[16], const char *path)
{
	char name[33];
	int children;

	hex(uuid, name);
	mkdirat(dir, FILE_CHILDREN, 0700);
	children = openat(dir, FILE_CHILDREN, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (children < 0)
		return; /* a parent that cannot be written to is not removed by its user either */
	symlinkat(path, children, name);
	fsync(children);
	close(children);
}

/* Whether there is a snapshot at path that has this parent. */
static bool has_parent(const char *path, const uint8_t uuid[16])
{
	struct snapshot *s = calloc(1, sizeof(*s));
	struct err ignored;
	bool has = s && !snapshot_read_manifest(s, path, &ignored) && s->m.has_parent &&
		   !memcmp(s->m.parent_uuid, uuid, 16);

	if (s)
		snapshot_close(s);
	free(s);
	return has;
}

/* Whether the record's snapshot is there: where it was, or, when both were moved together, beside its
 * parent. path gets where.
 */
static bool needs(int children, const char *record, const uint8_t uuid[16], char path[PATH_MAX])
{
	ssize_t n = readlinkat(children, record, path, PATH_MAX - 1);
	char beside[PATH_MAX + 64];
	const char *name;

	path[MAX(n, 0)] = 0;
	if (has_parent(path, uuid))
		return true;
	name = strrchr(path, '/');
	snprintf(beside, sizeof(beside), "/proc/self/fd/%d/../..%s", children, name ? name : "");
	return name && has_parent(beside, uuid) && realpath(beside, path);
}

int files_check_children(int dir, const uint8_t uuid[16], const char *name, struct err *e)
{
	int fd = openat(dir, FILE_CHILDREN, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char path[PATH_MAX];
	struct dirent *entry;

	while (d && !r && (entry = readdir(d)))
		if (entry->d_name[0] != '.' && needs(fd, entry->d_name, uuid, path))
			r = err_set(e, EBUSY,
				    "snapshot %s is the parent of %s, which needs it; remove that "
				    "first, or make it independent with 'uvm snapshot flatten'",
				    name, path);
	if (d)
		closedir(d);
	return r;
}

/* --- removal --- */

static void empty_dir(int dir)
{
	int fd = openat(dir, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		unlinkat(dir, entry->d_name, 0);
	if (d)
		closedir(d);
}

/* A snapshot that goes needs its parent no more. */
static void forget_in_parent(int dir)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	char record[sizeof(FILE_CHILDREN) + 33];
	struct err ignored;
	int parent;

	if (!s)
		return;
	s->memory = -1;
	s->dir = dup(dir);
	if (s->dir >= 0 && !manifest_read(s, &ignored) && s->m.has_parent) {
		parent = open(s->m.parent.s, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		memcpy(record, FILE_CHILDREN "/", sizeof(FILE_CHILDREN));
		hex(s->m.uuid, record + sizeof(FILE_CHILDREN));
		if (parent >= 0) {
			unlinkat(parent, record, 0);
			close(parent);
		}
	}
	snapshot_close(s);
	free(s);
}

void files_remove_dir(int at, const char *name)
{
	int dir = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW), children;

	if (dir < 0)
		return;
	forget_in_parent(dir);
	children = openat(dir, FILE_CHILDREN, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (children >= 0) {
		empty_dir(children);
		close(children);
		unlinkat(dir, FILE_CHILDREN, AT_REMOVEDIR);
	}
	empty_dir(dir);
	close(dir);
	unlinkat(at, name, AT_REMOVEDIR);
}
