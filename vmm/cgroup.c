/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "vmm/util.h"

#define PERIOD_US 100000u
#define CPU_MAX	  1000000u /* thousandths */

int cgroup_set_cpu(void *to, const char *value, struct err *e)
{
	char *end;
	double n = strtod(value, &end);

	if (end == value || *end || strspn(value, "0123456789.") != strlen(value) || n < 0.01 ||
	    n > (double)CPU_MAX / 1000)
		return err_set(e, EINVAL, "'%s' is no number of CPUs like 1.5", value);
	*(uint32_t *)to = (uint32_t)(n * 1000 + 0.5);
	return 0;
}

/* As what cgroup2 is mounted from: a directory of another kind would take the files' names for new ones. */
static int open_group(const char *path, struct err *e)
{
	struct statfs fs;
	int dir;

	if (mkdir(path, 0755) && errno != EEXIST)
		return err_sys(e, "cannot make cgroup %s", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, "cannot open cgroup %s", path);
	if (!fstatfs(dir, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC)
		return dir;
	close(dir);
	return err_set(e, EINVAL, "%s: not a directory of cgroup v2", path);
}

int cgroup_write(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	close(fd);
	return r;
}

int cgroup_join(const struct cgroup_config *c, struct err *e)
{
	char cpu[32], memory[32], pids[16];
	const struct {
		const char *name, *text;
		bool set;
	} files[] = {{"cpu.max", cpu, c->cpu},
		     {"memory.max", memory, c->memory},
		     {"pids.max", pids, c->pids},
		     {"io.max", c->io, c->io},
		     {"cgroup.procs", "0", true}}; /* last: in it, limits hold */
	int dir, r = 0;

	if (!c->path)
		return c->cpu || c->memory || c->pids || c->io
			       ? err_set(e, EINVAL, "limits of a cgroup need --cgroup DIR")
			       : 0;
	snprintf(cpu, sizeof(cpu), "%u %u", c->cpu * (PERIOD_US / 1000), PERIOD_US);
	snprintf(memory, sizeof(memory), "%" PRIu64, c->memory);
	snprintf(pids, sizeof(pids), "%u", c->pids);
	dir = open_group(c->path, e);
	if (dir < 0)
		return dir;
	for (size_t i = 0; i < ARRAY_SIZE(files) && !r; i++) {
		r = files[i].set ? cgroup_write(dir, files[i].name, files[i].text) : 0;
		if (r == -ENOENT)
			err_set(e, ENOENT, "cgroup %s has no %s: the controller is not enabled there",
				c->path, files[i].name);
		else if (r)
			err_set(e, -r, "cgroup %s: %s: %s", c->path, files[i].name, strerror(-r));
	}
	close(dir);
	return r;
}
