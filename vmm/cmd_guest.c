/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent tells of a container or guest, and what it changes: top, update.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/container.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/record.h"
#include "vmm/util.h"

/* --- top --- */

struct top_config {
	bool json, vm;
	struct agent_process process[AGENT_PROCESSES_MAX];
};

static const struct opt top_options[] = {
	{"json", 0, NULL, "print a JSON array", opt_set_flag, offsetof(struct top_config, json)},
	{"vm", 0, NULL, "all of the VM's, and not only those of its container", opt_set_flag,
	 offsetof(struct top_config, vm)},
	{0},
};

/* A process' number as the container has it; 0 for one that is outside. */
static uint32_t inside(const struct agent_process *list, size_t n, uint32_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].pid == pid)
			return list[i].pid_inside;
	return 0;
}

/* What comes of the guest may be anything: a letter, text without control characters. */
static void clean(struct agent_process *p)
{
	if (p->state < 'A' || p->state > 'z')
		p->state = '?';
	p->command[sizeof(p->command) - 1] = 0;
	text_plain(p->command);
}

static void print_process(struct json_writer *w, const struct agent_process *p, uint32_t parent)
{
	char state[2] = {(char)p->state, 0};

	json_put_open(w, NULL, '{');
	json_put_uint(w, "pid", p->pid_inside);
	json_put_uint(w, "parent", parent);
	json_put_uint(w, "guest_pid", p->pid);
	json_put_uint(w, "uid", p->uid);
	json_put_string(w, "state", state);
	json_put_uint(w, "threads", p->threads);
	json_put_uint(w, "resident_bytes", p->resident);
	json_put_uint(w, "cpu_us", p->cpu_us);
	json_put_uint(w, "start_ns", p->start_ns);
	json_put_string(w, "command", p->command);
	json_put_close(w);
}

static void print_processes(struct top_config *c, size_t n)
{
	struct json_writer w = {.out = stdout};

	if (c->json)
		json_put_open(&w, NULL, '[');
	else
		printf("%-6s %8s %8s %1s %7s %9s %10s  %s\n", "UID", "PID", "PPID", "S", "THREADS",
		       "RSS", "TIME", "CMD");
	for (size_t i = 0; i < n; i++) {
		struct agent_process *p = &c->process[i];
		uint32_t parent = inside(c->process, n, p->parent);

		clean(p);
		if (c->json)
			print_process(&w, p, parent);
		else
			printf("%-6" PRIu32 " %8" PRIu32 " %8" PRIu32 " %c %7" PRIu32
			       " %8.1fM %9.2fs  %s\n",
			       p->uid, p->pid_inside, parent, (char)p->state, p->threads,
			       (double)p->resident / 0x1p20, (double)p->cpu_us / 1e6, p->command);
	}
	if (c->json) {
		json_put_close(&w);
		putchar('\n');
	}
}

static int top(struct top_config *c, struct rundir *vm, const char *container, struct err *e)
{
	struct agent_list l = {.type = AGENT_PROCESS_LIST,
			       .unit = sizeof(c->process[0]),
			       .data = c->process,
			       .size = sizeof(c->process)};
	int r = agent_fetch(client_dial_agent, vm, AGENT_PROCESSES, container, &l, agent_deadline(), e);

	if (!r)
		print_processes(c, l.count);
	return r;
}

int cmd_print_top(struct rundir *vm, const char *container, struct err *e)
{
	struct top_config *c = calloc(1, sizeof(*c));
	int r = c ? top(c, vm, container, e) : err_set(e, ENOMEM, "out of memory");

	free(c);
	return r;
}

static int run_top(void *cfg, int argc, char **argv, struct err *e)
{
	struct top_config *c = cfg;
	struct rundir vm;
	int r;

	if (argc != 1)
		return cmd_usage(&cmd_top, e);
	if (rundir_open(&vm, argv[0], e))
		return EXIT_FAIL;
	r = top(c, &vm, !c->vm && record_is_container(&vm) ? RECORD_CONTAINER : "", e);
	rundir_close(&vm);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_top = {
	.name = "top",
	.args = "ID",
	.summary = "List the processes of a container, or of a VM",
	.options = top_options,
	.notes = "PID and PPID are as the container sees them; PPID is 0 for one whose parent is outside.\n"
		 "At most 512 are listed.\n",
	.examples = "uvm top web\n",
	.run = run_top,
	.cfg_size = sizeof(struct top_config),
};

/* --- update --- */

#define UPDATES 8

struct update_config {
	struct container_value value[UPDATES];
	char text[UPDATES][64];
	size_t count;
	char balloon[40]; /* the control request for it, if any */
	uint64_t balloon_bytes;
	bool json;
};

/* A file of the cgroup gets a value. What the kernel thinks of it, the agent tells. */
static int add(struct update_config *c, const char *file, const char *text, struct err *e)
{
	size_t i = 0;

	while (i < c->count && strcmp(c->value[i].name, file))
		i++;
	if (snprintf(c->text[i], sizeof(c->text[i]), "%s", text) >= (int)sizeof(c->text[i]))
		return err_set(e, EINVAL, "'%s' is too long", text);
	c->value[i] = (struct container_value){file, c->text[i]};
	c->count = MAX(c->count, i + 1);
	return 0;
}

static bool is_none(const char *value)
{
	return !strcmp(value, "-1") || !strcmp(value, "max");
}

static int set_bytes(struct update_config *c, const char *file, const char *value, struct err *e)
{
	char text[24] = "max";
	uint64_t n;

	if (!is_none(value)) {
		if (opt_set_size(&n, value, e))
			return -EINVAL;
		snprintf(text, sizeof(text), "%" PRIu64, n);
	}
	return add(c, file, text, e);
}

static int set_memory(void *to, const char *value, struct err *e)
{
	return set_bytes(to, "memory.max", value, e);
}

static int set_reservation(void *to, const char *value, struct err *e)
{
	return set_bytes(to, "memory.low", value, e);
}

static int set_number(struct update_config *c, const char *file, const char *value, uint32_t min,
		      uint32_t max, struct err *e)
{
	char text[16];
	uint32_t n;

	if (opt_set_u32(&n, value, e))
		return -EINVAL;
	if (n < min || n > max)
		return err_set(e, EINVAL, "'%s' is outside %" PRIu32 " to %" PRIu32, value, min,
			       max);
	snprintf(text, sizeof(text), "%" PRIu32, n);
	return add(c, file, text, e);
}

static int set_pids(void *to, const char *value, struct err *e)
{
	return is_none(value) ? add(to, "pids.max", "max", e)
			      : set_number(to, "pids.max", value, 1, INT_MAX, e);
}

static int set_weight(void *to, const char *value, struct err *e)
{
	return set_number(to, "cpu.weight", value, 1, 10000, e);
}

/* Time of CPUs in each 100 ms, in microseconds. */
static int set_cpus(void *to, const char *value, struct err *e)
{
	char text[32] = "max 100000", *end;
	double n;

	if (!is_none(value)) {
		n = strtod(value, &end);
		if (value[strspn(value, "0123456789.")] || *end || end == value || n < 0.01 ||
		    n > 1024)
			return err_set(e, EINVAL, "'%s' is not a number from 0.01 to 1024", value);
		snprintf(text, sizeof(text), "%.0f 100000", n * 100000);
	}
	return add(to, "cpu.max", text, e);
}

static int set_cpuset(void *to, const char *value, struct err *e)
{
	return !*value || value[strspn(value, "0123456789,-")]
		       ? err_set(e, EINVAL, "'%s' is not a list of CPUs like 0-2,4", value)
		       : add(to, "cpuset.cpus", value, e);
}

static int set_balloon(void *to, const char *value, struct err *e)
{
	struct update_config *c = to;
	uint64_t bytes;
	int r = opt_set_size(&bytes, value, e);

	c->balloon_bytes = r ? 0 : bytes;
	snprintf(c->balloon, sizeof(c->balloon), "balloon %" PRIu64, c->balloon_bytes);
	return r;
}

static const struct opt update_options[] = {
	{"memory", 'm', "SIZE", "the most memory it may use; -1: no limit", set_memory, 0},
	{"memory-reservation", 0, "SIZE", "memory that others do not take from it", set_reservation,
	 0},
	{"cpus", 0, "N", "how many CPUs' time it may use, like 1.5; -1: no limit", set_cpus, 0},
	{"cpu-weight", 0, "N", "its share where CPUs are short, 1 to 10000 (else 100)", set_weight, 0},
	{"cpuset-cpus", 0, "LIST", "the CPUs of the VM that it may run on", set_cpuset, 0},
	{"pids-limit", 0, "N", "the most processes it may have; -1: no limit", set_pids, 0},
	{"balloon", 0, "SIZE", "memory that the VM is to give back to the host; 0: none", set_balloon,
	 0},
	{"json", 0, NULL, "print a JSON array of what was set", opt_set_flag,
	 offsetof(struct update_config, json)},
	{0},
};

static int update_limits(const struct update_config *c, struct rundir *vm, struct err *e)
{
	if (!record_is_container(vm))
		return err_set(e, EINVAL, "VM '%s' is not a container's: all but --balloon is for what 'uvm run' has started", vm->id);
	return container_update(client_dial_agent, vm, RECORD_CONTAINER, c->value, c->count, e);
}

static int update_one(const struct update_config *c, const char *id, struct err *e)
{
	char answer[CONTROL_ANSWER];
	struct rundir vm;
	int fd, r = rundir_open(&vm, id, e);

	if (r)
		return r;
	if (c->count)
		r = update_limits(c, &vm, e);
	if (!r && *c->balloon) {
		fd = r = client_control(&vm, e);
		if (fd >= 0) {
			r = client_request(fd, c->balloon, answer, sizeof(answer), e);
			close(fd);
		}
	}
	rundir_close(&vm);
	return r;
}

static void print_update(const struct update_config *c, struct json_writer *w, const char *id)
{
	if (!c->json) {
		printf("%s\n", id);
		return;
	}
	json_put_open(w, NULL, '{');
	json_put_string(w, "id", id);
	json_put_open(w, "limits", '{');
	for (size_t i = 0; i < c->count; i++)
		json_put_string(w, c->value[i].name, c->value[i].value);
	json_put_close(w);
	if (*c->balloon)
		json_put_uint(w, "balloon_bytes", c->balloon_bytes);
	json_put_close(w);
}

static int run_update(void *cfg, int argc, char **argv, struct err *e)
{
	struct update_config *c = cfg;
	struct json_writer w = {.out = stdout};
	int r = 0;

	if (!argc || (!c->count && !*c->balloon))
		return cmd_usage(&cmd_update, e);
	if (c->json)
		json_put_open(&w, NULL, '[');
	for (int i = 0; i < argc && !r; i++) {
		r = update_one(c, argv[i], e);
		if (!r)
			print_update(c, &w, argv[i]);
	}
	if (c->json) {
		json_put_close(&w);
		putchar('\n');
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_update = {
	.name = "update",
	.args = "ID...",
	.summary = "Change the limits of containers, and the memory that a VM keeps",
	.options = update_options,
	.notes = "Limits hold within the container's VM, whose own memory and CPUs stay as they are. The ids\n"
		 "are printed as they are done; with --json an object for each, with the files of the cgroup\n"
		 "that were set.\n\n"
		 "--balloon is for any VM. Its guest hands over so much of its memory as it can spare, in its\n"
		 "own time ('uvm stats --json' tells how much it is), and the host has it until the size is\n"
		 "set to less, or the guest would have to kill a process.\n",
	.examples = "uvm update --memory 64M --pids-limit 100 job\n"
		    "uvm update --balloon 100M web\n",
	.run = run_update,
	.cfg_size = sizeof(struct update_config),
};
