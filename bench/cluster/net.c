/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <stdio.h>
#include <time.h>

#include "common/page.h"
#include "conn.h"
#include "world.h"

/* From an event to the turn of the loop that it wakes. */
#define LAG_MAX_NS 5000u

void
net_after(struct world *w, struct sim_event *ev, uint64_t least_ns, uint64_t most_ns)
{
	sim_clock_at(&w->clock, ev, w->clock.now_ns + rng_between(&w->rng, least_ns, most_ns));
}

void
net_after_way(struct world *w, struct sim_event *ev)
{
	net_after(w, ev, NET_WAY_MIN_NS, NET_WAY_MAX_NS);
}

uint64_t
cpu_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

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
net_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	(void)listener;
	(void)snprintf(buf, size, "sim:0");
}

static const struct tp_ops net_tp_ops = {
	.name = "sim",
	.connect = conn_connect,
	.listen = net_listen,
	.listener_address = net_listener_address,
	.accept = conn_accept,
	.close = conn_close,
	.conn_name = conn_name,
	.send = conn_send,
	.post = memory_post,
	.region_register = memory_register,
	.region_release = memory_release,
	.grant = memory_grant,
	.grant_remote = memory_grant_remote,
	.revoke = memory_revoke,
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
