/* SPDX-License-Identifier: Apache-2.0
 *
 * request: payloads that have more in them than a structure, read and checked once, here. What the
 * rest of the agent then sees are pointers into the payload and strings that end.
 */
#ifndef UVM_AGENT_REQUEST_H
#define UVM_AGENT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/filter.h>

#include "guest/protocol.h"

/* Rules about devices that a container may have; each is some instructions of a program. */
#define REQUEST_DEVICE_RULES 128

/* A process, as pointers into the payload of an EXEC or a CREATE. */
struct command {
	struct agent_exec exec;
	const struct agent_rlimit *rlimits; /* exec.rlimit_count of them, and so on */
	const struct sock_filter *filter;
	const uint32_t *groups;
	const char *cwd;
	const char *user; /* NULL without AGENT_EXEC_NAMED */
	char *strings;	  /* argc arguments, envc variables */
};

/* Records that have been checked; see record_next. */
struct records {
	const uint8_t *at, *end;
};

struct record {
	uint32_t type;
	uint32_t length;
	const void *body; /* aligned to 8 bytes */
};

struct create {
	struct agent_create head;
	struct command process;
	struct records records;
};

/* Each reads a payload of length bytes, at a multiple of 8, into what is returned, whose pointers lead
 * into it. Returns NULL, or what is wrong with it as a text that is never freed.
 */
const char *command_parse(struct command *c, void *payload, uint32_t length);
const char *create_parse(struct create *c, void *payload, uint32_t length);

/* Records of this type only, after a struct agent_name: the payload of an UPDATE or a MOUNT. */
const char *order_parse(struct records *r, uint32_t type, void *payload, uint32_t length);

/* The payload of an UNMOUNT: *path is what follows the name. */
const char *unmount_parse(const char **path, void *payload, uint32_t length);

/* The next record of this type. Returns whether there is one. */
bool record_next(struct records *r, uint32_t type, struct record *out);

/* The string that begins size bytes into the record's body, and the one behind a string. */
const char *record_string(const struct record *r, size_t size);
const char *string_after(const char *s);

/* Whether it is a container's name: ends in a NUL, and has the right characters. */
bool name_valid(const char name[AGENT_NAME_MAX + 8]);

/* The file below /proc/sys that a sysctl's name means ("net.ipv4.ip_forward" or with slashes); size
 * PATH_MAX. Returns false for a name that is none.
 */
bool sysctl_path(const char *name, char *path);

#endif
