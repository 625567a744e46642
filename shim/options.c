/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/options.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "vmm/util.h"

#define PROPAGATION (MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE)

#define COPY_UP "tmpcopyup"

static const struct {
	const char *name;
	uint64_t set, clear;
} table[] = {
	{"async", 0, MS_SYNCHRONOUS},
	{"atime", 0, MS_NOATIME},
	{"bind", MS_BIND, 0},
	{"defaults", 0, 0},
	{"dev", 0, MS_NODEV},
	{"diratime", 0, MS_NODIRATIME},
	{"dirsync", MS_DIRSYNC, 0},
	{"exec", 0, MS_NOEXEC},
	{"iversion", 0, 0},
	{"lazytime", MS_LAZYTIME, 0},
	{"loud", 0, 0},
	{"noatime", MS_NOATIME, MS_STRICTATIME},
	{"nodev", MS_NODEV, 0},
	{"nodiratime", MS_NODIRATIME, 0},
	{"noexec", MS_NOEXEC, 0},
	{"noiversion", 0, 0},
	{"nolazytime", 0, MS_LAZYTIME},
	{"norelatime", 0, 0},
	{"nostrictatime", 0, MS_STRICTATIME},
	{"nosuid", MS_NOSUID, 0},
	{"private", MS_PRIVATE, PROPAGATION},
	{"rbind", MS_BIND | MS_REC, 0},
	{"relatime", 0, MS_NOATIME | MS_STRICTATIME},
	{"ro", MS_RDONLY, 0},
	{"rprivate", MS_PRIVATE, PROPAGATION},
	{"rshared", MS_SHARED, PROPAGATION},
	{"rslave", MS_SLAVE, PROPAGATION},
	{"runbindable", MS_UNBINDABLE, PROPAGATION},
	{"rw", 0, MS_RDONLY},
	{"shared", MS_SHARED, PROPAGATION},
	{"silent", 0, 0},
	{"slave", MS_SLAVE, PROPAGATION},
	{"strictatime", MS_STRICTATIME, MS_NOATIME},
	{"suid", 0, MS_NOSUID},
	{"sync", MS_SYNCHRONOUS, 0},
	{COPY_UP, 0, 0},
	{"unbindable", MS_UNBINDABLE, PROPAGATION},
};

static const char *const refused[] = {"idmap", "ridmap", "mand", "remount", "acl"};

const char *mount_options_name(size_t i)
{
	return i < ARRAY_SIZE(table) ? table[i].name : NULL;
}

static int take(struct mount_options *o, const struct json *v, const char *word, struct err *e)
{
	size_t len = strlen(o->data);

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (strcmp(word, table[i].name))
			continue;
		o->flags = (o->flags & ~table[i].clear) | table[i].set;
		o->copy_up |= !strcmp(word, COPY_UP);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (!strcmp(word, refused[i]))
			return json_bad(e, v, "is '%s', which is not supported; leave it out", word);
	if (len + strlen(word) + 2 > sizeof(o->data))
		return json_bad(e, v->parent, "is too long: %u bytes at the most are the file system's",
				(unsigned int)sizeof(o->data) - 1);
	if (len)
		strcat(o->data, ",");
	strcat(o->data, word);
	return 0;
}

int mount_options_parse(struct mount_options *o, const struct json *list, struct err *e)
{
	int r = 0;

	*o = (struct mount_options){0};
	json_each(v, list) {
		const char *word = "";

		r = json_string(v, "", &word, e);
		if (!r && *word)
			r = take(o, v, word, e);
		if (r)
			break;
	}
	return r;
}
