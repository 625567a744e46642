/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket, asked anything, in pieces of any size.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/util.h"
#include "vmm/control.h"
#include "vmm/rundir.h"
#include "vmm/sock.h"

static size_t say(void *ctx, char *text, size_t size)
{
	(void)ctx;
	return size > 5 ? (memcpy(text, "id a\n", 5), 5) : 0;
}

static int take_snapshot(void *ctx, struct control_ticket t, int at, const char *place,
			 const char *name, enum control_snapshot how,
			 struct err *e)
{
	(void)ctx, (void)t, (void)place, (void)how;
	close(at);
	return err_set(e, EINVAL, "no snapshot '%s'", name);
}

static int take_fork(void *ctx, struct control_ticket t, const char *name, unsigned int n,
		     struct err *e)
{
	(void)ctx, (void)t;
	return err_set(e, EINVAL, "no %u forks '%s'", n, name);
}

static int take_pause(void *ctx, bool on, struct err *e)
{
	(void)ctx;
	return on ? 0 : err_set(e, EINVAL, "no");
}

static int take_trace(void *ctx, int fd, struct err *e)
{
	(void)ctx;
	return fd >= 0 ? 0 : err_set(e, EINVAL, "no");
}

static void take_trace_end(void *ctx)
{
	(void)ctx;
}

static int take_balloon(void *ctx, uint64_t bytes, struct err *e)
{
	(void)ctx;
	return bytes % 2 ? err_set(e, EINVAL, "no") : 0;
}

void fuzz_control(const uint8_t *data, size_t len)
{
	static struct control control;
	static struct console console;
	static struct serial serial;
	struct loop loop;
	struct end end = {.loop = &loop};
	struct fuzz_input in = {data, data + len};
	struct err e;
	int fd;

	memset(&console, 0, sizeof(console));
	tmp_setup();
	if (loop_init(&loop, &e) ||
	    console_init(&console, &(struct console_config){.mode = CONSOLE_OFF}, &serial, &loop,
			 &end, &e))
		abort();
	control = (struct control){.loop = &loop,
				   .end = &end,
				   .console = &console,
				   .status = say,
				   .stats = say,
				   .pause = take_pause,
				   .balloon = take_balloon,
				   .snapshot = take_snapshot,
				   .trace = take_trace,
				   .trace_end = take_trace_end,
				   .fork = take_fork};
	if (control_init(&control, tmp_dir, &e))
		abort();
	fd = sock_connect(tmp_dir, RUNDIR_CONTROL, 1);
	loop_settle(&loop);
	while (fd >= 0 && in.at < in.end) {
		size_t n = 1 + fuzz_take(&in, 1) * 3;

		if (n > (size_t)(in.end - in.at))
			n = (size_t)(in.end - in.at);
		if (send(fd, in.at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		in.at += n;
		loop_settle(&loop);
		text_now(fd);
	}
	close(fd);
	loop_settle(&loop);
	for (unsigned int i = 0; i < CONTROL_CLIENTS; i++)
		if (control.client[i].source.fd >= 0)
			close(control.client[i].source.fd);
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		if (console.client[i].in.fd >= 0)
			close(console.client[i].in.fd);
	close(console.wake.fd);
	close(control.listener.fd);
	loop_close(&loop);
	tmp_teardown();
}
