/* SPDX-License-Identifier: Apache-2.0
 *
 * What a template depends on, and the directory of them; and the sums that the cache remembers. Making
 * one takes a KVM that runs Linux: tests/linux/run.sh.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/cache.h"
#include "vmm/mem.h"
#include "vmm/template.h"
#include "vmm/util.h"

static struct err e;
static struct template t;
static char key[TEMPLATE_KEY + 1], kernel[PATH_MAX];

static void setup(void)
{
	tmp_setup();
	ck_assert(!setenv("UVM_CACHE", tmp_path("cache"), 1));
	strcpy(kernel, tmp_file("kernel", "some kernel", 11));
	t = (struct template){.kernel = kernel, .memory = 64 << 20, .cpus = 1, .drives = 2};
}

/* The key of t, which the next call replaces. */
static const char *get_key(void)
{
	ck_ok(template_key(&t, key, &e));
	ck_that(strlen(key) == TEMPLATE_KEY);
	return key;
}

/* --- the kernel --- */

START_TEST(which_kernel)
{
	char path[PATH_MAX];

	unsetenv("UVM_KERNEL");
	ck_refused(template_kernel(path, NULL, &e), ENOENT, "name one with --kernel or UVM_KERNEL");
	ck_refused(template_kernel(path, tmp_path("none"), &e), ENOENT, "none");
	ck_assert(!setenv("UVM_KERNEL", tmp_path("none"), 1));
	ck_refused(template_kernel(path, NULL, &e), ENOENT, "none");
	ck_assert(!chdir(tmp) && !setenv("UVM_KERNEL", "kernel", 1));
	ck_ok(template_kernel(path, NULL, &e));
	ck_assert_str_eq(path, t.kernel);
	tmp_file("other", "x", 1);
	ck_ok(template_kernel(path, "other", &e));
	ck_assert_str_eq(path, tmp_path("other"));
}
END_TEST

/* Opening one that nobody writes to must not wait. */
START_TEST(no_kernel)
{
	ck_assert(!mkfifoat(tmp_dir, "fifo", 0600));
	t.kernel = tmp_path("fifo");
	ck_refused(template_key(&t, key, &e), EINVAL, "not a regular file");
	t.kernel = tmp;
	ck_refused(template_key(&t, key, &e), EINVAL, "not a regular file");
	t.kernel = "/nowhere/at/all";
	ck_refused(template_key(&t, key, &e), ENOENT, "/nowhere/at/all");
}
END_TEST

/* --- keys --- */

START_TEST(what_a_key_depends_on)
{
	char seen[16][TEMPLATE_KEY + 1];
	unsigned int n = 0;
	const struct template first = t;

	strcpy(seen[n++], get_key());
	ck_assert_str_eq(seen[0], get_key());
	for (int i = 0; i < 9; i++) {
		t = first;
		switch (i) {
		case 0: t.memory += 4096; break;
		case 1: t.cpus = 2; break;
		case 2: t.cpu = CPUID_BASELINE; break;
		case 3: t.drives = TEMPLATE_DRIVES; break;
		case 4: t.share = true; break;
		case 5: t.nets = 1; break;
		case 6: t.nets = 1, t.offload = true; break;
		case 7: tmp_file("kernel", "same kernel", 11); break;
		default: tmp_file("kernel", "some kernel and more", 20);
		}
		strcpy(seen[n++], get_key());
		for (unsigned int k = 0; k + 1 < n; k++)
			ck_that(strcmp(seen[k], key));
	}
	t = first; /* the content counts, and neither the file's name nor its times */
	t.kernel = tmp_file("another", "some kernel", 11);
	ck_assert_str_eq(get_key(), seen[0]);
}
END_TEST

START_TEST(limits)
{
	ck_ok(template_check(&t, &e));
	t.cpus = 0;
	ck_refused(template_check(&t, &e), EINVAL, "--cpus");
	t.cpus = UINT32_MAX;
	ck_refused(template_check(&t, &e), EINVAL, "--cpus");
	t.cpus = 1;
	t.memory = MEM_MIN - 4096;
	ck_refused(template_check(&t, &e), EINVAL, "--memory");
	t.memory = MEM_MIN + 1;
	ck_refused(template_check(&t, &e), EINVAL, "--memory");
	t.memory = MEM_MAX + 4096;
	ck_refused(template_check(&t, &e), EINVAL, "--memory");
}
END_TEST

/* --- remembered sums --- */

/* The name of the only file among them. */
static const char *remembered(void)
{
	static char path[PATH_MAX];
	struct dirent *entry;
	DIR *d = opendir(tmp_path("cache/" CACHE_FILES));
	unsigned int n = 0;

	ck_that(d);
	while ((entry = readdir(d)))
		if (*entry->d_name != '.') {
			snprintf(path, sizeof(path), "%s/%s", tmp_path("cache/" CACHE_FILES),
				 entry->d_name);
			n++;
		}
	closedir(d);
	ck_that(n == 1);
	return path;
}

START_TEST(the_kernel_is_read_once)
{
	char first[sizeof(key)];
	const char *path;

	strcpy(first, get_key());
	path = remembered();
	/* What is remembered counts, so it was not read again. */
	ck_assert(!unlink(path) && !symlink("0123456789abcdef", path));
	ck_assert(strcmp(get_key(), first));
	/* But not for a file that has changed. */
	tmp_file("kernel", "some kernel", 11);
	ck_assert_str_eq(get_key(), first);
}
END_TEST

START_TEST(what_is_remembered_is_spoilt)
{
	static const char *const bad[] = {
		"0", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "../../../../../../..",
		"0123456789abcde\n", " 123456789abcdef", "+123456789abcdef",
	};
	const char *path;
	char first[sizeof(key)];

	strcpy(first, get_key());
	path = remembered();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_that(!unlink(path) && !symlink(bad[i], path));
		ck_assert_str_eq(get_key(), first);
	}
	/* A file in its place; a directory, with which nothing is remembered. */
	ck_assert(!unlink(path) && close(creat(path, 0600)) == 0);
	ck_assert_str_eq(get_key(), first);
	ck_assert(!unlink(path) && !mkdir(path, 0700));
	ck_assert_str_eq(get_key(), first);
}
END_TEST

/* Sums of one file, made in two ways, are two; what nobody asked for goes. */
START_TEST(sums_of_two_kinds)
{
	const struct stamp stamp = {1, 2, 3, 4, 5, 6, 7}, other = {1, 2, 3, 4, 5, 67, 0};
	struct cache c;
	char sum[17];

	ck_ok(cache_open(&c, true, &e));
	cache_remember(c.files, "a", &stamp, "00112233445566aa");
	cache_remember(c.files, "b", &stamp, "00112233445566bb");
	cache_remember(c.files, "b", &stamp, "00112233445566cc"); /* in its place */
	ck_assert(cache_recall(c.files, "a", &stamp, sum, 16));
	ck_assert_str_eq(sum, "00112233445566aa");
	ck_assert(cache_recall(c.files, "b", &stamp, sum, 16));
	ck_assert_str_eq(sum, "00112233445566cc");
	ck_assert(!cache_recall(c.files, "a", &other, sum, 16));
	ck_assert(!cache_recall(c.files, "a", &stamp, sum, 15)); /* and no byte behind it */
	tmp_file("cache/" CACHE_FILES "/not-ours", "", 0);
	cache_sweep(&c, 1);
	ck_assert(cache_recall(c.files, "a", &stamp, sum, 16));
	cache_sweep(&c, INT64_MAX);
	ck_assert(!cache_recall(c.files, "a", &stamp, sum, 16));
	ck_assert(!faccessat(c.files, "not-ours", F_OK, 0));
	cache_close(&c);
}
END_TEST

/* Many first starts at once: all have one key, and what they remember is whole. */
START_TEST(keys_by_many_at_once)
{
	pid_t pid[8];
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork();
		ck_that(pid[i] >= 0);
		if (!pid[i]) {
			char first[sizeof(key)];

			strcpy(first, get_key());
			for (int k = 0; k < 50; k++)
				if (strcmp(first, get_key()))
					_exit(1);
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pid); i++)
		ck_that(waitpid(pid[i], &status, 0) == pid[i] && !status);
	remembered();
}
END_TEST

/* --- the directory --- */

static char visited[256];

static int visit(void *ctx, const char *name, const char *path)
{
	struct stat st;

	ck_that(!lstat(path, &st) && !strcmp(strrchr(path, '/') + 1, name));
	strcat(strcat(visited, name), " ");
	return *(int *)ctx && --*(int *)ctx == 0 ? 7 : 0;
}

static void make_dir(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "cache/" TEMPLATE_DIR "/%s", name);
	ck_that(!mkdirat(tmp_dir, path, 0700));
}

START_TEST(what_is_there)
{
	int stop = 0;

	ck_ok(template_each(visit, &stop, &e)); /* and makes the directory */
	ck_assert_str_eq(visited, "");
	make_dir("00000000000000bb");
	make_dir("00000000000000aa");
	make_dir("00000000000000AA");
	make_dir("00000000000000a");
	make_dir("00000000000000aaa");
	make_dir(".uvm-00000000000000cc");
	ck_ok(template_each(visit, &stop, &e));
	ck_assert_str_eq(visited, "00000000000000aa 00000000000000bb ");
	*visited = 0;
	stop = 1;
	ck_assert_int_eq(template_each(visit, &stop, &e), 7);
	ck_assert_str_eq(visited, "00000000000000aa ");
}
END_TEST

START_TEST(damaged)
{
	static const char *const files[] = {"manifest", "state", "memory"};
	unsigned int fds = open_fds();
	int stop = 0;
	char path[64];

	ck_ok(template_each(visit, &stop, &e));
	make_dir("00000000000000aa");
	for (size_t i = 0; i <= ARRAY_SIZE(files); i++) {
		*e.text = 0;
		ck_assert(!template_current("00000000000000aa",
					    tmp_path("cache/" TEMPLATE_DIR "/00000000000000aa"), &e));
		ck_assert_str_ne(e.text, "");
		if (i < ARRAY_SIZE(files)) {
			snprintf(path, sizeof(path), "cache/" TEMPLATE_DIR "/00000000000000aa/%s",
				 files[i]);
			tmp_file(path, "nonsense", 8);
		}
	}
	/* It can be removed, whatever it is. */
	ck_ok(template_remove("00000000000000aa", &e));
	ck_refused(template_remove("00000000000000aa", &e), ENOENT, "no template");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

START_TEST(no_keys)
{
	static const char *const bad[] = {"", ".", "..", "../../cache/files", "lock",
					  "00000000000000AA", "00000000000000aa/", "/",
					  "00000000000000aaa"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_refused(template_remove(bad[i], &e), EINVAL, "is not a template's key");
}
END_TEST

/* Who makes one holds the lock meanwhile; nobody removes anything then. */
START_TEST(under_the_lock)
{
	int stop = 0, fd, status;
	pid_t child;

	ck_ok(template_each(visit, &stop, &e));
	make_dir("00000000000000aa");
	fd = open(tmp_path("cache/" TEMPLATE_DIR "/lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_that(fd >= 0 && !flock(fd, LOCK_EX));
	child = fork();
	ck_that(child >= 0);
	if (!child) {
		close(fd);
		_exit(template_remove("00000000000000aa", &e) ? 1 : 0);
	}
	usleep(100000);
	ck_assert_int_eq(waitpid(child, &status, WNOHANG), 0);
	ck_assert(!access(tmp_path("cache/" TEMPLATE_DIR "/00000000000000aa"), F_OK));
	close(fd);
	ck_that(waitpid(child, &status, 0) == child && !status);
	ck_assert(access(tmp_path("cache/" TEMPLATE_DIR "/00000000000000aa"), F_OK));
}
END_TEST

/* A cache that others can write to is trusted with nothing. */
START_TEST(of_others)
{
	int stop = 0;

	ck_ok(template_each(visit, &stop, &e));
	get_key();
	ck_assert(!chmod(tmp_path("cache/" CACHE_FILES), 0777));
	ck_refused(template_key(&t, key, &e), EPERM, "others can write to it");
	ck_assert(!chmod(tmp_path("cache/" TEMPLATE_DIR), 0777));
	ck_refused(template_each(visit, &stop, &e), EPERM, "others can write to it");
	ck_refused(template_remove("00000000000000aa", &e), EPERM, "others can write to it");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		which_kernel,
		no_kernel,
		what_a_key_depends_on,
		limits,
		the_kernel_is_read_once,
		what_is_remembered_is_spoilt,
		sums_of_two_kinds,
		keys_by_many_at_once,
		what_is_there,
		damaged,
		no_keys,
		under_the_lock,
		of_others,
	};

	return run_tests("template", tests, ARRAY_SIZE(tests), setup, tmp_teardown);
}
