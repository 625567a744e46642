/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/child.h"
#include "shim/graft.h"
#include "shim/settings.h"
#include "vmm/agent.h"
#include "vmm/client.h"
#include "vmm/confine.h"
#include "vmm/journal.h"
#include "vmm/log.h"
#include "vmm/record.h"
#include "vmm/run.h"
#include "vmm/template.h"
#include "vmm/util.h"

/* As a shell has it of what was killed: so ends a container whose VM is gone. */
#define STATUS_KILLED (128 + SIGKILL)

/* How long processes that were killed may take to be gone. */
#define DELETE_TRIES   100u
#define DELETE_WAIT_US 20000u

struct pod_member {
	struct oci_child child;
	struct rundir dir;
	struct oci_state sandbox; /* open */
	int pidfd;		  /* of its process */
	struct container_spec spec;
	struct confine confine;
	char tree[GRAFT_NAME + 1], root[sizeof(TEMPLATE_SHARE GRAFT_DIR) + GRAFT_NAME];
};

/* --- the sandbox --- */

static int open_sandbox(struct pod_member *m, const char *id, struct err *e)
{
	struct oci_state *s = &m->sandbox;
	struct err why;

	if (oci_state_open(s, id, &why))
		return err_set(e, ENOENT, "the pod's sandbox '%s': %s", id, why.text);
	m->pidfd = s->status == OCI_STOPPED || s->status == OCI_CREATING || s->sandbox
			   ? -ESRCH
			   : oci_state_process(&s->vm, NULL);
	if (m->pidfd >= 0)
		return 0;
	oci_state_close(s);
	return err_set(e, ESRCH, "the pod's sandbox '%s' is not running; start it, or another", id);
}

/* --- namespaces --- */

static const struct {
	const char *name;
	size_t path; /* in struct oci_config */
	int flag;    /* to be joined on the host, too */
} namespaces[] = {
	{"net", offsetof(struct oci_config, network), CLONE_NEWNET},
	{"ipc", offsetof(struct oci_config, ipc), CLONE_NEWIPC},
	{"uts", offsetof(struct oci_config, uts), CLONE_NEWUTS},
	{"pid", offsetof(struct oci_config, pid), 0},
	{"cgroup", offsetof(struct oci_config, cgroup_ns), 0},
};

static const char *path_of(const struct oci_config *c, size_t i)
{
	return *(const char *const *)((const char *)c + namespaces[i].path);
}

/* Those with a path must be the sandbox's: others are the host's, where the guest has nothing to do with. */
static int check_namespaces(const struct pod_member *m, const struct oci_config *c, struct err *e)
{
	char own[64];
	struct stat a, b;

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		const char *path = path_of(c, i);

		if (!path)
			continue;
		snprintf(own, sizeof(own), "/proc/%d/ns/%s", (int)m->sandbox.pid, namespaces[i].name);
		if (stat(path, &a))
			return err_sys(e, "config.json: linux.namespaces: %s", path);
		if (stat(own, &b) || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
			return err_set(e, EINVAL,
				       "config.json: linux.namespaces: %s is not the namespace of the pod's "
				       "sandbox '%s', in whose virtual machine the container is to be",
				       path, m->sandbox.vm.id);
	}
	return 0;
}

/* Of the process on the host: for those who look into it. */
static int enter(struct oci_child *child, struct err *e)
{
	const struct pod_member *m = CONTAINER_OF(child, struct pod_member, child);
	int join = 0, make = 0;

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		*(path_of(&child->create->config, i) ? &join : &make) |= namespaces[i].flag;
	if (join && setns(m->pidfd, join))
		return err_sys(e, "cannot join the namespaces of sandbox '%s'", m->sandbox.vm.id);
	return make && unshare(make) ? err_sys(e, "cannot make namespaces") : 0;
}

/* --- what is ordered of the agent --- */

static int check_memory(const struct pod_member *m, const struct oci_resources *r, struct err *e)
{
	uint64_t room = m->sandbox.memory - MIN(m->sandbox.memory, OCI_OVERHEAD);

	return r->memory <= room
		       ? 0
		       : err_set(e, EINVAL,
				 "config.json: linux.resources.memory.limit is more than the pod's VM can give, "
				 "which has %llu MiB and keeps %llu of them: the sandbox's annotation org.uvm.memory says "
				 "how many it gets",
				 (unsigned long long)m->sandbox.memory >> 20, OCI_OVERHEAD >> 20);
}

static int describe(struct pod_member *m, struct oci_config *c, struct err *e)
{
	struct container_spec *spec = &m->spec;
	struct oci_state s = m->child.state;
	int r;

	snprintf(m->root, sizeof(m->root), TEMPLATE_SHARE GRAFT_DIR "%s", m->tree);
	r = oci_config_set_share(c, m->root, e);
	*spec = c->spec;
	spec->name = m->dir.id;
	spec->pod = spec->pod_namespaces ? RECORD_CONTAINER : NULL;
	spec->tied = true;
	spec->root.device = m->root;
	spec->root.type = "virtiofs";
	spec->root.read_only = c->read_only;
	s.status = OCI_CREATED;
	s.pid = 1;
	spec->hook_state = spec->hook_count ? oci_state_text(&s) : NULL;
	return r || !spec->hook_count || spec->hook_state ? r : err_set(e, ENOMEM, "out of memory");
}

static int prepare(struct pod_member *m, struct err *e)
{
	struct oci_child *child = &m->child;
	struct oci_config *c = &child->create->config;
	int r = oci_child_open(child, e);

	if (!r)
		r = check_namespaces(m, c, e);
	if (!r)
		r = check_memory(m, &c->resources, e);
	if (!r)
		r = graft_name(m->tree, e);
	child->state.sandbox = m->sandbox.vm.id;
	child->state.tree = m->tree;
	child->state.memory = m->sandbox.memory;
	child->state.cpus = m->sandbox.cpus;
	if (!r)
		r = describe(m, c, e);
	return r ? r : record_create(&m->dir, child->create->bundle, c->process.request.argv, NULL,
				     false, e);
}

/* --- the process --- */

static void created(void *ctx)
{
	struct pod_member *m = ctx;
	struct err e;
	int r = oci_rootfs_enter(&m->child.rootfs, &e);

	if (!r)
		r = oci_state_made(&m->dir, &e);
	oci_state_close(&m->sandbox); /* the session has its connections */
	if (!r) /* what is left to do is to hear a hostile guest, as the VM's process does */
		r = confine(&m->confine, &(struct confine_needs){0}, &e);
	/* Where "create" is gone, nobody would know of the container; it ends with us. */
	if (oci_child_say(&m->child, r, &e) || r)
		_exit(RUN_FAILED);
}

static void started(void *ctx)
{
	struct pod_member *m = ctx;

	record_started(&m->dir);
	journal_event(&m->dir, "running");
}

static void out_of_memory(void *ctx, uint64_t kills)
{
	struct pod_member *m = ctx;

	journal_number(&m->dir, "oom", "kills", kills);
}

/* The tree is the guest's from then on. */
static int hand_over(struct pod_member *m, struct err *e)
{
	struct oci_rootfs *rootfs = &m->child.rootfs;
	int r = oci_rootfs_copy(rootfs, &m->child.create->config, e);

	if (!r)
		r = graft_add(&m->sandbox.vm, m->pidfd, m->tree, rootfs->copy, e);
	if (r)
		return r;
	close(rootfs->copy);
	close(m->pidfd);
	return 0;
}

/* Of a session that has failed, when the container was made. */
static int status_of(int failed, int status)
{
	if (failed == -ECONNRESET)
		return STATUS_KILLED;
	return status == EXEC_NOT_FOUND || status == EXEC_NOT_EXECUTABLE ? status : RUN_FAILED;
}

static void be_member(struct oci_child *child)
{
	struct pod_member *m = CONTAINER_OF(child, struct pod_member, child);
	struct exec_request *rq = &child->create->config.process.request;
	int fds[3], status = RUN_FAILED;
	struct err e = {{0}};
	int r = oci_child_settle(child, fds, enter, &e);

	oci_state_leave(&m->dir);
	if (!r)
		r = hand_over(m, &e);
	rq->create = &m->spec;
	rq->fds = fds;
	rq->created = created;
	rq->started = started;
	rq->out_of_memory = out_of_memory;
	rq->ctx = m;
	if (!r) {
		r = exec_run(rq, client_dial_agent, &m->sandbox.vm, &status, &e);
		if (r && child->said < 0)
			status = status_of(r, status);
		else if (r)
			r = oci_explain(status, rq, &e);
	}
	record_exited(&m->dir, status);
	journal_exit(&m->dir, status, r ? e.text : "the container has ended");
	if (child->said >= 0)
		oci_child_say(child, r, &e);
	else if (r)
		log_warn("%s", e.text);
	_exit(status);
}

/* --- "create" and "delete" --- */

int oci_pod_create(struct oci_create *c, pid_t *pid, struct err *e)
{
	struct pod_member *m = calloc(1, sizeof(*m)); /* goes with the process */
	int r;

	if (!m)
		return err_set(e, ENOMEM, "out of memory");
	m->child.create = c;
	m->child.dir = &m->dir;
	r = open_sandbox(m, c->config.sandbox, e);
	if (r)
		return r;
	r = rundir_create(&m->dir, c->id, e);
	if (r)
		return r == -EEXIST ? oci_exists(c->id, e) : r;
	r = prepare(m, e);
	if (!r)
		r = oci_state_save(&m->dir, &m->child.state, e);
	if (!r)
		r = oci_child_start(&m->child, be_member, pid, e);
	if (!r)
		return 0;
	oci_pod_leave(&m->child.state);
	oci_child_discard(&m->child, *pid);
	return r;
}

/* The agent's container: its process may have ended, or is about to, or was never made. */
static void forget_in_guest(struct oci_state *sandbox, const char *id)
{
	struct agent_name name = {{0}};
	struct err ignored;
	int r;

	memcpy(name.name, id, strlen(id));
	r = agent_kill(client_dial_agent, &sandbox->vm, id, SIGKILL, AGENT_KILL_ALL, &ignored);
	if (r == -ENOENT)
		return;
	for (unsigned int i = 0; i < DELETE_TRIES; i++) {
		r = agent_order(client_dial_agent, &sandbox->vm, AGENT_DELETE, &name, sizeof(name),
				&ignored);
		if (r != -EBUSY)
			return;
		usleep(DELETE_WAIT_US);
	}
}

void oci_pod_leave(const struct oci_state *s)
{
	struct pod_member m = {.pidfd = -1};
	struct err ignored;

	if (open_sandbox(&m, s->sandbox, &ignored))
		return;
	forget_in_guest(&m.sandbox, s->vm.id);
	if (*s->tree)
		graft_remove(&m.sandbox.vm, m.pidfd, s->tree);
	close(m.pidfd);
	oci_state_close(&m.sandbox);
}
