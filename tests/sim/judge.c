/* SPDX-License-Identifier: MIT */
#include "sim/judge.h"

#include <string.h>

#include "daemon/core.h"
#include "daemon/lending.h"
#include "sim/cluster.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/world.h"
#include "slab/core.h"

/* Block writes that make a slab hot in every period. */
#define HEAT_BLOCKS 5u
/* Between two tries to get a slab mapped: FREE_MEM may take a while. */
#define PLACE_WAIT_NS (150 * NSEC_PER_MSEC)
#define PLACE_ROUNDS 60u

static void
ask(struct sim *sim, struct sim_device_host *dh, const struct plan_op *o)
{
	if (!sim_device_request(dh, o))
		sim_fail(DEVICE_3, "device %u has no buffer though nothing is under way",
			 dh->index);
	if (!sim_run_until(sim, sim_is_answered, sim_deadline_ns(&sim->plan)))
		sim_fail(DEVICE_5, "a request is not answered though nothing is broken");
}

/* Everything that was ever written is read and compared. */
static void
read_all(struct sim *sim, struct sim_device_host *dh)
{
	for (uint32_t block = 0; block < dh->dev->arena.n_blocks; block++) {
		const struct plan_op o = {
			.kind = OP_READ,
			.offset_bytes = (uint64_t)block * BLOCK_BYTES,
			.length_bytes = BLOCK_BYTES,
		};
		bool is_used = false;

		for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
			const struct page_history *h = &dh->pages.pages[block * BLOCK_PAGES + i];

			is_used |= h->newest || h->base;
		}
		if (is_used)
			ask(sim, dh, &o);
	}
}

/* --- every slab finds its place --- */

static bool
is_room_for(const struct sim_device_host *dh, const struct daemon *d)
{
	const struct list *pos;

	list_foreach (pos, &d->connections) {
		const struct client *c = (const struct client *)(const void *)pos;

		/* Without its other end it is the session of a device that lost its power since. */
		if (c->state == CLIENT_SERVING && strcmp(c->device, dh->config.name) == 0 &&
		    sim_conn_of(c->conn)->peer)
			return lending_free_slabs(c) > 0;
	}
	return false;
}

static bool
has_room(const struct sim_device_host *dh)
{
	const struct sim *sim = dh->host.sim;

	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		if (is_room_for(dh, sim->daemons[i].daemon))
			return true;
	return false;
}

/* With lost pages it is not mapped; while it moves it will be soon. */
static bool
needs_place(const struct sim_device_host *dh, uint32_t slab)
{
	return dh->dev->arena.slabs[slab].state == SLAB_STATE_UNMAPPED;
}

/* A page, or so many that the slab is hot whatever its period. */
static void
use_slab(struct sim *sim, struct sim_device_host *dh, uint32_t slab)
{
	struct plan_op o = {
		.kind = OP_WRITE,
		.offset_bytes = slab * SIM_SLAB_BYTES,
		.length_bytes = PAGE_BYTES,
	};

	ask(sim, dh, &o);
	o.length_bytes = BLOCK_BYTES;
	if (sim->plan.hot_slab == 0 || !has_room(dh))
		return;
	for (uint32_t i = 0; i < HEAT_BLOCKS && needs_place(dh, slab); i++)
		ask(sim, dh, &o);
}

static bool
use_all(struct sim *sim, struct sim_device_host *dh, bool only_unplaced)
{
	bool is_placed = true;

	for (uint32_t slab = 0; slab < sim->plan.n_slabs; slab++) {
		if (!only_unplaced || needs_place(dh, slab))
			use_slab(sim, dh, slab);
		is_placed = is_placed && !needs_place(dh, slab);
	}
	return is_placed;
}

/* Writes to each slab; as long as a daemon has room for it, it must end up there. */
static void
use_slabs(struct sim *sim, struct sim_device_host *dh)
{
	bool is_placed = use_all(sim, dh, false);

	for (uint32_t i = 0; i < PLACE_ROUNDS && !is_placed && has_room(dh); i++) {
		(void)sim_run_until(sim, sim_never, sim->plan.ping_ns + PLACE_WAIT_NS);
		is_placed = use_all(sim, dh, true);
	}
	/* What is cold goes back while the others are used. */
	if (!is_placed && has_room(dh) && sim->plan.cold_slab == 0)
		sim_fail(DEVICE_5,
			 "device %u: a slab is used and not mapped, and a daemon has room",
			 dh->index);
	(void)sim_run_until(sim, sim_backups_are_whole, sim_deadline_ns(&sim->plan));
	(void)sim_run_until(sim, sim_never, 200 * sim->plan.net_ns);
}

static bool
is_refilled(const struct sim_device_host *dh, uint32_t slab)
{
	const struct arena *a = &dh->dev->arena;

	for (uint32_t i = 0; i < a->slab_blocks; i++) {
		const struct arena_block *b = &a->blocks[slab * a->slab_blocks + i];

		if (b->backup & ~b->remote)
			return false;
	}
	return true;
}

/* What was mapped since all was healed has all of its pages there soon. */
static bool
slabs_are_refilled(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		const struct sim_device_host *dh = &sim->devices[i];

		for (uint32_t slab = 0; slab < sim->plan.n_slabs; slab++) {
			const struct arena_slab *s = &dh->dev->arena.slabs[slab];

			if (s->state == SLAB_STATE_MAPPED &&
			    s->generation != dh->healed_generation[slab] && !is_refilled(dh, slab))
				return false;
		}
	}
	return true;
}

/*
 * What @d has lent to the device is what the device has from it.  A slab that lost pages on its
 * way to another daemon stays on the move until they are written.
 */
static bool
is_known(const struct sim_device_host *dh, const struct daemon *d, uint32_t index)
{
	const struct arena *a = &dh->dev->arena;
	const struct list *pos, *node;

	list_foreach (pos, &d->connections) {
		const struct client *c = (const struct client *)(const void *)pos;

		if (strcmp(c->device, dh->config.name) != 0)
			continue;
		list_foreach (node, &c->slabs) {
			const struct pool_slab *s = (const struct pool_slab *)(const void *)node;
			const struct arena_slab *known = &a->slabs[s->slab];

			if ((known->state != SLAB_STATE_MAPPED &&
			     known->state != SLAB_STATE_MIGRATING) ||
			    known->generation != s->generation ||
			    oracle_daemon_in(dh, known->daemon) != index)
				return false;
		}
	}
	return true;
}

static bool
slabs_are_known(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		for (uint32_t k = 0; k < sim->plan.n_daemons; k++)
			if (!is_known(&sim->devices[i], sim->daemons[k].daemon, k))
				return false;
	return true;
}

static void
refill_slabs(struct sim *sim)
{
	const struct plan *p = &sim->plan;
	uint64_t ns = sim_deadline_ns(p);

	if (p->refill_rate == 0 || p->has_no_backup)
		return;
	ns += 2 * p->n_slabs * SIM_SLAB_BYTES * NSEC_PER_SEC / p->refill_rate;
	if (!sim_run_until(sim, slabs_are_refilled, ns))
		sim_fail(DEVICE_5, "a slab was mapped and its pages are not brought there");
}

void
sim_judge(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->plan.n_devices; i++)
		for (uint32_t slab = 0; slab < sim->plan.n_slabs; slab++)
			sim->devices[i].healed_generation[slab] =
				sim->devices[i].dev->arena.slabs[slab].generation;
	for (uint32_t i = 0; i < sim->plan.n_devices; i++) {
		struct sim_device_host *dh = &sim->devices[i];
		const struct plan_op flush = {.kind = OP_FLUSH};

		use_slabs(sim, dh);
		refill_slabs(sim);
		if (!sim_run_until(sim, slabs_are_known, sim_deadline_ns(&sim->plan)))
			sim_fail(DEVICE_4, "a slab is lent to a device that does not use it");
		read_all(sim, dh);
		ask(sim, dh, &flush);
		if (!sim_run_until(sim, sim_backups_are_whole, sim_deadline_ns(&sim->plan)))
			sim_fail(DEVICE_3, "device %u: something is still held", i);
		oracle_all_copies(dh);
		oracle_all_buffers_back(dh);
	}
}
