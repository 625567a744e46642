/* SPDX-License-Identifier: Apache-2.0
 *
 * record: what is known of a container, in the file RUNDIR_RECORD of its VM's run directory.
 *
 * Lines of JSON objects, which are only ever added, each with one write: the first when the container
 * is made (image, command, scratch, remove, created), then one when its process begins (started) and one when it
 * has ended (exited, status). So whoever has it open sees the end even of a container whose directory
 * is removed with it. A later member takes the place of an earlier one of the same name.
 */
#ifndef UVM_VMM_RECORD_H
#define UVM_VMM_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/journal.h"
#include "vmm/json.h"
#include "vmm/rundir.h"

/* The name in the guest of the container that a VM of "uvm run" is there for. */
#define RECORD_CONTAINER "main"

struct record {
	bool container; /* the VM is one's; else nothing below counts */
	struct json_doc doc; /* the first line */
	const char *image;
	const struct json *command; /* an array of strings */
	const char *scratch;	    /* the file that has what it wrote, below RECORD_CONTAINER/upper; or NULL */
	char created[JOURNAL_TIME], started[JOURNAL_TIME], exited[JOURNAL_TIME]; /* empty: not yet */
	int status; /* -1: not known */
	bool remove; /* goes with its end (--rm) */
};

/* The first line. */
int record_create(const struct rundir *vm, const char *image, char *const *argv,
		  const char *scratch, bool remove, struct err *e);

/* The others. What cannot be written is lost. */
void record_started(const struct rundir *vm);
void record_exited(const struct rundir *vm, int status);

/* Opens it, of a VM that runs or is kept. Returns a descriptor, -ENOENT where the VM is no container's,
 * or another -errno.
 */
int record_open(const struct rundir *vm, struct err *e);

/* Whether a VM is there for a container, which a command then means. */
bool record_is_container(const struct rundir *vm);

/* Reads it from the beginning; record_free frees what it holds. Returns 0 or -errno. */
int record_read(int fd, struct record *r, struct err *e);
void record_free(struct record *r);

/* Both; a VM that is no container's has r->container false. */
int record_load(const struct rundir *vm, struct record *r, struct err *e);

#endif
