/* SPDX-License-Identifier: Apache-2.0
 *
 * What VMs use and do: stats for people, metrics for Prometheus.
 *
 * The monitor counts what only it sees (exits, requests of disks, bytes of sockets) and tells it
 * over the control socket; the kernel knows of the monitor's process; and the agent tells what the
 * guest and its container use, if it answers soon.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/record.h"
#include "vmm/util.h"

/* --- what there is to know of a VM --- */

struct vm_stats {
	char id[RUNDIR_ID_MAX + 1];
	char status[CONTROL_ANSWER], stats[CONTROL_ANSWER];
	uint64_t cpu_ms;		 /* of the monitor's process: guest, devices, kernel */
	uint64_t resident, proportional; /* bytes, guest memory included */
	unsigned int threads;
	bool has_guest, has_container; /* their figures are known, as the guest tells them */
	struct agent_properties guest, container;
};

/* The agent's figures. Times are microseconds there, and seconds in metrics. */
static const struct figure {
	const char *name; /* in JSON */
	const char *metric, *type, *help;
	size_t at; /* in struct agent_properties */
} figures[] = {
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
};

/* The balloon, and what the guest's kernel tells by it of its memory. */
static const struct {
	const char *name; /* in JSON and in metrics */
	const char *key;  /* in the VM's stats */
	const char *type, *help;
} balloon[] = {
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
};

#define FRESH_TRIES 20u /* for those figures, every FRESH_US */
#define FRESH_US    5000u

/* What nobody knows, or no limit. */
#define UNKNOWN UINT64_MAX

static uint64_t figure_of(const struct figure *f, const struct agent_properties *p)
{
	uint64_t v;

	memcpy(&v, (const char *)p + f->at, sizeof(v));
	return v;
}

static uint64_t value_of(const char *answer, const char *key)
{
	char text[24];

	client_value(answer, key, text, sizeof(text));
	return strtoull(text, NULL, 10);
}

static bool has_key(const struct vm_stats *s, const char *key)
{
	char text[24];

	client_value(s->stats, key, text, sizeof(text));
	return *text;
}

static uint64_t value_at(const struct vm_stats *s, const char *key, unsigned int n)
{
	char name[40];

	snprintf(name, sizeof(name), "%s.%u", key, n);
	return value_of(s->stats, name);
}

static bool has_value(const struct vm_stats *s, const char *key, unsigned int n)
{
	char name[40];

	snprintf(name, sizeof(name), "%s.%u", key, n);
	return has_key(s, name);
}

static FILE *open_proc(uint64_t pid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, file);
	return fopen(path, "re");
}

static void read_process(struct vm_stats *s, uint64_t pid)
{
	unsigned long long user = 0, system = 0, kib;
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
	f = open_proc(pid, "smaps_rollup");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Rss: %llu", &kib) == 1)
			s->resident = kib << 10;
		if (sscanf(line, "Pss: %llu", &kib) == 1)
			s->proportional = kib << 10;
	}
	if (f)
		fclose(f);
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
		if (r || !has_key(s, "balloon_age_ms") || i == tries ||
		    value_of(s->stats, "balloon_age_ms") <= since_ms)
			return r;
		usleep(FRESH_US);
	}
}

static int read_vm(struct vm_stats *s, const char *id, struct err *e)
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
		read_process(s, value_of(s->status, "pid"));
		read_guest(s, &vm);
		r = read_again(s, fd, asked_ns, e);
	}
	if (fd >= 0)
		close(fd);
	rundir_close(&vm);
	return r;
}

/* --- which VMs --- */

struct stats_config {
	bool all, json;
	void (*print)(struct stats_config *c, const struct vm_stats *s);
	struct json_writer out;
};

static int visit(void *ctx, const char *id)
{
	struct stats_config *c = ctx;
	struct vm_stats s;
	struct err e;

	if (!read_vm(&s, id, &e)) { /* else it is gone, or does not answer: uvm ps tells */
		c->print(c, &s);
	}
	return 0;
}

static int each_vm(struct stats_config *c, int argc, char **argv, struct err *e)
{
	if (!argc)
		return rundir_each(false, visit, c, e) ? EXIT_FAIL : EXIT_OK;
	for (int i = 0; i < argc; i++) {
		struct vm_stats s;

		if (read_vm(&s, argv[i], e))
			return EXIT_FAIL;
		c->print(c, &s);
	}
	return EXIT_OK;
}

/* --- stats --- */

static const struct opt stats_options[] = {
	{"json", 0, NULL, "print a JSON array", opt_set_flag, offsetof(struct stats_config, json)},
	{0},
};

static uint64_t sum(const struct vm_stats *s, const char *key)
{
	uint64_t all = 0;

	for (unsigned int i = 0; has_value(s, key, i); i++)
		all += value_at(s, key, i);
	return all;
}

static void put_figures(struct json_writer *w, const char *key, bool known,
			const struct agent_properties *p)
{
	if (!known) {
		json_put_string(w, key, NULL);
		return;
	}
	json_put_open(w, key, '{');
	for (const struct figure *f = figures; f < figures + ARRAY_SIZE(figures); f++) {
		uint64_t v = figure_of(f, p);

		if (v == UNKNOWN)
			json_put_string(w, f->name, NULL);
		else
			json_put_uint(w, f->name, v);
	}
	json_put_close(w);
}

static void put_balloon(struct json_writer *w, const struct vm_stats *s)
{
	if (!has_key(s, balloon[0].key)) {
		json_put_string(w, "balloon", NULL);
		return;
	}
	json_put_open(w, "balloon", '{');
	for (size_t i = 0; i < ARRAY_SIZE(balloon); i++)
		if (has_key(s, balloon[i].key))
			json_put_uint(w, balloon[i].name, value_of(s->stats, balloon[i].key));
		else
			json_put_string(w, balloon[i].name, NULL);
	json_put_close(w);
}

/* Of the container, or else of the guest: memory and processes. */
static void print_inside(const struct vm_stats *s)
{
	const struct agent_properties *p = s->has_container ? &s->container : &s->guest;

	if (!s->has_guest || p->memory == UNKNOWN)
		printf(" %9s", "-");
	else
		printf(" %8.1fM", (double)p->memory / 0x1p20);
	if (!s->has_guest || p->pids == UNKNOWN)
		printf(" %6s\n", "-");
	else
		printf(" %6" PRIu64 "\n", p->pids);
}

static void print_row(struct stats_config *c, const struct vm_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} number[] = {
		{"cpu_ms", s->cpu_ms},
		{"resident_bytes", s->resident},
		{"proportional_bytes", s->proportional},
		{"memory_bytes", value_of(s->status, "memory")},
		{"threads", s->threads},
		{"exits", sum(s, "exits")},
		{"disk_read_bytes", sum(s, "read_bytes")},
		{"disk_written_bytes", sum(s, "written_bytes")},
		{"disk_discarded_bytes", sum(s, "discarded_bytes")},
		{"disk_zeroed_bytes", sum(s, "zeroed_bytes")},
		{"net_received_bytes", sum(s, "rx_bytes")},
		{"net_sent_bytes", sum(s, "tx_bytes")},
		{"vsock_received_bytes", value_of(s->stats, "vsock_received_bytes")},
		{"vsock_sent_bytes", value_of(s->stats, "vsock_sent_bytes")},
	};
	char state[16];

	client_value(s->status, "state", state, sizeof(state));
	if (!c->json) {
		printf("%-20s %-8s %9.2fs %8.1fM %8.1fM %10" PRIu64 " %9.1fM %9.1fM", s->id,
		       state, (double)s->cpu_ms / 1e3, (double)s->resident / 0x1p20,
		       (double)s->proportional / 0x1p20, number[5].value,
		       (double)number[6].value / 0x1p20, (double)number[7].value / 0x1p20);
		print_inside(s);
		return;
	}
	json_put_open(&c->out, NULL, '{');
	json_put_string(&c->out, "id", s->id);
	json_put_string(&c->out, "state", state);
	for (unsigned int i = 0; i < ARRAY_SIZE(number); i++)
		json_put_uint(&c->out, number[i].name, number[i].value);
	put_figures(&c->out, "guest", s->has_guest, &s->guest);
	put_figures(&c->out, "container", s->has_container, &s->container);
	put_balloon(&c->out, s);
	json_put_close(&c->out);
}

static int run_stats(void *cfg, int argc, char **argv, struct err *e)
{
	struct stats_config *c = cfg;
	int status;

	c->print = print_row;
	c->out.out = stdout;
	if (c->json)
		json_put_open(&c->out, NULL, '[');
	else
		printf("%-20s %-8s %10s %9s %9s %10s %10s %10s %9s %6s\n", "ID", "STATE", "CPU",
		       "RSS", "PSS", "EXITS", "DISK READ", "WRITTEN", "USED", "PIDS");
	status = each_vm(c, argc, argv, e);
	if (c->json) {
		json_put_close(&c->out);
		putchar('\n');
	}
	return status;
}

const struct cmd cmd_stats = {
	.name = "stats",
	.args = "[ID...]",
	.summary = "Show what VMs use",
	.options = stats_options,
	.notes =
		"CPU is the time of the VM's process on the host. RSS and PSS are its memory, the\n"
		"guest's included; PSS counts a page that n processes share as one n-th of it, so\n"
		"it is what a clone costs. USED and PIDS are memory and processes of the container,\n"
		"or of the guest, as the guest tells them; --json has more of both, and of the\n"
		"memory that the guest has given back ('uvm update --balloon'). Without ID: all VMs.\n",
	.run = run_stats,
	.cfg_size = sizeof(struct stats_config),
};

/* --- metrics --- */

/* The exposition format wants all samples of a metric together, so the VMs are read first. */
struct metrics {
	struct stats_config config;
	struct vm_stats *vm;
	unsigned int vms;
	bool full;
};

static void keep(struct stats_config *c, const struct vm_stats *s)
{
	struct metrics *m = CONTAINER_OF(c, struct metrics, config);
	struct vm_stats *more = realloc(m->vm, (m->vms + 1) * sizeof(*more));

	if (!more) {
		m->full = true;
		return;
	}
	m->vm = more;
	more[m->vms++] = *s;
}

static void metric(const char *name, const char *type, const char *help)
{
	printf("# HELP uvm_%s %s\n# TYPE uvm_%s %s\n", name, help, name, type);
}

/* A metric of which a VM has one. */
static const struct {
	const char *name, *type, *help;
	const char *key; /* in its stats or status; NULL: see own */
	size_t own;	 /* offset of a uint64_t in struct vm_stats */
	double scale;
} vm_metrics[] = {
	{"uptime_seconds", "gauge", "Time since the VM was started.", "uptime_ms", 0, 1e-3},
	{"vcpus", "gauge", "Virtual CPUs.", "cpus", 0, 1},
	{"guest_memory_bytes", "gauge", "Memory that the guest has.", "memory", 0, 1},
	{"process_cpu_seconds_total", "counter", "CPU time of the VM's process.", NULL,
	 offsetof(struct vm_stats, cpu_ms), 1e-3},
	{"process_resident_bytes", "gauge", "Resident memory of the VM's process.", NULL,
	 offsetof(struct vm_stats, resident), 1},
	{"process_proportional_bytes", "gauge",
	 "Resident memory of the VM's process, its share of shared pages.", NULL,
	 offsetof(struct vm_stats, proportional), 1},
	{"vsock_received_bytes_total", "counter", "Bytes that the guest sent over vsock.",
	 "vsock_received_bytes", 0, 1},
	{"vsock_sent_bytes_total", "counter", "Bytes that were sent to the guest over vsock.",
	 "vsock_sent_bytes", 0, 1},
	{"vsock_connections", "gauge", "Open vsock connections.", "vsock_connections", 0, 1},
};

/* A metric of which a VM has one for each vCPU, disk or network. */
static const struct {
	const char *name, *label, *help, *key;
} part_metrics[] = {
	{"vcpu_exits_total", "vcpu", "Exits of the vCPU that the monitor served.", "exits"},
	{"disk_reads_total", "disk", "Read requests.", "reads"},
	{"disk_writes_total", "disk", "Write requests.", "writes"},
	{"disk_flushes_total", "disk", "Flush requests.", "flushes"},
	{"disk_errors_total", "disk", "Requests that were answered with an error.", "errors"},
	{"disk_read_bytes_total", "disk", "Bytes read.", "read_bytes"},
	{"disk_written_bytes_total", "disk", "Bytes written.", "written_bytes"},
	{"disk_discards_total", "disk", "Requests to discard.", "discards"},
	{"disk_discarded_bytes_total", "disk", "Bytes discarded.", "discarded_bytes"},
	{"disk_write_zeroes_total", "disk", "Requests to write zeros.", "zeroes"},
	{"disk_zeroed_bytes_total", "disk", "Bytes made zeros by them.", "zeroed_bytes"},
	{"net_received_frames_total", "net", "Frames that the guest received.", "rx_frames"},
	{"net_received_bytes_total", "net", "Bytes of frames that the guest received.", "rx_bytes"},
	{"net_received_dropped_total", "net", "Frames for the guest that it could not take.",
	 "rx_dropped"},
	{"net_sent_frames_total", "net", "Frames that the guest sent.", "tx_frames"},
	{"net_sent_bytes_total", "net", "Bytes of frames that the guest sent.", "tx_bytes"},
	{"net_sent_dropped_total", "net", "Frames of the guest's that were dropped.", "tx_dropped"},
};

/* The agent's figures, of guests or of containers. */
static void print_figures(const struct metrics *m, bool container)
{
	for (const struct figure *f = figures; f < figures + ARRAY_SIZE(figures); f++) {
		size_t len = strlen(f->name);
		bool us = !strcmp(f->name + len - 3, "_us"), any = false;
		const char *what = container ? "container" : "guest";

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
			uint64_t v = figure_of(f, container ? &s->container : &s->guest);

			if (!(container ? s->has_container : s->has_guest) || v == UNKNOWN)
				continue;
			if (!any)
				printf("# HELP uvm_%s_%s %s, as the guest tells it.\n"
				       "# TYPE uvm_%s_%s %s\n",
				       what, f->metric, f->help, what, f->metric, f->type);
			any = true;
			if (us)
				printf("uvm_%s_%s{id=\"%s\"} %.6f\n", what, f->metric, s->id,
				       (double)v / 1e6);
			else
				printf("uvm_%s_%s{id=\"%s\"} %" PRIu64 "\n", what, f->metric,
				       s->id, v);
		}
	}
}

static void print_balloons(const struct metrics *m)
{
	for (size_t i = 0; i < ARRAY_SIZE(balloon); i++) {
		const char *total = *balloon[i].type == 'c' ? "_total" : "";
		bool any = false;

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
			if (!has_key(s, balloon[i].key))
				continue;
			if (!any)
				printf("# HELP uvm_balloon_%s%s %s.\n# TYPE uvm_balloon_%s%s %s\n",
				       balloon[i].name, total, balloon[i].help, balloon[i].name,
				       total, balloon[i].type);
			any = true;
			printf("uvm_balloon_%s%s{id=\"%s\"} %" PRIu64 "\n", balloon[i].name, total,
			       s->id, value_of(s->stats, balloon[i].key));
		}
	}
}

static void print_metrics(const struct metrics *m)
{
	metric("vm_running", "gauge", "1 for a VM that runs, 0 for one that is paused.");
	for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
		char state[16];

		client_value(s->status, "state", state, sizeof(state));
		printf("uvm_vm_running{id=\"%s\"} %d\n", s->id, !strcmp(state, "running"));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(vm_metrics); i++) {
		metric(vm_metrics[i].name, vm_metrics[i].type, vm_metrics[i].help);
		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
			const char *key = vm_metrics[i].key;
			uint64_t v = !key ? *(const uint64_t *)(const void *)((const char *)s +
									      vm_metrics[i].own)
				     : !strncmp(key, "vsock", 5) ? value_of(s->stats, key)
								 : value_of(s->status, key);

			printf("uvm_%s{id=\"%s\"} %.*f\n", vm_metrics[i].name, s->id,
			       vm_metrics[i].scale < 1 ? 3 : 0, (double)v * vm_metrics[i].scale);
		}
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(part_metrics); i++) {
		bool any = false;

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms && !any; s++)
			any = has_value(s, part_metrics[i].key, 0);
		if (!any)
			continue;
		metric(part_metrics[i].name, "counter", part_metrics[i].help);
		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++)
			for (unsigned int n = 0; has_value(s, part_metrics[i].key, n); n++)
				printf("uvm_%s{id=\"%s\",%s=\"%u\"} %" PRIu64 "\n",
				       part_metrics[i].name, s->id, part_metrics[i].label, n,
				       value_at(s, part_metrics[i].key, n));
	}
	print_balloons(m);
	print_figures(m, false);
	print_figures(m, true);
}

static const struct opt metrics_options[] = {
	{"all", 'a', NULL, "of all VMs", opt_set_flag, offsetof(struct metrics, config.all)},
	{0},
};

static int run_metrics(void *cfg, int argc, char **argv, struct err *e)
{
	struct metrics *m = cfg;
	int status;

	if (m->config.all == !!argc)
		return cmd_usage(&cmd_metrics, e);
	m->config.print = keep;
	status = each_vm(&m->config, argc, argv, e);
	if (!status && m->full) {
		err_set(e, ENOMEM, "out of memory");
		status = EXIT_FAIL;
	}
	if (!status)
		print_metrics(m);
	free(m->vm);
	return status;
}

const struct cmd cmd_metrics = {
	.name = "metrics",
	.args = "ID...|--all",
	.summary = "Print what VMs use and do, for Prometheus",
	.options = metrics_options,
	.notes =
		"The text exposition format of Prometheus, version 0.0.4, on standard output: for\n"
		"a node exporter's textfile collector, or a script behind a web server.\n",
	.run = run_metrics,
	.cfg_size = sizeof(struct metrics),
};
