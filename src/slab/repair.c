/* SPDX-License-Identifier: MIT */
/*
 * Bringing pages to a backup that failed (invariant 6), in the background.
 *
 * Two kinds of pages wait for it to work again: writes whose buffer is the only
 * copy (d->retry), and degraded pages, whose only copy is remote: those are
 * read from there and written to the backup, a bounded batch at a time.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "slab/core.h"

#define REPAIRS_MAX 32u
/* Between two batches while the backup takes them. */
#define REPAIR_PAUSE_NS (10 * NSEC_PER_MSEC)
/* Blocks looked at per batch. */
#define REPAIR_SCAN_BLOCKS (64u * 1024u)

void
backup_says(struct slab_device *d, int status, const char *what)
{
	if (status < 0) {
		d->stats.backup_errors++;
		d->backup_is_failing = true;
		d->backup_failed_ns = d->now_ns;
		if (d->was_backup_reported)
			return;
		d->was_backup_reported = true;
		device_event(d, SLAB_EVENT_ERROR,
			     "backup: %s failed: %s; pages that it refuses stay on the daemons or "
			     "in memory, tried again every second",
			     what, strerror(-status));
		return;
	}
	if (strcmp(what, "write") == 0)
		d->backup_is_failing = false;
}

/*
 * A full disk takes some writes and refuses others: one good write is no end of
 * the trouble.  Returns when to look again.
 */
static uint64_t
recovery_advance(struct slab_device *d, uint64_t now_ns)
{
	const uint64_t calm_ns = d->backup_failed_ns + BACKUP_RETRY_NS;

	if (!d->was_backup_reported || d->backup_is_failing || d->stats.pages_degraded > 0 ||
	    !list_is_empty(&d->retry))
		return UINT64_MAX;
	if (now_ns < calm_ns)
		return calm_ns;
	d->was_backup_reported = false;
	device_event(d, SLAB_EVENT_NOTICE, "backup: works again");
	return UINT64_MAX;
}

static void
timer_arm(struct slab_device *d)
{
	if (!d->retry_timer.is_armed)
		core_timer_arm(&d->retry_timer,
			       d->backup_is_failing ? BACKUP_RETRY_NS : REPAIR_PAUSE_NS);
}

void
repair_keep(struct piece *p)
{
	struct slab_device *d = p->dev;

	p->order.is_kept = true;
	list_add_tail(&d->retry, &p->wait_node);
	write_set_kept(p);
}

static void
repair_end(struct piece *p)
{
	struct slab_device *d = p->dev;

	order_main_done(&d->order, &p->order);
	order_backup_done(&d->order, &p->order);
	d->n_repairs--;
	unsafe_remove(d, &p->unsafe);
	piece_free_if_idle(p);
}

static void
repair_backup_done_cb(struct backup_op *op, int status)
{
	struct piece *p = container_of(op, struct piece, backup_op);
	struct slab_device *d = p->dev;
	struct arena_block *b = &d->arena.blocks[p->order.block];
	/* Nobody sets these bits while it is under way; the loss of a daemon clears them. */
	const uint32_t remote = slab_readable_pages(d, p->order.block) & p->order.mask;

	p->backup_busy = false;
	if (status == 0) {
		slab_mend_pages(d, p->order.block, remote);
		b->backup |= p->order.mask;
	}
	backup_says(d, status, "write");
	if (status < 0 && remote != p->order.mask) {
		/* A daemon went meanwhile: this buffer is the only copy. */
		slab_mend_pages(d, p->order.block, remote);
		p->is_repair = false;
		p->is_answered = true;
		p->is_started = true;
		p->is_main_done = true;
		p->backup = WRITE_BACKUP_FAILED;
		write_record(p);
		order_main_done(&d->order, &p->order);
		d->n_repairs--;
		repair_keep(p);
		return;
	}
	repair_end(p);
}

void
repair_fetched(struct piece *p, int status)
{
	struct slab_device *d = p->dev;

	if (status < 0) {
		repair_end(p);
		return;
	}
	p->order.has_data = true;
	/* If its daemon goes now, this is the only copy of pages that were written before any
	 * flush that waits: it has to end before them. */
	unsafe_add(d, &p->unsafe, false);
	unsafe_to_front(d, &p->unsafe);
	p->backup_busy = true;
	p->backup_op = (struct backup_op){
		.kind = BACKUP_OP_WRITE,
		.buf = p->pages,
		.offset_bytes = ((uint64_t)p->order.block << BLOCK_SHIFT) +
				((uint64_t)p->first_page << PAGE_SHIFT),
		.length_bytes = (uint64_t)p->n_pages * PAGE_BYTES,
		.done = repair_backup_done_cb,
	};
	backup_submit(d->backup, &p->backup_op);
}

static void
repair_run(struct order_entry *e)
{
	struct piece *p = container_of(e, struct piece, order);
	struct slab_device *d = p->dev;
	const struct arena_block *b = &d->arena.blocks[e->block];

	if (e->wait_main > 0 || e->wait_backup > 0)
		return;
	/* The pages may have been written, trimmed or lost while it waited. */
	if ((slab_readable_pages(d, e->block) & ~b->backup & e->mask) != e->mask) {
		repair_end(p);
		return;
	}
	p->missing = e->mask;
	read_fetch(p);
}

/* What it waits for waits itself, with no end in sight: others behind it must not. */
static void
repair_blocked(struct order_entry *e, int status)
{
	struct piece *p = container_of(e, struct piece, order);

	(void)status;
	if (e->wait_main > 0 || e->wait_backup == 0)
		return;
	list_del(&e->ready);
	repair_end(p);
}

/* One page run of @block that only the daemon has.  False when there is no buffer. */
static bool
repair_start(struct slab_device *d, uint32_t block, uint32_t pages)
{
	struct piece *p = piece_get_internal(d, block, first_run(pages));

	if (!p)
		return false;
	p->is_repair = true;
	p->io.kind = BACKEND_WRITE;
	order_entry_init(&p->order, ORDER_EXCLUSIVE, block, p->order.mask, repair_run);
	p->order.blocked = repair_blocked;
	order_add(&d->order, &p->order);
	d->n_repairs++;
	if (p->order.wait_main == 0 && p->order.wait_backup == 0)
		repair_run(&p->order);
	return true;
}

static void
repair_batch(struct slab_device *d)
{
	const uint32_t slab_blocks = d->arena.slab_blocks;
	const uint32_t n_scan =
		d->arena.n_blocks < REPAIR_SCAN_BLOCKS ? d->arena.n_blocks : REPAIR_SCAN_BLOCKS;

	for (uint32_t n = 0; n < n_scan && d->n_repairs < REPAIRS_MAX; n++) {
		const uint32_t block = d->repair_block;
		const struct arena_slab *s = &d->arena.slabs[block / slab_blocks];
		const struct arena_block *b = &d->arena.blocks[block];
		uint32_t pages, step = 1;

		if (s->pages_degraded == 0)
			step = slab_blocks - block % slab_blocks;
		pages = slab_readable_pages(d, block) & ~b->backup;
		if (s->pages_degraded > 0 && pages != 0) {
			pages &= ~order_unsafe_pages(&d->order, block, NULL);
			if (pages != 0 && !repair_start(d, block, pages))
				return;
		}
		d->repair_block = block + step < d->arena.n_blocks ? block + step : 0;
	}
}

static void
retry_all(struct slab_device *d)
{
	struct list again;
	struct list *node;

	list_init(&again);
	list_splice_tail(&again, &d->retry);
	while ((node = list_pop_head(&again)) != NULL)
		write_retry(container_of(node, struct piece, wait_node));
}

uint64_t
repair_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = recovery_advance(d, now_ns);

	if (!d->backup ||
	    (list_is_empty(&d->retry) && (d->stats.pages_degraded == 0 || d->n_repairs > 0)))
		return next_ns;
	timer_arm(d);
	if (core_timer_is_due(&d->retry_timer, now_ns, &next_ns)) {
		if (d->stop_step == STOP_DRAIN && d->backup_is_failing)
			d->stop_retries++;
		retry_all(d);
		repair_batch(d);
	}
	return next_ns;
}

uint64_t
repair_give_up(struct slab_device *d)
{
	uint64_t n_pages = 0;
	struct list *node;

	while ((node = list_pop_head(&d->retry)) != NULL) {
		struct piece *p = container_of(node, struct piece, wait_node);

		n_pages += p->n_pages;
		write_end(p);
		piece_free_if_idle(p);
	}
	return n_pages;
}
