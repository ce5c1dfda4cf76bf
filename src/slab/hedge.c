/* SPDX-License-Identifier: MIT */
#include "slab/hedge.h"

#include <assert.h>
#include <string.h>

#include "slab/core.h"

/* Whether @p was answered, or goes on, in the buffer of its hedge. */
static bool
has_won(const struct piece *p)
{
	return p->hedge && p->pages == p->hedge->pages;
}

static void
part(struct piece *p)
{
	struct piece *h = p->hedge;

	p->hedge = NULL;
	h->hedge_of = NULL;
	piece_free_if_idle(h);
}

/* What @p has got so far is not got again. */
static void
move_pages(struct piece *p)
{
	const struct piece *h = p->hedge;
	uint32_t got = p->order.mask & ~p->missing;

	while (got != 0) {
		const uint32_t run = first_run(got);

		memcpy(piece_run_buf(h, run), piece_run_buf(p, run), page_count(run) * PAGE_BYTES);
		got &= ~run;
	}
	p->io.data = h->pages + ((uint8_t *)p->io.data - p->pages);
	p->pages = h->pages;
}

static void
hedge_done_cb(struct backup_op *op, int status)
{
	struct piece *h = container_of(op, struct piece, backup_op);
	struct slab_device *d = h->dev;
	struct piece *p = h->hedge_of; /* is there at least as long */

	h->backup_busy = false;
	d->n_hedges--;
	if (status < 0)
		backup_says(d, status, "read");
	if (h->is_hedge_late) {
		part(p);
		read_hedge_over(p);
		return;
	}
	/* A part of it on its way into the first buffer cannot be moved. */
	if (status < 0 || p->backup_busy || p->status != 0) {
		part(p);
		return;
	}
	assert(p->is_reading && p->remote_busy);
	d->stats.hedges_won++;
	move_pages(p);
	p->is_outrun = true;
	read_hedge_won(p, h->backup_mask);
}

static bool
can_hedge(const struct piece *p)
{
	const struct slab_device *d = p->dev;
	const struct arena_block *b = &d->arena.blocks[p->order.block];

	return p->status == 0 && !p->hedge && (p->remote_mask & ~b->backup) == 0 &&
	       pieces_free_pages(d) > d->arena.n_buffer_pages / READ_RESERVE_DIVISOR;
}

static void
hedge(struct piece *p)
{
	struct slab_device *d = p->dev;
	struct piece *h;

	h = can_hedge(p) ? piece_get_internal(d, p->order.block, p->order.mask) : NULL;
	if (!h)
		return;
	h->hedge_of = p;
	p->hedge = h;
	d->n_hedges++;
	d->stats.reads_hedged++;
	h->backup_mask = p->remote_mask;
	h->backup_busy = true;
	h->backup_op = (struct backup_op){
		.kind = BACKUP_OP_READ,
		.buf = piece_run_buf(h, h->backup_mask),
		.offset_bytes = ((uint64_t)h->order.block << BLOCK_SHIFT) +
				((uint64_t)__builtin_ctz(h->backup_mask) << PAGE_SHIFT),
		.length_bytes = page_count(h->backup_mask) << PAGE_SHIFT,
		.done = hedge_done_cb,
	};
	backup_submit(d->backup, &h->backup_op);
}

void
hedge_posted(struct piece *p)
{
	/* Nobody waits for what the device reads for itself. */
	if (p->dev->config.hedge_ns > 0 && p->dev->backup && p->is_held &&
	    p->io.kind == BACKEND_READ)
		list_add_tail(&p->remote->reads, &p->hedge_node);
}

bool
hedge_remote_done(struct piece *p)
{
	const bool was_outrun = p->is_outrun;

	list_del(&p->hedge_node);
	p->is_outrun = false;
	if (p->hedge && !has_won(p)) {
		if (p->hedge->backup_busy)
			p->hedge->is_hedge_late = true;
		else
			part(p);
	}
	return was_outrun;
}

bool
hedge_is_late(const struct piece *p)
{
	return p->hedge && p->hedge->is_hedge_late;
}

void
hedge_advance(struct remote *r, uint64_t now_ns, uint64_t *next_ns)
{
	const uint64_t hedge_ns = r->dev->config.hedge_ns;

	while (!list_is_empty(&r->reads)) {
		struct piece *p = container_of(r->reads.next, struct piece, hedge_node);
		uint64_t due_ns = p->posted_ns + hedge_ns;

		if (due_ns <= now_ns && r->dev->n_hedges >= HEDGES_MAX)
			due_ns = now_ns + hedge_ns;
		if (due_ns > now_ns) {
			*next_ns = due_ns < *next_ns ? due_ns : *next_ns;
			return;
		}
		list_del(&p->hedge_node);
		hedge(p);
	}
}

void
hedge_release(struct piece *p)
{
	if (p->hedge)
		part(p);
}
