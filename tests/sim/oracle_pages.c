/* SPDX-License-Identifier: MIT */
#include "sim/oracle_pages.h"

#include <assert.h>
#include <string.h>

#include "sim/bump.h"
#include "sim/disk.h"
#include "sim/guard.h"
#include "sim/pattern.h"

void
pages_reset(struct sim_pages *sp, uint32_t n_pages)
{
	struct change **done = sp->done;
	const uint32_t room = sp->room_done;

	memset(sp, 0, sizeof(*sp));
	sp->done = done;
	sp->room_done = room;
	sp->n_pages = n_pages;
	sp->pages = bump_alloc(n_pages * sizeof(*sp->pages));
}

struct change *
pages_change(struct sim_pages *sp, enum backend_kind kind, uint64_t number, uint64_t version,
	     uint64_t offset_bytes, uint64_t length_bytes, uint32_t *ret_n)
{
	const uint32_t first = (uint32_t)(offset_bytes / PAGE_BYTES);
	const uint32_t n = (uint32_t)((offset_bytes + length_bytes - 1) / PAGE_BYTES) - first + 1;
	struct change *changes = bump_alloc(n * sizeof(*changes));

	for (uint32_t i = 0; i < n; i++) {
		struct page_history *h = &sp->pages[first + i];
		const uint32_t from = i == 0 ? (uint32_t)(offset_bytes % PAGE_BYTES) : 0;

		changes[i] = (struct change){
			.older = h->newest,
			.number = number,
			.version = version,
			.page = first + i,
			.from = (uint16_t)from,
			.to = (uint16_t)(n == 1 ? from + length_bytes : PAGE_BYTES),
			.kind = (uint8_t)kind,
		};
		h->newest = &changes[i];
	}
	*ret_n = n;
	return changes;
}

void
pages_done(struct sim_pages *sp, struct change *changes, uint32_t n, bool is_ok)
{
	sp->done_seq++;
	for (uint32_t i = 0; i < n; i++) {
		changes[i].status = is_ok ? CHANGE_OK : CHANGE_FAILED;
		changes[i].done_seq = sp->done_seq;
		if (sp->n_done == sp->room_done) {
			sp->room_done = sp->room_done ? sp->room_done * 2 : 1024;
			sp->done = guard_realloc(sp->done, sp->room_done * sizeof(struct change *));
		}
		if (is_ok)
			sp->done[sp->n_done++] = &changes[i];
	}
}

static bool
is_definite(const struct change *c, const struct page_query *q)
{
	switch (q->rule) {
	case RULE_READ:
		return c->status != CHANGE_FAILED;
	case RULE_NEWEST:
		return c->status == CHANGE_OK;
	case RULE_DURABLE:
		return c->status == CHANGE_OK &&
		       (c->done_seq <= q->synced_seq || (q->with_self && c->is_durable));
	}
	return true;
}

/* Takes off the bytes of [@from, @to) that are @version's.  Returns whether any is left. */
static uint32_t
match(uint8_t *unmatched, const uint8_t *bytes, uint32_t from, uint32_t to, uint32_t page,
      uint64_t version)
{
	uint8_t want[PAGE_BYTES];
	uint32_t left = 0;

	pattern_fill(want, version, (uint64_t)page * PAGE_BYTES + from, to - from);
	for (uint32_t i = from; i < to; i++)
		unmatched[i] &= bytes[i] != want[i - from];
	for (uint32_t i = from; i < to; i++)
		left |= unmatched[i];
	return left;
}

static bool
allow_slowly(const struct page_history *h, uint32_t page, uint32_t from, uint32_t to,
	     const uint8_t *bytes, const struct page_query *q)
{
	uint8_t unmatched[PAGE_BYTES], own[PAGE_BYTES];
	static const uint8_t zeros[PAGE_BYTES];
	bool is_trimmed = false;

	memset(unmatched + from, 1, to - from);
	memcpy(own + from, bytes + from, to - from);
	for (const struct change *c = h->newest; c; c = c->older) {
		const uint32_t f = c->from > from ? c->from : from;
		const uint32_t t = c->to < to ? c->to : to;

		if (f >= t || (q->rule == RULE_READ && c->number >= q->number))
			continue;
		/* What was trimmed may come back, and need not have got there before. */
		is_trimmed |= q->rule == RULE_DURABLE && c->kind == BACKEND_TRIM;
		if (match(unmatched, own, f, t, page, c->version) > 0 && !is_trimmed &&
		    is_definite(c, q))
			return false;
		if (is_trimmed && c->kind == BACKEND_TRIM)
			(void)match(unmatched, own, f, t, page, SIM_JUNK_VERSION);
		/* Below a change that happened nothing can be seen. */
		if (!is_trimmed && is_definite(c, q))
			memset(unmatched + f, 0, t - f);
		if (!memchr(unmatched + from, 1, (size_t)to - from))
			return true;
	}
	for (uint32_t i = from; i < to; i++)
		if (unmatched[i] && own[i] != (h->base ? h->base[i] : zeros[i]))
			return false;
	return true;
}

/* As long as whole changes are all there is, one of them must be there as a whole.
 * Returns 1: it is, 0: nothing fits, -1: not as simple as that. */
static int
allow_quickly(const struct page_history *h, uint32_t page, uint32_t from, uint32_t to,
	      const uint8_t *bytes, const struct page_query *q)
{
	for (const struct change *c = h->newest; c; c = c->older) {
		if (q->rule == RULE_READ && c->number >= q->number)
			continue;
		if (c->from > from || c->to < to)
			return -1;
		if (q->rule != RULE_READ && from == 0 && to == PAGE_BYTES &&
		    pattern_equal_page(bytes, c->version, (uint64_t)page * PAGE_BYTES))
			return 1;
		if (pattern_equal(bytes + from, c->version, (uint64_t)page * PAGE_BYTES + from,
				  to - from))
			return 1;
		if (c->kind == BACKEND_TRIM || c->status == CHANGE_FAILED)
			return -1;
		if (is_definite(c, q))
			return c == h->newest ? 0 : -1; /* a mixture, perhaps */
	}
	if (h->base ? memcmp(bytes + from, h->base + from, to - from) == 0
		    : pattern_equal(bytes + from, 0, 0, to - from))
		return 1;
	return -1;
}

bool
pages_allow(const struct sim_pages *sp, uint32_t page, uint32_t from, uint32_t to,
	    const uint8_t *bytes, const struct page_query *q)
{
	const struct page_history *h = &sp->pages[page];
	int quick;

	assert(page < sp->n_pages && from < to && to <= PAGE_BYTES);
	quick = allow_quickly(h, page, from, to, bytes, q);
	return quick >= 0 ? quick > 0 : allow_slowly(h, page, from, to, bytes, q);
}

void
pages_set_base(struct sim_pages *sp, uint32_t page, const uint8_t *bytes)
{
	struct page_history *h = &sp->pages[page];

	h->newest = NULL;
	h->base = NULL;
	if (!pattern_equal(bytes, 0, 0, PAGE_BYTES)) {
		uint8_t *copy = bump_alloc(PAGE_BYTES);

		memcpy(copy, bytes, PAGE_BYTES);
		h->base = copy;
	}
}
