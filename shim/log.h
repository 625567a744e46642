/* SPDX-License-Identifier: Apache-2.0
 *
 * log: the runtime's log, in runc's two forms: callers read it for the reason of a failure and match
 * its texts.
 */
#ifndef UVM_SHIM_LOG_H
#define UVM_SHIM_LOG_H

#include <stdbool.h>
#include <stdio.h>

/* A line: level is "error", "warning", "info" or "debug"; seconds since 1970. */
void shim_log_write(FILE *out, bool json, const char *level, const char *text, long long seconds);

/* Adds one to the file at path, which is made if it is missing. What cannot be written is lost: there
 * is nowhere to say so but standard error, where the text goes as well.
 */
void shim_log(const char *path, bool json, const char *level, const char *text);

#endif
