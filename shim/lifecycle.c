/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands about a container that has been made: start, state, kill, delete, pause, resume.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/commands.h"
#include "shim/state.h"
#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/record.h"
#include "vmm/util.h"

#define AT(member) offsetof(struct shim, member)

static const struct agent_name container = {.name = RECORD_CONTAINER};

static int order(struct oci_state *s, enum agent_type type, struct err *e)
{
	return agent_order(client_dial_agent, &s->vm, type, &container, sizeof(container), e);
}

/* --- start --- */

static int start(struct oci_state *s, struct err *e)
{
	struct err why;
	int r;

	if (s->status == OCI_STOPPED)
		return err_set(e, EINVAL, "cannot start a container that has stopped");
	if (s->status != OCI_CREATED)
		return err_set(e, EINVAL, "cannot start an already running container");
	r = order(s, AGENT_START, &why);
	if (r)
		return err_set(e, -r, "unable to start container process: %s", why.text);
	/* The VM's process notes it, too, but a moment later than somebody might ask. */
	record_started(&s->vm);
	return 0;
}

static int run_start(void *cfg, int argc, char **argv, struct err *e)
{
	struct oci_state s;
	int r;

	(void)cfg;
	if (argc != 1)
		return cmd_usage(&shim_start, e);
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	r = start(&s, e);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_start = {
	.name = "start",
	.args = "ID",
	.summary = "OCI runtime: start the process of a container that was made",
	.run = run_start,
	.cfg_size = sizeof(struct shim),
};

/* --- state --- */

static int run_state(void *cfg, int argc, char **argv, struct err *e)
{
	struct oci_state s;

	(void)cfg;
	if (argc != 1)
		return cmd_usage(&shim_state, e);
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	oci_state_print(&s, stdout);
	oci_state_close(&s);
	return EXIT_OK;
}

const struct cmd shim_state = {
	.name = "state",
	.args = "ID",
	.summary = "OCI runtime: print a container's state",
	.run = run_state,
	.cfg_size = sizeof(struct shim),
};

/* --- kill --- */

static const struct opt kill_options[] = {
	{"all", 'a', NULL, "every process in it", opt_set_flag, AT(all)},
	{0},
};

static int send_signal(struct oci_state *s, int signo, bool all, struct err *e)
{
	int r;

	if (s->status == OCI_STOPPED)
		return err_set(e, ESRCH, "container not running");
	r = agent_kill(client_dial_agent, &s->vm, RECORD_CONTAINER, signo,
		       all ? AGENT_KILL_ALL : AGENT_KILL_INIT, e);
	if (r == -ESRCH)
		return err_set(e, ESRCH, "container not running");
	/* What does not answer is killed as a whole. */
	if (r && signo == SIGKILL)
		return cmd_kill_vm(&s->vm, e) == EXIT_OK ? 0 : -EIO;
	return r;
}

static int run_kill(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	struct oci_state s;
	int signo = SIGTERM, r;

	if (argc < 1 || argc > 2)
		return cmd_usage(&shim_kill, e);
	if (argc > 1 && cmd_set_signal(&signo, argv[1], e))
		return EXIT_FAIL;
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	r = send_signal(&s, signo, c->all, e);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_kill = {
	.name = "kill",
	.args = "ID [SIGNAL]",
	.summary = "OCI runtime: send a signal (default TERM) to a container's process",
	.options = kill_options,
	.run = run_kill,
	.cfg_size = sizeof(struct shim),
};

/* --- delete --- */

static const struct opt delete_options[] = {
	{"force", 'f', NULL, "kill it first; one that is not there is well", opt_set_flag,
	 AT(force)},
	{0},
};

/* The process of one that has ended may still be about to go. Its status is its caller's. */
static void await_process(const struct oci_state *s)
{
	struct err none;
	pid_t pid = rundir_pid(&s->vm, &none);
	struct pollfd p = {.events = POLLIN};

	if (pid < 0)
		return;
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p.fd < 0)
		return;
	poll(&p, 1, CLIENT_TIMEOUT_MS);
	close(p.fd);
}

/* Closes s. */
static int delete(struct oci_state *s, bool force, struct err *e)
{
	struct rundir vm = s->vm;
	char cgroup[PATH_MAX];
	int r = 0;

	snprintf(cgroup, sizeof(cgroup), "%s", s->cgroup ? s->cgroup : "");
	if (s->status != OCI_STOPPED && s->status != OCI_CREATED && !force)
		r = err_set(e, EBUSY, "cannot delete container %s that is not stopped: %s", vm.id,
			    oci_status_name(s->status));
	else if (s->status == OCI_STOPPED)
		await_process(s);
	else if (cmd_kill_vm(&vm, e) != EXIT_OK)
		r = -EIO;
	json_free(&s->doc);
	if (r) {
		rundir_close(&vm);
		return r;
	}
	r = rundir_forget(&vm, e);
	if (!r && *cgroup)
		oci_cgroup_remove(cgroup);
	return r;
}

static int run_delete(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	struct oci_state s;
	int r;

	if (argc != 1)
		return cmd_usage(&shim_delete, e);
	r = oci_state_open(&s, argv[0], e);
	if (r == -ENOENT && c->force) {
		*e->text = 0;
		return EXIT_OK;
	}
	if (!r)
		r = delete(&s, c->force, e);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_delete = {
	.name = "delete",
	.args = "ID",
	.summary = "OCI runtime: remove what is left of a container",
	.options = delete_options,
	.run = run_delete,
	.cfg_size = sizeof(struct shim),
};

/* --- pause and resume --- */

static int set_paused(int argc, char **argv, bool on, struct err *e)
{
	struct oci_state s;
	int r;

	if (argc != 1)
		return cmd_usage(on ? &shim_pause : &shim_resume, e);
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	if (s.status != (on ? OCI_RUNNING : OCI_PAUSED))
		r = err_set(e, EINVAL, on ? "container not running" : "container not paused");
	else
		r = order(&s, on ? AGENT_PAUSE : AGENT_RESUME, e);
	if (!r)
		r = oci_state_set_paused(&s, on, e);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int run_pause(void *cfg, int argc, char **argv, struct err *e)
{
	(void)cfg;
	return set_paused(argc, argv, true, e);
}

static int run_resume(void *cfg, int argc, char **argv, struct err *e)
{
	(void)cfg;
	return set_paused(argc, argv, false, e);
}

const struct cmd shim_pause = {
	.name = "pause",
	.args = "ID",
	.summary = "OCI runtime: stop all processes of a container",
	.run = run_pause,
	.cfg_size = sizeof(struct shim),
};

const struct cmd shim_resume = {
	.name = "resume",
	.args = "ID",
	.summary = "OCI runtime: let them go on",
	.run = run_resume,
	.cfg_size = sizeof(struct shim),
};
