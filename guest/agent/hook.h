/* SPDX-License-Identifier: Apache-2.0
 *
 * hook: programs that a container's process has run while it is set up, as the OCI runtime specification
 * has them ("POSIX-platform Hooks"). In the child, as the rest of contain.h.
 */
#ifndef UVM_AGENT_HOOK_H
#define UVM_AGENT_HOOK_H

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"

/* Runs those of this stage (enum agent_hook_stage), one after the other, with the rights and the root
 * directory that the caller has now. What the guest's /proc calls the caller is pid. One that fails, or
 * takes longer than it may, is the end of the container: does not return then.
 */
void hooks_run(const struct spawn *s, const struct create *c, uint32_t stage, const char *pid);

#endif
