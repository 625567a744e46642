/* SPDX-License-Identifier: Apache-2.0
 *
 * vcpu: one virtual CPU and the thread that runs it.
 *
 * The thread does nothing but KVM_RUN and hand what KVM returns to the two buses. It never
 * waits for a disk, a socket or a reader: queue notifications go to the loops by eventfd, the
 * console's output to a ring.
 */
#ifndef UVM_VMM_VCPU_H
#define UVM_VMM_VCPU_H

#include <pthread.h>
#include <semaphore.h>

#include "vmm/bus.h"
#include "vmm/confine.h"
#include "vmm/end.h"
#include "vmm/kvm.h"
#include "vmm/mem.h"
#include "vmm/trace.h"

#define VCPU_MAX 32

/* What the CPU that starts first (the BSP) finds at its first instruction. */
enum boot_protocol {
	BOOT_LINUX64, /* Documentation/arch/x86/boot.rst, "64-bit boot protocol": rsi = boot_params
		       */
	BOOT_PVH,     /* xen/include/public/arch-x86/hvm/start_info.h: 32-bit, ebx = start info */
};

struct boot_entry {
	enum boot_protocol protocol;
	uint64_t ip;   /* GPA of the first instruction */
	uint64_t info; /* GPA of boot_params or hvm_start_info */
};

/* So that what the first exit is about, a byte for the console, goes before. */
#define VCPU_FIRST_EXIT_NS 300000

/* What a vCPU needs of the machine around it; shared by all, lives as long as they. */
struct vcpu_host {
	const struct kvm *kvm;
	const struct bus *pio, *mmio;
	const struct mem *mem;
	struct end *end;
	const struct confine *confine;
	bool stray_told; /* an access that no device answered has been reported; atomic */
	struct trace *trace;
	int first_exit;  /* a timer, set to VCPU_FIRST_EXIT_NS by each vCPU's first exit */
	bool tsc_known;	 /* restoring: the offset below is known, one for all vCPUs */
	uint64_t tsc_offset;
};

#define VCPU_CPUID_MAX 256u /* KVM_MAX_CPUID_ENTRIES */

/* A struct kvm_cpuid2 with room for all that KVM takes. */
struct vcpu_cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[VCPU_CPUID_MAX];
};

struct vcpu {
	unsigned int id; /* also its APIC id */
	int fd;
	struct kvm_run *run; /* shared with the kernel */
	struct vcpu_host *host;
	struct vcpu_cpuid cpuid; /* as given to KVM */
	pthread_t thread;
	bool running; /* the thread is there */
	sem_t go;     /* it waits for this before the guest runs */
	bool stop; /* atomic */
	uint64_t exits;	     /* served by this process; atomic, see stat_get */
	uint64_t first_exit; /* when it was, for --timing; 0: none yet */
};

/* Makes vCPU id with this CPUID, which is copied into v or lies in it already; every vCPU but 0 waits
 * for the guest's INIT and SIPI.
 */
int vcpu_init(struct vcpu *v, unsigned int id, struct vcpu_host *host,
	      const struct kvm_cpuid2 *cpuid, struct err *e);

/* ioctl on the vCPU: 0 or more, or -errno with a message that says its name. */
int vcpu_call(const struct vcpu *v, unsigned long request, void *arg, const char *name,
	      struct err *e);

/* Points it at a kernel's entry. Structures that the state refers to: vmm/layout.h. */
int vcpu_set_entry(struct vcpu *v, const struct boot_entry *entry, struct err *e);

/* Starts the thread; stops it and waits for its end. vcpu_stop on one not started is fine. A vCPU
 * that has been stopped stands between two instructions: its state can be taken, and it can be
 * started again. vcpu_prepare, which may come before, makes the thread and has it confine itself,
 * and the guest does not run yet.
 */
int vcpu_prepare(struct vcpu *v, struct err *e);
int vcpu_start(struct vcpu *v, struct err *e);
void vcpu_stop(struct vcpu *v);

/* Unmaps and closes; the thread has been stopped. */
void vcpu_close(struct vcpu *v);

#endif
