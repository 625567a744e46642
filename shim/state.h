/* SPDX-License-Identifier: Apache-2.0
 *
 * state: what is known of an OCI container between two calls of the runtime.
 *
 * A container is a VM, and the VM's run directory (vmm/rundir.h) is the state directory of its
 * container: --root names the directory of all run directories. So a container is in "uvm ps" as well,
 * and what cleans up after a dead VM cleans up after a dead container. One that is in another's VM
 * (shim/pod.h) has such a directory without the VM's sockets. In it there are, for this
 * runtime alone,
 *   created    if it is there: "create" is done
 * and the rest of what a state is made of: the lock, which tells whether the VM lives; and the
 * record (vmm/record.h), which tells when the process has begun and ended.
 *
 * A monitor that its guest has taken over can write all of this, so nobody but its own container suffers from
 * believing it. What makes root act (hooks, paths, who is signalled and whose namespaces are entered) is in the
 * clients' own directory beside it (rundir_own), to which the process closes its way before its guest runs:
 *   oci.json   written once, when the container is made: struct oci_state
 *   process    the number of the container's process, and when that was started (proc(5))
 *   place      the descriptor of the process' that others' files come to (shim/graft.h), and what it is of
 *   paused     if it is there: "pause" has stopped the container's processes
 */
#ifndef UVM_SHIM_STATE_H
#define UVM_SHIM_STATE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "vmm/json.h"
#include "vmm/rundir.h"

#define STATE_FILE    "oci.json"
#define STATE_PROCESS "process"
#define STATE_CREATED "created"
#define STATE_PAUSED  "paused"

enum oci_status {
	OCI_CREATING,
	OCI_CREATED,
	OCI_RUNNING,
	OCI_PAUSED,
	OCI_STOPPED,
};

struct oci_state {
	struct rundir vm; /* open; of the container, which is a VM's unless it has a sandbox */
	enum oci_status status;
	pid_t pid; /* the container's process, which is its VM's if it has one; 0 when stopped */
	char created[40];
	/* Of the file. */
	struct json_doc doc;
	const char *bundle, *rootfs;
	const char *cgroup; /* the host's, or NULL */
	const char *network; /* the path of its namespace, or NULL: it is the process's own */
	const char *sandbox; /* the container in whose VM it is; NULL: it has one */
	const char *tree;    /* the name of its files there (shim/graft.h) */
	struct rundir guest; /* that one's, if has_guest */
	bool has_guest;
	uint64_t memory, cpus; /* of the VM: bytes, and how many */
	const struct json *annotations; /* an object, or NULL */
	const struct json *hooks;	/* checked, or NULL */
};

/* Writes the file, of a container whose run directory was made now, and is to be kept from now on: so
 * that "delete" finds what there is of it, whatever becomes of its making. Of s that is what is of the
 * file. Returns 0 or -errno.
 */
int oci_state_save(const struct rundir *vm, const struct oci_state *s, struct err *e);

/* In the container's process, before its guest runs: writes down which it is. */
int oci_state_save_process(const struct rundir *vm, struct err *e);

/* Opens the container's process (a pidfd), which the kernel says is the one that was written down; *pid is its
 * number, unless NULL. Returns it; -ENOENT if none was written down yet; -ESRCH if it has ended.
 */
int oci_state_process(const struct rundir *vm, pid_t *pid);

/* Closes the process' ways to all but the container's own directory, which becomes the root of a mount; before
 * another mount namespace is entered. vm->root stays, for who has something to write down: oci_state_leave
 * closes that.
 */
int oci_state_detach(struct rundir *vm, struct err *e);
void oci_state_leave(struct rundir *vm);

/* Its making is done. */
int oci_state_made(const struct rundir *vm, struct err *e);

/* Parses the file's text into s, which is zeroed. For oci_state_open; the tests want it, too. */
int oci_state_parse(struct oci_state *s, const char *text, size_t len, struct err *e);

/* Opens the container's state. Returns 0; -ENOENT where there is no such container, with runc's text;
 * or another -errno. oci_state_close after 0.
 */
int oci_state_open(struct oci_state *s, const char *id, struct err *e);
void oci_state_close(struct oci_state *s);

/* Of one that is not stopped: the VM that it is in, whose agent knows it by this name. */
struct rundir *oci_state_guest(struct oci_state *s);
const char *oci_state_name(const struct oci_state *s);

/* The same for who wants to be rid of it: what cannot be read of the file, damaged or of another version, is
 * as if it was not there, and *e says so; *e is empty otherwise.
 */
int oci_state_open_damaged(struct oci_state *s, const char *id, struct err *e);

/* Whether there is a container of this runtime's with that id. */
bool oci_state_exists(const char *id);

/* "creating" and so on. */
const char *oci_status_name(enum oci_status status);

/* The state as the specification has it. */
void oci_state_print(const struct oci_state *s, FILE *out);

/* The same as a text for hooks, which is the caller's to free; NULL without memory. */
char *oci_state_text(const struct oci_state *s);

/* Its processes stand still, or do not any more. */
int oci_state_set_paused(const struct oci_state *s, bool paused, struct err *e);

#endif
