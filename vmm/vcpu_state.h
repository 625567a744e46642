/* SPDX-License-Identifier: Apache-2.0
 *
 * vcpu_state: everything that KVM knows of a vCPU and of a VM's interrupt controllers and clock,
 * taken out and put back.
 *
 * The order of the calls is the point of this file; each constraint stands beside its call. Sources:
 * the KVM API document (section numbers in brackets), and what other monitors learned (the guest's
 * deadline timer lost when the LAPIC came after the MSRs, a clock that stood still when a young
 * guest's TSC was set by its MSR).
 */
#ifndef UVM_VMM_VCPU_STATE_H
#define UVM_VMM_VCPU_STATE_H

#include "snapshot/state.h"
#include "vmm/vcpu.h"

#define VCPU_XSAVE_MAX 16384u /* bytes: AMX needs 11,008 */
#define VCPU_MSRS_MAX  512u

/* The arrays that are mostly empty stand last: a page of memory that is touched costs a microsecond. */
struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_mp_state mp;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_xcrs xcrs;
	uint64_t tsc;	  /* the guest's, when it was stopped */
	uint32_t tsc_khz; /* 0: this KVM does not say */
	uint32_t xsave_len, msrs, cpuid_len;
	uint32_t msr_index[VCPU_MSRS_MAX]; /* the first array */
	uint64_t msr_value[VCPU_MSRS_MAX];
	uint32_t cpuid[VCPU_CPUID_MAX * 7]; /* function, index, flags, eax, ebx, ecx, edx */
	uint8_t xsave[VCPU_XSAVE_MAX];
};

#define VCPU_STATE_HEAD offsetof(struct vcpu_state, msr_index) /* bytes before the arrays */

extern const struct state_table vcpu_table, pic_table, ioapic_table, clock_table;

/* The MSRs that this host's KVM can save (4.3). Made once for all vCPUs; the caller frees it. */
struct kvm_msr_list *vcpu_msr_list(const struct kvm *k, struct err *e);

/* Takes a stopped vCPU's state. Any thread. */
int vcpu_save(const struct vcpu *v, const struct kvm_msr_list *list, struct vcpu_state *s,
	      struct err *e);

/* Makes vCPU id in that state. s is from a file: KVM checks what it is given, and refuses. What the
 * vector state lacks of this host's is cleared in s.
 */
int vcpu_restore(struct vcpu *v, unsigned int id, struct vcpu_host *host, struct vcpu_state *s,
		 struct err *e);

/* Sets what has gone on by itself since vcpu_restore with this state: its time, the same for all vCPUs, and its
 * timer. host->tsc_known is false before the first. Before it runs. Returns 0 or -errno.
 */
int vcpu_restore_clocks(struct vcpu *v, const struct vcpu_state *s, struct err *e);

/* Tells a guest that uses kvmclock that it stood still, so that its lockup detector does not bark
 * (api.rst, KVM_KVMCLOCK_CTRL). Before the vCPU runs again; of no effect on another guest.
 */
void vcpu_stood_still(const struct vcpu *v);

/* The VM's interrupt controllers and clock: saved with every vCPU stopped; loaded after the vCPUs
 * are made and before any runs. The clock goes on from where it stood.
 */
int kvm_vm_state(const struct kvm *k, struct state_visitor *v, struct err *e);

/* The clock alone. */
int kvm_clock_state(const struct kvm *k, struct state_visitor *v, struct err *e);

/* Checks that this host can run a vCPU with that CPUID: each feature that the guest was told of is
 * there. Returns 0, or -ENOTSUP with a list of what is missing.
 */
int vcpu_check_host(const struct kvm *k, const struct vcpu_state *s, struct err *e);

#endif
