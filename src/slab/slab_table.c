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
 *   EVICTING -> UNMAPPED  DONE sent, UNMAPPED came, the deadline came, or the daemon was lost
 *   EVICTING -> FAILED    the same, with pages that the backup refused
 *   UNMAPPED -> FAILED    a write over such a page failed everywhere
 *   FAILED   -> UNMAPPED  each of them was written or trimmed since
 *
 * While a slab is not mapped its remote bits mark lost pages, and only those.
 */
#include <assert.h>
#include <inttypes.h>

#include "slab/core.h"

struct slab_run *
slab_run_of_block(struct slab_device *d, uint32_t block)
{
	return &d->runs[arena_slab_of_block(&d->arena, block)];
}

void
slab_set_remote(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct slab_run *run = slab_run_of_block(d, block);
	struct arena_block *b = &d->arena.blocks[block];

	run->pages_remote += (uint32_t)__builtin_popcount(mask & ~b->remote);
	b->remote |= mask;
	assert(run->pages_remote <= d->arena.slab_blocks * BLOCK_PAGES);
}

void
slab_clear_remote(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct slab_run *run = slab_run_of_block(d, block);
	struct arena_block *b = &d->arena.blocks[block];
	const uint32_t n = (uint32_t)__builtin_popcount(mask & b->remote);

	assert(n <= run->pages_remote);
	run->pages_remote -= n;
	b->remote &= ~mask;
}

/* Where operations of the mapping @generation of @slab are counted; NULL when it is over. */
static struct slab_run *
counts_of(struct slab_device *d, uint32_t slab, uint32_t generation)
{
	return d->arena.slabs[slab].generation == generation ? &d->runs[slab] : NULL;
}

void
slab_op_begins(struct piece *p, enum tp_op_kind kind)
{
	struct slab_run *run = counts_of(p->dev, piece_slab(p), p->generation);

	assert(run);
	run->n_ops++;
	/* A promotion is a WRITE too, of pages that the backup has. */
	if (kind == TP_OP_WRITE && p->io.kind == BACKEND_WRITE)
		slab_write_unsafe(p);
}

void
slab_op_ended(struct piece *p)
{
	struct slab_run *run = counts_of(p->dev, piece_slab(p), p->generation);

	if (!run)
		return;
	assert(run->n_ops > 0);
	run->n_ops--;
}

void
slab_write_unsafe(struct piece *p)
{
	struct slab_device *d = p->dev;
	const uint32_t slab = piece_slab(p);
	const uint32_t generation = d->arena.slabs[slab].generation;

	if (p->unsafe_generation == generation || !slab_holds(d, slab, generation))
		return;
	slab_write_safe(p);
	p->unsafe_generation = generation;
	d->runs[slab].n_unsafe++;
}

void
slab_write_safe(struct piece *p)
{
	struct slab_run *run = counts_of(p->dev, piece_slab(p), p->unsafe_generation);

	if (p->unsafe_generation != 0 && run) {
		assert(run->n_unsafe > 0);
		run->n_unsafe--;
	}
	p->unsafe_generation = 0;
}

bool
slab_is_mapped(const struct slab_device *d, uint32_t slab)
{
	return d->arena.slabs[slab].state == SLAB_STATE_MAPPED;
}

bool
slab_is_readable(const struct slab_device *d, uint32_t slab)
{
	const uint32_t state = d->arena.slabs[slab].state;

	return state == SLAB_STATE_MAPPED || state == SLAB_STATE_EVICTING;
}

bool
slab_holds(const struct slab_device *d, uint32_t slab, uint32_t generation)
{
	const struct arena_slab *s = &d->arena.slabs[slab];

	if (s->generation != generation)
		return false;
	return s->state == SLAB_STATE_MAPPED ||
	       (s->state == SLAB_STATE_EVICTING && d->runs[slab].evict.step == EVICT_DRAIN);
}

struct remote *
slab_remote(struct slab_device *d, uint32_t slab)
{
	assert(slab_is_readable(d, slab));
	return &d->remotes[d->arena.slabs[slab].daemon];
}

uint32_t
slab_next_generation(struct slab_device *d, uint32_t slab)
{
	struct slab_run *run = &d->runs[slab];

	run->generation = run->generation == UINT32_MAX ? 1 : run->generation + 1;
	return run->generation;
}

static void
slab_mapped(struct slab_device *d, struct remote *r, const struct ctl_mr_info *info)
{
	struct arena_slab *s = &d->arena.slabs[info->slab];

	s->state = SLAB_STATE_MAPPED;
	s->daemon = r->index;
	s->generation = info->generation;
	d->runs[info->slab].n_ops = 0;
	d->runs[info->slab].n_unsafe = 0;
	s->remote_addr = info->addr;
	s->rkey = info->rkey;
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
	if (info->length_bytes != d->config.slab_bytes ||
	    info->addr > UINT64_MAX - info->length_bytes)
		return false;
	slab_mapped(d, r, info);
	return true;
}

void
slab_want(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	if (s->state != SLAB_STATE_UNMAPPED || d->is_stopping || !activity_is_hot(d, slab))
		return;
	if (!placement_start(d, slab, NULL, slab_placed))
		return;
	s->state = SLAB_STATE_MAPPING;
	s->daemon = SLAB_DAEMON_NONE;
}

/* Clears the remote bits of a slab whose memory is gone; what only it had is lost. */
static void
slab_unmap_lost(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];
	const uint32_t first_block = slab * d->arena.slab_blocks;
	uint32_t n_lost = 0;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++) {
		const uint32_t block = first_block + i;
		const struct arena_block *b = &d->arena.blocks[block];
		uint32_t lost = 0;

		if (s->pages_degraded > 0)
			lost = b->remote & ~b->backup & ~order_unsafe_pages(&d->order, block, NULL);
		slab_clear_remote(d, block, ~lost);
		n_lost += (uint32_t)__builtin_popcount(lost);
	}
	d->stats.pages_degraded -= s->pages_degraded;
	d->stats.pages_lost += n_lost;
	s->pages_degraded = 0;
	s->pages_lost = n_lost;
	s->state = n_lost > 0 ? SLAB_STATE_FAILED : SLAB_STATE_UNMAPPED;
}

static void
report_lost(struct slab_device *d, uint64_t n_pages, const struct remote *r, const char *what)
{
	if (n_pages > 0)
		device_event(d, SLAB_EVENT_ERROR,
			     "%" PRIu64 " pages are lost: the backup had refused them and now "
			     "daemon %s %s; reads of them fail",
			     n_pages, r->address, what);
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
	d->stats.slabs_mapped--;
	d->remotes[s->daemon].slabs_mapped--;
}

void
slab_forfeit(struct slab_device *d, uint32_t slab)
{
	struct arena_slab *s = &d->arena.slabs[slab];

	assert(s->state == SLAB_STATE_EVICTING);
	slab_unmap_lost(d, slab);
	d->stats.slabs_mapped--;
	d->remotes[s->daemon].slabs_mapped--;
	report_lost(d, s->pages_lost, &d->remotes[s->daemon], "takes its memory back");
}

void
slabs_unmap_remote(struct slab_device *d, struct remote *r)
{
	const uint64_t lost_before = d->stats.pages_lost;

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
	report_lost(d, d->stats.pages_lost - lost_before, r, "is gone");
}

bool
slab_forget_pages(struct slab_device *d, uint32_t block, uint32_t mask, uint32_t unsafe)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const struct arena_block *b = &d->arena.blocks[block];
	uint32_t n = 0, n_lost = 0;

	if (s->pages_degraded > 0) {
		n = (uint32_t)__builtin_popcount(b->remote & ~b->backup & mask & ~unsafe);
		assert(n <= s->pages_degraded);
		s->pages_degraded -= n;
		d->stats.pages_degraded -= n;
	}
	if (s->state == SLAB_STATE_FAILED) {
		n_lost = (uint32_t)__builtin_popcount(b->remote & mask);
		slab_clear_remote(d, block, mask);
		s->pages_lost -= n_lost;
		d->stats.pages_lost -= n_lost;
		if (s->pages_lost == 0)
			s->state = SLAB_STATE_UNMAPPED;
	}
	return n > 0 || n_lost > 0;
}

void
slab_degrade_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = (uint32_t)__builtin_popcount(mask);

	assert(n == 0 || slab_is_readable(d, arena_slab_of_block(&d->arena, block)));
	s->pages_degraded += n;
	d->stats.pages_degraded += n;
}

void
slab_mend_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = (uint32_t)__builtin_popcount(mask);

	assert(n <= s->pages_degraded);
	s->pages_degraded -= n;
	d->stats.pages_degraded -= n;
}

void
slab_lose_pages(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
	const uint32_t n = (uint32_t)__builtin_popcount(mask);

	if (n == 0)
		return;
	assert(s->state == SLAB_STATE_UNMAPPED || s->state == SLAB_STATE_FAILED);
	s->state = SLAB_STATE_FAILED;
	s->pages_lost += n;
	d->stats.pages_lost += n;
	slab_set_remote(d, block, mask);
}
