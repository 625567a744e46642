/* SPDX-License-Identifier: Apache-2.0
 *
 * timer: how long a command takes, from before its process is made, many times.
 *
 * usage: timer [-b | -k] [-i] [-a AFTER] [-f BEFORE] [-o FILE] RUNS CMD [ARG...]
 *
 *	-b	to the first byte of its standard output, instead of to its end; it is then ended
 *	-k	the same, and it is ended by SIGKILL (QEMU's main loop may not get its lock in time)
 *	-i	what the CPUs have run in that time, of anybody's, without what they waited. In the lab with --icount
 *		an idle CPU's clock leaps to the next timer, which for programs that wait for each other, or
 *		for the lab's file system, is anything up to minutes
 *	-a	a shell command that follows each run and is not measured
 *	-f	one that comes first, likewise
 *	-o	appends the command's standard output and error to FILE
 *
 * Prints the nanoseconds of each run, one a line, when all are done. A shell would add the making of
 * a copy of itself to each. With the highest priority that it may have.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "timer: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Nanoseconds that tasks have run, since the machine started (Documentation/scheduler/sched-stats.rst, 7th of each
 * CPU's).
 */
static uint64_t ran(void)
{
	FILE *f = fopen("/proc/schedstat", "re");
	uint64_t sum = 0, ns;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "cpu%*u %*u %*u %*u %*u %*u %*u %" SCNu64, &ns) == 1)
			sum += ns;
	if (f)
		fclose(f);
	if (!sum) {
		errno = ENOTSUP;
		fail("/proc/schedstat");
	}
	return sum;
}

/* Returns the nanoseconds, or 0 if the command failed. end_signal: sent after the first byte; 0: it
 * ends itself.
 */
static uint64_t once(char **argv, int end_signal, int out)
{
	posix_spawn_file_actions_t files;
	int pipes[2], status, r;
	uint64_t start, took = 0;
	char byte, rest[4096];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		fail("pipe");
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, end_signal ? pipes[1] : out, 1);
	posix_spawn_file_actions_adddup2(&files, out, 2);
	start = now();
	r = posix_spawnp(&pid, argv[0], &files, NULL, argv, environ);
	close(pipes[1]);
	if (r) {
		errno = r;
		fail(argv[0]);
	}
	if (end_signal && read(pipes[0], &byte, 1) == 1) {
		took = now() - start;
		kill(pid, end_signal);
		while (read(pipes[0], rest, sizeof(rest)) > 0) /* it may be in the middle of more */
			;
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	if (!end_signal && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		took = now() - start;
	close(pipes[0]);
	posix_spawn_file_actions_destroy(&files);
	return took;
}

int main(int argc, char **argv)
{
	const char *before = NULL, *after = NULL, *file = "/dev/null";
	int c, out, runs, end_signal = 0, busy = 0;
	uint64_t *took, before_ran = 0;

	while ((c = getopt(argc, argv, "+bika:f:o:")) != -1) {
		switch (c) {
		case 'b': end_signal = SIGTERM; break;
		case 'k': end_signal = SIGKILL; break;
		case 'i': busy = 1; break;
		case 'a': after = optarg; break;
		case 'f': before = optarg; break;
		case 'o': file = optarg; break;
		default: return 2;
		}
	}
	runs = optind + 1 < argc ? atoi(argv[optind]) : 0;
	if (runs < 1)
		return 2;
	out = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	took = calloc((size_t)runs, sizeof(*took));
	if (out < 0 || !took)
		fail(file);
	setpriority(PRIO_PROCESS, 0, -20); /* what else the machine does should not show */
	for (int i = 0; i < runs; i++) {
		if (before && system(before)) {
			fprintf(stderr, "timer: what comes before run %d failed\n", i);
			return 1;
		}
		if (busy)
			before_ran = ran();
		took[i] = once(argv + optind + 1, end_signal, out);
		if (busy && took[i])
			took[i] = ran() - before_ran;
		if (!took[i]) {
			fprintf(stderr, "timer: run %d of %s failed\n", i, argv[optind + 1]);
			return 1;
		}
		if (after && system(after)) /* its trouble is seen in the next run */
			continue;
	}
	for (int i = 0; i < runs; i++)
		printf("%" PRIu64 "\n", took[i]);
	return 0;
}
