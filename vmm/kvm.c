/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define KVM_PATH "/dev/kvm"

/* Intel VT-x wants four pages that the guest does not use: three for a TSS and one for page
 * tables, both for emulated real mode (4.13, 4.31). Right below the end of the device hole.
 */
#define TSS_ADDR      0xfffbd000ull
#define IDENTITY_ADDR 0xfffbc000ull

const struct kvm_cap kvm_caps[] = {
	{KVM_CAP_USER_MEMORY, "USER_MEMORY", true, "guest memory is the monitor's own"},
	{KVM_CAP_IRQCHIP, "IRQCHIP", true, "interrupt controllers in the kernel"},
	{KVM_CAP_IRQFD, "IRQFD", true, "devices interrupt through an eventfd"},
	{KVM_CAP_IOEVENTFD, "IOEVENTFD", true,
	 "queue notifications without a return to the vCPU thread"},
	{KVM_CAP_EXT_CPUID, "EXT_CPUID", true, "CPU features are chosen for the guest"},
	{KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", true, "a vCPU can be stopped without a race"},
	{KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH", false,
	 "notifications of any width, fastest on VT-x"},
	{KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", false,
	 "guest timers without calibration"},
	{KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ", false, "the guest is told its clock rate"},
	{KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", false, "the guest's clock can be saved and set"},
	{KVM_CAP_XSAVE2, "XSAVE2", false, "large vector state can be saved"},
	{0},
};

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, (int)request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_vm_call(const struct kvm *k, unsigned long request, void *arg, const char *name,
		struct err *e)
{
	int r = kvm_ioctl(k->vm, request, arg);

	return r < 0 ? err_set(e, -r, "%s failed: %s", name, strerror(-r)) : 0;
}

int kvm_open(struct kvm *k, struct err *e)
{
	int version;

	*k = (struct kvm){.dev = -1, .vm = -1};
	k->dev = open(KVM_PATH, O_RDWR | O_CLOEXEC);
	if (k->dev < 0 && errno == ENOENT)
		return err_set(
			e, ENOENT,
			"no " KVM_PATH
			": load kvm_intel or kvm_amd, or enable virtualisation for this host");
	if (k->dev < 0 && errno == EACCES)
		return err_set(e, EACCES,
			       "no permission on " KVM_PATH ": join the group kvm, or run as root");
	if (k->dev < 0)
		return err_sys(e, "cannot open " KVM_PATH);
	version = kvm_ioctl(k->dev, KVM_GET_API_VERSION, NULL);
	if (version != KVM_API_VERSION) {
		kvm_close(k);
		return err_set(e, ENOTSUP, KVM_PATH " has API version %d, uvm needs %d", version,
			       KVM_API_VERSION);
	}
	return 0;
}

void kvm_adopt(struct kvm *k, const struct kvm *parent)
{
	*k = (struct kvm){.dev = parent->dev, .vm = -1};
}

int kvm_cap(const struct kvm *k, int cap)
{
	int r = kvm_ioctl(k->dev, KVM_CHECK_EXTENSION, (void *)(long)cap);

	return MAX(r, 0);
}

/* Both PICs' interrupt masks full: uvm describes an IOAPIC only, so a kernel never initialises
 * them, and an unmasked PIC that nobody initialised would inject a line's interrupt as a CPU
 * exception. A kernel that does use them sets the mask itself.
 */
static int mask_pics(const struct kvm *k, struct err *e)
{
	for (uint32_t chip = KVM_IRQCHIP_PIC_MASTER; chip <= KVM_IRQCHIP_PIC_SLAVE; chip++) {
		struct kvm_irqchip c = {.chip_id = chip};
		int r = kvm_vm_call(k, KVM_GET_IRQCHIP, &c, "KVM_GET_IRQCHIP", e);

		c.chip.pic.imr = 0xff;
		if (!r)
			r = kvm_vm_call(k, KVM_SET_IRQCHIP, &c, "KVM_SET_IRQCHIP", e);
		if (r)
			return r;
	}
	return 0;
}

static int add_slots(const struct kvm *k, const struct mem *mem, struct err *e)
{
	for (unsigned int i = 0; i < mem->count; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = mem->region[i].start.v,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].host,
		};
		int r = kvm_vm_call(k, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION",
				e);

		if (r)
			return r;
	}
	return 0;
}

int kvm_create_vm(struct kvm *k, const struct mem *mem, bool boots, struct err *e)
{
	uint64_t identity = IDENTITY_ADDR;
	int r;

	for (const struct kvm_cap *c = kvm_caps; c->name; c++)
		if (c->required && !kvm_cap(k, c->cap))
			return err_set(e, ENOTSUP, "this KVM lacks KVM_CAP_%s; see 'uvm check'",
				       c->name);
	r = kvm_ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (r < (int)sizeof(struct kvm_run))
		return err_set(e, ENOTSUP, "KVM_GET_VCPU_MMAP_SIZE gives %d", r);
	k->run_size = (size_t)r;
	k->vm = kvm_ioctl(k->dev, KVM_CREATE_VM, NULL);
	if (k->vm < 0)
		return err_set(e, -k->vm, "KVM_CREATE_VM failed: %s", strerror(-k->vm));
	r = add_slots(k, mem, e);
	if (!r)
		r = kvm_vm_call(k, KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR",
			    e);
	if (!r)
		r = kvm_vm_call(k, KVM_SET_TSS_ADDR, (void *)TSS_ADDR, "KVM_SET_TSS_ADDR", e);
	if (!r)
		r = kvm_vm_call(k, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP", e);
	return r || !boots ? r : mask_pics(k, e);
}

int kvm_bind_irq(const struct kvm *k, unsigned int gsi, int fd, struct err *e)
{
	struct kvm_irqfd line = {.fd = (uint32_t)fd, .gsi = gsi};

	return kvm_vm_call(k, KVM_IRQFD, &line, "KVM_IRQFD", e);
}

static int set_doorbell(const struct kvm *k, uint64_t addr, int fd, uint32_t flags, struct err *e)
{
	struct kvm_ioeventfd bell = {.addr = addr, .fd = fd, .len = 4, .flags = flags};

	/* Length 0 means any, which lets VT-x skip decoding the instruction. */
	if (kvm_cap(k, KVM_CAP_IOEVENTFD_ANY_LENGTH))
		bell.len = 0;
	return kvm_vm_call(k, KVM_IOEVENTFD, &bell, "KVM_IOEVENTFD", e);
}

int kvm_bind_doorbell(const struct kvm *k, uint64_t addr, int fd, struct err *e)
{
	return set_doorbell(k, addr, fd, 0, e);
}

int kvm_unbind_doorbell(const struct kvm *k, uint64_t addr, int fd, struct err *e)
{
	return set_doorbell(k, addr, fd, KVM_IOEVENTFD_FLAG_DEASSIGN, e);
}

int kvm_create_vcpu(const struct kvm *k, unsigned int id, struct kvm_run **run, struct err *e)
{
	int fd = kvm_ioctl(k->vm, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	void *p;

	if (fd < 0)
		return err_set(e, -fd, "KVM_CREATE_VCPU failed for vCPU %u: %s", id, strerror(-fd));
	p = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		int r = err_sys(e, "cannot map the run page of vCPU %u", id);

		close(fd);
		return r;
	}
	*run = p;
	return fd;
}

int kvm_supported_cpuid(const struct kvm *k, struct kvm_cpuid2 **cpuid, struct err *e)
{
	enum { MAX_ENTRIES = 256 }; /* the kernel's own limit, KVM_MAX_CPUID_ENTRIES */
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + MAX_ENTRIES * sizeof(c->entries[0]));
	int r;

	if (!c)
		return err_set(e, ENOMEM, "out of memory");
	c->nent = MAX_ENTRIES;
	r = kvm_ioctl(k->dev, KVM_GET_SUPPORTED_CPUID, c);
	if (r < 0) {
		free(c);
		return err_set(e, -r, "KVM_GET_SUPPORTED_CPUID failed: %s", strerror(-r));
	}
	*cpuid = c;
	return 0;
}

void kvm_close(struct kvm *k)
{
	if (k->vm >= 0)
		close(k->vm);
	if (k->dev >= 0)
		close(k->dev);
	k->dev = k->vm = -1;
}
