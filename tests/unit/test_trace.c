/* SPDX-License-Identifier: Apache-2.0
 *
 * trace: what lands in the client's memory, which memory is refused, and a trace that ends while
 * others write.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/trace.h"
#include "vmm/util.h"

static void name(void *ctx, unsigned int slot, char to[TRACE_NAME])
{
	(void)ctx;
	strcpy(to, slot == 1 ? "disk0" : "");
}

static int memory(off_t size, int seals)
{
	int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct trace_ring *ring_of(int fd)
{
	void *p = mmap(NULL, sizeof(struct trace_ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

START_TEST(entries)
{
	int fd = memory(sizeof(struct trace_ring), F_SEAL_SHRINK);
	struct trace_ring *ring = ring_of(fd);
	struct trace t = {0};
	struct err e;

	ck_assert(!trace_on(&t));
	trace_put(&t, TRACE_POP, 1, 2, 3, 4, 5); /* into nothing */
	ck_assert_int_eq(trace_begin(&t, fd, name, NULL, &e), 0);
	ck_assert(trace_on(&t));
	ck_assert_str_eq(ring->device[1], "disk0");
	ck_assert_str_eq(ring->device[0], "");
	for (unsigned int i = 0; i < TRACE_ENTRIES + 2; i++)
		trace_put(&t, TRACE_POP, 7, i, 9, 10, UINT64_MAX);
	ck_assert_uint_eq(ring->next, TRACE_ENTRIES + 2);
	/* The first two have been overwritten. */
	for (unsigned int i = 0; i < TRACE_ENTRIES; i++) {
		const struct trace_entry *x = &ring->entry[i];
		uint32_t number = i < 2 ? i + TRACE_ENTRIES : i;

		ck_assert_uint_eq(x->number, number + 1);
		ck_assert_uint_eq(x->what, number);
		ck_assert_uint_eq(x->took, UINT32_MAX);
		ck_assert_uint_eq(x->kind, TRACE_POP);
		ck_assert_uint_eq(x->who, 7);
	}
	trace_end(&t);
	ck_assert(!trace_on(&t));
	trace_put(&t, TRACE_POP, 1, 2, 3, 4, 5);
	ck_assert_uint_eq(ring->next, TRACE_ENTRIES + 2);
	/* A number that the client has set is one like any other. */
	ring->next = UINT64_MAX;
	ck_assert_int_eq(trace_begin(&t, fd, name, NULL, &e), 0);
	trace_put(&t, TRACE_POP, 1, 2, 3, 4, 5);
	ck_assert_uint_eq(ring->entry[TRACE_ENTRIES - 1].what, 2);
	ck_assert_uint_eq(ring->next, 0);
	trace_end(&t);
	trace_end(&t);
	munmap(ring, sizeof(*ring));
	munmap(t.place, sizeof(*ring));
	close(fd);
}
END_TEST

START_TEST(refused)
{
	int good = memory(sizeof(struct trace_ring), F_SEAL_SHRINK), bad;
	struct trace t = {0};
	struct err e;

	ck_assert_int_eq(trace_begin(&t, -1, name, NULL, &e), -EINVAL);
	bad = memory(sizeof(struct trace_ring), F_SEAL_GROW);
	ck_assert_int_eq(trace_begin(&t, bad, name, NULL, &e), -EINVAL);
	close(bad);
	bad = memory(sizeof(struct trace_ring) - 1, F_SEAL_SHRINK);
	ck_assert_int_eq(trace_begin(&t, bad, name, NULL, &e), -EINVAL);
	close(bad);
	bad = open("/dev/null", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(trace_begin(&t, bad, name, NULL, &e), -EINVAL);
	close(bad);
	bad = memory(sizeof(struct trace_ring), F_SEAL_SHRINK | F_SEAL_WRITE);
	ck_assert_int_lt(trace_begin(&t, bad, name, NULL, &e), 0);
	close(bad);
	ck_assert(!trace_on(&t));
	ck_assert_int_eq(trace_begin(&t, good, name, NULL, &e), 0);
	ck_assert_int_eq(trace_begin(&t, good, name, NULL, &e), -EBUSY);
	ck_assert_str_eq(e.text, "somebody traces this VM already");
	trace_end(&t);
	munmap(t.place, sizeof(struct trace_ring));
	close(good);
}
END_TEST

static void *writer(void *arg)
{
	for (unsigned int i = 0; i < 200000; i++)
		trace_put(arg, TRACE_EXIT, 1, i, 2, 3, 4);
	return NULL;
}

START_TEST(ends_meanwhile)
{
	int fd = memory(sizeof(struct trace_ring), F_SEAL_SHRINK);
	pthread_t thread[3];
	struct trace t = {0};
	struct err e;

	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, writer, &t), 0);
	for (unsigned int i = 0; i < 200; i++) {
		ck_assert_int_eq(trace_begin(&t, fd, name, NULL, &e), 0);
		trace_end(&t);
	}
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	munmap(t.place, sizeof(struct trace_ring));
	close(fd);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {entries, refused, ends_meanwhile};

	return run_tests("trace", tests, ARRAY_SIZE(tests), NULL, NULL);
}
