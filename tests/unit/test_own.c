/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's own programs, run by an agent as a client asks for them, against the monitor's reader and
 * writer of archives: what goes in comes out, and what is hostile in between stays in its place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/agent_fixture.h"
#include "tests/unit/client_fixture.h"
#include "tests/unit/tarball.h"
#include "tests/unit/util.h"
#include "vmm/pack.h"
#include "vmm/tar.h"
#include "vmm/tree.h"
#include "vmm/unpack.h"
#include "vmm/util.h"

static struct err e;

#define OWN(...) (struct exec_request){.argv = ARGV(__VA_ARGS__), .flags = AGENT_EXEC_OWN}

static void setup(void)
{
	tmp_setup();
	start_agent();
	ck_that(!mkdirat(tmp_dir, "in", 0755) && !mkdirat(tmp_dir, "out", 0755));
}

static void teardown(void)
{
	stop_agent();
	ck_that(!tree_remove(tmp_dir, "in") && !tree_remove(tmp_dir, "out"));
	tmp_teardown();
}

static int open_out(void)
{
	return openat(tmp_dir, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Extracts an archive below "out", as that of a guest. */
static int unpack_out(const void *data, size_t len, const char *only)
{
	struct unpack u = {.root = open_out(), .user = geteuid() != 0, .guest = true,
			   .keep_owners = true, .only = only};
	int fd = open(tmp_file("tar", data, len), O_RDONLY | O_CLOEXEC), r;

	ck_ok(unpack_begin(&u, &e));
	r = unpack_tar(&u, fd, "tar", &e);
	if (!r)
		r = unpack_end(&u, &e);
	else
		unpack_free(&u);
	close(fd);
	close(u.root);
	unlinkat(tmp_dir, "tar", 0);
	return r;
}

static struct stat stat_of(const char *name)
{
	struct stat st;

	if (fstatat(tmp_dir, name, &st, AT_SYMLINK_NOFOLLOW))
		ck_abort_msg("%s: %s", name, strerror(errno));
	return st;
}

/* A name of n times c, in one of a few buffers. */
static const char *long_name(char c, size_t n)
{
	static char name[4][256];
	static unsigned int next;
	char *to = name[next++ % 4];

	memset(to, c, n);
	to[n] = 0;
	return to;
}

/* Files of each kind below "in". */
static void make_files(void)
{
	char path[600];
	int fd;

	ck_that(!mkdir(tmp_path("in/d"), 0751));
	tmp_file("in/d/file", "content", 7);
	ck_that(!chmod(tmp_path("in/d/file"), 04640));
	ck_that(!link(tmp_path("in/d/file"), tmp_path("in/d/hard")));
	ck_that(!symlink("../../../nowhere", tmp_path("in/d/link")));
	ck_that(!mkfifo(tmp_path("in/d/fifo"), 0600));
	fd = open(tmp_path("in/d/holes"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (unsigned int i = 1; i < 120; i += 2)
		ck_that(pwrite(fd, "data", 4, (off_t)i << 16) == 4);
	ck_that(!ftruncate(fd, 20 << 20));
	close(fd);
	for (size_t n = 99; n <= 101; n++) {
		snprintf(path, sizeof(path), "in/d/%s", long_name('n', n));
		tmp_file(path, "x", 1);
	}
	snprintf(path, sizeof(path), "in/d/%s", long_name('d', 200));
	ck_that(!mkdir(tmp_path(path), 0700));
	snprintf(path, sizeof(path), "in/d/%s/%s", long_name('d', 200), long_name('l', 200));
	ck_that(!symlink(long_name('t', 255), tmp_path(path)));
}

static void same_files(const char *a, const char *b)
{
	char command[300];

	snprintf(command, sizeof(command),
		 "cd %s && for t in %s %s; do (cd $t; find . ! -name fifo -printf '%%p %%y %%m %%U %%G %%l\\n') "
		 "| sort >$(dirname $t).list; done; diff in.list out.list && diff -r "
		 "--no-dereference --exclude=fifo %s %s && test -p %s/fifo",
		 tmp, a, b, a, b, b);
	ck_assert_int_eq(system(command), 0);
	unlinkat(tmp_dir, "in.list", 0);
	unlinkat(tmp_dir, "out.list", 0);
}

/* --- out --- */

START_TEST(out_of_the_guest)
{
	struct exec_request rq;
	struct result r;

	make_files();
	rq = OWN("export", tmp_path("in/d"), "x", "d");
	r = run(&rq, "", 0);
	ck_assert_int_eq(r.status, 0);
	ck_assert_str_eq(r.err, "");
	ck_that(r.out_len < 2000000); /* the holes are none of it */
	ck_ok(unpack_out(r.out, r.out_len, "x"));
	same_files("in/d", "out/x");
	ck_that(stat_of("out/x/holes").st_size == 20 << 20);
	ck_that(stat_of("out/x/file").st_mtime == stat_of("in/d/file").st_mtime);
	free_result(&r);
	/* What is in it, by its own name. */
	rq = OWN("export", tmp_path("in/d/."), ".", "");
	r = run(&rq, "", 0);
	ck_ok(unpack_out(r.out, r.out_len, ""));
	ck_that(stat_of("out/file").st_size == 7);
	free_result(&r);
	/* One file, a link, and what it leads to. */
	ck_that(!symlink("d/file", tmp_path("in/to")));
	rq = OWN("export", tmp_path("in/to"), "l", "f");
	r = run(&rq, "", 0);
	ck_ok(unpack_out(r.out, r.out_len, "l"));
	ck_that(S_ISLNK(stat_of("out/l").st_mode));
	free_result(&r);
	rq = OWN("export", tmp_path("in/to"), "f", "lf");
	r = run(&rq, "", 0);
	ck_ok(unpack_out(r.out, r.out_len, "f"));
	ck_that(S_ISREG(stat_of("out/f").st_mode) && stat_of("out/f").st_size == 7);
	free_result(&r);
}
END_TEST

/* Every tar reads it. */
START_TEST(out_for_tar)
{
	struct exec_request rq;
	char command[300];
	struct result r;

	make_files();
	rq = OWN("export", tmp_path("in/d"), "x", "");
	r = run(&rq, "", 0);
	tmp_file("tar", r.out, r.out_len);
	snprintf(command, sizeof(command), "tar -C %s/out -xpf %s/tar", tmp, tmp);
	ck_assert_int_eq(system(command), 0);
	same_files("in/d", "out/x");
	unlinkat(tmp_dir, "tar", 0);
	free_result(&r);
}
END_TEST

START_TEST(requests_that_cannot_be)
{
	static const struct {
		const char *argv[5];
		int status;
		const char *say;
	} bad[] = {
		{{"export", "/none", "x", ""}, 127, "cannot find '/none': No such file"},
		{{"export", "/", "x", "f"}, 126, "Is a directory"},
		{{"export", "/etc/passwd", "x", "d"}, 126, "Not a directory"},
		{{"export", "/"}, 127, "the agent has no program 'export'"},
		{{"sh"}, 127, "the agent has no program 'sh'"},
		{{"import", "/none/x", "x", "f"}, 127, "No such file"},
		{{"import", "/none/", "x", "f"}, 127, "No such file"},
		{{"import", "/etc/passwd", "x", "d"}, 126, "Not a directory"},
		{{"import", "/etc/passwd", ".", "x"}, 126, "Not a directory"},
		{{"changes"}, 126, "nothing above the root"},
		{{"changes", "x"}, 127, "no program"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct exec_request rq = {.argv = (char *const *)bad[i].argv,
					  .flags = AGENT_EXEC_OWN};
		struct result r = run(&rq, "", 0);

		if (r.status != bad[i].status || !strstr(r.err, bad[i].say))
			ck_abort_msg("%s %s: %d, %s", bad[i].argv[0], bad[i].argv[1], r.status,
				     r.err);
		free_result(&r);
	}
}
END_TEST

/* --- in --- */

/* An archive of "in/d", as uvm cp makes it. */
static size_t pack_in(const char **data, const char *name)
{
	struct pack p = {.what = "tar", .owners = true, .twice = true};
	size_t len;

	p.fd = openat(tmp_dir, "packed", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_ok(pack_open(&p, &e));
	ck_ok(pack_tree(&p, tmp_path("in/d"), name, false, &e));
	ck_ok(pack_end(&p, &e));
	pack_close(&p);
	close(p.fd);
	*data = file_text(tmp_path("packed"), &len);
	unlinkat(tmp_dir, "packed", 0);
	return len;
}

START_TEST(into_the_guest)
{
	struct exec_request rq;
	const char *data;
	struct result r;
	size_t len;

	make_files();
	len = pack_in(&data, ".");
	ck_that(len < 2000000);
	rq = OWN("import", tmp_path("out/x"), "d", "d");
	r = run(&rq, data, len);
	ck_assert_msg(!r.status && !r.err_len, "%d %s", r.status, r.err);
	same_files("in/d", "out/x");
	ck_that(stat_of("out/x").st_mtime == stat_of("in/d").st_mtime);
	free_result(&r);
	/* Once more, over what is there; and into a directory that is there. */
	len = pack_in(&data, ".");
	rq = OWN("import", tmp_path("out/x/"), ".", "d");
	r = run(&rq, data, len);
	ck_assert_msg(!r.status && !r.err_len, "%d %s", r.status, r.err);
	same_files("in/d", "out/x");
	free_result(&r);
	len = pack_in(&data, ".");
	rq = OWN("import", tmp_path("out"), "y", "d");
	r = run(&rq, data, len);
	ck_assert_int_eq(r.status, 0);
	same_files("in/d", "out/y");
	free_result(&r);
}
END_TEST

/* --- another archive, packed anew --- */

/* What pack_tar makes of t's archive, as a file; its error, else. */
static int repack(struct tarball *t, int *packed)
{
	struct pack p = {.what = "tar", .owners = true};
	int fd = open(tmp_file("given", t->data, t->len), O_RDONLY | O_CLOEXEC), r;

	p.fd = openat(tmp_dir, "packed", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_ok(pack_open(&p, &e));
	r = pack_tar(&p, fd, "given.tar", &e);
	if (!r)
		ck_ok(pack_end(&p, &e));
	pack_close(&p);
	close(fd);
	*packed = p.fd;
	unlinkat(tmp_dir, "packed", 0);
	unlinkat(tmp_dir, "given", 0);
	tarball_free(t);
	return r;
}

static void repack_refused(struct tarball *t, int code, const char *say)
{
	int packed;

	ck_refused(repack(t, &packed), code, say);
	close(packed);
}

/* A file of n extents, one byte each, 10 bytes apart, of which byte i is 'a' + i % 26; the last 5
 * bytes are a hole. */
static void add_sparse(struct tarball *t, unsigned int n)
{
	char data[8192] = "", size[16];
	size_t len = (size_t)sprintf(data, "%u\n", n);

	for (unsigned int i = 0; i < n; i++)
		len += (size_t)sprintf(data + len, "%u\n1\n", 10 * i);
	len += -len % 512;
	for (unsigned int i = 0; i < n; i++)
		data[len++] = (char)('a' + i % 26);
	snprintf(size, sizeof(size), "%u", 10 * n + 5);
	tar_pax_text(t, "GNU.sparse.major", "1");
	tar_pax_text(t, "GNU.sparse.minor", "0");
	tar_pax_text(t, "GNU.sparse.realsize", size);
	tar_add(t, '0', "sparse", NULL, data, len);
}

/* The next member of the packed archive is that file, as a map or filled in; whole[] is what a
 * program would read. */
static void expect_sparse(struct tar *from, unsigned int n, bool map)
{
	char whole[8192] = "", data[8192];
	size_t len = 0, at = 0;
	const void *part;
	ssize_t got;

	ck_assert_int_eq(tar_next(from, &e), 1);
	ck_assert_str_eq(from->m.name, "sparse");
	ck_assert_uint_eq(from->m.size, 10 * n + 5);
	ck_assert_int_eq(from->m.sparse, map);
	while ((got = tar_data(from, &part, sizeof(data) - len, &e)) > 0) {
		memcpy(data + len, part, (size_t)got);
		len += (size_t)got;
	}
	ck_assert_int_eq(got, 0);
	if (map)
		for (size_t i = 0; i < from->m.extents; i++) {
			memcpy(whole + from->m.extent[i].at, data + at, from->m.extent[i].len);
			at += from->m.extent[i].len;
		}
	else
		memcpy(whole, data, len);
	ck_assert_uint_eq(len, map ? n : 10 * n + 5);
	for (unsigned int i = 0; i < 10 * n + 5; i++)
		ck_assert_int_eq(whole[i], i % 10 || i == 10 * n ? 0 : (char)('a' + i / 10 % 26));
}

/* The agent has room for so many extents; of a file that has more, holes become zeros. What follows
 * is still right. */
START_TEST(packed_anew)
{
	static const unsigned int counts[] = {1, 4, 5, PACK_EXTENTS, PACK_EXTENTS + 1, 300};
	struct tarball t = tarball();
	struct tar from;
	int packed;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		add_sparse(&t, counts[i]);
	tar_text(&t, "/./out", "x");
	tar_add(&t, '1', "hard", "/out", NULL, 0);
	tar_add(&t, '2', "soft", "../../out", NULL, 0);
	tar_end(&t);
	ck_ok(repack(&t, &packed));
	ck_that(!lseek(packed, 0, SEEK_SET));
	ck_ok(tar_open(&from, packed, "packed.tar", &e));
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		expect_sparse(&from, counts[i], counts[i] <= PACK_EXTENTS);
	ck_assert_int_eq(tar_next(&from, &e), 1);
	ck_assert_str_eq(from.m.name, "out");
	ck_assert_int_eq(tar_next(&from, &e), 1);
	ck_assert_str_eq(from.m.link, "out");
	ck_assert_int_eq(tar_next(&from, &e), 1);
	ck_assert_str_eq(from.m.link, "../../out");
	ck_assert_int_eq(tar_next(&from, &e), 0);
	tar_close(&from);
	close(packed);
}
END_TEST

START_TEST(packed_anew_what_cannot_be)
{
	struct tarball t = tarball();
	char link[5001];

	memset(link, 'l', 5000);
	link[5000] = 0;
	tar_pax_text(&t, "linkpath", link);
	tar_add(&t, '2', "soft", "x", NULL, 0);
	tar_end(&t);
	repack_refused(&t, ENAMETOOLONG, "'soft...': its link is too long");
	tar_pax_text(&t, "linkpath", link);
	tar_add(&t, '1', "hard", "x", NULL, 0);
	tar_end(&t);
	repack_refused(&t, ENAMETOOLONG, "too long");
	tar_pax_text(&t, "path", link);
	tar_text(&t, "f", "x");
	tar_end(&t);
	repack_refused(&t, ENAMETOOLONG, "too long");
	tar_text(&t, "f", "text");
	t.len -= 512; /* and no data */
	repack_refused(&t, EINVAL, "'f' is cut off");
	add_sparse(&t, 300);
	t.len -= 512;
	repack_refused(&t, EINVAL, "cut off");
}
END_TEST

static struct result import(struct tarball *t)
{
	struct exec_request rq = OWN("import", tmp_path("out"), ".", "x");
	struct result r;

	tar_end(t);
	r = run(&rq, (const char *)t->data, t->len);
	tarball_free(t);
	return r;
}

/* Names and links that lead out stay below the destination; what cannot be made is told, and the rest
 * is made.
 */
START_TEST(hostile_archives_in)
{
	struct tarball t = tarball();
	struct result r;
	size_t before;

	tmp_file("in/canary", "tweet", 5);
	ck_that(!mkdir(tmp_path("out/dir"), 0755) && !mkdir(tmp_path("out/full"), 0755));
	tmp_file("out/full/x", "", 0);
	tar_text(&t, "../in/canary", "x");
	tar_text(&t, "/../../in/canary", "x");
	tar_add(&t, '2', "up", "../in", NULL, 0);
	tar_text(&t, "up/canary", "x");
	tar_add(&t, '2', "abs", tmp_path("in"), NULL, 0);
	tar_text(&t, "abs/canary", "x");
	tar_add(&t, '1', "hard", "../in/canary", NULL, 0);
	tar_add(&t, '1', "hard2", "up/canary", NULL, 0);
	tar_text(&t, "dir", "x");
	tar_dir(&t, "full/x", 0777);
	tar_text(&t, "good", "good");
	r = import(&t);
	ck_assert_int_eq(r.status, 1);
	ck_assert_str_eq(file_text(tmp_path("in/canary"), NULL), "tweet");
	ck_that(stat_of("in/canary").st_nlink == 1);
	ck_assert_str_eq(file_text(tmp_path("out/good"), NULL), "good");
	ck_that(S_ISDIR(stat_of("out/dir").st_mode) && S_ISREG(stat_of("out/full/x").st_mode));
	/* Records: a number, a text, a NUL. */
	for (before = 0; before < r.err_len; before += strlen(r.err + before) + 1)
		ck_that(atoi(r.err + before) > 0 && strchr(r.err + before, '\''));
	ck_that(before == r.err_len && r.err_len);
	free_result(&r);
}
END_TEST

/* The end of the stream anywhere, and damage, end it with a status. */
START_TEST(damaged_archives_in)
{
	uint32_t seed = 7;

	for (unsigned int i = 0; i < 40; i++) {
		struct tarball t = tarball();
		struct exec_request rq = OWN("import", tmp_path("out"), ".", "x");
		struct result r;

		tar_add(&t, 'L', "x", NULL, long_name('a', 150), 151);
		tar_text(&t, "a", "text");
		tar_add(&t, '2', "l", "to", NULL, 0);
		tar_end(&t);
		if (i % 2)
			t.len = next_random(&seed) % t.len;
		else
			for (unsigned int k = 0; k < 4; k++)
				t.data[next_random(&seed) % t.len] = (uint8_t)next_random(&seed);
		r = run(&rq, (const char *)t.data, t.len);
		ck_that(r.status == 0 || r.status == 1);
		free_result(&r);
		tarball_free(&t);
	}
}
END_TEST

/* --- the monitor's writer --- */

START_TEST(pack_another_archive)
{
	struct pack p = {.what = "out", .owners = true};
	struct tarball t = tarball();
	const char *data;
	size_t len;
	int fd;

	tar_pax_text(&t, "path", long_name('p', 200));
	t.uid = 7;
	tar_text(&t, "short", "text");
	tar_pax_text(&t, "linkpath", long_name('p', 200));
	tar_add(&t, '1', "./hard", "short", NULL, 0);
	tar_dir(&t, "/./dir/", 0700);
	tar_end(&t);
	fd = open(tmp_file("in/tar", t.data, t.len), O_RDONLY | O_CLOEXEC);
	p.fd = openat(tmp_dir, "packed", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_ok(pack_open(&p, &e));
	ck_ok(pack_tar(&p, fd, "in", &e));
	ck_ok(pack_end(&p, &e));
	close(fd);
	data = file_text(tmp_path("packed"), &len);
	ck_ok(unpack_out(data, len, ""));
	ck_that(stat_of("out/hard").st_nlink == 2 && S_ISDIR(stat_of("out/dir").st_mode));
	if (!geteuid())
		ck_that(stat_of("out/hard").st_uid == 7);
	/* Names that lead out are not handed on. */
	tarball_free(&t);
	tar_text(&t, "a/../../b", "x");
	tar_end(&t);
	fd = open(tmp_file("in/tar", t.data, t.len), O_RDONLY | O_CLOEXEC);
	ck_refused(pack_tar(&p, fd, "in", &e), EINVAL, "'..'");
	close(fd);
	close(p.fd);
	pack_close(&p);
	tarball_free(&t);
	unlinkat(tmp_dir, "packed", 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		out_of_the_guest,
		out_for_tar,
		requests_that_cannot_be,
		into_the_guest,
		hostile_archives_in,
		damaged_archives_in,
		pack_another_archive, packed_anew, packed_anew_what_cannot_be,
	};

	return run_tests("own", tests, ARRAY_SIZE(tests), setup, teardown);
}
