/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/random.h>

#include "guest/agent/boot.h"

/* On the device file system, because that is there and can be written whatever the root is. */
#define FILES	   "/dev/.uvm"
#define MACHINE_ID "/etc/machine-id"

#define MACHINE_ID_LEN 32

size_t identity_text(char to[IDENTITY_TEXT_MAX], const uint8_t random[16], bool dashes)
{
	static const char hex[] = "0123456789abcdef";
	char *at = to;

	for (int i = 0; i < 16; i++) {
		uint8_t byte = random[i];

		if (i == 6)
			byte = (byte & 0x0f) | 0x40; /* version 4 */
		if (i == 8)
			byte = (byte & 0x3f) | 0x80; /* variant of RFC 4122 */
		if (dashes && (i == 4 || i == 6 || i == 8 || i == 10))
			*at++ = '-';
		*at++ = hex[byte >> 4];
		*at++ = hex[byte & 15];
	}
	*at++ = '\n';
	return (size_t)(at - to);
}

bool identity_is_machine_id(const char *text, size_t len)
{
	if (len != MACHINE_ID_LEN && !(len == MACHINE_ID_LEN + 1 && text[len - 1] == '\n'))
		return false;
	for (size_t i = 0; i < MACHINE_ID_LEN; i++)
		if (!text[i] || !strchr("0123456789abcdef", text[i]))
			return false;
	return true;
}

/* A file of ours with this text, mounted over target. Returns it, mapped and writable, or NULL. */
static char *cover(const char *file, const char *target, const char *text, size_t len)
{
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
	char *map = MAP_FAILED;

	if (fd >= 0 && write(fd, text, len) == (ssize_t)len)
		map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED || mount(file, target, NULL, MS_BIND, NULL)) {
		say("cannot make this guest's", target, errno);
		map = NULL;
	}
	if (fd >= 0)
		close(fd);
	return map;
}

static char *open_boot_id(void)
{
	char text[IDENTITY_TEXT_MAX];
	int fd = open(IDENTITY_BOOT_ID, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

	if (fd >= 0)
		close(fd);
	return n <= 0 ? NULL : cover(FILES "/boot_id", IDENTITY_BOOT_ID, text, (size_t)n);
}

static char *open_machine_id(bool read_only)
{
	/* A root without it that can be written gets an empty one, which machine-id(5) knows. */
	int fd = open(MACHINE_ID, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
	char text[IDENTITY_TEXT_MAX];
	uint8_t random[16] = {0};
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text));
	close(fd);
	if (read_only || n < 0 || !identity_is_machine_id(text, (size_t)n)) {
		/* What there is: the boot does not wait for entropy. */
		(void)!getrandom(random, sizeof(random), GRND_INSECURE);
		n = (ssize_t)identity_text(text, random, false);
	}
	return cover(FILES "/machine-id", MACHINE_ID, text, (size_t)n);
}

void identity_open(struct identity *id, bool read_only)
{
	mkdir(FILES, 0755);
	id->random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	id->boot_id = open_boot_id();
	id->machine_id = open_machine_id(read_only);
}

/* With full credit, and used from the next number on that anybody asks for. */
static int add_entropy(int fd, const uint8_t *entropy)
{
	const size_t size = sizeof(((struct agent_identity *)0)->entropy);
	struct {
		struct rand_pool_info info;
		uint8_t bytes[sizeof(((struct agent_identity *)0)->entropy)];
	} pool = {.info = {.entropy_count = (int)size * 8, .buf_size = (int)size}};
	int r = 0;

	memcpy(pool.bytes, entropy, size);
	if (ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
		r = -errno;
	explicit_bzero(&pool, sizeof(pool));
	return r;
}

/* The text is as long as the one before; a newline that had been missing stays so. */
static void rewrite(char *file, const uint8_t *random, bool dashes)
{
	char text[IDENTITY_TEXT_MAX];
	size_t n = identity_text(text, random, dashes);

	if (file)
		memcpy(file, text, n);
}

int identity_take(const struct identity *id, const struct agent_identity *m, const char **why)
{
	struct timespec now = {.tv_sec = (time_t)(m->wall_ns / 1000000000u),
			       .tv_nsec = (long)(m->wall_ns % 1000000000u)};
	int r = add_entropy(id->random, m->entropy);

	*why = "cannot add entropy";
	if (r)
		return r;
	*why = "cannot set the clock";
	if (clock_settime(CLOCK_REALTIME, &now))
		return -errno;
	*why = "cannot set the host's name";
	if (*m->hostname && sethostname(m->hostname, strlen(m->hostname)))
		return -errno;
	rewrite(id->boot_id, m->boot_id, true);
	rewrite(id->machine_id, m->machine_id, false);
	return 0;
}
