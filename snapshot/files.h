/* SPDX-License-Identifier: Apache-2.0
 *
 * files: the parts of a snapshot that snapshot.c, seal.c and draft.c share: names, small files read
 * and written whole, the manifest's tables. For these files only.
 */
#ifndef UVM_SNAPSHOT_FILES_H
#define UVM_SNAPSHOT_FILES_H

#include "snapshot/snapshot.h"

#define FILE_MANIFEST "manifest"
#define FILE_STATE    "state"
#define FILE_MEMORY   "memory"
#define FILE_SEAL     "seal"
#define FILE_CHILDREN "children"
#define FILE_WORKSET  "working-set"

extern const struct state_table manifest_table, disk_table, disk_file_table, seal_table, stamp_table;

/* Opens a regular file of the directory, read-only; anything else (a link, a fifo, a device) is
 * refused without waiting for it. Returns a descriptor or -errno.
 */
int files_open(int dir, const char *name, struct err *e);

#define FILES_SMALL 2048u /* bytes: most manifests and seals */

/* snapshot_read_file for what is mostly small: what fits comes into `small`, for which *data then
 * stands; only another *data is the caller's to free.
 */
int files_read(int dir, const char *name, void *small, size_t room, uint8_t **data, size_t *len,
	       struct err *e);

/* Writes a new file, syncs and closes it; fd may be -errno, which is then the result. */
int files_put(int fd, const char *name, const void *data, size_t len, struct err *e);

/* Writes a file of the directory anew and syncs it. */
int files_write(int dir, const char *name, const void *data, size_t len, struct err *e);

/* The same, as a whole in the place of an older one. */
int files_replace(int dir, const char *name, const void *data, size_t len, struct err *e);

/* The manifest as a file, and back; s->dir is open, s->m and s->disk are filled. */
int manifest_read(struct snapshot *s, struct err *e);
int manifest_make(struct state_writer *w, struct snapshot_manifest *m, const struct snapshot_disk *disk,
		  struct err *e); /* w is to be discarded, whatever the result */
int manifest_write(int dir, struct snapshot_manifest *m, const struct snapshot_disk *disk,
		   struct err *e);

/* Begins a new seal: notes what the files are, before they are read and compared, so that whoever
 * changes them from then on breaks it. Waits for the tick in which a file was last changed to pass: a
 * change within the same one would leave no mark.
 */
void seal_begin(struct snapshot *s);

/* Whether the seal says that nobody has changed the files since they were found to be right. */
bool seal_fits(const struct snapshot *s);

/* Removes the directory `name` in `at` with the files in it, those in its "children", and, if it is a
 * snapshot with a parent, the parent's record of it.
 */
void files_remove_dir(int at, const char *name);

/* Refuses with -EBUSY if a snapshot that is still there has this one as its parent. */
int files_check_children(int dir, const uint8_t uuid[16], const char *name, struct err *e);

/* Makes the record that the snapshot with this uuid, at this path, needs the one in dir. */
void files_record_child(int dir, const uint8_t uuid[16], const char *path);

#endif
