/* SPDX-License-Identifier: Apache-2.0
 *
 * lab-job: PID 1 of the lab (tools/lab). Runs one command in the host's file tree and reports.
 *
 *	lab-job ROOT JOB MUX STDIN
 *
 * JOB is a file of NUL-terminated strings: "tty" or "pipes", the working directory, any number of
 * NAME=VALUE, an empty string, the command and its arguments. No quoting, so nothing to get wrong.
 *
 * Everything that goes back shares one virtio-serial port, MUX, in frames: a line "KIND N", for
 * o(utput) and e(rror output) followed by N bytes. "r 0" says that the command was started, "x N"
 * gives its exit status, "h 0" answers a byte 0. One port because a port's bytes cannot be seen to
 * have been consumed, so that a machine that powers off loses the last of them: here "x" comes
 * behind all output, and the host, having read it, ends the machine. In the other direction each
 * byte is the number of a signal for the command's process group, or 0: is anybody there?
 *
 * STDIN is a port of its own, where the end of the input is the port's.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK (32 * 1024) /* what the port driver takes in one write */

struct job {
	bool tty;
	const char *cwd;
	char **env;
	char **argv;
};

/* The strings stay where they were read; the pointers to them end with NULL. */
static struct job read_job(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);

	size_t size = (size_t)st.st_size, n = 0;
	char *text = calloc(size + 1, 1);
	char **words = calloc(size + 2, sizeof(*words));

	if (!text || !words || read(fd, text, size) != (ssize_t)size)
		err(1, "%s", path);
	close(fd);
	for (char *p = text; p < text + size; p += strlen(p) + 1)
		words[n++] = p;

	size_t end = 2;

	while (end < n && *words[end])
		end++;
	if (end + 1 >= n)
		errx(1, "%s: names no command", path);
	words[end] = NULL;
	return (struct job){
		.tty = !strcmp(words[0], "tty"),
		.cwd = words[1],
		.env = words + 2,
		.argv = words + end + 1,
	};
}

static void write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno != EINTR)
			err(1, "write");
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
}

static void frame(int mux, char kind, long value, const char *data)
{
	char head[32];
	int n = snprintf(head, sizeof(head), "%c %ld\n", kind, value);

	write_all(mux, head, (size_t)n);
	if (data)
		write_all(mux, data, (size_t)value);
}

/* Sends on what a pipe holds. False at its end. */
static bool relay(int mux, char kind, int fd)
{
	char buf[CHUNK];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		frame(mux, kind, n, buf);
	return n > 0 || (n < 0 && errno == EINTR);
}

/* A process, not a case in the loop below: it may block on a command that does not read. */
static void feed_stdin(const char *port, int to)
{
	char buf[CHUNK];
	ssize_t n;
	int from = open(port, O_RDONLY);

	if (from < 0)
		err(1, "%s", port);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		write_all(to, buf, (size_t)n);
	_exit(0);
}

static void run(const char *root, const struct job *job, const int stdio[3])
{
	sigset_t none;

	setsid();
	if (job->tty) {
		int tty = open("/dev/hvc0", O_RDWR | O_CLOEXEC);

		if (tty < 0 || ioctl(tty, TIOCSCTTY, 0) < 0)
			err(1, "/dev/hvc0");
		for (int i = 0; i < 3; i++)
			dup2(tty, i);
	} else {
		for (int i = 0; i < 3; i++)
			dup2(stdio[i], i);
	}
	clearenv();
	for (char **e = job->env; *e; e++)
		putenv(*e);
	/* Moved, as switch_root does: who is in a mere chroot may make no user namespace. */
	if (chdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir(job->cwd) < 0)
		err(125, "%s", job->cwd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(job->argv[0], job->argv);
	warn("%s", job->argv[0]);
	_exit(errno == ENOENT ? 127 : 126);
}

static void make_pipe(int p[2])
{
	if (pipe2(p, O_CLOEXEC) < 0)
		err(1, "pipe");
}

int main(int argc, char **argv)
{
	int in[2], out[2], error[2], status = 0;
	sigset_t chld;

	if (argc != 5)
		errx(1, "usage: lab-job ROOT JOB MUX STDIN");

	struct job job = read_job(argv[2]);
	int mux = open(argv[3], O_RDWR | O_CLOEXEC);

	if (mux < 0)
		err(1, "%s", argv[3]);
	make_pipe(in);
	make_pipe(out);
	make_pipe(error);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	int reaper = signalfd(-1, &chld, SFD_CLOEXEC);

	pid_t pid = fork();

	if (pid == 0)
		run(argv[1], &job, (int[]){in[0], out[1], error[1]});
	if (pid < 0 || reaper < 0)
		err(1, "fork");
	close(in[0]);
	close(out[1]);
	close(error[1]);
	if (fork() == 0)
		feed_stdin(argv[4], in[1]);
	close(in[1]);
	frame(mux, 'r', 0, NULL);

	/* While the command runs, wait for anything. After it, for the end of both pipes, which the
	 * death of all other processes brings; one that cannot be killed is not waited for long.
	 */
	struct pollfd fds[] = {
		{.fd = out[0], .events = POLLIN},
		{.fd = error[0], .events = POLLIN},
		{.fd = mux, .events = POLLIN},
		{.fd = reaper, .events = POLLIN},
	};
	bool running = true;

	while (running || fds[0].fd >= 0 || fds[1].fd >= 0) {
		struct signalfd_siginfo info;
		unsigned char signal;
		int some;

		if (poll(fds, 4, running ? -1 : 5000) <= 0)
			break;
		if (fds[0].revents && !relay(mux, 'o', out[0]))
			fds[0].fd = -1;
		if (fds[1].revents && !relay(mux, 'e', error[0]))
			fds[1].fd = -1;
		if ((fds[2].revents & POLLIN) && read(mux, &signal, 1) == 1) {
			if (signal)
				kill(-pid, signal);
			else
				frame(mux, 'h', 0, NULL);
		}
		if (!fds[3].revents || read(reaper, &info, sizeof(info)) < 0)
			continue;
		for (pid_t p; (p = waitpid(-1, &some, WNOHANG)) > 0;) {
			if (p != pid)
				continue;
			running = false;
			fds[2].fd = -1; /* questions would keep the poll from its end */
			status = WIFSIGNALED(some) ? 128 + WTERMSIG(some) : WEXITSTATUS(some);
			kill(-1, SIGKILL);
		}
	}
	sync();
	frame(mux, 'x', status, NULL);
	for (;;)
		pause();
}
