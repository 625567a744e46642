/* SPDX-License-Identifier: Apache-2.0
 *
 * The CREATE message of a container.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/util.h"
#include "vmm/container.h"
#include "vmm/exec.h"
#include "vmm/util.h"

static struct err e;
static uint8_t *payload;
static size_t size;

static int encode(const struct container_spec *s, const struct exec_request *rq)
{
	struct agent_exec head = {.streams = 7};

	return container_encode(s, rq, &head, &payload, &size, &e);
}

/* Checks the frame of every record, and counts those of a type. */
static unsigned int records(uint32_t type, const uint8_t **last, uint32_t *length)
{
	size_t at = sizeof(struct agent_create);
	unsigned int n = 0;

	ck_assert_uint_le(size, AGENT_EXEC_MAX);
	while (at < size) {
		struct agent_record head;

		ck_assert_uint_eq(at % 8, 0);
		ck_assert_uint_le(at + sizeof(head), size);
		memcpy(&head, payload + at, sizeof(head));
		at += sizeof(head);
		if (head.type == type) {
			n++;
			*last = payload + at;
			*length = head.length;
		}
		for (size_t i = at + head.length; i < ALIGN_UP(at + head.length, 8); i++)
			ck_assert_uint_eq(payload[i], 0);
		at = ALIGN_UP(at + head.length, 8);
	}
	ck_assert_uint_eq(at, size);
	return n;
}

static char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"x", NULL};

START_TEST(defaults)
{
	struct exec_request rq = {
		.argv = argv, .caps = &container_caps, .user_name = "nobody:games"};
	struct container_spec s;
	struct agent_create create;
	struct agent_exec exec;
	const uint8_t *at;
	uint32_t len;

	container_defaults(&s, "web");
	s.start = s.tied = true;
	s.root = (struct container_root){
		.device = "/dev/vda", .type = "erofs", .upper = "tmpfs", .upper_size = 4096};
	ck_ok(encode(&s, &rq));
	memcpy(&create, payload, sizeof(create));
	ck_assert_str_eq(create.name, "web");
	ck_assert_str_eq(create.hostname, "web");
	ck_assert_uint_eq(create.flags, AGENT_CREATE_START | AGENT_CREATE_TIED);
	ck_assert(create.new_namespaces & AGENT_NS_PID && !(create.new_namespaces & AGENT_NS_NET));
	ck_assert_uint_eq(records(AGENT_R_MOUNT, &at, &len), s.mount_count);
	ck_assert_uint_eq(records(AGENT_R_DEVICE, &at, &len), 6);
	ck_assert_uint_eq(records(AGENT_R_DEVICE_RULE, &at, &len), s.rule_count);
	ck_assert_uint_eq(records(AGENT_R_ROOT, &at, &len), 1);
	ck_assert_uint_eq(len, sizeof(struct agent_root) + sizeof("/dev/vda\0erofs\0tmpfs"));
	ck_assert(!memcmp(at + sizeof(struct agent_root), "/dev/vda\0erofs\0tmpfs", 21));
	ck_assert_uint_eq(records(AGENT_R_PROCESS, &at, &len), 1);
	memcpy(&exec, at, sizeof(exec));
	ck_assert_uint_eq(exec.flags, AGENT_EXEC_NAMED | AGENT_EXEC_CAPS);
	ck_assert_uint_eq(exec.caps.effective, 0xa80425fb);
	ck_assert_uint_eq(exec.argc, 3);
	ck_assert(!memcmp(at + sizeof(exec), "\0nobody:games\0sh\0-c\0x", 22));
	free(payload);
}
END_TEST

START_TEST(what_is_in_it)
{
	const struct container_value values[] = {{"memory.max", "1048576"}, {"pids.max", "9"}};
	const struct agent_id_map map = {0, 1000, 1, 1};
	const struct container_guest_device device = {"/dev/fuse", 6};
	char *const hook_argv[] = {(char *)"h", (char *)"x", NULL};
	const struct container_hook hook = {AGENT_HOOK_START, 5, "/bin/h", hook_argv, NULL};
	const struct agent_rlimit limit = {.resource = 7, .soft = 1, .hard = 2};
	const uint64_t filter[] = {1, 2, 3};
	struct exec_request rq = {.argv = argv,
				  .rlimits = &limit,
				  .rlimit_count = 1,
				  .filter = filter,
				  .filter_count = 3};
	struct container_spec s = {.name = "a",
				   .sysctls = values,
				   .sysctl_count = 2,
				   .cgroup = values,
				   .cgroup_count = 1,
				   .id_maps = &map,
				   .id_map_count = 1,
				   .guest_devices = &device,
				   .guest_device_count = 1,
				   .hooks = &hook,
				   .hook_count = 1,
				   .hook_state = "{}"};
	const uint8_t *at;
	uint32_t len;

	ck_ok(encode(&s, &rq));
	ck_assert_uint_eq(records(AGENT_R_SYSCTL, &at, &len), 2);
	ck_assert(len == 11 && !memcmp(at, "pids.max\0" "9", 11));
	ck_assert_uint_eq(records(AGENT_R_CGROUP, &at, &len), 1);
	ck_assert_uint_eq(records(AGENT_R_ID_MAP, &at, &len), 1);
	ck_assert(len == sizeof(map) && !memcmp(at, &map, len));
	ck_assert_uint_eq(records(AGENT_R_GUEST_DEVICE, &at, &len), 1);
	ck_assert(len == 18 && !memcmp(at, "\6\0\0\0\0\0\0\0/dev/fuse", 18));
	ck_assert_uint_eq(records(AGENT_R_HOOK, &at, &len), 1);
	ck_assert(len == sizeof(struct agent_hook) + 11 &&
		  !memcmp(at + sizeof(struct agent_hook), "/bin/h\0h\0x", 11));
	ck_assert_uint_eq(records(AGENT_R_HOOK_STATE, &at, &len), 1);
	ck_assert(len == 3 && !memcmp(at, "{}", 3));
	ck_assert_uint_eq(records(AGENT_R_ROOT, &at, &len), 0);
	ck_assert_uint_eq(records(AGENT_R_PROCESS, &at, &len), 1);
	ck_assert(!memcmp(at + sizeof(struct agent_exec), &limit, sizeof(limit)));
	ck_assert(!memcmp(at + sizeof(struct agent_exec) + sizeof(limit), filter, sizeof(filter)));
	free(payload);
}
END_TEST

START_TEST(updates)
{
	static char text[AGENT_UPDATE_MAX];
	struct container_value values[] = {{"memory.max", "1048576"}, {"pids.max", "9"}};
	struct agent_record head;

	ck_ok(container_encode_update("a", values, 2, &payload, &size, &e));
	ck_assert_str_eq((char *)payload, "a");
	memcpy(&head, payload + sizeof(struct agent_name), sizeof(head));
	ck_assert_uint_eq(head.type, AGENT_R_CGROUP);
	ck_assert_uint_eq(head.length, sizeof("memory.max") + sizeof("1048576"));
	ck_assert_uint_eq(size, sizeof(struct agent_name) + 8 + 24 + 8 + 16);
	free(payload);
	memset(text, '1', sizeof(text) - 1);
	values[1].value = text;
	ck_refused(container_encode_update("a", values, 2, &payload, &size, &e), E2BIG, "longer than");
	ck_refused(container_encode_update(text, values, 1, &payload, &size, &e), EINVAL,
		   "name is longer");
}
END_TEST

START_TEST(what_does_not_fit)
{
	static char text[AGENT_EXEC_MAX];
	struct container_mount mounts[2] = {{.target = text, .type = text}, {.target = "/"}};
	struct exec_request rq = {.argv = argv};
	struct container_spec s = {.name = "a", .mounts = mounts, .mount_count = 2};

	memset(text, 'x', sizeof(text) - 1);
	ck_refused(encode(&s, &rq), E2BIG, "longer than");
	s.mount_count = 0;
	s.name = text;
	ck_refused(encode(&s, &rq), EINVAL, "name is longer");
	s.name = "a";
	rq.argv = NULL;
	ck_refused(encode(&s, &rq), EINVAL, "no command");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {defaults, what_is_in_it, updates, what_does_not_fit};

	return run_tests("container", tests, ARRAY_SIZE(tests), NULL, NULL);
}
