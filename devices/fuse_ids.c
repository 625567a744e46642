/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/fuse_ids.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(cap) (1ull << (cap))

#define NEEDED                                                                                     \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) |     \
	 BIT(CAP_FSETID) | BIT(CAP_SETUID) | BIT(CAP_SETGID))
#define USEFUL (BIT(CAP_MKNOD) | BIT(CAP_SETFCAP)) /* whiteouts; security.capability */

/* The calling thread, as the kernel has it. */
static _Thread_local struct {
	bool entered, able, setid;
	uid_t uid;
	gid_t gid;
	uint64_t caps;
} self;

static int get_caps(uint64_t *effective)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return -errno;
	*effective = (uint64_t)d[1].effective << 32 | d[0].effective;
	return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{.effective = (uint32_t)effective, .permitted = (uint32_t)permitted},
		{.effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32)}};

	return syscall(SYS_capset, &h, d) ? -errno : 0;
}

bool fuse_ids_able(void)
{
	const uint64_t want = NEEDED | BIT(CAP_SETPCAP);
	uint64_t has;

	return !geteuid() && !get_caps(&has) && (has & want) == want;
}

/* With the fix-up of the kernel off, a change of the user changes no capability. */
static int drop(void)
{
	int bits = prctl(PR_GET_SECUREBITS);
	int r = get_caps(&self.caps);

	if (r)
		return r;
	self.caps &= NEEDED | USEFUL;
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) ||
	    syscall(SYS_setgroups, 0, NULL))
		return -errno;
	return set_caps(self.caps, self.caps);
}

int fuse_ids_enter(bool able)
{
	int r;

	if (self.entered)
		return 0;
	/* A umask of its own. Some containers forbid that; then the process's counts as well. */
	if (!unshare(CLONE_FS))
		umask(0);
	r = able ? drop() : 0;
	self.able = able;
	self.setid = true;
	self.uid = geteuid();
	self.gid = getegid();
	self.entered = !r;
	return r;
}

int fuse_ids_become(uid_t uid, gid_t gid)
{
	if (gid != self.gid) {
		syscall(SYS_setfsgid, gid);
		self.gid = (gid_t)syscall(SYS_setfsgid, -1); /* the only way to hear of a failure */
	}
	if (uid != self.uid) {
		syscall(SYS_setfsuid, uid);
		self.uid = (uid_t)syscall(SYS_setfsuid, -1);
	}
	return uid == self.uid && gid == self.gid ? 0 : -EPERM;
}

int fuse_ids_keep_setid(bool keep)
{
	int r = 0;

	if (self.able && keep != self.setid) {
		r = set_caps(keep ? self.caps : self.caps & ~BIT(CAP_FSETID), self.caps);
		if (!r)
			self.setid = keep;
	}
	return r;
}
