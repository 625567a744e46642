/* SPDX-License-Identifier: Apache-2.0
 *
 * journal: what has happened to a VM, in the file RUNDIR_JOURNAL of its run directory, and lines of
 * files like it.
 *
 * A line is a JSON object with "time" (UTC, milliseconds), "time_ns" (since 1970), "id", "event" and
 * what belongs to that; it is added with one write. So whoever watches needs no answer from the VM, sees
 * what was before, and sees the end also of one whose directory is removed with it: "exit" is the last.
 * docs/control-socket.md has the events. The guest can cause some of them: a journal that is full takes
 * no more but its last line.
 */
#ifndef UVM_VMM_JOURNAL_H
#define UVM_VMM_JOURNAL_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "vmm/json.h"
#include "vmm/rundir.h"

#define JOURNAL_TIME 32		   /* characters of a time as text, the NUL included */
#define JOURNAL_MAX  (256u << 10) /* bytes of a journal, about */
#define JOURNAL_LINE 4096	   /* bytes of a line at the most, as readers may rely on */

/* "2026-01-31T12:00:00.000Z". */
void journal_time(struct timespec t, char text[JOURNAL_TIME]);

/* A line of a file in a run directory: an object whose members are put in between. */
struct journal_line {
	struct json_writer w;
	char *text;
	size_t size;
};

/* Returns 0 or -ENOMEM. */
int journal_begin(struct journal_line *l);

/* Adds it to the file, whatever that has; frees it. Returns 0 or -errno. */
int journal_add(struct journal_line *l, const struct rundir *vm, const char *file);

/* These happened now. What cannot be written is lost. Any thread. */
void journal_event(const struct rundir *vm, const char *event);
void journal_number(const struct rundir *vm, const char *event, const char *key, uint64_t value);
void journal_text(const struct rundir *vm, const char *event, const char *key, const char *value);
void journal_exit(const struct rundir *vm, int status, const char *reason);

#endif
