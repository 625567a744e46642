/* SPDX-License-Identifier: Apache-2.0
 *
 * CPUID as the guest gets it, made from a table that stands for a host's.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/util.h"
#include "vmm/cpuid.h"

#define ONES UINT32_MAX

/* All registers full, so that what is not cleared shows. */
static const struct kvm_cpuid_entry2 host[] = {
	{.function = 0, .eax = 0x1f, .ebx = 1, .ecx = 2, .edx = 3},
	{.function = 1, .eax = ONES, .ebx = ONES, .ecx = 0, .edx = 0},
	{.function = 4, .index = 0, .eax = 0xffffff21}, /* data, level 1 */
	{.function = 4, .index = 1, .eax = 0xffffff63}, /* unified, level 3 */
	{.function = 4, .index = 2, .eax = 0},
	{.function = 0xa, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0xb, .index = 0, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0xb, .index = 1, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0xb, .index = 2, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0x1f, .index = 1, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0x40000000, .eax = 5, .ebx = 6, .ecx = 7, .edx = 8},
	{.function = 0x80000001, .ecx = ONES, .edx = ONES},
	{.function = 0x80000008, .eax = ONES, .ecx = ONES},
	{.function = 0x8000000a, .eax = ONES, .ebx = ONES, .ecx = ONES, .edx = ONES},
	{.function = 0x8000001d, .index = 0, .eax = 0x21},
	{.function = 0x8000001d, .index = 3, .eax = 0x63 | 0xffu << 14},
	{.function = 0x8000001e, .eax = ONES, .ebx = ONES, .ecx = ONES},
};

static struct kvm_cpuid2 *table;

static void adapt(unsigned int cpus, bool deadline)
{
	table->nent = ARRAY_SIZE(host);
	memcpy(table->entries, host, sizeof(host));
	cpuid_adapt(table, cpus, deadline);
}

static void setup(void)
{
	table = calloc(1, sizeof(*table) + sizeof(host));
	ck_that(table);
}

static void teardown(void)
{
	free(table);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	ck_abort_msg("leaf %x.%u is gone", function, index);
	return NULL;
}

static uint32_t field(uint32_t v, unsigned int shift, unsigned int bits)
{
	return v >> shift & ((1u << bits) - 1);
}

/* What each number of CPUs makes of the topology: bits of an APIC id that number them. */
static const struct {
	uint32_t cpus, bits;
} sizes[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}, {31, 5}, {32, 5}};

START_TEST(topology_of_leaf_1)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		adapt(sizes[i].cpus, false);
		ck_assert_uint_eq(field(leaf(1, 0)->ebx, 16, 8), sizes[i].cpus);
		ck_assert_uint_eq(field(leaf(1, 0)->ebx, 0, 16), 0xffff); /* not ours */
		ck_assert_uint_eq(leaf(1, 0)->edx, sizes[i].cpus > 1 ? 1u << 28 : 0);
	}
}
END_TEST

START_TEST(topology_of_leaf_b)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct kvm_cpuid_entry2 *l;

		adapt(sizes[i].cpus, false);
		l = leaf(0xb, 0); /* one thread in a core */
		ck_assert_uint_eq(l->eax, 0);
		ck_assert_uint_eq(l->ebx, 1);
		ck_assert_uint_eq(l->ecx, 1u << 8);
		l = leaf(0xb, 1); /* cores in the package */
		ck_assert_uint_eq(l->eax, sizes[i].bits);
		ck_assert_uint_eq(l->ebx, sizes[i].cpus);
		ck_assert_uint_eq(l->ecx, 2u << 8 | 1);
		l = leaf(0xb, 2); /* the end */
		ck_assert_uint_eq(l->eax | l->ebx, 0);
		ck_assert_uint_eq(l->ecx, 2);
		ck_assert_uint_eq(leaf(0x1f, 1)->ebx, sizes[i].cpus);
	}
}
END_TEST

START_TEST(topology_of_amd)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t ecx;

		adapt(sizes[i].cpus, false);
		ecx = leaf(0x80000008, 0)->ecx;
		ck_assert_uint_eq(field(ecx, 0, 8), sizes[i].cpus - 1);
		ck_assert_uint_eq(field(ecx, 12, 4), sizes[i].bits);
		ck_assert_uint_eq(leaf(0x80000008, 0)->eax, ONES);
		ck_assert_uint_eq(field(leaf(0x8000001e, 0)->ebx, 8, 8), 0); /* threads - 1 */
		ck_assert_uint_eq(field(leaf(0x8000001e, 0)->ecx, 8, 3), 0); /* nodes - 1 */
	}
}
END_TEST

/* A core has its own first-level cache; the last level is everybody's. */
START_TEST(caches)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		adapt(sizes[i].cpus, false);
		ck_assert_uint_eq(field(leaf(4, 0)->eax, 14, 12), 0);
		ck_assert_uint_eq(field(leaf(4, 0)->eax, 26, 6), sizes[i].cpus - 1);
		ck_assert_uint_eq(field(leaf(4, 1)->eax, 14, 12), sizes[i].cpus - 1);
		ck_assert_uint_eq(leaf(4, 2)->eax, 0);
		ck_assert_uint_eq(field(leaf(0x8000001d, 0)->eax, 14, 12), 0);
		ck_assert_uint_eq(field(leaf(0x8000001d, 3)->eax, 14, 12), sizes[i].cpus - 1);
		ck_assert_uint_eq(field(leaf(0x8000001d, 3)->eax, 0, 8), 0x63);
	}
}
END_TEST

START_TEST(features)
{
	const uint32_t hypervisor = 1u << 31, deadline = 1u << 24;

	adapt(1, false);
	ck_assert_uint_eq(leaf(1, 0)->ecx, hypervisor);
	adapt(1, true);
	ck_assert_uint_eq(leaf(1, 0)->ecx, hypervisor | deadline);
}
END_TEST

/* Nobody saves performance counters or a guest's own guests: neither Intel's nor AMD's are offered. */
START_TEST(nothing_that_is_not_saved)
{
	const struct kvm_cpuid_entry2 *l;

	adapt(2, true);
	l = leaf(0xa, 0);
	ck_assert_uint_eq(l->eax | l->ebx | l->ecx | l->edx, 0);
	l = leaf(0x8000000a, 0);
	ck_assert_uint_eq(l->eax | l->ebx | l->ecx | l->edx, 0);
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx, ONES & ~(7u << 23 | 1u << 28 | 1u << 2));
	ck_assert_uint_eq(leaf(0x80000001, 0)->edx, ONES);
}
END_TEST

START_TEST(no_virtualisation_on_intel)
{
	table->nent = 1;
	table->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = ONES};
	cpuid_adapt(table, 1, true);
	ck_assert_uint_eq(table->entries[0].ecx, ONES & ~(1u << 5));
}
END_TEST

/* What is left is a subset; AVX, XSAVE and AES are gone, SSE4.2 and the mitigations are not. */
START_TEST(baseline)
{
	static const struct kvm_cpuid_entry2 full[] = {
		{.function = 1, .eax = 1, .ebx = 2, .ecx = ONES, .edx = ONES},
		{.function = 7, .index = 0, .eax = 1, .ebx = ONES, .ecx = ONES, .edx = ONES},
		{.function = 0xd, .index = 0, .eax = 7, .ebx = 832, .ecx = 832},
		{.function = 0xd, .index = 2, .eax = 256, .ebx = 576},
		{.function = 0x80000008, .eax = 0x3030, .ebx = ONES},
	};

	table->nent = ARRAY_SIZE(full);
	memcpy(table->entries, full, sizeof(full));
	cpuid_limit(table);
	ck_assert_uint_eq(leaf(1, 0)->eax, 1);
	ck_assert_uint_eq(leaf(1, 0)->ebx, 2);
	ck_assert_uint_eq(leaf(1, 0)->ecx & (1u << 12 | 1u << 25 | 7u << 26 | 1u << 29), 0);
	ck_assert_uint_eq(leaf(1, 0)->ecx & (1u | 1u << 9 | 3u << 19 | 1u << 31),
			  1u | 1u << 9 | 3u << 19 | 1u << 31);
	ck_assert_uint_eq(leaf(7, 0)->ebx & (1u << 5 | 1u << 16), 0);
	ck_assert_uint_eq(leaf(7, 0)->edx & (1u << 26 | 1u << 27 | 1u << 31),
			  1u << 26 | 1u << 27 | 1u << 31);
	ck_assert_uint_eq(leaf(0xd, 0)->ebx | leaf(0xd, 2)->eax, 0);
	ck_assert_uint_eq(leaf(0x80000008, 0)->eax, 0x3030);
	ck_assert_uint_eq(leaf(0x80000008, 0)->ebx & (1u << 12 | 1u << 24), 1u << 12 | 1u << 24);
}
END_TEST

/* Each feature that the guest has and the host has not is named; what the host has more is not. */
START_TEST(what_another_host_lacks)
{
	struct kvm_cpuid2 *guest = calloc(1, sizeof(*guest) + 2 * sizeof(guest->entries[0]));
	char text[128], small[8];

	ck_that(guest);
	guest->nent = 2;
	guest->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = 1u << 12 | 1u << 31};
	guest->entries[1] = (struct kvm_cpuid_entry2){.function = 7, .ebx = 1u << 5 | 1u << 16};
	table->nent = 2;
	table->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = 3u << 12};
	table->entries[1] = (struct kvm_cpuid_entry2){.function = 7, .ebx = 1u << 5};
	ck_assert_uint_eq(cpuid_missing(guest, table, text, sizeof(text)), 1);
	ck_assert_str_eq(text, " CPUID 0x7.0 ebx bits 0x10000");
	table->entries[0].ecx = 0;
	table->nent = 1;
	ck_assert_uint_eq(cpuid_missing(guest, table, text, sizeof(text)), 2);
	ck_assert_str_eq(text, " CPUID 0x1.0 ecx bits 0x1000, CPUID 0x7.0 ebx bits 0x10020");
	ck_assert_uint_eq(cpuid_missing(guest, table, small, sizeof(small)), 2);
	ck_assert_uint_eq(strlen(small), sizeof(small) - 1);
	ck_assert_uint_eq(cpuid_missing(guest, guest, text, sizeof(text)), 0);
	guest->entries[0] = (struct kvm_cpuid_entry2){.function = 0, .ecx = 1};
	guest->nent = 1;
	ck_assert_uint_eq(cpuid_missing(guest, table, text, sizeof(text)), 1);
	ck_assert_str_eq(text, " the CPU's vendor");
	free(guest);
}
END_TEST

START_TEST(the_rest_is_the_hosts)
{
	adapt(2, true);
	ck_assert(!memcmp(leaf(0, 0), &host[0], sizeof(host[0])));
	ck_assert(!memcmp(leaf(0x40000000, 0), &host[10], sizeof(host[0])));
}
END_TEST

START_TEST(numbers)
{
	adapt(32, true);
	for (uint32_t id = 0; id < 32; id++) {
		cpuid_number(table, id);
		ck_assert_uint_eq(leaf(1, 0)->ebx >> 24, id);
		ck_assert_uint_eq(field(leaf(1, 0)->ebx, 16, 8), 32);
		for (uint32_t i = 0; i < 3; i++)
			ck_assert_uint_eq(leaf(0xb, i)->edx, id);
		ck_assert_uint_eq(leaf(0x1f, 1)->edx, id);
		ck_assert_uint_eq(leaf(0x8000001e, 0)->eax, id);
		ck_assert_uint_eq(field(leaf(0x8000001e, 0)->ebx, 0, 8), id);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		topology_of_leaf_1, topology_of_leaf_b,	     topology_of_amd,	    caches,
		features,	    nothing_that_is_not_saved, the_rest_is_the_hosts, numbers,
		no_virtualisation_on_intel, baseline, what_another_host_lacks,
	};

	return run_tests("cpuid", tests, ARRAY_SIZE(tests), setup, teardown);
}
