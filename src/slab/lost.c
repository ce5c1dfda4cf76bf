/* SPDX-License-Identifier: MIT */
/*
 * Pages of which no copy is left, where there is no backup.
 *
 * The backup bit marks them: what is neither remote nor zeros would have to be there.  So
 * their slab can be mapped again, and the write that ends it is like any other.
 */
#include <assert.h>

#include "slab/core.h"

static struct arena_slab *
slab_of(const struct slab_device *d, uint32_t block)
{
	return &d->arena.slabs[arena_slab_of_block(&d->arena, block)];
}

void
lost_mark(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = slab_of(d, block);
	struct arena_block *b = &d->arena.blocks[block];
	const uint32_t n = (uint32_t)__builtin_popcount(mask & ~b->backup);

	assert(!d->backup);
	slab_clear_remote(d, block, mask);
	b->backup |= mask;
	s->pages_lost += n;
	d->stats.pages_lost += n;
}

uint32_t
lost_clear(struct slab_device *d, uint32_t block, uint32_t mask)
{
	struct arena_slab *s = slab_of(d, block);
	struct arena_block *b = &d->arena.blocks[block];
	const uint32_t found = mask & b->backup;
	const uint32_t n = (uint32_t)__builtin_popcount(found);

	assert(!d->backup && n <= s->pages_lost);
	b->backup &= ~found;
	s->pages_lost -= n;
	d->stats.pages_lost -= n;
	return found;
}

void
lost_mark_slab(struct slab_device *d, uint32_t slab)
{
	const uint32_t first_block = slab * d->arena.slab_blocks;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++)
		lost_mark(d, first_block + i, d->arena.blocks[first_block + i].remote);
}
