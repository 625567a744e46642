/* SPDX-License-Identifier: Apache-2.0
 *
 * floor: what it costs at least to run a VM on from a snapshot: only the calls of KVM that have to
 * be made, and the vCPU's thread, with no checks, no files but the state and the memory, no devices
 * behind their interrupt lines and doorbell, no run directory. uvm clone is measured beside it.
 *
 * The lines are those of uvm's machine without disks: COM1, the generic event device, vsock, balloon.
 *
 * usage: floor prepare SNAPSHOT FILE   takes the state out of a snapshot of one vCPU
 *        floor run FILE MEMORY         runs it to its first exit, which is the guest's output of a
 *                                      character; passes that on, and prints the time since main
 *
 * "prepare" reads the snapshot with uvm's own code; "run" uses nothing of uvm but the structure that
 * "prepare" wrote as it lies in memory, and where memory lies (vmm/mem.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "devices/virtio_mmio.h"
#include "snapshot/snapshot.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/vcpu_state.h"

#define MSR_TSC 0x10u

struct flat {
	uint64_t memory; /* bytes, all below 3 GiB */
	struct vcpu_state vcpu;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[VCPU_CPUID_MAX];
	} cpuid;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[VCPU_MSRS_MAX];
	} msrs;
	struct kvm_irqchip pic[2];
	struct kvm_clock_data clock;
};

static struct flat flat;

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int call(int fd, unsigned long request, const void *arg, const char *name)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		fail(name);
	return r;
}
#define CALL(fd, request, arg) call(fd, request, (const void *)(arg), #request)

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- prepare --- */

static int prepare(const char *path, const char *file)
{
	static struct snapshot s;
	struct state_visitor v = {.r = &s.state};
	struct vcpu_state *cpu = &flat.vcpu;
	struct err e;
	int fd, r = snapshot_open(&s, path, SNAPSHOT_UNLESS_SEALED, &e);

	if (!r)
		r = state_visit(&v, &vcpu_table, 0, cpu, &e);
	for (unsigned int i = 0; i < 2 && !r; i++) {
		flat.pic[i].chip_id = i;
		r = state_visit(&v, &pic_table, i, &flat.pic[i].chip.pic, &e);
	}
	if (!r)
		r = state_visit(&v, &clock_table, 0, &flat.clock, &e);
	if (r) {
		fprintf(stderr, "floor: %s\n", e.text);
		return 1;
	}
	flat.memory = s.m.memory;
	flat.clock.flags = 0;
	flat.cpuid.head.nent = cpu->cpuid_len / 7;
	for (uint32_t i = 0; i < flat.cpuid.head.nent; i++) {
		const uint32_t *c = cpu->cpuid + (size_t)i * 7;

		flat.cpuid.entry[i] = (struct kvm_cpuid_entry2){.function = c[0],
								.index = c[1],
								.flags = c[2],
								.eax = c[3],
								.ebx = c[4],
								.ecx = c[5],
								.edx = c[6]};
	}
	for (uint32_t i = 0; i < cpu->msrs; i++)
		if (cpu->msr_index[i] != MSR_TSC)
			flat.msrs.entry[flat.msrs.head.nmsrs++] = (struct kvm_msr_entry){
				.index = cpu->msr_index[i], .data = cpu->msr_value[i]};
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, &flat, sizeof(flat)) != sizeof(flat))
		fail(file);
	return 0;
}

/* --- run --- */

/* The guest's TSC goes on from where it stood: its offset, from what the new vCPU has. */
static void restore_tsc(int cpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} tsc = {.head.nmsrs = 1, .entry.index = MSR_TSC};
	uint64_t offset;
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&offset};

	CALL(cpu, KVM_GET_DEVICE_ATTR, &attr);
	CALL(cpu, KVM_GET_MSRS, &tsc);
	offset += flat.vcpu.tsc - tsc.entry.data;
	CALL(cpu, KVM_SET_DEVICE_ATTR, &attr);
}

static int restored_vcpu(int vm)
{
	const struct vcpu_state *s = &flat.vcpu;
	int cpu = CALL(vm, KVM_CREATE_VCPU, 0);

	CALL(cpu, KVM_SET_CPUID2, &flat.cpuid);
	CALL(cpu, KVM_SET_MP_STATE, &s->mp);
	CALL(cpu, KVM_SET_REGS, &s->regs);
	CALL(cpu, KVM_SET_SREGS, &s->sregs);
	if (s->xcrs.nr_xcrs)
		CALL(cpu, KVM_SET_XCRS, &s->xcrs);
	CALL(cpu, KVM_SET_XSAVE, s->xsave);
	CALL(cpu, KVM_SET_DEBUGREGS, &s->debug);
	restore_tsc(cpu);
	CALL(cpu, KVM_SET_LAPIC, &s->lapic);
	CALL(cpu, KVM_SET_MSRS, &flat.msrs);
	CALL(cpu, KVM_SET_VCPU_EVENTS, &s->events);
	return cpu;
}

static void add_line(int vm, unsigned int gsi)
{
	struct kvm_irqfd line = {.fd = (uint32_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .gsi = gsi};

	CALL(vm, KVM_IRQFD, &line);
}

static void add_lines(int vm)
{
	struct kvm_ioeventfd bell = {.addr = LAYOUT_VIRTIO + VIRTIO_MMIO_NOTIFY,
				     .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

	add_line(vm, LAYOUT_COM1_GSI);
	add_line(vm, LAYOUT_EVENT_GSI);
	add_line(vm, LAYOUT_VIRTIO_GSI);
	add_line(vm, LAYOUT_VIRTIO_GSI + 1);
	CALL(vm, KVM_IOEVENTFD, &bell);
}

struct vcpu_run {
	int cpu;
	uint64_t exited; /* when */
};

/* A thread of its own, as the vCPU of a VM has that can be talked to. */
static void *vcpu_thread(void *arg)
{
	struct vcpu_run *run = arg;

	CALL(run->cpu, KVM_RUN, 0);
	run->exited = now();
	return NULL;
}

/* A slot, or two: below the hole that devices are in, and behind it. */
static void add_memory(int vm, char *map)
{
	struct kvm_userspace_memory_region slot = {0};
	uint64_t low = flat.memory < MEM_HOLE_START ? flat.memory : MEM_HOLE_START;

	slot.memory_size = low;
	slot.userspace_addr = (uintptr_t)map;
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	if (low == flat.memory)
		return;
	slot.slot = 1;
	slot.guest_phys_addr = MEM_HOLE_END;
	slot.memory_size = flat.memory - low;
	slot.userspace_addr = (uintptr_t)map + low;
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int run(const char *file, const char *path, uint64_t start)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC), memory = open(path, O_RDONLY | O_CLOEXEC);
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	struct vcpu_run vcpu;
	uint64_t identity = 0xfffbc000;
	struct kvm_run *page;
	pthread_t thread;
	void *map;

	if (fd < 0 || memory < 0 || kvm < 0 || read(fd, &flat, sizeof(flat)) != sizeof(flat))
		fail("open");
	map = mmap(NULL, flat.memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, memory,
		   0);
	if (map == MAP_FAILED)
		fail("mmap");
	vm = CALL(kvm, KVM_CREATE_VM, 0);
	add_memory(vm, map);
	CALL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	CALL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	CALL(vm, KVM_CREATE_IRQCHIP, 0);
	vcpu.cpu = restored_vcpu(vm);
	CALL(vm, KVM_SET_CLOCK, &flat.clock);
	CALL(vm, KVM_SET_IRQCHIP, &flat.pic[0]);
	CALL(vm, KVM_SET_IRQCHIP, &flat.pic[1]);
	add_lines(vm);
	page = mmap(NULL, (size_t)CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		    MAP_SHARED, vcpu.cpu, 0);
	if (page == MAP_FAILED)
		fail("mmap of the run page");
	errno = pthread_create(&thread, NULL, vcpu_thread, &vcpu);
	if (errno || pthread_join(thread, NULL))
		fail("the vCPU's thread");
	start = vcpu.exited - start;
	if (page->exit_reason != KVM_EXIT_IO)
		fail("the guest's first exit is not a character");
	fprintf(stderr, "first exit %.3f\n", (double)start / 1e6); /* first: then it is killed */
	if (write(1, (char *)page + page->io.data_offset, 1) != 1)
		fail("standard output");
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t start = now();

	if (argc == 4 && !strcmp(argv[1], "prepare"))
		return prepare(argv[2], argv[3]);
	if (argc == 4 && !strcmp(argv[1], "run"))
		return run(argv[2], argv[3], start);
	fprintf(stderr, "usage: floor prepare SNAPSHOT FILE | floor run FILE MEMORY\n");
	return 2;
}
