/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/clone.h"
#include "vmm/journal.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/machine_state.h"

/* The agent's own limit, and time for the way there and back. */
#define FREEZE_TIMEOUT_MS (AGENT_FREEZE_MS + 1000)

#define PROGRESS_NS 100000000u

/* Whether there is one to be told: ours, or one that came with an initrd and has said HELLO. */
static bool has_agent(const struct machine *m)
{
	return m->config.agent || m->mark[MARK_READY];
}

/* --- the end of an operation --- */

static void finish(struct freeze *f);

static void thawed(void *ctx, int result, struct err *e)
{
	struct freeze *f = ctx;

	if (result)
		log_line("the guest's processes were not thawed: %s", e->text);
	f->thawing = false;
	finish(f);
}

/* Tells the agent to let the guest's processes go on; the operation is not over before it has. */
static void thaw(struct freeze *f)
{
	struct machine *m = f->m;
	struct err e;

	if (!has_agent(m))
		return;
	f->thawing = !link_request(&m->link, AGENT_THAW, NULL, 0, FREEZE_TIMEOUT_MS, thawed, f, &e);
	if (!f->thawing)
		log_line("the guest's processes cannot be thawed: %s", e.text);
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

/* Answers, once everything has come to its end: every child, and the thawing. */
static void finish(struct freeze *f)
{
	char text[CONTROL_ANSWER];
	int n;

	if (f->children || f->thawing)
		return;
	/* All forks or none: the client hears of the failure and not of those that are there. */
	for (unsigned int i = 0; i < f->made; i++) {
		if (*f->failed.text && !f->snapshot && f->child[i].good)
			syscall(SYS_pidfd_send_signal, f->child[i].process, SIGTERM, NULL, 0);
		if (f->child[i].process >= 0)
			close(f->child[i].process);
	}
	if (!*f->failed.text)
		note(f);
	f->made = 0;
	state_discard(&f->state);
	snapshot_drop(&f->draft);
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

static void child_gone(struct freeze_child *c)
{
	struct freeze *f = c->freeze;

	loop_del(&f->m->loop, &c->pipe);
	close(c->pipe.fd);
	c->pipe.fd = -1;
	if (!c->good && !*f->failed.text)
		err_set(&f->failed, 0, "the %s ended before it was done",
			f->snapshot ? "process that saves" : "fork");
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
		if (!*f->failed.text)
			err_set(&f->failed, 0, "%s", line + 6);
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
	if (n <= 0 || c->len == sizeof(c->line) - 1)
		child_gone(c);
}

static void report(int fd, const char *what, const char *text)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "%s%s%s\n", what, *text ? " " : "", text);

	write_all(fd, line, MIN((size_t)n, sizeof(line) - 1));
}

/* --- in the child --- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes every descriptor but the standard ones and those to keep: the parent's locks, sockets and
 * VM would live on in this process. Those to keep are sorted by it.
 */
static void close_others(const struct machine *m, int *keep, size_t n)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;

	qsort(keep, n, sizeof(*keep), by_number);
	for (unsigned int i = 0; i < m->vcpus; i++)
		munmap(m->vcpu[i].run, m->kvm.run_size); /* it holds the whole VM */
	while (d && (entry = readdir(d))) {
		int fd = atoi(entry->d_name);

		if (fd > STDERR_FILENO && fd != dirfd(d) &&
		    !bsearch(&fd, keep, n, sizeof(*keep), by_number))
			close(fd);
	}
	if (d)
		closedir(d);
}

static unsigned int keep_snapshot(const struct snapshot *s, int *keep)
{
	unsigned int n = 0;

	for (; s; s = s->parent) {
		keep[n++] = s->dir;
		keep[n++] = s->memory;
	}
	return n;
}

struct progress {
	int fd;
	uint64_t next; /* when the next report is due */
};

static int tell_progress(void *ctx, uint64_t done, uint64_t all)
{
	struct progress *p = ctx;
	uint64_t now = now_ns();
	char text[64];

	if (now < p->next)
		return 0;
	p->next = now + PROGRESS_NS;
	snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64, done, all);
	report(p->fd, "progress", text);
	return 0;
}

/* What the manifest says of the VM. */
static void describe(const struct machine *m, struct snapshot_manifest *out)
{
	const char *kernel = m->config.kernel ? m->config.kernel : "";

	out->source.len = (uint32_t)snprintf(out->source.s, sizeof(out->source.s), "%s",
					     m->rundir->id);
	out->kernel.len = (uint32_t)snprintf(out->kernel.s, sizeof(out->kernel.s), "%s", kernel);
	out->cpus = m->config.cpus;
	out->agent = m->mark[MARK_READY];
	out->has_root = m->config.has_root;
	out->disks = m->config.disks;
}

/* Whether the snapshot that memory was mapped from is still there: else all has to be saved. */
static bool parent_there(const struct snapshot *s)
{
	struct snapshot *now = calloc(1, sizeof(*now));
	struct err ignored;
	bool there = now && s && !snapshot_read_manifest(now, s->path, &ignored) &&
		     !memcmp(now->m.uuid, s->m.uuid, sizeof(now->m.uuid));

	if (now)
		snapshot_close(now);
	free(now);
	return there && (!s->parent || parent_there(s->parent));
}

static _Noreturn void save_and_exit(struct freeze *f, struct snapshot_disk *disk, int fd)
{
	struct snapshot_manifest *manifest = calloc(1, sizeof(*manifest));
	const struct snapshot *parent = f->m->snapshot;
	int keep[2 * MEMFILE_LAYERS + 3] = {fd, f->draft.at, f->draft.dir};
	struct progress progress = {.fd = fd, .next = now_ns() + PROGRESS_NS};
	struct err e;
	int r;

	close_others(f->m, keep, 3 + keep_snapshot(parent, keep + 3));
	if (!manifest)
		r = err_set(&e, ENOMEM, "out of memory");
	else {
		describe(f->m, manifest);
		manifest->unsummed = f->stop && f->m->config.sum_later;
		r = snapshot_fill(&f->draft, manifest, disk, &f->state, &f->m->mem, parent,
				  parent_there(parent), tell_progress, &progress, &e);
	}
	if (!r)
		r = snapshot_publish(&f->draft, &e);
	report(fd, r ? "error" : "ok", r ? e.text : "");
	_exit(r ? 1 : 0);
}

/* A fork's configuration is its parent's; its console is a log of its own. */
static void become(struct clone *c, struct freeze *f, const struct state_reader *state)
{
	c->config = f->m->config;
	c->config.agent = has_agent(f->m);
	c->config.no_signals = false;
	c->config.cgroup = (struct cgroup_config){NULL}; /* it is in its parent's */
	c->config.fills = c->config.share_fills = 0; /* they are, if its parent was a clone */
	c->config.console = (struct console_config){.mode = CONSOLE_LOG};
	/* Its networks stay the parent's alone. */
	memset(c->config.net, 0, sizeof(c->config.net));
	c->source = (struct machine_source){
		.state = state, .snapshot = f->m->snapshot, .parent = f->m};
}

static unsigned int keep_disks(const struct machine *m, int *keep)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < m->config.disks; i++) {
		const struct disk *d = m->disk[i];

		keep[n++] = d->image.fd;
		keep[n++] = d->spare;
		for (uint32_t k = 1; k < d->now.files; k++)
			keep[n++] = d->layer[k - 1]->fd;
	}
	return n;
}

/* What the guest has open in shares, into keep (NULL: only counted). Returns how many. */
static size_t keep_shares(const struct machine *m, int *keep)
{
	size_t n = 0;

	for (unsigned int i = 0; i < m->config.shares; i++)
		if (m->share[i].server)
			n += fuse_server_fds(m->share[i].server, keep ? keep + n : NULL);
	return n;
}

/* Says "id NAME" instead of the byte that a starter waits for. */
static void fork_ready(struct launch *l, const struct rundir *vm)
{
	report(l->fd, "id", vm->id);
	close(l->fd);
	l->fd = -1;
}

static _Noreturn void live_on(struct freeze *f, int fd)
{
	size_t room = MACHINE_MAX_DISKS * (SNAPSHOT_DISK_LAYERS + 2) + 2 * MEMFILE_LAYERS + 1 +
		      keep_shares(f->m, NULL);
	int *keep = malloc(room * sizeof(*keep));
	struct clone *c = calloc(1, sizeof(*c));
	struct state_reader state;
	size_t n = 0;
	struct err e;
	int status = EXIT_FAILURE, r;

	if (!keep) {
		report(fd, "error", "out of memory");
		_exit(status);
	}
	keep[n++] = fd;
	n += keep_snapshot(f->m->snapshot, keep + n);
	n += keep_disks(f->m, keep + n);
	n += keep_shares(f->m, keep + n);
	close_others(f->m, keep, n);
	free(keep);
	r = launch_background(&e);
	if (!r)
		r = c ? state_open(&state, f->state.data, f->state.len, SNAPSHOT_STATE_KIND, "fork",
				   &e)
		      : err_set(&e, ENOMEM, "out of memory");
	if (!r)
		r = rundir_create(&c->rundir, *f->name ? f->name : NULL, &e);
	if (!r) {
		become(c, f, &state);
		c->config.console.dir = c->rundir.dir;
		c->launch = (struct launch){.fd = fd, .say = fork_ready};
		status = clone_run(c, &e);
		if (!status)
			_exit(0);
	}
	if (c && c->launch.fd < 0 && !r)
		log_line("%s", e.text);
	else
		report(fd, "error", e.text);
	_exit(status);
}

/* --- the standstill --- */

static int watch_child(struct freeze *f, int process, int fd)
{
	struct freeze_child *c = &f->child[f->made];

	*c = (struct freeze_child){
		.freeze = f, .process = process, .pipe = {.fd = fd, .ready = child_ready}};
	if (loop_add(&f->m->loop, &c->pipe, EPOLLIN)) {
		close(fd);
		close(process);
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

	if (pipe2(fd, O_CLOEXEC))
		return err_sys(e, "cannot make a pipe");
	pid = fork();
	if (!pid) {
		close(fd[0]);
		if (f->snapshot)
			save_and_exit(f, disk, fd[1]);
		live_on(f, fd[1]);
	}
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return err_sys(e, "cannot make a process");
	}
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (watch_child(f, (int)syscall(SYS_pidfd_open, pid, 0), fd[0]))
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
		r = disk_copy(m->disk[i], f->draft.dir, i, gone, &disk[i], e);
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
	for (unsigned int i = 0; i < f->forks && !r; i++)
		r = make_child(f, NULL, e);
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
	if (m->config.agent && !m->mark[MARK_READY])
		return err_set(e, EAGAIN, "the guest's agent is not ready yet");
	if (!has_agent(m))
		return f->prepare ? err_set(e, ENOTSUP, "the guest has no agent") : 0;
	if (!f->prepare)
		return freeze_guest(f, e);
	/* A share is for containers of the OCI runtime, which are each made in another way. */
	return warmup_container(&f->warmup, &m->link, !m->config.shares, prepared, f, e);
}

static int busy(struct err *e)
{
	return err_set(e, EBUSY, "a snapshot or fork of this VM is under way");
}

int freeze_snapshot(struct freeze *f, struct control_ticket ticket, int at, const char *name,
		    enum control_snapshot how, struct err *e)
{
	int r = f->busy ? busy(e) : snapshot_draft(&f->draft, at, name, e);

	if (r) {
		close(at);
		return r;
	}
	f->snapshot = true;
	f->stop = how != CONTROL_GO_ON;
	f->prepare = how == CONTROL_TEMPLATE;
	r = begin(f, ticket, e);
	if (r) {
		snapshot_drop(&f->draft);
		close(at);
		return r;
	}
	f->busy = true;
	if (!has_agent(f->m))
		stand_still(f);
	return 0;
}

int freeze_fork(struct freeze *f, struct control_ticket ticket, const char *name, unsigned int n,
		struct err *e)
{
	int r;

	if (f->busy)
		return busy(e);
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
	if (!has_agent(f->m))
		stand_still(f);
	return 0;
}
