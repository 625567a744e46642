/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup_devices: in cgroup v2 the controller of devices is a program of ours, which the kernel asks at
 * each opening and making of a node. It is a list of rules, the last first, a few instructions each.
 *
 * A rule that allows fits what asks for nothing but its accesses; one that denies fits what asks for
 * any of them.
 */
#include "guest/agent/cgroup.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/bpf.h>

#include "guest/agent/request.h"

#define RULE_INSNS 8
#define ALL_ACCESS (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

/* Registers: r2 the device's type, r3 the access, r4 and r5 its numbers. */
struct program {
	size_t n;
	struct bpf_insn insn[6 + REQUEST_DEVICE_RULES * RULE_INSNS + 2];
};

static void put(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	p->insn[p->n++] = (struct bpf_insn){
		.code = code, .dst_reg = dst & 15, .src_reg = src & 15, .off = off, .imm = imm};
}

static void load(struct program *p, uint8_t dst, size_t offset)
{
	put(p, BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, (int16_t)offset, 0);
}

static void answer(struct program *p, bool allow)
{
	put(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow);
	put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Jumps behind the rule unless the comparison holds; the distance is set at the rule's end. */
static void unless_equal(struct program *p, uint8_t reg, int32_t value)
{
	put(p, BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, 0, value);
}

/* Returns whether the rule fits everything, so that none before it counts. */
static bool put_rule(struct program *p, const struct agent_device_rule *r)
{
	size_t begin = p->n;

	if (r->type != 'a')
		unless_equal(p, BPF_REG_2, r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (r->access != ALL_ACCESS) {
		put(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_0, BPF_REG_3, 0, 0);
		put(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_0, 0, 0,
		    (int32_t)(r->allow ? ALL_ACCESS & ~r->access : r->access));
		put(p, BPF_JMP32 | (r->allow ? BPF_JNE : BPF_JEQ) | BPF_K, BPF_REG_0, 0, 0, 0);
	}
	if (r->major >= 0)
		unless_equal(p, BPF_REG_4, r->major);
	if (r->minor >= 0)
		unless_equal(p, BPF_REG_5, r->minor);
	answer(p, r->allow);
	for (size_t i = begin; i < p->n; i++) {
		uint8_t class = BPF_CLASS(p->insn[i].code);

		if (class == BPF_JMP32)
			p->insn[i].off = (int16_t)(p->n - i - 1);
	}
	return p->n == begin + 2;
}

static void compile(struct program *p, const struct agent_device_rule *rules, size_t n)
{
	bool complete = false;

	p->n = 0;
	load(p, BPF_REG_3, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	put(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_3, 0, 0);
	put(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	put(p, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
	load(p, BPF_REG_4, offsetof(struct bpf_cgroup_dev_ctx, major));
	load(p, BPF_REG_5, offsetof(struct bpf_cgroup_dev_ctx, minor));
	while (n-- && !complete)
		complete = put_rule(p, &rules[n]);
	if (!complete) /* the kernel refuses what is never reached */
		answer(p, false);
}

int cgroup_device_rule(const char *path, uint32_t access, struct agent_device_rule *rule)
{
	struct stat st;

	if (lstat(path, &st) || (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)))
		return -ENODEV;
	*rule = (struct agent_device_rule){.allow = 1,
					   .type = S_ISCHR(st.st_mode) ? 'c' : 'b',
					   .major = (int32_t)major(st.st_rdev),
					   .minor = (int32_t)minor(st.st_rdev),
					   .access = access};
	return 0;
}

int cgroup_devices(const struct agent_device_rule *rules, size_t n)
{
	static const char license[] = "Apache-2.0";
	struct program p;
	union bpf_attr attr;
	long fd;

	compile(&p, rules, n);
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uint64_t)(uintptr_t)p.insn;
	attr.insn_cnt = (uint32_t)p.n;
	attr.license = (uint64_t)(uintptr_t)license;
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	return fd < 0 ? -errno : (int)fd;
}

int cgroup_attach(int group, int program)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)group;
	attr.attach_bpf_fd = (uint32_t)program;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) ? -errno : 0;
}
