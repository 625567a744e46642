/* SPDX-License-Identifier: Apache-2.0
 *
 * Root file systems of every kind: what is made of them, when, and what is refused. Most tests have
 * a mkfs.erofs of their own in $PATH, which notes that it ran, and makes as little of an image as
 * is needed; some have Debian's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/tarball.h"
#include "tests/unit/util.h"
#include "vmm/cache.h"
#include "vmm/image.h"
#include "vmm/oci_image.h"
#include "vmm/tree.h"
#include "vmm/util.h"

static struct err e;
static struct image img;
static char usual_path[4096];

static void make_executable(const char *name, const char *text)
{
	ck_that(!chmod(tmp_file(name, text, strlen(text)), 0755));
}

/* Its last operand is the tree, the one before the image. */
static const char fake_mkfs[] =
	"#!/bin/sh\n"
	"for a; do image=$tree; tree=$a; done\n"
	"echo ran >>\"$FAKE/runs\"\n"
	"[ ! -e \"$FAKE/slow\" ] || sleep 0.3\n"
	"while [ -e \"$FAKE/hang\" ]; do echo half >\"$image\"; sleep 0.05; done\n"
	"[ ! -e \"$FAKE/touch\" ] || date +%N >>\"$tree/changing\"\n"
	"[ ! -e \"$FAKE/fail\" ] || { echo half >\"$image\"; echo 'no luck' >&2; exit 3; }\n"
	"{ head -c 1024 /dev/zero; printf '\\342\\341\\365\\340'; head -c 1020 /dev/zero; } "
	">\"$image\"\n";

static void setup(void)
{
	char path[8192];

	tmp_setup();
	snprintf(usual_path, sizeof(usual_path), "%s", getenv("PATH"));
	ck_that(!mkdirat(tmp_dir, "bin", 0755));
	make_executable("bin/mkfs.erofs", fake_mkfs);
	snprintf(path, sizeof(path), "%s:%s", tmp_path("bin"), usual_path);
	setenv("PATH", path, 1);
	setenv("FAKE", tmp, 1);
	setenv("UVM_CACHE", tmp_path("cache"), 1);
	img = (struct image){.use = -1};
}

static void teardown(void)
{
	image_close(&img);
	tmp_teardown();
}

/* Counts how often an image was made. */
static unsigned int runs(void)
{
	const char *text;
	size_t len;

	if (access(tmp_path("runs"), F_OK))
		return 0;
	text = file_text(tmp_path("runs"), &len);
	(void)text;
	return (unsigned int)len / 4;
}

static int open_named(const char *name, const char *which)
{
	const struct image_request req = {.root = tmp_path(name), .name = which};

	image_close(&img);
	return image_open(&req, &img, &e);
}

static int open_it(const char *name)
{
	return open_named(name, NULL);
}

static void write_tar(const char *name, struct tarball *t)
{
	tar_end(t);
	tmp_file(name, t->data, t->len);
	tarball_free(t);
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
	char command[8192];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command))
		ck_abort_msg("%s", command);
}

/* How many names there are in a directory of the cache. */
static unsigned int count(const char *dir)
{
	char command[8192];
	unsigned int n = 0;
	FILE *f;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", tmp_path(dir));
	f = popen(command, "r");
	ck_that(f && fscanf(f, "%u", &n) == 1);
	pclose(f);
	return n;
}

/* --- images, directories, tars --- */

START_TEST(images_are_taken_as_they_are)
{
	uint8_t block[4096] = {0};
	char path[4096];

	memcpy(block + 1080, "\x53\xef", 2);
	tmp_file("ext4", block, sizeof(block));
	ck_ok(open_it("ext4"));
	ck_assert_str_eq(img.fstype, "ext4");
	ck_assert_str_eq(img.path, realpath(tmp_path("ext4"), path));
	ck_assert(!img.cached && img.use < 0 && !img.config.env && !*img.config.user);
	memset(block, 0, sizeof(block));
	memcpy(block + 1024, "\xe2\xe1\xf5\xe0", 4);
	tmp_file("erofs", block, sizeof(block));
	ck_ok(open_it("erofs"));
	ck_assert_str_eq(img.fstype, "erofs");
	ck_assert(access(tmp_path("cache"), F_OK)); /* none was needed */
	memset(block, 0, sizeof(block));
	memcpy(block, "hsqs", 4);
	tmp_file("squash", block, sizeof(block));
	ck_refused(open_it("squash"), EINVAL, "squashfs");
	tmp_file("text", "hello", 5);
	ck_refused(open_it("text"), EINVAL, "is no image");
	ck_refused(open_it("empty-name/none"), ENOENT, "none");
	ck_that(!mkfifo(tmp_path("fifo"), 0600));
	ck_refused(open_it("fifo"), EINVAL, "neither a file nor a directory");
	ck_assert_uint_eq(runs(), 0);
}
END_TEST

START_TEST(directories)
{
	char first[65];

	shell("mkdir -p %s/d/sub && echo 1 >%s/d/sub/f", tmp, tmp);
	ck_ok(open_it("d"));
	ck_assert(img.cached && img.made && img.use >= 0);
	ck_assert_str_eq(img.fstype, "erofs");
	strcpy(first, img.key);
	ck_ok(open_it("d"));
	ck_assert(!img.made && !strcmp(img.key, first));
	ck_assert_uint_eq(runs(), 1);
	/* Another content, a time, a mode, a name. */
	shell("echo 2 >%s/d/sub/f", tmp);
	ck_ok(open_it("d"));
	ck_assert(img.made && strcmp(img.key, first));
	shell("touch -d 2001-01-01 %s/d/sub/f", tmp);
	ck_ok(open_it("d"));
	ck_assert(img.made);
	shell("chmod 600 %s/d/sub/f", tmp);
	ck_ok(open_it("d"));
	ck_assert(img.made);
	shell("mv %s/d/sub/f %s/d/sub/g", tmp, tmp);
	ck_ok(open_it("d"));
	ck_assert(img.made);
	ck_ok(open_it("d/"));
	ck_assert(!img.made);
	ck_assert_uint_eq(runs(), 5);
	ck_refused(open_named("d", "tag"), EINVAL, "is no OCI image");
}
END_TEST

START_TEST(a_directory_that_changes)
{
	shell("mkdir %s/d && touch %s/touch", tmp, tmp);
	ck_refused(open_it("d"), ESTALE, "changes while it is read");
	ck_assert_uint_eq(runs(), 3);
	ck_assert_uint_eq(count("cache/images"), 0);
	shell("rm %s/touch", tmp);
	ck_ok(open_it("d"));
}
END_TEST

START_TEST(tars)
{
	struct tarball t = tarball();
	char first[65];

	tar_text(&t, "f", "x");
	write_tar("a.tar", &t);
	ck_ok(open_it("a.tar"));
	ck_assert(img.made);
	strcpy(first, img.key);
	ck_ok(open_it("a.tar"));
	shell("cp %s/a.tar %s/b.tar", tmp, tmp); /* the same by another name */
	ck_ok(open_it("b.tar"));
	ck_assert(!img.made && !strcmp(img.key, first));
	ck_assert_uint_eq(runs(), 1);
	ck_assert_uint_eq(count("cache/files"), 2);
	/* What is remembered of a file that did not change is believed: it is not read. */
	shell("cd %s/cache/files && for l in *; do ln -sfn $(printf %%064d 0) $l; done", tmp);
	ck_ok(open_it("a.tar"));
	ck_assert(img.made && strcmp(img.key, first));
	shell("cd %s/cache/files && for l in *; do ln -sfn ../../../etc $l; done", tmp);
	ck_ok(open_it("a.tar"));
	ck_assert(!strcmp(img.key, first));
	tar_text(&t, "f", "y");
	write_tar("a.tar", &t);
	ck_ok(open_it("a.tar"));
	ck_assert(img.made && strcmp(img.key, first));
	tar_text(&t, "../f", "y");
	write_tar("bad.tar", &t);
	ck_refused(open_it("bad.tar"), EINVAL, "'..' in its name");
	ck_assert_uint_eq(count("cache/images"), 3);
	tar_text(&t, "f", "y");
	tmp_file("cut.tar", t.data, 512);
	tarball_free(&t);
	ck_refused(open_it("cut.tar"), EINVAL, "cut off");
	ck_refused(open_named("a.tar", "tag"), EINVAL, "is no OCI image");
}
END_TEST

START_TEST(compressed_tars)
{
	static const char *const tools[] = {"gzip", "zstd -q", "xz", "bzip2"};
	struct tarball t = tarball();
	char *noise = malloc(300000);
	unsigned int n = 0;

	fill_pattern(noise, 300000, 1);
	tar_add(&t, '0', "noise", NULL, noise, 300000);
	free(noise);
	write_tar("t", &t);
	for (unsigned int i = 0; i < ARRAY_SIZE(tools); i++) {
		char command[8192];

		snprintf(command, sizeof(command), "%s -c <%s >%s 2>/dev/null", tools[i],
			 tmp_path("t"), tmp_path("t.z"));
		if (system(command))
			continue;
		ck_ok(open_it("t.z"));
		ck_assert(img.made);
		n++;
		shell("head -c -20 %s/t.z >%s/cut.z", tmp, tmp);
		ck_refused(open_it("cut.z"), EIO, "failed with status");
	}
	ck_assert_uint_ge(n, 1);
	/* Without the tool. */
	setenv("PATH", tmp_path("bin"), 1);
	make_executable("bin/gzip", "#!/bin/sh\nexit 0\n");
	tmp_file("empty.gz", "\x1f\x8b\x08\0\0\0\0\0", 8);
	ck_refused(open_it("empty.gz"), EINVAL, "cut off");
	setenv("PATH", usual_path, 1);
}
END_TEST

START_TEST(a_failing_tool)
{
	shell("mkdir %s/d && touch %s/fail", tmp, tmp);
	ck_refused(open_it("d"), EIO, "mkfs.erofs failed with status 3: no luck");
	ck_assert_uint_eq(count("cache/images"), 0);
	shell("rm %s/fail", tmp);
	ck_ok(open_it("d"));
}
END_TEST

/* --- the real thing --- */

static bool have_erofs(void)
{
	setenv("PATH", usual_path, 1);
	return !system("command -v mkfs.erofs >/dev/null && command -v fsck.erofs >/dev/null");
}

START_TEST(the_right_content)
{
	struct tarball t = tarball();

	if (!have_erofs())
		ck_skip("no erofs-utils");
	shell("cd %s && mkdir -p d/a/b && echo hello >d/a/f && ln d/a/f d/hard && ln -s a/f d/l && "
	      "head -c 100000 /dev/urandom >d/a/b/big && chmod 711 d/a/b/big && chmod 4755 d/a/f "
	      "&& "
	      "touch -d '2020-01-02 03:04:05.123456789' d/a/f d/a d",
	      tmp);
	ck_ok(open_it("d"));
	shell("cd %s && fsck.erofs --extract=out %s >/dev/null && diff -r d out && "
	      "test \"$(cd d && find . -printf '%%p %%T@ %%y %%l\\n' | sort)\" = "
	      "\"$(cd out && find . -printf '%%p %%T@ %%y %%l\\n' | sort)\" && "
	      "dump.erofs --path=/hard %s | grep -q 'Links: 2' && "
	      "nid=$(dump.erofs --path=/hard %s | sed -n 's/^NID: *\\([0-9]*\\).*/\\1/p') && "
	      /* i_mode, which neither of them shows in full */
	      "test $(od -An -to2 -j $((32 * nid + 4)) -N 2 %s) = 104755",
	      tmp, img.path, img.path, img.path, img.path);
	if (!geteuid())
		t.uid = 100000, t.gid = 42;
	t.mtime = 1000000000;
	t.mode = 0640;
	tar_text(&t, "dir/f", "content");
	tar_dir(&t, "dir", 0555);
	write_tar("t.tar", &t);
	ck_ok(open_it("t.tar"));
	shell("cd %s && fsck.erofs --extract=out2 %s >/dev/null && "
	      "test \"$(stat -c '%%a %%u %%g %%Y %%s' out2/dir/f)\" = \"640 %u %u 1000000000 7\" "
	      "&& "
	      "test \"$(stat -c '%%a %%Y' out2/dir)\" = '555 1000000000' && chmod 755 out2/dir",
	      tmp, img.path, geteuid() ? geteuid() : 100000, geteuid() ? getegid() : 42);
	/* The same makes the same, byte for byte. */
	shell("cd %s && cp $(ls cache/images/%s/image) once && rm -r cache", tmp, img.key);
	ck_ok(open_it("t.tar"));
	ck_assert(img.made);
	shell("cd %s && cmp once cache/images/%s/image", tmp, img.key);
}
END_TEST

START_TEST(as_an_ordinary_user)
{
	int p[2], status;
	char said[512] = "";
	pid_t pid;

	if (!have_erofs())
		ck_skip("no erofs-utils");
	if (geteuid())
		ck_skip("not root, who could become one");
	shell("cd %s && mkdir d && echo x >d/f && chown -R 12345:12345 . && chmod 711 . ..", tmp);
	ck_that(!pipe(p));
	pid = fork();
	if (!pid) {
		dup2(p[1], STDERR_FILENO);
		if (setgid(12345) || setuid(12345))
			_exit(1);
		if (open_it("d") || !img.made)
			_exit(2);
		shell("cd %s && fsck.erofs --extract=out %s >/dev/null && cmp d/f out/f && "
		      "dump.erofs --path=/f %s | grep -q 'Uid: 0   Gid: 0'",
		      tmp, img.path, img.path);
		shell("chmod 0 %s/d/f", tmp);
		_exit(open_it("d") == -EIO && strstr(e.text, "mkfs.erofs failed") ? 0 : 3);
	}
	close(p[1]);
	ck_that(waitpid(pid, &status, 0) == pid);
	ck_assert_int_eq(status, 0);
	ck_that(read(p[0], said, sizeof(said) - 1) > 0);
	close(p[0]);
	ck_assert(
		strstr(said, "made by an ordinary user: all files in the image belong to root\n"));
	/* And root does not trust that user's cache. */
	ck_refused(open_it("d"), EPERM, "belongs to another user");
}
END_TEST

/* --- OCI --- */

static const char *blob(const void *data, size_t len)
{
	static char hex[4][SHA256_HEX + 1];
	static unsigned int turn;
	char name[128], *to = hex[turn++ % 4];
	struct sha256 s;

	sha256_begin(&s);
	sha256_add(&s, data, len);
	sha256_end(&s, to);
	snprintf(name, sizeof(name), "l/blobs/sha256/%s", to);
	tmp_file(name, data, len);
	return to;
}

static void text_file(const char *name, const char *text)
{
	tmp_file(name, text, strlen(text));
}

static void layout(const char *index)
{
	shell("mkdir -p %s/l/blobs/sha256", tmp);
	text_file("l/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
	if (index)
		text_file("l/index.json", index);
}

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define INDEX_TYPE    "application/vnd.oci.image.index.v1+json"
#define CONFIG_TYPE   "application/vnd.oci.image.config.v1+json"
#define LAYER_TYPE    "application/vnd.oci.image.layer.v1.tar"

/* A descriptor; `more` are further members, or "". */
static char *describe(const char *type, const char *digest, size_t size, const char *more)
{
	char *text;

	ck_that(asprintf(&text, "{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%zu%s}",
			 type, digest, size, more) > 0);
	return text;
}

/* Puts an image there with a file "f" of this text and this configuration; returns its manifest's
 * descriptor.
 */
static char *put_image(const char *text, const char *config, const char *more)
{
	char *manifest, *layer, *conf, *is;
	struct tarball t = tarball();

	tar_text(&t, "f", text);
	tar_end(&t);
	layer = describe(LAYER_TYPE, blob(t.data, t.len), t.len, "");
	tarball_free(&t);
	conf = describe(CONFIG_TYPE, blob(config, strlen(config)), strlen(config), "");
	ck_that(asprintf(&manifest, "{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}", conf,
			 layer) > 0);
	is = describe(MANIFEST_TYPE, blob(manifest, strlen(manifest)), strlen(manifest), more);
	free(layer);
	free(conf);
	free(manifest);
	return is;
}

static char *put_index(const char *manifests)
{
	char *text, *is;

	ck_that(asprintf(&text, "{\"manifests\":[%s]}", manifests) > 0);
	is = describe(INDEX_TYPE, blob(text, strlen(text)), strlen(text), "");
	free(text);
	return is;
}

/* The whole layout with these manifests in its index. */
static void index_of(const char *manifests)
{
	char *text;

	ck_that(asprintf(&text, "{\"schemaVersion\":2,\"manifests\":[%s]}", manifests) > 0);
	layout(text);
	free(text);
}

static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{"
			     "\"Entrypoint\":[\"/bin/sh\",\"-c\"],"
			     "\"Cmd\":null,\"Env\":[\"PATH=/"
			     "bin\",\"A=\\u00e9\"],\"User\":\"1000:5\",\"WorkingDir\":\"/w\","
			     "\"StopSignal\":\"SIGINT\",\"Volumes\":{\"/data\":{},\"/more\":{}}},"
			     "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:0\"]}}";

static void check_config(void)
{
	ck_assert_str_eq(img.config.entrypoint[0], "/bin/sh");
	ck_assert_str_eq(img.config.entrypoint[1], "-c");
	ck_assert(!img.config.entrypoint[2] && !img.config.cmd);
	ck_assert_str_eq(img.config.env[1], "A=\xc3\xa9");
	ck_assert_str_eq(img.config.user, "1000:5");
	ck_assert_str_eq(img.config.workdir, "/w");
	ck_assert_str_eq(img.config.stop_signal, "SIGINT");
	ck_assert_str_eq(img.config.volumes[1], "/more");
	ck_assert(!img.config.volumes[2]);
}

START_TEST(oci_layouts)
{
	char *m, key[65];

	layout(NULL);
	m = put_image("x", config, "");
	index_of(m);
	free(m);
	ck_ok(open_it("l"));
	ck_assert(img.made);
	check_config();
	strcpy(key, img.key);
	/* On a hit no layer is read: it need not even be there. */
	shell("cd %s/l/blobs/sha256 && for f in *; do test $(stat -c %%s $f) -lt 1024 || rm $f; "
	      "done",
	      tmp);
	ck_ok(open_it("l"));
	ck_assert(!img.made && !strcmp(img.key, key));
	check_config();
	shell("rm -r %s/cache", tmp);
	ck_refused(open_it("l"), ENOENT, "layer blobs/sha256/");
	ck_assert_uint_eq(count("cache/images"), 0);
}
END_TEST

START_TEST(oci_in_a_tar)
{
	char *m, key[65];

	layout(NULL);
	m = put_image("x", config, "");
	index_of(m);
	free(m);
	shell("cd %s && tar -C l -cf l.tar . && gzip -k l.tar", tmp);
	ck_ok(open_it("l.tar"));
	ck_assert(img.made);
	check_config();
	strcpy(key, img.key);
	ck_ok(open_it("l.tar"));
	ck_assert(!img.made && !strcmp(img.key, key));
	ck_ok(open_it("l.tar.gz"));
	check_config();
	ck_refused(open_named("l.tar", "none"), ENOENT, "no image 'none' in it");
	/* Nothing of the layout is in the image. */
	if (!have_erofs())
		return;
	shell("rm -r %s/cache", tmp);
	ck_ok(open_it("l.tar"));
	shell("cd %s && fsck.erofs --extract=out %s >/dev/null && test \"$(ls -A out)\" = f", tmp,
	      img.path);
}
END_TEST

START_TEST(layers_over_each_other)
{
	char *layers[3], *conf, *all, *m;
	static const char plain[] = "{}";

	if (!have_erofs())
		ck_skip("no erofs-utils");
	layout(NULL);
	for (unsigned int i = 0; i < 3; i++) {
		struct tarball t = tarball();
		char number[2] = {(char)('0' + i), 0};

		if (i == 2)
			tar_text(&t, "d/.wh.0", "");
		if (i == 2)
			tar_text(&t, "o/.wh..wh..opq", "");
		tar_text(&t, "same", number);
		tar_text(&t, i == 0 ? "d/0" : i == 1 ? "d/1" : "d/2", number);
		tar_text(&t, i == 0 ? "o/0" : i == 1 ? "o/1" : "o/2", number);
		tar_end(&t);
		if (i == 1) { /* one of them compressed */
			size_t len;
			const char *gz;

			tmp_file("layer", t.data, t.len);
			shell("gzip -c <%s/layer >%s/layer.gz", tmp, tmp);
			gz = file_text(tmp_path("layer.gz"), &len);
			layers[i] = describe(LAYER_TYPE "+gzip", blob(gz, len), len, "");
		} else {
			layers[i] = describe("application/vnd.docker.image.rootfs.diff.tar",
					     blob(t.data, t.len), t.len, "");
		}
		tarball_free(&t);
	}
	conf = describe("application/vnd.docker.container.image.v1+json", blob(plain, 2), 2, "");
	ck_that(asprintf(&all, "{\"config\":%s,\"layers\":[%s,%s,%s]}", conf, layers[0], layers[1],
			 layers[2]) > 0);
	m = describe("application/vnd.docker.distribution.manifest.v2+json", blob(all, strlen(all)),
		     strlen(all), "");
	index_of(m);
	ck_ok(open_it("l"));
	shell("cd %s && fsck.erofs --extract=out %s >/dev/null && "
	      "test \"$(cd out && echo * d/* o/*) $(cat out/same)\" = 'd o same d/1 d/2 o/2 2'",
	      tmp, img.path);
	for (unsigned int i = 0; i < 3; i++)
		free(layers[i]);
	free(conf);
	free(all);
	free(m);
}
END_TEST

#define PLATFORM(arch) ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" arch "\"}"
#define REF(name)      ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" name "\"}"

START_TEST(which_image)
{
	char *a, *b, *c, *list, key[65];

	layout(NULL);
	a = put_image("a", "{}", REF("one") PLATFORM("amd64"));
	b = put_image("b", "{}", REF("two"));
	c = put_image("c", "{}", REF("three") PLATFORM("arm64"));
	ck_that(asprintf(&list, "%s,%s,%s", a, b, c) > 0);
	index_of(list);
	ck_refused(open_it("l"), EINVAL, "several images in it, choose one: one, two");
	ck_refused(open_named("l", "three"), ENOENT, "no image 'three' in it; there are: one, two");
	ck_ok(open_named("l", "one"));
	strcpy(key, img.key);
	ck_ok(open_named("l", "two"));
	ck_assert(strcmp(img.key, key));
	free(list);
	ck_that(asprintf(&list, "%s,%s", c, a) > 0);
	index_of(list);
	ck_ok(open_it("l"));
	ck_assert_str_eq(img.key, key);
	index_of(c);
	ck_refused(open_it("l"), ENOENT, "no image for linux/amd64");
	index_of("");
	ck_refused(open_it("l"), ENOENT, "no image for linux/amd64");
	free(a);
	free(c);
	free(b);
	free(list);
	a = put_image("a", "{\"architecture\":\"s390x\"}", "");
	index_of(a);
	ck_refused(open_it("l"), EINVAL, "for linux/s390x, not linux/amd64");
	free(a);
}
END_TEST

START_TEST(index_in_an_index)
{
	char *a = NULL, *b, *list;

	layout(NULL);
	a = put_image("a", "{}", PLATFORM("amd64"));
	b = put_image("b", "{}", PLATFORM("arm"));
	ck_that(asprintf(&list, "%s,%s,%s", b, a, b) > 0);
	free(a);
	free(b);
	a = put_index(list);
	free(list);
	index_of(a);
	ck_ok(open_it("l"));
	for (unsigned int i = 0; i < 4; i++) {
		b = put_index(a);
		free(a);
		a = b;
	}
	index_of(a);
	ck_refused(open_it("l"), EINVAL, "an index in an index too often");
	free(a);
}
END_TEST

START_TEST(hostile_layouts)
{
	static const char zeros[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	static const struct {
		const char *index, *say;
		int code;
	} bad[] = {
		{"", "ends too early", EINVAL},
		{"[]", "is not an object", EINVAL},
		{"{\"manifests\":{}}", "manifests is not an array", EINVAL},
		{"{\"manifests\":[1]}", "manifests[0] has no 'digest'", EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:x\"}]}", "has no 'size'", EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:x\",\"size\":1}]}", "malformed digest",
		 EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:../../../../etc/passwd\",\"size\":1}]}",
		 "malformed digest", EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha512:x\",\"size\":1}]}", "not sha256", EINVAL},
		{"{\"manifests\":[{\"digest\":\"../x\",\"size\":1}]}", "not sha256", EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:x\\u0000\",\"size\":1}]}", "a NUL", EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:x\",\"size\":-1}]}", "size is not between",
		 EINVAL},
		{"{\"manifests\":[{\"digest\":\"sha256:x\",\"size\":1e30}]}", "not a whole number",
		 EINVAL},
	};
	char *m, *d;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		layout(bad[i].index);
		ck_refused(open_it("l"), bad[i].code, bad[i].say);
	}
	/* Absent, of another size, of another content, of another type. */
	d = describe(MANIFEST_TYPE, zeros, 2, "");
	index_of(d);
	ck_refused(open_it("l"), ENOENT, "blobs/sha256/0000");
	text_file("l/blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000",
		  "{}");
	ck_refused(open_it("l"), EINVAL, "not the digest");
	free(d);
	d = describe(MANIFEST_TYPE, zeros, 3, "");
	index_of(d);
	ck_refused(open_it("l"), EINVAL, "not of the size");
	free(d);
	d = describe("text/plain", zeros, 2, "");
	index_of(d);
	ck_refused(open_it("l"), EINVAL, "neither an image nor an index: its type is 'text/plain'");
	free(d);
	d = describe(MANIFEST_TYPE, blob("{}", 2), 2, "");
	index_of(d);
	ck_refused(open_it("l"), EINVAL, "config is missing");
	free(d);
	/* A blob that is a link out, a fifo. */
	m = put_image("x", "{}", "");
	index_of(m);
	free(m);
	shell("cd %s/l/blobs/sha256 && rm -f 0* && for f in *; do test $(stat -c %%s $f) -lt 1024 "
	      "|| "
	      "{ mv $f %s/moved && ln -s %s/moved $f; }; done",
	      tmp, tmp, tmp);
	ck_refused(open_it("l"), EXDEV, "layer blobs/sha256/");
	shell("cd %s/l/blobs/sha256 && for f in *; do test ! -L $f || { rm $f; mkfifo $f; }; done",
	      tmp);
	ck_refused(open_it("l"), EINVAL, "layer blobs/sha256/");
	/* A layer that was changed, or cut. */
	shell("cd %s/l/blobs/sha256 && for f in *; do test ! -p $f || { rm $f; tr x y <%s/moved "
	      ">$f; }; done",
	      tmp, tmp);
	ck_refused(open_it("l"), EINVAL, "not the digest");
	shell("cd %s/l/blobs/sha256 && for f in *; do test $(stat -c %%s $f) -lt 1024 || "
	      "truncate -s -512 $f; done",
	      tmp);
	ck_refused(open_it("l"), EINVAL, "not of the size");
	text_file("l/oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
	ck_refused(open_it("l"), EINVAL, "version that is not supported: '2.0.0'");
	ck_assert_uint_eq(count("cache/images"), 0);
	ck_assert_uint_eq(runs(), 0);
}
END_TEST

START_TEST(hostile_manifests)
{
	static const struct {
		const char *type, *say;
	} layers[] = {{"application/vnd.oci.image.layer.v1.tar+lzma", "type that is not supported"},
		      {"", "type that is not supported"},
		      {"application/vnd.in-toto+json", "type that is not supported"}};
	static const char two[] = "{\"rootfs\":{\"diff_ids\":[\"a\",\"b\"]}}";
	char *conf, *layer, *all, *m;
	struct tarball t = tarball();
	char digest[SHA256_HEX + 1];

	layout(NULL);
	tar_text(&t, "a/../../f", "x");
	tar_end(&t);
	strcpy(digest, blob(t.data, t.len));
	conf = describe(CONFIG_TYPE, blob("{}", 2), 2, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(layers) + 2; i++) {
		layer = describe(i < ARRAY_SIZE(layers) ? layers[i].type : LAYER_TYPE, digest,
				 t.len, "");
		ck_that(asprintf(&all, "{\"config\":%s,\"layers\":[%s]}",
				 i == ARRAY_SIZE(layers) ? layer : conf, layer) > 0);
		m = describe(MANIFEST_TYPE, blob(all, strlen(all)), strlen(all), "");
		index_of(m);
		ck_refused(open_it("l"), EINVAL,
			   i < ARRAY_SIZE(layers)    ? layers[i].say
			   : i == ARRAY_SIZE(layers) ? "config is not an image's"
						     : "'..' in its name");
		free(all);
		free(m);
		free(layer);
	}
	free(conf);
	conf = describe(CONFIG_TYPE, blob(two, strlen(two)), strlen(two), "");
	layer = describe(LAYER_TYPE, digest, t.len, "");
	ck_that(asprintf(&all, "{\"config\":%s,\"layers\":[%s]}", conf, layer) > 0);
	m = describe(MANIFEST_TYPE, blob(all, strlen(all)), strlen(all), "");
	index_of(m);
	ck_refused(open_it("l"), EINVAL, "is of 2 layers, the image has 1");
	free(all);
	free(m);
	free(conf);
	/* A configuration that is no such thing. */
	m = put_image("x", "{\"config\":{\"Env\":[1]}}", "");
	index_of(m);
	ck_refused(open_it("l"), EINVAL, "config.Env[0] is not a string");
	free(m);
	m = put_image("x", "{\"config\":[]}", "");
	index_of(m);
	ck_refused(open_it("l"), EINVAL, "config is not an object");
	free(m);
	free(layer);
	tarball_free(&t);
}
END_TEST

START_TEST(docker_archives)
{
	struct tarball t = tarball();
	char digest[SHA256_HEX + 1], text[1024], *conf;

	tar_text(&t, "f", "x");
	tar_end(&t);
	layout(NULL);
	strcpy(digest, blob(t.data, t.len));
	shell("rm -r %s/l && mkdir %s/l", tmp, tmp);
	tmp_file("l/layer.tar", t.data, t.len);
	tarball_free(&t);
	ck_that(asprintf(&conf,
			 "{\"config\":{\"User\":\"me\"},\"rootfs\":{\"diff_ids\":[\"sha256:%s\"]}}",
			 digest) > 0);
	text_file("l/conf.json", conf);
	text_file("l/manifest.json", "[{\"Config\":\"conf.json\",\"RepoTags\":[\"web:1\"],"
				     "\"Layers\":[\"layer.tar\"]}]");
	shell("cd %s && tar -C l -cf d.tar .", tmp);
	ck_ok(open_it("d.tar"));
	ck_assert_str_eq(img.config.user, "me");
	ck_ok(open_named("d.tar", "web:1"));
	ck_ok(open_named("d.tar", "1"));
	ck_refused(open_named("d.tar", "2"), ENOENT, "there are: web:1");
	/* A directory with such a file is a root file system. */
	ck_ok(open_it("l"));
	ck_assert(!*img.config.user);
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			 "[{\"Config\":\"%s\",\"RepoTags\":null,\"Layers\":[\"%s\"]}]",
			 i == 0 ? "../../../../../../etc/passwd" : "conf.json",
			 i == 1	  ? "/etc/passwd"
			 : i == 2 ? "conf.json"
				  : "layer.tar");
		text_file("l/manifest.json", text);
		shell("cd %s && tar -C l -cf d.tar .", tmp);
		if (i == 2)
			ck_refused(open_it("d.tar"), EINVAL, "not the digest");
		else
			ck_refused(open_it("d.tar"), EXDEV, "etc/passwd");
	}
	text_file("l/manifest.json",
		  "[{\"Config\":\"conf.json\",\"RepoTags\":\"web:1\",\"Layers\":{}}]");
	shell("cd %s && tar -C l -cf d.tar .", tmp);
	ck_refused(open_named("d.tar", "web:1"), ENOENT, "there are: (without a name)");
	ck_refused(open_it("d.tar"), EINVAL, "Layers is not an array");
	free(conf);
}
END_TEST

/* The manifest names `layers` times a path, the configuration `digests` times a digest. */
static void docker_of(unsigned int layers, const char *path, unsigned int digests, const char *digest)
{
	size_t room = 64 + layers * (strlen(path) + 3) + digests * (strlen(digest) + 3), n;
	char *text = malloc(room);

	ck_that(text != NULL);
	n = (size_t)sprintf(text, "[{\"Config\":\"conf.json\",\"Layers\":[");
	for (unsigned int i = 0; i < layers; i++)
		n += (size_t)sprintf(text + n, "%s\"%s\"", i ? "," : "", path);
	strcpy(text + n, "]}]");
	text_file("l/manifest.json", text);
	n = (size_t)sprintf(text, "{\"rootfs\":{\"diff_ids\":[");
	for (unsigned int i = 0; i < digests; i++)
		n += (size_t)sprintf(text + n, "%s\"%s\"", i ? "," : "", digest);
	strcpy(text + n, "]}}");
	text_file("l/conf.json", text);
	free(text);
	shell("cd %s && tar -C l -cf d.tar .", tmp);
}

START_TEST(hostile_docker_archives)
{
	char digest[8 + SHA256_HEX] = "sha256:", path[5001];

	memset(digest + 7, 'a', SHA256_HEX);
	digest[7 + SHA256_HEX] = 0;
	memset(path, 'p', 5000);
	path[5000] = 0;
	layout(NULL);
	shell("rm -r %s/l && mkdir %s/l", tmp, tmp);
	for (unsigned int layers = 0; layers < 3; layers++) {
		docker_of(layers, "layer.tar", layers ? layers - 1 : 1, digest);
		ck_refused(open_it("d.tar"), EINVAL, "has other layers than its configuration");
		docker_of(layers, "layer.tar", layers + 1, digest);
		ck_refused(open_it("d.tar"), EINVAL, "has other layers than its configuration");
	}
	docker_of(1, path, 1, digest);
	ck_refused(open_it("d.tar"), EINVAL, "is too long");
	docker_of(1, "layer.tar", 1, "sha256:aa");
	ck_refused(open_it("d.tar"), EINVAL, "conf.json");
	docker_of(OCI_LAYERS_MAX + 1, "layer.tar", OCI_LAYERS_MAX + 1, digest);
	ck_refused(open_it("d.tar"), EINVAL, "has more than 512 layers");
	docker_of(OCI_LAYERS_MAX, "layer.tar", OCI_LAYERS_MAX, digest);
	ck_refused(open_it("d.tar"), ENOENT, "layer.tar");
}
END_TEST

/* --- the cache --- */

static pid_t open_in_child(const char *name)
{
	pid_t pid = fork();

	if (!pid)
		_exit(open_it(name) ? 1 : img.made ? 10 : 11);
	return pid;
}

START_TEST(two_at_once_make_one)
{
	unsigned int makers = 0;
	pid_t pid[4];
	int status;

	shell("mkdir %s/d && touch %s/slow", tmp, tmp);
	for (unsigned int i = 0; i < ARRAY_SIZE(pid); i++)
		pid[i] = open_in_child("d");
	for (unsigned int i = 0; i < ARRAY_SIZE(pid); i++) {
		ck_that(waitpid(pid[i], &status, 0) == pid[i] && WIFEXITED(status));
		ck_that(WEXITSTATUS(status) == 10 || WEXITSTATUS(status) == 11);
		makers += WEXITSTATUS(status) == 10;
	}
	ck_assert_uint_eq(makers, 1);
	ck_assert_uint_eq(runs(), 1);
	ck_assert_uint_eq(count("cache/images"), 1);
}
END_TEST

/* Whoever dies in the middle leaves nothing that is taken for an image; the tool dies too. */
START_TEST(killed_in_the_middle)
{
	struct tarball t = tarball();
	char temp[8192];
	pid_t pid, waits;
	int status;

	tar_dir(&t, "closed", 0);
	tar_text(&t, "closed/f", "x");
	write_tar("t.tar", &t);
	shell("mkdir %s/d && touch %s/hang", tmp, tmp);
	for (unsigned int i = 0; i < 2; i++) {
		const char *name = i ? "t.tar" : "d";

		pid = open_in_child(name);
		snprintf(temp, sizeof(temp), "grep -qs half %s/.uvm-*/image",
			 tmp_path("cache/images"));
		while (system(temp))
			usleep(10000);
		waits = open_in_child(name); /* and goes on when the first is dead */
		usleep(50000);
		kill(pid, SIGKILL);
		ck_that(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		shell("rm %s/hang", tmp);
		ck_that(waitpid(waits, &status, 0) == waits && WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), 10);
		ck_assert_uint_eq(count("cache/images"), i + 1);
		shell("touch %s/hang", tmp);
	}
	/* One that nobody asks for again goes with the next that is made. */
	shell("echo 1 >%s/d/f", tmp);
	pid = open_in_child("d");
	while (system(temp))
		usleep(10000);
	kill(pid, SIGKILL);
	ck_that(waitpid(pid, &status, 0) == pid);
	ck_assert_uint_eq(count("cache/images"), 3);
	shell("rm %s/hang; echo 2 >%s/d/f", tmp, tmp);
	ck_ok(open_it("d"));
	ck_assert_uint_eq(count("cache/images"), 3);
	shell("test -z \"$(ls -d %s/cache/images/.uvm-* 2>/dev/null)\"", tmp);
}
END_TEST

/* Wherever the room ends, that is the error, and nothing takes it up afterwards. */
START_TEST(full_file_system)
{
	struct tarball t = tarball();
	unsigned int failed = 0, kib;
	char text[9000], name[32];
	int r;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (unsigned int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		tar_text(&t, name, text);
	}
	write_tar("t.tar", &t);
	ck_that(!mkdirat(tmp_dir, "cache", 0700));
	if (!private_mounts() || mount("none", tmp_path("cache"), "tmpfs", 0, "mode=700"))
		ck_skip("no file system can be mounted here");
	for (kib = 8, r = -1; r && kib < 2048; kib += kib < 64 ? 4 : 32) {
		snprintf(text, sizeof(text), "mode=700,size=%uk", kib);
		ck_that(!mount("none", tmp_path("cache"), "tmpfs", MS_REMOUNT, text));
		e.text[0] = 0;
		r = open_it("t.tar");
		if (!r)
			break;
		failed++;
		ck_assert_msg(strstr(e.text, "No space left"), "%u KiB: %d, %s", kib, r, e.text);
		ck_assert_uint_eq(system("test -z \"$(ls -A $UVM_CACHE/images 2>/dev/null)\""), 0);
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_gt(failed, 5);
	image_close(&img);
	ck_that(!umount2(tmp_path("cache"), MNT_DETACH));
}
END_TEST

static int first_key(void *ctx, const struct cache_entry *entry)
{
	strcpy(ctx, entry->key);
	return 0;
}

START_TEST(removal)
{
	char key[65];
	struct cache c;
	int fd;

	ck_refused(cache_open(&c, false, &e), ENOENT, "cache");
	shell("mkdir %s/d", tmp);
	ck_ok(open_it("d"));
	ck_ok(cache_open(&c, false, &e));
	ck_ok(cache_each(&c, first_key, key, &e));
	ck_assert_str_eq(key, img.key);
	ck_refused(cache_remove(&c, key, &e), EBUSY, "is in use");
	/* A VM is another process that has its descriptor. */
	fd = dup(img.use);
	image_close(&img);
	ck_refused(cache_remove(&c, key, &e), EBUSY, "is in use");
	close(fd);
	ck_ok(cache_remove(&c, key, &e));
	ck_refused(cache_remove(&c, key, &e), ENOENT, "No such file");
	ck_assert_uint_eq(count("cache/images"), 0);
	ck_ok(open_it("d"));
	ck_assert(img.made);
	cache_close(&c);
}
END_TEST

START_TEST(a_cache_that_others_wrote_to)
{
	char key[65];

	shell("mkdir %s/d", tmp);
	ck_ok(open_it("d"));
	strcpy(key, img.key);
	/* Links where there should be directories and files. */
	shell("cd %s/cache/images && mv %s ../../real && ln -s ../../real %s", tmp, key, key);
	ck_refused(open_it("d"), ENOTDIR, "cache entry");
	shell("cd %s/cache/images && rm %s && mv ../../real %s && mv %s/image ../../real && "
	      "ln -s ../../../real %s/image",
	      tmp, key, key, key, key);
	ck_refused(open_it("d"), EBADF, "not whole");
	shell("cd %s/cache/images && rm -r %s && ln -s ../../d .uvm-%s", tmp, key, key);
	ck_refused(open_it("d"), ENOTDIR, "cannot make cache entry");
	shell("cd %s && test -z \"$(ls d)\" && rm -r cache/images && ln -s ../d cache/images", tmp);
	ck_refused(open_it("d"), ENOTDIR, "cache directory");
	shell("cd %s && rm -r cache && mkdir cache && chmod 777 cache", tmp);
	ck_refused(open_it("d"), EPERM, "others can write to it");
	shell("cd %s && rm -r cache && echo >cache", tmp);
	ck_refused(open_it("d"), ENOTDIR, "cache");
	/* One that is not JSON any more. */
	shell("cd %s && rm cache", tmp);
	ck_ok(open_it("d"));
	shell("echo x >%s/cache/images/%s/image.json", tmp, img.key);
	ck_refused(open_it("d"), EINVAL, "image.json: line 1, column 1");
}
END_TEST

START_TEST(where_the_cache_is)
{
	struct cache c;

	unsetenv("UVM_CACHE");
	setenv("XDG_CACHE_HOME", tmp_path("xdg"), 1);
	setenv("HOME", tmp_path("home"), 1);
	ck_ok(cache_open(&c, true, &e));
	ck_assert(!access(tmp_path("xdg/uvm/images"), F_OK));
	cache_close(&c);
	setenv("XDG_CACHE_HOME", "relative", 1);
	ck_ok(cache_open(&c, true, &e));
	ck_assert(!access(tmp_path("home/.cache/uvm/files"), F_OK));
	ck_assert_str_eq(strrchr(c.path, '/'), "/images");
	cache_close(&c);
}
END_TEST

START_TEST(no_descriptor_is_left)
{
	unsigned int before;
	struct tarball t = tarball();

	shell("mkdir %s/d", tmp);
	tar_text(&t, "f", "x");
	write_tar("t.tar", &t);
	tar_text(&t, "../f", "x");
	write_tar("bad.tar", &t);
	shell("gzip -k %s/t.tar", tmp);
	layout("{}");
	before = open_fds();
	ck_ok(open_it("d"));
	ck_ok(open_it("t.tar"));
	ck_ok(open_it("t.tar.gz"));
	ck_ok(open_it("d"));
	ck_that(open_it("bad.tar") < 0);
	ck_that(open_it("l") < 0);
	ck_that(open_it("none") < 0);
	image_close(&img);
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		images_are_taken_as_they_are,
		directories,
		a_directory_that_changes,
		tars,
		compressed_tars,
		a_failing_tool,
		the_right_content,
		as_an_ordinary_user,
		oci_layouts,
		oci_in_a_tar,
		layers_over_each_other,
		which_image,
		index_in_an_index,
		hostile_layouts,
		hostile_manifests,
		docker_archives, hostile_docker_archives,
		two_at_once_make_one,
		killed_in_the_middle,
		full_file_system,
		removal,
		a_cache_that_others_wrote_to,
		where_the_cache_is,
		no_descriptor_is_left,
	};

	return run_tests("image", tests, ARRAY_SIZE(tests), setup, teardown);
}
