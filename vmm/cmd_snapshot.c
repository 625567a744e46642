/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm snapshot: takes snapshots, and looks after them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/snapshot.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/disk.h"
#include "vmm/exec.h"
#include "vmm/jail.h"
#include "vmm/json.h"
#include "vmm/meter.h"
#include "vmm/util.h"

struct snapshot_config {
	const char *out;
	bool stop, json;
};

static const struct opt snapshot_options[] = {
	{"output", 'o', "DIR", "where the snapshot goes; replaces one that is there", opt_set_str,
	 offsetof(struct snapshot_config, out)},
	{"out", 0, "DIR", NULL, opt_set_str, offsetof(struct snapshot_config, out)},
	{"stop", 0, NULL, "end the VM when the snapshot is safe", opt_set_flag,
	 offsetof(struct snapshot_config, stop)},
	{"json", 0, NULL, "info: print a JSON object", opt_set_flag,
	 offsetof(struct snapshot_config, json)},
	{0},
};

/* The directory that a snapshot's directory is in, and its name there. */
static int split(const char *path, int *at, char name[NAME_MAX + 1], struct err *e)
{
	char *copy = strdup(path), *copy2 = strdup(path);
	int r = copy && copy2 ? 0 : err_set(e, ENOMEM, "out of memory");

	if (!r && snprintf(name, NAME_MAX + 1, "%s", basename(copy2)) > NAME_MAX)
		r = err_set(e, ENAMETOOLONG, "'%s': the name is too long", path);
	if (!r && strchr(name, '\n')) /* it would end the request */
		r = err_set(e, EINVAL, "'%s' is not a name for a snapshot", path);
	if (!r) {
		*at = open(dirname(copy), O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		if (*at < 0)
			r = err_sys(e, "%s", copy);
	}
	free(copy);
	free(copy2);
	return r;
}

/* --- take --- */

#define WARM_UP_MS 1000

/* Runs a command that does nothing. What the first command of a guest needs (the file it is in, or
 * its libraries, and the kernel's structures) is in the snapshot then, shared by all clones, where
 * it would be read and made in each: it saves each 1.6 MiB and 4 ms. If it cannot be run, or not in
 * that time, the snapshot is as good without.
 */
static void warm_up(const struct rundir *vm)
{
	static char program[] = "/bin/true", *argv[] = {program, NULL};
	struct exec_request rq = {.argv = argv, .quiet = true, .timeout_ms = WARM_UP_MS};
	char answer[CONTROL_ANSWER], agent[8];
	struct err ignored;
	int status, fd = client_control(vm, &ignored);

	if (fd < 0)
		return;
	*answer = 0;
	client_request(fd, "status", answer, sizeof(answer), &ignored);
	client_value(answer, "agent", agent, sizeof(agent));
	close(fd);
	if (!strcmp(agent, "ready"))
		exec_run(&rq, client_dial_agent, (void *)(uintptr_t)vm, &status, &ignored);
}

static void show_progress(void *ctx, uint64_t done, uint64_t all)
{
	meter_set(ctx, "saving memory: %" PRIu64 " of %" PRIu64 " MiB", done >> 20, all >> 20);
}

static int take(struct snapshot_config *c, const char *id, struct err *e)
{
	char name[NAME_MAX + 1], request[CONTROL_LINE], answer[CONTROL_ANSWER];
	struct meter meter;
	struct rundir vm;
	int at, fd, pass, r;

	if (!c->out) {
		err_set(e, EINVAL, "snapshot needs --output DIR; see 'uvm help snapshot'");
		return EXIT_USAGE;
	}
	if (rundir_open(&vm, id, e))
		return EXIT_FAIL;
	r = split(c->out, &at, name, e);
	if (!r) {
		warm_up(&vm);
		snprintf(request, sizeof(request), "%s %s", c->stop ? "snapshot-stop" : "snapshot",
			 name);
		fd = client_control(&vm, e);
		r = fd < 0 ? fd : client_place(fd, at, e);
		/* So that the monitor gets that directory and no way out of it. */
		pass = jail_detach_readable(at);
		meter_begin(&meter);
		if (!r)
			r = client_request_long(fd, request, pass < 0 ? at : pass, show_progress, &meter, answer,
						 sizeof(answer), e);
		meter_end(&meter);
		/* Once it has ended, so that its name is free. */
		if (!r && c->stop)
			client_wait_end(fd, CLIENT_TIMEOUT_MS);
		if (fd >= 0)
			close(fd);
		if (pass >= 0)
			close(pass);
		close(at);
	}
	rundir_close(&vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

/* --- info --- */

static void hex(const uint8_t *bytes, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

static void info_text(const struct snapshot *s)
{
	const struct snapshot_manifest *m = &s->m;
	char id[2 * sizeof(m->uuid) + 1], created[CMD_TIME];

	hex(m->uuid, sizeof(m->uuid), id);
	cmd_time((int64_t)m->created, created);
	printf("snapshot   %s\nid         %s\ncreated    %s\nfrom       VM '%s' by uvm %s\n"
	       "kernel     %s\nmemory     %" PRIu64 "M, %.1f MiB stored\n"
	       "cpus       %u\nagent      %s\n",
	       s->path, id, created, m->source.s, m->version.s, m->kernel.s, m->memory >> 20,
	       (double)m->memory_stored / (1 << 20), m->cpus, m->agent ? "yes" : "no");
	if (m->has_parent)
		printf("parent     %s\n", m->parent.s);
	for (uint32_t i = 0; i < m->disks; i++) {
		const struct snapshot_disk *d = &s->disk[i];

		printf("disk %-4u  %" PRIu64 " bytes%s\n", i, d->size,
		       !d->files ? ", a placeholder" : d->read_only ? ", read-only" : "");
		for (uint32_t k = 0; k < d->files; k++)
			printf("           %s\n", d->file[k].path.s);
	}
}

static void info_json(const struct snapshot *s)
{
	const struct snapshot_manifest *m = &s->m;
	char id[2 * sizeof(m->uuid) + 1], created[CMD_TIME];
	struct json_writer w = {.out = stdout};

	hex(m->uuid, sizeof(m->uuid), id);
	cmd_time((int64_t)m->created, created);
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "path", s->path);
	json_put_string(&w, "id", id);
	json_put_string(&w, "created", created);
	json_put_string(&w, "source", m->source.s);
	json_put_string(&w, "version", m->version.s);
	json_put_string(&w, "kernel", m->kernel.s);
	json_put_uint(&w, "memory", m->memory);
	json_put_uint(&w, "memory_stored", m->memory_stored);
	json_put_uint(&w, "cpus", m->cpus);
	json_put_bool(&w, "agent", m->agent);
	json_put_string(&w, "parent", m->has_parent ? m->parent.s : NULL);
	json_put_open(&w, "disks", '[');
	for (uint32_t i = 0; i < m->disks; i++) {
		const struct snapshot_disk *d = &s->disk[i];

		json_put_open(&w, NULL, '{');
		json_put_uint(&w, "size", d->size);
		json_put_bool(&w, "read_only", d->read_only);
		json_put_open(&w, "files", '[');
		for (uint32_t k = 0; k < d->files; k++)
			json_put_string(&w, NULL, d->file[k].path.s);
		json_put_close(&w);
		json_put_close(&w);
	}
	json_put_close(&w);
	json_put_close(&w);
	putchar('\n');
}

static int info(struct snapshot_config *c, const char *path, struct err *e)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int r = s ? snapshot_read_manifest(s, path, e) : err_set(e, ENOMEM, "out of memory");

	if (!r && c->json)
		info_json(s);
	else if (!r)
		info_text(s);
	if (s)
		snapshot_close(s);
	free(s);
	return r ? EXIT_FAIL : EXIT_OK;
}

/* --- verify, dump, rm --- */

static int verify(struct snapshot_config *c, const char *path, struct err *e)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int r = s ? snapshot_open(s, path, SNAPSHOT_READ_ALL, e) : err_set(e, ENOMEM, "out of memory");

	(void)c;
	if (!r) {
		printf("%s: whole\n", path);
		snapshot_close(s);
	}
	free(s);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int dump_file(int dir, const char *name, const char kind[8], struct err *e)
{
	struct state_section section;
	struct state_reader reader;
	uint8_t *data;
	size_t len;
	int r = snapshot_read_file(dir, name, &data, &len, e);

	if (r)
		return r;
	r = state_open(&reader, data, len, kind, name, e);
	while (!r && (r = state_next(&reader, &section, e)) > 0)
		r = state_print(&section, snapshot_table(section.name), stdout, e);
	free(data);
	return r;
}

static int dump(struct snapshot_config *c, const char *path, struct err *e)
{
	int dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC), r;

	(void)c;
	if (dir < 0) {
		err_sys(e, "snapshot %s", path);
		return EXIT_FAIL;
	}
	r = dump_file(dir, "manifest", SNAPSHOT_MANIFEST_KIND, e);
	if (!r)
		r = dump_file(dir, "state", SNAPSHOT_STATE_KIND, e);
	close(dir);
	return r ? EXIT_FAIL : EXIT_OK;
}

/* Its state without what only a layer has. */
static int copy_state(const struct snapshot *s, struct state_writer *w, struct err *e)
{
	struct state_reader all = s->state;
	struct state_section section;
	int r;

	state_begin(w, SNAPSHOT_STATE_KIND);
	while ((r = state_next(&all, &section, e)) > 0)
		if (strcmp(section.name, SNAPSHOT_MEMORY_MAP))
			state_copy(w, &section);
	return r;
}

static int flatten_into(const struct snapshot *s, struct snapshot_draft *d, struct err *e)
{
	struct memfile_layer layer[MEMFILE_LAYERS];
	struct snapshot_disk *disk = calloc(s->m.disks + 1, sizeof(*disk));
	struct snapshot_manifest *m = malloc(sizeof(*m));
	struct state_writer w = {0};
	struct mem mem = {0};
	int r = disk && m ? copy_state(s, &w, e) : err_set(e, ENOMEM, "out of memory");

	for (uint32_t i = 0; i < s->m.disks && !r; i++)
		r = disk_flatten(s, i, d, &disk[i], e);
	if (!r)
		r = memfile_map(&mem, s->m.memory, layer, snapshot_layers(s, layer), e);
	if (!r) {
		*m = s->m;
		r = snapshot_fill(d, m, disk, &w, &mem, s, false, NULL, NULL, e);
	}
	mem_free(&mem);
	state_discard(&w);
	free(disk);
	free(m);
	return r;
}

/* Takes the place of what it was made from. */
static int flatten(struct snapshot_config *c, const char *path, struct err *e)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	struct snapshot_draft d = {.at = -1, .dir = -1};
	char name[NAME_MAX + 1];
	int at = -1, r = s ? snapshot_open(s, path, SNAPSHOT_READ_ALL, e) : err_set(e, ENOMEM, "out of memory");

	(void)c;
	if (r || !s->m.has_parent) {
		if (s && !r)
			snapshot_close(s);
		free(s);
		return r ? EXIT_FAIL : EXIT_OK; /* it is independent already */
	}
	r = split(s->path, &at, name, e);
	if (!r)
		r = snapshot_draft(&d, at, "", name, e);
	if (!r)
		r = flatten_into(s, &d, e);
	if (!r)
		r = snapshot_publish(&d, NULL, e);
	snapshot_drop(&d);
	if (at >= 0)
		close(at);
	snapshot_close(s);
	free(s);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int rm(struct snapshot_config *c, const char *path, struct err *e)
{
	char name[NAME_MAX + 1];
	int at, r = split(path, &at, name, e);

	(void)c;
	if (!r) {
		r = snapshot_remove(at, name, e);
		close(at);
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

static const struct {
	const char *name;
	int (*run)(struct snapshot_config *c, const char *path, struct err *e);
} verbs[] = {
	{"info", info},
	{"verify", verify},
	{"flatten", flatten},
	{"dump", dump},
	{"rm", rm},
};

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	struct snapshot_config *c = cfg;

	if (argc == 1)
		return take(c, argv[0], e);
	if (argc != 2)
		return cmd_usage(&cmd_snapshot, e);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(argv[0], verbs[i].name))
			return verbs[i].run(c, argv[1], e);
	return cmd_usage(&cmd_snapshot, e);
}

const struct cmd cmd_snapshot = {
	.name = "snapshot",
	.args = "ID | info DIR | verify DIR | flatten DIR | dump DIR | rm DIR",
	.summary = "Freeze a running VM into a directory, and look after such directories",
	.options = snapshot_options,
	.notes = "The VM goes on (or ends, with --stop). The agent runs /bin/true before, if the guest\n"
		 "has it, so that what a first command needs is in the snapshot and not made in each\n"
		 "clone.\n\n"
		 "A snapshot of a clone holds only what\n"
		 "differs from the snapshot that it was cloned from, which it needs from then on;\n"
		 "'flatten' makes it independent. 'verify' reads everything and compares checksums;\n"
		 "'dump' prints the machine's state; 'rm' refuses what others need.\n",
	.examples = "uvm snapshot web --output web.snap\n"
		    "uvm snapshot info web.snap --json\n"
		    "uvm snapshot flatten web.snap\n",
	.run = run,
	.cfg_size = sizeof(struct snapshot_config),
};
