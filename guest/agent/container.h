/* SPDX-License-Identifier: Apache-2.0
 *
 * container: the containers of the guest: their table, their states, and orders about them by name.
 *
 * A container is its first process, which is a session like that of an EXEC, and the cgroup and
 * namespaces around it. It outlives that process: until DELETE its name is taken and how it ended can
 * be asked for.
 */
#ifndef UVM_AGENT_CONTAINER_H
#define UVM_AGENT_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"
#include "guest/protocol.h"

/* How long what was killed may take to be gone. */
#define CONTAINER_END_MS 2000

struct agent;
struct conn;
struct session;

struct container {
	enum agent_container_state state; /* 0: free */
	struct agent_name name;
	bool start;	   /* does not wait for START */
	bool tied;	   /* ends with its client */
	bool prepared;	   /* its process was, before it was asked for (prepare.h) */
	bool begun;	   /* its program has run */
	uint32_t own;	   /* namespaces (enum agent_namespace) that are not the guest's */
	pid_t pid;	   /* of its first process */
	int pidfd;	   /* likewise, or -1 */
	int group;	   /* its cgroup, or -1 */
	int oom;	   /* its memory.events, or -1 */
	int lower, upper;  /* what its root is made of, or -1 */
	int program;	   /* of its rules about devices, until it is set up, or -1 */
	int mounts;	   /* its namespace of mounts, so that nobody waits for their end, or -1 */
	uint64_t oom_kills; /* that were told of */
	bool limited_caps; /* its process had caps: */
	struct agent_caps caps;
	struct session *session; /* of the first process until it is done with, or NULL */
	struct agent_exited exited;
	struct create create; /* its request, until it is set up */
};

struct container *container_find(struct agent *a, const char *name);

/* The CREATE of s is complete, and payload is what came. Returns 0 and s has a container, or -errno with
 * *why.
 */
int container_begin(struct agent *a, struct session *s, void *payload, uint32_t length,
		    const char **why);

/* Makes the cgroup of a container. Returns it, or -errno with *why. */
int container_group(struct agent *a, const char *name, const char **why);

/* Makes its cgroup and forks its first process, or takes what is prepared. Returns as fork, or -errno with *why. The child calls
 * spawn_run(sp), which sees to the rest.
 */
pid_t container_fork(struct agent *a, struct container *c, struct spawn *sp, const char **why);

/* The same for another process in the container of this name. */
pid_t container_fork_in(struct agent *a, const char *name, struct spawn *sp, const char **why);

/* Forks into a cgroup, with the PID namespace of a process unless that is -1, making namespaces (CLONE_*);
 * child as of freezer_fork_into. Returns as fork.
 */
pid_t container_fork_beside(struct agent *a, int group, int pidfd, uint64_t namespaces, int *child);

/* Writes what the records say of its cgroup. Returns 0 or -errno with *why. */
int container_limit(struct agent *a, const struct container *c, struct records records, const char **why);

/* Whether a process can begin in it now: 0 or -errno with *why. */
int container_check(struct agent *a, const char *name, const char **why);

/* Sets *program to the program of its rules about devices, or to -1 if it has none. Returns 0 or -errno
 * with *why.
 */
int container_program(struct agent *a, const struct create *c, int *program, const char **why);

/* The namespace of mounts of a process, as a descriptor, or -1. Whoever holds it takes the mounts down, and
 * not the end of the last process in it, for which its parent waits.
 */
int container_mounts(pid_t pid);

/* Its session is done with, and its client knows how it ended: nobody waits for the rest. */
void container_over(struct agent *a, struct container *c);

/* Its process is set up. Returns 0 or -errno with *why. */
int container_ready(struct agent *a, struct container *c, const char **why);

/* Takes over a directory that its root is made of: the lower one, then the upper. */
void container_layer(struct container *c, int fd);

/* Whether a signal to the agent may be one of a container's that is in the guest's PID namespace: by what
 * sent it, or, if that is gone, because there is such a container.
 */
bool container_sent(struct agent *a, pid_t pid);

/* Its process has ended: so has it. */
void container_ended(struct container *c, struct agent_exited how);

/* Forgets it; what is left in it is killed. Returns 0, or -EBUSY if that takes too long. */
int container_free(struct agent *a, struct container *c);

/* What a request for a container that came through a session's buffer wants done: UPDATE, MOUNT,
 * UNMOUNT, SET, PROCESSES, DUMP; and about devices: PLUG, UNPLUG. Returns 0 when the session's process will tell, CONTAINER_DONE,
 * CONTAINER_ANSWERED when the answer is sent, too, or CONTAINER_OVER when that was the connection's last
 * one; or -errno with *why.
 */
#define CONTAINER_DONE	   1
#define CONTAINER_ANSWERED 2
#define CONTAINER_OVER	   3

int container_order(struct agent *a, struct session *s, void *payload, uint32_t length,
		    const char **why);

/* Something happened to its memory. */
void container_event(struct agent *a, struct container *c);

/* Messages that are complete. */
void container_start(struct agent *a, struct conn *c);
void container_wait(struct agent *a, struct conn *c);
void container_kill(struct agent *a, struct conn *c);
void container_delete(struct agent *a, struct conn *c);
void container_pause(struct agent *a, struct conn *c);
void container_stats(struct agent *a, struct conn *c);
void container_list(struct agent *a, struct conn *c);

#endif
