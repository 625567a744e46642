/* SPDX-License-Identifier: Apache-2.0
 *
 * clone: the life of a VM that goes on from another's state: a clone of a snapshot, or a fork.
 *
 * The guest must not notice its new life before it has a new identity: what it would draw from its
 * random generator, its host name, its clock are another VM's. So the order to take one (AGENT_
 * IDENTITY) is in the guest's receive queue before its first instruction, every process but the
 * agent stands still until the agent has taken it, and a clone whose agent does not say so in time
 * is killed and never handed out. Words of a command line are taken before, with the same care.
 */
#ifndef UVM_VMM_CLONE_H
#define UVM_VMM_CLONE_H

#include "vmm/launch.h"
#include "vmm/machine.h"

#define CLONE_IDENTITY_MS 20000 /* how long the agent may take, also where many start at once */

struct clone {
	struct machine_config config;
	struct machine_source source;
	struct rundir rundir;
	struct launch launch; /* fd -1: in the foreground */
	const char *cmdline; /* words for the agent, or NULL */
	char words[AGENT_CMDLINE_MAX + 1]; /* these, and those of its networks */
	bool timing;
	uint64_t started; /* when the command began */
	/* On the main thread, when the guest has its new identity; NULL: launch_ready, clone_record. */
	void (*ready)(void *ctx);
	/* Called when the VM is made and confined, and before its guest runs: returns 0 when it is to, from
	 * this instant on, or -errno with a message. NULL: at once.
	 */
	int (*hold)(struct clone *c, struct err *e);
	void *ctx;
	struct machine *machine; /* clone_run's, for that call */
};

/* Sets config and source to what all clones of the snapshot have in common. s outlives c. Returns 0 or
 * -errno.
 */
int clone_prepare(struct clone *c, const struct snapshot *s, struct err *e);

/* Has the snapshot's next clones get the pages at once that this one has written until now, if none has
 * done so yet. Any thread.
 */
void clone_record(const struct clone *c);

/* Runs the VM to its end, and removes its run directory. Returns the exit status for its process,
 * with a message for one that is not 0.
 */
int clone_run(struct clone *c, struct err *e);

#endif
