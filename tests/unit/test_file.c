/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/file.h"
#include "vmm/util.h"

static struct err e;
static char *text = (char *)1; /* whatever it was, it is set */
static size_t len = 1;

static int load(const char *name, size_t max)
{
	return file_load(open(tmp_path(name), O_RDONLY | O_CLOEXEC | O_NONBLOCK), name, max, &text,
			 &len, &e);
}

START_TEST(whole)
{
	unsigned int fds = open_fds();
	char big[100000];

	fill_pattern(big, sizeof(big), 1);
	tmp_file("big", big, sizeof(big));
	ck_ok(load("big", sizeof(big)));
	ck_assert_uint_eq(len, sizeof(big));
	ck_assert(!memcmp(text, big, len) && !text[len]);
	free(text);
	tmp_file("empty", "", 0);
	ck_ok(load("empty", 0));
	ck_assert(!len && !*text);
	free(text);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* From the beginning, and the descriptor stays the caller's. */
START_TEST(of_an_open_file)
{
	int fd = open(tmp_file("f", "content", 7), O_RDONLY | O_CLOEXEC);
	char byte;

	ck_assert_int_eq(lseek(fd, 5, SEEK_SET), 5);
	ck_ok(file_read(fd, "f", 7, &text, &len, &e));
	ck_assert_str_eq(text, "content");
	free(text);
	ck_assert(read(fd, &byte, 1) == 1 && byte == 'n');
	close(fd);
}
END_TEST

START_TEST(refused)
{
	unsigned int fds = open_fds();

	tmp_file("f", "content", 7);
	ck_assert(!mkdirat(tmp_dir, "dir", 0755) && !mkfifoat(tmp_dir, "fifo", 0600));
	ck_refused(load("f", 6), EFBIG, "f: larger than 6 bytes");
	ck_refused(load("dir", 100), EINVAL, "dir: not a regular file");
	ck_refused(load("fifo", 100), EINVAL, "fifo: not a regular file"); /* and at once */
	ck_refused(load("none", 100), ENOENT, "none: No such file");
	ck_assert(!text && !len);
	ck_refused(file_load(open("/dev/zero", O_RDONLY | O_CLOEXEC), "zero", 100, &text, &len, &e),
		   EINVAL, "zero: not a regular file");
	/* As large as a file can be said to be: no memory is taken for it. */
	tmp_file("huge", "", 0);
	ck_assert(!truncate(tmp_path("huge"), INT64_MAX >> 12 << 12) || errno == EFBIG);
	ck_assert(!truncate(tmp_path("huge"), INT64_C(1) << 42));
	ck_refused(load("huge", 1 << 20), EFBIG, "larger");
	ck_refused(file_load(open(tmp_path("f"), O_WRONLY | O_CLOEXEC), "f", 7, &text, &len, &e),
		   EBADF, "f: Bad file descriptor");
	ck_assert(!text && !len);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {whole, of_an_open_file, refused};

	return run_tests("file", tests, ARRAY_SIZE(tests), tmp_setup, tmp_teardown);
}
