/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include "vmm/util.h"

/* Rounds of a loop after which it counts as one that never rests. */
#define MANY_ROUNDS 100000

char tmp[PATH_MAX];
int tmp_dir;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int remove_tree(const char *path)
{
	return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The program's directory, which holds those of the tests, and is removed by its first process:
 * a test that fails or dies removes nothing.
 */
static char base[PATH_MAX / 2];

static int base_make(void)
{
	const char *dir = getenv("TMPDIR");

	snprintf(base, sizeof(base), "%s/uvm-test.XXXXXX", dir && *dir ? dir : "/tmp");
	return mkdtemp(base) ? 0 : -errno;
}

int run_groups(const char *name, const struct test_group *groups, size_t n)
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed;

	if (base_make()) {
		perror(base);
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN); /* as the monitor's main() does */
	for (size_t i = 0; i < n; i++) {
		const struct test_group *g = &groups[i];
		TCase *tc = tcase_create(name);

		if (g->setup || g->teardown)
			tcase_add_checked_fixture(tc, g->setup, g->teardown);
		for (size_t k = 0; k < g->n; k++)
			tcase_add_test(tc, g->tests[k]);
		suite_add_tcase(suite, tc);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	remove_tree(base);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_tests(const char *name, const TTest *const *tests, size_t n, SFun setup, SFun teardown)
{
	const struct test_group all = {tests, n, setup, teardown};

	return run_groups(name, &all, 1);
}

/* --- files --- */

void tmp_setup(void)
{
	snprintf(tmp, sizeof(tmp), "%s/XXXXXX", base);
	ck_that(mkdtemp(tmp));
	tmp_dir = open(tmp, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_that(tmp_dir >= 0);
}

void tmp_teardown(void)
{
	ck_that(remove_tree(tmp) == 0);
	close(tmp_dir);
}

bool private_mounts(void)
{
	return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

const char *tmp_path(const char *name)
{
	static char path[32][PATH_MAX + 64];
	static unsigned int turn;
	char *p = path[turn++ % ARRAY_SIZE(path)];

	snprintf(p, sizeof(path[0]), "%s/%s", tmp, name);
	return p;
}

const char *tmp_file(const char *name, const void *data, size_t len)
{
	const char *path = tmp_path(name);
	int fd;

	unlink(path); /* not O_TRUNC: ext4 would write a file that is emptied out at once */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_that(fd >= 0);
	ck_that(write_all(fd, data, len) == 0);
	close(fd);
	return path;
}

const char *file_text(const char *path, size_t *len)
{
	static char *text;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = lseek(fd, 0, SEEK_END);

	ck_assert_msg(fd >= 0 && size >= 0, "%s cannot be read", path);
	text = realloc(text, (size_t)size + 1);
	ck_that(pread_all(fd, text, (size_t)size, 0) == 0);
	close(fd);
	text[size] = 0;
	if (len)
		*len = (size_t)size;
	return text;
}

const char *text_now(int fd)
{
	static char text[8192];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n;

	if (!poll(&p, 1, 0))
		return "";
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return "(end)";
	text[n] = 0;
	return text;
}

unsigned int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	ck_that(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and d's own */
}

/* --- loops --- */

struct halt {
	struct loop_source source;
	struct loop *loop;
};

static void halt(struct loop_source *s, uint32_t events)
{
	(void)events;
	event_take(s->fd);
	/* Without the wake-up that loop_stop leaves behind. */
	__atomic_store_n(&CONTAINER_OF(s, struct halt, source)->loop->stop, true, __ATOMIC_RELEASE);
}

void loop_turn(struct loop *l)
{
	struct err e;
	struct halt h = {.loop = l, .source = {.ready = halt}};

	h.source.fd = event_new(&e);
	ck_that(loop_add(l, &h.source, EPOLLIN) == 0);
	event_post(h.source.fd); /* the last in epoll's queue: it comes after all that is ready */
	l->stop = false;
	ck_that(loop_run(l) == 0);
	loop_del(l, &h.source);
	close(h.source.fd);
}

void loop_settle(struct loop *l)
{
	struct pollfd p = {.fd = l->epoll, .events = POLLIN};

	for (unsigned int i = 0; poll(&p, 1, 0) > 0; i++) {
		ck_that(i < MANY_ROUNDS);
		loop_turn(l);
	}
}

uint64_t event_count(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* --- bytes --- */

bool all_bytes(const void *p, size_t n, uint8_t value)
{
	const uint8_t *b = p;

	return !n || (b[0] == value && !memcmp(b, b + 1, n - 1));
}

uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

void fill_pattern(void *p, size_t n, uint32_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		b[i] = (uint8_t)(next_random(&seed) ^ i);
}
