/* SPDX-License-Identifier: Apache-2.0
 *
 * protocol: what the host and the guest's agent say to each other.
 *
 * All that both share but netlink.h. docs/agent-protocol.md explains it: who sends what when,
 * the limits, and what happens on errors. Everything is little-endian, naturally aligned and
 * without padding; the assertions below pin every offset, so a change that breaks an old peer
 * breaks the build. A payload's layout never changes within a version: new needs get new types.
 *
 * Includes nothing of ours.
 */
#ifndef UVM_GUEST_PROTOCOL_H
#define UVM_GUEST_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT    1024u	  /* vsock: the agent listens here; its link goes to the host's */
#define AGENT_MAGIC   0x416d7675u /* "uvmA" as bytes */
#define AGENT_VERSION 3u

/* Limits. A message beyond them is refused by its header alone. */
#define AGENT_EXEC_MAX	    (128u << 10) /* bytes of an EXEC's or CREATE's payload */
#define AGENT_STRINGS_MAX   4096u	 /* argc + envc of a process */
#define AGENT_GROUPS_MAX    64u		 /* supplementary groups of a process */
#define AGENT_RLIMITS_MAX   16u		 /* resource limits of a process */
#define AGENT_FILTER_MAX    4096u  /* instructions of a process' seccomp filter, as Linux has it */
#define AGENT_PREPARE_MAX   8192u  /* bytes of a PREPARE's payload */
#define AGENT_UPDATE_MAX    8192u  /* bytes of an UPDATE's or MOUNT's payload */
#define AGENT_CONTAINERS    16u	   /* at a time */
#define AGENT_PROCESSES_MAX 512u   /* told of by PROCESSES */
#define AGENT_TEXT_MAX	    240u   /* bytes of an ERROR's text */
#define AGENT_DUMP_MAX	    57344u /* bytes of a DUMP's text */
#define AGENT_SESSIONS	    64u	   /* commands at a time */
#define AGENT_CONNECTIONS   256u   /* connections that are not (yet) a stream of a session */
#define AGENT_HANDSHAKE_MS  10000u /* how long either side may have to wait for an answer */
#define AGENT_FREEZE_MS	    2000u  /* how long the agent may take to stop every process */
#define AGENT_CMDLINE_MAX   8191u  /* bytes of a CMDLINE's text */
#define AGENT_NET_ADDRESSES 16u	   /* of an interface that a CMDLINE sets up */
#define AGENT_NET_ROUTES    32u
#define AGENT_HOSTNAME_MAX  64u	   /* bytes of a host name, as Linux has it */
#define AGENT_PLUG_WORDS    504u   /* bytes of a PLUG's words, with the NUL */
#define AGENT_DEVICE_NAME   32u	   /* bytes of the name of a guest's device, with the NUL */
#define AGENT_NAME_MAX	    64u	   /* bytes of a container's name: [A-Za-z0-9][A-Za-z0-9_.-]* */

/* Opens every message; length bytes of payload follow. */
struct agent_header {
	uint32_t magic;	  /* AGENT_MAGIC */
	uint16_t version; /* AGENT_VERSION */
	uint16_t type;	  /* enum agent_type */
	uint32_t length;  /* bytes of payload */
	uint32_t tag;	  /* any number; an answer carries its request's */
};

enum agent_type {
	/* To the agent. */
	AGENT_EXEC = 1,	    /* struct agent_exec and what follows it; ends in EXITED or ERROR */
	AGENT_ATTACH = 2,   /* struct agent_attach; the connection becomes a stream */
	AGENT_SIGNAL = 3,   /* struct agent_signal, after EXEC, CREATE or WAIT; not answered */
	AGENT_RESIZE = 4,   /* struct agent_resize, likewise; not answered */
	AGENT_PING = 5,	    /* nothing; answered by INFO */
	AGENT_SHUTDOWN = 6, /* struct agent_shutdown; answered by OK, then the guest ends */

	/* To the agent, on the link only. Each is answered by OK or ERROR, which leaves it open. */
	AGENT_FREEZE = 7,   /* nothing; OK: no process but the agent runs any more */
	AGENT_THAW = 8,	    /* nothing; they run again */
	AGENT_IDENTITY = 9, /* struct agent_identity: who the guest is from now on; thaws, too */
	AGENT_CMDLINE = 10, /* a text: words of the command line, before an IDENTITY */
	AGENT_PREPARE = 11, /* as CREATE: a container that will be wanted, see below; or nothing: none */

	/* To the agent, about containers. Where nothing else is said, the answer is OK. */
	AGENT_CREATE = 0x10, /* struct agent_create and records; CREATED, and after START STARTED
			      * and EXITED; NOTICEs in between. Its end leaves the container be */
	AGENT_START = 0x11,  /* struct agent_name: OK, when its program runs. Or nothing, after CREATE
			      * or WAIT: STARTED is the answer */
	AGENT_WAIT = 0x12,   /* struct agent_wait: the connection is from then on as after CREATE or
			      * EXEC. STARTED, unless it has not begun, and EXITED */
	AGENT_KILL = 0x13,   /* struct agent_kill */
	AGENT_DELETE = 0x14, /* struct agent_name: forgets a container whose process has ended */
	AGENT_PAUSE = 0x15,  /* struct agent_name */
	AGENT_RESUME = 0x16, /* struct agent_name */
	AGENT_UPDATE = 0x17, /* struct agent_name and AGENT_R_CGROUP records */
	AGENT_MOUNT = 0x18,  /* struct agent_name and AGENT_R_MOUNT records */
	AGENT_UNMOUNT = 0x19,	/* struct agent_name and a path with its NUL */
	AGENT_STATS = 0x1a,	/* struct agent_name, empty: the guest; answered by PROPERTIES */
	AGENT_PROCESSES = 0x1b, /* struct agent_name, empty: the guest; answered by PROCESS_LIST */
	AGENT_LIST = 0x1c,	/* nothing; answered by CONTAINER_LIST */
	AGENT_SET = 0x1d, /* struct agent_identity: clock, entropy, host name, ids, now; connections
			   * stay */
	AGENT_DUMP = 0x1e, /* nothing; OK, then a text of what the agent and the guest are doing,
			    * and the connection's end */

	/* To the agent, about devices that come to a running guest, and go. */
	AGENT_PLUG = 0x1f,   /* struct agent_plug: there is a device in a slot; answered by PLUGGED */
	AGENT_UNPLUG = 0x20, /* struct agent_unplug: it will go; answered by PLUGGED */

	/* From the agent. */
	AGENT_HELLO = 0x81,	   /* struct agent_info, opens the link: exec works from now on */
	AGENT_INFO = 0x82,	   /* struct agent_info */
	AGENT_OK = 0x83,	   /* nothing */
	AGENT_ERROR = 0x84,	   /* struct agent_error and a text; the agent closes after most */
	AGENT_STARTED = 0x85,	   /* struct agent_started: the program runs */
	AGENT_EXITED = 0x86,	   /* struct agent_exited; the agent closes after it */
	AGENT_CREATED = 0x87,	   /* struct agent_started: all is set up, START lets it begin */
	AGENT_NOTICE = 0x88,	   /* struct agent_notice: something happened to the container */
	AGENT_PROPERTIES = 0x89,   /* struct agent_properties */
	AGENT_PROCESS_LIST = 0x8a, /* struct agent_process, as many as there are */
	AGENT_CONTAINER_LIST = 0x8b, /* struct agent_container, as many as there are */
	AGENT_PLUGGED = 0x8c,	     /* struct agent_plugged */
};

/* Names a session. The client makes it from a good random source, so that streams can be opened
 * and attached without waiting for an answer to EXEC, and so that guests which were cloned from
 * one memory image never hand out the same one twice.
 */
struct agent_key {
	uint8_t bytes[16];
};

/* Streams of a session. A terminal is one stream both ways and excludes the others. */
enum agent_stream {
	AGENT_STDIN = 0,
	AGENT_STDOUT = 1,
	AGENT_STDERR = 2,
	AGENT_TTY = 3,
	AGENT_STREAMS = 4,
};

enum agent_exec_flags {
	AGENT_EXEC_USER = 1u << 0, /* uid, gid and groups count; else the process is root's */
	AGENT_EXEC_KEEP = 1u << 1, /* lives on when its control connection is lost, and its status
				    * is kept for WAIT. The process of a CREATE always does */
	AGENT_EXEC_CAPS = 1u << 2, /* caps count; else root has all, or all of its container */
	AGENT_EXEC_NO_NEW_PRIVS = 1u << 3,
	AGENT_EXEC_UMASK = 1u << 4, /* umask counts; else 022 */
	AGENT_EXEC_OOM = 1u << 5,   /* oom_score_adj counts; else 0 */
	AGENT_EXEC_LOG = 1u << 6,   /* the filter with SECCOMP_FILTER_FLAG_LOG */
	AGENT_EXEC_SPEC = 1u << 7,  /* the filter with SECCOMP_FILTER_FLAG_SPEC_ALLOW */
	AGENT_EXEC_NAMED = 1u << 8, /* a string names the user, and uid and gid do not count. Not
				     * together with USER; the groups come on top of its own */
	AGENT_EXEC_OWN = 1u << 9,   /* the program is one of the agent's: export, import, changes */
};

/* Sets of capabilities: bit n is Linux' capability n. */
struct agent_caps {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct agent_rlimit {
	uint32_t resource; /* Linux' number, RLIMIT_* */
	uint32_t zero;
	uint64_t soft, hard; /* UINT64_MAX: none */
};

/* A process. Followed by rlimit_count struct agent_rlimit, filter_count instructions of a seccomp
 * filter (struct sock_filter, 8 bytes each), group_count supplementary group ids (uint32_t) and
 * then by 1 + argc + envc strings, each with its NUL, nothing in between and nothing after: the
 * working directory (empty: "/"), the arguments, and the environment as NAME=value. With
 * AGENT_EXEC_NAMED there is one more, after the directory: "user" or "user:group", names or numbers,
 * looked up in the /etc/passwd and /etc/group that the process sees.
 */
struct agent_exec {
	struct agent_key key;
	uint32_t streams; /* 1 << enum agent_stream of each that will be attached */
	uint32_t flags;	  /* enum agent_exec_flags */
	uint32_t uid;
	uint32_t gid;
	uint16_t rows; /* of the terminal, or 0 */
	uint16_t cols;
	uint32_t umask;
	int32_t oom_score_adj;
	uint32_t group_count;
	uint32_t rlimit_count;
	uint32_t filter_count;
	uint32_t argc; /* at least 1 */
	uint32_t envc;
	struct agent_caps caps;
	char container[AGENT_NAME_MAX + 8]; /* in which it runs; ends in a NUL; empty: in none.
					     * Empty in the process of a CREATE */
};

/* Names a container; ends in a NUL. */
struct agent_name {
	char name[AGENT_NAME_MAX + 8];
};

/* Namespaces of a container. Bits are those of enum agent_namespace. */
enum agent_namespace {
	AGENT_NS_MOUNT = 1u << 0, /* always new */
	AGENT_NS_PID = 1u << 1,
	AGENT_NS_NET = 1u << 2,
	AGENT_NS_IPC = 1u << 3,
	AGENT_NS_UTS = 1u << 4,
	AGENT_NS_CGROUP = 1u << 5,
	AGENT_NS_USER = 1u << 6,
	AGENT_NS_TIME = 1u << 7,
};

enum agent_create_flags {
	AGENT_CREATE_START = 1u << 0, /* need not wait for START; no CREATED is sent */
	AGENT_CREATE_TIED = 1u << 1, /* is killed when its control connection is lost */
};

/* Followed by records. */
struct agent_create {
	char name[AGENT_NAME_MAX + 8];
	char hostname[AGENT_HOSTNAME_MAX + 8];	 /* of its UTS namespace; ends in a NUL; empty: the
						  * guest's */
	char domainname[AGENT_HOSTNAME_MAX + 8]; /* likewise */
	char pod[AGENT_NAME_MAX + 8]; /* the container whose namespaces it joins, or empty */
	uint32_t flags;		      /* enum agent_create_flags */
	uint32_t new_namespaces;      /* enum agent_namespace */
	uint32_t pod_namespaces;      /* enum agent_namespace; those in neither are the guest's */
	uint32_t zero;
};

/* Of a PREPARE's, what counts is the name, the namespaces, and the records of mounts, devices, rules about
 * devices, masked and read-only paths. A CREATE with the same of these, and perhaps more mounts, takes
 * what was prepared; the others are made as ever, and one of the same name has it dropped.
 */

/* Opens a record, at a multiple of 8 from the payload's begin. length bytes follow, and then zeros
 * up to the next multiple of 8. Strings in a record each have their NUL.
 */
struct agent_record {
	uint32_t type; /* enum agent_record_type */
	uint32_t length;
};

/* In any order; mounts are made in theirs. */
enum agent_record_type {
	AGENT_R_PROCESS = 1, /* struct agent_exec and what follows it; exactly one in a CREATE */
	AGENT_R_ROOT =
		2, /* struct agent_root and strings; at most one. None: the guest's own root */
	AGENT_R_MOUNT = 3,	 /* struct agent_mount and strings */
	AGENT_R_DEVICE = 4,	 /* struct agent_device and its path */
	AGENT_R_DEVICE_RULE = 5, /* struct agent_device_rule; the last that fits a device decides.
				  * With one of them, what fits none is denied */
	AGENT_R_MASKED = 6,	 /* a path that shall show nothing */
	AGENT_R_READONLY = 7,	 /* a path that shall not be written to */
	AGENT_R_SYSCTL = 8,	 /* name (with dots or slashes), value */
	AGENT_R_CGROUP =
		9, /* file of the container's cgroup, value; e.g. "memory.max", "1048576" */
	AGENT_R_ID_MAP = 10, /* struct agent_id_map, of the new user namespace */
	AGENT_R_HOOK = 11,   /* struct agent_hook and strings: a program of the container */
	AGENT_R_HOOK_STATE = 12, /* a text, what hooks get to read; at most one. None: the agent's */
	AGENT_R_GUEST_DEVICE = 13, /* struct agent_guest_device and a path in the guest: a rule about the
				    * device there, after all of DEVICE_RULE */
};

enum agent_root_flags {
	AGENT_ROOT_READONLY = 1u << 0, /* the container cannot write to it */
};

/* The container's root: lower, and above it what the container writes. Followed by three strings:
 * the lower's device ("/dev/vda"), its type ("erofs"), and what is above: "" (nothing: the root is
 * lower itself), "tmpfs" (of upper_size bytes at the most), or a device with an ext4 on it, where
 * the container has the directory of its name. A lower of the type "virtiofs" is named by its tag; with
 * nothing above it and not AGENT_ROOT_READONLY, it is what the container writes to.
 */
struct agent_root {
	uint64_t upper_size;  /* bytes; 0: half of the guest's memory */
	uint32_t flags;	      /* enum agent_root_flags */
	uint32_t propagation; /* MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE; 0: MS_PRIVATE */
};

/* As mount(2). Followed by four strings: source, target (a path in the container), type, data. For
 * MS_BIND the source is a path in the guest, not in the container, or one in the container to join; for a virtiofs it is the tag, and
 * may go on as a path in the share ("tag/dir/file"). The target is made when it is
 * missing: a directory, or a file where the source is no directory.
 */
enum agent_mount_options {
	AGENT_MOUNT_COPY_UP = 1u << 0, /* of a tmpfs in CREATE: it begins with what its target has in it */
	AGENT_MOUNT_POD = 1u << 1, /* of MS_BIND in CREATE: the source is what the pod's container has there */
};

struct agent_mount {
	uint64_t flags;	  /* MS_* of mount(2); propagation flags are applied afterwards */
	uint64_t options; /* enum agent_mount_options */
};

/* A device node to be made in the container, over what may be there. Followed by the path. */
struct agent_device {
	uint32_t type; /* 'c', 'b' or 'p' */
	uint32_t mode; /* 07777 */
	uint32_t major, minor;
	uint32_t uid, gid;
};

struct agent_device_rule {
	uint32_t allow;	      /* 0 or 1 */
	uint32_t type;	      /* 'c', 'b', or 'a' for both */
	int32_t major, minor; /* -1: any */
	uint32_t access;      /* 1: mknod, 2: read, 4: write; as BPF_DEVCG_ACC_* */
	uint32_t zero;
};

struct agent_guest_device {
	uint32_t access; /* that is allowed, as of a rule */
	uint32_t zero;
};

struct agent_id_map {
	uint32_t inside, outside, count;
	uint32_t gid; /* 0: of users, 1: of groups */
};

enum agent_hook_stage {
	AGENT_HOOK_CREATE = 1, /* OCI's createContainer: before the root is changed */
	AGENT_HOOK_START = 2,  /* OCI's startContainer: before the program begins */
};

/* Followed by 1 + argc + envc strings: the program's path, arguments, environment. Its standard
 * input is the container's state as the OCI runtime specification has it: AGENT_R_HOOK_STATE's, or what the
 * agent knows of it.
 */
struct agent_hook {
	uint32_t stage;	     /* enum agent_hook_stage */
	uint32_t timeout_ms; /* 0: AGENT_HANDSHAKE_MS */
	uint32_t argc, envc;
};

/* What to wait for: the process of a container, or, with an empty name, that of an EXEC with KEEP.
 */
struct agent_wait {
	struct agent_key key;
	struct agent_name container;
};

enum agent_kill_scope {
	AGENT_KILL_INIT = 0, /* the container's first process */
	AGENT_KILL_ALL = 1,  /* every process in it */
};

struct agent_kill {
	struct agent_name container;
	uint32_t signo;
	uint32_t scope; /* enum agent_kill_scope */
};

struct agent_attach {
	struct agent_key key;
	uint32_t stream; /* enum agent_stream */
	uint32_t zero;
};

enum agent_signal_scope {
	AGENT_SIGNAL_PROCESS = 0,
	AGENT_SIGNAL_GROUP = 1, /* the session's process group, as a terminal's ^C */
};

struct agent_signal {
	uint32_t signo; /* Linux' number, 1 to 64 */
	uint32_t scope; /* enum agent_signal_scope */
};

struct agent_resize {
	uint16_t rows;
	uint16_t cols;
};

enum agent_shutdown_mode {
	AGENT_POWEROFF = 1,
	AGENT_REBOOT = 2,
};

struct agent_shutdown {
	uint32_t mode; /* enum agent_shutdown_mode */
};

/* What a guest that was cloned from a memory image must not share with the others. */
struct agent_identity {
	uint64_t wall_ns;	/* CLOCK_REALTIME of the host, now */
	uint8_t entropy[64];	/* from a good random source, for this guest alone */
	uint8_t machine_id[16]; /* as random; the agent makes UUIDs of version 4 of both */
	uint8_t boot_id[16];
	uint32_t flags;			       /* 0 */
	char hostname[AGENT_HOSTNAME_MAX + 4]; /* ends in a NUL; empty: as it was */
};

/* Times are CLOCK_BOOTTIME of the guest in nanoseconds. */
struct agent_info {
	uint32_t sessions;    /* in use */
	uint32_t connections; /* in use, this one included */
	uint64_t uptime_ns;   /* now */
	uint64_t start_ns;    /* when the agent began */
	uint64_t ready_ns;    /* when it could run commands */
};

enum agent_error_kind {
	AGENT_REFUSED = 1, /* the request was not understood or not accepted */
	AGENT_NOT_RUN = 2, /* the command could not be started */
};

/* Followed by a text of up to AGENT_TEXT_MAX bytes without a NUL that says what failed; why
 * is in code.
 */
struct agent_error {
	uint32_t code; /* Linux' errno, as on x86 */
	uint32_t kind; /* enum agent_error_kind */
};

struct agent_started {
	uint32_t pid; /* in the guest */
};

enum agent_exit_kind {
	AGENT_EXIT_STATUS = 1, /* value: the exit status, 0 to 255 */
	AGENT_EXIT_SIGNAL = 2, /* value: the signal's number */
};

struct agent_exited {
	uint32_t kind; /* enum agent_exit_kind */
	uint32_t value;
};

enum agent_notice_kind {
	AGENT_NOTICE_OOM =
		1, /* value: processes that the container's memory limit has killed so far */
};

struct agent_notice {
	uint32_t kind; /* enum agent_notice_kind */
	uint32_t zero;
	uint64_t value;
};

/* Pressure as in /proc/pressure: microseconds in which some, or all, processes waited. */
struct agent_pressure {
	uint64_t some_us, full_us;
};

/* Of a container's cgroup, or of the guest. UINT64_MAX: not known, or no limit. */
struct agent_properties {
	uint64_t cpu_us, user_us, system_us;
	uint64_t periods, throttled, throttled_us;
	uint64_t memory, memory_peak, memory_max, swap, anon, file, kernel;
	uint64_t faults, major_faults;
	uint64_t oom, oom_kill; /* times that the limit was hit; processes killed for it */
	uint64_t pids, pids_max;
	uint64_t read_bytes, write_bytes, reads, writes;
	struct agent_pressure cpu_pressure, memory_pressure, io_pressure;
};

/* A process as its container sees it. */
struct agent_process {
	uint32_t pid, parent;
	uint32_t uid;
	uint32_t threads;
	uint32_t pid_inside; /* in the container's PID namespace */
	uint32_t state;	     /* the letter of proc(5) */
	uint64_t cpu_us;
	uint64_t start_ns; /* CLOCK_BOOTTIME */
	uint64_t resident; /* bytes */
	char command[64];  /* its arguments, as much as fits, blanks between; ends in a NUL */
};

/* A device that the host has put into virtio slot `slot`. Words: of a network interface, as net.h of the
 * agent has them behind its name ("ip=10.0.0.2/24,gw=10.0.0.1"); ends in a NUL; empty: it is left alone.
 */
struct agent_plug {
	uint32_t slot;
	uint32_t zero;
	char words[AGENT_PLUG_WORDS];
};

/* The one of that name in one of these slots (1 << slot), or with an empty name what is in the first. */
struct agent_unplug {
	uint32_t slots;
	uint32_t zero;
	char name[AGENT_DEVICE_NAME]; /* ends in a NUL */
};

/* Such a device as the guest has it: "vdb", "eth1"; empty: no disk, no network, or no driver for it. */
struct agent_plugged {
	uint32_t slot;
	uint32_t zero;
	char name[AGENT_DEVICE_NAME]; /* ends in a NUL */
};

enum agent_container_state {
	AGENT_CONTAINER_CREATING = 1,
	AGENT_CONTAINER_CREATED = 2,
	AGENT_CONTAINER_RUNNING = 3,
	AGENT_CONTAINER_PAUSED = 4,
	AGENT_CONTAINER_STOPPED = 5,
};

struct agent_container {
	struct agent_name name;
	uint32_t state;		    /* enum agent_container_state */
	uint32_t pid;		    /* of its first process; 0 when stopped */
	struct agent_exited exited; /* when stopped */
};

/* The payload of the largest ERROR, STARTED, EXITED or INFO. Lists are larger. */
#define AGENT_ANSWER_MAX (sizeof(struct agent_error) + AGENT_TEXT_MAX)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian");
_Static_assert(sizeof(struct agent_header) == 16, "header");
_Static_assert(offsetof(struct agent_header, type) == 6, "header.type");
_Static_assert(offsetof(struct agent_header, length) == 8, "header.length");
_Static_assert(offsetof(struct agent_header, tag) == 12, "header.tag");
_Static_assert(sizeof(struct agent_exec) == 176, "exec");
_Static_assert(offsetof(struct agent_exec, streams) == 16, "exec.streams");
_Static_assert(offsetof(struct agent_exec, uid) == 24, "exec.uid");
_Static_assert(offsetof(struct agent_exec, rows) == 32, "exec.rows");
_Static_assert(offsetof(struct agent_exec, umask) == 36, "exec.umask");
_Static_assert(offsetof(struct agent_exec, group_count) == 44, "exec.group_count");
_Static_assert(offsetof(struct agent_exec, envc) == 60, "exec.envc");
_Static_assert(offsetof(struct agent_exec, caps) == 64, "exec.caps");
_Static_assert(offsetof(struct agent_exec, container) == 104, "exec.container");
_Static_assert(sizeof(struct agent_rlimit) == 24, "rlimit");
_Static_assert(sizeof(struct agent_name) == 72, "name");
_Static_assert(sizeof(struct agent_create) == 304, "create");
_Static_assert(offsetof(struct agent_create, pod) == 216, "create.pod");
_Static_assert(offsetof(struct agent_create, flags) == 288, "create.flags");
_Static_assert(sizeof(struct agent_record) == 8, "record");
_Static_assert(sizeof(struct agent_root) == 16, "root");
_Static_assert(sizeof(struct agent_mount) == 16, "mount");
_Static_assert(sizeof(struct agent_device) == 24, "device");
_Static_assert(sizeof(struct agent_device_rule) == 24, "device_rule");
_Static_assert(sizeof(struct agent_guest_device) == 8, "guest_device");
_Static_assert(sizeof(struct agent_id_map) == 16, "id_map");
_Static_assert(sizeof(struct agent_hook) == 16, "hook");
_Static_assert(sizeof(struct agent_wait) == 88, "wait");
_Static_assert(sizeof(struct agent_kill) == 80, "kill");
_Static_assert(sizeof(struct agent_notice) == 16, "notice");
_Static_assert(sizeof(struct agent_properties) == 232, "properties");
_Static_assert(sizeof(struct agent_process) == 112, "process");
_Static_assert(sizeof(struct agent_container) == 88, "container");
_Static_assert(sizeof(struct agent_plug) == 512, "plug");
_Static_assert(sizeof(struct agent_unplug) == 40, "unplug");
_Static_assert(sizeof(struct agent_plugged) == 40, "plugged");
_Static_assert(sizeof(struct agent_attach) == 24, "attach");
_Static_assert(offsetof(struct agent_attach, stream) == 16, "attach.stream");
_Static_assert(sizeof(struct agent_signal) == 8, "signal");
_Static_assert(sizeof(struct agent_resize) == 4, "resize");
_Static_assert(sizeof(struct agent_shutdown) == 4, "shutdown");
_Static_assert(sizeof(struct agent_identity) == 176, "identity");
_Static_assert(offsetof(struct agent_identity, entropy) == 8, "identity.entropy");
_Static_assert(offsetof(struct agent_identity, machine_id) == 72, "identity.machine_id");
_Static_assert(offsetof(struct agent_identity, boot_id) == 88, "identity.boot_id");
_Static_assert(offsetof(struct agent_identity, flags) == 104, "identity.flags");
_Static_assert(offsetof(struct agent_identity, hostname) == 108, "identity.hostname");
_Static_assert(sizeof(struct agent_info) == 32, "info");
_Static_assert(offsetof(struct agent_info, uptime_ns) == 8, "info.uptime_ns");
_Static_assert(sizeof(struct agent_error) == 8, "error");
_Static_assert(sizeof(struct agent_started) == 4, "started");
_Static_assert(sizeof(struct agent_exited) == 8, "exited");

#endif
