/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_ids: whose files a share's thread makes, and with which rights it works.
 *
 * The kernel keeps a user, a group, capabilities and a umask for each thread, and the C library's
 * calls for them, which change all threads alike, are of no use here. A new file belongs to the
 * thread's file system user and group, so these follow the request; they are changed only when a
 * request needs others than the last that needed some. Permissions are not checked by them: the
 * guest's kernel has done that, with groups that a request does not carry, and one that lies can
 * name any user. So the thread keeps CAP_DAC_OVERRIDE and the like, and gives up all that has
 * nothing to do with files.
 *
 * What must not be kept is CAP_FSETID where the guest's user has not got it: without it the host's
 * kernel takes set-user-ID bits off a file that is written to or made for a group that its user is
 * not in.
 */
#ifndef UVM_DEVICES_FUSE_IDS_H
#define UVM_DEVICES_FUSE_IDS_H

#include <stdbool.h>
#include <sys/types.h>

/* Whether this thread could make files that belong to others: it has the capabilities. */
bool fuse_ids_able(void);

/* Prepares the calling thread, once: no umask, if possible, and if able only those rights. Returns
 * 0 or -errno.
 */
int fuse_ids_enter(bool able);

/* Of a prepared thread that is able: what it makes next belongs to them, and set-ID bits go where the
 * kernel takes them (keep false) or stay. Returns 0 or -EPERM.
 */
int fuse_ids_become(uid_t uid, gid_t gid);
int fuse_ids_keep_setid(bool keep);

#endif
