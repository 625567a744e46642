/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/contain.h"
#include "guest/agent/text.h"

#define MAP_MAX 4096 /* bytes of a map's file, as user_namespaces(7) has it */

/* Tells what the guest's /proc calls it once it is there, and stays until it is killed. */
static _Noreturn void hold(int tell, uint64_t namespaces)
{
	char pid[NUMBER_SIZE];
	ssize_t n = readlink("/proc/self", pid, sizeof(pid));

	if (n > 0 && !unshare((int)(CLONE_NEWUSER | namespaces)))
		(void)!write(tell, pid, (size_t)n);
	close(tell);
	for (;;)
		pause();
}

/* Only who has the guest's rights can map more than its own id. */
static void write_map(const struct spawn *s, const struct create *c, const char *pid, uint32_t gid)
{
	char path[64], map[MAP_MAX], inside[NUMBER_SIZE], outside[NUMBER_SIZE], count[NUMBER_SIZE];
	struct records records = c->records;
	struct record r;
	size_t n = 0;
	int fd;

	while (n < sizeof(map) && record_next(&records, AGENT_R_ID_MAP, &r)) {
		const struct agent_id_map *m = r.body;

		if (m->gid == gid)
			n += compose(map + n, sizeof(map) - n, number_text(inside, m->inside), " ",
				     number_text(outside, m->outside), " ",
				     number_text(count, m->count), "\n", NULL);
	}
	compose(path, sizeof(path), "/proc/", pid, gid ? "/gid_map" : "/uid_map", NULL);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, map, n) != (ssize_t)n)
		spawn_refuse(s, "cannot map ids of the user namespace", NULL);
	close(fd);
}

/* What id 0 is outside. */
static uint32_t outside(const struct spawn *s, const struct create *c, uint32_t gid)
{
	struct records records = c->records;
	struct record r;

	while (record_next(&records, AGENT_R_ID_MAP, &r)) {
		const struct agent_id_map *m = r.body;

		if (m->gid == gid && !m->inside)
			return m->outside;
	}
	errno = EINVAL;
	spawn_refuse(s, "the user namespace has no map for its root", NULL);
}

void userns_make(struct userns *u, const struct spawn *s, const struct create *c)
{
	uint64_t inside = contain_flags(c->head.new_namespaces & USERNS_INSIDE);
	char pid[NUMBER_SIZE] = "", path[64];
	int tell[2];

	*u = (struct userns){.fd = -1, .pidfd = -1};
	if (!(c->head.new_namespaces & AGENT_NS_USER))
		return;
	u->uid = outside(s, c, 0);
	u->gid = outside(s, c, 1);
	if (pipe2(tell, O_CLOEXEC))
		spawn_refuse(s, "cannot make a pipe", NULL);
	u->helper = fork();
	if (!u->helper)
		hold(tell[1], inside);
	close(tell[1]);
	if (u->helper < 0 || read(tell[0], pid, sizeof(pid) - 1) <= 0)
		spawn_refuse(s, "cannot make a user namespace", NULL);
	close(tell[0]);
	write_map(s, c, pid, 0);
	write_map(s, c, pid, 1);
	compose(path, sizeof(path), "/proc/", pid, "/ns/user", NULL);
	u->fd = open(path, O_RDONLY | O_CLOEXEC);
	u->pidfd = (int)syscall(SYS_pidfd_open, u->helper, 0);
	if (u->fd < 0 || u->pidfd < 0 || (inside && setns(u->pidfd, (int)inside)))
		spawn_refuse(s, "cannot join the namespaces", NULL);
}

static void become_root(const struct spawn *s)
{
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setgid, 0) || syscall(SYS_setuid, 0))
		spawn_refuse(s, "cannot become root of the user namespace", NULL);
}

void userns_enter(const struct userns *u, const struct spawn *s)
{
	if (!u->helper)
		return;
	/* So that its root can give them to the user of its program. */
	for (int i = 0; i < 3; i++)
		if (s->fd[i] >= 0 && lseek(s->fd[i], 0, SEEK_CUR) < 0)
			(void)!fchown(s->fd[i], u->uid, u->gid);
	if (setns(u->pidfd, CLONE_NEWUSER) || unshare(CLONE_NEWNS))
		spawn_refuse(s, "cannot enter the user namespace", NULL);
	/* Its user is not ours any more, but its parent may always. */
	kill(u->helper, SIGKILL);
	while (waitpid(u->helper, NULL, 0) < 0 && errno == EINTR)
		continue;
	become_root(s);
}

void userns_join(const struct spawn *s, int pidfd, uint64_t flags)
{
	if (setns(pidfd, (int)flags))
		spawn_refuse(s, "cannot join the container's namespaces", NULL);
	if (flags & CLONE_NEWUSER)
		become_root(s);
}
