/* SPDX-License-Identifier: MIT */
#include "slab/placement.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "slab/core.h"

/* Request ids of QUERY_MEM: these two bits, and a number that counts up. */
#define QUERY_ID UINT32_C(0xc0000000)

int
placements_init(struct slab_device *d, uint32_t n_remotes)
{
	struct placements *ps = &d->placements;

	list_init(&ps->running);
	list_init(&ps->idle);
	ps->n_tried_words = n_remotes / 64 + 1;
	ps->tried = calloc((size_t)ps->n_tried_words * PLACEMENTS_MAX, sizeof(*ps->tried));
	if (!ps->tried)
		return -ENOMEM;
	for (uint32_t i = 0; i < PLACEMENTS_MAX; i++) {
		ps->all[i].tried = ps->tried + (size_t)i * ps->n_tried_words;
		list_add_tail(&ps->idle, &ps->all[i].node);
	}
	return 0;
}

void
placements_fini(struct slab_device *d)
{
	free(d->placements.tried);
}

void
placement_hope(struct slab_device *d)
{
	d->placements.is_hopeless = false;
}

static void
set_due(struct slab_device *d, struct placement *p)
{
	p->is_due = true;
	d->placements.is_due = true;
}

static bool
was_tried(const struct placement *p, const struct remote *r)
{
	return (p->tried[r->index / 64] >> r->index % 64 & 1) != 0;
}

static void
set_tried(struct placement *p, const struct remote *r)
{
	p->tried[r->index / 64] |= UINT64_C(1) << r->index % 64;
}

static bool
is_new(const struct remote *r)
{
	return r->slabs_mapped == 0 && r->maps_pending == 0;
}

/*
 * Draws up to @n of the daemons that can be asked and are new, or not, to @drawn: each set of
 * them is as likely as any other.  Returns how many there are to draw from.
 */
static uint32_t
draw(struct slab_device *d, const struct placement *p, bool of_new, uint32_t n,
     struct remote **drawn)
{
	uint32_t n_seen = 0;

	for (uint32_t i = 0; i < d->n_remotes; i++) {
		struct remote *r = &d->remotes[i];
		uint32_t at;

		if (!remote_may_map(r) || is_new(r) != of_new || was_tried(p, r))
			continue;
		at = n_seen < n ? n_seen : rng_below(&d->rng, n_seen + 1);
		if (at < n)
			drawn[at] = r;
		n_seen++;
	}
	return n_seen;
}

/* Drops those that are out; returns how many more can be asked. */
static uint32_t
asked_room(struct placement *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->n_asked; i++)
		if (p->asked[i].answer != PLACEMENT_OUT)
			p->asked[n++] = p->asked[i];
	p->n_asked = n;
	return PLACEMENT_ASKED_MAX - n;
}

static void
ask(struct slab_device *d, struct placement *p, struct remote *r, bool with_query)
{
	struct placement_asked *a = &p->asked[p->n_asked++];

	set_tried(p, r);
	*a = (struct placement_asked){
		.remote = r,
		.answer = PLACEMENT_USABLE,
		.is_new = is_new(r),
		.usage_permille = r->usage_permille,
	};
	if (!with_query)
		return;
	a->request_id = QUERY_ID | (++d->placements.query_serial & ~QUERY_ID);
	a->answer = PLACEMENT_WAITS;
	d->stats.queries_total++;
	remote_query(r, a->request_id);
}

/* So that of several that are as good none is preferred. */
static void
shuffle(struct rng *rng, struct remote **drawn, uint32_t n)
{
	for (uint32_t i = n; i > 1; i--) {
		const uint32_t k = rng_below(rng, i);
		struct remote *r = drawn[k];

		drawn[k] = drawn[i - 1];
		drawn[i - 1] = r;
	}
}

/* Asks a fresh draw.  False: there is nobody left. */
static bool
ask_more(struct slab_device *d, struct placement *p)
{
	struct remote *drawn[PLACEMENT_CHOICES_MAX];
	uint32_t n = d->config.choices, n_new, n_old = 0, n_drawn;
	const uint32_t room = asked_room(p);

	n = n < room ? n : room;
	n_new = draw(d, p, true, n, drawn);
	n_drawn = n_new < n ? n_new : n;
	if (n_drawn < n)
		n_old = draw(d, p, false, n - n_drawn, drawn + n_drawn);
	n_drawn += n_old < n - n_drawn ? n_old : n - n_drawn;
	shuffle(&d->rng, drawn, n_drawn);
	for (uint32_t i = 0; i < n_drawn; i++)
		ask(d, p, drawn[i], n_drawn > 1);
	if (n_drawn > 1) {
		core_timer_arm(&p->query_timer, d->config.query_timeout_ns);
		core_timer_arm(&p->patience_timer, PLACEMENT_PATIENCE_NS);
	}
	return n_drawn > 0;
}

static struct placement_asked *
asked_at(struct placement *p, enum placement_answer answer)
{
	for (uint32_t i = 0; i < p->n_asked; i++)
		if (p->asked[i].answer == answer)
			return &p->asked[i];
	return NULL;
}

static bool
is_better(const struct placement_asked *a, const struct placement_asked *b)
{
	return a->is_new != b->is_new ? a->is_new : a->usage_permille < b->usage_permille;
}

/* The best of those that have answered, or NULL. */
static struct placement_asked *
best_usable(struct placement *p)
{
	struct placement_asked *best = NULL;

	for (uint32_t i = 0; i < p->n_asked; i++) {
		struct placement_asked *a = &p->asked[i];

		if (a->answer != PLACEMENT_USABLE)
			continue;
		if (!remote_may_map(a->remote))
			a->answer = PLACEMENT_OUT; /* somebody else took its last slab */
		else if (!best || is_better(a, best))
			best = a;
	}
	return best;
}

static void
placement_map(struct slab_device *d, struct placement *p, struct placement_asked *a)
{
	p->generation = slab_next_generation(d, p->slab);
	a->answer = PLACEMENT_MAPS;
	if (!remote_map(a->remote, p->slab, p->generation))
		a->answer = PLACEMENT_OUT;
	core_timer_stop(&p->patience_timer);
	core_timer_stop(&p->grace_timer);
}

static void
placement_free(struct slab_device *d, struct placement *p)
{
	list_del(&p->node);
	list_add_tail(&d->placements.idle, &p->node);
}

static void
placement_give_up(struct slab_device *d, struct placement *p)
{
	if (p->was_silent)
		d->runs[p->slab].silent_period = d->activity.period + 1;
	d->stats.placements_failed++;
	placement_free(d, p);
	(void)p->done(d, p->slab, NULL, NULL);
}

/* Until it waits for somebody, or is at its end. */
static void
placement_step(struct slab_device *d, struct placement *p)
{
	p->is_due = false;
	while (!asked_at(p, PLACEMENT_MAPS)) {
		struct placement_asked *best = best_usable(p);
		const bool is_waiting = asked_at(p, PLACEMENT_WAITS) != NULL;

		if (best && is_waiting && !p->is_grace_over) {
			if (!p->grace_timer.is_armed)
				core_timer_arm(&p->grace_timer, PLACEMENT_GRACE_NS);
			return;
		}
		if (d->is_stopping) {
			placement_give_up(d, p);
			return;
		}
		if (best) {
			placement_map(d, p, best);
		} else if (is_waiting) {
			return;
		} else if (!ask_more(d, p)) {
			placement_give_up(d, p);
			return;
		}
	}
}

static void
queries_overdue(struct slab_device *d, struct placement *p)
{
	struct placement_asked *a;

	while ((a = asked_at(p, PLACEMENT_WAITS)) != NULL) {
		a->answer = PLACEMENT_OUT;
		p->was_silent = true;
		d->stats.queries_unanswered++;
	}
}

static void
placement_timers(struct slab_device *d, struct placement *p, uint64_t now_ns, uint64_t *next_ns)
{
	if (core_timer_is_due(&p->grace_timer, now_ns, next_ns)) {
		p->is_grace_over = true;
		set_due(d, p);
	}
	if (core_timer_is_due(&p->patience_timer, now_ns, next_ns) &&
	    asked_at(p, PLACEMENT_WAITS) && !asked_at(p, PLACEMENT_USABLE) &&
	    !asked_at(p, PLACEMENT_MAPS) && ask_more(d, p))
		set_due(d, p);
	if (core_timer_is_due(&p->query_timer, now_ns, next_ns)) {
		queries_overdue(d, p);
		set_due(d, p);
	}
}

uint64_t
placements_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	struct list *next;

	d->placements.is_due = false;
	for (struct list *pos = d->placements.running.next; pos != &d->placements.running;
	     pos = next) {
		struct placement *p = container_of(pos, struct placement, node);

		next = pos->next;
		placement_timers(d, p, now_ns, &next_ns);
		if (!p->is_due && !(d->is_stopping && !asked_at(p, PLACEMENT_MAPS)))
			continue;
		placement_step(d, p);
	}
	/* Timers that the steps have armed. */
	for (struct list *pos = d->placements.running.next; pos != &d->placements.running;
	     pos = pos->next)
		placement_timers(d, container_of(pos, struct placement, node), now_ns, &next_ns);
	return d->placements.is_due ? now_ns : next_ns;
}

bool
placement_start(struct slab_device *d, uint32_t slab, const struct remote *exclude,
		placement_done_fn *done)
{
	struct placements *ps = &d->placements;
	struct placement *p;

	if (ps->is_hopeless || list_is_empty(&ps->idle) ||
	    d->runs[slab].silent_period == d->activity.period + 1)
		return false;
	p = container_of(ps->idle.next, struct placement, node);
	*p = (struct placement){.node = p->node, .tried = p->tried, .slab = slab, .done = done};
	memset(p->tried, 0, ps->n_tried_words * sizeof(*p->tried));
	if (exclude)
		set_tried(p, exclude);
	/* First: a session may end under its QUERY_MEM. */
	list_del(&p->node);
	list_add_tail(&ps->running, &p->node);
	if (!ask_more(d, p)) {
		placement_free(d, p);
		ps->is_hopeless = !exclude;
		return false;
	}
	set_due(d, p);
	d->stats.placements_total++;
	return true;
}

static struct placement *
placement_of(const struct slab_device *d, const struct remote *r, uint32_t slab)
{
	const struct placements *ps = &d->placements;

	for (struct list *pos = ps->running.next; pos != &ps->running; pos = pos->next) {
		struct placement *p = container_of(pos, struct placement, node);
		const struct placement_asked *a = asked_at(p, PLACEMENT_MAPS);

		if (p->slab == slab && a && a->remote == r)
			return p;
	}
	return NULL;
}

bool
placement_answered(struct remote *r, uint32_t request_id, const struct ctl_free_mem *mem)
{
	const struct placements *ps = &r->dev->placements;

	if ((request_id & QUERY_ID) != QUERY_ID)
		return false;
	for (struct list *pos = ps->running.next; pos != &ps->running; pos = pos->next) {
		struct placement *p = container_of(pos, struct placement, node);

		for (uint32_t i = 0; i < p->n_asked; i++) {
			struct placement_asked *a = &p->asked[i];

			if (a->remote != r || a->request_id != request_id ||
			    a->answer != PLACEMENT_WAITS)
				continue;
			a->answer = mem->free_slabs > 0 ? PLACEMENT_USABLE : PLACEMENT_OUT;
			a->usage_permille = mem->usage_permille;
			set_due(r->dev, p);
			return true;
		}
	}
	return true; /* too late */
}

bool
placement_mapped(struct remote *r, const struct ctl_mr_info *info)
{
	struct slab_device *d = r->dev;
	struct placement *p = placement_of(d, r, info->slab);

	if (!p || p->generation != info->generation || !p->done(d, p->slab, r, info))
		return false;
	placement_free(d, p);
	return true;
}

bool
placement_refused(struct remote *r, uint32_t slab)
{
	struct placement *p = placement_of(r->dev, r, slab);

	if (!p)
		return false;
	asked_at(p, PLACEMENT_MAPS)->answer = PLACEMENT_OUT;
	set_due(r->dev, p);
	r->dev->stats.maps_refused++;
	return true;
}

void
placement_lost(struct remote *r)
{
	const struct placements *ps = &r->dev->placements;

	for (struct list *pos = ps->running.next; pos != &ps->running; pos = pos->next) {
		struct placement *p = container_of(pos, struct placement, node);

		for (uint32_t i = 0; i < p->n_asked; i++) {
			if (p->asked[i].remote != r || p->asked[i].answer == PLACEMENT_OUT)
				continue;
			p->asked[i].answer = PLACEMENT_OUT;
			set_due(r->dev, p);
		}
	}
}
