/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm template: the frozen VMs that uvm run's are cloned from.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd.h"
#include "vmm/json.h"
#include "vmm/log.h"
#include "vmm/template.h"

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

static void defaults(void *to)
{
	template_defaults(&((struct template_config *)to)->template);
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
		log_write(LOG_ERROR, "%s", why.text);
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
	.examples = "uvm template build --memory 512M --cpus 2\n"
		    "uvm template ls\n"
		    "uvm template prune\n",
	.run = run_template,
	.cfg_size = sizeof(struct template_config),
	.defaults = defaults,
};
