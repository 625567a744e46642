/* SPDX-License-Identifier: Apache-2.0
 *
 * tty: a terminal in raw mode for a while: what is typed goes to a guest, keys that make signals too.
 */
#ifndef UVM_VMM_TTY_H
#define UVM_VMM_TTY_H

#include <stdbool.h>
#include <termios.h>

struct tty {
	bool raw; /* it is, and `saved` has to come back */
	struct termios saved;
};

/* Sets the terminal at fd to raw mode; does nothing if fd is none. */
void tty_raw(struct tty *t, int fd);

/* Sets it back, if it was set. */
void tty_restore(struct tty *t, int fd);

#endif
