/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm boot: starts a VM, in the foreground or detached.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/log.h"
#include "vmm/machine.h"

/* How long a detached VM may take until its agent answers. */
#define READY_TIMEOUT_MS 60000

struct boot_config {
	struct machine_config machine;
	const char *id, *console;
	const char *rootfs;
	bool detach, timing, no_agent;
	struct rundir rundir;
	int ready_fd; /* a detached VM tells its starter here; -1: not detached */
};

/* Paths with an option behind a comma, "IMG" or "IMG,ro". value is the process's own argv. */
static int parse_disk(struct disk_config *d, const char *value, struct err *e)
{
	char *comma = strchr(value, ',');

	d->path = value;
	if (comma) {
		if (strcmp(comma, ",ro"))
			return err_set(e, EINVAL, "'%s': only ',ro' may follow the path", value);
		*comma = 0;
		d->read_only = true;
	}
	return *value ? 0 : err_set(e, EINVAL, "the path is empty");
}

static int set_disk(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->disks == MACHINE_MAX_DISKS)
		return err_set(e, EINVAL, "at most %u disks", MACHINE_MAX_DISKS);
	return parse_disk(&m->disk[m->disks++], value, e);
}

/* The root file system is the first disk, wherever on the command line it was named. */
static int set_rootfs(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;
	struct disk_config root = {0};

	if (m->has_root)
		return err_set(e, EINVAL, "given twice");
	if (m->disks == MACHINE_MAX_DISKS)
		return err_set(e, EINVAL, "at most %u disks", MACHINE_MAX_DISKS);
	memmove(m->disk + 1, m->disk, m->disks * sizeof(m->disk[0]));
	m->disks++;
	m->has_root = true;
	if (parse_disk(&root, value, e))
		return -EINVAL;
	m->disk[0] = root;
	return 0;
}

#define AT(member)  offsetof(struct boot_config, member)
#define ATM(member) offsetof(struct boot_config, machine.member)

static const struct opt options[] = {
	{"kernel", 'k', "FILE", "vmlinux (ELF) or bzImage; required", opt_set_str, ATM(kernel)},
	{"rootfs", 'r', "IMG[,ro]", "root file system, the guest's first disk", set_rootfs,
	 AT(machine)},
	{"disk", 'd', "IMG[,ro]", "a further disk; may be repeated", set_disk, AT(machine)},
	{"initrd", 'i', "FILE", "initrd to use as it is, instead of uvm's agent", opt_set_str,
	 ATM(initrd)},
	{"no-agent", 0, NULL, "no agent: the root file system's own init is run", opt_set_flag,
	 AT(no_agent)},
	{"memory", 'm', "SIZE", "guest memory (default 256M)", opt_set_size, ATM(memory)},
	{"cpus", 'c', "N", "vCPUs, 1 to 32 (default 1)", opt_set_u32, ATM(cpus)},
	{"cmdline", 0, "TEXT", "added to the kernel command line", opt_set_str, ATM(cmdline)},
	{"id", 0, "NAME", "the VM's name (default: a random one)", opt_set_str, AT(id)},
	{"detach", 0, NULL, "run in the background; print the id when it is ready", opt_set_flag,
	 AT(detach)},
	{"console", 0, "stdio|FILE|off", "where the serial console goes", opt_set_str, AT(console)},
	{"timing", 0, NULL, "report when each step of the start was done", opt_set_flag,
	 AT(timing)},
	{0},
};

static void defaults(void *to)
{
	struct boot_config *c = to;

	c->machine.memory = 256u << 20;
	c->machine.cpus = 1;
	c->ready_fd = -1;
}

/* The first failure in the order that a user reads the command line. */
static int check(struct boot_config *c, struct err *e)
{
	struct machine_config *m = &c->machine;

	if (!m->kernel)
		return err_set(e, EINVAL, "boot needs --kernel FILE; see 'uvm help boot'");
	if (m->cpus < 1 || m->cpus > VCPU_MAX)
		return err_set(e, EINVAL, "--cpus: %u is outside 1 to %d", m->cpus, VCPU_MAX);
	if (m->memory < MEM_MIN || m->memory > MEM_MAX || m->memory % 4096)
		return err_set(e, EINVAL, "--memory: whole pages from %lluM to %lluG, please",
			       MEM_MIN >> 20, MEM_MAX >> 30);
	if (c->id && !rundir_id_valid(c->id))
		return err_set(
			e, EINVAL,
			"--id: '%s' is not a name: 1 to %d letters, digits, '.', '_' and '-', "
			"beginning with a letter or digit",
			c->id, RUNDIR_ID_MAX);
	if (c->console && !strcmp(c->console, "stdio") && c->detach)
		return err_set(e, EINVAL, "--console stdio and --detach exclude each other");
	m->agent = !c->no_agent && !m->initrd;
	return 0;
}

static void choose_console(struct boot_config *c)
{
	struct console_config *con = &c->machine.console;

	con->dir = c->rundir.dir;
	if (!c->console)
		con->mode = c->detach ? CONSOLE_LOG : CONSOLE_STDIO;
	else if (!strcmp(c->console, "stdio"))
		con->mode = CONSOLE_STDIO;
	else if (!strcmp(c->console, "off"))
		con->mode = CONSOLE_OFF;
	else {
		con->mode = CONSOLE_FILE;
		con->path = c->console;
	}
}

/* The detached VM lets go of its starter: its messages go to the run directory from here on. */
static void detached(void *ctx)
{
	struct boot_config *c = ctx;
	int log = openat(c->rundir.dir, RUNDIR_LOG,
			 O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (c->ready_fd < 0)
		return;
	dup2(log >= 0 ? log : STDOUT_FILENO, STDERR_FILENO); /* standard output is /dev/null */
	if (log >= 0)
		close(log);
	if (write_all(c->ready_fd, "r", 1)) /* the starter is gone, nobody knows of this VM */
		kill(getpid(), SIGTERM);
	close(c->ready_fd);
	c->ready_fd = -1;
}

static int end_status(const struct machine *m, struct err *e)
{
	switch (end_get(&m->end)) {
	case END_PANIC: err_set(e, 0, "%s", m->end.text); return EXIT_PANIC;
	case END_FAULT: err_set(e, 0, "%s", m->end.text); return EXIT_FAIL;
	default: log_line("%s", m->end.text); return EXIT_OK;
	}
}

/* The VM, in this process, from its start to its end. */
static int run_vm(struct boot_config *c, struct err *e)
{
	struct machine *m = calloc(1, sizeof(*m));
	int status;

	if (!m) {
		err_set(e, 0, "out of memory");
		return EXIT_FAIL;
	}
	choose_console(c);
	if (c->detach && c->machine.agent) {
		m->ready = detached;
		m->ready_ctx = c;
	}
	status = machine_init(m, &c->machine, &c->rundir, e) ? EXIT_FAIL : EXIT_OK;
	if (!status && c->detach && !c->machine.agent)
		detached(c); /* nobody will say when that guest is ready */
	if (!status)
		status = machine_run(m, e) ? EXIT_FAIL : end_status(m, e);
	if (c->timing)
		machine_print_marks(m, stderr);
	rundir_remove(&c->rundir);
	if (c->ready_fd >= 0 && !status) {
		err_set(e, 0, "the guest ended before its agent was ready");
		status = EXIT_FAIL;
	}
	/* The kernel takes the VM, its memory and its threads down with the process. */
	return status;
}

/* What the starter of a detached VM sees of it: ready, or gone with a status, or neither. */
static int await_ready(struct boot_config *c, pid_t pid, int fd, struct err *e)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int status = 0;
	char byte;

	if (poll(&p, 1, READY_TIMEOUT_MS) == 0) {
		kill(pid, SIGTERM);
		waitpid(pid, &status, 0);
		err_set(e, 0, "the guest's agent did not answer within %d s; the VM was ended",
			READY_TIMEOUT_MS / 1000);
		return EXIT_FAIL;
	}
	if (read(fd, &byte, 1) == 1) {
		printf("%s\n", c->rundir.id);
		return EXIT_OK;
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAIL;
}

static int become_background(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setsid() < 0 || null < 0)
		return -errno;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	return 0;
}

/* Runs the VM in a child, which goes on when this process has seen it ready. */
static int run_detached(struct boot_config *c, struct err *e)
{
	int fd[2];
	pid_t pid = -1;

	if (pipe2(fd, O_CLOEXEC) || (pid = fork()) < 0) {
		err_sys(e, "cannot start a process in the background");
		rundir_remove(&c->rundir);
		return EXIT_FAIL;
	}
	if (pid) {
		close(fd[1]);
		return await_ready(c, pid, fd[0], e);
	}
	close(fd[0]);
	c->ready_fd = fd[1];
	if (become_background()) {
		err_sys(e, "cannot go to the background");
		rundir_remove(&c->rundir);
		return EXIT_FAIL;
	}
	return run_vm(c, e);
}

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	struct boot_config *c = cfg;

	(void)argv;
	if (argc)
		return cmd_usage(&cmd_boot, e);
	if (check(c, e))
		return EXIT_USAGE;
	if (rundir_create(&c->rundir, c->id, e))
		return EXIT_FAIL;
	return c->detach ? run_detached(c, e) : run_vm(c, e);
}

const struct cmd cmd_boot = {
	.name = "boot",
	.args = "",
	.summary = "Start a VM",
	.options = options,
	.notes = "With uvm's agent (the default) the agent is the guest's first process, and 'uvm "
		 "exec'\n"
		 "runs commands. Ctrl-] on the console's terminal ends the VM.\n\n"
		 "Exit status: 0 the guest switched itself off, reset itself, or was stopped; 1 it "
		 "could\n"
		 "not be started or not go on; 2 wrong command line; 3 the guest's kernel "
		 "panicked.\n\n"
		 "  uvm boot --kernel vmlinux --rootfs root.ext4 --id web --detach\n"
		 "  uvm exec web -- uname -a\n",
	.run = run,
	.cfg_size = sizeof(struct boot_config),
	.defaults = defaults,
};
