/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tty.h"

void tty_raw(struct tty *t, int fd)
{
	struct termios raw;

	t->raw = false;
	if (tcgetattr(fd, &t->saved))
		return;
	raw = t->saved;
	cfmakeraw(&raw);
	t->raw = !tcsetattr(fd, TCSANOW, &raw);
}

void tty_restore(struct tty *t, int fd)
{
	if (t->raw)
		tcsetattr(fd, TCSANOW, &t->saved);
	t->raw = false;
}
