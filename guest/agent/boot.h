/* SPDX-License-Identifier: Apache-2.0
 *
 * boot: what PID 1 of the guest does to the system at its start and at its end.
 *
 * Nothing here is fatal but a root file system that was asked for and cannot be had. All other
 * failures are one line on the console, and the guest carries on with what it has.
 */
#ifndef UVM_AGENT_BOOT_H
#define UVM_AGENT_BOOT_H

#include <stdbool.h>

#include "guest/agent/words.h"
#include "guest/protocol.h"

#define BOOT_NETS 8

/* What the kernel's command line says. Pointers lead into line. */
struct boot {
	const char *root;     /* root=, or NULL: stay in the initramfs */
	const char *type;     /* rootfstype=, or NULL: try those that we know */
	const char *flags;    /* rootflags=, or NULL */
	const char *hostname; /* uvm.hostname=, or NULL */
	char *net[BOOT_NETS]; /* uvm.net=, each */
	int nets;
	bool read_only;	      /* ro; also set when the root turns out to be read-only */
	struct words *words;  /* what else it says; the caller's */
	char line[4096];
};

/* Writes "uvm-agent: <what>[ <name>][: <text of code>]" to the kernel's log, and so to the console.
 * name may be NULL, code (a positive errno) 0.
 */
void say(const char *what, const char *name, int code);

/* Mounts /dev and /proc, sees to it that descriptors 0 to 2 are open, reads the command line. */
void boot_begin(struct boot *b);

/* Makes the root file system the root directory. Returns 0, or -errno after a line on the
 * console.
 */
int boot_root(struct boot *b);

/* Waits until a device is there and has a size, for two seconds at the most: drivers that are built in
 * have made theirs before us, others take a moment, and a disk can be given its image later.
 */
void boot_wait_for(const char *device);

/* Brings up the loopback interface of this network namespace. */
void boot_loopback(void);

/* The rest, which can wait until the host has been told that the guest is there: other mounts,
 * the loopback interface, the host's name, and what the words say.
 */
void boot_finish(struct boot *b);

/* Takes the guest down: writes everything back, unmounts what it can, and powers off or reboots.
 * Does not return.
 */
_Noreturn void boot_down(enum agent_shutdown_mode mode);

#endif
