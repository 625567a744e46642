/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attach.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine_devices.h"

static int can_change(const struct machine *m, struct err *e)
{
	int r = freeze_idle(&m->freeze, e);

	return !r && m->paused ? err_set(e, EBUSY, "the VM is paused") : r;
}

/* The first empty slot, or -errno. */
static int free_slot(const struct machine *m, struct err *e)
{
	for (unsigned int i = 0; i < m->config.spares; i++)
		if (!m->spare[i].dev)
			return (int)(machine_spare_slot(m) + i);
	return m->config.spares ? err_set(e, ENOSPC, "each of its %u slots has a device already",
					  m->config.spares)
				: err_set(e, ENOSPC, "it has no slots for further devices (--slots)");
}

/* Puts a device that is ready into its slot. add makes it one of the machine's. */
static int put_in(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	int r;

	if (!machine_pause(m))
		return err_set(e, ESRCH, "the VM has ended");
	r = machine_plug(m, d, slot, e);
	if (r) {
		m->spare[slot - machine_spare_slot(m)].dev = NULL;
		machine_resume(m);
	}
	return r;
}

/* --- disks --- */

static int add_disk(struct machine *m, const struct disk_config *cfg, int fd, unsigned int slot,
		    struct err *e)
{
	unsigned int i = m->config.disks;
	struct disk *d = calloc(1, sizeof(*d));
	struct irq irq;
	int r;

	if (!d) {
		close(fd);
		return err_set(e, ENOMEM, "out of memory");
	}
	r = disk_open_fd(d, cfg, fd, m->rundir, e);
	if (r) {
		free(d);
		return r;
	}
	r = machine_spare_line(m, slot, &irq, e);
	if (!r)
		r = disk_init(d, cfg, i, m->config.cpus, &m->mem, irq, e);
	if (r) {
		disk_close_files(d);
		free(d);
		return r;
	}
	worker_confine(&d->worker, &m->confine, CONFINE_DISK, &m->end);
	r = put_in(m, &d->blk.dev, slot, e);
	if (r) {
		disk_close(d);
		free(d);
		return r;
	}
	m->disk[i] = d;
	m->config.disk[i] = *cfg;
	m->config.disk[i].path = ""; /* it was the request's */
	m->config.disk_slot[i] = (uint8_t)slot;
	m->config.disks++;
	machine_resume(m);
	return 0;
}

/* fd is taken over. */
static int attach_disk(struct machine *m, char *text, int fd, unsigned int slot, char *answer,
		       size_t size, struct err *e)
{
	struct disk_config cfg;
	int r = disk_parse(&cfg, text, e);

	if (r) {
		close(fd);
		return r;
	}
	/* By the slot and not by the disk's number, which another may have had. */
	if (!*cfg.serial)
		snprintf(cfg.serial, sizeof(cfg.serial), "uvm-slot-%u", slot);
	r = add_disk(m, &cfg, fd, slot, e);
	if (!r)
		snprintf(answer, size, "slot %u\nserial %s\n", slot, cfg.serial);
	return r;
}

static void drop_disk(struct machine *m, unsigned int i)
{
	struct machine_config *c = &m->config;
	unsigned int behind = --c->disks - i;

	disk_close(m->disk[i]);
	free(m->disk[i]);
	memmove(&m->disk[i], &m->disk[i + 1], behind * sizeof(m->disk[0]));
	memmove(&c->disk[i], &c->disk[i + 1], behind * sizeof(c->disk[0]));
	memmove(&c->disk_slot[i], &c->disk_slot[i + 1], behind * sizeof(c->disk_slot[0]));
	c->disk_slot[c->disks] = 0;
}

/* --- networks --- */

static int add_net(struct machine *m, struct net *n, unsigned int slot, struct err *e)
{
	unsigned int i = m->config.nets;
	struct irq irq;
	int r = machine_spare_line(m, slot, &irq, e);

	if (!r)
		r = net_init(n, &m->mem, irq, &m->loop, e);
	if (r) {
		net_close_backend(n);
		return r;
	}
	worker_confine(&n->worker, &m->confine, CONFINE_NET, &m->end);
	r = net_connect(n, e);
	if (!r)
		r = put_in(m, &n->dev.dev, slot, e);
	if (r) {
		net_close(n);
		return r;
	}
	m->net[i] = n;
	m->config.net[i] = n->config;
	m->config.net_slot[i] = (uint8_t)slot;
	m->config.nets++;
	machine_resume(m);
	return 0;
}

/* fd and text are taken over. */
static int open_net(struct net *n, char *text, int fd, struct err *e)
{
	struct net_config cfg;
	int r = net_parse(&cfg, text, e);

	if (!r && cfg.kind == NET_NONE)
		r = err_set(e, EINVAL, "a network that leads nowhere cannot be attached");
	if (r)
		close(fd);
	else
		r = net_open_fd(n, &cfg, fd, e);
	if (r)
		free(text);
	else
		n->text = text;
	return r;
}

static int attach_net(struct machine *m, char *text, int fd, unsigned int slot, char *answer,
		      size_t size, struct err *e)
{
	struct net *n = calloc(1, sizeof(*n));
	int r;

	if (!n || m->config.nets == NET_MAX) {
		close(fd);
		free(text);
		r = n ? err_set(e, ENOSPC, "it has %u networks already", NET_MAX)
		      : err_set(e, ENOMEM, "out of memory");
	} else {
		r = open_net(n, text, fd, e);
		if (!r)
			r = add_net(m, n, slot, e);
	}
	if (r)
		free(n);
	else
		snprintf(answer, size, "slot %u\nmac " NET_MAC_FORMAT "\nmtu %u\n", slot,
			 NET_MAC_BYTES(n->dev.config.mac), n->mtu);
	return r;
}

static void drop_net(struct machine *m, unsigned int i)
{
	struct machine_config *c = &m->config;
	unsigned int behind = --c->nets - i;

	net_close(m->net[i]);
	free(m->net[i]);
	memmove(&m->net[i], &m->net[i + 1], behind * sizeof(m->net[0]));
	memmove(&c->net[i], &c->net[i + 1], behind * sizeof(c->net[0]));
	memmove(&c->net_slot[i], &c->net_slot[i + 1], behind * sizeof(c->net_slot[0]));
	c->net_slot[c->nets] = 0;
}

/* --- both --- */

int attach_device(struct machine *m, const char *text, int fd, char *answer, size_t size, struct err *e)
{
	bool disk = !strncmp(text, "disk ", 5);
	int r = can_change(m, e), slot;
	char *copy = NULL;

	if (!r && fd < 0)
		r = err_set(e, EINVAL, "no descriptor came with the request");
	if (!r && !disk && strncmp(text, "net ", 4))
		r = err_set(e, EINVAL, "attach takes 'disk' or 'net'");
	slot = r ? r : free_slot(m, e);
	if (slot >= 0) {
		copy = strdup(strchr(text, ' ') + 1);
		r = copy ? 0 : err_set(e, ENOMEM, "out of memory");
	}
	if (slot < 0 || r) {
		if (fd >= 0)
			close(fd);
		return slot < 0 ? slot : r;
	}
	if (!disk)
		return attach_net(m, copy, fd, (unsigned int)slot, answer, size, e);
	r = attach_disk(m, copy, fd, (unsigned int)slot, answer, size, e);
	free(copy);
	return r;
}

static int find(const uint8_t *slots, unsigned int n, unsigned int slot)
{
	for (unsigned int i = 0; i < n; i++)
		if (slots[i] == slot)
			return (int)i;
	return -1;
}

int attach_remove(struct machine *m, unsigned int slot, struct err *e)
{
	const struct machine_config *c = &m->config;
	int disk = slot ? find(c->disk_slot, c->disks, slot) : -1;
	int net = slot ? find(c->net_slot, c->nets, slot) : -1;
	struct virtio_dev *d;
	int r = can_change(m, e);

	if (!r && disk < 0 && net < 0)
		r = err_set(e, ENODEV, "nothing was attached as slot %u", slot);
	if (r)
		return r;
	d = disk >= 0 ? &m->disk[disk]->blk.dev : &m->net[net]->dev.dev;
	if (!machine_pause(m))
		return err_set(e, ESRCH, "the VM has ended");
	if (!virtio_idle(d)) {
		machine_resume(m);
		return err_set(e, EBUSY, "a driver in the guest has the device");
	}
	virtio_poll(d); /* the reset may be owed still */
	r = machine_unplug(m, slot, e);
	if (disk >= 0)
		drop_disk(m, (unsigned int)disk);
	else
		drop_net(m, (unsigned int)net);
	machine_resume(m);
	return r;
}

size_t attach_describe(const struct machine *m, char *text, size_t size)
{
	const struct machine_config *c = &m->config;
	size_t len = 0;

	for (unsigned int i = 0; i < c->disks; i++)
		if (c->disk_slot[i])
			text_append(text, size, &len, "attached.%u disk %s\n", c->disk_slot[i],
				    m->disk[i]->blk.serial);
	for (unsigned int i = 0; i < c->nets; i++)
		if (c->net_slot[i])
			text_append(text, size, &len, "attached.%u net " NET_MAC_FORMAT "\n",
				    c->net_slot[i], NET_MAC_BYTES(m->net[i]->dev.config.mac));
	return MIN(len, size - 1);
}
