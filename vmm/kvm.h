/* SPDX-License-Identifier: Apache-2.0
 *
 * kvm: the one place that opens /dev/kvm, and the VM-wide calls on it.
 *
 * Sources: the kernel's Documentation/virt/kvm/api.rst, section numbers in brackets. Order is
 * cost: changing a memory slot once an interrupt controller or a vCPU exists waits for an SRCU
 * grace period (milliseconds), before it does not. Hence memory, then irqchip, then lines and
 * doorbells, then vCPUs; docs/architecture.md has the figures.
 */
#ifndef UVM_VMM_KVM_H
#define UVM_VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/err.h"
#include "vmm/mem.h"

struct kvm {
	int dev;	 /* /dev/kvm */
	int vm;		 /* KVM_CREATE_VM, -1 before */
	size_t run_size; /* bytes of a vCPU's shared page(s) */
};

/* A capability that uvm uses. */
struct kvm_cap {
	int cap;
	const char *name;
	bool required; /* no Linux guest without it */
	const char *why;
};

extern const struct kvm_cap kvm_caps[]; /* ends with a NULL name */

/* Opens /dev/kvm and checks that its API version is 12 (4.1). The message for a missing device
 * or a missing permission says what to do. Returns 0 or -errno.
 */
int kvm_open(struct kvm *k, struct err *e);

/* In a live fork: takes over its parent's /dev/kvm, which is nobody's address space's, unlike a VM. */
void kvm_adopt(struct kvm *k, const struct kvm *parent);

/* KVM_CHECK_EXTENSION (4.4): 0 if absent, else a positive value that depends on the capability. */
int kvm_cap(const struct kvm *k, int cap);

/* Makes the VM (4.2), with the guest's memory as its slots (4.35) and the in-kernel interrupt
 * controllers (4.24). boots: with the legacy PICs masked; else the controllers' state is loaded.
 * Refuses if a required capability is missing.
 */
int kvm_create_vm(struct kvm *k, const struct mem *mem, bool boots, struct err *e);

/* An eventfd that raises a line (4.75), edge triggered; gsi is the IOAPIC's pin. */
int kvm_bind_irq(const struct kvm *k, unsigned int gsi, int fd, struct err *e);

/* An eventfd that a guest's write to this MMIO address signals instead of an exit (4.59). */
int kvm_bind_doorbell(const struct kvm *k, uint64_t addr, int fd, struct err *e);

/* Ends that: writes are exits again. */
int kvm_unbind_doorbell(const struct kvm *k, uint64_t addr, int fd, struct err *e);

/* Makes a vCPU (4.7) and maps its run page (4.5). Returns its descriptor or -errno. */
int kvm_create_vcpu(const struct kvm *k, unsigned int id, struct kvm_run **run, struct err *e);

/* What CPUID the host's KVM can give a guest (4.46). The caller frees the answer. */
int kvm_supported_cpuid(const struct kvm *k, struct kvm_cpuid2 **cpuid, struct err *e);

/* ioctl that retries when interrupted; 0 or more, or -errno without a message. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* ioctl on the VM that cannot fail on a working host, and says its name when it does. 0 or -errno. */
int kvm_vm_call(const struct kvm *k, unsigned long request, void *arg, const char *name,
		struct err *e);

void kvm_close(struct kvm *k);

#endif
