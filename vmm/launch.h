/* SPDX-License-Identifier: Apache-2.0
 *
 * launch: the process that a VM is: in the background, with a starter that waits until it is ready;
 * and what it exits with.
 */
#ifndef UVM_VMM_LAUNCH_H
#define UVM_VMM_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "vmm/machine.h"

/* How long a detached VM may take until its agent answers. */
#define LAUNCH_TIMEOUT_MS 60000

/* Of the log in a run directory, errors aside. */
#define LAUNCH_LOG_MAX (1u << 20)

struct launch {
	pid_t pid; /* in the starter: the VM's process */
	int fd;	   /* a pipe, on which the VM's process says that it is ready; -1: not any more */
	bool held; /* it stays open until nothing of the VM is left: the starter waits for that, too */
	bool ready; /* in the VM's process: it has said so */
	/* How it says so, if otherwise than to launch_await; closes fd. Or NULL. */
	void (*say)(struct launch *l, const struct rundir *vm);
	/* What is to be done when the VM has ended, before its directory goes. Or NULL. */
	void (*ended)(struct launch *l, const struct end *end);
	struct end *end; /* in the VM's process: the machine's; launch_run's */
	bool quiet; /* that it ended as it should is not worth a line */
};

/* Starts the VM's process, in a session of its own and with /dev/null as its standard input and
 * output. Returns 1 in it, 0 in the starter, or -errno.
 */
int launch_fork(struct launch *l, struct err *e);

/* Makes this process such a one. null: /dev/null, where it cannot be opened any more, else -1. Returns 0
 * or -errno.
 */
int launch_background(int null, struct err *e);

/* In the starter: waits until it is ready. Returns 0, or the exit status for the starter, with a
 * message if the VM's process has not printed one itself; that process has ended then.
 */
int launch_await(struct launch *l, struct err *e);

/* In the VM's process: it is ready. Its messages go to the run directory from here on. */
void launch_ready(struct launch *l, const struct rundir *vm);

/* In the starter, of one that is held: waits for that, or for its death. */
void launch_await_over(struct launch *l);

/* Makes this process's end quick for whoever waits for it: what of the VM takes the kernel its time to
 * take apart is held, for as long, by another process, which has nothing else and is nobody's. To be
 * called last, when the machine has stopped. Where it cannot be done, nothing is.
 */
void launch_leave_behind(const struct machine *m);

/* The rest of a VM's process, once its machine was made with the result r: runs it to its end, prints
 * the marks if timing, calls l->ended, and removes its run directory. Returns the exit status.
 */
int launch_run(struct launch *l, struct machine *m, int r, bool timing, struct err *e);

#endif
