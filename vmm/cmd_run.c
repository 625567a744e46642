/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm run: a container in a VM of its own. Its options are in cmd_run_options.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "vmm/cmd_run.h"
#include "vmm/util.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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
		r = run_put_env(c, DEFAULT_PATH, e);
	for (const char **v = c->image.config.env; v && *v && !r; v++)
		if (strchr(*v, '='))
			r = run_put_env(c, *v, e);
	for (unsigned int i = 0; i < n && !r; i++)
		r = run_put_env(c, own[i], e);
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

/* The configuration is for as long as the process lives. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
static int run_run(void *cfg, int argc, char **argv, struct err *e)
{
	struct run_config *c = malloc(sizeof(*c)); /* stays until the process ends */
	char path[PATH_MAX];
	int r, status;

	if (argc < 1) {
		cmd_usage(&cmd_run, e);
		/* cppcheck-suppress memleak ; until the process ends, which is now */
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
#pragma GCC diagnostic pop

const struct cmd cmd_run = {
	.name = "run",
	.args = "ROOTFS [CMD [ARG...]]",
	.summary = "Run a container in a VM of its own",
	.options = run_options,
	.notes = "ROOTFS is an image file with an ext4 or erofs file system, a directory, a tar archive,\n"
		 "or an OCI image layout; see 'uvm help image'. It is never written to: what the container\n"
		 "writes goes to its scratch, and is gone with it unless that is a file. The VM is a clone\n"
		 "of a template, which the first run makes.\n\n"
		 "Without --detach, signals go to the container's process, and its end is uvm's.\n"
		 "Exit status: the command's; 128 + n if signal n ended it; 124 after --timeout; 127 if\n"
		 "there is no such command, 126 if it cannot be executed; 125 if uvm itself failed.\n",
	.stop_at_operand = 1,
	.usage_status = RUN_FAILED,
	.examples = "uvm run root.erofs uname -a\n"
		    "uvm run -it --scratch 2G root.erofs\n"
		    "uvm run -d --name web --volume-disk data.ext4:/srv root.erofs httpd -f\n"
		    "uvm run --network passt,tcp=8080:80 -m 512M -c 2 image.tar\n",
	.run = run_run,
	.cfg_size = sizeof(struct run_config),
	.defaults = run_defaults,
};
