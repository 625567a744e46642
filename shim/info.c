/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that tell or change figures: ps, events, update, features.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/commands.h"
#include "shim/config.h"
#include "shim/hooks.h"
#include "shim/options.h"
#include "shim/settings.h"
#include "shim/state.h"
#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/util.h"

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

#define AT(member) offsetof(struct shim, member)

/* --- ps --- */

static const struct opt ps_options[] = {
	{"format", 'f', "table|json", "those of the guest, or the host's numbers (default table)", opt_set_str,
	 AT(format)},
	{0},
};

/* The host's processes of the container: those in its cgroup, or the VM's alone. They are what callers
 * look up among the host's; the guest's have numbers of their own.
 */
static FILE *open_pids(const struct oci_state *s)
{
	char path[PATH_MAX];

	if (!s->cgroup ||
	    snprintf(path, sizeof(path), "%s/cgroup.procs", s->cgroup) >= (int)sizeof(path))
		return NULL;
	return fopen(path, "re");
}

/* For those who look the processes up on the host. */
static void print_pids(const struct oci_state *s)
{
	FILE *in = open_pids(s);
	struct json_writer w = {.out = stdout};
	bool any = false;
	int pid;

	json_put_open(&w, NULL, '[');
	while (in && fscanf(in, "%d", &pid) == 1) {
		any = true;
		json_put_int(&w, NULL, pid);
	}
	if (!any && s->pid)
		json_put_int(&w, NULL, s->pid);
	json_put_close(&w);
	putchar('\n');
	if (in)
		fclose(in);
}

static int run_ps(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	bool json = c->format && !strcmp(c->format, "json");
	struct oci_state s;
	int r = 0;

	if (argc < 1)
		return cmd_usage(&shim_ps, e);
	if (c->format && !json && strcmp(c->format, "table"))
		return err_set(e, EINVAL, "--format: '%s' is neither 'table' nor 'json'", c->format),
		       EXIT_FAIL;
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	if (json)
		print_pids(&s);
	else if (s.status == OCI_STOPPED)
		r = err_set(e, ESRCH, "container not running: '%s' is %s", argv[0], oci_status_name(s.status));
	else /* for people: as the container sees them */
		r = cmd_print_top(oci_state_guest(&s), oci_state_name(&s), e);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_ps = {
	.name = "ps",
	.args = "ID",
	.summary = "OCI runtime: list the processes of a container",
	.options = ps_options,
	.examples = "uvm ps --format json job\n",
	.run = run_ps,
	.cfg_size = sizeof(struct shim),
};

/* --- events --- */

static const struct opt events_options[] = {
	{"stats", 0, NULL, "print figures once: all that there is", opt_set_flag, AT(stats)},
	{0},
};

static void put_known(struct json_writer *w, const char *key, uint64_t n)
{
	if (n != UINT64_MAX)
		json_put_uint(w, key, n);
}

/* As runc has them: times in nanoseconds. */
static void print_stats(const char *id, const struct agent_properties *p)
{
	struct json_writer w = {.out = stdout};

	json_put_open(&w, NULL, '{');
	json_put_string(&w, "type", "stats");
	json_put_string(&w, "id", id);
	json_put_open(&w, "data", '{');
	json_put_open(&w, "cpu", '{');
	json_put_open(&w, "usage", '{');
	json_put_uint(&w, "total", p->cpu_us * 1000);
	json_put_uint(&w, "kernel", p->system_us * 1000);
	json_put_uint(&w, "user", p->user_us * 1000);
	json_put_close(&w);
	json_put_open(&w, "throttling", '{');
	put_known(&w, "periods", p->periods);
	put_known(&w, "throttledPeriods", p->throttled);
	put_known(&w, "throttledTime", p->throttled_us == UINT64_MAX ? UINT64_MAX
								     : p->throttled_us * 1000);
	json_put_close(&w);
	json_put_close(&w);
	json_put_open(&w, "memory", '{');
	put_known(&w, "cache", p->file);
	json_put_open(&w, "usage", '{');
	put_known(&w, "limit", p->memory_max);
	put_known(&w, "usage", p->memory);
	put_known(&w, "max", p->memory_peak);
	put_known(&w, "failcnt", p->oom);
	json_put_close(&w);
	json_put_close(&w);
	json_put_open(&w, "pids", '{');
	put_known(&w, "current", p->pids);
	put_known(&w, "limit", p->pids_max);
	json_put_close(&w);
	json_put_close(&w);
	json_put_close(&w);
	putchar('\n');
}

static int run_events(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	struct agent_properties p;
	struct oci_state s;
	int r;

	if (argc != 1 || !c->stats)
		return cmd_usage(&shim_events, e);
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	if (s.status == OCI_STOPPED)
		r = err_set(e, ESRCH, "container with id %s is not running", argv[0]);
	else
		r = agent_stats(client_dial_agent, oci_state_guest(&s), oci_state_name(&s),
				agent_deadline(), &p, e);
	if (!r)
		print_stats(argv[0], &p);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_events = {
	.name = "events",
	.args = "ID",
	.summary = "OCI runtime: what a container has used (with --stats)",
	.options = events_options,
	.examples = "uvm events --stats job\n",
	.run = run_events,
	.cfg_size = sizeof(struct shim),
};

/* --- update --- */

static const struct opt update_options[] = {
	{"resources", 'r', "FILE|-", "the \"resources\" of a config.json", opt_set_str,
	 AT(resources)},
	{0},
};

/* The VM's size stays. */
static int check_size(const struct shim *c, const struct oci_state *s,
		      const struct oci_resources *r, struct err *e)
{
	struct err why;

	if (r->memory > s->memory - MIN(s->memory, OCI_OVERHEAD))
		return err_set(
			e, EINVAL,
			"resources: memory.limit is more than this container's VM can give, "
			"which has %llu MiB and keeps %llu of them; its size cannot be changed: make it anew with "
			"the annotation org.uvm.memory",
			(unsigned long long)s->memory >> 20, OCI_OVERHEAD >> 20);
	if (r->cpu_count > s->cpus) {
		err_set(&why, 0, "resources: cpu.quota is more than the %u CPUs of this container's VM",
			(unsigned int)s->cpus);
		shim_warn(c, &why);
	}
	return 0;
}

static int update(const struct shim *c, struct oci_state *s, const struct oci_resources *r,
		  struct err *e)
{
	int error;

	if (s->status == OCI_STOPPED)
		return err_set(e, ESRCH, "container not running: '%s' is %s", s->vm.id, oci_status_name(s->status));
	error = check_size(c, s, r, e);
	if (!error && s->sandbox && (r->cpus || r->mems))
		error = err_set(e, EINVAL, "resources: cpu.cpus and mems are the whole pod's, whose VM is "
					   "the sandbox's");
	if (!error && !s->cgroup && (r->cpus || r->mems))
		error = err_set(e, EINVAL,
				"resources: cpu.cpus and mems need a linux.cgroupsPath");
	if (!error && s->cgroup)
		error = oci_cgroup_set(s->cgroup, r, e);
	if (error || !r->values)
		return error;
	return container_update(client_dial_agent, oci_state_guest(s), oci_state_name(s), r->value,
				r->values, e);
}

static int run_update(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	struct oci_resources *res = calloc(1, sizeof(*res));
	struct json_doc doc = {0};
	struct oci_state s;
	char *text = NULL;
	size_t len;
	int r;

	if (argc != 1 || !c->resources || !res) {
		free(res);
		return cmd_usage(&shim_update, e);
	}
	r = shim_read_file(c->resources, &text, &len, e);
	if (!r) {
		r = json_parse(&doc, text, len, "resources", e);
		free(text);
	}
	if (!r)
		r = oci_resources_parse(res, doc.root, e);
	if (!r)
		r = oci_state_open(&s, argv[0], e);
	if (!r) {
		r = update(c, &s, res, e);
		oci_state_close(&s);
	}
	json_free(&doc);
	free(res);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_update = {
	.name = "update",
	.args = "ID",
	.summary = "OCI runtime: change a container's limits",
	.options = update_options,
	.examples = "uvm update --resources limits.json job\n",
	.run = run_update,
	.cfg_size = sizeof(struct shim),
};

/* --- features --- */

static void put_list(struct json_writer *w, const char *key, const char *const *list)
{
	json_put_open(w, key, '[');
	for (; *list; list++)
		json_put_string(w, NULL, *list);
	json_put_close(w);
}

static int run_features(void *cfg, int argc, char **argv, struct err *e)
{
	static const char *const namespaces[] = {"cgroup", "ipc",  "mount", "network", "pid",
						 "time",   "user", "uts",   NULL};
	struct json_writer w = {.out = stdout};

	(void)cfg;
	(void)argv;
	if (argc)
		return cmd_usage(&shim_features, e);
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "ociVersionMin", "1.0.0");
	json_put_string(&w, "ociVersionMax", OCI_VERSION);
	json_put_open(&w, "hooks", '[');
	for (enum oci_hook k = 0; k < OCI_HOOKS; k++)
		json_put_string(&w, NULL, oci_hook_name(k));
	json_put_close(&w);
	json_put_open(&w, "mountOptions", '[');
	for (size_t i = 0; mount_options_name(i); i++)
		json_put_string(&w, NULL, mount_options_name(i));
	json_put_close(&w);
	json_put_open(&w, "linux", '{');
	put_list(&w, "namespaces", namespaces);
	json_put_open(&w, "cgroup", '{');
	json_put_bool(&w, "v1", false);
	json_put_bool(&w, "v2", true);
	json_put_bool(&w, "systemd", false);
	json_put_close(&w);
	json_put_open(&w, "seccomp", '{');
	json_put_bool(&w, "enabled", true);
	json_put_close(&w);
	json_put_open(&w, "mountExtensions", '{');
	json_put_open(&w, "idmap", '{');
	json_put_bool(&w, "enabled", false);
	json_put_close(&w);
	json_put_close(&w);
	json_put_close(&w);
	json_put_open(&w, "annotations", '{');
	json_put_string(&w, "org.uvm.version", UVM_VERSION);
	json_put_close(&w);
	json_put_close(&w);
	putchar('\n');
	return EXIT_OK;
}

const struct cmd shim_features = {
	.name = "features",
	.args = "",
	.summary = "OCI runtime: print what it can do",
	.examples = "uvm features\n",
	.run = run_features,
	.cfg_size = sizeof(struct shim),
};
