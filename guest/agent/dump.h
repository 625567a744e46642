/* SPDX-License-Identifier: Apache-2.0
 *
 * dump: what the agent and the guest are doing, as a text for people: DUMP.
 */
#ifndef UVM_AGENT_DUMP_H
#define UVM_AGENT_DUMP_H

#include <stddef.h>

struct agent;

/* Writes the text to buf, whose AGENT_EXEC_MAX bytes are all used on the way. Returns its length, at
 * most AGENT_DUMP_MAX. It has the guest's bytes in it: names, command lines, messages.
 */
size_t dump(const struct agent *a, char *buf);

#endif
