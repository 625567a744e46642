/* SPDX-License-Identifier: Apache-2.0
 *
 * user: names of users and groups, from /etc/passwd and /etc/group as this process sees them.
 *
 * An image has written those files: they are read line by line into a fixed buffer, to a bounded
 * length, and what is no valid line is no line.
 */
#ifndef UVM_AGENT_USER_H
#define UVM_AGENT_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/protocol.h"

#define USER_HOME_MAX 256

struct user {
	uint32_t uid, gid;
	uint32_t group_count;
	uint32_t groups[2 * AGENT_GROUPS_MAX]; /* its own, and room for as many of the request's */
	char home[USER_HOME_MAX];	       /* empty: not known */
};

/* Fills u from "user" or "user:group", each a name or a number. A number needs no entry, and its group
 * is then 0. Without a group, u gets those that list the user by its name; with one, none. Returns
 * false when there is no such user or group.
 */
bool user_find(struct user *u, const char *text);

/* Sets u->home alone, by u->uid. */
void user_find_home(struct user *u);

#endif
