/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest that mounts a shared directory: FUSE requests, whose numbers of files and handles are mostly
 * those that the server gave, in buffers exactly as long as they say.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fuse_server.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/tree.h"

#define REQUESTS 100u
#define FDS	 40u
#define KNOWN	 16u
#define ROOM	 4200u /* for an answer */
#define FILE_MAX (1u << 20)

static void must(bool good)
{
	if (!good)
		abort();
}

/* --- the directory, and what is beside it --- */

static char base[256];

static void make_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static int make_tree(void)
{
	const char *tmp = getenv("TMPDIR");
	int dir;

	snprintf(base, sizeof(base), "%s/uvm-fuzz.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	must(mkdtemp(base));
	dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(dir >= 0 && !mkdirat(dir, "share", 0755) && !mkdirat(dir, "share/dir", 0755));
	make_file(dir, "secret", "secret");
	make_file(dir, "share/file", "content");
	must(!symlinkat("../secret", dir, "share/link"));
	return dir;
}

/* Whatever the guest did, it did inside. */
static void check_and_remove(int dir)
{
	char text[16];
	struct stat st;
	int fd = openat(dir, "secret", O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && !fstat(fd, &st) && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
	must(read(fd, text, sizeof(text)) == 6 && !memcmp(text, "secret", 6));
	close(fd);
	must(!fstatat(dir, ".", &st, 0) && st.st_nlink == 3); /* no directory came to it */
	must(!fstatat(dir, "share", &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode));
	must(!tree_remove(AT_FDCWD, base));
	close(dir);
}

/* --- requests --- */

/* Lengths of the fixed parts, and how many names follow. Everything else comes without either. */
static const struct shape {
	uint8_t arg, names;
	bool handle; /* begins with one */
} shapes[FUSE_SYNCFS + 1] = {
	[FUSE_INIT] = {16, 0, false},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in), 0, false},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in) + 16, 0, false},
	[FUSE_LOOKUP] = {0, 1, false},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0, false},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0, false},
	[FUSE_SYMLINK] = {0, 2, false},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1, false},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1, false},
	[FUSE_UNLINK] = {0, 1, false},
	[FUSE_RMDIR] = {0, 1, false},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2, false},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2, false},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1, false},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0, false},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0, true},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, true},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0, true},
	[FUSE_SETXATTR] = {FUSE_COMPAT_SETXATTR_IN_SIZE, 1, false},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1, false},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0, false},
	[FUSE_REMOVEXATTR] = {0, 1, false},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0, false},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0, true},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0, true},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0, true},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in), 0, false},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1, false},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0, true},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0, true},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in), 0, true},
};

/* Numbers that the server gave, the last ones; the root's is always there. */
struct known {
	uint64_t number[KNOWN];
	unsigned int n;
};

struct client {
	struct fs_backend *server;
	struct known nodes, handles;
};

static void learn(struct known *k, const void *at)
{
	memcpy(&k->number[1 + k->n++ % (KNOWN - 1)], at, sizeof(k->number[0]));
}

static uint64_t pick(struct known *k, struct fuzz_input *in)
{
	uint64_t v = fuzz_take(in, 1);

	return v < 0xf8 ? k->number[v % KNOWN] : fuzz_take(in, 8);
}

static size_t put_name(struct fuzz_input *in, uint8_t *to)
{
	static const char *const names[] = {"file", "dir", "link", "new", "user.a", "", ".", "..", "../secret", "a/b"};
	uint64_t v = fuzz_take(in, 1);
	size_t len = 0;

	if (v < 0xf0) {
		strcpy((char *)to, names[v % ARRAY_SIZE(names)]);
		return strlen((char *)to) + 1;
	}
	for (size_t n = v == 0xff ? 300 : v - 0xf0; len < n; len++)
		to[len] = v == 0xff ? 'x' : (uint8_t)fuzz_take(in, 1);
	to[len++] = 0;
	return len;
}

static void take_answer(struct client *c, uint32_t opcode, const uint8_t *answer, int64_t len)
{
	struct fuse_out_header h;

	if (len < (int64_t)sizeof(h))
		return;
	memcpy(&h, answer, sizeof(h));
	must(h.len == len && h.error <= 0 && h.error > -4096 && (!h.error || len == sizeof(h)));
	answer += sizeof(h);
	len -= (int64_t)sizeof(h);
	if ((opcode == FUSE_OPEN || opcode == FUSE_OPENDIR) && len >= 8)
		learn(&c->handles, answer);
	else if ((opcode == FUSE_LOOKUP || opcode == FUSE_MKDIR || opcode == FUSE_MKNOD ||
		  opcode == FUSE_SYMLINK || opcode == FUSE_LINK || opcode == FUSE_CREATE) &&
		 len >= (int64_t)sizeof(struct fuse_entry_out))
		learn(&c->nodes, answer);
	if (opcode == FUSE_CREATE && len > (int64_t)sizeof(struct fuse_entry_out))
		learn(&c->handles, answer + sizeof(struct fuse_entry_out));
}

static void send(struct client *c, uint32_t opcode, const uint8_t *bytes, size_t len, size_t room)
{
	/* Copies of their lengths, so that a step beyond is seen; in two pieces where that goes. */
	uint8_t *in = malloc(len ? len : 1), *out = malloc(room ? room : 1);
	size_t cut = MIN(len, 20u);
	struct iovec iov[] = {{in, cut}, {in + cut, len - cut}, {out, room}};
	unsigned int ins = len > cut ? 2 : 1;
	int64_t r;

	must(in && out);
	memcpy(in, bytes, len);
	r = c->server->serve(c->server, &(struct fs_request){.in = iov,
							     .ins = ins,
							     .out = iov + 2,
							     .outs = room ? 1 : 0,
							     .in_len = len,
							     .out_len = room});
	must(r <= (int64_t)room);
	take_answer(c, opcode, out, r);
	free(in);
	free(out);
}

static void one_request(struct client *c, struct fuzz_input *in)
{
	static const struct shape none;
	static uint8_t bytes[2048];
	uint32_t opcode = (uint32_t)fuzz_take(in, 1);
	const struct shape *s = opcode < ARRAY_SIZE(shapes) ? &shapes[opcode] : &none;
	struct fuse_in_header h = {.opcode = opcode, .unique = 7, .nodeid = pick(&c->nodes, in)};
	size_t len = sizeof(h), room = fuzz_take(in, 1);
	unsigned int more;

	/* They take long and say nothing. */
	if (opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR || opcode == FUSE_SYNCFS)
		return;
	h.uid = h.gid = (uint32_t)room % 3;
	for (unsigned int i = 0; i < s->arg; i++)
		bytes[len + i] = (uint8_t)fuzz_take(in, 1);
	if (s->handle) {
		uint64_t handle = pick(&c->handles, in);

		memcpy(bytes + len, &handle, sizeof(handle));
	}
	len += s->arg;
	for (unsigned int i = 0; i < s->names; i++)
		len += put_name(in, bytes + len);
	more = (unsigned int)fuzz_take(in, 1) % 64;
	for (unsigned int i = 0; i < more; i++)
		bytes[len++] = (uint8_t)fuzz_take(in, 1);
	if (room == 0xff) /* lengths that are not so */
		len = fuzz_take(in, 1) % (len + 1);
	h.len = room == 0xfe ? (uint32_t)fuzz_take(in, 4) : (uint32_t)len;
	memcpy(bytes, &h, sizeof(h));
	send(c, opcode, bytes, len, room < 0x80 ? ROOM : room - 0x80);
}

void fuzz_share(const uint8_t *data, size_t len)
{
	static const uint32_t session[] = {56, FUSE_INIT, 7, 0, 1, 0, 0, 0, 0, 0, 7, 36, 1 << 20, ~0u};
	struct fuzz_input in = {data, data + len};
	struct rlimit before, small;
	struct client c = {.nodes.number = {FUSE_ROOT_ID}};
	struct fuse_server *server;
	mode_t mask = umask(0);
	int dir = make_tree();
	char path[sizeof(base) + 8];
	unsigned int how = (unsigned int)fuzz_take(&in, 1);
	struct err e;

	/* Files of any size cost nothing but what is written into them; allocated ones do. */
	must(!getrlimit(RLIMIT_FSIZE, &before));
	small = before;
	small.rlim_cur = FILE_MAX;
	signal(SIGXFSZ, SIG_IGN);
	must(!setrlimit(RLIMIT_FSIZE, &small));
	snprintf(path, sizeof(path), "%s/share", base);
	must(!fuse_server_open(&server, path, how % 4 == 3, how % 3, FDS, &e));
	c.server = fuse_server_backend(server);
	if (how < 0xf0)
		send(&c, FUSE_INIT, (const uint8_t *)session, sizeof(session), ROOM);
	for (unsigned int i = 0; i < REQUESTS && in.at < in.end; i++)
		one_request(&c, &in);
	fuse_server_close(server);
	must(!setrlimit(RLIMIT_FSIZE, &before));
	umask(mask);
	check_and_remove(dir);
}
