/* SPDX-License-Identifier: MIT */
/*
 * Device invariants 2 and 4: what the bits of the page map say is true.  A page is
 * looked at when its bit appears, when a change of it is answered, and when its
 * remote memory changes.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/bump.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

uint32_t
oracle_daemon_in(const struct sim_device_host *dh, uint32_t slot)
{
	return (uint32_t)strtoul(dh->dev->remotes[slot].address, NULL, 10) - SIM_DEVICES_MAX;
}

/* The memory of @page on its daemon, or NULL: the session is at its end, or was; or the slab
 * is on its way back and the daemon may have taken it. */
static const uint8_t *
remote_page(struct sim_device_host *dh, uint32_t page)
{
	const struct slab_device *d = dh->dev;
	const uint32_t slab = page / SIM_SLAB_PAGES;
	const uint32_t block = page / BLOCK_PAGES, bit = 1u << page % BLOCK_PAGES;
	const struct sim_conn *c;
	const struct sim_grant *g;
	struct slab_home home;
	uint64_t addr;

	if (!(slab_readable_pages(d, block) & bit))
		return NULL;
	home = slab_home_of(d, block, bit, TP_OP_READ);
	addr = home.remote_addr + (uint64_t)(page % SIM_SLAB_PAGES) * PAGE_BYTES;
	c = sim_net_find(&dh->host.sim->net, dh->host.index,
			 SIM_DEVICES_MAX + oracle_daemon_in(dh, home.daemon));
	if (!c || !c->peer || c->peer->is_ending)
		return NULL;
	g = sim_net_grant_at(c->peer, home.rkey, addr, PAGE_BYTES);
	if (!g &&
	    (d->arena.slabs[slab].state != SLAB_STATE_MAPPED || c->peer->forced_slabs & 1u << slab))
		return NULL;
	if (!g)
		sim_fail(DEVICE_4, "device %u: slab %u is mapped and not granted", dh->index, slab);
	return g->region->bytes + (addr - g->remote.addr);
}

static void
check_remote(struct sim_device_host *dh, uint32_t page)
{
	const struct page_query q = {.rule = RULE_NEWEST};
	const uint8_t *bytes = remote_page(dh, page);

	if (bytes && !pages_allow(&dh->pages, page, 0, PAGE_BYTES, bytes, &q))
		sim_fail(DEVICE_2, "device %u: page %u has its remote bit and not its newest bytes",
			 dh->index, page);
}

static void
check_backup(struct sim_device_host *dh, uint32_t page)
{
	const struct page_query q = {.rule = RULE_NEWEST};

	if (!pages_allow(&dh->pages, page, 0, PAGE_BYTES,
			 dh->disk.bytes + (size_t)page * PAGE_BYTES, &q))
		sim_fail(DEVICE_2, "device %u: page %u has its backup bit and not its newest bytes",
			 dh->index, page);
}

bool
oracle_is_elsewhere(struct sim_device_host *dh, uint32_t page, uint32_t rkey)
{
	const uint32_t block = page / BLOCK_PAGES, bit = 1u << page % BLOCK_PAGES;

	/* Should that daemon just have died, nobody here can know. */
	return (slab_readable_pages(dh->dev, block) & bit) &&
	       slab_home_of(dh->dev, block, bit, TP_OP_READ).rkey != rkey;
}

void
oracle_copies_of(struct sim_device_host *dh, uint32_t page)
{
	const struct arena_block *b = &dh->dev->arena.blocks[page / BLOCK_PAGES];
	const uint32_t bit = 1u << page % BLOCK_PAGES;

	if (b->remote & bit)
		check_remote(dh, page);
	if (b->backup & bit && dh->dev->backup)
		check_backup(dh, page);
}

static void
see_map(struct sim_device_host *dh, uint64_t maps_total)
{
	dh->seen_maps = maps_total;
	dh->mapped_ns = sim_now(dh->host.sim);
	dh->waited_since_ns = UINT64_MAX;
}

void
oracle_device_started(struct sim_device_host *dh)
{
	const uint32_t n = dh->dev->arena.n_blocks;

	dh->seen_remote = bump_alloc(n * sizeof(*dh->seen_remote));
	dh->seen_backup = bump_alloc(n * sizeof(*dh->seen_backup));
	dh->lost_until_ns = bump_alloc(n * BLOCK_PAGES * sizeof(*dh->lost_until_ns));
	memset(dh->seen_state, 0, sizeof(dh->seen_state));
	memset(dh->seen_daemon, 0, sizeof(dh->seen_daemon));
	dh->seen_evictions = 0;
	see_map(dh, 0);
	memset(dh->down_ns, 0, sizeof(dh->down_ns));
	oracle_all_copies(dh);
}

/* Device 5: a MAP that is not answered ends the session, however well PING does; without
 * answers to PING that takes as long as PING's own rules say. */
static void
check_mapping(struct sim_device_host *dh, uint32_t slab, const struct arena_slab *s)
{
	const struct sim *sim = dh->host.sim;
	/* Each answer to another MAP begins the time anew.  All daemons may be asked one after
	 * the other, and each may be drawn later than the others. */
	const uint64_t one_ns =
		((MAP_ANSWER_TIMEOUTS + 3) * sim->plan.n_slabs + 2) * sim->plan.op_timeout_ns +
		PLACEMENT_PATIENCE_NS + sim->plan.control_timeout_ns + 2 * sim->plan.ping_ns +
		10 * sim->plan.lag_ns;
	const uint64_t most_ns = one_ns * sim->plan.n_daemons;

	if (s->state != SLAB_STATE_MAPPING || dh->seen_state[slab] != SLAB_STATE_MAPPING ||
	    dh->host.troubled_until_ns >= sim_now(sim))
		dh->mapping_since_ns[slab] = sim_now(sim);
	else if (sim_now(sim) - dh->mapping_since_ns[slab] > most_ns)
		sim_fail(DEVICE_5, "device %u: slab %u waits for its mapping without end",
			 dh->index, slab);
}

/* A slab on the move has lost a home since the last turn. */
static void
see_homes(struct sim_device_host *dh, uint32_t slab)
{
	const struct slab_device *d = dh->dev;
	const struct migration *m = migration_of(d, slab);
	const uint32_t state = d->arena.slabs[slab].state;
	uint64_t *sights = dh->host.sim->sights;

	if (dh->seen_state[slab] == SLAB_STATE_MIGRATING) {
		sights[SIGHT_OLD_HOME_LOST] += state == SLAB_STATE_MAPPED &&
					       d->remotes[dh->seen_old[slab]].state != REMOTE_UP;
		sights[SIGHT_BOTH_HOMES_LOST] +=
			state == SLAB_STATE_UNMAPPED || state == SLAB_STATE_FAILED;
	}
	dh->seen_old[slab] = m ? (uint8_t)m->old.daemon : 0;
	dh->seen_old_generation[slab] = m ? m->old.generation : 0;
}

/* Device 4: a slab is given up with the session of its daemon, or evicted, or taken by force. */
static void
check_slabs(struct sim_device_host *dh)
{
	const struct slab_device *d = dh->dev;

	for (uint32_t i = 0; i < d->arena.n_slabs; i++) {
		const struct arena_slab *s = &d->arena.slabs[i];

		if (dh->seen_state[i] == SLAB_STATE_MAPPED && !slab_is_readable(d, i) &&
		    dh->seen_evictions == d->stats.evictions && !oracle_has_lost_home(dh, i))
			sim_fail(DEVICE_4,
				 "device %u: slab %u was given up though its daemon is there",
				 dh->index, i);
		check_mapping(dh, i, s);
		if (slab_is_readable(d, i) && d->remotes[s->daemon].state != REMOTE_UP)
			sim_fail(DEVICE_5,
				 "device %u: slab %u is mapped on a daemon without session",
				 dh->index, i);
		see_homes(dh, i);
		dh->seen_state[i] = (uint8_t)s->state;
		dh->seen_daemon[i] = (uint8_t)s->daemon;
		dh->seen_generation[i] = s->generation;
	}
	dh->seen_evictions = d->stats.evictions;
	if (dh->seen_maps != d->stats.maps_total)
		see_map(dh, d->stats.maps_total);
}

void
oracle_device_turn(struct sim_device_host *dh)
{
	const struct arena *a = &dh->dev->arena;

	for (uint32_t block = 0; block < a->n_blocks; block++) {
		const struct arena_block *b = &a->blocks[block];
		const uint32_t remote = slab_readable_pages(dh->dev, block);
		uint32_t fresh =
			(remote & ~dh->seen_remote[block]) | (b->backup & ~dh->seen_backup[block]);

		if (!dh->dev->backup)
			oracle_lost(dh, block);
		dh->seen_remote[block] = remote;
		dh->seen_backup[block] = b->backup;
		for (; fresh != 0; fresh &= fresh - 1)
			oracle_copies_of(dh, block * BLOCK_PAGES + (uint32_t)__builtin_ctz(fresh));
	}
	check_slabs(dh);
}

void
oracle_all_copies(struct sim_device_host *dh)
{
	const struct arena *a = &dh->dev->arena;

	for (uint32_t block = 0; block < a->n_blocks; block++) {
		uint32_t bits = a->blocks[block].remote | a->blocks[block].backup;

		for (; bits != 0; bits &= bits - 1)
			oracle_copies_of(dh, block * BLOCK_PAGES + (uint32_t)__builtin_ctz(bits));
	}
}

void
oracle_remote_written(struct sim *sim, struct sim_grant *g, uint64_t at, uint64_t length_bytes)
{
	const uint32_t host = g->conn->target;
	struct sim_device_host *dh;

	if (host >= SIM_DEVICES_MAX || !g->is_told)
		return;
	dh = &sim->devices[host];
	if (!dh->dev || g->slab >= dh->dev->arena.n_slabs)
		return;
	for (uint64_t p = at / PAGE_BYTES; p <= (at + length_bytes - 1) / PAGE_BYTES; p++)
		oracle_copies_of(dh, g->slab * SIM_SLAB_PAGES + (uint32_t)p);
}

/* A write that goes only to the backup has cleared the remote bit before. */
void
oracle_backup_write(struct sim *sim, uint32_t device, const struct backup_op *op)
{
	struct sim_device_host *dh = &sim->devices[device];
	const uint32_t first = (uint32_t)(op->offset_bytes / PAGE_BYTES);

	for (uint32_t i = 0; i < op->length_bytes / PAGE_BYTES; i++) {
		const uint32_t page = first + i;
		const struct arena_block *b = &dh->dev->arena.blocks[page / BLOCK_PAGES];
		const uint8_t *bytes;

		if (!(b->remote & 1u << page % BLOCK_PAGES))
			continue;
		bytes = remote_page(dh, page);
		/* An older write may be on its way there after the newer one is on remote. */
		if (bytes && dh->pages.pages[page].newest &&
		    memcmp(bytes, backup_op_page(op, (uint64_t)i * PAGE_BYTES), PAGE_BYTES) != 0)
			oracle_copies_of(dh, page);
	}
}
