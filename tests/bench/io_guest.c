/* SPDX-License-Identifier: Apache-2.0
 *
 * io_guest: both ends of tests/bench/io. In a guest it is the only process; on the host it answers.
 *
 * usage: io_guest unix PATH | vsock PORT | tcp ADDRESS | udp ADDRESS | port PATH	(on the host: serves
 * what the guest asks)
 *
 * In the guest, as its first process, it takes a command from each line of its standard input, does
 * it COUNT times and answers "= NANOSECONDS", of the guest's clock. In the lab with --icount that is
 * the number of instructions that guest, monitor and host kernel executed meanwhile.
 *
 *	blk r|w BYTES DEPTH COUNT	DEPTH direct requests of so many bytes at once on /dev/vda;
 *					at random places for 4096 bytes, else one after the other
 *	rtt|send|recv vsock|tcp COUNT	a byte there and back; CHUNK bytes each there, or here
 *	send|recv udp COUNT		DATAGRAM bytes each there, or here; BURST of them at a time, so
 *					that none is lost
 *	send|recv port COUNT		the same over the first port of a virtio-serial device
 *	fs COUNT			opens, reads and closes COUNT files of the share, mounted for it
 *	address A			gives its network the address A/24
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>

#define HOST	  "10.1.0.1" /* of its network, as seen from the guest */
#define PORT	  7000
#define CHUNK	  (64u << 10)
#define DATAGRAM  1472u
#define BURST	  32u
#define DEPTH_MAX 32u
#define BLOCK_MAX (1u << 20)

static void fail(const char *what)
{
	printf("! %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

#define TRY(call) ((call) < 0 ? fail(#call) : (void)0)

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- streams --- */

struct wish {
	char what; /* 'r'tt, 's'end, recei'v'e: seen from the guest */
	char pad[7];
	uint64_t bytes;
};

static void all(int fd, char *p, uint64_t len, ssize_t (*io)(int, char *, size_t))
{
	while (len) {
		ssize_t n = io(fd, p, len < CHUNK ? len : CHUNK);

		if (n <= 0)
			fail("stream");
		len -= (uint64_t)n;
	}
}

static ssize_t do_read(int fd, char *p, size_t len)
{
	return read(fd, p, len);
}

static ssize_t do_write(int fd, char *p, size_t len)
{
	return write(fd, p, len);
}

/* The host's side: does what is wished. Returns false at the end. */
static bool grant(int fd)
{
	static char chunk[CHUNK];
	struct wish w;

	if (recv(fd, &w, sizeof(w), MSG_WAITALL) != sizeof(w))
		return false;
	if (w.what == 'v')
		all(fd, chunk, w.bytes, do_write);
	if (w.what == 's') {
		all(fd, chunk, w.bytes, do_read);
		all(fd, chunk, 1, do_write);
	}
	return true;
}

/* Of a connection. */
static void answer(int fd)
{
	char byte;

	if (!grant(fd))
		return;
	while (read(fd, &byte, 1) > 0)
		all(fd, &byte, 1, do_write);
}

/* A socket of one of the kinds, bound or connected to where the bench is. */
static int make(const char *kind, const char *where, bool host)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK,
				 .svm_cid = host ? VMADDR_CID_ANY : VMADDR_CID_HOST,
				 .svm_port = PORT};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr *sa = (struct sockaddr *)&un;
	socklen_t len = sizeof(un);
	bool udp = !strcmp(kind, "udp");
	int fd, one = 1;

	if (!strcmp(kind, "unix")) {
		strncpy(un.sun_path, where, sizeof(un.sun_path) - 1);
	} else if (!strcmp(kind, "vsock")) {
		sa = (struct sockaddr *)&vm;
		len = sizeof(vm);
	} else {
		in.sin_addr.s_addr = inet_addr(where);
		sa = (struct sockaddr *)&in;
		len = sizeof(in);
	}
	TRY(fd = socket(sa->sa_family, udp ? SOCK_DGRAM : SOCK_STREAM, 0));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa == (struct sockaddr *)&in && !udp)
		TRY(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	TRY(host ? bind(fd, sa, len) : connect(fd, sa, len));
	if (host && !udp)
		TRY(listen(fd, 8));
	return fd;
}

/* A datagram's first byte is 'm' if more of its burst follow, 'l' for the last, which is answered, and
 * 'r' for who wants to receive a burst.
 */
static void serve_datagrams(int fd)
{
	static char data[DATAGRAM];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);

	while (recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len) > 0) {
		unsigned int n = *data == 'r' ? BURST : *data == 'l';

		for (unsigned int i = 0; i < n; i++)
			TRY(sendto(fd, data, *data == 'r' ? sizeof(data) : 1, 0,
				   (struct sockaddr *)&from, len));
	}
}

static void serve(const char *kind, const char *where)
{
	bool port = !strcmp(kind, "port"); /* the monitor listens, and there is one connection */
	int listener = make(port ? "unix" : kind, where, !port);

	puts("listening");
	fflush(stdout);
	if (!strcmp(kind, "udp"))
		serve_datagrams(listener);
	while (port)
		if (!grant(listener))
			return;
	for (;;) {
		int fd, one = 1;

		TRY(fd = accept(listener, NULL, NULL));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		answer(fd);
		close(fd);
	}
}

/* --- in the guest --- */

static uint64_t stream(const char *what, const char *kind, unsigned int count)
{
	struct wish w = {.what = !strcmp(what, "recv") ? 'v' : *what,
			 .bytes = (uint64_t)count * CHUNK};
	static char chunk[CHUNK];
	uint64_t start;
	int fd;

	if (strcmp(kind, "port"))
		fd = make(kind, HOST, false);
	else
		TRY(fd = open("/dev/vport0p1", O_RDWR));
	all(fd, (char *)&w, sizeof(w), do_write);
	if (w.what == 'r') /* the other side is there, and awake */
		TRY(write(fd, chunk, 1) == 1 && read(fd, chunk, 1) == 1 ? 0 : -1);
	start = now();
	for (unsigned int i = 0; i < count && w.what == 'r'; i++)
		TRY(write(fd, chunk, 1) == 1 && read(fd, chunk, 1) == 1 ? 0 : -1);
	if (w.what == 'v')
		all(fd, chunk, w.bytes, do_read);
	if (w.what == 's') {
		all(fd, chunk, w.bytes, do_write);
		all(fd, chunk, 1, do_read);
	}
	start = now() - start;
	close(fd);
	return start;
}

/* One that is lost is missed after a second. */
static uint64_t datagrams(bool send, unsigned int count)
{
	static char data[DATAGRAM];
	int fd = make("udp", HOST, false);
	struct timeval patience = {.tv_sec = 1};
	uint64_t start;

	TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)));
	*data = 'l'; /* the other side is there, and known */
	TRY(write(fd, data, 1) == 1 && read(fd, data + 1, 1) == 1 ? 0 : -1);
	start = now();
	for (unsigned int i = 1; i <= count; i++) {
		bool last = i % BURST == 0 || i == count;

		if (send) {
			*data = last ? 'l' : 'm';
			TRY(write(fd, data, sizeof(data)));
			if (last)
				TRY(read(fd, data, 1));
			continue;
		}
		if (i % BURST == 1) {
			*data = 'r';
			TRY(write(fd, data, 1));
		}
		TRY(read(fd, data, sizeof(data)));
	}
	start = now() - start;
	close(fd);
	return start;
}

static uint64_t blk(bool write, unsigned int bytes, unsigned int depth, unsigned int count)
{
	static char buffer[DEPTH_MAX * 4096 > BLOCK_MAX ? DEPTH_MAX * 4096 : BLOCK_MAX]
		__attribute__((aligned(4096)));
	unsigned int sent = 0, done = 0, seed = 1;
	struct iocb cb[DEPTH_MAX], *list[DEPTH_MAX];
	struct io_event event[DEPTH_MAX];
	aio_context_t ctx = 0;
	uint64_t size, start;
	int fd;

	if (!bytes || !depth || depth > DEPTH_MAX || bytes * depth > sizeof(buffer))
		fail("blk");
	TRY(fd = open("/dev/vda", O_RDWR | O_DIRECT));
	TRY(ioctl(fd, BLKGETSIZE64, &size));
	TRY(syscall(SYS_io_setup, DEPTH_MAX, &ctx));
	for (unsigned int i = 0; i < depth; i++) {
		cb[i] = (struct iocb){.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				      .aio_fildes = (uint32_t)fd,
				      .aio_buf = (uintptr_t)buffer + i * (uintptr_t)bytes,
				      .aio_nbytes = bytes,
				      .aio_data = i};
		list[i] = &cb[i];
	}
	start = now();
	for (unsigned int ready = depth; done < count;) {
		long n = 0;

		if (ready > count - sent)
			ready = count - sent;
		for (unsigned int i = 0; i < ready; i++, sent++) {
			seed = seed * 1103515245 + 12345;
			list[i]->aio_offset =
				(bytes == 4096 ? seed >> 8 : sent) % (size / bytes) * bytes;
		}
		while (n < (long)ready) {
			long r = syscall(SYS_io_submit, ctx, ready - n, list + n);

			TRY(r);
			n += r;
		}
		TRY(n = syscall(SYS_io_getevents, ctx, 1L, (long)depth, event, NULL));
		for (long i = 0; i < n; i++) {
			if (event[i].res != (int64_t)bytes)
				fail("a request");
			list[i] = &cb[event[i].data];
		}
		ready = (unsigned int)n;
		done += ready;
	}
	start = now() - start;
	syscall(SYS_io_destroy, ctx);
	close(fd);
	return start;
}

static uint64_t fs(unsigned int count)
{
	static char data[BLOCK_MAX];
	uint64_t start;

	TRY(mount("share", "/mnt", "virtiofs", 0, NULL));
	start = now();
	for (unsigned int i = 0; i < count; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "/mnt/f%u", i);
		TRY(fd = open(name, O_RDONLY));
		while (read(fd, data, 16384) > 0)
			;
		close(fd);
	}
	start = now() - start;
	TRY(umount("/mnt"));
	return start;
}

static void set_address(const char *address)
{
	struct ifreq r = {.ifr_name = "eth0"};
	struct sockaddr_in *in = (struct sockaddr_in *)&r.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = inet_addr(address);
	TRY(ioctl(fd, SIOCSIFADDR, &r));
	in->sin_addr.s_addr = htonl(0xffffff00);
	TRY(ioctl(fd, SIOCSIFNETMASK, &r));
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	TRY(ioctl(fd, SIOCSIFFLAGS, &r));
	close(fd);
}

static int module(const struct dirent *entry)
{
	return *entry->d_name != '.';
}

/* What a kernel that is not ours has as files, in the order of their names. */
static void load_modules(void)
{
	struct dirent **names;
	int n = scandir("/modules", &names, module, alphasort);

	for (int i = 0; i < n; i++) {
		char path[sizeof("/modules/") + sizeof(names[i]->d_name)];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		TRY(fd = open(path, O_RDONLY | O_CLOEXEC));
		TRY(syscall(SYS_finit_module, fd, "", 0));
		close(fd);
	}
}

static void obey(char *line)
{
	char a[16] = "", b[16] = "";
	unsigned int x = 0, y = 0, n = 0;
	uint64_t ns = 0;

	if (sscanf(line, "blk %1s %u %u %u", a, &x, &y, &n) == 4)
		ns = blk(*a == 'w', x, y, n);
	else if (sscanf(line, "fs %u", &n) == 1)
		ns = fs(n);
	else if (sscanf(line, "address %15s", a) == 1)
		set_address(a);
	else if (sscanf(line, "%15s udp %u", a, &n) == 2)
		ns = datagrams(*a == 's', n);
	else if (sscanf(line, "%15s %15s %u", a, b, &n) == 3)
		ns = stream(a, b, n);
	printf("= %llu\n", (unsigned long long)ns);
	fflush(stdout);
}

static int guest(void)
{
	struct termios t;
	char line[128];

	mkdir("/mnt", 0700);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	tcgetattr(0, &t);
	t.c_lflag &= ~(tcflag_t)ECHO;
	t.c_oflag &= ~(tcflag_t)OPOST;
	tcsetattr(0, TCSANOW, &t);
	puts("= 0");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	return 0;
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		return guest();
	if (argc == 3)
		serve(argv[1], argv[2]);
	return 2;
}
