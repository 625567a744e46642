/* SPDX-License-Identifier: Apache-2.0
 *
 * pump: moves a stream's bytes between two descriptors inside the kernel.
 *
 * splice(2) needs no buffer of ours, so a stream costs the agent no memory, and what the reader
 * has not taken stays where back-pressure works by itself: in the pipe or in the socket. One of
 * the two descriptors must be a pipe, and both must be non-blocking. Nothing here waits: when
 * neither side lets a byte through, an edge-triggered event on either is the time to step again.
 */
#ifndef UVM_AGENT_PUMP_H
#define UVM_AGENT_PUMP_H

#include <stdbool.h>
#include <stdint.h>

/* Owns both descriptors. They are -1 when it has ended. */
struct pump {
	int from;
	int to;
	bool limited;  /* see pump_limit */
	uint64_t left; /* bytes that a limited pump may still move */
	int sink;      /* unless -1: where bytes go when nobody takes them any more; not owned. Only
			* where the source is a pipe */
	char last;     /* unless 0, to is a pipe and gets this byte when the source has ended */
};

/* Starts a pump that takes over from and to. */
void pump_open(struct pump *p, int from, int to);

/* Ends it: closes both descriptors. May be called again. */
void pump_close(struct pump *p);

bool pump_active(const struct pump *p);

/* Nobody reads what it writes: it ends, or goes on into its sink. */
void pump_lose(struct pump *p);

/* Moves at most one pipe's worth. At the end of the source, or when either side fails, the pump
 * ends. Returns whether anything changed, so that another step may do more.
 */
bool pump_step(struct pump *p);

/* From now on the pump moves what the source holds already and then ends, even if a writer is
 * left that would go on for ever: at most max bytes, and none after the source was found empty.
 */
void pump_limit(struct pump *p, uint64_t max);

#endif
