/* SPDX-License-Identifier: Apache-2.0
 *
 * What is in a tree of JSON. It is made by json_parse.c.
 */
#include "vmm/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/util.h"

static const struct json *member(const struct json *v, const char *name, size_t len)
{
	if (!v || v->type != JSON_OBJECT)
		return NULL;
	json_each(m, v) if (!strncmp(m->key, name, len) && !m->key[len]) return m->type == JSON_NULL
		? NULL
		: m;
	return NULL;
}

const struct json *json_member(const struct json *v, const char *name)
{
	return member(v, name, strlen(name));
}

const struct json *json_get(const struct json *v, const char *path)
{
	while (v && *path) {
		size_t n = strcspn(path, ".");

		v = member(v, path, n);
		path += n + (path[n] == '.');
	}
	return v && v->type != JSON_NULL ? v : NULL;
}

/* "NAME: a.b[3]", cut off if it does not fit. */
static void describe(const struct json *v, FILE *to)
{
	size_t index = 0;

	if (!v->parent) {
		fprintf(to, "%s:", v->key);
		return;
	}
	describe(v->parent, to);
	if (v->key) {
		fprintf(to, "%s%s", v->parent->parent ? "." : " ", v->key);
		return;
	}
	for (const struct json *i = v->parent->first; i != v; i = i->next)
		index++;
	fprintf(to, "%s[%zu]", v->parent->parent ? "" : " ", index);
}

int json_bad(struct err *e, const struct json *v, const char *fmt, ...)
{
	char text[sizeof(e->text)] = "";
	FILE *to = fmemopen(text, sizeof(text) - 1, "w");
	va_list ap;

	if (!to)
		return err_set(e, ENOMEM, "out of memory");
	describe(v, to);
	fputc(' ', to);
	va_start(ap, fmt);
	vfprintf(to, fmt, ap);
	va_end(ap);
	fclose(to);
	return err_set(e, EINVAL, "%s", text);
}

/* The value at the path if it is of this type. 1: there is none. */
static int find(const struct json *v, const char *path, enum json_type type, const struct json **to,
		struct err *e)
{
	static const char *const names[] = {[JSON_BOOL] = "a boolean",
					    [JSON_INTEGER] = "a whole number",
					    [JSON_STRING] = "a string",
					    [JSON_ARRAY] = "an array",
					    [JSON_OBJECT] = "an object"};

	while (v && *path) { /* a step into what is no object is an error, too */
		size_t n = strcspn(path, ".");

		if (v->type != JSON_OBJECT)
			return json_bad(e, v, "is not an object");
		v = member(v, path, n);
		path += n + (path[n] == '.');
	}
	if (!v || (v->type == JSON_NULL && (!v->parent || v->parent->type == JSON_OBJECT)))
		return 1;
	if (v->type != type)
		return json_bad(e, v, "is not %s", names[type]);
	*to = v;
	return 0;
}

int json_bool(const struct json *v, const char *path, bool *to, struct err *e)
{
	const struct json *at;
	int r = find(v, path, JSON_BOOL, &at, e);

	if (!r)
		*to = at->boolean;
	return r < 0 ? r : 0;
}

int json_int(const struct json *v, const char *path, int64_t min, int64_t max, int64_t *to,
	     struct err *e)
{
	const struct json *at;
	int r = find(v, path, JSON_INTEGER, &at, e);
	int64_t n;

	if (r)
		return r < 0 ? r : 0;
	n = (int64_t)(at->negative ? -at->magnitude : at->magnitude);
	if ((!at->negative && at->magnitude > INT64_MAX) || n < min || n > max)
		return json_bad(e, at, "is not between %" PRId64 " and %" PRId64, min, max);
	*to = n;
	return 0;
}

int json_uint(const struct json *v, const char *path, uint64_t max, uint64_t *to, struct err *e)
{
	const struct json *at;
	int r = find(v, path, JSON_INTEGER, &at, e);

	if (r)
		return r < 0 ? r : 0;
	if (at->negative || at->magnitude > max)
		return json_bad(e, at, "is not between 0 and %" PRIu64, max);
	*to = at->magnitude;
	return 0;
}

int json_string(const struct json *v, const char *path, const char **to, struct err *e)
{
	const struct json *at;
	int r = find(v, path, JSON_STRING, &at, e);

	if (r)
		return r < 0 ? r : 0;
	if (strlen(at->text) != at->len)
		return json_bad(e, at, "has a NUL in it");
	*to = at->text;
	return 0;
}

int json_array(const struct json *v, const char *path, const struct json **to, struct err *e)
{
	int r = find(v, path, JSON_ARRAY, to, e);

	return r < 0 ? r : 0;
}

int json_object(const struct json *v, const char *path, const struct json **to, struct err *e)
{
	int r = find(v, path, JSON_OBJECT, to, e);

	return r < 0 ? r : 0;
}

int json_strings(const struct json *v, const char *path, const char ***to, struct err *e)
{
	const struct json *array;
	const char **list;
	size_t n = 0;
	int r = find(v, path, JSON_ARRAY, &array, e);

	if (r)
		return r < 0 ? r : 0;
	list = calloc(array->count + 1, sizeof(*list));
	if (!list)
		return err_set(e, ENOMEM, "out of memory");
	json_each(item, array) if (!r) r = json_string(item, "", &list[n++], e);
	if (r)
		free(list);
	else
		*to = list;
	return r;
}

int json_required(const struct json *v, const char *path, struct err *e)
{
	const struct json *at = v;

	if (json_get(v, path))
		return 0;
	/* "NAME: a.b" for the value, and the path below it. */
	return at->parent ? json_bad(e, at, "has no '%s'", path)
			  : json_bad(e, at, "%s is missing", path);
}
