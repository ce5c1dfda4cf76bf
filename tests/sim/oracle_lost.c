/* SPDX-License-Identifier: MIT */
/*
 * Devices without a backup: what may be lost, and so what may fail.  A daemon that is lost, or
 * that takes a slab back by force, takes the pages along that it has, and no others.
 */
#include <errno.h>
#include <string.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

/* The daemon in @slot, as of the last turn, has not got the mapping @generation of @slab any more,
 * or may take it without a word from now on. */
static bool
is_home_gone(const struct sim_device_host *dh, uint32_t slab, uint32_t slot, uint32_t generation)
{
	struct sim *sim = dh->host.sim;
	const struct sim_conn *c = sim_net_find(&sim->net, dh->host.index,
						SIM_DEVICES_MAX + oracle_daemon_in(dh, slot));
	const struct sim_grant *g;

	if (dh->dev->remotes[slot].state != REMOTE_UP || !c || !c->peer || c->peer->is_ending)
		return true;
	g = oracle_find_grant(c->peer, slab, generation);
	return !g || (g->evicted_ns != 0 && g->deadline_ns <= sim_now(sim));
}

bool
oracle_has_lost_home(const struct sim_device_host *dh, uint32_t slab)
{
	if (dh->seen_state[slab] == SLAB_STATE_MIGRATING &&
	    is_home_gone(dh, slab, dh->seen_old[slab], dh->seen_old_generation[slab]))
		return true;
	return dh->seen_state[slab] != 0 && dh->seen_state[slab] != SLAB_STATE_UNMAPPED &&
	       dh->seen_state[slab] != SLAB_STATE_MAPPING &&
	       is_home_gone(dh, slab, dh->seen_daemon[slab], dh->seen_generation[slab]);
}

/* Nobody lent it at the last turn; since then a daemon has, and was lost. */
static bool
has_lost_new_home(const struct sim_device_host *dh, uint32_t slab)
{
	const bool was_unmapped = dh->seen_state[slab] == SLAB_STATE_UNMAPPED ||
				  dh->seen_state[slab] == SLAB_STATE_MAPPING;

	return was_unmapped && !slab_is_readable(dh->dev, slab) &&
	       dh->dev->stats.maps_total != dh->seen_maps;
}

/* A write of it has found no daemon: what it was to replace was lost before, or is now. */
static bool
has_failed_write(const struct sim_device_host *dh, uint32_t page)
{
	const struct change *c = dh->pages.pages[page].newest;

	while (c && c->status == CHANGE_OK)
		c = c->older;
	return c && !slab_is_mapped(dh->dev, page / SIM_SLAB_PAGES);
}

void
oracle_lost(struct sim_device_host *dh, uint32_t block)
{
	struct sim *sim = dh->host.sim;
	const uint32_t lost = dh->dev->arena.blocks[block].backup;
	const uint32_t slab = block * BLOCK_PAGES / SIM_SLAB_PAGES;
	uint32_t changed = lost ^ dh->seen_backup[block];
	uint32_t gone = dh->seen_remote[block];

	/* It may be lost and written again within a turn: no bit of it shows that. */
	if (gone != 0 && oracle_has_lost_home(dh, slab))
		for (; gone != 0; gone &= gone - 1)
			dh->lost_until_ns[block * BLOCK_PAGES + (uint32_t)__builtin_ctz(gone)] =
				sim_now(sim);
	for (; changed != 0; changed &= changed - 1) {
		const uint32_t bit = changed & -changed;
		const uint32_t page = block * BLOCK_PAGES + (uint32_t)__builtin_ctz(changed);

		if (!(lost & bit)) {
			dh->lost_until_ns[page] = sim_now(sim);
			continue;
		}
		sim->sights[SIGHT_LOST]++;
		if (!oracle_has_lost_home(dh, slab) && !has_lost_new_home(dh, slab) &&
		    !has_failed_write(dh, page))
			sim_fail(DEVICE_4, "device %u: page %u is lost, and its daemon is there",
				 dh->index, page);
	}
}

bool
oracle_may_be_lost(const struct sim_device_host *dh, uint32_t page, uint64_t since_ns)
{
	const uint32_t block = page / BLOCK_PAGES, bit = 1u << page % BLOCK_PAGES;

	/* The answer may be given when the page is written again already, in the same turn even. */
	return ((dh->dev->arena.blocks[block].backup | dh->seen_backup[block]) & bit) != 0 ||
	       dh->lost_until_ns[page] >= since_ns ||
	       oracle_has_lost_home(dh, page / SIM_SLAB_PAGES);
}
