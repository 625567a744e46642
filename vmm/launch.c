/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/journal.h"
#include "vmm/keeper.h"
#include "vmm/log.h"
#include "vmm/util.h"

int launch_background(int null, struct err *e)
{
	if (null < 0)
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (setsid() < 0 || null < 0)
		return err_sys(e, "cannot go to the background");
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	return 0;
}

int launch_fork(struct launch *l, struct err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return err_sys(e, "cannot start a process in the background");
	l->pid = fork();
	l->fd = fd[l->pid == 0];
	close(fd[l->pid != 0]);
	if (l->pid > 0)
		return 0;
	l->say = NULL;
	if (l->pid == 0 && !launch_background(-1, e))
		return 1;
	close(l->fd);
	return l->pid < 0 ? err_sys(e, "cannot start a process in the background") : -EPERM;
}

int launch_await(struct launch *l, struct err *e)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};
	int status = 0, late = poll(&p, 1, LAUNCH_TIMEOUT_MS) == 0;
	char byte;

	if (!late && read(l->fd, &byte, 1) == 1) {
		if (!l->held)
			close(l->fd);
		return EXIT_OK;
	}
	close(l->fd);
	if (late)
		kill(l->pid, SIGTERM);
	while (waitpid(l->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (late)
		err_set(e, 0, "the guest's agent did not answer within %d s; the VM was ended",
			LAUNCH_TIMEOUT_MS / 1000);
	else if (WIFSIGNALED(status))
		err_set(e, 0, "the VM's process was killed by signal %d%s", WTERMSIG(status),
			WTERMSIG(status) == SIGSYS ? ": it made a system call that it may not make"
						   : "");
	return !late && WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAIL;
}

/* Nothing of the VM is left that anybody could see. Said before the exit, since the kernel takes
 * tens of milliseconds to take a VM apart, in which nobody needs to wait.
 */
static void over(struct launch *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

void launch_ready(struct launch *l, const struct rundir *vm)
{
	int log;

	if (l->fd < 0)
		return;
	log = openat(vm->dir, RUNDIR_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
		     0600);
	dup2(log >= 0 ? log : STDOUT_FILENO, STDERR_FILENO); /* standard output is /dev/null */
	if (log >= 0)
		close(log);
	log_set_limit(LAUNCH_LOG_MAX);
	if (l->say) {
		l->say(l, vm);
		return;
	}
	if (write_all(l->fd, "r", 1)) /* the starter is gone, nobody knows of this VM */
		end_set(l->end, END_STOPPED, "ended, as whoever started it is gone");
	l->ready = true;
	if (!l->held)
		over(l);
}

void launch_await_over(struct launch *l)
{
	char byte;

	while (read(l->fd, &byte, 1) < 0 && errno == EINTR)
		;
	close(l->fd);
}

static int status_of(const struct launch *l, const struct end *end, struct err *e)
{
	switch (end_get(end)) {
	case END_PANIC: err_set(e, 0, "%s", end->text); return EXIT_PANIC;
	case END_FAULT: err_set(e, 0, "%s", end->text); return EXIT_FAIL;
	default:
		if (!l->quiet)
			log_info("%s", end->text);
		return EXIT_OK;
	}
}

struct leave {
	const struct machine *m;
	pid_t parent;
};

/* In the other process: until the first has gone. */
static int stay_behind(void *ctx)
{
	const struct leave *leave = ctx;
	const struct machine *m = leave->m;
	int from = 0, fd;

	/* They are in ascending order. */
	for (unsigned int i = 0; i <= m->vcpus; i++) {
		fd = i ? m->vcpu[i - 1].fd : m->kvm.vm;
		if (fd > from)
			syscall(SYS_close_range, from, fd - 1, 0);
		from = fd + 1;
	}
	syscall(SYS_close_range, from, ~0u, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpriority(PRIO_PROCESS, 0, 19); /* who waits for the first one goes on before */
	if (getppid() == leave->parent)
		for (;;)
			pause();
	_exit(0);
}

void launch_leave_behind(const struct machine *m)
{
	static char stack[16384] __attribute__((aligned(16)));
	static struct leave leave;

	leave = (struct leave){m, getpid()};
	clone(stay_behind, stack + sizeof(stack), CLONE_VM, &leave);
}

int launch_run(struct launch *l, struct machine *m, int r, bool timing, struct err *e)
{
	int status = EXIT_FAIL;

	l->end = &m->end;
	if (!r)
		r = machine_run(m, e);
	if (!r)
		status = status_of(l, &m->end, e);
	if (timing)
		machine_print_marks(m, stderr);
	if (l->ended)
		l->ended(l, &m->end);
	else
		journal_exit(m->rundir, status, r ? e->text : m->end.text);
	keeper_remove(m->rundir);
	if (l->fd >= 0 && !l->ready && !status) {
		err_set(e, 0, "the guest ended before its agent was ready");
		status = EXIT_FAIL;
	}
	/* The kernel takes the VM, its memory and its threads down with the process. */
	if (l->ready)
		over(l);
	return status;
}
