/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse_server: a directory of the host's, served to a guest by the FUSE protocol (7.31 to 7.36, as
 * linux/fuse.h has it): the back end of a virtio_fs device.
 *
 * Theory of operation. The guest names a file by a number that it got for a lookup, and one name in
 * a directory that it so named. fuse_table.c turns numbers into descriptors; a name is checked to
 * be a single component and used in one *at() call that does not follow symbolic links. So there is
 * no path for anybody to change while it is walked, no ".." and no link that the host would resolve:
 * where a link leads is the guest's to find out, with lookups of its own. Only regular files and
 * directories are ever opened for more than O_PATH, through /proc/self/fd, which leads to that very
 * file; its type was read from that descriptor. A fifo, socket or device is a name and attributes.
 *
 * A request is copied once and checked once, in fuse_server.c: its length, its header's, the fixed
 * part, each name, the room for an answer. Only data of READ and WRITE stays where it is, in the
 * guest's memory, between which and the file the host's kernel moves it.
 *
 * What the guest's kernel does itself and is not asked of us: permissions (virtiofs mounts have
 * default_permissions), and locks. Locks are between processes of one guest, so its own kernel's are
 * exact, and cost no requests; handed on they could block the one thread that serves the share, and
 * bind the host's processes. FLUSH has nothing to do here and is not wanted either: after one ENOSYS
 * the kernel saves a request at each close.
 *
 * As root with the needed capabilities the server makes files as the request's user and group; else
 * all that it makes is its own user's. That user is then shown as the guest's root, everybody else as
 * nobody, and chown to others fails (EPERM).
 */
#ifndef UVM_DEVICES_FUSE_SERVER_H
#define UVM_DEVICES_FUSE_SERVER_H

#include "devices/virtio_fs.h"

/* How long the guest may use what it knows without asking again. */
enum fuse_cache {
	FUSE_CACHE_AUTO,   /* a second */
	FUSE_CACHE_NONE,   /* not at all, and no pages of files either (so no shared writable mmap) */
	FUSE_CACHE_ALWAYS, /* for ever: nobody else changes the directory */
};

struct fuse_server;

/* Opens the directory. fds_max: how many descriptors the guest may make it use. Returns 0, or -errno
 * with a message that names path.
 */
int fuse_server_open(struct fuse_server **to, const char *path, bool read_only,
		     enum fuse_cache cache, uint32_t fds_max, struct err *e);
void fuse_server_close(struct fuse_server *s);

/* For the device. */
struct fs_backend *fuse_server_backend(struct fuse_server *s);

/* Whether a guest has a session with it: between INIT and DESTROY or a reset. While no thread is in it. */
bool fuse_server_mounted(const struct fuse_server *s);

/* For a fork(2), whose child serves the same session on: the descriptors that have to be kept, into fd
 * (NULL: only counted). Returns how many. In the child fuse_server_forked then takes over a
 * descriptor (O_PATH) of its own /proc/self/fd, and makes open directories its own, whose position it would share
 * with the parent. Returns 0 or -errno.
 */
size_t fuse_server_fds(const struct fuse_server *s, int *fd);
int fuse_server_forked(struct fuse_server *s, int own_fds, struct err *e);

/* The descriptors of the two directories that it goes from, for whoever puts others behind them before a guest
 * has a session: the shared one, and the process's own descriptors in /proc.
 */
void fuse_server_roots(const struct fuse_server *s, int *root, int *own_fds);

/* Whether the guest may only read. */
bool fuse_server_read_only(const struct fuse_server *s);

#endif
