/* SPDX-License-Identifier: Apache-2.0
 *
 * freezer: stops every process of the guest but the agent, and lets them go on.
 *
 * Processes that the agent makes begin in a cgroup of their own, and the kernel can freeze that
 * with all that comes of them: no process sees it, no signal is involved. The agent stays in the
 * root cgroup, which cannot be frozen. Processes that move themselves elsewhere (container engines
 * do) are stopped too: what is frozen is every cgroup below the root; and if there is one that
 * cannot be stopped, freezing fails and all go on.
 */
#ifndef UVM_AGENT_FREEZER_H
#define UVM_AGENT_FREEZER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Cgroups directly below the root, at the most. Ours is all there is as a rule. */
#define FREEZER_GROUPS 16

struct freezer {
	int root;	/* directory of the cgroup file system */
	int home;	/* the cgroup in which processes begin, or -1: there is no freezer */
	bool escaped;	/* a process began elsewhere */
	unsigned int n; /* cgroups that are being frozen, or are */
	struct {
		int freeze; /* their cgroup.freeze */
		int events; /* their cgroup.events */
	} group[FREEZER_GROUPS];
};

/* Makes the cgroup "exec" in the cgroup v2 file system that is mounted at path. What is missing for
 * that shows when it is needed.
 */
void freezer_open(struct freezer *f, const char *path);

/* As fork, with the child in the cgroup: by clone3, because to move a process that exists costs a
 * wait for every CPU. Where that is refused, it is a fork.
 */
pid_t freezer_fork(struct freezer *f);

/* As fork, with the child in the cgroup whose directory is open and in new namespaces (CLONE_NEW*).
 * *pidfd becomes a descriptor of it, unless pidfd is NULL. Returns -1 with errno, as fork.
 */
pid_t freezer_fork_into(int cgroup, uint64_t namespaces, int *pidfd);

/* Waits until a cgroup's events (the descriptor of its cgroup.events) may have changed. The kernel holds the
 * word of a second change back for two of its ticks, 20 ms, so whoever waits looks himself: after 0.1 ms,
 * where *us is 0, and then each time after twice as long. Returns whether there was time left.
 */
bool freezer_wait(int events, uint64_t deadline_ms, uint64_t *us);

/* Waits until a cgroup whose cgroup.events is open is frozen. Returns whether it was by then. */
bool freezer_await(int events, uint64_t deadline_ms);

/* Stops every process but the caller, which is the one that calls freezer_fork and inherits all
 * orphans. Returns 0, or -errno with *why a text that is never freed, and every process running.
 * Takes no longer than AGENT_FREEZE_MS.
 */
int freezer_freeze(struct freezer *f, const char **why);

void freezer_thaw(struct freezer *f);

#endif
