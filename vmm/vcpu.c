/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/layout.h"
#include "vmm/log.h"

/* The signal that gets a vCPU thread out of KVM_RUN; it does nothing else. One that nobody sends for a
 * reason of his own, nor is passed on to a container.
 */
#define KICK SIGURG

/* Stack of a vCPU thread. Its deepest path formats one message. */
#define STACK_SIZE (64u << 10)

#define CR0_PE	 (1u << 0)
#define CR0_ET	 (1u << 4)
#define CR0_PG	 (1u << 31)
#define CR4_PAE	 (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

int vcpu_call(const struct vcpu *v, unsigned long request, void *arg, const char *name,
	      struct err *e)
{
	int r = kvm_ioctl(v->fd, request, arg);

	return r < 0 ? err_set(e, -r, "%s failed for vCPU %u: %s", name, v->id, strerror(-r)) : r;
}

int vcpu_init(struct vcpu *v, unsigned int id, struct vcpu_host *host,
	      const struct kvm_cpuid2 *cpuid, struct err *e)
{
	if (cpuid->nent > VCPU_CPUID_MAX)
		return err_set(e, EFBIG, "too many entries of CPUID");
	if (cpuid != &v->cpuid.head)
		memcpy(&v->cpuid, cpuid, sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]));
	v->id = id;
	v->host = host;
	v->running = v->stop = false;
	v->first_exit = 0;
	v->fd = kvm_create_vcpu(host->kvm, id, &v->run, e);
	if (v->fd < 0)
		return v->fd;
	return vcpu_call(v, KVM_SET_CPUID2, &v->cpuid, "KVM_SET_CPUID2", e);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool long_mode)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = long_mode,
		.db = !long_mode,
	};
}

int vcpu_set_entry(struct vcpu *v, const struct boot_entry *entry, struct err *e)
{
	bool long_mode = entry->protocol == BOOT_LINUX64;
	struct kvm_regs regs = {.rflags = 2, .rip = entry->ip};
	struct kvm_sregs s;
	int r = vcpu_call(v, KVM_GET_SREGS, &s, "KVM_GET_SREGS", e);

	if (r)
		return r;
	s.cs = segment(LAYOUT_CODE, 0xb, long_mode); /* execute, read, accessed */
	s.ds = segment(LAYOUT_DATA, 0x3, false);     /* read, write, accessed */
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.tr.limit = 0x67;
	s.tr.type = 0xb; /* busy TSS: VT-x refuses to enter without one */
	s.gdt.base = LAYOUT_GDT;
	s.gdt.limit = 4 * 8 - 1;
	s.idt.base = 0;
	s.idt.limit = 0;
	s.cr0 = CR0_PE | CR0_ET;
	if (long_mode) {
		s.cr0 |= CR0_PG;
		s.cr3 = LAYOUT_PML4;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
		regs.rsi = entry->info;
	} else {
		regs.rbx = entry->info;
	}
	r = vcpu_call(v, KVM_SET_SREGS, &s, "KVM_SET_SREGS", e);
	if (!r)
		r = vcpu_call(v, KVM_SET_REGS, &regs, "KVM_SET_REGS", e);
	return r;
}

static void serve_io(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	/* A string instruction moves count items in one exit, all at the same port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(v->host->pio, run->io.port, data, run->io.size);
		else
			bus_read(v->host->pio, run->io.port, data, run->io.size);
	}
}

/* Returns false when the vCPU is not to run again. */
static bool serve_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint64_t addr = run->mmio.phys_addr;
	bool answered;

	if (run->mmio.is_write)
		answered = bus_write(v->host->mmio, addr, run->mmio.data, run->mmio.len);
	else
		answered = bus_read(v->host->mmio, addr, run->mmio.data, run->mmio.len);
	if (answered)
		return true;
	/* A KVM that emulates the instruction takes a page that cannot be had for a device's; one that
	 * does not fails KVM_RUN. To go on would lose the store.
	 */
	if (mem_span(v->host->mem, gpa(addr), 1)) {
		end_set(v->host->end, END_FAULT, MEM_LOST);
		return false;
	}
	if (!__atomic_exchange_n(&v->host->stray_told, true, __ATOMIC_RELAXED))
		log_warn("guest accesses address 0x%" PRIx64
			 ", where there is nothing: reads give ones, writes do nothing",
			 addr);
	return true;
}

/* KVM gave up on an instruction. Say which, and the likely cause. */
static void end_emulation(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	struct kvm_regs regs = {0};
	char bytes[3 * 15 + 1] = "";

	kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
	if (run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
		for (unsigned int i = 0; i < MIN(run->emulation_failure.insn_size, 15u); i++)
			snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
	end_set(v->host->end, END_FAULT,
		"this KVM cannot run the guest's kernel: it failed to emulate the instruction at "
		"0x%llx%s%s; see 'uvm check'",
		regs.rip, *bytes ? ", bytes" : "", bytes);
}

static void end_unknown(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	struct kvm_regs regs = {0};
	struct end *end = v->host->end;

	kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
	switch (run->exit_reason) {
	case KVM_EXIT_FAIL_ENTRY:
		end_set(end, END_FAULT,
			"vCPU %u: the hardware refuses to enter the guest, reason 0x%llx, rip "
			"0x%llx",
			v->id, run->fail_entry.hardware_entry_failure_reason, regs.rip);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
			end_emulation(v);
		else
			end_set(end, END_FAULT, "vCPU %u: KVM internal error %u at rip 0x%llx",
				v->id, run->internal.suberror, regs.rip);
		break;
	default:
		end_set(end, END_FAULT, "vCPU %u: unknown KVM exit %u at rip 0x%llx", v->id,
			run->exit_reason, regs.rip);
	}
}

/* Serves one exit. Returns false when the vCPU is not to run again. */
static bool serve_exit(struct vcpu *v)
{
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO: serve_io(v); return true;
	case KVM_EXIT_MMIO: return serve_mmio(v);
	case KVM_EXIT_INTR: return true;
	case KVM_EXIT_SHUTDOWN:
		/* A triple fault, which on a PC resets the machine. Kernels use it as their last
		 * way to reboot, so it is not an error by itself.
		 */
		end_set(v->host->end, END_REBOOT, "the guest reset itself by a triple fault");
		return false;
	default: end_unknown(v); return false;
	}
}

static void trace_exit(const struct vcpu *v, uint64_t began)
{
	const struct kvm_run *run = v->run;
	uint32_t detail = run->exit_reason & 0xffff;
	uint64_t what = 0;

	if (run->exit_reason == KVM_EXIT_IO) {
		what = run->io.port;
		detail |= (uint32_t)run->io.size << 16 |
			  (run->io.direction == KVM_EXIT_IO_OUT ? TRACE_WRITE : 0);
	} else if (run->exit_reason == KVM_EXIT_MMIO) {
		what = run->mmio.phys_addr;
		detail |= (run->mmio.len & 0xff) << 16 | (run->mmio.is_write ? TRACE_WRITE : 0);
	}
	trace_put(v->host->trace, TRACE_EXIT, (uint16_t)v->id, what, detail, began, now_ns() - began);
}

static void note_first_exit(struct vcpu *v)
{
	static const struct itimerspec soon = {.it_value.tv_nsec = VCPU_FIRST_EXIT_NS};

	v->first_exit = now_ns();
	timerfd_settime(v->host->first_exit, 0, &soon, NULL);
}

/* Once stop is set (and with it immediate_exit), it ends when KVM_RUN says EINTR and not before: an
 * exit that was just served is completed by entering again (api.rst, KVM_EXIT_IO), and the
 * instruction would else be lost to whoever saves the vCPU's state.
 */
static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	uint64_t began;
	bool go_on;

	confine_thread(v->host->confine, CONFINE_VCPU);
	while (sem_wait(&v->go)) {
	}
	for (;;) {
		int r = ioctl(v->fd, KVM_RUN, NULL);

		if (r < 0 && (errno == EINTR || errno == EAGAIN)) {
			if (__atomic_load_n(&v->stop, __ATOMIC_ACQUIRE))
				break;
			continue;
		}
		if (r < 0) {
			if (errno == EFAULT)
				end_set(v->host->end, END_FAULT, MEM_LOST);
			else
				end_set(v->host->end, END_FAULT, "KVM_RUN failed for vCPU %u: %s",
					v->id, strerror(errno));
			break;
		}
		stat_add(&v->exits, 1);
		if (!v->first_exit)
			note_first_exit(v);
		began = trace_on(v->host->trace) ? now_ns() : 0;
		go_on = serve_exit(v);
		if (began)
			trace_exit(v, began);
		if (!go_on)
			break;
	}
	return NULL;
}

static void kicked(int sig)
{
	(void)sig;
}

int vcpu_prepare(struct vcpu *v, struct err *e)
{
	struct sigaction sa = {.sa_handler = kicked};
	pthread_attr_t attr;
	int r;

	sigaction(KICK, &sa, NULL); /* no SA_RESTART: KVM_RUN must return */
	v->stop = false;
	v->run->immediate_exit = 0;
	sem_init(&v->go, 0, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	r = pthread_create(&v->thread, &attr, vcpu_thread, v);
	pthread_attr_destroy(&attr);
	if (r)
		return err_set(e, r, "cannot start the thread of vCPU %u: %s", v->id, strerror(r));
	v->running = true;
	return 0;
}

int vcpu_start(struct vcpu *v, struct err *e)
{
	int r = v->running ? 0 : vcpu_prepare(v, e);

	if (!r)
		sem_post(&v->go);
	return r;
}

void vcpu_stop(struct vcpu *v)
{
	if (!v->running)
		return;
	__atomic_store_n(&v->stop, true, __ATOMIC_RELEASE);
	/* The flag covers the moment before KVM_RUN, the signal the time inside (4.10, 5). */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELEASE);
	sem_post(&v->go); /* one that has been prepared only */
	pthread_kill(v->thread, KICK);
	pthread_join(v->thread, NULL);
	v->running = false;
}

void vcpu_close(struct vcpu *v)
{
	munmap(v->run, v->host->kvm->run_size);
	close(v->fd);
}
