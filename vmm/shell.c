/* SPDX-License-Identifier: Apache-2.0
 *
 * A shell of a pool: a clone that waits, before its guest runs, until somebody wants it (vmm/pool.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/clone.h"
#include "vmm/cmd.h"
#include "vmm/keeper.h"
#include "vmm/machine_devices.h"
#include "vmm/pool.h"

#define REQUEST_MS 1000 /* for one that was sent before the shell heard of it */

struct shell {
	struct snapshot snapshot;
	struct clone clone;
	int pool; /* the socket, until it is handed over */
	bool waited;
	struct pool_request request;
	struct loop_source client;
	uint8_t buf[POOL_REQUEST_MAX];
};

/* --- the wait --- */

static int wait_for(int fd, int signals, int timeout_ms)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	int n;

	do
		n = poll(p, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : !n ? -ETIMEDOUT : p[1].revents ? -EINTR : 0;
}

/* Says that it is ready, and waits for a client's connection. Returns it or -errno. */
static int await_client(struct shell *s)
{
	int conn, r = write_all(s->pool, "r", 1);
	char byte;

	if (!r)
		r = wait_for(s->pool, s->clone.machine->signals.fd, -1);
	if (!r && sock_receive(s->pool, &byte, 1, &conn, 1) <= 0)
		r = -ECONNRESET;
	if (!r && conn < 0)
		r = -EPROTO;
	if (r)
		return r; /* the pool sees the process's end by its socket */
	close(s->pool);
	return conn;
}

/* --- the hand-over --- */

static void client_speaks(struct loop_source *source, uint32_t events)
{
	struct shell *s = CONTAINER_OF(source, struct shell, client);
	struct machine *m = s->clone.machine;

	const struct launch *l = &s->clone.launch;
	char byte;

	(void)events;
	if (recv(source->fd, &byte, 1, MSG_DONTWAIT) == 1) {
		if (s->request.session && l->ready)
			clone_record(&s->clone);
		m->recorded = true;
		return;
	}
	loop_del(&m->loop, source);
	end_set(&m->end, END_STOPPED, "ended, as whoever started it is gone");
}

/* In place of launch_ready's own: the answer is the VM's name. */
static void answer(struct launch *l, const struct rundir *vm)
{
	struct shell *s = CONTAINER_OF(l, struct shell, clone.launch);
	bool tell = s->request.session && !s->clone.machine->recorded;
	char text[RUNDIR_ID_MAX + 2];
	int n = snprintf(text, sizeof(text), "%s%.*s", vm->id, tell, (char[]){POOL_TELL, 0});

	l->ready = !write_all(l->fd, text, (size_t)n);
	if (!l->ready)
		end_set(l->end, END_STOPPED, "ended, as whoever started it is gone");
	if (l->held)
		return;
	loop_del(&s->clone.machine->loop, &s->client);
	close(l->fd);
	l->fd = -1;
}

/* The journal has that from the client. */
static void session_ended(struct launch *l, const struct end *end)
{
	(void)l;
	(void)end;
}

static int take_request(struct shell *s, int conn, struct err *e)
{
	struct machine_config *c = &s->clone.machine->config;
	struct pool_request *rq = &s->request;
	int fd[POOL_DISKS], r;
	unsigned int fds = 0;
	ssize_t n;

	r = wait_for(conn, -1, REQUEST_MS);
	if (r)
		return err_set(e, -r, "a client of the pool has asked for nothing");
	n = sock_receive(conn, s->buf, sizeof(s->buf), fd, POOL_DISKS);
	if (n <= 0)
		return err_set(e, ECONNRESET, "a client of the pool has gone");
	while (fds < POOL_DISKS && fd[fds] >= 0)
		fds++;
	r = pool_read_request(rq, s->buf, (size_t)n, fds, e);
	if (!r && (rq->agent || rq->words) && !c->agent)
		r = err_set(e, EINVAL, "the pool's snapshot has no agent in it");
	for (unsigned int i = 0; i < rq->disks && !r; i++) {
		c->fill[i] = rq->disk[i];
		c->fill[i].fd = fd[i];
	}
	c->fills = rq->disks;
	return r;
}

/* What a session's VM has written is known when its process runs. */
static void session_ready(void *ctx)
{
	struct shell *s = ctx;

	launch_ready(&s->clone.launch, &s->clone.rundir);
}

/* From here on it is the client's. */
static int hand_over(struct shell *s, int conn, struct err *e)
{
	struct launch *l = &s->clone.launch;
	struct machine *m = s->clone.machine;
	int r;

	l->fd = conn;
	l->held = s->request.held;
	l->say = answer;
	l->ended = s->request.session ? session_ended : NULL;
	s->clone.ready = s->request.session ? session_ready : NULL;
	s->clone.ctx = s;
	s->clone.cmdline = s->request.words;
	s->client = (struct loop_source){.fd = conn, .ready = client_speaks};
	r = loop_add(&m->loop, &s->client, EPOLLIN | EPOLLRDHUP);
	if (r)
		return err_set(e, -r, "cannot watch a client: %s", strerror(-r));
	r = keeper_show(&s->clone.rundir, s->request.id, e);
	return r ? r : machine_fill(m, e);
}

static int hold(struct clone *c, struct err *e)
{
	struct shell *s = CONTAINER_OF(c, struct shell, clone);
	int conn, r;

	s->waited = true;
	conn = await_client(s);

	if (conn < 0)
		return err_set(e, ECANCELED, "the pool has ended");
	r = take_request(s, conn, e);
	return r ? r : hand_over(s, conn, e);
}

/* What it allocates is for as long as the process lives. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
int pool_shell(const char *path, const char *name, int pool, struct err *e)
{
	struct shell *s = calloc(1, sizeof(*s)); /* stays until the process ends */
	struct clone *c;
	char now[POOL_NAME];
	int status;

	if (!s) {
		err_set(e, ENOMEM, "out of memory");
		return EXIT_FAIL;
	}
	c = &s->clone;
	s->pool = pool;
	c->started = now_ns();
	c->hold = hold;
	c->launch.fd = -1;
	if (pool_name(path, now, e) || snapshot_open(&s->snapshot, path, SNAPSHOT_UNLESS_SEALED, e))
		return POOL_STALE;
	if (strcmp(now, name)) {
		err_set(e, ESTALE, "snapshot %s has been replaced", path);
		return POOL_STALE;
	}
	if (clone_prepare(c, &s->snapshot, e) || rundir_create_hidden(&c->rundir, RUNDIR_SHELL, NULL, e))
		return EXIT_FAIL;
	c->config.console = (struct console_config){.mode = CONSOLE_LOG, .dir = c->rundir.dir};
	status = clone_run(c, e);
	/* If it is not wanted any more that is no failure; and why a client's was none the client hears by
	 * another way.
	 */
	return s->waited && !c->launch.ready ? EXIT_OK : status;
}
#pragma GCC diagnostic pop
