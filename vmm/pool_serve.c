/* SPDX-License-Identifier: Apache-2.0
 *
 * The process of a pool: keeps its shells, and passes clients on to them (vmm/pool.h).
 *
 * One shell is made at a time, and the next not before some time after one was taken: whoever took it is to
 * have the machine for itself meanwhile. A shell that cannot be made is tried again, ever later.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/files.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/log.h"
#include "vmm/pool.h"
#include "vmm/stamp.h"
#include "vmm/util.h"
#include "vmm/vm_stats.h"

#define REFILL_MS    20	   /* from when a shell was taken */
#define RETRY_MS     1000  /* from when one could not be made; then twice that, and so on */
#define RETRY_MS_MAX 60000
#define END_MS	     2000  /* for a shell's end */

/* What tells that the snapshot is as it was. */
static const char *const stamped[] = {FILE_MANIFEST, FILE_STATE, FILE_MEMORY};

struct pool;

struct member {
	struct pool *pool; /* NULL: there is none in this place */
	struct loop_source conn;
	pid_t pid;
	bool ready;
};

struct pool {
	struct loop loop;
	struct end end;
	struct control control;
	struct rundir vm;
	const char *path, *name;
	int snapshot; /* its directory: as long as it is open its inode is not another's */
	struct stamp stamp[ARRAY_SIZE(stamped)];
	bool changed; /* it is not any more what it was */
	unsigned int size, retry_ms;
	uint64_t hits, misses;
	struct loop_source listener, signals, refill;
	struct member member[POOL_SHELLS_MAX];
};

/* --- the snapshot --- */

static int stamp_all(int dir, struct stamp stamp[ARRAY_SIZE(stamped)])
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(stamped); i++) {
		if (fstatat(dir, stamped[i], &st, AT_SYMLINK_NOFOLLOW))
			return -errno;
		stamp[i] = stamp_of(&st);
	}
	return 0;
}

static void drop(struct member *b)
{
	loop_del(&b->pool->loop, &b->conn);
	close(b->conn.fd);
	b->pool = NULL;
}

static void set_changed(struct pool *p)
{
	if (!p->changed)
		log_warn("snapshot %s has changed or is gone: its pool gives out nothing more", p->path);
	p->changed = true;
	for (unsigned int i = 0; i < p->size; i++)
		if (p->member[i].pool)
			drop(&p->member[i]);
}

/* Whether clones of it may be given out. If not it never may again, and the shells go. */
static bool good(struct pool *p)
{
	struct stamp now[ARRAY_SIZE(stamped)];

	if (!p->changed && (stamp_all(p->snapshot, now) || memcmp(now, p->stamp, sizeof(now))))
		set_changed(p);
	return !p->changed;
}

/* --- shells --- */

static unsigned int count(const struct pool *p, bool ready)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < p->size; i++)
		n += p->member[i].pool && p->member[i].ready == ready;
	return n;
}

static void refill_in(struct pool *p, unsigned int ms)
{
	struct itimerspec t = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 + 1}};

	timerfd_settime(p->refill.fd, 0, &t, NULL);
}

static void failed(struct pool *p)
{
	p->retry_ms = p->retry_ms ? MIN(2 * p->retry_ms, RETRY_MS_MAX) : RETRY_MS;
	refill_in(p, p->retry_ms);
}

/* It is ready, or it has ended. */
static void member_ready(struct loop_source *s, uint32_t events)
{
	struct member *b = CONTAINER_OF(s, struct member, conn);
	struct pool *p = b->pool;
	char byte;

	(void)events;
	if (recv(s->fd, &byte, 1, MSG_DONTWAIT) == 1) {
		b->ready = true;
		p->retry_ms = 0;
		refill_in(p, 0);
		return;
	}
	if (b->ready)
		refill_in(p, REFILL_MS);
	else
		failed(p);
	drop(b);
}

/* In the child. The signals that the pool waits for are a clone's own business. */
static _Noreturn void become_shell(struct pool *p, int conn)
{
	int keep[] = {conn};
	struct err e = {{0}};
	sigset_t none;
	int status;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	fds_close_others(STDERR_FILENO + 1, keep, ARRAY_SIZE(keep));
	prctl(PR_SET_NAME, "uvm");
	status = launch_background(-1, &e) ? EXIT_FAIL : pool_shell(p->path, p->name, conn, &e);
	if (status && *e.text)
		log_warn("%s", e.text);
	_exit(status);
}

static int add_member(struct pool *p, struct member *b, struct err *e)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return err_sys(e, "cannot make a socket");
	b->pid = fork();
	if (!b->pid)
		become_shell(p, ends[1]);
	close(ends[1]);
	b->conn = (struct loop_source){.fd = ends[0], .ready = member_ready};
	b->ready = false;
	r = b->pid < 0 ? -errno : loop_add(&p->loop, &b->conn, EPOLLIN);
	if (r) {
		close(ends[0]); /* which ends it */
		return err_set(e, -r, "cannot make a shell: %s", strerror(-r));
	}
	b->pool = p;
	return 0;
}

static void refill_due(struct loop_source *s, uint32_t events)
{
	struct pool *p = CONTAINER_OF(s, struct pool, refill);
	uint64_t times;
	unsigned int i = 0;
	struct err e;

	(void)events;
	if (read(s->fd, &times, sizeof(times)) != sizeof(times) || count(p, false) || !good(p))
		return;
	while (i < p->size && p->member[i].pool)
		i++;
	if (i < p->size && add_member(p, &p->member[i], &e)) {
		log_warn("%s", e.text);
		refill_in(p, RETRY_MS);
	}
}

/* --- clients --- */

static struct member *any_ready(struct pool *p)
{
	for (unsigned int i = 0; i < p->size; i++)
		if (p->member[i].pool && p->member[i].ready)
			return &p->member[i];
	return NULL;
}

/* One that does not get the connection has just ended, and the next gets it. */
static bool pass_on(struct pool *p, int conn)
{
	struct member *b;
	bool passed = false;

	while (!passed && (b = any_ready(p))) {
		passed = !sock_send(b->conn.fd, "c", 1, &conn, 1);
		drop(b);
	}
	return passed;
}

static void client_comes(struct loop_source *s, uint32_t events)
{
	struct pool *p = CONTAINER_OF(s, struct pool, listener);
	int conn = sock_accept(s->fd);

	(void)events;
	if (conn < 0)
		return;
	fcntl(conn, F_SETFL, 0); /* a shell waits */
	if (good(p) && pass_on(p, conn))
		p->hits++;
	else
		p->misses++;
	close(conn);
	refill_in(p, REFILL_MS);
}

/* What a shell takes, of one that waits: the others are like it. */
static uint64_t shell_memory(struct pool *p)
{
	const struct member *b = any_ready(p);
	uint64_t resident;

	return b ? vm_stats_memory((uint64_t)b->pid, &resident) : 0;
}

static size_t status(void *ctx, char *text, size_t size)
{
	struct pool *p = ctx;
	bool ok = good(p);
	size_t len = 0;

	text_append(text, size, &len,
		    "template %s\nsize %u\nready %u\nhits %" PRIu64 "\nmisses %" PRIu64
		    "\nshell_memory %" PRIu64 "\nstate %s\n",
		    p->path, p->size, count(p, true), p->hits, p->misses, shell_memory(p),
		    !ok		       ? "changed"
		    : p->retry_ms      ? "failing"
		    : count(p, true) < p->size ? "filling"
					       : "full");
	return MIN(len, size - 1);
}

/* --- its life --- */

/* Shells that could not be made, and VMs that were handed over: those are still this process's children. */
static void reap(struct pool *p)
{
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0)
		if (WIFEXITED(status) && WEXITSTATUS(status) == POOL_STALE)
			set_changed(p);
}

static void signalled(struct loop_source *s, uint32_t events)
{
	struct pool *p = CONTAINER_OF(s, struct pool, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(s->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap(p);
	else
		end_set(&p->end, END_STOPPED, "ended by signal %u", info.ssi_signo);
}

static int add_source(struct pool *p, struct loop_source *s, int fd,
		      void (*ready)(struct loop_source *, uint32_t), struct err *e)
{
	int r;

	*s = (struct loop_source){.fd = fd, .ready = ready};
	if (fd < 0)
		return *e->text ? fd : err_sys(e, "cannot make a pool");
	r = loop_add(&p->loop, s, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch: %s", strerror(-r)) : 0;
}

static int begin(struct pool *p, struct err *e)
{
	sigset_t set;
	int r = loop_init(&p->loop, e);

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*e->text = 0;
	if (!r)
		r = add_source(p, &p->signals, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), signalled, e);
	if (!r)
		r = add_source(p, &p->refill, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
			       refill_due, e);
	if (!r)
		r = add_source(p, &p->listener, sock_listen(p->vm.dir, POOL_SOCKET, e), client_comes, e);
	p->end.loop = &p->loop;
	p->control.loop = &p->loop;
	p->control.end = &p->end;
	p->control.status = status;
	p->control.ctx = p;
	if (!r)
		r = control_init(&p->control, p->vm.dir, e);
	return r ? r : rundir_write_pid(&p->vm, e);
}

/* Ends the shells, and waits until they are gone, with their directories. */
static void end_members(struct pool *p)
{
	for (unsigned int i = 0; i < p->size; i++)
		if (p->member[i].pool)
			shutdown(p->member[i].conn.fd, SHUT_WR);
	for (unsigned int i = 0; i < p->size; i++) {
		struct pollfd one = {.fd = p->member[i].conn.fd, .events = POLLIN};
		char byte;

		while (p->member[i].pool && poll(&one, 1, END_MS) > 0 && recv(one.fd, &byte, 1, 0) > 0)
			;
	}
}

/* What it allocates is for as long as the process lives. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
int pool_serve(const char *path, unsigned int size, struct launch *l, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	char name[POOL_NAME];
	int r = p ? 0 : err_set(e, ENOMEM, "out of memory");

	if (!r)
		r = pool_name(path, name, e);
	if (!r)
		r = rundir_create_hidden(&p->vm, RUNDIR_POOL, name, e);
	if (r == -EEXIST)
		err_set(e, EEXIST, "there is a pool of %s already; 'uvm pool ls' lists them", path);
	if (r)
		return EXIT_FAIL;
	p->path = path;
	p->name = name;
	p->size = size;
	p->snapshot = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = p->snapshot < 0 ? -errno : stamp_all(p->snapshot, p->stamp);
	r = r ? err_set(e, -r, "snapshot %s: %s", path, strerror(-r)) : begin(p, e);
	if (!r) {
		prctl(PR_SET_NAME, "uvm-pool");
		l->end = &p->end;
		launch_ready(l, &p->vm);
		refill_in(p, 0);
		r = loop_run(&p->loop);
		end_members(p);
	}
	rundir_remove(&p->vm);
	return r ? EXIT_FAIL : EXIT_OK;
}
#pragma GCC diagnostic pop
