/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_fixture.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "vmm/util.h"

pid_t agent_pid;

int link_fd = -1;
bool has_freezer;
struct identity_record *identity_record;

static struct agent agent; /* used by the child */
static char cgroup[PATH_MAX];
static int listener;
static uint32_t idle_conns; /* the link, and that of the question */
static int idle_fds;	    /* what the agent has open when nothing goes on */
static struct sockaddr_un address;
static socklen_t address_size;

int dial_agent(void *ctx, int *fds, unsigned int n, struct err *e)
{
	(void)ctx;
	for (unsigned int i = 0; i < n; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fds[i], (const struct sockaddr *)&address, address_size)) {
			int r = err_sys(e, "connect");

			for (unsigned int k = 0; k <= i; k++)
				close(fds[k]);
			return r;
		}
	}
	return 0;
}

/* How many children pid has, zombies included. With signo, each gets it. */
static int children(pid_t pid, int signo)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	int n = 0;

	while ((d = readdir(proc))) {
		char path[300], line[512] = "", state;
		int parent, fd, child = atoi(d->d_name);

		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		fd = child ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (read(fd, line, sizeof(line) - 1) > 0 && strrchr(line, ')') &&
		    sscanf(strrchr(line, ')') + 1, " %c %d", &state, &parent) == 2 &&
		    parent == pid) {
			n++;
			if (signo)
				kill(child, signo);
		}
		close(fd);
	}
	closedir(proc);
	return n;
}

/* For the agent under test: "every process" is its own children only. */
static void signal_children(int signo)
{
	children(getpid(), signo);
}

static int count_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	ck_assert(dir != NULL);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int record_identity(const struct identity *id, const struct agent_identity *m,
			   const char **why)
{
	(void)id;
	identity_record->times++;
	identity_record->last = *m;
	*why = "as the test wants";
	return identity_record->result;
}

static int record_mounts(struct words *w)
{
	identity_record->mounts += w->mounts;
	w->mounts = 0;
	strcpy(w->why, "no mounts here");
	return identity_record->mount_result;
}

static _Noreturn void agent_main(int link)
{
	static struct freezer freezer;
	static struct words words;
	struct serve_config config = {.listen_fd = listener,
				      .link_fd = link,
				      .start_ns = 5,
				      .signal_all = signal_children,
				      .freezer = &freezer,
				      .take_identity = record_identity,
				      .words = &words,
				      .mount_words = record_mounts};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* As PID 1 it adopts orphans, and has no descriptors but its own. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	freezer_open(&freezer, has_freezer ? cgroup : "/nonexistent");
	r = serve(&agent, &config);
	_exit(r < 0 ? 100 : r);
}

void read_agent_identity(struct agent_identity *m)
{
	struct iovec to = {m, sizeof(*m)}, from = {&agent.identity, sizeof(*m)};

	ck_assert_int_eq(process_vm_readv(agent_pid, &to, 1, &from, 1, 0), sizeof(*m));
}

int ping_agent(struct agent_info *i, struct err *e)
{
	struct agent_message m;
	int fd, r = dial_agent(NULL, &fd, 1, e);

	if (r)
		return r;
	r = agent_send(fd, AGENT_PING, NULL, 0, agent_deadline(), e);
	if (!r)
		r = agent_await(fd, &m, agent_deadline(), e);
	close(fd);
	if (!r && m.head.type != AGENT_INFO)
		return err_set(e, EPROTO, "an answer of type %u to PING", m.head.type);
	*i = m.info;
	return r;
}

static struct agent_info info(void)
{
	struct agent_info i;
	struct err e;

	ck_assert_msg(!ping_agent(&i, &e), "%s", e.text);
	return i;
}

static void write_text(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s",
		      file);
	close(fd);
}

static bool find_cgroup2(char *path, size_t size)
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char line[PATH_MAX * 2], type[64];
	bool found = false;

	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %4095s %63s", path, type) == 2 &&
			!strcmp(type, "cgroup2") && strlen(path) + 64 < size;
	if (mounts)
		fclose(mounts);
	return found;
}

const char *make_cgroup(void)
{
	char root[PATH_MAX], file[PATH_MAX + 32];

	if (!find_cgroup2(root, sizeof(root)))
		return NULL;
	snprintf(cgroup, sizeof(cgroup), "%.3000s/uvm-test-%d", root, getpid());
	snprintf(file, sizeof(file), "%s/cgroup.freeze", cgroup);
	if (mkdir(cgroup, 0755) || access(file, W_OK))
		return NULL;
	return cgroup;
}

void remove_cgroup(void)
{
	DIR *dir = opendir(cgroup);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (d->d_type == DT_DIR && d->d_name[0] != '.')
			unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
	if (dir)
		closedir(dir);
	rmdir(cgroup);
}

/* The agent, in the cgroup that is its root. */
static void fork_agent(int link)
{
	char file[PATH_MAX + 32];

	agent_pid = fork();
	ck_assert(agent_pid >= 0);
	if (agent_pid)
		return;
	if (has_freezer) {
		snprintf(file, sizeof(file), "%s/cgroup.procs", cgroup);
		write_text(file, "0");
	}
	if (link_fd >= 0)
		close(link_fd);
	agent_main(link);
}

static void start(int link)
{
	/* A shell's background jobs ignore some, which a command of the agent's would inherit. */
	for (int signo = 1; signo < 32; signo++)
		signal(signo, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	address.sun_family = AF_UNIX;
	/* Abstract: works where the file system has no sockets, and leaves nothing behind. */
	address_size =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
					     "uvm-test-agent-%d", getpid()));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert(!bind(listener, (struct sockaddr *)&address, address_size));
	ck_assert(!listen(listener, 4096));
	fork_agent(link);
	idle_conns = 1 + (link >= 0);
	/* Its answer on one connection says that it has closed those before. */
	info();
	while (info().connections > idle_conns)
		continue;
	idle_fds = count_fds(agent_pid);
}

void start_agent(void)
{
	start(-1);
}

void start_linked_agent(void)
{
	int pair[2];

	identity_record = mmap(NULL, sizeof(*identity_record), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(identity_record != MAP_FAILED);
	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	link_fd = pair[0];
	start(pair[1]);
	close(pair[1]);
}

void start_freezable_agent(void)
{
	has_freezer = make_cgroup();
	start_linked_agent();
}

void settle(void)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;
	struct agent_info i = {0};
	int fds = 0, kids = 0;

	while (now_ns() < deadline) {
		i = info();
		kids = children(agent_pid, 0);
		fds = count_fds(agent_pid);
		/* One of the pings may still be open. */
		if (!i.sessions && i.connections <= idle_conns && !kids && fds <= idle_fds + 1)
			return;
		sched_yield();
	}
	ck_abort_msg("left behind: %u sessions, %u connections, %d processes, %d descriptors",
		     i.sessions, i.connections - idle_conns, kids, fds - idle_fds);
}

void await_sessions(uint32_t n)
{
	while (info().sessions != n)
		sched_yield();
}

int agent_result(void)
{
	int ws;

	ck_assert_int_eq(waitpid(agent_pid, &ws, 0), agent_pid);
	agent_pid = 0;
	return WIFEXITED(ws) ? WEXITSTATUS(ws) : -1;
}

void stop_agent(void)
{
	if (agent_pid) {
		settle();
		kill(agent_pid, SIGKILL);
		waitpid(agent_pid, NULL, 0);
	}
	close(listener);
	if (has_freezer)
		remove_cgroup();
}
