/* SPDX-License-Identifier: MIT */
/* The queue of steps: what may run, and running it. */
#include "lib/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN_STEPS_MAX 1000000u

void *
fake_alloc(size_t bytes)
{
	void *p = calloc(1, bytes);

	assert(p);
	return p;
}

uint32_t
fake_net_random(struct fake_net *net, uint32_t bound)
{
	net->rng ^= net->rng << 13;
	net->rng ^= net->rng >> 7;
	net->rng ^= net->rng << 17;
	return (uint32_t)(net->rng >> 32) % bound;
}

/* True half of the time in an unkind world, else never. */
bool
fake_coin(struct fake_net *net)
{
	return net->random && fake_net_random(net, 2) == 1;
}

struct step *
fake_step_new(struct fake_net *net, enum fake_kind kind, struct fake_conn *conn, size_t bytes)
{
	struct step *s = fake_alloc(sizeof(*s) + bytes);

	s->kind = kind;
	s->conn = conn;
	s->length_bytes = bytes;
	list_add_tail(&net->steps, &s->node);
	return s;
}

void
fake_step_free(struct step *s)
{
	list_del(&s->node);
	free(s);
}

unsigned
fake_net_pending(const struct fake_net *net, enum fake_kind kind, const struct tp_conn *conn)
{
	const struct list *n;
	unsigned count = 0;

	list_foreach (n, &net->steps) {
		const struct step *s = container_of((struct list *)(uintptr_t)n, struct step, node);

		if (s->kind == kind && (!conn || (const void *)s->conn == (const void *)conn))
			count++;
	}
	return count;
}

static bool
is_last_of_its_end(struct fake_net *net, const struct step *down)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		const struct step *s = step_of(n);

		if (s != down && s->conn == down->conn && s->kind != FAKE_LATE_WRITE)
			return false;
	}
	return true;
}

static bool
is_next_message(struct fake_net *net, const struct step *message)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		const struct step *s = step_of(n);

		if (s->kind == FAKE_MESSAGE && s->conn == message->conn)
			return s == message;
	}
	return false;
}

/* What the contract allows to happen now; holding is the test's wish, not the contract's. */
static bool
step_may_run(struct fake_net *net, const struct step *s)
{
	switch (s->kind) {
	case FAKE_MESSAGE:
		return s->conn->ready && !s->conn->deaf && is_next_message(net, s);
	case FAKE_DOWN:
		return is_last_of_its_end(net, s);
	case FAKE_SHUTDOWN:
		return list_is_empty(&s->tp->conns);
	default:
		return true;
	}
}

int
fake_take_failure(struct fake_net *net, enum fake_kind kind)
{
	int status;

	if (net->fails_count[kind] == 0)
		return 0;
	status = net->fails[kind][net->fails_head[kind]];
	net->fails_head[kind] = (net->fails_head[kind] + 1) % FAILS_MAX;
	net->fails_count[kind]--;
	return status;
}

void
fake_net_fail(struct fake_net *net, enum fake_kind kind, int status)
{
	assert(kind == FAKE_OP || kind == FAKE_GRANTED || kind == FAKE_REVOKED || kind == FAKE_UP);
	assert(net->fails_count[kind] < FAILS_MAX);
	net->fails[kind][(net->fails_head[kind] + net->fails_count[kind]) % FAILS_MAX] = status;
	net->fails_count[kind]++;
}

void
fake_net_hold(struct fake_net *net, enum fake_kind kind, bool hold)
{
	net->hold[kind] = hold;
}

static void
run_incoming(struct fake_net *net, struct fake_conn *c)
{
	struct fake_listener *l = c->listener;

	l->incoming(l->arg, conn_public(c));
	assert(c->ready != c->refused);
	c->listener = NULL;
	if (c->ready) {
		fake_step_new(net, FAKE_UP, c->peer, 0);
		return;
	}
	fake_conn_end(c->peer, -ECONNREFUSED);
	fake_conn_free(c);
}

static void
run_up(struct fake_net *net, struct fake_conn *c)
{
	int status = fake_take_failure(net, FAKE_UP);

	if (status) {
		fake_net_cut(conn_public(c), status);
		return;
	}
	c->ready = true;
	c->events->up(c->arg);
}

static void
run_granted(struct fake_net *net, struct fake_grant *g, tp_grant_fn *fn, void *arg)
{
	int status = fake_take_failure(net, FAKE_GRANTED);

	g->exposed = status == 0;
	fn(arg, (struct tp_grant *)(void *)g, status);
	if (status)
		fake_grant_free(g);
}

static void
run_revoked(struct fake_net *net, struct fake_grant *g, tp_grant_fn *fn, void *arg)
{
	int status = fake_take_failure(net, FAKE_REVOKED);

	if (status) {
		fake_net_cut(conn_public(g->conn), status);
		fn(arg, (struct tp_grant *)(void *)g, status);
		return;
	}
	g->exposed = false;
	g->region->grants--;
	list_del(&g->node);
	fn(arg, (struct tp_grant *)(void *)g, 0);
	free(g);
}

static void
run_down(struct fake_conn *c, int reason)
{
	struct list *n, *tmp;

	list_foreach_safe (n, tmp, &c->grants) {
		fake_grant_free(container_of(n, struct fake_grant, node));
	}
	c->closed = true;
	c->events->down(c->arg, reason);
	fake_conn_free(c);
}

static void
run_late_write(struct step *s)
{
	uint8_t *remote =
		fake_granted_memory(s->conn, TP_OP_WRITE, s->rkey, s->remote_addr, s->length_bytes);

	if (remote)
		memcpy(remote, s->bytes, s->length_bytes);
	fake_step_free(s);
}

static void
step_run(struct fake_net *net, struct step *s)
{
	struct step copy = *s;

	switch (s->kind) {
	case FAKE_OP:
		fake_run_op(net, s);
		return;
	case FAKE_LATE_WRITE:
		run_late_write(s);
		return;
	case FAKE_MESSAGE:
		/* Off the queue first: the callee may send, and see the room. */
		list_del(&s->node);
		s->conn->events->message(s->conn->arg, s->bytes, s->length_bytes);
		free(s);
		return;
	default:
		break;
	}
	fake_step_free(s);
	if (copy.kind == FAKE_INCOMING)
		run_incoming(net, copy.conn);
	else if (copy.kind == FAKE_UP)
		run_up(net, copy.conn);
	else if (copy.kind == FAKE_GRANTED)
		run_granted(net, copy.grant, copy.grant_fn, copy.arg);
	else if (copy.kind == FAKE_REVOKED)
		run_revoked(net, copy.grant, copy.grant_fn, copy.arg);
	else if (copy.kind == FAKE_DOWN)
		run_down(copy.conn, copy.reason);
	else
		copy.shutdown_done(copy.arg);
}

bool
fake_net_step(struct fake_net *net)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		struct step *s = step_of(n);

		if (!net->hold[s->kind] && step_may_run(net, s)) {
			step_run(net, s);
			return true;
		}
	}
	return false;
}

bool
fake_net_step_random(struct fake_net *net)
{
	struct list *n;
	struct step *chosen = NULL;
	uint32_t seen = 0;

	list_foreach (n, &net->steps) {
		struct step *s = step_of(n);

		if (!net->hold[s->kind] && step_may_run(net, s) &&
		    fake_net_random(net, ++seen) == 0)
			chosen = s;
	}
	if (chosen)
		step_run(net, chosen);
	return chosen != NULL;
}

bool
fake_net_step_kind(struct fake_net *net, enum fake_kind kind, const struct tp_conn *conn)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		struct step *s = step_of(n);

		if (s->kind == kind && (!conn || (const void *)s->conn == (const void *)conn) &&
		    step_may_run(net, s)) {
			step_run(net, s);
			return true;
		}
	}
	return false;
}

bool
fake_net_step_op(struct fake_net *net, const struct tp_op *op)
{
	struct list *n;

	list_foreach (n, &net->steps) {
		if (step_of(n)->op == op) {
			step_run(net, step_of(n));
			return true;
		}
	}
	return false;
}

unsigned
fake_net_run(struct fake_net *net)
{
	unsigned steps = 0;

	while (fake_net_step(net)) {
		steps++;
		assert(steps < RUN_STEPS_MAX);
	}
	return steps;
}

struct fake_net *
fake_net_new(uint64_t seed)
{
	struct fake_net *net = fake_alloc(sizeof(*net));

	list_init(&net->steps);
	list_init(&net->tps);
	net->random = seed != 0;
	net->rng = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	return net;
}

struct fake_net *
fake_net_free(struct fake_net *net)
{
	assert(list_is_empty(&net->tps) && list_is_empty(&net->steps));
	free(net);
	return NULL;
}
