/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/rundir.h"

/* At most this much in one write: a pipe that is writable takes it without blocking. */
#define CHUNK 4096

#define SECOND 1000000000u /* ns */

/* --- output --- */

/* Puts a byte into the ring, under the lock. Returns whether somebody has to be woken for it. */
static bool put(struct console *c, uint8_t byte)
{
	bool wake = !c->woken;

	if (c->count == CONSOLE_RING) {
		c->dropped++;
		return false;
	}
	c->ring[(c->head + c->count++) % CONSOLE_RING] = byte;
	c->woken = true;
	return wake;
}

/* On a vCPU thread. */
static void send_byte(void *ctx, uint8_t byte)
{
	struct console *c = ctx;
	bool wake = false;

	pthread_mutex_lock(&c->lock);
	if (c->limit.rate && limit_take(&c->limit, now_ns(), 1))
		c->dropped++;
	else
		wake = put(c, byte);
	pthread_mutex_unlock(&c->lock);
	if (wake)
		event_post(c->wake.fd);
}

/* Looks at what is next in the ring, at most CHUNK bytes, without taking it. */
static size_t peek(struct console *c, uint8_t chunk[CHUNK])
{
	size_t n, first;

	pthread_mutex_lock(&c->lock);
	n = MIN(c->count, (uint32_t)CHUNK);
	first = MIN(n, (size_t)(CONSOLE_RING - c->head));
	memcpy(chunk, c->ring + c->head, first);
	memcpy(chunk + first, c->ring, n - first);
	c->woken = n > 0;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void consume(struct console *c, size_t n)
{
	pthread_mutex_lock(&c->lock);
	c->head = (uint32_t)((c->head + n) % CONSOLE_RING);
	c->count -= (uint32_t)n;
	pthread_mutex_unlock(&c->lock);
}

static void to_clients(struct console *c, const void *data, size_t n)
{
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		if (c->client[i].in.fd >= 0)
			send(c->client[i].in.fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Begins the log anew when it is full; the part before stays as log.1. */
static void turn_log(struct console *c)
{
	char old[64];
	int fd;

	snprintf(old, sizeof(old), "%s.1", c->log_name);
	renameat(c->log_dir, c->log_name, c->log_dir, old);
	fd = openat(c->log_dir, c->log_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0)
		return;
	close(c->out.fd);
	c->out.fd = fd;
	c->logged = 0;
}

/* Writes one chunk to everybody. Returns false when there is nothing or nobody takes it now. */
static bool write_chunk(struct console *c)
{
	uint8_t chunk[CHUNK];
	size_t n = peek(c, chunk);
	ssize_t done = (ssize_t)n;

	if (!n)
		return false;
	if (c->out.fd >= 0) {
		done = write(c->out.fd, chunk, n);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			return errno == EINTR;
		if (done < 0) /* full disk, closed pipe: the guest goes on, its output does not */
			done = (ssize_t)n;
		c->logged += (uint32_t)done;
		if (c->log_dir >= 0 && c->logged >= CONSOLE_LOG_MAX)
			turn_log(c);
	}
	to_clients(c, chunk, (size_t)done);
	consume(c, (size_t)done);
	return true;
}

/* Puts a note of lost output into the stream, when there is room for it again. Where there is a limit,
 * something may be lost all the time, and is told once a second, and at the end.
 */
static void report_loss(struct console *c, bool end)
{
	uint64_t now = c->limit.rate ? now_ns() : 0;
	bool due = end || !c->limit.rate || now - c->told_ns >= SECOND, wake = false;
	char note[64] = "";

	pthread_mutex_lock(&c->lock);
	if (c->dropped && due && c->count < CONSOLE_RING / 2) {
		snprintf(note, sizeof(note), "\r\n[uvm: %" PRIu64 " bytes of console output lost]\r\n",
			 c->dropped);
		c->dropped = 0;
		c->told_ns = now;
	}
	for (const char *p = note; *p; p++)
		wake |= put(c, (uint8_t)*p);
	pthread_mutex_unlock(&c->lock);
	if (wake)
		event_post(c->wake.fd);
}

static void put_out(struct console *c)
{
	if (c->out.fd >= 0 && !c->out_file) {
		loop_watch(c->loop, &c->out, EPOLLOUT);
		return;
	}
	while (write_chunk(c))
		;
	report_loss(c, false);
}

static void out_ready(struct loop_source *s, uint32_t events)
{
	struct console *c = CONTAINER_OF(s, struct console, out);

	if (events & (EPOLLERR | EPOLLHUP)) {
		/* Nobody reads it any more, and that would be reported for ever. */
		loop_del(c->loop, s);
		s->fd = -1;
		put_out(c);
		return;
	}
	if (!write_chunk(c)) {
		loop_watch(c->loop, s, 0);
		report_loss(c, false);
	}
}

/* --- input --- */

static void port_close(struct console_port *p)
{
	if (!p->file)
		loop_del(p->console->loop, &p->in);
	if (p != &p->console->own)
		close(p->in.fd);
	p->in.fd = -1;
}

/* Hands what was typed to the guest. Returns whether it took all. */
static bool hand_over(struct console_port *p)
{
	size_t left = p->typed_len - p->typed_at;

	if (left)
		p->typed_at += serial_input(p->console->serial, p->typed + p->typed_at, left);
	return p->typed_at == p->typed_len;
}

/* Cuts the input at the escape key. Returns whether it was there. */
static bool cut_at_escape(struct console_port *p)
{
	uint8_t *key = memchr(p->typed, CONSOLE_ESCAPE, p->typed_len);

	if (!key || (p == &p->console->own && !p->console->tty.raw))
		return false;
	p->typed_len = (size_t)(key - p->typed);
	return true;
}

/* Hands over what was typed, and reads if there is something to read: standard input may be
 * blocking (its mode is shared with others), so it is read only when that cannot wait.
 */
static void port_pump(struct console_port *p, bool readable)
{
	struct console *c = p->console;

	while (p->in.fd >= 0 && hand_over(p) && !p->eof && (readable || p->file)) {
		ssize_t n = read(p->in.fd, p->typed, sizeof(p->typed));
		bool escape;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		p->typed_at = 0;
		p->typed_len = n > 0 ? (size_t)n : 0;
		p->eof = n <= 0;
		escape = cut_at_escape(p);
		if (escape && p == &c->own)
			end_set(c->end, END_STOPPED, "ended from the console");
		if (escape) {
			hand_over(p);
			port_close(p);
			return;
		}
		readable = false; /* one read for each event: others' turn */
	}
	if (p->in.fd >= 0 && p->eof && hand_over(p))
		port_close(p);
	else if (p->in.fd >= 0 && !p->file)
		loop_watch(c->loop, &p->in, p->eof || p->typed_at < p->typed_len ? 0 : EPOLLIN);
}

static void in_ready(struct loop_source *s, uint32_t events)
{
	struct console_port *p = CONTAINER_OF(s, struct console_port, in);

	/* A hang-up would be reported for ever, watched or not. What is left to read can be read
	 * without waiting, as from a file.
	 */
	if (events & (EPOLLHUP | EPOLLERR)) {
		loop_del(p->console->loop, s);
		p->file = true;
	}
	port_pump(p, true);
}

static int port_open(struct console *c, struct console_port *p, int fd)
{
	int r;

	*p = (struct console_port){.console = c, .in = {.fd = fd, .ready = in_ready}};
	r = loop_add(c->loop, &p->in, EPOLLIN);
	p->file = r == -EPERM;
	return p->file ? 0 : r;
}

/* On a vCPU thread. */
static void room(void *ctx)
{
	struct console *c = ctx;

	event_post(c->wake.fd);
}

static void awake(struct loop_source *s, uint32_t events)
{
	struct console *c = CONTAINER_OF(s, struct console, wake);

	(void)events;
	event_take(s->fd);
	put_out(c);
	if (c->own.in.fd >= 0)
		port_pump(&c->own, false);
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		if (c->client[i].in.fd >= 0)
			port_pump(&c->client[i], false);
}

int console_attach(struct console *c, int fd)
{
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++) {
		int r;

		if (c->client[i].in.fd >= 0)
			continue;
		r = port_open(c, &c->client[i], fd);
		if (!r)
			return 0;
		c->client[i].in.fd = -1;
		break;
	}
	close(fd);
	return -EMFILE;
}

/* --- set-up --- */

struct serial_host console_host(struct console *c)
{
	return (struct serial_host){.send = send_byte, .room = room, .ctx = c};
}

static int open_stdio(struct console *c, struct err *e)
{
	int r;

	c->out.fd = STDOUT_FILENO;
	r = loop_add(c->loop, &c->out, 0);
	c->out_file = r == -EPERM;
	if (r && !c->out_file)
		return err_set(e, -r, "cannot use standard output as the console: %s",
			       strerror(-r));
	r = port_open(c, &c->own, STDIN_FILENO);
	if (r) { /* closed: no input then */
		c->own.in.fd = -1;
		return 0;
	}
	tty_raw(&c->tty, STDIN_FILENO);
	return 0;
}

static int open_file(struct console *c, const struct console_config *cfg, struct err *e)
{
	const char *path = cfg->mode == CONSOLE_LOG ? RUNDIR_CONSOLE : cfg->path;
	int dir = cfg->mode == CONSOLE_LOG ? cfg->dir : AT_FDCWD;

	/* Non-blocking for a fifo: opening it must not wait for its reader. */
	c->out.fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0600);
	if (c->out.fd < 0)
		return err_sys(e, "cannot open console file %s", path);
	c->out_file = loop_add(c->loop, &c->out, 0) != 0;
	if (cfg->mode == CONSOLE_LOG) {
		c->log_dir = dir;
		c->log_name = path;
	}
	return 0;
}

int console_init(struct console *c, const struct console_config *cfg, struct serial *serial,
		 struct loop *loop, struct end *end, struct err *e)
{
	int r;

	c->loop = loop;
	c->serial = serial;
	c->end = end;
	c->head = c->count = 0;
	c->dropped = c->told_ns = 0;
	limit_init(&c->limit, cfg->bps, cfg->bps, now_ns());
	c->woken = c->tty.raw = c->out_file = false;
	c->log_dir = -1;
	c->logged = 0;
	c->own.in.fd = -1;
	c->out = (struct loop_source){.fd = -1, .ready = out_ready};
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		c->client[i].in.fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	r = event_new(e);
	if (r < 0)
		return r;
	c->wake = (struct loop_source){.fd = r, .ready = awake};
	r = loop_add(loop, &c->wake, EPOLLIN);
	if (r)
		return err_set(e, -r, "cannot watch the console: %s", strerror(-r));
	switch (cfg->mode) {
	case CONSOLE_STDIO: return open_stdio(c, e);
	case CONSOLE_FILE:
	case CONSOLE_LOG: return open_file(c, cfg, e);
	default: return 0;
	}
}

void console_close(struct console *c)
{
	struct pollfd p = {.fd = c->out.fd, .events = POLLOUT};

	report_loss(c, true);
	while (p.fd < 0 || poll(&p, 1, 1000) > 0)
		if (!write_chunk(c))
			break;
	tty_restore(&c->tty, STDIN_FILENO);
}
