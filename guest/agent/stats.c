/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/stats.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/cgroup.h"
#include "guest/agent/entries.h"
#include "guest/agent/text.h"

#define UNKNOWN UINT64_MAX

/* The kernel's clock ticks in what /proc says are of 10 ms, whatever HZ is. */
#define TICK_US UINT64_C(10000)

static uint64_t number_at(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return *s >= '0' && *s <= '9' ? number_of(s, NULL) : UNKNOWN; /* or "max" */
}

/* What follows key at the begin of a line, or NULL. */
static const char *find(const char *text, const char *key)
{
	size_t len = strlen(key);

	while (text && strncmp(text, key, len)) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return text ? text + len : NULL;
}

static uint64_t field(const char *text, const char *key)
{
	const char *value = find(text, key);

	return value ? number_at(value) : UNKNOWN;
}

static uint64_t file_number(int group, const char *file)
{
	char text[64];

	return cgroup_read(group, file, text, sizeof(text)) > 0 ? number_at(text) : UNKNOWN;
}

static struct agent_pressure pressure(int dir, const char *file)
{
	struct agent_pressure p = {UNKNOWN, UNKNOWN};
	const char *total;
	char text[256];

	if (cgroup_read(dir, file, text, sizeof(text)) <= 0)
		return p;
	total = find(text, "some ");
	total = total ? find_text(total, "total=") : NULL;
	p.some_us = total ? number_at(total + 6) : UNKNOWN;
	total = find(text, "full ");
	total = total ? find_text(total, "total=") : NULL;
	p.full_us = total ? number_at(total + 6) : UNKNOWN;
	return p;
}

/* The sum of one figure over all devices. */
static uint64_t io_sum(const char *text, const char *key)
{
	uint64_t sum = 0;

	for (text = find_text(text, key); text; text = find_text(text + 1, key))
		sum += number_at(text + strlen(key));
	return sum;
}

/* What is in both kinds of group. */
static void common(int group, struct agent_properties *p)
{
	char text[4096]; /* memory.stat has 2 KiB */

	memset(p, 0xff, sizeof(*p));
	if (cgroup_read(group, "cpu.stat", text, sizeof(text)) > 0) {
		p->cpu_us = field(text, "usage_usec");
		p->user_us = field(text, "user_usec");
		p->system_us = field(text, "system_usec");
		p->periods = field(text, "nr_periods");
		p->throttled = field(text, "nr_throttled");
		p->throttled_us = field(text, "throttled_usec");
	}
	if (cgroup_read(group, "memory.stat", text, sizeof(text)) > 0) {
		p->anon = field(text, "anon ");
		p->file = field(text, "file ");
		p->kernel = field(text, "kernel ");
		p->faults = field(text, "pgfault ");
		p->major_faults = field(text, "pgmajfault ");
	}
	if (cgroup_read(group, "io.stat", text, sizeof(text)) >= 0) {
		p->read_bytes = io_sum(text, "rbytes=");
		p->write_bytes = io_sum(text, "wbytes=");
		p->reads = io_sum(text, "rios=");
		p->writes = io_sum(text, "wios=");
	}
}

uint64_t stats_oom_kills(int group)
{
	char text[256];

	return cgroup_read(group, "memory.events", text, sizeof(text)) > 0
		       ? field(text, "oom_kill ")
		       : UNKNOWN;
}

void stats_of_group(int group, struct agent_properties *p)
{
	char text[256];

	common(group, p);
	p->memory = file_number(group, "memory.current");
	p->memory_peak = file_number(group, "memory.peak");
	p->memory_max = file_number(group, "memory.max");
	p->swap = file_number(group, "memory.swap.current");
	if (cgroup_read(group, "memory.events", text, sizeof(text)) > 0) {
		p->oom = field(text, "oom ");
		p->oom_kill = field(text, "oom_kill ");
	}
	p->pids = file_number(group, "pids.current");
	p->pids_max = file_number(group, "pids.max");
	p->cpu_pressure = pressure(group, "cpu.pressure");
	p->memory_pressure = pressure(group, "memory.pressure");
	p->io_pressure = pressure(group, "io.pressure");
}

void stats_of_guest(int root, struct agent_properties *p)
{
	char text[4096];
	const char *tasks;

	common(root, p);
	if (cgroup_read(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) > 0) {
		uint64_t total = field(text, "MemTotal:"), left = field(text, "MemAvailable:");

		if (total != UNKNOWN && left <= total) {
			p->memory_max = total << 10;
			p->memory = (total - left) << 10;
		}
	}
	if (cgroup_read(AT_FDCWD, "/proc/loadavg", text, sizeof(text)) > 0) {
		tasks = strchr(text, '/');
		p->pids = tasks ? number_at(tasks + 1) : UNKNOWN;
	}
	p->pids_max = file_number(AT_FDCWD, "/proc/sys/kernel/threads-max");
	p->cpu_pressure = pressure(AT_FDCWD, "/proc/pressure/cpu");
	p->memory_pressure = pressure(AT_FDCWD, "/proc/pressure/memory");
	p->io_pressure = pressure(AT_FDCWD, "/proc/pressure/io");
}

/* --- processes --- */

/* The last number of a line: an id as the innermost namespace has it. */
static uint32_t last_number(const char *line)
{
	const char *last = line;

	for (const char *s = line; *s && *s != '\n'; s++)
		if ((*s == '\t' || *s == ' ') && s[1] >= '0' && s[1] <= '9')
			last = s + 1;
	return (uint32_t)number_at(last);
}

static void take_status(struct agent_process *p, const char *text)
{
	const char *line = find(text, "State:\t");

	p->state = line ? (uint8_t)*line : 0;
	p->parent = (uint32_t)field(text, "PPid:");
	p->uid = (uint32_t)field(text, "Uid:");
	p->threads = (uint32_t)field(text, "Threads:");
	line = find(text, "NSpid:");
	p->pid_inside = line ? last_number(line) : p->pid;
	line = find(text, "VmRSS:");
	p->resident = line ? number_at(line) << 10 : 0;
}

/* Times, from the fields that follow the name in parentheses, which may have anything in it. */
static void take_stat(struct agent_process *p, const char *text)
{
	const char *s = strrchr(text, ')');
	uint64_t cpu = 0;

	for (int n = 2; s && n <= 22; n++) { /* proc(5)'s numbers; s is behind field n */
		if (n == 14 || n == 15)
			cpu += number_at(s);
		if (n == 22)
			p->start_ns = number_at(s) * TICK_US * 1000;
		s = strchr(s + 1, ' ');
	}
	p->cpu_us = cpu * TICK_US;
}

static void take_command(struct agent_process *p, int dir)
{
	int n = cgroup_read(dir, "cmdline", p->command, sizeof(p->command));

	while (n > 0 && !p->command[n - 1])
		n--;
	for (int i = 0; i < n; i++)
		if (!p->command[i])
			p->command[i] = ' ';
	if (n > 0)
		return;
	/* One of the kernel's, or a zombie. */
	n = cgroup_read(dir, "comm", p->command, sizeof(p->command));
	if (n > 0)
		p->command[n - 1] = '\0';
}

/* Returns whether there is such a process. */
static bool take_process(struct agent_process *p, int proc, const char *pid)
{
	int dir = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[2048];
	bool there;

	if (dir < 0)
		return false;
	*p = (struct agent_process){.pid = (uint32_t)number_of(pid, NULL)};
	there = cgroup_read(dir, "status", text, sizeof(text)) > 0;
	if (there)
		take_status(p, text);
	if (there && cgroup_read(dir, "stat", text, sizeof(text)) > 0)
		take_stat(p, text);
	take_command(p, dir);
	close(dir);
	return there;
}

static uint32_t of_group(int group, int proc, struct agent_process *list)
{
	int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	uint32_t count = 0;
	char pid[16], c[512];
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	while ((n = read(fd, c, sizeof(c))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (c[i] != '\n') {
				if (len < sizeof(pid) - 1)
					pid[len++] = c[i];
				continue;
			}
			pid[len] = '\0';
			len = 0;
			if (count < AGENT_PROCESSES_MAX)
				count += take_process(&list[count], proc, pid);
		}
	}
	close(fd);
	return count;
}

static uint32_t of_guest(int proc, struct agent_process *list)
{
	uint32_t count = 0;
	const struct dirent *d;
	struct entries in;

	entries_begin(&in, proc);
	while ((d = entries_next(&in)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && count < AGENT_PROCESSES_MAX)
			count += take_process(&list[count], proc, d->d_name);
	return count;
}

uint32_t stats_processes(int group, struct agent_process *list)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t n;

	if (proc < 0)
		return 0;
	n = group >= 0 ? of_group(group, proc, list) : of_guest(proc, list);
	close(proc);
	return n;
}
