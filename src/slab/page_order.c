/* SPDX-License-Identifier: MIT */
#include "slab/page_order.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ENTRIES_PER_BUCKET 4u

static struct order_entry *
entry_of(const struct list *node)
{
	return container_of(node, struct order_entry, chain);
}

static struct list *
bucket_of(const struct page_order *o, uint32_t block)
{
	return &o->buckets[(block * UINT32_C(2654435761)) >> 8 & o->bucket_mask];
}

static bool
overlaps(const struct order_entry *a, const struct order_entry *b)
{
	return a->block == b->block && (a->mask & b->mask) != 0;
}

static bool
both_exclusive(const struct order_entry *a, const struct order_entry *b)
{
	return a->kind == ORDER_EXCLUSIVE && b->kind == ORDER_EXCLUSIVE;
}

static bool
both_shared(const struct order_entry *a, const struct order_entry *b)
{
	return a->kind == ORDER_SHARED && b->kind == ORDER_SHARED;
}

/* Whether @e need not wait until the main of @before is done. */
static bool
passes(const struct order_entry *e, const struct order_entry *before)
{
	return before->is_readable && e->kind == ORDER_SHARED;
}

int
page_order_init(struct page_order *o, uint32_t n_entries, struct list *ready)
{
	uint32_t n = 64;

	/* Few of the entries are in use at a time: a table that stays in the cache is worth more
	 * than short chains when all are. */
	while (n < n_entries / ENTRIES_PER_BUCKET)
		n *= 2;
	o->buckets = calloc(n, sizeof(*o->buckets));
	if (!o->buckets)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		list_init(&o->buckets[i]);
	o->bucket_mask = n - 1;
	o->ready = ready;
	return 0;
}

void
page_order_fini(struct page_order *o)
{
	free(o->buckets);
	o->buckets = NULL;
}

void
order_entry_init(struct order_entry *e, enum order_kind kind, uint32_t block, uint32_t mask,
		 void (*run)(struct order_entry *e))
{
	*e = (struct order_entry){.kind = kind, .block = block, .mask = mask, .run = run};
	list_init(&e->chain);
	list_init(&e->ready);
}

void
order_add(struct page_order *o, struct order_entry *e)
{
	struct list *bucket = bucket_of(o, e->block);
	struct list *pos;

	list_foreach (pos, bucket) {
		const struct order_entry *before = entry_of(pos);

		if (!overlaps(before, e) || both_shared(before, e))
			continue;
		if (!before->main_done && !passes(e, before))
			e->wait_main++;
		if (both_exclusive(before, e) && !before->backup_done)
			e->wait_backup++;
	}
	list_add_tail(bucket, &e->chain);
}

static void
make_ready(struct page_order *o, struct order_entry *e)
{
	if (!list_is_linked(&e->ready))
		list_add_tail(o->ready, &e->ready);
}

static void
remove_if_ended(struct order_entry *e)
{
	if (e->main_done && (e->backup_done || e->kind == ORDER_SHARED))
		list_del(&e->chain);
}

void
order_readable(struct page_order *o, struct order_entry *e)
{
	const struct list *bucket = bucket_of(o, e->block);

	assert(e->kind == ORDER_EXCLUSIVE && e->has_data && !e->main_done && !e->is_readable);
	e->is_readable = true;
	for (struct list *pos = e->chain.next; pos != bucket; pos = pos->next) {
		struct order_entry *later = entry_of(pos);

		if (!overlaps(e, later) || !passes(later, e))
			continue;
		assert(later->wait_main > 0);
		if (--later->wait_main == 0)
			make_ready(o, later);
	}
}

void
order_main_done(struct page_order *o, struct order_entry *e)
{
	const struct list *bucket = bucket_of(o, e->block);

	assert(!e->main_done && e->wait_main == 0);
	e->main_done = true;
	for (struct list *pos = e->chain.next; pos != bucket; pos = pos->next) {
		struct order_entry *later = entry_of(pos);

		if (!overlaps(e, later) || both_shared(e, later) || passes(later, e))
			continue;
		assert(later->wait_main > 0);
		if (--later->wait_main == 0)
			make_ready(o, later);
	}
	remove_if_ended(e);
}

void
order_backup_done(struct page_order *o, struct order_entry *e)
{
	const struct list *bucket = bucket_of(o, e->block);

	assert(e->kind == ORDER_EXCLUSIVE && !e->backup_done);
	e->backup_done = true;
	for (struct list *pos = e->chain.next; pos != bucket; pos = pos->next) {
		struct order_entry *later = entry_of(pos);

		if (!overlaps(e, later) || !both_exclusive(e, later))
			continue;
		assert(later->wait_backup > 0);
		if (--later->wait_backup == 0)
			make_ready(o, later);
	}
	remove_if_ended(e);
}

uint32_t
order_covered_later(const struct page_order *o, const struct order_entry *e)
{
	const struct list *bucket = bucket_of(o, e->block);
	uint32_t covered = 0;

	for (const struct list *pos = e->chain.next; pos != bucket; pos = pos->next) {
		const struct order_entry *later = entry_of(pos);

		if (overlaps(e, later) && later->has_data)
			covered |= later->mask;
	}
	return covered & e->mask;
}

void
order_tell_later(const struct page_order *o, const struct order_entry *e, uint32_t mask,
		 bool is_lost)
{
	const struct list *bucket = bucket_of(o, e->block);

	for (struct list *pos = e->chain.next; pos != bucket; pos = pos->next) {
		struct order_entry *later = entry_of(pos);
		const uint32_t pages = mask & later->mask;

		if (!overlaps(e, later) || !later->has_data)
			continue;
		later->prior_lost &= ~pages;
		later->prior_backup &= ~pages;
		*(is_lost ? &later->prior_lost : &later->prior_backup) |= pages;
	}
}

uint32_t
order_unsafe_pages(const struct page_order *o, uint32_t block, const struct order_entry *except)
{
	const struct list *bucket = bucket_of(o, block);
	const struct list *pos;
	uint32_t pages = 0;

	list_foreach (pos, bucket) {
		const struct order_entry *e = entry_of(pos);

		if (e != except && e->block == block && e->has_data && !e->backup_done)
			pages |= e->mask;
	}
	return pages;
}

uint32_t
order_flying_pages(const struct page_order *o, uint32_t block)
{
	const struct list *bucket = bucket_of(o, block);
	const struct list *pos;
	uint32_t pages = 0;

	list_foreach (pos, bucket) {
		const struct order_entry *e = entry_of(pos);

		if (e->block == block && e->has_data && !e->main_done)
			pages |= e->mask;
	}
	return pages;
}

uint32_t
order_acked_pages(const struct page_order *o, uint32_t block)
{
	const struct list *bucket = bucket_of(o, block);
	const struct list *pos;
	uint32_t pages = 0;

	list_foreach (pos, bucket) {
		const struct order_entry *e = entry_of(pos);

		if (e->block == block && e->has_data && e->main_done && !e->backup_done)
			pages |= e->mask;
	}
	return pages;
}

struct order_entry *
order_newest_data(const struct page_order *o, uint32_t block, uint32_t page)
{
	const struct list *bucket = bucket_of(o, block);

	for (const struct list *pos = bucket->prev; pos != bucket; pos = pos->prev) {
		struct order_entry *e = entry_of(pos);

		if (e->block == block && (e->mask & 1u << page) != 0 && e->has_data &&
		    e->main_done && !e->backup_done)
			return e;
	}
	return NULL;
}

/* Whether @e, which came later, replaces the write @before as a whole. */
static bool
replaces(const struct order_entry *e, const struct order_entry *before)
{
	return before->block == e->block && before->kind == ORDER_EXCLUSIVE && before->has_data &&
	       before->main_done && !before->backup_done && (before->mask & ~e->mask) == 0;
}

struct order_entry *
order_superseded(const struct page_order *o, const struct order_entry *e)
{
	const struct list *bucket = bucket_of(o, e->block);

	for (const struct list *pos = e->chain.prev; pos != bucket; pos = pos->prev) {
		struct order_entry *before = entry_of(pos);

		if (replaces(e, before) && (before->wait_backup > 0 || before->is_kept))
			return before;
	}
	return NULL;
}

struct order_entry *
order_queued_before(const struct page_order *o, const struct order_entry *e,
		    const struct order_entry *from)
{
	const struct list *bucket = bucket_of(o, e->block);

	for (const struct list *pos = from->chain.prev; pos != bucket; pos = pos->prev) {
		struct order_entry *before = entry_of(pos);

		if (before->is_queued && replaces(e, before))
			return before;
	}
	return NULL;
}

struct order_entry *
order_queued(const struct page_order *o, uint32_t block, uint32_t page)
{
	const struct list *bucket = bucket_of(o, block);
	const struct list *pos;

	list_foreach (pos, bucket) {
		struct order_entry *e = entry_of(pos);

		if (e->block == block && e->is_queued && (e->mask & 1u << page) != 0)
			return e;
	}
	return NULL;
}

struct order_entry *
order_next_waiting(const struct page_order *o, const struct order_entry *from, uint32_t mask)
{
	const struct list *bucket = bucket_of(o, from->block);

	for (struct list *pos = from->chain.next; pos != bucket; pos = pos->next) {
		struct order_entry *later = entry_of(pos);

		if (later->block == from->block && (later->mask & mask) != 0 &&
		    later->kind == ORDER_EXCLUSIVE)
			return later;
	}
	return NULL;
}
