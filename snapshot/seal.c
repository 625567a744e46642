/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "snapshot/sum.h"
#include "vmm/stamp.h"
#include "vmm/util.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* What the seal belongs to: another host, another boot (a kernel may have changed, and with it what
 * KVM offers) or another uvm must look for itself.
 */
struct seal {
	uint8_t boot_id[36];
	uint64_t state_sum;
	uint32_t version_len;
	char version[64];
};

const struct state_table seal_table = {
	"seal", 1,
	(const struct state_field[]){STATE_ARRAY(struct seal, boot_id, 1),
				     STATE_SCALAR(struct seal, state_sum, 1),
				     STATE_VARIABLE(struct seal, version, version_len, 1),
				     {0}}};

#define S(m) STATE_SCALAR(struct stamp, m, 1)
const struct state_table stamp_table = {
	"stamp", 1,
	(const struct state_field[]){S(device), S(inode), S(size), S(mtime_s), S(mtime_ns),
				     S(ctime_s), S(ctime_ns), {0}}};
#undef S

static bool make_seal(const struct snapshot *s, struct seal *seal)
{
	int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, seal->boot_id, sizeof(seal->boot_id));

	if (fd >= 0)
		close(fd);
	seal->state_sum = s->m.state_sum;
	seal->version_len = MIN(strlen(UVM_VERSION), sizeof(seal->version));
	memcpy(seal->version, UVM_VERSION, seal->version_len);
	return n == sizeof(seal->boot_id);
}

/* Visits the stamp of each file: the memory, then each disk's files. A disk's path may lead
 * elsewhere, and the file there may be a link to the one that counts. A block device has no stamp: its
 * times are not those of what is written to it.
 */
static int each_file(const struct snapshot *s,
		     int (*visit)(void *ctx, uint32_t instance, struct stamp stamp), void *ctx)
{
	struct stat st;
	uint32_t n = 0;
	int r = fstat(s->memory, &st) ? -1 : visit(ctx, n++, stamp_of(&st));

	for (uint32_t i = 0; i < s->m.disks && !r; i++)
		for (uint32_t k = 0; k < s->disk[i].files && !r; k++)
			r = fstatat(s->dir, s->disk[i].file[k].path.s, &st, 0) || !S_ISREG(st.st_mode)
				    ? -1
				    : visit(ctx, n++, stamp_of(&st));
	return r;
}

static int compare(void *ctx, uint32_t instance, struct stamp now)
{
	struct state_visitor v = {.r = ctx};
	struct stamp then = {0};
	struct err ignored;

	return state_visit(&v, &stamp_table, instance, &then, &ignored) ||
	       memcmp(&then, &now, sizeof(now));
}

bool seal_fits(const struct snapshot *s)
{
	struct seal now = {0}, then = {0};
	struct state_reader reader;
	struct state_visitor v = {.r = &reader};
	struct err ignored;
	uint8_t *data, small[FILES_SMALL];
	size_t len;
	bool fits;

	if (!make_seal(s, &now) ||
	    files_read(s->dir, FILE_SEAL, small, sizeof(small), &data, &len, &ignored))
		return false;
	fits = !state_open(&reader, data, len, SNAPSHOT_SEAL_KIND, FILE_SEAL, &ignored) &&
	       !state_visit(&v, &seal_table, 0, &then, &ignored) &&
	       /* Both began as zeroes. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
	       !memcmp(&now, &then, sizeof(now)) && !each_file(s, compare, &reader);
	if (data != small)
		free(data);
	return fits;
}

static int save(void *ctx, uint32_t instance, struct stamp stamp)
{
	state_save(ctx, &stamp_table, instance, &stamp);
	return 0;
}

static int settle(void *ctx, uint32_t instance, struct stamp stamp)
{
	(void)ctx, (void)instance;
	stamp_settle((int64_t)(stamp.ctime_s * 1000000000 + stamp.ctime_ns));
	return 0;
}

void seal_begin(struct snapshot *s)
{
	struct seal seal = {0};
	struct err ignored;

	if (!make_seal(s, &seal) || each_file(s, settle, NULL))
		return;
	state_begin(&s->seal, SNAPSHOT_SEAL_KIND);
	state_save(&s->seal, &seal_table, 0, &seal);
	if (each_file(s, save, &s->seal) || state_finish(&s->seal, &ignored))
		state_discard(&s->seal);
}

void snapshot_seal(const struct snapshot *s)
{
	struct err ignored;

	if (s->parent)
		snapshot_seal(s->parent);
	if (!s->sealed && s->seal.len)
		files_replace(s->dir, FILE_SEAL, s->seal.data, s->seal.len, &ignored);
}

/* Whether memory was written to after the manifest, which was the last to be. */
static bool changed_since(const struct snapshot *s)
{
	struct stat memory, manifest;

	if (fstat(s->memory, &memory) || fstatat(s->dir, FILE_MANIFEST, &manifest, AT_SYMLINK_NOFOLLOW))
		return true;
	return memory.st_ctim.tv_sec == manifest.st_mtim.tv_sec
		       ? memory.st_ctim.tv_nsec > manifest.st_mtim.tv_nsec
		       : memory.st_ctim.tv_sec > manifest.st_mtim.tv_sec;
}

int snapshot_complete(struct snapshot *s, struct err *e)
{
	int r = 0;

	seal_begin(s);
	if (s->m.unsummed) {
		r = sum_file(s->memory, s->m.memory, &s->m.memory_sum);
		if (r)
			return err_set(e, -r, FILE_MEMORY ": cannot be read: %s", strerror(-r));
		if (changed_since(s))
			return err_set(e, EINVAL, FILE_MEMORY ": was changed before it was summed up");
		s->m.unsummed = false;
		r = manifest_write(s->dir, &s->m, s->disk, e);
	}
	if (!r)
		snapshot_seal(s);
	return r;
}
