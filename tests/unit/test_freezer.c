/* SPDX-License-Identifier: Apache-2.0
 *
 * The freezer: what it does to the files of a cgroup, on files that are none and do what the test
 * says; and to processes, where this host has cgroups of version 2 to give.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/freezer.h"
#include "tests/unit/agent_fixture.h"
#include "tests/unit/util.h"

static struct freezer f;
static const char *why;
static unsigned int fds_before;

/* --- files --- */

static void make_group(const char *name, const char *events)
{
	char path[128];

	mkdir(tmp_path(name), 0755);
	snprintf(path, sizeof(path), "%s/cgroup.freeze", name);
	tmp_file(path, "0", 1);
	snprintf(path, sizeof(path), "%s/cgroup.events", name);
	tmp_file(path, events, strlen(events));
}

static const char *state(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.freeze", name);
	return file_text(tmp_path(path), NULL);
}

static void set_root(const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	tmp_file("cgroup.procs", text, strlen(text));
}

static void setup_files(void)
{
	tmp_setup();
	fds_before = open_fds();
	make_group("exec", "populated 1\nfrozen 1\n");
	set_root("%d\n", getpid());
	freezer_open(&f, tmp);
	ck_assert_int_ge(f.home, 0);
}

static void close_freezer(void)
{
	close(f.root);
	if (f.home >= 0)
		close(f.home);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static void teardown_files(void)
{
	close_freezer();
	tmp_teardown();
}

static void expect_refusal(int code, const char *text)
{
	why = "";
	ck_assert_int_eq(freezer_freeze(&f, &why), -code);
	ck_assert_msg(strstr(why, text) != NULL, "%s", why);
	ck_assert_str_eq(state("exec"), "0");
}

START_TEST(freeze_and_thaw)
{
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(freezer_freeze(&f, &why), 0);
		ck_assert_str_eq(state("exec"), "1");
		freezer_thaw(&f);
		ck_assert_str_eq(state("exec"), "0");
	}
	freezer_thaw(&f);
}
END_TEST

/* All that are below the root, but not what somebody else has frozen. */
START_TEST(other_groups)
{
	make_group("docker", "frozen 1\n");
	make_group("paused", "frozen 1\n");
	tmp_file("paused/cgroup.freeze", "1", 1);
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	ck_assert_str_eq(state("docker"), "1");
	freezer_thaw(&f);
	ck_assert_str_eq(state("docker"), "0");
	ck_assert_str_eq(state("paused"), "1");
}
END_TEST

START_TEST(too_many_groups)
{
	char name[16];

	for (int i = 1; i < FREEZER_GROUPS; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		make_group(name, "frozen 1\n");
	}
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_thaw(&f);
	make_group("one-more", "frozen 1\n");
	expect_refusal(EBUSY, "too many");
	ck_assert_str_eq(state("g1"), "0");
}
END_TEST

/* Takes the whole time that it has. */
START_TEST(never_frozen)
{
	uint64_t before = now_ns();

	make_group("z", "populated 1\nfrozen 0\n");
	expect_refusal(ETIMEDOUT, "do not stop");
	ck_assert_str_eq(state("z"), "0");
	ck_assert(now_ns() - before >= AGENT_FREEZE_MS * UINT64_C(1000000));
}
END_TEST

START_TEST(who_is_in_the_root)
{
	char many[4096] = "";
	size_t n = 0;

	set_root("%d\n", getppid());
	expect_refusal(EBUSY, "moved to another");
	set_root("");
	expect_refusal(EBUSY, "moved to another");
	set_root("%d\n%d\n", getpid(), getppid());
	expect_refusal(EBUSY, "in the root");
	set_root("0\n%d\n", getpid());
	expect_refusal(EBUSY, "in the root");
	/* Gone since; and more than one read holds, with the number that counts at its edges. */
	set_root("%d\n%d\n", getpid(), 0x3fffffff);
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_thaw(&f);
	for (size_t at = 1015; at < 1030; at++) {
		memset(many, '9', sizeof(many));
		for (n = 7; n < at - 2; n += 8)
			many[n] = '\n';
		n = at;
		many[n - 1] = '\n';
		n += (size_t)sprintf(many + n, "%d\n", getpid());
		tmp_file("cgroup.procs", many, n);
		ck_assert_int_eq(freezer_freeze(&f, &why), 0);
		freezer_thaw(&f);
	}
	unlink(tmp_path("cgroup.procs"));
	expect_refusal(EIO, "cannot look");
}
END_TEST

/* --- no freezer --- */

START_TEST(no_freezer)
{
	pid_t pid;

	close_freezer();
	freezer_open(&f, "/nonexistent");
	ck_assert_int_eq(f.home, -1);
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_thaw(&f);
	pid = freezer_fork(&f);
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	ck_assert_int_eq(freezer_freeze(&f, &why), -ENOTSUP);
	ck_assert(strstr(why, "no freezer") != NULL);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_open(&f, tmp); /* for the teardown */
}
END_TEST

/* A directory that no process can be born into: it is a plain child then, which is remembered. */
START_TEST(clone_is_refused)
{
	pid_t pid = freezer_fork(&f);

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	expect_refusal(ENOTSUP, "no freezer");
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_thaw(&f);
}
END_TEST

/* --- processes --- */

static uint64_t *counter; /* that a process counts while it runs */
static const char *root;
static pid_t running;

static void setup_processes(void)
{
	char file[4200];

	fds_before = open_fds();
	root = make_cgroup();
	if (!root)
		return;
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(file, sizeof(file), "%s/cgroup.procs", root);
	ck_assert(!write_all(open(file, O_WRONLY | O_CLOEXEC), "0", 1));
	fds_before++;
	freezer_open(&f, root);
	ck_assert_int_ge(f.home, 0);
	running = freezer_fork(&f);
	ck_assert_int_ge(running, 0);
	while (!running) {
		__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
		sched_yield();
	}
	ck_assert(!f.escaped);
}

static void teardown_processes(void)
{
	char file[4200];

	if (!root)
		return;
	kill(running, SIGKILL);
	waitpid(running, NULL, 0);
	snprintf(file, sizeof(file), "%s/../cgroup.procs", root);
	ck_assert(!write_all(open(file, O_WRONLY | O_CLOEXEC), "0", 1));
	remove_cgroup();
}

static uint64_t count(void)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void expect_runs(void)
{
	uint64_t then = count();

	while (count() == then)
		sched_yield();
}

/* No time proves that it does not run. This is long enough for one that does. */
static void expect_stopped(void)
{
	uint64_t then = count();

	usleep(20000);
	ck_assert_uint_eq(count(), then);
}

static void move_to(const char *group)
{
	char file[4200], pid[32];
	int fd;

	snprintf(file, sizeof(file), "%s%s/cgroup.procs", root, group);
	snprintf(pid, sizeof(pid), "%d", running);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	ck_assert(!write_all(fd, pid, strlen(pid)));
	close(fd);
}

START_TEST(process_stops_and_goes_on)
{
	if (!root)
		ck_skip("no cgroup v2 that can be written to");
	for (int i = 0; i < 5; i++) {
		expect_runs();
		ck_assert_int_eq(freezer_freeze(&f, &why), 0);
		expect_stopped();
		freezer_thaw(&f);
	}
	expect_runs();
}
END_TEST

START_TEST(process_that_has_moved)
{
	char path[4200];

	if (!root)
		ck_skip("no cgroup v2 that can be written to");
	snprintf(path, sizeof(path), "%s/other", root);
	ck_assert(!mkdir(path, 0755));
	move_to("/other");
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	expect_stopped();
	freezer_thaw(&f);
	expect_runs();
	/* Where it cannot be stopped, nothing is. */
	setpgid(running, running);
	move_to("");
	ck_assert_int_eq(freezer_freeze(&f, &why), -EBUSY);
	expect_runs();
	move_to("/exec");
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	expect_stopped();
	freezer_thaw(&f);
}
END_TEST

START_TEST(agent_that_was_moved)
{
	pid_t other = running;

	if (!root)
		ck_skip("no cgroup v2 that can be written to");
	running = getpid();
	move_to("/exec");
	ck_assert_int_eq(freezer_freeze(&f, &why), -EBUSY);
	move_to("");
	running = other;
	ck_assert_int_eq(freezer_freeze(&f, &why), 0);
	freezer_thaw(&f);
}
END_TEST

int main(void)
{
	const TTest *const files[] = {
		freeze_and_thaw,    other_groups, too_many_groups,  never_frozen,
		who_is_in_the_root, no_freezer,	  clone_is_refused,
	};
	const TTest *const processes[] = {
		process_stops_and_goes_on,
		process_that_has_moved,
		agent_that_was_moved,
	};
	const struct test_group groups[] = {
		{files, ARRAY_SIZE(files), setup_files, teardown_files},
		{processes, ARRAY_SIZE(processes), setup_processes, teardown_processes},
	};

	return run_groups("freezer", groups, ARRAY_SIZE(groups));
}
