/* SPDX-License-Identifier: Apache-2.0
 *
 * The request for a VM of a pool, and who makes it.
 */
#include "vmm/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/protocol.h"
#include "vmm/util.h"

#define MAGIC	0x6c6f6f70u /* "pool" */
#define VERSION 1u

enum { HELD = 1, AGENT = 2, SESSION = 4, FLAGS = 7 };

/* Texts follow, each with its NUL: the id, the words, and a disk's as --disk has it, for each. */
struct head {
	uint32_t magic, version;
	uint32_t flags, disks;
};

/* --- as bytes --- */

/* False: there is no room. */
static bool put(uint8_t *buf, size_t *len, const char *text)
{
	size_t n = strlen(text ? text : "") + 1;

	if (n > POOL_REQUEST_MAX - *len)
		return false;
	memcpy(buf + *len, text ? text : "", n);
	*len += n;
	return true;
}

/* As the monitor is to know it: by what a snapshot finds it again, if that can be said. */
static bool put_disk(uint8_t *buf, size_t *len, const struct disk_config *d)
{
	char path[PATH_MAX] = "", text[PATH_MAX + 128];
	int n;

	if (d->queues || d->limits.bps || d->limits.iops)
		return false;
	if (*d->path == '/')
		snprintf(path, sizeof(path), "%s", d->path);
	else if (!realpath(d->path, path))
		return false;
	n = snprintf(text, sizeof(text), "%s%s%s%s%s%s%s", strchr(path, ',') ? "given" : path,
		     d->read_only ? ",ro" : "", d->layered ? ",cow" : "", d->direct ? ",direct=on" : "",
		     d->threads ? ",aio=threads" : "", *d->serial ? ",serial=" : "", d->serial);
	return n < (int)sizeof(text) && put(buf, len, text);
}

ssize_t pool_write_request(const struct pool_request *rq, uint8_t buf[POOL_REQUEST_MAX])
{
	struct head h = {.magic = MAGIC,
			 .version = VERSION,
			 .flags = (rq->held ? HELD : 0) | (rq->agent ? AGENT : 0) | (rq->session ? SESSION : 0),
			 .disks = rq->disks};
	size_t len = sizeof(h);
	bool fits = put(buf, &len, rq->id) && put(buf, &len, rq->words);

	memcpy(buf, &h, sizeof(h));
	for (unsigned int i = 0; i < rq->disks && fits; i++)
		fits = put_disk(buf, &len, &rq->disk[i]);
	return fits ? (ssize_t)len : -E2BIG;
}

/* The next text; NULL: there is none that ends. */
static char *get(uint8_t *buf, size_t len, size_t *at)
{
	char *text = (char *)buf + *at, *end = memchr(text, 0, len - *at);

	*at = end ? (size_t)(end + 1 - (char *)buf) : len;
	return end ? text : NULL;
}

static int invalid(const char *what, struct err *e)
{
	return err_set(e, EINVAL, "a request for a VM of the pool %s", what);
}

int pool_read_request(struct pool_request *rq, uint8_t *buf, size_t len, unsigned int fds, struct err *e)
{
	size_t at = sizeof(struct head);
	struct head h;
	int r = 0;

	*rq = (struct pool_request){0};
	if (len < sizeof(h))
		return invalid("is too short", e);
	memcpy(&h, buf, sizeof(h));
	if (h.magic != MAGIC || h.version != VERSION || h.flags & ~(uint32_t)FLAGS)
		return invalid("is none, or another version's", e);
	if (h.disks > POOL_DISKS || h.disks != fds)
		return invalid("has not as many descriptors as disks", e);
	rq->held = h.flags & HELD;
	rq->agent = h.flags & AGENT;
	rq->session = h.flags & SESSION;
	rq->disks = h.disks;
	rq->id = get(buf, len, &at);
	rq->words = get(buf, len, &at);
	if (!rq->id || !rq->words || strlen(rq->words) > AGENT_CMDLINE_MAX)
		return invalid("is cut", e);
	for (unsigned int i = 0; i < rq->disks && !r; i++) {
		char *text = get(buf, len, &at);

		r = text ? disk_parse(&rq->disk[i], text, e) : invalid("is cut", e);
		if (!r && (rq->disk[i].queues || !strcmp(rq->disk[i].path, DISK_PLACEHOLDER)))
			r = invalid("has a disk that is none", e);
	}
	if (!r && at != len)
		r = invalid("goes on behind its end", e);
	rq->id = rq->id && *rq->id ? rq->id : NULL;
	rq->words = rq->words && *rq->words ? rq->words : NULL;
	return r;
}

/* --- who takes one --- */

bool pool_fits(const struct machine_config *c)
{
	const struct cgroup_config none = {0};

	return !c->nets && !c->share_fills && !c->confine.none && !c->confine.as_user && c->fills <= POOL_DISKS &&
	       c->cgroup.path == none.path && c->cgroup.cpu == none.cpu && c->cgroup.memory == none.memory &&
	       c->cgroup.pids == none.pids && c->cgroup.io == none.io;
}

int pool_name(const char *path, char name[POOL_NAME], struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return err_sys(e, "snapshot %s", path);
	snprintf(name, POOL_NAME, "%" PRIx64 "-%" PRIx64, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
	return 0;
}

/* The name of the pool's socket in the directory of all VMs. */
#define SOCKET_NAME (sizeof(RUNDIR_POOL) + POOL_NAME + sizeof(POOL_SOCKET))

static int socket_name(const char *path, char name[SOCKET_NAME])
{
	size_t len = strlen(RUNDIR_POOL);
	struct err ignored;
	int r;

	memcpy(name, RUNDIR_POOL, len);
	r = pool_name(path, name + len, &ignored);
	if (!r)
		strcat(name, "/" POOL_SOCKET);
	return r;
}

static void close_all(const int *fd, unsigned int n)
{
	while (n > 0)
		close(fd[--n]);
}

/* As blk_file_open. Returns 0 or -errno. */
static int open_disks(const struct pool_request *rq, int fd[POOL_DISKS])
{
	for (unsigned int i = 0; i < rq->disks; i++) {
		const struct disk_config *d = &rq->disk[i];

		fd[i] = open(d->path, (d->read_only || d->layered ? O_RDONLY : O_RDWR | O_EXCL) | O_CLOEXEC |
					      O_NONBLOCK);
		if (fd[i] < 0) {
			int r = -errno;

			close_all(fd, i);
			return r;
		}
	}
	return 0;
}

/* All is there before the connection is made: from then on a shell waits. Returns the connection or -errno. */
static int ask(int root, const char *name, const struct pool_request *rq)
{
	uint8_t buf[POOL_REQUEST_MAX];
	ssize_t len = pool_write_request(rq, buf);
	int fd[POOL_DISKS], conn, r;

	if (len < 0)
		return (int)len;
	r = open_disks(rq, fd);
	if (r)
		return r;
	conn = sock_connect(root, name, 1);
	r = conn < 0 ? conn : sock_send(conn, buf, (size_t)len, fd, rq->disks);
	close_all(fd, rq->disks);
	if (r && conn >= 0)
		close(conn);
	return r ? r : conn;
}

/* The answer is the id, in one piece. */
static int await_answer(int conn, char id[RUNDIR_ID_MAX + 1], bool *tell)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	char text[RUNDIR_ID_MAX + 2] = "";
	ssize_t n;

	if (poll(&p, 1, LAUNCH_TIMEOUT_MS) <= 0)
		return -ETIMEDOUT;
	n = recv(conn, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -ECONNRESET;
	*tell = text[n - 1] == POOL_TELL;
	text[n - *tell] = 0;
	if (!rundir_id_valid(text))
		return -EPROTO;
	memcpy(id, text, RUNDIR_ID_MAX + 1);
	return 0;
}

/* Whether there may be one. A name that is taken is not worth a shell. */
static int look(int root, const char *path, const char *id, char name[SOCKET_NAME])
{
	int r = socket_name(path, name);

	if (!r && faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW))
		r = -errno;
	if (!r && id && !faccessat(root, id, F_OK, AT_SYMLINK_NOFOLLOW))
		r = -EEXIST;
	return r;
}

int pool_take(const char *path, const struct pool_request *rq, struct rundir *vm, bool *tell)
{
	char name[SOCKET_NAME];
	struct err ignored;
	bool ignored_too;
	int conn = -1, r;

	*vm = (struct rundir){.root = rundir_open_all(&ignored), .dir = -1, .lock = -1, .keeper = -1};
	if (vm->root < 0)
		return vm->root;
	r = look(vm->root, path, rq->id, name);
	if (!r) {
		conn = ask(vm->root, name, rq);
		r = conn < 0 ? conn : await_answer(conn, vm->id, tell ? tell : &ignored_too);
	}
	if (!r) {
		vm->dir = openat(vm->root, vm->id, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		r = vm->dir < 0 ? -errno : 0;
	}
	if (!r)
		return conn;
	if (conn >= 0)
		close(conn);
	close(vm->root);
	return r;
}

void pool_end(int conn)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	char byte;

	shutdown(conn, SHUT_WR);
	while (poll(&p, 1, -1) < 0 || recv(conn, &byte, 1, 0) > 0)
		;
	close(conn);
}
