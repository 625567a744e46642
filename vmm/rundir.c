/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/util.h"

#define LOCK	    "lock"
#define PID	    "pid"
#define KEEP	    "keep"
#define ROOT_SYSTEM "/run/uvm"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1u << 0)
#endif

int rundir_sockets(const struct rundir *r)
{
	return r->keeper >= 0 ? AT_FDCWD : r->dir;
}

bool rundir_id_valid(const char *id)
{
	static const char alnum[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t n = strlen(id);

	if (n < 1 || n > RUNDIR_ID_MAX || !strchr(alnum, id[0]))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!strchr(alnum, id[i]) && !strchr("._-", id[i]))
			return false;
	return true;
}

static bool is_hidden(const char *id)
{
	return !strncmp(id, RUNDIR_POOL, strlen(RUNDIR_POOL)) || !strncmp(id, RUNDIR_SHELL, strlen(RUNDIR_SHELL));
}

static int root_path(char path[PATH_MAX], struct err *e)
{
	const char *run = getenv("UVM_RUN"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (run && *run)
		n = snprintf(path, PATH_MAX, "%s", run);
	else if (xdg && *xdg)
		n = snprintf(path, PATH_MAX, "%s/uvm", xdg);
	else
		n = snprintf(path, PATH_MAX, ROOT_SYSTEM);
	return n < PATH_MAX ? 0 : err_set(e, ENAMETOOLONG, "the run directory's path is too long");
}

/* Opens the directory of all VMs, making it if make. It must be ours: what it holds is trusted. */
static int open_root(bool make, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, r = root_path(path, e);

	if (r)
		return r;
	fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && make) {
		if (mkdir(path, 0700) && errno != EEXIST)
			return err_sys(e, "cannot make run directory %s", path);
		fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys(e, "cannot open run directory %s", path);
	if (!fstat(fd, &st) && st.st_uid != geteuid() && geteuid() != 0) {
		close(fd);
		return err_set(e, EPERM, "run directory %s belongs to another user; set UVM_RUN",
			       path);
	}
	return fd;
}

/* Makes and cleans directories one process at a time: without it, whoever looks at a directory
 * just made, or just left, would race with its owner.
 */
static void lock_root(int root)
{
	while (flock(root, LOCK_EX) && errno == EINTR)
		;
}

static void unlock_root(int root)
{
	flock(root, LOCK_UN);
}

static bool is_empty(int dir)
{
	int fd = openat(dir, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC), n = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n == 2; /* "." and ".." */
}

/* A directory with something in it and no lock is no VM's, but its user's: a snapshot, for one. */
static int open_lock(const struct rundir *r, bool made)
{
	int fd = made ? -1 : openat(r->dir, LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (!made && (fd >= 0 || errno != ENOENT))
		return fd;
	if (made || is_empty(r->dir))
		return openat(r->dir, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	errno = EUCLEAN;
	return -1;
}

/* Opens r->id's directory, just made or not, and locks it, which makes the id ours. Returns 0, -EEXIST if another
 * process holds it, -EUCLEAN if it is no VM's, or another -errno. Under the root's lock.
 */
static int take_lock(struct rundir *r, bool made)
{
	int error;

	r->dir = openat(r->root, r->id, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (r->dir < 0)
		return -errno;
	r->lock = open_lock(r, made);
	if (r->lock >= 0 && flock(r->lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	error = r->lock >= 0 && errno == EWOULDBLOCK ? -EEXIST : -errno;
	if (r->lock >= 0)
		close(r->lock);
	close(r->dir);
	return error;
}

/* Removes the files in dir but a lock; what is no file stays, and then so does the
 * directory.
 */
static void empty(int dir)
{
	int fd = openat(dir, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d)
		return;
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, LOCK))
			unlinkat(fd, entry->d_name, 0);
	closedir(d);
}

#define OWN "%s%s", ".own-" /* no VM's id begins like that, nor a hidden one */
#define OWN_MAX (RUNDIR_ID_MAX + 16)

int rundir_own(const struct rundir *r, bool make)
{
	char name[OWN_MAX];
	int fd, error;

	snprintf(name, sizeof(name), OWN, r->id);
	error = make && mkdirat(r->root, name, 0700) ? errno : 0;
	if (error && error != EEXIST)
		return -error;
	fd = openat(r->root, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && make)
		empty(fd);
	return fd < 0 ? -errno : fd;
}

int rundir_own_file(const struct rundir *r, const char *name, int flags)
{
	int own = rundir_own(r, false), fd;

	if (own < 0)
		return own;
	fd = openat(own, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		fd = -errno;
	close(own);
	return fd;
}

static bool has_own(const struct rundir *r)
{
	int fd = rundir_own(r, false);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void remove_own(const struct rundir *r)
{
	char name[OWN_MAX];
	int fd = rundir_own(r, false);

	if (fd < 0)
		return;
	empty(fd);
	close(fd);
	snprintf(name, sizeof(name), OWN, r->id);
	unlinkat(r->root, name, AT_REMOVEDIR);
}

bool rundir_kept(const struct rundir *r)
{
	struct stat st;

	return !fstatat(r->dir, KEEP, &st, AT_SYMLINK_NOFOLLOW) || has_own(r);
}

/* Removes the directory that we have locked, and lets go of it. Under the root's lock. */
static void remove_locked(struct rundir *r)
{
	empty(r->dir);
	remove_own(r);
	unlinkat(r->dir, LOCK, 0);
	/* Where something stays that is no file, the directory is known as a VM's all the same. */
	close(r->lock);
	if (unlinkat(r->root, r->id, AT_REMOVEDIR) && errno == ENOTEMPTY) {
		int lock = openat(r->dir, LOCK, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (lock >= 0)
			close(lock);
	}
	close(r->dir);
}

static int create_locked(struct rundir *r)
{
	bool there = mkdirat(r->root, r->id, 0700);
	int error;

	if (there && errno != EEXIST)
		return -errno;
	error = take_lock(r, !there);
	if (there && !error && rundir_kept(r)) {
		close(r->lock);
		close(r->dir);
		return -ENOTEMPTY;
	}
	if (there && !error)
		empty(r->dir); /* of what a dead VM of this id left */
	return error;
}

#define RANDOM_ID 12 /* characters */

static void random_id(char id[RANDOM_ID + 1])
{
	uint8_t raw[RANDOM_ID / 2];

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		memset(raw, 0, sizeof(raw));
	for (unsigned int i = 0; i < sizeof(raw); i++)
		snprintf(id + 2 * i, 3, "%02x", raw[i]);
}

static int check_id(const char *id, struct err *e)
{
	return !id || rundir_id_valid(id)
		       ? 0
		       : err_set(e, EINVAL,
				 "id '%s' is not valid: use 1 to %d letters, digits, '.', '_' and '-', "
				 "beginning with a letter or digit",
				 id, RUNDIR_ID_MAX);
}

/* id NULL: a random one behind the prefix. */
static int create(struct rundir *r, const char *id, const char *prefix, struct err *e)
{
	char number[RANDOM_ID + 1];
	int error;

	r->keeper = -1;
	r->root = open_root(true, e);
	if (r->root < 0)
		return r->root;
	lock_root(r->root);
	do {
		if (!id)
			random_id(number);
		snprintf(r->id, sizeof(r->id), "%s%s", prefix, id ? id : number);
		error = create_locked(r);
	} while ((error == -EEXIST || error == -ENOTEMPTY) && !id);
	unlock_root(r->root);
	if (!error)
		return 0;
	close(r->root);
	if (error == -ENOTEMPTY)
		return err_set(e, EEXIST,
			       "a container with id '%s' has ended and is kept; 'uvm rm' removes it",
			       r->id);
	if (error == -EUCLEAN)
		return err_set(e, EEXIST,
			       "there is a directory '%s' beside those of VMs, which is no VM's; take another name, or move it",
			       r->id);
	return error == -EEXIST ? err_set(e, EEXIST, "a VM with id '%s' is running already; 'uvm stop %s' ends it", r->id, r->id)
				: err_set(e, -error, "cannot make the run directory of '%s': %s",
					  r->id, strerror(-error));
}

int rundir_create(struct rundir *r, const char *id, struct err *e)
{
	int error = check_id(id, e);

	return error ? error : create(r, id, "", e);
}

int rundir_create_hidden(struct rundir *r, const char *prefix, const char *id, struct err *e)
{
	return create(r, id, prefix, e);
}

int rundir_show(struct rundir *r, const char *id, struct err *e)
{
	int error = check_id(id, e);
	char to[RUNDIR_ID_MAX + 1];

	if (!error && *r->id != '.')
		error = err_set(e, EEXIST, "it has its name already");
	if (error)
		return error;
	do {
		if (id)
			snprintf(to, sizeof(to), "%s", id);
		else
			random_id(to);
		error = syscall(SYS_renameat2, r->root, r->id, r->root, to, RENAME_NOREPLACE) ? errno : 0;
	} while (error == EEXIST && !id);
	if (error)
		return err_set(e, error, "cannot name the run directory '%s': %s", to, strerror(error));
	memcpy(r->id, to, sizeof(to));
	return 0;
}

int rundir_give(const struct rundir *r, uid_t uid, gid_t gid, struct err *e)
{
	int fd = openat(r->dir, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC), error = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d)
		return err_sys(e, "cannot read the run directory of '%s'", r->id);
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    fchownat(fd, entry->d_name, uid, gid, AT_SYMLINK_NOFOLLOW))
			error = errno;
	if (fchown(fd, uid, gid)) /* last: from then on it can be changed by others */
		error = errno;
	closedir(d);
	return error ? err_set(e, error, "cannot give the run directory of '%s' to user %u: %s", r->id,
			       (unsigned int)uid, strerror(error))
		     : 0;
}

int rundir_write_pid(const struct rundir *r, struct err *e)
{
	int fd = openat(r->dir, PID, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);
	int error;

	/* As the others' /proc has it: our own PID namespace may be another. */
	if (n > 0)
		text[n++] = '\n';
	else
		n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (fd < 0)
		return err_sys(e, "cannot write the pid file of '%s'", r->id);
	error = write_all(fd, text, (size_t)n);
	close(fd);
	return error ? err_set(e, -error, "cannot write the pid file of '%s': %s", r->id,
			       strerror(-error))
		     : 0;
}

void rundir_release(struct rundir *r)
{
	close(r->lock);
	close(r->dir);
	if (r->root >= 0)
		close(r->root);
}

int rundir_keep(const struct rundir *r, struct err *e)
{
	int fd = openat(r->dir, KEEP, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, "cannot keep the directory of '%s'", r->id);
	close(fd);
	return 0;
}

/* Of one that is kept, what only a running VM has. */
static void tidy_locked(struct rundir *r)
{
	static const char *const live[] = {PID, RUNDIR_CONTROL, RUNDIR_VSOCK};

	for (size_t i = 0; i < ARRAY_SIZE(live); i++)
		unlinkat(r->dir, live[i], 0);
	close(r->lock);
	close(r->dir);
}

void rundir_remove(struct rundir *r)
{
	lock_root(r->root);
	if (rundir_kept(r))
		tidy_locked(r);
	else
		remove_locked(r);
	unlock_root(r->root);
	close(r->root);
}

/* Finds out whether r->id runs; a dead one's directory is removed. Returns 0 with r->dir open
 * (and no lock) if it does, and -ESRCH with it open if it has ended and is kept, else -ENOENT or
 * another -errno.
 */
static int look_up(struct rundir *r)
{
	int error;

	lock_root(r->root);
	error = take_lock(r, false);
	if (error == 0 && rundir_kept(r)) {
		close(r->lock);
		r->lock = -1;
		error = -ESRCH;
	} else if (error == 0) {
		remove_locked(r);
		error = -ENOENT;
	} else if (error == -EEXIST) {
		r->lock = -1;
		r->dir = openat(r->root, r->id, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		error = r->dir < 0 ? -errno : 0;
	}
	unlock_root(r->root);
	return error;
}

int rundir_open_any(struct rundir *r, const char *id, bool *running, struct err *e)
{
	int error;

	*running = false;
	r->keeper = -1;
	if (!rundir_id_valid(id) && !is_hidden(id))
		return err_set(e, EINVAL, "'%s' is not a VM's id", id);
	snprintf(r->id, sizeof(r->id), "%s", id);
	r->root = open_root(false, e);
	if (r->root == -ENOENT)
		error = -ENOENT;
	else if (r->root < 0)
		return r->root;
	else
		error = look_up(r);
	if (error == -ESRCH)
		return 0;
	if (error && r->root >= 0)
		close(r->root);
	if (error == -ENOENT || error == -EUCLEAN)
		return err_set(e, ENOENT, "no VM with id '%s' is running; 'uvm ps' lists them", id);
	*running = !error;
	return error ? err_set(e, -error, "cannot open VM '%s': %s", id, strerror(-error)) : 0;
}

int rundir_open(struct rundir *r, const char *id, struct err *e)
{
	bool running;
	int error = rundir_open_any(r, id, &running, e);

	if (error || running)
		return error;
	rundir_close(r);
	return err_set(e, ENOENT, "'%s' has ended; 'uvm rm' removes what is left of it", id);
}

int rundir_forget(struct rundir *r, struct err *e)
{
	int error;

	lock_root(r->root);
	close(r->dir);
	error = take_lock(r, false);
	if (!error)
		remove_locked(r);
	unlock_root(r->root);
	close(r->root);
	if (error == -ENOENT)
		return 0; /* somebody else has */
	return error == -EEXIST ? err_set(e, EBUSY, "'%s' is running", r->id)
	       : error		? err_set(e, -error, "cannot remove '%s': %s", r->id, strerror(-error))
				: 0;
}

void rundir_close(struct rundir *r)
{
	close(r->dir);
	close(r->root);
}

pid_t rundir_pid(const struct rundir *r, struct err *e)
{
	int fd = openat(r->dir, PID, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[16] = "";
	long pid = 0;

	if (fd < 0)
		return err_sys(e, "VM '%s' has no process id yet", r->id);
	if (read(fd, text, sizeof(text) - 1) > 0)
		pid = strtol(text, NULL, 10);
	close(fd);
	return pid > 1 ? (pid_t)pid
		       : err_set(e, EINVAL, "VM '%s' has a pid file that makes no sense", r->id);
}

/* prefix: those hidden ones, or NULL: those that are VMs. */
static int each_of(int root, struct dirent **names, int n, bool with_kept, const char *prefix,
		   int (*visit)(void *, const char *), void *ctx)
{
	int r = 0;

	for (int i = 0; i < n && !r; i++) {
		struct rundir vm = {.root = root, .keeper = -1};
		int error;

		if (strlen(names[i]->d_name) > RUNDIR_ID_MAX ||
		    (!is_hidden(names[i]->d_name) && !rundir_id_valid(names[i]->d_name)))
			continue;
		memcpy(vm.id, names[i]->d_name, strlen(names[i]->d_name) + 1);
		error = look_up(&vm); /* of a hidden one, too: what the dead have left goes */
		if (error && error != -ESRCH)
			continue;
		close(vm.dir);
		if (prefix ? !strncmp(vm.id, prefix, strlen(prefix)) : !is_hidden(vm.id) && (!error || with_kept))
			r = visit(ctx, vm.id);
	}
	return r;
}

static int each(bool with_kept, const char *prefix, int (*visit)(void *ctx, const char *id), void *ctx,
		struct err *e)
{
	struct dirent **names;
	char path[PATH_MAX];
	int root = open_root(false, e), n, r;

	if (root == -ENOENT)
		return 0;
	if (root < 0)
		return root;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", root);
	n = scandir(path, &names, NULL, alphasort);
	if (n < 0) {
		r = err_sys(e, "cannot read the run directory");
		close(root);
		return r;
	}
	r = each_of(root, names, n, with_kept, prefix, visit, ctx);
	while (n > 0)
		free(names[--n]);
	free(names);
	close(root);
	return r;
}

int rundir_each(bool with_kept, int (*visit)(void *ctx, const char *id), void *ctx, struct err *e)
{
	return each(with_kept, NULL, visit, ctx, e);
}

int rundir_each_hidden(const char *prefix, int (*visit)(void *ctx, const char *id), void *ctx, struct err *e)
{
	return each(false, prefix, visit, ctx, e);
}

int rundir_open_all(struct err *e)
{
	return open_root(true, e);
}
