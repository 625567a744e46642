/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "vmm/cgroup.h"
#include "vmm/util.h"

#define ROOT "/sys/fs/cgroup"

/* "a-b.slice" is in "a.slice". */
static int put_slice(char *to, size_t size, const char *slice)
{
	size_t n = 0, len = strlen(slice);

	*to = 0;
	if (!strcmp(slice, "-.slice"))
		return 0;
	if (len < 7 || strcmp(slice + len - 6, ".slice"))
		return -EINVAL;
	for (size_t i = 0; i <= len - 6; i++) {
		int r;

		if (i < len - 6 && slice[i] != '-')
			continue;
		r = snprintf(to + n, size - n, "/%.*s.slice", (int)i, slice);
		if (r < 0 || (size_t)r >= size - n)
			return -EINVAL;
		n += (size_t)r;
	}
	return 0;
}

static int systemd_path(char *to, size_t size, const char *text)
{
	char slice[NAME_MAX + 1], parents[PATH_MAX / 2];
	const char *prefix = strchr(text, ':'), *name = strchr(prefix + 1, ':');
	int n;

	if (!name || !name[1] || strchr(text, '/') || prefix - text > NAME_MAX)
		return -EINVAL;
	snprintf(slice, sizeof(slice), "%.*s", (int)(prefix - text), text);
	if (put_slice(parents, sizeof(parents), *slice ? slice : "system.slice"))
		return -EINVAL;
	n = snprintf(to, size, ROOT "%s/%.*s%s%s.scope", parents, (int)(name - prefix - 1), prefix + 1,
		     name - prefix > 1 ? "-" : "", name + 1);
	return n < (int)size ? 0 : -EINVAL;
}

int oci_cgroup_path(char path[PATH_MAX], const char *text, struct err *e)
{
	int r = 0;

	if (strchr(text, ':'))
		r = systemd_path(path, PATH_MAX, text);
	else if (snprintf(path, PATH_MAX, ROOT "/%s", text + strspn(text, "/")) >= PATH_MAX)
		r = -EINVAL;
	for (const char *p = path; !r && (p = strstr(p, "/..")); p += 3)
		if (!p[3] || p[3] == '/')
			r = -EINVAL;
	return r ? err_set(e, EINVAL,
			   "config.json: linux.cgroupsPath '%s' is neither a path without '..' nor "
			   "SLICE.slice:PREFIX:NAME",
			   text)
		 : 0;
}

/* Has what is below get the controllers that there are. */
static void enable(int dir)
{
	static const char *const controllers[] = {"+cpu", "+cpuset", "+memory", "+pids", "+io"};

	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
		cgroup_write(dir, "cgroup.subtree_control", controllers[i]);
}

static int failed(const char *path, int r, struct err *e)
{
	if (r == -ENOTSUP)
		return err_set(e, ENOTSUP, "cgroup %s: there is no cgroup v2 at " ROOT " of this host", path);
	return err_set(e, -r, "cgroup %s: %s", path, strerror(-r));
}

static int make(const char *path)
{
	int dir = open(ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (dir >= 0 && (fstatfs(dir, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC)) {
		close(dir);
		return -ENOTSUP;
	}
	for (const char *p = path + sizeof(ROOT) - 1; dir >= 0 && *(p += strspn(p, "/"));) {
		char name[NAME_MAX + 1];
		size_t n = strcspn(p, "/");
		int next = -1;

		snprintf(name, sizeof(name), "%.*s", (int)MIN(n, (size_t)NAME_MAX), p);
		enable(dir);
		if (!mkdirat(dir, name, 0755) || errno == EEXIST)
			next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			next = -errno;
		close(dir);
		dir = next;
		p += n;
	}
	return dir;
}

/* CPUs and nodes must be had. The rest is in force inside as well: where the host has no such controller for
 * us, that is all.
 */
static int set(int dir, const struct oci_resources *res)
{
	static const char *const files[] = {"cpu.weight", "cpu.idle", "cpu.max", "cpu.max.burst"};
	int r = res->cpus ? cgroup_write(dir, "cpuset.cpus", res->cpus) : 0;

	if (!r && res->mems)
		r = cgroup_write(dir, "cpuset.mems", res->mems);
	for (size_t i = 0; i < ARRAY_SIZE(files) && !r; i++)
		for (size_t k = 0; k < res->values; k++)
			if (!strcmp(res->value[k].name, files[i]))
				cgroup_write(dir, files[i], res->value[k].value);
	return r;
}

int oci_cgroup_set(const char *path, const struct oci_resources *res, struct err *e)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = dir < 0 ? -errno : set(dir, res);

	if (dir >= 0)
		close(dir);
	return r ? failed(path, r, e) : 0;
}

int oci_cgroup_join(const char *path, const struct oci_resources *res, uint64_t memory,
		    struct err *e)
{
	int dir = make(path), r = dir < 0 ? dir : 0;
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)memory);
	if (!r && memory)
		cgroup_write(dir, "memory.max", text);
	if (!r && res)
		r = set(dir, res);
	if (!r)
		r = cgroup_write(dir, "cgroup.procs", "0");
	if (dir >= 0)
		close(dir);
	return r ? failed(path, r, e) : 0;
}

int oci_cgroup_of(pid_t pid, char path[PATH_MAX])
{
	char name[32], line[PATH_MAX / 2];
	FILE *in;
	int r = -ENOENT;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
	in = fopen(name, "re");
	if (!in)
		return -errno;
	while (r && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::/", 4) && line[4])
			r = snprintf(path, PATH_MAX, ROOT "%s", line + 3) < PATH_MAX ? 0 : -EINVAL;
	}
	fclose(in);
	return r;
}

/* The processes of execs may be about to end. */
#define REMOVE_TRIES   200u
#define REMOVE_WAIT_US 10000u

void oci_cgroup_remove(const char *path)
{
	for (unsigned int i = 0; rmdir(path) && errno == EBUSY && i < REMOVE_TRIES; i++)
		usleep(REMOVE_WAIT_US);
}
