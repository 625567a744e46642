/* SPDX-License-Identifier: Apache-2.0
 *
 * caller: what conmon and containerd's shim are to an OCI runtime: a subreaper that runs it, is left
 * with the container's process, and waits for that.
 *
 * usage: caller PIDFILE [SOCKET] -- RUNTIME [ARG...]
 *
 * The runtime's streams are the caller's own. With a SOCKET it is listened on for a terminal, whose
 * output goes to standard output and whose input comes from standard input; SIGUSR1 gives it 33 lines
 * of 77 columns. Exits with the runtime's status if that is not 0, else with the status of the process
 * in PIDFILE, or 128 + n after signal n; 200 and a text if that is not its child.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int master = -1;

static _Noreturn void die(const char *text)
{
	fprintf(stderr, "caller: %s: %s\n", text, strerror(errno));
	exit(200);
}

static void resize(int signo)
{
	const struct winsize size = {.ws_row = 33, .ws_col = 77};

	(void)signo;
	ioctl(master, TIOCSWINSZ, &size);
}

static int listen_on(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
		die("console socket");
	return fd;
}

static void take_master(int from)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char text[64];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.space,
			   .msg_controllen = sizeof(control.space)};
	struct pollfd p = {.fd = from, .events = POLLIN};
	int fd = poll(&p, 1, 10000) > 0 ? accept(from, NULL, NULL) : -1;

	if (fd < 0 || recvmsg(fd, &m, 0) <= 0 || m.msg_controllen < CMSG_LEN(sizeof(int)))
		die("no terminal came");
	memcpy(&master, CMSG_DATA(&control.head), sizeof(master));
	close(fd);
}

/* Until its other end is closed. */
static void relay(void)
{
	struct pollfd p[2] = {{.fd = master, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
	char buf[4096];

	for (;;) {
		ssize_t n;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents) {
			n = read(master, buf, sizeof(buf));
			if (n <= 0 || write(1, buf, (size_t)n) != n)
				return;
		}
		if (p[1].revents) {
			n = read(0, buf, sizeof(buf));
			if (n <= 0 || write(master, buf, (size_t)n) != n)
				p[1].fd = -1;
		}
	}
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("the process is not ours");
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const char *path = argv[3 - (argc > 2 && !strcmp(argv[2], "--"))];
	int terminal = argc > 3 && strcmp(argv[2], "--"), console = -1, status, pid;
	struct sigaction sa = {.sa_handler = resize};
	FILE *file;

	if (argc < 4 + terminal)
		return 2;
	if (terminal)
		console = listen_on(argv[2]);
	sigaction(SIGUSR1, &sa, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* as conmon */
		if (terminal) {
			int null = open("/dev/null", O_RDWR);

			dup2(null, 0);
			dup2(null, 1);
		}
		execv(argv[3 + terminal], argv + 3 + terminal);
		die(path);
	}
	status = wait_for(pid);
	if (status)
		return status;
	if (terminal)
		take_master(console);
	file = fopen(argv[1], "r");
	if (!file || fscanf(file, "%d", &pid) != 1)
		die(argv[1]);
	/* The container must not wait for readers that are writers, too. */
	if (!terminal) {
		close(0);
		close(1);
	} else {
		relay();
	}
	return wait_for(pid);
}
