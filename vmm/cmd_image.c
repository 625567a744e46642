/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm image: makes images of root file systems, and looks after those that were made.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/cache.h"
#include "vmm/cmd.h"
#include "vmm/image.h"
#include "vmm/util.h"

#define UNTIL (30 * UINT64_C(86400)) /* prune's default */

struct image_options {
	const char *name;
	bool json, all;
	uint64_t until; /* seconds */
};

static const struct opt image_options[] = {
	{"image-name", 0, "NAME", "build: which image of an OCI layout", opt_set_str,
	 offsetof(struct image_options, name)},
	{"all", 'a', NULL, "prune: everything that is not in use", opt_set_flag,
	 offsetof(struct image_options, all)},
	{"until", 0, "DURATION",
	 "prune: what was not used for so long (90s, 30m, 24h, 7d; default 30d)", opt_set_duration,
	 offsetof(struct image_options, until)},
	{"json", 0, NULL, "ls: print a JSON array", opt_set_flag,
	 offsetof(struct image_options, json)},
	{0},
};

static void defaults(void *cfg)
{
	((struct image_options *)cfg)->until = UNTIL;
}

/* --- build --- */

static int build(struct image_options *o, int argc, char **argv, struct err *e)
{
	struct meter meter;
	struct image_request req = {.root = argv[0], .name = o->name, .meter = &meter};
	struct image img;
	int r;

	(void)argc;
	meter_begin(&meter);
	r = image_open(&req, &img, e);
	meter_end(&meter);
	if (r)
		return EXIT_FAIL;
	printf("%s\n", img.path);
	image_close(&img);
	return EXIT_OK;
}

/* --- ls --- */

/* The cache; one that is not there yet is empty. Returns 1 then. */
static int open_cache(struct cache *c, struct err *e)
{
	int r = cache_open(c, false, e);

	if (r == -ENOENT)
		*e->text = 0;
	return r == -ENOENT ? 1 : r;
}

struct listing {
	const struct image_options *o;
	struct json_writer json;
};

static int list_one(void *ctx, const struct cache_entry *entry)
{
	struct listing *l = ctx;
	struct json_doc doc = {0};
	const char *source = "?", *kind = "?", *name = NULL;
	char used[CMD_TIME], made[CMD_TIME];
	struct err ignored;
	int64_t created = 0;

	/* What cannot be read is listed all the same: to be removed. */
	if (!image_about(entry->dir, &doc, &ignored)) {
		json_string(doc.root, "source", &source, &ignored);
		json_string(doc.root, "kind", &kind, &ignored);
		json_string(doc.root, "name", &name, &ignored);
		json_int(doc.root, "created", 0, INT64_MAX, &created, &ignored);
	}
	cmd_time(entry->used, used);
	cmd_time(created, made);
	if (l->o->json) {
		json_put_open(&l->json, NULL, '{');
		json_put_string(&l->json, "key", entry->key);
		json_put_string(&l->json, "kind", kind);
		json_put_string(&l->json, "source", source);
		json_put_string(&l->json, "name", name);
		json_put_uint(&l->json, "bytes", entry->bytes);
		json_put_string(&l->json, "created", made);
		json_put_string(&l->json, "used", used);
		json_put_close(&l->json);
	} else {
		printf("%.12s  %-9s %8.1fM  %-20s  ", entry->key, kind,
		       (double)entry->bytes / (1 << 20), used);
		for (const char *p = source; *p;
		     p++) /* a file's name, which a terminal would obey */
			putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
		printf("%s%s\n", name ? " " : "", name ? name : "");
	}
	json_free(&doc);
	return 0;
}

static int ls(struct image_options *o, int argc, char **argv, struct err *e)
{
	struct listing l = {.o = o, .json = {.out = stdout}};
	struct cache c;
	int r = open_cache(&c, e);

	(void)argc, (void)argv;
	if (r < 0)
		return EXIT_FAIL;
	if (o->json)
		json_put_open(&l.json, NULL, '[');
	else
		printf("%-12s  %-9s %9s  %-20s  %s\n", "KEY", "KIND", "SIZE", "USED", "SOURCE");
	if (!r) {
		r = cache_each(&c, list_one, &l, e);
		cache_close(&c);
	}
	if (o->json) {
		json_put_close(&l.json);
		putchar('\n');
	}
	return r < 0 ? EXIT_FAIL : EXIT_OK;
}

/* --- rm, prune --- */

struct search {
	const char *prefix;
	unsigned int found;
	char key[SHA256_HEX + 1];
};

static int match(void *ctx, const struct cache_entry *entry)
{
	struct search *s = ctx;

	if (strncmp(entry->key, s->prefix, strlen(s->prefix)))
		return 0;
	s->found++;
	memcpy(s->key, entry->key, sizeof(s->key));
	return 0;
}

static int rm(struct image_options *o, int argc, char **argv, struct err *e)
{
	struct cache c;
	int r = cache_open(&c, false, e);

	(void)o;
	if (r)
		return EXIT_FAIL;
	for (int i = 0; i < argc && !r; i++) {
		struct search s = {.prefix = argv[i]};

		r = cache_each(&c, match, &s, e);
		if (!r && s.found != 1)
			r = err_set(e, ENOENT,
				    s.found ? "there are several images whose key begins with '%s'"
					    : "there is no image '%s'; 'uvm image ls' lists them",
				    argv[i]);
		if (!r)
			r = cache_remove(&c, s.key, e);
	}
	cache_close(&c);
	return r ? EXIT_FAIL : EXIT_OK;
}

struct pruning {
	const struct cache *c;
	int64_t before;
	unsigned int count;
	uint64_t bytes;
	struct err *e;
};

static int prune_one(void *ctx, const struct cache_entry *entry)
{
	struct pruning *p = ctx;
	int r;

	if (entry->used >= p->before)
		return 0;
	r = cache_remove(p->c, entry->key, p->e);
	if (r == -EBUSY || r == -ENOENT) { /* in use, or another was faster */
		*p->e->text = 0;
		return 0;
	}
	if (!r) {
		p->count++;
		p->bytes += entry->bytes;
	}
	return r;
}

static int prune(struct image_options *o, int argc, char **argv, struct err *e)
{
	struct pruning p = {.before = o->all ? INT64_MAX : time(NULL) - (int64_t)o->until, .e = e};
	struct cache c;
	int r = open_cache(&c, e);

	(void)argc, (void)argv;
	if (r)
		return r < 0 ? EXIT_FAIL : EXIT_OK;
	p.c = &c;
	r = cache_each(&c, prune_one, &p, e);
	cache_sweep(&c, p.before);
	cache_close(&c);
	printf("%u image%s removed, %.1f MiB\n", p.count, p.count == 1 ? "" : "s",
	       (double)p.bytes / (1 << 20));
	return r ? EXIT_FAIL : EXIT_OK;
}

static const struct verb {
	const char *name;
	int min, max; /* operands */
	int (*run)(struct image_options *o, int argc, char **argv, struct err *e);
} verbs[] = {
	{"ls", 0, 0, ls},
	{"build", 1, 1, build},
	{"rm", 1, INT32_MAX, rm},
	{"prune", 0, 0, prune},
};

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	for (size_t i = 0; argc && i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(argv[0], verbs[i].name) && argc - 1 >= verbs[i].min &&
		    argc - 1 <= verbs[i].max)
			return verbs[i].run(cfg, argc - 1, argv + 1, e);
	return cmd_usage(&cmd_image, e);
}

const struct cmd cmd_image = {
	.name = "image",
	.args = "ls | build ROOTFS | rm KEY... | prune",
	.summary = "Make images of root file systems, and look after those in the cache",
	.options = image_options,
	.notes = "ROOTFS is an ext4 or erofs image, a directory, a tar (as 'podman export' writes "
		 "it;\n"
		 "plain or compressed), or an OCI image layout (a directory or a tar; 'docker "
		 "save' and\n"
		 "'podman save' too). What is no image becomes a read-only one in the cache; "
		 "'build'\n"
		 "prints its path. Nothing is made again that did not change. A key may be cut "
		 "short.\n"
		 "'prune' removes what was not used for long; what a VM uses stays, what a "
		 "snapshot\n"
		 "refers to does not.\n",
	.examples = "podman export web >web.tar; uvm image build web.tar\n"
		    "uvm image ls\n"
		    "uvm image prune --until 7d\n",
	.run = run,
	.cfg_size = sizeof(struct image_options),
	.defaults = defaults,
};
