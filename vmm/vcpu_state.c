/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cpuid.h"

#define MSR_TSC		 0x10u
#define MSR_KVM_SYSTEM_TIME	0x12u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define MSR_TSC_DEADLINE 0x6e0u
/* In the local APIC's page. */
#define LAPIC_LVT_TIMER	     0x320u
#define LAPIC_TIMER_INITIAL  0x380u
#define LAPIC_TIMER_CURRENT  0x390u
#define LAPIC_TIMER_DEADLINE (1u << 18) /* in the timer's entry */
#define XSAVE_LEGACY	 sizeof(struct kvm_xsave) /* 4096, without KVM_CAP_XSAVE2 */

/* --- tables --- */

#define V(m)  STATE_SCALAR(struct vcpu_state, m, 1)
#define VA(m) STATE_ARRAY(struct vcpu_state, m, 1)
#define SEGMENT(seg)                                                                               \
	V(sregs.seg.base), V(sregs.seg.limit), V(sregs.seg.selector), V(sregs.seg.type),           \
		V(sregs.seg.present), V(sregs.seg.dpl), V(sregs.seg.db), V(sregs.seg.s),           \
		V(sregs.seg.l), V(sregs.seg.g), V(sregs.seg.avl), V(sregs.seg.unusable)

static const struct state_field vcpu_fields[] = {
	V(regs.rax), V(regs.rbx), V(regs.rcx), V(regs.rdx), V(regs.rsi), V(regs.rdi), V(regs.rsp),
	V(regs.rbp), V(regs.r8), V(regs.r9), V(regs.r10), V(regs.r11), V(regs.r12), V(regs.r13),
	V(regs.r14), V(regs.r15), V(regs.rip), V(regs.rflags),
	SEGMENT(cs), SEGMENT(ds), SEGMENT(es), SEGMENT(fs), SEGMENT(gs), SEGMENT(ss), SEGMENT(tr),
	SEGMENT(ldt),
	V(sregs.gdt.base), V(sregs.gdt.limit), V(sregs.idt.base), V(sregs.idt.limit),
	V(sregs.cr0), V(sregs.cr2), V(sregs.cr3), V(sregs.cr4), V(sregs.cr8), V(sregs.efer),
	V(sregs.apic_base), VA(sregs.interrupt_bitmap),
	V(mp.mp_state),
	VA(debug.db), V(debug.dr6), V(debug.dr7),
	V(events.exception.injected), V(events.exception.nr), V(events.exception.has_error_code),
	V(events.exception.pending), V(events.exception.error_code), V(events.interrupt.injected),
	V(events.interrupt.nr), V(events.interrupt.soft), V(events.interrupt.shadow),
	V(events.nmi.injected), V(events.nmi.pending), V(events.nmi.masked),
	V(events.sipi_vector), V(events.flags), V(events.smi.smm), V(events.smi.pending),
	V(events.smi.smm_inside_nmi), V(events.smi.latched_init),
	V(events.exception_has_payload), V(events.exception_payload),
	VA(lapic.regs),
	V(xcrs.nr_xcrs), V(xcrs.xcrs[0].xcr), V(xcrs.xcrs[0].value),
	STATE_VARIABLE(struct vcpu_state, xsave, xsave_len, 1),
	STATE_VARIABLE(struct vcpu_state, msr_index, msrs, 1),
	STATE_VARIABLE(struct vcpu_state, msr_value, msrs, 1),
	V(tsc), V(tsc_khz),
	STATE_VARIABLE(struct vcpu_state, cpuid, cpuid_len, 1),
	{0},
};
#undef SEGMENT
#undef V
#undef VA

const struct state_table vcpu_table = {"vcpu", 1, vcpu_fields};

#define P(m) STATE_SCALAR(struct kvm_pic_state, m, 1)
const struct state_table pic_table = {
	"pic", 1,
	(const struct state_field[]){P(last_irr), P(irr), P(imr), P(isr), P(priority_add), P(irq_base),
				     P(read_reg_select), P(poll), P(special_mask), P(init_state),
				     P(auto_eoi), P(rotate_on_auto_eoi),
				     P(special_fully_nested_mode), P(init4), P(elcr), P(elcr_mask),
				     {0}}};
#undef P

/* kvm_ioapic_state, its entries as the 64-bit registers that they are (82093AA data sheet, 3.2.4). */
struct ioapic {
	uint64_t base_address;
	uint32_t ioregsel, id, irr;
	uint64_t entry[KVM_IOAPIC_NUM_PINS];
};

const struct state_table ioapic_table = {
	"ioapic", 1,
	(const struct state_field[]){STATE_SCALAR(struct ioapic, base_address, 1),
				     STATE_SCALAR(struct ioapic, ioregsel, 1),
				     STATE_SCALAR(struct ioapic, id, 1),
				     STATE_SCALAR(struct ioapic, irr, 1),
				     STATE_ARRAY(struct ioapic, entry, 1), {0}}};

const struct state_table clock_table = {
	"clock", 1, (const struct state_field[]){STATE_SCALAR(struct kvm_clock_data, clock, 1), {0}}};

/* --- a vCPU --- */

/* What is set is only read, though KVM gets a plain pointer for both ways. */
#define CALL(v, request, arg, e) vcpu_call(v, request, (void *)(uintptr_t)(arg), #request, e)

struct kvm_msr_list *vcpu_msr_list(const struct kvm *k, struct err *e)
{
	struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + VCPU_MSRS_MAX * sizeof(list->indices[0]));
	int r;

	if (!list) {
		err_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	list->nmsrs = VCPU_MSRS_MAX;
	r = kvm_ioctl(k->dev, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0) {
		err_set(e, -r, "KVM_GET_MSR_INDEX_LIST failed: %s", strerror(-r));
		free(list);
		return NULL;
	}
	return list;
}

struct msr_buffer {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[VCPU_MSRS_MAX];
};

/* KVM stops at the first MSR that this vCPU does not have (4.18, 4.19 return how many were done);
 * that one is left out and the rest tried. What every x86 CPU has is among those that work.
 */
static int save_msrs(const struct vcpu *v, const struct kvm_msr_list *list, struct vcpu_state *s,
		     struct err *e)
{
	struct msr_buffer b;
	uint32_t at = 0;

	s->msrs = 0;
	while (at < list->nmsrs) {
		int done;

		b.head.nmsrs = list->nmsrs - at;
		for (uint32_t i = at; i < list->nmsrs; i++)
			b.entry[i - at] = (struct kvm_msr_entry){.index = list->indices[i]};
		done = CALL(v, KVM_GET_MSRS, &b, e);
		if (done < 0)
			return done;
		for (int i = 0; i < done; i++, s->msrs++) {
			s->msr_index[s->msrs] = b.entry[i].index;
			s->msr_value[s->msrs] = b.entry[i].data;
		}
		at += (uint32_t)done + 1;
	}
	return 0;
}

/* Puts the timer's deadline, or all other MSRs: the deadline counts from the TSC, so it comes last; one of 0,
 * no timer, is what a new vCPU has. An MSR that cannot be set back would make another machine of it.
 */
static int restore_msrs(const struct vcpu *v, const struct vcpu_state *s, bool deadline, struct err *e)
{
	struct msr_buffer b;
	int r;

	b.head.nmsrs = 0;
	for (uint32_t i = 0; i < s->msrs; i++) {
		/* The TSC is set by its offset, see restore_tsc. */
		if (s->msr_index[i] == MSR_TSC || (s->msr_index[i] == MSR_TSC_DEADLINE) != deadline ||
		    (deadline && !s->msr_value[i]))
			continue;
		b.entry[b.head.nmsrs++] =
			(struct kvm_msr_entry){.index = s->msr_index[i], .data = s->msr_value[i]};
	}
	r = b.head.nmsrs ? CALL(v, KVM_SET_MSRS, &b, e) : 0;
	if (r >= 0 && (uint32_t)r < b.head.nmsrs)
		r = err_set(e, ENOTSUP, "vCPU %u: this host's KVM refuses MSR 0x%x = 0x%llx", v->id,
			    b.entry[r].index, b.entry[r].data);
	return MIN(r, 0);
}

static int get_tsc(const struct vcpu *v, uint64_t *tsc, struct err *e)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} b = {.head.nmsrs = 1, .entry.index = MSR_TSC};
	int r = CALL(v, KVM_GET_MSRS, &b, e);

	*tsc = b.entry.data;
	return r < 0 ? r : r == 1 ? 0 : err_set(e, ENOTSUP, "this KVM does not give the TSC");
}

static int set_tsc(const struct vcpu *v, uint64_t tsc, struct err *e)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} b = {.head.nmsrs = 1, .entry = {.index = MSR_TSC, .data = tsc}};
	int r = CALL(v, KVM_SET_MSRS, &b, e);

	return r < 0 ? r : r == 1 ? 0 : err_set(e, ENOTSUP, "this KVM does not set the TSC");
}

/* A write to the TSC's MSR that is within a second of what KVM expects is taken for an attempt to
 * synchronise vCPUs, and ignored: the clock of a guest younger than that would go back. So the
 * offset is set (api.rst, KVM_VCPU_TSC_OFFSET), where there is that, from Linux 5.16 on. The first
 * vCPU's is computed, all others get the same.
 */
static int restore_tsc(struct vcpu *v, const struct vcpu_state *s, struct err *e)
{
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&v->host->tsc_offset};
	uint64_t now;
	int r;

	if (!v->host->tsc_known) {
		if (kvm_ioctl(v->fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
			return set_tsc(v, s->tsc, e);
		r = get_tsc(v, &now, e);
		if (r < 0)
			return r;
		v->host->tsc_offset += s->tsc - now;
		v->host->tsc_known = true;
	}
	r = CALL(v, KVM_SET_DEVICE_ATTR, &attr, e);
	return MIN(r, 0);
}

/* The area's size is what KVM says for all features that the guest may use (api.rst, 4.42). */
static int save_xsave(const struct vcpu *v, struct vcpu_state *s, struct err *e)
{
	int size = kvm_cap(v->host->kvm, KVM_CAP_XSAVE2);

	s->xsave_len = size ? (uint32_t)size : XSAVE_LEGACY;
	if (s->xsave_len > VCPU_XSAVE_MAX)
		return err_set(e, ENOTSUP, "this host's vector state has %u bytes, uvm saves up to %u",
			       s->xsave_len, VCPU_XSAVE_MAX);
	return size ? CALL(v, KVM_GET_XSAVE2, s->xsave, e) : CALL(v, KVM_GET_XSAVE, s->xsave, e);
}

static int restore_xsave(const struct vcpu *v, struct vcpu_state *s, struct err *e)
{
	int size = kvm_cap(v->host->kvm, KVM_CAP_XSAVE2);

	/* KVM reads as many bytes as it says, whatever the file had: the rest is 0. */
	if (s->xsave_len < XSAVE_LEGACY || (uint32_t)size > VCPU_XSAVE_MAX)
		return err_set(e, EINVAL, "vCPU %u: a vector state of %u bytes cannot be loaded",
			       v->id, s->xsave_len);
	if ((uint32_t)size > s->xsave_len)
		memset(s->xsave + s->xsave_len, 0, (uint32_t)size - s->xsave_len);
	return CALL(v, KVM_SET_XSAVE, s->xsave, e);
}

static void unpack_cpuid(const struct vcpu_state *s, struct vcpu_cpuid *c)
{
	c->head.nent = s->cpuid_len / 7;
	for (uint32_t i = 0; i < c->head.nent; i++) {
		const uint32_t *from = s->cpuid + (size_t)i * 7;

		c->entry[i] = (struct kvm_cpuid_entry2){.function = from[0],
							.index = from[1],
							.flags = from[2],
							.eax = from[3],
							.ebx = from[4],
							.ecx = from[5],
							.edx = from[6]};
	}
}

/* As it was given to KVM: not every KVM gives back by KVM_GET_CPUID2 what it was told. */
static void save_cpuid(const struct vcpu *v, struct vcpu_state *s)
{
	s->cpuid_len = 7 * v->cpuid.head.nent;
	for (uint32_t i = 0; i < v->cpuid.head.nent; i++) {
		const struct kvm_cpuid_entry2 *from = &v->cpuid.entry[i];

		memcpy(s->cpuid + (size_t)i * 7,
		       (const uint32_t[]){from->function, from->index, from->flags, from->eax,
					  from->ebx, from->ecx, from->edx},
		       7 * sizeof(s->cpuid[0]));
	}
}

int vcpu_save(const struct vcpu *v, const struct kvm_msr_list *list, struct vcpu_state *s,
	      struct err *e)
{
	int r;

	memset(s, 0, sizeof(*s));
	/* First: reading it lets KVM take INIT and SIPI that are on their way, which changes all
	 * the rest.
	 */
	r = CALL(v, KVM_GET_MP_STATE, &s->mp, e);
	if (r >= 0)
		r = CALL(v, KVM_GET_REGS, &s->regs, e);
	if (r >= 0)
		r = CALL(v, KVM_GET_SREGS, &s->sregs, e);
	if (r >= 0)
		r = save_xsave(v, s, e);
	if (r >= 0 && kvm_cap(v->host->kvm, KVM_CAP_XCRS)) /* none without XSAVE */
		r = CALL(v, KVM_GET_XCRS, &s->xcrs, e);
	if (r >= 0)
		r = CALL(v, KVM_GET_DEBUGREGS, &s->debug, e);
	if (r >= 0)
		r = CALL(v, KVM_GET_LAPIC, &s->lapic, e);
	save_cpuid(v, s);
	if (r >= 0)
		r = save_msrs(v, list, s, e);
	if (r >= 0)
		r = get_tsc(v, &s->tsc, e);
	/* Last: some of the above move what is pending. */
	if (r >= 0)
		r = CALL(v, KVM_GET_VCPU_EVENTS, &s->events, e);
	if (r < 0)
		return r;
	r = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	s->tsc_khz = (uint32_t)MAX(r, 0);
	return 0;
}

/* Whether the guest has said where its clock's page is (Documentation/virt/kvm/x86/msr.rst). */
static bool has_kvmclock(const struct vcpu_state *s)
{
	for (uint32_t i = 0; i < s->msrs; i++)
		if ((s->msr_index[i] == MSR_KVM_SYSTEM_TIME ||
		     s->msr_index[i] == MSR_KVM_SYSTEM_TIME_NEW) &&
		    s->msr_value[i] & 1)
			return true;
	return false;
}

int vcpu_restore(struct vcpu *v, unsigned int id, struct vcpu_host *host,
		 struct vcpu_state *s, struct err *e)
{
	int r;

	unpack_cpuid(s, &v->cpuid);
	r = vcpu_init(v, id, host, &v->cpuid.head, e); /* CPUID first: the rest is checked against it */
	if (r)
		return r;
	/* The VM's rate, which a new vCPU has; before Linux 5.18 only vCPUs are asked. */
	if (s->tsc_khz && kvm_ioctl(host->kvm->vm, KVM_GET_TSC_KHZ, NULL) != (int)s->tsc_khz)
		kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)s->tsc_khz);
	r = CALL(v, KVM_SET_MP_STATE, &s->mp, e);
	if (r >= 0)
		r = CALL(v, KVM_SET_REGS, &s->regs, e);
	if (r >= 0)
		r = CALL(v, KVM_SET_SREGS, &s->sregs, e);
	if (r >= 0 && s->xcrs.nr_xcrs)
		r = CALL(v, KVM_SET_XCRS, &s->xcrs, e);
	if (r >= 0)
		r = restore_xsave(v, s, e);
	if (r >= 0)
		r = CALL(v, KVM_SET_DEBUGREGS, &s->debug, e);
	if (r >= 0)
		r = restore_tsc(v, s, e);
	/* After sregs, whose APIC base it needs; before the MSRs, whose deadline it would drop. */
	if (r >= 0)
		r = CALL(v, KVM_SET_LAPIC, &s->lapic, e);
	if (r >= 0)
		r = restore_msrs(v, s, false, e);
	if (r >= 0)
		r = restore_msrs(v, s, true, e);
	if (r >= 0)
		r = CALL(v, KVM_SET_VCPU_EVENTS, &s->events, e);
	if (r >= 0 && has_kvmclock(s))
		vcpu_stood_still(v);
	return MIN(r, 0);
}

/* A timer that counts down, and not to a deadline (SDM 3, 11.5.4), has gone on, and may have fired. What
 * devices have raised since stays.
 */
static int restore_countdown(const struct vcpu *v, const struct vcpu_state *s, struct err *e)
{
	struct kvm_lapic_state now;
	uint32_t mode, count;
	int r;

	memcpy(&mode, s->lapic.regs + LAPIC_LVT_TIMER, sizeof(mode));
	memcpy(&count, s->lapic.regs + LAPIC_TIMER_INITIAL, sizeof(count));
	if (!count || mode & LAPIC_TIMER_DEADLINE)
		return 0;
	r = CALL(v, KVM_GET_LAPIC, &now, e);
	if (r < 0)
		return r;
	memcpy(now.regs + LAPIC_TIMER_CURRENT, s->lapic.regs + LAPIC_TIMER_CURRENT, sizeof(count));
	return CALL(v, KVM_SET_LAPIC, &now, e);
}

int vcpu_restore_clocks(struct vcpu *v, const struct vcpu_state *s, struct err *e)
{
	int r = restore_tsc(v, s, e);

	if (r >= 0)
		r = restore_countdown(v, s, e);
	if (r >= 0)
		r = restore_msrs(v, s, true, e);
	if (r >= 0 && has_kvmclock(s))
		vcpu_stood_still(v);
	return MIN(r, 0);
}

void vcpu_stood_still(const struct vcpu *v)
{
	kvm_ioctl(v->fd, KVM_KVMCLOCK_CTRL, NULL); /* EINVAL: the guest does not use kvmclock */
}

/* --- the VM --- */

#define VM_CALL(k, request, arg, e) kvm_vm_call(k, request, arg, #request, e)

static int pic_state(const struct kvm *k, uint32_t which, struct state_visitor *v, struct err *e)
{
	struct kvm_irqchip c = {.chip_id = which};
	int r = state_loading(v) ? 0 : VM_CALL(k, KVM_GET_IRQCHIP, &c, e);

	if (!r)
		r = state_visit(v, &pic_table, which, &c.chip.pic, e);
	return r || !state_loading(v) ? r : VM_CALL(k, KVM_SET_IRQCHIP, &c, e);
}

static int ioapic_state(const struct kvm *k, struct state_visitor *v, struct err *e)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_ioapic_state *io = &c.chip.ioapic;
	int r = state_loading(v) ? 0 : VM_CALL(k, KVM_GET_IRQCHIP, &c, e);
	struct ioapic s = {io->base_address, io->ioregsel, io->id, io->irr, {0}};

	for (unsigned int i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		s.entry[i] = io->redirtbl[i].bits;
	if (!r)
		r = state_visit(v, &ioapic_table, 0, &s, e);
	if (r || !state_loading(v))
		return r;
	io->base_address = s.base_address;
	io->ioregsel = s.ioregsel;
	io->id = s.id;
	io->irr = s.irr;
	for (unsigned int i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		io->redirtbl[i].bits = s.entry[i];
	return VM_CALL(k, KVM_SET_IRQCHIP, &c, e);
}

int kvm_clock_state(const struct kvm *k, struct state_visitor *v, struct err *e)
{
	struct kvm_clock_data c = {0};
	int r = state_loading(v) ? 0 : VM_CALL(k, KVM_GET_CLOCK, &c, e);

	if (!r)
		r = state_visit(v, &clock_table, 0, &c, e);
	/* flags 0: go on from there, whatever the host's clocks did meanwhile (4.30). */
	c.flags = 0;
	return r || !state_loading(v) ? r : VM_CALL(k, KVM_SET_CLOCK, &c, e);
}

int kvm_vm_state(const struct kvm *k, struct state_visitor *v, struct err *e)
{
	int r = kvm_clock_state(k, v, e);

	if (!r)
		r = pic_state(k, KVM_IRQCHIP_PIC_MASTER, v, e);
	if (!r)
		r = pic_state(k, KVM_IRQCHIP_PIC_SLAVE, v, e);
	return r ? r : ioapic_state(k, v, e);
}

/* --- another host --- */

int vcpu_check_host(const struct kvm *k, const struct vcpu_state *s, struct err *e)
{
	struct kvm_cpuid2 *supported = NULL;
	struct vcpu_cpuid guest;
	char missing[300];
	int r = kvm_supported_cpuid(k, &supported, e);

	unpack_cpuid(s, &guest);
	if (!r && cpuid_missing(&guest.head, supported, missing, sizeof(missing)))
		r = err_set(e, ENOTSUP,
			    "this host lacks CPU features that the snapshot's guest uses:%s; boot "
			    "the template with --cpu-template baseline for snapshots that move",
			    missing);
	free(supported);
	return r;
}
