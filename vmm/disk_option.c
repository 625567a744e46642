/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk as the command line says it: disk_parse, disk_check.
 */
#include <errno.h>
#include <string.h>

#include "vmm/disk.h"
#include "vmm/opt.h"

static int set_ro(void *to, char *value, struct err *e)
{
	(void)value, (void)e;
	((struct disk_config *)to)->read_only = true;
	return 0;
}

static int set_cow(void *to, char *value, struct err *e)
{
	(void)value, (void)e;
	((struct disk_config *)to)->layered = true;
	return 0;
}

static bool is_serial(const char *text)
{
	size_t len = strnlen(text, BLK_SERIAL + 1);

	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return len <= BLK_SERIAL;
}

static int set_serial(void *to, char *value, struct err *e)
{
	struct disk_config *c = to;

	if (!*value || !is_serial(value))
		return err_set(e, EINVAL, "serial=%s: 1 to %u printable characters, please", value,
			       BLK_SERIAL);
	memcpy(c->serial, value, strlen(value) + 1);
	return 0;
}

static int set_queues(void *to, char *value, struct err *e)
{
	struct disk_config *c = to;
	int r = opt_set_u32(&c->queues, value, e);

	if (!r && (c->queues < 1 || c->queues > BLK_QUEUES))
		r = err_set(e, EINVAL, "queues=%s is outside 1 to %u", value, BLK_QUEUES);
	return r;
}

/* N or N:BURST. */
static int set_limit(uint64_t *rate, uint64_t *burst, char *value,
		     int (*set)(void *to, const char *value, struct err *e), struct err *e)
{
	char *colon = strchr(value, ':');
	int r;

	if (colon)
		*colon++ = 0;
	r = set(rate, value, e);
	if (!r && colon)
		r = set(burst, colon, e);
	return r || (*rate && (!colon || *burst)) ? r : err_set(e, EINVAL, "a limit of 0");
}

static int set_bps(void *to, char *value, struct err *e)
{
	struct blk_limits *l = &((struct disk_config *)to)->limits;

	return set_limit(&l->bps, &l->bps_burst, value, opt_set_size, e);
}

static int set_number(void *to, const char *value, struct err *e)
{
	uint32_t n = 0;
	int r = opt_set_u32(&n, value, e);

	*(uint64_t *)to = n;
	return r;
}

static int set_iops(void *to, char *value, struct err *e)
{
	struct blk_limits *l = &((struct disk_config *)to)->limits;

	return set_limit(&l->iops, &l->iops_burst, value, set_number, e);
}

static int set_direct(void *to, char *value, struct err *e)
{
	return opt_on_off(&((struct disk_config *)to)->direct, value, e);
}

static int set_aio(void *to, char *value, struct err *e)
{
	struct disk_config *c = to;

	c->threads = !strcmp(value, "threads");
	return c->threads || !strcmp(value, "uring")
		       ? 0
		       : err_set(e, EINVAL, "aio is 'uring' or 'threads', and not '%s'", value);
}

int disk_parse(struct disk_config *cfg, const char *value, struct err *e)
{
	static const struct opt_word words[] = {
		{"ro", set_ro},	  {"cow", set_cow},	  {"serial=", set_serial},
		{"bps=", set_bps}, {"iops=", set_iops},	  {"queues=", set_queues},
		{"aio=", set_aio}, {"direct=", set_direct}};
	char *rest = opt_cut(value);
	int r;

	*cfg = (struct disk_config){.path = value};
	r = opt_words(words, ARRAY_SIZE(words), cfg, rest, e);
	if (r)
		return r;
	if (cfg->read_only && cfg->layered)
		return err_set(e, EINVAL, "'ro' and 'cow' exclude each other");
	if (cfg->direct && (cfg->layered || !strcmp(value, DISK_PLACEHOLDER)))
		return err_set(e, EINVAL, "direct=on is for images that are used as they are");
	return *value ? 0 : err_set(e, EINVAL, "the path is empty");
}

bool disk_check(const struct disk_config *cfg)
{
	return cfg->queues <= BLK_QUEUES && is_serial(cfg->serial);
}
