/* SPDX-License-Identifier: Apache-2.0
 *
 * The file system device over a back end of the test's own, and shares on the command line.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include "devices/virtio_fs.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"
#include "vmm/share.h"

enum { HIPRIO, REQUEST, QUEUES };

static struct driver d;
static struct virtio_fs fs;
static struct err e;

/* --- a back end that notes what it gets --- */

static struct {
	unsigned int requests, resets;
	char last[64];
	uint64_t in_len, out_len;
	int64_t result; /* and so many bytes are written */
} seen;

static int64_t serve(struct fs_backend *b, const struct fs_request *rq)
{
	char text[64];

	(void)b;
	seen.requests++;
	seen.in_len = rq->in_len;
	seen.out_len = rq->out_len;
	memset(seen.last, 0, sizeof(seen.last));
	iov_read(rq->in, rq->ins, 0, seen.last, sizeof(seen.last) - 1);
	memset(text, 'A', sizeof(text));
	if (seen.result > 0)
		iov_write(rq->out, rq->outs, 0, text, (size_t)seen.result);
	return seen.result;
}

static void reset(struct fs_backend *b)
{
	(void)b;
	seen.resets++;
}

static struct fs_backend backend = {.serve = serve, .reset = reset};

static void device_init(struct fs_backend *b)
{
	driver_init(&d);
	ck_ok(virtio_fs_init(&fs, &d.guest.mem, b, "tag", d.irq, &d.loop, &e));
	d.dev = &fs.dev;
}

static void setup(void)
{
	device_init(&backend);
}

static void setup_placeholder(void)
{
	device_init(NULL);
}

static void teardown(void)
{
	driver_free(&d);
}

static void start(void)
{
	driver_start(&d, 0, QUEUES, 8);
}

static uint64_t text_at(const char *text)
{
	uint64_t at = guest_alloc(&d.guest, 4096);

	strcpy(guest_ptr(&d.guest, at, 4096), text);
	return at;
}

/* --- the device --- */

START_TEST(configuration)
{
	uint8_t tag[VIRTIO_FS_TAG + 8] = {0};

	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 26);
	for (unsigned int i = 0; i < sizeof(tag); i++)
		virtio_mmio_ops.read(&fs.dev, REG_CONFIG + i, &tag[i], 1);
	ck_assert_str_eq((char *)tag, "tag");
	ck_that(all_bytes(tag + 3, VIRTIO_FS_TAG - 3, 0));
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG + VIRTIO_FS_TAG), 1);
	for (unsigned int i = 0; i < 8; i++) {
		reg_write(&d, REG_QUEUE_SEL, i);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), i < QUEUES ? VIRTQUEUE_MAX : 0);
	}
}
END_TEST

START_TEST(both_queues)
{
	for (unsigned int queue = 0; queue < QUEUES; queue++) {
		struct used_elem u = {0};
		struct buffer b[3];
		uint16_t head;

		if (!queue)
			start();
		b[0] = (struct buffer){text_at("request, "), 9, false};
		b[1] = (struct buffer){text_at("in two parts"), 12, false};
		b[2] = (struct buffer){text_at("12345"), 5, true};
		seen.result = 4;
		head = ring_add(&d.ring[queue], b, 3);
		driver_kick(&d, queue);
		ck_that(ring_take(&d.ring[queue], &u) && u.id == head && u.len == 4);
		ck_assert_str_eq(seen.last, "request, in two parts");
		ck_that(seen.in_len == 21 && seen.out_len == 5);
		ck_assert_str_eq(guest_ptr(&d.guest, b[2].at, 6), "AAAA5");
		/* One without an answer. */
		seen.result = 0;
		ring_add(&d.ring[queue], b, 2);
		driver_kick(&d, queue);
		ck_that(ring_take(&d.ring[queue], &u) && u.len == 0);
	}
	ck_assert_uint_eq(seen.requests, 4);
}
END_TEST

START_TEST(what_is_no_request)
{
	struct buffer b = {text_at("x"), 1, false};

	start();
	seen.result = -EINVAL;
	ring_add(&d.ring[REQUEST], &b, 1);
	ring_add(&d.ring[REQUEST], &b, 1);
	driver_kick(&d, REQUEST);
	ck_that(driver_sees_failure(&d));
	ck_assert_uint_eq(seen.requests, 1);
	ck_assert_uint_eq(ring_used_index(&d.ring[REQUEST]), 0);
}
END_TEST

START_TEST(resets)
{
	struct buffer b = {text_at("x"), 1, false};

	start();
	ring_add(&d.ring[REQUEST], &b, 1);
	reg_write(&d, REG_QUEUE_NOTIFY, REQUEST);
	driver_reset(&d);
	loop_settle(&d.loop);
	ck_that(seen.resets == 1 && seen.requests == 0);
	start();
	ck_assert_uint_eq(seen.resets, 1);
}
END_TEST

/* More than a round's worth: all of it is served. */
START_TEST(full_queues)
{
	struct buffer b = {text_at("x"), 1, false};

	driver_start(&d, 0, QUEUES, VIRTQUEUE_MAX);
	for (unsigned int i = 0; i < VIRTQUEUE_MAX; i++) {
		ring_add(&d.ring[HIPRIO], &b, 1);
		ring_add(&d.ring[REQUEST], &b, 1);
	}
	driver_kick(&d, REQUEST);
	ck_assert_uint_eq(seen.requests, 2 * VIRTQUEUE_MAX);
}
END_TEST

START_TEST(placeholder_answers)
{
	struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_GETATTR, .unique = 99};
	struct fuse_out_header out;
	struct buffer b[2] = {{guest_alloc(&d.guest, 4096), sizeof(in), false},
			      {guest_alloc(&d.guest, 4096), 100, true}};
	struct used_elem u = {0};

	start();
	memcpy(guest_ptr(&d.guest, b[0].at, sizeof(in)), &in, sizeof(in));
	ring_add(&d.ring[REQUEST], b, 2);
	driver_kick(&d, REQUEST);
	ck_that(ring_take(&d.ring[REQUEST], &u) && u.len == sizeof(out));
	memcpy(&out, guest_ptr(&d.guest, b[1].at, sizeof(out)), sizeof(out));
	ck_that(out.unique == 99 && out.error == -ENODEV && out.len == sizeof(out));
	in.opcode = FUSE_FORGET;
	memcpy(guest_ptr(&d.guest, b[0].at, sizeof(in)), &in, sizeof(in));
	ring_add(&d.ring[HIPRIO], b, 1);
	driver_kick(&d, HIPRIO);
	ck_that(ring_take(&d.ring[HIPRIO], &u) && u.len == 0);
	driver_reset(&d);
	loop_settle(&d.loop);
	start();
	b[0].len = 39;
	ring_add(&d.ring[REQUEST], b, 2);
	driver_kick(&d, REQUEST);
	ck_that(driver_sees_failure(&d));
}
END_TEST

/* --- state --- */

#define KIND "fs-state"

static int load(struct virtio_fs *f, const struct state_writer *w)
{
	struct state_reader r;
	struct state_visitor v = {.r = &r};
	int error = state_open(&r, w->data, w->len, KIND, "state", &e);

	return error ? error : virtio_fs_state(f, 3, &v, &e);
}

static void save(struct state_writer *w)
{
	struct state_visitor v = {.w = w};

	*w = (struct state_writer){0};
	state_begin(w, KIND);
	ck_ok(virtio_fs_state(&fs, 3, &v, &e));
	ck_ok(state_finish(w, &e));
}

START_TEST(state_round_trip)
{
	struct buffer b = {text_at("saved"), 5, false};
	struct virtio_fs other;
	struct state_writer w;

	start();
	ring_add(&d.ring[REQUEST], &b, 1);
	save(&w);
	ck_ok(virtio_fs_init(&other, &d.guest.mem, &backend, NULL, d.irq, &d.loop, &e));
	ck_ok(load(&other, &w));
	virtio_close(&fs.dev);
	d.dev = &other.dev;
	ck_that(!memcmp(other.config.tag, fs.config.tag, VIRTIO_FS_TAG));
	loop_settle(&d.loop);
	ck_that(seen.requests == 1 && !strcmp(seen.last, "saved"));
	state_discard(&w);
}
END_TEST

/* A session that a reset is about to end is not in a state. */
START_TEST(state_of_a_reset)
{
	struct state_writer w;

	start();
	driver_reset(&d);
	save(&w);
	ck_assert_uint_eq(seen.resets, 1);
	state_discard(&w);
}
END_TEST

START_TEST(state_with_a_bad_tag)
{
	static const char *const bad[] = {"", "a b", "a\n", "\x80"};
	struct virtio_fs other;
	struct state_writer w;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(fs.config.tag, 0, VIRTIO_FS_TAG);
		strcpy(fs.config.tag, bad[i]);
		save(&w);
		ck_ok(virtio_fs_init(&other, &d.guest.mem, NULL, NULL, d.irq, &d.loop, &e));
		ck_refused(load(&other, &w), EINVAL, "tag");
		virtio_close(&other.dev);
		state_discard(&w);
	}
}
END_TEST

/* --- the option --- */

START_TEST(option)
{
	static const struct {
		const char *value, *path, *tag;
		bool read_only;
		enum fuse_cache cache;
	} good[] = {
		{"/a:b", "/a", "b", false, FUSE_CACHE_AUTO},
		{"/a:b:ro", "/a", "b", true, FUSE_CACHE_AUTO},
		{"/a:b:cache=none", "/a", "b", false, FUSE_CACHE_NONE},
		{"/a:b:cache=always:ro", "/a", "b", true, FUSE_CACHE_ALWAYS},
		{"/a:b:ro:cache=auto", "/a", "b", true, FUSE_CACHE_AUTO},
		{"/with:colons:b", "/with:colons", "b", false, FUSE_CACHE_AUTO},
		{"placeholder:t", "placeholder", "t", false, FUSE_CACHE_AUTO},
	};
	static const char *const bad[] = {"", "/a", ":", ":tag", "/a:", "/a:b c", "ro", "/a:ro",
					  "/a:b:", "/a:cache=none",
					  "/a:a-tag-that-is-one-character-too-long-"};
	struct share_config cfg;
	char value[100];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		strcpy(value, good[i].value);
		ck_ok(share_parse(&cfg, value, &e));
		ck_assert_str_eq(cfg.path, good[i].path);
		ck_assert_str_eq(cfg.tag, good[i].tag);
		ck_that(cfg.read_only == good[i].read_only && cfg.cache == good[i].cache);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		strcpy(value, bad[i]);
		ck_refused(share_parse(&cfg, value, &e), EINVAL, "'");
	}
}
END_TEST

int main(void)
{
	const TTest *const device[] = {configuration,	 both_queues,	   what_is_no_request,
				       resets,		 full_queues,	   state_round_trip,
				       state_with_a_bad_tag, state_of_a_reset, option};
	const TTest *const placeholder[] = {placeholder_answers};
	const struct test_group groups[] = {
		{device, ARRAY_SIZE(device), setup, teardown},
		{placeholder, ARRAY_SIZE(placeholder), setup_placeholder, teardown}};

	return run_groups("virtio_fs", groups, ARRAY_SIZE(groups));
}
