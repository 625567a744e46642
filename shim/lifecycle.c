/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands about a container that has been made: start, state, kill, delete, pause, resume.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/commands.h"
#include "shim/network.h"
#include "shim/hooks.h"
#include "shim/pod.h"
#include "shim/state.h"
#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/record.h"
#include "vmm/util.h"

#define AT(member) offsetof(struct shim, member)

static struct agent_name name_of(const struct oci_state *s)
{
	struct agent_name name = {{0}};

	strncpy(name.name, oci_state_name(s), AGENT_NAME_MAX);
	return name;
}

static int order(struct oci_state *s, enum agent_type type, struct err *e)
{
	const struct agent_name name = name_of(s);

	return agent_order(client_dial_agent, oci_state_guest(s), type, &name, sizeof(name), e);
}

/* --- start --- */

/* What fails here is too late to matter to the container: by the specification it is a warning. */
static void run_hooks(const struct shim *c, struct oci_state *s, enum oci_hook kind,
		      enum oci_status status)
{
	char *text = NULL;
	struct err e;

	s->status = status;
	if (status == OCI_STOPPED)
		s->pid = 0;
	if (oci_hooks_any(s->hooks, kind) && (text = oci_state_text(s)) &&
	    oci_hooks_run(s->hooks, kind, text, s->bundle, &e))
		shim_warn(c, &e);
	free(text);
}

/* A guest has the interfaces that were there when it was made. Some callers add theirs to a namespace of our
 * making when it is there: these would lead nowhere.
 */
static int check_network(const struct oci_state *s, struct err *e)
{
	struct oci_network *n = s->network || s->sandbox ? NULL : calloc(1, sizeof(*n));
	char path[64];
	struct err why;
	int r = 0;

	if (!n)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)s->pid);
	if (!oci_network_open(n, path, &why)) { /* else they are the guest's */
		if (n->links)
			r = err_set(e, EOPNOTSUPP,
				    "network interface %s was added after create, which is not supported: add it "
				    "before, to "
				    "a namespace that linux.namespaces names",
				    n->link[0].name);
		oci_network_close(n);
	}
	free(n);
	return r;
}

static int start(const struct shim *c, struct oci_state *s, struct err *e)
{
	const struct agent_name name = name_of(s);
	struct err why;
	int r;

	if (s->status == OCI_STOPPED)
		return err_set(e, EINVAL,
			       "cannot start a container that has stopped: 'uvm delete %s', and create it anew",
			       s->vm.id);
	if (s->status != OCI_CREATED)
		return err_set(e, EINVAL, "cannot start an already running container: '%s' is %s", s->vm.id,
			       oci_status_name(s->status));
	r = check_network(s, e);
	if (r)
		return r;
	r = agent_order_until(client_dial_agent, oci_state_guest(s), AGENT_START, &name, sizeof(name),
			      agent_deadline() + oci_hooks_guest_ms(s->hooks) * UINT64_C(1000000), &why);
	if (r)
		return err_set(e, -r, "unable to start container process: %s", why.text);
	/* The VM's process notes it, too, but a moment later than somebody might ask. */
	record_started(&s->vm);
	run_hooks(c, s, OCI_POSTSTART, OCI_RUNNING);
	return 0;
}

static int run_start(void *cfg, int argc, char **argv, struct err *e)
{
	struct oci_state s;
	int r;

	if (argc != 1)
		return cmd_usage(&shim_start, e);
	if (oci_state_open(&s, argv[0], e))
		return EXIT_FAIL;
	r = start(cfg, &s, e);
	oci_state_close(&s);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_start = {
	.name = "start",
	.args = "ID",
	.summary = "OCI runtime: start the process of a container that was made",
	.examples = "uvm start job\n",
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
	.examples = "uvm state job\n",
	.run = run_state,
	.cfg_size = sizeof(struct shim),
};

/* --- kill --- */

static const struct opt kill_options[] = {
	{"all", 'a', NULL, "every process in it", opt_set_flag, AT(all)},
	{0},
};

/* Waits for its end. Its status is its caller's. */
static bool await(int process)
{
	struct pollfd p = {.fd = process, .events = POLLIN};

	return poll(&p, 1, CLIENT_TIMEOUT_MS) > 0;
}

/* Returns 0 when it has ended; -ENOENT if there is none yet; or another -errno with the message set. */
static int kill_process(struct oci_state *s, struct err *e)
{
	int process = oci_state_process(&s->vm, NULL), r = 0;

	if (process < 0)
		return process == -ESRCH ? 0 : process;
	if (syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) && errno != ESRCH)
		r = err_sys(e, "cannot kill the process of container '%s'", s->vm.id);
	else if (!await(process))
		r = err_set(e, ETIMEDOUT, "the process of container '%s' was killed but has not ended", s->vm.id);
	close(process);
	return r;
}

static int not_running(const struct oci_state *s, struct err *e)
{
	return err_set(e, ESRCH, "container not running: '%s' is %s", s->vm.id, oci_status_name(s->status));
}

static int send_signal(struct oci_state *s, int signo, bool all, struct err *e)
{
	int r;

	if (s->status == OCI_STOPPED)
		return not_running(s, e);
	r = agent_kill(client_dial_agent, oci_state_guest(s), oci_state_name(s), signo,
		       all ? AGENT_KILL_ALL : AGENT_KILL_INIT, e);
	if (r == -ESRCH)
		return err_set(e, ESRCH, "container not running: the process of '%s' has ended", s->vm.id);
	/* What does not answer is killed as a whole; one in another's VM is, when that finds its client gone. */
	if (r && signo == SIGKILL)
		return kill_process(s, e);
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
	.examples = "uvm kill job TERM\n",
	.run = run_kill,
	.cfg_size = sizeof(struct shim),
};

/* --- delete --- */

static const struct opt delete_options[] = {
	{"force", 'f', NULL, "kill it first; one that is not there is well", opt_set_flag,
	 AT(force)},
	{0},
};

/* The process of one that has ended may still be about to go; or it has only said so. */
static int await_process(struct oci_state *s, struct err *e)
{
	int process = oci_state_process(&s->vm, NULL);
	bool ended = process < 0 || await(process);

	if (process >= 0)
		close(process);
	return ended ? 0 : kill_process(s, e);
}

/* A container that is being made has no process yet, for a moment, or one of "create"'s that has not yet
 * seen that it is for nothing.
 */
#define DELETE_TRIES   200u
#define DELETE_WAIT_US 10000u

static int kill_vm(struct oci_state *s, struct err *e)
{
	int r;

	for (unsigned int i = 0; (r = kill_process(s, e)) == -ENOENT && i < DELETE_TRIES; i++)
		usleep(DELETE_WAIT_US);
	return r == -ENOENT ? 0 : r; /* there was none: the directory tells */
}

/* s->vm is closed. */
static int forget(struct oci_state *s, struct err *e)
{
	char id[RUNDIR_ID_MAX + 1];
	bool running;
	int r;

	memcpy(id, s->vm.id, sizeof(id));
	for (unsigned int i = 0;; i++) {
		r = rundir_forget(&s->vm, e);
		if (r != -EBUSY || i == DELETE_TRIES)
			return r;
		usleep(DELETE_WAIT_US);
		r = rundir_open_any(&s->vm, id, &running, e);
		if (r)
			return r == -ENOENT ? 0 : r;
	}
}

/* Closes s. */
static int delete(const struct shim *c, struct oci_state *s, struct err *e)
{
	int r = 0;

	if (s->status != OCI_STOPPED && s->status != OCI_CREATED && !c->force)
		r = err_set(e, EBUSY, "cannot delete container %s that is not stopped: %s; --force kills it first",
			    s->vm.id, oci_status_name(s->status));
	else if (s->status == OCI_STOPPED)
		r = await_process(s, e);
	else
		r = kill_vm(s, e);
	if (r) {
		oci_state_close(s);
		return r;
	}
	if (s->sandbox)
		oci_pod_leave(s);
	r = forget(s, e);
	if (!r && s->cgroup)
		oci_cgroup_remove(s->cgroup);
	if (!r && s->network)
		oci_network_leave(s->network);
	if (!r)
		run_hooks(c, s, OCI_POSTSTOP, OCI_STOPPED);
	if (s->has_guest)
		rundir_close(&s->guest);
	json_free(&s->doc);
	return r;
}

static int run_delete(void *cfg, int argc, char **argv, struct err *e)
{
	struct shim *c = cfg;
	char cgroup[PATH_MAX];
	struct oci_state s;
	int r;

	if (argc != 1)
		return cmd_usage(&shim_delete, e);
	r = c->force ? oci_state_open_damaged(&s, argv[0], e) : oci_state_open(&s, argv[0], e);
	if (r == -ENOENT && c->force) {
		*e->text = 0;
		return EXIT_OK;
	}
	if (!r && *e->text) { /* of a file that cannot be read */
		shim_warn(c, e);
		*e->text = 0;
		if (s.pid && !oci_cgroup_of(s.pid, cgroup))
			s.cgroup = cgroup;
	}
	if (!r)
		r = delete(c, &s, e);
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd shim_delete = {
	.name = "delete",
	.args = "ID",
	.summary = "OCI runtime: remove what is left of a container",
	.options = delete_options,
	.examples = "uvm delete --force job\n",
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
		r = err_set(e, EINVAL, "container not %s: '%s' is %s", on ? "running" : "paused", argv[0],
			    oci_status_name(s.status));
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
	.examples = "uvm pause job\n",
	.run = run_pause,
	.cfg_size = sizeof(struct shim),
};

const struct cmd shim_resume = {
	.name = "resume",
	.args = "ID",
	.summary = "OCI runtime: let them go on",
	.examples = "uvm resume job\n",
	.run = run_resume,
	.cfg_size = sizeof(struct shim),
};
