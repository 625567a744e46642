/* SPDX-License-Identifier: Apache-2.0
 *
 * Run directories and their sockets, with other processes as the other VMs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/rundir.h"
#include "vmm/sock.h"
#include "vmm/util.h"

static struct rundir rundir;
static struct err e;

static void setup(void)
{
	tmp_setup();
	ck_assert(!setenv("UVM_RUN", tmp_path("run"), 1));
}

static bool exists(const char *path)
{
	struct stat st;

	return !lstat(tmp_path(path), &st);
}

/* A VM in a process of its own. It holds its id until the test writes to `hold`. */
struct other {
	pid_t pid;
	int hold;
	int result; /* of rundir_create */
};

static struct other start_other(const char *id)
{
	struct other o;
	int hold[2], said[2];

	ck_that(!pipe2(hold, O_CLOEXEC) && !pipe2(said, O_CLOEXEC));
	o.pid = fork();
	ck_that(o.pid >= 0);
	if (!o.pid) {
		struct rundir r;
		char byte;
		int result;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* others may hold hold[1] too */
		result = rundir_create(&r, id, &e);
		if (!result)
			result = rundir_write_pid(&r, &e);
		write_all(said[1], &result, sizeof(result));
		_exit(read(hold[0], &byte, 1) != 1); /* dies without cleaning up */
	}
	close(hold[0]);
	close(said[1]);
	o.hold = hold[1];
	ck_that(read(said[0], &o.result, sizeof(o.result)) == sizeof(o.result));
	close(said[0]);
	return o;
}

static void end_other(const struct other *o)
{
	int ws;

	ck_that(write(o->hold, "x", 1) == 1);
	close(o->hold);
	ck_that(waitpid(o->pid, &ws, 0) == o->pid && WIFEXITED(ws) && !WEXITSTATUS(ws));
}

/* --- ids --- */

START_TEST(valid_ids)
{
	static const char *const good[] = {"a", "Z", "0", "web-1", "a.b_c-D", "0123456789abcdef"};
	static const char *const bad[] = {"",	 ".",	 "..",	"-a",	"_a",	    ".a",
					  "a/b", "/",	 "a b", "a\n",	"\xc3\xa4", "a\x01",
					  "a:b", "../a", "a*",	"a\xff"};
	char longest[RUNDIR_ID_MAX + 2];

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(rundir_id_valid(good[i]), "%s", good[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(!rundir_id_valid(bad[i]), "%s", bad[i]);
		ck_refused(rundir_create(&rundir, bad[i], &e), EINVAL, "is not valid");
		ck_refused(rundir_open(&rundir, bad[i], &e), EINVAL, "is not a VM's id");
	}
	memset(longest, 'x', sizeof(longest));
	longest[RUNDIR_ID_MAX] = 0;
	ck_assert(rundir_id_valid(longest));
	longest[RUNDIR_ID_MAX] = 'x';
	longest[RUNDIR_ID_MAX + 1] = 0;
	ck_assert(!rundir_id_valid(longest));
	ck_assert(!exists("run")); /* a bad id made nothing */
}
END_TEST

/* --- making and removing --- */

START_TEST(create_and_remove)
{
	unsigned int fds = open_fds();
	struct stat st;

	ck_ok(rundir_create(&rundir, "vm", &e));
	ck_assert_str_eq(rundir.id, "vm");
	ck_assert(!lstat(tmp_path("run/vm"), &st));
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert(!lstat(tmp_path("run"), &st));
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_ok(rundir_write_pid(&rundir, &e));
	ck_assert_int_eq(atoi(file_text(tmp_path("run/vm/pid"), NULL)), getpid());
	tmp_file("run/vm/console.log", "text", 4);
	rundir_remove(&rundir);
	ck_assert(!exists("run/vm"));
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

START_TEST(random_ids_differ)
{
	struct rundir other;

	ck_ok(rundir_create(&rundir, NULL, &e));
	ck_ok(rundir_create(&other, NULL, &e));
	ck_assert(rundir_id_valid(rundir.id) && rundir_id_valid(other.id));
	ck_assert_str_ne(rundir.id, other.id);
	rundir_remove(&rundir);
	rundir_remove(&other);
}
END_TEST

START_TEST(id_that_is_taken)
{
	struct other o = start_other("vm");
	unsigned int fds = open_fds();

	ck_assert_int_eq(o.result, 0);
	ck_refused(rundir_create(&rundir, "vm", &e), EEXIST, "'vm' is running already");
	ck_assert(exists("run/vm/pid")); /* untouched */
	ck_assert_uint_eq(open_fds(), fds);
	ck_ok(rundir_create(&rundir, "vm2", &e));
	rundir_remove(&rundir);
	end_other(&o);
}
END_TEST

/* A VM that died without a word leaves its directory; its id is free. */
START_TEST(id_of_a_dead_vm)
{
	struct other o = start_other("vm");

	tmp_file("run/vm/old", "x", 1);
	end_other(&o);
	ck_assert(exists("run/vm/pid"));
	ck_ok(rundir_create(&rundir, "vm", &e));
	ck_assert(!exists("run/vm/pid") && !exists("run/vm/old"));
	rundir_remove(&rundir);
}
END_TEST

/* However many try at once, one gets the id. */
START_TEST(one_of_many_gets_it)
{
	for (unsigned int round = 0; round < 5; round++) {
		enum { N = 12 };
		int go[2], said[2], hold[2], won = 0, result;

		ck_assert(!pipe(go) && !pipe(said) && !pipe(hold));
		for (unsigned int i = 0; i < N; i++) {
			pid_t pid = fork();
			char byte;

			ck_that(pid >= 0);
			if (pid)
				continue;
			close(go[1]);
			close(hold[1]);
			if (read(go[0], &byte, 1))
				_exit(1);
			result = rundir_create(&rundir, "vm", &e);
			write_all(said[1], &result, sizeof(result));
			_exit(read(hold[0], &byte, 1) != 0);
		}
		close(go[1]); /* all together */
		for (unsigned int i = 0; i < N; i++) {
			ck_assert_int_eq(read(said[0], &result, sizeof(result)), sizeof(result));
			ck_assert(result == 0 || result == -EEXIST);
			won += !result;
		}
		ck_assert_int_eq(won, 1);
		close(hold[1]);
		while (wait(&result) > 0)
			ck_assert_int_eq(result, 0);
		close(go[0]), close(hold[0]), close(said[0]), close(said[1]);
	}
}
END_TEST

/* Creators and removers of one id, all the time: whoever has it has its directory too. */
START_TEST(create_and_remove_at_once)
{
	pid_t pid[4];
	int ws;

	for (unsigned int i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork();
		ck_that(pid[i] >= 0);
		if (pid[i])
			continue;
		for (unsigned int k = 0; k < 200; k++) {
			int r = rundir_create(&rundir, "vm", &e);

			if (r == -EEXIST)
				continue;
			if (r || rundir_write_pid(&rundir, &e) || !exists("run/vm/pid"))
				_exit(1);
			rundir_remove(&rundir);
		}
		_exit(0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(pid); i++)
		ck_assert(waitpid(pid[i], &ws, 0) == pid[i] && ws == 0);
	ck_assert(!exists("run/vm"));
}
END_TEST

START_TEST(leftovers_that_are_no_files)
{
	ck_assert(!mkdir(tmp_path("run"), 0700) && !mkdir(tmp_path("run/vm"), 0700));
	tmp_file("run/vm/lock", "", 0);
	ck_assert(!mkdir(tmp_path("run/vm/sub"), 0700));
	ck_assert(!symlink(tmp_path("precious"), tmp_path("run/vm/link")));
	tmp_file("precious", "x", 1);
	ck_ok(rundir_create(&rundir, "vm", &e));
	ck_assert(exists("run/vm/sub") && !exists("run/vm/link"));
	ck_assert(exists("precious")); /* the link went, not what it pointed to */
	rundir_remove(&rundir);
	ck_assert(exists("run/vm/lock")); /* so the id can be had again */
	ck_ok(rundir_create(&rundir, "vm", &e));
	rundir_remove(&rundir);
}
END_TEST

static char seen[64];

static int visit(void *ctx, const char *id)
{
	strcat(strcat(seen, id), " ");
	return ctx && !strcmp(id, ctx) ? 42 : 0;
}

/* A user keeps something beside the directories of VMs. */
START_TEST(directories_of_others)
{
	unsigned int fds = open_fds();

	ck_assert(!mkdir(tmp_path("run"), 0700) && !mkdir(tmp_path("run/snap"), 0700));
	tmp_file("run/snap/memory", "x", 1);
	ck_assert_int_eq(rundir_each(true, visit, NULL, &e), 0);
	ck_assert_str_eq(seen, "");
	ck_refused(rundir_open(&rundir, "snap", &e), ENOENT, "'snap'");
	ck_refused(rundir_create(&rundir, "snap", &e), EEXIST, "is no VM's");
	ck_assert(exists("run/snap/memory") && !exists("run/snap/lock"));
	ck_assert_uint_eq(open_fds(), fds);
	/* What somebody has just made, or a VM that died at its beginning. */
	ck_assert(!mkdir(tmp_path("run/vm"), 0700));
	ck_ok(rundir_create(&rundir, "vm", &e));
	rundir_remove(&rundir);
}
END_TEST

START_TEST(names_that_are_in_the_way)
{
	unsigned int fds = open_fds();

	ck_assert(!mkdir(tmp_path("run"), 0700));
	tmp_file("run/file", "x", 1);
	ck_refused(rundir_create(&rundir, "file", &e), ENOTDIR, "'file'");
	ck_assert(!mkdir(tmp_path("elsewhere"), 0700));
	ck_assert(!symlink(tmp_path("elsewhere"), tmp_path("run/link")));
	ck_refused(rundir_create(&rundir, "link", &e), ENOTDIR, "'link'");
	ck_assert(!exists("elsewhere/lock"));
	ck_assert(!mkdir(tmp_path("run/vm"), 0700));
	ck_assert(!symlink(tmp_path("precious"), tmp_path("run/vm/lock")));
	ck_refused(rundir_create(&rundir, "vm", &e), ELOOP, "'vm'");
	ck_assert(!exists("precious"));
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* --- finding --- */

START_TEST(open_a_running_vm)
{
	struct other o = start_other("vm");
	unsigned int fds = open_fds();

	ck_ok(rundir_open(&rundir, "vm", &e));
	ck_assert_int_eq(rundir_pid(&rundir, &e), o.pid);
	rundir_close(&rundir);
	ck_refused(rundir_open(&rundir, "other", &e), ENOENT, "no VM with id 'other'");
	end_other(&o);
	ck_refused(rundir_open(&rundir, "vm", &e), ENOENT, "no VM with id 'vm'");
	ck_assert(!exists("run/vm"));		/* cleaned on the way */
	ck_assert_uint_eq(open_fds(), fds - 1); /* o.hold */
}
END_TEST

START_TEST(no_directory_at_all)
{
	ck_refused(rundir_open(&rundir, "vm", &e), ENOENT, "no VM with id 'vm'");
	ck_assert_int_eq(rundir_each(false, NULL, NULL, &e), 0);
	ck_assert(!exists("run"));
}
END_TEST

START_TEST(pid_files_that_make_no_sense)
{
	static const char *const bad[] = {"", "x", "0\n", "1\n", "-5\n"};

	ck_ok(rundir_create(&rundir, "vm", &e));
	ck_refused(rundir_pid(&rundir, &e), ENOENT, "no process id yet");
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		tmp_file("run/vm/pid", bad[i], strlen(bad[i]));
		ck_refused(rundir_pid(&rundir, &e), EINVAL, "makes no sense");
	}
	rundir_remove(&rundir);
}
END_TEST

START_TEST(each_running_vm)
{
	struct other o[3] = {start_other("b"), start_other("c"), start_other("a")};
	struct other dead = start_other("dead");
	unsigned int fds = open_fds();
	char stop[] = "b";

	end_other(&dead);
	tmp_file("run/file", "x", 1);
	ck_assert(!mkdir(tmp_path("run/.hidden"), 0700));
	ck_assert_int_eq(rundir_each(false, visit, NULL, &e), 0);
	ck_assert_str_eq(seen, "a b c ");
	ck_assert(!exists("run/dead"));
	ck_assert(exists("run/file") && exists("run/.hidden"));
	*seen = 0;
	ck_assert_int_eq(rundir_each(false, visit, stop, &e), 42);
	ck_assert_str_eq(seen, "a b ");
	ck_assert_uint_eq(open_fds(), fds - 1);
	for (unsigned int i = 0; i < 3; i++)
		end_other(&o[i]);
}
END_TEST

START_TEST(where_it_is)
{
	ck_assert(!setenv("UVM_RUN", "", 1));
	ck_assert(!setenv("XDG_RUNTIME_DIR", tmp, 1));
	ck_ok(rundir_create(&rundir, "vm", &e));
	ck_assert(exists("uvm/vm/lock"));
	rundir_remove(&rundir);
	ck_assert(!setenv("UVM_RUN", tmp_path("no/such"), 1));
	ck_refused(rundir_create(&rundir, "vm", &e), ENOENT, "no/such");
	tmp_file("file", "x", 1);
	ck_assert(!setenv("UVM_RUN", tmp_path("file"), 1));
	ck_refused(rundir_create(&rundir, "vm", &e), ENOTDIR, "file");
}
END_TEST

/* --- sockets --- */

START_TEST(sockets_in_deep_directories)
{
	char deep[1024] = "";
	int dir, listener, fd;

	/* Longer than a socket's address. */
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(deep + strlen(deep), sizeof(deep) - strlen(deep), "%s%030u", i ? "/" : "",
			 i);
		ck_assert(!mkdir(tmp_path(deep), 0700));
	}
	dir = open(tmp_path(deep), O_PATH | O_DIRECTORY);
	ck_ok(listener = sock_listen(dir, "name.sock", &e));
	ck_ok(fd = sock_connect(dir, "name.sock", 0));
	ck_assert_int_ge(accept(listener, NULL, NULL), 0);
	ck_assert_int_lt(accept(listener, NULL, NULL), 0);
	ck_assert_int_eq(errno, EAGAIN); /* it does not block */
	ck_assert(fcntl(listener, F_GETFD) & FD_CLOEXEC && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	ck_ok(fd = sock_connect(dir, "name.sock", 1));
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
}
END_TEST

START_TEST(sockets_of_the_dead)
{
	int listener;

	ck_ok(listener = sock_listen(tmp_dir, "name", &e));
	close(listener);
	ck_assert_int_eq(sock_connect(tmp_dir, "name", 0), -ECONNREFUSED);
	ck_ok(listener = sock_listen(tmp_dir, "name", &e)); /* replaced */
	ck_assert_int_ge(sock_connect(tmp_dir, "name", 0), 0);
	ck_assert_int_eq(sock_connect(tmp_dir, "nothing", 0), -ENOENT);
}
END_TEST

START_TEST(socket_names)
{
	unsigned int fds = open_fds();
	char name[200];

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	ck_refused(sock_listen(tmp_dir, name, &e), ENAMETOOLONG, "too long");
	ck_assert_int_eq(sock_connect(tmp_dir, name, 0), -ENAMETOOLONG);
	ck_assert(!mkdir(tmp_path("dir"), 0700));
	ck_refused(sock_listen(tmp_dir, "dir", &e), EADDRINUSE, "'dir'");
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

static int count_one(void *ctx, const char *id)
{
	(void)id;
	++*(unsigned int *)ctx;
	return 0;
}

/* What is hidden is no VM until it has a VM's name, which it gets once, and nobody else's. */
START_TEST(hidden_until_it_is_shown)
{
	struct rundir taken, random;
	char path[RUNDIR_ID_MAX + 8];
	unsigned int n = 0;

	ck_assert_int_eq(rundir_create_hidden(&rundir, RUNDIR_SHELL, NULL, &e), 0);
	ck_assert_int_eq(rundir_create_hidden(&random, RUNDIR_SHELL, NULL, &e), 0);
	ck_assert(!rundir_id_valid(rundir.id));
	ck_assert_int_eq(rundir_each(true, count_one, &n, &e), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(rundir_each_hidden(RUNDIR_SHELL, count_one, &n, &e), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(rundir_create(&taken, "taken", &e), 0);
	ck_assert_int_eq(rundir_show(&rundir, "taken", &e), -EEXIST);
	ck_assert_int_eq(rundir_show(&rundir, "../x", &e), -EINVAL);
	ck_assert_int_eq(rundir_show(&rundir, ".x", &e), -EINVAL);
	ck_assert_int_eq(rundir_show(&rundir, "shown", &e), 0);
	ck_assert_str_eq(rundir.id, "shown");
	ck_assert(exists("run/shown/lock"));
	ck_assert_int_eq(rundir_show(&rundir, "again", &e), -EEXIST);
	ck_assert_int_eq(rundir_show(&random, NULL, &e), 0);
	ck_assert(rundir_id_valid(random.id));
	snprintf(path, sizeof(path), "run/%s", random.id);
	ck_assert(exists(path));
	rundir_remove(&rundir);
	rundir_remove(&random);
	rundir_remove(&taken);
	ck_assert(!exists("run/shown") && !exists(path));
}
END_TEST

/* What the dead have left of hidden ones goes when somebody looks at VMs. */
START_TEST(hidden_leftovers)
{
	unsigned int n = 0;

	ck_assert_int_eq(rundir_create_hidden(&rundir, RUNDIR_POOL, "a-b", &e), 0);
	ck_assert_int_eq(rundir_create_hidden(&rundir, RUNDIR_POOL, "a-b", &e), -EEXIST);
	ck_that(!mkdir(tmp_path("run/.shell-1"), 0700));
	ck_that(!mkdir(tmp_path("run/.other"), 0700)); /* nobody's */
	ck_assert_int_eq(rundir_each(true, count_one, &n, &e), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert(!exists("run/.shell-1") && exists("run/.pool-a-b") && exists("run/.other"));
}
END_TEST

/* What a monitor has no way to goes and stays with the VM's directory, whatever it has done to that. */
START_TEST(clients_own_directory)
{
	struct rundir monitor;
	bool running;
	int own, fd;

	ck_assert_int_eq(rundir_create(&rundir, "a", &e), 0);
	ck_assert_int_eq(rundir_own(&rundir, false), -ENOENT);
	own = rundir_own(&rundir, true);
	ck_assert_int_ge(own, 0);
	fd = openat(own, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	close(own);
	ck_assert(rundir_kept(&rundir) && exists("run/.own-a/file") && !exists("run/a/file"));
	/* The monitor, whose root is closed, ends. */
	monitor = rundir;
	monitor.root = -1;
	close(monitor.lock);
	ck_assert_int_eq(rundir_open_any(&rundir, "a", &running, &e), 0);
	ck_assert(!running && exists("run/.own-a/file"));
	own = rundir_own(&rundir, true); /* empty again */
	ck_assert_int_ge(own, 0);
	ck_assert(!exists("run/.own-a/file"));
	close(own);
	ck_assert_int_eq(rundir_forget(&rundir, &e), 0);
	ck_assert(!exists("run/a") && !exists("run/.own-a"));
	close(monitor.dir);
	/* A link is nobody's directory. */
	ck_assert_int_eq(rundir_create(&rundir, "b", &e), 0);
	ck_that(!symlink("/etc", tmp_path("run/.own-b")));
	ck_assert_int_lt(rundir_own(&rundir, true), 0);
	rundir_release(&rundir);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		valid_ids,
		create_and_remove,
		random_ids_differ,
		id_that_is_taken,
		id_of_a_dead_vm,
		one_of_many_gets_it,
		create_and_remove_at_once,
		leftovers_that_are_no_files, directories_of_others,
		names_that_are_in_the_way,
		open_a_running_vm,
		no_directory_at_all,
		pid_files_that_make_no_sense,
		each_running_vm,
		where_it_is,
		sockets_in_deep_directories,
		sockets_of_the_dead,
		socket_names,
		hidden_until_it_is_shown,
		hidden_leftovers,
		clients_own_directory,
	};

	return run_tests("rundir", tests, ARRAY_SIZE(tests), setup, tmp_teardown);
}
