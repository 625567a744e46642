/* SPDX-License-Identifier: Apache-2.0
 *
 * probe: finds out what this host's KVM can do by running a few instructions in a VM.
 *
 * Flags in /proc/cpuinfo say what a CPU has, not what the KVM on it does: a nested or
 * paravirtual one may run kernel-mode code through an instruction emulator that is slow and lacks
 * what every kernel needs.
 */
#ifndef UVM_VMM_PROBE_H
#define UVM_VMM_PROBE_H

#include <stdbool.h>

#include "vmm/kvm.h"

struct probe {
	bool runs;	      /* a loop in 64-bit kernel mode ran to its end */
	double ns_per_instr;  /* of that loop; set if runs */
	bool kernel_mode;     /* so did an interrupt return and a vector-state save, as in a kernel */
	char reason[512];     /* of the first that failed */
};

/* Makes a VM, runs the code and removes the VM again. Returns 0 with *p filled, or -errno if not
 * even a VM could be made; k is open (kvm_open), and is closed by the call.
 */
int probe_run(struct kvm *k, struct probe *p, struct err *e);

#endif
