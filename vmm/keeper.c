/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/control.h"
#include "vmm/jail.h"
#include "vmm/sock.h"

#define FDS SOCK_PASS_MAX /* that an answer brings at most */

enum { REMOVE, MAKE, SHOW, PAGEMAP, OWN_FDS, PARENTS, REPLACE, OUTSIDE, DRAFT, NEW_FILE, OLD_FILE, PUBLISH, DROP };

struct request {
	int what;
	/* MAKE, SHOW: the id; empty: a random one. REPLACE, DRAFT: in the directory that came. NEW_FILE, OLD_FILE: in
	 * the draft.
	 */
	char name[NAME_MAX + 1];
	char place[CONTROL_LINE]; /* DRAFT: the path of that directory; empty: unknown */
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
	pid_t process; /* of a VM that was started, not forked: its parent */
	bool outside;  /* the VM is in no jail */
	struct snapshot_draft draft;
	struct confine_needs user;
};

static _Noreturn void keep(struct keeper *k);

/* Whether the VM's process is in no jail: its root is the keeper's own. It lives, so the number is its. */
static bool is_outside(pid_t vm)
{
	struct stat its, own;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root", (int)vm);
	return !stat(path, &its) && !stat("/", &own) && its.st_dev == own.st_dev && its.st_ino == own.st_ino &&
	       getppid() == vm;
}

/* Another descriptor of the directory; for a VM in a jail one from which ".." leads nowhere. */
static int give(const struct keeper *k, int dir)
{
	int fd;

	if (!k->outside)
		return jail_detach(dir);
	fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static void answer_make(struct keeper *k, int to, const char *id)
{
	struct answer a = {0};
	struct keeper its = {.from = k->from, .outside = k->outside, .user = k->user,
			     .draft = {.at = -1, .dir = -1}};
	int ends[2], pass[FDS];
	pid_t pid;

	a.result = rundir_create(&its.vm, *id ? id : NULL, &a.e);
	if (a.result) {
		sock_send(to, &a, sizeof(a), NULL, 0);
		return;
	}
	memcpy(a.id, its.vm.id, sizeof(a.id));
	if (k->user.as_user)
		a.result = rundir_give(&its.vm, k->user.uid, k->user.gid, &a.e);
	if (!a.result && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		a.result = err_sys(&a.e, "cannot make a socket");
	if (a.result) {
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
	pass[0] = pid < 0 ? -1 : give(k, its.vm.dir);
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
static void answer_proc(const struct keeper *k, int to, const char *name, int flags)
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
	else if (flags & O_DIRECTORY && !k->outside)
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

/* --- a snapshot for a process that may not write there --- */

static void drop(struct keeper *k)
{
	snapshot_drop(&k->draft);
	if (k->draft.at >= 0)
		close(k->draft.at);
	k->draft.at = -1;
}

static void answer_draft(struct keeper *k, int to, int at, const struct request *rq)
{
	struct answer a = {0};
	int flags = fcntl(at, F_GETFL), own = fcntl(at, F_DUPFD_CLOEXEC, 0);

	drop(k);
	if (flags < 0 || flags & O_PATH || own < 0)
		a.result = err_set(&a.e, EACCES, "the directory of a snapshot has to be open for reading");
	else
		a.result = snapshot_draft(&k->draft, own, rq->place, rq->name, &a.e);
	if (a.result && k->draft.at < 0 && own >= 0)
		close(own);
	snprintf(a.id, sizeof(a.id), "%.*s", (int)sizeof(a.id) - 1, k->draft.temp);
	sock_send(to, &a, sizeof(a), &k->draft.dir, !a.result);
	if (a.result)
		drop(k);
}

static void answer_file(struct keeper *k, int to, const char *name, bool make)
{
	struct answer a = {0};
	int fd = -EINVAL;

	if (k->draft.dir >= 0 && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, ".."))
		fd = snapshot_draft_file(&k->draft, name, make);
	a.result = MIN(fd, 0);
	sock_send(to, &a, sizeof(a), &fd, !a.result);
	if (fd >= 0)
		close(fd);
}

/* What a snapshot of a clone needs is what the clone was made from, wherever its manifest says that is. */
static void answer_publish(struct keeper *k, int to)
{
	struct answer a = {0};
	struct snapshot *parent = k->from ? calloc(1, sizeof(*parent)) : NULL;
	struct err why;
	bool there = parent && !snapshot_read_manifest(parent, k->from->path, &why);

	if (k->draft.dir < 0)
		a.result = err_set(&a.e, EINVAL, "there is no draft");
	else
		a.result = snapshot_publish(&k->draft, there ? parent : NULL, &a.e);
	if (parent)
		snapshot_close(parent);
	free(parent);
	sock_send(to, &a, sizeof(a), NULL, 0);
	if (!a.result)
		drop(k);
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
	case PAGEMAP: answer_proc(k, to, "pagemap", O_RDONLY); break;
	case OWN_FDS: answer_proc(k, to, "fd", O_PATH | O_DIRECTORY); break;
	case PARENTS:
		a.result = are_there(k->from) ? 0 : -ENOENT;
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	case REPLACE:
		a.result = snapshot_removable(fd[1], rq->name, &a.e);
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	case OUTSIDE:
		k->outside = k->process && is_outside(k->process);
		a.result = k->outside ? 0 : -EPERM;
		sock_send(to, &a, sizeof(a), NULL, 0);
		break;
	case DRAFT: answer_draft(k, to, fd[1], rq); break;
	case NEW_FILE:
	case OLD_FILE: answer_file(k, to, rq->name, rq->what == NEW_FILE); break;
	case PUBLISH: answer_publish(k, to); break;
	case DROP:
		drop(k);
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
		rq.place[sizeof(rq.place) - 1] = 0;
		more = n != sizeof(rq) || fd[0] < 0 || serve(k, &rq, fd);
		if (more)
			close_all(fd);
	}
	drop(k);
	rundir_remove(&k->vm);
	_exit(0); /* who waits for the removal sees its socket's end */
}

/* --- in the VM's process --- */

int keeper_start(struct rundir *vm, const struct snapshot *from, const struct confine_needs *user, struct err *e)
{
	struct keeper k = {.vm = *vm, .from = from, .process = getpid(), .user = *user,
			   .draft = {.at = -1, .dir = -1}};
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
static int ask_all(int keeper, const struct request *rq, int dir, struct answer *a, int fd[FDS])
{
	int ends[2], pass[2], r;

	for (unsigned int i = 0; i < FDS; i++)
		fd[i] = -1;
	*a->e.text = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	pass[0] = ends[1];
	pass[1] = dir;
	r = sock_send(keeper, rq, sizeof(*rq), pass, 1u + (dir >= 0));
	close(ends[1]);
	if (!r)
		r = sock_receive(ends[0], a, sizeof(*a), fd, FDS) == sizeof(*a) ? a->result : -ESRCH;
	close(ends[0]);
	return r;
}

static int ask(int keeper, int what, const char *name, int dir, struct answer *a, int fd[FDS])
{
	struct request rq = {.what = what};

	snprintf(rq.name, sizeof(rq.name), "%s", name ? name : "");
	return ask_all(keeper, &rq, dir, a, fd);
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

/* --- where there is no jail --- */

int keeper_stay_outside(const struct rundir *vm, struct err *e)
{
	struct answer a;
	int none[FDS], r = ask(vm->keeper, OUTSIDE, NULL, -1, &a, none);

	return r ? err_set(e, -r, "the VM's keeper does not see that there is no jail: %s", strerror(-r)) : 0;
}

static int file_of_draft(void *ctx, const char *name, bool make)
{
	const struct rundir *vm = ctx;
	struct answer a;
	int fd[FDS], r = ask(vm->keeper, make ? NEW_FILE : OLD_FILE, name, -1, &a, fd);

	return r ? r : fd[0];
}

int keeper_draft(const struct rundir *vm, bool by_keeper, struct snapshot_draft *d, int at, const char *place,
		 const char *name, struct err *e)
{
	struct request rq = {.what = DRAFT};
	struct answer a;
	int fd[FDS], r;

	if (!by_keeper)
		return snapshot_draft(d, at, place, name, e);
	snprintf(rq.name, sizeof(rq.name), "%s", name);
	snprintf(rq.place, sizeof(rq.place), "%s", place);
	r = ask_all(vm->keeper, &rq, at, &a, fd);
	if (r) {
		close_all(fd);
		return *a.e.text ? err_set(e, -r, "%s", a.e.text)
				 : err_set(e, -r, "cannot make snapshot %s: the VM's keeper is gone", name);
	}
	*d = (struct snapshot_draft){.at = at, .dir = fd[0], .file = file_of_draft, .ctx = (void *)(uintptr_t)vm};
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->temp, sizeof(d->temp), "%s", a.id);
	snprintf(d->place, sizeof(d->place), "%s", place);
	return 0;
}

int keeper_publish(const struct rundir *vm, struct snapshot_draft *d, const struct snapshot *parent,
		   struct err *e)
{
	struct answer a;
	int none[FDS], r;

	if (!d->file)
		return snapshot_publish(d, parent, e);
	r = ask(vm->keeper, PUBLISH, NULL, -1, &a, none);
	if (r && *a.e.text)
		return err_set(e, -r, "%s", a.e.text);
	return r ? err_set(e, -r, "cannot give snapshot %s its name: the VM's keeper is gone", d->name) : 0;
}

void keeper_drop(const struct rundir *vm, struct snapshot_draft *d)
{
	struct answer a;
	int none[FDS];

	if (d->file && *d->temp)
		ask(vm->keeper, DROP, NULL, -1, &a, none);
	if (d->file)
		*d->temp = 0;
	snapshot_drop(d);
}
