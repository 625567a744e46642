/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/config.h"
#include "vmm/file.h"
#include "vmm/jail.h"
#include "vmm/record.h"
#include "vmm/util.h"

#define FORMAT	 2u
#define SIZE_MAX_STATE (1u << 20)

int oci_state_save(const struct rundir *vm, const struct oci_state *s, struct err *e)
{
	int own = rundir_own(vm, true);
	int fd = openat(own, STATE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	struct json_writer w = {.out = out};

	if (own >= 0)
		close(own);
	if (!out)
		return err_sys(e, "cannot make the state of container '%s'", vm->id);
	json_put_open(&w, NULL, '{');
	json_put_uint(&w, "format", FORMAT);
	json_put_string(&w, "bundle", s->bundle);
	json_put_string(&w, "rootfs", s->rootfs);
	json_put_uint(&w, "memory", s->memory);
	json_put_uint(&w, "cpus", s->cpus);
	if (s->cgroup)
		json_put_string(&w, "cgroup", s->cgroup);
	if (s->network)
		json_put_string(&w, "network", s->network);
	if (s->sandbox)
		json_put_string(&w, "sandbox", s->sandbox);
	if (s->tree)
		json_put_string(&w, "tree", s->tree);
	if (s->annotations)
		json_put(&w, "annotations", s->annotations);
	if (s->hooks)
		json_put(&w, "hooks", s->hooks);
	json_put_close(&w);
	putc('\n', out);
	if (fclose(out))
		return err_sys(e, "cannot write the state of container '%s'", vm->id);
	return rundir_keep(vm, e);
}

/* --- the process --- */

#define START_TIME 22 /* the field of /proc/PID/stat, from 1 */

/* When the process was started, in the kernel's ticks: with its number that is a name that no other ever has. */
static int start_time(const char *proc, unsigned long long *ticks)
{
	char path[64], text[1024], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/stat", proc);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ESRCH;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	at = strrchr(text, ')'); /* the second field is a name, with anything in it */
	for (int field = 2; at && field < START_TIME; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -ESRCH;
	*ticks = strtoull(at, NULL, 10);
	return 0;
}

int oci_state_save_process(const struct rundir *vm, struct err *e)
{
	char self[16], text[64];
	ssize_t len = readlink("/proc/self", self, sizeof(self) - 1); /* as others know it */
	unsigned long long ticks;
	int fd = -1, n, r = len < 0 ? -errno : 0;

	if (!r) {
		self[len] = 0;
		r = start_time("self", &ticks);
	}
	if (!r) {
		fd = rundir_own_file(vm, STATE_PROCESS, O_WRONLY | O_CREAT | O_EXCL);
		r = fd < 0 ? fd : 0;
	}
	if (!r) {
		n = snprintf(text, sizeof(text), "%s %llu\n", self, ticks);
		r = write_all(fd, text, (size_t)n);
	}
	if (fd >= 0)
		close(fd);
	return r ? err_set(e, -r, "cannot write the state of '%s': %s", vm->id, strerror(-r)) : 0;
}

static int read_process(const struct rundir *vm, pid_t *pid, unsigned long long *ticks)
{
	int number = 0, fd = rundir_own_file(vm, STATE_PROCESS, O_RDONLY);
	char text[64];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = 0;
	if (sscanf(text, "%d %llu\n", &number, ticks) != 2 || number <= 1)
		return -ENOENT;
	*pid = number;
	return 0;
}

int oci_state_process(const struct rundir *vm, pid_t *pid)
{
	unsigned long long was, is;
	char number[16];
	pid_t found;
	int r = read_process(vm, &found, &was), fd;

	if (r)
		return r;
	fd = (int)syscall(SYS_pidfd_open, found, 0);
	if (fd < 0)
		return -ESRCH;
	/* What is open now has the number until it is reaped, and it ends for who polls before that. */
	snprintf(number, sizeof(number), "%d", (int)found);
	if (start_time(number, &is) || is != was || poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0)) {
		close(fd);
		return -ESRCH;
	}
	if (pid)
		*pid = found;
	return fd;
}

int oci_state_detach(struct rundir *vm, struct err *e)
{
	return jail_replace(vm->dir, false, "the run directory", e);
}

void oci_state_leave(struct rundir *vm)
{
	close(vm->root);
	vm->root = -1;
}

/* --- marks --- */

static int make_mark(const struct rundir *vm, int dir, const char *name, struct err *e)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, "cannot write the state of '%s'", vm->id);
	close(fd);
	return 0;
}

int oci_state_made(const struct rundir *vm, struct err *e)
{
	return make_mark(vm, vm->dir, STATE_CREATED, e);
}

int oci_state_parse(struct oci_state *s, const char *text, size_t len, struct err *e)
{
	const struct json *v;
	uint64_t format = 0;
	int r = json_parse(&s->doc, text, len, STATE_FILE, e);

	if (r)
		return r;
	v = s->doc.root;
	r = json_uint(v, "format", UINT32_MAX, &format, e);
	if (!r && format != FORMAT)
		r = err_set(e, EINVAL,
			    STATE_FILE ": of another version of this runtime; use that, or 'delete --force'");
	if (!r)
		r = json_required(v, "bundle", e);
	if (!r)
		r = json_required(v, "rootfs", e);
	if (!r)
		r = json_string(v, "bundle", &s->bundle, e);
	if (!r)
		r = json_string(v, "rootfs", &s->rootfs, e);
	if (!r)
		r = json_string(v, "cgroup", &s->cgroup, e);
	if (!r)
		r = json_string(v, "network", &s->network, e);
	if (!r)
		r = json_string(v, "sandbox", &s->sandbox, e);
	if (!r)
		r = json_string(v, "tree", &s->tree, e);
	if (!r && (s->sandbox || s->tree) &&
	    !(s->sandbox && s->tree && strspn(s->tree, "0123456789abcdef") == strlen(s->tree)))
		r = err_set(e, EINVAL,
			    STATE_FILE ": damaged: sandbox and tree belong together; 'delete --force' removes it");
	if (!r)
		r = json_uint(v, "memory", UINT64_MAX, &s->memory, e);
	if (!r)
		r = json_uint(v, "cpus", UINT32_MAX, &s->cpus, e);
	if (!r)
		r = json_object(v, "annotations", &s->annotations, e);
	if (!r)
		r = json_object(v, "hooks", &s->hooks, e);
	if (!r)
		r = oci_hooks_check(s->hooks, e);
	if (r) {
		json_free(&s->doc);
		*s = (struct oci_state){.vm = s->vm};
	}
	return r;
}

/* Reads the file whole. Returns 0 or -errno; -ENOENT without a message. */
static int load(struct oci_state *s, struct err *e)
{
	char what[RUNDIR_ID_MAX + 64], *text;
	size_t len;
	int fd = rundir_own_file(&s->vm, STATE_FILE, O_RDONLY | O_NONBLOCK), r;

	if (fd == -ENOENT)
		return fd;
	snprintf(what, sizeof(what), "container '%s': " STATE_FILE, s->vm.id);
	if (fd < 0)
		errno = -fd;
	r = file_load(fd, what, SIZE_MAX_STATE, &text, &len, e);
	if (!r)
		r = oci_state_parse(s, text, len, e);
	free(text);
	return r;
}

static bool has(int dir, const char *name)
{
	return !faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

static bool has_own(const struct rundir *vm, const char *name)
{
	int own = rundir_own(vm, false);
	bool there = own >= 0 && has(own, name);

	if (own >= 0)
		close(own);
	return there;
}

/* A process that lives is believed more than its lock, which it can open. */
static void find_status(struct oci_state *s, bool running)
{
	struct record rec = {.status = -1};
	struct err ignored;
	pid_t pid = 0;
	int process = oci_state_process(&s->vm, &pid);

	if (process >= 0) {
		close(process);
		running = true;
	}
	if (record_load(&s->vm, &rec, &ignored))
		rec = (struct record){.status = -1};
	snprintf(s->created, sizeof(s->created), "%s", rec.created);
	s->status = !running || *rec.exited	  ? OCI_STOPPED
		    : !has(s->vm.dir, STATE_CREATED) ? OCI_CREATING
		    : !*rec.started		  ? OCI_CREATED
		    : has_own(&s->vm, STATE_PAUSED) ? OCI_PAUSED
						  : OCI_RUNNING;
	record_free(&rec);
	s->pid = s->status == OCI_STOPPED ? 0 : pid;
}

/* One whose sandbox is gone is as well, or about to be. */
static void find_guest(struct oci_state *s)
{
	struct err ignored;

	if (!s->sandbox || s->status == OCI_STOPPED)
		return;
	s->has_guest = !rundir_open(&s->guest, s->sandbox, &ignored);
	if (s->has_guest)
		return;
	s->status = OCI_STOPPED;
	s->pid = 0;
}

/* Callers look for the first words. People have made it with another --root, mostly. */
static int does_not_exist(const char *id, struct err *e)
{
	const char *root = getenv("UVM_RUN");

	return err_set(e, ENOENT, "container does not exist: there is no '%s'%s%s; --root names another directory",
		       id, root && *root ? " in " : "", root && *root ? root : "");
}

static int open_state(struct oci_state *s, const char *id, bool damaged, struct err *e)
{
	bool running;
	int r;

	*s = (struct oci_state){0};
	r = rundir_open_any(&s->vm, id, &running, e);
	if (!r) {
		r = load(s, e);
		if (r && (r == -ENOENT || !damaged)) {
			rundir_close(&s->vm);
		} else {
			find_status(s, running);
			find_guest(s);
			r = 0;
		}
	}
	if (r == -ENOENT || (r == -EINVAL && !rundir_id_valid(id)))
		return does_not_exist(id, e);
	return r;
}

int oci_state_open(struct oci_state *s, const char *id, struct err *e)
{
	return open_state(s, id, false, e);
}

int oci_state_open_damaged(struct oci_state *s, const char *id, struct err *e)
{
	*e->text = '\0';
	return open_state(s, id, true, e);
}

struct rundir *oci_state_guest(struct oci_state *s)
{
	return s->sandbox ? &s->guest : &s->vm;
}

const char *oci_state_name(const struct oci_state *s)
{
	return s->sandbox ? s->vm.id : RECORD_CONTAINER;
}

void oci_state_close(struct oci_state *s)
{
	if (s->has_guest)
		rundir_close(&s->guest);
	json_free(&s->doc);
	rundir_close(&s->vm);
}

bool oci_state_exists(const char *id)
{
	struct rundir vm;
	struct err ignored;
	bool running, there;

	if (!rundir_id_valid(id) || rundir_open_any(&vm, id, &running, &ignored))
		return false;
	there = has_own(&vm, STATE_FILE);
	rundir_close(&vm);
	return there;
}

const char *oci_status_name(enum oci_status status)
{
	static const char *const names[] = {[OCI_CREATING] = "creating",
					    [OCI_CREATED] = "created",
					    [OCI_RUNNING] = "running",
					    [OCI_PAUSED] = "paused",
					    [OCI_STOPPED] = "stopped"};

	return names[status];
}

void oci_state_print(const struct oci_state *s, FILE *out)
{
	struct json_writer w = {.out = out};

	json_put_open(&w, NULL, '{');
	json_put_string(&w, "ociVersion", OCI_VERSION);
	json_put_string(&w, "id", s->vm.id);
	json_put_int(&w, "pid", s->pid);
	json_put_string(&w, "status", oci_status_name(s->status));
	json_put_string(&w, "bundle", s->bundle);
	json_put_string(&w, "rootfs", s->rootfs);
	if (*s->created)
		json_put_string(&w, "created", s->created);
	if (s->annotations)
		json_put(&w, "annotations", s->annotations);
	json_put_string(&w, "owner", "");
	json_put_close(&w);
	putc('\n', out);
}

char *oci_state_text(const struct oci_state *s)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	oci_state_print(s, out);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

int oci_state_set_paused(const struct oci_state *s, bool paused, struct err *e)
{
	int own = rundir_own(&s->vm, false), r = 0;

	if (own < 0)
		return err_set(e, -own, "cannot write the state of '%s': %s", s->vm.id, strerror(-own));
	if (paused)
		r = make_mark(&s->vm, own, STATE_PAUSED, e);
	else if (unlinkat(own, STATE_PAUSED, 0) && errno != ENOENT)
		r = err_sys(e, "cannot write the state of '%s'", s->vm.id);
	close(own);
	return r;
}
