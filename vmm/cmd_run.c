/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm run: a container in a VM of its own. uvm template: the VMs that such are cloned from.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/image.h"
#include "vmm/json.h"
#include "vmm/rights.h"
#include "vmm/run.h"
#include "vmm/scratch.h"
#include "vmm/template.h"
#include "vmm/util.h"

#define RUN_MEMORY  (256ull << 20)
#define RUN_VOLUMES (TEMPLATE_DRIVES - 1)
#define RUN_ENV	    1024
#define RUN_MOUNTS  32
#define RUN_SYSCTLS 64
#define RUN_DEVICES 16

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct volume {
	char *image, *path;
	bool read_only;
};

struct run_config {
	struct run run;
	struct snapshot snapshot;
	char kernel[PATH_MAX];
	struct template template;
	struct volume volume[RUN_VOLUMES];
	unsigned int volumes;
	const char *scratch, *entrypoint, *env_file;
	bool read_only, interactive;
	uint64_t timeout; /* seconds */
	struct image image;
	const char *image_name;
	char *env[RUN_ENV + 1];
	unsigned int env_count;
	struct container_mount mount[RUN_MOUNTS];
	char device[TEMPLATE_DRIVES][16];
	struct scratch layer;
	struct rights_caps caps_said;
	struct agent_caps caps;
	const char *profile; /* seccomp's, or NULL: none */
	struct agent_rlimit limit[AGENT_RLIMITS_MAX];
	struct container_value sysctl[RUN_SYSCTLS];
	struct container_mount tmpfs[RUN_MOUNTS];
	unsigned int tmpfs_count;
	struct container_guest_device allowed[RUN_DEVICES];
	const char *allowed_at[RUN_DEVICES];
};

/* --- the environment --- */

/* A later one takes the place of an earlier one of its name. text stays. */
static int put_env(struct run_config *c, const char *text, struct err *e)
{
	size_t len = strcspn(text, "=");
	unsigned int i = 0;

	while (i < c->env_count && (strncmp(c->env[i], text, len) || c->env[i][len] != '='))
		i++;
	if (i == RUN_ENV)
		return err_set(e, EINVAL, "at most %d variables", RUN_ENV);
	c->env[i] = (char *)(uintptr_t)text;
	c->env_count = MAX(c->env_count, i + 1);
	return 0;
}

/* NAME=VALUE, or NAME, whose value is ours, if we have it. */
static int take_env(struct run_config *c, const char *text, struct err *e)
{
	const char *value;
	char *both;

	if (!*text || *text == '=')
		return err_set(e, EINVAL, "'%s' is not NAME=VALUE", text);
	if (strchr(text, '='))
		return put_env(c, text, e);
	value = getenv(text);
	if (!value)
		return 0;
	if (asprintf(&both, "%s=%s", text, value) < 0)
		return err_set(e, ENOMEM, "out of memory");
	return put_env(c, both, e);
}

static int set_env(void *to, const char *value, struct err *e)
{
	return take_env(to, value, e);
}

static int set_env_file(void *to, const char *value, struct err *e)
{
	FILE *f = fopen(value, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int r = 0;

	if (!f)
		return err_sys(e, "%s", value);
	while (!r && (n = getline(&line, &size, f)) >= 0) {
		char *text = line + strspn(line, " \t");

		text[strcspn(text, "\r\n")] = 0;
		if (!*text || *text == '#')
			continue;
		text = strdup(text);
		r = text ? take_env(to, text, e) : err_set(e, ENOMEM, "out of memory");
	}
	free(line);
	fclose(f);
	return r;
}

/* --- options --- */

/* IMG:PATH[:ro|:rw]. Of the process's own argv, which is cut at the colons. */
static int set_volume(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	struct volume *v = &c->volume[c->volumes];
	char *colon = strrchr(value, ':');

	if (c->volumes == RUN_VOLUMES)
		return err_set(e, EINVAL, "at most %u volumes", RUN_VOLUMES);
	*v = (struct volume){.image = (char *)(uintptr_t)value};
	if (colon && (!strcmp(colon, ":ro") || !strcmp(colon, ":rw"))) {
		v->read_only = colon[2] == 'o';
		*colon = 0;
		colon = strrchr(value, ':');
	}
	if (!colon || colon == value || colon[1] != '/')
		return err_set(e, EINVAL,
			       "'%s' is not IMG:PATH or IMG:PATH:ro with an absolute PATH", value);
	*colon = 0;
	v->path = colon + 1;
	c->volumes++;
	return 0;
}

static int set_cap_add(void *to, const char *value, struct err *e)
{
	return rights_take_cap(&((struct run_config *)to)->caps_said, value, true, e);
}

static int set_cap_drop(void *to, const char *value, struct err *e)
{
	return rights_take_cap(&((struct run_config *)to)->caps_said, value, false, e);
}

static int set_limit(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;

	return rights_take_limit(c->limit, &c->run.process.rlimit_count, value, e);
}

static int set_network(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	struct net_config *n = &c->run.clone.config.net[0];
	int r = 0;

	*n = (struct net_config){0};
	c->run.clone.config.nets = 0;
	c->template.nets = 0;
	if (!strcmp(value, "none"))
		return 0;
	r = net_parse(n, value, e);
	if (!r && n->kind == NET_NONE)
		r = err_set(e, EINVAL, "a container has a network that is connected, or none");
	c->run.clone.config.nets = c->template.nets = 1;
	c->template.offload = n->offload;
	return r;
}

/* As docker has them; a colon in place of the sign is its older way. */
static int set_security(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	size_t n = strcspn(value, "=:");
	const char *text = value[n] ? value + n + 1 : "";

	if (n == 7 && !strncmp(value, "seccomp", n) && *text) {
		c->profile = strcmp(text, "unconfined") ? text : NULL;
		return 0;
	}
	if (n != 17 || strncmp(value, "no-new-privileges", n) ||
	    (value[n] && strcmp(text, "true") && strcmp(text, "false")))
		return err_set(e, EINVAL,
			       "'%s' is none of seccomp=FILE, seccomp=unconfined and no-new-privileges",
			       value);
	c->run.process.flags &= ~(uint32_t)AGENT_EXEC_NO_NEW_PRIVS;
	if (!value[n] || *text == 't')
		c->run.process.flags |= AGENT_EXEC_NO_NEW_PRIVS;
	return 0;
}

/* NAME=VALUE. Of the process's own argv, which is cut there. */
static int set_sysctl(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	struct container_spec *s = &c->run.spec;
	char *sign = strchr(value, '=');

	if (!sign || sign == value)
		return err_set(e, EINVAL, "'%s' is not NAME=VALUE", value);
	if (s->sysctl_count == RUN_SYSCTLS)
		return err_set(e, EINVAL, "at most %u", RUN_SYSCTLS);
	*sign = 0;
	c->sysctl[s->sysctl_count++] = (struct container_value){value, sign + 1};
	return 0;
}

/* Takes the words of a list that are flags of a mount; what is left of it is the file system's. */
static uint64_t take_flags(char *options, uint64_t flags)
{
	static const struct {
		const char *name;
		uint64_t set, clear;
	} words[] = {
		{"ro", MS_RDONLY, 0},	  {"rw", 0, MS_RDONLY},	    {"nosuid", MS_NOSUID, 0},
		{"suid", 0, MS_NOSUID},	  {"nodev", MS_NODEV, 0},   {"dev", 0, MS_NODEV},
		{"noexec", MS_NOEXEC, 0}, {"exec", 0, MS_NOEXEC},   {"noatime", MS_NOATIME, 0},
	};
	char *to = options, *rest = NULL;

	for (char *w = strtok_r(options, ",", &rest); w; w = strtok_r(NULL, ",", &rest)) {
		size_t i = 0, len = strlen(w);

		while (i < ARRAY_SIZE(words) && strcmp(words[i].name, w))
			i++;
		if (i < ARRAY_SIZE(words)) {
			flags = (flags | words[i].set) & ~words[i].clear;
			continue;
		}
		if (to != options)
			*to++ = ',';
		memmove(to, w, len);
		to += len;
	}
	*to = 0;
	return flags;
}

/* PATH[:OPTIONS]. Of the process's own argv, as above. */
static int set_tmpfs(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	char *options = strchr(value, ':');
	uint64_t flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (*value != '/')
		return err_set(e, EINVAL, "'%s' is not an absolute path", value);
	if (c->tmpfs_count == RUN_MOUNTS)
		return err_set(e, EINVAL, "at most %u", RUN_MOUNTS);
	if (options) {
		*options++ = 0;
		flags = take_flags(options, flags);
	}
	c->tmpfs[c->tmpfs_count++] = (struct container_mount){
		.source = "tmpfs", .target = value, .type = "tmpfs", .data = options, .flags = flags};
	return 0;
}

/* GUEST[:PATH[:ACCESS]]. Of the process's own argv, as above. A device of the host's means nothing to the
 * guest's kernel, so the names are the guest's.
 */
static int set_device(void *to, const char *value, struct err *e)
{
	struct run_config *c = to;
	struct container_spec *s = &c->run.spec;
	struct container_guest_device *d = &c->allowed[s->guest_device_count];
	char *at = strchr(value, ':'), *access = at ? strchr(at + 1, ':') : NULL;

	if (s->guest_device_count == RUN_DEVICES)
		return err_set(e, EINVAL, "at most %u", RUN_DEVICES);
	if (at)
		*at++ = 0;
	if (access)
		*access++ = 0;
	if (at && !access && !at[strspn(at, "rwm")]) { /* GUEST:ACCESS */
		access = at;
		at = NULL;
	}
	if (strncmp(value, "/dev/", 5))
		return err_set(e, EINVAL, "'%s' is no device of the guest's: they are in /dev", value);
	if (at && *at != '/')
		return err_set(e, EINVAL, "'%s' is not an absolute path", at);
	*d = (struct container_guest_device){value, 0};
	for (const char *p = access ? access : "rwm"; *p; p++) {
		const char *known = strchr("mrw", *p);

		if (!known)
			return err_set(e, EINVAL, "'%s' is not made of r, w and m", access);
		d->access |= 1u << (known - "mrw");
	}
	if (!d->access)
		return err_set(e, EINVAL, "no access to '%s'", value);
	c->allowed_at[s->guest_device_count++] = at ? at : value;
	return 0;
}

static int set_cpu(void *to, const char *value, struct err *e)
{
	enum cpuid_template *t = to;

	*t = !strcmp(value, "baseline") ? CPUID_BASELINE : CPUID_HOST;
	return *t == CPUID_HOST && strcmp(value, "host")
		       ? err_set(e, EINVAL, "'%s' is neither 'host' nor 'baseline'", value)
		       : 0;
}

#define AT(member) offsetof(struct run_config, member)

#define TEMPLATE_OPTIONS(at)                                                                       \
	{"memory", 'm', "SIZE", "guest memory (default 256M)", opt_set_size, at + offsetof(struct template, memory)}, \
	{"cpus", 'c', "N", "vCPUs, 1 to 32 (default 1)", opt_set_u32, at + offsetof(struct template, cpus)}, \
	{"cpu-template", 0, "host|baseline", "CPU features: all of this host's, or those that are common", set_cpu, \
	 at + offsetof(struct template, cpu)},                                                     \
	{"kernel", 'k', "FILE", "the guest's kernel (default: $UVM_KERNEL, or the installed one)", opt_set_str, \
	 at + offsetof(struct template, kernel)}

static const struct opt run_options[] = {
	{"detach", 'd', NULL, "run in the background; print the id when it runs", opt_set_flag,
	 AT(run.detach)},
	{"interactive", 'i', NULL, "pass standard input on (else it is empty)", opt_set_flag,
	 AT(interactive)},
	{"tty", 't', NULL, "give it a terminal", opt_set_flag, AT(run.process.tty)},
	{"image-name", 0, "NAME", "which image, where ROOTFS has several", opt_set_str,
	 AT(image_name)},
	{"rm", 0, NULL, "with --detach: leave no record when it has ended", opt_set_flag,
	 AT(run.remove)},
	{"name", 0, "NAME", "its name, by which commands find it (default: a random one)",
	 opt_set_id, AT(run.id)},
	{"env", 'e', "NAME[=VALUE]", "set a variable, or pass on ours; may be repeated", set_env, 0},
	{"env-file", 0, "FILE", "variables, a line each", set_env_file, 0},
	{"workdir", 'w', "DIR", "run it in this directory", opt_set_str, AT(run.process.cwd)},
	{"user", 'u', "USER[:GROUP]", "run it as this user, by name or number", opt_set_str,
	 AT(run.process.user_name)},
	{"hostname", 'h', "NAME", "the container's host name (default: its name)", opt_set_str,
	 AT(run.spec.hostname)},
	{"entrypoint", 0, "PROGRAM", "run this in place of the image's entry point", opt_set_str,
	 AT(entrypoint)},
	{"read-only", 0, NULL, "the root file system cannot be written to", opt_set_flag,
	 AT(read_only)},
	{"scratch", 0, "tmpfs[:SIZE]|SIZE|FILE[:SIZE]",
	 "where writes go: memory (the default), a disk for this run, or a file that is kept",
	 opt_set_str, AT(scratch)},
	{"volume-disk", 0, "IMG:PATH[:ro]",
	 "mount the file system in an image at PATH; may be repeated", set_volume, 0},
	{"network", 0, "none|KIND[,NAME=VALUE...]",
	 "its network, as --net of 'uvm help boot' has them (default none)", set_network, 0},
	{"tmpfs", 0, "PATH[:OPTIONS]", "mount an empty file system in memory at PATH (size=64m,mode=700,exec,...)",
	 set_tmpfs, 0},
	{"device", 0, "GUEST[:PATH][:rwm]",
	 "a device of the guest's, at PATH, to read, write or make; may be repeated", set_device, 0},
	{"cap-add", 0, "CAPABILITY|ALL", "give it a capability; may be repeated", set_cap_add, 0},
	{"cap-drop", 0, "CAPABILITY|ALL", "take one of the usual ones away; may be repeated",
	 set_cap_drop, 0},
	{"security-opt", 0, "OPTION",
	 "seccomp=FILE (a profile), seccomp=unconfined (the default) or no-new-privileges",
	 set_security, 0},
	{"ulimit", 0, "NAME=SOFT[:HARD]", "a limit of its process (nofile=1024); may be repeated",
	 set_limit, 0},
	{"sysctl", 0, "NAME=VALUE", "a kernel parameter of its namespaces; may be repeated",
	 set_sysctl, 0},
	{"timeout", 0, "DURATION", "kill it after that long (90s, 30m, 24h), with status 124",
	 opt_set_duration, AT(timeout)},
	TEMPLATE_OPTIONS(AT(template)),
	CGROUP_OPTIONS(AT(run.clone.config.cgroup)),
	{"sandbox", 0, "on|none", "none: the VM's process keeps all rights of its user (default on)",
	 confine_set, AT(run.clone.config.confine.none)},
	{"timing", 0, NULL, "report when each step of the start was done", opt_set_flag,
	 AT(run.clone.timing)},
	{0},
};

static void run_defaults(void *to)
{
	struct run_config *c = to;

	c->template.memory = RUN_MEMORY;
	c->template.cpus = 1;
	container_defaults(&c->run.spec, NULL);
}

static int check(const struct run_config *c, struct err *e)
{
	const struct run *r = &c->run;
	int error = template_check(&c->template, e);

	if (error)
		return error;
	if (r->spec.hostname && strlen(r->spec.hostname) > AGENT_HOSTNAME_MAX)
		return err_set(e, EINVAL, "--hostname: more than %u bytes", AGENT_HOSTNAME_MAX);
	if (r->process.cwd && r->process.cwd[0] != '/')
		return err_set(e, EINVAL, "--workdir: '%s' is not absolute", r->process.cwd);
	if (r->detach && c->interactive)
		return err_set(e, EINVAL, "--detach and --interactive exclude each other");
	return 0;
}

/* --- what it consists of --- */

/* The next placeholder: its disk, and its name in the guest. */
static const char *add_disk(struct run_config *c, const char *path, bool read_only, bool layered)
{
	struct machine_config *m = &c->run.clone.config;
	unsigned int n = m->fills++;

	m->fill[n] = (struct disk_config){
		.path = path, .read_only = read_only, .layered = layered};
	snprintf(c->device[n], sizeof(c->device[n]), "/dev/vd%c", 'a' + n);
	return c->device[n];
}

/* The type of the file system in an image. Writes to a volume that is read-only go to a layer that
 * nobody sees, because the drive behind it is a writable one.
 */
static int add_volume(struct run_config *c, const struct volume *v, struct err *e)
{
	struct container_spec *s = &c->run.spec;
	const char *type = scratch_type(v->image, e);

	if (!type)
		return -EINVAL;
	if (s->mount_count == RUN_MOUNTS)
		return err_set(e, EINVAL, "too many mounts");
	c->mount[s->mount_count++] = (struct container_mount){
		.source = add_disk(c, v->image, false, v->read_only),
		.target = v->path,
		.type = type,
		.flags = v->read_only ? MS_RDONLY : 0};
	c->run.settle |= !v->read_only;
	return 0;
}

static int add_root(struct run_config *c, struct err *e)
{
	struct container_root *root = &c->run.spec.root;

	root->type = c->image.fstype;
	root->device = add_disk(c, c->image.path, true, false);
	root->read_only = c->read_only;
	if (c->read_only && c->scratch)
		return err_set(e, EINVAL, "--read-only and --scratch exclude each other");
	if (scratch_open(&c->layer, c->scratch, e))
		return -EINVAL;
	root->upper_size = c->layer.size;
	root->upper = c->layer.disk ? add_disk(c, c->layer.path, false, !c->layer.kept) : "tmpfs";
	c->run.settle = c->layer.kept;
	c->run.scratch = c->layer.kept ? c->layer.path : NULL;
	return 0;
}

/* As they are in the guest, whatever their numbers. */
static int add_devices(struct run_config *c, struct err *e)
{
	struct container_spec *s = &c->run.spec;

	s->guest_devices = c->allowed;
	for (size_t i = 0; i < s->guest_device_count; i++) {
		if (s->mount_count == RUN_MOUNTS)
			return err_set(e, EINVAL, "too many mounts");
		c->mount[s->mount_count++] =
			(struct container_mount){.source = c->allowed[i].path,
						 .target = c->allowed_at[i],
						 .flags = MS_BIND | MS_NOSUID | MS_NOEXEC};
	}
	return 0;
}

/* What the agent has put there. */
static int add_dns(struct run_config *c, struct err *e)
{
	struct container_spec *s = &c->run.spec;

	if (!c->run.clone.config.net[0].dns)
		return 0;
	if (s->mount_count == RUN_MOUNTS)
		return err_set(e, EINVAL, "too many mounts");
	c->mount[s->mount_count++] = (struct container_mount){.source = "/etc/resolv.conf",
							      .target = "/etc/resolv.conf",
							      .flags = MS_BIND | MS_RDONLY};
	return 0;
}

static int add_parts(struct run_config *c, struct err *e)
{
	struct container_spec *s = &c->run.spec;
	int r = add_root(c, e);

	memcpy(c->mount, s->mounts, s->mount_count * sizeof(*s->mounts));
	s->mounts = c->mount;
	for (unsigned int i = 0; i < c->volumes && !r; i++)
		r = add_volume(c, &c->volume[i], e);
	for (unsigned int i = 0; i < c->tmpfs_count && !r; i++) {
		if (s->mount_count == RUN_MOUNTS)
			return err_set(e, EINVAL, "too many mounts");
		c->mount[s->mount_count++] = c->tmpfs[i];
	}
	s->sysctls = c->sysctl;
	if (!r)
		r = add_devices(c, e);
	return r ? r : add_dns(c, e);
}

/* The image's variables come first, so that the options' take their places. */
static int add_env(struct run_config *c, struct err *e)
{
	unsigned int n = c->env_count;
	char **own = malloc((n + 1) * sizeof(*own));
	int r = own ? 0 : err_set(e, ENOMEM, "out of memory");

	if (own)
		memcpy(own, c->env, n * sizeof(*own));
	c->env_count = 0;
	if (!r)
		r = put_env(c, DEFAULT_PATH, e);
	for (const char **v = c->image.config.env; v && *v && !r; v++)
		if (strchr(*v, '='))
			r = put_env(c, *v, e);
	for (unsigned int i = 0; i < n && !r; i++)
		r = put_env(c, own[i], e);
	free(own);
	return r;
}

static unsigned int count(const char *const *list)
{
	unsigned int n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* The entry point, ours or the image's, and the command after it; the image's belongs to its own entry
 * point.
 */
static int add_args(struct run_config *c, char **argv, struct err *e)
{
	static const char *const shell[] = {"/bin/sh", NULL};
	const struct image_config *img = &c->image.config;
	const char *own[] = {c->entrypoint, NULL};
	const char *const *entry = c->entrypoint ? own : (const char *const *)img->entrypoint;
	const char *const *command = (const char *const *)argv;
	unsigned int n = count(entry), m;
	const char **all;

	if (!*argv)
		command = c->entrypoint ? NULL : (const char *const *)img->cmd;
	m = count(command);
	if (!n && !m) {
		command = shell;
		m = 1;
	}
	all = calloc(n + m + 1, sizeof(*all));
	if (!all)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < n + m; i++)
		all[i] = i < n ? entry[i] : command[i - n];
	c->run.process.argv = (char *const *)all;
	return 0;
}

static int add_process(struct run_config *c, char **argv, struct err *e)
{
	struct exec_request *p = &c->run.process;
	const struct image_config *img = &c->image.config;
	int r = add_args(c, argv, e);

	if (!r)
		r = add_env(c, e);
	p->envp = c->env;
	c->caps = rights_make_caps(&c->caps_said, &container_caps);
	p->caps = &c->caps;
	p->rlimits = c->limit;
	if (!r && c->profile)
		r = rights_load_profile(p, c->profile, e);
	p->timeout_ms = MIN(c->timeout, UINT32_MAX) * 1000;
	if (!p->cwd && img->workdir && *img->workdir)
		p->cwd = img->workdir;
	if (!p->user_name && img->user && *img->user)
		p->user_name = img->user;
	c->run.stdin_open = c->interactive;
	return r;
}

static int find_image(struct run_config *c, const char *root, struct err *e)
{
	struct meter meter;
	struct image_request req = {.root = root, .name = c->image_name, .meter = &meter};
	int r;

	meter_begin(&meter);
	r = image_open(&req, &c->image, e);
	meter_end(&meter);
	return r;
}

static int run_run(void *cfg, int argc, char **argv, struct err *e)
{
	struct run_config *c = malloc(sizeof(*c)); /* stays until the process ends */
	char path[PATH_MAX];
	int r, status;

	if (argc < 1) {
		cmd_usage(&cmd_run, e);
		return RUN_FAILED;
	}
	if (!c) {
		err_set(e, ENOMEM, "out of memory");
		return RUN_FAILED;
	}
	memcpy(c, cfg, sizeof(*c));
	c->run.clone.started = now_ns();
	argv[argc] = NULL;
	c->run.image = argv[0];
	r = check(c, e);
	if (!r)
		r = template_kernel(c->kernel, c->template.kernel, e);
	c->template.kernel = c->kernel;
	if (!r)
		r = find_image(c, argv[0], e);
	if (!r)
		r = add_parts(c, e);
	if (!r)
		r = add_process(c, argv + 1, e);
	c->template.drives = template_drives(c->run.clone.config.fills);
	if (!r)
		r = template_find(&c->template, path, e);
	if (!r && run_pooled(&c->run, path, &status, e))
		return status;
	if (!r)
		r = template_open(&c->template, &c->snapshot, e);
	if (!r)
		r = clone_prepare(&c->run.clone, &c->snapshot, e);
	return r ? RUN_FAILED : run_container(&c->run, e);
}

const struct cmd cmd_run = {
	.name = "run",
	.args = "ROOTFS [CMD [ARG...]]",
	.summary = "Run a container in a VM of its own",
	.options = run_options,
	.notes = "ROOTFS is an image file with an ext4 or erofs file system, a directory, a tar archive,\n"
		 "or an OCI image layout; see 'uvm help image'. It is never written to: what the container\n"
		 "writes goes to its scratch, and is gone with it unless that is a file. The VM is a clone of a template, which the first run makes.\n\n"
		 "Without --detach, signals go to the container's process, and its end is uvm's.\n"
		 "Exit status: the command's; 128 + n if signal n ended it; 124 after --timeout; 127 if\n"
		 "there is no such command, 126 if it cannot be executed; 125 if uvm itself failed.\n\n"
		 "  uvm run root.erofs uname -a\n"
		 "  uvm run -it --scratch 2G root.erofs\n"
		 "  uvm run -d --name web --volume-disk data.ext4:/srv root.erofs httpd -f\n",
	.stop_at_operand = 1,
	.usage_status = RUN_FAILED,
	.run = run_run,
	.cfg_size = sizeof(struct run_config),
	.defaults = run_defaults,
};

/* --- template --- */

struct template_config {
	struct template template;
	bool json, all;
	struct json_writer out;
};

static const struct opt template_options[] = {
	TEMPLATE_OPTIONS(offsetof(struct template_config, template)),
	{"json", 0, NULL, "ls: print a JSON array", opt_set_flag,
	 offsetof(struct template_config, json)},
	{"all", 'a', NULL, "prune: also those that can be used", opt_set_flag,
	 offsetof(struct template_config, all)},
	{0},
};

static void template_defaults(void *to)
{
	struct template_config *c = to;

	c->template.memory = RUN_MEMORY;
	c->template.cpus = 1;
}

static void put_template(struct json_writer *w, const char *key, const struct snapshot *s, bool good)
{
	char created[CMD_TIME];

	cmd_time((int64_t)s->m.created, created);
	json_put_open(w, NULL, '{');
	json_put_string(w, "key", key);
	json_put_uint(w, "memory", s->m.memory);
	json_put_uint(w, "cpus", s->m.cpus);
	json_put_uint(w, "drives", s->m.disks);
	json_put_uint(w, "stored", s->m.memory_stored);
	json_put_string(w, "created", created);
	json_put_bool(w, "current", good);
	json_put_string(w, "kernel", s->m.kernel.s);
	json_put_close(w);
}

static int show_template(void *ctx, const char *key, const char *path)
{
	struct template_config *c = ctx;
	struct snapshot *s = calloc(1, sizeof(*s));
	struct err why;
	bool good = template_current(key, path, &why);

	if (!s || snapshot_read_manifest(s, path, &why)) {
		if (!c->json)
			printf("%-16s %8s %4s %6s %8s  %-8s %s\n", key, "-", "-", "-", "-", "damaged",
			       why.text);
		free(s);
		return 0;
	}
	if (c->json)
		put_template(&c->out, key, s, good);
	else
		printf("%-16s %7" PRIu64 "M %4u %6u %7.1fM  %-8s %s\n", key, s->m.memory >> 20,
		       s->m.cpus, s->m.disks, (double)s->m.memory_stored / (1 << 20),
		       good ? "current" : "outdated", s->m.kernel.s);
	snapshot_close(s);
	free(s);
	return 0;
}

static int list(struct template_config *c, struct err *e)
{
	int r;

	c->out.out = stdout;
	if (c->json)
		json_put_open(&c->out, NULL, '[');
	else
		printf("%-16s %8s %4s %6s %8s  %-8s %s\n", "KEY", "MEMORY", "CPUS", "DRIVES", "SIZE",
		       "STATE", "KERNEL");
	r = template_each(show_template, c, e);
	if (c->json) {
		json_put_close(&c->out);
		putchar('\n');
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

static int prune_one(void *ctx, const char *key, const char *path)
{
	struct template_config *c = ctx;
	struct err why;

	if (!c->all && template_current(key, path, &why))
		return 0;
	if (template_remove(key, &why))
		fprintf(stderr, "uvm: %s\n", why.text);
	else
		printf("%s\n", key);
	return 0;
}

static int build(struct template_config *c, struct err *e)
{
	char kernel[PATH_MAX], key[TEMPLATE_KEY + 1];

	if (template_check(&c->template, e))
		return EXIT_USAGE;
	if (template_kernel(kernel, c->template.kernel, e))
		return EXIT_FAIL;
	c->template.kernel = kernel;
	c->template.drives = TEMPLATE_DRIVES_FEW;
	if (template_make(&c->template, key, e))
		return EXIT_FAIL;
	printf("%s\n", key);
	return EXIT_OK;
}

static int remove_keys(int n, char **keys, struct err *e)
{
	int r = 0;

	for (int i = 0; i < n && !r; i++)
		r = template_remove(keys[i], e);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_template(void *cfg, int argc, char **argv, struct err *e)
{
	struct template_config *c = cfg;

	if (argc == 1 && !strcmp(argv[0], "ls"))
		return list(c, e);
	if (argc == 1 && !strcmp(argv[0], "build"))
		return build(c, e);
	if (argc == 1 && !strcmp(argv[0], "prune"))
		return template_each(prune_one, c, e) ? EXIT_FAIL : EXIT_OK;
	if (argc > 1 && !strcmp(argv[0], "rm"))
		return remove_keys(argc - 1, argv + 1, e);
	return cmd_usage(&cmd_template, e);
}

const struct cmd cmd_template = {
	.name = "template",
	.args = "ls | build | rm KEY... | prune",
	.summary = "Look after the templates that 'uvm run' starts VMs from",
	.options = template_options,
	.notes = "A template is a frozen VM in the cache, for one kernel, memory and number of CPUs.\n"
		 "'uvm run' makes what it lacks; 'build' does so in advance. 'prune' removes those that\n"
		 "nothing would use any more: of a kernel, a host or a uvm that has changed.\n",
	.run = run_template,
	.cfg_size = sizeof(struct template_config),
	.defaults = template_defaults,
};
