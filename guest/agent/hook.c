/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/text.h"

#define STATE_MAX 512

/* The state of the specification, where nobody has given one. Names have nothing in them that JSON would
 * want escaped. The bundle is the directory with the container's root in it, "root", in the guest.
 */
static void make_state(char *text, const struct create *c, uint32_t stage, const char *pid)
{
	compose(text, STATE_MAX, "{\"ociVersion\":\"1.0.2\",\"id\":\"", c->head.name,
		       "\",\"status\":\"", stage == AGENT_HOOK_CREATE ? "creating" : "created",
		       "\",\"pid\":", pid, ",\"bundle\":\"/run/uvm\"}\n", NULL);
}

/* A file in memory, at its beginning: a pipe may not hold it. */
static int open_state(const char *state)
{
	int fd = (int)syscall(SYS_memfd_create, "state", MFD_CLOEXEC);
	size_t size = strlen(state);

	if (fd >= 0 && (write(fd, state, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		return -1;
	}
	return fd;
}

static _Noreturn void become(const struct agent_hook *h, const char *strings, int state)
{
	static char *vec[2 * AGENT_STRINGS_MAX + 2];
	char *path = (char *)(uintptr_t)strings, *s = path + strlen(path) + 1, **envp, **at = vec;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (uint32_t i = 0; i < h->argc; i++, s += strlen(s) + 1)
		*at++ = s;
	*at++ = NULL;
	envp = at;
	for (uint32_t i = 0; i < h->envc; i++, s += strlen(s) + 1)
		*at++ = s;
	*at = NULL;
	/* The container's streams are its program's. A root may be without a /dev/null. */
	dup2(state, 0);
	for (int i = 1; i <= 2; i++)
		if (null < 0 || dup2(null, i) < 0)
			close(i);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	spawn_reset_signals();
	execve(path, vec, envp);
	_exit(127);
}

/* Waits for it. Returns its status, or -errno; then it is gone, too. */
static int await(pid_t pid, uint32_t timeout_ms)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int ms = timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms, status, n;

	n = p.fd < 0 ? -1 : poll(&p, 1, ms ? ms : (int)AGENT_HANDSHAKE_MS);
	if (p.fd >= 0)
		close(p.fd);
	if (n != 1)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return n == 1 ? status : -ETIMEDOUT;
}

static void run(const struct spawn *s, const struct record *r, const char *state)
{
	const struct agent_hook *h = r->body;
	const char *strings = record_string(r, sizeof(*h));
	int in = open_state(state), status;
	pid_t pid = in < 0 ? -1 : fork();

	if (!pid)
		become(h, strings, in);
	if (pid < 0)
		spawn_refuse(s, "cannot run the hook", strings);
	close(in);
	status = await(pid, h->timeout_ms);
	if (!status)
		return;
	errno = status < 0 ? -status : WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : ECANCELED;
	spawn_refuse(s, "a hook has failed:", strings);
}

void hooks_run(const struct spawn *s, const struct create *c, uint32_t stage, const char *pid)
{
	struct records records = c->records;
	const char *state;
	char own[STATE_MAX];
	struct record r;

	make_state(own, c, stage, pid);
	state = record_next(&records, AGENT_R_HOOK_STATE, &r) ? record_string(&r, 0) : own;
	records = c->records;

	while (record_next(&records, AGENT_R_HOOK, &r))
		if (((const struct agent_hook *)r.body)->stage == stage)
			run(s, &r, state);
}
