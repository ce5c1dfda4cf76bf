/* SPDX-License-Identifier: MIT */
#include "sim/faults.h"

#include "common/list.h"
#include "sim/world.h"

/* How long after its end a fault may still be felt: deadlines that began in it, reconnections. */
static uint64_t
grace_ns(const struct plan *p)
{
	return 32 * p->op_timeout_ns + 4 * p->connect_timeout_ns + p->client_timeout_ns +
	       p->hello_timeout_ns + p->retry_max_ns + 10 * NSEC_PER_SEC;
}

static const struct plan_fault *
plan_of(const struct sim_fault_run *f)
{
	return &f->sim->plan.faults[f->index];
}

static uint32_t
daemon_host(const struct plan_fault *pf)
{
	return SIM_DEVICES_MAX + pf->daemon;
}

static void
link_slow(struct sim *sim, const struct plan_fault *pf, bool is_on)
{
	const bool is_stuck = pf->kind == FAULT_NET_STUCK;
	const uint64_t ns = is_stuck ? sim->plan.op_timeout_ns * 2 : sim->plan.op_timeout_ns / 16;

	for (uint32_t way = 0; way < 2; way++) {
		struct sim_link *l = &sim->net.links[way ? daemon_host(pf) : pf->device]
						    [way ? pf->device : daemon_host(pf)];

		l->extra_ns = is_on ? ns : 0;
		l->stuck_ns = is_on && is_stuck ? sim->plan.op_timeout_ns / 2 : 0;
	}
}

static void
link_block(struct sim *sim, const struct plan_fault *pf, bool is_on)
{
	void (*change)(struct sim_net *, uint32_t, uint32_t) =
		is_on ? sim_net_block : sim_net_unblock;

	if (pf->kind != FAULT_NET_OUT)
		change(&sim->net, daemon_host(pf), pf->device);
	if (pf->kind != FAULT_NET_IN)
		change(&sim->net, pf->device, daemon_host(pf));
	sim->counts[pf->kind] += is_on ? 1 : 0;
}

static void
daemon_fault(struct sim *sim, const struct plan_fault *pf)
{
	struct sim_daemon_host *dh = &sim->daemons[pf->daemon];
	struct sim_net *net = &sim->net;
	const uint32_t host = daemon_host(pf);
	const uint64_t until_ns = sim_now(sim) + pf->until_ns - pf->at_ns;

	switch (pf->kind) {
	case FAULT_CUT:
		sim->counts[FAULT_CUT] += sim_net_cut(net, pf->device, host);
		return;
	case FAULT_OP:
		net->fail_ops[host] += 1 + pf->value % 2;
		return;
	case FAULT_DAEMON_KILL:
	case FAULT_DAEMON_POWER:
		if (!dh->host.is_up)
			return;
		sim->counts[pf->kind]++;
		dh->host.is_off = pf->kind == FAULT_DAEMON_POWER;
		sim_daemon_kill(dh, pf->kind == FAULT_DAEMON_KILL);
		return;
	case FAULT_DAEMON_STOP: /* of one that drains: the second signal */
		if (!dh->host.is_up || dh->is_told_to_stop)
			return;
		sim->counts[pf->kind]++;
		sim_daemon_stop(dh);
		return;
	case FAULT_DAEMON_SLOW:
		sim->counts[pf->kind]++;
		sim_host_pause(&dh->host, until_ns);
		return;
	case FAULT_CONNECT_REFUSED:
		net->refuse_connects_ns[host] = until_ns;
		return;
	case FAULT_GRANT:
		net->refuse_grants_ns[host] = until_ns;
		return;
	case FAULT_GRANT_SLOW:
		net->slow_grants_ns[host] = until_ns;
		return;
	case FAULT_GRANT_FAILS:
		net->fail_grants[host]++;
		return;
	case FAULT_REVOKE_FAILS:
		net->fail_revokes[host]++;
		return;
	case FAULT_FILL_FAILS:
		dh->memory.fail_fills_ns = until_ns;
		return;
	case FAULT_ZERO_FAILS:
		dh->memory.fail_zeros++;
		return;
	default:
		return;
	}
}

static void
server_fault(struct sim *sim, const struct plan_fault *pf)
{
	struct sim_device_host *dh = &sim->devices[pf->device];

	if (!dh->host.is_up)
		return;
	switch (pf->kind) {
	case FAULT_SERVER_SLOW:
		sim->counts[pf->kind]++;
		sim_host_pause(&dh->host, sim_now(sim) + pf->until_ns - pf->at_ns);
		return;
	case FAULT_CRASH:
	case FAULT_POWER:
		sim->counts[pf->kind]++;
		sim_device_crash(dh, pf->kind == FAULT_POWER,
				 rng_between(&sim->rng, 0, pf->until_ns - pf->at_ns));
		return;
	case FAULT_CRASH_AT_ACK:
		dh->crash_at_ack = true;
		dh->crash_is_power = pf->value % 2;
		return;
	case FAULT_RESTART:
		if (dh->is_stopping)
			return;
		sim->counts[pf->kind]++;
		sim_device_stop(dh);
		return;
	default:
		return;
	}
}

static void
disk_fault(struct sim *sim, const struct plan_fault *pf)
{
	struct sim_disk *d = &sim->devices[pf->device].disk;
	const uint64_t until_ns = sim_now(sim) + pf->until_ns - pf->at_ns;

	if (until_ns + grace_ns(&sim->plan) > sim->devices[pf->device].disk_troubled_until_ns)
		sim->devices[pf->device].disk_troubled_until_ns = until_ns + grace_ns(&sim->plan);
	d->fail_percent = 30 + pf->daemon * 20;
	switch (pf->kind) {
	case FAULT_DISK_WRITE:
		d->fail_writes_ns = sim->plan.is_backup_broken ? UINT64_MAX : until_ns;
		d->write_error = -(int)pf->value;
		return;
	case FAULT_DISK_READ:
		d->fail_reads_ns = until_ns;
		return;
	case FAULT_DISK_SYNC:
		d->fail_syncs_ns = until_ns;
		return;
	case FAULT_DISK_SLOW:
		d->slow_until_ns = until_ns;
		d->slow_ns = sim->plan.op_timeout_ns * 2;
		return;
	case FAULT_BURST:
	case FAULT_DISK_STUCK:
		d->stuck_until_ns = until_ns;
		return;
	case FAULT_DISK_FULL:
		d->full_until_ns = until_ns;
		return;
	default:
		return;
	}
}

static void
drain(struct sim *sim, const struct plan_fault *pf, bool is_on)
{
	struct sim_daemon_host *dh = &sim->daemons[pf->daemon];

	if (!is_on) {
		if (!dh->host.is_up)
			sim_daemon_start(dh);
		return;
	}
	if (!dh->host.is_up || dh->is_stopping)
		return;
	sim->counts[FAULT_DRAIN]++;
	sim_daemon_drain(dh);
}

/* What the fault has done to the cluster's shape: portals, and the memory of hosts. */
static void
control_fault(struct sim *sim, const struct plan_fault *pf, bool is_on)
{
	struct sim_device_host *dh = &sim->devices[pf->device];
	struct sim_daemon_host *daemon = &sim->daemons[pf->daemon];

	switch (pf->kind) {
	case FAULT_PORTAL_ADDED:
		if (is_on)
			sim_device_set_portal(dh, pf->daemon, true);
		break;
	case FAULT_PORTAL_BACK:
	case FAULT_PORTAL_REMOVED:
		sim_device_set_portal(dh, pf->daemon, !is_on);
		break;
	case FAULT_MEMORY_SHORT:
		sim_daemon_set_memory(daemon, is_on ? 1 + pf->value % 8 : 0, 0);
		break;
	case FAULT_MEMORY_PRESSURE:
		sim_daemon_set_memory(daemon, 0, is_on ? 100 * (pf->value % 100) : 0);
		break;
	case FAULT_DONE_HELD:
		sim->net.hold_done_ns[pf->device] =
			is_on ? sim_now(sim) + pf->until_ns - pf->at_ns : 0;
		return;
	case FAULT_DRAIN:
		drain(sim, pf, is_on);
		return;
	default:
		return;
	}
	sim->counts[pf->kind] += is_on ? 1 : 0;
}

static void
begin_cb(struct sim_event *ev)
{
	struct sim_fault_run *f = container_of(ev, struct sim_fault_run, begin_ev);
	struct sim *sim = f->sim;
	const struct plan_fault *pf = plan_of(f);
	const uint64_t felt_ns = sim_now(sim) + pf->until_ns - pf->at_ns + grace_ns(&sim->plan);

	SIM_TRACE(sim, "fault %s begins: device %u, daemon %u, value %u", fault_name(pf->kind),
		  pf->device, pf->daemon, pf->value);
	f->is_on = true;
	if (pf->kind <= FAULT_DAEMON_SLOW || pf->kind == FAULT_CONNECT_REFUSED ||
	    pf->kind == FAULT_REVOKE_FAILS || pf->kind == FAULT_GRANT_SLOW ||
	    pf->kind == FAULT_DRAIN)
		sim_host_trouble(sim_host_at(sim, daemon_host(pf)), felt_ns,
				 pf->kind != FAULT_DAEMON_SLOW);
	if (pf->kind == FAULT_SERVER_SLOW || pf->kind == FAULT_DONE_HELD ||
	    (pf->kind >= FAULT_CRASH && pf->kind <= FAULT_RESTART))
		sim_host_trouble(&sim->devices[pf->device].host, felt_ns, true);
	if (pf->kind == FAULT_NET_SLOW || pf->kind == FAULT_NET_STUCK)
		link_slow(sim, pf, true);
	else if (pf->kind >= FAULT_NET_IN && pf->kind <= FAULT_NET_BOTH)
		link_block(sim, pf, true);
	else if (pf->kind >= FAULT_DISK_WRITE && pf->kind <= FAULT_BURST)
		disk_fault(sim, pf);
	else if (pf->kind >= FAULT_PORTAL_ADDED)
		control_fault(sim, pf, true);
	else if (pf->kind >= FAULT_CRASH || pf->kind == FAULT_SERVER_SLOW)
		server_fault(sim, pf);
	else
		daemon_fault(sim, pf);
}

static void
end(struct sim_fault_run *f)
{
	struct sim *sim = f->sim;
	const struct plan_fault *pf = plan_of(f);

	if (!f->is_on)
		return;
	f->is_on = false;
	SIM_TRACE(sim, "fault %s ends", fault_name(pf->kind), 0);
	if (pf->kind == FAULT_NET_SLOW || pf->kind == FAULT_NET_STUCK)
		link_slow(sim, pf, false);
	else if (pf->kind >= FAULT_NET_IN && pf->kind <= FAULT_NET_BOTH)
		link_block(sim, pf, false);
	else if ((pf->kind == FAULT_DAEMON_KILL || pf->kind == FAULT_DAEMON_POWER ||
		  pf->kind == FAULT_DAEMON_STOP) &&
		 !sim->daemons[pf->daemon].host.is_up)
		sim_daemon_start(&sim->daemons[pf->daemon]);
	else if (pf->kind >= FAULT_PORTAL_ADDED)
		control_fault(sim, pf, false);
}

static void
end_cb(struct sim_event *ev)
{
	end(container_of(ev, struct sim_fault_run, end_ev));
}

void
faults_start(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_faults; i++) {
		struct sim_fault_run *f = &sim->faults[i];
		const struct plan_fault *pf = &sim->plan.faults[i];

		*f = (struct sim_fault_run){.sim = sim, .index = i};
		f->begin_ev.fire = begin_cb;
		f->end_ev.fire = end_cb;
		if (pf->is_dropped)
			continue;
		sim_clock_at(&sim->clock, &f->begin_ev, sim_now(sim) + pf->at_ns);
		sim_clock_at(&sim->clock, &f->end_ev, sim_now(sim) + pf->until_ns);
	}
}

void
faults_heal(struct sim *sim)
{
	struct sim_net *net = &sim->net;

	for (uint32_t i = 0; i < sim->plan.n_faults; i++) {
		struct sim_fault_run *f = &sim->faults[i];

		sim_clock_cancel(&sim->clock, &f->begin_ev);
		sim_clock_cancel(&sim->clock, &f->end_ev);
		end(f);
	}
	for (uint32_t i = 0; i < SIM_HOSTS_MAX; i++) {
		net->fail_ops[i] = 0;
		net->fail_grants[i] = 0;
		net->fail_revokes[i] = 0;
		net->refuse_connects_ns[i] = 0;
		net->refuse_grants_ns[i] = 0;
		net->slow_grants_ns[i] = 0;
		net->hold_done_ns[i] = 0;
	}
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++) {
		sim->daemons[i].memory.fail_fills_ns = 0;
		sim->daemons[i].memory.fail_zeros = 0;
		sim_daemon_set_memory(&sim->daemons[i], 0, 0);
		for (uint32_t k = 0; k < sim->plan.n_devices; k++)
			sim_device_set_portal(&sim->devices[k], i, true);
	}
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		sim_disk_heal(&sim->devices[i].disk);
		sim->devices[i].crash_at_ack = false;
	}
	sim->is_healed = true;
}

void
faults_heal_writes(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		sim->devices[i].disk.fail_writes_ns = 0;
}
