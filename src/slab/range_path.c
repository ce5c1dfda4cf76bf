/* SPDX-License-Identifier: MIT */
/*
 * TRIM and ZERO of up to BACKEND_RANGE_BYTES_MAX.
 *
 * Happy path:
 *   range_submit puts one exclusive entry on each block -> when all earlier
 *   pieces are off the pages and on the backup: TRIM clears the bits (the pages read
 *   as zeros), main done, DISCARD on the backup, backup done, answer.  ZERO has ZERO on
 *   the backup first, and clears the bits of what is done; should that fail, the other
 *   pages are what they were.
 *
 * Failure modes:
 *   - the backup cannot discard: nothing to do, the map says zeros; after a
 *     restart the old bytes may come back, as the NBD spec allows for TRIM.
 *   - there is no backup: clearing the bits is all.
 *   - the backup cannot zero, or NO_HOLE: zeros are written, block by block.
 *   - the backup fails: the answer is the error.  For TRIM the map says zeros; of
 *     what a ZERO may have spoilt the remote copies are the only ones (degraded pages).
 *   - the backup refuses an earlier write of a page and only its buffer holds the
 *     bytes: the answer is the error, before anything was changed.
 */
#include <assert.h>
#include <errno.h>

#include "slab/core.h"

static void range_backup_next(struct range *r);

/* The pages of @e that begin in the first @n_bytes of @r. */
static uint32_t
pages_of_first(const struct range *r, const struct order_entry *e, uint64_t n_bytes)
{
	const uint64_t block_bytes = (uint64_t)e->block << BLOCK_SHIFT;
	const uint64_t end_bytes = r->io.offset_bytes + n_bytes;

	if (end_bytes <= block_bytes)
		return 0;
	if (end_bytes >= block_bytes + BLOCK_BYTES)
		return e->mask;
	return e->mask & block_mask(block_bytes, end_bytes - block_bytes);
}

/*
 * The map says zeros for the first @zeroed_bytes; of what follows, up to @touched_bytes,
 * the backup may hold anything between zeros and what it held.
 */
static void
range_main_done(struct range *r, uint64_t zeroed_bytes, uint64_t touched_bytes)
{
	struct slab_device *d = r->dev;

	for (uint32_t i = 0; i < r->n_entries; i++) {
		struct order_entry *e = &r->entries[i];
		struct arena_block *b = &d->arena.blocks[e->block];
		const uint32_t zeros = pages_of_first(r, e, zeroed_bytes);
		const uint32_t spoilt =
			pages_of_first(r, e, touched_bytes) & ~zeros & b->remote & b->backup;

		if (slab_forget_pages(d, e->block, zeros, 0))
			unsafe_to_front(d, &r->unsafe);
		slab_clear_remote(d, e->block, zeros);
		b->backup &= ~(zeros | spoilt);
		if (spoilt != 0)
			slab_degrade_pages(d, e->block, spoilt);
		if (zeros != 0)
			slab_trimmed(d, e->block);
		order_main_done(&d->order, e);
	}
}

static void
range_end(struct range *r, int status)
{
	struct slab_device *d = r->dev;

	if (r->io.kind == BACKEND_ZERO && status == 0)
		range_main_done(r, r->io.length_bytes, r->io.length_bytes);
	else if (r->io.kind == BACKEND_ZERO)
		range_main_done(r, r->zeroed_bytes, r->zeroed_bytes + r->backup_op.length_bytes);
	for (uint32_t i = 0; i < r->n_entries; i++)
		order_backup_done(&d->order, &r->entries[i]);
	unsafe_remove(d, &r->unsafe);
	if (status == 0 && (r->io.flags & BACKEND_FUA) && d->backup)
		range_sync(r);
	else
		range_answer(r, status);
}

static void
range_backup_done_cb(struct backup_op *op, int status)
{
	struct range *r = container_of(op, struct range, backup_op);
	struct slab_device *d = r->dev;

	if (op->kind == BACKUP_OP_WRITE) {
		backup_says(d, status, "write");
		r->zeroed_bytes += status == 0 ? op->length_bytes : 0;
		if (status == 0 && r->zeroed_bytes < r->io.length_bytes) {
			range_backup_next(r);
			return;
		}
		range_end(r, status);
		return;
	}
	if (status == -EOPNOTSUPP && op->kind == BACKUP_OP_ZERO) {
		d->can_zero = false;
		range_backup_next(r);
		return;
	}
	if (status == -EOPNOTSUPP)
		status = 0;
	backup_says(d, status, op->kind == BACKUP_OP_DISCARD ? "discard" : "zero");
	range_end(r, status);
}

static void
range_backup_next(struct range *r)
{
	struct slab_device *d = r->dev;
	const uint64_t left = r->io.length_bytes - r->zeroed_bytes;
	struct backup_op op = {
		.kind = BACKUP_OP_DISCARD,
		.offset_bytes = r->io.offset_bytes + r->zeroed_bytes,
		.length_bytes = left,
		.done = range_backup_done_cb,
	};

	if (r->io.kind == BACKEND_ZERO) {
		op.kind = BACKUP_OP_ZERO;
		if (!d->can_zero || (r->io.flags & BACKEND_NO_HOLE)) {
			op.kind = BACKUP_OP_WRITE;
			op.buf = d->zeros;
			op.length_bytes = left < BLOCK_BYTES ? left : BLOCK_BYTES;
		}
	}
	r->backup_op = op;
	device_posted(d, &r->io);
	backup_submit(d->backup, &r->backup_op);
}

/* Flushes wait for what will replace pages that the backup has not got. */
static void
range_before_flushes(struct range *r)
{
	struct slab_device *d = r->dev;

	for (uint32_t i = 0; i < r->n_entries; i++) {
		const struct order_entry *e = &r->entries[i];
		const struct arena_block *b = &d->arena.blocks[e->block];

		if (b->remote & ~b->backup & e->mask)
			unsafe_to_front(d, &r->unsafe);
	}
}

static void
range_start(struct range *r)
{
	struct slab_device *d = r->dev;
	uint64_t *counter =
		r->io.kind == BACKEND_TRIM ? &d->stats.pages_trimmed : &d->stats.pages_zeroed;

	if (r->io.kind == BACKEND_TRIM)
		range_main_done(r, r->io.length_bytes, r->io.length_bytes);
	else
		range_before_flushes(r);
	*counter += r->io.length_bytes / PAGE_BYTES;
	if (d->backup)
		range_backup_next(r);
	else
		range_end(r, 0);
}

/*
 * Leaves its pages and answers, unless somebody before it is at work on them: that takes a
 * while, and whether the backup still refuses what is in the way is said again each time.
 */
static void
range_blocked(struct order_entry *entry, int status)
{
	struct range *r = entry->owner;
	struct slab_device *d = r->dev;

	if (r->n_blocked == 0)
		return;
	for (uint32_t i = 0; i < r->n_entries; i++)
		if (r->entries[i].wait_main > 0)
			return;
	r->n_blocked = 0;
	for (uint32_t i = 0; i < r->n_entries; i++) {
		list_del(&r->entries[i].ready);
		order_main_done(&d->order, &r->entries[i]);
		order_backup_done(&d->order, &r->entries[i]);
	}
	unsafe_remove(d, &r->unsafe);
	range_answer(r, status);
}

static void
range_entry_run(struct order_entry *e)
{
	struct range *r = e->owner;

	if (e->wait_main > 0 || e->wait_backup > 0)
		return;
	assert(r->n_blocked > 0);
	if (--r->n_blocked == 0)
		range_start(r);
}

void
range_submit(struct range *r)
{
	struct slab_device *d = r->dev;
	const uint64_t end = r->io.offset_bytes + r->io.length_bytes;
	uint64_t at = r->io.offset_bytes;

	if (r->io.kind == BACKEND_ZERO && (r->io.flags & BACKEND_FAST_ZERO) && d->backup &&
	    (!d->can_zero || (r->io.flags & BACKEND_NO_HOLE))) {
		range_answer(r, -EOPNOTSUPP);
		return;
	}
	unsafe_add(d, &r->unsafe, false);
	r->n_entries = 0;
	r->n_blocked = 0;
	while (at < end) {
		struct order_entry *e = &r->entries[r->n_entries++];
		const uint32_t block = (uint32_t)(at >> BLOCK_SHIFT);
		const uint64_t block_end = ((uint64_t)block + 1) << BLOCK_SHIFT;
		const uint64_t stop = block_end < end ? block_end : end;

		order_entry_init(e, ORDER_EXCLUSIVE, block, block_mask(at, stop - at),
				 range_entry_run);
		e->owner = r;
		e->blocked = range_blocked;
		order_add(&d->order, e);
		if (e->wait_main > 0 || e->wait_backup > 0)
			r->n_blocked++;
		at = stop;
	}
	if (r->n_blocked == 0)
		range_start(r);
}
