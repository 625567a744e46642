/* SPDX-License-Identifier: Apache-2.0
 *
 * What several threads share, for ThreadSanitizer: this test's thread is a vCPU, which accesses
 * registers and guest memory, while the device's loop runs on a worker.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/blk_file.h"
#include "devices/fuse_server.h"
#include "devices/net_stream.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"
#include "vmm/console.h"
#include "vmm/worker.h"

#define ROUNDS 200

static struct err e;

/* --- loops and ends --- */

START_TEST(stop_from_another_thread)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct worker w;

		ck_ok(worker_init(&w, &e));
		ck_ok(worker_start(&w, &e));
		worker_stop(&w); /* before, at, or after its first wait */
		worker_stop(&w); /* again: nothing */
		loop_close(&w.loop);
	}
}
END_TEST

struct needed {
	struct loop_source source;
	struct loop *main;
	pthread_t on;
};

static void do_it(struct loop_source *s, uint32_t events)
{
	struct needed *n = CONTAINER_OF(s, struct needed, source);

	(void)events;
	event_take(s->fd);
	n->on = pthread_self();
	loop_stop(n->main);
}

START_TEST(a_thread_when_it_is_needed)
{
	struct loop main;
	struct end end = {.loop = &main};
	struct worker w;
	struct needed n = {.main = &main};

	ck_ok(loop_init(&main, &e));
	ck_ok(worker_init(&w, &e));
	worker_confine(&w, NULL, CONFINE_DISK, &end);
	n.source = (struct loop_source){.fd = event_new(&e), .ready = do_it};
	ck_ok(loop_add(&w.loop, &n.source, EPOLLIN));
	for (unsigned int i = 0; i < ROUNDS; i++) {
		main.stop = false;
		ck_ok(worker_start_when_needed(&w, &main, &e));
		if (i % 2) {
			event_post(n.source.fd);
			ck_assert_int_eq(loop_run(&main), 0);
			ck_that(w.running && !pthread_equal(n.on, pthread_self()));
		} else {
			ck_that(!w.running);
		}
		worker_stop(&w); /* nothing is left that would start it */
		ck_that(!w.running && !w.main);
	}
	loop_del(&w.loop, &n.source);
	close(n.source.fd);
	loop_close(&w.loop);
	loop_close(&main);
}
END_TEST

struct ender {
	struct end *end;
	enum end_reason why;
	pthread_t thread;
};

static void *set_end(void *arg)
{
	struct ender *r = arg;

	end_set(r->end, r->why, "reason %d", r->why);
	return NULL;
}

START_TEST(first_end_wins)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct loop loop;
		struct end end = {.loop = &loop};
		struct ender r[4];
		char text[32];

		ck_ok(loop_init(&loop, &e));
		for (unsigned int k = 0; k < ARRAY_SIZE(r); k++) {
			r[k] = (struct ender){.end = &end, .why = END_POWEROFF + (int)k};
			ck_assert(!pthread_create(&r[k].thread, NULL, set_end, &r[k]));
		}
		ck_assert_int_eq(loop_run(&loop), 0);
		snprintf(text, sizeof(text), "reason %d", end_get(&end));
		ck_assert_str_eq(end.text, text);
		for (unsigned int k = 0; k < ARRAY_SIZE(r); k++)
			pthread_join(r[k].thread, NULL);
		ck_assert_str_eq(end.text, text);
		loop_close(&loop);
	}
}
END_TEST

/* --- a disk --- */

static struct driver driver;
static struct worker worker;
static struct blk_file file;
static struct virtio_blk blk;

#define DISK_SECTORS 64u

static void idle_disk_setup(void)
{
	static uint8_t image[DISK_SECTORS * BLK_SECTOR];

	tmp_setup();
	driver_init(&driver);
	ck_ok(blk_file_open(&file, tmp_file("disk", image, sizeof(image)), false, &e));
	ck_ok(worker_init(&worker, &e));
	ck_ok(virtio_blk_init(&blk, &driver.guest.mem, &file.backend, "", driver.irq, &worker.loop,
			      &e));
	driver.dev = &blk.dev;
}

static void disk_setup(void)
{
	idle_disk_setup();
	ck_ok(worker_start(&worker, &e));
}

static void disk_teardown(void)
{
	worker_stop(&worker);
	driver_free(&driver);
	loop_close(&worker.loop);
	blk_file_close(&file);
	tmp_teardown();
}

struct disk_request {
	uint32_t type, reserved;
	uint64_t sector;
	uint8_t status;
};

/* Adds a write (even) or read (odd) of one sector. */
static void add_request(struct ring *r, uint64_t at, unsigned int i)
{
	struct disk_request *rq = guest_ptr(r->guest, at, sizeof(*rq));
	uint64_t data = at + 64;
	struct buffer b[] = {{at, 16, false},
			     {data, BLK_SECTOR, i % 2},
			     {at + offsetof(struct disk_request, status), 1, true}};

	*rq = (struct disk_request){.type = i % 2 ? 0 : 1, .sector = i % DISK_SECTORS};
	ring_add(r, b, 3);
}

/* Requests by the thousand, each waited for by looking at the used ring. */
static void *drive(void *arg)
{
	uint64_t at = *(uint64_t *)arg;
	struct ring *r = &driver.ring[0];
	struct used_elem u;

	for (unsigned int i = 0; i < 10 * ROUNDS; i++) {
		add_request(r, at, i);
		reg_write(&driver, REG_QUEUE_NOTIFY, 0);
		while (!ring_take(r, &u))
			sched_yield();
		reg_write(&driver, REG_INTERRUPT_ACK, reg_read(&driver, REG_INTERRUPT_STATUS));
	}
	return NULL;
}

/* What another vCPU may do meanwhile: look at registers. */
static void *look(void *arg)
{
	uint8_t data[8];

	for (unsigned int i = 0; i < 100 * ROUNDS; i++)
		virtio_mmio_ops.read(arg, i * 4 % VIRTIO_MMIO_SIZE, data, 4);
	return NULL;
}

START_TEST(disk_under_two_vcpus)
{
	uint64_t at = guest_alloc(&driver.guest, 4096);
	pthread_t a, b;

	driver_start(&driver, 0, 1, 16);
	ck_assert(!pthread_create(&a, NULL, drive, &at));
	ck_assert(!pthread_create(&b, NULL, look, driver.dev));
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	ck_assert_uint_eq(ring_used_index(&driver.ring[0]), (uint16_t)(10 * ROUNDS));
}
END_TEST

/* A reset takes effect at once: from its return on, the old rings are the driver's own again. */
START_TEST(disk_reset_while_busy)
{
	uint64_t at = guest_alloc(&driver.guest, 8192);
	uint64_t heap = driver.guest.heap;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct ring *r = &driver.ring[0];

		driver.guest.heap = heap;
		driver_start(&driver, i % 2 ? VIRTIO_F_EVENT_IDX : 0, 1, 16);
		for (unsigned int k = 0; k < 5; k++)
			add_request(r, at + k * 1024, k * 2);
		reg_write(&driver, REG_QUEUE_NOTIFY, 0);
		for (unsigned int k = 0; k < i % 20; k++)
			sched_yield();
		driver_reset(&driver);
		memset(guest_ptr(&driver.guest, heap, 3 * 4096), 0, 3 * 4096);
		memset(guest_ptr(&driver.guest, at, 8192), 0, 8192);
		ck_assert_uint_eq(reg_read(&driver, REG_STATUS), 0);
	}
}
END_TEST

/* The disk's loop gives it back ends in turn, of capacities whose halves tell them apart. */
static struct blk_backend in_turn[2];
static struct loop_source swap_source;

static void swap_backend(struct loop_source *s, uint32_t events)
{
	static unsigned int turn;

	(void)events;
	event_take(s->fd);
	ck_ok(virtio_blk_set_backend(&blk, &in_turn[turn++ % 2], &e));
}

static uint64_t read_capacity(void)
{
	for (;;) {
		uint32_t before = reg_read(&driver, REG_CONFIG_GENERATION);
		uint64_t low = reg_read(&driver, REG_CONFIG);
		uint64_t high = reg_read(&driver, REG_CONFIG + 4);

		if (reg_read(&driver, REG_CONFIG_GENERATION) == before)
			return high << 32 | low;
	}
}

/* A driver that reads as 4.2.2.1 and 2.5.1 say never sees half of a change. */
START_TEST(capacity_changes)
{
	bool seen[2] = {false, false};

	in_turn[0] = in_turn[1] = file.backend;
	in_turn[0].size = 0x100000001ull * BLK_SECTOR;
	in_turn[1].size = 0x200000002ull * BLK_SECTOR;
	ck_ok(virtio_blk_set_backend(&blk, &in_turn[1], &e));
	swap_source.ready = swap_backend;
	ck_ok(swap_source.fd = event_new(&e));
	ck_ok(loop_add(&worker.loop, &swap_source, EPOLLIN));
	ck_ok(worker_start(&worker, &e));
	driver_start(&driver, 0, 1, 16);
	while (!seen[0] || !seen[1] || reg_read(&driver, REG_CONFIG_GENERATION) < 10 * ROUNDS) {
		uint64_t capacity;

		event_post(swap_source.fd);
		capacity = read_capacity();
		ck_that(capacity == 0x100000001ull || capacity == 0x200000002ull);
		seen[capacity == 0x200000002ull] = true;
	}
	worker_stop(&worker);
	loop_del(&worker.loop, &swap_source);
	close(swap_source.fd);
}
END_TEST

/* --- a network --- */

static struct virtio_net net;
static struct net_stream stream;
static int echo_fd;

#define NET_BYTES 700u /* of a frame: three buffers */
#define NET_PART  256u

static void net_setup(void)
{
	static const uint8_t mac[6] = {2};
	int fd[2];

	driver_init(&driver);
	ck_that(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	ck_ok(net_stream_init(&stream, fd[0], &e));
	echo_fd = fd[1];
	ck_ok(worker_init(&worker, &e));
	ck_ok(virtio_net_init(&net, &driver.guest.mem, mac, 1500, false, driver.irq, &worker.loop,
			      &e));
	ck_ok(virtio_net_set_backend(&net, &stream.backend, &e));
	driver.dev = &net.dev;
	ck_ok(worker_start(&worker, &e));
}

static void net_teardown(void)
{
	worker_stop(&worker);
	driver_free(&driver);
	loop_close(&worker.loop);
	net_stream_close(&stream);
}

static void *echo(void *arg)
{
	static char buf[8192];
	ssize_t n;

	(void)arg;
	while ((n = read(echo_fd, buf, sizeof(buf))) > 0)
		ck_that(write(echo_fd, buf, (size_t)n) == n);
	return NULL;
}

/* As a driver that heeds event indexes: it notifies only where it was asked to. */
static void offer_heeding(unsigned int queue, const struct buffer *b, unsigned int n)
{
	struct ring *r = &driver.ring[queue];
	uint16_t before = r->avail[1];

	ring_add(r, b, n);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(ring_avail_event(r), __ATOMIC_ACQUIRE) == before)
		reg_write(&driver, REG_QUEUE_NOTIFY, queue);
}

static void await_used(unsigned int queue)
{
	struct used_elem u;

	while (!ring_take(&driver.ring[queue], &u))
		sched_yield();
}

/* Each frame comes back over buffers that are added one by one, before it and after; none of them is
 * missed, or the test would not end.
 */
static void *send_and_receive(void *arg)
{
	uint64_t at = *(uint64_t *)arg, in = at + 4096;
	struct buffer out = {at, 12 + NET_BYTES, false};

	for (unsigned int i = 0; i < 10 * ROUNDS; i++) {
		for (unsigned int k = 0; k < 3; k++) {
			struct buffer b = {in + k * NET_PART, NET_PART, true};

			if (k == i % 4)
				offer_heeding(1, &out, 1);
			offer_heeding(0, &b, 1);
		}
		if (i % 4 == 3)
			offer_heeding(1, &out, 1);
		await_used(1);
		for (unsigned int k = 0; k < 3; k++)
			await_used(0);
	}
	return NULL;
}

START_TEST(network_under_two_vcpus)
{
	uint64_t at = guest_alloc(&driver.guest, 8192);
	pthread_t a, b, c;

	driver_start(&driver, VIRTIO_F_EVENT_IDX | 1ull << 15, 2, 16);
	ck_assert(!pthread_create(&c, NULL, echo, NULL));
	ck_assert(!pthread_create(&a, NULL, send_and_receive, &at));
	ck_assert(!pthread_create(&b, NULL, look, driver.dev));
	while (stat_get(&net.stats.rx_frames) < 10 * ROUNDS) {
		ck_that(virtio_net_link(&net));
		sched_yield();
	}
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	shutdown(echo_fd, SHUT_RDWR);
	pthread_join(c, NULL);
	while (virtio_net_link(&net))
		sched_yield();
	close(echo_fd);
}
END_TEST

/* --- a shared directory --- */

static struct virtio_fs fs;
static struct fuse_server *server;

#define FUSE_REQUEST 1u /* the queue */

static void share_setup(void)
{
	tmp_setup();
	driver_init(&driver);
	ck_ok(fuse_server_open(&server, tmp, false, FUSE_CACHE_AUTO, 100, &e));
	ck_ok(worker_init(&worker, &e));
	ck_ok(virtio_fs_init(&fs, &driver.guest.mem, fuse_server_backend(server), "tag", driver.irq,
			     &worker.loop, &e));
	driver.dev = &fs.dev;
	ck_ok(worker_start(&worker, &e));
}

static void share_teardown(void)
{
	worker_stop(&worker);
	driver_free(&driver);
	loop_close(&worker.loop);
	fuse_server_close(server);
	tmp_teardown();
}

#define FUSE_ROOM 256u /* for a request, and behind it for its answer */

/* Puts a request about the root at `at` and into the queue. */
static void add_fuse(uint64_t at, uint32_t opcode, const void *arg, uint32_t len)
{
	uint8_t *to = guest_ptr(&driver.guest, at, 2 * FUSE_ROOM);
	struct fuse_in_header h = {.len = (uint32_t)sizeof(h) + len,
				   .opcode = opcode,
				   .unique = at,
				   .nodeid = FUSE_ROOT_ID};
	struct buffer b[] = {{at, h.len, false}, {at + FUSE_ROOM, FUSE_ROOM, true}};

	memcpy(to, &h, sizeof(h));
	memcpy(to + sizeof(h), arg, len);
	ring_add(&driver.ring[FUSE_REQUEST], b, 2);
}

/* Its answer, which the used index has published. */
static void check_fuse(uint64_t at)
{
	struct fuse_out_header h;

	memcpy(&h, guest_ptr(&driver.guest, at + FUSE_ROOM, sizeof(h)), sizeof(h));
	ck_that(!h.error && h.unique == at && h.len > sizeof(h));
}

static void begin_session(uint64_t at)
{
	struct fuse_init_in in = {.major = 7, .minor = 36};

	add_fuse(at, FUSE_INIT, &in, 16);
	reg_write(&driver, REG_QUEUE_NOTIFY, FUSE_REQUEST);
	await_used(FUSE_REQUEST);
	check_fuse(at);
}

static void *ask_for_attributes(void *arg)
{
	static const struct fuse_getattr_in in;
	uint64_t at = *(uint64_t *)arg;

	begin_session(at);
	for (unsigned int i = 0; i < 5 * ROUNDS; i++) {
		for (unsigned int k = 0; k < 4; k++)
			add_fuse(at + k * 2 * FUSE_ROOM, FUSE_GETATTR, &in, sizeof(in));
		reg_write(&driver, REG_QUEUE_NOTIFY, FUSE_REQUEST);
		for (unsigned int k = 0; k < 4; k++)
			await_used(FUSE_REQUEST);
		for (unsigned int k = 0; k < 4; k++)
			check_fuse(at + k * 2 * FUSE_ROOM);
		reg_write(&driver, REG_INTERRUPT_ACK, reg_read(&driver, REG_INTERRUPT_STATUS));
	}
	return NULL;
}

START_TEST(share_under_two_vcpus)
{
	uint64_t at = guest_alloc(&driver.guest, 4096);
	pthread_t a, b;

	driver_start(&driver, 0, 2, 16);
	ck_assert(!pthread_create(&a, NULL, ask_for_attributes, &at));
	ck_assert(!pthread_create(&b, NULL, look, driver.dev));
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	ck_assert_uint_eq(ring_used_index(&driver.ring[FUSE_REQUEST]), 1 + 20 * ROUNDS);
}
END_TEST

/* As with the disk; and the session is gone with the driver, or the next could not begin. */
START_TEST(share_reset_while_busy)
{
	static const struct fuse_getattr_in in;
	uint64_t at = guest_alloc(&driver.guest, 4096);
	uint64_t heap = driver.guest.heap;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		driver.guest.heap = heap;
		driver_start(&driver, i % 2 ? VIRTIO_F_EVENT_IDX : 0, 2, 16);
		begin_session(at);
		for (unsigned int k = 1; k < 6; k++)
			add_fuse(at + k * 2 * FUSE_ROOM, FUSE_GETATTR, &in, sizeof(in));
		reg_write(&driver, REG_QUEUE_NOTIFY, FUSE_REQUEST);
		for (unsigned int k = 0; k < i % 20; k++)
			sched_yield();
		driver_reset(&driver);
		memset(guest_ptr(&driver.guest, heap, 6 * 4096), 0, 6 * 4096);
		memset(guest_ptr(&driver.guest, at, 4096), 0, 4096);
		ck_assert_uint_eq(reg_read(&driver, REG_STATUS), 0);
	}
}
END_TEST

/* --- a console --- */

static struct serial serial;
static struct console console;
static struct end console_end;

static void *print(void *arg)
{
	for (unsigned int i = 0; i < 100 * ROUNDS; i++) {
		uint8_t byte = (uint8_t)('a' + i % 26);

		serial_ops.write(arg, 0, &byte, 1);
	}
	return NULL;
}

START_TEST(console_under_two_vcpus)
{
	struct console_config cfg = {.mode = CONSOLE_FILE, .path = tmp_path("console")};
	uint8_t request_to_send = 2;
	unsigned int total = 0;
	pthread_t a, b;
	size_t len;

	ck_ok(worker_init(&worker, &e));
	console_end.loop = &worker.loop;
	ck_ok(console_init(&console, &cfg, &serial, &worker.loop, &console_end, &e));
	ck_ok(driver.irq.fd = event_new(&e));
	serial_init(&serial, driver.irq, &(struct serial_host){0});
	serial.host = console_host(&console);
	serial_ops.write(&serial, 4, &request_to_send, 1);
	ck_ok(worker_start(&worker, &e));
	ck_assert(!pthread_create(&a, NULL, print, &serial));
	ck_assert(!pthread_create(&b, NULL, print, &serial));
	/* And a third that types and reads. */
	while (total < 10 * ROUNDS) {
		uint8_t byte;

		total += (unsigned int)serial_input(&serial, (const uint8_t *)"xyz", 3);
		serial_ops.read(&serial, 0, &byte, 1);
	}
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	worker_stop(&worker);
	console_close(&console);
	file_text(cfg.path, &len);
	ck_assert_uint_gt(len, 0);
	loop_close(&worker.loop);
	close(driver.irq.fd);
}
END_TEST

int main(void)
{
	const TTest *const plain[] = {stop_from_another_thread, a_thread_when_it_is_needed,
				      first_end_wins};
	const TTest *const disk[] = {disk_under_two_vcpus, disk_reset_while_busy};
	const TTest *const idle_disk[] = {capacity_changes};
	const TTest *const network[] = {network_under_two_vcpus};
	const TTest *const share[] = {share_under_two_vcpus, share_reset_while_busy};
	const TTest *const terminal[] = {console_under_two_vcpus};
	const struct test_group groups[] = {
		{plain, ARRAY_SIZE(plain), NULL, NULL},
		{disk, ARRAY_SIZE(disk), disk_setup, disk_teardown},
		{idle_disk, ARRAY_SIZE(idle_disk), idle_disk_setup, disk_teardown},
		{network, ARRAY_SIZE(network), net_setup, net_teardown},
		{share, ARRAY_SIZE(share), share_setup, share_teardown},
		{terminal, ARRAY_SIZE(terminal), tmp_setup, tmp_teardown},
	};

	return run_groups("threads", groups, ARRAY_SIZE(groups));
}
