/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/template.h"

#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/image.h"
#include "guest/protocol.h"
#include "snapshot/sum.h"
#include "vmm/cache.h"
#include "vmm/client.h"
#include "vmm/control.h"
#include "vmm/launch.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/machine_state.h"
#include "vmm/stamp.h"
#include "vmm/util.h"

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

#define KERNEL_NAME "vmlinux"
#define LOCK	    "lock"
#define KERNEL_SUM  "xxh64" /* as cache_recall has it */
#define SUM_DIGITS  16
#define WORDS_MAX   64 /* of the kernel's command line */

/* --- the kernel --- */

int template_kernel(char path[PATH_MAX], const char *asked, struct err *e)
{
	static const char *const beside[] = {"../lib/uvm/" KERNEL_NAME, KERNEL_NAME};
	const char *variable = getenv("UVM_KERNEL");
	char dir[PATH_MAX];
	ssize_t n;

	if (!asked && variable && *variable)
		asked = variable;
	if (asked) /* absolute, for it is remembered */
		return realpath(asked, path) ? 0 : err_sys(e, "kernel %s", asked);
	n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	dir[MAX(n, 0)] = 0;
	if (strrchr(dir, '/'))
		strrchr(dir, '/')[1] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
		if (snprintf(path, PATH_MAX, "%s%s", dir, beside[i]) < PATH_MAX &&
		    !access(path, R_OK))
			return 0;
	return err_set(e, ENOENT,
		       "no kernel for guests: neither %s%s nor %s%s is there; name one with "
		       "--kernel or UVM_KERNEL",
		       dir, beside[0], dir, beside[1]);
}

static int read_kernel(int fd, struct stamp *stamp, uint64_t *sum)
{
	struct stat st;

	/* A change from here on shows in the stamp. */
	stamp_settle((int64_t)(stamp->ctime_s * 1000000000 + stamp->ctime_ns));
	if (fstat(fd, &st))
		return -errno;
	*stamp = stamp_of(&st);
	return sum_file(fd, (uint64_t)st.st_size, sum);
}

/* The sum of the kernel's content: remembered, or found out now. Not the SHA-256 of images: that takes a
 * second, for which people would wait, to protect from damage only.
 */
static int kernel_sum(const char *path, int files, uint64_t *sum, struct err *e)
{
	char text[SUM_DIGITS + 1];
	struct stamp stamp;
	struct stat st;
	int fd, r;

	if (stat(path, &st))
		return err_sys(e, "kernel %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "kernel %s: not a regular file", path);
	stamp = stamp_of(&st);
	if (cache_recall(files, KERNEL_SUM, &stamp, text, SUM_DIGITS)) {
		*sum = strtoull(text, NULL, 16);
		return 0;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	r = fd < 0 ? -errno : read_kernel(fd, &stamp, sum);
	if (fd >= 0)
		close(fd);
	if (r)
		return err_set(e, -r, "kernel %s: %s", path, strerror(-r));
	snprintf(text, sizeof(text), "%0*" PRIx64, SUM_DIGITS, *sum);
	cache_remember(files, KERNEL_SUM, &stamp, text);
	return 0;
}

/* --- keys --- */

int template_check(const struct template *t, struct err *e)
{
	if (t->cpus < 1 || t->cpus > VCPU_MAX)
		return err_set(e, EINVAL, "--cpus: %u is outside 1 to %d", t->cpus, VCPU_MAX);
	if (t->memory < MEM_MIN || t->memory > MEM_MAX || t->memory % 4096)
		return err_set(e, EINVAL, "--memory: %llu bytes are not whole pages of 4 KiB from %lluM to %lluG",
			       (unsigned long long)t->memory, MEM_MIN >> 20, MEM_MAX >> 30);
	return 0;
}


/* What a guest saw of the host when it was frozen, which another host may lack. */
struct host {
	uint32_t cpuid[4][4];
	char release[sizeof((struct utsname){0}.release)];
};

static void see_host(struct host *h)
{
	struct utsname name;

	memset(h, 0, sizeof(*h));
	__get_cpuid(0, &h->cpuid[0][0], &h->cpuid[0][1], &h->cpuid[0][2], &h->cpuid[0][3]);
	__get_cpuid(1, &h->cpuid[1][0], &h->cpuid[1][1], &h->cpuid[1][2], &h->cpuid[1][3]);
	h->cpuid[1][1] = 0; /* the number of the CPU that we run on */
	__get_cpuid_count(7, 0, &h->cpuid[2][0], &h->cpuid[2][1], &h->cpuid[2][2], &h->cpuid[2][3]);
	__get_cpuid(0x80000001, &h->cpuid[3][0], &h->cpuid[3][1], &h->cpuid[3][2], &h->cpuid[3][3]);
	if (!uname(&name))
		snprintf(h->release, sizeof(h->release), "%s", name.release);
}

/* The kernel sizes its tables of directory entries and of inodes for a machine that has much of both: 384 KiB
 * of 256 MiB, of which a container's start writes to 60 pages, an entry here and there. An eighth of that is
 * enough for what a VM of that size keeps of both.
 */
static void words_of(const struct template *t, char words[WORDS_MAX])
{
	const unsigned long long mib = t->memory >> 20;

	snprintf(words, WORDS_MAX, "dhash_entries=%llu ihash_entries=%llu", 16 * mib, 8 * mib);
}

int template_key(const struct template *t, char key[TEMPLATE_KEY + 1], struct err *e)
{
	struct {
		struct host host;
		char version[64], words[WORDS_MAX];
		uint64_t kernel, protocol, agent, memory, cpus, cpu, drives, share, nets, offload,
			spares;
	} all;
	char dir[PATH_MAX];
	int files = cache_open_dir(CACHE_FILES, dir, e), r;

	if (files < 0)
		return files;
	memset(&all, 0, sizeof(all));
	r = kernel_sum(t->kernel, files, &all.kernel, e);
	close(files);
	if (r)
		return r;
	see_host(&all.host);
	snprintf(all.version, sizeof(all.version), "%s", UVM_VERSION);
	words_of(t, all.words);
	all.protocol = AGENT_VERSION;
	all.agent = guest_image_sum;
	all.memory = t->memory;
	all.cpus = t->cpus;
	all.cpu = t->cpu;
	all.drives = t->drives;
	all.share = t->share;
	all.nets = t->nets;
	all.offload = t->offload;
	all.spares = MACHINE_SPARES;
	snprintf(key, TEMPLATE_KEY + 1, "%016" PRIx64, sum_bytes(&all, sizeof(all), 0));
	return 0;
}

/* --- making --- */

struct vm {
	struct launch launch;
	struct rundir rundir;
	const char *path; /* the template's */
	int lock;
	int saved; /* a pipe, on which its process says that there is something to complete */
};

static void ready(void *ctx)
{
	struct vm *vm = ctx;

	launch_ready(&vm->launch, &vm->rundir);
}

/* What nobody waits for, but who wants the same template and waits for the lock, which lasts as long as this:
 * a template that has not come to this is made anew.
 */
static void complete(const struct vm *vm)
{
	struct snapshot *s = malloc(sizeof(*s));
	struct err e;

	setpriority(PRIO_PROCESS, 0, 19); /* also for the end of the VM, which is work for the kernel */
	if (s && !snapshot_open(s, vm->path, SNAPSHOT_JUST_SAVED, &e))
		(void)snapshot_complete(s, &e);
	close(vm->lock);
}

/* It goes by path, and the VM's process is in a jail by then: so another process waits to do it. */
static int start_completer(struct vm *vm, struct err *e)
{
	int ends[2];
	char byte;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return err_sys(e, "cannot make a pipe");
	pid = fork();
	if (pid < 0)
		return err_sys(e, "cannot start a process");
	if (!pid) {
		int own[] = {ends[0], vm->lock};

		fds_close_others(0, own, ARRAY_SIZE(own)); /* others wait for the ends of the rest */
		if (read(ends[0], &byte, 1) == 1)
			complete(vm);
		_exit(0);
	}
	close(ends[0]);
	close(vm->lock);
	vm->saved = ends[1];
	return 0;
}

/* What else its starter has open must not last as long as this process, which outlives it: locks, and pipes
 * whose end somebody waits for.
 */
static void close_others(const struct vm *vm)
{
	int own[] = {vm->rundir.root, vm->rundir.dir, vm->rundir.lock, vm->launch.fd, vm->lock};

	fds_close_others(STDERR_FILENO + 1, own, ARRAY_SIZE(own));
}

/* The VM's process. */
static _Noreturn void be_vm(const struct template *t, struct vm *vm)
{
	struct machine *m = calloc(1, sizeof(*m));
	char words[WORDS_MAX];
	struct machine_config cfg = {.kernel = t->kernel,
				     .cmdline = words,
				     .agent = true,
				     .balloon = true,
				     .disks = t->drives,
				     .memory = t->memory,
				     .cpus = t->cpus,
				     .sum_later = true,
				     .cpu_template = t->cpu,
				     .console = {.mode = CONSOLE_LOG, .dir = vm->rundir.dir}};
	struct err e = {{0}};
	int status = EXIT_FAILURE;

	prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody else would end it */
	close_others(vm);
	words_of(t, words);
	cfg.nets = t->nets;
	for (unsigned int i = 0; i < t->nets; i++)
		cfg.net[i] = (struct net_config){.offload = t->offload, .mtu = NET_MTU_MAX};
	for (unsigned int i = 0; i < t->drives; i++)
		cfg.disk[i] = (struct disk_config){.path = DISK_PLACEHOLDER, .read_only = !i};
	if (t->share)
		cfg.share[cfg.shares++] = (struct share_config){.path = SHARE_PLACEHOLDER,
								.tag = TEMPLATE_SHARE};
	cfg.spares = MIN(MACHINE_SPARES, MACHINE_MAX_DISKS - machine_slots(&cfg));
	if (m && !start_completer(vm, &e)) {
		m->ready = ready;
		m->ready_ctx = vm;
		status = launch_run(&vm->launch, m, machine_init(m, &cfg, &vm->rundir, &e), false,
				    &e);
	}
	if (*e.text)
		log_warn("%s", e.text);
	if (!status)
		(void)write_all(vm->saved, "s", 1);
	_exit(status);
}

/* Has the running VM frozen into the directory `at` under this key, after which it ends by itself. */
static int freeze(const struct rundir *vm, int at, const char *key, struct err *e)
{
	char request[CONTROL_LINE], answer[CONTROL_ANSWER];
	int fd = client_control(vm, e), r;

	if (fd < 0)
		return fd;
	snprintf(request, sizeof(request), "template %s", key);
	r = client_request_long(fd, request, at, NULL, NULL, answer, sizeof(answer), e);
	close(fd);
	return r;
}

/* r: what became of it. One that has saved itself goes without being waited for: the kernel takes
 * tens of milliseconds to take a VM apart.
 */
static void end_vm(pid_t pid, int r)
{
	if (r)
		kill(pid, SIGTERM);
	else
		signal(SIGCHLD, SIG_IGN); /* so that it leaves no zombie */
	while (waitpid(pid, NULL, r ? 0 : WNOHANG) < 0 && errno == EINTR)
		;
}

static int build(const struct template *t, int at, int lock, const char *key, const char *path,
		 struct err *e)
{
	struct vm vm = {.launch = {.fd = -1}, .path = path, .lock = lock};
	char now[TEMPLATE_KEY + 1];
	int r = rundir_create(&vm.rundir, NULL, e);

	if (r)
		return r;
	r = launch_fork(&vm.launch, e);
	if (r > 0)
		be_vm(t, &vm);
	if (r < 0) {
		rundir_remove(&vm.rundir);
		return r;
	}
	*e->text = 0;
	r = launch_await(&vm.launch, e) ? -EIO : 0;
	if (!r) {
		r = freeze(&vm.rundir, at, key, e);
		end_vm(vm.launch.pid, r);
	}
	rundir_release(&vm.rundir);
	if (r)
		return *e->text ? r : err_set(e, -r, "no template could be made: its VM did not start");
	r = template_key(t, now, e);
	if (r || !strcmp(now, key))
		return r;
	snapshot_discard(at, key);
	return err_set(e, EAGAIN, "kernel %s changed while a template was made of it", t->kernel);
}

static int lock_templates(int at, struct err *e)
{
	int fd = openat(at, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	while (fd >= 0 && flock(fd, LOCK_EX)) {
		if (errno == EINTR)
			continue;
		close(fd);
		fd = -1;
	}
	return fd < 0 ? err_sys(e, "cannot lock the templates") : fd;
}

/* Opens what is there, and is as its key says. */
static int open_there(const struct template *t, const char *path, enum snapshot_check check,
		      struct snapshot *s, struct err *e)
{
	int r = snapshot_open(s, path, check, e);

	if (r || (s->m.agent && s->m.memory == t->memory && s->m.cpus == t->cpus &&
		  s->m.disks == t->drives))
		return r;
	snapshot_close(s);
	return err_set(e, EINVAL, "%s is another VM's snapshot", path);
}

/* Under the lock. Somebody else may have made it meanwhile. */
static int make_locked(const struct template *t, int at, int lock, const char *key, const char *path,
		       struct snapshot *s, struct err *e)
{
	int r;

	*e->text = 0; /* why it was not there before the lock was had */
	r = open_there(t, path, SNAPSHOT_UNLESS_SEALED, s, e);
	if (!r)
		return 0;
	if (r == -ENOENT)
		log_info("no template for this kernel with %" PRIu64 "M and %u CPU%s yet; making "
			 "one (once)",
			 t->memory >> 20, t->cpus, t->cpus == 1 ? "" : "s");
	else
		log_warn("a template cannot be used and is made anew: %s", e->text);
	snapshot_discard(at, key);
	r = build(t, at, lock, key, path, e);
	return r ? r : open_there(t, path, SNAPSHOT_JUST_SAVED, s, e);
}

static int open_or_make(const struct template *t, char key[TEMPLATE_KEY + 1], struct snapshot *s,
			struct err *e)
{
	char dir[PATH_MAX], path[PATH_MAX + TEMPLATE_KEY + 1];
	int at = cache_open_dir(TEMPLATE_DIR, dir, e), lock, r;

	if (at < 0)
		return at;
	if (*t->key)
		memcpy(key, t->key, sizeof(t->key));
	r = *t->key ? 0 : template_key(t, key, e);
	snprintf(path, sizeof(path), "%s/%s", dir, key);
	if (!r && open_there(t, path, SNAPSHOT_UNLESS_SEALED, s, e)) {
		r = lock = lock_templates(at, e);
		if (lock >= 0) {
			r = make_locked(t, at, lock, key, path, s, e);
			close(lock);
		}
	}
	close(at);
	return r;
}

int template_find(struct template *t, char path[PATH_MAX], struct err *e)
{
	char dir[PATH_MAX];
	int at = cache_open_dir(TEMPLATE_DIR, dir, e), r;

	if (at < 0)
		return at;
	close(at);
	r = template_key(t, t->key, e);
	if (!r && snprintf(path, PATH_MAX, "%s/%s", dir, t->key) >= PATH_MAX)
		r = err_set(e, ENAMETOOLONG, "the cache's path is too long");
	return r;
}

int template_open(const struct template *t, struct snapshot *s, struct err *e)
{
	char key[TEMPLATE_KEY + 1];

	return open_or_make(t, key, s, e);
}

int template_make(const struct template *t, char key[TEMPLATE_KEY + 1], struct err *e)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int r = s ? open_or_make(t, key, s, e) : err_set(e, ENOMEM, "out of memory");

	if (s && !r)
		snapshot_close(s);
	free(s);
	return r;
}

/* --- looking after them --- */

static bool is_key(const char *name)
{
	return strlen(name) == TEMPLATE_KEY && strspn(name, "0123456789abcdef") == TEMPLATE_KEY;
}

int template_each(int (*visit)(void *ctx, const char *key, const char *path), void *ctx,
		  struct err *e)
{
	char dir[PATH_MAX], path[PATH_MAX + TEMPLATE_KEY + 1];
	struct dirent **names;
	int at = cache_open_dir(TEMPLATE_DIR, dir, e), n, r = 0;

	if (at < 0)
		return at;
	n = scandir(dir, &names, NULL, alphasort);
	if (n < 0)
		r = err_sys(e, "cannot read %s", dir);
	for (int i = 0; i < n; i++) {
		if (!r && is_key(names[i]->d_name)) {
			snprintf(path, sizeof(path), "%s/%.*s", dir, TEMPLATE_KEY, names[i]->d_name);
			r = visit(ctx, names[i]->d_name, path);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	close(at);
	return r;
}

/* Opens one, which may be about to be completed, under the lock. */
static int open_settled(struct snapshot *s, const char *path, struct err *e)
{
	int at, lock, r = snapshot_open(s, path, SNAPSHOT_UNLESS_SEALED, e);
	char dir[PATH_MAX];

	if (!r)
		return 0;
	at = cache_open_dir(TEMPLATE_DIR, dir, e);
	if (at < 0)
		return at;
	lock = lock_templates(at, e);
	close(at);
	if (lock < 0)
		return lock;
	r = snapshot_open(s, path, SNAPSHOT_UNLESS_SEALED, e);
	close(lock);
	return r;
}

bool template_current(const char *key, const char *path, struct err *why)
{
	static const enum cpuid_template cpus[] = {CPUID_HOST, CPUID_BASELINE};
	struct snapshot *s = calloc(1, sizeof(*s));
	struct machine_config *cfg = calloc(1, sizeof(*cfg));
	int r = s && cfg ? open_settled(s, path, why) : err_set(why, ENOMEM, "out of memory");
	char now[TEMPLATE_KEY + 1];
	bool current = false;

	if (!r)
		r = machine_load_config(&s->state, cfg, why);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cpus) && !r && !current; i++) {
		struct template t = {.kernel = s->m.kernel.s,
				     .memory = s->m.memory,
				     .cpus = s->m.cpus,
				     .cpu = cpus[i / 2],
				     .drives = s->m.disks,
				     .share = cfg->shares,
				     .nets = cfg->nets,
				     .offload = i % 2};

		r = template_key(&t, now, why);
		current = !r && !strcmp(now, key);
	}
	if (!r && !current)
		err_set(why, ESTALE, "the kernel, the host or uvm is another one now");
	if (s && s->dir >= 0)
		snapshot_close(s);
	free(s);
	free(cfg);
	return current;
}

int template_remove(const char *key, struct err *e)
{
	char dir[PATH_MAX];
	struct err why;
	int at, lock, r;

	if (!is_key(key))
		return err_set(e, EINVAL, "'%s' is not a template's key; 'uvm template ls' lists them",
			       key);
	at = cache_open_dir(TEMPLATE_DIR, dir, e);
	if (at < 0)
		return at;
	lock = lock_templates(at, e);
	if (lock < 0) {
		close(at);
		return lock;
	}
	r = snapshot_remove(at, key, &why);
	if (r == -ENOTEMPTY) { /* damaged: nobody can need it */
		snapshot_discard(at, key);
		r = 0;
	}
	close(lock);
	close(at);
	if (r == -ENOENT)
		return err_set(e, ENOENT, "no template '%s'; 'uvm template ls' lists them", key);
	return r ? err_set(e, -r, "%s", why.text) : 0;
}
