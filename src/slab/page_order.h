/* SPDX-License-Identifier: MIT */
/*
 * page_order.h - who goes first on a page.
 *
 * Each request piece has one entry per block that it touches.  Entries of a
 * block wait for earlier entries whose pages overlap, unless both only read.
 * An exclusive entry ends in two steps, because a write is answered when its
 * remote copy is complete while its backup copy is still under way:
 *
 *   main done    the newest content can be had (remote, backup or its buffer):
 *                later entries may start
 *   backup done  the backup holds it (or will never need to): the next write of
 *                the page may go to the backup, so two writes of a page reach
 *                remote and backup in the same order (invariant 2)
 *
 * Counting, not searching: an entry counts what it waits for when it is added,
 * and each ending entry counts down those behind it.
 */
#ifndef SLAB_PAGE_ORDER_H
#define SLAB_PAGE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

enum order_kind {
	ORDER_SHARED = 1, /* reads the pages */
	ORDER_EXCLUSIVE,  /* changes the pages */
};

struct order_entry {
	struct list chain; /* bucket, in order of arrival */
	struct list ready; /* on the owner's list of entries to run */
	void (*run)(struct order_entry *e);
	/* The backup refuses an earlier write for now, with @status: do not wait for it.  May
	 * end @e and nothing else; may be NULL. */
	void (*blocked)(struct order_entry *e, int status);
	uint32_t block;
	uint32_t mask; /* pages of the block */
	uint32_t wait_main;
	uint32_t wait_backup;
	enum order_kind kind;
	bool main_done;
	bool is_readable; /* exclusive: those behind it that only read need not wait for it */
	bool backup_done;
	bool has_data;	/* exclusive: started; the piece's buffer holds the pages' new content */
	bool is_kept;	/* main done, but the backup refuses it; nothing of it is in flight */
	bool is_queued; /* its turn on the backup has come; nothing of it is in flight */
	void *owner;	/* the caller's */
	/* What the pages fall back to when this write fails: an older content that the
	 * backup has, or one of which no copy is left.  In neither: zeros. */
	uint32_t prior_backup;
	uint32_t prior_lost;
};

struct page_order {
	struct list *buckets;
	uint32_t bucket_mask;
	struct list *ready; /* entries whose waiting ended are appended here */
};

/* @n_entries: most that will be in use at once.  @ready is the caller's list.
 * Returns 0 or -ENOMEM. */
int page_order_init(struct page_order *o, uint32_t n_entries, struct list *ready);
void page_order_fini(struct page_order *o);

/* Prepares @e for order_add(). */
void order_entry_init(struct order_entry *e, enum order_kind kind, uint32_t block, uint32_t mask,
		      void (*run)(struct order_entry *e));

/* Puts @e behind all others; afterwards e->wait_main and e->wait_backup say what it waits for. */
void order_add(struct page_order *o, struct order_entry *e);
/* Later entries that only read may start: the backup has what exclusive @e wrote, its main is not
 * done.  Once at most. */
void order_readable(struct page_order *o, struct order_entry *e);
/* Shared entries end with this one. */
void order_main_done(struct page_order *o, struct order_entry *e);
/* Exclusive entries only; removes @e when its main is done too. */
void order_backup_done(struct page_order *o, struct order_entry *e);

/* Pages of @e that a later write has started to replace. */
uint32_t order_covered_later(const struct page_order *o, const struct order_entry *e);
/* Tells later started writes what became of the content before theirs on the pages @mask of @e. */
void order_tell_later(const struct page_order *o, const struct order_entry *e, uint32_t mask,
		      bool is_lost);
/* Pages of @block that are in the buffer of a started write which the backup has
 * not got yet; @except (may be NULL) does not count. */
uint32_t order_unsafe_pages(const struct page_order *o, uint32_t block,
			    const struct order_entry *except);
/* Of these, pages whose write has not its main done. */
uint32_t order_flying_pages(const struct page_order *o, uint32_t block);
/* Of these, pages whose write has its main done: reads take them from the buffer. */
uint32_t order_acked_pages(const struct page_order *o, uint32_t block);
/* The newest entry of @block that is main done, not backup done, has data and
 * covers @page; NULL when there is none. */
struct order_entry *order_newest_data(const struct page_order *o, uint32_t block, uint32_t page);
/* An earlier write whose turn on the backup has not come, or that it refuses, and that @e
 * replaces as a whole, or NULL. */
struct order_entry *order_superseded(const struct page_order *o, const struct order_entry *e);
/* The next one before @from (@e, at first) that is queued and that @e replaces as a whole; NULL
 * when there is none. */
struct order_entry *order_queued_before(const struct page_order *o, const struct order_entry *e,
					const struct order_entry *from);
/* The write of @page of @block that is queued, or NULL. */
struct order_entry *order_queued(const struct page_order *o, uint32_t block, uint32_t page);
/* The next exclusive entry after @from (the one that it waits for, at first) on any of @mask's
 * pages of the same block; NULL at the end. */
struct order_entry *order_next_waiting(const struct page_order *o, const struct order_entry *from,
				       uint32_t mask);

#endif /* SLAB_PAGE_ORDER_H */
