/* SPDX-License-Identifier: Apache-2.0
 *
 * cgroup: the cgroups of containers: "uvm" below the root of the guest's, and one with the name of each
 * container in that.
 *
 * A group is the open descriptor of its directory. All functions return 0 or a descriptor, or -errno.
 */
#ifndef UVM_AGENT_CGROUP_H
#define UVM_AGENT_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/protocol.h"

/* Makes "uvm" with every controller there is, and a limit that leaves the agent and the kernel enough
 * memory and process ids whatever a container does. root is the directory of the file system.
 */
int cgroup_open_home(int root);

int cgroup_make(int home, const char *name);

/* Removes it and those that were made below it. -EBUSY: there are processes in one. */
int cgroup_remove(int home, const char *name);

int cgroup_write(int group, const char *file, const char *value);

/* Reads a file as a string that is cut to size. Returns its length. */
int cgroup_read(int group, const char *file, char *text, size_t size);

/* Sends the signal to each process in it and below. */
int cgroup_kill(int group, int signo);

/* Stops or lets go all that is in it. Takes no longer than AGENT_FREEZE_MS. */
int cgroup_freeze(int group, bool on);

/* Waits until no process is in it, for no longer than ms. */
bool cgroup_await_empty(int group, int ms);

/* The rule that allows access to the device that the guest has at this path. Returns 0, or -ENODEV where
 * there is none.
 */
int cgroup_device_rule(const char *path, uint32_t access, struct agent_device_rule *rule);

/* A program for cgroup_attach that decides which devices may be made and opened: the last rule that fits
 * does, and what fits none is denied. Returns a descriptor, or -errno. Loading it costs most of a rule's
 * way into a cgroup.
 */
int cgroup_devices(const struct agent_device_rule *rules, size_t n);

/* Has the program decide for a cgroup's processes, after those of the cgroups that it is in. The program
 * stays the caller's. Returns 0 or -errno.
 */
int cgroup_attach(int group, int program);

#endif
