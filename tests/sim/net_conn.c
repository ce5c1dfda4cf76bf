/* SPDX-License-Identifier: MIT */
#include "sim/net_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/world.h"
#include "wire/ctl.h"

static struct sim *
sim_of(const struct sim_conn *c)
{
	return c->tp->net->sim;
}

static uint64_t
way_ns(const struct sim_conn *from, const struct sim_conn *to)
{
	return sim_now(sim_of(from)) +
	       sim_net_delay(from->tp->net, from->tp->host->index, to->tp->host->index);
}

static void
soon(struct sim_conn *c, struct sim_event *ev)
{
	struct sim *sim = sim_of(c);

	sim_clock_at(&sim->clock, ev, sim_now(sim) + rng_between(&sim->rng, 0, sim->plan.net_ns));
}

static void
inbox_drop(struct sim_conn *c)
{
	struct list *node;

	while ((node = list_pop_head(&c->inbox)) != NULL)
		free(container_of(node, struct sim_msg, node));
	c->n_inbox = 0;
	sim_clock_cancel(&sim_of(c)->clock, &c->inbox_ev);
}

void
sim_conn_free(struct sim_conn *c)
{
	struct sim_clock *clock = &sim_of(c)->clock;

	inbox_drop(c);
	sim_ops_drop(c);
	sim_grants_drop(c);
	sim_late_drop_all(c->tp->net, c);
	sim_clock_cancel(clock, &c->step_ev);
	sim_clock_cancel(clock, &c->timeout_ev);
	sim_clock_cancel(clock, &c->gone_ev);
	sim_clock_cancel(clock, &c->detect_ev);
	if (c->peer)
		c->peer->peer = NULL;
	list_del(&c->node);
	free(c);
}

/* The other end will hear that this one is gone, when the link lets the news through. */
static void
tell_peer(struct sim_conn *c, int reason)
{
	struct sim_conn *peer = c->peer;

	if (!peer || peer->is_ending || sim_event_is_queued(&peer->gone_ev))
		return;
	peer->gone_reason = reason;
	sim_clock_at(&sim_of(c)->clock, &peer->gone_ev, way_ns(c, peer));
}

void
sim_conn_down_if_idle(struct sim_conn *c)
{
	struct list *pos;

	if (!c->is_ending || !list_is_empty(&c->ops) || !list_is_empty(&c->inbox) ||
	    sim_event_is_queued(&c->step_ev))
		return;
	list_foreach (pos, &c->grants) {
		if (container_of(pos, struct sim_grant, node)->is_waiting)
			return;
	}
	c->is_step_stalled = false;
	soon(c, &c->step_ev);
}

void
sim_conn_end(struct sim_conn *c, int reason)
{
	struct sim *sim = sim_of(c);

	if (c->is_ending)
		return;
	c->is_ending = true;
	c->reason = reason;
	sim_clock_cancel(&sim->clock, &c->step_ev);
	sim_clock_cancel(&sim->clock, &c->timeout_ev);
	sim_clock_cancel(&sim->clock, &c->gone_ev);
	sim_clock_cancel(&sim->clock, &c->detect_ev);
	if (c->is_closed || !c->is_ready || rng_percent(&sim->rng, 50))
		inbox_drop(c);
	else if (c->n_inbox > 0)
		soon(c, &c->inbox_ev);
	sim_ops_end(c);
	sim_grants_end(c);
	tell_peer(c, c->is_closed ? 0 : -ECONNRESET);
	sim_conn_down_if_idle(c);
}

void
sim_conn_vanish(struct sim_conn *c, bool is_told)
{
	struct sim_conn *peer = c->peer;

	if (!peer)
		return;
	if (is_told) {
		tell_peer(c, -ECONNRESET);
	} else {
		struct sim *sim = sim_of(c);

		peer->is_peer_silent = true;
		if (!sim_event_is_queued(&peer->detect_ev) && !peer->is_ending)
			sim_clock_at(&sim->clock, &peer->detect_ev,
				     sim_now(sim) + rng_between(&sim->rng, NSEC_PER_SEC,
								8 * NSEC_PER_SEC));
	}
	peer->peer = NULL;
	c->peer = NULL;
}

/* --- events --- */

static void
down(struct sim_conn *c)
{
	struct sim_host *h = c->tp->host;

	SIM_TRACE(sim_of(c), "host %u: connection %u down: %d", NULL, h->index,
		  strtoul(c->name + 4, NULL, 10), c->reason);
	sim_grants_drop(c);
	oracle_down(sim_of(c), c);
	c->is_closed = true;
	guard_enter();
	c->events->down(c->arg, c->reason);
	guard_leave();
	sim_conn_free(c);
	sim_host_touch(h);
}

static struct sim_conn *conn_new(struct sim_tp *t);

static void
refuse(struct sim_conn *c)
{
	sim_conn_end(c, -ECONNREFUSED);
}

static void
incoming(struct sim_conn *c, struct sim_tp *target)
{
	struct sim_conn *peer = conn_new(target);

	peer->peer = c;
	c->peer = peer;
	c->is_linked = true;
	peer->is_new = true;
	peer->target = c->tp->host->index;
	guard_enter();
	target->incoming(target->incoming_arg, (struct tp_conn *)(void *)peer);
	guard_leave();
	peer->is_new = false;
	sim_host_touch(target->host);
	if (peer->is_ready == peer->is_refused)
		sim_fail(CONTRACT, "incoming() neither accepted nor closed");
	if (peer->is_refused) {
		sim_conn_free(peer);
		refuse(c);
		return;
	}
	sim_clock_at(&sim_of(c)->clock, &c->step_ev, way_ns(peer, c));
}

/* The request to connect has arrived at the daemon's host. */
static void
syn(struct sim_conn *c)
{
	struct sim_net *net = c->tp->net;
	struct sim *sim = net->sim;
	struct sim_host *h = sim_host_at(sim, c->target);
	struct sim_tp *t = h->tp ? container_of(h->tp, struct sim_tp, tp) : NULL;

	if (net->links[c->tp->host->index][c->target].n_blocks > 0 || h->is_off)
		return; /* lost; the timeout ends it */
	if (net->refuse_connects_ns[c->target] > sim_now(sim)) {
		sim->counts[FAULT_CONNECT_REFUSED]++;
		refuse(c);
		return;
	}
	if (!h->is_up || !t || !t->is_listening) {
		refuse(c);
		return;
	}
	if (!sim_host_is_late(h, &c->step_ev))
		incoming(c, t);
}

static void
step_cb(struct sim_event *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, step_ev);

	if (c->is_ending) {
		if (!sim_host_is_late(c->tp->host, ev))
			down(c);
		return;
	}
	if (!c->is_linked) {
		syn(c);
		return;
	}
	if (sim_conn_hears_nothing(c)) {
		c->is_step_stalled = true;
		return;
	}
	if (sim_host_is_late(c->tp->host, ev))
		return;
	c->is_ready = true;
	sim_clock_cancel(&sim_of(c)->clock, &c->timeout_ev);
	guard_enter();
	c->events->up(c->arg);
	guard_leave();
	sim_host_touch(c->tp->host);
}

static void
timeout_cb(struct sim_event *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, timeout_ev);

	sim_conn_end(c, -ETIMEDOUT);
}

static void
gone_cb(struct sim_event *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, gone_ev);

	if (sim_conn_hears_nothing(c)) {
		c->is_gone_stalled = true;
		return;
	}
	if (!c->is_ready && c->is_client && c->gone_reason == 0)
		c->gone_reason = -ECONNRESET;
	sim_conn_end(c, c->gone_reason);
}

/* Keepalive, or a retransmission that was never acknowledged. */
static void
detect_cb(struct sim_event *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, detect_ev);
	const bool has_traffic =
		!list_is_empty(&c->ops) || c->is_unheard || (c->peer && c->peer->n_inbox > 0);
	const uint32_t daemon = c->is_client ? c->target : c->tp->host->index;
	const bool is_rdma = sim_of(c)->plan.is_rdma[daemon - SIM_DEVICES_MAX];
	const bool is_cut =
		c->is_peer_silent || sim_conn_hears_nothing(c) || sim_conn_is_unheard(c);

	if (is_cut && (has_traffic || !is_rdma))
		sim_conn_end(c, -ETIMEDOUT);
}

static void
inbox_next(struct sim_conn *c)
{
	if (list_is_empty(&c->inbox))
		sim_conn_down_if_idle(c);
	else if (c->is_ending)
		soon(c, &c->inbox_ev); /* nothing more can be late */
	else
		sim_clock_at(&sim_of(c)->clock, &c->inbox_ev,
			     container_of(c->inbox.next, struct sim_msg, node)->at_ns);
}

static void
inbox_cb(struct sim_event *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, inbox_ev);
	struct sim *sim = sim_of(c);
	struct sim_host *h = c->tp->host;
	struct sim_msg *m;

	if (!c->is_ending && sim_conn_hears_nothing(c)) {
		c->is_inbox_stalled = true;
		return;
	}
	if (sim_host_is_late(h, ev))
		return;
	if (!c->is_ready) {
		sim_clock_at(&sim->clock, ev, sim_now(sim) + sim->plan.net_ns);
		return;
	}
	m = container_of(list_pop_head(&c->inbox), struct sim_msg, node);
	c->n_inbox--;
	oracle_message_in(sim, c, m->bytes, m->length_bytes);
	guard_enter();
	c->events->message(c->arg, m->bytes, m->length_bytes);
	guard_leave();
	free(m);
	sim_host_touch(h);
	inbox_next(c);
}

void
sim_conn_unstall(struct sim_conn *c)
{
	if (c->is_inbox_stalled && !list_is_empty(&c->inbox)) {
		soon(c, &c->inbox_ev);
	}
	if (c->is_gone_stalled && !c->is_ending)
		soon(c, &c->gone_ev);
	if (c->is_step_stalled && !c->is_ending)
		soon(c, &c->step_ev);
	c->is_inbox_stalled = false;
	c->is_gone_stalled = false;
	c->is_step_stalled = false;
}

/* --- transport.h --- */

static struct sim_conn *
conn_new(struct sim_tp *t)
{
	struct sim_conn *c = guard_alloc(sizeof(*c));

	c->base.tp = &t->tp;
	c->tp = t;
	list_init(&c->ops);
	list_init(&c->grants);
	list_init(&c->inbox);
	c->inbox_ev.fire = inbox_cb;
	c->step_ev.fire = step_cb;
	c->timeout_ev.fire = timeout_cb;
	c->gone_ev.fire = gone_cb;
	c->detect_ev.fire = detect_cb;
	(void)snprintf(c->name, sizeof(c->name), "sim:%u", ++t->net->serial);
	list_add_tail(&t->net->conns, &c->node);
	return c;
}

int
sim_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
	    const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct sim_tp *t = container_of(tp, struct sim_tp, tp);
	struct sim *sim = t->net->sim;
	struct sim_conn *c = conn_new(t);

	assert(timeout_ns > 0 && events && events->up && events->message && events->down);
	c->is_client = true;
	c->events = events;
	c->arg = arg;
	c->target = (uint32_t)strtoul(address, NULL, 10);
	SIM_TRACE(sim, "host %u: connects to host %u", NULL, t->host->index, c->target);
	oracle_connect(sim, t->host, c->target);
	sim_clock_at(&sim->clock, &c->step_ev,
		     sim_now(sim) + sim_net_delay(t->net, t->host->index, c->target));
	sim_clock_at(&sim->clock, &c->timeout_ev, sim_now(sim) + timeout_ns);
	*ret_conn = (struct tp_conn *)(void *)c;
	return 0;
}

void
sim_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	struct sim_conn *c = sim_conn_of(conn);

	assert(c->is_new && !c->is_refused && !c->is_ready);
	c->events = events;
	c->arg = arg;
	c->is_ready = true;
}

void
sim_close(struct tp_conn *conn)
{
	struct sim_conn *c = sim_conn_of(conn);

	if (c->is_new) {
		assert(!c->is_ready);
		c->is_refused = true;
		return;
	}
	if (c->is_closed)
		return;
	c->is_closed = true;
	SIM_TRACE(sim_of(c), "host %u: closes connection %u", NULL, c->tp->host->index,
		  strtoul(c->name + 4, NULL, 10));
	if (!c->is_ending)
		oracle_close(sim_of(c), c);
	inbox_drop(c);
	sim_conn_end(c, 0);
	sim_conn_down_if_idle(c);
}

const char *
sim_conn_name(const struct tp_conn *conn)
{
	return sim_conn_of(conn)->name;
}

/* What a device says of its slabs, and with it what stands behind, may be held back. */
static uint64_t
arrival_ns(const struct sim_conn *c, const void *bytes, size_t length_bytes)
{
	struct sim_net *net = c->tp->net;
	const uint64_t held_ns = net->hold_done_ns[c->tp->host->index];
	const uint64_t at_ns = way_ns(c, c->peer);
	struct ctl_msg msg;

	if (held_ns <= at_ns || ctl_decode(bytes, length_bytes, &msg) < 0 ||
	    (msg.type != CTL_DONE && msg.type != CTL_ACTIVITY && msg.type != CTL_UNMAP))
		return at_ns;
	net->sim->counts[FAULT_DONE_HELD]++;
	return held_ns;
}

int
sim_send(struct tp_conn *conn, const void *bytes, size_t length_bytes)
{
	struct sim_conn *c = sim_conn_of(conn);
	struct sim_conn *peer = c->peer;
	struct sim_msg *m;
	uint64_t at_ns;

	if (length_bytes == 0 || length_bytes > TP_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (c->is_closed || !c->is_ready)
		return -ENOTCONN;
	if (c->is_ending || !peer || peer->is_ending) {
		c->is_unheard = true;
		return 0; /* the link is gone, this end does not know yet */
	}
	oracle_message_out(sim_of(c), c, bytes, length_bytes);
	if (peer->n_inbox >= TP_SEND_QUEUE_MAX)
		return -EAGAIN;
	at_ns = arrival_ns(c, bytes, length_bytes);
	if (!list_is_empty(&peer->inbox)) {
		const struct sim_msg *last = container_of(peer->inbox.prev, struct sim_msg, node);

		at_ns = at_ns > last->at_ns ? at_ns : last->at_ns;
	}
	m = guard_alloc(sizeof(*m) + length_bytes);
	m->at_ns = at_ns;
	m->length_bytes = length_bytes;
	memcpy(m->bytes, bytes, length_bytes);
	list_add_tail(&peer->inbox, &m->node);
	peer->n_inbox++;
	if (peer->n_inbox == 1)
		sim_clock_at(&sim_of(c)->clock, &peer->inbox_ev, at_ns);
	return 0;
}
