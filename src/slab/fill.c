/* SPDX-License-Identifier: MIT */
#include "slab/fill.h"

#include <assert.h>

#include "slab/core.h"

#define FILLS_MAX 16u
/* What may be copied at once after a pause. */
#define FILL_BURST_BYTES (4u * BLOCK_BYTES)
/* Buffer pages that stay free for requests: this part of them. */
#define FILL_RESERVE_DIVISOR 2u
/* After a pass through a slab on the move has found nothing more. */
#define FILL_PASS_NS (10 * NSEC_PER_MSEC)

enum fill_result {
	FILL_STARTED = 1,
	FILL_WAITS,
	FILL_NONE,
};

/* Before a slab of which something may be left is gone through again. */
#define FILL_AGAIN_NS (NSEC_PER_SEC / 5)

void
fill_init(struct fill *f)
{
	list_init(&f->slabs);
	list_init(&f->waiting);
}

static void
rate_advance(struct fill_rate *r, uint64_t bytes_per_s, uint64_t now_ns)
{
	const double gained = (double)(now_ns - r->at_ns) * (double)bytes_per_s / NSEC_PER_SEC;

	if (r->at_ns == 0 || (double)r->bytes + gained >= FILL_BURST_BYTES) {
		r->at_ns = now_ns;
		r->bytes = FILL_BURST_BYTES;
		return;
	}
	if (gained < 1)
		return;
	r->bytes += (uint64_t)gained;
	/* What was less than a byte counts the next time. */
	r->at_ns += (uint64_t)gained * NSEC_PER_SEC / bytes_per_s;
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

/* Pages of @block that are worth a copy. */
static uint32_t
wanted_pages(const struct slab_device *d, uint32_t block)
{
	const struct arena_block *b = &d->arena.blocks[block];
	const uint32_t slab = arena_slab_of_block(&d->arena, block);

	if (migration_of(d, slab))
		return slab_unmoved_pages(d, block);
	return d->backup && slab_is_mapped(d, slab) ? b->backup & ~b->remote : 0;
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

	p->missing = e->mask & wanted_pages(d, e->block);
	if (p->missing == 0) { /* written, trimmed or lost while it waited */
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
	if (p->status < 0) /* the backup could not be read */
		core_timer_arm(&d->fill.pause_timer, BACKUP_RETRY_NS);
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

/*
 * The next run of pages of @slab from @at on, which moves.  FILL_WAITS: for the rate or a
 * buffer; FILL_NONE: @at is at the end of the slab.
 */
static enum fill_result
fill_next(struct slab_device *d, struct fill_rate *rate, uint64_t bytes_per_s, uint32_t slab,
	  struct fill_place *at, uint64_t *next_ns)
{
	for (; at->block < d->arena.slab_blocks; at->block++, at->page = 0) {
		const uint32_t block = slab * d->arena.slab_blocks + at->block;
		const uint32_t pages = first_run(wanted_pages(d, block) & UINT32_MAX << at->page);
		const uint64_t bytes = page_count(pages) * PAGE_BYTES;

		if (pages == 0)
			continue;
		if (!rate_take(rate, bytes_per_s, bytes, next_ns) || !piece_start(d, block, pages))
			return FILL_WAITS;
		at->page = 32u - (uint32_t)__builtin_clz(pages);
		if (at->page == BLOCK_PAGES)
			*at = (struct fill_place){.block = at->block + 1};
		return FILL_STARTED;
	}
	return FILL_NONE;
}

/* Whether writes are on their way to the backup alone: they began before @slab was mapped. */
static bool
is_in_flux(const struct slab_device *d, uint32_t slab)
{
	for (uint32_t i = 0; i < d->arena.slab_blocks; i++) {
		const uint32_t block = slab * d->arena.slab_blocks + i;
		const struct arena_block *b = &d->arena.blocks[block];

		if ((b->remote | b->backup) != UINT32_MAX &&
		    (order_unsafe_pages(&d->order, block, NULL) & ~b->remote) != 0)
			return true;
	}
	return false;
}

/* @slab leaves when nothing was found any more, else it is gone through again. */
static void
pass_ended(struct slab_device *d, uint32_t slab)
{
	struct slab_run *run = &d->runs[slab];
	const bool is_again = run->has_filled || is_in_flux(d, slab);

	list_del(&run->fill_node);
	if (!is_again)
		return;
	list_add_tail(&d->fill.waiting, &run->fill_node);
	run->is_fill_waiting = true;
	if (!d->fill.again_timer.is_armed)
		core_timer_arm(&d->fill.again_timer, FILL_AGAIN_NS);
}

/* Those that wait are gone through again. */
static void
waiting_begin(struct slab_device *d)
{
	struct list *node;

	while ((node = list_pop_head(&d->fill.waiting)) != NULL)
		fill_want(d, (uint32_t)(container_of(node, struct slab_run, fill_node) - d->runs));
}

/* False: it has to wait. */
static bool
refill_next(struct slab_device *d, uint32_t slab, uint64_t *next_ns)
{
	struct slab_run *run = &d->runs[slab];
	const enum fill_result r = fill_next(d, &d->fill.refill, d->config.refill_rate, slab,
					     &run->fill_place, next_ns);

	if (r == FILL_STARTED)
		run->has_filled = true;
	if (r == FILL_NONE)
		pass_ended(d, slab);
	return r != FILL_WAITS;
}

/* Copies what is to be moved; what comes late is found by another pass. */
static void
migrate_pages(struct slab_device *d, struct migration *m, uint64_t now_ns, uint64_t *next_ns)
{
	enum fill_result r = FILL_STARTED;

	if (core_timer_is_due(&m->pass_timer, now_ns, next_ns))
		m->fill_place = (struct fill_place){0};
	if (m->pass_timer.is_armed)
		return;
	while (m->n_unmoved > 0 && r == FILL_STARTED && may_start(d))
		r = fill_next(d, &d->fill.migrate, d->config.migrate_rate, m->slab, &m->fill_place,
			      next_ns);
	if (r != FILL_NONE)
		return;
	core_timer_arm(&m->pass_timer, FILL_PASS_NS);
	(void)core_timer_is_due(&m->pass_timer, now_ns, next_ns);
}

/* The slab that is used most, looked for once a period; those that are gone leave the list. */
static bool
hottest(struct slab_device *d, uint32_t *ret_slab)
{
	struct fill *f = &d->fill;
	struct list *pos, *next;
	double most = -1;

	if (f->period == d->activity.period && list_is_linked(&d->runs[f->slab].fill_node) &&
	    !d->runs[f->slab].is_fill_waiting && slab_is_mapped(d, f->slab)) {
		*ret_slab = f->slab;
		return true;
	}
	list_foreach_safe (pos, next, &f->slabs) {
		const uint32_t slab =
			(uint32_t)(container_of(pos, struct slab_run, fill_node) - d->runs);

		if (!slab_is_mapped(d, slab)) {
			list_del(pos);
		} else if (activity_of(d, slab) > most) {
			most = activity_of(d, slab);
			f->slab = slab;
		}
	}
	f->period = d->activity.period;
	*ret_slab = f->slab;
	return most >= 0;
}

void
fill_want(struct slab_device *d, uint32_t slab)
{
	struct slab_run *run = &d->runs[slab];

	run->fill_place = (struct fill_place){0};
	run->has_filled = false;
	run->is_fill_waiting = false;
	list_del(&run->fill_node);
	if (d->config.refill_rate > 0)
		list_add_tail(&d->fill.slabs, &run->fill_node);
}

uint64_t
fill_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	uint32_t slab;

	rate_advance(&d->fill.migrate, d->config.migrate_rate, now_ns);
	for (uint32_t i = 0; i < MIGRATIONS_MAX; i++)
		if (d->migrations[i].step == MIGRATE_COPY)
			migrate_pages(d, &d->migrations[i], now_ns, &next_ns);
	if (core_timer_is_due(&d->fill.again_timer, now_ns, &next_ns))
		waiting_begin(d);
	(void)core_timer_is_due(&d->fill.pause_timer, now_ns, &next_ns);
	if (list_is_empty(&d->fill.slabs) || d->fill.pause_timer.is_armed)
		return next_ns;
	rate_advance(&d->fill.refill, d->config.refill_rate, now_ns);
	while (may_start(d) && hottest(d, &slab) && refill_next(d, slab, &next_ns))
		continue;
	(void)core_timer_is_due(&d->fill.again_timer, now_ns, &next_ns);
	(void)core_timer_is_due(&d->fill.pause_timer, now_ns, &next_ns);
	return next_ns;
}
