/* SPDX-License-Identifier: Apache-2.0
 *
 * commands: the runtime's subcommands, whose configuration is a struct shim (shim/cli.h).
 */
#ifndef UVM_SHIM_COMMANDS_H
#define UVM_SHIM_COMMANDS_H

#include <sys/types.h>

#include "shim/cli.h"

extern const struct cmd shim_create, shim_delete, shim_events, shim_exec, shim_features, shim_kill,
	shim_pause, shim_ps, shim_resume, shim_start, shim_state, shim_update;

/* Reads the file at path, "-" being standard input, whole, JSON_SIZE_MAX bytes at the most. *text is
 * the caller's to free. Returns 0 or -errno.
 */
int shim_read_file(const char *path, char **text, size_t *len, struct err *e);

/* Says what went wrong and is no failure, on standard error and in the log. */
void shim_warn(const struct shim *s, const struct err *e);

/* Writes a pid file, whole or not at all. */
int shim_write_pid(const char *path, pid_t pid, struct err *e);

#endif
