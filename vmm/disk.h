/* SPDX-License-Identifier: Apache-2.0
 *
 * disk: what a guest's disk consists of on the host: an image, and copy-on-write layers over it.
 *
 * A disk is a stack of files. The lowest is a raw image; each one above is a layer (blk_overlay)
 * that holds what was written since it was put there. Only the uppermost is ever written, so every
 * file below can be shared: between clones of a snapshot, and between a VM and its forks. A layer of
 * a VM's own has no name in any directory: it goes with the last process that has it open.
 *
 * A file with a path is one that does not change under the VM's feet and can be named in a
 * snapshot: an image that is read or layered over, or a file of a snapshot. Others are copied.
 */
#ifndef UVM_VMM_DISK_H
#define UVM_VMM_DISK_H

#include "devices/blk_file.h"
#include "devices/blk_overlay.h"
#include "snapshot/snapshot.h"
#include "vmm/rundir.h"
#include "vmm/worker.h"

#define DISK_PLACEHOLDER "placeholder" /* instead of a path: a disk of size 0, for a clone to fill */

struct disk_config {
	const char *path;
	bool read_only;
	bool layered; /* writes go to a layer of the VM's own, the image stays as it is */
	bool direct;  /* beside the page cache */
	bool threads; /* one request at a time, by the disk's thread */
	/* Of the device, also in a snapshot: */
	uint32_t queues;	     /* 0: as many as suit the VM's CPUs */
	char serial[BLK_SERIAL + 1]; /* empty: one by its number */
	struct blk_limits limits;
	int fd; /* disk_fill's: the image, which another process has opened. 0: it is opened by its path */
};

struct disk {
	struct blk_file image;
	struct blk_overlay *layer[SNAPSHOT_DISK_LAYERS]; /* now.files - 1 of them, the lowest first */
	struct snapshot_disk now;   /* path empty: a file of this VM's own */
	int spare; /* between disk_share and what follows: a file made in advance; -1: none */
	struct virtio_blk blk;
	struct worker worker;
};

/* A disk as an option has it: a path, and words behind it (DISK_WORDS). value is the process's own argv,
 * which is cut at the commas. disk_check tells whether cfg, which can come from a snapshot, is one.
 */
#define DISK_WORDS                                                                                 \
	"What may follow a disk's IMG: ro; cow, writes go to a layer of the VM's own; serial=TEXT,\n"  \
	"up to 20 characters; queues=N, 1 to 4 (default: the vCPUs, at most 4); bps=N[:BURST] and\n"    \
	"iops=N[:BURST], limits in bytes and requests each second, and what may come at once\n"        \
	"after a pause (default a tenth of a second's); direct=on|off (default off), beside the\n"     \
	"host's page cache; aio=uring|threads (default uring, where the host allows it).\n"
int disk_parse(struct disk_config *cfg, const char *value, struct err *e);
bool disk_check(const struct disk_config *cfg);

/* Opens what the command line names. The message names the path. */
int disk_open(struct disk *d, const struct disk_config *cfg, const struct rundir *vm, struct err *e);

/* The same of a file that another process has opened, for writing too unless cfg does not write to it.
 * cfg's path is what that is called, and where it is found again if it is absolute. fd becomes the disk's,
 * or is closed.
 */
int disk_open_fd(struct disk *d, const struct disk_config *cfg, int fd, const struct rundir *vm,
		 struct err *e);

/* Gives back all that the disk has, whose worker has stopped; of one that was not initialised (disk_init)
 * its files.
 */
void disk_close(struct disk *d);
void disk_close_files(struct disk *d);

/* Opens disk `index` of a snapshot, with a new layer on top if it is writable. */
int disk_clone(struct disk *d, const struct snapshot *s, unsigned int index,
	       const struct rundir *vm, struct err *e);

/* Makes the device of an opened disk, with a worker that is not started. index: of the disk, for its
 * default serial number; cpus: the VM's; irq stays the caller's.
 */
int disk_init(struct disk *d, const struct disk_config *cfg, unsigned int index, uint32_t cpus,
	      const struct mem *m, struct irq irq, struct err *e);

/* The back end for the device: the top of the stack; of size 0 for a placeholder. */
struct blk_backend *disk_backend(struct disk *d);

/* Makes what the disk may want later and a confined process cannot make: its ring. */
void disk_prepare(struct disk *d);

/* Gives a placeholder, whose device exists and stands still, what it stands for; its driver is told.
 * A placeholder that was declared read-only stays so. What cfg says of the device goes to it, and
 * into `has`, which is what it had been made with.
 */
int disk_fill(struct disk *d, const struct disk_config *cfg, struct disk_config *has,
	      const struct rundir *vm, struct err *e);

/* Makes a raw image of a snapshot's writable disk in the directory of another, which `as` then
 * describes; a read-only disk is only described.
 */
int disk_flatten(const struct snapshot *s, unsigned int index, const struct snapshot_draft *to,
		 struct snapshot_disk *as, struct err *e);

/* --- while the VM is paused --- */

/* Makes a copy, in a snapshot's directory, of each file that has no path, or one in the snapshot
 * `gone` (may be NULL), and describes the disk as it is there. What was written before is in it.
 */
int disk_copy(struct disk *d, const struct snapshot_draft *to, unsigned int index, const struct snapshot *gone,
	      struct snapshot_disk *as, struct err *e);

/* Makes the stack one that another process can build on: for a fork. Then the parent calls
 * disk_continue, also after a failure, and each child disk_adopt.
 */
int disk_share(struct disk *d, const struct rundir *vm, struct err *e);
void disk_continue(struct disk *d);
int disk_adopt(struct disk *d, const struct disk *parent, const struct rundir *vm, struct err *e);

#endif
