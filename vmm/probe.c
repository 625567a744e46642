/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/layout.h"

#define CODE_AT	 LAYOUT_KERNEL_MIN
#define DONE	 0xf0 /* a write to this port ends a piece of code */
#define LOOPS	 20000u

/* mov ecx, LOOPS; 1: dec ecx; jnz 1b; out DONE, al */
static const uint8_t loop_code[] = {
	0xb9, LOOPS & 0xff, LOOPS >> 8 & 0xff, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xe6, DONE,
};

/* What a kernel does at every interrupt and context switch, and instruction emulators lack:
 *   mov esp, 0x80000; mov eax, ss; push rax; push 0x80000; pushfq; mov eax, cs; push rax
 *   lea rax, [rip+3]; push rax; iretq
 *   fxsave64 [0x70000]; lock cmpxchg16b [0x71000]; out DONE, al
 */
static const uint8_t kernel_code[] = {
	0xbc, 0x00, 0x00, 0x08, 0x00,			      /* mov esp, 0x80000 */
	0x8c, 0xd0, 0x50,				      /* mov eax, ss; push rax */
	0x68, 0x00, 0x00, 0x08, 0x00,			      /* push 0x80000 */
	0x9c,						      /* pushfq */
	0x8c, 0xc8, 0x50,				      /* mov eax, cs; push rax */
	0x48, 0x8d, 0x05, 0x03, 0x00, 0x00, 0x00,	      /* lea rax, [rip + 3] */
	0x50,						      /* push rax */
	0x48, 0xcf,					      /* iretq */
	0x48, 0x0f, 0xae, 0x04, 0x25, 0x00, 0x00, 0x07, 0x00, /* fxsave64 [0x70000] */
	0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25, 0x00, 0x10, 0x07, 0x00, /* lock cmpxchg16b [0x71000] */
	0xe6, DONE,
};

/* Runs code from its start to its DONE. Returns whether it got there; else why is in p. */
static bool run_code(struct vcpu *v, const struct mem *m, const uint8_t *code, size_t n,
		     struct probe *p)
{
	const struct boot_entry entry = {.protocol = BOOT_LINUX64, .ip = CODE_AT};
	struct err e;

	mem_write(m, gpa(CODE_AT), code, n);
	if (vcpu_set_entry(v, &entry, &e)) {
		snprintf(p->reason, sizeof(p->reason), "%s", e.text);
		return false;
	}
	if (kvm_ioctl(v->fd, KVM_RUN, NULL) < 0) {
		snprintf(p->reason, sizeof(p->reason), "KVM_RUN failed");
		return false;
	}
	if (v->run->exit_reason == KVM_EXIT_IO && v->run->io.port == DONE)
		return true;
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	    v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		snprintf(p->reason, sizeof(p->reason), "KVM emulates it, and lacks an instruction");
	else
		snprintf(p->reason, sizeof(p->reason), "unexpected exit %u", v->run->exit_reason);
	return false;
}

static void run_all(struct vcpu *v, const struct mem *m, struct probe *p)
{
	uint64_t start;

	/* Once to warm up: the first entry builds the VM's page tables. */
	p->runs = run_code(v, m, loop_code, sizeof(loop_code), p);
	if (!p->runs)
		return;
	start = now_ns();
	p->runs = run_code(v, m, loop_code, sizeof(loop_code), p);
	p->ns_per_instr = (double)(now_ns() - start) / (2 * LOOPS);
	p->kernel_mode = p->runs && run_code(v, m, kernel_code, sizeof(kernel_code), p);
}

int probe_run(struct kvm *k, struct probe *p, struct err *e)
{
	struct vcpu_host host = {.kvm = k};
	struct kvm_cpuid2 *cpuid = NULL;
	struct mem m = {0};
	struct vcpu v;
	int r = mem_init(&m, MEM_MIN, e);

	memset(p, 0, sizeof(*p));
	if (!r)
		r = kvm_create_vm(k, &m, true, e);
	if (!r)
		r = cpuid_make(k, 1, CPUID_HOST, &cpuid, e);
	if (!r)
		r = vcpu_init(&v, 0, &host, cpuid, e);
	if (!r) {
		boot_cpu_tables(&m);
		run_all(&v, &m, p);
		vcpu_close(&v);
	}
	free(cpuid);
	kvm_close(k);
	mem_free(&m);
	return r;
}
