/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/util.h"

#define TIMEOUT_MAX (24 * 3600) /* seconds */

/* The agent takes 0 for its own limit. One without a timeout has this in the guest. */
#define GUEST_MS_MAX (3600u * 1000u)

static const char *const names[] = {
	[OCI_PRESTART] = "prestart",
	[OCI_CREATE_RUNTIME] = "createRuntime",
	[OCI_CREATE_CONTAINER] = "createContainer",
	[OCI_START_CONTAINER] = "startContainer",
	[OCI_POSTSTART] = "poststart",
	[OCI_POSTSTOP] = "poststop",
};

const char *oci_hook_name(enum oci_hook kind)
{
	return names[kind];
}

/* --- what they are --- */

struct hook {
	const char *path;
	const char **args, **env; /* execve's, and to be freed, but for the strings */
	uint64_t timeout;	  /* seconds; 0: none */
};

static void hook_free(struct hook *h)
{
	free(h->args);
	free(h->env);
}

/* Without arguments there is the path alone. */
static int default_args(struct hook *h, struct err *e)
{
	if (h->args && h->args[0])
		return 0;
	free(h->args);
	h->args = calloc(2, sizeof(*h->args));
	if (!h->args)
		return err_set(e, ENOMEM, "out of memory");
	h->args[0] = h->path;
	return 0;
}

/* hook_free in any case. */
static int parse(struct hook *h, const struct json *v, struct err *e)
{
	int r = json_required(v, "path", e);

	*h = (struct hook){.path = ""};
	if (!r)
		r = json_string(v, "path", &h->path, e);
	if (!r && *h->path != '/')
		r = json_bad(e, json_get(v, "path"), "is not absolute");
	if (!r)
		r = json_strings(v, "args", &h->args, e);
	if (!r)
		r = json_strings(v, "env", &h->env, e);
	if (!r)
		r = json_uint(v, "timeout", TIMEOUT_MAX, &h->timeout, e);
	if (!r && json_get(v, "timeout") && !h->timeout)
		r = json_bad(e, json_get(v, "timeout"), "is not more than zero");
	return r ? r : default_args(h, e);
}

static const struct json *list_of(const struct json *hooks, enum oci_hook kind)
{
	return hooks ? json_get(hooks, names[kind]) : NULL;
}

int oci_hooks_check(const struct json *hooks, struct err *e)
{
	const struct json *list;
	int r = 0;

	for (size_t i = 0; i < OCI_HOOKS && !r; i++) {
		list = NULL;
		r = json_array(hooks, names[i], &list, e);
		json_each(v, list) {
			struct hook h;

			if (r)
				break;
			r = parse(&h, v, e);
			hook_free(&h);
		}
	}
	return r;
}

bool oci_hooks_any(const struct json *hooks, enum oci_hook kind)
{
	return json_first(list_of(hooks, kind));
}

/* --- those of the host --- */

/* An anonymous file: a pipe would hold up whoever writes more than it takes, for ever if nobody reads. */
static int open_state(const char *state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	if (fd >= 0 && (write_all(fd, state, strlen(state)) || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		return -1;
	}
	return fd;
}

static _Noreturn void become(const struct hook *h, int state, int said, const char *dir)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	/* Its leader, so that all of it ends with it when it takes too long. */
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(state, 0) < 0 || dup2(null, 1) < 0 || dup2(said, 2) < 0 || chdir(dir))
		_exit(127);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execve(h->path, (char *const *)h->args, (char *const *)h->env);
	dprintf(2, "%s", strerror(errno));
	_exit(127);
}

/* Waits for it, and ends it when its time is over. Returns its wait status, or -errno. */
static int await(pid_t pid, uint64_t seconds)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int n, status, r = 0;

	do
		n = poll(&p, 1, seconds ? (int)seconds * 1000 : -1);
	while (n < 0 && errno == EINTR);
	if (p.fd >= 0)
		close(p.fd);
	if (!n) {
		r = -ETIMEDOUT;
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return r ? r : status;
}

/* The message about a hook that has failed, with the last of what it has said. */
static int failed(const struct hook *h, enum oci_hook kind, int status, int said, struct err *e)
{
	char text[200] = "";
	off_t end = lseek(said, 0, SEEK_END);
	ssize_t n = pread(said, text, sizeof(text) - 1,
			  MAX(end - (off_t)sizeof(text) + 1, (off_t)0));

	text[MAX(n, 0)] = '\0';
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	if (status == -ETIMEDOUT)
		return err_set(e, ETIMEDOUT, "hooks.%s: %s has not ended after %u s", names[kind],
			       h->path, (unsigned int)h->timeout);
	if (status < 0)
		return err_set(e, -status, "hooks.%s: cannot run %s: %s", names[kind], h->path,
			       strerror(-status));
	return err_set(e, ECANCELED, "hooks.%s: %s: %s %d%s%s", names[kind], h->path,
		       WIFEXITED(status) ? "exit status" : "killed by signal",
		       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
		       *text ? ": " : "", text);
}

static int run(const struct hook *h, enum oci_hook kind, const char *state, const char *dir,
	       struct err *e)
{
	int in = open_state(state), said = memfd_create("said", MFD_CLOEXEC), status;
	pid_t pid = in < 0 || said < 0 ? -1 : fork();
	int r = 0;

	if (!pid)
		become(h, in, said, dir);
	status = pid < 0 ? -errno : await(pid, h->timeout);
	if (status)
		r = failed(h, kind, status, said, e);
	if (in >= 0)
		close(in);
	if (said >= 0)
		close(said);
	return r;
}

int oci_hooks_run(const struct json *hooks, enum oci_hook kind, const char *state, const char *dir,
		  struct err *e)
{
	int r = 0;

	json_each(v, list_of(hooks, kind)) {
		struct hook h;

		if (r)
			break;
		r = parse(&h, v, e);
		if (!r)
			r = run(&h, kind, state, dir, e);
		hook_free(&h);
	}
	return r;
}

/* --- those of the guest --- */

static uint32_t guest_ms(const struct hook *h)
{
	return h->timeout ? (uint32_t)MIN(h->timeout * 1000, GUEST_MS_MAX) : GUEST_MS_MAX;
}

int oci_hooks_guest(const struct json *hooks, struct container_hook **to, size_t *n, struct err *e)
{
	const struct json *list = list_of(hooks, OCI_START_CONTAINER);

	*n = 0;
	*to = calloc(list ? list->count + 1 : 1, sizeof(**to));
	if (!*to)
		return err_set(e, ENOMEM, "out of memory");
	json_each(v, list) {
		struct hook h;
		int r = parse(&h, v, e);

		if (r) {
			hook_free(&h);
			return r;
		}
		(*to)[(*n)++] = (struct container_hook){.stage = AGENT_HOOK_START,
							.timeout_ms = guest_ms(&h),
							.path = h.path,
							.argv = (char *const *)h.args,
							.envp = (char *const *)h.env};
	}
	return 0;
}

void oci_hooks_free(struct container_hook *list, size_t n)
{
	while (n--) {
		free((void *)(uintptr_t)list[n].argv);
		free((void *)(uintptr_t)list[n].envp);
	}
	free(list);
}

uint64_t oci_hooks_guest_ms(const struct json *hooks)
{
	uint64_t ms = 0;

	json_each(v, list_of(hooks, OCI_START_CONTAINER)) {
		struct err ignored;
		struct hook h;

		if (!parse(&h, v, &ignored))
			ms += guest_ms(&h);
		hook_free(&h);
	}
	return ms;
}
