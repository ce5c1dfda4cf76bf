/* SPDX-License-Identifier: MIT */
/* One-sided operations, and the regions and grants through which they reach memory. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "sim/guard.h"
#include "world.h"

#define BYTES_PER_US 5000u
/* Binding a memory window. */
#define GRANT_MAX_NS 10000u

static void
grant_free(struct net_grant *g)
{
	assert(g->region->n_grants > 0);
	g->region->n_grants--;
	sim_clock_cancel(&g->conn->host->world->clock, &g->ev);
	list_del(&g->node);
	free(g);
}

void
memory_grants_drop(struct net_conn *c)
{
	while (!list_is_empty(&c->grants))
		grant_free(container_of(c->grants.next, struct net_grant, node));
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
	list_add_head(&c->host->world->net.free_ops, &o->node);
	if (status == -EACCES) {
		c->host->world->net.n_failed_ops++;
		conn_end(c, status);
	}
	guard_enter();
	op->done(op, status);
	guard_leave();
	conn_down_if_idle(c);
	host_touch(h);
}

void
memory_post(struct tp_conn *conn, struct tp_op *op)
{
	struct net_conn *c = conn_of(conn);
	struct net *n = &c->host->world->net;
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
	net_after(w, &o->ev, 2 * NET_WAY_MIN_NS + bytes_ns, 2 * NET_WAY_MAX_NS + bytes_ns);
}

/* --- regions and grants --- */

int
memory_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
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

int
memory_release(struct tp_region *region)
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

int
memory_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *fn, void *arg,
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
	g->remote.rkey = ++c->host->world->net.serial;
	g->remote.addr = (uint64_t)g->remote.rkey << 31;
	g->remote.length_bytes = rg->length_bytes;
	g->fn = fn;
	g->arg = arg;
	rg->n_grants++;
	list_add_tail(&c->grants, &g->node);
	*ret_grant = (struct tp_grant *)(void *)g;
	if (!c->is_ending)
		net_after(c->host->world, &g->ev, 0, GRANT_MAX_NS);
	return 0;
}

void
memory_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	*ret_remote = ((const struct net_grant *)(const void *)grant)->remote;
}

void
memory_revoke(struct tp_grant *grant, tp_grant_fn *fn, void *arg)
{
	struct net_grant *g = (struct net_grant *)(void *)grant;

	assert(g->is_exposed && !g->is_revoking);
	g->is_revoking = true;
	g->fn = fn;
	g->arg = arg;
	if (!g->conn->is_ending)
		net_after(g->conn->host->world, &g->ev, 0, GRANT_MAX_NS);
}
