/* SPDX-License-Identifier: Apache-2.0
 *
 * Theory of operation
 *
 * A layer is one sparse file: a header, a bitmap, and the data, which starts at a whole block and
 * is laid out as the disk is, so that a request that the layer holds is one call at a fixed
 * distance. Bit i (of byte i / 8, the lowest first) says that the layer holds block i; its bytes
 * are then at data_offset + i * 4096. What the file has there for a block whose bit is clear means
 * nothing and is never read. All numbers are little-endian.
 *
 *	0	struct layer_header
 *	4096	bitmap, a bit for each block of the disk, zeros up to a whole page
 *	...	data, up to the end of the disk, which may fall into the last block
 *
 * A read goes to the layer and to what is below it in turns, as long as its blocks lie. A write
 * goes to the layer in one call: where it covers a block only in part that the layer does not hold
 * yet, the rest of that block is read from below first and written with it. Only after the data is
 * written does the block's bit change, and that in memory. So a write that fails (the host's file
 * system is full) leaves the blocks below in view, and a later write starts from them again.
 *
 * A range that is to read as zeros, and one that is discarded, becomes a hole in the layer's data,
 * and then its bits are set, for below it there may be anything. So also a layer that was discarded
 * as a whole takes no space but its bitmap.
 *
 * A flush writes the bits out: first the data is made durable, then the changed pages of the bitmap
 * are written, then they are. At no point does the file, in the page cache or on the disk, have a
 * bit for data that is not durable; and bits are only ever added, each for itself, so a page that a
 * power cut tore is as good as a whole one. What was flushed therefore survives both the monitor's
 * death (SIGKILL) and the host's. What was not flushed may be lost, as from the cache of a disk:
 * when only the monitor dies, the page cache keeps the data, and lost are the blocks that are new
 * in the layer since the last flush, which read as what is below them. When no block is new, a
 * flush is one fdatasync.
 *
 * After a failed fdatasync the kernel takes the lost pages for clean and the next one succeeds. A
 * bit written then could be for data that is nowhere. So from the first failure on every flush
 * fails.
 */
#include "devices/blk_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_io.h"

#define BLOCK	  BLK_OVERLAY_BLOCK
#define PAGE	  4096u /* of the bitmap: what a flush writes */
#define PAGE_BITS (8ull * PAGE)
#define MAGIC	  "uvmlayer"
#define VERSION	  1u

struct layer_header {
	char magic[8];
	uint32_t version;
	uint32_t block_size;	/* bytes */
	uint64_t disk_size;	/* bytes */
	uint64_t bitmap_offset; /* bytes into the file, as data_offset */
	uint64_t data_offset;
	uint8_t reserved[24]; /* zeros */
};
_Static_assert(sizeof(struct layer_header) == 64, "the header of version 1");

static uint64_t blocks_of(uint64_t size)
{
	return (size + BLOCK - 1) / BLOCK;
}

static uint64_t pages_of(uint64_t size)
{
	return (blocks_of(size) + PAGE_BITS - 1) / PAGE_BITS;
}

static bool size_possible(uint64_t size)
{
	return size && size % BLK_SECTOR == 0 && size <= BLK_OVERLAY_MAX;
}

/* The one header that version 1 has for a disk of this (possible) size. */
static struct layer_header header_for(uint64_t size)
{
	struct layer_header h = {.version = VERSION,
				 .block_size = BLOCK,
				 .disk_size = size,
				 .bitmap_offset = PAGE,
				 .data_offset = PAGE + PAGE * pages_of(size)};

	memcpy(h.magic, MAGIC, sizeof(h.magic));
	return h;
}

/* --- the bitmap --- */

static bool holds(const struct blk_overlay *o, uint64_t block)
{
	return o->bitmap[block / 8] >> block % 8 & 1;
}

static void add_block(struct blk_overlay *o, uint64_t block)
{
	if (holds(o, block))
		return;
	o->bitmap[block / 8] |= (uint8_t)(1u << block % 8);
	o->page_changed[block / PAGE_BITS] = true;
	o->blocks++;
}

/* Reads [from, to) of the bitmap, and counts. */
static int load_part(struct blk_overlay *o, uint64_t from, uint64_t to)
{
	int r = pread_all(o->fd, o->bitmap + from, to - from, (off_t)(PAGE + from));

	for (uint64_t i = from; !r && i < to; i++)
		o->blocks += (uint64_t)__builtin_popcount(o->bitmap[i]);
	return r;
}

/* Reads what the file has of the bitmap: a new layer's, which is a hole, costs neither time nor
 * memory, however large the disk.
 */
static int load_bitmap(struct blk_overlay *o)
{
	off_t start = PAGE, end = (off_t)(PAGE + o->pages * PAGE);

	for (off_t at = start; at < end;) {
		off_t data = lseek(o->fd, at, SEEK_DATA), hole;
		int r;

		if ((data < 0 && errno == ENXIO) || data >= end)
			return 0;
		data = MAX(data, at); /* -1: a file system that cannot tell has no holes */
		hole = lseek(o->fd, data, SEEK_HOLE);
		if (hole <= data || hole > end)
			hole = end;
		r = load_part(o, (uint64_t)(data - start), (uint64_t)(hole - start));
		if (r)
			return r;
		at = hole;
	}
	return 0;
}

/* Whether a bit is set for a block that the disk does not have. */
static bool has_bits_beyond(const struct blk_overlay *o)
{
	uint64_t end = blocks_of(o->backend.size), i = end / 8;

	if (end % 8 && o->bitmap[i++] >> end % 8)
		return true;
	for (; i < o->pages * PAGE; i++)
		if (o->bitmap[i])
			return true;
	return false;
}

/* Writes the changed pages to the file. One that fails stays changed. */
static int write_bitmap(struct blk_overlay *o, bool *wrote)
{
	for (uint64_t i = 0; i < o->pages; i++) {
		struct iovec page = {o->bitmap + i * PAGE, PAGE};
		int r;

		if (!o->page_changed[i])
			continue;
		r = blk_io_write(o->fd, &page, 1, PAGE + i * PAGE);
		if (r)
			return r;
		o->page_changed[i] = false;
		*wrote = true;
	}
	return 0;
}

/* --- requests --- */

/* Where the blocks end, from offset up to end, that are all in the layer or all below it. */
static uint64_t run_end(const struct blk_overlay *o, uint64_t offset, uint64_t end)
{
	uint64_t block = offset / BLOCK, last = (end - 1) / BLOCK;
	bool held = holds(o, block);

	while (block < last && holds(o, block + 1) == held)
		block++;
	return MIN(end, (block + 1) * BLOCK);
}

static int read_run(struct blk_overlay *o, const struct iovec *iov, unsigned int n, uint64_t offset)
{
	return holds(o, offset / BLOCK) ? blk_io_read(o->fd, iov, n, o->data_offset + offset)
					: o->below->read(o->below, iov, n, offset);
}

static int overlay_read(struct blk_backend *b, const struct iovec *iov, unsigned int n,
			uint64_t offset)
{
	struct blk_overlay *o = CONTAINER_OF(b, struct blk_overlay, backend);
	uint64_t at = offset, end = offset + iov_length(iov, n), to;
	int r = 0;

	for (; !r && at < end; at = to) {
		unsigned int k;

		to = run_end(o, at, end);
		if (at == offset && to == end)
			return read_run(o, iov, n, offset);
		k = iov_slice(iov, n, at - offset, to - at, o->part);
		r = read_run(o, o->part, k, at);
	}
	return r;
}

/* Reads [from, to) from below, if that is anything. */
static int fill(struct blk_overlay *o, uint64_t from, uint64_t to, uint8_t *buf)
{
	struct iovec iov = {buf, to - from};

	return from < to ? o->below->read(o->below, &iov, 1, from) : 0;
}

static int overlay_write(struct blk_backend *b, const struct iovec *iov, unsigned int n,
			 uint64_t offset)
{
	struct blk_overlay *o = CONTAINER_OF(b, struct blk_overlay, backend);
	uint64_t end = offset + iov_length(iov, n), from = offset, to = end;
	uint64_t first = offset / BLOCK, last = (end - 1) / BLOCK;
	unsigned int k = 0;
	int r;

	if (b->read_only)
		return -EROFS; /* others may read this file */
	if (!holds(o, first))
		from = first * BLOCK;
	if (!holds(o, last))
		to = MIN((last + 1) * BLOCK, b->size);
	r = fill(o, from, offset, o->head);
	if (!r)
		r = fill(o, end, to, o->tail);
	if (r)
		return r;
	if (from < offset)
		o->part[k++] = (struct iovec){o->head, offset - from};
	memcpy(o->part + k, iov, n * sizeof(*iov));
	k += n;
	if (end < to)
		o->part[k++] = (struct iovec){o->tail, to - end};
	r = blk_io_write(o->fd, o->part, k, o->data_offset + from);
	for (uint64_t i = first; !r && i <= last; i++)
		add_block(o, i);
	return r;
}

/* Blocks [first, last) as a hole of the layer's own, or one that keeps its space, whatever the file
 * had there.
 */
static int zero_blocks(struct blk_overlay *o, uint64_t first, uint64_t last, bool unmap)
{
	uint64_t offset = first * BLOCK, len = MIN(last * BLOCK, o->backend.size) - offset;
	int r = blk_io_zero(o->fd, o->data_offset + offset, len, unmap);

	if (r == -EOPNOTSUPP)
		return blk_backend_write_zeros(&o->backend, offset, len);
	for (uint64_t i = first; !r && i < last; i++)
		add_block(o, i);
	return r;
}

/* Blocks of which the range has a part only are written. The space comes back at once; that a block
 * reads as zeros is as durable as one that was written: the hole before the bit.
 */
static int overlay_zero(struct blk_backend *b, uint64_t offset, uint64_t len, bool unmap)
{
	struct blk_overlay *o = CONTAINER_OF(b, struct blk_overlay, backend);
	uint64_t end = offset + len, first = (offset + BLOCK - 1) / BLOCK;
	uint64_t last = end == b->size ? blocks_of(end) : end / BLOCK;
	int r = 0;

	if (b->read_only)
		return -EROFS;
	if (first >= last)
		return blk_backend_write_zeros(b, offset, len);
	if (offset < first * BLOCK)
		r = blk_backend_write_zeros(b, offset, first * BLOCK - offset);
	if (!r)
		r = zero_blocks(o, first, last, unmap);
	if (!r && last * BLOCK < end)
		r = blk_backend_write_zeros(b, last * BLOCK, end - last * BLOCK);
	return r;
}

/* What is below stays, so a discarded block has to be one of the layer's: it reads as zeros. */
static int overlay_discard(struct blk_backend *b, uint64_t offset, uint64_t len)
{
	return overlay_zero(b, offset, len, true);
}

static int sync_file(struct blk_overlay *o)
{
	if (!o->broken)
		o->broken = blk_io_sync(o->fd);
	return o->broken;
}

static int overlay_flush(struct blk_backend *b)
{
	struct blk_overlay *o = CONTAINER_OF(b, struct blk_overlay, backend);
	bool wrote = false;
	int r;

	if (b->read_only)
		return 0;
	r = sync_file(o);
	if (!r)
		r = write_bitmap(o, &wrote);
	return r || !wrote ? r : sync_file(o);
}

/* --- files --- */

static int write_new(int fd, uint64_t size)
{
	struct layer_header h = header_for(size);
	struct iovec iov = {&h, sizeof(h)};

	if (ftruncate(fd, (off_t)(h.data_offset + size)))
		return -errno;
	return blk_io_write(fd, &iov, 1, 0);
}

int blk_overlay_create(int dir, const char *name, uint64_t size, struct err *e)
{
	int fd, r;

	if (!size_possible(size))
		return err_set(e, EINVAL, "disk layer %s: impossible for a disk of %llu bytes",
			       name, (unsigned long long)size);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "cannot make disk layer %s", name);
	r = write_new(fd, size);
	if (!r)
		return fd;
	unlinkat(dir, name, 0);
	close(fd);
	return err_set(e, -r, "cannot make disk layer %s: %s", name, strerror(-r));
}

bool blk_overlay_is(int fd)
{
	char magic[sizeof(MAGIC) - 1];

	return !pread_all(fd, magic, sizeof(magic), 0) && !memcmp(magic, MAGIC, sizeof(magic));
}

/* Reads the header and compares every byte of it with what it can be. Sets *size. */
static int check_header(int fd, uint64_t *size, const char *name, struct err *e)
{
	struct layer_header h, want;

	if (!blk_overlay_is(fd) || pread_all(fd, &h, sizeof(h), 0))
		return err_set(e, EINVAL, "disk %s: not a disk layer", name);
	if (h.version != VERSION || h.block_size != BLOCK)
		return err_set(e, EINVAL,
			       "disk %s: a layer of version %u with blocks of %u bytes, but this uvm reads version "
			       "%u with %u; use the uvm that made it",
			       name, h.version, h.block_size, VERSION, BLOCK);
	if (!size_possible(h.disk_size))
		return err_set(e, EINVAL, "disk %s: the layer's header is damaged", name);
	want = header_for(h.disk_size);
	if (memcmp(&h, &want, sizeof(h)))
		return err_set(e, EINVAL, "disk %s: the layer's header is damaged", name);
	*size = h.disk_size;
	return 0;
}

/* Checks the file as a whole, and against what is below it. */
static int check_file(int fd, const struct blk_backend *below, const char *name, struct err *e)
{
	struct stat st;
	uint64_t size = 0;
	int r;

	if (fstat(fd, &st))
		return err_sys(e, "disk %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "disk %s: not a regular file", name);
	r = check_header(fd, &size, name, e);
	if (r)
		return r;
	if (size != below->size)
		return err_set(e, EINVAL,
			       "disk %s: a layer for a disk of %llu bytes, over one of %llu", name,
			       (unsigned long long)size, (unsigned long long)below->size);
	if ((uint64_t)st.st_size < header_for(size).data_offset + size)
		return err_set(e, EINVAL, "disk %s: the layer has been cut off", name);
	return 0;
}

/* Makes the bitmap and fills it from the file. */
static int start_bitmap(struct blk_overlay *o, const char *name, struct err *e)
{
	int r;

	o->pages = pages_of(o->backend.size);
	o->bitmap = calloc(o->pages, PAGE);
	o->page_changed = calloc(o->pages, sizeof(*o->page_changed));
	if (!o->bitmap || !o->page_changed)
		return err_set(e, ENOMEM, "disk %s: out of memory", name);
	r = load_bitmap(o);
	if (r)
		return err_set(e, -r, "disk %s: cannot read the layer: %s", name, strerror(-r));
	if (has_bits_beyond(o))
		return err_set(e, EINVAL, "disk %s: the layer holds blocks beyond its end", name);
	return 0;
}

static int open_layer(struct blk_overlay *o, const char *name, struct err *e)
{
	int r;

	if (!o->below->read_only)
		return err_set(e, EINVAL, "disk %s: what is below can still change", name);
	r = blk_io_lock(o->fd, o->backend.read_only, name, e);
	if (!r)
		r = check_file(o->fd, o->below, name, e);
	if (r)
		return r;
	o->backend.size = o->below->size;
	o->data_offset = header_for(o->backend.size).data_offset;
	return start_bitmap(o, name, e);
}

int blk_overlay_open(struct blk_overlay *o, int fd, bool read_only, struct blk_backend *below,
		     const char *name, struct err *e)
{
	int r;

	*o = (struct blk_overlay){.backend = {.read = overlay_read,
					      .write = overlay_write,
					      .flush = overlay_flush,
					      .discard = overlay_discard,
					      .zero = overlay_zero,
					      .read_only = read_only},
				  .below = below,
				  .fd = fd};
	r = open_layer(o, name, e);
	if (r)
		blk_overlay_close(o);
	return r;
}

int blk_overlay_freeze(struct blk_overlay *o, struct err *e)
{
	int r = overlay_flush(&o->backend);

	if (r)
		return err_set(e, -r, "cannot write out a disk's layer: %s", strerror(-r));
	r = blk_io_lock(o->fd, true, "layer", e);
	if (!r)
		o->backend.read_only = true;
	return r;
}

uint64_t blk_overlay_blocks(const struct blk_overlay *o)
{
	return o->blocks;
}

void blk_overlay_close(struct blk_overlay *o)
{
	if (o->fd < 0)
		return;
	close(o->fd);
	o->fd = -1;
	free(o->bitmap);
	free(o->page_changed);
	o->bitmap = NULL;
	o->page_changed = NULL;
}
