/* SPDX-License-Identifier: MIT */
/*
 * Reading pages into a piece's buffer.
 *
 * Happy path:
 *   read_submit -> (its turn) read_fetch -> one remote and one backup run in
 *   flight at a time, until no page is left to do -> answer -> promotion of what
 *   came from the backup of a mapped slab -> main done.
 *
 * The newest copy of a page is looked for in this order: the buffer of a write
 * that the backup has not got yet, the remote copy, the backup, zeros.
 *
 * Failure modes:
 *   - a remote read fails: its daemon is lost, the page's place is looked up
 *     again, now without it.
 *   - a backup read fails, or the page was lost: no copy can be reached, -EIO.
 *   - a promotion fails: the page stays on the backup.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "slab/core.h"

static void
got_pages(struct piece *p, uint32_t mask, uint64_t *counter)
{
	p->missing &= ~mask;
	if (!p->is_repair && !p->is_fill)
		*counter += page_count(mask);
}

static void
fetch_from_buffers(struct piece *p)
{
	struct slab_device *d = p->dev;
	uint32_t pages = p->missing & order_unsafe_pages(&d->order, p->order.block, &p->order);

	while (pages != 0) {
		const uint32_t page = (uint32_t)__builtin_ctz(pages);
		const struct order_entry *e = order_newest_data(&d->order, p->order.block, page);

		pages &= pages - 1;
		if (!e)
			continue; /* a write behind us that has not started */
		memcpy(piece_run_buf(p, 1u << page),
		       piece_run_buf(container_of(e, struct piece, order), 1u << page), PAGE_BYTES);
		got_pages(p, 1u << page, &d->stats.pages_read_buffer);
		/* The old home need not be asked for what is here. */
		if (p->is_fill && migration_of(d, piece_slab(p)))
			p->promotable |= 1u << page;
	}
}

static void
fetch_zeros(struct piece *p, uint32_t zeros)
{
	while (zeros != 0) {
		const uint32_t run = first_run(zeros);

		memset(piece_run_buf(p, run), 0, page_count(run) * PAGE_BYTES);
		got_pages(p, run, &p->dev->stats.pages_read_zero);
		zeros &= ~run;
	}
}

static void
fetch_backup_done_cb(struct backup_op *op, int status)
{
	struct piece *p = container_of(op, struct piece, backup_op);

	p->backup_busy = false;
	read_backup_done(p, status);
}

static void
fetch_from_backup(struct piece *p, uint32_t run)
{
	p->backup_mask = run;
	p->backup_busy = true;
	p->backup_op = (struct backup_op){
		.kind = BACKUP_OP_READ,
		.buf = piece_run_buf(p, run),
		.offset_bytes = ((uint64_t)p->order.block << BLOCK_SHIFT) +
				((uint64_t)__builtin_ctz(run) << PAGE_SHIFT),
		.length_bytes = page_count(run) << PAGE_SHIFT,
		.done = fetch_backup_done_cb,
	};
	device_posted(p->dev, &p->io);
	backup_submit(p->dev->backup, &p->backup_op);
}

/* Whether a write of @run would have to wait for a daemon that is slow to answer. */
static bool
is_avoided(const struct slab_device *d, uint32_t block, uint32_t run)
{
	return health_is_avoided(&d->remotes[slab_home_of(d, block, run, TP_OP_WRITE).daemon]);
}

/* Copies what a read brought from elsewhere to its slab's home, run by run. */
static void
promote_next(struct piece *p)
{
	struct slab_device *d = p->dev;
	uint32_t pages = 0;

	if (p->status == 0 && !p->remote_busy && !d->is_stopping &&
	    pieces_free_pages(d) > d->arena.n_buffer_pages / READ_RESERVE_DIVISOR)
		/* A write that we have passed may bring its own remote copy yet. */
		pages = p->promotable & slab_promotable_pages(d, p->order.block) &
			~order_flying_pages(&d->order, p->order.block);
	if (pages != 0 && !p->is_fill && is_avoided(d, p->order.block, first_run(pages)))
		pages = 0;
	if (pages != 0) {
		remote_post(p, TP_OP_WRITE, first_run(pages));
		return;
	}
	p->is_waiting_for_hedge = hedge_is_late(p);
	if (p->is_waiting_for_hedge)
		return;
	order_main_done(&d->order, &p->order);
	if (p->is_fill)
		fill_ended(p);
	piece_free_if_idle(p);
}

void
read_hedge_over(struct piece *p)
{
	if (p->is_waiting_for_hedge)
		promote_next(p);
}

static void
fetch_end(struct piece *p)
{
	p->is_reading = false;
	if (p->is_repair) {
		repair_fetched(p, p->status);
		return;
	}
	if (p->io.kind == BACKEND_WRITE) {
		write_fetched(p, p->status);
		return;
	}
	if (!p->is_fill)
		piece_answer(p, p->status);
	promote_next(p);
}

/* The lowest run of @remote that is to be had from one daemon. */
static uint32_t
one_home(const struct slab_device *d, uint32_t block, uint32_t remote)
{
	const uint32_t at_home = slab_at_home(d, block);
	const uint32_t lowest = remote & -remote;

	return first_run(remote & (at_home & lowest ? at_home : ~at_home));
}

/* Of @remote: pages of a daemon that is slow to answer, which is asked for what nobody else has. */
static uint32_t
avoided_pages(const struct slab_device *d, uint32_t block, uint32_t remote)
{
	uint32_t avoided = 0;

	while (remote != 0) {
		const uint32_t run = one_home(d, block, remote);
		const struct slab_home home = slab_home_of(d, block, run, TP_OP_READ);

		if (health_is_avoided(&d->remotes[home.daemon]))
			avoided |= run;
		remote &= ~run;
	}
	return avoided;
}

void
read_fetch(struct piece *p)
{
	struct slab_device *d = p->dev;
	const struct arena_block *b = &d->arena.blocks[p->order.block];
	uint32_t remote, backup, flying;
	bool is_waiting;

	p->is_reading = true;
	if (p->status == 0) {
		fetch_from_buffers(p);
		/* The remote bits of a slab that is not readable are its lost pages. */
		fetch_zeros(p, p->missing & ~b->remote & ~b->backup);
	}
	flying = (p->remote_busy ? p->remote_mask : 0) | (p->backup_busy ? p->backup_mask : 0);
	remote = slab_readable_pages(d, p->order.block) & p->missing & ~flying;
	if (p->is_outrun)
		remote &= ~b->backup;
	remote &= ~(b->backup & avoided_pages(d, p->order.block, remote));
	backup = d->backup ? b->backup & p->missing & ~flying & ~remote : 0;
	if (p->status == 0 && (p->missing & ~flying & ~remote & ~backup) != 0)
		p->status = -EIO; /* lost pages */
	if (p->status == 0 && remote != 0 && !p->remote_busy)
		remote_post(p, TP_OP_READ, one_home(d, p->order.block, remote));
	if (p->status == 0 && backup != 0 && !p->backup_busy)
		fetch_from_backup(p, first_run(backup));
	is_waiting = p->remote_busy && !(p->is_outrun && (p->missing == 0 || p->status != 0));
	if (!is_waiting && !p->backup_busy)
		fetch_end(p);
}

static void
count_copied(const struct piece *p)
{
	struct slab_device_stats *s = &p->dev->stats;
	uint64_t *counter = &s->pages_promoted;

	if (migration_of(p->dev, piece_slab(p)))
		counter = &s->pages_migrated;
	else if (p->is_fill)
		counter = &s->pages_refilled;
	*counter += page_count(p->remote_mask);
}

void
read_hedge_won(struct piece *p, uint32_t mask)
{
	got_pages(p, mask, &p->dev->stats.pages_read_backup);
	read_fetch(p);
}

void
read_remote_done(struct piece *p, int status)
{
	struct slab_device *d = p->dev;
	const bool is_current = status == 0 && slab_holds(d, piece_slab(p), p->generation);

	if (hedge_remote_done(p)) {
		if (p->is_reading)
			read_fetch(p);
		else
			piece_free_if_idle(p);
		return;
	}
	if (p->is_reading) {
		if (is_current)
			got_pages(p, p->remote_mask, &d->stats.pages_read_remote);
		if (is_current && migration_of(d, piece_slab(p)))
			p->promotable |= p->remote_mask; /* unless it is at the new home */
		read_fetch(p);
		return;
	}
	if (is_current) {
		slab_set_remote(d, p->order.block, p->remote_mask, p->generation);
		count_copied(p);
	} else {
		p->promotable = 0;
	}
	promote_next(p);
}

void
read_backup_done(struct piece *p, int status)
{
	if (status == 0) {
		got_pages(p, p->backup_mask, &p->dev->stats.pages_read_backup);
		p->promotable |= p->backup_mask;
	} else {
		backup_says(p->dev, status, "read");
		p->status = -EIO;
	}
	read_fetch(p);
}

static void
read_run(struct order_entry *e)
{
	struct piece *p = container_of(e, struct piece, order);

	p->missing = p->order.mask;
	read_fetch(p);
}

void
read_submit(struct piece *p)
{
	activity_saw(p->dev, piece_slab(p), p->n_pages);
	order_entry_init(&p->order, ORDER_SHARED, p->order.block, p->order.mask, read_run);
	order_add(&p->dev->order, &p->order);
	if (p->order.wait_main == 0)
		read_run(&p->order);
}
