/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/network.h"
#include "shim/terminal.h"
#include "vmm/log.h"
#include "vmm/util.h"

/* What comes through the pipe. */
struct report {
	int failed; /* -errno, or 0 */
	struct err e;
};

/* --- what both have in common --- */

int oci_say(int fd, int failed, const struct err *e)
{
	struct report report = {.failed = failed};

	if (failed)
		report.e = *e;
	return write_all(fd, &report, sizeof(report));
}

/* Returns the signal that ended it, or 0. */
static int await(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int oci_hear(int fd, pid_t pid, struct err *e)
{
	struct report report;
	size_t got = 0;
	int signo;
	ssize_t n;

	while (got < sizeof(report)) {
		n = read(fd, (char *)&report + got, sizeof(report) - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	/* cppcheck-suppress uninitvar ; all of it was read */
	if (got == sizeof(report) && !report.failed)
		return 0;
	signo = await(pid);
	if (got < sizeof(report) && signo)
		return err_set(e, EIO, "the container's process was killed by signal %d (%s) before it ran%s", signo,
			       strsignal(signo),
			       signo == SIGKILL ? "; the host's kernel log says whether memory ran out" : "");
	if (got < sizeof(report))
		return err_set(e, EIO, "the container's process ended before it ran");
	*e = report.e;
	return report.failed;
}

/* Moves the standard descriptors out of the way of what this program prints. fds: where they are then. */
static int keep_streams(int fds[3], int log, struct err *e)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return err_sys(e, "cannot open /dev/null");
	for (int i = 0; i < 3; i++) {
		fds[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
		dup2(i == 2 && log >= 0 ? log : null, i);
	}
	close(null);
	return 0;
}

int oci_streams(int fds[3], int log, const struct oci_process *p, const char *console, struct err *e)
{
	int r = keep_streams(fds, log, e), tty;

	if (r || !p->terminal)
		return r;
	tty = oci_terminal(console, p->rows, p->cols, e);
	if (tty < 0)
		return tty;
	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = tty;
	}
	return 0;
}

int oci_explain(int status, const struct exec_request *rq, struct err *e)
{
	bool searched = !strchr(rq->argv[0], '/');
	char said[sizeof(e->text)];

	snprintf(said, sizeof(said), "%s", e->text);
	if ((status != EXEC_NOT_FOUND && status != EXEC_NOT_EXECUTABLE) ||
	    strncmp(said, "cannot run", 10))
		return err_set(e, EINVAL, "unable to start container process: %s", said);
	if (status == EXEC_NOT_FOUND && searched)
		return err_set(e, ENOENT,
			       "unable to start container process: exec: \"%s\": executable file not "
			       "found in $PATH",
			       rq->argv[0]);
	return err_set(e, status == EXEC_NOT_FOUND ? ENOENT : EACCES,
		       "unable to start container process: exec: \"%s\": %s", rq->argv[0],
		       status == EXEC_NOT_FOUND ? "no such file or directory" : "permission denied");
}

/* --- hooks --- */

/* Those that run while the container is made. */
static bool has_hooks(const struct oci_child *c)
{
	return oci_hooks_any(c->state.hooks, OCI_PRESTART) ||
	       oci_hooks_any(c->state.hooks, OCI_CREATE_RUNTIME) ||
	       oci_hooks_any(c->state.hooks, OCI_CREATE_CONTAINER);
}

static int run_hooks(const struct oci_child *c, enum oci_hook kind, enum oci_status status, pid_t pid,
		     struct err *e)
{
	struct oci_state s = c->state;
	char *text;
	int r;

	if (!oci_hooks_any(s.hooks, kind))
		return 0;
	s.status = status;
	s.pid = pid;
	text = oci_state_text(&s);
	r = text ? oci_hooks_run(s.hooks, kind, text, s.bundle, e)
		 : err_set(e, ENOMEM, "out of memory");
	free(text);
	return r;
}

/* In the process: those of "create" have their turn, and then its own. */
static int take_hooks(struct oci_child *c, struct err *e)
{
	pid_t pid = rundir_pid(c->dir, e);
	char go;

	if (!has_hooks(c))
		return 0;
	if (pid < 0)
		return pid;
	if (oci_say(c->said, 0, NULL) || read(c->go, &go, 1) != 1)
		return err_set(e, EPIPE, "\"create\" has ended");
	return run_hooks(c, OCI_CREATE_CONTAINER, OCI_CREATING, pid, e);
}

/* In "create". */
static int give_hooks(struct oci_child *c, int said, int go, pid_t pid, struct err *e)
{
	int r;

	if (!has_hooks(c))
		return 0;
	r = oci_hear(said, pid, e);
	if (r)
		return r;
	r = run_hooks(c, OCI_PRESTART, OCI_CREATING, pid, e);
	if (!r)
		r = run_hooks(c, OCI_CREATE_RUNTIME, OCI_CREATING, pid, e);
	if (!r)
		(void)!write(go, "g", 1); /* if nobody reads, the process' end is heard of */
	return r;
}

/* --- the process --- */

int oci_child_log(const struct rundir *dir)
{
	return openat(dir->dir, RUNDIR_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int oci_child_open(struct oci_child *c, struct err *e)
{
	const struct oci_config *config = &c->create->config;
	int r = oci_rootfs_path(c->rootfs_path, c->create->bundle, config->root, e);

	if (!r && config->cgroup && *config->cgroup)
		r = oci_cgroup_path(c->cgroup, config->cgroup, e);
	c->state = (struct oci_state){.bundle = c->create->bundle,
				      .rootfs = c->rootfs_path,
				      .cgroup = *c->cgroup ? c->cgroup : NULL,
				      .annotations = config->annotations,
				      .hooks = config->hooks};
	memcpy(c->state.vm.id, c->dir->id, sizeof(c->state.vm.id));
	return r;
}

static int join_cgroup(struct oci_child *c, struct err *e)
{
	const struct oci_resources *res = &c->create->config.resources;
	bool must = c->cpus && (res->cpus || res->mems);
	int r;

	if (!*c->cgroup)
		return must ? err_set(e, EINVAL,
				      "config.json: linux.resources.cpu.cpus and mems need a linux.cgroupsPath")
			    : 0;
	r = oci_cgroup_join(c->cgroup, c->cpus ? res : NULL, c->memory, e);
	if (!must && (r == -ENOTSUP || r == -EROFS || r == -EACCES)) {
		log_warn("the container goes without a cgroup on the host: %s", e->text);
		return 0;
	}
	return r;
}

int oci_child_settle(struct oci_child *c, int fds[3],
		     int (*enter)(struct oci_child *c, struct err *e), struct err *e)
{
	struct oci_create *create = c->create;
	int log = oci_child_log(c->dir), r;

	if (setsid() < 0)
		return err_sys(e, "cannot make a session");
	r = oci_streams(fds, log, &create->config.process, create->console, e);
	if (log >= 0)
		close(log);
	if (!r)
		r = rundir_write_pid(c->dir, e);
	if (!r) /* from now on "delete" can end it */
		r = oci_state_save_process(c->dir, e);
	if (!r)
		r = oci_state_detach(c->dir, e);
	if (!r)
		r = join_cgroup(c, e);
	if (!r)
		r = enter(c, e);
	if (!r)
		r = oci_rootfs_make(&c->rootfs, c->rootfs_path, &create->config, e);
	return r ? r : take_hooks(c, e);
}

int oci_child_say(struct oci_child *c, int failed, const struct err *e)
{
	int r = oci_say(c->said, failed, e);

	close(c->said);
	c->said = -1;
	return r;
}

/* --- "create" --- */

/* As fork. The process is the first one in a namespace, and further ones of this process are not in it. */
static pid_t fork_init(void)
{
	int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t pid = own < 0 || unshare(CLONE_NEWPID) ? -1 : fork();

	if (pid > 0)
		setns(own, CLONE_NEWPID);
	if (own >= 0)
		close(own);
	return pid;
}

int oci_child_start(struct oci_child *c, void (*be)(struct oci_child *c), pid_t *pid, struct err *e)
{
	int said[2], go[2], r;

	*pid = -1;
	if (!pipe2(said, O_CLOEXEC) && !pipe2(go, O_CLOEXEC))
		*pid = fork_init();
	if (*pid < 0) {
		r = err_sys(e, "cannot make a process with a PID namespace");
		if (r == -EPERM)
			err_append(e, "; that takes root, or a user namespace as podman and 'unshare -Ur' make it");
		return r;
	}
	if (!*pid) {
		close(said[0]);
		close(go[1]);
		c->said = said[1];
		c->go = go[0];
		be(c);
		_exit(EXIT_FAILURE);
	}
	close(said[1]);
	close(go[0]);
	r = give_hooks(c, said[0], go[1], *pid, e);
	close(go[1]);
	if (r)
		await(*pid);
	else
		r = oci_hear(said[0], *pid, e);
	close(said[0]);
	return r;
}

int oci_exists(const char *id, struct err *e)
{
	return err_set(e, EEXIST, "container with given ID already exists: '%s'; 'uvm delete %s' removes it", id, id);
}

void oci_child_discard(struct oci_child *c, pid_t pid)
{
	struct err e;

	close(c->dir->lock); /* so that its directory is a dead one's */
	rundir_forget(c->dir, &e);
	if (*c->cgroup)
		oci_cgroup_remove(c->cgroup);
	if (c->state.network)
		oci_network_leave(c->state.network);
	if (pid > 0 && run_hooks(c, OCI_POSTSTOP, OCI_STOPPED, 0, &e))
		log_warn("%s", e.text);
}
