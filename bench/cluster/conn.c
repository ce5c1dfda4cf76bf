/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/guard.h"
#include "wire/bytes.h"
#include "world.h"

/* In the header of a control message (docs/protocol.md). */
#define AT_TYPE 6u

static void
inbox_drop(struct net_conn *c)
{
	struct list *node;

	while ((node = list_pop_head(&c->inbox)) != NULL)
		free(container_of(node, struct net_msg, node));
	c->n_inbox = 0;
	sim_clock_cancel(&c->host->world->clock, &c->inbox_ev);
}

static void
conn_free(struct net_conn *c)
{
	inbox_drop(c);
	memory_grants_drop(c);
	sim_clock_cancel(&c->host->world->clock, &c->step_ev);
	sim_clock_cancel(&c->host->world->clock, &c->gone_ev);
	if (c->peer)
		c->peer->peer = NULL;
	free(c);
}

void
conn_down_if_idle(struct net_conn *c)
{
	if (c->is_ending && list_is_empty(&c->ops) && !sim_event_is_queued(&c->step_ev))
		net_after_way(c->host->world, &c->step_ev);
}

void
conn_end(struct net_conn *c, int reason)
{
	struct world *w = c->host->world;
	struct list *pos;

	if (c->is_ending)
		return;
	c->is_ending = true;
	c->reason = reason;
	c->host->world->net.n_conns_lost += reason < 0;
	sim_clock_cancel(&w->clock, &c->step_ev);
	sim_clock_cancel(&w->clock, &c->gone_ev);
	inbox_drop(c);
	list_foreach (pos, &c->ops)
		net_after_way(w, &container_of(pos, struct net_op, node)->ev);
	/* granted() and revoked() never come now. */
	list_foreach (pos, &c->grants)
		sim_clock_cancel(&w->clock, &container_of(pos, struct net_grant, node)->ev);
	if (c->peer && !c->peer->is_ending && !sim_event_is_queued(&c->peer->gone_ev)) {
		c->peer->gone_reason = c->is_closed ? 0 : -ECONNRESET;
		net_after_way(w, &c->peer->gone_ev);
	}
	conn_down_if_idle(c);
}

static void
gone_cb(struct sim_event *ev)
{
	struct net_conn *c = container_of(ev, struct net_conn, gone_ev);

	conn_end(c, c->gone_reason);
}

static void
down(struct net_conn *c)
{
	struct host *h = c->host;

	memory_grants_drop(c);
	c->is_closed = true;
	guard_enter();
	c->events->down(c->arg, c->reason);
	guard_leave();
	conn_free(c);
	host_touch(h);
}

static struct net_conn *conn_new(struct host *h);

/* The request to connect has arrived. */
static void
incoming(struct net_conn *c)
{
	struct host *there = world_daemon_host(c->host->world, c->target);
	struct net_conn *peer = conn_new(there);

	peer->peer = c;
	c->peer = peer;
	peer->is_new = true;
	guard_enter();
	there->incoming(there->incoming_arg, (struct tp_conn *)(void *)peer);
	guard_leave();
	peer->is_new = false;
	host_touch(there);
	if (peer->is_refused) {
		conn_free(peer);
		conn_end(c, -ECONNREFUSED);
		return;
	}
	net_after_way(c->host->world, &c->step_ev);
}

static void
step_cb(struct sim_event *ev)
{
	struct net_conn *c = container_of(ev, struct net_conn, step_ev);

	if (c->is_ending) {
		down(c);
		return;
	}
	if (!c->peer) {
		incoming(c);
		return;
	}
	c->is_ready = true;
	guard_enter();
	c->events->up(c->arg);
	guard_leave();
	host_touch(c->host);
}

static void
inbox_cb(struct sim_event *ev)
{
	struct net_conn *c = container_of(ev, struct net_conn, inbox_ev);
	struct host *h = c->host;
	struct net_msg *m = container_of(list_pop_head(&c->inbox), struct net_msg, node);
	uint64_t start_ns;

	c->n_inbox--;
	if (!list_is_empty(&c->inbox))
		sim_clock_at(&c->host->world->clock, ev,
			     container_of(c->inbox.next, struct net_msg, node)->at_ns);
	start_ns = cpu_now_ns();
	guard_enter();
	c->events->message(c->arg, m->bytes, m->length_bytes);
	guard_leave();
	h->heard(h, get_le16(m->bytes + AT_TYPE), cpu_now_ns() - start_ns);
	free(m);
	host_touch(h);
}

/* --- connections, transport.h --- */

static struct net_conn *
conn_new(struct host *h)
{
	struct net_conn *c = guard_alloc(sizeof(*c));

	c->base.tp = &h->tp;
	c->host = h;
	c->serial = ++h->world->net.serial;
	list_init(&c->ops);
	list_init(&c->grants);
	list_init(&c->inbox);
	c->inbox_ev.fire = inbox_cb;
	c->step_ev.fire = step_cb;
	c->gone_ev.fire = gone_cb;
	(void)snprintf(c->name, sizeof(c->name), "sim:%u", c->serial);
	return c;
}

int
conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
	     const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct host *h = container_of(tp, struct host, tp);
	struct net_conn *c = conn_new(h);

	(void)timeout_ns; /* everybody is there */
	c->is_client = true;
	c->events = events;
	c->arg = arg;
	c->target = (uint32_t)strtoul(address, NULL, 10);
	net_after_way(h->world, &c->step_ev);
	*ret_conn = (struct tp_conn *)(void *)c;
	return 0;
}

void
conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	struct net_conn *c = conn_of(conn);

	assert(c->is_new && !c->is_refused);
	c->events = events;
	c->arg = arg;
	c->is_ready = true;
}

void
conn_close(struct tp_conn *conn)
{
	struct net_conn *c = conn_of(conn);

	if (c->is_new) {
		c->is_refused = true;
		return;
	}
	if (c->is_closed)
		return;
	c->is_closed = true;
	conn_end(c, 0);
}

const char *
conn_name(const struct tp_conn *conn)
{
	return conn_of(conn)->name;
}

int
conn_send(struct tp_conn *conn, const void *bytes, size_t length_bytes)
{
	struct net_conn *c = conn_of(conn);
	struct net_conn *peer = c->peer;
	struct world *w = c->host->world;
	struct net_msg *m;
	uint64_t at_ns;

	assert(length_bytes > AT_TYPE + 1 && length_bytes <= TP_MESSAGE_BYTES_MAX);
	if (c->is_closed || !c->is_ready)
		return -ENOTCONN;
	if (c->is_ending || !peer || peer->is_ending)
		return 0; /* this end does not know yet */
	if (peer->n_inbox >= TP_SEND_QUEUE_MAX)
		return -EAGAIN;
	c->host->n_sent[get_le16((const uint8_t *)bytes + AT_TYPE) % NET_MESSAGE_TYPES]++;
	at_ns = w->clock.now_ns + rng_between(&w->rng, NET_WAY_MIN_NS, NET_WAY_MAX_NS);
	if (!list_is_empty(&peer->inbox)) {
		const struct net_msg *last = container_of(peer->inbox.prev, struct net_msg, node);

		at_ns = at_ns > last->at_ns ? at_ns : last->at_ns;
	}
	m = guard_alloc(sizeof(*m) + length_bytes);
	m->at_ns = at_ns;
	m->length_bytes = length_bytes;
	memcpy(m->bytes, bytes, length_bytes);
	list_add_tail(&peer->inbox, &m->node);
	if (++peer->n_inbox == 1)
		sim_clock_at(&w->clock, &peer->inbox_ev, at_ns);
	return 0;
}
