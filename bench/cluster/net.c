/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/page.h"
#include "sim/guard.h"
#include "wire/bytes.h"
#include "world.h"

/* One way of a message, and what a page operation takes beside its bytes: a fast RDMA network. */
#define WAY_MIN_NS 2000u
#define WAY_MAX_NS 6000u
#define BYTES_PER_US 5000u
/* From an event to the turn of the loop that it wakes. */
#define LAG_MAX_NS 5000u
/* Binding a memory window. */
#define GRANT_MAX_NS 10000u
/* In the header of a control message (docs/protocol.md). */
#define AT_TYPE 6u

struct net_region {
	struct tp_base base;  /* first */
	const uint8_t *bytes; /* or NET_BYTES_NONE */
	size_t length_bytes;
	enum tp_lend lend;
	uint32_t n_grants;
};

struct net_grant {
	struct tp_base base; /* first */
	struct list node;
	struct sim_event ev;
	struct net_conn *conn;
	struct net_region *region;
	struct tp_remote remote;
	tp_grant_fn *fn;
	void *arg;
	bool is_exposed;
	bool is_revoking;
};

struct net_msg {
	struct list node;
	uint64_t at_ns;
	size_t length_bytes;
	uint8_t bytes[];
};

struct net_op {
	struct sim_event ev;
	struct list node;
	struct net_conn *conn;
	struct tp_op *op;
};

struct net_conn {
	struct tp_base base; /* first */
	struct host *host;
	struct net_conn *peer;
	const struct tp_conn_events *events;
	void *arg;
	uint32_t target; /* client: the daemon's machine */
	uint32_t serial;
	struct list ops;
	struct list grants;
	struct list inbox;
	uint32_t n_inbox;
	struct sim_event inbox_ev;
	struct sim_event step_ev; /* connecting: the way there, then up(); ending: down() */
	struct sim_event gone_ev; /* the news that the other end is gone */
	int gone_reason;
	int reason;
	char name[24];
	bool is_client;
	bool is_new;	 /* inside incoming() */
	bool is_refused; /* closed inside incoming() */
	bool is_ready;
	bool is_closed;
	bool is_ending;
};

static struct sim_clock *
clock_of(const struct net_conn *c)
{
	return &c->host->world->clock;
}

static struct net *
net_of(const struct net_conn *c)
{
	return &c->host->world->net;
}

static struct net_conn *
conn_of(const struct tp_conn *conn)
{
	return (struct net_conn *)(uintptr_t)conn;
}

static void
after(struct world *w, struct sim_event *ev, uint64_t least_ns, uint64_t most_ns)
{
	sim_clock_at(&w->clock, ev, w->clock.now_ns + rng_between(&w->rng, least_ns, most_ns));
}

static void
after_way(struct world *w, struct sim_event *ev)
{
	after(w, ev, WAY_MIN_NS, WAY_MAX_NS);
}

uint64_t
cpu_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* --- hosts --- */

static void
wake_at(struct host *h, uint64_t at_ns)
{
	if (!sim_event_is_queued(&h->wake_ev) || h->wake_ev.at_ns > at_ns)
		sim_clock_at(&h->world->clock, &h->wake_ev, at_ns);
}

void
host_touch(struct host *h)
{
	struct world *w = h->world;

	wake_at(h, w->clock.now_ns + rng_between(&w->rng, 0, LAG_MAX_NS));
}

static void
wake_cb(struct sim_event *ev)
{
	struct host *h = container_of(ev, struct host, wake_ev);
	const uint64_t next_ns = h->turn(h);
	const uint64_t now_ns = h->world->clock.now_ns;

	if (next_ns != UINT64_MAX)
		wake_at(h, next_ns > now_ns ? next_ns : now_ns + 1);
}

/* --- ends --- */

static void
inbox_drop(struct net_conn *c)
{
	struct list *node;

	while ((node = list_pop_head(&c->inbox)) != NULL)
		free(container_of(node, struct net_msg, node));
	c->n_inbox = 0;
	sim_clock_cancel(clock_of(c), &c->inbox_ev);
}

static void
grant_free(struct net_grant *g)
{
	assert(g->region->n_grants > 0);
	g->region->n_grants--;
	sim_clock_cancel(clock_of(g->conn), &g->ev);
	list_del(&g->node);
	free(g);
}

static void
grants_drop(struct net_conn *c)
{
	while (!list_is_empty(&c->grants))
		grant_free(container_of(c->grants.next, struct net_grant, node));
}

static void
conn_free(struct net_conn *c)
{
	inbox_drop(c);
	grants_drop(c);
	sim_clock_cancel(clock_of(c), &c->step_ev);
	sim_clock_cancel(clock_of(c), &c->gone_ev);
	if (c->peer)
		c->peer->peer = NULL;
	free(c);
}

static void
down_if_idle(struct net_conn *c)
{
	if (c->is_ending && list_is_empty(&c->ops) && !sim_event_is_queued(&c->step_ev))
		after_way(c->host->world, &c->step_ev);
}

static void
conn_end(struct net_conn *c, int reason)
{
	struct world *w = c->host->world;
	struct list *pos;

	if (c->is_ending)
		return;
	c->is_ending = true;
	c->reason = reason;
	net_of(c)->n_conns_lost += reason < 0;
	sim_clock_cancel(&w->clock, &c->step_ev);
	sim_clock_cancel(&w->clock, &c->gone_ev);
	inbox_drop(c);
	list_foreach (pos, &c->ops)
		after_way(w, &container_of(pos, struct net_op, node)->ev);
	/* granted() and revoked() never come now. */
	list_foreach (pos, &c->grants)
		sim_clock_cancel(&w->clock, &container_of(pos, struct net_grant, node)->ev);
	if (c->peer && !c->peer->is_ending && !sim_event_is_queued(&c->peer->gone_ev)) {
		c->peer->gone_reason = c->is_closed ? 0 : -ECONNRESET;
		after_way(w, &c->peer->gone_ev);
	}
	down_if_idle(c);
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

	grants_drop(c);
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
	after_way(c->host->world, &c->step_ev);
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
		sim_clock_at(clock_of(c), ev,
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

static int
net_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
	    const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct host *h = container_of(tp, struct host, tp);
	struct net_conn *c = conn_new(h);

	(void)timeout_ns; /* everybody is there */
	c->is_client = true;
	c->events = events;
	c->arg = arg;
	c->target = (uint32_t)strtoul(address, NULL, 10);
	after_way(h->world, &c->step_ev);
	*ret_conn = (struct tp_conn *)(void *)c;
	return 0;
}

static int
net_listen(struct tp *tp, const char *address, tp_incoming_fn *incoming_cb, void *arg,
	   struct tp_listener **ret_listener)
{
	struct host *h = container_of(tp, struct host, tp);

	(void)address;
	h->incoming = incoming_cb;
	h->incoming_arg = arg;
	h->listener.tp = tp;
	*ret_listener = (struct tp_listener *)(void *)&h->listener;
	return 0;
}

static void
net_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	struct net_conn *c = conn_of(conn);

	assert(c->is_new && !c->is_refused);
	c->events = events;
	c->arg = arg;
	c->is_ready = true;
}

static void
net_close(struct tp_conn *conn)
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

static const char *
net_conn_name(const struct tp_conn *conn)
{
	return conn_of(conn)->name;
}

static int
net_send(struct tp_conn *conn, const void *bytes, size_t length_bytes)
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
	at_ns = w->clock.now_ns + rng_between(&w->rng, WAY_MIN_NS, WAY_MAX_NS);
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

/* --- operations --- */

static const struct net_grant *
grant_at(const struct net_conn *end, const struct tp_op *op)
{
	struct list *pos;

	list_foreach (pos, &end->grants) {
		const struct net_grant *g = container_of(pos, struct net_grant, node);

		if (g->is_exposed && g->remote.rkey == op->rkey &&
		    op->remote_addr >= g->remote.addr &&
		    op->remote_addr - g->remote.addr + op->length_bytes <= g->remote.length_bytes)
			return g;
	}
	return NULL;
}

static int
carry_out(const struct net_conn *c, const struct tp_op *op)
{
	const struct net_grant *g = c->peer ? grant_at(c->peer, op) : NULL;

	if (!g)
		return -EACCES;
	if (op->kind == TP_OP_READ && g->region->bytes != NET_BYTES_NONE)
		memcpy(op->buf, g->region->bytes + (op->remote_addr - g->remote.addr),
		       op->length_bytes);
	return 0;
}

static void
op_cb(struct sim_event *ev)
{
	struct net_op *o = container_of(ev, struct net_op, ev);
	struct net_conn *c = o->conn;
	struct host *h = c->host;
	struct tp_op *op = o->op;
	const int status = c->is_ending ? -ECANCELED : carry_out(c, op);

	list_del(&o->node);
	list_add_head(&net_of(c)->free_ops, &o->node);
	if (status == -EACCES) {
		net_of(c)->n_failed_ops++;
		conn_end(c, status);
	}
	guard_enter();
	op->done(op, status);
	guard_leave();
	down_if_idle(c);
	host_touch(h);
}

static void
net_post(struct tp_conn *conn, struct tp_op *op)
{
	struct net_conn *c = conn_of(conn);
	struct net *n = net_of(c);
	struct world *w = c->host->world;
	const uint64_t bytes_ns = op->length_bytes * UINT64_C(1000) / BYTES_PER_US;
	struct net_op *o;

	assert(c->is_ready && c->is_client && op->done);
	if (list_is_empty(&n->free_ops)) {
		o = guard_alloc(sizeof(*o));
		o->ev.fire = op_cb;
	} else {
		o = container_of(list_pop_head(&n->free_ops), struct net_op, node);
	}
	n->n_ops++;
	o->conn = c;
	o->op = op;
	list_add_tail(&c->ops, &o->node);
	if (c->is_ending)
		sim_clock_cancel(&w->clock, &c->step_ev); /* down() waits for it */
	after(w, &o->ev, 2 * WAY_MIN_NS + bytes_ns, 2 * WAY_MAX_NS + bytes_ns);
}

/* --- regions and grants --- */

static int
net_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		    struct tp_region **ret_region)
{
	struct net_region *rg = guard_alloc(sizeof(*rg));

	rg->base.tp = tp;
	rg->bytes = base;
	rg->length_bytes = length_bytes;
	rg->lend = lend;
	*ret_region = (struct tp_region *)(void *)rg;
	return 0;
}

static int
net_region_release(struct tp_region *region)
{
	struct net_region *rg = (struct net_region *)(void *)region;

	if (rg->n_grants > 0)
		return -EBUSY;
	free(rg);
	return 0;
}

static void
grant_cb(struct sim_event *ev)
{
	struct net_grant *g = container_of(ev, struct net_grant, ev);
	struct host *h = g->conn->host;
	const bool was_revoked = g->is_revoking;

	g->is_exposed = !was_revoked;
	/* The memory may be used again from inside the callback. */
	g->region->n_grants -= was_revoked;
	guard_enter();
	g->fn(g->arg, (struct tp_grant *)(void *)g, 0);
	guard_leave();
	if (was_revoked) {
		list_del(&g->node);
		free(g);
	}
	host_touch(h);
}

static int
net_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *fn, void *arg,
	      struct tp_grant **ret_grant)
{
	struct net_conn *c = conn_of(conn);
	struct net_region *rg = (struct net_region *)(void *)region;
	struct net_grant *g;

	assert(rg->lend != TP_LEND_NOT && !c->is_client);
	if (c->is_closed || !c->is_ready)
		return -ENOTCONN;
	g = guard_alloc(sizeof(*g));
	g->base.tp = c->base.tp;
	g->ev.fire = grant_cb;
	g->conn = c;
	g->region = rg;
	g->remote.rkey = ++net_of(c)->serial;
	g->remote.addr = (uint64_t)g->remote.rkey << 31;
	g->remote.length_bytes = rg->length_bytes;
	g->fn = fn;
	g->arg = arg;
	rg->n_grants++;
	list_add_tail(&c->grants, &g->node);
	*ret_grant = (struct tp_grant *)(void *)g;
	if (!c->is_ending)
		after(c->host->world, &g->ev, 0, GRANT_MAX_NS);
	return 0;
}

static void
net_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	*ret_remote = ((const struct net_grant *)(const void *)grant)->remote;
}

static void
net_revoke(struct tp_grant *grant, tp_grant_fn *fn, void *arg)
{
	struct net_grant *g = (struct net_grant *)(void *)grant;

	assert(g->is_exposed && !g->is_revoking);
	g->is_revoking = true;
	g->fn = fn;
	g->arg = arg;
	if (!g->conn->is_ending)
		after(g->conn->host->world, &g->ev, 0, GRANT_MAX_NS);
}

static void
net_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	(void)listener;
	(void)snprintf(buf, size, "sim:0");
}

static const struct tp_ops net_tp_ops = {
	.name = "sim",
	.connect = net_connect,
	.listen = net_listen,
	.listener_address = net_listener_address,
	.accept = net_accept,
	.close = net_close,
	.conn_name = net_conn_name,
	.send = net_send,
	.post = net_post,
	.region_register = net_region_register,
	.region_release = net_region_release,
	.grant = net_grant_new,
	.grant_remote = net_grant_remote,
	.revoke = net_revoke,
};

void
net_init(struct net *n)
{
	*n = (struct net){0};
	list_init(&n->free_ops);
}

void
host_init(struct host *h, struct world *w, uint32_t machine, uint64_t (*turn)(struct host *h))
{
	*h = (struct host){.tp.ops = &net_tp_ops, .world = w, .machine = machine, .turn = turn};
	h->wake_ev.fire = wake_cb;
}
