/* SPDX-License-Identifier: Apache-2.0
 *
 * load: work for disks, shares and streams of a guest, whose results it knows; see tests/linux/load.sh.
 * Static and without a library of its own. What is random follows from SEED.
 *
 *	load send SEED BYTES	writes so many bytes to standard output
 *	load recv SEED BYTES	reads exactly those from standard input; prints "ok", or where they differ
 *	load fsx DIR SEED COUNT	COUNT random operations on a file in DIR, after each of which it must be
 *				what it is in memory; prints "ok"
 *	load disk DEV SEED COUNT	four processes, each with COUNT random direct reads and writes of
 *				its quarter of DEV, of which then every block is read; prints "ok"
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#define FAIL(...) (printf(__VA_ARGS__), printf(": %s\n", strerror(errno)), exit(1))
#define CHECK(cond) ((cond) ? (void)0 : FAIL("line %d: %s", __LINE__, #cond))

static uint64_t state;

static uint64_t next(void) /* xorshift64 */
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static unsigned int below(unsigned int n)
{
	return (unsigned int)(next() >> 16) % n;
}

static void seed(uint64_t v)
{
	state = v * 0x9e3779b97f4a7c15u + 1;
}

/* n bytes, up to seven more are written. */
static void fill(void *to, size_t n)
{
	uint64_t *p = to;

	for (size_t i = 0; i < n; i += sizeof(*p))
		*p++ = next();
}

/* --- streams --- */

#define CHUNK (64u << 10)

static int stream_out(uint64_t left)
{
	static char chunk[CHUNK];

	while (left) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;

		fill(chunk, n);
		for (size_t at = 0; at < n;) {
			ssize_t r = write(1, chunk + at, n - at);

			if (r <= 0)
				return 1;
			at += (size_t)r;
		}
		left -= n;
	}
	return 0;
}

static size_t read_all(char *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t r = read(0, p + at, n - at);

		if (r <= 0)
			break;
		at += (size_t)r;
	}
	return at;
}

static int stream_in(uint64_t bytes)
{
	static char chunk[CHUNK], expected[CHUNK];

	for (uint64_t at = 0; at < bytes; at += CHUNK) {
		size_t n = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;

		fill(expected, n);
		if (read_all(chunk, n) < n || memcmp(chunk, expected, n)) {
			printf("differs or ends at %llu to %llu\n", (unsigned long long)at,
			       (unsigned long long)(at + n));
			return 1;
		}
	}
	if (read_all(chunk, 1)) {
		puts("goes on");
		return 1;
	}
	puts("ok");
	return 0;
}

/* --- a file against a copy in memory --- */

#define FILE_MAX   (512u << 10)
#define OP_MAX	   (64u << 10)
#define DIRECT	   4096u
#define DROP_EVERY 50

static char model[FILE_MAX + 8], work[FILE_MAX + 8] __attribute__((aligned(DIRECT)));
static unsigned int size;
static int fd, direct_fd;

static void reopen(void)
{
	close(fd);
	close(direct_fd);
	CHECK((fd = open("fsx", O_RDWR)) >= 0);
	CHECK((direct_fd = open("fsx", O_RDWR | O_DIRECT)) >= 0);
}

static void grown(unsigned int end)
{
	if (end > size)
		size = end;
}

static void op_write(unsigned int at, unsigned int n)
{
	fill(work, n);
	memcpy(model + at, work, n);
	CHECK(pwrite(fd, work, n, at) == (ssize_t)n);
	grown(at + n);
}

static void op_read(unsigned int at, unsigned int n)
{
	ssize_t there = at >= size ? 0 : at + n > size ? size - at : n;

	CHECK(pread(fd, work, n, at) == there);
	CHECK(!memcmp(work, model + at, (size_t)there));
}

static void op_direct_write(unsigned int at, unsigned int n)
{
	at -= at % DIRECT;
	n += DIRECT - n % DIRECT;
	if (at + n > FILE_MAX)
		return;
	fill(work, n);
	memcpy(model + at, work, n);
	CHECK(pwrite(direct_fd, work, n, at) == (ssize_t)n);
	grown(at + n);
}

static void op_direct_read(unsigned int at, unsigned int n)
{
	ssize_t r;

	at -= at % DIRECT;
	n += DIRECT - n % DIRECT;
	r = pread(direct_fd, work, n, at);
	CHECK(r == (at >= size ? 0 : at + n > size ? (ssize_t)(size - at) : (ssize_t)n));
	CHECK(!memcmp(work, model + at, (size_t)r));
}

static void op_truncate(unsigned int at)
{
	if (at < size)
		memset(model + at, 0, size - at);
	CHECK(!ftruncate(fd, at));
	size = at;
}

static void op_punch(unsigned int at, unsigned int n)
{
	CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n));
	memset(model + at, 0, n);
}

static void op_map(unsigned int at, unsigned int n)
{
	char *p;

	if (!size)
		return;
	at %= size;
	n = at + n > size ? size - at : n;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK(!memcmp(p + at, model + at, n));
	fill(work, n);
	memcpy(model + at, work, n);
	memcpy(p + at, work, n);
	CHECK(!msync(p, size, MS_SYNC) && !munmap(p, size));
}

/* All that the guest's kernel remembers of the content is forgotten, so it is read anew. */
static void drop(void)
{
	CHECK(!fsync(fd) && !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	reopen();
	op_read(0, FILE_MAX);
}

static int fsx(const char *dir, unsigned int count)
{
	struct stat st;

	CHECK(!chdir(dir) && (fd = creat("fsx", 0600)) >= 0);
	direct_fd = -1;
	reopen();
	for (unsigned int i = 0; i < count; i++) {
		unsigned int n = 1 + below(below(4) ? 5000 : OP_MAX), at = below(FILE_MAX - n);

		switch (below(9)) {
		case 0:
		case 1: op_write(at, n); break;
		case 2:
		case 3: op_read(at, n); break;
		case 4: op_direct_write(at, n); break;
		case 5: op_direct_read(at, n); break;
		case 6: op_map(at, n); break;
		case 7: op_punch(at, n); break;
		case 8: op_truncate(at); break;
		}
		CHECK(!fstat(fd, &st) && st.st_size == size);
		if (i % DROP_EVERY == 0)
			drop();
	}
	drop();
	puts("ok");
	return 0;
}

/* --- a disk --- */

#define LANES	  4u
#define BLOCK	  4096u
#define BLOCK_RUN 16u

/* What block holds at its version; zeros before the first. */
static void block_content(char *to, uint64_t lane, unsigned int block, unsigned int version)
{
	uint64_t kept = state;

	seed(lane << 48 | (uint64_t)block << 24 | version);
	if (version)
		fill(to, BLOCK);
	else
		memset(to, 0, BLOCK);
	state = kept;
}

static void same_blocks(uint64_t lane, unsigned int first, unsigned int n, const unsigned int *version)
{
	static char expected[BLOCK];

	for (unsigned int i = 0; i < n; i++) {
		block_content(expected, lane, first + i, version[first + i]);
		if (memcmp(work + i * BLOCK, expected, BLOCK))
			FAIL("block %u of lane %u is not what it was at version %u", first + i,
			     (unsigned int)lane, version[first + i]);
	}
}

static void lane(const char *dev, unsigned int index, unsigned int blocks, unsigned int count)
{
	unsigned int *version = calloc(blocks, sizeof(*version));
	off_t base = (off_t)index * blocks * BLOCK;

	CHECK(version && (fd = open(dev, O_RDWR | O_DIRECT)) >= 0);
	seed(state + index);
	for (unsigned int i = 0; i < count; i++) {
		unsigned int n = 1 + below(BLOCK_RUN), first = below(blocks - n);
		ssize_t len = (ssize_t)n * BLOCK;
		off_t at = base + (off_t)first * BLOCK;

		if (below(2)) {
			CHECK(pread(fd, work, (size_t)len, at) == len);
			same_blocks(index, first, n, version);
			continue;
		}
		for (unsigned int k = 0; k < n; k++)
			block_content(work + k * BLOCK, index, first + k, ++version[first + k]);
		CHECK(pwrite(fd, work, (size_t)len, at) == len);
		CHECK(below(20) || !fsync(fd));
	}
	for (unsigned int first = 0; first < blocks; first += BLOCK_RUN) {
		unsigned int n = blocks - first < BLOCK_RUN ? blocks - first : BLOCK_RUN;

		CHECK(pread(fd, work, n * (size_t)BLOCK, base + (off_t)first * BLOCK) ==
		      (ssize_t)n * BLOCK);
		same_blocks(index, first, n, version);
	}
	exit(0);
}

static int disk(const char *dev, unsigned int count)
{
	int status, all = 0;
	uint64_t bytes;

	CHECK((fd = open(dev, O_RDONLY)) >= 0 && !ioctl(fd, BLKGETSIZE64, &bytes));
	close(fd);
	for (unsigned int i = 0; i < LANES; i++)
		if (!fork())
			lane(dev, i, (unsigned int)(bytes / BLOCK / LANES), count);
	while (wait(&status) > 0)
		all |= status;
	if (!all)
		puts("ok");
	return all != 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";
	bool file = argc > 4;
	uint64_t n = argc > 3 ? strtoull(argv[argc - 1], NULL, 10) : 0;

	if (argc > 3)
		seed(strtoull(argv[argc - 2], NULL, 10));
	if (!strcmp(what, "send"))
		return stream_out(n);
	if (!strcmp(what, "recv"))
		return stream_in(n);
	if (!strcmp(what, "fsx") && file)
		return fsx(argv[2], (unsigned int)n);
	if (!strcmp(what, "disk") && file)
		return disk(argv[2], (unsigned int)n);
	return 2;
}
