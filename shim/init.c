/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/child.h"
#include "shim/graft.h"
#include "shim/pod.h"
#include "shim/vm.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/jail.h"
#include "vmm/log.h"
#include "vmm/record.h"
#include "vmm/util.h"

/* --- the VM --- */

/* In the VM's process, before it is one. No directory that it has open leads on, when this is left. The IPC and UTS namespaces of the guest's container are named by
 * the process', unless somebody else has made ones for a pod.
 */
static int take_place(struct oci_child *c, struct err *e)
{
	const struct oci_config *config = &c->create->config;
	const struct {
		const char *path;
		int flag;
	} table[] = {{config->network, CLONE_NEWNET},
		     {config->ipc, CLONE_NEWIPC},
		     {config->uts, CLONE_NEWUTS}};
	struct vm *vm = CONTAINER_OF(c, struct vm, child);
	int r = jail_detach_snapshots(&vm->snapshot, e);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *path = table[i].path;
		int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
		r = path ? fd < 0 || setns(fd, table[i].flag) : unshare(table[i].flag);

		if (r)
			r = path ? err_sys(e, "cannot join the namespace %s", path)
				 : err_sys(e, "cannot make a namespace");
		if (fd >= 0)
			close(fd);
		if (r)
			return r;
	}
	return 0;
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
		if (!r)
			r = jail_detach_snapshots(&vm->snapshot, e);
	}
	if (!r)
		r = oci_network_join(n, vm->run.clone.config.net, e);
	oci_network_close(n);
	return r;
}

/* --- the process --- */

static void created(struct run *r)
{
	struct vm *vm = CONTAINER_OF(r, struct vm, run);
	struct err e;
	int error = oci_rootfs_enter(&vm->child.rootfs, &e);

	confine_settle(&r->clone.machine->confine);
	if (!error)
		error = oci_state_made(&r->clone.rundir, &e);
	/* It fails when "create" is gone before it could tell anybody. */
	if (oci_child_say(&vm->child, error, &e))
		error = -EPIPE;
	if (error)
		event_post(r->cancel);
}

/* The tree that the guest gets. Other containers' can come into it, but not where it is an image. */
static int make_share(struct vm *vm, struct err *e)
{
	struct oci_config *config = &vm->child.create->config;
	struct oci_rootfs *rootfs = &vm->child.rootfs;
	int r = oci_rootfs_copy(rootfs, config, e);

	if (!r && !config->image)
		r = oci_rootfs_keep(rootfs, e);
	if (!r && !config->image)
		r = graft_make(vm->child.dir, rootfs->copy, e);
	oci_state_leave(vm->child.dir);
	return r;
}

static int prepare(struct vm *vm, struct err *e)
{
	struct oci_config *config = &vm->child.create->config;
	struct run *r = &vm->run;
	int error = oci_child_settle(&vm->child, r->fds, take_place, e);

	if (!error)
		error = join_network(vm, e);
	if (!error)
		error = make_share(vm, e);
	if (error)
		return error;
	r->clone.config.share_fill[0] =
		(struct share_config){.path = vm->child.rootfs.share, .tag = TEMPLATE_SHARE};
	r->clone.config.share_fills = !config->image || config->binds;
	r->clone.config.confine.runtime = true;
	r->clone.launch.fd = -1;
	return 0;
}

static void be_vm(struct oci_child *c)
{
	struct vm *vm = CONTAINER_OF(c, struct vm, child);
	struct run *r = &vm->run;
	struct err e = {{0}};
	int error = prepare(vm, &e), status = RUN_FAILED;

	if (error)
		rundir_remove(&r->clone.rundir);
	else
		status = run_here(r, &e);
	if (c->said >= 0) {
		if (!error)
			error = oci_explain(status, &r->process, &e);
		oci_child_say(c, error, &e);
	} else if (*e.text) {
		log_warn("%s", e.text);
	}
	_exit(status);
}

static int create_vm(struct oci_create *c, pid_t *pid, struct err *e)
{
	struct vm *vm = calloc(1, sizeof(*vm)); /* goes with the process */
	struct rundir *dir;
	int r;

	if (!vm)
		return err_set(e, ENOMEM, "out of memory");
	dir = &vm->run.clone.rundir;
	vm->child.create = c;
	vm->child.dir = dir;
	r = rundir_create(dir, c->id, e);
	if (r == -EEXIST)
		return oci_exists(c->id, e);
	if (r)
		return r;
	r = oci_vm_prepare(vm, e);
	vm->run.created = created;
	if (!r)
		r = oci_state_save(dir, &vm->child.state, e);
	signal(SIGCHLD, SIG_DFL); /* the making of a template ignores it */
	if (!r)
		r = oci_child_start(&vm->child, be_vm, pid, e);
	if (r)
		oci_child_discard(&vm->child, *pid);
	return r;
}

int oci_create(struct oci_create *c, pid_t *pid, struct err *e)
{
	*pid = 0;
	return c->config.sandbox ? oci_pod_create(c, pid, e) : create_vm(c, pid, e);
}

/* --- execs --- */

static void exec_started(void *ctx)
{
	int *said = ctx;

	oci_say(*said, 0, NULL);
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
		r = oci_streams(fds, -1, x->process, x->console, &e);
	if (!r && x->cgroup)
		oci_cgroup_join(x->cgroup, NULL, 0, &e); /* where there is none, the container has none */
	rq->fds = fds;
	rq->started = exec_started;
	rq->ctx = &said;
	if (!r) {
		r = exec_run(rq, client_dial_agent, x->vm, &status, &e);
		if (r)
			r = oci_explain(status, rq, &e);
	}
	if (said >= 0)
		oci_say(said, r, &e);
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
	r = oci_hear(pipes[0], *pid, e);
	close(pipes[0]);
	return r;
}

int oci_exec_here(struct oci_exec *x, int *status, struct err *e)
{
	struct exec_request *rq = &x->process->request;
	int r = exec_run(rq, client_dial_agent, x->vm, status, e);

	return r ? oci_explain(*status, rq, e) : 0;
}
