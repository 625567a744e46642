/* SPDX-License-Identifier: Apache-2.0
 *
 * The system calls of a VM's process from when its guest runs, and why each is needed. The filters are
 * made of this table and of nothing else.
 *
 * Names are those of x86-64's calls. Where musl and glibc make different ones for one function, both are
 * here. Arguments are compared by their lower 32 bits, which is all that the kernel looks at in these.
 *
 * What is not here: execve, ptrace, process_vm_*, mount and its kin, setns, unshare (but where it takes
 * nothing but a umask), socket families but UNIX, kill, setrlimit, io_uring_setup, bpf, keys, and
 * memory that can be executed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>

#include "vmm/confine.h"
#include "vmm/seccomp.h"
#include "vmm/util.h"

#define V  CONFINE_VCPU
#define D  CONFINE_DISK
#define N  CONFINE_NET
#define S  CONFINE_SHARE
#define M  CONFINE_MAIN
#define R  CONFINE_RUNTIME
#define A  CONFINE_SANITIZER
#define IO (D | N | S) /* threads that serve a device */
#define T  (V | IO)    /* all that are not the main thread */

#define ALL 0xffffffffu
#define IS(n, v)      {.arg = n, .used = 1, .mask = ALL, .value = (unsigned int)(v)}
#define HAS(n, bits)  {.arg = n, .used = 1, .mask = (bits), .value = (bits)}
#define HASNT(n, bits) {.arg = n, .used = 1, .mask = (bits), .value = 0}

#define CALL(call, who, why, ...) {SYS_##call, who, #call, why, 0, NULL, 0, {__VA_ARGS__}}
#define FAILS(call, who, error, why) {SYS_##call, who, #call, why, 0, NULL, error, {{0}}}
#define IOCTL(request, who, why) \
	{SYS_ioctl, who, "ioctl " #request, why, 0, NULL, 0, {IS(1, request)}}

/* A call that those of `who` that are in `rare` are not seen to make by any test, and why not. */
#define RARE(call, who, rare, why, unmade, ...) \
	{SYS_##call, who, #call, why, rare, unmade, 0, {__VA_ARGS__}}
#define RARE_IOCTL(request, who, why, unmade) \
	{SYS_ioctl, who, "ioctl " #request, why, who, unmade, 0, {IS(1, request)}}

#define MALLOC "malloc may call for it at any time; it has enough for what these ask of it in tests"

#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
	 CLONE_NEWNET | CLONE_PTRACE)

/* The signal that vcpu.c kicks with; its default is to do nothing, whoever gets it. */
#define KICK SIGURG

const struct confine_call confine_calls[] = {
	/* --- every thread --- */
	CALL(read, M | IO, "eventfds, timers, consoles, files"),
	CALL(write, M | T, "eventfds, consoles, messages, files"),
	CALL(futex, M | T, "locks, and waiting for a thread"),
	RARE(rt_sigreturn, M | T, IO, "the end of a signal's handler",
	     "what others send comes to the main thread, unless that is in a handler"),
	CALL(rt_sigprocmask, M | T, "threads begin and end with signals blocked"),
	CALL(exit, M | T, "a thread's end"),
	RARE(exit_group, M | T, T, "the process's end, also where memory is lost (SIGBUS)",
	     "tests have the guest lose memory, not the threads that serve it"),
	RARE(mmap, M | T, V | N, "malloc, stacks, rings, guest memory; nothing that can be executed", MALLOC,
	     HASNT(2, PROT_EXEC)),
	RARE(munmap, M | T, V | N, "what was mapped", MALLOC),
	RARE(mprotect, M | T, V | N | S, "stacks' guard pages, malloc; nothing that can be executed", MALLOC,
	     HASNT(2, PROT_EXEC)),
	RARE(madvise, M | T, S, "free memory given back; what a fork must not have", MALLOC),
	RARE(brk, M | T, T, "malloc", MALLOC),
	RARE(mremap, M | T, M | T, "realloc", MALLOC),
	RARE(clock_gettime, M | T, M | T, "the time, where the vDSO cannot tell it",
	     "that is so on hosts with another clock source"),

	/* --- vCPUs; the order is the filter's: what is done most comes first --- */
	IOCTL(KVM_RUN, M | V, "the guest runs"),
	IOCTL(KVM_GET_REGS, M | V, "where the guest was when it could not go on; its state"),
	CALL(timerfd_settime, M | V | D | N, "limits of devices; a VM's first exit"),

	/* --- loops --- */
	CALL(epoll_ctl, M | D | N, "a device's back end is watched, or not"),
	CALL(io_uring_enter, D, "a disk's transfers"),
	IOCTL(TUNSETOFFLOAD, M | N, "what a tap device may leave to the guest's driver"),
	RARE(epoll_wait, M | IO, S, "a loop, glibc", "shares are not tested with glibc"),
	CALL(epoll_pwait, M | IO, "the same, musl"),
	CALL(writev, N, "a tap device"),
	CALL(readv, M, "vsock connections"),
	CALL(lseek, M | S, "a file's holes; positions in directories"),
	CALL(fallocate, D | S, "discards and zeros; the guest's fallocate"),
	CALL(fdatasync, M | D | S, "flushes"),
	CALL(fsync, M | S, "flushes"),
	CALL(ftruncate, M | S, "files of layers; the guest's truncate"),
	CALL(fstat, M | S, "what a file is"),
	CALL(fcntl, M, "locks of images; flags of descriptors"),

	/* --- disks --- */
	CALL(preadv, M | D | S, "reads"),
	CALL(pwritev, M | D | S, "writes"),
	CALL(pread64, M, "reads"),
	CALL(pwrite64, M, "writes"),
	IOCTL(BLKDISCARD, D, "discards of block devices"),
	FAILS(io_uring_setup, D, EPERM, "what a ring does is not seen by these filters"),

	/* --- networks --- */
	CALL(recvfrom, M | N, "a stream of frames; consoles and agents"),
	RARE(sendto, M | N, N, "the rest of a frame; consoles and agents",
	     "the streams of tests take whole frames, but for unit tests'"),
	CALL(sendmsg, M | N, "a stream of frames; vsock connections"),
	CALL(landlock_create_ruleset, M, "a fork gets out of its parent's reach"),
	CALL(landlock_add_rule, M, "the same"),
	CALL(landlock_restrict_self, M, "a fork gets out of its parent's reach"),
	CALL(getrandom, M, "random numbers; identities of copies"),
	IOCTL(TUNGETIFF, M, "what is attached is a tap device"),
	IOCTL(TUNSETVNETHDRSZ, M, "its frames have the header that a device's have"),

	/* --- the main thread: what every thread of a libc's might make, and only this one does --- */
	CALL(set_robust_list, M, "a thread's beginning, glibc"),
	CALL(rseq, M, "a thread's beginning, glibc"),
	CALL(gettid, M, "a fork's number"),
	CALL(getpid, M, "the pid file; whether a lock's owner is a fork"),
	RARE(restart_syscall, M, M, "a wait goes on after a stop", "it would have to be stopped while it is in poll"),
	CALL(seccomp, M, "a thread's own filter, on top of this one", IS(0, SECCOMP_SET_MODE_FILTER)),

	/* --- the main thread: sockets --- */
	CALL(recvmsg, M, "requests on the control socket, with descriptors"),
	CALL(accept4, M, "clients"),
	CALL(socket, M, "listening, and what the guest connects to: UNIX sockets only",
	     IS(0, AF_UNIX)),
	CALL(socketpair, M, "the link to the agent", IS(0, AF_UNIX)),
	CALL(bind, M, "the VM's sockets"),
	CALL(listen, M, "the VM's sockets"),
	CALL(connect, M, "the guest connects to a host's port"),
	CALL(shutdown, M, "half of a connection ends"),
	CALL(getsockopt, M, "who a client is", IS(1, SOL_SOCKET), IS(2, SO_PEERCRED)),

	/* --- the main thread: files --- */
	CALL(close, M | S, "what was opened"),
	CALL(openat, M | S, "files in directories that are open", HAS(2, O_CLOEXEC)),
	CALL(open, M, "the same, musl", HAS(1, O_CLOEXEC)),
	CALL(newfstatat, M, "what a name stands for"),
	CALL(statx, S, "the same, and the mount that it is in"),
	CALL(readlink, M, "the process's number, where /proc has it"),
	CALL(readlinkat, M | S, "links"),
	CALL(mkdirat, M | S, "directories of snapshots and forks"),
	CALL(unlinkat, M | S, "a VM's files at its end"),
	CALL(renameat, M, "a snapshot gets its name"),
	CALL(renameat2, M | S, "a snapshot takes another's place; the guest's rename"),
	CALL(fchdir, M, "a fork goes to its own directory"),
	CALL(getdents64, M | S, "directories"),
	CALL(flock, M, "a VM's directory is locked"),
	CALL(umask, M | S, "modes of sockets"),
	CALL(copy_file_range, M | S, "copies of disks"),
	IOCTL(FICLONE, M, "copies of disks, where a file system shares blocks"),
	CALL(dup, M, "the descriptors of forks"),
	CALL(dup2, M, "standard streams of what goes to the background"),
	CALL(dup3, M, "a container's output goes to another file"),

	/* --- the main thread: the rest --- */
	CALL(poll, M, "waiting for one thing"),
	CALL(eventfd2, M, "doorbells of forks"),
	CALL(epoll_create1, M, "loops of forks"),
	CALL(timerfd_create, M, "timers of forks"),
	CALL(signalfd4, M, "signals"),
	CALL(rt_sigaction, M, "handlers"),
	CALL(nanosleep, M, "waiting for the clock's tick"),
	RARE(clock_nanosleep, M, M, "the same, glibc", "that is not tested with glibc"),
	CALL(tkill, M, "a vCPU is kicked, musl", IS(1, KICK)),
	CALL(tgkill, M, "a vCPU is kicked, glibc", IS(2, KICK)),
	CALL(clone, M, "threads and forks; no namespaces", HASNT(0, NAMESPACES)),
	FAILS(clone3, M, ENOSYS, "glibc goes on with clone, whose flags can be seen"),
	CALL(fork, M, "forks and snapshots, musl"),
	CALL(setsid, M, "a fork is in the background"),
	CALL(getppid, M, "what stays behind looks whether it still needs to"),
	CALL(geteuid, M, "whose a directory is, and this process"),
	CALL(getegid, M, "the same"),
	CALL(close_range, M, "what stays behind keeps little"),
	RARE(pause, M, M, "what stays behind", "traced, it comes there after its parent's end, and has nothing to wait for"),
	CALL(setpriority, M, "what stays behind is nobody's hurry"),
	CALL(prctl, M, "what stays behind goes with its parent", IS(0, PR_SET_PDEATHSIG)),

	/* --- terminals --- */
	IOCTL(TCGETS, M, "a terminal becomes raw, and what it was"),
	IOCTL(TCSETS, M, "the same"),
	IOCTL(TIOCGWINSZ, M, "a terminal's size; musl asks it of stdout"),

	/* --- KVM: state is read for snapshots; a fork makes a VM --- */
#define KVM(request, why) IOCTL(KVM_##request, M, why)
	KVM(CHECK_EXTENSION, "what there is"),
	KVM(GET_VCPU_MMAP_SIZE, "a fork makes a VM"),
	KVM(CREATE_VM, "a fork makes a VM"),
	KVM(SET_USER_MEMORY_REGION, "a fork makes a VM"),
	KVM(SET_IDENTITY_MAP_ADDR, "a fork makes a VM"),
	KVM(SET_TSS_ADDR, "a fork makes a VM"),
	KVM(CREATE_IRQCHIP, "a fork makes a VM"),
	KVM(CREATE_VCPU, "a fork makes a VM"),
	KVM(IRQFD, "interrupt lines of a fork"),
	KVM(IOEVENTFD, "doorbells of a fork"),
	KVM(GET_MSR_INDEX_LIST, "a vCPU's state"),
	KVM(GET_MSRS, "a vCPU's state"),
	KVM(SET_MSRS, "a vCPU's state"),
	KVM(SET_REGS, "a vCPU's state"),
	KVM(GET_SREGS, "a vCPU's state"),
	KVM(SET_SREGS, "a vCPU's state"),
	RARE_IOCTL(KVM_GET_XSAVE, M, "a vCPU's state", "before Linux 5.17, which has KVM_GET_XSAVE2"),
	KVM(GET_XSAVE2, "a vCPU's state"),
	KVM(SET_XSAVE, "a vCPU's state"),
	KVM(GET_XCRS, "a vCPU's state"),
	KVM(SET_XCRS, "a vCPU's state"),
	KVM(GET_DEBUGREGS, "a vCPU's state"),
	KVM(SET_DEBUGREGS, "a vCPU's state"),
	KVM(GET_LAPIC, "a vCPU's state"),
	KVM(SET_LAPIC, "a vCPU's state"),
	KVM(GET_MP_STATE, "a vCPU's state"),
	KVM(SET_MP_STATE, "a vCPU's state"),
	KVM(GET_VCPU_EVENTS, "a vCPU's state"),
	KVM(SET_VCPU_EVENTS, "a vCPU's state"),
	KVM(SET_CPUID2, "a vCPU's state"),
	KVM(GET_TSC_KHZ, "a vCPU's state"),
	RARE_IOCTL(KVM_SET_TSC_KHZ, M, "a vCPU's state", "before Linux 5.18 a VM has no rate of its own"),
	KVM(GET_DEVICE_ATTR, "a vCPU's clock"),
	KVM(SET_DEVICE_ATTR, "a vCPU's clock"),
	KVM(KVMCLOCK_CTRL, "a guest stood still"),
	KVM(GET_CLOCK, "the VM's state"),
	KVM(SET_CLOCK, "the VM's state"),
	KVM(GET_IRQCHIP, "the VM's state"),
	KVM(SET_IRQCHIP, "the VM's state"),

	/* --- shares: what a guest asks of a directory --- */
	CALL(linkat, S, "the guest's link"),
	CALL(symlinkat, M | S, "a snapshot tells its parent of it; the guest's symlink"),
	CALL(mknodat, S, "the guest's mknod, of no device", IS(3, 0)),
	CALL(fchownat, S, "the guest's chown"),
	CALL(fchmodat, S, "the guest's chmod"),
	CALL(utimensat, S, "the guest's utimes"),
	CALL(fstatfs, S, "the guest's statfs"),
	CALL(syncfs, S, "the guest's syncfs"),
	CALL(pwritev2, S, "the guest appends"),
	CALL(fgetxattr, S, "attributes"),
	CALL(fsetxattr, S, "attributes"),
	CALL(flistxattr, S, "attributes"),
	CALL(fremovexattr, S, "attributes"),
	CALL(setfsuid, S, "files are made as the guest's user"),
	CALL(setfsgid, S, "files are made as the guest's group"),
	CALL(setgroups, S, "the thread has no other groups"),
	CALL(capget, S, "the thread keeps what has to do with files"),
	CALL(capset, S, "the same; the guest's set-ID bits"),
	CALL(prctl, S, "the same", IS(0, PR_GET_SECUREBITS)),
	CALL(prctl, S, "the same", IS(0, PR_SET_SECUREBITS)),
	CALL(unshare, S, "a umask of the thread's own", IS(0, CLONE_FS)),
	CALL(geteuid, S, "whose files are"),
	CALL(getegid, S, "whose files are"),

	/* --- an OCI runtime's container takes its root when the guest has made it --- */
	CALL(mount, R, "a /proc for the callers' ps"),
	CALL(pivot_root, R, "the container's root"),
	CALL(umount2, R, "the host's is left"),
	CALL(fchdir, R, "the container's root"),
	CALL(chdir, R, "the container's root"),
	CALL(openat2, R, "a place for /proc, and no link is followed out of the root"),

	/* --- what the sanitizers of the tests' build do at any time; in no other build's filters --- */
	CALL(read, A, "/proc/self/maps"),
	CALL(mmap, A, "its own memory", HASNT(2, PROT_EXEC)),
	CALL(munmap, A, "the same"),
	CALL(mprotect, A, "the same", HASNT(2, PROT_EXEC)),
	CALL(madvise, A, "the same"),
	CALL(close, A, "/proc/self/maps"),
	CALL(sched_yield, A, "its locks"),
	CALL(clock_gettime, A, "a report"),
	CALL(gettid, A, "a thread's number"),
	CALL(getpid, A, "a report"),
	CALL(set_robust_list, A, "a thread's beginning"),
	CALL(rseq, A, "a thread's beginning"),
	CALL(sigaltstack, A, "a thread's stack for reports"),
	CALL(sched_getaffinity, A, "a thread's beginning"),
	CALL(getrusage, A, "a report"),
	CALL(prlimit64, A, "the stack's size", IS(2, 0)),
	CALL(gettimeofday, A, "a report"),
	CALL(openat, A, "/proc/self/maps", HAS(2, O_CLOEXEC)),
	CALL(openat, A, "/proc/self/maps", HASNT(2, O_ACCMODE)),
	CALL(readlink, A, "/proc/self/exe"),
	CALL(fstat, A, "files"),
	CALL(newfstatat, A, "files"),
};

const unsigned int confine_call_count = ARRAY_SIZE(confine_calls);

static struct seccomp_rule rule_of(const struct confine_call *c)
{
	struct seccomp_rule r = {.nr = (uint32_t)c->nr,
				 .action = c->error ? SECCOMP_RET_ERRNO | (uint32_t)c->error
						    : SECCOMP_RET_ALLOW};

	for (unsigned int i = 0; i < CONFINE_CONDITIONS && c->when[i].used; i++)
		r.condition[r.conditions++] =
			(struct seccomp_condition){.arg = c->when[i].arg,
						   .op = SECCOMP_MASKED_EQ,
						   .mask = c->when[i].mask,
						   .value = c->when[i].value};
	return r;
}

int confine_compile(unsigned int who, struct sock_filter *filter, struct err *e)
{
	struct seccomp_list list = {.no_action = SECCOMP_RET_KILL_PROCESS,
				    .newer = SECCOMP_RET_KILL_PROCESS,
				    .small = true};
	struct seccomp_rule *rule = malloc(confine_call_count * sizeof(*rule));
	int r;

	if (!rule)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < confine_call_count; i++)
		if (confine_calls[i].who & who)
			rule[list.rules++] = rule_of(&confine_calls[i]);
	list.rule = rule;
	r = seccomp_compile(&list, filter, e);
	free(rule);
	return r;
}
