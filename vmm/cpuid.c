/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid.h"

/* Leaves and fields: Intel SDM volume 2 "CPUID"; AMD APM volume 3, appendix E. */
#define L1_ECX_TSC_DEADLINE (1u << 24)
#define L1_ECX_HYPERVISOR   (1u << 31)
#define L1_EDX_HTT	    (1u << 28)
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
	case 0xa: /* No performance counters: nobody saves them yet. */
		c->eax = c->ebx = c->ecx = c->edx = 0;
		break;
	case 0xb:
	case 0x1f: adapt_topology(c, cpus); break;
	case 0x80000001: c->ecx &= ~X1_ECX_PERFCTR; break;
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

int cpuid_make(const struct kvm *k, unsigned int cpus, struct kvm_cpuid2 **table, struct err *e)
{
	int r = kvm_supported_cpuid(k, table, e);

	if (!r)
		cpuid_adapt(*table, cpus, kvm_cap(k, KVM_CAP_TSC_DEADLINE_TIMER));
	return r;
}
