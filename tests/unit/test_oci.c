/* SPDX-License-Identifier: Apache-2.0
 *
 * The OCI runtime, what of it needs no VM: config.json, options of mounts, limits, the state's file, the
 * log's forms, and which of two commands of one name is meant.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/cgroup.h"
#include "shim/cli.h"
#include "shim/commands.h"
#include "shim/config.h"
#include "shim/hooks.h"
#include "shim/options.h"
#include "shim/rootfs.h"
#include "shim/settings.h"
#include "shim/state.h"
#include "tests/unit/util.h"
#include "vmm/log.h"
#include "vmm/util.h"

static struct err e;
static struct oci_config c;

static const char good[] =
	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"box\","
	"\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80},"
	"\"args\":[\"sh\",\"-c\",\"x\"],\"env\":[\"A=b\"],\"cwd\":\"/work\","
	"\"user\":{\"uid\":12,\"gid\":34,\"umask\":23,\"additionalGids\":[5,6]},"
	"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_BPF\",\"CAP_OF_TOMORROW\"],"
	"\"effective\":[\"CAP_CHOWN\"]},\"noNewPrivileges\":true,\"oomScoreAdj\":-7,"
	"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":5,\"hard\":18446744073709551615}]},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\",\"size=65536k\"]},"
	"{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/s/shm\",\"options\":[\"rbind\",\"nosuid\"]},"
	"{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/s/hosts\",\"options\":[\"rbind\",\"ro\",\"rprivate\"]}],"
	"\"linux\":{\"cgroupsPath\":\"/a/b\",\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},"
	"{\"type\":\"mount\"},{\"type\":\"network\",\"path\":\"/n\"}],"
	"\"devices\":[{\"path\":\"/dev/more\",\"type\":\"c\",\"major\":1,\"minor\":3,\"fileMode\":384}],"
	"\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}],\"memory\":{\"limit\":1048576},"
	"\"cpu\":{\"shares\":1024,\"quota\":5000,\"cpus\":\"0-1\"},\"pids\":{\"limit\":-1},"
	"\"unified\":{\"memory.high\":\"7\"}},"
	"\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"},\"maskedPaths\":[\"/proc/kcore\"],\"readonlyPaths\":[\"/proc/sys\"],"
	"\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}},"
	"\"annotations\":{\"org.uvm.memory\":\"512M\"}}";

static void teardown(void)
{
	oci_config_free(&c);
}

static int parse(const char *text, size_t len)
{
	char *copy = malloc(len + !len); /* of its size, so that a step beyond is seen */
	int r;

	memcpy(copy, text, len);
	oci_config_free(&c);
	r = oci_config_parse(&c, copy, len, &e);
	free(copy);
	return r;
}

/* The good one, with the first `from` in it replaced. */
static int changed(const char *from, const char *to)
{
	const char *at = strstr(good, from);
	char *text;
	int r;

	ck_assert_msg(at != NULL, "%s", from);
	ck_that(asprintf(&text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from)) > 0);
	r = parse(text, strlen(text));
	free(text);
	return r;
}

static const char *value(const struct oci_resources *r, const char *file)
{
	for (size_t i = 0; i < r->values; i++)
		if (!strcmp(r->value[i].name, file))
			return r->value[i].value;
	return "(none)";
}

START_TEST(everything)
{
	const struct exec_request *rq;

	ck_ok(parse(good, strlen(good)));
	rq = &c.process.request;
	ck_assert_str_eq(c.root, "rootfs");
	ck_assert(c.read_only && c.process.terminal && rq->tty);
	ck_assert_uint_eq(c.process.rows, 24);
	ck_assert_uint_eq(c.process.cols, 80);
	ck_assert_str_eq(rq->argv[2], "x");
	ck_assert(!rq->argv[3]);
	ck_assert_str_eq(rq->envp[0], "A=b");
	ck_assert_str_eq(rq->cwd, "/work");
	ck_assert_uint_eq(rq->uid, 12);
	ck_assert_uint_eq(rq->gid, 34);
	ck_assert_uint_eq(rq->umask, 23);
	ck_assert_uint_eq(rq->group_count, 2);
	ck_assert_uint_eq(rq->groups[1], 6);
	ck_assert_uint_eq(rq->caps->bounding, 1 | UINT64_C(1) << 39);
	ck_assert_uint_eq(rq->caps->effective, 1);
	ck_assert_uint_eq(rq->caps->ambient, 0);
	ck_assert_uint_eq(rq->flags, AGENT_EXEC_UMASK | AGENT_EXEC_OOM | AGENT_EXEC_NO_NEW_PRIVS);
	ck_assert_int_eq(rq->oom_score_adj, -7);
	ck_assert_uint_eq(rq->rlimit_count, 1);
	ck_assert_uint_eq(rq->rlimits[0].resource, RLIMIT_NOFILE);
	ck_assert_uint_eq(rq->rlimits[0].hard, UINT64_MAX);
	ck_assert_uint_gt(rq->filter_count, 2);
	ck_assert_str_eq(c.spec.hostname, "box");
	ck_assert_str_eq(c.network, "/n");
	ck_assert_uint_eq(c.spec.new_namespaces, AGENT_NS_MOUNT | AGENT_NS_PID | AGENT_NS_NET |
							 AGENT_NS_IPC | AGENT_NS_UTS);
	/* The host's shared memory is the guest's own, the other bind mount is the host's to make, and
	 * the guest's, in its share.
	 */
	ck_assert_uint_eq(c.spec.mount_count, 4);
	ck_assert_str_eq(c.spec.mounts[1].data, "mode=755,size=65536k");
	ck_assert_uint_eq(c.spec.mounts[1].flags, MS_NOSUID);
	ck_assert_str_eq(c.spec.mounts[2].type, "tmpfs");
	ck_assert_str_eq(c.spec.mounts[2].target, "/dev/shm");
	ck_assert_str_eq(c.spec.mounts[3].type, "virtiofs");
	ck_assert_str_eq(c.spec.mounts[3].source, "root/etc/hosts");
	ck_assert_str_eq(c.spec.mounts[3].target, "/etc/hosts");
	ck_assert_uint_eq(c.spec.mounts[3].flags, MS_RDONLY);
	ck_assert_uint_eq(c.binds, 1);
	ck_assert_str_eq(c.bind[0].source, "/s/hosts");
	ck_assert_uint_eq(c.bind[0].flags, MS_BIND | MS_REC | MS_RDONLY | MS_PRIVATE);
	/* Those that every container has, and its own. */
	ck_assert_uint_eq(c.spec.device_count, 7);
	ck_assert_str_eq(c.spec.devices[6].path, "/dev/more");
	ck_assert_uint_eq(c.spec.devices[6].node.mode, 0600);
	ck_assert_uint_eq(c.spec.rule_count, 10);
	ck_assert_uint_eq(c.spec.rules[0].allow, 0);
	ck_assert_uint_eq(c.spec.rules[0].type, 'a');
	ck_assert_uint_eq(c.spec.rules[9].allow, 1);
	ck_assert_uint_eq(c.resources.memory, 1048576);
	ck_assert_str_eq(c.resources.cpus, "0-1");
	ck_assert_str_eq(value(&c.resources, "memory.max"), "1048576");
	ck_assert_str_eq(value(&c.resources, "cpu.weight"), "39");
	ck_assert_str_eq(value(&c.resources, "cpu.max"), "5000 100000");
	ck_assert_str_eq(value(&c.resources, "pids.max"), "max");
	ck_assert_str_eq(value(&c.resources, "memory.high"), "7");
	ck_assert_str_eq(c.spec.sysctls[0].name, "net.ipv4.ip_forward");
	ck_assert_str_eq(c.spec.masked[0], "/proc/kcore");
	ck_assert_str_eq(c.spec.readonly[0], "/proc/sys");
	ck_assert_str_eq(json_member(c.annotations, "org.uvm.memory")->text, "512M");
}
END_TEST

/* What cannot be is refused, by the name of the field. */
START_TEST(refusals)
{
	static const struct {
		const char *from, *to, *say;
	} table[] = {
		{"\"1.0.2\"", "\"2.0\"", "ociVersion"},
		{"\"ociVersion\":\"1.0.2\",", "", "ociVersion is missing"},
		{"\"root\":{\"path\":\"rootfs\",\"readonly\":true},", "", "root is missing"},
		{"\"path\":\"rootfs\"", "\"path\":\"\"", "root.path"},
		{"\"path\":\"rootfs\"", "\"path\":\"a\\u0000b\"", "root.path"},
		{"[\"sh\",\"-c\",\"x\"]", "[]", "process.args"},
		{"[\"sh\",\"-c\",\"x\"]", "[1]", "process.args[0]"},
		{"\"cwd\":\"/work\"", "\"cwd\":\"work\"", "process.cwd"},
		{"\"uid\":12", "\"uid\":-1", "process.user.uid"},
		{"\"umask\":23", "\"umask\":1000", "process.user.umask"},
		{"\"RLIMIT_NOFILE\"", "\"RLIMIT_X\"", "process.rlimits[0]"},
		{"\"oomScoreAdj\":-7", "\"oomScoreAdj\":-1001", "process.oomScoreAdj"},
		{"\"destination\":\"/proc\"", "\"destination\":\"/a/../b\"", "mounts[0]"},
		{"\"destination\":\"/proc\"", "\"destination\":\"/\"", "mounts[0]"},
		{"\"destination\":\"/proc\"", "\"destination\":\"proc\"", "mounts[0]"},
		{"\"type\":\"proc\"", "\"type\":\"nfs\"", "mounts[0]"},
		{"\"rbind\",\"ro\"", "\"rbind\",\"tmpcopyup\"", "mounts[3] has the option 'tmpcopyup'"},
		{"\"rbind\",\"ro\"", "\"rbind\",\"idmap\"", "mounts[3].options[1]"},
		{"\"rbind\",\"ro\"", "\"rbind\",\"size=3\"", "mounts[3]"},
		{"{\"type\":\"pid\"},", "", "none of the type 'pid'"},
		{"{\"type\":\"pid\"}", "{\"type\":\"pid\",\"path\":\"/p\"}", "linux.namespaces[0]"},
		{"{\"type\":\"pid\"}", "{\"type\":\"user\",\"path\":\"/p\"}", "linux.namespaces[0]"},
		{"{\"type\":\"pid\"}", "{\"type\":\"pid\"},{\"type\":\"user\"}", "linux.uidMappings"},
		{"{\"type\":\"pid\"}", "{\"type\":\"net\"}", "linux.namespaces[0]"},
		{"{\"type\":\"ipc\"}", "{\"type\":\"pid\"}", "linux.namespaces[1]"},
		{"\"major\":1,\"minor\":3", "\"major\":8,\"minor\":3", "linux.devices[0]"},
		{"\"access\":\"rwm\"", "\"access\":\"rx\"", "linux.resources.devices[0]"},
		{"\"memory\":{", "\"memory\":{\"swap\":5,", "linux.resources.memory.swap"},
		{"\"memory\":{", "\"rdma\":{\"x\":{}},\"memory\":{", "linux.resources.rdma"},
		{"\"memory\":{", "\"blockIO\":{\"weight\":10},\"memory\":{",
		 "linux.resources.blockIO.weight"},
		{"\"/proc/kcore\"", "\"kcore\"", "linux.maskedPaths"},
		{"\"SCMP_ACT_ERRNO\"", "\"SCMP_ACT_X\"", "linux.seccomp"},
		{"\"linux\":{", "\"linux\":{\"uidMappings\":[{}],", "linux.uidMappings[0]"},
		{"\"linux\":{", "\"linux\":{\"gidMappings\":[{\"size\":1}],", "linux.gidMappings"},
		{"\"linux\":{", "\"linux\":{\"gidMappings\":[{\"size\":9,\"hostID\":4294967290}],",
		 "linux.gidMappings[0]"},
		{"\"linux\":{", "\"linux\":{\"personality\":{\"domain\":\"LINUX32\"},", "linux.personality"},
		{"\"linux\":{", "\"linux\":{\"intelRdt\":{\"closID\":\"x\"},", "linux.intelRdt"},
		{"\"linux\":{", "\"linux\":{\"timeOffsets\":{\"boottime\":{}},", "linux.timeOffsets"},
		{"\"process\":{", "\"process\":{\"ioPriority\":{\"class\":\"x\"},", "process.ioPriority"},
		{"\"process\":{", "\"process\":{\"scheduler\":{\"policy\":\"x\"},", "process.scheduler"},
		{"\"memory\":{", "\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":1}],\"memory\":{",
		 "linux.resources.hugepageLimits[0]"},
		{"\"memory\":{", "\"memory\":{\"disableOOMKiller\":true,", "memory.disableOOMKiller"},
		{"\"cpu\":{", "\"cpu\":{\"realtimeRuntime\":5,", "cpu.realtimeRuntime"},
		{"\"rbind\",\"ro\",\"rprivate\"", "\"rbind\",\"rshared\"", "mounts[3] is shared"},
		{"\"linux\":{", "\"linux\":{\"rootfsPropagation\":\"x\",", "rootfsPropagation"},
		{"\"linux\":{", "\"hooks\":{\"prestart\":[{\"path\":\"x\"}]},\"linux\":{",
		 "hooks.prestart[0].path is not absolute"},
		{"\"linux\":{", "\"hooks\":{\"poststop\":[{\"args\":[\"/x\"]}]},\"linux\":{",
		 "hooks.poststop[0] has no 'path'"},
		{"\"linux\":{", "\"hooks\":{\"poststart\":[{\"path\":\"/x\",\"timeout\":0}]},\"linux\":{",
		 "hooks.poststart[0].timeout"},
		{"\"linux\":{", "\"hooks\":{\"startContainer\":[{\"path\":\"/x\",\"env\":[3]}]},\"linux\":{",
		 "hooks.startContainer[0].env[0]"},
		{"\"linux\":{", "\"hooks\":{\"createContainer\":{}},\"linux\":{",
		 "hooks.createContainer is not an array"},
		{"\"linux\":{", "\"vm\":{\"kernel\":{}},\"linux\":{", "vm"},
		{"\"512M\"", "5", "annotations"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		e.text[0] = 0;
		if (changed(table[i].from, table[i].to) != -EINVAL || !strstr(e.text, table[i].say))
			ck_abort_msg("%s: %s", table[i].to, e.text);
	}
	/* What says nothing is nothing. */
	ck_ok(changed("\"memory\":{", "\"blockIO\":{\"weight\":0},\"rdma\":{},\"memory\":{"));
	ck_ok(changed("\"linux\":{", "\"hooks\":{\"prestart\":[]},\"linux\":{\"uidMappings\":[],"));
	ck_ok(changed("\"memory\":{", "\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}],\"memory\":{"));
	ck_ok(changed("\"linux\":{", "\"linux\":{\"personality\":{\"domain\":\"LINUX\"},"));
	ck_ok(changed("\"linux\":{", "\"fieldOfTomorrow\":[1],\"linux\":{"));
	ck_refused(parse("[]", 2), EINVAL, "config.json: not a JSON object");
	ck_refused(parse("", 0), EINVAL, "config.json");
}
END_TEST

/* What is the host's alone is told, and no error. */
START_TEST(without_effect)
{
	const struct json *process;
	size_t i = 0;

	ck_ok(parse(good, strlen(good)));
	ck_assert_ptr_null(oci_process_ignored(json_get(c.doc.root, "process"), &i));
	ck_ok(changed("\"process\":{", "\"process\":{\"selinuxLabel\":\"\",\"apparmorProfile\":\"x\","));
	process = json_get(c.doc.root, "process");
	i = 0;
	ck_assert_ptr_eq(oci_process_ignored(process, &i), json_get(process, "apparmorProfile"));
	ck_assert_ptr_null(oci_process_ignored(process, &i));
}
END_TEST

#define OWN "{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},"
#define MINE "\"annotations\":{\"org.uvm.memory\":\"512M\"}"

/* A pod's: namespaces in place of OWN, and the container's type with the keys' prefix. */
static int pod(const char *namespaces, const char *type)
{
	char *text, *at;
	int r;

	ck_that(asprintf(&text, "%.*s%s%s", (int)(strstr(good, OWN) - good), good, namespaces,
			 strstr(good, OWN) + strlen(OWN)) > 0);
	at = strstr(text, MINE);
	ck_that(at != NULL);
	*at = '\0';
	ck_that(asprintf(&at, "%s\"annotations\":{%s}}", text, type) > 0);
	r = parse(at, strlen(at));
	free(at);
	free(text);
	return r;
}

START_TEST(pods)
{
	static const char containerd[] = "\"io.kubernetes.cri.container-type\":\"container\","
					 "\"io.kubernetes.cri.sandbox-id\":\"box\"";
	static const char crio[] = "\"io.kubernetes.cri-o.SandboxID\":\"box\","
				   "\"io.kubernetes.cri-o.ContainerType\":\"container\"";
	static const char sandbox[] = "\"io.kubernetes.cri.container-type\":\"sandbox\","
				      "\"io.kubernetes.cri.sandbox-id\":\"box\"";
	static const char joined[] = "{\"type\":\"pid\"},{\"type\":\"ipc\",\"path\":\"/i\"},"
				     "{\"type\":\"uts\",\"path\":\"/u\"},{\"type\":\"cgroup\",\"path\":\"/c\"},";

	ck_ok(pod(OWN, containerd)); /* its network has a path */
	ck_assert_str_eq(c.sandbox, "box");
	ck_assert_uint_eq(c.spec.pod_namespaces, 0);
	ck_assert_uint_eq(c.spec.new_namespaces, AGENT_NS_MOUNT | AGENT_NS_PID | AGENT_NS_IPC | AGENT_NS_UTS);
	ck_assert_str_eq(c.spec.hostname, "box");
	ck_assert_str_eq(c.spec.mounts[2].type, "tmpfs");
	ck_ok(pod(joined, crio));
	ck_assert_str_eq(c.sandbox, "box");
	ck_assert_str_eq(c.ipc, "/i");
	ck_assert_uint_eq(c.spec.pod_namespaces, AGENT_NS_IPC | AGENT_NS_UTS | AGENT_NS_CGROUP);
	ck_assert_uint_eq(c.spec.new_namespaces, AGENT_NS_MOUNT | AGENT_NS_PID);
	/* What is the pod's is the sandbox's to say. */
	ck_assert(!c.spec.hostname);
	ck_assert_uint_eq(c.spec.mounts[2].flags, MS_BIND | MS_NOSUID);
	ck_assert(c.spec.mounts[2].of_pod && !c.spec.mounts[3].of_pod);
	ck_assert_str_eq(c.spec.mounts[3].source, "root/etc/hosts");
	ck_ok(oci_config_set_share(&c, "root/proc/0123", &e));
	ck_assert_str_eq(c.spec.mounts[3].source, "root/proc/0123/etc/hosts");
	ck_assert_str_eq(c.bind[0].share, c.spec.mounts[3].source);
	/* A sandbox is nobody's; what others have made for it may be its IPC, not its processes. */
	ck_assert_int_lt(pod(joined, sandbox), 0);
	ck_ok(pod("{\"type\":\"pid\"},{\"type\":\"ipc\",\"path\":\"/i\"},{\"type\":\"uts\"},", sandbox));
	ck_assert(!c.sandbox && c.is_sandbox);
	ck_assert_uint_eq(c.spec.pod_namespaces, 0);
	ck_assert_uint_ne(c.spec.new_namespaces & AGENT_NS_IPC, 0);
	/* Without annotations nothing is joined. */
	ck_assert_int_lt(pod(joined, "\"a\":\"b\""), 0);
	ck_assert_int_lt(pod(joined, "\"io.kubernetes.cri.sandbox-id\":\"\""), 0);
	ck_refused(pod("{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"time\",\"path\":\"/t\"},", crio), EINVAL,
		   "linux.namespaces[3]");
}
END_TEST

START_TEST(user_namespace)
{
	ck_ok(changed("\"linux\":{\"cgroupsPath\":\"/a/b\",\"namespaces\":[",
		      "\"linux\":{\"rootfsPropagation\":\"rslave\","
		      "\"uidMappings\":[{\"containerID\":1,\"hostID\":7,\"size\":9},{\"containerID\":0,\"hostID\":100000,\"size\":1}],"
		      "\"gidMappings\":[{\"containerID\":0,\"hostID\":200000,\"size\":65536}],\"namespaces\":[{\"type\":\"user\"},"));
	ck_assert_uint_eq(c.spec.new_namespaces & AGENT_NS_USER, AGENT_NS_USER);
	ck_assert_uint_eq(c.spec.root.propagation, MS_SLAVE);
	ck_assert_uint_eq(c.spec.id_map_count, 3);
	ck_assert_uint_eq(c.spec.id_maps[1].outside, 100000);
	ck_assert_uint_eq(c.spec.id_maps[1].gid, 0);
	ck_assert_uint_eq(c.spec.id_maps[2].count, 65536);
	ck_assert_uint_eq(c.spec.id_maps[2].gid, 1);
}
END_TEST

static int settings(struct oci_settings *s, const char *file, const char *annotations)
{
	static struct json_doc d; /* its strings are looked at */

	json_free(&d);
	oci_settings_free(s);
	if (file)
		tmp_file("config", file, strlen(file));
	else
		unlink(tmp_path("config"));
	ck_ok(json_parse(&d, annotations, strlen(annotations), "annotations", &e));
	return oci_settings_load(s, tmp_path("config"), d.root, &e);
}

START_TEST(settings_read)
{
	struct oci_settings s = {0};

	ck_ok(settings(&s, NULL, "{\"other\":\"x\"}"));
	ck_assert(!s.kernel && !s.template && !s.memory && !s.cpus && !s.erofs && !s.scratch);
	ck_ok(settings(&s, "# all of it\n\n kernel = /k # one\nmemory=1G\n\tcpus = 3\nrootfs = erofs\nscratch = 2G\ntemplate=/t", "{}"));
	ck_assert_str_eq(s.kernel, "/k");
	ck_assert_str_eq(s.template, "/t");
	ck_assert_str_eq(s.scratch, "2G");
	ck_assert_uint_eq(s.memory, 1ull << 30);
	ck_assert_uint_eq(s.cpus, 3);
	ck_assert(s.erofs);
	/* An annotation takes the place of the file's. */
	ck_ok(settings(&s, "memory = 1G\nrootfs = erofs\n", "{\"org.uvm.memory\":\"512M\",\"org.uvm.rootfs\":\"share\"}"));
	ck_assert_uint_eq(s.memory, 512ull << 20);
	ck_assert(!s.erofs);
	ck_refused(settings(&s, "memory = 1G\nmemry = 2G\n", "{}"), EINVAL, "config:2: memry: there is no such key");
	ck_refused(settings(&s, "memory\n", "{}"), EINVAL, "config:1: this is not KEY = VALUE");
	ck_refused(settings(&s, "memory = much\n", "{}"), EINVAL, "config:1: memory: 'much' is not a size");
	ck_refused(settings(&s, "kernel = k\n", "{}"), EINVAL, "not an absolute path");
	ck_refused(settings(&s, NULL, "{\"org.uvm.rootfs\":\"ext4\"}"), EINVAL,
		   "annotation org.uvm.rootfs: 'ext4' is neither");
	ck_refused(settings(&s, NULL, "{\"org.uvm.memry\":\"1G\"}"), EINVAL, "no such key");
	oci_settings_free(&s);
}
END_TEST

START_TEST(settings_of_a_pod)
{
	struct oci_settings s = {0};

	ck_ok(settings(&s, NULL, "{\"io.kubernetes.cri.sandbox-memory\":\"123456789\","
				 "\"io.kubernetes.cri.sandbox-cpu-quota\":\"-1\",\"io.kubernetes.cri.sandbox-cpu-period\":\"50000\"}"));
	ck_assert_uint_eq(s.pod_memory, 123456789);
	ck_assert_int_eq(s.pod_quota, -1);
	ck_assert_uint_eq(s.pod_period, 50000);
	ck_ok(settings(&s, NULL, "{\"io.kubernetes.cri.sandbox-memory\":\"-5\"}"));
	ck_assert_uint_eq(s.pod_memory, 0);
	ck_refused(settings(&s, NULL, "{\"io.kubernetes.cri.sandbox-memory\":\"1G\"}"), EINVAL, "is no number");
	ck_refused(settings(&s, NULL, "{\"io.kubernetes.cri.sandbox-cpu-quota\":\"99999999999999999999\"}"), EINVAL, "is no number");
	oci_settings_free(&s);
}
END_TEST

START_TEST(sizes)
{
	static struct oci_resources r;
	struct oci_settings s = {0};
	struct template t = {0};

	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.memory, OCI_MEMORY_DEFAULT);
	ck_assert_uint_eq(t.cpus, 1);
	r.memory = OCI_MEMORY_DEFAULT - OCI_OVERHEAD;
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.memory, OCI_MEMORY_DEFAULT);
	r.memory++;
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.memory, 2 * OCI_MEMORY_DEFAULT);
	s.memory = OCI_MEMORY_DEFAULT;
	ck_refused(oci_settings_size(&s, &r, &t, &e), EINVAL, "too small for linux.resources.memory.limit");
	s.memory = 300ull << 20;
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.memory, 300ull << 20);
	r.memory = UINT64_MAX / 2;
	ck_refused(oci_settings_size(&s, &r, &t, &e), EINVAL, "linux.resources.memory.limit");
	r.memory = 0;
	s.cpus = 2;
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.cpus, 2);
	/* A pod's limits, which its sandbox is told. */
	s = (struct oci_settings){.pod_memory = OCI_MEMORY_DEFAULT, .pod_quota = 1, .pod_period = 1};
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_eq(t.memory, 2 * OCI_MEMORY_DEFAULT);
	ck_assert_uint_eq(t.cpus, 1);
	s.pod_memory = INT64_MAX;
	ck_refused(oci_settings_size(&s, &r, &t, &e), EINVAL, "more than a VM can have");
	s = (struct oci_settings){0};
	s.cpus = 99;
	ck_refused(oci_settings_size(&s, &r, &t, &e), EINVAL, "the size of the VM");
	/* No more of them than there are. */
	s.cpus = 0;
	r.cpu_count = 1000000;
	ck_ok(oci_settings_size(&s, &r, &t, &e));
	ck_assert_uint_ge(t.cpus, 1);
	ck_assert_uint_le(t.cpus, 32);
}
END_TEST

/* A root is in its bundle, unless the caller says where else. */
START_TEST(root_paths)
{
	char path[PATH_MAX], outside[PATH_MAX];
	const char *bundle = tmp_path("bundle");

	snprintf(outside, sizeof(outside), "%s", tmp_path("outside"));
	ck_that(!mkdir(bundle, 0700) && !mkdir(outside, 0700));
	ck_that(!mkdir(tmp_path("bundle/in"), 0700) && !symlink("in", tmp_path("bundle/link")) &&
		!symlink("../outside", tmp_path("bundle/out")) &&
		!symlink(outside, tmp_path("bundle/far")));
	ck_ok(oci_rootfs_path(path, bundle, "in", &e));
	ck_assert_ptr_nonnull(strstr(path, "/bundle/in"));
	ck_ok(oci_rootfs_path(path, bundle, "link", &e));
	ck_ok(oci_rootfs_path(path, bundle, outside, &e));
	ck_assert_str_eq(path, outside);
	ck_refused(oci_rootfs_path(path, bundle, "../outside", &e), EXDEV, "leads out of the bundle");
	ck_refused(oci_rootfs_path(path, bundle, "out", &e), EXDEV, "leads out of the bundle");
	ck_refused(oci_rootfs_path(path, bundle, "far", &e), EXDEV, "leads out of the bundle");
	ck_refused(oci_rootfs_path(path, bundle, "no", &e), ENOENT, "root.path no");
	ck_refused(oci_rootfs_path(path, bundle, "/no/such", &e), ENOENT, "root.path /no/such");
	ck_refused(oci_rootfs_path(path, bundle, "/dev/null", &e), ENOTDIR, "root.path /dev/null");
}
END_TEST

START_TEST(limits)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	fputs("\"additionalGids\":[0", out);
	for (int i = 0; i < 64; i++)
		fputs(",1", out);
	fclose(out);
	ck_refused(changed("\"additionalGids\":[5,6", text), EINVAL, "more than 64 groups");
	free(text);
	out = open_memstream(&text, &size);
	fputs("\"devices\":[", out);
	for (int i = 0; i < 200; i++)
		fputs("{\"allow\":true},", out);
	fputs("{\"allow\":false", out);
	fclose(out);
	ck_refused(changed("\"devices\":[{\"allow\":false", text), EINVAL,
		   "more than 128 rules");
	free(text);
}
END_TEST

/* Every truncation and every changed byte ends in a parse or an error. */
START_TEST(damaged)
{
	size_t len = strlen(good);
	char *copy = strdup(good);

	for (size_t i = 0; i < len; i++)
		ck_that(parse(good, i) < 0);
	for (size_t i = 0; i < len; i++) {
		copy[i] = (char)(copy[i] ^ (1 << i % 7));
		parse(copy, len);
		copy[i] = good[i];
	}
	free(copy);
}
END_TEST

static int options(struct mount_options *o, const char *text)
{
	struct json_doc d;
	int r;

	ck_ok(json_parse(&d, text, strlen(text), "options", &e));
	r = mount_options_parse(o, d.root, &e);
	json_free(&d);
	return r;
}

START_TEST(mount_words)
{
	struct mount_options o;

	ck_ok(options(&o, "[\"ro\",\"rw\",\"nodev\",\"noatime\",\"relatime\",\"x=1\",\"y\",\"\"]"));
	ck_assert_uint_eq(o.flags, MS_NODEV);
	ck_assert_str_eq(o.data, "x=1,y");
	ck_ok(options(&o, "[\"rslave\",\"rprivate\",\"tmpcopyup\"]"));
	ck_assert_uint_eq(o.flags, MS_PRIVATE);
	ck_assert_str_eq(o.data, "");
	ck_assert(o.copy_up);
	ck_refused(options(&o, "[\"remount\"]"), EINVAL, "remount");
	ck_refused(options(&o, "[1]"), EINVAL, "[0] is not a string");
	for (size_t i = 0; mount_options_name(i); i++)
		ck_assert(i < 100);
}
END_TEST

static const char *resources(struct oci_resources *r, const char *text, const char *file)
{
	static struct json_doc d; /* its strings are looked at */

	json_free(&d);
	*r = (struct oci_resources){0};
	ck_ok(json_parse(&d, text, strlen(text), "resources", &e));
	ck_ok(oci_resources_parse(r, d.root, &e));
	return value(r, file);
}

START_TEST(limits_converted)
{
	static struct oci_resources r;

	ck_assert_str_eq(resources(&r, "{}", "x"), "(none)");
	ck_assert_uint_eq(r.values, 0);
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"shares\":2}}", "cpu.weight"), "1");
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"shares\":1}}", "cpu.weight"), "1");
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"shares\":9999999}}", "cpu.weight"), "10000");
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"quota\":-1,\"period\":7}}", "cpu.max"), "max 7");
	ck_assert_str_eq(resources(&r, "{\"memory\":{\"limit\":-1}}", "memory.max"), "max");
	ck_assert_uint_eq(r.memory, 0);
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"quota\":250000}}", "cpu.max"), "250000 100000");
	ck_assert_uint_eq(r.cpu_count, 3);
	ck_assert_str_eq(resources(&r, "{\"cpu\":{\"burst\":7,\"idle\":1}}", "cpu.max.burst"), "7");
	ck_assert_str_eq(value(&r, "cpu.idle"), "1");
	ck_assert_str_eq(resources(&r, "{\"memory\":{\"limit\":0,\"swap\":0}}", "memory.max"),
			 "(none)");
}
END_TEST

static const char *cgroup(const char *text)
{
	static char path[PATH_MAX];

	return oci_cgroup_path(path, text, &e) ? "(none)" : path;
}

START_TEST(cgroup_paths)
{
	ck_assert_str_eq(cgroup("/a/b"), "/sys/fs/cgroup/a/b");
	ck_assert_str_eq(cgroup("a"), "/sys/fs/cgroup/a");
	ck_assert_str_eq(cgroup("machine.slice:libpod:12"),
			 "/sys/fs/cgroup/machine.slice/libpod-12.scope");
	ck_assert_str_eq(cgroup("a-b-c.slice:cri:x"),
			 "/sys/fs/cgroup/a.slice/a-b.slice/a-b-c.slice/cri-x.scope");
	ck_assert_str_eq(cgroup(":p:x"), "/sys/fs/cgroup/system.slice/p-x.scope");
	ck_assert_str_eq(cgroup("/a/../../b"), "(none)");
	ck_assert_str_eq(cgroup(".."), "(none)");
	ck_assert_str_eq(cgroup("a:b"), "(none)");
	ck_assert_str_eq(cgroup("a:b:"), "(none)");
	ck_assert_str_eq(cgroup("x.slice:../../b:c"), "(none)");
}
END_TEST

static int state(struct oci_state *s, const char *text)
{
	*s = (struct oci_state){0};
	return oci_state_parse(s, text, strlen(text), &e);
}

START_TEST(state_file)
{
	struct oci_state s;

	ck_ok(state(&s, "{\"format\":2,\"bundle\":\"/b\",\"rootfs\":\"/r\",\"annotations\":{\"a\":\"b\"}}"));
	ck_assert_str_eq(s.bundle, "/b");
	ck_assert(!s.cgroup && s.annotations);
	json_free(&s.doc);
	ck_refused(state(&s, "{\"format\":9,\"bundle\":\"/b\",\"rootfs\":\"/r\"}"), EINVAL,
		   "another version");
	ck_refused(state(&s, "{\"bundle\":\"/b\",\"rootfs\":\"/r\"}"), EINVAL, "another version");
	ck_refused(state(&s, "{\"format\":2,\"rootfs\":\"/r\"}"), EINVAL, "bundle is missing");
	ck_refused(state(&s, "{\"format\":2,\"bundle\":\"/b"), EINVAL, STATE_FILE);
	ck_refused(state(&s, "{\"format\":2,\"bundle\":\"/b\",\"rootfs\":[]}"), EINVAL, "rootfs");
	ck_ok(state(&s, "{\"format\":2,\"bundle\":\"/b\",\"rootfs\":\"/r\",\"sandbox\":\"box\",\"tree\":\"00ff\"}"));
	ck_assert_str_eq(s.sandbox, "box");
	json_free(&s.doc);
	ck_refused(state(&s, "{\"format\":2,\"bundle\":\"/b\",\"rootfs\":\"/r\",\"sandbox\":\"box\"}"), EINVAL, "tree");
	ck_refused(state(&s, "{\"format\":2,\"bundle\":\"/b\",\"rootfs\":\"/r\",\"sandbox\":\"box\",\"tree\":\"..\"}"), EINVAL, "tree");
	ck_refused(oci_state_open(&s, "../x", &e), ENOENT, "container does not exist");
	ck_refused(oci_state_open(&s, "", &e), ENOENT, "container does not exist");
}
END_TEST

static int save(const struct rundir *vm, const char *cgroup)
{
	struct oci_state s = {.bundle = "/b", .rootfs = "/r", .cgroup = cgroup};

	return oci_state_save(vm, &s, &e);
}

/* A container whose VM is not there, or half made. */
START_TEST(state_without_a_vm)
{
	struct oci_state s;
	struct rundir vm;
	char *text;
	size_t size;
	FILE *out;

	setenv("UVM_RUN", tmp_path("run"), 1);
	ck_refused(oci_state_open(&s, "a", &e), ENOENT, "container does not exist");
	ck_ok(rundir_create(&vm, "a", &e));
	ck_refused(oci_state_open(&s, "a", &e), ENOENT, "container does not exist");
	ck_assert(!oci_state_exists("a"));
	ck_ok(save(&vm, "/c"));
	ck_assert(oci_state_exists("a"));
	ck_ok(oci_state_open(&s, "a", &e));
	ck_assert_int_eq(s.status, OCI_CREATING);
	ck_assert_str_eq(s.cgroup, "/c");
	oci_state_close(&s);
	/* From then on it stays, whatever becomes of it. */
	ck_ok(oci_state_made(&vm, &e));
	ck_ok(oci_state_open(&s, "a", &e));
	ck_assert_int_eq(s.status, OCI_CREATED);
	oci_state_close(&s);
	rundir_remove(&vm);
	ck_ok(oci_state_open(&s, "a", &e));
	ck_assert_int_eq(s.status, OCI_STOPPED);
	ck_assert_int_eq(s.pid, 0);
	out = open_memstream(&text, &size);
	oci_state_print(&s, out);
	fclose(out);
	ck_assert_ptr_nonnull(strstr(text, "\"id\":\"a\",\"pid\":0,\"status\":\"stopped\""));
	free(text);
	ck_ok(rundir_forget(&s.vm, &e));
	json_free(&s.doc);
	ck_assert(!oci_state_exists("a"));
}
END_TEST

static void overwrite(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* Which process a container's is, whatever its monitor writes, and until that ends. */
START_TEST(state_of_a_process)
{
	struct rundir vm;
	struct oci_state s;
	char text[64];
	pid_t child, pid = 0;
	int fd, go[2];

	setenv("UVM_RUN", tmp_path("run"), 1);
	ck_ok(rundir_create(&vm, "p", &e));
	ck_ok(save(&vm, NULL));
	ck_assert_int_eq(oci_state_process(&vm, &pid), -ENOENT);
	ck_that(!pipe(go));
	child = fork();
	if (!child) {
		if (oci_state_save_process(&vm, &e) || write(go[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	ck_that(read(go[0], text, 1) == 1);
	fd = oci_state_process(&vm, &pid);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pid, child);
	close(fd);
	/* What a taken-over monitor can write, and that it lets go of its lock. */
	ck_ok(oci_state_made(&vm, &e));
	snprintf(text, sizeof(text), "%d\n", (int)getppid());
	overwrite(tmp_path("run/p/pid"), text);
	overwrite(tmp_path("run/p/oci.json"), "{\"format\":2,\"bundle\":\"/x\",\"rootfs\":\"/x\",\"cgroup\":\"/x\"}");
	ck_that(!mkfifo(tmp_path("run/p/paused"), 0600));
	ck_that(!flock(vm.lock, LOCK_UN));
	ck_ok(oci_state_open(&s, "p", &e));
	ck_assert_int_eq(s.pid, child);
	ck_assert_int_eq(s.status, OCI_CREATED);
	ck_assert_str_eq(s.bundle, "/b");
	ck_assert(!s.cgroup);
	ck_ok(oci_state_set_paused(&s, true, &e));
	oci_state_close(&s);
	/* Its number is another's by now, or it is there and not reaped. */
	snprintf(text, sizeof(text), "%d 1\n", (int)child);
	overwrite(tmp_path("run/.own-p/process"), text);
	ck_assert_int_eq(oci_state_process(&vm, NULL), -ESRCH);
	overwrite(tmp_path("run/.own-p/process"), "1 1\n");
	ck_assert_int_eq(oci_state_process(&vm, NULL), -ENOENT);
	unlink(tmp_path("run/.own-p/process"));
	ck_that(!kill(child, SIGKILL));
	ck_that(waitpid(child, NULL, 0) == child);
	ck_ok(oci_state_save_process(&vm, &e));
	fd = oci_state_process(&vm, &pid);
	ck_assert_int_eq(pid, getpid());
	close(fd);
}
END_TEST

START_TEST(log_forms)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	log_put(out, true, LOG_ERROR, NULL, "exec: \"x\": a\nb", 0);
	log_put(out, false, LOG_WARN, NULL, "a \"b\" c\\d", 1);
	fclose(out);
	ck_assert_str_eq(text, "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": a\\u000ab\","
			       "\"time\":\"1970-01-01T00:00:00Z\"}\n"
			       "time=\"1970-01-01T00:00:01Z\" level=warning msg=\"a \\\"b\\\" c\\\\d\"\n");
	free(text);
	log_add(tmp_path("log"), true, LOG_ERROR, "one");
	log_add(tmp_path("log"), true, LOG_ERROR, "two");
	ck_assert_ptr_nonnull(strstr(file_text(tmp_path("log"), &size), "one"));
	ck_assert_ptr_nonnull(strstr(file_text(tmp_path("log"), &size), "two"));
	log_add("/no/such/file", true, LOG_ERROR, "lost");
}
END_TEST

/* "uvm " and words with blanks between. */
static bool wanted(const char *line)
{
	static char text[512];
	char *argv[32] = {text}, *p = text;
	int argc = 0;

	snprintf(text, sizeof(text), "uvm %s", line);
	while ((argv[argc] = strtok_r(argc ? NULL : text, " ", &p)))
		argc++;
	return shim_wanted(argc, argv);
}

START_TEST(which_command)
{
	struct rundir vm;

	setenv("UVM_RUN", tmp_path("run"), 1);
	ck_ok(rundir_create(&vm, "oci", &e));
	ck_ok(save(&vm, NULL));
	ck_assert(wanted("create --bundle /b --pid-file /p x"));
	ck_assert(wanted("create x --bundle=/b"));
	ck_assert(wanted("create --no-such-option"));
	ck_assert(wanted("--root /r --log /l --log-format=json state x"));
	ck_assert(wanted("--systemd-cgroup kill x"));
	ck_assert(wanted("state x") && wanted("delete --force x") && wanted("start x"));
	ck_assert(wanted("update --resources - x") && wanted("events --stats x"));
	ck_assert(wanted("features"));
	ck_assert(wanted("exec --pid-file f --process p --detach x"));
	ck_assert(wanted("exec --process p x"));
	ck_assert(wanted("ps --format json x") && wanted("ps x"));
	ck_assert(wanted("kill oci 15") && wanted("kill oci") && wanted("kill --all oci KILL"));
	ck_assert(wanted("pause oci") && wanted("resume oci"));
	ck_assert(wanted("pause --root /r x"));

	ck_assert(!wanted("kill x 15") && !wanted("kill x") && !wanted("kill -s TERM oci"));
	ck_assert(!wanted("pause x") && !wanted("resume x") && !wanted("ps") && !wanted("ps --json"));
	ck_assert(!wanted("exec oci -- sh -c x") && !wanted("exec -t oci sh"));
	ck_assert(!wanted("exec x -- sh --process p"));
	ck_assert(!wanted("run -d x") && !wanted("boot --kernel k") && !wanted("--version"));
	ck_assert(!wanted("") && !wanted("--rootless create x") && !wanted("kill"));
	rundir_remove(&vm);
}
END_TEST

/* Returns the status; e has the message. */
static int runs(const char *line)
{
	static char text[512];
	char *argv[32] = {text}, *p = text;
	int argc = 0;

	e.text[0] = 0;
	snprintf(text, sizeof(text), "uvm %s", line);
	while ((argv[argc] = strtok_r(argc ? NULL : text, " ", &p)))
		argc++;
	return shim_run(argc, argv, &e);
}

START_TEST(failures)
{
	char line[512];
	size_t len;

	snprintf(line, sizeof(line), "--root %s/r --log=%s --log-format json state nobody",
		 tmp_path("x"), tmp_path("log"));
	ck_assert_int_eq(runs(line), 1);
	snprintf(line, sizeof(line),
		 "container does not exist: there is no 'nobody' in %s/r; --root names another directory", tmp_path("x"));
	ck_assert_str_eq(e.text, line);
	ck_assert_ptr_nonnull(strstr(file_text(tmp_path("log"), &len),
				     "{\"level\":\"error\",\"msg\":\"container does not exist: there is no "));
	snprintf(line, sizeof(line), "delete --root=%s nobody --force --log %s", tmp_path("x"),
		 tmp_path("log2"));
	ck_assert_int_eq(runs(line), 0);
	ck_assert_str_eq(e.text, "");
	ck_assert_int_ne(runs("--root /r"), 0);
	ck_assert_str_eq(e.text, "a command is missing; 'uvm help' lists them");
	ck_assert_int_ne(runs("--log-format xml state x"), 0);
	ck_assert_str_eq(e.text, "--log-format: 'xml' is neither 'text' nor 'json'");
	ck_assert_int_ne(runs("--root /r run x"), 0);
	ck_assert_str_eq(e.text, "'run' is no command of an OCI runtime; 'uvm help' lists them");
	ck_assert_int_ne(runs("create --bundel x y"), 0);
	ck_assert_str_eq(e.text, "unknown option '--bundel'; see 'uvm help create'");
	ck_assert_int_ne(runs("create"), 0);
	snprintf(line, sizeof(line), "--root %s create --bundle %s x", tmp_path("x"), tmp_path(""));
	ck_assert_int_ne(runs(line), 0);
	ck_assert_ptr_nonnull(strstr(e.text, "config.json"));
}
END_TEST

START_TEST(pid_file)
{
	size_t len;

	ck_ok(shim_write_pid(tmp_path("pid"), 1234, &e));
	ck_assert_str_eq(file_text(tmp_path("pid"), &len), "1234");
	ck_refused(shim_write_pid("/no/such/pid", 1, &e), ENOENT, "/no/such/pid");
}
END_TEST

/* A hook of the host's that is a line of shell, with the temporary directory as its own. */
static int hook(const char *line, const char *more)
{
	struct json_doc d;
	char *text;
	int r;

	ck_that(asprintf(&text, "{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"%s\"],"
				"\"env\":[\"A=b c\",\"PATH=/bin:/usr/bin\"]%s}]}",
			 line, more) > 0);
	ck_ok(json_parse(&d, text, strlen(text), "hooks", &e));
	ck_ok(oci_hooks_check(d.root, &e));
	ck_assert(oci_hooks_any(d.root, OCI_PRESTART) && !oci_hooks_any(d.root, OCI_POSTSTOP));
	ck_ok(oci_hooks_run(d.root, OCI_POSTSTOP, "x", tmp, &e));
	r = oci_hooks_run(d.root, OCI_PRESTART, "the state", tmp, &e);
	json_free(&d);
	free(text);
	return r;
}

START_TEST(hooks_run)
{
	const char *second = "},{\"path\":\"/bin/touch\",\"args\":[\"touch\",\"second\"]";
	uint64_t began = now_ns();
	size_t len;

	ck_ok(hook("cat >said; echo $A $HOME. >>said", second));
	ck_assert_str_eq(file_text(tmp_path("said"), &len), "the stateb c .\n");
	ck_that(!unlink(tmp_path("second")));
	/* The first that fails is the last. */
	ck_refused(hook("echo one; echo two >&2; echo three >&2; exit 7", second), ECANCELED,
		   "hooks.prestart: /bin/sh: exit status 7: two?three");
	ck_refused(hook("kill -9 $$", second), ECANCELED, "killed by signal 9");
	ck_that(access(tmp_path("second"), F_OK));
	ck_refused(hook("sleep 1000 & sleep 1000", ",\"timeout\":1"), ETIMEDOUT, "not ended after 1 s");
	ck_assert_uint_lt(now_ns() - began, UINT64_C(100000000000));
	ck_ok(hook("head -c 300000 /dev/zero >&2", "")); /* nobody reads that meanwhile */
}
END_TEST

START_TEST(hooks_of_the_guest)
{
	struct json_doc d;
	struct container_hook *list;
	size_t n;
	static const char text[] =
		"{\"startContainer\":[{\"path\":\"/a\",\"timeout\":2},{\"path\":\"/b\",\"args\":[\"x\",\"y\"],\"env\":[\"C=d\"]}]}";

	ck_ok(json_parse(&d, text, strlen(text), "hooks", &e));
	ck_ok(oci_hooks_guest(d.root, &list, &n, &e));
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(list[0].path, "/a");
	ck_assert_str_eq(list[0].argv[0], "/a");
	ck_assert_uint_eq(list[0].timeout_ms, 2000);
	ck_assert_str_eq(list[1].argv[1], "y");
	ck_assert_str_eq(list[1].envp[0], "C=d");
	ck_assert_uint_eq(oci_hooks_guest_ms(d.root), 3602000);
	oci_hooks_free(list, n);
	json_free(&d);
	ck_ok(oci_hooks_guest(NULL, &list, &n, &e));
	ck_assert_uint_eq(n, 0);
	oci_hooks_free(list, n);
}
END_TEST

int main(void)
{
	const TTest *const config[] = {everything, refusals, limits, damaged, mount_words,
				       limits_converted, cgroup_paths, state_file, without_effect,
				       user_namespace, pods, sizes};
	const TTest *const files[] = {state_without_a_vm, state_of_a_process, log_forms, which_command, failures, pid_file,
				      settings_read, settings_of_a_pod, root_paths, hooks_run, hooks_of_the_guest};
	const struct test_group groups[] = {
		{config, ARRAY_SIZE(config), NULL, teardown},
		{files, ARRAY_SIZE(files), tmp_setup, tmp_teardown},
	};

	return run_groups("oci", groups, ARRAY_SIZE(groups));
}
