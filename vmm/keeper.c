/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/jail.h"
#include "vmm/sock.h"

#define FDS SOCK_PASS_MAX /* that an answer brings at most */

enum { REMOVE, MAKE, SHOW, PAGEMAP, OWN_FDS, PARENTS, REPLACE };

struct request {
	int what;
	char name[NAME_MAX + 1]; /* MAKE, SHOW: the id; empty: a random one. REPLACE: in the directory that came */
};

struct answer {
	int result; /* 0, or -errno with the message set */
	char id[RUNDIR_ID_MAX + 1];
	struct err e;
};

static void close_all(const int fd[FDS])
{
	for (unsigned int i = 0; i < FDS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

/* --- in the keeper --- */

struct keeper {
	struct rundir vm;
	int requests;
	const struct snapshot *from;
};

static _Noreturn void keep(struct keeper *k);

static void answer_make(struct keeper *k, int to, const char *id)
{
	struct answer a = {0};
	struct keeper its = {.from = k->from};
	int ends[2], pass[FDS];
	pid_t pid;

	a.result = rundir_create(&its.vm, *id ? id : NULL, &a.e);
	if (a.result) {
		sock_send(to, &a, sizeof(a), NULL, 0);
		return;
	}
	memcpy(a.id, its.vm.id, sizeof(a.id));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		a.result = err_sys(&a.e, "cannot make a socket");
		sock_send(to, &a, sizeof(a), NULL, 0);
		rundir_remove(&its.vm);
		return;
	}
	pid = fork();
	if (!pid) {
		its.requests = ends[1];
		keep(&its);
	}
	close(ends[1]);
	pass[0] = pid < 0 ? -1 : jail_detach(its.vm.dir);
	pass[1] = its.vm.lock;
	pass[2] = ends[0];
	if (pid < 0) {
		a.result = err_sys(&a.e, "cannot start a process");
		rundir_remove(&its.vm);
	} else if (pass[0] < 0) {
		a.result = err_set(&a.e, -pass[0], "cannot give away a directory: %s",
				   strerror(-pass[0]));
	}
	/* If it is not taken its own keeper removes it, as of any VM that has gone. */
	sock_send(to, &a, sizeof(a), pass, a.result ? 0 : FDS);
	if (pass[0] >= 0)
		close(pass[0]);
	close(ends[0]);
	if (pid > 0)
		rundir_release(&its.vm);
}

/* Of whoever asks, and of nobody else: the kernel says who has made the socket. */
static void answer_proc(int to, const char *name, int flags)
{
	struct answer a = {0};
	struct ucred peer;
	socklen_t len = sizeof(peer);
	char path[64];
	int fd;

	if (getsockopt(to, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)peer.pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		a.result = -errno;
	else if (flags & O_DIRECTORY)
		a.result = jail_replace(fd, false, path, &a.e);
	sock_send(to, &a, sizeof(a), &fd, !a.result);
	if (fd >= 0)
		close(fd);
}

static bool are_there(const struct snapshot *s)
{
	struct snapshot *now = calloc(1, sizeof(*now));
	struct err ignored;
	bool there = now && s && !snapshot_read_manifest(now, s->path, &ignored) &&
		     !memcmp(now->m.uuid, s->m.uuid, sizeof(now->m.uuid));

	if (now)
		snapshot_close(now);
	free(now);
	return there && (!s->parent || are_there(s->parent));
}

/* fd: where the answer goes to, and what came behind that. Returns false for the last. */
static bool serve(struct keeper *k, const struct request *rq, const int fd[FDS])
{
	int to = fd[0];

	struct answer a = {0};

	switch (rq->what) {
	case REMOVE: return false;
	case MAKE: answer_make(k, to, rq->name); break;
	case SHOW:
		a.result = rundir_show(&k->vm, *rq->name ? rq->name : NULL, &a.e);
		memcpy(a.id, k->vm.id, sizeof(a.id));
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	case PAGEMAP: answer_proc(to, "pagemap", O_RDONLY); break;
	case OWN_FDS: answer_proc(to, "fd", O_PATH | O_DIRECTORY); break;
	case PARENTS:
		a.result = are_there(k->from) ? 0 : -ENOENT;
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	case REPLACE:
		a.result = snapshot_removable(fd[1], rq->name, &a.e);
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	}
	return true;
}

/* Nothing of the VM's process's is kept open but what is needed: others wait for the ends of its pipes. */
static void close_others(const struct keeper *k)
{
	int keep[] = {k->vm.root, k->vm.dir, k->vm.lock, k->requests};

	fds_close_others(0, keep, ARRAY_SIZE(keep));
}

static _Noreturn void keep(struct keeper *k)
{
	struct request rq;
	bool more = true;
	int fd[FDS] = {-1, -1, -1};

	setsid(); /* a terminal's signals are for the VM */
	prctl(PR_SET_NAME, "uvm-keeper");
	close_others(k);
	while (more) {
		ssize_t n = sock_receive(k->requests, &rq, sizeof(rq), fd, FDS);

		if (n <= 0)
			break;
		rq.name[NAME_MAX] = 0;
		more = n != sizeof(rq) || fd[0] < 0 || serve(k, &rq, fd);
		if (more)
			close_all(fd);
	}
	rundir_remove(&k->vm);
	_exit(0); /* who waits for the removal sees its socket's end */
}

/* --- in the VM's process --- */

int keeper_start(struct rundir *vm, const struct snapshot *from, struct err *e)
{
	struct keeper k = {.vm = *vm, .from = from};
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return err_sys(e, "cannot make a socket");
	k.requests = ends[1];
	pid = fork();
	if (!pid)
		keep(&k);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return err_sys(e, "cannot start a process");
	}
	close(vm->root);
	vm->root = -1;
	vm->keeper = ends[0];
	return 0;
}

/* Sends the request, with a directory unless that is -1, and waits for the answer. Returns its result, or
 * -errno without a message.
 */
static int ask(int keeper, int what, const char *name, int dir, struct answer *a, int fd[FDS])
{
	struct request rq = {.what = what};
	int ends[2], pass[2], r;

	for (unsigned int i = 0; i < FDS; i++)
		fd[i] = -1;
	*a->e.text = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	snprintf(rq.name, sizeof(rq.name), "%s", name ? name : "");
	pass[0] = ends[1];
	pass[1] = dir;
	r = sock_send(keeper, &rq, sizeof(rq), pass, 1u + (dir >= 0));
	close(ends[1]);
	if (!r)
		r = sock_receive(ends[0], a, sizeof(*a), fd, FDS) == sizeof(*a) ? a->result : -ESRCH;
	close(ends[0]);
	return r;
}

void keeper_remove(struct rundir *vm)
{
	struct answer a;
	int none[FDS];

	if (vm->keeper < 0) {
		rundir_remove(vm);
		return;
	}
	ask(vm->keeper, REMOVE, NULL, -1, &a, none);
	close(vm->keeper);
	rundir_release(vm);
}

int keeper_make(const struct rundir *parent, struct rundir *vm, const char *id, struct err *e)
{
	struct answer a;
	int fd[FDS], r;

	if (parent->keeper < 0)
		return rundir_create(vm, id, e);
	r = ask(parent->keeper, MAKE, id, -1, &a, fd);
	if (r) {
		close_all(fd);
		return *a.e.text ? err_set(e, -r, "%s", a.e.text)
				 : err_set(e, -r, "cannot make a run directory: the VM's keeper is gone");
	}
	*vm = (struct rundir){.root = -1, .dir = fd[0], .lock = fd[1], .keeper = fd[2]};
	memcpy(vm->id, a.id, sizeof(vm->id));
	return 0;
}

int keeper_show(struct rundir *vm, const char *id, struct err *e)
{
	struct answer a;
	int none[FDS], r;

	if (vm->keeper < 0)
		return rundir_show(vm, id, e);
	r = ask(vm->keeper, SHOW, id, -1, &a, none);
	if (r)
		return *a.e.text ? err_set(e, -r, "%s", a.e.text)
				 : err_set(e, -r, "cannot name a run directory: the VM's keeper is gone");
	memcpy(vm->id, a.id, sizeof(vm->id));
	return 0;
}

static int ask_for(const struct rundir *vm, int what)
{
	struct answer a;
	int fd[FDS], r = ask(vm->keeper, what, NULL, -1, &a, fd);

	return r ? r : fd[0];
}

int keeper_pagemap(const struct rundir *vm)
{
	return vm->keeper < 0 ? -1 : ask_for(vm, PAGEMAP);
}

int keeper_own_fds(const struct rundir *vm)
{
	int fd;

	if (vm->keeper >= 0)
		return ask_for(vm, OWN_FDS);
	fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool keeper_parents(const struct rundir *vm, const struct snapshot *from)
{
	struct answer a;
	int none[FDS];

	return vm->keeper < 0 ? are_there(from) : !ask(vm->keeper, PARENTS, NULL, -1, &a, none);
}

int keeper_replaceable(const struct rundir *vm, int at, const char *name, struct err *e)
{
	struct answer a;
	int none[FDS], r;

	if (vm->keeper < 0)
		return 0;
	r = ask(vm->keeper, REPLACE, name, at, &a, none);
	if (!r || r == -ENOENT)
		return 0;
	return *a.e.text ? err_set(e, -r, "%s", a.e.text)
			 : err_set(e, -r, "cannot look at snapshot %s: the VM's keeper is gone", name);
}
