/* SPDX-License-Identifier: MIT */
#include "sim/host.h"

#include <assert.h>

#include "common/list.h"
#include "sim/world.h"

static void
wake_at(struct sim_host *h, uint64_t at_ns)
{
	if (sim_event_is_queued(&h->wake_ev) && h->wake_ev.at_ns <= at_ns)
		return;
	sim_clock_at(&h->sim->clock, &h->wake_ev, at_ns);
}

void
sim_host_touch(struct sim_host *h)
{
	struct sim *sim = h->sim;

	if (h->is_up)
		wake_at(h, sim_now(sim) + rng_between(&sim->rng, 0, sim->plan.lag_ns));
}

bool
sim_host_is_late(struct sim_host *h, struct sim_event *ev)
{
	struct sim *sim = h->sim;

	if (h->paused_until_ns <= sim_now(sim))
		return false;
	sim_clock_at(&sim->clock, ev, h->paused_until_ns);
	return true;
}

static void
wake_cb(struct sim_event *ev)
{
	struct sim_host *h = container_of(ev, struct sim_host, wake_ev);
	struct sim *sim = h->sim;
	uint64_t next_ns;

	if (!h->is_up || sim_host_is_late(h, ev))
		return;
	next_ns = h->turn(h);
	if (next_ns != UINT64_MAX && h->is_up)
		wake_at(h, next_ns > sim_now(sim) ? next_ns : sim_now(sim) + 1);
}

void
sim_host_init(struct sim_host *h, struct sim *sim, uint32_t index,
	      uint64_t (*turn)(struct sim_host *h))
{
	*h = (struct sim_host){.sim = sim, .index = index, .turn = turn};
	h->wake_ev.fire = wake_cb;
}

void
sim_host_pause(struct sim_host *h, uint64_t until_ns)
{
	if (until_ns > h->paused_until_ns)
		h->paused_until_ns = until_ns;
}

void
sim_host_trouble(struct sim_host *h, uint64_t until_ns, bool is_broken)
{
	if (is_broken && until_ns > h->broken_until_ns)
		h->broken_until_ns = until_ns;
	if (until_ns > h->troubled_until_ns)
		h->troubled_until_ns = until_ns;
}
