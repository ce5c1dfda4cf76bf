/* SPDX-License-Identifier: MIT */
/* States of slabs, their lists by state, and the index by (client, slab). */
#include "daemon/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/page.h"

/* The host had no memory: it is asked again, but not in a tight loop. */
#define FILL_RETRY_NS (10 * NSEC_PER_SEC)
#define DRAW_INDEX_NONE UINT32_MAX

struct pool {
	struct slab_memory *memory;
	struct pool_events events;
	struct list empty;
	struct list free;
	struct list dirty;
	struct list lost;
	uint32_t counts[POOL_SLAB_STATES];
	uint32_t target;   /* slabs that may hold memory */
	uint32_t requests; /* outstanding */
	bool started;	   /* pool_advance() has run */
	bool stopping;
	bool ready_told;
	bool fill_waits;	     /* a FILL failed; not before fill_at_ns */
	uint64_t fill_at_ns;	     /* 0: not fixed yet */
	struct pool_slab **drawable; /* @drawable_count of them, see pool_slab.draw_index */
	uint32_t drawable_count;
	struct pool_slab **index; /* chains by hash of (client, slab) */
	uint32_t index_mask;
	uint32_t slots;
	struct pool_slab slabs[];
};

static void
add_drawable(struct pool *p, struct pool_slab *s)
{
	s->draw_index = p->drawable_count++;
	p->drawable[s->draw_index] = s;
}

static void
remove_drawable(struct pool *p, struct pool_slab *s)
{
	struct pool_slab *last = p->drawable[--p->drawable_count];

	p->drawable[s->draw_index] = last;
	last->draw_index = s->draw_index;
	s->draw_index = DRAW_INDEX_NONE;
}

/* The only place that changes a state. */
static void
set_state(struct pool *p, struct pool_slab *s, enum pool_slab_state state)
{
	assert(p->counts[s->state] > 0);
	p->counts[s->state]--;
	p->counts[state]++;
	if (s->draw_index != DRAW_INDEX_NONE)
		remove_drawable(p, s);
	s->state = state;
	if (state == POOL_SLAB_GRANTED)
		add_drawable(p, s);
}

static void
set_state_on(struct pool *p, struct pool_slab *s, enum pool_slab_state state, struct list *list)
{
	set_state(p, s, state);
	list_del(&s->node);
	list_add_tail(list, &s->node);
}

static void
start(struct pool *p, struct pool_slab *s, enum pool_slab_state state,
      enum slab_memory_request request)
{
	set_state(p, s, state);
	list_del(&s->node);
	p->requests++;
	p->memory->ops->start(p->memory, request, s->slot);
}

static struct pool_slab *
first(const struct list *l)
{
	return list_is_empty(l) ? NULL : container_of(l->next, struct pool_slab, node);
}

/* Starts one request if one can start. */
static bool
start_one(struct pool *p)
{
	struct pool_slab *dirty = first(&p->dirty);
	struct pool_slab *unused = first(&p->free);
	struct pool_slab *empty = first(&p->empty);

	if (p->requests >= POOL_REQUESTS_MAX)
		return false;
	if (pool_excess(p) > 0 && (dirty || unused))
		start(p, dirty ? dirty : unused, POOL_SLAB_DROPPING, SLAB_MEMORY_DROP);
	else if (dirty)
		start(p, dirty, POOL_SLAB_ZEROING, SLAB_MEMORY_ZERO);
	else if (empty && pool_held(p) < p->target && !p->fill_waits)
		start(p, empty, POOL_SLAB_FILLING, SLAB_MEMORY_FILL);
	else
		return false;
	return true;
}

static void
start_requests(struct pool *p)
{
	while (p->started && start_one(p))
		continue;
}

static void
tell_ready(struct pool *p)
{
	if (p->ready_told || p->stopping || p->counts[POOL_SLAB_FILLING] > 0 ||
	    (p->counts[POOL_SLAB_EMPTY] > 0 && pool_held(p) < p->target))
		return;
	p->ready_told = true;
	p->events.ready(p->events.arg);
}

static void
fill_done(struct pool *p, struct pool_slab *s, int status)
{
	assert(s->state == POOL_SLAB_FILLING || s->state == POOL_SLAB_ZEROING);
	if (status == 0) {
		set_state_on(p, s, POOL_SLAB_FREE, &p->free);
		tell_ready(p);
		return;
	}
	set_state_on(p, s, POOL_SLAB_EMPTY, &p->empty);
	/* Of the requests that were under way together only the first is news. */
	if (p->fill_waits)
		return;
	p->fill_waits = true;
	p->fill_at_ns = 0;
	p->events.failed(p->events.arg, SLAB_MEMORY_FILL, s->slot, status);
}

static void
memory_done_cb(void *arg, enum slab_memory_request request, uint32_t slot, int status)
{
	struct pool *p = arg;
	struct pool_slab *s;

	assert(slot < p->slots && p->requests > 0);
	s = &p->slabs[slot];
	p->requests--;
	if (request == SLAB_MEMORY_FILL || (request == SLAB_MEMORY_ZERO && status == -ENOMEM)) {
		fill_done(p, s, status);
	} else if (status < 0) {
		set_state_on(p, s, POOL_SLAB_LOST, &p->lost);
		p->events.failed(p->events.arg, request, slot, status);
	} else if (request == SLAB_MEMORY_ZERO) {
		assert(s->state == POOL_SLAB_ZEROING);
		set_state_on(p, s, POOL_SLAB_FREE, &p->free);
	} else {
		assert(s->state == POOL_SLAB_DROPPING);
		set_state_on(p, s, POOL_SLAB_EMPTY, &p->empty);
	}
	start_requests(p);
	p->events.touched(p->events.arg);
}

int
pool_new(uint32_t slots, struct slab_memory *memory, const struct pool_events *events,
	 struct pool **ret_pool)
{
	struct pool *p;
	uint32_t chains = 1;

	assert(slots > 0 && memory && events && ret_pool);
	p = calloc(1, sizeof(*p) + (size_t)slots * sizeof(p->slabs[0]));
	if (!p)
		return -ENOMEM;
	while (chains < slots)
		chains *= 2;
	p->index = calloc(chains, sizeof(struct pool_slab *));
	p->drawable = calloc(slots, sizeof(struct pool_slab *));
	if (!p->index || !p->drawable) {
		free(p->drawable);
		free(p->index);
		free(p);
		return -ENOMEM;
	}
	p->index_mask = chains - 1;
	p->memory = memory;
	p->events = *events;
	p->slots = slots;
	p->target = slots;
	list_init(&p->empty);
	list_init(&p->free);
	list_init(&p->dirty);
	list_init(&p->lost);
	for (uint32_t i = 0; i < slots; i++) {
		p->slabs[i].slot = i;
		p->slabs[i].state = POOL_SLAB_EMPTY;
		p->slabs[i].draw_index = DRAW_INDEX_NONE;
		list_add_tail(&p->empty, &p->slabs[i].node);
	}
	p->counts[POOL_SLAB_EMPTY] = slots;
	memory->ops->set_done(memory, memory_done_cb, p);
	*ret_pool = p;
	return 0;
}

struct pool *
pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	assert(p->requests == 0);
	free(p->drawable);
	free(p->index);
	free(p);
	return NULL;
}

void
pool_advance(struct pool *p, uint64_t now_ns, uint64_t *next_ns)
{
	p->started = true;
	if (p->fill_waits) {
		if (p->fill_at_ns == 0)
			p->fill_at_ns = now_ns + FILL_RETRY_NS;
		if (p->fill_at_ns <= now_ns)
			p->fill_waits = false;
		else if (p->fill_at_ns < *next_ns)
			*next_ns = p->fill_at_ns;
	}
	start_requests(p);
}

void
pool_set_target(struct pool *p, uint32_t target)
{
	if (p->stopping)
		return;
	p->target = target;
	if (p->started)
		start_requests(p);
}

uint32_t
pool_target(const struct pool *p)
{
	return p->target;
}

uint32_t
pool_held(const struct pool *p)
{
	return p->slots - p->counts[POOL_SLAB_EMPTY] - p->counts[POOL_SLAB_LOST];
}

uint32_t
pool_excess(const struct pool *p)
{
	const uint32_t held = pool_held(p) - p->counts[POOL_SLAB_DROPPING];

	return held > p->target ? held - p->target : 0;
}

uint32_t
pool_ready(const struct pool *p)
{
	const uint32_t excess = pool_excess(p);

	return p->counts[POOL_SLAB_FREE] > excess ? p->counts[POOL_SLAB_FREE] - excess : 0;
}

uint32_t
pool_drawable(const struct pool *p)
{
	return p->drawable_count;
}

struct pool_slab *
pool_draw(struct pool *p, uint32_t nth)
{
	struct pool_slab *s;

	assert(nth < p->drawable_count);
	s = p->drawable[nth];
	remove_drawable(p, s);
	return s;
}

void
pool_undraw(struct pool *p, struct pool_slab *s)
{
	assert(s->state == POOL_SLAB_GRANTED && s->draw_index == DRAW_INDEX_NONE);
	add_drawable(p, s);
}

static struct pool_slab **
chain_of(const struct pool *p, uint32_t client_index, uint32_t slab)
{
	uint32_t hash = (slab * UINT32_C(0x9e3779b1)) ^ (client_index * UINT32_C(0x85ebca77));

	return &p->index[(hash ^ (hash >> 15)) & p->index_mask];
}

struct pool_slab *
pool_find(const struct pool *p, uint32_t client_index, uint32_t slab)
{
	struct pool_slab *s = *chain_of(p, client_index, slab);

	while (s && (s->client_index != client_index || s->slab != slab))
		s = s->hash_next;
	return s;
}

struct pool_slab *
pool_take(struct pool *p, struct client *client, uint32_t client_index, uint32_t slab,
	  uint32_t generation)
{
	struct pool_slab *s = pool_ready(p) > 0 ? first(&p->free) : NULL;
	struct pool_slab **chain = chain_of(p, client_index, slab);

	assert(!pool_find(p, client_index, slab));
	if (!s)
		return NULL;
	set_state(p, s, POOL_SLAB_GRANTING);
	list_del(&s->node);
	s->client = client;
	s->client_index = client_index;
	s->slab = slab;
	s->generation = generation;
	s->hash_next = *chain;
	*chain = s;
	return s;
}

/* Ends the mapping; the client's words for it mean nothing any more. */
static void
forget_client(struct pool *p, struct pool_slab *s)
{
	struct pool_slab **link = chain_of(p, s->client_index, s->slab);

	while (*link != s)
		link = &(*link)->hash_next;
	*link = s->hash_next;
	s->hash_next = NULL;
	s->client = NULL;
	s->grant = NULL;
	s->map_request_id = 0;
	s->unmap_request_id = 0;
}

void
pool_untake(struct pool *p, struct pool_slab *s)
{
	assert(s->state == POOL_SLAB_GRANTING);
	forget_client(p, s);
	set_state_on(p, s, POOL_SLAB_FREE, &p->free);
	start_requests(p);
}

void
pool_granted(struct pool *p, struct pool_slab *s)
{
	assert(s->state == POOL_SLAB_GRANTING);
	set_state(p, s, POOL_SLAB_GRANTED);
}

void
pool_revoking(struct pool *p, struct pool_slab *s)
{
	assert(s->state == POOL_SLAB_GRANTED);
	set_state(p, s, POOL_SLAB_REVOKING);
}

void
pool_reclaim(struct pool *p, struct pool_slab *s)
{
	assert(s->state == POOL_SLAB_GRANTING || s->state == POOL_SLAB_GRANTED ||
	       s->state == POOL_SLAB_REVOKING);
	forget_client(p, s);
	set_state_on(p, s, POOL_SLAB_DIRTY, &p->dirty);
	start_requests(p);
}

void
pool_stop(struct pool *p)
{
	p->started = true;
	p->stopping = true;
	p->target = 0;
	start_requests(p);
}

bool
pool_is_stopped(const struct pool *p)
{
	return p->stopping && p->counts[POOL_SLAB_EMPTY] + p->counts[POOL_SLAB_LOST] == p->slots;
}

uint32_t
pool_count(const struct pool *p, enum pool_slab_state state)
{
	return p->counts[state];
}

struct tp_region *
pool_region(const struct pool *p, const struct pool_slab *s, struct tp *tp)
{
	return p->memory->ops->region(p->memory, s->slot, tp);
}
