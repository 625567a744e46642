/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_devices.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/power.h"

#define GUEST_CID 3 /* the first that is free (virtio 1.2, 5.10.4) */

/* An interrupt line: an eventfd that KVM listens to. Its descriptor lives as long as the VM. */
static int new_line(struct machine *m, unsigned int gsi, struct irq *irq, struct err *e)
{
	irq->fd = event_new(e);
	return irq->fd < 0 ? irq->fd : kvm_bind_irq(&m->kvm, gsi, irq->fd, e);
}

unsigned int machine_places(const struct machine *m)
{
	return machine_spare_slot(m) + m->config.spares;
}

static uint64_t slot_base(unsigned int slot)
{
	return LAYOUT_VIRTIO + (uint64_t)slot * LAYOUT_VIRTIO_SIZE;
}

/* Makes a virtio device reachable: its registers on the bus, not its doorbell in KVM, which for some would
 * cost each VM more at its start than it could save.
 */
static int plug_quiet(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	for (unsigned int i = 0; i < VIRTIO_MAX_QUEUES; i++)
		d->queue[i].tap = (struct trace_tap){&m->trace, TRACE_WHO(slot, i)};
	if (slot >= machine_spare_slot(m)) {
		m->spare[slot - machine_spare_slot(m)].dev = d;
		return 0;
	}
	return bus_add(&m->mmio, slot_base(slot), LAYOUT_VIRTIO_SIZE, &virtio_mmio_ops, d, e);
}

int machine_plug(struct machine *m, struct virtio_dev *d, unsigned int slot, struct err *e)
{
	int r = plug_quiet(m, d, slot, e);

	return r ? r : kvm_bind_doorbell(&m->kvm, slot_base(slot) + VIRTIO_MMIO_NOTIFY, d->doorbell.fd, e);
}

int machine_unplug(struct machine *m, unsigned int slot, struct err *e)
{
	struct virtio_slot *s = &m->spare[slot - machine_spare_slot(m)];
	int fd = s->dev->doorbell.fd;

	s->dev = NULL;
	return kvm_unbind_doorbell(&m->kvm, slot_base(slot) + VIRTIO_MMIO_NOTIFY, fd, e);
}

int machine_spare_line(struct machine *m, unsigned int slot, struct irq *irq, struct err *e)
{
	struct virtio_slot *s = &m->spare[slot - machine_spare_slot(m)];
	int r = s->irq.fd ? 0 : new_line(m, LAYOUT_VIRTIO_GSI + slot, &s->irq, e);

	if (r)
		s->irq.fd = 0;
	*irq = s->irq;
	return r;
}

/* The line of any slot. */
static int slot_line(struct machine *m, unsigned int slot, struct irq *irq, struct err *e)
{
	return slot >= machine_spare_slot(m) ? machine_spare_line(m, slot, irq, e)
					     : new_line(m, LAYOUT_VIRTIO_GSI + slot, irq, e);
}

static int add_spares(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.spares && !r; i++)
		r = bus_add(&m->mmio, slot_base(machine_spare_slot(m) + i), LAYOUT_VIRTIO_SIZE,
			    &virtio_slot_ops, &m->spare[i], e);
	return r;
}

static int open_disk(struct machine *m, const struct machine_source *src, unsigned int i,
		     struct err *e)
{
	if (src && src->parent)
		return disk_adopt(m->disk[i], src->parent->disk[i], m->rundir, e);
	if (src)
		return disk_clone(m->disk[i], src->snapshot, i, m->rundir, e);
	return disk_open(m->disk[i], &m->config.disk[i], m->rundir, e);
}

/* src NULL: as the command line says. */
static int open_disks(struct machine *m, const struct machine_source *src, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	for (unsigned int i = 0; i < cfg->disks && !r; i++) {
		m->disk[i] = calloc(1, sizeof(*m->disk[i]));
		r = m->disk[i] ? open_disk(m, src, i, e) : err_set(e, ENOMEM, "out of memory");
	}
	return r;
}

/* Of a snapshot they are placeholders at first; src NULL: as the command line says. */
static int open_shares(struct machine *m, const struct machine_source *src, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	m->share = calloc(cfg->shares ? cfg->shares : 1, sizeof(*m->share));
	if (!m->share)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < cfg->shares && !r; i++) {
		if (!src)
			r = share_open(&m->share[i], &cfg->share[i], cfg->shares, e);
		else if (src->parent)
			r = share_adopt(&m->share[i], &src->parent->share[i], m->rundir, e);
	}
	return r;
}

static int add_disk(struct machine *m, unsigned int i, struct err *e)
{
	unsigned int slot = machine_disk_slot(m, i);
	struct disk *d = m->disk[i];
	struct irq irq;
	int r = slot_line(m, slot, &irq, e);

	if (!r)
		r = disk_init(d, &m->config.disk[i], i, m->config.cpus, &m->mem, irq, e);
	return r ? r : machine_plug(m, &d->blk.dev, slot, e);
}

/* Its driver notifies a few times every two seconds at most. */
static int add_balloon(struct machine *m, struct err *e)
{
	unsigned int slot = machine_balloon_slot(m);
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);

	if (!r)
		r = virtio_balloon_init(&m->balloon, &m->mem, irq, &m->loop, e);
	return r ? r : plug_quiet(m, &m->balloon.dev, slot, e);
}

static int add_rng(struct machine *m, struct err *e)
{
	unsigned int slot = machine_rng_slot(m);
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);

	if (!r)
		r = virtio_rng_init(&m->rng, &m->mem, irq, &m->loop, e);
	return r ? r : plug_quiet(m, &m->rng.dev, slot, e);
}

static int add_share(struct machine *m, unsigned int i, struct err *e)
{
	struct share *s = &m->share[i];
	unsigned int slot = machine_share_slot(m, i);
	struct irq irq;
	int r = worker_init(&s->worker, e);

	if (!r)
		r = new_line(m, LAYOUT_VIRTIO_GSI + slot, &irq, e);
	if (!r)
		r = virtio_fs_init(&s->fs, &m->mem,
				   s->server ? fuse_server_backend(s->server) : NULL,
				   m->config.share[i].tag, irq, &s->worker.loop, e);
	return r ? r : machine_plug(m, &s->fs.dev, slot, e);
}

static int open_nets(struct machine *m, struct err *e)
{
	const struct machine_config *cfg = &m->config;
	int r = 0;

	for (unsigned int i = 0; i < cfg->nets && !r; i++) {
		m->net[i] = calloc(1, sizeof(*m->net[i]));
		r = m->net[i] ? net_open(m->net[i], &cfg->net[i], e)
			      : err_set(e, ENOMEM, "out of memory");
	}
	return r;
}

int machine_open_devices(struct machine *m, const struct machine_source *src, struct err *e)
{
	int r = open_disks(m, src, e);

	if (!r)
		r = open_shares(m, src, e);
	return r ? r : open_nets(m, e);
}

/* One that leads nowhere needs no doorbell in KVM. */
static int add_net(struct machine *m, unsigned int i, struct err *e)
{
	unsigned int slot = machine_net_slot(m, i);
	struct net *n = m->net[i];
	struct irq irq;
	int r = slot_line(m, slot, &irq, e);

	if (!r)
		r = net_init(n, &m->mem, irq, &m->loop, e);
	if (!r && n->backend)
		return machine_plug(m, &n->dev.dev, slot, e);
	return r ? r : plug_quiet(m, &n->dev.dev, slot, e);
}

int machine_connect_nets(struct machine *m, struct err *e)
{
	int r = 0;

	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = net_connect(m->net[i], e);
	return r;
}

static void first_hello(void *ctx)
{
	machine_ready(ctx);
}

/* A connection of the agent's: a new one, or, while a state is loaded, the one that is in it. */
static int agent_connects(void *ctx)
{
	struct machine *m = ctx;
	struct err e;

	return m->loading ? link_restore(&m->link, &e) : link_connect(&m->link);
}

static int add_vsock(struct machine *m, struct err *e)
{
	struct irq irq;
	int r = new_line(m, LAYOUT_VIRTIO_GSI, &irq, e);

	vsock_unix_init(&m->vsock_host, rundir_sockets(m->rundir), RUNDIR_VSOCK, &m->vsock, &m->loop);
	if (!r)
		r = virtio_vsock_init(&m->vsock, &m->mem, GUEST_CID, &m->vsock_host.host, irq,
				      &m->loop, e);
	if (!r)
		r = machine_plug(m, &m->vsock.dev, 0, e);
	if (r)
		return r;
	m->link_service = (struct vsock_service){
		.port = AGENT_PORT, .connect = agent_connects, .ctx = m};
	vsock_unix_serve(&m->vsock_host, &m->link_service);
	m->link.ready = first_hello;
	m->link.ctx = m;
	return link_init(&m->link, &m->loop, e);
}

static int add_serial(struct machine *m, struct err *e)
{
	struct serial_host host;
	struct irq irq;
	int r = new_line(m, LAYOUT_COM1_GSI, &irq, e);

	if (r)
		return r;
	host = console_host(&m->console);
	serial_init(&m->serial, irq, &host);
	return bus_add(&m->pio, LAYOUT_COM1, SERIAL_PORTS, &serial_ops, &m->serial, e);
}

static int add_power(struct machine *m, struct err *e)
{
	int r = bus_add(&m->pio, LAYOUT_POWER, POWER_PORTS, &power_ops, &m->end, e);

	if (!r)
		r = bus_add(&m->pio, LAYOUT_PVPANIC, 1, &pvpanic_ops, &m->end, e);
	return r ? r : bus_add(&m->pio, LAYOUT_I8042, I8042_PORTS, &i8042_ops, &m->end, e);
}

/* Every VM gets an id of its own, also one that goes on from another's memory. */
static int add_vmgenid(struct machine *m, struct err *e)
{
	struct vmgenid *v = &m->vmgenid;
	int r = new_line(m, LAYOUT_EVENT_GSI, &v->irq, e);

	v->mem = &m->mem;
	v->at = gpa(LAYOUT_VMGENID);
	return r ? r : vmgenid_renew(v, e);
}

int machine_add_devices(struct machine *m, struct err *e)
{
	int r = add_power(m, e);

	if (!r)
		r = add_serial(m, e);
	if (!r)
		r = add_vmgenid(m, e);
	if (!r)
		r = add_vsock(m, e);
	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = add_disk(m, i, e);
	if (!r && m->config.balloon)
		r = add_balloon(m, e);
	if (!r && m->config.rng)
		r = add_rng(m, e);
	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = add_net(m, i, e);
	for (unsigned int i = 0; i < m->config.shares && !r; i++)
		r = add_share(m, i, e);
	return r ? r : add_spares(m, e);
}

static int fill_disks(struct machine *m, struct err *e)
{
	unsigned int filled = 0;
	int r = 0;

	for (unsigned int i = 0; i < m->config.disks && filled < m->config.fills && !r; i++)
		if (!m->disk[i]->now.files)
			r = disk_fill(m->disk[i], &m->config.fill[filled++], &m->config.disk[i],
				      m->rundir, e);
	return r || filled == m->config.fills
		       ? r
		       : err_set(e, EINVAL, "%u disks, but the snapshot has %u placeholders for them",
				 m->config.fills, filled);
}

int machine_fill(struct machine *m, struct err *e)
{
	int r = fill_disks(m, e);

	for (unsigned int i = 0; i < m->config.share_fills && !r; i++)
		r = share_fill(m->share, m->config.shares, &m->config.share_fill[i], e);
	return r;
}
