/* SPDX-License-Identifier: Apache-2.0
 *
 * options: the options of a mount as mount(8) and OCI configurations have them, as flags and data.
 */
#ifndef UVM_SHIM_OPTIONS_H
#define UVM_SHIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/err.h"
#include "vmm/json.h"

#define OPTIONS_DATA 4096u

struct mount_options {
	uint64_t flags; /* MS_* */
	bool copy_up;	/* of a tmpfs: it begins with what is there */
	char data[OPTIONS_DATA]; /* what is none of them, with commas between */
};

/* From an array of strings, or NULL. Returns 0 or -EINVAL with the message set: also for what would
 * mean something else when it is left out.
 */
int mount_options_parse(struct mount_options *o, const struct json *list, struct err *e);

/* The options that are known, for "features": one after the other until NULL. */
const char *mount_options_name(size_t i);

#endif
