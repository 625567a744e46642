/* SPDX-License-Identifier: Apache-2.0
 *
 * probe: what tests/linux/clone.sh and share.sh run inside guests, static and without a library of its own.
 *
 *	probe timer FILE	sleeps, and is signalled by a timer, again and again
 *	probe fpu FILE		computes with every SSE register and the x87 stack, and compares
 *	probe avx FILE		keeps every YMM register full, and compares
 *	probe busy FILE CPU	counts on that CPU alone
 *	probe who FILE		notes host name and random numbers without a pause
 *	probe write DIR FILE	writes files and blocks, each fsynced
 *	probe check DIR		whether all that it wrote is as it was written; prints the last number
 *	probe await FILE N	waits until FILE tells of a round after N; prints the round
 *	probe clock		prints CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME in ms
 *	probe files DIR		whether files in DIR behave as files do; prints "ok", or what does not
 *	probe as UID CMD...	runs a command as that user and group
 *	probe hold FILE		opens FILE and its directory, waits for a line of input, and prints what
 *				they hold then
 *
 * FILE holds "ok ROUND ...", or "bad WHY" for ever. As the guest's first process it is an agent that
 * does all that is wanted, but with IDENTITY what $fake says: nothing (silent), an ERROR (error), the
 * end of the connection (close), or of itself (die).
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "guest/protocol.h"

static int out = -1;

/* Replaces what FILE holds; all texts are of one length, so a reader never sees parts of two. */
static void say(const char *fmt, ...)
{
	char text[64], line[65];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%-63s\n", text);
	if (pwrite(out, line, 64, 0) != 64)
		exit(1);
}

static _Noreturn void bad(const char *why)
{
	say("bad %s", why);
	exit(1);
}

static int64_t now_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- timer --- */

static volatile sig_atomic_t alarms;

static void alarmed(int sig)
{
	(void)sig;
	alarms++;
}

static void timer(void)
{
	const struct timespec nap = {.tv_nsec = 20000000};
	const struct itimerval every = {{0, 30000}, {0, 30000}};
	struct timespec left;
	int seen;

	signal(SIGALRM, alarmed);
	setitimer(ITIMER_REAL, &every, NULL);
	for (unsigned long round = 1;; round++) {
		int64_t before = now_ms(CLOCK_MONOTONIC), took;

		seen = alarms;
		left = nap;
		while (nanosleep(&left, &left) && errno == EINTR)
			;
		took = now_ms(CLOCK_MONOTONIC) - before;
		if (took < 19)
			bad("a sleep of 20 ms ended early");
		if (took > 10000)
			bad("a sleep of 20 ms took 10 s: the clock has jumped");
		while (alarms == seen && now_ms(CLOCK_MONOTONIC) - before < 10000)
			usleep(1000);
		if (alarms == seen)
			bad("no signal from a timer of 30 ms within 10 s");
		say("ok %lu", round);
	}
}

/* --- fpu --- */

#define X(n) "movdqu " #n "*16(%[from]), %%xmm" #n "\n"
#define Y(n) "movdqu %%xmm" #n ", " #n "*16(%[to])\n"
#define ALL(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)

/* Fills all registers, does nothing for a while, and looks whether they are as they were. */
static void keep_registers(unsigned long round)
{
	unsigned char in[256], back[256];
	double pi;
	unsigned int csr = 0x1f80 | (unsigned int)(round & 3) << 13, was, csr_back;
	unsigned long turns = 100000;

	for (unsigned int i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)(round * 31 + i);
	__asm__ volatile("stmxcsr %0" : "=m"(was));
	__asm__ volatile("ldmxcsr %[csr]\n" ALL(X) "fldpi\n"
			 "1: dec %[turns]\n"
			 "jnz 1b\n" ALL(Y) "fstpl %[pi]\n"
			 "stmxcsr %[back]\n"
			 : [turns] "+r"(turns), [pi] "=m"(pi), [back] "=m"(csr_back)
			 : [from] "r"(in), [to] "r"(back), [csr] "m"(csr)
			 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
			   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	__asm__ volatile("ldmxcsr %0" : : "m"(was));
	if (memcmp(in, back, sizeof(in)))
		bad("an SSE register has changed");
	if (csr_back != csr)
		bad("MXCSR has changed");
	if (pi != 3.14159265358979323846)
		bad("the x87 stack has changed");
}

static double compute(void)
{
	double x = 0.4, sum = 0;

	for (int i = 0; i < 5000; i++) {
		x = 3.9 * x * (1 - x); /* chaotic: one wrong bit, and all is different */
		sum += x / (1 + i);
	}
	return sum;
}

static void fpu(void)
{
	double expected = compute();

	for (unsigned long round = 1;; round++) {
		if (compute() != expected)
			bad("another result");
		keep_registers(round);
		say("ok %lu", round);
	}
}

/* --- avx: the same for the halves that SSE does not have --- */

#define FILL(n) "vmovdqu " #n "*32(%[from]), %%ymm" #n "\n"
#define DUMP(n) "vmovdqu %%ymm" #n ", " #n "*32(%[to])\n"

static void avx(void)
{
	for (unsigned long round = 1;; round++) {
		unsigned char in[512], back[512];
		unsigned long turns = 100000;

		for (unsigned int i = 0; i < sizeof(in); i++)
			in[i] = (unsigned char)(round * 31 + i * 7 + i / 32);
		__asm__ volatile(ALL(FILL) "1: dec %[turns]\n"
					   "jnz 1b\n" ALL(DUMP) "vzeroupper\n"
				 : [turns] "+r"(turns)
				 : [from] "r"(in), [to] "r"(back)
				 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
				   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
				   "xmm15");
		if (memcmp(in, back, sizeof(in)))
			bad("a YMM register has changed");
		say("ok %lu", round);
	}
}

/* --- busy, who --- */

static void busy(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bad("no such CPU");
	for (unsigned long round = 1;; round++) {
		for (volatile int i = 0; i < 100000; i++)
			;
		if (sched_getcpu() != cpu)
			bad("on another CPU");
		say("ok %lu", round);
	}
}

/* One line a turn: host name, random number from the system call. Ends after a few with another name
 * than at first, and before memory is full.
 */
static void who(void)
{
	char first[sizeof(((struct utsname *)0)->nodename)] = "";
	struct utsname u;
	int others = 0;
	uint64_t random;
	char line[128];

	for (long size = 0; size < 40 << 20 && others < 50;) {
		int n;

		uname(&u);
		if (!*first)
			strcpy(first, u.nodename);
		others += strcmp(first, u.nodename) != 0;
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			exit(1);
		n = snprintf(line, sizeof(line), "%s %016llx\n", u.nodename,
			     (unsigned long long)random);
		if (write(out, line, (size_t)n) != n)
			exit(1);
		size += n;
	}
}

/* --- write, check --- */

#define BLOCK 4096u
#define FILE_BLOCKS 16u
#define FILES 8u
#define PLACES 64u

static void fill(uint64_t *block, uint64_t round, uint64_t place)
{
	block[0] = round;
	for (unsigned int i = 1; i < BLOCK / 8; i++)
		block[i] = (round << 20 ^ place << 10 ^ i) * 0x9e3779b97f4a7c15u;
}

static void put_file(uint64_t round)
{
	static uint64_t data[FILE_BLOCKS][BLOCK / 8];
	char name[32];
	int fd = open("new", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (unsigned int i = 0; i < FILE_BLOCKS; i++)
		fill(data[i], round, i);
	snprintf(name, sizeof(name), "file%u", (unsigned int)(round % FILES));
	if (fd < 0 || write(fd, data, sizeof(data)) != sizeof(data) || fsync(fd) || close(fd) ||
	    rename("new", name))
		bad(strerror(errno));
}

static void writer(const char *dir)
{
	uint64_t block[BLOCK / 8];
	int fd;

	if (chdir(dir) || (fd = open("blocks", O_RDWR | O_CREAT, 0600)) < 0)
		bad(strerror(errno));
	for (uint64_t round = 1;; round++) {
		fill(block, round, round % PLACES);
		if (pwrite(fd, block, BLOCK, (off_t)(round % PLACES * BLOCK)) != BLOCK || fsync(fd))
			bad(strerror(errno));
		put_file(round);
		say("ok %llu", (unsigned long long)round);
	}
}

/* The round that the block is of, or 0 for one that nothing was written to; exits if it is torn. */
static uint64_t check_block(const uint64_t *seen, uint64_t place, const char *name)
{
	static const uint64_t zero[BLOCK / 8];
	uint64_t block[BLOCK / 8];

	if (!memcmp(seen, zero, BLOCK))
		return 0;
	fill(block, seen[0], place);
	if (memcmp(seen, block, BLOCK)) {
		printf("%s: block %u is not as it was written\n", name, (unsigned int)place);
		exit(1);
	}
	return seen[0];
}

static uint64_t check_one(const char *name, unsigned int blocks, int one_round)
{
	uint64_t seen[BLOCK / 8], last = 0;
	int fd = open(name, O_RDONLY);
	unsigned int i = 0;

	for (; fd >= 0 && i < blocks && read(fd, seen, BLOCK) == BLOCK; i++) {
		uint64_t round = check_block(seen, i, name);

		if (one_round && ((i && round != last) || !round)) {
			printf("%s: blocks of different rounds\n", name);
			exit(1);
		}
		last = round > last ? round : last;
	}
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && one_round && i != blocks) {
		printf("%s: too short\n", name);
		exit(1);
	}
	return last;
}

static int check(const char *dir)
{
	uint64_t last, in_blocks, round;
	char name[32];

	if (chdir(dir))
		return 1;
	in_blocks = last = check_one("blocks", PLACES, 0);
	for (unsigned int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		round = check_one(name, FILE_BLOCKS, 1);
		last = round > last ? round : last;
	}
	if (!last || in_blocks != last) { /* a round is a block, then a file; the last may lack it */
		printf("the last block is of round %llu, the last file of %llu\n",
		       (unsigned long long)in_blocks, (unsigned long long)last);
		return 1;
	}
	printf("%llu\n", (unsigned long long)last);
	return 0;
}

/* --- await, and the rest --- */

static int await(const char *file, unsigned long after)
{
	int64_t deadline = now_ms(CLOCK_MONOTONIC) + 60000;
	char line[65];

	for (;;) {
		int fd = open(file, O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, line, 64);
		unsigned long round = 0;

		if (fd >= 0)
			close(fd);
		line[n < 0 ? 0 : n] = 0;
		if (!strncmp(line, "bad", 3) ||
		    (sscanf(line, "ok %lu", &round) == 1 && round > after) ||
		    now_ms(CLOCK_MONOTONIC) > deadline) {
			if (round > after)
				printf("%lu\n", round);
			else
				printf("%.*s, waiting for more than %lu\n",
				       (int)strcspn(line, "\n"), line, after);
			return round <= after;
		}
		usleep(5000);
	}
}

/* --- an agent that is none --- */

static void answer(int fd, uint16_t type, uint32_t tag, const void *payload, uint32_t length)
{
	struct agent_header h = {AGENT_MAGIC, AGENT_VERSION, type, length, tag};

	if (write(fd, &h, sizeof(h)) != sizeof(h) || write(fd, payload, length) != (ssize_t)length)
		_exit(1);
}

static void refuse(int fd, uint32_t tag)
{
	struct {
		struct agent_error e;
		char text[8];
	} m = {{EPERM, AGENT_REFUSED}, "will not"};

	answer(fd, AGENT_ERROR, tag, &m, sizeof(m));
}

static int fake_agent(void)
{
	struct sockaddr_vm to = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_PORT};
	struct agent_info info = {0};
	const char *how = getenv("fake");
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct agent_header h;
	char drop[4096];

	if (!how || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return 1;
	answer(fd, AGENT_HELLO, 0, &info, sizeof(info));
	while (recv(fd, &h, sizeof(h), MSG_WAITALL) == sizeof(h)) {
		if (h.length > sizeof(drop) ||
		    (h.length && recv(fd, drop, h.length, MSG_WAITALL) != (ssize_t)h.length))
			return 1;
		if (h.type != AGENT_IDENTITY)
			answer(fd, AGENT_OK, h.tag, NULL, 0);
		else if (!strcmp(how, "error"))
			refuse(fd, h.tag);
		else if (!strcmp(how, "close"))
			break;
		else if (!strcmp(how, "die"))
			return 1;
	}
	close(fd);
	for (;;)
		pause();
}

/* --- files of a share --- */

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("line %d: %s: %s\n", __LINE__, #cond, strerror(errno));             \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void check_mmap(void)
{
	int fd = open("map", O_RDWR | O_CREAT | O_EXCL, 0600);
	char *p, text[6] = "";

	CHECK(fd >= 0 && !ftruncate(fd, 100000));
	p = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	for (int i = 0; i < 100000; i++)
		p[i] = (char)i;
	memcpy(p + 70000, "hello", 5);
	CHECK(!msync(p, 100000, MS_SYNC) && !munmap(p, 100000));
	CHECK(pread(fd, text, 5, 70000) == 5 && !strcmp(text, "hello"));
	CHECK(pread(fd, text, 1, 99999) == 1 && text[0] == (char)99999);
	close(fd);
}

static void check_sparse(void)
{
	int fd = open("sparse", O_RDWR | O_CREAT | O_EXCL, 0600), to;
	off_t from = 0, into = 0;
	struct stat st;

	CHECK(fd >= 0 && pwrite(fd, "x", 1, 1 << 30) == 1);
	CHECK(!fstat(fd, &st) && st.st_size == (1 << 30) + 1 && st.st_blocks < 1000);
	CHECK(lseek(fd, 0, SEEK_DATA) > 1000000 && lseek(fd, 0, SEEK_HOLE) == 0);
	CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 30, 1));
	CHECK(!fallocate(fd, 0, 0, 4096) && !ftruncate(fd, 8192) && !fstat(fd, &st));
	CHECK(st.st_size == 8192 && st.st_blocks >= 8);
	to = open("copy", O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(to >= 0 && copy_file_range(fd, &from, to, &into, 4096, 0) == 4096 && from == 4096);
	CHECK(!fstat(to, &st) && st.st_size == 4096 && !syncfs(fd));
	close(to);
	close(fd);
}

static void check_names(void)
{
	int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640), fd2;
	char text[20] = "";
	struct stat a, b;

	CHECK(fd >= 0 && write(fd, "one", 3) == 3 && !link("a", "b"));
	CHECK(!stat("a", &a) && !stat("b", &b) && a.st_ino == b.st_ino && a.st_nlink == 2);
	CHECK(!rename("a", "a") && !rename("a", "c") && access("a", F_OK));
	CHECK(open("c", O_RDWR | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
	CHECK(!unlink("b") && !unlink("c"));
	CHECK(!fstat(fd, &a) && a.st_nlink == 0); /* gone, and in use */
	CHECK(pwrite(fd, "two", 3, 3) == 3 && pread(fd, text, 19, 0) == 6);
	CHECK(!strcmp(text, "onetwo") && !fsync(fd));
	close(fd);
	CHECK(!symlink("nowhere/at/all", "s") && readlink("s", text, 20) == 14);
	CHECK(open("s", O_RDONLY) < 0 && errno == ENOENT);
	CHECK(!lstat("s", &a) && S_ISLNK(a.st_mode) && !unlink("s"));
	CHECK(!mkfifo("p", 0600) && (fd = open("p", O_RDWR)) >= 0 && write(fd, "x", 1) == 1);
	CHECK(!close(fd) && !unlink("p")); /* the guest's own fifo */
	CHECK(mknod("n", S_IFCHR | 0600, 0x103) && errno == EPERM);
	CHECK(!mkdir("d", 0700) && !mkdir("d/e", 0700) && rmdir("d") && errno == ENOTEMPTY);
	CHECK(rename("d", "d/e/f") && errno == EINVAL && !rmdir("d/e") && !rmdir("d"));
	fd = open("app", O_WRONLY | O_CREAT | O_APPEND, 0600);
	fd2 = open("app", O_WRONLY | O_APPEND);
	CHECK(write(fd, "1", 1) == 1 && write(fd2, "2", 1) == 1 && write(fd, "3", 1) == 1);
	close(fd2);
	CHECK((fd2 = open("app", O_RDONLY)) >= 0 && read(fd2, text, 20) == 3 && !memcmp(text, "123", 3));
	CHECK(!flock(fd, LOCK_EX | LOCK_NB) && flock(fd2, LOCK_EX | LOCK_NB) && errno == EAGAIN);
	CHECK((fd = open("app", O_WRONLY | O_TRUNC)) >= 0 && !fstat(fd, &a) && a.st_size == 0);
}

static void check_attributes(void)
{
	const uint32_t cap[5] = {0x02000001, 1 << 10, 0, 0, 0}; /* net_bind_service, effective */
	struct timespec ts[2] = {{1000, 1}, {2000, 2}};
	int fd = open("x", O_RDWR | O_CREAT | O_EXCL, 0600);
	uint8_t back[100];
	struct stat st;

	CHECK(fd >= 0 && !futimens(fd, ts) && !fstat(fd, &st));
	CHECK(st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 2);
	CHECK(!fchmod(fd, 04751) && !fchown(fd, 1234, 2345) && !fchmod(fd, 04751));
	CHECK(!fstat(fd, &st) && st.st_uid == 1234 && st.st_gid == 2345 && (st.st_mode & 07777) == 04751);
	CHECK(!setxattr("x", "security.capability", cap, 20, 0));
	CHECK(getxattr("x", "security.capability", back, 100) == 20 && !memcmp(back, cap, 20));
	CHECK(listxattr("x", (char *)back, 100) == 20 && !strcmp((char *)back, "security.capability"));
	CHECK(!removexattr("x", "security.capability") && listxattr("x", NULL, 0) == 0);
	CHECK(setxattr("x", "trusted.x", "y", 1, 0) && errno == EOPNOTSUPP);
	if (setxattr("x", "user.x", "value", 5, 0)) { /* tmpfs of 6.1 has none */
		CHECK(errno == EOPNOTSUPP);
		return;
	}
	CHECK(getxattr("x", "user.x", back, 100) == 5 && getxattr("x", "user.x", back, 4) == -1);
	CHECK(errno == ERANGE && setxattr("x", "user.x", "v", 1, XATTR_CREATE) && errno == EEXIST);
}

static int files(const char *dir)
{
	CHECK(!chdir(dir));
	check_mmap();
	check_sparse();
	check_names();
	check_attributes();
	puts("ok");
	return 0;
}

static int as(uid_t uid, char **argv)
{
	CHECK(!setregid(uid, uid) && !setreuid(uid, uid));
	execvp(argv[0], argv);
	return 127;
}

static int hold(char *file)
{
	int fd = open(file, O_RDONLY), n = 0;
	DIR *d = opendir(dirname(file));
	char text[100];
	ssize_t len;

	CHECK(fd >= 0 && d && readdir(d));
	CHECK(puts("held") >= 0 && !fflush(stdout));
	while (read(0, text, 1) == 1 && *text != '\n')
		;
	while (readdir(d))
		n++;
	len = pread(fd, text, sizeof(text) - 1, 0);
	CHECK(len >= 0);
	text[len] = 0;
	printf("%d %s\n", n, text);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
	const char *file = !strcmp(what, "write") && argc > 3 ? argv[3] : arg;

	if (getpid() == 1)
		return fake_agent();
	if (!strcmp(what, "clock")) {
		printf("%lld %lld %lld\n", (long long)now_ms(CLOCK_MONOTONIC),
		       (long long)now_ms(CLOCK_BOOTTIME), (long long)now_ms(CLOCK_REALTIME));
		return 0;
	}
	if (!strcmp(what, "check"))
		return check(arg);
	if (!strcmp(what, "files"))
		return files(arg);
	if (!strcmp(what, "as") && argc > 3)
		return as((uid_t)atoi(arg), argv + 3);
	if (!strcmp(what, "hold") && argc > 2)
		return hold(argv[2]);
	if (!strcmp(what, "await") && argc > 3)
		return await(arg, strtoul(argv[3], NULL, 10));
	out = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (out < 0)
		return 2;
	if (!strcmp(what, "timer"))
		timer();
	else if (!strcmp(what, "fpu"))
		fpu();
	else if (!strcmp(what, "avx"))
		avx();
	else if (!strcmp(what, "busy") && argc > 3)
		busy(atoi(argv[3]));
	else if (!strcmp(what, "who"))
		who();
	else if (!strcmp(what, "write") && argc > 3)
		writer(arg);
	return 2;
}
