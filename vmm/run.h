/* SPDX-License-Identifier: Apache-2.0
 *
 * run: the life of a VM that is there for one container: a clone of a template, which ends when the
 * container's process has ended.
 *
 * Theory of operation. The process that runs the VM is also the one that runs the session with the
 * container: a thread of it does what "uvm exec" does in a process, over the VM's own vsock socket,
 * with CREATE in place of EXEC. So whoever started the process sees the container's streams, exit
 * status and end as the process's own, whoever sends it a signal has sent it to the container, and
 * nothing is left when it is killed. When the session has its end, the machine is ended like that: a
 * guest whose disks nobody keeps need not shut down. Where something is kept, the guest is told to
 * take the container and itself down first, so that its file systems are whole.
 *
 * In the background the process is a child whose output goes to files (RUNDIR_OUTPUT), and whose
 * starter waits until the container's process runs. Its directory stays unless it is to be removed.
 */
#ifndef UVM_VMM_RUN_H
#define UVM_VMM_RUN_H

#include <pthread.h>

#include "vmm/clone.h"
#include "vmm/container.h"
#include "vmm/exec.h"

#define RUN_FAILED 125 /* exit status, as docker's and podman's: not the container's, but ours */

#define RUN_OUTPUT_MAX (8u << 20) /* bytes of the output that is kept, twice */

struct run {
	/* The caller's; zeroed but for these. */
	struct clone clone; /* config and source: clone_prepare; its fills: the disks */
	struct container_spec spec;
	struct exec_request process; /* but for create and what is exec_run's, save timeout_ms */
	const char *id, *image;	     /* id NULL: a random one. image: for people */
	const char *scratch;	     /* the file that keeps what is written; NULL: none */
	bool stdin_open;	     /* else its standard input is empty */
	bool detach;
	bool remove; /* what is known of a detached one goes with its end */
	bool settle; /* a disk is kept: the guest takes its file systems down first */
	/* The OCI runtime's (shim/init.h), else NULL. Called on the session's thread when the process
	 * waits to be started, which is somebody else's to do; fds are the caller's then.
	 */
	void (*created)(struct run *r);

	/* Its own. */
	pthread_t thread;
	bool running;	   /* the thread is there */
	bool fault;	   /* the VM could not go on */
	int done;	   /* atomic: status and e are final */
	int status;
	struct err e;
	int cancel; /* eventfd, or the connection to a pool's VM: the VM has ended */
	bool tell;  /* that VM's process wants to hear that the container runs */
	int fds[3];
	int output; /* descriptor of the file that output goes to; -1: none */
	uint64_t written;
	void *stream; /* of the size of a stream in memory; see begin */
};

/* Runs it, in the foreground to its end. r is the caller's, from calloc or static, and stays: its
 * thread may look at it until the process ends. Returns the exit status, with a message for what is
 * ours.
 */
int run_container(struct run *r, struct err *e);

/* The same in a VM of the pool of the template in that directory (vmm/pool.h). Returns false, and nothing has
 * happened, if there is none or it does not fit; else *status is the exit status.
 */
bool run_pooled(struct run *r, const char *template, int *status, struct err *e);

/* The same in this process, with a run directory that is the caller's, and removed at the end. */
int run_here(struct run *r, struct err *e);

#endif
