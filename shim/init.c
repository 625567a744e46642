/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/init.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/rootfs.h"
#include "shim/state.h"
#include "shim/terminal.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/log.h"
#include "vmm/record.h"
#include "vmm/run.h"
#include "vmm/template.h"
#include "vmm/util.h"

/* A VM has memory for its kernel and the agent beside what the container may use, and there are few
 * sizes of them, since each has a template.
 */
#define MEMORY_DEFAULT (256ull << 20)
#define MEMORY_OVERHEAD (64ull << 20)
#define MEMORY_ANNOTATION "org.uvm.memory"
#define CPUS_ANNOTATION	  "org.uvm.cpus"

/* Everything of the VM's process. */
struct vm {
	struct run run;
	struct snapshot snapshot;
	struct template template;
	char kernel[PATH_MAX];
	struct oci_create *create;
	struct oci_rootfs rootfs;
	char rootfs_path[PATH_MAX], cgroup[PATH_MAX];
	int said; /* pipe to "create" */
};

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
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
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

static const char *annotation(const struct oci_config *c, const char *key)
{
	const struct json *v = json_member(c->annotations, key);

	return v && v->type == JSON_STRING ? v->text : NULL;
}

static int choose_size(struct vm *vm, struct err *e)
{
	const struct oci_config *c = &vm->create->config;
	const char *memory = annotation(c, MEMORY_ANNOTATION), *cpus = annotation(c, CPUS_ANNOTATION);
	struct template *t = &vm->template;
	struct err why;

	t->memory = MEMORY_DEFAULT;
	t->cpus = 1;
	t->share = true;
	if (c->resources.memory > UINT64_MAX / 4 - MEMORY_OVERHEAD)
		return err_set(e, EINVAL, "linux.resources.memory.limit is more than a VM can have");
	while (t->memory < c->resources.memory + MEMORY_OVERHEAD)
		t->memory *= 2;
	if (memory && opt_set_size(&t->memory, memory, &why))
		return err_set(e, EINVAL, "annotation " MEMORY_ANNOTATION ": %s", why.text);
	if (cpus && opt_set_u32(&t->cpus, cpus, &why))
		return err_set(e, EINVAL, "annotation " CPUS_ANNOTATION ": %s", why.text);
	if (template_check(t, &why))
		return err_set(e, EINVAL, "the size of the VM: %s", why.text);
	return 0;
}

/* In the VM's process, before it is one. */
static int take_place(struct vm *vm, struct err *e)
{
	const struct oci_config *c = &vm->create->config;
	struct if_nameindex *links;
	bool others = false;
	int fd, r;

	if (!c->network)
		return unshare(CLONE_NEWNET) ? err_sys(e, "cannot make a network namespace") : 0;
	fd = open(c->network, O_RDONLY | O_CLOEXEC);
	r = fd < 0 || setns(fd, CLONE_NEWNET)
		    ? err_sys(e, "cannot join the network namespace %s", c->network)
		    : 0;
	if (fd >= 0)
		close(fd);
	if (r)
		return r;
	links = if_nameindex();
	for (struct if_nameindex *i = links; i && i->if_name; i++)
		others |= strcmp(i->if_name, "lo") != 0;
	if (links)
		if_freenameindex(links);
	return others ? err_set(e, EOPNOTSUPP,
				"the network namespace %s has interfaces, which are not supported yet; "
				"use a network of the kind 'none'",
				c->network)
		      : 0;
}

static void created(struct run *r)
{
	struct vm *vm = CONTAINER_OF(r, struct vm, run);
	struct err e;
	int error = oci_rootfs_enter(&vm->rootfs, &e);

	if (!error)
		error = rundir_keep(&r->clone.rundir, &e);
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
	r = oci_cgroup_join(vm->cgroup, res, e);
	if (!must && (r == -ENOTSUP || r == -EROFS || r == -EACCES)) {
		log_line("goes without a cgroup on the host: %s", e->text);
		return 0;
	}
	return r;
}

static int open_log(const struct vm *vm)
{
	return openat(vm->run.clone.rundir.dir, RUNDIR_LOG,
		      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static int prepare(struct vm *vm, struct err *e)
{
	struct oci_create *c = vm->create;
	struct run *r = &vm->run;
	int log = open_log(vm), error;

	if (setsid() < 0)
		return err_sys(e, "cannot make a session");
	error = set_streams(r->fds, log, &c->config.process, c->console, e);
	if (log >= 0)
		close(log);
	if (!error)
		error = join_cgroup(vm, e);
	if (!error)
		error = take_place(vm, e);
	if (!error)
		error = oci_rootfs_make(&vm->rootfs, vm->rootfs_path, &c->config, e);
	if (error)
		return error;
	r->clone.config.share_fill[0] =
		(struct share_config){.path = vm->rootfs.share, .tag = TEMPLATE_SHARE};
	r->clone.config.share_fills = 1;
	r->clone.launch.fd = -1;
	r->spec.root = (struct container_root){
		.device = TEMPLATE_SHARE, .type = "virtiofs", .upper = NULL};
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

/* The template's messages are not for the container's standard error, which ours is. */
static int find_template(struct vm *vm, struct err *e)
{
	int log = open_log(vm), saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), r;

	if (log >= 0 && saved >= 0)
		dup2(log, STDERR_FILENO);
	r = template_open(&vm->template, &vm->snapshot, e);
	if (saved >= 0) {
		dup2(saved, STDERR_FILENO);
		close(saved);
	}
	if (log >= 0)
		close(log);
	return r;
}

/* All that need not be done by the process itself. */
static int get_ready(struct vm *vm, struct err *e)
{
	struct oci_create *c = vm->create;
	struct run *r = &vm->run;
	int error;

	if (*c->config.root == '/')
		error = snprintf(vm->rootfs_path, PATH_MAX, "%s", c->config.root);
	else
		error = snprintf(vm->rootfs_path, PATH_MAX, "%s/%s", c->bundle, c->config.root);
	if (error >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "root.path is too long");
	error = c->config.cgroup && *c->config.cgroup
			? oci_cgroup_path(vm->cgroup, c->config.cgroup, e)
			: 0;
	if (!error)
		error = choose_size(vm, e);
	if (!error)
		error = template_kernel(vm->kernel, NULL, e);
	vm->template.kernel = vm->kernel;
	if (!error)
		error = find_template(vm, e);
	if (!error)
		error = clone_prepare(&r->clone, &vm->snapshot, e);
	r->clone.started = now_ns();
	r->spec = c->config.spec;
	r->process = c->config.process.request;
	r->image = c->bundle;
	r->created = created;
	return error;
}

static int start_vm(struct vm *vm, pid_t *pid, struct err *e)
{
	int pipes[2], r;

	*pid = -1;
	/* The next process is the first one in the namespace. */
	if (!pipe2(pipes, O_CLOEXEC) && !unshare(CLONE_NEWPID))
		*pid = fork();
	if (*pid < 0) {
		r = err_sys(e, "cannot make a process with a PID namespace");
		rundir_remove(&vm->run.clone.rundir);
		return r;
	}
	if (!*pid) {
		close(pipes[0]);
		vm->said = pipes[1];
		be_vm(vm);
	}
	close(pipes[1]);
	r = hear(pipes[0], *pid, e);
	close(pipes[0]);
	return r;
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
	r = get_ready(vm, e);
	if (!r)
		r = oci_state_save(dir, c->bundle, vm->rootfs_path, *vm->cgroup ? vm->cgroup : NULL,
				   c->config.annotations, e);
	if (r) {
		rundir_remove(dir);
		return r;
	}
	r = start_vm(vm, pid, e);
	if (r && *vm->cgroup)
		oci_cgroup_remove(vm->cgroup);
	return r; /* the directory is the process's */
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
		oci_cgroup_join(x->cgroup, NULL, &e); /* where there is none, the container has none */
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
