/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "guest/agent/net.h"

#define NEW_ROOT "/newroot"

/* How long a device that is not there at once may take, and how often to look. */
#define DEVICE_WAIT_MS 2000
#define DEVICE_LOOK_MS 10

struct mount_entry {
	const char *target;
	const char *type;
	unsigned long flags;
	const char *data;
};

/* Through the kernel's log and not the console's terminal, whose output is lost when the kernel
 * panics next. Level 3, an error, passes "quiet".
 */
void say(const char *what, const char *name, int code)
{
	const char *parts[] = {"<3>uvm-agent: ",
			       what,
			       name ? " " : "",
			       name ? name : "",
			       code ? ": " : "",
			       code ? strerror(code) : "",
			       "\n"};
	struct iovec iov[sizeof(parts) / sizeof(parts[0])];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		parts[0] += 3;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		iov[i] = (struct iovec){(void *)(uintptr_t)parts[i], strlen(parts[i])};
	(void)!writev(fd < 0 ? 2 : fd, iov, sizeof(parts) / sizeof(parts[0]));
	if (fd >= 0)
		close(fd);
}

static void mount_entry(const struct mount_entry *m)
{
	/* It exists as a rule; if it cannot be made, mount says so. */
	mkdir(m->target, 0755);
	if (mount(m->type, m->target, m->type, m->flags, m->data))
		say("cannot mount", m->target, errno);
}

/* The kernel opens /dev/console for us only if the initramfs has that node. */
static void open_console(void)
{
	int fd = -1;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
}

/* The value of "name=value" if word is that, else NULL. */
static const char *value_of(const char *word, const char *name)
{
	size_t len = strlen(name);

	return strncmp(word, name, len) ? NULL : word + len;
}

static void take_word(struct boot *b, char *word)
{
	const struct {
		const char *name;
		const char **to;
	} options[] = {
		{"root=", &b->root},
		{"rootfstype=", &b->type},
		{"rootflags=", &b->flags},
		{"uvm.hostname=", &b->hostname},
	};

	if (value_of(word, "uvm.net=") && b->nets < BOOT_NETS)
		b->net[b->nets++] = word + strlen("uvm.net=");
	if (!strcmp(word, "ro") || !strcmp(word, "rw"))
		b->read_only = word[1] == 'o';
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const char *value = value_of(word, options[i].name);

		if (value)
			*options[i].to = value;
	}
	if (words_take(b->words, word) && *b->words->why) {
		say(b->words->why, NULL, 0);
		*b->words->why = '\0';
	}
}

static void read_command_line(struct boot *b)
{
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, b->line, sizeof(b->line) - 1);
	char *rest = NULL;

	if (n < 0)
		say("cannot read", "/proc/cmdline", errno);
	b->line[n < 0 ? 0 : n] = '\0';
	close(fd);
	for (char *w = strtok_r(b->line, " \n", &rest); w; w = strtok_r(NULL, " \n", &rest))
		take_word(b, w);
}

void boot_begin(struct boot *b)
{
	static const struct mount_entry dev = {"/dev", "devtmpfs", MS_NOSUID, "mode=0755"};
	static const struct mount_entry proc = {"/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
						NULL};

	mount_entry(&dev);
	open_console();
	mount_entry(&proc);
	read_command_line(b);
}

/* Whether it is there; a block device has a size, too. */
static bool is_there(const char *device)
{
	int fd = open(device, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	uint64_t size = 1;

	if (fd < 0)
		return errno != ENOENT && errno != ENXIO;
	ioctl(fd, BLKGETSIZE64, &size);
	close(fd);
	return size;
}

void boot_wait_for(const char *device)
{
	const struct timespec pause = {.tv_nsec = DEVICE_LOOK_MS * 1000000};

	for (int i = 0; !is_there(device) && i < DEVICE_WAIT_MS / DEVICE_LOOK_MS; i++)
		nanosleep(&pause, NULL);
}

/* Mounts the root's device with one type. Returns 0 or a positive errno. A device that cannot be
 * written is mounted for reading.
 */
static int mount_type(const struct boot *b, const char *type)
{
	unsigned long flags = MS_SILENT | (b->read_only ? MS_RDONLY : 0);

	if (!mount(b->root, NEW_ROOT, type, flags, b->flags))
		return 0;
	if (b->read_only || (errno != EROFS && errno != EACCES))
		return errno;
	return mount(b->root, NEW_ROOT, type, flags | MS_RDONLY, b->flags) ? errno : 0;
}

static int mount_root(const struct boot *b)
{
	static const char *const types[] = {"ext4", "erofs"};
	int code = 0;

	mkdir(NEW_ROOT, 0755);
	/* To open it, only to ask for its size, would cost the boot a second reading of its begin. */
	if (access(b->root, F_OK))
		boot_wait_for(b->root);
	if (b->type)
		return mount_type(b, b->type);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		code = mount_type(b, types[i]);
		/* EINVAL: it has no such file system on it; ENODEV: the kernel does not know it. */
		if (code != EINVAL && code != ENODEV)
			break;
	}
	return code;
}

static void move(const char *from, const char *to)
{
	if (!mount(from, to, NULL, MS_MOVE, NULL))
		return;
	if (errno == ENOENT && !mkdir(to, 0755) && !mount(from, to, NULL, MS_MOVE, NULL))
		return;
	say("cannot move into the root file system:", from, errno);
}

int boot_root(struct boot *b)
{
	int code;

	if (!b->root)
		return 0;
	code = mount_root(b);
	if (code) {
		say("cannot mount the root file system", b->root, code);
		return -code;
	}
	move("/dev", NEW_ROOT "/dev");
	move("/proc", NEW_ROOT "/proc");
	/* The initramfs stays below, out of reach: its one file is the program that runs. */
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) {
		code = errno;
		say("cannot change to the root file system", b->root, code);
		return -code;
	}
	/* A type or a device may know nothing but reading. */
	b->read_only = access("/", W_OK) && errno == EROFS;
	return 0;
}

void boot_loopback(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		say("cannot bring up", "lo", errno);
	if (fd >= 0)
		close(fd);
}

/* The kernel lets a process raise its files to 4096 at most, which is little for a server; this is
 * what systemd allows.
 */
static void raise_limits(void)
{
	const struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};

	prlimit(0, RLIMIT_NOFILE, &files, NULL);
}

/* The kernel reports free memory to the host (CONFIG_PAGE_REPORTING) in blocks that are free as a
 * whole, and only while 32 of them are free beyond its reserve. By default a block is 4 MiB, of
 * which a guest of 128 MiB never has 32. 2 MiB is as good: a huge page of the host's.
 */
static void report_smaller_blocks(void)
{
	int fd = open("/sys/module/page_reporting/parameters/page_reporting_order",
		      O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return; /* a kernel without it */
	(void)!write(fd, "9", 1);
	close(fd);
}

static void networks_up(const struct boot *b)
{
	for (int i = 0; i < b->nets; i++) {
		struct net_setup s;
		const char *what = "network";
		int r = net_setup_parse(&s, b->net[i]);

		if (!r)
			r = net_setup_apply(&s, &what);
		if (r)
			say("cannot set up the network:", what, -r);
	}
}

void boot_finish(struct boot *b)
{
	static const struct mount_entry mounts[] = {
		{"/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
		{"/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"},
		{"/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"},
		{"/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
	};
	/* Only where it could not be written otherwise: an image may have put something there. */
	static const struct mount_entry tmp = {"/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"};
	int code;

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++)
		mount_entry(&mounts[i]);
	if (b->root && b->read_only)
		mount_entry(&tmp);
	(void)!symlink("/proc/self/fd", "/dev/fd");
	(void)!symlink("/proc/self/fd/0", "/dev/stdin");
	(void)!symlink("/proc/self/fd/1", "/dev/stdout");
	(void)!symlink("/proc/self/fd/2", "/dev/stderr");
	boot_loopback();
	networks_up(b);
	raise_limits();
	report_smaller_blocks();
	if (b->hostname && sethostname(b->hostname, strlen(b->hostname)))
		say("cannot set the host's name to", b->hostname, errno);
	code = words_mount(b->words);
	if (code)
		say(b->words->why, NULL, -code);
}

/* Undoes /proc/mounts' escapes (\040 for a blank) in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Whether a file system has something to lose. */
static bool kept(const char *type)
{
	static const char *const volatile_types[] = {"proc",   "sysfs", "devtmpfs", "devpts",
						     "rootfs", "tmpfs", "cgroup2"};

	for (size_t i = 0; i < sizeof(volatile_types) / sizeof(volatile_types[0]); i++)
		if (!strcmp(type, volatile_types[i]))
			return false;
	return true;
}

/* Unmounts what was mounted, last first: recurses to the end of the list before it acts. What
 * cannot be unmounted, the root above all, is made read-only.
 */
static void unmount_rest(char **rest, int depth)
{
	char *line = strtok_r(NULL, "\n", rest), *word = NULL, *target, *type;

	if (!line || depth > 256)
		return;
	unmount_rest(rest, depth + 1);
	strtok_r(line, " ", &word);
	target = strtok_r(NULL, " ", &word);
	type = strtok_r(NULL, " ", &word);
	if (!target || !type || !kept(type))
		return;
	unescape(target);
	if ((!strcmp(target, "/") || umount2(target, 0)) &&
	    mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL))
		say("cannot unmount", target, errno);
}

static void unmount_all(void)
{
	static char mounts[32768]; /* far beyond what the agent itself mounts */
	char *rest = mounts + 1;
	int fd = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, got = 1;

	/* A newline first, so that the recursion can treat all lines alike. */
	mounts[0] = '\n';
	while (got < (ssize_t)sizeof(mounts) - 1 &&
	       (n = read(fd, mounts + got, sizeof(mounts) - 1 - (size_t)got)) > 0)
		got += n;
	close(fd);
	unmount_rest(&rest, 0);
}

_Noreturn void boot_down(enum agent_shutdown_mode mode)
{
	sync();
	unmount_all();
	reboot(mode == AGENT_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
	say("cannot end the guest", NULL, errno);
	_exit(1);
}
