/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd: the subcommands. main.c has the one table that dispatches them and prints the usage.
 */
#ifndef UVM_VMM_CMD_H
#define UVM_VMM_CMD_H

#include <stdint.h>
#include <sys/types.h>

#include "vmm/err.h"
#include "vmm/opt.h"

/* Exit statuses of every command. exec's are its command's own. */
enum {
	EXIT_OK = 0,
	EXIT_FAIL = 1,	/* the message says what */
	EXIT_USAGE = 2, /* the command line is wrong */
	EXIT_PANIC = 3, /* boot: the guest's kernel panicked */
};

struct cmd {
	const char *name;
	const char *args;    /* what follows the options, for the usage */
	const char *summary; /* one line */
	const char *notes;   /* more for its help, lines that end in a newline; or NULL */
	const char *examples; /* command lines, each with its newline */
	const struct opt *options;
	int stop_at_operand; /* see opt_parse */
	int usage_status;    /* of a wrong command line; 0: EXIT_USAGE */
	/* argv[0..argc) are the operands; cfg is the table's configuration, as parsed from its
	 * defaults. Returns the exit status; a message in e is printed.
	 */
	int (*run)(void *cfg, int argc, char **argv, struct err *e);
	size_t cfg_size;
	void (*defaults)(void *cfg); /* cfg is zeroed before; or NULL */
};

extern const struct cmd cmd_attach, cmd_boot, cmd_check, cmd_clone, cmd_console, cmd_cp, cmd_detach, cmd_diff,
	cmd_dump,
	cmd_events, cmd_exec, cmd_fork, cmd_image, cmd_inspect, cmd_kill, cmd_logs, cmd_metrics,
	cmd_pause, cmd_pool, cmd_ps, cmd_resume, cmd_rm, cmd_run, cmd_snapshot, cmd_stats, cmd_stop,
	cmd_template, cmd_top, cmd_trace, cmd_update, cmd_version, cmd_wait;

/* A time (seconds since 1970, UTC) as commands print it, "2026-01-31T12:00:00Z". */
#define CMD_TIME 32
void cmd_time(int64_t seconds, char text[CMD_TIME]);

/* What -e takes: NAME=VALUE, or NAME, which passes our own variable on. *both is "NAME=VALUE", which lives
 * as long as the process, or NULL where we have no such variable. Returns 0 or -errno.
 */
int cmd_env(const char *text, const char **both, struct err *e);

/* An option's setter (vmm/opt.h): a signal by name or number [int]. */
int cmd_set_signal(void *to, const char *value, struct err *e);

struct rundir;

/* Prints the processes of a container of this name in a guest as "top" does. Returns 0 or -errno. */
int cmd_print_top(struct rundir *vm, const char *container, struct err *e);

/* Kills the VM's process, and waits for its end and its directory's. Returns an exit status. */
int cmd_kill_vm(struct rundir *vm, struct err *e);

/* "COMMAND X -- CMD" and "COMMAND X CMD" are the same: takes a "--" behind the first operand away. Returns
 * the number of operands; argv ends in NULL then.
 */
int cmd_drop_dashes(int argc, char **argv);

/* For a command given the wrong number of operands. Returns EXIT_USAGE. */
int cmd_usage(const struct cmd *c, struct err *e);

#endif
