/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: what the host's administrator and a container's annotations choose of its VM.
 *
 * The file has a line "KEY = VALUE" for each, and comments behind '#'. An annotation "org.uvm.KEY" takes
 * the place of the file's. Without either, all have defaults that work:
 *   kernel    the guest's kernel (default: as for "uvm run")
 *   template  a snapshot to clone, in place of the one that uvm makes and keeps for itself
 *   memory    the VM's size (default: what the limit of memory wants)
 *   cpus      how many the VM has (default: what the CPU quota is worth; else 1)
 *   rootfs    "share": the bundle's directory itself, by virtio-fs; "erofs": an image of it, kept in the
 *             cache, and what the container writes goes elsewhere
 *   scratch   where that is, with erofs, as for "uvm run --scratch" (default: the guest's memory)
 * containerd writes a pod's limits into its sandbox's annotations: they count as if they were its own.
 */
#ifndef UVM_SHIM_SETTINGS_H
#define UVM_SHIM_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/resources.h"
#include "vmm/json.h"
#include "vmm/template.h"

#define OCI_SETTINGS_FILE "/etc/uvm/config"
#define OCI_ANNOTATION	  "org.uvm."

/* What a VM has beside what its container may use: for the guest's kernel and agent, and on the host for
 * the monitor.
 */
#define OCI_OVERHEAD	   (64ull << 20)
#define OCI_MEMORY_DEFAULT (256ull << 20)

struct oci_settings {
	const char *kernel, *template, *scratch; /* or NULL */
	uint64_t memory;			 /* bytes; 0: not said */
	uint32_t cpus;				 /* 0: not said */
	bool erofs;
	uint64_t pod_memory; /* what a pod's containers may have together, which the sandbox is told; 0: no limit */
	int64_t pod_quota;   /* of CPUs; 0 or less: none */
	uint64_t pod_period; /* 0: the usual one */
	char *text; /* the file's */
};

/* Takes the file at path, which need not be there, and the annotations (an object of strings, or NULL) into
 * s, which is zeroed. Returns 0, or -errno with the message set, which names the line or the annotation: also
 * for what has no meaning. oci_settings_free in any case.
 */
int oci_settings_load(struct oci_settings *s, const char *path, const struct json *annotations,
		      struct err *e);
void oci_settings_free(struct oci_settings *s);

/* Sets the memory and CPUs of a container's VM. There are few sizes of memory, since each has a template.
 * Returns 0 or -EINVAL with the message set.
 */
int oci_settings_size(const struct oci_settings *s, const struct oci_resources *r, struct template *t,
		      struct err *e);

#endif
