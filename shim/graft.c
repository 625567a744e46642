/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/graft.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/mount.h"
#include "vmm/util.h"

#define FILE_NAME "place" /* in the clients' own directory (rundir_own): what struct place is */

/* The descriptor of the monitor's, and what it was of: by then it may be of anything that the monitor has. */
struct place {
	int number;
	unsigned long long dev, ino;
};

/* --- in the monitor's process --- */

static int put_place(int share)
{
	int on = oci_mount_target(share, GRAFT_DIR, true), place, r;

	if (on < 0)
		return on;
	place = oci_mount_empty(on);
	close(on);
	if (place < 0)
		return place;
	r = fchmodat(place, ".", 0711, 0) ? -errno : oci_mount_set(place, MS_RDONLY, false);
	if (!r)
		return place;
	close(place);
	return r;
}

static int write_place(const struct rundir *vm, int number)
{
	int fd = rundir_own_file(vm, FILE_NAME, O_WRONLY | O_CREAT | O_EXCL), n, r;
	struct stat st;
	char text[64];

	if (fd < 0)
		return fd;
	r = fstat(number, &st) ? -errno : 0;
	if (!r) {
		n = snprintf(text, sizeof(text), "%d %llu %llu\n", number, (unsigned long long)st.st_dev,
			     (unsigned long long)st.st_ino);
		r = write_all(fd, text, (size_t)n);
	}
	close(fd);
	return r;
}

int graft_make(const struct rundir *vm, int share, struct err *e)
{
	int place = put_place(share), r = place < 0 ? place : write_place(vm, place);

	return r ? err_set(e, -r, "cannot make a place for other containers' files: %s", strerror(-r)) : 0;
}

/* --- elsewhere --- */

int graft_name(char name[GRAFT_NAME + 1], struct err *e)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return err_sys(e, "no random numbers");
	snprintf(name, GRAFT_NAME + 1, "%016llx", (unsigned long long)number);
	return 0;
}

/* Opens the file, and locks it: one at a time makes changes. Returns it or -errno. */
static int lock(const struct rundir *vm, struct place *p)
{
	int fd = rundir_own_file(vm, FILE_NAME, O_RDONLY);
	char text[64] = "";

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX) || read(fd, text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "%d %llu %llu\n", &p->number, &p->dev, &p->ino) != 3) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* --- in the monitor's mount namespace --- */

/* A mount of the same that can be written to. */
static int open_writable(int place)
{
	int tree = oci_mount_copy(place, "", false), r = tree < 0 ? tree : oci_mount_allow_writes(tree);

	if (r && tree >= 0)
		close(tree);
	return r ? r : tree;
}

static int add(int place, const char *name, int tree)
{
	int writable = open_writable(place), target, r;

	if (writable < 0)
		return writable;
	r = mkdirat(writable, name, 0700) ? -errno : 0;
	target = r ? r : openat(place, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 && !r)
		r = -errno;
	if (!r)
		r = oci_mount_put(tree, target);
	if (target >= 0)
		close(target);
	close(writable);
	return r;
}

static int take_out(int place, const char *name)
{
	int writable = open_writable(place), r = 0;

	if (writable < 0)
		return writable;
	if (fchdir(place) || (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) && errno != EINVAL) ||
	    unlinkat(writable, name, AT_REMOVEDIR))
		r = -errno;
	close(writable);
	return r;
}

/* tree -1: takes out. */
static int change(int pidfd, const struct place *p, const char *name, int tree)
{
	int place = (int)syscall(SYS_pidfd_getfd, pidfd, p->number, 0);
	struct stat st;

	if (place < 0 || fstat(place, &st))
		return -errno;
	if (st.st_dev != p->dev || st.st_ino != p->ino)
		return -ESTALE; /* a file system of ours, which no other is numbered like */
	if (setns(pidfd, CLONE_NEWNS))
		return -errno;
	return tree >= 0 ? add(place, name, tree) : take_out(place, name);
}

/* --- in a process of its own, which goes there and does not come back --- */

static int change_apart(const struct rundir *vm, int pidfd, const char *name, int tree)
{
	struct place place;
	int held = lock(vm, &place), status;
	pid_t pid;

	if (held < 0)
		return held;
	pid = fork();
	if (!pid)
		_exit(-change(pidfd, &place, name, tree) & 0xff);
	if (pid < 0)
		status = -errno;
	else if (waitpid(pid, &status, 0) < 0)
		status = -errno;
	else
		status = WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
	close(held);
	return status;
}

int graft_add(const struct rundir *vm, int pidfd, const char *name, int tree, struct err *e)
{
	int r = change_apart(vm, pidfd, name, tree);

	if (r == -ENOENT)
		return err_set(
			e, ENOENT,
			"the VM of container '%s' cannot have another container's files: its root is an "
			"image (make it with rootfs=share), or it is of another version of this runtime (make it "
			"anew)",
			vm->id);
	return r ? err_set(e, -r, "cannot put the container's files into the VM of '%s': %s", vm->id,
			   strerror(-r))
		 : 0;
}

void graft_remove(const struct rundir *vm, int pidfd, const char *name)
{
	change_apart(vm, pidfd, name, -1);
}
