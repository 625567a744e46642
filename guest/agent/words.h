/* SPDX-License-Identifier: Apache-2.0
 *
 * words: what the agent is told by words of text: on the kernel's command line at boot, or by
 * CMDLINE in a copy of the guest. They are the same:
 *
 *	uvm.env=NAME=VALUE		commands get this variable, unless they come with their own
 *	uvm.mount=DEVICE:PATH:TYPE[:ro]	mounts it, before the first command runs
 *	uvm.net=INTERFACE[,...]		sets it up, likewise: net.h. At boot boot.c takes it
 */
#ifndef UVM_AGENT_WORDS_H
#define UVM_AGENT_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "guest/agent/net.h"
#include "guest/protocol.h"

#define WORDS_ENV_BYTES 4096u
#define WORDS_ENV_MAX	64u /* variables */
#define WORDS_MOUNTS	8u
#define WORDS_NETS	8u

struct words_mount {
	char device[64];
	char path[256];
	char type[32];
	bool read_only;
};

struct words {
	char env[WORDS_ENV_BYTES]; /* each with its NUL, env_len bytes in all */
	size_t env_len;
	unsigned int env_count;
	struct words_mount mount[WORDS_MOUNTS]; /* that are still to be made */
	unsigned int mounts;
	struct net_setup net[WORDS_NETS]; /* likewise */
	unsigned int nets;
	char why[AGENT_TEXT_MAX + 1]; /* what was wrong */
};

/* Takes one word, which stays the caller's. Returns 0; -ENOENT for a word that is none of these; or
 * -EINVAL, -E2BIG. After the last two why is set, and w as it was. A variable that is there already
 * gets the new value.
 */
int words_take(struct words *w, const char *word);

/* Takes all words of a text, in place. Returns 0, or -EINVAL or -E2BIG with why set, after the
 * first word that cannot be taken; one that is unknown is one of those.
 */
int words_take_all(struct words *w, char *text);

/* Sets up the interfaces and makes the mounts, in order. A device that is not there, or has no medium,
 * gets a moment. Returns 0, or -errno with why set; none is left to be made.
 */
int words_mount(struct words *w);

/* Appends to the environment that ends at end (its NULL is there) what is not in it: up to
 * WORDS_ENV_MAX pointers into w, and a NULL. Returns the new end.
 */
char **words_env(const struct words *w, char *const *envp, char **end);

#endif
