/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Everything the child needs, so that its steps read as a list. */
struct child {
	const struct command *c;
	const struct words *words;
	int report;
	char **argv; /* ends in NULL */
	char **envp;
};

const char *command_parse(struct command *c, void *payload, uint32_t length)
{
	uint32_t strings, counted = 0;
	char *at = payload, *end = at + length;

	if (length < sizeof(c->exec))
		return "EXEC is too short";
	memcpy(&c->exec, payload, sizeof(c->exec));
	at += sizeof(c->exec);
	if (c->exec.group_count > AGENT_GROUPS_MAX)
		return "EXEC has too many groups";
	if (c->exec.argc < 1 || c->exec.argc > AGENT_STRINGS_MAX ||
	    c->exec.envc > AGENT_STRINGS_MAX - c->exec.argc)
		return "EXEC has no argument or too many strings";
	if ((size_t)(end - at) < c->exec.group_count * sizeof(uint32_t))
		return "EXEC is too short";
	c->groups = (const uint32_t *)(const void *)at;
	at += c->exec.group_count * sizeof(uint32_t);

	c->strings = at;
	strings = 1 + c->exec.argc + c->exec.envc;
	for (; at < end; at++)
		counted += !*at;
	if (counted != strings || end[-1])
		return "EXEC's strings do not match their count";
	return NULL;
}

size_t append(char *buf, size_t size, size_t n, const char *text)
{
	size_t len = strnlen(text, size - n);

	memcpy(buf + n, text, len);
	return n + len;
}

/* Tells the agent that the program does not run, and why, and ends. */
static _Noreturn void give_up(const struct child *ch, const char *what, const char *name)
{
	struct {
		struct agent_error error;
		char text[AGENT_TEXT_MAX];
	} m = {.error = {.code = (uint32_t)errno, .kind = AGENT_NOT_RUN}};
	size_t n = append(m.text, sizeof(m.text), 0, what);

	if (name) {
		n = append(m.text, sizeof(m.text), n, " '");
		n = append(m.text, sizeof(m.text), n, name);
		n = append(m.text, sizeof(m.text), n, "'");
	}
	/* Nothing can be done if this fails: the agent then takes the exit for the program's. */
	(void)!write(ch->report, &m, sizeof(m.error) + n);
	_exit(127);
}

static const char *find_env(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* Fills argv and envp, which lie in one array, with pointers to the strings. */
static void list_strings(struct child *ch, char **vec, bool tty)
{
	const struct agent_exec *x = &ch->c->exec;
	char *s = ch->c->strings + strlen(ch->c->strings) + 1;
	char **end;

	ch->argv = vec;
	for (uint32_t i = 0; i < x->argc; i++, s += strlen(s) + 1)
		*vec++ = s;
	*vec++ = NULL;
	ch->envp = vec;
	for (uint32_t i = 0; i < x->envc; i++, s += strlen(s) + 1)
		*vec++ = s;
	*vec = NULL;
	end = words_env(ch->words, ch->envp, vec);
	if (!find_env(ch->envp, "PATH"))
		*end++ = (char *)(uintptr_t)DEFAULT_PATH;
	*end = NULL;
	if (!find_env(ch->envp, "HOME"))
		*end++ = (char *)(uintptr_t)(x->flags & AGENT_EXEC_USER && x->uid ? "HOME=/"
										  : "HOME=/root");
	*end = NULL;
	if (tty && !find_env(ch->envp, "TERM"))
		*end++ = (char *)(uintptr_t) "TERM=xterm";
	*end = NULL;
}

static void take_stdio(const struct child *ch, const struct stdio *io)
{
	if (io->tty && ioctl(io->fd[0], TIOCSCTTY, 0))
		give_up(ch, "cannot take the terminal", NULL);
	for (int i = 0; i < 3; i++)
		if (dup2(io->fd[i], i) < 0)
			give_up(ch, "cannot set up standard input and output", NULL);
}

static void become_user(const struct child *ch, const struct stdio *io)
{
	const struct agent_exec *x = &ch->c->exec;
	gid_t groups[AGENT_GROUPS_MAX];

	if (!(x->flags & AGENT_EXEC_USER))
		return;
	/* So that the user can open /dev/stdout. Not /dev/null, which is everybody's. */
	for (int i = 0; i < 3; i++)
		if (io->tty || lseek(i, 0, SEEK_CUR) < 0)
			(void)!fchown(i, x->uid, x->gid);
	for (uint32_t i = 0; i < x->group_count; i++)
		groups[i] = ch->c->groups[i];
	if (setgroups(x->group_count, groups) || setgid(x->gid) || setuid(x->uid))
		give_up(ch, "cannot change the user", NULL);
}

/* As execvpe, but with the PATH of the new environment, and a file that is neither a program nor
 * has a "#!" is an error.
 */
static void run_program(const struct child *ch)
{
	const char *name = ch->argv[0], *path = find_env(ch->envp, "PATH");
	size_t len = strlen(name);
	char file[PATH_MAX];
	bool denied = false;

	errno = ENOENT;
	if (strchr(name, '/')) {
		execve(name, ch->argv, ch->envp);
		return;
	}
	while (path && len) {
		size_t n = strcspn(path, ":");

		if (n + 1 + len < sizeof(file)) {
			memcpy(file, path, n);
			file[n] = '/';
			memcpy(file + n + !!n, name, len + 1);
			execve(file, ch->argv, ch->envp);
			if (errno == EACCES)
				denied = true;
			else if (errno != ENOENT && errno != ENOTDIR)
				return;
		}
		path = path[n] ? path + n + 1 : NULL;
		errno = denied ? EACCES : ENOENT;
	}
}

static _Noreturn void child_main(struct child *ch, const struct stdio *io)
{
	/* Two NULLs, and up to three variables of ours. */
	char *vec[AGENT_STRINGS_MAX + WORDS_ENV_MAX + 5];
	const char *cwd = ch->c->strings;
	sigset_t none;

	setsid();
	take_stdio(ch, io);
	become_user(ch, io);
	if (chdir(*cwd ? cwd : "/"))
		give_up(ch, "cannot change the directory to", cwd);
	list_strings(ch, vec, io->tty);
	/* The agent ignores or blocks some; handlers it has none. */
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	run_program(ch);
	give_up(ch, "cannot run", ch->argv[0]);
}

pid_t spawn(const struct command *c, const struct stdio *io, int report, struct freezer *f,
	    const struct words *w)
{
	struct child ch = {.c = c, .words = w, .report = report};
	pid_t pid = freezer_fork(f);

	if (!pid)
		child_main(&ch, io);
	return pid < 0 ? -errno : pid;
}
