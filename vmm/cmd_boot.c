/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm boot: starts a VM, in the foreground or detached.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd.h"
#include "vmm/launch.h"
#include "vmm/machine.h"

struct boot_config {
	struct machine_config machine;
	const char *id, *console;
	const char *rootfs;
	bool detach, timing, no_agent;
	struct rundir rundir;
	struct launch launch;
};

static int set_disk(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->disks == MACHINE_MAX_DISKS)
		return err_set(e, EINVAL, "at most %u disks", MACHINE_MAX_DISKS);
	return disk_parse(&m->disk[m->disks++], value, e);
}

static int set_share(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;
	struct share_config *s = &m->share[m->shares];

	if (m->shares == SHARE_MAX)
		return err_set(e, EINVAL, "at most %u shares", SHARE_MAX);
	if (share_parse(s, value, e))
		return -EINVAL;
	for (unsigned int i = 0; i < m->shares; i++)
		if (!strcmp(m->share[i].tag, s->tag))
			return err_set(e, EINVAL, "the tag %s is given twice", s->tag);
	m->shares++;
	return 0;
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
	if (disk_parse(&root, value, e))
		return -EINVAL;
	m->disk[0] = root;
	return 0;
}

static int set_net(void *to, const char *value, struct err *e)
{
	struct machine_config *m = to;

	if (m->nets == NET_MAX)
		return err_set(e, EINVAL, "at most %u networks", NET_MAX);
	return net_parse(&m->net[m->nets++], value, e);
}

#define AT(member)  offsetof(struct boot_config, member)
#define ATM(member) offsetof(struct boot_config, machine.member)

static const struct opt options[] = {
	{"kernel", 'k', "FILE", "vmlinux (ELF) or bzImage; required", opt_set_str, ATM(kernel)},
	{"rootfs", 'r', "IMG[,ro|,cow...]", "root file system, the guest's first disk", set_rootfs,
	 AT(machine)},
	{"disk", 0, "IMG[,ro|,cow...]",
	 "a further disk (or 'placeholder'), see below; may be repeated", set_disk, AT(machine)},
	{"share", 0, "DIR:TAG[:ro]",
	 "a directory (or 'placeholder') that the guest can mount; may be repeated", set_share,
	 AT(machine)},
	{"network", 0, "KIND[,NAME=VALUE...]",
	 "a network device, see below; may be repeated", set_net, AT(machine)},
	{"net", 0, "KIND[,NAME=VALUE...]", NULL, set_net, AT(machine)},
	{"slots", 0, "N", "places for what 'uvm attach' may bring (default 0)",
	 opt_set_u32, ATM(spares)},
	{"rng", 0, NULL, "a source of random numbers for the guest (virtio-rng)", opt_set_flag,
	 ATM(rng)},
	{"initrd", 0, "FILE", "initrd to use as it is, instead of uvm's agent", opt_set_str,
	 ATM(initrd)},
	{"no-agent", 0, NULL, "no agent: the root file system's own init is run", opt_set_flag,
	 AT(no_agent)},
	{"memory", 'm', "SIZE", "guest memory (default 256M)", opt_set_size, ATM(memory)},
	{"huge-pages", 0, NULL, "memory in huge pages, also where the host gives them to who asks",
	 opt_set_flag, ATM(huge_pages)},
	{"cpus", 'c', "N", "vCPUs, 1 to 32 (default 1)", opt_set_u32, ATM(cpus)},
	{"cpu-template", 0, "host|baseline",
	 "CPU features: all of this host's, or those that snapshots find elsewhere too", cpuid_set_template,
	 ATM(cpu_template)},
	{"cmdline", 0, "TEXT", "added to the kernel command line", opt_set_str, ATM(cmdline)},
	{"name", 0, "NAME", "the VM's name (default: a random one)", opt_set_id, AT(id)},
	{"id", 0, "NAME", NULL, opt_set_id, AT(id)},
	{"detach", 'd', NULL, "run in the background; print the id when it is ready", opt_set_flag,
	 AT(detach)},
	{"console", 0, "stdio|FILE|off", "where the serial console goes", opt_set_str, AT(console)},
	{"console-bps", 0, "SIZE", "bytes a second that it takes; what is more is lost (default: no limit)",
	 opt_set_size, ATM(console.bps)},
	CGROUP_OPTIONS(ATM(cgroup)),
	{"sandbox", 0, "on|none|user=UID[:GID]",
	 "none: the VM's process keeps all rights of its user; user=: of root's VM, it is that user's (default on)",
	 confine_set, ATM(confine)},
	{"timing", 0, NULL, "report when each step of the start was done", opt_set_flag,
	 AT(timing)},
	{0},
};

static void defaults(void *to)
{
	struct boot_config *c = to;

	c->machine.memory = 256u << 20;
	c->machine.cpus = 1;
	c->machine.balloon = true;
	c->launch.fd = -1;
}

static int check_slots(const struct machine_config *m, struct err *e)
{
	unsigned int needed = machine_slots(m) - m->spares;

	if (needed > MACHINE_MAX_DISKS)
		return err_set(e, EINVAL, "at most %u disks, networks and shares in all%s",
			       MACHINE_MAX_DISKS - m->rng, m->rng ? ", beside --rng" : "");
	return m->spares <= MACHINE_MAX_DISKS - needed
		       ? 0
		       : err_set(e, EINVAL, "--slots: there is room for %u", MACHINE_MAX_DISKS - needed);
}

static int check_machine(const struct machine_config *m, struct err *e)
{
	if (!m->kernel)
		return err_set(e, EINVAL, "boot needs --kernel FILE; see 'uvm help boot'");
	if (m->cpus < 1 || m->cpus > VCPU_MAX)
		return err_set(e, EINVAL, "--cpus: %u is outside 1 to %d", m->cpus, VCPU_MAX);
	if (m->memory < MEM_MIN || m->memory > MEM_MAX || m->memory % 4096)
		return err_set(e, EINVAL, "--memory: %llu bytes are not whole pages of 4 KiB from %lluM to %lluG",
			       (unsigned long long)m->memory, MEM_MIN >> 20, MEM_MAX >> 30);
	return check_slots(m, e);
}

/* The first failure in the order that a user reads the command line. */
static int check(struct boot_config *c, struct err *e)
{
	struct machine_config *m = &c->machine;
	int r = check_machine(m, e);

	if (r)
		return r;
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

static void ready(void *ctx)
{
	struct boot_config *c = ctx;

	launch_ready(&c->launch, &c->rundir);
}

/* The VM, in this process, from its start to its end. */
static int run_vm(struct boot_config *c, struct err *e)
{
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		err_set(e, 0, "out of memory");
		return EXIT_FAIL;
	}
	choose_console(c);
	m->ready = ready;
	m->ready_ctx = c;
	r = machine_init(m, &c->machine, &c->rundir, e);
	return launch_run(&c->launch, m, r, c->timing, e);
}

/* Runs the VM in a child, which goes on when this process has seen it ready. */
static int run_detached(struct boot_config *c, struct err *e)
{
	int r = launch_fork(&c->launch, e), status;

	if (r > 0)
		return run_vm(c, e);
	if (r < 0) {
		rundir_remove(&c->rundir);
		return EXIT_FAIL;
	}
	status = launch_await(&c->launch, e);
	if (!status)
		printf("%s\n", c->rundir.id);
	return status;
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
		 "'mount -t virtiofs TAG DIR' in the guest mounts a share. It may remember for a second\n"
		 "what it has seen there; with ':cache=none' behind the tag not at all, with\n"
		 "':cache=always' for ever.\n\n"
		 DISK_WORDS
		 "\n"
		 "A network's KIND is tap=NAME (a tap device), fd=N (the descriptor of one),\n"
		 "unix=PATH (a stream socket that speaks as passt and QEMU do), passt (which is\n"
		 "started), or none (the link is down, until a clone has it connected). Then may\n"
		 "follow: mac=ADDRESS; mtu=N (default 1500, with passt 65520); bps=N, a limit in\n"
		 "bytes each second each way (50M); offload=on|off, whether the guest may leave\n"
		 "checksums and segmentation to a tap device (default off for none, which then any\n"
		 "kind fits); tcp=PORTS and udp=PORTS, which passt forwards to the guest. The agent\n"
		 "sets the interface up by ip=ADDRESS/BITS, gw=ADDRESS and dns=ADDRESS.\n\n"
		 "Exit status: 0 the guest switched itself off, reset itself, or was stopped; 1 it "
		 "could\n"
		 "not be started or not go on; 2 wrong command line; 3 the guest's kernel "
		 "panicked.\n",
	.examples = "uvm boot --kernel vmlinux --rootfs root.ext4 --name web --detach\n"
		    "uvm boot --kernel vmlinux --rootfs root.erofs,ro --disk data.img,iops=500 --memory 1G --cpus 4\n"
		    "uvm boot --kernel vmlinux --rootfs root.ext4 --share /srv:srv:ro\n"
		    "uvm boot --kernel vmlinux --rootfs root.ext4 --network tap=vm0,ip=10.0.0.2/24,gw=10.0.0.1\n",
	.run = run,
	.cfg_size = sizeof(struct boot_config),
	.defaults = defaults,
};
