/* SPDX-License-Identifier: MIT */
/*
 * Writing: two copies from one buffer.
 *
 * Happy path of a write to a mapped slab:
 *   write_submit -> (its turn) both bits cleared, remote WRITE posted -> backup
 *   write started when earlier writes of the page are on the backup -> remote
 *   complete: remote bit, main done, answer (ack = remote; throttle.h) -> backup complete:
 *   backup bit, answer (ack = both) -> buffer free.
 * To a slab that is unmapped or on its way back, or whose daemon is slow to answer (ack =
 * remote): backup only.  A part of a page: the page is fetched first.  When the backup
 * copy is complete first, that is the answer (ack = remote); later ones that read the page
 * go on, those that change it wait for the remote WRITE.
 *
 * Failure modes:
 *   - remote fails: the daemon is lost; the answer waits for the backup.
 *   - backup fails, remote copy is good: the page is degraded (invariant 6).
 *   - backup fails after the answer and the remote copy was lost since: the
 *     buffer is the only copy; it is kept and the backup tried again.
 *   - both fail before the answer: tried again while a mapping is under way, then
 *     the error is the answer; the page may hold old or new bytes.
 *   - there is no backup: as if it had refused every write, before it was asked.  So pages
 *     are remote only, and a write that no daemon takes waits for one (homeless.c).
 *   - an earlier write of the page is such a kept buffer: this one cannot go to the
 *     backup before it.  With a remote copy it takes the place of the earlier one;
 *     else it fails as if the backup had refused it.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "slab/core.h"

static void write_run(struct order_entry *e);
static void write_progress(struct piece *p);

/* Whether the remote copy that this write made is still there. */
static bool
has_remote(const struct piece *p)
{
	return p->has_remote && slab_holds(p->dev, piece_slab(p), p->generation);
}

/*
 * Whether a remote copy may be made.  A slab on its way back takes no writes, but what
 * replaces a page that only it has must not destroy that page where the backup refuses.  Where
 * there is none, such a page would be lost with it: the write waits for another daemon.
 */
static bool
may_post(const struct piece *p)
{
	const struct slab_device *d = p->dev;
	const uint32_t slab = piece_slab(p);

	return slab_is_mapped(d, slab) || (d->backup && p->order.prior_lost != 0 &&
					   d->arena.slabs[slab].state == SLAB_STATE_EVICTING &&
					   d->runs[slab].evict.step == EVICT_DRAIN);
}

/* Whether the daemon is slow to answer, and the backup is enough. */
static bool
is_avoided(const struct piece *p)
{
	const struct slab_device *d = p->dev;

	return d->config.ack == SLAB_ACK_REMOTE && p->order.prior_lost == 0 &&
	       health_is_avoided(
		       &d->remotes[slab_home_of(d, p->order.block, p->order.mask, TP_OP_WRITE)
					   .daemon]);
}

/* Whether a remote copy may become possible soon. */
static bool
may_wait(const struct piece *p)
{
	const uint32_t state = p->dev->arena.slabs[piece_slab(p)].state;

	if (state == SLAB_STATE_MAPPING)
		return p->n_tries < WRITE_TRIES_MAX || p->order.prior_lost != 0;
	return state == SLAB_STATE_EVICTING && p->order.prior_lost != 0;
}

bool
write_is_urgent(const struct piece *p)
{
	return !p->is_answered &&
	       (p->io.flags & BACKEND_FUA || p->dev->config.ack != SLAB_ACK_REMOTE ||
		!(p->remote_busy || has_remote(p)));
}

void
write_record(struct piece *p)
{
	*piece_arena_write(p) = (struct arena_write){
		.seq = ++p->dev->arena.header->write_seq,
		.offset_bytes = piece_page_offset(p),
		.length_bytes = (uint32_t)p->n_pages * PAGE_BYTES,
		.buffer_page = p->buffer_page,
	};
}

void
write_end(struct piece *p)
{
	struct slab_device *d = p->dev;

	p->backup = WRITE_BACKUP_ENDED;
	piece_arena_write(p)->seq = 0;
	slab_write_safe(p);
	throttle_release(p);
	list_del(&p->wait_node);
	d->n_kept -= p->is_kept ? 1 : 0;
	p->is_kept = false;
	order_backup_done(&d->order, &p->order);
	unsafe_remove(d, &p->unsafe);
}

void
write_set_kept(struct piece *p)
{
	struct slab_device *d = p->dev;

	d->n_kept += p->is_kept ? 0 : 1;
	d->stats.writes_kept_total += p->is_kept ? 0 : 1;
	p->is_kept = true;
	throttle_release(p);
	/* Last: it may start a flush, which has to see the count. */
	unsafe_remove(d, &p->unsafe);
}

static void
write_main_done(struct piece *p)
{
	p->is_main_done = true;
	order_main_done(&p->dev->order, &p->order);
	if (p->has_remote)
		supersede_earlier(p);
}

static void
backup_start(struct piece *p)
{
	assert(p->order.wait_backup == 0 && !p->backup_busy);
	if (!p->dev->backup) {
		p->backup = WRITE_BACKUP_FAILED;
		p->backup_status = -ENOSPC;
		if (!p->remote_busy)
			write_progress(p);
		return;
	}
	p->order.is_kept = false;
	backup_queue_add(p);
}

static void
write_start(struct piece *p)
{
	struct slab_device *d = p->dev;
	struct arena_block *b = &d->arena.blocks[p->order.block];
	const uint32_t slab = piece_slab(p);

	const uint32_t unsafe = order_unsafe_pages(&d->order, p->order.block, &p->order);

	p->prior_remote =
		d->arena.slabs[slab].state == SLAB_STATE_EVICTING ? b->remote & p->order.mask : 0;
	p->prior_generation = d->arena.slabs[slab].generation;
	p->is_started = true;
	p->order.has_data = true;
	p->order.prior_backup = b->backup & p->order.mask;
	p->order.prior_lost = b->remote & ~b->backup & p->order.mask & ~unsafe;
	write_record(p);
	if (slab_forget_pages(d, p->order.block, p->order.mask, unsafe))
		unsafe_to_front(d, &p->unsafe);
	slab_clear_remote(d, p->order.block, p->order.mask);
	b->backup &= ~p->order.mask;
	d->stats.pages_written += p->n_pages;

	slab_want(d, slab);
	if (slab_is_mapped(d, slab)) {
		if (!is_avoided(p))
			remote_post(p, TP_OP_WRITE, p->order.mask);
	} else if (p->order.prior_lost != 0) {
		slab_write_unsafe(p);
	}
	if (p->order.wait_backup == 0)
		backup_start(p);
}

/*
 * The remote copies that write_start() disowned and that nothing has overwritten: the slab is
 * on its way back.  An earlier write may have no other, should the backup refuse it.
 */
static void
restore_remote(struct piece *p)
{
	struct slab_device *d = p->dev;

	if (p->prior_remote != 0 && slab_holds(d, piece_slab(p), p->prior_generation))
		slab_set_remote(d, p->order.block, p->prior_remote & ~p->order.prior_lost,
				p->prior_generation);
}

/* The write failed as a whole, before its answer: the pages are what they were. */
static void
write_fail(struct piece *p, int status)
{
	struct slab_device *d = p->dev;
	/* Of these an earlier write holds the content, in its buffer. */
	const uint32_t unsafe = order_unsafe_pages(&d->order, p->order.block, &p->order);

	assert(!p->is_main_done); /* else later pieces have built on it */
	if (d->backup)
		d->arena.blocks[p->order.block].backup |= p->order.prior_backup & ~unsafe;
	else
		p->order.prior_lost |= p->order.prior_backup; /* they were lost */
	slab_lose_pages(d, p->order.block, p->order.prior_lost & ~unsafe);
	write_main_done(p);
	restore_remote(p);
	write_end(p);
	piece_answer(p, status);
}

/* Writes that have begun to replace @p, which the backup will never have. */
static void
later_to_front(struct piece *p)
{
	const struct page_order *o = &p->dev->order;
	struct order_entry *e = order_next_waiting(o, &p->order, p->order.mask);

	for (; e; e = order_next_waiting(o, e, p->order.mask))
		if (e->run == write_run && e->has_data)
			unsafe_to_front(p->dev, &container_of(e, struct piece, order)->unsafe);
}

static void
write_degrade(struct piece *p)
{
	struct slab_device *d = p->dev;
	const struct arena_block *b = &d->arena.blocks[p->order.block];
	const uint32_t only_remote =
		p->order.mask & ~order_covered_later(&d->order, &p->order) & b->remote & ~b->backup;

	slab_degrade_pages(d, p->order.block, only_remote);
	order_tell_later(&d->order, &p->order, p->order.mask, true);
	later_to_front(p);
	write_end(p);
}

/* The backup copy failed; what is left decides. */
static void
write_backup_failed(struct piece *p)
{
	if (has_remote(p)) {
		write_degrade(p);
		if (!p->is_answered)
			piece_answer(p, p->dev->backup && p->io.flags & BACKEND_FUA ? -EIO : 0);
		return;
	}
	if (!p->is_answered && p->is_main_done)
		/* Its bytes were seen and may have replaced acknowledged ones: they stay. */
		piece_answer(p, p->backup_status);
	if (p->is_answered) {
		repair_keep(p);
		write_unblock_later(p, p->backup_status);
		return;
	}
	if (may_post(p)) {
		remote_post(p, TP_OP_WRITE, p->order.mask);
		return;
	}
	if (!p->dev->backup) {
		homeless_add(p);
		return;
	}
	if (may_wait(p)) {
		p->n_tries += p->n_tries < WRITE_TRIES_MAX ? 1 : 0;
		repair_keep(p);
		return;
	}
	write_fail(p, p->backup_status);
}

/* Its turn on the backup cannot come for now: what would happen if the backup had refused it. */
static void
write_blocked(struct order_entry *e, int status)
{
	struct piece *p = container_of(e, struct piece, order);

	if (!p->is_started || p->remote_busy || p->backup != WRITE_BACKUP_WAITING)
		return;
	if (p->is_main_done) {
		if (!p->is_answered)
			piece_answer(p, has_remote(p) && !(p->io.flags & BACKEND_FUA) ? 0 : status);
		write_set_kept(p);
		return;
	}
	if (may_post(p))
		remote_post(p, TP_OP_WRITE, p->order.mask);
	else if (!may_wait(p))
		write_fail(p, status);
}

void
write_unblock_later(struct piece *p, int status)
{
	const struct page_order *o = &p->dev->order;
	const struct order_entry *last = &p->order;
	uint32_t mask = p->order.mask;
	struct order_entry *e;

	while ((e = order_next_waiting(o, last, mask)) != NULL) {
		if (e->blocked)
			e->blocked(e, status);
		if (e->backup_done)
			continue; /* gone; its marks are still there until the pool gives it out */
		/* It goes on waiting, and with it what stands behind it on its other pages. */
		last = e;
		mask |= e->mask;
	}
}

/* The remote WRITE is under way: whether the backup was first. */
static void
write_passed(struct piece *p)
{
	if (p->backup != WRITE_BACKUP_OK || p->io.flags & BACKEND_FUA ||
	    p->dev->config.ack != SLAB_ACK_REMOTE)
		return;
	if (!p->order.is_readable)
		order_readable(&p->dev->order, &p->order);
	if (!p->is_answered)
		piece_answer(p, 0);
}

/* Looks at what has ended and takes every step that is possible now. */
static void
write_progress(struct piece *p)
{
	const bool is_fua = (p->io.flags & BACKEND_FUA) != 0;

	if (p->remote_busy) {
		write_passed(p);
		return;
	}
	if (!p->is_main_done && (has_remote(p) || p->backup == WRITE_BACKUP_OK))
		write_main_done(p);
	if (p->backup == WRITE_BACKUP_OK) {
		write_end(p);
		if (!p->is_answered && is_fua) {
			piece_sync(p);
			return;
		}
		if (!p->is_answered)
			piece_answer(p, 0);
	} else if (p->backup == WRITE_BACKUP_FAILED) {
		write_backup_failed(p);
	} else if (!p->is_answered && has_remote(p) && !is_fua &&
		   p->dev->config.ack == SLAB_ACK_REMOTE) {
		throttle_answer(p);
	} else if (write_is_urgent(p)) {
		backup_queue_hurry(p);
	}
	piece_free_if_idle(p);
}

void
write_remote_done(struct piece *p, int status)
{
	struct slab_device *d = p->dev;

	if (status == 0 && slab_holds(d, piece_slab(p), p->generation)) {
		slab_set_remote(d, p->order.block, p->order.mask, p->generation);
		p->has_remote = true;
		d->stats.pages_written_remote += p->n_pages;
	}
	write_progress(p);
}

void
write_backup_done(struct piece *p, int status)
{
	struct slab_device *d = p->dev;

	if (status == 0) {
		p->backup = WRITE_BACKUP_OK;
		d->arena.blocks[p->order.block].backup |=
			p->order.mask & ~order_covered_later(&d->order, &p->order);
		order_tell_later(&d->order, &p->order, p->order.mask, false);
		d->stats.pages_written_backup += p->n_pages;
	} else {
		p->backup = WRITE_BACKUP_FAILED;
		p->backup_status = status;
	}
	backup_says(d, status, "write");
	write_progress(p);
}

/* A later write whose remote copy replaces the kept write @p as a whole, or NULL. */
static struct piece *
superseding(const struct piece *p)
{
	const struct page_order *o = &p->dev->order;
	struct order_entry *e = order_next_waiting(o, &p->order, p->order.mask);

	for (; e; e = order_next_waiting(o, e, p->order.mask)) {
		struct piece *later = container_of(e, struct piece, order);

		if (e->run == write_run && later->is_main_done && has_remote(later) &&
		    (p->order.mask & ~e->mask) == 0)
			return later;
	}
	return NULL;
}

void
write_retry(struct piece *p)
{
	struct slab_device *d = p->dev;
	struct piece *later = p->is_answered ? superseding(p) : NULL;

	if (later) {
		if (list_is_linked(&later->unsafe.node))
			unsafe_replace(d, &p->unsafe, &later->unsafe);
		write_end(p);
		d->stats.backup_writes_superseded++;
		piece_free_if_idle(p);
		return;
	}
	if (!p->is_main_done && may_post(p))
		remote_post(p, TP_OP_WRITE, p->order.mask);
	backup_start(p);
}

void
write_rehome(struct piece *p)
{
	remote_post(p, TP_OP_WRITE, p->order.mask);
}

void
write_give_up(struct piece *p, int status)
{
	write_fail(p, status);
	piece_free_if_idle(p);
}

void
write_fetched(struct piece *p, int status)
{
	const size_t in_page = (size_t)(p->io.offset_bytes % PAGE_BYTES);

	if (status < 0) {
		p->is_main_done = true;
		order_main_done(&p->dev->order, &p->order);
		write_end(p);
		piece_answer(p, status);
		return;
	}
	memcpy(p->pages + in_page, p->io.data, p->io.length_bytes);
	write_start(p);
}

/* Runs when waiting for earlier pieces ended, for the page and again for the backup. */
static void
write_run(struct order_entry *e)
{
	struct piece *p = container_of(e, struct piece, order);

	if (e->wait_main > 0 || p->is_reading)
		return;
	if (p->is_started) {
		if (e->wait_backup == 0 && p->backup == WRITE_BACKUP_WAITING)
			backup_start(p);
		return;
	}
	if (p->io.length_bytes < PAGE_BYTES) {
		p->missing = e->mask;
		read_fetch(p);
		return;
	}
	write_start(p);
}

void
write_submit(struct piece *p)
{
	struct slab_device *d = p->dev;

	activity_saw(d, piece_slab(p), p->n_pages);
	order_entry_init(&p->order, ORDER_EXCLUSIVE, p->order.block, p->order.mask, write_run);
	p->order.blocked = write_blocked;
	if (!d->backup)
		homeless_submitted(p);
	unsafe_add(d, &p->unsafe, false);
	order_add(&d->order, &p->order);
	if (p->order.wait_main == 0)
		write_run(&p->order);
}
