/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vcpu_state.h"

#define FRAME_DISKS 32u /* in each file, however many there are */
#define FRAME_NETS  8u
_Static_assert(FRAME_DISKS >= MACHINE_MAX_DISKS && FRAME_NETS >= NET_MAX, "or the version changes");

/* What the rest is checked against, and the configuration that a clone takes over. */
struct frame {
	uint64_t memory;
	uint32_t cpus, disks, nets;
	bool agent; /* the guest's agent was ready */
	bool has_root;
	bool balloon;
	uint32_t shares;
	bool rng;
	uint8_t disk_queues[FRAME_DISKS]; /* 0 where there is no such disk */
	char disk_serial[FRAME_DISKS * BLK_SERIAL]; /* one after the other; all zeros: the usual one */
	uint64_t disk_bps[FRAME_DISKS], disk_bps_burst[FRAME_DISKS];
	uint64_t disk_iops[FRAME_DISKS], disk_iops_burst[FRAME_DISKS];
	uint32_t spares;
	uint8_t disk_slot[FRAME_DISKS], net_slot[FRAME_NETS]; /* of what was attached, else 0 */
};

#define F(m, since) STATE_SCALAR(struct frame, m, since)
#define A(m, since) STATE_ARRAY(struct frame, m, since)
const struct state_table machine_table = {
	"machine", 5,
	(const struct state_field[]){F(memory, 1), F(cpus, 1), F(disks, 1), F(agent, 1),
				     F(has_root, 1), F(balloon, 2), F(shares, 3), F(nets, 3),
				     F(rng, 4), A(disk_queues, 4), A(disk_serial, 4), A(disk_bps, 4),
				     A(disk_bps_burst, 4), A(disk_iops, 4), A(disk_iops_burst, 4),
				     F(spares, 5), A(disk_slot, 5), A(net_slot, 5), {0}}};
#undef A
#undef F

static struct frame frame_of(const struct machine *m)
{
	struct frame f = {.memory = m->mem.size,
			  .cpus = m->config.cpus,
			  .disks = m->config.disks,
			  .agent = m->mark[MARK_READY],
			  .has_root = m->config.has_root,
			  .balloon = m->config.balloon,
			  .shares = m->config.shares,
			  .nets = m->config.nets,
			  .rng = m->config.rng,
			  .spares = m->config.spares};

	memcpy(f.disk_slot, m->config.disk_slot, m->config.disks);
	memcpy(f.net_slot, m->config.net_slot, m->config.nets);
	for (unsigned int i = 0; i < m->config.disks; i++) {
		const struct disk_config *c = &m->config.disk[i];

		f.disk_queues[i] = (uint8_t)m->disk[i]->blk.dev.queues;
		memcpy(f.disk_serial + i * BLK_SERIAL, c->serial, BLK_SERIAL);
		f.disk_bps[i] = c->limits.bps;
		f.disk_bps_burst[i] = c->limits.bps_burst;
		f.disk_iops[i] = c->limits.iops;
		f.disk_iops_burst[i] = c->limits.iops_burst;
	}
	return f;
}

/* Returns false if there is no such disk. Files of before version 4 say nothing: one queue. */
static bool load_disk(const struct frame *f, unsigned int i, struct disk_config *c)
{
	*c = (struct disk_config){.queues = MAX(f->disk_queues[i], 1u),
				  .limits = {.bps = f->disk_bps[i],
					     .bps_burst = f->disk_bps_burst[i],
					     .iops = f->disk_iops[i],
					     .iops_burst = f->disk_iops_burst[i]}};
	memcpy(c->serial, f->disk_serial + i * BLK_SERIAL, BLK_SERIAL);
	return disk_check(c);
}

/* Whether n devices are first those that were there from the start, then those that were attached, each in
 * a spare slot of its own; taken has a bit for each of these, of all devices.
 */
static bool slots_good(const uint8_t *slot, unsigned int n, unsigned int first, unsigned int spares,
		       uint32_t *taken)
{
	for (unsigned int i = machine_first(slot, n); i < n; i++) {
		unsigned int k = slot[i] - first;

		if (slot[i] < first || k >= spares || *taken & 1u << k)
			return false;
		*taken |= 1u << k;
	}
	return true;
}

static bool layout_good(const struct frame *f)
{
	unsigned int disks = machine_first(f->disk_slot, f->disks);
	unsigned int nets = machine_first(f->net_slot, f->nets);
	unsigned int others = disks + f->shares + nets + f->rng, first = others + 1 + f->balloon;
	uint32_t taken = 0;

	return f->spares <= MACHINE_MAX_DISKS && others + f->spares <= MACHINE_MAX_DISKS &&
	       slots_good(f->disk_slot, f->disks, first, f->spares, &taken) &&
	       slots_good(f->net_slot, f->nets, first, f->spares, &taken);
}

int machine_load_config(const struct state_reader *r, struct machine_config *cfg, struct err *e)
{
	struct state_visitor v = {.r = r};
	struct frame f = {0};
	int error = state_visit(&v, &machine_table, 0, &f, e);
	bool good = true;

	if (error)
		return error;
	if (f.cpus < 1 || f.cpus > VCPU_MAX || f.disks > MACHINE_MAX_DISKS ||
	    f.shares > SHARE_MAX || f.nets > NET_MAX || !layout_good(&f) || f.memory < MEM_MIN ||
	    f.memory > MEM_MAX || f.memory % 4096)
		return state_invalid(&v, &machine_table, 0, "no machine is like that", e);
	for (unsigned int i = 0; i < f.disks && good; i++)
		good = load_disk(&f, i, &cfg->disk[i]);
	if (!good)
		return state_invalid(&v, &machine_table, 0, "no disk is like that", e);
	if (cfg->nets > f.nets)
		return err_set(e, EINVAL, "%u networks, but the snapshot has %u devices for them",
			       cfg->nets, f.nets);
	cfg->nets = f.nets;
	cfg->memory = f.memory;
	cfg->cpus = f.cpus;
	cfg->disks = f.disks;
	cfg->agent = f.agent;
	cfg->has_root = f.has_root;
	cfg->balloon = f.balloon;
	cfg->rng = f.rng;
	cfg->shares = f.shares;
	cfg->spares = f.spares;
	memcpy(cfg->disk_slot, f.disk_slot, sizeof(cfg->disk_slot));
	memcpy(cfg->net_slot, f.net_slot, sizeof(cfg->net_slot));
	return 0;
}

static int devices_state(struct machine *m, struct state_visitor *v, struct err *e)
{
	int r = kvm_vm_state(&m->kvm, v, e);

	if (!r)
		r = serial_state(&m->serial, v, e);
	if (!r)
		r = virtio_vsock_state(&m->vsock, 0, AGENT_PORT, v, e);
	for (unsigned int i = 0; i < m->config.disks && !r; i++)
		r = virtio_state(&m->disk[i]->blk.dev, machine_disk_slot(m, i), v, e);
	if (!r && m->config.balloon)
		r = virtio_balloon_state(&m->balloon, machine_balloon_slot(m), v, e);
	if (!r && m->config.rng)
		r = virtio_state(&m->rng.dev, machine_rng_slot(m), v, e);
	for (unsigned int i = 0; i < m->config.nets && !r; i++)
		r = virtio_net_state(&m->net[i]->dev, machine_net_slot(m, i), v, e);
	for (unsigned int i = 0; i < m->config.shares && !r; i++)
		r = virtio_fs_state(&m->share[i].fs, machine_share_slot(m, i), v, e);
	return r;
}

int machine_save(struct machine *m, struct state_writer *w, struct err *e)
{
	struct state_visitor v = {.w = w};
	struct kvm_msr_list *list = vcpu_msr_list(&m->kvm, e);
	struct vcpu_state *s = malloc(sizeof(*s));
	struct frame f = frame_of(m);
	int r = !list ? -ENOTSUP : s ? 0 : err_set(e, ENOMEM, "out of memory");

	if (!r)
		r = state_visit(&v, &machine_table, 0, &f, e);
	for (unsigned int i = 0; i < m->vcpus && !r; i++) {
		r = vcpu_save(&m->vcpu[i], list, s, e);
		if (!r)
			r = state_visit(&v, &vcpu_table, i, s, e);
	}
	/* After the vCPUs: a device that delivers what it still owes may raise an interrupt, which
	 * the loaded device then raises again.
	 */
	if (!r)
		r = devices_state(m, &v, e);
	free(s);
	free(list);
	return r;
}

static int load_vcpus(struct machine *m, struct state_visitor *v, bool check, struct err *e)
{
	/* Not calloc, which reads all of it; freed by the machine when it has time. */
	struct vcpu_state *s = m->loaded = malloc(sizeof(*s));
	int r = s ? 0 : err_set(e, ENOMEM, "out of memory");

	/* What KVM's structures have beyond the fields that are saved has to be 0. In the arrays only
	 * what was loaded is read.
	 */
	if (s)
		memset(s, 0, VCPU_STATE_HEAD);
	for (unsigned int i = 0; i < m->config.cpus && !r; i++) {
		r = state_visit(v, &vcpu_table, i, s, e);
		if (!r && check && i == 0)
			r = vcpu_check_host(&m->kvm, s, e);
		if (!r)
			r = vcpu_restore(&m->vcpu[i], i, &m->vcpu_host, s, e);
		m->vcpus += !r;
	}
	return r;
}

int machine_load_clocks(struct machine *m, const struct state_reader *reader, struct err *e)
{
	struct state_visitor v = {.r = reader};
	struct vcpu_state *s = m->loaded;
	int r = 0;

	m->vcpu_host.tsc_known = false;
	for (unsigned int i = 0; i < m->vcpus && !r; i++) {
		if (m->vcpus > 1) { /* else it is the one that was loaded last */
			memset(s, 0, VCPU_STATE_HEAD);
			r = state_visit(&v, &vcpu_table, i, s, e);
		}
		if (!r)
			r = vcpu_restore_clocks(&m->vcpu[i], s, e);
	}
	return r ? r : kvm_clock_state(&m->kvm, &v, e);
}

int machine_load(struct machine *m, const struct state_reader *reader, bool check, struct err *e)
{
	struct state_visitor v = {.r = reader};
	int r = load_vcpus(m, &v, check, e);

	return r ? r : devices_state(m, &v, e);
}
