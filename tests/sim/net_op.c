/* SPDX-License-Identifier: MIT */
/* One-sided operations: on their way, carried out, on their way back; and what ends them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/net.h"
#include "sim/sum.h"
#include "sim/world.h"

/* A WRITE that reaches memory after its done(). */
struct late {
	struct sim_event ev;
	struct list node;
	struct sim_conn *to;
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t length_bytes;
	uint8_t bytes[];
};

static struct sim *
sim_of(const struct sim_conn *c)
{
	return c->tp->net->sim;
}

static struct sim_region *
region_of(const struct tp_op *op)
{
	return (struct sim_region *)(void *)op->region;
}

static void
late_free(struct sim_net *net, struct late *l)
{
	sim_clock_cancel(&net->sim->clock, &l->ev);
	list_del(&l->node);
	free(l);
}

void
sim_late_drop_all(struct sim_net *net, const struct sim_conn *to)
{
	struct list *pos, *tmp;

	list_foreach_safe (pos, tmp, &net->late_writes) {
		struct late *l = container_of(pos, struct late, node);

		if (!to || l->to == to)
			late_free(net, l);
	}
}

static void
remote_write(struct sim *sim, struct sim_grant *g, uint64_t addr, const void *bytes,
	     uint32_t length_bytes)
{
	const uint64_t at = addr - g->remote.addr;

	memcpy(g->region->bytes + at, bytes, length_bytes);
	sim_memory_written(g->region->slot, at, length_bytes);
	oracle_remote_written(sim, g, at, length_bytes);
}

static void
late_cb(struct sim_event *ev)
{
	struct late *l = container_of(ev, struct late, ev);
	struct sim_net *net = l->to->tp->net;
	struct sim_grant *g = sim_net_grant_at(l->to, l->rkey, l->remote_addr, l->length_bytes);

	if (g && g->region->lend != TP_LEND_READ)
		remote_write(net->sim, g, l->remote_addr, l->bytes, l->length_bytes);
	late_free(net, l);
}

static void
late_new(struct sim_conn *to, const struct tp_op *op)
{
	struct sim *sim = sim_of(to);
	struct late *l = guard_alloc(sizeof(*l) + op->length_bytes);

	l->ev.fire = late_cb;
	l->to = to;
	l->remote_addr = op->remote_addr;
	l->rkey = op->rkey;
	l->length_bytes = op->length_bytes;
	memcpy(l->bytes, op->buf, op->length_bytes);
	list_add_tail(&to->tp->net->late_writes, &l->node);
	sim_clock_at(&sim->clock, &l->ev,
		     sim_now(sim) + rng_between(&sim->rng, 0, 40 * sim->plan.net_ns));
}

/* Moves the bytes; false: the other end does not let it. */
static bool
carry_out(struct sim_conn *c, const struct tp_op *op)
{
	struct sim_grant *g =
		c->peer ? sim_net_grant_at(c->peer, op->rkey, op->remote_addr, op->length_bytes)
			: NULL;

	if (!g || (op->kind == TP_OP_WRITE && g->region->lend == TP_LEND_READ))
		return false;
	oracle_remote_access(sim_of(c), c, g);
	if (op->kind == TP_OP_WRITE)
		remote_write(sim_of(c), g, op->remote_addr, op->buf, op->length_bytes);
	else
		memcpy(op->buf, g->region->bytes + (op->remote_addr - g->remote.addr),
		       op->length_bytes);
	return true;
}

/* What an unkind network may do with an op that does not succeed. */
static void
misbehave(struct sim_conn *c, const struct tp_op *op)
{
	struct rng *r = &sim_of(c)->rng;

	if (rng_percent(r, 50))
		(void)carry_out(c, op);
	else if (op->kind == TP_OP_READ && rng_percent(r, 50))
		memset(op->buf, 0xdb, op->length_bytes);
	if (op->kind == TP_OP_WRITE && c->peer && rng_percent(r, 50))
		late_new(c->peer, op);
}

static void
done(struct sim_net_op *o)
{
	struct sim_conn *c = o->conn;
	struct sim *sim = sim_of(c);
	struct tp_op *op = o->op;
	const int status = o->status;

	if (op->kind == TP_OP_WRITE && sim_sum(op->buf, op->length_bytes) != o->sum)
		sim_fail(DEVICE_3, "the buffer of a remote WRITE changed while it was under way");
	oracle_op_over(sim, c, o->posted_ns, status);
	list_del(&o->node);
	free(o);
	region_of(op)->n_ops--;
	oracle_buffer_free(sim, c->tp->host, op->buf, op->length_bytes, op->kind == TP_OP_READ);
	if (status < 0 && status != -ECANCELED) {
		if (c->peer)
			sim_conn_end(c->peer, status == -EACCES ? -EACCES : -ECONNRESET);
		sim_conn_end(c, status);
	}
	guard_enter();
	op->done(op, status);
	guard_leave();
	sim_host_touch(c->tp->host);
	sim_conn_down_if_idle(c);
}

static void
going(struct sim_net_op *o)
{
	struct sim_conn *c = o->conn;
	struct sim_net *net = c->tp->net;
	struct sim *sim = net->sim;
	struct sim_host *there = sim_host_at(sim, c->target);

	if (sim_conn_is_unheard(c) || !c->peer) {
		o->is_stalled = true;
		return;
	}
	/* The memory of an rdma daemon is reached whatever its loop does. */
	if (!sim->plan.is_rdma[c->target - SIM_DEVICES_MAX] && sim_host_is_late(there, &o->ev))
		return;
	if (net->fail_ops[c->target] > 0) {
		net->fail_ops[c->target]--;
		sim->counts[FAULT_OP]++;
		o->status = rng_percent(&sim->rng, 50) ? -ETIMEDOUT : -EIO;
		misbehave(c, o->op);
	} else if (!carry_out(c, o->op)) {
		o->status = -EACCES;
	}
	o->step = SIM_OP_COMING;
	sim_clock_at(&sim->clock, &o->ev,
		     sim_now(sim) + sim_net_delay(net, c->target, c->tp->host->index));
}

static void
op_cb(struct sim_event *ev)
{
	struct sim_net_op *o = container_of(ev, struct sim_net_op, ev);
	struct sim_conn *c = o->conn;

	if (o->step == SIM_OP_GOING) {
		going(o);
		return;
	}
	if (o->step == SIM_OP_COMING && sim_conn_hears_nothing(c)) {
		o->is_stalled = true;
		return;
	}
	if (!sim_host_is_late(c->tp->host, ev))
		done(o);
}

void
sim_ops_unstall(struct sim_conn *c)
{
	struct list *pos;

	list_foreach (pos, &c->ops) {
		struct sim_net_op *o = container_of(pos, struct sim_net_op, node);

		if (o->is_stalled)
			sim_clock_at(&sim_of(c)->clock, &o->ev, sim_now(sim_of(c)));
		o->is_stalled = false;
	}
}

/* Until the transport has let go of an op: soon, or so late that the slab is mapped again. */
static uint64_t
ending_ns(struct sim *sim)
{
	const uint32_t ways = rng_percent(&sim->rng, 20) ? SIM_ENDING_WAYS_MAX : 1;

	return rng_between(&sim->rng, 0, ways * sim->plan.net_ns);
}

void
sim_ops_end(struct sim_conn *c)
{
	struct sim *sim = sim_of(c);
	struct list *pos;

	list_foreach (pos, &c->ops) {
		struct sim_net_op *o = container_of(pos, struct sim_net_op, node);

		if (o->step == SIM_OP_GOING) {
			misbehave(c, o->op);
			o->status = -ECANCELED;
		} else if (o->step == SIM_OP_COMING && rng_percent(&sim->rng, 50)) {
			o->status = -ECANCELED;
		}
		o->step = SIM_OP_ENDING;
		o->is_stalled = false;
		sim_clock_at(&sim->clock, &o->ev, sim_now(sim) + ending_ns(sim));
	}
}

void
sim_ops_drop(struct sim_conn *c)
{
	struct list *pos, *tmp;

	list_foreach_safe (pos, tmp, &c->ops) {
		struct sim_net_op *o = container_of(pos, struct sim_net_op, node);

		if (o->step == SIM_OP_GOING)
			misbehave(c, o->op);
		oracle_buffer_free(sim_of(c), c->tp->host, o->op->buf, o->op->length_bytes,
				   o->op->kind == TP_OP_READ);
		region_of(o->op)->n_ops--;
		sim_clock_cancel(&sim_of(c)->clock, &o->ev);
		list_del(&o->node);
		free(o);
	}
}

void
sim_post(struct tp_conn *conn, struct tp_op *op)
{
	struct sim_conn *c = sim_conn_of(conn);
	struct sim_region *rg = region_of(op);
	struct sim_net_op *o;
	struct sim *sim = sim_of(c);

	assert(op->kind == TP_OP_READ || op->kind == TP_OP_WRITE);
	assert(op->length_bytes > 0 && op->length_bytes <= TP_OP_BYTES_MAX && op->done);
	assert(rg->base.tp == c->base.tp);
	assert((uint8_t *)op->buf >= rg->bytes &&
	       (uint8_t *)op->buf + op->length_bytes <= rg->bytes + rg->length_bytes);
	assert(c->is_ready && c->is_client);
	rg->n_ops++;
	op->conn = conn;
	oracle_buffer_use(sim, c->tp->host, op->buf, op->length_bytes, op->kind == TP_OP_READ);
	oracle_post(sim, c, op);
	o = guard_alloc(sizeof(*o));
	o->ev.fire = op_cb;
	o->conn = c;
	o->op = op;
	o->posted_ns = sim_now(sim);
	if (op->kind == TP_OP_WRITE)
		o->sum = sim_sum(op->buf, op->length_bytes);
	list_add_tail(&c->ops, &o->node);
	if (c->is_ending) {
		o->step = SIM_OP_ENDING;
		o->status = -ECANCELED;
		sim_clock_at(&sim->clock, &o->ev,
			     sim_now(sim) + rng_between(&sim->rng, 0, sim->plan.net_ns));
		/* down() waits for it. */
		sim_clock_cancel(&sim->clock, &c->step_ev);
		return;
	}
	o->step = SIM_OP_GOING;
	sim_clock_at(&sim->clock, &o->ev,
		     sim_now(sim) + sim_net_delay(c->tp->net, c->tp->host->index, c->target));
}
