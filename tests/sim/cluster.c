/* SPDX-License-Identifier: MIT */
#include "sim/cluster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "sim/bump.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/judge.h"
#include "sim/world.h"
#include "slab/core.h"

/* A run takes some thousands. */
#define SIM_EVENTS_MAX 1000000u

void
sim_entropy(struct sim *sim, void *buf, uint32_t length_bytes)
{
	uint8_t *p = buf;

	for (uint32_t i = 0; i < length_bytes; i++)
		p[i] = (uint8_t)rng_below(&sim->rng, 256);
}

void
sim_psk(struct auth_psk *ret_psk)
{
	ret_psk->length_bytes = 24;
	memset(ret_psk->key, 0x5a, ret_psk->length_bytes);
}

struct sim *
sim_new(void)
{
	return guard_alloc(sizeof(struct sim));
}

struct sim *
sim_free(struct sim *sim)
{
	for (uint32_t i = 0; i < SIM_DEVICES_MAX; i++) {
		free(sim->devices[i].arena);
		free(sim->devices[i].disk.bytes);
		free(sim->devices[i].pages.done);
	}
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		for (uint32_t k = 0; k < SIM_POOL_MAX; k++)
			free(sim->daemons[i].memory.slots[k].bytes);
	for (uint32_t i = 0; i < SIM_PEERS_MAX; i++)
		free(sim->peers[i].buf);
	sim_clock_fini(&sim->clock);
	free(sim);
	return NULL;
}

/* --- the plan --- */

static void
next_op_schedule(struct sim *sim)
{
	const struct plan *p = &sim->plan;

	if (sim->next_op < p->n_ops)
		sim_clock_at(&sim->clock, &sim->next_op_ev,
			     NSEC_PER_SEC + p->ops[sim->op_order[sim->next_op]].at_ns);
}

static void
next_op_cb(struct sim_event *ev)
{
	struct sim *sim = container_of(ev, struct sim, next_op_ev);
	const uint32_t op = sim->op_order[sim->next_op++];
	const struct plan_op *o = &sim->plan.ops[op];

	next_op_schedule(sim);
	if (!o->is_dropped)
		sim_device_op(&sim->devices[o->device], op);
}

/* By time; ops of one moment in the order of the plan. */
static void
order_ops(struct sim *sim)
{
	const struct plan *p = &sim->plan;
	uint32_t *order = sim->op_order;

	for (uint32_t i = 0; i < p->n_ops; i++) {
		uint32_t k = i;

		for (; k > 0 && p->ops[order[k - 1]].at_ns > p->ops[i].at_ns; k--)
			order[k] = order[k - 1];
		order[k] = i;
	}
}

static void
start(struct sim *sim)
{
	const struct plan *p = &sim->plan;

	bump_reset();
	guard_reset();
	sim->rng = rng_of(p->seed, 2 + p->variant);
	sim_clock_reset(&sim->clock);
	sim_net_reset(&sim->net, sim);
	sim->trace.n = 0;
	sim->n_requests = 0;
	sim->is_healed = false;
	sim->is_ending = false;
	sim->next_op = 0;
	sim->next_op_ev = (struct sim_event){.fire = next_op_cb};
	order_ops(sim);
	for (uint32_t i = 0; i < p->n_daemons; i++) {
		sim_daemon_init(&sim->daemons[i], sim, i);
		sim_daemon_start(&sim->daemons[i]);
	}
	for (uint32_t i = 0; i < p->n_devices; i++) {
		sim_device_init(&sim->devices[i], sim, i);
		sim_device_start(&sim->devices[i]);
	}
	for (uint32_t i = 0; i < p->n_peers; i++) {
		sim_peer_init(&sim->peers[i], sim, i);
		sim_peer_start(&sim->peers[i]);
	}
	faults_start(sim);
	next_op_schedule(sim);
}

/* --- afterwards --- */

bool
sim_run_until(struct sim *sim, sim_until_fn *is_reached, uint64_t ns)
{
	const uint64_t until_ns = sim_now(sim) + ns;

	while (!is_reached(sim)) {
		if (sim->clock.n_fired >= SIM_EVENTS_MAX)
			sim_fail(DEVICE_5, "a core asks to be called again and again");
		if (!sim_clock_step(&sim->clock, until_ns))
			return is_reached(sim);
	}
	return true;
}

bool
sim_never(struct sim *sim)
{
	(void)sim;
	return false;
}

static bool
daemons_are_up(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		if (!sim->daemons[i].host.is_up)
			return false;
	return true;
}

bool
sim_is_answered(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		const struct sim_device_host *dh = &sim->devices[i];

		if (!dh->host.is_up || dh->is_stopping || dh->n_waiting > 0 ||
		    !list_is_empty(&dh->requests))
			return false;
	}
	return true;
}

uint64_t
sim_deadline_ns(const struct plan *p)
{
	return OP_AGE_TIMEOUTS * p->op_timeout_ns + 6 * p->connect_timeout_ns +
	       2 * p->client_timeout_ns + 2 * p->retry_max_ns + p->hello_timeout_ns +
	       20 * NSEC_PER_SEC;
}

static void
daemons_start(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		if (!sim->daemons[i].host.is_up)
			sim_daemon_start(&sim->daemons[i]);
}

static bool
daemons_are_not_stopping(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		if (sim->daemons[i].is_stopping)
			return false;
	return true;
}

static bool
sessions_are_up(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		const struct slab_device *d = sim->devices[i].dev;
		uint32_t n_up = 0;

		for (uint32_t k = 0; k < d->n_remotes; k++)
			n_up += d->remotes[k].state == REMOTE_UP && !d->remotes[k].is_leaving;
		if (n_up < sim->plan.n_daemons)
			return false;
	}
	return true;
}

bool
sim_backups_are_whole(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		const struct slab_device *d = sim->devices[i].dev;

		if ((d->backup && d->stats.pages_degraded > 0) || d->n_unsafe > 0 ||
		    d->n_kept > 0 || d->n_in_use > 0)
			return false;
	}
	return true;
}

static bool
peers_are_gone(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_peers; i++)
		if (!sim_peer_is_gone(&sim->peers[i]))
			return false;
	return true;
}

static bool
peers_are_answered(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_peers; i++)
		if (!sim_peer_is_answered(&sim->peers[i]))
			return false;
	return true;
}

/* Until the last host that stands still goes on. */
static uint64_t
pause_ns(struct sim *sim)
{
	uint64_t until_ns = sim_now(sim);

	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		if (sim->daemons[i].host.paused_until_ns > until_ns)
			until_ns = sim->daemons[i].host.paused_until_ns;
	return until_ns - sim_now(sim);
}

static void
peers_end(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_peers; i++)
		sim_peer_calm(&sim->peers[i]);
	/* Before the daemon gives them up for their silence. */
	if (!sim_run_until(sim, peers_are_answered, NSEC_PER_SEC + pause_ns(sim)))
		sim_fail(DAEMON_2, "a client's UNMAP is not answered");
	for (uint32_t i = 0; i < sim->plan.n_peers; i++)
		sim_peer_stop(&sim->peers[i]);
	if (!sim_run_until(sim, peers_are_gone, sim_deadline_ns(&sim->plan)))
		sim_fail(CONTRACT, "a foreign client's connection does not end");
	for (uint32_t i = 0; i < sim->plan.n_peers; i++)
		sim_peer_end(&sim->peers[i]);
}

/* A core may wait for the backup with as much as its buffers hold, and with no answer. */
static bool
taken_is_answered(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		if (sim->devices[i].n_pending > 0)
			return false;
	return true;
}

static void
answer_without_backup(struct sim *sim)
{
	uint64_t ns = sim_deadline_ns(&sim->plan);

	/* Each of those that wait behind each other is let go by the next try to write. */
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		ns += 2 * BACKUP_RETRY_NS * (sim->devices[i].n_pending + sim->devices[i].n_waiting);
	if (!sim_run_until(sim, taken_is_answered, ns))
		sim_fail(DEVICE_5, "requests are not answered while the backup refuses writes");
}

/* A burst may begin after the plan's end. */
static bool
requests_have_begun(struct sim *sim)
{
	return sim->next_op == sim->plan.n_ops;
}

static void
heal(struct sim *sim)
{
	const struct plan *p = &sim->plan;

	faults_heal(sim);
	peers_end(sim);
	if (p->is_backup_broken)
		answer_without_backup(sim);
	/* What stands still is not healed: it goes on by itself. */
	(void)sim_run_until(sim, sim_never, pause_ns(sim));
	faults_heal_writes(sim);
	if (!sim_run_until(sim, daemons_are_not_stopping, sim_deadline_ns(p)))
		sim_fail(DAEMON_5, "a daemon does not end");
	daemons_start(sim);
	if (!sim_run_until(sim, requests_have_begun, sim_deadline_ns(p)))
		sim_fail(CONTRACT, "a request of the plan is not made");
	if (!sim_run_until(sim, sim_is_answered, sim_deadline_ns(p)))
		sim_fail(DEVICE_5, "requests are not answered long after all faults have ended");
	if (!sim_run_until(sim, daemons_are_up, sim_deadline_ns(p)))
		sim_fail(DEVICE_5, "a daemon does not come back");
	/* With fewer places than devices somebody has to stay outside. */
	if (p->max_clients >= p->n_devices &&
	    !sim_run_until(sim, sessions_are_up, sim_deadline_ns(p)))
		sim_fail(DEVICE_5, "a daemon is not used again long after all faults have ended");
	if (!sim_run_until(sim, sim_backups_are_whole, sim_deadline_ns(p)))
		sim_fail(DEVICE_6, "pages are not brought to the backup long after it works again");
}

static bool
devices_are_down(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		if (sim->devices[i].host.is_up)
			return false;
	return true;
}

static bool
slabs_are_back(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++) {
		struct daemon_stats s;

		daemon_get_stats(sim->daemons[i].daemon, &s);
		if (s.slabs_mapped + s.slabs_pending + s.connections > 0 ||
		    s.slabs_free + s.slabs_lost < s.slabs_target)
			return false;
	}
	return true;
}

static void
end(struct sim *sim)
{
	const struct plan *p = &sim->plan;

	sim->is_ending = true;
	for (uint32_t i = 0; i < p->n_devices; i++)
		sim_device_stop(&sim->devices[i]);
	if (!sim_run_until(sim, devices_are_down, sim_deadline_ns(p)))
		sim_fail(DEVICE_5, "a device does not end");
	for (uint32_t i = 0; i < p->n_devices; i++)
		sim_device_end(&sim->devices[i]);
	if (!sim_run_until(sim, slabs_are_back, sim_deadline_ns(p)))
		sim_fail(DAEMON_5, "slabs of clients that are gone do not come back");
	for (uint32_t i = 0; i < p->n_daemons; i++) {
		if (p->has_control && i % 2 == 0)
			sim_daemon_drain(&sim->daemons[i]);
		else
			sim_daemon_stop(&sim->daemons[i]);
	}
	for (uint32_t i = 0; i < p->n_daemons; i++)
		while (sim->daemons[i].host.is_up)
			if (!sim_clock_step(&sim->clock, sim_now(sim) + sim_deadline_ns(p)))
				sim_fail(DAEMON_5, "a daemon does not end");
	sim_net_clear(&sim->net);
}

void
sim_run(struct sim *sim)
{
	sim_fail_set_run(sim);
	start(sim);
	(void)sim_run_until(sim, sim_never, sim->plan.end_ns + 1);
	heal(sim);
	sim_judge(sim);
	end(sim);
	sim_fail_set_run(NULL);
}
