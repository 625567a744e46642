/* SPDX-License-Identifier: Apache-2.0
 *
 * order: speaks the agent's protocol about containers, word by word, for tests/linux/container.sh.
 *
 * usage: order VM create NAME [WORD...] -- COMMAND...	a container, to its end
 *        order VM exec [WORD...] -- COMMAND...		a process, in=NAME: in that one
 *        order VM start|delete|pause|resume|wait NAME
 *        order VM waitkey N				for exec key=N keep
 *        order VM kill NAME SIGNO [all]
 *        order VM update NAME cgroup=FILE=VALUE...
 *        order VM mount NAME mount=...
 *        order VM unmount NAME PATH
 *        order VM set HOSTNAME
 *        order VM list|stats|processes|dump [NAME]
 *        order VM fuzz SEED COUNT [WORD...] -- COMMAND...	damaged CREATEs
 *        order VM many COUNT AT-ONCE [WORD...] -- COMMAND...	so many execs, without streams
 *
 * Exits as the command does, 128 + n for signal n; 127 or 126 when it could not be run, 1 when the
 * agent refused, with its text on standard error, 2 for what no agent says.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "guest/protocol.h"

#define STREAMS_ALL (1u << AGENT_STDIN | 1u << AGENT_STDOUT | 1u << AGENT_STDERR)

static const char *vm;

struct message {
	size_t n;
	_Alignas(8) uint8_t bytes[AGENT_EXEC_MAX + 4096];
};

static struct message payload;
static struct agent_exec process;
static struct agent_create head;
static struct agent_rlimit rlimits[16];
static struct sock_filter filter[8];
static uint32_t groups[8];
static const char *cwd = "", *user, *env[16];
static int env_count;
static int leave; /* when it is created or started */

static _Noreturn void die(const char *text)
{
	fprintf(stderr, "order: %s\n", text);
	exit(2);
}

static void put(const void *data, size_t n)
{
	if (payload.n + n > sizeof(payload.bytes))
		die("too long");
	memcpy(payload.bytes + payload.n, data, n);
	payload.n += n;
}

static void put_string(const char *s)
{
	put(s, strlen(s) + 1);
}

static size_t record_at;

static void begin(uint32_t type)
{
	struct agent_record r = {.type = type};

	record_at = payload.n;
	put(&r, sizeof(r));
}

static void end(void)
{
	struct agent_record *r = (void *)(payload.bytes + record_at);

	r->length = (uint32_t)(payload.n - record_at - sizeof(*r));
	while (payload.n % 8)
		put("", 1);
}

/* --- connections --- */

static int dial(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char hello[] = "CONNECT 1024\n";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char c = 0;

	snprintf(to.sun_path, sizeof(to.sun_path), "%s/%s/vsock.sock", getenv("UVM_RUN"), vm);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    write(fd, hello, sizeof(hello) - 1) != sizeof(hello) - 1)
		die("cannot connect");
	while (c != '\n')
		if (read(fd, &c, 1) != 1)
			die("not connected");
	return fd;
}

static int send_message(int fd, uint16_t type, const void *body, size_t n)
{
	struct agent_header h = {AGENT_MAGIC, AGENT_VERSION, type, (uint32_t)n, 7};

	/* The agent may refuse before it has read everything. */
	if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) != sizeof(h))
		return -1;
	for (size_t at = 0; at < n;) {
		ssize_t sent = send(fd, (const char *)body + at, n - at, MSG_NOSIGNAL);

		if (sent < 0)
			return -1;
		at += (size_t)sent;
	}
	return 0;
}

static struct agent_header answer;
static _Alignas(8) uint8_t body[1u << 20];

/* Returns its type, or 0 at the end. */
static int receive(int fd)
{
	if (recv(fd, &answer, sizeof(answer), MSG_WAITALL) != sizeof(answer))
		return 0;
	if (answer.magic != AGENT_MAGIC || answer.version != AGENT_VERSION ||
	    answer.length > sizeof(body) - 1)
		die("a strange answer");
	if (answer.length && recv(fd, body, answer.length, MSG_WAITALL) != (ssize_t)answer.length)
		die("an answer was cut short");
	body[answer.length] = 0;
	return answer.type;
}

static int error_status(void)
{
	const struct agent_error *e = (const void *)body;

	fprintf(stderr, "%s: %s\n", (const char *)(e + 1), strerror((int)e->code));
	return e->kind == AGENT_NOT_RUN ? e->code == ENOENT ? 127 : 126 : 1;
}

static int exit_status(void)
{
	const struct agent_exited *m = (const void *)body;

	return m->kind == AGENT_EXIT_SIGNAL ? 128 + (int)m->value : (int)m->value;
}

/* --- words --- */

static uint32_t namespaces(const char *list)
{
	static const char *const names[] = {"mount", "pid",    "net",  "ipc",
					    "uts",   "cgroup", "user", "time"};
	uint32_t set = 0;

	for (unsigned int i = 0; i < 8; i++)
		if (strstr(list, names[i]))
			set |= 1u << i;
	return set;
}

static void put_mount_as(uint64_t options, uint64_t flags, const char *source, const char *target,
			 const char *type, const char *data)
{
	struct agent_mount m = {.flags = flags, .options = options};

	begin(AGENT_R_MOUNT);
	put(&m, sizeof(m));
	put_string(source);
	put_string(target);
	put_string(type);
	put_string(data);
	end();
}

static void put_mount(uint64_t flags, const char *source, const char *target, const char *type,
		      const char *data)
{
	put_mount_as(0, flags, source, target, type, data);
}

/* FLAGS:SOURCE:TARGET:TYPE:DATA; flags are letters. */
static void mount_word(char *text)
{
	char *part[5];
	uint64_t flags = 0;

	for (int i = 0; i < 5; i++)
		part[i] = strsep(&text, ":") ?: (char *)(uintptr_t) "";
	for (char *c = part[0]; *c; c++)
		flags |= *c == 'b' ? MS_BIND : *c == 'r' ? MS_RDONLY : *c == 'R' ? MS_REC
			 : *c == 's' ? MS_NOSUID : *c == 'd' ? MS_NODEV : *c == 'x' ? MS_NOEXEC
			 : *c == 'p' ? MS_PRIVATE : *c == 'S' ? MS_SHARED : 0;
	put_mount_as(strchr(part[0], 'P') ? AGENT_MOUNT_POD : 0, flags, part[1], part[2], part[3], part[4]);
}

static void put_device(uint32_t type, uint32_t major, uint32_t minor, uint32_t mode,
		       const char *path)
{
	struct agent_device d = {.type = type, .mode = mode, .major = major, .minor = minor};

	begin(AGENT_R_DEVICE);
	put(&d, sizeof(d));
	put_string(path);
	end();
}

static void rule(int allow, char type, int major, int minor, uint32_t access)
{
	struct agent_device_rule r = {.allow = (uint32_t)allow,
				      .type = (uint32_t)type,
				      .major = major,
				      .minor = minor,
				      .access = access};

	begin(AGENT_R_DEVICE_RULE);
	put(&r, sizeof(r));
	end();
}

/* What docker gives a container that no option describes. */
static void standard(void)
{
	static const struct {
		const char *path;
		uint32_t minor, major;
	} nodes[] = {{"/dev/null", 3, 1},   {"/dev/zero", 5, 1},    {"/dev/full", 7, 1},
		     {"/dev/random", 8, 1}, {"/dev/urandom", 9, 1}, {"/dev/tty", 0, 5}};
	const uint64_t safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;

	put_mount(safe, "proc", "/proc", "proc", "");
	put_mount(MS_NOSUID | MS_STRICTATIME, "tmpfs", "/dev", "tmpfs", "mode=755,size=65536k");
	put_mount(MS_NOSUID | MS_NOEXEC, "devpts", "/dev/pts", "devpts",
		  "newinstance,ptmxmode=0666,mode=0620,gid=5");
	put_mount(safe | MS_RDONLY, "sysfs", "/sys", "sysfs", "");
	put_mount(safe | MS_RDONLY, "cgroup", "/sys/fs/cgroup", "cgroup", "");
	put_mount(safe, "mqueue", "/dev/mqueue", "mqueue", "");
	put_mount(safe, "shm", "/dev/shm", "tmpfs", "mode=1777,size=65536k");
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		put_device('c', nodes[i].major, nodes[i].minor, 0666, nodes[i].path);
	rule(0, 'a', -1, -1, 7);
	rule(1, 'c', -1, -1, 1);
	rule(1, 'b', -1, -1, 1);
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		rule(1, 'c', (int)nodes[i].major, (int)nodes[i].minor, 7);
	rule(1, 'c', 136, -1, 7);
	rule(1, 'c', 5, 2, 7);
	begin(AGENT_R_MASKED);
	put_string("/proc/kcore");
	end();
	begin(AGENT_R_MASKED);
	put_string("/sys/firmware");
	end();
	begin(AGENT_R_READONLY);
	put_string("/proc/sys");
	end();
}

/* Ends the process at this system call. */
static void forbid(uint32_t number)
{
	const struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	memcpy(filter, f, sizeof(f));
	process.filter_count = 4;
}

static void root_word(char *text)
{
	struct agent_root root = {0};
	char *device = strsep(&text, ","), *type = strsep(&text, ","), *upper = strsep(&text, ",");
	char *size = strsep(&text, ",");

	if (upper && upper[0] == '!') { /* read-only */
		root.flags = AGENT_ROOT_READONLY;
		upper++;
	}
	root.upper_size = size ? strtoull(size, NULL, 0) : 0;
	begin(AGENT_R_ROOT);
	put(&root, sizeof(root));
	put_string(device);
	put_string(type);
	put_string(upper ?: "");
	end();
}

static void pair_word(uint32_t type, char *text)
{
	char *name = strsep(&text, "=");

	begin(type);
	put_string(name);
	put_string(text ?: "");
	end();
}

static void path_word(uint32_t type, const char *path)
{
	begin(type);
	put_string(path);
	end();
}

/* create|start,MS,PATH,ARG... */
static void hook_word(char *text)
{
	struct agent_hook h = {.stage = *text == 'c' ? AGENT_HOOK_CREATE : AGENT_HOOK_START};
	char *part[16], *p;

	strsep(&text, ",");
	h.timeout_ms = (uint32_t)atoi(strsep(&text, ","));
	while (h.argc < 16 && (p = strsep(&text, ",")))
		part[h.argc++] = p;
	h.envc = 1;
	begin(AGENT_R_HOOK);
	put(&h, sizeof(h));
	put_string(part[0]);
	for (uint32_t i = 0; i < h.argc; i++)
		put_string(part[i]);
	put_string("HOOK=1");
	end();
}

/* INSIDE,OUTSIDE,COUNT, of users and of groups */
static void map_word(char *text)
{
	struct agent_id_map m = {.inside = (uint32_t)strtoul(strsep(&text, ","), NULL, 10)};

	m.outside = (uint32_t)strtoul(strsep(&text, ","), NULL, 10);
	m.count = (uint32_t)strtoul(text, NULL, 10);
	for (m.gid = 0; m.gid <= 1; m.gid++) {
		begin(AGENT_R_ID_MAP);
		put(&m, sizeof(m));
		end();
	}
}

static void word(char *w)
{
	char *value = w;
	struct agent_rlimit *l = &rlimits[process.rlimit_count];
	uint64_t set;

	strsep(&value, "=");
	if (!strcmp(w, "std"))
		standard();
	else if (!strcmp(w, "tty"))
		process.streams = 1u << AGENT_TTY;
	else if (!strcmp(w, "quiet"))
		process.streams = 0;
	else if (!strcmp(w, "keep"))
		process.flags |= AGENT_EXEC_KEEP;
	else if (!strcmp(w, "nnp"))
		process.flags |= AGENT_EXEC_NO_NEW_PRIVS;
	else if (!strcmp(w, "later"))
		head.flags &= ~(uint32_t)AGENT_CREATE_START;
	else if (!strcmp(w, "tied"))
		head.flags |= AGENT_CREATE_TIED;
	else if (!strcmp(w, "leave"))
		leave = 1;
	else if (!strcmp(w, "ns"))
		head.new_namespaces = namespaces(value);
	else if (!strcmp(w, "podns"))
		head.pod_namespaces = namespaces(value);
	else if (!strcmp(w, "pod"))
		strncpy(head.pod, value, sizeof(head.pod) - 1);
	else if (!strcmp(w, "hostname"))
		strncpy(head.hostname, value, sizeof(head.hostname) - 1);
	else if (!strcmp(w, "domainname"))
		strncpy(head.domainname, value, sizeof(head.domainname) - 1);
	else if (!strcmp(w, "root"))
		root_word(value);
	else if (!strcmp(w, "mount"))
		mount_word(value);
	else if (!strcmp(w, "hook"))
		hook_word(value);
	else if (!strcmp(w, "map"))
		map_word(value);
	else if (!strcmp(w, "node")) { /* TYPE,MAJOR,MINOR,PATH */
		char type = *strsep(&value, ",");
		uint32_t major = (uint32_t)atoi(strsep(&value, ","));
		uint32_t minor = (uint32_t)atoi(strsep(&value, ","));

		put_device((uint32_t)type, major, minor, 0644, value);
	} else if (!strcmp(w, "masked"))
		path_word(AGENT_R_MASKED, value);
	else if (!strcmp(w, "readonly"))
		path_word(AGENT_R_READONLY, value);
	else if (!strcmp(w, "sysctl"))
		pair_word(AGENT_R_SYSCTL, value);
	else if (!strcmp(w, "cgroup"))
		pair_word(AGENT_R_CGROUP, value);
	else if (!strcmp(w, "user")) {
		user = value;
		process.flags |= AGENT_EXEC_NAMED;
	} else if (!strcmp(w, "uid")) {
		process.flags |= AGENT_EXEC_USER;
		process.uid = process.gid = (uint32_t)atoi(value);
	} else if (!strcmp(w, "group"))
		groups[process.group_count++] = (uint32_t)atoi(value);
	else if (!strcmp(w, "caps") || !strcmp(w, "ambient")) {
		set = strtoull(value, NULL, 16);
		process.flags |= AGENT_EXEC_CAPS;
		process.caps = (struct agent_caps){set, set, 0, set, 0};
		if (*w == 'a')
			process.caps.inheritable = process.caps.ambient = set;
	} else if (!strcmp(w, "rlimit")) { /* NUMBER,SOFT,HARD */
		l->resource = (uint32_t)atoi(strsep(&value, ","));
		l->soft = strtoull(strsep(&value, ","), NULL, 10);
		l->hard = strtoull(value, NULL, 10);
		process.rlimit_count++;
	} else if (!strcmp(w, "umask")) {
		process.flags |= AGENT_EXEC_UMASK;
		process.umask = (uint32_t)strtoul(value, NULL, 8);
	} else if (!strcmp(w, "oom")) {
		process.flags |= AGENT_EXEC_OOM;
		process.oom_score_adj = atoi(value);
	} else if (!strcmp(w, "forbid"))
		forbid((uint32_t)atoi(value));
	else if (!strcmp(w, "cwd"))
		cwd = value;
	else if (!strcmp(w, "env"))
		env[env_count++] = value;
	else if (!strcmp(w, "key"))
		process.key = (struct agent_key){{(uint8_t)atoi(value)}};
	else if (!strcmp(w, "in"))
		strncpy(process.container, value, sizeof(process.container) - 1);
	else if (!strcmp(w, "size")) {
		process.cols = (uint16_t)atoi(strsep(&value, "x"));
		process.rows = (uint16_t)atoi(value);
	} else
		die(w);
}

/* The words up to "--", and the process. */
static void put_request(int create, int argc, char **argv)
{
	int i = 0;

	if (getrandom(&process.key, sizeof(process.key), 0) != sizeof(process.key))
		die("getrandom");
	process.streams = STREAMS_ALL;
	head.flags = AGENT_CREATE_START;
	head.new_namespaces = namespaces("mount pid ipc uts cgroup");
	if (create)
		payload.n = sizeof(head);
	for (; i < argc && strcmp(argv[i], "--"); i++)
		word(argv[i]);
	if (++i >= argc)
		die("no command");
	if (create) {
		memcpy(payload.bytes, &head, sizeof(head));
		begin(AGENT_R_PROCESS);
	}
	process.argc = (uint32_t)(argc - i);
	process.envc = (uint32_t)env_count;
	put(&process, sizeof(process));
	put(rlimits, process.rlimit_count * sizeof(rlimits[0]));
	put(filter, process.filter_count * sizeof(filter[0]));
	put(groups, process.group_count * sizeof(groups[0]));
	put_string(cwd);
	if (user)
		put_string(user);
	while (i < argc)
		put_string(argv[i++]);
	for (int k = 0; k < env_count; k++)
		put_string(env[k]);
	if (create)
		end();
}

/* --- a session --- */

static int stream[AGENT_STREAMS] = {-1, -1, -1, -1};

static void attach(uint32_t which)
{
	struct agent_attach m = {.key = process.key, .stream = which};

	stream[which] = dial();
	send_message(stream[which], AGENT_ATTACH, &m, sizeof(m));
}

/* Returns whether there may be more. */
static int copy(int from, int to, int to_socket)
{
	char buf[4096];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n > 0 && write(to, buf, (size_t)n) == n)
		return 1;
	if (to_socket)
		shutdown(to, SHUT_WR);
	return 0;
}

static int session(uint16_t type)
{
	int control = dial(), in = 0, status = -1;
	int out[] = {AGENT_STDOUT, AGENT_STDERR, AGENT_TTY};

	send_message(control, type, payload.bytes, payload.n);
	for (uint32_t i = 0; i < AGENT_STREAMS; i++)
		if (process.streams & 1u << i)
			attach(i);
	for (;;) {
		int to_guest = stream[AGENT_TTY] >= 0 ? stream[AGENT_TTY] : stream[AGENT_STDIN];
		struct pollfd p[] = {{status < 0 ? control : -1, POLLIN, 0},
				     {stream[out[0]], POLLIN, 0},
				     {stream[out[1]], POLLIN, 0},
				     {stream[out[2]], POLLIN, 0},
				     {to_guest >= 0 ? in : -1, POLLIN, 0}};

		if (status >= 0 && p[1].fd < 0 && p[2].fd < 0 && p[3].fd < 0)
			return status;
		poll(p, 5, -1);
		for (int i = 0; i < 3; i++)
			if (p[1 + i].revents &&
			    !copy(p[1 + i].fd, out[i] == AGENT_STDERR ? 2 : 1, 0)) {
				close(p[1 + i].fd);
				stream[out[i]] = -1;
			}
		if (p[4].revents && !copy(in, to_guest, 1))
			in = -1;
		if (!p[0].revents)
			continue;
		switch (receive(control)) {
		case AGENT_CREATED:
		case AGENT_STARTED:
			if (leave)
				return 0;
			break;
		case AGENT_NOTICE: fprintf(stderr, "notice\n"); break;
		case AGENT_ERROR: return error_status();
		case AGENT_EXITED: status = exit_status(); break;
		default: die("the control connection has ended");
		}
	}
}

/* --- orders --- */

static int wait_for(const struct agent_wait *m)
{
	int fd = dial();

	send_message(fd, AGENT_WAIT, m, sizeof(*m));
	for (;;) {
		switch (receive(fd)) {
		case AGENT_STARTED:
			if (!*m->container.name)
				fprintf(stderr, "started\n");
			break;
		case AGENT_NOTICE: fprintf(stderr, "notice\n"); break;
		case AGENT_ERROR: return error_status();
		case AGENT_EXITED: return exit_status();
		default: die("the connection has ended");
		}
	}
}

static int print_list(void)
{
	static const char *const states[] = {"?", "creating", "created", "running", "paused", "stopped"};
	const struct agent_container *c = (const void *)body;

	for (uint32_t n = answer.length / sizeof(*c); n; n--, c++)
		printf("%s %s %s\n", c->name.name, states[c->state <= 5 ? c->state : 0],
		       c->pid ? "alive" : "-");
	return 0;
}

static int print_processes(void)
{
	const struct agent_process *p = (const void *)body;

	for (uint32_t n = answer.length / sizeof(*p); n; n--, p++)
		printf("%u %u %u %c %u %s\n", p->pid_inside, p->uid, p->threads, (char)p->state,
		       p->resident > 0, p->command);
	return 0;
}

static int print_properties(void)
{
	const struct agent_properties *p = (const void *)body;

	printf("cpu_us %llu memory %llu memory_max %llu pids %llu pids_max %llu oom_kill %llu read %llu\n",
	       (unsigned long long)p->cpu_us, (unsigned long long)p->memory,
	       (unsigned long long)p->memory_max, (unsigned long long)p->pids,
	       (unsigned long long)p->pids_max, (unsigned long long)p->oom_kill,
	       (unsigned long long)p->read_bytes);
	return 0;
}

static int order(uint16_t type, const void *m, size_t n)
{
	int fd = dial();

	send_message(fd, type, m, n);
	switch (receive(fd)) {
	case AGENT_OK: break;
	case AGENT_ERROR: return error_status();
	case AGENT_CONTAINER_LIST: return print_list();
	case AGENT_PROCESS_LIST: return print_processes();
	case AGENT_PROPERTIES: return print_properties();
	default: die("no answer");
	}
	if (type == AGENT_DUMP) {
		ssize_t k;

		while ((k = read(fd, body, sizeof(body))) > 0)
			fwrite(body, 1, (size_t)k, stdout);
	}
	return 0;
}

/* Sends damaged copies of a CREATE. The agent must refuse or do each, and live. */
static int fuzz(uint32_t seed, int count)
{
	static uint8_t good[sizeof(payload.bytes)];
	struct agent_name name = {{0}};
	size_t n = payload.n;

	memcpy(good, payload.bytes, n);
	memcpy(name.name, head.name, sizeof(name.name));
	for (int i = 0; i < count; i++) {
		int fd = dial();
		size_t length = n;

		memcpy(payload.bytes, good, n);
		for (uint32_t k = 0; k <= (uint32_t)i % 4; k++) {
			seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
			if (i % 5 == 4)
				length = seed % n;
			else
				payload.bytes[seed % n] ^= (uint8_t)(1u << (seed >> 29));
		}
		send_message(fd, AGENT_CREATE, payload.bytes, length);
		shutdown(fd, SHUT_WR);
		while (receive(fd))
			continue;
		close(fd);
	}
	return 0;
}

/* Waits for its end. Returns whether it was run; one that was not is refused with words. */
static int was_run(int fd)
{
	switch (receive(fd)) {
	case AGENT_STARTED: break;
	case AGENT_ERROR: return 0;
	default: die("an exec without an answer");
	}
	if (receive(fd) != AGENT_EXITED || exit_status())
		die("an exec that did not end well");
	return 1;
}

static int many(int count, int at_once)
{
	static int fd[1024];
	int done = 0, refused = 0;

	process.streams = 0;
	memcpy(payload.bytes, &process, sizeof(process));
	if (at_once < 1 || at_once > (int)(sizeof(fd) / sizeof(fd[0])))
		die("that many at once cannot be");
	while (done + refused < count) {
		int n = count - done - refused < at_once ? count - done - refused : at_once;

		for (int i = 0; i < n; i++) {
			process.key.bytes[0]++, process.key.bytes[1] += !process.key.bytes[0];
			memcpy(payload.bytes, &process, sizeof(process));
			fd[i] = dial();
			send_message(fd[i], AGENT_EXEC, payload.bytes, payload.n);
		}
		for (int i = 0; i < n; i++) {
			was_run(fd[i]) ? done++ : refused++;
			close(fd[i]);
		}
	}
	printf("%d done, %d refused\n", done, refused);
	return 0;
}

static const struct {
	const char *name;
	uint16_t type;
} orders[] = {
	{"start", AGENT_START},	  {"delete", AGENT_DELETE}, {"pause", AGENT_PAUSE},
	{"resume", AGENT_RESUME}, {"update", AGENT_UPDATE}, {"mount", AGENT_MOUNT},
	{"unmount", AGENT_UNMOUNT}, {"list", AGENT_LIST},   {"stats", AGENT_STATS},
	{"processes", AGENT_PROCESSES}, {"dump", AGENT_DUMP},
};

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "", *name = argc > 3 ? argv[3] : "";
	struct agent_wait wait = {0};
	struct agent_kill kill = {0};
	struct agent_identity identity = {0};
	struct agent_name named = {{0}};

	if (argc < 3)
		die("usage: see the source");
	vm = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	strncpy(named.name, name, sizeof(named.name) - 1);
	if (!strcmp(what, "create")) {
		strncpy(head.name, name, sizeof(head.name) - 1);
		put_request(1, argc - 4, argv + 4);
		return session(AGENT_CREATE);
	}
	if (!strcmp(what, "exec")) {
		put_request(0, argc - 3, argv + 3);
		return session(AGENT_EXEC);
	}
	if (!strcmp(what, "fuzz") && argc > 5) {
		strcpy(head.name, "fuzz");
		put_request(1, argc - 5, argv + 5);
		return fuzz((uint32_t)atoi(name), atoi(argv[4]));
	}
	if (!strcmp(what, "many") && argc > 5) {
		put_request(0, argc - 5, argv + 5);
		return many(atoi(name), atoi(argv[4]));
	}
	if (!strcmp(what, "wait")) {
		wait.container = named;
		return wait_for(&wait);
	}
	if (!strcmp(what, "waitkey")) {
		/* As "key=" sets it. */
		wait.key.bytes[0] = (uint8_t)atoi(name);
		return wait_for(&wait);
	}
	if (!strcmp(what, "kill") && argc > 4) {
		kill.container = named;
		kill.signo = (uint32_t)atoi(argv[4]);
		kill.scope = argc > 5 ? AGENT_KILL_ALL : AGENT_KILL_INIT;
		return order(AGENT_KILL, &kill, sizeof(kill));
	}
	if (!strcmp(what, "set")) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		identity.wall_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
		strncpy(identity.hostname, name, AGENT_HOSTNAME_MAX);
		return order(AGENT_SET, &identity, sizeof(identity));
	}
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (strcmp(what, orders[i].name))
			continue;
		if (orders[i].type != AGENT_LIST && orders[i].type != AGENT_DUMP)
			put(&named, sizeof(named));
		if (orders[i].type == AGENT_UNMOUNT && argc > 4)
			put_string(argv[4]);
		else
			for (int k = 4; k < argc; k++)
				word(argv[k]);
		return order(orders[i].type, payload.bytes, payload.n);
	}
	die(what);
}
