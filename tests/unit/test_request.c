/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's large requests: what is read of good ones, and that bad ones are refused, whatever bytes
 * they have, without a look beyond their end (which the sanitizers see: each is a block of its own).
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "guest/agent/request.h"
#include "guest/agent/user.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

static uint8_t bytes[AGENT_EXEC_MAX];
static size_t n;

static void put(const void *data, size_t size)
{
	ck_that(n + size <= sizeof(bytes));
	if (size)
		memcpy(bytes + n, data, size);
	n += size;
}

static void put_string(const char *s)
{
	put(s, strlen(s) + 1);
}

static size_t begin(uint32_t type)
{
	struct agent_record r = {.type = type};

	put(&r, sizeof(r));
	return n;
}

static void end(size_t begun)
{
	uint32_t length = (uint32_t)(n - begun);

	memcpy(bytes + begun - 4, &length, sizeof(length));
	while (n % 8)
		put("", 1);
}

/* The parse of a copy that has not a byte too many. The copy stays until the next call. */
static const char *parse(struct create *c)
{
	static uint8_t *copy;

	free(copy);
	copy = malloc(n ? n : 1);
	memcpy(copy, bytes, n);
	return create_parse(c, copy, (uint32_t)n);
}

static struct agent_exec exec = {.argc = 2, .envc = 1, .flags = AGENT_EXEC_NAMED};

static void put_process(void)
{
	struct agent_rlimit limit = {.resource = 7, .soft = 1, .hard = UINT64_MAX};
	struct sock_filter insn = {.code = 6, .k = 0x7fff0000};
	uint32_t group = 44;
	size_t at = begin(AGENT_R_PROCESS);

	exec.group_count = exec.rlimit_count = exec.filter_count = 1;
	put(&exec, sizeof(exec));
	put(&limit, sizeof(limit));
	put(&insn, sizeof(insn));
	put(&group, sizeof(group));
	put_string("/dir");
	put_string("me:us");
	put_string("program");
	put_string("argument");
	put_string("A=b");
	end(at);
}

static void put_strings(uint32_t type, const void *head, size_t size, const char *const *strings)
{
	size_t at = begin(type);

	put(head, size);
	for (; *strings; strings++)
		put_string(*strings);
	end(at);
}

#define STRINGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void put_head(void)
{
	struct agent_create head = {.name = "name-1.x",
				    .hostname = "host",
				    .new_namespaces = AGENT_NS_UTS | AGENT_NS_PID};

	n = 0;
	put(&head, sizeof(head));
}

/* One of each record, and what there is of them twice. */
static void put_all(void)
{
	struct agent_root root = {.upper_size = 5, .propagation = MS_PRIVATE};
	struct agent_mount mount = {.flags = MS_BIND | MS_REC};
	struct agent_device device = {.type = 'c', .mode = 0666, .major = 1, .minor = 3};
	struct agent_device_rule rule = {.allow = 1, .type = 'a', .major = -1, .minor = -1, .access = 7};
	struct agent_id_map map = {.count = 1};
	struct agent_hook hook = {.stage = AGENT_HOOK_START, .argc = 1};
	struct agent_guest_device guests = {.access = 6};

	put_head();
	put_strings(AGENT_R_ROOT, &root, sizeof(root), STRINGS("/dev/vda", "erofs", "tmpfs"));
	put_process();
	put_strings(AGENT_R_MOUNT, &mount, sizeof(mount), STRINGS("/from", "/to", "", ""));
	put_strings(AGENT_R_MOUNT, &mount, sizeof(mount), STRINGS("/from2", "/to2", "x", "a=b"));
	put_strings(AGENT_R_DEVICE, &device, sizeof(device), STRINGS("/dev/null"));
	put_strings(AGENT_R_DEVICE_RULE, &rule, sizeof(rule), STRINGS(NULL));
	put_strings(AGENT_R_GUEST_DEVICE, &guests, sizeof(guests), STRINGS("/dev/fuse"));
	put_strings(AGENT_R_MASKED, NULL, 0, STRINGS("/proc/kcore"));
	put_strings(AGENT_R_READONLY, NULL, 0, STRINGS("/proc/sys"));
	put_strings(AGENT_R_SYSCTL, NULL, 0, STRINGS("net.ipv4.ip_forward", "1"));
	put_strings(AGENT_R_CGROUP, NULL, 0, STRINGS("memory.max", "1000"));
	put_strings(AGENT_R_ID_MAP, &map, sizeof(map), STRINGS(NULL));
	put_strings(AGENT_R_HOOK, &hook, sizeof(hook), STRINGS("/bin/hook", "hook"));
	put_strings(AGENT_R_HOOK_STATE, NULL, 0, STRINGS("{}"));
}

START_TEST(what_is_read)
{
	struct create c;
	struct record r;
	struct records it;

	put_all();
	ck_assert_ptr_null(parse(&c));
	ck_assert_str_eq(c.head.name, "name-1.x");
	ck_assert_str_eq(c.process.cwd, "/dir");
	ck_assert_str_eq(c.process.user, "me:us");
	ck_assert_str_eq(c.process.strings, "program");
	ck_assert_str_eq(string_after(c.process.strings), "argument");
	ck_assert_uint_eq(c.process.groups[0], 44);
	ck_assert_uint_eq(c.process.rlimits[0].hard, UINT64_MAX);
	ck_assert_uint_eq(c.process.filter[0].k, 0x7fff0000);
	it = c.records;
	ck_assert(record_next(&it, AGENT_R_MOUNT, &r));
	ck_assert_str_eq(record_string(&r, sizeof(struct agent_mount)), "/from");
	ck_assert(record_next(&it, AGENT_R_MOUNT, &r));
	ck_assert_str_eq(record_string(&r, sizeof(struct agent_mount)), "/from2");
	ck_assert(!record_next(&it, AGENT_R_MOUNT, &r));
	it = c.records;
	ck_assert(record_next(&it, AGENT_R_SYSCTL, &r));
	ck_assert_str_eq(string_after(record_string(&r, 0)), "1");
}
END_TEST

static void bad(const char *say)
{
	struct create c;
	const char *why = parse(&c);

	if (!why || !strstr(why, say))
		ck_abort_msg("'%s' where '%s' was expected", why ? why : "(well)", say);
}

/* A CREATE with this record, which is wrong. */
static void bad_record(const char *say, uint32_t type, const void *head, size_t size,
		       const char *const *strings)
{
	put_head();
	put_process();
	put_strings(type, head, size, strings);
	bad(say);
}

static void bad_mount(const char *say, uint64_t flags, const char *const *strings)
{
	struct agent_mount m = {.flags = flags};

	bad_record(say, AGENT_R_MOUNT, &m, sizeof(m), strings);
}

START_TEST(bad_records)
{
	struct agent_root root = {0};
	struct agent_device d = {.type = 'c'};
	struct agent_device_rule rule = {.allow = 2, .type = 'a', .access = 7};
	struct agent_hook hook = {.stage = 3, .argc = 1};
	struct agent_guest_device guests = {.access = 2};
	struct agent_mount up = {.options = AGENT_MOUNT_COPY_UP}, odd = {.options = 4},
			   pod = {.options = AGENT_MOUNT_POD};
	char path[PATH_MAX + 2];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';

	bad_record("is no tmpfs", AGENT_R_MOUNT, &up, sizeof(up), STRINGS("a", "/b", "proc", ""));
	bad_record("no bind mount", AGENT_R_MOUNT, &pod, sizeof(pod), STRINGS("a", "/b", "tmpfs", ""));
	bad_record("unknown flags", AGENT_R_MOUNT, &odd, sizeof(odd), STRINGS("a", "/b", "tmpfs", ""));
	bad_mount("target", 0, STRINGS("a", "b", "c", "d"));
	bad_mount("target", 0, STRINGS("a", "//", "c", "d"));
	bad_mount("target", 0, STRINGS("a", "/../b", "c", "d"));
	bad_mount("target", 0, STRINGS("a", "/b/..", "c", "d"));
	bad_mount("target", 0, STRINGS("a", path, "c", "d"));
	bad_mount("type", 0, STRINGS("a", "/..b", "", "d"));
	bad_mount("source", MS_BIND, STRINGS("a", "/b", "", ""));
	bad_mount("flags", MS_REMOUNT, STRINGS("a", "/b", "c", ""));
	bad_mount("flags", UINT64_C(1) << 40, STRINGS("a", "/b", "c", ""));
	bad_mount("flags", MS_PRIVATE | MS_SHARED, STRINGS("a", "/b", "c", ""));
	bad_mount("four", 0, STRINGS("a", "/b", "c"));
	bad_mount("four", 0, STRINGS("a", "/b", "c", "d", "e"));
	bad_record("three", AGENT_R_ROOT, &root, sizeof(root), STRINGS("/a", "b"));
	bad_record("without a device", AGENT_R_ROOT, &root, sizeof(root), STRINGS("a", "b", ""));
	bad_record("without a device", AGENT_R_ROOT, &root, sizeof(root), STRINGS("", "virtiofs", ""));
	bad_record("without a device", AGENT_R_ROOT, &root, sizeof(root), STRINGS("/a", "", ""));
	bad_record("without a device", AGENT_R_ROOT, &root, sizeof(root), STRINGS("/a", "b", "c"));
	bad_record("path", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("/"));
	bad_record("path", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("/a/"));
	bad_record("path", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("/a/.."));
	bad_record("path", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("/a/."));
	bad_record("path", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("a"));
	d.type = 'x';
	bad_record("cannot be", AGENT_R_DEVICE, &d, sizeof(d), STRINGS("/a"));
	bad_record("rule", AGENT_R_DEVICE_RULE, &rule, sizeof(rule), STRINGS(NULL));
	bad_record("too short or too long", AGENT_R_DEVICE_RULE, &rule, sizeof(rule), STRINGS("x"));
	bad_record("masked", AGENT_R_MASKED, NULL, 0, STRINGS("ab"));
	bad_record("masked", AGENT_R_MASKED, NULL, 0, STRINGS("/a", "/b"));
	bad_record("sysctl", AGENT_R_SYSCTL, NULL, 0, STRINGS("a..b", "1"));
	bad_record("sysctl", AGENT_R_SYSCTL, NULL, 0, STRINGS("a/../b", "1"));
	bad_record("sysctl", AGENT_R_SYSCTL, NULL, 0, STRINGS("", "1"));
	bad_record("sysctl", AGENT_R_SYSCTL, NULL, 0, STRINGS("net."));
	bad_record("controller", AGENT_R_CGROUP, NULL, 0, STRINGS("cgroup.procs", "1"));
	bad_record("cannot be", AGENT_R_CGROUP, NULL, 0, STRINGS("memory./x", "1"));
	bad_record("hook", AGENT_R_HOOK, &hook, sizeof(hook), STRINGS("/a", "b"));
	bad_record("state for hooks", AGENT_R_HOOK_STATE, NULL, 0, STRINGS("/a", "b"));
	bad_record("guest's", AGENT_R_GUEST_DEVICE, &guests, sizeof(guests), STRINGS("/dev/../a"));
	bad_record("guest's", AGENT_R_GUEST_DEVICE, &guests, sizeof(guests), STRINGS("/a", "/b"));
	guests.access = 8;
	bad_record("guest's", AGENT_R_GUEST_DEVICE, &guests, sizeof(guests), STRINGS("/a"));
	guests.access = 0;
	bad_record("guest's", AGENT_R_GUEST_DEVICE, &guests, sizeof(guests), STRINGS("/a"));
	bad_record("unknown type", AGENT_R_GUEST_DEVICE + 1, NULL, 0, STRINGS("/a"));
	bad_record("unknown type", 0, NULL, 0, STRINGS("/a"));
	bad_record("unknown type", UINT32_MAX, NULL, 0, STRINGS("/a"));

	put_head();
	bad("no process");
	put_process();
	put_process();
	bad("too many records");
	put_head();
	put_process();
	bytes[n - 1] = 1; /* what fills it up */
	bad("zeros");
	put_head();
	strcpy(exec.container, "c");
	put_process();
	exec.container[0] = '\0';
	bad("another container");
}
END_TEST

/* A change of a field in the head. */
static void bad_head(const char *say, size_t offset, const void *value, size_t size)
{
	put_head();
	put_process();
	memcpy(bytes + offset, value, size);
	bad(say);
}

#define BAD_HEAD(say, field, ...)                                                                  \
	bad_head(say, offsetof(struct agent_create, field), &(typeof(((struct agent_create *)0)->field))__VA_ARGS__, \
		 sizeof(((struct agent_create *)0)->field))

START_TEST(bad_heads)
{
	char full[AGENT_NAME_MAX + 8];

	memset(full, 'a', sizeof(full));
	BAD_HEAD("name", name, {""});
	BAD_HEAD("name", name, {".."});
	BAD_HEAD("name", name, {"a/b"});
	BAD_HEAD("name", name, {"-a"});
	BAD_HEAD("name", pod, {"/"});
	bad_head("name", offsetof(struct agent_create, name), full, sizeof(full));
	bad_head("too long", offsetof(struct agent_create, hostname), full, sizeof(full));
	BAD_HEAD("flags", flags, {4});
	BAD_HEAD("flags", zero, {1});
	BAD_HEAD("namespaces", new_namespaces, {256});
	BAD_HEAD("namespaces", pod_namespaces, {AGENT_NS_NET}); /* and no pod */
	BAD_HEAD("namespaces", pod, {"pod"});		       /* and none of its namespaces */
	BAD_HEAD("host name", new_namespaces, {0});
}
END_TEST

/* Each must be refused or be what is asked for; what must not happen the sanitizers see. */
START_TEST(every_truncation)
{
	struct create c;
	size_t all, good = 0;

	put_all();
	all = n;
	for (n = 0; n < all; n++)
		good += !parse(&c);
	/* It ends well behind each record from the process on, and nowhere else. */
	ck_assert_uint_eq(good, 12);
}
END_TEST

static void walk(const struct create *c)
{
	for (uint32_t type = 1; type <= AGENT_R_GUEST_DEVICE; type++) {
		struct records it = c->records;
		struct record r;

		while (record_next(&it, type, &r))
			ck_that((const uint8_t *)r.body + r.length <= c->records.end);
	}
}

START_TEST(mutations)
{
	uint32_t seed = 20221125;
	struct create c;
	size_t all, good = 0;
	uint8_t *original;

	put_all();
	all = n;
	original = malloc(all);
	memcpy(original, bytes, all);
	for (int i = 0; i < 200000; i++) {
		memcpy(bytes, original, all);
		n = i % 7 ? all : next_random(&seed) % all;
		for (int k = 0; k <= i % 3; k++) {
			uint32_t x = next_random(&seed);

			bytes[x % all] = i % 2 ? (uint8_t)(x >> 24) : bytes[x % all] ^ (uint8_t)(1u << (x >> 29));
		}
		if (parse(&c))
			continue;
		good++;
		walk(&c);
	}
	ck_assert_uint_gt(good, 1000);
	free(original);
}
END_TEST

START_TEST(orders)
{
	struct agent_name name = {"c"};
	struct records r;
	struct record record;
	const char *path;

	n = 0;
	put(&name, sizeof(name));
	ck_assert_ptr_null(order_parse(&r, AGENT_R_CGROUP, bytes, (uint32_t)n));
	put_strings(AGENT_R_CGROUP, NULL, 0, STRINGS("cpu.max", "1 2"));
	ck_assert_ptr_null(order_parse(&r, AGENT_R_CGROUP, bytes, (uint32_t)n));
	ck_assert(record_next(&r, AGENT_R_CGROUP, &record));
	ck_assert_str_eq(record_string(&record, 0), "cpu.max");
	ck_assert_ptr_nonnull(order_parse(&r, AGENT_R_MOUNT, bytes, (uint32_t)n));
	for (uint32_t len = 0; len < n; len++)
		ck_that(len == sizeof(name) || order_parse(&r, AGENT_R_CGROUP, bytes, len));
	n = sizeof(name);
	put_string("/a/b");
	ck_assert_ptr_null(unmount_parse(&path, bytes, (uint32_t)n));
	ck_assert_str_eq(path, "/a/b");
	for (uint32_t len = 0; len < n; len++)
		ck_that(unmount_parse(&path, bytes, len));
	memset(bytes, 'x', sizeof(name)); /* a name without an end */
	ck_assert_ptr_nonnull(order_parse(&r, AGENT_R_CGROUP, bytes, (uint32_t)n));
}
END_TEST

START_TEST(sysctl_names)
{
	static const char *const names[][2] = {
		{"net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"},
		{"net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward"},
		{"net.ipv4.conf.eth0/1.x", "/proc/sys/net/ipv4/conf/eth0.1/x"},
		{"net/ipv4/conf/eth0.1/x", "/proc/sys/net/ipv4/conf/eth0.1/x"},
	};
	static const char *const none[] = {"",	"/a",	 ".a",	"a.", "a//b", "a..b", "a/./b",
					   "a/../b", "a b", "a\nb"};
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ck_assert(sysctl_path(names[i][0], path));
		ck_assert_str_eq(path, names[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		ck_assert_msg(!sysctl_path(none[i], path), "%s", none[i]);
}
END_TEST

/* By this host's own files, of which root's entries can be relied on. */
START_TEST(users)
{
	struct user u;

	ck_assert(user_find(&u, "root"));
	ck_assert(!u.uid && !u.gid && !strcmp(u.home, "/root"));
	ck_assert(user_find(&u, "0:7"));
	ck_assert(!u.uid && u.gid == 7 && !u.group_count);
	ck_assert(user_find(&u, "12345"));
	ck_assert(u.uid == 12345 && !u.gid && !*u.home);
	ck_assert(user_find(&u, ":root"));
	ck_assert(!u.uid && !u.gid);
	ck_assert(!user_find(&u, "no-such-user"));
	ck_assert(!user_find(&u, "root:no-such-group"));
	ck_assert(!user_find(&u, "4294967295"));
	ck_assert(!user_find(&u, "99999999999999999999"));
	ck_assert(!user_find(&u, "-1"));
	u = (struct user){.uid = 0};
	user_find_home(&u);
	ck_assert_str_eq(u.home, "/root");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		what_is_read, bad_records, bad_heads, every_truncation, mutations, orders, sysctl_names, users,
	};

	return run_tests("request", tests, ARRAY_SIZE(tests), NULL, NULL);
}
