/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshot directories: made, published, opened, damaged in every way, moved, removed, and left half
 * made by processes that die. No VM is in them: the state is a section of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "snapshot/sum.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define SIZE  MEM_MIN
#define PAGE  4096u
#define PAGES ((unsigned int)(SIZE / PAGE))
#define TEMP  ".uvm-snapshot-"

static struct err e;
static int at; /* the temporary directory */
static struct mem mem;

static void setup(void)
{
	tmp_setup();
	at = open(tmp, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	ck_that(at >= 0);
	ck_ok(mem_init(&mem, SIZE, &e));
}

static void teardown(void)
{
	close(at);
	mem_free(&mem);
	tmp_teardown();
}

/* The same for tests that sync often, on a file system in memory, which goes with the process; on
 * the one of the temporary directory where this user cannot mount.
 */
static void setup_quick(void)
{
	setup();
	if (private_mounts() && !mount("none", tmp, "tmpfs", 0, "mode=755")) {
		close(at);
		at = open(tmp, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		ck_that(at >= 0);
	}
}

static void teardown_quick(void)
{
	umount2(tmp, MNT_DETACH);
	teardown();
}

/* --- making --- */

static const struct state_table extra = {
	"extra", 1, (const struct state_field[]){STATE_SCALAR(struct snapshot_file, size, 1), {0}}};

/* What a snapshot of generation n has in its memory, on some pages. */
static void fill_memory(uint32_t generation)
{
	for (unsigned int page = 0; page < PAGES; page += 7)
		memcpy(mem.region[0].host + page * PAGE, &generation, sizeof(generation));
}

static void fill(struct snapshot_draft *d)
{
	static struct snapshot_manifest m;
	struct state_writer w;

	state_begin(&w, SNAPSHOT_STATE_KIND);
	ck_ok(snapshot_fill(d, &m, NULL, &w, &mem, NULL, false, NULL, NULL, &e));
	state_discard(&w);
}

/* Makes and publishes. disk: what disk 0 holds, or NULL; parent: what mem was mapped from. */
static int try_make(int dir, const char *name, const char *disk, const struct snapshot *parent)
{
	static struct snapshot_manifest m;
	static struct snapshot_disk d;
	struct snapshot_file sections = {.size = 77};
	struct state_writer w;
	struct snapshot_draft draft;
	int r = snapshot_draft(&draft, dir, tmp, name, &e);

	if (r)
		return r;
	m = (struct snapshot_manifest){.cpus = 1, .source = {4, "test"}, .kernel = {2, "/k"}};
	if (disk) {
		m.disks = 1;
		d = (struct snapshot_disk){.files = 1, .size = strlen(disk)};
		d.file[0].path = (struct snapshot_text){8, "disk-0.0"};
		r = files_write(draft.dir, "disk-0.0", disk, strlen(disk), &e);
	}
	state_begin(&w, SNAPSHOT_STATE_KIND);
	state_save(&w, &extra, 0, &sections);
	if (!r)
		r = snapshot_fill(&draft, &m, &d, &w, &mem, parent, parent, NULL, NULL, &e);
	if (!r)
		r = snapshot_publish(&draft, parent, &e);
	state_discard(&w);
	snapshot_drop(&draft);
	return r;
}

static void make(const char *name)
{
	ck_ok(try_make(at, name, "the disk's content", NULL));
}

static struct snapshot opened; /* at most one at a time */

static int try_open(const char *path)
{
	int r = snapshot_open(&opened, tmp_path(path), SNAPSHOT_UNLESS_SEALED, &e);

	if (r) /* and nothing is left open in it */
		ck_that(opened.dir == -1 && opened.memory == -1 && !opened.parent && !opened.disk);
	return r;
}

/* Of one that is whole. */
static struct snapshot_manifest manifest_of(const char *path)
{
	struct snapshot_manifest m;

	ck_ok(try_open(path));
	m = opened.m;
	snapshot_close(&opened);
	return m;
}

static int check(const char *path, enum snapshot_check how)
{
	int r = snapshot_open(&opened, tmp_path(path), how, &e);

	if (!r)
		snapshot_close(&opened);
	return r;
}

/* Opens, seals as a clone does, and closes. */
static void seal(const char *path)
{
	ck_ok(try_open(path));
	snapshot_seal(&opened);
	snapshot_close(&opened);
}

static bool is_sealed(const char *path)
{
	bool sealed;

	ck_ok(try_open(path));
	sealed = opened.sealed;
	snapshot_close(&opened);
	return sealed;
}

/* Maps the snapshot and makes mem what it holds. */
static void map(const char *path, struct snapshot *s)
{
	struct memfile_layer layer[MEMFILE_LAYERS];

	ck_ok(snapshot_open(s, tmp_path(path), SNAPSHOT_UNLESS_SEALED, &e));
	mem_free(&mem);
	ck_ok(memfile_map(&mem, s->m.memory, layer, snapshot_layers(s, layer), &e));
}

static void make_child(const char *name, const char *parent, uint32_t page, uint32_t value)
{
	struct snapshot s;

	map(parent, &s);
	memcpy(mem.region[0].host + page * PAGE, &value, sizeof(value));
	ck_ok(try_make(at, name, NULL, &s));
	snapshot_close(&s);
}

static uint32_t value_at(const char *path, uint32_t page)
{
	struct snapshot s;
	uint32_t value;

	map(path, &s);
	memcpy(&value, mem.region[0].host + page * PAGE, sizeof(value));
	snapshot_close(&s);
	return value;
}

/* What is in a directory, but for "." and "..", in no order. */
static const char *listing(const char *path)
{
	static char text[4096];
	DIR *d = opendir(path);
	struct dirent *entry;
	size_t n = 0;

	*text = 0;
	while (d && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "",
					      entry->d_name);
	if (d)
		closedir(d);
	return text;
}

static void shell(const char *command)
{
	char text[3 * PATH_MAX];

	snprintf(text, sizeof(text), "cd '%s' && %s", tmp, command);
	if (system(text))
		ck_abort_msg("%s", text);
}

/* A change must not happen in the same tick of the file system's clock as what was before it. */
static void next_tick(const char *path)
{
	struct timespec now;
	struct stat st;

	ck_that(!lstat(tmp_path(path), &st));
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec);
}

/* --- what is right --- */

START_TEST(round_trip)
{
	struct state_section section;
	unsigned int before = open_fds();

	fill_memory(5);
	make("s");
	ck_assert_str_eq(listing(tmp), "s");
	ck_ok(try_open("s"));
	ck_assert_str_eq(opened.path, tmp_path("s"));
	ck_assert_uint_eq(opened.m.memory, SIZE);
	ck_assert_uint_eq(opened.m.memory_stored, (PAGES + 6) / 7 * PAGE);
	ck_assert_str_eq(opened.m.source.s, "test");
	ck_assert_str_eq(opened.m.kernel.s, "/k");
	ck_assert_str_eq(opened.m.version.s, UVM_VERSION);
	ck_assert_uint_eq(opened.m.disks, 1);
	ck_assert_uint_eq(opened.disk[0].size, 18);
	ck_assert_str_eq(opened.disk[0].file[0].path.s, "disk-0.0");
	ck_assert(!opened.parent && !opened.m.has_parent && !opened.sealed);
	ck_ok(state_find(&opened.state, "extra", 0, &section, &e));
	snapshot_close(&opened);
	ck_assert_uint_eq(value_at("s", 7), 5);
	ck_assert_uint_eq(value_at("s", 8), 0);
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(names)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "/", "x/"};
	char longest[NAME_MAX + 1];
	struct snapshot_draft d;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_refused(snapshot_draft(&d, at, tmp, bad[i], &e), EINVAL, "not a name");
	memset(longest, 'n', NAME_MAX);
	longest[NAME_MAX] = 0;
	ck_that(snapshot_draft(&d, at, tmp, longest, &e) < 0);
	longest[NAME_MAX - 1] = 0;
	ck_ok(try_make(at, longest, NULL, NULL));
	ck_assert_str_eq(listing(tmp), longest);
}
END_TEST

START_TEST(relative_path_and_links)
{
	make("s");
	ck_that(!symlinkat("s", at, "link"));
	ck_ok(try_open("link"));
	ck_assert_str_eq(opened.path, tmp_path("s"));
	snapshot_close(&opened);
	ck_that(!fchdir(at));
	ck_ok(snapshot_open(&opened, "s/../s/.", SNAPSHOT_UNLESS_SEALED, &e));
	ck_assert_str_eq(opened.path, tmp_path("s"));
	snapshot_close(&opened);
}
END_TEST

/* --- the seal --- */

/* Who changes a file after it was read and before the seal is written, be it in the tick of the clock in
 * which it was made, does not get what they wrote sealed.
 */
START_TEST(changed_before_it_is_sealed)
{
	int fd;

	fill_memory(5);
	make("s");
	fd = open(tmp_path("s/memory"), O_RDWR | O_CLOEXEC);
	ck_that(fd >= 0);
	for (unsigned int i = 0; i < 10; i++) {
		uint8_t good, changed;

		ck_ok(try_open("s"));
		ck_that(pread(fd, &good, 1, 0) == 1);
		changed = (uint8_t)~good;
		ck_that(pwrite(fd, &changed, 1, 0) == 1);
		snapshot_seal(&opened);
		snapshot_close(&opened);
		ck_refused(try_open("s"), EINVAL, "memory: changed or damaged");
		ck_that(pwrite(fd, &good, 1, 0) == 1);
	}
	close(fd);
}
END_TEST

START_TEST(sealed_once_opened)
{
	make("s");
	ck_assert(!is_sealed("s"));
	seal("s");
	ck_assert(is_sealed("s"));
	ck_ok(check("s", SNAPSHOT_READ_ALL));
	ck_assert_ptr_null(strstr(listing(tmp_path("s")), "seal."));
}
END_TEST

START_TEST(seal_that_is_damaged)
{
	const char *path = tmp_path("s/seal");
	uint8_t *data;
	size_t len;

	make("s");
	seal("s");
	ck_ok(snapshot_read_file(at, "s/seal", &data, &len, &e));
	for (size_t i = 0; i < len; i++) {
		data[i] ^= 1;
		tmp_file("s/seal", data, len);
		ck_that(!is_sealed("s"));
		data[i] ^= 1;
		tmp_file("s/seal", data, i);
		ck_that(!is_sealed("s"));
	}
	tmp_file("s/seal", data, len);
	ck_assert(is_sealed("s"));
	free(data);
	ck_that(!unlink(path));
	ck_assert(!is_sealed("s"));
	ck_that(!mkfifo(path, 0600));
	ck_assert(!is_sealed("s"));
	ck_that(!unlink(path) && !mkdir(path, 0700));
	ck_assert(!is_sealed("s"));
	seal("s"); /* cannot be written there, which harms nobody */
	ck_assert(!is_sealed("s"));
	ck_assert_ptr_null(strstr(listing(tmp_path("s")), "seal."));
	ck_that(!rmdir(path));
	seal("s");
	ck_assert(is_sealed("s"));
}
END_TEST

/* As it is after another boot: the same bytes with another id in them, and their sum right. */
START_TEST(seal_of_another_boot)
{
	uint64_t sum, length;
	uint8_t *data, *id;
	size_t len;

	make("s");
	seal("s");
	ck_ok(snapshot_read_file(at, "s/seal", &data, &len, &e));
	id = memmem(data, len, "boot_id", 7);
	ck_assert_ptr_nonnull(id);
	id[7] ^= 1;
	length = len - 32;
	ck_assert(!memcmp(data + 16, &length, 8));
	sum = sum_bytes(data + 32, len - 32, sum_bytes(data, 24, 0));
	memcpy(data + 24, &sum, 8);
	tmp_file("s/seal", data, len);
	free(data);
	ck_assert(!is_sealed("s"));
	seal("s");
	ck_assert(is_sealed("s"));
}
END_TEST

START_TEST(seal_of_another_snapshot)
{
	make("s");
	seal("s");
	make("t");
	shell("cp -p s/seal t/seal");
	ck_assert(!is_sealed("t"));
}
END_TEST

START_TEST(seal_without_room)
{
	struct rlimit limit = {.rlim_cur = 16, .rlim_max = RLIM_INFINITY};

	make("s");
	signal(SIGXFSZ, SIG_IGN);
	ck_that(!setrlimit(RLIMIT_FSIZE, &limit));
	seal("s");
	limit.rlim_cur = RLIM_INFINITY;
	ck_that(!setrlimit(RLIMIT_FSIZE, &limit));
	ck_assert(!is_sealed("s"));
	ck_assert_ptr_null(strstr(listing(tmp_path("s")), "seal"));
}
END_TEST

START_TEST(copied)
{
	make("s");
	seal("s");
	shell("cp -a s t && rm -r s");
	ck_assert(!is_sealed("t"));
	seal("t");
	ck_assert(is_sealed("t"));
	shell("mv t u"); /* the same files */
	ck_assert(is_sealed("u"));
}
END_TEST

/* --- damage --- */

static void each_byte(const char *name, bool sealed)
{
	uint8_t *data;
	size_t len;

	fill_memory(3);
	make("s");
	if (sealed)
		seal("s");
	ck_ok(snapshot_read_file(at, name, &data, &len, &e));
	for (size_t i = 0; i < len; i++) {
		data[i] ^= (uint8_t)(1u << i % 8);
		tmp_file(name, data, len);
		*e.text = 0;
		ck_that(try_open("s") < 0);
		ck_that(strstr(e.text, "/s: "));
		ck_that(strstr(e.text, strchr(name, '/') + 1));
		data[i] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t i = 0; i < len; i++) {
		tmp_file(name, data, i);
		ck_that(try_open("s") == -EINVAL);
		ck_that(strstr(e.text, "/s: "));
	}
	tmp_file(name, data, len);
	ck_ok(check("s", SNAPSHOT_READ_ALL));
	free(data);
}

START_TEST(each_byte_of_manifest) { each_byte("s/manifest", false); }
END_TEST
START_TEST(each_byte_of_state) { each_byte("s/state", false); }
END_TEST
START_TEST(each_byte_of_manifest_sealed) { each_byte("s/manifest", true); }
END_TEST
START_TEST(each_byte_of_state_sealed) { each_byte("s/state", true); }
END_TEST

START_TEST(state_of_another)
{
	uint64_t other = 1;
	struct state_writer w;

	make("s");
	make("t");
	/* Two that are equal are one; so another one. */
	state_begin(&w, SNAPSHOT_STATE_KIND);
	state_save_array(&w, "x", 0, &other, 8, 1);
	ck_ok(state_finish(&w, &e));
	tmp_file("s/state", w.data, w.len);
	state_discard(&w);
	ck_refused(try_open("s"), EINVAL, "state: belongs to another snapshot");
	ck_refused(try_open("t/state"), ENOTDIR, "t/state");
}
END_TEST

/* Bytes of the manifest changed at random, and its sum made right: whatever it says, it is refused or
 * is one that could be.
 */
START_TEST(manifest_that_lies)
{
	uint32_t random = 7;
	uint8_t *data, *changed;
	size_t len;

	make("s");
	make_child("t", "s", 1, 2);
	ck_ok(snapshot_read_file(at, "t/manifest", &data, &len, &e));
	changed = malloc(len);
	for (unsigned int round = 0; round < 3000; round++) {
		uint64_t sum;

		memcpy(changed, data, len);
		for (uint32_t n = 1 + next_random(&random) % 3; n; n--) {
			uint8_t *p = &changed[32 + next_random(&random) % (len - 32)];

			*p = (uint8_t)(next_random(&random) % 2 ? *p ^ 1u << next_random(&random) % 8
								: next_random(&random));
		}
		sum = sum_bytes(changed + 32, len - 32, sum_bytes(changed, 24, 0));
		memcpy(changed + 24, &sum, 8);
		tmp_file("t/manifest", changed, len);
		if (!try_open("t")) {
			ck_that(opened.m.memory == SIZE && opened.m.disks <= SNAPSHOT_DISKS);
			snapshot_close(&opened);
		}
	}
	free(changed);
	free(data);
}
END_TEST

static void write_manifest(const char *name, struct snapshot_manifest *m, struct snapshot_disk *d)
{
	int dir = openat(at, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);

	ck_that(dir >= 0);
	ck_ok(manifest_write(dir, m, d, &e));
	close(dir);
}

START_TEST(manifest_of_something_impossible)
{
	static struct snapshot_manifest good, m;
	static struct snapshot_disk good_disk, d;
	const uint64_t sizes[] = {0, PAGE, SIZE - PAGE, SIZE + 1, MEM_MAX + PAGE, UINT64_MAX, 1ull << 63};
	const char *const bad[] = {"", ".", "..", "a/b", "../s/disk-0.0", "a\nb"};

	make("s");
	ck_ok(try_open("s"));
	good = opened.m;
	good_disk = opened.disk[0];
	snapshot_close(&opened);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		m = good;
		m.memory = sizes[i];
		write_manifest("s", &m, &good_disk);
		ck_refused(try_open("s"), EINVAL, "manifest: impossible size of memory");
	}
	m = good;
	m.memory = 2 * SIZE; /* possible, but the file is shorter */
	write_manifest("s", &m, &good_disk);
	ck_refused(try_open("s"), EINVAL, "memory: has 2097152 bytes, but had 4194304");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		d = good_disk;
		d.file[0].path.len = (uint32_t)strlen(bad[i]);
		strcpy(d.file[0].path.s, bad[i]);
		write_manifest("s", &good, &d);
		ck_refused(try_open("s"), EINVAL, "manifest: a disk's file has no proper name");
	}
	d = good_disk;
	d.files = 0;
	write_manifest("s", &good, &d);
	ck_refused(try_open("s"), EINVAL, "impossible number of files");
	d = good_disk;
	d.size = 0;
	write_manifest("s", &good, &d);
	ck_refused(try_open("s"), EINVAL, "impossible number of files");
	m = good;
	m.source = (struct snapshot_name){3, "a\x1b["};
	write_manifest("s", &m, &good_disk);
	ck_refused(try_open("s"), EINVAL, "manifest: a text in it is malformed");
	m = good;
	m.has_parent = true;
	m.parent = (struct snapshot_text){1, "s"};
	write_manifest("s", &m, &good_disk);
	ck_refused(try_open("s"), EINVAL, "its parent has no absolute path");
	write_manifest("s", &good, &good_disk);
	ck_ok(check("s", SNAPSHOT_READ_ALL));
}
END_TEST

START_TEST(memory_changed)
{
	static const unsigned int where[] = {0, PAGE + 5, SIZE - 1};
	int fd;

	fill_memory(9);
	for (unsigned int sealed = 0; sealed < 2; sealed++)
		for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
			struct timespec times[2];
			struct stat st;

			make("s");
			if (sealed)
				seal("s");
			next_tick("s/memory");
			fd = openat(at, "s/memory", O_RDWR | O_CLOEXEC);
			ck_that(!fstat(fd, &st) && pwrite(fd, "x", 1, where[i]) == 1);
			/* Whoever sets the time of change back cannot set that of the inode. */
			times[0] = st.st_atim;
			times[1] = st.st_mtim;
			ck_that(!futimens(fd, times));
			close(fd);
			ck_refused(try_open("s"), EINVAL, "memory: changed or damaged");
			ck_refused(check("s", SNAPSHOT_READ_ALL), EINVAL, "memory: changed or damaged");
		}
}
END_TEST

/* A seal says only that nobody has touched the files: bytes that go bad on the medium are found by
 * the full check.
 */
START_TEST(damage_without_a_trace)
{
	static struct snapshot_manifest m;
	static struct snapshot_disk d;

	make("s");
	ck_ok(try_open("s"));
	snapshot_seal(&opened);
	m = opened.m;
	d = opened.disk[0];
	m.memory_sum++; /* as good as other bytes in the file */
	snapshot_close(&opened);
	write_manifest("s", &m, &d);
	ck_assert(is_sealed("s"));
	ck_refused(check("s", SNAPSHOT_READ_ALL), EINVAL, "memory: changed or damaged");
	m.memory_sum--;
	d.file[0].sum++;
	write_manifest("s", &m, &d);
	ck_refused(check("s", SNAPSHOT_READ_ALL), EINVAL, "disk-0.0: changed or damaged");
}
END_TEST

/* One whose memory is not summed up yet is its maker's alone. */
START_TEST(complete)
{
	static struct snapshot_manifest m;
	uint64_t sum;
	int fd;

	make("s");
	ck_ok(try_open("s"));
	m = opened.m;
	sum = m.memory_sum;
	m.memory_sum = 0;
	m.unsummed = true;
	snapshot_seal(&opened);
	write_manifest("s", &m, opened.disk);
	snapshot_close(&opened);
	ck_refused(try_open("s"), EBUSY, "not complete");
	ck_refused(check("s", SNAPSHOT_READ_ALL), EBUSY, "not complete");
	unlinkat(at, "s/seal", 0);
	ck_refused(try_open("s"), EBUSY, "not complete");
	ck_ok(snapshot_open(&opened, tmp_path("s"), SNAPSHOT_JUST_SAVED, &e));
	ck_ok(snapshot_complete(&opened, &e));
	snapshot_close(&opened);
	ck_assert(is_sealed("s"));
	ck_ok(try_open("s"));
	ck_that(opened.m.memory_sum == sum);
	snapshot_close(&opened);
	ck_ok(check("s", SNAPSHOT_READ_ALL));

	m.unsummed = true;
	ck_ok(try_open("s"));
	write_manifest("s", &m, opened.disk);
	snapshot_close(&opened);
	next_tick("s/manifest");
	fd = openat(at, "s/memory", O_WRONLY | O_CLOEXEC);
	ck_that(fd >= 0 && pwrite(fd, "x", 1, 0) == 1);
	close(fd);
	ck_ok(snapshot_open(&opened, tmp_path("s"), SNAPSHOT_JUST_SAVED, &e));
	ck_refused(snapshot_complete(&opened, &e), EINVAL, "before it was summed up");
	snapshot_close(&opened);
	ck_refused(try_open("s"), EBUSY, "not complete");
}
END_TEST

/* Every other kind of thing in a file's place. */
static void in_place_of(const char *name, bool sealed)
{
	const char *path = tmp_path(name), *base = strchr(name, '/') + 1;
	char kept[32];

	make("s");
	if (sealed)
		seal("s");
	snprintf(kept, sizeof(kept), "%s.kept", base);
	ck_that(!renameat(at, name, at, kept));
	ck_refused(try_open("s"), EINVAL, "/s: ");
	ck_assert_ptr_nonnull(strstr(e.text, base));
	ck_assert_ptr_nonnull(strstr(e.text, "No such file"));
	ck_that(!mkfifo(path, 0600));
	ck_refused(try_open("s"), EINVAL, "not a regular file");
	ck_that(!unlink(path) && !mkdir(path, 0700));
	ck_refused(try_open("s"), EINVAL, "not a regular file");
	ck_that(!rmdir(path) && !symlinkat(tmp_path(kept), at, name));
	ck_refused(try_open("s"), ELOOP, base);
	ck_that(!unlink(path) && !symlinkat("/dev/zero", at, name));
	ck_refused(try_open("s"), ELOOP, base);
	ck_that(!unlink(path));
	if (!mknod(path, S_IFCHR | 0600, makedev(1, 5))) {
		int fd = open(path, O_RDONLY); /* tmp may be mounted without devices */

		ck_that(try_open("s") < 0);
		ck_assert_ptr_nonnull(strstr(e.text, base));
		if (fd >= 0)
			close(fd);
		ck_that(!unlink(path));
	}
	ck_that(!renameat(at, kept, at, name));
	ck_ok(check("s", SNAPSHOT_UNLESS_SEALED));
}

START_TEST(other_things)
{
	static const char *const name[] = {"s/manifest", "s/state", "s/memory", "s/disk-0.0"};

	for (size_t i = 1; i < ARRAY_SIZE(name); i++) {
		in_place_of(name[i], false);
		in_place_of(name[i], true);
	}
}
END_TEST

START_TEST(no_snapshot)
{
	ck_refused(try_open("none"), ENOENT, "none: No such file");
	ck_that(!mkdirat(at, "dir", 0700));
	ck_refused(try_open("dir"), ENOENT, "dir: not a snapshot (it has no manifest)");
	tmp_file("file", "x", 1);
	ck_refused(try_open("file"), ENOTDIR, "file");
	ck_that(!mkfifo(tmp_path("fifo"), 0600));
	ck_refused(try_open("fifo"), ENOTDIR, "fifo");
	tmp_file("dir/manifest", "", 0);
	ck_refused(try_open("dir"), EINVAL, "manifest: cut off (0 bytes)");
	tmp_file("dir/manifest", "This is a long text, and no manifest at all.", 44);
	ck_refused(try_open("dir"), EINVAL, "manifest: not uvm's, or damaged");
	ck_that(!truncate(tmp_path("dir/manifest"), (64 << 20) + 1));
	ck_refused(try_open("dir"), EFBIG, "manifest: too large");
}
END_TEST

START_TEST(sizes)
{
	for (unsigned int sealed = 0; sealed < 2; sealed++) {
		static const off_t size[] = {0, 1, PAGE, SIZE - 1, SIZE + 1, 2 * SIZE};

		for (size_t i = 0; i < ARRAY_SIZE(size); i++) {
			fill_memory(1);
			make("s");
			if (sealed)
				seal("s");
			next_tick("s/memory");
			ck_that(!truncate(tmp_path("s/memory"), size[i]));
			ck_refused(try_open("s"), EINVAL, "memory: has ");
			make("s");
			if (sealed)
				seal("s");
			next_tick("s/disk-0.0");
			ck_that(!truncate(tmp_path("s/disk-0.0"), size[i]));
			ck_refused(try_open("s"), EINVAL, "disk-0.0: has ");
		}
	}
}
END_TEST

/* A seal that somebody made up does not lead beyond the end of the memory file. */
START_TEST(short_memory_with_a_seal)
{
	static struct snapshot_manifest m;
	static struct snapshot_disk d;

	make("s");
	ck_ok(try_open("s"));
	m = opened.m;
	d = opened.disk[0];
	m.memory *= 2;
	snapshot_seal(&opened);
	snapshot_close(&opened);
	write_manifest("s", &m, &d);
	ck_refused(try_open("s"), EINVAL, "memory: has 2097152 bytes, but had 4194304");
}
END_TEST

/* A disk that is elsewhere is looked at there. */
START_TEST(disk_elsewhere)
{
	static struct snapshot_manifest m;
	static struct snapshot_disk d;
	const char *path = tmp_file("image", "the disk's content", 18);

	make("s");
	ck_ok(try_open("s"));
	m = opened.m;
	d = opened.disk[0];
	snapshot_close(&opened);
	d.file[0].path.len = (uint32_t)snprintf(d.file[0].path.s, PATH_MAX, "%s", path);
	write_manifest("s", &m, &d);
	seal("s");
	ck_assert(is_sealed("s"));
	next_tick("image");
	tmp_file("image", "the disk's CONTENT", 18);
	ck_refused(try_open("s"), EINVAL, "image: changed or damaged");
	next_tick("image");
	tmp_file("image", "the disk's content", 18);
	ck_assert(!is_sealed("s")); /* right again, but touched */
	ck_that(!unlink(path));
	ck_refused(try_open("s"), EINVAL, "image, which the snapshot needs: No such file");
	ck_that(!symlink(tmp_file("image2", "the disk's content", 18), path));
	ck_ok(check("s", SNAPSHOT_UNLESS_SEALED));
	ck_that(!unlink(path) && !mkfifo(path, 0600));
	ck_that(try_open("s") < 0);
	ck_assert_ptr_nonnull(strstr(e.text, "image"));
}
END_TEST

/* What cannot be read to its end gives an error, and nothing that is freed twice. */
START_TEST(file_that_ends_early)
{
	int dir = open("/sys/kernel/mm/transparent_hugepage", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	uint8_t *data = NULL;
	size_t len;

	if (dir < 0) /* a file that says it is longer than it is */
		return;
	ck_refused(snapshot_read_file(dir, "enabled", &data, &len, &e), ENODATA, "cannot be read");
	ck_assert_ptr_null(data);
	close(dir);
}
END_TEST

/* --- parents --- */

START_TEST(chain)
{
	fill_memory(1);
	make("a");
	make_child("b", "a", 7, 2);
	make_child("c", "b", 14, 3);
	make_child("d", "c", 8, 4);
	ck_assert_uint_eq(value_at("d", 0), 1);
	ck_assert_uint_eq(value_at("d", 7), 2);
	ck_assert_uint_eq(value_at("d", 14), 3);
	ck_assert_uint_eq(value_at("d", 8), 4);
	ck_assert_uint_eq(value_at("c", 8), 0);
	ck_ok(try_open("d"));
	ck_assert_str_eq(opened.m.parent.s, tmp_path("c"));
	ck_assert_uint_eq(opened.m.memory_stored, PAGE);
	ck_assert_uint_eq(opened.extent_count, 1);
	snapshot_seal(&opened); /* of all of them */
	snapshot_close(&opened);
	ck_assert(is_sealed("a") && is_sealed("b") && is_sealed("c") && is_sealed("d"));
	/* Damage in any of them is found in all above it. */
	next_tick("b/memory");
	ck_that(!truncate(tmp_path("b/memory"), PAGE));
	ck_refused(try_open("d"), EINVAL, "/b: memory: has 4096 bytes");
	ck_ok(check("a", SNAPSHOT_READ_ALL));
}
END_TEST

START_TEST(longest_chain)
{
	static struct snapshot_manifest one, y;
	char name[8], parent[8];

	fill_memory(1);
	make("0");
	for (unsigned int i = 1; i < MEMFILE_LAYERS; i++) {
		snprintf(name, sizeof(name), "%u", i);
		snprintf(parent, sizeof(parent), "%u", i - 1);
		make_child(name, parent, i, i);
	}
	for (unsigned int i = 1; i < MEMFILE_LAYERS; i++)
		ck_assert_uint_eq(value_at("31", i), i);
	/* One more below, which only a manifest can have: there is no room to map it. */
	mem_free(&mem);
	ck_ok(mem_init(&mem, SIZE, &e));
	ck_ok(try_make(at, "x", NULL, NULL));
	make_child("y", "x", 1, 1);
	y = manifest_of("y");
	one = manifest_of("1");
	memcpy(one.parent_uuid, y.uuid, sizeof(y.uuid));
	one.parent.len = (uint32_t)snprintf(one.parent.s, sizeof(one.parent.s), "%s/y", tmp);
	write_manifest("1", &one, NULL);
	ck_refused(try_open("31"), ELOOP, "has more than 31 parents");
	ck_ok(check("30", SNAPSHOT_UNLESS_SEALED));
}
END_TEST

/* Two chains of the same names, whose manifests have their parents in the other one: each snapshot has another one
 * where its parent was, which is as whole, and its parent beside it. Who opened both to their ends would open 2^24.
 */
START_TEST(chains_that_name_each_other)
{
	static struct snapshot_manifest m;
	char name[32], parent[8];
	const unsigned int n = 24;

	for (const char *dir = "x"; dir; dir = *dir == 'x' ? "y" : NULL) {
		fill_memory(1);
		ck_ok(try_make(at, "0", NULL, NULL));
		for (unsigned int i = 1; i <= n; i++) {
			snprintf(name, sizeof(name), "%u", i);
			snprintf(parent, sizeof(parent), "%u", i - 1);
			make_child(name, parent, i, i);
		}
		snprintf(name, sizeof(name), "mkdir %s && mv [0-9]* %s", dir, dir);
		shell(name);
	}
	for (unsigned int i = n; i; i--)
		for (const char *dir = "x"; dir; dir = *dir == 'x' ? "y" : NULL) {
			snprintf(name, sizeof(name), "%s/%u", dir, i);
			m = manifest_of(name);
			m.parent.len = (uint32_t)snprintf(m.parent.s, sizeof(m.parent.s), "%s/%s/%u", tmp,
							  *dir == 'x' ? "y" : "x", i - 1);
			write_manifest(name, &m, NULL);
		}
	for (unsigned int i = 1; i <= n; i++) {
		snprintf(name, sizeof(name), "x/%u", n);
		ck_assert_uint_eq(value_at(name, i), i);
	}
	shell("rm -r x/0"); /* the one that is left is another */
	snprintf(name, sizeof(name), "x/%u", n);
	ck_refused(try_open(name), EINVAL, "/0, but there is another one now");
}
END_TEST

/* One that has itself as its parent, and says so of its parent, too. */
START_TEST(its_own_parent)
{
	static struct snapshot_manifest m;

	fill_memory(1);
	ck_ok(try_make(at, "a", NULL, NULL));
	make_child("b", "a", 7, 2);
	m = manifest_of("b");
	memcpy(m.parent_uuid, m.uuid, sizeof(m.uuid));
	m.parent.len = (uint32_t)snprintf(m.parent.s, sizeof(m.parent.s), "%s/b", tmp);
	write_manifest("b", &m, NULL);
	ck_refused(try_open("b"), ELOOP, "has more than 31 parents");
}
END_TEST

START_TEST(parent_missing)
{
	fill_memory(1);
	make("a");
	make_child("b", "a", 7, 2);
	make_child("c", "b", 7, 3);
	shell("mv b gone");
	ck_refused(try_open("c"), EINVAL, "/b, which is not there");
	shell("mv gone b && mv a gone");
	ck_refused(try_open("b"), EINVAL, "/a, which is not there");
	ck_refused(try_open("c"), EINVAL, "/a, which is not there"); /* and not b, which is */
	ck_assert_ptr_null(strstr(e.text, "parent b"));
	make("a");
	ck_refused(try_open("c"), EINVAL, "/a, but there is another one now");
	shell("rm -r a && mkdir a");
	ck_refused(try_open("b"), EINVAL, "/a, which is not there");
	shell("rmdir a && mv gone a");
	ck_ok(check("c", SNAPSHOT_READ_ALL));
}
END_TEST

START_TEST(moved_together)
{
	fill_memory(1);
	make("a");
	make_child("b", "a", 7, 2);
	make_child("c", "b", 14, 3);
	shell("mkdir dir && mv a b c dir");
	ck_ok(check("dir/c", SNAPSHOT_READ_ALL));
	ck_assert_uint_eq(value_at("dir/c", 7), 2);
	/* Something else where the parents were. */
	make("a");
	make("b");
	ck_ok(check("dir/c", SNAPSHOT_READ_ALL));
	ck_assert_uint_eq(value_at("dir/c", 7), 2);
}
END_TEST

START_TEST(removal)
{
	int dir;

	make("a");
	make_child("b", "a", 7, 2);
	make_child("c", "a", 7, 3);
	ck_refused(snapshot_remove(at, "a", &e), EBUSY, "snapshot a is the parent of ");
	ck_refused(try_make(at, "a", NULL, NULL), EBUSY, "snapshot a is the parent of ");
	ck_ok(check("c", SNAPSHOT_READ_ALL));
	ck_ok(snapshot_remove(at, "b", &e));
	ck_refused(snapshot_remove(at, "a", &e), EBUSY, "/c, which needs it");
	/* Moved with its child, it is needed there. */
	shell("mkdir dir && mv a c dir");
	dir = openat(at, "dir", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	ck_refused(snapshot_remove(dir, "a", &e), EBUSY, "dir/c, which needs it");
	ck_ok(snapshot_remove(dir, "c", &e));
	ck_ok(snapshot_remove(dir, "a", &e));
	close(dir);
	ck_assert_str_eq(listing(tmp_path("dir")), "");
	ck_assert_str_eq(listing(tmp), "dir");
}
END_TEST

/* A clone's snapshot that takes the place of its parent does not need it. */
START_TEST(over_its_parent)
{
	fill_memory(1);
	make("a");
	make_child("a", "a", 7, 2);
	ck_ok(try_open("a"));
	ck_assert(!opened.m.has_parent);
	snapshot_close(&opened);
	ck_assert_uint_eq(value_at("a", 0), 1);
	ck_assert_uint_eq(value_at("a", 7), 2);
	make_child("b", "a", 7, 3);
	ck_assert_uint_eq(value_at("b", 7), 3);
	ck_assert_uint_eq(value_at("b", 0), 1);
}
END_TEST

/* The parent keeps no record of those that are gone. */
START_TEST(records)
{
	make("a");
	for (unsigned int i = 0; i < 5; i++)
		make_child("b", "a", 7, i);
	ck_assert_uint_eq(strlen(listing(tmp_path("a/children"))), 32);
	make_child("c", "a", 7, 9);
	ck_ok(snapshot_remove(at, "b", &e));
	ck_assert_uint_eq(strlen(listing(tmp_path("a/children"))), 32);
	ck_refused(snapshot_remove(at, "a", &e), EBUSY, "/c, which needs it");
	ck_ok(snapshot_remove(at, "c", &e));
	ck_assert_str_eq(listing(tmp_path("a/children")), "");
}
END_TEST

/* Nobody hears of the child before it is there, so its parent can go meanwhile. */
START_TEST(parent_removed_meanwhile)
{
	static struct snapshot_manifest m;
	struct snapshot_draft d;
	struct state_writer w;
	struct snapshot s;

	make("a");
	map("a", &s);
	for (unsigned int i = 0; i < 2; i++) {
		ck_ok(snapshot_draft(&d, at, tmp, "b", &e));
		state_begin(&w, SNAPSHOT_STATE_KIND);
		ck_ok(snapshot_fill(&d, &m, NULL, &w, &mem, &s, true, NULL, NULL, &e));
		state_discard(&w);
		ck_ok(snapshot_remove(at, "a", &e));
		if (i) /* another in its place */
			make("a");
		ck_refused(snapshot_publish(&d, &s, &e), ESTALE, "/a was removed while");
		snapshot_drop(&d);
		if (!i)
			make("a");
	}
	snapshot_close(&s);
	ck_assert_str_eq(listing(tmp), "a");
	ck_assert_ptr_null(strstr(listing(tmp_path("a")), "children"));
}
END_TEST

START_TEST(removal_of_other_things)
{
	ck_refused(snapshot_remove(at, "none", &e), ENOENT, "none");
	ck_that(!mkdirat(at, "dir", 0700));
	tmp_file("dir/precious", "x", 1);
	ck_refused(snapshot_remove(at, "dir", &e), ENOTEMPTY, "left alone");
	tmp_file("file", "x", 1);
	ck_refused(snapshot_remove(at, "file", &e), ENOTEMPTY, "left alone");
	make("s");
	ck_that(!symlinkat("s", at, "link"));
	ck_refused(snapshot_remove(at, "link", &e), ENOTEMPTY, "left alone");
	ck_ok(check("s", SNAPSHOT_READ_ALL));
	/* In a snapshot's directory, what is not the snapshot's stays too. */
	ck_that(!mkdirat(at, "s/more", 0700));
	tmp_file("s/more/precious", "x", 1);
	snapshot_remove(at, "s", &e);
	ck_assert_ptr_nonnull(strstr(listing(tmp), TEMP));
}
END_TEST

/* --- publishing --- */

START_TEST(replaced)
{
	fill_memory(1);
	make("s");
	ck_ok(try_open("s")); /* and open it stays */
	fill_memory(2);
	make("s");
	ck_assert_str_eq(listing(tmp), "s");
	ck_assert_uint_eq(value_at("s", 7), 2);
	snapshot_close(&opened);
}
END_TEST

START_TEST(not_over_other_things)
{
	struct snapshot_draft d;

	ck_that(!mkdirat(at, "dir", 0700));
	tmp_file("file", "x", 1);
	make("s");
	ck_that(!symlinkat("s", at, "link") && !symlinkat("none", at, "dangling"));
	ck_refused(try_make(at, "dir", NULL, NULL), ENOTEMPTY, "dir is there and is not a whole");
	ck_refused(try_make(at, "file", NULL, NULL), ENOTEMPTY, "file is there");
	ck_refused(try_make(at, "link", NULL, NULL), ENOTEMPTY, "link is there");
	ck_refused(try_make(at, "dangling", NULL, NULL), ENOTEMPTY, "dangling is there");
	ck_that(!faccessat(at, "dir", F_OK, 0) && !faccessat(at, "file", F_OK, 0));
	/* One that comes while it is made. */
	ck_ok(snapshot_draft(&d, at, tmp, "late", &e));
	fill(&d);
	ck_that(!mkdirat(at, "late", 0700));
	ck_refused(snapshot_publish(&d, NULL, &e), ENOTEMPTY, "late is there");
	snapshot_drop(&d);
	ck_that(!faccessat(at, "late", F_OK, 0));
	/* One that is not filled. */
	ck_ok(snapshot_draft(&d, at, tmp, "empty", &e));
	ck_refused(snapshot_publish(&d, NULL, &e), ENOENT, "manifest");
	snapshot_drop(&d);
	ck_assert_ptr_null(strstr(listing(tmp), TEMP));
}
END_TEST

/* A snapshot that was damaged is not replaced by accident either: somebody may want to look at it. */
START_TEST(not_over_a_damaged_one)
{
	make("s");
	tmp_file("s/manifest", "damaged", 7);
	ck_refused(try_make(at, "s", NULL, NULL), ENOTEMPTY, "left alone");
	ck_assert_str_eq(file_text(tmp_path("s/manifest"), NULL), "damaged");
}
END_TEST

START_TEST(dropped)
{
	struct snapshot_draft d;
	unsigned int before = open_fds();

	ck_ok(snapshot_draft(&d, at, tmp, "s", &e));
	ck_ok(files_write(d.dir, "memory", "x", 1, &e));
	snapshot_drop(&d);
	ck_assert_str_eq(listing(tmp), "");
	snapshot_drop(&d); /* does nothing */
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

/* What is left of the dead is removed; what is in use, or somebody else's, is not. */
START_TEST(swept)
{
	struct snapshot_draft live, d;
	int lock;

	ck_that(!mkdirat(at, TEMP "dead", 0700));
	tmp_file(TEMP "dead/memory", "x", 1);
	ck_that(!mkdirat(at, TEMP "dead/children", 0700));
	ck_that(!symlinkat("/nowhere", at, TEMP "dead/children/1234"));
	ck_that(!mkdirat(at, ".other", 0700));
	tmp_file(TEMP "file", "x", 1);
	ck_that(!symlinkat(".other", at, TEMP "link"));
	tmp_file(".other/precious", "x", 1);
	ck_that(!mkdirat(at, TEMP "locked", 0700));
	lock = openat(at, TEMP "locked", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	ck_that(!flock(lock, LOCK_EX | LOCK_NB));
	ck_ok(snapshot_draft(&live, at, tmp, "s", &e));
	ck_ok(snapshot_draft(&d, at, tmp, "t", &e));
	ck_that(faccessat(at, TEMP "dead", F_OK, 0));
	ck_that(!faccessat(at, TEMP "locked", F_OK, 0));
	ck_that(!faccessat(at, live.temp, F_OK, 0) && !faccessat(at, d.temp, F_OK, 0));
	ck_that(!faccessat(at, ".other/precious", F_OK, 0) && !faccessat(at, TEMP "file", F_OK, 0));
	snapshot_drop(&d);
	snapshot_drop(&live);
	close(lock);
	ck_ok(snapshot_draft(&d, at, tmp, "t", &e));
	ck_that(faccessat(at, TEMP "locked", F_OK, 0));
	snapshot_drop(&d);
}
END_TEST

/* --- many at once --- */

static void reap(pid_t pid)
{
	int status;

	ck_that(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		ck_abort_msg("a process ended with status 0x%x", status);
}

/* Each sweeps what the others make. */
START_TEST(side_by_side)
{
	enum { N = 6, ROUNDS = 200 };
	pid_t pid[N];

	for (unsigned int i = 0; i < N; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			char name[8];

			snprintf(name, sizeof(name), "%u", i);
			for (unsigned int k = 0; k < ROUNDS; k++) {
				struct snapshot_draft d;
				int r = snapshot_draft(&d, at, tmp, name, &e);

				if (!r)
					r = files_write(d.dir, "x", "x", 1, &e);
				snapshot_drop(&d);
				if (r) {
					fprintf(stderr, "round %u: %s\n", k, e.text);
					_exit(1);
				}
			}
			_exit(0);
		}
	}
	for (unsigned int i = 0; i < N; i++)
		reap(pid[i]);
	ck_assert_str_eq(listing(tmp), "");
}
END_TEST

/* Whoever opens a snapshot while it is replaced gets the old one or the new one. */
START_TEST(opened_while_replaced)
{
	enum { ROUNDS = 200 };
	uint32_t random = 3;
	int go[2];
	pid_t pid;

	fill_memory(1);
	make("s");
	ck_that(!pipe2(go, O_CLOEXEC));
	pid = fork();
	if (!pid) {
		char byte;

		close(go[1]);
		while (read(go[0], &byte, 1) == 1) /* once each time */
			if (try_make(at, "s", "disk", NULL))
				_exit(1);
		_exit(0);
	}
	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t until = now_ns() + next_random(&random) % 2000000;

		ck_that(write(go[1], "", 1) == 1);
		while (now_ns() < until)
			;
		ck_ok(check("s", i % 2 ? SNAPSHOT_READ_ALL : SNAPSHOT_UNLESS_SEALED));
	}
	close(go[1]);
	reap(pid);
	ck_assert_str_eq(listing(tmp), "s");
}
END_TEST

/* --- processes that die --- */

/* Whether the snapshot is there and whole, with one generation's memory; which one. */
static uint32_t generation_of(const char *name)
{
	uint32_t first, generation;
	struct snapshot s;

	ck_ok(check(name, SNAPSHOT_READ_ALL));
	map(name, &s);
	memcpy(&first, mem.region[0].host, sizeof(first));
	for (unsigned int page = 0; page < PAGES; page += 7) {
		memcpy(&generation, mem.region[0].host + page * PAGE, sizeof(generation));
		ck_that(generation == first);
	}
	snapshot_close(&s);
	return first;
}

static bool ended(pid_t pid)
{
	siginfo_t info = {0};

	ck_that(!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
	return info.si_pid == pid;
}

static void killed_at_any_point(uint32_t times)
{
	uint32_t random = 11, last = 0, published = 0;
	uint64_t longest = 4000000;

	for (uint32_t i = 1; i <= times; i++) {
		uint64_t began = now_ns(), until = next_random(&random) % (longest / 1000) * 1000;
		pid_t pid = fork();
		int status;

		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			fill_memory(i);
			_exit(try_make(at, "s", "disk", NULL) ? 1 : 0);
		}
		while (now_ns() - began < until && !ended(pid))
			;
		kill(pid, SIGKILL);
		ck_that(waitpid(pid, &status, 0) == pid);
		ck_that(WIFSIGNALED(status) || !WEXITSTATUS(status));
		if (WIFEXITED(status)) /* that took how long it takes */
			longest = now_ns() - began + 100000;
		else
			longest += longest / 20;
		if (faccessat(at, "s", F_OK, 0)) {
			ck_that(!last || WIFSIGNALED(status));
			last = 0; /* only where a rename does not exchange */
		} else {
			uint32_t now = generation_of("s");

			ck_that(now == i || (now == last && WIFSIGNALED(status)));
			published += now == i;
			last = now;
		}
	}
	ck_assert_uint_gt(published, 5);
	ck_assert_uint_lt(published, times);
	make("s");
	ck_assert_str_eq(listing(tmp), "s");
}

START_TEST(killed) { killed_at_any_point(250); }
END_TEST

/* --- a full file system --- */

/* What the disk's file has, larger than it is, so that each part of a snapshot is at some time the
 * one that does not fit.
 */
static void full_in(int dir, const char *path, void (*leave)(unsigned int pages))
{
	unsigned int failures = 0;

	fill_memory(1);
	ck_ok(try_make(dir, "s", "disk", NULL));
	fill_memory(2);
	for (unsigned int pages = 0;; pages++) {
		struct snapshot s;
		uint32_t value;
		int r;

		leave(pages);
		*e.text = 0;
		r = try_make(dir, "s", "disk", NULL);
		leave(UINT32_MAX);
		ck_that(!strcmp(listing(path), "s") || !strcmp(listing(path), "filler s") ||
			!strcmp(listing(path), "s filler"));
		ck_ok(snapshot_open(&s, strcat(strcpy((char[PATH_MAX]){0}, path), "/s"), SNAPSHOT_READ_ALL, &e));
		ck_that(pread(s.memory, &value, 4, 0) == 4);
		snapshot_close(&s);
		ck_that(value == (r ? 1 : 2));
		if (!r)
			break;
		ck_that(*e.text);
		failures++;
		ck_that(pages < 2 * PAGES);
	}
	ck_assert_uint_ge(failures, PAGES / 7);
}

static int filler = -1;

static void leave_room(unsigned int pages)
{
	uint8_t zeros[PAGE] = {0};

	/* All that there is, then so many pages back. */
	ck_that(!ftruncate(filler, 0));
	if (pages == UINT32_MAX)
		return;
	for (off_t n = 0;; n += PAGE)
		if (pwrite(filler, zeros, PAGE, n) != PAGE) {
			ck_that(errno == ENOSPC);
			ck_that(!ftruncate(filler, MAX(n - (off_t)pages * PAGE, 0)));
			return;
		}
}

START_TEST(full_file_system)
{
	const char *path = tmp_path("small");
	int dir;

	ck_that(!mkdirat(at, "small", 0700));
	if (!private_mounts() || mount("none", path, "tmpfs", 0, "size=1024k"))
		ck_skip("no file system can be mounted here");
	dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	filler = openat(dir, "filler", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_that(filler >= 0);
	full_in(dir, path, leave_room);
	close(filler);
	close(dir);
	ck_that(!umount2(path, MNT_DETACH));
}
END_TEST

static void limit_files(unsigned int pages)
{
	struct rlimit limit = {.rlim_cur = pages == UINT32_MAX ? RLIM_INFINITY : pages * PAGE,
			       .rlim_max = RLIM_INFINITY};

	ck_that(!setrlimit(RLIMIT_FSIZE, &limit));
}

START_TEST(files_too_large)
{
	ck_that(!mkdirat(at, "dir", 0700));
	signal(SIGXFSZ, SIG_IGN);
	at = open(tmp_path("dir"), O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	full_in(at, tmp_path("dir"), limit_files);
}
END_TEST

START_TEST(not_writable)
{
	int dir;

	ck_that(!mkdirat(at, "dir", 0755));
	dir = openat(at, "dir", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	ck_that(!fchmod(dir, 0555));
	if (!geteuid())
		ck_that(!seteuid(65534));
	ck_refused(try_make(dir, "s", NULL, NULL), EACCES, "cannot make a directory for snapshot s");
	if (getuid() != geteuid())
		ck_that(!seteuid(getuid()));
	close(dir);
}
END_TEST

/* --- file systems that rename plainly --- */

/* From here on, renameat2 with flags says EINVAL in this process, as it does on 9p and NFS. */
static void rename_plainly(void)
{
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
	};
	const struct sock_fprog program = {ARRAY_SIZE(code), (struct sock_filter *)(uintptr_t)code};

	ck_that(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_that(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	ck_that(syscall(SYS_renameat2, at, "x", at, "y", 1) && errno == EINVAL);
}

START_TEST(plain_rename)
{
	struct snapshot_draft d;

	rename_plainly();
	fill_memory(1);
	make("s");
	ck_assert_str_eq(listing(tmp), "s");
	fill_memory(2);
	make("s");
	ck_assert_str_eq(listing(tmp), "s");
	ck_assert_uint_eq(value_at("s", 7), 2);
	/* Not over what is something else. */
	ck_ok(snapshot_draft(&d, at, tmp, "late", &e));
	fill(&d);
	ck_that(!mkdirat(at, "late", 0700));
	ck_refused(snapshot_publish(&d, NULL, &e), ENOTEMPTY, "late is there");
	snapshot_drop(&d);
	ck_that(!unlinkat(at, "late", AT_REMOVEDIR));
	make_child("t", "s", 1, 9);
	ck_refused(try_make(at, "s", NULL, NULL), EBUSY, "is the parent of");
	ck_ok(snapshot_remove(at, "t", &e));
	ck_ok(snapshot_remove(at, "s", &e));
	ck_assert_str_eq(listing(tmp), "");
}
END_TEST

/* The old one comes back if the new one cannot take its place: here, because it is gone. */
START_TEST(plain_rename_fails)
{
	struct snapshot_draft d;

	rename_plainly();
	fill_memory(1);
	make("s");
	ck_ok(snapshot_draft(&d, at, tmp, "s", &e));
	fill(&d);
	ck_that(!renameat(at, d.temp, at, "elsewhere"));
	ck_refused(snapshot_publish(&d, NULL, &e), ENOENT, "cannot give snapshot s its name");
	snapshot_drop(&d);
	ck_ok(check("s", SNAPSHOT_READ_ALL));
	ck_assert_uint_eq(value_at("s", 7), 1);
	ck_assert_ptr_null(strstr(listing(tmp), TEMP));
}
END_TEST

START_TEST(plain_rename_killed)
{
	rename_plainly();
	killed_at_any_point(100);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		round_trip, names, relative_path_and_links, sealed_once_opened, changed_before_it_is_sealed,
		seal_of_another_boot, seal_of_another_snapshot,
		seal_without_room, copied, state_of_another, manifest_of_something_impossible,
		memory_changed, damage_without_a_trace, complete, other_things, no_snapshot,
		short_memory_with_a_seal, disk_elsewhere, file_that_ends_early, chain,
		its_own_parent, parent_missing, moved_together, removal, records, over_its_parent, parent_removed_meanwhile, removal_of_other_things, replaced,
		not_over_other_things, not_over_a_damaged_one, dropped, swept,
		not_writable, plain_rename, plain_rename_fails,
	};
	const TTest *const quick[] = {
		sizes, files_too_large, seal_that_is_damaged, each_byte_of_manifest, each_byte_of_state, each_byte_of_manifest_sealed,
		each_byte_of_state_sealed, manifest_that_lies, longest_chain, chains_that_name_each_other,
		side_by_side,
		opened_while_replaced, killed, full_file_system, plain_rename_killed,
	};
	const struct test_group groups[] = {
		{tests, ARRAY_SIZE(tests), setup, teardown},
		{quick, ARRAY_SIZE(quick), setup_quick, teardown_quick},
	};

	return run_groups("snapshot", groups, ARRAY_SIZE(groups));
}
