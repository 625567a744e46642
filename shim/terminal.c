/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/sock.h"

/* The socket's path may be longer than an address holds. */
static int give_master(const char *path, int master, struct err *e)
{
	static const char name[] = "/dev/ptmx"; /* what runc says, and nobody reads */
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	int at, sock, r;

	if (slash && slash - path >= PATH_MAX - 1)
		return err_set(e, ENAMETOOLONG, "console socket %s: the path is too long", path);
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return err_sys(e, "console socket %s", path);
	sock = sock_connect(at, slash ? slash + 1 : path, 0);
	close(at);
	r = sock < 0 ? sock : sock_send(sock, name, strlen(name), &master, 1);
	if (sock >= 0)
		close(sock);
	return r ? err_set(e, -r, "console socket %s: %s", path, strerror(-r)) : 0;
}

int oci_terminal(const char *path, uint16_t rows, uint16_t cols, struct err *e)
{
	struct winsize size = {.ws_row = rows, .ws_col = cols};
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0, fd = -1, r;

	if (master >= 0 && !ioctl(master, TIOCSPTLCK, &unlock))
		fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		r = err_sys(e, "cannot make a terminal");
		if (master >= 0)
			close(master);
		return r;
	}
	if (rows || cols)
		ioctl(master, TIOCSWINSZ, &size);
	r = give_master(path, master, e);
	close(master);
	if (!r && ioctl(fd, TIOCSCTTY, 0))
		r = err_sys(e, "cannot take the terminal");
	if (r) {
		close(fd);
		return r;
	}
	return fd;
}
