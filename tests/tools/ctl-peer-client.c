/* SPDX-License-Identifier: MIT */
/*
 * A client of slabswapd without a device.
 *
 * A round: wait until the daemon has all its slabs ready, so that it does nothing else;
 * PING, MAP, PING, MAP, ... ; then UNMAP of each, one after the other.
 */
#include "ctl-peer.h"

#include <string.h>

#include "common/page.h"

#define CONNECT_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define QUERY_INTERVAL_S 0.001
#define REQUEST_ID 1u

struct client {
	struct peer *peer;
	ev_timer query_timer;
	uint32_t slab;
	uint32_t round;
};

static void
ask(struct client *c, enum ctl_type type)
{
	struct ctl_msg msg = {.type = type, .request_id = REQUEST_ID};

	if (type == CTL_MAP)
		msg.u.map = (struct ctl_map){.slab = c->slab, .generation = c->round + 1};
	if (type == CTL_UNMAP)
		msg.u.unmap = (struct ctl_unmap){.slab = c->slab, .generation = c->round + 1};
	peer_send_timed(c->peer, &msg);
}

static void
query_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	ask(w->data, CTL_QUERY_MEM);
}

static void
query_later(struct client *c)
{
	ev_timer_set(&c->query_timer, QUERY_INTERVAL_S, 0.0);
	ev_timer_start(c->peer->loop, &c->query_timer);
}

static void
unmapped(struct client *c)
{
	peer_print_time(c->peer, "unmap");
	if (++c->slab < c->peer->config.n_slabs) {
		ask(c, CTL_UNMAP);
		return;
	}
	c->slab = 0;
	if (++c->round < c->peer->config.n_rounds) {
		query_later(c);
		return;
	}
	c->peer->is_over = true;
	tp_close(c->peer->conn);
}

static void
mapped(struct client *c)
{
	peer_print_time(c->peer, "map");
	if (++c->slab < c->peer->config.n_slabs) {
		ask(c, CTL_PING);
		return;
	}
	c->slab = 0;
	ask(c, CTL_UNMAP);
}

static void
free_mem(struct client *c, const struct ctl_msg *msg)
{
	if (msg->request_id == 0)
		return;
	if (msg->u.free_mem.free_slabs < c->peer->config.n_slabs)
		query_later(c);
	else
		ask(c, CTL_PING);
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct client *c = arg;
	struct ctl_msg msg;

	peer_decode(bytes, length_bytes, &msg);
	switch (msg.type) {
	case CTL_WELCOME:
		ask(c, CTL_QUERY_MEM);
		break;
	case CTL_FREE_MEM:
		free_mem(c, &msg);
		break;
	case CTL_PONG:
		peer_print_time(c->peer, "ping");
		ask(c, CTL_MAP);
		break;
	case CTL_MR_INFO:
		mapped(c);
		break;
	case CTL_UNMAPPED:
		unmapped(c);
		break;
	case CTL_REFUSED:
		peer_fail("refused: %s", msg.u.refused.text);
	default:
		peer_fail("%s was not expected", ctl_type_name(msg.type));
	}
}

static void
up_cb(void *arg)
{
	const struct client *c = arg;
	struct ctl_msg msg = {.type = CTL_HELLO, .request_id = REQUEST_ID};

	memcpy(msg.u.hello.device, "ctl-peer", sizeof("ctl-peer"));
	msg.u.hello.slab_bytes = c->peer->config.slab_bytes;
	peer_send(c->peer, &msg);
}

static void
down_cb(void *arg, int reason)
{
	const struct client *c = arg;

	if (!c->peer->is_over)
		peer_fail("the connection ended: %s", strerror(-reason));
	ev_break(c->peer->loop, EVBREAK_ALL);
}

static const struct tp_conn_events client_events = {
	.up = up_cb,
	.message = message_cb,
	.down = down_cb,
};

void
run_client(struct peer *p)
{
	struct client c = {.peer = p};
	int r;

	ev_init(&c.query_timer, query_cb);
	c.query_timer.data = &c;
	r = tp_connect(p->tp, p->config.address, CONNECT_TIMEOUT_NS, &client_events, &c, &p->conn);
	if (r < 0)
		peer_fail("cannot connect to %s: %s", p->config.address, strerror(-r));
	(void)ev_run(p->loop, 0);
}
