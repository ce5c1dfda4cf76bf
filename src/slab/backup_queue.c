/* SPDX-License-Identifier: MIT */
#include "slab/backup_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "slab/core.h"

#define BACKUP_QUIET_NS (200 * NSEC_PER_USEC)

/* One operation. */
struct write_batch {
	struct backup_op op;
	struct slab_device *dev;
	struct list node; /* queue.idle */
	uint64_t offset_bytes;
	uint64_t length_bytes;
	uint32_t n;
	struct piece *pieces[BACKUP_PARTS_MAX]; /* in the order of the disk */
	struct iovec parts[BACKUP_PARTS_MAX];
};

int
backup_queue_init(struct slab_device *d)
{
	struct backup_queue *q = &d->backup_queue;

	list_init(&q->waiting);
	list_init(&q->idle);
	q->batches = calloc(d->config.backup_writes, sizeof(*q->batches));
	if (!q->batches)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->config.backup_writes; i++) {
		q->batches[i].dev = d;
		list_add_tail(&q->idle, &q->batches[i].node);
	}
	return 0;
}

void
backup_queue_fini(struct slab_device *d)
{
	free(d->backup_queue.batches);
	d->backup_queue.batches = NULL;
}

static uint64_t
piece_bytes(const struct piece *p)
{
	return (uint64_t)p->n_pages * PAGE_BYTES;
}

static void
enqueued(struct piece *p)
{
	p->backup = WRITE_BACKUP_QUEUED;
	p->order.is_queued = true;
	p->dev->backup_queue.n_waiting++;
	if (write_is_urgent(p))
		backup_queue_hurry(p);
}

static void
leave(struct piece *p)
{
	list_del(&p->wait_node);
	p->order.is_queued = false;
	p->dev->backup_queue.n_waiting--;
	p->dev->backup_queue.n_urgent -= p->is_urgent ? 1 : 0;
	p->is_urgent = false;
}

void
backup_queue_add(struct piece *p)
{
	struct backup_queue *q = &p->dev->backup_queue;

	list_add_tail(&q->waiting, &p->wait_node);
	p->queue_place = ++q->place;
	p->wait_until_ns = p->dev->now_ns + p->dev->config.backup_delay_ns;
	enqueued(p);
}

void
backup_queue_hurry(struct piece *p)
{
	if (p->backup != WRITE_BACKUP_QUEUED || p->is_urgent)
		return;
	p->is_urgent = true;
	p->dev->backup_queue.n_urgent++;
}

void
backup_queue_replace(struct piece *older, struct piece *newer)
{
	assert(older->backup == WRITE_BACKUP_QUEUED);
	if (newer->backup != WRITE_BACKUP_QUEUED || older->queue_place < newer->queue_place) {
		if (newer->backup == WRITE_BACKUP_QUEUED)
			leave(newer);
		list_insert_between(&newer->wait_node, older->wait_node.prev, &older->wait_node);
		newer->queue_place = older->queue_place;
		newer->wait_until_ns = older->wait_until_ns;
		enqueued(newer);
	}
	leave(older);
}

/* The write that waits for the page at @offset_bytes and may join others, or NULL. */
static struct piece *
joining(const struct slab_device *d, uint64_t offset_bytes)
{
	struct order_entry *e = order_queued(&d->order, (uint32_t)(offset_bytes >> BLOCK_SHIFT),
					     (uint32_t)(offset_bytes >> PAGE_SHIFT) % BLOCK_PAGES);
	struct piece *p = e ? container_of(e, struct piece, order) : NULL;

	return p && !p->is_alone ? p : NULL;
}

static void
insert(struct write_batch *b, uint32_t at, struct piece *p)
{
	memmove(&b->pieces[at + 1], &b->pieces[at], (b->n - at) * sizeof(b->pieces[0]));
	b->pieces[at] = p;
	b->n++;
	b->length_bytes += piece_bytes(p);
	if (at == 0)
		b->offset_bytes = piece_page_offset(p);
	leave(p);
	p->backup = WRITE_BACKUP_STARTED;
	p->backup_busy = true;
	device_posted(p->dev, &p->io);
}

/* @first and its neighbours, which leave the queue. */
static void
collect(struct write_batch *b, struct piece *first)
{
	const struct slab_device *d = b->dev;
	struct piece *p;

	b->n = 0;
	b->length_bytes = 0;
	insert(b, 0, first);
	if (first->is_alone)
		return;
	while (b->n < BACKUP_PARTS_MAX &&
	       b->offset_bytes + b->length_bytes < d->config.size_bytes &&
	       (p = joining(d, b->offset_bytes + b->length_bytes)) != NULL)
		insert(b, b->n, p);
	while (b->n < BACKUP_PARTS_MAX && b->offset_bytes > 0 &&
	       (p = joining(d, b->offset_bytes - PAGE_BYTES)) != NULL)
		insert(b, 0, p);
	b->dev->stats.backup_writes_merged += b->n - 1;
}

/* Each of them alone, and before all others: what is wrong may be wrong with one only. */
static void
split(struct write_batch *b)
{
	struct backup_queue *q = &b->dev->backup_queue;

	b->dev->stats.backup_merges_failed++;
	for (uint32_t i = b->n; i > 0; i--) {
		struct piece *p = b->pieces[i - 1];

		p->backup_busy = false;
		p->is_alone = true;
		p->queue_place = 0;
		list_add_head(&q->waiting, &p->wait_node);
		enqueued(p);
	}
}

static void
batch_done_cb(struct backup_op *op, int status)
{
	struct write_batch *b = container_of(op, struct write_batch, op);

	if (status < 0 && b->n > 1) {
		backup_says(b->dev, status, "write");
		split(b);
	} else {
		for (uint32_t i = 0; i < b->n; i++) {
			b->pieces[i]->backup_busy = false;
			write_backup_done(b->pieces[i], status);
		}
	}
	list_add_tail(&b->dev->backup_queue.idle, &b->node);
}

static void
submit(struct write_batch *b)
{
	b->op = (struct backup_op){
		.kind = BACKUP_OP_WRITE,
		.offset_bytes = b->offset_bytes,
		.length_bytes = b->length_bytes,
		.done = batch_done_cb,
	};
	if (b->n == 1) {
		b->op.buf = b->pieces[0]->pages;
	} else {
		for (uint32_t i = 0; i < b->n; i++)
			b->parts[i] =
				(struct iovec){b->pieces[i]->pages, piece_bytes(b->pieces[i])};
		b->op.parts = b->parts;
		b->op.n_parts = b->n;
	}
	backup_submit(b->dev->backup, &b->op);
}

/* Until when the first that waits has time, should nothing happen before. */
static uint64_t
due_ns(const struct slab_device *d)
{
	const struct backup_queue *q = &d->backup_queue;
	const struct piece *first = container_of(q->waiting.next, struct piece, wait_node);
	const uint64_t quiet_ns = q->fed_ns + BACKUP_QUIET_NS;

	if (q->n_urgent > 0 || d->n_flushes > 0 || d->is_starved || d->is_stopping ||
	    d->pool.n_free < d->pool.n_pages / 8 * 5)
		return 0;
	return quiet_ns < first->wait_until_ns ? quiet_ns : first->wait_until_ns;
}

bool
backup_queue_is_due(const struct slab_device *d)
{
	return !list_is_empty(&d->backup_queue.waiting) && !list_is_empty(&d->backup_queue.idle) &&
	       due_ns(d) <= d->now_ns;
}

uint64_t
backup_queue_advance(struct slab_device *d, uint64_t now_ns)
{
	struct backup_queue *q = &d->backup_queue;

	if (q->was_fed)
		q->fed_ns = now_ns;
	q->was_fed = false;
	while (backup_queue_is_due(d)) {
		struct write_batch *b =
			container_of(list_pop_head(&q->idle), struct write_batch, node);

		collect(b, container_of(q->waiting.next, struct piece, wait_node));
		submit(b);
	}
	return list_is_empty(&q->waiting) || list_is_empty(&q->idle) ? UINT64_MAX : due_ns(d);
}
