/* SPDX-License-Identifier: MIT */
/* Batches from the draw to the last DONE; eviction.h has the steps. */
#include "daemon/eviction.h"

#include <assert.h>

#include "daemon/core.h"
#include "daemon/lending.h"
#include "transport/transport.h"

void
eviction_init(struct eviction *e, uint64_t seed)
{
	e->rng = rng_of(seed, 1);
	for (uint32_t i = 0; i < EVICTION_BATCHES_MAX; i++)
		list_init(&e->batches[i].slabs);
}

static void
set_step(struct eviction_batch *b, struct pool_slab *s, enum eviction_step step)
{
	b->unsent -= s->evict_step == EVICTION_TO_CHECK || s->evict_step == EVICTION_TO_EVICT;
	b->unknown -= s->evict_step == EVICTION_TO_CHECK || s->evict_step == EVICTION_CHECKED;
	b->unsent += step == EVICTION_TO_CHECK || step == EVICTION_TO_EVICT;
	b->unknown += step == EVICTION_TO_CHECK || step == EVICTION_CHECKED;
	s->evict_step = step;
}

/* The request about @s, if there is one, is over: answered, or no longer of interest. */
static void
end_request(struct pool_slab *s)
{
	if (s->evict_request_id == 0)
		return;
	assert(s->client->asks > 0);
	s->client->asks--;
	s->evict_request_id = 0;
}

static void
leave(struct eviction_batch *b, struct pool_slab *s)
{
	end_request(s);
	set_step(b, s, EVICTION_NONE);
	s->evict_batch = NULL;
	list_del(&s->evict_node);
	b->slab_count--;
}

static void
join(struct eviction_batch *b, struct pool_slab *s, enum eviction_step step)
{
	s->evict_batch = b;
	s->milli_activity = 0;
	list_add_tail(&b->slabs, &s->evict_node);
	b->slab_count++;
	set_step(b, s, step);
}

static struct pool_slab *
slab_at(struct list *n)
{
	return container_of(n, struct pool_slab, evict_node);
}

/* Slabs that @b will have taken when it is over. */
static uint32_t
batch_yield(const struct eviction_batch *b)
{
	return b->is_evicting ? b->slab_count : b->wanted;
}

uint32_t
eviction_pending(const struct daemon *d)
{
	uint32_t pending = 0;

	for (uint32_t i = 0; i < EVICTION_BATCHES_MAX; i++)
		pending += batch_yield(&d->eviction.batches[i]);
	return pending;
}

/*
 * Lent slabs that have to go beyond those that batches other than @except will take:
 * what nobody has, and what is on its way back, goes without asking anybody.
 */
static uint32_t
slabs_needed(const struct daemon *d, const struct eviction_batch *except)
{
	uint32_t going =
		pool_count(d->pool, POOL_SLAB_FREE) + pool_count(d->pool, POOL_SLAB_FILLING) +
		pool_count(d->pool, POOL_SLAB_DIRTY) + pool_count(d->pool, POOL_SLAB_ZEROING) +
		pool_count(d->pool, POOL_SLAB_REVOKING) + eviction_pending(d);
	const uint32_t excess = pool_excess(d->pool);

	if (except)
		going -= batch_yield(except);
	return excess > going ? excess - going : 0;
}

/* --- a batch --- */

static struct eviction_batch *
unused_batch(struct eviction *e)
{
	for (uint32_t i = 0; i < EVICTION_BATCHES_MAX; i++)
		if (list_is_empty(&e->batches[i].slabs))
			return &e->batches[i];
	return NULL;
}

static void
draw(struct daemon *d, struct eviction_batch *b, uint32_t count, enum eviction_step step)
{
	const uint32_t drawable = pool_drawable(d->pool);

	for (uint32_t left = drawable; count > 0 && left > 0; count--, left--)
		join(b, pool_draw(d->pool, rng_below(&d->eviction.rng, left)), step);
}

static void
report_batch(struct daemon *d, const struct eviction_batch *b, uint32_t wanted)
{
	d->counters.eviction_batches_total++;
	daemon_report(d, DAEMON_EVENT_EVICTION,
		      "eviction: %u of %u lent slabs have to go, %u are asked about", wanted,
		      pool_count(d->pool, POOL_SLAB_GRANTED), b->slab_count);
}

/* A batch of all that is missing; NULL: nothing is, or nothing can be had. */
static struct eviction_batch *
start_batch(struct daemon *d, uint64_t now_ns)
{
	const uint32_t lent = pool_drawable(d->pool);
	struct eviction_batch *b = unused_batch(&d->eviction);
	uint32_t wanted = slabs_needed(d, NULL);

	if (!b || wanted == 0 || lent == 0)
		return NULL;
	wanted = wanted < lent ? wanted : lent;
	b->is_evicting = wanted == lent;
	b->wanted = wanted;
	b->deadline_ns = now_ns + d->config.evict_deadline_ns;
	b->check_ns = now_ns + d->config.evict_deadline_ns / 2;
	if (d->is_draining)
		b->check_ns = b->deadline_ns = d->drain_ns;
	draw(d, b, b->is_evicting ? wanted : wanted + d->config.extra_choices,
	     b->is_evicting ? EVICTION_TO_EVICT : EVICTION_TO_CHECK);
	report_batch(d, b, wanted);
	return b;
}

static struct pool_slab *
most_active(struct eviction_batch *b)
{
	struct pool_slab *most = NULL;
	struct list *n;

	list_foreach (n, &b->slabs) {
		if (!most || slab_at(n)->milli_activity > most->milli_activity)
			most = slab_at(n);
	}
	return most;
}

/* Spares the most active; all that are left have to go. */
static void
choose(struct daemon *d, struct eviction_batch *b)
{
	uint32_t needed = slabs_needed(d, b);
	struct list *n;

	/* A host that has got its memory back meanwhile needs fewer. */
	needed = needed < b->wanted ? needed : b->wanted;
	while (b->slab_count > needed) {
		struct pool_slab *s = most_active(b);

		leave(b, s);
		pool_undraw(d->pool, s);
	}
	b->is_evicting = b->slab_count > 0;
	list_foreach (n, &b->slabs) {
		end_request(slab_at(n));
		set_step(b, slab_at(n), EVICTION_TO_EVICT);
	}
}

static void
send_request(struct client *c, struct pool_slab *s, uint32_t left_ms)
{
	struct ctl_msg msg = {.request_id = ++c->last_ask_id};

	if (s->evict_step == EVICTION_TO_CHECK) {
		msg.type = CTL_CHECK_ACTIVITY;
		msg.u.unmap.slab = s->slab;
		msg.u.unmap.generation = s->generation;
		set_step(s->evict_batch, s, EVICTION_CHECKED);
	} else {
		msg.type = CTL_EVICT;
		msg.u.evict.slab = s->slab;
		msg.u.evict.generation = s->generation;
		msg.u.evict.deadline_ms = left_ms;
		set_step(s->evict_batch, s, EVICTION_ASKED);
	}
	s->evict_request_id = msg.request_id;
	c->asks++;
	client_send(c, &msg);
}

static void
send_requests(struct eviction_batch *b, uint64_t now_ns)
{
	const uint64_t left_ms = (b->deadline_ns - now_ns) / NSEC_PER_MSEC;
	struct list *n;

	list_foreach (n, &b->slabs) {
		struct pool_slab *s = slab_at(n);

		if (b->unsent == 0)
			return;
		if (s->evict_step != EVICTION_TO_CHECK && s->evict_step != EVICTION_TO_EVICT)
			continue;
		if (s->client->state == CLIENT_SERVING && s->client->asks < EVICTION_ASKS_MAX)
			send_request(s->client, s, left_ms > 0 ? (uint32_t)left_ms : 1);
	}
}

static void
take_by_force(struct daemon *d, struct eviction_batch *b)
{
	while (!list_is_empty(&b->slabs)) {
		struct pool_slab *s = slab_at(b->slabs.next);
		struct client *c = s->client;

		if (c->state == CLIENT_CLOSING) { /* down() brings it */
			leave(b, s);
			continue;
		}
		d->counters.evictions_forced_total++;
		if (!c->is_force_told)
			daemon_report(d, DAEMON_EVENT_MISBEHAVED,
				      "client[%s]: has not given slab %u back in time, its access "
				      "ends; said once",
				      tp_conn_name(c->conn), s->slab);
		c->is_force_told = true;
		lending_evict(c, s);
	}
}

static void
advance_batch(struct daemon *d, struct eviction_batch *b, uint64_t now_ns, uint64_t *next_ns)
{
	uint64_t due_ns;

	if (!b->is_evicting && (b->unknown == 0 || b->wanted == 0 || b->check_ns <= now_ns))
		choose(d, b);
	if (b->is_evicting && b->deadline_ns <= now_ns)
		take_by_force(d, b);
	if (list_is_empty(&b->slabs)) {
		b->is_evicting = false;
		b->wanted = 0;
		return;
	}
	send_requests(b, now_ns);
	due_ns = b->is_evicting ? b->deadline_ns : b->check_ns;
	*next_ns = due_ns < *next_ns ? due_ns : *next_ns;
}

void
eviction_advance(struct daemon *d, uint64_t now_ns, uint64_t *next_ns)
{
	struct eviction_batch *b;

	if (d->stopping)
		return;
	for (uint32_t i = 0; i < EVICTION_BATCHES_MAX; i++)
		if (!list_is_empty(&d->eviction.batches[i].slabs))
			advance_batch(d, &d->eviction.batches[i], now_ns, next_ns);
	b = start_batch(d, now_ns);
	if (b)
		advance_batch(d, b, now_ns, next_ns);
}

void
eviction_forget(struct pool_slab *s)
{
	struct eviction_batch *b = s->evict_batch;

	if (!b)
		return;
	if (!b->is_evicting && b->wanted > 0)
		b->wanted--;
	leave(b, s);
}

/* --- answers --- */

static bool
is_asked(struct client *c, uint32_t request_id)
{
	struct list *n;

	list_foreach (n, &c->slabs) {
		if (container_of(n, struct pool_slab, node)->evict_request_id == request_id)
			return true;
	}
	return false;
}

/* The slab that @msg answers about, in @step; NULL: there is nothing to do. */
static struct pool_slab *
answered(struct client *c, const struct ctl_msg *msg, uint32_t slab, uint32_t generation,
	 enum eviction_step step)
{
	struct pool_slab *s = pool_find(c->daemon->pool, c->index, slab);

	if (s && s->evict_request_id == msg->request_id && s->evict_step == step &&
	    s->generation == generation)
		return s;
	if (msg->request_id > c->last_ask_id)
		client_protocol_error(c, "%s of slab %u that was not asked for",
				      ctl_type_name(msg->type), slab);
	else if (is_asked(c, msg->request_id))
		client_protocol_error(c, "%s of slab %u does not fit its request",
				      ctl_type_name(msg->type), slab);
	return NULL;
}

void
eviction_activity(struct client *c, const struct ctl_msg *msg)
{
	const struct ctl_activity *a = &msg->u.activity;
	struct pool_slab *s = answered(c, msg, a->slab, a->generation, EVICTION_CHECKED);

	if (!s)
		return;
	end_request(s);
	set_step(s->evict_batch, s, EVICTION_KNOWN);
	if (a->milli_pages_per_second <= EVICTION_MILLI_ACTIVITY_MAX) {
		s->milli_activity = a->milli_pages_per_second;
		return;
	}
	if (!c->is_lie_told)
		daemon_report(c->daemon, DAEMON_EVENT_MISBEHAVED,
			      "client[%s]: says slab %u is busier than can be; counts as idle, "
			      "said once",
			      tp_conn_name(c->conn), s->slab);
	c->is_lie_told = true;
}

void
eviction_done(struct client *c, const struct ctl_msg *msg)
{
	struct pool_slab *s =
		answered(c, msg, msg->u.unmap.slab, msg->u.unmap.generation, EVICTION_ASKED);

	if (s)
		lending_evict(c, s);
}
