/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of a slab are: its remote bits, and, while it moves, which of its two homes
 * has them; what is in flight to each.
 */
#include <assert.h>
#include <string.h>

#include "slab/core.h"

struct slab_run *
slab_run_of_block(struct slab_device *d, uint32_t block)
{
	return &d->runs[arena_slab_of_block(&d->arena, block)];
}

static struct migration *
migration_of_block(const struct slab_device *d, uint32_t block)
{
	return migration_of(d, arena_slab_of_block(&d->arena, block));
}

/* Pages of @block that @m has still to copy, or that are lost. */
static uint32_t
unmoved(const struct slab_device *d, const struct migration *m, uint32_t block)
{
	return d->arena.blocks[block].remote & ~m->at_new[block % d->arena.slab_blocks];
}

static bool
is_old(const struct migration *m, uint32_t generation)
{
	return !m->is_old_lost && m->old.generation == generation;
}

static uint32_t
count(uint32_t mask)
{
	return page_count(mask);
}

/* A copy that was under way when the old home was lost has come to the new one. */
static void
rescue_pages(struct slab_device *d, const struct migration *m, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = &d->arena.slabs[m->slab];
	const uint32_t n =
		count(mask & d->arena.blocks[block].remote & ~slab_readable_pages(d, block));

	assert(n <= s->pages_lost);
	s->pages_lost -= n;
	d->stats.pages_lost -= n;
	s->pages_degraded += n;
	d->stats.pages_degraded += n;
}

void
slab_set_remote(struct slab_device *d, uint32_t block, uint32_t mask, uint32_t generation)
{
	struct migration *m = migration_of_block(d, block);
	struct slab_run *run = slab_run_of_block(d, block);
	struct arena_block *b = &d->arena.blocks[block];
	const uint32_t i = block % d->arena.slab_blocks;

	if (!d->backup) /* the same, and the migration may be over meanwhile */
		slab_degrade_pages(d, block, lost_clear(d, block, mask));
	else if (m)
		rescue_pages(d, m, block, mask);
	if (m)
		m->n_unmoved -= count(unmoved(d, m, block));
	run->pages_remote += count(mask & ~b->remote);
	b->remote |= mask;
	if (m) {
		*(is_old(m, generation) ? &m->at_old[i] : &m->at_new[i]) |= mask;
		m->n_unmoved += count(unmoved(d, m, block));
	}
	run->is_trimmed = false;
	assert(run->pages_remote <= d->arena.slab_blocks * BLOCK_PAGES);
}

void
slab_clear_remote(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct migration *m = migration_of_block(d, block);
	struct slab_run *run = slab_run_of_block(d, block);
	struct arena_block *b = &d->arena.blocks[block];
	const uint32_t i = block % d->arena.slab_blocks;
	const uint32_t n = count(mask & b->remote);

	assert(n <= run->pages_remote);
	if (m) {
		m->n_unmoved -= count(unmoved(d, m, block) & mask);
		m->at_old[i] &= ~mask;
		m->at_new[i] &= ~mask;
	}
	run->pages_remote -= n;
	b->remote &= ~mask;
}

void
slab_trimmed(struct slab_device *d, uint32_t block)
{
	struct slab_run *run = slab_run_of_block(d, block);

	run->is_trimmed = run->pages_remote == 0;
}

uint32_t
slab_readable_pages(const struct slab_device *d, uint32_t block)
{
	const uint32_t remote = d->arena.blocks[block].remote;
	const struct migration *m = migration_of_block(d, block);
	const uint32_t i = block % d->arena.slab_blocks;

	if (!slab_is_readable(d, arena_slab_of_block(&d->arena, block)))
		return 0;
	return m ? remote & (m->at_old[i] | m->at_new[i]) : remote;
}

uint32_t
slab_promotable_pages(const struct slab_device *d, uint32_t block)
{
	const uint32_t remote = d->arena.blocks[block].remote;
	const struct migration *m = migration_of_block(d, block);

	if (!slab_is_mapped(d, arena_slab_of_block(&d->arena, block)))
		return 0;
	return ~(m ? remote & m->at_new[block % d->arena.slab_blocks] : remote);
}

uint32_t
slab_unmoved_pages(const struct slab_device *d, uint32_t block)
{
	const struct migration *m = migration_of_block(d, block);

	return m ? unmoved(d, m, block) & m->at_old[block % d->arena.slab_blocks] : 0;
}

uint32_t
slab_at_home(const struct slab_device *d, uint32_t block)
{
	const struct migration *m = migration_of_block(d, block);

	return m ? m->at_new[block % d->arena.slab_blocks] : UINT32_MAX;
}

struct slab_home
slab_home_of(const struct slab_device *d, uint32_t block, uint32_t mask, enum tp_op_kind kind)
{
	const struct arena_slab *s = &d->arena.slabs[arena_slab_of_block(&d->arena, block)];

	if (kind == TP_OP_READ && (slab_at_home(d, block) & mask) != mask)
		return migration_of_block(d, block)->old;
	return (struct slab_home){s->daemon, s->generation, s->rkey, s->remote_addr};
}

bool
slab_holds(const struct slab_device *d, uint32_t slab, uint32_t generation)
{
	const struct arena_slab *s = &d->arena.slabs[slab];
	const struct migration *m = migration_of(d, slab);

	if (m && is_old(m, generation))
		return true;
	if (s->generation != generation)
		return false;
	return slab_is_mapped(d, slab) ||
	       (s->state == SLAB_STATE_EVICTING && d->runs[slab].evict.step == EVICT_DRAIN);
}

/* What counts for the mapping @generation of @slab; false when it is over. */
static bool
counts_of(struct slab_device *d, uint32_t slab, uint32_t generation, uint32_t **ret_n_ops,
	  uint32_t **ret_n_unsafe)
{
	struct migration *m = migration_of(d, slab);

	if (generation == 0)
		return false;
	if (d->arena.slabs[slab].generation == generation) {
		*ret_n_ops = &d->runs[slab].n_ops;
		*ret_n_unsafe = &d->runs[slab].n_unsafe;
		return true;
	}
	if (!m || !is_old(m, generation))
		return false;
	*ret_n_ops = &m->n_ops;
	*ret_n_unsafe = &m->n_unsafe;
	return true;
}

void
slab_op_begins(struct piece *p, enum tp_op_kind kind)
{
	uint32_t *n_ops, *n_unsafe;

	if (!counts_of(p->dev, piece_slab(p), p->generation, &n_ops, &n_unsafe))
		assert(!"an operation to a mapping that is over");
	else
		++*n_ops;
	/* A promotion is a WRITE too, of pages that the backup has. */
	if (kind == TP_OP_WRITE && p->io.kind == BACKEND_WRITE)
		slab_write_unsafe(p);
}

void
slab_op_ended(struct piece *p)
{
	uint32_t *n_ops, *n_unsafe;

	if (!counts_of(p->dev, piece_slab(p), p->generation, &n_ops, &n_unsafe))
		return;
	assert(*n_ops > 0);
	--*n_ops;
}

void
slab_write_unsafe(struct piece *p)
{
	struct slab_device *d = p->dev;
	const uint32_t slab = piece_slab(p);
	const struct migration *m = migration_of(d, slab);
	uint32_t generation = d->arena.slabs[slab].generation;
	uint32_t *n_ops, *n_unsafe;

	/* If the new home goes, it is needed to go back to the old one. */
	if (m && !m->is_old_lost && p->order.prior_lost != 0)
		generation = m->old.generation;
	if (p->unsafe_generation == generation || !slab_holds(d, slab, generation))
		return;
	slab_write_safe(p);
	if (!counts_of(d, slab, generation, &n_ops, &n_unsafe))
		return;
	p->unsafe_generation = generation;
	++*n_unsafe;
}

void
slab_write_safe(struct piece *p)
{
	uint32_t *n_ops, *n_unsafe;

	if (counts_of(p->dev, piece_slab(p), p->unsafe_generation, &n_ops, &n_unsafe)) {
		assert(*n_unsafe > 0);
		--*n_unsafe;
	}
	p->unsafe_generation = 0;
}

static uint32_t
first_block_of(const struct slab_device *d, const struct migration *m)
{
	return m->slab * d->arena.slab_blocks;
}

void
slab_migrating(struct slab_device *d, struct migration *m, const struct slab_home *home)
{
	struct arena_slab *s = &d->arena.slabs[m->slab];
	struct slab_run *run = &d->runs[m->slab];

	assert(s->state == SLAB_STATE_MAPPED);
	m->old = (struct slab_home){s->daemon, s->generation, s->rkey, s->remote_addr};
	m->n_ops = run->n_ops;
	m->n_unsafe = run->n_unsafe;
	m->n_unmoved = run->pages_remote;
	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		m->at_old[i] = d->arena.blocks[first_block_of(d, m) + i].remote;
	memset(m->at_new, 0, d->arena.slab_blocks * sizeof(*m->at_new));
	slab_set_home(d, m->slab, home);
	s->state = SLAB_STATE_MIGRATING;
	d->remotes[home->daemon].slabs_mapped++;
}

void
slab_migrated(struct slab_device *d, struct migration *m)
{
	assert(d->arena.slabs[m->slab].state == SLAB_STATE_MIGRATING && m->n_unmoved == 0);
	d->arena.slabs[m->slab].state = SLAB_STATE_MAPPED;
}

void
slab_drop_unmoved(struct slab_device *d, struct migration *m)
{
	for (uint32_t i = 0; i < d->arena.slab_blocks && m->n_unmoved > 0; i++) {
		const uint32_t block = first_block_of(d, m) + i;

		slab_clear_remote(d, block, d->arena.blocks[block].backup & unmoved(d, m, block));
	}
}

/* Of @block only the pages @kept are left; what nobody has any more is lost. */
static void
keep_pages(struct slab_device *d, struct migration *m, uint32_t block, uint32_t kept)
{
	struct arena_slab *s = &d->arena.slabs[m->slab];
	const struct arena_block *b = &d->arena.blocks[block];
	const uint32_t gone = slab_readable_pages(d, block) & ~kept;
	uint32_t lost = 0, n;

	if ((gone & ~b->backup) != 0) {
		n = count(gone & ~b->backup & ~order_acked_pages(&d->order, block));
		assert(n <= s->pages_degraded);
		s->pages_degraded -= n;
		d->stats.pages_degraded -= n;
		lost = gone & ~b->backup & ~order_unsafe_pages(&d->order, block, NULL);
		if (d->backup) {
			s->pages_lost += count(lost);
			d->stats.pages_lost += count(lost);
		} else {
			lost_mark(d, block, lost);
		}
	}
	slab_clear_remote(d, block, gone & ~lost);
}

/* Keeps what @at has, which is one of the two bitmaps; returns how many pages are lost. */
static uint32_t
keep_at(struct slab_device *d, struct migration *m, const uint32_t *at)
{
	const uint32_t before = d->arena.slabs[m->slab].pages_lost;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		keep_pages(d, m, first_block_of(d, m) + i, at[i]);
	return d->arena.slabs[m->slab].pages_lost - before;
}

uint32_t
slab_old_home_lost(struct slab_device *d, struct migration *m)
{
	const uint32_t n_lost = keep_at(d, m, m->at_new);

	memset(m->at_old, 0, d->arena.slab_blocks * sizeof(*m->at_old));
	m->is_old_lost = true;
	return n_lost;
}

uint32_t
slab_new_home_lost(struct slab_device *d, struct migration *m)
{
	struct slab_run *run = &d->runs[m->slab];
	uint32_t *at_old = m->at_old;
	const uint32_t n_lost = keep_at(d, m, m->at_old);

	slab_set_home(d, m->slab, &m->old);
	run->n_ops = m->n_ops;
	run->n_unsafe = m->n_unsafe;
	/* From now on the old home is the one that there is. */
	m->at_old = m->at_new;
	m->at_new = at_old;
	memset(m->at_old, 0, d->arena.slab_blocks * sizeof(*m->at_old));
	m->is_old_lost = true;
	m->n_unmoved = 0;
	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		m->n_unmoved += count(unmoved(d, m, first_block_of(d, m) + i));
	return n_lost;
}
