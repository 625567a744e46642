/* SPDX-License-Identifier: Apache-2.0
 *
 * Confinement: in processes that have given up what a VM's gives up, one forbidden thing each.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>

#include "tests/unit/util.h"
#include "vmm/confine.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

static struct err e;
static struct sock_filter filter[SECCOMP_FILTER_MAX];

#define KILLED 1000 /* and not an errno */

/* --- in a confined process --- */

/* What became of it: 0, the errno, or KILLED. ALL that fn does is one call. */
static int confined(const struct confine_needs *needs, enum confine_role thread, int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct confine c = {0};
		int r = confine(&c, needs, &e);

		if (!r && thread)
			confine_thread(&c, thread);
		_exit(r ? 99 : fn());
	}
	ck_ok(waitpid(pid, &status, 0) == pid ? 0 : -errno);
	if (WIFSIGNALED(status)) {
		ck_assert_int_eq(WTERMSIG(status), SIGSYS);
		return KILLED;
	}
	ck_that(WIFEXITED(status) && WEXITSTATUS(status) != 99);
	return WEXITSTATUS(status);
}

#define RESULT(call) ((call) < 0 ? errno : 0)

static int nothing(void) { return 0; }
static int run_program(void) { return RESULT(execl("/bin/true", "true", NULL)); }
static int open_leaking(void) { return RESULT(syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY)); }
static int open_socket_ip(void) { return RESULT(socket(AF_INET, SOCK_STREAM, 0)); }
static int open_socket_netlink(void) { return RESULT(socket(AF_NETLINK, SOCK_RAW, 0)); }
static int open_socket_unix(void) { return RESULT(socket(AF_UNIX, SOCK_STREAM, 0)); }
static int trace(void) { return RESULT(ptrace(PTRACE_ATTACH, getppid(), 0, 0)); }
static int read_another(void)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {&byte, 1};

	return RESULT(process_vm_readv(getppid(), &here, 1, &there, 1, 0));
}
static int signal_another(void) { return RESULT(kill(getppid(), SIGUSR1)); }
static int signal_by_thread(void) { return RESULT(syscall(SYS_tkill, getppid(), SIGUSR1)); }
static int mount_it(void) { return RESULT(mount("none", "/tmp", "tmpfs", 0, NULL)); }
static int new_namespace(void) { return RESULT(unshare(CLONE_NEWNS)); }
static int new_user_namespace(void) { return RESULT(unshare(CLONE_NEWUSER)); }
static int fork_into_namespace(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(0);
	return RESULT(pid);
}
static int raise_limit(void)
{
	return RESULT(setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}));
}
static int map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}
static int make_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return RESULT(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int type_into_terminal(void) { return RESULT(ioctl(0, TIOCSTI, "x")); }
static int new_ring(void) { return RESULT(syscall(SYS_io_uring_setup, 4, filter)); }
static int other_convention(void)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return r < 0;
}
static int keep_privileges(void)
{
	return prctl(PR_SET_SECCOMP, 0, 0, 0, 0) ? errno : 0;
}
static int pass_events(void)
{
	int fd = (int)syscall(SYS_eventfd2, 0, O_CLOEXEC);

	return fd < 0;
}
static int write_null(void) { return RESULT(write(-1, "", 0)) == EBADF ? 0 : 1; }
static int run_guest(void) { return RESULT(ioctl(-1, KVM_RUN, 0)) == EBADF ? 0 : 1; }
static int change_owner(void) { return RESULT(fchownat(AT_FDCWD, "/nowhere", 0, 0, 0)) == ENOENT ? 0 : 1; }

/* Of the parent's, which listens. */
static int abstract_socket(void)
{
	const struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0uvm-test-confine"};
	int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return RESULT(connect(fd, (const struct sockaddr *)&a, sizeof(a)));
}

static const struct {
	const char *what;
	int (*fn)(void);
	enum confine_role thread; /* 0: the main thread */
	bool shares;
	int result;
} cases[] = {
	{"nothing", nothing, 0, false, 0},
	{"nothing, on a vCPU", nothing, CONFINE_VCPU, false, 0},
	{"execve", run_program, 0, false, KILLED},
	{"a descriptor that a program would inherit", open_leaking, 0, false, KILLED},
	{"an IP socket", open_socket_ip, 0, false, KILLED},
	{"a netlink socket", open_socket_netlink, 0, false, KILLED},
	{"a UNIX socket", open_socket_unix, 0, false, 0},
	{"a UNIX socket, on a vCPU", open_socket_unix, CONFINE_VCPU, false, KILLED},
	{"ptrace", trace, 0, false, KILLED},
	{"another's memory", read_another, 0, false, KILLED},
	{"another's memory, with shares", read_another, 0, true, KILLED},
	{"a signal", signal_another, 0, false, KILLED},
	{"a signal to a thread", signal_by_thread, 0, false, KILLED},
	{"mount", mount_it, 0, false, KILLED},
	{"mount, with shares", mount_it, 0, true, KILLED},
	{"a mount namespace", new_namespace, 0, false, KILLED},
	{"a mount namespace, with shares", new_namespace, 0, true, KILLED},
	{"a user namespace", new_user_namespace, 0, false, KILLED},
	{"a fork in a user namespace", fork_into_namespace, 0, false, KILLED},
	{"a limit raised", raise_limit, 0, false, KILLED},
	{"memory that is executed", map_code, 0, false, KILLED},
	{"memory that becomes executable", make_code, 0, false, KILLED},
	{"memory that becomes executable, on a vCPU", make_code, CONFINE_VCPU, false, KILLED},
	{"keys for somebody's terminal", type_into_terminal, 0, false, KILLED},
	{"a ring past the filters", new_ring, 0, false, EPERM},
	{"a ring past the filters, on a vCPU", new_ring, CONFINE_VCPU, false, KILLED},
	{"the calls of 32 bits", other_convention, 0, false, KILLED},
	{"no filter", keep_privileges, 0, false, KILLED},
	{"an eventfd", pass_events, 0, false, 0},
	{"an eventfd, on a vCPU", pass_events, CONFINE_VCPU, false, KILLED},
	{"a write, on a vCPU", write_null, CONFINE_VCPU, false, 0},
	{"KVM_RUN", run_guest, CONFINE_VCPU, false, 0},
	{"KVM_RUN, on a disk's thread", run_guest, CONFINE_DISK, false, KILLED},
	{"KVM_RUN, on a network's thread", run_guest, CONFINE_NET, false, KILLED},
	{"chown", change_owner, 0, false, KILLED},
	{"chown, with shares", change_owner, CONFINE_SHARE, true, 0},
};

START_TEST(forbidden_things)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct confine_needs needs = {.shares = cases[i].shares};
		int seen = confined(&needs, cases[i].thread, cases[i].fn);

		ck_assert_msg(seen == cases[i].result, "%s: expected %d, seen %d", cases[i].what,
			      cases[i].result, seen);
	}
}
END_TEST

START_TEST(abstract_sockets_are_out_of_reach)
{
	const struct confine_needs needs = {.shares = false};
	const struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0uvm-test-confine"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 6)
		ck_skip("this kernel's Landlock does not scope sockets");
	ck_that(!bind(fd, (const struct sockaddr *)&a, sizeof(a)) && !listen(fd, 1));
	ck_assert_int_eq(abstract_socket(), 0);
	ck_assert_int_eq(confined(&needs, 0, abstract_socket), EPERM);
	close(fd);
}
END_TEST

static int dir_of_files;

static int open_in_dir(void)
{
	return RESULT(syscall(SYS_openat, dir_of_files, "it", O_RDONLY | O_CLOEXEC));
}
static int make_in_dir(void)
{
	return RESULT(syscall(SYS_openat, dir_of_files, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}
static int open_null(void) { return RESULT(syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC)); }

/* Of a VM that is in no jail: only what it was given, and of that only what it may. */
START_TEST(files_are_out_of_reach_without_a_jail)
{
	struct confine_dir dir = {.fd = -1};
	const struct confine_needs none = {.files = true}, one = {.files = true, .dir = &dir, .dirs = 1};

	if (confine_landlock() < 2)
		ck_skip("this kernel's Landlock does not know links");
	tmp_setup();
	ck_that(!mkdir(tmp_path("d"), 0700));
	tmp_file("d/it", "x", 1);
	dir_of_files = open(tmp_path("d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_that(dir_of_files >= 0);
	dir.fd = dir_of_files;
	ck_assert_int_eq(confined(&none, 0, open_null), EACCES);
	ck_assert_int_eq(confined(&none, 0, open_in_dir), EACCES);
	ck_assert_int_eq(confined(&one, 0, open_null), EACCES);
	ck_assert_int_eq(confined(&one, 0, open_in_dir), 0);
	ck_assert_int_eq(confined(&one, 0, make_in_dir), 0);
	ck_that(!unlinkat(dir_of_files, "new", 0));
	dir.read_only = true;
	ck_assert_int_eq(confined(&one, 0, open_in_dir), 0);
	ck_assert_int_eq(confined(&one, 0, make_in_dir), EACCES);
	close(dir_of_files);
	tmp_teardown();
}
END_TEST

static pid_t neighbour;

static int memory_of_a_neighbour(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)neighbour);
	return RESULT(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
}

/* Two of one user's, both confined: nothing but Landlock is between them. */
START_TEST(neighbours_memory_is_out_of_reach)
{
	const struct confine_needs needs = {.shares = false};
	int fds[2];
	char byte;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
		ck_skip("this kernel has no Landlock");
	ck_ok(pipe2(fds, O_CLOEXEC));
	neighbour = fork();
	if (!neighbour) {
		struct confine c = {0};

		if (confine(&c, &needs, &e) || write(fds[1], "y", 1) != 1)
			_exit(1);
		for (;;)
			syscall(SYS_pause);
	}
	ck_that(read(fds[0], &byte, 1) == 1 && byte == 'y');
	ck_assert_int_eq(confined(&needs, 0, memory_of_a_neighbour), EACCES);
	kill(neighbour, SIGKILL);
	waitpid(neighbour, NULL, 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

static uint64_t caps_in_proc(void)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	const char *line;

	close(fd);
	text[MAX(n, 0)] = 0;
	line = strstr(text, "CapPrm:\t");
	return line ? strtoull(line + 8, NULL, 16) : ~0ull;
}

static int has_caps(void)
{
	return caps_in_proc() != 0;
}

static int has_file_caps_only(void)
{
	return (caps_in_proc() & ~0x880001dfull) != 0; /* CHOWN to SETPCAP, MKNOD, SETFCAP */
}

static int has_new_privs(void)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[MAX(n, 0)] = 0;
	return !strstr(text, "NoNewPrivs:\t1\n") || !strstr(text, "Seccomp:\t2\n");
}

static int keeps_caps_until_settled(void)
{
	const struct confine c = {.on = true, .keeps = true};

	if (!(caps_in_proc() & 1u << CAP_SYS_ADMIN))
		return 1;
	confine_settle(&c);
	return has_file_caps_only();
}

START_TEST(runtime_gives_up_later)
{
	const struct confine_needs needs = {.runtime = true};

	if (!(caps_in_proc() & 1u << CAP_SYS_ADMIN))
		ck_skip("this user has no capabilities");
	ck_assert_int_eq(confined(&needs, 0, keeps_caps_until_settled), 0);
	ck_assert_int_eq(confined(&needs, CONFINE_SHARE, has_file_caps_only), 0);
}
END_TEST

START_TEST(privileges_are_gone)
{
	const struct confine_needs none = {.shares = false}, shares = {.shares = true};

	ck_assert_int_eq(confined(&none, 0, has_caps), 0);
	ck_assert_int_eq(confined(&shares, 0, has_file_caps_only), 0);
	ck_assert_int_eq(confined(&none, 0, has_new_privs), 0);
}
END_TEST

START_TEST(sandbox_none_is_said)
{
	const struct confine_needs needs = {.none = true};
	int fds[2];
	char text[200];
	ssize_t n;

	ck_ok(pipe2(fds, O_CLOEXEC));
	if (!fork()) {
		struct confine c = {0};

		dup2(fds[1], 2);
		_exit(confine(&c, &needs, &e) || c.on || prctl(PR_GET_SECCOMP));
	}
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	ck_that(n > 0);
	text[n] = 0;
	ck_that(strstr(text, "--sandbox none"));
	wait(NULL);
	close(fds[0]);
}
END_TEST

/* --- the table --- */

START_TEST(each_call_has_its_reason)
{
	for (unsigned int i = 0; i < confine_call_count; i++) {
		const struct confine_call *c = &confine_calls[i];

		ck_that(c->why && strlen(c->why) > 3);
		ck_that(c->who && !(c->who & ~127u));
		for (unsigned int k = 0; k < CONFINE_CONDITIONS; k++)
			ck_that(c->when[k].arg < SECCOMP_ARGS &&
				!(c->when[k].value & ~c->when[k].mask));
	}
}
END_TEST

/* A thread's filter is a part of the process's: it could not have more, and must not say so. */
START_TEST(filters_have_a_size)
{
	static const unsigned int who[] = {CONFINE_VCPU, CONFINE_DISK, CONFINE_NET, CONFINE_SHARE,
					   63};

	for (size_t i = 0; i < ARRAY_SIZE(who); i++)
		ck_that(confine_compile(who[i], filter, &e) > 10);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {forbidden_things, files_are_out_of_reach_without_a_jail, abstract_sockets_are_out_of_reach,
				      neighbours_memory_is_out_of_reach, privileges_are_gone, runtime_gives_up_later, sandbox_none_is_said,
				      each_call_has_its_reason, filters_have_a_size};

	return run_tests("confine", tests, ARRAY_SIZE(tests), NULL, NULL);
}
