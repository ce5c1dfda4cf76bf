/* SPDX-License-Identifier: MIT */
#include "sim/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/guard.h"

static bool
is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->serial < b->serial);
}

static void
put(struct sim_clock *c, uint32_t place, struct sim_event *ev)
{
	c->heap[place] = ev;
	ev->place = place;
}

static void
sift_up(struct sim_clock *c, struct sim_event *ev, uint32_t place)
{
	while (place > 1 && is_before(ev, c->heap[place / 2])) {
		put(c, place, c->heap[place / 2]);
		place /= 2;
	}
	put(c, place, ev);
}

static void
sift_down(struct sim_clock *c, struct sim_event *ev, uint32_t place)
{
	while (place * 2 <= c->n) {
		uint32_t child = place * 2;

		if (child < c->n && is_before(c->heap[child + 1], c->heap[child]))
			child++;
		if (!is_before(c->heap[child], ev))
			break;
		put(c, place, c->heap[child]);
		place = child;
	}
	put(c, place, ev);
}

void
sim_clock_reset(struct sim_clock *c)
{
	c->now_ns = UINT64_C(1000000000);
	c->serial = 0;
	c->n_fired = 0;
	c->n = 0;
}

void
sim_clock_fini(struct sim_clock *c)
{
	free(c->heap);
	memset(c, 0, sizeof(*c));
}

void
sim_clock_cancel(struct sim_clock *c, struct sim_event *ev)
{
	const uint32_t place = ev->place;
	struct sim_event *last;

	if (place == 0)
		return;
	ev->place = 0;
	last = c->heap[c->n--];
	if (last == ev)
		return;
	if (place > 1 && is_before(last, c->heap[place / 2]))
		sift_up(c, last, place);
	else
		sift_down(c, last, place);
}

void
sim_clock_at(struct sim_clock *c, struct sim_event *ev, uint64_t at_ns)
{
	assert(ev->fire);
	sim_clock_cancel(c, ev);
	if (c->n + 2 > c->room) {
		c->room = c->room ? c->room * 2 : 4096;
		c->heap = guard_realloc(c->heap, c->room * sizeof(struct sim_event *));
	}
	ev->at_ns = at_ns > c->now_ns ? at_ns : c->now_ns;
	ev->serial = ++c->serial;
	c->n++;
	sift_up(c, ev, c->n);
}

bool
sim_clock_step(struct sim_clock *c, uint64_t until_ns)
{
	struct sim_event *ev;

	if (c->n == 0 || c->heap[1]->at_ns > until_ns)
		return false;
	ev = c->heap[1];
	sim_clock_cancel(c, ev);
	c->now_ns = ev->at_ns;
	c->n_fired++;
	ev->fire(ev);
	return true;
}
