/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that bring devices to a running VM, and take them away: attach, detach.
 *
 * Here is opened what the monitor only gets the descriptor of, with the rights of whoever calls. Then the
 * monitor makes the device, and the guest's agent has the driver take it; the other way around, the agent
 * is first. What fails half-way is undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/container.h"
#include "vmm/control.h"
#include "vmm/disk.h"
#include "vmm/json.h"
#include "vmm/net.h"
#include "vmm/record.h"
#include "vmm/scratch.h"

struct attach_config {
	bool json;
	char *path;	/* where a container gets the disk, or loses it; NULL: nowhere */
	bool read_only; /* mounted so */
};

/* A VM that is spoken to. */
struct target {
	struct rundir vm;
	int control;
	bool agent, container;
	char status[CONTROL_ANSWER];
};

/* What was attached, or is to be detached. */
struct device {
	bool disk;
	unsigned int slot;
	struct agent_plugged guest; /* its name there; empty without an agent */
	char serial[BLK_SERIAL + 1], mac[24], mtu[16];
	const char *type; /* of the file system on it; NULL: unknown */
	char words[AGENT_PLUG_WORDS];
};

static int set_path(void *to, const char *value, struct err *e)
{
	struct attach_config *c = to;
	char *colon;

	c->path = (char *)(uintptr_t)value;
	colon = strrchr(c->path, ':');
	if (colon && !strcmp(colon, ":ro")) {
		*colon = 0;
		c->read_only = true;
	}
	return *c->path == '/' ? 0 : err_set(e, EINVAL, "'%s' is no absolute path", c->path);
}

/* --- the VM --- */

static int ask(const struct target *t, char *answer, size_t size, struct err *e, const char *request, int pass)
{
	return client_request_long(t->control, request, pass, NULL, NULL, answer, size, e);
}

static int open_target(struct target *t, const char *id, struct err *e)
{
	char agent[16];
	int r = rundir_open(&t->vm, id, e);

	if (r)
		return r;
	t->container = record_is_container(&t->vm);
	t->control = r = client_control(&t->vm, e);
	if (r >= 0) {
		r = client_request(t->control, "status", t->status, sizeof(t->status), e);
		if (r)
			close(t->control);
	}
	if (r) {
		rundir_close(&t->vm);
		return r;
	}
	client_value(t->status, "agent", agent, sizeof(agent));
	t->agent = !strcmp(agent, "ready");
	return 0;
}

static void close_target(struct target *t)
{
	close(t->control);
	rundir_close(&t->vm);
}

/* Has the monitor take it out; with a driver in the guest that does not let go it stays. */
static int take_out(const struct target *t, unsigned int slot, struct err *e)
{
	char request[32], answer[64];

	snprintf(request, sizeof(request), "detach %u", slot);
	return ask(t, answer, sizeof(answer), e, request, -1);
}

static int change_mount(struct target *t, const struct attach_config *c, const struct device *d, bool away,
			struct err *e)
{
	char source[sizeof("/dev/") + AGENT_DEVICE_NAME];
	struct container_mount m = {.source = source,
				    .target = c->path,
				    .type = d->type,
				    .flags = c->read_only ? MS_RDONLY : 0};

	if (away)
		return container_unmount(client_dial_agent, &t->vm, RECORD_CONTAINER, c->path, e);
	snprintf(source, sizeof(source), "/dev/%s", d->guest.name);
	return container_mount(client_dial_agent, &t->vm, RECORD_CONTAINER, &m, e);
}

static int check_path(const struct target *t, const struct attach_config *c, struct err *e)
{
	return !c->path || t->container
		       ? 0
		       : err_set(e, EINVAL, "VM '%s' is not a container's: mount it by 'uvm exec'", t->vm.id);
}

/* --- what is opened for the monitor --- */

/* As the monitor is to know it: where a snapshot finds it again, if that can be said. */
static void name_image(const char *path, char name[PATH_MAX])
{
	if (!realpath(path, name) || strlen(name) > CONTROL_LINE / 2 || strpbrk(name, ",\n"))
		strcpy(name, "attached");
}

/* Returns the image's descriptor, or -errno. */
static int open_disk(struct device *d, char *text, char *request, size_t size, bool typed, struct err *e)
{
	const char *comma = strchr(text, ',');
	char name[PATH_MAX], *words = strdup(comma ? comma : "");
	struct disk_config cfg;
	int fd = words ? disk_parse(&cfg, text, e) : err_set(e, ENOMEM, "out of memory");

	if (!fd && typed) {
		d->type = scratch_type(cfg.path, e);
		if (!d->type)
			fd = -EINVAL;
	}
	if (!fd) {
		/* As blk_file_open. */
		fd = open(cfg.path, (cfg.read_only || cfg.layered ? O_RDONLY : O_RDWR | O_EXCL) |
					    O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			fd = err_sys(e, "cannot open disk %s", cfg.path);
	}
	if (fd >= 0) {
		name_image(cfg.path, name);
		snprintf(request, size, "attach disk %s%s", name, words);
	}
	free(words);
	return fd;
}

/* A program that stays must not keep what reads our output waiting for its end. */
static int open_quietly(struct net *n, const struct net_config *cfg, struct err *e)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), r;
	int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	r = net_open(n, cfg, e);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close(null);
	close(out);
	close(err);
	return r;
}

static int open_net(struct device *d, char *text, char *request, size_t size, struct err *e)
{
	struct net *n = calloc(1, sizeof(*n));
	struct net_config cfg;
	char words[CONTROL_LINE];
	int r = n ? 0 : err_set(e, ENOMEM, "out of memory");

	snprintf(request, size, "attach net %s", text);
	if (!r)
		r = net_parse(&cfg, text, e);
	if (!r)
		r = cfg.kind == NET_PASST ? open_quietly(n, &cfg, e) : net_open(n, &cfg, e);
	if (!r && !n->backend)
		r = err_set(e, EINVAL, "a network that leads nowhere cannot be attached");
	if (!r && net_words(&cfg, 0, NULL, words, sizeof(words)))
		snprintf(d->words, sizeof(d->words), "%s", strchr(words, ',') + 1);
	if (!r)
		r = n->backend->fd;
	free(n); /* the descriptor stays */
	return r;
}

/* --- attach --- */

static void print(const struct attach_config *c, const struct device *d)
{
	struct json_writer w = {.out = stdout};
	char slot[16];

	snprintf(slot, sizeof(slot), "slot%u", d->slot);
	if (!c->json) {
		printf("%s\n", *d->guest.name ? d->guest.name : slot);
		return;
	}
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "device", *d->guest.name ? d->guest.name : NULL);
	json_put_uint(&w, "slot", d->slot);
	if (*d->serial)
		json_put_string(&w, "serial", d->serial);
	if (*d->mac)
		json_put_string(&w, "mac", d->mac);
	if (*d->mtu)
		json_put_uint(&w, "mtu", strtoul(d->mtu, NULL, 10));
	if (c->path && d->type)
		json_put_string(&w, "mount", c->path);
	json_put_close(&w);
	putchar('\n');
}

/* The device is in its slot: the guest is told. What fails is undone as far as the guest lets it. */
static int tell_guest(struct target *t, const struct attach_config *c, struct device *d, struct err *e)
{
	struct agent_plugged gone;
	struct err why;
	int r = agent_plug(client_dial_agent, &t->vm, d->slot, d->words, &d->guest, e);

	if (!r && c->path && !*d->guest.name)
		r = err_set(e, ENODEV, "the guest has made no disk of it");
	if (!r && c->path)
		r = change_mount(t, c, d, false, e);
	if (!r)
		return 0;
	(void)agent_unplug(client_dial_agent, &t->vm, 1u << d->slot, "", &gone, &why);
	if (take_out(t, d->slot, &why)) {
		why = *e;
		err_set(e, -r, "%s (slot %u stays occupied)", why.text, d->slot);
	}
	return r;
}

static int attach(struct target *t, struct attach_config *c, struct device *d, char *text, struct err *e)
{
	char request[PATH_MAX + CONTROL_LINE], answer[256], slot[16];
	int r = check_path(t, c, e), fd;

	if (r)
		return r;
	fd = d->disk ? open_disk(d, text, request, sizeof(request), c->path, e)
		     : open_net(d, text, request, sizeof(request), e);
	if (fd < 0)
		return fd;
	r = strlen(request) >= CONTROL_LINE ? err_set(e, E2BIG, "'%s' is too long", request)
					    : ask(t, answer, sizeof(answer), e, request, fd);
	close(fd);
	if (r)
		return r;
	client_value(answer, "slot", slot, sizeof(slot));
	client_value(answer, "serial", d->serial, sizeof(d->serial));
	client_value(answer, "mac", d->mac, sizeof(d->mac));
	client_value(answer, "mtu", d->mtu, sizeof(d->mtu));
	d->slot = (unsigned int)strtoul(slot, NULL, 10) % 32;
	return t->agent ? tell_guest(t, c, d, e) : 0;
}

/* Whether argv is "disk ID WHAT" or "net ID WHAT". */
static bool take_operands(int argc, char **argv, struct device *d)
{
	d->disk = argc == 3 && !strcmp(argv[0], "disk");
	return d->disk || (argc == 3 && !strcmp(argv[0], "net"));
}

/* Does what a command is for with what its operands name. */
static int run(const struct cmd *cmd,
	       int (*change)(struct target *t, struct attach_config *c, struct device *d, char *what, struct err *e),
	       struct attach_config *c, int argc, char **argv, struct err *e)
{
	struct device d = {0};
	struct target t;
	int r;

	if (!take_operands(argc, argv, &d) || (c->path && !d.disk))
		return cmd_usage(cmd, e);
	if (open_target(&t, argv[1], e))
		return EXIT_FAIL;
	r = change(&t, c, &d, argv[2], e);
	if (!r)
		print(c, &d);
	close_target(&t);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_attach(void *cfg, int argc, char **argv, struct err *e)
{
	return run(&cmd_attach, attach, cfg, argc, argv, e);
}

#define JSON_OPTION                                                                                \
	{"json", 0, NULL, "print a JSON object", opt_set_flag, offsetof(struct attach_config, json)}

static const struct opt attach_options[] = {
	JSON_OPTION,
	{"mount", 0, "PATH[:ro]", "mount the disk's file system there in the container", set_path, 0},
	{0},
};

const struct cmd cmd_attach = {
	.name = "attach",
	.args = "disk ID IMG[,...] | net ID KIND[,...]",
	.summary = "Give a running VM another disk or network",
	.options = attach_options,
	.notes = "It prints what the guest calls the device, like vdb or eth1; 'slotN' without an agent.\n"
		 "IMG and KIND are as boot has them for --disk and --network ('uvm help boot'); --mount is for\n"
		 "containers of 'uvm run'. A VM has as many places for such devices as 'uvm boot --slots' said,\n"
		 "one of 'uvm run' four. Snapshots and forks have what was attached.\n",
	.examples = "uvm attach disk job data.img --mount /data\n"
		    "uvm attach net web tap=vm1,ip=10.0.1.2/24\n",
	.run = run_attach,
	.cfg_size = sizeof(struct attach_config),
};

/* --- detach --- */

/* The slots that name may mean: one by its own name or what is known of it here; else all of the kind, of
 * which the guest knows. Returns whether the guest has to be asked.
 */
static bool find_slots(const struct target *t, const struct device *d, const char *name, uint32_t *slots)
{
	for (const char *line = t->status; line && *line; line = strchr(line, '\n')) {
		char kind[8], id[64], slot_name[16];
		unsigned int slot;

		line += *line == '\n';
		if (sscanf(line, "attached.%u %7s %63[^\n]", &slot, kind, id) != 3 || slot >= 32 ||
		    strcmp(kind, d->disk ? "disk" : "net") != 0)
			continue;
		snprintf(slot_name, sizeof(slot_name), "slot%u", slot);
		if (!strcmp(name, id) || !strcmp(name, slot_name)) {
			*slots = 1u << slot;
			return false;
		}
		*slots |= 1u << slot;
	}
	return true;
}

static int detach(struct target *t, struct attach_config *c, struct device *d, char *name, struct err *e)
{
	uint32_t slots = 0;
	bool ask_guest = find_slots(t, d, name, &slots);
	struct err why;
	int r = check_path(t, c, e);

	if (!r && (!slots || (ask_guest && !t->agent)))
		r = err_set(e, ENODEV, "no %s '%s' was attached to VM '%s'", d->disk ? "disk" : "network", name,
			    t->vm.id);
	if (!r && c->path)
		r = change_mount(t, c, d, true, e);
	if (r)
		return r;
	d->slot = (unsigned int)__builtin_ctz(slots);
	if (t->agent) {
		r = agent_unplug(client_dial_agent, &t->vm, slots, ask_guest ? name : "", &d->guest, e);
		if (r)
			return r;
		d->slot = d->guest.slot;
	}
	if (d->slot >= 32 || !(slots >> d->slot & 1))
		return err_set(e, EPROTO, "the guest's agent tells of another device");
	r = take_out(t, d->slot, e);
	if (r && t->agent) /* as it was */
		(void)agent_plug(client_dial_agent, &t->vm, d->slot, NULL, &d->guest, &why);
	return r;
}

static int run_detach(void *cfg, int argc, char **argv, struct err *e)
{
	return run(&cmd_detach, detach, cfg, argc, argv, e);
}

static const struct opt detach_options[] = {
	JSON_OPTION,
	{"unmount", 0, "PATH", "unmount the disk there in the container before", set_path, 0},
	{0},
};

const struct cmd cmd_detach = {
	.name = "detach",
	.args = "disk ID NAME | net ID NAME",
	.summary = "Take a disk or network away that was attached",
	.options = detach_options,
	.notes = "NAME is what attach printed, a disk's serial number, a network's MAC address, or 'slotN'. A\n"
		 "disk that is mounted in the guest stays, and so does a device whose driver does not let go.\n"
		 "Whoever in the guest has opened a disk that is not mounted gets errors then.\n",
	.examples = "uvm detach disk job vdb --unmount /data\n"
		    "uvm detach net web eth1\n",
	.run = run_detach,
	.cfg_size = sizeof(struct attach_config),
};
