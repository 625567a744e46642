/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of uvm run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "vmm/cmd_run.h"
#include "vmm/util.h"

/* --- the environment --- */

int run_put_env(struct run_config *c, const char *text, struct err *e)
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

static int take_env(struct run_config *c, const char *text, struct err *e)
{
	const char *both;
	int r = cmd_env(text, &both, e);

	return r || !both ? r : run_put_env(c, both, e);
}

static int set_env(void *to, const char *value, struct err *e)
{
	return take_env(to, value, e);
}

/* Its texts are for as long as the process lives. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
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
#pragma GCC diagnostic pop

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

#define AT(member) offsetof(struct run_config, member)

const struct opt run_options[] = {
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
	{"network", 0, "KIND[,NAME=VALUE...]", "its network, as 'uvm help boot' has them (default none)",
	 set_network, 0},
	{"net", 0, "KIND[,NAME=VALUE...]", NULL, set_network, 0},
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
	{"sandbox", 0, "on|none|user=UID[:GID]",
	 "none: the VM's process keeps all rights of its user; user=: of root's VM, it is that user's (default on)",
	 confine_set, AT(run.clone.config.confine)},
	{"timing", 0, NULL, "report when each step of the start was done", opt_set_flag,
	 AT(run.clone.timing)},
	{0},
};

void run_defaults(void *to)
{
	struct run_config *c = to;

	template_defaults(&c->template);
	container_defaults(&c->run.spec, NULL);
}
