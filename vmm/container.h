/* SPDX-License-Identifier: Apache-2.0
 *
 * container: what a container in a guest is, and the CREATE message that makes it.
 *
 * The description is neutral: "uvm run" fills it from its options, the OCI runtime from config.json.
 * It says everything but the first process, which is an exec_request like that of any other command.
 * What is in it is the agent's to do and the agent's to refuse; here only what a message cannot hold
 * is an error. docs/agent-protocol.md has the message.
 */
#ifndef UVM_VMM_CONTAINER_H
#define UVM_VMM_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/protocol.h"
#include "vmm/agent.h"
#include "vmm/err.h"

struct exec_request;

/* Members that are pointers may be NULL, which is none or empty. Everything stays the caller's. */

struct container_root {
	const char *device;   /* "/dev/vda"; NULL: the container's root is the guest's own */
	const char *type;     /* "erofs", "ext4" */
	const char *upper;    /* what is above: NULL nothing, "tmpfs", or a device with an ext4 on it */
	uint64_t upper_size;  /* bytes, of a tmpfs; 0: half of the guest's memory */
	uint32_t propagation; /* as struct agent_root */
	bool read_only;
};

struct container_mount {
	const char *source, *target, *type, *data;
	uint64_t flags; /* MS_* */
	bool copy_up;	/* a tmpfs begins with what the root has there */
	bool of_pod;	/* a bind mount's source is a path in the container to join, not in the guest */
};

struct container_device {
	const char *path;
	struct agent_device node;
};

struct container_guest_device {
	const char *path; /* in the guest */
	uint32_t access;  /* as struct agent_device_rule */
};

struct container_value { /* of a sysctl, or of a file of the cgroup */
	const char *name, *value;
};

struct container_hook {
	uint32_t stage; /* enum agent_hook_stage */
	uint32_t timeout_ms;
	const char *path;
	char *const *argv; /* as execve's; NULL at the end */
	char *const *envp;
};

struct container_spec {
	const char *name, *hostname, *domainname;
	const char *pod;	 /* the container whose namespaces it joins */
	uint32_t new_namespaces; /* enum agent_namespace, and these of the pod's */
	uint32_t pod_namespaces;
	bool start; /* its process begins at once */
	bool tied;  /* it is killed when this client has gone */
	struct container_root root;
	const struct container_mount *mounts; /* in their order */
	size_t mount_count;
	const struct container_device *devices;
	size_t device_count;
	const struct agent_device_rule *rules;
	size_t rule_count;
	const struct container_guest_device *guest_devices; /* that may be used; it needs mounts of them */
	size_t guest_device_count;
	const char *const *masked, *const *readonly; /* paths, NULL at the end */
	const struct container_value *sysctls;
	size_t sysctl_count;
	const struct container_value *cgroup;
	size_t cgroup_count;
	const struct agent_id_map *id_maps;
	size_t id_map_count;
	const struct container_hook *hooks;
	size_t hook_count;
	const char *hook_state; /* what they get to read, in place of the agent's own */
};

/* A container as docker and podman make one that no option describes: namespaces, mounts, devices and
 * their rules, masked and read-only paths. Its root is for the caller to say, and its network is the
 * guest's: the virtual machine is what separates it from others'.
 */
void container_defaults(struct container_spec *s, const char *name);

/* The capabilities of such a container's process. */
extern const struct agent_caps container_caps;

/* Makes the payload of the CREATE for s. process is its first one, head as for exec_encode. *payload
 * is malloc'ed and becomes the caller's. Returns 0, or -errno with the message set: -E2BIG for what
 * is more than a message holds, -EINVAL for a name that is none.
 */
int container_encode(const struct container_spec *s, const struct exec_request *process,
		     struct agent_exec *head, uint8_t **payload, size_t *size, struct err *e);

/* Makes the payload of the UPDATE that sets n files of a container's cgroup, likewise. */
int container_encode_update(const char *name, const struct container_value *cgroup, size_t n,
			    uint8_t **payload, size_t *size, struct err *e);

/* Sends that to the agent. As agent_order. */
int container_update(agent_dial_fn *dial, void *ctx, const char *name,
		     const struct container_value *cgroup, size_t n, struct err *e);

/* Has the agent make a mount in a container that runs, of the guest's source; and undo one. As agent_order.
 */
int container_mount(agent_dial_fn *dial, void *ctx, const char *name, const struct container_mount *mount,
		    struct err *e);
int container_unmount(agent_dial_fn *dial, void *ctx, const char *name, const char *path, struct err *e);

#endif
