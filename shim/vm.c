/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

/* The template's messages are not for the container's standard error, which ours is. */
static int find_template(struct vm *vm, struct err *e)
{
	int log = oci_child_log(vm->child.dir), saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), r;

	if (log >= 0 && saved >= 0)
		dup2(log, STDERR_FILENO);
	r = template_open(&vm->template, &vm->snapshot, e);
	if (saved >= 0) {
		dup2(saved, STDERR_FILENO);
		close(saved);
	}
	if (log >= 0)
		close(log);
	return r;
}

/* Of one that somebody else has made. What it has no device for is told when it is filled. */
static int check_template(const struct vm *vm, struct err *e)
{
	const char *path = vm->settings.template;

	if (!vm->snapshot.m.agent)
		return err_set(e, EINVAL,
			       "template %s: it is a VM's without an agent; make one with 'uvm template build'",
			       path);
	if (vm->snapshot.m.memory < vm->child.create->config.resources.memory + OCI_OVERHEAD)
		return err_set(e, EINVAL,
			       "template %s: its %llu MiB of memory are too few for linux.resources.memory.limit, "
			       "which wants %llu MiB more than that",
			       path, (unsigned long long)vm->snapshot.m.memory >> 20, OCI_OVERHEAD >> 20);
	return 0;
}

/* The one that is asked for, or the template of our own making. */
static int open_snapshot(struct vm *vm, struct err *e)
{
	const struct oci_settings *s = &vm->settings;
	int r;

	if (s->template) {
		r = snapshot_open(&vm->snapshot, s->template, SNAPSHOT_UNLESS_SEALED, e);
		return r ? r : check_template(vm, e);
	}
	r = template_kernel(vm->kernel, s->kernel, e);
	vm->template.kernel = vm->kernel;
	vm->template.share = true;
	return r ? r : find_template(vm, e);
}

/* The next placeholder for a disk. */
static void add_disk(struct vm *vm, const char *path, bool read_only, bool layered)
{
	struct machine_config *m = &vm->run.clone.config;

	m->fill[m->fills++] = (struct disk_config){
		.path = path, .read_only = read_only, .layered = layered};
}

/* An image of the bundle's root, which the cache has or makes. */
static int set_image_root(struct vm *vm, struct err *e)
{
	struct image_request req = {.root = vm->child.rootfs_path};
	struct container_root *root = &vm->run.spec.root;
	int r = image_open(&req, &vm->image, e);

	if (!r)
		r = scratch_open(&vm->scratch, vm->settings.scratch, e);
	if (r)
		return r;
	add_disk(vm, vm->image.path, true, false);
	root->device = "/dev/vda";
	root->type = vm->image.fstype;
	root->upper = "tmpfs";
	root->upper_size = vm->scratch.size;
	if (vm->scratch.disk) {
		add_disk(vm, vm->scratch.path, false, !vm->scratch.kept);
		root->upper = "/dev/vdb";
	}
	vm->run.settle = vm->scratch.kept;
	vm->template.drives = TEMPLATE_DRIVES_FEW;
	return 0;
}

/* What the guest has for its root. */
static int set_root(struct vm *vm, struct err *e)
{
	struct oci_config *c = &vm->child.create->config;
	struct container_root *root = &vm->run.spec.root;

	vm->run.spec = c->spec;
	/* The guest's network is nobody else's. */
	vm->run.spec.new_namespaces &= ~(uint32_t)AGENT_NS_NET;
	root->read_only = c->read_only;
	c->image = vm->settings.erofs;
	if (c->image)
		return set_image_root(vm, e);
	root->device = TEMPLATE_SHARE;
	root->type = "virtiofs";
	return 0;
}

/* Another file than the system's is for tests: callers pass no environment on. */
static const char *settings_file(void)
{
	const char *path = getenv("UVM_CONFIG");

	return path && *path ? path : OCI_SETTINGS_FILE;
}

/* What the guest's get to read: the process has the number that it sees itself. */
static int describe_to_guest(struct vm *vm, struct err *e)
{
	struct oci_state s = vm->child.state;

	if (!vm->run.spec.hook_count)
		return 0;
	s.status = OCI_CREATED;
	s.pid = 1;
	vm->run.spec.hook_state = oci_state_text(&s);
	return vm->run.spec.hook_state ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* What is in the namespace, if there is one already. */
static int find_networks(struct vm *vm, struct err *e)
{
	const char *path = vm->child.create->config.network;
	int r = path ? oci_network_open(&vm->network, path, e) : 0;

	if (!r && path)
		oci_network_close(&vm->network);
	return r;
}

int oci_vm_open(struct vm *vm, struct err *e)
{
	struct clone *c = &vm->run.clone;
	int r;

	vm->template.nets = vm->network.links;
	vm->template.offload = vm->template.nets;
	r = open_snapshot(vm, e);
	c->config.nets = vm->network.links;
	return r ? r : clone_prepare(c, &vm->snapshot, e);
}

int oci_vm_prepare(struct vm *vm, struct err *e)
{
	struct oci_child *c = &vm->child;
	struct oci_config *config = &c->create->config;
	struct run *r = &vm->run;
	int error = oci_child_open(c, e);

	if (!error)
		error = oci_settings_load(&vm->settings, settings_file(), config->annotations, e);
	if (!error)
		error = oci_settings_size(&vm->settings, &config->resources, &vm->template, e);
	if (!error)
		error = set_root(vm, e);
	if (!error)
		error = find_networks(vm, e);
	if (!error)
		error = oci_vm_open(vm, e);
	r->clone.started = now_ns();
	r->process = config->process.request;
	r->image = c->create->bundle;
	c->state.memory = vm->snapshot.m.memory;
	c->state.cpus = vm->snapshot.m.cpus;
	c->state.network = config->network;
	c->cpus = true;
	/* One with a limit has it inside; all of its VM has a little more. */
	c->memory = config->resources.memory ? c->state.memory + OCI_OVERHEAD : 0;
	return error ? error : describe_to_guest(vm, e);
}
