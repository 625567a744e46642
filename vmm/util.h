/* SPDX-License-Identifier: Apache-2.0
 *
 * util: the few helpers that everything needs. Leaf; includes nothing of ours.
 */
#ifndef UVM_VMM_UTIL_H
#define UVM_VMM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(a)		      (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)		      ((a) < (b) ? (a) : (b))
#define MAX(a, b)		      ((a) > (b) ? (a) : (b))
#define ALIGN_UP(v, to)		      (((v) + ((to)-1)) & ~(__typeof__(v))((to)-1)) /* to: a power of two */
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

/* A counter that one thread at a time adds to and any reads. */
static inline void stat_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t stat_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

/* Reads exactly len bytes at offset, however the kernel splits them. Returns 0, -errno, or
 * -ENODATA when the file ends before.
 */
int pread_all(int fd, void *buf, size_t len, off_t offset);

/* Writes all of buf to a blocking descriptor, without SIGPIPE where it is a socket or pipe
 * (main() ignores the signal). Returns 0 or -errno.
 */
int write_all(int fd, const void *buf, size_t len);

/* Closes every descriptor from `from` on but the n in keep, which it sorts; numbers below `from` in it do
 * not count.
 */
void fds_close_others(int from, int *keep, size_t n);

/* Makes a text fit for a terminal, in place: control characters become '?', also those of UTF-8 from U+0080 to
 * U+009F, which begin a terminal's orders as ESC does. For what a guest, a file or a monitor that has been
 * taken over says.
 */
void text_plain(char *text);

/* The length of the UTF-8 sequence (Unicode, table 3-7) that begins the len bytes at s, or 0 if it is none. */
unsigned int utf8_length(const unsigned char *s, size_t len);

/* Puts more at the end of a text of *len bytes, and adds to *len what there would be with room for it: with
 * *len >= size it is cut.
 */
void text_append(char *text, size_t size, size_t *len, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
