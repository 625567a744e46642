/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/init.h"

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
#include "shim/terminal.h"
#include "shim/vm.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/log.h"
#include "vmm/record.h"
#include "vmm/util.h"

/* What comes through the pipe. */
struct report {
	int failed; /* -errno, or 0 */
	struct err e;
};

/* --- what both have in common --- */

static int say(int fd, int failed, const struct err *e)
{
	struct report report = {.failed = failed};

	if (failed)
		report.e = *e;
	return write_all(fd, &report, sizeof(report));
}

static void await(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Waits for the process's word, or for its end. */
static int hear(int fd, pid_t pid, struct err *e)
{
	struct report report;
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(report)) {
		n = read(fd, (char *)&report + got, sizeof(report) - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	if (got == sizeof(report) && !report.failed)
		return 0;
	await(pid);
	if (got < sizeof(report))
		return err_set(e, EIO, "the container's process has ended before it was made");
	*e = report.e;
	return report.failed;
}

/* Moves the standard descriptors out of the way of what this program prints. fds: where they are then. */
static int keep_streams(int fds[3], int log, struct err *e)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return err_sys(e, "/dev/null");
	for (int i = 0; i < 3; i++) {
		fds[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
		dup2(i == 2 && log >= 0 ? log : null, i);
	}
	close(null);
	return 0;
}

/* Of a process that leads a session. A terminal takes the place of what the caller has given. */
static int set_streams(int fds[3], int log, const struct oci_process *p, const char *console,
		       struct err *e)
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

/* The agent's message as runc's, which callers read: they tell from the texts whether there is no such
 * program, or it is no program.
 */
static int explain(int status, const struct exec_request *rq, struct err *e)
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

/* --- the VM --- */

/* In the VM's process, before it is one. */
static int take_place(const struct vm *vm, struct err *e)
{
	const char *path = vm->create->config.network;
	int fd, r;

	if (!path)
		return unshare(CLONE_NEWNET) ? err_sys(e, "cannot make a network namespace") : 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	r = fd < 0 || setns(fd, CLONE_NEWNET)
		    ? err_sys(e, "cannot join the network namespace %s", path)
		    : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

/* When the namespace is as the caller wants it: hooks may have put more into it since the VM was chosen. */
static int join_network(struct vm *vm, struct err *e)
{
	struct oci_network *n = &vm->network;
	int r = oci_network_open(n, NULL, e);

	if (r)
		return r;
	if (n->links != vm->template.nets) {
		snapshot_close(&vm->snapshot);
		r = oci_vm_open(vm, e);
	}
	if (!r)
		r = oci_network_join(n, vm->run.clone.config.net, e);
	oci_network_close(n);
	return r;
}

/* --- hooks --- */

/* Those that run while the container is made. */
static bool has_hooks(const struct vm *vm)
{
	return oci_hooks_any(vm->state.hooks, OCI_PRESTART) ||
	       oci_hooks_any(vm->state.hooks, OCI_CREATE_RUNTIME) ||
	       oci_hooks_any(vm->state.hooks, OCI_CREATE_CONTAINER);
}

static int run_hooks(const struct vm *vm, enum oci_hook kind, enum oci_status status, pid_t pid,
		     struct err *e)
{
	struct oci_state s = vm->state;
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

/* In the VM's process: those of "create" have their turn, and then its own. */
static int take_hooks(struct vm *vm, struct err *e)
{
	pid_t pid = rundir_pid(&vm->run.clone.rundir, e);
	char go;

	if (!has_hooks(vm))
		return 0;
	if (pid < 0)
		return pid;
	if (say(vm->said, 0, NULL) || read(vm->go, &go, 1) != 1)
		return err_set(e, EPIPE, "\"create\" has ended");
	return run_hooks(vm, OCI_CREATE_CONTAINER, OCI_CREATING, pid, e);
}

/* In "create". */
static int give_hooks(struct vm *vm, int said, int go, pid_t pid, struct err *e)
{
	int r;

	if (!has_hooks(vm))
		return 0;
	r = hear(said, pid, e);
	if (r)
		return r;
	r = run_hooks(vm, OCI_PRESTART, OCI_CREATING, pid, e);
	if (!r)
		r = run_hooks(vm, OCI_CREATE_RUNTIME, OCI_CREATING, pid, e);
	if (!r)
		(void)!write(go, "g", 1); /* if nobody reads, the process' end is heard of */
	return r;
}

/* --- the process --- */

static void created(struct run *r)
{
	struct vm *vm = CONTAINER_OF(r, struct vm, run);
	struct err e;
	int error = oci_rootfs_enter(&vm->rootfs, &e);

	if (!error)
		error = oci_state_made(&r->clone.rundir, &e);
	/* It fails when "create" is gone before it could tell anybody. */
	if (say(vm->said, error, &e))
		error = -EPIPE;
	close(vm->said);
	vm->said = -1;
	if (error)
		event_post(r->cancel);
}

static int join_cgroup(struct vm *vm, struct err *e)
{
	const struct oci_resources *res = &vm->create->config.resources;
	bool must = res->cpus || res->mems;
	int r;

	if (!*vm->cgroup)
		return must ? err_set(e, EINVAL,
				      "linux.resources.cpu.cpus and mems need a linux.cgroupsPath")
			    : 0;
	/* One with a limit has it inside; all of its VM has a little more. */
	r = oci_cgroup_join(vm->cgroup, res,
			    res->memory ? vm->state.memory + OCI_OVERHEAD : 0, e);
	if (!must && (r == -ENOTSUP || r == -EROFS || r == -EACCES)) {
		log_line("goes without a cgroup on the host: %s", e->text);
		return 0;
	}
	return r;
}

static int prepare(struct vm *vm, struct err *e)
{
	struct oci_create *c = vm->create;
	struct run *r = &vm->run;
	int log = oci_vm_log(vm), error;

	if (setsid() < 0)
		return err_sys(e, "cannot make a session");
	error = set_streams(r->fds, log, &c->config.process, c->console, e);
	if (log >= 0)
		close(log);
	if (!error) /* from now on "delete" can end it */
		error = rundir_write_pid(&r->clone.rundir, e);
	if (!error)
		error = join_cgroup(vm, e);
	if (!error)
		error = take_place(vm, e);
	if (!error)
		error = oci_rootfs_make(&vm->rootfs, vm->rootfs_path, &c->config, e);
	if (!error)
		error = take_hooks(vm, e);
	if (!error)
		error = join_network(vm, e);
	if (!error)
		error = oci_rootfs_copy(&vm->rootfs, &c->config, e);
	if (error)
		return error;
	r->clone.config.share_fill[0] =
		(struct share_config){.path = vm->rootfs.share, .tag = TEMPLATE_SHARE};
	r->clone.config.share_fills = !c->config.image || c->config.binds;
	r->clone.config.confine.runtime = true;
	r->clone.launch.fd = -1;
	return 0;
}

static _Noreturn void be_vm(struct vm *vm)
{
	struct run *r = &vm->run;
	struct err e = {{0}};
	int error = prepare(vm, &e), status = RUN_FAILED;

	if (error)
		rundir_remove(&r->clone.rundir);
	else
		status = run_here(r, &e);
	if (vm->said >= 0) {
		if (!error)
			error = explain(status, &r->process, &e);
		say(vm->said, error, &e);
	} else if (*e.text) {
		log_line("%s", e.text);
	}
	_exit(status);
}

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

static int start_vm(struct vm *vm, pid_t *pid, struct err *e)
{
	int said[2], go[2], r;

	*pid = -1;
	if (!pipe2(said, O_CLOEXEC) && !pipe2(go, O_CLOEXEC))
		*pid = fork_init();
	if (*pid < 0)
		return err_sys(e, "cannot make a process with a PID namespace");
	if (!*pid) {
		close(said[0]);
		close(go[1]);
		vm->said = said[1];
		vm->go = go[0];
		be_vm(vm);
	}
	close(said[1]);
	close(go[0]);
	r = give_hooks(vm, said[0], go[1], *pid, e);
	close(go[1]);
	if (r)
		await(*pid);
	else
		r = hear(said[0], *pid, e);
	close(said[0]);
	return r;
}

/* Of a container that has come to nothing. Its process, if there was one, has ended. */
static void discard(struct vm *vm, pid_t pid)
{
	struct rundir *dir = &vm->run.clone.rundir;
	struct err e;

	close(dir->lock); /* so that its directory is a dead one's */
	rundir_forget(dir, &e);
	if (*vm->cgroup)
		oci_cgroup_remove(vm->cgroup);
	if (vm->state.network)
		oci_network_leave(vm->state.network);
	if (pid > 0 && run_hooks(vm, OCI_POSTSTOP, OCI_STOPPED, 0, &e))
		log_line("%s", e.text);
}

int oci_create(struct oci_create *c, pid_t *pid, struct err *e)
{
	struct vm *vm = calloc(1, sizeof(*vm)); /* goes with the process */
	struct rundir *dir;
	int r;

	if (!vm)
		return err_set(e, ENOMEM, "out of memory");
	vm->create = c;
	dir = &vm->run.clone.rundir;
	r = rundir_create(dir, c->id, e);
	if (r == -EEXIST)
		return err_set(e, EEXIST, "container with given ID already exists");
	if (r)
		return r;
	*pid = 0;
	r = oci_vm_prepare(vm, e);
	vm->run.created = created;
	if (!r)
		r = oci_state_save(dir, &vm->state, e);
	signal(SIGCHLD, SIG_DFL); /* the making of a template ignores it */
	if (!r)
		r = start_vm(vm, pid, e);
	if (r)
		discard(vm, *pid);
	return r;
}

/* --- execs --- */

static void exec_started(void *ctx)
{
	int *said = ctx;

	say(*said, 0, NULL);
	close(*said);
	*said = -1;
}

/* The process of a detached one. */
static _Noreturn void be_exec(struct oci_exec *x, int said)
{
	struct exec_request *rq = &x->process->request;
	struct err e = {{0}};
	int fds[3];
	int status = EXIT_FAIL, r = setsid() < 0 ? err_sys(&e, "cannot make a session") : 0;

	if (!r)
		r = set_streams(fds, -1, x->process, x->console, &e);
	if (!r && x->cgroup)
		oci_cgroup_join(x->cgroup, NULL, 0, &e); /* where there is none, the container has none */
	rq->fds = fds;
	rq->started = exec_started;
	rq->ctx = &said;
	if (!r) {
		r = exec_run(rq, client_dial_agent, x->vm, &status, &e);
		if (r)
			r = explain(status, rq, &e);
	}
	if (said >= 0)
		say(said, r, &e);
	_exit(status);
}

int oci_exec_detached(struct oci_exec *x, pid_t *pid, struct err *e)
{
	int pipes[2], r;

	if (pipe2(pipes, O_CLOEXEC))
		return err_sys(e, "cannot make a pipe");
	*pid = fork();
	if (*pid < 0)
		return err_sys(e, "cannot make a process");
	if (!*pid) {
		close(pipes[0]);
		be_exec(x, pipes[1]);
	}
	close(pipes[1]);
	r = hear(pipes[0], *pid, e);
	close(pipes[0]);
	return r;
}

int oci_exec_here(struct oci_exec *x, int *status, struct err *e)
{
	struct exec_request *rq = &x->process->request;
	int r = exec_run(rq, client_dial_agent, x->vm, status, e);

	return r ? explain(*status, rq, e) : 0;
}
