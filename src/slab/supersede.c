/* SPDX-License-Identifier: MIT */
/*
 * A write has its remote copy, and earlier ones of its pages are not on the backup yet: those
 * that it replaces as a whole need not get there.  It takes their place in the order of flushes.
 */
#include "slab/core.h"

static void
drop(struct piece *older, struct piece *newer)
{
	struct slab_device *d = older->dev;

	unsafe_replace(d, &older->unsafe, &newer->unsafe);
	write_end(older);
	d->stats.backup_writes_superseded++;
	piece_free_if_idle(older);
}

/*
 * Those that wait for the backup to take more.  Only if @p can wait at the place of the first
 * of them from now on: else a page that is written again and again would never have its turn.
 */
static void
drop_queued(struct piece *p)
{
	const struct page_order *o = &p->dev->order;
	const struct order_entry *e = &p->order;
	struct order_entry *next;
	uint32_t n = 0;

	while ((e = order_queued_before(o, &p->order, e)) != NULL) {
		if (!container_of(e, struct piece, order)->is_answered)
			return;
		n++;
	}
	if (n < p->order.wait_backup)
		return;
	while ((next = order_queued_before(o, &p->order, &p->order)) != NULL) {
		struct piece *older = container_of(next, struct piece, order);

		backup_queue_replace(older, p);
		drop(older, p);
		p->dev->stats.backup_writes_dropped++;
	}
}

void
supersede_earlier(struct piece *p)
{
	struct slab_device *d = p->dev;
	struct order_entry *e;

	while ((e = order_superseded(&d->order, &p->order)) != NULL) {
		struct piece *older = container_of(e, struct piece, order);

		if (!older->is_answered || (older->backup != WRITE_BACKUP_WAITING && !e->is_kept))
			return; /* its answer waits for the backup */
		drop(older, p);
	}
	drop_queued(p);
}
