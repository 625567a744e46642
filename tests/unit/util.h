/* SPDX-License-Identifier: Apache-2.0
 *
 * util: what the unit tests share: a main(), a temporary directory, files, and turning a loop by
 * hand, so that no test waits for time to pass.
 */
#ifndef UVM_TESTS_UTIL_H
#define UVM_TESTS_UTIL_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/loop.h"

/* Tests with the same fixture: setup and teardown, either of which may be NULL, run around each
 * test, in its process.
 */
struct test_group {
	const TTest *const *tests;
	size_t n;
	SFun setup, teardown;
};

/* Runs groups of tests as one suite, each test in a process of its own, and prints what libcheck
 * has to say. Returns main()'s status.
 */
int run_groups(const char *name, const struct test_group *groups, size_t n);

/* The same for one group. */
int run_tests(const char *name, const TTest *const *tests, size_t n, SFun setup, SFun teardown);

/* ck_assert for loops and helpers: libcheck writes a record of each ck_assert that it passes, which
 * costs more than most of what is tested here.
 */
#define ck_that(cond)                                                                              \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("%s", #cond);                                                 \
	} while (0)

/* ck_assert for calls that return 0 or -errno and set the struct err `e` in scope. */
#define ck_ok(call)                                                                                \
	do {                                                                                       \
		int ck_ok_r = (int)(call);                                                         \
		if (ck_ok_r < 0)                                                                   \
			ck_abort_msg("%s: %d, %s", #call, ck_ok_r, e.text);                        \
	} while (0)

/* ... and for calls that must fail with this errno and a message that contains `say`. */
#define ck_refused(call, code, say)                                                                \
	do {                                                                                       \
		int ck_refused_r;                                                                  \
		e.text[0] = 0;                                                                     \
		ck_refused_r = (int)(call);                                                        \
		if (ck_refused_r != -(code) || !strstr(e.text, say))                               \
			ck_abort_msg("%s: %d, %s", #call, ck_refused_r, e.text);                   \
	} while (0)

/* Ends a test that cannot be run here. tests/run counts it as skipped, and not as passed. */
#define ck_skip(reason)                                                                            \
	do {                                                                                       \
		printf("skip %s: %s\n", __func__, reason);                                         \
		fflush(stdout);                                                                    \
		return;                                                                            \
	} while (0)

/* The test's temporary directory, below TMPDIR, as path and O_PATH descriptor: fixtures make it and
 * remove it with all that is in it.
 */
extern char tmp[];
extern int tmp_dir;
void tmp_setup(void);
void tmp_teardown(void);

/* What is mounted from now on is this process's, and gone with it. Returns false where that cannot be. */
bool private_mounts(void);

/* The path of name in the temporary directory. Valid for the next 31 calls. */
const char *tmp_path(const char *name);

/* Makes a file in the temporary directory; returns its path as tmp_path does. */
const char *tmp_file(const char *name, const void *data, size_t len);

/* The whole content of a file, NUL-terminated, in a buffer that the next call reuses. */
const char *file_text(const char *path, size_t *len);

/* Serves every event of l that is there, and those that this causes, and returns: never waits.
 * Fails the test if it does not come to rest.
 */
void loop_settle(struct loop *l);

/* Serves one round of events and returns. */
void loop_turn(struct loop *l);

/* Takes what an eventfd has counted. */
uint64_t event_count(int fd);

/* What can be read from a pipe, socket or terminal without waiting, as a string that the next call
 * reuses: "" if nothing is there, "(end)" at the end or after an error.
 */
const char *text_now(int fd);

/* How many descriptors this process has open. */
unsigned int open_fds(void);

/* Whether n bytes at p all have this value. */
bool all_bytes(const void *p, size_t n, uint8_t value);

/* Fills n bytes with a pattern that depends on seed and the position. */
void fill_pattern(void *p, size_t n, uint32_t seed);

/* A small generator of numbers, the same on each run. */
uint32_t next_random(uint32_t *state);

#endif
