/* SPDX-License-Identifier: Apache-2.0
 *
 * share: a directory of the host's that a guest can mount by its tag: a virtio_fs device, and the
 * FUSE server behind it.
 *
 * A snapshot holds the device and its tag, never the directory: whoever starts a clone says what it
 * gets. Until then a share is a placeholder, as is one that was made so. What a guest has open in a
 * directory is in no snapshot, either; a fork inherits it with the descriptors.
 */
#ifndef UVM_VMM_SHARE_H
#define UVM_VMM_SHARE_H

#include "devices/fuse_server.h"
#include "devices/virtio_fs.h"
#include "vmm/rundir.h"
#include "vmm/worker.h"

#define SHARE_MAX	  8u
#define SHARE_PLACEHOLDER "placeholder" /* instead of a directory */

struct share_config {
	const char *path, *tag;
	bool read_only;
	enum fuse_cache cache;
};

struct share {
	struct fuse_server *server; /* NULL: a placeholder */
	struct virtio_fs fs;
	struct worker worker;
};

/* A share as an option has it: DIR:TAG, and then any of ":ro", ":cache=none", ":cache=auto" and
 * ":cache=always". value is the process's own argv, which is cut at the colons.
 */
int share_parse(struct share_config *cfg, const char *value, struct err *e);

/* Opens the directory, for one of n shares. The message names the path. */
int share_open(struct share *s, const struct share_config *cfg, unsigned int n, struct err *e);

/* In a forked process, whose VM is vm: goes on with what its parent had. */
int share_adopt(struct share *s, const struct share *parent, const struct rundir *vm, struct err *e);

/* Before a guest runs, for the jail: from what it goes from, ".." leads nowhere any more; the directory itself only
 * if directory. Returns 0, or -errno with a message.
 */
int share_detach(const struct share *s, bool directory, struct err *e);

/* Gives the placeholder of that tag among n shares, which stand still, its directory. */
int share_fill(struct share *s, unsigned int n, const struct share_config *cfg, struct err *e);

/* Whether the guest has it mounted. While it stands still. */
bool share_mounted(const struct share *s);

#endif
