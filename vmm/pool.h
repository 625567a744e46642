/* SPDX-License-Identifier: Apache-2.0
 *
 * pool: VMs made ahead, which "uvm clone" and "uvm run" take in place of making one.
 *
 * Theory of operation. A pool is a process (pool_serve) that keeps a number of shells of one snapshot. A shell
 * is its child, and a clone like any other up to the instant before its guest runs: the VM is made, its memory
 * mapped, its state set, its process in its jail and behind its filters. There it waits. It is nobody's VM yet,
 * has a run directory with a hidden name, and has told its guest nothing.
 *
 * Who wants a clone connects to the pool's socket, whose name follows from what the snapshot's directory is
 * (device and inode): where there is no pool, that is one connect(2) that fails. It sends its request at once,
 * with descriptors of the disks that it brings, for no path is opened in a jail. The pool reads nothing of it:
 * it passes the connection itself on to a shell, and has no more to do with either. The shell takes the
 * request, gets its name (keeper_show), fills its disks, sets its clocks to this instant, and goes on as a
 * clone does. Its answer comes when it is ready. A connection that ends without an answer is a miss, for
 * whatever reason: whoever asked makes a clone as it would without a pool, and hears of the reason, if there is
 * one, from that.
 *
 *   client ── connect, request, disks ──► pool ── the connection ──► shell ──► VM
 *      ◄──────────────── id, when its agent has its identity ─────────┘
 *
 * - Nothing of a guest's, and no random number, is drawn before the hand-over, but for the generation number.
 * - A shell that sees the end of its pool's socket ends: none outlives its pool. A VM that was handed over has
 *   closed it.
 * - A connection that says nothing, or nothing that can be understood, costs its shell, after a time limit;
 *   the pool and the others do not wait for it.
 * - A snapshot that is replaced has another inode. The pool looks at its files' stamps at each hand-over and
 *   before each shell that it makes; each shell's process opens and checks it as any clone does. Of one
 *   that has changed it gives out nothing more.
 */
#ifndef UVM_VMM_POOL_H
#define UVM_VMM_POOL_H

#include "vmm/disk.h"
#include "vmm/launch.h"
#include "vmm/sock.h"

#define POOL_SHELLS_MAX	 256u
#define POOL_DISKS	 SOCK_PASS_MAX
#define POOL_REQUEST_MAX 16384u /* bytes */
#define POOL_SOCKET	 "pool.sock"
#define POOL_TELL	 '!' /* behind the id that is the answer: see pool_take */
#define POOL_NAME	 40 /* room for a pool's name: that of its directory, behind RUNDIR_POOL */

/* What is asked for. */
struct pool_request {
	const char *id;	   /* NULL: a random one */
	const char *words; /* for the agent; NULL: none */
	bool held;	   /* the connection's end ends the VM */
	bool agent;	   /* one without an agent is of no use */
	bool session;	   /* the client tells the journal how it ended */
	unsigned int disks;
	struct disk_config disk[POOL_DISKS]; /* for the placeholders, in order */
};

/* --- the request as bytes; for tests, too --- */

/* Writes it. Returns its length, or -errno, without a message: what does not fit, or has a limit or a number of
 * queues, which a request cannot say.
 */
ssize_t pool_write_request(const struct pool_request *rq, uint8_t buf[POOL_REQUEST_MAX]);

/* Reads what somebody has sent, with as many descriptors, which are only counted. Texts are in buf, which is cut
 * at places and stays as long as rq. Returns 0, or -EINVAL with a message.
 */
int pool_read_request(struct pool_request *rq, uint8_t *buf, size_t len, unsigned int fds, struct err *e);

/* --- who takes one --- */

/* Whether a clone like that can be a pool's: it brings nothing but a few disks, and its process is to be confined
 * and in no cgroup of its own. Before machine_load_config.
 */
bool pool_fits(const struct machine_config *c);

/* Takes one of the snapshot in directory path; rq's disks are opened here. Waits until it is ready. *tell: it
 * wants a byte when a session's process runs, for the working set of those to come; or NULL. Returns its
 * connection, which is to be closed, with vm opened (rundir_close); or -errno without a message: there is none,
 * and nothing has happened.
 */
int pool_take(const char *path, const struct pool_request *rq, struct rundir *vm, bool *tell);

/* Ends a VM that was taken as `held`, and waits until nothing of it is left that anybody could see. Closes conn. */
void pool_end(int conn);

/* --- a pool --- */

/* The name of the pool of the snapshot in directory path. Returns 0 or -errno with a message. */
int pool_name(const char *path, char name[POOL_NAME], struct err *e);

/* Is the pool of the snapshot in directory path (absolute), of `size` shells, until it is told to end; l says that
 * it is there. Returns an exit status.
 */
int pool_serve(const char *path, unsigned int size, struct launch *l, struct err *e);

/* The pool's end of a shell's life: see shell.c. Becomes one, and then its VM, on the socket to the pool. Returns
 * an exit status.
 */
#define POOL_STALE 3 /* of a shell's process: the snapshot is not what the pool is of */
int pool_shell(const char *path, const char *name, int pool, struct err *e);

#endif
