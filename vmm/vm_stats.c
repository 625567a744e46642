/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm_stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/record.h"
#include "vmm/util.h"

const struct vm_figure vm_figures[] = {
#define FIGURE(name, metric, type, member, help)                                                   \
	{name, metric, type, help, offsetof(struct agent_properties, member)}
	FIGURE("cpu_us", "cpu_seconds_total", "counter", cpu_us, "CPU time"),
	FIGURE("user_us", "cpu_user_seconds_total", "counter", user_us, "CPU time of programs"),
	FIGURE("system_us", "cpu_system_seconds_total", "counter", system_us, "CPU time of the kernel"),
	FIGURE("periods", "cpu_periods_total", "counter", periods, "Periods of its CPU limit"),
	FIGURE("throttled", "cpu_throttled_periods_total", "counter", throttled,
	       "Periods in which it reached its CPU limit"),
	FIGURE("throttled_us", "cpu_throttled_seconds_total", "counter", throttled_us,
	       "Time that it waited for its CPU limit"),
	FIGURE("memory_bytes", "memory_used_bytes", "gauge", memory, "Memory in use"),
	FIGURE("memory_peak_bytes", "memory_peak_bytes", "gauge", memory_peak, "The most memory in use"),
	FIGURE("memory_limit_bytes", "memory_limit_bytes", "gauge", memory_max, "The limit of memory"),
	FIGURE("swap_bytes", "swap_bytes", "gauge", swap, "Swap in use"),
	FIGURE("anonymous_bytes", "memory_anonymous_bytes", "gauge", anon, "Memory of no file"),
	FIGURE("file_bytes", "memory_file_bytes", "gauge", file, "Memory of files"),
	FIGURE("kernel_bytes", "memory_kernel_bytes", "gauge", kernel, "Memory of the kernel"),
	FIGURE("faults", "page_faults_total", "counter", faults, "Page faults"),
	FIGURE("major_faults", "major_page_faults_total", "counter", major_faults,
	       "Page faults that waited for a disk"),
	FIGURE("oom", "oom_events_total", "counter", oom, "Times that its memory limit was hit"),
	FIGURE("oom_kills", "oom_kills_total", "counter", oom_kill,
	       "Processes killed for its memory limit"),
	FIGURE("processes", "processes", "gauge", pids, "Processes and threads"),
	FIGURE("processes_limit", "processes_limit", "gauge", pids_max, "The limit of those"),
	FIGURE("read_bytes", "read_bytes_total", "counter", read_bytes, "Bytes read from disks"),
	FIGURE("written_bytes", "written_bytes_total", "counter", write_bytes, "Bytes written to disks"),
	FIGURE("reads", "reads_total", "counter", reads, "Reads from disks"),
	FIGURE("writes", "writes_total", "counter", writes, "Writes to disks"),
	FIGURE("cpu_some_us", "cpu_pressure_some_seconds_total", "counter", cpu_pressure.some_us,
	       "Time in which something waited for a CPU"),
	FIGURE("cpu_full_us", "cpu_pressure_full_seconds_total", "counter", cpu_pressure.full_us,
	       "Time in which all waited for a CPU"),
	FIGURE("memory_some_us", "memory_pressure_some_seconds_total", "counter",
	       memory_pressure.some_us, "Time in which something waited for memory"),
	FIGURE("memory_full_us", "memory_pressure_full_seconds_total", "counter",
	       memory_pressure.full_us, "Time in which all waited for memory"),
	FIGURE("io_some_us", "io_pressure_some_seconds_total", "counter", io_pressure.some_us,
	       "Time in which something waited for a disk"),
	FIGURE("io_full_us", "io_pressure_full_seconds_total", "counter", io_pressure.full_us,
	       "Time in which all waited for a disk"),
	{0},
};

const struct vm_balloon vm_balloon[] = {
	{"target_bytes", "balloon_target", "gauge", "Memory that the guest is to give back"},
	{"size_bytes", "balloon_size", "gauge", "Memory that the guest has given back"},
	{"age_ms", "balloon_age_ms", "gauge", "Milliseconds since the guest told the figures below"},
	{"total_bytes", "balloon_total", "gauge", "Memory of the guest's kernel"},
	{"free_bytes", "balloon_free", "gauge", "Memory that is free"},
	{"available_bytes", "balloon_available", "gauge", "Memory that can be had without swapping"},
	{"caches_bytes", "balloon_caches", "gauge", "Memory of files, some of which can be had"},
	{"swap_in_bytes", "balloon_swap_in", "counter", "Bytes read from swap"},
	{"swap_out_bytes", "balloon_swap_out", "counter", "Bytes written to swap"},
	{"major_faults", "balloon_major_faults", "counter", "Page faults that waited for a disk"},
	{"minor_faults", "balloon_minor_faults", "counter", "All other page faults"},
	{"huge_pages", "balloon_huge_pages", "counter", "Huge pages that programs reserved"},
	{"huge_failures", "balloon_huge_failures", "counter", "Huge pages that they did not get"},
	{0},
};

#define FRESH_TRIES 20u /* for those figures, every FRESH_US */
#define FRESH_US    5000u

uint64_t vm_stats_figure(const struct vm_figure *f, const struct agent_properties *p)
{
	uint64_t v;

	memcpy(&v, (const char *)p + f->at, sizeof(v));
	return v;
}

uint64_t vm_stats_value(const char *answer, const char *key)
{
	char text[24];

	client_value(answer, key, text, sizeof(text));
	return strtoull(text, NULL, 10);
}

bool vm_stats_has(const struct vm_stats *s, const char *key)
{
	char text[24];

	client_value(s->stats, key, text, sizeof(text));
	return *text;
}

uint64_t vm_stats_part(const struct vm_stats *s, const char *key, unsigned int n)
{
	char name[40];

	snprintf(name, sizeof(name), "%s.%u", key, n);
	return vm_stats_value(s->stats, name);
}

bool vm_stats_has_part(const struct vm_stats *s, const char *key, unsigned int n)
{
	char name[40];

	snprintf(name, sizeof(name), "%s.%u", key, n);
	return vm_stats_has(s, name);
}

static FILE *open_proc(uint64_t pid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, file);
	return fopen(path, "re");
}

uint64_t vm_stats_memory(uint64_t pid, uint64_t *resident)
{
	unsigned long long kib;
	uint64_t proportional = 0;
	char line[256];
	FILE *f = open_proc(pid, "smaps_rollup");

	*resident = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Rss: %llu", &kib) == 1)
			*resident = kib << 10;
		if (sscanf(line, "Pss: %llu", &kib) == 1)
			proportional = kib << 10;
	}
	if (f)
		fclose(f);
	return proportional;
}

static void read_process(struct vm_stats *s, uint64_t pid)
{
	unsigned long long user = 0, system = 0;
	unsigned int threads = 0;
	char line[1024], *at = NULL;
	FILE *f = open_proc(pid, "stat");

	/* The name, in brackets, may hold anything. */
	if (f && fgets(line, sizeof(line), f))
		at = strrchr(line, ')');
	if (at && sscanf(at + 1, "%*s%*d%*d%*d%*d%*d%*u%*u%*u%*u%*u%llu%llu%*d%*d%*d%*d%u", &user,
			 &system, &threads) == 3) {
		s->cpu_ms = (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
		s->threads = threads;
	}
	if (f)
		fclose(f);
	s->proportional = vm_stats_memory(pid, &s->resident);
}

static bool fetch(const struct rundir *vm, const char *container, struct agent_properties *p)
{
	struct err ignored;

	return !agent_stats(client_dial_agent_soon, (void *)(uintptr_t)vm, container,
			    now_ns() + CLIENT_SOON_MS * UINT64_C(1000000), p, &ignored);
}

static bool has_status(const struct vm_stats *s, const char *key, const char *value)
{
	char text[16];

	client_value(s->status, key, text, sizeof(text));
	return !strcmp(text, value);
}

/* Of an agent that could answer. */
static void read_guest(struct vm_stats *s, const struct rundir *vm)
{
	if (!has_status(s, "state", "running") || !has_status(s, "agent", "ready"))
		return;
	s->has_guest = fetch(vm, "", &s->guest);
	if (s->has_guest && record_is_container(vm))
		s->has_container = fetch(vm, RECORD_CONTAINER, &s->container);
}

/* By the first request for stats the guest's kernel was asked for its own; they are in the answers from
 * a moment after that, if it runs. The agent's were waited for meanwhile, so mostly the moment is over.
 */
static int read_again(struct vm_stats *s, int fd, uint64_t asked_ns, struct err *e)
{
	unsigned int tries = has_status(s, "state", "running") ? FRESH_TRIES : 0;
	int r;

	for (unsigned int i = 0;; i++) {
		uint64_t since_ms = (now_ns() - asked_ns) / 1000000u;

		r = client_request(fd, "stats", s->stats, sizeof(s->stats), e);
		if (r || !vm_stats_has(s, "balloon_age_ms") || i == tries ||
		    vm_stats_value(s->stats, "balloon_age_ms") <= since_ms)
			return r;
		usleep(FRESH_US);
	}
}

int vm_stats_read(struct vm_stats *s, const char *id, struct err *e)
{
	uint64_t asked_ns = now_ns();
	struct rundir vm;
	int fd, r = rundir_open(&vm, id, e);

	if (r)
		return r;
	*s = (struct vm_stats){0};
	memcpy(s->id, vm.id, sizeof(s->id));
	fd = r = client_control(&vm, e);
	if (fd >= 0) {
		r = client_request(fd, "status", s->status, sizeof(s->status), e);
		if (!r)
			r = client_request(fd, "stats", s->stats, sizeof(s->stats), e);
	}
	if (!r) {
		read_process(s, vm_stats_value(s->status, "pid"));
		read_guest(s, &vm);
		r = read_again(s, fd, asked_ns, e);
	}
	if (fd >= 0)
		close(fd);
	rundir_close(&vm);
	return r;
}
