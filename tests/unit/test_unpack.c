/* SPDX-License-Identifier: Apache-2.0
 *
 * Extraction of tar archives and layers: what is in them comes out as it is, and what is hostile in
 * them stays inside, or is refused. A file beside the root that everything runs in is the canary.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/unit/tarball.h"
#include "tests/unit/util.h"
#include "vmm/tar.h"
#include "vmm/tree.h"
#include "vmm/unpack.h"
#include "vmm/util.h"

static struct err e;
static struct unpack u;
static struct tarball t;
static int outside;

static void setup(void)
{
	int fd;

	tmp_setup();
	ck_that(!mkdirat(tmp_dir, "outside", 0755) && !mkdirat(tmp_dir, "root", 0755));
	outside = openat(tmp_dir, "outside", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	fd = openat(outside, "canary", O_WRONLY | O_CREAT, 0600);
	ck_that(fd >= 0 && write(fd, "tweet", 5) == 5);
	close(fd);
	u = (struct unpack){.root = openat(tmp_dir, "root", O_DIRECTORY | O_RDONLY | O_CLOEXEC),
			    .user = geteuid() != 0};
	ck_ok(unpack_begin(&u, &e));
	t = tarball();
}

/* Nothing was made or changed beside the root. */
static void check_outside(void)
{
	int fd = openat(outside, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *entry;
	unsigned int n = 0;
	struct stat st;

	while ((entry = readdir(d)))
		n++;
	closedir(d);
	ck_that(n == 3);
	ck_that(!fstatat(outside, "canary", &st, AT_SYMLINK_NOFOLLOW));
	ck_that(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600 && st.st_nlink == 1 &&
		st.st_size == 5);
}

static void teardown(void)
{
	check_outside();
	tarball_free(&t);
	unpack_free(&u);
	close(u.root);
	close(outside);
	ck_that(!tree_remove(tmp_dir, "root"));
	tmp_teardown();
}

/* The archive's bytes as a file. */
static int file_of(const struct tarball *of)
{
	int fd = open(tmp_file("tar", of->data ? of->data : (const void *)"", of->len),
		      O_RDONLY | O_CLOEXEC);

	unlinkat(tmp_dir, "tar", 0);
	return fd;
}

static int extract_raw(void)
{
	int fd = file_of(&t), r = unpack_tar(&u, fd, "test.tar", &e);

	close(fd);
	return r;
}

/* Extracts what was added, and begins anew. */
static int extract(void)
{
	int r;

	tar_end(&t);
	r = extract_raw();
	tarball_free(&t);
	return r;
}

static void finish(void)
{
	ck_ok(unpack_end(&u, &e));
	ck_ok(unpack_begin(&u, &e));
}

static struct stat stat_of(const char *name)
{
	struct stat st;

	if (fstatat(u.root, name, &st, AT_SYMLINK_NOFOLLOW))
		ck_abort_msg("%s: %s", name, strerror(errno));
	return st;
}

static bool there(const char *name)
{
	struct stat st;

	return !fstatat(u.root, name, &st, AT_SYMLINK_NOFOLLOW);
}

static const char *in_root(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "root/%s", name);
	return tmp_path(path);
}

static const char *text_of(const char *name)
{
	return file_text(in_root(name), NULL);
}

static const char *link_of(const char *name)
{
	static char target[4096];
	ssize_t n = readlinkat(u.root, name, target, sizeof(target) - 1);

	ck_that(n >= 0);
	target[n] = 0;
	return target;
}

/* The archive must be refused, at once and by itself. */
static void refused(int code, const char *say)
{
	int r;

	tar_end(&t);
	u.bytes = 0;
	r = extract_raw();
	tarball_free(&t);
	if (r != -code || !strstr(e.text, say))
		ck_abort_msg("expected %d '%s', got %d '%s'", -code, say, r, e.text);
	check_outside();
}

/* --- what is right --- */

START_TEST(every_kind)
{
	bool root = geteuid() == 0;

	t.mtime = 1000000000;
	tar_dir(&t, "./", 0751);
	tar_dir(&t, "./dir/", 0555);
	t.mode = 06755, t.uid = 1000, t.gid = 70000;
	tar_text(&t, "./dir/file", "content");
	t.mode = 0000;
	tar_text(&t, "secret", "");
	t.mode = 0644;
	tar_add(&t, '1', "hard", "./dir/file", NULL, 0);
	tar_add(&t, '2', "link", "../../etc/passwd", NULL, 0);
	tar_add(&t, '6', "fifo", NULL, NULL, 0);
	tar_add(&t, '7', "contiguous", NULL, "c", 1);
	tar_add(&t, 0, "old", NULL, "o", 1);
	tar_add(&t, 0, "olddir/", NULL, NULL, 0);
	memcpy(tar_add(&t, '3', "null", NULL, NULL, 0) + 329,
	       "0000001\0"
	       "0000003",
	       15);
	tarball_seal(t.data + t.len - 512);
	ck_ok(extract());
	finish();
	ck_assert_uint_eq(stat_of(".").st_mode, S_IFDIR | 0751);
	ck_assert_uint_eq(stat_of("dir").st_mode, S_IFDIR | 0555);
	ck_assert_int_eq(stat_of("dir").st_mtime, 1000000000);
	ck_assert_int_eq(stat_of(".").st_mtime, 1000000000);
	ck_assert_uint_eq(stat_of("dir/file").st_mode, S_IFREG | 06755);
	ck_assert_uint_eq(stat_of("secret").st_mode, S_IFREG | (root ? 0 : 0400));
	ck_assert_str_eq(text_of("dir/file"), "content");
	ck_assert_int_eq(stat_of("dir/file").st_mtime, 1000000000);
	ck_assert_uint_eq(stat_of("hard").st_ino, stat_of("dir/file").st_ino);
	ck_assert_str_eq(link_of("link"), "../../etc/passwd");
	ck_assert_int_eq(stat_of("link").st_mtime, 1000000000);
	ck_assert(S_ISFIFO(stat_of("fifo").st_mode));
	ck_assert_str_eq(text_of("contiguous"), "c");
	ck_assert_str_eq(text_of("old"), "o");
	ck_assert(S_ISDIR(stat_of("olddir").st_mode));
	ck_assert_uint_eq(u.files, 11);
	if (!root)
		ck_skip("owners and devices: not root");
	ck_assert_uint_eq(stat_of("dir/file").st_uid, 1000);
	ck_assert_uint_eq(stat_of("dir/file").st_gid, 70000);
	ck_assert(S_ISCHR(stat_of("null").st_mode) && stat_of("null").st_rdev == makedev(1, 3));
}
END_TEST

START_TEST(as_an_ordinary_user)
{
	u.user = true;
	tar_dir(&t, "d", 0);
	t.uid = 5;
	t.mode = 0;
	tar_text(&t, "d/f", "x");
	tar_add(&t, '4', "d/disk", NULL, NULL, 0);
	ck_ok(extract());
	finish();
	ck_assert_uint_eq(stat_of("d").st_mode, S_IFDIR | 0500);
	ck_assert_uint_eq(stat_of("d/f").st_mode, S_IFREG | 0400);
	ck_assert_uint_eq(stat_of("d/f").st_uid, geteuid());
	ck_assert(!there("d/disk"));
	ck_assert_uint_eq(u.devices, 1);
	ck_assert_uint_eq(u.owners, 1);
}
END_TEST

START_TEST(long_names)
{
	char name[1000], link[1000];

	for (unsigned int i = 0; i < sizeof(name) - 1; i++)
		name[i] = i % 100 == 99 ? '/' : (char)('a' + i / 100);
	name[sizeof(name) - 1] = 0;
	memset(link, 'l', sizeof(link));
	link[sizeof(link) - 1] = 0;
	tar_add(&t, 'K', "././@LongLink", NULL, link, sizeof(link));
	tar_add(&t, 'L', "././@LongLink", NULL, name, sizeof(name));
	tar_add(&t, '2', "short", "short", NULL, 0);
	ck_ok(extract());
	ck_assert_str_eq(link_of(name), link);
	name[0] = 'p';
	tar_pax_text(&t, "linkpath", link);
	tar_pax_text(&t, "path", name);
	tar_add(&t, '2', "short", "short", NULL, 0);
	ck_ok(extract());
	ck_assert_str_eq(link_of(name), link);
	ck_assert(!there("short"));
	/* A prefix, but not where GNU has something else there. */
	memcpy(tar_add(&t, '0', "name", NULL, "x", 1) + 345, "pre/fix", 7);
	tarball_seal(t.data);
	ck_ok(extract());
	ck_assert_str_eq(text_of("pre/fix/name"), "x");
	memcpy(tar_add(&t, '0', "name", NULL, "x", 1) + 257, "ustar  ", 8);
	memcpy(t.data + 345, "1234567", 7);
	tarball_seal(t.data);
	ck_ok(extract());
	ck_assert_str_eq(text_of("name"), "x");
	/* All of a field, without a NUL. */
	memset(name, 'n', 100);
	name[100] = 0;
	tar_text(&t, name, "n");
	ck_ok(extract());
	ck_assert_str_eq(text_of(name), "n");
}
END_TEST

START_TEST(pax_values)
{
	tar_pax_text(&t, "mtime", "1234567890.123456789123");
	tar_pax_text(&t, "uid", "4000000");
	tar_pax_text(&t, "gid", "4294967294");
	tar_pax_text(&t, "comment", "anything = goes");
	tar_pax_text(&t, "SCHILY.xattr.user.test", "a=b\nc");
	tar_text(&t, "f", "x");
	tar_pax_text(&t, "mtime", "-1.25");
	tar_text(&t, "g", "y"); /* and nothing of the one before */
	tar_pax_text(&t, "size", "3");
	memcpy(tar_add(&t, '0', "h", NULL, "abc", 3) + 124, "00000000000", 11);
	tarball_seal(t.data + t.len - 1024);
	ck_ok(extract());
	ck_assert_int_eq(stat_of("f").st_mtim.tv_sec, 1234567890);
	ck_assert_int_eq(stat_of("f").st_mtim.tv_nsec, 123456789);
	ck_assert_int_eq(stat_of("g").st_mtim.tv_sec, -2);
	ck_assert_int_eq(stat_of("g").st_mtim.tv_nsec, 750000000);
	ck_assert_str_eq(text_of("h"), "abc");
	if (!u.xattrs) {
		char value[16];

		ck_assert_int_eq(getxattr(in_root("f"), "user.test", value, sizeof(value)), 5);
		ck_assert(!memcmp(value, "a=b\nc", 5));
	}
	if (geteuid())
		ck_skip("owners: not root");
	ck_assert_uint_eq(stat_of("f").st_uid, 4000000);
	ck_assert_uint_eq(stat_of("f").st_gid, 4294967294);
	ck_assert_uint_eq(stat_of("g").st_uid, 0);
}
END_TEST

/* cap_net_raw+ep; it has to be set after the owner, which takes it away. */
START_TEST(capabilities_survive)
{
	static const uint8_t cap[20] = {1, 0, 0, 2, 0, 0x20};
	uint8_t seen[32];

	if (geteuid())
		ck_skip("not root");
	t.uid = 7, t.mode = 04755;
	tar_pax(&t, "SCHILY.xattr.security.capability", cap, sizeof(cap));
	tar_text(&t, "ping", "x");
	ck_ok(extract());
	ck_assert_int_eq(getxattr(in_root("ping"), "security.capability", seen, sizeof(seen)), 20);
	ck_assert(!memcmp(seen, cap, 20));
	ck_assert_uint_eq(stat_of("ping").st_mode, S_IFREG | 04755);
}
END_TEST

START_TEST(numbers_in_base_256)
{
	uint8_t *h = tar_add(&t, '0', "f", NULL, "x", 1);

	memcpy(h + 108, "\x80\x00\x00\x00\x00\x0f\x42\x40", 8);
	memcpy(h + 124, "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", 12);
	memcpy(h + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
	tarball_seal(h);
	ck_ok(extract());
	ck_assert_int_eq(stat_of("f").st_mtime, -2);
	if (!geteuid())
		ck_assert_uint_eq(stat_of("f").st_uid, 1000000);
}
END_TEST

START_TEST(sparse_files)
{
	static const char map[] = "2\n4096\n3\n8192\n2\n";
	char data[512 + 5] = "";
	uint8_t *h;

	memcpy(data, map, strlen(map));
	memcpy(data + 512, "abcde", 5);
	tar_pax_text(&t, "GNU.sparse.major", "1");
	tar_pax_text(&t, "GNU.sparse.minor", "0");
	tar_pax_text(&t, "GNU.sparse.name", "pax");
	tar_pax_text(&t, "GNU.sparse.realsize", "10000");
	tar_add(&t, '0', "GNUSparseFile.1/pax", NULL, data, sizeof(data));
	h = tar_add(&t, 'S', "old", NULL, "abcde", 5);
	memcpy(h + 257, "ustar  ", 8);
	memcpy(h + 386,
	       "00000010000\0"
	       "00000000003\0"
	       "00000020000\0"
	       "00000000002",
	       47);
	memcpy(h + 483, "00000023420", 11);
	tarball_seal(h);
	ck_ok(extract());
	for (unsigned int i = 0; i < 2; i++) {
		const char *text;
		size_t len;

		text = file_text(in_root(i ? "old" : "pax"), &len);
		ck_assert_uint_eq(len, 10000);
		ck_assert(all_bytes(text, 4096, 0) && all_bytes(text + 4099, 4093, 0) &&
			  all_bytes(text + 8194, 1806, 0));
		ck_assert(!memcmp(text + 4096, "abc", 3) && !memcmp(text + 8192, "de", 2));
	}
	ck_assert(!there("GNUSparseFile.1"));
}
END_TEST

START_TEST(sparse_maps_that_lie)
{
	static const char *const maps[] = {
		"1\n0\n4\n",			/* less than there is */
		"1\n0\n6\n",			/* more */
		"1\n9998\n5\n",			/* beyond the end */
		"2\n10\n3\n11\n2\n",		/* overlapping */
		"2\n10\n3\n0\n2\n",		/* backwards */
		"1\n9223372036854775807\n5\n",	/* far */
		"1\n18446744073709551615\n5\n", /* not a number that counts */
		"99999999999\n0\n5\n",		/* many */
		"x\n",
		"\n",
		"1",
		"1\n-1\n5\n",
		"11111111111111111111111111111111\n",
	};

	char empty[512] = "0\n";

	for (unsigned int i = 0; i < ARRAY_SIZE(maps); i++) {
		char data[512 + 5] = "";

		memcpy(data, maps[i], strlen(maps[i]));
		tar_pax_text(&t, "GNU.sparse.major", "1");
		tar_pax_text(&t, "GNU.sparse.minor", "0");
		tar_pax_text(&t, "GNU.sparse.realsize", "10000");
		tar_add(&t, '0', "f", NULL, data, sizeof(data));
		refused(EINVAL, "'f' has a");
	}
	tar_pax_text(&t, "GNU.sparse.major", "0");
	tar_text(&t, "f", "x");
	refused(EINVAL, "not supported");
	tar_pax_text(&t, "GNU.sparse.map", "0,1");
	tar_text(&t, "f", "x");
	refused(EINVAL, "not supported");
	tar_pax_text(&t, "GNU.sparse.major", "1");
	tar_pax_text(&t, "GNU.sparse.realsize", "9000000000000000000");
	tar_add(&t, '0', "f", NULL, "0\n", 2);
	refused(EINVAL, "'f' has a malformed map"); /* no padding behind it */
	tar_pax_text(&t, "GNU.sparse.major", "1");
	tar_pax_text(&t, "GNU.sparse.realsize", "9000000000000000000");
	tar_add(&t, '0', "f", NULL, empty, sizeof(empty));
	refused(EFBIG, "GiB");
}
END_TEST

static uint8_t *old_sparse(const char *map, size_t len, const char *size)
{
	uint8_t *h = tar_add(&t, 'S', "f", NULL, "abcde", 5);

	memcpy(h + 257, "ustar  ", 8);
	memcpy(h + 386, map, len);
	memcpy(h + 483, size, strlen(size));
	tarball_seal(h);
	return h;
}

/* The same in headers, as old GNU tars have it, and in blocks that follow them. */
START_TEST(old_sparse_maps_that_lie)
{
	static const char *const maps[] = {
		"0000000000x\0"
		"00000000005", /* no number */
		"00000000000\0"
		"0000000000x",
		"-0000000001\0"
		"00000000005",
		"77777777777\0"
		"00000000005", /* beyond the end */
		"00000000012\0"
		"00000000003\0"
		"00000000013\0"
		"00000000002", /* overlapping */
		"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"
		"00000000005",
		"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"
		"00000000005",
	};
	static const size_t lens[] = {23, 23, 23, 23, 47, 23, 23};
	uint8_t *h, block[512] = "";

	for (unsigned int i = 0; i < ARRAY_SIZE(maps); i++) {
		old_sparse(maps[i], lens[i], "00000023420");
		refused(EINVAL, "'f' has an impossible map of extents");
	}
	old_sparse("00000000000\0"
		   "00000000004",
		   23, "00000023420");
	refused(EINVAL, "'f' has a map that does not fit its data");
	old_sparse("00000000000\0"
		   "00000000005",
		   23, "-0000000001");
	refused(EINVAL, "'f' has an impossible size");
	/* A block of the map that is not there; then one that is wrong; and those that go on to the
	 * end. */
	h = old_sparse("00000000000\0"
		       "00000000005",
		       23, "00000023420");
	h[482] = 1;
	tarball_seal(h);
	t.len = (size_t)(h - t.data) + 512;
	ck_refused(extract_raw(), EINVAL, "the archive is cut off");
	tarball_free(&t);
	memcpy(block,
	       "0000000000x\0"
	       "00000000005",
	       23);
	h = tar_add(&t, 'S', "f", NULL, block, sizeof(block));
	memcpy(h + 257, "ustar  ", 8);
	memcpy(h + 483, "00000023420", 11);
	h[482] = 1;
	tarball_seal(h);
	refused(EINVAL, "'f' has an impossible map of extents");
	memset(block, 0, sizeof(block));
	block[504] = 1;
	h = tar_add(&t, 'S', "f", NULL, block, sizeof(block));
	memcpy(h + 257, "ustar  ", 8);
	memcpy(h + 483, "00000023420", 11);
	h[482] = 1;
	tarball_seal(h);
	t.len = (size_t)(h - t.data) + 1024;
	ck_refused(extract_raw(), EINVAL, "the archive is cut off");
	tarball_free(&t);
}
END_TEST

/* As many extents as there may be, and one more. */
START_TEST(sparse_maps_without_end)
{
	const unsigned int most = TAR_EXTENTS_MAX;
	size_t room = 64 + (size_t)(most + 1) * 24;

	for (unsigned int more = 0; more < 2; more++) {
		char *data = calloc(1, room + 512);
		size_t len = (size_t)sprintf(data, "%u\n", most + more);

		for (unsigned int i = 0; i < most + more; i++)
			len += (size_t)sprintf(data + len, "%u\n0\n", i);
		len += -len % 512;
		tar_pax_text(&t, "GNU.sparse.major", "1");
		tar_pax_text(&t, "GNU.sparse.minor", "0");
		tar_pax_text(&t, "GNU.sparse.realsize", "10000000");
		tar_add(&t, '0', "f", NULL, data, len);
		free(data);
		if (more)
			refused(EINVAL, "'f' has too many extents");
		else
			ck_ok(extract());
	}
	ck_assert_int_eq(stat_of("f").st_size, 10000000);
}
END_TEST

/* What is about all members, or about none, is left out. */
START_TEST(headers_of_all_and_labels)
{
	tar_add(&t, 'V', "a label", NULL, NULL, 0);
	tar_add(&t, 'g', "pax", NULL, "13 path=evil\n", 13);
	tar_text(&t, "f", "x");
	tar_add(&t, 'g', "pax", NULL, "13 path=evil\n", 13);
	ck_ok(extract());
	ck_assert_str_eq(text_of("f"), "x");
	ck_assert(!there("evil") && !there("a label"));
	memcpy(tar_add(&t, 'g', "pax", NULL, NULL, 0) + 124, "77777777777", 11);
	tarball_seal(t.data);
	refused(E2BIG, "extended header of 8589934591 bytes");
}
END_TEST

/* Links that lead nowhere, by paths that are together longer than a path may be; and far along each
 * other. */
START_TEST(links_to_long_paths)
{
	char deep[201], target[4001], name[256], next[32];

	memset(deep, 'd', 200);
	deep[200] = 0;
	for (unsigned int i = 0; i < 4000; i++)
		target[i] = i % 2 ? '/' : 'a';
	target[3999] = 'a';
	target[4000] = 0;
	snprintf(name, sizeof(name), "%s/l", deep);
	tar_pax_text(&t, "path", name);
	tar_pax_text(&t, "linkpath", target);
	tar_add(&t, '2', "l", "a", NULL, 0);
	snprintf(name, sizeof(name), "%s/l/f", deep);
	tar_pax_text(&t, "path", name);
	tar_text(&t, "f", "x");
	refused(EINVAL, "goes through links to a path that is too long");
	for (unsigned int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		snprintf(next, sizeof(next), "n%u", i + 1);
		tar_add(&t, '2', name, next, NULL, 0);
	}
	tar_text(&t, "n0/f", "x");
	refused(ELOOP, "'n0/f'");
	ck_assert(!there("n60"));
}
END_TEST

/* tar(1) and this agree. */
START_TEST(an_archive_of_tar)
{
	int fd;

	if (system("tar --version >/dev/null 2>&1"))
		ck_skip("no tar");
	ck_that(!chdir(tmp));
	ck_assert_int_eq(
		system("mkdir -p in/d/e && echo hello >in/d/e/f && ln in/d/e/f in/hard && "
		       "ln -s d/e in/l && touch -d '2020-01-02 03:04:05.123456789' in/d/e/f && "
		       "truncate -s 1M in/sparse && echo x >>in/sparse && "
		       "tar -C in --format=pax -S -cf pax.tar . && "
		       "tar -C in --format=gnu -S -cf gnu.tar ."),
		0);
	for (unsigned int i = 0; i < 2; i++) {
		fd = open(i ? "gnu.tar" : "pax.tar", O_RDONLY | O_CLOEXEC);
		ck_ok(unpack_tar(&u, fd, "tar", &e));
		close(fd);
		finish();
		ck_assert_str_eq(text_of("d/e/f"), "hello\n");
		ck_assert_uint_eq(stat_of("hard").st_ino, stat_of("d/e/f").st_ino);
		ck_assert_int_eq(stat_of("hard").st_mtim.tv_nsec, i ? 0 : 123456789);
		ck_assert_int_eq(stat_of("sparse").st_size, 1048578);
		ck_assert_int_eq(system("diff -r in root"), 0);
	}
	ck_assert_int_eq(system("rm -r in pax.tar gnu.tar"), 0);
	ck_that(!chdir("/"));
}
END_TEST

/* --- names and links --- */

START_TEST(names_that_lead_out)
{
	static const char *const names[] = {"..",
					    "../outside/x",
					    "a/../../outside/x",
					    "/..",
					    "./../x",
					    "a/..",
					    "../../../../../../../../tmp/x"};
	char absolute[4096];

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		tar_text(&t, names[i], "x");
		refused(EINVAL, "'..' in its name");
		tar_pax_text(&t, "path", names[i]);
		tar_text(&t, "x", "x");
		refused(EINVAL, "'..' in its name");
		tar_add(&t, '1', "hard", names[i], NULL, 0);
		refused(EINVAL, "'..' in its name");
	}
	/* Absolute ones are inside, as tar has it. */
	snprintf(absolute, sizeof(absolute), "%s/outside/new", tmp);
	tar_pax_text(&t, "path", absolute);
	tar_text(&t, "x", "x");
	ck_ok(extract());
	ck_assert_str_eq(text_of(absolute + 1), "x");
	tar_text(&t, "//etc///passwd", "y");
	ck_ok(extract());
	ck_assert_str_eq(text_of("etc/passwd"), "y");
	tar_text(&t, "..a/...", "z");
	ck_ok(extract());
	ck_assert_str_eq(text_of("..a/..."), "z");
}
END_TEST

START_TEST(links_that_lead_out)
{
	static const char *const targets[] = {"../outside", "/", "../../../../../../../..", "..",
					      ""};
	char absolute[4096], self[64];

	snprintf(absolute, sizeof(absolute), "%s/outside", tmp);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", outside);
	for (unsigned int i = 0; i < ARRAY_SIZE(targets) + 1; i++) {
		const char *target = i == 4 ? absolute : i == 5 ? self : targets[i];

		/* Below it, through it, and to it. */
		tar_add(&t, '2', "l", target, NULL, 0);
		tar_text(&t, "l/canary", "gone");
		tar_dir(&t, "l/new", 0777);
		tar_text(&t, "l/new/deeper", "x");
		tar_add(&t, '2', "l/again", target, NULL, 0);
		tar_text(&t, "l/again/canary", "gone");
		ck_ok(extract());
		check_outside();
		finish();
		check_outside();
		/* The link itself is replaced, by whatever kind. */
		tar_text(&t, "l", "a file now");
		ck_ok(extract());
		ck_assert(S_ISREG(stat_of("l").st_mode));
		tar_add(&t, '2', "l", target, NULL, 0);
		tar_dir(&t, "l", 0700);
		ck_ok(extract());
		ck_assert(S_ISDIR(stat_of("l").st_mode));
		check_outside();
		ck_assert_int_eq(tree_remove(u.root, "l"), 0);
	}
}
END_TEST

START_TEST(hard_links_that_lead_out)
{
	char absolute[4096];

	snprintf(absolute, sizeof(absolute), "%s/outside/canary", tmp);
	tar_pax_text(&t, "linkpath", absolute);
	tar_add(&t, '1', "hard", "x", NULL, 0);
	refused(ENOENT, "cannot find what it is a hard link to");
	tar_add(&t, '2', "out", "../outside", NULL, 0);
	tar_add(&t, '1', "hard", "out/canary", NULL, 0);
	refused(ENOENT, "cannot find what it is a hard link to");
	/* A link to a link is that link, which nothing follows. */
	tar_add(&t, '2', "l", "../outside/canary", NULL, 0);
	tar_add(&t, '1', "hard", "l", NULL, 0);
	tar_add(&t, '0', "hard2", NULL, "x", 1);
	ck_ok(extract());
	ck_assert_str_eq(link_of("hard"), "../outside/canary");
	tar_text(&t, "hard", "gone");
	ck_ok(extract());
	ck_assert_str_eq(link_of("l"), "../outside/canary");
	check_outside();

	tar_add(&t, '1', "self", "self", NULL, 0);
	refused(ENOENT, "cannot find");
	tar_text(&t, "self", "x");
	tar_add(&t, '1', "self", "./self", NULL, 0);
	ck_ok(extract());
	ck_assert_str_eq(text_of("self"), "x");
	tar_dir(&t, "d", 0755);
	tar_add(&t, '1', "x", "d", NULL, 0);
	refused(EINVAL, "hard link to a directory");
	tar_add(&t, '1', "x", "/", NULL, 0);
	refused(EINVAL, "hard link to the root");
	tar_text(&t, "d/f", "x");
	tar_add(&t, '1', "d", "d/f", NULL, 0); /* what replaces its own target */
	refused(ENOENT, "cannot make the hard link");
}
END_TEST

/* Attributes of what a link leads to stay; a device or fifo that is replaced is not opened. */
START_TEST(nothing_is_followed)
{
	tar_add(&t, '2', "l", "../outside/canary", NULL, 0);
	tar_pax_text(&t, "SCHILY.xattr.user.x", "1");
	t.mode = 0777, t.uid = 99, t.mtime = 5;
	tar_add(&t, '2', "l", "../outside/canary", NULL, 0);
	tar_add(&t, '6', "fifo", NULL, NULL, 0);
	tar_text(&t, "fifo", "x");
	ck_ok(extract());
	finish();
	check_outside();
	ck_assert_str_eq(text_of("fifo"), "x");
}
END_TEST

START_TEST(dangling_links_on_the_way)
{
	tar_add(&t, '2', "var/run", "/run", NULL, 0);
	tar_text(&t, "var/run/lock/f", "x");
	tar_add(&t, '2', "a", "b", NULL, 0);
	tar_add(&t, '2', "b", "c/../d/e", NULL, 0);
	tar_text(&t, "a/f", "y");
	ck_ok(extract());
	ck_assert_str_eq(text_of("run/lock/f"), "x");
	ck_assert_str_eq(text_of("d/e/f"), "y");
	tar_add(&t, '2', "x", "y", NULL, 0);
	tar_add(&t, '2', "y", "x", NULL, 0);
	tar_text(&t, "x/f", "z");
	refused(ELOOP, "'x/f'");
	tar_text(&t, "file", "x");
	tar_text(&t, "file/f", "z");
	refused(ENOTDIR, "'file/f'");
	tar_add(&t, '2', "grow", "grow/a", NULL, 0);
	tar_text(&t, "grow/f", "z");
	refused(ELOOP, "'grow/f'");
	tar_add(&t, '2', "g", "g2/a", NULL, 0);
	tar_add(&t, '2', "g2", "g3/a", NULL, 0);
	tar_text(&t, "g/f", "w");
	ck_ok(extract());
	ck_assert_str_eq(text_of("g3/a/a/f"), "w");
}
END_TEST

START_TEST(replacing)
{
	tar_dir(&t, "d", 0700);
	tar_text(&t, "d/sub/f", "x");
	tar_text(&t, "d", "a file");
	tar_dir(&t, "e", 0700);
	tar_text(&t, "e/f", "kept");
	tar_dir(&t, "e", 0711);
	tar_text(&t, "f", "once");
	tar_text(&t, "f", "twice");
	ck_ok(extract());
	finish();
	ck_assert_str_eq(text_of("d"), "a file");
	ck_assert_str_eq(text_of("e/f"), "kept");
	ck_assert_uint_eq(stat_of("e").st_mode & 0777, 0711);
	ck_assert_str_eq(text_of("f"), "twice");
	/* A directory that was replaced does not give its successor its mode. */
	tar_dir(&t, "e", 0111);
	tar_add(&t, '2', "e", "../outside", NULL, 0);
	ck_ok(extract());
	finish();
	check_outside();
	tar_text(&t, ".", "x");
	refused(EINVAL, "the root is not a directory");
}
END_TEST

/* --- layers --- */

START_TEST(whiteouts)
{
	u.layer = true;
	tar_text(&t, "a/gone", "1");
	tar_text(&t, "a/stays", "1");
	tar_text(&t, "tree/x/y", "1");
	tar_text(&t, "o/low", "1");
	tar_text(&t, "o/both/low", "1");
	tar_text(&t, "o/implied/low", "1");
	tar_add(&t, '2', "ld", "a", NULL, 0);
	ck_ok(extract());
	tar_text(&t, "a/.wh.gone", "");
	tar_text(&t, ".wh.tree", "");
	tar_text(&t, ".wh.ld", "");
	tar_text(&t, ".wh.nothing", "");
	tar_text(&t, "no/such/.wh.dir", "");
	/* What is of the same layer stays, before or behind. */
	tar_text(&t, "o/early", "2");
	tar_dir(&t, "o/both", 0700);
	tar_text(&t, "o/both/new", "2");
	tar_text(&t, "o/implied/new", "2");
	tar_text(&t, "o/.wh..wh..opq", "");
	tar_text(&t, "o/late", "2");
	tar_text(&t, ".wh..wh.plnk/1.2", "aufs");
	ck_ok(extract());
	finish();
	ck_assert(!there("a/gone") && !there("tree") && !there("ld") && !there("no"));
	ck_assert_str_eq(text_of("a/stays"), "1");
	ck_assert(!there("o/low") && !there("o/both/low") && !there("o/implied/low"));
	ck_assert(there("o/early") && there("o/late") && there("o/both/new") &&
		  there("o/implied/new"));
	ck_assert(!there("a/.wh.gone") && !there("o/.wh..wh..opq") && !there(".wh..wh.plnk"));
	/* ... and is of a layer below for the next one. */
	tar_text(&t, "o/.wh..wh..opq", "");
	ck_ok(extract());
	ck_assert(there("o") && !there("o/early") && !there("o/both"));
	/* A name of this layer is not hidden by its own whiteout. */
	tar_text(&t, "a/stays", "3");
	tar_text(&t, "a/.wh.stays", "");
	ck_ok(extract());
	ck_assert_str_eq(text_of("a/stays"), "3");
	tar_text(&t, "a/.wh.", "");
	refused(EINVAL, "whiteout of nothing");
	tar_text(&t, "a/.wh..", "");
	refused(EINVAL, "whiteout of nothing");
	tar_text(&t, "a/.wh...", "");
	refused(EINVAL, "whiteout of nothing");
}
END_TEST

START_TEST(whiteouts_without_layers)
{
	tar_text(&t, "f", "x");
	tar_text(&t, ".wh.f", "");
	ck_ok(extract());
	ck_assert(there("f") && there(".wh.f"));
}
END_TEST

/* Through links, between layers: what a whiteout removes is inside. */
START_TEST(whiteouts_that_lead_out)
{
	u.layer = true;
	tar_dir(&t, "d", 0755);
	tar_text(&t, "d/f", "x");
	ck_ok(extract());
	tar_add(&t, '2', "d", "../outside", NULL, 0);
	ck_ok(extract());
	tar_text(&t, "d/.wh.canary", "");
	tar_text(&t, "d/.wh..wh..opq", "");
	tar_text(&t, "d/f", "y");
	ck_ok(extract());
	check_outside();
	ck_assert_str_eq(text_of("outside/f"), "y");
	tar_add(&t, '2', "l", "../outside", NULL, 0);
	ck_ok(extract());
	tar_text(&t, ".wh.l", "");
	ck_ok(extract());
	ck_assert(!there("l"));
	check_outside();
	tar_dir(&t, "p", 0755);
	tar_add(&t, '2', "p/l", "../../outside", NULL, 0);
	ck_ok(extract());
	tar_text(&t, "p/.wh..wh..opq", "");
	ck_ok(extract());
	check_outside();
}
END_TEST

/* --- what is wrong --- */

START_TEST(malformed)
{
	uint8_t *h;
	char *big;

	ck_refused(extract_raw(), EINVAL, "cut off"); /* an empty file */
	tar_text(&t, "f", "x");
	t.data[0] ^= 1;
	refused(EINVAL, "checksum is wrong");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124, "-0000000001", 11);
	tarball_seal(t.data);
	refused(EINVAL, "impossible size");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124,
	       "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	tarball_seal(t.data);
	refused(EINVAL, "impossible size");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124,
	       "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	tarball_seal(t.data);
	refused(EINVAL, "impossible size");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124,
	       "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
	tarball_seal(t.data);
	refused(EFBIG, "GiB");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124, "77777777777", 11);
	tarball_seal(t.data);
	refused(EINVAL, "'f' is cut off"); /* 8 GiB, of which there are a few blocks */
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 124, "9", 1);
	tarball_seal(t.data);
	refused(EINVAL, "impossible size");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 108, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
	tarball_seal(t.data);
	refused(EINVAL, "impossible owner");
	memcpy(tar_add(&t, '0', "f", NULL, "x", 1) + 100, "rwxr-xr", 7);
	tarball_seal(t.data);
	refused(EINVAL, "malformed number");
	memcpy(tar_add(&t, '3', "f", NULL, NULL, 0) + 329, "\x80\0\0\1\0\0\0\0", 8);
	tarball_seal(t.data);
	refused(EINVAL, "impossible device");
	tar_add(&t, 'M', "f", NULL, NULL, 0);
	refused(EINVAL, "type that is not supported ('M')");
	tar_add(&t, 'x', "f", NULL, NULL, 0);
	refused(EINVAL, "ends within a member");
	tar_add(&t, 'x', "f", NULL, "6 a=b\n", 6);
	tar_add(&t, 'x', "f", NULL, "6 a=b\n", 6);
	refused(EINVAL, "two extended headers");
	h = tar_add(&t, 'x', "f", NULL, NULL, 0);
	memcpy(h + 124, "77777777777", 11);
	tarball_seal(h);
	refused(E2BIG, "extended header of 8589934591 bytes");
	big = calloc(1, 10001);
	memset(big, 'n', 10000);
	tar_add(&t, 'L', "f", NULL, big, 10001);
	tar_text(&t, "f", "x");
	refused(ENAMETOOLONG, "a name of 10000 bytes is too long");
	for (unsigned int i = 1; i < 10000; i += 2)
		big[i] = '/';
	tar_pax_text(&t, "path", big);
	tar_text(&t, "f", "x");
	refused(ENAMETOOLONG, "a name of 10000 bytes is too long");
	free(big);
}
END_TEST

START_TEST(malformed_pax)
{
	static const char *const bad[] = {"6 a=b",    "7 a=b\n",
					  "5 a=b\n",  "6 ab\n\n",
					  "4 =\n",    "a",
					  "6a=b\n",   "0 a=b\n",
					  "-6 a=b\n", "99999999999999999999 a=b\n",
					  "6 a=b\n7", "3 \n",
					  "2\n",      "18446744073709551615 a=b\n"};
	static const struct {
		const char *key, *value;
	} wrong[] = {{"uid", "-1"},
		     {"uid", "4294967295"},
		     {"uid", "1x"},
		     {"gid", "x"},
		     {"size", "-1"},
		     {"size", "1.5"},
		     {"mtime", "x"},
		     {"mtime", "1.5x"},
		     {"mtime", "--1"},
		     {"mtime", "1e5"},
		     {"size", "9223372036854775808"},
		     {"mtime", "99999999999999999999"}};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		tar_add(&t, 'x', "pax", NULL, bad[i], strlen(bad[i]));
		tar_text(&t, "f", "x");
		refused(EINVAL, "pax record is malformed");
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		tar_pax_text(&t, wrong[i].key, wrong[i].value);
		tar_text(&t, "f", "x");
		refused(EINVAL, "is wrong or not supported");
	}
	tar_pax(&t, "path", "a\0b", 3);
	tar_text(&t, "f", "x");
	refused(EINVAL, "has a NUL in it");
	tar_add(&t, 'x', "pax", NULL, "7 a\0=b\n", 7);
	tar_text(&t, "f", "x");
	refused(EINVAL, "has a NUL in it");
	for (unsigned int i = 0; i < TAR_XATTRS_MAX + 1; i++)
		tar_pax_text(&t, "SCHILY.xattr.user.x", "1");
	tar_text(&t, "f", "x");
	refused(E2BIG, "extended attributes");
	tar_pax_text(&t, "SCHILY.xattr.", "1");
	tar_text(&t, "f", "x");
	refused(ERANGE, "extended attribute");
}
END_TEST

static void small_archive(void)
{
	tar_dir(&t, "d", 0755);
	tar_pax_text(&t, "mtime", "1.5");
	tar_text(&t, "d/f", "content");
	tar_add(&t, 'L', "././@LongLink", NULL, "d/a long name", 14);
	tar_add(&t, '2', "l", "d/f", NULL, 0);
	tar_add(&t, '1', "h", "d/f", NULL, 0);
}

/* However it comes: in a file or, a byte at a time, through a pipe. */
START_TEST(every_truncation)
{
	size_t whole;

	small_archive();
	whole = t.len;
	tar_end(&t);
	for (t.len = 0; t.len < whole + 512; t.len += 1 + t.len % 3)
		ck_refused(extract_raw(), EINVAL, "cut off");
	for (t.len = whole + 512; t.len <= whole + 1024; t.len += 256)
		ck_ok(extract_raw()); /* one block of zeros is an end */
}
END_TEST

START_TEST(through_a_pipe)
{
	int p[2], status;
	pid_t writer;

	small_archive();
	tar_end(&t);
	ck_that(!pipe(p));
	writer = fork();
	if (!writer) {
		for (size_t i = 0; i < t.len; i++)
			if (write(p[1], t.data + i, 1) != 1)
				_exit(1);
		for (unsigned int i = 0; i < 20000;
		     i++) /* record padding, more than a pipe holds */
			if (write(p[1], "more\0\0\0", 7) != 7)
				_exit(1);
		_exit(0);
	}
	close(p[1]);
	ck_ok(unpack_tar(&u, p[0], "pipe", &e));
	close(p[0]);
	ck_that(waitpid(writer, &status, 0) == writer && status == 0);
	ck_assert_str_eq(text_of("h"), "content");
}
END_TEST

/* Mutations of a valid archive, half of them with checksums made good again. */
START_TEST(mutations)
{
	uint32_t random = 7;
	size_t whole;
	uint8_t *good;

	u.layer = true;
	small_archive();
	tar_add(&t, '2', "out", "../outside", NULL, 0);
	tar_text(&t, "out/canary", "gone");
	tar_text(&t, "d/.wh.f", "");
	tar_text(&t, "out/.wh..wh..opq", "");
	tar_end(&t);
	whole = t.len;
	good = malloc(whole);
	memcpy(good, t.data, whole);
	for (unsigned int round = 0; round < 2000; round++) {
		memcpy(t.data, good, whole);
		for (unsigned int i = 0; i < 1 + round % 4; i++) {
			size_t at = next_random(&random) % whole;

			/* Mostly where the fields are. */
			if (next_random(&random) % 4)
				at = at / 512 * 512 + at % 512 * 345 / 512;
			t.data[at] = next_random(&random) % 2
					     ? (uint8_t)next_random(&random)
					     : (uint8_t) "7/.\0x5"[next_random(&random) % 6];
			if (round % 2)
				tarball_seal(t.data + at / 512 * 512);
		}
		e.text[0] = 0;
		if (extract_raw())
			ck_that(*e.text);
		if (round % 50 == 0) {
			finish();
			check_outside();
			ck_that(!tree_remove(tmp_dir, "root") && !mkdirat(tmp_dir, "root", 0755));
			close(u.root);
			u.root = openat(tmp_dir, "root", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		}
	}
	free(good);
}
END_TEST

START_TEST(no_descriptor_is_left)
{
	unsigned int before = open_fds();

	small_archive();
	ck_ok(extract());
	finish();
	tar_text(&t, "../x", "x");
	refused(EINVAL, "..");
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

/* --- trees --- */

START_TEST(removes_any_depth)
{
	struct rlimit few = {64, 64};
	int at = dup(u.root);

	for (unsigned int i = 0; i < 300; i++) {
		int next;

		ck_that(!mkdirat(at, "d", 0700));
		ck_that(!symlinkat("../../outside", at, "link"));
		next = openat(at, "d", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		ck_that(!i || !fchmod(at, i % 3 ? 0 : 0700));
		close(at);
		at = next;
	}
	close(at);
	ck_that(!setrlimit(RLIMIT_NOFILE, &few));
	ck_assert_int_eq(tree_remove(u.root, "d"), 0);
	ck_assert(!there("d"));
	ck_assert_int_eq(tree_remove(u.root, "link"), 0);
	ck_assert_int_eq(tree_remove(u.root, "link"), 0);
	check_outside();
}
END_TEST

START_TEST(digests_tell_trees_apart)
{
	static char seen[16][SHA256_HEX + 1];
	unsigned int n = 0;
	uint64_t files;
	int64_t newest;

#define LOOK()                                                                                     \
	do {                                                                                       \
		ck_ok(tree_digest(u.root, "root", seen[n], &files, &newest, &e));                  \
		for (unsigned int look = 0; look < n; look++)                                      \
			ck_that(strcmp(seen[look], seen[n]));                                      \
		ck_ok(tree_digest(u.root, "root", seen[n + 1], &files, &newest, &e));              \
		ck_that(!strcmp(seen[n], seen[n + 1]));                                            \
		n++;                                                                               \
	} while (0)
	LOOK();
	ck_that(!mkdirat(u.root, "d", 0755));
	LOOK();
	close(openat(u.root, "d/f", O_CREAT | O_WRONLY, 0644));
	LOOK();
	ck_that(!fchmodat(u.root, "d/f", 0600, 0));
	LOOK();
	ck_that(!symlinkat("a", u.root, "l"));
	LOOK();
	ck_that(!unlinkat(u.root, "l", 0) && !symlinkat("b", u.root, "l"));
	LOOK();
	ck_that(!renameat(u.root, "d/f", u.root, "d/g"));
	LOOK();
	ck_that(!truncate(in_root("d/g"), 5));
	LOOK();
	ck_assert_uint_eq(files, 4);
#undef LOOK
	for (unsigned int i = 0; i < TREE_DEPTH_MAX; i++)
		ck_that(!mkdirat(u.root, "deep", 0700) &&
			!renameat(u.root, "d", u.root, "deep/d") &&
			!renameat(u.root, "deep", u.root, "d"));
	ck_refused(tree_digest(u.root, "root", seen[0], &files, &newest, &e), ELOOP,
		   "directories deep");
}
END_TEST

/* --- of a guest --- */

/* The archive is a guest's, who was asked for this. */
static void of_guest(const char *only)
{
	unpack_free(&u);
	u.guest = true;
	u.only = only;
	ck_ok(unpack_begin(&u, &e));
}

START_TEST(guest_sends_what_was_asked_for)
{
	ck_that(!mkdirat(u.root, "x", 0750) && !mkdirat(u.root, "x/sub", 0700));
	ck_that(!fchmodat(u.root, ".", 0711, 0));
	of_guest("x");
	t.mtime = 1000000000;
	t.uid = 1234;
	tar_dir(&t, "x", 0777);
	tar_dir(&t, "x/sub", 0777);
	tar_dir(&t, "x/new", 0555);
	t.mode = 06777;
	tar_text(&t, "x/new/file", "content");
	t.mode = 0644;
	tar_add(&t, '1', "./x/hard", "x/new/file", NULL, 0);
	tar_add(&t, '2', "x/link", "/etc/passwd", NULL, 0);
	tar_add(&t, '6', "x/fifo", NULL, NULL, 0);
	tar_add(&t, '3', "x/null", NULL, NULL, 0);
	tar_pax(&t, "SCHILY.xattr.user.a", "b", 1);
	tar_text(&t, "x/with", "");
	ck_ok(extract());
	ck_ok(unpack_end(&u, &e));
	/* Those that were there stay as they were. */
	ck_assert_uint_eq(stat_of(".").st_mode, S_IFDIR | 0711);
	ck_assert_uint_eq(stat_of("x").st_mode, S_IFDIR | 0750);
	ck_assert_uint_eq(stat_of("x/sub").st_mode, S_IFDIR | 0700);
	ck_assert_uint_eq(stat_of("x/new").st_mode, S_IFDIR | 0555);
	ck_assert_int_eq(stat_of("x/new").st_mtime, 1000000000);
	ck_assert_uint_eq(stat_of("x/new/file").st_mode, S_IFREG | 0777);
	ck_assert_uint_eq(stat_of("x/new/file").st_uid, geteuid());
	ck_assert_uint_eq(stat_of("x/hard").st_nlink, 2);
	ck_assert_str_eq(link_of("x/link"), "/etc/passwd");
	ck_assert(S_ISFIFO(stat_of("x/fifo").st_mode) && !there("x/null"));
	ck_assert_uint_eq(u.devices, 1);
	ck_assert_uint_eq(u.xattrs, 1);
	ck_assert(getxattr(in_root("x/with"), "user.a", NULL, 0) < 0);
	ck_ok(unpack_begin(&u, &e));
}
END_TEST

START_TEST(guest_owners_are_kept_if_wanted)
{
	if (geteuid())
		ck_skip("not root");
	u.keep_owners = true;
	of_guest("");
	t.uid = 1234, t.mode = 04755;
	tar_text(&t, "f", "x");
	ck_ok(extract());
	ck_assert_uint_eq(stat_of("f").st_uid, 1234);
	ck_assert_uint_eq(stat_of("f").st_mode, S_IFREG | 04755);
}
END_TEST

/* Beside what was asked for there is something of the host's; nothing leads to it. */
START_TEST(guest_sends_something_else)
{
	static const struct {
		char type;
		const char *name, *link;
		int code;
		const char *say;
	} bad[] = {
		{'0', "mine/f", NULL, EINVAL, "was not asked for"},
		{'0', "xy", NULL, EINVAL, "was not asked for"},
		{'0', ".", NULL, EINVAL, "was not asked for"},
		{'5', "/", NULL, EINVAL, "was not asked for"},
		{'0', "x/../mine/f", NULL, EINVAL, "'..'"},
		{'0', "../outside/canary", NULL, EINVAL, "'..'"},
		{'1', "x/h", "mine/f", EINVAL, "was not asked for"},
		{'1', "x/h", "x/to/f", ELOOP, "cannot find"},
		{'0', "x/to/f", NULL, ELOOP, "cannot open the directory"},
		{'5', "x/to/d", NULL, ELOOP, "cannot open the directory"},
		{'0', "x/root/mine/f", NULL, ELOOP, "cannot open the directory"},
		{'0', "x/away/new/f", NULL, ELOOP, "cannot open the directory"},
		{'0', "x/dir", NULL, EINVAL, "would replace a directory"},
		{'2', "x/dir", "y", EINVAL, "would replace a directory"},
		{'5', "x/file", NULL, EINVAL, "there is a file"},
	};
	struct stat st;

	ck_that(!mkdirat(u.root, "mine", 0755));
	close(openat(u.root, "mine/f", O_CREAT | O_WRONLY, 0600));
	of_guest("x");
	tar_dir(&t, "x", 0755);
	tar_dir(&t, "x/dir", 0755);
	tar_text(&t, "x/file", "x");
	tar_add(&t, '2', "x/to", "../mine", NULL, 0);
	tar_add(&t, '2', "x/root", "/", NULL, 0);
	tar_add(&t, '2', "x/away", "../nothing", NULL, 0);
	ck_ok(extract());
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		tar_add(&t, bad[i].type, bad[i].name, bad[i].link, "evil",
			bad[i].type == '0' ? 4 : 0);
		refused(bad[i].code, bad[i].say);
	}
	st = stat_of("mine/f");
	ck_assert(!st.st_size && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
	ck_assert(!there("xy") && !there("nothing") && S_ISDIR(stat_of("x/dir").st_mode));
	/* A link in place of what was asked for, to be followed by the next member. */
	ck_that(!tree_remove(u.root, "x"));
	tar_add(&t, '2', "x", "mine", NULL, 0);
	tar_text(&t, "x/f", "evil");
	refused(ELOOP, "cannot open the directory");
	ck_assert(!stat_of("mine/f").st_size);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_kind,
		as_an_ordinary_user,
		long_names,
		pax_values,
		capabilities_survive,
		numbers_in_base_256,
		sparse_files,
		sparse_maps_that_lie,
		old_sparse_maps_that_lie,
		sparse_maps_without_end,
		headers_of_all_and_labels,
		links_to_long_paths,
		an_archive_of_tar,
		names_that_lead_out,
		links_that_lead_out,
		hard_links_that_lead_out,
		nothing_is_followed,
		dangling_links_on_the_way,
		replacing,
		whiteouts,
		whiteouts_without_layers,
		whiteouts_that_lead_out,
		malformed,
		malformed_pax,
		every_truncation,
		through_a_pipe,
		mutations,
		no_descriptor_is_left,
		removes_any_depth,
		digests_tell_trees_apart,
		guest_sends_what_was_asked_for,
		guest_owners_are_kept_if_wanted,
		guest_sends_something_else,
	};

	return run_tests("unpack", tests, ARRAY_SIZE(tests), setup, teardown);
}
