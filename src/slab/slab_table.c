/* SPDX-License-Identifier: MIT */
/*
 * The slabs' states; no other file changes one.
 *
 *   UNMAPPED -> MAPPING   it is hot: its placement begins
 *   MAPPING  -> MAPPED    MR_INFO
 *   MAPPING  -> UNMAPPED  no daemon was found
 *   MAPPED   -> UNMAPPED  the daemon was lost; the backup has every page
 *   MAPPED   -> FAILED    the daemon was lost with pages that the backup refused
 *   MAPPED   -> EVICTING  the daemon wants it back, or we give it back
 *   MAPPED   -> MIGRATING it is wanted back and another daemon gave memory for it
 *   MIGRATING -> MAPPED   all its pages are there
 *   MIGRATING -> EVICTING that daemon was lost
 *   EVICTING -> UNMAPPED  DONE sent, UNMAPPED came, the deadline came, or the daemon was lost
 *   EVICTING -> FAILED    the same, with pages that the backup refused
 *   UNMAPPED -> FAILED    a write over such a page failed everywhere
 *   FAILED   -> UNMAPPED  each of them was written or trimmed since
 *
 * While a slab is not readable its remote bits mark lost pages, and only those.  But without
 * a backup the backup bits do, of slabs in any state, so that one that has lost pages can
 * be mapped again; no slab is FAILED then.
 */
#include <assert.h>
#include <inttypes.h>

#include "slab/core.h"

bool
slab_is_mapped(const struct slab_device *d, uint32_t slab)
{
	const uint32_t state = d->arena.slabs[slab].state;

	return state == SLAB_STATE_MAPPED || state == SLAB_STATE_MIGRATING;
}

bool
slab_is_readable(const struct slab_device *d, uint32_t slab)
{
	return slab_is_mapped(d, slab) || d->arena.slabs[slab].state == SLAB_STATE_EVICTING;
}

uint32_t
slab_next_generation(struct slab_device *d, uint32_t slab)
{
	struct slab_run *run = &d->runs[slab];

	run->generation = run->generation == UINT32_MAX ? 1 : run->generation + 1;
	return run->generation;
}

void
slab_set_home(struct slab_device *d, uint32_t slab, const struct slab_home *home)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	s->daemon = home->daemon;
	s->generation = home->generation;
	s->rkey = home->rkey;
	s->remote_addr = home->remote_addr;
	d->runs[slab].n_ops = 0;
	d->runs[slab].n_unsafe = 0;
}

bool
slab_info_fits(const struct slab_device *d, const struct ctl_mr_info *info)
{
	return info->length_bytes == d->config.slab_bytes &&
	       info->addr <= UINT64_MAX - info->length_bytes;
}

static void
slab_mapped(struct slab_device *d, struct remote *r, const struct ctl_mr_info *info)
{
	struct arena_slab *s = &d->arena.slabs[info->slab];

	const struct slab_home home = {r->index, info->generation, info->rkey, info->addr};

	slab_set_home(d, info->slab, &home);
	s->state = SLAB_STATE_MAPPED;
	homeless_look(d);
	d->runs[info->slab].is_trimmed = false;
	d->runs[info->slab].n_cold = 0;
	s->pages_degraded = 0;
	d->stats.maps_total++;
	d->stats.slabs_mapped++;
	r->slabs_mapped++;
	fill_want(d, info->slab);
}

static bool
slab_placed(struct slab_device *d, uint32_t slab, struct remote *r, const struct ctl_mr_info *info)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	assert(s->state == SLAB_STATE_MAPPING);
	if (!r) {
		s->state = SLAB_STATE_UNMAPPED;
		return true;
	}
	if (!slab_info_fits(d, info))
		return false;
	slab_mapped(d, r, info);
	return true;
}

void
slab_want(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	if (s->state != SLAB_STATE_UNMAPPED || d->is_stopping || d->runs[slab].migration ||
	    !activity_is_hot(d, slab))
		return;
	if (!placement_start(d, slab, NULL, slab_placed))
		return;
	s->state = SLAB_STATE_MAPPING;
	s->daemon = SLAB_DAEMON_NONE;
}

static void
unmap_without_backup(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	lost_mark_slab(d, slab);
	d->stats.pages_degraded -= s->pages_degraded;
	s->pages_degraded = 0;
	s->state = SLAB_STATE_UNMAPPED;
	homeless_look(d);
}

void
slab_unmap_lost(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];
	const uint32_t first_block = slab * d->arena.slab_blocks;
	uint32_t n_lost = 0;

	if (!d->backup) {
		unmap_without_backup(d, slab);
		return;
	}
	for (uint32_t i = 0; i < d->arena.slab_blocks; i++) {
		const uint32_t block = first_block + i;
		const struct arena_block *b = &d->arena.blocks[block];
		uint32_t lost = 0;

		if (s->pages_degraded > 0 || s->pages_lost > 0)
			lost = b->remote & ~b->backup & ~order_unsafe_pages(&d->order, block, NULL);
		slab_clear_remote(d, block, ~lost);
		n_lost += page_count(lost);
	}
	d->stats.pages_degraded -= s->pages_degraded;
	d->stats.pages_lost += n_lost - s->pages_lost;
	s->pages_degraded = 0;
	s->pages_lost = n_lost;
	s->state = n_lost > 0 ? SLAB_STATE_FAILED : SLAB_STATE_UNMAPPED;
}

void
slab_report_lost(struct slab_device *d, uint64_t n_pages, const struct remote *r, const char *what)
{
	if (n_pages > 0)
		device_event(d, SLAB_EVENT_ERROR,
			     "%" PRIu64 " pages are lost: %s and now daemon %s %s; reads of them "
			     "fail until they are written",
			     n_pages,
			     d->backup ? "the backup had refused them" : "there is no backup",
			     r->address, what);
}

void
slab_evicting(struct slab_device *d, uint32_t slab)
{
	assert(d->arena.slabs[slab].state == SLAB_STATE_MAPPED);
	d->arena.slabs[slab].state = SLAB_STATE_EVICTING;
}

void
slab_read_from_backup(struct slab_device *d, uint32_t slab)
{
	const uint32_t first_block = slab * d->arena.slab_blocks;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		slab_clear_remote(d, first_block + i, d->arena.blocks[first_block + i].backup);
}

void
slab_stop_reading(struct slab_device *d, uint32_t slab)
{
	const uint32_t first_block = slab * d->arena.slab_blocks;

	slab_read_from_backup(d, slab);
	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		if (d->arena.blocks[first_block + i].remote != 0)
			slab_clear_remote(d, first_block + i,
					  order_unsafe_pages(&d->order, first_block + i, NULL));
}

void
slab_release(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	assert(s->state == SLAB_STATE_EVICTING && d->runs[slab].pages_remote == 0);
	s->state = SLAB_STATE_UNMAPPED;
	homeless_look(d);
	d->stats.slabs_mapped--;
	d->remotes[s->daemon].slabs_mapped--;
}

void
slab_forfeit(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];
	const uint64_t lost_before = d->stats.pages_lost;

	assert(s->state == SLAB_STATE_EVICTING);
	slab_unmap_lost(d, slab);
	d->stats.slabs_mapped--;
	d->remotes[s->daemon].slabs_mapped--;
	slab_report_lost(d, d->stats.pages_lost - lost_before, &d->remotes[s->daemon],
			 "takes its memory back");
}

void
slabs_unmap_remote(struct slab_device *d, struct remote *r)
{
	uint64_t lost_before;

	migrate_lost(r);
	lost_before = d->stats.pages_lost;
	for (uint32_t i = 0; i < d->arena.n_slabs; i++) {
		struct arena_slab *s = &d->arena.slabs[i];

		if (s->daemon != r->index || !slab_is_readable(d, i))
			continue;
		if (s->state == SLAB_STATE_EVICTING)
			evict_cancel(d, i);
		slab_unmap_lost(d, i);
		d->stats.slabs_mapped--;
	}
	r->slabs_mapped = 0;
	placement_lost(r);
	slab_report_lost(d, d->stats.pages_lost - lost_before, r, "is gone");
}

bool
slab_forget_pages(struct slab_device *d, uint32_t block, uint32_t mask, uint32_t unsafe)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const struct arena_block *b = &d->arena.blocks[block];
	const uint32_t readable = slab_readable_pages(d, block);
	uint32_t n = 0, n_lost = 0;

	if (!d->backup) {
		slab_mend_pages(d, block, readable & mask);
		(void)lost_clear(d, block, mask);
		return false; /* no flush has to cover what replaces them */
	}
	if (s->pages_degraded > 0) {
		n = page_count(readable & ~b->backup & mask & ~unsafe);
		assert(n <= s->pages_degraded);
		s->pages_degraded -= n;
		d->stats.pages_degraded -= n;
	}
	if (s->pages_lost > 0) {
		n_lost = page_count(b->remote & ~readable & mask);
		slab_clear_remote(d, block, b->remote & ~readable & mask);
		s->pages_lost -= n_lost;
		d->stats.pages_lost -= n_lost;
		if (s->pages_lost == 0 && s->state == SLAB_STATE_FAILED)
			s->state = SLAB_STATE_UNMAPPED;
	}
	return n > 0 || n_lost > 0;
}

void
slab_degrade_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = page_count(mask);

	assert(n == 0 || slab_is_readable(d, arena_slab_of_block(&d->arena, block)));
	s->pages_degraded += n;
	d->stats.pages_degraded += n;
}

void
slab_mend_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = page_count(mask);

	assert(n <= s->pages_degraded);
	s->pages_degraded -= n;
	d->stats.pages_degraded -= n;
}

void
slab_lose_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = page_count(mask);

	if (n == 0)
		return;
	if (!d->backup) {
		lost_mark(d, block, mask);
		return;
	}
	assert(s->state == SLAB_STATE_UNMAPPED || s->state == SLAB_STATE_FAILED);
	s->state = SLAB_STATE_FAILED;
	s->pages_lost += n;
	d->stats.pages_lost += n;
	slab_set_remote(d, block, mask, s->generation);
}
