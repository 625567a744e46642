/* SPDX-License-Identifier: Apache-2.0
 *
 * log: what uvm has to say while something runs, and how a command failed: one line each on standard error
 * (a detached VM's goes to the file "log" in its run directory). Not for what a command answers. Failures
 * travel in struct err to main(), which says them here.
 *
 * Which lines, and in what form, is the process's: it is set once, by main() before there are threads, from
 * --log-level, --log-format and the variables UVM_LOG_LEVEL and UVM_LOG_FORMAT, and a VM's process has it
 * from the command that it was forked from.
 */
#ifndef UVM_VMM_LOG_H
#define UVM_VMM_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/err.h"

enum log_level {
	LOG_ERROR, /* what was asked for is not done */
	LOG_WARN,  /* it goes on, but not as it should */
	LOG_INFO,
	LOG_DEBUG, /* the steps of a start */
};

/* Takes "error", "warn", "info" (the default) or "debug", and "text" (the default) or "json"; NULL: as it was.
 * Returns 0, or -EINVAL with the message set.
 */
int log_set_level(const char *level, struct err *e);
int log_set_format(const char *format, struct err *e);

/* The VM that this process is from now on: lines in JSON have its id. */
void log_set_id(const char *id);

/* From now on this process may write so many bytes, errors aside: a guest can make it say much. */
void log_set_limit(uint32_t bytes);

/* Whether lines of this level are written. */
bool log_wants(enum log_level level);

/* Writes the message as one line in one system call: "uvm: " before it, or as an object. Control characters
 * become '?', for a message may quote the guest. Any thread.
 */
__attribute__((format(printf, 2, 3))) void log_write(enum log_level level, const char *fmt, ...);

#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
/* Its arguments are not looked at when it is off. */
#define log_debug(...) (log_wants(LOG_DEBUG) ? log_write(LOG_DEBUG, __VA_ARGS__) : (void)0)

/* A line for programs to read, in either of the forms that runc's log has. id: NULL for none; seconds: since
 * 1970.
 */
void log_put(FILE *out, bool json, enum log_level level, const char *id, const char *text, int64_t seconds);

/* Adds one to the file at path, which is made if it is missing. What cannot be written is lost: there is
 * nowhere to say so but standard error, where the text goes as well.
 */
void log_add(const char *path, bool json, enum log_level level, const char *text);

#endif
