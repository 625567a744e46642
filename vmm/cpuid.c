/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Leaves and fields: Intel SDM volume 2 "CPUID"; AMD APM volume 3, appendix E. */
#define L1_ECX_VMX	    (1u << 5)
#define L1_ECX_TSC_DEADLINE (1u << 24)
#define L1_ECX_HYPERVISOR   (1u << 31)
#define L1_EDX_HTT	    (1u << 28)
#define X1_ECX_SVM	    (1u << 2)
#define X1_ECX_PERFCTR	    (7u << 23 | 1u << 28) /* AMD core, NB and L2 counters */
#define TOPOLOGY_SMT	    1u
#define TOPOLOGY_CORE	    2u

/* Bits that an APIC id needs for cpus CPUs. */
static uint32_t id_bits(uint32_t cpus)
{
	return cpus > 1 ? 32 - (uint32_t)__builtin_clz(cpus - 1) : 0;
}

static void put(uint32_t *reg, unsigned int shift, unsigned int bits, uint32_t value)
{
	uint32_t mask = ((1u << bits) - 1) << shift;

	*reg = (*reg & ~mask) | (value << shift & mask);
}

/* Leaves 0xb and 0x1f: level 0 is the threads of a core (one), level 1 the cores. */
static void adapt_topology(struct kvm_cpuid_entry2 *c, uint32_t cpus)
{
	bool core = c->index == 1;

	c->eax = core ? id_bits(cpus) : 0;
	c->ebx = core ? cpus : c->index == 0;
	c->ecx = c->index | (core ? TOPOLOGY_CORE : c->index == 0 ? TOPOLOGY_SMT : 0) << 8;
}

static void adapt_leaf(struct kvm_cpuid_entry2 *c, uint32_t cpus, bool deadline)
{
	uint32_t level = c->eax >> 5 & 7;

	switch (c->function) {
	case 1:
		put(&c->ebx, 16, 8, cpus);
		c->ecx &= ~L1_ECX_VMX; /* nor a guest's guests: nobody saves their state */
		c->ecx |= L1_ECX_HYPERVISOR | (deadline ? L1_ECX_TSC_DEADLINE : 0);
		if (cpus > 1)
			c->edx |= L1_EDX_HTT;
		break;
	case 4: /* Intel's caches: all but the last level are a core's own */
		if (!(c->eax & 0x1f))
			break;
		put(&c->eax, 14, 12, level >= 3 ? cpus - 1 : 0);
		put(&c->eax, 26, 6, cpus - 1);
		break;
	case 0x8000000a: /* what SVM can, which is not offered */
	case 0xa:	 /* No performance counters: nobody saves them yet. */
		c->eax = c->ebx = c->ecx = c->edx = 0;
		break;
	case 0xb:
	case 0x1f: adapt_topology(c, cpus); break;
	case 0x80000001: c->ecx &= ~(X1_ECX_PERFCTR | X1_ECX_SVM); break;
	case 0x80000008:
		put(&c->ecx, 0, 8, cpus - 1);
		put(&c->ecx, 12, 4, id_bits(cpus));
		break;
	case 0x8000001d: /* AMD's caches, as leaf 4 */
		if (c->eax & 0x1f)
			put(&c->eax, 14, 12, level >= 3 ? cpus - 1 : 0);
		break;
	case 0x8000001e: c->ebx = c->ecx = 0; break; /* one thread a core, one node */
	}
}

void cpuid_adapt(struct kvm_cpuid2 *table, unsigned int cpus, bool deadline)
{
	for (uint32_t i = 0; i < table->nent; i++)
		adapt_leaf(&table->entries[i], cpus, deadline);
}

void cpuid_number(struct kvm_cpuid2 *table, unsigned int id)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *c = &table->entries[i];

		switch (c->function) {
		case 1: put(&c->ebx, 24, 8, id); break;
		case 0xb:
		case 0x1f: c->edx = id; break;
		case 0x8000001e:
			c->eax = id;
			put(&c->ebx, 0, 8, id);
			break;
		}
	}
}

/* Registers that are lists of features, a bit each. */
static const struct {
	uint32_t function, index;
	uint8_t reg;	   /* 0 eax to 3 edx */
	uint32_t baseline; /* what CPUID_BASELINE leaves */
	uint32_t ignore;   /* bits that KVM_GET_SUPPORTED_CPUID need not have for a guest to have them */
} features[] = {
	/* SSE3, SSSE3, CX16, SSE4.1, SSE4.2, x2APIC, POPCNT; the TSC deadline timer, OSXSAVE and the
	 * hypervisor bit are not the CPU's.
	 */
	{1, 0, 2, 0x81b82201, 0x89000000},
	{1, 0, 3, 0x178bfbff, L1_EDX_HTT},
	{7, 0, 1, 0x00100081, 0},     /* FSGSBASE, SMEP, SMAP */
	{7, 0, 2, 0, 1u << 4},	      /* OSPKE says what the guest has switched on */
	{7, 0, 3, 0xbc000400, 0},     /* MD_CLEAR, IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD */
	{7, 1, 0, 0, 0},
	{0xd, 0, 0, 0, 0},	      /* no XSAVE, so none of its parts */
	{0xd, 1, 0, 0, 0},
	{0x40000001, 0, 0, 0x01000aeb, 0}, /* KVM's clocks, steal time, PV EOI, unhalt, TLB flush, IPI */
	{0x80000001, 0, 2, 0x00400001, 0}, /* LAHF; TOPOEXT, which describes */
	{0x80000001, 0, 3, 0x2993fbff, 0}, /* SYSCALL, NX, RDTSCP, LM, and leaf 1 once more */
	{0x80000008, 0, 1, 0xfffff000, 0}, /* IBPB, IBRS, STIBP, SSBD and their kin */
};

static uint32_t *reg_of(struct kvm_cpuid_entry2 *c, unsigned int reg)
{
	uint32_t *const regs[] = {&c->eax, &c->ebx, &c->ecx, &c->edx};

	return regs[reg];
}

static uint32_t value_in(const struct kvm_cpuid2 *table, uint32_t function, uint32_t index,
			 unsigned int reg)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 c = table->entries[i];

		if (c.function == function && c.index == index)
			return *reg_of(&c, reg);
	}
	return 0;
}

void cpuid_limit(struct kvm_cpuid2 *table)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *c = &table->entries[i];

		for (size_t f = 0; f < ARRAY_SIZE(features); f++)
			if (c->function == features[f].function && c->index == features[f].index)
				*reg_of(c, features[f].reg) &= features[f].baseline;
		if (c->function == 0xd) /* the sizes of what is not there */
			c->eax = c->ebx = c->ecx = c->edx = 0;
	}
}

unsigned int cpuid_missing(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			   char *text, size_t size)
{
	static const char *const name[] = {"eax", "ebx", "ecx", "edx"};
	unsigned int found = 0;
	size_t n = 0;

	*text = 0;
	/* Leaf 0 names the vendor, after which a kernel has chosen its instructions. */
	for (unsigned int reg = 1; reg < 4 && !found; reg++)
		found = value_in(guest, 0, 0, reg) != value_in(supported, 0, 0, reg);
	if (found)
		n = (size_t)snprintf(text, size, " the CPU's vendor");
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		uint32_t function = features[f].function, index = features[f].index;
		unsigned int reg = features[f].reg;
		uint32_t lack = value_in(guest, function, index, reg) & ~features[f].ignore &
				~value_in(supported, function, index, reg);

		if (lack && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s CPUID 0x%x.%u %s bits 0x%x",
					      found ? "," : "", function, index, name[reg], lack);
		found += lack != 0;
	}
	return found;
}

int cpuid_set_template(void *to, const char *value, struct err *e)
{
	enum cpuid_template *t = to;

	*t = !strcmp(value, "baseline") ? CPUID_BASELINE : CPUID_HOST;
	return *t == CPUID_HOST && strcmp(value, "host")
		       ? err_set(e, EINVAL, "'%s' is neither 'host' nor 'baseline'", value)
		       : 0;
}

int cpuid_make(const struct kvm *k, unsigned int cpus, enum cpuid_template template,
	       struct kvm_cpuid2 **table, struct err *e)
{
	int r = kvm_supported_cpuid(k, table, e);

	if (!r)
		cpuid_adapt(*table, cpus, kvm_cap(k, KVM_CAP_TSC_DEADLINE_TIMER));
	if (!r && template == CPUID_BASELINE)
		cpuid_limit(*table);
	return r;
}
