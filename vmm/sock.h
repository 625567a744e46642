/* SPDX-License-Identifier: Apache-2.0
 *
 * sock: UNIX stream sockets by directory descriptor and name.
 *
 * A socket's address has room for 107 characters and a run directory's path may be longer, and
 * resolving a path twice is a race. So the directory is opened once and the socket reached
 * through /proc/self/fd, whatever its name. All are non-blocking only where said, close-on-exec
 * always.
 */
#ifndef UVM_VMM_SOCK_H
#define UVM_VMM_SOCK_H

#include <stddef.h>
#include <sys/types.h>

#include "vmm/err.h"

/* Makes a listening, non-blocking socket `name` in directory dir, for its owner only; replaces
 * one that a dead process left. Returns its descriptor or -errno.
 */
int sock_listen(int dir, const char *name, struct err *e);

/* Takes the next connection of a listening socket, non-blocking. Only this process's user and root are
 * let in, whatever the socket's mode has become: others are hung up on. Returns the descriptor or
 * -errno, without a message; -EPERM: one was hung up on.
 */
int sock_accept(int listener);

/* Connects to it. nonblock: the result is non-blocking, and a full backlog is -EAGAIN instead of
 * a wait. Returns the descriptor or -errno, without a message.
 */
int sock_connect(int dir, const char *name, int nonblock);

#define SOCK_PASS_MAX 3

/* Sends len bytes in one piece, and n descriptors, SOCK_PASS_MAX at the most, along with them (unix(7),
 * SCM_RIGHTS); they stay the caller's. Returns 0 or -errno, without a message.
 */
int sock_send(int fd, const void *data, size_t len, const int *pass, size_t n);

/* Receives at most len bytes of one piece, and descriptors that came along: pass, of n <= SOCK_PASS_MAX, gets them,
 * -1 for those that did not come; further ones are closed. Returns the length, 0 at the end, or -errno without a
 * message.
 */
ssize_t sock_receive(int fd, void *data, size_t len, int *pass, size_t n);

#endif
