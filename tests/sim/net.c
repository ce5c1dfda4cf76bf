/* SPDX-License-Identifier: MIT */
/* The net as a whole: links, hosts that vanish, and the table of transport.h. */
#include "sim/net.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/net_conn.h"
#include "sim/world.h"

#define list_conns(pos, tmp, net) list_foreach_safe (pos, tmp, &(net)->conns)

uint64_t
sim_net_delay(struct sim_net *net, uint32_t from, uint32_t to)
{
	struct sim *sim = net->sim;
	const struct sim_link *l = &net->links[from][to];
	uint64_t ns = rng_between(&sim->rng, sim->plan.net_ns / 4, sim->plan.net_ns);

	if (l->extra_ns > 0) {
		ns += rng_between(&sim->rng, l->stuck_ns, l->stuck_ns + l->extra_ns);
		sim->counts[l->stuck_ns > 0 ? FAULT_NET_STUCK : FAULT_NET_SLOW]++;
	}
	return ns;
}

bool
sim_conn_hears_nothing(const struct sim_conn *c)
{
	return c->tp->net->links[c->target][c->tp->host->index].n_blocks > 0;
}

bool
sim_conn_is_unheard(const struct sim_conn *c)
{
	return c->tp->net->links[c->tp->host->index][c->target].n_blocks > 0;
}

static void
detect_from_now(struct sim_conn *c)
{
	struct sim *sim = c->tp->net->sim;

	if (!sim_event_is_queued(&c->detect_ev))
		sim_clock_at(&sim->clock, &c->detect_ev,
			     sim_now(sim) + rng_between(&sim->rng, NSEC_PER_SEC, 8 * NSEC_PER_SEC));
}

void
sim_net_block(struct sim_net *net, uint32_t from, uint32_t to)
{
	struct list *pos;

	net->links[from][to].n_blocks++;
	list_foreach (pos, &net->conns) {
		struct sim_conn *c = container_of(pos, struct sim_conn, node);
		const uint32_t here = c->tp->host->index;
		const uint32_t there = c->target;

		if ((here == from && there == to) || (here == to && there == from))
			detect_from_now(c);
	}
}

void
sim_net_unblock(struct sim_net *net, uint32_t from, uint32_t to)
{
	struct list *pos, *tmp;

	assert(net->links[from][to].n_blocks > 0);
	if (--net->links[from][to].n_blocks > 0)
		return;
	list_conns(pos, tmp, net)
	{
		struct sim_conn *c = container_of(pos, struct sim_conn, node);

		sim_conn_unstall(c);
		sim_ops_unstall(c);
	}
}

uint32_t
sim_net_cut(struct sim_net *net, uint32_t a, uint32_t b)
{
	struct list *pos, *tmp;
	uint32_t n = 0;

	list_conns(pos, tmp, net)
	{
		struct sim_conn *c = container_of(pos, struct sim_conn, node);

		if (c->tp->host->index != a || c->target != b || !c->peer)
			continue;
		sim_conn_end(c, -ECONNRESET);
		sim_conn_end(c->peer, -ECONNRESET);
		n++;
	}
	return n;
}

struct sim_conn *
sim_net_find(struct sim_net *net, uint32_t device, uint32_t daemon)
{
	struct list *pos;

	list_foreach (pos, &net->conns) {
		struct sim_conn *c = container_of(pos, struct sim_conn, node);

		if (c->is_client && c->tp->host->index == device && c->target == daemon &&
		    !c->is_ending && !c->is_closed)
			return c;
	}
	return NULL;
}

static void
drop_conns(struct sim_net *net, struct sim_host *host, bool is_told, bool with_down)
{
	struct list *pos, *tmp;

	list_conns(pos, tmp, net)
	{
		struct sim_conn *c = container_of(pos, struct sim_conn, node);

		if (c->tp->host != host)
			continue;
		sim_conn_vanish(c, is_told);
		if (with_down) {
			c->is_closed = true;
			c->is_ending = true;
			sim_grants_drop(c);
			c->events->down(c->arg, -ECONNRESET);
		}
		sim_conn_free(c);
	}
}

void
sim_net_drop_host(struct sim_net *net, struct sim_host *host, bool is_told)
{
	drop_conns(net, host, is_told, false);
}

void
sim_net_down_host(struct sim_net *net, struct sim_host *host, bool is_told)
{
	drop_conns(net, host, is_told, true);
}

void
sim_net_reset(struct sim_net *net, struct sim *sim)
{
	memset(net, 0, sizeof(*net));
	net->sim = sim;
	list_init(&net->conns);
	list_init(&net->late_writes);
}

void
sim_net_clear(struct sim_net *net)
{
	sim_late_drop_all(net, NULL);
	assert(list_is_empty(&net->conns));
}

struct sim_host *
sim_conn_host(const struct tp_conn *conn)
{
	return sim_conn_of(conn)->tp->host;
}

static void
sim_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	(void)listener;
	(void)snprintf(buf, size, "sim:0");
}

static int
sim_listen(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
	   struct tp_listener **ret_listener)
{
	struct sim_tp *t = container_of(tp, struct sim_tp, tp);

	(void)address;
	assert(!t->is_listening);
	t->is_listening = true;
	t->incoming = incoming;
	t->incoming_arg = arg;
	t->listener.tp = tp;
	*ret_listener = (struct tp_listener *)(void *)&t->listener;
	return 0;
}

static void
sim_listener_close(struct tp_listener *listener)
{
	container_of(listener, struct sim_tp, listener)->is_listening = false;
}

/* The simulator ends transports by itself. */
static void
sim_shutdown(struct tp *tp, void (*done)(void *arg), void *arg)
{
	(void)tp;
	(void)done;
	(void)arg;
	sim_fail(CONTRACT, "a core shut its transport down");
}

static const struct tp_ops sim_tp_ops = {
	.name = "sim",
	.connect = sim_connect,
	.listen = sim_listen,
	.listener_address = sim_listener_address,
	.listener_close = sim_listener_close,
	.accept = sim_accept,
	.close = sim_close,
	.conn_name = sim_conn_name,
	.send = sim_send,
	.post = sim_post,
	.region_register = sim_region_register,
	.region_release = sim_region_release,
	.grant = sim_grant,
	.grant_remote = sim_grant_remote,
	.revoke = sim_revoke,
	.shutdown = sim_shutdown,
	.free = sim_tp_free,
};

struct tp *
sim_tp_new(struct sim_net *net, struct sim_host *host)
{
	struct sim_tp *t = guard_alloc(sizeof(*t));

	t->tp.ops = &sim_tp_ops;
	t->net = net;
	t->host = host;
	return &t->tp;
}

void
sim_tp_free(struct tp *tp)
{
	struct sim_tp *t = container_of(tp, struct sim_tp, tp);

	assert(t->n_regions == 0);
	free(t);
}
