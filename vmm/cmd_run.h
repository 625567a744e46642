/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_run: what "uvm run" is told, between its options (cmd_run_options.c) and what it makes of them
 * (cmd_run.c).
 */
#ifndef UVM_VMM_CMD_RUN_H
#define UVM_VMM_CMD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cmd.h"
#include "vmm/image.h"
#include "vmm/rights.h"
#include "vmm/run.h"
#include "vmm/scratch.h"
#include "vmm/template.h"

#define RUN_VOLUMES (TEMPLATE_DRIVES - 1)
#define RUN_ENV	    1024
#define RUN_MOUNTS  32
#define RUN_SYSCTLS 64
#define RUN_DEVICES 16

struct volume {
	char *image, *path;
	bool read_only;
};

/* What the options point into stays until the process ends. */
struct run_config {
	struct run run;
	struct snapshot snapshot;
	char kernel[PATH_MAX];
	struct template template;
	struct volume volume[RUN_VOLUMES];
	unsigned int volumes;
	const char *scratch, *entrypoint, *env_file;
	bool read_only, interactive;
	uint64_t timeout; /* seconds */
	struct image image;
	const char *image_name;
	char *env[RUN_ENV + 1];
	unsigned int env_count;
	struct container_mount mount[RUN_MOUNTS];
	char device[TEMPLATE_DRIVES][16];
	struct scratch layer;
	struct rights_caps caps_said;
	struct agent_caps caps;
	const char *profile; /* seccomp's, or NULL: none */
	struct agent_rlimit limit[AGENT_RLIMITS_MAX];
	struct container_value sysctl[RUN_SYSCTLS];
	struct container_mount tmpfs[RUN_MOUNTS];
	unsigned int tmpfs_count;
	struct container_guest_device allowed[RUN_DEVICES];
	const char *allowed_at[RUN_DEVICES];
};

extern const struct opt run_options[];
void run_defaults(void *to); /* of a struct run_config */

/* Adds NAME=VALUE; a later one takes the place of an earlier one of its name. text stays. Returns 0 or
 * -EINVAL with the message set.
 */
int run_put_env(struct run_config *c, const char *text, struct err *e);

#endif
