/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/plug.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/entries.h"
#include "guest/agent/net.h"
#include "guest/agent/text.h"

#define DEVICES "/sys/bus/platform/devices/"
#define DRIVER	"/sys/bus/platform/drivers/virtio-mmio/"

#define SLOTS	    32u
#define DEVICE_NAME 16	 /* "LNRO0005:0f" */

/* The name that the kernel gives the platform device of a slot. */
static void device_name(char name[DEVICE_NAME], uint32_t slot)
{
	static const char digits[] = "0123456789abcdef";
	const char number[] = {digits[slot >> 4 & 15], digits[slot & 15], 0};

	compose(name, DEVICE_NAME, "LNRO0005:", number, NULL);
}

/* The first entry of a directory, but those that begin with a dot, that begins with prefix. */
static bool first_entry(const char *path, const char *prefix, char *name, size_t size)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *d;
	struct entries in;
	bool found = false;

	if (dir < 0)
		return false;
	entries_begin(&in, dir);
	while (!found && (d = entries_next(&in))) {
		found = d->d_name[0] != '.' && !strncmp(d->d_name, prefix, strlen(prefix)) &&
			strlen(d->d_name) < size;
		if (found)
			strcpy(name, d->d_name);
	}
	close(dir);
	return found;
}

/* What the driver has made of the device in a slot: its name, or nothing. Returns whether a driver has it. */
static bool look(uint32_t slot, bool *disk, char name[AGENT_DEVICE_NAME])
{
	static const char *const kinds[] = {"/block", "/net"};
	char device[DEVICE_NAME], virtio[32], path[160];

	*name = 0;
	*disk = false;
	device_name(device, slot);
	compose(path, sizeof(path), DEVICES, device, NULL);
	if (!first_entry(path, "virtio", virtio, sizeof(virtio)))
		return false;
	for (unsigned int i = 0; i < 2 && !*name; i++) {
		compose(path, sizeof(path), DEVICES, device, "/", virtio, kinds[i], NULL);
		*disk = first_entry(path, "", name, AGENT_DEVICE_NAME) && !i;
	}
	return true;
}

/* Writes the device's name to a file of the driver's. Returns 0 or -errno. */
static int tell_driver(const char *file, uint32_t slot)
{
	char path[sizeof(DRIVER) + 16], device[DEVICE_NAME];
	int fd, r;

	compose(path, sizeof(path), DRIVER, file, NULL);
	device_name(device, slot);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write(fd, device, strlen(device)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int set_up(const char *name, const char *words, const char **why)
{
	char text[AGENT_DEVICE_NAME + 1 + AGENT_PLUG_WORDS];
	struct net_setup s;

	compose(text, sizeof(text), name, ",", words, NULL);
	*why = "words about a network that cannot be understood";
	return net_setup_parse(&s, text) ? -EINVAL : net_setup_apply(&s, why);
}

int plug(const struct agent_plug *m, struct agent_plugged *answer, const char **why)
{
	bool disk;
	int r = 0;

	*why = "PLUG has no slot, or no words";
	if (m->slot >= SLOTS || m->zero || strnlen(m->words, sizeof(m->words)) == sizeof(m->words))
		return -EINVAL;
	*answer = (struct agent_plugged){.slot = m->slot};
	*why = "the guest's driver does not take the device";
	if (!look(m->slot, &disk, answer->name)) {
		r = tell_driver("bind", m->slot);
		if (!r && !look(m->slot, &disk, answer->name))
			r = -ENODEV;
	}
	if (r || !*m->words)
		return r;
	*why = "words about a network, and it is none";
	return disk || !*answer->name ? -EINVAL : set_up(answer->name, m->words, why);
}

/* Finds the slot that is meant. Returns whether there is one. */
static bool find(const struct agent_unplug *m, uint32_t *slot)
{
	char has[AGENT_DEVICE_NAME];
	bool disk;

	for (*slot = 0; *slot < SLOTS; ++*slot)
		if (m->slots >> *slot & 1 && (!*m->name || (look(*slot, &disk, has) && !strcmp(has, m->name))))
			return true;
	return false;
}

/* Claims a disk as a mount does, so that none can come in between; what was written to it goes out. Returns
 * a descriptor or -errno.
 */
static int claim(const char *name, const char **why)
{
	char path[sizeof("/dev/") + AGENT_DEVICE_NAME];
	int fd, r;

	compose(path, sizeof(path), "/dev/", name, NULL);
	*why = "the disk is in use";
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fsync(fd))
		return fd;
	r = -errno;
	*why = "the disk cannot be written";
	close(fd);
	return r;
}

int unplug(const struct agent_unplug *m, struct agent_plugged *answer, const char **why)
{
	int claimed = -1, r;
	bool disk;

	*why = "UNPLUG has no slots, or no name";
	if (!m->slots || m->zero || strnlen(m->name, sizeof(m->name)) == sizeof(m->name))
		return -EINVAL;
	*answer = (struct agent_plugged){0};
	*why = "the guest has no such device in these slots";
	if (!find(m, &answer->slot))
		return -ENODEV;
	if (!look(answer->slot, &disk, answer->name))
		return 0;
	if (disk) {
		claimed = claim(answer->name, why);
		if (claimed < 0)
			return claimed;
	}
	*why = "the guest's driver keeps the device";
	r = tell_driver("unbind", answer->slot);
	if (claimed >= 0)
		close(claimed);
	return r;
}
