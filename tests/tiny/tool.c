/* SPDX-License-Identifier: Apache-2.0
 *
 * tool: the host's end of the tiny tests, what a shell cannot do.
 *
 *   pattern SEED BYTES            a disk's content, to standard output
 *   compare FILE SEED FROM BYTES  whether FILE holds it there; else where it does not, exit 1
 *   blocks BYTES                  what the guest's case "output" prints
 *   sum FILE                      of its bytes, modulo 2^32
 *   connect SOCKET PORT BYTES     CONNECT to a guest's port, send BYTES, end that, and expect the
 *                                 same back up to its end
 *   refuse SOCKET PORT            CONNECT, and expect the connection to be closed
 *   echo SOCKET                   listen there, print "listening", echo one stream to its end
 *   drop SOCKET BYTES             the same, but close after BYTES bytes
 *   say SOCKET                    send standard input, then print what comes until the end
 *   mutate STATE MANIFEST SEED    changes bytes of a snapshot's state file, and makes the sums right
 *   lock FILE                     print "locked" when it is, hold until standard input ends
 *
 * Each lives for at most a minute.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshot/sum.h"

static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

/* As in blk.c. */
static uint8_t pattern(uint32_t seed, uint64_t offset)
{
	return (uint8_t)(seed * 101 + offset + (offset >> 8) * 7 + (offset >> 16) * 13);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (*end || end == text)
		die(text, "not a number");
	return v;
}

static int do_pattern(char **a)
{
	uint32_t seed = (uint32_t)number(a[0]);

	for (uint64_t n = number(a[1]), i = 0; i < n; i++)
		putchar(pattern(seed, i));
	return 0;
}

static int do_compare(char **a)
{
	FILE *f = fopen(a[0], "rb");
	uint32_t seed = (uint32_t)number(a[1]);
	uint64_t from = number(a[2]), n = number(a[3]);

	if (!f || fseek(f, (long)from, SEEK_SET))
		die(a[0], strerror(errno));
	for (uint64_t i = from; i < from + n; i++) {
		int c = getc(f);

		if (c != pattern(seed, i)) {
			printf("at offset %llu expected 0x%x, seen 0x%x\n", (unsigned long long)i,
			       pattern(seed, i), (unsigned int)c);
			return 1;
		}
	}
	return 0;
}

static int do_blocks(char **a)
{
	for (uint64_t n = number(a[0]) / 64, i = 0; i < n; i++)
		printf("%07llx........................................................\n",
		       (unsigned long long)i);
	return 0;
}

static int do_sum(char **a)
{
	FILE *f = fopen(a[0], "rb");
	uint32_t sum = 0;
	int c;

	if (!f)
		die(a[0], strerror(errno));
	while ((c = getc(f)) != EOF)
		sum += (uint32_t)c;
	printf("%u\n", sum);
	return 0;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(a.sun_path))
		die(path, "too long for a socket");
	strcpy(a.sun_path, path);
	return a;
}

static int dial(const char *path)
{
	struct sockaddr_un a = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		die(path, strerror(errno));
	return fd;
}

static int answer_call(const char *path)
{
	struct sockaddr_un a = address(path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0), fd;

	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 4))
		die(path, strerror(errno));
	puts("listening");
	fflush(stdout);
	fd = accept(s, NULL, NULL);
	if (fd < 0)
		die(path, strerror(errno));
	close(s);
	unlink(path);
	return fd;
}

static void send_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		if (done <= 0)
			die("send", strerror(errno));
		p += done;
		n -= (size_t)done;
	}
}

/* CONNECT, and its answer by single bytes: what follows is the guest's. Returns whether it was OK;
 * false where the connection was closed instead.
 */
static bool request(int fd, const char *port)
{
	char line[64];
	size_t n = 0;

	snprintf(line, sizeof(line), "CONNECT %s\n", port);
	send_all(fd, (uint8_t *)line, strlen(line));
	for (;;) {
		ssize_t r = recv(fd, line + n, 1, 0);

		if (r == 0 && n == 0)
			return false;
		if (r < 0 && errno == ECONNRESET)
			return false;
		if (r != 1 || n == sizeof(line) - 1)
			die("CONNECT", "no line came back");
		if (line[n++] == '\n')
			break;
	}
	line[n] = 0;
	if (strncmp(line, "OK ", 3))
		die("CONNECT answered", line);
	return true;
}

static int do_connect(char **a)
{
	int fd = dial(a[0]);
	uint64_t n = number(a[2]), sent = 0, got = 0;

	if (!request(fd, a[1]))
		die(a[1], "the connection was refused");
	if (!n)
		shutdown(fd, SHUT_WR);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < n ? POLLOUT : 0))};
		uint8_t buf[8192];

		if (poll(&p, 1, -1) < 0)
			die("poll", strerror(errno));
		if (p.revents & POLLOUT && sent < n) {
			size_t part = 0;
			ssize_t done;

			for (; part < sizeof(buf) && sent + part < n; part++)
				buf[part] = pattern(5, sent + part);
			done = send(fd, buf, part, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (done < 0 && errno != EAGAIN)
				die("send", strerror(errno));
			sent += done > 0 ? (uint64_t)done : 0;
			if (sent == n)
				shutdown(fd, SHUT_WR);
		}
		if (p.revents & (POLLIN | POLLHUP)) {
			ssize_t r = recv(fd, buf, sizeof(buf), 0);

			if (r < 0)
				die("recv", strerror(errno));
			if (r == 0)
				break;
			for (ssize_t i = 0; i < r; i++, got++)
				if (buf[i] != pattern(5, got)) {
					printf("byte %llu came back different\n",
					       (unsigned long long)got);
					return 1;
				}
		}
	}
	if (got != n) {
		printf("expected %llu bytes back, seen %llu\n", (unsigned long long)n,
		       (unsigned long long)got);
		return 1;
	}
	return 0;
}

static int do_refuse(char **a)
{
	if (request(dial(a[0]), a[1])) {
		printf("port %s accepted\n", a[1]);
		return 1;
	}
	return 0;
}

static int do_echo(char **a)
{
	int fd = answer_call(a[0]);
	uint8_t buf[8192];
	uint64_t total = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		send_all(fd, buf, (size_t)n);
		total += (uint64_t)n;
	}
	fprintf(stderr, "echoed %llu bytes, then %s\n", (unsigned long long)total,
		n ? strerror(errno) : "the end");
	return n < 0;
}

static int do_drop(char **a)
{
	int fd = answer_call(a[0]);
	uint64_t left = number(a[1]);
	uint8_t byte;

	while (left-- && recv(fd, &byte, 1, 0) == 1)
		;
	return 0;
}

static int do_say(char **a)
{
	int fd = dial(a[0]);
	uint8_t buf[8192];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		send_all(fd, buf, (size_t)n);
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	return 0;
}

static int do_lock(char **a)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(a[0], O_RDWR);
	char byte;

	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock))
		die(a[0], strerror(errno));
	puts("locked");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

/* docs/snapshot.md: a file's length and sum are at 16 and 24, its content from 32 on. */
static void mend(uint8_t *file, uint64_t len)
{
	uint64_t sum = sum_bytes(file + 32, len - 32, sum_bytes(file, 24, 0));

	memcpy(file + 24, &sum, sizeof(sum));
}

static uint8_t *read_file(const char *name, size_t *len)
{
	static uint8_t room[2][1 << 20];
	static unsigned int used;
	uint8_t *data = room[used++];
	FILE *f = fopen(name, "rb");

	if (!f || (*len = fread(data, 1, sizeof(room[0]), f)) <= 32)
		die(name, "cannot be read");
	fclose(f);
	return data;
}

static void write_file(const char *name, const uint8_t *data, size_t len)
{
	FILE *f = fopen(name, "wb");

	if (!f || fwrite(data, 1, len, f) != len || fclose(f))
		die(name, "cannot be written");
}

/* A byte of the value of a field chosen at random in a section chosen at random, so that the small
 * ones come to their turn. The headers around them are for the unit tests.
 */
static uint8_t *any_byte(uint8_t *file, size_t len)
{
	uint8_t *section[256], *field[256];
	uint32_t sections = 0, fields = 0, length, count;
	uint16_t size, name;

	for (size_t at = 32; at < len && sections < 256; at += 16 + length) {
		section[sections++] = file + at;
		memcpy(&length, file + at, sizeof(length));
	}
	file = section[(uint32_t)random() % sections];
	memcpy(&length, file, sizeof(length));
	memcpy(&name, file + 14, sizeof(name));
	for (uint32_t at = 16u + name; at < 16 + length && fields < 256;) {
		memcpy(&count, file + at, sizeof(count));
		memcpy(&size, file + at + 4, sizeof(size));
		memcpy(&name, file + at + 6, sizeof(name));
		if (count)
			field[fields++] = file + at;
		at += 8u + name + count * size;
	}
	file = field[(uint32_t)random() % fields];
	memcpy(&count, file, sizeof(count));
	memcpy(&size, file + 4, sizeof(size));
	memcpy(&name, file + 6, sizeof(name));
	return file + 8 + name + (uint32_t)random() % (count * size);
}

static int do_mutate(char **a)
{
	size_t state_len, manifest_len;
	uint8_t *state = read_file(a[0], &state_len), *manifest = read_file(a[1], &manifest_len);
	uint8_t *field = memmem(manifest, manifest_len, "state_sum", 9), *byte[4];
	long n;

	srandom((unsigned int)number(a[2]));
	if (!field)
		die(a[1], "no state_sum in it");
	n = 1 + random() % 4;
	for (long i = 0; i < n; i++)
		byte[i] = any_byte(state, state_len); /* before any changes */
	for (long i = 0; i < n; i++) {
		uint8_t *p = byte[i];

		switch (random() % 4) {
		case 0: *p ^= (uint8_t)(1u << random() % 8); break;
		case 1: *p = (uint8_t)random(); break;
		case 2: *p = 0; break;
		default: *p = 0xff; break;
		}
	}
	mend(state, state_len);
	memcpy(field + 9, state + 24, 8);
	mend(manifest, manifest_len);
	write_file(a[0], state, state_len);
	write_file(a[1], manifest, manifest_len);
	return 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **args);
} commands[] = {
	{"pattern", 2, do_pattern}, {"compare", 4, do_compare}, {"blocks", 1, do_blocks},
	{"sum", 1, do_sum},	    {"connect", 3, do_connect}, {"refuse", 2, do_refuse},
	{"echo", 1, do_echo},	    {"drop", 2, do_drop},	{"say", 1, do_say},
	{"lock", 1, do_lock},	    {"mutate", 3, do_mutate},
};

int main(int argc, char **argv)
{
	alarm(60);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name) && argc == commands[i].args + 2)
			return commands[i].run(argv + 2);
	fprintf(stderr, "usage: see the head of tests/tiny/tool.c\n");
	return 2;
}
