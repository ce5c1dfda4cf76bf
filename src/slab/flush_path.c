/* SPDX-License-Identifier: MIT */
/*
 * Durability.  Writes and ranges stand in d->unsafe from submit until the
 * backup has them; a flush stands among them at the place where it came.  When a
 * flush reaches the head, everything before it is on the backup: one SYNC, then
 * its answer.  So a flush on any connection covers the writes of all of them.
 *
 * What replaces pages that the backup had refused moves to the front: the older
 * content, which flushes may have to cover, will not be there any more.
 *
 * A write that the backup refuses leaves the order, so that no flush waits for it
 * without end.  Whether any such write is left is looked at when the SYNC starts:
 * what gets to the backup after that, the SYNC need not cover.
 *
 * Without a backup nothing could be more durable than it is: no SYNC, and the answer is 0.
 */
#include <assert.h>
#include <errno.h>

#include "slab/core.h"

static int
durable_status(const struct slab_device *d)
{
	return d->stats.pages_degraded > 0 || d->stats.pages_lost > 0 || d->n_kept > 0 ? -EIO : 0;
}

static void
flush_sync_done_cb(struct backup_op *op, int status)
{
	struct flush *f = container_of(op, struct flush, backup_op);

	backup_says(f->dev, status, "flush");
	flush_answer(f, status < 0 ? status : f->status);
}

static void
sync_start(struct slab_device *d, struct backup_op *op, backup_op_done_fn *done)
{
	*op = (struct backup_op){.kind = BACKUP_OP_SYNC, .done = done};
	backup_submit(d->backup, op);
}

/* Starts every flush that has nothing unsafe before it. */
static void
flushes_start(struct slab_device *d)
{
	while (!list_is_empty(&d->unsafe)) {
		struct unsafe_node *n = container_of(d->unsafe.next, struct unsafe_node, node);
		struct flush *f;

		if (!n->is_flush)
			return;
		f = container_of(n, struct flush, unsafe);
		list_del(&n->node);
		d->n_flushes--;
		f->status = durable_status(d);
		device_posted(d, &f->io);
		if (d->backup)
			sync_start(d, &f->backup_op, flush_sync_done_cb);
		else
			flush_answer(f, 0);
	}
}

void
unsafe_add(struct slab_device *d, struct unsafe_node *n, bool is_flush)
{
	n->is_flush = is_flush;
	n->place = ++d->unsafe_place;
	list_add_tail(&d->unsafe, &n->node);
	d->n_unsafe += is_flush ? 0 : 1;
	d->n_flushes += is_flush ? 1 : 0;
}

void
unsafe_remove(struct slab_device *d, struct unsafe_node *n)
{
	if (!list_is_linked(&n->node))
		return;
	list_del(&n->node);
	d->n_unsafe--;
	flushes_start(d);
}

void
unsafe_to_front(struct slab_device *d, struct unsafe_node *n)
{
	assert(!n->is_flush);
	if (!list_is_linked(&n->node))
		return;
	list_del(&n->node);
	list_add_head(&d->unsafe, &n->node);
	n->place = 0;
}

void
unsafe_replace(struct slab_device *d, struct unsafe_node *older, struct unsafe_node *newer)
{
	assert(list_is_linked(&newer->node));
	if (!list_is_linked(&older->node)) {
		/* An older one that was kept has left its place: before everything, then. */
		unsafe_to_front(d, newer);
		return;
	}
	/* Of several that it replaces the first one's place is kept. */
	if (older->place < newer->place) {
		list_del(&newer->node);
		list_insert_between(&newer->node, older->node.prev, &older->node);
		newer->place = older->place;
	}
	unsafe_remove(d, older);
}

void
flush_submit(struct flush *f)
{
	unsafe_add(f->dev, &f->unsafe, true);
	flushes_start(f->dev);
}

static void
piece_sync_done_cb(struct backup_op *op, int status)
{
	struct piece *p = container_of(op, struct piece, backup_op);

	p->backup_busy = false;
	backup_says(p->dev, status, "flush");
	piece_answer(p, status);
	piece_free_if_idle(p);
}

void
piece_sync(struct piece *p)
{
	p->backup_busy = true;
	sync_start(p->dev, &p->backup_op, piece_sync_done_cb);
}

static void
range_sync_done_cb(struct backup_op *op, int status)
{
	struct range *r = container_of(op, struct range, backup_op);

	backup_says(r->dev, status, "flush");
	range_answer(r, status);
}

void
range_sync(struct range *r)
{
	sync_start(r->dev, &r->backup_op, range_sync_done_cb);
}
