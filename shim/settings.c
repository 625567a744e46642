/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/commands.h"
#include "vmm/opt.h"
#include "vmm/util.h"
#include "vmm/vcpu.h"

#define AT(member) offsetof(struct oci_settings, member)

static int set_rootfs(void *to, const char *value, struct err *e)
{
	bool erofs = !strcmp(value, "erofs");

	if (!erofs && strcmp(value, "share"))
		return err_set(e, EINVAL, "'%s' is neither 'share' nor 'erofs'", value);
	*(bool *)to = erofs;
	return 0;
}

static int set_path(void *to, const char *value, struct err *e)
{
	return *value == '/' ? opt_set_str(to, value, e)
			     : err_set(e, EINVAL, "'%s' is not an absolute path", value);
}

static const struct opt keys[] = {
	{"kernel", 0, "FILE", NULL, set_path, AT(kernel)},
	{"template", 0, "DIR", NULL, set_path, AT(template)},
	{"memory", 0, "SIZE", NULL, opt_set_size, AT(memory)},
	{"cpus", 0, "N", NULL, opt_set_u32, AT(cpus)},
	{"rootfs", 0, "share|erofs", NULL, set_rootfs, AT(erofs)},
	{"scratch", 0, "WHERE", NULL, opt_set_str, AT(scratch)},
};

/* Returns 0, -ENOENT for a key that is none, or -EINVAL with the reason. */
static int set(struct oci_settings *s, const char *key, const char *value, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(keys[i].name, key))
			return keys[i].set((char *)s + keys[i].offset, value, e) ? -EINVAL : 0;
	err_set(e, ENOENT, "there is no such key, but kernel, template, memory, cpus, rootfs and scratch");
	return -ENOENT;
}

/* --- the file --- */

static char *trim(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	len = strlen(text);
	while (len && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	return text;
}

static int take_line(struct oci_settings *s, char *line, const char *path, unsigned int n,
		     struct err *e)
{
	char *equals, *key;
	struct err why;

	line[strcspn(line, "#")] = '\0';
	key = trim(line);
	if (!*key)
		return 0;
	equals = strchr(key, '=');
	if (!equals)
		return err_set(e, EINVAL, "%s:%u: this is not KEY = VALUE; see 'man uvm-config'", path, n);
	*equals = '\0';
	key = trim(key);
	return set(s, key, trim(equals + 1), &why)
		       ? err_set(e, EINVAL, "%s:%u: %s: %s", path, n, key, why.text)
		       : 0;
}

static int load_file(struct oci_settings *s, const char *path, struct err *e)
{
	size_t len;
	unsigned int n = 0;
	char *rest;
	int r = shim_read_file(path, &s->text, &len, e);

	if (r) {
		s->text = NULL;
		if (r != -ENOENT)
			return r;
		*e->text = '\0'; /* most hosts have none */
		return 0;
	}
	rest = realloc(s->text, len + 1);
	if (!rest)
		return err_set(e, ENOMEM, "out of memory");
	s->text = rest;
	rest[len] = '\0';
	if (strlen(rest) != len)
		return err_set(e, EINVAL, "%s: this is no text", path);
	while (rest && !r) {
		char *line = strsep(&rest, "\n");

		r = take_line(s, line, path, ++n, e);
	}
	return r;
}

/* --- annotations --- */

static int set_number(void *to, const char *value, struct err *e)
{
	char *end;

	errno = 0;
	*(int64_t *)to = strtoll(value, &end, 10);
	return errno || end == value || *end ? err_set(e, EINVAL, "'%s' is no number", value) : 0;
}

/* What is less than nothing is no limit. */
static int set_count(void *to, const char *value, struct err *e)
{
	int64_t n;
	int r = set_number(&n, value, e);

	if (!r)
		*(uint64_t *)to = (uint64_t)MAX(n, 0);
	return r;
}

static const struct opt pod_keys[] = {
	{"io.kubernetes.cri.sandbox-memory", 0, NULL, NULL, set_count, AT(pod_memory)},
	{"io.kubernetes.cri.sandbox-cpu-quota", 0, NULL, NULL, set_number, AT(pod_quota)},
	{"io.kubernetes.cri.sandbox-cpu-period", 0, NULL, NULL, set_count, AT(pod_period)},
};

static int set_of_pod(struct oci_settings *s, const char *key, const char *value, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(pod_keys); i++)
		if (!strcmp(pod_keys[i].name, key))
			return pod_keys[i].set((char *)s + pod_keys[i].offset, value, e) ? -EINVAL : 0;
	return 0;
}

static int take_annotations(struct oci_settings *s, const struct json *annotations, struct err *e)
{
	size_t prefix = strlen(OCI_ANNOTATION);
	struct err why;

	json_each(a, annotations) {
		int r = strncmp(a->key, OCI_ANNOTATION, prefix) ? set_of_pod(s, a->key, a->text, &why)
								: set(s, a->key + prefix, a->text, &why);

		if (r)
			return err_set(e, EINVAL, "annotation %s: %s", a->key, why.text);
	}
	return 0;
}

int oci_settings_load(struct oci_settings *s, const char *path, const struct json *annotations,
		      struct err *e)
{
	int r = load_file(s, path, e);

	return r ? r : take_annotations(s, annotations, e);
}

void oci_settings_free(struct oci_settings *s)
{
	free(s->text);
	*s = (struct oci_settings){0};
}

/* --- the size --- */

int oci_settings_size(const struct oci_settings *s, const struct oci_resources *r, struct template *t,
		      struct err *e)
{
	uint64_t period = s->pod_period ? s->pod_period : 100000;
	uint64_t pod_cpus = s->pod_quota > 0 ? ((uint64_t)s->pod_quota + period - 1) / period : 0;
	uint64_t memory = MAX(r->memory, s->pod_memory);
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	struct err why;

	if (memory > UINT64_MAX / 4 - OCI_OVERHEAD)
		return err_set(e, EINVAL, "config.json: linux.resources.memory.limit is more than a VM can have");
	t->memory = OCI_MEMORY_DEFAULT;
	while (t->memory < memory + OCI_OVERHEAD)
		t->memory *= 2;
	if (s->memory)
		t->memory = s->memory;
	if (t->memory < r->memory + OCI_OVERHEAD)
		return err_set(
			e, EINVAL,
			"a VM of %llu MiB is too small for linux.resources.memory.limit: it wants %llu MiB more than "
			"that; lower the limit, or raise memory (annotation org.uvm.memory, or " OCI_SETTINGS_FILE
			")",
			(unsigned long long)t->memory >> 20, OCI_OVERHEAD >> 20);
	t->cpus = (uint32_t)MIN(MAX(MAX(r->cpu_count, pod_cpus), 1u), (uint64_t)MIN(MAX(online, 1), VCPU_MAX));
	if (s->cpus)
		t->cpus = s->cpus;
	return template_check(t, &why) ? err_set(e, EINVAL, "the size of the VM: %s", why.text) : 0;
}
