/* SPDX-License-Identifier: Apache-2.0
 *
 * console: what the serial port is connected to: the terminal or the files that the monitor
 * was started with, and clients that attach later.
 *
 * A vCPU thread puts a byte into a ring and goes on; the main loop writes the ring out as fast as
 * the reader takes it. A reader that does not keep up loses output (the loss is reported in the
 * stream), for the alternative is a guest that stands still because nobody reads its console. So does
 * a guest that says more than it may.
 */
#ifndef UVM_VMM_CONSOLE_H
#define UVM_VMM_CONSOLE_H

#include <pthread.h>

#include "devices/limit.h"
#include "devices/serial.h"
#include "vmm/end.h"
#include "vmm/loop.h"
#include "vmm/tty.h"

#define CONSOLE_RING	(64u << 10)
#define CONSOLE_CLIENTS 8
#define CONSOLE_ESCAPE	0x1d	   /* Ctrl-] ends a foreground VM, detaches a client */
#define CONSOLE_LOG_MAX (4u << 20) /* of a log in the run directory, twice: log and log.1 */

/* Somebody who reads and types: the monitor's own stdin and stdout, or an attached client. */
struct console_port {
	struct console *console;
	struct loop_source in;
	bool file; /* not watched, always readable: a plain file, or hung up */
	bool eof;
	uint8_t typed[256]; /* read from `in`, not yet taken by the guest */
	size_t typed_at, typed_len;
};

struct console {
	struct loop *loop;
	struct serial *serial;
	struct end *end;

	pthread_mutex_t lock; /* of the ring, against the vCPU threads */
	uint8_t ring[CONSOLE_RING];
	uint32_t head, count;
	uint64_t dropped;
	uint64_t told_ns; /* when that was last said */
	struct limit limit;
	bool woken;
	struct loop_source wake; /* eventfd: output in an empty ring, or room for input */

	struct loop_source out; /* fd -1: off */
	bool out_file;		/* a plain file: always writable, never epolled */
	int log_dir;		/* of a log that is kept short; -1: not one */
	const char *log_name;
	uint32_t logged;
	struct console_port own;
	struct console_port client[CONSOLE_CLIENTS]; /* in.fd -1: free */
	struct tty tty; /* standard input's, while it is in raw mode */
};

enum console_mode {
	CONSOLE_STDIO, /* standard input and output; a terminal is set to raw mode */
	CONSOLE_FILE,  /* output to a file, no input */
	CONSOLE_LOG,   /* the same in the run directory, of bounded size */
	CONSOLE_OFF,
};

struct console_config {
	enum console_mode mode;
	const char *path; /* CONSOLE_FILE */
	int dir;	  /* CONSOLE_LOG: directory; the name is RUNDIR_CONSOLE */
	uint64_t bps;	  /* bytes a second that the guest may say; 0: what it can */
};

/* Sets c up on loop; serial is initialised by the caller afterwards with console_host(c). c must
 * not move. Returns 0 or -errno.
 */
int console_init(struct console *c, const struct console_config *cfg, struct serial *serial,
		 struct loop *loop, struct end *end, struct err *e);
struct serial_host console_host(struct console *c);

/* Connects a client's socket, which is c's from now on, whatever is returned: 0, or -EMFILE if
 * CONSOLE_CLIENTS are there already.
 */
int console_attach(struct console *c, int fd);

/* Writes out what is left, waiting a second at most for a reader that has stopped, and restores
 * the terminal. After the loop has stopped.
 */
void console_close(struct console *c);

#endif
