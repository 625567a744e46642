/* SPDX-License-Identifier: Apache-2.0
 *
 * Copy-on-write layers over an image file, against a model in memory; hostile layer files; and what
 * is left of a layer after SIGKILL and after a power cut.
 *
 * preadv, pwritev and fdatasync are this program's own: they count, and keep beside one file the
 * state in which a power cut at that moment would leave it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/blk_file.h"
#include "devices/blk_overlay.h"
#include "tests/unit/util.h"

#define BLOCK	   BLK_OVERLAY_BLOCK
#define HEADER_LEN 64u
#define BITMAP_AT  4096u /* in version 1 */
#define DATA_AT	   8192u /* for disks whose bitmap is one page */
#define MAX_DISK   (100 * BLOCK + 1536)
#define MAX_LAYERS 4

static struct err e;

/* --- the system calls of the back ends --- */

static unsigned int readings, writings, syncs;
static int sync_fails; /* errno */

/* A file's content as a power cut would leave it: sectors reach the disk when they like, or at a
 * sync.
 */
static struct platter {
	int fd; /* -1: none */
	uint8_t *bytes;
	size_t sectors;
	bool *dirty;
	uint32_t seed;
	void (*look)(void); /* after each change */
} platter = {.fd = -1};

static void write_back(size_t sector)
{
	ck_that(!pread_all(platter.fd, platter.bytes + sector * BLK_SECTOR, BLK_SECTOR,
			   (off_t)(sector * BLK_SECTOR)));
	platter.dirty[sector] = false;
}

/* Of the dirty sectors, all, or about one in four. */
static void write_back_some(bool all)
{
	for (size_t i = 0; i < platter.sectors; i++)
		if (platter.dirty[i] && (all || next_random(&platter.seed) % 4 == 0))
			write_back(i);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
	readings++;
	return syscall(SYS_preadv, fd, iov, n, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	ssize_t done = syscall(SYS_pwritev, fd, iov, n, offset, 0);

	writings++;
	if (fd != platter.fd)
		return done;
	for (off_t at = offset; at < offset + done; at += BLK_SECTOR)
		platter.dirty[at / BLK_SECTOR] = true;
	write_back_some(false);
	platter.look();
	return done;
}

static bool no_holes; /* the file system cannot */

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (no_holes) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (syscall(SYS_fallocate, fd, mode, offset, len))
		return -1;
	if (fd != platter.fd)
		return 0;
	for (off_t at = offset; at < offset + len; at += BLK_SECTOR)
		platter.dirty[at / BLK_SECTOR] = true;
	write_back_some(false);
	platter.look();
	return 0;
}

/* Without the wait for a disk, which no test here needs. */
int fdatasync(int fd)
{
	syncs++;
	if (sync_fails) {
		errno = sync_fails;
		return -1;
	}
	if (fd == platter.fd) {
		write_back_some(true);
		platter.look();
	}
	return 0;
}

/* --- a stack of layers --- */

static uint8_t original[MAX_DISK];
static char base_path[PATH_MAX + 64];
static struct blk_file base;
static struct blk_overlay layer[MAX_LAYERS];
static unsigned int layers;
static struct blk_backend *top;

static const char *const names[MAX_LAYERS] = {"layer0", "layer1", "layer2", "layer3"};

static void make_base(const void *bytes, size_t size)
{
	strcpy(base_path, tmp_file("base", bytes, size)); /* which stays valid for a while only */
}

static void open_base(void)
{
	ck_ok(blk_file_open(&base, base_path, true, &e));
	layers = 0;
	top = &base.backend;
}

static void base_start(size_t size)
{
	fill_pattern(original, size, (uint32_t)size);
	make_base(original, size);
	open_base();
}

static void push_fd(int fd, bool read_only)
{
	ck_that(fd >= 0);
	ck_ok(blk_overlay_open(&layer[layers], fd, read_only, top, names[layers], &e));
	top = &layer[layers++].backend;
}

/* Puts a new layer on top. */
static void push_new(void)
{
	int fd;

	ck_ok(fd = blk_overlay_create(tmp_dir, names[layers], base.backend.size, &e));
	push_fd(fd, false);
}

static int open_name(const char *name, bool read_only)
{
	int fd = open(tmp_path(name), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);

	ck_that(fd >= 0);
	return fd;
}

static void close_all(void)
{
	while (layers)
		blk_overlay_close(&layer[--layers]);
	blk_file_close(&base);
}

/* As after a restart: only the topmost for writing. */
static void reopen_all(void)
{
	unsigned int n = layers;

	close_all();
	open_base();
	for (unsigned int i = 0; i < n; i++)
		push_fd(open_name(names[i], i + 1 < n), i + 1 < n);
}

static int read_at(struct blk_backend *b, void *to, size_t len, uint64_t offset)
{
	struct iovec iov = {to, len};

	return b->read(b, &iov, 1, offset);
}

static int write_at(struct blk_backend *b, const void *from, size_t len, uint64_t offset)
{
	struct iovec iov = {(void *)(uintptr_t)from, len};

	return b->write(b, &iov, 1, offset);
}

static bool reads_as(struct blk_backend *b, const uint8_t *model, size_t size)
{
	static uint8_t all[MAX_DISK];

	memset(all, 0x5a, size);
	return !read_at(b, all, size, 0) && !memcmp(all, model, size);
}

static bool file_is(const char *path, const void *bytes, size_t len)
{
	size_t n;
	const char *text = file_text(path, &n);

	return n == len && !memcmp(text, bytes, len);
}

static uint64_t disk_use(const char *path)
{
	struct stat st;

	ck_that(!stat(path, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* --- creation --- */

START_TEST(new_layer)
{
	struct stat st;

	base_start(MAX_DISK);
	push_new();
	ck_assert(!fstat(layer[0].fd, &st));
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0600);
	ck_assert_uint_eq((uint64_t)st.st_size, DATA_AT + MAX_DISK);
	ck_assert_uint_le((uint64_t)st.st_blocks * 512, 2 * BLOCK);
	ck_assert(fcntl(layer[0].fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_uint_eq(top->size, MAX_DISK);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 0);
	ck_assert(reads_as(top, original, MAX_DISK));
	ck_assert(blk_overlay_is(layer[0].fd));
	ck_assert(!blk_overlay_is(base.fd));
	close_all();
}
END_TEST

START_TEST(creation_refused)
{
	static const uint64_t sizes[] = {
		0, 1, 511, 513, BLK_OVERLAY_MAX + 512, UINT64_MAX, UINT64_MAX - 511, 1ull << 63};
	unsigned int fds = open_fds();
	struct rlimit limit = {65536, RLIM_INFINITY};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		ck_refused(blk_overlay_create(tmp_dir, "new", sizes[i], &e), EINVAL, "new");
	tmp_file("there", "mine", 4);
	ck_refused(blk_overlay_create(tmp_dir, "there", 512, &e), EEXIST, "there");
	ck_assert_str_eq(file_text(tmp_path("there"), NULL), "mine");
	ck_assert(!symlink("elsewhere", tmp_path("link")));
	ck_refused(blk_overlay_create(tmp_dir, "link", 512, &e), EEXIST, "link");
	ck_refused(blk_overlay_create(tmp_dir, "no/where", 512, &e), ENOENT, "no/where");
	signal(SIGXFSZ, SIG_IGN);
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	ck_refused(blk_overlay_create(tmp_dir, "new", 1 << 20, &e), EFBIG, "new");
	ck_assert(access(tmp_path("new"), F_OK) && errno == ENOENT);
	ck_assert(access(tmp_path("elsewhere"), F_OK) && errno == ENOENT);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* --- requests --- */

/* Makes zeros of a range, by one of the three ways. */
static void random_zeros(uint8_t *model, uint64_t at, uint64_t len, uint32_t *seed)
{
	uint32_t way = next_random(seed) % 3;

	ck_that(!(way == 2 ? top->discard(top, at, len) : top->zero(top, at, len, way)));
	memset(model + at, 0, len);
}

/* One random request of up to 24 sectors in up to three pieces, in the model too. */
static void random_request(uint8_t *model, size_t size, uint32_t *seed)
{
	static uint8_t buf[24 * BLK_SECTOR];
	size_t sectors = size / BLK_SECTOR;
	size_t first = next_random(seed) % sectors;
	size_t n = 1 + next_random(seed) % MIN(24u, sectors - first);
	size_t len = n * BLK_SECTOR, at = first * BLK_SECTOR;
	size_t a = 1 + next_random(seed) % (len - 2), b = 1 + next_random(seed) % (len - a);
	struct iovec iov[3] = {{buf, a}, {buf + a, b}, {buf + a + b, len - a - b}};
	unsigned int k = len - a - b ? 3 : 2;

	if (next_random(seed) & 1) {
		memset(buf, 0x5a, len);
		ck_that(!top->read(top, iov, k, at));
		ck_that(!memcmp(buf, model + at, len));
	} else if (next_random(seed) % 4 == 0) {
		random_zeros(model, at, len, seed);
	} else {
		fill_pattern(buf, len, *seed);
		ck_that(!top->write(top, iov, k, at));
		memcpy(model + at, buf, len);
	}
}

/* Grows a stack to four layers, each frozen when the next one comes, with restarts between. */
static void random_stack(size_t size, uint32_t seed)
{
	static uint8_t model[MAX_DISK], frozen[MAX_LAYERS][DATA_AT + MAX_DISK];

	base_start(size);
	memcpy(model, original, size);
	while (layers < MAX_LAYERS) {
		unsigned int n = layers;

		push_new();
		for (unsigned int i = 0; i < 60; i++)
			random_request(model, size, &seed);
		ck_that(reads_as(top, model, size));
		ck_that(!top->flush(top));
		reopen_all();
		ck_that(reads_as(top, model, size));
		for (unsigned int i = 0; i < 20; i++)
			random_request(model, size, &seed);
		ck_ok(blk_overlay_freeze(&layer[n], &e));
		memcpy(frozen[n], file_text(tmp_path(names[n]), NULL), DATA_AT + size);
	}
	ck_that(reads_as(top, model, size));
	ck_that(file_is(base_path, original, size));
	for (unsigned int i = 0; i < MAX_LAYERS; i++)
		ck_that(file_is(tmp_path(names[i]), frozen[i], DATA_AT + size));
	close_all();
	for (unsigned int i = 0; i < MAX_LAYERS; i++)
		ck_that(!unlink(tmp_path(names[i])));
}

START_TEST(random_requests)
{
	static const size_t sizes[] = {
		512,	 1024, 4096, 4608, 7 * 512, 9 * BLOCK + 512, 16 * BLOCK, 20 * BLOCK + 3584,
		MAX_DISK};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		random_stack(sizes[i], 7 * i + 1);
}
END_TEST

START_TEST(random_requests_without_holes)
{
	no_holes = true;
	random_stack(16 * BLOCK, 3);
	random_stack(20 * BLOCK + 3584, 4);
}
END_TEST

/* Over a base that is full: zeros, and neither the base nor space of the host's. */
START_TEST(discarded_as_a_whole)
{
	static const uint8_t zeros[MAX_DISK];

	base_start(MAX_DISK);
	push_new();
	ck_assert(!write_at(top, original, 50 * BLOCK, 0));
	ck_assert_uint_ge(disk_use(tmp_path(names[0])), 50 * BLOCK);
	ck_assert(!top->discard(top, 0, MAX_DISK));
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), (MAX_DISK + BLOCK - 1) / BLOCK);
	ck_assert(reads_as(top, zeros, MAX_DISK));
	ck_assert(!top->flush(top));
	reopen_all();
	ck_assert(reads_as(top, zeros, MAX_DISK));
	ck_assert_uint_le(disk_use(tmp_path(names[0])), 3 * BLOCK);
	ck_assert(file_is(base_path, original, MAX_DISK));
	ck_ok(blk_overlay_freeze(&layer[0], &e));
	ck_assert_int_eq(top->discard(top, 0, BLOCK), -EROFS);
	ck_assert_int_eq(top->zero(top, 0, BLOCK, true), -EROFS);
	close_all();
}
END_TEST

/* A back end below that counts. */
static unsigned int below_reads;

static int counted_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
			uint64_t offset)
{
	(void)b;
	below_reads++;
	iov_write(iov, n, 0, original + offset, MAX_DISK - offset);
	return 0;
}

static struct blk_backend counted = {.read = counted_read, .size = MAX_DISK, .read_only = true};

/* A request is one call where it is all in one place, and one for each change of place. */
START_TEST(few_calls)
{
	static uint8_t buf[8 * BLOCK], model[MAX_DISK];
	struct iovec pieces[16];

	fill_pattern(original, MAX_DISK, 1);
	memcpy(model, original, MAX_DISK);
	for (unsigned int i = 0; i < ARRAY_SIZE(pieces); i++)
		pieces[i] = (struct iovec){buf + i * sizeof(buf) / 16, sizeof(buf) / 16};
	base.fd = -1;
	base.backend.size = MAX_DISK;
	top = &counted;
	layers = 0;
	push_new();
	readings = writings = 0;
	ck_assert(!top->read(top, pieces, 16, 3 * BLOCK - 512));
	ck_assert_uint_eq(below_reads, 1);
	ck_assert_uint_eq(readings, 0);
	/* Blocks 3 to 9 whole; 2 and 10 in part, the rest of which comes from below. */
	fill_pattern(buf, sizeof(buf), 2);
	memcpy(model + 3 * BLOCK - 512, buf, sizeof(buf));
	ck_assert(!top->write(top, pieces, 16, 3 * BLOCK - 512));
	ck_assert_uint_eq(below_reads, 3);
	ck_assert_uint_eq(writings, 1);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 9);
	/* Again: it is all there. */
	ck_assert(!top->write(top, pieces, 16, 3 * BLOCK - 512));
	ck_assert(!top->read(top, pieces, 16, 3 * BLOCK - 512));
	ck_assert_uint_eq(below_reads, 3);
	ck_assert_uint_eq(writings, 2);
	ck_assert_uint_eq(readings, 1);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 9);
	ck_assert(reads_as(top, model, MAX_DISK)); /* below, layer, below */
	ck_assert_uint_eq(below_reads, 5);
	ck_assert_uint_eq(readings, 2);
	/* Whole blocks need nothing from below; nor does the disk's last, shorter one. */
	ck_assert(!top->write(top, pieces, 2, 20 * BLOCK));
	ck_assert(!write_at(top, buf, 1536, MAX_DISK - 1536));
	ck_assert_uint_eq(below_reads, 5);
	ck_assert_uint_eq(writings, 4);
	blk_overlay_close(&layer[0]);
}
END_TEST

START_TEST(most_pieces)
{
	static uint8_t buf[VIRTQUEUE_MAX * 64];
	struct iovec iov[VIRTQUEUE_MAX];
	uint8_t model[8 * BLOCK];

	base_start(sizeof(model));
	push_new();
	memcpy(model, original, sizeof(model));
	fill_pattern(buf, sizeof(buf), 3);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++)
		iov[i] = (struct iovec){buf + 64 * i, 64};
	ck_assert(!top->write(top, iov, VIRTQUEUE_MAX, 512));
	memcpy(model + 512, buf, sizeof(buf));
	ck_assert(reads_as(top, model, sizeof(model)));
	memset(buf, 0, sizeof(buf));
	ck_assert(!top->read(top, iov, VIRTQUEUE_MAX, 3 * BLOCK + 512)); /* from both */
	ck_assert(!memcmp(buf, model + 3 * BLOCK + 512, sizeof(buf)));
	close_all();
}
END_TEST

/* Several pages of bitmap, two of them left as a hole; the disk's ends and the pages' edges. */
START_TEST(large_disk)
{
	static const uint64_t blocks[] = {0, 1, 32767, 32768, 65535, 131072, 163839};
	const uint64_t size = 163840ull * BLOCK - 512;
	uint8_t buf[2 * BLOCK];
	int fd;

	make_base("", 0);
	ck_assert(!truncate(base_path, (off_t)size));
	open_base();
	push_new();
	for (unsigned int i = 0; i < ARRAY_SIZE(blocks); i++) {
		fill_pattern(buf, BLK_SECTOR, i + 1);
		ck_that(!write_at(top, buf, BLK_SECTOR, blocks[i] * BLOCK));
	}
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), ARRAY_SIZE(blocks));
	writings = syncs = 0;
	ck_assert(!top->flush(top));
	ck_assert_uint_eq(writings, 3); /* a page each */
	ck_assert_uint_eq(syncs, 2);
	ck_assert(!top->flush(top));
	ck_assert_uint_eq(writings, 3); /* nothing is new */
	ck_assert_uint_eq(syncs, 3);
	reopen_all();
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), ARRAY_SIZE(blocks));
	for (unsigned int i = 0; i < ARRAY_SIZE(blocks); i++) {
		uint8_t want[BLK_SECTOR];

		fill_pattern(want, BLK_SECTOR, i + 1);
		ck_that(!read_at(top, buf, BLK_SECTOR, blocks[i] * BLOCK));
		ck_that(!memcmp(buf, want, BLK_SECTOR));
	}
	ck_assert(!read_at(top, buf, sizeof(buf), 50 * BLOCK));
	ck_assert(all_bytes(buf, sizeof(buf), 0));
	ck_assert_uint_le(disk_use(tmp_path(names[0])), 40 * BLOCK);
	ck_assert_uint_eq(disk_use(base_path), 0);
	close_all();
	/* A new layer for the largest disk that the file system takes is as quick to open. */
	base.backend.size = BLK_OVERLAY_MAX;
	for (fd = -1; fd < 0; base.backend.size /= 2)
		fd = blk_overlay_create(tmp_dir, "largest", base.backend.size, &e);
	counted.size = base.backend.size * 2;
	ck_ok(blk_overlay_open(&layer[0], fd, false, &counted, "largest", &e));
	blk_overlay_close(&layer[0]);
}
END_TEST

static int failing_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
			uint64_t offset)
{
	(void)b, (void)iov, (void)n, (void)offset;
	return -EIO;
}

START_TEST(errors_from_below)
{
	uint8_t buf[2 * BLOCK] = {0};
	int fd;

	counted.read = failing_read;
	ck_ok(fd = blk_overlay_create(tmp_dir, "new", MAX_DISK, &e));
	ck_ok(blk_overlay_open(&layer[0], fd, false, &counted, "new", &e));
	top = &layer[0].backend;
	ck_assert_int_eq(read_at(top, buf, sizeof(buf), 0), -EIO);
	ck_assert_int_eq(write_at(top, buf, BLK_SECTOR, 0), -EIO); /* its block cannot be filled */
	ck_assert_int_eq(write_at(top, buf, BLOCK + 512, BLOCK), -EIO);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 0);
	ck_assert_int_eq(write_at(top, buf, BLOCK, 0), 0);
	ck_assert_int_eq(read_at(top, buf, BLOCK, 0), 0);
	ck_assert_int_eq(read_at(top, buf, 2 * BLOCK, 0), -EIO);
	blk_overlay_close(&layer[0]);
}
END_TEST

/* --- freezing, sharing, locks --- */

/* A live fork: what was on top is below two that go on, one of them another process's. */
START_TEST(freeze)
{
	static uint8_t model[2][MAX_DISK];
	static struct blk_overlay shared, fork_top;
	uint32_t seed = 5;
	int fd;

	base_start(MAX_DISK);
	push_new();
	memcpy(model[0], original, MAX_DISK);
	for (unsigned int i = 0; i < 50; i++)
		random_request(model[0], MAX_DISK, &seed);
	syncs = 0;
	ck_ok(blk_overlay_freeze(&layer[0], &e));
	ck_assert_uint_eq(syncs, 2);
	ck_assert(top->read_only);
	ck_assert_int_eq(write_at(top, original, BLOCK, 0), -EROFS);
	ck_assert_int_eq(top->flush(top), 0);
	ck_ok(blk_overlay_freeze(&layer[0], &e)); /* again: nothing */
	ck_assert(reads_as(top, model[0], MAX_DISK));
	memcpy(model[1], model[0], MAX_DISK);
	push_new();
	ck_ok(blk_overlay_open(&shared, open_name(names[0], true), true, &base.backend, "s", &e));
	ck_ok(fd = blk_overlay_create(tmp_dir, "fork", MAX_DISK, &e));
	ck_ok(blk_overlay_open(&fork_top, fd, false, &shared.backend, "fork", &e));
	for (unsigned int i = 0; i < 200; i++) {
		top = i & 1 ? &fork_top.backend : &layer[1].backend;
		random_request(model[i & 1], MAX_DISK, &seed);
	}
	ck_assert(reads_as(&layer[1].backend, model[0], MAX_DISK));
	ck_assert(reads_as(&fork_top.backend, model[1], MAX_DISK));
	ck_assert(file_is(base_path, original, MAX_DISK));
	blk_overlay_close(&fork_top);
	blk_overlay_close(&shared);
	close_all();
}
END_TEST

START_TEST(locks)
{
	static struct blk_overlay other;
	struct blk_backend *below = &base.backend;
	unsigned int fds;

	base_start(MAX_DISK);
	push_new();
	fds = open_fds();
	ck_refused(blk_overlay_open(&other, open_name(names[0], false), false, below, "x", &e),
		   EBUSY, "disk x: in use by another VM");
	ck_refused(blk_overlay_open(&other, open_name(names[0], true), true, below, "x", &e), EBUSY,
		   "disk x: in use by another VM for writing");
	ck_assert_uint_eq(open_fds(), fds);
	ck_ok(blk_overlay_freeze(&layer[0], &e));
	ck_ok(blk_overlay_open(&other, open_name(names[0], true), true, below, "x", &e));
	blk_overlay_close(&other);
	blk_overlay_close(&other); /* again: nothing */
	ck_refused(blk_overlay_open(&other, open_name(names[0], false), false, below, "x", &e),
		   EBUSY, "in use");
	ck_refused(blk_overlay_open(&other, open_name(names[0], true), false, below, "x", &e),
		   EBADF, "disk x");
	blk_overlay_close(&layer[0]);
	ck_ok(blk_overlay_open(&other, open_name(names[0], false), false, below, "x", &e));
	blk_overlay_close(&other);
	ck_assert_uint_eq(open_fds(), fds - 1);
}
END_TEST

START_TEST(below_that_can_change)
{
	struct blk_file file;

	base_start(MAX_DISK);
	push_new();
	close_all();
	ck_ok(blk_file_open(&file, base_path, false, &e));
	ck_refused(blk_overlay_open(&layer[0], open_name(names[0], false), false, &file.backend,
				    "x", &e),
		   EINVAL, "disk x: what is below can still change");
	blk_file_close(&file);
}
END_TEST

/* --- hostile files --- */

#define SMALL	   (9 * BLK_SECTOR) /* two blocks, the second of one sector */
#define SMALL_FILE (DATA_AT + SMALL)

/* A good layer's file, of which block 1 is held. */
static uint8_t good[SMALL_FILE];

static void hostile_setup(void)
{
	tmp_setup();
	base_start(SMALL);
	push_new();
	ck_that(!write_at(top, original, BLK_SECTOR, BLOCK));
	ck_that(!top->flush(top));
	memcpy(good, file_text(tmp_path(names[0]), NULL), SMALL_FILE);
	blk_overlay_close(&layer[0]);
	layers = 0;
	top = &base.backend;
}

static void hostile_teardown(void)
{
	blk_file_close(&base);
	tmp_teardown();
}

/* Tries to open these bytes as a layer, and closes it again. */
static int try(const uint8_t *bytes, size_t len)
{
	static struct blk_overlay o;
	int fd = memfd_create("layer", MFD_CLOEXEC), r;

	ck_that(fd >= 0 && !write_all(fd, bytes, len));
	r = blk_overlay_open(&o, fd, false, &base.backend, "evil", &e);
	if (!r)
		blk_overlay_close(&o);
	return r;
}

START_TEST(header_bits)
{
	ck_ok(try(good, SMALL_FILE));
	for (unsigned int i = 0; i < HEADER_LEN * 8; i++) {
		uint8_t bad[SMALL_FILE];

		memcpy(bad, good, SMALL_FILE);
		bad[i / 8] ^= (uint8_t)(1 << i % 8);
		ck_refused(try(bad, SMALL_FILE), EINVAL, "disk evil: ");
		bad[i / 8] = (uint8_t)~good[i / 8];
		ck_refused(try(bad, SMALL_FILE), EINVAL, "disk evil: ");
	}
}
END_TEST

START_TEST(header_says_what)
{
	uint8_t bad[SMALL_FILE];

	memcpy(bad, good, SMALL_FILE);
	bad[0] ^= 1;
	ck_refused(try(bad, SMALL_FILE), EINVAL, "not a disk layer");
	bad[0] ^= 1;
	bad[8] = 2;
	ck_refused(try(bad, SMALL_FILE), EINVAL, "version 2 with blocks of 4096");
	bad[8] = 1;
	bad[13] = 0x20;
	ck_refused(try(bad, SMALL_FILE), EINVAL, "version 1 with blocks of 8192");
	bad[13] = 0x10;
	bad[17] += 2;
	ck_refused(try(bad, SMALL_FILE), EINVAL, "of 5120 bytes, over one of 4608");
	bad[17] -= 2;
	bad[40] = 1;
	ck_refused(try(bad, SMALL_FILE), EINVAL, "damaged");
	bad[40] = 0;
	ck_ok(try(bad, SMALL_FILE));
}
END_TEST

/* Sizes with offsets that would fit them, if one multiplied and added without care. */
START_TEST(impossible_sizes)
{
	static const uint64_t sizes[] = {0,
					 1,
					 511,
					 SMALL + 1,
					 BLK_OVERLAY_MAX + 512,
					 1ull << 62,
					 1ull << 63,
					 UINT64_MAX,
					 UINT64_MAX - 511,
					 UINT64_MAX - 4095,
					 UINT64_MAX - 4607};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t blocks = (sizes[i] + BLOCK - 1) / BLOCK;
		uint64_t data = BITMAP_AT + (blocks + 32767) / 32768 * 4096;
		uint8_t bad[SMALL_FILE];

		memcpy(bad, good, SMALL_FILE);
		memcpy(bad + 16, &sizes[i], 8);
		memcpy(bad + 32, &data, 8);
		ck_refused(try(bad, SMALL_FILE), EINVAL, "disk evil: ");
	}
}
END_TEST

START_TEST(truncations)
{
	for (size_t len = 0; len < SMALL_FILE; len++)
		ck_refused(try(good, len), EINVAL,
			   len < HEADER_LEN ? "not a disk layer" : "cut off");
	ck_ok(try(good, SMALL_FILE));
}
END_TEST

/* Cut off below an open layer. */
START_TEST(truncated_later)
{
	uint8_t buf[SMALL];

	push_fd(open_name(names[0], false), false);
	ck_assert(!truncate(tmp_path(names[0]), DATA_AT + BLOCK));
	ck_assert_int_eq(read_at(top, buf, SMALL, 0), -EIO);
	ck_assert_int_eq(read_at(top, buf, BLOCK, 0), 0);
	blk_overlay_close(&layer[0]);
}
END_TEST

START_TEST(bits_beyond_the_end)
{
	ck_assert_uint_eq(good[BITMAP_AT], 2);
	for (unsigned int bit = 2; bit < 8 * BLOCK; bit += bit < 64 ? 1 : 61) {
		uint8_t bad[SMALL_FILE];

		memcpy(bad, good, SMALL_FILE);
		bad[BITMAP_AT + bit / 8] |= (uint8_t)(1 << bit % 8);
		ck_refused(try(bad, SMALL_FILE), EINVAL, "beyond its end");
	}
}
END_TEST

/* What is between header and bitmap, and in blocks that the layer does not hold, is not looked at;
 * bits inside the disk only say where to read.
 */
START_TEST(harmless_bytes)
{
	uint8_t odd[SMALL_FILE], all[SMALL];
	int fd;

	memcpy(odd, good, SMALL_FILE);
	memset(odd + HEADER_LEN, 0xff, BITMAP_AT - HEADER_LEN);
	memset(odd + DATA_AT, 0xff, BLOCK);
	fd = open(tmp_file("odd", odd, SMALL_FILE), O_RDWR | O_CLOEXEC);
	push_fd(fd, false);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 1);
	memcpy(all, original, SMALL);
	memcpy(all + BLOCK, original, BLK_SECTOR);
	ck_assert(reads_as(top, all, SMALL));
	/* Nor does it shine through a later write. */
	ck_assert(!write_at(top, original + 512, BLK_SECTOR, 1024));
	memcpy(all + 1024, original + 512, BLK_SECTOR);
	ck_assert(reads_as(top, all, SMALL));
	blk_overlay_close(&layer[0]);
}
END_TEST

START_TEST(no_layer_at_all)
{
	static struct blk_overlay o;
	unsigned int fds = open_fds();
	int pipes[2], fd;

	ck_refused(blk_overlay_open(&o, open(tmp, O_RDONLY), true, &base.backend, "x", &e), EINVAL,
		   "disk x: not a regular file");
	ck_refused(blk_overlay_open(&o, open("/dev/zero", O_RDWR), false, &base.backend, "x", &e),
		   EINVAL, "not a regular file");
	ck_assert(!pipe(pipes));
	ck_refused(blk_overlay_open(&o, pipes[0], true, &base.backend, "x", &e), EINVAL, "disk x");
	close(pipes[1]);
	ck_refused(blk_overlay_open(&o, open_name("base", true), true, &base.backend, "x", &e),
		   EINVAL, "not a disk layer");
	ck_refused(blk_overlay_open(&o, -1, true, &base.backend, "x", &e), EBADF, "disk x");
	ck_assert(!blk_overlay_is(-1));
	fd = open(tmp, O_RDONLY);
	ck_assert(!blk_overlay_is(fd));
	close(fd);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* --- crashes ---
 *
 * Every sector holds the number of the write that it is from, so that one can say of each that is
 * found later whether it may be there.
 */

#define SECTORS	 75u /* 9 blocks and a part */
#define DISK	 (SECTORS * BLK_SECTOR)
#define MAX_OPS	 4000
#define PER_SECT (BLK_SECTOR / sizeof(uint32_t))

static struct history {
	uint32_t ops;	  /* writes begun; they count from 1 */
	uint32_t flushed; /* up to and with this one */
	struct {
		uint32_t sector, n;
	} op[MAX_OPS + 1];
} * history;

static void stamp(uint32_t *sector, uint32_t op, uint32_t number)
{
	for (size_t i = 0; i < PER_SECT; i++)
		sector[i] = (op + 1) << 8 | number;
}

static bool covers(uint32_t op, uint32_t sector)
{
	return sector - history->op[op].sector < history->op[op].n;
}

/* Whether a sector may be from this write, 0 being the original. */
static bool possible(uint32_t op, uint32_t sector)
{
	uint32_t last = history->flushed;

	if (op > history->flushed)
		return op <= history->ops && covers(op, sector);
	while (last && !covers(last, sector))
		last--;
	return op == last;
}

static void check_contents(struct blk_backend *b)
{
	static uint32_t disk[SECTORS][PER_SECT];

	ck_that(!read_at(b, disk, DISK, 0));
	for (uint32_t i = 0; i < SECTORS; i++) {
		uint32_t want[PER_SECT], op = (disk[i][0] >> 8) - 1;

		stamp(want, op, i);
		ck_assert_msg(!memcmp(disk[i], want, sizeof(want)) && possible(op, i),
			      "sector %u is %#x; writes %u, flushed %u", i, disk[i][0],
			      history->ops, history->flushed);
	}
}

static void crash_setup(void)
{
	static uint32_t disk[SECTORS][PER_SECT];

	tmp_setup();
	history = mmap(NULL, sizeof(*history), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	ck_that(history != MAP_FAILED);
	for (uint32_t i = 0; i < SECTORS; i++)
		stamp(disk[i], 0, i);
	make_base(disk, DISK);
	open_base();
}

static void crash_teardown(void)
{
	blk_file_close(&base);
	tmp_teardown();
}

/* A random write, or now and then a flush. */
static void crash_op(uint32_t *seed)
{
	static uint32_t buf[20][PER_SECT];
	uint32_t op = history->ops + 1, first = next_random(seed) % SECTORS;
	uint32_t n = 1 + next_random(seed) % MIN(20u, SECTORS - first);

	if (next_random(seed) % 8 == 0) {
		ck_that(!top->flush(top));
		history->flushed = history->ops;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		stamp(buf[i], op, first + i);
	history->op[op].sector = first;
	history->op[op].n = n;
	__atomic_store_n(&history->ops, op, __ATOMIC_SEQ_CST);
	ck_that(!write_at(top, buf, n * BLK_SECTOR, first * BLK_SECTOR));
}

/* A monitor that writes until it is killed. */
static pid_t start_writer(uint32_t seed)
{
	pid_t pid = fork();

	ck_that(pid >= 0);
	if (pid)
		return pid;
	push_new();
	while (history->ops < MAX_OPS)
		crash_op(&seed);
	for (;;)
		pause();
}

START_TEST(killed)
{
	uint32_t seed = 11, flushed = 0;

	for (unsigned int i = 0; i < 100; i++) {
		uint32_t after = 1 + next_random(&seed) % 150;
		pid_t pid;

		memset(history, 0, sizeof(*history));
		pid = start_writer(i);
		while (__atomic_load_n(&history->ops, __ATOMIC_SEQ_CST) < after)
			sched_yield();
		ck_that(!kill(pid, SIGKILL));
		ck_that(waitpid(pid, NULL, 0) == pid);
		push_fd(open_name(names[0], false), false);
		check_contents(top);
		flushed += history->flushed > 0;
		close_all();
		open_base();
		ck_that(!unlink(tmp_path(names[0])));
	}
	ck_assert_uint_gt(flushed, 50);
}
END_TEST

static unsigned int cuts;

/* The power goes now. */
static void cut(void)
{
	static struct blk_overlay o;
	int fd = memfd_create("platter", MFD_CLOEXEC);

	ck_that(fd >= 0 && !write_all(fd, platter.bytes, platter.sectors * BLK_SECTOR));
	ck_ok(blk_overlay_open(&o, fd, false, &base.backend, "platter", &e));
	check_contents(&o.backend);
	blk_overlay_close(&o);
	cuts++;
}

static void platter_start(int fd)
{
	platter.fd = fd;
	platter.sectors = (DATA_AT + DISK) / BLK_SECTOR;
	platter.bytes = realloc(platter.bytes, platter.sectors * BLK_SECTOR);
	platter.dirty = realloc(platter.dirty, platter.sectors * sizeof(bool));
	memset(platter.dirty, 0, platter.sectors * sizeof(bool));
	for (size_t i = 0; i < platter.sectors; i++)
		write_back(i);
	platter.look = cut;
}

static void platter_stop(void)
{
	platter.fd = -1;
	free(platter.bytes);
	free(platter.dirty);
	platter.bytes = NULL;
	platter.dirty = NULL;
}

/* A cut after every single write and sync, with every so many sectors on the disk. */
START_TEST(power_cuts)
{
	for (uint32_t round = 0; round < 40; round++) {
		uint32_t seed = round;

		memset(history, 0, sizeof(*history));
		push_new();
		platter.seed = round;
		platter_start(layer[0].fd);
		for (unsigned int i = 0; i < 60; i++)
			crash_op(&seed);
		platter_stop();
		check_contents(top);
		close_all();
		open_base();
		ck_that(!unlink(tmp_path(names[0])));
	}
	ck_assert_uint_gt(cuts, 40 * 60);
}
END_TEST

static unsigned int zeroed; /* blocks 1 and 2 read: 0 as the base, 1 as that or zeros, 2 as zeros */

/* The power goes now: zeros or what was there before, and never what lay in the file. */
static void cut_while_zeroing(void)
{
	static struct blk_overlay o;
	uint8_t is[2 * BLOCK];
	int fd = memfd_create("platter", MFD_CLOEXEC);

	ck_that(fd >= 0 && !write_all(fd, platter.bytes, platter.sectors * BLK_SECTOR));
	ck_ok(blk_overlay_open(&o, fd, false, &base.backend, "platter", &e));
	ck_that(!read_at(&o.backend, is, sizeof(is), BLOCK));
	for (size_t at = 0; at < sizeof(is); at += BLK_SECTOR)
		ck_that((zeroed < 2 && !memcmp(is + at, original + BLOCK + at, BLK_SECTOR)) ||
			(zeroed > 0 && all_bytes(is + at, BLK_SECTOR, 0)));
	blk_overlay_close(&o);
	cuts++;
}

START_TEST(power_cuts_while_zeroing)
{
	static uint8_t rubbish[2 * BLOCK];

	memset(rubbish, 0xab, sizeof(rubbish));
	ck_assert(!read_at(&base.backend, original, DISK, 0));
	for (uint32_t round = 0; round < 40; round++) {
		push_new();
		ck_that(pwrite(layer[0].fd, rubbish, sizeof(rubbish), DATA_AT + BLOCK) ==
			sizeof(rubbish));
		platter.seed = round;
		platter_start(layer[0].fd);
		platter.look = cut_while_zeroing;
		zeroed = 1;
		ck_that(!top->discard(top, BLOCK, 2 * BLOCK));
		ck_that(!top->flush(top));
		zeroed = 2;
		cut_while_zeroing();
		zeroed = 0;
		platter_stop();
		close_all();
		open_base();
		ck_that(!unlink(tmp_path(names[0])));
	}
	ck_assert_uint_ge(cuts, 40 * 4);
}
END_TEST

/* Any mixture of the old and the new page of a bitmap, by bytes here, says nothing wrong. */
START_TEST(torn_bitmap_page)
{
	static uint32_t buf[PER_SECT];
	uint8_t old[2], new[2];
	const char *path = tmp_path(names[0]);

	push_new();
	for (uint32_t block = 0; block < 10; block++) {
		if (block == 5) {
			ck_assert(!top->flush(top));
			history->flushed = history->ops;
			memcpy(old, file_text(path, NULL) + BITMAP_AT, 2);
		}
		history->ops++;
		history->op[history->ops].sector = (block * 3 % 10) * 8;
		history->op[history->ops].n = 1;
		stamp(buf, history->ops, (block * 3 % 10) * 8);
		ck_assert(!write_at(top, buf, BLK_SECTOR, (block * 3 % 10) * BLOCK));
	}
	ck_assert(!top->flush(top));
	memcpy(new, file_text(path, NULL) + BITMAP_AT, 2);
	ck_assert(old[0] != new[0] && old[1] != new[1]);
	for (unsigned int mix = 0; mix < 4; mix++) {
		uint8_t torn[2] = {mix & 1 ? new[0] : old[0], mix & 2 ? new[1] : old[1]};

		blk_overlay_close(&layer[--layers]);
		top = &base.backend;
		push_fd(open_name(names[0], false), false);
		ck_assert_int_eq(pwrite(layer[0].fd, torn, 2, BITMAP_AT), 2);
		reopen_all();
		check_contents(top);
	}
	blk_overlay_close(&layer[0]);
}
END_TEST

/* After a sync that failed nobody knows what is durable: no flush succeeds any more, no bit is
 * written.
 */
START_TEST(failed_sync)
{
	push_new();
	history->ops = 1;
	history->op[1].n = 1;
	ck_assert(!write_at(top, original, BLK_SECTOR, 0));
	sync_fails = EIO;
	ck_assert_int_eq(top->flush(top), -EIO);
	sync_fails = 0;
	ck_assert_int_eq(top->flush(top), -EIO);
	ck_refused(blk_overlay_freeze(&layer[0], &e), EIO, "layer");
	ck_assert(!top->read_only);
	reopen_all();
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 0);
	check_contents(top);
	blk_overlay_close(&layer[0]);
}
END_TEST

/* --- no space --- */

#define FULL_DISK (64 * BLOCK)

/* Writes three blocks at a time from block `from` on until it fails. Returns the block where. */
static unsigned int write_until_full(uint8_t *model, unsigned int from)
{
	uint8_t buf[3 * BLOCK];

	for (unsigned int i = from; i < 60; i += 3) {
		int r;

		fill_pattern(buf, sizeof(buf), i);
		r = write_at(top, buf, sizeof(buf), i * BLOCK + 512);
		if (r) {
			ck_that(r == -ENOSPC || r == -EFBIG);
			return i;
		}
		memcpy(model + i * BLOCK + 512, buf, sizeof(buf));
	}
	ck_abort_msg("never full");
}

/* The failed write was to change the block's sectors but the first, which the layer held already:
 * they may be the old or the new ones.
 */
static void accept_either(uint8_t *model, unsigned int block)
{
	uint8_t buf[BLOCK], new[BLOCK];

	fill_pattern(new, sizeof(new), block);
	ck_that(!read_at(top, buf, BLOCK, block * BLOCK));
	for (size_t at = 512; at < BLOCK; at += 512)
		if (!memcmp(buf + at, new + at - 512, 512))
			memcpy(model + block * BLOCK + at, buf + at, 512);
}

START_TEST(file_size_limit)
{
	static uint8_t model[FULL_DISK];
	struct rlimit limit = {DATA_AT + 20 * BLOCK + 1536, RLIM_INFINITY};
	unsigned int at;

	base_start(FULL_DISK);
	memcpy(model, original, FULL_DISK);
	push_new();
	signal(SIGXFSZ, SIG_IGN);
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	at = write_until_full(model, 1);
	ck_assert_uint_eq(at, 19);
	ck_assert_uint_eq(blk_overlay_blocks(&layer[0]), 19);
	accept_either(model, at);
	ck_assert(reads_as(top, model, FULL_DISK));
	ck_assert(!write_at(top, original, BLOCK, BLOCK));
	memcpy(model + BLOCK, original, BLOCK);
	ck_assert(!top->flush(top));
	limit.rlim_cur = RLIM_INFINITY;
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	ck_assert(!write_at(top, original, 3 * BLOCK, 19 * BLOCK + 512));
	memcpy(model + 19 * BLOCK + 512, original, 3 * BLOCK);
	ck_assert(!top->flush(top));
	reopen_all();
	ck_assert(reads_as(top, model, FULL_DISK));
	close_all();
}
END_TEST

/* A small file system of our own, where root may have one. */
static bool mount_small(const char *dir)
{
	if (unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return false;
	return !mount("small", dir, "tmpfs", 0, "size=131072");
}

START_TEST(file_system_full)
{
	static uint8_t model[FULL_DISK];
	uint8_t filler[4 * BLOCK] = {1};
	const char *small = tmp_path("small"), *other;
	int dir, fd;

	base_start(FULL_DISK);
	memcpy(model, original, FULL_DISK);
	ck_assert(!mkdir(small, 0700));
	if (!mount_small(small)) {
		blk_file_close(&base);
		ck_skip("no file system can be mounted here");
	}
	other = tmp_file("small/filler", filler, sizeof(filler));
	dir = open(small, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_ok(fd = blk_overlay_create(dir, "layer0", FULL_DISK, &e));
	push_fd(fd, false);
	accept_either(model, write_until_full(model, 0));
	ck_assert(reads_as(top, model, FULL_DISK));
	ck_assert_int_eq(top->flush(top), -ENOSPC); /* no room for the bitmap either */
	ck_assert_int_eq(top->flush(top), -ENOSPC);
	ck_assert(!unlink(other));
	ck_assert_int_eq(top->flush(top), 0);
	ck_assert(!write_at(top, original, BLOCK, 40 * BLOCK));
	memcpy(model + 40 * BLOCK, original, BLOCK);
	ck_assert(!top->flush(top));
	blk_overlay_close(&layer[0]);
	layers = 0;
	top = &base.backend;
	push_fd(openat(dir, "layer0", O_RDWR | O_CLOEXEC), false);
	ck_assert(reads_as(top, model, FULL_DISK));
	close_all();
	close(dir);
	ck_assert(!umount(small));
}
END_TEST

int main(void)
{
	const TTest *const layer_tests[] = {
		new_layer,
		creation_refused,
		random_requests,
		random_requests_without_holes,
		discarded_as_a_whole,
		few_calls,
		most_pieces,
		large_disk,
		errors_from_below,
		freeze,
		locks,
		below_that_can_change,
		file_size_limit,
		file_system_full,
	};
	const TTest *const hostile[] = {
		header_bits,	 header_says_what,    impossible_sizes, truncations,
		truncated_later, bits_beyond_the_end, harmless_bytes,	no_layer_at_all,
	};
	const TTest *const crashes[] = {killed, power_cuts, power_cuts_while_zeroing,
					torn_bitmap_page, failed_sync};
	const struct test_group groups[] = {
		{layer_tests, ARRAY_SIZE(layer_tests), tmp_setup, tmp_teardown},
		{hostile, ARRAY_SIZE(hostile), hostile_setup, hostile_teardown},
		{crashes, ARRAY_SIZE(crashes), crash_setup, crash_teardown},
	};

	return run_groups("blk_overlay", groups, ARRAY_SIZE(groups));
}
