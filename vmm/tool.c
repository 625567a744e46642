/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/util.h"

/* Behind $PATH, which a container engine may not have set, and a user's may lack the sbin. */
#define USUAL	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TICK_MS 100

static bool find_in(const char *dirs, const char *name, char path[PATH_MAX])
{
	while (dirs && *dirs) {
		size_t n = strcspn(dirs, ":");

		/* Not in whatever directory we happen to be in. */
		if (*dirs == '/' &&
		    snprintf(path, PATH_MAX, "%.*s/%s", (int)n, dirs, name) < PATH_MAX &&
		    !access(path, X_OK))
			return true;
		dirs += n + (dirs[n] == ':');
	}
	return false;
}

/* Descriptor number `to` becomes a copy of fd that survives exec. -1: /dev/null. */
static void give(int fd, int to)
{
	if (fd < 0)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || dup2(fd, to) < 0)
		_exit(126);
}

_Noreturn static void child(const char *path, const char *const *argv, int in, int out, int said,
			    pid_t parent)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	/* Out of the way of 0 to 2 first. */
	in = in < 0 ? in : fcntl(in, F_DUPFD_CLOEXEC, 3);
	out = out < 0 ? out : fcntl(out, F_DUPFD_CLOEXEC, 3);
	said = fcntl(said, F_DUPFD_CLOEXEC, 3);
	give(in, 0);
	give(out, 1);
	give(said, 2);
	syscall(SYS_close_range, 3, ~0u, 0); /* what we were given without O_CLOEXEC */
	setenv("LC_ALL", "C", 1);
	/* mkfs.erofs: one number in every image instead of now, and no file's time cut down to it.
	 */
	setenv("SOURCE_DATE_EPOCH", "4294967295", 1);
	execv(path, (char *const *)(uintptr_t)argv);
	_exit(127);
}

int tool_start(struct tool *t, const char *const *argv, const char *package, int in, int out,
	       struct err *e)
{
	pid_t us = getpid();
	char path[PATH_MAX];

	*t = (struct tool){.name = argv[0]};
	if (!find_in(getenv("PATH"), argv[0], path) && !find_in(USUAL, argv[0], path))
		return err_set(
			e, ENOENT,
			"%s is needed for this and is not there (Debian has it in package %s)",
			argv[0], package);
	t->said = memfd_create("said", MFD_CLOEXEC);
	if (t->said < 0)
		return err_sys(e, "cannot start %s", path);
	t->pid = fork();
	if (!t->pid)
		child(path, argv, in, out, t->said, us);
	if (t->pid > 0)
		return 0;
	t->pid = 0;
	err_sys(e, "cannot start %s", path);
	close(t->said);
	return -EAGAIN;
}

/* What it said, on one line. */
static void quote(const struct tool *t, char *text, size_t room)
{
	ssize_t n = pread(t->said, text, room - 1, 0);

	n = MAX(n, 0);
	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n] = 0;
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
}

int tool_end(struct tool *t, struct meter *m, struct err *e)
{
	struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, t->pid, 0), .events = POLLIN};
	char text[300];
	int status = 0;

	/* Without a pidfd, or a meter, the wait below does. */
	while (m && ended.fd >= 0 && poll(&ended, 1, TICK_MS) <= 0)
		meter_tick(m);
	if (ended.fd >= 0)
		close(ended.fd);
	while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
		;
	t->pid = 0;
	quote(t, text, sizeof(text));
	close(t->said);
	if (WIFSIGNALED(status))
		return err_set(e, WTERMSIG(status) == SIGPIPE ? EPIPE : EIO,
			       "%s was ended by signal %d", t->name, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(e, EIO, "%s failed with status %d%s%s", t->name, WEXITSTATUS(status),
			       *text ? ": " : "", text);
	return 0;
}

void tool_kill(struct tool *t)
{
	if (!t->pid)
		return;
	kill(t->pid, SIGKILL);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(t->said);
	t->pid = 0;
}
