/* SPDX-License-Identifier: MIT */
#include "sim/daemon_host.h"

#include <assert.h>
#include <string.h>

#include "common/list.h"
#include "daemon/daemon.h"
#include "sim/cluster.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/world.h"
#include "wire/bytes.h"

static struct sim_daemon_host *
of(struct sim_host *h)
{
	return container_of(h, struct sim_daemon_host, host);
}

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	sim_entropy(arg, buf, length_bytes);
}

static struct tp_region *
epoch_region_cb(void *arg, const struct tp *tp)
{
	const struct sim_daemon_host *dh = arg;

	assert(tp == dh->host.tp);
	return dh->epoch_region;
}

static void
event_cb(void *arg, enum daemon_event event, const char *text)
{
	struct sim_daemon_host *dh = arg;
	struct sim *sim = dh->host.sim;

	(void)event;
	SIM_TRACE(sim, "daemon %u says something", NULL, dh->index);
	if (sim->trace.is_printed)
		printf("            daemon %u: %s\n", dh->index, text);
}

static void
end(struct sim_daemon_host *dh)
{
	struct sim_host *h = &dh->host;

	h->is_up = false;
	sim_clock_cancel(&h->sim->clock, &h->wake_ev);
	sim_clock_cancel(&h->sim->clock, &dh->look_ev);
	dh->daemon = daemon_free(dh->daemon);
	sim_memory_drop_all(&dh->memory);
	if (tp_region_release(dh->epoch_region) < 0)
		sim_fail(DAEMON_2, "the epoch page of a daemon that ended can still be read");
	sim_tp_free(h->tp);
	h->tp = NULL;
	dh->is_stopping = false;
	dh->is_told_to_stop = false;
	dh->is_stopped = false;
}

static uint64_t
turn(struct sim_host *h)
{
	struct sim_daemon_host *dh = of(h);
	uint64_t next_ns;

	guard_enter();
	next_ns = daemon_advance(dh->daemon, sim_now(h->sim));
	guard_leave();
	oracle_daemon_turn(h->sim, dh);
	if (!dh->is_stopped)
		return next_ns;
	end(dh);
	return UINT64_MAX;
}

static uint32_t
held_slabs(const struct sim_daemon_host *dh)
{
	const struct sim_memory *m = &dh->memory;
	uint32_t n = 0;

	for (uint32_t i = 0; dh->host.is_up && i < m->n_slots; i++)
		n += m->slots[i].region != NULL;
	return n;
}

uint32_t
sim_daemon_available(const struct sim_daemon_host *dh)
{
	const uint32_t spare = dh->host.sim->plan.spare_slabs[dh->index];
	const uint32_t used = dh->others_slabs + held_slabs(dh);

	return SIM_HEADROOM_SLABS + spare > used ? SIM_HEADROOM_SLABS + spare - used : 0;
}

static void
look_cb(struct sim_event *ev)
{
	struct sim_daemon_host *dh = container_of(ev, struct sim_daemon_host, look_ev);
	struct sim *sim = dh->host.sim;
	const struct daemon_memory memory = {
		.total_bytes = SIM_HOST_SLABS * SIM_SLAB_BYTES,
		.available_bytes = sim_daemon_available(dh) * SIM_SLAB_BYTES,
		.psi_centi = dh->psi_centi,
	};

	if (sim_host_is_late(&dh->host, ev))
		return;
	guard_enter();
	daemon_host_memory(dh->daemon, &memory);
	guard_leave();
	oracle_daemon_memory(sim, dh);
	sim_host_touch(&dh->host);
	/* Afterwards nothing happens for long that this is about. */
	sim_clock_at(&sim->clock, ev,
		     sim_now(sim) + sim->plan.period_ns + (sim->is_healed ? NSEC_PER_SEC / 10 : 0));
}

void
sim_daemon_set_memory(struct sim_daemon_host *dh, uint32_t n_short, uint32_t psi_centi)
{
	const uint32_t spare = dh->host.sim->plan.spare_slabs[dh->index];
	const uint32_t held = held_slabs(dh);
	const uint32_t before = dh->others_slabs;

	/* As if nobody gave anything back. */
	dh->others_slabs = n_short > 0 ? (spare > held ? spare - held : 0) + n_short : 0;
	if (dh->others_slabs > before)
		dh->short_ns = 0;
	dh->psi_centi = psi_centi;
	SIM_TRACE(dh->host.sim, "daemon %u: %u slabs are available, pressure %u", NULL, dh->index,
		  sim_daemon_available(dh), psi_centi);
}

void
sim_daemon_init(struct sim_daemon_host *dh, struct sim *sim, uint32_t index)
{
	sim_host_init(&dh->host, sim, SIM_DEVICES_MAX + index, turn);
	dh->index = index;
	dh->daemon = NULL;
	dh->is_stopping = false;
	dh->is_told_to_stop = false;
	dh->is_stopped = false;
	dh->look_ev = (struct sim_event){.fire = look_cb};
	dh->others_slabs = 0;
	dh->psi_centi = 0;
	dh->short_ns = 0;
	dh->n_turns = 1;
}

void
sim_daemon_start(struct sim_daemon_host *dh)
{
	struct sim *sim = dh->host.sim;
	const struct plan *p = &sim->plan;
	struct daemon_config c = {
		.slab_bytes = SIM_SLAB_BYTES,
		.max_slabs = p->pool_slabs[dh->index],
		.max_slabs_client = p->client_slabs[dh->index],
		.headroom_bytes = SIM_HEADROOM_SLABS * SIM_SLAB_BYTES,
		.beta_milli = 200,
		.psi_limit_centi = 1000,
		.extra_choices = p->extra_choices,
		.evict_deadline_ns = p->evict_deadline_ns,
		.max_clients = p->max_clients,
		.hello_timeout_ns = p->hello_timeout_ns,
		.client_timeout_ns = p->client_timeout_ns,
		.epoch = rng_next(&sim->rng),
		.epoch_region = epoch_region_cb,
		.epoch_region_arg = dh,
		.entropy = entropy_cb,
		.entropy_arg = sim,
		.event = event_cb,
		.event_arg = dh,
	};
	int r;

	c.seed = rng_next(&sim->rng);
	if (p->has_psk)
		sim_psk(&c.psk);
	SIM_TRACE(sim, "daemon %u starts", NULL, dh->index);
	dh->host.is_up = true;
	dh->host.is_off = false;
	dh->host.paused_until_ns = 0;
	dh->host.tp = sim_tp_new(&sim->net, &dh->host);
	put_le64(dh->epoch, c.epoch);
	r = tp_region_register(dh->host.tp, dh->epoch, sizeof(dh->epoch), TP_LEND_READ,
			       &dh->epoch_region);
	assert(r == 0);
	sim_memory_reset(&dh->memory, &dh->host, c.max_slabs);
	r = daemon_new(&c, &dh->memory.memory, &dh->daemon);
	assert(r == 0);
	r = tp_listen(dh->host.tp, "0", daemon_incoming, dh->daemon, &dh->listener);
	assert(r == 0);
	(void)r;
	if (p->has_control)
		sim_clock_at(&sim->clock, &dh->look_ev, sim_now(sim));
	sim_host_touch(&dh->host);
}

void
sim_daemon_kill(struct sim_daemon_host *dh, bool is_told)
{
	struct sim *sim = dh->host.sim;

	SIM_TRACE(sim, "daemon %u dies", NULL, dh->index);
	dh->host.is_up = false;
	sim_net_down_host(&sim->net, &dh->host, is_told);
	sim_memory_finish(&dh->memory);
	end(dh);
}

static void
stopped_cb(void *arg)
{
	((struct sim_daemon_host *)arg)->is_stopped = true;
}

static void
stop_listening(struct sim_daemon_host *dh)
{
	if (!dh->is_stopping)
		tp_listener_close(dh->listener);
	dh->is_stopping = true;
}

void
sim_daemon_drain(struct sim_daemon_host *dh)
{
	SIM_TRACE(dh->host.sim, "daemon %u drains", NULL, dh->index);
	stop_listening(dh);
	dh->drain_until_ns = sim_now(dh->host.sim) + dh->host.sim->plan.drain_ns;
	daemon_drain(dh->daemon, dh->host.sim->plan.drain_ns, stopped_cb, dh);
	sim_host_touch(&dh->host);
}

void
sim_daemon_stop(struct sim_daemon_host *dh)
{
	SIM_TRACE(dh->host.sim, "daemon %u is stopped", NULL, dh->index);
	stop_listening(dh);
	dh->is_told_to_stop = true;
	daemon_stop(dh->daemon, stopped_cb, dh);
	sim_host_touch(&dh->host);
}
