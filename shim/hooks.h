/* SPDX-License-Identifier: Apache-2.0
 *
 * hooks: the "hooks" of a bundle's config.json: programs that run at points of a container's life.
 *
 * Where and when, by the specification, and what is a container's place here:
 *   prestart, createRuntime  on the host, by "create", when the VM's process has its namespaces
 *   createContainer          by the VM's process: paths are the host's, the mount, network and PID
 *                            namespaces are those that the container has on the host, before the root
 *                            is changed. What the hook mounts in the root or writes there the guest sees
 *   startContainer           in the guest, in the container, by the agent, when it is started
 *   poststart, poststop      on the host, by "start" and "delete"
 * Each has the container's state as JSON on its standard input, and the bundle as its directory.
 */
#ifndef UVM_SHIM_HOOKS_H
#define UVM_SHIM_HOOKS_H

#include "vmm/container.h"
#include "vmm/json.h"

enum oci_hook {
	OCI_PRESTART,
	OCI_CREATE_RUNTIME,
	OCI_CREATE_CONTAINER,
	OCI_START_CONTAINER,
	OCI_POSTSTART,
	OCI_POSTSTOP,
	OCI_HOOKS, /* how many kinds there are */
};

/* As config.json has it. */
const char *oci_hook_name(enum oci_hook kind);

/* Checks the object, which may be NULL. Returns 0 or -EINVAL with the message set. All below expect that
 * it has passed.
 */
int oci_hooks_check(const struct json *hooks, struct err *e);

/* Whether there are any of that kind. */
bool oci_hooks_any(const struct json *hooks, enum oci_hook kind);

/* Runs those of one kind here, one after the other, with dir as their directory. The first that fails, or
 * takes longer than it may, ends that. Returns 0 or -errno with the message set.
 */
int oci_hooks_run(const struct json *hooks, enum oci_hook kind, const char *state, const char *dir,
		  struct err *e);

/* Those of startContainer as the guest gets them. *to is the caller's, for oci_hooks_free, also after an
 * error. Returns 0 or -ENOMEM.
 */
int oci_hooks_guest(const struct json *hooks, struct container_hook **to, size_t *n, struct err *e);
void oci_hooks_free(struct container_hook *list, size_t n);

/* The most milliseconds that those of startContainer may take together. */
uint64_t oci_hooks_guest_ms(const struct json *hooks);

#endif
