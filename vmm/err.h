/* SPDX-License-Identifier: Apache-2.0
 *
 * err: how a failure travels to the user.
 *
 * Below main() nothing prints and nothing exits. A function that can fail takes a struct err,
 * returns 0 or a negative errno, and sets the message where the cause is known: it names the
 * thing (a file, an option, an ioctl) and the reason, on one line, with no trailing full stop
 * or newline. Callers pass the err on unchanged; only a caller that knows more than the callee
 * sets it again. main() prints it after "uvm: ".
 */
#ifndef UVM_VMM_ERR_H
#define UVM_VMM_ERR_H

#include <errno.h>

struct err {
	char text[512];
};

/* Sets the message. code is a positive errno. Returns -code, so that `return err_set(...)`
 * is the usual form. Control characters in the result become '?', because a message may
 * quote a hostile file name.
 */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);

/* As err_set with errno as it stands, and ": " and its text added. */
__attribute__((format(printf, 2, 3))) int err_sys(struct err *e, const char *fmt, ...);

/* Adds to the message, which stays as it is if that does not fit: what to do next. */
__attribute__((format(printf, 2, 3))) void err_append(struct err *e, const char *fmt, ...);

#ifdef UVM_ANALYSIS
/* For "tests/run static" only, whose tools look at one file at a time: an error is below 0. */
#define err_set(e, code, ...) (err_set(e, code, __VA_ARGS__), -(code))
#define err_sys(e, ...)	      (err_sys(e, __VA_ARGS__), -EIO)
#endif

#endif
