/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm-agent: PID 1 of a guest. Sets it up, tells the host, serves, and takes it down.
 *
 * The order is the boot time: only what a command cannot do without comes before the host is told,
 * and the connection for that is begun before the root file system is mounted, so that its round
 * trip to the host costs no time of its own. Requests that come while the rest is set up wait in
 * the listening socket.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "guest/agent/agent.h"
#include "guest/agent/boot.h"

static int vsock(struct sockaddr_vm *addr, unsigned cid)
{
	*addr = (struct sockaddr_vm){
		.svm_family = AF_VSOCK, .svm_port = AGENT_PORT, .svm_cid = cid};
	return socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Begins the link. Returns a socket or -1. */
static int call_host(void)
{
	struct sockaddr_vm addr;
	int fd = vsock(&addr, VMADDR_CID_HOST);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
	    errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The link is there by now, as a rule; else serve() tries again. */
static void say_hello(struct serve_config *config)
{
	int r = hello_send(config->link_fd, config->start_ns);

	config->greeted = !r;
	if (!r || r == -EAGAIN)
		return;
	close(config->link_fd);
	config->link_fd = -1;
}

/* Returns a socket, or -1 after a line on the console. */
static int listen_vsock(void)
{
	struct sockaddr_vm addr;
	int fd = vsock(&addr, VMADDR_CID_ANY);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
	    !listen(fd, AGENT_CONNECTIONS))
		return fd;
	say("cannot listen on vsock; no command can be run from the host", NULL, errno);
	if (fd >= 0)
		close(fd);
	return -1;
}

static void signal_all(int signo)
{
	kill(-1, signo); /* every process but the first */
}

/* The host waits for the agent, and for no longer than some seconds: however many processes keep the
 * guest busy, it has its turn before them. What it starts is none of that: SCHED_RESET_ON_FORK takes
 * the priority away. (musl's function for it always fails.)
 */
static void go_first(void)
{
	struct sched_param none = {0};

	if (!syscall(SYS_sched_setscheduler, 0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none))
		setpriority(PRIO_PROCESS, 0, -20);
}

int main(int argc, char **argv)
{
	static struct agent agent;
	static struct boot boot;
	static struct freezer freezer;
	static struct words words;
	struct identity identity;
	struct serve_config config = {.start_ns = boot_ns(),
				      .signal_all = signal_all,
				      .freezer = &freezer,
				      .take_identity = identity_take,
				      .identity = &identity,
				      .words = &words,
				      .mount_words = words_mount};
	int r;

	(void)argv;
	if (getpid() != 1) {
		if (argc > 1) /* a program to run where there is no other (vmm/template.c) */
			return 0;
		say("is the first process of a uvm guest and runs as nothing else", NULL, 0);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	boot.words = &words;
	boot_begin(&boot);
	config.link_fd = call_host();
	if (boot_root(&boot))
		return 1; /* the kernel panics, and the monitor sees that */
	config.listen_fd = listen_vsock();
	if (config.link_fd >= 0)
		say_hello(&config);
	boot_finish(&boot);
	freezer_open(&freezer, "/sys/fs/cgroup");
	identity_open(&identity, boot.root && boot.read_only);
	go_first();
	r = serve(&agent, &config);
	if (r < 0) {
		say("cannot serve", NULL, -r);
		return 1;
	}
	boot_down(r);
}
