/* SPDX-License-Identifier: Apache-2.0
 *
 * Disks over the host's own io_uring, and on a host that has none for us.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "devices/blk_file.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"
#include "vmm/worker.h"

#define SECTORS 256u
#define DISK	(SECTORS * BLK_SECTOR)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4 };
enum { S_OK = 0, S_IOERR = 1, S_UNTOUCHED = 0xee };

static struct err e;

static bool have_uring(void)
{
	struct uring u;
	int r = uring_open(&u, 4, &e);

	if (!r)
		uring_close(&u);
	return !r;
}

#define NEED_URING                                                                                 \
	do {                                                                                       \
		if (!have_uring())                                                                 \
			ck_skip(e.text);                                                           \
	} while (0)

/* --- the ring --- */

static int readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0);
}

START_TEST(transfers)
{
	struct uring u;
	unsigned int fds = open_fds();
	uint8_t in[2][4096], out[4096];
	struct iovec iov[] = {{in[0], 4096}, {in[1], 100}, {out, 4096}};
	int fd = open(tmp_file("file", "", 0), O_RDWR | O_CLOEXEC), who[4];
	struct uring_transfer t = {
		.op = URING_WRITE, .fd = fd, .iov = &iov[2], .n = 1, .who = &who[0]};
	int32_t result;
	void *got;

	NEED_URING;
	fill_pattern(out, sizeof(out), 1);
	ck_ok(uring_open(&u, 4, &e));
	ck_assert(!uring_take(&u, &result));
	ck_assert_uint_eq(uring_submit(&u), 0);
	ck_assert(uring_queue(&u, &t));
	ck_assert_uint_eq(uring_submit(&u), 0);
	while (!(got = uring_take(&u, &result)))
		uring_wait(&u);
	ck_assert(got == &who[0] && result == 4096);
	/* As many as there is room for; one reads over the file's end, one of a bad descriptor. */
	t = (struct uring_transfer){.op = URING_READ, .fd = fd, .iov = iov, .n = 2, .who = &who[0]};
	ck_assert(uring_queue(&u, &t));
	t = (struct uring_transfer){.op = URING_SYNC, .fd = fd, .who = &who[1]};
	ck_assert(uring_queue(&u, &t));
	t = (struct uring_transfer){.op = URING_SYNC, .fd = -1, .who = &who[2]};
	ck_assert(uring_queue(&u, &t));
	t.who = &who[3];
	ck_assert(uring_queue(&u, &t));
	ck_assert(!uring_queue(&u, &t));
	ck_assert_uint_eq(uring_submit(&u), 0);
	ck_assert(!uring_queue(&u, &t));
	for (unsigned int n = 0; n < 4;) {
		got = uring_take(&u, &result);
		if (!got) {
			uring_wait(&u);
			continue;
		}
		n++;
		ck_assert_int_eq(result, got == &who[0] ? 4096 : got == &who[1] ? 0 : -EBADF);
	}
	ck_assert_uint_eq(u.in_flight, 0);
	ck_assert(!memcmp(in[0], out, 4096));
	uring_close(&u);
	uring_close(&u);
	close(fd);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* What ends later signals the eventfd: a read of a pipe that has nothing yet. */
START_TEST(signals)
{
	struct uring u;
	char byte = 0;
	struct iovec iov = {&byte, 1};
	int p[2], who;
	struct uring_transfer t = {.op = URING_READ, .iov = &iov, .n = 1, .who = &who};
	int32_t result;

	NEED_URING;
	ck_assert(!pipe2(p, O_CLOEXEC));
	t.fd = p[0];
	ck_ok(uring_open(&u, 4, &e));
	for (unsigned int i = 0; i < 100; i++) {
		ck_that(uring_queue(&u, &t) && !uring_submit(&u));
		ck_that(!uring_take(&u, &result));
		ck_that(!readable(u.event));
		ck_that(write(p[1], "x", 1) == 1);
		while (!readable(u.event))
			poll(NULL, 0, 1);
		event_take(u.event);
		ck_that(uring_take(&u, &result) == &who && result == 1 && byte == 'x');
	}
	uring_close(&u);
	close(p[0]);
	close(p[1]);
}
END_TEST

/* A fork's child has neither part nor mapping of it. */
START_TEST(not_in_children)
{
	struct uring u;
	int status;
	pid_t pid;

	NEED_URING;
	ck_ok(uring_open(&u, 4, &e));
	pid = fork();
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*(volatile uint32_t *)u.cq_tail);
	}
	ck_assert(waitpid(pid, &status, 0) == pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	uring_close(&u);
}
END_TEST

/* --- a disk --- */

static struct driver d;
static struct worker worker;
static struct blk_file file;
static struct virtio_blk blk;
static uint8_t image[DISK];
static uint64_t base; /* of a request's slot: header, status, then its data */

#define SLOT  (4096u + 8 * BLK_SECTOR)
#define SLOTS 64u

static void disk_setup(void)
{
	tmp_setup();
	fill_pattern(image, DISK, 1);
	driver_init(&d);
	ck_ok(blk_file_open(&file, tmp_file("disk", image, DISK), false, &e));
	ck_ok(worker_init(&worker, &e));
	ck_ok(virtio_blk_init(&blk, &d.guest.mem, &file.backend, "", d.irq, &worker.loop, &e));
	d.dev = &blk.dev;
	base = guest_alloc(&d.guest, SLOTS * SLOT);
}

static void disk_teardown(void)
{
	worker_stop(&worker);
	d.dev = NULL;
	virtio_blk_close(&blk);
	driver_free(&d);
	loop_close(&worker.loop);
	blk_file_close(&file);
	tmp_teardown();
}

/* With rings where the last ones were. */
static void start(void)
{
	d.guest.heap = base + SLOTS * SLOT;
	memset(guest_ptr(&d.guest, d.guest.heap, 5 * 4096), 0, 5 * 4096);
	driver_start(&d, 0, 1, 256);
}

static uint8_t *data_of(unsigned int slot)
{
	return guest_ptr(&d.guest, base + slot * SLOT + 4096, 8 * BLK_SECTOR);
}

static uint8_t status_of(unsigned int slot)
{
	return *(uint8_t *)guest_ptr(&d.guest, base + slot * SLOT + 16, 1);
}

static void add(unsigned int slot, uint32_t type, uint64_t sector, uint32_t sectors)
{
	uint64_t at = base + slot * SLOT;
	struct buffer b[] = {{at, 16, false},
			     {at + 4096, 100, type == T_IN},
			     {at + 4196, sectors * BLK_SECTOR - 100, type == T_IN},
			     {at + 16, 1, true}};
	struct {
		uint32_t type, reserved;
		uint64_t sector;
		uint8_t status;
	} h = {type, 0, sector, S_UNTOUCHED};

	memcpy(guest_ptr(&d.guest, at, 17), &h, 17);
	if (type == T_FLUSH)
		b[1] = b[3];
	ring_add(&d.ring[0], b, type == T_FLUSH ? 2 : 4);
}

static void wait_for(unsigned int n)
{
	while (ring_used_index(&d.ring[0]) < n)
		poll(NULL, 0, 1);
}

/* Rounds of many requests at a time on ranges of their own, against the model. */
static void rounds(unsigned int count)
{
	uint32_t seed = 1;

	for (unsigned int i = 0; i < count; i++) {
		unsigned int slots = 1 + next_random(&seed) % 30;
		uint32_t types[32];

		start();
		for (unsigned int k = 0; k < slots; k++) {
			types[k] = next_random(&seed) % 8 ? next_random(&seed) % 2 : T_FLUSH;
			if (types[k] == T_OUT)
				fill_pattern(data_of(k), 8 * BLK_SECTOR, seed);
			add(k, types[k], k * 8, 8);
		}
		reg_write(&d, REG_QUEUE_NOTIFY, 0);
		wait_for(slots);
		for (unsigned int k = 0; k < slots; k++) {
			uint8_t *at = image + k * 8 * BLK_SECTOR;

			ck_that(status_of(k) == S_OK);
			if (types[k] == T_OUT)
				memcpy(at, data_of(k), 8 * BLK_SECTOR);
			else if (types[k] == T_IN)
				ck_that(!memcmp(at, data_of(k), 8 * BLK_SECTOR));
		}
		driver_reset(&d);
	}
	ck_assert(!memcmp(file_text(tmp_path("disk"), NULL), image, DISK));
}

START_TEST(many_at_a_time)
{
	NEED_URING;
	ck_ok(worker_start(&worker, &e));
	rounds(200);
	ck_assert_int_ge(file.ring.fd, 0);
}
END_TEST

/* A reset in the midst: the driver has its memory back. */
START_TEST(reset_in_the_midst)
{
	NEED_URING;
	ck_ok(worker_start(&worker, &e));
	for (unsigned int i = 0; i < 200; i++) {
		start();
		for (unsigned int k = 0; k < 30; k++)
			add(k, k % 2 ? T_OUT : T_IN, k * 8, 8);
		reg_write(&d, REG_QUEUE_NOTIFY, 0);
		if (i % 3)
			wait_for(i % 3);
		driver_reset(&d);
		memset(guest_ptr(&d.guest, base, SLOTS * SLOT), 0x77, SLOTS * SLOT);
		ck_that(!file.ring.in_flight);
		sched_yield();
		ck_that(all_bytes(guest_ptr(&d.guest, base, SLOTS * SLOT), SLOTS * SLOT, 0x77));
	}
}
END_TEST

/* The thread ends with nothing on its way, and another goes on: a pause. */
START_TEST(threads_come_and_go)
{
	unsigned int answered = 0;

	NEED_URING;
	for (unsigned int i = 0; i < 100; i++) {
		ck_ok(worker_start(&worker, &e));
		start();
		for (unsigned int k = 0; k < 30; k++)
			add(k, T_IN, k * 8, 8);
		reg_write(&d, REG_QUEUE_NOTIFY, 0);
		if (i % 2)
			wait_for(30);
		virtio_blk_drain(&blk);
		worker_stop(&worker);
		virtio_blk_drain(&blk);
		ck_that(!file.ring.in_flight);
		for (unsigned int k = 0; k < 30; k++) {
			ck_that(status_of(k) == S_OK || status_of(k) == S_UNTOUCHED);
			answered += status_of(k) == S_OK;
		}
		driver_reset(&d);
	}
	ck_assert_uint_ge(answered, 50 * 30);
}
END_TEST

START_TEST(errors)
{
	struct rlimit limit = {DISK / 2, RLIM_INFINITY};

	NEED_URING;
	ck_ok(worker_start(&worker, &e));
	start();
	ck_assert(!truncate(tmp_path("disk"), 4 * BLK_SECTOR));
	for (unsigned int k = 0; k < 4; k++)
		add(k, T_IN, k * 2, 2);
	add(4, T_IN, 3, 8);
	reg_write(&d, REG_QUEUE_NOTIFY, 0);
	wait_for(5);
	for (unsigned int k = 0; k < 5; k++)
		ck_assert_uint_eq(status_of(k), k < 2 ? S_OK : S_IOERR);
	/* What does not fit. */
	signal(SIGXFSZ, SIG_IGN);
	ck_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	for (unsigned int k = 5; k < 9; k++)
		add(k, T_OUT, k < 7 ? k * 8 : DISK / 2 / BLK_SECTOR - (k - 7) * 4, 8);
	reg_write(&d, REG_QUEUE_NOTIFY, 0);
	wait_for(9);
	for (unsigned int k = 5; k < 9; k++)
		ck_assert_uint_eq(status_of(k), k < 7 ? S_OK : S_IOERR);
}
END_TEST

/* --- without --- */

/* From now on the host has no io_uring for this process. */
static void forbid_uring(int code)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {ARRAY_SIZE(f), f};

	ck_assert(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_assert(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static void without(int code)
{
	struct uring u;
	unsigned int fds = open_fds();

	forbid_uring(code);
	ck_refused(uring_open(&u, 4, &e), code, "io_uring");
	uring_close(&u);
	ck_assert_uint_eq(open_fds(), fds);
	ck_ok(worker_start(&worker, &e));
	rounds(30);
	ck_assert_int_eq(file.ring.fd, -1);
}

START_TEST(unknown_to_the_host)
{
	without(ENOSYS);
}
END_TEST

START_TEST(forbidden_by_the_host)
{
	without(EPERM);
}
END_TEST

START_TEST(not_asked_for)
{
	file.backend.async = NULL;
	ck_ok(worker_start(&worker, &e));
	rounds(30);
	ck_assert_int_eq(file.ring.fd, -1);
}
END_TEST

/* --- direct I/O --- */

START_TEST(direct)
{
	struct iovec whole;
	uint8_t *buf = aligned_alloc(4096, DISK);
	uint32_t seed = 9;

	if (blk_file_direct(&file, "disk", &e))
		ck_skip(e.text);
	ck_assert(fcntl(file.fd, F_GETFL) & O_DIRECT);
	/* Any alignment, against the model. */
	for (unsigned int i = 0; i < 2000; i++) {
		uint32_t first = next_random(&seed) % SECTORS;
		uint32_t n = 1 + next_random(&seed) % MIN(40u, SECTORS - first),
			 len = n * BLK_SECTOR;
		uint32_t skew = next_random(&seed) % 3 * 512, cut = next_random(&seed) % len;
		struct iovec iov[2] = {{buf + skew, cut}, {buf + skew + cut, len - cut}};
		unsigned int k = cut ? 2 : 1;

		if (!cut)
			iov[0] = iov[1];
		if (next_random(&seed) % 2) {
			fill_pattern(buf + skew, len, seed);
			ck_that(!file.backend.write(&file.backend, iov, k, first * BLK_SECTOR));
			memcpy(image + first * BLK_SECTOR, buf + skew, len);
		} else {
			memset(buf, 0, DISK);
			ck_that(!file.backend.read(&file.backend, iov, k, first * BLK_SECTOR));
			ck_that(!memcmp(buf + skew, image + first * BLK_SECTOR, len));
		}
	}
	whole = (struct iovec){buf, DISK};
	ck_assert_int_eq(file.backend.read(&file.backend, &whole, 1, 0), 0);
	ck_assert(!memcmp(buf, image, DISK));
	ck_assert(!memcmp(file_text(tmp_path("disk"), NULL), image, DISK));
	free(buf);
	/* And in the device, where most of it is not aligned. */
	ck_ok(worker_start(&worker, &e));
	rounds(30);
}
END_TEST

/* Whoever gets the descriptor goes on so: a fork's child. */
START_TEST(direct_by_descriptor)
{
	struct blk_file other;
	struct iovec iov = {image + 1, BLK_SECTOR};

	if (blk_file_direct(&file, "disk", &e))
		ck_skip(e.text);
	ck_ok(blk_file_open_fd(&other, dup(file.fd), true, "disk", &e));
	ck_assert(other.bounce);
	ck_assert_int_eq(other.backend.read(&other.backend, &iov, 1, BLK_SECTOR), 0);
	blk_file_close(&other);
}
END_TEST

START_TEST(direct_of_odd_size)
{
	struct blk_file other;

	ck_ok(blk_file_open(&other, tmp_file("odd", image, 4096 + 512), false, &e));
	ck_refused(blk_file_direct(&other, "odd", &e), EINVAL, "disk odd: its size");
	blk_file_close(&other);
}
END_TEST

static void ring_setup(void)
{
	tmp_setup();
}

int main(void)
{
	const TTest *const ring[] = {transfers, signals, not_in_children};
	const TTest *const disks[] = {
		many_at_a_time,	      reset_in_the_midst,    threads_come_and_go, errors,
		unknown_to_the_host,  forbidden_by_the_host, not_asked_for,	  direct,
		direct_by_descriptor, direct_of_odd_size,
	};
	const struct test_group groups[] = {
		{ring, ARRAY_SIZE(ring), ring_setup, tmp_teardown},
		{disks, ARRAY_SIZE(disks), disk_setup, disk_teardown},
	};

	return run_groups("uring", groups, ARRAY_SIZE(groups));
}
