/* SPDX-License-Identifier: Apache-2.0
 *
 * cpuid: what the guest is told about its CPUs.
 *
 * Everything that KVM supports on this host is offered, less what uvm does not provide, with
 * the topology put in: one package of as many single-threaded cores as there are vCPUs, APIC id
 * equal to the vCPU's number.
 */
#ifndef UVM_VMM_CPUID_H
#define UVM_VMM_CPUID_H

#include "vmm/kvm.h"

/* What a guest is told its CPU can. */
enum cpuid_template {
	CPUID_HOST,	/* all that this host's CPU and KVM can */
	CPUID_BASELINE, /* x86-64-v2 and what is common since; so that snapshots move between hosts */
};

/* An option's setter (vmm/opt.h): "host" or "baseline" [enum cpuid_template]. */
int cpuid_set_template(void *to, const char *value, struct err *e);

/* Makes the table for cpus vCPUs; the caller frees it. Returns 0 or -errno. */
int cpuid_make(const struct kvm *k, unsigned int cpus, enum cpuid_template template,
	       struct kvm_cpuid2 **table, struct err *e);

/* Puts vCPU id's own number into the table, in place, before KVM_SET_CPUID2. */
void cpuid_number(struct kvm_cpuid2 *table, unsigned int id);

/* The part of cpuid_make that needs no KVM: edits what the host supports. deadline: KVM has
 * KVM_CAP_TSC_DEADLINE_TIMER, which KVM_GET_SUPPORTED_CPUID does not report (api.rst, 4.46).
 */
void cpuid_adapt(struct kvm_cpuid2 *table, unsigned int cpus, bool deadline);

/* And this: takes out what is not in the baseline. Bits by which a CPU says how its speculation is
 * controlled stay: a guest must know them to defend itself.
 */
void cpuid_limit(struct kvm_cpuid2 *table);

/* Whether a guest that was given this table can run where KVM supports that one: writes a list of
 * the features that are missing to text, cut to size; another vendor's CPU is one. Returns how many.
 */
unsigned int cpuid_missing(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			   char *text, size_t size);

#endif
