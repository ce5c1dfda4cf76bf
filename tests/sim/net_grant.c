/* SPDX-License-Identifier: MIT */
/* Regions, and the grants through which a peer reaches them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/net.h"
#include "sim/world.h"

static void
grant_unlink(struct sim_grant *g)
{
	assert(g->region->n_grants > 0);
	g->region->n_grants--;
	sim_clock_cancel(&g->conn->tp->net->sim->clock, &g->ev);
	list_del(&g->node);
}

void
sim_grants_drop(struct sim_conn *c)
{
	struct list *pos, *tmp;

	list_foreach_safe (pos, tmp, &c->grants) {
		struct sim_grant *g = container_of(pos, struct sim_grant, node);

		grant_unlink(g);
		free(g);
	}
}

/* granted() and revoked() of an ending connection run or not. */
void
sim_grants_end(struct sim_conn *c)
{
	struct sim *sim = c->tp->net->sim;
	struct list *pos;

	list_foreach (pos, &c->grants) {
		struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (g->is_waiting && rng_percent(&sim->rng, 50)) {
			g->is_waiting = false;
			sim_clock_cancel(&sim->clock, &g->ev);
		}
	}
}

struct sim_grant *
sim_net_grant_at(const struct sim_conn *end, uint32_t rkey, uint64_t addr, uint64_t length_bytes)
{
	struct list *pos;

	list_foreach (pos, &end->grants) {
		struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (g->is_exposed && g->remote.rkey == rkey && addr >= g->remote.addr &&
		    length_bytes <= g->remote.length_bytes &&
		    addr - g->remote.addr <= g->remote.length_bytes - length_bytes)
			return g;
	}
	return NULL;
}

static void
granted(struct sim_grant *g)
{
	struct sim_net *net = g->conn->tp->net;
	struct sim *sim = net->sim;
	const uint32_t host = g->conn->tp->host->index;
	int status = 0;

	if (net->fail_grants[host] > 0) {
		net->fail_grants[host]--;
		sim->counts[FAULT_GRANT_FAILS]++;
		status = -EIO;
	}
	g->is_exposed = status == 0;
	/* Nobody ever reached it: the memory may be used again from inside the callback. */
	if (status < 0)
		grant_unlink(g);
	guard_enter();
	g->fn(g->arg, (struct tp_grant *)(void *)g, status);
	guard_leave();
	if (status < 0)
		free(g);
}

static void
revoked(struct sim_grant *g)
{
	struct sim_conn *c = g->conn;
	struct sim_net *net = c->tp->net;
	tp_grant_fn *fn = g->fn;
	void *arg = g->arg;

	if (net->fail_revokes[c->tp->host->index] > 0) {
		net->fail_revokes[c->tp->host->index]--;
		net->sim->counts[FAULT_REVOKE_FAILS]++;
		sim_conn_end(c, -EIO);
		guard_enter();
		fn(arg, (struct tp_grant *)(void *)g, -EIO);
		guard_leave();
		return;
	}
	g->is_exposed = false;
	grant_unlink(g);
	guard_enter();
	fn(arg, (struct tp_grant *)(void *)g, 0);
	guard_leave();
	free(g);
}

static void
grant_cb(struct sim_event *ev)
{
	struct sim_grant *g = container_of(ev, struct sim_grant, ev);
	struct sim_conn *c = g->conn;

	if (sim_host_is_late(c->tp->host, ev))
		return;
	g->is_waiting = false;
	if (g->is_revoking)
		revoked(g);
	else
		granted(g);
	sim_host_touch(c->tp->host);
	sim_conn_down_if_idle(c);
}

static void
wait(struct sim_grant *g, tp_grant_fn *fn, void *arg)
{
	struct sim *sim = g->conn->tp->net->sim;

	const uint32_t host = g->conn->tp->host->index;
	uint64_t ns = rng_between(&sim->rng, 0, 2 * sim->plan.net_ns);

	g->fn = fn;
	g->arg = arg;
	if (g->conn->is_ending && rng_percent(&sim->rng, 50))
		return;
	g->is_waiting = true;
	sim_clock_cancel(&sim->clock, &g->conn->step_ev); /* down() waits for it */
	if (!g->is_revoking && g->conn->tp->net->slow_grants_ns[host] > sim_now(sim)) {
		sim->counts[FAULT_GRANT_SLOW]++;
		ns += rng_between(&sim->rng, 3, 10) * sim->plan.op_timeout_ns;
	}
	sim_clock_at(&sim->clock, &g->ev, sim_now(sim) + ns);
}

int
sim_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *fn, void *arg,
	  struct tp_grant **ret_grant)
{
	struct sim_conn *c = sim_conn_of(conn);
	struct sim_region *rg = (struct sim_region *)(void *)region;
	struct sim_net *net = c->tp->net;
	struct sim_grant *g;

	assert(rg->base.tp == c->base.tp && fn && !c->is_client);
	if (!rg->lend)
		return -EINVAL;
	if (c->is_closed || !c->is_ready)
		return -ENOTCONN;
	if (net->refuse_grants_ns[c->tp->host->index] > sim_now(net->sim)) {
		net->sim->counts[FAULT_GRANT]++;
		return -ENOMEM;
	}
	oracle_grant(net->sim, rg);
	g = guard_alloc(sizeof(*g));
	g->base.tp = c->base.tp;
	g->ev.fire = grant_cb;
	g->conn = c;
	g->region = rg;
	g->remote.rkey = ++net->serial;
	g->remote.addr = (uint64_t)g->remote.rkey << 40;
	g->remote.length_bytes = rg->length_bytes;
	rg->n_grants++;
	list_add_tail(&c->grants, &g->node);
	*ret_grant = (struct tp_grant *)(void *)g;
	wait(g, fn, arg);
	return 0;
}

void
sim_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	const struct sim_grant *g = (const struct sim_grant *)(const void *)grant;

	assert(g->is_exposed);
	*ret_remote = g->remote;
}

void
sim_revoke(struct tp_grant *grant, tp_grant_fn *fn, void *arg)
{
	struct sim_grant *g = (struct sim_grant *)(void *)grant;

	assert(g->is_exposed && !g->is_revoking && fn);
	oracle_revoked(g->conn->tp->net->sim, g->conn, g);
	g->is_revoking = true;
	wait(g, fn, arg);
}

int
sim_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		    struct tp_region **ret_region)
{
	struct sim_tp *t = container_of(tp, struct sim_tp, tp);
	struct sim_region *rg = guard_alloc(sizeof(*rg));

	assert(base && length_bytes > 0);
	rg->base.tp = tp;
	rg->bytes = base;
	rg->length_bytes = length_bytes;
	rg->lend = lend;
	t->n_regions++;
	*ret_region = (struct tp_region *)(void *)rg;
	return 0;
}

int
sim_region_release(struct tp_region *region)
{
	struct sim_region *rg = (struct sim_region *)(void *)region;

	if (rg->n_ops > 0)
		sim_fail(DEVICE_3, "memory was released with operations on it under way");
	if (rg->n_grants > 0)
		return -EBUSY;
	container_of(rg->base.tp, struct sim_tp, tp)->n_regions--;
	free(rg);
	return 0;
}
