/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/util.h"

static int address(struct sockaddr_un *a, int dir, const char *name)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	n = dir == AT_FDCWD
		    ? snprintf(a->sun_path, sizeof(a->sun_path), "%s", name)
		    : snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", dir, name);
	return n < (int)sizeof(a->sun_path) ? 0 : -ENAMETOOLONG;
}

int sock_listen(int dir, const char *name, struct err *e)
{
	struct sockaddr_un a;
	mode_t mask;
	int fd, r;

	if (address(&a, dir, name))
		return err_set(e, ENAMETOOLONG, "socket name '%s' is too long", name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, "cannot make a socket");
	unlinkat(dir, name, 0);
	mask = umask(0177); /* bind makes the file with what the mask leaves of 0777 */
	r = bind(fd, (struct sockaddr *)&a, sizeof(a));
	umask(mask);
	if (r || listen(fd, 128)) {
		r = err_sys(e, "cannot listen on socket '%s'", name);
		close(fd);
		return r;
	}
	return fd;
}

int sock_accept(int listener)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	    (peer.uid == geteuid() || peer.uid == 0))
		return fd;
	close(fd);
	return -EPERM;
}

int sock_connect(int dir, const char *name, int nonblock)
{
	struct sockaddr_un a;
	int fd;

	if (address(&a, dir, name))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int sock_send(int fd, const void *data, size_t len, const int *pass, size_t n)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(SOCK_PASS_MAX * sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(n * sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (n) {
		memcpy(CMSG_DATA(&control.head), pass, n * sizeof(*pass));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(*pass));
	}
	sent = sendmsg(fd, &m, MSG_NOSIGNAL);
	if (sent < 0)
		return -errno;
	return sent == (ssize_t)len ? 0 : -EIO;
}

ssize_t sock_receive(int fd, void *data, size_t len, int *pass, size_t n)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(SOCK_PASS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {data, len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *h;
	size_t came = 0;
	ssize_t got;

	do
		got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	h = got <= 0 ? NULL : CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		came = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); /* the space is rounded up: one more may be */
	for (size_t i = 0; i < MAX(n, came); i++) {
		int one = -1;

		if (i < came)
			memcpy(&one, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
		if (i < n)
			pass[i] = one;
		else if (one >= 0)
			close(one);
	}
	return got < 0 ? -errno : got;
}
