/* SPDX-License-Identifier: Apache-2.0
 *
 * vm: what the VM of a container is made of, as far as it is chosen before there is a process for it: from
 * config.json, its annotations, and the settings (shim/settings.h). For shim/init.c.
 */
#ifndef UVM_SHIM_VM_H
#define UVM_SHIM_VM_H

#include <limits.h>

#include "shim/child.h"
#include "shim/network.h"
#include "shim/settings.h"
#include "vmm/image.h"
#include "vmm/run.h"
#include "vmm/scratch.h"

/* Everything of the VM's process. Goes with it. */
struct vm {
	struct run run;
	struct snapshot snapshot;
	struct template template;
	struct oci_settings settings;
	struct image image; /* of the root, if that is wanted; the cache keeps it while we live */
	struct scratch scratch;
	char kernel[PATH_MAX];
	struct oci_child child;
	struct oci_network network;
};

/* Fills all of it but what is the process' own: child has create and the run directory, the rest is zeroed.
 * Returns 0 or -errno with the message set.
 */
int oci_vm_prepare(struct vm *vm, struct err *e);

/* Opens the snapshot for a VM of as many networks as vm->network has, and what follows from it. For oci_vm_prepare,
 * and again when there are more. Returns likewise.
 */
int oci_vm_open(struct vm *vm, struct err *e);

#endif
