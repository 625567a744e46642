/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm check: what this host offers, and what to do about what it lacks.
 */
#include <dirent.h>
#include <fcntl.h>
#include <mntent.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/confine.h"
#include "vmm/jail.h"
#include "vmm/json.h"
#include "vmm/kvm.h"
#include "vmm/probe.h"

/* Exit statuses of this command. */
enum verdict { LINUX = 0, SMALL_ONLY = 1, UNUSABLE = 2 };

static const char *const verdict_name[] = {"linux", "small-guests-only", "unusable"};

struct check_config {
	bool json;
};

static const struct opt options[] = {
	{"json", 0, NULL, "print a JSON object", opt_set_flag, offsetof(struct check_config, json)},
	{0},
};

/* Everything that is found out, before anything is printed. */
struct findings {
	struct err kvm_error; /* why there is no KVM; empty: there is */
	int missing;	      /* required capabilities */
	int value[32];	      /* of kvm_caps[i] */
	struct err vm_error;  /* why no VM could be made; empty: one was */
	struct probe probe;
	bool quick;	      /* a process can be put into a cgroup without a wait */
	char remount[512];    /* what to do about it; empty: nothing */
	bool smt, ksm;	      /* are on */
	bool jail;	      /* a VM of this user's is in one */
	int landlock;	      /* its version; 0: none */
	char vulnerable[512]; /* what the host's kernel says its CPU is, and does nothing about */
	enum verdict verdict;
	const char *advice;
};

/* From Linux 6.0 to 6.12, KVM puts a worker thread into the cgroups of whoever makes a VM with a wait
 * for an RCU grace period, which is most of a clone's time; not so with the option favordynmods on
 * any cgroup mount (Documentation/admin-guide/cgroup-v2.rst, "Mounting"; v1 knows it, too). Before,
 * it is as if it were always on; after, the thread is the VM's process's own.
 */
static void look_at_cgroups(struct findings *f)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct utsname name;
	unsigned int major, minor;
	struct mntent *m;

	f->quick = !uname(&name) && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
		   (major != 6 || minor > 12);
	while (mounts && !f->quick && (m = getmntent(mounts))) {
		if (strncmp(m->mnt_type, "cgroup", 6))
			continue;
		if (hasmntopt(m, "favordynmods"))
			f->quick = true;
		/* A remount changes it on v2, hybrid hosts' included; v1 takes it when mounted. */
		if (!strcmp(m->mnt_type, "cgroup2"))
			snprintf(f->remount, sizeof(f->remount), "mount -o remount,favordynmods %s",
				 m->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	if (f->quick)
		*f->remount = '\0';
	else if (!*f->remount)
		snprintf(f->remount, sizeof(f->remount),
			 "mount -t cgroup2 -o favordynmods cgroup DIRECTORY");
}

/* Whether the file begins with this text. */
static bool begins(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	char seen[32];
	ssize_t n = fd < 0 ? 0 : read(fd, seen, sizeof(seen));

	if (fd >= 0)
		close(fd);
	return n >= (ssize_t)strlen(text) && !memcmp(seen, text, strlen(text));
}

/* What lets one VM look at another through the CPU or through memory (docs/security.md). */
static void look_at_leaks(struct findings *f)
{
	DIR *d = opendir("/sys/devices/system/cpu/vulnerabilities");
	struct dirent *entry;
	size_t n = 0;

	f->smt = begins(AT_FDCWD, "/sys/devices/system/cpu/smt/active", "1");
	f->ksm = begins(AT_FDCWD, "/sys/kernel/mm/ksm/run", "1");
	while (d && (entry = readdir(d)) && n < sizeof(f->vulnerable))
		if (begins(dirfd(d), entry->d_name, "Vulnerable"))
			n += (size_t)snprintf(f->vulnerable + n, sizeof(f->vulnerable) - n, "%s%s",
					      n ? " " : "", entry->d_name);
	if (d)
		closedir(d);
}

/* What keeps a VM's process from its user's files. */
static void look_at_confinement(struct findings *f)
{
	f->jail = jail_allowed();
	f->landlock = confine_landlock();
}

static void look(struct findings *f)
{
	struct kvm k;

	look_at_confinement(f);
	look_at_cgroups(f);
	look_at_leaks(f);
	f->verdict = UNUSABLE;
	f->advice = "make /dev/kvm usable for this user";
	if (kvm_open(&k, &f->kvm_error))
		return;
	for (int i = 0; kvm_caps[i].name; i++) {
		f->value[i] = kvm_cap(&k, kvm_caps[i].cap);
		f->missing += kvm_caps[i].required && !f->value[i];
	}
	f->advice = "use a kernel whose KVM has the capabilities that are missing";
	if (f->missing) {
		kvm_close(&k);
		return;
	}
	f->advice = "the KVM of this host does not run guest code; use another host";
	if (probe_run(&k, &f->probe, &f->vm_error) || !f->probe.runs)
		return;
	f->verdict = f->probe.kernel_mode ? LINUX : SMALL_ONLY;
	f->advice = f->probe.kernel_mode
			    ? "nothing to do"
			    : "for Linux guests use a host whose KVM is backed by VT-x or AMD-V "
			      "(bare metal, or nested virtualisation switched on)";
}

static void line(const char *name, const char *value, const char *note)
{
	printf("%-24s %-10s %s\n", name, value, note);
}

static void print_confinement(const struct findings *f)
{
	char version[16];

	snprintf(version, sizeof(version), "%d", f->landlock);
	line("jail", f->jail ? "yes" : "no",
	     f->jail ? "a VM's process sees none of the host's files"
		     : "this user may make no user namespaces: see user.max_user_namespaces, "
		       "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns (sysctl)");
	line("Landlock", f->landlock ? version : "no",
	     f->landlock && f->jail ? "a VM's process looks into no other"
	     : f->landlock	    ? "a VM's process opens no file but those of VMs, its snapshots and its shares"
	     : f->jail ? "VMs of one user could look into each other's memory; boot the host with landlock in lsm= "
			 "(CONFIG_SECURITY_LANDLOCK)"
		       : "a VM's process can open its user's files; boot the host with landlock in lsm= "
			 "(CONFIG_SECURITY_LANDLOCK), or allow user namespaces");
}

static void print_text(const struct findings *f)
{
	char value[32], note[600];

	if (*f->kvm_error.text) {
		line("/dev/kvm", "no", f->kvm_error.text);
	} else {
		line("/dev/kvm", "yes", "");
		line("API version", "12", "");
		for (int i = 0; kvm_caps[i].name; i++) {
			snprintf(value, sizeof(value), "%d", f->value[i]);
			line(kvm_caps[i].name,
			     f->value[i]	   ? value
			     : kvm_caps[i].required ? "MISSING"
						   : "no",
			     kvm_caps[i].why);
		}
	}
	if (!*f->kvm_error.text && !f->missing) {
		line("VM", *f->vm_error.text ? "no" : "yes", f->vm_error.text);
		snprintf(value, sizeof(value), "%.2f ns", f->probe.ns_per_instr);
		line("guest code", f->probe.runs ? value : "no",
		     f->probe.runs ? "for each instruction in 64-bit kernel mode" : f->probe.reason);
	}
	if (f->probe.runs)
		line("kernel mode", f->probe.kernel_mode ? "native" : "emulated",
		     f->probe.kernel_mode ? "interrupt returns and vector state work"
					  : f->probe.reason);
	snprintf(note, sizeof(note), "%s%s",
		 f->quick ? "no wait where a VM is made"
			  : "a VM that is made waits about 10 ms; better: ",
		 f->remount);
	line("quick cgroup moves", f->quick ? "yes" : "no", note);
	line("CPU mitigations", *f->vulnerable ? "missing" : "yes",
	     *f->vulnerable ? f->vulnerable : "the host's kernel knows of no hole that it leaves open");
	line("SMT", f->smt ? "on" : "off",
	     f->smt ? "VMs on one core can watch each other; switch it off for VMs of different trust" : "");
	line("KSM", f->ksm ? "on" : "off",
	     f->ksm ? "VMs can find out about each other's memory; switch it off for VMs of different trust"
		    : "");
	print_confinement(f);
	line("verdict", verdict_name[f->verdict], f->advice);
}

static void print_json(const struct findings *f)
{
	struct json_writer w = {.out = stdout};

	json_put_open(&w, NULL, '{');
	json_put_string(&w, "verdict", verdict_name[f->verdict]);
	json_put_bool(&w, "linux", f->verdict == LINUX);
	json_put_bool(&w, "kvm", !*f->kvm_error.text);
	json_put_string(&w, "advice", f->advice);
	json_put_bool(&w, "quick_cgroup_moves", f->quick);
	json_put_string(&w, "remount", f->remount);
	json_put_string(&w, "vulnerable", f->vulnerable);
	json_put_bool(&w, "smt", f->smt);
	json_put_bool(&w, "ksm", f->ksm);
	json_put_bool(&w, "jail", f->jail);
	json_put_int(&w, "landlock", f->landlock);
	json_put_string(&w, "error",
			*f->kvm_error.text  ? f->kvm_error.text
			: *f->vm_error.text ? f->vm_error.text
					    : f->probe.reason);
	if (!*f->kvm_error.text) {
		json_put_uint(&w, "api_version", KVM_API_VERSION);
		json_put_open(&w, "capabilities", '{');
		for (int i = 0; kvm_caps[i].name; i++)
			json_put_int(&w, kvm_caps[i].name, f->value[i]);
		json_put_close(&w);
	}
	if (f->probe.runs) {
		json_put_real(&w, "ns_per_instruction", f->probe.ns_per_instr);
		json_put_string(&w, "kernel_mode", f->probe.kernel_mode ? "native" : "emulated");
	}
	json_put_close(&w);
	putchar('\n');
}

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	struct check_config *c = cfg;
	struct findings f;

	(void)argv;
	if (argc)
		return cmd_usage(&cmd_check, e);
	memset(&f, 0, sizeof(f));
	look(&f);
	if (c->json)
		print_json(&f);
	else
		print_text(&f);
	return f.verdict;
}

const struct cmd cmd_check = {
	.name = "check",
	.args = "",
	.summary = "Tell what this host offers for VMs",
	.options = options,
	.notes = "Exit status: 0 Linux guests can be run, 1 only small guests that live without what\n"
		 "this KVM lacks, 2 none.\n",
	.examples = "uvm check\n"
		    "uvm check --json\n",
	.run = run,
	.cfg_size = sizeof(struct check_config),
};
