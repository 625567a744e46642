/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "guest/agent/agent.h"

#define TURN_EVENTS 64

/* The way down, step by step: whom the processes hear from, and how long they then have to end. The
 * first is for the process that asked by a signal: when poweroff(8) has done its work it should
 * end with success and not of the SIGTERM that it caused.
 */
static const struct {
	int signo;
	uint32_t ms;
} stop_steps[] = {{0, 200}, {SIGTERM, 2000}, {SIGKILL, 1000}};

#define STOP_STEPS (sizeof(stop_steps) / sizeof(stop_steps[0]))

/* How init is told to end. busybox' halt, poweroff and reboot send the first three; the kernel
 * SIGINT for Ctrl-Alt-Del; systemd's tools the last, which are SIGRTMIN+3 to +5 of glibc. A halted
 * virtual machine is of no use to anybody, so halt is poweroff.
 */
static const struct {
	int signo;
	enum agent_shutdown_mode mode;
} stop_signals[] = {
	{SIGUSR1, AGENT_POWEROFF}, {SIGUSR2, AGENT_POWEROFF}, {SIGTERM, AGENT_REBOOT},
	{SIGINT, AGENT_REBOOT},	   {34 + 3, AGENT_POWEROFF},  {34 + 4, AGENT_POWEROFF},
	{34 + 5, AGENT_REBOOT},
};

#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(stop_signals[0]))

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

uint64_t now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000u;
}

int hello_send(int fd, uint64_t start_ns)
{
	struct agent_info info = {.uptime_ns = boot_ns(), .start_ns = start_ns};
	struct agent_header head = {.magic = AGENT_MAGIC,
				    .version = AGENT_VERSION,
				    .type = AGENT_HELLO,
				    .length = sizeof(info)};
	struct iovec iov[] = {{&head, sizeof(head)}, {&info, sizeof(info)}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	info.ready_ns = info.uptime_ns;
	if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	if (errno == ENOTCONN || errno == EAGAIN) {
		int error = 0;
		socklen_t size = sizeof(error);

		/* Not connected yet, unless that has failed. */
		if (!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && !error)
			return -EAGAIN;
	}
	return -EPIPE;
}

struct agent_info agent_info(const struct agent *a)
{
	struct agent_info info = {
		.uptime_ns = boot_ns(), .start_ns = a->config->start_ns, .ready_ns = a->ready_ns};

	for (int i = 0; i < (int)AGENT_SESSIONS; i++)
		info.sessions += a->sessions[i].state != SESSION_FREE &&
				 a->sessions[i].state != SESSION_ENDED;
	for (int i = 0; i < (int)AGENT_CONNECTIONS; i++)
		info.connections += a->conns[i].state != CONN_FREE;
	return info;
}

int watch(struct agent *a, int fd, enum watch_kind kind, uint32_t index, uint32_t part)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				 .data.u64 = (uint64_t)kind << 48 | (uint64_t)part << 32 | index};

	/* All but the listening socket are tried until they have no more. A vsock that has no
	 * connection waiting sleeps in accept until the next timer tick, non-blocking or not; so
	 * it is asked once for each event, and the event is to come again while there are more.
	 */
	if (kind == WATCH_LISTEN)
		ev.events = EPOLLIN;
	if (!epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &ev) ||
	    (errno == EEXIST && !epoll_ctl(a->epoll, EPOLL_CTL_MOD, fd, &ev)))
		return 0;
	return -errno;
}

/* With a loopback transport every process of the guest can reach the port, and the agent makes
 * root's processes.
 */
static bool from_host(const struct sockaddr_vm *peer)
{
	return peer->svm_family != AF_VSOCK || peer->svm_cid == VMADDR_CID_HOST;
}

static void accept_one(struct agent *a)
{
	union {
		struct sockaddr any;
		struct sockaddr_vm vm;
	} peer = {.any.sa_family = AF_UNSPEC};
	socklen_t size = sizeof(peer);
	int fd = accept4(a->config->listen_fd, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (from_host(&peer.vm))
		conn_accept(a, fd);
	else
		close(fd);
}

static void reap(struct agent *a)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
		session_reaped(a, pid, wait_status);
}

static void take_signals(struct agent *a)
{
	struct signalfd_siginfo info;

	while (read(a->signals, &info, sizeof(info)) == sizeof(info)) {
		for (size_t i = 0; i < STOP_SIGNALS; i++)
			if (info.ssi_signo == (uint32_t)stop_signals[i].signo &&
			    !container_sent(a, (pid_t)info.ssi_pid))
				agent_stop(a, stop_signals[i].mode, (pid_t)info.ssi_pid);
	}
	reap(a);
}

static void handle_event(struct agent *a, const struct epoll_event *ev)
{
	uint32_t index = (uint32_t)ev->data.u64, part = (uint32_t)(ev->data.u64 >> 32) & 0xffff;

	switch ((enum watch_kind)(ev->data.u64 >> 48)) {
	case WATCH_LISTEN: accept_one(a); break;
	case WATCH_SIGNALS: take_signals(a); break;
	case WATCH_CONN: conn_event(a, &a->conns[index], ev->events); break;
	case WATCH_CONTAINER: container_event(a, &a->containers[index]); break;
	case WATCH_SESSION: session_event(a, &a->sessions[index], part, ev->events); break;
	}
}

static void next_stop_step(struct agent *a)
{
	int signo = stop_steps[a->stop_step].signo;

	if (signo)
		a->config->signal_all(signo);
	if (signo == SIGTERM)
		a->config->signal_all(SIGCONT); /* a stopped process cannot end otherwise */
	a->stop_deadline_ms = now_ms() + stop_steps[a->stop_step].ms;
	a->stop_step++;
}

void agent_stop(struct agent *a, enum agent_shutdown_mode mode, pid_t asker)
{
	if (a->stop)
		return;
	a->stop = mode;
	a->stop_asker = asker;
	a->stop_step = asker > 0 ? 0 : 1;
	prepare_drop(a); /* it would hear of nothing but a SIGKILL */
	next_stop_step(a);
}

/* On the way down. Returns whether it is time to go: no child is left (and what the last one wrote
 * has gone out), or they have had their time.
 */
static bool stopped(struct agent *a)
{
	siginfo_t info;
	bool childless =
		waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
	bool asker_gone = a->stop_step == 1 && a->stop_asker && kill(a->stop_asker, 0);

	if (childless && !agent_info(a).sessions)
		return true;
	if (now_ms() < a->stop_deadline_ms && !asker_gone)
		return false;
	if (a->stop_step == STOP_STEPS)
		return true;
	next_stop_step(a);
	return false;
}

/* Gives another turn to the sessions that had not finished theirs. */
static void pump_busy(struct agent *a)
{
	a->busy = false;
	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++)
		if (s->state != SESSION_FREE && s->busy)
			session_pump(a, s);
}

/* How long the loop may sleep, as epoll_wait takes it. */
static int patience(const struct agent *a)
{
	uint64_t now;

	if (a->busy)
		return 0;
	if (!a->stop)
		return -1;
	now = now_ms();
	return now < a->stop_deadline_ms ? (int)(a->stop_deadline_ms - now) : 0;
}

static int turn(struct agent *a)
{
	struct epoll_event events[TURN_EVENTS];
	int n, timeout = patience(a);
	bool busy = a->busy;

	n = epoll_wait(a->epoll, events, TURN_EVENTS, timeout);
	if (n < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < n; i++)
		handle_event(a, &events[i]);
	if (busy)
		pump_busy(a);
	return 0;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		sigaddset(&set, stop_signals[i].signo);
	sigprocmask(SIG_SETMASK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int serve(struct agent *a, const struct serve_config *config)
{
	int r;

	a->config = config;
	a->cgroups = a->pid_ns = -1;
	a->ready_ns = boot_ns();
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	a->signals = open_signals();
	a->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (a->epoll < 0 || a->signals < 0 || a->null < 0)
		return -errno;
	r = watch(a, a->signals, WATCH_SIGNALS, 0, 0);
	if (!r && config->listen_fd >= 0)
		r = watch(a, config->listen_fd, WATCH_LISTEN, 0, 0);
	if (!r && config->link_fd >= 0)
		conn_link(a, config->link_fd, config->greeted);
	while (!r && !(a->stop && stopped(a)))
		r = turn(a);
	for (struct conn *c = a->conns; c < a->conns + AGENT_CONNECTIONS; c++)
		if (c->state != CONN_FREE)
			conn_close(a, c);
	close(a->null);
	close(a->signals);
	close(a->epoll);
	return r ? r : (int)a->stop;
}
