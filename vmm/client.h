/* SPDX-License-Identifier: Apache-2.0
 *
 * client: reaches a running VM from another process: its control socket, and through its vsock
 * socket a port of the guest.
 */
#ifndef UVM_VMM_CLIENT_H
#define UVM_VMM_CLIENT_H

#include <stdint.h>

#include "vmm/rundir.h"

#define CLIENT_TIMEOUT_MS 10000 /* for an answer that a live peer gives at once */

#define CLIENT_SOON_MS	  1000	/* for one that can be done without */

/* Connects to the control socket. Returns the descriptor or -errno. */
int client_control(const struct rundir *vm, struct err *e);

/* The VM's process, as the kernel knows it by the control socket: what the pid file says is the monitor's
 * word, who may be anybody's by now. Returns it or -errno.
 */
pid_t client_pid(const struct rundir *vm, struct err *e);

/* Sends a request (a word) and reads its answer whole into text, without the line "ok". Returns
 * 0, or -errno: what the monitor says as an error, or that it does not answer in time.
 */
int client_request(int fd, const char *request, char *text, size_t size, struct err *e);

/* As client_request for what takes its time: no time limit but the connection's life. pass: a
 * descriptor to send along, or -1. progress is called with the bytes done and to do, or is NULL.
 */
int client_request_long(int fd, const char *request, int pass,
			void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
			char *text, size_t size, struct err *e);

/* Says the path of the directory in which a snapshot is to be made, where it is known and fits. Returns 0,
 * or -errno with a message.
 */
int client_place(int fd, int at, struct err *e);

/* The value of key in an answer of "<key> <value>" lines, cut to size and fit for a terminal;
 * empty if it is not there.
 */
void client_value(const char *text, const char *key, char *value, size_t size);

/* Waits until the VM's process has ended, which closes fd; at most timeout_ms. Returns whether it
 * has.
 */
int client_wait_end(int fd, int timeout_ms);

/* An agent_dial_fn (vmm/agent.h); ctx is a const struct rundir that is open. */
int client_dial_agent(void *ctx, int *fds, unsigned int n, struct err *e);

/* The same for who asks many VMs and waits for none of them longer than CLIENT_SOON_MS. */
int client_dial_agent_soon(void *ctx, int *fds, unsigned int n, struct err *e);

#endif
