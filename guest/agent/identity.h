/* SPDX-License-Identifier: Apache-2.0
 *
 * identity: what tells one guest from another: its entropy, clock and name, and the two numbers
 * that programs take for the machine's (/etc/machine-id, machine-id(5)) and the boot's
 * (/proc/sys/kernel/random/boot_id).
 *
 * The kernel's own boot_id cannot be changed, and /etc may be read-only. So both are files of the
 * agent's that are mounted over those, and to change them is to write to memory that is mapped: a
 * clone waits for it, and each page of the kernel that a call would touch is a fault out of it.
 */
#ifndef UVM_AGENT_IDENTITY_H
#define UVM_AGENT_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>

#include "guest/protocol.h"

/* What the second is in the guest, and in a container's /proc. */
#define IDENTITY_BOOT_ID "/proc/sys/kernel/random/boot_id"

struct identity {
	int random;  /* /dev/urandom */
	char *boot_id; /* the files, mapped, or NULL where there are none */
	char *machine_id;
};

/* At boot, with all file systems mounted. The boot_id stays the kernel's. A machine-id that the
 * root file system has stays if that can be written, and so is this guest's own; a read-only one is
 * everybody's, and the guest gets a machine-id of its own for as long as it runs.
 */
void identity_open(struct identity *id, bool read_only);

/* Becomes m, which the caller has checked. Returns 0, or -errno with *why a text that is never
 * freed: then no process may go on.
 */
int identity_take(const struct identity *id, const struct agent_identity *m, const char **why);

#define IDENTITY_TEXT_MAX 37

/* The text of a UUID of version 4 that is random but for that, and a newline; with dashes as the
 * kernel has it, or without as machine-id(5). Returns its length. No NUL.
 */
size_t identity_text(char to[IDENTITY_TEXT_MAX], const uint8_t random[16], bool dashes);

/* Whether the text is what a machine-id file has. */
bool identity_is_machine_id(const char *text, size_t len);

#endif
