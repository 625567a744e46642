/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/log.h"
#include "vmm/pool.h"
#include "vmm/record.h"
#include "vmm/util.h"

/* How long a guest may take to write back and unmount. */
#define SETTLE_SECONDS 60u

#define STREAM_SIZE 1300u /* bytes of what open_memstream allocates, about */

/* --- output in the background --- */

static int open_output(struct run *r, int flags)
{
	return openat(r->clone.rundir.dir, RUNDIR_OUTPUT,
		      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

/* What is kept of a container's output is bounded: the file that is full becomes the one before. */
static void rotate(struct run *r)
{
	int dir = r->clone.rundir.dir, fd;

	if (renameat(dir, RUNDIR_OUTPUT, dir, RUNDIR_OUTPUT ".1"))
		return;
	fd = open_output(r, O_EXCL);
	if (fd < 0)
		return;
	dup3(fd, r->output, O_CLOEXEC);
	close(fd);
	r->written = 0;
}

/* A disk that is full must not stop the container: what cannot be written is lost. */
static ssize_t write_output(void *ctx, int fd, const void *data, size_t len)
{
	struct run *r = ctx;

	if (r->written + len > RUN_OUTPUT_MAX)
		rotate(r);
	if (!write_all(fd, data, len))
		r->written += len;
	return (ssize_t)len;
}

static int set_streams(struct run *r, struct err *e)
{
	r->output = -1;
	r->process.fds = r->fds;
	if (r->created)
		return 0;
	if (!r->detach) {
		r->fds[0] = r->stdin_open ? 0 : -1;
		r->fds[1] = 1;
		r->fds[2] = 2;
		return 0;
	}
	r->output = open_output(r, 0);
	if (r->output < 0)
		return err_sys(e, "cannot make a file for the container's output");
	r->fds[0] = -1;
	r->fds[1] = r->fds[2] = r->output;
	r->process.write = write_output;
	return 0;
}

/* --- the session --- */

static void created(void *ctx)
{
	struct run *r = ctx;

	r->created(r);
}

/* Says so to a starter that waits, and lets go of it. */
static void started(void *ctx)
{
	struct run *r = ctx;
	struct err e;

	if (r->clone.machine)
		clone_record(&r->clone);
	else if (r->tell)
		(void)!write(r->cancel, "s", 1);
	record_started(&r->clone.rundir);
	journal_event(&r->clone.rundir, "running");
	if (!r->detach)
		return;
	if (!r->remove && rundir_keep(&r->clone.rundir, &e))
		log_warn("%s", e.text);
	launch_ready(&r->clone.launch, &r->clone.rundir);
}

static void out_of_memory(void *ctx, uint64_t kills)
{
	struct run *r = ctx;

	journal_number(&r->clone.rundir, "oom", "kills", kills);
}

/* In place of launch_ready's own: whoever started it and is gone has not been told of it. */
static void say_ready(struct launch *l, const struct rundir *vm)
{
	struct run *r = CONTAINER_OF(l, struct run, clone.launch);

	(void)vm;
	l->ready = !write_all(l->fd, "r", 1);
	close(l->fd);
	l->fd = -1;
	if (!l->ready)
		event_post(r->cancel);
}

/* Has the guest take the container and itself down. Returns if it does not. */
static void settle(struct run *r)
{
	struct agent_name name = {.name = RECORD_CONTAINER};
	struct rundir *vm = &r->clone.rundir;
	struct err e;

	if (agent_order(client_dial_agent, vm, AGENT_DELETE, &name, sizeof(name), &e))
		log_warn("the container's file systems may not be whole: %s", e.text);
	if (agent_shutdown(client_dial_agent, vm, AGENT_POWEROFF, &e))
		log_warn("the guest does not shut down: %s", e.text);
	else
		sleep(SETTLE_SECONDS);
}

/* Returns exec_run's result. */
static int run_process(struct run *r)
{
	int failed = exec_run(&r->process, client_dial_agent, &r->clone.rundir, &r->status, &r->e);

	if (failed && r->status != EXEC_NOT_FOUND && r->status != EXEC_NOT_EXECUTABLE)
		r->status = RUN_FAILED;
	if (!failed)
		*r->e.text = 0;
	record_exited(&r->clone.rundir, r->status);
	journal_exit(&r->clone.rundir, r->status, failed ? r->e.text : "the container has ended");
	return failed;
}

static void *session(void *ctx)
{
	struct run *r = ctx;
	int failed = run_process(r);

	__atomic_store_n(&r->done, 1, __ATOMIC_RELEASE);
	if (r->settle && failed != -ECONNRESET)
		settle(r);
	end_set(&r->clone.machine->end, END_STOPPED, "the container has ended");
	return NULL;
}

static void ready(void *ctx)
{
	struct run *r = ctx;
	int error = pthread_create(&r->thread, NULL, session, r);

	r->running = !error;
	confine_settle(&r->clone.machine->confine); /* the session's thread is the one that needs more */
	if (error)
		end_set(&r->clone.machine->end, END_FAULT, "cannot start a thread: %s",
			strerror(error));
}

/* The VM has ended. If nobody has told it to, the session has to hear of it. */
static void vm_ended(struct launch *l, const struct end *end)
{
	struct run *r = CONTAINER_OF(l, struct run, clone.launch);

	if (!r->running)
		journal_exit(&r->clone.rundir, RUN_FAILED, end->text);
	r->fault = end_get(end) == END_FAULT || end_get(end) == END_PANIC;
	if (!r->running || __atomic_load_n(&r->done, __ATOMIC_ACQUIRE))
		return;
	event_post(r->cancel);
	pthread_join(r->thread, NULL);
}

/* --- the process --- */

/* The session's thread takes them, from a descriptor. */
static void block_signals(void)
{
	static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,	 SIGQUIT,
				      SIGUSR1, SIGUSR2, SIGWINCH};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static int prepare_session(struct run *r, struct err *e)
{
	struct clone *c = &r->clone;
	int error;

	/* A line of the journal is made in one. musl maps a page for that and unmaps it after each line,
	 * 70,000 instructions, unless something else is in it.
	 */
	r->stream = malloc(STREAM_SIZE);
	error = record_create(&c->rundir, r->image, r->process.argv, r->scratch, r->remove, e);
	if (!error)
		error = set_streams(r, e);
	if (error)
		return error;
	r->spec.start = !r->created;
	r->spec.name = RECORD_CONTAINER;
	if (!r->spec.hostname)
		r->spec.hostname = c->rundir.id;
	r->process.create = &r->spec;
	r->process.cancel = r->cancel;
	r->process.created = r->created ? created : NULL;
	r->process.started = started;
	r->process.out_of_memory = out_of_memory;
	r->process.ctx = r;
	return 0;
}

static int begin(struct run *r, struct err *e)
{
	struct clone *c = &r->clone;

	r->cancel = event_new(e);
	if (r->cancel < 0 || prepare_session(r, e))
		return -1;
	c->config.no_signals = true;
	c->config.console = (struct console_config){.mode = CONSOLE_LOG, .dir = c->rundir.dir};
	c->ready = ready;
	c->ctx = r;
	c->launch.say = say_ready;
	c->launch.ended = vm_ended;
	c->launch.quiet = true;
	return 0;
}

int run_here(struct run *r, struct err *e)
{
	if (begin(r, e)) {
		rundir_remove(&r->clone.rundir);
		return RUN_FAILED;
	}
	block_signals();
	clone_run(&r->clone, e);
	if (!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE))
		return RUN_FAILED; /* it did not come to a session */
	/* Not where a disk is kept, which another run may want at once, nor as the first process of a
	 * PID namespace, whose end waits for all others.
	 */
	if (!r->settle && !r->created)
		launch_leave_behind(r->clone.machine);
	if (!r->fault) /* else that is why the session has ended */
		*e = r->e;
	return r->status;
}

/* This process is the container's session and no more; the VM is another's. */
bool run_pooled(struct run *r, const char *template, int *status, struct err *e)
{
	struct clone *c = &r->clone;
	struct pool_request rq = {
		.id = r->id, .held = true, .agent = true, .session = true, .disks = c->config.fills};

	if (r->detach || r->settle || r->created || c->timing || !pool_fits(&c->config))
		return false;
	memcpy(rq.disk, c->config.fill, rq.disks * sizeof(rq.disk[0]));
	r->cancel = pool_take(template, &rq, &c->rundir, &r->tell);
	if (r->cancel < 0)
		return false;
	r->status = RUN_FAILED;
	if (!prepare_session(r, e)) {
		run_process(r);
		*e = r->e;
	}
	*status = r->status;
	pool_end(r->cancel);
	rundir_close(&c->rundir);
	return true;
}

int run_container(struct run *r, struct err *e)
{
	struct clone *c = &r->clone;
	int error = rundir_create(&c->rundir, r->id, e), status;

	if (error)
		return RUN_FAILED;
	c->launch.fd = -1;
	if (!r->detach)
		return run_here(r, e);
	error = launch_fork(&c->launch, e);
	if (error > 0)
		return run_here(r, e);
	if (error < 0) {
		rundir_remove(&c->rundir);
		return RUN_FAILED;
	}
	status = launch_await(&c->launch, e);
	if (!status)
		printf("%s\n", c->rundir.id);
	/* EXIT_FAIL: it was killed, or late. */
	return status == EXIT_FAIL ? RUN_FAILED : status;
}
