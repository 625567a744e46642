/* SPDX-License-Identifier: Apache-2.0
 *
 * cli: uvm as an OCI runtime, by the command line of runc, which callers speak.
 *
 * Some commands have the name of one of uvm's own: events, exec, kill, pause, ps, resume and update.
 * Which is meant:
 *   - the runtime's, if one of its global options (--root, --log, ...) comes before the command;
 *   - exec: the runtime's with one of its options that uvm's has not (--process, --pid-file, ...);
 *     so, too, update with --resources and events with --stats;
 *   - ps: the runtime's with an operand; kill, pause, resume: if the first operand is the id of a
 *     container that the runtime has made.
 * A container of the runtime's is a VM like others, so that uvm's own commands reach it, too.
 */
#ifndef UVM_SHIM_CLI_H
#define UVM_SHIM_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cmd.h"

/* The runtime's commands, for the help; n of them. Their configuration is a struct shim. */
extern const struct cmd *const shim_commands[];
extern const size_t shim_commands_count;

/* Those that may stand anywhere on its command lines. */
extern const struct opt shim_options[];

struct shim {
	/* Anywhere on the command line. */
	const char *root, *log, *log_format, *cgroup_manager;
	bool systemd_cgroup, debug;
	/* The command's. */
	const char *bundle, *pid_file, *console_socket, *process, *format, *resources, *cwd;
	uint32_t preserve_fds;
	bool tty, detach, force, all, stats, ignored;
	const char *ignored_text;
};

/* Whether this command line is the runtime's. argv[0] is the program. */
bool shim_wanted(int argc, char **argv);

/* Runs it: returns the exit status, with a message in e, which has been logged as well. */
int shim_run(int argc, char **argv, struct err *e);

#endif
