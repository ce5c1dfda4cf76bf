/* SPDX-License-Identifier: MIT */
#include "slab/fill.h"

#include <assert.h>

#include "slab/core.h"

#define FILLS_MAX 16u
/* What may be copied at once after a pause. */
#define FILL_BURST_BYTES (4u * BLOCK_BYTES)
/* A bucket is full long before that. */
#define FILL_PAUSE_MAX_NS (NSEC_PER_SEC / 10)
/* Buffer pages that stay free for requests: this part of them. */
#define FILL_RESERVE_DIVISOR 2u

void
fill_init(struct fill *f)
{
	list_init(&f->slabs);
}

static void
rate_advance(struct fill_rate *r, uint64_t bytes_per_s, uint64_t now_ns)
{
	const uint64_t passed_ns = now_ns - r->at_ns;
	uint64_t bytes;

	if (r->at_ns == 0 || passed_ns >= FILL_PAUSE_MAX_NS) {
		r->at_ns = now_ns;
		r->bytes = FILL_BURST_BYTES;
		return;
	}
	bytes = passed_ns * bytes_per_s / NSEC_PER_SEC;
	r->at_ns += bytes * NSEC_PER_SEC / bytes_per_s;
	r->bytes = r->bytes + bytes < FILL_BURST_BYTES ? r->bytes + bytes : FILL_BURST_BYTES;
}

/* Takes @bytes; or says when they will be there. */
static bool
rate_take(struct fill_rate *r, uint64_t bytes_per_s, uint64_t bytes, uint64_t *next_ns)
{
	uint64_t at_ns;

	if (r->bytes >= bytes) {
		r->bytes -= bytes;
		return true;
	}
	at_ns = r->at_ns + (bytes - r->bytes) * NSEC_PER_SEC / bytes_per_s + 1;
	*next_ns = at_ns < *next_ns ? at_ns : *next_ns;
	return false;
}

static bool
may_start(const struct slab_device *d)
{
	return !d->is_stopping && !d->is_starved && d->fill.n_pieces < FILLS_MAX &&
	       pieces_free_pages(d) > d->arena.n_buffer_pages / FILL_RESERVE_DIVISOR;
}

static uint32_t
refill_pages(const struct slab_device *d, uint32_t block)
{
	const struct arena_block *b = &d->arena.blocks[block];

	return b->backup & ~b->remote;
}

static void
piece_end(struct piece *p)
{
	order_main_done(&p->dev->order, &p->order);
	fill_ended(p);
	piece_free_if_idle(p);
}

static void
fill_run(struct order_entry *e)
{
	struct piece *p = container_of(e, struct piece, order);
	struct slab_device *d = p->dev;

	if (slab_is_mapped(d, piece_slab(p)))
		p->todo = e->mask & refill_pages(d, e->block);
	if (p->todo == 0) { /* written, trimmed or lost while it waited */
		piece_end(p);
		return;
	}
	read_fetch(p);
}

void
fill_ended(struct piece *p)
{
	struct slab_device *d = p->dev;

	assert(d->fill.n_pieces > 0);
	d->fill.n_pieces--;
	if (p->status < 0)
		slab_run_of_block(d, p->order.block)->fill_block = d->arena.slab_blocks;
}

/* False when there is no buffer. */
static bool
piece_start(struct slab_device *d, uint32_t block, uint32_t pages)
{
	struct piece *p = piece_get_internal(d, block, pages);

	if (!p)
		return false;
	p->is_fill = true;
	p->io.kind = BACKEND_READ;
	order_entry_init(&p->order, ORDER_SHARED, block, pages, fill_run);
	order_add(&d->order, &p->order);
	d->fill.n_pieces++;
	if (p->order.wait_main == 0)
		fill_run(&p->order);
	return true;
}

/* The next run of pages of @slab; false: it has to wait.  Leaves the list when none is left. */
static bool
refill_next(struct slab_device *d, uint32_t slab, uint64_t *next_ns)
{
	struct slab_run *run = &d->runs[slab];

	for (; run->fill_block < d->arena.slab_blocks; run->fill_block++, run->fill_page = 0) {
		const uint32_t block = slab * d->arena.slab_blocks + run->fill_block;
		const uint32_t pages =
			first_run(refill_pages(d, block) & UINT32_MAX << run->fill_page);
		const uint64_t bytes = (uint64_t)__builtin_popcount(pages) * PAGE_BYTES;
		const uint32_t end = pages ? 32u - (uint32_t)__builtin_clz(pages) : BLOCK_PAGES;

		if (pages == 0)
			continue;
		if (!rate_take(&d->fill.refill, d->config.refill_rate, bytes, next_ns) ||
		    !piece_start(d, block, pages))
			return false;
		run->fill_page = end;
		if (end == BLOCK_PAGES) {
			run->fill_block++;
			run->fill_page = 0;
		}
		return true;
	}
	list_del(&run->fill_node);
	return true;
}

/* The slab that waits longest; those that are not mapped any more leave. */
static bool
next_slab(struct slab_device *d, uint32_t *ret_slab)
{
	while (!list_is_empty(&d->fill.slabs)) {
		struct slab_run *run = container_of(d->fill.slabs.next, struct slab_run, fill_node);

		*ret_slab = (uint32_t)(run - d->runs);
		if (slab_is_mapped(d, *ret_slab))
			return true;
		list_del(&run->fill_node);
	}
	return false;
}

void
fill_want(struct slab_device *d, uint32_t slab)
{
	struct slab_run *run = &d->runs[slab];

	run->fill_block = 0;
	run->fill_page = 0;
	if (d->config.refill_rate > 0 && !list_is_linked(&run->fill_node))
		list_add_tail(&d->fill.slabs, &run->fill_node);
}

uint64_t
fill_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	uint32_t slab;

	if (list_is_empty(&d->fill.slabs))
		return next_ns;
	rate_advance(&d->fill.refill, d->config.refill_rate, now_ns);
	while (may_start(d) && next_slab(d, &slab) && refill_next(d, slab, &next_ns))
		continue;
	return next_ns;
}
