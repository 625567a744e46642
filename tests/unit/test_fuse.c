/* SPDX-License-Identifier: Apache-2.0
 *
 * The FUSE server, with requests as a driver would put them into a chain: in buffers exactly as long
 * as they say, so that whatever is read or written beyond is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fuse.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/fuse_server.h"
#include "tests/unit/util.h"

#define FDS 200

static struct fuse_server *server;
static struct err e;

/* The last answer. */
static uint8_t *answer;
static size_t room, answer_len; /* what it was given; without the header */
static const void *body;

/* As whom requests come. */
static uid_t as_uid;
static gid_t as_gid;

/* --- requests --- */

struct part {
	const void *p;
	size_t len;
};

#define ARG(x)	  ((struct part){&(x), sizeof(x)})
#define TEXT(s)	  ((struct part){s, strlen(s) + 1})
#define NOTHING	  ((struct part){NULL, 0})
#define BIG_ROOM  (16 + 70000)

/* Serves bytes as they are, with out_room bytes for the answer. Returns what the server returns. */
static int64_t serve_raw(const void *bytes, size_t len, size_t out_room)
{
	struct fs_backend *b = fuse_server_backend(server);
	uint8_t *in = malloc(len ? len : 1);
	struct iovec iov[4];
	unsigned int ins = 0, outs = 0;
	struct fs_request rq;
	int64_t r;

	memcpy(in, bytes, len);
	free(answer);
	answer = malloc(out_room ? out_room : 1);
	memset(answer, 0xee, out_room);
	room = out_room;
	/* In two pieces, so that nothing may rely on one. */
	if (len > 24)
		iov[ins++] = (struct iovec){in, 24};
	if (len)
		iov[ins++] = (struct iovec){in + (len > 24 ? 24 : 0), len - (len > 24 ? 24 : 0)};
	if (out_room > 24)
		iov[ins + outs++] = (struct iovec){answer, 24};
	if (out_room)
		iov[ins + outs++] = (struct iovec){answer + (out_room > 24 ? 24 : 0),
						   out_room - (out_room > 24 ? 24 : 0)};
	rq = (struct fs_request){.in = iov,
				 .out = iov + ins,
				 .ins = ins,
				 .outs = outs,
				 .in_len = len,
				 .out_len = out_room};
	r = b->serve(b, &rq);
	ck_that(r <= (int64_t)out_room);
	free(in);
	return r;
}

/* Makes a request in buf; returns its length. */
static size_t compose(uint8_t *buf, uint32_t opcode, uint64_t node, struct part a, struct part b,
		      struct part c)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + a.len + b.len + c.len),
				   .opcode = opcode,
				   .unique = 77,
				   .nodeid = node,
				   .uid = as_uid,
				   .gid = as_gid};
	uint8_t *at = buf;
	const struct part part[] = {{&h, sizeof(h)}, a, b, c};

	for (unsigned int i = 0; i < 4; i++)
		if (part[i].len) {
			memcpy(at, part[i].p, part[i].len);
			at += part[i].len;
		}
	return (size_t)(at - buf);
}

/* Serves a request. Returns the answer's error: 0 or -errno; body and answer_len are the rest. */
static int call3(uint32_t opcode, uint64_t node, struct part a, struct part b, struct part c,
		 size_t out_room)
{
	static uint8_t buf[2 << 20];
	size_t len = compose(buf, opcode, node, a, b, c);
	struct fuse_out_header h;
	int64_t r = serve_raw(buf, len, out_room);

	ck_assert_int_ge(r, (int)sizeof(h));
	memcpy(&h, answer, sizeof(h));
	ck_assert_uint_eq(h.unique, 77);
	ck_assert_int_eq(h.len, r);
	ck_that(h.error <= 0 && h.error > -1000);
	ck_that(!h.error || r == sizeof(h));
	answer_len = (size_t)r - sizeof(h);
	body = answer + sizeof(h);
	return h.error;
}

static int call(uint32_t opcode, uint64_t node, struct part a, struct part b, struct part c)
{
	return call3(opcode, node, a, b, c, BIG_ROOM);
}

static int init_session(uint32_t minor)
{
	struct fuse_init_in in = {.major = 7, .minor = minor, .max_readahead = 1 << 20,
				  .flags = ~0u};

	return call(FUSE_INIT, 0, ARG(in), NOTHING, NOTHING);
}

static uint64_t looked_up(int r)
{
	struct fuse_entry_out out;

	ck_assert_int_eq(r, 0);
	memcpy(&out, body, sizeof(out));
	return out.nodeid;
}

static int lookup(uint64_t dir, const char *name)
{
	return call(FUSE_LOOKUP, dir, TEXT(name), NOTHING, NOTHING);
}

static uint64_t find(uint64_t dir, const char *name)
{
	return looked_up(lookup(dir, name));
}

static struct fuse_attr attr_of(uint64_t node)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	ck_assert_int_eq(call(FUSE_GETATTR, node, ARG(in), NOTHING, NOTHING), 0);
	memcpy(&out, body, sizeof(out));
	return out.attr;
}

static int open_as(uint32_t opcode, uint64_t node, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	int r = call(opcode, node, ARG(in), NOTHING, NOTHING);

	if (!r) {
		memcpy(&out, body, sizeof(out));
		*fh = out.fh;
	}
	return r;
}

static uint64_t opened(uint64_t node, uint32_t flags)
{
	uint64_t fh = 0;

	ck_assert_int_eq(open_as(FUSE_OPEN, node, flags, &fh), 0);
	return fh;
}

static uint64_t opened_dir(uint64_t node)
{
	uint64_t fh = 0;

	ck_assert_int_eq(open_as(FUSE_OPENDIR, node, O_RDONLY, &fh), 0);
	return fh;
}

static int create(uint64_t dir, const char *name, uint32_t flags, uint32_t mode, uint64_t *node,
		  uint64_t *fh)
{
	struct fuse_create_in in = {.flags = flags, .mode = mode | S_IFREG};
	int r = call(FUSE_CREATE, dir, ARG(in), TEXT(name), NOTHING);

	if (!r) {
		struct fuse_open_out open;

		*node = looked_up(0);
		memcpy(&open, (const uint8_t *)body + sizeof(struct fuse_entry_out), sizeof(open));
		*fh = open.fh;
		ck_that(answer_len == sizeof(struct fuse_entry_out) + sizeof(open));
	}
	return r;
}

static int read_at(uint64_t node, uint64_t fh, uint64_t offset, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

	return call(FUSE_READ, node, ARG(in), NOTHING, NOTHING);
}

static int write_at(uint64_t node, uint64_t fh, uint64_t offset, const char *text)
{
	struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)strlen(text)};

	return call(FUSE_WRITE, node, ARG(in), ((struct part){text, strlen(text)}), NOTHING);
}

static int set(uint64_t node, struct fuse_setattr_in in)
{
	return call(FUSE_SETATTR, node, ARG(in), NOTHING, NOTHING);
}

static int make_dir(uint64_t dir, const char *name)
{
	struct fuse_mkdir_in in = {.mode = 0755};

	return call(FUSE_MKDIR, dir, ARG(in), TEXT(name), NOTHING);
}

static int make_node(uint64_t dir, const char *name, uint32_t mode, uint32_t rdev)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = rdev};

	return call(FUSE_MKNOD, dir, ARG(in), TEXT(name), NOTHING);
}

static int rename_to(uint64_t dir, const char *from, uint64_t to_dir, const char *to,
		     uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to_dir, .flags = flags};

	return call(FUSE_RENAME2, dir, ARG(in), TEXT(from), TEXT(to));
}

static int make_link(uint64_t node, uint64_t dir, const char *name)
{
	struct fuse_link_in in = {.oldnodeid = node};

	return call(FUSE_LINK, dir, ARG(in), TEXT(name), NOTHING);
}

static int set_attribute(uint64_t node, const char *name, const char *value)
{
	struct fuse_setxattr_in in = {.size = (uint32_t)strlen(value)};

	return call(FUSE_SETXATTR, node, ((struct part){&in, FUSE_COMPAT_SETXATTR_IN_SIZE}),
		    TEXT(name), ((struct part){value, strlen(value)}));
}

static int get_attribute(uint64_t node, const char *name, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	return call(FUSE_GETXATTR, node, ARG(in), TEXT(name), NOTHING);
}

/* A request without an answer. */
static void silent(uint32_t opcode, uint64_t node, struct part a, struct part b)
{
	static uint8_t buf[100000];
	size_t len = compose(buf, opcode, node, a, b, NOTHING);

	ck_assert_int_eq(serve_raw(buf, len, 0), 0);
	ck_assert_int_eq(serve_raw(buf, len, 64), 0);
	ck_that(all_bytes(answer, 64, 0xee));
}

static void forget(uint64_t node, uint64_t n)
{
	struct fuse_forget_in in = {.nlookup = n};
	static uint8_t buf[100];
	size_t len = compose(buf, FUSE_FORGET, node, ARG(in), NOTHING, NOTHING);

	ck_assert_int_eq(serve_raw(buf, len, 0), 0);
}

/* --- the host's side --- */

static const char *share(const char *name)
{
	char rest[600];

	snprintf(rest, sizeof(rest), "share/%s", name);
	return tmp_path(rest);
}

static void start(bool read_only, enum fuse_cache cache, uint32_t fds)
{
	ck_ok(fuse_server_open(&server, tmp_path("share"), read_only, cache, fds, &e));
}

static void mounted(bool read_only, enum fuse_cache cache, uint32_t fds)
{
	start(read_only, cache, fds);
	ck_assert_int_eq(init_session(36), 0);
}

/* share/{file,dir/inner,link->/outside,fifo,socket} and outside/secret. */
static void setup(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd;

	tmp_setup();
	umask(022);
	ck_that(!mkdir(tmp_path("share"), 0755) && !mkdir(tmp_path("outside"), 0755));
	ck_that(!chmod(tmp, 0755));
	tmp_file("outside/secret", "secret", 6);
	tmp_file("share/file", "content", 7);
	ck_that(!mkdir(share("dir"), 0755));
	tmp_file("share/dir/inner", "inner", 5);
	ck_that(!symlink(tmp_path("outside"), share("link")));
	ck_that(!symlink("file", share("near")));
	ck_that(!mkfifo(share("fifo"), 0644));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_that(!chdir(tmp_path("share")));
	strcpy(un.sun_path, "socket");
	ck_that(!bind(fd, (struct sockaddr *)&un, sizeof(un)));
	close(fd);
	ck_that(!chdir("/"));
	setxattr(share("file"), "trusted.host", "1", 1, 0); /* if possible: the server's thread may not */
}

static void setup_mounted(void)
{
	setup();
	mounted(false, FUSE_CACHE_AUTO, FDS);
}

static void teardown(void)
{
	if (server)
		fuse_server_close(server);
	server = NULL;
	free(answer);
	answer = NULL;
	tmp_teardown();
}

/* --- the session --- */

START_TEST(init_negotiates)
{
	struct fuse_init_out out;
	struct fuse_init_in newer = {.major = 8, .minor = 3};

	start(false, FUSE_CACHE_AUTO, FDS);
	ck_that(!fuse_server_mounted(server));
	ck_assert_int_eq(call(FUSE_INIT, 0, ARG(newer), NOTHING, NOTHING), 0);
	ck_that(!fuse_server_mounted(server));
	ck_assert_int_eq(init_session(30), -EPROTO);
	ck_assert_int_eq(init_session(37), 0);
	ck_that(fuse_server_mounted(server));
	memcpy(&out, body, sizeof(out));
	ck_assert_uint_eq(out.major, 7);
	ck_assert_uint_eq(out.minor, 36);
	ck_that(out.max_pages <= VIRTQUEUE_MAX - 4 && out.max_write == out.max_pages * 4096u);
	ck_that(out.flags & FUSE_DO_READDIRPLUS && out.flags & FUSE_MAX_PAGES);
	ck_that(!(out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_WRITEBACK_CACHE |
			       FUSE_EXPORT_SUPPORT | FUSE_POSIX_ACL)));
	ck_assert_int_eq(init_session(36), -EPROTO); /* twice */
	ck_assert_int_eq(call(FUSE_DESTROY, 0, NOTHING, NOTHING, NOTHING), 0);
	ck_that(!fuse_server_mounted(server));
	ck_assert_int_eq(init_session(31), 0);
	memcpy(&out, body, sizeof(out));
	ck_assert_uint_eq(out.minor, 31);
}
END_TEST

START_TEST(init_of_the_first_length)
{
	struct fuse_init_in in = {.major = 7, .minor = 31};

	start(false, FUSE_CACHE_AUTO, FDS);
	ck_assert_int_eq(call(FUSE_INIT, 0, ((struct part){&in, 15}), NOTHING, NOTHING), -EINVAL);
	ck_assert_int_eq(call(FUSE_INIT, 0, ((struct part){&in, 16}), NOTHING, NOTHING), 0);
}
END_TEST

/* Every opcode, known and not, before INIT: nothing but INIT and DESTROY does anything. */
START_TEST(before_init)
{
	uint8_t zeros[200] = {0};

	start(false, FUSE_CACHE_AUTO, FDS);
	for (uint32_t op = 0; op < 5000; op++) {
		if (op == FUSE_INIT || op == FUSE_DESTROY)
			continue;
		if (op == FUSE_FORGET || op == FUSE_BATCH_FORGET || op == FUSE_INTERRUPT)
			silent(op, 1, ((struct part){zeros, 8}), NOTHING);
		else
			ck_that(call(op, 1, ((struct part){zeros, 8}), NOTHING, NOTHING) < 0);
	}
	ck_that(!fuse_server_mounted(server));
	ck_assert_int_eq(lookup(1, "file"), -EPROTO);
}
END_TEST

START_TEST(reset_ends_a_session)
{
	struct fs_backend *b;
	unsigned int before;

	start(false, FUSE_CACHE_AUTO, FDS);
	before = open_fds();
	init_session(36);
	opened(find(1, "file"), O_RDONLY);
	opened_dir(find(1, "dir"));
	ck_assert_uint_gt(open_fds(), before);
	b = fuse_server_backend(server);
	b->reset(b);
	ck_assert_uint_eq(open_fds(), before);
	ck_assert_int_eq(lookup(1, "file"), -EPROTO);
	b->reset(b);
	ck_assert_int_eq(init_session(36), 0);
	ck_assert_int_eq(lookup(1, "file"), 0);
}
END_TEST

START_TEST(unknown_requests)
{
	uint8_t some[64] = {0};
	const uint32_t not_done[] = {FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_FLUSH, FUSE_BMAP,
				     FUSE_IOCTL, FUSE_POLL, FUSE_NOTIFY_REPLY, FUSE_SETUPMAPPING,
				     FUSE_REMOVEMAPPING, FUSE_TMPFILE, 0, 7, 19, 4096, 0x7fffffff,
				     0xffffffff};

	for (size_t i = 0; i < ARRAY_SIZE(not_done); i++)
		ck_assert_int_eq(call(not_done[i], 1, ((struct part){some, 48}), NOTHING, NOTHING),
				 -ENOSYS);
}
END_TEST

START_TEST(interrupts_are_taken_and_not_answered)
{
	struct fuse_interrupt_in in = {.unique = 77};

	for (unsigned int i = 0; i < 20000; i++) {
		in.unique = i;
		silent(FUSE_INTERRUPT, 0, ARG(in), NOTHING);
	}
	ck_assert_int_eq(lookup(1, "file"), 0);
}
END_TEST

/* --- form --- */

/* What a good guest could send of each kind, the nodes and handles being good, too. */
static struct {
	uint8_t bytes[400];
	size_t len;
} sample[64];
static unsigned int samples;

static void add_sample(uint32_t op, uint64_t node, struct part a, struct part b, struct part c)
{
	sample[samples].len = compose(sample[samples].bytes, op, node, a, b, c);
	samples++;
}

static void make_samples(void)
{
	uint64_t file = find(1, "file"), dir = find(1, "dir"), link = find(1, "link");
	uint64_t fh = opened(file, O_RDWR), dh = opened_dir(dir);
	struct fuse_getattr_in ga = {0};
	struct fuse_setattr_in sa = {.valid = FATTR_MODE | FATTR_SIZE, .mode = 0644, .size = 9};
	struct fuse_mknod_in mn = {.mode = S_IFREG | 0644};
	struct fuse_mkdir_in md = {.mode = 0755};
	struct fuse_rename_in rn = {.newdir = dir};
	struct fuse_rename2_in rn2 = {.newdir = dir};
	struct fuse_link_in ln = {.oldnodeid = file};
	struct fuse_open_in op = {.flags = O_RDWR};
	struct fuse_read_in rd = {.fh = fh, .size = 4096}, rdd = {.fh = dh, .size = 4096};
	struct fuse_write_in wr = {.fh = fh, .size = 4};
	struct fuse_fsync_in fs = {.fh = fh}, fsd = {.fh = dh};
	struct fuse_setxattr_in sx = {.size = 3};
	struct fuse_getxattr_in gx = {.size = 100};
	struct fuse_access_in ac = {.mask = 4};
	struct fuse_create_in cr = {.flags = O_RDWR, .mode = S_IFREG | 0644};
	struct fuse_fallocate_in fa = {.fh = fh, .length = 100};
	struct fuse_lseek_in ls = {.fh = fh, .whence = SEEK_HOLE};
	struct fuse_copy_file_range_in cp = {.fh_in = fh, .nodeid_out = file, .fh_out = fh,
					     .off_out = 100, .len = 4};
	struct fuse_syncfs_in sy = {0};
	struct fuse_forget_in fg = {.nlookup = 1};
	struct fuse_interrupt_in in = {.unique = 1};
	struct {
		struct fuse_batch_forget_in head;
		struct fuse_forget_one one[2];
	} bf = {{2, 0}, {{999, 1}, {998, 1}}};
	struct fuse_release_in rl = {.fh = 12345};

	samples = 0;
	add_sample(FUSE_LOOKUP, 1, TEXT("file"), NOTHING, NOTHING);
	add_sample(FUSE_GETATTR, file, ARG(ga), NOTHING, NOTHING);
	add_sample(FUSE_SETATTR, file, ARG(sa), NOTHING, NOTHING);
	add_sample(FUSE_READLINK, link, NOTHING, NOTHING, NOTHING);
	add_sample(FUSE_SYMLINK, 1, TEXT("sym"), TEXT("target"), NOTHING);
	add_sample(FUSE_MKNOD, 1, ARG(mn), TEXT("node"), NOTHING);
	add_sample(FUSE_MKDIR, 1, ARG(md), TEXT("made"), NOTHING);
	add_sample(FUSE_UNLINK, dir, TEXT("gone"), NOTHING, NOTHING);
	add_sample(FUSE_RMDIR, dir, TEXT("gone"), NOTHING, NOTHING);
	add_sample(FUSE_RENAME, 1, ARG(rn), TEXT("nofile"), TEXT("to"));
	add_sample(FUSE_RENAME2, 1, ARG(rn2), TEXT("nofile"), TEXT("to"));
	add_sample(FUSE_LINK, dir, ARG(ln), TEXT("hard"), NOTHING);
	add_sample(FUSE_OPEN, file, ARG(op), NOTHING, NOTHING);
	add_sample(FUSE_READ, file, ARG(rd), NOTHING, NOTHING);
	add_sample(FUSE_WRITE, file, ARG(wr), ((struct part){"data", 4}), NOTHING);
	add_sample(FUSE_STATFS, 1, NOTHING, NOTHING, NOTHING);
	add_sample(FUSE_RELEASE, file, ARG(rl), NOTHING, NOTHING);
	add_sample(FUSE_FSYNC, file, ARG(fs), NOTHING, NOTHING);
	add_sample(FUSE_SETXATTR, file, ((struct part){&sx, 8}), TEXT("user.x"),
		   ((struct part){"abc", 3}));
	add_sample(FUSE_GETXATTR, file, ARG(gx), TEXT("user.x"), NOTHING);
	add_sample(FUSE_LISTXATTR, file, ARG(gx), NOTHING, NOTHING);
	add_sample(FUSE_REMOVEXATTR, file, TEXT("user.x"), NOTHING, NOTHING);
	add_sample(FUSE_OPENDIR, dir, ARG(op), NOTHING, NOTHING);
	add_sample(FUSE_READDIR, dir, ARG(rdd), NOTHING, NOTHING);
	add_sample(FUSE_READDIRPLUS, dir, ARG(rdd), NOTHING, NOTHING);
	add_sample(FUSE_RELEASEDIR, dir, ARG(rl), NOTHING, NOTHING);
	add_sample(FUSE_FSYNCDIR, dir, ARG(fsd), NOTHING, NOTHING);
	add_sample(FUSE_ACCESS, file, ARG(ac), NOTHING, NOTHING);
	add_sample(FUSE_CREATE, 1, ARG(cr), TEXT("new"), NOTHING);
	add_sample(FUSE_FALLOCATE, file, ARG(fa), NOTHING, NOTHING);
	add_sample(FUSE_LSEEK, file, ARG(ls), NOTHING, NOTHING);
	add_sample(FUSE_COPY_FILE_RANGE, file, ARG(cp), NOTHING, NOTHING);
	add_sample(FUSE_SYNCFS, 1, ARG(sy), NOTHING, NOTHING);
	add_sample(FUSE_FORGET, 12345, ARG(fg), NOTHING, NOTHING);
	add_sample(FUSE_BATCH_FORGET, 0, ARG(bf), NOTHING, NOTHING);
	add_sample(FUSE_INTERRUPT, 0, ARG(in), NOTHING, NOTHING);
}

static bool has_no_answer(const uint8_t *bytes)
{
	const struct fuse_in_header *h = (const void *)bytes;

	return h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET ||
	       h->opcode == FUSE_INTERRUPT;
}

static int error_of(int64_t r)
{
	struct fuse_out_header h;

	ck_that(r >= (int64_t)sizeof(h));
	memcpy(&h, answer, sizeof(h));
	return h.error;
}

/* Cut after each byte, with the header's length as it was and as it is. */
START_TEST(truncated_requests)
{
	make_samples();
	for (unsigned int i = 0; i < samples; i++) {
		struct fuse_in_header h;

		memcpy(&h, sample[i].bytes, sizeof(h));
		for (size_t len = 0; len < sample[i].len; len++) {
			int64_t r = serve_raw(sample[i].bytes, len, BIG_ROOM);

			if (len < sizeof(h)) {
				ck_assert_int_eq(r, -EINVAL);
				continue;
			}
			if (has_no_answer(sample[i].bytes)) {
				ck_assert_int_eq(r, 0);
				continue;
			}
			ck_that(error_of(r) == -EINVAL);
			h.len = (uint32_t)len;
			memcpy(sample[i].bytes, &h, sizeof(h));
			r = serve_raw(sample[i].bytes, len, BIG_ROOM);
			ck_that(error_of(r) == -EINVAL);
			h.len = (uint32_t)sample[i].len;
			memcpy(sample[i].bytes, &h, sizeof(h));
		}
	}
}
END_TEST

/* With no room, too little room, and more bytes than belong there. */
START_TEST(answers_with_too_little_room)
{
	make_samples();
	for (unsigned int i = 0; i < samples; i++)
		for (size_t n = 0; n < 200; n++) {
			int64_t r = serve_raw(sample[i].bytes, sample[i].len, n);

			ck_that(r >= 0 && r <= (int64_t)n);
			ck_that(n >= 16 || r == 0);
		}
}
END_TEST

START_TEST(too_long_requests)
{
	uint8_t big[300000];

	make_samples();
	for (unsigned int i = 0; i < samples; i++) {
		struct fuse_in_header h;

		memcpy(&h, sample[i].bytes, sizeof(h));
		memset(big, 'x', sizeof(big));
		memcpy(big, sample[i].bytes, sample[i].len);
		for (size_t len = sample[i].len + 1; len <= sizeof(big); len = len * 3 / 2) {
			int64_t r;

			h.len = (uint32_t)len;
			memcpy(big, &h, sizeof(h));
			r = serve_raw(big, len, BIG_ROOM);
			ck_that(has_no_answer(big) ? r == 0 : error_of(r) == -EINVAL);
		}
	}
}
END_TEST

START_TEST(names)
{
	static const struct {
		const char *name;
		int error;
	} bad[] = {{"", -EINVAL},	 {".", -EINVAL},      {"..", -EINVAL},
		   {"/", -EINVAL},	 {"../outside", -EINVAL}, {"dir/inner", -EINVAL},
		   {"/etc/passwd", -EINVAL}, {"dir/", -EINVAL},   {"./file", -EINVAL}};
	char longer[5001];
	uint64_t file = find(1, "file");

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(lookup(1, bad[i].name), bad[i].error);
		ck_assert_int_eq(make_dir(1, bad[i].name), bad[i].error);
		ck_assert_int_eq(make_node(1, bad[i].name, S_IFREG, 0), bad[i].error);
		ck_assert_int_eq(call(FUSE_UNLINK, 1, TEXT(bad[i].name), NOTHING, NOTHING),
				 bad[i].error);
		ck_assert_int_eq(call(FUSE_RMDIR, 1, TEXT(bad[i].name), NOTHING, NOTHING),
				 bad[i].error);
		ck_assert_int_eq(rename_to(1, bad[i].name, 1, "x", 0), bad[i].error);
		ck_assert_int_eq(rename_to(1, "file", 1, bad[i].name, 0), bad[i].error);
		ck_assert_int_eq(make_link(file, 1, bad[i].name), bad[i].error);
		ck_assert_int_eq(call(FUSE_SYMLINK, 1, TEXT(bad[i].name), TEXT("x"), NOTHING),
				 bad[i].error);
	}
	memset(longer, 'n', 5000);
	longer[5000] = 0;
	ck_assert_int_eq(lookup(1, longer), -ENAMETOOLONG);
	longer[256] = 0;
	ck_assert_int_eq(lookup(1, longer), -ENAMETOOLONG);
	longer[255] = 0;
	ck_assert_int_eq(lookup(1, longer), -ENOENT);
	ck_assert_int_eq(make_dir(1, longer), 0);
	/* Two names where there is to be one, and one where there are to be two. */
	ck_assert_int_eq(call(FUSE_LOOKUP, 1, TEXT("file"), TEXT("file"), NOTHING), -EINVAL);
	ck_assert_int_eq(call(FUSE_SYMLINK, 1, TEXT("a"), NOTHING, NOTHING), -EINVAL);
	ck_assert_int_eq(call(FUSE_LOOKUP, 1, ((struct part){"file", 4}), NOTHING, NOTHING),
			 -EINVAL);
	ck_assert_int_eq(access(share("x"), F_OK), -1);
}
END_TEST

/* --- nodes and handles --- */

START_TEST(nodes_never_given)
{
	const uint64_t bad[] = {0,	    2,		  3,	      64,	65,	 1ull << 32,
				1ull << 32 | 1, ~0ull,	  ~0ull << 32, 0xffffffffull, 1ull << 63,
				0x80000000ull};
	struct fuse_getattr_in in = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(call(FUSE_GETATTR, bad[i], ARG(in), NOTHING, NOTHING), -ESTALE);
		ck_assert_int_eq(lookup(bad[i], "file"), -ESTALE);
		ck_assert_int_eq(rename_to(1, "file", bad[i], "x", 0), -ESTALE);
		ck_assert_int_eq(make_link(bad[i], 1, "x"), -ESTALE);
		forget(bad[i], 1);
		forget(bad[i], ~0ull);
	}
	ck_assert_int_eq(lookup(1, "file"), 0);
}
END_TEST

START_TEST(forgotten_nodes)
{
	uint64_t file = find(1, "file"), again, other;
	struct fuse_getattr_in in = {0};
	unsigned int fds = open_fds();

	ck_assert_uint_eq(find(1, "file"), file); /* two lookups, one node */
	ck_assert_uint_eq(open_fds(), fds);
	forget(file, 1);
	ck_assert_int_eq(call(FUSE_GETATTR, file, ARG(in), NOTHING, NOTHING), 0);
	forget(file, 1);
	ck_assert_uint_eq(open_fds(), fds - 1);
	ck_assert_int_eq(call(FUSE_GETATTR, file, ARG(in), NOTHING, NOTHING), -ESTALE);
	again = find(1, "dir"); /* in the same slot */
	ck_that(again != file && (uint32_t)again == (uint32_t)file);
	ck_assert_int_eq(call(FUSE_GETATTR, file, ARG(in), NOTHING, NOTHING), -ESTALE);
	forget(file, 1);
	ck_assert_int_eq(call(FUSE_GETATTR, again, ARG(in), NOTHING, NOTHING), 0);
	forget(again, 1000); /* more than there were */
	ck_assert_int_eq(call(FUSE_GETATTR, again, ARG(in), NOTHING, NOTHING), -ESTALE);
	forget(1, ~0ull); /* the root stays */
	forget(1, ~0ull);
	other = find(1, "file");
	forget(other, 1);
	ck_assert_uint_eq(open_fds(), fds - 1);
}
END_TEST

START_TEST(batches_of_forgets)
{
	struct {
		struct fuse_batch_forget_in head;
		struct fuse_forget_one one[3];
	} in = {{3, 0}, {{find(1, "file"), 1}, {find(1, "dir"), 1}, {777, 5}}};
	struct fuse_batch_forget_in many = {.count = ~0u};
	unsigned int fds = open_fds();

	in.head.count = 1;
	silent(FUSE_BATCH_FORGET, 0, ARG(in), NOTHING);
	ck_assert_uint_eq(open_fds(), fds - 1);
	in.head.count = ~0u; /* more than there are */
	silent(FUSE_BATCH_FORGET, 0, ARG(in), NOTHING);
	ck_assert_uint_eq(open_fds(), fds - 2);
	silent(FUSE_BATCH_FORGET, 0, ARG(many), NOTHING);
}
END_TEST

START_TEST(handles)
{
	uint64_t file = find(1, "file"), dir = find(1, "dir");
	uint64_t fh = opened(file, O_RDONLY), dh = opened_dir(dir);
	const uint64_t bad[] = {0, 64, 65, 1000, ~0ull, 1ull << 32, fh | 1ull << 40, dh};
	struct fuse_release_in rl = {.fh = fh}, rd = {.fh = dh};
	struct fuse_read_in in = {.size = 100};
	struct fuse_fsync_in fs = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(read_at(file, bad[i], 0, 10), -EBADF);
		ck_assert_int_eq(write_at(file, bad[i], 0, "x"), -EBADF);
		fs.fh = bad[i];
		ck_assert_int_eq(call(FUSE_FSYNC, file, ARG(fs), NOTHING, NOTHING), -EBADF);
	}
	/* A directory's where a file's is wanted, and the other way round. */
	in.fh = fh;
	ck_assert_int_eq(call(FUSE_READDIR, dir, ARG(in), NOTHING, NOTHING), -EBADF);
	ck_assert_int_eq(call(FUSE_READDIRPLUS, dir, ARG(in), NOTHING, NOTHING), -EBADF);
	ck_assert_int_eq(call(FUSE_RELEASE, dir, ARG(rd), NOTHING, NOTHING), -EBADF);
	ck_assert_int_eq(call(FUSE_RELEASEDIR, file, ARG(rl), NOTHING, NOTHING), -EBADF);
	fs.fh = fh;
	ck_assert_int_eq(call(FUSE_FSYNCDIR, dir, ARG(fs), NOTHING, NOTHING), -EBADF);
	/* One that only reads. */
	ck_assert_int_eq(write_at(file, fh, 0, "x"), -EBADF);
	ck_assert_int_eq(read_at(file, fh, 0, 100), 0);
	ck_that(answer_len == 7 && !memcmp(body, "content", 7));
	ck_assert_int_eq(call(FUSE_RELEASE, file, ARG(rl), NOTHING, NOTHING), 0);
	ck_assert_int_eq(read_at(file, fh, 0, 100), -EBADF);
	ck_assert_int_eq(call(FUSE_RELEASE, file, ARG(rl), NOTHING, NOTHING), -EBADF);
	ck_assert_int_eq(call(FUSE_RELEASEDIR, dir, ARG(rd), NOTHING, NOTHING), 0);
}
END_TEST

START_TEST(descriptors_run_out)
{
	uint64_t file, fh, node;
	unsigned int n = 0, open = 0;
	char name[20];
	int r = 0;

	for (unsigned int i = 0; i < FDS + 10; i++) {
		snprintf(name, sizeof(name), "share/many%u", i);
		tmp_file(name, "", 0);
	}
	file = find(1, "file");
	while (!r) {
		snprintf(name, sizeof(name), "many%u", n++);
		r = lookup(1, name);
	}
	ck_assert_int_eq(r, -ENFILE);
	ck_assert_uint_eq(n - 1 + 2, FDS / 4 * 3); /* with the root and the file */
	/* What is known can be used; what is new cannot be made. */
	ck_assert_int_eq(lookup(1, "many0"), 0);
	ck_assert_int_eq(make_dir(1, "new"), -ENFILE);
	ck_assert_int_eq(create(1, "new", O_RDWR, 0644, &node, &fh), -ENFILE);
	ck_assert_int_eq(access(share("new"), F_OK), -1);
	while (!(r = open_as(FUSE_OPEN, file, O_RDONLY, &fh)))
		open++;
	ck_assert_int_eq(r, -ENFILE);
	ck_assert_uint_eq(open, FDS / 4);
	ck_assert_int_eq(open_as(FUSE_OPENDIR, 1, O_RDONLY, &node), -ENFILE);
	ck_assert_int_eq(read_at(file, fh, 0, 10), 0);
	ck_assert_uint_lt(open_fds(), FDS + 10);
	/* A list of the directory goes on, with names only. */
	forget(find(1, "many1"), 3);
	ck_assert_int_eq(lookup(1, "many1"), 0);
}
END_TEST

/* --- files --- */

START_TEST(create_write_read)
{
	uint64_t node, fh, node2, fh2;
	struct stat st;

	as_uid = geteuid() ? 0 : 1234;
	as_gid = geteuid() ? 0 : 2345;
	ck_that(!chmod(tmp_path("share"), 0777));
	ck_assert_int_eq(create(1, "new", O_RDWR, 06751, &node, &fh), 0);
	ck_assert_int_eq(write_at(node, fh, 3, "hello"), 0);
	ck_assert_int_eq(read_at(node, fh, 0, 100), 0);
	ck_that(answer_len == 8 && !memcmp(body, "\0\0\0hello", 8));
	ck_assert_int_eq(read_at(node, fh, 4, 2), 0);
	ck_that(answer_len == 2 && !memcmp(body, "el", 2));
	ck_that(!stat(share("new"), &st));
	ck_assert_uint_eq(st.st_uid, geteuid() ? geteuid() : 1234);
	ck_assert_uint_eq(st.st_gid, geteuid() ? getegid() : 2345);
	ck_assert_uint_eq(attr_of(node).size, 8);
	/* Once more: as it is, unless it must be new. */
	ck_assert_int_eq(create(1, "new", O_RDWR | O_EXCL, 0600, &node2, &fh2), -EEXIST);
	ck_assert_int_eq(create(1, "new", O_RDWR, 0600, &node2, &fh2), 0);
	ck_that(node == node2 && fh != fh2);
	ck_assert_int_eq(create(1, "new", O_RDWR | O_TRUNC, 0600, &node2, &fh2), 0);
	ck_assert_uint_eq(attr_of(node).size, 0);
	ck_assert_int_eq(create(1, "dir", O_RDWR, 0600, &node2, &fh2), -EISDIR);
	ck_assert_int_eq(create(1, "link", O_RDWR, 0600, &node2, &fh2), -ENXIO);
	ck_assert_int_eq(create(1, "fifo", O_RDWR, 0600, &node2, &fh2), -ENXIO);
	ck_assert_int_eq(create(1, "new2", O_ACCMODE, 0600, &node2, &fh2), -EINVAL);
	/* The old owner is not forgotten where it was changed. */
	as_uid = as_gid = 0;
	ck_assert_int_eq(create(1, "root's", O_WRONLY, 0600, &node2, &fh2), 0);
	ck_that(!stat(share("root's"), &st) && st.st_uid == geteuid() && st.st_gid == getegid());
}
END_TEST

START_TEST(append)
{
	uint64_t file = find(1, "file"), fh = opened(file, O_WRONLY | O_APPEND);
	struct fuse_write_in in = {.fh = fh, .size = 4, .flags = O_WRONLY | O_APPEND};

	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(in), ((struct part){"more", 4}), NOTHING), 0);
	ck_assert_str_eq(file_text(share("file"), NULL), "contentmore");
	in.write_flags = FUSE_WRITE_CACHE; /* a page has its place */
	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(in), ((struct part){"page", 4}), NOTHING), 0);
	ck_assert_str_eq(file_text(share("file"), NULL), "pageentmore");
}
END_TEST

START_TEST(huge_offsets_and_sizes)
{
	uint64_t file = find(1, "file"), fh = opened(file, O_RDWR);
	const uint64_t huge[] = {1ull << 63, ~0ull, ~0ull - 4095, INT64_MAX, INT64_MAX - 1};
	struct fuse_write_in wr = {.fh = fh, .size = 100};
	struct fuse_fallocate_in fa = {.fh = fh};
	struct fuse_lseek_in ls = {.fh = fh, .whence = SEEK_DATA};
	struct fuse_copy_file_range_in cp = {.fh_in = fh, .fh_out = fh};

	for (size_t i = 0; i < ARRAY_SIZE(huge); i++) {
		int r = read_at(file, fh, huge[i], 4096);

		ck_that(r < 0 || answer_len == 0);
		ck_that(write_at(file, fh, huge[i], "x") < 0);
		ck_that(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = huge[i]}) < 0);
		fa.offset = huge[i];
		fa.length = 10;
		ck_that(call(FUSE_FALLOCATE, file, ARG(fa), NOTHING, NOTHING) < 0);
		fa.offset = 10;
		fa.length = huge[i];
		ck_that(call(FUSE_FALLOCATE, file, ARG(fa), NOTHING, NOTHING) < 0);
		ls.offset = huge[i];
		ck_that(call(FUSE_LSEEK, file, ARG(ls), NOTHING, NOTHING) < 0);
		cp.off_in = huge[i];
		r = call(FUSE_COPY_FILE_RANGE, file, ARG(cp), NOTHING, NOTHING);
		cp.off_in = 0;
		cp.off_out = huge[i];
		cp.len = 4;
		ck_that(call(FUSE_COPY_FILE_RANGE, file, ARG(cp), NOTHING, NOTHING) < 0);
	}
	/* A size that is not what came. */
	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(wr), ((struct part){"four", 4}), NOTHING), -EINVAL);
	wr.size = ~0u;
	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(wr), ((struct part){"four", 4}), NOTHING), -EINVAL);
	wr.size = 0;
	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(wr), NOTHING, NOTHING), 0);
	/* More than there is room for is what there is room for. */
	ck_assert_int_eq(read_at(file, fh, 0, ~0u), 0);
	ck_assert_uint_eq(answer_len, 7);
	{
		struct fuse_read_in rd = {.fh = fh, .size = ~0u};

		ck_assert_int_eq(call3(FUSE_READ, file, ARG(rd), NOTHING, NOTHING, 16 + 3), 0);
		ck_that(answer_len == 3 && !memcmp(body, "con", 3));
		ck_assert_int_eq(call3(FUSE_READ, file, ARG(rd), NOTHING, NOTHING, 16), 0);
		ck_assert_uint_eq(answer_len, 0);
	}
	ls.whence = SEEK_SET;
	ls.offset = 0;
	ck_assert_int_eq(call(FUSE_LSEEK, file, ARG(ls), NOTHING, NOTHING), -EINVAL);
	fa = (struct fuse_fallocate_in){.fh = fh, .length = 10, .mode = ~0u};
	ck_assert_int_eq(call(FUSE_FALLOCATE, file, ARG(fa), NOTHING, NOTHING), -EOPNOTSUPP);
	ck_assert_str_eq(file_text(share("file"), NULL), "content");
}
END_TEST

START_TEST(attributes_are_set)
{
	uint64_t file = find(1, "file"), link = find(1, "link");
	struct fuse_setattr_in times = {.valid = FATTR_ATIME | FATTR_MTIME,
					.atime = 1000,
					.mtime = 2000,
					.atimensec = 5,
					.mtimensec = 0x3fffffff}; /* UTIME_NOW, which it is not to be */
	struct fuse_attr a;
	struct stat st;

	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0604}), 0);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 3}), 0);
	ck_assert_int_eq(set(file, times), 0);
	a = attr_of(file);
	ck_assert_uint_eq(a.mode, S_IFREG | 0604);
	ck_assert_uint_eq(a.size, 3);
	ck_that(a.atime == 1000 && a.mtime == 2000 && a.atimensec == 5 && a.mtimensec == 999999999);
	/* A link is not followed. */
	ck_assert_int_eq(set(link, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0}), -EOPNOTSUPP);
	ck_assert_int_eq(set(link, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EINVAL);
	ck_assert_int_eq(set(link, times), 0);
	ck_that(!stat(tmp_path("outside"), &st) && st.st_mode == (S_IFDIR | 0755) && st.st_mtime > 2000);
	ck_assert_int_eq(set(find(1, "dir"), (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EISDIR);
	ck_assert_int_eq(set(find(1, "fifo"), (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EINVAL);
	if (geteuid())
		return;
	ck_assert_int_eq(set(link, (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_GID, .uid = 7, .gid = 8}), 0);
	ck_that(!stat(tmp_path("outside"), &st) && st.st_uid == 0);
	ck_that(!lstat(share("link"), &st) && st.st_uid == 7 && st.st_gid == 8);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_MODE, .uid = 7, .mode = 06755}), 0);
	ck_that(!stat(share("file"), &st) && st.st_uid == 7 && (st.st_mode & 07777) == 06755);
}
END_TEST

/* Set-ID bits go where a guest's user writes, and stay where its root does. */
START_TEST(set_id_bits)
{
	uint64_t file = find(1, "file"), fh = opened(file, O_RDWR), node, fh2;
	struct fuse_write_in wr = {.fh = fh, .size = 1};
	struct stat st;

	if (geteuid())
		ck_skip("not root");
	ck_that(!chown(share("dir"), 0, 50) && !chmod(share("dir"), 02777));
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 06755}), 0);
	ck_assert_int_eq(write_at(file, fh, 0, "x"), 0);
	ck_assert_uint_eq(attr_of(file).mode & 07777, 06755);
	wr.write_flags = FUSE_WRITE_KILL_SUIDGID;
	ck_assert_int_eq(call(FUSE_WRITE, file, ARG(wr), ((struct part){"y", 1}), NOTHING), 0);
	ck_assert_uint_eq(attr_of(file).mode & 07777, 0755);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 06755}), 0);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 1}), 0);
	ck_assert_uint_eq(attr_of(file).mode & 07777, 0755);
	/* In a set-group-ID directory a user gets no program of a group that he is not in. */
	as_uid = as_gid = 1234;
	ck_assert_int_eq(create(find(1, "dir"), "theirs", O_RDWR, 02775, &node, &fh2), 0);
	ck_that(!stat(share("dir/theirs"), &st));
	ck_that(st.st_gid == 50 && st.st_uid == 1234);
	ck_assert_uint_eq(st.st_mode & 07777, 0775);
}
END_TEST

START_TEST(links_and_names)
{
	uint64_t file = find(1, "file"), dir = find(1, "dir"), link = find(1, "link"), node;
	struct stat st, outside;

	ck_assert_int_eq(call(FUSE_READLINK, link, NOTHING, NOTHING, NOTHING), 0);
	ck_that(answer_len == strlen(tmp_path("outside")) &&
		!memcmp(body, tmp_path("outside"), answer_len));
	ck_assert_int_eq(call(FUSE_READLINK, file, NOTHING, NOTHING, NOTHING), -EINVAL);
	ck_assert_int_eq(lookup(link, "secret"), -ENOTDIR);
	ck_assert_int_eq(lookup(file, "x"), -ENOTDIR);
	ck_assert_int_eq(make_dir(link, "made"), -ENOTDIR);
	ck_assert_int_eq(rename_to(1, "file", link, "moved", 0), -ENOTDIR);
	ck_assert_int_eq(make_link(file, link, "hard"), -ENOTDIR);
	/* A hard link to a link is one to the link. */
	ck_assert_int_eq(make_link(link, 1, "link2"), 0);
	ck_that(!lstat(share("link2"), &st) && S_ISLNK(st.st_mode) && st.st_nlink == 2);
	node = looked_up(make_link(file, dir, "hard"));
	ck_assert_uint_eq(node, file);
	ck_assert_uint_eq(attr_of(file).nlink, 2);
	ck_assert_int_eq(call(FUSE_SYMLINK, 1, TEXT("sym"), TEXT("../../etc/passwd"), NOTHING), 0);
	ck_assert_uint_eq(((const struct fuse_entry_out *)body)->attr.mode & S_IFMT, S_IFLNK);
	/* Over itself, over others, and into itself. */
	ck_assert_int_eq(rename_to(1, "file", 1, "file", 0), 0);
	ck_assert_int_eq(rename_to(1, "file", 1, "link", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(rename_to(1, "file", 1, "link", RENAME_EXCHANGE), 0);
	ck_that(!lstat(share("file"), &st) && S_ISLNK(st.st_mode));
	ck_assert_int_eq(rename_to(1, "file", 1, "link", RENAME_EXCHANGE), 0);
	ck_assert_int_eq(rename_to(1, "file", 1, "x", 8), -EINVAL);
	ck_assert_int_eq(rename_to(1, "dir", dir, "inside", 0), -EINVAL);
	ck_assert_int_eq(rename_to(1, "nothing", 1, "x", 0), -ENOENT);
	ck_assert_int_eq(rename_to(1, "file", dir, "moved", 0), 0);
	ck_assert_int_eq(access(share("dir/moved"), F_OK), 0);
	ck_assert_uint_eq(find(dir, "moved"), file);
	ck_assert_int_eq(call(FUSE_RMDIR, 1, TEXT("dir"), NOTHING, NOTHING), -ENOTEMPTY);
	ck_assert_int_eq(call(FUSE_UNLINK, 1, TEXT("dir"), NOTHING, NOTHING), -EISDIR);
	ck_assert_int_eq(call(FUSE_RMDIR, 1, TEXT("link"), NOTHING, NOTHING), -ENOTDIR);
	ck_assert_int_eq(call(FUSE_UNLINK, 1, TEXT("link"), NOTHING, NOTHING), 0);
	ck_that(!stat(tmp_path("outside/secret"), &outside));
}
END_TEST

/* Nothing but files and directories is opened, whoever asks, and no devices are made. */
START_TEST(what_is_no_file)
{
	static const char *const name[] = {"fifo", "socket", "link", "near", "whiteout"};
	uint64_t fh;

	if (!geteuid())
		ck_assert_int_eq(make_node(1, "whiteout", S_IFCHR, 0), 0);
	ck_assert_int_eq(make_node(1, "null", S_IFCHR | 0666, 0x103), -EPERM);
	ck_assert_int_eq(make_node(1, "disk", S_IFBLK | 0666, 0), -EPERM);
	ck_assert_int_eq(make_node(1, "odd", 0, 0), -EINVAL);
	ck_assert_int_eq(make_node(1, "dir2", S_IFDIR, 0), -EINVAL);
	ck_assert_int_eq(make_node(1, "fifo2", S_IFIFO | 0644, 0), 0);
	ck_assert_int_eq(make_node(1, "socket2", S_IFSOCK | 0644, 0), 0);
	ck_assert_int_eq(make_node(1, "file2", S_IFREG | 0644, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(name) - !!geteuid(); i++) {
		uint64_t node = find(1, name[i]);

		ck_assert_int_eq(open_as(FUSE_OPEN, node, O_RDONLY, &fh), -ENXIO);
		ck_assert_int_eq(open_as(FUSE_OPEN, node, O_RDWR | O_TRUNC, &fh), -ENXIO);
		ck_assert_int_eq(open_as(FUSE_OPENDIR, node, O_RDONLY, &fh), -ENOTDIR);
		ck_assert_int_eq(set_attribute(node, "user.x", "y"), -EOPNOTSUPP);
		ck_that(attr_of(node).ino);
	}
	ck_assert_int_eq(open_as(FUSE_OPEN, find(1, "dir"), O_RDONLY, &fh), -EISDIR);
	ck_assert_int_eq(open_as(FUSE_OPENDIR, find(1, "file"), O_RDONLY, &fh), -ENOTDIR);
}
END_TEST

START_TEST(extended_attributes)
{
	uint64_t file = find(1, "file");
	struct fuse_getxattr_in in = {0}, room100 = {.size = 100};
	char longer[300];

	if (setxattr(share("file"), "user.host", "1", 1, 0))
		ck_skip("no extended attributes here");
	ck_assert_int_eq(set_attribute(file, "user.guest", "value"), 0);
	ck_assert_int_eq(get_attribute(file, "user.guest", 100), 0);
	ck_that(answer_len == 5 && !memcmp(body, "value", 5));
	ck_assert_int_eq(get_attribute(file, "user.guest", 0), 0);
	ck_assert_uint_eq(((const struct fuse_getxattr_out *)body)->size, 5);
	ck_assert_int_eq(get_attribute(file, "user.guest", 4), -ERANGE);
	ck_assert_int_eq(get_attribute(file, "user.none", 100), -ENODATA);
	/* Names that the guest does not see. */
	ck_assert_int_eq(get_attribute(file, "trusted.host", 100), -EOPNOTSUPP);
	ck_assert_int_eq(set_attribute(file, "trusted.guest", "x"), -EOPNOTSUPP);
	ck_assert_int_eq(set_attribute(file, "system.posix_acl_access", "x"), -EOPNOTSUPP);
	ck_assert_int_eq(set_attribute(file, "security.selinux", "x"), -EOPNOTSUPP);
	ck_assert_int_eq(set_attribute(file, "", "x"), -EOPNOTSUPP);
	ck_assert_int_eq(call(FUSE_LISTXATTR, file, ARG(room100), NOTHING, NOTHING), 0);
	ck_assert_uint_eq(answer_len, 10 + 11);
	ck_that(memmem(body, answer_len, "user.guest", 11) && memmem(body, answer_len, "user.host", 10));
	ck_assert_int_eq(call(FUSE_LISTXATTR, file, ARG(in), NOTHING, NOTHING), 0);
	ck_assert_uint_eq(((const struct fuse_getxattr_out *)body)->size, 21);
	ck_assert_int_eq(call(FUSE_REMOVEXATTR, file, TEXT("user.guest"), NOTHING, NOTHING), 0);
	ck_assert_int_eq(get_attribute(file, "user.guest", 100), -ENODATA);
	memset(longer, 'x', 299);
	longer[299] = 0;
	memcpy(longer, "user.", 5);
	ck_assert_int_eq(set_attribute(file, longer, "x"), -ERANGE);
	/* Sizes that lie. */
	{
		struct fuse_setxattr_in sx = {.size = 100};
		struct part fixed = {&sx, FUSE_COMPAT_SETXATTR_IN_SIZE};

		ck_assert_int_eq(call(FUSE_SETXATTR, file, fixed, TEXT("user.x"), ((struct part){"abc", 3})), -EINVAL);
		sx.size = ~0u;
		ck_assert_int_eq(call(FUSE_SETXATTR, file, fixed, TEXT("user.x"), ((struct part){"abc", 3})), -E2BIG);
		sx.size = 3;
		sx.flags = 4;
		ck_assert_int_eq(call(FUSE_SETXATTR, file, fixed, TEXT("user.x"), ((struct part){"abc", 3})), -EINVAL);
	}
}
END_TEST

/* --- directories --- */

/* Reads all of a directory in requests of this size. Returns how many entries; checks their form. */
static unsigned int list(uint64_t node, uint32_t op, uint32_t size, bool (*seen)(const char *, uint64_t))
{
	struct fuse_read_in in = {.fh = opened_dir(node), .size = size};
	unsigned int n = 0;

	for (;;) {
		ck_assert_int_eq(call(op, node, ARG(in), NOTHING, NOTHING), 0);
		if (!answer_len)
			return n;
		for (size_t at = 0; at < answer_len;) {
			const struct fuse_direntplus *p = (const void *)((const uint8_t *)body + at);
			const struct fuse_dirent *d = op == FUSE_READDIR ? (const void *)p : &p->dirent;
			char name[NAME_MAX + 1] = "";
			size_t fixed = (size_t)((const uint8_t *)d->name - (const uint8_t *)p);

			ck_that(at + fixed + d->namelen <= answer_len && d->namelen <= NAME_MAX);
			memcpy(name, d->name, d->namelen);
			in.offset = d->off;
			if (seen)
				ck_that(seen(name, op == FUSE_READDIR ? 0 : p->entry_out.nodeid));
			n++;
			at += FUSE_DIRENT_ALIGN(fixed + d->namelen);
		}
	}
}

static bool listed[1000];
static uint64_t listed_node[1000];

static bool note(const char *name, uint64_t node)
{
	unsigned int i = (unsigned int)atoi(name + 1);

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return !node;
	if (listed[i])
		return false;
	listed[i] = true;
	listed_node[i] = node;
	return true;
}

START_TEST(a_thousand_entries)
{
	uint64_t dir = find(1, "dir"), fd = open_fds();
	const uint32_t size[] = {512, 4096, 65536};
	char name[32];

	unlink(share("dir/inner"));
	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "share/dir/f%u", i);
		tmp_file(name, "", 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(size); i++) {
		memset(listed, 0, sizeof(listed));
		ck_assert_uint_eq(list(dir, FUSE_READDIR, size[i], note), 1002);
	}
	/* With plus, so many as there are descriptors for, and the names of all. */
	memset(listed, 0, sizeof(listed));
	ck_assert_uint_eq(list(dir, FUSE_READDIRPLUS, 4096, note), 1002);
	ck_that(open_fds() > fd + 100 && open_fds() < fd + FDS);
	for (unsigned int i = 0; i < 1000; i++)
		if (listed_node[i])
			forget(listed_node[i], 1);
	ck_assert_uint_eq(open_fds(), fd + 4); /* the four handles */
}
END_TEST

START_TEST(directory_positions)
{
	uint64_t dh = opened_dir(1);
	struct fuse_read_in in = {.fh = dh, .size = 4096};
	const uint64_t odd[] = {1, 2, 12345, INT64_MAX, 1ull << 63, ~0ull, 1ull << 62};

	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		in.offset = odd[i];
		call(FUSE_READDIR, 1, ARG(in), NOTHING, NOTHING);
		call(FUSE_READDIRPLUS, 1, ARG(in), NOTHING, NOTHING);
	}
	in.offset = ~0ull;
	ck_assert_int_eq(call(FUSE_READDIR, 1, ARG(in), NOTHING, NOTHING), -EINVAL);
	in.offset = 0;
	for (in.size = 0; in.size < 24; in.size++)
		ck_assert_int_eq(call(FUSE_READDIR, 1, ARG(in), NOTHING, NOTHING), -EINVAL);
	in.size = 4096;
	ck_assert_int_eq(call(FUSE_READDIR, 1, ARG(in), NOTHING, NOTHING), 0);
	ck_assert_uint_gt(answer_len, 100);
}
END_TEST

START_TEST(sync_and_space)
{
	struct fuse_syncfs_in in = {0};
	struct fuse_fsync_in fs = {.fh = opened(find(1, "file"), O_RDONLY), .fsync_flags = 1};
	struct fuse_access_in ac = {.mask = 7};

	ck_assert_int_eq(call(FUSE_STATFS, 1, NOTHING, NOTHING, NOTHING), 0);
	ck_that(((const struct fuse_statfs_out *)body)->st.bsize);
	ck_assert_int_eq(call(FUSE_SYNCFS, 1, ARG(in), NOTHING, NOTHING), 0);
	ck_assert_int_eq(call(FUSE_FSYNC, find(1, "file"), ARG(fs), NOTHING, NOTHING), 0);
	ck_assert_int_eq(call(FUSE_ACCESS, 1, ARG(ac), NOTHING, NOTHING), 0);
	ac.mask = 8;
	ck_assert_int_eq(call(FUSE_ACCESS, 1, ARG(ac), NOTHING, NOTHING), -EINVAL);
}
END_TEST

/* --- kinds of shares --- */

START_TEST(read_only)
{
	uint64_t file, fh, node;
	struct fuse_access_in ac = {.mask = 2};

	mounted(true, FUSE_CACHE_AUTO, FDS);
	file = find(1, "file");
	ck_assert_int_eq(create(1, "new", O_RDWR, 0644, &node, &fh), -EROFS);
	ck_assert_int_eq(make_dir(1, "new"), -EROFS);
	ck_assert_int_eq(make_node(1, "new", S_IFREG, 0), -EROFS);
	ck_assert_int_eq(call(FUSE_SYMLINK, 1, TEXT("new"), TEXT("x"), NOTHING), -EROFS);
	ck_assert_int_eq(make_link(file, 1, "new"), -EROFS);
	ck_assert_int_eq(rename_to(1, "file", 1, "new", 0), -EROFS);
	ck_assert_int_eq(call(FUSE_UNLINK, 1, TEXT("file"), NOTHING, NOTHING), -EROFS);
	ck_assert_int_eq(call(FUSE_RMDIR, 1, TEXT("dir"), NOTHING, NOTHING), -EROFS);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE}), -EROFS);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EROFS);
	ck_assert_int_eq(set_attribute(file, "user.x", "y"), -EROFS);
	ck_assert_int_eq(call(FUSE_REMOVEXATTR, file, TEXT("user.x"), NOTHING, NOTHING), -EROFS);
	ck_assert_int_eq(open_as(FUSE_OPEN, file, O_RDWR, &fh), -EROFS);
	ck_assert_int_eq(open_as(FUSE_OPEN, file, O_WRONLY, &fh), -EROFS);
	ck_assert_int_eq(open_as(FUSE_OPEN, file, O_RDONLY | O_TRUNC, &fh), -EROFS);
	ck_assert_int_eq(call(FUSE_ACCESS, 1, ARG(ac), NOTHING, NOTHING), -EROFS);
	fh = opened(file, O_RDONLY);
	ck_assert_int_eq(write_at(file, fh, 0, "x"), -EROFS);
	ck_assert_int_eq(read_at(file, fh, 0, 10), 0);
	ck_assert_str_eq(file_text(share("file"), NULL), "content");
}
END_TEST

START_TEST(caches)
{
	static const struct {
		enum fuse_cache cache;
		uint64_t valid;
		uint32_t open;
	} kind[] = {{FUSE_CACHE_NONE, 0, FOPEN_DIRECT_IO}, {FUSE_CACHE_AUTO, 1, 0},
		    {FUSE_CACHE_ALWAYS, 86400, FOPEN_KEEP_CACHE}};
	struct fuse_open_in in = {.flags = O_RDONLY};

	for (size_t i = 0; i < ARRAY_SIZE(kind); i++) {
		uint64_t file;

		mounted(false, kind[i].cache, FDS);
		file = find(1, "file");
		ck_assert_uint_eq(((const struct fuse_entry_out *)body)->attr_valid, kind[i].valid);
		ck_assert_uint_eq(((const struct fuse_entry_out *)body)->entry_valid, kind[i].valid);
		call(FUSE_OPEN, file, ARG(in), NOTHING, NOTHING);
		ck_assert_uint_eq(((const struct fuse_open_out *)body)->open_flags, kind[i].open);
		ck_assert_int_eq(lookup(1, "nothing"), kind[i].cache == FUSE_CACHE_ALWAYS ? 0 : -ENOENT);
		fuse_server_close(server);
		server = NULL;
	}
}
END_TEST

START_TEST(what_cannot_be_shared)
{
	ck_refused(fuse_server_open(&server, tmp_path("none"), false, 0, FDS, &e), EINVAL, "none: No such");
	ck_refused(fuse_server_open(&server, share("file"), false, 0, FDS, &e), EINVAL, "Not a directory");
	server = NULL;
}
END_TEST

static void use_as_ordinary_user(void)
{
	uint64_t file, node, fh;
	struct stat st;

	mounted(false, FUSE_CACHE_AUTO, FDS);
	file = find(1, "file");
	ck_that(attr_of(file).uid == 0 && attr_of(file).gid == 0);
	as_uid = as_gid = 77; /* a user in the guest */
	ck_assert_int_eq(create(1, "new", O_RDWR, 0644, &node, &fh), 0);
	ck_assert_int_eq(attr_of(node).uid, 0);
	ck_that(!stat(share("new"), &st) && st.st_uid == geteuid());
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 77}), -EPERM);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_GID, .gid = 77}), -EPERM);
	ck_assert_int_eq(set(file, (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_GID}), 0);
	ck_assert_int_eq(write_at(node, fh, 0, "x"), 0);
	if (geteuid() != 1234)
		return;
	/* What the host keeps from the user, the guest does not get. */
	ck_assert_uint_eq(attr_of(find(1, "dir")).uid, 65534);
	ck_assert_int_eq(open_as(FUSE_OPEN, find(find(1, "dir"), "inner"), O_RDONLY, &fh), -EACCES);
	ck_assert_int_eq(make_dir(find(1, "dir"), "x"), -EACCES);
	ck_assert_int_eq(
		set(find(1, "dir"), (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777}),
		-EPERM);
}

/* In a process of its own, since there is no way back to root. */
START_TEST(as_an_ordinary_user)
{
	char base[PATH_MAX];
	int status;
	pid_t pid;

	if (!geteuid()) {
		ck_that(!chown(tmp_path("share"), 1234, 1234));
		ck_that(!chown(share("file"), 1234, 1234));
		ck_that(!chmod(share("dir/inner"), 0600));
		strcpy(base, tmp);
		ck_that(!chmod(dirname(base), 0711)); /* the directory of all tests */
	}
	pid = fork();
	if (!pid) {
		if (!geteuid())
			ck_that(!setgroups(0, NULL) && !setresgid(1234, 1234, 1234) &&
				!setresuid(1234, 1234, 1234));
		use_as_ordinary_user();
		_exit(0);
	}
	ck_that(waitpid(pid, &status, 0) == pid && !status);
}
END_TEST

/* --- races with the host --- */

static bool stop;

/* Swaps a directory with a link to the outside, for ever. */
static void *swap(void *arg)
{
	int dir = open(tmp_path("share"), O_RDONLY | O_DIRECTORY);

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (renameat2(dir, "dir", dir, "link", RENAME_EXCHANGE))
			abort();
	close(dir);
	return NULL;
}

START_TEST(links_swapped_under_its_feet)
{
	struct fuse_mkdir_in md = {.mode = 0755};
	struct stat outside;
	unsigned int links = 0, dirs = 0;
	pthread_t thread;

	tmp_file("share/dir/secret", "public", 6);
	ck_that(!stat(tmp_path("outside"), &outside));
	ck_that(!pthread_create(&thread, NULL, swap, NULL));
	for (unsigned int i = 0; i < 20000; i++) {
		struct fuse_entry_out top, below;
		uint64_t fh;

		ck_assert_int_eq(lookup(1, "dir"), 0);
		memcpy(&top, body, sizeof(top));
		if (S_ISLNK(top.attr.mode)) {
			links++;
			ck_that(lookup(top.nodeid, "secret") == -ENOTDIR);
			ck_assert_int_eq(call(FUSE_MKDIR, top.nodeid, ARG(md), TEXT("made"), NOTHING), -ENOTDIR);
			ck_that(open_as(FUSE_OPENDIR, top.nodeid, 0, &fh) == -ENOTDIR);
			continue;
		}
		dirs++;
		ck_assert_int_eq(lookup(top.nodeid, "secret"), 0);
		memcpy(&below, body, sizeof(below));
		ck_assert_int_eq(open_as(FUSE_OPEN, below.nodeid, O_RDONLY, &fh), 0);
		ck_assert_int_eq(read_at(below.nodeid, fh, 0, 100), 0);
		ck_that(answer_len == 6 && !memcmp(body, "public", 6));
		{
			struct fuse_release_in rl = {.fh = fh};

			call(FUSE_RELEASE, below.nodeid, ARG(rl), NOTHING, NOTHING);
		}
		if (call(FUSE_MKDIR, top.nodeid, ARG(md), TEXT("made"), NOTHING) == 0)
			forget(looked_up(0), 1);
		call(FUSE_RMDIR, top.nodeid, TEXT("made"), NOTHING, NOTHING);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ck_assert_str_eq(file_text(tmp_path("outside/secret"), NULL), "secret");
	ck_assert_int_eq(access(tmp_path("outside/made"), F_OK), -1);
	printf("raced %u links, %u directories\n", links, dirs);
	ck_that(links && dirs);
}
END_TEST

/* --- forks --- */

START_TEST(a_fork_goes_on)
{
	uint64_t dir = find(1, "dir"), file = find(1, "file"), fh = opened(file, O_RDWR);
	struct fuse_read_in in = {.fh = opened_dir(dir), .size = 100};
	char name[64];
	size_t fds = fuse_server_fds(server, NULL);
	int fd[20], status;
	unsigned int n = 0;
	pid_t pid;

	ck_assert_uint_eq(fds, 6); /* root, /proc, two nodes, two handles */
	ck_assert_uint_eq(fuse_server_fds(server, fd), fds);
	for (size_t i = 0; i < fds; i++)
		ck_assert_int_ge(fcntl(fd[i], F_GETFD), 0);
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "share/dir/f%u", i);
		tmp_file(name, "", 0);
	}
	ck_assert_int_eq(call(FUSE_READDIR, dir, ARG(in), NOTHING, NOTHING), 0);
	pid = fork();
	if (!pid) {
		ck_ok(fuse_server_forked(server, open("/proc/self/fd", O_PATH | O_CLOEXEC), &e));
		ck_assert_uint_eq(list(dir, FUSE_READDIR, 4096, NULL), 303);
		in.offset = 0;
		in.size = 65536;
		ck_assert_int_eq(call(FUSE_READDIR, dir, ARG(in), NOTHING, NOTHING), 0);
		ck_assert_int_eq(write_at(file, fh, 0, "child"), 0);
		ck_assert_uint_eq(find(1, "file"), file);
		_exit(0);
	}
	ck_that(waitpid(pid, &status, 0) == pid && !status);
	in.size = 65536;
	for (const struct fuse_dirent *d; in.offset == 0 || answer_len; n++) {
		d = body;
		if (in.offset || n == 0)
			in.offset = d->off;
		ck_assert_int_eq(call(FUSE_READDIR, dir, ARG(in), NOTHING, NOTHING), 0);
	}
	ck_assert_int_eq(read_at(file, fh, 0, 100), 0);
	ck_that(answer_len == 7 && !memcmp(body, "childnt", 7));
}
END_TEST

/* --- anything --- */

START_TEST(mutations)
{
	uint32_t seed = 4711 + (uint32_t)_i;
	uint8_t bytes[600];
	unsigned int n = 0;
	uint64_t until;
	struct stat st;

	make_samples();
	until = now_ns() + 2000000000u;
	while (now_ns() < until) {
		unsigned int which = next_random(&seed) % samples, flips = next_random(&seed) % 6;
		size_t len = sample[which].len, head = 0;
		struct fuse_in_header h;

		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, sample[which].bytes, len);
		if (next_random(&seed) % 4 == 0)
			len += next_random(&seed) % 64;
		if (next_random(&seed) % 3)
			head = sizeof(h); /* leave the header */
		for (unsigned int i = 0; i < flips && len > head; i++) {
			size_t at = head + next_random(&seed) % (len - head);

			switch (next_random(&seed) % 4) {
			case 0: bytes[at] = (uint8_t)next_random(&seed); break;
			case 1: bytes[at] ^= (uint8_t)(1u << next_random(&seed) % 8); break;
			case 2: bytes[at] = 0xff; break;
			default: bytes[at] = 0; break;
			}
		}
		memcpy(&h, bytes, sizeof(h));
		if (next_random(&seed) % 8)
			h.len = (uint32_t)len;
		/* A batch of syncs takes long, and says nothing. */
		if (h.opcode == FUSE_SYNCFS || h.opcode == FUSE_FSYNC || h.opcode == FUSE_FSYNCDIR)
			continue;
		if (h.opcode == FUSE_DESTROY && next_random(&seed) % 50)
			continue;
		memcpy(bytes, &h, sizeof(h));
		serve_raw(bytes, len, next_random(&seed) % 3 ? BIG_ROOM : next_random(&seed) % 300);
		if (!fuse_server_mounted(server)) {
			init_session(36);
			make_samples();
		}
		n++;
	}
	printf("%u requests\n", n);
	ck_assert_str_eq(file_text(tmp_path("outside/secret"), NULL), "secret");
	ck_that(!stat(tmp_path("outside"), &st) && st.st_nlink == 2);
	if (!fuse_server_mounted(server))
		init_session(36);
	ck_assert_int_eq(call(FUSE_STATFS, 1, NOTHING, NOTHING, NOTHING), 0);
}
END_TEST

int main(void)
{
	const TTest *const plain_tests[] = {
		init_negotiates, init_of_the_first_length, before_init, reset_ends_a_session, read_only,
		caches, what_cannot_be_shared, as_an_ordinary_user};

	const TTest *const mounted_tests[] = {unknown_requests,
						     interrupts_are_taken_and_not_answered,
						     truncated_requests,
						     answers_with_too_little_room,
						     too_long_requests,
						     names,
						     nodes_never_given,
						     forgotten_nodes,
						     batches_of_forgets,
						     handles,
						     descriptors_run_out,
						     create_write_read,
						     append,
						     huge_offsets_and_sizes,
						     attributes_are_set,
						     set_id_bits,
						     links_and_names,
						     what_is_no_file,
						     extended_attributes,
						     a_thousand_entries,
						     directory_positions,
						     sync_and_space,
						     links_swapped_under_its_feet,
						     a_fork_goes_on,
						     mutations};
	const struct test_group groups[] = {
		{plain_tests, ARRAY_SIZE(plain_tests), setup, teardown},
		{mounted_tests, ARRAY_SIZE(mounted_tests), setup_mounted, teardown}};

	return run_groups("fuse", groups, ARRAY_SIZE(groups));
}
