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
	dh->daemon = daemon_free(dh->daemon);
	sim_memory_drop_all(&dh->memory);
	if (tp_region_release(dh->epoch_region) < 0)
		sim_fail(DAEMON_2, "the epoch page of a daemon that ended can still be read");
	sim_tp_free(h->tp);
	h->tp = NULL;
	dh->is_stopping = false;
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

void
sim_daemon_init(struct sim_daemon_host *dh, struct sim *sim, uint32_t index)
{
	sim_host_init(&dh->host, sim, SIM_DEVICES_MAX + index, turn);
	dh->index = index;
	dh->daemon = NULL;
	dh->is_stopping = false;
	dh->is_stopped = false;
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
		.headroom_bytes = 4 * SIM_SLAB_BYTES,
		.beta_milli = 200,
		.psi_limit_centi = 1000,
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

void
sim_daemon_stop(struct sim_daemon_host *dh)
{
	SIM_TRACE(dh->host.sim, "daemon %u is stopped", NULL, dh->index);
	dh->is_stopping = true;
	tp_listener_close(dh->listener);
	daemon_stop(dh->daemon, stopped_cb, dh);
	sim_host_touch(&dh->host);
}
