/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot: a frozen VM in a directory: opened and checked, written, published.
 *
 *   manifest   what it is: sums and sizes of all the rest, the parent, the disks
 *   state      devices, vCPUs, interrupt controllers, clock (state.h)
 *   memory     the guest's memory, sparse (memfile.h)
 *   disk-N.M   layer M of disk N, where the disk is not a file elsewhere that does not change
 *   working-set  what a clone writes first; not part of the snapshot either
 *   seal       when and where these files were last found to be whole; not part of the snapshot
 *   children   a directory with the snapshots that need this one, a link each
 *
 * docs/snapshot.md has the bytes. Everything in a snapshot is taken as hostile.
 *
 * Theory of operation. manifest and state are small: they are read and their checksums compared at
 * every open. Memory and disks are mapped or read lazily and may be large. They are read as a whole
 * only where the seal does not fit: it holds the identity, size and times of each file at the moment
 * they were known to be right, and the host's boot. A file that anybody wrote to, cut off, replaced
 * or copied has other ones, and then its sum is made and compared before anything is done with it.
 *
 * Writing happens in a directory beside the final one, which is synced and then renamed: at every
 * moment the final name is the old snapshot, the new one, or absent. One that was left by a process
 * that died is found by its lock, which nobody holds, and removed by the next.
 */
#ifndef UVM_SNAPSHOT_SNAPSHOT_H
#define UVM_SNAPSHOT_SNAPSHOT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapshot/memfile.h"
#include "snapshot/state.h"

#define SNAPSHOT_DISKS	     32u
#define SNAPSHOT_DISK_LAYERS 32u /* files of one disk: a raw image, and overlays on it */

struct snapshot_text {
	uint32_t len;
	char s[PATH_MAX]; /* ends in a zero that len does not count */
};

struct snapshot_name { /* a short text */
	uint32_t len;
	char s[128];
};

/* A file that a disk is made of. */
struct snapshot_file {
	struct snapshot_text path; /* a name in the directory, or an absolute path elsewhere */
	uint64_t size, sum;	   /* bytes; sum.h */
	bool sum_known;		   /* while a snapshot is made: size and sum need not be found out */
	int fd;			   /* then, of a path elsewhere: the open file */
};

struct snapshot_disk {
	bool read_only;
	uint64_t size; /* as the guest sees it; 0: a placeholder */
	uint32_t files;
	struct snapshot_file file[SNAPSHOT_DISK_LAYERS]; /* the lowest first */
};

struct snapshot_manifest {
	struct snapshot_name version; /* of the uvm that wrote it */
	struct snapshot_name source;  /* the VM's id */
	uint64_t created;	      /* CLOCK_REALTIME, seconds */
	uint8_t uuid[16];
	bool has_parent;
	uint8_t parent_uuid[16];
	uint64_t memory;	     /* bytes */
	uint32_t cpus;
	bool agent; /* the guest's agent was ready: a clone is ready when it has answered */
	bool has_root; /* disk 0 is the root file system */
	uint64_t state_size, state_sum;
	uint64_t memory_sum, memory_stored;
	bool unsummed; /* memory_sum is still to be made, by snapshot_complete */
	uint32_t disks;
	struct snapshot_text kernel; /* the path that it was booted from; for people */
	struct snapshot_text parent; /* its directory, absolute */
};

struct snapshot {
	int dir, memory; /* descriptors */
	struct snapshot_disk *disk; /* m.disks of them */
	uint8_t *state_file;
	struct state_reader state;
	struct memfile_extent *extents; /* with a parent; else NULL */
	uint32_t extent_count;
	struct snapshot *parent;
	bool sealed; /* the files were not read, for the seal says that nobody changed them */
	struct state_writer seal; /* a new one, of the files as they were before they were read */
	/* The long texts of m, and what follows, are empty rather than cleared: a page of memory that
	 * is touched costs a microsecond.
	 */
	struct snapshot_manifest m;
	char path[PATH_MAX]; /* absolute */
};

/* When the sums of memory and disks are compared, which reads them. */
enum snapshot_check {
	SNAPSHOT_UNLESS_SEALED,
	SNAPSHOT_READ_ALL,
	SNAPSHOT_JUST_SAVED, /* not: it is the caller's alone, who has had it saved this moment. One
			      * that is not complete yet can be opened so only. */
};

/* Opens the snapshot in directory path, with its parents, and checks it. Returns 0, or -errno with a
 * message that names what is wrong.
 */
int snapshot_open(struct snapshot *s, const char *path, enum snapshot_check check, struct err *e);
void snapshot_close(struct snapshot *s);

/* Whether one that is open has not been removed or replaced since; its parents are not looked at. */
bool snapshot_is_there(const struct snapshot *s);

/* Only the manifest and its disks, for info: nothing else is looked at. */
int snapshot_read_manifest(struct snapshot *s, const char *path, struct err *e);

/* Writes the seal, after the host was found to be able to run it. A directory that cannot be
 * written to stays without: the next open reads everything again.
 */
void snapshot_seal(const struct snapshot *s);

/* What may come after a snapshot has its name, since clones of it can do without: the sum of its memory,
 * if it has none, and its seal. s was opened with SNAPSHOT_JUST_SAVED. Waits for the clock's tick. Returns
 * 0, or -errno with a message.
 */
int snapshot_complete(struct snapshot *s, struct err *e);

/* The working set, see workset.c. Populate: before the VM is made; returns whether there is one, else
 * the clone, when it is ready, is to record it.
 */
bool snapshot_populate(const struct snapshot *s, const struct mem *m);
void snapshot_record(const struct snapshot *s, const struct mem *m);

/* Opens a file of a disk, read-only, by the rules of the path above. Returns a descriptor or -errno. */
int snapshot_open_file(const struct snapshot *s, const struct snapshot_file *f, struct err *e);

/* The chain of memory files, the base first, for memfile_*; room for MEMFILE_LAYERS. Returns how
 * many.
 */
unsigned int snapshot_layers(const struct snapshot *s, struct memfile_layer *layer);

/* --- writing --- */

struct snapshot_draft {
	int at, dir;	     /* the directory that it is in, and its own; -1: none */
	char name[NAME_MAX]; /* the final one */
	char temp[NAME_MAX];
	char place[PATH_MAX]; /* the path of `at`; empty: unknown */
	/* Opens a file in it for a process that may not (vmm/keeper.h), a new one for writing or one that is there for
	 * reading: returns a descriptor or -errno. NULL: the process may.
	 */
	int (*file)(void *ctx, const char *name, bool make);
	void *ctx;
};

/* Makes a file in the draft, for reading and writing, or opens one that is there for reading. Returns a descriptor
 * or -errno.
 */
int snapshot_draft_file(const struct snapshot_draft *d, const char *name, bool make);

/* Makes a directory to fill, beside what will be `name` in the directory `at` (which the draft
 * keeps) with the absolute path place, or empty: then it gets no parent, which would have to be told
 * where it is. Refuses early what snapshot_publish would refuse: a name that is something else than a
 * snapshot, or a snapshot that others need.
 */
int snapshot_draft(struct snapshot_draft *d, int at, const char *place, const char *name,
		   struct err *e);

/* Removes it, with all that is in it. */
void snapshot_drop(struct snapshot_draft *d);

/* Whether the snapshot s is the one that this draft is about to take the place of: then nothing may
 * refer to its files.
 */
bool snapshot_replaces(const struct snapshot_draft *d, const struct snapshot *s);

/* Fills memory, state and manifest of the draft; the disks' files are there already, their sums not
 * yet, and m says all but what follows from these; unsummed: memory's sum is left to snapshot_complete.
 * parent: what mem was mapped from, or NULL; layer: write only what differs from it, unless the draft is
 * to take its place. Syncs everything.
 */
int snapshot_fill(const struct snapshot_draft *d, struct snapshot_manifest *m,
		  struct snapshot_disk *disk, struct state_writer *state, const struct mem *mem,
		  const struct snapshot *parent, bool layer, memfile_progress *progress,
		  void *ctx, struct err *e);

/* Gives it its name, and makes the record that it needs its parent, if it does. An older snapshot of that
 * name is removed.
 */
int snapshot_publish(struct snapshot_draft *d, const struct snapshot *parent, struct err *e);

/* Whether `name` of directory at may be replaced or removed: 0 if it is a snapshot that nobody needs;
 * -ENOENT if there is nothing; or another -errno.
 */
int snapshot_removable(int at, const char *name, struct err *e);

/* Removes the snapshot `name` of directory at; refused while others need it. */
int snapshot_remove(int at, const char *name, struct err *e);

/* Removes what is there under this name, whole or not, without asking whether others need it. */
void snapshot_discard(int at, const char *name);

/* For printing: the table that reads sections of that name in any file of a snapshot, or NULL. */
const struct state_table *snapshot_table(const char *name);
/* Reads a file of kind "manifest", "state" or "seal" for printing: whole, the caller's to free. */
int snapshot_read_file(int dir, const char *name, uint8_t **data, size_t *len, struct err *e);

#define SNAPSHOT_STATE_KIND    "uvmstate"
#define SNAPSHOT_MANIFEST_KIND "uvmsnaps"
#define SNAPSHOT_SEAL_KIND     "uvm-seal"
#define SNAPSHOT_WORKSET_KIND  "uvm-work"
#define SNAPSHOT_MEMORY_MAP    "memory.map" /* section of a state file: the extents of a layer */

#endif
