/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/protocol.h"
#include "vmm/control.h"
#include "vmm/sock.h"
#include "vmm/util.h"

/* Root connects as the VM's user: to a monitor in a user namespace (vmm/jail.h) it would be nobody. */
static int connect_as(uid_t owner, const char *path)
{
	int fd;

	if (geteuid() || !owner)
		return sock_connect(AT_FDCWD, path, 0);
	if (seteuid(owner))
		return -errno;
	fd = sock_connect(AT_FDCWD, path, 0);
	return seteuid(0) ? -errno : fd;
}

/* A socket of the VM's. A monitor that has been taken over can put anything into its run directory: a link
 * to a neighbour's socket, through which a client's request would reach that.
 */
static int dial_once(const struct rundir *vm, const char *name)
{
	char path[32];
	struct stat st;
	int fd, r;

	if (rundir_sockets(vm) == AT_FDCWD)
		return sock_connect(AT_FDCWD, name, 0);
	fd = openat(vm->dir, name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = fstat(fd, &st) || !S_ISSOCK(st.st_mode) ? -ENOTSOCK : connect_as(st.st_uid, path);
	close(fd);
	return r;
}

/* A VM's sockets are made a moment after its guest has begun to run, and may have said something. */
static int dial_socket(const struct rundir *vm, const char *name)
{
	const uint64_t end = now_ns() + CLIENT_SOON_MS * UINT64_C(1000000);
	int fd;

	while ((fd = dial_once(vm, name)) == -ENOENT && now_ns() < end)
		usleep(1000);
	return fd;
}

int client_control(const struct rundir *vm, struct err *e)
{
	int fd = dial_socket(vm, RUNDIR_CONTROL);

	if (fd < 0)
		return err_set(e, -fd, "cannot reach the monitor of VM '%s': %s", vm->id,
			       strerror(-fd));
	return fd;
}

pid_t client_pid(const struct rundir *vm, struct err *e)
{
	int fd = client_control(vm, e);
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 1)
		peer.pid = err_set(e, ESRCH, "VM '%s' has no process that can be seen from here", vm->id);
	close(fd);
	return peer.pid;
}

static int readable(int fd, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	do {
		uint64_t now = now_ns();

		r = poll(&p, 1, now < deadline ? (int)((deadline - now) / 1000000u) + 1 : 0);
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

/* Reads up to the empty line that ends an answer, and not a byte more: what follows may be the
 * console's. Returns the length or -errno.
 */
static ssize_t read_answer(int fd, char *text, size_t size)
{
	uint64_t deadline = now_ns() + CLIENT_TIMEOUT_MS * 1000000ull;
	size_t n = 0;

	while (n < size - 1) {
		ssize_t got;
		char *end;

		if (!readable(fd, deadline))
			return -ETIMEDOUT;
		got = recv(fd, text + n, size - 1 - n, MSG_PEEK);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		text[n + (size_t)got] = 0;
		end = strstr(text + (n ? n - 1 : 0), "\n\n");
		if (end)
			got = end + 2 - (text + n);
		if (recv(fd, text + n, (size_t)got, 0) != got)
			return -ECONNRESET;
		n += (size_t)got;
		text[n] = 0;
		if (end)
			return (ssize_t)n;
	}
	return -EMSGSIZE;
}

/* Takes "ok" off a whole answer of got bytes, or makes its error the message. */
static int take_status(const char *request, char *text, ssize_t got, struct err *e)
{
	static const char error[] = "error ";

	if (got < 0)
		return err_set(e, (int)-got, "the monitor does not answer '%s': %s", request,
			       strerror((int)-got));
	if (!strncmp(text, error, strlen(error)))
		return err_set(e, EPROTO, "the monitor refuses '%s': %.*s", request,
			       (int)strcspn(text + strlen(error), "\n"), text + strlen(error));
	if (strncmp(text, "ok\n", 3))
		return err_set(e, EPROTO, "the monitor's answer to '%s' makes no sense", request);
	memmove(text, text + 3, (size_t)got - 3 + 1);
	return 0;
}

int client_request(int fd, const char *request, char *text, size_t size, struct err *e)
{
	char line[CONTROL_LINE + 1];
	int n = snprintf(line, sizeof(line), "%s\n", request);
	ssize_t got = write_all(fd, line, (size_t)n);

	if (!got)
		got = read_answer(fd, text, size);
	return take_status(request, text, got, e);
}

/* Reads until the empty line, without progress lines, which are handed on. */
static ssize_t read_slowly(int fd, void (*progress)(void *ctx, uint64_t done, uint64_t all),
			   void *ctx, char *text, size_t size)
{
	size_t n = 0, line = 0; /* where the line being read begins */

	while (n < size - 1) {
		unsigned long long done, all;
		ssize_t got = recv(fd, text + n, 1, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		if (text[n++] != '\n')
			continue;
		text[n] = 0;
		if (n - line == 1)
			return (ssize_t)n;
		if (sscanf(text + line, "progress %llu %llu", &done, &all) == 2) {
			if (progress)
				progress(ctx, done, all);
			n = line;
		}
		line = n;
	}
	return -EMSGSIZE;
}

int client_request_long(int fd, const char *request, int pass,
			void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
			char *text, size_t size, struct err *e)
{
	char line[CONTROL_LINE + 1];
	size_t n = (size_t)snprintf(line, sizeof(line), "%s\n", request);
	ssize_t got;

	if (n > CONTROL_LINE)
		return err_set(e, ENAMETOOLONG, "'%s' is too long", request);
	got = sock_send(fd, line, n, &pass, pass >= 0);
	if (!got)
		got = read_slowly(fd, progress, ctx, text, size);
	return take_status(request, text, got, e);
}

int client_place(int fd, int at, struct err *e)
{
	char link[32], request[CONTROL_LINE] = "place ", answer[CONTROL_ANSWER];
	size_t begin = strlen(request), room = sizeof(request) - begin - 1;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
	n = readlink(link, request + begin, room);
	if (n <= 0 || (size_t)n == room || memchr(request + begin, '\n', (size_t)n))
		return 0;
	request[begin + (size_t)n] = 0;
	return client_request(fd, request, answer, sizeof(answer), e);
}

void client_value(const char *text, const char *key, char *value, size_t size)
{
	size_t len = strlen(key);

	*value = 0;
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ' ') {
			snprintf(value, size, "%.*s", (int)strcspn(line + len + 1, "\n"),
				 line + len + 1);
			text_plain(value);
			return;
		}
	}
}

int client_wait_end(int fd, int timeout_ms)
{
	uint64_t deadline = now_ns() + (uint64_t)timeout_ms * 1000000u;
	char drop[64];

	while (readable(fd, deadline))
		if (read(fd, drop, sizeof(drop)) <= 0)
			return 1;
	return 0;
}

/* Sends the request for a stream to the agent. Returns the socket or -errno. */
static int ask_stream(const struct rundir *vm)
{
	int fd = dial_socket(vm, RUNDIR_VSOCK), r;
	char line[32];

	if (fd < 0)
		return fd;
	snprintf(line, sizeof(line), "CONNECT %u\n", AGENT_PORT);
	r = write_all(fd, line, strlen(line));
	if (r)
		close(fd);
	return r ? r : fd;
}

/* Reads the answer, and not what is behind its line: there the stream is the agent's. */
static int await_stream(int fd, uint64_t deadline)
{
	char line[32];
	size_t n = 0;

	while (n < sizeof(line)) {
		ssize_t got;
		char *end;

		if (!readable(fd, deadline))
			return -ETIMEDOUT;
		got = recv(fd, line + n, sizeof(line) - n, MSG_PEEK);
		if (got < 1)
			return -ECONNREFUSED;
		end = memchr(line + n, '\n', (size_t)got);
		if (end)
			got = end + 1 - (line + n);
		if (recv(fd, line + n, (size_t)got, 0) != got)
			return -ECONNREFUSED;
		n += (size_t)got;
		if (end)
			return n > 4 && !memcmp(line, "OK ", 3) ? 0 : -EPROTO;
	}
	return -EPROTO;
}

static int dial(const struct rundir *vm, int *fds, unsigned int n, uint64_t timeout_ms,
		struct err *e)
{
	uint64_t deadline = now_ns() + timeout_ms * 1000000u;
	unsigned int made = 0;
	int r = 0;

	while (made < n && !r) {
		r = ask_stream(vm);
		if (r >= 0)
			fds[made++] = r;
		r = MIN(r, 0);
	}
	for (unsigned int i = 0; i < n && !r; i++)
		r = await_stream(fds[i], deadline);
	if (!r)
		return 0;
	while (made)
		close(fds[--made]);
	return err_set(e, -r, "no agent answers in VM '%s': %s", vm->id, strerror(-r));
}

int client_dial_agent(void *ctx, int *fds, unsigned int n, struct err *e)
{
	return dial(ctx, fds, n, CLIENT_TIMEOUT_MS, e);
}

int client_dial_agent_soon(void *ctx, int *fds, unsigned int n, struct err *e)
{
	return dial(ctx, fds, n, CLIENT_SOON_MS, e);
}
