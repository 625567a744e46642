/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/commands.h"
#include "shim/state.h"
#include "vmm/log.h"
#include "vmm/util.h"

#define AT(member)  offsetof(struct shim, member)
#define OPTIONS_MAX 40u

const struct opt shim_options[] = {
	{"root", 0, "DIR", "where the containers' state is (default /run/uvm)", opt_set_str, AT(root)},
	{"log", 0, "FILE", "add messages to this file", opt_set_str, AT(log)},
	{"log-format", 0, "text|json", "the form of these (default text)", opt_set_str,
	 AT(log_format)},
	{"systemd-cgroup", 0, NULL, "cgroups have the paths that systemd gives them", opt_set_flag,
	 AT(systemd_cgroup)},
	{"cgroup-manager", 0, "NAME", "accepted: paths tell", opt_set_str, AT(cgroup_manager)},
	{"debug", 0, NULL, "accepted", opt_set_flag, AT(debug)},
	{0},
};

const struct cmd *const shim_commands[] = {
	&shim_create, &shim_start,  &shim_state,  &shim_kill,	&shim_delete, &shim_exec,
	&shim_ps,     &shim_pause,  &shim_resume, &shim_update, &shim_events, &shim_features,
};
const size_t shim_commands_count = ARRAY_SIZE(shim_commands);

static const struct cmd *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(shim_commands); i++)
		if (!strcmp(shim_commands[i]->name, name))
			return shim_commands[i];
	return NULL;
}

/* The global options are understood behind the command, too. */
static void merge(struct opt table[OPTIONS_MAX], const struct cmd *c)
{
	size_t n = 0;

	for (const struct opt *o = c->options; o && o->name; o++)
		table[n++] = *o;
	for (const struct opt *o = shim_options; o->name; o++)
		table[n++] = *o;
	table[n] = (struct opt){0};
}

/* Finds the command and parses all options. Returns the index of the first operand, or -EINVAL. argv
 * is permuted.
 */
static int parse(struct shim *s, int argc, char **argv, const struct cmd **c, struct err *e)
{
	struct opt table[OPTIONS_MAX];
	int at = opt_parse(shim_options, s, argc - 1, argv + 1, 1, e) + 1, first;

	if (at < 1)
		return -EINVAL;
	*c = at < argc ? find(argv[at]) : NULL;
	if (!*c)
		return at < argc ? err_set(e, EINVAL, "'%s' is no command of an OCI runtime; 'uvm help' lists them",
					   argv[at])
				 : err_set(e, EINVAL, "a command is missing; 'uvm help' lists them");
	merge(table, *c);
	first = opt_parse(table, s, argc - at - 1, argv + at + 1, (*c)->stop_at_operand, e);
	if (first < 0) {
		err_append(e, "; see 'uvm help %s'", (*c)->name);
		return first;
	}
	if (s->log_format && strcmp(s->log_format, "json") && strcmp(s->log_format, "text"))
		return err_set(e, EINVAL, "--log-format: '%s' is neither 'text' nor 'json'",
			       s->log_format);
	return at + 1 + first;
}

/* Where the runtime's containers are: for root always at the same place, whatever the environment. */
static int choose_root(const struct shim *s, struct err *e)
{
	const char *run = getenv("UVM_RUN");
	const char *root = s->root ? s->root : run && *run ? NULL : geteuid() ? NULL : "/run/uvm";

	if (root && setenv("UVM_RUN", root, 1))
		return err_set(e, ENOMEM, "out of memory");
	return 0;
}

/* --- which is meant --- */

static bool is_global(const char *arg)
{
	for (const struct opt *o = shim_options; o->name; o++) {
		size_t n = strlen(o->name);

		if (!strncmp(arg, "--", 2) && !strncmp(arg + 2, o->name, n) &&
		    (!arg[2 + n] || arg[2 + n] == '='))
			return true;
	}
	return false;
}

/* Whether the runtime has such a container; the environment stays as it is for uvm's own command. */
static bool is_container(const struct shim *s, const char *id)
{
	bool set = getenv("UVM_RUN"), there;
	struct err ignored;

	there = !choose_root(s, &ignored) && oci_state_exists(id);
	if (!set)
		unsetenv("UVM_RUN");
	return there;
}

/* Whether uvm has a command of the same name. */
static bool is_shared(const struct cmd *c)
{
	return c == &shim_exec || c == &shim_ps || c == &shim_kill || c == &shim_pause ||
	       c == &shim_resume || c == &shim_update || c == &shim_events;
}

/* One with nothing but what both have in common is uvm's own. */
static bool command_wanted(const struct shim *s, const struct cmd *c, int argc, char **argv)
{
	if (!is_shared(c) || s->root || s->log)
		return true;
	if (c == &shim_exec)
		return s->process || s->pid_file || s->console_socket || s->detach;
	if (c == &shim_update)
		return s->resources;
	if (c == &shim_events)
		return s->stats;
	return argc > 0 && (c == &shim_ps || is_container(s, argv[0]));
}

bool shim_wanted(int argc, char **argv)
{
	const struct cmd *c = argc < 2 ? NULL : find(argv[1]);
	struct shim s = {0};
	struct err ignored;
	char **copy;
	bool wanted;
	int first;

	if (argc >= 2 && is_global(argv[1]))
		return true;
	copy = c ? calloc((size_t)argc + 1, sizeof(*copy)) : NULL;
	if (!copy)
		return false;
	memcpy(copy, argv, (size_t)argc * sizeof(*copy));
	first = parse(&s, argc, copy, &c, &ignored);
	if (first < 0) /* a wrong command line is whose the name is alone */
		wanted = c && !is_shared(c);
	else
		wanted = command_wanted(&s, c, argc - first, copy + first);
	free(copy);
	return wanted;
}

static bool is_json(const struct shim *s)
{
	return s->log_format && !strcmp(s->log_format, "json");
}

void shim_warn(const struct shim *s, const struct err *e)
{
	log_warn("%s", e->text);
	if (s->log)
		log_add(s->log, is_json(s), LOG_WARN, e->text);
}

int shim_run(int argc, char **argv, struct err *e)
{
	struct shim s = {0};
	const struct cmd *c = NULL;
	int first = parse(&s, argc, argv, &c, e), status = EXIT_FAIL;

	if (first >= 0 && !choose_root(&s, e)) {
		argv[argc] = NULL;
		status = c->run(&s, argc - first, argv + first, e);
	}
	if (*e->text && s.log)
		log_add(s.log, is_json(&s), LOG_ERROR, e->text);
	return status;
}
