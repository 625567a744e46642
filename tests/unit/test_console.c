/* SPDX-License-Identifier: Apache-2.0
 *
 * The console between a real UART and pipes, files, terminals and clients' sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/console.h"
#include "vmm/rundir.h"

static struct console console;
static struct serial serial;
static struct loop loop;
static struct end end;
static struct irq irq;
static struct err e;

static void setup(void)
{
	tmp_setup();
	ck_ok(loop_init(&loop, &e));
	ck_ok(irq.fd = event_new(&e));
	end.loop = &loop;
}

static void teardown(void)
{
	tmp_teardown();
}

static void start(const struct console_config *cfg)
{
	struct serial_host host;

	ck_ok(console_init(&console, cfg, &serial, &loop, &end, &e));
	host = console_host(&console);
	serial_init(&serial, irq, &host);
}

static void start_off(void)
{
	start(&(struct console_config){.mode = CONSOLE_OFF});
}

static void start_file(void)
{
	start(&(struct console_config){.mode = CONSOLE_FILE, .path = tmp_path("out")});
}

/* Standard input and output are the test's from here on. */
static void start_stdio(int in, int out)
{
	ck_that(dup2(in, STDIN_FILENO) == STDIN_FILENO);
	ck_that(dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
	start(&(struct console_config){.mode = CONSOLE_STDIO});
}

/* --- the guest's side --- */

static void print_bytes(const void *text, size_t n)
{
	const uint8_t *p = text;

	while (n--)
		serial_ops.write(&serial, 0, p++, 1);
}

static void print(const char *text)
{
	print_bytes(text, strlen(text));
}

/* Opens the port for input, as a driver does. */
static void request_to_send(void)
{
	uint8_t rts = 2;

	serial_ops.write(&serial, 4, &rts, 1);
}

/* What the guest can read now. */
static const char *typed(void)
{
	static char text[8192];
	size_t n = 0;
	uint8_t status = 0;

	for (;;) {
		loop_settle(&loop);
		serial_ops.read(&serial, 5, &status, 1);
		if (!(status & 1))
			break;
		ck_that(n < sizeof(text) - 1);
		serial_ops.read(&serial, 0, (uint8_t *)&text[n++], 1);
	}
	text[n] = 0;
	return text;
}

/* --- the reader's side --- */

/* As text_now. */
static const char *shown(int fd)
{
	loop_settle(&loop);
	return text_now(fd);
}

static int attach(void)
{
	int s[2];

	ck_that(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	ck_that(!fcntl(s[1], F_SETFL, O_NONBLOCK)); /* as control.c accepts them */
	ck_that(!console_attach(&console, s[1]));
	return s[0];
}

static void put(int fd, const char *text)
{
	ck_that(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* --- output --- */

START_TEST(output_to_a_file)
{
	start_file();
	print("hello\n");
	loop_settle(&loop);
	ck_assert_str_eq(file_text(tmp_path("out"), NULL), "hello\n");
	print("rest"); /* written at the end, though the loop has stopped */
	console_close(&console);
	ck_assert_str_eq(file_text(tmp_path("out"), NULL), "hello\nrest");
}
END_TEST

START_TEST(every_byte_passes)
{
	uint8_t all[256];
	size_t len;

	for (unsigned int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	start_file();
	print_bytes(all, sizeof(all));
	console_close(&console);
	ck_assert(!memcmp(file_text(tmp_path("out"), &len), all, sizeof(all)));
	ck_assert_uint_eq(len, sizeof(all));
}
END_TEST

START_TEST(megabytes_to_a_file)
{
	static uint8_t data[CONSOLE_RING / 2];
	const char *text;
	size_t len;

	fill_pattern(data, sizeof(data), 1);
	start_file();
	for (unsigned int i = 0; i < 32; i++) {
		print_bytes(data, sizeof(data));
		loop_settle(&loop);
	}
	console_close(&console);
	text = file_text(tmp_path("out"), &len);
	ck_assert_uint_eq(len, 32 * sizeof(data));
	for (unsigned int i = 0; i < 32; i++)
		ck_that(!memcmp(text + i * sizeof(data), data, sizeof(data)));
}
END_TEST

/* A loop that has no time: the guest goes on, and the loss is said where it is. */
START_TEST(loss_is_reported)
{
	char note[64];
	const char *text;
	size_t len;

	start_file();
	for (unsigned int i = 0; i < CONSOLE_RING; i++)
		print("x");
	print("lost it");
	loop_settle(&loop);
	print("after");
	console_close(&console);
	text = file_text(tmp_path("out"), &len);
	snprintf(note, sizeof(note), "\r\n[uvm: 7 bytes of console output lost]\r\nafter");
	ck_assert_uint_eq(len, CONSOLE_RING + strlen(note));
	ck_assert(all_bytes(text, CONSOLE_RING, 'x'));
	ck_assert_str_eq(text + CONSOLE_RING, note);
}
END_TEST

START_TEST(file_that_cannot_be)
{
	struct console_config cfg = {.mode = CONSOLE_FILE, .path = tmp_path("no/such")};

	ck_refused(console_init(&console, &cfg, &serial, &loop, &end, &e), ENOENT, "no/such");
	cfg.path = tmp;
	ck_refused(console_init(&console, &cfg, &serial, &loop, &end, &e), EISDIR, tmp);
}
END_TEST

START_TEST(output_to_a_full_disk)
{
	start(&(struct console_config){.mode = CONSOLE_FILE, .path = "/dev/full"});
	for (unsigned int i = 0; i < 3 * CONSOLE_RING; i++)
		print("x");
	loop_settle(&loop);
	ck_assert_uint_eq(console.count, 0);
}
END_TEST

START_TEST(output_off)
{
	start_off();
	for (unsigned int i = 0; i < 3 * CONSOLE_RING; i++)
		print("x");
	loop_settle(&loop);
	ck_assert_uint_eq(console.count, 0);
	console_close(&console);
}
END_TEST

/* The log of a detached VM is begun anew when it is full, and the part before is kept. */
START_TEST(log_turns)
{
	static uint8_t data[CONSOLE_RING / 2];
	const uint64_t total = 3ull * CONSOLE_LOG_MAX;
	struct stat now, before;

	start(&(struct console_config){.mode = CONSOLE_LOG,
				       .dir = open(tmp, O_RDONLY | O_DIRECTORY)});
	for (uint64_t n = 0; n < total; n += sizeof(data)) {
		memset(data, 'a' + (int)(n / CONSOLE_LOG_MAX), sizeof(data));
		print_bytes(data, sizeof(data));
		loop_settle(&loop);
	}
	print("end");
	console_close(&console);
	ck_assert(!stat(tmp_path(RUNDIR_CONSOLE), &now));
	ck_assert(!stat(tmp_path(RUNDIR_CONSOLE ".1"), &before));
	ck_assert_int_le(now.st_size, CONSOLE_LOG_MAX);
	ck_assert_int_le(before.st_size, CONSOLE_LOG_MAX + 4096);
	ck_assert_str_eq(file_text(tmp_path(RUNDIR_CONSOLE), NULL), "end");
	ck_assert(all_bytes(file_text(tmp_path(RUNDIR_CONSOLE ".1"), NULL), CONSOLE_LOG_MAX, 'c'));
}
END_TEST

/* --- standard input and output --- */

static int in[2], out[2]; /* pipes */

static void start_pipes(void)
{
	ck_that(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	start_stdio(in[0], out[1]);
	close(in[0]);
	close(out[1]);
}

START_TEST(pipes_both_ways)
{
	start_pipes();
	request_to_send();
	print("login: ");
	ck_assert_str_eq(shown(out[0]), "login: ");
	put(in[1], "root\n");
	ck_assert_str_eq(typed(), "root\n");
	/* Ctrl-] means something on a terminal only. */
	put(in[1], "a\x1d"
		   "b");
	ck_assert_str_eq(typed(), "a\x1d"
				  "b");
	ck_assert_int_eq(end_get(&end), END_NONE);
}
END_TEST

/* A reader that stops: the pipe and the ring fill, the guest does not stand still. */
START_TEST(slow_reader_of_a_pipe)
{
	unsigned int total = 0;
	bool noted = false;
	const char *text;

	start_pipes();
	ck_assert_int_gt(fcntl(out[0], F_SETPIPE_SZ, 4096), 0);
	for (unsigned int i = 0; i < 3 * CONSOLE_RING; i++) {
		print("x");
		if (i % 1000 == 0)
			loop_settle(&loop);
	}
	while (*(text = shown(out[0]))) {
		noted |= strstr(text, "console output lost") != NULL;
		total += (unsigned int)strlen(text);
	}
	ck_assert_uint_ge(total, CONSOLE_RING);
	ck_assert(noted);
	print("on");
	ck_assert_str_eq(shown(out[0]), "on");
}
END_TEST

START_TEST(reader_goes_away)
{
	start_pipes();
	close(out[0]);
	for (unsigned int i = 0; i < 3 * CONSOLE_RING; i++)
		print("x");
	loop_settle(&loop);
	ck_assert_uint_eq(console.count, 0);
	console_close(&console);
}
END_TEST

/* Input of any length passes at the guest's pace; its end is not the VM's. */
START_TEST(input_waits_for_the_guest)
{
	static char text[4000];

	start_pipes();
	memset(text, 't', sizeof(text) - 1);
	put(in[1], text);
	close(in[1]);
	ck_assert_str_eq(typed(), ""); /* the port is not open */
	request_to_send();
	ck_assert_str_eq(typed(), text);
	ck_assert_int_eq(console.own.in.fd, -1);
	ck_assert_int_eq(end_get(&end), END_NONE);
}
END_TEST

/* A plain file cannot be waited for: it is read when the guest has room. */
START_TEST(input_from_a_file)
{
	static char text[1000];
	int null = open("/dev/null", O_WRONLY), file;

	memset(text, 'f', sizeof(text) - 1);
	file = open(tmp_file("in", text, sizeof(text) - 1), O_RDONLY);
	start_stdio(file, null);
	loop_settle(&loop);
	print("boot\n"); /* what the guest does first */
	loop_settle(&loop);
	request_to_send();
	ck_assert_str_eq(typed(), text);
	ck_assert_int_eq(console.own.in.fd, -1);
}
END_TEST

/* A terminal's bytes reach its other end a moment later. */
static void await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	ck_that(poll(&p, 1, -1) == 1);
}

START_TEST(terminal)
{
	struct termios before, raw, after;
	int master, slave;

	ck_assert(!openpty(&master, &slave, NULL, NULL, NULL));
	ck_assert(!tcgetattr(slave, &before));
	start_stdio(slave, slave);
	ck_assert(!tcgetattr(slave, &raw));
	ck_assert(!(raw.c_lflag & (ICANON | ECHO | ISIG)));
	request_to_send();
	put(master, "ls\x03\r");
	await(slave);
	ck_assert_str_eq(typed(), "ls\x03\r"); /* Ctrl-C is the guest's */
	print("out\n");
	loop_settle(&loop);
	await(master);
	ck_assert_str_eq(shown(master), "out\n");
	put(master, "last\x1dnever");
	await(slave);
	ck_assert_str_eq(typed(), "last");
	ck_assert_int_eq(end_get(&end), END_STOPPED);
	console_close(&console);
	ck_assert(!tcgetattr(slave, &after));
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	ck_assert_uint_eq(after.c_iflag, before.c_iflag);
	ck_assert_uint_eq(after.c_oflag, before.c_oflag);
}
END_TEST

START_TEST(closed_standard_input)
{
	int null = open("/dev/null", O_WRONLY);

	ck_that(dup2(null, STDOUT_FILENO) == STDOUT_FILENO);
	close(STDIN_FILENO);
	start(&(struct console_config){.mode = CONSOLE_STDIO});
	ck_assert_int_eq(console.own.in.fd, -1);
	print("x");
	loop_settle(&loop);
	ck_assert_uint_eq(console.count, 0);
}
END_TEST

/* --- clients --- */

START_TEST(clients_see_and_type)
{
	int a, b;

	start_file();
	request_to_send();
	a = attach();
	b = attach();
	print("hello");
	ck_assert_str_eq(shown(a), "hello");
	ck_assert_str_eq(shown(b), "hello");
	put(a, "from a ");
	ck_assert_str_eq(typed(), "from a ");
	put(b, "from b");
	ck_assert_str_eq(typed(), "from b");
	close(a);
	print(" more");
	ck_assert_str_eq(shown(b), " more");
	ck_assert_str_eq(file_text(tmp_path("out"), NULL), "hello more");
}
END_TEST

/* A client's escape key lets go of that client; the VM runs on. */
START_TEST(client_detaches)
{
	int a, b;

	start_off();
	request_to_send();
	a = attach();
	b = attach();
	put(a, "bye\x1dgone");
	ck_assert_str_eq(typed(), "bye");
	ck_assert_str_eq(shown(a), "(end)");
	ck_assert_int_eq(end_get(&end), END_NONE);
	print("on");
	ck_assert_str_eq(shown(b), "on");
}
END_TEST

START_TEST(client_leaves_with_words)
{
	int a;

	start_off();
	a = attach();
	put(a, "last words");
	close(a);
	loop_settle(&loop);
	ck_assert_str_eq(typed(), "");
	request_to_send();
	ck_assert_str_eq(typed(), "last words");
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		ck_assert_int_eq(console.client[i].in.fd, -1);
}
END_TEST

/* All that was said is in the file, or in the count of what was lost, which is told at the end. */
START_TEST(more_than_the_limit)
{
	static char text[5000];
	struct console_config cfg = {.mode = CONSOLE_FILE, .path = tmp_path("out"), .bps = 10};
	unsigned int kept = 0, lost = 0;
	FILE *f;

	memset(text, 'x', sizeof(text));
	start(&cfg);
	print_bytes(text, sizeof(text));
	loop_settle(&loop);
	console_close(&console);
	f = fopen(tmp_path("out"), "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(text, sizeof(text), f)) {
		unsigned int n = 0;

		kept += (unsigned int)strspn(text, "x");
		if (sscanf(text, "[uvm: %u bytes of console output lost]", &n) == 1)
			lost += n;
	}
	fclose(f);
	ck_assert_uint_ge(kept, 10);
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(kept + lost, sizeof(text));
}
END_TEST

START_TEST(clients_have_a_limit)
{
	int fd[CONSOLE_CLIENTS], s[2];

	start_off();
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		fd[i] = attach();
	ck_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	ck_assert_int_eq(console_attach(&console, s[1]), -EMFILE);
	ck_assert_str_eq(shown(s[0]), "(end)"); /* it was taken, and closed */
	close(fd[3]);
	loop_settle(&loop);
	fd[3] = attach();
	print("x");
	for (unsigned int i = 0; i < CONSOLE_CLIENTS; i++)
		ck_assert_str_eq(shown(fd[i]), "x");
}
END_TEST

/* A client that does not read loses output, and holds nobody up. */
START_TEST(client_that_does_not_read)
{
	size_t total = 0, n;
	int a, b;

	start_off();
	a = attach();
	b = attach();
	for (unsigned int i = 0; i < 40; i++) {
		for (unsigned int k = 0; k < CONSOLE_RING / 2; k++)
			print("x");
		while ((n = strlen(shown(b))))
			total += n;
	}
	ck_assert_uint_eq(total, 40 * (CONSOLE_RING / 2));
	close(a);
	loop_settle(&loop);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		output_to_a_file,
		every_byte_passes,
		megabytes_to_a_file,
		loss_is_reported,
		file_that_cannot_be,
		output_to_a_full_disk,
		output_off,
		log_turns,
		pipes_both_ways,
		slow_reader_of_a_pipe,
		reader_goes_away,
		input_waits_for_the_guest,
		input_from_a_file,
		terminal,
		closed_standard_input,
		clients_see_and_type,
		client_detaches,
		client_leaves_with_words,
		clients_have_a_limit,	more_than_the_limit,
		client_that_does_not_read,
	};

	return run_tests("console", tests, ARRAY_SIZE(tests), setup, teardown);
}
