/* SPDX-License-Identifier: Apache-2.0
 *
 * Which containers can be the one that was prepared.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "guest/agent/prepare.h"
#include "tests/unit/util.h"
#include "vmm/container.h"
#include "vmm/exec.h"
#include "vmm/util.h"

static struct err e;
static struct prepared p;
static struct container_spec spec;
static struct container_mount mounts[16];
static uint8_t *payload[2];

static struct create made(const struct container_spec *s, uint8_t **bytes)
{
	static char *const argv[] = {(char *)"sh", NULL};
	struct exec_request process = {.argv = argv};
	struct agent_exec head = {.streams = 7};
	struct create c;
	size_t size;

	free(*bytes);
	ck_ok(container_encode(s, &process, &head, bytes, &size, &e));
	ck_assert_ptr_null(create_parse(&c, *bytes, (uint32_t)size));
	return c;
}

static void setup(void)
{
	container_defaults(&spec, "main");
	p = (struct prepared){.pid = 1, .create = made(&spec, &payload[0])};
	memcpy(mounts, spec.mounts, spec.mount_count * sizeof(*mounts));
	spec.mounts = mounts;
}

static void teardown(void)
{
	free(payload[0]);
	free(payload[1]);
}

static bool fits(void)
{
	struct create c = made(&spec, &payload[1]);

	return prepare_fits(&p, &c);
}

static bool fits_with(const char *target)
{
	bool yes;

	mounts[spec.mount_count++] =
		(struct container_mount){.source = "/dev/vdb", .target = target, .type = "ext4"};
	yes = fits();
	spec.mount_count--;
	return yes;
}

START_TEST(the_same)
{
	const struct container_value values[] = {{"net.ipv4.ip_forward", "1"}, {"pids.max", "9"}};

	ck_assert(fits());
	spec.hostname = "other";
	spec.start = true;
	spec.root = (struct container_root){.device = "/dev/vda", .type = "erofs", .upper = "tmpfs"};
	spec.sysctls = &values[0];
	spec.cgroup = &values[1];
	spec.sysctl_count = spec.cgroup_count = 1;
	ck_assert(fits());
	spec.hostname = "";
	ck_assert(!fits());
	spec.hostname = "other";
	p.pid = 0;
	ck_assert(!fits());
}
END_TEST

START_TEST(another_container)
{
	spec.name = "second";
	ck_assert(!fits());
	spec.name = "main";
	spec.new_namespaces |= AGENT_NS_NET;
	ck_assert(!fits());
	spec.new_namespaces &= ~(uint32_t)(AGENT_NS_NET | AGENT_NS_IPC);
	ck_assert(!fits());
	spec.pod = "pod";
	spec.pod_namespaces = AGENT_NS_IPC;
	ck_assert(!fits());
	spec.new_namespaces |= AGENT_NS_IPC | AGENT_NS_USER;
	spec.pod = NULL;
	spec.pod_namespaces = 0;
	ck_assert(!fits());
	spec.new_namespaces &= ~(uint32_t)AGENT_NS_USER;
	ck_assert(fits());
}
END_TEST

START_TEST(mounts_beside)
{
	ck_assert(fits_with("/srv"));
	ck_assert(fits_with("/devices"));
	ck_assert(!fits_with("/dev"));
	ck_assert(!fits_with("/dev/data"));
	ck_assert(!fits_with("/proc/uptime"));
	ck_assert(!fits_with("//dev/data"));
	ck_assert(!fits_with("/./dev/data"));
	ck_assert(!fits_with("/sys/firmware"));
	mounts[spec.mount_count++] = (struct container_mount){
		.source = "/etc/resolv.conf", .target = "/etc/resolv.conf", .flags = MS_BIND};
	ck_assert(!fits()); /* the guest's own of today */
}
END_TEST

START_TEST(other_mounts)
{
	struct container_mount first = mounts[0];

	mounts[0].flags |= MS_RDONLY;
	ck_assert(!fits());
	mounts[0] = mounts[1]; /* another order */
	mounts[1] = first;
	ck_assert(!fits());
	mounts[1] = mounts[0];
	mounts[0] = first;
	ck_assert(fits());
	mounts[1].data = "mode=755,size=65537k";
	ck_assert(!fits());
	spec.mount_count--;
	ck_assert(!fits());
}
END_TEST

/* Of each list one more, and one less. */
START_TEST(other_rights)
{
	static const char *const one[] = {"/proc/kcore", NULL}, *const none[] = {NULL};
	struct container_device devices[8];
	struct agent_device_rule rules[16];
	const struct container_spec before = spec;

	ck_that(spec.device_count < ARRAY_SIZE(devices) && spec.rule_count < ARRAY_SIZE(rules));
	memcpy(devices, spec.devices, spec.device_count * sizeof(*devices));
	memcpy(rules, spec.rules, spec.rule_count * sizeof(*rules));
	devices[spec.device_count] = (struct container_device){"/dev/fuse", {'c', 0666, 10, 229, 0, 0}};
	rules[spec.rule_count] = (struct agent_device_rule){1, 'c', 10, 229, 7, 0};
	spec.devices = devices;
	spec.device_count++;
	ck_assert(!fits());
	spec.device_count -= 2;
	ck_assert(!fits());
	spec = before;
	spec.rules = rules;
	spec.rule_count++;
	ck_assert(!fits());
	rules[0].allow = 0;
	spec.rule_count--;
	ck_assert(!fits());
	spec.rule_count = 0;
	ck_assert(!fits());
	spec = before;
	spec.masked = one;
	ck_assert(!fits());
	spec.masked = none;
	ck_assert(!fits());
	spec = before;
	spec.readonly = one;
	ck_assert(!fits());
	spec.readonly = NULL;
	ck_assert(!fits());
	spec = before;
	ck_assert(fits());
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_same, another_container, mounts_beside, other_mounts, other_rights,
	};

	return run_tests("prepare", tests, ARRAY_SIZE(tests), setup, teardown);
}
