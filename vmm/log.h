/* SPDX-License-Identifier: Apache-2.0
 *
 * log: what the monitor has to say while a VM runs: one line each on standard error (a detached
 * VM's goes to the file "log" in its run directory). Not for what a command answers, and not for
 * errors that end it: those travel in struct err.
 */
#ifndef UVM_VMM_LOG_H
#define UVM_VMM_LOG_H

/* Writes "uvm: " and the message as one line in one system call; control characters become '?',
 * for a message may quote the guest. Any thread.
 */
__attribute__((format(printf, 1, 2))) void log_line(const char *fmt, ...);

#endif
