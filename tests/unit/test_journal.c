/* SPDX-License-Identifier: Apache-2.0
 *
 * What is written of a VM: its journal, and a container's record, which others read while it is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/journal.h"
#include "vmm/record.h"
#include "vmm/util.h"

static struct err e;
static struct rundir vm;
static struct record rec;

static void setup(void)
{
	tmp_setup();
	ck_assert(!setenv("UVM_RUN", tmp_path("run"), 1));
	ck_ok(rundir_create(&vm, "a", &e));
}

/* --- the journal --- */

static const char *journal(size_t *len)
{
	return file_text(tmp_path("run/a/" RUNDIR_JOURNAL), len);
}

/* Parses each line of it, and returns how many have this event. */
static unsigned int events(const char *event)
{
	size_t len;
	const char *text = journal(&len), *end = text + len;
	unsigned int n = 0;

	for (const char *nl; text < end; text = nl + 1) {
		const char *seen = "", *id = "";
		struct json_doc doc;
		uint64_t ns = 0;

		nl = memchr(text, '\n', (size_t)(end - text));
		ck_that(nl && nl - text < JOURNAL_LINE);
		ck_ok(json_parse(&doc, text, (size_t)(nl - text), "journal", &e));
		ck_ok(json_string(doc.root, "event", &seen, &e));
		ck_ok(json_string(doc.root, "id", &id, &e));
		ck_ok(json_uint(doc.root, "time_ns", UINT64_MAX, &ns, &e));
		ck_that(!strcmp(id, "a") && ns);
		n += !strcmp(seen, event);
		json_free(&doc);
	}
	return n;
}

START_TEST(a_time)
{
	char text[JOURNAL_TIME];

	journal_time((struct timespec){0, 999999999}, text);
	ck_assert_str_eq(text, "1970-01-01T00:00:00.999Z");
	journal_time((struct timespec){1769860800, 1000000}, text);
	ck_assert_str_eq(text, "2026-01-31T12:00:00.001Z");
}
END_TEST

START_TEST(each_kind_of_event)
{
	static char reason[sizeof(e.text)];
	size_t len;

	journal_event(&vm, "start");
	journal_number(&vm, "oom", "kills", UINT64_MAX);
	journal_text(&vm, "fork", "fork", "quote \" line \n");
	journal_exit(&vm, -7, "because");
	ck_assert_uint_eq(events("start") + events("oom") + events("fork") + events("exit"), 4);
	ck_assert(strstr(journal(&len), "\"kills\":18446744073709551615"));
	ck_assert(strstr(journal(&len), "\"fork\":\"quote \\\" line \\u000a\""));
	ck_assert(strstr(journal(&len), "\"status\":-7,\"reason\":\"because\""));
	/* The longest reason of the worst bytes is a line that readers take. */
	memset(reason, '\\', sizeof(reason) - 1);
	journal_exit(&vm, 1, reason);
	memset(reason, 0xff, sizeof(reason) - 1);
	journal_exit(&vm, 1, reason);
	memset(reason, 1, sizeof(reason) - 1);
	journal_exit(&vm, 1, reason);
	ck_assert_uint_eq(events("exit"), 4);
}
END_TEST

/* A guest that causes events without end fills no disk, and its end is told all the same. */
START_TEST(full)
{
	size_t len;

	for (unsigned int i = 0; i < 4000; i++)
		journal_number(&vm, "oom", "kills", i);
	journal(&len);
	ck_assert_uint_gt(len, JOURNAL_MAX);
	ck_assert_uint_lt(len, JOURNAL_MAX + JOURNAL_LINE);
	ck_assert_uint_lt(events("oom"), 4000);
	journal_text(&vm, "more", "text", "is lost");
	journal_event(&vm, "more");
	journal_exit(&vm, 0, "done");
	ck_assert_uint_eq(events("more"), 0);
	ck_assert_uint_eq(events("exit"), 1);
}
END_TEST

/* A link in its place is not followed; what cannot be written is lost, and no descriptor with it. */
START_TEST(not_a_file)
{
	unsigned int fds = open_fds();
	const char *victim = tmp_file("victim", "", 0);
	size_t len;

	ck_assert(!symlinkat(victim, vm.dir, RUNDIR_JOURNAL));
	journal_event(&vm, "start");
	journal_exit(&vm, 0, "done");
	file_text(victim, &len);
	ck_assert_uint_eq(len, 0);
	ck_assert(!unlinkat(vm.dir, RUNDIR_JOURNAL, 0) &&
		  !mkdirat(vm.dir, RUNDIR_JOURNAL, 0700));
	journal_event(&vm, "start");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

#define WRITERS 4
#define LINES	200

static void *write_lines(void *arg)
{
	for (unsigned int i = 0; i < LINES; i++)
		journal_text(&vm, arg, "text", "as long as a line of a few words is");
	return NULL;
}

/* Threads and processes at once: each line is there, and whole. */
START_TEST(by_many_at_once)
{
	pthread_t thread[WRITERS];
	pid_t child = fork();
	int status;

	ck_that(child >= 0);
	if (!child) {
		write_lines((char *)"child");
		_exit(0);
	}
	for (unsigned int i = 0; i < WRITERS; i++)
		ck_that(!pthread_create(&thread[i], NULL, write_lines, (char *)"thread"));
	for (unsigned int i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	ck_that(waitpid(child, &status, 0) == child && !status);
	ck_assert_uint_eq(events("thread"), WRITERS * LINES);
	ck_assert_uint_eq(events("child"), LINES);
}
END_TEST

/* --- the record --- */

static void write_record(const char *text, size_t len)
{
	tmp_file("run/a/" RUNDIR_RECORD, text, len);
}

static int load_record(void)
{
	return record_load(&vm, &rec, &e);
}

static char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"echo \"x\"", NULL};

START_TEST(of_a_life)
{
	ck_ok(load_record());
	ck_assert(!rec.container && !record_is_container(&vm));
	ck_ok(record_create(&vm, "image", argv, "/a file", true, &e));
	ck_assert(record_is_container(&vm));
	ck_ok(load_record());
	ck_assert(rec.container && rec.remove && rec.status == -1);
	ck_assert_str_eq(rec.image, "image");
	ck_assert_str_eq(rec.scratch, "/a file");
	ck_assert_uint_eq(rec.command->count, 3);
	ck_assert(*rec.created && !*rec.started && !*rec.exited);
	record_free(&rec);
	record_started(&vm);
	ck_ok(load_record());
	ck_assert(*rec.started && !*rec.exited && rec.status == -1);
	record_free(&rec);
	record_exited(&vm, 137);
	ck_ok(load_record());
	ck_assert(*rec.started && *rec.exited && rec.status == 137);
	record_free(&rec);
}
END_TEST

/* Cut off anywhere, it is what was whole by then: a writer may be at it, or have been killed. */
START_TEST(cut_off)
{
	static char text[4096];
	const char *seen;
	size_t len, first;

	ck_ok(record_create(&vm, "image", argv, NULL, false, &e));
	record_started(&vm);
	record_exited(&vm, 5);
	seen = file_text(tmp_path("run/a/" RUNDIR_RECORD), &len);
	ck_assert_uint_lt(len, sizeof(text));
	memcpy(text, seen, len);
	first = (size_t)((char *)memchr(text, '\n', len) - text) + 1;
	for (size_t n = 0; n < len; n++) {
		write_record(text, n);
		if (n < first) {
			ck_refused(load_record(), EINVAL, "without its beginning");
			continue;
		}
		ck_ok(load_record());
		ck_that(rec.status == -1 && !*rec.exited && !rec.scratch);
		record_free(&rec);
	}
}
END_TEST

#define FIRST "{\"image\":\"i\",\"command\":[\"c\"],\"created\":\"t\"}\n"

START_TEST(spoilt)
{
	static const struct {
		const char *text, *message;
		int code;
	} bad[] = {
		{"", "without its beginning", EINVAL},
		{"\n", "container", EINVAL},
		{"[]\n", "image", EINVAL},
		{"{}\n", "image", EINVAL},
		{"{\"image\":\"i\"}\n", "command", EINVAL},
		{"{\"image\":1,\"command\":[]}\n", "image is not a string", EINVAL},
		{"{\"image\":\"i\",\"command\":\"c\"}\n", "command is not an array", EINVAL},
		{"{\"image\":\"i\",\"image\":\"i\",\"command\":[]}\n", "a second time", EINVAL},
		{FIRST "{\"status\":256}\n", "status", EINVAL},
		{FIRST "{\"status\":-1}\n", "status", EINVAL},
		{FIRST "{\"status\":\"0\"}\n", "status", EINVAL},
		{FIRST "{\"exited\":[]}\n", "exited", EINVAL},
		{FIRST "nonsense\n", "container", EINVAL},
		{FIRST "{}\n{\n", "container", EINVAL},
	};
	unsigned int fds = open_fds();
	char nul[] = "{\"image\":\"i\",\0\"command\":[\"c\"]}\n";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_record(bad[i].text, strlen(bad[i].text));
		ck_refused(load_record(), bad[i].code, bad[i].message);
		ck_that(!rec.image && rec.status == -1);
	}
	write_record(nul, sizeof(nul) - 1);
	ck_refused(load_record(), EINVAL, "container");
	/* A time of any length. */
	write_record(FIRST "{\"started\":\"" "0123456789012345678901234567890123456789" "\"}\n",
		     sizeof(FIRST) + 55);
	ck_ok(load_record());
	ck_assert_uint_eq(strlen(rec.started), JOURNAL_TIME - 1);
	record_free(&rec);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

START_TEST(no_record_at_all)
{
	ck_assert(!mkfifoat(vm.dir, RUNDIR_RECORD, 0600));
	ck_refused(load_record(), EINVAL, "not a regular file");
	ck_assert(!unlinkat(vm.dir, RUNDIR_RECORD, 0));
	ck_assert(!symlinkat(tmp_file("there", FIRST, strlen(FIRST)), vm.dir, RUNDIR_RECORD));
	ck_refused(load_record(), ELOOP, "record of 'a'");
	ck_assert(!unlinkat(vm.dir, RUNDIR_RECORD, 0));
	write_record(FIRST, strlen(FIRST));
	ck_assert(!truncate(tmp_path("run/a/" RUNDIR_RECORD), JSON_SIZE_MAX + 1));
	ck_refused(load_record(), EFBIG, "larger");
}
END_TEST

/* A reader sees the lines in their order, and never half of one. */
START_TEST(read_while_it_is_written)
{
	pid_t child;
	int last = -1, status;

	ck_ok(record_create(&vm, "image", argv, NULL, false, &e));
	child = fork();
	ck_that(child >= 0);
	if (!child) {
		for (int i = 0; i < 200; i++)
			record_exited(&vm, i);
		_exit(0);
	}
	while (last < 199) {
		ck_ok(load_record());
		ck_that(rec.status >= last);
		last = rec.status;
		record_free(&rec);
	}
	ck_that(waitpid(child, &status, 0) == child && !status);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_time,	  each_kind_of_event, full,   not_a_file,	by_many_at_once,
		of_a_life, cut_off,	      spoilt, no_record_at_all, read_while_it_is_written,
	};

	return run_tests("journal", tests, ARRAY_SIZE(tests), setup, tmp_teardown);
}
