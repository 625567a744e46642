/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/freeze_child.h"
#include "vmm/journal.h"
#include "vmm/keeper.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/machine_state.h"

/* The agent's own limit, and time for the way there and back. */
#define FREEZE_TIMEOUT_MS (AGENT_FREEZE_MS + 1000)

/* --- the end of an operation --- */

static void finish(struct freeze *f);

static void thawed(void *ctx, int result, struct err *e)
{
	struct freeze *f = ctx;

	if (result)
		log_warn("the guest's processes were not thawed: %s", e->text);
	f->thawing = false;
	finish(f);
}

/* Tells the agent to let the guest's processes go on; the operation is not over before it has. */
static void thaw(struct freeze *f)
{
	struct machine *m = f->m;
	struct err e;

	if (!freeze_agent(m))
		return;
	f->thawing = !link_request(&m->link, AGENT_THAW, NULL, 0, FREEZE_TIMEOUT_MS, thawed, f, &e);
	if (!f->thawing)
		log_warn("the guest's processes cannot be thawed: %s", e.text);
}

/* Lets a guest go on that was frozen for nothing, or whose child has been made. */
static void go_on(struct freeze *f)
{
	machine_resume(f->m);
	thaw(f);
}

/* What was done, for those who watch. */
static void note(struct freeze *f)
{
	char id[RUNDIR_ID_MAX + 1];

	if (f->snapshot) {
		journal_number(f->m->rundir, "snapshot", "paused_us", f->paused_ns / 1000);
		return;
	}
	f->answer[f->answer_len] = 0;
	for (char *line = f->answer; *line; line += strcspn(line, "\n"), line += !!*line)
		if (sscanf(line, "id %64s", id) == 1)
			journal_text(f->m->rundir, "fork", "fork", id);
}

/* Of several forks it is told which ones failed. */
static void tell_lost(struct freeze *f)
{
	unsigned int started = 0;

	for (unsigned int i = 0; i < f->made; i++)
		started += f->child[i].good;
	if (f->lost.failed)
		several_tell(&f->lost, started, f->forks, "forks started, and were ended again", &f->failed);
}

/* Answers, once everything has come to its end: every child, and the thawing. */
static void finish(struct freeze *f)
{
	char text[CONTROL_ANSWER];
	int n;

	if (f->children || f->thawing)
		return;
	tell_lost(f);
	/* All forks or none: those that are there end if they are not told to stay, and the client hears of
	 * the failure only.
	 */
	for (unsigned int i = 0; i < f->made; i++) {
		if (f->child[i].pipe.fd < 0)
			continue;
		if (!*f->failed.text)
			(void)!write(f->child[i].pipe.fd, "g", 1);
		close(f->child[i].pipe.fd);
		f->child[i].pipe.fd = -1;
	}
	if (!*f->failed.text)
		note(f);
	f->made = 0;
	state_discard(&f->state);
	keeper_drop(f->m->rundir, &f->draft);
	if (f->draft.at >= 0)
		close(f->draft.at);
	f->draft.at = -1;
	if (*f->failed.text)
		n = snprintf(text, sizeof(text), "error %s\n\n", f->failed.text);
	else
		n = snprintf(text, sizeof(text), "ok\n%.*spaused_us %" PRIu64 "\n\n",
			     (int)f->answer_len, f->answer, f->paused_ns / 1000);
	f->busy = false;
	control_answer(&f->m->control, f->ticket, text, (size_t)n);
}

/* --- the child's report --- */

/* One of several forks, by its number from 1. */
static void lose(struct freeze *f, unsigned int i, const char *why)
{
	char name[16];

	snprintf(name, sizeof(name), "fork %u", i);
	several_failed(&f->lost, name, why);
}

static void child_failed(struct freeze_child *c, const char *why)
{
	struct freeze *f = c->freeze;

	if (c->failed)
		return;
	c->failed = true;
	if (f->snapshot || f->forks == 1)
		err_set(&f->failed, 0, "%s", why);
	else
		lose(f, (unsigned int)(c - f->child) + 1, why);
}

/* A child has come to its end; or a fork has begun to live, and waits for finish(). */
static void child_gone(struct freeze_child *c)
{
	struct freeze *f = c->freeze;

	loop_del(&f->m->loop, &c->pipe);
	if (f->snapshot || !c->good) {
		close(c->pipe.fd);
		c->pipe.fd = -1;
	}
	if (!c->good)
		child_failed(c, f->snapshot ? "the process that saves ended before it was done"
					    : "the fork ended before it was done");
	if (--f->children)
		return;
	if (f->snapshot) {
		if (!*f->failed.text)
			*f->draft.temp = 0; /* it has its name now */
		if (f->stop && !*f->failed.text)
			end_set(&f->m->end, END_STOPPED, "stopped after a snapshot");
		else if (f->stop)
			go_on(f);
	}
	finish(f);
}

/* "progress DONE ALL", "ok", "id NAME" or "error TEXT". */
static void child_line(struct freeze_child *c, const char *line)
{
	struct freeze *f = c->freeze;

	if (!strncmp(line, "progress ", 9)) {
		char text[128];
		int n = snprintf(text, sizeof(text), "%s\n", line);

		control_progress(&f->m->control, f->ticket, text, (size_t)n);
	} else if (!strncmp(line, "error ", 6)) {
		child_failed(c, line + 6);
	} else {
		c->good = true;
		if (!strncmp(line, "id ", 3) && f->answer_len < sizeof(f->answer) - 100)
			f->answer_len += (size_t)snprintf(f->answer + f->answer_len, 100, "%s\n",
							  line);
	}
}

static void child_ready(struct loop_source *s, uint32_t events)
{
	struct freeze_child *c = CONTAINER_OF(s, struct freeze_child, pipe);
	ssize_t n = read(s->fd, c->line + c->len, sizeof(c->line) - 1 - c->len);
	char *end;

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	c->len += (size_t)MAX(n, 0);
	c->line[c->len] = 0;
	while ((end = strchr(c->line, '\n'))) {
		*end = 0;
		child_line(c, c->line);
		c->len -= (size_t)(end + 1 - c->line);
		memmove(c->line, end + 1, c->len + 1);
	}
	if (n <= 0 || c->len == sizeof(c->line) - 1 || (c->good && !c->freeze->snapshot))
		child_gone(c);
}

/* --- the standstill --- */

static int watch_child(struct freeze *f, int fd)
{
	struct freeze_child *c = &f->child[f->made];

	*c = (struct freeze_child){.freeze = f, .pipe = {.fd = fd, .ready = child_ready}};
	if (loop_add(&f->m->loop, &c->pipe, EPOLLIN)) {
		close(fd);
		return -ENOMEM;
	}
	f->made++;
	f->children++;
	return 0;
}

/* Makes a child, which calls one of the two above and does not return. */
static int make_child(struct freeze *f, struct snapshot_disk *disk, struct err *e)
{
	int fd[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return err_sys(e, "cannot make a socket");
	pid = fork();
	if (!pid) {
		close(fd[0]);
		if (f->snapshot)
			freeze_save(f, disk, fd[1]);
		freeze_live_on(f, fd[1]);
	}
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return err_sys(e, "cannot make a process");
	}
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (watch_child(f, fd[0]))
		return err_set(e, ENOMEM, "out of memory");
	return 0;
}

static int take_state(struct freeze *f, struct err *e)
{
	struct machine *m = f->m;

	if (m->mark[MARK_READY] && !virtio_vsock_kept(&m->vsock, AGENT_PORT))
		return err_set(e, EBUSY, "the guest's agent is not at rest; try again");
	for (unsigned int i = 0; i < m->config.shares && f->snapshot; i++)
		if (share_mounted(&m->share[i]))
			return err_set(e, EBUSY,
				       "the share %.*s is mounted; unmount it in the guest first",
				       (int)VIRTIO_FS_TAG, m->share[i].fs.config.tag);
	state_begin(&f->state, SNAPSHOT_STATE_KIND);
	return machine_save(m, &f->state, e);
}

static int take_snapshot(struct freeze *f, struct err *e)
{
	struct machine *m = f->m;
	struct snapshot_disk *disk = calloc(m->config.disks + 1, sizeof(*disk));
	const struct snapshot *gone =
		m->snapshot && snapshot_replaces(&f->draft, m->snapshot) ? m->snapshot : NULL;
	int r = disk ? 0 : err_set(e, ENOMEM, "out of memory");

	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = disk_copy(m->disk[i], &f->draft, i, gone, &disk[i], e);
	if (!r)
		r = make_child(f, disk, e);
	free(disk);
	return r;
}

static int take_forks(struct freeze *f, struct err *e)
{
	struct machine *m = f->m;
	/* A child reads the state as a file: with its length and sum. */
	int r = state_finish(&f->state, e);

	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = disk_share(m->disk[i], m->rundir, e);
	for (unsigned int i = 0; i < f->forks && !r; i++) {
		r = make_child(f, NULL, e);
		if (r && f->forks > 1)
			lose(f, i + 1, e->text);
	}
	for (unsigned int i = 0; i < m->config.disks; i++)
		disk_continue(m->disk[i]);
	return r;
}

static void stand_still(struct freeze *f)
{
	uint64_t before = now_ns();
	bool alive = machine_pause(f->m);
	struct err e;
	int r = alive ? take_state(f, &e) : err_set(&e, ESRCH, "the VM has ended");

	if (!r)
		r = f->snapshot ? take_snapshot(f, &e) : take_forks(f, &e);
	if (r)
		f->failed = e;
	if (alive && !(f->stop && !r))
		go_on(f);
	f->paused_ns = now_ns() - before;
	finish(f);
}

static void frozen(void *ctx, int result, struct err *e)
{
	struct freeze *f = ctx;

	if (!result) {
		stand_still(f);
		return;
	}
	err_set(&f->failed, 0, "the guest's processes cannot be frozen: %s", e->text);
	if (result == -ETIMEDOUT) /* it may freeze them yet */
		thaw(f);
	finish(f);
}

/* --- beginning --- */

void freeze_init(struct freeze *f, struct machine *m)
{
	f->m = m;
	f->draft.at = f->draft.dir = -1;
	signal(SIGCHLD, SIG_IGN); /* children report through their pipes, and leave no zombie */
}

static int freeze_guest(struct freeze *f, struct err *e)
{
	return link_request(&f->m->link, AGENT_FREEZE, NULL, 0, FREEZE_TIMEOUT_MS, frozen, f, e);
}

static void prepared(void *ctx, int result, struct err *e)
{
	struct freeze *f = ctx;

	if (result)
		err_set(&f->failed, 0, "no container can be prepared: %s", e->text);
	else if (freeze_guest(f, e))
		f->failed = *e;
	if (*f->failed.text)
		finish(f);
}

static int begin(struct freeze *f, struct control_ticket ticket, struct err *e)
{
	struct machine *m = f->m;

	if (m->paused)
		return err_set(e, EBUSY, "the VM is paused; 'uvm resume %s' first", m->rundir->id);
	f->ticket = ticket;
	f->answer_len = 0;
	f->made = f->children = 0;
	*f->failed.text = 0;
	f->lost = (struct several){0};
	if (m->config.agent && !m->mark[MARK_READY])
		return err_set(e, EAGAIN, "the guest's agent is not ready yet");
	if (!freeze_agent(m))
		return f->prepare ? err_set(e, ENOTSUP, "the guest has no agent") : 0;
	if (!f->prepare)
		return freeze_guest(f, e);
	/* A share is for containers of the OCI runtime, which are each made in another way. */
	return warmup_container(&f->warmup, &m->link, !m->config.shares, prepared, f, e);
}

int freeze_idle(const struct freeze *f, struct err *e)
{
	return f->busy ? err_set(e, EBUSY, "a snapshot or fork of this VM is under way") : 0;
}

int freeze_snapshot(struct freeze *f, struct control_ticket ticket, int at, const char *place,
		    const char *name, enum control_snapshot how, struct err *e)
{
	int r = freeze_idle(f, e);

	if (!r)
		r = keeper_replaceable(f->m->rundir, at, name, e);
	if (!r)
		r = keeper_draft(f->m->rundir, f->m->confine.reach == CONFINE_FILES, &f->draft, at, place, name, e);
	if (r) {
		close(at);
		return r;
	}
	f->snapshot = true;
	f->stop = how != CONTROL_GO_ON;
	f->prepare = how == CONTROL_TEMPLATE;
	r = begin(f, ticket, e);
	if (r) {
		keeper_drop(f->m->rundir, &f->draft);
		close(at);
		return r;
	}
	f->busy = true;
	if (!freeze_agent(f->m))
		stand_still(f);
	return 0;
}

int freeze_fork(struct freeze *f, struct control_ticket ticket, const char *name, unsigned int n,
		struct err *e)
{
	int r = freeze_idle(f, e);

	if (r)
		return r;
	if (n < 1 || n > FREEZE_FORKS || (*name && n > 1))
		return err_set(e, EINVAL, "1 to %u forks, and a name for one only", FREEZE_FORKS);
	f->snapshot = f->stop = f->prepare = false;
	f->forks = n;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->draft.at = -1;
	r = begin(f, ticket, e);
	if (r)
		return r;
	f->busy = true;
	if (!freeze_agent(f->m))
		stand_still(f);
	return 0;
}
