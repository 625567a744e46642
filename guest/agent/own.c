/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/entries.h"
#include "guest/agent/text.h"

void own_complain(struct own *o, const char *what)
{
	char text[PATH_MAX + 64], code[NUMBER_SIZE];
	size_t n = compose(text, sizeof(text), number_text(code, (uint64_t)errno), " ", what, " '",
			   o->path, "'", NULL);

	o->status = 1;
	(void)!write(STDERR_FILENO, text, n + 1);
}

void own_flush(struct own *o)
{
	for (size_t done = 0; done < o->out_len;) {
		ssize_t n = write(STDOUT_FILENO, o->out + done, o->out_len - done);

		if (n <= 0)
			_exit(1); /* nobody reads it any more */
		done += (size_t)n;
	}
	o->out_len = 0;
}

void own_write(struct own *o, const void *data, size_t len)
{
	while (len) {
		size_t n = sizeof(o->out) - o->out_len;

		if (n > len)
			n = len;
		memcpy(o->out + o->out_len, data, n);
		o->out_len += n;
		data = (const uint8_t *)data + n;
		len -= n;
		if (o->out_len == sizeof(o->out))
			own_flush(o);
	}
}

bool own_enter(struct own *o, const char *name, unsigned int depth)
{
	size_t len = strlen(o->path), more = strlen(name);

	errno = ENAMETOOLONG;
	if (depth < OWN_DEPTH && len + more + 2 <= sizeof(o->path)) {
		o->path[len] = '/';
		memcpy(o->path + len + 1, name, more + 1);
		return true;
	}
	own_complain(o, "too deep below");
	return false;
}

void own_list(int dir, void (*fn)(struct own *o, int dir, const char *name, unsigned int depth),
	      struct own *o, unsigned int depth)
{
	size_t len = strlen(o->path);
	const struct dirent *d;
	struct entries in;

	entries_begin(&in, dir);
	while ((d = entries_next(&in))) {
		const char *s = d->d_name;

		if (s[0] == '.' && (!s[1] || (s[1] == '.' && !s[2])))
			continue;
		if (!own_enter(o, s, depth))
			continue;
		fn(o, dir, s, depth);
		o->path[len] = '\0';
	}
	if (in.n < 0)
		own_complain(o, "cannot read the directory");
}

static _Noreturn void fail(const struct spawn *s, const char *what, const char *name)
{
	spawn_fail(s, AGENT_NOT_RUN, what, name);
}

/* PATH, NAME (what the archive calls it), and 'd' if it must be a directory, 'f' if it must be none, or
 * 'l' if a link is to be followed.
 */
static void open_export(struct own *o, const struct spawn *s, char **argv)
{
	const char *kind = argv[3];
	struct stat st;

	o->source = argv[1];
	o->follow = strchr(kind, 'l');
	if (fstatat(AT_FDCWD, o->source, &st, o->follow ? 0 : AT_SYMLINK_NOFOLLOW))
		fail(s, "cannot find", o->source);
	errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTDIR;
	if ((strchr(kind, 'd') && errno == ENOTDIR) || (strchr(kind, 'f') && errno == EISDIR))
		fail(s, "cannot copy", o->source);
	compose(o->path, sizeof(o->path), argv[2], NULL);
}

/* PATH, NAME, and 'd' if what is in the archive is a directory, 'f' if it is not, or 'x' if PATH must
 * be a directory that is there. In such it gets NAME; else what it is in is, and PATH is its name.
 */
static void open_import(struct own *o, const struct spawn *s, char **argv)
{
	char *path = argv[1], *last;
	size_t len = strlen(path);
	char kind = *argv[3];

	o->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (o->root >= 0) {
		compose(o->prefix, sizeof(o->prefix), argv[2], NULL);
		return;
	}
	/* With a slash behind it, it is a directory's. */
	if (kind == 'x' || (kind == 'f' && len && path[len - 1] == '/') ||
	    (errno != ENOENT && !(kind == 'f' && errno == ENOTDIR)))
		fail(s, "cannot copy to", path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	last = strrchr(path, '/');
	compose(o->prefix, sizeof(o->prefix), last ? last + 1 : path, NULL);
	if (last)
		last[last == path] = '\0';
	o->root = open(last ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (o->root < 0)
		fail(s, "cannot copy to", path);
}

void own_open(struct own *o, const struct spawn *s, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	if (argc == 4 && !strcmp(argv[0], "export")) {
		open_export(o, s, argv);
		o->run = own_export;
	} else if (argc == 4 && !strcmp(argv[0], "import")) {
		open_import(o, s, argv);
		o->run = own_import;
	} else if (argc == 1 && !strcmp(argv[0], "changes")) {
		errno = EINVAL;
		if (s->upper < 0)
			fail(s, "there is nothing above the root that it could write to", NULL);
		o->run = own_changes;
	} else {
		errno = ENOENT;
		fail(s, "the agent has no program", argv[0]);
	}
}

/* A child that runs o with in and out for its streams. */
static pid_t start(struct own *o, int in, int out)
{
	pid_t pid = fork();
	int null;

	if (pid)
		return pid;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(in < 0 ? null : in, STDIN_FILENO);
	dup2(out < 0 ? null : out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	own_run(o);
}

static bool succeeded(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return !status;
}

int own_copy(int from, int to)
{
	struct own o = {.run = own_export, .source = ".", .path = "."}, in = {.run = own_import, .root = to};
	pid_t writer, reader;
	int fds[2], r = 0;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	if (fchdir(from))
		r = -errno;
	writer = r ? -1 : start(&o, -1, fds[1]);
	close(fds[1]);
	reader = writer < 0 ? -1 : start(&in, fds[0], -1);
	close(fds[0]);
	if (!r && (writer < 0 || reader < 0))
		r = -errno;
	if (writer > 0 && !succeeded(writer) && !r)
		r = -EIO;
	if (reader > 0 && !succeeded(reader) && !r)
		r = -EIO;
	return chdir("/") && !r ? -errno : r;
}

_Noreturn void own_run(struct own *o)
{
	int status = o->run(o);

	own_flush(o);
	_exit(status);
}
