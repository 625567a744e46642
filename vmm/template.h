/* SPDX-License-Identifier: Apache-2.0
 *
 * template: the VMs that containers are started from: snapshots of guests without a root file system,
 * frozen when their agent was ready, with placeholders for the disks that a container brings.
 *
 * Theory of operation. Such a guest has nothing of any container's in it, so one template serves all
 * that want the same kernel, memory, CPUs and number of drives. It is a snapshot in the directory
 * "templates" of the cache (cache.h), under a key: a sum over all that it depends on. So a template is
 * never out of date; one that nobody's key leads to any more is only in the way (template_prune).
 * What snapshot_open refuses, damaged by whatever, is not used but made anew.
 *
 * A key has the sum of the kernel's content in it, which the cache remembers for the file's stamp.
 *
 * Making one boots a VM in a process of its own and takes a snapshot of it as "uvm snapshot" does,
 * under a lock of the directory, so that of two who need it at the same instant one makes it. The one who
 * does goes on when it has its name; the VM's process completes it (snapshot_complete), and keeps the lock
 * until then, so that others wait for that.
 */
#ifndef UVM_VMM_TEMPLATE_H
#define UVM_VMM_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/snapshot.h"
#include "vmm/cpuid.h"
#include "vmm/opt.h"

#define TEMPLATE_DIR	"templates"
#define TEMPLATE_KEY	16 /* characters */
/* Placeholders, the first of which is read-only. Each costs a start a little, so most have few. */
#define TEMPLATE_DRIVES_FEW 2u
#define TEMPLATE_DRIVES	    8u
#define TEMPLATE_SHARE	    "root"

struct template {
	const char *kernel; /* path */
	uint64_t memory;    /* bytes */
	uint32_t cpus;
	enum cpuid_template cpu;
	unsigned int drives;
	bool share; /* also a placeholder for a directory, with the tag TEMPLATE_SHARE */
	/* Placeholders for network devices, which a guest that may have none does better without. What
	 * their drivers take for given is settled when they begin: the MTU is the largest that there is.
	 */
	unsigned int nets;
	bool offload; /* for tap devices; else frames as they are: passt and sockets */
	char key[TEMPLATE_KEY + 1]; /* template_find's; empty: not known yet */
};

#define TEMPLATE_MEMORY (256ull << 20)

static inline void template_defaults(struct template *t)
{
	t->memory = TEMPLATE_MEMORY;
	t->cpus = 1;
}

/* The options that choose one. at: the template's offset in the configuration. */
#define TEMPLATE_OPTIONS(at)                                                                       \
	{"memory", 'm', "SIZE", "guest memory (default 256M)", opt_set_size,                       \
	 (at) + offsetof(struct template, memory)},                                                \
	{"cpus", 'c', "N", "vCPUs, 1 to 32 (default 1)", opt_set_u32, (at) + offsetof(struct template, cpus)}, \
	{"cpu-template", 0, "host|baseline",                                                       \
	 "CPU features: all of this host's, or those that are common", cpuid_set_template,         \
	 (at) + offsetof(struct template, cpu)},                                                   \
	{"kernel", 'k', "FILE", "the guest's kernel (default: $UVM_KERNEL, or the installed one)", \
	 opt_set_str, (at) + offsetof(struct template, kernel)}

/* How many drives the template has that so many disks want. */
static inline unsigned int template_drives(unsigned int disks)
{
	return disks > TEMPLATE_DRIVES_FEW ? TEMPLATE_DRIVES : TEMPLATE_DRIVES_FEW;
}

/* Whether there can be such a VM, but for its kernel. Returns 0 or -EINVAL. */
int template_check(const struct template *t, struct err *e);

/* The kernel to use: what was asked for, if it is not NULL; $UVM_KERNEL; lib/uvm/vmlinux beside the
 * directory of this program; vmlinux in it. Writes its path. Returns 0, or -ENOENT with a message.
 */
int template_kernel(char path[PATH_MAX], const char *asked, struct err *e);

/* The key of t. Returns 0, or -errno with a message. */
int template_key(const struct template *t, char key[TEMPLATE_KEY + 1], struct err *e);

/* Where t's template is, or would be; t knows its key then. Returns 0, or -errno with a message. */
int template_find(struct template *t, char path[PATH_MAX], struct err *e);

/* Opens t's template, making it if it is not there or is damaged, which a line on standard error says.
 * The descriptors are the caller's, and snapshot_close's. Returns 0 or -errno.
 */
int template_open(const struct template *t, struct snapshot *s, struct err *e);

/* The same, without opening it: it is there afterwards. Writes its key. */
int template_make(const struct template *t, char key[TEMPLATE_KEY + 1], struct err *e);

/* Calls visit for each directory among the templates, in the order of their keys, with its path, until
 * it returns something else than 0, and returns that.
 */
int template_each(int (*visit)(void *ctx, const char *key, const char *path), void *ctx,
		  struct err *e);

/* Whether what is there under this key could be opened and is what somebody who names the same kernel
 * file, memory, CPUs and drives would get now. If not, why says so.
 */
bool template_current(const char *key, const char *path, struct err *why);

/* Removes one; -EBUSY while snapshots of its clones need it. */
int template_remove(const char *key, struct err *e);

#endif
