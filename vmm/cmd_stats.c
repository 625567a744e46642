/* SPDX-License-Identifier: Apache-2.0
 *
 * What VMs use and do: stats for people, metrics for Prometheus.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/json.h"
#include "vmm/util.h"
#include "vmm/vm_stats.h"

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

	if (!vm_stats_read(&s, id, &e)) { /* else it is gone, or does not answer: uvm ps tells */
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

		if (vm_stats_read(&s, argv[i], e))
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

	for (unsigned int i = 0; vm_stats_has_part(s, key, i); i++)
		all += vm_stats_part(s, key, i);
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
	for (const struct vm_figure *f = vm_figures; f->name; f++) {
		uint64_t v = vm_stats_figure(f, p);

		if (v == VM_STATS_UNKNOWN)
			json_put_string(w, f->name, NULL);
		else
			json_put_uint(w, f->name, v);
	}
	json_put_close(w);
}

static void put_balloon(struct json_writer *w, const struct vm_stats *s)
{
	if (!vm_stats_has(s, vm_balloon[0].key)) {
		json_put_string(w, "balloon", NULL);
		return;
	}
	json_put_open(w, "balloon", '{');
	for (size_t i = 0; vm_balloon[i].name; i++)
		if (vm_stats_has(s, vm_balloon[i].key))
			json_put_uint(w, vm_balloon[i].name, vm_stats_value(s->stats, vm_balloon[i].key));
		else
			json_put_string(w, vm_balloon[i].name, NULL);
	json_put_close(w);
}

/* Of the container, or else of the guest: memory and processes. */
static void print_inside(const struct vm_stats *s)
{
	const struct agent_properties *p = s->has_container ? &s->container : &s->guest;

	if (!s->has_guest || p->memory == VM_STATS_UNKNOWN)
		printf(" %9s", "-");
	else
		printf(" %8.1fM", (double)p->memory / 0x1p20);
	if (!s->has_guest || p->pids == VM_STATS_UNKNOWN)
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
		{"memory_bytes", vm_stats_value(s->status, "memory")},
		{"threads", s->threads},
		{"exits", sum(s, "exits")},
		{"disk_read_bytes", sum(s, "read_bytes")},
		{"disk_written_bytes", sum(s, "written_bytes")},
		{"disk_discarded_bytes", sum(s, "discarded_bytes")},
		{"disk_zeroed_bytes", sum(s, "zeroed_bytes")},
		{"net_received_bytes", sum(s, "rx_bytes")},
		{"net_sent_bytes", sum(s, "tx_bytes")},
		{"vsock_received_bytes", vm_stats_value(s->stats, "vsock_received_bytes")},
		{"vsock_sent_bytes", vm_stats_value(s->stats, "vsock_sent_bytes")},
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
	.examples = "uvm stats\n"
		    "uvm stats --json web\n",
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
	for (const struct vm_figure *f = vm_figures; f->name; f++) {
		size_t len = strlen(f->name);
		bool us = !strcmp(f->name + len - 3, "_us"), any = false;
		const char *what = container ? "container" : "guest";

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
			uint64_t v = vm_stats_figure(f, container ? &s->container : &s->guest);

			if (!(container ? s->has_container : s->has_guest) || v == VM_STATS_UNKNOWN)
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
	for (size_t i = 0; vm_balloon[i].name; i++) {
		const char *total = *vm_balloon[i].type == 'c' ? "_total" : "";
		bool any = false;

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++) {
			if (!vm_stats_has(s, vm_balloon[i].key))
				continue;
			if (!any)
				printf("# HELP uvm_balloon_%s%s %s.\n# TYPE uvm_balloon_%s%s %s\n",
				       vm_balloon[i].name, total, vm_balloon[i].help, vm_balloon[i].name,
				       total, vm_balloon[i].type);
			any = true;
			printf("uvm_balloon_%s%s{id=\"%s\"} %" PRIu64 "\n", vm_balloon[i].name, total,
			       s->id, vm_stats_value(s->stats, vm_balloon[i].key));
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
				     : !strncmp(key, "vsock", 5) ? vm_stats_value(s->stats, key)
								 : vm_stats_value(s->status, key);

			printf("uvm_%s{id=\"%s\"} %.*f\n", vm_metrics[i].name, s->id,
			       vm_metrics[i].scale < 1 ? 3 : 0, (double)v * vm_metrics[i].scale);
		}
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(part_metrics); i++) {
		bool any = false;

		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms && !any; s++)
			any = vm_stats_has_part(s, part_metrics[i].key, 0);
		if (!any)
			continue;
		metric(part_metrics[i].name, "counter", part_metrics[i].help);
		for (const struct vm_stats *s = m->vm; s < m->vm + m->vms; s++)
			for (unsigned int n = 0; vm_stats_has_part(s, part_metrics[i].key, n); n++)
				printf("uvm_%s{id=\"%s\",%s=\"%u\"} %" PRIu64 "\n",
				       part_metrics[i].name, s->id, part_metrics[i].label, n,
				       vm_stats_part(s, part_metrics[i].key, n));
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
	.examples = "uvm metrics --all\n"
		    "uvm metrics web db\n",
	.run = run_metrics,
	.cfg_size = sizeof(struct metrics),
};
