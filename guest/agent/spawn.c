/* SPDX-License-Identifier: Apache-2.0
 *
 * Theory of operation. What needs the guest's rights comes first, then the user is changed, and from
 * then on the process has no more rights than its program will have: its directory and its program are
 * looked up with those, and it has no descriptor through which a name like /proc/self/fd/7 would lead
 * out of its container. Others in there must not look into it or trace it while it still is more than
 * they are: it is not dumpable.
 *
 * Memory is the agent's, copied on write. fork and not vfork: the agent would stand still while the
 * program's file is read, which a file system served from inside the guest could make last for ever.
 */
#include "guest/agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>

#include "guest/agent/mount.h"
#include "guest/agent/own.h"
#include "guest/agent/text.h"
#include "guest/agent/user.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Everything the child needs beside its orders, so that its steps read as a list. */
struct child {
	const struct spawn *s;
	struct spawn own; /* s, when its report has moved */
	bool other_user;
	struct user user;
	char home[sizeof("HOME=") + USER_HOME_MAX];
	char file[PATH_MAX]; /* the program's */
	char *vec[AGENT_STRINGS_MAX + WORDS_ENV_MAX + 5]; /* two NULLs, up to three variables of ours */
	char **argv;			  /* ends in NULL */
	char **envp;
};

_Noreturn void spawn_fail(const struct spawn *s, uint32_t kind, const char *what, const char *name)
{
	struct {
		struct agent_error error;
		char text[AGENT_TEXT_MAX];
	} m = {.error = {.code = (uint32_t)errno, .kind = kind}};
	size_t n = append(m.text, sizeof(m.text), 0, what);

	if (name) {
		n = append(m.text, sizeof(m.text), n, " '");
		n = append(m.text, sizeof(m.text), n, name);
		n = append(m.text, sizeof(m.text), n, "'");
	}
	/* Nothing can be done if this fails: the agent then takes the exit for the program's. */
	(void)!write(s->report, &m, sizeof(m.error) + n);
	_exit(127);
}

_Noreturn void spawn_refuse(const struct spawn *s, const char *what, const char *name)
{
	spawn_fail(s, AGENT_REFUSED, what, name);
}

int spawn_want(const struct spawn *s, int r, const char *what, const char *name)
{
	if (r >= 0)
		return r;
	errno = -r;
	spawn_refuse(s, what, name);
}

int spawn_open_dir(const struct spawn *s, const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		spawn_refuse(s, "cannot open", path);
	return fd;
}

static _Noreturn void not_run(const struct child *ch, const char *what, const char *name)
{
	spawn_fail(ch->s, AGENT_NOT_RUN, what, name);
}

union fd_control {
	struct cmsghdr head;
	char space[CMSG_SPACE(sizeof(int))];
};

static void send_byte(const struct spawn *s, char byte, int fd)
{
	union fd_control control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
					     .cmsg_level = SOL_SOCKET,
					     .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		m.msg_control = control.space;
		m.msg_controllen = sizeof(control.space);
	}
	if (sendmsg(s->report, &m, MSG_NOSIGNAL) != 1)
		_exit(127); /* there is no agent */
}

void spawn_ready(const struct spawn *s)
{
	send_byte(s, SPAWN_READY, -1);
}

void spawn_layer(const struct spawn *s, int fd)
{
	send_byte(s, SPAWN_LAYER, fd);
}

ssize_t spawn_receive(int report, void *buf, size_t size, int *fd)
{
	union fd_control control = {0};
	struct iovec iov = {buf, size};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	ssize_t n = recvmsg(report, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (n >= 0 && m.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    control.head.cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(&control.head), sizeof(*fd));
	return n;
}

static const char *find_env(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* The user's home, as a variable. */
static char *home_variable(struct child *ch)
{
	struct user *u = &ch->user;

	if (ch->s->enter && !*u->home)
		user_find_home(u);
	if (!*u->home)
		strcpy(u->home, u->uid ? "/" : "/root");
	strcpy(ch->home, "HOME=");
	return strcat(ch->home, u->home);
}

/* Fills argv and envp, which lie in one array, with pointers to the strings. */
static void list_strings(struct child *ch)
{
	const struct agent_exec *x = &ch->s->command->exec;
	char *s = ch->s->command->strings, **vec = ch->vec;

	ch->argv = vec;
	for (uint32_t i = 0; i < x->argc; i++, s += strlen(s) + 1)
		*vec++ = s;
	*vec++ = NULL;
	ch->envp = vec;
	for (uint32_t i = 0; i < x->envc; i++, s += strlen(s) + 1)
		*vec++ = s;
	*vec = NULL;
	if (ch->s->words)
		vec = words_env(ch->s->words, ch->envp, vec);
	if (!find_env(ch->envp, "PATH"))
		*vec++ = (char *)(uintptr_t)DEFAULT_PATH;
	*vec = NULL;
	if (!find_env(ch->envp, "HOME"))
		*vec++ = home_variable(ch);
	*vec = NULL;
	if (ch->s->tty && !find_env(ch->envp, "TERM"))
		*vec++ = (char *)(uintptr_t) "TERM=xterm";
	*vec = NULL;
}

/* A terminal of the devpts that is here. Returns its end for the process. */
static int open_terminal(const struct child *ch)
{
	const struct agent_exec *x = &ch->s->command->exec;
	struct winsize size = {.ws_row = x->rows, .ws_col = x->cols};
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), unlock = 0, fd;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock))
		spawn_refuse(ch->s, "cannot make a terminal", NULL);
	ioctl(master, TIOCSWINSZ, &size);
	fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		spawn_refuse(ch->s, "cannot open the terminal", NULL);
	send_byte(ch->s, SPAWN_TERMINAL, master);
	close(master);
	return fd;
}

/* A container's terminal is its console, too, where it has such a file. */
static void make_console(const struct child *ch, int terminal)
{
	int console = open("/dev/console", O_PATH | O_NOFOLLOW | O_CLOEXEC), tree;

	if (console < 0)
		return;
	tree = mount_copy(terminal, "", false);
	if (tree < 0 || mount_attach(tree, console, ""))
		spawn_refuse(ch->s, "cannot make the terminal the console", NULL);
	close(tree);
	close(console);
}

static void take_stdio(const struct child *ch)
{
	int fd[3] = {ch->s->fd[0], ch->s->fd[1], ch->s->fd[2]};

	if (ch->s->tty) {
		fd[0] = fd[1] = fd[2] = open_terminal(ch);
		if (ioctl(fd[0], TIOCSCTTY, 0))
			spawn_refuse(ch->s, "cannot take the terminal", NULL);
		if (ch->s->wait)
			make_console(ch, fd[0]);
	}
	for (int i = 0; i < 3; i++)
		if (dup2(fd[i], i) < 0)
			spawn_refuse(ch->s, "cannot set up standard input and output", NULL);
}

static void set_oom_score(const struct child *ch)
{
	const struct agent_exec *x = &ch->s->command->exec;
	char digits[NUMBER_SIZE], text[NUMBER_SIZE + 1];
	int64_t score = x->oom_score_adj;
	size_t n;
	int fd;

	if (!(x->flags & AGENT_EXEC_OOM))
		return;
	n = compose(text, sizeof(text), score < 0 ? "-" : "",
		     number_text(digits, (uint64_t)(score < 0 ? -score : score)), NULL);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n)
		spawn_refuse(ch->s, "cannot set oom_score_adj", NULL);
	close(fd);
}

static void set_limits(const struct child *ch)
{
	const struct command *c = ch->s->command;

	for (uint32_t i = 0; i < c->exec.rlimit_count; i++) {
		const struct rlimit limit = {.rlim_cur = c->rlimits[i].soft,
					     .rlim_max = c->rlimits[i].hard};

		if (prlimit(0, (int)c->rlimits[i].resource, &limit, NULL))
			spawn_refuse(ch->s, "cannot set a limit of its resources", NULL);
	}
}

/* Leaves 0 to 2 and the report, which becomes 3; and the layers. */
static void close_rest(struct child *ch)
{
	unsigned int first = 4;

	ch->own = *ch->s;
	if (ch->s->upper >= 0) {
		/* Out of each other's way first. */
		int lower = fcntl(ch->s->lower, F_DUPFD, OWN_UPPER + 1);
		int upper = fcntl(ch->s->upper, F_DUPFD, OWN_UPPER + 1);

		ch->own.report = fcntl(ch->s->report, F_DUPFD, OWN_UPPER + 1);
		if (dup2(lower, OWN_LOWER) < 0 || dup2(upper, OWN_UPPER) < 0)
			spawn_refuse(ch->s, "cannot keep a descriptor", NULL);
		first = OWN_UPPER + 1;
	}
	if (ch->own.report != 3 && dup3(ch->own.report, 3, O_CLOEXEC) < 0)
		spawn_refuse(ch->s, "cannot keep a descriptor", NULL);
	ch->own.report = 3;
	ch->s = &ch->own;
	if (syscall(SYS_close_range, first, ~0u, 0u))
		spawn_refuse(ch->s, "cannot close descriptors", NULL);
}

static void find_user(struct child *ch)
{
	const struct command *c = ch->s->command;
	struct user *u = &ch->user;

	*u = (struct user){0};
	ch->other_user = c->user || c->exec.flags & AGENT_EXEC_USER || c->exec.group_count;
	if (c->user && !user_find(u, c->user)) {
		errno = EINVAL;
		not_run(ch, "there is no user or group", c->user);
	}
	if (c->exec.flags & AGENT_EXEC_USER) {
		u->uid = c->exec.uid;
		u->gid = c->exec.gid;
	}
	for (uint32_t i = 0; i < c->exec.group_count; i++)
		u->groups[u->group_count++] = c->groups[i];
}

static void install_filter(const struct child *ch)
{
	const struct command *c = ch->s->command;
	struct sock_fprog program = {.len = (unsigned short)c->exec.filter_count,
				     .filter = (struct sock_filter *)(uintptr_t)c->filter};
	unsigned long flags = 0;

	if (!c->exec.filter_count)
		return;
	if (c->exec.flags & AGENT_EXEC_LOG)
		flags |= SECCOMP_FILTER_FLAG_LOG;
	if (c->exec.flags & AGENT_EXEC_SPEC)
		flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program))
		spawn_refuse(ch->s, "cannot install the seccomp filter", NULL);
}

static void drop_bounding(const struct child *ch, uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++)
		if (!(keep & UINT64_C(1) << cap) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 &&
		    prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			spawn_refuse(ch->s, "cannot drop a capability", NULL);
}

/* Those that the kernel does not know are no loss. */
static uint64_t known_caps(void)
{
	unsigned long cap = 0;

	while (cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0)
		cap++;
	return cap == 64 ? UINT64_MAX : (UINT64_C(1) << cap) - 1;
}

static void set_caps(const struct child *ch, const struct agent_caps *caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint64_t known = known_caps();

	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)((caps->effective & known) >> 32 * i),
			.permitted = (uint32_t)((caps->permitted & known) >> 32 * i),
			.inheritable = (uint32_t)((caps->inheritable & known) >> 32 * i)};
	if (syscall(SYS_capset, &head, data))
		spawn_refuse(ch->s, "cannot set the capabilities", NULL);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; cap < 64; cap++)
		if (caps->ambient & known & UINT64_C(1) << cap &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0))
			spawn_refuse(ch->s, "cannot raise an ambient capability", NULL);
}

static void change_user(const struct child *ch)
{
	const struct user *u = &ch->user;
	gid_t groups[sizeof(u->groups) / sizeof(u->groups[0])];

	if (!ch->other_user)
		return;
	/* So that the user can open /dev/stdout. Not /dev/null, which is everybody's. */
	for (int i = 0; i < 3; i++)
		if (ch->s->tty || lseek(i, 0, SEEK_CUR) < 0)
			(void)!fchown(i, u->uid, u->gid);
	for (uint32_t i = 0; i < u->group_count; i++)
		groups[i] = u->groups[i];
	/* The calls themselves: libc's would stop all threads, of which there is one. */
	if (syscall(SYS_setgroups, u->group_count, groups) || syscall(SYS_setgid, u->gid) ||
	    syscall(SYS_setuid, u->uid))
		not_run(ch, "cannot change the user", NULL);
}

/* With capabilities to keep, the change of the user must not take them. */
static void become_user(const struct child *ch)
{
	const struct agent_exec *x = &ch->s->command->exec;
	const struct agent_caps *caps = x->flags & AGENT_EXEC_CAPS ? &x->caps : ch->s->caps;
	uint64_t left = ~ch->s->denied;
	struct agent_caps fewer;

	if (ch->s->denied) {
		fewer = caps ? *caps : (struct agent_caps){left, left, 0, left, 0};
		fewer = (struct agent_caps){fewer.bounding & left, fewer.effective & left,
					    fewer.inheritable & left, fewer.permitted & left,
					    fewer.ambient & left};
		caps = &fewer;
	}
	if (!(x->flags & AGENT_EXEC_NO_NEW_PRIVS))
		install_filter(ch); /* which takes CAP_SYS_ADMIN */
	if (caps) {
		drop_bounding(ch, caps->bounding);
		prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	}
	change_user(ch);
	if (caps) {
		set_caps(ch, caps);
		prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	}
}

static bool is_program(const char *file)
{
	struct stat st;

	if (stat(file, &st))
		return false;
	if (!S_ISREG(st.st_mode)) {
		errno = EACCES;
		return false;
	}
	return !access(file, X_OK);
}

/* A request without a program is refused before. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-null-argument"
/* As execvpe looks for a program, but with the PATH of the new environment. */
static void find_program(struct child *ch)
{
	const char *name = ch->argv[0], *path = find_env(ch->envp, "PATH");
	size_t len = strlen(name);
	bool denied = false;

	errno = len < sizeof(ch->file) ? ENOENT : ENAMETOOLONG;
	if (len >= sizeof(ch->file))
		not_run(ch, "cannot run", name);
	if (strchr(name, '/')) {
		memcpy(ch->file, name, len + 1);
		if (is_program(ch->file))
			return;
		not_run(ch, "cannot run", name);
	}
	while (path && len) {
		size_t n = strcspn(path, ":");

		if (n + 1 + len < sizeof(ch->file)) {
			memcpy(ch->file, path, n);
			ch->file[n] = '/';
			memcpy(ch->file + n + !!n, name, len + 1);
			if (is_program(ch->file))
				return;
			denied |= errno == EACCES;
		}
		path = path[n] ? path + n + 1 : NULL;
	}
	errno = denied ? EACCES : ENOENT;
	not_run(ch, "cannot run", name);
}
#pragma GCC diagnostic pop

static void await_go(const struct child *ch)
{
	char byte;

	if (!ch->s->wait)
		return;
	spawn_ready(ch->s);
	while (recv(ch->s->report, &byte, 1, 0) != 1)
		if (errno != EINTR)
			_exit(127); /* there is no agent */
}

void spawn_reset_signals(void)
{
	sigset_t none;

	/* The agent ignores or blocks some; handlers it has none. */
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn void spawn_run(const struct spawn *s)
{
	static struct child child;
	static struct own own;
	struct child *ch = &child;
	const struct command *c = s->command;

	ch->s = s;
	setsid();
	set_oom_score(ch);
	if (s->enter) {
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		s->enter(s, s->where);
	}
	take_stdio(ch);
	set_limits(ch);
	close_rest(ch);
	find_user(ch);
	umask(c->exec.flags & AGENT_EXEC_UMASK ? c->exec.umask : 022);
	become_user(ch);
	if (chdir(*c->cwd ? c->cwd : "/"))
		not_run(ch, "cannot change the directory to", c->cwd);
	list_strings(ch);
	if (c->exec.flags & AGENT_EXEC_OWN)
		own_open(&own, ch->s, ch->argv);
	else
		find_program(ch);
	await_go(ch);
	if (ch->s->begin)
		ch->s->begin(ch->s, ch->s->where);
	spawn_reset_signals();
	if (c->exec.flags & AGENT_EXEC_NO_NEW_PRIVS) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
			spawn_refuse(ch->s, "cannot forbid new privileges", NULL);
		install_filter(ch);
	}
	if (own.run) {
		close(ch->s->report); /* as exec would */
		own_run(&own);
	}
	execve(ch->file, ch->argv, ch->envp);
	not_run(ch, "cannot run", ch->argv[0]);
}
