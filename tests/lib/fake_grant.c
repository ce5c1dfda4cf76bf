/* SPDX-License-Identifier: MIT */
/* Regions, grants, and the ops that move bytes through them. */
#include "lib/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
fake_grant_free(struct fake_grant *g)
{
	assert(g->region->grants > 0);
	g->region->grants--;
	list_del(&g->node);
	free(g);
}

int
fake_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		     struct tp_region **ret_region)
{
	struct fake_tp *t = tp_fake(tp);
	struct fake_region *rg;

	assert(base && length_bytes > 0);
	if (t->refuse_register)
		return t->refuse_register;
	rg = fake_alloc(sizeof(*rg));
	rg->base.tp = tp;
	rg->bytes = base;
	rg->length_bytes = length_bytes;
	rg->lend = lend;
	t->regions++;
	*ret_region = (struct tp_region *)(void *)rg;
	return 0;
}

int
fake_region_release(struct tp_region *region)
{
	struct fake_region *rg = (struct fake_region *)(void *)region;
	struct fake_tp *t = tp_fake(rg->base.tp);

	assert(rg->ops == 0);
	if (rg->grants > 0)
		return -EBUSY;
	if (t->refuse_release)
		return t->refuse_release;
	t->regions--;
	free(rg);
	return 0;
}

bool
fake_region_is_exposed(const struct tp_region *region)
{
	return ((const struct fake_region *)(const void *)region)->grants > 0;
}

int
fake_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	   struct tp_grant **ret_grant)
{
	struct fake_conn *c = conn_of(conn);
	struct fake_region *rg = (struct fake_region *)(void *)region;
	struct fake_grant *g;
	struct step *s;

	assert(rg->base.tp == c->base.tp && granted);
	if (!rg->lend)
		return -EINVAL;
	if (c->closed || !c->ready)
		return -ENOTCONN;
	if (c->tp->refuse_grants)
		return c->tp->refuse_grants;
	g = fake_alloc(sizeof(*g));
	g->base.tp = c->base.tp;
	g->conn = c;
	g->region = rg;
	g->remote.rkey = ++c->tp->net->serial;
	g->remote.addr = (uint64_t)g->remote.rkey << 40;
	g->remote.length_bytes = rg->length_bytes;
	rg->grants++;
	list_add_tail(&c->grants, &g->node);
	*ret_grant = (struct tp_grant *)(void *)g;
	if (c->ending && !fake_coin(c->tp->net))
		return 0;
	s = fake_step_new(c->tp->net, FAKE_GRANTED, c, 0);
	s->grant = g;
	s->grant_fn = granted;
	s->arg = arg;
	return 0;
}

void
fake_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	const struct fake_grant *g = (const struct fake_grant *)(const void *)grant;

	assert(g->exposed);
	*ret_remote = g->remote;
}

void
fake_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg)
{
	struct fake_grant *g = (struct fake_grant *)(void *)grant;
	struct fake_conn *c = g->conn;
	struct step *s;

	assert(g->exposed && !g->revoking && revoked);
	g->revoking = true;
	if (c->ending && !fake_coin(c->tp->net))
		return;
	s = fake_step_new(c->tp->net, FAKE_REVOKED, c, 0);
	s->grant = g;
	s->grant_fn = revoked;
	s->arg = arg;
}

unsigned
fake_conn_grants(const struct tp_conn *conn)
{
	const struct fake_conn *c = (const struct fake_conn *)(const void *)conn;
	struct list *n;
	unsigned count = 0;

	list_foreach (n, &c->grants) {
		count += container_of(n, struct fake_grant, node)->exposed;
	}
	return count;
}

void
fake_tp_refuse_grants(struct tp *tp, int status)
{
	tp_fake(tp)->refuse_grants = status;
}

void
fake_tp_refuse_register(struct tp *tp, int status)
{
	tp_fake(tp)->refuse_register = status;
}

void
fake_tp_refuse_release(struct tp *tp, int status)
{
	tp_fake(tp)->refuse_release = status;
}

static uint64_t
sum_bytes(const void *bytes, size_t length_bytes)
{
	const uint8_t *p = bytes;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length_bytes; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static bool
op_is_posted(struct fake_net *net, const struct tp_op *op)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		if (step_of(n)->op == op)
			return true;
	}
	return false;
}

void
fake_post(struct tp_conn *conn, struct tp_op *op)
{
	struct fake_conn *c = conn_of(conn);
	struct fake_region *rg = (struct fake_region *)(void *)op->region;
	struct step *s;

	assert(op->kind == TP_OP_READ || op->kind == TP_OP_WRITE);
	assert(op->length_bytes > 0 && op->length_bytes <= TP_OP_BYTES_MAX && op->done);
	assert(rg->base.tp == c->base.tp);
	assert((uint8_t *)op->buf >= rg->bytes &&
	       (uint8_t *)op->buf + op->length_bytes <= rg->bytes + rg->length_bytes);
	assert(c->ready && !op_is_posted(c->tp->net, op));
	rg->ops++;
	op->conn = conn;
	s = fake_step_new(c->tp->net, FAKE_OP, c, 0);
	s->op = op;
	s->cancelled = c->closed || c->ending;
	if (op->kind == TP_OP_WRITE)
		s->op_sum = sum_bytes(op->buf, op->length_bytes);
}

/* The memory that @rkey reaches at @end, or NULL: not granted for @kind, revoked, out of range. */
uint8_t *
fake_granted_memory(struct fake_conn *end, enum tp_op_kind kind, uint32_t rkey, uint64_t addr,
		    size_t length_bytes)
{
	struct list *n;

	if (!end)
		return NULL;
	list_foreach (n, &end->grants) {
		struct fake_grant *g = container_of(n, struct fake_grant, node);

		if (g->exposed && g->remote.rkey == rkey && addr >= g->remote.addr &&
		    addr - g->remote.addr <= g->remote.length_bytes - length_bytes &&
		    length_bytes <= g->remote.length_bytes &&
		    (kind == TP_OP_READ || g->region->lend == TP_LEND))
			return g->region->bytes + (addr - g->remote.addr);
	}
	return NULL;
}

static bool
op_move(struct fake_conn *c, const struct tp_op *op)
{
	uint8_t *remote =
		fake_granted_memory(c->peer, op->kind, op->rkey, op->remote_addr, op->length_bytes);

	if (!remote)
		return false;
	if (op->kind == TP_OP_WRITE)
		memcpy(remote, op->buf, op->length_bytes);
	else
		memcpy(op->buf, remote, op->length_bytes);
	return true;
}

/* What an unkind network may do with an op that does not succeed. */
static void
op_misbehave(struct fake_conn *c, const struct tp_op *op)
{
	struct step *late;

	if (fake_coin(c->tp->net))
		(void)op_move(c, op);
	else if (op->kind == TP_OP_READ && fake_coin(c->tp->net))
		memset(op->buf, 0xdb, op->length_bytes);
	if (op->kind == TP_OP_WRITE && c->peer && fake_coin(c->tp->net)) {
		late = fake_step_new(c->tp->net, FAKE_LATE_WRITE, c->peer, op->length_bytes);
		late->remote_addr = op->remote_addr;
		late->rkey = op->rkey;
		memcpy(late->bytes, op->buf, op->length_bytes);
	}
}

void
fake_run_op(struct fake_net *net, struct step *s)
{
	struct fake_conn *c = s->conn;
	struct tp_op *op = s->op;
	int status = s->cancelled ? -ECANCELED : fake_take_failure(net, FAKE_OP);

	assert(op->kind != TP_OP_WRITE || sum_bytes(op->buf, op->length_bytes) == s->op_sum);
	fake_step_free(s);
	if (status == 0 && !op_move(c, op))
		status = -EACCES;
	if (status)
		op_misbehave(c, op);
	((struct fake_region *)(void *)op->region)->ops--;
	if (status && status != -ECANCELED)
		fake_net_cut(conn_public(c), status);
	op->done(op, status);
}
